"""Intake: what a call demands is taken again, and compared."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pep import Action, Resource, Subject
from pep.extract import Registries, Requirement
from pep.fault import Fault
from pep.intake import Halt, Intake
from pep.plan import Plan, call
from pep.registry import Registry
from pep.scope import MAX_NESTING, Frame, Scope
from pep.testing import FakeClock, adrive, drive
from tests.scenes import ALICE

FOREVER = 1e9


class Source:
    """A source that returns what it is told to, or asks first."""

    asynchronous = False
    type = None
    parameters = ()

    def __init__(self, *found: Any) -> None:
        self.found = list(found)

    def read(self, arguments: Any, _frame: Frame) -> Plan[Any]:
        value = self.found.pop(0) if self.found else arguments["title"]
        if isinstance(value, Exception):
            raise value
        return Resource("document", value)
        yield


def intake(source: Source | None = None, depth: int = 1, **arguments: Any) -> Intake:
    registries = Registries(Registry(Subject, "__pep_subject__"), Registry(Resource, "__pep_resource__"))
    need = Requirement(Action("edit"), source or Source())
    return Intake([need], arguments or {"title": "1"}, Frame(Scope(ALICE), depth), registries)


def test_a_call_is_taken_once_and_compared_later() -> None:
    """The same arguments make the same requests; others do not."""
    taken = intake()
    assert [request.resource.id for request in drive(taken.take(FOREVER))] == ["1"]
    assert drive(taken.still({"title": "1"}, FOREVER, suspended=True))
    assert not drive(taken.still({"title": "2"}, FOREVER, suspended=True))
    assert drive(taken.still({"title": "2"}, FOREVER, suspended=False))


def test_a_call_that_can_no_longer_be_taken_is_another() -> None:
    """An extractor that fails the second time stands in the way."""
    taken = intake(Source("1", KeyError()))
    drive(taken.take(FOREVER))
    assert not drive(taken.still({"title": "1"}, FOREVER, suspended=True))


def test_a_change_is_told_and_remembered() -> None:
    """What obligations made of the arguments replaces what the caller gave."""
    taken = intake()
    drive(taken.take(FOREVER))
    assert not drive(taken.changed({"title": "1"}, FOREVER))
    assert drive(taken.changed({"title": "2"}, FOREVER))
    assert taken.requests[0].resource.id == "2"
    with pytest.raises(Halt) as caught:
        drive(taken.changed({"title": ""}, FOREVER))
    assert caught.value.fault is Fault.EXTRACTION


def test_a_call_nested_too_deep_is_not_taken() -> None:
    """Past the bound it is a fault of ours, not of extraction."""
    assert drive(intake(depth=MAX_NESTING).take(FOREVER))
    with pytest.raises(Halt) as caught:
        drive(intake(depth=MAX_NESTING + 1).take(FOREVER))
    assert (caught.value.fault, type(caught.value.cause)) == (Fault.INTERNAL, RecursionError)


def test_pinned_arguments_are_compared_whatever_requests_are_made_of() -> None:
    """A receiver is left out; anything else that changes, or can no longer be compared, is noticed."""
    rows: list[Any] = ["a"]
    taken = intake(title="1", rows=rows, self=object())
    drive(taken.take(FOREVER))
    taken.pin()
    assert drive(taken.still(taken.arguments, FOREVER, suspended=False))
    rows.append("b")
    assert not drive(taken.still(taken.arguments, FOREVER, suspended=False))
    rows[:] = [object()]
    assert not drive(taken.still(taken.arguments, FOREVER, suspended=False))
    with pytest.raises(Halt) as caught:
        taken.pin()
    assert caught.value.fault is Fault.EXTRACTION


def test_taking_again_forgets_pins() -> None:
    """A call that is decided again starts afresh."""
    rows: list[Any] = ["a"]
    taken = intake(title="1", rows=rows)
    drive(taken.take(FOREVER))
    taken.pin()
    rows.append("b")
    drive(taken.take(FOREVER))
    assert drive(taken.still(taken.arguments, FOREVER, suspended=True))


def test_an_extractor_that_must_be_awaited_is_bound_by_the_deadline() -> None:
    """Extraction is part of the total deadline."""

    class Slow(Source):
        def read(self, arguments: Any, frame: Frame) -> Plan[Any]:
            yield from call(asyncio.Event().wait)
            return (yield from super().read(arguments, frame))

    clock = FakeClock()
    with pytest.raises(Halt) as caught:
        asyncio.run(adrive(intake(Slow()).take(clock.monotonic() + 0.01), clock=clock))
    assert (caught.value.fault, type(caught.value.cause)) == (Fault.EXTRACTION, TimeoutError)


def test_an_extractor_s_plan_yields_steps_only() -> None:
    """What is no step is a fault of the call, not a crash."""

    class Careless(Source):
        def read(self, arguments: Any, frame: Frame) -> Plan[Any]:
            yield "no step"  # type: ignore[misc]

    with pytest.raises(Halt) as caught:
        drive(intake(Careless()).take(FOREVER))
    assert caught.value.fault is Fault.EXTRACTION
