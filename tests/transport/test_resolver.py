"""Names: looked up within the deadline, on few threads, and never elsewhere than they say."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pep.errors import PDPError, PDPInsecure, PDPOverloaded, PDPTimeout, PDPUnavailable
from pep.transport import HTTPTransport
from pep.transport.resolver import MAX_LOOKUPS
from tests.misbehaving import Misbehaving, replies
from tests.transport.asking import NEVER, SOON, WORLDS, ask

worlds = pytest.mark.parametrize("world", WORLDS)
OK = replies(body={"decision": True})
NAME = "https://pdp.example"
LOOKED_UP = socket.getaddrinfo


def naming(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    """Have every name but literal addresses looked up by a function."""

    def look_up(host: str, port: int, **options: Any) -> Any:
        if options.get("flags"):
            return LOOKED_UP(host, port, **options)
        return answer(host, port)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def raising(error: BaseException) -> Any:
    def answer(_host: str, _port: int) -> Any:
        raise error

    return answer


@worlds
def test_a_name_is_looked_up(world: str) -> None:
    """A name that is no address leads where the system says."""
    with Misbehaving(OK) as server, HTTPTransport() as sender:
        url = f"http://localhost:{server.port}"
        assert ask(sender, url, world).status == 200


@worlds
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), PDPUnavailable),
        (OSError(5, "no"), PDPUnavailable),
        (UnicodeError("label too long"), PDPError),
        (SystemExit(), PDPError),
    ],
    ids=repr,
)
def test_a_name_that_leads_nowhere(
    world: str, error: BaseException, kind: type[PDPError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name nobody knows is an outage; one that cannot be looked up at all is none."""
    naming(monkeypatch, raising(error))
    with HTTPTransport() as sender, pytest.raises(PDPError) as found:
        ask(sender, NAME, world)
    assert type(found.value) is kind


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    opened = threading.Event()
    yield opened
    opened.set()


@worlds
def test_a_look_up_that_hangs_is_cut_at_the_deadline(
    world: str, monkeypatch: pytest.MonkeyPatch, gate: threading.Event
) -> None:
    """The system's look-up cannot be interrupted: it is left behind, and so many at most."""
    naming(monkeypatch, lambda _host, _port: gate.wait(SOON) and [])
    with HTTPTransport() as sender:
        for _ in range(MAX_LOOKUPS):
            with pytest.raises(PDPTimeout):
                ask(sender, NAME, world, timeout=0.02)
        with pytest.raises(PDPOverloaded):
            ask(sender, NAME, world)


def test_no_thread_to_be_had_is_overload(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without room for a thread refuses, and what was set aside for it is free again."""

    def start(_thread: object) -> None:
        message = "can't start new thread"
        raise RuntimeError(message)

    monkeypatch.setattr(threading.Thread, "start", start)
    with HTTPTransport() as sender:
        for _ in range(MAX_LOOKUPS + 1):
            with pytest.raises(PDPOverloaded, match="thread"):
                ask(sender, NAME)


@worlds
def test_this_machines_name_leads_nowhere_else(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked in plain text because it is on this machine is not asked elsewhere, whatever a name server says."""
    naming(monkeypatch, lambda _host, port: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))])
    with HTTPTransport() as sender, pytest.raises(PDPInsecure):
        ask(sender, "http://localhost:8181", world, timeout=NEVER)
