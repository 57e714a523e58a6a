"""Whatever goes wrong at whatever step, protected code never runs without a permit on record, in either world."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pep.ask
import pep.weigh
from pep import (
    AccessRequest,
    Canary,
    Decision,
    Effect,
    Enforce,
    Enforcer,
    FailClosed,
    FailOpen,
    FailStale,
    Guarantee,
    Obligation,
    Outcome,
    Profile,
    Resource,
    Shadow,
)
from pep.audit import Kind
from pep.audit.journal import Journal
from pep.drive import APerformer
from pep.enforcement import Enforcement
from pep.errors import PDPTimeout
from pep.plan import Dispatch, Raised, Returned, Write
from pep.settle import settle_effect
from pep.testing import (
    LATE,
    MISHAPS,
    Event,
    FailingPDP,
    FailingSink,
    FakeClock,
    Mishap,
    ScriptedPDP,
    complaints,
    inject,
)
from pep.testing.mishaps import ANSWERED, RAISED
from pep.testing.strategies import decisions, obligations
from tests.property.entries import CASES, ENTRIES
from tests.property.rigs import WORLDS, Loop, Report, Rig
from tests.property.setups import AGENT, ALICE, AVAILABILITY, LATER, SETUPS, Setup

#: Setups that every entry point meets with every mishap; `guard` does with all.
THOROUGH: Final = frozenset({"plain", "obligations around", "several resources", "open, with a compensation", "shadow"})

#: What every entry point meets under every setup.
USUAL: Final = frozenset(
    {
        "raises PDPTimeout",
        "raises ValueError",
        "raises CancelledError",
        "answers 1",
        "hangs",
        "raises KeyboardInterrupt, late",
    }
)

#: What ends a loop or one of its tasks, and not the call, where several questions are in the air.
CUT_ABREAST: Final = frozenset(
    {
        f"raises {kind}{when}"
        for kind in ("KeyboardInterrupt", "SystemExit", "CancelledError")
        for when in ("", ", late")
    }
)


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def case_id(case: object) -> str:
    return case.name if isinstance(case, Setup) else str(case)


def worlds_of(entry: str, setup: Setup = SETUPS[0], *, waiting: bool = True) -> tuple[str, ...]:
    """The worlds of a case: a class is constructed by a call, and a thread awaits nothing."""
    return WORLDS if waiting and entry != "construction" and not setup.threaded else WORLDS[:2]


def shape(report: Report) -> list[str]:
    """The kinds of the steps of a run."""
    return [type(step).__name__ for step in report.stage.steps]


def mishaps_of(entry: str, setup: Setup) -> list[Mishap]:
    """What goes wrong in one case."""
    every = entry == "guard" or setup.name in THOROUGH
    return [mishap for mishap in (*MISHAPS, *LATE) if every or mishap.name in USUAL]


def comparable_worlds(mishap: Mishap, dry: dict[str, Report]) -> list[str]:
    """The worlds in which one mishap means the same at the same step."""
    abreast = "Gather" in shape(dry["sync"])
    if not mishap.twofold or (abreast and mishap.name in CUT_ABREAST):
        return []
    worlds = [world for world, report in dry.items() if shape(report) == shape(dry["sync"])]
    # What hangs makes everything late that is in the air with it.
    return worlds[:2] if abreast and mishap.name.startswith("hangs") else worlds


def unraisable(mishap: Mishap, report: Report, at: int) -> bool:
    """Whether protected code raised what a coroutine cannot: Python replaces it."""
    return isinstance(report.stage.steps[at], Dispatch) and mishap.name.startswith("raises Stop")


@pytest.mark.parametrize(("entry", "setup"), CASES, ids=case_id)
def test_nothing_runs_unrecorded_whatever_goes_wrong(entry: str, setup: Setup, loop: Loop) -> None:
    """Every mishap, at every step, in every world: what runs has a permit on record, and the worlds agree."""
    rig = Rig(ENTRIES[entry], setup, loop)
    dry = {world: rig.run(world) for world in worlds_of(entry, setup)}
    for world, report in dry.items():
        assert complaints(report.stage.timeline) == [], world
        assert report.result[0] != "raised", report.result
        assert (report.result, report.records) == (dry["sync"].result, dry["sync"].records), world
    for mishap in mishaps_of(entry, setup):
        alike = comparable_worlds(mishap, dry)
        worlds = worlds_of(entry, setup, waiting=mishap.name in USUAL and setup.name in THOROUGH)
        for at in range(max(len(report.stage.steps) for report in dry.values())):
            reports = {world: rig.run(world, at, mishap) for world in worlds}
            for world, report in reports.items():
                told = f"{mishap} at step {at} of {shape(dry[world])}, {world}: {report.result}"
                assert complaints(report.stage.timeline) == [], told
                if world in alike and report.stage.struck and not unraisable(mishap, report, at):
                    assert report.result == reports["sync"].result, told
                    # A record that is left to the loop is told in its own time.
                    if not (mishap.cuts and world == "suspending"):
                        assert report.records == reports["sync"].records, told


#: Setup -> outcome of its decision record, and one more field that tells what it is about.
MEANT: Final = {
    "plain": ("permitted", "effect", "permit"),
    "denied": ("denied", "effect", "deny"),
    "indeterminate": ("unavailable", "effect", "indeterminate"),
    "one provider": ("permitted", "provided", ["subject.roles"]),
    "a broken obligation": ("denied", "fault", "obligation"),
    "an unknown obligation": ("denied", "fault", "obligation"),
    "several resources, mixed": ("denied", "effect", "deny"),
    "several, open": ("failed_open", "fault", "unreachable"),
    "open": ("failed_open", "fault", "unreachable"),
    "open, with a compensation": ("failed_open", "fault", "unreachable"),
    "stale": ("permitted", "stale", True),
    "shadow": ("shadowed", "would", "denied"),
    "shadow of an outage": ("shadowed", "would", "unavailable"),
    "canary, enforced": ("denied", "effect", "deny"),
    "canary, shadowed": ("shadowed", "would", "denied"),
    "cached": ("permitted", "cached", True),
    "revoked always": ("permitted", "effect", "permit"),
    "a decision point on a thread": ("permitted", "effect", "permit"),
}


@pytest.mark.parametrize("setup", [setup for setup in SETUPS if setup.name in MEANT], ids=case_id)
def test_every_setup_is_what_it_says(setup: Setup, loop: Loop) -> None:
    """What a setup is there for does happen: an outage opens, a cache hits, what was revoked is withheld."""
    report = Rig(ENTRIES["guard"], setup, loop).run("sync")
    records = [event.about for event in report.stage.timeline if event.what == "acknowledged"]
    decided = next(record for record in records if record.kind is Kind.DECISION)
    outcome, field, value = MEANT[setup.name]
    assert (decided.outcome, decided.get(field)) == (outcome, value)
    runs = outcome in {"permitted", "failed_open", "shadowed"} and setup.name != "revoked always"
    assert [event.what for event in report.stage.timeline].count("ran") == runs


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("once", [True, False], ids=["once", "for ever"])
def test_nothing_runs_unrecorded_when_the_sink_fails(entry: str, once: bool, loop: Loop) -> None:
    """A sink that fails at the k-th record, once or from then on, lets nothing run that it did not take."""
    for setup in (setup for setup in SETUPS if setup.name in THOROUGH):
        rig = Rig(ENTRIES[entry], setup, loop)
        for at in range(1, 5):
            for world in worlds_of(entry):
                sink = FailingSink(at, once=once)
                report = rig.run(world, sink=sink)
                assert complaints(report.stage.timeline) == [], (setup.name, at, world)
                taken = [event.about for event in report.stage.timeline if event.what == "acknowledged"]
                assert sink.records == taken


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("mishap", ANSWERED, ids=str)
def test_only_an_exact_answer_permits(entry: str, mishap: Mishap, loop: Loop) -> None:
    """Whatever looks like a permit and is none lets nothing run and nothing out."""
    pdp = ScriptedPDP([(lambda _request: True, lambda _request: mishap.act(FakeClock()))])
    for world in WORLDS[: 1 + mishap.twofold]:
        report = Rig(ENTRIES[entry], SETUPS[0], loop).run(world, pdp=pdp)
        happened = [event for event in report.stage.timeline if event.what != "acknowledged"]
        assert happened in ([], [Event("released", [])])
        assert not any(record.get("allowed") or record.get("kept") for record in report.records)


# --- the same, over whatever Hypothesis comes up with ---------------------------------------------


def profiles() -> st.SearchStrategy[Profile]:
    """Every failure mode and mode, with what else bears on a record."""
    opening = FailOpen(on=AVAILABILITY, limit="100/minute", obligations=[Obligation("tell")])
    failing = st.sampled_from([FailClosed(), opening, FailStale(60)])
    modes = st.sampled_from(
        [Enforce(), Shadow(until=LATER, reason="test"), Canary(0.5, until=LATER, reason="test")],
    )
    return st.builds(
        Profile,
        on_failure=failing,
        mode=modes,
        audit=st.sampled_from(Guarantee),
        hidden=st.booleans(),
        pin_arguments=st.booleans(),
        permit_ttl=st.sampled_from([None, 0, 30]),
    )


def answers() -> st.SearchStrategy[Any]:
    """Any decision, with obligations that are understood, broken or unheard of; or none at all."""
    known = st.sampled_from(["look", "rename", "count", "redact", "tell", "break", "unheard"])
    given_up = st.sampled_from([PDPTimeout(), ConnectionError(), ValueError()])
    return decisions(obligations(known)) | st.booleans() | given_up


def setups() -> st.SearchStrategy[Setup]:
    """Everything that bears on a call, at random; the decision point answers by resource."""

    def answering(given: list[Any]) -> Any:
        def answer(_rig: Rig, request: AccessRequest) -> Any:
            found = given[int(request.resource.id or 0) % len(given)]
            if isinstance(found, Exception):
                raise found
            return found

        return answer

    return st.builds(
        Setup,
        name=st.just("random"),
        answer=st.lists(answers(), min_size=1, max_size=3).map(answering),
        profile=profiles(),
        providers=st.sampled_from([(), ({"subject.roles": ("editor",)},)]),
        several=st.booleans(),
        via=st.sampled_from([(), (AGENT,)]),
        primes=st.booleans(),
        pure=st.booleans(),
        owes=st.booleans(),
        owing=st.just(True),
    )


@settings(max_examples=150)
@given(st.sampled_from(sorted(ENTRIES)), setups(), st.sampled_from((*MISHAPS, *LATE)), st.data())
def test_nothing_runs_unrecorded_whatever_is_decided(
    entry: str, setup: Setup, mishap: Mishap, data: st.DataObject
) -> None:
    """Any decision, profile, obligation and mishap: what runs has a permit on record, and the worlds agree."""
    loop = Loop()
    try:
        rig = Rig(ENTRIES[entry], setup, loop)
        dry = {world: rig.run(world) for world in WORLDS[:2]}
        at = data.draw(st.integers(0, len(dry["sync"].stage.steps)), label="step")
        reports = {world: rig.run(world, at, mishap) for world in WORLDS[:2]}
    finally:
        loop.close()
    for world in WORLDS[:2]:
        assert complaints(dry[world].stage.timeline) == []
        assert (dry[world].result, dry[world].records) == (dry["sync"].result, dry["sync"].records)
        assert complaints(reports[world].stage.timeline) == []
    sync, awaited = reports["sync"], reports["async"]
    if len(comparable_worlds(mishap, dry)) == 2 and sync.stage.struck and not unraisable(mishap, sync, at):
        assert (sync.result, sync.records) == (awaited.result, awaited.records)


# --- the enforcer's own plans -------------------------------------------------------------------


def called(enforcer: Enforcer, *, awaiting: bool, what: str, **named: Any) -> None:
    """Revoke or close, in one world."""
    with suppress(BaseException):
        if awaiting:
            asyncio.run(getattr(enforcer, f"a{what}")(**named))
        else:
            getattr(enforcer, what)(**named)


@pytest.mark.parametrize("awaiting", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("mishap", [*MISHAPS, *LATE], ids=str)
def test_what_is_revoked_or_closed_stays_so_whatever_goes_wrong(mishap: Mishap, awaiting: bool) -> None:
    """Revoking and closing act first and record then: no mishap of the record brings a permit back."""
    for at in range(3):
        pdp = FailingPDP(answers=True, times=1, then=False, pure=True)
        enforcer = Enforcer(pdp, audit=FailingSink(None), clock=FakeClock())
        document = Resource("document", "1")
        assert enforcer.check("edit", document, subject=ALICE).allowed
        assert enforcer.check("edit", document, subject=ALICE).cached
        with inject(enforcer, at=at, mishap=mishap):
            called(enforcer, awaiting=awaiting, what="invalidate", subject=ALICE)
        assert enforcer.check("edit", document, subject=ALICE).outcome is Outcome.DENIED
        with inject(enforcer, at=at, mishap=mishap):
            called(enforcer, awaiting=awaiting, what="close")
        assert enforcer.check("edit", document, subject=ALICE).outcome is Outcome.UNAVAILABLE


# --- a seeded bug turns each of them red --------------------------------------------------------


def found(entry: str, setup: str, loop: Loop) -> list[str]:
    """Every complaint there is about one case, whatever goes wrong."""
    rig = Rig(ENTRIES[entry], next(known for known in SETUPS if known.name == setup), loop)
    steps = len(rig.run("sync").stage.steps)
    return [
        complaint
        for world in WORLDS[:2]
        for mishap in RAISED[1::4]
        for at in range(-1, steps)
        for complaint in complaints(rig.run(world, at, mishap).stage.timeline)
    ]


@pytest.mark.parametrize("entry", ["guard", "generator", "enforcing", "enforce", "guard_result", "filter"])
def test_a_sink_whose_failure_is_ignored_is_noticed(entry: str, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignoring that a record was not acknowledged turns the law of recorded permits red."""
    assert found(entry, "plain", loop) == []
    write = Journal.write

    def ignored(self: Journal, *args: Any) -> Any:
        yield from write(self, *args)

    monkeypatch.setattr(Journal, "write", ignored)
    assert found(entry, "plain", loop) != []


def test_running_before_the_record_is_noticed(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recording a permit only after its code ran turns the law of recorded permits red."""

    def later(self: Enforcement) -> Any:
        yield from self.conclude()
        return self.verdict

    monkeypatch.setattr(Enforcement, "permit", later)
    assert set(found("guard", "plain", loop)) == {"protected code ran without a permit on record"}


def test_an_indeterminate_permit_is_noticed(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settling INDETERMINATE as a permit turns the law of earned permits red."""
    assert found("guard", "indeterminate", loop) == []

    def generous(effect: Effect) -> Outcome:
        return Outcome.PERMITTED if effect is Effect.INDETERMINATE else settle_effect(effect)

    monkeypatch.setattr(pep.weigh, "settle_effect", generous)
    assert any(
        complaint.startswith("permitted on ['indeterminate']") for complaint in found("guard", "indeterminate", loop)
    )


def test_an_opening_beyond_availability_is_noticed(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening on a fault that no outage excuses turns the law of earned permits red."""
    assert found("guard", "open", loop) == []
    monkeypatch.setattr(pep.weigh, "excuses", lambda _mode, _fault: True)
    assert any(complaint.startswith("opened on") for complaint in found("guard", "open", loop))


def test_a_truthy_answer_is_noticed(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking whatever is true for a permit turns the rule of exact answers red."""
    monkeypatch.setattr(
        pep.ask, "_answered", lambda value: (Decision(Effect.PERMIT if value else Effect.DENY), None, None)
    )
    lookalike = next(mishap for mishap in ANSWERED if mishap.name == "answers 1")
    with pytest.raises(AssertionError):
        test_only_an_exact_answer_permits("guard", lookalike, loop)


def test_a_driver_that_loses_an_error_is_noticed(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver of one world that takes a failed write for a success turns law and comparison red."""
    perform = APerformer.perform

    async def careless(self: APerformer, step: Any) -> Any:
        reply = await perform(self, step)
        return Returned(None) if isinstance(step, Write) and isinstance(reply, Raised) else reply

    monkeypatch.setattr(APerformer, "perform", careless)
    rig = Rig(ENTRIES["guard"], SETUPS[0], loop)
    assert rig.run("sync", sink=FailingSink()).result[0] == "denied"
    assert rig.run("async", sink=FailingSink()).result[0] == "returned"
