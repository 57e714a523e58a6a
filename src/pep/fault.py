"""
Faults: why no usable decision was had, and which of them availability may excuse.

A closed enumeration. Imports the error tree only.
"""

from __future__ import annotations

import sys
from enum import Enum
from typing import Final

from pep.errors import (
    PDPInsecure,
    PDPMismatched,
    PDPOverloaded,
    PDPRejected,
    PDPReplyError,
    PDPTimeout,
    PDPUnavailable,
)


class Fault(Enum):
    """
    Why no usable decision was had.

    Source:
        DESIGN section 6; XACML 3.0 §7.2.2 (a deny-biased PEP treats each of them as a denial).
    """

    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    OVERLOADED = "overloaded"
    REJECTED = "rejected"
    INSECURE = "insecure"
    MALFORMED = "malformed"
    MISMATCHED = "mismatched"
    EXTRACTION = "extraction"
    ATTRIBUTES = "attributes"
    OBLIGATION = "obligation"
    AUDIT = "audit"
    REVOKED = "revoked"
    UNBOUND = "unbound"
    INTERNAL = "internal"


#: The faults of availability: only these may be excused by a failure mode.
AVAILABILITY: Final = frozenset({Fault.TIMEOUT, Fault.UNREACHABLE, Fault.OVERLOADED})

# Most specific first: the first class that matches names the fault.
_FAULTS: Final[tuple[tuple[type[BaseException], Fault], ...]] = (
    (PDPTimeout, Fault.TIMEOUT),
    (PDPOverloaded, Fault.OVERLOADED),
    (PDPUnavailable, Fault.UNREACHABLE),
    (PDPRejected, Fault.REJECTED),
    (PDPInsecure, Fault.INSECURE),
    (PDPMismatched, Fault.MISMATCHED),
    (PDPReplyError, Fault.MALFORMED),
    (TimeoutError, Fault.TIMEOUT),
    (ConnectionError, Fault.UNREACHABLE),
)

# Below Python 3.11 these are no builtin `TimeoutError`; where they are not loaded, nobody raised them.
_TIMEOUTS: Final = ("asyncio.exceptions", "concurrent.futures._base")


def fault_of(error: BaseException) -> Fault:
    """
    Name the fault an exception of a policy decision point stands for.

    Args:
        error: What the decision point raised.

    Returns:
        The fault of its class; `Fault.INTERNAL` for anything not in the table.
    """
    others = [(getattr(sys.modules.get(module), "TimeoutError", TimeoutError), Fault.TIMEOUT) for module in _TIMEOUTS]
    for kind, fault in (*_FAULTS, *others):
        if isinstance(error, kind):
            return fault
    return Fault.INTERNAL
