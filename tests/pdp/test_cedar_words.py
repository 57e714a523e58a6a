"""How requests are said in Cedar, and which cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings

from pep import AccessRequest, Action, Resource, Subject
from pep.errors import PDPError, PDPReplyError
from pep.pdp.cedar import CedarPDP
from pep.plan import Raised
from pep.testing.conformance import HOSTILE
from tests import values
from tests.pdp.cedar_cases import (
    ALICE,
    ALL,
    DOCUMENT,
    PERMIT,
    REQUEST,
    effect,
    when,
)
from tests.proving import times

IDS = [*HOSTILE, "alice", 'alice"', 'alice\\"', "\\u{61}lice", 'a"::user::"b', "\U0001f600", "\u212a", "K"]


@pytest.mark.parametrize("owner", IDS, ids=map(ascii, range(len(IDS))))
def test_ids_are_opaque(owner: str) -> None:
    """An id is itself and no other, whatever is in it."""
    pdp = CedarPDP(when("resource.owner == principal && resource.named == principal.own"), references={"owner": "user"})
    for name in IDS:
        document = Resource("document", owner, {"owner": owner, "named": owner})
        decided = pdp.decide(AccessRequest(Subject("user", name, {"own": name}), owner.replace("*", ""), document))
        assert (decided.effect is PERMIT) is (name == owner)


@given(values.requests)
@settings(max_examples=times(200, 10_000))
def test_any_request_is_answered_or_refused(request: AccessRequest) -> None:
    """What cannot be said is a `PDPError`; a request is never changed."""
    before = request.key
    try:
        decided = CedarPDP(ALL).decide(request)
    except PDPError:
        pass
    else:
        assert decided.effect is PERMIT
    assert request.key == before


def _of(properties: Mapping[str, Any]) -> AccessRequest:
    return AccessRequest(ALICE, "read", Resource("document", "1", properties))


#: What is asked → options, the policy's condition, whether it holds.
SAID: dict[str, tuple[dict[str, Any], str, AccessRequest]] = {
    "text": ({}, 'resource.x == "1"', _of({"x": "1"})),
    "a number is no text": ({}, 'resource.x != "1"', _of({"x": 1})),
    "the least integer": ({}, "resource.x == -9223372036854775808", _of({"x": -(2**63)})),
    "the greatest integer": ({}, "resource.x == 9223372036854775807", _of({"x": 2**63 - 1})),
    "true is not one": ({}, "resource.x == true && resource.x != 1", _of({"x": True})),
    "a list is a set": ({}, "resource.x == [2, 1]", _of({"x": [1, 2, 2]})),
    "a mapping is a record": ({}, "resource.x.y == {z: [1]}.z", _of({"x": {"y": [1]}})),
    "any name": ({}, 'resource["a b\\n"] == 1', _of({"a b\n": 1})),
    "null may be absent": ({"nulls": "absent"}, "!(resource has x)", _of({"x": None})),
    "null within may be absent": ({"nulls": "absent"}, "!(resource.x has y)", _of({"x": {"y": None}})),
    "a decimal": ({"decimals": True}, 'resource.x == decimal("1.25")', _of({"x": 1.25})),
    "a whole decimal": ({"decimals": True}, 'resource.x == decimal("-300.0")', _of({"x": -3e2})),
    "decimals in lists": ({"decimals": True}, 'resource.x.contains(decimal("0.1"))', _of({"x": [0.1]})),
    "references": ({"references": {"x": "user"}}, "resource.x.contains(principal)", _of({"x": ["alice", "b"]})),
    "no references": ({"references": {"x": "user"}}, "!(resource has x)", _of({})),
    "parents": ({"parents": {"x": "folder"}}, 'resource in folder::"a" && resource.x == "a"', _of({"x": "a"})),
    "parents of actors": (
        {"parents": {"x": "team"}},
        'context.pep.actors.containsAny([agent::"b"]) && agent::"b" in team::"t" && !(context.pep has chain)',
        AccessRequest(ALICE, "read", DOCUMENT, actors=[Subject("agent", "b", {"x": ["t"]})]),
    ),
    "the order of actors": (
        {},
        'context.pep.chain["0"] == agent::"b" && context.pep.chain["1"] == agent::"a" && agent::"a".k == 1',
        AccessRequest(ALICE, "read", DOCUMENT, actors=[Subject("agent", "b"), Subject("agent", "a", {"k": 1})]),
    ),
    "the tenant": ({}, 'context.pep.tenant == "t"', AccessRequest(ALICE, "read", DOCUMENT, tenant="t")),
    "no tenant": ({}, "!(context has pep)", REQUEST),
    "the action": ({}, "context.pep.action.x == 1", AccessRequest(ALICE, Action("read", {"x": 1}), DOCUMENT)),
    "another envelope": (
        {"envelope": "more"},
        'context.more.tenant == "t" && context.pep == 1',
        AccessRequest(ALICE, "read", DOCUMENT, {"pep": 1}, tenant="t"),
    ),
    "the context": ({}, "context.x.y == 1", AccessRequest(ALICE, "read", DOCUMENT, {"x": {"y": 1}})),
    "a type's name": ({"types": {"user": "User"}}, "principal is User && resource is document", REQUEST),
    "any type": ({"types": {"a-b": "A"}}, "resource is A", REQUEST.about(Resource("a-b", "1"))),
    "swapped types": ({"types": {"user": "document", "document": "user"}}, "principal is document", REQUEST),
    "a namespace": ({"namespace": "N::M"}, 'principal is N::M::user && action == N::M::Action::"read"', REQUEST),
    "an action's type": ({"action_type": "N::Action"}, 'action == N::Action::"read"', REQUEST),
    "a new resource": ({}, 'resource == document::"<new>"', REQUEST.about(Resource.new("document"))),
    "another placeholder": ({"placeholder": "?"}, 'resource == document::"?"', REQUEST.about(Resource.new("document"))),
    "oneself": ({}, "resource == principal", REQUEST.about(Resource("user", "alice"))),
    "oneself, as known": (
        {},
        "resource.x == 1",
        AccessRequest(Subject("user", "alice", {"x": 1}), "read", Resource("user", "alice")),
    ),
    "oneself, told twice": (
        {},
        "resource.x == 1",
        AccessRequest(Subject("user", "alice", {"x": 1}), "read", Resource("user", "alice", {"x": 1})),
    ),
}


@pytest.mark.parametrize(("options", "condition", "request_"), SAID.values(), ids=SAID)
def test_what_is_said(options: dict[str, Any], condition: str, request_: AccessRequest) -> None:
    """Everything of a request reaches Cedar, as documented."""
    assert effect(when(condition), request_, **options) is PERMIT
    assert effect(f"{ALL} forbid(principal, action, resource) unless {{ {condition} }};", request_, **options) is PERMIT


REFUSED: dict[str, tuple[dict[str, Any], AccessRequest]] = {
    "null": ({}, _of({"x": None})),
    "null within": ({}, _of({"x": {"y": None}})),
    "null in a list": ({"nulls": "absent"}, _of({"x": [None]})),
    "a float": ({}, _of({"x": 1.0})),
    "too many digits": ({"decimals": True}, _of({"x": 0.00001})),
    "too large a decimal": ({"decimals": True}, _of({"x": 1e300})),
    "too small a decimal": ({"decimals": True}, _of({"x": -1e15})),
    "a reference by escape": ({}, _of({"x": {"__entity": {"type": "user", "id": "alice"}}})),
    "an extension by escape": ({}, _of({"x": [{"__extn": {"fn": "decimal", "arg": "1.0"}}]})),
    "an expression by escape": ({}, _of({"__expr": "1"})),
    "an escape in the context": ({}, AccessRequest(ALICE, "read", DOCUMENT, {"x": {"__entity": {}}})),
    "an escape in the action": ({}, AccessRequest(ALICE, Action("read", {"__extn": 1}), DOCUMENT)),
    "an escape in an actor": ({}, AccessRequest(ALICE, "read", DOCUMENT, actors=[Subject("a", "b", {"__expr": "1"})])),
    "the envelope": ({}, AccessRequest(ALICE, "read", DOCUMENT, {"pep": {"tenant": "t"}})),
    "the envelope beside a tenant": ({}, AccessRequest(ALICE, "read", DOCUMENT, {"pep": 1}, tenant="t")),
    "the placeholder": ({}, REQUEST.about(Resource("document", "<new>"))),
    "the placeholder as subject": ({}, AccessRequest(Subject("user", "<new>"), "read", DOCUMENT)),
    "the placeholder as reference": ({"references": {"x": "user"}}, _of({"x": "<new>"})),
    "a type that is no name": ({}, REQUEST.about(Resource("a-b", "1"))),
    "a type that is a word": ({}, REQUEST.about(Resource("in", "1"))),
    "a type with a line's end": ({}, REQUEST.about(Resource("document\n", "1"))),
    "a type in another alphabet": ({}, REQUEST.about(Resource("d\u00f6c", "1"))),
    "the type of actions": ({}, REQUEST.about(Resource("Action", "read"))),
    "a type of actions": ({}, REQUEST.about(Resource("a::Action", "read"))),
    "a type that is another's": ({"types": {"user": "document"}}, REQUEST),
    "numbers as references": ({"references": {"x": "user"}}, _of({"x": [1]})),
    "a mapping as references": ({"references": {"x": "user"}}, _of({"x": {}})),
    "an empty reference": ({"parents": {"x": "user"}}, _of({"x": ""})),
    "one's own parent": ({"parents": {"x": "document"}}, _of({"x": "1"})),
    "oneself with more": ({}, REQUEST.about(Resource("user", "alice", {"admin": True}))),
    "oneself with other": (
        {},
        AccessRequest(Subject("user", "alice", {"x": 1}), "read", Resource("user", "alice", {"x": True})),
    ),
    "an actor with other": ({}, AccessRequest(ALICE, "read", DOCUMENT, actors=[Subject("user", "alice", {"x": 1})])),
}


@pytest.mark.parametrize(("options", "request_"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_said_is_refused(options: dict[str, Any], request_: AccessRequest) -> None:
    """Nothing is left out or taken for something else: it is an error, in a batch too."""
    pdp = CedarPDP(ALL, **options)
    with pytest.raises(PDPReplyError):
        pdp.decide(request_)
    (answer,) = pdp.decide_many([request_])
    assert isinstance(answer, Raised)


def test_messages_hold_no_values() -> None:
    """An error names the member; Cedar's own words, which quote the request, are not passed on."""
    secret = "hunter2"
    schema = (
        "entity user { d?: decimal }; entity document; action read appliesTo { principal: user, resource: document };"
    )
    asked = [
        (AccessRequest(Subject("user", "a", {"d": secret}), "read", DOCUMENT), schema),
        (AccessRequest(ALICE, "read", DOCUMENT, {"x": secret}), schema),
        (_of({"x": [secret, None]}), None),
    ]
    for request, shape in asked:
        with pytest.raises(PDPReplyError) as raised:
            CedarPDP(ALL, schema=shape).decide(request)
        assert secret not in f"{raised.value}{raised.value.__cause__}"
        assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize(
    "request_",
    [
        AccessRequest(ALICE, "read", Resource("s3cret-" * 5_000, "1")),
        AccessRequest(ALICE, "read", Resource("line\nbreak s3cret", "1")),
        _of({"s3cret" * 5_000: None}),
        _of({"s3cret\u2028": 0.00001}),
        _of({"outer": {"s3cret": None}}),
        _of({"outer": [{"s3cret": {"s3cret": 0.00001}}]}),
    ],
)
def test_messages_are_short_and_hold_no_keys_of_data(request_: AccessRequest) -> None:
    """A name is told where it fits into a line; of what is nested, the outermost."""
    with pytest.raises(PDPReplyError) as raised:
        CedarPDP(ALL, decimals=True).decide(request_)
    message = str(raised.value)
    assert "s3cret" not in message
    assert len(message) < 200
    assert message.isprintable()
    assert ("`outer`" in message) is ("outer" in request_.resource.properties)


def test_what_is_refused_is_named() -> None:
    """The message names the member, and how to mend it."""
    for decimals, value, told in ((False, 1.5, "`decimals=True`"), (True, 0.00001, "no Cedar decimal")):
        with pytest.raises(PDPReplyError, match=f"^`x` of the resource is or holds a float.*{told}"):
            CedarPDP(ALL, decimals=decimals).decide(_of({"x": value}))
