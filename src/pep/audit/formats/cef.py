"""
Records as lines of the Common Event Format (ArcSight, version 0).

Imports what formats share.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import accumulate
from types import MappingProxyType
from typing import Any, Final

from pep.audit.formats.common import (
    KINDS,
    OUTCOMES,
    Fields,
    microseconds,
    plain_object,
    seconds_taken,
    severity,
    succeeded,
    summary,
    to_line,
    visible,
    word,
)
from pep.audit.record import SCHEMA
from pep.audit.severity import Severity

_UNKNOWN: Final = "unknown"
_SEVERITIES: Final = MappingProxyType(
    {None: 0, Severity.INFO: 1, Severity.NOTICE: 3, Severity.WARNING: 5, Severity.ERROR: 8},
)
_RESULTS: Final = MappingProxyType({True: "success", False: "failure", None: _UNKNOWN})
_STATUSES: Final = frozenset({"completed", "raised", "cancelled", "abandoned", "withheld"})
# Key → how many characters its value has at most; the dictionary of CEF. No other key has a limit.
_LENGTHS: Final = MappingProxyType(
    {
        "act": 63,
        "cat": 1023,
        "cs1": 4000,
        "cs2": 4000,
        "cs3": 4000,
        "cs4": 4000,
        "cs5": 4000,
        "cs6": 4000,
        "externalId": 40,
        "msg": 1023,
        "reason": 1023,
        "sourceServiceName": 1023,
        "suid": 1023,
    }
)
_CUT: Final = "..."
_BREAKS: Final = "\r\n"
_HEADER: Final = str.maketrans({"\\": "\\\\", "|": "\\|"})
_EXTENSION: Final = str.maketrans({"\\": "\\\\", "=": "\\=", "\r": "\\r", "\n": "\\n"})
# What must not be cut in two.
_UNIT: Final = re.compile(r"\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|\\u[0-9a-f]{4}|.", re.DOTALL)


def to_cef(record: Mapping[str, Any]) -> str:
    """
    Convert a record to a line of the Common Event Format.

    Args:
        record: A record of schema ``pep.audit/1`` as JSON values, of any kind. What CEF has no key
            for goes to ``pepRest`` as JSON, with what is damaged or unknown.

    Returns:
        One line without its newline, with nothing in it that steers a terminal. A value longer than
        CEF allows is cut, and stands whole in ``pepFull``.

    Source:
        ArcSight Common Event Format Implementation Standard, version 0 (revision 25).
    """
    told = plain_object(record)
    left = Fields(told)
    values = _values(told, left)
    shown = {key: _shortened(key, value) for key, value in values.items()}
    whole = {key: value for key, value in values.items() if shown[key] != visible(value, _BREAKS)}
    shown |= {key: to_line(value) for key, value in (("pepFull", whole), ("pepRest", left.rest())) if value}
    extension = " ".join([f"{key}={value.translate(_EXTENSION)}" for key, value in shown.items()])
    return "|".join([*_header(told), extension])


def _header(told: Mapping[str, Any]) -> list[str]:
    kind = word(told, "kind", KINDS) or _UNKNOWN
    ended = word(told, "outcome", OUTCOMES) or word(told, "status", _STATUSES)
    fields = ("pep", "pep", SCHEMA, f"{kind}:{ended}" if ended else kind, f"{kind} {ended}" if ended else kind)
    return ["CEF:0", *(field.translate(_HEADER) for field in fields), str(_SEVERITIES[severity(told)])]


def _values(told: Mapping[str, Any], left: Fields) -> dict[str, str]:
    """Take what CEF has keys for: key → value, without those that have none."""
    moment, seconds = microseconds(told), seconds_taken(told)
    subject, resource = left.inner("subject"), left.inner("resource")
    values = {
        "rt": None if moment is None else str(moment // 1000),
        "externalId": left.text("id"),
        "cat": left.text("kind", KINDS),
        "act": left.text("outcome", OUTCOMES) or left.text("status", _STATUSES),
        "outcome": _RESULTS[succeeded(told)],
        "reason": left.text("fault"),
        "suid": subject.text("id"),
        "sourceServiceName": left.text("enforcer"),
        **_custom("cs1", "action", left.text("action")),
        **_custom("cs2", "resourceType", resource.text("type")),
        **_custom("cs3", "resourceId", resource.text("id")),
        **_custom("cs4", "subjectType", subject.text("type")),
        **_custom("cs5", "policy", left.only("policies")),
        **_custom("cs6", "tenant", left.text("tenant")),
        **_custom("cfp1", "latencySeconds", None if seconds is None else f"{seconds:.9f}"),
        "msg": summary(told),
    }
    return {key: value for key, value in values.items() if value}


def _custom(key: str, label: str, value: str | None) -> dict[str, str]:
    return {f"{key}Label": label, key: value} if value else {}


def _shortened(key: str, value: str) -> str:
    """Show a value in at most as many characters as its key allows."""
    shown, most = visible(value, _BREAKS), _LENGTHS.get(key)
    if most is None or len(shown) <= most:
        return shown
    ends = accumulate(len(unit[0]) for unit in _UNIT.finditer(shown))
    return shown[: max((end for end in ends if end <= most - len(_CUT)), default=0)] + _CUT
