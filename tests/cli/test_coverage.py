"""The `pep coverage` command."""

from __future__ import annotations

import builtins
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import pep.cli
from pep.cli import coverage as command
from pep.cli.app import app
from tests.guard.samples import HEAD, Write, importable

NUMBERS = itertools.count()
MAIN = "from pep.cli import main; main()"
SHOP = """
@guard("read", resource="document:{id}")
def read(id): ...
@exempt(reason="health [check]")
def health(): ...
class Store:
    def alter(self): ...
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module in the working directory, with one function of three sections."""
    name = f"shop_{next(NUMBERS)}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with importable(tmp_path) as write:
        write({f"{name}.py": HEAD + SHOP})
        yield name


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    with importable(tmp_path) as write:
        yield write


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["coverage", *arguments])


def test_a_pipe_gets_a_line_each(shop: str) -> None:
    """Without a terminal every function is one plain line, and the last one counts."""
    result = run(shop)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"guarded  {shop}.read  read  sample  {shop}.py:6",
        f"exempt  {shop}.health  sample  {shop}.py:8  health [check]",
        f"unguarded  {shop}.Store.alter  {shop}.py:11",
        "1 guarded, 0 application-level, 1 exempt, 1 unguarded, 0 failed, 0 not-enforced, 0 warnings",
    ]


def test_a_terminal_gets_a_coloured_table(
    shop: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal there is a table, in colour, with every name as it is."""
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    command.coverage([shop])
    shown = capsys.readouterr().out
    assert "\x1b[" in shown
    assert "health [check]" in shown
    assert f"{shop}.Store.alter" in shown


def test_json_is_the_whole_report(shop: str) -> None:
    """With `--json` a program reads sections and entries."""
    told = json.loads(run(shop, "--json").stdout)
    assert [entry["name"] for entry in told["guarded"]] == [f"{shop}.read"]
    assert told["exempt"][0]["note"] == "health [check]"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("def run(): ...", 1),
        ("raise SystemExit", 1),
        ("@exempt(reason='r')\ndef run(): ...", 0),
        ("@guard('run')\ndef run(): ...", 0),
        ("def _run(): ...", 0),
    ],
)
@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_fails_where_anything_is_unguarded(write: Write, text: str, code: int, flags: tuple[str, ...]) -> None:
    """With `--fail-unguarded` the command fails when anything is unguarded, or hidden by a failed import."""
    name = f"failing_{next(NUMBERS)}"
    write({f"{name}/__init__.py": "", f"{name}/module.py": HEAD + text})
    assert run(name, "--fail-unguarded", *flags).exit_code == code
    assert run(name, *flags).exit_code == 0


@pytest.mark.parametrize("arguments", [(), ("no_such_package",), ("json", "no_such_package")])
def test_a_package_that_is_not_there_is_an_error(arguments: tuple[str, ...]) -> None:
    """A misspelled name, or none, is an error of its own, told without a traceback."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_files_elsewhere_are_told_in_full(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file outside of the working directory is told by its full path, an unknown one not at all."""
    name = f"elsewhere_{next(NUMBERS)}"
    folder = write({f"{name}/__init__.py": "def run(): ...\n", f"{name}/broken.py": "1 / 0", "empty/x": ""})
    monkeypatch.chdir(folder / "empty")
    assert run(name).stdout.splitlines()[:2] == [
        f"unguarded  {name}.run  {tmp_path / name / '__init__.py'}:1",
        f"failed  {name}.broken  ZeroDivisionError: division by zero",
    ]


def test_runs_as_a_program(shop: str, tmp_path: Path) -> None:
    """The installed command finds packages in the working directory, and hands its exit code on."""
    environment = {**os.environ, "PYTHONPATH": str(Path(pep.cli.__file__).parents[2])}
    arguments = [sys.executable, "-P" if sys.version_info >= (3, 11) else "-B", "-c", MAIN]
    found = subprocess.run(
        [*arguments, "coverage", shop, "--fail-unguarded"],
        check=False, capture_output=True, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (1, "")
    assert f"unguarded  {shop}.Store.alter" in found.stdout


def test_main_runs_the_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command the help is shown."""
    monkeypatch.setattr(sys, "argv", ["pep", "--help"])
    with pytest.raises(SystemExit) as ended:
        pep.cli.main()
    assert ended.value.code == 0
    assert "coverage" in capsys.readouterr().out


def missing(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Let a module be not installed."""
    real = builtins.__import__

    def fake(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == module:
            raise ModuleNotFoundError(name=name)
        return real(name, *rest)

    for name in ("pep.cli.app", "pep.cli.coverage"):
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(pep.cli, name.rpartition(".")[2])
    monkeypatch.setattr(builtins, "__import__", fake)


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_a_missing_extra_is_named(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the extra the command says what to install, without a traceback."""
    missing(monkeypatch, module)
    with pytest.raises(SystemExit) as ended:
        pep.cli.main()
    assert ended.value.code == 2
    assert "install `pep[cli]`" in capsys.readouterr().err


def test_another_missing_module_is_not_blamed_on_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing beside the extra is an error as any other."""
    missing(monkeypatch, "orjson")
    with pytest.raises(ModuleNotFoundError):
        pep.cli.main()
