"""
What a record belongs to besides its call: an id the application gave, and a trace. Imports the frozen values only.

The trace is a claim like any other: it is told, never decided by.
"""

from __future__ import annotations

import re
import sys
from typing import Any, Final

import attrs

from pep.errors import ExtractionError
from pep.frozen import exact_text, fields_repr

#: How many characters a correlation id may have.
MAX_ID: Final = 256

_PARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?", re.ASCII | re.DOTALL)
_OPENTELEMETRY: Final = "opentelemetry.trace"


@attrs.frozen(repr=False)
class Trace:
    """
    One span of one trace.

    Args:
        trace_id: 32 lower-case hexadecimal digits, not all of them zero.

        span_id: 16 of them.

    Raises:
        ExtractionError: When it is none.

    Source:
        W3C Trace Context §3.2.2.
    """

    trace_id: str
    span_id: str

    __repr__ = fields_repr

    def __attrs_post_init__(self) -> None:
        _check(self.trace_id, 32)
        _check(self.span_id, 16)


@attrs.frozen(repr=False)
class Correlation:
    """
    What a record belongs to.

    Args:
        id: The application's, such as that of an HTTP request; at most 256 characters.

        trace: The span it happened in.

    Raises:
        ExtractionError: When the id is no such text.
    """

    id: str | None = None
    trace: Trace | None = None

    __repr__ = fields_repr

    def __attrs_post_init__(self) -> None:
        if self.id is not None and len(exact_text(self.id, what="a correlation id")) > MAX_ID:
            message = f"a correlation id may have at most {MAX_ID} characters; send a digest"
            raise ExtractionError(message)
        if self.trace is not None and type(self.trace) is not Trace:
            message = f"`trace` is a `{type(self.trace).__name__}`; give a `Trace`"
            raise ExtractionError(message)

    def fields(self) -> dict[str, Any]:
        """Return it as the fields of a record."""
        told: dict[str, Any] = {}
        if self.id is not None:
            told["correlation"] = self.id
        if self.trace is not None:
            told["trace"] = {"trace_id": self.trace.trace_id, "span_id": self.trace.span_id}
        return told


def from_traceparent(text: str, *, id: str | None = None) -> Correlation | None:  # noqa: A002  the term everywhere
    """
    Read a ``traceparent`` header; None where it is none and no id is given, as the standard wants it.

    Args:
        text: The header's value.

        id: The application's own id, to go with it.

    Source:
        W3C Trace Context §3.2, and §4.3 for versions to come.
    """
    match = _PARENT.fullmatch(text) if type(text) is str else None
    trace = None
    if match is not None and match[1] != "ff" and not (match[1] == "00" and match[4]):
        trace = _trace(match[2], match[3])
    return None if trace is None and id is None else Correlation(id, trace)


def current_span() -> Correlation | None:
    """Return the span of OpenTelemetry that runs now; None where there is none, or it is not loaded."""
    # Not imported here: whoever made a span has loaded it.
    api: Any = sys.modules.get(_OPENTELEMETRY)
    if api is None:
        return None
    span = api.get_current_span().get_span_context()
    trace = _trace(f"{span.trace_id:032x}", f"{span.span_id:016x}")
    return None if trace is None else Correlation(trace=trace)


def _trace(trace_id: str, span_id: str) -> Trace | None:
    try:
        return Trace(trace_id, span_id)
    except ExtractionError:
        return None


def _check(value: object, digits: int) -> None:
    # INVARIANT: an id of zeros alone says that there is none.
    if type(value) is str and re.fullmatch(rf"[0-9a-f]{{{digits}}}", value) and value.strip("0"):
        return
    message = f"a part of a trace is not {digits} lower-case hexadecimal digits, or zeros alone; leave the trace out"
    raise ExtractionError(message)
