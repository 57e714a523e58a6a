"""Lint finds rules that cannot do what they are there for, and nothing wrong with rules that can."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.model import AccessRequest
from pep.policy import PolicySet, Rule, action, context, deny, has, now, permit, predicate, resource, subject
from pep.policy.condition import Condition, Daily
from pep.policy.contradictions import contradiction
from pep.policy.covering import covers, covers_pattern
from pep.policy.lint import Finding, Severity, Vocabulary, lint
from pep.policy.parse import parse
from pep.policy.rule import matches
from pep.policy.spelling import spellings
from tests.policy.strategies import policies, requests, timed_conditions

segments = st.sampled_from(["a", "b", "*"])
patterns = st.builds(
    lambda parts, end: ":".join([*parts, *end]), st.lists(segments, min_size=1, max_size=3), st.just([])
)
patterns |= st.builds(lambda parts: ":".join([*parts, "**"]), st.lists(segments, max_size=2))
names = st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=4).map(":".join)


def codes(*rules: Rule, code: str | None = None, **vocabulary: frozenset[str]) -> list[tuple[str, str]]:
    """The findings as rule and code, those about reasons left out."""
    found = lint(PolicySet(rules), Vocabulary(**vocabulary))
    return [(one.rule, one.code) for one in found if one.code != "no-reason" and code in (None, one.code)]


@pytest.mark.parametrize(
    "text",
    [
        "(resource.a == 'x') & (resource.a == 'y')",
        "(resource.a == 'x') & (resource.a != 'x')",
        "(resource.a == 'x') & ~(resource.a == 'x')",
        "(resource.a == 1) & (resource.a == '1')",
        "(resource.a == 1) & (resource.a == True)",
        "resource.a.in_(['x', 'y']) & resource.a.in_(['z'])",
        "resource.a.in_(['x', 'y']) & (resource.a != 'x') & ~resource.a.in_(['y'])",
        "(resource.a > 5) & (resource.a < 3)",
        "(resource.a > 5) & (resource.a <= 5)",
        "(resource.a >= 5) & ~(resource.a >= 5)",
        "(resource.a > 5) & resource.a.in_([1, 2])",
        "~has(resource.a) & (resource.a == 'x')",
        "~has(resource.a) & ~(resource.a == subject.id)",
        "~has(subject.id)",
        "has(subject.id) & ~has(subject.type)",
        "resource.a != resource.a",
        "resource.a < resource.a",
        "~(resource.a <= resource.a)",
        "subject.id == 5",
        "resource.is_new == 'yes'",
        "(resource.is_new != True) & (resource.is_new != False)",
        "~resource.is_new.in_([True, False])",
        "resource.a < True",
        "(resource.a == 'abc') & resource.a.starts_with('b')",
        "(resource.a == 'abc') & resource.a.contains('b')",
        "resource.a.starts_with('b') & (resource.a > 3)",
        "resource.a.intersects(['b']) & (resource.a == 3)",
        "(context.a == '11.0.0.1') & context.a.ip_in('10.0.0.0/8')",
        "now.between('2030-01-02T00:00:00Z', '2030-01-01T00:00:00Z', skew=0)",
        "(resource.a == 'x') & ((resource.a == 'y') | (resource.a == 'z'))",
        "~((resource.a != 'x') | (resource.a != 'y'))",
        "(resource.a == 'x') & ~((resource.a == 'x') & has(subject.id))",
    ],
)
def test_conditions_that_are_never_true(text: str) -> None:
    """A condition that contradicts itself makes its rule unreachable, whether it permits or denies."""
    for make in (permit, deny):
        (found,) = [one for one in lint(PolicySet([make("r", when=parse(text))])) if one.code != "no-reason"]
        assert (found.rule, found.severity, found.code) == ("r", Severity.ERROR, "unreachable")
        assert found.message.startswith("it never applies: ")


@pytest.mark.parametrize(
    "text",
    [
        "(resource.a == 'x') & (resource.b == 'y')",
        "(resource.a == 1) & (resource.a == 1.0)",
        "(resource.a == 'x') & (resource.a == resource.b)",
        "resource.a.in_(['x', 'y']) & (resource.a != 'x')",
        "(resource.a >= 5) & (resource.a <= 5)",
        "(resource.a > 3) & (resource.a > 4) & (resource.a < 5)",
        "~has(resource.a) & ~has(resource.a)",
        "~has(resource.id) & (resource.is_new == True)",
        "resource.a == resource.a",
        "resource.a.contains('x') & resource.a.contains('y')",
        "resource.a.contains(resource.b) & (resource.b == 'x')",
        "now.between('2030-01-02T00:00:00Z', '2030-01-01T00:00:00Z', skew=86400)",
        "~now.between('2030-01-02T00:00:00Z', '2030-01-01T00:00:00Z', skew=0)",
        "now.between(resource.a, '2030-01-01T00:00:00Z', skew=0)",
        "(resource.a == 'x') & ((resource.a == 'y') | (resource.a == 'x'))",
        "(resource.a == '2030-01-01T00:00:00Z') & resource.a.before('2029-01-01T00:00:00Z', skew=0)",
    ],
)
def test_conditions_that_may_be_true(text: str) -> None:
    """What is true of some request, or cannot be told, is no finding."""
    assert codes(permit("r", when=parse(text))) == []


@given(policies(timed_conditions), st.lists(requests, min_size=1, max_size=3))
def test_what_is_unreachable_never_applies(rules: list[Rule], asked: list[AccessRequest]) -> None:
    """No request whatever makes a rule apply that was found to be contradictory."""
    for rule in rules:
        if contradiction(rule) is not None:
            for request in asked:
                explained = PolicySet([rule], clock=lambda: 4.0).explain(request)
                assert all(candidate.truth is not True for candidate in explained.candidates)


@pytest.mark.parametrize(
    ("options", "condition"),
    [
        ({"resource": "document"}, resource.type == "report"),
        ({"subject": {"user", "service"}}, subject.type == "robot"),
        ({"action": "document:edit"}, action.name == "read"),
        ({"action": {"read", "edit"}}, action.name == "delete"),
    ],
)
def test_a_condition_may_contradict_the_target(options: dict[str, Any], condition: Condition) -> None:
    """A rule about one type, whose condition asks for another, is unreachable."""
    assert codes(permit("r", when=condition, **options)) == [("r", "unreachable")]
    assert codes(permit("r", unless=condition, **options)) == []


@pytest.mark.parametrize("name", ["document:edit", "edit"])
def test_a_qualified_action_is_also_the_bare_one(name: str) -> None:
    """A rule about `document:edit` applies to `edit` on a document, and its condition may say so."""
    assert codes(permit("r", action="document:edit", when=action.name == name)) == []


def test_an_exception_may_leave_nothing() -> None:
    """A rule whose exception covers its condition is unreachable."""
    assert codes(permit("r", when=resource.a == 1, unless=resource.a > 0)) == [("r", "unreachable")]


def test_predicates_and_daily_windows_are_left_alone() -> None:
    """What only running it can tell is no finding."""
    daily = parse("now.daily('09:00', '17:00', zone='UTC', skew=0)")
    assert isinstance(daily, Daily)
    assert (
        codes(permit("p", when=predicate(lambda _: False, "never")), permit("d", when=daily & now.after(5, skew=0)))
        == []
    )


@pytest.mark.parametrize(
    ("denial", "rule", "covered"),
    [
        ({}, {}, True),
        ({}, {"action": "edit", "resource": "document", "subject": "user"}, True),
        ({"action": "**"}, {}, True),
        ({"action": "edit"}, {}, False),
        ({"action": "edit"}, {"action": {"edit", "read"}}, False),
        ({"action": {"edit", "read"}}, {"action": "edit"}, True),
        ({"action": "*"}, {"action": "edit"}, True),
        ({"action": "*"}, {"action": "document:edit"}, False),
        ({"action": "edit"}, {"action": "document:edit"}, False),
        ({"action": "document:*"}, {"action": "document:edit"}, True),
        ({"action": "document:*"}, {"action": "edit"}, False),
        ({"action": "document:*"}, {"action": "edit", "resource": "document"}, True),
        ({"action": "document:*"}, {"action": "edit", "resource": {"document", "report"}}, False),
        ({"action": "a:**"}, {"action": "edit", "resource": "a:**"}, False),
        ({"action": "document:*"}, {"action": "**", "resource": "document"}, False),
        ({"resource": "document"}, {}, False),
        ({"resource": "document"}, {"resource": "document", "action": "x"}, True),
        ({"resource": "a:**"}, {"resource": "a:b:**"}, True),
        ({"resource": "a:b:**"}, {"resource": "a:**"}, False),
        ({"subject": "user"}, {"subject": "service"}, False),
    ],
)
def test_what_an_unconditional_denial_shadows(denial: dict[str, Any], rule: dict[str, Any], covered: bool) -> None:
    """A permit is shadowed exactly when all it is about is denied; a denial then is redundant."""
    never = deny("never", **denial)
    assert codes(never, permit("r", when=has(resource.a), **rule), code="shadowed") == [("r", "shadowed")] * covered
    assert codes(never, deny("r", when=has(resource.a), **rule), code="redundant") == [("r", "redundant")] * covered


def test_a_conditional_denial_shadows_nothing() -> None:
    """A denial that depends on something leaves room for a permit."""
    assert codes(deny("never", when=has(resource.a)), permit("r")) == []


def test_of_two_equal_denials_one_is_redundant() -> None:
    """Unconditional denials of one scope are told of once, by the later id, however they are written."""
    assert codes(deny("a"), deny("b")) == [("b", "redundant")]
    assert codes(deny("a", action="**"), deny("b")) == [("b", "redundant")]


@given(patterns, patterns, names)
def test_covering_patterns(wide: str, narrow: str, name: str) -> None:
    """A pattern that covers another matches whatever that matches."""
    if covers_pattern(wide, narrow) and matches(narrow, name):
        assert matches(wide, name)


targets = st.none() | st.sets(patterns, min_size=1, max_size=2)


@given(st.tuples(targets, targets), st.tuples(targets, targets), names, names)
def test_covering_rules(wide: Any, narrow: Any, act: str, kind: str) -> None:
    """A rule that covers another is about whatever that is about, with actions plain or qualified."""
    one, other = (permit("r", action=several[0], resource=several[1]) for several in (wide, narrow))
    request = AccessRequest.from_dict(
        {"subject": {"type": "u", "id": "1"}, "action": {"name": act}, "resource": {"type": kind, "id": "1"}}
    )
    if covers(one, other) and other.about(request):
        assert one.about(request)


@given(policies(timed_conditions), requests)
def test_removing_what_is_shadowed_changes_nothing(rules: list[Rule], request: AccessRequest) -> None:
    """Without the permits that are shadowed, every request has the same effect."""
    everything = PolicySet([*rules, deny("never", action={"edit", "doc:*"})], clock=lambda: 4.0)
    shadowed = {one.rule for one in lint(everything) if one.code == "shadowed"}
    rest = PolicySet([rule for rule in everything.rules if rule.id not in shadowed], clock=lambda: 4.0)
    assert rest.decide(request).effect is everything.decide(request).effect


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([permit("r", action="documnt:*"), permit("s", action="read", resource="document")], ["r"]),
        ([permit("r", action="document:*"), permit("s", action="read", resource="document")], []),
        ([permit("r", action="document:edit:*"), permit("s", action="read", resource="document:edit")], []),
        ([permit("r", action="*:edit"), permit("s", action="edit", resource="document")], []),
        ([permit("r", action="*:delete:*"), permit("s", action="document:edit", resource="document")], ["r"]),
        ([permit("r", action="document:*"), permit("s", action="document:edit")], []),
        ([permit("r", action="document:*"), permit("s", action="read")], []),
        ([permit("r", action="document:*")], []),
        ([permit("r", action="*"), permit("s", action="read")], []),
        ([permit("r", action="*"), permit("s", action="document:edit")], []),
        ([permit("r", resource="docs:*"), permit("s", resource="doc:a")], ["r"]),
        ([permit("r", resource="doc:*"), permit("s", resource="doc:a")], []),
        ([permit("r", resource="doc:*")], []),
        ([permit("r", subject="robot:*"), permit("s", subject="user")], ["r"]),
    ],
)
def test_patterns_that_match_nothing(rules: list[Rule], expected: list[str]) -> None:
    """A pattern that matches no name in any rule is probably misspelled; where none is named, nothing is known."""
    assert codes(*rules) == [(name, "unmatched-pattern") for name in expected]


def test_patterns_may_match_names_from_outside() -> None:
    """Names that the application knows count as those in rules do."""
    rules = (permit("r", action="documnt:*", resource="x:*", subject="y:*"),)
    assert codes(*rules) == []
    known = {"actions": {"document:edit"}, "resources": {"document"}, "subjects": {"user"}}
    told = {name: frozenset(values) for name, values in known.items()}
    assert codes(*rules, **told) == [("r", "unmatched-pattern")] * 3
    told = {"actions": frozenset({"documnt:edit"}), "resources": frozenset({"x:y"}), "subjects": frozenset({"y:z"})}
    assert codes(*rules, **told) == []


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("ownerID", "owner_id", True),
        ("owner-id", "owner_id", True),
        ("role", "roles", True),
        ("owner", "ownr", True),
        ("owner", "ownar", True),
        ("owner", "reader", False),
        ("level1", "level2", False),
        ("level", "level2", False),
        ("id2x", "idx2x", True),
        ("cat", "car", False),
        ("cat", "cart", False),
        ("owner", "onwer", False),
        ("ID_", "id", True),
        ("a" * 70, "a" * 71, False),
        ("a" * 70, "A" * 70, True),
    ],
)
def test_attributes_that_are_spelled_two_ways(one: str, other: str, alike: bool) -> None:
    """Names that differ in case, `_`, `-` or one letter are told of; short names and digits differ on purpose."""
    rules = [permit("a", when=has(context[one])), permit("b", when=has(context[other]), unless=has(context[one]))]
    assert [(found.rule, found.usual_rule) for found in spellings(rules)] == [("b", "a")] * alike
    assert [
        (found.rule, found.usual_rule) for found in spellings([rules[0], permit("b", when=has(subject[other]))])
    ] == []


def test_the_rarer_spelling_is_told_of() -> None:
    """The finding is for the rule that spells it as others do not, and names how they do."""
    rules = [permit("a", when=resource.Owner == 1), permit("b", when=resource.owner == 1, unless=has(resource.owner))]
    (found,) = [one for one in lint(PolicySet(rules)) if one.code == "spelling"]
    assert found.rule == "a"
    assert "`resource.Owner` is spelled `resource.owner` in rule `b`" in found.message


def test_nested_names_are_compared_where_they_stand() -> None:
    """A nested name is compared with its neighbours, and a property with the parts that every subject has."""
    assert codes(permit("a", when=has(resource.meta.color) & has(resource.mete.colour))) == [("a", "spelling")]
    assert codes(permit("a", when=(subject["Type"] == "x") & (subject.type == "x"))) == [("a", "spelling")]


def test_findings_are_ordered_and_told_as_json() -> None:
    """Errors come first, then rules by id; a rule without a reason is a warning."""
    found = lint(PolicySet([permit("b", when=resource.a < resource.a), permit("a"), permit("c", reason="why")]))
    assert [(one.rule, one.code) for one in found] == [("b", "unreachable"), ("a", "no-reason"), ("b", "no-reason")]
    assert found[1].to_dict() == {
        "rule": "a",
        "severity": "warning",
        "code": "no-reason",
        "message": "it has no reason; say in `reason` why it is there, for the record",
    }
    assert found[1] == Finding(**{**found[1].to_dict(), "severity": Severity.WARNING})


def test_sound_policies_have_no_findings() -> None:
    """There is nothing to find in rules that say why they are there, nor in none."""
    assert lint(PolicySet([permit("a", reason="why")])) == ()
    assert lint(PolicySet([])) == ()


def test_progress_is_told_now_and_then() -> None:
    """Whoever waits learns how many rules of how many were looked at."""
    told: list[tuple[int, int]] = []
    lint(PolicySet([permit(f"r{number}") for number in range(1001)]), progress=lambda *step: told.append(step))
    assert told == [(0, 1001), (1000, 1001)]
