"""Connections: over all addresses, each within its share of the time; broken ones are told apart."""

from __future__ import annotations

import errno
import gzip
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from pep.errors import PDPError, PDPReplyError, PDPTimeout, PDPUnavailable
from pep.exchange import HTTPRequest
from pep.transport import HTTPTransport
from pep.transport.connection import _done, unreached
from pep.transport.waits import Ready
from tests.misbehaving import REFUSE, Misbehaving, Peer, head, replies, sends
from tests.transport.asking import NEVER, SOON, WORLDS, ask
from tests.transport.test_resolver import naming

worlds = pytest.mark.parametrize("world", WORLDS)
OK = replies(body={"decision": True})
NAME = "http://pdp.example"
PLAIN = ["pdp.example"]


def leading_to(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
    naming(monkeypatch, lambda _host, _port: found)


@pytest.fixture
def full() -> Iterator[int]:
    """The port of a listener that takes no connection and refuses none: its queue is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@worlds
def test_the_next_address_is_tried_when_one_refuses(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with several addresses is up while one of them is."""
    with Misbehaving(REFUSE) as down, Misbehaving(OK) as server, HTTPTransport(plain=PLAIN) as sender:
        leading_to(monkeypatch, down.port, down.port, server.port)
        assert ask(sender, NAME, world).status == 200


@worlds
def test_an_address_that_hangs_leaves_time_for_the_next(world: str, full: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """None takes more than its share of the time."""
    with Misbehaving(OK) as server, HTTPTransport(plain=PLAIN) as sender:
        leading_to(monkeypatch, full, server.port)
        assert ask(sender, NAME, world, timeout=2.0).status == 200


@worlds
def test_connecting_is_cut_at_the_deadline(world: str, full: int) -> None:
    """A host that never answers a knock is a timeout."""
    with HTTPTransport() as sender, pytest.raises(PDPTimeout):
        ask(sender, f"http://127.0.0.1:{full}", world, timeout=NEVER)


@worlds
def test_no_address_that_answers_is_an_outage(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last refusal is told."""
    with Misbehaving(REFUSE) as down, HTTPTransport(plain=PLAIN) as sender:
        leading_to(monkeypatch, down.port, down.port)
        with pytest.raises(PDPUnavailable, match="ConnectionRefusedError"):
            ask(sender, NAME, world)


@worlds
def test_an_address_of_a_kind_this_machine_has_not_is_passed_by(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads to IPv6 too is reached where there is none."""
    real = socket.socket

    def without_ipv6(family: int = socket.AF_INET, *args: Any, **options: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "address family not supported by protocol")
        return real(family, *args, **options)

    with Misbehaving(OK) as server, HTTPTransport(plain=PLAIN) as sender:
        found = [(socket.AF_INET6, ("::1", server.port, 0, 0)), (socket.AF_INET, ("127.0.0.1", server.port))]
        monkeypatch.setattr("pep.transport.resolver._looked_up", lambda *_args: found)
        monkeypatch.setattr("pep.transport.connection.socket.socket", without_ipv6)
        assert ask(sender, NAME, world).status == 200


def test_a_fault_of_this_process_is_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Running out of descriptors must not open what an outage may."""

    def none_left(*_args: object) -> Any:
        raise OSError(errno.EMFILE, "too many open files")

    with Misbehaving(OK) as server, HTTPTransport() as sender, monkeypatch.context() as patch:
        patch.setattr("pep.transport.connection.socket.socket", none_left)
        with pytest.raises(PDPError, match="EMFILE") as error:
            exchange = sender._exchanged(HTTPRequest("POST", server.url), sender._clock.monotonic() + SOON)
            next(exchange)
    assert type(error.value) is PDPError


def test_a_connection_that_fails_at_once_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that cannot be reached at all is told without waiting."""
    monkeypatch.setattr("pep.transport.connection._UNDER_WAY", frozenset())
    with Misbehaving(OK) as server, HTTPTransport() as sender, pytest.raises(PDPError):
        ask(sender, server.url)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, ""), PDPUnavailable),
        (ConnectionResetError(errno.ECONNRESET, ""), PDPUnavailable),
        (TimeoutError(errno.ETIMEDOUT, ""), PDPTimeout),
        (OSError(errno.EHOSTUNREACH, ""), PDPUnavailable),
        (OSError(errno.ENETUNREACH, ""), PDPUnavailable),
        (OSError(errno.EADDRNOTAVAIL, ""), PDPUnavailable),
        (OSError(errno.EAFNOSUPPORT, ""), PDPUnavailable),
        (socket.gaierror(socket.EAI_AGAIN, ""), PDPUnavailable),
        (OSError(errno.EMFILE, ""), PDPError),
        (OSError(errno.ENOMEM, ""), PDPError),
        (OSError(errno.EACCES, ""), PDPError),
        (OSError("no number"), PDPError),
    ],
    ids=repr,
)
def test_why_no_connection_came_about(error: OSError, kind: type[PDPError]) -> None:
    """Only that nobody is there is an outage."""
    assert type(unreached(error)) is kind


@worlds
def test_writing_is_cut_at_the_deadline(world: str) -> None:
    """A server that takes no more of a long request is a timeout."""

    def deaf(peer: Peer) -> None:
        peer.pause()

    with Misbehaving(deaf) as server, HTTPTransport() as sender, pytest.raises(PDPTimeout):
        ask(sender, server.url, world, timeout=NEVER, body=b"x" * 20_000_000)


@worlds
def test_an_answer_before_the_request_was_read_counts(world: str) -> None:
    """A server that refuses a long request and hangs up has answered."""

    def refusing(peer: Peer) -> None:
        peer.send(head(413, {"Content-Length": "0", "Connection": "close"}))
        peer.sock.shutdown(socket.SHUT_WR)
        peer.sock.recv(10)

    with Misbehaving(refusing) as server, HTTPTransport() as sender:
        assert ask(sender, server.url, world, body=b"x" * 20_000_000).status == 413


class Fussy:
    """A socket that wants to be asked again, as TLS may."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def act(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_whatever_tls_waits_for_is_waited_for() -> None:
    """Reading may have to write first, and writing to read."""
    sock: Any = Fussy(ssl.SSLWantReadError(), ssl.SSLWantWriteError(), BlockingIOError())
    exchange = _done(sock, sock.act, deadline=5.0)
    assert next(exchange) == Ready(sock, False, 5.0)
    assert [exchange.send(True), exchange.send(True)] == [Ready(sock, True, 5.0)] * 2
    with pytest.raises(StopIteration, match="done"):
        exchange.send(True)


# --- what a reply may look like ------------------------------------------------------------------


def replied(raw: bytes, world: str = "sync", **options: Any) -> Any:
    with Misbehaving(sends(raw)) as server, HTTPTransport(**options) as sender:
        return ask(sender, server.url, world)


GOOD = {
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}": b"{}",
    b"HTTP/1.0 200 OK\r\n\r\n{}": b"{}",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}": b"{}",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\nTrailer: x\r\n\r\n": b"{}",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}": b"{}",
    b"HTTP/1.1 204 No Content\r\n\r\n": b"",
    head(200, {"Content-Encoding": "gzip", "Content-Length": "22"}) + gzip.compress(b"{}", mtime=0): b"{}",
}


@worlds
@pytest.mark.parametrize("raw", GOOD)
def test_whole_replies(world: str, raw: bytes) -> None:
    """Each way to tell where a body ends is understood."""
    assert replied(raw, world).body == GOOD[raw]


@worlds
def test_a_header_that_comes_twice_is_both(world: str) -> None:
    """Neither hides the other: whose answer it is, say, is told by one alone."""
    twice = head(200, {"X-Request-ID": "another", "Content-Length": "2"}).replace(b"\r\n\r\n", b"\r\n")
    reply = replied(twice + b"X-Request-ID: mine\r\n\r\n{}", world)
    assert reply.headers == {"x-request-id": "another, mine", "content-length": "2"}


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n Folded: x\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nNo colon\r\n\r\n{}",
        b"HTTP/1.1 OK 200\r\n\r\n{}",
        b"HTTP/2 200\r\n\r\n{}",
        b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20 + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n{}",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"<html>",
    ],
)
def test_what_is_no_reply(raw: bytes) -> None:
    """Whatever could be read in two ways, or not at all, is refused."""
    with pytest.raises(PDPReplyError):
        replied(raw)


def test_heads_are_capped() -> None:
    """One header over the cap, in one piece or in many, is no reply."""
    assert replied(head(200, {"X": "x" * 900, "Content-Length": "0"}), max_head=1000).status == 200
    for size in (1000, 5000, 100_000):
        with pytest.raises(PDPReplyError):
            replied(head(200, {"X": "x" * size, "Content-Length": "0"}), max_head=1000)


def test_wrapping_is_capped() -> None:
    """A body in chunks of one byte costs its reader more than it is worth."""
    chunked = head(200, {"Transfer-Encoding": "chunked"})
    with pytest.raises(PDPReplyError, match="wrapped"):
        replied(chunked + b"1;%s\r\nx\r\n" % (b"y" * 500) * 40, max_head=1000, max_bytes=1000)
