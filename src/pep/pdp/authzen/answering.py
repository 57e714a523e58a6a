"""
What an enforcer's decision point says, plainly: no failure mode, no shadow, no obligation discharged; recorded.

Imports the enforcement plan and what is below it; the enforcer itself is handed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from pep.bulk import check_all
from pep.candidates import candidates
from pep.compose.combine import Algorithm, combine
from pep.deciding import Deciding
from pep.enforcement import Enforcement
from pep.errors import ConfigurationError
from pep.fault import Fault
from pep.found import Found
from pep.model import AccessRequest, Decision, Effect, Obligation
from pep.obligations.ledger import Duty, Handlers
from pep.plain import Prepared
from pep.plan import Raised
from pep.profile import Enforce, FailClosed, Profile
from pep.profiles import Profiles
from pep.protocols import Phase, Rank, SearchPDP
from pep.scope import current_frame
from pep.verdict import Outcome
from pep.wiring import Wiring

if TYPE_CHECKING:
    from pep.enforcer import Enforcer

_PLAINLY: Final = Profile(on_failure=FailClosed(), mode=Enforce())


@attrs.frozen
class Answer:
    """
    What came of one question.

    Args:
        id: The id of the audit record that holds it.

        decision: What was decided; None where there is no decision.

        fault: Why there is none.
    """

    id: str
    decision: Decision | None
    fault: Fault | None = None


class Answering:
    """
    Asks an enforcer's decision point as `check` does, and takes its word as it is.

    Args:
        enforcer: Whose decision point it is.

    Raises:
        ConfigurationError: When it is none.
    """

    def __init__(self, enforcer: Enforcer) -> None:
        core: Any = getattr(enforcer, "_core", None)
        if isinstance(enforcer, type) or not hasattr(core, "arun_all"):
            shown = getattr(enforcer, "__name__", type(enforcer).__name__)
            message = f"`{shown}` is no enforcer; wrap a decision point in `Enforcer(pdp, audit=...)`"
            raise ConfigurationError(message)
        self._core = core
        self._derived: tuple[Wiring, Wiring] | None = None

    @property
    def searches(self) -> bool:
        """Whether the decision point can search; one that is not there yet may."""
        return not self._core.bound or isinstance(self._core.latest.pdp, SearchPDP)

    async def answers(self, requests: Sequence[AccessRequest]) -> list[Answer]:
        """
        Ask, and record each as a check.

        A request with actors is asked for each of them too, and all must permit.

        Returns:
            What came of each, in order.

        Raises:
            AccessDenied: While the enforcer is unbound, or closed.
        """
        jobs = self._jobs(requests)
        await self._core.arun_all(jobs, check_all(jobs))
        return [_answer(job) for job in jobs]

    async def found(self, wanted: str, request: AccessRequest) -> Found | Fault:
        """
        Search.

        Returns:
            What was found, each of it still to be asked about; or why there is nothing.

        Raises:
            AccessDenied: While the enforcer is unbound, or closed.
        """
        (job,) = self._jobs([request])
        reply = await self._core.arun(job, candidates(job, wanted))
        if isinstance(reply, Raised):
            return job.verdict.fault or Fault.INTERNAL
        found: Found = reply.value
        return found

    def _jobs(self, requests: Sequence[AccessRequest]) -> list[Enforcement]:
        wiring, frame = self._plainly(), current_frame()
        needs: list[Any] = [Prepared(request) for request in requests]
        return [Enforcement(Deciding(wiring, [need], {}, frame, asking=True), "authzen") for need in needs]

    def _plainly(self) -> Wiring:
        """Return the wiring of now, without what makes of a decision what it is not."""
        wiring: Wiring = self._core.wiring()
        derived = self._derived
        if derived is None or derived[0] is not wiring:
            plain: Any = _PlainProfiles(wiring.profiles)
            derived = self._derived = (wiring, attrs.evolve(wiring, profiles=plain, handlers=_PassedOn()))
        return derived[1]


class _PassedOn(Handlers):
    """A ledger that only lists obligations: whoever asked discharges them."""

    def open(self, obligations: Iterable[Obligation], request: AccessRequest, phases: Sequence[Phase]) -> list[Duty]:  # noqa: ARG002  they are nobody's business here
        """List what the decision demands."""
        return [Duty(one, request, None, None, Rank.MODIFY) for one in obligations]


class _PlainProfiles:
    """Profiles without failure modes and shadows."""

    def __init__(self, profiles: Profiles) -> None:
        self._profiles = profiles
        # By identity: there is one object for each pattern. It is kept, so that nothing else gets its identity.
        self._plain: dict[int, tuple[Profile, Profile]] = {}

    def for_action(self, qualified: str) -> Profile:
        """Return the profile of an action, closed and enforced."""
        profile = self._profiles.for_action(qualified)
        known = self._plain.get(id(profile))
        if known is None:
            known = self._plain[id(profile)] = (profile, _PLAINLY.over(profile))
        return known[1]


def _answer(job: Enforcement) -> Answer:
    """Take what was decided; what does not fit together is no decision."""
    verdict = job.verdict
    decisions = [one.decision for one in job.answers if one.decision is not None and one.fault is None]
    permitted = [one for one in decisions if one.effect is Effect.PERMIT]
    # INVARIANT: a permit is nothing but permits, one for each request, with nothing wrong.
    all_permit = bool(permitted) and len(permitted) == len(job.answers)
    if verdict.outcome is Outcome.PERMITTED and verdict.fault is None and all_permit:
        return Answer(verdict.id, _joined(permitted))
    if verdict.fault is None and verdict.decision is not None and verdict.decision.effect is not Effect.PERMIT:
        return Answer(verdict.id, verdict.decision)
    return Answer(verdict.id, None, verdict.fault or Fault.INTERNAL)


def _joined(permits: Sequence[Decision]) -> Decision:
    return permits[0] if len(permits) == 1 else combine(Algorithm.DENY_OVERRIDES, permits)
