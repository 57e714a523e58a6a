"""
Deciding: from a call's arguments to a verdict, with everything it rests on.

Extraction, answers, failure modes, and the obligations that come before the code. Imports L0 and
L1 only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import attrs

from pep.ask import Answer, Timing, answer_all
from pep.extract import NOT_GIVEN, Requirement
from pep.fault import Fault
from pep.frozen import EMPTY
from pep.intake import Arguments, Halt, Intake
from pep.keeping import overtaken
from pep.model import AccessRequest
from pep.obligations.ledger import Duty, carry_over, discharge, recount
from pep.plan import Plan
from pep.profile import Enforce, Profile, Shadow
from pep.protocols import Call, Phase, Rank
from pep.scope import Approval, Frame
from pep.settle import prevailing
from pep.verdict import ALLOWING, Discharge, Outcome, Verdict
from pep.weigh import open_ledger, openings, outcome_of, weigh, with_duties, without_answer, would_be
from pep.wiring import Wiring

T = TypeVar("T")

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

        given: What the only need's resource came to when it was read before; see `Requirement.requests`.

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
    given: object = NOT_GIVEN
    began: tuple[float, int] | None = None

    #: The arguments to run with: obligations may have changed them.
    effective: Arguments = attrs.field(default=EMPTY, init=False)
    answers: list[Answer] = attrs.field(factory=list, init=False)
    duties: list[Duty] = attrs.field(factory=list, init=False)
    timing: Timing = attrs.field(init=False)
    #: The frame of what runs inside this call: who acts here, one call deeper.
    inner: Frame = attrs.field(init=False)
    #: The id of the decision's record.
    _record_id: str | None = attrs.field(default=None, init=False)
    #: What handlers have asked of the effective arguments just before the code runs.
    _seals: tuple[Callable[[Arguments], bool], ...] = attrs.field(default=(), init=False)
    #: Whether the hot path decided it before, and was overtaken: what is late then is never excused.
    repeated: bool = attrs.field(default=False, init=False)
    _intake: Intake = attrs.field(init=False)
    # What earlier decisions of this call consumed, and did not find again.
    _spent: list[Duty] = attrs.field(factory=list, init=False)
    # Whether any answer is only shadowed.
    _shadowing: bool = attrs.field(default=False, init=False)
    # Stage → seconds, of the last time round.
    _stages: dict[str, float] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        wiring = self.wiring
        now = wiring.clock.monotonic()
        if self.began is not None:
            now -= max(0.0, wiring.clock.boottime() - self.began[0])
        needs = self.needs
        longest = wiring.longest(needs[0]) if len(needs) == 1 else min([wiring.longest(need) for need in needs])
        self.timing = Timing(now, now + longest)
        self.inner = self.frame.inner()
        self._intake = Intake(needs, self.arguments, self.inner, wiring.registries, self.given)
        self.effective = self.arguments

    @property
    def nested(self) -> bool:
        """Whether guarded calls nest too deep for this one."""
        return self._intake.nested

    # From the call to the verdict.

    def decide(self, record_id: str) -> Plan[Verdict]:
        """Extract, ask, settle and discharge; whatever goes wrong becomes a verdict, of the record's id."""
        self._record_id = record_id
        self.reset()
        return self._safely(self._decided(record_id), record_id)

    def extracted(self, record_id: str) -> Plan[Verdict | None]:
        """Extract only, for a batch; return the verdict where there is nothing to ask."""
        self.reset()
        return self._safely(self.extract(), record_id)

    def settle(self, record_id: str) -> Plan[Verdict]:
        """Settle and discharge what a batch answered."""
        self._record_id = record_id
        return self._safely(self._met(record_id), record_id)

    def _safely(self, plan: Plan[T], record_id: str) -> Plan[T | Verdict]:
        try:
            return (yield from plan)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  user code may raise anything
            return self.concluded(error, record_id)

    def reset(self) -> None:
        """Forget every answer, and what obligations made of the arguments; not what they consumed."""
        if self.duties:
            self._spent += [duty for duty in self.duties if duty.spent]
        self.effective, self.answers, self.duties = self.arguments, [], []
        self._seals = ()

    def inherit(self, earlier: Deciding) -> None:
        """Take over what an earlier enforcement of the same call consumed: it is not consumed again."""
        self._spent = [duty for duty in earlier.duties if duty.spent]

    def extract(self) -> Plan[None]:
        """
        Turn the call into requests, and open an answer for each.

        Raises:
            Halt: When it cannot be turned into any.
        """
        intake = self._intake
        again = self.repeated or bool(intake.requests)
        # INVARIANT: the epoch before the extraction: what is revoked meanwhile may be what was extracted.
        epoch = self.wiring.generations.epoch if self.began is None or again else self.began[1]
        self._open((yield from intake.take(self.timing.deadline)), epoch, again=again)
        for answer in self.answers:
            if answer.profile.pin_arguments:
                intake.pin()
                return

    def _open(self, requests: Sequence[AccessRequest], epoch: int, *, again: bool) -> None:
        """Open an answer for every request, at an epoch read before, and under the tightest deadline."""
        wiring, started, self._shadowing = self.wiring, self.timing.started, False
        self.answers = answers = []
        now = wiring.clock.boottime()
        for request in requests:
            profile = wiring.profiles.for_action(request.qualified_action)
            shadowed = False
            if not self.asking and type(profile.mode) is not Enforce:
                shadowed = wiring.shadowed(profile, request.subject)
                self._shadowing = self._shadowing or shadowed
            answers.append(Answer(request, profile, epoch, now, shadowed))
        deadline = started + min([answer.profile.deadline for answer in answers])
        if again or deadline != self.timing.deadline:
            self.timing = Timing(started, deadline, again)

    def _decided(self, record_id: str) -> Plan[Verdict]:
        self._stages = {}
        yield from self.extract()
        changed: list[Duty] = []
        moment, again = self._passed("extraction", self.timing.started), False
        while True:
            yield from answer_all(self.wiring, self.answers, self.timing)
            moment = self._passed("decision", moment)
            outcome = self._settled()
            if not self.duties and not changed:
                return self._weighed(outcome, record_id)
            yield from self._met_early(outcome)
            epoch = self.wiring.generations.epoch
            if not (yield from self._modified(outcome)):
                yield from self._met_late(outcome)
                recount(changed, self.duties)
                self._passed("obligations", moment)
                return self._weighed(outcome, record_id)
            if again:
                raise Halt(Fault.OBLIGATION)
            # What obligations made of the call is another call: it is decided again, once.
            again, changed = True, [duty for duty in self.duties if duty.before is not None]
            self._open(self._intake.requests, epoch, again=again)

    def _met(self, record_id: str) -> Plan[Verdict]:
        outcome = self._settled()
        if self.duties:
            yield from self._met_early(outcome)
            yield from self._met_late(outcome)
        return self._weighed(outcome, record_id)

    def _settled(self) -> Outcome:
        """Settle the answers that are enforced, and open their ledger."""
        enforced = self.answers
        if self._shadowing:
            enforced = [answer for answer in enforced if not answer.shadowed]
        outcome = outcome_of(enforced[0]) if len(enforced) == 1 else prevailing(map(outcome_of, enforced))
        if outcome is Outcome.UNAVAILABLE and self.openable and not self.asking:
            faulted = openings(enforced)
            outcome = Outcome.FAILED_OPEN if faulted and self.wiring.opens(faulted) else outcome
        self.duties = open_ledger(self.wiring.handlers, enforced, outcome, self.phases)
        if self._spent:
            carry_over(self._spent, self.duties)
        return outcome

    def _met_early(self, outcome: Outcome) -> Plan[None]:
        """Discharge what comes before anything is consumed; all of it for a denial."""
        if self.duties and not self.asking:
            phase, ranks = (Phase.BEFORE, _EARLY) if outcome in ALLOWING else (Phase.ON_DENIAL, _ALL)
            yield from self.discharge(phase, ranks, self.until(outcome))

    def _modified(self, outcome: Outcome) -> Plan[bool]:
        """Tell whether obligations made another call of a permitted one."""
        if self.effective is self.arguments or with_duties(outcome, self.duties)[0] not in ALLOWING:
            return False
        return (yield from self._intake.changed(self.effective, self.until(outcome)))

    def _met_late(self, outcome: Outcome) -> Plan[None]:
        """Discharge the rest of what is due before the code."""
        if self.duties and not self.asking and outcome in ALLOWING:
            yield from self.discharge(Phase.BEFORE, _LATE, self.until(outcome))

    def _weighed(self, outcome: Outcome, record_id: str) -> Verdict:
        would = outcome
        if self._shadowing:
            shadowed = [answer for answer in self.answers if answer.shadowed]
            would = would_be(self.wiring.handlers, shadowed, self.phases)
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
        requests = tuple([answer.request for answer in self.answers])
        call = Call(self.duties[0].request, self.effective, result, phase, usable, self._record_id, (), requests)
        modifiable = self.modifiable and phase is Phase.BEFORE
        call = yield from discharge(self.duties, ranks, call, until, modifiable=modifiable)
        self.effective = call.arguments
        self._seals += call.seals
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

    def concluded(self, error: Exception, record_id: str) -> Verdict:
        """Make the verdict of what went wrong."""
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

    def discharges(self) -> tuple[Discharge, ...]:
        """Tell what became of every obligation so far."""
        return tuple([duty.told() for duty in self.duties]) if self.duties else ()

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
        intake = self._intake
        if (suspended or intake.pinned) and not (
            yield from intake.still(self.effective, self.until(outcome), suspended=suspended)
        ):
            return Fault.EXTRACTION
        # INVARIANT: what runs is what was confirmed.
        if not all(seal(self.effective) is True for seal in self._seals):
            return Fault.EXTRACTION
        return None if self.holds(starting=True) else Fault.REVOKED

    def latency(self) -> dict[str, float]:
        """Return how long each stage took, in seconds, and all of it so far."""
        total = self.wiring.clock.monotonic() - self.timing.started
        return {**self._stages, "total": total if total > 0 else 0.0}

    def _passed(self, stage: str, since: float) -> float:
        """Note how long a stage took; return when it ended."""
        now, stages = self.wiring.clock.monotonic(), self._stages
        if now > since:
            stages[stage] = stages.get(stage, 0.0) + (now - since)
        else:
            stages.setdefault(stage, 0.0)
        return now

    # What it rests on.

    def holds(self, *, starting: bool = False) -> bool:
        """Tell whether nothing this call rests on was revoked since; nor overtaken, where it only starts."""
        generations = self.wiring.generations
        for answer in self.answers:
            # The usual case without a call: nothing at all was revoked since.
            unmoved = answer.shadowed or answer.epoch == generations.epoch
            if not unmoved and not generations.holds(answer.request, answer.epoch):
                return False
            if starting and overtaken(self.wiring, answer):
                return False
        if not self.duties:
            return True
        now = self.wiring.clock.wall()
        return all(duty.holds(self.effective, now) for duty in self.duties)

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
        if outcome is not Outcome.PERMITTED:
            return self.deadline_from_now()
        for answer in self.answers:
            if answer.fault is not None:
                return self.deadline_from_now()
        return self.timing.deadline

    def deadline_from_now(self) -> float:
        """Return a deadline as long as the whole call's, from now."""
        return self.wiring.clock.monotonic() + self.timing.deadline - self.timing.started
