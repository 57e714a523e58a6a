"""
What the enforcement point concluded: outcomes, verdicts, and single-use grants.

Imports the error tree and the model only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, Final, NoReturn, Protocol

import attrs

from pep.errors import (
    AccessDenied,
    ConfirmationRequired,
    DecisionUnavailable,
    NotVisible,
    ObligationError,
    RateLimited,
    StepUpRequired,
)
from pep.fault import Fault
from pep.frozen import EMPTY, FrozenDict, fields_repr
from pep.model import AccessRequest, Decision, Obligation


class Outcome(Enum):
    """What the enforcement point concluded."""

    PERMITTED = "permitted"
    DENIED = "denied"
    CONFIRMATION_REQUIRED = "confirmation_required"
    STEP_UP_REQUIRED = "step_up_required"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    FAILED_OPEN = "failed_open"
    SHADOWED = "shadowed"

    # Members are one of a kind: by identity, without the call that `Enum` makes for it.
    __hash__ = object.__hash__


#: The outcomes under which protected code runs.
ALLOWING: Final = frozenset({Outcome.PERMITTED, Outcome.FAILED_OPEN, Outcome.SHADOWED})

_ERRORS: Final[Mapping[Outcome, type[AccessDenied]]] = {
    Outcome.DENIED: AccessDenied,
    Outcome.CONFIRMATION_REQUIRED: ConfirmationRequired,
    Outcome.STEP_UP_REQUIRED: StepUpRequired,
    Outcome.RATE_LIMITED: RateLimited,
    Outcome.UNAVAILABLE: DecisionUnavailable,
}


class Status(Enum):
    """What became of an obligation; each ends in exactly one."""

    DISCHARGED = "discharged"
    FAILED = "failed"
    UNSUPPORTED = "unsupported"
    NOT_REACHED = "not_reached"


@attrs.frozen(repr=False)
class Discharge:
    """
    One line of the obligations' ledger.

    Args:
        obligation: What was demanded.

        status: What became of it.

        before: Digest of the arguments it changed, as they were; None where it changed none, or they have no digest.

        after: Digest of the same arguments, as it left them.

        approval: Id of the approval that was used for it, or is waited for.
    """

    obligation: Obligation
    status: Status
    before: str | None = None
    after: str | None = None
    approval: str | None = None

    __repr__ = fields_repr


def _read_only(value: Mapping[str, Any]) -> Mapping[str, Any]:
    if not value:
        return EMPTY
    return value if type(value) is FrozenDict else MappingProxyType(dict(value))


@attrs.frozen(eq=False, getstate_setstate=False, repr=False)
class Verdict:
    """
    What the enforcement point concluded. It has no truth value: ask `allowed`.

    Attributes:
        id: Id of the audit record that holds it.

        outcome: The conclusion.

        request: The access request it rests on; None where the call could not be turned into one.

        decision: The decision it rests on, if there was one.

        fault: Why no usable decision was had, if that is why.

        obligations: What became of every obligation, in the order given.

        cached: Whether the decision had been had before.

        ran: Whether the protected code had run already.

        would: In shadow, what the outcome would have been.

        demands: What a caller must bring to be permitted: ``acr_values``, ``max_age``,
            ``retry_after`` in seconds, ``approval``.

        requests: Every access request that was decided together, this one among them.
    """

    id: str
    outcome: Outcome
    request: AccessRequest | None = None
    decision: Decision | None = None
    fault: Fault | None = None
    obligations: tuple[Discharge, ...] = ()
    cached: bool = False
    ran: bool = False
    would: Outcome | None = None
    demands: Mapping[str, Any] = attrs.field(default=EMPTY, converter=_read_only)
    requests: tuple[AccessRequest, ...] = ()
    hidden: bool = attrs.field(default=False, repr=False)
    cause: BaseException | None = attrs.field(default=None, repr=False)

    __repr__ = fields_repr

    @property
    def allowed(self) -> bool:
        """Whether the protected code may run: true exactly when `enforce` would return."""
        return self.outcome in ALLOWING

    def raise_if_denied(self) -> None:
        """
        Raise the error of this verdict's outcome, unless it is allowed.

        Raises:
            AccessDenied: Or the subclass that fits; `NotVisible`, without a cause, in hidden profiles.
        """
        if self.outcome in ALLOWING:
            return
        if self.hidden:
            raise NotVisible(self) from None
        raise _ERRORS[self.outcome](self) from self.cause

    def __bool__(self) -> NoReturn:
        message = "a verdict has no truth value; ask `verdict.allowed`"
        raise TypeError(message)

    def __reduce__(self) -> NoReturn:
        message = "a verdict does not leave its process; send `verdict.id` instead"
        raise TypeError(message)

    def __copy__(self) -> NoReturn:
        self.__reduce__()

    def __deepcopy__(self, _memo: object) -> NoReturn:
        self.__reduce__()


class Releasing(Protocol):
    """A block that lets results out."""

    def release(self, value: Any, /) -> Any:  # noqa: ANN401  whatever the code computed
        """Let a result out."""
        ...

    async def arelease(self, value: Any, /) -> Any:  # noqa: ANN401  whatever the code computed
        """Let a result out of an ``async with`` block."""
        ...


class Grant:
    """
    A single-use receipt for one permitted call.

    Bound by identity to the enforcer that gave it: copies and forgeries are worth nothing. It
    neither pickles nor copies, and ends with the process that holds it.
    """

    __slots__ = ("__weakref__", "_arguments", "_block", "_redeem", "_ticket", "_verdict")

    def __init__(
        self,
        verdict: Verdict | tuple[Any, ...],
        arguments: Mapping[str, Any],
        redeem: Callable[[Grant], None],
        ticket: list[Any] | None = None,
        block: Releasing | None = None,
    ) -> None:
        self._verdict = verdict
        self._arguments = arguments
        self._redeem = redeem
        #: What its enforcer takes out when it is spent: taking the only one is atomic.
        self._ticket = [] if ticket is None else ticket
        self._block = block

    @property
    def verdict(self) -> Verdict:
        """The verdict it is the receipt of."""
        verdict = self._verdict
        if type(verdict) is not Verdict:
            # A note of the hot path: see `pep.audit.noting`.
            verdict = self._verdict = verdict[0].verdict(verdict)  # type: ignore[index]
        return verdict

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments to run with, name → value; obligations may have changed them."""
        return self._arguments

    def use(self) -> None:
        """
        Spend the grant.

        Raises:
            AccessDenied: When it was spent, revoked or not given by an enforcer of this process.
        """
        self._redeem(self)

    def release(self, value: Any) -> Any:  # noqa: ANN401  whatever the code computed
        """
        Let a result out: discharge what the decision demands of it, and return what may be shown.

        Raises:
            AccessDenied: When an obligation failed, and the result is withheld.

            ObligationError: Outside a ``with enforcing(...)`` block.
        """
        if self._block is None:
            raise _no_release()
        return self._block.release(value)

    async def arelease(self, value: Any) -> Any:  # noqa: ANN401  whatever the code computed
        """Let a result out of an ``async with`` block; see `release`."""
        if self._block is None:
            raise _no_release()
        return await self._block.arelease(value)

    def __repr__(self) -> str:
        return f"<Grant of record {self.verdict.id}>"

    def __reduce__(self) -> NoReturn:
        message = "a grant is single-use and does not leave its process; ask again over there"
        raise TypeError(message)

    def __copy__(self) -> NoReturn:
        self.__reduce__()

    def __deepcopy__(self, _memo: object) -> NoReturn:
        self.__reduce__()


def _no_release() -> ObligationError:
    return ObligationError("there is nothing to release here; use `with enforcing(...)`")
