from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pep.audit.buffered import BufferedSink
from pep.audit.delivery import Delivery
from pep.audit.memory import MemorySink
from pep.audit.record import Kind, Record, masked
from pep.errors import AuditError
from pep.plan import (
    Dispatch,
    Gather,
    Invoke,
    Launch,
    Plan,
    Raised,
    Reply,
    Returned,
    Sleep,
    Wait,
    Write,
    attempt,
    call,
    contain,
    sleep,
    unwrap,
)
from pep.testing import FakeClock

RECORD = Record(Kind.DECISION, "id", 1.0, masked({"name": "a"}))


class Planned(MemorySink):
    """A sink whose method is a plan of every step there is."""

    def __init__(self, *steps: Any) -> None:
        super().__init__()
        self.steps, self.replies = steps, []

    def record(self, record: Record) -> Plan[None]:  # type: ignore[override]
        for step in self.steps:
            reply: Reply = yield step
            self.replies.append(reply)
        yield from call(self.records.append, record)


class Awaited(MemorySink):
    """A sink that can only be awaited, always on the same loop."""

    def __init__(self) -> None:
        super().__init__()
        self.loops: set[Any] = set()
        self.closed = 0

    async def record(self, record: Record) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.loops.add(asyncio.get_running_loop())
        self.records.append(record)

    async def aclose(self) -> None:
        self.loops.add(asyncio.get_running_loop())
        self.closed += 1


async def soon(value: object) -> object:
    await asyncio.sleep(0)
    return value


async def later() -> None:
    raise OSError


def fails() -> None:
    raise OSError


def plan_of(value: object) -> Plan[object]:
    yield from sleep(0)
    return value


def failing_plan() -> Plan[None]:
    yield from call(fails)


@pytest.mark.parametrize("make", [MemorySink, Planned, Awaited])
def test_every_sort_of_sink_is_buffered(make: Callable[[], Any]) -> None:
    """Plain, planned or awaited, another sink takes what was buffered, in order, and is closed."""
    inner = make()
    sink = BufferedSink(inner)
    for _ in range(100):
        sink.record(RECORD)
    sink.close()
    assert len(inner.records) == 100
    assert getattr(inner, "closed", 1) == 1


def test_a_sink_is_awaited_on_one_loop() -> None:
    """Clients are bound to a loop: everything is awaited on the same one, closing too."""
    inner = Awaited()
    delivery = Delivery(inner, FakeClock())
    delivery.record(RECORD)
    delivery.record(RECORD)
    delivery.close()
    (loop,) = inner.loops
    assert loop.is_closed()


def test_what_a_sink_left_open_is_closed_with_its_loop() -> None:
    """An asynchronous generator of the sink ends with the loop."""
    ended = []

    class Streaming(MemorySink):
        async def stream(self) -> AsyncIterator[int]:
            try:
                yield 1
            finally:
                ended.append(True)

        async def record(self, record: Record) -> None:  # type: ignore[override]
            self.streaming = self.stream()
            await anext(self.streaming)

    delivery = Delivery(Streaming(), FakeClock())
    delivery.record(RECORD)
    delivery.leave()
    delivery.leave()
    assert ended == [True]


def test_a_forked_child_has_a_loop_of_its_own() -> None:
    """A loop that the parent runs is not touched."""
    inner = Awaited()
    delivery = Delivery(inner, FakeClock())
    delivery.record(RECORD)
    parents = delivery._loop
    delivery.forget()
    delivery.record(RECORD)
    delivery.close()
    assert parents is not None
    assert not parents.is_closed()
    parents.close()
    assert len(inner.loops) == 2


def test_every_step_is_performed() -> None:
    """A sink's plan gets the replies that a driver would send."""
    other = MemorySink()
    sink = Planned(
        Invoke(str, (1,)),
        Invoke(str, (1,), deadline=999.0),
        Invoke(fails),
        Invoke(soon, (2,)),
        Invoke(later),
        Write(other, RECORD),
        Dispatch(str, (3,), {}),
        Sleep(0),
        Gather((plan_of(4), failing_plan())),
    )
    delivery = Delivery(sink, FakeClock())
    delivery.record(RECORD)
    delivery.leave()
    kinds = [type(reply) for reply in sink.replies]
    assert kinds == [Returned, Raised, Raised, Returned, Raised, Returned, Returned, Returned, Returned]
    values = [reply.value for reply in sink.replies if isinstance(reply, Returned)]
    assert values[:3] == ["1", 2, None]
    assert values[3] == "3"
    assert [type(reply) for reply in values[5]] == [Returned, Raised]
    assert [type(reply.error) for reply in sink.replies if isinstance(reply, Raised)] == [
        TimeoutError,
        OSError,
        OSError,
    ]
    assert other.records == sink.records == [RECORD]


def test_the_first_value_ends_what_is_side_by_side() -> None:
    """One after the other, until one brings a value; a failure, told or raised, is none."""
    begun: list[int] = []

    def noting() -> Plan[int]:
        begun.append(1)
        yield from sleep(0)
        return 1

    told = contain(failing_plan())
    sink = Planned(
        Gather((failing_plan(), told, plan_of(4), noting()), first=True), Gather((plan_of(4), noting()), first=False)
    )
    Delivery(sink, FakeClock()).record(RECORD)
    raced, both = [reply.value for reply in sink.replies if isinstance(reply, Returned)]
    assert [type(reply) for reply in raced] == [Raised, Returned, Returned, Raised]
    assert raced[2] == Returned(4)
    assert isinstance(raced[3].error, TimeoutError)
    assert both == (Returned(4), Returned(1))
    assert begun == [1]


def test_a_sink_boards_no_flight() -> None:
    """What callers share is a decision; a sink's plan is told so."""
    flight: Any = object()
    sink = Planned(Launch(plan_of(1), flight), Wait(flight))
    Delivery(sink, FakeClock()).record(RECORD)
    assert [type(reply) for reply in sink.replies] == [Raised, Raised]


def test_keywords_of_a_dispatch_are_passed() -> None:
    """What is dispatched gets its keywords."""
    sink = Planned(Dispatch(dict, (), {"a": 1}))
    Delivery(sink, FakeClock()).record(RECORD)
    assert sink.replies == [Returned({"a": 1})]


@pytest.mark.parametrize("answer", [lambda: True, lambda: plan_of(1), lambda: soon(1)])
def test_what_is_no_answer_is_an_error(answer: Callable[[], Any]) -> None:
    """A record is taken when nothing is returned, in the end."""

    class Chatty(MemorySink):
        def record(self, record: Record) -> Any:
            return answer()

    delivery = Delivery(Chatty(), FakeClock())
    with pytest.raises(AuditError, match=r"`Chatty\.record` must return None once the record is taken"):
        delivery.record(RECORD)
    delivery.leave()


@pytest.mark.parametrize("answer", [fails, failing_plan, later])
def test_what_a_sink_raises_comes_out(answer: Callable[[], Any]) -> None:
    """However it answers."""

    class Failing(MemorySink):
        def record(self, record: Record) -> Any:
            return answer()

        def close(self) -> Any:
            return answer()

    delivery = Delivery(Failing(), FakeClock())
    with pytest.raises(OSError):
        delivery.record(RECORD)
    with pytest.raises(OSError):
        delivery.close()
    assert delivery._loop is None


def test_a_nested_plan_is_run() -> None:
    """What an extension point answers with a plan is brought to its end by the plan that called it."""

    class Outer(MemorySink):
        def record(self, record: Record) -> Plan[None]:  # type: ignore[override]
            assert unwrap((yield from attempt(plan_of, 5))) == 5

    Delivery(Outer(), FakeClock()).record(RECORD)
