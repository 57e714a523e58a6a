"""Lifecycle: revoke, tell how it is, close; recorded, and in either world."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from typing import Any, Final

import pytest

from pep import AccessDenied, Enforcer, Fault, Guarantee, Outcome, Profile, acting_as
from pep.audit import Kind, MemorySink
from pep.errors import AuditError, ConfigurationError, DecisionUnavailable
from pep.testing import FailingSink, ScriptedPDP
from tests.scenes import ALICE, DOCUMENT, SHADOW, WORLDS, Scene, Strong, worlds


class Closing(Strong):
    """A sink that knows whether it was closed, and may fail at it or need awaiting."""

    def __init__(self, *, fails: bool = False, awaited: bool = False) -> None:
        super().__init__()
        self.closed = 0
        self._fails, self._awaited = fails, awaited

    def close(self) -> Any:
        return self._later() if self._awaited else self._now()

    def _now(self) -> None:
        if self._fails:
            raise OSError
        self.closed += 1

    async def _later(self) -> None:
        await asyncio.sleep(0)
        self._now()


def close(scene: Scene) -> None:
    """Close an enforcer in its scene's world."""
    if scene.world == "sync":
        scene.enforcer.close()
    else:
        asyncio.run(scene.enforcer.aclose())


# --- closing -------------------------------------------------------------------------------------------


@worlds
def test_a_closed_enforcer_refuses_everything(world: str) -> None:
    """The sink is closed after one last record; every later call is unavailable; closing again does nothing."""
    sink = Closing()
    scene = Scene(world, sink=sink)
    for _again in range(2):
        close(scene)
    assert (scene.kinds, sink.closed) == (["close"], 1)
    assert scene.edit().told == ("unavailable", "internal")
    assert scene.enforcer.check("edit").outcome is Outcome.UNAVAILABLE
    assert (scene.ran, scene.enforcer.health()["state"]) == ([], "closed")
    assert "closed" in repr(scene.enforcer)


@worlds
def test_a_sink_without_an_end_is_left_alone(world: str) -> None:
    """A last record is all it gets."""
    scene = Scene(world)
    close(scene)
    assert scene.kinds == ["close"]


@worlds
def test_a_sink_that_fails_to_close_is_told(world: str) -> None:
    """Its last records may be lost, and whoever closes must know; the enforcer is closed all the same."""
    scene = Scene(world, sink=Closing(fails=True))
    with pytest.raises(AuditError, match="`Closing` could not be closed") as caught:
        close(scene)
    assert isinstance(caught.value.__cause__, OSError)
    assert scene.edit().told == ("unavailable", "internal")


def test_a_sink_that_must_be_awaited_is_closed_by_the_asynchronous_half() -> None:
    """The other half says so."""
    sink = Closing(awaited=True)
    with pytest.raises(AuditError) as caught:
        close(Scene("sync", sink=sink))
    assert "async half" in str(caught.value.__cause__)
    close(Scene("async", sink=sink))
    assert sink.closed == 1
    gc.collect()


def test_a_follower_leaves_its_leader_open() -> None:
    """Closing a library closes neither the application nor its sink; the other way round it does."""
    sink = Closing()
    leader, library = Enforcer(lambda _request: True, audit=sink), Enforcer.unbound("library")
    library.bind(leader)
    library.close()
    assert (sink.closed, sink.records) == (0, [])
    with acting_as(ALICE):
        assert leader.check("edit", DOCUMENT).allowed
        assert library.check("edit", DOCUMENT).fault is Fault.INTERNAL
    other = Enforcer.unbound("other")
    other.bind(leader)
    leader.close()
    assert sink.closed == 1
    assert other.health() == {"name": "other", "state": "closed", "sites": 0}
    with acting_as(ALICE):
        assert other.check("edit", DOCUMENT).fault is Fault.INTERNAL
    other.close()


def test_an_unbound_enforcer_closes_in_silence() -> None:
    """There is nothing to record, and nowhere to."""
    enforcer = Enforcer.unbound("billing")
    enforcer.close()
    assert enforcer.health()["state"] == "closed"


def test_an_enforcer_is_a_context_manager_in_both_worlds() -> None:
    """Leaving the block closes it, whatever happened in it."""
    sink = Closing()
    with pytest.raises(KeyError), Enforcer(lambda _request: True, audit=sink) as enforcer:
        assert enforcer.health()["state"] == "bound"
        raise KeyError

    async def main() -> None:
        async with Enforcer(lambda _request: True, audit=sink) as enforcer:
            assert (await enforcer.ahealth())["state"] == "bound"

    asyncio.run(main())
    assert sink.closed == 2


# --- revoking -------------------------------------------------------------------------------------------


REVOCATIONS: Final = [
    ({"subject": ALICE}, ["subject", "user", "alice"]),
    ({"subject": "user"}, ["subject", "user"]),
    ({"resource": DOCUMENT}, ["resource", "document", "1"]),
    ({"action": "edit"}, ["action", "edit"]),
]


@worlds
@pytest.mark.parametrize(("what", "floor"), REVOCATIONS, ids=lambda value: str(value)[:24])
def test_a_revocation_is_recorded(world: str, what: dict[str, Any], floor: list[str]) -> None:
    """What was decided before is asked again, and the record names what was revoked."""
    scene = Scene(world, profile=Profile(permit_ttl=60))
    scene.edit()
    scene.do("invalidate", **what)
    scene.edit()
    assert len(scene.asked) == 2
    assert scene.of(Kind.INVALIDATION)[0]["floor"] == floor


@worlds
def test_everything_can_be_revoked(world: str) -> None:
    """By a name that says so; without arguments the other one refuses."""
    scene = Scene(world, profile=Profile(permit_ttl=60))
    scene.edit()
    scene.do("invalidate_all")
    scene.edit()
    assert len(scene.asked) == 2
    assert scene.of(Kind.INVALIDATION)[0]["floor"] == ["all"]
    with pytest.raises(ConfigurationError, match="invalidate_all"):
        scene.do("invalidate")


@worlds
def test_a_revocation_holds_though_its_record_is_lost(world: str) -> None:
    """Revoking comes first; what could not be told is owed."""
    scene = Scene(world, profile=Profile(permit_ttl=60), sink=FailingSink(2, once=True))
    scene.edit()
    scene.do("invalidate_all")
    scene.edit()
    assert len(scene.asked) == 2
    assert scene.kinds == ["decision", "gap", "decision"]


# --- how it is ------------------------------------------------------------------------------------------


def test_stats_count_from_the_start_to_the_end() -> None:
    """Records and cache reads, also once it is closed, and zeros before it is bound."""
    scene = Scene("sync", profile=Profile(permit_ttl=60))
    scene.edit(), scene.edit()
    expected = {
        "recorded": 2,
        "unrecorded": 0,
        "lost": 0,
        "unobserved": 0,
        "hits": 1,
        "misses": 1,
        "evictions": 0,
        "cached": 1,
    }
    told = scene.enforcer.stats()
    assert {**told, **expected} == told
    assert {name for name, count in told.items() if count} == {"recorded", "hits", "misses", "cached", "cached_bytes"}
    library = Enforcer.unbound("library")
    assert library.stats() == dict.fromkeys(told, 0)
    library.bind(scene.enforcer)
    assert library.stats() == told
    scene.enforcer.close()
    assert library.stats() == scene.enforcer.stats() == {**told, "recorded": 3}


def test_health_tells_who_answers_and_what_is_not_enforced() -> None:
    """State, sites, decision point, guarantee, shadows."""
    scene = Scene("sync", profile=SHADOW)
    health = scene.enforcer.health()
    assert (health["state"], health["sites"], health["guarantee"]) == ("bound", 2, Guarantee.DURABLE.value)
    assert health["not_enforced"][0]["mode"] == "shadow"
    assert asyncio.run(scene.enforcer.ahealth()) == health
    assert Enforcer.unbound("x").health() == {"name": "x", "state": "unbound", "sites": 0}


class Probed(ScriptedPDP):
    """A decision point that can be probed, and tells how it is."""

    def __init__(self) -> None:
        super().__init__([])
        self.probes = threading.Semaphore(0)
        self.told: Any = {"state": "closed"}

    def probe(self) -> None:
        self.probes.release()

    def health(self) -> Any:
        if isinstance(self.told, Exception):
            raise self.told
        return self.told


def test_health_tells_how_the_decision_point_fares() -> None:
    """What it says itself, and what its probes came to; what fails to say is told to."""
    pdp = Probed()
    enforcer = Enforcer(pdp, audit=MemorySink())
    assert "heartbeat" not in enforcer.health()
    first = enforcer.heartbeat(every=60, timeout=1)
    assert pdp.probes.acquire(timeout=10)
    second = enforcer.heartbeat(every=60, timeout=1)
    assert pdp.probes.acquire(timeout=10)
    assert first.health()["state"] == "closed"
    assert enforcer.health()["pdp_health"] == {"state": "closed"}
    assert enforcer.health()["heartbeat"]["fault"] is None
    pdp.told = ZeroDivisionError()
    assert enforcer.health()["pdp_health"] == {"state": "unknown", "error": "ZeroDivisionError"}
    enforcer.close()
    assert second.health()["state"] == "closed"
    with pytest.raises(DecisionUnavailable):
        enforcer.heartbeat()


def test_what_cannot_be_probed_has_no_heartbeat() -> None:
    """It is a mistake in the wiring, and said at once."""
    enforcer = Enforcer(ScriptedPDP([]), audit=MemorySink())
    with pytest.raises(ConfigurationError, match="probe"):
        enforcer.heartbeat()


# --- dropped --------------------------------------------------------------------------------------------


def test_a_question_nobody_awaited_is_recorded() -> None:
    """It warns, and leaves a record; of an enforcer that is closed or unbound there is none to leave."""
    scene = Scene("sync")
    closed = Scene("sync")
    closed.enforcer.close()
    for enforcer in (scene.enforcer, closed.enforcer, Enforcer.unbound("x")):
        with acting_as(ALICE), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            enforcer.aenforce("edit", DOCUMENT)
            gc.collect()
        assert len(caught) == 1
        assert "never awaited" in str(caught[0].message)
    assert (scene.last["status"], scene.last["action"], closed.kinds) == ("abandoned", "edit", ["close"])


def test_a_follower_s_dropped_question_is_in_its_leader_s_records() -> None:
    """A library's questions are the application's records."""
    sink = MemorySink()
    leader, library = Enforcer(lambda _request: True, audit=sink), Enforcer.unbound("library")
    library.bind(leader)
    with acting_as(ALICE), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library.aenforce("edit", DOCUMENT)
        gc.collect()
    assert [record["status"] for record in sink.records] == ["abandoned"]


def test_worlds_are_two() -> None:
    """What is closed in one world is closed in the other."""
    for first in WORLDS:
        scene = Scene(first)
        close(scene)
        scene.world = "async" if first == "sync" else "sync"
        with pytest.raises(AccessDenied):
            scene.do("enforce", "edit", DOCUMENT)
