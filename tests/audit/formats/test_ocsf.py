"""OCSF: its rules for API Activity, written down as a table, and what a record becomes."""

from __future__ import annotations

import json
from ast import literal_eval
from typing import Any

import pytest
from hypothesis import given, settings

from pep.audit.formats import to_line, to_ocsf
from pep.audit.formats.common import plain_object
from pep.audit.record import Kind
from pep.verdict import Outcome
from tests.audit.formats.records import leaves, records, sound
from tests.proving import times

STATUS = {0: "Unknown", 1: "Success", 2: "Failure"}
ACTION = {0: "Unknown", 1: "Allowed", 2: "Denied", 3: "Observed", 4: "Modified"}
DISPOSITION = {
    0: "Unknown", 1: "Allowed", 2: "Blocked", 15: "Detected", 16: "No Action", 17: "Logged", 26: "Unauthorized",
    27: "Error",
}  # fmt: skip
SEVERITY = {0: "Unknown", 1: "Informational", 2: "Low", 3: "Medium", 4: "High", 5: "Critical", 6: "Fatal"}
ACTIVITY = {1: "Create", 2: "Read", 3: "Update", 4: "Delete", 99: "Other"}

#: Object -> attribute -> its type, or the name of its object; `!` is required, `[]` an array. OCSF 1.8.0.
SCHEMA: dict[str, dict[str, Any]] = {
    "api_activity": {
        "activity_id!": int, "activity_name": str, "category_uid!": int, "category_name": str, "class_uid!": int,
        "class_name": str, "type_uid!": int, "type_name": str, "severity_id!": int, "severity": str, "time!": int,
        "message": str, "status_id": int, "status": str, "status_code": str, "status_detail": str, "action_id": int,
        "action": str, "disposition_id": int, "disposition": str, "is_alert": bool, "authorizations[]": "authorization",
        "actor!": "actor", "api!": "api", "src_endpoint!": "network_endpoint", "resources[]": "resource_details",
        "trace": "trace", "metadata!": "metadata", "unmapped": dict,
    },
    "metadata": {
        "version!": str, "product!": "product", "profiles[]": str, "event_code": str, "log_version": str,
        "original_time": str, "uid": str, "original_event_uid": str, "sequence": int, "tenant_uid": str,
        "correlation_uid": str,
    },
    "product": {"name": str, "vendor_name": str},
    "actor": {"app_name": str, "user": "user"},
    "user": {"uid": str, "type": str, "type_id": int},
    "api": {"operation!": str, "request": "request", "response": "response", "service": "service"},
    "request": {"uid!": str},
    "response": {"error": str},
    "service": {"name": str},
    "network_endpoint": {"svc_name": str},
    "resource_details": {"uid": str, "type": str, "role_id": int, "role": str},
    "authorization": {"decision": str, "policy": "policy"},
    "policy": {"uid": str, "version": str},
    "trace": {"uid!": str},
}  # fmt: skip

#: Object -> attributes of which it needs one.
AT_LEAST_ONE = {
    "actor": {"user", "app_name"},
    "user": {"name", "uid"},
    "product": {"name", "uid"},
    "service": {"name", "uid"},
    "network_endpoint": {"svc_name"},
    "resource_details": {"name", "uid"},
    "policy": {"name", "type", "uid"},
}

#: Id -> its sibling and their captions.
SIBLINGS = {
    "severity_id": ("severity", SEVERITY),
    "status_id": ("status", STATUS),
    "action_id": ("action", ACTION),
    "disposition_id": ("disposition", DISPOSITION),
}

#: Dispositions that conform to an action.
CONFORMING = {0: {16}, 1: {1}, 2: {2, 26, 27}, 3: {15, 17}}


def check(value: Any, kind: Any, where: str = "event") -> None:
    """Hold a value against the schema, with everything in it."""
    if not isinstance(kind, str):
        assert type(value) is kind, where
        assert value != "" or kind is not str, where
        return
    attributes = SCHEMA[kind]
    known = {name.rstrip("![]"): name for name in attributes}
    assert set(value) <= set(known), where
    assert {plain for plain, name in known.items() if name.endswith("!")} <= set(value), where
    assert kind not in AT_LEAST_ONE or AT_LEAST_ONE[kind] & set(value), where
    for name, item in value.items():
        array = known[name].endswith("[]")
        assert not array or (type(item) is list and item), where
        for one in item if array else [item]:
            check(one, attributes[known[name]], f"{where}.{name}")


def check_event(event: dict[str, Any]) -> None:
    """Hold an event against the schema, and the rules between its attributes."""
    check(event, "api_activity")
    assert (event["category_uid"], event["class_uid"]) == (6, 6003)
    assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
    assert event["type_name"] == f"API Activity: {ACTIVITY[event['activity_id']]}"
    assert event["activity_id"] == 99 or event["activity_name"] == ACTIVITY[event["activity_id"]]
    for name, (sibling, captions) in SIBLINGS.items():
        assert name not in event or event[sibling] == captions[event[name]]
    assert ("security_control" in event["metadata"].get("profiles", [])) == ("action_id" in event)
    assert ("trace" in event["metadata"].get("profiles", [])) == ("trace" in event)
    assert "action_id" not in event or event["disposition_id"] in CONFORMING[event["action_id"]]
    assert event["time"] >= 0
    assert event.get("actor", {}).get("user", {}).get("type_id", 0) in {0, 1, 3, 4, 99}


@settings(max_examples=times(150, 5000), deadline=None)
@given(records)
def test_every_record_becomes_an_event_of_the_class(record: dict[str, Any]) -> None:
    """Whatever is in a record, what comes out is an API Activity by the rules of OCSF."""
    event = to_ocsf(record)
    check_event(event)
    assert json.loads(to_line(event)) == event


@settings(max_examples=times(150, 5000), deadline=None)
@given(records)
def test_nothing_is_lost(record: dict[str, Any]) -> None:
    """What OCSF has no place for is in `unmapped`."""
    assert leaves(plain_object(record)) <= leaves(to_ocsf(record))


@settings(max_examples=times(100, 2000), deadline=None)
@given(sound)
def test_nothing_is_invented(record: dict[str, Any]) -> None:
    """Every text is from the record, or from the vocabulary of OCSF and this library."""
    event = to_ocsf(record)
    del event["message"]
    words = {*STATUS.values(), *ACTION.values(), *DISPOSITION.values(), *SEVERITY.values(), *ACTIVITY.values()}
    words |= {f"API Activity: {caption}" for caption in ACTIVITY.values()}
    words |= {"Application Activity", "API Activity", "1.8.0", "pep", "security_control", "trace", "unknown", "Target"}
    told = {literal_eval(text) for kind, text in leaves(event) - leaves(plain_object(record)) if kind == "str"}
    assert told <= words


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("kind", ["decision", "check"])
def test_what_a_verdict_does(kind: str, outcome: Outcome) -> None:
    """Action and disposition tell what was let through; a question lets nothing through, nor refuses it."""
    expected = {
        Outcome.PERMITTED: (1, 1, 1),
        Outcome.DENIED: (2, 26, 1),
        Outcome.CONFIRMATION_REQUIRED: (2, 2, 1),
        Outcome.STEP_UP_REQUIRED: (2, 2, 1),
        Outcome.RATE_LIMITED: (2, 2, 1),
        Outcome.UNAVAILABLE: (2, 27, 2),
        Outcome.FAILED_OPEN: (1, 1, 1),
        Outcome.SHADOWED: (3, 17, 1),
    }[outcome]
    event = to_ocsf({"kind": kind, "outcome": outcome.value})
    told = (event["action_id"], event["disposition_id"], event["status_id"])
    assert told == (expected if kind == "decision" else (3, 17, expected[2]))
    assert event["status_code"] == outcome.value
    assert event["is_alert"] == (outcome in {Outcome.UNAVAILABLE, Outcome.FAILED_OPEN})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"kind": "decision", "outcome": "shadowed", "would": "denied"}, (3, 15, 1)),
        ({"kind": "decision", "outcome": "shadowed", "would": "permitted"}, (3, 17, 1)),
        ({"kind": "decision", "outcome": "failed_open", "fault": "timeout"}, (1, 1, 2)),
        ({"kind": "decision", "status": "cancelled"}, (0, 16, 0)),
        ({"kind": "outcome", "status": "withheld"}, (2, 2, 2)),
        ({"kind": "outcome", "status": "completed"}, (None, None, 1)),
        ({"kind": "outcome", "status": "raised"}, (None, None, 2)),
        ({"kind": "outcome", "status": "cancelled"}, (None, None, 0)),
        ({"kind": "outcome", "status": 1}, (None, None, 0)),
        ({"kind": "gap", "lost": 3}, (None, None, 2)),
        ({"kind": "configuration", "error": "PolicyFileError"}, (None, None, 2)),
        ({"kind": "close"}, (None, None, 1)),
        ({"kind": "novel"}, (None, None, 0)),
    ],
)
def test_other_endings(fields: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """Status tells whether the enforcement point did its work, by the kind of record."""
    event = to_ocsf(fields)
    assert (event.get("action_id"), event.get("disposition_id"), event["status_id"]) == expected


def test_a_decision() -> None:
    """A decision's parts stand where OCSF has a place for them."""
    event = to_ocsf(
        {
            "schema": "pep.audit/1",
            "kind": "decision",
            "id": "0199a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b",
            "time": "2026-01-02T03:04:05.678901Z",
            "enforcer": "wiki",
            "subject": {"type": "service", "id": "robot", "properties": ["team"]},
            "action": "page:update",
            "resource": {"type": "page", "id": "home"},
            "requests": [{"resource": {"type": "page", "id": "home"}}, {"resource": {"type": "page", "id": "away"}}],
            "effect": "deny",
            "policies": ["a", "b"],
            "revision": "7",
            "outcome": "denied",
            "fault": "obligation",
            "trace": {"trace_id": "a" * 32, "span_id": "b" * 16},
            "seq": 9,
            "tenant": "acme",
            "correlation": "c-1",
        }
    )
    assert event == {
        "category_uid": 6,
        "category_name": "Application Activity",
        "class_uid": 6003,
        "class_name": "API Activity",
        "activity_id": 3,
        "activity_name": "Update",
        "type_uid": 600303,
        "type_name": "API Activity: Update",
        "severity_id": 3,
        "severity": "Medium",
        "time": 1767323045678,
        "message": "decision denied, service:robot, page:update, page:home, obligation",
        "status_id": 2,
        "status": "Failure",
        "status_code": "denied",
        "status_detail": "obligation",
        "action_id": 2,
        "action": "Denied",
        "disposition_id": 26,
        "disposition": "Unauthorized",
        "is_alert": False,
        "authorizations": [
            {"decision": "deny", "policy": {"uid": "a", "version": "7"}},
            {"decision": "deny", "policy": {"uid": "b", "version": "7"}},
        ],
        "actor": {"app_name": "wiki", "user": {"uid": "robot", "type": "service", "type_id": 4}},
        "api": {
            "operation": "page:update",
            "request": {"uid": "0199a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b"},
            "service": {"name": "wiki"},
        },
        "src_endpoint": {"svc_name": "wiki"},
        "resources": [
            {"uid": "home", "type": "page", "role_id": 1, "role": "Target"},
            {"uid": "away", "type": "page", "role_id": 1, "role": "Target"},
        ],
        "trace": {"uid": "a" * 32},
        "metadata": {
            "version": "1.8.0",
            "product": {"name": "pep", "vendor_name": "pep"},
            "profiles": ["security_control", "trace"],
            "event_code": "decision",
            "log_version": "pep.audit/1",
            "original_time": "2026-01-02T03:04:05.678901Z",
            "uid": "0199a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b",
            "original_event_uid": "0199a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b",
            "sequence": 9,
            "tenant_uid": "acme",
            "correlation_uid": "c-1",
        },
        "unmapped": {
            "subject": {"properties": ["team"]},
            "requests": [{"resource": {"type": "page", "id": "home"}}, {"resource": {"type": "page", "id": "away"}}],
            "trace": {"span_id": "b" * 16},
        },
    }


def test_an_outcome_and_its_decision_are_of_one_request() -> None:
    """What came of a call is found by the id of its decision."""
    decided = to_ocsf({"kind": "decision", "id": "d", "action": "read"})
    ended = to_ocsf({"kind": "outcome", "id": "o", "decision": "d", "action": "read", "error": "ValueError"})
    assert decided["api"]["request"] == ended["api"]["request"] == {"uid": "d"}
    assert ended["api"]["response"] == {"error": "ValueError"}


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind.value not in {"decision", "check", "outcome"}])
def test_what_the_enforcement_point_does_itself(kind: Kind) -> None:
    """Records that concern no call name what was done, and the application as who did it."""
    event = to_ocsf({"kind": kind.value, "enforcer": "wiki"})
    assert (event["activity_id"], event["activity_name"], event["api"]["operation"]) == (99, kind.value, kind.value)
    assert event["actor"] == {"app_name": "wiki"}


def test_a_resource_without_an_id_is_unmapped() -> None:
    """OCSF needs a uid or a name of a resource; a type is neither."""
    event = to_ocsf({"kind": "decision", "resource": {"type": "page"}})
    assert "resources" not in event
    assert event["unmapped"] == {"resource": {"type": "page"}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"id": "0199a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b"}, 0x0199A1B2C3D4),
        ({"id": "ffffffff-ffff-7e5f-8a6b-7c8d9e0f1a2b"}, 0),
        ({"id": "0199a1b2-c3d4-4e5f-8a6b-7c8d9e0f1a2b"}, 0),
        ({"time": "1969-12-31T23:59:59Z"}, 0),
        ({"time": "1970-01-01T01:00:00.5+01:00"}, 500),
        ({"time": "2026-02-30T00:00:00Z"}, 0),
    ],
)
def test_a_time_that_cannot_be_read(fields: dict[str, Any], expected: int) -> None:
    """A UUIDv7 tells when a record was made; where nothing does, the required time is 0."""
    assert to_ocsf(fields)["time"] == expected


@pytest.mark.parametrize("trace", ["0" * 32, "A" * 32, "a" * 31, "a" * 33, 7])
def test_an_invalid_trace_is_unmapped(trace: object) -> None:
    """W3C forbids ids that are all zeros, and any that are not lower-case hexadecimal digits."""
    event = to_ocsf({"trace": {"trace_id": trace}})
    assert "trace" not in event
    assert event["unmapped"] == {"trace": {"trace_id": trace}}
