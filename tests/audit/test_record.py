from __future__ import annotations

import json
import time
import unicodedata
import uuid
from typing import Any

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.audit.record import (
    SCHEMA,
    Kind,
    Record,
    decision_fields,
    duty_fields,
    entity,
    masked,
    new_id,
    request_fields,
)
from pep.frozen import FrozenDict
from pep.model import AccessRequest, Action, Decision, Effect, Obligation, Resource, Subject
from pep.verdict import Discharge, Status
from tests.values import requests, texts

#: What must never stand raw in a line: controls, invisible and bidirectional characters, other separators of lines.
HOSTILE = [
    "\x00", "\x07", "\x08", "\t", "\n", "\x0b", "\x0c", "\r", "\x1b", "\x1b[31m", "\x7f", "\x80", "\x85",
    "\x9b", "\xad", "\u061c", "\u180e", "\u200b", "\u200d", "\u200e", "\u200f", "\u2028", "\u2029", "\u202a", "\u202e",
    "\u2060", "\u2066", "\u2069", "\ufeff", "\ufff9", "\ufffb", "\U000e0041", "\U000e007f", "\U0001d173", "\ue000",
    "\U00100000",
]  # fmt: skip


def record(fields: dict[str, Any] | None = None, kind: Kind = Kind.DECISION) -> Record:
    return Record(kind, "0190-id", 1_700_000_000.25, masked(fields or {}))


def raw_dangers(line: bytes) -> list[str]:
    """Every character of a line that could break it, hide in it or steer a terminal."""
    return [char for char in line.decode() if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}]


anything = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(HOSTILE) | texts
hostile_fields = st.dictionaries(
    anything, anything | st.lists(anything, max_size=3) | st.dictionaries(anything, anything, max_size=2), max_size=4
)


@given(hostile_fields)
def test_a_record_is_one_line_of_json(fields: dict[str, Any]) -> None:
    """Whatever is in a record, it is one physical line of valid JSON that says exactly that."""
    line = record(fields).to_json()
    assert raw_dangers(line) == []
    assert line.splitlines() == [line]
    assert line.decode().splitlines() == [line.decode()]
    expected = {**fields, "schema": SCHEMA, "kind": "decision", "id": "0190-id", "time": "2023-11-14T22:13:20.250000Z"}
    assert json.loads(line) == orjson.loads(line) == expected


@pytest.mark.parametrize("char", HOSTILE, ids=ascii)
def test_each_hostile_character_is_escaped(char: str) -> None:
    """No control, bidirectional, invisible or line-breaking character is ever raw, wherever it came from."""
    subject = Subject(f"u{char}", f"a{char}b", {f"p{char}": 1})
    request = AccessRequest(subject, Action(f"r{char}"), Resource(f"d{char}", char), {char: 1}, tenant=f"{char}t")
    decision = Decision(Effect.DENY, reasons=[f"because {char}"], policies=[char], revision=char, id=char)
    line = record({**request_fields(request), **decision_fields(decision), "x": {char: [char]}}).to_json()
    assert raw_dangers(line) == []
    told = json.loads(line)
    assert told["subject"] == {"type": f"u{char}", "id": f"a{char}b", "properties": [f"p{char}"]}
    assert told["reasons"] == [f"because {char}"]
    assert told["tenant"] == f"{char}t"


def test_plain_letters_stay_readable() -> None:
    """Letters of any script are not escaped; an astral character survives either way."""
    line = record({"a": "Grüße 漢字 😀", "b": "x\u202ey 😀"}).to_json().decode()
    assert "Grüße 漢字 😀" in line
    assert "x\\u202ey 😀" in line


def test_lone_surrogates_never_stop_a_record() -> None:
    """A name that cannot be encoded is told with its surrogates replaced: a record is written all the same."""
    told = json.loads(record({"a": "x\ud800", "b": [{"c": "\udfff"}]}).to_json())
    assert (told["a"], told["b"]) == ("x?", [{"c": "?"}])


@given(requests)
def test_property_values_are_never_recorded(request: AccessRequest) -> None:
    """Types, ids and names are told; the values of properties and context are not, at any depth."""
    canaries = ["canary-text", 7_318_008_577, -1234.56789]
    content = {"name": canaries, "nested": {"canary-key": canaries}}
    laced = request.evolve(
        subject=Subject(request.subject.type, request.subject.id, content),
        action=Action(request.action.name, content),
        resource=Resource(request.resource.type, "42", content),
        context=content,
        actors=[Subject("agent", "a1", content)],
    )
    line = record(request_fields(laced)).to_json().decode()
    for canary in ("canary", "7318008577", "1234.56789"):
        assert canary not in line
    assert json.loads(line)["context"] == ["name", "nested"]


def test_what_a_request_tells() -> None:
    """A request is told by types, ids and sorted names; what is not there is left out."""
    subject = Subject("user", "alice", {"b": 1, "a": 2})
    request = AccessRequest(
        subject, Action("read", {"x": 1}), Resource.new("document"), {"ip": 1}, [Subject("agent", "1")], "t"
    )
    assert request_fields(request) == {
        "subject": {"type": "user", "id": "alice", "properties": ["a", "b"]},
        "action": "read",
        "resource": {"type": "document"},
        "action_properties": ["x"],
        "context": ["ip"],
        "actors": [{"type": "agent", "id": "1"}],
        "tenant": "t",
    }
    plain = AccessRequest(Subject("user", "alice"), "read", Resource("document", "1"))
    assert request_fields(plain) == {
        "subject": {"type": "user", "id": "alice"},
        "action": "read",
        "resource": {"type": "document", "id": "1"},
    }
    assert entity(Resource("document", "1", {"a": 1})) == {"type": "document", "id": "1", "properties": ["a"]}


def test_what_a_decision_tells() -> None:
    """A decision is told by effect, policies, reasons and revision; obligations by kind and id, never by content."""
    decision = Decision(
        Effect.PERMIT, [Obligation("log")], [Obligation("hint", {"text": "canary"})], ["why"], ["p1"], "r1", 30, "d1"
    )
    assert decision_fields(decision) == {
        "effect": "permit",
        "policies": ["p1"],
        "reasons": ["why"],
        "revision": "r1",
        "pdp_decision": "d1",
        "advice": ["hint"],
    }
    assert decision_fields(Decision(Effect.NOT_APPLICABLE)) == {"effect": "not_applicable"}
    ledger = [
        Discharge(Obligation("redact", {"fields": ["canary"]}, "o1"), Status.DISCHARGED),
        Discharge(Obligation("log"), Status.NOT_REACHED),
    ]
    assert duty_fields(ledger) == [
        {"type": "redact", "id": "o1", "status": "discharged"},
        {"type": "log", "status": "not_reached"},
    ]


def test_a_record_does_not_change() -> None:
    """What was told is told: neither the record nor what it was made of can change it afterwards."""
    content = {"requests": [{"effect": "deny"}], "gone": None}
    made = record(content)
    before = made.to_json()
    content["requests"][0]["effect"] = "permit"  # type: ignore[index]
    made.to_dict()["requests"].append("x")
    assert made.to_json() == before
    assert type(made.fields["requests"][0]) is FrozenDict
    with pytest.raises(TypeError):
        made.fields["outcome"] = "permitted"  # type: ignore[index]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.kind = Kind.CHECK  # type: ignore[misc]


def test_reading_a_record() -> None:
    """A record reads like its JSON; names it does not have are absent."""
    made = record({"outcome": "denied", "kept": [("document", "1")], "none": None})
    assert (made["outcome"], made.outcome, made["kind"], made["schema"]) == (
        "denied",
        "denied",
        "decision",
        "pep.audit/1",
    )
    assert made["kept"] == [["document", "1"]]
    assert made.get("none") is None
    assert made.get("missing", 7) == 7
    assert record().outcome is None
    with pytest.raises(KeyError):
        _ = made["missing"]


def test_no_field_overrides_what_every_record_has() -> None:
    """Schema, kind, id and time are the record's own, and come first."""
    made = record({"kind": "forged", "id": "forged", "schema": "forged", "time": "forged", "entry": "guard"})
    assert list(made.to_dict()) == ["schema", "kind", "id", "time", "entry"]
    assert "forged" not in made.to_json().decode()


@given(st.floats(0, 2**38))
def test_ids_are_version_7_uuids(now: float) -> None:
    """An id is a well-formed UUIDv7 of its moment (RFC 9562 §5.7)."""
    text = new_id(now)
    parsed = uuid.UUID(text)
    assert (str(parsed), parsed.version, parsed.variant) == (text, 7, uuid.RFC_4122)
    assert parsed.int >> 80 == int(now * 1000)


def test_ids_differ_and_sort_by_time() -> None:
    """No two ids are alike, and a later one sorts after an earlier one."""
    ids = [new_id(now) for now in (0.001, 1.0, 1.001, time.time(), 4e9) for _ in range(200)]
    assert len(set(ids)) == len(ids)
    stamps = [text[:13] for text in ids]
    assert stamps == sorted(stamps)


@pytest.mark.parametrize("bit", [*range(48, 52), 64, 65])
def test_only_version_and_variant_are_fixed(bit: int) -> None:
    """Every other bit of the random part is random."""
    seen = {uuid.UUID(new_id(1.0)).int >> (127 - at) & 1 for _ in range(50) for at in (bit,)}
    assert len(seen) == 1
    free = [at for at in range(52, 128) if at not in {64, 65}]
    values = [uuid.UUID(new_id(1.0)).int for _ in range(64)]
    assert all(len({value >> (127 - at) & 1 for value in values}) == 2 for at in free)


@pytest.mark.parametrize("value", [True, 1, 1.5, "é", [None, 1, True], [["document", None]], {"a": {"b": [None]}}])
def test_what_is_json_is_recorded_as_it_is(value: Any) -> None:
    """Every kind of JSON value is told as it was, at every depth; only a field that is nothing is left out."""
    record = Record(Kind.DECISION, new_id(1.0), 1.0, masked({"value": value, "absent": None}))
    assert record["value"] == value
    assert type(record["value"]) is type(value)
    assert "absent" not in record.to_dict()
