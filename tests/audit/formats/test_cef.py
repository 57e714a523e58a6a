"""CEF: its header, keys, lengths and escapes, read back by a parser that knows only the standard."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings

from pep.audit.formats import to_cef
from pep.audit.formats.common import plain_object
from pep.verdict import Outcome
from tests.audit.formats.records import NASTY, leaves, records, sound
from tests.proving import times

#: Key -> the most characters its value may have, or what it must look like; the dictionary of CEF.
KEYS: dict[str, int | str] = {
    "rt": r"[0-9]+", "externalId": 40, "cat": 1023, "act": 63, "outcome": 63, "reason": 1023, "suid": 1023,
    "sourceServiceName": 1023, "msg": 1023, "cfp1": r"[0-9]+\.[0-9]+", "cfp1Label": 1023,
    **{f"cs{n}": 4000 for n in range(1, 7)}, **{f"cs{n}Label": 1023 for n in range(1, 7)},
}  # fmt: skip

#: Keys of the library's own: letters and digits, after its name.
OWN = re.compile(r"pep[A-Z][A-Za-z0-9]*")


def parse(line: str) -> tuple[list[str], dict[str, str]]:
    """Read a line of CEF: seven fields of a header, and the extension."""
    header, at = [""], 0
    while len(header) < 8:
        char = line[at]
        if char == "\\":
            assert line[at + 1] in "\\|"
            header[-1] += line[at + 1]
            at += 2
            continue
        header[-1] += char if char != "|" else ""
        header += [""] if char == "|" else []
        at += 1
    return header[:7], extension(line[at:])


def extension(text: str) -> dict[str, str]:
    """Read key=value pairs: a key starts after a space, and its `=` is not escaped."""
    starts = list(re.finditer(r"(?:^| )([A-Za-z0-9]+)=", text))
    values = {}
    for match, following in zip(starts, [*starts[1:], None], strict=True):
        raw = text[match.end() : following.start() if following else len(text)]
        assert not re.search(r"(?<!\\)(?:\\\\)*=", raw)
        assert match[1] not in values
        values[match[1]] = re.sub(r"\\(.)", lambda found: {"n": "\n", "r": "\r"}.get(found[1], found[1]), raw)
        assert not re.search(r"\\(?![\\=nr])", re.sub(r"\\\\", "", raw))
    return values


def unseen(text: str) -> str:
    """Put back what is shown as an escape, since CEF has no way to write it."""
    units = re.sub(r"\\u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), text)
    return units.encode("utf-16", "surrogatepass").decode("utf-16")


def check(line: str) -> dict[str, str]:
    """Hold a line against the standard; return its extension."""
    assert line.isprintable()
    header, values = parse(line)
    assert header[:4] == ["CEF:0", "pep", "pep", "pep.audit/1"]
    assert all(header)
    assert 0 <= int(header[6]) <= 10
    for key, value in values.items():
        rule = KEYS.get(key)
        assert value
        assert rule is not None or OWN.fullmatch(key)
        assert not isinstance(rule, int) or len(value) <= rule
        assert not isinstance(rule, str) or re.fullmatch(rule, value)
        assert not re.fullmatch(r"(cs|cfp)[0-9]", key) or values.get(f"{key}Label")
    return values


def told_by(values: dict[str, str]) -> set[tuple[str, str]]:
    """Every text and number in an extension, its JSON included."""
    own = [json.loads(values[key]) for key in ("pepRest", "pepFull") if key in values]
    return leaves([unseen(value) for value in values.values()]) | set().union(*map(leaves, own))


@settings(max_examples=times(150, 5000), deadline=None)
@given(records)
def test_every_record_becomes_a_line(record: dict[str, Any]) -> None:
    """Whatever is in a record, what comes out is one line by the rules of CEF, and reads back whole."""
    values = check(to_cef(record))
    assert leaves(plain_object(record)) <= told_by(values)


@settings(max_examples=times(100, 2000), deadline=None)
@given(sound)
def test_values_read_back(record: dict[str, Any]) -> None:
    """An independent parser gets the very values of the record."""
    values = {key: unseen(value) for key, value in parse(to_cef(record))[1].items()}
    subject, resource = record.get("subject", {}), record.get("resource", {})
    expected = {
        "externalId": record["id"],
        "cat": record["kind"],
        "suid": subject.get("id"),
        "cs1": record.get("action"),
        "cs2": resource.get("type"),
        "cs3": resource.get("id"),
        "cs4": subject.get("type"),
        "cs6": record.get("tenant"),
        "sourceServiceName": record.get("enforcer"),
    }
    assert {key: values.get(key) for key in expected} == expected


@pytest.mark.parametrize("piece", NASTY)
@pytest.mark.parametrize("place", ["{}", "x{}", "{}x", "{0}{0}"])
def test_no_piece_breaks_out_of_a_value(piece: str, place: str) -> None:
    """Line breaks, escapes, separators and keys in a value stay in it."""
    text = place.format(piece)
    values = check(to_cef({"kind": "decision", "subject": {"type": "user", "id": text}, "tenant": text}))
    assert (unseen(values["suid"]), unseen(values["cs6"])) == (text, text)
    assert set(values) <= {"cat", "outcome", "suid", "cs4Label", "cs4", "cs6Label", "cs6", "msg"}


def test_common_backslashes_stay_as_they_are() -> None:
    """Only what looks like an escape is shown as one: a domain name reads as it was written."""
    line = to_cef({"kind": "check", "subject": {"type": "user", "id": "CORP\\ursula"}})
    assert parse(line)[1]["suid"] == "CORP\\ursula"


@pytest.mark.parametrize("char", ["x", "\u2028", "🎉", "\U000e0001", "=", "\\", "\n"])
def test_a_long_value_is_cut_and_kept(char: str) -> None:
    """A value longer than its key allows is cut, never within an escape, and stands whole elsewhere."""
    text = char * 5000
    values = check(to_cef({"kind": "decision", "id": text, "action": text, "fault": text, "latency": 1}))
    for key in ("externalId", "cs1", "reason"):
        assert values[key].endswith("...")
        assert len(values[key]) > KEYS[key] - 13  # type: ignore[operator]
        assert text.startswith(unseen(values[key][:-3]))
    full = json.loads(values["pepFull"])
    assert set(full) == {"externalId", "cs1", "reason", "msg"}
    assert full["cs1"] == text


@pytest.mark.parametrize("outcome", list(Outcome))
def test_header(outcome: Outcome) -> None:
    """The header names the kind of event, and how severe it is from 0 to 10."""
    severity = {"permitted": 1, "confirmation_required": 3, "step_up_required": 3, "unavailable": 8, "failed_open": 8}
    header, values = parse(to_cef({"kind": "decision", "outcome": outcome.value}))
    assert header[4:] == [
        f"decision:{outcome.value}",
        f"decision {outcome.value}",
        str(severity.get(outcome.value, 5)),
    ]
    assert (values["cat"], values["act"]) == ("decision", outcome.value)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"kind": "outcome", "status": "withheld"}, ["outcome:withheld", "outcome withheld", "1"]),
        ({"kind": "gap"}, ["gap", "gap", "8"]),
        ({"kind": "a|b\n", "status": "x|"}, ["unknown", "unknown", "0"]),
        ({}, ["unknown", "unknown", "0"]),
    ],
)
def test_header_of_what_has_no_outcome(fields: dict[str, Any], names: list[str]) -> None:
    """Nothing but words this library knows gets into the header."""
    assert parse(to_cef(fields))[0][4:] == names


def test_a_decision() -> None:
    """A decision's parts stand under the keys that CEF has for them."""
    line = to_cef(
        {
            "schema": "pep.audit/1",
            "kind": "decision",
            "id": "d",
            "time": "2026-01-02T03:04:05.678901Z",
            "enforcer": "wiki",
            "subject": {"type": "user", "id": "ann"},
            "action": "read",
            "resource": {"type": "page", "id": "a=b|c"},
            "policies": ["p"],
            "outcome": "denied",
            "latency": {"total": 0.5},
            "tenant": "acme",
        }
    )
    assert line == (
        "CEF:0|pep|pep|pep.audit/1|decision:denied|decision denied|5|rt=1767323045678 externalId=d cat=decision "
        "act=denied outcome=success suid=ann sourceServiceName=wiki cs1Label=action cs1=read cs2Label=resourceType "
        "cs2=page cs3Label=resourceId cs3=a\\=b|c cs4Label=subjectType cs4=user cs5Label=policy cs5=p "
        "cs6Label=tenant cs6=acme cfp1Label=latencySeconds cfp1=0.500000000 "
        'msg=decision denied, user:ann, read, page:a\\=b|c pepRest={"schema":"pep.audit/1",'
        '"time":"2026-01-02T03:04:05.678901Z","latency":{"total":0.5}}'
    )
