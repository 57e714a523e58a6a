"""
Where audit records go: sinks, what a record holds and what it may tell, and what proves a file of them.

A sink is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from pep.audit.masking import Masking
from pep.audit.record import Kind, Record

if TYPE_CHECKING:
    from pep.audit.backlog import Overflow
    from pep.audit.buffered import BufferedSink
    from pep.audit.calling import CallableSink
    from pep.audit.checkpoint import Checkpoints
    from pep.audit.correlation import Correlation, Trace
    from pep.audit.fanout import FanOut
    from pep.audit.file import FileSink
    from pep.audit.logs import LoggingSink
    from pep.audit.memory import MemorySink
    from pep.audit.otlp import OTLPSink
    from pep.audit.redis import RedisStreamSink
    from pep.audit.sampling import Sampled
    from pep.audit.sqlite import SQLiteSink
    from pep.audit.syslog import SyslogSink
    from pep.audit.verifying import verify

__all__ = [
    "BufferedSink",
    "CallableSink",
    "Checkpoints",
    "Correlation",
    "FanOut",
    "FileSink",
    "Kind",
    "LoggingSink",
    "Masking",
    "MemorySink",
    "OTLPSink",
    "Overflow",
    "Record",
    "RedisStreamSink",
    "SQLiteSink",
    "Sampled",
    "SyslogSink",
    "Trace",
    "verify",
]

# Name → the module it lies in.
_LAZY: Final = MappingProxyType(
    {
        "BufferedSink": "buffered",
        "CallableSink": "calling",
        "Checkpoints": "checkpoint",
        "Correlation": "correlation",
        "FanOut": "fanout",
        "FileSink": "file",
        "LoggingSink": "logs",
        "MemorySink": "memory",
        "OTLPSink": "otlp",
        "Overflow": "backlog",
        "RedisStreamSink": "redis",
        "SQLiteSink": "sqlite",
        "Sampled": "sampling",
        "SyslogSink": "syslog",
        "Trace": "correlation",
        "verify": "verifying",
    }
)


def __getattr__(name: str) -> Any:  # noqa: ANN401  a module's attribute is anything
    if name not in _LAZY:
        message = f"module `pep.audit` has no attribute `{name}`"
        raise AttributeError(message)
    return getattr(importlib.import_module(f"pep.audit.{_LAZY[name]}"), name)
