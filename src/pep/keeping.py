"""
Keeping: what of an answer is cached, and what is served from there, during an outage too.

Imports L0 and L1 only.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from pep.audit.record import Kind
from pep.cache import Entry, Key, expiry
from pep.fault import Fault
from pep.model import Decision, Effect
from pep.profile import FailStale
from pep.settle import excuses
from pep.wiring import Wiring

if TYPE_CHECKING:
    from pep.ask import Answer


#: A decision, or the fault in its place and the error behind that.
Checked = tuple["Decision | None", "Fault | None", "BaseException | None"]


class Came(NamedTuple):
    """
    What a question came to.

    Args:
        decision: The decision, if there is one.

        fault: Why there is none.

        cause: The error behind that.

        epoch: The epoch it holds from.

        expires: Until when others may have it too, in seconds on the clock that includes suspend.
    """

    decision: Decision | None
    fault: Fault | None
    cause: BaseException | None
    epoch: int
    expires: float = math.inf


def serve_cached(wiring: Wiring, answer: Answer, *, again: bool = False) -> bool:
    """Answer from the cache, where that is allowed and nothing was revoked since; a second look is no second miss."""
    profile = answer.profile
    if not wiring.pure and not profile.permit_ttl and not profile.deny_ttl:
        return False
    entry = wiring.cache.get(key_of(wiring, answer), answer.started, again=again)
    if entry is None:
        return False
    epoch = wiring.generations.epoch
    if not wiring.generations.holds(answer.request, entry.epoch) or wiring.shapes.is_past(entry.decision.revision):
        wiring.cache.refuse(entry)
        return False
    # Nothing it rests on was revoked up to here: the next hit compares one number.
    entry.epoch = epoch
    answer.decision, answer.cached, answer.epoch = entry.decision, True, epoch
    answer.age = max(0.0, answer.started - entry.started)
    return True


def overtaken(wiring: Wiring, answer: Answer) -> bool:
    """Tell whether an answer is a hit on what another consistency token came after; in an outage none can."""
    hit = answer.cached and answer.fault is None and answer.decision is not None
    return hit and answer.decision is not None and wiring.shapes.is_past(answer.decision.revision)


def key_of(wiring: Wiring, answer: Answer) -> Key:
    """Return what an answer is cached by."""
    if answer.key is None:
        answer.key = wiring.shapes.key(answer.request)
    return answer.key


def came_of(wiring: Wiring, answer: Answer, checked: Checked) -> Came:
    """Say what a question came to, and keep it where that is allowed."""
    decision, fault, cause = checked
    if decision is None:
        wiring.alerts.tell(wiring.pdp_name, fault, wiring.clock.monotonic())
        return Came(None, fault, cause, answer.epoch)
    epoch = epoch_of(wiring, answer, decision)
    return Came(decision, None, None, epoch, keep(wiring, answer, decision, epoch))


def epoch_of(wiring: Wiring, answer: Answer, decision: Decision) -> int:
    """Return the epoch a decision holds from: a new one, where new policies gave it."""
    revision, shapes = decision.revision, wiring.shapes
    if revision is None or revision == shapes.revision:
        return answer.epoch
    if shapes.consistent:
        shapes.see(revision, answer.started, wiring.clock.boottime())
    if shapes.consistent or shapes.swaps or not wiring.pure:
        return answer.epoch
    return _revised(wiring, answer, revision)


def _revised(wiring: Wiring, answer: Answer, revision: str) -> int:
    """Drop what other policies decided: a pure answer is good for its revision alone."""
    known, wiring.shapes.revision = wiring.shapes.revision, revision
    if known is None or known == revision:
        return answer.epoch
    wiring.journal.announce(Kind.CONFIGURATION, {"change": "policies", "old": known, "new": revision})
    return wiring.generations.superseded(answer.request, answer.epoch)


def keep(wiring: Wiring, answer: Answer, decision: Decision, epoch: int) -> float:
    """Keep a decision where that is allowed; return until when others may have it too."""
    started, profile, cache = answer.started, answer.profile, wiring.cache
    if decision.effect is Effect.INDETERMINATE or answer.shadowed:
        # It opens nothing for those who wait for it, and is gone with them.
        return math.inf
    if isinstance(profile.on_failure, FailStale):
        wiring.stale.put(key_of(wiring, answer), Entry(decision, started, expiry(started, decision.ttl), epoch))
    ttl = profile.permit_ttl if decision.effect is Effect.PERMIT else profile.deny_ttl
    past = wiring.shapes.is_past(decision.revision)
    if ttl == 0 or decision.ttl == 0 or past or (ttl is None and not wiring.pure):
        cache.uncacheable += 1
        return -math.inf
    entry = Entry(decision, started, expiry(started, ttl, decision.ttl, cache.lifetime()), epoch)
    # INVARIANT: what was revoked while the question was in the air is not cached.
    if wiring.generations.holds(answer.request, epoch):
        subject = answer.request.subject
        cache.put(key_of(wiring, answer), entry, (subject.type, subject.id))
    return entry.expires


def serve_stale(wiring: Wiring, answer: Answer) -> None:
    """Bridge an outage with the last real decision, where the failure mode and the decision itself allow."""
    mode, fault = answer.profile.on_failure, answer.fault
    if fault is None or not isinstance(mode, FailStale) or not answer.excusable or not excuses(mode, fault):
        return
    now = wiring.clock.boottime()
    entry = wiring.stale.get(key_of(wiring, answer), now, mode.max_age)
    if entry is None or not wiring.generations.holds(answer.request, entry.epoch):
        wiring.cache.stale_refusals += 1
        return
    answer.decision, answer.cached, answer.epoch = entry.decision, True, entry.epoch
    answer.age = now - entry.started
