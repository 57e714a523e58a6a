"""Every schedule of two processes, a server, losses and time: what one invalidated, the other does not keep."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from random import Random

import pytest

from pep.bus.seam import Floor
from pep.bus.session import Session
from pep.bus.subscribers import Subscriber, Subscribers
from pep.testing import FakeClock
from tests.bus.fakes import Link, Pipe, Server
from tests.proving import times

HEARTBEAT = 8.0


class Process:
    """A session that is driven step by step, on no thread, and what its subscriber was told and when."""

    def __init__(self, server: Server, clock: FakeClock) -> None:
        self.told: list[tuple[int, Floor | None]] = []
        self.moment = 0
        subscribers = Subscribers()
        subscribers.add(Subscriber(lambda floor: self._note(floor), lambda _reason: self._note(None)))
        self.session = Session(Pipe(server), subscribers, clock, heartbeat=HEARTBEAT, timeout=1.0)
        self.clock = clock
        self.link: Link | None = None

    def _note(self, floor: Floor | None) -> None:
        self.told.append((self.moment, floor))

    def subscribe(self) -> None:
        """What the listening thread does to begin with."""
        began = self.clock.boottime()
        try:
            link = self.session._wire.listen()
        except OSError as error:
            self.session._broken(error)
            return
        assert isinstance(link, Link)
        self.link = link
        self.session._listening.subscribed(began)
        self.session._settle()
        self.session._due = began

    def read(self) -> None:
        """What the listening thread does next."""
        if self.link is None or not self.session._listening.linked:
            if self.link is not None:
                self.link.close()
            self.subscribe()
            return
        try:
            self.session._take(self.link.read(0))
        except OSError as error:
            self.session._broken(error)
            self.link = None

    def speak(self, *floors: Floor) -> list[Future[None]]:
        """What the speaking thread does next."""
        letters = [(floor, Future[None]()) for floor in floors]
        self.session._say(letters)
        self.session._look()
        return [letter for _, letter in letters]


class Schedule:
    """A publishes, B listens; both beat; anything between them may break, be lost, be late or garbled."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311  a schedule is no secret
        self.clock, self.server = FakeClock(), Server()
        self.a, self.b = Process(self.server, self.clock), Process(self.server, self.clock)
        #: What A was told that the server took: floor, when, and B's moment.
        self.confirmed: list[tuple[Floor, float, int]] = []
        #: While it is not zero: how many rounds B does not read, nothing of A's reaches B.
        self.lagging = self.cut_off = 0
        self.checked = 0
        #: How many messages are read in a round: a process that reads fewer than are sent lives in the past.
        self.reads = self.random.choice([(12,), (1, 2, 12, 12), (2,), (2, 3)])

    def run(self, rounds: int) -> None:
        for _ in range(rounds):
            for strike in self.random.choices(STRIKES, WEIGHTS, k=2):
                strike(self)
                self.check()
            self.round()

    def round(self) -> None:
        """Whatever nothing keeps from happening."""
        self.clock.advance(self.random.uniform(0, 2.5))
        self.lagging, self.cut_off = max(0, self.lagging - 1), max(0, self.cut_off - 1)
        for process in (self.a, self.b) if self.random.random() < 0.5 else (self.b, self.a):
            process.speak()
            self.check()
            for _ in range(self.random.choice(self.reads)):
                self.lose_what_is_cut_off()
                if process is self.a or not self.lagging:
                    process.read()
                    self.check()

    def invalidate(self) -> None:
        self.b.moment += 1
        floors = [("action", f"{self.b.moment}-{number}") for number in range(self.random.randint(1, 3))]
        letters = self.a.speak(*floors)
        for floor, letter in zip(floors, letters, strict=True):
            if letter.exception() is None:
                self.confirmed.append((floor, self.clock.boottime(), self.b.moment))

    def give_up(self) -> None:
        letter: Future[None] = Future()
        letter.cancel()
        self.a.session._say([(("action", "given up"), letter)])

    def invalidate_there(self) -> None:
        self.b.speak(("action", "of its own"))

    def change(self) -> None:
        self.server.refusing, self.server.forgetful = (self.random.random() < 0.3 for _ in range(2))

    def mend(self) -> None:
        self.server.refusing = self.server.forgetful = False

    def restart(self) -> None:
        self.server.restart()

    def lag(self) -> None:
        self.lagging = self.random.randint(1, 6)

    def cut(self) -> None:
        self.cut_off = self.random.randint(1, 8) if self.losable() else 0

    def sleep(self) -> None:
        self.clock.suspend(self.random.choice([1.0, 7.9, 8.1, 30.0]))

    def disconnect(self) -> None:
        if self.b.link is not None:
            self.b.link.close()

    def lose(self) -> None:
        if payloads := self.losable():
            del payloads[self.random.randrange(len(payloads))]

    def garble(self) -> None:
        if payloads := self.losable():
            index = self.random.randrange(len(payloads))
            payloads[index] = payloads[index][:-1]

    def losable(self) -> deque[bytes] | None:
        return None if self.b.link is None else self.b.link.payloads

    def lose_what_is_cut_off(self) -> None:
        if self.cut_off and (payloads := self.losable()):
            kept = [payload for payload in payloads if self.a.session._id.encode() not in payload]
            payloads.clear()
            payloads.extend(kept)

    def check(self) -> None:
        """Up, and a heartbeat later, B was told of it, or dropped everything after it."""
        # Whoever was never heard of cannot be missed: see `docs/how-to/share-invalidations.md`.
        if not self.b.session.up or self.a.session._id not in self.b.session._listening._known:
            return
        now = self.clock.boottime()
        for floor, when, moment in self.confirmed:
            if now > when + HEARTBEAT:
                assert any(at >= moment and told in {None, floor} for at, told in self.b.told), floor
                self.checked += 1


#: What may happen in a round -> how often.
STRIKES, WEIGHTS = zip(
    *{
        Schedule.invalidate: 6,
        Schedule.lose: 6,
        Schedule.mend: 4,
        Schedule.cut: 2,
        Schedule.lag: 2,
        Schedule.give_up: 1,
        Schedule.invalidate_there: 1,
        Schedule.change: 1,
        Schedule.restart: 1,
        Schedule.sleep: 1,
        Schedule.disconnect: 1,
        Schedule.garble: 1,
    }.items(),
    strict=True,
)


@pytest.mark.parametrize("seed", range(8))
def test_what_was_invalidated_there_is_not_kept_here(seed: int) -> None:
    """
    Once `publish` has returned in A, and B says that it is up a heartbeat later, B holds nothing older.

    Whatever is lost, late, garbled, refused, taken but not confirmed, broken or asleep in between.
    """
    many = times(60, 5_000)
    checked = 0
    for number in range(seed * many, (seed + 1) * many):
        schedule = Schedule(number)
        schedule.run(40)
        checked += schedule.checked
    assert checked > many * 20


def test_a_calm_schedule_delivers_exactly() -> None:
    """With nothing lost, what is told is exactly what was invalidated, and both are up: the proof is of something."""
    clock, server = FakeClock(), Server()
    a, b = Process(server, clock), Process(server, clock)
    for process in (a, b):
        process.read()
        process.speak()
    for _ in range(6):
        a.read()
        b.read()
    assert a.session.state == b.session.state == "connected"
    b.told.clear()
    for number in range(100):
        (letter,) = a.speak(("action", str(number)))
        assert letter.result() is None
        clock.advance(0.5)
        for process in (b, a, b, a, b, a):
            process.speak()
            process.read()
    assert [floor for _, floor in b.told] == [("action", str(number)) for number in range(100)]
    assert a.session.up
    assert b.session.up
