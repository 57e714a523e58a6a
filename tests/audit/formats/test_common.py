"""What all formats share."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep import Enforcer, Resource, Subject
from pep.audit import MemorySink, formats
from pep.audit.formats import to_cef, to_cloudevents, to_ecs, to_line, to_ocsf
from pep.audit.formats.common import MAX_DEPTH, all_resources, microseconds, plain, rfc3339, visible
from pep.policy import PolicySet, permit
from tests.audit.formats import test_cef, test_cloudevents, test_ecs, test_ocsf
from tests.audit.formats.records import NASTY, records, texts
from tests.proving import times

CHECKS = [
    (to_ocsf, test_ocsf.check_event),
    (to_ecs, test_ecs.check),
    (to_cef, test_cef.check),
    (to_cloudevents, test_cloudevents.check),
]


@settings(max_examples=times(150, 5000), deadline=None)
@given(records)
def test_one_record_is_one_line(record: dict[str, Any]) -> None:
    """Nothing in a record breaks a line or steers a terminal, in any format."""
    lines = [to_line(to_ocsf(record)), to_line(to_ecs(record)), to_line(to_cloudevents(record)), to_cef(record)]
    for line in lines:
        assert line.isprintable()
        assert len(line.splitlines()) == 1
        line.encode()


@pytest.mark.parametrize(("convert", "check"), CHECKS, ids=lambda one: one.__name__)
def test_the_record_stays_as_it_is(convert: Any, check: Any) -> None:
    """Converting is a pure function: the record is not changed, and the same one gives the same."""
    record = {"kind": "decision", "subject": {"type": "user", "id": "ann"}, "trace": {"trace_id": "a" * 32}, "x": [1]}
    before = json.dumps(record)
    assert convert(record) == convert(record)
    assert json.dumps(record) == before


@pytest.mark.parametrize(("convert", "check"), CHECKS, ids=lambda one: one.__name__)
def test_what_json_cannot_tell_is_marked(convert: Any, check: Any) -> None:
    """A record that never was JSON converts, too."""
    deep: Any = "bottom"
    for _ in range(10_000):
        deep = [deep]
    odd = {
        1: 2,
        "nan": math.nan,
        "big": 2**70,
        "lone": "\ud800",
        "huge": 10**5000,
        "object": object(),
        "deep": deep,
        "tuple": (1, b"x"),
    }
    check(convert({"kind": "decision", "subject": {"type": "user", "id": "\udfff"}, **odd}))  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
        (2**64, "0x10000000000000000"),
        (-(2**63) - 1, "-0x8000000000000001"),
        (math.inf, "inf"),
        (math.nan, "nan"),
        ("a\ud800b", "a?b"),
        ({"\ud800": (1, None)}, {"?": [1, None]}),
        ({None: 1, 2: 3}, {"None": 1, "2": 3}),
        (b"x", "<bytes>"),
        (True, True),
    ],
)
def test_plain(value: object, expected: object) -> None:
    """What JSON has no value for becomes a text that says what it was."""
    told = plain(value)
    assert told == expected
    assert type(told) is type(expected)


def test_depth_is_bounded() -> None:
    """What nests deeper than any record does is left out, with a mark."""
    value: Any = []
    for _ in range(MAX_DEPTH + 5):
        value = [value]
    assert "<nested too deep>" in json.dumps(plain(value))


@given(texts)
def test_what_is_shown_can_be_read_back(text: str) -> None:
    """Showing is injective: no two texts look alike."""
    shown = visible(text)
    assert shown.isprintable()
    assert test_cef.unseen(shown) == text


@given(st.text(st.sampled_from("\\u2028a\n"), max_size=12))
def test_texts_like_escapes_can_be_read_back(text: str) -> None:
    """A text that looks like an escape is none."""
    assert test_cef.unseen(visible(text, "\n")) == text


@pytest.mark.parametrize("piece", NASTY)
def test_lines_are_json(piece: str) -> None:
    """A line reads back as what was written."""
    value = {piece: [piece, {"x": piece}]}
    assert json.loads(to_line(value)) == value
    assert to_line(value).isprintable()


def test_a_deep_line_is_cut() -> None:
    """What the writer of JSON refuses is written as far as it goes."""
    value: dict[str, Any] = {}
    for _ in range(500):
        value = {"x": value}
    assert "<nested too deep>" in to_line(value)


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01.5Z", 1_500_000),
        ("1970-01-01T00:00:00.123456789Z", 123_456),
        ("1970-01-01T02:00:00+02:00", 0),
        ("9999-12-31T23:59:59.999999Z", 253402300799999999),
        ("1970-01-01T00:00:00+02:00", None),
        ("9999-12-31T23:59:59-02:00", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("2026-13-01T00:00:00Z", None),
        ("2026-01-01T00:00:00", None),
        ("2026-01-01T00:00:00+99:00", None),
        ("\uff12026-01-01T00:00:00Z", None),
        ("2026-01-01T00:00:00Z\n", None),
        (0, None),
        (None, None),
    ],
)
def test_microseconds(time: object, expected: int | None) -> None:
    """A time is read as RFC 3339 has it, or not at all."""
    assert microseconds({"time": time}) == expected


@given(st.integers(0, 253402300799999999))
def test_times_read_back(micros: int) -> None:
    """What is written as a time is read as the same."""
    assert microseconds({"time": rfc3339(micros)}) == micros


def test_every_resource_is_named_once() -> None:
    """Resources that were decided together, kept or revoked count, those of no use do not."""
    page = {"type": "page", "id": "1"}
    record = {
        "resource": page,
        "requests": [{"resource": page}, {"resource": {"type": "page", "id": "2"}}, {"resource": 3}, 4],
        "kept": [["page", "3"], ["page"], 5],
        "revoked": (("page", "1"),),
    }
    assert [one["id"] for one in all_resources(record)] == ["1", "2", "3"]


def test_records_of_an_enforcer() -> None:
    """What an enforcer writes converts to every format, and says so."""
    sink = MemorySink()
    policies = PolicySet([permit("all-read", action="read")], revision="7")
    enforcer = Enforcer(policies, audit=sink, name="wiki")
    ann = Subject("user", "ann", {"team": 1})
    enforcer.check("read", Resource("page", "1"), subject=ann)
    enforcer.check("edit", Resource.new("page", {"draft": True}), subject=ann)
    enforcer.filter("read", [Resource("page", "1"), Resource("page", "2")], subject=ann)
    enforcer.invalidate(subject=ann)
    enforcer.close()
    told = [record.to_dict() for record in sink.records]
    assert [record["kind"] for record in told] == ["check", "check", "decision", "invalidation", "close"]
    for convert, check in CHECKS:
        for record in told:
            check(convert(record))  # type: ignore[operator]
    assert [one["uid"] for one in to_ocsf(told[2])["resources"]] == ["1", "2"]
    assert to_ecs(told[1])["event"]["type"] == ["info", "denied"]


def test_public_names() -> None:
    """The formats are functions, one for each."""
    assert [name for name in dir(formats) if re.match("to_", name)] == formats.__all__
