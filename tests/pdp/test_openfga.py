"""OpenFGA's codec: what is sent, what is read, and that only an exact permit permits."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep import AccessRequest, Action, Decision, Effect, Resource, Subject
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
from pep.found import Found
from pep.pdp.openfga import OpenFGAPDP
from pep.pdp.openfga_replies import decision_of, results_of
from pep.plan import Raised
from pep.testing.transport import ScriptedTransport, replying
from tests.openfga_server import MODEL, STORE, OpenFGA
from tests.proving import times
from tests.relationship_http import LoopbackTransport, serving

URL = "http://127.0.0.1:8080"
ALICE, DOCUMENT = Subject("user", "alice"), Resource("document", "1")
REQUEST = AccessRequest(ALICE, "read", DOCUMENT)
KEY = {"user": "user:alice", "relation": "read", "object": "document:1"}


def had(plan: Any) -> Any:
    return run(plan, Performer(SystemClock()))


def asking(*replies: object, **options: Any) -> tuple[OpenFGAPDP, ScriptedTransport]:
    transport = ScriptedTransport(*replies)
    return OpenFGAPDP(URL, STORE, transport=transport, **options), transport


def decided(*replies: object, request: AccessRequest = REQUEST, **options: Any) -> tuple[Decision, Any]:
    pdp, transport = asking(*replies, **options)
    return had(pdp.decide(request)), transport.bodies[0]


def test_asks_for_a_relation() -> None:
    """The triple, the consistency, and nothing that is empty."""
    decision, body = decided({"allowed": True})
    assert decision == Decision(Effect.PERMIT)
    assert body == {"tuple_key": KEY, "consistency": "MINIMIZE_LATENCY"}
    pdp, transport = asking({"allowed": True}, headers={"x-team": "a"})
    had(pdp.decide(REQUEST))
    assert transport.sent[0].url == f"{URL}/stores/{STORE}/check"
    assert transport.sent[0].method == "POST"
    assert transport.sent[0].headers["x-team"] == "a"


def test_sends_everything_there_is() -> None:
    """Properties, context, tenant, actors, tuples, model and consistency reach the server."""
    request = AccessRequest(
        Subject("user", "alice", {"level": 3, "tuples": [{"user": "user:alice", "relation": "m", "object": "g:e"}]}),
        Action("read", {"via": "api"}),
        Resource("document", "1", {"tag": "a"}),
        {"hour": 9},
        [Subject("agent", "bot")],
        "acme",
    )
    decision, body = decided(
        {"allowed": True},
        request=request,
        model=MODEL,
        relations={"read": "viewer"},
        parameters={"tenant": "tenant", "actors": "actors"},
        contextual_tuples="subject.tuples",
        consistency="HIGHER_CONSISTENCY",
    )
    assert decision.revision == MODEL
    assert body == {
        "tuple_key": {**KEY, "relation": "viewer"},
        "context": {
            "hour": 9,
            "subject": {"level": 3},
            "action": {"via": "api"},
            "resource": {"tag": "a"},
            "actors": [{"type": "agent", "id": "bot"}],
            "tenant": "acme",
        },
        "contextual_tuples": {"tuple_keys": [{"user": "user:alice", "relation": "m", "object": "g:e"}]},
        "consistency": "HIGHER_CONSISTENCY",
        "authorization_model_id": MODEL,
    }


@pytest.mark.parametrize(
    "source",
    ["context.tuples", lambda request: request.context["tuples"]],
)
def test_contextual_tuples_come_from_a_place_or_a_function(source: Any) -> None:
    """Where they are told to be."""
    told = [{"user": "user:alice", "relation": "m", "object": "g:e"}]
    pdp, transport = asking({"allowed": False}, contextual_tuples=source)
    had(pdp.decide(REQUEST.evolve(context={"tuples": told})))
    assert transport.bodies[0]["contextual_tuples"] == {"tuple_keys": told}


def test_a_malformed_tuple_is_not_sent() -> None:
    """What the place holds is checked first."""
    pdp, transport = asking({"allowed": True}, contextual_tuples="context.tuples")
    with pytest.raises(PDPReplyError, match="contextual tuple"):
        had(pdp.decide(REQUEST.evolve(context={"tuples": [{"user": "user:alice"}]})))
    assert not transport.sent


def test_a_function_that_fails_is_of_its_item_alone() -> None:
    """Whatever it raises about one request of a batch, the others are asked."""

    def tuples(request: AccessRequest) -> list[Any]:
        failing = {"2": KeyError, "3": MemoryError}.get(str(request.resource.id))
        if failing is not None:
            raise failing
        return []

    result = {"result": {"0": {"allowed": True}, "2": {"allowed": True}}}
    pdp, _transport = asking(result, contextual_tuples=tuples)
    answers = had(pdp.decide_many([REQUEST, REQUEST.about(Resource("document", "2")), REQUEST]))
    assert [type(one.error) if isinstance(one, Raised) else one.effect for one in answers] == [
        Effect.PERMIT,
        KeyError,
        Effect.PERMIT,
    ]
    with pytest.raises(MemoryError):
        had(pdp.decide_many([REQUEST.about(Resource("document", "3"))]))


NOT_SENT = {
    "a wildcard": REQUEST.evolve(subject=Subject("user", "*")),
    "a userset": REQUEST.evolve(subject=Subject("group", "eng#member")),
    "another object": REQUEST.evolve(subject=Subject("user", "group:eng")),
    "a type that ends early": REQUEST.evolve(subject=Subject("user:x", "alice")),
    "a space": REQUEST.evolve(resource=Resource("document", "a b")),
    "a new line": REQUEST.evolve(resource=Resource("document", "a\n")),
    "too long an object": REQUEST.evolve(resource=Resource("document", "x" * 248)),
    "too long a user": REQUEST.evolve(subject=Subject("user", "é" * 255)),
    "an action": REQUEST.evolve(action="pay:refund"),
    "too long a relation": REQUEST.evolve(action="x" * 51),
    "a tenant": REQUEST.evolve(tenant="acme"),
    "an actor": REQUEST.evolve(actors=[Subject("agent", "bot")]),
    "a new resource": REQUEST.evolve(resource=Resource.new("document")),
    "a large integer": REQUEST.evolve(context={"n": 2**53 + 1}),
}


@pytest.mark.parametrize("request_", NOT_SENT.values(), ids=NOT_SENT)
def test_what_would_mean_something_else_is_not_sent(request_: AccessRequest) -> None:
    """Refused closed, alone and in a batch, before a byte leaves."""
    pdp, transport = asking({"allowed": True})
    with pytest.raises(PDPReplyError):
        had(pdp.decide(request_))
    (refused,) = had(pdp.decide_many([request_]))
    assert type(refused.error) is PDPReplyError
    assert not transport.sent


def test_the_longest_ids_are_sent() -> None:
    """512 bytes of a user, 256 of an object, 50 of a relation."""
    request = AccessRequest(Subject("user", "x" * 507), "r" * 50, Resource("document", "y" * 247))
    assert decided({"allowed": True}, request=request)[0].effect is Effect.PERMIT


def test_a_new_resource_is_sent_as_its_stand_in() -> None:
    """And a real one with that id is refused."""
    new = REQUEST.evolve(resource=Resource.new("document"))
    assert decided({"allowed": True}, request=new, new="new")[1]["tuple_key"]["object"] == "document:new"
    with pytest.raises(PDPReplyError, match="stands for a new one"):
        decided({"allowed": True}, request=REQUEST, new="1")


LOOKALIKES = ("true", 1, 1.0, None, [True], {"allowed": True}, "", 0, "PERMIT")


@pytest.mark.parametrize("allowed", LOOKALIKES)
def test_a_lookalike_is_no_answer(allowed: object) -> None:
    """Only true permits, only false or nothing denies."""
    with pytest.raises(PDPReplyError, match="exactly true or false"):
        decided({"allowed": allowed})


def test_an_absent_answer_denies() -> None:
    """Protobuf leaves out what is false."""
    assert decided({})[0].effect is Effect.DENY
    assert decided({"resolution": ""})[0].effect is Effect.DENY


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (replying(400, {"code": "validation_error"}), PDPRejected),
        (replying(401), PDPRejected),
        (replying(404), PDPRejected),
        (replying(422, {"code": "throttled_timeout_error"}), PDPRejected),
        (replying(429), PDPOverloaded),
        (replying(500), PDPReplyError),
        (replying(503), PDPOverloaded),
        (replying(504), PDPUnavailable),
        (replying(200, b""), PDPReplyError),
        (replying(200, b"true"), PDPReplyError),
        (replying(200, b'{"allowed": false, "allowed": true}'), PDPReplyError),
    ],
)
def test_an_error_never_permits(reply: object, error: type[PDPError]) -> None:
    """Each status is its fault, each other body is malformed."""
    for method, asked in (("decide", REQUEST), ("decide_many", [REQUEST])):
        pdp, _transport = asking(reply)
        with pytest.raises(error):
            had(getattr(pdp, method)(asked))


JSON = st.recursive(
    st.sampled_from([True, False, None, 0, 1, -1, 1.0, "", "true", "allowed", "no_error", "message", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["allowed", "error", "result", "0", "1", "message", "input_error"]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=times(300, 50_000))
@given(JSON)
def test_only_an_exact_permit_permits(reply: Any) -> None:
    """Promise 5: whatever is replied, nothing permits but `allowed` that is true."""
    pdp, _transport = asking(lambda _request: replying(200, orjson.dumps(reply)))
    exact = type(reply) is dict and reply.get("allowed") is True
    try:
        decision = had(pdp.decide(REQUEST))
    except PDPReplyError:
        assert not exact
    else:
        assert (decision.effect is Effect.PERMIT) == exact


@settings(max_examples=times(300, 50_000))
@given(JSON | st.dictionaries(st.sampled_from(["0", "1"]), JSON).map(lambda result: {"result": result}))
def test_only_an_exact_permit_permits_in_a_batch(reply: Any) -> None:
    """Promise 5: an item permits by its own `allowed`, without an error, in a batch of exactly what was asked."""
    pdp, _transport = asking(lambda _request: replying(200, orjson.dumps(reply)))
    try:
        answers = had(pdp.decide_many([REQUEST, REQUEST]))
    except PDPReplyError:
        return
    assert reply["result"].keys() == {"0", "1"}
    for index, answer in enumerate(answers):
        item = reply["result"][str(index)]
        if isinstance(answer, Decision) and answer.effect is Effect.PERMIT:
            assert item["allowed"] is True
            error = item.get("error") or {}
            assert type(error) is dict
            assert all(value in ("", "no_error") and type(value) is str for value in error.values())
        else:
            assert not (type(item) is dict and item.get("allowed") is True and item.get("error") is None)


def test_a_batch_is_answered_by_correlation_id() -> None:
    """Whatever order the answers come in, and however many batches it takes."""

    def reply(request: Any) -> Any:
        checks = orjson.loads(request.body)["checks"]
        assert len(checks) <= 50
        return {
            "result": {
                check["correlation_id"]: {"allowed": check["tuple_key"]["object"] == "document:1"}
                for check in reversed(checks)
            }
        }

    pdp, transport = asking(reply)
    requests = [REQUEST.evolve(resource=Resource("document", str(index % 3))) for index in range(501)]
    answers = had(pdp.decide_many(requests))
    assert [answer.effect is Effect.PERMIT for answer in answers] == [index % 3 == 1 for index in range(501)]
    assert len(transport.sent) == 11
    assert transport.sent[0].url.endswith("/batch-check")
    assert had(pdp.decide_many([])) == []


@pytest.mark.parametrize(
    "result",
    [{}, {"0": {"allowed": True}}, {"0": {}, "1": {}, "2": {"allowed": True}}, {"0": {}, "2": {"allowed": True}}],
)
def test_other_ids_close_the_batch(result: Any) -> None:
    """Short, long or others': none of it is an answer."""
    pdp, _transport = asking({"result": result})
    with pytest.raises(PDPMismatched):
        had(pdp.decide_many([REQUEST, REQUEST]))


@pytest.mark.parametrize("reply", [{}, {"result": None}, {"result": [True]}])
def test_a_batch_without_a_result_is_malformed(reply: Any) -> None:
    """A reply of another shape is no answer to any of it."""
    pdp, _transport = asking(reply)
    with pytest.raises(PDPReplyError):
        had(pdp.decide_many([REQUEST]))


@pytest.mark.parametrize(
    ("item", "effect"),
    [
        ({"allowed": True, "error": {"message": ""}}, Effect.PERMIT),
        ({"allowed": True, "error": {"input_error": "no_error", "message": ""}}, Effect.PERMIT),
        ({"allowed": True, "error": None}, Effect.PERMIT),
        ({"allowed": False}, Effect.DENY),
        ({}, Effect.DENY),
        ({"allowed": True, "error": {"message": "deadline"}}, None),
        ({"allowed": True, "error": {"internal_error": "deadline_exceeded", "message": ""}}, None),
        ({"allowed": True, "error": {"input_error": 2000}}, None),
        ({"allowed": True, "error": "no"}, None),
        ({"allowed": True, "error": []}, None),
        ({"allowed": 1}, None),
        (True, None),
        (None, None),
    ],
)
def test_an_error_is_of_its_item_alone(item: Any, effect: Effect | None) -> None:
    """A non-empty error is no answer to that one, and its neighbour is answered."""
    first, second = results_of({"result": {"b": {"allowed": True}, "a": item}}, ["a", "b"], None)
    assert isinstance(second, Decision)
    assert second.effect is Effect.PERMIT
    assert isinstance(first, Raised) if effect is None else first == Decision(effect)


def test_one_failing_batch_fails_all() -> None:
    """There is no half of an answer."""
    pdp, _transport = asking({"result": {str(index): {"allowed": True} for index in range(50)}}, replying(503))
    with pytest.raises(PDPOverloaded):
        had(pdp.decide_many([REQUEST] * 60))


def test_found_objects_are_never_all() -> None:
    """OpenFGA stops at a limit without a word."""
    pdp, transport = asking({"objects": ["document:1", "document:a@b"]}, contextual_tuples=lambda _request: [])
    found = had(pdp.search("resource", REQUEST))
    assert found == Found((Resource("document", "1"), Resource("document", "a@b")), complete=False)
    assert transport.bodies[0] == {
        "type": "document",
        "relation": "read",
        "user": "user:alice",
        "consistency": "MINIMIZE_LATENCY",
    }


@pytest.mark.parametrize(
    "objects", ["document:1", ["folder:1"], ["Document:1"], ["document:"], ["document:*"], [1], ["document:a:b"], None]
)
def test_a_strange_object_is_no_finding(objects: Any) -> None:
    """Of another type, a wildcard, no text: malformed."""
    with pytest.raises(PDPReplyError):
        had(asking({"objects": objects})[0].search("resource", REQUEST))


def test_found_users_are_those_with_names() -> None:
    """Everybody is nobody that could be named."""
    told = [{"object": {"type": "user", "id": "alice"}, "wildcard": None}, {"wildcard": {"type": "user"}}]
    pdp, transport = asking(
        {"users": told}, contextual_tuples=lambda _request: [{"user": "user:a", "relation": "m", "object": "g:e"}]
    )
    found = had(pdp.search("subject", REQUEST))
    assert found == Found((ALICE,), complete=False)
    assert transport.bodies[0] == {
        "object": {"type": "document", "id": "1"},
        "relation": "read",
        "user_filters": [{"type": "user"}],
        "contextual_tuples": [{"user": "user:a", "relation": "m", "object": "g:e"}],
        "consistency": "MINIMIZE_LATENCY",
    }


@pytest.mark.parametrize(
    "user",
    [
        {"object": {"type": "group", "id": "eng"}},
        {"object": {"type": "user", "id": "*"}},
        {"object": {"type": "user", "id": 1}},
        {"userset": {"type": "user", "id": "a", "relation": "b"}},
        {"wildcard": {"type": "group"}},
        {"wildcard": {"type": "user"}, "object": {"type": "user", "id": "alice"}},
        {},
        "user:alice",
    ],
)
def test_a_strange_user_is_no_finding(user: Any) -> None:
    """A userset, another type, two at once: malformed."""
    with pytest.raises(PDPReplyError):
        had(asking({"users": [user]})[0].search("subject", REQUEST))


@pytest.mark.parametrize("wanted", ["action", "everything"])
def test_actions_are_not_searched(wanted: str) -> None:
    """OpenFGA has no such question."""
    with pytest.raises(PDPReplyError, match="finds resources and subjects"):
        had(asking()[0].search(wanted, REQUEST))


def test_a_search_refuses_ids_too() -> None:
    """What would mean something else is not searched with."""
    for wanted, request in (
        ("resource", REQUEST.evolve(subject=Subject("user", "*"))),
        ("subject", REQUEST.evolve(resource=Resource("document", "a#b"))),
        ("resource", REQUEST.evolve(resource=Resource("a:b", "1"))),
        ("subject", REQUEST.evolve(subject=Subject("a:b", "1"))),
    ):
        pdp, transport = asking({})
        with pytest.raises(PDPReplyError):
            had(pdp.search(wanted, request))
        assert not transport.sent


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"store": "store"}, "a store is named"),
        ({"store": STORE.lower()}, "a store is named"),
        ({"model": "latest"}, "a model is named"),
        ({"model": 1}, "a model is named"),
        ({"consistency": "EVENTUAL"}, "`consistency` must be"),
        ({"consistency": ["HIGHER_CONSISTENCY"]}, "`consistency` must be"),
        ({"contextual_tuples": "tuples"}, "`contextual_tuples` must be"),
        ({"contextual_tuples": dict}, "`contextual_tuples` must be"),
        ({"contextual_tuples": 1}, "`contextual_tuples` must be"),
        ({"batch": 0}, "`batch`"),
        ({"relations": {"read": "a:b"}}, "is no relation"),
        ({"parameters": {"tenants": "tenant"}}, "is no part"),
        ({"transport": object()}, "is no transport"),
        ({"url": "ftp://host"}, "needs a URL"),
    ],
)
def test_configuration_mistakes_are_told_at_construction(options: dict[str, Any], match: str) -> None:
    """Before anything is asked."""
    with pytest.raises(ConfigurationError, match=match):
        OpenFGAPDP(**{"url": URL, "store": STORE, "transport": ScriptedTransport(), **options})


def test_it_is_called_after_where_it_asks() -> None:
    """Its name is in records and cache keys; it has no secret in it."""
    pdp, _transport = asking(headers={"authorization": "Bearer secret"})
    assert pdp.name == f"openfga {URL}/stores/{STORE}"
    assert asking(model=MODEL)[0].name == f"openfga {URL}/stores/{STORE}@{MODEL}"
    assert repr(pdp) == f"<OpenFGAPDP({pdp.name!r})>"
    assert pdp.pure is False


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
    transport = Closing({"allowed": True})
    pdp = OpenFGAPDP(URL, STORE, transport=transport)
    pdp.close()
    asyncio.run(pdp.aclose())
    assert not transport.closed
    assert had(pdp.decide(REQUEST)).effect is Effect.PERMIT


def test_the_model_is_the_revision() -> None:
    """Where one was pinned."""
    assert decision_of({"allowed": True}, MODEL).revision == MODEL
    assert decision_of({"allowed": True}, None).revision is None


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"authorization": "Bearer wrong"}},
        {"headers": {}},
        {"store": MODEL},
        {"model": STORE},
        {"batch": 60},
    ],
)
def test_a_server_that_refuses_us_is_told_so(options: dict[str, Any]) -> None:
    """A wrong token, store or model, or more checks than it takes: never excused, never a permit."""
    engine = OpenFGA({"document": {"read": ()}}, {("user:alice", "read", "document:1"): None}, token="secret")
    with serving(engine) as url:
        made = {"store": STORE, "headers": {"authorization": "Bearer secret"}, "transport": LoopbackTransport()}
        sound, broken = OpenFGAPDP(url, **made), OpenFGAPDP(url, **{**made, **options})
        assert had(sound.decide(REQUEST)).effect is Effect.PERMIT
        assert {one.effect for one in had(sound.decide_many([REQUEST] * 60))} == {Effect.PERMIT}
        with pytest.raises(PDPRejected):
            had(broken.decide_many([REQUEST] * 60))
