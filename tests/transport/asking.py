"""What the tests of the transport share: asking in either world."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from pep.exchange import HTTPReply, HTTPRequest
from pep.transport import HTTPTransport

WORLDS = ("sync", "async")

#: How long anything may take that should happen at once; and what should not happen at all, in seconds.
SOON, NEVER = 20.0, 0.2


def ask(
    transport: HTTPTransport,
    url: str,
    world: str = "sync",
    *,
    timeout: float = SOON,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"{}",
    method: str = "POST",
) -> HTTPReply:
    """Send one request in a world."""
    request = HTTPRequest(method, url, dict(headers or {}), body)
    if world == "sync":
        found: Any = transport.send(request, timeout=timeout, awaiting=False)
        assert isinstance(found, HTTPReply)
        return found
    return asyncio.run(aask(transport, request, timeout))


async def aask(transport: HTTPTransport, request: HTTPRequest, timeout: float = SOON) -> HTTPReply:
    found: Any = transport.send(request, timeout=timeout, awaiting=True)
    reply = await found
    assert isinstance(reply, HTTPReply)
    return reply
