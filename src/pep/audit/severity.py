"""
How grave a record is, for sinks whose format has levels. Imports the record and verdicts only.

One table for all of them, so that a denial is the same level in the log, in syslog and in OTLP.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import Final

from pep.audit.record import Kind, Record
from pep.verdict import Outcome


class Severity(Enum):
    """How grave it is; the value is syslog's number (RFC 5424 §6.2.1)."""

    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6


#: Outcome → how grave a record of it is.
OF_OUTCOME: Final = MappingProxyType(
    {
        Outcome.PERMITTED.value: Severity.INFO,
        Outcome.DENIED.value: Severity.WARNING,
        Outcome.CONFIRMATION_REQUIRED.value: Severity.NOTICE,
        Outcome.STEP_UP_REQUIRED.value: Severity.NOTICE,
        Outcome.RATE_LIMITED.value: Severity.WARNING,
        Outcome.UNAVAILABLE.value: Severity.ERROR,
        Outcome.FAILED_OPEN.value: Severity.ERROR,
        Outcome.SHADOWED.value: Severity.WARNING,
    }
)

#: Kind → how grave a record of it is that has no outcome.
OF_KIND: Final = MappingProxyType(
    {
        Kind.DECISION.value: Severity.INFO,
        Kind.OUTCOME.value: Severity.INFO,
        Kind.CHECK.value: Severity.INFO,
        Kind.INVALIDATION.value: Severity.NOTICE,
        Kind.CONFIGURATION.value: Severity.NOTICE,
        Kind.GAP.value: Severity.ERROR,
        Kind.OPEN.value: Severity.INFO,
        Kind.CLOSE.value: Severity.INFO,
        Kind.APPROVAL.value: Severity.NOTICE,
    }
)


def severity_of(record: Record) -> Severity:
    """Tell how grave a record is: by its outcome, or where it has none that is known, by its kind."""
    outcome = record.fields.get("outcome")
    found = OF_OUTCOME.get(outcome) if type(outcome) is str else None
    return found or OF_KIND[record.kind.value]


def token(value: object) -> str | None:
    """Return a short word that is safe in any format, such as an outcome; None where it is none."""
    safe = type(value) is str and len(value) <= _LONGEST and value.isascii() and value.isprintable()
    return value if safe else None  # type: ignore[return-value]


_LONGEST: Final = 64
