"""
Syslog's wire format: RFC 5424 messages made of records. Imports the record and severities only.

Pure functions: what is sent where is not their business.
"""

from __future__ import annotations

import os
import re
from types import MappingProxyType
from typing import Any, Final

import attrs

from pep.audit.record import Record, masked
from pep.audit.severity import severity_of, token
from pep.errors import ConfigurationError

_NAMES: Final = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("ntp", "audit", "alert", "clock", *(f"local{number}" for number in range(8))),
)

#: Facility → its number (RFC 5424 §6.2.1).
FACILITIES: Final = MappingProxyType({name: number for number, name in enumerate(_NAMES)})

# What a header's field may consist of: PRINTUSASCII.
_PRINTABLE: Final = re.compile(r"[!-~]+")
_BOM: Final = b"\xef\xbb\xbf"
# The longest value of a parameter, in characters: structured data is an index, the message has it whole.
_LONGEST_VALUE: Final = 120
# Field of a record → the longest it can be in a short one, and be of no danger: those that are words.
_KEPT: Final = ("enforcer", "entry", "outcome", "allowed", "decision", "status", "ran", "fault", "effect")


@attrs.frozen
class Header:
    """
    What all messages of one sender have in common.

    Attributes:
        facility: Its number.

        hostname: This machine; what is not printable ASCII becomes ``?``.

        app_name: What sends.

        enterprise: The private enterprise number that structured data is named by; None sends none.
    """

    facility: int
    hostname: str
    app_name: str = attrs.field(validator=lambda _header, _field, name: _check_name(name))
    enterprise: int | None = attrs.field(validator=lambda _header, _field, number: _check_enterprise(number))

    def message(self, record: Record, number: int, longest: int) -> tuple[bytes, bool]:
        """
        Write one message.

        Args:
            record: The record.

            number: Which one it is, since the sender was made.

            longest: The longest message, in bytes.

        Returns:
            The message, and whether it holds a shorter record in place of this one.
        """
        pri = self.facility * 8 + severity_of(record).value
        told = record.to_dict()
        host = re.sub(r"[^!-~]", "?", self.hostname)[:255] or "-"
        start = f"<{pri}>1 {told['time']} {host} {self.app_name} {os.getpid()} {record.kind.value} "
        meta = f'[meta sequenceId="{number}"]'
        body = _marked(record.to_json())
        whole = f"{start}{meta}{self._data(told)} ".encode() + body
        if len(whole) <= longest:
            return whole, False
        return f"{start}{meta} ".encode() + _marked(shorter(record).to_json()), True

    def _data(self, told: dict[str, Any]) -> str:
        if self.enterprise is None:
            return ""
        pairs: list[tuple[str, object]] = [(name, told.get(name)) for name in ("kind", "id", "outcome", "action")]
        for name in ("subject", "resource"):
            entity = told.get(name)
            if isinstance(entity, dict):
                pairs += [(name, entity.get("id")), (f"{name}Type", entity.get("type"))]
        written = " ".join(f'{name}="{_escaped(value)}"' for name, value in pairs if type(value) is str)
        return f"[pep@{self.enterprise} {written}]"


def framed(message: bytes) -> bytes:
    """
    Put a message's length in front of it.

    Source:
        RFC 6587 §3.4.1 (octet counting).
    """
    return b"%d %b" % (len(message), message)


def shorter(record: Record) -> Record:
    """Return a record that stands for one too long to be sent: who it is about, it does not tell."""
    kept = {name: value for name in _KEPT if type(value := record.fields.get(name)) is bool or token(value) is not None}
    omitted = len(record.to_json())
    return Record(record.kind, token(record.id) or "", record.time, masked({**kept, "omitted": omitted}))


def _marked(line: bytes) -> bytes:
    """Mark what is not ASCII as UTF-8 (RFC 5424 §6.4)."""
    return line if line.isascii() else _BOM + line


def _escaped(value: str) -> str:
    """Write a parameter's value (RFC 5424 §6.3.3); what would steer a terminal is spelled out."""
    shown = "".join([char if char.isprintable() else f"\\u{ord(char):04x}" for char in value[:_LONGEST_VALUE]])
    return re.sub(r'(["\\\]])', r"\\\1", shown)


def _check_name(name: object) -> None:
    if type(name) is not str or len(name) > 48 or not _PRINTABLE.fullmatch(name):  # noqa: PLR2004  RFC 5424 §6
        message = "`app_name` must be 1 to 48 characters of printable ASCII, without spaces"
        raise ConfigurationError(message)


def _check_enterprise(number: object) -> None:
    if number is not None and (type(number) is not int or number < 1):
        message = "`enterprise` must be a private enterprise number as IANA gives them, such as 32473"
        raise ConfigurationError(message)
