"""Rates and allowances: bounded, exact, and refusing when in doubt."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pep.rate
from pep.errors import ConfigurationError
from pep.rate import MAX_COUNT, MAX_SUBJECTS, Allowance, Rate

ALICE, BOB, CAROL = b"alice", b"bob", b"carol"


@pytest.mark.parametrize(
    ("text", "count", "seconds"),
    [
        ("1/second", 1, 1),
        ("100/minute", 100, 60),
        ("10/hour", 10, 3_600),
        ("5/day", 5, 86_400),
        ("100000/second", 100_000, 1),
    ],
)
def test_rates_are_read_and_written_alike(text: str, count: int, seconds: int) -> None:
    """A rate is a count and the seconds of its unit, and is written as it was read."""
    rate = Rate.parse(text)
    assert (rate.count, rate.seconds, str(rate)) == (count, seconds, text)


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("", "`` is no rate"),
        ("100", "`100` is no rate; write a count and one of second, minute, hour, day, such as `100/minute`"),
        ("100/min", "`100/min` is no rate"),
        ("100/MINUTE", "is no rate"),
        ("100/minutes", "is no rate"),
        ("0/minute", "is no rate"),
        ("-1/minute", "is no rate"),
        ("+1/minute", "is no rate"),
        ("01/minute", "is no rate"),
        ("1.5/minute", "is no rate"),
        ("1_0/minute", "is no rate"),
        ("٣/minute", "is no rate"),
        (" 1/minute", "is no rate"),
        ("1/minute\n", "is no rate"),
        ("1 / minute", "is no rate"),
        ("5/10 minutes", "is no rate"),
        ("1/second/second", "is no rate"),
        ("9" * 5_000 + "/day", "is no rate"),
        ("100001/day", "counts from 1 to 100000; name a shorter unit"),
        (100, "`int` is no rate"),
        (None, "`NoneType` is no rate"),
        (b"1/minute", "`bytes` is no rate"),
    ],
)
def test_anything_else_is_no_rate(text: str, fragment: str) -> None:
    """What is not exactly a count and a unit is refused, saying how to write one."""
    with pytest.raises(ConfigurationError) as caught:
        Rate.parse(text)
    assert fragment in str(caught.value)


@pytest.mark.parametrize(("count", "seconds"), [(0, 60), (True, 60), (1.0, 60), (MAX_COUNT + 1, 60), (1, 61), (1, 1.0)])
def test_rates_are_checked_however_they_are_made(count: int, seconds: int) -> None:
    """A rate built directly obeys the same bounds as one that was read."""
    with pytest.raises(ConfigurationError, match="a rate"):
        Rate(count, seconds)


@pytest.mark.parametrize(
    ("limit", "per_subject", "takes"),
    [
        pytest.param("2/second", None, [(ALICE, 0, True), (BOB, 0, True), (CAROL, 0.999, False)], id="all together"),
        pytest.param("1/second", None, [(ALICE, 0, True), (ALICE, 0.999, False), (ALICE, 1, True)], id="full window"),
        pytest.param(
            "2/second",
            None,
            [(ALICE, 0, True), (ALICE, 0.75, True), (ALICE, 1.0, True), (ALICE, 1.5, False), (ALICE, 1.75, True)],
            id="slides, with no burst at a boundary",
        ),
        pytest.param(
            "9/second",
            "1/minute",
            [(ALICE, 0, True), (ALICE, 30, False), (BOB, 30, True), (ALICE, 60, True), (BOB, 89, False)],
            id="each subject apart",
        ),
        pytest.param(
            "2/minute",
            "1/second",
            [(ALICE, 0, True), (ALICE, 0, False), (BOB, 0, True), (CAROL, 1, False), (CAROL, 60, True)],
            id="both must allow",
        ),
        pytest.param(
            "1/minute",
            "1/hour",
            [(ALICE, 0, True), (BOB, 0, False), (BOB, 60, True)],
            id="the limit refuses: nothing of the subject's is used up",
        ),
        pytest.param(
            "2/minute",
            "1/minute",
            [(ALICE, 0, True), *[(ALICE, 0, False)] * 5, (BOB, 0, True)],
            id="the subject's rate refuses: nothing of the limit is used up",
        ),
        pytest.param("1/second", None, [(ALICE, 10, True), (ALICE, 0, False), (ALICE, 11, True)], id="time goes back"),
        pytest.param("1/second", None, [(ALICE, 0, True), (ALICE, math.nan, False), (ALICE, 1, True)], id="no time"),
    ],
)
def test_an_allowance_is_used(limit: str, per_subject: str | None, takes: list[tuple[bytes, float, bool]]) -> None:
    """A call is allowed exactly when both rates still are, and uses both up or neither."""
    allowance = Allowance(Rate.parse(limit), per_subject and Rate.parse(per_subject))
    assert [allowance.take(key, now) for key, now, _ in takes] == [allowed for *_, allowed in takes]


@given(
    limit=st.integers(1, 4),
    per_subject=st.none() | st.integers(1, 3),
    units=st.tuples(st.sampled_from([1, 60]), st.sampled_from([1, 60])),
    calls=st.lists(st.tuples(st.sampled_from([ALICE, BOB, CAROL]), st.sampled_from([0.0, 0.25, 0.5, 1, 15, 59.75]))),
)
def test_an_allowance_equals_its_naive_model(
    limit: int, per_subject: int | None, units: tuple[int, int], calls: list[tuple[bytes, float]]
) -> None:
    """No stretch of time, however placed, holds more than a rate allows, and none is refused without need."""
    share = None if per_subject is None else Rate(per_subject, units[1])
    allowance = Allowance(Rate(limit, units[0]), share)
    allowed: list[tuple[bytes, float]] = []
    now = 0.0
    for key, pause in calls:
        now += pause
        recent = sum(now - then < units[0] for _, then in allowed)
        own = sum(now - then < units[1] for who, then in allowed if who == key)
        expected = recent < limit and (share is None or own < share.count)
        assert allowance.take(key, now) is expected
        allowed += [(key, now)] * expected


def test_subjects_are_bounded() -> None:
    """When it would have to remember one subject too many, an allowance refuses until one is forgotten."""
    allowance = Allowance(Rate(MAX_COUNT, 1), Rate(2, 60))
    keys = [str(number).encode() for number in range(MAX_SUBJECTS)]
    assert all(allowance.take(key, 0.0) for key in keys)
    assert not allowance.take(ALICE, 59.0)
    assert allowance.take(keys[0], 59.0)
    assert allowance.take(ALICE, 60.0)


def test_calls_of_subjects_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it would have to remember one call of a subject's too many, an allowance refuses."""
    allowance = Allowance(Rate(2, 1), Rate(9, 60))
    monkeypatch.setattr(pep.rate, "MAX_COUNT", 3)
    assert [allowance.take(ALICE, now) for now in (0, 1, 2, 3, 60)] == [True, True, True, False, True]


def test_what_is_over_is_forgotten() -> None:
    """An allowance remembers nothing of calls whose windows have passed."""
    allowance = Allowance(Rate(9, 1), Rate(9, 1))
    for now, key in enumerate([ALICE, ALICE, BOB, CAROL]):
        assert allowance.take(key, float(now))
    assert (len(allowance._taken), len(allowance._shares), len(allowance._counts)) == (1, 1, 1)


def test_long_keys_are_not_kept() -> None:
    """What an allowance remembers of a subject has one size, however long its id."""
    allowance = Allowance(Rate(9, 60), Rate(1, 60))
    long = b"x" * 65_536
    assert [allowance.take(key, 0.0) for key in (long, long, long + b"y")] == [True, False, True]
    assert {len(key) for key in allowance._counts} == {16}


def test_threads_share_one_allowance() -> None:
    """Eight threads together take exactly what a rate allows."""
    allowance = Allowance(Rate.parse("1000/minute"), Rate.parse("300/minute"))
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda number: allowance.take(b"%d" % (number % 3), 0.0), range(2_000)))
    assert sum(taken) == 900


def test_threads_wait_for_each_other() -> None:
    """A call that comes while another thread is asking waits its turn, and is not refused for it."""
    inside, waiting = Event(), Event()

    class Announced:
        """The allowance's lock, which tells when somebody has to wait for it."""

        def __init__(self, lock: Any) -> None:
            self.lock = lock

        def __enter__(self) -> None:
            if not self.lock.acquire(blocking=False):
                waiting.set()
                self.lock.acquire()

        def __exit__(self, *_error: object) -> None:
            self.lock.release()

    class Slow(float):
        def __gt__(self, other: float) -> bool:
            inside.set()
            assert waiting.wait(10)
            return float.__gt__(self, other)

    allowance = Allowance(Rate.parse("2/minute"))
    allowance._lock = Announced(allowance._lock)  # type: ignore[assignment]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(allowance.take, ALICE, Slow(0))
        assert inside.wait(10)
        second = pool.submit(allowance.take, BOB, 0.0)
        assert (first.result(), second.result()) == (True, True)
    assert not allowance.take(CAROL, 0.0)


def test_an_interrupted_allowance_refuses() -> None:
    """A signal handler or finaliser that asks while its own thread is asking is refused, and nothing hangs."""
    inner: list[bool] = []

    class Interrupting(float):
        def __gt__(self, other: float) -> bool:
            inner.append(allowance.take(ALICE, 0.0))
            return float.__gt__(self, other)

    allowance = Allowance(Rate.parse("2/minute"))
    assert [allowance.take(ALICE, Interrupting(0)), *inner] == [True, False]
    assert allowance.take(ALICE, 0.0)
    assert not allowance.take(ALICE, 0.0)


def test_an_allowance_recovers_from_an_error() -> None:
    """An error in the middle of asking leaves an allowance that still answers."""
    allowance = Allowance(Rate.parse("1/minute"))
    with pytest.raises(TypeError):
        allowance.take(ALICE, "soon")  # type: ignore[arg-type]
    assert allowance.take(ALICE, 0.0)


def test_nothing_allowed_is_denied_later_for_it() -> None:
    """Refused calls do not push the window: one that keeps asking is let through as soon as one that waits."""
    patient, eager = (Allowance(Rate.parse("1/minute")) for _ in range(2))
    assert patient.take(ALICE, 0.0)
    assert [eager.take(ALICE, float(now)) for now in range(61)] == [True, *[False] * 59, True]
    assert patient.take(ALICE, 60.0)


def test_a_repr_tells_the_rates() -> None:
    """An allowance shows its rates, and no subject's key."""
    allowance = Allowance(Rate.parse("2/minute"), Rate.parse("1/hour"))
    allowance.take(ALICE, 0.0)
    shown = repr(allowance)
    assert shown == "Allowance(limit=Rate(count=2, seconds=60), per_subject=Rate(count=1, seconds=3600))"
