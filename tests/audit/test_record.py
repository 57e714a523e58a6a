from __future__ import annotations

import json
import pickle
import unicodedata
from typing import Any

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.audit.masking import Masking
from pep.audit.record import (
    SCHEMA,
    Kind,
    Record,
    decision_fields,
    duty_fields,
    json_of,
    masked,
    new_id,
    record_of,
)
from pep.frozen import FrozenDict
from pep.model import AccessRequest, Action, Decision, Effect, Obligation, Resource, Subject
from pep.verdict import Discharge, Status
from tests.values import texts

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
    line = record({**Masking().request(request), **decision_fields(decision), "x": {char: [char]}}).to_json()
    assert raw_dangers(line) == []
    told = json.loads(line)
    assert told["subject"] == {"type": f"u{char}", "id": f"a{char}b", "omitted": [f"p{char}"]}
    assert told["reasons"] == [f"because {char}"]
    assert told["tenant"] == f"{char}t"


def test_plain_letters_stay_readable() -> None:
    """Letters of any script are not escaped; an astral character survives either way."""
    line = record({"a": "Grüße 漢字 😀", "b": "x\u202ey 😀"}).to_json().decode()
    assert "Grüße 漢字 😀" in line
    assert "x\\u202ey 😀" in line


def test_lone_surrogates_never_stop_a_record() -> None:
    """Text that cannot be encoded is told, and marked: a record is written all the same."""
    told = json.loads(record({"a": "x\ud800", "b": [{"c": "\udfff"}], "\ud801": 1}).to_json())
    assert (told["a"], told["b"]) == ({"$text": "x\\ud800"}, [{"c": {"$text": "\\udfff"}}])
    assert "\ud801" not in told


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


@pytest.mark.parametrize("value", [True, 1, 1.5, "é", [None, 1, True], [["document", None]], {"a": {"b": [None]}}])
def test_what_is_json_is_recorded_as_it_is(value: Any) -> None:
    """Every kind of JSON value is told as it was, at every depth; only a field that is nothing is left out."""
    record = Record(Kind.DECISION, new_id(1.0), 1.0, masked({"value": value, "absent": None}))
    assert record["value"] == value
    assert type(record["value"]) is type(value)
    assert "absent" not in record.to_dict()


class Lively:
    """An object whose every method of its own tells on who calls it."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def _tell(self, *_args: Any) -> Any:
        self.called.append("called")
        raise ValueError

    __repr__ = __str__ = __iter__ = __eq__ = __hash__ = __bool__ = __len__ = __float__ = __index__ = _tell  # type: ignore[assignment]


def test_whatever_a_field_is_the_record_is_written() -> None:
    """What JSON has no value for is marked, and costs neither the record nor another field."""
    odd, deep = Lively(), []  # type: ignore[var-annotated]
    for _ in range(10_000):
        deep = [deep]
    fields = {"nan": float("nan"), "big": 2**64, "odd": odd, "deep": deep, "outcome": "denied"}
    made = record(fields)
    told = json.loads(made.to_json())
    assert told["nan"] == {"$float": "nan"}
    assert told["big"] == {"$int": "0x10000000000000000"}
    assert told["odd"] == {"$unrepresentable": "object", "$class": "Lively"}
    assert b'{"$unrepresentable":"depth"}' in made.to_json()
    assert (told["outcome"], odd.called) == ("denied", [])


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (float("nan"), {"$float": "nan"}),
        (-float("inf"), {"$float": "-inf"}),
        (2**64, {"$int": "0x10000000000000000"}),
        ("\udc00", {"$text": "\\udc00"}),
        (b"x", {"$bytes": "eA=="}),
        ("x" * 70_000, {"$truncated": "x" * 65_536, "$length": 70_000}),
        ([None], [None]),
    ],
)
def test_what_is_told_late_is_told_as_safely(value: Any, told: Any) -> None:
    """A field that comes from a function is marked as one that was given, in the JSON and in the fields."""
    made, again = (Record(Kind.DECISION, "i", 1.0, lambda: {"odd": value, "none": None}) for _ in range(2))
    assert json.loads(made.to_json())["odd"] == told
    assert made.to_dict() == again.to_dict() == json.loads(again.to_json())
    assert "none" not in made.to_dict()


def test_a_record_is_told_once() -> None:
    """What tells a record is asked once, whoever reads it first, and however often."""
    for read in (Record.to_json, Record.to_dict, lambda made: made.outcome, lambda made: made.fields):
        asked: list[dict[str, Any]] = []

        def telling(asked: list[dict[str, Any]] = asked) -> dict[str, Any]:
            asked.append({"outcome": "denied", "n": len(asked)})
            return asked[-1]

        made = Record(Kind.CHECK, "i", 1.0, telling)
        read(made)  # type: ignore[no-untyped-call]
        asked[0]["n"] = 7
        assert (made["n"], made.outcome, json.loads(made.to_json())["n"], len(asked)) == (0, "denied", 0, 1)
        assert made.to_json() is made.to_json()


def test_what_a_record_was_made_of_is_copied() -> None:
    """A mapping that is given to a record may change afterwards; the record does not."""
    content = {"ids": [1]}
    made = Record(Kind.GAP, "i", 1.0, content)
    content["ids"].append(2)
    assert made["ids"] == [1]


@pytest.mark.parametrize("fields", [{"outcome": "denied"}, lambda: {"outcome": "denied", "entry": "check"}])
def test_records_travel(fields: Any) -> None:
    """A record pickles with what it tells, also one that was not told yet, and reads the same."""
    made = Record(Kind.CHECK, "i", 1.25, fields)
    there = pickle.loads(pickle.dumps(made))  # noqa: S301  pickled right here
    assert (there.to_json(), repr(there)) == (made.to_json(), repr(made))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        del made.kind


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.0, "1970-01-01T00:00:00.000000Z"),
        (1.9999999, "1970-01-01T00:00:02.000000Z"),
        (253402300799.0, "9999-12-31T23:59:59.000000Z"),
        (1e30, "1970-01-01T00:00:00.000000Z"),
        (float("nan"), "1970-01-01T00:00:00.000000Z"),
        (float("inf"), "1970-01-01T00:00:00.000000Z"),
    ],
)
def test_a_clock_costs_no_record(seconds: float, told: str) -> None:
    """Times are told in UTC with microseconds; a clock that tells no time loses no record."""
    assert Record(Kind.GAP, new_id(seconds), seconds, masked({})).to_dict()["time"] == told


def test_notes_stand_for_records() -> None:
    """A note of the hot path is read like the record it stands for."""
    made = record({"outcome": "permitted"})

    class Path:
        def record(self, note: Any) -> Record:
            return note[1]

        def json(self, note: Any) -> bytes:
            return b"quick " + note[1].to_json()

    note = (Path(), made)
    assert (record_of(made), record_of(note)) == (made, made)
    assert (json_of(made), json_of(note)) == (made.to_json(), b"quick " + made.to_json())
