"""Policies in files: what loads, to which revision, and what is refused where."""

from __future__ import annotations

import json
import pickle
import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.errors import ConfigurationError
from pep.model import AccessRequest, Effect, Obligation, Resource, Subject
from pep.policy import PolicySet, Rule, deny, has, permit, predicate, resource, subject
from pep.policy.files import PolicyFileError, _deepest, _Document, assemble, loads
from pep.policy.locate import Places
from pep.policy.revision import canonical_form
from tests.policy.strategies import policies, timed_conditions

TOML = """
revision = "7"

[[permit]]
id = "owners-edit"
action = ["edit", "rename"]
resource = "document"
subject = "user"
when = "resource.owner == subject.id"
unless = '''
  (resource.locked == True)
  | has(resource.archived)
'''
reason = "it is theirs"
obligations = [{ type = "log", properties = { level = 3 }, id = "o1" }]

[[permit.advice]]
type = "hint"

[[deny]]
id = "no-guests"
when = "'guest' in subject.roles"
"""

RULES = [
    permit(
        "owners-edit",
        action={"edit", "rename"},
        resource="document",
        subject="user",
        when=resource.owner == subject.id,
        unless=(resource.locked == True) | has(resource.archived),  # noqa: E712
        reason="it is theirs",
        obligations=[Obligation("log", {"level": 3}, "o1")],
        advice=[Obligation("hint")],
    ),
    deny("no-guests", when=subject.roles.contains("guest")),
]


def refusal(text: str, *, toml: bool) -> PolicyFileError | None:
    """What is wrong with a text, if anything is."""
    try:
        loads(text, toml=toml)
    except PolicyFileError as error:
        return error
    return None


def test_toml() -> None:
    """A TOML file holds the same rules as Python, and the revision it states."""
    loaded = loads(TOML)
    assert loaded.revision == "7"
    assert sorted(loaded.rules, key=repr) == sorted(RULES, key=repr)


def test_json() -> None:
    """A JSON file has the same shape."""
    entry = {"id": "no-guests", "when": "'guest' in subject.roles"}
    assert loads(json.dumps({"deny": [entry]}), toml=False).rules == (RULES[1],)


def test_load(tmp_path: Path) -> None:
    """A policy set loads from a file, and from a folder whose test cases are no policies."""
    (tmp_path / "policies.toml").write_text(TOML)
    (tmp_path / "policies.test.toml").write_text("no = 'policy'")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "more.json").write_text('{"permit": [{"id": "readers", "action": "read"}]}')
    (tmp_path / "README.md").write_text("no policy")
    one, several = PolicySet.load(tmp_path / "policies.toml"), PolicySet.load(str(tmp_path))
    assert (len(one), one.revision) == (2, "7")
    assert (len(several), several.revision) == (3, "7")
    assert PolicySet.load(tmp_path, revision="8").revision == "8"
    request = AccessRequest(Subject("user", "a", {"roles": []}), "read", Resource("document", "1"))
    assert several.decide(request).effect is Effect.PERMIT
    assert one.decide(request).effect is Effect.NOT_APPLICABLE


def test_files_in_any_order(tmp_path: Path) -> None:
    """The revision depends on the rules alone: not on files' names, their number, their format or their order."""
    entries = [f'[[permit]]\nid = "r{number}"\naction = "a{number}"\n' for number in range(6)]
    revisions = set()
    for attempt in range(4):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        random.Random(attempt).shuffle(entries)  # noqa: S311  a repeatable order
        for number, entry in enumerate(entries):
            file = folder / f"{number // (attempt + 1)}.toml"
            file.write_text((file.read_text() if file.exists() else "") + entry)
        revisions.add(PolicySet.load(folder).revision)
    whole = tmp_path / "whole.json"
    whole.write_bytes(canonical_form(PolicySet.load(tmp_path / "0").rules))
    assert revisions == {PolicySet.load(whole).revision}


def test_revision_is_pinned() -> None:
    """The canonical form and its revision are these, on every machine and version."""
    rules = PolicySet([*RULES, permit("é", resource="ö:*", when=resource["größe\n"] == 1.5)]).rules
    assert canonical_form(rules).decode() == (
        '{"deny":[{"id":"no-guests","when":"subject.roles.contains(\'guest\')"}],'
        '"permit":[{"action":["edit","rename"],"advice":[{"type":"hint"}],"id":"owners-edit",'
        '"obligations":[{"id":"o1","properties":{"level":3},"type":"log"}],"reason":"it is theirs",'
        '"resource":"document","subject":"user",'
        '"unless":"(resource.locked == True) | has(resource.archived)","when":"resource.owner == subject.id"},'
        '{"id":"é","resource":"ö:*","when":"resource[\'größe\\\\x0a\'] == 1.5"}]}'
    )
    assert PolicySet([]).revision == "cdeb96d260d62c61ca3788b3570a3148b700939f65d3946e786a38991abcfdcd"


@given(policies(timed_conditions))
def test_canonical_form_loads(found: list[Rule]) -> None:
    """The canonical form is a policy file that holds the very same rules."""
    ordered = PolicySet(found).rules
    loaded = loads(canonical_form(ordered).decode(), toml=False)
    assert sorted(loaded.rules, key=lambda rule: rule.id) == list(ordered)
    assert PolicySet(loaded.rules).revision == PolicySet(found).revision


@given(policies(timed_conditions, min_size=1), st.data())
def test_revision_tells_apart(found: list[Rule], data: st.DataObject) -> None:
    """Leaving a rule out changes the revision."""
    fewer = [rule for rule in found if rule is not data.draw(st.sampled_from(found))]
    if len(fewer) < len(found):
        assert PolicySet(fewer).revision != PolicySet(found).revision


def test_predicates_are_not_in_files() -> None:
    """A Python predicate counts in the revision by its name."""
    one, other = (PolicySet([permit("r", when=predicate(lambda _: True, name))]).revision for name in "ab")
    assert one != other


def test_progress() -> None:
    """Whoever loads many rules is told how far it is."""
    told: list[tuple[int, int]] = []
    text = json.dumps({"permit": [{"id": f"r{number}"} for number in range(2500)]})
    assemble([_Document("many.json", text, toml=False)], lambda done, total: told.append((done, total)))
    assert told == [(1000, 2500), (2000, 2500), (2500, 2500)]


RULE = '[[permit]]\nid = "r"\n'
#: What is malformed → its suffix, its bytes, the line and column, and a word of the reason.
CORPUS: dict[str, tuple[str, bytes | str, int, int, str]] = {
    # TOML itself
    "no table": ("toml", "permit", 1, 7, "Expected '='"),
    "unclosed table": ("toml", "[[permit]\nid = 1", 1, 9, "Expected ']]'"),
    "unclosed text": ("toml", RULE + 'when = "has(', 3, 13, ""),
    "unclosed list": ("toml", RULE + "action = [", 3, 11, ""),
    "no value": ("toml", RULE + "when =", 3, 7, ""),
    "two values": ("toml", RULE + 'when = "a" "b"', 3, 12, ""),
    "key twice": ("toml", RULE + 'id = "s"', 3, 9, "overwrite"),
    "table and value": ("toml", 'permit = "x"\n[[permit]]', 2, 9, ""),
    "bad escape": ("toml", RULE + 'when = "\\q"', 3, 11, ""),
    "NUL": ("toml", b'[[permit]]\nid = "a\x00b"', 2, 8, ""),
    "NUL outside": ("toml", b"\x00", 1, 1, ""),
    "BOM": ("toml", b"\xef\xbb\xbf[[permit]]", 1, 1, ""),
    "control character": ("toml", b'[[permit]]\nid = "a\x07"', 2, 8, ""),
    "UTF-16": ("toml", "[[permit]]".encode("utf-16"), 1, 1, "UTF-8"),
    "Latin-1": ("toml", 'a = 1\nb = "é"'.encode("latin-1"), 2, 6, "UTF-8"),
    "truncated UTF-8": ("toml", b'id = "\xc3', 1, 7, "UTF-8"),
    "surrogate": ("toml", b'id = "\xed\xa0\x80"', 1, 7, "UTF-8"),
    "JSON in TOML": ("toml", '{"permit": []}', 1, 1, ""),
    "bad date": ("toml", RULE + "reason = 2025-99-99", 3, 14, ""),
    "list bomb": ("toml", "permit = " + "[" * 100_000, 1, 100_009, "deep"),
    "table bomb": ("toml", "permit = " + "{a=" * 50_000, 1, 150_007, "deep"),
    "dotted bomb": ("toml", "a" + ".a" * 500_000 + " = 1", 1, 1, "parts"),
    "header bomb": ("toml", "x = 1\n[" + "a." * 500_000 + "a]", 2, 1, "parts"),
    "number bomb": ("toml", "a = " + "9" * 1_000_000, 1, 5, "number"),
    # JSON itself
    "empty JSON": ("json", "", 1, 1, "Expecting value"),
    "TOML in JSON": ("json", RULE, 1, 3, "Expecting value"),
    "no comma": ("json", '{"permit": [] "deny": []}', 1, 15, "delimiter"),
    "comment": ("json", '{"permit": [] // all\n}', 1, 15, ""),
    "single quotes": ("json", "{'permit': []}", 1, 2, ""),
    "two documents": ("json", "{}\n{}", 2, 1, "Extra data"),
    "JSON key twice": ("json", '{"permit": [{"id": "a",\n"id": "b"}]}', 2, 1, "twice"),
    "JSON table twice": ("json", '{"permit": [],\n "permit": []}', 2, 2, "twice"),
    "NaN": (
        "json",
        '{"permit": [{"id": "a", "obligations": [{"type": "b", "properties": {"c": NaN}}]}]}',
        1,
        75,
        "NaN",
    ),
    "JSON bomb": ("json", "[" * 100_000, 1, 100_000, "deep"),
    "JSON object bomb": ("json", '{"a":' * 100_000, 1, 499_996, "deep"),
    "JSON number bomb": ("json", '{"a": ' + "9" * 100_000 + "}", 1, 7, "number"),
    "JSON list": ("json", "[]", 1, 1, "table"),
    "JSON text": ("json", '"permit"', 1, 1, "table"),
    "JSON NUL": ("json", b'{"permit": [{"id": "a\x00"}]}', 1, 22, "control character"),
    # The shape of a policy file
    "unknown table": ("toml", "[[allow]]\nid = 'r'", 1, 1, "unknown key `allow`"),
    "single table": ("toml", "[permit]\nid = 'r'", 1, 1, "[[permit]]"),
    "unknown key": ("toml", RULE + "condition = 'x'", 3, 1, "unknown key `condition`"),
    "unknown key in JSON": ("json", '{"permit":\n [{"id": "a", "wenn": ""}]}', 2, 15, "unknown key `wenn`"),
    "rule is text": ("json", '{"permit": ["a"]}', 1, 13, "must be a table"),
    "no id": ("toml", "[[permit]]\naction = 'a'", 1, 1, "needs an `id`"),
    "id is number": ("toml", "[[permit]]\nid = 5", 2, 1, "rule's id"),
    "id is empty": ("toml", "[[permit]]\nid = ''", 2, 1, "rule's id"),
    "id is taken": ("toml", RULE + "[[deny]]\nid = 'r'", 4, 1, "taken"),
    "revision is number": ("toml", "revision = 3", 1, 1, "revision"),
    "action is number": ("toml", RULE + "action = 5", 3, 1, "`action`"),
    "action is mixed": ("toml", RULE + "action = ['a', 5]", 3, 1, "`action`"),
    "action is empty": ("toml", RULE + "action = []", 3, 1, "`action`"),
    "action is table": ("toml", RULE + "[permit.action]\nname = 'x'", 3, 1, "`action`"),
    "half pattern": ("toml", RULE + "resource = 'doc*'", 3, 1, "pattern `doc*`"),
    "inner pattern": ("toml", RULE + "action = 'a:**:b'", 3, 1, "pattern"),
    "empty segment": ("toml", RULE + "action = '*::b'", 3, 1, "pattern"),
    "reason is empty": ("toml", RULE + "reason = ''", 3, 1, "reason"),
    "reason is date": ("toml", RULE + "reason = 2025-01-01", 3, 1, "reason"),
    "when is boolean": ("toml", RULE + "when = true", 3, 1, "written as text"),
    "when is list": ("toml", RULE + "when = ['has(resource.a)']", 3, 1, "written as text"),
    "obligations are text": ("toml", RULE + "obligations = 'log'", 3, 1, "list of tables"),
    "obligation is text": ("toml", RULE + "obligations = ['log']", 3, 16, "a `type`"),
    "obligation without type": ("toml", RULE + "[[permit.obligations]]\nid = 'a'", 3, 1, "a `type`"),
    "obligation's type is empty": ("toml", RULE + "advice = [{type = ''}]", 3, 11, "type"),
    "obligation's unknown key": ("toml", RULE + "advice = [{type = 'a', level = 1}]", 3, 24, "unknown key `level`"),
    "obligation holds a date": ("toml", RULE + "advice = [{type = 'a', properties.x = 2025-01-01}]", 3, 11, "date"),
    # Conditions
    "empty condition": ("toml", RULE + "when = ''", 3, 9, "empty"),
    "bare attribute": ("toml", RULE + 'when = "resource.a"', 3, 9, "bare attribute"),
    "unknown operator": ("toml", RULE + "when = 'resource.a ** 2 == 4'", 3, 20, "`*`"),
    "call": ("toml", RULE + "when = '''\nopen(\"/etc/passwd\")'''", 4, 1, "not allowed"),
    "dunder": ("toml", RULE + "when = 'has(resource.a) and resource.__class__ == 1'", 3, 29, "`__class__`"),
    "lambda": ("toml", RULE + "when = 'lambda: 1'", 3, 15, "`:`"),
    "comprehension": ("toml", RULE + "when = '[a for a in resource.b] == 1'", 3, 9, "no place"),
    "f-string": ("toml", RULE + "when = \"f'{resource.a}' == 'x'\"", 3, 9, "prefix"),
    "condition bomb": ("toml", RULE + "when = '" + "(" * 100_000 + "'", 3, 41, "deep"),
    "1 MB condition": ("toml", RULE + "when = '" + "x" * 1_000_000 + "'", 3, 262_153, "characters"),
    "1 MB condition in JSON": (
        "json",
        '{"deny": [{"id": "a", "when": "' + "has(resource.a)|" * 65_000 + '"}]}',
        1,
        262_176,
        "characters",
    ),
    "escaped before": ("toml", RULE + 'when = "\\"\\u0041\\" == resource.__a"', 3, 23, "`__a`"),
    "folded before": ("toml", RULE + 'when = """\\\n   has(resource.a) \\\n   | b"""', 5, 6, "unknown name `b`"),
    "second line": ("toml", RULE + "unless = '''\n  has(resource.a)\n  | nothing'''", 5, 5, "unknown name `nothing`"),
    "Windows lines": (
        "toml",
        RULE.replace("\n", "\r\n") + "when = '''\r\nhas(resource.a)\r\n| nothing'''",
        5,
        3,
        "unknown name",
    ),
    "escaped in JSON": (
        "json",
        '{"deny": [{"id": "a", "when": "\\"\\ud83d\\ude00\\" == b"}]}',
        1,
        52,
        "unknown name `b`",
    ),
    "in a later rule": (
        "toml",
        RULE + "[[permit]]\nid = 's'\n[[permit]]\nid = 't'\nwhen = 'b'",
        7,
        9,
        "unknown name `b`",
    ),
    "NUL in condition": ("toml", RULE + 'when = "has(resource.a) \\u0000"', 3, 25, "`\\x00`"),
}


@pytest.mark.parametrize("name", CORPUS)
def test_corpus(tmp_path: Path, name: str) -> None:
    """Every malformed file is refused with its path, line and column, in bounded time, and with the reason."""
    suffix, content, line, column, word = CORPUS[name]
    path = tmp_path / f"policies.{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    started = time.process_time()
    with pytest.raises(PolicyFileError) as caught:
        PolicySet.load(path)
    assert time.process_time() - started < 5
    error = caught.value
    assert isinstance(error, ConfigurationError)
    assert (error.path, error.line, error.column) == (str(path), line, column)
    assert str(error).startswith(f"`{path}`, line {line}, column {column}: ")
    assert word in error.problem


def test_corpus_is_large() -> None:
    """The corpus has at least sixty malformed files."""
    assert len(CORPUS) >= 60


@pytest.mark.parametrize("name", ["missing.toml", "policies.yaml", "."])
def test_no_policies(tmp_path: Path, name: str) -> None:
    """A path without policies is refused, so that a misspelled one never means no rules."""
    (tmp_path / "policies.yaml").write_text("permit: []")
    with pytest.raises(ConfigurationError, match="no policy file"):
        PolicySet.load(tmp_path / name)


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be read, or is larger than any policy, is refused by name."""
    path = tmp_path / "policies.toml"
    path.write_text(TOML)
    monkeypatch.setattr("pep.policy.files.MAX_FILE", 10)
    with pytest.raises(PolicyFileError, match="at most 10 bytes"):
        PolicySet.load(path)

    def fail(_path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pep.policy.files.MAX_FILE", 10_000)
    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(ConfigurationError, match="Permission denied"):
        PolicySet.load(path)


def test_places_near_by() -> None:
    """A place that cannot be found is told by what surrounds it; scanning never fails."""
    for text in ("permit = [", "= 1", "permit = [1 2]", '{"a" 1}', "a", "", "[" * 5000):
        for toml in (True, False):
            places = Places(text, toml=toml)
            assert 0 <= places.of(("permit", 0, "when")) <= len(text)
            assert 0 <= places.within(("permit", 0, "when"), 5) <= len(text)
    text = "permit.\"\\u0061\\t\\\"\".'b' = 'x'\r\n[['c'.d]]\r\ne = 'y'"
    places = Places(text, toml=True)
    assert places.of(("permit", 'a\t"', "b")) == 0
    assert text[places.within(("permit", 'a\t"', "b"), 0)] == "x"
    assert text[places.within(("c", "d", 0, "e"), 0)] == "y"
    assert places.within(("c", "d", 0, "e"), 99) == text.index("'y'")


def test_one_revision(tmp_path: Path) -> None:
    """Of several files only one may state the revision."""
    for name in "ab":
        (tmp_path / f"{name}.toml").write_text('revision = "1"\n')
    with pytest.raises(PolicyFileError, match="another file") as caught:
        PolicySet.load(tmp_path)
    assert caught.value.path == str(tmp_path / "b.toml")


def test_errors_pickle() -> None:
    """A loading error crosses a process boundary with its place."""
    with pytest.raises(PolicyFileError) as caught:
        loads("x", path="a.toml")
    copy: Any = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  our own
    assert (str(copy), copy.line, copy.column) == (str(caught.value), 1, 2)


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode), st.booleans())
def test_fuzz(content: bytes, toml: bool) -> None:
    """Whatever the bytes, they are policies or refused within the text."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return
    error = refusal(text, toml=toml)
    if error is not None:
        assert 1 <= error.line <= text.count("\n") + 2
        assert error.column >= 1


@pytest.mark.parametrize(
    ("text", "at"),
    [("", 0), ("[]{}", 0), ("[[]]", 1), ("[][[{}]]", 4), ("[{}][]", 1)],
    ids=["none", "flat", "deep", "late", "early"],
)
def test_where_brackets_nest_deepest(text: str, at: int) -> None:
    """A file that nests too deep is complained of where it first nests as deep as anywhere."""
    assert _deepest(text) == at


def test_places_of_what_is_no_list_are_those_before() -> None:
    """Scanning stops at what separates nothing; what was found until then is told."""
    found = Places('a = [1, "x" 2]\nb = 1', toml=True)
    assert found.of(("a", 1)) == 8
    assert found.of(("b",)) == 0
