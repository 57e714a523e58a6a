"""Cerbos conforms: against the real server, through threads and tasks, past deadlines and cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pep import AccessRequest, Effect, Enforcer, Fault, Outcome, Profile, Resource, Subject
from pep.audit import MemorySink
from pep.clock import SystemClock
from pep.drive import APerformer, Performer, arun, run
from pep.pdp.cerbos import CerbosPDP
from pep.protocols import PDP, BatchPDP, RowFilterPDP, SearchPDP
from pep.testing import check_pdp
from pep.transport import HTTPTransport
from tests.cerbos_server import CerbosServer, cerbos_servers, resource_policy, rule
from tests.misbehaving import Misbehaving, hang_after_request

DOCUMENT = Resource("document", "1", {"owner": "alice"})
ALICE, MALLORY = Subject("user", "alice"), Subject("user", "mallory")
PERMITTED, DENIED = AccessRequest(ALICE, "edit", DOCUMENT), AccessRequest(MALLORY, "edit", DOCUMENT)


@pytest.fixture(scope="module")
def server() -> Iterator[CerbosServer]:
    with cerbos_servers() as start:
        yield start({"document": resource_policy("document", rule("edit", when="R.attr.owner == P.id"))})


@pytest.fixture(scope="module")
def transport() -> Iterator[HTTPTransport]:
    with HTTPTransport() as made:
        yield made


@pytest.fixture
def pdp(server: CerbosServer, transport: HTTPTransport) -> CerbosPDP:
    return CerbosPDP(server.url, transport=transport)


def test_conforms(server: CerbosServer, transport: HTTPTransport) -> None:
    """The same answer in both worlds, for any id, once and again, alone and in batches."""
    check_pdp(lambda: CerbosPDP(server.url, transport=transport), permitted=PERMITTED, denied=DENIED)


def test_lends_what_it_can(pdp: CerbosPDP) -> None:
    """Batches and row filters, no searches; its answers are not a matter of the request alone."""
    assert isinstance(pdp, PDP)
    assert isinstance(pdp, BatchPDP)
    assert isinstance(pdp, RowFilterPDP)
    assert not isinstance(pdp, SearchPDP)
    assert getattr(pdp, "pure", False) is False


def test_is_asked_by_threads_and_tasks_at_once(pdp: CerbosPDP) -> None:
    """Every answer is that of its own question."""
    requests = [
        AccessRequest(Subject("user", who), "edit", DOCUMENT) for who in ("alice", "mallory") for _ in range(40)
    ]
    wanted = [Effect.PERMIT] * 40 + [Effect.DENY] * 40

    def one(request: AccessRequest) -> Any:
        return run(pdp.decide(request), Performer(SystemClock()))

    async def together() -> list[Any]:
        return await asyncio.gather(*[arun(pdp.decide(request), APerformer(SystemClock())) for request in requests])

    with ThreadPoolExecutor(8) as threads:
        assert [found.effect for found in threads.map(one, requests)] == wanted
    assert [found.effect for found in asyncio.run(together())] == wanted


def test_changes_nothing(pdp: CerbosPDP) -> None:
    """A request is after the question what it was before."""
    keys = [PERMITTED.key, DENIED.key]
    run(pdp.decide_many([PERMITTED, DENIED, PERMITTED]), Performer(SystemClock()))
    assert [PERMITTED.key, DENIED.key] == keys


def test_a_deadline_cuts_it_short(transport: HTTPTransport) -> None:
    """A server that never answers is a timeout, in both worlds, alone and in a batch."""
    profiles = {"document:edit": Profile(deadline=0.2)}
    with Misbehaving(hang_after_request) as hung:
        pdp = CerbosPDP(hung.url, transport=transport)
        with Enforcer(pdp, audit=MemorySink(), profiles=profiles) as enforcer:
            verdicts = [
                enforcer.check("edit", DOCUMENT, subject=ALICE),
                asyncio.run(enforcer.acheck("edit", DOCUMENT, subject=ALICE)),
                *enforcer.check_many([("edit", DOCUMENT), ("edit", Resource("document", "2"))], subject=ALICE),
            ]
    assert {(verdict.outcome, verdict.fault) for verdict in verdicts} == {(Outcome.UNAVAILABLE, Fault.TIMEOUT)}


def test_cancelled_it_lets_go(server: CerbosServer) -> None:
    """A task that is cancelled while it waits leaves no connection in use; the next question is answered."""

    async def cancelled() -> str:
        transport = HTTPTransport()
        with Misbehaving(hang_after_request) as hung:
            waiting = asyncio.ensure_future(
                arun(CerbosPDP(hung.url, transport=transport).decide(PERMITTED), APerformer(SystemClock()))
            )
            while not hung.requests:  # noqa: ASYNC110  a thread of the server tells no event loop
                await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        again = CerbosPDP(server.url, transport=transport)
        decision = await arun(again.decide(PERMITTED), APerformer(SystemClock()))
        assert decision.effect is Effect.PERMIT
        shown = repr(transport)
        await transport.aclose()
        transport.close()
        return shown

    assert asyncio.run(cancelled()).startswith("HTTPTransport(<0 of 32 ")
