"""Flights: who asks the same at the same time asks once, in threads and tasks and across both."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Final

import pytest

from pep import Decision, Effect, Enforcer, FailStale, Fault, Profile, Resource, Subject, forking
from pep.ask import Answer, _flies, _lead
from pep.audit import MemorySink
from pep.cache import Generations
from pep.drive import APerformer, Performer
from pep.flights import Ended, Flight, Flights, is_aboard, step_aboard, step_off
from pep.flying import _wake
from pep.forking import Forks
from pep.model import AccessRequest
from pep.pdp import FunctionPDP
from pep.plan import Invoke, Launch, Plan, Raised, Returned, Wait, call
from pep.testing import FakeClock
from tests.scenes import SHADOW

ALICE: Final = Subject("user", "alice")
ONE, TWO = Resource("document", "1"), Resource("document", "2")
REQUEST: Final = AccessRequest(ALICE, "read", ONE)
WORLDS: Final = ("sync", "async")
#: A bound on what should happen at once, in seconds.
SOON: Final = 10.0

both_worlds: Final = pytest.mark.parametrize(("leader", "follower"), [(a, b) for a in WORLDS for b in WORLDS])


class Gated:
    """A decision point that tells each question it gets, and answers when it is let; in either world."""

    name = "gated"
    pure = True

    def __init__(self) -> None:
        self.asked: SimpleQueue[tuple[AccessRequest, Future[Any]]] = SimpleQueue()
        self.count = 0

    def decide(self, request: AccessRequest) -> Any:
        gate: Future[Any] = Future()
        self.count += 1
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self.asked.put((request, gate))
            return gate.result(SOON)
        return self._awaited(request, gate)

    async def _awaited(self, request: AccessRequest, gate: Future[Any]) -> Any:
        self.asked.put((request, gate))
        return await asyncio.wrap_future(gate)

    def next(self) -> Future[Any]:
        """Wait for the next question; return what answers it."""
        return self.asked.get(timeout=SOON)[1]


class Batching(Gated):
    """The same, for many at once."""

    def decide_many(self, requests: Any) -> Any:
        return self.decide(requests)


class Calls:
    """Calls on threads of their own, in either world."""

    def __init__(self, pdp: Any, profile: Profile | None = None, monkeypatch: pytest.MonkeyPatch | None = None) -> None:
        self.clock = FakeClock()
        self.sink = MemorySink()
        profiles = {"document:**": profile or Profile(permit_ttl=60.0, deadline=30.0)}
        self.enforcer = Enforcer(pdp, audit=self.sink, clock=self.clock, profiles=profiles)
        self.waiting: SimpleQueue[Flight] = SimpleQueue()
        if monkeypatch is not None:
            listen = Flight.listen

            def listening(flight: Flight, wake: Callable[[], None]) -> None:
                listen(flight, wake)
                self.waiting.put(flight)

            monkeypatch.setattr(Flight, "listen", listening)

    @property
    def _wiring(self) -> Any:
        return self.enforcer._core.wiring()

    @property
    def flights(self) -> Flights:
        """What is in the air."""
        flights: Flights = self._wiring.shapes.flights
        return flights

    def start(
        self, world: str, *resources: Resource, waits: bool | None = None, subject: Subject = ALICE
    ) -> Future[Any]:
        """Begin a check of one resource, or several; return once it waits for a flight, where it will."""
        ended: Future[Any] = Future()
        several = [("read", one) for one in resources or (ONE,)]

        def run() -> None:
            try:
                if world == "sync":
                    ended.set_result(self.enforcer.check_many(several, subject=subject))
                else:
                    ended.set_result(asyncio.run(self._awaited(several, subject)))
            except BaseException as error:  # noqa: BLE001  interrupts too
                ended.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        if waits if waits is not None else world == "async":
            self.waiting.get(timeout=SOON)
        return ended

    async def _awaited(self, several: Any, subject: Subject) -> Any:
        value = await self.enforcer.acheck_many(several, subject=subject)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return value

    @staticmethod
    def allowed(*ended: Future[Any]) -> list[bool]:
        """Wait for calls, and tell what each came to."""
        return [verdict.allowed for one in ended for verdict in one.result(SOON)]

    @staticmethod
    def faults(*ended: Future[Any]) -> list[Any]:
        return [verdict.fault for one in ended for verdict in one.result(SOON)]


# --- the flight itself ----------------------------------------------------------------------------------


def board(flights: Flights, generations: Generations, now: float = 0.0, *, key: str = "key") -> tuple[Flight, bool]:
    return flights.board(key, REQUEST, generations.epoch, now + 1.0, generations, now)


def test_who_boards_first_leads() -> None:
    """Later ones follow, while it is in the air, its time is not up, and nothing was revoked since."""
    flights, generations = Flights(), Generations()
    first, mine = board(flights, generations)
    assert mine
    assert board(flights, generations, 0.999) == (first, False)
    assert board(flights, generations, key="other")[1]
    late, mine = board(flights, generations, 1.0)
    assert mine
    generations.revoke(("subject", "user", "bob"))
    assert board(flights, generations, 1.0) == (late, False)
    generations.revoke(("subject", "user", "alice"))
    newest, mine = board(flights, generations, 1.0)
    assert mine
    first.land(1)
    late.land(1)
    assert board(flights, generations, 1.0) == (newest, False)
    newest.land(1)
    assert len(flights) == 1
    assert repr(flights) == "<Flights: 1 in the air>"


def test_a_flight_lands_once() -> None:
    """The first landing counts; all who wait are woken, also those who come as it lands."""
    flight, _ = board(Flights(), Generations())
    woken: list[int] = []
    wakes = [lambda number=number: woken.append(number) for number in range(3)]
    assert flight.is_empty()
    for wake in wakes[:2]:
        flight.listen(wake)
    assert (flight.is_empty(), repr(flight)) == (False, "<Flight in the air>")
    flight.leave(wakes[0])
    flight.land("first")
    flight.land("second")
    flight.listen(wakes[2])
    flight.leave(wakes[2])
    assert (flight.landed, woken, flight.is_down()) == ("first", [1, 2], True)
    assert repr(flight) == "<Flight landed>"


def test_nobody_leads_in_a_forked_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its leaders stayed with the parent; a table that is gone is left alone."""
    forks = Forks()
    monkeypatch.setattr(forking, "FORKS", forks)
    flights = Flights()
    board(flights, Generations())
    forks.in_child()
    assert len(flights) == 0
    del flights
    forks.in_child()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_asks_for_itself() -> None:
    """What a thread of the parent asks when it forks is nothing to wait for in the child."""
    pdp = Gated()
    calls = Calls(pdp)
    leading = calls.start("sync")
    gate = pdp.next()
    child = os.fork()
    if child == 0:
        # `Gated` answers here at once: the gate is made beforehand.
        pdp.decide = lambda _request: True  # type: ignore[method-assign]
        verdict = calls.enforcer.check("read", ONE, subject=ALICE)
        os._exit(0 if verdict.allowed else 1)
    gate.set_result(True)
    assert calls.allowed(leading) == [True]
    assert os.waitpid(child, 0)[1] == 0


def test_being_aboard_ends_where_it_began() -> None:
    """In another context there is nothing to undo."""
    token = step_aboard()
    assert is_aboard()
    contextvars.copy_context().run(step_off, token)
    assert is_aboard()
    step_off(token)
    assert not is_aboard()


# --- the two steps ----------------------------------------------------------------------------------------


def test_a_loop_that_is_gone_is_not_woken() -> None:
    """Nobody waits there any longer; and who was cancelled is not woken either."""
    loop = asyncio.new_event_loop()
    landed = loop.create_future()
    _wake(loop, landed)
    landed.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    assert landed.cancelled()
    loop.close()
    _wake(loop, landed)


def test_a_task_of_another_loop_on_this_thread_cannot_land() -> None:
    """While one loop runs on a thread the others there stand still: whoever waits would wait in vain."""
    flight, _ = board(Flights(), Generations())
    flight.loop = object()
    reply = asyncio.run(APerformer(FakeClock()).perform(Wait(flight)))
    assert reply == Returned(Ended.ALONE)
    assert Performer(FakeClock()).perform(Wait(flight)) == Returned(Ended.ALONE)


def perform(world: str, *steps: Any) -> list[Any]:
    async def performed() -> list[Any]:
        performer = APerformer(FakeClock())
        return [await performer.perform(step) for step in steps]

    if world == "async":
        return asyncio.run(performed())
    return [Performer(FakeClock()).perform(step) for step in steps]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("steps", [0, 1])
def test_what_a_launched_plan_comes_to_lands(world: str, steps: int) -> None:
    """A value or an error, whether the plan takes any step or none."""

    def plan(error: Exception | None) -> Plan[int]:
        for _step in range(steps):
            yield from call(lambda: None)
        if error is not None:
            raise error
        return 7

    error = ValueError()
    for raised, expected in ((None, Returned(7)), (error, Raised(error))):
        flight, _ = board(Flights(), Generations())
        replies = perform(world, Launch(plan(raised), flight), Wait(flight))
        assert replies[0] == Returned(None)
        assert replies[1].value == expected


def test_a_flight_whose_task_is_cancelled_is_abandoned() -> None:
    """Before its first step as well: its plan is closed, and whoever waits is told."""
    closed: list[bool] = []

    def plan(gate: Any) -> Plan[None]:
        try:
            yield from call(lambda: gate)
        finally:
            closed.append(True)

    async def cancelled(turns: int) -> Any:
        performer, flight = APerformer(FakeClock()), board(Flights(), Generations())[0]
        await performer.perform(Launch(plan(asyncio.get_running_loop().create_future()), flight))
        for _turn in range(turns):
            await asyncio.sleep(0)
        assert flight.task is not None
        flight.task.cancel()
        return await performer.perform(Wait(flight))

    for turns in (0, 1, 5):
        assert asyncio.run(cancelled(turns)).value is Ended.ABANDONED
    assert closed == [True] * 3


def test_a_flight_that_is_interrupted_in_place_is_abandoned() -> None:
    """Whatever cuts off who runs it."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    flight, _ = board(Flights(), Generations())
    with pytest.raises(KeyboardInterrupt):
        Performer(FakeClock()).perform(Launch(call(interrupt), flight))
    assert flight.landed is Ended.ABANDONED


# --- callers ------------------------------------------------------------------------------------------------


@both_worlds
def test_the_same_question_is_asked_once(monkeypatch: pytest.MonkeyPatch, leader: str, follower: str) -> None:
    """Followers get the leader's answer, which is cached once; it is no hit, and has a record of its own."""
    pdp = Gated()
    calls = Calls(pdp, monkeypatch=monkeypatch)
    ended = [calls.start(leader)]
    gate = pdp.next()
    ended += [calls.start(follower, waits=True) for _ in range(3)]
    gate.set_result(Decision(Effect.PERMIT, id="d1"))
    assert calls.allowed(*ended) == [True] * 4
    assert (pdp.count, calls.flights.joined, len(calls.flights)) == (1, 3, 0)
    assert [record.get("cached", False) for record in calls.sink.records] == [False] * 4
    assert calls.allowed(calls.start("sync")) == [True]
    assert (pdp.count, calls.enforcer.stats()["hits"]) == (1, 1)


@both_worlds
@pytest.mark.parametrize(
    ("answer", "fault"),
    [(ConnectionError(), Fault.UNREACHABLE), (None, Fault.MALFORMED), (Decision(Effect.INDETERMINATE), None)],
)
def test_a_leader_s_fault_is_theirs(
    monkeypatch: pytest.MonkeyPatch, leader: str, follower: str, answer: Any, fault: Fault | None
) -> None:
    """Whoever waited shares it, and the next one asks again."""
    pdp = Gated()
    calls = Calls(pdp, monkeypatch=monkeypatch)
    ended = [calls.start(leader)]
    gate = pdp.next()
    ended.append(calls.start(follower, waits=True))
    if isinstance(answer, Exception):
        gate.set_exception(answer)
    else:
        gate.set_result(answer)
    assert calls.faults(*ended) == [fault] * 2
    assert calls.allowed(*ended) == [False] * 2
    assert (pdp.count, len(calls._wiring.cache)) == (1, 0)


@both_worlds
def test_a_leader_s_timeout_is_theirs_only_when_their_time_is_up(
    monkeypatch: pytest.MonkeyPatch, leader: str, follower: str
) -> None:
    """Who came later has time left, boards again, and leads."""
    pdp = Gated()
    calls = Calls(pdp, monkeypatch=monkeypatch)
    ended = [calls.start(leader)]
    gate = pdp.next()
    calls.clock.advance(15.0)
    ended.append(calls.start(follower, waits=True))
    calls.clock.advance(20.0)
    gate.set_result(True)
    pdp.next().set_result(True)
    assert calls.faults(*ended) == [Fault.TIMEOUT, None]
    assert calls.allowed(*ended) == [False, True]


@both_worlds
def test_who_waits_too_long_has_a_timeout_of_his_own(
    monkeypatch: pytest.MonkeyPatch, leader: str, follower: str
) -> None:
    """The flight goes on without him."""
    pdp = Gated()
    calls = Calls(pdp, monkeypatch=monkeypatch)
    leading = calls.start(leader)
    gate = pdp.next()
    flight = next(iter(calls.flights._flights.values()))
    monkeypatch.setattr(APerformer, "perform", impatient(APerformer.perform, flight))
    monkeypatch.setattr(Performer, "perform", impatient(Performer.perform, flight))
    assert calls.faults(calls.start(follower, waits=True)) == [Fault.TIMEOUT]
    gate.set_result(True)
    assert calls.allowed(leading) == [True]
    assert (pdp.count, calls.flights.joined) == (1, 0)


def impatient(performed: Any, flight: Flight) -> Any:
    """Wait for a flight no longer than until now; all else takes its time."""

    def perform(self: Any, step: Any) -> Any:
        if type(step) is Wait and step.flight is flight:
            step = Wait(flight, 0.0)
        return performed(self, step)

    return perform


@both_worlds
@pytest.mark.parametrize("ttl", [0.0, 5.0])
def test_an_answer_that_may_not_be_reused_is_not_shared(
    monkeypatch: pytest.MonkeyPatch, leader: str, follower: str, ttl: float
) -> None:
    """Each asks for himself where the decision is for one call, or was too old before he came."""
    pdp = Gated()
    calls = Calls(pdp, Profile(permit_ttl=60.0, deadline=60.0), monkeypatch=monkeypatch)
    ended = [calls.start(leader)]
    gate = pdp.next()
    calls.clock.advance(6.0)
    ended.append(calls.start(follower, waits=True))
    gate.set_result(Decision(Effect.PERMIT, ttl=ttl))
    pdp.next().set_result(True)
    assert calls.allowed(*ended) == [True] * 2
    assert (pdp.count, calls.flights.joined) == (2, 0)


@both_worlds
def test_what_was_revoked_in_the_air_is_nobody_s_answer(
    monkeypatch: pytest.MonkeyPatch, leader: str, follower: str
) -> None:
    """Nobody boards it from then on, and who had boarded asks again."""
    pdp = Gated()
    calls = Calls(pdp, monkeypatch=monkeypatch)
    ended = [calls.start(leader)]
    before = pdp.next()
    ended.append(calls.start(follower, waits=True))
    calls.enforcer.invalidate(subject=ALICE)
    ended.append(calls.start(follower))
    newcomer = pdp.next()
    before.set_result(True)
    newcomer.set_result(False)
    assert calls.allowed(ended[1], ended[2]) == [False, False]
    assert calls.faults(ended[0]) == [Fault.REVOKED]


def test_a_leader_that_is_interrupted_leaves_the_others_to_board_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them leads."""
    pdp = Gated()
    calls = Calls(pdp, monkeypatch=monkeypatch)
    leading = calls.start("sync")
    gate = pdp.next()
    ended = [calls.start(world, waits=True) for world in WORLDS * 2]
    gate.set_exception(KeyboardInterrupt())
    pdp.next().set_result(True)
    assert isinstance(leading.exception(SOON), KeyboardInterrupt)
    assert calls.allowed(*ended) == [True] * 4
    assert pdp.count == 2


def test_a_leader_that_is_cancelled_leaves_its_flight_to_the_others() -> None:
    """The flight is a task of its own; it ends with the last who waits."""
    pdp = Gated()
    calls = Calls(pdp)

    async def cancelled(followers: int) -> list[Any]:
        leading = asyncio.ensure_future(calls.enforcer.acheck("read", ONE, subject=ALICE))
        await turned()
        waiting = [asyncio.ensure_future(calls.enforcer.acheck("read", ONE, subject=ALICE)) for _ in range(followers)]
        await turned()
        leading.cancel()
        await turned()
        assert leading.cancelled()
        gate = pdp.next()
        assert gate.cancelled() is (not followers)
        if followers:
            gate.set_result(True)
        came = [verdict.allowed for verdict in await asyncio.gather(*waiting)]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return came

    assert asyncio.run(cancelled(0)) == []
    assert asyncio.run(cancelled(2)) == [True, True]
    assert pdp.count == 2
    assert len(calls.flights) == 0


async def turned() -> None:
    for _turn in range(10):
        await asyncio.sleep(0)


def test_a_flight_that_is_always_abandoned_ends_in_a_question_of_one_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boarding again has an end."""
    calls = Calls(lambda _request: True, Profile(permit_ttl=60.0))
    landed = Flight.land
    monkeypatch.setattr(Flight, "land", lambda flight, _what: landed(flight, Ended.ABANDONED))
    assert calls.enforcer.check("read", ONE, subject=ALICE).allowed


def test_an_abandoned_flight_after_the_deadline_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no time to board again in."""
    calls = Calls(lambda _request: calls.clock.advance(2.0) or True, Profile(permit_ttl=60.0))
    landed = Flight.land
    monkeypatch.setattr(Flight, "land", lambda flight, _what: landed(flight, Ended.ABANDONED))
    assert calls.enforcer.check("read", ONE, subject=ALICE).fault is Fault.TIMEOUT


def test_an_error_of_the_flight_itself_is_an_internal_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw closes, for whoever waited too."""
    calls = Calls(lambda _request: True, Profile(permit_ttl=60.0))
    landed = Flight.land
    monkeypatch.setattr(Flight, "land", lambda flight, _what: landed(flight, Raised(KeyError())))
    assert calls.enforcer.check("read", ONE, subject=ALICE).fault is Fault.INTERNAL


def test_nobody_waits_for_his_own_thread() -> None:
    """A synchronous check in a loop whose task is in the air asks for itself; so does a decision point that asks."""
    answers: list[Any] = []

    def decide(request: AccessRequest) -> Any:
        return answers.pop()(request)

    calls = Calls(FunctionPDP(decide, pure=True))
    check, acheck = calls.enforcer.check, calls.enforcer.acheck

    async def both() -> list[bool]:
        gate = asyncio.get_running_loop().create_future()
        answers[:] = [lambda _request: True, lambda _request: gate]
        leading = asyncio.ensure_future(acheck("read", ONE, subject=ALICE))
        await turned()
        verdict = check("read", ONE, subject=ALICE)
        gate.set_result(True)
        return [verdict.allowed, (await leading).allowed]

    assert asyncio.run(both()) == [True, True]
    calls.enforcer.invalidate_all()
    answers[:] = [lambda _request: True, lambda _request: check("read", ONE, subject=ALICE).allowed]
    assert check("read", ONE, subject=ALICE).allowed
    answers[:] = [
        lambda _request: True,
        lambda _request: all(one.allowed for one in calls.enforcer.check_many([("read", TWO)], subject=ALICE)),
    ]
    assert check("read", TWO, subject=ALICE).allowed
    assert answers == []


def test_who_waits_inside_a_flight_would_wait_in_a_circle() -> None:
    """Two questions whose answers need each other's are both answered."""
    met = threading.Barrier(2)
    other = {"1": TWO, "2": ONE}

    def decide(request: AccessRequest) -> bool:
        if not inner.get():
            met.wait(SOON)
            token = inner.set(True)
            try:
                return calls.enforcer.check("read", other[str(request.resource.id)], subject=ALICE).allowed
            finally:
                inner.reset(token)
        return True

    inner: contextvars.ContextVar[bool] = contextvars.ContextVar("inner", default=False)
    calls = Calls(FunctionPDP(decide, pure=True), Profile(deadline=60.0))
    assert calls.allowed(calls.start("sync", ONE), calls.start("sync", TWO)) == [True, True]


@pytest.mark.parametrize(
    ("pure", "profile", "expected"),
    [
        (True, Profile(), True),
        (True, Profile(permit_ttl=0), False),
        (True, Profile(deny_ttl=0), True),
        (False, Profile(), False),
        (False, Profile(permit_ttl=1), True),
        (False, Profile(deny_ttl=1), False),
        (True, SHADOW, False),
    ],
)
def test_which_questions_fly(pure: bool, profile: Profile, expected: bool) -> None:
    """Those whose permit would be cached, and are enforced; no answer from memory is waited for."""
    for immediate in (False, True):
        pdp: Any = FunctionPDP(lambda _request: True, pure=pure)
        if immediate:
            pdp = Immediate(True)
            pdp.pure = pure
        wiring = Enforcer(pdp, audit=MemorySink())._core.wiring()
        answer = Answer(REQUEST, profile, 0, 0.0, shadowed=profile is SHADOW)
        assert _flies(wiring, answer) is (expected and not immediate)


def test_threaded_questions_fly(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread asks for all."""
    pdp = Gated()
    for leader, follower in (("sync", "async"), ("async", "sync")):
        calls = Calls(FunctionPDP(pdp.decide, pure=True, threaded=True), monkeypatch=monkeypatch)
        ended = [calls.start(leader)]
        gate = pdp.next()
        ended.append(calls.start(follower, waits=True))
        gate.set_result(True)
        assert calls.allowed(*ended) == [True, True]
    assert pdp.count == 2


def test_plans_fly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decision point that is a plan is waited for like any other."""
    pdp = Gated()

    def plan(request: AccessRequest) -> Plan[bool]:
        return (yield from call(pdp.decide, request))

    for leader, follower in (("sync", "async"), ("async", "sync")):
        calls = Calls(FunctionPDP(plan, pure=True), monkeypatch=monkeypatch)
        ended = [calls.start(leader)]
        gate = pdp.next()
        ended.append(calls.start(follower, waits=True))
        gate.set_result(True)
        assert calls.allowed(*ended) == [True, True]
    assert pdp.count == 2


# --- batches ------------------------------------------------------------------------------------------------


@both_worlds
def test_a_batch_leads(monkeypatch: pytest.MonkeyPatch, leader: str, follower: str) -> None:
    """What it asks about nobody else does; and when it fails, they do."""
    for interrupted in (False, True):
        pdp = Batching()
        calls = Calls(pdp, monkeypatch=monkeypatch)
        ended = [calls.start(leader, ONE, TWO, waits=False)]
        gate = pdp.next()
        ended.append(calls.start(follower, TWO, waits=True))
        if interrupted:
            gate.set_exception(MemoryError())
            pdp.next().set_result(True)
            assert isinstance(ended[0].exception(SOON), MemoryError)
            assert calls.allowed(ended[1]) == [True]
        else:
            gate.set_result([False, True])
            assert calls.allowed(*ended) == [False, True, True]
        assert pdp.count == 1 + interrupted


@both_worlds
@pytest.mark.parametrize("interrupted", [False, True])
def test_a_batch_follows(monkeypatch: pytest.MonkeyPatch, leader: str, follower: str, interrupted: bool) -> None:
    """It asks about the rest, then waits; what brings no answer it asks for itself."""
    if interrupted and leader == "async":
        return
    pdp = Batching()
    calls = Calls(pdp, monkeypatch=monkeypatch)
    leading = calls.start(leader, TWO)
    gate = pdp.next()
    batch = calls.start(follower, ONE, TWO, ONE, waits=False)
    rest, answer = pdp.asked.get(timeout=SOON)
    assert type(rest) is AccessRequest
    answer.set_result(True)
    calls.waiting.get(timeout=SOON)
    if interrupted:
        gate.set_exception(KeyboardInterrupt())
        pdp.next().set_result(False)
        assert isinstance(leading.exception(SOON), KeyboardInterrupt)
    else:
        gate.set_result(False)
        assert calls.allowed(leading) == [False]
    assert calls.allowed(batch) == [True, False, True]
    assert pdp.count == 2 + interrupted


@both_worlds
def test_a_batch_may_have_nothing_of_its_own_to_ask(
    monkeypatch: pytest.MonkeyPatch, leader: str, follower: str
) -> None:
    """It only waits."""
    pdp = Batching()
    calls = Calls(pdp, monkeypatch=monkeypatch)
    ended = [calls.start(leader)]
    gate = pdp.next()
    ended.append(calls.start(follower, ONE, ONE, waits=True))
    gate.set_result(True)
    assert calls.allowed(*ended) == [True] * 3
    assert pdp.count == 1


def test_a_leader_that_is_cut_off_before_the_launch_leaves_nothing_behind() -> None:
    """What its question still had to be awaited for is closed, and others board again."""
    wiring = Calls(lambda _request: True)._wiring
    answer = Answer(REQUEST, Profile(permit_ttl=60.0), 0, 0.0)
    flight, _ = board(Flights(), Generations())
    plan, coroutine = _lead(wiring, flight, answer, 1.0), later()
    assert type(plan.send(None)) is Invoke
    assert type(plan.send(Returned(coroutine))) is Launch
    plan.close()
    assert coroutine.cr_frame is None
    assert flight.landed is Ended.ABANDONED
    assert not is_aboard()


# --- decision points that answer at once, stale answers, new revisions ----------------------------------------


class Immediate:
    """A decision point that answers from memory."""

    name = "immediate"
    pure = True
    immediate = True

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def decide(self, request: AccessRequest) -> Any:
        return self._answer(request) if callable(self._answer) else self._answer


def raising(error: BaseException) -> Callable[[Any], Any]:
    def answer(_request: Any) -> Any:
        raise error

    return answer


async def later() -> bool:
    return True


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (True, None),
        (Decision(Effect.PERMIT), None),
        (1, Fault.MALFORMED),
        (lambda _request: later(), Fault.MALFORMED),
        (raising(ConnectionError()), Fault.UNREACHABLE),
        (raising(StopIteration()), Fault.INTERNAL),
    ],
)
def test_what_answers_at_once_takes_no_step(answer: Any, fault: Fault | None) -> None:
    """It is asked in place; what goes wrong is a fault as ever."""
    calls = Calls(Immediate(answer))
    verdict = calls.enforcer.check("read", ONE, subject=ALICE)
    assert (verdict.fault, verdict.allowed) == (fault, fault is None)
    assert calls.allowed(calls.start("async", waits=False)) == [fault is None]


def test_what_should_answer_at_once_and_is_late_is_a_timeout() -> None:
    """Its answer is discarded; memory that ran out propagates."""
    calls = Calls(Immediate(lambda _request: calls.clock.advance(31.0) or True))
    assert calls.enforcer.check("read", ONE, subject=ALICE).fault is Fault.TIMEOUT
    with pytest.raises(MemoryError):
        Calls(Immediate(raising(MemoryError()))).enforcer.check("read", ONE, subject=ALICE)


@both_worlds
def test_an_outage_is_bridged_for_whoever_waited(monkeypatch: pytest.MonkeyPatch, leader: str, follower: str) -> None:
    """Each serves the last real decision for itself; it is never the answer of a flight."""
    pdp = Gated()
    profile = Profile(permit_ttl=1.0, deadline=30.0, on_failure=FailStale(max_age=60.0))
    calls = Calls(pdp, profile, monkeypatch=monkeypatch)
    first = calls.start("sync")
    pdp.next().set_result(True)
    assert calls.allowed(first) == [True]
    calls.clock.advance(10.0)
    for age, expected in ((10.0, True), (61.0, False)):
        ended = [calls.start(leader)]
        gate = pdp.next()
        ended.append(calls.start(follower, waits=True))
        gate.set_exception(ConnectionError())
        assert calls.faults(*ended) == [Fault.UNREACHABLE] * 2
        records = calls.sink.records[-2:]
        assert [record.get("stale", False) for record in records] == [expected] * 2, age
        calls.clock.advance(51.0)
    assert calls._wiring.cache.stats()["stale_refusals"] == 2


def revisions(pdp: Any) -> Iterator[tuple[Calls, list[AccessRequest]]]:
    asked: list[AccessRequest] = []
    told = {"revision": "r1"}

    def decide(request: AccessRequest) -> Decision:
        asked.append(request)
        return Decision(Effect.PERMIT, revision=told["revision"])

    calls = Calls(pdp(decide), Profile(permit_ttl=60.0))
    yield calls, asked
    told["revision"] = "r2"
    yield calls, asked


def checked(calls: Calls, *resources: Resource) -> None:
    for one in resources:
        assert calls.enforcer.check("read", one, subject=ALICE).allowed


def test_a_new_revision_drops_what_the_old_one_decided() -> None:
    """A pure decision point's answers are good for one revision; the answer that tells of another one is kept."""
    scene = revisions(lambda decide: FunctionPDP(decide, pure=True))
    calls, asked = next(scene)
    checked(calls, ONE, TWO, ONE, TWO)
    next(scene)
    checked(calls, ONE, TWO)
    assert len(asked) == 2
    three = Resource("document", "3")
    checked(calls, three, three)
    assert len(asked) == 3
    checked(calls, ONE, TWO, ONE, TWO)
    assert len(asked) == 5
    changes = [record for record in calls.sink.records if record.kind.value == "configuration"]
    assert [(record["old"], record["new"]) for record in changes] == [("r1", "r2")]


def test_other_revisions_are_not_compared() -> None:
    """Where answers are not pure, a revision says nothing of them; a decision point that tells of its own is heard."""

    def subscribing(decide: Any) -> Any:
        pdp = Immediate(decide)
        pdp.subscribe = lambda _listener: None  # type: ignore[attr-defined]
        return pdp

    for make in (FunctionPDP, subscribing):
        scene = revisions(make)
        calls, asked = next(scene)
        checked(calls, ONE)
        next(scene)
        checked(calls, TWO, ONE)
        assert len(asked) == 2
