from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pep import Enforcer, Fault, Guarantee, Profile, Resource, Subject, acting_as
from pep.audit import grouping
from pep.audit.disk import Disk
from pep.audit.family import family
from pep.audit.file import FileSink
from pep.audit.grouping import Group
from pep.errors import AccessDenied, AuditError
from pep.pdp.function import FunctionPDP
from pep.plan import Invoke, Raised, Returned
from pep.testing import FakeClock, check_sink
from tests.audit.disks import Faults, broken_links, contents, parsed, record, told

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE = 30.0


def names(folder: Path) -> list[Any]:
    return [line["name"] for line in told(contents(folder)) if "name" in line]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def durable(path: Path, disk: Disk | None = None, **options: Any) -> FileSink:
    return FileSink(path, guarantee=Guarantee.DURABLE, disk=disk, **options)


class Gate:
    """A sync that waits until it is let through, and tells when it is reached."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Semaphore(0), threading.Semaphore(0)
        self.shut = False
        self.disk = Disk(sync=self.sync)

    def sync(self, file: int) -> None:
        if self.shut:
            self.reached.release()
            assert self.opened.acquire(timeout=PATIENCE)
        os.fdatasync(file)

    def wait(self) -> None:
        assert self.reached.acquire(timeout=PATIENCE)

    def let(self, count: int = 1) -> None:
        for _ in range(count):
            self.opened.release()


def until(true: Callable[[], bool]) -> None:
    """Wait for another thread to come as far; a failure to is told by the clock."""
    event = threading.Event()
    for _ in range(int(PATIENCE * 1000)):
        if true():
            return
        event.wait(0.001)
    message = "nothing happened"
    raise AssertionError(message)


def waiting(group: Any) -> int:
    return len(group._queue)


def group_of(sink: FileSink) -> Group:
    found: Group = sink._record.args[0]  # type: ignore[attr-defined]
    return found


def test_a_record_is_on_disk_before_it_is_acknowledged(path: Path) -> None:
    """Write, then sync, then return; the file's name is on disk too."""
    faults = Faults()
    sink = durable(path, faults.disk)
    assert faults.log[-3:] == ["write", "sync_folder", "sync"]
    faults.log.clear()
    sink.record(record(name="x"))
    assert faults.log == ["lstat", "write", "sync"]
    assert sink.guarantee is Guarantee.DURABLE
    assert not hasattr(sink, "take")
    sink.close()
    assert names(path.parent) == ["x"]
    assert sink.stats()["synced"] == 3
    with pytest.raises(AuditError, match="the audit file is closed"):
        sink.record(record(name="late"))


def test_callers_that_wait_together_share_one_sync(path: Path) -> None:
    """Who comes while a sync is in the air shares the next one with all that came."""
    gate = Gate()
    sink = durable(path, gate.disk)
    gate.shut = True
    threads = [threading.Thread(target=sink.record, args=(record(name=name),)) for name in range(9)]
    threads[0].start()
    gate.wait()
    for thread in threads[1:]:
        thread.start()
    until(lambda: waiting(group_of(sink)) == 8)
    assert names(path.parent) == [0]
    gate.let()
    gate.wait()
    assert sorted(names(path.parent)) == list(range(9))
    assert all(thread.is_alive() for thread in threads[1:])
    gate.let()
    for thread in threads:
        thread.join(PATIENCE)
    gate.shut = False
    sink.close()
    assert sink.stats()["synced"] == 4  # open, two batches, close
    assert broken_links(contents(path.parent)) == []


def test_everybody_of_a_batch_that_fails_is_told(path: Path) -> None:
    """Nobody takes a record that shared a failed write for acknowledged."""
    gate = Gate()
    faults = Faults(gate.disk)
    sink = durable(path, faults.disk)
    gate.shut = True
    errors: list[Exception] = []

    def write(name: int) -> None:
        try:
            sink.record(record(name=name))
        except AuditError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(5)]
    threads[0].start()
    gate.wait()
    for thread in threads[1:]:
        thread.start()
    until(lambda: waiting(group_of(sink)) == 4)
    faults.fail(errno.ENOSPC, only="write")
    gate.let()
    for thread in threads:
        thread.join(PATIENCE)
    gate.shut = False
    assert [str(error) for error in errors] == [f"cannot append to audit file `{path}`: No space left on device"] * 4
    assert len({id(error) for error in errors}) == 4
    sink.record(record(name="after"))
    sink.close()
    assert names(path.parent) == [0, "after"]
    assert sink.stats()["refused"] == 4
    assert broken_links(contents(path.parent)) == []


def test_what_failed_to_sync_is_written_again_elsewhere(path: Path) -> None:
    """A sync that failed is never tried again on the same file: the records go to a new one, and are on disk there."""
    synced: list[int] = []
    failing: list[str] = []

    def sync(file: int) -> None:
        synced.append(os.fstat(file).st_ino)
        if failing:
            raise OSError(errno.EIO, failing.pop())
        os.fdatasync(file)

    sink = durable(path, Disk(sync=sync), clock=FakeClock())
    sink.record(record(name="before"))
    failing.append("now")
    sink.record(record(name="twice"))
    sink.record(record(name="after"))
    sink.close()
    files = contents(path.parent)
    (aside,) = set(files) - {path.name}
    assert [line["name"] for line in told({"": files[aside]})] == ["before", "twice"]
    assert [line["name"] for line in told({"": files[path.name]})] == ["twice", "after"]
    assert [line.get("unsynced") for line in parsed(files[path.name]) if line["kind"] == "gap"] == [1]
    failed = synced[2]
    assert synced[:3] == [failed] * 3
    assert failed not in synced[3:]
    assert broken_links(files) == []


@pytest.mark.parametrize("operation", ["rename", "open", "write", "sync", "sync_folder"])
def test_where_a_new_file_fails_too_the_record_is_refused_until_one_is_there(path: Path, operation: str) -> None:
    """Nothing is acknowledged on a file that may have lost it; later it is, without a line lost from the chain."""
    faults = Faults()
    sink = durable(path, faults.disk)

    def strike(_at: int, name: str) -> None:
        seen.append(name)
        if name == "sync" and seen.count("sync") == 1:
            raise OSError(errno.EIO, "")
        if name == operation and seen.count("sync") >= 1 and seen.count(operation) <= allowed:
            raise OSError(errno.EIO, "")

    for allowed in (4, 3):
        seen: list[str] = []
        faults.strike = strike
        refused = 0
        for _ in range(12):
            try:
                sink.record(record(name=f"{operation} {allowed}"))
                break
            except AuditError:
                refused += 1
        assert refused > 0
        faults.mend()
    sink.record(record(name="after"))
    sink.close()
    assert {f"{operation} 4", f"{operation} 3", "after"} == set(names(path.parent))
    assert broken_links(contents(path.parent)) == []


def test_an_interrupted_sync_is_not_taken_for_one(path: Path) -> None:
    """What a signal handler raises out of a sync leaves open whether it failed: the next record goes to a new file."""
    strikes = [False, False, True]

    def sync(file: int) -> None:
        if strikes and strikes.pop(0):
            raise KeyboardInterrupt
        os.fdatasync(file)

    sink = durable(path, Disk(sync=sync))
    sink.record(record(name="before"))
    with pytest.raises(KeyboardInterrupt):
        sink.record(record(name="interrupted"))
    sink.record(record(name="after"))
    sink.close()
    files = contents(path.parent)
    assert len(files) == 2
    assert [line["name"] for line in told({"": files[path.name]})] == ["interrupted", "after"]
    assert broken_links(files) == []


def test_a_durable_sink_rotates_follows_and_makes_anew(path: Path, tmp_path: Path) -> None:
    """It looks at the file before each batch, so that nothing waits for a second."""
    sink = durable(path, rotate_bytes=600)
    for name in range(6):
        sink.record(record(name=name))
    path.rename(tmp_path / "audit.jsonl.1")
    sink.record(record(name=6))
    path.unlink()
    sink.record(record(name=7))
    sink.close()
    assert sorted(set(names(tmp_path))) == list(range(8))
    assert broken_links(contents(tmp_path)) == []
    assert sink.stats()["deleted"] == 1
    assert sink.stats()["rotated"] > 3


# Tasks.


async def awaited(sink: FileSink, name: object) -> None:
    """Perform what the sink answers as an asynchronous driver does."""
    plan: Any = sink.record(record(name=name))
    step = plan.send(None)
    assert isinstance(step, Invoke)
    try:
        reply: Any = Returned(await step.fn(*step.args))
    except AuditError as error:
        reply = Raised(error)
    with contextlib.suppress(StopIteration):
        plan.send(reply)


def test_tasks_share_one_sync_and_hold_up_no_loop(path: Path) -> None:
    """While a sync is in the air the loop goes on; who comes meanwhile shares the next."""
    gate = Gate()
    sink = durable(path, gate.disk)

    async def main() -> None:
        gate.shut = True
        first = asyncio.ensure_future(awaited(sink, 0))
        await asyncio.sleep(0)
        gate.wait()
        rest = [asyncio.ensure_future(awaited(sink, name)) for name in range(1, 64)]
        await asyncio.sleep(0)
        assert waiting(group_of(sink)) == 63
        assert not first.done()
        gate.shut = False
        gate.let()
        await asyncio.wait_for(asyncio.gather(first, *rest), PATIENCE)

    asyncio.run(main())
    sink.close()
    assert sorted(names(path.parent)) == list(range(64))
    assert sink.stats()["synced"] == 4
    assert broken_links(contents(path.parent)) == []


def test_tasks_are_told_of_failures(path: Path) -> None:
    """A record that is not on disk raises where it was awaited."""
    faults = Faults()
    sink = durable(path, faults.disk)

    async def main() -> None:
        faults.fail(errno.ENOSPC, only="write")
        with pytest.raises(AuditError, match="No space left on device"):
            await awaited(sink, "refused")
        await awaited(sink, "after")

    asyncio.run(main())
    sink.close()
    assert names(path.parent) == ["after"]


def test_threads_and_tasks_share_a_sink(path: Path) -> None:
    """One sink serves both worlds at once, and each leads where the other does not."""
    sink = durable(path)
    count = 50

    def write(thread: int) -> None:
        for at in range(count):
            sink.record(record(name=f"thread {thread}.{at}"))

    async def task(number: int) -> None:
        for at in range(count):
            await awaited(sink, f"task {number}.{at}")

    async def main() -> None:
        threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        await asyncio.wait_for(asyncio.gather(*[task(number) for number in range(8)]), PATIENCE)
        for thread in threads:
            await asyncio.to_thread(thread.join)

    asyncio.run(main())
    sink.close()
    assert len(set(names(path.parent))) == 11 * count
    assert broken_links(contents(path.parent)) == []


def test_the_lead_passes_between_threads_and_tasks(path: Path) -> None:
    """Whoever waits when a batch is done has a leader, be it a thread or a task."""
    gate = Gate()
    sink = durable(path, gate.disk)
    group = group_of(sink)

    async def main() -> None:
        gate.shut = True
        # A thread leads, a task waits: a thread of its own leads that. Then a thread waits for it.
        threads = [threading.Thread(target=sink.record, args=(record(name=name),)) for name in (0, 2)]
        threads[0].start()
        gate.wait()
        task = asyncio.ensure_future(awaited(sink, 1))
        await asyncio.sleep(0)
        gate.let()
        gate.wait()
        threads[1].start()
        until(lambda: waiting(group) == 1)
        gate.let()
        gate.wait()
        gate.let()
        await asyncio.wait_for(task, PATIENCE)
        for thread in threads:
            thread.join(PATIENCE)

    asyncio.run(main())
    gate.shut = False
    sink.close()
    assert names(path.parent) == [0, 1, 2]
    assert sink.stats()["synced"] == 5


def test_a_task_that_is_cancelled_holds_up_nobody(path: Path) -> None:
    """Its record is written all the same; the others of its batch are told as usual."""
    gate = Gate()
    sink = durable(path, gate.disk)

    async def main() -> None:
        gate.shut = True
        tasks = [asyncio.ensure_future(awaited(sink, name)) for name in ("cancelled", "other")]
        await asyncio.sleep(0)
        gate.wait()
        tasks[0].cancel()
        await asyncio.sleep(0)
        gate.shut = False
        gate.let()
        await asyncio.wait_for(tasks[1], PATIENCE)

    asyncio.run(main())
    sink.close()
    assert sorted(names(path.parent)) == ["cancelled", "other"]


def test_a_loop_that_ended_meanwhile_is_told_nothing(path: Path) -> None:
    """Who waited there is gone; who waits elsewhere is told."""
    gate = Gate()
    sink = durable(path, gate.disk)

    async def dropped() -> None:
        plan: Any = sink.record(record(name="dropped"))
        step = plan.send(None)
        step.fn(*step.args)
        gate.wait()
        plan.close()

    gate.shut = True
    asyncio.run(dropped())
    gate.shut = False
    gate.let()
    sink.record(record(name="after"))
    sink.close()
    assert names(path.parent) == ["dropped", "after"]


def test_where_no_thread_can_be_started_a_task_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of the interpreter, or where threads are used up, a record is refused, and the next may be taken."""
    sink = durable(path)

    def none(_thread: threading.Thread) -> None:
        message = "can't start new thread"
        raise RuntimeError(message)

    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(grouping.threading.Thread, "start", none)
            with pytest.raises(AuditError, match="can't start new thread"):
                await awaited(sink, "refused")
        await awaited(sink, "after")

    asyncio.run(main())
    sink.close()
    assert names(path.parent) == ["after"]


PERMIT = FunctionPDP(lambda _request: True)
PURE = FunctionPDP(lambda _request: True, name="pure", pure=True)
PAGE, ALICE = Resource("page", "1"), Subject("user", "alice")


def enforcer(sink: FileSink, **options: Any) -> Enforcer:
    pdp, compiled = options.pop("pdp", PERMIT), options.pop("compiled", True)
    profile = Profile(audit=Guarantee.DURABLE, **{"deadline": PATIENCE, **options})
    return Enforcer(pdp, audit=sink, profiles={"**": profile}, compiled=compiled)


def test_enforcers_of_both_worlds_use_it(path: Path) -> None:
    """It conforms: sync, async, and a synchronous call on the thread of a running loop."""
    made: list[FileSink] = []

    def make() -> FileSink:
        made.append(durable(path.with_name(f"{len(made)}.jsonl")))
        return made[-1]

    def read(sink: FileSink) -> Sequence[bytes]:
        return [unchained(line) for file in family(sink.path) for line in file.read_bytes().splitlines()]

    check_sink(make, read=read)
    for sink in made:
        sink.close()
    guarded = enforcer(durable(path))

    async def main() -> None:
        await guarded.aenforce("read", PAGE, subject=ALICE)
        guarded.enforce("read", PAGE, subject=ALICE)

    asyncio.run(main())
    guarded.enforce("read", PAGE, subject=ALICE)
    guarded.close()
    outcomes = [line.get("outcome") for line in parsed(path.read_bytes()) if line["kind"] == "decision"]
    assert outcomes == ["permitted"] * 3


def unchained(line: bytes) -> bytes:
    """A line as the record's own JSON."""
    head = b'{"schema":"pep.audit/1",'
    return head + line.split(b",", 4)[4]


@pytest.mark.parametrize("world", ["async", "sync on the loop's thread"])
def test_a_failure_refuses_the_call_in_either_world(path: Path, world: str) -> None:
    """A permit that is not on disk is none."""
    faults = Faults()
    guarded = enforcer(durable(path, faults.disk))

    async def main() -> None:
        faults.fail(errno.ENOSPC, only="write")
        with pytest.raises(AccessDenied):
            if world == "async":
                await guarded.aenforce("read", PAGE, subject=ALICE)
            else:
                guarded.enforce("read", PAGE, subject=ALICE)
        faults.mend()
        await guarded.aenforce("read", PAGE, subject=ALICE)

    asyncio.run(main())
    guarded.close()


def test_after_its_deadline_a_call_is_refused_though_its_record_may_be_there(path: Path) -> None:
    """A disk that hangs holds up no task past its deadline."""
    gate = Gate()
    sink = durable(path, gate.disk)
    guarded = enforcer(sink, deadline=0.05)

    async def main() -> None:
        gate.shut = True
        with pytest.raises(AccessDenied):
            await guarded.aenforce("read", PAGE, subject=ALICE)
        gate.wait()
        gate.shut = False
        gate.let(2)

    asyncio.run(main())
    guarded.close()


# Calls that need no plan.


class Noted:
    """Tells a note that is one name."""

    def json(self, note: Any) -> bytes:
        return record(name=note[1]).to_json()


def test_notes_are_taken_as_records_are(path: Path) -> None:
    """What a note tells is on disk when it is acknowledged, on a thread, on a loop, or where none runs."""
    disk, done = Disk(), []
    sink = durable(path, Disk(sync=lambda file: done.append(disk.sync(file))))

    def taken(how: Any, name: str) -> Any:
        before = len(done)
        future = how((Noted(), name))
        if future is None:
            assert len(done) > before
        return future

    async def main() -> None:
        future = taken(sink.adurably, "awaited")
        assert not future.done()
        await future
        assert taken(sink.durably, "on the loop's thread") is None

    assert taken(sink.durably, "on a thread") is None
    assert taken(sink.adurably, "without a loop") is None
    asyncio.run(main())
    sink.close()
    assert names(path.parent) == ["on a thread", "without a loop", "awaited", "on the loop's thread"]
    assert broken_links(contents(path.parent)) == []


def test_notes_that_fail_are_refused(path: Path) -> None:
    """A note whose record is not on disk raises where it was waited for."""
    faults = Faults()
    sink = durable(path, faults.disk)

    async def main() -> None:
        faults.fail(errno.ENOSPC, only="write")
        with pytest.raises(AuditError, match="No space left on device"):
            await sink.adurably((Noted(), "refused"))  # type: ignore[misc]
        faults.fail(errno.ENOSPC, only="write")
        with pytest.raises(AuditError, match="No space left on device"):
            sink.durably((Noted(), "refused"))

    asyncio.run(main())
    sink.close()
    assert not hasattr(FileSink(path.with_name("written.jsonl")), "durably")


@pytest.mark.parametrize("compiled", [True, False])
def test_calls_of_both_worlds_leave_two_records_each(path: Path, compiled: bool) -> None:
    """Threads and tasks at once: each call's permit comes before what it did, and its end after that, on one chain."""
    sink = durable(path)
    guarded = enforcer(sink, pdp=PURE, compiled=compiled)
    did: list[tuple[str, int]] = []

    def edit(name: str) -> None:
        did.append((name, sink.stats()["written"]))

    @guarded.guard("edit", resource="page:{name}")
    async def aedit(name: str) -> None:
        edit(name)

    plain = guarded.guard("edit", resource="page:{name}")(edit)

    def work(number: int) -> None:
        with acting_as(ALICE):
            for _ in range(25):
                plain(f"thread {number}")

    async def task(number: int) -> None:
        for _ in range(25):
            await aedit(f"task {number}")

    async def main() -> None:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        with acting_as(ALICE):
            await asyncio.wait_for(asyncio.gather(*[task(number) for number in range(8)]), PATIENCE)
        for thread in threads:
            await asyncio.to_thread(thread.join)

    asyncio.run(main())
    hits = guarded._core.wiring().journal.noting.count()
    guarded.close()
    assert hits >= 11 * 25
    assert len(did) == 12 * 25
    check_pairs(parsed(path.read_bytes()), did)
    assert broken_links(contents(path.parent)) == []


def check_pairs(lines: Sequence[dict[str, Any]], did: Sequence[tuple[str, int]]) -> None:
    """Check that every call has its permit before it ran, when so many lines were written, and its end after that."""
    ends = {line["decision"]: at for at, line in enumerate(lines) if line.get("status") == "completed"}
    permits = [(line["resource"]["id"], at, ends[line["id"]]) for at, line in enumerate(lines) if "outcome" in line]
    assert len(permits) == len(ends) == len(did)
    assert all(at < end for _name, at, end in permits)
    for name in {name for name, _written in did}:
        recorded = sorted(at for one, at, _end in permits if one == name)
        ran = sorted(written for one, written in did if one == name)
        assert all(at < written for at, written in zip(recorded, ran, strict=True))


@pytest.mark.parametrize("at", [1, 2])
def test_a_disk_that_hangs_holds_up_no_task_past_its_deadline(path: Path, at: int) -> None:
    """Before the code, a hit is refused; after it, its result stands, and the loss is told before anything else."""
    gate, holding = Gate(), []
    guarded = enforcer(durable(path, gate.disk), pdp=PURE, deadline=0.5)
    ran: list[str] = []

    @guarded.guard("edit", resource="page:{name}")
    async def edit(name: str) -> None:
        ran.append(name)
        gate.shut = bool(holding)

    async def main() -> None:
        with acting_as(ALICE):
            for _ in range(3):
                await edit("1")
            if at == 1:
                gate.shut = True
                with pytest.raises(AccessDenied) as caught:
                    await edit("1")
                assert caught.value.fault is Fault.AUDIT
            else:
                holding.append(at)
                await edit("1")
            gate.wait()
            gate.shut = False
            gate.let()

    asyncio.run(main())
    assert guarded._core.wiring().journal.noting.count() == 3
    assert len(ran) == 2 + at
    assert guarded.stats()["lost"] == at - 1
    guarded.close()
    kinds = [line["kind"] for line in parsed(path.read_bytes())]
    assert ("gap" in kinds) is (at == 2)


# Signal handlers, finalisers, forks.


def test_a_record_within_a_wait_is_refused(path: Path) -> None:
    """A thread that is to lead does not wait for itself, under a signal handler."""
    refused: list[AuditError] = []
    armed = [False]

    def handle(*_arguments: object) -> None:
        try:
            sink.record(record(name="nested"))
        except AuditError as error:
            refused.append(error)

    def sync(file: int) -> None:
        if armed.pop():
            signal.raise_signal(signal.SIGUSR1)
        armed.append(False)
        os.fdatasync(file)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        sink = durable(path, Disk(sync=sync))
        armed[:] = [True]
        sink.record(record(name="outer"))
        sink.record(record(name="next"))
        sink.close()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert [str(error)[:24] for error in refused] == ["this very thread is writ"]
    assert names(path.parent) == ["outer", "next"]


class Stop(BaseException):
    """What a signal handler raises."""


class Shutting:
    """A lock of a ticket that raises while its thread waits, once it was told to."""

    def __init__(self, then: Callable[[], None]) -> None:
        self.lock = threading.Lock()
        self.then = then
        self.taken = False

    def acquire(self) -> bool:
        if not self.taken:
            self.taken = True
            return self.lock.acquire()
        self.then()
        raise Stop

    def release(self) -> None:
        self.lock.release()


@pytest.mark.parametrize("leads", [False, True])
def test_who_stops_waiting_leaves_nobody_without_a_lead(leads: bool) -> None:
    """A thread that is interrupted while it waits takes its record back where it can, and passes on the lead."""
    committed: list[bytes] = []
    started, going = threading.Semaphore(0), threading.Semaphore(0)

    def commit(jsons: Sequence[bytes]) -> None:
        started.release()
        assert going.acquire(timeout=PATIENCE)
        committed.extend(jsons)

    group = Group(commit)
    leader, other = (threading.Thread(target=group.submit, args=(name,)) for name in (b"leader", b"other"))
    leader.start()
    assert started.acquire(timeout=PATIENCE)

    def then() -> None:
        other.start()
        until(lambda: waiting(group) == 2)
        if leads:
            going.release()
            leader.join(PATIENCE)
            assert interrupted.leads

    interrupted = grouping._Ticket(b"interrupted")
    interrupted.gate = Shutting(then)  # type: ignore[assignment]
    interrupted.gate.acquire()
    with pytest.raises(Stop):
        group._await(interrupted, group._queue_up)
    for _ in range(3):
        going.release()
    for thread in (leader, other):
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert group._inside == {}
    group.submit(b"last")
    assert committed == [b"leader", b"other", b"last"]


def test_a_leader_that_is_interrupted_leaves_nobody_waiting() -> None:
    """Those whose records it was writing are refused, and somebody else leads."""
    started, going = threading.Semaphore(0), threading.Semaphore(0)
    errors: list[BaseException] = []
    stops = [False, True, False]

    def commit(_jsons: Sequence[bytes]) -> None:
        started.release()
        assert going.acquire(timeout=PATIENCE)
        if stops.pop(0):
            raise Stop

    group = Group(commit)

    def submit(name: bytes) -> None:
        try:
            group.submit(name)
        except BaseException as error:  # noqa: BLE001  looked at below
            errors.append(error)

    threads = [threading.Thread(target=submit, args=(name,)) for name in (b"1", b"2", b"3", b"4")]
    threads[0].start()
    assert started.acquire(timeout=PATIENCE)
    threads[1].start()
    until(lambda: waiting(group) == 1)
    threads[2].start()
    until(lambda: waiting(group) == 2)
    going.release()
    assert started.acquire(timeout=PATIENCE)
    threads[3].start()
    until(lambda: waiting(group) == 1)
    going.release()
    going.release()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert sorted(type(error).__name__ for error in errors) == ["AuditError", "Stop"]
    assert "was interrupted" in str(next(error for error in errors if isinstance(error, AuditError)))


def test_what_the_hook_leaves_for_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits is told, nobody leads, and one who leads when nobody waits does nothing."""
    committed: list[bytes] = []
    group = Group(committed.extend)
    ticket = grouping._Ticket(b"waiting")
    group._led = True
    waiter = threading.Thread(target=group._await, args=(ticket, group._queue_up))
    waiter.start()
    until(lambda: waiting(group) == 1)
    group._renew()
    waiter.join(PATIENCE)
    with pytest.raises(AuditError, match="the process was forked meanwhile"):
        ticket.check()
    group._lead()
    assert committed == []
    group.submit(b"next")
    assert committed == [b"next"]


def test_a_leader_that_is_interrupted_while_it_tells_the_others_tells_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is left waiting by an interruption between two of them, and what was told stands."""
    group = Group(lambda _jsons: None)
    tickets = [grouping._Ticket(name) for name in (b"1", b"2", b"3")]
    group._queue.extend(tickets)
    real = grouping._settle
    strikes = [True]

    def settle(batch: Sequence[Any], error: BaseException | None) -> None:
        if strikes and strikes.pop():
            real(batch[:1], error)
            raise Stop
        real(batch, error)

    monkeypatch.setattr(grouping, "_settle", settle)
    with pytest.raises(Stop):
        group._lead()
    tickets[0].check()
    for ticket in tickets[1:]:
        assert ticket.settled
        assert not ticket.gate.locked()
        with pytest.raises(AuditError, match="was interrupted"):
            ticket.check()
    group.submit(b"next")


FORKED = """
import os, sys, threading, asyncio
from pep import Guarantee
from pep.audit.disk import Disk
from pep.audit.file import FileSink
from pep.errors import AuditError
from tests.audit.disks import record
reached, opened = threading.Event(), threading.Event()
parent = os.getpid()

def sync(file):
    if os.getpid() == parent and reached is not None and armed:
        reached.set()
        opened.wait()
    os.fdatasync(file)

armed = []
sink = FileSink(sys.argv[1], guarantee=Guarantee.DURABLE, disk=Disk(sync=sync))
armed.append(1)
threads = [threading.Thread(target=sink.record, args=(record(name=name),)) for name in ("leader", "follower")]
threads[0].start()
reached.wait()
threads[1].start()
while not sink._record.args[0]._queue:
    pass
child = os.fork()
if child == 0:
    sink.record(record(name="child"))
    async def main():
        plan = sink.record(record(name="task"))
        step = plan.send(None)
        await step.fn(*step.args)
    asyncio.run(main())
    sink.close()
    os._exit(0)
status = os.waitpid(child, 0)[1]
opened.set()
for thread in threads:
    thread.join()
sink.record(record(name="parent"))
sink.close()
assert status == 0
"""


FORKED_WAITING = """
import os, signal, sys, threading
from pep import Guarantee
from pep.audit.disk import Disk
from pep.audit.file import FileSink
from pep.errors import AuditError
from tests.audit.disks import record
reached, opened, armed, children = threading.Event(), threading.Event(), [], []

def sync(file):
    if armed:
        armed.clear()
        reached.set()
        opened.wait()
    os.fdatasync(file)

sink = FileSink(sys.argv[1], guarantee=Guarantee.DURABLE, disk=Disk(sync=sync))

def fork(*_):
    children.append(os.fork())
    opened.set()

signal.signal(signal.SIGUSR1, fork)
armed.append(1)
leader = threading.Thread(target=sink.record, args=(record(name="leader"),))
leader.start()
reached.wait()

def strike():
    while not sink._record.args[0]._queue:
        pass
    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

striker = threading.Thread(target=strike)
striker.start()
try:
    sink.record(record(name="waiting"))
except AuditError as error:
    assert children == [0]
    assert "was forked" in str(error)
    sink.record(record(name="child"))
    sink.close()
    os._exit(0)
striker.join()
leader.join()
assert os.waitpid(children[0], 0)[1] == 0
sink.close()
"""


def run(code: str, path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_forked_child_inherits_no_one_who_waits(path: Path) -> None:
    """A child forked while a batch was in the air leads for itself, in a file of its own."""
    run(FORKED, path)
    files = contents(path.parent)
    assert sorted(line["name"] for line in told({"": files.pop(path.name)})) == ["follower", "leader", "parent"]
    assert [line["name"] for line in told(files)] == ["child", "task"]
    assert broken_links(contents(path.parent)) == []


def test_a_child_forked_by_a_handler_while_it_waited_is_refused(path: Path) -> None:
    """Nobody leads the one who waits in the child: it is told, and can write."""
    run(FORKED_WAITING, path)
    assert sorted(names(path.parent)) == ["child", "leader", "waiting"]
    assert broken_links(contents(path.parent)) == []
