"""The `pep audit` commands that read: tail, query, stats and convert."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pep import Enforcer, Resource, Subject
from pep.audit import FileSink
from pep.cli import audit
from pep.cli.showing import MAX_SHOWN
from pep.policy import PolicySet, permit
from tests.audit.formats import test_cef, test_cloudevents, test_ecs, test_ocsf

#: What must never reach a terminal as it is.
EVIL = "[red]\x1b[31m\u202e\u2028\n\x07[/red]"
SHOWN = "[red]\\x1b[31m\\u202e\\u2028\\n\\x07[/red]"
MAIN = [sys.executable, "-c", "from pep.cli.audit import app; app()"]
#: The same where a shell had it ignore interrupts, as it does for what runs in the background.
HEEDING = [*MAIN[:2], f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {MAIN[2]}"]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log in the working directory: three records, of which one is a denial."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "audit.jsonl"
    path.write_text(line(1) + line(2, outcome="denied", fault="timeout", subject=EVIL, action="edit") + line(3))
    return path


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written goes to a terminal with colours."""
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "250"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)


def line(number: int, *, subject: str = "ann", **fields: Any) -> str:
    """A record, a second after the one before."""
    record = {
        "schema": "pep.audit/1",
        "kind": "decision",
        "id": f"0199a1b2-c3d4-7e5f-8a6b-{number:012x}",
        "time": f"2026-01-01T00:00:{number:02}.000000Z",
        "enforcer": "wiki",
        "subject": {"type": "user", "id": subject},
        "action": "read",
        "resource": {"type": "page", "id": str(number)},
        "outcome": "permitted",
    }
    return json.dumps(record | fields) + "\n"


def run(*arguments: str) -> Any:
    return CliRunner().invoke(audit.app, list(arguments))


def damage(path: Path) -> None:
    """Put something that is no record in front of the last one, and cut that short."""
    first, second, third = path.read_text().splitlines(keepends=True)
    path.write_text(first + second + '{"schema":"pep.audit/9"}\n' + "\x1b[31mgarbage\n" + third + '{"schema":"pep')


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), [1, 2, 3]),
        (("--subject", "user:ann"), [1, 3]),
        (("--subject", f"user:{EVIL}"), [2]),
        (("--action", "page:*"), [1, 2, 3]),
        (("--action", "edit"), [2]),
        (("--resource", "page:3"), [3]),
        (("--outcome", "denied"), [2]),
        (("--outcome", "withheld"), []),
        (("--kind", "decision"), [1, 2, 3]),
        (("--kind", "gap"), []),
        (("--since", "2026-01-01T00:00:02Z"), [2, 3]),
        (("--until", "2026-01-01T00:00:02"), [1]),
        (("--since", "2026-01-01", "--until", "2026-01-02"), [1, 2, 3]),
        (("--limit", "2"), [1, 2]),
        (("--limit", "1", "--outcome", "permitted", "--since", "2026-01-01T01:00:03+01:00"), [3]),
    ],
)
def test_query(log: Path, arguments: tuple[str, ...], expected: list[int]) -> None:
    """Records are found by who, what, when and what came of it, and written as they stand in the file."""
    result = run("query", "audit.jsonl", "--json", *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = log.read_text().splitlines()
    assert result.stdout.splitlines() == [lines[number - 1] for number in expected]


def test_query_in_a_pipe(log: Path) -> None:
    """A line tells a record, with nothing in it that breaks a line or steers a terminal."""
    result = run("query", "audit.jsonl")
    assert result.stdout.splitlines() == [
        "2026-01-01T00:00:01.000000Z  decision  permitted  user:ann  read  page:1",
        f"2026-01-01T00:00:02.000000Z  decision  denied  user:{SHOWN}  edit  page:2  timeout",
        "2026-01-01T00:00:03.000000Z  decision  permitted  user:ann  read  page:3",
    ]


@pytest.mark.parametrize("command", ["query", "tail", "stats"])
def test_ids_are_no_markup(log: Path, terminal: None, command: str) -> None:
    """On a terminal too an id is shown, not obeyed."""
    result = run(command, "audit.jsonl")
    assert result.exit_code == 0
    assert SHOWN in result.stdout
    assert not {"\u202e", "\u2028", "\x07"} & set(result.stdout)


def test_unsafe_lines_are_written_safely(log: Path) -> None:
    """A record that somebody else wrote, with raw characters in it, is written as JSON that steers nothing."""
    record = json.loads(line(1, subject=EVIL))
    log.write_text(json.dumps(record, ensure_ascii=False).replace(": ", ":\t") + "\n")
    for command in ("query", "tail", "stats"):
        result = run(command, "audit.jsonl", "--json")
        assert result.stdout.rstrip("\n").isprintable()
        assert json.loads(result.stdout) == record or command == "stats"


@pytest.mark.parametrize(
    "arguments",
    [("tail",), ("tail", "--json"), ("query",), ("query", "--json"), ("stats",), ("convert", "--to", "cef")],
)
def test_damage_is_told_and_read_over(log: Path, arguments: tuple[str, ...]) -> None:
    """What is no record is told with file, line and offset; the others are shown, and the exit status is 1."""
    damage(log)
    result = run(arguments[0], "audit.jsonl", *arguments[1:])
    assert result.exit_code == 1
    offsets = [len(part) for part in log.read_text().splitlines(keepends=True)]
    told = result.stderr.splitlines()
    assert told[0] == f"audit.jsonl:3:{sum(offsets[:2])}: not a record of `pep.audit/1`"
    assert told[1].startswith(f"audit.jsonl:4:{sum(offsets[:3])}: not JSON")
    assert told[2].startswith(f"audit.jsonl:6:{sum(offsets[:5])}: torn")
    assert told[3:] == ["damaged lines left out: 3"]
    assert "\x1b" not in result.stderr
    if arguments[0] != "stats":
        assert len(result.stdout.splitlines()) == 3


def test_names_of_files_are_shown_safely(tmp_path: Path) -> None:
    """A file may be called anything; telling of it breaks no line."""
    path = tmp_path / "a\nb\x1b.jsonl"
    path.write_text("x\n")
    result = run("stats", str(path))
    assert len(result.stderr.splitlines()) == 2
    assert "a\\nb\\x1b.jsonl:1:0" in result.stderr


@pytest.mark.parametrize("command", ["tail", "query", "stats", "convert"])
def test_no_such_file(tmp_path: Path, command: str) -> None:
    """A file that is not there is bad usage."""
    result = run(command, str(tmp_path / "none.jsonl"), *(["--to", "ecs"] if command == "convert" else []))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "none.jsonl" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("query", "--outcome", "permited"),
        ("query", "--kind", "decisions"),
        ("query", "--since", "yesterday"),
        ("query", "--limit", "0"),
        ("tail", "--lines", "-1"),
        ("stats", "--top", "0"),
        ("convert",),
        ("convert", "--to", "xml"),
    ],
)
def test_bad_usage(log: Path, arguments: tuple[str, ...]) -> None:
    """A misspelled value is an error, not an empty answer."""
    result = run(arguments[0], "audit.jsonl", *arguments[1:])
    assert (result.exit_code, result.stdout) == (2, "")


def test_tail(log: Path) -> None:
    """The last records come last."""
    result = run("tail", "audit.jsonl", "-n", "1")
    assert result.stdout == "2026-01-01T00:00:03.000000Z  decision  permitted  user:ann  read  page:3\n"
    assert run("tail", "audit.jsonl", "-n", "0").stdout == ""


def test_tail_colours_denials(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was not let through stands out, and so does a gap."""
    log.write_text(line(1) + line(2, outcome="denied") + line(3, kind="gap", outcome=None, lost=4))
    monkeypatch.setenv("FORCE_COLOR", "1")
    lines = CliRunner().invoke(audit.app, ["tail", "audit.jsonl"], color=True).stdout.splitlines()
    assert ["\x1b[31m" in one for one in lines] == [False, True, True]


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_following_ends_when_interrupted(
    log: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """What is appended is shown until an interrupt, which is no error; damage still is."""
    appended = [line(4), "garbage\n" + line(5)]

    def slept(_seconds: float) -> None:
        if not appended:
            raise KeyboardInterrupt
        with log.open("a") as file:
            file.write(appended.pop(0))

    monkeypatch.setattr("time.sleep", slept)
    result = run("tail", "audit.jsonl", "-n", "1", "--follow", *arguments)
    assert len(result.stdout.splitlines()) == 3
    assert "page:5" in result.stdout or '"0199a1b2-c3d4-7e5f-8a6b-000000000005"' in result.stdout
    assert result.stderr.splitlines()[0].startswith("audit.jsonl:5:")
    assert result.exit_code == 1


def test_a_signal_ends_following(log: Path) -> None:
    """Control-C ends it without a traceback, and with success."""
    with subprocess.Popen(
        [*HEEDING, "tail", str(log), "-n", "1", "--follow"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline().endswith("page:3\n")
            process.send_signal(signal.SIGINT)
            rest, told = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (rest, told.strip(), process.returncode) == ("", "", 0)


@pytest.mark.parametrize("arguments", [("query",), ("query", "--json"), ("convert", "--to", "ocsf")])
def test_a_reader_that_has_enough(log: Path, arguments: tuple[str, ...]) -> None:
    """Whoever reads the first lines only, such as `head`, causes no traceback."""
    log.write_text(line(1) * 20_000)
    with subprocess.Popen(
        [*MAIN, arguments[0], str(log), *arguments[1:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr
        told = process.stderr.read()
        process.wait(60)
    assert (told, process.returncode) == ("", 0)


@pytest.mark.parametrize(("command", "inside"), [("stats", "Stats.add"), ("tail", "_show")])
def test_an_interrupt_is_no_success(log: Path, monkeypatch: pytest.MonkeyPatch, command: str, inside: str) -> None:
    """Only following is ended by an interrupt as it should be; everything else is cut short by it."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"pep.cli.audit.{inside}", interrupted)
    result = run(command, "audit.jsonl")
    assert result.exit_code != 0
    assert result.stdout == ""


def test_stats(log: Path) -> None:
    """Counts come by section, as lines or as JSON."""
    told = json.loads(run("stats", "audit.jsonl", "--json").stdout)
    assert (told["records"], told["seconds"], told["per_second"], told["damaged"]) == (3, 2.0, 1.5, 0)
    assert (told["outcomes"], told["faults"]) == ({"permitted": 2, "denied": 1}, {"timeout": 1})
    lines = run("stats", "audit.jsonl", "--top", "1").stdout.splitlines()
    assert {"records  3", "seconds  2.000", "subjects  user:ann  2", "actions  read  2", "gaps  lost  0"} <= set(lines)
    assert not any(one.startswith("actions  edit") for one in lines)


def test_stats_of_an_empty_log(log: Path) -> None:
    """Nothing to count is no error, and nothing to divide by."""
    log.write_text("")
    result = run("stats", "audit.jsonl")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "records  0"


def test_stats_name_what_is_approximate(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts that are too low are named as such."""
    monkeypatch.setattr("pep.cli.audit.Stats.to_dict", lambda *_: {"approximate": ["subjects"], "first": None})
    assert run("stats", "audit.jsonl").stdout.splitlines() == ["approximate  subjects", "damaged  0"]


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("ocsf", lambda one: test_ocsf.check_event(json.loads(one))),
        ("ecs", lambda one: test_ecs.check(json.loads(one))),
        ("cloudevents", lambda one: test_cloudevents.check(json.loads(one))),
        ("cef", test_cef.check),
    ],
)
def test_convert(log: Path, name: str, check: Any) -> None:
    """A record becomes one line of another format, by the rules of that format."""
    result = run("convert", "audit.jsonl", "--to", name)
    lines = result.stdout.split("\n")[:-1]
    assert (result.exit_code, len(lines)) == (0, 3)
    for one in lines:
        check(one)


def test_a_long_table_is_cut(log: Path, terminal: None) -> None:
    """A terminal gets as many rows as it can bear, and the number of the others."""
    log.write_text(line(1) * (MAX_SHOWN + 5))
    assert "... and 5 more" in run("query", "audit.jsonl").stdout


def test_what_a_file_sink_wrote(tmp_path: Path) -> None:
    """The log of an enforcer reads back: shown, found, counted and converted."""
    path = tmp_path / "audit.jsonl"
    enforcer = Enforcer(PolicySet([permit("all-read", action="read")], revision="7"), audit=FileSink(path), name="wiki")
    for action in ("read", "edit", "read"):
        enforcer.check(action, Resource("page", "home"), subject=Subject("user", "ann"))
    enforcer.close()
    assert len(run("query", str(path), "--kind", "check", "--subject", "user:ann").stdout.splitlines()) == 3
    assert "page:home" in run("query", str(path), "--outcome", "denied").stdout
    assert json.loads(run("stats", str(path), "--json").stdout)["checks"] == {"permitted": 2, "denied": 1}
    assert "close" in run("tail", str(path), "-n", "1").stdout
    for name in ("ocsf", "ecs", "cef", "cloudevents"):
        result = run("convert", str(path), "--to", name)
        assert (result.exit_code, result.stderr) == (0, "")
