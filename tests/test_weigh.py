"""Weighing: outcomes from answers and ledgers, pure."""

from __future__ import annotations

import itertools
from datetime import datetime, timezone
from typing import Any, Final

import attrs
import pytest

from pep import AccessRequest, Decision, Effect, FailOpen, Fault, Obligation, Outcome, Profile, Shadow
from pep.ask import Answer
from pep.obligations.ledger import Duty, Handlers
from pep.protocols import Phase, Rank, Refusal
from pep.settle import PRECEDENCE
from pep.testing import FakeHandler
from pep.verdict import Status
from pep.weigh import may_open, open_ledger, openings, outcome_of, weigh, with_duties, without_answer, would_be
from tests.scenes import ALICE, DOCUMENT, OPEN

REQUEST: Final = AccessRequest(ALICE, "edit", DOCUMENT)
BOTH: Final = (Phase.BEFORE, Phase.AFTER)


def answer(decision: Effect | None = None, fault: Fault | None = None, **options: Any) -> Answer:
    profile = options.pop("profile", Profile())
    made = None if decision is None else Decision(decision, obligations=options.pop("owing", ()))
    return Answer(REQUEST, profile, 0, 0.0, decision=made, fault=fault, **options)


def duty(status: Status, refusal: Refusal | None = None, error: Exception | None = None) -> Duty:
    return Duty(
        Obligation("log"), REQUEST, None, Phase.BEFORE, Rank.MODIFY, status=status, refusal=refusal, error=error
    )


PERMIT, DENY, UNSURE = answer(Effect.PERMIT), answer(Effect.DENY), answer(Effect.INDETERMINATE)
OUTAGE: Final = answer(fault=Fault.UNREACHABLE, excusable=True, profile=OPEN)


@pytest.mark.parametrize(
    ("one", "outcome"),
    [
        (PERMIT, Outcome.PERMITTED),
        (DENY, Outcome.DENIED),
        (answer(Effect.NOT_APPLICABLE), Outcome.DENIED),
        (UNSURE, Outcome.UNAVAILABLE),
        (OUTAGE, Outcome.UNAVAILABLE),
        (answer(fault=Fault.EXTRACTION), Outcome.DENIED),
        (answer(), Outcome.UNAVAILABLE),
        (answer(Effect.PERMIT, Fault.TIMEOUT), Outcome.PERMITTED),
    ],
)
def test_an_answer_by_itself(one: Answer, outcome: Outcome) -> None:
    """A decision by its effect, a fault closed, nothing at all closed too; a stale decision counts."""
    assert outcome_of(one) is outcome


@pytest.mark.parametrize(
    ("changes", "opens"),
    [
        ({}, True),
        ({"shadowed": True}, False),
        ({"excusable": False}, False),
        ({"fault": Fault.REJECTED}, False),
        ({"fault": None}, False),
        ({"decision": Decision(Effect.PERMIT)}, False),
        ({"profile": Profile()}, False),
    ],
)
def test_what_may_be_opened(changes: dict[str, Any], opens: bool) -> None:
    """An early fault of availability that the mode names, of what is enforced, and nothing else."""
    assert may_open(attrs.evolve(OUTAGE, **changes)) is opens


def test_openings_are_all_or_nothing() -> None:
    """Each request without a permit needs its mode's leave; permits need none."""
    mode = OPEN.on_failure
    assert openings([PERMIT, OUTAGE]) == [(mode, REQUEST)]
    assert openings([OUTAGE, UNSURE]) == []
    assert openings([PERMIT]) == []


def test_a_ledger_holds_what_its_outcome_calls_for() -> None:
    """Duties of a permit before and after, of a denial on denial, compensations only for what is opened."""
    handlers = Handlers([FakeHandler("log"), FakeHandler("tell", phase=Phase.ON_DENIAL)])
    owing = (Obligation("log"), Obligation("tell"))
    permits, denies = answer(Effect.PERMIT, owing=owing), answer(Effect.DENY, owing=owing)
    mode = FailOpen(on=[Fault.UNREACHABLE], limit="1/minute", obligations=[Obligation("log")])
    outage = attrs.evolve(OUTAGE, profile=Profile(on_failure=mode))

    def phases(answers: list[Answer], outcome: Outcome) -> list[Phase | None]:
        return [one.phase for one in open_ledger(handlers, answers, outcome, BOTH)]

    assert phases([permits], Outcome.PERMITTED) == [Phase.BEFORE, None]
    assert phases([denies], Outcome.DENIED) == [None, Phase.ON_DENIAL]
    assert phases([outage], Outcome.FAILED_OPEN) == [Phase.BEFORE]
    assert phases([outage], Outcome.UNAVAILABLE) == []


@pytest.mark.parametrize(
    ("outcome", "duties", "expected"),
    [
        (Outcome.PERMITTED, [], (Outcome.PERMITTED, None)),
        (Outcome.PERMITTED, [duty(Status.DISCHARGED), duty(Status.NOT_REACHED)], (Outcome.PERMITTED, None)),
        (Outcome.PERMITTED, [duty(Status.FAILED)], (Outcome.DENIED, Fault.OBLIGATION)),
        (Outcome.PERMITTED, [duty(Status.UNSUPPORTED)], (Outcome.DENIED, Fault.OBLIGATION)),
        (
            Outcome.PERMITTED,
            [duty(Status.FAILED, Refusal(Outcome.RATE_LIMITED)), duty(Status.FAILED)],
            (Outcome.DENIED, Fault.OBLIGATION),
        ),
        (Outcome.PERMITTED, [duty(Status.FAILED, Refusal(Outcome.RATE_LIMITED))], (Outcome.RATE_LIMITED, None)),
        (Outcome.FAILED_OPEN, [duty(Status.DISCHARGED)], (Outcome.FAILED_OPEN, None)),
        (Outcome.FAILED_OPEN, [duty(Status.FAILED)], (Outcome.UNAVAILABLE, None)),
        (Outcome.FAILED_OPEN, [duty(Status.FAILED, Refusal(Outcome.RATE_LIMITED))], (Outcome.UNAVAILABLE, None)),
    ],
)
def test_an_outcome_with_its_duties(outcome: Outcome, duties: list[Duty], expected: Any) -> None:
    """What is unmet denies, what is demanded is demanded, and an opening without its compensation closes."""
    assert with_duties(outcome, duties) == expected


def test_several_demands_by_precedence() -> None:
    """DENIED prevails over STEP_UP, that over RATE_LIMITED, that over CONFIRMATION, in any order."""
    demands = (Outcome.STEP_UP_REQUIRED, Outcome.RATE_LIMITED, Outcome.CONFIRMATION_REQUIRED)
    for order in itertools.permutations(demands):
        duties = [duty(Status.FAILED, Refusal(outcome, {outcome.value: 1})) for outcome in order]
        verdict = weigh("1", [PERMIT], duties, Outcome.PERMITTED)
        assert verdict.outcome is Outcome.STEP_UP_REQUIRED
        assert set(verdict.demands) == {outcome.value for outcome in demands}
        assert with_duties(Outcome.PERMITTED, duties[:2])[0] is min(order[:2], key=PRECEDENCE.index)


def test_the_verdict_rests_on_the_answer_that_made_it() -> None:
    """The first that came to the outcome; a stale one before others, since its fault is on record."""
    stale = answer(Effect.PERMIT, Fault.TIMEOUT, cached=True)
    denied = attrs.evolve(DENY, request=REQUEST.evolve(tenant="other"))
    assert weigh("1", [PERMIT, denied], [], Outcome.DENIED).request == denied.request
    assert weigh("1", [PERMIT, stale], [], Outcome.PERMITTED).fault is Fault.TIMEOUT
    assert weigh("1", [PERMIT, OUTAGE], [], Outcome.FAILED_OPEN).fault is Fault.UNREACHABLE
    assert weigh("1", [PERMIT], [duty(Status.FAILED)], Outcome.PERMITTED).request == REQUEST


def test_causes_are_kept_with_the_fault() -> None:
    """What an obligation raised, else what the answer raised."""
    error = ValueError()
    assert weigh("1", [PERMIT], [duty(Status.FAILED, error=error)], Outcome.PERMITTED).cause is error
    assert weigh("1", [attrs.evolve(OUTAGE, cause=error)], [], Outcome.UNAVAILABLE).cause is error
    assert weigh("1", [PERMIT], [duty(Status.FAILED)], Outcome.PERMITTED).cause is None


SHADOW: Final = Profile(mode=Shadow(until=datetime(2040, 1, 1, tzinfo=timezone.utc), reason="new"))


def test_a_shadow_never_covers_what_is_enforced() -> None:
    """Beside something enforced that refuses, nothing is shadowed; else the verdict tells what would have been."""
    shadowed = attrs.evolve(DENY, shadowed=True, profile=SHADOW)
    refused = weigh("1", [DENY, shadowed], [], Outcome.DENIED, would=Outcome.DENIED)
    assert (refused.outcome, refused.would) == (Outcome.DENIED, None)
    covered = weigh("1", [PERMIT, shadowed], [], Outcome.PERMITTED, would=Outcome.DENIED)
    assert (covered.outcome, covered.would, covered.decision) == (Outcome.SHADOWED, Outcome.DENIED, DENY.decision)
    opened = weigh("1", [OUTAGE, shadowed], [], Outcome.FAILED_OPEN, would=Outcome.PERMITTED)
    assert (opened.outcome, opened.would) == (Outcome.FAILED_OPEN, Outcome.FAILED_OPEN)
    assert weigh("1", [PERMIT], [], Outcome.PERMITTED).would is None


@pytest.mark.parametrize(
    ("answers", "would"),
    [
        ([], Outcome.PERMITTED),
        ([PERMIT], Outcome.PERMITTED),
        ([PERMIT, DENY], Outcome.DENIED),
        ([answer(Effect.PERMIT, owing=[Obligation("log")])], Outcome.PERMITTED),
        ([answer(Effect.PERMIT, owing=[Obligation("unheard")])], Outcome.DENIED),
    ],
)
def test_what_a_shadow_would_be(answers: list[Answer], would: Outcome) -> None:
    """Its obligations are assessed, and none is discharged."""
    handler = FakeHandler("log")
    assert would_be(Handlers([handler]), answers, BOTH) is would
    assert handler.discharged == []


@pytest.mark.parametrize("shadowed", [False, True])
def test_a_call_that_came_to_nothing(shadowed: bool) -> None:
    """Closed by its fault, with whatever is known of it; in shadow only told."""
    options: Any = {"duties": [duty(Status.FAILED)], "hidden": True, "shadowed": shadowed, "ran": False}
    verdict = without_answer("1", Fault.EXTRACTION, None, requests=[REQUEST], **options)
    assert (verdict.outcome, verdict.would) == (
        (Outcome.SHADOWED, Outcome.DENIED) if shadowed else (Outcome.DENIED, None)
    )
    assert (verdict.request, verdict.hidden, len(verdict.obligations)) == (REQUEST, True, 1)
    assert without_answer("1", Fault.INTERNAL, None, requests=[], **options).request is None
