from __future__ import annotations

import atexit
import gc
import os
import signal
import subprocess
import sys
import weakref

import pytest

from pep.audit.buffered import BufferedSink
from pep.errors import AuditError
from tests.audit.buffers import SOON, SOURCE, Keeping, names, record

pytestmark = pytest.mark.usefixtures("measured")


def test_at_the_end_everything_is_written_and_the_other_sink_left_open() -> None:
    """Others may still record with it while the interpreter ends."""

    class Closing(Keeping):
        def close(self) -> None:
            raise OSError

    inner = Closing()
    sink = BufferedSink(inner, linger=SOON)
    sink.record(record())
    sink._exit()
    assert names(inner) == [0]
    with pytest.raises(AuditError, match="closed"):
        sink.record(record())


def test_what_ends_without_its_sink_is_not_called() -> None:
    """A sink that is gone has nothing to do at the end."""
    sink = BufferedSink(Keeping())
    exits, gone = sink._exits, weakref.ref(sink)
    del sink
    gc.collect()
    assert gone() is None
    exits()
    atexit.unregister(exits)


EXITS = {
    # how a program ends -> its status, and whether what was buffered is written
    "pass": (0, True),
    "sys.exit(3)": (3, True),
    "raise ValueError": (1, True),
    "threading.Thread(target=sink.record, args=(record,)).start()": (0, True),
    "os._exit(4)": (4, False),
    "os.kill(os.getpid(), signal.SIGTERM)": (-signal.SIGTERM, False),
    "os.kill(os.getpid(), 9)": (-9, False),
}
PROGRAM = """
import atexit, os, signal, sys, threading
from pep.audit.buffered import BufferedSink
from pep.audit.record import Kind, Record, masked
class Printing:
    from pep.profile import Guarantee
    guarantee = Guarantee.WRITTEN
    def record(self, record):
        os.write(1, record.to_json() + b"\\n")
record = Record(Kind.DECISION, "id", 1.0, masked({"outcome": "permitted"}))
sink = BufferedSink(Printing(), linger=60)
for _ in range(500):
    sink.record(record)
"""


def ended(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments, "-c", program],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(("ending", "expected"), EXITS.items(), ids=EXITS)
def test_each_way_to_end_does_what_is_documented(ending: str, expected: tuple[int, bool]) -> None:
    """A program that ends by itself has written everything; one that is ended has not."""
    done = ended(PROGRAM + ending)
    status, written = expected
    assert done.returncode == status
    assert len(done.stdout.splitlines()) == (500 + ending.startswith("threading") if written else 0)


def test_after_the_last_record_nothing_is_taken() -> None:
    """What comes once everything was written out at the end is refused, not lost."""
    late = "def late():\n try: sink.record(record)\n except Exception as error: os.write(2, str(error).encode())\n"
    program = PROGRAM.replace("sink =", late + "atexit.register(late)\nsink =")
    done = ended(program)
    assert done.stderr == "the audit buffer is closed"
    assert len(done.stdout.splitlines()) == 500


def test_a_stuck_sink_does_not_keep_a_program_from_ending() -> None:
    """It waits as long as it may, and says what is lost."""
    stuck = "os.write(1, record.to_json()"
    program = PROGRAM.replace(stuck, "threading.Event().wait(); " + stuck).replace("linger=60", "patience=0.1")
    done = ended(program)
    assert done.returncode == 0
    assert "500 audit records were not written in 0.1 s" in done.stderr
