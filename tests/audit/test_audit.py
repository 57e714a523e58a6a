from __future__ import annotations

import os
import subprocess
import sys
from types import ModuleType

import pytest

from pep import audit


def test_every_public_name_is_there() -> None:
    """Every name the package promises can be had from it, also those that are imported when asked for."""
    assert audit.__all__ == sorted(audit.__all__)
    for name in audit.__all__:
        assert getattr(audit, name).__name__ == name
        assert not isinstance(getattr(audit, name), ModuleType)


def test_verify_is_a_function_however_often_it_is_asked_for() -> None:
    """No module of the package hides a name the package promises."""
    assert [getattr(audit, "verify").__name__ for _ in "ab"] == ["verify", "verify"]  # noqa: B009  by name, like others


PROBE = "import sys; before = set(sys.modules); import pep.audit; print(*set(sys.modules) - before)"


def test_importing_it_imports_no_adapter() -> None:
    """Sinks are imported when they are asked for, and with them what they need."""
    # Coverage of the process would import what it needs itself.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-c", PROBE]
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.split()
    core = {"pep", "attr", "attrs", "cachetools", "orjson", "typing_extensions"}
    assert {name.partition(".")[0] for name in found} - sys.stdlib_module_names - core == set()
    assert not {"pep.audit.sqlite", "pep.audit.redis", "pep.audit.otlp", "pep.audit.verifying", "pep.audit.file"} & set(
        found
    )


def test_unknown_names_are_told() -> None:
    """A name that is not there is an `AttributeError`, as in any module."""
    with pytest.raises(AttributeError, match=r"module `pep\.audit` has no attribute `Sink`"):
        _ = audit.Sink  # type: ignore[attr-defined]
