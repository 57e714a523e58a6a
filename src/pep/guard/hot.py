"""
The hot path of one guarded function: what it may skip, what it tells, and how it falls back to the plan.

A hit on a plain permit needs no plan: nobody is asked, nothing is owed but records, which are notes. Imports sites'
parts, the core's and the plan's, but no guard.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeGuard

import attrs

from pep.ask import Answer
from pep.audit.noting import Note
from pep.audit.record import Kind, Record
from pep.audit.tell import decision_told, outcome_fields
from pep.cache import Entry, Generations
from pep.clock import SystemClock
from pep.enforcement import Enforcement, Stage, denial
from pep.errors import AccessDenied
from pep.fault import Fault
from pep.model import AccessRequest, Resource
from pep.profile import Enforce, Guarantee, Profile
from pep.protocols import Clock
from pep.verdict import Outcome, Verdict
from pep.wiring import Wiring

if TYPE_CHECKING:
    from pep.core import Core
    from pep.extract import Requirement

#: How many resource types the hot path of one function tells apart; the rest take the plan.
MAX_TYPES: Final = 1000

_BOOTTIME: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)


class Plug(NamedTuple):
    """
    What the hot path of one function holds of one wiring; swapped as one.

    Args:
        get: Looks up a plain permit.

        generations: What was revoked.

        take: Takes a note of the record, with the sink's guarantee; returns `OWED` where another one is owed.

        number: Gives the next number of a note.

        clock: Reads the clock that entries expire by.

        which: What *clock* is called with.

        shape: The shape, where the resource's type is known; else type → shape, of what the hot path may serve.

        hot: Who tells the notes.
    """

    get: Callable[[Any], Entry | None]
    generations: Generations
    take: Callable[[Note], Any]
    number: Callable[[], int]
    clock: Callable[[Any], float]
    which: Any
    shape: Any
    hot: Any


def _unplugged(_key: object) -> None:
    """Find nothing: the plan takes the call, and plugs the hot path in again where it may."""


def _no_note(_note: Note) -> None:
    """Take nothing: without a plug there is no hit to tell of."""


#: What a function holds that no wiring is plugged into.
UNPLUGGED: Final = Plug(
    _unplugged, Generations(), _no_note, itertools.count().__next__, lambda _which: 0.0, None, _unplugged, None
)


class Hot:
    """
    Who tells the notes of one guarded function, under one wiring.

    Args:
        core: The enforcer's core.

        wiring: What the permit was found in.

        need: What the guard demands.

        entry: The entry point, as records call it.

        returns_nothing: Whether what is guarded is a generator that returns None, however it ends.

        awaited: Whether it is a coroutine function; None where it is no function at all, or its resource's type is
            not known before the call: then a plan serves `DURABLE`.
    """

    __slots__ = ("awaited", "core", "entry", "json", "need", "patience", "returns_nothing", "shapes", "wiring")

    def __init__(
        self,
        core: Core,
        wiring: Wiring,
        need: Requirement,
        entry: str,
        *,
        returns_nothing: bool = False,
        awaited: bool | None = None,
    ) -> None:
        self.core, self.wiring, self.need, self.entry = core, wiring, need, entry
        self.returns_nothing, self.awaited = returns_nothing, awaited
        #: Returns the JSON of a note's record.
        self.json: Callable[[Note], bytes] = wiring.journal.noting.json
        #: How long it may take to find the resource, in seconds.
        self.patience = 0.0
        #: Resource type → shape, or None where only a plan may serve it.
        self.shapes: dict[str, Hashable | None] = {}

    # What a sink asks.

    def record(self, note: Note) -> Record:
        """Make the record of a note, as the plan would have made it."""
        return self._record(note, self._answer(note))

    def ageless(self, note: Note) -> Record:
        """Make the record of a note without the one thing in it that is not the same for every hit on its entry."""
        return self._record(note, attrs.evolve(self._answer(note), age=None))

    def _record(self, note: Note, answer: Answer) -> Record:
        verdict = self._verdict(note, answer)
        told = partial(decision_told, {"entry": self.entry}, self.wiring, verdict, (answer,))
        return self.wiring.journal.noting.record(note, told)

    # What the hot path asks.

    def plug(self) -> Plug:
        """Return what the hot path holds, while nothing forbids it."""
        wiring, journal = self.wiring, self.wiring.journal
        kind = self.need.resource.type
        shape = self.shapes.get if kind is None else self.learn(kind)
        if shape is None or wiring.providers or wiring.masking.shows_arguments:
            return UNPLUGGED
        clock, which = _reading(wiring.clock)
        hot, take = self._durable(kind, partial(clock, which)) if self._owes(kind) else self._taking(clock, which)
        if take is None:
            return UNPLUGGED
        number, permits = journal.noting.number, wiring.cache.permits
        return Plug(permits.get, wiring.generations, take, number, clock, which, shape, hot)

    def _durable(self, kind: str, now: Callable[[], float]) -> tuple[Any, Callable[[Note], Any] | None]:
        """Return who tells the notes of calls that leave two records on disk each, and what takes them."""
        awaited, self.patience = self.awaited is True, self._profile(kind).deadline
        submit = self.wiring.journal.submitting(awaited=awaited)
        if submit is None:
            return self, None
        from pep.guard.owing import Owing  # noqa: PLC0415  only who records on disk pays for it

        owing = Owing(self, submit, now, awaited=awaited)
        return owing, owing.take

    def _taking(
        self,
        clock: Callable[[Any], float],
        which: Any,  # noqa: ANN401  see `Plug`
    ) -> tuple[Any, Callable[[Note], Any] | None]:
        """Return who tells the notes of any other calls, and what takes them."""
        profiles, journal = self.wiring.profiles, self.wiring.journal
        self.patience = min([profile.deadline for _, profile in profiles.items()], default=Profile().deadline)
        take = journal.taking()
        if take is not None and getattr(journal.sink, "instant", False) is not True:
            take = self._timely(take, clock, which)
        return self, take

    def _profile(self, kind: str) -> Profile:
        action = self.need.action.name
        return self.wiring.profiles.for_action(action if ":" in action else f"{kind}:{action}")

    def _owes(self, kind: str | None) -> TypeGuard[str]:
        """Tell whether calls leave another record after the code, and all of one type."""
        return kind is not None and self.awaited is not None and self._profile(kind).audit is Guarantee.DURABLE

    def _timely(
        self,
        take: Callable[[Note], None],
        clock: Callable[[Any], float],
        which: Any,  # noqa: ANN401  see `Plug`
    ) -> Callable[[Note], None]:
        """Make what takes a note in time: an acknowledgement that comes too late is none, and the next record tells."""
        patience = self.patience

        def timely(note: Note) -> None:
            take(note)
            if clock(which) - note[1] > patience:
                self.withheld(note)
                message = "the sink took a record too late"
                raise TimeoutError(message)

        return timely

    def learn(self, kind: str) -> Hashable | None:
        """Let the hot path serve resources of a type, where the profile allows it; return their shape."""
        wiring, action, profile = self.wiring, self.need.action, self._profile(kind)
        plain = isinstance(profile.mode, Enforce) and not profile.pin_arguments and profile.revalidate is None
        if len(self.shapes) >= MAX_TYPES:
            return None
        plain = plain and not profile.record_query
        plain = plain and (profile.audit is not Guarantee.DURABLE or self.awaited is not None)
        plain = plain and not wiring.shapes.consistent
        return self.shapes.setdefault(kind, wiring.shapes.shape(action, kind) if plain else None)

    def moved(self, entry: Entry, epoch: int, scope: Any, what: Any) -> bool:  # noqa: ANN401  whatever a note holds
        """Tell whether an entry still holds at a later epoch, and move it up there if so."""
        subject, action, found = scope.subject, self.need.action, what
        kind, name = (found.type, found.id) if type(found) is Resource else (str(self.need.resource.type), found)
        if not self.wiring.generations.untouched(subject, action, kind, name, entry.epoch):
            return False
        entry.epoch = epoch
        return True

    def holds(self, note: Note) -> bool:
        """Tell whether nothing a hit rests on was revoked since."""
        return self.moved(note[3], self.wiring.generations.epoch, note[4], note[5])

    def stands(self, note: Note) -> bool:
        """Tell whether a recorded permit takes effect, although something was revoked or swapped since it was found."""
        return serves(self.core, self.wiring) and self.holds(note)

    def withheld(self, note: Note) -> None:
        """Note that a recorded permit was revoked before it took effect; told before the next record."""
        told = outcome_fields(self.verdict(note), "withheld", ran=False, error=None, masking=self.wiring.masking)
        self.wiring.journal.announce(Kind.OUTCOME, {"entry": self.entry, **told})

    def lost(self, note: Note, error: BaseException) -> None:
        """Let what no sink can have meant for the code go on; the plan tries again with everything else."""
        self.wiring.journal.count("unnoted")
        if not isinstance(error, Exception):
            job = self.job(note)
            job.stage = Stage.RECORDED
            self.core.run_closing(job, job.closing(error))
            raise error

    def raised(self, note: Note, error: BaseException) -> None:
        """Record how the protected code ended, where it did not return."""
        job = self.job(note)
        self.core.run_closing(job, job.closing(error))

    def still(self, note: Note) -> int:
        """
        Return the epoch up to which a generator's permit holds.

        Raises:
            AccessDenied: Where it was revoked.
        """
        epoch = self.wiring.generations.epoch
        if not self.moved(note[3], epoch, note[4], note[5]):
            job = self.job(note)
            job.refuse(Fault.REVOKED, ran=True)
            raise denial(job.verdict)
        return epoch

    def dropped(self, note: Note, error: BaseException, *, started: bool) -> None:
        """Record how a generator ended, where it was not exhausted."""
        job = self.job(note)
        if not started:
            job.stage = Stage.RECORDED
        if isinstance(error, AccessDenied) and error.verdict.id == job.verdict.id:
            status = "withheld"
        elif not started and isinstance(error, GeneratorExit):
            status = "abandoned"
        else:
            status = "raised" if isinstance(error, Exception) else "cancelled"
        told = job.finish(status, ran=started, error=error if status == "raised" else None)
        self.core.run_closing(job, told)

    # What the plan would have had in hand.

    def job(self, note: Note) -> Enforcement:
        """Return the enforcement that the plan would be in now: its code is running."""
        job = self.core.resumed(self.wiring, self.need, note[4], self.entry)
        job.deciding.answers = [answer] = [self._answer(note)]
        job.verdict, job.stage = self._verdict(note, answer), Stage.RUNNING
        return job

    def verdict(self, note: Note) -> Verdict:
        """Return the verdict of a note."""
        return self._verdict(note, self._answer(note))

    def _verdict(self, note: Note, answer: Answer) -> Verdict:
        return Verdict(
            self.wiring.journal.noting.id(note),
            Outcome.PERMITTED,
            request=answer.request,
            decision=answer.decision,
            cached=True,
            requests=(answer.request,),
            hidden=answer.profile.hidden,
        )

    def _answer(self, note: Note) -> Answer:
        entry, request = note[3], self._request(note)
        age = round(max(0.0, note[1] - entry.started), 6)
        profile = self.wiring.profiles.for_action(request.qualified_action)
        return Answer(request, profile, entry.epoch, note[1], decision=entry.decision, cached=True, age=age)

    def _request(self, note: Note) -> AccessRequest:
        scope = note[4]
        return AccessRequest(scope.subject, self.need.action, self._resource(note[5]), scope.context, (), scope.tenant)

    def _resource(self, what: Any) -> Resource:  # noqa: ANN401  a resource or its id
        return what if type(what) is Resource else Resource(str(self.need.resource.type), what)


def serves(core: Core, wiring: Wiring) -> bool:
    """Tell whether calls are enforced with this very wiring now."""
    try:
        return core.serves(wiring)
    except AccessDenied:  # it was closed while it was asked
        return False


def _reading(clock: Clock) -> tuple[Callable[[Any], float], Any]:
    if type(clock) is SystemClock and _BOOTTIME is not None:
        return time.clock_gettime, _BOOTTIME
    return lambda _which: clock.boottime(), None
