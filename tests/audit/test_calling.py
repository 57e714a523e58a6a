from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest

from pep import Enforcer, Guarantee, Resource, Subject
from pep.assemble import awaited_parts
from pep.audit import Kind, Record
from pep.audit.calling import CallableSink
from pep.errors import AccessDenied, AuditError, ConfigurationError
from pep.plan import Plan, call
from pep.testing import permit_all

WHO, WHAT = Subject("user", "alice"), Resource("page", "1")


def record(**fields: Any) -> Record:
    return Record(Kind.DECISION, "id", 1.0, fields)


def test_a_callable_is_given_the_records_dict() -> None:
    """It gets the whole record, as values that are its own to change."""
    told: list[dict[str, Any]] = []
    sink = CallableSink(told.append, guarantee=Guarantee.WRITTEN)
    given = record(subject={"type": "user"})
    sink.record(given)
    told[0]["subject"]["type"] = "changed"
    assert told[0].pop("subject") == {"type": "changed"}
    assert told[0] == {"schema": "pep.audit/1", "kind": "decision", "id": "id", "time": "1970-01-01T00:00:01.000000Z"}
    assert given["subject"] == {"type": "user"}
    assert sink.guarantee is Guarantee.WRITTEN
    assert not sink.asynchronous
    assert repr(sink) == "CallableSink(list.append, guarantee=Guarantee.WRITTEN)"


def test_a_permit_waits_for_the_callable() -> None:
    """What it raises refuses the call, in an enforcer as anywhere."""

    def full(_told: dict[str, Any]) -> None:
        raise OSError

    enforcer = Enforcer(permit_all(), audit=CallableSink(full, guarantee=Guarantee.DURABLE))
    with pytest.raises(AccessDenied):
        enforcer.enforce("read", WHAT, subject=WHO)


async def soon(told: dict[str, Any], kept: list[Any], answer: object = None) -> object:
    await asyncio.sleep(0)
    kept.append(told)
    return answer


def test_a_coroutine_function_serves_async_callers() -> None:
    """It is awaited; and an enforcer is told that it can only be."""
    kept: list[Any] = []
    sink = CallableSink(functools.partial(soon, kept=kept), guarantee=Guarantee.BUFFERED)
    enforcer = Enforcer(permit_all(), audit=sink)
    assert sink.asynchronous
    asyncio.run(enforcer.aenforce("read", WHAT, subject=WHO))
    assert [told["outcome"] for told in kept] == ["permitted"]
    assert list(awaited_parts(enforcer._core.wiring())) == ["CallableSink.record"]
    assert repr(sink) == "CallableSink(partial, guarantee=Guarantee.BUFFERED)"


def test_a_plan_is_run() -> None:
    """A callable may return a plan, as any extension point."""
    kept: list[Any] = []

    def planned(told: dict[str, Any]) -> Plan[None]:
        yield from call(kept.append, told)

    Enforcer(permit_all(), audit=CallableSink(planned, guarantee=Guarantee.BUFFERED)).enforce("a", WHAT, subject=WHO)
    assert len(kept) == 1


def test_an_answer_is_no_acknowledgement() -> None:
    """It returns nothing; what returns something might mean that it failed."""
    with pytest.raises(AuditError, match="must return None once the record is taken, not `bool`"):
        CallableSink(lambda _told: False, guarantee=Guarantee.BUFFERED).record(record())
    sink = CallableSink(functools.partial(soon, kept=[], answer=False), guarantee=Guarantee.BUFFERED)
    with pytest.raises(AuditError, match="not `bool`"):
        asyncio.run(sink.record(record()))


def test_closed_is_closed() -> None:
    """After `close` the callable is not called."""
    kept: list[Any] = []
    sink = CallableSink(kept.append, guarantee=Guarantee.BUFFERED)
    sink.close()
    with pytest.raises(AuditError, match="closed"):
        sink.record(record())
    assert kept == []


@pytest.mark.parametrize("fn", [None, "print", dict])
def test_what_cannot_be_called_is_refused(fn: Any) -> None:
    """A class is no function of a record: it would take it and keep it to itself."""
    with pytest.raises(ConfigurationError, match="needs a function"):
        CallableSink(fn, guarantee=Guarantee.BUFFERED)


def test_a_guarantee_is_stated() -> None:
    """Nobody but its author knows what a callable promises."""
    with pytest.raises(TypeError):
        CallableSink(print)  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="state what holds"):
        CallableSink(print, guarantee="written")  # type: ignore[arg-type]
