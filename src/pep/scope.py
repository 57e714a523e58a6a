"""
Who acts: the scope `acting_as` binds, and the frame that carries it.

A scope ends with its block in every copied context, so that a thread or task that outlives the
block acts for nobody. Imports the model only.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from types import FrameType, TracebackType
from typing import Any, Final, TypeVar

import attrs

from pep.errors import ConfigurationError, ExtractionError
from pep.frozen import EMPTY, FrozenDict, exact_text, freeze_mapping
from pep.model import Subject, who_key

F = TypeVar("F", bound=Callable[..., Any])

#: How deep guarded calls may nest before the next one is refused.
MAX_NESTING: Final = 8

#: The local variable in which the hot path holds the frame it runs user code in.
HOT: Final = "_pep_running"

_CONTEXTLIB: Final = "contextlib"
# Those who enter a generator only to run a test around it.
_TESTERS: Final = frozenset({"_pytest", "pytest_asyncio", "anyio"})


@attrs.define(eq=False, repr=False)
class Scope:
    """Who acts, on whose behalf, where; open until its block is left."""

    subject: object
    actors: tuple[object, ...] = ()
    tenant: str | None = None
    context: FrozenDict = EMPTY
    is_open: bool = True
    #: Who asks in which circumstances, as in cache keys; None once it is closed, and where that takes a plan to know.
    who: bytes | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        if self.is_open and type(self.subject) is Subject and not self.actors:
            try:
                self.who = who_key(self.subject, self.context, self.tenant, ())
            except ExtractionError:
                self.who = None

    def close(self) -> None:
        """End it: whoever still holds it acts for nobody."""
        self.is_open, self.who = False, None


@attrs.define(eq=False, repr=False)
class Approval:
    """An approval by its id, until a call has used it or its block is left."""

    id: str
    is_open: bool = True
    # Taking the only one is atomic: of two calls at once, one gets it.
    _free: list[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._free = [self.id]

    def take(self) -> str | None:
        """Take it for one call; None where another call has it, or had it."""
        try:
            taken = self._free.pop()
        except IndexError:
            return None
        return taken if self.is_open else None

    def give_back(self) -> None:
        """Leave it to the next call, since this one did not use it."""
        self._free.append(self.id)


_ENDED: Final = Scope(None, is_open=False)


@attrs.define(eq=False, repr=False)
class Frame:
    """
    A scope, how many guarded calls surround the code that runs in it, and an approval it may use.

    The hot path enters no frame of its own: it counts here how many of its calls run right now, in every thread and
    task, and counts those of one stack only where there may be too many.
    """

    scope: Scope = _ENDED
    depth: int = 0
    approval: Approval | None = None
    #: How many calls of the hot path run in it now, anywhere.
    active: int = attrs.field(default=0, init=False)
    #: How many may, before their stack has to be looked at; none where there is an approval to use.
    room: int = attrs.field(init=False)
    _inner: Frame | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.room = MAX_NESTING - self.depth if self.approval is None else 0

    def inner(self) -> Frame:
        """Return the frame of what a guarded call in it runs: who acts here, one call deeper, without the approval."""
        if self._inner is None:
            self._inner = Frame(self.scope, self.depth + 1)
        return self._inner

    def exact(self) -> Frame:
        """Return it as it is for code that runs right here: with the hot path's calls on this stack counted in."""
        nested = self.nested() if self.active > 0 else 0
        return Frame(self.scope, self.depth + nested, self.approval) if nested else self

    def nested(self) -> int:
        """Count the calls of the hot path that run in it on this stack."""
        count = 0
        below: FrameType | None = sys._getframe(1)  # noqa: SLF001  whoever asks
        while below is not None:
            if HOT in below.f_code.co_varnames and below.f_locals.get(HOT) is self:
                count += 1
            below = below.f_back
        return count


#: The frame of code that acts for nobody, outside every guarded call.
NOBODY: Final = Frame()

_FRAME: Final[contextvars.ContextVar[Frame]] = contextvars.ContextVar("pep.frame", default=NOBODY)

#: The frame this code runs in, as the hot path reads it.
hot_frame: Final = _FRAME.get


def current_frame() -> Frame:
    """Return the frame this code runs in."""
    return _FRAME.get().exact()


def enter_frame(frame: Frame) -> contextvars.Token[Frame]:
    """Bind a frame; the token goes to `leave_frame`."""
    return _FRAME.set(frame)


def leave_frame(token: contextvars.Token[Frame]) -> None:
    """Bind the frame there was before; in another context, nobody in place of a scope that has ended."""
    try:
        _FRAME.reset(token)
    except ValueError:
        # Who acts there with an open scope is somebody else.
        if not _FRAME.get().scope.is_open:
            _FRAME.set(NOBODY)


def current_scope() -> Scope | None:
    """Return the open scope this code runs in, if there is one."""
    scope = _FRAME.get().scope
    return scope if scope.is_open else None


def current_subject() -> Subject | None:
    """Return who acts here, or None where nobody does; an object that is registered later counts as nobody."""
    scope = current_scope()
    return scope.subject if scope is not None and type(scope.subject) is Subject else None


class within:  # noqa: N801  reads as a preposition: `with within(frame)`
    """
    Run a ``with`` block in a frame; never around a ``yield``.

    Args:
        frame: The frame.
    """

    __slots__ = ("_frame", "_token")

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    def __enter__(self) -> None:
        self._token = _FRAME.set(self._frame)

    def __exit__(self, *_exception: object) -> None:
        leave_frame(self._token)


class acting_as:  # noqa: N801  reads as a verb: `with acting_as(subject)`
    """
    Bind who acts for the length of a ``with`` block.

    Leaving the block ends the scope in every context it was copied to: threads, and tasks that
    were started in it, act for nobody afterwards. Never a decorator.

    Args:
        subject: Who acts: a `Subject`, or an object registered with the enforcer.

        via: Those acting for the subject, outermost first; each is asked too, and all must permit.

        tenant: Whose world it is.

        context: Circumstance → JSON-like value, for every request made in the block.

    Raises:
        ExtractionError: When a value cannot be part of a request.

        ConfigurationError: When entered in a generator, from where it would leak to whoever
            iterates; a ``contextlib.contextmanager`` and a fixture are fine.
    """

    __slots__ = ("_scope", "_token")

    def __init__(
        self,
        subject: object,
        *,
        via: Iterable[object] = (),
        tenant: str | None = None,
        context: Mapping[str, Any] = EMPTY,
    ) -> None:
        if subject is None:
            message = "`acting_as` needs a subject; `pep.ANONYMOUS` is explicit"
            raise ExtractionError(message)
        if isinstance(via, (str, Subject)) or not isinstance(via, Iterable):
            message = "`via` takes a list of actors, outermost first"
            raise ExtractionError(message)
        world = tenant if tenant is None else exact_text(tenant, what="the tenant")
        self._scope = Scope(subject, tuple(via), world, freeze_mapping(context, what="the context"))
        self._token: contextvars.Token[Frame] | None = None

    def __enter__(self) -> None:
        if self._token is not None or not self._scope.is_open:
            message = "this `acting_as` was entered already; make a new one for each block"
            raise ConfigurationError(message)
        _refuse_generators(sys._getframe(1), "acting_as", "subject")  # noqa: SLF001  the frame that entered the block
        outer = current_frame()
        self._token = _FRAME.set(Frame(self._scope, outer.depth, outer.approval))

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._scope.close()
        if self._token is not None:
            leave_frame(self._token)


class approval:  # noqa: N801  reads as a noun: `with approval(id)`
    """
    Bring an approval to one call in a ``with`` block: the first whose decision demands a confirmation.

    Only handlers of rank ``CONFIRM`` get it, and only one call at a time. It is gone once that call has used it,
    before the call's own code runs, and when the block is left.

    Args:
        id: The approval's id, as `ConfirmationRequired.approval` told it.

    Raises:
        ExtractionError: When the id is empty or no exact ``str``.

        ConfigurationError: When entered twice, or in a generator.
    """

    __slots__ = ("_approval", "_token")

    def __init__(self, id: str) -> None:  # noqa: A002  the term everywhere
        self._approval = Approval(exact_text(id, what="an approval's id"))
        self._token: contextvars.Token[Frame] | None = None

    def __enter__(self) -> None:
        if self._token is not None:
            message = "this `approval` was entered already; make a new one for each block"
            raise ConfigurationError(message)
        _refuse_generators(sys._getframe(1), "approval", "approval")  # noqa: SLF001  the frame that entered the block
        outer = current_frame()
        self._token = _FRAME.set(Frame(outer.scope, outer.depth, self._approval))

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._approval.is_open = False
        if self._token is not None:
            leave_frame(self._token)


def carry(fn: F) -> F:
    """
    Bind who acts now to a function that runs elsewhere, such as in an executor.

    Each call opens a scope of its own, which ends with the call.

    Args:
        fn: A function or coroutine function.

    Returns:
        A function that calls it for the subject `carry` was called for; for nobody where nobody acted.

    Raises:
        ConfigurationError: When *fn* is a generator function.
    """
    called = getattr(type(fn), "__call__", None)  # noqa: B004  the method itself, for what it is
    if any(inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one) for one in (fn, called)):
        message = "`carry` takes a function or coroutine function; a generator would leak its subject"
        raise ConfigurationError(message)
    scope = current_scope()

    # What a guard left on the function is not carried along: the new one is not guarded itself.
    if inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(called):

        @functools.wraps(fn, updated=())
        async def carried_async(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  any function
            with _Carried(scope):
                return await fn(*args, **kwargs)

        return carried_async  # type: ignore[return-value]

    @functools.wraps(fn, updated=())
    def carried(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  any function
        with _Carried(scope):
            return fn(*args, **kwargs)

    return carried  # type: ignore[return-value]


class _Carried:
    """A scope of its own for one carried call."""

    __slots__ = ("_scope", "_token")

    def __init__(self, scope: Scope | None) -> None:
        self._scope = _ENDED if scope is None else attrs.evolve(scope, is_open=True)

    def __enter__(self) -> None:
        self._token = _FRAME.set(Frame(self._scope, current_frame().depth))

    def __exit__(self, *_exception: object) -> None:
        if self._scope is not _ENDED:
            self._scope.close()
        leave_frame(self._token)


def _refuse_generators(frame: FrameType | None, name: str, what: str) -> None:
    # Whoever enters by way of an exit stack or a context manager of his own enters it himself.
    while (entering := _outside_contextlib(frame)) is not None:
        if not entering.f_code.co_flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
            return
        frame = entering.f_back
        driver = _package(frame)
        if driver in _TESTERS:
            return
        if driver != _CONTEXTLIB:
            message = (
                f"`{name}` in the generator `{entering.f_code.co_name}` would leak its {what} to whoever iterates "
                "it; enter it around the loop, or make the generator a `contextlib.contextmanager`"
            )
            raise ConfigurationError(message)


def _outside_contextlib(frame: FrameType | None) -> FrameType | None:
    while frame is not None and _package(frame) == _CONTEXTLIB:
        frame = frame.f_back
    return frame


def _package(frame: FrameType | None) -> str:
    return "" if frame is None else str(frame.f_globals.get("__name__", "")).partition(".")[0]
