"""What `import pep` may bring along."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

#: The core dependencies, by the names they are imported by; attrs has two.
CORE = {"pep", "attr", "attrs", "cachetools", "orjson", "typing_extensions"}

# Costly to import, needed by few: imported where they are used.
LAZY = ("asyncio", "tomllib", "sqlite3", "ssl", "http.client", "unittest")

PROBE = "import sys; before = set(sys.modules); import pep; print(*set(sys.modules) - before)"


@pytest.fixture(scope="module")
def imported() -> set[str]:
    """Every module `import pep` adds to a fresh interpreter."""
    # Coverage of the process would import what it needs itself.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-c", PROBE]
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return set(found.stdout.split())


def test_only_core_dependencies(imported: set[str]) -> None:
    """Importing the library imports the core dependencies and the standard library, nothing else."""
    others = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names - CORE
    assert others == set()


@pytest.mark.parametrize("name", LAZY)
def test_costly_modules_are_lazy(imported: set[str], name: str) -> None:
    """A module of the standard library that is slow to import waits until it is needed."""
    assert name not in imported


@pytest.mark.parametrize("package", ["cli", "integrations", "testing"])
def test_outer_packages_are_not_imported(imported: set[str], package: str) -> None:
    """Importing the library imports no adapter, no command line and no test tools."""
    assert not any(name == f"pep.{package}" or name.startswith(f"pep.{package}.") for name in imported)
