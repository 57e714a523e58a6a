"""How answers combine: algorithms over decisions, and several decision points as one."""

from pep.compose.combine import Algorithm, combine
from pep.compose.pdps import CombinedPDP

__all__ = ["Algorithm", "CombinedPDP", "combine"]
