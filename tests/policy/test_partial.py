"""Row filters permit what decisions permit, row by row; UCAST says the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep.errors import ConfigurationError, ExtractionError, PDPReplyError
from pep.model import AccessRequest, Effect, Obligation, Resource, Subject
from pep.policy import PolicySet, Rule, action, context, deny, has, now, permit, predicate, resource, subject
from pep.policy.condition import Constant, Intrinsic, Property, leaves, terms
from pep.policy.partial import AllowAll, Conditional, DenyAll
from pep.policy.ucast import from_ucast, to_ucast
from tests.policy.strategies import NAMES, policies, properties, subjects, timed_conditions

FIELDS = {f"t.{name}": resource[name] for name in NAMES} | {"t.id": resource.id}
FIELDS |= {f"t.{name}.{below}": resource[name][below] for name in NAMES for below in NAMES}
rows = st.builds(Resource, st.just("doc"), st.sampled_from(["x", "y"]), properties)


@settings(max_examples=500)
@given(
    policies(timed_conditions, min_size=1),
    subjects,
    st.sampled_from(["read", "edit", "doc:read"]),
    properties,
    st.lists(rows, min_size=1, max_size=4),
)
def test_filter_is_check(
    found: list[Rule], who: Subject, act: str, circumstances: dict[str, Any], some: list[Resource]
) -> None:
    """A row matches a filter exactly if the resource would be permitted; unknown rows are indeterminate."""
    policies = PolicySet(found, clock=lambda: 1.0)
    rows = policies.row_filter(who, act, "doc", context=circumstances, discharged=["log", "redact"])
    for row in some:
        effect = policies.decide(AccessRequest(who, act, row, circumstances)).effect
        assert (rows.matches(row) is True) == (effect is Effect.PERMIT)
        if rows.matches(row) is None:
            assert effect is not Effect.PERMIT
    if isinstance(rows, Conditional):
        fields = [
            term for leaf in leaves(rows.condition) for term in terms(leaf) if isinstance(term, Property | Intrinsic)
        ]
        assert all(field.root == "resource" for field in fields)


@settings(max_examples=300)
@given(policies(timed_conditions, min_size=1), subjects, properties, st.lists(rows, min_size=1, max_size=4))
def test_ucast_round_trip(found: list[Rule], who: Subject, circumstances: dict[str, Any], some: list[Resource]) -> None:
    """A row filter written as UCAST, through JSON, is read back to one that matches the same rows."""
    rows = PolicySet(found, clock=lambda: 1.0).row_filter(who, "read", "doc", context=circumstances)
    if not isinstance(rows, Conditional):
        return
    values = [term.value for leaf in leaves(rows.condition) for term in terms(leaf) if isinstance(term, Constant)]
    if any(isinstance(value, dict) for value in values):
        with pytest.raises(ConfigurationError, match="mapping"):
            to_ucast(rows.condition, FIELDS)
        return
    tree = to_ucast(rows.condition, FIELDS)
    again = Conditional(from_ucast(json.loads(json.dumps(tree)), FIELDS))
    for row in some:
        assert again.matches(row) is rows.matches(row)


ANN = Subject("user", "ann", {"roles": ["editor"], "dept": "x"})


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], DenyAll()),
        ([permit("a")], AllowAll()),
        ([permit("a", resource="note")], DenyAll()),
        ([permit("a"), deny("b")], DenyAll()),
        ([permit("a", when=subject.id == "ann")], AllowAll()),
        ([permit("a", when=subject.id == "bob")], DenyAll()),
        ([permit("a", when=subject.missing == "x")], DenyAll()),
        ([permit("a"), deny("b", when=subject.missing == "x")], DenyAll()),
        ([permit("a"), deny("b", when=~(subject.missing == "x"))], DenyAll()),
        ([permit("a", when=resource.is_new == False)], AllowAll()),  # noqa: E712
        ([permit("a", when=resource.type == "doc")], AllowAll()),
        ([permit("a", when=action.name == "edit")], DenyAll()),
        ([permit("a", when=resource.owner == subject.id)], Conditional(resource.owner == "ann")),
        ([permit("a", when=subject.id == resource.owner)], Conditional(resource.owner == "ann")),
        ([permit("a", when=context.level < resource.level)], Conditional(resource.level > 3)),
        ([permit("a", when=resource.owner == subject.missing)], DenyAll()),
        ([permit("a", when=resource.owner.in_(subject.dept))], DenyAll()),
        ([permit("a"), deny("b", when=resource.list.intersects(subject.dept))], DenyAll()),
        ([permit("a", when=resource.name.starts_with(context.level))], DenyAll()),
        (
            [permit("a"), deny("b", when=resource.secret == True)],  # noqa: E712
            Conditional(~(resource.secret == True)),  # noqa: E712
        ),
        (
            [permit("a", when=resource.x == 1), permit("b", when=resource.y == 2), deny("c", when=resource.z == 3)],
            Conditional(((resource.x == 1) | (resource.y == 2)) & ~(resource.z == 3)),
        ),
        ([permit("a", when=resource.x == 1), permit("b", when=subject.id == "ann")], AllowAll()),
        (
            [permit("a"), deny("b", when=resource.at.between(subject.missing, 10, skew=0))],
            Conditional(~resource.at.before(10, skew=0)),
        ),
        ([permit("a", when=resource.at.between(subject.missing, 10, skew=0))], DenyAll()),
        ([permit("a", when=predicate(lambda _: True, "p"))], DenyAll()),
        ([permit("a"), deny("b", when=predicate(lambda _: False, "p"))], DenyAll()),
        ([permit("a", obligations=[Obligation("redact")])], DenyAll()),
        ([permit("a", obligations=[Obligation("log")])], AllowAll()),
        (
            [permit("a"), deny("b", when=resource.x == 1, obligations=[Obligation("redact")])],
            Conditional(~(resource.x == 1)),
        ),
    ],
    ids=range(29),
)
def test_filters(rules: list[Rule], expected: AllowAll | DenyAll | Conditional) -> None:
    """What does not depend on the resource is evaluated; what is left is a condition over it alone."""
    assert PolicySet(rules).row_filter(ANN, "read", "doc", context={"level": 3}, discharged=["log"]) == expected


def test_three_types() -> None:
    """All, none and some are three types, and none of them equals another."""
    found = [AllowAll(), DenyAll(), Conditional(resource.a == 1)]
    assert [[one == other for other in found] for one in found] == [
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]
    assert [one.matches({}) for one in found] == [True, False, None]
    assert len(set(found)) == 3


def test_matches_properties() -> None:
    """Properties alone can be matched, in three values; their id is then missing."""
    rows = Conditional((resource.owner == "ann") | (resource.id == "1"))
    assert rows.matches({"owner": "ann"}) is True
    assert rows.matches({"owner": "bob"}) is None
    assert rows.matches(Resource("doc", "2", {"owner": "bob"})) is False
    assert rows.matches(Resource("doc", "1")) is True
    with pytest.raises(ExtractionError):
        rows.matches({"owner": object()})


def test_large_filters() -> None:
    """A filter of very many comparisons is not compiled, and matches all the same."""
    rules = [permit(f"r{number}", when=resource.a == number) for number in range(2000)]
    rows = PolicySet(rules).row_filter(ANN, "read", "doc")
    assert [rows.matches({"a": value}) for value in (0, 1999, 2000, "x")] == [True, True, False, None]


@pytest.mark.parametrize(
    ("condition", "tree"),
    [
        (resource.a == 1, {"type": "field", "operator": "eq", "field": "t.a", "value": 1}),
        (resource.a != "x", {"type": "field", "operator": "ne", "field": "t.a", "value": "x"}),
        (resource.a < 1.5, {"type": "field", "operator": "lt", "field": "t.a", "value": 1.5}),
        (resource.a.in_(["x", "y"]), {"type": "field", "operator": "in", "field": "t.a", "value": ["x", "y"]}),
        (~resource.a.in_(["x"]), {"type": "field", "operator": "nin", "field": "t.a", "value": ["x"]}),
        (resource.a.contains_text("x"), {"type": "field", "operator": "contains", "field": "t.a", "value": "x"}),
        (resource.a.starts_with("x"), {"type": "field", "operator": "startswith", "field": "t.a", "value": "x"}),
        (resource.a.ends_with("x"), {"type": "field", "operator": "endswith", "field": "t.a", "value": "x"}),
        (resource.roles.contains("x"), {"type": "field", "operator": "member", "field": "t.roles", "value": "x"}),
        (has(resource.a), {"type": "field", "operator": "ne", "field": "t.a", "value": None}),
        (resource.a == resource.b, {"type": "field", "operator": "eq", "field": "t.a", "value": {"field": "t.b"}}),
        (
            resource.a.ip_in("10.0.0.0/8"),
            {"type": "field", "operator": "network", "field": "t.a", "value": ["10.0.0.0/8"]},
        ),
        (resource.a.before(5, skew=1), {"type": "window", "moment": {"field": "t.a"}, "end": 5, "skew": 1.0}),
        (
            ~((resource.a == 1) | (resource.id == "x")),
            {
                "type": "compound",
                "operator": "not",
                "value": [
                    {
                        "type": "compound",
                        "operator": "or",
                        "value": [
                            {"type": "field", "operator": "eq", "field": "t.a", "value": 1},
                            {"type": "field", "operator": "eq", "field": "t.id", "value": "x"},
                        ],
                    }
                ],
            },
        ),
    ],
    ids=range(14),
)
def test_ucast(condition: Any, tree: Any) -> None:
    """Each operator has one UCAST form, and is read back from it."""
    assert to_ucast(condition, FIELDS) == tree
    assert from_ucast(tree, FIELDS) == condition


def test_ucast_of_constants_on_the_left() -> None:
    """What has no field on its left is a call, and is read back from it."""
    rows = PolicySet([permit("a", when=context.list.intersects(resource.b) & context.text.starts_with(resource.a))])
    found = rows.row_filter(ANN, "read", "doc", context={"list": ["x", "y"], "text": "xyz"})
    assert isinstance(found, Conditional)
    tree = to_ucast(found.condition, FIELDS)
    assert tree["value"] == [
        {"type": "call", "operator": "intersects", "value": [["x", "y"], {"field": "t.b"}]},
        {"type": "call", "operator": "startswith", "value": ["xyz", {"field": "t.a"}]},
    ]
    again = Conditional(from_ucast(tree, FIELDS))
    assert again.matches({"a": "xy", "b": ["y"]}) is found.matches({"a": "xy", "b": ["y"]}) is True


@pytest.mark.parametrize("fields", [{"a": "resource.a"}, {"a": resource}])
def test_fields_are_attributes(fields: Any) -> None:
    """The allow-list names attributes, not texts."""
    with pytest.raises(ConfigurationError, match="expected an attribute"):
        to_ucast(resource.a == 1, fields)


def test_ucast_writes_no_mappings() -> None:
    """A mapping that came from the subject has no UCAST form."""
    found = PolicySet([permit("a", when=resource.a == context.m)]).row_filter(
        ANN, "read", "doc", context={"m": {"x": 1}}
    )
    assert isinstance(found, Conditional)
    assert found.matches({"a": {"x": 1.0}}) is True
    with pytest.raises(ConfigurationError, match="mapping"):
        to_ucast(found.condition, FIELDS)


@pytest.mark.parametrize(
    ("condition", "word"),
    [
        (resource.secret == 1, "`resource.secret` is not among"),
        (resource.a == resource.secret, "`resource.secret` is not among"),
        (subject.id == "x", "`subject.id` is not among"),
        (now.before(5, skew=1), "evaluate the condition partially"),
        (predicate(lambda _: True, "p"), "`Predicate` has no UCAST form"),
    ],
)
def test_ucast_writes_allowed_fields_only(condition: Any, word: str) -> None:
    """A field that is not on the allow-list, or something without a UCAST form, is not written."""
    with pytest.raises(ConfigurationError, match=word):
        to_ucast(condition, FIELDS)


FIELD = {"type": "field", "field": "t.a"}


def deep(levels: int) -> Any:
    tree: Any = FIELD | {"operator": "eq", "value": 1}
    for _ in range(levels):
        tree = {"type": "compound", "operator": "not", "value": [tree]}
    return tree


@pytest.mark.parametrize(
    "tree",
    [
        None,
        [],
        "x",
        {},
        {"type": "field"},
        {"type": "other", "operator": "eq"},
        FIELD | {"operator": "eq"},
        FIELD | {"operator": 5, "value": 1},
        FIELD | {"operator": "like", "value": "x"},
        {"type": "field", "field": "t.secret", "operator": "eq", "value": 1},
        {"type": "field", "field": 5, "operator": "eq", "value": 1},
        {"type": "field", "field": ["t.a"], "operator": "eq", "value": 1},
        FIELD | {"operator": "eq", "value": {"field": "t.secret"}},
        FIELD | {"operator": "eq", "value": {"a": 1}},
        FIELD | {"operator": "lt", "value": None},
        FIELD | {"operator": "eq", "value": float("nan")},
        FIELD | {"operator": "eq", "value": 2**70},
        FIELD | {"operator": "eq", "value": object()},
        FIELD | {"operator": "in", "value": "xyz"},
        FIELD | {"operator": "nin", "value": 5},
        FIELD | {"operator": "network", "value": "10.0.0.0/8"},
        FIELD | {"operator": "network", "value": ["10.0.0.1/8"]},
        {"type": "compound", "operator": "and", "value": []},
        {"type": "compound", "operator": "or", "value": {}},
        {"type": "compound", "operator": "xor", "value": [FIELD]},
        {"type": "compound", "operator": "and", "value": [None]},
        {"type": "call", "operator": "eq", "value": [1]},
        {"type": "window", "moment": 1, "skew": 1},
        {"type": "window", "moment": 1, "end": 2, "skew": -1},
        {"type": "window", "end": 2, "skew": 0},
        deep(40),
        deep(5000),
    ],
)
def test_ucast_reads_nothing_else(tree: Any) -> None:
    """What an engine sends is a condition over allowed fields, or refused as malformed."""
    with pytest.raises(PDPReplyError):
        from_ucast(tree, FIELDS)
