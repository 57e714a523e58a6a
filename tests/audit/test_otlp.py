from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, LogRecordExportResult

from pep import Enforcer, Guarantee, Outcome, Resource, Subject
from pep.audit import Kind, Record
from pep.audit.otlp import OTLPSink
from pep.errors import AccessDenied, AuditError, ConfigurationError
from pep.testing import permit_all
from tests.audit.backends import Collector, collector

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def record(kind: Kind = Kind.DECISION, **fields: Any) -> Record:
    return Record(kind, "0190-id", 1.5, fields)


@pytest.fixture
def receiver() -> Iterator[Collector]:
    with collector() as made:
        yield made


def attributes(log: Any) -> dict[str, Any]:
    return {pair.key: plain(pair.value) for pair in log.attributes}


def plain(value: Any) -> Any:
    name = value.WhichOneof("value")
    if name == "array_value":
        return [plain(item) for item in value.array_value.values]
    return getattr(value, name)


def test_a_record_is_a_log_record(receiver: Collector) -> None:
    """Body, attributes, severity, event name, times, span and sender arrive as the data model has them."""
    sink = OTLPSink(receiver.endpoint, headers={"x-tenant": "blue"}, resource={"service.name": "shop"})
    told = {
        "outcome": "denied",
        "allowed": False,
        "subject": {"type": "user", "id": "\x00é", "properties": ["roles", "age"]},
        "policies": [],
        "age": 0.5,
        "trace_id": TRACE,
        "span_id": SPAN,
        "obligations": [{"type": "mask"}],
        "big": 2**63 - 1,
    }
    given_record = record(**told)
    sink.record(given_record)
    ((headers, message),) = receiver.requests
    (log,) = receiver.logs
    assert log.body.string_value.encode() == given_record.to_json()
    assert attributes(log) == {
        "pep.schema": "pep.audit/1",
        "pep.kind": "decision",
        "pep.id": "0190-id",
        "pep.time": "1970-01-01T00:00:01.500000Z",
        "pep.outcome": "denied",
        "pep.allowed": False,
        "pep.subject.type": "user",
        "pep.subject.id": "\x00é",
        "pep.subject.properties": ["roles", "age"],
        "pep.policies": [],
        "pep.age": 0.5,
        "pep.trace_id": TRACE,
        "pep.span_id": SPAN,
        "pep.obligations": '[{"type":"mask"}]',
        "pep.big": 2**63 - 1,
    }
    assert (log.severity_number, log.severity_text, log.event_name) == (13, "WARN", "pep.decision")
    assert log.time_unix_nano == log.observed_time_unix_nano == 1_500_000_000
    assert (log.trace_id.hex(), log.span_id.hex(), log.flags) == (TRACE, SPAN, 1)
    (sender,) = message.resource_logs
    assert attributes(sender.resource)["service.name"] == "shop"
    assert sender.scope_logs[0].scope.name == "pep.audit"
    assert headers["x-tenant"] == "blue"
    assert headers["content-type"] == "application/x-protobuf"
    assert (sink.guarantee, repr(sink)) == (Guarantee.BUFFERED, "OTLPSink(guarantee=Guarantee.BUFFERED)")
    sink.close()


@pytest.mark.parametrize(
    ("trace", "span"),
    [(None, None), (TRACE, None), ("xyz", SPAN), ("0" * 32, SPAN), (TRACE[:-1], SPAN), ("g" * 32, SPAN), (1, 2)],
)
def test_what_is_no_span_is_told_as_none(trace: object, span: object) -> None:
    """Ids that W3C would refuse are not sent as ids; and the span that happens to be open here is none of theirs."""
    exporter = InMemoryLogRecordExporter()
    OTLPSink(exporter=exporter).record(record(trace_id=trace, span_id=span))
    (log,) = encoded(exporter)
    assert log.trace_id == (bytes.fromhex(TRACE) if trace == TRACE else b"")
    assert log.span_id == b""


def encoded(exporter: InMemoryLogRecordExporter) -> list[Any]:
    """What would go over the wire, read back."""
    wire = encode_logs(exporter.get_finished_logs()).SerializeToString()
    message = ExportLogsServiceRequest.FromString(wire)
    return [log for sender in message.resource_logs for scope in sender.scope_logs for log in scope.log_records]


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("permitted", 9),
        ("denied", 13),
        ("confirmation_required", 10),
        ("step_up_required", 10),
        ("rate_limited", 13),
        ("unavailable", 17),
        ("failed_open", 17),
        ("shadowed", 13),
    ],
)
def test_severity_follows_the_outcome(word: str, number: int) -> None:
    """Each outcome has a number of the data model's."""
    exporter = InMemoryLogRecordExporter()
    OTLPSink(exporter=exporter).record(record(outcome=Outcome(word).value))
    assert encoded(exporter)[0].severity_number == number


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


EXPORTER = InMemoryLogRecordExporter()
INTO_MEMORY = OTLPSink(exporter=EXPORTER)


@given(st.dictionaries(st.text(max_size=5), values, max_size=4))
def test_nothing_is_too_strange_to_export(fields: dict[str, Any]) -> None:
    """Whatever a record holds, it arrives, and its body is its JSON."""
    given_record = record(**{"self": 1} | fields)
    EXPORTER.clear()
    INTO_MEMORY.record(given_record)
    (log,) = encoded(EXPORTER)
    assert log.body.string_value.encode() == given_record.to_json()
    assert attributes(log).keys() >= {"pep.id", "pep.kind"}


ANSWERS: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "a redirection": (302, b"", {"Location": "/elsewhere"}),
    "a refusal": (400, b"", {}),
    "an unknown client": (401, b"", {}),
    "a broken collector": (500, b"", {}),
    "a page of a portal": (200, b"<html>please sign in</html>", {"Content-Type": "text/html"}),
    "a rejected record": (
        200,
        ExportLogsServiceResponse(partial_success=ExportLogsPartialSuccess(rejected_log_records=1)).SerializeToString(),
        {},
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_only_an_acknowledgement_acknowledges(receiver: Collector, name: str) -> None:
    """Whatever else answers, the record is refused; the next one is taken."""
    status, body, headers = ANSWERS[name]
    sink = OTLPSink(receiver.endpoint, timeout=0.5)
    with receiver.answering(status, body, **headers), pytest.raises(AuditError, match="cannot export an audit record"):
        sink.record(record())
    assert receiver.requests == []
    sink.record(record())
    assert len(receiver.requests) == 1
    sink.close()


def test_a_warning_is_an_acknowledgement(receiver: Collector) -> None:
    """A partial success that rejected nothing took everything."""
    body = ExportLogsServiceResponse(partial_success=ExportLogsPartialSuccess(error_message="slow down"))
    sink = OTLPSink(receiver.endpoint)
    with receiver.answering(200, body.SerializeToString()):
        sink.record(record())
    sink.close()


def test_a_collector_that_hangs_is_not_waited_for(receiver: Collector) -> None:
    """The timeout is for all attempts together."""
    sink = OTLPSink(receiver.endpoint, timeout=0.1)
    with receiver.hanging(), pytest.raises(AuditError, match="the exporter's log says why"):
        sink.record(record())
    sink.close()


def test_a_permit_waits_for_the_collector(receiver: Collector) -> None:
    """What the collector refuses, refuses the call."""
    enforcer = Enforcer(permit_all(), audit=OTLPSink(receiver.endpoint, timeout=0.5))
    with receiver.answering(400), pytest.raises(AccessDenied):
        enforcer.enforce("read", Resource("page", "1"), subject=Subject("user", "alice"))
    enforcer.close()
    assert [attributes(log)["pep.kind"] for log in receiver.logs] == ["close"]


class Failing:
    """An exporter that raises."""

    down = 0

    def export(self, _batch: object) -> LogRecordExportResult:
        raise ValueError

    def shutdown(self) -> None:
        self.down += 1


def test_an_exporter_of_ones_own_is_used() -> None:
    """What it raises refuses the record; it is shut down with the sink, once."""
    exporter: Any = Failing()
    sink = OTLPSink(exporter=exporter, guarantee=Guarantee.WRITTEN)
    with pytest.raises(AuditError, match="over OTLP: ValueError"):
        sink.record(record())
    sink.close()
    sink.close()
    assert exporter.down == 1
    with pytest.raises(AuditError, match="closed"):
        sink.record(record())


def test_a_child_has_connections_of_its_own(receiver: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked child makes a new exporter; its parent's is left alone."""
    sink = OTLPSink(receiver.endpoint)
    before = sink._exporter
    sink.record(record())
    monkeypatch.setattr(os, "getpid", lambda: -1)
    sink.record(record())
    assert sink._exporter is not before
    assert len(receiver.logs) == 2
    sink.close()
    before.shutdown()


def test_what_cannot_be_is_refused_at_once() -> None:
    """A mistake in the wiring is told when the sink is made."""
    with pytest.raises(ConfigurationError, match="`guarantee` must be"):
        OTLPSink(guarantee="written")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="`timeout` must be"):
        OTLPSink(timeout=0)


@pytest.mark.parametrize("module", ["opentelemetry.sdk._logs", "opentelemetry.exporter.otlp.proto.http._log_exporter"])
def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Where the SDK or its exporter is missing, the message says what to install."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=r"install `pep\[otlp\]`"):
        OTLPSink("http://127.0.0.1:9/v1/logs")
