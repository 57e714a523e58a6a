"""What every test may use: the published conformance vectors, and a patient Hypothesis."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

#: The repository.
ROOT = Path(__file__).resolve().parent.parent

# How fast an example runs tells about the machine, not about the library.
settings.register_profile("pep", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pep")


@pytest.fixture(scope="session")
def vectors() -> Path:
    """Where the published conformance vectors lie; skips where there are none."""
    folder = ROOT.parent / "shared" / "vectors"
    if not folder.is_dir():
        pytest.skip("the conformance vectors are not beside the repository, in ../shared/vectors")
    return folder


def pytest_collection_finish() -> None:
    """Take what was collected out of the garbage collector's sight: tests that collect would look at all of it."""
    gc.collect()
    gc.freeze()


class Untraced:
    """Takes coverage off a thread while it forks: another may hold its lock, which the child would wait for in vain."""

    def __init__(self) -> None:
        self.tracer: Any = None

    def before(self) -> None:
        self.tracer = sys.gettrace()
        sys.settrace(None)

    def after(self) -> None:
        sys.settrace(self.tracer)


if hasattr(os, "register_at_fork") and sys.gettrace() is not None:
    UNTRACED = Untraced()
    os.register_at_fork(before=UNTRACED.before, after_in_parent=UNTRACED.after)
