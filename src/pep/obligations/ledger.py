"""
The obligations' ledger: every obligation of a decision ends in exactly one status.

Imports L0 and the protocols only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import attrs

from pep.errors import ConfigurationError, ObligationError
from pep.model import AccessRequest, Obligation
from pep.plan import Plan, Raised, attempt
from pep.protocols import Call, ObligationHandler, Phase, Rank, Refusal
from pep.verdict import Discharge, Status

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

    @property
    def confirmed(self) -> bool:
        """Whether it was a confirmation, and somebody confirmed."""
        return self.rank is Rank.CONFIRM and self.status is Status.DISCHARGED

    @property
    def unmet(self) -> bool:
        """Whether it stands in the way of a permit for good."""
        return self.refusal is None and self.status in {Status.FAILED, Status.UNSUPPORTED}

    def told(self) -> Discharge:
        """Return its line for the verdict and the record."""
        return Discharge(self.obligation, self.status)


class _Declared(NamedTuple):
    """A handler, with what it declared taken once: a rank or phase that changes later would lose a duty."""

    handler: ObligationHandler
    phase: Phase
    rank: Rank | None

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
        phase = next((phase for phase in phases if phase & declared.phase), None)
        status = Status.UNSUPPORTED if phase is None else Status.NOT_REACHED
        return Duty(obligation, request, declared.handler, phase, declared.ranked(phase), status)


def discharge(
    duties: Sequence[Duty], ranks: frozenset[Rank], call: Call, deadline: float | None, *, modifiable: bool
) -> Plan[Call]:
    """
    Discharge the duties of one phase by rank; one that fails does not keep the others from running.

    Args:
        duties: The whole ledger; each duty that is due gets its status here.

        ranks: Which ranks are due.

        call: The call as the first of them sees it, in its phase.

        deadline: When an answer is too late, on the monotonic clock, in seconds.

        modifiable: Whether they may change the arguments.

    Returns:
        The call as the last of them left it.
    """
    due = sorted((duty for duty in duties if duty.phase is call.phase and duty.rank in ranks), key=lambda d: d.rank)
    for duty in due:
        spoiled = call.phase is Phase.BEFORE and any(other.unmet or other.refusal for other in duties)
        if duty.handler is None or (spoiled and duty.rank in _CONSUMING):
            continue
        # A view: arguments change by way of the call that is returned, or not at all.
        seen = attrs.evolve(call, request=duty.request, arguments=MappingProxyType(dict(call.arguments)))
        left = yield from _discharge_one(duty, duty.handler, seen, deadline)
        if left.arguments is seen.arguments:
            left = attrs.evolve(left, arguments=call.arguments)
        elif not (modifiable and _same_names(left.arguments, call.arguments)):
            duty.status, duty.error = Status.FAILED, ObligationError("the arguments cannot be changed like that here")
            continue
        call = attrs.evolve(left, request=call.request, phase=call.phase)
    return call


def _declared(name: str, handler: ObligationHandler) -> _Declared:
    phase, rank = handler.phase, getattr(handler, "rank", None)
    if type(phase) is not Phase or not phase:
        message = f"`{name}.phase` must be a `Phase`, such as `Phase.BEFORE`, not `{type(phase).__name__}`"
        raise ConfigurationError(message)
    if rank is not None and type(rank) is not Rank:
        message = f"`{name}.rank` must be a `Rank`, such as `Rank.MODIFY`, not `{type(rank).__name__}`"
        raise ConfigurationError(message)
    return _Declared(handler, phase, rank)


def _types(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, Collection) and not isinstance(value, str):
        kinds = tuple(value)
        if kinds and all(type(kind) is str and kind for kind in kinds):
            return kinds
    message = f"`{name}.types` must be a set of obligation types, such as `{{'redact'}}`"
    raise ConfigurationError(message)


def _same_names(changed: object, before: Mapping[str, Any]) -> bool:
    return isinstance(changed, Mapping) and changed.keys() == before.keys()


def _discharge_one(duty: Duty, handler: ObligationHandler, call: Call, deadline: float | None) -> Plan[Call]:
    reply = yield from attempt(handler.discharge, duty.obligation, call, deadline=deadline)
    duty.status = Status.FAILED
    if type(reply) is Raised:
        duty.error = reply.error
        return call
    answer = reply.value
    if type(answer) is Call:
        duty.status = Status.DISCHARGED
        return answer
    if type(answer) is Refusal:
        duty.refusal = answer
    else:
        message = f"the handler of `{duty.obligation.type}` must return the call it was given, changed or not"
        duty.error = ObligationError(message)
    return call
