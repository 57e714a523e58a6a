"""
Evaluation of a condition by walking its tree: what explanations and row filters use.

The compiled form of a condition must answer the same. Imports conditions, comparisons and the model.
"""

from __future__ import annotations

from datetime import time
from functools import lru_cache
from ipaddress import ip_network
from typing import Any, cast
from zoneinfo import ZoneInfo

import attrs

from pep.frozen import FrozenDict
from pep.model import AccessRequest
from pep.policy.condition import (
    And,
    Compare,
    Condition,
    Constant,
    Contains,
    Daily,
    Field,
    Has,
    InNetwork,
    Intersects,
    Intrinsic,
    Leaf,
    Not,
    Now,
    Options,
    Or,
    Term,
    Text,
    Truth,
    Window,
)
from pep.policy.values import (
    COMPARISONS,
    DAYS,
    TEXTS,
    Day,
    Network,
    contains,
    every,
    in_networks,
    instant,
    intersects,
    opposite,
    some,
    within,
    within_day,
)


@attrs.frozen
class Facts:
    """What a condition is evaluated against: a request, and the moment of its decision in epoch seconds."""

    request: AccessRequest
    now: float


def evaluate(condition: Condition, facts: Facts) -> Truth:
    """
    Tell whether a condition is true of the facts.

    Returns:
        True, False, or None when a missing or incompatible attribute leaves it unknown.

    Source:
        DESIGN section 11; Kleene's strong logic of three values.
    """
    if type(condition) is And:
        return every(evaluate(one, facts) for one in condition.operands)
    if type(condition) is Or:
        return some(evaluate(one, facts) for one in condition.operands)
    if type(condition) is Not:
        return opposite(evaluate(condition.operand, facts))
    return evaluate_leaf(cast("Leaf", condition), facts)


def evaluate_leaf(leaf: Leaf, facts: Facts) -> Truth:
    """Tell whether a single comparison is true of the facts."""
    match leaf:
        case Compare(operator, left, right):
            return COMPARISONS[operator](resolve(left, facts), resolve(right, facts))
        case Contains(collection, item):
            return contains(resolve(collection, facts), resolve(item, facts))
        case Intersects(left, right):
            return intersects(resolve(left, facts), resolve(right, facts))
        case Text(operator, text, part):
            return TEXTS[operator](resolve(text, facts), resolve(part, facts))
        case Has(field):
            return resolve(field, facts) is not None
        case InNetwork(address, networks):
            return in_networks(resolve(address, facts), parsed_networks(networks))
        case Window() | Daily():
            return _evaluate_time(leaf, facts)
        case _:
            return ask(leaf.function, facts.request)


def resolve(term: Term, facts: Facts) -> Any:  # noqa: ANN401  JSON has no narrower type
    """Look up a term's value; None when it is missing."""
    match term:
        case Constant(value):
            return value
        case Options(values):
            return values
        case Now():
            return facts.now
        case _:
            return look_up(term, facts.request)


def look_up(field: Field, request: AccessRequest) -> Any:  # noqa: ANN401  JSON has no narrower type
    """Look up an attribute of a request; None when it is missing."""
    if isinstance(field, Intrinsic):
        return getattr(getattr(request, field.root), field.name)
    value: Any = request.context if field.root == "context" else getattr(request, field.root).properties
    for name in field.path:
        if type(value) is not FrozenDict:
            return None
        value = value.get(name)
    return value


def ask(function: Any, request: AccessRequest) -> Truth:  # noqa: ANN401  a user's callable
    """Ask a user's predicate; an exception or anything but an exact boolean is unknown."""
    try:
        answer = function(request)
    except Exception:  # noqa: BLE001  a predicate that fails must not permit, nor hide another rule's denial
        return None
    return answer if answer is True or answer is False else None


@lru_cache(maxsize=1024)
def parsed_networks(networks: tuple[str, ...]) -> tuple[Network, ...]:
    """Read networks that were validated when the condition was built."""
    return tuple(ip_network(network) for network in networks)


@lru_cache(maxsize=1024)
def parsed_day(daily: Daily) -> Day:
    """Read a daily window that was validated when the condition was built."""
    days = tuple(DAYS.index(day) for day in daily.days) or tuple(range(7))
    return Day(time.fromisoformat(daily.start), time.fromisoformat(daily.end), ZoneInfo(daily.zone), days, daily.skew)


def _evaluate_time(leaf: Window | Daily, facts: Facts) -> Truth:
    moment = instant(resolve(leaf.moment, facts))
    if isinstance(leaf, Daily):
        return within_day(moment, parsed_day(leaf))
    start, end = _end(leaf.start, float("-inf"), facts), _end(leaf.end, float("inf"), facts)
    return within(moment, start, end, leaf.skew)


def _end(term: Term | None, default: float, facts: Facts) -> float | None:
    return default if term is None else instant(resolve(term, facts))
