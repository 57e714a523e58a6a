"""
Checks: many questions that nothing complicates, without an enforcement for each.

Who asks is known, nobody acts for them, and every question is about one resource. A question that cannot be asked, an
answer with obligations and a permit that no longer holds have an enforcement of their own; whatever else is not plain
is left to `pep.bulk` as a whole. Imports the enforcement plan and what is below it only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import attrs

from pep.ask import Answer, Timing, answer_all
from pep.audit.noting import Note
from pep.audit.record import Kind, Record, Telling, new_id
from pep.audit.tell import decision_told
from pep.bulk import check_all
from pep.deciding import Deciding
from pep.enforcement import Enforcement, Stage
from pep.errors import ExtractionError
from pep.extract import Registries, Requirement
from pep.frozen import EMPTY, FrozenDict, freeze_mapping
from pep.generations import Generations
from pep.model import AccessRequest, Action, Effect, Resource, Subject
from pep.plain import APPLICATION
from pep.plan import Plan
from pep.scope import within
from pep.verdict import Outcome, Verdict
from pep.weigh import outcome_of, weigh

# The types of what is not one resource, or takes more than its converter to tell.
_OTHERS: Final = (list, tuple, Iterator, ExtractionError, type(APPLICATION))
# How many things a note holds; one more is what its record belongs to.
_NOTED: Final = 5


@attrs.frozen(eq=False, repr=False)
class Questions:
    """
    What a batch of checks was asked.

    Args:
        asked: Access requests, or pairs of action and resource.

        subject: Who acts, if that was said.

        context: In which circumstances, if that was said.

        need: Makes the requirement of one of them.
    """

    asked: Sequence[Any]
    subject: Any
    context: Mapping[str, Any] | None
    need: Callable[[Any], Requirement]


@attrs.define(eq=False, repr=False)
class _Asking:
    """Who asks in which circumstances; makes requests of pairs."""

    who: Any
    context: FrozenDict
    tenant: str | None
    registries: Registries
    # An action as it was given → the first request of it: the others only differ in their resource.
    _firsts: dict[Any, AccessRequest] = attrs.field(factory=dict, init=False)

    def request(self, action: Any, resource: Any) -> AccessRequest:  # noqa: ANN401  as somebody asked it
        """Make a request; see `Requirement.requests` for what is wrong with a pair first."""
        first = self._firsts.get(action) if type(action) is str else None
        if first is not None:
            return first.about(resource if type(resource) is Resource else self.registries.resources.convert(resource))
        act = action if type(action) is Action else Action(action)
        what = self.registries.resources.convert(resource)
        made = AccessRequest(self.who, act, what, self.context, (), self.tenant)
        if type(action) is str:
            self._firsts[action] = made
        return made


def check_many(lead: Enforcement, questions: Questions) -> Plan[list[Verdict]]:
    """
    Check many, and record each; nothing is enforced.

    Args:
        lead: The enforcement of the first.

        questions: All of them, that one too.

    Returns:
        Their verdicts, in order.
    """
    asking = _asking(lead, questions)
    if asking is None:
        return (yield from check_all([lead, *[_job(lead, questions, one) for one in questions.asked[1:]]]))
    opened = _opened(lead, asking, questions.asked)
    answers = [one for one in opened if type(one) is Answer]
    if answers:
        started, deadline = lead.timing.started, min([answer.profile.deadline for answer in answers])
        yield from answer_all(lead.wiring, answers, Timing(started, started + deadline))
    generations, notes, verdicts = lead.wiring.generations, _Notes(lead), list[Verdict]()
    for one in opened:
        if type(one) is Answer and _is_plain(one, generations):
            outcome = outcome_of(one)
            verdict = notes.take(one, outcome)
            if verdict is None:
                verdict = yield from _recorded(lead, one, outcome)
        else:
            job = lead if not verdicts else _job(lead, questions, questions.asked[len(verdicts)])
            verdict = yield from _apart(lead, job, one)
        verdicts.append(verdict)
    return verdicts


def _asking(lead: Enforcement, questions: Questions) -> _Asking | None:
    """Tell who asks in which circumstances; None where a question takes an enforcement of its own to be taken."""
    wiring, scope = lead.wiring, lead.frame.scope
    if wiring.providers or lead.deciding.nested or wiring.masking.shows_arguments or scope.actors:
        return None
    who = scope.subject if questions.subject is None and scope.is_open else questions.subject
    kinds = {Resource}
    for one in questions.asked:
        if type(one) is AccessRequest:
            if one.actors:
                return None
        elif type(who) is not Subject:
            return None
        else:
            kinds.add(type(one[1]))
    if any(issubclass(kind, _OTHERS) for kind in kinds):
        return None
    context, tenant = (scope.context, scope.tenant) if scope.is_open else (EMPTY, None)
    if questions.context is not None:
        try:
            own = freeze_mapping(questions.context, what="the context")
            context = freeze_mapping({**context, **own}, what="the context")
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001  each question tells of it
            return None
    return _Asking(who, context, tenant, wiring.registries)


def _opened(lead: Enforcement, asking: _Asking, asked: Sequence[Any]) -> list[Answer | Exception]:
    """Turn questions into requests, and open an answer for each; or tell why that cannot be."""
    wiring, opened = lead.wiring, list[Answer | Exception]()
    profiles, generations, started = wiring.profiles, wiring.generations, wiring.clock.boottime()
    act, kind, profile = None, "", lead.deciding.profiles()[0]
    with within(lead.inner):
        for one in asked:
            # INVARIANT: the epoch before the extraction: what is revoked meanwhile may be what was extracted.
            epoch = generations.epoch
            try:
                request = one if type(one) is AccessRequest else asking.request(*one)
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001  a converter may raise anything
                opened.append(error)
            else:
                if request.action is not act or request.resource.type != kind:
                    act, kind = request.action, request.resource.type
                    profile = profiles.for_action(request.qualified_action)
                opened.append(Answer(request, profile, epoch, started))
    return opened


def _is_plain(answer: Answer, generations: Generations) -> bool:
    """Tell whether nothing is to be discharged, and nothing was revoked that a permit rests on."""
    decision = answer.decision
    if decision is None:
        return True
    if decision.obligations:
        return False
    if decision.effect is not Effect.PERMIT or answer.epoch == generations.epoch:
        return True
    return generations.holds(answer.request, answer.epoch)


class _Notes:
    """
    Records of one batch that nothing has to be waited for: notes, told when somebody reads them.

    A note is ``(notes, moment, verdict, answer, latency)``, and what its record belongs to; see `pep.audit.noting`.

    Args:
        lead: The enforcement of the first.
    """

    __slots__ = ("_clock", "_journal", "_lead", "_started", "_take")

    def __init__(self, lead: Enforcement) -> None:
        self._lead, self._started = lead, lead.timing.started
        self._clock, self._journal = lead.wiring.clock, lead.wiring.journal
        self._take = self._journal.taking()

    def take(self, answer: Answer, outcome: Outcome) -> Verdict | None:
        """Have what one answer comes to by itself recorded; None where that takes a plan, as the first does."""
        take, clock, journal, started = self._take, self._clock, self._journal, self._started
        now = clock.monotonic()
        until = _until(answer, outcome, started, now)
        if take is None or now > until or journal.owing or self._lead.stage is not Stage.DONE:
            return None
        moment = clock.wall()
        verdict = weigh(new_id(moment), (answer,), (), outcome)
        try:
            take((self, moment, verdict, answer, now - started))
            taken = clock.monotonic() <= until
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001  a sink may raise anything
            taken = False
        if taken:
            next(journal._recorded)  # noqa: SLF001  counted as the journal itself counts
        else:
            journal.count("unrecorded")
        return verdict

    def record(self, note: Note) -> Record:
        """Make the record of a note."""
        moment, verdict, answer, latency = note[1:_NOTED]
        belongs = note[_NOTED] if len(note) > _NOTED else EMPTY
        telling = partial(self._journal.noting.told, _telling(self._lead, verdict, answer, latency), belongs)
        return Record(Kind.CHECK, verdict.id, moment, telling)

    def json(self, note: Note) -> bytes:
        """Return the JSON of a note's record."""
        return self.record(note).to_json()


def _telling(lead: Enforcement, verdict: Verdict, answer: Answer, latency: float) -> Telling:
    told = {"entry": lead.entry, "latency": {"total": max(0.0, latency)}}
    return partial(decision_told, told, lead.wiring, verdict, (answer,))


def _until(answer: Answer, outcome: Outcome, started: float, now: float) -> float:
    """Return when a record is too late: a denial may have used up the time, and still has to be told."""
    lasting = outcome is Outcome.PERMITTED and answer.fault is None
    return (started if lasting else now) + answer.profile.deadline


def _recorded(lead: Enforcement, answer: Answer, outcome: Outcome) -> Plan[Verdict]:
    """Record what one answer comes to by itself."""
    wiring, started = lead.wiring, lead.timing.started
    clock, journal = wiring.clock, wiring.journal
    verdict = weigh(new_id(clock.wall()), (answer,), (), outcome)
    now = clock.monotonic()
    telling = _telling(lead, verdict, answer, now - started)
    record, until = journal.make(Kind.CHECK, telling, record_id=verdict.id), _until(answer, outcome, started, now)
    if lead.stage is Stage.DECIDING:
        lead.pending = record
    # What could not be written is counted there.
    yield from journal.write(record, until)
    lead.pending, lead.stage = None, Stage.DONE
    return verdict


def _apart(lead: Enforcement, job: Enforcement, one: Answer | Exception) -> Plan[Verdict]:
    """Conclude and record one question by an enforcement of its own."""
    if isinstance(one, Answer):
        started = lead.timing.started
        job.deciding.answers, job.deciding.timing = [one], Timing(started, started + one.profile.deadline)
        yield from job.settle()
        job.recheck()
    else:
        job.halted(one)
    yield from job.record()
    return job.verdict


def _job(lead: Enforcement, questions: Questions, one: object) -> Enforcement:
    return Enforcement(Deciding(lead.wiring, [questions.need(one)], {}, lead.frame, asking=True), lead.entry)
