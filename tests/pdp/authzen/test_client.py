"""The adapter: where it asks, how it spreads a batch, and what it makes of an outage."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep import AccessRequest, Effect, Enforcer, Resource, Subject
from pep.audit import MemorySink
from pep.clock import SystemClock
from pep.drive import APerformer, arun
from pep.errors import (
    ConfigurationError,
    PDPMismatched,
    PDPOverloaded,
    PDPRejected,
    PDPReplyError,
    PDPTimeout,
    PDPUnavailable,
)
from pep.exchange import HTTPRequest
from pep.pdp.authzen import AuthZENPDP, Bounds, Metadata, Semantic
from pep.pdp.authzen.client import ABREAST
from pep.steps import Raised
from pep.testing import check_pdp
from pep.testing.transport import ScriptedTransport, replying
from tests.pdp.authzen.rigs import URL, ASGITransport, driven, serving
from tests.proving import times

REQUEST = AccessRequest(Subject("user", "alice"), "edit", Resource("document", "1"))


def document(number: int) -> AccessRequest:
    return REQUEST.about(Resource("document", str(number)))


def owner(body: Any) -> dict[str, Any]:
    """Permit alice the even ones."""
    return {"decision": body["subject"]["id"] == "alice" and int(body["resource"]["id"]) % 2 == 0}


def answering(request: HTTPRequest) -> Any:
    """A server of AuthZEN in a few lines."""
    body = orjson.loads(request.body)
    if "evaluations" not in body:
        return owner(body)
    shared = {name: body[name] for name in ("subject", "action", "resource", "context") if name in body}
    return {"evaluations": [owner({**shared, **item}) for item in body["evaluations"]]}


def with_metadata(**endpoints: str) -> Metadata:
    return Metadata(URL, {"evaluation": f"{URL}/access/v1/evaluation", **endpoints})


def effects(found: list[Any]) -> list[Any]:
    return [type(one.error) if isinstance(one, Raised) else one.effect for one in found]


@pytest.mark.parametrize("options", [{}, {"discover": True}, {"batch": 2}])
def test_conforms(options: dict[str, Any]) -> None:
    """It is a decision point like any other, with our own server behind it."""
    application = serving(lambda request: request.subject.id == "alice")
    check_pdp(
        lambda: AuthZENPDP(URL, transport=ASGITransport(application), **options),
        permitted=REQUEST,
        denied=REQUEST.evolve(subject=Subject("user", "mallory")),
    )


def test_where_it_asks() -> None:
    """At the default paths below its URL, with its headers and an id for each request."""
    transport = ScriptedTransport(answering)
    pdp = AuthZENPDP(f"{URL}/tenant1/", transport=transport, headers={"x-tenant": "1"})
    driven(pdp.decide(REQUEST))
    driven(pdp.decide_many([document(1), document(2)]))
    assert [sent.url for sent in transport.sent] == [
        f"{URL}/tenant1/access/v1/evaluation", f"{URL}/tenant1/access/v1/evaluations",
    ]  # fmt: skip
    assert all(sent.headers["x-tenant"] == "1" and sent.headers["x-request-id"] for sent in transport.sent)
    assert (pdp.name, pdp.pure) == (f"authzen({URL}/tenant1)", False)
    assert repr(pdp) == f"<AuthZENPDP {URL}/tenant1/>"
    assert AuthZENPDP(URL, transport=transport, name="central").name == "central"


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 5))
@settings(max_examples=times(50, 5_000))
def test_a_batch_is_answered_as_one_by_one(numbers: list[int], most: int) -> None:
    """However many messages it takes, each answer is that of its own question."""
    pdp = AuthZENPDP(URL, transport=ScriptedTransport(answering), batch=most)
    expected = [Effect.PERMIT if number % 2 == 0 else Effect.DENY for number in numbers]
    assert effects(driven(pdp.decide_many([document(number) for number in numbers]))) == expected


def test_messages_are_bounded() -> None:
    """No message has more than the cap, and no more go side by side than may."""
    transport = ScriptedTransport(answering)
    pdp = AuthZENPDP(URL, transport=transport, batch=2)
    asked = [document(number) for number in range(2 * ABREAST + 5)]
    assert len(driven(pdp.decide_many(asked))) == len(asked)
    assert [len(body["evaluations"]) for body in transport.bodies] == [2] * (ABREAST + 2) + [1]


def test_in_both_worlds() -> None:
    """Tasks get what threads get."""
    pdp = AuthZENPDP(URL, transport=ScriptedTransport(answering), batch=2)
    asked = [document(number) for number in range(7)]
    there = asyncio.run(arun(pdp.decide_many(asked), APerformer(SystemClock())))
    assert there == driven(pdp.decide_many(asked))


def test_what_cannot_be_sent_is_its_own_fault_alone() -> None:
    """A request that cannot be written is not asked, and takes nobody with it."""
    transport = ScriptedTransport(answering)
    pdp = AuthZENPDP(URL, transport=transport)
    asked = [document(2), REQUEST.evolve(context={"pep": 1}), document(3)]
    assert effects(driven(pdp.decide_many(asked))) == [Effect.PERMIT, PDPReplyError, Effect.DENY]
    assert len(transport.bodies[0]["evaluations"]) == 2
    assert effects(driven(pdp.decide_many(asked[1:2]))) == [PDPReplyError]
    assert driven(pdp.decide_many([])) == []
    assert len(transport.sent) == 1


def test_one_id_with_two_meanings_goes_in_two_messages() -> None:
    """What a server may take for one question is never asked in one message."""
    transport = ScriptedTransport(lambda request: {"evaluations": [{"decision": False}] * len(
        orjson.loads(request.body)["evaluations"])})  # fmt: skip
    pdp = AuthZENPDP(URL, transport=transport)
    driven(pdp.decide_many([REQUEST, REQUEST.about(Resource("document", "1", {"owner": "alice"})), document(2)]))
    assert [len(body["evaluations"]) for body in transport.bodies] == [2, 1]


def test_a_message_that_failed() -> None:
    """An outage is that of its own message; a reply of another length that of the whole batch."""
    good = {"evaluations": [{"decision": True}, {"decision": True}]}
    asked = [document(number) for number in range(4)]

    def found(*replies: object, batch: int = 2) -> Any:
        def reply(request: HTTPRequest) -> object:
            first = b'"id":"0"' in request.body
            return replies[0] if first else replies[1]

        return driven(AuthZENPDP(URL, transport=ScriptedTransport(reply), batch=batch).decide_many(asked))

    assert effects(found(replying(503), good)) == [PDPOverloaded, PDPOverloaded, Effect.PERMIT, Effect.PERMIT]
    assert effects(found(good, PDPTimeout("late"))) == [Effect.PERMIT, Effect.PERMIT, PDPTimeout, PDPTimeout]
    with pytest.raises(PDPMismatched):
        found(good, {"evaluations": [{"decision": True}]})
    with pytest.raises(PDPUnavailable):
        found(PDPUnavailable("down"), None, batch=4)


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, PDPRejected), (401, PDPRejected), (403, PDPRejected), (404, PDPRejected), (408, PDPTimeout),
     (429, PDPOverloaded), (500, PDPReplyError), (502, PDPUnavailable), (503, PDPOverloaded), (504, PDPUnavailable),
     (204, PDPReplyError), (201, PDPReplyError)],
)  # fmt: skip
def test_statuses(status: int, error: type[Exception]) -> None:
    """A status says nothing about the decision."""
    pdp = AuthZENPDP(URL, transport=ScriptedTransport(lambda _request: replying(status, {"decision": True})))
    with pytest.raises(error):
        driven(pdp.decide(REQUEST))
    with pytest.raises(error):
        driven(pdp.decide_many([REQUEST, document(2)]))


def test_until_something_is_settled() -> None:
    """In order, message by message, up to what settles it; the rest is not evaluated, and told as that."""
    transport = ScriptedTransport(answering)
    pdp = AuthZENPDP(URL, transport=transport, batch=2)
    asked = [document(number) for number in (2, 4, 6, 1, 8, 10)]
    found = driven(pdp.decide_until(asked, Semantic.DENY_ON_FIRST_DENY))
    permit, deny, none = Effect.PERMIT, Effect.DENY, Effect.INDETERMINATE
    assert effects(found) == [permit, permit, permit, deny, none, none]
    assert found[-1].reasons == ("not evaluated",)
    assert [body["options"] for body in transport.bodies] == [{"evaluations_semantic": "deny_on_first_deny"}] * 2
    found = driven(pdp.decide_until(asked, Semantic.PERMIT_ON_FIRST_PERMIT))
    assert effects(found) == [permit, none, none, none, none, none]
    assert effects(driven(pdp.decide_until(asked, Semantic.EXECUTE_ALL))) == [permit] * 3 + [deny, permit, permit]
    assert "options" not in transport.bodies[-1]
    assert driven(pdp.decide_until([], Semantic.EXECUTE_ALL)) == []


def test_without_an_endpoint_for_batches() -> None:
    """What is not offered is not used: a batch is asked one by one."""
    transport = ScriptedTransport(answering)
    pdp = AuthZENPDP(URL, transport=transport, metadata=with_metadata())
    asked = [document(number) for number in range(ABREAST + 2)]
    asked[1] = REQUEST.evolve(context={"pep": 1})
    found = effects(driven(pdp.decide_many(asked)))
    assert found[:4] == [Effect.PERMIT, PDPReplyError, Effect.PERMIT, Effect.DENY]
    assert {sent.url for sent in transport.sent} == {f"{URL}/access/v1/evaluation"}
    assert driven(pdp.decide_many([])) == []
    with pytest.raises(PDPRejected, match="no endpoint"):
        driven(pdp.decide_until(asked, Semantic.DENY_ON_FIRST_DENY))


METADATA = {
    "policy_decision_point": URL,
    "access_evaluation_endpoint": f"{URL}/v1/one",
    "access_evaluations_endpoint": "https://eu.example.com/v1/many",
    "supported_obligations": ["log"],
}


def test_it_discovers_before_the_first_question() -> None:
    """Once, and then asks where it was told to; another origin only where that was admitted."""
    transport = ScriptedTransport(METADATA, answering)
    pdp = AuthZENPDP(
        URL, transport=transport, discover=True, admit=["https://eu.example.com"], supported_obligations=["log", "mail"]
    )
    assert pdp.health() == {"url": URL, "metadata": "due"}
    driven(pdp.decide(REQUEST))
    driven(pdp.decide_many([document(1), document(2)]))
    assert [sent.url for sent in transport.sent] == [
        f"{URL}/.well-known/authzen-configuration", f"{URL}/v1/one", "https://eu.example.com/v1/many",
    ]  # fmt: skip
    assert transport.bodies[1]["context"] == {"supported_obligations": ["log"]}
    assert pdp.health() == {"url": URL, "metadata": "known"}


def test_until_it_has_discovered_it_decides_nothing() -> None:
    """An outage of the metadata is one of the decision point."""
    replies = [replying(503), replying(404), {**METADATA, "policy_decision_point": "https://evil.example.com"}]
    transport = ScriptedTransport(*replies, METADATA, answering)
    pdp = AuthZENPDP(URL, transport=transport, discover=True, admit=["https://eu.example.com"])
    for error in (PDPOverloaded, PDPRejected, PDPReplyError):
        with pytest.raises(error):
            driven(pdp.decide(document(2)))
    assert driven(pdp.decide(document(2))).effect is Effect.PERMIT


def test_search_after_discovery() -> None:
    """What the metadata does not name is refused, once it is known."""
    pdp = AuthZENPDP(URL, transport=ScriptedTransport({**METADATA, "access_evaluations_endpoint": URL}), discover=True)
    with pytest.raises(PDPRejected, match="`resource`"):
        driven(pdp.search("resource", REQUEST))


def test_probes() -> None:
    """Whether it is up: by a path, or by its metadata, which a probe renews; lent only where there is either."""
    transport = ScriptedTransport(replying(200), replying(503))
    pdp = AuthZENPDP(URL, transport=transport, probe="/health")
    driven(pdp.probe())
    with pytest.raises(PDPOverloaded):
        driven(pdp.probe())
    assert {sent.url for sent in transport.sent} == {f"{URL}/health"}
    assert not hasattr(AuthZENPDP(URL, transport=ScriptedTransport()), "probe")

    moved = {**METADATA, "access_evaluation_endpoint": f"{URL}/v2/one", "access_evaluations_endpoint": f"{URL}/many"}
    first = {**METADATA, "access_evaluations_endpoint": f"{URL}/many"}
    transport = ScriptedTransport(first, answering)
    pdp = AuthZENPDP(URL, transport=transport, discover=True)
    driven(pdp.decide(REQUEST))
    transport = pdp._remote.transport = ScriptedTransport(moved)
    driven(pdp.probe())
    assert pdp._metadata is not None
    assert pdp._metadata.endpoints["evaluation"] == f"{URL}/v2/one"

    given_one = with_metadata()
    pdp = AuthZENPDP(URL, transport=ScriptedTransport(moved), metadata=given_one)
    driven(pdp.probe())
    assert pdp._metadata is given_one


def test_it_closes_its_own_transport_alone() -> None:
    """A transport that was given is its owner's."""

    class Closing(ScriptedTransport):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    transport = Closing()
    pdp = AuthZENPDP(URL, transport=transport)
    pdp.close()
    asyncio.run(pdp.aclose())
    assert transport.closed == 0


def test_behind_an_enforcer() -> None:
    """One line puts it behind the enforcement point; a batch is one message."""
    transport = ScriptedTransport(answering)
    enforcer = Enforcer(AuthZENPDP(URL, transport=transport), audit=MemorySink())
    asked = [("edit", Resource("document", str(number))) for number in range(4)]
    verdicts = enforcer.check_many(asked, subject=Subject("user", "alice"))
    assert [verdict.allowed for verdict in verdicts] == [True, False, True, False]
    assert len(transport.sent) == 1


@pytest.mark.parametrize(
    "odd",
    [
        {"batch": 0},
        {"batch": True},
        {"batch": "50"},
        {"member": ""},
        {"member": "obligations"},
        {"member": "supported_obligations"},
        {"member": 1},
        {"new_id": ""},
        {"name": ""},
        {"name": 7},
        {"metadata": {}},
        {"metadata": Metadata("https://other.example.com", {})},
        {"metadata": with_metadata(), "discover": True},
        {"probe": "health"},
        {"probe": 1},
        {"bounds": 7},
        {"supported_obligations": "log"},
        {"supported_obligations": 7},
        {"supported_obligations": [1]},
        {"transport": object()},
        {"url": "pdp.example.com"},
        {"url": f"{URL}?x=1"},
    ],
)
def test_odd_arguments(odd: dict[str, Any]) -> None:
    """What will not do is told when it is made."""
    given = {"url": URL, "transport": ScriptedTransport(), **odd}
    with pytest.raises(ConfigurationError):
        AuthZENPDP(given.pop("url"), **given)


def test_bounds_are_taken() -> None:
    """And an option that does not exist is not."""
    AuthZENPDP(URL, transport=ScriptedTransport(), bounds=Bounds(pages=1))
    with pytest.raises(TypeError):
        AuthZENPDP(URL, transport=ScriptedTransport(), timeout=3)  # type: ignore[call-arg]
