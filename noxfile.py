"""The test suite on every supported Python that this machine has."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import nox

SUPPORTED: Final = ("3.10", "3.11", "3.12", "3.13")
PROJECT: Final = nox.project.load_toml("pyproject.toml")


def folders() -> list[str]:
    """Where interpreters may lie: on the path, and under pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return [*os.environ["PATH"].split(os.pathsep), *sorted(map(str, pyenv.glob("versions/*/bin")))]


def interpreter(version: str) -> str | None:
    """Return the first interpreter of *version* that runs; one of pyenv's shims may not."""
    candidates = (shutil.which(f"python{version}", path=folder) for folder in folders())
    return next((found for found in candidates if found and runs(found)), None)


def runs(executable: str) -> bool:
    """Whether *executable* starts at all."""
    return subprocess.run([executable, "-c", ""], check=False, capture_output=True).returncode == 0


FOUND: Final = {version: path for version in SUPPORTED if (path := interpreter(version))}

# nox looks for `python3.X` on the path.
os.environ["PATH"] = os.pathsep.join([*(str(Path(path).parent) for path in FOUND.values()), os.environ["PATH"]])
nox.options.default_venv_backend = "venv"
nox.options.envdir = "build/nox"


@nox.session(python=list(FOUND))
def tests(session: nox.Session) -> None:
    """Install the library as a user would, and run the tests."""
    session.install(".[cli,testing]", *nox.project.dependency_groups(PROJECT, "test"))
    spread = ("--numprocesses=auto", "--dist=loadfile")
    session.run("python", "-m", "pytest", "--quiet", *spread, *session.posargs)
