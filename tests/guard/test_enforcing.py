"""A block that runs only with a recorded permit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from pep import (
    AccessDenied,
    Decision,
    Effect,
    Enforcer,
    Fault,
    Obligation,
    Profile,
    Resource,
    acting_as,
    current_subject,
)
from pep.audit import MemorySink
from pep.errors import ConfigurationError, ObligationError
from pep.profile import Guarantee
from pep.protocols import Phase
from pep.testing import FakeHandler
from tests.guard.rigs import ALICE, MALLORY, Rig, wait

DOC = Resource("document", "42")
Body = Callable[[Any], Any]


@pytest.fixture(params=["with", "async with"])
def world(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(block: Any, body: Body, world: str) -> Any:
    """Run a body, given the grant, in a block of either world; the body may be awaited."""
    if world == "with":
        with block as grant:
            return body(grant)

    async def main() -> Any:
        async with block as grant:
            await asyncio.sleep(0)
            return body(grant)

    return wait(main())


def block(rig: Rig, **parts: Any) -> Any:
    return rig.enforcer.enforcing("edit", DOC, **parts)


def test_the_block_runs_with_a_recorded_permit(world: str) -> None:
    """Entering decides and records, then gives the grant."""
    rig = Rig()
    with acting_as(ALICE):
        assert run(block(rig), lambda grant: (rig.told(), grant.verdict.allowed), world) == (["permitted"], True)
    assert rig.told() == ["permitted"]


@pytest.mark.parametrize("answer", [False, None, ConnectionError()], ids=["denied", "malformed", "unreachable"])
def test_the_block_does_not_run_without(answer: object, world: str) -> None:
    """A denial is raised on entering; the body does not run."""
    rig = Rig(answer)
    with acting_as(ALICE), pytest.raises(AccessDenied):
        run(block(rig), rig.ran.append, world)
    assert rig.ran == []
    assert len(rig.records) == 1


def test_the_subject_is_who_acts_on_entering(world: str) -> None:
    """A block is decided for whoever acts where it is entered, not where it was made."""
    rig = Rig()
    with acting_as(ALICE):
        made = block(rig)
    with acting_as(MALLORY):
        assert run(made, lambda _grant: current_subject(), world) == MALLORY
    assert [request.subject for request in rig.asked] == [MALLORY]


@pytest.mark.parametrize(
    ("error", "status"), [(KeyError("x"), "raised"), (KeyboardInterrupt(), "cancelled"), (SystemExit(), "cancelled")]
)
def test_what_the_block_raises_is_recorded_and_goes_on(error: BaseException, status: str, world: str) -> None:
    """Nothing is suppressed; one record tells how the block ended."""
    rig = Rig()

    def body(_grant: object) -> None:
        raise error

    with acting_as(ALICE), pytest.raises(type(error)) as caught:
        run(block(rig), body, world)
    assert caught.value is error
    assert rig.told() == ["permitted", status]


def test_completion_is_recorded_where_the_guarantee_asks_for_it(world: str) -> None:
    """Under `DURABLE`, leaving the block says that it completed."""
    rig = Rig(guarantee=Guarantee.DURABLE, profiles={"document:edit": Profile(audit=Guarantee.DURABLE)})
    with acting_as(ALICE):
        run(block(rig), lambda _grant: None, world)
    assert rig.told() == ["permitted", "completed"]


# Obligations.


def obliged(phase: Phase, **does: Any) -> tuple[Rig, FakeHandler]:
    handler = FakeHandler("act", phase=phase, **does)
    rig = Rig(obligations=[handler])
    rig.oblige("act")
    return rig, handler


def release(grant: Any, value: object, world: str) -> Any:
    return grant.release(value) if world == "with" else grant.arelease(value)


async def arun(block: Any, body: Callable[[Any], Any]) -> Any:
    async with block as grant:
        return await body(grant)


def test_obligations_may_change_what_to_run_with(world: str) -> None:
    """Before-obligations act on `arguments=`; the grant has what to run with."""
    rig, _ = obliged(Phase.BEFORE, does=lambda call: call.with_arguments(size=5))
    with acting_as(ALICE):
        assert run(block(rig, arguments={"size": 9}), lambda grant: dict(grant.arguments), world) == {"size": 5}


def test_results_are_released_in_the_block(world: str) -> None:
    """After-obligations act in `release`, which gives what may be shown, once."""
    rig, _ = obliged(Phase.AFTER, does=lambda call: call.with_result("redacted"))
    with acting_as(ALICE):
        if world == "with":
            with block(rig) as grant:
                assert grant.release("secret") == "redacted"
                with pytest.raises(ObligationError, match="a result is released once, within its block"):
                    grant.release("secret")
        else:

            async def body(grant: Any) -> None:
                assert await grant.arelease("secret") == "redacted"
                with pytest.raises(ObligationError, match="a result is released once, within its block"):
                    await grant.arelease("secret")

            wait(arun(block(rig), body))
    assert rig.told() == ["permitted", "completed"]


def test_leaving_without_releasing_is_an_error(world: str) -> None:
    """Where obligations are due on the result, leaving without `release` raises, and is recorded as withheld."""
    rig, _ = obliged(Phase.AFTER)
    with (
        acting_as(ALICE),
        pytest.raises(ObligationError, match=r"the block was left without `grant\.release\(value\)`"),
    ):
        run(block(rig), lambda _grant: None, world)
    assert rig.told() == ["permitted", "withheld"]


def test_an_error_in_the_block_comes_before_the_missing_release(world: str) -> None:
    """What the body raised is not hidden by the complaint about `release`."""
    rig, _ = obliged(Phase.AFTER)

    def body(_grant: object) -> None:
        raise KeyError

    with acting_as(ALICE), pytest.raises(KeyError):
        run(block(rig), body, world)
    assert rig.told() == ["permitted", "raised"]


def test_a_result_that_cannot_be_released_is_withheld() -> None:
    """A failing after-obligation withholds the result, recorded once."""
    rig, _ = obliged(Phase.AFTER, raises=RuntimeError("broken"))
    with acting_as(ALICE), pytest.raises(AccessDenied) as caught, block(rig) as grant:
        grant.release("secret")
    assert (caught.value.fault, caught.value.ran) == (Fault.OBLIGATION, True)
    assert rig.told() == ["permitted", "withheld"]


@pytest.mark.parametrize("released", [False, True])
def test_nothing_is_released_outside_the_block(released: bool) -> None:
    """After the block its grant is worth nothing: neither released nor used."""
    rig = Rig()
    with acting_as(ALICE):
        with block(rig) as grant:
            if released:
                assert grant.release("value") == "value"
        with pytest.raises(ObligationError, match="a result is released once, within its block"):
            grant.release("value")
        with pytest.raises(AccessDenied):
            grant.use()


# Misuse.


def test_it_is_no_decorator() -> None:
    """Around an `async def` a block would be left before the body runs: it cannot decorate anything."""
    with pytest.raises(ConfigurationError, match="`enforcing` is a block, not a decorator; use `guard`"):

        @block(Rig())
        async def edit() -> None: ...


def test_a_block_is_entered_once(world: str) -> None:
    """Each block needs a decision of its own, also one that was denied."""
    for answer in (True, False):
        rig = Rig(answer)
        made = block(rig)
        with acting_as(ALICE):
            with contextlib.suppress(AccessDenied):
                run(made, lambda _grant: None, world)
            with pytest.raises(ConfigurationError, match="was entered already; make a new one for each block"):
                run(made, lambda _grant: None, world)


async def adecide(_request: object) -> Decision:
    return Decision(Effect.PERMIT, obligations=(Obligation("act"),))


def test_a_plain_block_over_an_awaited_part_is_refused() -> None:
    """`with` over what can only be awaited says so before anything is decided; `async with` works then."""
    sink = MemorySink()
    handler = FakeHandler("act", phase=Phase.BEFORE)
    made = Enforcer(adecide, audit=sink, obligations=[handler]).enforcing("edit", DOC)
    with acting_as(ALICE):
        with pytest.raises(ConfigurationError, match=r"can only be awaited; use `async with`"), made:
            pass
        assert sink.records == []
        run(made, lambda _grant: None, "async with")


def test_an_exit_without_an_entry_does_nothing() -> None:
    """`ExitStack` may close a block whose entry was denied."""
    block(Rig()).__exit__(None, None, None)


def test_a_cancelled_block_is_recorded() -> None:
    """Cancelled in its body, an asynchronous block is recorded before the task ends."""
    rig = Rig()

    async def main() -> None:
        async def work() -> None:
            async with block(rig):
                await asyncio.Event().wait()

        with acting_as(ALICE):
            task = asyncio.ensure_future(work())
            for _ in range(3):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    wait(main())
    assert rig.told() == ["permitted", "cancelled"]
