"""
A sink that exports records as OpenTelemetry logs; needs the extra ``otlp``. Imports L1, severities and turns only.

The SDK and its exporter are imported when a sink is made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import orjson

from pep.audit.record import Record
from pep.audit.severity import Severity, severity_of
from pep.audit.turns import seconds
from pep.errors import AuditError, ConfigurationError
from pep.profile import Guarantee

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from requests import Response

# Severity → OpenTelemetry's number and text (logs data model, "SeverityNumber").
_LEVELS: Final = {
    Severity.ERROR: (17, "ERROR"),
    Severity.WARNING: (13, "WARN"),
    Severity.NOTICE: (10, "INFO2"),
    Severity.INFO: (9, "INFO"),
}
_SCALARS: Final = frozenset({str, bool, int, float})
_REDIRECTED: Final = range(300, 400)


class OTLPSink:
    """
    Exports each record as one OpenTelemetry log record, over OTLP/HTTP, and waits for the collector.

    The body is the record's JSON as it is. The attributes are its fields, flattened: ``pep.subject.id``. The event
    name is ``pep.<kind>``; trace and span are those the record tells. Nothing is batched, so that a record that
    the collector refused is refused here too, a partial success included; wrap the sink to buffer. The exporter
    tries again within the timeout, so that a record may arrive twice, with one id.

    Args:
        endpoint: Where to, with its path: ``"http://localhost:4318/v1/logs"``; None reads the variables of the
            OpenTelemetry SDK, such as ``OTEL_EXPORTER_OTLP_ENDPOINT``.

        headers: More HTTP headers: name → value.

        resource: Attributes of what sends, such as ``{"service.name": "shop"}``, beside those of the variables.

        guarantee: What the collector's acknowledgement stands for. Most keep what they took in memory:
            ``BUFFERED``. With a persistent queue it may be more.

        timeout: How long a record may take, in seconds; attempts and waiting together.

        exporter: An exporter of your own, such as one for gRPC, in place of endpoint, headers and timeout;
            it bounds its time itself, and is shut down with the sink.

    Raises:
        ConfigurationError: When an argument is of the wrong type, or the extra is missing.

    Source:
        OpenTelemetry logs data model; OTLP 1.x, "OTLP/HTTP Response".
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        resource: Mapping[str, str] | None = None,
        guarantee: Guarantee = Guarantee.BUFFERED,
        timeout: float = 2.0,
        exporter: LogRecordExporter | None = None,
    ) -> None:
        stated: object = guarantee
        if type(stated) is not Guarantee:
            message = "`guarantee` must be a `Guarantee`"
            raise ConfigurationError(message)
        self.guarantee = guarantee
        patience = seconds(timeout)
        self._exported, self._write = _written(dict(resource or {}))
        self._renew: Callable[[], Any] = partial(_exporter, endpoint, headers, patience)
        if exporter is not None:
            self._renew = lambda: exporter
        self._exporter: Any = self._renew()
        self._process = os.getpid()
        self._closed = False

    def record(self, record: Record) -> None:
        """
        Export one record.

        Raises:
            AuditError: When the collector did not take it in time, or the sink is closed.
        """
        if self._closed:
            message = "the audit sink is closed"
            raise AuditError(message)
        if self._process != os.getpid():
            # Its connections are the parent's.
            self._process, self._exporter = os.getpid(), self._renew()
        try:
            result = self._exporter.export([self._write(record)])
        except Exception as error:
            message = f"cannot export an audit record over OTLP: {type(error).__name__}"
            raise AuditError(message) from error
        if result is not self._exported:
            message = "cannot export an audit record over OTLP; the exporter's log says why"
            raise AuditError(message)

    def close(self) -> None:
        """Shut the exporter down; later records are refused."""
        if not self._closed:
            self._closed = True
            self._exporter.shutdown()

    def __repr__(self) -> str:
        return f"OTLPSink(guarantee={self.guarantee})"


def _written(attributes: dict[str, str]) -> tuple[Any, Callable[[Record], ReadableLogRecord]]:
    """Return what tells success, and what makes a log record."""
    try:
        from opentelemetry._logs import LogRecord, SeverityNumber  # noqa: PLC0415  brought by the extra
        from opentelemetry.sdk._logs import ReadableLogRecord  # noqa: PLC0415  the same
        from opentelemetry.sdk._logs.export import LogRecordExportResult  # noqa: PLC0415  the same
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  the same
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415  the same
    except ImportError as error:
        raise _missing() from error
    sender, scope = Resource.create({**attributes}), InstrumentationScope("pep.audit")

    def write(record: Record) -> ReadableLogRecord:
        number, text = _LEVELS[severity_of(record)]
        told = record.to_dict()
        nanoseconds = int(record.time * 1_000_000) * 1000
        log = LogRecord(
            timestamp=nanoseconds,
            observed_timestamp=nanoseconds,
            context=_context(told),
            severity_number=SeverityNumber(number),
            severity_text=text,
            body=record.to_json().decode(),
            attributes=dict(_flat(told, "pep")),
            event_name=f"pep.{record.kind.value}",
        )
        return ReadableLogRecord(log, sender, scope)

    return LogRecordExportResult.SUCCESS, write


def _exporter(endpoint: str | None, headers: Mapping[str, str] | None, timeout: float) -> LogRecordExporter:
    try:
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter  # noqa: PLC0415  by the extra
        from requests import Session  # noqa: PLC0415  the same
    except ImportError as error:
        raise _missing() from error
    session = Session()
    # The exporter takes any answer from 200 to 399 for a success, and reads none.
    session.hooks["response"].append(_acknowledged)
    return OTLPLogExporter(endpoint, headers=headers, timeout=timeout, session=session)


def _acknowledged(response: Response, *_args: Any, **_kwargs: Any) -> None:  # noqa: ANN401  a hook of requests
    """Refuse what is no acknowledgement of every log record, though it looks like success."""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse  # noqa: PLC0415  by the extra

    # Read to its end, so that the connection serves again whatever comes of it.
    content = response.content
    if response.status_code in _REDIRECTED:
        message = "the collector sent the record elsewhere"
        raise AuditError(message)
    if not response.ok:
        return
    # What is no collector's answer cannot be parsed, and raises.
    answer = ExportLogsServiceResponse.FromString(content)
    if answer.partial_success.rejected_log_records:
        message = "the collector rejected the record"
        raise AuditError(message)


def _context(told: Mapping[str, Any]) -> Context:
    """Return the context of the span that a record tells; where it tells none, of no span at all."""
    from opentelemetry.trace import (  # noqa: PLC0415  brought by the extra
        INVALID_SPAN,
        NonRecordingSpan,
        SpanContext,
        TraceFlags,
        set_span_in_context,
    )

    trace, span = _number(told.get("trace_id"), 32), _number(told.get("span_id"), 16)
    if not trace:
        return set_span_in_context(INVALID_SPAN)
    # Recorded or not is the trace's affair; that this was written, it was.
    return set_span_in_context(NonRecordingSpan(SpanContext(trace, span, False, TraceFlags(TraceFlags.SAMPLED))))  # noqa: FBT003


def _number(text: object, digits: int) -> int:
    try:
        return int(text, 16) if type(text) is str and len(text) == digits else 0
    except ValueError:
        return 0


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401  a JSON value
    """Flatten JSON values into attributes; what has no attribute's form is told as JSON."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}")
    elif value is not None:
        yield name, _attribute(value)


def _attribute(value: Any) -> Any:  # noqa: ANN401  a JSON value
    # An integer of a record always fits into 64 bits.
    plain = type(value) in _SCALARS or all(type(item) is str for item in value)
    return value if plain else orjson.dumps(value).decode()


def _missing() -> ConfigurationError:
    return ConfigurationError("an OTLP sink needs an extra; install `pep[otlp]`")
