"""Setups for fault injection: everything that bears on a call, but its entry point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import attrs

from pep import (
    AccessRequest,
    Canary,
    Decision,
    Effect,
    FailOpen,
    FailStale,
    Fault,
    Guarantee,
    Obligation,
    Profile,
    Shadow,
    Subject,
)
from pep.plan import Plan, call, sleep
from pep.protocols import Call, Phase, Rank
from pep.testing import FakeHandler

if TYPE_CHECKING:
    from tests.property.rigs import Rig

ALICE: Final = Subject("user", "alice")
AGENT: Final = Subject("agent", "bot")
LATER: Final = datetime(2040, 1, 1, tzinfo=timezone.utc)
AVAILABILITY: Final = (Fault.TIMEOUT, Fault.UNREACHABLE, Fault.OVERLOADED)


def permit(_rig: Rig, _request: AccessRequest) -> Any:
    return True


def deny(_rig: Rig, _request: AccessRequest) -> Any:
    return Decision(Effect.DENY, obligations=(Obligation("tell"),))


def mixed(_rig: Rig, request: AccessRequest) -> Any:
    return request.resource.id != "2"


def indeterminate(_rig: Rig, _request: AccessRequest) -> Any:
    return Decision(Effect.INDETERMINATE)


def broken(_rig: Rig, _request: AccessRequest) -> Any:
    raise ConnectionError


def broken_later(rig: Rig, _request: AccessRequest) -> Any:
    if rig.primed:
        raise ConnectionError
    return True


def revoked_once(rig: Rig, _request: AccessRequest) -> Any:
    if rig.answered == 1:
        rig.revoke()
    return True


def revoked_always(rig: Rig, _request: AccessRequest) -> Any:
    rig.revoke()
    return True


def owing(*types: str) -> Callable[[Rig, AccessRequest], Any]:
    return lambda _rig, _request: Decision(Effect.PERMIT, obligations=tuple(Obligation(kind) for kind in types))


def planned(rig: Rig, request: AccessRequest) -> Any:
    def plan() -> Plan[Any]:
        yield from sleep(0.01)
        return (yield from call(permit, rig, request))

    return plan()


def _redacted(seen: Call) -> Call:
    return seen.with_result(seen.result)


def _renamed(seen: Call) -> Call:
    return seen.with_arguments(title="changed") if "title" in seen.arguments else seen


def handlers() -> list[FakeHandler]:
    return [
        FakeHandler("look", rank=Rank.VERIFY),
        FakeHandler("rename", does=_renamed),
        FakeHandler("count", rank=Rank.COUNT),
        FakeHandler("redact", phase=Phase.AFTER, does=_redacted),
        FakeHandler("tell", phase=Phase.BEFORE | Phase.AFTER | Phase.ON_DENIAL),
        FakeHandler("break", raises=ValueError()),
    ]


@attrs.frozen(eq=False)
class Setup:
    """Everything that bears on a call, but its entry point."""

    name: str
    answer: Callable[[Rig, AccessRequest], Any] = permit
    profile: Profile = attrs.field(factory=Profile)
    providers: tuple[Mapping[str, Any], ...] = ()
    several: bool = False
    via: tuple[Subject, ...] = ()
    #: Whether the same call is made once before, with nothing going wrong.
    primes: bool = False
    batches: bool = False
    pure: bool = False
    threaded: bool = False
    plan_sink: bool = False
    #: Whether a record was lost before.
    owes: bool = False
    #: Whether there are obligations.
    owing: bool = False
    #: The entry points it makes sense for; None is all.
    entries: frozenset[str] | None = None


def _open(**options: Any) -> Profile:
    return Profile(on_failure=FailOpen(on=AVAILABILITY, limit="100/minute", **options))


_ROLES: Final = MappingProxyType({"subject.roles": ("editor",)})
_OWNER: Final = MappingProxyType({"resource.owner": "alice"})
SETUPS: Final = (
    Setup("plain"),
    Setup("denied", answer=deny, owing=True),
    Setup("mixed", answer=mixed),
    Setup("indeterminate", answer=indeterminate),
    Setup("one provider", providers=(_ROLES,)),
    Setup("two providers", providers=(_ROLES, _OWNER)),
    Setup("obligations before", answer=owing("look", "rename", "count"), owing=True),
    Setup("obligations after", answer=owing("redact", "tell"), owing=True),
    Setup("obligations around", answer=owing("count", "redact"), owing=True, profile=Profile(audit=Guarantee.DURABLE)),
    Setup("a broken obligation", answer=owing("look", "break", "count"), owing=True),
    Setup("an unknown obligation", answer=owing("unheard"), owing=True),
    Setup("several resources", several=True),
    Setup("several resources, mixed", several=True, answer=mixed),
    Setup("several resources in batches", several=True, batches=True),
    Setup("several, open", several=True, answer=broken, profile=_open()),
    Setup("actors", via=(AGENT,)),
    Setup("open", answer=broken, profile=_open()),
    Setup("open, with a compensation", answer=broken, profile=_open(obligations=[Obligation("tell")]), owing=True),
    Setup("open, unless it goes wrong", providers=(_ROLES,), profile=_open()),
    Setup("stale", answer=broken_later, primes=True, profile=Profile(on_failure=FailStale(60))),
    Setup("shadow", answer=deny, profile=Profile(mode=Shadow(until=LATER, reason="test"))),
    Setup("shadow of an outage", answer=broken, profile=Profile(mode=Shadow(until=LATER, reason="test"))),
    Setup("canary, enforced", answer=deny, profile=Profile(mode=Canary(0.999999, until=LATER, reason="test"))),
    Setup("canary, shadowed", answer=deny, profile=Profile(mode=Canary(0.000001, until=LATER, reason="test"))),
    Setup("cached", primes=True, pure=True, providers=(_ROLES,)),
    Setup("durable", profile=Profile(audit=Guarantee.DURABLE)),
    Setup("hidden", answer=deny, owing=True, profile=Profile(hidden=True)),
    Setup("pinned", profile=Profile(pin_arguments=True)),
    Setup("a gap owed", owes=True),
    Setup("revoked once", answer=revoked_once),
    Setup("revoked always", answer=revoked_always),
    Setup("a decision point that is a plan", answer=planned),
    Setup("a sink that is a plan", plan_sink=True, answer=owing("redact"), owing=True),
    Setup("a decision point on a thread", threaded=True, entries=frozenset({"guard"})),
    Setup("revalidated", profile=Profile(revalidate=0.5), entries=frozenset({"generator"})),
)
