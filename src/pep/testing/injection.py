"""
Injection: let step *k* of whatever an enforcer does go wrong. Steps are data, so every fault can be tried at each.

Imports the staged performers and what is below them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from pep.drive import arun, run
from pep.errors import AccessDenied, ConfigurationError
from pep.plan import Plan
from pep.testing.clock import FakeClock
from pep.testing.mishaps import Mishap
from pep.testing.performing import Stage

if TYPE_CHECKING:
    from pep.core import Core
    from pep.enforcer import Enforcer

T = TypeVar("T")


@contextmanager
def inject(enforcer: Enforcer, *, at: int | None = None, mishap: Mishap | None = None) -> Iterator[Stage]:
    """
    Let one step go wrong in whatever an enforcer does within a ``with`` block.

    Args:
        enforcer: The enforcer.

        at: Which step, counted from 0 since the block was entered; None is a dry run, to count them.

        mishap: What befalls it; see `MISHAPS`.

    Returns:
        The stage: `Stage.steps` tells what was performed, `Stage.struck` whether it went wrong.

    Raises:
        ConfigurationError: When the enforcer is unbound or closed.
    """
    core = enforcer._core  # noqa: SLF001  a test looks where a user may not
    try:
        wiring = core.wiring()
    except AccessDenied as error:
        message = f"enforcer `{core.name}` enforces nothing now; bind it first"
        raise ConfigurationError(message) from error
    stage = Stage(wiring.clock, at, mishap, lost=wiring.journal.owe)
    with directed(core, stage):
        yield stage


@contextmanager
def directed(core: Core, stage: Stage) -> Iterator[None]:
    """Have a stage's performers do what the enforcer's own would, for the length of a block."""
    before = core._performers  # noqa: SLF001  there is no other way to a step
    core._performers = (core.wiring(), stage.performer, stage.aperformer)  # noqa: SLF001  the same
    try:
        yield
    finally:
        core._performers = before  # noqa: SLF001  the same


def drive(plan: Plan[T], *, at: int | None = None, mishap: Mishap | None = None, clock: FakeClock | None = None) -> T:
    """
    Run any plan to its end on this thread, with one step gone wrong.

    Args:
        plan: The plan.

        at: Which step, counted from 0.

        mishap: What befalls it.

        clock: What time it is; one of its own unless given.
    """
    return run(plan, Stage(clock or FakeClock(), at, mishap).performer)


async def adrive(
    plan: Plan[T], *, at: int | None = None, mishap: Mishap | None = None, clock: FakeClock | None = None
) -> T:
    """Run any plan to its end in this task, with one step gone wrong; see `drive`."""
    return await arun(plan, Stage(clock or FakeClock(), at, mishap).aperformer)
