"""
What a guarded call costs by where its record goes, beside a log line.

The record is in memory, buffered on its way to a file, or chained and written to one; the log line is one of
`logging` and one of structlog with orjson, each to a file of its own. BUFFERED is told twice: what the calling thread
pays while there is room, and what a call takes when the file behind it is what everybody waits for.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson
from harness import Bench, Timed, at_most, main, missing, repeated
from scene import ALICE, FLOOR, TEMPLATE, Pure, by_hand, expect, rename, world

from pep import Enforcer, acting_as
from pep.audit import BufferedSink, FileSink, Kind, Record
from pep.audit.record import masked, new_id

WRITTEN: Final = "guarded, WRITTEN"
STRUCTLOG: Final = "structlog, orjson, one line"
#: About as long as a chained record.
LINE: Final = b"x" * 450 + b"\n"


def fill(bench: Bench) -> None:
    """Add every row."""
    bench.floor = FLOOR
    bench.stack.enter_context(acting_as(ALICE))
    folder, calls = bench.folder(), bench.size(20, 1_000)
    floor, warm = by_hand(), world()
    bench.time(FLOOR, repeated(lambda: floor.rename("42", "new")), calls, settle=floor.settle)
    guarded = warm.enforcer.guard("edit", resource=TEMPLATE)(rename)
    guarded("42", "new")
    warm.forget()
    bench.time("guarded, in memory", repeated(lambda: guarded("42", "new")), calls, settle=warm.settle)
    structured = structlog_line(bench, folder / "structlog.jsonl")
    written(bench, folder, calls, STRUCTLOG if structured else FLOOR)
    buffered(bench, folder, calls, bench.size(200, 20_000))
    logged(bench, folder / "logging.log", calls)
    if structured is None:
        bench.add(missing(STRUCTLOG, "structlog is not installed here; `make bench-peers` has it"))
    else:
        bench.time(STRUCTLOG, repeated(structured), calls)


class Told:
    """Tells the same bytes of each note, so that only the file is measured."""

    def __init__(self) -> None:
        self._json = Record(Kind.DECISION, new_id(1.0), 1.0, masked({"filler": "x" * 190})).to_json()

    def json(self, _note: tuple[Any, ...]) -> bytes:
        """Return the JSON of a note."""
        return self._json


def guarded_into(bench: Bench, sink: Any) -> Callable[[], object]:  # noqa: ANN401  any sink
    """Guard the call with an enforcer that records there, and warm it."""
    pure = Pure()
    bench.stack.callback(lambda: expect("questions of a warm enforcer", pure.asked, 1))
    enforcer = bench.stack.enter_context(Enforcer(pure.point, audit=sink))
    guarded = enforcer.guard("edit", resource=TEMPLATE)(rename)
    guarded("42", "new")
    return lambda: guarded("42", "new")


def written(bench: Bench, folder: Path, calls: int, over: str) -> None:
    """Add the record that is chained and written, beside the bare write of as many bytes."""
    sink = FileSink(folder / "written.jsonl")
    call = guarded_into(bench, sink)
    seen = sink.stats()["written"]

    def settle(count: int) -> None:
        nonlocal seen
        before, seen = seen, sink.stats()["written"]
        expect("lines written", seen - before, count)

    bound = at_most(0.85) if over == STRUCTLOG else None
    bench.time(WRITTEN, repeated(call), calls, over=over, bound=bound, settle=settle)
    alone, note = FileSink(folder / "alone.jsonl"), (Told(),)
    bench.stack.callback(alone.close)
    bench.time("sink, WRITTEN", repeated(lambda: alone.take(note)), calls)
    bare = os.open(folder / "bare", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    bench.stack.callback(os.close, bare)
    bench.time("write of 450 bytes", repeated(lambda: os.write(bare, LINE)), calls)


def buffered(bench: Bench, folder: Path, calls: int, many: int) -> None:
    """Add what the calling thread pays, and what a call takes once the file is what everybody waits for."""
    roomy = BufferedSink(FileSink(folder / "roomy.jsonl"), linger=0.05)
    full = BufferedSink(FileSink(folder / "full.jsonl"), entries=min(1_000, many), linger=0)
    caller, saturating = guarded_into(bench, roomy), guarded_into(bench, full)
    for sink in (roomy, full):
        drained(sink)
    bound = at_most(0.5)
    settle = {sink: counted(sink) for sink in (roomy, full)}
    bench.time("guarded, BUFFERED, caller", repeated(caller), calls, over=WRITTEN, bound=bound, settle=settle[roomy])
    bench.time("guarded, BUFFERED, saturated", until_drained(saturating, full), many, over=WRITTEN, settle=settle[full])


def drained(sink: BufferedSink) -> None:
    """Wait until the file has everything."""
    while sink.stats()["buffered"]:
        time.sleep(0.0005)


def until_drained(call: Callable[[], object], sink: BufferedSink) -> Timed:
    """Time calls until the file has the record of each."""

    def seconds(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            call()
        drained(sink)
        return time.perf_counter() - start

    return seconds


def counted(sink: BufferedSink) -> Callable[[int], None]:
    """Wait until the file has everything, and check that it is as much as was called."""
    seen = sink.stats()["durable"]

    def settle(count: int) -> None:
        nonlocal seen
        drained(sink)
        before, seen = seen, sink.stats()["durable"]
        expect("records behind the buffer", seen - before, count)

    return settle


def logged(bench: Bench, path: Path, calls: int) -> None:
    """Add one line of `logging` to a file."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger = logging.Logger("audit", logging.INFO)  # noqa: LOG001  nobody else's
    logger.addHandler(handler)
    bench.stack.callback(handler.close)
    message = "%s %s by %s on %s %s"
    told = ("permitted", "edit", "alice", "document", "42")
    bench.time("logging.info, one line", repeated(lambda: logger.info(message, *told)), calls)


def structlog_line(bench: Bench, path: Path) -> Callable[[], object] | None:
    """Return what writes one JSON line with structlog, set up as its documentation says is fastest."""
    try:
        import structlog  # noqa: PLC0415  measured where it is installed
    except ImportError:
        return None
    file = bench.stack.enter_context(path.open("wb"))
    logger = structlog.wrap_logger(
        structlog.BytesLogger(file),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    ).bind()
    told = {"action": "edit", "subject": "alice", "resource_type": "document", "resource": "42", "policy": "pure"}
    return lambda: logger.info("permitted", **told)


if __name__ == "__main__":
    main("recorded_call", fill, rounds=25)
