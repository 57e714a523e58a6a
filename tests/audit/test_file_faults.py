"""
No effect without a recorded intent, whichever operation of the disk fails.

The disk is in memory, so that every operation of every audit path can be failed, and what would be left after a loss
of power be read at the moment the protected code runs.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import attrs
import pytest

from pep import Enforcer, Guarantee, Profile, Resource, Subject, acting_as
from pep.audit.file import FileSink
from pep.audit.grouping import Group
from pep.audit.writer import LOOK_EVERY, Writer
from pep.errors import AccessDenied, ConfigurationError
from pep.pdp.function import FunctionPDP
from pep.plan import Plan
from pep.testing import FakeClock
from tests.audit.disks import Faults, MemoryDisk, broken_links, parsed
from tests.proving import IN_FULL

ALICE: Final = Subject("user", "alice")
Effect = Callable[[str], None]
Entry = Callable[[Enforcer, Effect], Callable[[str], object]]


def page(name: str) -> Resource:
    return Resource("page", name)


def guarded(enforcer: Enforcer, effect: Effect) -> Callable[[str], object]:
    @enforcer.guard("edit", resource=page, subject=ALICE)
    def edit(name: str) -> None:
        effect(name)

    return edit


def guarded_coroutine(enforcer: Enforcer, effect: Effect) -> Callable[[str], object]:
    @enforcer.guard("edit", resource=page, subject=ALICE)
    async def edit(name: str) -> None:
        effect(name)

    return edit


def guarded_generator(enforcer: Enforcer, effect: Effect) -> Callable[[str], object]:
    @enforcer.guard("edit", resource=page, subject=ALICE)
    def edit(name: str) -> Iterator[None]:
        effect(name)
        yield

    return lambda name: list(edit(name))


def enforced(enforcer: Enforcer, effect: Effect) -> Callable[[str], object]:
    def edit(name: str) -> None:
        enforcer.enforce("edit", page(name), subject=ALICE)
        effect(name)

    return edit


def aenforced(enforcer: Enforcer, effect: Effect) -> Callable[[str], object]:
    async def edit(name: str) -> None:
        await enforcer.aenforce("edit", page(name), subject=ALICE)
        effect(name)

    return edit


def enforcing(enforcer: Enforcer, effect: Effect) -> Callable[[str], object]:
    def edit(name: str) -> None:
        with enforcer.enforcing("edit", page(name), subject=ALICE):
            effect(name)

    return edit


def aenforcing(enforcer: Enforcer, effect: Effect) -> Callable[[str], object]:
    async def edit(name: str) -> None:
        async with enforcer.enforcing("edit", page(name), subject=ALICE):
            effect(name)

    return edit


def within_a_loop(enforcer: Enforcer, effect: Effect) -> Callable[[str], object]:
    """A synchronous call on the thread of a running loop."""

    async def edit(name: str) -> None:
        enforcer.enforce("edit", page(name), subject=ALICE)
        effect(name)

    return edit


def warm(enforcer: Enforcer, effect: Effect) -> Callable[[str], object]:
    """A function whose calls are hits, but for the first: they leave their two records without a plan."""
    edit = known(enforcer).guard("edit", resource="page:{name}")(lambda name: effect(name))

    def call(name: str) -> None:
        with acting_as(ALICE):
            edit(name)

    return call


def warm_coroutine(enforcer: Enforcer, effect: Effect) -> Callable[[str], object]:
    """The same as a coroutine function."""

    @known(enforcer).guard("edit", resource="page:{name}")
    async def edit(name: str) -> None:
        effect(name)

    async def call(name: str) -> None:
        with acting_as(ALICE):
            await edit(name)

    return call


def warm_within_a_loop(enforcer: Enforcer, effect: Effect) -> Callable[[str], object]:
    """A function whose calls are hits, on the thread of a running loop."""
    edit = warm(enforcer, effect)

    async def call(name: str) -> None:
        edit(name)

    return call


def known(enforcer: Enforcer) -> Enforcer:
    """Have every answer at hand."""
    for name in ("a", "b", "c", "last"):
        enforcer.check("edit", page(name), subject=ALICE)
    return enforcer


ENTRIES: Final = (
    warm,
    warm_coroutine,
    warm_within_a_loop,
    guarded,
    guarded_coroutine,
    guarded_generator,
    enforced,
    aenforced,
    enforcing,
    aenforcing,
    within_a_loop,
)


@attrs.frozen
class Fault:
    """What goes wrong: an error, or how many bytes a write takes; once, or from then on."""

    code: int = 0
    taken: int | None = None
    lasts: bool = False

    def strike(self, machine: MemoryDisk, name: str) -> int | None:
        if self.taken is not None:
            return self.taken
        if name == "sync":
            # The disk itself fails it, and forgets what was not on it.
            machine.syncs_that_fail = 1
            return None
        raise OSError(self.code, os.strerror(self.code))


FAULTS: Final = (
    Fault(errno.EIO),
    Fault(errno.EMFILE, lasts=True),
    Fault(errno.ENOSPC),
    Fault(taken=0),
    Fault(taken=40),
    Fault(taken=-1),
    Fault(taken=0, lasts=True),
)


class World:
    """An enforcer whose file is on a disk that fails at its k-th operation, and what its calls came to."""

    def __init__(self, guarantee: Guarantee, entry: Entry, loop: asyncio.AbstractEventLoop) -> None:
        self.machine = MemoryDisk(random.Random(1))  # noqa: S311  a simulation, and no secret
        self.faults = Faults(self.machine.disk)
        self.guarantee, self.entry, self.loop = guarantee, entry, loop
        self.effects: list[str] = []
        self.unrecorded: list[str] = []
        self.refused = self.before = self.hits = 0
        self.gone = b""

    def effect(self, name: str) -> None:
        """Protected code: it looks whether there is a record of the permit it runs under."""
        self.effects.append(name)
        if self.recorded(name) <= self.before:
            self.unrecorded.append(name)

    def recorded(self, name: str) -> int:
        """How many permits are on record: readable, or, where that was asked for, on disk whatever happens."""
        files = self.machine.contents()
        if self.guarantee is Guarantee.DURABLE:
            files = {path: bytes(inode.image) for path, inode in self.machine.kept_names.items()}
        found = {line["id"] for content in files.values() for line in parsed(content) if permits(line, name)}
        return len(found)

    def lived(self, fault: Fault | None, at: int) -> int:
        """Open, call, rotate, lose the file, call again and close; return how many operations that took."""

        def strike(number: int, name: str) -> int | None:
            if fault is None or not (number == at or (fault.lasts and number > at)):
                return None
            return fault.strike(self.machine, name)

        self.faults.strike = strike
        clock = FakeClock()
        try:
            sink = FileSink(
                f"{MemoryDisk.FOLDER}/audit.jsonl",
                guarantee=self.guarantee,
                rotate_bytes=900,
                clock=clock,
                disk=self.faults.disk,
            )
        except ConfigurationError:
            return self.faults.seen
        enforcer = Enforcer(
            FunctionPDP(lambda _request: True, name="pure", pure=True),
            audit=sink,
            profiles={"**": Profile(audit=self.guarantee, deadline=60)},
        )
        call = self.entry(enforcer, self.effect)
        for name in ("a", "a", "b", "deleted", "c", "renamed", "a"):
            if name in {"deleted", "renamed"}:
                self.moved(name)
                clock.advance(LOOK_EVERY)
            self.called(call, name)
        seen = self.faults.seen
        self.faults.mend()
        before = len(self.effects)
        clock.advance(LOOK_EVERY)
        self.called(call, "last")
        if self.effects[before:] != ["last"]:
            self.unrecorded.append("the call after all went well again")
        self.hits = enforcer._core.wiring().journal.noting.count()
        with suppress(Exception):
            enforcer.close()
        return seen

    def moved(self, how: str) -> None:
        """Let somebody delete or rename the file."""
        names = dict(self.machine.names)
        inode = names.pop(f"{MemoryDisk.FOLDER}/audit.jsonl", None)
        if inode is not None and how == "renamed":
            names[f"{MemoryDisk.FOLDER}/moved"] = inode
        elif inode is not None:
            self.gone = bytes(inode.content)
        self.machine.names = names
        self.machine.sync_folder("")

    def called(self, call: Callable[[str], object], name: str) -> None:
        self.before = self.recorded(name)
        try:
            result = call(name)
            if asyncio.iscoroutine(result):
                self.loop.run_until_complete(result)
        except AccessDenied:
            self.refused += 1

    def complaints(self) -> list[str]:
        wrong = [f"{name} ran unrecorded" for name in self.unrecorded]
        files = self.machine.contents()
        told = sum(line.get("refused", 0) for content in (*files.values(), self.gone) for line in parsed(content))
        if self.refused and not told:
            wrong.append(f"{self.refused} refused records are told of nowhere")
        # A line whose file was deleted is gone, and may be gone on from.
        return wrong + [link for link in broken_links(files) if "has the number of another line" in link]


def permits(line: dict[str, Any], name: str) -> bool:
    return line.get("kind") == "decision" and line["outcome"] == "permitted" and line["resource"].get("id") == name


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def trials(guarantee: Guarantee, entry: Entry, loop: asyncio.AbstractEventLoop, faults: Any = FAULTS) -> list[str]:
    """Fail every operation in every way; tell what is wrong."""
    dry = World(guarantee, entry, loop)
    count = dry.lived(None, 0)
    wrong = dry.complaints()
    if dry.refused or len(dry.effects) != 8:
        wrong.append("nothing failed, and yet a call was refused")
    if entry in {warm, warm_coroutine, warm_within_a_loop} and dry.hits < 5:
        wrong.append(f"only {dry.hits} hits")
    step = 1 if IN_FULL else 3 if entry in {guarded, warm, warm_coroutine} else 11
    for number, fault in enumerate(faults):
        for at in range(1 + number % step, count + 1, step):
            world = World(guarantee, entry, loop)
            world.lived(fault, at)
            wrong += [f"{fault} at {at}, {world.faults.log[at - 1]}: {text}" for text in world.complaints()]
    return wrong


@pytest.mark.parametrize("guarantee", [Guarantee.WRITTEN, Guarantee.DURABLE])
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.__name__)
def test_no_effect_without_a_recorded_intent(
    guarantee: Guarantee, entry: Entry, loop: asyncio.AbstractEventLoop
) -> None:
    """Whichever operation fails, and however: protected code runs only with its permit readable, or on disk."""
    assert trials(guarantee, entry, loop) == []


def test_every_operation_is_failed(loop: asyncio.AbstractEventLoop) -> None:
    """The trials leave no operation out."""
    world = World(Guarantee.DURABLE, guarded, loop)
    world.lived(None, 0)
    assert set(world.faults.log) == {field.name for field in attrs.fields(type(world.faults.disk))}


def test_the_proof_notices_a_short_write_that_is_acknowledged(
    monkeypatch: pytest.MonkeyPatch, loop: asyncio.AbstractEventLoop
) -> None:
    """Where it is not looked at how much a write took, some effect has no record."""
    monkeypatch.setattr(Writer, "_cut_short", lambda _writer, _written: None)
    assert any("unrecorded" in text for text in trials(Guarantee.WRITTEN, guarded, loop, (Fault(taken=0),)))


def test_the_proof_notices_an_error_that_is_swallowed(
    monkeypatch: pytest.MonkeyPatch, loop: asyncio.AbstractEventLoop
) -> None:
    """Where a failed write is taken for none, some effect has no record."""
    real = Writer._failed

    def swallowed(writer: Writer, error: BaseException, count: int) -> None:
        with suppress(Exception):
            real(writer, error, count)

    monkeypatch.setattr(Writer, "_failed", swallowed)
    assert any("unrecorded" in text for text in trials(Guarantee.WRITTEN, enforced, loop))


def test_the_proof_notices_a_batch_that_is_acknowledged_early(
    monkeypatch: pytest.MonkeyPatch, loop: asyncio.AbstractEventLoop
) -> None:
    """Where nobody waits for the sync, some effect has no record on disk."""

    def early(group: Group, json: bytes) -> Plan[None]:
        group._queue_up(ticket := ticket_of(json))
        return
        yield ticket

    def ticket_of(json: bytes) -> Any:
        from pep.audit.grouping import _Ticket  # noqa: PLC0415  private, and wanted here only

        return _Ticket(json)

    monkeypatch.setattr(Group, "plan", early)
    monkeypatch.setattr(Group, "submit", lambda group, json: group._queue_up(ticket_of(json)))
    for entry in (enforced, warm):
        assert any("unrecorded" in text for text in trials(Guarantee.DURABLE, entry, loop, ()))
