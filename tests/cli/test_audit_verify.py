"""The `pep audit verify` command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from pep.audit.checkpoint import Checkpoints
from pep.audit.notes import SignerKey
from pep.audit.verifying import MAX_KEPT
from pep.cli import audit_verify as command
from tests.audit.families import Pen, hashed, name, put

KEY = SignerKey("example.com/audit", bytes(32))
LINES = Pen(name(1)).lines(12)
EDITED = [*LINES[:5], LINES[5].replace(b"user", b"uxer"), *LINES[6:]]
Run = Callable[..., Any]

app = typer.Typer()
app.command()(command.verify)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in the folder of the log."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["audit.jsonl", *map(str, arguments)])


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of checkpoints of the first lines, held elsewhere."""
    path = tmp_path_factory.mktemp("elsewhere") / "checkpoints"
    checkpoints = Checkpoints(key=KEY, to=path, every=4)
    for line in LINES[:9]:
        checkpoints.add(line)
    checkpoints.close()
    return path


def test_a_sound_log_without_a_checkpoint(run: Run, tmp_path: Path) -> None:
    """Nothing wrong is exit 0; what a chain cannot show is said."""
    put(tmp_path, {"audit.jsonl": LINES})
    result = run()
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "12 records in 1 file: nothing wrong",
        "unproven: only a checkpoint held elsewhere shows a cut-off end, or that all was written anew",
    ]
    assert result.stderr == ""


@pytest.mark.parametrize("form", ["text", "file"])
def test_a_log_is_proven_up_to_its_checkpoint(run: Run, tmp_path: Path, elsewhere: Path, form: str) -> None:
    """What is proven is counted; after which line nothing is, is said. The key may be a file."""
    put(tmp_path, {"audit.jsonl": LINES})
    key = str(KEY.verifier)
    if form == "file":
        (tmp_path / "key.pub").write_text(f"{key}\n", encoding="utf-8")
        key = "key.pub"
    result = run("--checkpoint", elsewhere, "--key", key)
    offset = sum(map(len, LINES[:8])) + 8
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "12 records in 1 file: nothing wrong",
        "proven: 9 of 12 records",
        f"unproven after audit.jsonl:9:{offset}: 3 records of writer {name(1)}",
    ]


def test_all_that_is_unusual_is_said(run: Run, tmp_path: Path, elsewhere: Path) -> None:
    """Fragments, several chains, and writers nobody vouches for."""
    fragment = b'{"schema"'
    other = [fragment, *Pen(name(2), prev=hashed(fragment)).lines(2)]
    put(tmp_path, {"audit.jsonl": [*LINES[:9], *other], f"audit.{name(3)}.jsonl": Pen(name(3)).lines(4)})
    result = run("--checkpoint", elsewhere, "--key", KEY.verifier)
    assert result.exit_code == 0
    assert sorted(result.stdout.splitlines()) == sorted([
        "15 records in 2 files: nothing wrong",
        "1 line cut short, and gone on from by their writers",
        "2 chains begin with nothing before them; one is usual",
        "proven: 9 of 15 records",
        f"unproven from its first: 2 records of writer {name(2)}",
        f"unproven from its first: 4 records of writer {name(3)}",
    ])  # fmt: skip


def test_what_is_wrong_is_told_with_its_place(run: Run, tmp_path: Path) -> None:
    """Each finding is a line with file, line and offset; exit 1."""
    put(tmp_path, {"audit.jsonl": EDITED})
    result = run()
    offset = sum(map(len, LINES[:5])) + 5
    assert result.exit_code == 1
    assert result.stdout.splitlines()[:2] == [
        f"audit.jsonl:6:{offset}  edited  it is not the line that the next one goes on from",
        "12 records in 1 file: 1 wrong",
    ]


@pytest.mark.parametrize("lines", [LINES[:7], []])
def test_a_cut_off_end_shows_against_a_checkpoint(
    run: Run, tmp_path: Path, elsewhere: Path, lines: list[bytes]
) -> None:
    """A log that is shorter than was signed is exit 1, even if nothing of it is left."""
    put(tmp_path, {"audit.jsonl": lines})
    assert run().exit_code == 0
    result = run("--checkpoint", elsewhere, "--key", KEY.verifier)
    assert result.exit_code == 1
    assert "truncated  a checkpoint counts 9 lines" in result.stdout


def test_a_forged_checkpoint_is_wrong(run: Run, tmp_path: Path, elsewhere: Path) -> None:
    """A checkpoint that its signer did not sign is a finding in its own file."""
    put(tmp_path, {"audit.jsonl": LINES})
    elsewhere.write_bytes(elsewhere.read_bytes().replace(b"\n4\n", b"\n5\n"))
    result = run("--checkpoint", elsewhere, "--key", KEY.verifier)
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{elsewhere}:1:0  forged  the signature of `example.com/audit` does not fit")
    other = run("--checkpoint", elsewhere, "--key", SignerKey("x", bytes(32)).verifier)
    assert (other.exit_code, "no checkpoint in it is signed by `x`" in other.stdout) == (1, True)
    other = run("--checkpoint", elsewhere, "--key", KEY.verifier, "--origin", "example.com/other")
    assert (other.exit_code, "of another log than `example.com/other`" in other.stdout) == (1, True)


def test_json_says_all_of_it(run: Run, tmp_path: Path, elsewhere: Path) -> None:
    """The report as JSON, the findings of checkpoints among the others."""
    put(tmp_path, {"audit.jsonl": EDITED})
    elsewhere.write_bytes(elsewhere.read_bytes().replace(b"\n4\n", b"\n5\n"))
    result = run("--json", "--checkpoint", elsewhere, "--key", KEY.verifier)
    told = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (told["intact"], told["found"], told["records"]) == (False, 4, 12)
    assert [one["wrong"] for one in told["findings"]] == ["forged", "forged", "forged", "edited"]
    assert told["findings"][3]["line"] == 6
    put(tmp_path, {"audit.jsonl": LINES})
    assert json.loads(run("--json").stdout)["intact"] is True


def test_too_many_findings_are_counted(run: Run, tmp_path: Path) -> None:
    """What is not listed is counted."""
    put(tmp_path, {"audit.jsonl": [b"?"] * (MAX_KEPT + 5)})
    assert "... and 5 more findings" in run().stdout


def test_wrong_usage(run: Run, tmp_path: Path, elsewhere: Path) -> None:
    """What cannot be verified for a reason of the caller's is exit 2, and told on standard error."""
    put(tmp_path, {"audit.jsonl": LINES})
    for arguments, problem in (
        (["--key", KEY.verifier], "go together"),
        (["--checkpoint", elsewhere], "go together"),
        (["--checkpoint", elsewhere, "--key", "nonsense"], "no Ed25519 verifier key"),
        (["--checkpoint", elsewhere, "--key", "a\0b"], "no Ed25519 verifier key"),
        (["--checkpoint", "none", "--key", KEY.verifier], "No such file"),
    ):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert problem in result.stderr
    (tmp_path / "audit.jsonl").unlink()
    assert run().exit_code == 2


def test_a_terminal_gets_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal there is a table, and a bar while it takes long."""
    for variable, value in {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "200"}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    path = put(tmp_path, {"audit.jsonl": EDITED})
    with pytest.raises(typer.Exit):
        command.verify(path)
    shown = capsys.readouterr()
    assert "\x1b[" in shown.out
    assert "edited" in shown.out
    assert "bytes" in shown.err
