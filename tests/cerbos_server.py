"""A real Cerbos server on a free loopback port, for tests of what asks one."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pep.frozen import EMPTY
from tests.redis_server import free_port

#: Names the server's program where `make engines` did not put it.
VARIABLE = "PEP_CERBOS_SERVER"

#: How often another port is tried, where somebody else was quicker.
TRIES = 5

#: How long one may take to start, in seconds, on a busy machine.
PATIENCE = 30.0

#: How often a starting server is asked whether it is up, in seconds.
PAUSE = 0.02


class CerbosServer:
    """
    A server of some policies, which phones nobody.

    It answers the native API and AuthZEN on one port. Killed and started again it has that port again.

    Args:
        program: What is started.

        folder: Where its configuration and policies lie.

        policies: File name → a policy, as JSON-like values.

        schemas: The same of schemas; a policy refers to ``cerbos:///NAME.json``.

        extra: What else its configuration says, such as ``{"schema": {"enforcement": "reject"}}``.
    """

    def __init__(
        self,
        program: str,
        folder: Path,
        policies: Mapping[str, Any],
        schemas: Mapping[str, Any],
        extra: Mapping[str, Any],
    ) -> None:
        self._program, self._folder, self._extra = program, folder, extra
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        (folder / "policies" / "_schemas").mkdir(parents=True)
        for name, told in policies.items():
            (folder / "policies" / f"{name}.json").write_text(json.dumps(told))
        for name, told in schemas.items():
            (folder / "policies" / "_schemas" / f"{name}.json").write_text(json.dumps(told))
        self.start()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and return once it is healthy."""
        for _ in range(TRIES):
            port = self.port or free_port()
            if self._started(port):
                self.port = port
                return
        log = (self._folder / "log").read_text(errors="replace")[-2000:]
        message = f"`{self._program}` does not start: {log}"
        raise RuntimeError(message)

    def kill(self) -> None:
        """End it at once, by its process id, and wait for that."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _started(self, port: int) -> bool:
        configuration = self._folder / "conf.json"
        configuration.write_text(json.dumps(self._configuration(port)))
        with (self._folder / "log").open("wb") as log:
            command = [self._program, "server", f"--config={configuration}", "--log-level=error"]
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=self._folder)
        end = time.monotonic() + PATIENCE
        while self._process.poll() is None and time.monotonic() < end:
            if _healthy(port):
                return True
            time.sleep(PAUSE)
        self.kill()
        return False

    def _configuration(self, port: int) -> dict[str, Any]:
        return {
            "server": {
                "httpListenAddr": f"127.0.0.1:{port}",
                # There is no turning it off; a socket of the folder is in nobody's way.
                "grpcListenAddr": f"unix:{self._folder / 'grpc.sock'}",
                **self._extra.get("server", {}),
            },
            "storage": {
                "driver": "disk",
                "disk": {"directory": str(self._folder / "policies"), "watchForChanges": False},
            },
            "telemetry": {"disabled": True},
            "audit": {"enabled": False},
            **{name: told for name, told in self._extra.items() if name != "server"},
        }


def resource_policy(kind: str, *rules: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Write the policy of one kind of resource."""
    told = {"resource": kind, "version": "default", "rules": list(rules), **more}
    return {"apiVersion": "api.cerbos.dev/v1", "resourcePolicy": told}


def rule(
    *actions: str,
    when: str | None = None,
    roles: tuple[str, ...] = ("*",),
    deny: bool = False,
    name: str | None = None,
    output: str | None = None,
) -> dict[str, Any]:
    """
    Write one rule.

    Args:
        actions: What it is about.

        when: Its condition, in CEL.

        roles: Whose it is.

        deny: Whether it denies.

        name: What its outputs are called after.

        output: What it tells when it applies, in CEL.
    """
    told: dict[str, Any] = {"actions": list(actions), "roles": list(roles)}
    told["effect"] = "EFFECT_DENY" if deny else "EFFECT_ALLOW"
    told |= {} if when is None else {"condition": {"match": {"expr": when}}}
    told |= {} if name is None else {"name": name}
    return told | ({} if output is None else {"output": {"when": {"ruleActivated": output}}})


def program() -> str | None:
    """Find the server's program: named by the variable, or where `make engines` puts it."""
    named = os.environ.get(VARIABLE)
    if named:
        return named
    kind = (
        f"cerbos-{sys.platform}-{ {'x86_64': 'x64', 'aarch64': 'arm64'}.get(platform.machine(), platform.machine()) }"
    )
    packaged = Path(__file__).resolve().parent.parent / ".engines" / "node_modules" / "@cerbos" / kind / kind
    return str(packaged) if packaged.is_file() else None


@contextmanager
def cerbos_servers() -> Iterator[Callable[..., CerbosServer]]:
    """Start servers, as `CerbosServer` takes policies, schemas and extras; what still runs at the end is killed."""
    found = program()
    if found is None:
        pytest.skip(f"no Cerbos server: run `make engines`, or name the program in {VARIABLE}")
    with ExitStack() as stack:

        def start(
            policies: Mapping[str, Any], schemas: Mapping[str, Any] = EMPTY, extra: Mapping[str, Any] = EMPTY
        ) -> CerbosServer:
            # A socket's path may not be long, as pytest's are.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cerbos-")))
            server = CerbosServer(found, folder, policies, schemas, extra)
            stack.callback(server.kill)
            return server

        yield start


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_cerbos/health", timeout=PATIENCE) as reply:
            return bool(reply.status == 200)
    except (OSError, urllib.error.URLError):
        return False
