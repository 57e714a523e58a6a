from __future__ import annotations

from typing import Any

import pytest

from pep.bus import listening
from pep.bus.listening import Listening
from pep.bus.messages import Message

ME, OTHER, THIRD = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "cccccccccccccccc"
SILENCE = 10.0
ALICE = ("subject", "user", "alice")


class Told:
    """What a listening was told, and what it owed, by a clock that is an argument."""

    def __init__(self) -> None:
        self.listening = Listening(ME, SILENCE, 0.0)
        self.beats = 0

    def beat(self, now: float, sent: float | None = None, sequence: int = 0) -> None:
        """Hear its own next heartbeat."""
        self.beats += 1
        self.listening.sent(self.beats, now if sent is None else sent)
        self.hear(now, publisher=ME, sequence=sequence, beat=self.beats)

    def hear(self, now: float, publisher: str = OTHER, sequence: int = 0, **said: Any) -> object:
        return self.listening.heard(Message(publisher, sequence, **said).encode(), now)

    def owed(self) -> str | None:
        """What was owed; it is dropped with that."""
        reason = self.listening.owed
        self.listening.dropped()
        return reason

    def connected(self, now: float = 0.0) -> Told:
        """Subscribe, and hear its own first heartbeat."""
        self.listening.subscribed(now)
        self.beat(now)
        assert self.owed() is not None
        assert self.listening.up(now)
        return self


def test_it_is_down_until_it_hears_itself() -> None:
    """A confirmed subscription alone is not up; its own heartbeat is, once everything was dropped."""
    told = Told()
    assert told.listening.why() == "not subscribed yet"
    told.listening.subscribed(1.0)
    assert not told.listening.up(1.0)
    assert told.owed() is None
    told.hear(1.0, beat=1)
    assert not told.listening.up(1.0)
    told.beat(2.0)
    assert not told.listening.up(2.0)
    assert told.listening.why() == "subscribed anew"
    assert told.owed() == "subscribed anew"
    assert told.listening.up(2.0)


def test_a_floor_is_handed_on() -> None:
    """What another process invalidates is handed on, its heartbeats and farewell are not."""
    told = Told().connected()
    assert told.hear(1.0, sequence=1, floor=ALICE) == ALICE
    assert told.hear(1.0, sequence=1, beat=1) is None
    assert told.hear(1.0, sequence=2, floor=("all",)) == ("all",)
    assert told.hear(1.0, sequence=2, bye=True) is None
    assert told.owed() is None


def test_its_own_messages_change_nothing() -> None:
    """It acted before it published; what it published before it subscribed is nobody's loss."""
    told = Told().connected()
    told.listening.subscribed(1.0)
    assert told.hear(1.0, publisher=ME, sequence=7, floor=ALICE) is None
    told.owed()
    assert told.hear(1.0, publisher=ME, sequence=8, floor=ALICE) is None
    assert told.owed() is None
    told.hear(1.0, publisher=ME, sequence=10, floor=ALICE)
    assert "lost" in str(told.owed())


#: What is heard of another process in turn -> whether that drops everything.
HEARD: list[tuple[list[dict[str, Any]], bool]] = [
    ([{"sequence": 0, "beat": 1}], False),
    ([{"sequence": 1, "floor": ALICE}], False),
    ([{"sequence": 0, "bye": True}], False),
    ([{"sequence": 1, "beat": 1}], True),
    ([{"sequence": 2, "floor": ALICE}], True),
    ([{"sequence": 1, "bye": True}], True),
    ([{"sequence": 0, "beat": 1}, {"sequence": 1, "floor": ALICE}, {"sequence": 1, "beat": 2}], False),
    ([{"sequence": 0, "beat": 1}, {"sequence": 2, "floor": ALICE}], True),
    ([{"sequence": 0, "beat": 1}, {"sequence": 1, "beat": 2}], True),
    ([{"sequence": 1, "floor": ALICE}, {"sequence": 1, "floor": ALICE}], True),
    ([{"sequence": 1, "floor": ALICE}, {"sequence": 0, "beat": 1}], True),
    ([{"sequence": 1, "floor": ALICE}, {"sequence": 1, "bye": True}], False),
    ([{"sequence": 1, "floor": ALICE}, {"sequence": 2, "bye": True}], True),
    ([{"sequence": 1, "floor": ALICE}, {"sequence": 1, "bye": True}, {"sequence": 1, "beat": 1}], True),
]


@pytest.mark.parametrize(("heard", "lost"), HEARD)
def test_what_is_missed_shows_in_the_count(heard: list[dict[str, Any]], lost: bool) -> None:
    """A count that skips, repeats, goes back or does not begin at its beginning drops everything; once."""
    told = Told().connected()
    for said in heard:
        told.hear(1.0, **said)
    assert (told.owed() is not None) is lost
    assert told.listening.up(1.0)
    sequence = heard[-1]["sequence"]
    if not heard[-1].get("bye"):
        told.hear(1.0, sequence=sequence + 1, floor=ALICE)
        assert told.owed() is None


@pytest.mark.parametrize("payload", [b"", b"{}", None])
def test_what_cannot_be_read_drops_everything(payload: object) -> None:
    """A message that is none may have been an invalidation."""
    told = Told().connected()
    assert told.listening.heard(payload, 1.0) is None
    assert told.owed() == "a message could not be read"
    assert told.listening.linked


def test_its_own_silence_ends_the_subscription() -> None:
    """Not to hear itself in time is to hear nobody: it is down at once by the clock, and tells when it is looked at."""
    told = Told().connected()
    assert told.listening.up(SILENCE)
    assert not told.listening.up(SILENCE + 0.1)
    assert told.listening.why() == "nothing was heard in time"
    told.listening.tick(SILENCE)
    assert told.owed() is None
    told.listening.tick(SILENCE + 0.1)
    assert told.owed() == "its own heartbeat was not heard in time"
    assert not told.listening.linked
    assert told.listening.since == SILENCE + 0.1


def test_a_subscription_that_never_hears_itself_ends_too() -> None:
    """What is published here may go to another server than is listened to."""
    told = Told()
    told.listening.subscribed(0.0)
    told.listening.tick(SILENCE + 0.1)
    assert not told.listening.linked
    assert told.owed() is None


def test_a_heartbeat_is_as_old_as_its_sending() -> None:
    """Behind a slow network it proves only what had been published when it was sent."""
    told = Told().connected()
    told.beat(9.0, sent=1.0)
    assert told.listening.up(11.0)
    assert not told.listening.up(11.1)


def test_heartbeats_out_of_order_or_unknown_prove_nothing() -> None:
    """Neither an older heartbeat than was heard already, nor one it never sent, makes anything fresh."""
    told = Told().connected()
    told.listening.sent(8, 3.0)
    told.listening.sent(9, 4.0)
    told.hear(5.0, publisher=ME, beat=9)
    told.hear(5.0, publisher=ME, beat=8)
    told.hear(5.0, publisher=ME, beat=77)
    assert told.listening.up(14.0)
    assert not told.listening.up(14.1)


def test_what_is_heard_too_late_counts_as_missed() -> None:
    """A message after a silence, such as one behind a late subscriber, does not hide the silence."""
    told = Told().connected()
    assert told.hear(SILENCE + 1, sequence=1, floor=ALICE) is None
    assert told.owed() == "its own heartbeat was not heard in time"


def test_another_process_that_falls_silent_drops_everything_once() -> None:
    """Whether it died or is cut off is not known; it is forgotten, and counts as new when it comes back."""
    told = Told().connected()
    told.hear(0.0, beat=1)
    told.hear(0.0, publisher=THIRD, beat=1)
    told.beat(6.0)
    told.hear(6.0, publisher=THIRD, beat=2)
    told.listening.tick(SILENCE)
    assert told.owed() is None
    told.beat(SILENCE + 0.1)
    assert told.owed() == "the heartbeat of another process was not heard in time"
    assert told.listening.up(SILENCE + 0.1)
    told.hear(SILENCE + 0.2, sequence=1, beat=9)
    assert "before it was first heard" in str(told.owed())


def test_the_silence_of_another_counts_from_what_is_certain() -> None:
    """A heartbeat that came late was taken by the server no later than it is counted from."""
    told = Told().connected()
    told.hear(8.0, beat=1)
    told.beat(9.0)
    told.listening.tick(SILENCE + 0.1)
    assert "another process" in str(told.owed())


def test_a_broken_subscription_drops_everything_twice() -> None:
    """Once when it breaks, once when it is mended: what was stored meanwhile may be older than what was missed."""
    told = Told().connected()
    told.listening.broken("`ConnectionError`", 5.0)
    assert told.owed() == "`ConnectionError`"
    told.listening.broken("`TimeoutError`", 6.0)
    assert told.owed() is None
    assert (told.listening.why(), told.listening.since) == ("`TimeoutError`", 5.0)
    assert told.hear(7.0, sequence=1, floor=ALICE) is None
    told.listening.subscribed(8.0)
    assert told.owed() is None
    told.beat(9.0)
    assert told.owed() == "subscribed anew"


def test_to_subscribe_twice_is_a_break() -> None:
    """A subscription that replaces a living one leaves a gap that nobody counted."""
    told = Told().connected()
    told.listening.subscribed(1.0)
    assert told.owed() == "subscribed anew"
    assert not told.listening.up(1.0)


def test_it_is_not_up_until_everything_was_dropped() -> None:
    """What is owed stays owed until it was done, by its first reason."""
    told = Told().connected()
    told.listening.failed("a subscriber failed")
    told.listening.failed("again")
    assert not told.listening.up(0.0)
    assert told.listening.why() == "a subscriber failed"
    assert told.owed() == "a subscriber failed"
    assert told.listening.up(0.0)


def test_who_floods_it_with_names_drops_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishers are bounded in number: beyond it they are forgotten, and everything is dropped."""
    monkeypatch.setattr(listening, "MAX_PUBLISHERS", 3)
    told = Told().connected()
    for name in ("1", "2"):
        told.hear(0.0, publisher=name * 16, beat=1)
    assert told.owed() is None
    told.hear(0.0, publisher="3" * 16, beat=1)
    assert told.owed() == "more processes publish than can be told apart"
    assert len(told.listening._known) == 1


def test_heartbeats_in_the_air_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats that never come back are forgotten, the oldest first."""
    monkeypatch.setattr(listening, "MAX_BEATS", 2)
    told = Told().connected()
    for beat in (11, 12, 13):
        told.listening.sent(beat, 1.0)
    assert list(told.listening._beats) == [12, 13]
