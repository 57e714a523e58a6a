"""How answers combine, and how they are had: algorithms, several decision points as one, and one asked with care."""

from pep.compose.breaker import CircuitBreaker, CircuitOpen, CircuitState, Transition
from pep.compose.canary import CanaryPDP, Rollback
from pep.compose.combine import Algorithm, combine
from pep.compose.disagreements import Disagreement, Said, disagreements_to
from pep.compose.failover import FailoverPDP
from pep.compose.hedging import Hedge
from pep.compose.pdps import CombinedPDP
from pep.compose.resilient import ResilientPDP
from pep.compose.retrying import Retries
from pep.compose.routing import RoutingPDP
from pep.compose.shadow import ShadowPDP

__all__ = [
    "Algorithm",
    "CanaryPDP",
    "CircuitBreaker",
    "CircuitOpen",
    "CircuitState",
    "CombinedPDP",
    "Disagreement",
    "FailoverPDP",
    "Hedge",
    "ResilientPDP",
    "Retries",
    "Rollback",
    "RoutingPDP",
    "Said",
    "ShadowPDP",
    "Transition",
    "combine",
    "disagreements_to",
]
