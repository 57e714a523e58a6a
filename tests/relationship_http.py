"""HTTP on a loopback socket for the models of relationship engines, and a transport that asks them."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import urlsplit

from pep.errors import PDPTimeout, PDPUnavailable
from pep.exchange import HTTPReply, HTTPRequest


class Engine(Protocol):
    """What answers a request."""

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Return the status and the body."""
        ...


class Refused(Exception):  # noqa: N818  it is an answer
    """A request that is answered with an error."""

    def __init__(self, status: int, told: dict[str, Any]) -> None:
        super().__init__(status)
        self.status, self.told = status, told


@contextmanager
def serving(engine: Engine) -> Iterator[str]:
    """Serve an engine on a free loopback port, and return its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers.get("content-length", "0"))
            headers = {name.lower(): value for name, value in self.headers.items()}
            try:
                status, body = engine.answer(self.command, self.path, headers, self.rfile.read(length))
            except Refused as refused:
                status, body = refused.status, json.dumps(refused.told).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            if "x-request-id" in headers:
                self.send_header("x-request-id", headers["x-request-id"])
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class LoopbackTransport:
    """A connection for every request."""

    def send(self, request: HTTPRequest, /, *, timeout: float, awaiting: bool) -> HTTPReply | Awaitable[HTTPReply]:
        """Send it now, or on a thread that is awaited."""
        patience = min(timeout, 10.0)
        return asyncio.to_thread(_sent, request, patience) if awaiting else _sent(request, patience)


def _sent(request: HTTPRequest, timeout: float) -> HTTPReply:
    parts = urlsplit(request.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request(request.method, parts.path, request.body, dict(request.headers))
        reply = connection.getresponse()
        return HTTPReply(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
    except TimeoutError as error:
        raise PDPTimeout(str(error)) from error
    except OSError as error:
        raise PDPUnavailable(str(error)) from error
    finally:
        connection.close()
