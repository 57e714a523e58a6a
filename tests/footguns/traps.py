"""What a trap is, and what several of them need."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final

import attrs
import pytest

from pep import (
    AccessDenied,
    AccessRequest,
    Action,
    Fault,
    Resource,
    Subject,
    acting_as,
)
from tests.guard.rigs import ALICE, Rig, wait

DOC: Final = Resource("document", "42")


BY_ID: Final = "document:{document_id}"


@attrs.frozen
class Trap:
    """
    One trap.

    Args:
        check: What shows that it is closed; its docstring names the trap.

        cases: Name → arguments of *check*.
    """

    check: Callable[..., None]
    cases: Mapping[str, tuple[Any, ...]]


def each(*cases: Any) -> dict[str, tuple[Any, ...]]:
    """Cases of one argument each, named after it."""
    return {f"{number} {_named(case)}": (case,) for number, case in enumerate(cases)}


def _named(case: Any) -> str:
    shown = repr(case) if isinstance(case, (str, int, float, list, tuple, dict, type(None))) else type(case).__name__
    return str(getattr(case, "__name__", shown))


@contextlib.contextmanager
def denied(fault: Fault | None = None) -> Iterator[None]:
    """A block that ends in a denial, for this fault."""
    with pytest.raises(AccessDenied) as caught:
        yield
    assert caught.value.fault is fault


def read(document_id: str) -> str:
    return document_id


async def aread(document_id: str) -> str:
    return document_id


def gread(document_id: str) -> Iterator[str]:
    yield document_id


async def agread(document_id: str) -> AsyncIterator[str]:
    yield document_id


def kind_is_kept(fn: Any) -> None:
    """A synchronous wrapper around `async def`: `iscoroutinefunction` turns false, and the framework goes wrong."""
    looks = (
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
        asyncio.iscoroutinefunction,
    )
    for guarded in (Rig().enforcer.guard("read")(fn), Rig().enforcer.filter_result("read", side_effects=False)(fn)):
        assert [look(guarded) for look in looks] == [look(fn) for look in looks]


async def apermit(_request: object) -> bool:
    return True


class AsyncCall:
    async def __call__(self, _request: object) -> bool:
        return True


async def a_resource() -> Resource:
    return DOC


def by_guard(rig: Rig) -> Any:
    with acting_as(ALICE), pytest.raises(AccessDenied) as caught:
        rig.enforcer.guard("read")(lambda: rig.ran.append("ran"))()
    return caught.value.fault


def by_awaited_guard(rig: Rig) -> Any:
    @rig.enforcer.guard("read")
    async def run() -> None:
        rig.ran.append("ran")

    with acting_as(ALICE), pytest.raises(AccessDenied) as caught:
        wait(run())
    return caught.value.fault


def by_generator(rig: Rig) -> Any:
    @rig.enforcer.guard("read")
    def run() -> Iterator[None]:
        yield rig.ran.append("ran")

    with acting_as(ALICE), pytest.raises(AccessDenied) as caught:
        list(run())
    return caught.value.fault


def by_block(rig: Rig) -> Any:
    with acting_as(ALICE), pytest.raises(AccessDenied) as caught, rig.enforcer.enforcing("read", DOC):
        rig.ran.append("ran")
    return caught.value.fault


def by_enforce(rig: Rig) -> Any:
    with acting_as(ALICE), pytest.raises(AccessDenied) as caught:
        rig.enforcer.enforce("read", DOC)
    return caught.value.fault


def by_check(rig: Rig) -> Any:
    with acting_as(ALICE):
        verdict = rig.enforcer.check("read", DOC)
    assert verdict.allowed is False
    return verdict.fault


def by_filter(rig: Rig) -> Any:
    # A decision point that talks nonsense about an item withholds that item.
    with acting_as(ALICE):
        assert rig.enforcer.filter("read", [DOC]) == []
    return Fault.MALFORMED


def by_result(rig: Rig) -> Any:
    with acting_as(ALICE), pytest.raises(AccessDenied) as caught:
        rig.enforcer.guard_result("read", side_effects=False)(lambda: DOC)()
    return caught.value.fault


#: Ways to ask, each of which returns the fault it was denied for.
PATHS: Final = {
    path.__name__: path
    for path in (by_guard, by_awaited_guard, by_generator, by_block, by_enforce, by_check, by_filter, by_result)
}


def _for(name: str) -> AccessRequest:
    return AccessRequest(Subject("user", name), Action("read"), DOC)
