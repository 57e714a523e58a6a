"""
Assembly: from what a user hands to an enforcer to its checked wiring.

Imports the layers below the enforcer only.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypedDict

from pep.audit.journal import Journal
from pep.audit.masking import Masking
from pep.audit.record import Kind
from pep.bus.seam import EVERYTHING, Floor, Subscription
from pep.cache import DecisionCache, Generations, StaleStore
from pep.clock import SystemClock
from pep.enrich import Providers
from pep.errors import ConfigurationError
from pep.extract import Registries, is_asynchronous
from pep.obligations.ledger import Handlers
from pep.profile import Canary, Guarantee, Profile
from pep.profiles import Profiles
from pep.protocols import PDP, AttributeProvider, Clock, ObligationHandler, Observer, Sink
from pep.wiring import Wiring

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pep.audit.correlation import Correlation

_READINGS: Final = ("monotonic", "boottime", "wall")


class Parts(TypedDict, total=False):
    """The parts of an enforcer that may be left out."""

    profiles: Profiles | Mapping[str, Profile]
    attributes: Iterable[AttributeProvider]
    obligations: Iterable[ObligationHandler]
    cache: DecisionCache
    telemetry: Iterable[Observer]
    secret: bytes
    masking: Masking
    correlation: Callable[[], Correlation | None]
    clock: Clock


def assemble(pdp: object, audit: object, name: str, registries: Registries, **parts: Unpack[Parts]) -> Wiring:
    """
    Check the parts of an enforcer against each other, and wire them.

    Raises:
        ConfigurationError: On a part that is none or unknown, or two that do not fit.
    """
    unknown = parts.keys() - Parts.__annotations__.keys()
    if unknown:
        known = ", ".join(f"`{part}`" for part in Parts.__annotations__)
        message = f"an enforcer has no part `{min(unknown)}`; it takes {known}"
        raise ConfigurationError(message)
    decider, sink, time = as_pdp(pdp), as_sink(audit), as_clock(parts.get("clock"))
    profiles, secret = parts.get("profiles"), parts.get("secret")
    settled = profiles if isinstance(profiles, Profiles) else Profiles({} if profiles is None else profiles)
    _check_guarantees(settled, sink)
    _check_secret(settled, secret)
    observers: tuple[Observer, ...] = _several(parts.get("telemetry", ()), "telemetry")
    for observer in observers:
        _check_part(observer, Observer, "observer", "`observe(record)`")
    cache, generations = as_cache(parts.get("cache")), Generations()
    journal = Journal(sink, time, name, observers, as_correlation(parts.get("correlation")))
    wiring = Wiring(
        pdp=decider,
        pdp_name=pdp_name(decider),
        profiles=settled,
        providers=Providers(_several(parts.get("attributes", ()), "attributes"), clock=time),
        handlers=Handlers(_several(parts.get("obligations", ()), "obligations")),
        journal=journal,
        clock=time,
        cache=cache,
        stale=StaleStore(),
        generations=generations,
        registries=registries,
        secret=secret or b"",
        masking=as_masking(parts.get("masking")),
        bus=subscribed(cache, generations),
    )
    if unenforced := wiring.unenforced():
        journal.announce(Kind.CONFIGURATION, {"change": "wired", "not_enforced": unenforced})
    return wiring


def as_pdp(value: object) -> PDP:
    """
    Take a policy decision point, or a callable as one.

    Raises:
        ConfigurationError: When it is neither.
    """
    if not isinstance(value, type):
        if isinstance(value, PDP) and callable(value.decide):
            return value
        if callable(value):
            from pep.pdp.function import FunctionPDP  # noqa: PLC0415  only who hands over a function pays for it

            return FunctionPDP(value)
    message = (
        f"`{_shown(value)}` is no policy decision point; give it `decide(request)`, or a function of an access request"
    )
    raise ConfigurationError(message)


def as_sink(value: object) -> Sink:
    """
    Take an audit sink.

    Raises:
        ConfigurationError: When it is none, or states no guarantee.
    """
    if isinstance(value, type) or not isinstance(value, Sink) or not callable(value.record):
        message = f"`{_shown(value)}` is no audit sink; it needs `record(record)` and `guarantee`"
        raise ConfigurationError(message)
    # Any object passes for a sink that has both names; what they hold is looked at here.
    guarantee: object = value.guarantee
    if not isinstance(guarantee, Guarantee):
        message = f"`{type(value).__name__}.guarantee` must be a `Guarantee`"
        raise ConfigurationError(message)
    return value


def as_clock(value: object) -> Clock:
    """
    Take a clock; None is the machine's.

    Raises:
        ConfigurationError: When it is none.
    """
    if value is None:
        return SystemClock()
    clock: Any = value
    if isinstance(value, type) or not all(callable(getattr(value, name, None)) for name in _READINGS):
        message = f"`{_shown(value)}` is no clock; it needs {', '.join(f'`{name}()`' for name in _READINGS)}"
        raise ConfigurationError(message)
    return clock  # type: ignore[no-any-return]


def as_cache(value: object) -> DecisionCache:
    """
    Take a decision cache; None is one of the usual size.

    Raises:
        ConfigurationError: When it is none.
    """
    if value is None:
        return DecisionCache()
    if not isinstance(value, DecisionCache):
        message = f"`cache` takes a `DecisionCache`, not `{type(value).__name__}`"
        raise ConfigurationError(message)
    return value


def as_correlation(value: Any) -> Callable[[], Correlation | None] | None:  # noqa: ANN401  whatever was handed over
    """
    Take what tells what a record belongs to; None tells nothing.

    Raises:
        ConfigurationError: When it cannot be called.
    """
    if value is not None and not callable(value):
        message = f"`correlation` takes a function without parameters, not `{_shown(value)}`"
        raise ConfigurationError(message)
    return value  # type: ignore[no-any-return]


def as_masking(value: object) -> Masking:
    """
    Take what records may tell; None tells no values.

    Raises:
        ConfigurationError: When it is none.
    """
    if value is None:
        return Masking()
    if type(value) is not Masking:
        message = f"`masking` takes a `Masking`, not `{type(value).__name__}`"
        raise ConfigurationError(message)
    return value


def subscribed(cache: DecisionCache, generations: Generations) -> Subscription | None:
    """Take a place on the bus of a cache, if it has one: what others revoke, or may have revoked, is dropped here."""
    if cache.bus is None:
        return None
    # The bus may outlive the enforcer, and does not keep it.
    held = weakref.ref(generations)

    def on_floor(floor: Floor) -> None:
        known = held()
        if known is not None:
            known.revoke_all() if floor == EVERYTHING else known.revoke(floor)

    def on_lost(_reason: str) -> None:
        known = held()
        if known is not None:
            known.swap()

    subscription = cache.bus.subscribe(on_floor, on_lost)
    cache.lifetime = subscription.lifetime
    return subscription


def pdp_name(pdp: PDP) -> str:
    """Return the identity of a decision point, for records and cache keys."""
    name: Any = getattr(pdp, "name", None)
    return name if type(name) is str and name else type(pdp).__name__


def awaited_parts(wiring: Wiring) -> Iterator[str]:
    """Name every part that can only be awaited, and so serves no synchronous call."""
    parts: list[tuple[object, str]] = [(wiring.pdp, "decide"), (wiring.journal.sink, "record")]
    parts += [(provider, "provide") for provider in wiring.providers]
    parts += [(handler, "discharge") for handler in wiring.handlers]
    for part, method in parts:
        if getattr(part, "asynchronous", False) is True or is_asynchronous(getattr(part, method)):
            yield f"{getattr(part, 'name', None) or type(part).__name__}.{method}"


def _several(values: Any, what: str) -> tuple[Any, ...]:  # noqa: ANN401  whatever a user hands over
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        message = f"`{what}` takes several, such as a list, not `{_shown(values)}`"
        raise ConfigurationError(message)
    return tuple(values)


def _check_part(value: object, protocol: Any, what: str, needs: str) -> None:  # noqa: ANN401  a protocol is no type
    if isinstance(value, type) or not isinstance(value, protocol):
        message = f"`{_shown(value)}` is no {what}; it needs {needs}"
        raise ConfigurationError(message)


def _shown(value: object) -> str:
    return value.__name__ if isinstance(value, type) else type(value).__name__


def _check_guarantees(profiles: Profiles, sink: Sink) -> None:
    for pattern, profile in profiles.items():
        if not sink.guarantee.covers(profile.audit):
            message = (
                f"profile `{pattern}` asks for audit `{profile.audit.value}`, but `{type(sink).__name__}` gives "
                f"`{sink.guarantee.value}` at most; use a stronger sink or ask for less"
            )
            raise ConfigurationError(message)


def _check_secret(profiles: Profiles, secret: bytes | None) -> None:
    if secret is not None and (type(secret) is not bytes or len(secret) < 16):  # noqa: PLR2004  128 bits
        message = "`secret` must be at least 16 bytes of `bytes`"
        raise ConfigurationError(message)
    if secret is None and any(isinstance(mode, Canary) for _, mode in profiles.unenforced()):
        message = "a canary needs the deployment's secret to choose subjects; pass `secret=`"
        raise ConfigurationError(message)
