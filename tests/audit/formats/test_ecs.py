"""ECS: its rules, written down as a table, and what a record becomes."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings

from pep.audit.formats import to_ecs, to_line
from pep.audit.formats.common import microseconds, plain_object
from pep.audit.record import Kind
from pep.verdict import Outcome
from tests.audit.formats.records import leaves, records, sound
from tests.proving import times

#: Field -> its type, or its allowed values; `[]` is an array. ECS 9.0.
FIELDS: dict[str, Any] = {
    "@timestamp": str,
    "ecs.version": {"9.0.0"},
    "message": str,
    "event.kind": {"event"},
    "event.category[]": {"api", "configuration"},
    "event.type[]": {"access", "admin", "allowed", "change", "denied", "end", "info", "start"},
    "event.outcome": {"success", "failure", "unknown"},
    "event.severity": int,
    "event.module": str,
    "event.dataset": str,
    "event.provider": str,
    "event.id": str,
    "event.code": str,
    "event.action": str,
    "event.reason": str,
    "event.sequence": int,
    "event.duration": int,
    "error.code": str,
    "error.type": str,
    "service.name": str,
    "organization.id": str,
    "rule.id": str,
    "rule.version": str,
    "trace.id": str,
    "span.id": str,
    "user.id": str,
    "related.user[]": str,
}

#: Category -> the types that are expected with it.
EXPECTED = {
    "api": {"access", "admin", "allowed", "change", "creation", "deletion", "denied", "end", "info", "start", "user"},
    "configuration": {"access", "change", "creation", "deletion", "info"},
}


def flat(document: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Name every field by its full, dotted name."""
    told: dict[str, Any] = {}
    for name, value in document.items():
        told |= flat(value, f"{above}{name}.") if isinstance(value, dict) else {above + name: value}
    return told


def check(document: dict[str, Any]) -> None:
    """Hold a document against the fields of ECS; what is in `pep` is the library's own."""
    fields = flat({name: value for name, value in document.items() if name != "pep"})
    known = {name.rstrip("[]"): name for name in FIELDS}
    assert set(fields) <= set(known)
    assert {"@timestamp", "ecs.version", "event.kind", "event.category", "event.type"} <= set(fields)
    for name, value in fields.items():
        rule, array = FIELDS[known[name]], known[name].endswith("[]")
        assert not array or (type(value) is list and value)
        for one in value if array else [value]:
            assert one in rule if isinstance(rule, set) else type(one) is rule
    assert set(fields["event.type"]) <= EXPECTED[fields["event.category"][0]]
    assert len(set(fields["event.type"])) == len(fields["event.type"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", fields["@timestamp"])
    assert fields.get("event.duration", 0) >= 0


@settings(max_examples=times(150, 5000), deadline=None)
@given(records)
def test_every_record_becomes_a_document(record: dict[str, Any]) -> None:
    """Whatever is in a record, what comes out are fields of ECS and the library's own."""
    document = to_ecs(record)
    check(document)
    assert json.loads(to_line(document)) == document


@settings(max_examples=times(150, 5000), deadline=None)
@given(records)
def test_nothing_is_lost(record: dict[str, Any]) -> None:
    """What ECS has no field for is in `pep`; a time that can be read is written in UTC."""
    told = plain_object(record)
    readable = microseconds(told) is not None
    lost = leaves(told) - leaves(to_ecs(record))
    assert lost <= ({("str", repr(told["time"]))} if readable else set())


@settings(max_examples=times(100, 2000), deadline=None)
@given(sound)
def test_nothing_is_invented(record: dict[str, Any]) -> None:
    """What is in `pep` is from the record, under its own name."""
    own = to_ecs(record).get("pep", {})
    assert leaves(own) <= leaves(plain_object(record))
    assert set(own) <= set(record)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_outcome_is_not_the_verdict(outcome: Outcome) -> None:
    """A denial is what the enforcement point is for; only a decision that was not had is a failure."""
    event = to_ecs({"kind": "decision", "outcome": outcome.value})["event"]
    allowed = outcome in {Outcome.PERMITTED, Outcome.FAILED_OPEN, Outcome.SHADOWED}
    assert event["type"] == ["access", "allowed" if allowed else "denied"]
    assert event["outcome"] == ("failure" if outcome is Outcome.UNAVAILABLE else "success")


@pytest.mark.parametrize(
    ("fields", "category", "types", "outcome"),
    [
        ({"kind": "check", "outcome": "denied"}, "api", ["info", "denied"], "success"),
        ({"kind": "decision", "outcome": "failed_open", "fault": "timeout"}, "api", ["access", "allowed"], "failure"),
        ({"kind": "decision", "status": "cancelled"}, "api", ["access"], "unknown"),
        ({"kind": "outcome", "status": "completed"}, "api", ["access", "end"], "success"),
        ({"kind": "outcome", "status": "withheld"}, "api", ["access", "end", "denied"], "failure"),
        ({"kind": "outcome", "status": "abandoned"}, "api", ["access", "end"], "unknown"),
        ({"kind": "invalidation"}, "api", ["admin", "change"], "success"),
        ({"kind": "configuration"}, "configuration", ["change"], "success"),
        ({"kind": "gap"}, "api", ["info"], "failure"),
        ({"kind": "open"}, "api", ["start"], "success"),
        ({"kind": "close"}, "api", ["end"], "success"),
        ({"kind": "novel"}, "api", ["info"], None),
    ],
)
def test_categories(fields: dict[str, Any], category: str, types: list[str], outcome: str | None) -> None:
    """Each kind has the category and the types that go together."""
    event = to_ecs(fields)["event"]
    assert (event["category"], event["type"], event.get("outcome")) == ([category], types, outcome)


@pytest.mark.parametrize(
    ("latency", "nanoseconds"),
    [(0.0015, 1_500_000), ({"total": 0.25, "pdp": 0.1}, 250_000_000), (0, 0), (-1, None), ("1", None), (True, None),
     ({"pdp": 1}, None), (2.0**40, None)],
)  # fmt: skip
def test_duration_is_in_nanoseconds(latency: object, nanoseconds: int | None) -> None:
    """The latency, or its total, becomes a duration; nonsense does not."""
    document = to_ecs({"kind": "decision", "latency": latency})
    assert document["event"].get("duration") == nanoseconds
    assert document["pep"] == {"latency": latency}


def test_a_decision() -> None:
    """A decision's parts stand where ECS has fields for them."""
    document = to_ecs(
        {
            "kind": "decision",
            "id": "d",
            "time": "2026-01-02T03:04:05.678901Z",
            "enforcer": "wiki",
            "subject": {"type": "user", "id": "ann"},
            "actors": [{"type": "agent", "id": "bot"}, {"type": "user", "id": "ann"}, 7],
            "action": "read",
            "policies": ["a"],
            "revision": "7",
            "reasons": ["not theirs"],
            "outcome": "unavailable",
            "fault": "timeout",
            "cause": "PDPTimeout",
            "trace": {"trace_id": "a" * 32, "span_id": "b" * 16},
            "seq": 9,
            "tenant": "acme",
        }
    )
    assert document == {
        "@timestamp": "2026-01-02T03:04:05.678901Z",
        "ecs": {"version": "9.0.0"},
        "message": "decision unavailable, user:ann, read, timeout",
        "event": {
            "kind": "event",
            "category": ["api"],
            "type": ["access", "denied"],
            "outcome": "failure",
            "severity": 8,
            "module": "pep",
            "dataset": "pep.audit",
            "provider": "pep",
            "id": "d",
            "code": "decision",
            "action": "read",
            "reason": "not theirs",
            "sequence": 9,
        },
        "error": {"code": "timeout", "type": "PDPTimeout"},
        "service": {"name": "wiki"},
        "organization": {"id": "acme"},
        "rule": {"id": "a", "version": "7"},
        "trace": {"id": "a" * 32},
        "span": {"id": "b" * 16},
        "user": {"id": "ann"},
        "related": {"user": ["ann", "bot"]},
        "pep": {
            "subject": {"type": "user", "id": "ann"},
            "actors": [{"type": "agent", "id": "bot"}, {"type": "user", "id": "ann"}, 7],
            "outcome": "unavailable",
        },
    }


def test_several_policies_are_no_rule() -> None:
    """A rule has one id; which of several it were, nobody knows."""
    document = to_ecs({"kind": "decision", "policies": ["a", "b"], "revision": "7", "reasons": ["x", "y"]})
    assert "rule" not in document
    assert "reason" not in document["event"]
    assert document["pep"] == {"policies": ["a", "b"], "revision": "7", "reasons": ["x", "y"]}


@pytest.mark.parametrize("kind", list(Kind))
def test_action_defaults_to_the_kind(kind: Kind) -> None:
    """What concerns no action is named by its kind."""
    assert to_ecs({"kind": kind.value})["event"]["action"] == kind.value
