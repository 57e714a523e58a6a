"""How often a proof is repeated: enough to notice in `make test`, in full by `make prove`."""

from __future__ import annotations

import os

#: Whether proofs run with the numbers they were promised with.
IN_FULL = os.environ.get("PEP_PROVE") == "1"


def times(short: int, full: int) -> int:
    """How often to try: *short* in every test run, *full* in a proof."""
    return full if IN_FULL else short
