"""Deciding: failure modes and shadows, and obligations that change the call, in both worlds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

import pytest

from pep import Canary, Decision, Effect, FailOpen, FailStale, Fault, Obligation, Profile, Resource, Subject
from pep.errors import PDPTimeout
from pep.protocols import Call, Rank
from pep.testing import FailingSink, FakeHandler
from tests.scenes import ALICE, DOCUMENT, LATER, OPEN, PERMIT, SHADOW, Scene, handlers, owing, raising, worlds

# --- failing open ---------------------------------------------------------------------------------


@worlds
def test_opening_is_bounded(world: str) -> None:
    """A failure mode opens so many calls, and no more of one subject's."""
    mode = FailOpen(on=[Fault.UNREACHABLE], limit="3/minute", per_subject="2/minute")
    scene = Scene(world, raising(ConnectionError()), profile=Profile(on_failure=mode))
    bob = Subject("user", "bob")
    told = [scene.edit(subject=who).told[0] for who in (ALICE, ALICE, ALICE, bob, bob)]
    assert told == ["returned", "returned", "unavailable", "returned", "unavailable"]
    scene.clock.advance(60)
    assert scene.edit().told == ("returned", None)


@worlds
def test_one_call_about_several_resources_takes_one_opening(world: str) -> None:
    """What is bounded is calls, not requests."""
    mode = FailOpen(on=[Fault.UNREACHABLE], limit="1/minute")
    several = [Resource("document", "1"), Resource("document", "2")]
    scene = Scene(world, raising(ConnectionError()), profile=Profile(on_failure=mode), resource=lambda title: several)
    assert [scene.edit().told[0], scene.edit().told[0]] == ["returned", "unavailable"]


@worlds
def test_a_revocation_suppresses_opening(world: str) -> None:
    """An outage never revives what was revoked."""
    scene = Scene(world, raising(ConnectionError()), profile=OPEN)
    assert scene.edit().told == ("returned", None)
    scene.enforcer.invalidate(subject=ALICE)
    assert scene.edit().told == ("unavailable", "unreachable")
    assert scene.edit(subject=Subject("user", "bob")).told == ("returned", None)


@worlds
@pytest.mark.parametrize("duty", ["break", "unheard", "step up"])
def test_a_compensation_that_fails_closes(world: str, duty: str) -> None:
    """What is opened without its compensation stays closed, and the outage is the fault."""
    mode = FailOpen(on=[Fault.UNREACHABLE], limit="9/minute", obligations=[Obligation(duty)])
    scene = Scene(world, raising(ConnectionError()), profile=Profile(on_failure=mode), obligations=handlers())
    assert scene.edit().told == ("unavailable", "unreachable")
    assert scene.ran == []


@worlds
def test_compensations_run_before_what_is_opened(world: str) -> None:
    """An opened call is compensated for, and recorded with the fault."""
    mode = FailOpen(on=[Fault.UNREACHABLE], limit="9/minute", obligations=[Obligation("log")])
    scene = Scene(world, raising(ConnectionError()), profile=Profile(on_failure=mode), obligations=handlers())
    assert scene.edit().told == ("returned", None)
    assert scene.last["obligations"] == [{"type": "log", "status": "discharged"}]
    assert (scene.last["outcome"], scene.last["fault"], scene.last["cause"]) == (
        "failed_open",
        "unreachable",
        "ConnectionError",
    )


@worlds
def test_a_call_that_hangs_to_its_deadline_can_still_be_opened(world: str) -> None:
    """The decision point may use the whole deadline up: what the outage leads to has a time of its own."""
    scene = Scene(world, lambda _request: scene.clock.advance(5), profile=OPEN, obligations=handlers())
    assert scene.edit().told == ("returned", None)
    assert (scene.last["outcome"], scene.last["fault"]) == ("failed_open", "timeout")


@worlds
@pytest.mark.parametrize("mixed", [False, Decision(Effect.INDETERMINATE)], ids=["denied", "indeterminate"])
def test_nothing_is_opened_beside_a_refusal(world: str, mixed: Any) -> None:
    """One resource refused closes the call, whatever outage befell the others."""
    several = [Resource("document", "1"), Resource("document", "2")]
    scene = Scene(
        world,
        lambda request: mixed if request.resource.id == "1" else raising(ConnectionError())(request),
        profile=OPEN,
        resource=lambda title: several,
    )
    assert scene.edit().told[0] == ("denied" if mixed is False else "unavailable")
    assert scene.ran == []


@worlds
def test_time_spent_elsewhere_is_never_excused(world: str) -> None:
    """A decision point that gets less than half the deadline is not what failed."""
    scene = Scene(
        world,
        raising(PDPTimeout()),
        profile=OPEN,
        resource=lambda title: scene.clock.advance(0.6) or DOCUMENT,
    )
    assert scene.edit().told == ("denied", "extraction")


# --- stale, shadow ----------------------------------------------------------------------------------


@worlds
@pytest.mark.parametrize(
    ("first", "ttl", "passed", "served"),
    [
        (True, None, 59.0, "returned"),
        (True, None, 61.0, "unavailable"),
        (True, 10.0, 11.0, "unavailable"),
        (False, None, 59.0, "denied"),
        (Effect.INDETERMINATE, None, 1.0, "unavailable"),
    ],
)
def test_stale_serving(world: str, first: Any, ttl: float | None, passed: float, served: str) -> None:
    """The last real decision bridges an outage, while neither its age nor its own ttl forbids it."""
    effect = first if type(first) is Effect else Effect.PERMIT if first else Effect.DENY
    answers = [Decision(effect, ttl=ttl)]
    scene = Scene(
        world,
        lambda _request: answers.pop() if answers else raising(ConnectionError())(None),
        profile=Profile(on_failure=FailStale(60), permit_ttl=0, deny_ttl=0),
    )
    scene.edit()
    scene.clock.suspend(passed)
    assert scene.edit().told[0] == served
    if served != "unavailable":
        assert (scene.last["fault"], scene.last["age"], scene.last["stale"]) == ("unreachable", passed, True)


@worlds
def test_what_was_revoked_is_never_served_stale(world: str) -> None:
    """A stale decision is served only while its generations hold."""
    answers = [True]
    scene = Scene(
        world,
        lambda _request: answers.pop() if answers else raising(ConnectionError())(None),
        profile=Profile(on_failure=FailStale(60), permit_ttl=0),
    )
    scene.edit()
    scene.enforcer.invalidate(resource=DOCUMENT)
    assert scene.edit().told == ("unavailable", "unreachable")


SHADOWED: Final = MappingProxyType(
    {
        "a permit": (True, "permitted"),
        "a denial": (False, "denied"),
        "a fault": (raising(ConnectionError()), "unavailable"),
        "an obligation nobody understands": (owing(PERMIT, "unheard"), "denied"),
    }
)


@worlds
@pytest.mark.parametrize(("said", "would"), SHADOWED.values(), ids=SHADOWED.keys())
def test_a_shadow_runs_the_code_and_tells_what_would_have_been(world: str, said: Any, would: str) -> None:
    """A shadow discharges nothing and caches nothing, and its record says what it would have come to."""
    known = handlers()
    scene = Scene(world, said, profile=Profile(mode=SHADOW.mode, permit_ttl=60, deny_ttl=60), obligations=known)
    for _again in range(2):
        assert scene.edit().told == ("returned", None)
    assert len(scene.asked) == 2
    assert (scene.last["outcome"], scene.last["would"]) == ("shadowed", would)
    assert all(handler.discharged == [] for handler in known)


@worlds
def test_a_shadow_reads_what_is_cached(world: str) -> None:
    """What was decided for an enforced call is known to a shadow too, and asked for no second time."""
    scene = Scene(world, False, profile=Profile(mode=SHADOW.mode, deny_ttl=60))
    scene.do("check", "edit", DOCUMENT)
    assert scene.edit().told == ("returned", None)
    assert (len(scene.asked), scene.last["cached"], scene.last["would"]) == (1, True, "denied")


@worlds
def test_a_shadow_covers_a_call_that_cannot_be_extracted(world: str) -> None:
    """An action that is only shadowed is not stopped by nobody acting either."""
    scene = Scene(world, profile=SHADOW)
    assert scene.edit(subject=None).told == ("returned", None)
    assert (scene.last["outcome"], scene.last["would"], scene.last["fault"]) == ("shadowed", "denied", "extraction")


@worlds
def test_a_shadow_whose_record_fails_refuses(world: str) -> None:
    """Even in shadow nothing runs unrecorded."""
    scene = Scene(world, False, profile=SHADOW, sink=FailingSink(2))
    assert scene.edit().told == ("unavailable", "audit")
    assert scene.ran == []


@worlds
def test_a_hanging_decision_point_in_shadow_stops_nobody(world: str) -> None:
    """A shadow that used the deadline up still gets its record written."""
    scene = Scene(world, lambda _request: scene.clock.advance(5), profile=SHADOW)
    assert scene.edit().told == ("returned", None)
    assert (scene.last["outcome"], scene.last["fault"]) == ("shadowed", "timeout")


@worlds
def test_a_shadow_ends(world: str) -> None:
    """From `until` on what was decided holds."""
    scene = Scene(world, False, profile=SHADOW)
    assert scene.edit().told == ("returned", None)
    scene.clock.set_wall(LATER.timestamp())
    assert scene.edit().told == ("denied", None)


# --- obligations and arguments ------------------------------------------------------------------------


def titled(title: str) -> Resource:
    return Resource("document", title)


def rewriting(*titles: str) -> Callable[[Call], Call]:
    left = list(titles)
    return lambda seen: seen.with_arguments(title=left.pop(0))


@worlds
def test_an_obligation_that_changes_the_call_has_it_decided_again(world: str) -> None:
    """What was made of the call is asked about too, and what consumes does so once, for what runs."""
    counter = FakeHandler("count", rank=Rank.COUNT)
    scene = Scene(
        world,
        owing(PERMIT, "rewrite", "count"),
        resource=titled,
        obligations=[FakeHandler("rewrite", does=rewriting("2", "2")), counter],
    )
    assert scene.edit("1").told == ("returned", None)
    assert [request.resource.id for request in scene.asked] == ["1", "2"]
    assert scene.ran == ["2"]
    assert len(counter.discharged) == 1
    assert scene.last["resource"]["id"] == "2"


@worlds
def test_a_changed_call_that_is_another_each_time_denies(world: str) -> None:
    """What was made of a call is extracted again even where its second decision demands nothing any more."""
    ids = itertools.count(1)
    scene = Scene(
        world,
        lambda request: owing(PERMIT, *["rewrite"] * (request.resource.id == "1")),
        resource=lambda title: Resource("document", str(next(ids))),
        obligations=[FakeHandler("rewrite", does=rewriting("2"))],
    )
    assert scene.edit("1").told == ("denied", "obligation")
    assert scene.ran == []


@worlds
def test_a_second_change_denies(world: str) -> None:
    """A call that changes whenever it is decided never comes to rest."""
    scene = Scene(
        world,
        owing(PERMIT, "rewrite"),
        resource=titled,
        obligations=[FakeHandler("rewrite", does=rewriting("2", "3"))],
    )
    assert scene.edit("1").told == ("denied", "obligation")
    assert scene.ran == []


@worlds
def test_a_change_that_makes_the_same_request_stands(world: str) -> None:
    """Arguments may change where the request does not: no second question."""
    scene = Scene(world, owing(PERMIT, "rewrite"), obligations=[FakeHandler("rewrite", does=rewriting("2"))])
    assert scene.edit("1").told == ("returned", None)
    assert (len(scene.asked), scene.ran) == (1, ["2"])


@worlds
def test_a_change_that_cannot_be_extracted_denies(world: str) -> None:
    """What obligations made of the call must still be a call."""
    scene = Scene(
        world,
        owing(PERMIT, "rewrite"),
        resource=titled,
        obligations=[FakeHandler("rewrite", does=rewriting(""))],
    )
    assert scene.edit("1").told == ("denied", "extraction")


@worlds
def test_a_changed_call_that_is_denied_does_not_run(world: str) -> None:
    """The second decision is the one that holds."""
    scene = Scene(
        world,
        lambda request: owing(PERMIT, "rewrite") if request.resource.id == "1" else False,
        resource=titled,
        obligations=[FakeHandler("rewrite", does=rewriting("2"))],
    )
    assert scene.edit("1").told == ("denied", None)


@worlds
def test_a_failed_permit_is_not_decided_again(world: str) -> None:
    """Where an obligation failed already, what another made of the call does not matter."""
    scene = Scene(
        world,
        owing(PERMIT, "rewrite", "break"),
        resource=titled,
        obligations=[FakeHandler("rewrite", does=rewriting("2")), FakeHandler("break", raises=ValueError())],
    )
    assert scene.edit("1").told == ("denied", "obligation")
    assert len(scene.asked) == 1


def test_a_late_second_question_is_a_timeout() -> None:
    """Asked again with little time left, an outage is its own fault, and not excused."""
    scene = Scene(
        "sync",
        lambda request: owing(PERMIT, "rewrite") if request.resource.id == "1" else raising(PDPTimeout())(request),
        profile=OPEN,
        resource=titled,
        obligations=[FakeHandler("rewrite", does=rewriting("2"))],
    )
    assert scene.edit("1").told == ("unavailable", "timeout")


@worlds
def test_pinned_arguments_are_compared_before_the_code_runs(world: str) -> None:
    """With `pin_arguments` an argument that changed since it was checked refuses the call."""
    listed: list[str] = []
    scene = Scene(
        world,
        lambda _request: listed.append("sneaked in") or True,
        profile=Profile(pin_arguments=True),
    )
    assert scene.edit(listed).told == ("denied", "extraction")
    assert (scene.ran, scene.kinds) == ([], ["decision", "outcome withheld"])
    assert Scene(world, profile=Profile(pin_arguments=True)).edit(["x"]).result == ["x"]


@worlds
def test_what_cannot_be_pinned_is_denied(world: str) -> None:
    """An argument that cannot be compared later is a fault where it has to be."""
    scene = Scene(world, profile=Profile(pin_arguments=True))
    assert scene.edit(object()).told == ("denied", "extraction")
    assert scene.asked == []


@worlds
def test_a_canary_enforces_for_its_fraction_and_shadows_the_rest(world: str) -> None:
    """Each subject always on the same side, nobody always enforced."""
    canary = Profile(mode=Canary(0.5, until=LATER, reason="new"))
    scene = Scene(world, False, profile=canary, secret=b"0123456789abcdef")
    subjects = [Subject("user", str(number)) for number in range(16)]
    told = [scene.edit(subject=who).told[0] for who in subjects]
    assert set(told) == {"returned", "denied"}
    assert [scene.edit(subject=who).told[0] for who in subjects] == told
    assert scene.edit(subject=None).told == ("denied", "extraction")


@worlds
def test_a_canary_s_enforced_part_is_never_shadowed_by_a_fault(world: str) -> None:
    """What goes wrong after the request is known is shadowed for whom it is shadowed, and closed for the others."""
    canary = Profile(mode=Canary(0.5, until=LATER, reason="new"), pin_arguments=True)
    scene = Scene(world, profile=canary, secret=b"0123456789abcdef")
    told = {scene.edit(object(), subject=Subject("user", str(number))).told for number in range(16)}
    assert told == {("returned", None), ("denied", "extraction")}
    outcomes = {record["outcome"] for record in scene.sink.records if record.get("allowed") is not None}
    assert outcomes == {"shadowed", "denied"}
