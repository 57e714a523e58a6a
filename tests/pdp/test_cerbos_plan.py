"""Cerbos's query plans become row filters exactly, or not at all: never a wider one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep import AccessRequest, Action, Decision, Effect, Resource, Subject
from pep.clock import SystemClock
from pep.drive import Performer, run
from pep.errors import PDPMismatched, PDPReplyError
from pep.exchange import HTTPRequest
from pep.pdp.cerbos import CerbosPDP
from pep.policy.parse import parse
from pep.policy.partial import AllowAll, Conditional, DenyAll
from pep.policy.text import to_text
from pep.testing.transport import ScriptedTransport
from pep.transport import HTTPTransport
from tests.cerbos_server import cerbos_servers, resource_policy, rule
from tests.proving import times

URL = "http://127.0.0.1:3592"
ALICE = Subject("user", "alice", {"n": 1, "list": ["a", "b"], "on": True})


def had(plan: Any) -> Any:
    return run(plan, Performer(SystemClock()))


def planning(told: object, **changes: Any) -> Any:
    """Answer with a filter, and its check with a permit."""

    def answer(request: HTTPRequest) -> object:
        asked = orjson.loads(request.body)
        echo = {"requestId": asked["requestId"]}
        if request.url.endswith("/api/plan/resources"):
            kind = asked["resource"]["kind"]
            return {**echo, "action": asked["action"], "resourceKind": kind, "filter": told, **changes}
        entry = asked["resources"][0]
        resource = {name: entry["resource"][name] for name in ("kind", "id")}
        result = {"resource": resource, "actions": dict.fromkeys(entry["actions"], "EFFECT_ALLOW")}
        return {**echo, "results": [{**result, **changes.get("checked", {})}]}

    return answer


def rows(told: object, **changes: Any) -> Any:
    pdp = CerbosPDP(URL, transport=ScriptedTransport(planning(told, **changes)))
    return had(pdp.row_filter(ALICE, "view", "document", context={}))


def of(operator: str, *operands: object) -> dict[str, Any]:
    return {"expression": {"operator": operator, "operands": list(operands)}}


def value(told: object) -> dict[str, Any]:
    return {"value": told}


def attr(name: str) -> dict[str, Any]:
    return {"variable": f"request.resource.attr.{name}"}


def conditional(told: object) -> dict[str, Any]:
    return {"kind": "KIND_CONDITIONAL", "condition": told}


X, Y, ID, T = attr("x"), attr("y"), {"variable": "request.resource.id"}, {"variable": "t"}
MISSING = of("get-field", of("struct", of("set-field", value("list"), value(["a"]))), {"variable": "missing"})


def some(collection: object, body: object) -> dict[str, Any]:
    return of("exists", collection, of("lambda", body, T))


TRANSLATED = {
    "eq": (of("eq", X, value("a")), 'resource.x == "a"'),
    "ne": (of("ne", X, value(1)), "resource.x != 1"),
    "lt": (of("lt", X, value(1.5)), "resource.x < 1.5"),
    "le": (of("le", X, value("b")), 'resource.x <= "b"'),
    "gt": (of("gt", X, Y), "resource.x > resource.y"),
    "ge": (of("ge", X, value(-1)), "resource.x >= -1"),
    "mirrored": (of("gt", value(5), X), "resource.x < 5"),
    "a boolean": (of("eq", X, value(told=True)), "resource.x == True"),
    "an attribute that is a boolean": (X, "resource.x == True"),
    "not": (of("not", X), "~(resource.x == True)"),
    "and": (
        of("and", X, Y, of("eq", ID, value("1"))),
        '(resource.x == True) & (resource.y == True) & (resource.id == "1")',
    ),
    "or": (of("or", X, Y), "(resource.x == True) | (resource.y == True)"),
    "one of one": (of("and", X), "resource.x == True"),
    "in a list": (of("in", X, value(["a", "b"])), 'resource.x.in_(["a", "b"])'),
    "in numbers": (of("in", X, value([1, 2.5])), "resource.x.in_([1, 2.5])"),
    "in an attribute": (of("in", value("a"), X), 'resource.x.contains("a")'),
    "in another attribute": (of("in", X, Y), "resource.y.contains(resource.x)"),
    "starts with": (of("startsWith", X, value("a")), 'resource.x.starts_with("a")'),
    "ends with": (of("endsWith", X, value("a")), 'resource.x.ends_with("a")'),
    "contains": (of("contains", X, value("a")), 'resource.x.contains_text("a")'),
    "intersects": (of("hasIntersection", X, value(["a"])), 'resource.x.intersects(["a"])'),
    "intersects an attribute": (of("hasIntersection", X, Y), "resource.x.intersects(resource.y)"),
    "exists, equal": (some(X, of("eq", T, value("a"))), 'resource.x.contains("a")'),
    "exists, equal to an attribute": (some(X, of("eq", T, Y)), "resource.x.contains(resource.y)"),
    "exists, mirrored": (some(X, of("eq", value("a"), T)), 'resource.x.contains("a")'),
    "exists, in": (some(X, of("in", T, value(["a"]))), 'resource.x.intersects(["a"])'),
    "nested": (of("eq", attr("x.y"), value(1)), "resource.x.y == 1"),
    "indexed": (of("eq", of("index", attr("x"), value("a-b")), value(1)), 'resource.x["a-b"] == 1'),
    "indexed at once": (
        of("eq", of("index", {"variable": "R.attr"}, value("a.b")), value(1)),
        'resource["a.b"] == 1',
    ),
    "by its alias": (of("eq", {"variable": "R.id"}, value("1")), 'resource.id == "1"'),
    "not null": (of("ne", X, value(None)), "has(resource.x)"),
    "null mirrored": (of("ne", value(None), X), "has(resource.x)"),
    "not equal to null": (of("not", of("eq", X, value(None))), "~~has(resource.x)"),
    "or what is an error": (of("or", X, of("eq", Y, MISSING)), "resource.x == True"),
    "and not what is an error": (of("or", X, of("not", of("and", Y, of("eq", Y, MISSING)))), None),
}


def text_of(filtered: object) -> str:
    assert isinstance(filtered, Conditional)
    return to_text(filtered.condition)


@pytest.mark.parametrize(("told", "wanted"), TRANSLATED.values(), ids=TRANSLATED)
def test_an_expression_is_a_condition(told: dict[str, Any], wanted: str | None) -> None:
    """Each operator that conditions have, over properties and the id."""
    found = text_of(rows(conditional(told)))
    if wanted is not None:
        assert found == to_text(parse(wanted))


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ({"kind": "KIND_ALWAYS_ALLOWED"}, AllowAll()),
        ({"kind": "KIND_ALWAYS_DENIED"}, DenyAll()),
        (conditional(value(told=True)), AllowAll()),
        (conditional(value(told=False)), DenyAll()),
        (conditional(of("or", X, value(told=True))), AllowAll()),
        (conditional(of("and", X, of("not", value(told=True)))), DenyAll()),
        (conditional(of("and", value(told=True), value(told=True))), AllowAll()),
        (conditional(of("eq", X, MISSING)), DenyAll()),
        (conditional(of("not", of("eq", X, MISSING))), DenyAll()),
        (conditional(some(X, of("eq", T, MISSING))), DenyAll()),
    ],
)
def test_everything_and_nothing_are_told_apart(told: dict[str, Any], wanted: object) -> None:
    """What is an error for every row lets none through."""
    assert rows(told) == wanted


REFUSED = {
    "arithmetic": of("eq", of("add", X, value(1)), value(2)),
    "a size": of("gt", of("size", X), value(1)),
    "a condition of three": of("if", X, Y, Y),
    "a moment": of("lt", of("timestamp", X), of("timestamp", value("2026-01-01T00:00:00Z"))),
    "a pattern": of("matches", X, value("a")),
    "all": of("all", X, of("lambda", of("eq", T, value("a")), T)),
    "an operator that is none": of("eq()", X, Y),
    "another operator of one": of("isSet", X),
    "more about a member": some(X, of("eq", {"variable": "t.name"}, value("a"))),
    "another variable": some(X, of("eq", {"variable": "u"}, value("a"))),
    "a member and itself": some(X, of("eq", T, T)),
    "a member and more": some(X, of("and", of("eq", T, value("a")), Y)),
    "a lambda of nothing": of("exists", X, of("lambda", T)),
    "is null": of("eq", X, value(None)),
    "is not unequal to null": of("not", of("ne", X, value(None))),
    "an id that is null": of("ne", ID, value(None)),
    "what is an error is null": of("ne", MISSING, value(None)),
    "a null in a list": of("in", X, value(["a", None])),
    "a list in a list": of("in", X, value([["a"]])),
    "a list as a member": of("in", value(["a"]), X),
    "a member of a text": of("in", X, value("abc")),
    "a mapping": of("eq", X, of("struct", of("set-field", value("a"), value(1)))),
    "a value that is a mapping": of("eq", X, value({"a": 1})),
    "a list with an attribute": of("in", X, of("list", Y, value("a"))),
    "numbers in common": of("hasIntersection", X, value([1])),
    "a text in common": of("hasIntersection", X, value("a")),
    "a number in a text": of("contains", X, value(1)),
    "a list in a text": of("startsWith", X, value(["a"])),
    "ordered booleans": of("lt", X, value(told=True)),
    "a number that was rounded": of("lt", X, value(2**53)),
    "two constants": of("eq", value(1), value(1)),
    "another part of the resource": of("eq", {"variable": "request.resource.policyVersion"}, value("v")),
    "the principal": of("eq", {"variable": "request.principal.attr.x"}, value("v")),
    "all attributes": of("eq", {"variable": "request.resource.attr"}, value("v")),
    "a name that is none": of("eq", {"variable": "request.resource.attr.a-b"}, value("v")),
    "an empty name": of("eq", {"variable": "request.resource.attr..x"}, value("v")),
    "an index of a constant": of("eq", of("index", value("a"), value("b")), value("v")),
    "an index that is a number": of("eq", of("index", X, value(0)), value("v")),
    "an index that is an attribute": of("eq", of("index", X, Y), value("v")),
    "a member that is there": of("eq", X, of("get-field", MISSING["expression"]["operands"][0], {"variable": "list"})),
    "a member of something else": of("eq", X, of("get-field", Y, {"variable": "z"})),
    "a member of something odd": of("eq", X, of("get-field", of("struct", Y), {"variable": "z"})),
    "a text as a condition": value("true"),
    "a number as a condition": value(1),
    "nothing": None,
    "no operand": {},
    "an operand that is two": {"value": True, "variable": "request.resource.attr.x"},
    "a side that is two": of("eq", X, {"value": 1, "variable": "request.resource.attr.x"}),
    "a side that is a text": of("eq", X, "a"),
    "and of nothing": of("and"),
    "not of two": of("not", X, Y),
    "an expression without operands": {"expression": {"operator": "and"}},
    "too large a condition": of("or", *[of("eq", X, value(number)) for number in range(1100)]),
}


@pytest.mark.parametrize("told", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_said_exactly_is_refused(told: object) -> None:
    """Also where it stands beside something that can be."""
    for whole in (told, of("and", X, told), of("or", of("not", of("not", told)), X)):
        with pytest.raises(PDPReplyError):
            rows(conditional(whole))


UNPLANNED = {
    "no filter": None,
    "a filter that is a text": "KIND_ALWAYS_ALLOWED",
    "no kind": {},
    "another kind": {"kind": "KIND_ALLOWED"},
    "a kind that is a list": {"kind": ["KIND_ALWAYS_ALLOWED"]},
    "no condition": {"kind": "KIND_CONDITIONAL"},
}


@pytest.mark.parametrize("told", UNPLANNED.values(), ids=UNPLANNED)
def test_a_plan_that_is_none_is_refused(told: object) -> None:
    """Only three kinds are known."""
    with pytest.raises(PDPReplyError):
        rows(told)


@pytest.mark.parametrize("changes", [{"requestId": "x"}, {"action": "edit"}, {"resourceKind": "folder"}])
def test_the_plan_of_something_else_is_refused(changes: dict[str, Any]) -> None:
    """Request, action and kind come back as they were sent."""
    with pytest.raises(PDPMismatched):
        rows({"kind": "KIND_ALWAYS_ALLOWED"}, **changes)


def test_what_is_not_valid_is_not_planned() -> None:
    """A request that the server's schemas refuse has no filter."""
    wrong = [{"path": "/a", "source": "SOURCE_PRINCIPAL"}]
    with pytest.raises(PDPReplyError, match="schemas"):
        rows({"kind": "KIND_ALWAYS_ALLOWED"}, validationErrors=wrong)


def test_everything_is_sent_but_the_resource() -> None:
    """Subject, context, actors, tenant and the action's properties; of the resource its kind."""
    transport = ScriptedTransport(planning({"kind": "KIND_ALWAYS_DENIED"}))
    pdp = CerbosPDP(URL, transport=transport, version="v2")
    acting = {"actors": [Subject("agent", "bot")], "tenant": "acme"}
    had(pdp.row_filter(ALICE, Action("view", {"via": "api"}), "document", context={"hour": 9}, **acting))
    body = transport.bodies[0]
    assert set(body) == {"requestId", "action", "principal", "resource"}
    assert body["resource"] == {"kind": "document", "attr": {"$action": {"via": "api"}}, "policyVersion": "v2"}
    beside = {name: body["principal"]["attr"][name] for name in ("$context", "$actors", "$tenant")}
    assert beside == {"$context": {"hour": 9}, "$actors": [{"type": "agent", "id": "bot"}], "$tenant": "acme"}


OUTPUT = {"src": "p#r", "val": {"obligation": {"type": "redact"}}, "action": "view"}


@pytest.mark.parametrize("checked", [{"actions": {"view": "EFFECT_DENY"}}, {"outputs": [OUTPUT]}])
def test_a_plan_for_every_row_has_to_hold(checked: dict[str, Any]) -> None:
    """A resource without attributes must be permitted too, and without obligations; unless that is turned off."""
    told = {"kind": "KIND_ALWAYS_ALLOWED"}
    with pytest.raises(PDPReplyError, match="without attributes"):
        rows(told, checked=checked)
    pdp = CerbosPDP(URL, transport=ScriptedTransport(planning(told, checked=checked)), check_plans=False)
    assert had(pdp.row_filter(ALICE, "view", "document", context={})) == AllowAll()


TREES = st.recursive(
    st.sampled_from([X, Y, ID, T, MISSING, value("a"), value(told=True), value(None), value([1]), None, "x", {}]),
    lambda inner: st.builds(
        lambda operator, operands: of(operator, *operands),
        st.sampled_from(["and", "or", "not", "eq", "ne", "lt", "in", "exists", "lambda", "index", "get-field", "size"]),
        st.lists(inner, max_size=3),
    ),
    max_leaves=12,
)


@settings(max_examples=times(150, 50_000), deadline=None)
@given(TREES)
def test_any_tree_is_a_filter_or_refused(told: object) -> None:
    """Nothing a server may send is anything but a filter or a `PDPReplyError`."""
    try:
        found = rows(conditional(told))
    except PDPReplyError:
        return
    assert isinstance(found, AllowAll | DenyAll | Conditional)


ATOMS = (
    "R.attr.x == 1",
    "R.attr.x != 'a'",
    "R.attr.x < 2",
    "R.attr.x >= 1",
    "3 > R.attr.x",
    "R.attr.x < 'b'",
    "R.attr.x == true",
    "R.attr.x == R.attr.y",
    "R.attr.x in [1, 2]",
    "R.attr.x in ['a', 1]",
    f"R.attr.x in {list(range(40))}",
    "'a' in R.attr.x",
    "R.attr.x in R.attr.y",
    "R.attr.x in P.attr.list",
    "R.attr.x",
    "R.attr.x.startsWith('a')",
    "'abc'.startsWith(R.attr.x)",
    "R.attr.x.contains(R.attr.y)",
    "R.attr.x.endsWith('b')",
    "R.id == '1'",
    "R.attr.x == ['a']",
    "R.attr.x.exists(t, t == 'a')",
    "R.attr.x.exists(t, t in ['a', 'b'])",
    "hasIntersection(R.attr.x, ['a'])",
    f"hasIntersection(R.attr.x, {[str(number) for number in range(40)]} + ['a'])",
    "hasIntersection(R.attr.x, R.attr.y)",
    "R.attr['x'] == P.attr.n",
    "R.attr.x != null",
    "R.attr.x == null",
    "R.attr.x == P.attr.missing",
    "R.attr.x.k == 1",
    "R.attr.x == P.id",
    "P.attr.on == true",
)
VALUES = (
    [None, 0, 1, 2, 1.0, 1.5, True, False, "a", "ab", "b", "7", "", "alice"],
    [[], ["a"], ["b", "7"], ["a", 1], [1], [1.0], [None], {"k": 1}, {"a": 1}, {}],
)


def expression(chance: random.Random, depth: int) -> str:
    drawn = chance.random()
    if depth == 0 or drawn < 0.3:
        return chance.choice(ATOMS).replace(".y", "." + chance.choice("xy"))
    one, other = expression(chance, depth - 1), expression(chance, depth - 1)
    return f"!({one})" if drawn > 0.8 else f"({one} {'&&' if drawn < 0.55 else '||'} {other})"


def properties(chance: random.Random) -> dict[str, Any]:
    drawn = {name: chance.choice([*VALUES[0], *VALUES[1]]) for name in "xy"}
    return {name: one for name, one in drawn.items() if chance.random() > 0.15}


EXPRESSIONS = times(30, 1_000)
ROWS = times(20, 50)
#: One policy has no more rules than it can be read with quickly.
CHUNK = 100


@pytest.fixture(scope="module")
def transport() -> Iterator[HTTPTransport]:
    with HTTPTransport() as made:
        yield made


def test_a_filter_lets_through_what_a_check_permits(transport: HTTPTransport) -> None:
    """
    Generated policies and rows, with the real server: a row that is let through is permitted, always.

    And one that is permitted is let through, where no attribute is missing or of a kind the policy does not expect.
    """
    chance = random.Random(1)  # noqa: S311  no secret
    allowed = [*ATOMS, *[f"!({atom})" for atom in ATOMS], *[expression(chance, 3) for _ in range(EXPRESSIONS)]]
    denied = [(expression(chance, 2), expression(chance, 2)) for _ in range(EXPRESSIONS // 3)]
    rules = [(f"a{number}", [rule(f"a{number}", when=one)]) for number, one in enumerate(allowed)]
    for number, (permits, denies) in enumerate(denied):
        action = f"d{number}"
        rules.append((action, [rule(action, when=permits), rule(action, when=denies, deny=True)]))
    chunks = [rules[start : start + CHUNK] for start in range(0, len(rules), CHUNK)]
    policies = {
        f"kind{number}": resource_policy(f"kind{number}", *[one for _action, both in chunk for one in both])
        for number, chunk in enumerate(chunks)
    }
    compared = refused = exact = 0
    with cerbos_servers() as start:
        pdp = CerbosPDP(start(policies).url, transport=transport)
        for number, chunk in enumerate(chunks):
            for action, _rules in chunk:
                try:
                    found = had(pdp.row_filter(ALICE, action, f"kind{number}", context={}))
                except PDPReplyError:
                    refused += 1
                    continue
                resources = [Resource(f"kind{number}", str(row), properties(chance)) for row in range(ROWS)]
                asked = [AccessRequest(ALICE, action, resource) for resource in resources]
                for resource, decision in zip(resources, had(pdp.decide_many(asked)), strict=True):
                    lets_through, permits = found.matches(resource) is True, decision.effect is Effect.PERMIT
                    assert permits or not lets_through, (action, resource.properties, found)
                    compared += 1
                    exact += lets_through is permits
    assert compared > len(rules) * ROWS // 2
    assert refused < len(rules) // 2
    # What is told apart only by what is missing, or of an unexpected kind, is little.
    assert exact > compared * 0.8


NUMBERS = ("R.attr.x == 1", "R.attr.x < R.attr.y", "R.attr.x >= 2", "R.attr.y in [0, 2]", "R.attr.x != R.attr.y")


def test_of_rows_with_all_their_attributes_it_lets_through_exactly_those(transport: HTTPTransport) -> None:
    """With the real server; rules that deny among them."""
    chance = random.Random(2)  # noqa: S311  no secret

    def numeric(depth: int) -> str:
        if depth == 0:
            return chance.choice(NUMBERS)
        one, other = numeric(depth - 1), numeric(depth - 1)
        return chance.choice([f"!({one})", f"({one} && {other})", f"({one} || {other})"])

    wanted = [(numeric(2), numeric(2)) for _ in range(times(10, 200))]
    rules = [
        one
        for number, (permits, denies) in enumerate(wanted)
        for one in (rule(f"d{number}", when=permits), rule(f"d{number}", when=denies, deny=True))
    ]
    resources = [
        Resource("row", f"{one}-{other}", {"x": one, "y": other}) for one in (0, 1, 2, 3) for other in (0, 1.0, 2)
    ]
    with cerbos_servers() as start:
        pdp = CerbosPDP(start({"row": resource_policy("row", *rules)}).url, transport=transport)
        for number in range(len(wanted)):
            found = had(pdp.row_filter(ALICE, f"d{number}", "row", context={}))
            asked = [AccessRequest(ALICE, f"d{number}", resource) for resource in resources]
            answers = had(pdp.decide_many(asked))
            permitted = [type(one) is Decision and one.effect is Effect.PERMIT for one in answers]
            assert [found.matches(resource) is True for resource in resources] == permitted, wanted[number]


def test_has_is_not_taken_for_every_row(transport: HTTPTransport) -> None:
    """The planner takes `has` for true; a filter for every row that rests on it is refused."""
    rules = [
        rule("has", when="has(R.attr.x)"),
        rule("all"),
        rule("owed", name="owed", output='{"obligation": {"type": "redact"}}'),
        rule("mine", when='P.attr["$context"].hour == 9.0 && P.attr["$tenant"] == "acme"'),
    ]
    with cerbos_servers() as start:
        pdp = CerbosPDP(start({"row": resource_policy("row", *rules)}).url, transport=transport)
        for action in ("has", "owed"):
            with pytest.raises(PDPReplyError, match="without attributes"):
                had(pdp.row_filter(ALICE, action, "row", context={}))
        assert had(pdp.row_filter(ALICE, "all", "row", context={})) == AllowAll()
        assert had(pdp.row_filter(ALICE, "mine", "row", context={"hour": 9}, tenant="acme")) == AllowAll()
        assert had(pdp.row_filter(ALICE, "mine", "row", context={"hour": 9}, tenant="other")) == DenyAll()
        assert had(pdp.row_filter(ALICE, "none", "row", context={})) == DenyAll()
