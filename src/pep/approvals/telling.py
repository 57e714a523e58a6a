"""
How approvals are recorded: who was asked, who answered what, and who was refused.

Imports the journal, the record and the approvals' values only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pep.approvals.refused import Reason
from pep.approvals.values import Approval
from pep.audit.journal import Journal
from pep.audit.record import Kind
from pep.clock import SystemClock
from pep.errors import AuditError
from pep.model import Subject
from pep.plan import Plan
from pep.protocols import Clock, Sink

#: The kind of these records.
KIND: Final = Kind.APPROVAL


def journal_of(audit: Sink | Journal, name: str, clock: Clock | None) -> Journal:
    """Return what writes records: a journal as it is, or a new one over a sink."""
    return audit if isinstance(audit, Journal) else Journal(audit, clock or SystemClock(), name)


def told(
    journal: Journal,
    event: str,
    approval: Approval | str,
    *,
    names: Sequence[Subject] = (),
    reason: Reason | None = None,
    deadline: float | None = None,
) -> Plan[None]:
    """
    Record what happened to an approval.

    Args:
        journal: What writes it.

        event: ``requested``, ``approved``, ``rejected``, ``used`` or ``refused``.

        approval: The approval; its id where it could not be read.

        names: Who answered, the name to record first, then the others they go by.

        reason: Why it was refused.

        deadline: When that takes too long, on the monotonic clock, in seconds.

    Raises:
        AuditError: When it was not recorded.
    """
    fields = _fields(approval) | {"event": event}
    if names:
        fields["approver"] = _entity(names[0])
        fields["also"] = [_entity(name) for name in names[1:]] or None
    if reason is not None:
        fields["reason"] = reason.value
    error = yield from journal.write(journal.make(KIND, fields), deadline)
    if error is not None:
        message = f"what happened to an approval could not be recorded: {type(error).__name__}"
        raise AuditError(message) from error


def _fields(approval: Approval | str) -> dict[str, Any]:
    if type(approval) is not Approval:
        return {"approval": approval}
    request = approval.request
    return {
        "approval": approval.id,
        "version": approval.version,
        "state": approval.status.value,
        "subject": _entity(request.subject),
        "actors": [_entity(actor) for actor in request.actors] or None,
        "tenant": request.tenant,
        "action": request.action.name,
        "resource": _entity(request.resource),
        "digest": approval.digest,
        "lacking": sum(approval.lacking),
    }


def _entity(value: Any) -> Mapping[str, Any]:  # noqa: ANN401  a subject or a resource
    return {"type": value.type} if value.id is None else {"type": value.type, "id": value.id}
