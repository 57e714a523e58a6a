from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from pep.bus import PublishError
from pep.bus.messages import Message, decode
from pep.bus.session import MAX_BATCH, Session
from pep.bus.subscribers import Subscriber, Subscribers
from pep.testing import FakeClock
from tests.bus.fakes import GatedLink, GatedPipe

ALICE = ("subject", "user", "alice")
OTHER = "bbbbbbbbbbbbbbbb"
#: Short, since threads wait a quarter of it before they try again; time itself is moved by the tests.
HEARTBEAT = 0.2
#: How long a test waits for what must happen, in seconds.
PATIENCE = 30


class World:
    """A session with both its threads, on a wire that does what the test says."""

    def __init__(self) -> None:
        self.clock, self.wire, self.subscribers = FakeClock(), GatedPipe(), Subscribers()
        #: What the subscriber was called with, as it comes.
        self.told: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.on_floor: Any = None
        self.on_lost: Any = None
        self.subscribers.add(Subscriber(self._floor, self._lost))
        self.session = Session(self.wire, self.subscribers, self.clock, heartbeat=HEARTBEAT, timeout=1.0)

    def _floor(self, floor: object) -> None:
        self.told.put(floor)
        if self.on_floor is not None:
            self.on_floor(floor)

    def _lost(self, reason: str) -> None:
        self.told.put(reason)
        if self.on_lost is not None:
            self.on_lost(reason)

    def connected(self) -> GatedLink:
        """Start, and hear its own first heartbeat."""
        self.session.start()
        return self.linked()

    def linked(self) -> GatedLink:
        link = GatedLink()
        self.wire.links.put(link)
        assert self.next() == "subscribed anew"
        self.settled(link)
        return link

    def next(self) -> Any:
        return self.told.get(timeout=PATIENCE)

    def settled(self, link: GatedLink) -> None:
        """Return once the listening thread has taken everything that was put before."""
        taken = threading.Event()
        link.next.put(taken)
        assert taken.wait(PATIENCE)

    def hear(self, link: GatedLink, sequence: int, **said: Any) -> None:
        link.next.put(Message(OTHER, sequence, **said).encode())

    def said(self) -> Message:
        """What is sent next, heartbeats left out."""
        while True:
            message = decode(self.wire.sent.get(timeout=PATIENCE))
            assert message is not None
            if message.beat is None:
                return message


@pytest.fixture
def world() -> Iterator[World]:
    """A session that is not started yet; it is closed after the test."""
    world = World()
    yield world
    world.wire.links.put(ConnectionRefusedError())
    if world.wire.link is not None:
        world.wire.link.next.put(None)
    world.session.close()
    assert not any(thread.is_alive() for thread in world.session._threads)


def test_it_is_up_once_it_hears_itself(world: World) -> None:
    """A session is down from the start, and up once its own heartbeat came back and everything was dropped."""
    assert world.session.state == "down since 2023-11-14T22:13:20+00:00: not subscribed yet"
    assert not world.session.up
    world.connected()
    assert world.session.state == "connected"
    assert world.session.up


def test_what_is_heard_is_handed_on(world: World) -> None:
    """A floor reaches the subscriber; a gap drops everything, and leaves it up."""
    link = world.connected()
    world.hear(link, 1, floor=ALICE)
    assert world.next() == ALICE
    world.hear(link, 3, floor=ALICE)
    assert world.next() == ALICE
    assert "lost" in world.next()
    world.settled(link)
    assert world.session.up


def test_what_is_published_is_sent_in_order(world: World) -> None:
    """Messages are numbered from one on, in the order in which they were handed over."""
    world.connected()
    letters = [world.session.publish(("action", str(number))) for number in range(MAX_BATCH + 20)]
    for number, letter in enumerate(letters):
        letter.result(PATIENCE)
        said = world.said()
        assert (said.sequence, said.floor) == (number + 1, ("action", str(number)))


def test_what_could_not_be_sent_is_told_of_and_counts(world: World) -> None:
    """Whoever publishes is told; the next heartbeat counts it, so that the others miss it and drop everything."""
    world.connected()
    world.wire.error = ConnectionResetError("redis://:secret@example.org")
    with pytest.raises(PublishError, match="may not have heard of it: `ConnectionResetError`") as raised:
        world.session.publish(ALICE).result(PATIENCE)
    assert "secret" not in str(raised.value)
    world.wire.error = None
    world.session.publish(ALICE).result(PATIENCE)
    assert world.said().sequence == 2


def test_what_nobody_waits_for_is_not_sent_but_counts(world: World) -> None:
    """An invalidation that was given up before it was sent is a gap that the others see."""
    given_up: Future[None] = Future()
    given_up.cancel()
    letter: Future[None] = Future()
    world.session._say([(ALICE, given_up), (ALICE, letter)])
    letter.result(0)
    assert world.said().sequence == 2


def test_what_not_even_it_itself_heard_went_elsewhere(world: World) -> None:
    """Subscribed, it would have heard its own message; a server that reached nobody is another one."""
    world.wire.reached = 0
    letter: Future[None] = Future()
    world.session._say([(ALICE, letter)])
    letter.result(0)
    world.connected()
    with pytest.raises(PublishError, match="went to another server"):
        world.session.publish(ALICE).result(PATIENCE)


def test_a_subscription_that_breaks_drops_everything_twice(world: World) -> None:
    """Once when it breaks, once when it is mended; in between it is down, and says since when and why."""
    link = world.connected()
    world.clock.advance(0.1)
    link.next.put(ConnectionResetError())
    assert world.next() == "`ConnectionResetError`"
    assert world.session.state == "down since 2023-11-14T22:13:20+00:00: `ConnectionResetError`"
    world.wire.links.put(ConnectionRefusedError())
    world.linked()
    assert link.closed
    assert world.session.up


def test_silence_breaks_the_subscription(world: World) -> None:
    """Time passes and nothing is heard: it is down by the clock alone, and subscribes anew."""
    link = world.connected()
    world.wire.error = ConnectionRefusedError()
    world.clock.suspend(HEARTBEAT + 0.01)
    assert not world.session.up
    assert world.next() == "its own heartbeat was not heard in time"
    world.wire.error = None
    link.next.put(None)
    world.linked()
    assert link.closed


def test_the_speaker_notices_what_the_listener_cannot(world: World) -> None:
    """While the listening thread is held up in a read, silence is noticed all the same."""
    link = world.connected()
    while not link.next.empty():
        link.next.get()
    world.wire.error = ConnectionRefusedError()
    world.clock.advance(HEARTBEAT + 0.01)
    assert world.next() == "its own heartbeat was not heard in time"


def test_a_subscriber_that_is_late_drops_everything(world: World) -> None:
    """While a subscriber takes longer than a heartbeat, others are not heard: what comes after it is too late."""
    link = world.connected()
    world.wire.error = ConnectionRefusedError()
    world.on_floor = lambda _floor: world.clock.advance(HEARTBEAT + 0.01)
    world.hear(link, 1, floor=ALICE)
    assert world.next() == ALICE
    assert world.next() == "its own heartbeat was not heard in time"


def test_a_subscriber_that_fails_drops_everything(world: World) -> None:
    """A floor that was not taken drops everything; a loss that was not taken is owed until it is, and not up."""
    failures = [ValueError(), ValueError(), ValueError()]

    def fail(_value: object) -> None:
        if failures:
            assert not world.session.up or len(failures) == 3
            raise failures.pop()

    link = world.connected()
    world.on_floor = world.on_lost = fail
    world.hear(link, 1, floor=ALICE)
    assert world.next() == ALICE
    assert [world.next() for _ in range(2)] == ["a subscriber failed"] * 2
    link.next.put(None)
    assert world.next() == "a subscriber failed"
    world.settled(link)
    assert world.session.up


def test_closing_says_farewell_and_ends_everything(world: World) -> None:
    """The last message lets others forget it without dropping anything; threads and connections are gone."""
    link = world.connected()
    world.session.publish(ALICE).result(PATIENCE)
    world.session.close()
    assert world.said().floor == ALICE
    assert world.said() == Message(world.session._id, 1, bye=True)
    assert link.closed
    assert world.wire.closed
    with pytest.raises(PublishError, match="the bus was closed"):
        world.session.publish(ALICE).result(0)


def test_a_subscriber_may_close_it(world: World) -> None:
    """A thread of the session that closes it does not wait for itself."""
    link = world.connected()
    world.on_floor = lambda _floor: world.session.close()
    world.hear(link, 1, floor=ALICE)
    assert world.next() == ALICE
    world.session._threads[0].join(PATIENCE)
    assert link.closed
