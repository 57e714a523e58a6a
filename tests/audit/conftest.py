"""What several tests of audit ask for by name."""

from __future__ import annotations

from tests.audit.buffers import measured, unmeasured

__all__ = ["measured", "unmeasured"]
