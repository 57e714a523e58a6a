"""Tests that the documentation shows: collected and run by pytest, as a reader would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


def run(page: str, folder: Path) -> str:
    """Run the code of a page, without its sessions, as a file of tests; return what pytest says."""
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    code = "\n".join(block for block in blocks if not block.startswith(">>>"))
    (folder / "test_page.py").write_text(f"import pep\n{code}", encoding="utf-8")
    plugins = ["-p", "pep.testing.pytest_plugin", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *plugins, "test_page.py"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False, text=True, timeout=60)
    return done.stdout


@pytest.mark.parametrize(
    ("page", "result", "told"),
    [
        ("tutorial/testing.md", "2 passed", ""),
        ("tutorial/coverage.md", "1 failed", "shop.refund"),  # a function that somebody forgot
    ],
)
def test_documented_tests_come_out_as_described(page: str, result: str, told: str, tmp_path: Path) -> None:
    """The tests a page shows pass; one that insists on coverage fails for what was forgotten."""
    output = run(page, tmp_path)
    assert result in output.splitlines()[-1]
    assert told in output
