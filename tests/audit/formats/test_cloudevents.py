"""CloudEvents: the rules for attributes, written down as a table, and what a record becomes."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings

from pep.audit.formats import to_cloudevents, to_line
from pep.audit.formats.common import plain_object
from pep.audit.record import Kind
from tests.audit.formats.records import records
from tests.proving import times

REFERENCE = r"/pep/(?:[A-Za-z0-9\-._~]|%[0-9A-F]{2})+"
RFC3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"

#: Attribute -> what it must look like; `!` is required. CloudEvents 1.0.2, and its extensions.
ATTRIBUTES = {
    "specversion!": r"1\.0",
    "id!": r".+",
    "source!": REFERENCE,
    "type!": r"pep\.audit\.[a-z]+",
    "subject": r".+",
    "time": RFC3339,
    "datacontenttype": r"application/json",
    "traceparent": r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}",
    "correlationid": r".+",
}


def is_allowed(char: str) -> bool:
    """Whether a character may be in an attribute: no control, no surrogate, no noncharacter."""
    code = ord(char)
    noncharacter = 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE
    return unicodedata.category(char) not in {"Cc", "Cs"} and not noncharacter


def check(event: dict[str, Any]) -> None:
    """Hold an event against the specification."""
    attributes = {name: value for name, value in event.items() if name != "data"}
    known = {name.rstrip("!"): name for name in ATTRIBUTES}
    assert set(attributes) <= set(known)
    assert {plain for plain, name in known.items() if name.endswith("!")} <= set(attributes)
    for name, value in attributes.items():
        assert re.fullmatch(r"[a-z][a-z0-9]{0,19}", name)
        assert type(value) is str
        assert re.fullmatch(ATTRIBUTES[known[name]], value)
        assert all(map(is_allowed, value))


@settings(max_examples=times(150, 5000), deadline=None)
@given(records)
def test_every_record_becomes_an_event(record: dict[str, Any]) -> None:
    """Whatever is in a record, what comes out is a CloudEvent that carries all of it."""
    event = to_cloudevents(record)
    check(event)
    assert event["data"] == plain_object(record)
    assert json.loads(to_line(event)) == event


@pytest.mark.parametrize("kind", list(Kind))
def test_type_names_the_kind(kind: Kind) -> None:
    """Every kind is a type of event."""
    assert to_cloudevents({"kind": kind.value})["type"] == f"pep.audit.{kind.value}"


def test_attributes() -> None:
    """Who wrote, when, about what and in which trace stands in the attributes, shown where it is invisible."""
    record = {
        "kind": "decision",
        "id": "d",
        "time": "2026-01-02T03:04:05.6+01:00",
        "enforcer": "a b/ü",
        "resource": {"type": "page", "id": "a\nb"},
        "trace": {"trace_id": "a" * 32, "span_id": "b" * 16},
        "correlation": "c\u202e",
    }
    assert to_cloudevents(record) == {
        "specversion": "1.0",
        "id": "d",
        "source": "/pep/a%20b%2F%C3%BC",
        "type": "pep.audit.decision",
        "subject": "page:a\\u000ab",
        "time": "2026-01-02T02:04:05.600000Z",
        "datacontenttype": "application/json",
        "traceparent": f"00-{'a' * 32}-{'b' * 16}-00",
        "correlationid": "c\\u202e",
        "data": record,
    }


def test_what_has_no_id_is_named_by_its_content() -> None:
    """The required id of a damaged record is a digest of it: the same for the same, another for another."""
    one, again, other = (to_cloudevents(record)["id"] for record in ({"kind": 1}, {"kind": 1}, {"kind": 2}))
    assert one.startswith("sha256:")
    assert one == again != other


@pytest.mark.parametrize("trace", [{"trace_id": "a" * 32}, {"span_id": "b" * 16}, {"trace_id": "a" * 32, "span_id": 0}])
def test_half_a_trace_is_no_traceparent(trace: dict[str, Any]) -> None:
    """W3C Trace Context needs both ids."""
    assert "traceparent" not in to_cloudevents({"trace": trace})
