"""The todo application behind five engines: the same 40 calls, decided alike."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cerbos_server import program

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "engines"
OUTCOMES = {"permitted", "denied"}


def test_every_engine_decides_the_same(tmp_path: Path) -> None:
    """What an application is put behind is one line of it, and changes nothing else."""
    command = [sys.executable, str(EXAMPLE / "compare.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if "permitted" in line or "denied" in line]
    engines = 5 if program() is not None else 4
    assert len(rows) == 40
    assert {len(OUTCOMES & {cell}) for row in rows for cell in row[-engines:]} == {1}
    assert f"{engines} engines, 0 calls on which they differ" in done.stdout


def test_an_outage_keeps_its_promises(tmp_path: Path) -> None:
    """Cerbos is killed twice under load: every call in time and by its profile, and every opening on record."""
    if program() is None:
        pytest.skip("Cerbos is not here; run `make engines`")
    command = [sys.executable, str(EXAMPLE / "outage.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "BROKEN" not in done.stdout
    assert done.stdout.count("held") == 10
