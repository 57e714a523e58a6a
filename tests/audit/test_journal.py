from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pep.audit.journal import Journal
from pep.audit.memory import MemorySink
from pep.audit.record import Kind, Record
from pep.errors import AuditError
from pep.plan import Raised, Returned, Write, sleep
from tests.plans import finish


class Clock:
    now = 1_700_000_000.0

    def wall(self) -> float:
        return self.now

    monotonic = boottime = wall


class Failing(MemorySink):
    """A sink that refuses while it is told to."""

    broken = False

    def record(self, record: Record) -> None:
        if self.broken:
            message = "disk full"
            raise OSError(message)
        super().record(record)


class Observer:
    def __init__(self, error: Exception | None = None) -> None:
        self.seen: list[Record] = []
        self.error = error

    def observe(self, record: Record) -> None:
        self.seen.append(record)
        if self.error is not None:
            raise self.error


def journal(sink: Any = None, **options: Any) -> Journal:
    return Journal(MemorySink() if sink is None else sink, Clock(), "billing", **options)


def write(some: Journal, name: str = "one") -> Any:
    return finish(some.write(some.make(Kind.DECISION, {"name": name}), 9.0))


def told(sink: MemorySink) -> list[Any]:
    return [record.get("name") or record.get("lost") or record.get("change") for record in sink.records]


def test_records_name_their_enforcer_and_moment() -> None:
    """A record is of its enforcer, and of now; a given id is kept, and what is None is left out."""
    some = journal()
    made = some.make(Kind.CHECK, {"a": 1, "b": None}, record_id="given")
    assert json.loads(made.to_json()) == {
        "schema": "pep.audit/1",
        "kind": "check",
        "id": "given",
        "time": "2023-11-14T22:13:20.000000Z",
        "enforcer": "billing",
        "a": 1,
    }
    assert some.make(Kind.CHECK, {}).id != some.make(Kind.CHECK, {}).id


def test_a_write_is_one_step_with_a_deadline() -> None:
    """Writing a record is one step of the plan, by the deadline of the call."""
    some, steps = journal(), []
    assert finish(some.write(some.make(Kind.DECISION, {}), 9.0), steps) is None
    assert [(type(step), step.sink, step.deadline) for step in steps] == [(Write, some.sink, 9.0)]
    assert some.counts == {"recorded": 1}


def test_a_record_that_fails_is_told_and_counted() -> None:
    """What the sink did not take comes back as what went wrong, and is shown to no observer."""
    sink, observer = Failing(), Observer()
    some = journal(sink, observers=[observer])
    sink.broken = True
    assert isinstance(write(some), OSError)
    assert (some.counts, observer.seen) == ({"unrecorded": 1}, [])
    sink.broken = False
    assert write(some) is None
    assert observer.seen == sink.records


def test_observers_never_fail_a_call() -> None:
    """An observer that fails is counted, and those after it still see the record."""
    last = Observer()
    some = journal(observers=[Observer(ValueError()), last])
    assert write(some) is None
    assert some.counts == {"recorded": 1, "unobserved": 1}
    assert len(last.seen) == 1


def test_sinks_may_be_plans() -> None:
    """A sink that returns a plan has its steps run, bound by the deadline, and may fail in it."""

    class Slow(MemorySink):
        def record(self, record: Record) -> Any:
            yield from sleep(1)
            super().record(record)

    some = journal(Slow())
    for reply, expected in ((Returned(None), None), (Raised(OSError("late")), OSError)):
        plan = some.write(some.make(Kind.DECISION, {}), 9.0)
        step = next(plan)
        nap = plan.send(Returned(step.sink.record(step.record)))
        assert nap.deadline == 9.0
        with pytest.raises(StopIteration) as ended:
            plan.send(reply)
        assert ended.value.value is None if expected is None else isinstance(ended.value.value, expected)


async def agen() -> Any:
    yield 1


@pytest.mark.parametrize("answer", [True, False, 0, 17, "ok", object(), agen])
def test_a_sink_that_answers_anything_has_not_acknowledged(answer: Any) -> None:
    """Only None says that the record is taken: a number, a future or an async generator may mean that it is not."""

    class Odd(MemorySink):
        def record(self, _record: Record) -> Any:
            return answer() if answer is agen else answer

    error = write(journal(Odd()))
    assert isinstance(error, AuditError)
    assert "`Odd.record` must return None once the record is taken" in str(error)


def test_announcements_come_first() -> None:
    """What is announced is written before the next record, in order, once."""
    sink = Failing()
    some = journal(sink)
    some.announce(Kind.CONFIGURATION, {"change": "wired"})
    some.announce(Kind.CONFIGURATION, {"change": "overridden"})
    assert told(sink) == []
    for name in ("one", "two"):
        assert write(some, name) is None
    assert told(sink) == ["wired", "overridden", "one", "two"]


def test_nothing_is_written_before_what_is_due() -> None:
    """While an announcement or the gap cannot be written, neither can anything after it."""
    sink = Failing()
    some = journal(sink)
    some.announce(Kind.CONFIGURATION, {"change": "wired"})
    some.owe()
    some.owe()
    sink.broken = True
    assert isinstance(write(some), OSError)
    assert isinstance(write(some), OSError)
    sink.broken = False
    assert write(some) is None
    assert told(sink) == [2, "wired", "one"]
    assert some.counts == {"lost": 2, "unrecorded": 2, "recorded": 3}


def test_a_second_writer_does_not_overtake_what_is_due() -> None:
    """A record written while another thread is still telling of a gap comes after a gap record too, of the same id."""
    sink = MemorySink()
    some = journal(sink)
    some.owe()
    first = some.write(some.make(Kind.DECISION, {"name": "first"}), 9.0)
    gap = next(first).record
    assert gap.kind is Kind.GAP
    assert write(some, "second") is None
    assert [record.id for record in sink.of(Kind.GAP)] == [gap.id]
    assert told(sink) == [1, "second"]
    step = first.send(Returned(sink.record(gap)))
    assert step.record["name"] == "first"
    with pytest.raises(StopIteration):
        first.send(Returned(sink.record(step.record)))
    assert {record.id for record in sink.of(Kind.GAP)} == {gap.id}
    assert write(some, "third") is None
    assert told(sink) == [1, "second", 1, "first", "third"]


def test_a_gap_that_failed_in_one_thread_is_still_due_in_another() -> None:
    """A gap is due until it is acknowledged, whoever tried, and losses in between are told of as well."""
    sink = MemorySink()
    some = journal(sink)
    some.owe()
    first = some.write(some.make(Kind.DECISION, {"name": "first"}), 9.0)
    next(first)
    some.owe()
    with pytest.raises(StopIteration) as ended:
        first.send(Raised(OSError()))
    assert isinstance(ended.value.value, OSError)
    assert write(some, "second") is None
    assert sorted(record["lost"] for record in sink.of(Kind.GAP)) == [1, 1]
    assert told(sink)[-1] == "second"


class JournalMachine(RuleBasedStateMachine):
    """Records are written, lost and announced, with a sink that breaks and recovers."""

    @initialize()
    def start(self) -> None:
        self.sink = Failing()
        self.journal = journal(self.sink)
        self.acknowledged: list[str] = []
        self.refused = self.lost = self.announced = 0

    @rule(broken=st.booleans())
    def disk(self, broken: bool) -> None:
        self.sink.broken = broken

    @rule()
    def lose(self) -> None:
        self.journal.owe()
        self.lost += 1

    @rule()
    def announce(self) -> None:
        self.journal.announce(Kind.CONFIGURATION, {"change": "x"})
        self.announced += 1

    @rule()
    def record(self) -> None:
        made = self.journal.make(Kind.DECISION, {})
        if finish(self.journal.write(made, 9.0)) is None:
            self.acknowledged.append(made.id)
            assert self.lost == sum(gap["lost"] for gap in self.sink.of(Kind.GAP))
            assert self.announced == len(self.sink.of(Kind.CONFIGURATION))
            assert not self.sink.broken
        else:
            self.refused += 1
            assert self.sink.broken

    @invariant()
    def nothing_is_lost_silently(self) -> None:
        counts = self.journal.counts
        assert [record.id for record in self.sink.of(Kind.DECISION)] == self.acknowledged
        assert (counts["unrecorded"], counts["lost"]) == (self.refused, self.lost)
        assert counts["recorded"] == len(self.sink.records)


TestJournal = JournalMachine.TestCase
