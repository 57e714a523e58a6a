"""
Sifting: a filter over many items that nothing complicates, without an enforcement for each.

One subject, one question for all, permits and denials without obligations. Whatever is otherwise is left to
`pep.bulk`, with what was answered already. Imports the enforcement plan and what is below it only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import attrs

from pep.ask import Timing, batch_of
from pep.audit.record import Kind
from pep.audit.tell import asked_fields
from pep.bulk import Answered, keep_permitted, kept_fields, outcome_record, submit, submit_outcome
from pep.enforcement import Enforcement, denial
from pep.extract import Constant
from pep.fault import Fault
from pep.frozen import EMPTY, freeze_mapping
from pep.generations import Generations
from pep.keeping import Checked
from pep.model import AccessRequest, Decision, Effect, Resource, Subject
from pep.plain import APPLICATION
from pep.plan import Plan, Raised, Reply, Returned, attempt
from pep.profile import Enforce, FailStale, Profile
from pep.scope import Scope, within
from pep.verdict import Outcome

T = TypeVar("T")

# The types of items that are not one resource.
_SEVERAL: Final = frozenset({list, tuple, type(APPLICATION)})


@attrs.frozen(eq=False, repr=False)
class Question:
    """
    What a filter was asked.

    Args:
        action: What is done to each item.

        subject: Who acts, if that was said.

        context: In which circumstances, if that was said.
    """

    action: Any
    subject: Any = None
    context: Mapping[str, Any] | None = None


def sift(
    lead: Enforcement, question: Question, items: Sequence[T], jobs: Callable[[], Sequence[Enforcement]]
) -> Plan[Reply]:
    """
    Keep the items that may be seen; one record tells of them before any is released.

    Args:
        lead: The enforcement that records.

        question: What was asked.

        items: What to choose from.

        jobs: Makes an enforcement for each, where something is not plain.

    Returns:
        The kept items, or the error where no answer was had for one of them.
    """
    wiring = lead.wiring
    # INVARIANT: the epoch before the extraction: what is revoked meanwhile may be what was extracted.
    epoch, asked = wiring.generations.epoch, _requests(lead, question, items)
    if not asked:
        return (yield from keep_permitted(jobs(), items, lead))
    now = wiring.clock.monotonic()
    batches, deadline = wiring.batches, lead.timing.deadline
    if batches is None or wiring.shapes.consistent or now >= deadline:
        return (yield from keep_permitted(jobs(), items, lead))
    found = [request for request in asked if type(request) is AccessRequest]
    reply = yield from attempt(batches.decide_many, tuple(found), deadline=deadline, threaded=wiring.threaded)
    had = _had(asked, batch_of(reply, len(found)))
    if not all(_is_plain(decision, fault) for decision, fault, _ in had):
        answered = Answered(asked, had, epoch, excusable=now <= lead.timing.half)
        return (yield from keep_permitted(jobs(), items, lead, answered))
    kept = [at for at, (decision, _, _) in enumerate(had) if decision is not None and decision.effect is Effect.PERMIT]
    return (yield from _released(lead, asked, kept, items, epoch))


def _requests(lead: Enforcement, question: Question, items: Sequence[Any]) -> list[AccessRequest | Exception]:
    """Turn items into requests, or into why there is none; nothing where an enforcement of each is needed."""
    scope, wiring = lead.frame.scope, lead.wiring
    who = scope.subject if question.subject is None and scope.is_open else question.subject
    named = isinstance(lead.needs[0].resource, Constant)
    if not named or wiring.providers or scope.actors or type(who) is not Subject or lead.deciding.nested:
        return []
    found: list[AccessRequest | Exception] = []
    first: AccessRequest | None = None
    with within(lead.inner):
        for item in items:
            try:
                if type(item) in _SEVERAL or (type(item) is not Resource and isinstance(item, Iterator)):
                    return []
                resource = item if type(item) is Resource else wiring.registries.resources.convert(item)
                if first is None:
                    first = _first(who, question, resource, scope)
                    found.append(first)
                else:
                    found.append(first.about(resource))
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001  a converter may raise anything
                found.append(error)
    asked = [request for request in found if type(request) is AccessRequest]
    # One alone is no batch.
    several = any(request.resource.key != asked[0].resource.key for request in asked)
    return found if several and _are_alike(lead, asked) else []


def _first(who: Subject, question: Question, resource: Resource, scope: Scope) -> AccessRequest:
    context, tenant = (scope.context, scope.tenant) if scope.is_open else (EMPTY, None)
    if question.context is not None:
        own = freeze_mapping(question.context, what="the context")
        context = freeze_mapping({**context, **own}, what="the context")
    return AccessRequest(who, question.action, resource, context, (), tenant)


def _are_alike(lead: Enforcement, asked: Sequence[AccessRequest]) -> bool:
    """Tell whether each is enforced plainly, and all have as much time; if so, that is what there is."""
    kinds = {request.resource.type: request for request in asked}
    profiles = [lead.wiring.profiles.for_action(request.qualified_action) for request in kinds.values()]
    deadlines = {profile.deadline for profile in profiles}
    if len(deadlines) != 1 or not all(map(_is_enforced, profiles)):
        return False
    started = lead.timing.started
    lead.deciding.timing = Timing(started, started + deadlines.pop())
    return True


def _is_enforced(profile: Profile) -> bool:
    stale = isinstance(profile.on_failure, FailStale)
    return isinstance(profile.mode, Enforce) and not profile.pin_arguments and not stale


def _had(asked: Sequence[AccessRequest | Exception], checked: Sequence[Checked]) -> list[Checked]:
    came = iter(checked)
    return [next(came) if type(one) is AccessRequest else (None, Fault.EXTRACTION, one) for one in asked]  # type: ignore[misc]


def _is_plain(decision: Decision | None, fault: Fault | None) -> bool:
    """Tell whether nothing is to be discharged, and nothing is in doubt but what the item itself is to blame for."""
    if decision is None:
        return fault is Fault.EXTRACTION
    return not decision.obligations


def _released(lead: Enforcement, asked: Sequence[Any], kept: list[int], items: Sequence[T], epoch: int) -> Plan[Reply]:
    """Record what is kept, and let it out; what was revoked meanwhile stays in."""
    generations = lead.wiring.generations
    kept = _holding(generations, asked, kept, epoch)
    outcome = Outcome.PERMITTED if kept else Outcome.DENIED
    lead.verdict = attrs.evolve(lead.verdict, outcome=outcome, fault=None)
    fields = {
        **asked_fields(lead.needs, lead.frame, lead.wiring.masking),
        "entry": lead.entry,
        "outcome": outcome.value,
        "pdp": lead.wiring.pdp_name,
        "asked": len(asked),
        "withheld": len(asked) - len(kept),
        **kept_fields(_ids(asked, kept), "kept"),
    }
    record = lead.wiring.journal.make(Kind.DECISION, fields, record_id=lead.record_id)
    cancelled = outcome_record(lead, "cancelled") if kept else None
    # As of the first item: a denial may have used up the time, and still has to be told.
    until = lead.timing.deadline if kept[:1] == [0] else lead.deadline_from_now()
    failed = yield from submit(lead, record, until, cancelled)
    if failed is not None and kept:
        lead.refuse(Fault.AUDIT, failed)
        return Raised(denial(lead.verdict))
    while len(still := _holding(generations, asked, kept, epoch)) < len(kept):
        lost = sorted({*kept} - {*still})
        kept = still
        yield from submit_outcome(lead, outcome_record(lead, "withheld", kept_fields(_ids(asked, lost), "revoked")))
    return Returned([items[at] for at in kept])


def _holding(generations: Generations, asked: Sequence[Any], kept: list[int], epoch: int) -> list[int]:
    """Leave out what was revoked since an epoch."""
    while True:
        now = generations.epoch
        if now != epoch:
            kept = [at for at in kept if generations.holds(asked[at], epoch)]
        if now == generations.epoch:
            return kept


def _ids(asked: Sequence[Any], which: Sequence[int]) -> list[tuple[str, str | None]]:
    resources = [asked[at].resource for at in which]
    return [(one.type, one.id) for one in resources]
