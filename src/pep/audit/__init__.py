"""
Where audit records go: sinks, and what a record holds.

A sink is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from pep.audit.record import Kind, Record

if TYPE_CHECKING:
    from pep.audit.file import FileSink
    from pep.audit.memory import MemorySink

__all__ = ["FileSink", "Kind", "MemorySink", "Record"]

_SINKS: Final = MappingProxyType({"FileSink": "pep.audit.file", "MemorySink": "pep.audit.memory"})


def __getattr__(name: str) -> Any:  # noqa: ANN401  a module's attribute is anything
    if name not in _SINKS:
        message = f"module `pep.audit` has no attribute `{name}`"
        raise AttributeError(message)
    return getattr(importlib.import_module(_SINKS[name]), name)
