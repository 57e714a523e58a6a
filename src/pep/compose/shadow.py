"""
Shadow: a second decision point is asked beside the one that decides, and what it says is compared and forgotten.

Imports the parts, disagreements, clocks, locks and the decision's words only.
"""

from __future__ import annotations

import inspect
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pep.clock import SystemClock
from pep.compose.bulkhead import Seat
from pep.compose.disagreements import Disagreement, disagreement_of
from pep.compose.failover import counted
from pep.compose.parts import (
    Outcome,
    awaited_part,
    checked_part,
    consistent_part,
    decided,
    decided_all,
    filters_rows,
    for_each,
    has,
    health_of,
    probed,
    pure_part,
    rows_of,
    told,
    whole_name,
)
from pep.decision import Decision
from pep.errors import ConfigurationError
from pep.fault import fault_of
from pep.forking import after_fork
from pep.locks import Lock
from pep.model import AccessRequest, Action, Subject
from pep.plan import Plan, Raised, Returned, attempt, contain, gather, remaining, sleep, unwrap
from pep.profile_checks import described, is_finite, seconds
from pep.protocols import PDP, BatchPDP, Clock

if TYPE_CHECKING:
    from pep.policy.partial import RowFilter

#: The share of the time left that a shadow, or a listener, may take at the most, however patient.
SHARE: Final = 0.5

T = TypeVar("T")
Listener = Callable[[Disagreement], Any]


class ShadowPDP:
    """
    One decision point decides; another is asked the same, and where it says otherwise, that is told.

    What the shadow says changes nothing: its obligations are not run, its answers not cached, its failures counted.
    Both are asked side by side. The answer waits for the shadow for so many seconds since the question, and never for
    more than half of the time left; then the shadow is cut short. A shadow that is a plain function is asked on a
    thread of its own, so that it can be; what a plan calls by itself cannot.

    Cached answers are not compared again. Row filters are those of the one that decides.

    Args:
        enforced: Who decides.

        shadow: Who is compared with it.

        fraction: Which share of the questions is asked of both; above 0, up to 1. A batch is one question.

        patience: For how long an answer may wait for the shadow, in seconds; and for as long for the listener, where
            they disagree.

        at_most: How many questions may be asked of the shadow at once; where there are as many, it is left out.

        listener: Told of every disagreement; a plan, or what has to be awaited, will do. What it raises is counted.

        name: Its identity, in records and cache keys; by default of the parts.

        clock: What time it is: the enforcer's own.

        drawn: Draws a number from 0 to 1, for the sample.

    Raises:
        ConfigurationError: When something is no decision point, the listener cannot be called, or a number is out of
            range.
    """

    def __init__(
        self,
        enforced: PDP,
        shadow: PDP,
        *,
        fraction: float = 1.0,
        patience: float = 0.1,
        at_most: int = 16,
        listener: Listener | None = None,
        name: str | None = None,
        clock: Clock | None = None,
        drawn: Callable[[], float] = random.random,
    ) -> None:
        self._enforced, self._shadow = checked_part(enforced), checked_part(shadow)
        self._fraction = _checked_fraction(fraction)
        self._patience = seconds(patience, "patience")
        self._listener = _checked_listener(listener)
        self._clock: Clock = SystemClock() if clock is None else clock
        self._drawn = drawn
        self._aside = _Aside(self._shadow, counted(at_most, "at_most"))
        self._counts: Counter[str] = Counter()
        self._lock = Lock()
        #: Its identity.
        self.name = name or whole_name("shadow", (enforced, shadow))
        #: Whether it can only be awaited.
        self.asynchronous = awaited_part((enforced, shadow))
        #: Whether revisions of its decisions are consistency tokens: as of the one that decides.
        self.consistent = consistent_part([enforced])
        if filters_rows([enforced]):
            self.row_filter = self._rows
        if has(enforced, "probe"):
            self.probe = self._probe
        if has(enforced, "subscribe"):
            self.subscribe: Callable[[Callable[[Any], None]], None] = enforced.subscribe  # type: ignore[attr-defined]

    @property
    def pure(self) -> bool:
        """Whether the answers depend on the request and the policy revision alone: those of the one that decides."""
        return pure_part(self._enforced)

    def health(self) -> Mapping[str, Any]:
        """
        Tell how it stands, without asking anybody.

        Returns:
            ``parts``, the one that decides first; and ``compared``, which counts ``agreed``, ``disagreed`` and each
            pair of effects such as ``permit/deny``; questions ``left_out`` for want of room, ``unanswered`` by the one
            that decides, or by the shadow, as ``fault/timeout``; and disagreements ``untold``.
        """
        with self._lock:
            counts = dict(self._counts)
        return {"parts": [health_of(self._enforced), health_of(self._shadow)], "compared": counts}

    def decide(self, request: AccessRequest) -> Plan[Decision]:
        """
        Ask the one that decides, and in a sample of cases the other one too.

        Raises:
            Exception: What the one that decides raised.
        """
        if not self._samples():
            return (yield from decided(self._enforced, request))
        reply, other = yield from self._both(decided(self._enforced, request), decided(self._aside, request))
        if other is not None:
            yield from self._compare([request], [reply], [other])
        decision: Decision = unwrap(reply)
        return decision

    def decide_many(self, requests: Sequence[AccessRequest]) -> Plan[list[Decision | Raised]]:
        """Ask the one that decides many questions, and in a sample of cases the other one the same; see `decide`."""
        if not self._samples():
            return told((yield from decided_all(self._enforced, requests)))
        reply, other = yield from self._both(decided_all(self._enforced, requests), decided_all(self._aside, requests))
        outcomes: list[Outcome] = unwrap(reply)
        if other is not None:
            yield from self._compare(requests, outcomes, for_each(other, len(requests)))
        return told(outcomes)

    def _rows(
        self,
        subject: Subject,
        action: Action | str,
        resource_type: str,
        *,
        context: Mapping[str, Any],
        actors: Sequence[Subject] = (),
        tenant: str | None = None,
    ) -> Plan[RowFilter]:
        """Have the one that decides filter rows."""
        return (yield from rows_of(self._enforced, subject, action, resource_type, context, actors, tenant))

    def _probe(self) -> Plan[None]:
        """
        Ask the one that decides whether it is up.

        Raises:
            Exception: What it raised.
        """
        yield from probed(self._enforced)

    def _samples(self) -> bool:
        return self._fraction == 1 or self._drawn() < self._fraction

    def _both(
        self, deciding: Plan[T], beside: Plan[T]
    ) -> Plan[tuple[Returned[T] | Raised, Returned[T] | Raised | None]]:
        """Ask both; return what came of the one, and of the other, or None where that was left out."""
        seat = self._aside.enter(self._clock.monotonic())
        if seat is None:
            self._counted("left_out")
            return (yield from contain(deciding)), None
        try:
            return (yield from self._side_by_side(deciding, beside))
        finally:
            self._aside.leave(seat)

    def _side_by_side(
        self, deciding: Plan[T], beside: Plan[T]
    ) -> Plan[tuple[Returned[T] | Raised, Returned[T] | Raised]]:
        until = yield from self._until()
        came: dict[str, Returned[T] | Raised] = {}

        def shadowing() -> Plan[object]:
            came["shadow"] = yield from contain(beside, until)
            # What decides is in: nobody waits any longer.
            return None if "enforced" in came else Raised(_late())

        def enforcing() -> Plan[None]:
            came["enforced"] = yield from contain(deciding)
            left = until - self._clock.monotonic()
            if "shadow" not in came and left > 0:
                self._aside.awaited(until)
                yield from sleep(left)

        # The shadow first: what decides may take this thread.
        yield from gather(shadowing(), enforcing(), first=True)
        return came.get("enforced", Raised(_late())), came.get("shadow", Raised(_late()))

    def _until(self) -> Plan[float]:
        """Tell when patience is over, in seconds on the monotonic clock."""
        left = yield from remaining()
        return self._clock.monotonic() + min(self._patience, left * SHARE)

    def _compare(
        self, requests: Sequence[AccessRequest], replies: Sequence[Outcome], others: Sequence[Outcome]
    ) -> Plan[None]:
        found = []
        for request, reply, other in zip(requests, replies, others, strict=True):
            if isinstance(reply, Raised):
                self._counted("unanswered")
            elif isinstance(other, Raised):
                self._counted(f"fault/{fault_of(other.error).value}")
            else:
                found.append(self._disagreement(request, reply.value, other.value))
        until = yield from self._until()
        for disagreement in filter(None, found):
            yield from self._tell(disagreement, until)

    def _disagreement(self, request: AccessRequest, enforced: Decision, shadow: Decision) -> Disagreement | None:
        disagreement = disagreement_of(self.name, request, enforced, shadow)
        if disagreement is None:
            self._counted("agreed")
        else:
            self._counted("disagreed", f"{enforced.effect.value}/{shadow.effect.value}")
        return disagreement

    def _tell(self, disagreement: Disagreement, until: float) -> Plan[None]:
        if self._listener is not None and isinstance(
            (yield from attempt(self._listener, disagreement, deadline=until)), Raised
        ):
            self._counted("untold")

    def _counted(self, *names: str) -> None:
        with self._lock:
            self._counts.update(names)


class _Aside:
    """
    A decision point that is asked beside another one, by no more than so many at once; by nobody in a forked child.

    Args:
        pdp: The decision point.

        at_most: How many; those that nobody waits for any longer, and that do not end, among them.
    """

    def __init__(self, pdp: PDP, at_most: int) -> None:
        self._pdp = pdp
        self._at_most = at_most
        self._lock = Lock()
        self._renew()
        after_fork(self._renew)
        #: Whether it is asked on a thread: what answers from memory, in steps or when awaited is not.
        self.threaded = not awaited_part([pdp]) and (
            getattr(pdp, "threaded", False) is True
            or not (getattr(pdp, "immediate", False) is True or inspect.isgeneratorfunction(pdp.decide))
        )
        if isinstance(pdp, BatchPDP):
            self.decide_many: Callable[[Sequence[AccessRequest]], Any] = self._decide_many

    def _renew(self) -> None:
        # Those who ask, and what runs though nobody may wait for it any longer.
        self._asking: set[Seat] = set()
        self._running: set[Seat] = set()
        self._awaited: deque[float] = deque()

    def enter(self, now: float) -> Seat | None:
        """Take a place for a question; None where there is none."""
        with self._lock:
            while self._awaited and self._awaited[0] <= now:
                self._awaited.popleft()
            if max(map(len, (self._asking, self._running, self._awaited))) >= self._at_most:
                return None
            seat = Seat()
            self._asking.add(seat)
            return seat

    def leave(self, seat: Seat) -> None:
        """Give a place back; one that was taken before a fork is none any longer."""
        with self._lock:
            self._asking.discard(seat)

    def awaited(self, until: float) -> None:
        """Remember that somebody waits for an answer, on a thread that may sleep until then."""
        with self._lock:
            self._awaited.append(until)

    def decide(self, request: AccessRequest) -> Any:  # noqa: ANN401  whatever it answers
        """Ask it, perhaps on a thread that goes on when nobody waits any longer."""
        return self._run(self._pdp.decide, request)

    def _decide_many(self, requests: Sequence[AccessRequest]) -> Any:  # noqa: ANN401  whatever it answers
        return self._run(self._pdp.decide_many, requests)  # type: ignore[attr-defined]

    def _run(self, fn: Callable[[Any], Any], asked: Any) -> Any:  # noqa: ANN401  whatever it answers
        seat = Seat()
        with self._lock:
            self._running.add(seat)
        try:
            return fn(asked)
        finally:
            with self._lock:
                self._running.discard(seat)


def _late() -> TimeoutError:
    return TimeoutError("no answer by the deadline")


def _checked_fraction(value: object) -> float:
    if not is_finite(value) or not 0 < value <= 1:
        message = f"`fraction` is {described(value)}; give a number above 0, up to 1"
        raise ConfigurationError(message)
    return value


def _checked_listener(value: object) -> Listener | None:
    if value is not None and (isinstance(value, type) or not callable(value)):
        message = f"`{type(value).__name__}` is no listener; give a function of a `Disagreement`"
        raise ConfigurationError(message)
    return value
