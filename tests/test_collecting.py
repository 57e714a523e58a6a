"""Finalisers set no context variable where the collector may have interrupted one that is being set."""

from __future__ import annotations

import contextvars
import gc
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pep import Enforcer, Subject, acting_as
from pep.audit import Kind, MemorySink
from pep.collecting import COLLECTOR, aside
from pep.guard import generators
from pep.pdp import FunctionPDP

VARIABLE: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)


def test_the_collector_is_known_to_be_at_work() -> None:
    """Before Python 3.12, while it collects and at no other time."""
    seen: list[bool] = []

    class Noticing:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            seen.append(COLLECTOR.at_work)

    Noticing()
    gc.collect()
    assert seen == [sys.version_info < (3, 12)]
    assert COLLECTOR.at_work is False


@pytest.mark.parametrize("at_work", [True, False])
def test_what_is_set_aside_stays_there(at_work: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the collector is at work, another context is set; otherwise this one."""
    monkeypatch.setattr(COLLECTOR, "at_work", at_work)
    token = VARIABLE.set(1)
    assert aside(lambda value: VARIABLE.set(value) and VARIABLE.get(), 2) == 2
    assert VARIABLE.get() == (1 if at_work else 2)
    VARIABLE.reset(token)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the collector runs between instructions here")
@pytest.mark.parametrize("pure", [True, False])
def test_a_generator_that_is_collected_leaves_this_context_alone(pure: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropped in a cycle, a guarded generator is closed and recorded aside, by the hot path and by the plan alike."""
    sink, closed, framed = MemorySink(), [], generators.framed
    enforcer = Enforcer(FunctionPDP(lambda _request: True, name="p", pure=pure), audit=sink)

    def noticing(*parts: Any) -> Any:
        if COLLECTOR.at_work:
            closed.append(VARIABLE.set(7))
        return framed(*parts)

    @enforcer.guard("read", resource="document:{name}")
    def lines(name: str) -> Iterator[Any]:
        yield []

    monkeypatch.setattr(generators, "framed", noticing)
    with acting_as(Subject("user", "alice")):
        for _ in range(3):
            steps = lines("1")
            next(steps).append(steps)
            del steps
        gc.collect()
    assert (len(closed), VARIABLE.get()) == (3, 0)
    assert [record["status"] for record in sink.of(Kind.OUTCOME)] == ["cancelled"] * 3
