"""
Deciding: from a call's arguments to a verdict, with everything it rests on.

Extraction, answers, failure modes, and the obligations that come before the code. Imports L0 and
L1 only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs

from pep.ask import Answer, Timing, answer_all
from pep.extract import Requirement
from pep.fault import Fault
from pep.frozen import EMPTY
from pep.intake import Arguments, Halt, Intake
from pep.model import AccessRequest
from pep.obligations.ledger import Duty, discharge
from pep.plan import Plan, Reply, Returned, contain
from pep.profile import Profile, Shadow
from pep.protocols import Call, Phase, Rank
from pep.scope import Approval, Frame
from pep.settle import prevailing
from pep.verdict import ALLOWING, Outcome, Verdict
from pep.weigh import open_ledger, openings, outcome_of, weigh, with_duties, without_answer, would_be
from pep.wiring import Wiring

_ALL: Final = frozenset(Rank)
_EARLY: Final = frozenset({Rank.VERIFY, Rank.MODIFY})
_LATE: Final = _ALL - _EARLY


@attrs.define(eq=False, repr=False)
class Deciding:
    """
    What one call demands, and how it is decided.

    Args:
        wiring: What the enforcer is made of.

        needs: What the call demands; all of it, in one batch.

        arguments: The bound arguments, name → value.

        frame: The frame the call was made in.

        phases: The phases this entry point has for the obligations of a permit.

        modifiable: Whether obligations may change the arguments.

        asking: Whether the question is only asked: nothing is consumed, opened or shadowed.

        openable: Whether a failure mode may open this entry point.

        ran: Whether the protected code has run already.

        began: When the call began, in seconds on the clock of expiry, and the epoch then; where that was earlier.
    """

    wiring: Wiring
    needs: Sequence[Requirement]
    arguments: Arguments
    frame: Frame
    phases: tuple[Phase, ...] = (Phase.BEFORE, Phase.AFTER)
    modifiable: bool = True
    asking: bool = False
    openable: bool = True
    ran: bool = False
    began: tuple[float, int] | None = None

    #: The arguments to run with: obligations may have changed them.
    effective: Arguments = attrs.field(default=EMPTY, init=False)
    answers: list[Answer] = attrs.field(factory=list, init=False)
    duties: list[Duty] = attrs.field(factory=list, init=False)
    timing: Timing = attrs.field(init=False)
    #: The frame of what runs inside this call: who acts here, one call deeper.
    inner: Frame = attrs.field(init=False)
    _intake: Intake = attrs.field(init=False)
    # Stage → seconds, of the last time round.
    _stages: dict[str, float] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        now, likely = self.wiring.clock.monotonic(), [self.wiring.likely(need) for need in self.needs]
        if self.began is not None:
            now -= max(0.0, self.wiring.clock.boottime() - self.began[0])
        self.timing = Timing(now, now + min([max([profile.deadline for profile in some]) for some in likely]))
        self.inner = self.frame.inner()
        self._intake = Intake(self.needs, self.arguments, self.inner, self.wiring.registries)
        self.effective = self.arguments

    @property
    def nested(self) -> bool:
        """Whether guarded calls nest too deep for this one."""
        return self._intake.nested

    # From the call to the verdict.

    def decide(self, record_id: str) -> Plan[Verdict]:
        """Extract, ask, settle and discharge; whatever goes wrong becomes a verdict, of the record's id."""
        self.reset()
        return self.concluded((yield from contain(self._decided(record_id))), record_id)

    def settle(self, record_id: str) -> Plan[Verdict]:
        """Settle and discharge what a batch answered."""
        return self.concluded((yield from contain(self._settled(record_id))), record_id)

    def reset(self) -> None:
        """Forget every answer, and what obligations made of the arguments."""
        self.effective, self.answers, self.duties = self.arguments, [], []

    def extract(self) -> Plan[None]:
        """
        Turn the call into requests, and open an answer for each.

        Raises:
            Halt: When it cannot be turned into any.
        """
        again = bool(self._intake.requests)
        # INVARIANT: the epoch before the extraction: what is revoked meanwhile may be what was extracted.
        epoch = self.wiring.generations.epoch if self.began is None or again else self.began[1]
        self._open((yield from self._intake.take(self.timing.deadline)), epoch, again=again)
        if any(answer.profile.pin_arguments for answer in self.answers):
            self._intake.pin()

    def _open(self, requests: Sequence[AccessRequest], epoch: int, *, again: bool) -> None:
        """Open an answer for every request, at an epoch read before, and under the tightest deadline."""
        wiring, self.answers = self.wiring, []
        now = wiring.clock.boottime()
        for request in requests:
            profile = wiring.profiles.for_action(request.qualified_action)
            shadowed = not self.asking and wiring.shadowed(profile, request.subject)
            self.answers.append(Answer(request, profile, epoch, now, shadowed))
        started = self.timing.started
        self.timing = Timing(started, started + min([answer.profile.deadline for answer in self.answers]), again)

    def _decided(self, record_id: str) -> Plan[Verdict]:
        self._stages = {}
        yield from self.extract()
        moment, again = self._passed("extraction", self.timing.started), False
        while True:
            yield from answer_all(self.wiring, self.answers, self.timing)
            moment = self._passed("decision", moment)
            outcome = yield from self._met_early()
            epoch = self.wiring.generations.epoch
            if not (yield from self._modified(outcome)):
                verdict = yield from self._met(outcome, record_id)
                if self.duties:
                    self._passed("obligations", moment)
                return verdict
            if again:
                raise Halt(Fault.OBLIGATION)
            # What obligations made of the call is another call: it is decided again, once.
            again = True
            self._open(self._intake.requests, epoch, again=again)

    def _settled(self, record_id: str) -> Plan[Verdict]:
        return (yield from self._met((yield from self._met_early()), record_id))

    def _met_early(self) -> Plan[Outcome]:
        """Settle the answers, and discharge what comes before anything is consumed; all of it for a denial."""
        enforced = [answer for answer in self.answers if not answer.shadowed]
        outcome = prevailing([outcome_of(answer) for answer in enforced])
        if outcome is Outcome.UNAVAILABLE and self.openable and not self.asking:
            faulted = openings(enforced)
            outcome = Outcome.FAILED_OPEN if faulted and self.wiring.opens(faulted) else outcome
        self.duties = open_ledger(self.wiring.handlers, enforced, outcome, self.phases)
        if self.duties and not self.asking:
            phase, ranks = (Phase.BEFORE, _EARLY) if outcome in ALLOWING else (Phase.ON_DENIAL, _ALL)
            yield from self.discharge(phase, ranks, self.until(outcome))
        return outcome

    def _modified(self, outcome: Outcome) -> Plan[bool]:
        """Tell whether obligations made another call of a permitted one."""
        if self.effective is self.arguments or with_duties(outcome, self.duties)[0] not in ALLOWING:
            return False
        return (yield from self._intake.changed(self.effective, self.until(outcome)))

    def _met(self, outcome: Outcome, record_id: str) -> Plan[Verdict]:
        """Discharge the rest of what is due before the code, and weigh everything."""
        if self.duties and not self.asking and outcome in ALLOWING:
            yield from self.discharge(Phase.BEFORE, _LATE, self.until(outcome))
        shadowed = [answer for answer in self.answers if answer.shadowed]
        would = would_be(self.wiring.handlers, shadowed, self.phases) if shadowed else outcome
        return weigh(record_id, self.answers, self.duties, outcome, would=would, ran=self.ran)

    def discharge(
        self,
        phase: Phase,
        ranks: frozenset[Rank],
        until: float,
        result: Any = None,  # noqa: ANN401  whatever the code returned
    ) -> Plan[Any]:
        """
        Discharge the duties of some ranks in one phase.

        Args:
            phase: Which phase this is.

            ranks: Which ranks are due.

            until: When an answer is too late, on the monotonic clock, in seconds.

            result: What the code returned, after it.

        Returns:
            The result as they left it.
        """
        brought = self._approval(phase, ranks)
        usable = None if brought is None else brought.take()
        call = Call(self.duties[0].request, self.effective, result, phase, usable)
        modifiable = self.modifiable and phase is Phase.BEFORE
        call = yield from discharge(self.duties, ranks, call, until, modifiable=modifiable)
        self.effective = call.arguments
        # Cut off before this, it stays taken: somebody may have used it.
        if brought is not None and usable is not None and not any(duty.confirmed for duty in self.duties):
            brought.give_back()
        return call.result

    def _approval(self, phase: Phase, ranks: frozenset[Rank]) -> Approval | None:
        """Return the approval that came with the call, where somebody asks for a confirmation now."""
        if phase is Phase.BEFORE and Rank.CONFIRM in ranks and any(duty.rank is Rank.CONFIRM for duty in self.duties):
            return self.frame.approval
        return None

    def release(self, value: Any) -> Plan[Any]:  # noqa: ANN401  whatever the code returned
        """Discharge what is due after the code; it was under no deadline, what comes now has one of its own."""
        return (yield from self.discharge(Phase.AFTER, _ALL, self.deadline_from_now(), value))

    def concluded(self, reply: Reply, record_id: str) -> Verdict:
        """Make the verdict of what deciding came to."""
        if isinstance(reply, Returned):
            verdict: Verdict = reply.value
            return verdict
        error = reply.error
        fault, cause = (error.fault, error.cause) if isinstance(error, Halt) else (Fault.INTERNAL, error)
        return without_answer(
            record_id,
            fault,
            cause,
            requests=self._intake.requests,
            duties=self.duties,
            hidden=any(profile.hidden for profile in self.profiles()),
            shadowed=self._only_shadowed(),
            ran=self.ran,
        )

    def _only_shadowed(self) -> bool:
        if self.answers:
            return all(answer.shadowed for answer in self.answers)
        if self.asking or self._intake.nested:
            return False
        # Whoever cannot be named falls into no fraction: a canary enforces.
        return all(isinstance(p.mode, Shadow) and self.wiring.shadowed(p, None) for p in self.profiles())

    def still(self, outcome: Outcome, *, suspended: bool) -> Plan[Fault | None]:
        """
        Check that it still is the call that was decided, and that what was decided holds.

        Args:
            outcome: What was decided.

            suspended: Whether the world went on since.
        """
        if not (yield from self._intake.still(self.effective, self.until(outcome), suspended=suspended)):
            return Fault.EXTRACTION
        return None if self.holds() else Fault.REVOKED

    def latency(self) -> dict[str, float]:
        """Return how long each stage took, in seconds, and all of it so far."""
        return {**self._stages, "total": max(0.0, self.wiring.clock.monotonic() - self.timing.started)}

    def _passed(self, stage: str, since: float) -> float:
        """Note how long a stage took; return when it ended."""
        now = self.wiring.clock.monotonic()
        self._stages[stage] = self._stages.get(stage, 0.0) + max(0.0, now - since)
        return now

    # What it rests on.

    def holds(self) -> bool:
        """Tell whether nothing this call rests on was revoked since."""
        holds = self.wiring.generations.holds
        return all(answer.shadowed or holds(answer.request, answer.epoch) for answer in self.answers)

    def profiles(self) -> list[Profile]:
        """Return the profiles it is enforced by; all that may be, until the requests are known."""
        if self.answers:
            return [answer.profile for answer in self.answers]
        return [profile for need in self.needs for profile in self.wiring.likely(need)]

    def until(self, outcome: Outcome) -> float:
        """
        Return when what follows the answers is too late, on the monotonic clock, in seconds.

        A permit has what is left of the deadline. A fault or a denial may have used that up, and still
        has to be told: it gets as much again.
        """
        if outcome is Outcome.PERMITTED and all(answer.fault is None for answer in self.answers):
            return self.timing.deadline
        return self.deadline_from_now()

    def deadline_from_now(self) -> float:
        """Return a deadline as long as the whole call's, from now."""
        return self.wiring.clock.monotonic() + self.timing.deadline - self.timing.started
