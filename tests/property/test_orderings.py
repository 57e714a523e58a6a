"""
Revocation holds in every order in which two calls, a flight and an invalidation can meet, in both worlds.

Every order that can make a difference: a call's record says nothing to the other call, so it is ordered against the
invalidation alone.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

import pytest

import pep.ask
from pep import AccessDenied, Enforcer, Fault, Profile, Resource, Subject
from pep.cache import DecisionCache, Entry, Generations
from pep.drive import APerformer, Performer
from pep.keeping import Came
from pep.plan import Invoke, Wait, Write
from pep.testing import FakeClock
from tests.property.test_cache import Forgetting

WORLDS: Final = ("sync", "async")
ALICE: Final = Subject("user", "alice")
ONE: Final = Resource("document", "1")
#: A bound on what should happen at once, in seconds.
SOON: Final = 10.0

#: Where a call stands between two strides: before its question and after it, before it waits, around its record.
PLACES: Final = {"start", "after start", "join", "record", "after record"}
#: Those that suffice to see every mistake below.
FEW: Final = {"after start", "join", "after record"}

_ACTOR: Final[contextvars.ContextVar[str | None]] = contextvars.ContextVar("actor", default=None)


class Choices:
    """One way through all choices: those of a prefix, then always the first."""

    def __init__(self, prefix: list[int]) -> None:
        self.trail: list[tuple[int, int]] = []
        self._prefix = prefix

    def choose(self, options: int) -> int:
        at = len(self.trail)
        chosen = self._prefix[at] if at < len(self._prefix) else 0
        self.trail.append((chosen, options))
        return chosen


def every_order(run: Callable[[Choices], None]) -> int:
    """Run something once for every way through its choices; return how many there are."""
    prefix: list[int] = []
    for count in range(1, 1_000_000):
        choices = Choices(prefix)
        run(choices)
        trail = choices.trail
        while trail and trail[-1][0] + 1 >= trail[-1][1]:
            trail.pop()
        if not trail:
            return count
        prefix = [chosen for chosen, _ in trail[:-1]] + [trail[-1][0] + 1]
    raise AssertionError


class Scene:
    """An enforcer, two calls of what it guards, and what happened when."""

    def __init__(self, *, revoking: bool, second: str, places: set[str]) -> None:
        self.places = places
        self.allowed = True
        self.happened: list[str] = []
        self.came: dict[str, AccessDenied | Fault | None] = {}
        self.revoking = revoking
        self.second = second
        self.asked = 0
        self.enforcer = Enforcer(self, audit=Forgetting(), clock=FakeClock(), profiles={"**": Profile(deadline=30.0)})
        self.core = self.enforcer._core
        self._sync = self.enforcer.guard("read", resource=ONE, subject=ALICE)(self.ran)
        self._async = self.enforcer.guard("read", resource=ONE, subject=ALICE)(self.aran)

    # The decision point.

    pure = True
    name = "scene"

    def decide(self, _request: Any) -> Any:
        self.asked += 1
        answer = self.allowed
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return answer
        return self._later(answer)

    async def _later(self, answer: bool) -> bool:
        await asyncio.sleep(0)
        return answer

    # The calls.

    def ran(self) -> None:
        self.happened.append(f"{_ACTOR.get()} ran")

    async def aran(self) -> None:
        self.ran()

    def invalidate(self) -> None:
        self.happened.append("invalidating")
        self.allowed = False
        self.enforcer.invalidate(subject=ALICE)
        self.happened.append("invalidated")

    def call(self, actor: str) -> None:
        _ACTOR.set(actor)
        self.happened.append(f"{actor} began")
        try:
            if actor == "B" and self.second == "check":
                self.came[actor] = self.enforcer.check("read", ONE, subject=ALICE).fault
            else:
                self._sync()
        except AccessDenied as denied:
            self.came[actor] = denied.fault

    async def acall(self, actor: str) -> None:
        _ACTOR.set(actor)
        self.happened.append(f"{actor} began")
        try:
            if actor == "B" and self.second == "check":
                self.came[actor] = (await self.enforcer.acheck("read", ONE, subject=ALICE)).fault
            else:
                await self._async()
        except AccessDenied as denied:
            self.came[actor] = denied.fault

    def judge(self) -> None:
        """Nothing that was permitted before takes effect afterwards, and whoever comes afterwards has an answer."""
        happened = self.happened
        if self.revoking:
            late = happened[happened.index("invalidated") :]
            assert not [what for what in late if what.endswith("ran")], happened
            for actor in ("A", "B"):
                if f"{actor} began" in late:
                    assert self.came[actor] is None, happened
            verdict = self.enforcer.check("read", ONE, subject=ALICE)
            assert (verdict.allowed, verdict.fault) == (False, None), happened
        else:
            assert self.asked == 1, happened
            assert not any(self.came.values()), happened
        assert len(self.core.wiring().shapes.flights) == 0


def gated(step: Any) -> str | None:
    """What a call is about to do, where the order matters."""
    if isinstance(step, Invoke):
        return "start" if getattr(step.fn, "__name__", "") == "decide" else None
    if isinstance(step, Write):
        return "record"
    return "join" if isinstance(step, Wait) and not step.flight.is_down() else None


# --- threads ----------------------------------------------------------------------------------------------


class Threads:
    """Calls on threads, of which one takes one stride at a time."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.condition = threading.Condition()
        #: Actor -> what it is doing: ``runs``, a flight it waits for, or where it stands.
        self.doing: dict[str, Any] = {}

    def stand(self, at: str) -> None:
        actor = _ACTOR.get()
        if actor is None or at not in self.scene.places:
            return
        with self.condition:
            self.doing[actor] = f"at {at}"
            self.condition.notify_all()
            assert self.condition.wait_for(lambda: self.doing[actor] == "runs", SOON)

    def perform(self, performed: Callable[[Any], Any], step: Any) -> Any:
        at, actor = gated(step), _ACTOR.get()
        if at is None or actor is None:
            return performed(step)
        self.stand(at)
        if at == "join":
            self.tell(actor, step.flight)
        reply = performed(step)
        if at == "join":
            self.tell(actor, "runs")
        else:
            self.stand(f"after {at}")
        return reply

    def tell(self, actor: str, what: Any) -> None:
        with self.condition:
            self.doing[actor] = what
            self.condition.notify_all()

    def begin(self, actor: str) -> None:
        self.doing[actor] = "runs"

        def run() -> None:
            try:
                self.scene.call(actor)
            finally:
                self.tell(actor, "done")

        threading.Thread(target=run, daemon=True).start()

    def settled(self) -> bool:
        return not any(what == "runs" or (hasattr(what, "is_down") and what.is_down()) for what in self.doing.values())

    def run(self, choices: Choices) -> None:
        to_revoke = self.scene.revoking
        while True:
            with self.condition:
                assert self.condition.wait_for(self.settled, SOON), self.doing
            standing = sorted((actor, what) for actor, what in self.doing.items() if str(what).startswith("at "))
            recording = [one for one in standing if one[1].endswith("record")][:1]
            stepping = recording or standing
            moves: list[Callable[[], None]] = [lambda actor=actor: self.tell(actor, "runs") for actor, _ in stepping]
            if len(self.doing) < 2 and not recording:
                moves.append(lambda: self.begin("AB"[len(self.doing)]))
            if to_revoke:
                moves.append(self.scene.invalidate)
            if not moves:
                return
            move = moves[choices.choose(len(moves))]
            to_revoke = to_revoke and move != self.scene.invalidate
            move()


class GatedPerformer(Performer):
    def __init__(self, threads: Threads) -> None:
        super().__init__(threads.scene.core.wiring().clock)
        self._gates = threads

    def perform(self, step: Any) -> Any:
        return self._gates.perform(super().perform, step)


def in_threads(scene: Scene, choices: Choices) -> None:
    threads, wiring = Threads(scene), scene.core.wiring()
    scene.core._performers = (wiring, GatedPerformer(threads), APerformer(wiring.clock))
    threads.run(choices)


# --- tasks ------------------------------------------------------------------------------------------------


class GatedAPerformer(APerformer):
    def __init__(self, scene: Scene) -> None:
        super().__init__(scene.core.wiring().clock)
        self._places = scene.places
        self.standing: list[tuple[str, asyncio.Future[None]]] = []

    async def stand(self, at: str) -> None:
        actor = _ACTOR.get()
        if actor is not None and at in self._places:
            gate = asyncio.get_running_loop().create_future()
            self.standing.append((f"{actor} {at}", gate))
            await gate

    async def perform(self, step: Any) -> Any:
        # In a loop the question itself takes no time; what is awaited in its flight does.
        awaited = isinstance(step, Invoke) and getattr(step.fn, "__name__", "") == "begin"
        at = "start" if awaited else "record" if isinstance(step, Write) else None
        if at is None:
            return await super().perform(step)
        await self.stand(at)
        reply = await super().perform(step)
        await self.stand(f"after {at}")
        return reply


async def in_tasks(scene: Scene, choices: Choices) -> None:
    wiring, performer = scene.core.wiring(), GatedAPerformer(scene)
    scene.core._performers = (wiring, Performer(wiring.clock), performer)
    to_revoke, begun = scene.revoking, []
    while True:
        for _turn in range(12):
            await asyncio.sleep(0)
        standing = sorted(performer.standing, key=lambda one: one[0])
        recording = [one for one in standing if one[0].endswith("record")][:1]
        moves: list[Any] = recording or [*standing, *["begin"] * (len(begun) < 2)]
        moves = [*moves, *["invalidate"] * to_revoke]
        if not moves:
            break
        move = moves[choices.choose(len(moves))]
        if move == "begin":
            begun.append(asyncio.ensure_future(scene.acall("AB"[len(begun)])))
        elif move == "invalidate":
            to_revoke = False
            scene.invalidate()
        else:
            performer.standing.remove(move)
            move[1].set_result(None)
    assert all(one.done() for one in begun)
    for one in begun:
        one.result()


def orders(world: str, *, revoking: bool = True, second: str = "call", places: set[str] = FEW) -> int:
    """Try every order in a world; return how many there are."""

    def run(choices: Choices) -> None:
        scene = Scene(revoking=revoking, second=second, places=places)
        if world == "sync":
            in_threads(scene, choices)
        else:
            asyncio.run(in_tasks(scene, choices))
        scene.judge()

    return every_order(run)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("second", ["call", "check"])
def test_revocation_holds_in_every_order(world: str, second: str) -> None:
    """Lookup, start, return, fill, join, record, invalidate and dispatch, in every order there is."""
    assert orders(world, second=second, places=PLACES) > 50


@pytest.mark.parametrize("world", WORLDS)
def test_the_same_is_asked_once_in_every_order(world: str) -> None:
    """Whether the second call comes before, during or after the first one's question."""
    assert orders(world, revoking=False, places=PLACES) >= 3


def unchecked(*places: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Leave out the comparison of generations in some functions."""
    holds = Generations.holds

    def mistaken(self: Generations, request: Any, epoch: int) -> bool:
        frame = sys._getframe(1)
        while frame.f_code.co_name in {"<genexpr>", "<listcomp>"} and frame.f_back is not None:
            frame = frame.f_back
        return frame.f_code.co_name in places or holds(self, request, epoch)

    return lambda patch: patch.setattr(Generations, "holds", mistaken)


def stamped_at_return(patch: pytest.MonkeyPatch) -> None:
    came_of = pep.ask.came_of

    def mistaken(wiring: Any, answer: Any, checked: Any) -> Came:
        return came_of(wiring, answer, checked)._replace(epoch=wiring.generations.epoch)

    patch.setattr(pep.ask, "came_of", mistaken)


def stamped_at_fill(patch: pytest.MonkeyPatch) -> None:
    put = DecisionCache.put
    stamps: list[Generations] = []
    made = Generations.__init__

    def remembered(self: Generations) -> None:
        made(self)
        stamps.append(self)

    def mistaken(self: DecisionCache, key: Any, entry: Entry, holder: Any = None) -> None:
        entry.epoch = stamps[-1].epoch
        put(self, key, entry, holder)

    patch.setattr(Generations, "__init__", remembered)
    patch.setattr(DecisionCache, "put", mistaken)


ORDER_BUGS: Final = {
    "no check at lookup": (unchecked("serve_cached"), "call"),
    "no check before dispatch": (unchecked("holds"), "call"),
    "joined after it was revoked, and not checked at return": (unchecked("board", "_landed"), "check"),
    "stamped at return": (stamped_at_return, "call"),
}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("bug", ORDER_BUGS)
def test_some_order_shows_each_mistake(monkeypatch: pytest.MonkeyPatch, world: str, bug: str) -> None:
    """The orders are enough to see what they are for."""
    plant, second = ORDER_BUGS[bug]
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        orders(world, second=second)


# --- at every touch ---------------------------------------------------------------------------------------


class Touches:
    """Fires once, at the k-th touch of the epoch or the cache."""

    def __init__(self, at: int, fire: Callable[[], None]) -> None:
        self.left, self.fire = at, fire

    def touch(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.fire()


class TouchyGenerations(Generations):
    """Generations whose epoch tells when it is looked at."""

    touches: Any = None

    @property
    def epoch(self) -> int:  # type: ignore[override]
        if self.touches is not None:
            self.touches.touch()
        return Generations.epoch.__get__(self)  # type: ignore[attr-defined,no-any-return]

    @epoch.setter
    def epoch(self, value: int) -> None:
        Generations.epoch.__set__(self, value)  # type: ignore[attr-defined]


class TouchyDict(dict[Any, Any]):
    """A dict that tells when it is read or written."""

    touches: Any = None

    def get(self, key: Any, default: Any = None) -> Any:
        self.touches.touch()
        return super().get(key, default)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.touches.touch()
        super().__setitem__(key, value)
        self.touches.touch()


def fired(world: str, at: int) -> bool:
    """Make two calls and a check, and invalidate at the k-th touch; return whether there was one."""
    scene = Scene(revoking=True, second="call", places=set())
    wiring = scene.core.wiring()
    touches = Touches(at, scene.invalidate)
    wiring.generations = TouchyGenerations()
    wiring.cache.permits = TouchyDict()
    wiring.generations.touches = wiring.cache.permits.touches = touches
    for actor in ("A", "B"):
        if world == "sync":
            scene.call(actor)
        else:
            asyncio.run(scene.acall(actor))
    struck = touches.left <= 0
    if not struck:
        scene.invalidate()
    touches.left = 0
    scene.judge()
    return struck


def every_touch(world: str) -> int:
    at = 1
    while fired(world, at):
        at += 1
    return at - 1


@pytest.mark.parametrize("world", WORLDS)
def test_revocation_holds_at_every_touch(world: str) -> None:
    """At whichever look at the epoch or the cache an invalidation comes, nothing older takes effect."""
    assert every_touch(world) > 10


TOUCH_BUGS: Final = {
    "stamped at fill": stamped_at_fill,
    "stamped at return": stamped_at_return,
    "no check at lookup": unchecked("serve_cached"),
    "no check before dispatch": unchecked("holds"),
}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("bug", TOUCH_BUGS)
def test_some_touch_shows_each_mistake(monkeypatch: pytest.MonkeyPatch, world: str, bug: str) -> None:
    """The touches are enough to see what orders of whole steps do not show."""
    TOUCH_BUGS[bug](monkeypatch)
    with pytest.raises(AssertionError):
        every_touch(world)
