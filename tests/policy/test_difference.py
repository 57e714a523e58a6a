"""Differences between two versions of policies, of requests from files and audit logs."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep import Enforcer
from pep.audit import FileSink
from pep.errors import AccessDenied, ConfigurationError
from pep.model import AccessRequest, Action, Obligation, Resource, Subject
from pep.policy import PolicySet, Rule, deny, permit, resource
from pep.policy import requests as requests_file
from pep.policy.difference import Compared, Tally, differences
from pep.policy.files import PolicyFileError
from pep.policy.requests import Asked, read_requests
from tests.policy.strategies import policies, requests, timed_conditions

ANN = Subject("user", "ann")
DOC = Resource("doc", "1", {"owner": "ann"})
REQUEST = AccessRequest(ANN, "read", DOC, {"level": 1}, [Subject("agent", "7")], "acme")
TOLD = json.dumps(REQUEST.to_dict())
OLD = PolicySet([permit("all", action="read")], revision="1")
NEW = PolicySet([permit("owners", action="read", when=resource.owner == "ann")], revision="2")


def written(folder: Path, text: str) -> Path:
    file = folder / "requests.json"
    file.write_text(text, encoding="utf-8")
    return file


def read(folder: Path, text: str) -> list[Asked | None]:
    return list(read_requests(written(folder, text)))


def compare(old: list[Rule], new: list[Rule], *asked: AccessRequest) -> tuple[list[Compared], Tally]:
    tally = Tally()
    one, other = (PolicySet(rules, revision="x", clock=lambda: 4.0) for rules in (old, new))
    return list(differences(one, other, (Asked(request, 1) for request in asked), tally)), tally


@given(policies(timed_conditions), policies(timed_conditions), st.lists(requests, max_size=3))
def test_changes_are_those_of_the_answer(old: list[Rule], new: list[Rule], asked: list[AccessRequest]) -> None:
    """A request is told of exactly when its effect, obligations or advice are others; all are counted."""
    found, tally = compare(old, new, *asked)
    one, other = (PolicySet(rules, clock=lambda: 4.0) for rules in (old, new))

    def answer(policies: PolicySet, request: AccessRequest) -> tuple[Any, ...]:
        told = policies.decide(request)
        return told.effect, sorted(map(repr, told.obligations)), sorted(map(repr, told.advice))

    changed = [request for request in asked if answer(one, request) != answer(other, request)]
    assert [compared.asked.request for compared in found] == changed
    assert (tally.requests, tally.changed) == (len(asked), len(changed))
    assert compare(old, old, *asked)[0] == []


@pytest.mark.parametrize(
    ("new", "changed"),
    [
        ([permit("b")], False),
        ([permit("a", reason="why")], False),
        ([permit("a"), deny("b")], True),
        ([permit("a", obligations=[Obligation("log")])], True),
        ([permit("a", advice=[Obligation("log")])], True),
    ],
)
def test_who_decided_is_no_change(new: list[Rule], changed: bool) -> None:
    """The same answer by another rule, or for another reason, changes nothing for whoever asked."""
    for pair in (([permit("a")], new), (new, [permit("a")])):
        assert len(compare(*pair, REQUEST)[0]) == changed


def test_a_comparison_as_json() -> None:
    """The JSON names the request, both answers and what was masked, and no attribute values."""
    duties = [permit("a", obligations=[Obligation("log")], advice=[Obligation("mail")])]
    (found,), _ = compare(duties, [], REQUEST.evolve(resource=Resource.new("doc", {"secret": 1})))
    assert found.to_dict() == {
        "line": 1,
        "subject": {"type": "user", "id": "ann"},
        "action": "read",
        "resource": {"type": "doc"},
        "old": {"effect": "permit", "policies": ["a"], "obligations": ["log"], "advice": ["mail"]},
        "new": {"effect": "not_applicable", "policies": []},
        "masked": [],
    }


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (f"{TOLD}\n{TOLD}\n", [1, 2]),
        (f"\n  \n{TOLD}\n\n{TOLD}", [3, 5]),
        (f"[{TOLD},{TOLD}]", [1, 1]),
        (f"\n [\n{TOLD} ,\n\n {TOLD}\n]\n", [3, 5]),
        ("[ ]", []),
        ("", []),
        (" \n ", []),
    ],
)
@pytest.mark.parametrize("chunk", [1, 7, 65536])
def test_json_lines_and_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, lines: list[int], chunk: int
) -> None:
    """Requests on lines and in an array are read alike, however little of the file is looked at together."""
    monkeypatch.setattr(requests_file, "_CHUNK", chunk)
    assert read(tmp_path, text) == [Asked(REQUEST, line) for line in lines]


def test_indented_arrays(tmp_path: Path) -> None:
    """An array as programs write it, over many lines, is read as any other."""
    text = json.dumps([REQUEST.to_dict(), REQUEST.to_dict()], indent=2)
    assert [one and one.request for one in read(tmp_path, text)] == [REQUEST, REQUEST]


def test_several_requests_in_one(tmp_path: Path) -> None:
    """A request with `evaluations` counts as several, which share what they leave out."""
    shared = {"subject": ANN.to_dict(), "action": {"name": "read"}}
    several = shared | {
        "evaluations": [{"resource": DOC.to_dict()}, {"resource": DOC.to_dict(), "action": {"name": "x"}}]
    }
    found = read(tmp_path, json.dumps(several))
    assert found == [Asked(AccessRequest(ANN, name, DOC), 1) for name in ("read", "x")]


@pytest.mark.parametrize(
    ("text", "line", "column", "problem"),
    [
        ("{", 1, 2, "this is no JSON"),
        (f"{TOLD}\n{{]", 2, 2, "this is no JSON"),
        ("nonsense", 1, 1, "this is no JSON"),
        ("[" + "[" * 100_000, 1, 2, "a request is a JSON object"),
        ('{"a":' * 100_000, 1, 1, "this is no JSON"),
        ("[" + '{"a":' * 100_000, 1, 2, "this is no JSON"),
        ('{"a": ' + "9" * 5000 + "}", 1, 1, "this is no JSON"),
        ("5", 1, 1, "must be a JSON object"),
        ("{}", 1, 1, "`subject` is missing"),
        ('{"evaluations": 1}', 1, 1, "`evaluations` must be a list"),
        ('{"evaluations": [1]}', 1, 1, "`evaluations` must be a list"),
        ("[1]", 1, 2, "a request is a JSON object"),
        (f"[{TOLD},\n ]", 2, 2, "a request is a JSON object"),
        (f"[{TOLD}\n{TOLD}]", 2, 1, "expected `,` or `]`"),
        (f"[{TOLD}", 1, len(TOLD) + 2, "expected `,` or `]`"),
        ("[", 1, 2, "a request is a JSON object"),
        ("[\n{", 2, 1, "this is no JSON"),
        ("[\n{}]", 2, 1, "`subject` is missing"),
    ],
)
def test_what_is_no_request(tmp_path: Path, text: str, line: int, column: int, problem: str) -> None:
    """A file that holds anything but requests is refused with line and column."""
    with pytest.raises(PolicyFileError, match=problem) as refused:
        read(tmp_path, text)
    assert (refused.value.line, refused.value.column) == (line, column)


@pytest.mark.parametrize(
    "text", ['{"a": "' + "x" * 200 + '"}', f"\n{TOLD[:99]}" + "x" * 200, '[{"a": "' + "x" * 300 + '"}]']
)
def test_one_request_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A line or an entry that is longer than any request is refused without being read to its end."""
    monkeypatch.setattr(requests_file, "MAX_ENTRY", 100)
    monkeypatch.setattr(requests_file, "_CHUNK", 50)
    with pytest.raises(PolicyFileError, match="a request may have at most"):
        read(tmp_path, text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that is not there, or no UTF-8, is a configuration error."""
    with pytest.raises(ConfigurationError, match="cannot read"):
        list(read_requests(tmp_path / "none.json"))
    (tmp_path / "bad").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="no UTF-8"):
        list(read_requests(tmp_path / "bad"))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """An audit log with a permit, a denial, a check, a filtered list, two requests in one record, and other records."""
    file = tmp_path / "audit.jsonl"
    enforcer = Enforcer(OLD, audit=FileSink(file))
    enforcer.enforce("read", DOC, subject=ANN)
    with pytest.raises(AccessDenied):
        enforcer.enforce("edit", DOC, subject=ANN)
    enforcer.check(REQUEST.evolve(actors=()))
    list(enforcer.filter("read", [DOC], subject=ANN))
    enforcer.enforce("read", [DOC, Resource("doc", "2")], subject=ANN)
    with pytest.raises(AccessDenied):
        enforcer.enforce("read", None, subject=ANN)
    enforcer.invalidate(ANN)
    enforcer.close()
    return file


def test_an_audit_log(log: Path) -> None:
    """Decisions and checks count, with what is masked named; records of no single decision are skipped."""
    found = list(read_requests(log))
    asked = [one for one in found if one is not None]
    assert [one.masked for one in asked] == [("resource.owner",)] * 2 + [("resource.owner", "context.level")] + [
        ("resource.owner",),
        (),
    ]
    assert [(one.request.action.name, one.request.resource.id, one.request.tenant) for one in asked] == [
        ("read", "1", None),
        ("edit", "1", None),
        ("read", "1", "acme"),
        ("read", "1", None),
        ("read", "2", None),
    ]
    assert found.count(None) == 2
    tally = Tally()
    changes = list(differences(OLD, NEW, found, tally))
    assert [one.new.effect.value for one in changes] == ["indeterminate"] * 4
    assert tally.to_dict() == {
        "requests": 5, "changed": 4, "incomplete": 4, "masked": 5, "skipped": 2, "complete": False,
    }  # fmt: skip


def test_masked_names_of_all_parts(tmp_path: Path) -> None:
    """Names that stand for values are told of subject, resource, actors, action and context."""
    entity = {"type": "user", "id": "ann", "omitted": ["roles"]}
    record = {
        "schema": "pep.audit/1", "kind": "check", "effect": "permit", "subject": entity, "resource": entity,
        "actors": [entity], "action": "read", "action_omitted": ["how"], "context_omitted": ["level"],
    }  # fmt: skip
    (found,) = read(tmp_path, json.dumps(record))
    names = ("subject.roles", "resource.roles", "actors.roles", "action.how", "context.level")
    assert found == Asked(AccessRequest(ANN, "read", Resource("user", "ann"), actors=[ANN]), 1, names)


def test_values_that_a_record_shows_are_used(tmp_path: Path) -> None:
    """What a record tells as it was is part of the request; what it tells in part, or as a mark, is masked."""
    entity = {
        "type": "user", "id": "ann", "omitted": ["part"],
        "properties": {"roles": ["a"], "part": {"x": 1}, "email": {"$hmac": "0"}, "list": [{"a": [{"$int": "0x1"}]}]},
    }  # fmt: skip
    record = {
        "schema": "pep.audit/1", "kind": "check", "effect": "permit", "subject": entity, "action": "read",
        "resource": {"type": "doc", "id": "1"}, "action_properties": {"how": "fast"}, "context": {"level": 3},
    }  # fmt: skip
    (found,) = read(tmp_path, json.dumps(record))
    request = AccessRequest(
        Subject("user", "ann", {"roles": ["a"]}), Action("read", {"how": "fast"}), Resource("doc", "1"), {"level": 3}
    )
    assert found == Asked(request, 1, ("subject.email", "subject.list", "subject.part"))


scraps = st.sampled_from([None, 5, "x", "\ud800", [], [5], ["\ud800"], ["x"], {}, [{}], {"type": "a", "id": "b"}])
entities = (
    st.fixed_dictionaries({"type": scraps, "id": scraps}, optional={"properties": scraps, "omitted": scraps}) | scraps
)
parts = st.fixed_dictionaries(
    {"subject": entities, "action": scraps, "resource": entities},
    optional={
        "effect": scraps, "actors": st.lists(entities) | scraps, "action_properties": scraps,
        "context": scraps, "context_omitted": scraps, "tenant": scraps,
    },
)  # fmt: skip
entries = st.builds(
    lambda schema, kind, part, parts, name: {**schema, "kind": kind, **part, **({name: parts} if name else {})},
    st.sampled_from([{"schema": "pep.audit/1"}, {"schema": 5}, {}]),
    st.sampled_from(["decision", "check", "gap", [], None]),
    parts,
    st.lists(parts, max_size=2) | scraps,
    st.sampled_from(["requests", "evaluations", None]),
)


@given(st.lists(entries | scraps, max_size=3))
def test_whatever_a_file_holds(tmp_path_factory: pytest.TempPathFactory, found: list[Any]) -> None:
    """A file of JSON, however odd, is read or refused with its place; what was read can be told as JSON."""
    folder = tmp_path_factory.mktemp("odd")
    for text in (json.dumps(found), "\n".join(map(json.dumps, found))):
        try:
            changes = list(differences(OLD, PolicySet([]), read(folder, text), Tally()))
        except PolicyFileError:
            continue
        orjson.dumps([change.to_dict() for change in changes])


@pytest.mark.parametrize(
    "odd", [{"context": ["owner"]}, {"context": "owner"}, {"context_omitted": "owner"}, {"context_omitted": [5]}]
)
def test_a_record_tells_values_by_name(tmp_path: Path, odd: Any) -> None:
    """What is neither values by name nor a list of names is no audit record."""
    record = {"schema": "pep.audit/1", "kind": "check", "effect": "permit", "action": "read", **odd}
    record |= {"subject": {"type": "user", "id": "ann"}, "resource": {"type": "doc"}}
    with pytest.raises(PolicyFileError, match="an audit record holds values by name of the context"):
        read(tmp_path, json.dumps(record))


def test_a_line_that_a_crash_cut_short(log: Path) -> None:
    """A torn line in an audit log is skipped and counted; a record that makes no sense is refused."""
    with log.open("a") as file:
        file.write('{"schema": "pep.audit/1", "ki\n')
    assert list(read_requests(log)).count(None) == 3
    with log.open("a") as file:
        file.write('{"schema": "pep.audit/1", "kind": "check", "effect": "permit", "subject": 1}\n')
    with pytest.raises(PolicyFileError, match="a subject must be a JSON object"):
        list(read_requests(log))


def test_complete_where_nothing_is_masked() -> None:
    """A comparison of whole requests can be relied upon."""
    assert compare([permit("a")], [], REQUEST)[1].complete


def test_progress_is_told_in_bytes(tmp_path: Path) -> None:
    """Whoever waits learns how much of the file was read."""
    told: list[tuple[int, int]] = []
    file = written(tmp_path, f"{TOLD}\n{TOLD}\n")
    list(read_requests(file, lambda done, of: told.append((done, of))))
    assert told == [(file.stat().st_size, file.stat().st_size)] * 2


@pytest.mark.parametrize(("head", "between", "tail"), [("", "\n", "\n"), ("[", ",", "]")])
def test_memory_is_bounded(tmp_path: Path, head: str, between: str, tail: str) -> None:
    """Reading and deciding takes a fraction of the memory that the file would."""
    file = written(tmp_path, head + between.join([TOLD] * 5000) + tail)
    tally = Tally()
    tracemalloc.start()
    try:
        found = sum(1 for _ in differences(OLD, OLD, read_requests(file), tally))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (found, tally.requests) == (0, 5000)
    assert peak < file.stat().st_size / 2
