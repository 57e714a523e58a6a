"""
Steps: frozen data that each describe one effect on the world, and the replies to them.

Imports what crosses with them only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeAlias, TypeVar, final

import attrs

from pep.frozen import fields_repr

if TYPE_CHECKING:
    from pep.exchange import HTTPRequest
    from pep.flights import Flight
    from pep.protocols import Transport

T = TypeVar("T")


@final
@attrs.frozen(repr=False)
class Returned(Generic[T]):
    """What a step came to: a value, and whether the world went on meanwhile."""

    value: T
    suspended: bool = False

    __repr__ = fields_repr


@final
@attrs.frozen(repr=False)
class Raised:
    """What a step came to: an exception, and whether the world went on meanwhile."""

    error: Exception
    suspended: bool = False

    __repr__ = fields_repr


Reply: TypeAlias = "Returned[Any] | Raised"


class Invoke(NamedTuple):
    """
    Call a user's callable; an awaitable it returns is awaited where that can be.

    Args:
        fn: The callable.

        args: Its positional arguments.

        deadline: When the answer is too late, on the monotonic clock, in seconds.

        threaded: Whether to call it on a thread of its own, so that a deadline can cut it short.

        frame: The frame it runs in; None is no subject at all.

        kept: Whether an awaitable it returns is the answer, for another step to await.
    """

    fn: Callable[..., Any]
    args: tuple[Any, ...] = ()
    deadline: float | None = None
    threaded: bool = False
    frame: object | None = None
    kept: bool = False


class Write(NamedTuple):
    """Hand one audit record to a sink, by a deadline on the monotonic clock."""

    sink: Any
    record: Any
    deadline: float | None = None


class Dispatch(NamedTuple):
    """Run the protected code, in the caller's own frame and under no deadline."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    frame: object | None = None


class Sleep(NamedTuple):
    """Wait for so many seconds, but not past the deadline."""

    seconds: float
    deadline: float | None = None


class Gather(NamedTuple):
    """
    Run plans side by side; the reply's value holds their replies in the order of the plans.

    Args:
        plans: What is run.

        deadline: When it is too late, on the monotonic clock, in seconds; binds every step of theirs.

        first: Whether the first plan that returns a value ends it, other than `Raised`: what has not begun then
            never does, what still runs is cut short, and both are reported late.
    """

    plans: tuple[Generator[Any, Any, Any], ...]
    deadline: float | None = None
    first: bool = False


class Launch(NamedTuple):
    """
    Let a plan fly: what it returns lands a flight.

    It is run to its end here; in asyncio in a task of its own, which goes on when whoever launched it is cut off.

    Args:
        plan: What remains to be done.

        flight: What its end lands.

        deadline: When it is overdue, on the monotonic clock, in seconds; its own steps are bound by that already.
    """

    plan: Generator[Any, Any, Any]
    flight: Flight
    deadline: float | None = None


class Wait(NamedTuple):
    """
    Wait for a flight to land, by a deadline on the monotonic clock.

    The reply's value is what landed, or why it brings no answer: one of `pep.flights.Ended`.
    """

    flight: Flight
    deadline: float | None = None


class Send(NamedTuple):
    """
    Have a transport send one HTTP request, by a deadline on the monotonic clock.

    Args:
        transport: What sends it; see `pep.protocols.Transport`.

        request: What is sent.

        deadline: When the answer is too late, connecting and reading together.
    """

    transport: Transport
    request: HTTPRequest
    deadline: float | None = None


class Remaining(NamedTuple):
    """Tell how many seconds are left until the deadline that binds this step."""

    deadline: float | None = None


Step: TypeAlias = "Invoke | Write | Dispatch | Sleep | Gather | Launch | Wait | Send | Remaining"
Plan: TypeAlias = Generator[Step, Any, T]
#: What an extension point may answer with: a plan, an awaitable, or the plain value.
Eventual: TypeAlias = Plan[T] | Awaitable[T] | T

#: Every kind of step.
STEPS: Final = (Invoke, Write, Dispatch, Sleep, Gather, Launch, Wait, Send, Remaining)
