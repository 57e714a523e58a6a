"""What is sent, and what is read: promise 5 for this adapter."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep import AccessRequest, Decision, Effect, Obligation, Resource, Subject
from pep.errors import PDPReplyError
from pep.pdp.authzen import AuthZENPDP
from pep.pdp.authzen.codec import Codec
from pep.testing.strategies import requests
from pep.testing.transport import ScriptedTransport, replying
from tests.pdp.authzen.rigs import URL, driven, sendable
from tests.proving import times

REQUEST = AccessRequest(Subject("user", "alice"), "edit", Resource("document", "1"))
CODEC = Codec()


def test_everything_of_a_request_is_sent() -> None:
    """No part of a request is dropped: what AuthZEN has no place for is in the context."""
    request = AccessRequest(
        Subject("user", "alice", {"roles": ["editor"]}),
        "edit",
        Resource("document", "1", {"owner": "alice"}),
        {"ip": "192.0.2.1"},
        [Subject("agent", "bot", {"model": "m"})],
        "acme",
    )
    assert orjson.loads(orjson.dumps(CODEC.request(request))) == {
        "subject": {"type": "user", "id": "alice", "properties": {"roles": ["editor"]}},
        "action": {"name": "edit"},
        "resource": {"type": "document", "id": "1", "properties": {"owner": "alice"}},
        "context": {
            "ip": "192.0.2.1",
            "pep": {"tenant": "acme", "actors": [{"type": "agent", "id": "bot", "properties": {"model": "m"}}]},
        },
    }


def test_the_context_is_never_empty() -> None:
    """Some servers answer 400 to an empty one."""
    assert CODEC.request(REQUEST)["context"] == {"pep": {}}
    assert CODEC.request(REQUEST.evolve(context={"a": 1}))["context"] == {"a": 1}
    assert Codec(supported=("log",)).request(REQUEST)["context"] == {"supported_obligations": ["log"]}


@pytest.mark.parametrize("context", [{"pep": {}}, {"pep": None}])
def test_a_context_of_that_name_is_refused(context: dict[str, Any]) -> None:
    """Nobody's own context is taken for a tenant, and no tenant for a context."""
    with pytest.raises(PDPReplyError, match="a member `pep` of its own"):
        CODEC.request(REQUEST.evolve(context=context))
    assert Codec(member="of-pep").request(REQUEST.evolve(context=context))["context"] == context


def test_a_context_that_claims_support_is_refused() -> None:
    """What is supported is told by the adapter, where it is told, and by nobody else."""
    request = REQUEST.evolve(context={"supported_obligations": ["all"]})
    with pytest.raises(PDPReplyError, match="a member `supported_obligations`"):
        Codec(supported=("log",)).request(request)
    assert CODEC.request(request)["context"] == {"supported_obligations": ("all",)}


def test_a_new_resource_has_a_placeholder() -> None:
    """A resource without an id is sent with one that no real one may have."""
    new = REQUEST.evolve(resource=Resource.new("document", {"size": 1}))
    assert CODEC.request(new)["resource"] == {"type": "document", "id": "pep:new", "properties": {"size": 1}}
    with pytest.raises(PDPReplyError, match="stands for a new resource"):
        CODEC.request(REQUEST.evolve(resource=Resource("document", "pep:new")))
    assert Codec(new_id="-").request(new)["resource"]["id"] == "-"


@given(requests().filter(sendable))
@settings(max_examples=times(25, 5_000))
def test_no_two_requests_are_sent_alike(request: AccessRequest) -> None:
    """Whatever is changed of a request changes what is sent."""
    sent = orjson.dumps(CODEC.request(request), option=orjson.OPT_SORT_KEYS)
    changed = [
        request.evolve(tenant=f"{request.tenant}x"),
        request.evolve(actors=[*request.actors, Subject("agent", "x")]),
        request.evolve(context={**request.context, "another": 1}),
        request.evolve(subject=Subject(f"{request.subject.type}x", request.subject.id, request.subject.properties)),
        request.about(Resource(request.resource.type, f"{request.resource.id}x", request.resource.properties)),
    ]
    assert all(orjson.dumps(CODEC.request(one), option=orjson.OPT_SORT_KEYS) != sent for one in changed)


# Replies.

LOG = {"id": "o1", "type": "log", "properties": {}}

READ: dict[str, tuple[Any, Decision]] = {
    "a permit": ({"decision": True}, Decision(Effect.PERMIT)),
    "a denial": ({"decision": False}, Decision(Effect.DENY)),
    "nulls are absent": ({"decision": True, "context": None}, Decision(Effect.PERMIT)),
    "unknown members are ignored": ({"decision": True, "x": 1, "context": {"ui": 1}}, Decision(Effect.PERMIT)),
    "obligations": (
        {"decision": True, "context": {"obligations": [LOG]}},
        Decision(Effect.PERMIT, obligations=[Obligation("log", {}, "o1")]),
    ),
    "obligations of a denial": (
        {"decision": False, "context": {"obligations": [LOG]}},
        Decision(Effect.DENY, obligations=[Obligation("log", {}, "o1")]),
    ),
    "reasons, of both kinds, and none that is no text": (
        {
            "decision": False,
            "context": {"reason_admin": {"403": "policy 7", "x": 1}, "reason_user": "no", "reason": ["no"]},
        },
        Decision(Effect.DENY, reasons=["policy 7", "no"]),
    ),
    "a hint at step-up is advice of a denial": (
        {"decision": False, "context": {"acr_values": "gold silver", "amr_values": ["mfa"], "max_age": "300"}},
        Decision(
            Effect.DENY,
            advice=[
                Obligation("step-up", {"acr_values": ["gold", "silver"], "amr_values": ["mfa"], "max_age": 300}),
            ],
        ),
    ),
    "a hint of a denial that cannot be read is none": (
        {"decision": False, "context": {"acr_values": 3}},
        Decision(Effect.DENY),
    ),
    "a demand of step-up is an obligation of a permit": (
        {"decision": True, "context": {"max_age": 300}},
        Decision(Effect.PERMIT, obligations=[Obligation("step-up", {"max_age": 300})]),
    ),
    "an error is no decision": (
        {"decision": False, "context": {"error": {"status": 404, "message": "not found"}, "evaluation_id": "e1"}},
        Decision(Effect.INDETERMINATE, reasons=["not found"], id="e1"),
    ),
    "an error as a text": (
        {"decision": False, "context": {"error": "x"}},
        Decision(Effect.INDETERMINATE, reasons=["x"]),
    ),
    "an empty error": ({"decision": False, "context": {"error": {}}}, Decision(Effect.INDETERMINATE)),
    "a requestable denial stays one": (
        {"decision": False, "context": {"access_request": {"expires_at": "2030-01-01T00:00:00Z"}}},
        Decision(Effect.DENY),
    ),
    "what a server of this library adds": (
        {
            "decision": True,
            "context": {
                "evaluation_id": "e1",
                "pep": {
                    "policies": ["p"],
                    "revision": "r",
                    "ttl": 5,
                    "advice": [{"type": "hint", "properties": {"a": 1}}],
                },
            },
        },
        Decision(
            Effect.PERMIT, advice=[Obligation("hint", {"a": 1})], policies=["p"], revision="r", ttl=5.0, id="e1"
        ),
    ),
    "not applicable": (
        {"decision": False, "context": {"pep": {"effect": "not_applicable"}}},
        Decision(Effect.NOT_APPLICABLE),
    ),
    "an effect is nothing to a permit": (
        {"decision": True, "context": {"pep": {"effect": "not_applicable"}}},
        Decision(Effect.PERMIT),
    ),
    "no effect makes a permit of a denial": (
        {"decision": False, "context": {"pep": {"effect": "permit"}}},
        Decision(Effect.DENY),
    ),
    "an id that is none": ({"decision": False, "context": {"evaluation_id": 7}}, Decision(Effect.DENY)),
}  # fmt: skip


@pytest.mark.parametrize(("told", "decision"), READ.values(), ids=READ)
def test_what_a_reply_says(told: Any, decision: Decision) -> None:
    """Each row of the table is read as that."""
    assert CODEC.decision(told) == decision


REFUSED: dict[str, Any] = {
    "nothing": {},
    "a list": [True],
    "true": True,
    "none": None,
    "a decision of 1": {"decision": 1},
    "of 1.0": {"decision": 1.0},
    "a text": {"decision": "true"},
    "null": {"decision": None},
    "a list of true": {"decision": [True]},
    "a mapping": {"decision": {"decision": True}},
    "an effect": {"decision": "permit"},
    "another name": {"allowed": True},
    "another case": {"Decision": True},
    "a context that is a list": {"decision": True, "context": []},
    "a context that is a text": {"decision": True, "context": "{}"},
    "a permit with an error": {"decision": True, "context": {"error": {"status": 500}}},
    "a permit to be requested": {"decision": True, "context": {"access_request": {}}},
    "obligations that are no list": {"decision": True, "context": {"obligations": {}}},
    "an obligation without an id": {"decision": True, "context": {"obligations": [{"type": "log", "properties": {}}]}},
    "an obligation twice": {"decision": True, "context": {"obligations": [LOG, LOG]}},
    "a demand of step-up that cannot be read": {"decision": True, "context": {"acr_values": 3}},
    "one that is empty": {"decision": True, "context": {"amr_values": ""}},
    "one with a hole": {"decision": True, "context": {"amr_values": ["mfa", 1]}},
    "an age below zero": {"decision": True, "context": {"max_age": -1}},
    "an age that is true": {"decision": True, "context": {"max_age": True}},
    "a ttl below zero": {"decision": True, "context": {"pep": {"ttl": -1}}},
    "more that is no mapping": {"decision": True, "context": {"pep": 1}},
    "advice that is no list": {"decision": True, "context": {"pep": {"advice": {}}}},
    "advice of nothing": {"decision": True, "context": {"pep": {"advice": [1]}}},
    "advice without a type": {"decision": True, "context": {"pep": {"advice": [{}]}}},
}


@pytest.mark.parametrize("told", REFUSED.values(), ids=REFUSED)
def test_what_is_no_decision(told: Any) -> None:
    """What is not exactly a decision, or says two things at once, is none."""
    with pytest.raises(PDPReplyError):
        CODEC.decision(told)


def test_a_strict_context() -> None:
    """A permit with a context that is not understood may be refused; a denial stays one."""
    strict = Codec(strict_context=True)
    told = {"decision": True, "context": {"must_also": "pray"}}
    assert CODEC.decision(told).effect is Effect.PERMIT
    with pytest.raises(PDPReplyError, match="strict_context"):
        strict.decision(told)
    assert strict.decision({**told, "decision": False}).effect is Effect.DENY
    understood = {"reason": "ok", "obligations": [LOG], "pep": {}, "evaluation_id": "1"}
    assert strict.decision({"decision": True, "context": understood}).effect is Effect.PERMIT


CONTEXTS = st.dictionaries(
    st.sampled_from(["obligations", "reason", "error", "access_request", "pep", "acr_values", "max_age", "x"]),
    st.recursive(
        st.none() | st.booleans() | st.integers(-1, 2) | st.sampled_from(["", "true", "permit", "not_applicable"]),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(["effect", "ttl", "advice", "id", "type", "properties"]), inner, max_size=3
            )
        ),
        max_leaves=4,
    ),
    max_size=3,
)
ODD = st.sampled_from([True, False, 1, 0, 1.0, "true", "True", "permit", None, [], [True], {}, {"decision": True}])
REPLIES = st.builds(
    lambda name, decision, context, whole: {name: decision, **({"context": context} if whole else {})},
    st.sampled_from(["decision"] * 6 + ["Decision", "allowed", "evaluations", ""]),
    ODD,
    CONTEXTS | ODD,
    st.booleans(),
)


@given(REPLIES | ODD)
@settings(max_examples=times(150, 50_000))
def test_only_an_exact_permit_permits(told: Any) -> None:
    """Of any reply at all, only one whose `decision` is ``true`` permits; over the wire, too."""
    pdp = AuthZENPDP(URL, transport=ScriptedTransport(replying(body=orjson.dumps(told))))
    try:
        effect = driven(pdp.decide(REQUEST)).effect
    except PDPReplyError:
        return
    assert (effect is not Effect.PERMIT) or (type(told) is dict and told["decision"] is True)
    assert effect is not Effect.PERMIT or "error" not in (told.get("context") or {}) or not told["context"]["error"]
