"""Requests as steps: both drivers, side by side, and on the thread of a sink; and what time is left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from typing import Any

import pytest

from pep.audit import MemorySink
from pep.audit.delivery import PATIENCE, Delivery
from pep.audit.record import Kind, Record, masked
from pep.drive import LONGEST, APerformer, Performer, arun, run
from pep.errors import PDPReplyError, PDPTimeout
from pep.exchange import HTTPReply, HTTPRequest
from pep.plan import Gather, Plan, Raised, Remaining, Returned, Send, bounded, contain, gather, remaining, send
from pep.steps import STEPS
from pep.testing import FakeClock
from pep.testing.transport import ScriptedTransport, replying
from tests.scenes import worlds

REQUEST = HTTPRequest("POST", "https://pdp.example/x", {"a": "b"}, b"{}")
OK = replying(200, {"a": 1})
RECORD = Record(Kind.DECISION, "id", 1.0, masked({"name": "a"}))

#: How long anything may take that should happen at once, in seconds.
SOON = 20.0


def driven(world: str, plan: Plan[Any], clock: FakeClock | None = None) -> Any:
    """Run a plan in a world, and see that no task is left behind."""
    time = clock or FakeClock()
    if world == "sync":
        return run(plan, Performer(time))

    async def main() -> Any:
        found = await arun(plan, APerformer(time))
        # What was cut short two tasks deep ends a turn after the task above it.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return found

    return asyncio.run(main())


def step(one: Any) -> Plan[Any]:
    return (yield one)


def test_both_are_steps() -> None:
    """A user's plan may yield them."""
    assert {Send, Remaining} <= set(STEPS)


@worlds
def test_a_request_is_sent(world: str) -> None:
    """The transport gets the request as it is, and its reply comes back."""
    transport = ScriptedTransport(OK)
    assert driven(world, send(transport, REQUEST)) is OK
    assert transport.sent == [REQUEST]
    assert transport.timeouts == [LONGEST]


@worlds
def test_the_world_went_on_meanwhile(world: str) -> None:
    """Whoever waits for a server has been suspended, whatever came of it."""
    transport = ScriptedTransport(OK, PDPTimeout())
    assert driven(world, step(Send(transport, REQUEST))) == Returned(OK, suspended=True)
    failed = driven(world, step(Send(transport, REQUEST)))
    assert (type(failed), type(failed.error), failed.suspended) == (Raised, PDPTimeout, True)


@worlds
def test_a_transport_is_told_the_time_that_is_left(world: str) -> None:
    """Of the nearest deadline of those that bind the plan."""
    clock, transport = FakeClock(), ScriptedTransport(OK, OK)
    deadline = clock.monotonic() + 5.0
    driven(world, bounded(send(transport, REQUEST), deadline), clock)
    driven(world, bounded(step(Send(transport, REQUEST, deadline - 2.0)), deadline), clock)
    assert transport.timeouts == [5.0, 3.0]


@worlds
def test_past_the_deadline_nothing_is_sent(world: str) -> None:
    """A request that would be late is late already."""
    clock, transport = FakeClock(), ScriptedTransport(OK)
    found = driven(world, step(Send(transport, REQUEST, clock.monotonic() - 1.0)), clock)
    assert isinstance(found.error, TimeoutError)
    assert transport.sent == []


@worlds
def test_a_reply_past_the_deadline_is_discarded(world: str) -> None:
    """Whatever a transport makes of its time, what comes too late is no answer; an error stands."""
    clock = FakeClock()

    def late(reply: object) -> Any:
        def answer(_request: HTTPRequest) -> object:
            clock.advance(10.0)
            return reply

        return answer

    deadline = clock.monotonic() + 5.0
    found = driven(world, step(Send(ScriptedTransport(late(OK)), REQUEST, deadline)), clock)
    assert type(found.error) is TimeoutError
    deadline = clock.monotonic() + 5.0
    found = driven(world, step(Send(ScriptedTransport(late(PDPReplyError())), REQUEST, deadline)), clock)
    assert type(found.error) is PDPReplyError


class Odd:
    """A transport that answers with something else."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def send(self, request: HTTPRequest, *, timeout: float, awaiting: bool) -> Any:
        return _awaited(self.answer) if awaiting else self.answer


async def _awaited(answer: object) -> object:
    return answer


@worlds
@pytest.mark.parametrize("answer", [None, True, {"status": 200}, b"{}", HTTPReply])
def test_anything_but_a_reply_is_malformed(world: str, answer: object) -> None:
    """A mock, a mapping or true is no reply."""
    with pytest.raises(PDPReplyError, match="HTTPReply"):
        driven(world, send(Odd(answer), REQUEST))


def test_a_transport_that_can_only_be_awaited_serves_no_thread() -> None:
    """It is told that nobody awaits; if it answers so all the same, that is closed and no reply."""

    class Eager(Odd):
        def send(self, request: HTTPRequest, *, timeout: float, awaiting: bool) -> Awaitable[object]:
            return _awaited(self.answer)

    with pytest.raises(PDPReplyError):
        driven("sync", send(Eager(OK), REQUEST))  # type: ignore[arg-type]


class Meeting:
    """A transport whose replies come only once so many requests are under way."""

    def __init__(self, parties: int) -> None:
        self._barrier, self._parties = threading.Barrier(parties), parties
        self._there = 0
        self._all: asyncio.Event | None = None

    def send(self, request: HTTPRequest, *, timeout: float, awaiting: bool) -> Any:
        if awaiting:
            return self._met(request)
        self._barrier.wait(SOON)
        return replying(200, request.body)

    async def _met(self, request: HTTPRequest) -> HTTPReply:
        self._all = self._all or asyncio.Event()
        self._there += 1
        if self._there == self._parties:
            self._all.set()
        await asyncio.wait_for(self._all.wait(), SOON)
        return replying(200, request.body)


@worlds
def test_requests_side_by_side_are_under_way_at_once(world: str) -> None:
    """In both worlds, so that both meet the same deadlines; the replies are in the order of the plans."""
    transport = Meeting(8)
    plans = [send(transport, HTTPRequest("POST", "https://x", {}, b"%d" % n)) for n in range(8)]
    replies = driven(world, gather(*plans))
    assert [reply.value.body for reply in replies] == [b"%d" % n for n in range(8)]


@worlds
def test_a_request_side_by_side_is_bound_by_the_deadline(world: str) -> None:
    """What does not come by then is late, and the others count."""
    gate = threading.Event()

    class Stuck:
        def send(self, request: HTTPRequest, *, timeout: float, awaiting: bool) -> Any:
            return asyncio.sleep(SOON, OK) if awaiting else gate.wait(SOON) and OK

    try:
        replies = driven(world, gather(send(Stuck(), REQUEST), send(ScriptedTransport(OK), REQUEST), deadline=1000.05))
    finally:
        gate.set()
    assert isinstance(replies[0].error, TimeoutError)
    assert replies[1].value is OK


@worlds
def test_cut_off_while_it_is_sent_propagates(world: str) -> None:
    """An interrupt is nobody's reply."""
    with pytest.raises(KeyboardInterrupt):
        driven(world, contain(send(ScriptedTransport(KeyboardInterrupt()), REQUEST)))


@worlds
def test_a_plan_is_told_what_time_it_has_left(world: str) -> None:
    """Of the nearest deadline; never less than none, and very long where none binds it."""
    clock = FakeClock()
    now = clock.monotonic()
    assert driven(world, remaining(), clock) == LONGEST
    assert driven(world, bounded(remaining(), now + 4.0), clock) == 4.0
    assert driven(world, bounded(bounded(remaining(), now + 9.0), now + 2.5), clock) == 2.5
    assert driven(world, bounded(remaining(), now - 1.0), clock) == 0.0
    assert driven(world, step(Remaining(now + 3.0)), clock) == Returned(3.0)


@worlds
def test_side_by_side_each_is_told_its_own(world: str) -> None:
    """The deadline of the step binds them all."""
    clock = FakeClock()
    now = clock.monotonic()
    found = driven(world, gather(remaining(), bounded(remaining(), now + 1.0), deadline=now + 6.0), clock)
    assert [reply.value for reply in found] == [6.0, 1.0]


# --- on the thread of a sink ---------------------------------------------------------------------


class Sending(MemorySink):
    """A sink that is a plan."""

    def __init__(self, *steps: Any) -> None:
        super().__init__()
        self.steps: tuple[Any, ...] = steps
        self.replies: list[Any] = []

    def record(self, record: Record) -> Plan[None]:  # type: ignore[override]
        for one in self.steps:
            self.replies.append((yield one))


def test_a_sink_sends_too() -> None:
    """With its own deadline, or a patience of the thread's; an error crosses as a value."""
    clock, transport = FakeClock(), ScriptedTransport(OK, OK, PDPTimeout())
    now = clock.monotonic()
    sink = Sending(Send(transport, REQUEST), Send(transport, REQUEST, now + 2.0), Send(transport, REQUEST, now - 1.0))
    Delivery(sink, clock).record(RECORD)
    assert transport.timeouts == [PATIENCE, 2.0, 0.0]
    assert [getattr(reply, "value", None) for reply in sink.replies] == [OK, OK, None]
    assert isinstance(sink.replies[2].error, PDPTimeout)


def test_a_sink_is_told_what_time_it_has_left() -> None:
    """The same."""
    clock = FakeClock()
    sink = Sending(Remaining(), Remaining(clock.monotonic() + 2.0), Gather((remaining(),)))
    Delivery(sink, clock).record(RECORD)
    assert [reply.value for reply in sink.replies] == [PATIENCE, 2.0, (Returned(PATIENCE),)]
