"""Calls for handlers to discharge obligations of, in either world."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest

from pep.clock import SystemClock
from pep.decision import Decision, Effect
from pep.drive import APerformer, Performer, arun, run
from pep.errors import ObligationError
from pep.frozen import EMPTY, frozen_items
from pep.model import AccessRequest, Obligation, Resource, Subject
from pep.plan import Raised, attempt
from pep.protocols import Call

WORLDS: Final = ("sync", "async")
worlds: Final = pytest.mark.parametrize("world", WORLDS)

#: A value that no message may tell.
CANARY: Final = "c4n4ry"

ALICE: Final = Subject("user", "alice")
BOB: Final = Subject("user", "bob")
ACCOUNT: Final = Resource("account", "1")
NAN: Final = float("nan")


def call_of(
    subject: Subject = ALICE,
    *,
    action: str = "pay",
    resource: Resource = ACCOUNT,
    arguments: Mapping[str, Any] = EMPTY,
    **parts: Any,
) -> Call:
    return Call(AccessRequest(subject, action, resource, **parts), arguments)


def discharged(handler: Any, obligation: Obligation, call: Call, world: str = "sync", clock: Any = None) -> Any:
    """Discharge one obligation as the ledger does; return what came of it, or raise."""
    begin = worked(handler, obligation, call, world, clock)
    return begin() if world == "sync" else asyncio.run(begin())


def worked(handler: Any, obligation: Obligation, call: Call, world: str, clock: Any = None) -> Callable[[], Any]:
    """Return what discharges one obligation, in a loop that is there already where it has to be awaited."""
    now = clock or SystemClock()
    plan = attempt(handler.discharge, obligation, call, deadline=now.monotonic() + 10)

    def here() -> Any:
        return _raised(run(plan, Performer(now)))

    async def there() -> Any:
        return _raised(await arun(plan, APerformer(now)))

    return here if world == "sync" else there


def refused(handler: Any, obligation: Obligation, call: Call, world: str = "sync") -> str:
    """Discharge what has to fail; return what the failure said, which names the obligation and no value."""
    with pytest.raises(ObligationError) as failure:
        discharged(handler, obligation, call, world)
    message = str(failure.value)
    assert f"`{obligation.type}`" in message
    assert CANARY not in message
    return message


def forged(kind: str, properties: Mapping[str, Any]) -> Obligation:
    """Make an obligation with properties that no decision point could send, such as NaN."""
    obligation = Obligation(kind)
    object.__setattr__(obligation, "properties", frozen_items(properties))
    return obligation


def permit(*obligations: Obligation) -> Decision:
    return Decision(Effect.PERMIT, obligations=obligations)


def _raised(reply: Any) -> Any:
    if isinstance(reply, Raised):
        raise reply.error
    return reply.value
