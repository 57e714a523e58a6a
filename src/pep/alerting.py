"""
Alerts: what only an operator can mend, told to a log, once in a while.

Imports the faults only; `logging` where there is something to tell.
"""

from __future__ import annotations

from typing import Final

from pep.fault import Fault
from pep.locks import Lock

#: How long the same alert is not repeated, in seconds.
EVERY: Final = 60.0

#: The logger that is told.
LOGGER: Final = "pep"

# The fault -> what is wrong, and the mend.
_TOLD: Final = {
    Fault.REJECTED: "refuses this enforcement point; check its URL, and the credentials it is asked with",
    Fault.INSECURE: "could not prove who it is; check its certificate, and the `ca` or `tls` it is checked with",
}


class Alerts:
    """
    Tells a log of faults that no retry mends; calls stay closed meanwhile.

    Attributes:
        told: How many alerts there were, those that were not repeated among them.
    """

    def __init__(self) -> None:
        self.told = 0
        self._last: dict[Fault, float] = {}
        self._lock = Lock()

    def tell(self, pdp: str, fault: Fault | None, now: float) -> None:
        """
        Tell of a fault, where it is one to tell of.

        Args:
            pdp: What the decision point is called.

            fault: Why it gave no decision.

            now: The time, in seconds on the monotonic clock.
        """
        if fault not in _TOLD:
            return
        with self._lock:
            self.told += 1
            last = self._last.get(fault)
            if last is not None and now - last < EVERY:
                return
            self._last[fault] = now
        import logging  # noqa: PLC0415  loaded only where there is something to tell

        logging.getLogger(LOGGER).error("decision point `%s` %s", pdp, _TOLD[fault])
