"""
A circuit breaker: a decision point that is down is not asked, until it has shown that it is up again.

A state machine free of I/O; its lock is never held over a plan. Imports the error tree, the window and locks only.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

import attrs

from pep.compose.retrying import whole
from pep.compose.window import Window
from pep.errors import ConfigurationError, PDPOverloaded
from pep.forking import after_fork
from pep.frozen import fields_repr
from pep.locks import Lock
from pep.profile_checks import described, is_finite, seconds
from pep.protocols import Clock


class CircuitState(Enum):
    """Whether a decision point is asked."""

    #: It is asked.
    CLOSED = "closed"
    #: It is not asked.
    OPEN = "open"
    #: A few questions are let through, to see whether it is up again.
    HALF_OPEN = "half-open"


class Came(Enum):
    """What an attempt came to, as far as availability goes."""

    #: The decision point answered, whatever it said: one that denies, refuses or talks nonsense is up.
    ANSWERED = "answered"
    #: It was not available.
    FAILED = "failed"
    #: It did not answer in a time too short to say that it is down.
    HURRIED = "hurried"
    #: Nobody waited for it any longer.
    CUT_OFF = "cut off"


class CircuitOpen(PDPOverloaded):
    """The decision point was not asked: the circuit breaker before it was open."""


@attrs.frozen(kw_only=True, repr=False)
class CircuitBreaker:
    """
    When a decision point is no longer asked, and when it is asked again.

    Args:
        ratio: What share of the calls in the window has to be bad, failed or slow, above 0 and at most 1.

        least: How many calls there have to be in the window before their share counts.

        window: How long a call counts, in seconds.

        slow: From how many seconds on a call that was answered is bad all the same; None is never. Keep it under the
            deadline.

        fair: How much time a call must have had to count as failed when it was not answered in that, in seconds. So
            whoever spends the time of a call elsewhere, on attributes say, does not open it.

        open_for: How long nothing is asked, in seconds.

        jitter: How much longer that may be at random, as a share of it, so that processes do not come back all at
            once.

        probes: How many questions are let through then, and have to be answered well, before all are.

        probe_timeout: How long each of them may take, in seconds.

        missed: How many health probes in a row have to fail to open it without any call.

    Raises:
        ConfigurationError: When one of them is of the wrong type, or out of bounds.
    """

    ratio: float = 0.5
    least: int = 20
    window: float = 30.0
    slow: float | None = None
    fair: float = 0.1
    open_for: float = 5.0
    jitter: float = 0.2
    probes: int = 3
    probe_timeout: float = 1.0
    missed: int = 2

    __repr__ = fields_repr

    def __attrs_post_init__(self) -> None:
        if not is_finite(self.ratio) or not 0 < self.ratio <= 1:
            message = f"`ratio` is {described(self.ratio)}; give a share above 0, at most 1"
            raise ConfigurationError(message)
        if not is_finite(self.jitter) or not 0 <= self.jitter <= 1:
            message = f"`jitter` is {described(self.jitter)}; give a share from 0 to 1"
            raise ConfigurationError(message)
        for name in ("least", "probes", "missed"):
            whole(getattr(self, name), name, least=1)
        for name in ("window", "open_for", "probe_timeout", "fair"):
            seconds(getattr(self, name), name, zero=name == "fair")
        if self.slow is not None:
            seconds(self.slow, "slow")


@attrs.frozen
class Transition:
    """
    A circuit breaker that changed its state.

    Args:
        name: What the decision point is called.

        old: What it was.

        new: What it is.

        calls: How many calls counted then.

        bad: How many of them had failed, or were slow.
    """

    name: str
    old: CircuitState
    new: CircuitState
    calls: int
    bad: int


@attrs.frozen(eq=False)
class Pass:
    """
    Leave to ask once.

    Args:
        turn: In which turn of the circuit it was given; what it brings later counts no more.

        began: When, on the monotonic clock.

        due: When a probe has to be back; endless otherwise.

        health: Whether it is a health probe's.
    """

    turn: int
    began: float
    due: float
    health: bool


#: Told of every transition.
Listener = Callable[[Transition], object]

# So many that nobody waits for the transitions that a listener is still owed.
_UNTOLD: Final = 64


class Circuit:
    """
    The state of one circuit breaker; closed and empty in a forked child.

    Args:
        name: What the decision point is called.

        breaker: When it opens and closes.

        clock: What time it is.

        random: Returns a number from 0 on, below 1.

        listener: Told of every transition, after the fact and without any lock; what it raises is counted.
    """

    def __init__(
        self,
        name: str,
        breaker: CircuitBreaker,
        *,
        clock: Clock,
        random: Callable[[], float],
        listener: Listener | None = None,
    ) -> None:
        self._name, self._breaker, self._clock, self._random = name, breaker, clock, random
        self._listener = listener
        self._window = Window(breaker.window)
        self._untold: deque[Transition] = deque(maxlen=_UNTOLD)
        self._lock = Lock()
        self._state = CircuitState.CLOSED
        # Which state this is, counted; it is open until then; who is probing; how many probes were answered well.
        self._turn, self._until, self._succeeded = 0, 0.0, 0
        self._probing: set[Pass] = set()
        self._missed = self._refused = self._opened = self._unheard = 0
        after_fork(self._renew)

    def enter(self, *, health: bool = False) -> Pass:
        """
        Take leave to ask once; every pass has to be given back with `leave`.

        Args:
            health: Whether only its health is asked for: that is let through while it is open too, so that a
                recovery is found before a caller has to try.

        Raises:
            CircuitOpen: When it is not to be asked; it tells in how many seconds to come back.
        """
        with self._lock:
            passed = self._entered(self._now(), health=health)
        self._tell()
        if isinstance(passed, Pass):
            return passed
        message = f"`{self._name}` is not asked: its circuit breaker is {self._state.value}"
        raise CircuitOpen(message, retry_after=passed)

    def leave(self, passed: Pass, came: Came) -> None:
        """Give a pass back, with what came of it."""
        with self._lock:
            self._probing.discard(passed)
            now = self._now()
            if passed.turn == self._turn:
                self._count(passed, came, now)
        self._tell()

    def is_open(self) -> bool:
        """Tell whether it refuses every question."""
        with self._lock:
            self._now()
            state = self._state
        self._tell()
        return state is CircuitState.OPEN

    def health(self) -> Mapping[str, Any]:
        """
        Tell its state.

        Returns:
            ``state``; ``calls`` and ``bad`` in the window; ``refused`` and ``opened``, how often, since the start;
            ``retry_after``, in seconds, while it is open.
        """
        with self._lock:
            now = self._now()
            calls, bad = self._window.counts(now)
            told: dict[str, Any] = {"state": self._state.value, "calls": calls, "bad": bad}
            told |= {"refused": self._refused, "opened": self._opened, "unheard": self._unheard}
            if self._state is CircuitState.OPEN:
                told["retry_after"] = self._until - now
        self._tell()
        return told

    def _entered(self, now: float, *, health: bool) -> Pass | float:
        """Return a pass, or in how many seconds to come back."""
        breaker, state = self._breaker, self._state
        if state is CircuitState.CLOSED and not health:
            return Pass(self._turn, now, math.inf, health)
        passed = Pass(self._turn, now, now + breaker.probe_timeout, health)
        if state is CircuitState.HALF_OPEN:
            if len(self._probing) + self._succeeded >= breaker.probes:
                self._refused += not health
                return max(0.0, min(one.due for one in self._probing) - now)
            self._probing.add(passed)
        elif state is CircuitState.OPEN and not health:
            self._refused += 1
            return self._until - now
        return passed

    def _count(self, passed: Pass, came: Came, now: float) -> None:
        slow = self._breaker.slow is not None and now - passed.began >= self._breaker.slow
        # A probe that was hurried counts: whether it is up is not shown, and nobody is kept waiting for that.
        mute = came is Came.CUT_OFF or (came is Came.HURRIED and self._state is CircuitState.CLOSED)
        if mute and not slow:
            return
        bad = slow or came is not Came.ANSWERED
        if self._state is CircuitState.CLOSED:
            self._window.add(now, bad=bad)
            self._missed = self._missed + passed.health if bad else 0
            if bad and self._tripped(now):
                self._open(now)
        elif self._state is CircuitState.HALF_OPEN and bad:
            self._open(now)
        elif not bad:
            if self._state is CircuitState.OPEN:
                self._turn_to(CircuitState.HALF_OPEN, now)
            self._succeeded += 1
            if self._succeeded >= self._breaker.probes:
                self._window.clear()
                self._turn_to(CircuitState.CLOSED, now)

    def _tripped(self, now: float) -> bool:
        calls, bad = self._window.counts(now)
        share = calls >= self._breaker.least and bad >= self._breaker.ratio * calls
        return share or self._missed >= self._breaker.missed

    def _now(self) -> float:
        """Return what time it is, and let pass what that ends."""
        now = self._clock.monotonic()
        if self._state is CircuitState.OPEN and now >= self._until:
            self._turn_to(CircuitState.HALF_OPEN, now)
        # INVARIANT: a probe that never comes back holds its slot no longer than its time.
        elif self._state is CircuitState.HALF_OPEN and any(one.due < now for one in self._probing):
            self._open(now)
        return now

    def _open(self, now: float) -> None:
        self._until = now + self._breaker.open_for * (1 + self._breaker.jitter * self._random())
        self._opened += 1
        self._turn_to(CircuitState.OPEN, now)

    def _turn_to(self, state: CircuitState, now: float) -> None:
        self._untold.append(Transition(self._name, self._state, state, *self._window.counts(now)))
        self._state, self._turn = state, self._turn + 1
        self._probing.clear()
        self._succeeded = self._missed = 0

    def _tell(self) -> None:
        listener = self._listener
        while listener is not None and self._untold:
            try:
                told = self._untold.popleft()
            except IndexError:  # another thread tells it
                return
            try:
                listener(told)
            except Exception:  # noqa: BLE001  a listener may raise anything
                self._unheard += 1

    def _renew(self) -> None:
        self._state, self._turn, self._succeeded = CircuitState.CLOSED, self._turn + 1, 0
        self._missed = self._refused = self._opened = self._unheard = 0
        self._probing.clear()
        self._untold.clear()
        self._window.clear()
