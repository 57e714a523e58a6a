"""
``with enforcer.enforcing(...)`` and ``async with``: a permitted block.

Never a decorator, never suppresses. Imports the core and the plan.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn

from pep.core import Core
from pep.enforcement import Enforcement, Stage
from pep.errors import ConfigurationError, ObligationError
from pep.plan import Plan, unwrap
from pep.profile import Guarantee
from pep.verdict import Grant


class Enforcing:
    """
    A block that runs only with a recorded permit; gives a `Grant`.

    Leaving it without `Grant.release`, where obligations are due on the result, raises `ObligationError`.

    Args:
        core: The enforcer's core.

        begin: Begins the enforcement, for who acts when the block is entered.
    """

    def __init__(self, core: Core, begin: Callable[[], Enforcement]) -> None:
        self._core = core
        self._begin = begin
        self._job: Enforcement | None = None
        self._grant: Grant | None = None
        self._released = False

    def __enter__(self) -> Grant:
        """Decide, on this thread."""
        problem = self._core.awaited(self._core.wiring())
        if problem is not None:
            message = f"`{problem}` can only be awaited; use `async with`"
            raise ConfigurationError(message)
        job = self._begun()
        self._core.run(job, job.permit()).raise_if_denied()
        return self._given(job)

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Record how the block ended; what it raised goes on."""
        job = self._left()
        if job is not None:
            self._core.run(job, self._ended(job, error))
        self._complain(error)

    async def __aenter__(self) -> Grant:
        """Decide, in this task."""
        job = self._begun()
        (await self._core.arun(job, job.permit())).raise_if_denied()
        return self._given(job)

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Record how the block ended; what it raised goes on."""
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

    def _begun(self) -> Enforcement:
        if self._job is not None:
            message = "this `enforcing` was entered already; make a new one for each block"
            raise ConfigurationError(message)
        self._job = self._begin()
        return self._job

    def _given(self, job: Enforcement) -> Grant:
        job.stage = Stage.RUNNING
        self._grant = self._core.grant(job, release=self._release, arelease=self._arelease)
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

    def _release(self, value: Any) -> Any:  # noqa: ANN401  whatever the code computed
        job = self._running()
        return unwrap(self._core.run(job, job.release(value)))

    async def _arelease(self, value: Any) -> Any:  # noqa: ANN401  whatever the code computed
        job = self._running()
        return unwrap(await self._core.arun(job, job.release(value)))

    def _running(self) -> Enforcement:
        if self._job is None or self._job.stage is not Stage.RUNNING or self._released:
            message = "a result is released once, within its block"
            raise ObligationError(message)
        self._released = True
        return self._job
