"""
A transport that answers from a script, and tells what it was asked to send.

Imports the error tree and values only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import orjson

from pep.errors import PDPUnavailable
from pep.exchange import HTTPReply, HTTPRequest


class ScriptedTransport:
    """
    A transport that sends nothing.

    Args:
        replies: What it answers, one after the other: an `HTTPReply`; an exception to raise; a mapping or list,
            answered as JSON with status 200; or a function of the request that returns one of those. The last
            one answers everything that comes after it, where it is a function.

    Attributes:
        sent: Every request, in order.

        timeouts: How long each might take, in seconds.
    """

    def __init__(self, *replies: object) -> None:
        self._replies = list(replies)
        self.sent: list[HTTPRequest] = []
        self.timeouts: list[float] = []

    def send(self, request: HTTPRequest, /, *, timeout: float, awaiting: bool) -> HTTPReply | Awaitable[HTTPReply]:
        """Answer as the script says; a task gets something to await."""
        self.sent.append(request)
        self.timeouts.append(timeout)
        if not self._replies:
            message = "the script has no reply left"
            raise PDPUnavailable(message)
        reply = self._replies[0]
        if len(self._replies) > 1 or not callable(reply):
            del self._replies[0]
        return _later(reply, request) if awaiting else _given(reply, request)

    @property
    def bodies(self) -> list[Any]:
        """The bodies of all requests, read as JSON; None where there is none."""
        return [orjson.loads(request.body) if request.body else None for request in self.sent]


def replying(status: int = 200, body: object = None, headers: Iterable[tuple[str, str]] = ()) -> HTTPReply:
    """
    Make a reply.

    Args:
        status: Its status.

        body: Bytes as they are; anything else as JSON, None as nothing.

        headers: Pairs of a name and a value.
    """
    told = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
    return HTTPReply(status, {name.lower(): value for name, value in headers}, told)


async def _later(reply: object, request: HTTPRequest) -> HTTPReply:
    return _given(reply, request)


def _given(reply: object, request: HTTPRequest) -> HTTPReply:
    made: Any = reply
    if callable(made) and not isinstance(made, type):
        made = made(request)
    if isinstance(made, BaseException):
        raise made
    return made if isinstance(made, HTTPReply) else replying(body=made)


#: What a function of a script may be.
Script = Callable[[HTTPRequest], object]
