"""A TCP proxy on loopback that hangs, cuts, and leaves messages out, as the test says."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

#: One message as a Redis server sends it to a subscriber.
_MESSAGE = re.compile(rb"\*3\r\n\$7\r\nmessage\r\n\$\d+\r\n[^\r]*\r\n\$\d+\r\n([^\r]*)\r\n")


class Proxy:
    """Forwards connections to a port of this machine, until it is closed."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._flowing = threading.Event()
        self._flowing.set()
        #: Tells of each message to a subscriber whether it is left out.
        self.losing: Callable[[bytes], bool] = lambda _payload: False
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._spawn(self._accept)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def hang(self) -> None:
        """Forward nothing more, in either direction, and keep every connection open."""
        self._flowing.clear()

    def flow(self) -> None:
        """Forward again, also what was held up."""
        self._flowing.set()

    def cut(self) -> None:
        """Close every connection there is."""
        for one in self._sockets:
            _end(one)

    def close(self) -> None:
        """Close everything, and wait for its threads."""
        _end(self._listener)
        self.flow()
        self.cut()
        for thread in self._threads:
            thread.join()
        for one in (self._listener, *self._sockets):
            one.close()

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
                there = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                if self._listener.fileno() < 0 or not _listening(self._listener):
                    return
                here.close()
                continue
            self._sockets += [here, there]
            self._spawn(self._pump, here, there, False)
            self._spawn(self._pump, there, here, True)

    def _pump(self, source: socket.socket, sink: socket.socket, filtered: bool) -> None:
        with suppress(OSError):
            while chunk := source.recv(65_536):
                self._flowing.wait()
                sink.sendall(_MESSAGE.sub(self._kept, chunk) if filtered else chunk)
        _end(source)
        _end(sink)

    def _kept(self, found: re.Match[bytes]) -> bytes:
        return b"" if self.losing(found[1]) else found[0]


def _end(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


def _listening(one: socket.socket) -> bool:
    return bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
