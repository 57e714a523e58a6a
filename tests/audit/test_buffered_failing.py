from __future__ import annotations

from typing import Any

import pytest

from pep.audit.buffered import BufferedSink
from pep.audit.drainer import TRIES
from pep.audit.record import Kind, Record
from pep.errors import AuditError
from tests.audit.buffers import SHAPE, SOON, Keeping, Watched, gaps, names, record, stuck, until

pytestmark = pytest.mark.usefixtures("measured")


# When the other sink fails.


def test_what_is_refused_is_tried_again() -> None:
    """A record that the other sink refuses once or twice is written all the same."""
    with stuck() as (sink, inner):
        inner.let(TRIES - 1, OSError())
        inner.let(1)
        for _ in range(TRIES - 1):
            assert inner.asked.get(timeout=SOON)["name"] == "first"
    assert names(inner) == ["first"]
    assert sink.stats()["errors"] == TRIES - 1
    assert sink.stats()["dropped"] == 0


def test_in_an_outage_one_record_is_lost_and_the_rest_wait() -> None:
    """After a record was given up, nothing is tried but to tell of it; then everything goes on."""
    with stuck() as (sink, inner):
        for at in range(5):
            sink.record(record(at))
        inner.let(TRIES, OSError())
        for _ in range(TRIES - 1):
            assert inner.asked.get(timeout=SOON)["name"] == "first"
        asked = [inner.asked.get(timeout=SOON)]
        for _ in range(10):
            inner.let(1, OSError())
            asked.append(inner.asked.get(timeout=SOON))
        assert {each.kind for each in asked} == {Kind.GAP}
        assert len({each.id for each in asked}) == 1, "it is one and the same, however often it is tried"
        assert sink.stats()["dropped"] == 1
        assert sink.stats()["buffered"] == 5
    assert names(inner) == ["gap", *range(5)]
    assert gaps(inner) == [{"lost": 1, "dropped": {"decision permitted": 1}}]


def test_a_note_that_is_refused_is_told_of() -> None:
    """What the hot path took is counted like any other record."""
    with stuck() as (sink, inner):
        sink.take((SHAPE, 1))
        sink.record(record(2, "no outcome of ours", Kind.OUTCOME))
        inner.let(1)
        inner.let(TRIES, OSError())
        inner.let(1)
        inner.let(TRIES, OSError())
        until(lambda: sink.stats()["dropped"] == 2)
    assert names(inner) == ["first", "gap", "gap"]
    assert gaps(inner) == [
        {"lost": 1, "dropped": {"decision permitted": 1}},
        {"lost": 1, "dropped": {"outcome": 1}},
    ]


def test_what_is_no_answer_is_a_failure() -> None:
    """A sink that answers with something has not said that it took the record."""

    class Chatty(Keeping):
        def record(self, record: Record) -> Any:
            return True

    sink = BufferedSink(Chatty(), linger=0, pause=0, patience=0.05)
    sink.record(record())
    with pytest.raises(AuditError, match="1 audit records were not written"):
        sink.close()
    assert sink.stats()["dropped"] == 1


@pytest.mark.usefixtures("unmeasured")
def test_a_sink_that_ends_its_thread_does_not_end_writing() -> None:
    """The next record starts another thread."""

    class Exiting(Watched):
        tries = 0

        def record(self, record: Record) -> None:
            self.tries += 1
            if self.tries == 1:
                raise SystemExit
            super().record(record)

    inner = Exiting()
    sink = BufferedSink(inner, linger=0)
    sink.record(record(1))
    until(lambda: bool(sink._drainer._turn) and sink._drainer.asleep)
    sink.record(record(2))
    inner.wait_for(2)
    sink.close()
    assert names(inner) == [1, 2]
