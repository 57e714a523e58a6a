from __future__ import annotations

import _thread
import gc
import json
import weakref
from typing import Any

import pytest

from pep import AccessDenied, Enforcer, Fault, Profile, Resource, Subject
from pep.audit.buffered import BufferedSink
from pep.audit.record import Kind, Record
from pep.errors import ConfigurationError
from pep.policy import PolicySet, permit
from pep.profile import Guarantee
from pep.protocols import Sink
from pep.testing import FakeClock, check_sink
from tests.audit.buffers import SHAPE, Keeping, Ticking, Watched, denial, gaps, names, record, stuck, until

pytestmark = pytest.mark.usefixtures("measured")


def test_what_it_took_reaches_the_other_sink_in_order() -> None:
    """Notes and records, permits and denials: all are written, in the order they came."""
    inner = Keeping()
    sink = BufferedSink(inner)
    for at in range(300):
        if at % 3:
            sink.record(denial(at) if at % 2 else record(at))
        else:
            sink.take((SHAPE, at))
    sink.close()
    assert names(inner) == list(range(300))
    assert sink.stats() == {"submitted": 300, "durable": 300, "buffered": 0, "dropped": 0, "rejected": 0, "errors": 0}


def test_it_promises_what_a_buffer_can() -> None:
    """What is in memory survives a clean exit only, whatever the other sink gives."""
    inner = Keeping()
    inner.guarantee = Guarantee.DURABLE
    sink = BufferedSink(inner)
    assert isinstance(sink, Sink)
    assert sink.guarantee is Guarantee.BUFFERED
    assert repr(sink) == "BufferedSink(<Keeping of 0 records>)"
    sink.close()


class NoProof:
    """A sink that states no guarantee."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def record(self, record: Record) -> None:
        self.records.append(record)


def test_buffering_makes_no_proof_of_what_is_none() -> None:
    """A sink that states no guarantee, since it leaves records out, has none behind a buffer either."""
    sink = BufferedSink(NoProof())
    assert not hasattr(sink, "guarantee")
    with pytest.raises(ConfigurationError, match="`guarantee`"):
        Enforcer(PolicySet([]), audit=sink)
    sink.record(record())
    sink.close()
    assert len(sink.sink.records) == 1


def test_it_conforms() -> None:
    """It keeps what it acknowledged, in both worlds and from many threads; a closed one refuses."""

    def read(sink: BufferedSink) -> list[bytes]:
        sink.sink.wait_for(sink.stats()["durable"] + sink.stats()["buffered"])
        return [each.to_json() for each in sink.sink.records]

    made: list[BufferedSink] = []

    def make() -> BufferedSink:
        made.append(BufferedSink(Watched()))
        return made[-1]

    check_sink(make, read=read)
    for sink in made:
        sink.close()


def test_a_note_goes_on_as_a_note_where_it_can() -> None:
    """A sink that takes notes is handed them as they are."""

    class Noting(Keeping):
        def __init__(self) -> None:
            super().__init__()
            self.notes: list[Any] = []

        def take(self, note: Any) -> None:
            self.notes.append(note)

    inner = Noting()
    sink = BufferedSink(inner)
    sink.take((SHAPE, 1))
    sink.close()
    assert inner.notes == [(SHAPE, 1)]


def test_it_starts_no_thread_before_there_is_something_to_write() -> None:
    """A server may fork after it has been made."""
    before = _thread._count()
    sink = BufferedSink(Keeping())
    assert _thread._count() == before
    sink.close()


def test_an_idle_sink_that_nobody_has_goes() -> None:
    """Its thread keeps it alive only while there is something to write."""
    inner = Watched()
    sink = BufferedSink(inner, linger=0)
    sink.record(record())
    inner.wait_for(1)
    gone = weakref.ref(sink._drainer)
    turn = sink._drainer._turn
    del sink
    until(lambda: gc.collect(0) >= 0 and gone() is None and bool(turn))


# In an enforcer.


@pytest.fixture
def ran() -> list[str]:
    return []


def test_code_never_runs_without_room_for_its_record(ran: list[str]) -> None:
    """With a stuck sink, permits are refused by the deadline with fault `audit`; denials stay denials."""
    with stuck(entries=2, overflow="drop-oldest") as (sink, inner):
        policies = PolicySet([permit("alice", action="read", when=None, subject="user")])
        enforcer = Enforcer(policies, audit=sink, profiles={"**": Profile(deadline=2.0)}, clock=Ticking())

        def read() -> None:
            enforcer.enforce("read", Resource("page", "1"), subject=Subject("user", "alice"))
            ran.append("ran")

        read()
        with pytest.raises(AccessDenied) as caught:
            read()
        assert caught.value.fault is Fault.AUDIT
        assert ran == ["ran"]
        with pytest.raises(AccessDenied) as caught:
            enforcer.enforce("write", Resource("page", "1"), subject=Subject("user", "alice"))
        assert caught.value.fault is None
        inner.let(1000)
        enforcer.close()
    kinds = [each.kind for each in inner.records]
    assert kinds == [Kind.DECISION, Kind.DECISION, Kind.GAP, Kind.CLOSE]
    assert gaps(inner) == [{"lost": 1, "dropped": {"decision denied": 1}, "rejected": {"decision permitted": 1}}]


# What it is made with.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"entries": 0}, "`entries` is out of range; give a finite number, 1 or more"),
        ({"entries": True}, "`entries` is out of range"),
        ({"bytes": 1023}, "`bytes` is out of range; give a finite number, 1024 or more"),
        ({"patience": -1}, "`patience` is out of range; give a finite number, 0 or more"),
        ({"patience": float("nan")}, "`patience` is out of range"),
        ({"linger": float("inf")}, "`linger` is out of range"),
        ({"pause": "1"}, "`pause` is out of range"),
        ({"overflow": "drop"}, "unknown overflow `drop`; choose from `wait`, `drop-oldest`, `drop-newest`"),
    ],
)
def test_what_is_out_of_range_is_refused(options: dict[str, Any], message: str) -> None:
    """A typo is an error at the start."""
    with pytest.raises(ConfigurationError, match=message):
        BufferedSink(Keeping(), **options)


@pytest.mark.parametrize("sink", [object(), Keeping])
def test_what_is_no_sink_is_refused(sink: Any) -> None:
    """Neither something else nor a class is a sink."""
    with pytest.raises(ConfigurationError, match="is no audit sink; it needs `record"):
        BufferedSink(sink)


def test_each_gap_is_a_line_like_any_other() -> None:
    """A gap record tells why, and of how many of what."""
    with stuck(entries=1, overflow="drop-newest", clock=FakeClock()) as (sink, inner):
        sink.record(denial())
    told = json.loads(inner.of(Kind.GAP)[0].to_json())
    assert told.pop("id")
    assert told == {
        "schema": "pep.audit/1",
        "kind": "gap",
        "time": "2023-11-14T22:13:20.000000Z",
        "cause": "audit buffer",
        "lost": 1,
        "dropped": {"decision denied": 1},
    }
