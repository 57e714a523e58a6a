"""
Contradictions: conditions that are true of no request, found by folding constants.

It errs on one side: what it names is never true, what it does not name may still be. Imports rules, conditions and
their evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

import attrs

from pep.model import ANONYMOUS, AccessRequest, application
from pep.policy.attributes import spell
from pep.policy.condition import (
    And,
    Compare,
    Condition,
    Constant,
    Contains,
    Field,
    Has,
    InNetwork,
    Intersects,
    Intrinsic,
    Leaf,
    Not,
    Options,
    Or,
    Property,
    Scalar,
    Text,
    Window,
    operands,
    terms,
)
from pep.policy.evaluate import Facts, evaluate_leaf, resolve
from pep.policy.rule import Rule
from pep.policy.text import to_text
from pep.policy.values import instant

#: A comparison, and whether it or its opposite has to be true.
_Literal = tuple[Condition, bool]
#: Field → the comparisons it is in.
_Known = Mapping[Field, tuple[_Literal, ...]]

_NOBODY: Final = Facts(AccessRequest(ANONYMOUS, "nothing", application("nowhere")), 0.0)
_KINDS: Final[dict[type, str]] = {str: "text", bool: "boolean", int: "number", float: "number"}
_ORDERED: Final = frozenset({"<", "<=", ">", ">="})
_LOWER: Final = frozenset({(">", True), (">=", True), ("<", False), ("<=", False)})
_UPPER: Final = frozenset({("<", True), ("<=", True), (">", False), (">=", False)})
_STRICT: Final = frozenset({(">", True), ("<", True), (">=", False), ("<=", False)})
#: What is false of equal values, or has a false opposite.
_UNEQUAL: Final = frozenset({("!=", True), ("<", True), (">", True), ("==", False), ("<=", False), (">=", False)})
_RESOURCE_ID: Final = Intrinsic("resource", "id")
_IS_NEW: Final = Intrinsic("resource", "is_new")


def contradiction(rule: Rule) -> str | None:
    """
    Say why a rule applies to no request at all.

    Returns:
        What contradicts, or None where nothing is found.
    """
    condition = rule.condition
    return None if condition is None else _refuted([(condition, True), *_of_target(rule)], {})


def _of_target(rule: Rule) -> Iterator[_Literal]:
    """Write what a target of exact names requires as comparisons."""
    if rule.resources.exact:
        yield Contains(Options(rule.resources.names), Intrinsic("resource", "type")), True
    if rule.subjects.exact:
        yield Contains(Options(rule.subjects.names), Intrinsic("subject", "type")), True
    if rule.actions.exact:
        # A name with a colon also means the bare action on that type of resource.
        names = {name for full in rule.actions.names for name in (full, full.rpartition(":")[2]) if name}
        yield Contains(Options(tuple(sorted(names))), Intrinsic("action", "name")), True


def _refuted(told: Sequence[_Literal], known: _Known) -> str | None:
    """Look for a contradiction among what must be true together, then in every branch of each choice."""
    literals, choices = _taken_apart(told)
    for leaf, wanted in literals:
        if _impossible(leaf, wanted=wanted):
            return f"`{to_text(leaf if wanted else Not(leaf))}` is true of no request"
    about, touched = dict(known), dict.fromkeys(field for leaf, _ in literals for field in _fields(leaf))
    for leaf, wanted in literals:
        for field in _fields(leaf):
            about[field] = (*about.get(field, ()), (leaf, wanted))
    for field in touched:
        if _inconsistent(field, about[field]):
            return f"nothing `{spell(field)}` can be makes it true"
    for branches in choices:
        found = [_refuted([branch], about) for branch in branches]
        if None not in found:
            return found[0]
    return None


def _taken_apart(told: Sequence[_Literal]) -> tuple[list[_Literal], list[list[_Literal]]]:
    """Take conditions apart into comparisons that must all be true, and choices of which one branch must."""
    literals, choices, pending = [], [], list(reversed(told))
    while pending:
        condition, wanted = pending.pop()
        if type(condition) is Not:
            pending.append((condition.operand, not wanted))
        elif type(condition) is (And if wanted else Or):
            pending.extend((one, wanted) for one in reversed(operands(condition)))
        elif operands(condition):
            choices.append([(one, wanted) for one in operands(condition)])
        else:
            literals.append((condition, wanted))
    return literals, choices


def _fields(leaf: Condition) -> list[Field]:
    found = [term for term in terms(leaf) if isinstance(term, Property | Intrinsic)]
    return list(dict.fromkeys(found))


def _impossible(leaf: Condition, *, wanted: bool) -> bool:
    match leaf:
        case Compare(operator, left, right):
            ordered = operator in _ORDERED and isinstance(right, Constant) and type(right.value) is bool
            return ordered or (left == right and (operator, wanted) in _UNEQUAL)
        case Has(Intrinsic() as field):
            return not wanted and field != _RESOURCE_ID
        case Window(_, Constant() as start, Constant() as end, skew) if wanted:
            opens, closes = instant(resolve(start, _NOBODY)), instant(resolve(end, _NOBODY))
            return opens is not None and closes is not None and opens - skew >= closes + skew
        case _:
            return False


def _inconsistent(field: Field, literals: Sequence[_Literal]) -> bool:
    """Whether no value of one field makes all of them true: they want it absent and present, or of two kinds."""
    absent = [type(leaf) is Has and not wanted for leaf, wanted in literals]
    if any(absent):
        return not all(absent)
    kinds = {kind for leaf, _ in literals if (kind := _kind(leaf, field)) is not None} | _own_kind(field)
    return len(kinds) > 1 or _crossed(field, literals) or _exhausted(field, literals)


def _own_kind(field: Field) -> set[str]:
    if isinstance(field, Property):
        return set()
    return {"boolean"} if field.name == "is_new" else {"text"}


def _kind(leaf: Condition, field: Field) -> str | None:
    """Tell of what kind a field must be for a comparison to be true or false, rather than unknown."""
    match leaf:
        case Compare(_, left, Constant(value)) if left == field:
            return _KINDS[type(value)]
        case Contains(Options(values), _):
            return _KINDS[type(values[0])]
        case Contains(collection, _) if collection == field:
            return "list"
        case Intersects():
            return "list"
        case Text() | InNetwork():
            return "text"
        case _:
            return None


def _crossed(field: Field, literals: Sequence[_Literal]) -> bool:
    """Whether a lower bound lies above an upper one; all are of one kind."""
    lower, upper = list(_bounds(field, literals, _LOWER)), list(_bounds(field, literals, _UPPER))
    if not lower or not upper:
        return False
    low, high = max(value for value, _ in lower), min(value for value, _ in upper)
    return bool(low > high) or (low == high and any(strict for value, strict in lower + upper if value == low))


def _bounds(
    field: Field, literals: Iterable[_Literal], side: frozenset[tuple[str, bool]]
) -> Iterator[tuple[Any, bool]]:
    for leaf, wanted in literals:
        if isinstance(leaf, Compare) and leaf.left == field and isinstance(leaf.right, Constant):
            sign = (leaf.operator, wanted)
            yield from [(leaf.right.value, sign in _STRICT)] if sign in side else ()


def _exhausted(field: Field, literals: Sequence[_Literal]) -> bool:
    """Whether a field must be one of some constants, and each of them is ruled out."""
    lists = [found for leaf, wanted in literals if (found := _options(leaf, field, wanted=wanted)) is not None]
    if field == _IS_NEW:
        lists.append((True, False))
    elif not lists or len(literals) == 1:
        # A single comparison does not rule out what it asks for.
        return False
    tests = [(leaf, wanted) for leaf, wanted in literals if _fields(leaf) == [field] and _constant(leaf)]
    return not any(
        all(evaluate_leaf(_with(leaf, field, value), _NOBODY) is wanted for leaf, wanted in tests)
        for value in min(lists, key=len)
    )


def _options(leaf: Condition, field: Field, *, wanted: bool) -> tuple[Scalar, ...] | None:
    match leaf:
        case Compare("==" | "!=" as operator, left, Constant(value)) if left == field:
            return (value,) if (operator == "==") is wanted else None
        case Contains(Options(values), item) if wanted and item == field:
            return values
        case _:
            return None


def _constant(leaf: Condition) -> bool:
    """Whether all a comparison needs besides fields is written in it."""
    kinds = (Property, Intrinsic, Constant, Options)
    return type(leaf) in {Compare, Contains, Intersects, Text, InNetwork, Has} and all(
        isinstance(term, kinds) for term in terms(leaf)
    )


def _with(leaf: Condition, field: Field, value: Scalar) -> Leaf:
    """Put a value in the place of a field."""
    known = cast("Leaf", leaf)
    names = [one.name for one in attrs.fields(type(known)) if getattr(known, one.name) == field]
    told: dict[str, Any] = dict.fromkeys(names, Constant(value))
    return attrs.evolve(known, **told)
