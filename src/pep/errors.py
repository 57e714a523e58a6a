"""
The error tree. Imports nothing of the library.

    PEPError
    ├── AccessDenied                    the only one callers must catch
    │   ├── NotVisible                  as if the resource did not exist
    │   ├── ConfirmationRequired        somebody has to approve first
    │   ├── StepUpRequired              authentication was too weak
    │   ├── RateLimited                 a limit was reached
    │   └── DecisionUnavailable         no usable decision was had
    ├── ExtractionError
    ├── AttributeProviderError
    ├── ObligationError
    ├── AuditError
    │   └── PartlyRecordedError         one required sink has it, another has not
    ├── PublishError                    revoked here, perhaps not elsewhere
    ├── PDPError
    │   ├── PDPUnavailable
    │   │   ├── PDPTimeout
    │   │   └── PDPOverloaded
    │   ├── PDPRejected
    │   ├── PDPInsecure
    │   └── PDPReplyError
    │       └── PDPMismatched           a batch short, long or reordered
    └── ConfigurationError
    GuardWarning                        a warning: guarded, but easily undone
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pep.fault import Fault
    from pep.verdict import Outcome, Verdict


class PEPError(Exception):
    """Something in the enforcement of a call went wrong."""


class AccessDenied(PEPError):
    """
    The call was not permitted, and did not run.

    Not a builtin ``PermissionError``: that is an ``OSError``, and gets swallowed as one.

    Attributes:
        record: Id of the audit record that holds the details; the message names nothing else.

        outcome: What the enforcement point concluded.

        fault: Why no usable decision was had, if that is why.

        ran: Whether the protected code had run already; its result was withheld.
    """

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"access denied (record {verdict.id})")
        self._verdict: Verdict | None = verdict
        self.record: str = verdict.id
        self.outcome: Outcome = verdict.outcome
        self.fault: Fault | None = verdict.fault
        self.ran: bool = verdict.ran

    @property
    def verdict(self) -> Verdict:
        """
        The verdict that refused the call.

        Raises:
            AttributeError: After pickling; the verdict stays in its process, `record` names it.
        """
        if self._verdict is None:
            message = "the verdict stayed in the process that gave it; look up `record` in the audit log"
            raise AttributeError(message)
        return self._verdict

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: value for name, value in vars(self).items() if name != "_verdict"}
        return _unpickled, (type(self), self.args, state)


class NotVisible(AccessDenied):
    """
    The resource was not shown to the caller: it looked as if it did not exist (HTTP 404).

    Its outcome is always a denial without a fault, so that missing and forbidden look alike; the record tells them
    apart.
    """

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict)
        self.outcome = type(verdict.outcome)["DENIED"]
        self.fault = None


class ConfirmationRequired(AccessDenied):
    """
    Somebody had to approve the call first (HTTP 428).

    Attributes:
        approval: Id of the pending approval, if one was stored.
    """

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict)
        self.approval: str | None = verdict.demands.get("approval")


class StepUpRequired(AccessDenied):
    """
    The subject's authentication was too weak or too old (HTTP 401, RFC 9470).

    Attributes:
        acr_values: Authentication context classes that would do, preferred first.

        max_age: Greatest age of the authentication, in seconds.
    """

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict)
        self.acr_values: tuple[str, ...] = tuple(verdict.demands.get("acr_values", ()))
        self.max_age: float | None = verdict.demands.get("max_age")


class RateLimited(AccessDenied):
    """
    A limit was reached (HTTP 429).

    Attributes:
        retry_after: Seconds until another attempt is worth making; at least one.
    """

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict)
        self.retry_after: float = max(1.0, float(verdict.demands.get("retry_after", 1.0)))


class DecisionUnavailable(AccessDenied):
    """No usable decision was had, and the action was closed (HTTP 503)."""


class ExtractionError(PEPError):
    """A call or a value could not be turned into an access request."""


class AttributeProviderError(PEPError):
    """An attribute provider could not answer."""


class ObligationError(PEPError):
    """An obligation could not be discharged, or was left undischarged."""


class AuditError(PEPError):
    """An audit record could not be written as promised, or read back."""


class PartlyRecordedError(AuditError):
    """
    A required sink did not take a record that another one had taken before.

    What that one holds is a decision of a call that did not run.

    Attributes:
        taken: How many required sinks had taken it.
    """

    def __init__(self, message: str, taken: int = 1) -> None:
        super().__init__(message)
        self.taken = taken

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.taken)


class PublishError(PEPError):
    """An invalidation holds in this process, but it is not known that the others heard of it."""


class PDPError(PEPError):
    """A policy decision point gave no usable decision."""


class PDPUnavailable(PDPError):
    """The policy decision point could not be reached."""


class PDPTimeout(PDPUnavailable):
    """The policy decision point did not answer in time."""


class PDPOverloaded(PDPUnavailable):
    """
    The policy decision point, or what shields it, refused for load.

    Attributes:
        retry_after: In how many seconds it asked to be tried again, if it did.
    """

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        return _overloaded, (type(self), self.args[0], self.retry_after)


class PDPRejected(PDPError):
    """The policy decision point refused this enforcement point itself."""


class PDPInsecure(PDPError):
    """The policy decision point could not prove who it is, or the connection to it was not what was asked for."""


class PDPReplyError(PDPError):
    """The policy decision point's answer was not a decision."""


class PDPMismatched(PDPReplyError):
    """A batch was answered with more, fewer or other decisions than were asked for."""


class ConfigurationError(PEPError):
    """The library was wired wrongly; raised where that was written, never by a guarded call."""


class GuardWarning(UserWarning):
    """A guard was placed where something around it undoes it."""


def _overloaded(kind: type[PDPOverloaded], message: str, retry_after: float | None) -> PDPOverloaded:
    return kind(message, retry_after=retry_after)


def _unpickled(kind: type[AccessDenied], args: tuple[Any, ...], state: dict[str, Any]) -> AccessDenied:
    """Rebuild a denial in another process, where its verdict is not."""
    error = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(state, _verdict=None)
    return error
