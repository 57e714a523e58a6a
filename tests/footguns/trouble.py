"""Audits that fail, cancellation and re-entrancy."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

import pytest

from pep import (
    AccessDenied,
    Enforcer,
    FailOpen,
    Fault,
    Guarantee,
    Outcome,
    Profile,
    acting_as,
)
from pep.audit import MemorySink
from pep.testing import FakeHandler, FakeObserver, FakeProvider
from tests.footguns.traps import (
    DOC,
    PATHS,
    Trap,
    denied,
    each,
)
from tests.guard.rigs import ALICE, MALLORY, Rig, wait


def unrecorded(path: str) -> None:
    """The audit fails: the outcome changes, or is invented."""
    rig = Rig()
    rig.lost = True
    if path == "by_check":
        with acting_as(ALICE):
            assert rig.enforcer.check("read", DOC).outcome is Outcome.PERMITTED
    elif path == "by_filter":
        with acting_as(ALICE), denied(Fault.AUDIT):
            rig.enforcer.filter("read", [DOC])
    else:
        assert PATHS[path](rig) is Fault.AUDIT
    assert rig.ran == []
    assert rig.enforcer.stats()["unrecorded"] > 0


def unrecorded_denial() -> None:
    """A denial whose record fails becomes something else."""
    rig = Rig(False)
    rig.lost = True
    with acting_as(ALICE), denied():
        rig.enforcer.enforce("read", DOC)


def unrecorded_outcome() -> None:
    """A record that is lost after the code ran: forgotten."""
    rig = Rig(guarantee=Guarantee.DURABLE, profiles={"application:run": Profile(audit=Guarantee.DURABLE)})

    @rig.enforcer.guard("run")
    def run() -> str:
        rig.lost = True
        return "result"

    with acting_as(ALICE):
        assert run() == "result"
        with denied(Fault.AUDIT):
            run()
        rig.lost = False
        rig.enforcer.guard("run")(lambda: None)()
    assert rig.told() == ["permitted", "gap", "permitted", "completed"]


def an_observer_that_fails() -> None:
    """Telemetry that fails fails the call."""
    rig = Rig(telemetry=[FakeObserver(raises=RuntimeError("broken"))])
    with acting_as(ALICE):
        assert rig.enforcer.enforce("read", DOC).verdict.allowed
    assert rig.enforcer.stats()["unobserved"] == 1


def interrupts_go_on(where: str) -> None:
    """An interrupt in the audit or the decision is eaten."""
    rig = Rig()

    class Sink(MemorySink):
        def record(self, record: Any) -> None:
            if where == "sink":
                raise KeyboardInterrupt
            super().record(record)

    def decide(_request: object) -> bool:
        if where == "pdp":
            raise KeyboardInterrupt
        return True

    def run() -> None:
        rig.ran.append("ran")
        raise KeyboardInterrupt

    with acting_as(ALICE), pytest.raises(KeyboardInterrupt):
        Enforcer(decide, audit=Sink()).guard("read")(run)()
    assert rig.ran == (["ran"] if where == "code" else [])


def cancelled(where: str, told: list[Any], ran: list[str]) -> None:
    """Cancelled in the middle: half done, unrecorded, cached, or opened."""
    did: list[str] = []
    sink = MemorySink()
    inside = asyncio.Event()

    async def hang(here: str) -> None:
        if here == where:
            inside.set()
            await asyncio.Event().wait()

    class Sink:
        guarantee = MemorySink.guarantee

        async def record(self, record: Any) -> None:
            sink.record(record)
            await hang("sink")

    async def decide(_request: object) -> bool:
        await hang("pdp")
        return True

    opening = FailOpen(on={Fault.TIMEOUT, Fault.UNREACHABLE}, limit="9/minute")
    enforcer = Enforcer(decide, audit=Sink(), profiles={"application:run": Profile(on_failure=opening, permit_ttl=60)})

    @enforcer.guard("run")
    async def run() -> None:
        did.append("ran")
        await hang("code")

    async def main() -> None:
        with acting_as(ALICE):
            task = asyncio.ensure_future(run())
            await asyncio.wait({task, asyncio.ensure_future(inside.wait())}, return_when=asyncio.FIRST_COMPLETED)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            for _ in range(5):
                await asyncio.sleep(0)

    wait(main())
    assert did == ran
    assert [(record.kind.value, record.get("status")) for record in sink.records] == told
    assert enforcer.stats()["cached"] == (0 if where == "pdp" else 1)


def re_entered(part: str) -> None:
    """A provider or handler that calls a guarded function: recursion, deadlock, or the outer permit reused."""
    inner: list[Any] = []

    def call_in(_call: Any = None) -> Any:
        with acting_as(MALLORY):
            inner.append(inside())
        return _call if part == "handler" else {}

    handler = FakeHandler("note", does=call_in)
    provider = FakeProvider({"context.risk": 1})
    provider.provide = call_in  # type: ignore[method-assign]
    rig = Rig(obligations=[handler])
    inside = rig.enforcer.guard("inside")(lambda: "inner")
    outer = Rig(obligations=[handler], attributes=[provider] if part == "provider" else [])
    if part == "handler":
        outer.oblige("note")
    with acting_as(ALICE):
        assert outer.enforcer.guard("outside")(lambda: "outer")() == "outer"
    assert set(inner) == {"inner"}
    assert {request.subject for request in rig.asked} == {MALLORY}
    assert {request.subject for request in outer.asked} == {ALICE}


def endless(shape: str) -> None:
    """A guarded function that reaches itself through the enforcement: recursion without end."""
    rig = Rig()
    depth: list[int] = []

    def down() -> Any:
        depth.append(1)
        with acting_as(ALICE) if shape == "provider" else contextlib.nullcontext():
            return guarded()

    if shape == "code":
        guarded = rig.enforcer.guard("down")(down)
    else:
        rig.answer = lambda _request: down()
        guarded = rig.enforcer.guard("down", subject=ALICE)(lambda: None)
    with acting_as(ALICE), pytest.raises(AccessDenied):
        guarded()
    assert 0 < len(depth) <= 9


TRAPS: Final[dict[int, list[Trap]]] = {
    32: [
        Trap(unrecorded, each(*PATHS)),
        Trap(unrecorded_denial, {"denial": ()}),
        Trap(unrecorded_outcome, {"outcome": ()}),
        Trap(an_observer_that_fails, {"observer": ()}),
        Trap(interrupts_go_on, each("pdp", "sink", "code")),
    ],
    33: [
        Trap(
            cancelled,
            {
                "deciding": ("pdp", [("decision", "cancelled")], []),
                "recording": ("sink", [("decision", None), ("outcome", "cancelled")], []),
                "running": ("code", [("decision", None), ("outcome", "cancelled")], ["ran"]),
            },
        )
    ],
    34: [Trap(re_entered, each("provider", "handler")), Trap(endless, each("code", "pdp"))],
}
