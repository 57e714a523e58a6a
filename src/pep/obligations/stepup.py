"""
Step-up: an obligation that demands a stronger or fresher authentication.

Imports L0, the protocols and properties only.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, final

import attrs

from pep.clock import SystemClock
from pep.errors import ConfigurationError, ObligationError
from pep.frozen import FrozenDict
from pep.model import Obligation
from pep.obligations.checks import named, tolerance
from pep.obligations.properties import Properties, Reading
from pep.protocols import Call, Clock, Phase, Rank, Refusal
from pep.verdict import Outcome

#: By how many seconds the clock of whoever authenticated may be ahead.
SKEW: Final = 60.0


@attrs.frozen(repr=False)
class _Demands:
    """What an obligation demands of an authentication; None and nothing are not demanded."""

    acr_values: tuple[str, ...]
    amr_values: tuple[str, ...]
    max_age: float | None

    def refusal(self) -> Refusal:
        """Say what would do, as RFC 9470 has it."""
        told: dict[str, Any] = {}
        if self.acr_values:
            told["acr_values"] = self.acr_values
        if self.amr_values:
            told["amr_values"] = self.amr_values
        if self.max_age is not None:
            told["max_age"] = self.max_age
        return Refusal(Outcome.STEP_UP_REQUIRED, told)


@final
class StepUp:
    """
    Refuses a call until the subject has authenticated well enough; discharges ``step-up``.

    Properties of the obligation, at least one: ``acr_values``, authentication context classes of which the subject
    needs one, the preferred first, or ``acr_value``, the only one that will do; ``amr_values``, authentication
    methods that it needs all of; ``max_age``, how long ago it may have authenticated at most, in seconds.

    They are compared with properties of the subject: a text, a list of texts, and seconds since 1970. One that is
    missing does not suffice; one of another type, or a time in the future, is a failure: authenticating again would
    not mend it.

    Args:
        levels: Authentication context classes that are ordered, the weakest first: a stronger one does too. Others
            only do where they are demanded by name.

        acr: The subject's property that holds the authentication context class.

        amr: The one that holds the authentication methods.

        auth_time: The one that holds when it authenticated.

        skew: By how many seconds the clock of whoever authenticated may be ahead.

        clock: What time it is; its wall clock counts.

    Raises:
        ConfigurationError: When an argument is of the wrong type.

    Source:
        RFC 9470; OpenID Connect Core 1.0 §2 (``acr``, ``amr``, ``auth_time``); AuthZEN obligations profile (draft 1),
        ``step-up`` (``acr_value``).
    """

    types: Collection[str] = frozenset({"step-up"})
    phase = Phase.BEFORE
    rank = Rank.VERIFY

    def __init__(
        self,
        *,
        levels: Sequence[str] = (),
        acr: str = "acr",
        amr: str = "amr",
        auth_time: str = "auth_time",
        skew: float = SKEW,
        clock: Clock | None = None,
    ) -> None:
        self._levels = _ordered(levels)
        self._acr, self._amr, self._auth_time = named(acr, "acr"), named(amr, "amr"), named(auth_time, "auth_time")
        self._skew = tolerance(skew, "skew")
        self._clock = SystemClock() if clock is None else clock
        self._demands = Reading(_demands)

    def discharge(self, obligation: Obligation, call: Call) -> Call | Refusal:
        """
        Compare what is demanded with how the subject authenticated.

        Raises:
            ObligationError: When a property of the obligation is malformed, or one of the subject's.
        """
        demands, subject = self._demands(obligation), call.request.subject.properties
        # All of them are looked at, so that what is malformed is never hidden by what is missing.
        met = (
            self._strong(obligation, demands, subject),
            self._by_all(obligation, demands, subject),
            self._fresh(obligation, demands, subject),
        )
        return call if all(met) else demands.refusal()

    def _strong(self, obligation: Obligation, demands: _Demands, subject: FrozenDict) -> bool:
        if not demands.acr_values:
            return True
        acr = subject.get(self._acr)
        if acr is not None and type(acr) is not str:
            raise _malformed(obligation, "acr_values", self._acr, "a text")
        level = self._levels.get(acr, -1) if acr is not None else -1
        least = [self._levels[value] for value in demands.acr_values if value in self._levels]
        return acr in demands.acr_values or any(level >= enough for enough in least)

    def _by_all(self, obligation: Obligation, demands: _Demands, subject: FrozenDict) -> bool:
        if not demands.amr_values:
            return True
        amr = subject.get(self._amr, ())
        if type(amr) is not tuple or not all(type(method) is str for method in amr):
            raise _malformed(obligation, "amr_values", self._amr, "a list of texts")
        return set(demands.amr_values) <= set(amr)

    def _fresh(self, obligation: Obligation, demands: _Demands, subject: FrozenDict) -> bool:
        if demands.max_age is None:
            return True
        at = subject.get(self._auth_time)
        if at is None:
            return False
        now = self._clock.wall()
        if not (type(at) is int or type(at) is float) or at > now + self._skew:
            raise _malformed(obligation, "max_age", self._auth_time, "seconds since 1970, and not in the future")
        return now - at <= demands.max_age


def _demands(properties: Properties) -> _Demands:
    demands = _Demands(
        _classes(properties),
        properties.texts("amr_values") if "amr_values" in properties else (),
        properties.seconds("max_age") if "max_age" in properties else None,
    )
    if demands == _Demands((), (), None):
        missing = properties.error("acr_values", "is missing, and so are `amr_values` and `max_age`; give one of them")
        raise missing
    return demands


def _classes(properties: Properties) -> tuple[str, ...]:
    if "acr_value" not in properties:
        return properties.texts("acr_values") if "acr_values" in properties else ()
    if "acr_values" in properties:
        twice = properties.error("acr_value", "says what `acr_values` says; give one of them")
        raise twice
    return (properties.text("acr_value"),)


def _malformed(obligation: Obligation, name: str, attribute: str, what: str) -> ObligationError:
    problem = f"cannot be checked: property `{attribute}` of the subject must be {what}"
    return Properties(obligation).error(name, problem)


def _ordered(levels: object) -> dict[str, int]:
    if isinstance(levels, (list, tuple)) and all(type(level) is str and level for level in levels):
        order = {level: place for place, level in enumerate(levels)}
        if len(order) == len(levels):
            return order
    message = "`levels` must be a list of different texts, the weakest first"
    raise ConfigurationError(message)
