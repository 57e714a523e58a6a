"""
Asking: enrichment, cache and decision point, for one request or many, with what a failure mode may serve.

Who asks what somebody else is asking right now waits for that answer. Imports L0 and L1 only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import attrs

from pep.cache import Key
from pep.decision import decision_of, malformed
from pep.errors import AttributeProviderError, ExtractionError, PDPMismatched, PDPReplyError
from pep.fault import Fault, fault_of
from pep.flights import Ended, Flight, is_aboard, step_aboard, step_off
from pep.keeping import Came, Checked, came_of, epoch_of, keep, key_of, overtaken, serve_cached, serve_stale
from pep.model import AccessRequest, Decision
from pep.plan import (
    Invoke,
    Launch,
    Plan,
    Raised,
    Reply,
    Returned,
    Wait,
    attempt,
    contain,
    discard,
    gather,
    having,
    pending,
)
from pep.profile import Profile
from pep.wiring import Wiring

T = TypeVar("T")

#: How many questions are in the air at once, where the decision point takes one at a time.
ABREAST: Final = 16

#: How often one question boards, before it is asked apart from all others.
BOARDINGS: Final = 4


class Timing(NamedTuple):
    """
    One enforcement's time.

    Args:
        started: When it started, in seconds on the monotonic clock.

        deadline: When it ends, on the same clock.

        again: Whether the question was asked before: what is late then is never excused.
    """

    started: float
    deadline: float
    again: bool = False

    @property
    def half(self) -> float:
        """When half of it is over: a fault that arises in a stage begun later is never excused."""
        return (self.started + self.deadline) / 2


@attrs.define(eq=False, repr=False)
class Answer:
    """One request, and what was had for it: a decision, or a fault, or a stale decision and its fault."""

    request: AccessRequest
    profile: Profile
    epoch: int
    started: float
    shadowed: bool = False
    decision: Decision | None = None
    fault: Fault | None = None
    cause: BaseException | None = None
    cached: bool = False
    age: float | None = None
    #: Whether the fault arose where, and early enough, that a failure mode may excuse it.
    excusable: bool = False
    #: The names that attribute providers answer for, whatever the call claimed.
    provided: tuple[str, ...] = ()
    #: What it is cached by, once it was looked up.
    key: Key | None = attrs.field(default=None, init=False)

    @property
    def stale(self) -> bool:
        """Whether an outage was bridged with an earlier decision."""
        return self.fault is not None and self.decision is not None


def answer_all(wiring: Wiring, answers: Sequence[Answer], timing: Timing) -> Plan[None]:
    """
    Enrich and answer requests; every answer gets a decision or a fault.

    Args:
        wiring: What the enforcer is made of.

        answers: One per request, empty yet.

        timing: The time they have together.
    """
    # The fault where others have spent the time for the question.
    slow = Fault.TIMEOUT if timing.again else Fault.EXTRACTION
    if wiring.providers:
        asking = not timing.again and wiring.clock.monotonic() <= timing.half
        slow = Fault.ATTRIBUTES if asking else slow
        yield from _enrich_all(wiring, answers, timing)
    asked = [answer for answer in answers if answer.fault is None and not serve_cached(wiring, answer)]
    if not asked:
        return
    now = wiring.clock.monotonic()
    early = not timing.again and now <= timing.half
    if now >= timing.deadline:
        for answer in asked:
            _overdue(answer, slow)
    elif len(asked) == 1 and wiring.shapes.immediate:
        _ask_at_once(wiring, asked[0], timing.deadline)
        _taken(asked[0], slow, early=early)
    else:
        for answer, came in zip(asked, (yield from _ask(wiring, asked, timing.deadline)), strict=True):
            answer.decision, answer.fault, answer.cause, answer.epoch, _ = came
            _taken(answer, slow, early=early)
    if wiring.shapes.consistent:
        asked += yield from _ask_overtaken(wiring, answers, timing.deadline, slow, early=early)
    for answer in asked:
        if answer.fault is not None:
            serve_stale(wiring, answer)


def _ask_overtaken(
    wiring: Wiring, answers: Sequence[Answer], deadline: float, slow: Fault, *, early: bool
) -> Plan[list[Answer]]:
    """Ask about hits after all, where other answers have brought a newer consistency token; return what was asked."""
    hits = [answer for answer in answers if overtaken(wiring, answer)]
    for answer, came in zip(hits, (yield from _ask(wiring, hits, deadline)) if hits else (), strict=True):
        answer.decision, answer.fault, answer.cause, answer.epoch, _ = came
        answer.cached, answer.age = False, None
        _taken(answer, slow, early=early)
    return hits


def _enrich_all(wiring: Wiring, answers: Sequence[Answer], timing: Timing) -> Plan[None]:
    for few in _chunks(answers):
        asked = [wiring.providers.enrich(answer.request, timing.deadline, wiring.generations) for answer in few]
        for answer, reply in zip(few, (yield from _side_by_side(asked, timing.deadline)), strict=True):
            if isinstance(reply, Raised):
                answer.fault, answer.cause = _fault_of_enrichment(reply.error), reply.error
            else:
                answer.provided = wiring.providers.names(answer.request)
                answer.request = reply.value


def _fault_of_enrichment(error: Exception) -> Fault:
    # A provider that runs out of time is cut off before it can say so itself.
    if isinstance(error, (AttributeProviderError, TimeoutError)):
        return Fault.ATTRIBUTES
    return Fault.EXTRACTION if isinstance(error, ExtractionError) else Fault.INTERNAL


def _side_by_side(plans: Sequence[Plan[Any]], deadline: float) -> Plan[Sequence[Reply]]:
    if len(plans) == 1:
        return [(yield from contain(plans[0], deadline))]
    return (yield from gather(*plans, deadline=deadline))


def _ask(wiring: Wiring, answers: Sequence[Answer], deadline: float) -> Plan[list[Came]]:
    """Ask about what nothing else answers."""
    if len(answers) == 1:
        return [(yield from _ask_one(wiring, answers[0], deadline))]
    return (yield from _ask_many(wiring, answers, deadline))


def _taken(answer: Answer, slow: Fault, *, early: bool) -> None:
    answer.excusable = early
    if answer.fault is Fault.TIMEOUT and not early:
        _overdue(answer, slow)


def _overdue(answer: Answer, slow: Fault) -> None:
    answer.fault = slow
    answer.cause = TimeoutError("the time was spent before the decision point was asked")


def _ask_one(wiring: Wiring, answer: Answer, deadline: float) -> Plan[Came]:
    """Ask, or wait for somebody who asks the same; whoever leads goes the same way as those who follow."""
    for _boarding in range(BOARDINGS if _flies(wiring, answer) else 0):
        flight, mine = _board(wiring, answer, deadline)
        if mine and serve_cached(wiring, answer, again=True):
            # Somebody landed between the look at the cache and this.
            flight.land(Ended.ABANDONED)
            return Came(answer.decision, None, None, answer.epoch)
        if mine:
            yield from _lead(wiring, flight, answer, deadline)
        came = yield from _landed(wiring, flight, answer, deadline, mine=mine)
        if type(came) is Came:
            return came
        if came is Ended.ALONE:
            break
    decide, threaded = wiring.pdp.decide, wiring.threaded
    reply = yield from attempt(decide, answer.request, deadline=deadline, threaded=threaded)
    return came_of(wiring, answer, _checked(reply))


def _ask_at_once(wiring: Wiring, answer: Answer, deadline: float) -> None:
    """Ask what answers from memory: there is nothing to wait for, and no step to take."""
    try:
        value = wiring.pdp.decide(answer.request)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  user code may raise anything
        answer.fault, answer.cause = fault_of(error), error
        return
    if wiring.clock.monotonic() > deadline:
        answer.fault, answer.cause = Fault.TIMEOUT, TimeoutError("no answer by the deadline")
        return
    decision, answer.fault, answer.cause = _answered(value)
    if decision is not None:
        answer.decision, answer.epoch = decision, epoch_of(wiring, answer, decision)
        keep(wiring, answer, decision, answer.epoch)


def _flies(wiring: Wiring, answer: Answer) -> bool:
    """Tell whether others may have the answer too: it would be cached, and is not there at once."""
    if wiring.shapes.immediate or answer.shadowed or is_aboard():
        return False
    ttl = answer.profile.permit_ttl
    return wiring.pure if ttl is None else ttl > 0


def _board(wiring: Wiring, answer: Answer, deadline: float) -> tuple[Flight, bool]:
    board, now = wiring.shapes.flights.board, wiring.clock.monotonic()
    return board(key_of(wiring, answer), answer.request, answer.epoch, deadline, wiring.generations, now)


def _lead(wiring: Wiring, flight: Flight, answer: Answer, deadline: float) -> Plan[None]:
    """Ask, and see to it that the flight lands: here, or where what has to be waited for is had."""
    decide, threaded = wiring.pdp.decide, wiring.threaded
    token, reply = step_aboard(), Returned(None)
    try:
        if threaded:
            asking = attempt(decide, answer.request, deadline=deadline, threaded=True)
            yield Launch(_flown(wiring, answer, asking), flight, deadline)
            return
        reply = yield Invoke(decide, (answer.request,), deadline, kept=True)
        if pending(reply):
            yield Launch(_flown(wiring, answer, having(reply.value, deadline)), flight, deadline)
        else:
            flight.land(Returned(came_of(wiring, answer, _checked(reply))))
    finally:
        step_off(token)
        if not flight.launched:
            flight.land(Ended.ABANDONED)
            if pending(reply):
                discard(reply.value)


def _flown(wiring: Wiring, answer: Answer, asking: Plan[Reply]) -> Plan[Came]:
    reply = yield from asking
    return came_of(wiring, answer, _checked(reply))


def _landed(wiring: Wiring, flight: Flight, answer: Answer, deadline: float, *, mine: bool) -> Plan[Came | Ended]:
    """Wait for a flight; return what it brought, or why that is nothing: `ALONE` is to ask apart, else board again."""
    landed = flight.landed
    if landed is None:
        reply = yield Wait(flight, min(deadline, flight.deadline))
        landed = reply.value if type(reply) is Returned else reply
    if type(landed) is Raised:
        return Came(None, Fault.INTERNAL, landed.error, answer.epoch)
    late = wiring.clock.monotonic() >= deadline
    if isinstance(landed, Ended):
        late = deadline <= flight.deadline if landed is Ended.TIMED_OUT else late
        return _given_up(answer) if late and landed is not Ended.ALONE else landed
    came: Came = landed.value
    if mine:
        return came
    if not wiring.generations.holds(answer.request, came.epoch) or (came.fault is Fault.TIMEOUT and not late):
        return Ended.ABANDONED
    if answer.started >= came.expires:
        return Ended.ALONE
    wiring.shapes.flights.joined += 1
    return came


def _given_up(answer: Answer) -> Came:
    return Came(None, Fault.TIMEOUT, TimeoutError("no answer by the deadline"), answer.epoch)


def _ask_many(wiring: Wiring, answers: Sequence[Answer], deadline: float) -> Plan[list[Came]]:
    """Ask about many at once; what others ask already is waited for afterwards, and asked last where that fails."""
    first: dict[Key, Answer] = {}
    for answer in answers:
        first.setdefault(key_of(wiring, answer), answer)
    flights = {key: _board(wiring, answer, deadline) for key, answer in first.items() if _flies(wiring, answer)}
    led = {key: flight for key, (flight, mine) in flights.items() if mine}
    followed = {key: flight for key, (flight, mine) in flights.items() if not mine}
    found = yield from _lead_many(
        wiring, {key: one for key, one in first.items() if key not in followed}, led, deadline
    )
    for key, flight in followed.items():
        came = yield from _landed(wiring, flight, first[key], deadline, mine=False)
        if type(came) is Came:
            found[key] = came
    left = {key: one for key, one in first.items() if key not in found}
    if left:
        found |= yield from _lead_many(wiring, left, {}, deadline)
    return [found[key_of(wiring, answer)] for answer in answers]


def _lead_many(
    wiring: Wiring, asked: dict[Key, Answer], led: dict[Key, Flight], deadline: float
) -> Plan[dict[Key, Came]]:
    """Ask about many at once, and land the flights that others wait for."""
    if not asked:
        return {}
    token = step_aboard()
    try:
        checked = yield from _replies(wiring, [answer.request for answer in asked.values()], deadline)
        found = {key: came_of(wiring, answer, one) for (key, answer), one in zip(asked.items(), checked, strict=True)}
        for key, flight in led.items():
            flight.land(Returned(found[key]))
    finally:
        step_off(token)
        for flight in led.values():
            flight.land(Ended.ABANDONED)
    return found


def _replies(wiring: Wiring, requests: Sequence[AccessRequest], deadline: float) -> Plan[list[Checked]]:
    threaded = wiring.threaded
    if len(requests) > 1 and wiring.batches is not None:
        decide_many = wiring.batches.decide_many
        reply = yield from attempt(decide_many, tuple(requests), deadline=deadline, threaded=threaded)
        return batch_of(reply, len(requests))
    found: list[Checked] = []
    for few in _chunks(requests):
        asked = [attempt(wiring.pdp.decide, request, deadline=deadline, threaded=threaded) for request in few]
        replies = yield from _side_by_side(asked, deadline)
        # Each plan returns a reply of its own.
        found += [_checked(reply if isinstance(reply, Raised) else reply.value) for reply in replies]
    return found


def _chunks(several: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(several), ABREAST):
        yield several[start : start + ABREAST]


def batch_of(reply: Reply, wanted: int) -> list[Checked]:
    """Check what a batch was answered with; one reply that is none is one for each."""
    if isinstance(reply, Raised):
        return [_checked(reply)] * wanted
    values = reply.value
    if type(values) not in {list, tuple}:
        return [(None, Fault.MALFORMED, malformed(values))] * wanted
    if len(values) != wanted:
        error = PDPMismatched("a batch was answered with more or fewer decisions than were asked for")
        return [(None, Fault.MISMATCHED, error)] * wanted
    return [_answered(value) for value in values]


def _checked(reply: Reply) -> Checked:
    return _answered(reply if isinstance(reply, Raised) else reply.value)


def _answered(value: object) -> Checked:
    if type(value) is Decision:
        return value, None, None
    if type(value) is Raised:
        return None, fault_of(value.error), value.error
    try:
        return decision_of(value), None, None
    except PDPReplyError as error:
        return None, Fault.MALFORMED, error
