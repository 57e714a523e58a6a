"""What policies mean, as directly as it can be said: no index, no compilation, no sharing with the library."""

from __future__ import annotations

import operator
import re
from ipaddress import ip_address, ip_network
from typing import Any

from pep.model import AccessRequest, Effect
from pep.policy.condition import (
    And,
    Compare,
    Condition,
    Constant,
    Contains,
    Has,
    InNetwork,
    Intersects,
    Intrinsic,
    Not,
    Now,
    Options,
    Or,
    Property,
    Text,
    Window,
)
from pep.policy.rule import Rule

ORDER = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
TEXT = {"starts_with": str.startswith, "ends_with": str.endswith, "contains_text": str.__contains__}
KIND = {str: "text", int: "number", float: "number", bool: "boolean", tuple: "list"}


def value(term: Any, request: AccessRequest, now: float) -> Any:
    match term:
        case Constant(found) | Options(found):
            return found
        case Now():
            return now
        case Intrinsic(root, name):
            return getattr(getattr(request, root), name)
        case Property(root, path):
            found = request.context if root == "context" else getattr(request, root).properties
            for name in path:
                found = found.get(name) if isinstance(found, dict) else None
            return found


def compare(sign: str, one: Any, other: Any) -> bool | None:
    kind = KIND.get(type(one), "mapping")
    if one is None or other is None or kind != KIND.get(type(other), "mapping"):
        return None
    if kind in {"list", "mapping"}:
        if sign not in {"==", "!="}:
            return None
        alike = len(one) == len(other) and (kind == "list" or set(one) == set(other))
        pairs = zip(one, other, strict=False) if kind == "list" else [(one[name], other.get(name)) for name in one]
        same = all_of([compare("==", *pair) for pair in pairs]) if alike else False
        return same if sign == "==" or same is None else not same
    return ORDER[sign](one, other) if kind != "boolean" or sign in {"==", "!="} else None


def all_of(truths: list[bool | None]) -> bool | None:
    return False if False in truths else None if None in truths else True


def any_of(truths: list[bool | None]) -> bool | None:
    return True if True in truths else None if None in truths else False


def truth(condition: Condition, request: AccessRequest, now: float) -> bool | None:  # noqa: C901
    def of(term: Any) -> Any:
        return value(term, request, now)

    match condition:
        case And(operands):
            return all_of([truth(one, request, now) for one in operands])
        case Or(operands):
            return any_of([truth(one, request, now) for one in operands])
        case Not(operand):
            found = truth(operand, request, now)
            return None if found is None else not found
        case Compare(sign, left, right):
            return compare(sign, of(left), of(right))
        case Contains(collection, item):
            held = of(collection)
            return (
                any_of([compare("==", one, of(item)) for one in held])
                if type(held) is tuple and of(item) is not None
                else None
            )
        case Intersects(left, right):
            both = of(left), of(right)
            lists = type(both[0]) is tuple and type(both[1]) is tuple
            return any_of([compare("==", one, other) for one in both[0] for other in both[1]]) if lists else None
        case Text(method, text, part):
            return TEXT[method](of(text), of(part)) if type(of(text)) is type(of(part)) is str else None
        case Has(field):
            return of(field) is not None
        case InNetwork(address, networks):
            try:
                found = ip_address(of(address)) if type(of(address)) is str else None
            except ValueError:
                found = None
            found = getattr(found, "ipv4_mapped", None) or found
            return None if found is None else any(found in ip_network(one) for one in networks)
        case Window(moment, start, end, skew):
            at, opens, closes = (of(term) for term in (moment, start, end))
            later = True if start is None else compare(">=", at, None if opens is None else opens - skew)
            return all_of([later, True if end is None else compare("<", at, None if closes is None else closes + skew)])


def meant(names: tuple[str, ...], name: str, qualified: str) -> bool:
    def matches(pattern: str) -> object:
        parts = [{"*": "[^:]+", "**": ".+"}.get(part, re.escape(part)) for part in pattern.split(":")]
        return re.fullmatch(":".join(parts), qualified if ":" in pattern else name, re.DOTALL)

    return not names or any(matches(pattern) if "*" in pattern else pattern in {name, qualified} for pattern in names)


def decide(rules: list[Rule], request: AccessRequest, now: float = 0.0) -> tuple[Effect, list[str]]:
    """Say the effect and the rules that had it; for an indeterminate one those in doubt, denials first."""
    found: dict = {}
    for rule in rules:
        action, kind = request.action.name, request.resource.type
        qualified = action if ":" in action else f"{kind}:{action}"
        targets = [
            (rule.actions, action, qualified),
            (rule.resources, kind, kind),
            (rule.subjects, request.subject.type, request.subject.type),
        ]
        if all(meant(target.names, *names) for target, *names in targets):
            when = True if rule.when is None else truth(rule.when, request, now)
            unless = False if rule.unless is None else truth(rule.unless, request, now)
            applies = all_of([when, None if unless is None else not unless])
            found.setdefault((rule.effect, applies), []).append(rule.id)
    for effect, applies in [(Effect.DENY, True), (Effect.DENY, None), (Effect.PERMIT, True), (Effect.PERMIT, None)]:
        if (effect, applies) in found:
            return effect if applies else Effect.INDETERMINATE, sorted(found[effect, applies])
    return Effect.NOT_APPLICABLE, []
