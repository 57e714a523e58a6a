"""
A decision point that is asked with care: in time, again where that helps, and not at all while it is down.

Plans only, written once for both worlds, without a thread of its own. Imports plans and the parts of a composition.
"""

from __future__ import annotations

import math
import random as randomness
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from pep.clock import SystemClock
from pep.compose.breaker import Came, Circuit, CircuitBreaker, CircuitOpen, Listener
from pep.compose.bulkhead import Bulkhead
from pep.compose.hedging import Hedge, Latencies, hedged
from pep.compose.parts import (
    awaited_part,
    checked_part,
    consistent_part,
    decided,
    decided_all,
    has,
    part_name,
    told,
    unavailable,
    whole_name,
)
from pep.compose.retrying import Retries, TokenBudget, whole
from pep.decision import Decision
from pep.errors import ConfigurationError, PDPTimeout
from pep.fault import AVAILABILITY, Fault, fault_of
from pep.found import Found
from pep.model import AccessRequest
from pep.plan import Plan, Raised, Reply, Returned, call, contain, remaining, sleep, unwrap
from pep.profile_checks import described, is_finite
from pep.protocols import PDP, BatchPDP, Clock, RowFilterPDP, SearchPDP

T = TypeVar("T")

_USUAL_RETRIES: Final = Retries()
_USUAL_BREAKER: Final = CircuitBreaker()
# Never opens, and still counts.
_UNBROKEN: Final = CircuitBreaker(ratio=1.0, least=sys.maxsize, missed=sys.maxsize)
_ONCE: Final = Retries(attempts=1)

# A timer may go off a little early.
_ALL_BUT: Final = 0.9

#: What it has where the decision point has it, as it is.
_LENT: Final = ("subscribe", "close", "aclose")


class ResilientPDP:
    """
    A decision point behind a deadline budget, retries, a circuit breaker and a bulkhead.

    It takes batches, filters rows, searches, tells of policy swaps and can be probed where the decision point can. It
    is never *pure*: its answer depends on how the decision point fares. Faults that availability does not explain
    pass through at once, and so does what is raised when all of this did not help.

    Args:
        pdp: The decision point.

        retries: How a question is asked again; None is never.

        breaker: When it is no longer asked; None is asked always.

        bulkhead: How many questions may be in the air at once, a batch counting as one; past that they are refused
            at once. None is any number.

        hedge: When a question that takes long is asked a second time beside the first; None is never.

        reserve: What share of the time that is left is kept for the rest of the call, from 0 to below 1.

        listener: Told of every `Transition` of the circuit breaker.

        name: Its identity, in records and cache keys; by default of the decision point.

        clock: What time it is; the enforcer's, where that has one of its own.

        random: Returns a number from 0 on, below 1.

    Raises:
        ConfigurationError: When something is no decision point, or of the wrong type.

    Source:
        M. Nygard, *Release It!* (circuit breaker, bulkhead, timeouts).
    """

    #: Never: an outage changes its answers.
    pure: Final = False

    def __init__(
        self,
        pdp: PDP,
        *,
        retries: Retries | None = _USUAL_RETRIES,
        breaker: CircuitBreaker | None = _USUAL_BREAKER,
        bulkhead: int | None = 256,
        hedge: Hedge | None = None,
        reserve: float = 0.1,
        listener: Listener | None = None,
        name: str | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] = randomness.random,
    ) -> None:
        self._pdp = checked_part(pdp)
        self._retries = _stated(retries, Retries, "retries", _ONCE)
        stated = _stated(breaker, CircuitBreaker, "breaker", _UNBROKEN)
        self._fair = stated.fair
        self._hedge = None if hedge is None else _stated(hedge, Hedge, "hedge", hedge)
        self._kept = 1 - _share(reserve)
        self._clock = clock or SystemClock()
        self._random = random
        self._threaded = getattr(pdp, "threaded", False) is True
        #: Its identity.
        self.name: Final = name or whole_name("resilient", [pdp])
        #: Whether it can only be awaited.
        self.asynchronous: Final = awaited_part([pdp])
        #: Whether the revision of its decisions is a consistency token.
        self.consistent: Final = consistent_part([pdp])
        hears: object = listener
        if hears is not None and not callable(hears):
            message = f"`listener` is a `{type(hears).__name__}`; give a function of a `Transition`"
            raise ConfigurationError(message)
        self._circuit = Circuit(part_name(pdp), stated, clock=self._clock, random=random, listener=listener)
        self._bulkhead = Bulkhead(part_name(pdp), None if bulkhead is None else whole(bulkhead, "bulkhead", least=1))
        self._tokens = TokenBudget(self._retries.tokens)
        self._latencies = Latencies()
        self._lend()

    @property
    def revision(self) -> Any:  # noqa: ANN401  whatever the decision point tells
        """The revision of the decision point's policies, where it tells."""
        return getattr(self._pdp, "revision", None)

    def decide(self, request: AccessRequest) -> Plan[Decision]:
        """
        Ask one question.

        Raises:
            PDPOverloaded: When the circuit breaker is open, or the bulkhead full: at once.

            Exception: What the last attempt raised.
        """
        return self._asked(partial(decided, self._pdp, request))

    def health(self) -> Mapping[str, Any]:
        """
        Tell how it is, without asking.

        Returns:
            What the circuit breaker tells: ``state`` (``closed``, ``open`` or ``half-open``), ``calls`` and ``bad`` in
            the window, ``refused``, ``opened``; ``in_flight`` and ``crowded_out``, how many questions are in the air
            and were refused for that; ``tokens``, what is left of the retries' budget; ``inner``, what the decision
            point tells itself, if it does.
        """
        state = dict(self._circuit.health())
        state |= {"in_flight": self._bulkhead.taken, "crowded_out": self._bulkhead.refused}
        state["tokens"] = self._tokens.left
        return {**state, "inner": self._pdp.health()} if has(self._pdp, "health") else state  # type: ignore[attr-defined]

    def _lend(self) -> None:
        """Have those abilities that the decision point has."""
        pdp = self._pdp
        if isinstance(pdp, BatchPDP):
            self.decide_many = self._decide_many
        if isinstance(pdp, RowFilterPDP):
            self.row_filter = self._row_filter
        if isinstance(pdp, SearchPDP):
            self.search = self._search
        if has(pdp, "probe"):
            self.probe = self._probe
        for ability in _LENT:
            if has(pdp, ability):
                setattr(self, ability, getattr(pdp, ability))

    def _decide_many(self, requests: Sequence[AccessRequest]) -> Plan[list[Decision | Raised]]:
        """Ask many questions at once; they fail, and count, as one."""
        return self._asked(partial(_all_decided, self._pdp, tuple(requests)))

    def _row_filter(self, *args: Any, **kwargs: Any) -> Plan[Any]:  # noqa: ANN401  see the protocol
        """Ask which rows may be acted upon."""
        return self._asked(partial(self._called, "row_filter", args, kwargs))

    def _search(self, wanted: str, request: AccessRequest) -> Plan[Found]:
        """Ask what could be permitted."""
        return self._asked(partial(self._called, "search", (wanted, request), {}))

    def _probe(self) -> Plan[None]:
        """
        Ask whether the decision point is up, once; the circuit breaker counts what comes of it.

        Raises:
            PDPOverloaded: When others are finding that out already.

            Exception: What the decision point raised.
        """
        end = self._clock.monotonic() + (yield from remaining())
        ask: Callable[[], Plan[None]] = partial(self._called, "probe", (), {})
        unwrap((yield from self._attempt(ask, end, health=True)))

    def _called(self, ability: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Plan[Any]:
        method = partial(getattr(self._pdp, ability), *args, **kwargs)
        return (yield from call(method, threaded=self._threaded))

    def _asked(self, ask: Callable[[], Plan[T]]) -> Plan[T]:
        seat = self._bulkhead.enter()
        try:
            return (yield from self._insisted(ask))
        finally:
            # INVARIANT: however a question ends, dropped or cancelled too, its seat is free again.
            self._bulkhead.leave(seat)

    def _insisted(self, ask: Callable[[], Plan[T]]) -> Plan[T]:
        """Ask until there is an answer, or no sense in asking again."""
        end = self._clock.monotonic() + (yield from remaining()) * self._kept
        self._in_time(end)
        last: Exception | None = None
        number = 0
        while True:
            number += 1
            reply = yield from self._hedged(ask, end)
            if isinstance(reply, Returned):
                self._tokens.earn()
                return reply.value  # type: ignore[no-any-return]
            if last is not None and isinstance(reply.error, CircuitOpen):
                raise last
            last = reply.error
            pause = self._pause(last, number, end)
            if pause is None:
                raise last
            yield from sleep(pause)

    def _in_time(self, end: float) -> None:
        if end - self._clock.monotonic() < self._retries.least:
            message = "there was no time left to ask; raise the deadline, or spend less before"
            raise PDPTimeout(message)

    def _pause(self, error: Exception, number: int, end: float) -> float | None:
        """Return how long to wait before asking again, in seconds; None where that makes no sense."""
        retries = self._retries
        if number >= retries.attempts or isinstance(error, CircuitOpen) or fault_of(error) not in AVAILABILITY:
            return None
        pause = retries.pause(error, number, self._random)
        # INVARIANT: no pause begins, and no attempt, that the deadline would cut short.
        if self._clock.monotonic() + pause + retries.least > end or self._circuit.is_open():
            return None
        return pause if self._tokens.retry(error) else None

    def _hedged(self, ask: Callable[[], Plan[Any]], end: float) -> Plan[Reply]:
        attempt = partial(self._attempt, ask, end)
        delay = None if self._hedge is None else self._hedge.delay(self._latencies)
        if delay is None or self._clock.monotonic() + delay + self._retries.least > end:
            return (yield from attempt())
        return (yield from hedged(attempt, delay, self._tokens.hedge))

    def _attempt(self, ask: Callable[[], Plan[Any]], end: float, *, health: bool = False) -> Plan[Reply]:
        """Ask once, if the circuit breaker lets it, and tell it what came of that."""
        try:
            passed = self._circuit.enter(health=health)
        except CircuitOpen as refused:
            return Raised(refused)
        timeout = self._retries.timeout
        until = min(end, passed.due, math.inf if timeout is None else passed.began + timeout)
        reply: Reply | None = None
        try:
            reply = self._on_time((yield from contain(ask(), until)), until)
            if isinstance(reply, Returned) and not health:
                self._latencies.add(self._clock.monotonic() - passed.began)
            return reply
        finally:
            # INVARIANT: however an attempt ends, dropped or cancelled too, its pass is given back.
            self._circuit.leave(passed, self._came(reply, passed.began, until))

    def _on_time(self, reply: Reply, until: float) -> Reply:
        if isinstance(reply, Raised) or self._clock.monotonic() <= until:
            return reply
        return Raised(PDPTimeout("the answer came too late"))

    def _came(self, reply: Reply | None, began: float, until: float) -> Came:
        if reply is None:
            return Came.CUT_OFF
        if not unavailable(reply):
            return Came.ANSWERED
        had = until - began
        late = isinstance(reply, Raised) and fault_of(reply.error) is Fault.TIMEOUT
        used = self._clock.monotonic() - began >= had * _ALL_BUT
        return Came.HURRIED if late and used and had < self._fair else Came.FAILED


def _all_decided(pdp: PDP, requests: Sequence[AccessRequest]) -> Plan[list[Decision | Raised]]:
    """Ask many questions at once; where none of them was answered for want of availability, the batch failed."""
    outcomes = yield from decided_all(pdp, requests)
    if outcomes and all(map(unavailable, outcomes)):
        unwrap(outcomes[0])
    return told(outcomes)


def _stated(value: object, kind: type[T], name: str, otherwise: T) -> T:
    if value is None:
        return otherwise
    if not isinstance(value, kind):
        message = f"`{name}` is a `{type(value).__name__}`; give a `{kind.__name__}`"
        raise ConfigurationError(message)
    return value


def _share(value: object) -> float:
    if not is_finite(value) or not 0 <= value < 1:
        message = f"`reserve` is {described(value)}; give a share of the time, from 0 to below 1"
        raise ConfigurationError(message)
    return value
