"""
Candidates: what a decision point finds that could be permitted; nothing here permits anything.

Imports the enforcement plan and what is below it.
"""

from __future__ import annotations

from typing import Final

from pep.ask import Answer
from pep.enforcement import Enforcement, denial
from pep.errors import AttributeProviderError, ConfigurationError, ExtractionError, PDPReplyError
from pep.fault import Fault, fault_of
from pep.found import Found
from pep.model import AccessRequest, Action, Resource, Subject
from pep.plan import Plan, Raised, Reply, Returned, attempt
from pep.protocols import SearchPDP
from pep.settle import settle_fault
from pep.verdict import Verdict

#: What a search may be for → of which type its hits are.
KINDS: Final[dict[str, type]] = {"subject": Subject, "resource": Resource, "action": Action}


def candidates(job: Enforcement, wanted: str) -> Plan[Reply]:
    """
    Have the decision point find what could complete the request of a job.

    Args:
        job: Asks about the rest of it.

        wanted: ``"subject"``, ``"resource"`` or ``"action"``.

    Returns:
        A `Found`, every hit yet to be checked; or what to raise, recorded, where no answer was had.
    """
    pdp = job.wiring.pdp
    if not isinstance(pdp, SearchPDP):
        message = f"`{job.wiring.pdp_name}` cannot search; bring a decision point with `search`, or use `filter`"
        return Raised(ConfigurationError(message))
    if (yield from job.extract()):
        found = yield from _searched(job, pdp, wanted, job.answers[0])
        if found is not None:
            return Returned(found)
    yield from job.record()
    return Raised(denial(job.verdict))


def _searched(job: Enforcement, pdp: SearchPDP, wanted: str, answer: Answer) -> Plan[Found | None]:
    """Search for the originating subject; the verdict tells the fault, where there is nothing."""
    wiring, deadline = job.wiring, job.timing.deadline
    if wanted != "subject":
        rows = wanted == "resource"
        try:
            answer.request = yield from wiring.providers.enrich(answer.request, deadline, wiring.generations, rows=rows)
        except (AttributeProviderError, ExtractionError) as error:
            fault = Fault.ATTRIBUTES if isinstance(error, AttributeProviderError) else Fault.EXTRACTION
            return _failed(job, answer, fault, error)
    reply = yield from attempt(pdp.search, wanted, answer.request, deadline=deadline, threaded=wiring.threaded)
    if isinstance(reply, Raised):
        return _failed(job, answer, fault_of(reply.error), reply.error)
    found = reply.value
    if type(found) is Found and all(_completes(answer.request, wanted, hit) for hit in found):
        return found
    return _failed(job, answer, Fault.MALFORMED, PDPReplyError(f"a search for a {wanted} must have `Found` of them"))


def _completes(request: AccessRequest, wanted: str, hit: object) -> bool:
    """Tell whether a hit is what was searched for: of an action there is nothing to tell that by."""
    if type(hit) is not KINDS[wanted]:
        return False
    return type(hit) is Action or (hit.id is not None and hit.type == getattr(request, wanted).type)  # type: ignore[attr-defined]


def _failed(job: Enforcement, answer: Answer, fault: Fault, cause: Exception) -> Found | None:
    job.verdict = Verdict(job.record_id, settle_fault(fault), request=answer.request, fault=fault, cause=cause)
    return None
