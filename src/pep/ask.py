"""
Asking: enrichment, cache and decision point, for one request or many, with what a failure mode may serve.

Imports L0 and L1 only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import attrs

from pep.cache import Entry, expiry
from pep.decision import decision_of, malformed
from pep.errors import AttributeProviderError, ExtractionError, PDPReplyError
from pep.fault import Fault, fault_of
from pep.model import AccessRequest, Decision, Effect
from pep.plan import Plan, Raised, Reply, attempt, contain, gather
from pep.profile import FailStale, Profile
from pep.settle import excuses
from pep.wiring import Wiring

T = TypeVar("T")

#: How many questions are in the air at once, where the decision point takes one at a time.
ABREAST: Final = 16


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
    entered = wiring.clock.monotonic()
    if wiring.providers:
        yield from _enrich_all(wiring, answers, timing)
    asked = [answer for answer in answers if answer.fault is None and not _serve_cached(wiring, answer)]
    if not asked:
        return
    slow = Fault.ATTRIBUTES if wiring.providers and entered <= timing.half else Fault.EXTRACTION
    yield from _ask(wiring, asked, timing, Fault.TIMEOUT if timing.again else slow)
    for answer in asked:
        _keep(wiring, answer)
        _serve_stale(wiring, answer)


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


def _serve_cached(wiring: Wiring, answer: Answer) -> bool:
    profile = answer.profile
    if not wiring.pure and not profile.permit_ttl and not profile.deny_ttl:
        return False
    entry = wiring.cache.get(wiring.key(answer.request), answer.started)
    if entry is None or not wiring.generations.holds(answer.request, entry.epoch):
        return False
    answer.decision, answer.cached, answer.epoch = entry.decision, True, entry.epoch
    answer.age = max(0.0, answer.started - entry.started)
    return True


def _ask(wiring: Wiring, answers: Sequence[Answer], timing: Timing, slow: Fault) -> Plan[None]:
    """Ask about what nothing else answers; *slow* is the fault where others have spent the time for it."""
    now = wiring.clock.monotonic()
    if now >= timing.deadline:
        for answer in answers:
            _overdue(answer, slow)
        return
    keys = [wiring.key(answer.request) for answer in answers]
    distinct = {key: answer.request for key, answer in zip(keys, answers, strict=True)}
    replies = yield from _replies(wiring, list(distinct.values()), timing.deadline)
    by_key = dict(zip(distinct, replies, strict=True))
    for key, answer in zip(keys, answers, strict=True):
        answer.decision, answer.fault, answer.cause = by_key[key]
        answer.excusable = now <= timing.half and not timing.again
        if answer.fault is Fault.TIMEOUT and not answer.excusable:
            _overdue(answer, slow)


def _overdue(answer: Answer, slow: Fault) -> None:
    answer.fault = slow
    answer.cause = TimeoutError("the time was spent before the decision point was asked")


_Checked = tuple["Decision | None", "Fault | None", "BaseException | None"]


def _replies(wiring: Wiring, requests: Sequence[AccessRequest], deadline: float) -> Plan[list[_Checked]]:
    threaded = wiring.threaded
    if len(requests) > 1 and wiring.batches is not None:
        decide_many = wiring.batches.decide_many
        reply = yield from attempt(decide_many, tuple(requests), deadline=deadline, threaded=threaded)
        return _batch(reply, len(requests))
    found: list[_Checked] = []
    for few in _chunks(requests):
        asked = [attempt(wiring.pdp.decide, request, deadline=deadline, threaded=threaded) for request in few]
        replies = yield from _side_by_side(asked, deadline)
        # Each plan returns a reply of its own.
        found += [_checked(reply if isinstance(reply, Raised) else reply.value) for reply in replies]
    return found


def _chunks(several: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(several), ABREAST):
        yield several[start : start + ABREAST]


def _batch(reply: Reply, wanted: int) -> list[_Checked]:
    if isinstance(reply, Raised):
        return [_checked(reply)] * wanted
    values = reply.value
    if type(values) not in {list, tuple}:
        return [(None, Fault.MALFORMED, malformed(values))] * wanted
    if len(values) != wanted:
        error = PDPReplyError("a batch was answered with more or fewer decisions than were asked for")
        return [(None, Fault.MISMATCHED, error)] * wanted
    return [_answered(value) for value in values]


def _checked(reply: Reply) -> _Checked:
    if isinstance(reply, Raised):
        return None, fault_of(reply.error), reply.error
    return _answered(reply.value)


def _answered(value: object) -> _Checked:
    try:
        return decision_of(value), None, None
    except PDPReplyError as error:
        return None, Fault.MALFORMED, error


def _keep(wiring: Wiring, answer: Answer) -> None:
    decision, profile = answer.decision, answer.profile
    if decision is None or decision.effect is Effect.INDETERMINATE or answer.shadowed:
        return
    if isinstance(profile.on_failure, FailStale):
        entry = Entry(decision, answer.started, expiry(answer.started, decision.ttl), answer.epoch)
        wiring.stale.put(wiring.key(answer.request), entry)
    ttl = profile.permit_ttl if decision.effect is Effect.PERMIT else profile.deny_ttl
    if ttl == 0 or decision.ttl == 0 or (ttl is None and not wiring.pure):
        return
    # INVARIANT: what was revoked while the question was in the air is not cached.
    if wiring.generations.holds(answer.request, answer.epoch):
        entry = Entry(decision, answer.started, expiry(answer.started, ttl, decision.ttl), answer.epoch)
        wiring.cache.put(wiring.key(answer.request), entry)


def _serve_stale(wiring: Wiring, answer: Answer) -> None:
    mode, fault = answer.profile.on_failure, answer.fault
    if fault is None or not isinstance(mode, FailStale) or not answer.excusable or not excuses(mode, fault):
        return
    now = wiring.clock.boottime()
    entry = wiring.stale.get(wiring.key(answer.request), now, mode.max_age)
    if entry is not None and wiring.generations.holds(answer.request, entry.epoch):
        answer.decision, answer.cached, answer.epoch = entry.decision, True, entry.epoch
        answer.age = now - entry.started
