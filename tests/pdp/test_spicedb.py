"""SpiceDB's codec: what is sent, what is read, which revision, and that only an exact permit permits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep import AccessRequest, Action, Decision, Effect, Enforcer, Profile, Profiles, Resource, Subject
from pep.audit import MemorySink
from pep.clock import SystemClock
from pep.drive import Performer, run
from pep.errors import (
    ConfigurationError,
    PDPError,
    PDPMismatched,
    PDPOverloaded,
    PDPRejected,
    PDPReplyError,
    PDPUnavailable,
)
from pep.exchange import HTTPRequest
from pep.found import Found
from pep.pdp.spicedb import MAX_FOUND, MOST_LINES, SpiceDBPDP
from pep.plan import Raised
from pep.testing import FakeClock
from pep.testing.transport import ScriptedTransport, replying
from tests.proving import times
from tests.relationship_http import LoopbackTransport, serving
from tests.spicedb_server import KEY, Model, Relationship, real_spicedb, updates

URL = "http://127.0.0.1:8443"
ALICE, DOCUMENT = Subject("user", "alice"), Resource("document", "1")
REQUEST = AccessRequest(ALICE, "view", DOCUMENT)
TOKEN = {"token": "GhUKEzE3"}
HAS, NO, CONDITIONAL = (
    f"PERMISSIONSHIP_{name}" for name in ("HAS_PERMISSION", "NO_PERMISSION", "CONDITIONAL_PERMISSION")
)
LATENCY = {"minimizeLatency": True}
FULLY = {"fullyConsistent": True}
ITEM = {
    "resource": {"objectType": "document", "objectId": "1"},
    "permission": "view",
    "subject": {"object": {"objectType": "user", "objectId": "alice"}},
}
PERMIT = {
    "checkedAt": TOKEN,
    "permissionship": HAS,
    "partialCaveatInfo": None,
    "debugTrace": None,
    "optionalExpiresAt": None,
}


def had(plan: Any) -> Any:
    return run(plan, Performer(SystemClock()))


def asking(*replies: object, **options: Any) -> tuple[SpiceDBPDP, ScriptedTransport]:
    transport = ScriptedTransport(*replies)
    return SpiceDBPDP(URL, transport=transport, **options), transport


def decided(*replies: object, request: AccessRequest = REQUEST, **options: Any) -> tuple[Decision, Any]:
    pdp, transport = asking(*replies, **options)
    return had(pdp.decide(request)), transport.bodies[0]


def test_asks_for_a_permission() -> None:
    """The triple, the consistency, the key, and nothing that is empty."""
    pdp, transport = asking(PERMIT, token="secret")
    assert had(pdp.decide(REQUEST)) == Decision(Effect.PERMIT, revision=TOKEN["token"], ttl=0.0)
    assert transport.bodies == [{"consistency": LATENCY, **ITEM}]
    assert transport.sent[0].url == f"{URL}/v1/permissions/check"
    assert transport.sent[0].headers["authorization"] == "Bearer secret"
    assert "secret" not in repr(pdp) + pdp.name


def test_sends_everything_there_is() -> None:
    """Properties, context, tenant and actors reach the caveats; the permission is the one it is mapped to."""
    request = AccessRequest(
        Subject("user", "alice", {"level": 3}),
        Action("read", {"via": "api"}),
        Resource("document", "1", {"tag": "a"}),
        {"hour": 9, "zedtoken": "new"},
        [Subject("agent", "bot")],
        "acme",
    )
    _decision, body = decided(
        PERMIT,
        request=request,
        permissions={"document:read": "view"},
        parameters={"tenant": "tenant", "actors": "actors"},
    )
    assert body == {
        "consistency": {"atLeastAsFresh": {"token": "new"}},
        **ITEM,
        "context": {
            "hour": 9,
            "subject": {"level": 3},
            "action": {"via": "api"},
            "resource": {"tag": "a"},
            "actors": [{"type": "agent", "id": "bot"}],
            "tenant": "acme",
        },
    }


NOT_SENT = {
    "the wildcard subject": REQUEST.evolve(subject=Subject("user", "*")),
    "the wildcard resource": REQUEST.evolve(resource=Resource("document", "*")),
    "a mail address": REQUEST.evolve(subject=Subject("user", "alice@example.com")),
    "a userset": REQUEST.evolve(subject=Subject("group", "eng#member")),
    "a space": REQUEST.evolve(resource=Resource("document", "a b")),
    "a new line": REQUEST.evolve(resource=Resource("document", "a\n")),
    "a letter beyond ASCII": REQUEST.evolve(resource=Resource("document", "é")),
    "a digit beyond ASCII": REQUEST.evolve(resource=Resource("document", "\u0661")),
    "too long an id": REQUEST.evolve(resource=Resource("document", "x" * 1025)),
    "a short type": REQUEST.evolve(resource=Resource("do", "1")),
    "an upper case type": REQUEST.evolve(resource=Resource("Document", "1")),
    "too long a type": REQUEST.evolve(resource=Resource("abc/" * 40 + "document", "1")),
    "an action": REQUEST.evolve(action="pay:refund"),
    "a tenant": REQUEST.evolve(tenant="acme"),
    "an actor": REQUEST.evolve(actors=[Subject("agent", "bot")]),
    "a new resource": REQUEST.evolve(resource=Resource.new("document")),
    "a token that is none": REQUEST.evolve(context={"zedtoken": 1}),
    "an empty token": REQUEST.evolve(context={"zedtoken": ""}),
}


@pytest.mark.parametrize("request_", NOT_SENT.values(), ids=NOT_SENT)
def test_what_spicedb_cannot_say_is_not_sent(request_: AccessRequest) -> None:
    """Refused closed, before a byte leaves."""
    pdp, transport = asking(PERMIT)
    with pytest.raises(PDPReplyError):
        had(pdp.decide(request_))
    assert not transport.sent


def test_what_cannot_be_said_is_of_its_item_alone() -> None:
    """Its neighbours in a batch are answered; a batch of nothing else is not sent."""
    reply = {"checkedAt": TOKEN, "pairs": [{"request": ITEM, "item": {"permissionship": HAS}}]}
    pdp, transport = asking(reply)
    first, second = had(pdp.decide_many([NOT_SENT["a space"], REQUEST]))
    assert isinstance(first, Raised)
    assert second.effect is Effect.PERMIT
    assert len(transport.bodies[0]["items"]) == 1
    assert had(pdp.decide_many([])) == []
    assert len(transport.sent) == 1


def test_a_token_that_is_none_is_of_its_item_alone() -> None:
    """What one request calls a token refuses no other one."""
    reply = {"checkedAt": TOKEN, "pairs": [{"request": ITEM, "item": {"permissionship": HAS}}]}
    pdp, transport = asking(reply)
    first, second = had(pdp.decide_many([REQUEST.evolve(context={"zedtoken": 1}), REQUEST]))
    assert isinstance(first.error, PDPReplyError)
    assert second.effect is Effect.PERMIT
    assert [body["consistency"] for body in transport.bodies] == [LATENCY]


def test_the_longest_names_are_sent() -> None:
    """1024 bytes of an id, a type with prefixes, 64 of a permission."""
    request = AccessRequest(
        Subject("team/user", "aZ09/_|-=+" * 102), "p" * 64, Resource("abc/def/document", "x" * 1024)
    )
    assert decided(PERMIT, request=request)[0].effect is Effect.PERMIT


def test_a_new_resource_is_sent_as_its_stand_in() -> None:
    """And a real one with that id is refused."""
    new = REQUEST.evolve(resource=Resource.new("document"))
    assert decided(PERMIT, request=new, new="new")[1]["resource"]["objectId"] == "new"
    with pytest.raises(PDPReplyError, match="stands for a new one"):
        decided(PERMIT, new="1")


@pytest.mark.parametrize(
    ("permissionship", "effect"), [(HAS, Effect.PERMIT), (NO, Effect.DENY), (CONDITIONAL, Effect.INDETERMINATE)]
)
def test_a_permissionship_is_an_effect(permissionship: str, effect: Effect) -> None:
    """Only the one that says so permits; a condition that cannot be judged is indeterminate."""
    assert decided({"checkedAt": TOKEN, "permissionship": permissionship})[0].effect is effect


def test_missing_context_is_the_reason() -> None:
    """The record tells which."""
    told = {**PERMIT, "permissionship": CONDITIONAL, "partialCaveatInfo": {"missingRequiredContext": ["ip", "hour"]}}
    decision, _body = decided(told)
    assert decision.effect is Effect.INDETERMINATE
    assert decision.reasons == ("missing context: ip, hour",)


NO_ANSWERS: list[Any] = [
    {},
    {"permissionship": "PERMISSIONSHIP_UNSPECIFIED"},
    {"permissionship": "HAS_PERMISSION"},
    {"permissionship": 2},
    {"permissionship": True},
    {"permissionship": [HAS]},
    {"permissionship": None},
    {"permissionship": HAS.lower()},
    {**PERMIT, "partialCaveatInfo": {"missingRequiredContext": ["ip"]}},
    {**PERMIT, "partialCaveatInfo": {}},
    {**PERMIT, "partialCaveatInfo": False},
    {**PERMIT, "checkedAt": "token"},
    {**PERMIT, "checkedAt": {}},
    {**PERMIT, "checkedAt": {"token": ""}},
    {**PERMIT, "checkedAt": {"token": 1}},
    {**PERMIT, "checkedAt": {"token": "x" * 1025}},
    {**PERMIT, "optionalExpiresAt": 5},
    {**PERMIT, "optionalExpiresAt": "soon"},
    {**PERMIT, "optionalExpiresAt": "2026-13-01T00:00:00Z"},
    {**PERMIT, "optionalExpiresAt": "2026-12-01T00:00:00"},
    {"permissionship": CONDITIONAL, "partialCaveatInfo": {"missingRequiredContext": "ip"}},
    {"permissionship": CONDITIONAL, "partialCaveatInfo": {"missingRequiredContext": [1]}},
]


@pytest.mark.parametrize("reply", NO_ANSWERS)
def test_anything_else_is_no_answer(reply: Any) -> None:
    """Unspecified, unknown, of another type, contradictory: malformed."""
    with pytest.raises(PDPReplyError):
        decided(reply)


WORDS = [HAS, NO, CONDITIONAL, "PERMISSIONSHIP_UNSPECIFIED", True, False, None, 2, "", "true"]
JSON = st.recursive(
    st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["permissionship", "checkedAt", "partialCaveatInfo", "token", "item", "error", "pairs"]),
            inner,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=times(300, 50_000))
@given(JSON | st.fixed_dictionaries({"permissionship": st.sampled_from(WORDS)}, optional={"partialCaveatInfo": JSON}))
def test_only_an_exact_permit_permits(reply: Any) -> None:
    """Promise 5: whatever is replied, nothing permits but the one permissionship, without a condition."""
    pdp, _transport = asking(lambda _request: replying(200, orjson.dumps(reply)))
    exact = type(reply) is dict and reply.get("permissionship") == HAS and reply.get("partialCaveatInfo") is None
    try:
        decision = had(pdp.decide(REQUEST))
    except PDPReplyError:
        return
    assert (decision.effect is Effect.PERMIT) == exact


@settings(max_examples=times(300, 50_000))
@given(
    st.lists(
        st.fixed_dictionaries({"request": st.just(ITEM)}, optional={"item": JSON, "error": JSON}) | JSON, max_size=3
    )
)
def test_only_an_exact_permit_permits_in_a_batch(pairs: Any) -> None:
    """Promise 5: an item permits by its own permissionship, without an error, in a batch of exactly what was asked."""
    pdp, _transport = asking(lambda _request: replying(200, orjson.dumps({"checkedAt": TOKEN, "pairs": pairs})))
    try:
        answers = had(pdp.decide_many([REQUEST, REQUEST]))
    except PDPReplyError:
        return
    assert len(pairs) == 2
    for pair, answer in zip(pairs, answers, strict=True):
        assert pair["request"] == ITEM
        item = pair.get("item")
        sound = type(item) is dict and pair.get("error") is None and item.get("partialCaveatInfo") is None
        exact = sound and item["permissionship"] == HAS if sound and "permissionship" in item else False
        assert (isinstance(answer, Decision) and answer.effect is Effect.PERMIT) == exact


@pytest.mark.parametrize(
    ("ends", "ttl"),
    [
        ("2023-11-14T22:13:30Z", 10.0),
        ("2023-11-14T22:13:30.5Z", 10.5),
        ("2023-11-14T22:13:20.250000000Z", 0.25),
        ("2023-11-14T22:13:20Z", 0.0),
        ("2001-01-01T00:00:00Z", 0.0),
        (None, 0.0),
    ],
)
def test_an_answer_holds_until_its_first_relationship_expires(ends: str | None, ttl: float | None) -> None:
    """From the moment it was asked; what is past holds for nobody else."""
    decision, _body = decided({**PERMIT, "optionalExpiresAt": ends}, clock=FakeClock())
    assert decision.ttl == ttl


def test_an_answer_is_dated_from_its_question() -> None:
    """The time the server took is not added to it."""
    clock = FakeClock()

    def slow(_request: Any) -> Any:
        clock.advance(4)
        return {**PERMIT, "optionalExpiresAt": "2023-11-14T22:13:30Z"}

    pdp, _transport = asking(slow, clock=clock)
    assert had(pdp.decide(REQUEST)).ttl == 10.0


def test_a_cached_permit_ends_with_its_relationship() -> None:
    """However long the profile would keep it."""
    clock = FakeClock()
    pdp, transport = asking(lambda _request: {**PERMIT, "optionalExpiresAt": "2023-11-14T22:13:30Z"}, clock=clock)
    profiles = Profiles({"**": Profile(permit_ttl=3600)})
    enforcer = Enforcer(pdp, audit=MemorySink(), profiles=profiles, clock=clock)
    for seconds, asked in ((0, 1), (9, 1), (2, 2)):
        clock.advance(seconds)
        assert enforcer.check("view", DOCUMENT, subject=ALICE).allowed
        assert len(transport.sent) == asked


def test_a_new_token_ends_what_was_decided_before() -> None:
    """A cached permit is not served beside an answer from a later revision."""
    tokens = iter(["t1", "t1", "t2", "t2"])
    pdp, transport = asking(lambda _request: {**PERMIT, "checkedAt": {"token": next(tokens)}}, expiring=False)
    enforcer = Enforcer(pdp, audit=MemorySink(), profiles=Profiles({"**": Profile(permit_ttl=3600)}))
    asked = []
    for name in ("1", "2", "1", "3", "1", "1"):
        assert enforcer.check("view", Resource("document", name), subject=ALICE).allowed
        asked.append(len(transport.sent))
    assert asked == [1, 2, 2, 3, 4, 4]


def test_an_answer_without_a_revision_is_not_reused() -> None:
    """It cannot be told from what was decided before a write."""
    decision, _body = decided({"permissionship": HAS}, expiring=False)
    assert (decision.revision, decision.ttl) == (None, 0.0)


def test_what_tells_no_end_is_reused_only_where_nothing_expires() -> None:
    """A batch never tells it, and servers leave it out of a check: the operator has to know."""
    reply = {"checkedAt": TOKEN, "pairs": [{"request": ITEM, "item": {"permissionship": HAS}}]}
    for expiring, ttl in ((True, 0.0), (False, None)):
        wanted = Decision(Effect.PERMIT, revision=TOKEN["token"], ttl=ttl)
        (decision,) = had(asking(reply, expiring=expiring)[0].decide_many([REQUEST]))
        assert decision == wanted
        assert decided(PERMIT, expiring=expiring)[0] == wanted
    told = {**PERMIT, "optionalExpiresAt": "2023-11-14T22:13:30Z"}
    assert decided(told, expiring=False, clock=FakeClock())[0].ttl == 10.0


def test_its_revisions_are_consistency_tokens() -> None:
    """What caches by revision has to know."""
    assert SpiceDBPDP.consistent is True
    assert SpiceDBPDP.pure is False


CONSISTENCY: list[tuple[str, str | None, list[dict[str, Any]], dict[str, Any]]] = [
    ("minimize_latency", None, [{}], LATENCY),
    ("minimize_latency", "w1", [{}], {"atLeastAsFresh": {"token": "w1"}}),
    ("minimize_latency", None, [{"zedtoken": "r1"}], {"atLeastAsFresh": {"token": "r1"}}),
    ("minimize_latency", "r1", [{"zedtoken": "r1"}], {"atLeastAsFresh": {"token": "r1"}}),
    ("minimize_latency", "w1", [{"zedtoken": "r1"}], FULLY),
    ("minimize_latency", None, [{"zedtoken": "r1"}, {"zedtoken": "r2"}], FULLY),
    ("minimize_latency", None, [{"zedtoken": "r1"}, {}], {"atLeastAsFresh": {"token": "r1"}}),
    ("fully_consistent", None, [{}], FULLY),
    ("fully_consistent", "w1", [{"zedtoken": "r1"}], FULLY),
]


@pytest.mark.parametrize(("consistency", "least", "contexts", "wanted"), CONSISTENCY)
def test_every_token_is_heeded(
    consistency: str, least: str | None, contexts: list[dict[str, Any]], wanted: dict[str, Any]
) -> None:
    """The tokens of writes and of requests; two that cannot be compared make it fully consistent."""
    requests = [REQUEST.evolve(context=context) for context in contexts]
    pairs = [{"request": ITEM, "item": {"permissionship": HAS}} for _ in requests]
    pdp, transport = asking({"checkedAt": TOKEN, "pairs": pairs}, PERMIT, consistency=consistency)
    if least is not None:
        pdp.at_least(least)
    had(pdp.decide_many(requests))
    assert transport.bodies[0]["consistency"] == wanted
    assert "context" not in transport.bodies[0]["items"][0]
    if len(requests) == 1:
        had(pdp.decide(requests[0]))
        assert transport.bodies[1]["consistency"] == wanted


@pytest.mark.parametrize("token", ["", None, 1, "a\nb", "é", b"token"])
def test_a_token_is_a_text(token: Any) -> None:
    """What is none is told where it was passed."""
    with pytest.raises(ConfigurationError, match="a ZedToken is"):
        asking()[0].at_least(token)


def test_further_batches_are_answered_from_the_first_ones_revision() -> None:
    """All of them from one."""

    def reply(request: Any) -> Any:
        body = orjson.loads(request.body)
        pairs = [
            {"request": one, "item": {"permissionship": HAS if one["resource"]["objectId"] == "1" else NO}}
            for one in body["items"]
        ]
        return {"checkedAt": TOKEN, "pairs": pairs}

    pdp, transport = asking(reply, batch=2)
    requests = [REQUEST.evolve(resource=Resource("document", str(index % 3))) for index in range(21)]
    answers = had(pdp.decide_many(requests))
    assert [answer.effect is Effect.PERMIT for answer in answers] == [index % 3 == 1 for index in range(21)]
    told = [body["consistency"] for body in transport.bodies]
    assert told == [LATENCY, *[{"atExactSnapshot": TOKEN}] * 10]
    pdp, _transport = asking({"pairs": [{"request": ITEM, "item": {"permissionship": HAS}}]}, batch=1)
    with pytest.raises(PDPReplyError, match="its revision"):
        had(pdp.decide_many([REQUEST, REQUEST]))


def test_one_failing_batch_fails_all() -> None:
    """There is no half of an answer."""
    first = {"checkedAt": TOKEN, "pairs": [{"request": ITEM, "item": {"permissionship": HAS}}]}
    pdp, _transport = asking(first, replying(503), batch=1)
    with pytest.raises(PDPOverloaded):
        had(pdp.decide_many([REQUEST, REQUEST]))


OTHER = {**ITEM, "permission": "edit"}
SAID = {"permissionship": HAS}
ECHOED = {**ITEM, "subject": {**ITEM["subject"], "optionalRelation": ""}, "context": None}


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [{"request": ITEM, "item": SAID}],
        [{"request": ITEM, "item": SAID}] * 3,
        [{"request": OTHER, "item": SAID}, {"request": ITEM, "item": SAID}],
        [{"item": SAID}, {"item": SAID}],
        [{"request": ITEM, "item": SAID}, True],
        [{"request": ITEM, "item": SAID}, {"request": {**OTHER, "context": {"a": 1}}, "item": SAID}],
        [{"request": ITEM, "item": SAID}, {"request": {**OTHER, "subject": None}, "item": SAID}],
        [
            {"request": ITEM, "item": SAID},
            {"request": {**OTHER, "subject": {**ITEM["subject"], "optionalRelation": "member"}}, "item": SAID},
        ],
        [
            {"request": ITEM, "item": SAID},
            {"request": {**OTHER, "resource": {"objectType": "document", "objectId": "2"}}, "item": SAID},
        ],
    ],
)
def test_other_items_close_the_batch(pairs: Any) -> None:
    """Short, long, reordered or others': none of it is an answer."""
    pdp, _transport = asking({"checkedAt": TOKEN, "pairs": pairs})
    with pytest.raises(PDPMismatched):
        had(pdp.decide_many([REQUEST, REQUEST.evolve(action="edit")]))


@pytest.mark.parametrize(
    ("first", "second"), [({"a": True}, {"a": 1}), ({"a": {"b": [0]}}, {"a": {"b": [False]}}), ({"a": []}, {"a": [0]})]
)
def test_an_echo_is_typed(first: dict[str, Any], second: dict[str, Any]) -> None:
    """To Python, true is 1: answers to two such questions are not mistaken for one another."""
    requests = [REQUEST.evolve(context=first), REQUEST.evolve(context=second)]
    pairs = [{"request": {**ITEM, "context": one}, "item": SAID} for one in (first, second)]
    answers = had(asking({"checkedAt": TOKEN, "pairs": pairs})[0].decide_many(requests))
    assert [one.effect for one in answers] == [Effect.PERMIT] * 2
    with pytest.raises(PDPMismatched):
        had(asking({"checkedAt": TOKEN, "pairs": pairs[::-1]})[0].decide_many(requests))


def test_a_number_is_echoed_as_the_gateway_writes_it() -> None:
    """It holds doubles, and writes whole ones without a point."""
    pairs = [{"request": {**ITEM, "context": {"a": 1}}, "item": SAID}]
    pdp, _transport = asking({"checkedAt": TOKEN, "pairs": pairs})
    (answer,) = had(pdp.decide_many([REQUEST.evolve(context={"a": 1.0})]))
    assert answer.effect is Effect.PERMIT


def test_an_echo_with_defaults_is_the_same_item() -> None:
    """The gateway writes out what is empty."""
    (answer,) = had(
        asking({"checkedAt": TOKEN, "pairs": [{"request": ECHOED, "item": SAID}]})[0].decide_many([REQUEST])
    )
    assert answer.effect is Effect.PERMIT


@pytest.mark.parametrize("pairs", [None, {}, "pairs"])
def test_a_batch_without_pairs_is_malformed(pairs: Any) -> None:
    """A reply of another shape is no answer to any of it."""
    with pytest.raises(PDPReplyError):
        had(asking({"pairs": pairs})[0].decide_many([REQUEST]))


@pytest.mark.parametrize(
    "answer",
    [
        {"error": {"code": 9, "message": "not found"}},
        {"error": {"code": 9}, "item": SAID},
        {"error": False, "item": SAID},
        {"item": None},
        {},
        {"item": {}},
        {"item": [HAS]},
        {"item": {"permissionship": "PERMISSIONSHIP_UNSPECIFIED"}},
    ],
)
def test_an_error_is_of_its_item_alone(answer: dict[str, Any]) -> None:
    """An error, both or neither is no answer to that one, and its neighbour is answered."""
    pairs = [{"request": ITEM, **answer}, {"request": ITEM, "item": SAID}]
    first, second = had(asking({"checkedAt": TOKEN, "pairs": pairs})[0].decide_many([REQUEST, REQUEST]))
    assert type(first.error) is PDPReplyError
    assert second.effect is Effect.PERMIT


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (replying(400, {"code": 3}), PDPRejected),
        (replying(401), PDPRejected),
        (replying(403), PDPRejected),
        (replying(429), PDPOverloaded),
        (replying(500), PDPReplyError),
        (replying(503), PDPOverloaded),
        (replying(504), PDPUnavailable),
        (replying(200, b""), PDPReplyError),
        (replying(200, b'{"permissionship": "a", "permissionship": "b"}'), PDPReplyError),
    ],
)
@pytest.mark.parametrize(
    "ask",
    [
        lambda pdp: pdp.decide(REQUEST),
        lambda pdp: pdp.decide_many([REQUEST]),
        lambda pdp: pdp.search("resource", REQUEST.evolve(subject=ALICE)),
    ],
)
def test_an_error_never_permits(ask: Any, reply: Any, error: type[PDPError]) -> None:
    """Each status is its fault, each other body is malformed; a search of nothing finds nothing."""
    pdp, transport = asking(reply)
    if reply.status == 200 and not reply.body:
        try:
            assert not had(ask(pdp)).items
        except PDPReplyError:
            pass
        else:
            assert transport.sent[0].url.endswith("/resources")
        return
    with pytest.raises(error):
        had(ask(pdp))


def lines(*found: Any) -> Any:
    return replying(200, b"".join(orjson.dumps(one) + b"\n" for one in found))


def resource(name: Any, permissionship: Any = "LOOKUP_PERMISSIONSHIP_HAS_PERMISSION") -> dict[str, Any]:
    return {"result": {"lookedUpAt": TOKEN, "resourceObjectId": name, "permissionship": permissionship}}


def subject(name: Any, permissionship: Any = "LOOKUP_PERMISSIONSHIP_HAS_PERMISSION") -> dict[str, Any]:
    return {"result": {"subject": {"subjectObjectId": name, "permissionship": permissionship}}}


def test_finds_resources() -> None:
    """Each once, without those that need more context; all of them, where it did not stop at the limit."""
    conditional = resource("3", "LOOKUP_PERMISSIONSHIP_CONDITIONAL_PERMISSION")
    pdp, transport = asking(lines(resource("1"), resource("2"), resource("1"), conditional))
    found = had(pdp.search("resource", REQUEST))
    assert found == Found((Resource("document", "1"), Resource("document", "2")), complete=True)
    assert transport.sent[0].url == f"{URL}/v1/permissions/resources"
    assert transport.bodies[0] == {
        "consistency": LATENCY,
        "resourceObjectType": "document",
        "permission": "view",
        "subject": ITEM["subject"],
        "optionalLimit": MAX_FOUND,
    }


def test_a_search_that_stopped_is_not_complete() -> None:
    """At the limit there may be others."""
    found = had(asking(lines(*[resource(str(index)) for index in range(MAX_FOUND)]))[0].search("resource", REQUEST))
    assert len(found) == MAX_FOUND
    assert not found.complete


def test_finds_subjects() -> None:
    """Those with names; with everybody among them, there are others."""
    pdp, transport = asking(lines(subject("alice")), lines(subject("*"), subject("alice")))
    assert had(pdp.search("subject", REQUEST)) == Found((ALICE,), complete=True)
    assert transport.bodies[0] == {
        "consistency": LATENCY,
        "resource": ITEM["resource"],
        "permission": "view",
        "subjectObjectType": "user",
        "wildcardOption": "WILDCARD_OPTION_INCLUDE_WILDCARDS",
    }
    assert had(pdp.search("subject", REQUEST)) == Found((ALICE,), complete=False)


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        ("resource", {"error": {"code": 14, "message": "unavailable"}}),
        ("resource", {"error": {"code": 14}, **resource("1")}),
        ("resource", {}),
        ("resource", {"result": []}),
        ("resource", []),
        ("resource", resource("*")),
        ("resource", resource("a b")),
        ("resource", resource(1)),
        ("resource", resource("1", HAS)),
        ("resource", resource("1", "LOOKUP_PERMISSIONSHIP_UNSPECIFIED")),
        ("resource", resource("1", 1)),
        ("resource", subject("1")),
        ("subject", resource("1")),
        ("subject", {"result": {"subject": None}}),
        ("subject", subject("a:b")),
    ],
)
def test_a_strange_line_is_no_finding(wanted: str, line: Any) -> None:
    """One line that is none, and nothing was found: there is no half of a search."""
    before = resource("1") if wanted == "resource" else subject("1")
    with pytest.raises(PDPReplyError):
        had(asking(lines(before, line))[0].search(wanted, REQUEST))


def test_a_torn_line_is_malformed() -> None:
    """A search that was cut off is not taken for a whole one."""
    body = orjson.dumps(resource("1")) + b"\n" + orjson.dumps(resource("2"))[:-4]
    with pytest.raises(PDPReplyError):
        had(asking(replying(200, body))[0].search("resource", REQUEST))


def test_a_search_is_bounded() -> None:
    """However many there are."""
    with pytest.raises(PDPReplyError, match="more than"):
        had(asking(replying(200, b"{}\n" * (MOST_LINES + 1)))[0].search("subject", REQUEST))


def test_actions_are_not_searched() -> None:
    """SpiceDB has no such question."""
    with pytest.raises(PDPReplyError, match="finds resources and subjects"):
        had(asking()[0].search("action", REQUEST))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"consistency": "at_least_as_fresh"}, "a token goes to `at_least`"),
        ({"consistency": ["minimize_latency"]}, "`consistency` must be"),
        ({"token": ""}, "`token` must be"),
        ({"token": "a\r\nb"}, "`token` must be"),
        ({"token": 1}, "`token` must be"),
        ({"expiring": 1}, "`expiring`"),
        ({"batch": True}, "`batch`"),
        ({"permissions": {"read": "Read"}}, "is no relation"),
        ({"parameters": {"tenants": "tenant"}}, "is no part"),
        ({"transport": ScriptedTransport}, "is no transport"),
        ({"url": "host"}, "needs a URL"),
    ],
)
def test_configuration_mistakes_are_told_at_construction(options: dict[str, Any], match: str) -> None:
    """Before anything is asked, and without the secret."""
    with pytest.raises(ConfigurationError, match=match):
        SpiceDBPDP(**{"url": URL, "transport": ScriptedTransport(), **options})


def test_a_probe_asks_for_its_health() -> None:
    """200 is up; what is not is what its status says."""
    pdp, transport = asking({"status": "SERVING"}, replying(503))
    had(pdp.probe())
    assert transport.sent[0].url == f"{URL}/healthz"
    with pytest.raises(PDPOverloaded):
        had(pdp.probe())


class Closing(ScriptedTransport):
    """One that can be closed."""

    closed = False

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


def test_a_transport_that_was_given_is_not_closed() -> None:
    """It belongs to whoever made it."""
    transport = Closing(PERMIT)
    pdp = SpiceDBPDP(URL, transport=transport)
    pdp.close()
    asyncio.run(pdp.aclose())
    assert not transport.closed
    assert had(pdp.decide(REQUEST)).effect is Effect.PERMIT


def served_model() -> Iterator[str]:
    with serving(Model()) as url:
        yield url


def served_spicedb() -> Iterator[str]:
    with real_spicedb() as url:
        yield url


@pytest.fixture(scope="module", params=[served_model, served_spicedb], ids=["model", "real"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from request.param()


def written(url: str, *relationships: Relationship) -> str:
    body = orjson.dumps(updates(relationships))
    request = HTTPRequest("POST", f"{url}/v1/relationships/write", {"authorization": f"Bearer {KEY}"}, body)
    reply: Any = LoopbackTransport().send(request, timeout=10, awaiting=False)
    return str(orjson.loads(reply.body)["writtenAt"]["token"])


@pytest.mark.parametrize("told", ["at_least", "context", "fully_consistent"])
def test_a_write_is_read(url: str, told: str) -> None:
    """What was just written decides, where its token is told or everything is read."""
    name = f"written-{told}"
    request = REQUEST.evolve(resource=Resource("document", name))
    options = {"consistency": told} if told == "fully_consistent" else {}
    pdp = SpiceDBPDP(url, token=KEY, transport=LoopbackTransport(), **options)
    token = written(url, Relationship(f"document:{name}", "owner", "user:alice"))
    if told == "at_least":
        pdp.at_least(token)
    if told == "context":
        request = request.evolve(context={"zedtoken": token})
    decision = had(pdp.decide(request))
    assert decision.effect is Effect.PERMIT
    assert decision.revision
    (again,) = had(pdp.decide_many([request]))
    assert again.effect is Effect.PERMIT


def test_what_expired_does_not_permit(url: str) -> None:
    """A relationship past its end is none."""
    token = written(url, Relationship("document:ending", "reader", "user:alice", ends="2999-01-01T00:00:00Z"))
    pdp = SpiceDBPDP(url, token=KEY, transport=LoopbackTransport())
    pdp.at_least(token)
    decision = had(pdp.decide(REQUEST.evolve(resource=Resource("document", "ending"))))
    assert decision.effect is Effect.PERMIT
    assert decision.ttl == 0 or decision.ttl > 10**9


@pytest.mark.parametrize("token", [None, "wrong"])
def test_a_wrong_key_is_a_refusal(url: str, token: str | None) -> None:
    """It is this enforcement point that is refused, and that is never excused."""
    with pytest.raises(PDPRejected):
        had(SpiceDBPDP(url, token=token, transport=LoopbackTransport()).decide(REQUEST))


def test_tokens_are_told_from_many_threads() -> None:
    """The newest told is the one that is heeded."""
    pdp, transport = asking(lambda _request: PERMIT)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(pdp.at_least, [f"t{index}" for index in range(100)]))
        pool.submit(pdp.at_least, "last").result()
    had(pdp.decide(REQUEST))
    assert transport.bodies[0]["consistency"] == {"atLeastAsFresh": {"token": "last"}}
