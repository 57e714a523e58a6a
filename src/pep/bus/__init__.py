"""
Invalidation buses: an invalidation in one place reaches the others, or they drop everything.

Imports nothing but the seam and the bus within one process; `pep.bus.redis` has the one between processes.
"""

from __future__ import annotations

from pep.bus.local import LocalBus
from pep.bus.seam import EVERYTHING, Bus, Floor, Subscription
from pep.errors import PublishError

__all__ = ["EVERYTHING", "Bus", "Floor", "LocalBus", "PublishError", "Subscription"]
