from __future__ import annotations

import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep import forking
from pep.audit import ids
from pep.audit.ids import id_of, new_id, numbers
from pep.forking import Forks
from tests.proving import times

NOW = 1_700_000_000.25


@given(st.floats(0, 2**38), st.integers(0, 2**70))
def test_ids_are_version_7_uuids(now: float, number: int) -> None:
    """An id is a well-formed UUIDv7 of its moment (RFC 9562 §5.7)."""
    for text in (new_id(now), id_of(now, number)):
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 7, uuid.RFC_4122)
        assert parsed.int >> 80 == int(now * 1000)


def test_ids_differ_and_sort_by_time() -> None:
    """No two ids are alike, and a later one sorts after an earlier one."""
    made = [new_id(now) for now in (0.001, 1.0, 1.001, time.time(), 4e9) for _ in range(200)]
    assert len(set(made)) == len(made)
    stamps = [text[:13] for text in made]
    assert stamps == sorted(stamps)


def test_ids_of_a_millisecond_sort_as_they_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a millisecond ids ascend, from wherever the count begins (RFC 9562 §6.2)."""
    monkeypatch.setattr(ids._WRITER, "lone", iter(range(2**70 + 2**14 - 50, 2**70 + 2**14 + 50)))
    made = [new_id(NOW) for _ in range(100)]
    assert made == sorted(made)


def test_numbers_and_ids_correspond() -> None:
    """A moment and a number always have the same id, and different ones different ids, however far apart they are."""
    far = [0, 1, 2**13, 2**14, 2**25, 2**26, 2**26 + 1, 2**40, 2**40 + 1, 2**60, 2**70]
    made = [id_of(NOW, number) for number in far]
    assert made == [id_of(NOW, number) for number in far]
    assert len(set(made)) == len(far)


@given(st.sets(st.integers(0, 2**74 - 1), max_size=50))
def test_no_two_numbers_share_an_id(some: set[int]) -> None:
    """At one moment, each number has an id of its own."""
    assert len({id_of(NOW, number) for number in some}) == len(some)


def test_sources_of_numbers_keep_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two enforcers' numbers never meet each other's, nor those of ids that are made alone, wherever they begin."""
    monkeypatch.setattr(ids, "_start", lambda: 0)
    monkeypatch.setattr(ids, "_WRITER", ids._Writer())
    sources = [numbers() for _ in range(50)]
    made = [id_of(NOW, source()) for source in sources for _ in range(50)] + [new_id(NOW) for _ in range(50)]
    assert len(set(made)) == 51 * 50


def test_where_counting_begins_tells_nothing() -> None:
    """How many records there were is not to be read off an id: counts begin anywhere."""
    starts = {numbers()() & (2**25 - 1) for _ in range(20)}
    assert len(starts) > 10


@pytest.mark.parametrize("now", [float("nan"), float("inf"), -float("inf")])
def test_a_clock_without_a_time_costs_no_id(now: float) -> None:
    """Where there is no time to tell, there is an id all the same."""
    made = {new_id(now) for _ in range(10)}
    assert len(made) == 10
    assert {text[:13] for text in made} == {"00000000-0000"}


def test_threads_never_share_an_id() -> None:
    """Ids made at once are different ones."""
    each, gate = times(2_000, 200_000), threading.Barrier(4)

    def make() -> list[str]:
        gate.wait()
        return [new_id(NOW) for _ in range(each)]

    with ThreadPoolExecutor(4) as pool:
        made = [text for future in [pool.submit(make) for _ in range(4)] for text in future.result()]
    assert len(set(made)) == 4 * each


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_makes_ids_of_its_own() -> None:
    """Parent and child, which go on from one number, share no id."""
    source = numbers()
    id_of(NOW, source())
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, f"{new_id(NOW)} {id_of(NOW, source())}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 200).decode().split()
    for end in (reading, writing):
        os.close(end)
    ours = [new_id(NOW), id_of(NOW, source())]
    assert [text[:24] for text in theirs] == [text[:24] for text in ours]
    assert not set(theirs) & set(ours)


def test_another_writer_makes_other_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a forked child does first changes every id it makes, of whatever moment and number."""
    forks = Forks()
    monkeypatch.setattr(forking, "FORKS", forks)
    monkeypatch.setattr(ids, "_WRITER", ids._Writer())
    before = id_of(NOW, 7)
    forks.in_child()
    assert id_of(NOW, 7)[:24] == before[:24]
    assert id_of(NOW, 7) != before
