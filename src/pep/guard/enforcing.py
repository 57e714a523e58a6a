"""
``with enforcer.enforcing(...)`` and ``async with``: a permitted block.

Never a decorator, never suppresses. Imports the core and the plan.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, NoReturn, cast

from pep.audit.noting import Note
from pep.core import Core
from pep.enforcement import Enforcement, Stage
from pep.errors import ConfigurationError, ObligationError
from pep.frozen import EMPTY
from pep.guard.block import Block
from pep.plan import Plan, unwrap
from pep.profile import Guarantee
from pep.verdict import Grant

_ONCE: Final = "a result is released once, within its block"


class Enforcing:
    """
    A block that runs only with a recorded permit; gives a `Grant`.

    Leaving it without `Grant.release`, where obligations are due on the result, raises `ObligationError`.

    Args:
        core: The enforcer's core.

        begin: Begins the enforcement of an action on a resource, for who acts when the block is entered.

        block: The hot path of its action, where it may have one.

        resource: What that looks for.

        action: What is done in the block.
    """

    # Most blocks need none of these: what is not set is not paid for.
    _job: Enforcement | None = None
    _grant: Grant | None = None
    _note: Note | None = None
    _entered = False
    _released = False
    # How often the plan decides before it counts as revoked.
    _tries = 2

    def __init__(
        self,
        core: Core,
        begin: Callable[[Any, Any], Enforcement],
        block: Block | None = None,
        resource: Any = None,  # noqa: ANN401  a resource
        action: Any = None,  # noqa: ANN401  an action
    ) -> None:
        self._core, self._begin, self._block = core, begin, block
        self._resource, self._action = resource, action

    def __enter__(self) -> Grant:
        """Decide, on this thread."""
        if self._block is not None and (hit := self._hit(self._block)) is not None:
            return hit
        problem = self._core.awaited(self._core.wiring())
        if problem is not None:
            message = f"`{problem}` can only be awaited; use `async with`"
            raise ConfigurationError(message)
        job = self._begun()
        self._core.run(job, job.permit()).raise_if_denied()
        return self._given(job)

    def _hit(self, block: Block) -> Grant | None:
        """Enter on the hot path; None where that takes a plan."""
        if self._entered or self._job is not None:
            return None
        note = block.enter(self._resource)
        if not note:
            self._tries = 2 if note is None else 1
            return None
        self._note, self._entered = note, True
        core = self._core
        grant = self._grant = Grant(note, EMPTY, core.redeem, [(core.process, note)], self)
        return grant

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Record how the block ended; what it raised goes on."""
        if self._note is not None:
            self._left_early(error)
            return
        job = self._left()
        if job is not None:
            self._core.run(job, self._ended(job, error))
        self._complain(error)

    async def __aenter__(self) -> Grant:
        """Decide, in this task."""
        if self._block is not None and (hit := self._hit(self._block)) is not None:
            return hit
        job = self._begun()
        (await self._core.arun(job, job.permit())).raise_if_denied()
        return self._given(job)

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Record how the block ended; what it raised goes on."""
        if self._note is not None:
            self._left_early(error)
            return
        job = self._left()
        if job is not None and error is not None:
            self._core.run_closing(job, self._ended(job, error))
        elif job is not None:
            await self._core.arun(job, self._ended(job, error))
        self._complain(error)

    def __call__(self, *_args: object) -> NoReturn:
        """Refuse to be a decorator: around an ``async def`` it would be left before the body runs."""
        message = "`enforcing` is a block, not a decorator; use `guard`"
        raise ConfigurationError(message)

    def _left_early(self, error: BaseException | None) -> None:
        """Leave a block that was entered on the hot path: nothing is due on its result."""
        note, grant = cast("Note", self._note), cast("Grant", self._grant)
        # They hold each other, and a block is left far more often than the collector comes by.
        self._note = self._grant = None
        self._core.void(grant)
        if error is not None and not self._released:
            note[0].raised(note, error)

    def _begun(self) -> Enforcement:
        if self._job is not None or self._entered:
            message = "this `enforcing` was entered already; make a new one for each block"
            raise ConfigurationError(message)
        self._job = self._begin(self._action, self._resource)
        self._job.tries, self._job.deciding.repeated = self._tries, self._tries == 1
        return self._job

    def _given(self, job: Enforcement) -> Grant:
        job.stage = Stage.RUNNING
        if self._block is not None:
            self._block.socket.offer(job)
        self._grant = self._core.grant(job, self)
        return self._grant

    def _left(self) -> Enforcement | None:
        if self._grant is not None:
            self._core.void(self._grant)
        return None if self._job is None or self._job.stage is Stage.DONE else self._job

    def _ended(self, job: Enforcement, error: BaseException | None) -> Plan[None]:
        if error is not None:
            yield from job.finish("raised" if isinstance(error, Exception) else "cancelled", ran=True, error=error)
        elif job.owes_release and not self._released:
            yield from job.finish("withheld", ran=True)
        elif job.guarantee is Guarantee.DURABLE:
            yield from job.finish("completed", ran=True)
        job.stage = Stage.DONE

    def _complain(self, error: BaseException | None) -> None:
        job = self._job
        if error is None and job is not None and job.owes_release and not self._released:
            message = "the block was left without `grant.release(value)`, and obligations are due on its result"
            raise ObligationError(message)

    def release(self, value: Any) -> Any:  # noqa: ANN401  whatever the code computed
        """Let a result out: see `Grant.release`."""
        if self._note is not None:
            return self._released_once(value)
        job = self._running()
        return unwrap(self._core.run(job, job.release(value)))

    async def arelease(self, value: Any) -> Any:  # noqa: ANN401  whatever the code computed
        """Let a result out: see `Grant.arelease`."""
        if self._note is not None:
            return self._released_once(value)
        job = self._running()
        return unwrap(await self._core.arun(job, job.release(value)))

    def _released_once(self, value: Any) -> Any:  # noqa: ANN401  whatever the code computed
        if self._released:
            raise ObligationError(_ONCE)
        self._released = True
        return value

    def _running(self) -> Enforcement:
        if self._job is None or self._job.stage is not Stage.RUNNING or self._released:
            raise ObligationError(_ONCE)
        self._released = True
        return self._job
