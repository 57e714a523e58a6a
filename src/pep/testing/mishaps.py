"""
Mishaps: what can befall one step of a plan. Every class of exception, and every sort of answer that is none.

Imports plans and the error tree only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import attrs

from pep.errors import PDPOverloaded, PDPRejected, PDPReplyError, PDPTimeout, PDPUnavailable
from pep.plan import Dispatch, Invoke, Step, Write
from pep.testing.clock import FakeClock
from pep.testing.lookalikes import Agreeable, Lookalike, unawaited

#: By how much something that hangs is late, in seconds: past every deadline.
HANGING: Final = 1e6


@attrs.frozen(eq=False, kw_only=True)
class Mishap:
    """
    What befalls one step.

    Args:
        name: What to call it.

        act: Takes the place of user code, or comes after it; given the clock, it raises or answers.

        late: Whether the step is performed first, and only then goes wrong: a record that was written
            and not acknowledged, an answer that was had and lost.

        cuts: Whether it ends the call instead of answering it: nothing catches it on the way.

        answers: Whether it is an answer, if a wrong one.

        twofold: Whether it means the same in both worlds.
    """

    name: str
    act: Callable[[FakeClock], Any] = attrs.field(repr=False)
    late: bool = False
    cuts: bool = False
    answers: bool = False
    twofold: bool = True

    def strikes(self, step: Step) -> bool:
        """Tell whether it can befall a step: what calls no user code can only be cut off."""
        return self.cuts or isinstance(step, (Invoke, Write, Dispatch))

    def steps(self, step: Step, clock: FakeClock) -> tuple[Step, ...]:
        """Return what to perform in place of a step; the reply is that of the last."""
        deadline = None if isinstance(step, Dispatch) else step.deadline
        frame = step.frame if isinstance(step, (Invoke, Dispatch)) else None
        wrong = Invoke(self.act, (clock,), deadline, frame=frame)
        # A sink that answers nonsense has answered: it took the record.
        first = self.late or (self.answers and isinstance(step, Write))
        return (step, wrong) if first else (wrong,)

    def after(self) -> Mishap:
        """Return the same mishap, once the step has been performed."""
        return attrs.evolve(self, name=f"{self.name}, late", late=True)

    def __str__(self) -> str:
        return self.name


def raising(kind: type[BaseException], *, cuts: bool = False) -> Mishap:
    """Return the mishap of an exception of a class."""

    def act(_clock: FakeClock) -> None:
        raise kind

    return Mishap(name=f"raises {kind.__name__}", act=act, cuts=cuts)


def answering(name: str, make: Callable[[], object], *, twofold: bool = True) -> Mishap:
    """Return the mishap of an answer that is none."""
    return Mishap(name=f"answers {name}", act=lambda _clock: make(), answers=True, twofold=twofold)


def hanging() -> Mishap:
    """Return the mishap of an answer that comes after every deadline; nobody waits for it."""

    def act(clock: FakeClock) -> bool:
        clock.advance(HANGING)
        return True

    return Mishap(name="hangs", act=act)


#: What a step that calls user code may raise, and a plan has to live with.
RAISED: Final = tuple(
    raising(kind)
    for kind in (
        PDPTimeout,
        PDPUnavailable,
        PDPOverloaded,
        PDPRejected,
        PDPReplyError,
        TimeoutError,
        ConnectionError,
        ValueError,
        OSError,
        StopIteration,
        StopAsyncIteration,
    )
)

#: What ends the call there and then.
CUT_OFF: Final = tuple(
    raising(kind, cuts=True)
    for kind in (MemoryError, KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit)
)

#: What is no answer to anything.
ANSWERED: Final = (
    answering("None", lambda: None),
    answering("1", lambda: 1),
    answering("'true'", lambda: "true"),
    answering("[True]", lambda: [True]),
    answering("a mapping", lambda: {"decision": True}),
    answering("a lookalike", Lookalike),
    answering("an agreeable object", Agreeable),
    answering("a coroutine", unawaited, twofold=False),
)

#: Every mishap that replaces a step, and those that strike once it has been performed.
MISHAPS: Final = (*RAISED, *CUT_OFF, *ANSWERED, hanging())
LATE: Final = tuple(mishap.after() for mishap in (RAISED[0], *CUT_OFF, hanging()))
