from __future__ import annotations

import importlib.resources
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep import AccessDenied, Enforcer, Resource, Subject
from pep.audit import Kind, MemorySink, Record
from pep.audit.correlation import Correlation, Trace
from pep.audit.ids import new_id
from pep.audit.masking import Masking
from pep.audit.record import SCHEMA
from pep.audit.safe import Room, safe
from pep.fault import Fault
from pep.policy import PolicySet, permit
from pep.verdict import Outcome
from tests.conftest import ROOT
from tests.property.entries import CASES
from tests.property.rigs import Loop, Rig
from tests.values import requests

TOLD: dict[str, Any] = json.loads((importlib.resources.files("pep.audit") / "schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(TOLD)
HEAD = {"schema": SCHEMA, "id": new_id(0.0), "time": "1970-01-01T00:00:00.000000Z"}
ASKED = {**HEAD, "kind": "check", "entry": "check", "action": "read", "outcome": "denied"}


def problems(told: dict[str, Any]) -> list[str]:
    """What is wrong with a record: what the schema says, and fields it does not know."""
    found = [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(told)]
    return found + sorted(told.keys() - TOLD["properties"].keys())


def within(definition: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({"$defs": TOLD["$defs"], "$ref": f"#/$defs/{definition}"})


def test_the_schema_is_one() -> None:
    """The schema is itself valid, and says of every field what it is."""
    jsonschema.Draft202012Validator.check_schema(TOLD)
    assert [name for name, field in TOLD["properties"].items() if not field.get("description")] == []


def test_it_knows_every_word() -> None:
    """Kinds, outcomes and faults are those of the library: a new one needs a word here."""
    assert TOLD["properties"]["kind"]["enum"] == [kind.value for kind in Kind]
    assert TOLD["properties"]["outcome"]["enum"] == [outcome.value for outcome in Outcome]
    assert sorted(TOLD["properties"]["fault"]["enum"]) == sorted(fault.value for fault in Fault)


def test_every_field_is_documented() -> None:
    """The reference names every field and every mark that the schema has."""
    page = (ROOT / "docs" / "reference" / "audit-format.md").read_text("utf-8")
    marks = TOLD["$defs"]["mark"]["properties"]
    assert [name for name in (*TOLD["properties"], *marks) if f"`{name}`" not in page] == []


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    shared = Loop()
    yield shared
    shared.close()


@pytest.mark.parametrize(("entry", "setup"), CASES, ids=[f"{entry}-{setup.name}" for entry, setup in CASES])
def test_every_entry_point_writes_valid_records(entry: str, setup: Any, loop: Loop) -> None:
    """Whatever bears on a call, at whatever entry point: its records are as the schema says."""
    from tests.property.entries import ENTRIES  # noqa: PLC0415  beside what it belongs to

    rig = Rig(ENTRIES[entry], setup, loop)
    rig.run("sync")
    records = [event.about for event in rig.stage.timeline if event.what == "acknowledged"]
    assert records
    for record in records:
        assert problems(json.loads(record.to_json())) == []


def test_the_example_writes_valid_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line that the example's demonstration writes is as the schema says."""
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "todo"))
    modules = ("app", "database", "policies", "wiring")
    for name in modules:
        monkeypatch.delitem(sys.modules, name, raising=False)
    try:
        app, database, wiring = (__import__(name) for name in ("app", "database", "wiring"))
        db, path = database.connect(str(tmp_path / "todo.sqlite3")), tmp_path / "audit.jsonl"
        wiring.start(db, path)
        _demonstrate(app, database, db)
        app.enforcer.close()
        db.close()
        lines = path.read_text("utf-8").splitlines()
    finally:
        for name in modules:
            sys.modules.pop(name, None)
    assert len(lines) > 10
    for line in lines:
        assert problems(json.loads(line)) == []


def _demonstrate(app: Any, database: Any, db: Any) -> None:
    from pep import acting_as  # noqa: PLC0415  beside what it is for

    for user in database.USERS:
        with acting_as(Subject("user", user.id)):
            for todo in database.TODOS:
                for call in (lambda: app.list_todos(db), lambda todo=todo: app.update_todo(db, todo.id, done=True)):
                    try:
                        call()
                    except AccessDenied:
                        continue


def test_what_an_enforcer_says_of_itself_is_valid() -> None:
    """Records of revocation and of closing are as the schema says."""
    sink = MemorySink()
    enforcer = Enforcer(PolicySet([permit("all")]), audit=sink)
    enforcer.invalidate(subject=Subject("user", "1"))
    enforcer.invalidate(resource="document")
    enforcer.invalidate_all()
    enforcer.check("read", Resource("document", "1"), subject=Subject("user", "1"))
    enforcer.close()
    assert [problems(json.loads(record.to_json())) for record in sink.records] == [[]] * 5


@settings(max_examples=50)
@given(requests)
def test_whatever_is_asked_and_shown_is_valid(request: Any) -> None:
    """A request is told as the schema says, whatever of it is hashed, redacted or left out."""
    names = sorted({*request.context, *request.subject.properties, "x"})
    half = [(name,) for name in names if name][::2]
    rest = [(name,) for name in names if name][1::2]
    key = f"subject:{request.subject.type}"
    masking = Masking(
        as_is={"context": half}, hashed={key: half}, redacted={"context": rest, key: rest}, secret=b"0" * 16
    )
    told = {**masking.request(request), "query": masking.query(request), "entry": "check", "outcome": "denied"}
    correlation = Correlation("r", Trace("a" * 32, "b" * 16)).fields()
    record = Record(Kind.CHECK, new_id(1.0), 1.0, lambda: {**told, **correlation})
    assert problems(json.loads(record.to_json())) == []


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=3)
    | st.binary(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=2) | st.integers() | st.sampled_from(["$", "$int", "$x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(anything)
def test_every_value_is_told_as_the_schema_says(value: Any) -> None:
    """Whatever a value is, it is told as a value or a mark that the schema knows."""
    told = orjson.loads(orjson.dumps(safe(value, Room())))
    assert list(within("value").iter_errors(told)) == []


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {**ASKED, "schema": "pep.audit/2"},
        {**ASKED, "id": "1"},
        {**ASKED, "id": "01a1f935-58fc-4733-b325-b8799921f9b9"},
        {**ASKED, "time": "1970-01-01T00:00:00Z"},
        {**ASKED, "kind": "other"},
        {**ASKED, "outcome": "allowed"},
        {**ASKED, "trace": {"trace_id": "0" * 32, "span_id": "1" * 16}},
        {**ASKED, "trace": {"trace_id": "A" * 32, "span_id": "1" * 16}},
        {**ASKED, "prev": "0" * 64},
        {**ASKED, "subject": {"id": "1"}},
        {**ASKED, "subject": {"type": "user", "properties": ["roles"]}},
        {**ASKED, "context": ["ip"]},
        {**ASKED, "context": {"ip": {"$forged": 1}}},
        {**ASKED, "obligations": [{"type": "log", "status": "done"}]},
        {**ASKED, "outcome": "failed_open"},
        {**ASKED, "outcome": "shadowed"},
        {**ASKED, "latency": {"pdp": 1.0}},
        {**ASKED, "sampled": 0},
        {name: value for name, value in ASKED.items() if name != "outcome"},
        {**HEAD, "kind": "outcome", "decision": HEAD["id"], "ran": True},
        {**HEAD, "kind": "invalidation"},
        {**HEAD, "kind": "configuration"},
    ],
    ids=lambda _broken: "",
)
def test_what_is_no_record_is_refused(broken: dict[str, Any]) -> None:
    """The schema refuses what is none of the library's records."""
    assert not problems(ASKED)
    assert problems(broken)


def test_marks_are_no_values() -> None:
    """A name that looks like a mark and is none is refused: nobody can forge one."""
    assert list(within("value").iter_errors({"$$hmac": 1})) == []
    assert list(within("value").iter_errors({"$hmac": 1})) != []
    assert list(within("text").iter_errors({"a": 1})) != []
