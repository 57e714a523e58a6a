"""What sinks write to, on this machine: syslog and OTLP collectors, and something that speaks like Redis."""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

#: How long anything may take to arrive, in seconds.
PATIENCE = 20.0

SYSLOG = re.compile(
    rb"<(?P<pri>\d+)>1 (?P<time>\S+) (?P<host>\S+) (?P<app>\S+) (?P<process>\d+) (?P<kind>\S+) "
    rb'\[meta sequenceId="(?P<number>\d+)"\](?P<data>\[(?:[^\]\\]|\\.)*\])? (?P<message>.*)',
    re.DOTALL,
)


class Syslog:
    """
    A syslog collector: takes messages over UDP, TCP or a Unix socket, and keeps them.

    Attributes:
        messages: Every message, as it came.
    """

    def __init__(self, address: str) -> None:
        self.address, self.messages = address, list[bytes]()
        self._arrived = threading.Condition()
        self._connections: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self.start()

    def start(self) -> None:
        """Listen, on the same port as before."""
        scheme, _, rest = self.address.partition(":")
        if scheme == "unix":
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            Path(rest).unlink(missing_ok=True)
            self._listener.bind(rest)
        else:
            kind = socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM
            host, _, port = rest.removeprefix("//").rpartition(":")
            self._listener = socket.socket(socket.AF_INET, kind)
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((host, int(port)))
            self.address = f"{scheme}://{host}:{self._listener.getsockname()[1]}"
            if scheme == "udp":
                self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        work = self._accept if scheme == "tcp" else self._receive
        self._thread = threading.Thread(target=work, args=(self._listener,), daemon=True)
        if scheme == "tcp":
            self._listener.listen()
        self._thread.start()

    def stop(self) -> None:
        """Go away, and drop every connection."""
        if self._listener is None or self._thread is None:
            return
        for connection in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        if self._listener.type is socket.SOCK_DGRAM:
            self._wake(self._listener)
        self._thread.join(PATIENCE)
        self._listener.close()
        if self.address.startswith("unix:"):
            Path(self.address.removeprefix("unix:")).unlink()
        self._listener, self._connections = None, []

    @contextlib.contextmanager
    def away(self, _sink: object) -> Iterator[None]:
        """Go away for a while."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def wait(self, count: int, process: int | None = None) -> list[re.Match[bytes]]:
        """Wait for so many messages of a process; return them in the order they were sent."""

        def mine() -> list[re.Match[bytes]]:
            found = [SYSLOG.fullmatch(message) for message in self.messages]
            if not all(found):
                pytest.fail(f"no syslog messages: {self.messages}")
            return [one for one in found if one and process in {None, int(one["process"])}]

        with self._arrived:
            # No `assert`: this module is not a test's, and has none under `python -O`.
            if not self._arrived.wait_for(lambda: len(mine()) >= count, PATIENCE):
                pytest.fail(f"{len(mine())} of {count} messages arrived")
            return sorted(mine(), key=lambda message: int(message["number"]))

    def _wake(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError), socket.socket(listener.family, listener.type) as caller:
            caller.sendto(b"", listener.getsockname())

    def _keep(self, message: bytes) -> None:
        with self._arrived:
            self.messages.append(message)
            self._arrived.notify_all()

    def _receive(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while message := listener.recv(1 << 17):
                self._keep(message)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self._connections.append(connection)
                threading.Thread(target=self._frames, args=(connection,), daemon=True).start()

    def _frames(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as stream:
            while length := _until_space(stream):
                message = stream.read(int(length))
                if len(message) == int(length):
                    self._keep(message)


def _until_space(stream: Any) -> bytes:
    digits = b""
    while (byte := stream.read(1)).isdigit():
        digits += byte
    return digits


@contextlib.contextmanager
def syslog(address: str) -> Iterator[Syslog]:
    """A syslog collector, for a while."""
    collector = Syslog(address)
    try:
        yield collector
    finally:
        collector.stop()


class Collector:
    """
    An OTLP collector: takes logs over HTTP and decodes them.

    Attributes:
        requests: Every request it accepted: its headers, and the decoded message.

        respond: Answers in place of success: given the handler, it returns whether it did.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], Any]] = []
        self.respond: Callable[[BaseHTTPRequestHandler], bool] = lambda _handler: False
        self._let_go = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}/v1/logs"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        """Go away."""
        self._let_go.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def logs(self) -> list[Any]:
        """Every log record it accepted."""
        return [
            log
            for _, message in self.requests
            for sender in message.resource_logs
            for scope in sender.scope_logs
            for log in scope.log_records
        ]

    @contextlib.contextmanager
    def answering(self, status: int, body: bytes = b"", **headers: str) -> Iterator[None]:
        """Answer otherwise for a while."""

        def respond(handler: BaseHTTPRequestHandler) -> bool:
            handler.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(body)
            return True

        with self._responding(respond):
            yield

    @contextlib.contextmanager
    def hanging(self, _sink: object = None) -> Iterator[None]:
        """Accept, and never answer, for a while."""
        with self._responding(lambda _handler: self._let_go.wait(PATIENCE) or True):
            yield

    @contextlib.contextmanager
    def _responding(self, respond: Callable[[BaseHTTPRequestHandler], bool]) -> Iterator[None]:
        before, self.respond = self.respond, respond
        try:
            yield
        finally:
            self.respond = before

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Small answers are not held back.
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if collector.respond(self):
                    self.close_connection = True
                    return
                message = logs_service_pb2.ExportLogsServiceRequest.FromString(body)
                headers = {name.lower(): value for name, value in self.headers.items()}
                collector.requests.append((headers, message))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        return Handler


@contextlib.contextmanager
def collector() -> Iterator[Collector]:
    """An OTLP collector, for a while."""
    made = Collector()
    try:
        yield made
    finally:
        made.stop()


class Resp:
    """Speaks like a Redis server: answers each command by its name, and keeps them all."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        self.answers, self.commands = answers, list[list[bytes]]()
        resp = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    while head := self.rfile.readline():
                        command = [self._part() for _ in range(int(head[1:]))]
                        resp.commands.append(command)
                        self.wfile.write(resp.answers.get(command[0].decode(), b"+OK\r\n"))

            def _part(self) -> bytes:
                length = int(self.rfile.readline()[1:])
                return self.rfile.read(length + 2)[:-2]

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"redis://127.0.0.1:{self._server.server_address[1]}/0?protocol=2"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        """Go away."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def resp(**answers: bytes) -> Iterator[Resp]:
    """Something that speaks like a Redis server, for a while."""
    made = Resp(answers)
    try:
        yield made
    finally:
        made.stop()
