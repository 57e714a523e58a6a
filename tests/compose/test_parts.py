"""Parts: what a whole is because they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from pep import Decision, Effect, Enforcer, Profile, Resource, Subject
from pep.audit import MemorySink
from pep.compose import Algorithm, CanaryPDP, CombinedPDP, FailoverPDP, ResilientPDP, RoutingPDP, ShadowPDP
from pep.pdp import FunctionPDP

SILENT: Final = FunctionPDP(lambda _request: Decision(Effect.NOT_APPLICABLE), name="silent")


def canary(current: Any, candidate: Any) -> CanaryPDP:
    return CanaryPDP(current, candidate, fraction=0.5, secret=b"0123456789abcdef", max_denials=1, max_faults=1)


PROFILE: Final = Profile(permit_ttl=60.0, deadline=30.0)

#: Compositions in which a part, and no other, decides.
WHOLES: Final[dict[str, Callable[[Any], Any]]] = {
    "combined": lambda part: CombinedPDP(Algorithm.DENY_OVERRIDES, [SILENT, part]),
    "routing": lambda part: RoutingPDP(types={"doc": part}, default=SILENT),
    "failover": lambda part: FailoverPDP(part, SILENT),
    "canary": lambda part: canary(part, part),
    "shadow": lambda part: ShadowPDP(part, SILENT),
    "resilient": ResilientPDP,
    "all of them": lambda part: RoutingPDP(types={"doc": ShadowPDP(canary(part, part), SILENT)}, default=None),
}


class Store:
    """A decision point whose answers name the state of a store that they were given from."""

    name, consistent = "store", True

    def __init__(self) -> None:
        self.effect, self.token = Effect.PERMIT, "t0"

    def decide(self, _request: object) -> Decision:
        return Decision(self.effect, revision=self.token)


@pytest.mark.parametrize("whole", WHOLES)
def test_consistency_tokens_of_a_part_are_those_of_the_whole(whole: str) -> None:
    """What a part has moved on from is served to nobody, whatever it is a part of."""
    store = Store()
    enforcer = Enforcer(WHOLES[whole](store), audit=MemorySink(), profiles={"*:*": PROFILE})

    def permits(name: str) -> bool:
        return enforcer.check("read", Resource("doc", name), subject=Subject("user", "alice")).allowed

    assert [permits("1"), permits("1")] == [True, True]
    store.effect, store.token = Effect.DENY, "t1"
    # The answer about another one brings the news.
    assert [permits("2"), permits("1")] == [False, False]


def test_a_shadow_has_no_say_in_consistency() -> None:
    """Only what decides is reused; without tokens, nothing of the whole is one."""
    assert ShadowPDP(SILENT, Store()).consistent is False
    assert [WHOLES[whole](SILENT).consistent for whole in WHOLES] == [False] * len(WHOLES)
