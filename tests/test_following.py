"""Following policies: a swap drops what was decided by the old ones, and is recorded."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import weakref
from pathlib import Path
from typing import Any, Final

import pytest

from pep import AccessDenied, Decision, Effect, Enforcer, Profile, acting_as
from pep.audit import Kind, MemorySink
from pep.errors import ConfigurationError
from pep.policy.source import PolicySource
from pep.testing import FailingSink, FakeClock, FakeProvider
from tests.scenes import ALICE, DOCUMENT, Scene, Strong, worlds

CLOCK: Final = itertools.count(1)
KEPT: Final = Profile(permit_ttl=60)


class Policies:
    """A file of one rule, and the decision point that follows it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "policies.toml"
        self.write("permit", "1")
        self.source = PolicySource(self.path)

    def write(self, effect: str, revision: str | None, more: str = "") -> None:
        """Write the file, with a time of change of its own whatever the file system's resolution."""
        stated = "" if revision is None else f'revision = "{revision}"\n'
        self.path.write_text(f'{stated}[[{effect}]]\nid = "r"\n{more}')
        os.utime(self.path, ns=(0, next(CLOCK)))

    def swap(self, *args: Any) -> None:
        """Write and load."""
        self.write(*args)
        self.source.reload()


@pytest.fixture
def followed(tmp_path: Path) -> Policies:
    return Policies(tmp_path)


def told(scene: Scene) -> list[dict[str, Any]]:
    """What configuration records tell."""
    names = ("change", "old", "new", "kept", "error")
    return [{name: record[name] for name in names if name in record.fields} for record in scene.of(Kind.CONFIGURATION)]


@worlds
@pytest.mark.parametrize("revision", ["1", "2"], ids=["unchanged revision", "new revision"])
def test_a_swap_drops_what_was_decided(world: str, followed: Policies, revision: str) -> None:
    """Permits of the old policies are gone, though the new ones state the same revision; the record has both."""
    scene = Scene(world, pdp=followed.source, profile=KEPT)
    assert scene.edit().denial is None
    scene.edit()
    assert scene.last["cached"] is True
    followed.swap("deny", revision)
    assert told(scene) == [{"change": "policies", "old": "1", "new": revision}]
    assert scene.edit().told == ("denied", None)
    assert (scene.last["revision"], scene.last["cached"]) == (revision, False)
    assert scene.kinds == ["decision", "decision", "configuration", "decision"]


@worlds
def test_a_call_in_flight_is_asked_again(world: str, followed: Policies) -> None:
    """A permit that new policies overtake before it takes effect is withheld, and decided by them."""

    class Late(Strong):
        def record(self, record: Any) -> None:
            super().record(record)
            if len(self.records) == 1:
                followed.swap("deny", "1")

    scene = Scene(world, pdp=followed.source, sink=Late())
    assert scene.edit().told == ("denied", None)
    assert (scene.ran, scene.kinds) == ([], ["decision", "configuration", "outcome withheld", "decision"])


@worlds
def test_a_filter_in_flight_is_asked_again(world: str, followed: Policies) -> None:
    """Rows are those of the policies in effect when they are released."""

    class Late(Strong):
        def record(self, record: Any) -> None:
            super().record(record)
            if len(self.records) == 1:
                followed.swap("deny", "1")

    scene = Scene(world, pdp=followed.source, sink=Late())
    assert type(scene.do("row_filter", "edit", "document")).__name__ == "DenyAll"
    assert scene.kinds == ["decision", "configuration", "outcome withheld", "decision"]


@worlds
def test_a_set_that_does_not_load_changes_nothing(world: str, followed: Policies) -> None:
    """The old policies stay, their permits hold, and the rejection is recorded."""
    scene = Scene(world, pdp=followed.source, profile=KEPT)
    scene.edit()
    followed.path.write_text("[[permit]]\n")
    with pytest.raises(ConfigurationError):
        followed.source.reload()
    assert scene.edit().denial is None
    assert scene.last["cached"] is True
    assert told(scene) == [{"change": "policies rejected", "kept": "1", "error": "PolicyFileError"}]


def test_a_sink_that_must_be_awaited_takes_it_with_the_next_record(followed: Policies) -> None:
    """A swap is noticed on a thread without a loop; the record comes before the next decision."""

    class Awaited(Strong):
        async def record(self, record: Any) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            super().record(record)

    enforcer = Enforcer(followed.source, audit=(sink := Awaited()))
    followed.swap("permit", "2")
    assert sink.records == []

    async def main() -> None:
        with acting_as(ALICE):
            await enforcer.aenforce("edit", DOCUMENT)

    asyncio.run(main())
    assert [record.kind for record in sink.records] == [Kind.CONFIGURATION, Kind.DECISION]


def test_a_swap_that_cannot_be_recorded_closes_until_it_is(followed: Policies) -> None:
    """The new policies are in effect at once; no permit of theirs goes before the record of the swap."""
    scene = Scene("sync", pdp=followed.source, sink=FailingSink(1, once=True))
    followed.swap("permit", "2")
    assert (scene.kinds, followed.source.revision) == ([], "2")
    assert scene.edit().denial is None
    assert scene.kinds == ["configuration", "decision"]
    broken = Scene("sync", pdp=followed.source, sink=FailingSink(1))
    followed.swap("permit", "3")
    assert broken.edit().told == ("unavailable", "audit")
    assert (broken.ran, broken.kinds) == ([], [])


@worlds
def test_a_follower_sees_the_swap(world: str, followed: Policies) -> None:
    """A library behind an application's enforcer has the same policies, once, with one record."""
    scene = Scene(world, pdp=followed.source, profile=KEPT)
    library = Enforcer.unbound("library")
    library.bind(scene.enforcer)
    with acting_as(ALICE):
        assert library.check("edit", DOCUMENT).allowed
        library.enforce("edit", DOCUMENT)
        followed.swap("deny", "1")
        with pytest.raises(AccessDenied):
            library.enforce("edit", DOCUMENT)
    assert len(told(scene)) == 1


def test_every_enforcer_of_a_source_sees_the_swap(followed: Policies) -> None:
    """One source may serve several enforcers; each records the swap."""
    scenes = [Scene("sync", pdp=followed.source, profile=KEPT) for _ in range(2)]
    for scene in scenes:
        scene.edit()
    followed.swap("deny", "2")
    for scene in scenes:
        assert scene.edit().told == ("denied", None)
        assert len(told(scene)) == 1


def test_purity_follows_the_policies(followed: Policies) -> None:
    """What pure policies decided is reused by default; rules that read the clock are asked every time."""
    clock = FakeClock()
    scene = Scene("sync", pdp=followed.source, clock=clock)
    expected = []
    for more in ("", 'when = "now.after(0, skew=0)"\n', ""):
        followed.swap("permit", "1", more)
        scene.edit(), scene.edit()
        expected.append((scene.core.wiring().pure, scene.last["cached"]))
    assert expected == [(True, True), (False, False), (True, True)]


def test_answers_of_providers_are_asked_for_again(followed: Policies) -> None:
    """A swap drops everything that was known before it."""
    provider = FakeProvider({"subject.team": "red"}, ttl=60)
    scene = Scene("sync", pdp=followed.source, attributes=[provider])
    scene.edit(), scene.edit()
    assert len(provider.asked) == 1
    followed.swap("permit", "2")
    scene.edit()
    assert len(provider.asked) == 2


def test_a_closed_enforcer_follows_no_longer(followed: Policies) -> None:
    """Its last record stays the last."""
    scene = Scene("sync", pdp=followed.source)
    scene.enforcer.close()
    followed.swap("deny", "2")
    assert scene.kinds == ["close"]


def test_a_source_keeps_no_enforcer(followed: Policies) -> None:
    """Policies outlive the enforcers that followed them, and do not keep them."""
    enforcer = Enforcer(followed.source, audit=(sink := MemorySink()))
    gone = weakref.ref(enforcer._core)
    del enforcer
    gc.collect()
    assert gone() is None
    followed.swap("deny", "2")
    assert sink.records == []


def test_what_cannot_be_subscribed_to_is_left_alone() -> None:
    """Only something to call is called."""

    class Other:
        name, subscribe = "other", "yes"

        def decide(self, _request: Any) -> Decision:
            return Decision(Effect.PERMIT)

    assert Scene("sync", pdp=Other()).edit().denial is None
