"""
One request and its reply over a connection: HTTP/1.1 by h11, with the caps and checks that a decision needs.

Imports the error tree, the values that cross and connections only; needs h11, which the extra ``httpx`` brings.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import attrs
import h11

from pep.errors import PDPReplyError
from pep.exchange import HTTPReply
from pep.transport.body import Body
from pep.transport.connection import BrokenError, Connection
from pep.transport.origin import Origin
from pep.transport.waits import Exchange

_START: Final = b"HTTP/1."
# How many times a server may say that it has not said anything yet.
_MAX_INTERIM: Final = 8


@attrs.frozen(repr=False, eq=False)
class Message:
    """A request that was checked: where it goes, its head for h11, and its body."""

    origin: Origin
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes


@attrs.frozen
class Caps:
    """How many bytes the head of a reply may have, and its body once it is decompressed."""

    head: int
    body: int

    @property
    def received(self) -> int:
        """How many bytes may come for one reply, with all that surrounds its pieces."""
        return 2 * (self.head + self.body)


def begun(caps: Caps) -> h11.Connection:
    """Return the state of a connection over which nothing was said."""
    return h11.Connection(h11.CLIENT, max_incomplete_event_size=caps.head)


def conversed(connection: Connection, message: Message, caps: Caps, deadline: float) -> Exchange[HTTPReply]:
    """
    Send a request, and read its reply to the end.

    Raises:
        BrokenError: When the connection ended before.

        PDPReplyError: When what came is no reply, or over the caps.

        PDPTimeout: When the time was over.

        PDPInsecure: When TLS failed.
    """
    # It may have answered before it hung up, such as that the body is too long.
    with suppress(BrokenError):
        yield from connection.write(_written(connection.http, message), deadline)
    head = yield from _head(connection, caps, deadline)
    body = _body(head, caps)
    while isinstance(event := (yield from _event(connection, caps, deadline)), h11.Data):
        body.take(bytes(event.data))
    if not isinstance(event, h11.EndOfMessage) or connection.http.trailing_data[0]:
        error = "more came than the reply is long"
        raise PDPReplyError(error)
    return HTTPReply(head.status_code, _headers(head), body.whole())


def _written(http: h11.Connection, message: Message) -> bytes:
    request = h11.Request(method=message.method, target=message.target, headers=message.headers)
    parts = [http.send(request), http.send(h11.Data(data=message.body)), http.send(h11.EndOfMessage())]
    return b"".join(part or b"" for part in parts)


def _head(connection: Connection, caps: Caps, deadline: float) -> Exchange[h11.Response]:
    for _interim in range(_MAX_INTERIM + 1):
        event = yield from _event(connection, caps, deadline)
        if isinstance(event, h11.Response):
            return event
    message = "the server keeps saying that it will answer"
    raise PDPReplyError(message)


def _body(head: h11.Response, caps: Caps) -> Body:
    if sum(len(name) + len(value) for name, value in head.headers) > caps.head:
        message = f"the headers of the reply are longer than {caps.head} bytes"
        raise PDPReplyError(message)
    named = [name for name, _value in head.headers]
    if b"content-length" in named and b"transfer-encoding" in named:
        message = "the reply tells its length in two ways"
        raise PDPReplyError(message)
    return Body(caps.body, [value.decode("latin-1") for name, value in head.headers if name == b"content-encoding"])


def _headers(head: h11.Response) -> dict[str, str]:
    """Return header's name → value; of several, all of them (RFC 9110 §5.3): none hides another."""
    told: dict[str, str] = {}
    for raw, value in head.headers:
        name, text = raw.decode("latin-1"), value.decode("latin-1")
        told[name] = f"{told[name]}, {text}" if name in told else text
    return told


def _event(connection: Connection, caps: Caps, deadline: float) -> Exchange[object]:
    """Return what the server said next."""
    ended = False
    while True:
        try:
            event = connection.http.next_event()
        except h11.RemoteProtocolError:
            if ended:
                raise BrokenError from None
            message = "what came is not HTTP, or its head is too long"
            raise PDPReplyError(message) from None
        if event is not h11.NEED_DATA:
            return event
        data = yield from connection.read(deadline)
        _check_received(connection, data, caps)
        connection.http.receive_data(data)
        ended = not data


def _check_received(connection: Connection, data: bytes, caps: Caps) -> None:
    if connection.received > caps.received:
        message = "the reply is wrapped in too many bytes"
        raise PDPReplyError(message)
    start = connection.received - len(data)
    expected = _START[start:]
    if data[: len(expected)] != expected[: len(data)]:
        message = "what came is not HTTP"
        raise PDPReplyError(message)
