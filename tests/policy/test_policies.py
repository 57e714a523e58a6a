"""Rules and policy sets: targets, effects, what a decision carries, and the published scenario."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

import pep.policy
from pep.errors import ConfigurationError
from pep.model import AccessRequest, Action, Decision, Effect, Obligation, Resource, Subject
from pep.policy import PolicySet, Rule, action, context, deny, has, now, permit, predicate, resource, subject
from pep.policy.compiling import MAX_SHAPES, Compiler
from pep.policy.filing import join, split
from pep.policy.index import MAX_CELLS, MAX_REMEMBERED
from pep.policy.policies import MAX_NAMED
from pep.policy.rule import matches


class Verb(Enum):
    READ = "read"
    LEVEL = 3


def ask(
    rules: list[Rule], who: Subject | None = None, act: str = "read", what: Resource | None = None, **more: Any
) -> Decision:
    asked = AccessRequest(who or Subject("user", "ann"), act, what or Resource("doc", "1"), more)
    return PolicySet(rules).decide(asked)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("read", "read", True),
        ("read", "Read", False),
        ("read", "read ", False),
        ("read", "doc:read", False),
        ("*", "read", True),
        ("*", "doc:read", False),
        ("**", "read", True),
        ("**", "a:b:c", True),
        ("doc:*", "doc:read", True),
        ("doc:*", "doc", False),
        ("doc:*", "doc:a:b", False),
        ("doc:*", "note:read", False),
        ("doc:**", "doc:read", True),
        ("doc:**", "doc:a:b", True),
        ("doc:**", "doc", False),
        ("doc:**", "docs:a", False),
        ("*:read", "doc:read", True),
        ("*:read", "read", False),
        ("*:read", "doc:write", False),
        ("a:*:c", "a:b:c", True),
        ("a:*:c", "a:b:d", False),
        ("a:*:c", "a:b:b:c", False),
        ("*:**", "a", False),
        ("doc:*", "doc:", True),
        ("*:*", ":", True),
    ],
)
def test_patterns(pattern: str, name: str, expected: bool) -> None:
    """A pattern matches whole segments: `*` one, a final `**` one or more."""
    assert matches(pattern, name) is expected


@pytest.mark.parametrize("names", ["doc*", "*doc", "a:**:b", "**:b", "::*", "a::*", "***", "a:***", "*:"])
@pytest.mark.parametrize("part", ["action", "resource", "subject"])
def test_malformed_patterns(part: str, names: str) -> None:
    """A pattern that is no whole segment is refused, rather than never matching."""
    with pytest.raises(ConfigurationError, match="malformed pattern"):
        permit("rule", **{part: names})


@pytest.mark.parametrize("names", ["", [], set(), [""], 5, [5], [None], {"a": 1}, b"a", Verb.LEVEL, True])
@pytest.mark.parametrize("part", ["action", "resource", "subject"])
def test_malformed_names(part: str, names: Any) -> None:
    """Names are exact texts; an empty set means nothing, and is refused rather than meaning any."""
    with pytest.raises(ConfigurationError, match=f"`{part}`"):
        permit("rule", **{part: names})


@pytest.mark.parametrize(
    ("names", "act", "expected"),
    [
        (None, "read", True),
        ("read", "read", True),
        ("read", "edit", False),
        (["read", "edit"], "edit", True),
        (Verb.READ, "read", True),
        ({Verb.READ}, "read", True),
        (("list",), "read", False),
        ("doc:read", "read", True),
        ("doc:*", "read", True),
        ("note:*", "read", False),
        ("doc:read", "doc:read", True),
        ("read", "doc:read", False),
        ("*", "doc:read", False),
        ({"doc:*", "edit"}, "edit", True),
    ],
)
def test_actions(names: Any, act: str, expected: bool) -> None:
    """A name with a colon also means the action qualified by the resource's type."""
    effect = ask([permit("rule", action=names)], act=act).effect
    assert effect is (Effect.PERMIT if expected else Effect.NOT_APPLICABLE)


def test_types() -> None:
    """Resource and subject types are matched as they are."""
    rules = [permit("rule", resource=["doc", "note:*"], subject="user")]
    assert ask(rules).effect is Effect.PERMIT
    assert ask(rules, what=Resource("note:draft", "1")).effect is Effect.PERMIT
    assert ask(rules, what=Resource("note", "1")).effect is Effect.NOT_APPLICABLE
    assert ask(rules, Subject("agent", "ann")).effect is Effect.NOT_APPLICABLE


def test_large_sets_of_names() -> None:
    """A set of more names than are filed apart matches all the same, and the rule counts once."""
    names = [f"a{number}" for number in range(MAX_CELLS)]
    rules = [permit("rule", action=names, resource=["doc", "note"], obligations=[Obligation("log")])]
    assert [len(ask(rules, act=name).obligations) for name in (names[0], names[-1], "b")] == [1, 1, 0]
    twice = [
        permit(
            "rule", action={"read", "doc:read"}, when=subject.r.intersects(["x", "y"]), obligations=[Obligation("log")]
        )
    ]
    decision = ask(twice, Subject("user", "ann", {"r": ["x", "y", "x"]}))
    assert (len(decision.obligations), decision.policies) == (1, ("rule",))


P, D, IP, ID = "P", "D", "IP", "ID"
RULES = {
    P: permit("P", obligations=[Obligation("p")], advice=[Obligation("ap")], reason="because p"),
    D: deny("D", obligations=[Obligation("d")], advice=[Obligation("ad")], reason="because d"),
    IP: permit("IP", when=context.missing == 1, obligations=[Obligation("ip")]),
    ID: deny("ID", when=context.missing == 1, obligations=[Obligation("id")]),
}


@pytest.mark.parametrize(
    ("present", "effect", "policies"),
    [
        ([], Effect.NOT_APPLICABLE, ()),
        ([P], Effect.PERMIT, (P,)),
        ([D], Effect.DENY, (D,)),
        ([IP], Effect.INDETERMINATE, (IP,)),
        ([ID], Effect.INDETERMINATE, (ID,)),
        ([P, D], Effect.DENY, (D,)),
        ([P, IP], Effect.PERMIT, (P,)),
        ([P, ID], Effect.INDETERMINATE, (ID,)),
        ([D, IP], Effect.DENY, (D,)),
        ([D, ID], Effect.DENY, (D,)),
        ([IP, ID], Effect.INDETERMINATE, (ID,)),
        ([P, D, IP, ID], Effect.DENY, (D,)),
    ],
)
def test_extended_deny_overrides(present: list[str], effect: Effect, policies: tuple[str, ...]) -> None:
    """A denial overrides; one that is unknown never drops out; only the final effect's duties are carried."""
    decision = ask([RULES[name] for name in present])
    assert (decision.effect, decision.policies) == (effect, policies)
    carried = {Effect.PERMIT: P, Effect.DENY: D}.get(effect)
    expected = RULES[carried] if carried else None
    assert decision.obligations == (expected.obligations if expected else ())
    assert decision.advice == (expected.advice if expected else ())
    assert decision.reasons == ((expected.reason,) if expected else ())


def test_unless() -> None:
    """`unless` excepts what it is true of, and leaves unknown what it is unknown of."""
    rules = [permit("rule", when=context.a == 1, unless=context.b == 1)]
    assert ask(rules, a=1, b=2).effect is Effect.PERMIT
    assert ask(rules, a=1, b=1).effect is Effect.NOT_APPLICABLE
    assert ask(rules, a=2).effect is Effect.NOT_APPLICABLE
    assert ask(rules, a=1).effect is Effect.INDETERMINATE
    assert ask([permit("rule", unless=context.b == 1)], b=2).effect is Effect.PERMIT


def test_many_in_doubt_are_bounded() -> None:
    """An indeterminate decision names the first rules in doubt, by id, and no more than a few."""
    rules = [permit(f"r{number:04}", when=subject.roles.contains(f"role-{number}")) for number in range(500)]
    assert ask(rules).policies == tuple(f"r{number:04}" for number in range(MAX_NAMED))


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: PolicySet([permit("a"), deny("a")]), "`a`"),
        (lambda: PolicySet(permit("a")), "list of rules"),  # type: ignore[arg-type]
        (lambda: PolicySet(["a"]), "`str`"),  # type: ignore[list-item]
        (lambda: PolicySet([lambda _: True]), "`function`"),  # type: ignore[list-item]
        (lambda: PolicySet([], revision=""), "revision"),
        (lambda: PolicySet([], revision=5), "revision"),  # type: ignore[arg-type]
        (lambda: permit(""), "id"),
        (lambda: permit(5), "id"),  # type: ignore[arg-type]
        (lambda: permit("x" * 600), "id"),
        (lambda: permit("a", reason=""), "reason"),
        (lambda: permit("a", reason=5), "reason"),  # type: ignore[arg-type]
        (lambda: permit("a", obligations=Obligation("b")), "obligations"),  # type: ignore[arg-type]
        (lambda: permit("a", obligations=["b"]), "obligations"),  # type: ignore[list-item]
        (lambda: permit("a", advice="b"), "advice"),  # type: ignore[arg-type]
        (lambda: PolicySet([permit("a", obligations=[Obligation("b", {"c": 2**60})])]), "2\\*\\*53"),
    ],
)
def test_wrong_wiring(make: Callable[[], object], word: str) -> None:
    """What is no rule, or a part of one of another type, is refused at construction."""
    with pytest.raises(ConfigurationError, match=word):
        make()


@pytest.mark.parametrize(
    ("condition", "pure"),
    [
        (resource.owner == subject.id, True),
        (now.after(5, skew=1), False),
        ((resource.a == 1) | (has(resource.b) & ~now.daily("08:00", "18:00", zone="UTC", skew=0)), False),
        (context.at.after(5, skew=1), True),
        (context.at.before(resource.until, skew=1), True),
        (predicate(lambda _: True, "p"), False),
    ],
)
def test_pure(condition: Any, pure: bool) -> None:
    """Policies are pure unless a rule reads the clock or calls Python, in `when` or `unless`."""
    assert PolicySet([permit("a", when=condition), permit("b")]).pure is pure
    assert PolicySet([permit("a", unless=condition)]).pure is pure
    assert PolicySet([]).pure is True


def test_clock_is_read_once() -> None:
    """A batch is decided at one moment, and pure policies never ask for it."""
    moments = iter(range(100))

    def clock() -> float:
        return float(next(moments))

    request = AccessRequest(Subject("user", "ann"), "read", Resource("doc", "1"))
    early = PolicySet([permit("early", when=now.before(1, skew=0))], clock=clock)
    assert [one.effect for one in early.decide_many([request] * 3)] == [Effect.PERMIT] * 3
    assert early.decide(request).effect is Effect.NOT_APPLICABLE
    PolicySet([permit("always")], clock=clock).decide(request)
    assert next(moments) == 2


def test_attributes() -> None:
    """A set tells its name, size, revision and rules by id."""
    policies = PolicySet([permit("b"), deny("a")], revision="7")
    assert (policies.name, len(policies), policies.revision) == ("policies", 2, "7")
    assert [rule.id for rule in policies.rules] == ["a", "b"]
    assert repr(policies) == "<PolicySet of 2 rules, revision 7>"
    request = AccessRequest(Subject("user", "ann"), Action("read"), Resource("doc", "1"))
    assert policies.decide(request).revision == "7"


def test_kinds_of_requests_are_bounded() -> None:
    """However many actions are asked for, what is remembered of them is bounded."""
    policies = PolicySet([permit("a", action="a5", resource="doc")])
    for number in range(MAX_REMEMBERED + 10):
        request = AccessRequest(Subject("user", "ann"), f"a{number}", Resource("doc", "1"))
        assert (policies.decide(request).effect is Effect.PERMIT) == (number == 5)
    assert len(policies._index._remembered) <= MAX_REMEMBERED


def test_shapes_are_bounded() -> None:
    """Conditions of more shapes than are compiled are decided all the same."""
    rules = [permit(f"r{number}", when=has(context[f"a{number}"])) for number in range(MAX_SHAPES + 5)]
    for number in (0, MAX_SHAPES + 4):
        assert ask(rules, **{f"a{number}": 1}).policies == (f"r{number}",)
    compiler = Compiler(most=1)
    assert compiler.compile(has(context.a))[0] is compiler.compile(has(context.a))[0]
    assert compiler.compile(has(context.b))[1] == (has(context.b),)
    assert not (compiler.compile(now.after(5, skew=0)) and compiler.pure)


def test_source_holds_no_text_of_policies() -> None:
    """A hostile name or constant is data to the compiled condition, whatever it looks like."""
    hostile = "'); __import__('os').abort() #"
    rules = [permit(hostile, when=(resource[hostile][hostile] == hostile) & resource[hostile].b.in_([hostile]))]
    what = Resource("doc", "1", {hostile: {hostile: hostile, "b": hostile}})
    assert ask(rules, what=what).policies == (hostile,)


def test_collector_is_left_as_it_was() -> None:
    """Loading turns the garbage collector off for its time only, also when it fails."""
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            PolicySet([permit("a")])
            with pytest.raises(ConfigurationError):
                PolicySet([permit("a"), permit("a")])
            assert gc.isenabled() is enabled
        finally:
            gc.enable()


@pytest.mark.parametrize("key", [("a",), ("a", "b"), ("1:a", "b"), ("", ":"), ("a", "", "2:b"), ("é:", "12:", "x")])
def test_keys_are_injective(key: tuple[str, ...]) -> None:
    """A joined key is read back to its parts, whatever they contain."""
    assert split(join(key), len(key)) == key


def test_public_names() -> None:
    """The public names are these, sorted, and there."""
    assert pep.policy.__all__ == sorted(pep.policy.__all__)
    assert all(hasattr(pep.policy, name) for name in pep.policy.__all__)


#: The rules of the published Todo scenario, over roles and e-mail of the subject.
TODO = [
    permit("read-users", action="can_read_user", resource="user"),
    permit("read-todos", action="can_read_todos", resource="todo"),
    permit("create", action="can_create_todo", resource="todo", when=subject.roles.intersects(["admin", "editor"])),
    permit("update-any", action="can_update_todo", resource="todo", when=subject.roles.contains("evil_genius")),
    permit("delete-any", action="can_delete_todo", resource="todo", when=subject.roles.contains("admin")),
    permit(
        "own",
        action=["can_update_todo", "can_delete_todo"],
        resource="todo",
        when=subject.roles.contains("editor") & (resource.ownerID == subject.email),
    ),
]


def test_todo_scenario(vectors: Path) -> None:
    """All 40 decisions and 3 batches of the AuthZEN Todo scenario are as published."""
    users = json.loads((vectors / "authzen" / "todo_users.json").read_bytes())
    cases = json.loads((vectors / "authzen" / "todo_decisions.json").read_bytes())
    policies = PolicySet(TODO)

    def permitted(told: dict[str, Any]) -> bool:
        request = AccessRequest.from_dict(told)
        who = Subject("user", request.subject.id, users[request.subject.id])
        return policies.decide(request.evolve(subject=who)).effect is Effect.PERMIT

    single = cases["evaluation"]
    assert [permitted(case["request"]) for case in single] == [case["expected"] for case in single]
    batches = cases["evaluations"]
    for batch in batches:
        shared = {name: part for name, part in batch["request"].items() if name != "evaluations"}
        told = [permitted(shared | one) for one in batch["request"]["evaluations"]]
        assert told == [one["decision"] for one in batch["expected"]]
    assert (len(single), len(batches)) == (40, 3)


def test_hostile_values_run_nothing() -> None:
    """Values that lie about their type or equality never reach a condition: the request refuses them."""

    class Liar(str):
        __slots__ = ()

        def __eq__(self, _other: object) -> bool:
            raise AssertionError

        __hash__ = str.__hash__

    with pytest.raises(Exception, match="Liar"):
        ask([permit("a", when=resource.owner == "ann")], what=Resource("doc", "1", {"owner": Liar("ann")}))
    assert action is pep.policy.action
