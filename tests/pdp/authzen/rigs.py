"""What the AuthZEN tests share: a transport into an ASGI application, and drivers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import orjson

from pep import AccessRequest, Enforcer, Subject
from pep.audit import MemorySink
from pep.clock import SystemClock
from pep.drive import Performer, run
from pep.exchange import HTTPReply, HTTPRequest
from pep.pdp.authzen import Incoming, server
from pep.pdp.authzen.codec import MEMBER, NEW_ID
from pep.plan import Plan
from pep.testing import FakeClock

#: Where the applications of these tests pretend to be.
URL = "https://pdp.example.com"

GATEWAY = Subject("service", "gateway")
TOKEN = "let-me-in"


def driven(plan: Plan[Any]) -> Any:
    """Run a plan on this thread."""
    return run(plan, Performer(SystemClock()))


def known(incoming: Incoming) -> Subject | None:
    """Know the gateway by its token."""
    return GATEWAY if incoming.bearer == TOKEN else None


def anything(caller: Subject, request: AccessRequest) -> bool:
    return True


def enforcing(pdp: object, **parts: Any) -> Enforcer:
    """An enforcer that records in memory, and for which time stands still: on a busy machine nothing is late."""
    given = {"audit": parts.pop("audit", None) or MemorySink(), "clock": FakeClock(), **parts}
    return Enforcer(pdp, **given)


def serving(pdp: object, **options: Any) -> Any:
    """An application for a decision point, or an enforcer, that lets the gateway ask anything."""
    enforcer = pdp if isinstance(pdp, Enforcer) else enforcing(pdp)
    given = {"authenticate": known, "may_ask": anything, "url": URL, **options}
    return server(enforcer, **given)


async def asked_of(
    application: Any,
    path: str,
    body: bytes | object = b"",
    *,
    method: str = "POST",
    headers: Sequence[tuple[str, str]] = (("content-type", "application/json"), ("authorization", f"Bearer {TOKEN}")),
    chunks: int = 1,
    **scope: Any,
) -> HTTPReply:
    """Ask an application one HTTP request."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    size = max(1, -(-len(content) // chunks))
    parts = [content[start : start + size] for start in range(0, len(content), size)] or [b""]
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages[-1]["more_body"] = False
    sent: list[Mapping[str, Any]] = []

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    whole = {"type": "http", "method": method, "path": path, "headers": pairs, "client": ("192.0.2.1", 1), **scope}
    await application(whole, receive, send)
    start, end = sent
    told = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    return HTTPReply(start["status"], told, end["body"])


def asking(application: Any, *args: Any, **options: Any) -> HTTPReply:
    """Ask an application from outside of any event loop."""
    return asyncio.run(asked_of(application, *args, **options))


class ASGITransport:
    """A transport into an application, with the gateway's token; notes what it was asked to send."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self.sent: list[HTTPRequest] = []

    def send(self, request: HTTPRequest, /, *, timeout: float, awaiting: bool) -> HTTPReply | Awaitable[HTTPReply]:
        self.sent.append(request)
        path = request.url.removeprefix(URL)
        headers = [*request.headers.items(), ("authorization", f"Bearer {TOKEN}")]
        reply = asked_of(self._application, path, request.body, method=request.method, headers=headers)
        return reply if awaiting else asyncio.run(reply)

    @property
    def bodies(self) -> list[Any]:
        return [orjson.loads(request.body) if request.body else None for request in self.sent]


@contextmanager
def served(application: Any) -> Iterator[str]:
    """Serve an application with uvicorn on a free loopback port; gives its URL."""
    import uvicorn  # noqa: PLC0415  not everybody has one

    configuration = uvicorn.Config(application, host="127.0.0.1", port=0, log_level="error", lifespan="on")
    running = uvicorn.Server(configuration)
    ready = threading.Event()
    startup: Callable[..., Awaitable[None]] = running.startup

    async def started(*args: Any, **options: Any) -> None:
        await startup(*args, **options)
        ready.set()

    running.startup = started  # type: ignore[method-assign]
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    try:
        assert ready.wait(30)
        (listening,) = [sock for one in running.servers for sock in one.sockets]
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join(30)


EVALUATION, EVALUATIONS = "/access/v1/evaluation", "/access/v1/evaluations"
ASKED: dict[str, Any] = {
    "subject": {"type": "user", "id": "alice"},
    "action": {"name": "read"},
    "resource": {"type": "record", "id": "record-1"},
}
JSON = ("content-type", "application/json")
BEARER = ("authorization", f"Bearer {TOKEN}")


def sendable(request: AccessRequest) -> bool:
    """Tell whether nothing of a request means something else on the wire."""
    return MEMBER not in request.context and request.resource.id != NEW_ID


def yes(_request: AccessRequest) -> bool:
    return True


def only_alice(request: AccessRequest) -> bool:
    return request.subject.id == "alice"


def noting(**options: Any) -> tuple[Any, list[AccessRequest]]:
    """An application that permits everything, and what it was asked."""
    asked: list[AccessRequest] = []

    def decide(request: AccessRequest) -> bool:
        asked.append(request)
        return True

    return serving(decide, **options), asked


def told(reply: Any) -> Any:
    return orjson.loads(reply.body)


def without(name: str, within: str | None = None) -> dict[str, Any]:
    if within is None:
        return {key: value for key, value in ASKED.items() if key != name}
    return {**ASKED, within: {key: value for key, value in ASKED[within].items() if key != name}}
