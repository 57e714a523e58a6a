"""How much memory this process holds, as the platform tells it. Imports the standard library only."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Final

_STATUS: Final = Path("/proc/self/status")
# What `getrusage` counts in, in bytes.
_UNIT: Final = 1 if sys.platform == "darwin" else 1024


def peak() -> float:
    """Return the most memory it has held so far, in megabytes."""
    # The peak that `getrusage` tells begins with that of the process it was started from.
    told = _told("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT / 2**20 if told is None else told


def resident() -> float:
    """Return the memory it holds now, in megabytes; its peak where the platform does not tell."""
    told = _told("VmRSS")
    return peak() if told is None else told


def _told(name: str) -> float | None:
    if not _STATUS.exists():
        return None
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")), None)
