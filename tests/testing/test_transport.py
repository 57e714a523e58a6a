"""The scripted transport: it answers as its script says, in both worlds, and tells what it was sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pep.errors import PDPTimeout, PDPUnavailable
from pep.exchange import HTTPReply, HTTPRequest
from pep.protocols import Transport
from pep.testing.transport import ScriptedTransport, replying

REQUEST = HTTPRequest("POST", "https://x/y", {}, b'{"a":1}')
WORLDS = ("sync", "async")
worlds = pytest.mark.parametrize("world", WORLDS)


def ask(transport: ScriptedTransport, world: str, request: HTTPRequest = REQUEST) -> Any:
    found: Any = transport.send(request, timeout=2.0, awaiting=world == "async")

    async def main() -> Any:
        return await found

    return asyncio.run(main()) if world == "async" else found


def test_it_is_a_transport() -> None:
    """The protocol's one method is there."""
    assert isinstance(ScriptedTransport(), Transport)


@worlds
def test_replies_come_one_after_the_other(world: str) -> None:
    """As they are, as JSON, or as an error; then the script is over."""
    transport = ScriptedTransport(replying(201, b"x"), {"a": 1}, [1], PDPTimeout("late"))
    assert [ask(transport, world) for _ in range(3)] == [
        HTTPReply(201, {}, b"x"),
        HTTPReply(200, {}, b'{"a":1}'),
        HTTPReply(200, {}, b"[1]"),
    ]
    with pytest.raises(PDPTimeout, match="late"):
        ask(transport, world)
    with pytest.raises(PDPUnavailable, match="no reply left"):
        ask(transport, world)


@worlds
def test_a_function_answers_the_request(world: str) -> None:
    """The last one goes on answering; it may raise by returning an error."""
    transport = ScriptedTransport(
        lambda request: {"method": request.method},
        lambda request: replying(200, request.body) if request.body else PDPTimeout(),
    )
    assert ask(transport, world).body == b'{"method":"POST"}'
    assert [ask(transport, world).body for _ in range(3)] == [REQUEST.body] * 3
    with pytest.raises(PDPTimeout):
        ask(transport, world, HTTPRequest("GET", "https://x"))


def test_it_tells_what_it_was_sent() -> None:
    """Requests, bodies read as JSON, and how long each might take."""
    transport = ScriptedTransport(lambda _request: {})
    ask(transport, "sync")
    ask(transport, "async", HTTPRequest("GET", "https://x"))
    assert [request.method for request in transport.sent] == ["POST", "GET"]
    assert transport.bodies == [{"a": 1}, None]
    assert transport.timeouts == [2.0, 2.0]


def test_replies_are_made_of_anything() -> None:
    """Bytes as they are, nothing as nothing, the rest as JSON; names of headers in lower case."""
    assert replying() == HTTPReply(200, {}, b"")
    assert replying(503, None, [("Retry-After", "1")]) == HTTPReply(503, {"retry-after": "1"}, b"")
    assert [replying(body=body).body for body in (b"raw", {}, False, 0, "")] == [b"raw", b"{}", b"false", b"0", b'""']
