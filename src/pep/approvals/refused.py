"""Why an approval was refused. Imports the error tree only."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

from pep.errors import ObligationError


class Reason(Enum):
    """Why an approval is worth nothing, or was not given."""

    UNKNOWN = "unknown"
    EXPIRED = "expired"
    OTHER = "other"
    PENDING = "pending"
    REJECTED = "rejected"
    USED = "used"
    CLOSED = "closed"
    TAMPERED = "tampered"
    UNAUTHENTICATED = "unauthenticated"
    REQUESTER = "requester"
    NOT_ALLOWED = "not_allowed"
    REPEATED = "repeated"
    CHANGED = "changed"


_SAID: Final = {
    Reason.UNKNOWN: "there is no such approval; it may have expired",
    Reason.EXPIRED: "the approval has expired; make the call without it, to ask again",
    Reason.OTHER: "the approval is for another request; make the call without it, to ask for this one",
    Reason.PENDING: "the approval is still waited for",
    Reason.REJECTED: "the request was rejected",
    Reason.USED: "the approval was used before; make the call without it, to ask again",
    Reason.CLOSED: "the approval was decided already",
    Reason.TAMPERED: "the stored approval was changed by somebody without the secret",
    Reason.UNAUTHENTICATED: "the approver is not authenticated",
    Reason.REQUESTER: "the approver asked for it, or acts for who did; somebody else has to approve",
    Reason.NOT_ALLOWED: "the approver may not approve this",
    Reason.REPEATED: "the approver has approved already; somebody else has to approve too",
    Reason.CHANGED: "the arguments changed while somebody was asked",
}


class ApprovalRefused(ObligationError):  # noqa: N818  an answer, as a denial is
    """
    An approval was worth nothing, or was not given.

    Attributes:
        reason: Why.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(_SAID[reason])
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason,)
