from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pep import forking
from pep.bus import EVERYTHING, Bus, LocalBus, PublishError, Subscription
from pep.forking import Forks

ALICE = ("subject", "user", "alice")


class Heard:
    """A subscriber that notes what it is called with, and may fail at it."""

    def __init__(self, bus: Bus, floors: Exception | None = None, losses: Exception | None = None) -> None:
        self.floors: list[tuple[str, ...]] = []
        self.lost: list[str] = []
        self.subscription = bus.subscribe(failing(self.floors, floors), failing(self.lost, losses))


def failing(into: list[Any], error: Exception | None) -> Callable[[Any], None]:
    def take(value: Any) -> None:
        if error is not None:
            raise error
        into.append(value)

    return take


def test_it_is_a_bus() -> None:
    """A bus within a process has what a bus has."""
    bus = LocalBus()
    assert isinstance(bus, Bus)
    assert isinstance(bus.subscribe(print, print), Subscription)
    assert repr(bus) == "<LocalBus>"


def test_every_other_has_heard_when_publish_returns() -> None:
    """Delivery is synchronous and exact, and leaves out whoever published."""
    bus = LocalBus()
    first, second, third = Heard(bus), Heard(bus), Heard(bus)
    first.subscription.publish(ALICE)
    asyncio.run(second.subscription.apublish(EVERYTHING))
    assert (first.floors, second.floors, third.floors) == ([EVERYTHING], [ALICE], [ALICE, EVERYTHING])
    assert first.lost == second.lost == third.lost == []


def test_nothing_needs_a_bound() -> None:
    """What cannot be missed may be kept for as long as it would be without a bus."""
    assert Heard(LocalBus()).subscription.lifetime() is None


def test_whoever_left_is_not_called() -> None:
    """A closed subscription hears nothing, says so, and may be closed again."""
    bus = LocalBus()
    first, second = Heard(bus), Heard(bus)
    assert second.subscription.state == "connected"
    for _ in range(2):
        second.subscription.close()
    first.subscription.publish(ALICE)
    assert second.floors == []
    assert second.subscription.state == "down: closed"


def test_a_subscriber_that_fails_drops_everything() -> None:
    """Nobody is left out because somebody failed, and whoever may not have taken it drops everything."""
    bus = LocalBus()
    publisher, broken, sound = Heard(bus), Heard(bus, floors=ValueError()), Heard(bus)
    publisher.subscription.publish(ALICE)
    assert sound.floors == [ALICE]
    assert broken.lost == sound.lost == ["a subscriber failed"]
    assert publisher.lost == []


def test_a_subscriber_that_cannot_even_drop_is_told_of() -> None:
    """Where neither worked, the publisher is told, once everybody else was."""
    bus = LocalBus()
    publisher = Heard(bus)
    Heard(bus, floors=ValueError(), losses=ValueError())
    sound = Heard(bus)
    with pytest.raises(PublishError, match="could neither invalidate nor drop everything"):
        publisher.subscription.publish(ALICE)
    assert sound.floors == [ALICE]


def test_threads_lose_nothing() -> None:
    """What many threads publish at once, every other subscriber hears all of."""
    bus = LocalBus()
    heard = [Heard(bus) for _ in range(4)]
    start = threading.Barrier(4)

    def publish(number: int) -> None:
        start.wait()
        for count in range(200):
            heard[number].subscription.publish(("action", f"{number}-{count}"))

    threads = [threading.Thread(target=publish, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, one in enumerate(heard):
        expected = {("action", f"{other}-{count}") for other in range(4) if other != number for count in range(200)}
        assert len(one.floors) == len(expected)
        assert set(one.floors) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_drops_everything_once() -> None:
    """Another thread may have told some when the process forked, and not yet others; whoever left is not called."""
    bus = LocalBus()
    staying, gone = Heard(bus), Heard(bus)
    gone.subscription.close()
    child = os.fork()
    if child == 0:
        ok = staying.lost == ["this process was forked"] and not gone.lost
        os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert staying.lost == []


def test_hooks_do_not_keep_their_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs in a forked child is called as long as its object lives."""
    forks = Forks()
    monkeypatch.setattr(forking, "FORKS", forks)
    heard = Heard(LocalBus())
    forks.in_child()
    assert heard.lost == ["this process was forked"]
    del heard
    forks.in_child()


def test_a_fork_does_not_call_who_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A subscription that was closed drops nothing when the process forks."""
    forks = Forks()
    monkeypatch.setattr(forking, "FORKS", forks)
    heard = Heard(LocalBus())
    heard.subscription.close()
    forks.in_child()
    assert heard.lost == []
