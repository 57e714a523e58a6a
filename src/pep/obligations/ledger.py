"""
The obligations' ledger: every obligation of a decision ends in exactly one status.

Imports L0, digests, the protocols and paths only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import attrs

from pep.asynchronous import is_asynchronous
from pep.canonical import digest
from pep.errors import ConfigurationError, ExtractionError, ObligationError
from pep.model import AccessRequest, Obligation
from pep.plan import Plan, Raised, attempt
from pep.protocols import Call, ObligationHandler, Phase, Rank, Refusal
from pep.verdict import Discharge, Status

if TYPE_CHECKING:
    from pep.obligations.paths import Path

# Counting and confirming consume something, so they only run while the call would be permitted.
_CONSUMING: Final = frozenset({Rank.COUNT, Rank.CONFIRM})


@attrs.define(eq=False, repr=False)
class Duty:
    """One obligation of one decision, and what became of it."""

    obligation: Obligation
    request: AccessRequest
    handler: ObligationHandler | None
    #: When it is discharged; None when nobody can.
    phase: Phase | None
    #: Where it stands in the order of its phase.
    rank: Rank
    status: Status = Status.NOT_REACHED
    refusal: Refusal | None = None
    error: Exception | None = None
    #: Whether its handler declared that the call may go on where it could not be discharged.
    best_effort: bool = False
    #: Digests of the arguments it changed, before and after; None where it changed none, or they have no digest.
    before: str | None = None
    after: str | None = None
    #: The approval that was used for it, or is waited for.
    approval: str | None = None
    #: Whether it is known that no other writes what it writes.
    alone: bool = False
    #: Whether it failed before its handler ran, and must not run.
    barred: bool = False

    @property
    def confirmed(self) -> bool:
        """Whether it was a confirmation, and somebody confirmed."""
        return self.rank is Rank.CONFIRM and self.status is Status.DISCHARGED

    def bar(self, error: Exception) -> None:
        """Fail it before its handler ever runs."""
        self.status, self.error, self.barred = Status.FAILED, error, True

    @property
    def excused(self) -> bool:
        """Whether it failed, and the call may go on: best-effort, and understood, but it did not come off."""
        return self.best_effort and self.status is Status.FAILED and not isinstance(self.error, ObligationError)

    @property
    def unmet(self) -> bool:
        """Whether it stands in the way of a permit for good."""
        return self.refusal is None and self.status in {Status.FAILED, Status.UNSUPPORTED} and not self.excused

    @property
    def spent(self) -> bool:
        """Whether discharging it consumed something."""
        return self.rank in _CONSUMING and self.status is Status.DISCHARGED

    def holds(self, arguments: Mapping[str, Any], now: float) -> bool:
        """Tell whether what was discharged still holds, where its handler can tell; in seconds since 1970."""
        still: Callable[[Obligation, Call, float], object] | None = getattr(self.handler, "holds", None)
        if still is None or self.status is not Status.DISCHARGED:
            return True
        try:
            return still(self.obligation, Call(self.request, arguments), now) is True
        except Exception:  # noqa: BLE001  whatever a handler raises closes
            return False

    def told(self) -> Discharge:
        """Return its line for the verdict and the record."""
        return Discharge(self.obligation, self.status, self.before, self.after, self.approval)


class _Declared(NamedTuple):
    """A handler, with what it declared taken once: a rank or phase that changes later would lose a duty."""

    handler: ObligationHandler
    phase: Phase
    rank: Rank | None
    best_effort: bool

    def ranked(self, phase: Phase | None) -> Rank:
        fallback = Rank.REDACT if phase is Phase.AFTER else Rank.MODIFY
        return fallback if self.rank is None else self.rank


class Handlers:
    """
    The handlers by the obligation types they understand.

    Raises:
        ConfigurationError: When two understand one type, or something is no handler.
    """

    def __init__(self, handlers: Iterable[ObligationHandler] = ()) -> None:
        self._handlers: list[ObligationHandler] = []
        self._by_type: dict[str, _Declared] = {}
        for handler in handlers:
            self._add(handler)

    def _add(self, handler: ObligationHandler) -> None:
        name = type(handler).__name__
        if isinstance(handler, type) or not isinstance(handler, ObligationHandler):
            message = f"`{name}` is no obligation handler; it needs `types`, `phase` and `discharge(obligation, call)`"
            raise ConfigurationError(message)
        declared, kinds = _declared(name, handler), _types(name, handler.types)
        for kind in kinds:
            if kind in self._by_type:
                other = type(self._by_type[kind].handler).__name__
                message = f"`{other}` and `{name}` both understand obligation `{kind}`; keep one"
                raise ConfigurationError(message)
            self._by_type[kind] = declared
        self._handlers.append(handler)

    def __iter__(self) -> Iterator[ObligationHandler]:
        return iter(self._handlers)

    def open(self, obligations: Iterable[Obligation], request: AccessRequest, phases: Sequence[Phase]) -> list[Duty]:
        """
        Open the ledger of one decision.

        Args:
            obligations: What the decision demands; duplicates do not collapse.

            request: What was decided.

            phases: The phases this call has, the preferred one first.

        Returns:
            A duty for each; unsupported where no handler understands it in these phases.
        """
        return [self._duty(obligation, request, phases) for obligation in obligations]

    def _duty(self, obligation: Obligation, request: AccessRequest, phases: Sequence[Phase]) -> Duty:
        declared = self._by_type.get(obligation.type)
        if declared is None:
            return Duty(obligation, request, None, None, Rank.MODIFY, Status.UNSUPPORTED)
        due, error = _due(declared, obligation)
        phase = next((phase for phase in phases if phase & due), None)
        status = Status.UNSUPPORTED if phase is None else Status.NOT_REACHED
        duty = Duty(obligation, request, declared.handler, phase, declared.ranked(phase), status)
        duty.best_effort = declared.best_effort
        if error is not None:
            duty.bar(error)
        return duty


def discharge(
    duties: Sequence[Duty], ranks: frozenset[Rank], call: Call, deadline: float | None, *, modifiable: bool
) -> Plan[Call]:
    """
    Discharge the duties of one phase by rank; one that fails does not keep the others from running.

    Two that write one path both fail, before either runs: what the call came to would hang on their order.

    Args:
        duties: The whole ledger; each duty that is due gets its status here.

        ranks: Which ranks are due.

        call: The call as the first of them sees it, in its phase.

        deadline: When an answer is too late, on the monotonic clock, in seconds.

        modifiable: Whether they may change the arguments.

    Returns:
        The call as the last of them left it.
    """
    yield from _part_writers(duties, call, deadline)
    # Also what was discharged before: a generator's results are released one by one.
    here = [duty for duty in duties if duty.phase is call.phase and duty.rank in ranks and not duty.barred]
    for duty in sorted(here, key=lambda duty: duty.rank):
        spoiled = call.phase is Phase.BEFORE and any(other.unmet or other.refusal for other in duties)
        if duty.handler is None or (call.phase is Phase.BEFORE and duty.spent) or (spoiled and duty.rank in _CONSUMING):
            continue
        # A view: arguments change by way of the call that is returned, or not at all.
        shared = tuple([(other.obligation, other.request) for other in here if other.handler is duty.handler])
        seen = attrs.evolve(call, request=duty.request, due=shared, arguments=MappingProxyType(dict(call.arguments)))
        left = yield from _discharge_one(duty, duty.handler, seen, deadline)
        if left.arguments is seen.arguments:
            left = attrs.evolve(left, arguments=call.arguments)
        elif modifiable and _same_names(left.arguments, call.arguments):
            _note_change(duty, call.arguments, left.arguments)
        else:
            duty.status, duty.error = Status.FAILED, ObligationError("the arguments cannot be changed like that here")
            continue
        call = attrs.evolve(left, request=call.request, phase=call.phase, due=())
    return call


def recount(changed: Sequence[Duty], duties: list[Duty]) -> None:
    """
    Tell what changed the arguments before a call was decided again, with what the second decision demands.

    Args:
        changed: The duties that changed something, of the first ledger.

        duties: The second ledger; what it demands as well is told once, with both changes as one.
    """
    for earlier in changed:
        same = next(
            (duty for duty in duties if (duty.obligation, duty.handler) == (earlier.obligation, earlier.handler)), None
        )
        if same is None:
            duties.append(earlier)
        else:
            same.before, same.after = earlier.before, same.after or earlier.after


def carry_over(spent: list[Duty], duties: Sequence[Duty]) -> None:
    """
    Take what one call consumed already for discharged: deciding again must not consume it twice.

    Args:
        spent: What was consumed, by earlier decisions of the same call; what is carried over is taken out.

        duties: The ledger of the decision that is made now.
    """
    for duty in duties:
        wanted = duty.obligation, duty.request, duty.phase
        alike = (earlier for earlier in spent if (earlier.obligation, earlier.request, earlier.phase) == wanted)
        if (same := next(alike, None)) is not None:
            duty.status = Status.DISCHARGED
            spent.remove(same)


def _declared(name: str, handler: ObligationHandler) -> _Declared:
    phase, rank = handler.phase, getattr(handler, "rank", None)
    if type(phase) is not Phase or not phase:
        message = f"`{name}.phase` must be a `Phase`, such as `Phase.BEFORE`, not `{type(phase).__name__}`"
        raise ConfigurationError(message)
    if rank is not None and type(rank) is not Rank:
        message = f"`{name}.rank` must be a `Rank`, such as `Rank.MODIFY`, not `{type(rank).__name__}`"
        raise ConfigurationError(message)
    best_effort = getattr(handler, "best_effort", False)
    if type(best_effort) is not bool:
        message = f"`{name}.best_effort` must be `True` or `False`, not `{type(best_effort).__name__}`"
        raise ConfigurationError(message)
    _check_capabilities(name, handler)
    return _Declared(handler, phase, rank, best_effort)


def _check_capabilities(name: str, handler: ObligationHandler) -> None:
    when, writes = getattr(handler, "when", None), getattr(handler, "writes", None)
    if when is not None and (not callable(when) or is_asynchronous(when)):
        message = f"`{name}.when` must be a plain method of an obligation, which returns a `Phase`"
        raise ConfigurationError(message)
    if writes is not None and not callable(writes):
        message = f"`{name}.writes` must be a method of an obligation and a call, which names paths"
        raise ConfigurationError(message)


def _types(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, Collection) and not isinstance(value, str):
        kinds = tuple(value)
        if kinds and all(type(kind) is str and kind for kind in kinds):
            return kinds
    message = f"`{name}.types` must be a set of obligation types, such as `{{'redact'}}`"
    raise ConfigurationError(message)


def _same_names(changed: object, before: Mapping[str, Any]) -> bool:
    return isinstance(changed, Mapping) and changed.keys() == before.keys()


def _due(declared: _Declared, obligation: Obligation) -> tuple[Phase, Exception | None]:
    """Tell when one obligation is due, and what is wrong with it where its handler cannot tell."""
    when: Callable[[Obligation], Phase] | None = getattr(declared.handler, "when", None)
    if when is None:
        return declared.phase, None
    try:
        due: object = when(obligation)
    except Exception as error:  # noqa: BLE001  a handler may raise anything: malformed
        return declared.phase, error
    if type(due) is Phase and due and due in declared.phase:
        return due, None
    return declared.phase, ObligationError(f"the handler of `{obligation.type}` must say when, within its phases")


def _part_writers(duties: Sequence[Duty], call: Call, deadline: float | None) -> Plan[None]:
    """Fail those that write what another writes."""
    waiting = [duty for duty in duties if duty.phase is call.phase and not (duty.alone or duty.barred)]
    writers = [duty for duty in waiting if getattr(duty.handler, "writes", None) is not None]
    written: list[tuple[Duty, tuple[Path, ...]]] = []
    for duty in writers if len(writers) > 1 else ():
        seen = attrs.evolve(call, request=duty.request, arguments=MappingProxyType(dict(call.arguments)))
        paths = yield from _written(duty, seen, deadline)
        written.append((duty, paths))
    for (one, mine), (other, theirs) in combinations(written, 2):
        if any(path.overlaps(another) for path in mine for another in theirs):
            for duty in (one, other):
                message = f"obligation `{duty.obligation.type}` writes what another one writes; keep one"
                duty.bar(ObligationError(message))
    for duty in writers:
        duty.alone = True


def _written(duty: Duty, call: Call, deadline: float | None) -> Plan[tuple[Path, ...]]:
    handler: Any = duty.handler
    reply = yield from attempt(handler.writes, duty.obligation, call, deadline=deadline)
    if type(reply) is Raised:
        duty.bar(reply.error)
        return ()
    from pep.obligations.paths import Path  # noqa: PLC0415  only who has writers pays for it

    if isinstance(reply.value, Collection) and all(type(path) is Path for path in reply.value):
        return tuple(reply.value)
    message = f"the handler of `{duty.obligation.type}` must name what it writes as a collection of `Path`"
    duty.bar(ObligationError(message))
    return ()


def _note_change(duty: Duty, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Note what was changed by digest, never by value."""
    changed = [name for name in before if before[name] is not after[name]]
    duty.before, duty.after = _digest(before, changed), _digest(after, changed)


def _digest(arguments: Mapping[str, Any], names: Sequence[str]) -> str | None:
    try:
        return digest({name: arguments[name] for name in names}) if names else None
    except ExtractionError:
        return None


def _discharge_one(duty: Duty, handler: ObligationHandler, call: Call, deadline: float | None) -> Plan[Call]:
    reply = yield from attempt(handler.discharge, duty.obligation, call, deadline=deadline)
    duty.status = Status.FAILED
    if type(reply) is Raised:
        duty.error = reply.error
        return call
    answer = reply.value
    if type(answer) is Call:
        duty.status = Status.DISCHARGED
        if duty.confirmed:
            duty.approval = answer.approval
        return answer
    if type(answer) is Refusal:
        duty.refusal, duty.approval = answer, answer.demands.get("approval")
    else:
        message = f"the handler of `{duty.obligation.type}` must return the call it was given, changed or not"
        duty.error = ObligationError(message)
    return call
