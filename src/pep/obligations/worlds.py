"""In which world a handler is called. Imports the standard library only."""

from __future__ import annotations

import sys


def on_a_loop() -> bool:
    """Tell whether this thread runs an event loop, which what blocks would hold up."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
