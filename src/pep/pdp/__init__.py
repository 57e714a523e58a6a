"""Who answers: policy decision points, one module per engine."""

from __future__ import annotations

from pep.pdp.function import FunctionPDP

__all__ = ["FunctionPDP"]
