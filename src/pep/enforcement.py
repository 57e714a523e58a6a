"""
Enforcement: THE plan, from an intercepted call to a recorded permit and a released result.

Written once for both worlds and every entry point. Imports L0 and L1 only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import Any

import attrs

from pep.ask import Answer, Timing
from pep.audit.record import Kind, Record, Telling, new_id
from pep.audit.tell import asked_fields, decision_told, ended_fields, outcome_told
from pep.deciding import Deciding
from pep.errors import AccessDenied, PartlyRecordedError
from pep.extract import Requirement
from pep.fault import Fault
from pep.intake import Arguments, Halt
from pep.plan import Dispatch, Invoke, Plan, Raised, Reply, Returned
from pep.profile import Guarantee, Profile
from pep.protocols import Phase
from pep.scope import Frame
from pep.settle import settle_fault
from pep.verdict import ALLOWING, Outcome, Verdict
from pep.wiring import Wiring

if sys.version_info >= (3, 11):
    from typing import assert_never
else:
    from typing_extensions import assert_never

Rebind = Callable[[Arguments], "tuple[tuple[Any, ...], dict[str, Any]]"]


class Stage(Enum):
    """How far an enforcement came: what a driver that is cut off has to record."""

    DECIDING = "deciding"
    RECORDED = "recorded"
    RUNNING = "running"
    RELEASING = "releasing"
    DONE = "done"


@attrs.define(eq=False, repr=False)
class Enforcement:
    """
    One enforcement of one call.

    Args:
        deciding: What the call demands, and how it is decided.

        entry: The entry point's name, for the record.
    """

    deciding: Deciding
    entry: str

    stage: Stage = attrs.field(default=Stage.DECIDING, init=False)
    #: The record to submit when cut off, where the stage alone does not tell.
    pending: Record | None = attrs.field(default=None, init=False)
    #: How often it is decided before it counts as revoked.
    tries: int = attrs.field(default=2, init=False)
    #: Set by the driver once a step let the world go on.
    suspended: bool = attrs.field(default=False, init=False)
    #: What the enforcer is made of.
    wiring: Wiring = attrs.field(init=False)
    #: The id of its decision record.
    record_id: str = attrs.field(init=False)
    _verdict: Verdict | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.wiring = self.deciding.wiring
        self.record_id = new_id(self.wiring.clock.wall())

    # The plan, stage by stage.

    def guarded(
        self, fn: Callable[..., Any], rebind: Rebind, on_denied: Callable[[AccessDenied], Any] | None = None
    ) -> Plan[Reply]:
        """
        Enforce one whole call: permit, protected code, release.

        Args:
            fn: The protected code.

            rebind: Effective arguments, name → value, to positional and keyword arguments.

            on_denied: Gives another result for this call's own denial.

        Returns:
            What the caller gets: a value, or the exception to raise.
        """
        deciding = self.deciding
        if (yield from self.permit()).outcome not in ALLOWING:
            return (yield from self.denied(on_denied))
        args, kwargs = rebind(deciding.effective)
        self.stage = Stage.RUNNING
        reply: Reply = yield Dispatch(fn, args, kwargs, deciding.inner)
        if type(reply) is Raised:
            yield from self.finish("raised", ran=True, error=reply.error)
            return reply
        if deciding.duties or self.guarantee is Guarantee.DURABLE:
            return (yield from self.release(reply.value))
        self.stage = Stage.DONE
        return reply

    def permit(self) -> Plan[Verdict]:
        """
        Decide, record, and check last: the permit takes effect when this returns.

        Returns:
            A verdict; when it is allowed, its record has been acknowledged by the sink.
        """
        for _again in range(self.tries):
            yield from self.conclude()
            verdict = yield from self.record()
            if verdict.outcome not in ALLOWING:
                break
            fault = yield from self.deciding.still(verdict.outcome, suspended=self.suspended)
            if fault is None:
                break
            yield from self.finish("withheld")
            self.refuse(fault)
            if fault is not Fault.REVOKED:
                break
        return self.verdict

    def conclude(self) -> Plan[None]:
        """Decide; whatever goes wrong becomes a verdict."""
        if self.stage is not Stage.DECIDING:
            self._begin()
        self._verdict = yield from self.deciding.decide(self.record_id)

    def record(self) -> Plan[Verdict]:
        """Record the verdict; a permit that cannot be recorded is refused, a denial stays one."""
        journal, clock, deciding, verdict = self.wiring.journal, self.wiring.clock, self.deciding, self.verdict
        running = verdict.outcome in ALLOWING and not deciding.asking
        if running and clock.monotonic() > deciding.until(verdict.outcome):
            verdict = self.refuse(Fault.TIMEOUT, TimeoutError("no time was left to record the permit"))
            running = False
        record, until = self._decision_record(verdict), deciding.until(verdict.outcome)
        self.pending, self.stage = None if running else record, Stage.DECIDING
        failed = (yield from journal.settle_due(until)) if journal.owing else None
        handed = failed is None and clock.monotonic() <= until
        if handed:
            # What the sink was handed it may have taken, even if it never says so.
            self.stage = Stage.RECORDED if running else self.stage
            failed = yield from journal.write(record, until)
        else:
            journal.count("unrecorded")
        self.pending, self.stage = None, Stage.RECORDED if running else Stage.DONE
        if running and (failed is not None or not handed):
            if handed and isinstance(failed, (TimeoutError, PartlyRecordedError)):
                journal.announce(Kind.OUTCOME, self._outcome("withheld"))
            # INVARIANT: protected code never runs without a recorded permit.
            return self.refuse(Fault.AUDIT, failed)
        return verdict

    def denied(self, on_denied: Callable[[AccessDenied], Any] | None = None) -> Plan[Reply]:
        """
        Turn a refusal into the exception to raise, or into what *on_denied* gives instead.

        It is asked about denials only: an outage, or what the caller has to bring, is not its business.
        """
        error = denial(self.verdict)
        if on_denied is not None and self.verdict.outcome is Outcome.DENIED:
            reply: Reply = yield Invoke(on_denied, (error,), frame=self.inner)
            if isinstance(reply, Returned):
                return reply
        return Raised(error)

    def release(self, value: Any) -> Plan[Reply]:  # noqa: ANN401  whatever the code returned
        """
        Discharge what is due after the code, record the outcome, and let the result out or withhold it.

        Returns:
            The result as it may be seen, or the denial that withholds it.
        """
        self.stage = Stage.RELEASING
        released = yield from self.released(value)
        if not released:
            yield from self.finish("withheld", ran=True)
            return Raised(denial(self.verdict))
        if self.owes_release or self.guarantee is Guarantee.DURABLE:
            yield from self.finish("completed", ran=True)
        self.stage = Stage.DONE
        return Returned(released[0])

    def released(self, value: Any) -> Plan[tuple[Any, ...]]:  # noqa: ANN401  whatever the code returned
        """Discharge what is due on one result; return it as it may be seen, or nothing when it is withheld."""
        if not self.owes_release:
            return (value,)
        late = [duty for duty in self.deciding.duties if duty.phase is Phase.AFTER]
        value = yield from self.deciding.release(value)
        if any(duty.unmet or duty.refusal for duty in late):
            cause = next((duty.error for duty in late if duty.unmet and duty.error), None)
            self.refuse(Fault.OBLIGATION, cause, ran=True)
            return ()
        return (value,)

    def finish(self, status: str, *, ran: bool = False, error: BaseException | None = None) -> Plan[None]:
        """Record how a recorded permit ended; a record that is lost closes what comes next until it is told."""
        yield from self._submitted(self._outcome_record(status, ran=ran, error=error))
        self.stage = Stage.DONE

    def closing(self, error: BaseException) -> Plan[None]:
        """Submit what is pending when a driver is cut off."""
        record = self._terminal(error)
        if record is not None:
            yield from self._submitted(record)

    def _submitted(self, record: Record) -> Plan[None]:
        if (yield from self.wiring.journal.write(record, self.deadline_from_now())) is not None:
            self.wiring.journal.owe()

    def _terminal(self, error: BaseException) -> Record | None:
        """Return the record that is pending when a driver is cut off; None when nothing is."""
        stage, pending = self.stage, self.pending
        self.stage, self.pending = Stage.DONE, None
        if pending is not None:
            return pending
        match stage:
            case Stage.DECIDING:
                return self._cancelled_record()
            case Stage.RECORDED:
                return self._outcome_record("cancelled")
            case Stage.RUNNING:
                status = "raised" if isinstance(error, Exception) else "cancelled"
                return self._outcome_record(status, ran=True, error=error)
            case Stage.RELEASING:
                return self._outcome_record("withheld", ran=True)
            case Stage.DONE:
                return None
            case _:
                assert_never(stage)

    # What several calls that are decided together do apart.

    def extract(self) -> Plan[bool]:
        """Extract only, for a batch; return whether there is something to ask."""
        if self.stage is not Stage.DECIDING or self._verdict is not None:
            self._begin()
        self._verdict = yield from self.deciding.extracted(self.record_id)
        return self._verdict is None

    def settle(self) -> Plan[None]:
        """Settle what a batch answered."""
        self._verdict = yield from self.deciding.settle(self.record_id)

    def halted(self, cause: Exception) -> None:
        """Conclude that a call could not be turned into a request."""
        self._begin()
        self.verdict = self.deciding.concluded(Halt(Fault.EXTRACTION, cause), self.record_id)

    def recheck(self) -> None:
        """Refuse an answer that was revoked while others were asked for."""
        if self.verdict.allowed and not self.holds():
            self.refuse(Fault.REVOKED)

    def refuse(self, fault: Fault, cause: BaseException | None = None, *, ran: bool = False) -> Verdict:
        """Turn the verdict into a refusal."""
        told, done = self.deciding.discharges(), ran or self.deciding.ran
        self.verdict = attrs.evolve(
            self.verdict, outcome=settle_fault(fault), fault=fault, cause=cause, would=None, obligations=told, ran=done
        )
        self.stage = Stage.RELEASING if ran else Stage.DONE
        return self.verdict

    # Records.

    def _begin(self) -> None:
        self.stage, self.pending, self._verdict = Stage.DECIDING, None, None
        self.record_id = new_id(self.wiring.clock.wall())

    def _decision_record(self, verdict: Verdict) -> Record:
        wiring, deciding = self.wiring, self.deciding
        masking = wiring.masking
        told: dict[str, Any] = {"entry": self.entry, "latency": deciding.latency()}
        if verdict.request is None:
            told |= asked_fields(deciding.needs, deciding.frame, masking)
        if masking.shows_arguments:
            told |= masking.arguments(deciding.needs[0].action.name, self._kind(), deciding.arguments) or {}
        telling = partial(decision_told, told, wiring, verdict, tuple(deciding.answers))
        kind = Kind.CHECK if deciding.asking else Kind.DECISION
        return wiring.journal.make(kind, telling, record_id=verdict.id)

    def _cancelled_record(self) -> Record:
        ran = True if self.deciding.ran else None
        fields = {
            "entry": self.entry,
            "status": "cancelled",
            "ran": ran,
            **asked_fields(self.needs, self.frame, self.wiring.masking),
        }
        kind = Kind.CHECK if self.deciding.asking else Kind.DECISION
        return self.wiring.journal.make(kind, fields, record_id=self.record_id)

    def _outcome_record(self, status: str, *, ran: bool = False, error: BaseException | None = None) -> Record:
        return self.wiring.journal.make(Kind.OUTCOME, self._outcome(status, ran=ran, error=error))

    def _outcome(self, status: str, *, ran: bool = False, error: BaseException | None = None) -> Telling:
        verdict, deciding = self.verdict, self.deciding
        ended = ended_fields(verdict.id, status, deciding.discharges(), ran=ran or deciding.ran, error=error)
        return partial(outcome_told, self.entry, verdict.request, ended, self.wiring.masking)

    def _kind(self) -> str | None:
        request = self.verdict.request
        return self.needs[0].resource.type if request is None else request.resource.type

    # What others ask of it.

    @property
    def verdict(self) -> Verdict:
        """What was concluded; until then, that it is unavailable."""
        if self._verdict is None:
            self._verdict = Verdict(self.record_id, Outcome.UNAVAILABLE, fault=Fault.INTERNAL)
        return self._verdict

    @verdict.setter
    def verdict(self, verdict: Verdict) -> None:
        self._verdict, self.record_id = verdict, verdict.id

    @property
    def needs(self) -> Sequence[Requirement]:
        """What the call demands."""
        return self.deciding.needs

    @property
    def arguments(self) -> Arguments:
        """The bound arguments, name → value, as the caller gave them."""
        return self.deciding.arguments

    @property
    def effective(self) -> Arguments:
        """The arguments to run with: obligations may have changed them."""
        return self.deciding.effective

    @property
    def frame(self) -> Frame:
        """The frame the call was made in."""
        return self.deciding.frame

    @property
    def inner(self) -> Frame:
        """The frame of what runs inside this call: who acts here, one call deeper."""
        return self.deciding.inner

    @property
    def answers(self) -> Sequence[Answer]:
        """What was had for each of its requests."""
        return self.deciding.answers

    @property
    def timing(self) -> Timing:
        """When it started and ends."""
        return self.deciding.timing

    def holds(self, *, starting: bool = False) -> bool:
        """Tell whether nothing this call rests on was revoked since."""
        return self.deciding.holds(starting=starting)

    def profiles(self) -> list[Profile]:
        """Return the profiles it is enforced by; all that may be, until the requests are known."""
        return self.deciding.profiles()

    @property
    def owes_release(self) -> bool:
        """Whether obligations are due on the result."""
        return any(duty.phase is Phase.AFTER for duty in self.deciding.duties)

    @property
    def guarantee(self) -> Guarantee:
        """The strongest guarantee that any of its profiles asks for."""
        answers = self.deciding.answers
        if len(answers) == 1:
            return answers[0].profile.audit
        return max([profile.audit for profile in self.profiles()])

    def deadline_from_now(self) -> float:
        """Return a deadline as long as the whole call's, from now."""
        return self.deciding.deadline_from_now()


def denial(verdict: Verdict) -> AccessDenied:
    """Make the exception of a verdict that is not allowed, chained as its profile wants it."""
    try:
        verdict.raise_if_denied()
    except AccessDenied as error:
        return error
    message = "an allowed verdict is no denial"
    raise TypeError(message)
