"""
What a hit owes under `DURABLE`: its record on disk before the code, and another one after it, without a plan.

It does what the plan would have done, in the same order, and leaves to the plan whatever goes wrong. Imports the
core's and the plan's parts, but no guard.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, final

import attrs

from pep.audit.noting import OWED, Note
from pep.audit.record import Record
from pep.audit.tell import ended_fields, outcome_told
from pep.enforcement import Enforcement, Stage, denial
from pep.errors import PartlyRecordedError
from pep.fault import Fault
from pep.replies import late

if TYPE_CHECKING:
    import asyncio

    from pep.guard.hot import Hot


@attrs.frozen(eq=False)
class Ending:
    """
    Tells the notes of how calls ended; see `pep.audit.noting`.

    Args:
        json: Returns the JSON of a note's record.

        record: Makes the record of a note.
    """

    json: Callable[[Note], bytes]
    record: Callable[[Note], Record]


@final
class Owing:
    """
    Who tells the notes of one guarded function whose calls leave two records on disk each.

    Args:
        hot: Who tells them otherwise.

        submit: Has a note's record on disk: waits for that, or returns what to await; None where there is nothing to.

        now: Reads the clock that entries expire by, in seconds.

        awaited: Whether it is a coroutine function.
    """

    __slots__ = (
        "_awaited",
        "_core",
        "_ending",
        "_hot",
        "_journal",
        "_now",
        "_patience",
        "_submit",
        "ageless",
        "json",
        "moved",
        "record",
        "stands",
        "withheld",
    )

    def __init__(self, hot: Hot, submit: Callable[[Note], Any], now: Callable[[], float], *, awaited: bool) -> None:
        self._hot, self._submit, self._now, self._awaited = hot, submit, now, awaited
        self._core, self._journal, self._patience = hot.core, hot.wiring.journal, hot.patience
        self._ending = Ending(self._journal.noting.ended, self._ended_record)
        self.json, self.record, self.ageless = hot.json, hot.record, hot.ageless
        self.moved, self.stands, self.withheld = hot.moved, hot.stands, hot.withheld

    # Before the code.

    def take(self, note: Note) -> object:
        """Have the record of a note on disk when this returns; for coroutines, `recorded` has."""
        if not self._awaited:
            told = self._journal.belonging(note)
            self._submit(told)
            self._check(note)
            self._journal.show(told)
        return OWED

    async def recorded(self, note: Note) -> None:
        """
        Await that the record of a note is on disk; the world goes on meanwhile.

        Raises:
            AccessDenied: When it is not there in time, or nobody acts any more.
        """
        try:
            told = self._journal.belonging(note)
            suspended = await self._wait(told)
            self._journal.show(told)
        except BaseException as error:  # noqa: BLE001  raised again
            self.lost(note, error)
        # INVARIANT: what is left of a hit that can change is who acts, and what was revoked: compared next.
        if suspended and note[4].who is None:
            job = self._job(note, Stage.RECORDED)
            await self._core.arun(job, job.finish("withheld"))
            raise denial(job.refuse(Fault.EXTRACTION))

    def lost(self, note: Note, error: BaseException) -> NoReturn:
        """
        Refuse a call whose record is not on disk in time.

        Raises:
            AccessDenied: When that is so.

            BaseException: What is no matter of the sink's, once that is recorded.
        """
        self._journal.count("unnoted")
        job = self._job(note, Stage.RECORDED)
        if _stops(error):
            self._close(job, error)
            raise error
        self._journal.count("unrecorded")
        if isinstance(error, (TimeoutError, PartlyRecordedError)):
            # What the sink was handed it may have taken, even if it never said so.
            self.withheld(note)
        # INVARIANT: protected code never runs without a recorded permit.
        refused = denial(job.refuse(Fault.AUDIT, error))
        try:
            raise refused
        finally:
            # What it comes from is told as its cause alone, and only where that may be seen.
            refused.__context__ = None

    # After it.

    def raised(self, note: Note, error: BaseException) -> None:
        """Record how the protected code ended, where it did not return."""
        job = self._job(note, Stage.RUNNING)
        if _stops(error):
            self._close(job, error)
        else:
            self._core.run(job, job.finish("raised", ran=True, error=error))

    async def araised(self, note: Note, error: BaseException) -> None:
        """Record how the protected code ended, where it did not return."""
        job = self._job(note, Stage.RUNNING)
        if _stops(error):
            self._close(job, error)
        else:
            await self._core.arun(job, job.finish("raised", ran=True, error=error))

    def completed(self, note: Note, value: Any) -> Any:  # noqa: ANN401  whatever the code returned
        """
        Have on disk that the protected code returned; a record that is lost closes what comes next.

        Returns:
            What it returned.
        """
        if self._journal.owing:
            job = self._job(note, Stage.RELEASING)
            self._core.run(job, job.finish("completed", ran=True))
            return value
        try:
            ended = self._ended(note)
            self._submit(ended)
            self._check(ended)
            self._journal.tick(ended)
        except BaseException as error:  # noqa: BLE001  what is no `Exception` goes on
            self._forgo(note, error)
        return value

    async def acompleted(self, note: Note, value: Any) -> Any:  # noqa: ANN401  whatever the code returned
        """Await that it is on disk that the protected code returned; see `completed`."""
        if self._journal.owing:
            job = self._job(note, Stage.RELEASING)
            await self._core.arun(job, job.finish("completed", ran=True))
            return value
        try:
            ended = self._ended(note)
            await self._wait(ended)
            self._journal.tick(ended)
        except BaseException as error:  # noqa: BLE001  what is no `Exception` goes on
            self._forgo(note, error)
        return value

    # What both worlds share.

    def _ended(self, note: Note) -> Note:
        journal = self._journal
        return journal.belonging((self._ending, self._now(), journal.noting.ends(), note))

    def _ended_record(self, ended: Note) -> Record:
        note, hot = ended[3], self._hot
        verdict = hot.verdict(note)
        fields = ended_fields(verdict.id, "completed", (), ran=True, error=None)
        telling = partial(outcome_told, hot.entry, verdict.request, fields, hot.wiring.masking)
        return self._journal.noting.ended_record(ended, telling)

    def _job(self, note: Note, stage: Stage) -> Enforcement:
        job = self._hot.job(note)
        job.stage = stage
        return job

    def _close(self, job: Enforcement, error: BaseException) -> None:
        run = self._core.run_closing if self._awaited else self._core.run
        run(job, job.closing(error))

    def _forgo(self, note: Note, error: BaseException) -> None:
        """Note that the record after the code is lost; what is no matter of the sink's withholds the result."""
        if _stops(error):
            self._close(self._job(note, Stage.RELEASING), error)
            raise error
        self._journal.count("unrecorded")
        self._journal.owe()

    def _check(self, note: Note) -> None:
        # An acknowledgement that comes too late is none.
        if self._now() - note[1] > self._patience:
            raise late()

    async def _wait(self, note: Note) -> bool:
        """Await that the record of a note is on disk, by the deadline; tell whether there was anything to await."""
        future: asyncio.Future[None] | None = self._submit(note)
        if future is not None:
            left = self._patience - (self._now() - note[1])
            timer = future.get_loop().call_later(left, _expire, future)
            try:
                await future
            finally:
                timer.cancel()
        self._check(note)
        return future is not None


def _expire(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_exception(late())


def _stops(error: BaseException) -> bool:
    """Tell whether an error ends a plan, rather than being told to it."""
    return not isinstance(error, Exception) or isinstance(error, MemoryError)
