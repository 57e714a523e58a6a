"""The wiring: what an enforcer is made of, and what that says before a call is known."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Final

import attrs
import pytest

import pep.wiring
from pep import AccessRequest, Action, Canary, FailOpen, Fault, Profile, Resource, Shadow, Subject
from pep.assemble import assemble
from pep.core import Core
from pep.plain import need
from pep.testing import FakeClock
from pep.wiring import Wiring
from tests.scenes import ALICE, DOCUMENT, LATER, Strong

SECRET: Final = b"0123456789abcdef"
REQUEST: Final = AccessRequest(ALICE, "edit", DOCUMENT)


def wired(pdp: Any = lambda _request: True, **parts: Any) -> Wiring:
    return assemble(pdp, Strong(), "test", Core("test").registries, clock=FakeClock(), **parts)


class Batching:
    """A decision point that takes batches, on a thread."""

    threaded = True
    name = "batching"

    def decide(self, _request: Any) -> bool:
        return True

    def decide_many(self, requests: Any) -> list[bool]:
        return [True for _ in requests]


def test_what_a_decision_point_can_do_is_looked_at_once() -> None:
    """Also where the wiring is made anew with another one."""
    plain = wired()
    assert (plain.batches, plain.threaded) == (None, False)
    pdp = Batching()
    other = attrs.evolve(plain, pdp=pdp, pdp_name="batching")
    assert (other.batches, other.threaded) == (pdp, True)
    assert other.key(REQUEST) == other.key(REQUEST) != plain.key(REQUEST)
    assert attrs.evolve(other).key(REQUEST) == other.key(REQUEST)


PROFILES: Final = {
    "document:read": Profile(hidden=True),
    "*:edit": Profile(deadline=2),
    "billing:edit": Profile(deadline=3),
}


@pytest.mark.parametrize(
    ("action", "resource", "deadlines"),
    [
        ("edit", DOCUMENT, [2.0]),
        ("edit", Resource("billing", "1"), [3.0]),
        ("billing:edit", None, [3.0]),
        ("edit", object(), [3.0, 2.0, 1.0]),
        ("read", object(), [1.0, 1.0]),
        ("delete", object(), [1.0]),
    ],
)
def test_the_profiles_that_may_hold(action: str, resource: Any, deadlines: list[float]) -> None:
    """The one that does, where the resource's type is known; else every one whose pattern may match."""
    wiring = wired(profiles=PROFILES)
    for _again in range(2):
        assert [profile.deadline for profile in wiring.likely(need("test", action, resource))] == deadlines


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of actions may come from callers, and must not pile up."""
    monkeypatch.setattr(pep.wiring, "MAX_REMEMBERED", 2)
    wiring = wired(profiles=PROFILES)
    for action in ("read", "edit", "delete"):
        wiring.likely(need("test", action, object()))
    assert set(wiring._likely) == {"delete"}


def test_modes_shadow_for_a_while() -> None:
    """A shadow for everybody, a canary for those outside its fraction; nobody is never in a canary's shadow."""
    clock = FakeClock()
    wiring = attrs.evolve(wired(), clock=clock, secret=SECRET)
    canary = Profile(mode=Canary(0.5, until=LATER, reason="new"))
    subjects = [Subject("user", str(number)) for number in range(64)]
    shadowed = [wiring.shadowed(canary, one) for one in subjects]
    assert 0 < sum(shadowed) < 64
    assert not wiring.shadowed(canary, None)
    assert wiring.shadowed(Profile(mode=Shadow(until=LATER, reason="new")), None)
    assert not wiring.shadowed(Profile(), ALICE)
    clock.set_wall(LATER.timestamp())
    assert not any(wiring.shadowed(canary, one) for one in subjects)


def test_openings_are_counted_by_mode_and_shared_by_wirings() -> None:
    """Equal modes of two patterns have an allowance each; a wiring made from another shares them."""
    first, second = (FailOpen(on=[Fault.TIMEOUT], limit="1/minute") for _ in range(2))
    wiring = wired()
    assert wiring.opens([(first, REQUEST)])
    assert not attrs.evolve(wiring).opens([(first, REQUEST)])
    assert wiring.opens([(second, REQUEST)])
    assert wiring.opens([])


def test_nothing_revoked_is_opened() -> None:
    """One request that was revoked closes all of them, and takes nothing."""
    mode = FailOpen(on=[Fault.TIMEOUT], limit="1/minute")
    wiring = wired()
    wiring.generations.revoke(("subject", "agent"))
    other = AccessRequest(Subject("agent", "bot"), Action("edit"), DOCUMENT)
    assert not wiring.opens([(mode, REQUEST), (mode, other)])
    assert wiring.opens([(mode, REQUEST)])


def test_what_is_not_enforced_is_listed() -> None:
    """Pattern, mode, until when and why."""
    until = datetime(2030, 1, 1, tzinfo=timezone.utc)
    wiring = wired(
        secret=SECRET,
        profiles={
            "document:read": Profile(mode=Shadow(until=until, reason="new")),
            "document:edit": Profile(mode=Canary(0.5, until=until, reason="newer")),
        },
    )
    told = {entry["pattern"]: (entry["mode"], entry["until"], entry["reason"]) for entry in wiring.unenforced()}
    assert told == {
        "document:read": ("shadow", "2030-01-01T00:00:00+00:00", "new"),
        "document:edit": ("canary", "2030-01-01T00:00:00+00:00", "newer"),
    }
