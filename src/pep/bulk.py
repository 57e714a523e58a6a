"""
Many questions at once: batches of checks, and filters.

One question to the decision point for all of them, where it takes batches. Imports the
enforcement plan and what is below it only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import attrs
import orjson

from pep.ask import Timing, answer_all
from pep.audit.record import Kind, Record
from pep.audit.tell import asked_fields, batch_ids
from pep.enforcement import Enforcement, Stage, denial
from pep.fault import AVAILABILITY, Fault
from pep.keeping import Checked
from pep.model import AccessRequest
from pep.plan import Plan, Raised, Reply, Returned
from pep.verdict import Outcome, Verdict

T = TypeVar("T")

#: How many kept ids a record lists before it gives their digest instead.
LISTED: Final = 100

_NO_PARTIAL: Final = AVAILABILITY | {Fault.MISMATCHED}


@attrs.frozen(eq=False, repr=False)
class Answered:
    """
    What was answered about a batch before there was an enforcement of each.

    Args:
        requests: What was asked; or why it could not be.

        had: A decision or a fault with its cause, for each.

        epoch: The epoch read before the question.

        excusable: Whether it was asked early enough that a failure mode may excuse a fault.
    """

    requests: Sequence[AccessRequest | Exception]
    had: Sequence[Checked]
    epoch: int
    excusable: bool


def conclude_all(jobs: Sequence[Enforcement], answered: Answered | None = None) -> Plan[None]:
    """
    Bring every job to a verdict, with one question for all that can be asked.

    Args:
        jobs: One per question.

        answered: What was answered already, one per job, if that is so.
    """
    ready: list[Enforcement] = []
    for job in jobs:
        if (yield from job.extract()):
            ready.append(job)  # noqa: PERF401  a plan cannot yield from a comprehension
    if answered is not None:
        _fill(jobs, answered)
    elif ready:
        timing = Timing(ready[0].timing.started, min(job.timing.deadline for job in ready))
        yield from answer_all(ready[0].wiring, [answer for job in ready for answer in job.answers], timing)
    for job in ready:
        yield from job.settle()


def _fill(jobs: Sequence[Enforcement], answered: Answered) -> None:
    for job, request, had in zip(jobs, answered.requests, answered.had, strict=True):
        for answer in job.answers:
            answer.decision, answer.fault, answer.cause = had
            answer.epoch, answer.excusable = answered.epoch, answered.excusable
            if answer.request != request:
                # It is not what was asked about any more.
                answer.decision, answer.fault = None, Fault.EXTRACTION


def check_all(jobs: Sequence[Enforcement]) -> Plan[list[Verdict]]:
    """
    Check many, and record each; nothing is enforced.

    Returns:
        Their verdicts, in order.
    """
    yield from conclude_all(jobs)
    for job in jobs:
        job.recheck()
        yield from job.record()
    return [job.verdict for job in jobs]


def keep_permitted(
    jobs: Sequence[Enforcement],
    items: Sequence[T],
    lead: Enforcement | None = None,
    answered: Answered | None = None,
) -> Plan[Reply]:
    """
    Keep the items that may be seen; one record tells of them before any is released.

    Args:
        jobs: One per item.

        items: What to choose from.

        lead: What submits the pending record when the plan is cut off; the first job, unless given.

        answered: What was answered already, one per job, if that is so.

    Returns:
        The kept items, each as its obligations left it; or the error, where no answer was had for
        one of them: there is no partial list.
    """
    if not jobs:
        return Returned([])
    yield from conclude_all(jobs, answered)
    for job in jobs:
        job.recheck()
    (lead or jobs[0]).stage = Stage.DECIDING
    broken = next((job for job in jobs if job.verdict.fault in _NO_PARTIAL and not job.verdict.allowed), None)
    kept: list[tuple[Enforcement, T]] = []
    for job, item in zip(jobs, items, strict=True):
        if broken is None and job.verdict.allowed:
            kept += [(job, value) for value in (yield from job.released(item))]
    batch = _Batch(lead or jobs[0], jobs, broken, [job for job, _ in kept])
    failed = yield from batch.record()
    if broken is not None:
        return Raised(denial(broken.verdict))
    if failed is not None and kept:
        lost = kept[0][0]
        lost.refuse(Fault.AUDIT, failed)
        return Raised(denial(lost.verdict))
    yield from batch.withhold_revoked()
    return Returned([item for job, item in kept if job.verdict.allowed])


class _Batch:
    """The records of one filtered batch."""

    def __init__(
        self, lead: Enforcement, jobs: Sequence[Enforcement], broken: Enforcement | None, kept: Sequence[Enforcement]
    ) -> None:
        self._lead = lead
        self._jobs = jobs
        self._first = broken or jobs[0]
        self._broken = broken
        self._kept = kept

    def record(self) -> Plan[Exception | None]:
        """Record what is kept; return what went wrong."""
        first = self._first
        record = first.wiring.journal.make(Kind.DECISION, self._fields(), record_id=first.record_id)
        cancelled = outcome_record(first, "cancelled") if self._kept else None
        return (yield from submit(self._lead, record, first.deciding.until(first.verdict.outcome), cancelled))

    def withhold_revoked(self) -> Plan[None]:
        """Withhold what was revoked since, until nothing is: the list takes effect when this returns."""
        while lost := [job for job in self._kept if job.verdict.allowed and not job.holds(starting=True)]:
            for job in lost:
                job.refuse(Fault.REVOKED)
            record = outcome_record(self._first, "withheld", kept_fields(_ids(lost), "revoked"))
            yield from submit_outcome(self._lead, record)

    def _fields(self) -> dict[str, Any]:
        first, broken, kept = self._first, self._broken, self._kept
        shadowed = any(job.verdict.outcome is Outcome.SHADOWED for job in kept)
        outcome = Outcome.SHADOWED if shadowed else Outcome.PERMITTED if kept else Outcome.DENIED
        stale = sum(any(answer.stale for answer in job.answers) for job in kept)
        return {
            **asked_fields(first.needs, first.frame, first.wiring.masking),
            "entry": first.entry,
            "outcome": (outcome if broken is None else broken.verdict.outcome).value,
            "fault": None if broken is None or broken.verdict.fault is None else broken.verdict.fault.value,
            "stale": stale or None,
            "pdp": first.wiring.pdp_name,
            "asked": len(self._jobs),
            "withheld": len(self._jobs) - len(kept),
            **kept_fields(_ids(kept), "kept"),
        }


def submit(lead: Enforcement, record: Record, until: float, cancelled: Record | None) -> Plan[Exception | None]:
    """
    Record what is kept; return what went wrong.

    Args:
        lead: What submits the pending record when the plan is cut off.

        record: What tells of it.

        until: When that is too late, on the monotonic clock, in seconds.

        cancelled: What tells that it was not released after all; None where nothing is kept.
    """
    # What the sink was handed it may have taken; without it, nothing is released.
    lead.pending = record if cancelled is None else cancelled
    failed = yield from lead.wiring.journal.write(record, until)
    lead.pending, lead.stage = None, Stage.DONE
    return failed


def submit_outcome(lead: Enforcement, record: Record) -> Plan[None]:
    """Record what became of a batch after its decision; a record that is lost is owed."""
    lead.pending = record
    if (yield from lead.wiring.journal.write(record, lead.deadline_from_now())) is not None:
        lead.wiring.journal.owe()
    lead.pending, lead.stage = None, Stage.DONE


def outcome_record(first: Enforcement, status: str, more: Mapping[str, Any] | None = None) -> Record:
    """Make the record of what became of a batch."""
    fields = {"entry": first.entry, "decision": first.record_id, "status": status, "ran": first.deciding.ran}
    return first.wiring.journal.make(Kind.OUTCOME, {**fields, **(more or {})})


def kept_fields(ids: Sequence[tuple[str, str | None]], what: str) -> Mapping[str, Any]:
    """Tell the types and ids of resources; their count and digest where they are many."""
    if len(ids) <= LISTED:
        return {what: ids}
    import hashlib  # noqa: PLC0415  only a long list pays for it

    return {f"{what}_count": len(ids), f"{what}_digest": hashlib.sha256(orjson.dumps(ids)).hexdigest()}


def _ids(jobs: Sequence[Enforcement]) -> list[tuple[str, str | None]]:
    return [one for job in jobs for one in batch_ids(job.answers)]
