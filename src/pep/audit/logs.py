"""A sink that writes to the standard library's `logging`. Imports L1, severities and turns only."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from pep.audit.record import Record, json_of, record_of
from pep.audit.severity import OF_KIND, OF_OUTCOME, Severity, severity_of, token
from pep.audit.turns import Turns, seconds
from pep.errors import AuditError, ConfigurationError
from pep.profile import Guarantee
from pep.profile_checks import nearest

_LEVELS: Final = {
    Severity.ERROR: logging.ERROR,
    Severity.WARNING: logging.WARNING,
    Severity.NOTICE: logging.INFO,
    Severity.INFO: logging.INFO,
}


class LoggingSink:
    """
    Logs each record's JSON as a message, at a level of its outcome.

    The message is one line of safe text whatever ids a caller chose, and takes part in no formatting: it
    has no arguments. Its log record has ``audit_id``, ``audit_kind`` and ``audit_outcome`` for filters and
    formatters; nothing that a caller chose is among them.

    A record that no handler would see is refused: the logger is off for its level, a filter of its own drops
    it, or there is no handler. What a *handler* does is out of sight, since handlers keep their failures to
    themselves; so no more than ``BUFFERED`` is promised. A handler that hangs, hangs its caller; others are refused.

    Args:
        logger: The logger, or its name.

        levels: Outcome or kind → level, such as ``{"denied": "ERROR"}``, where it is to differ from the usual:
            permits at INFO, denials at WARNING, faults, opened calls and gaps at ERROR.

        timeout: How long to wait while a handler is at work for another thread, in seconds.

    Raises:
        ConfigurationError: On a level or a word that is unknown, or something that is no logger.
    """

    guarantee = Guarantee.BUFFERED

    def __init__(
        self,
        logger: logging.Logger | str = "pep.audit",
        *,
        levels: Mapping[str, int | str] | None = None,
        timeout: float = 1.0,
    ) -> None:
        found: object = logging.getLogger(logger) if type(logger) is str else logger
        if not isinstance(found, logging.Logger):
            message = f"`{type(logger).__name__}` is no logger; pass one, or its name"
            raise ConfigurationError(message)
        self._logger = found
        self._levels = {_word(word): _level(level) for word, level in (levels or {}).items()}
        self._turns = Turns(seconds(timeout))
        self._closed = False

    def record(self, record: Record) -> None:
        """
        Log one record.

        Raises:
            AuditError: When no handler would see it, or the sink is closed.
        """
        self._log(record, record.to_json())

    def take(self, note: Record | tuple[object, ...]) -> None:
        """Log what a note of the hot path stands for; raises as `record` does."""
        self._log(record_of(note), json_of(note))

    def close(self) -> None:
        """Refuse later records; the handlers stay as they are, since they are the application's."""
        self._closed = True

    def __repr__(self) -> str:
        return f"LoggingSink({self._logger.name!r})"

    def _log(self, record: Record, line: bytes) -> None:
        # In turns, so that no child is forked while a handler holds what nobody there would ever release.
        with self._turns:
            if self._closed or self._turns.torn:
                message = f"the audit sink {'is closed' if self._closed else 'was in use when this process was forked'}"
                raise AuditError(message)
            self._handle(record, line)

    def _handle(self, record: Record, line: bytes) -> None:
        outcome = token(record.fields.get("outcome"))
        level = self._level_of(record, outcome)
        if not self._logger.isEnabledFor(level) or not self._logger.hasHandlers():
            self._refuse(f"is off for {logging.getLevelName(level)}, or has no handler; turn it on and give it one")
        extra = {"audit_id": token(record.id), "audit_kind": record.kind.value, "audit_outcome": outcome}
        logged = self._logger.makeRecord(
            self._logger.name, level, __file__, 0, line.decode(), (), None, "record", extra
        )
        passed: object = self._logger.filter(logged)
        if not passed:
            self._refuse("has a filter that drops audit records; take that away")
        # A filter may put another record in its place, since Python 3.12.
        self._logger.callHandlers(passed if isinstance(passed, logging.LogRecord) else logged)

    def _level_of(self, record: Record, outcome: str | None) -> int:
        for word in (outcome, record.kind.value):
            if word in self._levels:
                return self._levels[word]
        return _LEVELS[severity_of(record)]

    def _refuse(self, why: str) -> None:
        message = f"logger `{self._logger.name}` {why}"
        raise AuditError(message)


def _word(word: str) -> str:
    known = [*OF_OUTCOME, *OF_KIND]
    if word not in known:
        message = f"`{word}` is no outcome and no kind of record; {nearest(str(word), known)}"
        raise ConfigurationError(message)
    return word


def _level(level: int | str) -> int:
    found = logging.getLevelName(level) if type(level) is str else level
    if type(found) is not int or found <= logging.NOTSET:
        message = f"`{level}` is no level of `logging`; give its name or a number greater than 0"
        raise ConfigurationError(message)
    return found
