"""
Extension points: what users may bring, each a protocol of one or two methods.

Wherever a method returns a `Plan`, a plain value or an awaitable is accepted too. Imports the
model, plans and verdicts only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Flag, IntEnum, auto
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, runtime_checkable

import attrs

from pep.errors import ExtractionError, ObligationError
from pep.frozen import EMPTY, FrozenDict, fields_repr, freeze_mapping
from pep.model import AccessRequest, Action, Decision, Obligation, Resource, Subject
from pep.verdict import Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from pep.audit.record import Record
    from pep.exchange import HTTPReply, HTTPRequest
    from pep.found import Found
    from pep.plan import Eventual, Raised
    from pep.policy.partial import RowFilter
    from pep.profile import Guarantee


class Clock(Protocol):
    """Three readings of time, each for its own purpose."""

    def monotonic(self) -> float:
        """Return seconds that only run while the machine does; for deadlines."""
        ...

    def boottime(self) -> float:
        """Return seconds that include suspend where the platform has such a clock; for expiry."""
        ...

    def wall(self) -> float:
        """Return seconds since 1970 in UTC; for records."""
        ...


@runtime_checkable
class PDP(Protocol):
    """
    Who answers.

    It may also have ``name`` (a ``str``, what records call it), ``pure`` (a ``bool``: its answer depends
    on the request and the policy revision alone), ``immediate`` (a ``bool``: it answers from memory, so
    that it is asked in place and nobody waits for somebody else's question) and ``revision``; ``consistent`` (a
    ``bool``: the revision of its decisions is a consistency token, and one that names another than the newest is
    reused for nothing). ``probe()``, a plan, raises a `PDPError` while it is down; ``health()`` tells its state, name →
    JSON-like value, without asking anybody.
    """

    def decide(self, request: AccessRequest, /) -> Eventual[Decision] | Eventual[bool]:
        """Answer one access request with a `Decision`, or exactly ``True`` or ``False``."""
        ...


@runtime_checkable
class BatchPDP(PDP, Protocol):
    """A decision point that answers many requests at once."""

    def decide_many(self, requests: Sequence[AccessRequest], /) -> Eventual[Sequence[Decision | Raised]]:
        """Answer every request, in order, from one revision; `Raised` says that there is no answer to one of them."""
        ...


@runtime_checkable
class RowFilterPDP(PDP, Protocol):
    """A decision point that tells which resources of a type may be acted upon, before any is loaded."""

    def row_filter(
        self,
        subject: Subject,
        action: Action | str,
        resource_type: str,
        *,
        context: Mapping[str, Any],
        actors: Sequence[Subject],
        tenant: str | None,
    ) -> Eventual[RowFilter]:
        """Answer with `AllowAll`, `DenyAll` or a `Conditional`; all but the resource is as in an `AccessRequest`."""
        ...


@runtime_checkable
class SearchPDP(PDP, Protocol):
    """
    A decision point that finds what could be permitted; each hit is a candidate, and checked before it is relied on.

    Source:
        AuthZEN Authorization API 1.0 §8 (search).
    """

    def search(self, wanted: str, request: AccessRequest, /) -> Eventual[Found]:
        """
        Find the subjects, resources or actions that would complete a request.

        Args:
            wanted: ``"subject"``, ``"resource"`` or ``"action"``: of that part of the request only the type counts,
                of an action nothing.

            request: The others.
        """
        ...


@runtime_checkable
class Transport(Protocol):
    """What sends HTTP requests, in both worlds."""

    def send(self, request: HTTPRequest, /, *, timeout: float, awaiting: bool) -> HTTPReply | Awaitable[HTTPReply]:
        """
        Send one request, and return the whole reply, whatever its status.

        Args:
            request: What is sent.

            timeout: How long all of it may take together, in seconds.

            awaiting: Whether the caller is a task that awaits the reply; else it has to be there on return.

        Raises:
            PDPTimeout: When the time was over.

            PDPUnavailable: When there was no connection, or it broke.

            PDPInsecure: When the server could not prove who it is.

            PDPReplyError: When what came back is no reply, or over the caps.
        """
        ...


@runtime_checkable
class Sink(Protocol):
    """Where audit records go."""

    @property
    def guarantee(self) -> Guarantee:
        """The strongest guarantee it gives."""
        ...

    def record(self, record: Record, /) -> Eventual[None]:
        """Take one record; return once its guarantee holds, or raise."""
        ...


@runtime_checkable
class Observer(Protocol):
    """What turns audit records into telemetry; best-effort, never fails a call."""

    def observe(self, record: Record, /) -> None:
        """See one record after it was handed to the sink."""
        ...


@runtime_checkable
class AttributeProvider(Protocol):
    """
    What adds attributes that a call does not carry (a policy information point).

    It may also have ``ttl``: for how many seconds an answer may be reused.

    Source:
        NIST SP 800-162 §2; XACML 3.0 (PIP).
    """

    @property
    def provides(self) -> Collection[str]:
        """
        Names such as ``"subject.roles"``, ``"resource.owner"``, ``"context.risk"``.

        Values of these names that came with the call are removed first.
        """
        ...

    @property
    def types(self) -> Collection[str] | None:
        """The subject or resource types it is asked for; None is all of them."""
        ...

    def provide(self, request: AccessRequest, /) -> Eventual[Mapping[str, Any]]:
        """Return name → value for some or all of the names it provides."""
        ...


class Phase(Flag):
    """When an obligation is discharged."""

    BEFORE = auto()
    AFTER = auto()
    ON_DENIAL = auto()


class Rank(IntEnum):
    """In which order obligations of one phase are discharged."""

    VERIFY = 0
    MODIFY = 1
    COUNT = 2
    CONFIRM = 3
    FILTER = 4
    REDACT = 5
    NOTIFY = 6


@attrs.frozen(repr=False)
class Call:
    """
    A call as obligations see it.

    Args:
        request: The access request that was decided.

        arguments: The bound, effective arguments, name → value.

        result: What the protected code returned, in the *after* phase.

        phase: When this is.

        approval: The id of the approval that came with the call, for whoever asks for a confirmation.

        decision: The id of the decision's record.

        due: Every obligation that the same handler has to discharge on this call in this phase, each with its
            request: a call is confirmed as a whole.

        requests: Every access request of the call: that of an actor does not say for whom it acts.

        seals: Asked of the effective arguments last, just before the code runs; one that does not answer exactly
            ``True`` refuses the call. A handler adds its own.
    """

    request: AccessRequest
    arguments: Mapping[str, Any] = EMPTY
    result: Any = None
    phase: Phase = Phase.BEFORE
    approval: str | None = None
    decision: str | None = None
    due: tuple[tuple[Obligation, AccessRequest], ...] = ()
    requests: tuple[AccessRequest, ...] = ()
    seals: tuple[Callable[[Mapping[str, Any]], bool], ...] = ()

    __repr__ = fields_repr

    def with_arguments(self, **changes: Any) -> Call:  # noqa: ANN401  whatever the code takes
        """Return the call with some arguments replaced."""
        return self._with({**self.arguments, **changes}, self.result)

    def with_result(self, result: Any) -> Call:  # noqa: ANN401  whatever the code returned
        """Return the call with another result."""
        return self._with(self.arguments, result)

    def _with(self, arguments: Mapping[str, Any], result: Any) -> Call:  # noqa: ANN401  whatever the code returned
        # `attrs.evolve` costs more than many a handler.
        around = self.phase, self.approval, self.decision, self.due, self.requests, self.seals
        return Call(self.request, arguments, result, *around)


#: The outcomes a refusal may have.
REFUSALS: Final = (Outcome.STEP_UP_REQUIRED, Outcome.RATE_LIMITED, Outcome.CONFIRMATION_REQUIRED)


@attrs.frozen(init=False, repr=False)
class Refusal:
    """
    A permit whose condition is not met yet: the code does not run.

    Args:
        outcome: ``STEP_UP_REQUIRED``, ``RATE_LIMITED`` or ``CONFIRMATION_REQUIRED``.

        demands: What the caller must bring: ``acr_values``, a list; ``max_age`` and ``retry_after``,
            in seconds; ``approval``, an id.

    Raises:
        ObligationError: On another outcome, or a demand of the wrong type.
    """

    outcome: Outcome
    demands: FrozenDict

    __repr__ = fields_repr

    def __init__(self, outcome: Outcome, demands: Mapping[str, Any] = EMPTY) -> None:
        if outcome not in REFUSALS:
            message = f"a refusal's outcome is one of {', '.join(f'`{known.name}`' for known in REFUSALS)}"
            raise ObligationError(message)
        try:
            frozen = freeze_mapping(demands, what="a refusal's demands")
        except ExtractionError as error:
            raise ObligationError(str(error)) from None
        for name, check in _DEMANDS.items():
            if name in frozen and not check(frozen[name]):
                message = (
                    f"demand `{name}` is of the wrong type; `acr_values` is a list, times are seconds from zero on"
                )
                raise ObligationError(message)
        self.__attrs_init__(outcome, frozen)  # pyright: ignore[reportAttributeAccessIssue]


@runtime_checkable
class ObligationHandler(Protocol):
    """
    What discharges obligations.

    It may also have ``rank``, a `Rank`; without one it is ``MODIFY`` before the code and
    ``REDACT`` after it. ``when(obligation)`` names the phase of one obligation, where that varies;
    ``writes(obligation, call)`` the paths it writes, since two writers of one path fail; and
    ``best_effort``, a ``bool``, says that a failure of it blocks nothing.
    """

    @property
    def types(self) -> Collection[str]:
        """The obligation types it understands."""
        ...

    @property
    def phase(self) -> Phase:
        """When it acts; phases may be combined."""
        ...

    def discharge(
        self, obligation: Obligation, call: Call, /
    ) -> Eventual[Call] | Eventual[Refusal] | Eventual[Call | Refusal]:
        """Discharge one obligation and return the call, changed or not, or a `Refusal`; else raise."""
        ...


#: Turns those of a call's arguments that it names into one resource, or several that are decided together.
Extractor: TypeAlias = "Callable[..., Resource | Subject | Mapping[str, Any] | Iterable[Resource]]"


def _are_texts(value: object) -> bool:
    return type(value) is tuple and all(type(text) is str for text in value)


def _are_seconds(value: object) -> bool:
    return (type(value) is int or type(value) is float) and value >= 0


def _is_text(value: object) -> bool:
    return type(value) is str


_DEMANDS: Final[Mapping[str, Callable[[object], bool]]] = {
    "acr_values": _are_texts,
    "max_age": _are_seconds,
    "retry_after": _are_seconds,
    "approval": _is_text,
}
