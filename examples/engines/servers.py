"""
Servers on this machine for the length of a block: Cerbos, and the todo application's policies as an AuthZEN server.

Each takes a free port of the loopback interface, and is ended by its process id.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENGINES = HERE.parents[1] / ".engines" / "node_modules"
#: The environment of processes: the todo application's modules are on their path.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HERE.parent / "todo")}
#: How long one may take to start, in seconds.
PATIENCE = 30.0


class Unavailable(Exception):  # noqa: N818  it is what the reader is told
    """An engine that is not on this machine, and what to do about it."""


class Server:
    """A process that answers on a port, and can be killed and started again."""

    def __init__(self, command: Callable[[int], Sequence[str]], healthy: str) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command, self._healthy = command(self.port), self.url + healthy
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return once it answers."""
        self._process = subprocess.Popen(  # noqa: S603  our own
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
        )
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self._process.poll() is None:
            try:
                with urllib.request.urlopen(self._healthy, timeout=1):  # noqa: S310  on loopback
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.05)
        self.kill()
        message = f"`{self._command[0]}` does not start"
        raise Unavailable(message)

    def kill(self) -> None:
        """End it at once, and wait for that."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


def cerbos_program() -> Path:
    """Find what `make engines` installs."""
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"cerbos-{sys.platform}-{machine}"
    found = Path(os.environ.get("PEP_CERBOS_SERVER") or ENGINES / "@cerbos" / name / name)
    if not found.is_file():
        message = "Cerbos is not here; run `make engines`"
        raise Unavailable(message)
    return found


@contextmanager
def cerbos() -> Iterator[Server]:
    """Serve the policies in `cerbos/`."""
    program = cerbos_program()
    with tempfile.TemporaryDirectory() as folder:
        configuration = Path(folder, "conf.json")

        def command(port: int) -> list[str]:
            configuration.write_text(
                json.dumps(
                    {
                        "server": {"httpListenAddr": f"127.0.0.1:{port}", "grpcListenAddr": f"unix:{folder}/grpc.sock"},
                        "storage": {"driver": "disk", "disk": {"directory": str(HERE / "cerbos")}},
                        "telemetry": {"disabled": True},
                    }
                )
            )
            return [str(program), "server", f"--config={configuration}", "--debug-listen-addr="]

        with _running(Server(command, "/_cerbos/health")) as server:
            yield server


@contextmanager
def authzen() -> Iterator[Server]:
    """Serve the policies of the todo application over AuthZEN: see `serve.py`."""
    command = [sys.executable, str(HERE / "serve.py")]
    with _running(Server(lambda port: [*command, str(port)], "/.well-known/authzen-configuration")) as server:
        yield server


@contextmanager
def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
