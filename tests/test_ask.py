"""Asking: enrichment, cache, batches, and which fault is whose, in both worlds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, Final

import pytest

import pep.ask
from pep import Decision, Effect, FailOpen, Fault, Outcome, Profile, Resource, Subject
from pep.ask import ABREAST, Timing
from pep.errors import AttributeProviderError, PDPTimeout
from pep.model import AccessRequest
from pep.pdp import FunctionPDP
from pep.testing import FakeProvider, ScriptedPDP
from tests.scenes import ALICE, DOCUMENT, OPEN, WORLDS, Scene, Suspended, raising, worlds

SEVERAL: Final = [Resource("document", str(number)) for number in range(5)]


class Batching:
    """A decision point that takes batches; answers as it is told."""

    name = "batching"

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self.batches: list[Sequence[AccessRequest]] = []

    def decide(self, _request: AccessRequest) -> bool:
        return True

    def decide_many(self, requests: Sequence[AccessRequest]) -> Any:
        self.batches.append(requests)
        return self._answer(requests) if callable(self._answer) else self._answer


# --- many at once --------------------------------------------------------------------------------------


@worlds
def test_a_batch_is_one_question(world: str) -> None:
    """A decision point that takes batches is asked once, and answers in order."""
    pdp = Batching(lambda requests: [request.resource.id != "3" for request in requests])
    scene = Scene(world, pdp=pdp)
    verdicts = scene.do("check_many", [("edit", one) for one in SEVERAL])
    assert [verdict.allowed for verdict in verdicts] == [True, True, True, False, True]
    assert [len(batch) for batch in pdp.batches] == [5]


@worlds
def test_equal_questions_are_asked_once(world: str) -> None:
    """The same request twice in a batch is one question, with one answer for both."""
    scene = Scene(world)
    assert [verdict.allowed for verdict in scene.do("check_many", [("edit", DOCUMENT)] * 3)] == [True] * 3
    assert len(scene.asked) == 1


@worlds
@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ([True], Fault.MISMATCHED),
        ([True] * 6, Fault.MISMATCHED),
        ([], Fault.MISMATCHED),
        (None, Fault.MALFORMED),
        (True, Fault.MALFORMED),
        ({}, Fault.MALFORMED),
        ((True, 1, True, True, True), None),
        (raising(ConnectionError()), Fault.UNREACHABLE),
    ],
    ids=["short", "long", "empty", "None", "one bool", "a mapping", "one is malformed", "unreachable"],
)
def test_a_batch_answered_wrongly_fails_as_a_whole(world: str, answer: Any, fault: Fault | None) -> None:
    """Short, long or no batch at all: every request has the fault; one bad answer in it is that answer's alone."""
    verdicts = Scene(world, pdp=Batching(answer)).do("check_many", [("edit", one) for one in SEVERAL])
    faults = [verdict.fault for verdict in verdicts]
    assert faults == ([fault] * 5 if fault is not None else [None, Fault.MALFORMED, None, None, None])
    assert all(not verdict.allowed for verdict in verdicts if verdict.fault is not None)


@worlds
def test_without_batches_questions_go_side_by_side(world: str) -> None:
    """Only so many are in the air at once, and each has its own answer."""
    many = [Resource("document", str(number)) for number in range(ABREAST + 3)]
    scene = Scene(world, lambda request: int(request.resource.id) % 2 == 0)
    verdicts = scene.do("check_many", [("edit", one) for one in many])
    assert [verdict.allowed for verdict in verdicts] == [number % 2 == 0 for number in range(ABREAST + 3)]
    assert len(scene.asked) == ABREAST + 3


def test_awaited_questions_wait_together() -> None:
    """In a loop, what waits waits at the same time."""
    waiting: list[asyncio.Event] = []

    async def answer() -> bool:
        waiting.append(asyncio.Event())
        if len(waiting) == len(SEVERAL):
            for one in waiting:
                one.set()
        await waiting[-1].wait()
        return True

    scene = Scene("async", lambda _request: answer())
    assert all(verdict.allowed for verdict in scene.do("check_many", [("edit", one) for one in SEVERAL]))


def test_awaitables_within_a_batch_are_closed() -> None:
    """A list of coroutines is no list of decisions, and none is left unawaited."""

    async def later() -> bool:
        return True

    class Unclosable(Suspended):
        def close(self) -> None:
            raise RuntimeError

    pdp = Batching(lambda requests: [later() for _ in requests[1:]] + [Unclosable(True)])
    verdicts = Scene("async", pdp=pdp).do("check_many", [("edit", one) for one in SEVERAL])
    assert {verdict.fault for verdict in verdicts} == {Fault.MALFORMED}


# --- the cache ---------------------------------------------------------------------------------------------


PURE, IMPURE = True, False


@worlds
@pytest.mark.parametrize(
    ("pure", "ttls", "said", "asked"),
    [
        (PURE, {}, Decision(Effect.PERMIT), 1),
        (PURE, {}, Decision(Effect.DENY), 1),
        (PURE, {"permit_ttl": 0}, Decision(Effect.PERMIT), 2),
        (PURE, {"deny_ttl": 0}, Decision(Effect.PERMIT), 1),
        (PURE, {}, Decision(Effect.PERMIT, ttl=0), 2),
        (IMPURE, {}, Decision(Effect.PERMIT), 2),
        (IMPURE, {}, Decision(Effect.PERMIT, ttl=60), 2),
        (IMPURE, {"permit_ttl": 60}, Decision(Effect.PERMIT), 1),
        (IMPURE, {"permit_ttl": 60}, Decision(Effect.DENY), 2),
        (IMPURE, {"deny_ttl": 60}, Decision(Effect.DENY), 1),
        (PURE, {"permit_ttl": 60, "deny_ttl": 60}, Decision(Effect.INDETERMINATE), 2),
    ],
)
def test_what_is_cached(world: str, pure: bool, ttls: Any, said: Decision, asked: int) -> None:
    """A pure decision point's answers by default, others where a profile says so; permits and denials apart."""
    pdp = ScriptedPDP([(lambda _request: True, said)], pure=pure)
    scene = Scene(world, pdp=pdp, profile=Profile(**ttls))
    first = scene.edit().told
    assert scene.edit().told == first
    assert len(pdp.asked) == asked
    assert scene.last.get("cached", False) is (asked == 1)


@worlds
def test_an_entry_lives_from_the_start_of_its_question(world: str) -> None:
    """The shorter of the two times counts, from before the question, without sliding, suspend included."""
    pdp = ScriptedPDP(
        [(lambda _request: True, lambda _request: scene.clock.advance(0.5) or Decision(Effect.PERMIT, ttl=10))]
    )
    scene = Scene(world, pdp=pdp, profile=Profile(permit_ttl=60))
    scene.edit()
    scene.clock.suspend(9.4)
    scene.edit()
    assert (len(pdp.asked), scene.last["age"]) == (1, pytest.approx(9.9))
    scene.clock.suspend(0.2)
    scene.edit()
    assert len(pdp.asked) == 2


@worlds
def test_a_fault_is_never_cached(world: str) -> None:
    """The next call asks again."""
    answers = [True, None]
    scene = Scene(world, lambda _request: answers.pop(), profile=Profile(permit_ttl=60, deny_ttl=60))
    assert [scene.edit().told[0], scene.edit().told[0]] == ["unavailable", "returned"]


@worlds
def test_what_was_revoked_in_the_air_is_not_cached(world: str) -> None:
    """An answer whose question was asked before a revocation does not outlive it."""
    scene = Scene(
        world,
        lambda request: scene.enforcer.invalidate(subject=ALICE) is None and request.subject.id == "alice",
        profile=Profile(permit_ttl=60),
    )
    scene.do("check", "edit", DOCUMENT)
    assert len(scene.core.wiring().cache) == 0


@worlds
def test_what_was_revoked_since_is_no_hit(world: str) -> None:
    """A revocation drops what it touches, and nothing is asked twice that it does not."""
    bob = Subject("user", "bob")
    scene = Scene(world, profile=Profile(permit_ttl=60))
    scene.edit(), scene.edit(subject=bob)
    scene.enforcer.invalidate(subject=bob)
    scene.edit(), scene.edit(subject=bob)
    assert [request.subject.id for request in scene.asked] == ["alice", "bob", "bob"]


@worlds
def test_a_hit_that_still_holds_moves_up(world: str) -> None:
    """After somebody else's revocation the next hit compares floors, and the one after that one number."""
    scene = Scene(world, profile=Profile(permit_ttl=60))
    scene.do("check", "edit", DOCUMENT)
    scene.enforcer.invalidate(subject=Subject("user", "bob"))
    wiring = scene.core.wiring()
    (entry,) = wiring.cache.permits.values()
    assert entry.epoch < wiring.generations.epoch
    assert scene.do("check", "edit", DOCUMENT).cached
    assert entry.epoch == wiring.generations.epoch


@worlds
def test_what_was_revoked_is_dropped_when_it_is_found(world: str) -> None:
    """It was a miss, and takes no room until it is asked for again."""
    answers = [None, True]
    scene = Scene(world, lambda _request: answers.pop(), profile=Profile(permit_ttl=60))
    scene.do("check", "edit", DOCUMENT)
    scene.enforcer.invalidate(subject=ALICE)
    assert not scene.do("check", "edit", DOCUMENT).allowed
    cache = scene.core.wiring().cache
    assert (cache.hits, cache.misses, len(cache)) == (0, 2, 0)


# --- enrichment ----------------------------------------------------------------------------------------------


@worlds
def test_what_is_provided_is_part_of_the_question(world: str) -> None:
    """Enrichment comes before the cache: another role is another question."""
    provider = FakeProvider({"subject.roles": ["editor"]})
    scene = Scene(world, profile=Profile(permit_ttl=60), attributes=[provider])
    scene.edit(), scene.edit()
    assert len(scene.asked) == 1
    provider._answer = {"subject.roles": []}
    scene.edit()
    assert len(scene.asked) == 2


@worlds
def test_each_request_of_a_batch_has_attributes_of_its_own(world: str) -> None:
    """A provider that fails for one request leaves the others alone."""

    class Choosy(FakeProvider):
        def provide(self, request: AccessRequest) -> Any:
            if request.resource.id == "1":
                raise KeyError
            return super().provide(request)

    scene = Scene(world, attributes=[Choosy({"resource.owner": "alice"})])
    verdicts = scene.do("check_many", [("edit", one) for one in SEVERAL])
    assert [verdict.fault for verdict in verdicts] == [None, Fault.ATTRIBUTES, None, None, None]
    assert len(scene.asked) == 4


@worlds
def test_a_provider_that_provides_too_much_is_an_extraction_fault(world: str) -> None:
    """A request that grows past its bound cannot be asked about."""
    scene = Scene(world, attributes=[FakeProvider({"resource.text": "x" * 70_000})])
    assert scene.edit().told == ("denied", "extraction")


@worlds
def test_a_provider_that_takes_all_the_time_is_the_fault(world: str) -> None:
    """What the decision point was left without was not its to lose."""

    class Slow(FakeProvider):
        def provide(self, request: AccessRequest) -> Any:
            scene.clock.advance(0.7)
            return super().provide(request)

    provider = Slow({"subject.roles": []})
    scene = Scene(world, raising(PDPTimeout()), profile=OPEN, attributes=[provider])
    assert scene.edit().told == ("unavailable", "attributes")
    scene = Scene(world, raising(ConnectionError()), profile=OPEN, attributes=[provider])
    assert scene.edit().told == ("unavailable", "unreachable")


def test_whose_fault_enrichment_is() -> None:
    """A provider cut off at the deadline failed as one; anything unforeseen is ours."""
    assert pep.ask._fault_of_enrichment(TimeoutError()) is Fault.ATTRIBUTES
    assert pep.ask._fault_of_enrichment(AttributeProviderError()) is Fault.ATTRIBUTES
    assert pep.ask._fault_of_enrichment(KeyError()) is Fault.INTERNAL


# --- time ---------------------------------------------------------------------------------------------------


@worlds
@pytest.mark.parametrize(("used", "told"), [(0.5, "returned"), (0.51, "denied"), (1.0, "denied"), (2.0, "denied")])
def test_at_least_half_the_deadline_is_the_decision_point_s(world: str, used: float, told: str) -> None:
    """Only with that much left is a timeout the decision point's, and may be excused."""
    scene = Scene(
        world,
        raising(PDPTimeout()),
        profile=OPEN,
        resource=lambda title: scene.clock.advance(used) or DOCUMENT,
    )
    assert scene.edit().told[0] == told
    assert len(scene.asked) == (used < 1.0)


def test_half_of_a_deadline() -> None:
    """It is half of the whole, from the start."""
    assert Timing(10.0, 14.0).half == 12.0


def test_threaded_decision_points_are_cut_short_in_both_worlds() -> None:
    """A call on a thread of its own is given up at the deadline, and opened where that is allowed."""
    gate = threading.Event()
    mode = FailOpen(on=[Fault.TIMEOUT], limit="9/minute")
    try:
        for world in WORLDS:
            pdp = FunctionPDP(lambda _request: gate.wait(5.0), threaded=True)
            scene = Scene(world, pdp=pdp, profile=Profile(on_failure=mode, deadline=0.02))
            assert scene.edit().told == ("returned", None)
            assert (scene.last["outcome"], scene.last["fault"]) == (Outcome.FAILED_OPEN.value, "timeout")
    finally:
        gate.set()
