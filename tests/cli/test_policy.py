"""The `pep policy` commands."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import pep.cli
from pep import AccessRequest, Resource, Subject
from pep.cli import showing
from pep.cli.app import app

POLICIES = """
revision = "7"
[[permit]]
id = "owners"
action = ["read", "edit"]
resource = "document"
when = "resource.owner == subject.id"
reason = "it is theirs [really]"
[[permit]]
id = "readers"
action = "read"
resource = "document"
when = "subject.roles.contains('reader') & (context.level <= 3)"
unless = "has(resource.secret)"
reason = "they read"
"""
CASES = """
[[case]]
name = "ann edits hers"
subject = "user:ann"
action = "edit"
resource = { type = "document", id = "1", properties = { owner = "ann" } }
expect = "permit"
"""
ANN = {"type": "user", "id": "ann", "properties": {"roles": ["reader"]}}
ASKED = ["--subject", "user:ann", "--action", "edit", "--resource"]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Policies with a case, in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.toml").write_text(POLICIES)
    (tmp_path / "p.test.toml").write_text(CASES)
    return tmp_path


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written goes to a terminal with colours."""
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["policy", *arguments])


def request(owner: str) -> str:
    return json.dumps(
        AccessRequest(Subject("user", "ann"), "edit", Resource("document", "1", {"owner": owner})).to_dict()
    )


def test_check_of_sound_policies(files: Path) -> None:
    """Policies without findings pass, and are counted."""
    result = run("check", "p.toml")
    assert (result.exit_code, result.stdout) == (0, "2 rules, 0 errors, 0 warnings\n")


@pytest.mark.parametrize(
    ("rule", "code", "strict", "found"),
    [
        ("[[permit]]\nid = 'x'\naction = 'a'", 0, 1, "warning  x  no-reason"),
        ("[[permit]]\nid = 'x'\nreason = 'y'\nwhen = 'resource.a < resource.a'", 1, 1, "error  x  unreachable"),
    ],
)
def test_check_finds(files: Path, rule: str, code: int, strict: int, found: str) -> None:
    """Errors fail the check, warnings do so if told to."""
    (files / "p.toml").write_text(POLICIES + rule)
    result = run("check", "p.toml")
    assert result.exit_code == code
    assert found in result.stdout
    assert result.stdout.splitlines()[-1].startswith("3 rules, ")
    assert run("check", "p.toml", "--strict").exit_code == strict
    assert run("check", "p.toml", "--json").exit_code == code


def test_check_as_json(files: Path) -> None:
    """A program reads the revision and every finding."""
    (files / "p.toml").write_text('revision = "7"\n[[permit]]\nid = "x"')
    told = json.loads(run("check", ".", "--json").stdout)
    assert (told["revision"], told["rules"]) == ("7", 1)
    assert [(one["rule"], one["severity"], one["code"]) for one in told["findings"]] == [("x", "warning", "no-reason")]


def test_explain_in_a_pipe(files: Path) -> None:
    """The explanation has each part of each rule, and the attributes that were missing."""
    subject, resource = json.dumps(ANN), json.dumps({"type": "document", "id": "1", "properties": {"owner": "bob"}})
    asked = ["--subject", subject, "--action", '{"name": "read"}', "--resource", resource]
    result = run("explain", "p.toml", *asked)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "indeterminate, decided by readers (revision 7)"
    assert "        unknown context.level <= 3 (missing: context.level)" in result.stdout.splitlines()
    result = run("explain", "p.toml", *asked, "--context", '{"level": 1}')
    assert result.stdout.startswith(
        "permit, decided by readers (revision 7)\n* permit `readers` applies: true: they read"
    )


def test_explain_on_a_terminal(files: Path, terminal: None) -> None:
    """A terminal gets a coloured table, with brackets as they are."""
    result = run("explain", "p.toml", *ASKED, "document:1")
    assert "\x1b[" in result.stdout
    assert "it is theirs [really]" in result.stdout
    assert "missing: resource.owner" in result.stdout
    assert result.stdout.splitlines()[-1] == "indeterminate, decided by owners (revision 7)"
    result = run("explain", "p.toml", "--subject", "user:ann", "--action", "read", "--resource", '{"type": "document"}')
    assert "unless" in result.stdout
    assert "no rule" in run("explain", "p.toml", *ASKED, "report:1").stdout


def test_explain_as_json(files: Path) -> None:
    """A program reads the tree; a resource without an id is a new one."""
    told = json.loads(run("explain", "p.toml", *ASKED, '{"type": "document"}', "--json").stdout)
    assert told["effect"] == "indeterminate"
    assert told["candidates"][0]["when"]["missing"] == ["resource.owner"]


def test_explain_at_a_moment(files: Path) -> None:
    """Rules that read the clock are explained at the moment that is asked for, or now."""
    (files / "p.toml").write_text("[[permit]]\nid = 'x'\nwhen = \"now.before('2001-01-01T00:00:00Z', skew=0)\"")
    asked = ["explain", "p.toml", *ASKED, "document:1"]
    assert run(*asked, "--now", "2000-01-01T00:00:00Z").stdout.startswith("permit")
    assert run(*asked).stdout.startswith("not_applicable, decided by no rule")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--subject", "ann", "--action", "edit", "--resource", "d:1"], "not of the form `TYPE:ID`"),
        (["--subject", "{", "--action", "edit", "--resource", "d:1"], "`--subject` is no JSON"),
        (["--subject", "{}", "--action", "edit", "--resource", "d:1"], "`type` is missing"),
        (["--subject", "u:1", "--action", "", "--resource", "d:1"], "must not be empty"),
        ([*ASKED, "d:1", "--context", "[]"], "the context must be a mapping"),
        ([*ASKED, "d:1", "--context", "{"], "`--context` is no JSON"),
        ([*ASKED, "d:1", "--now", "noon"], "`--now` must be a date and time"),
        (["--subject", "u:1"], "Missing option"),
    ],
)
def test_explain_of_what_is_no_request(files: Path, arguments: list[str], problem: str) -> None:
    """Arguments that make no request are bad usage, told in a line."""
    result = run("explain", "p.toml", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert problem in result.stderr
    assert "Traceback" not in result.stderr


def test_test_of_policies_that_do_as_expected(files: Path) -> None:
    """Cases that pass end well; what they do not exercise is told."""
    result = run("test", "p.toml")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "passed  ann edits hers  p.test.toml:2",
        "never applied  readers",
        "never false  owners  when  resource.owner == subject.id",
        "never true or false  readers  when  subject.roles.contains('reader')",
        "never true or false  readers  when  context.level <= 3",
        "never true or false  readers  unless  has(resource.secret)",
        "1 of 1 cases passed",
        "1 of 2 rules applied, 1 of 8 values of comparisons seen",
    ]


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_test_of_policies_that_do_not(files: Path, flags: tuple[str, ...]) -> None:
    """A case that misses fails the command, and says what was decided instead."""
    (files / "p.test.toml").write_text(CASES.replace('"permit"', '"deny"'))
    result = run("test", ".", *flags)
    assert result.exit_code == 1
    assert "expected deny, decided permit" in result.stdout


def test_test_as_json(files: Path, terminal: None) -> None:
    """A program reads results and coverage, on a terminal as well."""
    told = json.loads(run("test", "p.toml", "--json").stdout)
    assert told["passed"] is True
    assert told["coverage"]["rules_not_seen"] == ["readers"]


def test_diff_in_a_pipe(files: Path) -> None:
    """Each change is a line, with both answers; without changes there is only their number."""
    (files / "new.toml").write_text(POLICIES.replace("resource.owner == subject.id", "resource.owner != subject.id"))
    (files / "asked").write_text(f"{request('ann')}\n{request('bob')}\n")
    result = run("diff", "p.toml", "new.toml", "--requests", "asked")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "1  user:ann  edit  document:1  permit by owners  not_applicable",
        "2  user:ann  edit  document:1  not_applicable  permit by owners",
        "2 of 2 decisions change",
    ]
    assert run("diff", "p.toml", "new.toml", "--requests", "asked", "--fail-on-change").exit_code == 1
    same = run("diff", "p.toml", "p.toml", "--requests", "asked", "--fail-on-change")
    assert (same.exit_code, same.stdout) == (0, "0 of 2 decisions change\n")


@pytest.mark.parametrize("owners", [[], ["ann"], ["ann", "bob", "cy"]])
def test_diff_as_json(files: Path, owners: list[str]) -> None:
    """A program reads one object: the revisions, the changes and the counts."""
    (files / "new.toml").write_text("revision = '8'\n[[deny]]\nid = 'no'\nobligations = [{ type = 'log' }]")
    (files / "asked").write_text("\n".join(map(request, owners)))
    told = json.loads(run("diff", "p.toml", "new.toml", "--requests", "asked", "--json").stdout)
    assert (told["old"], told["new"], told["requests"], told["complete"]) == ("7", "8", len(owners), True)
    assert [one["line"] for one in told["changes"]] == list(range(1, len(owners) + 1))
    assert all(one["new"] == {"effect": "deny", "policies": ["no"], "obligations": ["log"]} for one in told["changes"])


def test_diff_says_what_it_cannot_know(files: Path) -> None:
    """An audit log masks values: that such a comparison is incomplete is said plainly, and counted."""
    record = {
        "schema": "pep.audit/1", "kind": "decision", "effect": "permit", "subject": {"type": "user", "id": "ann"},
        "action": "edit", "resource": {"type": "document", "id": "\x1b[31m", "omitted": ["owner"]},
    }  # fmt: skip
    (files / "new.toml").write_text("[[deny]]\nid = 'no'\nobligations = [{ type = 'log' }]")
    (files / "log").write_text(
        json.dumps(record) + "\n" + json.dumps({"schema": "pep.audit/1", "kind": "decision", "asked": 3}) + "\n"
    )
    told = run("diff", "p.toml", "new.toml", "--requests", "log").stdout.splitlines()
    assert told[0] == "1  user:ann  edit  document:\\x1b[31m  indeterminate by owners  deny by no with log"
    assert told[1] == "1 of 1 decisions change"
    assert told[2].startswith("incomplete: the audit log masks 1 attributes of 1 requests; both versions decide those")
    assert told[3].startswith("incomplete: 1 records tell of no decision on a single request")


def test_a_table_is_bounded(files: Path, terminal: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table on a terminal has so many rows at most, and says how many there are besides."""
    monkeypatch.setattr(showing, "MAX_SHOWN", 2)
    (files / "new.toml").write_text("[[deny]]\nid = 'no'")
    (files / "asked").write_text("\n".join([request("ann")] * 5))
    told = run("diff", "p.toml", "new.toml", "--requests", "asked").stdout
    assert told.count("user:ann") == 2
    assert "... and 3 more" in told
    assert "5 of 5 decisions change" in told


def test_a_table_without_rows_is_none(files: Path, terminal: None) -> None:
    """Where there is nothing to list, a terminal gets the summary alone."""
    assert run("check", "p.toml").stdout == "2 rules, 0 errors, 0 warnings\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "bad.toml"],
        ["explain", "bad.toml", *ASKED, "d:1"],
        ["test", "bad.toml"],
        ["diff", "bad.toml", "p.toml", "--requests", "asked"],
        ["diff", "p.toml", "bad.toml", "--requests", "asked", "--json"],
    ],
)
def test_files_that_do_not_load(files: Path, arguments: list[str]) -> None:
    """What is wrong with a file is told as file, line and column, without a traceback."""
    (files / "bad.toml").write_text('[[permit]]\nid = "x"\nwhen = "resource.a == open(1)"\n')
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("bad.toml:3:")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["check", "none.toml"], "`none.toml` is no policy file"),
        (["diff", "p.toml", "p.toml", "--requests", "none"], "cannot read `none`"),
        (["diff", "p.toml", "p.toml", "--requests", "p.toml"], "p.toml:2:1: this is no JSON"),
        (["check"], "Missing argument"),
        (["forbid"], "No such command"),
    ],
)
def test_bad_usage(files: Path, arguments: list[str], problem: str) -> None:
    """A file that is not there, or an argument that is missing, exits with 2."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert problem in result.stderr


def test_policies_without_cases(files: Path) -> None:
    """Policies without a case fail the command: nothing was tested."""
    (files / "p.test.toml").unlink()
    result = run("test", "p.toml")
    assert result.exit_code == 2
    assert "there are no cases for `p.toml`; write `[[case]]` in `p.test.toml`" in result.stderr


@pytest.mark.parametrize("watched", [True, False])
def test_progress_is_for_terminals(files: Path, watched: bool) -> None:
    """A bar is shown on standard error where that is a terminal; what is written to a pipe stays as it is."""
    environment = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    environment |= {"PYTHONPATH": str(Path(pep.cli.__file__).parents[2]), "TERM": "xterm"}
    main, worker = pty.openpty()
    program = [sys.executable, "-c", "from pep.cli import main; main()", "policy", "test", "p.toml"]
    done = subprocess.run(
        program, check=True, stdout=subprocess.PIPE, stderr=worker if watched else subprocess.PIPE, env=environment
    )
    os.close(worker)
    assert done.stdout.splitlines()[-2] == b"1 of 1 cases passed"
    assert b"\x1b" not in done.stdout
    if watched:
        assert b"cases" in os.read(main, 4096)
    else:
        assert done.stderr == b""
    os.close(main)
