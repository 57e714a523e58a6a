"""
Plans: logic free of I/O, written once for both worlds.

A plan is a generator that yields *steps*, frozen data that each describe one effect on the
world, and returns a value. A driver performs the steps and sends a *reply* back: what user code
returned or raised crosses as a value, never thrown raw. Imports steps and the error tree only.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from types import GeneratorType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

from pep.errors import PDPReplyError
from pep.steps import (
    STEPS,
    Dispatch,
    Eventual,
    Gather,
    Invoke,
    Launch,
    Plan,
    Raised,
    Remaining,
    Reply,
    Returned,
    Send,
    Sleep,
    Step,
    Wait,
    Write,
)

if TYPE_CHECKING:
    from pep.exchange import HTTPReply, HTTPRequest
    from pep.protocols import Transport

__all__ = [
    "Begun",
    "Dispatch",
    "Eventual",
    "Gather",
    "HTTPReply",
    "HTTPRequest",
    "Invoke",
    "Launch",
    "Plan",
    "Raised",
    "Remaining",
    "Reply",
    "Returned",
    "Send",
    "Sleep",
    "Step",
    "Wait",
    "Write",
    "attempt",
    "awaitable",
    "begin",
    "bounded",
    "call",
    "contain",
    "discard",
    "gather",
    "having",
    "pending",
    "remaining",
    "send",
    "sleep",
    "unwrap",
]

T = TypeVar("T")


def __getattr__(name: str) -> Any:  # noqa: ANN401  whatever it names
    """Load what goes over HTTP when somebody asks for it."""
    if name in {"HTTPReply", "HTTPRequest"}:
        from pep import exchange  # noqa: PLC0415  only who sends requests pays for them

        return getattr(exchange, name)
    message = f"module `{__name__}` has no attribute `{name}`"
    raise AttributeError(message)


def attempt(
    fn: Callable[..., Any],
    *args: Any,  # noqa: ANN401  whatever the callable takes
    deadline: float | None = None,
    threaded: bool = False,
    frame: object | None = None,
) -> Plan[Reply]:
    """
    Call an extension point, which may answer with a plain value, an awaitable or a plan.

    Args:
        fn: The extension point's method.

        args: Its arguments.

        deadline: When its answer is too late, on the monotonic clock, in seconds; binds every step.

        threaded: Whether to call it on a thread of its own.

        frame: The frame it runs in; None is no subject at all.

    Returns:
        What it returned or raised.
    """
    reply: Reply = yield Invoke(fn, args, deadline, threaded, frame)
    if type(reply) is Returned and type(reply.value) is GeneratorType:
        # A user's plan may yield anything: its steps are checked, with a deadline or without.
        return (yield from contain(bounded(reply.value, deadline)))
    return reply


def pending(reply: Reply) -> bool:
    """Tell whether a reply's value is still to be had: it is a plan, or has to be awaited."""
    return type(reply) is Returned and (type(reply.value) is GeneratorType or awaitable(reply.value))


def having(value: Any, deadline: float | None) -> Plan[Reply]:  # noqa: ANN401  a plan or an awaitable
    """
    Have what is still to be had.

    Args:
        value: A user's plan, or an awaitable; it is closed if nobody comes to await it.

        deadline: When it is too late, on the monotonic clock, in seconds.

    Returns:
        What it returned or raised.
    """
    if type(value) is GeneratorType:
        return (yield from contain(bounded(value, deadline)))
    begun: list[Any] = []

    def begin() -> Any:  # noqa: ANN401  any awaitable
        begun.append(value)
        return value

    try:
        reply: Reply = yield Invoke(begin, (), deadline)
    finally:
        if not begun:
            discard(value)
    return reply


def awaitable(value: object) -> bool:
    """Tell whether somebody has to await a value."""
    return hasattr(type(value), "__await__")


def discard(value: Any) -> None:  # noqa: ANN401  any awaitable, or a plan
    """Close what nobody will await or run."""
    end = getattr(value, "close", None) or getattr(value, "cancel", None)
    if end is not None:
        with suppress(Exception):
            end()


def call(fn: Callable[..., Any], *args: Any, deadline: float | None = None, threaded: bool = False) -> Plan[Any]:  # noqa: ANN401  whatever the callable takes
    """
    Call an extension point from within a plan, and return what it returned.

    Raises:
        Exception: What the callable raised.
    """
    return unwrap((yield from attempt(fn, *args, deadline=deadline, threaded=threaded)))


def sleep(seconds: float) -> Plan[None]:
    """Wait for so many seconds, in either world."""
    unwrap((yield Sleep(seconds)))


def send(transport: Transport, request: HTTPRequest) -> Plan[HTTPReply]:
    """
    Send one HTTP request, in either world, within whatever deadline binds the plan.

    Returns:
        The reply, whatever its status.

    Raises:
        PDPReplyError: When the transport answers with anything but an `HTTPReply`.

        Exception: What the transport raised; see `pep.protocols.Transport`.
    """
    from pep.exchange import HTTPReply  # noqa: PLC0415  only who sends requests pays for them

    reply = unwrap((yield Send(transport, request)))
    if not isinstance(reply, HTTPReply):
        message = f"a transport must answer with an `HTTPReply`, not `{type(reply).__name__}`"
        raise PDPReplyError(message)
    return reply


def remaining() -> Plan[float]:
    """Tell how many seconds the plan has left; a very long time where no deadline binds it."""
    left: float = unwrap((yield Remaining()))
    return left


def gather(
    *plans: Plan[T], deadline: float | None = None, first: bool = False
) -> Plan[tuple[Returned[T] | Raised, ...]]:
    """
    Run plans side by side.

    Args:
        plans: What is run.

        deadline: When it is too late, on the monotonic clock, in seconds.

        first: Whether the first plan that returns a value ends it, other than `Raised`; the others are cut short.

    Returns:
        Their replies in the order of the arguments, however they arrived.
    """
    reply: Reply = yield Gather(plans, deadline, first)
    replies: tuple[Returned[T] | Raised, ...] = unwrap(reply)
    return replies


def unwrap(reply: Reply) -> Any:  # noqa: ANN401  a reply carries whatever user code returned
    """
    Return a reply's value.

    Raises:
        Exception: The error, where the reply carries one.
    """
    if type(reply) is Raised:
        raise reply.error
    return reply.value


def contain(plan: Plan[T], deadline: float | None = None) -> Plan[Returned[T] | Raised]:
    """
    Run a nested plan to its end, with what it raises turned into a value.

    Args:
        plan: The plan.

        deadline: A bound that each of its steps inherits, on the monotonic clock, in seconds.
    """
    try:
        value = yield from (plan if deadline is None else bounded(plan, deadline))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  user code may raise anything
        return Raised(error)
    return Returned(value)


@final
class Begun(Generic[T]):
    """A plan, and the first step it yielded."""

    __slots__ = ("plan", "step")

    def __init__(self, plan: Plan[T], step: object) -> None:
        self.plan, self.step = plan, step


def begin(plan: Plan[T]) -> Returned[T] | Raised | Begun[T]:
    """Begin a nested plan: most of them end without a step, and need none of the machinery to `contain` one."""
    try:
        return Begun(plan, plan.send(None))
    except StopIteration as stop:
        return Returned(stop.value)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  user code may raise anything
        return Raised(error)


def bounded(plan: Plan[T] | Begun[T], deadline: float | None) -> Plan[T]:
    """
    Run a plan with every step checked, and bound by a deadline at the latest.

    Args:
        plan: The plan; one that was begun goes on from there.

        deadline: The bound, on the monotonic clock, in seconds; None is none.

    Raises:
        PDPReplyError: When the plan yields something that is no step.
    """
    begun = plan if type(plan) is Begun else begin(plan)
    if type(begun) is not Begun:
        return unwrap(begun)  # type: ignore[no-any-return]
    running, step = begun.plan, begun.step
    try:
        while True:
            reply = yield _sooner(_step(step), deadline)
            try:
                step = running.send(reply)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
    finally:
        running.close()


def _step(value: object) -> Step:
    if not isinstance(value, STEPS):
        message = f"a plan must yield steps, not `{type(value).__name__}`; use `yield from call(...)`"
        raise PDPReplyError(message)
    return value


def _sooner(step: Step, deadline: float | None) -> Step:
    if deadline is None or isinstance(step, Dispatch) or (step.deadline is not None and step.deadline <= deadline):
        return step
    return step._replace(deadline=deadline)
