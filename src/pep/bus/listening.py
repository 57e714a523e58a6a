"""
The receiving side's bookkeeping: what was heard, what may have been missed, and until when it can tell.

A state machine free of I/O; it is told what happens and when. Imports the messages only. Times
are seconds on a clock that includes suspend.

Why it holds: a server sends one subscriber everything in the order in which it took it. So when
a process hears its own heartbeat, it has heard all that the server had taken when that was
*sent*. Whoever else publishes counts what it published in each heartbeat, so that a message
that got lost shows at the next one.
"""

from __future__ import annotations

from typing import Final

import attrs

from pep.bus.messages import Message, decode
from pep.bus.seam import Floor

#: How many publishers are kept apart before all are forgotten, which drops everything.
MAX_PUBLISHERS: Final = 1_024

#: How many of its own heartbeats may be in the air.
MAX_BEATS: Final = 64

#: Why it is down to begin with.
UNSUBSCRIBED: Final = "not subscribed yet"

_NEVER: Final = float("-inf")


@attrs.define(eq=False)
class Listening:
    """
    What one process knows of a bus.

    Args:
        own: Its own publisher id.

        silence: How long nothing may be heard before everything is dropped, in seconds.

        since: When this began.
    """

    own: str
    silence: float
    since: float
    #: Why everything has to be dropped, until `dropped` says that it was.
    owed: str | None = None
    #: Why it is down; None while it is not.
    down: str | None = UNSUBSCRIBED
    #: Whether the subscription it was told of is still worth reading.
    linked: bool = attrs.field(default=False, init=False)
    # All that the server took before this was heard.
    _fresh: float = attrs.field(default=_NEVER, init=False)
    _until: float = attrs.field(default=_NEVER, init=False)
    # Its heartbeats in the air, number -> when it was sent.
    _beats: dict[int, float] = attrs.field(factory=dict, init=False)
    # Publisher -> how many it had published, and what `_fresh` was when it was last heard.
    _known: dict[str, tuple[int, float]] = attrs.field(factory=dict, init=False)

    # What happens.

    def subscribed(self, began: float) -> None:
        """Note that a subscription was confirmed that was asked for at some time; earlier messages may be missed."""
        self.broken(self.down or "subscribed anew", began)
        self.linked, self._fresh = True, began
        self._beats.clear()
        self._known.clear()
        self._until = self._bound()

    def sent(self, beat: int, now: float) -> None:
        """Note that a heartbeat of its own is about to be sent."""
        if len(self._beats) >= MAX_BEATS:
            del self._beats[next(iter(self._beats))]
        self._beats[beat] = now

    def heard(self, payload: object, now: float) -> Floor | None:
        """Take one message; return what another publisher invalidated with it."""
        self.tick(now)
        if not self.linked:
            return None
        message = decode(payload)
        if message is None:
            self._lose("a message could not be read")
            return None
        own = message.publisher == self.own
        if own and message.beat is not None:
            self._heard_itself(message.beat)
        self._count(message, own=own)
        self._until = self._bound()
        return None if own else message.floor

    def tick(self, now: float) -> None:
        """Note that time passes: what should have been heard by now is missed."""
        if not self.linked or now <= self._until:
            return
        if now > self._fresh + self.silence:
            self.broken("its own heartbeat was not heard in time", now)
            return
        for publisher in [known for known, (_, heard) in self._known.items() if now > heard + self.silence]:
            del self._known[publisher]
        self._lose("the heartbeat of another process was not heard in time")
        self._until = self._bound()

    def broken(self, reason: str, now: float) -> None:
        """Note that the subscription is no more."""
        self.linked, self._until = False, _NEVER
        if self.down is None:
            self.since = now
            self._lose(reason)
        self.down = reason

    def failed(self, reason: str) -> None:
        """Note that what was heard could not be handed on."""
        self._lose(reason)

    def dropped(self) -> None:
        """Note that everything was dropped."""
        self.owed = None

    # What holds.

    def up(self, now: float) -> bool:
        """Tell whether whatever was published at least *silence* seconds ago was handed on, or dropped for."""
        return self.down is None and self.owed is None and now <= self._until

    def why(self) -> str:
        """Tell why it is not up."""
        return self.down or self.owed or "nothing was heard in time"

    # The rest.

    def _heard_itself(self, beat: int) -> None:
        sent = self._beats.get(beat)
        if sent is None:
            return
        self._beats = {number: when for number, when in self._beats.items() if number > beat}
        self._fresh = max(sent, self._fresh)
        if self.down is not None:
            # What was stored while it was down may be older than what was missed.
            self._lose("subscribed anew")
            self.down = None

    def _count(self, message: Message, *, own: bool) -> None:
        known = self._known.get(message.publisher)
        # An invalidation counts itself.
        before = message.sequence - (message.floor is not None)
        if known is not None and known[0] != before:
            self._lose("messages were lost, or came in another order")
        if known is None and before and not own:
            self._lose("another process had published before it was first heard")
        if message.bye:
            self._known.pop(message.publisher, None)
            return
        if known is None and len(self._known) >= MAX_PUBLISHERS:
            self._lose("more processes publish than can be told apart")
            self._known.clear()
        # INVARIANT: no later than the server took it, so that its silence is never noticed too late.
        self._known[message.publisher] = message.sequence, self._fresh

    def _bound(self) -> float:
        return min((heard for _, heard in self._known.values()), default=self._fresh) + self.silence

    def _lose(self, reason: str) -> None:
        self.owed = self.owed or reason
