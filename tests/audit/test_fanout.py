from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep import AccessDenied, Enforcer, Fault, Profile, Resource, Subject
from pep.audit import FileSink, MemorySink
from pep.audit.buffered import BufferedSink
from pep.audit.fanout import FanOut, PartlyRecordedError
from pep.audit.record import Kind, Record, masked
from pep.audit.sampling import Sampled
from pep.clock import SystemClock
from pep.drive import APerformer, Performer, arun, run
from pep.errors import AuditError, ConfigurationError, PDPReplyError
from pep.plan import Plan, Raised, Reply, Returned, attempt, call, sleep
from pep.policy import PolicySet, permit
from pep.profile import Guarantee
from pep.protocols import Sink
from pep.testing import FailingSink, check_sink
from tests.proving import times

RECORD = Record(Kind.DECISION, "id", 1.0, masked({"outcome": "permitted"}))
NOTE = (None,)


class Plain:
    """A sink that may fail, and may be closed."""

    def __init__(self, error: Exception | None = None, guarantee: Guarantee = Guarantee.BUFFERED) -> None:
        self.records: list[Record] = []
        self.error, self.guarantee, self.closed = error, guarantee, 0

    def record(self, record: Record) -> Any:
        if self.error is not None:
            raise self.error
        self.records.append(record)

    def close(self) -> Any:
        self.closed += 1
        if self.error is not None:
            raise self.error


class Planned(Plain):
    """The same as a plan."""

    def record(self, record: Record) -> Plan[None]:
        yield from sleep(0)
        yield from call(super().record, record)

    def close(self) -> Plan[None]:
        yield from sleep(0)
        yield from call(super().close)


class Awaited(Plain):
    """The same, to be awaited."""

    async def record(self, record: Record) -> None:
        await asyncio.sleep(0)
        super().record(record)

    async def close(self) -> None:
        await asyncio.sleep(0)
        super().close()


class Taking(Plain):
    """A sink that takes notes."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__(error)
        self.notes: list[Any] = []

    def take(self, note: Any) -> None:
        if self.error is not None:
            raise self.error
        self.notes.append(note)


def sync(method: Callable[..., Any], *args: Any) -> Reply:
    return run(attempt(method, *args), Performer(SystemClock()))


def later(method: Callable[..., Any], *args: Any) -> Reply:
    return asyncio.run(arun(attempt(method, *args), APerformer(SystemClock())))


# Who has it.


SORTS = [Plain, Planned, Awaited]


@pytest.mark.parametrize(("first", "second", "third"), [*product(SORTS, repeat=3)])
def test_every_sort_of_sink_gets_every_record(first: type[Plain], second: type[Plain], third: type[Plain]) -> None:
    """Plain, planned and awaited sinks mix, in asyncio; without the awaited ones, in both worlds."""
    sinks = [first(), second(), third()]
    fan = FanOut(required=sinks[:2], best_effort=sinks[2:])
    worlds = [later] if Awaited in (first, second, third) else [sync, later]
    assert all(isinstance(world(fan.record, RECORD), Returned) for world in worlds)
    assert len({len(sink.records) for sink in sinks}) == 1
    assert sinks[0].records
    assert fan.asynchronous is (Awaited in (first, second))
    assert isinstance(worlds[0](fan.close), Returned)
    assert [sink.closed for sink in sinks] == [1, 1, 1]


def test_plain_sinks_make_a_plain_one() -> None:
    """Nothing is planned where nothing has to be."""
    sinks = [MemorySink(), Plain(), MemorySink()]
    fan = FanOut(required=sinks[:2], best_effort=sinks[2:])
    assert isinstance(fan, Sink)
    assert fan.record(RECORD) is None
    assert fan.close() is None
    assert all(sink.records == [RECORD] for sink in sinks)
    assert repr(fan).startswith("FanOut(required=[<MemorySink of 1 records>, <")


def test_it_conforms() -> None:
    """It is a sink like any other."""
    check_sink(
        lambda: FanOut(required=[BufferedSink(MemorySink()), MemorySink()], best_effort=[MemorySink()]),
        read=lambda fan: [record.to_json() for record in fan._sinks[1].records],
    )


@given(st.lists(st.tuples(st.sampled_from(SORTS), st.booleans()), min_size=1, max_size=4), st.integers(1, 4))
def test_a_required_sink_that_fails_refuses(shape: list[tuple[type[Plain], bool]], required: int) -> None:
    """All required sinks took it, or it raises; whoever comes after the one that failed is not asked."""
    required = min(required, len(shape))
    error = OSError("disk full")
    sinks = [kind(error if fails else None) for kind, fails in shape]
    fan = FanOut(required=sinks[:required], best_effort=sinks[required:])
    reply = later(fan.record, RECORD)
    failing = [at for at, (_, fails) in enumerate(shape) if fails]
    refused = bool(failing) and failing[0] < required
    assert isinstance(reply, Raised) is refused
    asked = range(failing[0] if refused else len(sinks))
    assert [bool(sink.records) for sink in sinks] == [at in asked and not shape[at][1] for at in range(len(sinks))]
    counts = fan.stats()
    assert counts["refused"] == refused
    assert counts["missed"] == (0 if refused else sum(at >= required for at in failing))
    if isinstance(reply, Raised):
        partly = failing[0] > 0
        assert (reply.error is error) is not partly
        assert isinstance(reply.error, PartlyRecordedError) is partly
        assert getattr(reply.error, "taken", 0) == failing[0]


def test_the_first_to_fail_keeps_its_own_error() -> None:
    """Nobody holds the record: what the sink raised comes out as it is, so that a timeout stays one."""
    fan = FanOut(required=[Plain(TimeoutError()), Plain()])
    with pytest.raises(TimeoutError):
        fan.record(RECORD)


def test_a_record_that_some_took_is_told_from_one_that_none_did() -> None:
    """What another one holds is a decision of a call that will not run."""
    fan = FanOut(required=[Plain(), Plain(), FailingSink()])
    with pytest.raises(
        PartlyRecordedError, match=r"^`FailingSink` did not take a record that 2 required sinks took before it$"
    ) as caught:
        fan.record(RECORD)
    assert caught.value.taken == 2
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("required", [True, False])
def test_what_is_no_answer_is_a_failure(required: bool) -> None:
    """A sink that answers with something has not said that it took the record."""

    class Chatty(Plain):
        def record(self, record: Record) -> Any:
            return True

    sinks = [Chatty()]
    fan = FanOut(required=sinks if required else [Plain()], best_effort=[] if required else sinks)
    reply = sync(fan.record, RECORD)
    assert isinstance(reply, Raised) is required
    assert fan.stats()["refused" if required else "missed"] == 1


def test_what_can_only_be_awaited_fails_without_a_loop() -> None:
    """In the synchronous world it is counted, where it is not required."""
    fan = FanOut(required=[Plain()], best_effort=[Awaited()])
    assert isinstance(sync(fan.record, RECORD), Returned)
    assert fan.stats()["missed"] == 1
    reply = sync(FanOut(required=[Awaited()]).record, RECORD)
    assert isinstance(reply, Raised)
    assert isinstance(reply.error, PDPReplyError)


# What it promises.


@pytest.mark.parametrize(
    ("required", "expected"),
    [
        ([Guarantee.BUFFERED], Guarantee.BUFFERED),
        ([Guarantee.BUFFERED, Guarantee.DURABLE, Guarantee.WRITTEN], Guarantee.DURABLE),
        ([Guarantee.WRITTEN, Guarantee.BUFFERED], Guarantee.WRITTEN),
    ],
)
def test_a_record_survives_what_the_strongest_survives(required: list[Guarantee], expected: Guarantee) -> None:
    """Every required sink has it, so the strongest has; best-effort ones promise nothing."""
    sinks = [Plain(guarantee=guarantee) for guarantee in required]
    assert FanOut(sinks, [Plain(guarantee=Guarantee.DURABLE)]).guarantee is expected


@pytest.mark.parametrize(
    ("required", "best_effort", "message"),
    [
        ([], [MemorySink()], "no sink is required, so that nothing would be proof; name at least one in `required`"),
        ([Sampled(MemorySink(), {})], [], "`Sampled` states no guarantee, so it is no proof; put it in `best_effort`"),
        ([BufferedSink(Sampled(MemorySink(), {}))], [], "`BufferedSink` states no guarantee"),
        ([object()], [], "`object` is no audit sink; it needs `record"),
        ([MemorySink], [], "`MemorySink` is no audit sink"),
        ([MemorySink()], [object()], "`object` is no audit sink"),
    ],
)
def test_what_would_be_no_proof_is_refused(required: list[Any], best_effort: list[Any], message: str) -> None:
    """An error at the start, not a hole in the audit."""
    with pytest.raises(ConfigurationError, match=message):
        FanOut(required, best_effort)


# The hot path.


def test_notes_are_taken_where_every_sink_takes_them() -> None:
    """One without, required or not, would miss what the hot path notes: then there is none."""
    sinks = [Taking(), Taking(), Taking()]
    fan = FanOut(required=sinks[:2], best_effort=sinks[2:])
    fan.take(NOTE)
    assert [sink.notes for sink in sinks] == [[NOTE]] * 3
    assert not hasattr(FanOut(required=[Taking(), Plain()]), "take")
    assert not hasattr(FanOut(required=[Taking()], best_effort=[Plain()]), "take")


def test_a_note_that_a_required_sink_refuses_is_refused() -> None:
    """The same rules hold as for records."""
    fan = FanOut(required=[Taking(), Taking(OSError())], best_effort=[Taking()])
    with pytest.raises(PartlyRecordedError):
        fan.take(NOTE)
    fan = FanOut(required=[Taking()], best_effort=[Taking(OSError())])
    fan.take(NOTE)
    assert fan.stats()["missed"] == 1


# Counting and closing.


def test_what_each_missed_is_counted() -> None:
    """By the sink and its place; with what it counts itself."""
    buffered = BufferedSink(MemorySink())
    fan = FanOut(required=[buffered], best_effort=[FailingSink(at=2)])
    for _ in range(times(3, 30)):
        fan.record(RECORD)
    fan.close()
    counts, expected = fan.stats(), times(3, 30)
    assert counts["missed"] == counts["FailingSink[1].missed"] == expected - 1
    assert counts["refused"] == counts["BufferedSink[0].missed"] == 0
    assert counts["BufferedSink[0].submitted"] == expected


@pytest.mark.parametrize("kind", SORTS)
def test_all_are_closed_even_if_some_cannot_be(kind: type[Plain]) -> None:
    """What could not be closed is named; the others are closed."""
    error = OSError("gone")
    sinks = [Plain(error), Plain(), kind(error), Plain(), kind(error)]
    worlds = [later] if kind is Awaited else [sync, later]
    for closed, world in enumerate(worlds, 1):
        reply = world(FanOut(sinks).close)
        assert isinstance(reply, Raised)
        assert isinstance(reply.error, AuditError)
        name = kind.__name__
        assert str(reply.error) == f"`Plain`, `{name}`, `{name}` could not be closed; their last records may be lost"
        assert reply.error.__cause__ is error
        assert [sink.closed for sink in sinks] == [closed] * 5


def test_closing_in_a_task() -> None:
    """`aclose` closes all of them, whichever way each is closed."""
    buffered = BufferedSink(MemorySink())
    nested = FanOut([Awaited()])
    sinks = [Plain(), Awaited(), buffered, nested, MemorySink()]
    asyncio.run(FanOut(sinks).aclose())
    assert [sinks[0].closed, sinks[1].closed, nested._sinks[0].closed] == [1, 1, 1]
    with pytest.raises(AuditError):
        buffered.record(RECORD)


def test_what_cannot_be_closed_in_a_task_is_told() -> None:
    """A plan needs a driver."""

    async def close() -> None:
        await FanOut([Planned(), Awaited(OSError()), Plain()]).aclose()

    with pytest.raises(AuditError, match="`Planned`, `Awaited` could not be closed"):
        asyncio.run(close())


# In an enforcer.


def test_code_runs_only_when_every_required_sink_has_the_record(tmp_path: Path) -> None:
    """A required sink that fails refuses the call; a best-effort one does not."""
    file = FileSink(tmp_path / "audit.jsonl")
    proof, extra = FailingSink(at=2, once=True), FailingSink(at=1)
    policies = PolicySet([permit("all", action="read")])
    audit = FanOut(required=[file, proof], best_effort=[extra])
    enforcer = Enforcer(policies, audit=audit, profiles={"**": Profile(audit=Guarantee.WRITTEN)})

    def enforce() -> object:
        return enforcer.enforce("read", Resource("page", "1"), subject=Subject("user", "alice"))

    enforce()
    with pytest.raises(AccessDenied) as caught:
        enforce()
    assert caught.value.fault is Fault.AUDIT
    enforce()
    assert [r.kind for r in proof.records].count(Kind.DECISION) == 2
    assert audit.stats()["missed"] == len(proof.records)
    file.close()


def test_awaitables_are_what_they_say() -> None:
    """The sinks of these tests are of the sorts they are named after."""
    answer = Awaited().record(RECORD)
    assert isinstance(answer, Awaitable)
    answer.close()
