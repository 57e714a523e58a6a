"""
Records as CloudEvents in their JSON format, with the extensions for tracing and correlation.

Imports what formats share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from pep.audit.formats.common import KINDS, Fields, microseconds, named, plain_object, rfc3339, to_line, visible, word

#: The version of the specification that is written.
VERSION: Final = "1.0"

_UNKNOWN: Final = "unknown"


def to_cloudevents(record: Mapping[str, Any]) -> dict[str, Any]:
    r"""
    Convert a record to a CloudEvent.

    Args:
        record: A record of schema ``pep.audit/1`` as JSON values, of any kind, however damaged.

    Returns:
        The event; its ``data`` is the whole record. Attributes show what is invisible or steers a
        terminal as ``\uXXXX``, since CloudEvents allow no control characters in them.

    Source:
        CloudEvents 1.0.2, https://github.com/cloudevents/spec
    """
    told = plain_object(record)
    asked = Fields(told)
    moment = microseconds(told)
    attributes = {
        "specversion": VERSION,
        "id": asked.text("id") or f"sha256:{hashlib.sha256(to_line(told).encode()).hexdigest()}",
        "source": f"/pep/{quote(asked.text('enforcer') or _UNKNOWN, safe='')}",
        "type": f"pep.audit.{word(told, 'kind', KINDS) or _UNKNOWN}",
        "subject": named(told.get("resource")),
        "time": None if moment is None else rfc3339(moment),
        "datacontenttype": "application/json",
        "traceparent": _traceparent(asked.inner("trace")),
        "correlationid": asked.text("correlation"),
    }
    return {name: visible(value) for name, value in attributes.items() if value} | {"data": told}


def _traceparent(trace: Fields) -> str | None:
    trace_id, span_id = trace.trace_id("trace_id"), trace.trace_id("span_id")
    # A record does not tell whether its trace is sampled.
    return f"00-{trace_id}-{span_id}-00" if trace_id and span_id else None
