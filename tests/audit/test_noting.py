"""Notes: what their records tell, and that their JSON is the same by either way."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pep.audit.noting
from pep import Decision, Effect, Enforcer, Guarantee, Profile, Resource, Subject, acting_as
from pep.audit import Correlation, MemorySink
from pep.audit.correlation import MAX_ID
from pep.audit.noting import COMPARED
from pep.audit.record import Record, json_of, record_of
from pep.pdp import FunctionPDP
from pep.testing import FakeClock
from tests.proving import times
from tests.values import mappings, names


class Taken(MemorySink):
    """A sink that keeps notes as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[tuple[object, ...]] = []
        self.take = self._take

    def _take(self, taken: object) -> None:
        if type(taken) is not Record:
            self.notes.append(taken)  # type: ignore[arg-type]


def noted(sink: Taken, clock: FakeClock, resource: Resource, passing: Iterable[float], **scope: object) -> None:
    """Call a guarded function, and once more after each of some seconds."""
    answer = Decision(Effect.PERMIT, reasons=["it is \u2028 hers"], policies=["p"], revision="1")
    enforcer = Enforcer(FunctionPDP(lambda _request: answer, name="x", pure=True), audit=sink, clock=clock)
    read = enforcer.guard("read", resource="document")(lambda document: document)
    with acting_as(Subject("user", "alice", {"a": "\u202e"}), **scope):  # type: ignore[arg-type]
        read(resource)
        for seconds in passing:
            clock.advance(seconds)
            read(resource)


@settings(max_examples=times(50, 2_000))
@given(names, mappings, st.floats(0, 1e6), st.lists(st.floats(0, 10), max_size=4), mappings)
def test_both_ways_to_tell_a_note_tell_the_same(
    name: str, properties: dict[str, object], wall: float, passing: list[float], context: dict[str, object]
) -> None:
    """The JSON of a note tells what its record tells, to the microsecond, whatever that is and whenever."""
    sink, clock = Taken(), FakeClock()
    clock.advance(wall)
    noted(sink, clock, Resource("document", name, properties), passing, context=context)
    assert len(sink.notes) == len(passing)
    for note in sink.notes:
        line, record = json.loads(json_of(note)), record_of(note).to_dict()
        assert json.loads(record_of(note).to_json()) == record
        assert line.pop("age") == pytest.approx(record.pop("age"), abs=1e-6)
        assert line == record


class Disk(MemorySink):
    """A sink that keeps the notes of calls that leave two records each."""

    guarantee = Guarantee.DURABLE

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[tuple[object, ...]] = []

    def durably(self, note: tuple[object, ...]) -> None:
        self.notes.append(note)


def edited(sink: Disk, clock: FakeClock, *ids: str, **parts: object) -> None:
    """Call a guarded function with each id, and once more before; the clock goes on within its code."""
    profiles = {"**": Profile(audit=Guarantee.DURABLE, permit_ttl=1e9)}
    pdp = FunctionPDP(lambda _request: True, name="x", pure=True)
    enforcer = Enforcer(pdp, audit=sink, clock=clock, profiles=profiles, **parts)  # type: ignore[arg-type]
    edit = enforcer.guard("edit", resource="document:{name}")(lambda name: clock.advance(0.123_457) or name)
    context = {"\u2028": ["\u202e", None]}
    with acting_as(Subject("user", "alice", {"a": "\u202e"}), tenant="t", context=context):
        for name in [*dict.fromkeys(ids), *ids]:
            edit(name)


@settings(max_examples=times(50, 2_000))
@given(names, st.floats(0, 1e6), names)
def test_both_ways_to_tell_an_end_tell_the_same(name: str, wall: float, correlation: str) -> None:
    """The JSON of a note of how a call ended is that of its record, with what it belongs to wherever that stands."""
    for parts in ({}, {"correlation": lambda: Correlation(correlation[:MAX_ID])}, {"correlation": lambda: None}):
        sink, clock = Disk(), FakeClock()
        clock.advance(wall)
        edited(sink, clock, name, name, **parts)
        assert len(sink.notes) == 4
        for note, ended in zip(sink.notes[::2], sink.notes[1::2], strict=True):
            record = record_of(ended)
            assert (record["kind"], record["decision"]) == ("outcome", record_of(note).id)
            line = json.loads(json_of(ended))
            assert line == json.loads(record.to_json()) == record.to_dict()
            if "correlation" not in line:
                assert json_of(ended) == record.to_json()
            assert record.time - record_of(note).time == pytest.approx(0.123_457, abs=2e-6)


def test_few_ends_remember_what_they_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many entries all forget at once what the ends of calls on them share, and tell it anew."""
    monkeypatch.setattr(pep.audit.noting, "MAX_TAILS", 2)
    sink = Disk()
    edited(sink, FakeClock(), *"abcdabcd")
    noting = sink.notes[0][0]._journal.noting  # type: ignore[attr-defined]
    for _ in range(2):
        for ended in sink.notes[1::2]:
            assert json_of(ended) == record_of(ended).to_json()
            assert len(noting._end_tails) <= 2


def test_a_note_keeps_its_place_in_time() -> None:
    """A note's id and time are of when the permit was found, however late it is told; ids rise."""
    sink, clock = Taken(), FakeClock()
    noted(sink, clock, Resource("document", "1"), [5, 5])
    clock.advance(1000)
    records = [record_of(note) for note in sink.notes]
    assert records[1].time - records[0].time == pytest.approx(5)
    assert [one["age"] for one in records] == [5, 10]
    assert records[0].id < records[1].id
    assert [record_of(note).id for note in sink.notes] == [one.id for one in records]


def test_two_clocks_are_compared_again_once_they_may_differ() -> None:
    """A note is told by the wall clock, as it was compared at most a second from it."""
    sink, clock = Taken(), FakeClock()
    noted(sink, clock, Resource("document", "1"), [0, COMPARED / 2, COMPARED * 3])
    found = [record_of(note).time for note in (*sink.notes, sink.notes[0])]
    assert [time - found[0] for time in found] == pytest.approx([0, COMPARED / 2, COMPARED * 3.5, 0])


def test_few_entries_remember_what_they_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many entries the oldest forget what the records of their hits share, and tell it anew."""
    monkeypatch.setattr(pep.audit.noting, "MAX_TAILS", 2)
    sink, clock = Taken(), FakeClock()
    enforcer = Enforcer(FunctionPDP(lambda _request: True, name="x", pure=True), audit=sink, clock=clock)
    read = enforcer.guard("read", resource="document:{name}")(lambda name: name)
    with acting_as(Subject("user", "alice")):
        for _ in range(2):
            for name in "abcd":
                read(name)
    told = [json_of(note) for note in sink.notes]
    assert [note[3].tail is not None for note in sink.notes] == [False, False, True, True]  # type: ignore[attr-defined]
    assert [json_of(note) for note in sink.notes] == told


def test_notes_are_counted() -> None:
    """Every note counts as a record and as a hit."""
    sink, clock = Taken(), FakeClock()
    enforcer = Enforcer(FunctionPDP(lambda _request: True, name="x", pure=True), audit=sink, clock=clock)
    read = enforcer.guard("read", resource="document:{name}")(lambda name: name)
    with acting_as(Subject("user", "alice")):
        for _ in range(4):
            read("a")
    assert len(sink.notes) == 3
    assert (enforcer.stats()["recorded"], enforcer.stats()["hits"], enforcer.stats()["misses"]) == (4, 3, 1)


def test_a_clock_that_tells_no_time_costs_no_record() -> None:
    """A note is told, at the beginning of time, and nothing is refused for it."""
    sink, clock = Taken(), FakeClock()
    enforcer = Enforcer(FunctionPDP(lambda _request: True, name="x", pure=True), audit=sink, clock=clock)
    read = enforcer.guard("read", resource="document:{name}")(lambda name: name)
    with acting_as(Subject("user", "alice")):
        read("a")
        clock.set_wall(float("nan"))
        read("a")
    assert json.loads(json_of(sink.notes[-1]))["time"] == "1970-01-01T00:00:00.000000Z"
