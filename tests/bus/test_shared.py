from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence

import pytest

from pep import forking
from pep.bus import PublishError
from pep.bus.shared import SharedBus
from pep.forking import Forks
from pep.testing import FakeClock
from tests.bus.fakes import GatedPipe

ALICE = ("subject", "user", "alice")


def bus_over(pipe: GatedPipe) -> SharedBus:
    pipe.links.put(ConnectionRefusedError())
    return SharedBus(lambda: pipe, FakeClock(), heartbeat=0.2, timeout=1.0, ttl=60.0)


def test_a_forked_child_drops_everything_and_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes part drops everything when the process forks, and whoever left is not called."""
    forks = Forks()
    monkeypatch.setattr(forking, "FORKS", forks)
    lost: list[str] = []
    subscription = bus_over(GatedPipe()).subscribe(print, lost.append)
    forks.in_child()
    assert lost == ["this process was forked"]
    subscription.close()
    forks.in_child()
    assert lost == ["this process was forked"]


def test_a_session_is_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """In another process the session of this one is not used: it has none, and then one of its own."""
    pipes: list[GatedPipe] = []

    def wire() -> GatedPipe:
        pipes.append(GatedPipe())
        pipes[-1].links.put(ConnectionRefusedError())
        return pipes[-1]

    bus = SharedBus(wire, FakeClock(), heartbeat=0.2, timeout=1.0, ttl=60.0)
    subscription = bus.subscribe(print, print)
    first = bus._own()
    assert first is not None
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(os, "getpid", lambda: -1)
        assert bus.state == "down: not subscribed in this process"
        subscription.publish(ALICE)
        assert len(pipes) == 2
        second = bus._own()
        assert second is not None
        assert second._id != first._id
        subscription.close()
        assert pipes[1].closed
    first.close()
    assert pipes[0].closed


def test_entries_live_no_longer_than_they_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """A time to live that is shorter than a heartbeat bounds entries while it is down, too."""
    bus = SharedBus(GatedPipe, FakeClock(), heartbeat=5.0, timeout=1.0, ttl=2.0)
    monkeypatch.setattr(bus, "_started", lambda: None)
    assert bus.subscribe(print, print).lifetime() == 2.0


def test_what_has_left_does_not_come_back() -> None:
    """A closed subscription starts nothing, whatever it is asked."""
    pipe = GatedPipe()
    bus = bus_over(pipe)
    subscription = bus.subscribe(print, print)
    subscription.close()
    assert pipe.closed
    assert subscription.lifetime() == 0.2
    with pytest.raises(PublishError, match="the subscription is closed"):
        subscription.publish(ALICE)
    assert bus.state == "down: not subscribed in this process"


def test_nobody_waits_longer_than_the_timeout() -> None:
    """A wire that holds up the speaker holds up neither world's caller for longer than it was told to."""
    let_go = threading.Event()

    class Stuck(GatedPipe):
        def send(self, payloads: Sequence[bytes], /) -> list[int]:
            let_go.wait(30)
            return super().send(payloads)

    pipe = Stuck()
    pipe.links.put(ConnectionRefusedError())
    subscription = SharedBus(lambda: pipe, FakeClock(), heartbeat=0.2, timeout=0.02, ttl=60.0).subscribe(print, print)
    try:
        with pytest.raises(PublishError, match=r"no answer in 0\.02 s"):
            subscription.publish(ALICE)
        with pytest.raises(PublishError, match=r"no answer in 0\.02 s"):
            asyncio.run(subscription.apublish(ALICE))
    finally:
        let_go.set()
        subscription.close()
