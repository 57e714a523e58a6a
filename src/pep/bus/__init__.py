"""
Invalidation buses: an invalidation in one place reaches the others, or they drop everything.

Imports nothing but the seam and the bus within one process; `pep.bus.redis` has the one between processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pep.bus.seam import EVERYTHING, Bus, Floor, Subscription
from pep.errors import PublishError

if TYPE_CHECKING:
    from pep.bus.local import LocalBus

__all__ = ["EVERYTHING", "Bus", "Floor", "LocalBus", "PublishError", "Subscription"]


def __getattr__(name: str) -> Any:  # noqa: ANN401  a module's attribute is anything
    if name != "LocalBus":
        message = f"module `pep.bus` has no attribute `{name}`"
        raise AttributeError(message)
    from pep.bus.local import LocalBus  # noqa: PLC0415  only who has a bus pays for it

    return LocalBus
