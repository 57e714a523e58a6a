"""
Conformance of audit sinks: what every one of them must do, as one plain function.

Imports what every conformance suite rests on, the drivers, and what is below them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any, Final

import attrs

from pep.audit.record import Kind, Record, new_id
from pep.clock import SystemClock
from pep.drive import APerformer, Performer, arun, run
from pep.model import Resource
from pep.plan import Raised, Reply, attempt
from pep.profile import Guarantee
from pep.protocols import Sink
from pep.testing.conforming import HOSTILE, PATIENCE, awaited, hold

#: How many threads, or tasks, write at once, and how many records each.
THREADS: Final = 4
EACH: Final = 25

#: How often the process is forked while a thread writes.
FORKS: Final = 3

# How long a text no format may choke on; longer than a UDP datagram.
_HUGE: Final = 100_000

# What has no value in JSON, or none that every reader takes; a record tells all of it safely.
_AWKWARD: Final = (float("nan"), float("-inf"), 2**64, -(2**63), "\ud800", b"\xff", object(), {1: {None: ()}}, 0.1)

# What became of a forked child's record: it could read it itself, it was told that it was taken, or neither.
_SEEN, _TAKEN, _REFUSED = range(3)

#: Brings a sink's backend into trouble for as long as it is entered.
Trouble = Callable[[Any], AbstractContextManager[object]]


def check_sink(
    make: Callable[[], Sink],
    *,
    read: Callable[[Any], Sequence[bytes]] | None = None,
    troubles: Iterable[Trouble] = (),
    longest: int | None = None,
) -> None:
    """
    Check a sink.

    Args:
        make: Makes an empty one; called more than once. Each is closed in the end, if it can be.

        read: Returns the JSON of every record a sink holds, in order; records of its own, such as ``open`` and
            ``gap``, may stand between. Without it, what a sink holds is not checked.

        troubles: What its backend may suffer: each is given a sink, and returns a context manager within which the
            backend refuses, or hangs. A sink that declares more than ``BUFFERED`` must raise there; every one must
            answer within ten seconds, and take records again afterwards.

        longest: The longest JSON it holds as it is, in bytes, if there is a limit; in place of a longer record it
            may hold another one with the same id, kind and outcome.

    Raises:
        NotConforming: Naming the rule that does not hold.
    """
    with ExitStack() as made:
        trial = Trial(make, read, longest, made)
        _check_records(trial)
        _check_notes(trial)
        _check_threads(trial)
        _check_forks(trial)
        for trouble in troubles:
            _check_trouble(trial, trouble)


@attrs.define(eq=False)
class Trial:
    """One sink after another, called in every world it serves, and read."""

    make: Callable[[], Sink]
    read: Callable[[Any], Sequence[bytes]] | None
    longest: int | None
    made: ExitStack

    def start(self) -> Caller:
        """Make a sink, which is closed in the end."""
        sink = self.make()
        hold(isinstance(sink, Sink), "a sink has `record(record)` and `guarantee`")
        guarantee: object = sink.guarantee
        hold(type(guarantee) is Guarantee, "`guarantee` is a `Guarantee`")
        caller = Caller(sink)
        self.made.callback(caller.end)
        return caller

    def check(self, caller: Caller, given: Sequence[Record], *, ordered: bool = True) -> None:
        """Check that a sink holds what it acknowledged, no more and no less of it."""
        if self.read is None:
            return
        ids = {record.id for record in given}
        held = [bytes(line) for line in self.read(caller.sink)]
        hold(all(len(line.splitlines()) == 1 for line in held), "one record is one line")
        told = [(line, _parsed(line)) for line in held]
        found = [(line, fields) for line, fields in told if fields.get("id") in ids]
        wanted = list(given)
        if not ordered:
            found.sort(key=lambda pair: str(pair[1]["id"]))
            wanted.sort(key=lambda record: record.id)
        same = len(found) == len(wanted) and all(map(self._stands_for, found, wanted))
        hold(same, f"it holds every record it acknowledged{', in order' * ordered}, as it was")

    def sees(self, caller: Caller, record: Record) -> bool:
        """Tell whether a record is to be read in this process; what promises nothing is not read."""
        if self.read is None or caller.sink.guarantee is Guarantee.BUFFERED:
            return False
        return any(_parsed(bytes(line)).get("id") == record.id for line in self.read(caller.sink))

    def _stands_for(self, held: tuple[bytes, Mapping[str, Any]], record: Record) -> bool:
        line, fields = held
        if self.longest is None or len(record.to_json()) <= self.longest:
            return line == record.to_json()
        return (fields["id"], fields["kind"], fields.get("outcome")) == (record.id, record.kind.value, record.outcome)


class Caller:
    """Calls one sink, in every world it serves; on one event loop, since clients are bound to theirs."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.only_awaited = awaited(sink, sink.record)
        self._clock = SystemClock()
        self._loop = asyncio.new_event_loop()

    def record(self, record: Record) -> list[Reply]:
        """Hand over one record in each world."""
        return ([] if self.only_awaited else [self.at_once(record)]) + [self.later([record])[0]]

    def once(self, record: Record) -> Reply:
        """Hand over one record in one world."""
        return self.later([record])[0] if self.only_awaited else self.at_once(record)

    def at_once(self, record: Record) -> Reply:
        """Hand over one record on this thread."""
        reply: Reply = run(self._plan(self.sink.record, record), Performer(self._clock))
        return reply

    def later(self, records: Sequence[Record]) -> list[Reply]:
        """Hand over some records in a task each."""
        return self._loop.run_until_complete(self._all(self.sink.record, [(record,) for record in records]))

    def close(self) -> bool:
        """Close the sink, if it can be; tell whether it could."""
        method = getattr(self.sink, "aclose", None) or getattr(self.sink, "close", None)
        if method is None:
            return False
        reply = self._loop.run_until_complete(self._all(method, [()]))[0]
        hold(not isinstance(reply, Raised), "it can be closed, more than once")
        return True

    def end(self) -> None:
        """Close the sink and the loop."""
        try:
            self.close()
        finally:
            self._loop.close()

    async def _all(self, method: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Reply]:
        performer = APerformer(self._clock)
        return list(await asyncio.gather(*[arun(self._plan(method, *call), performer) for call in calls]))

    def _plan(self, method: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401  a plan
        return attempt(method, *args, deadline=self._clock.monotonic() + PATIENCE)


def _check_records(trial: Trial) -> None:
    """Hand over all sorts of records: each is held as it is, in order; a closed sink refuses."""
    caller, given = trial.start(), list(_records())
    expected: list[Record] = []
    for record in given:
        before = record.to_json()
        replies = caller.record(record)
        hold(all(map(_taken, replies)), "it takes every record, in both worlds, and returns nothing")
        hold(record.to_json() == before, "it leaves records as they are")
        expected += [record] * len(replies)
    trial.check(caller, expected)
    _check_stats(caller.sink)
    if caller.close():
        caller.close()
        hold(isinstance(caller.once(_record("late")), Raised), "a closed sink refuses")
        trial.check(caller, expected)


def _check_stats(sink: Sink) -> None:
    stats = getattr(sink, "stats", None)
    if stats is None:
        return
    counts = stats()
    good = isinstance(counts, dict) and all(type(count) is int and count >= 0 for count in counts.values())
    hold(good, "`stats()` is a dict of whole numbers")
    if "submitted" in counts:
        ends = sum(counts.get(name, 0) for name in ("durable", "buffered", "dropped", "rejected"))
        hold(counts["submitted"] == ends, "submitted = durable + buffered + dropped + rejected")


def _check_notes(trial: Trial) -> None:
    """Hold a sink that takes notes to holding the record that each of them stands for."""
    caller = trial.start()
    take = getattr(caller.sink, "take", None)
    if take is None:
        return
    given = [_record(text) for text in HOSTILE]
    for record in given:
        hold(take((_TELLER, record)) is None, "`take(note)` returns nothing")
    trial.check(caller, given)
    if caller.close():
        try:
            take((_TELLER, given[0]))
        except Exception:  # noqa: BLE001  however it refuses
            return
        hold(False, "a closed sink refuses notes")  # noqa: FBT003  it does not


def _check_threads(trial: Trial) -> None:
    """Write from several threads at once, or tasks: nothing is lost, and nothing damaged."""
    caller = trial.start()
    records = [[_record(f"{thread}.{number}") for number in range(EACH)] for thread in range(THREADS)]
    replies: list[Reply] = []
    if caller.only_awaited:
        for few in zip(*records, strict=True):
            replies += caller.later(few)
    else:
        threads = [_thread(partial(_write, caller, few, replies)) for few in records]
        for thread in threads:
            thread.join(PATIENCE)
    hold(len(replies) == THREADS * EACH and all(map(_taken, replies)), "it takes records of several threads at once")
    given = [record for few in records for record in few]
    with _told_as("it keeps every record of every thread whole"):
        trial.check(caller, given, ordered=False)


def _write(caller: Caller, few: Iterable[Record], replies: list[Reply]) -> None:
    for record in few:
        replies.append(caller.at_once(record))  # noqa: PERF401  one at a time, for others to see


def _check_forks(trial: Trial) -> None:
    """Fork while a thread is writing: no child hangs, and nothing is damaged."""
    caller = trial.start()
    if caller.only_awaited or not hasattr(os, "fork"):
        return
    taken, ended = [_record("before")], threading.Event()
    hold(_taken(caller.at_once(taken[0])), "it takes a record")

    def write() -> None:
        while not ended.is_set() and len(taken) < THREADS * EACH:
            record = _record("meanwhile")
            if _taken(caller.at_once(record)):
                taken.append(record)

    writer = _thread(write)
    children = [_record(f"child {number}") for number in range(FORKS)]
    try:
        codes = [_forked(trial, caller, record) for record in children]
    finally:
        ended.set()
        writer.join(PATIENCE)
    hold(all(code in {_SEEN, _TAKEN} for code in codes), "a forked child writes on, and does not hang")
    taken.append(_record("after"))
    hold(_taken(caller.at_once(taken[-1])), "it takes records after a fork")
    # What only a child's own memory held is gone with it.
    promised = caller.sink.guarantee > Guarantee.BUFFERED
    shared = [record for record, code in zip(children, codes, strict=True) if promised and code == _TAKEN]
    with _told_as("a fork loses and damages nothing"):
        trial.check(caller, taken + shared, ordered=False)


def _forked(trial: Trial, caller: Caller, record: Record) -> int | None:
    """Hand over a record in a forked child; return what became of it there, None where it hung."""
    with warnings.catch_warnings():
        # Python 3.12 warns of what is tried here: a child of a process with threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = _REFUSED
        try:
            if _taken(caller.at_once(record)):
                status = _SEEN if trial.sees(caller, record) else _TAKEN
        finally:
            os._exit(status)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _check_trouble(trial: Trial, trouble: Trouble) -> None:
    """Bring the backend into trouble: the sink answers in time, promises nothing it does not hold, and recovers."""
    caller = trial.start()
    first = _record("before")
    hold(_taken(caller.once(first)), "it takes a record")
    replies: list[Reply] = []
    with trouble(caller.sink):
        helper = _thread(lambda: replies.append(caller.once(_record("meanwhile"))))
        helper.join(PATIENCE)
        hold(bool(replies), "it never waits for ever for its backend")
        if caller.sink.guarantee > Guarantee.BUFFERED:
            hold(isinstance(replies[0], Raised), "what its backend does not take, it refuses")
    last = _record("after")
    hold(_taken(caller.once(last)), "it takes records again once its backend is back")
    trial.check(caller, [first, last])


def _records() -> Iterator[Record]:
    """Make records that are hard to write: hostile ids, awkward values, huge texts; one of each kind."""
    yield from map(_record, HOSTILE)
    yield _record("x" * _HUGE)
    yield _record("1", odd=_AWKWARD, **{"": 1, "a.b": {"a": [[]]}, "\u2028": "\x7f", "requests": [1, {"resource": 2}]})
    yield _record("2", **{f"field {number}": "\x00" * 50 for number in range(200)})
    yield _record("3", subject="nobody", action=1, outcome=["\n"], resource=None)
    for kind in Kind:
        yield Record(kind, new_id(1.0), 1.0, {"outcome": "denied", "decision": new_id(1.0)})


def _record(text: str, **fields: Any) -> Record:  # noqa: ANN401  whatever a field may hold
    now = SystemClock().wall()
    told = {"resource": Resource("document", text).to_dict(), "action": "read", "outcome": "permitted", **fields}
    return Record(Kind.DECISION, new_id(now), now, told)


def _taken(reply: Reply) -> bool:
    return not isinstance(reply, Raised) and reply.value is None


def _thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def _parsed(line: bytes) -> Mapping[str, Any]:
    try:
        told = json.loads(line)
    except ValueError:
        told = None
    return told if isinstance(told, dict) else {}


@contextlib.contextmanager
def _told_as(rule: str) -> Iterator[None]:
    """Name a rule in place of the one that does not hold."""
    try:
        yield
    except AssertionError:
        hold(False, rule)  # noqa: FBT003  it does not


class _Teller:
    """Tells the record that a note stands for, as the hot path's own do."""

    def record(self, note: tuple[Any, Record]) -> Record:
        """Return the record."""
        return note[1]

    def json(self, note: tuple[Any, Record]) -> bytes:
        """Return the record's JSON."""
        return note[1].to_json()


_TELLER: Final = _Teller()
