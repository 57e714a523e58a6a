"""Routing: who is asked about what, and that batches come back as they went."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep import Decision, Effect, Enforcer, Fault, Subject
from pep.audit import MemorySink
from pep.compose import RoutingPDP
from pep.errors import ConfigurationError, PDPUnavailable
from pep.fault import fault_of
from pep.model import AccessRequest, Action
from pep.pdp import FunctionPDP
from pep.policy import PolicySet, permit
from pep.policy.partial import AllowAll, DenyAll
from pep.testing import check_pdp
from tests.compose.composing import BatchPart, Part, answers, many, perform, request_for, said, word
from tests.proving import times

WORLDS: Final = ("sync", "async")
ROUTES: Final = {"doc:read": "exact", "pay:**": "payments", "pay:card:*": "cards", "log:*": "audits"}
TYPES: Final = {"doc": "documents", "pay:card": "odd"}

#: Action and resource type -> who decides.
TABLE: Final = [
    ("read", "doc", "exact"),
    ("doc:read", "file", "exact"),
    ("edit", "doc", "documents"),
    ("audit", "doc", "documents"),
    ("read", "log", "audits"),
    ("pay:refund", "file", "payments"),
    ("pay:card:charge", "file", "cards"),
    ("pay:card:charge", "doc", "documents"),
    ("pay:card:charge:twice", "file", "payments"),
    ("refund", "pay", "payments"),
    ("charge", "pay:card", "odd"),
    ("read", "file", "default"),
    ("READ", "doc", "documents"),
    ("pay", "file", "default"),
]


def routing(make: Any, default: Any) -> RoutingPDP:
    return RoutingPDP(
        actions={text: make(name) for text, name in ROUTES.items()},
        types={text: make(name) for text, name in TYPES.items()},
        default=default,
    )


@pytest.mark.parametrize("where", ["actions", "types"])
def test_a_part_that_is_false_is_a_part(where: str) -> None:
    """Policies of which there are none yet permit nothing, and nobody else is asked in their place."""
    nothing, lax = PolicySet([]), Part(True, "lax")
    actions = {"doc:read": nothing} if where == "actions" else {"*:edit": lax}
    pdp = RoutingPDP(actions=actions, types={"doc": lax if where == "actions" else nothing}, default=lax)
    assert said(perform(pdp.decide(request_for()))) is Effect.NOT_APPLICABLE
    assert many(pdp, [request_for(), request_for("2")]) == [Effect.NOT_APPLICABLE] * 2
    assert lax.asked == []


@pytest.mark.parametrize(("action", "kind", "name"), TABLE)
def test_routes(action: str, kind: str, name: str) -> None:
    """Exact actions first, then types, then the narrowest pattern, then the default."""
    parts: dict[str, Part] = {}
    pdp = routing(
        lambda called: parts.setdefault(called, Part(True, called)), parts.setdefault("default", Part(True, "default"))
    )
    found = pdp.route(action, kind)
    assert getattr(found, "name", None) == name
    perform(pdp.decide(request_for(action=action, kind=kind)))
    assert [called for called, part in parts.items() if part.asked] == [name]


@settings(max_examples=times(300, 50_000))
@given(
    st.dictionaries(st.sampled_from(["exact", "documents", "default"]), answers, min_size=3), st.sampled_from(WORLDS)
)
def test_only_the_permit_of_the_route_permits(given_: dict[str, Any], world: str) -> None:
    """Whatever the others would say, the part that is asked decides, and its fault is the fault."""
    pdp = RoutingPDP(
        actions={"doc:read": Part(given_["exact"])},
        types={"doc": Part(given_["documents"])},
        default=Part(given_["default"]),
    )
    for request, name in (
        (request_for(), "exact"),
        (request_for(action="edit"), "documents"),
        (request_for(kind="file"), "default"),
    ):
        assert said(perform(pdp.decide(request), world)) is word(given_[name])


@settings(max_examples=times(150, 5_000))
@given(
    st.lists(
        st.tuples(st.sampled_from(["read", "edit", "audit"]), st.sampled_from(["doc", "file"]), answers), max_size=8
    ),
    st.booleans(),
    st.booleans(),
)
def test_a_batch_is_answered_like_its_questions(rows: list[Any], batching: bool, closed: bool) -> None:
    """Split by route, each asked once, re-joined in order."""
    table = {str(at): row[2] for at, row in enumerate(rows)}
    parts = [(BatchPart if batching else Part)(table, str(at)) for at in range(3)]
    pdp = RoutingPDP(actions={"doc:read": parts[0], "*:audit": parts[1]}, default=None if closed else parts[2])
    requests = [request_for(str(at), action=row[0], kind=row[1]) for at, row in enumerate(rows)]
    assert many(pdp, requests) == [said(perform(pdp.decide(request))) for request in requests]
    assert all(len(part.batches) <= 1 for part in parts if isinstance(part, BatchPart))


def test_a_batch_of_one_route_that_fails_leaves_the_others_theirs() -> None:
    """A whole-batch failure is that of its own questions."""

    class Down(Part):
        def decide_many(self, _requests: Any) -> Any:
            raise PDPUnavailable

    pdp = RoutingPDP(types={"doc": Down(True)}, default=Part(True))
    requests = [request_for("1"), request_for("2", kind="file"), request_for("3")]
    assert many(pdp, requests) == [Fault.UNREACHABLE, Effect.PERMIT, Fault.UNREACHABLE]


def test_without_a_default_nothing_is_applicable() -> None:
    """What nobody decides about is denied, and the record says why."""
    sink = MemorySink()
    enforcer = Enforcer(RoutingPDP(types={"doc": Part(True)}, default=None), audit=sink)
    assert not enforcer.check(request_for(kind="file")).allowed
    assert (sink.records[-1]["effect"], sink.records[-1]["reasons"]) == ("not_applicable", ["no route for the action"])


def rows(pdp: Any, action: Any, kind: str) -> Any:
    return perform(pdp.row_filter(Subject("user", "alice"), action, kind, context={}))


def test_rows_are_filtered_by_route() -> None:
    """Lent where every part filters rows; where nobody decides there are none."""
    everything, nothing = PolicySet([permit("p", action="read")]), PolicySet([])
    pdp = RoutingPDP(actions={"doc:read": everything}, types={"doc": nothing}, default=None)
    assert rows(pdp, "read", "doc").value == AllowAll()
    assert rows(pdp, Action("read"), "doc").value == AllowAll()
    assert rows(pdp, "edit", "doc").value == DenyAll()
    assert rows(pdp, "read", "file").value == DenyAll()
    assert not hasattr(RoutingPDP(types={"doc": everything}, default=Part(True)), "row_filter")


def test_a_row_filter_that_is_none_is_malformed() -> None:
    """What looks like a filter lets no row through."""

    class Wrong(Part):
        def row_filter(self, *_: Any, **__: Any) -> Any:
            return True

    assert fault_of(rows(RoutingPDP(types={"doc": Wrong(True)}, default=None), "read", "doc").error) is Fault.MALFORMED


def test_it_is_pure_when_all_parts_are() -> None:
    """And its cache follows the revisions of each part, whichever is asked in between."""
    revision = {"doc": "1", "file": "a"}

    def part(kind: str) -> FunctionPDP:
        return FunctionPDP(lambda _request: Decision(Effect.PERMIT, revision=revision[kind]), name=kind, pure=True)

    assert not RoutingPDP(types={"doc": part("doc")}, default=Part(True)).pure
    sink = MemorySink()
    pdp = RoutingPDP(types={"doc": part("doc")}, default=part("file"))
    enforcer = Enforcer(pdp, audit=sink)

    def cached(kind: str, resource: str = "1") -> bool:
        return enforcer.check(request_for(resource, kind=kind)).cached

    assert pdp.pure
    assert [cached(kind) for kind in ("doc", "file", "doc", "file")] == [False, False, True, True]
    revision["file"] = "b"
    assert [cached("file", "2"), cached("doc"), cached("file")] == [False, False, False]
    assert [(one["old"], one["new"]) for one in sink.records if one.kind.value == "configuration"] == [("a", "b")]


def test_probes_and_health_are_those_of_the_parts() -> None:
    """One that is down is named; a part that several routes share is told once."""

    class Probed(Part):
        def probe(self) -> None:
            if self.table is not True:
                raise PDPUnavailable(self.name)

        def health(self) -> dict[str, Any]:
            return {"state": self.table}

    up, down = Probed(True, "up"), Probed(False, "down")
    pdp = RoutingPDP(types={"a": up, "b": down, "c": up}, default=Part(True, "rest"))
    assert str(perform(pdp.probe()).error) == "down"
    assert pdp.health() == {
        "parts": [{"name": "up", "state": True}, {"name": "down", "state": False}, {"name": "rest"}]
    }
    assert pdp.name == "routing(up,down,rest)"
    assert perform(RoutingPDP(types={"a": up}, default=Part(True)).probe()).value is None
    assert not hasattr(RoutingPDP(types={"a": Part(True)}, default=None), "probe")


def test_it_conforms() -> None:
    """The same answers in both worlds, alone and in batches."""
    policies = PolicySet([permit("p", action="read", resource="doc")])
    permitted, denied = request_for(), request_for(action="edit")
    check_pdp(lambda: RoutingPDP(types={"doc": policies}, default=None), permitted=permitted, denied=denied)
    check_pdp(lambda: RoutingPDP(types={"file": Part(True)}, default=policies), permitted=permitted, denied=denied)

    async def decide(_request: AccessRequest) -> bool:
        return True

    assert RoutingPDP(types={"doc": FunctionPDP(decide)}, default=None).asynchronous


@pytest.mark.parametrize(
    ("options", "mend"),
    [
        ({"default": Part(True)}, "needs a route"),
        ({"actions": {"**": Part(True)}, "default": None}, "as `default`"),
        ({"actions": {"read": Part(True)}, "default": None}, "matches no action"),
        ({"actions": {"a:b*": Part(True)}, "default": None}, "within a segment"),
        ({"actions": {"*:read": Part(True), "doc:*": Part(True)}, "default": None}, "overlap"),
        ({"actions": {"doc:*": Part(True), "*:read": Part(True)}, "default": None}, "overlap"),
        ({"types": {"": Part(True)}, "default": None}, "a resource's type"),
        ({"types": {1: Part(True)}, "default": None}, "a resource's type"),
        ({"types": {"doc": object()}, "default": None}, "wrap a function"),
        ({"actions": {"doc:read": object()}, "default": None}, "wrap a function"),
        ({"types": {"doc": Part(True)}, "default": object()}, "wrap a function"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], mend: str) -> None:
    """Mistakes are found where they are written."""
    with pytest.raises(ConfigurationError, match=mend):
        RoutingPDP(**options)
