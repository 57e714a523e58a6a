"""What records belong to: told where they are made, on the hot path too, and never in the way."""

from __future__ import annotations

from typing import Any, Final

import orjson
import pytest

from pep import Enforcer, Subject, acting_as
from pep.approvals import MemoryStore
from pep.audit import Correlation, Kind, Masking, MemorySink, Trace
from pep.audit.record import json_of
from pep.errors import ConfigurationError
from pep.pdp import FunctionPDP

ALICE: Final = Subject("user", "alice")
TRACE: Final = Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


def recorded(**parts: Any) -> tuple[Enforcer, MemorySink]:
    """Guard a call, and make it twice: by the plan, and as a hit."""
    sink = MemorySink()
    enforcer = Enforcer(FunctionPDP(lambda _request: True, name="p", pure=True), audit=sink, **parts)
    guarded = enforcer.guard("read", resource="document:{name}")(lambda name: name)
    with acting_as(ALICE):
        guarded("1"), guarded("1")
    return enforcer, sink


def test_every_record_tells_what_it_belongs_to() -> None:
    """Asked once for each record, when it is made."""
    ids = iter(range(9))
    enforcer, sink = recorded(correlation=lambda: Correlation(f"request-{next(ids)}", TRACE))
    lines = [orjson.loads(json_of(taken)) for taken in sink.take.__self__]  # type: ignore[attr-defined]
    assert [line["correlation"] for line in lines] == ["request-0", "request-1"]
    assert [record["correlation"] for record in sink.records] == ["request-0", "request-1"]
    assert {record["trace"]["trace_id"] for record in sink.records} == {TRACE.trace_id}
    enforcer.invalidate(subject=ALICE)
    assert sink.of(Kind.INVALIDATION)[0]["correlation"] == "request-2"


@pytest.mark.parametrize("failing", [True, False])
def test_nothing_to_tell_is_no_trouble(failing: bool) -> None:
    """Where there is none, or it fails, the record is as it was; a failure is counted."""
    enforcer, sink = recorded(correlation=(lambda: 1 / 0) if failing else lambda: None)
    assert [record.get("correlation") for record in sink.records] == [None, None]
    assert enforcer.stats()["uncorrelated"] == (2 if failing else 0)


def test_parts_that_are_none_are_refused() -> None:
    """A correlation is a function, masking a `Masking`."""
    for part in ({"correlation": Correlation("1")}, {"masking": {"document": ["title"]}}):
        with pytest.raises(ConfigurationError, match=f"`{next(iter(part))}` takes a"):
            recorded(**part)
    recorded(masking=Masking())


def test_approvals_are_recorded_where_the_enforcer_records() -> None:
    """Its desk writes into the same journal: who is nobody is on record."""
    enforcer, sink = recorded()
    desk = enforcer.approvals(MemoryStore(), authenticate=lambda _credentials: None)
    with pytest.raises(Exception, match="approv"):
        desk.approve("unknown", "somebody")
    assert sink.records[-1].kind is Kind.APPROVAL
