"""The laws complain about what they forbid, and about nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from pep.audit import Kind, Record
from pep.frozen import FrozenDict
from pep.testing import Event, comparable, complaints
from pep.testing.laws import unended


def decision(name: str = "d", outcome: str = "permitted", **fields: Any) -> Event:
    told = {"outcome": outcome, "effect": "permit", **fields}
    return Event("acknowledged", Record(Kind.DECISION, name, 0.0, FrozenDict(told)))


def outcome(status: str, name: str = "d", *, ran: bool = False) -> Event:
    told = {"decision": name, "status": status, "ran": ran}
    return Event("acknowledged", Record(Kind.OUTCOME, f"outcome of {name}", 0.0, FrozenDict(told)))


RAN = Event("ran")
DELIVERED = Event("delivered")
OUTAGE = {"effect": None, "fault": "timeout"}
DENIED = {"outcome": "denied", "effect": "deny"}


@pytest.mark.parametrize(
    "timeline",
    [
        [],
        [decision(), RAN],
        [decision(), RAN, outcome("completed", ran=True)],
        [decision("a"), RAN, decision("b"), RAN],
        [decision("a"), decision("b"), RAN, RAN],
        [decision(**DENIED)],
        [decision(), outcome("withheld"), decision("e"), RAN],
        [decision(outcome="failed_open", **OUTAGE), RAN],
        [decision(effect="permit", fault="timeout", stale=True), RAN],
        [decision(outcome="failed_open", requests=[{"effect": "permit"}, {"fault": "timeout"}]), RAN],
        [decision(outcome="failed_open", would="denied", requests=[{"effect": "deny"}, {"fault": "timeout"}]), RAN],
        [decision(outcome="shadowed", effect="deny", would="denied"), RAN],
        [decision(), outcome("completed", ran=True), DELIVERED],
        [decision(asked=2, kept=[["document", "1"]], effect=None), Event("released", [("document", "1")])],
        [Event("acknowledged", Record(Kind.GAP, "g", 0.0, FrozenDict({"lost": 1}))), decision(), RAN],
        [decision(requests=[{"effect": "permit"}, {"effect": "permit"}]), RAN],
    ],
)
def test_a_lawful_timeline(timeline: list[Event]) -> None:
    """What has a permit on record, and earned it, is as it should be."""
    assert complaints(timeline) == []


@pytest.mark.parametrize(
    ("timeline", "complaint"),
    [
        ([RAN], "without a permit"),
        ([RAN, decision()], "without a permit"),
        ([decision(), RAN, RAN], "without a permit"),
        ([decision(**DENIED), RAN], "without a permit"),
        ([decision(), outcome("withheld"), RAN], "without a permit"),
        ([decision(), outcome("completed", ran=True), RAN], "without a permit"),
        ([DELIVERED], "delivered without a permit"),
        ([decision(), outcome("withheld", ran=True), DELIVERED], "delivered without a permit"),
        ([decision(asked=2, kept=[["document", "1"]]), Event("released", [("document", "2")])], "on no record"),
        ([decision(), RAN, outcome("cancelled", ran=False)], "did run"),
        ([decision(effect="indeterminate")], "permitted on"),
        ([decision(effect="deny")], "permitted on"),
        ([decision(effect=None)], "permitted on"),
        ([decision(fault="timeout")], "permitted on"),
        ([decision(requests=[{"effect": "permit"}, {"effect": "deny"}])], "permitted on"),
        ([decision(outcome="failed_open", effect="indeterminate")], "opened on"),
        ([decision(outcome="failed_open", effect=None, fault="malformed")], "opened on"),
        ([decision(outcome="failed_open", requests=[{"effect": "deny"}, {"fault": "timeout"}])], "opened on"),
        ([decision(outcome="failed_open", would="denied", effect="deny")], "opened on"),
        ([decision(outcome="shadowed", effect="deny")], "shadowed without"),
    ],
)
def test_an_unlawful_timeline(timeline: list[Event], complaint: str) -> None:
    """Each law is able to complain."""
    assert any(complaint in told for told in complaints(timeline))


def test_an_unknown_event_is_a_mistake() -> None:
    """A test that misspells an event is told so."""
    with pytest.raises(ValueError, match="`run`"):
        complaints([Event("run")])


def test_a_permit_must_come_to_an_end() -> None:
    """Of a call that was cut off, the use or the end of its permit is on record."""
    assert len(list(unended([decision()]))) == 1
    assert len(list(unended([decision(), Event("released", [])]))) == 1
    for end in (RAN, DELIVERED, outcome("cancelled")):
        assert list(unended([decision(), end])) == []
    assert list(unended([decision(**DENIED)])) == []


def test_records_compare_without_what_varies() -> None:
    """Ids become their order, times and latencies go; what is left tells two runs apart."""

    def run(first: str, second: str, time: float, status: str) -> list[dict[str, Any]]:
        told = FrozenDict({"outcome": "permitted", "latency": time})
        ended = FrozenDict({"decision": first, "status": status})
        return comparable([Record(Kind.DECISION, first, time, told), Record(Kind.OUTCOME, second, time, ended)])

    assert run("a", "b", 1.0, "raised") == run("c", "d", 2.0, "raised")
    assert run("a", "b", 1.0, "raised") != run("a", "b", 1.0, "cancelled")
    assert run("a", "b", 1.0, "raised")[1]["decision"] == "record 0"
