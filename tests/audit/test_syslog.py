from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep import Guarantee
from pep.audit import Kind, Record
from pep.audit import syslog as syslog_module
from pep.audit.syslog import SyslogSink
from pep.audit.wire import FACILITIES, Header, framed, shorter
from pep.errors import AuditError, ConfigurationError
from tests.audit.backends import SYSLOG, Syslog, syslog

BOM = b"\xef\xbb\xbf"


def record(kind: Kind = Kind.DECISION, **fields: Any) -> Record:
    return Record(kind, "0190-id", 1.0, fields)


def header(**changes: Any) -> Header:
    return Header(**{"facility": 10, "hostname": "host", "app_name": "pep", "enterprise": None, **changes})


def message(given: Record, number: int = 1, longest: int = 65_000, **changes: Any) -> bytes:
    return header(**changes).message(given, number, longest)[0]


# The format.


def test_a_message_is_rfc_5424() -> None:
    """Header, structured data and message stand where RFC 5424 has them."""
    given = record(outcome="denied")
    told = message(given, 7)
    assert told == (
        f'<84>1 1970-01-01T00:00:01.000000Z host pep {os.getpid()} decision [meta sequenceId="7"] '.encode()
        + given.to_json()
    )


@pytest.mark.parametrize(
    ("given", "facility", "pri"),
    [
        (record(outcome="permitted"), "kern", 6),
        (record(outcome="unavailable"), "local7", 23 * 8 + 3),
        (record(outcome="confirmation_required"), "authpriv", 10 * 8 + 5),
        (record(Kind.GAP), "audit", 13 * 8 + 3),
    ],
)
def test_the_priority_is_facility_and_severity(given: Record, facility: str, pri: int) -> None:
    """PRI is the facility times eight and the severity (§6.2.1)."""
    assert message(given, facility=FACILITIES[facility]).startswith(f"<{pri}>1 ".encode())


@given(st.text(max_size=40))
def test_a_message_is_marked_as_utf8_where_it_is(text: str) -> None:
    """What is not ASCII has a byte order mark in front of it, what is has none (§6.4); and it is one line."""
    given = record(reason=text)
    found = SYSLOG.fullmatch(message(given))
    assert found is not None
    assert found["message"] == (b"" if given.to_json().isascii() else BOM) + given.to_json()
    assert len(found["message"].decode().splitlines()) == 1


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_structured_data_is_escaped(name: str) -> None:
    """Whatever an id holds, it ends neither its value nor its element, nor steers a terminal (§6.3.3)."""
    given = record(outcome="denied", action="read", subject={"type": "user", "id": name}, resource="odd")
    found = SYSLOG.fullmatch(message(given, enterprise=32473))
    assert found is not None
    assert found["data"] is not None
    data = found["data"].decode()
    assert data.isprintable()
    start = '[pep@32473 kind="decision" id="0190-id" outcome="denied" action="read" subject="'
    assert data.startswith(start)
    value = data[len(start) : data.index('" subjectType="user"]')]
    plain = value.replace('\\"', "").replace("\\]", "").replace("\\\\", "")
    assert not set(plain) & set('"]\\')


def test_structured_data_is_an_index() -> None:
    """A long value is cut there; the message has it whole."""
    told = message(record(resource={"type": "page", "id": "x" * 500}), enterprise=1)
    assert b'resource="' + b"x" * 120 + b'" resourceType="page"]' in told
    assert b"x" * 500 in told


def test_a_host_name_is_printable() -> None:
    """What a header cannot hold is replaced, not sent (§6.2.4)."""
    assert message(record(), hostname="hö st").split()[2] == b"h??st"
    assert message(record(), hostname="x" * 300).split()[2] == b"x" * 255
    assert message(record(), hostname="").split()[2] == b"-"


def test_a_long_record_is_told_in_short() -> None:
    """It keeps what it is, and loses who it is about; its length is told."""
    given = record(outcome="denied", allowed=False, fault="x" * 99, subject={"id": "é" * 2000}, enforcer="\x1b")
    told, shortened = header(enterprise=1).message(given, 1, 2048)
    assert shortened
    assert len(told) <= 2048
    assert json.loads(told[told.index(b"{") :]) == {
        "schema": "pep.audit/1",
        "kind": "decision",
        "id": "0190-id",
        "time": "1970-01-01T00:00:01.000000Z",
        "outcome": "denied",
        "allowed": False,
        "omitted": len(given.to_json()),
    }


@given(st.dictionaries(st.sampled_from(["enforcer", "entry", "outcome", "fault", "effect"]), st.text(max_size=99)))
def test_a_short_record_is_short(fields: dict[str, str]) -> None:
    """Whatever the record, what stands for it fits in what every receiver takes."""
    given = Record(Kind.CONFIGURATION, "x" * 5000, 1.0, {**fields, "filler": "x" * 5000})
    told, _ = header(hostname="h" * 999, app_name="a" * 48, enterprise=1).message(given, 2**31 - 1, 2048)
    assert len(told) <= 2048
    assert shorter(given)["id"] == ""


def test_frames_are_counted_in_octets() -> None:
    """The length is that of the bytes, in front, with a space (RFC 6587 §3.4.1)."""
    assert framed("é1".encode()) == b"3 \xc3\xa91"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"address": "host:514"}, "is no address of a syslog collector"),
        ({"address": "udp://host"}, "is no address"),
        ({"address": "udp://host:99999"}, "is no address"),
        ({"address": "http://host:514"}, "is no address"),
        ({"address": "tcp://host:514/path"}, "is no address"),
        ({"address": "unix:"}, "is no address"),
        ({"address": 514}, "is no address"),
        ({"address": "tcp://nowhere.invalid:514"}, "the host of `tcp://nowhere.invalid:514` is not found"),
        ({"facility": "local8"}, "did you mean `local"),
        ({"app_name": "a b"}, "`app_name` must be"),
        ({"app_name": ""}, "`app_name` must be"),
        ({"app_name": "x" * 49}, "`app_name` must be"),
        ({"app_name": None}, "`app_name` must be"),
        ({"enterprise": 0}, "`enterprise` must be"),
        ({"enterprise": "32473"}, "`enterprise` must be"),
        ({"longest": 480}, "`longest` must be a number of bytes from 2048 to 65000"),
        ({"longest": 2.5e3}, "`longest` must be"),
        ({"timeout": 0}, "`timeout` must be a number of seconds"),
        ({"timeout": float("inf")}, "`timeout` must be"),
        ({"timeout": True}, "`timeout` must be"),
    ],
)
def test_what_cannot_be_is_refused_at_once(wrong: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in the wiring is told when the sink is made."""

    def nowhere(*_arguments: object, **_keywords: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    with pytest.raises(ConfigurationError, match=told):
        SyslogSink(**wrong)


# Sending.


@pytest.fixture
def tcp() -> Iterator[Syslog]:
    with syslog("tcp://127.0.0.1:0") as collector:
        yield collector


def test_everything_is_sent_where_it_belongs(tcp: Syslog) -> None:
    """Records arrive numbered, in order, from this process."""
    sink = SyslogSink(tcp.address, facility="local0", app_name="shop")
    given = [record(text="\n1 "), record(text="é"), record(Kind.GAP)]
    for one in given:
        sink.record(one)
    found = tcp.wait(3, os.getpid())
    assert [(int(one["number"]), one["message"].removeprefix(BOM)) for one in found] == [
        (number, one.to_json()) for number, one in enumerate(given, 1)
    ]
    assert {(one["app"], one["host"]) for one in found} == {(b"shop", socket.gethostname().encode())}
    assert sink.stats() == {"sent": 3, "refused": 0, "shortened": 0}
    assert sink.guarantee is Guarantee.BUFFERED
    assert repr(sink) == f"SyslogSink('{tcp.address}')"
    sink.close()


def test_ipv6_is_an_address_too() -> None:
    """A literal address in brackets is understood; nothing is sent before the first record."""
    sink = SyslogSink("udp://[::1]:9")
    assert sink._family is socket.AF_INET6
    sink.close()


def test_a_long_one_is_counted(tmp_path: Path) -> None:
    """What is sent in short shows in the counts."""
    with syslog(f"unix:{tmp_path / 'log'}") as collector:
        sink = SyslogSink(collector.address, longest=2048)
        sink.record(record(text="x" * 3000))
        (found,) = collector.wait(1)
        assert json.loads(found["message"])["omitted"] > 3000
        assert sink.stats() == {"sent": 1, "refused": 0, "shortened": 1}
        sink.close()


def test_numbers_start_again_at_one(tcp: Syslog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The greatest sequence number is followed by the first (§7.3.1)."""
    monkeypatch.setattr(syslog_module, "_LAST_NUMBER", 2)
    sink = SyslogSink(tcp.address)
    for _ in range(3):
        sink.record(record())
    tcp.wait(3)
    assert [SYSLOG.fullmatch(text)["number"] for text in tcp.messages] == [b"1", b"2", b"1"]  # type: ignore[index]
    sink.close()


def test_a_collector_that_is_away_refuses_and_is_found_again(tcp: Syslog) -> None:
    """While nobody listens records are refused, and counted; afterwards they arrive, on a new connection."""
    sink = SyslogSink(tcp.address)
    sink.record(record())
    tcp.wait(1)
    with tcp.away(sink):
        for _ in range(2):
            with pytest.raises(AuditError, match=f"cannot send an audit record to `{tcp.address}`: Connection refused"):
                sink.record(record())
    sink.record(record())
    assert [one["number"] for one in tcp.wait(2)] == [b"1", b"4"]
    assert sink.stats() == {"sent": 2, "refused": 2, "shortened": 0}
    sink.close()


def test_a_connection_that_was_dropped_is_made_again(tcp: Syslog) -> None:
    """What is written into a connection that the other side has closed is lost; so it is noticed before."""
    sink = SyslogSink(tcp.address)
    for number in range(1, 4):
        sink.record(record())
        tcp.wait(number)
        for connection in tcp._connections:
            with connection:
                connection.shutdown(socket.SHUT_RDWR)
        tcp._connections.clear()
    assert len(tcp.messages) == 3
    sink.close()


class Wire:
    """A connection that goes wrong in a chosen way."""

    type = socket.SOCK_STREAM

    def __init__(self, *, peek: object = BlockingIOError(), send: object = None) -> None:
        self.peek, self.send, self.closed = peek, send, False

    def settimeout(self, _seconds: float) -> None:
        """Nothing to wait for."""

    def recv(self, *_arguments: object) -> object:
        if isinstance(self.peek, BaseException):
            raise self.peek
        return self.peek

    def sendall(self, _frame: bytes) -> None:
        if isinstance(self.send, BaseException):
            raise self.send

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("wire", [Wire(peek=b""), Wire(peek=ConnectionResetError()), Wire(send=BrokenPipeError())])
def test_what_a_broken_connection_did_not_take_goes_over_a_new_one(tcp: Syslog, wire: Any) -> None:
    """However a connection ends, the record is sent once more, whole."""
    sink = SyslogSink(tcp.address)
    sink._socket = wire
    sink.record(record())
    tcp.wait(1)
    assert wire.closed
    sink.close()


@pytest.mark.parametrize("wire", [Wire(peek=b"x"), Wire()])
def test_a_connection_is_kept(wire: Any) -> None:
    """A collector that says something has not gone."""
    sink = SyslogSink("tcp://127.0.0.1:9")
    sink._socket = wire
    sink.record(record())
    assert sink._socket is wire
    sink.close()


def test_a_message_cut_short_is_followed_by_nothing(tcp: Syslog) -> None:
    """Whatever interrupts a message ends its connection, since the next one would be taken for its rest."""
    sink = SyslogSink(tcp.address)
    wire: Any = Wire(send=KeyboardInterrupt())
    sink._socket = wire
    with pytest.raises(KeyboardInterrupt):
        sink.record(record())
    assert wire.closed
    sink.record(record())
    tcp.wait(1)
    sink.close()


def test_a_message_is_not_written_into_another(tcp: Syslog) -> None:
    """A signal handler that records while its thread is sending is refused."""
    sink = SyslogSink(tcp.address)
    refused: list[AuditError] = []

    class Interrupted(Wire):
        def sendall(self, _frame: bytes) -> None:
            with pytest.raises(AuditError, match="in the middle of a message") as caught:
                sink.record(record())
            refused.append(caught.value)

    wire: Any = Interrupted()
    sink._socket = wire
    sink.record(record())
    assert len(refused) == 1
    sink.close()


def test_a_collector_that_stops_reading_is_not_waited_for() -> None:
    """Once the buffers are full a record is refused in time, and so is one that waits for its turn."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sink = SyslogSink(f"tcp://127.0.0.1:{listener.getsockname()[1]}", timeout=0.05)
        with pytest.raises(AuditError, match="it took too long"):
            for _ in range(10_000):
                sink.record(record(text="x" * 60_000))
        assert sink.stats()["refused"] == 1
        with sink._turns:
            waiting = threading.Thread(target=_refused, args=(sink,))
            waiting.start()
            waiting.join()
        sink.close()


def _refused(sink: SyslogSink) -> None:
    with pytest.raises(AuditError, match=r"busy for 0.05 s"):
        sink.record(record())


def test_no_time_is_left_to_connect(tcp: Syslog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for all attempts is one: what is late is not begun."""
    sink = SyslogSink(tcp.address)
    monkeypatch.setattr(sink, "_timeout", -1.0)
    with pytest.raises(AuditError, match="it took too long"):
        sink.record(record())
    sink.close()


def test_a_child_has_a_connection_of_its_own(tcp: Syslog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked child shares no stream with its parent, and does not wait for the rest of a message of its parent's."""
    sink = SyslogSink(tcp.address)
    wire: Any = Wire()
    sink._socket, sink._sending = wire, True
    monkeypatch.setattr(os, "getpid", lambda: 77)
    sink.record(record())
    assert wire.closed
    tcp.wait(1, 77)
    sink.close()


def test_closed_is_closed(tcp: Syslog) -> None:
    """After `close` nothing is sent; closing twice is harmless."""
    sink = SyslogSink(tcp.address)
    sink.close()
    sink.close()
    with pytest.raises(AuditError, match="is closed"):
        sink.record(record())
