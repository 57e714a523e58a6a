"""
Exemptions: what is open on purpose, and why.

Imports sites and members.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from pep.errors import ConfigurationError
from pep.guard.members import chain, is_function, parts_of
from pep.guard.site import Site, own_site

F = TypeVar("F", bound=Callable[..., Any])

#: The attribute under which an exempt function carries its exemption.
EXEMPT: Final = "__pep_exempt__"


class Exemption(NamedTuple):
    """Why a function is not guarded, and by which enforcer's word."""

    reason: str
    enforcer: str


def exempt(enforcer: str, reason: object) -> Callable[[F], F]:
    """
    Make the decorator that marks a function as open on purpose.

    Takes functions of every kind, and descriptors over one.

    Args:
        enforcer: The enforcer's name.

        reason: Why; `coverage` lists it.

    Raises:
        ConfigurationError: Without a reason; on what is guarded, holds several functions, or none.
    """
    if type(reason) is not str or not reason.strip():
        message = '`exempt` needs a reason; write such as `exempt(reason="health check")`'
        raise ConfigurationError(message)
    exemption = Exemption(reason, enforcer)

    def mark(fn: F) -> F:
        setattr(_only_function(fn), EXEMPT, exemption)
        return fn

    return mark


def exemption_of(fn: object) -> Exemption | None:
    """Return why a function is exempt, if it is."""
    found = getattr(fn, "__dict__", {}).get(EXEMPT)
    return found if isinstance(found, Exemption) else None


def standing(fn: object) -> Site | Exemption | None:
    """Return how a function stands, itself or by what it wraps: guarded, exempt, or neither."""
    for one in chain(fn):
        found = own_site(one) or exemption_of(one)
        if found is not None:
            return found
    return None


def _only_function(value: Any) -> Any:  # noqa: ANN401  any function
    parts = list(parts_of(value))
    kind = type(value).__name__
    if len(parts) > 1:
        message = f"a `{kind}` over several functions is exempted one by one; put `exempt` directly above each `def`"
        raise ConfigurationError(message)
    if not parts or not is_function(parts[0].fn):
        message = f"a `{kind}` cannot be exempt; put `exempt` directly above the `def` of what may be called"
        raise ConfigurationError(message)
    if isinstance(standing(parts[0].fn), Site):
        message = f"`{parts[0].fn.__qualname__}` is guarded; drop the guard, or `exempt`"
        raise ConfigurationError(message)
    return parts[0].fn
