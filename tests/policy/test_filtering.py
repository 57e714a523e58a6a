from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, NamedTuple

import attrs
import pytest

from pep import Enforcer, acting_as
from pep.audit import MemorySink
from pep.errors import AccessDenied, ObligationError
from pep.frozen import FrozenDict
from pep.model import AccessRequest, Obligation, Resource, Subject
from pep.obligations.paths import Path
from pep.obligations.redact import Redact
from pep.policy import PolicySet, permit
from pep.policy.filtering import Filter
from pep.protocols import Call, Phase
from pep.testing.conformance import check_handler

ALICE = Subject("user", "alice", {"team": "red"})
REQUEST = AccessRequest(ALICE, "list", Resource("document", "all"), {"limit": 3})
MINE = "resource.owner == subject.id"


def call_of(result: Any) -> Call:
    return Call(REQUEST, {}, result, Phase.AFTER)


def filtered(result: Any, where: str = MINE, handler: Filter | None = None, **properties: Any) -> Any:
    obligation = Obligation("filter", {"where": where, **properties})
    return (handler or Filter()).discharge(obligation, call_of(result)).result


@attrs.frozen
class Document:
    id: Any
    owner: str


class Row(NamedTuple):
    id: int
    owner: str


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset])
@pytest.mark.parametrize("make", [Document, Row, lambda key, owner: FrozenDict({"id": key, "owner": owner})])
def test_only_what_the_condition_is_true_of_stays(kind: Any, make: Any) -> None:
    """Items of any shape stay where the condition holds, in their order, the very same; the rest is left out."""
    items = [make(1, "alice"), make(2, "bob"), make(3, "alice")]
    original = kind(items)
    result = filtered(original)
    assert result == kind([items[0], items[2]])
    assert type(result) is kind
    assert original == kind(items)


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ("resource.size <= context.limit", [1, 3]),
        ("resource.id == '1'", [1]),
        ("resource.type == 'document'", [1, 2, 3, 4]),
        ("subject.team in resource.teams", [2]),
        ("resource.meta.public == True", [3]),
        ("not (resource.size > 100)", [1, 2, 3]),
        ("resource.when == 'x' or resource.size == 9", [2]),
    ],
)
def test_what_a_condition_may_speak_of(where: str, ids: list[int]) -> None:
    """An item's fields are the resource's properties; what is unknown of an item leaves it out."""
    items = [
        {"id": 1, "size": 1},
        {"id": 2, "size": 9, "teams": ["red", "blue"], "when": datetime(2026, 1, 1, tzinfo=timezone.utc)},
        {"id": 3, "size": 2, "meta": {"public": True}, "when": object()},
        {"id": 4, "size": "nine"},
    ]
    assert [item["id"] for item in filtered(items, where)] == ids


@pytest.mark.parametrize("item", [None, 7, "alice", b"x", [1], {}, {"owner": None}, {"id": "\ud800", "owner": "alice"}])
def test_what_cannot_be_told_is_left_out(item: Any) -> None:
    """Of an item without the field, or which no policy could be asked about, nothing is true."""
    assert filtered([item, {"owner": "alice"}]) == [{"owner": "alice"}]


def test_an_item_too_large_to_ask_about_is_left_out() -> None:
    """What no policy could be asked about stays nowhere."""
    assert filtered([{"owner": "alice", "text": "x" * 70_000}], "resource.text != ''") == []


def test_items_inside_a_result() -> None:
    """A path leads to what holds the items, or to several of those; what leads there is copied."""
    result = {"pages": [[Row(1, "alice"), Row(2, "bob")], [Row(3, "bob")]], "total": 3}
    assert filtered(result, path="pages.*") == {"pages": [[Row(1, "alice")], []], "total": 3}
    assert len(result["pages"][0]) == 2  # type: ignore[index]


def test_resources_of_items_may_be_made() -> None:
    """A function may say what an item is; what it raises, or gives that is none, fails the obligation."""
    handler = Filter(
        to_resource=lambda item: Resource("document", str(item), {"owner": "alice" if item > 1 else "bob"})
    )
    assert filtered([1, 2, 3], handler=handler) == [2, 3]
    with pytest.raises(TypeError):
        filtered(["x"], handler=handler)
    with pytest.raises(Exception, match="resource"):
        filtered([1], handler=Filter(to_resource=lambda item: item))


def test_conditions_may_speak_of_now() -> None:
    """The moment is read once for all items, from the clock that was given."""
    moments = iter([100.0, 200.0])
    handler = Filter(clock=lambda: next(moments))
    items = [{"until": 50}, {"until": 150}, {"until": 250}]
    assert filtered(items, "now.before(resource.until, skew=0)", handler) == items[1:]
    assert filtered(items, "now.before(resource.until, skew=0)", handler) == items[2:]


def gives() -> Iterator[dict[str, str]]:
    yield {"owner": "alice"}


@pytest.mark.parametrize(
    "result", [gives(), {"owner": "alice"}, iter([1]), "alice", None, range(3), Document(1, "alice")]
)
def test_what_holds_no_items_is_withheld(result: Any) -> None:
    """Only lists, tuples and sets can be filtered; anything else fails."""
    with pytest.raises(ObligationError, match="property `path` of obligation `filter` leads to a `"):
        filtered(result)


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({}, "property `where` of obligation `filter` is missing"),
    *[
        ({"where": where}, "property `where` of obligation `filter` must be a condition")
        for where in ("", "canary", "resource.canary ==", "canary()", 7, None, True, ["x"], "resource.a == canary")
    ],
    *[
        ({"where": MINE, "path": path}, "property `path` of obligation `filter` is no path")
        for path in ("", "canary.", 7, None, [7])
    ],
    ({"where": MINE, "canary": 1}, "obligation `filter` has unknown properties `canary`"),
]


@pytest.mark.parametrize(("properties", "told"), MALFORMED)
def test_malformed_properties_fail(properties: dict[str, Any], told: str) -> None:
    """Malformed properties fail by the obligation's and the property's names, without the text of the condition."""
    with pytest.raises(ObligationError) as caught:
        Filter().discharge(Obligation("filter", properties), call_of([]))
    assert str(caught.value).startswith(told)
    assert properties.get("canary") or "canary" not in str(caught.value)


def test_it_conforms() -> None:
    """It does what every handler must, and says that it moves positions."""
    obligation = Obligation("filter", {"where": MINE, "path": "a"})
    malformed = [Obligation("filter", properties) for properties, _told in MALFORMED]
    check_handler(Filter, obligation=obligation, call=call_of({"a": []}), malformed=malformed)
    assert Filter().writes(obligation, call_of(None)) == (Path.parse("a").positions(),)


def listing(*obligations: Obligation) -> Any:
    policies = PolicySet([permit("all", action="list", obligations=list(obligations))])
    enforcer = Enforcer(policies, audit=MemorySink(), obligations=[Filter(), Redact()])

    @enforcer.guard("list", resource=Resource("document", "all"))
    def rows() -> list[dict[str, Any]]:
        return [{"id": 1, "owner": "bob", "secret": "a"}, {"id": 2, "owner": "alice", "secret": "b"}]

    return rows


def test_filtered_rows_may_be_redacted_too() -> None:
    """Filtering comes first, whatever the order; who redacts every row does not mind, who counts rows does."""
    filtering = Obligation("filter", {"where": MINE})
    with acting_as(ALICE):
        assert listing(Obligation("redact", {"fields": ["*.secret"]}), filtering)() == [
            {"id": 2, "owner": "alice", "secret": "***"}
        ]
        assert listing(filtering, Obligation("filter", {"where": "resource.id != '2'"}))() == []
        with pytest.raises(AccessDenied) as caught:
            listing(Obligation("redact", {"fields": ["0.secret"]}), filtering)()
    assert caught.value.verdict.ran
