"""
Cerbos's query plans as row filters: which resources of a type may be acted upon.

Exactly, or not at all: an expression that conditions cannot say is refused. What is an error to Cerbos, such as a
missing attribute, is unknown to a condition, and neither lets a row through. Imports conditions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pep.errors import ConfigurationError, PDPMismatched, PDPReplyError
from pep.pdp.cerbos_replies import problems
from pep.policy.condition import (
    MIRRORED,
    Compare,
    Condition,
    Constant,
    Contains,
    Has,
    Intersects,
    Intrinsic,
    Not,
    Options,
    Property,
    Term,
    Text,
    check_size,
    conjunction,
    disjunction,
)
from pep.policy.partial import AllowAll, Conditional, DenyAll, RowFilter

__all__ = ["AllowAll", "rows_of"]

_COMPARISONS: Final[dict[str, Any]] = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_TEXTS: Final[dict[str, Any]] = {"startsWith": "starts_with", "endsWith": "ends_with", "contains": "contains_text"}
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_ATTRIBUTES: Final = ("request.resource.attr", "R.attr")
_IDS: Final = ("request.resource.id", "R.id")
#: Beyond this, Cerbos's numbers are rounded.
_WHOLE: Final = 2**53
_RESOURCE_ID: Final = Intrinsic("resource", "id")


def rows_of(reply: Mapping[str, Any], name: str, action: str, resource: Mapping[str, Any]) -> RowFilter:
    """
    Read a plan.

    Args:
        reply: As parsed JSON.

        name: The request's id.

        action: The action that was asked about.

        resource: What was told of the resource.

    Raises:
        PDPMismatched: When it is the plan of something else.

        PDPReplyError: When it is none, or cannot be translated exactly.
    """
    asked = {"requestId": name, "action": action, "resourceKind": resource["kind"]}
    if any(reply.get(member) != told for member, told in asked.items()):
        message = "Cerbos planned another request than was asked for"
        raise PDPMismatched(message)
    if problems(reply.get("validationErrors")):
        message = "the request is not valid by the schemas of the Cerbos server"
        raise PDPReplyError(message)
    told = reply.get("filter")
    kind = told.get("kind") if type(told) is dict else None
    if kind == "KIND_ALWAYS_ALLOWED":
        return AllowAll()
    if kind == "KIND_ALWAYS_DENIED":
        return DenyAll()
    if type(told) is not dict or kind != "KIND_CONDITIONAL":
        message = "the `filter` of Cerbos's plan has no `kind` that is known"
        raise PDPReplyError(message)
    return _rows(told.get("condition"))


def _rows(told: object) -> RowFilter:
    condition = _condition(told, doubt=False)
    if isinstance(condition, bool):
        return AllowAll() if condition else DenyAll()
    try:
        check_size(condition)
    except ConfigurationError as error:
        raise PDPReplyError(str(error)) from None
    return Conditional(condition)


def _condition(told: object, *, doubt: bool) -> Condition | bool:
    """
    Translate what is true or false of a row.

    Where it is unknown of every row, it is replaced by *doubt*: what is worst for permitting in its place.
    """
    match _operand(told):
        case {"value": bool() as truth}:
            return truth
        case {"variable": str()}:
            return Compare("==", _field(told), Constant(value=True))
        case {"expression": {"operator": str() as operator, "operands": list() as operands}}:
            return _expression(operator, operands, doubt=doubt)
        case _:
            raise _refused(told, "a condition of it has no known form")


def _expression(operator: str, operands: list[Any], *, doubt: bool) -> Condition | bool:
    match operator, operands:
        case (("and" | "or"), [_, *_]):
            return _joined([_condition(one, doubt=doubt) for one in operands], every=operator == "and")
        case "not", [operand]:
            return _negated(_condition(operand, doubt=not doubt))
        case (("eq" | "ne"), ([{"value": None}, other] | [other, {"value": None}])):
            return _null(operator, other, doubt=doubt)
        case "exists", [
            collection,
            {"expression": {"operator": "lambda", "operands": [body, {"variable": str() as item}]}},
        ]:
            return _some(collection, body, item, doubt=doubt)
        case _, [left, right]:
            return _leaf(operator, _term(left), _term(right), doubt=doubt)
        case _:
            raise _unknown(operator)


def _operand(told: object) -> dict[str, Any]:
    """Take what is either an expression, a variable or a value."""
    if type(told) is not dict or len(told) != 1:
        raise _refused(told, "an operand of it has no known form")
    return told


def _leaf(operator: str, left: Term | None, right: Term | None, *, doubt: bool) -> Condition | bool:
    """Translate a comparison; it is unknown where one of its sides is an error to Cerbos."""
    make = _LEAVES.get(operator)
    if make is None:
        raise _unknown(operator)
    if left is None or right is None:
        return doubt
    if not any(isinstance(term, Property | Intrinsic) for term in (left, right)):
        raise _refused(left, "it compares two constants")
    return make(operator, left, right)


def _compare(operator: str, left: Term, right: Term) -> Condition:
    sign = _COMPARISONS[operator]
    ordered = operator not in {"eq", "ne"}
    if ordered and any(isinstance(term, Constant) and type(term.value) is bool for term in (left, right)):
        raise _refused(left, "it orders booleans")
    if isinstance(left, Constant | Options):
        return Compare(MIRRORED[sign], right, _constant(left))
    return Compare(sign, left, _constant(right))


def _member(_operator: str, item: Term, collection: Term) -> Condition:
    if isinstance(collection, Constant) and type(collection.value) is not tuple:
        raise _refused(collection, "it looks for a member of what is no list")
    if isinstance(item, Options):
        raise _refused(item, "it looks for a list in a list")
    return Contains(collection, item)


def _intersects(_operator: str, left: Term, right: Term) -> Condition:
    for term in (left, right):
        values = term.values if isinstance(term, Options) else getattr(term, "value", ())
        # Cerbos finds numbers of two lists in each other by their kind, too.
        if type(values) is not tuple or not all(type(value) is str for value in values):
            raise _refused(term, "it intersects lists of something other than texts")
    return Intersects(left, right)


def _text(operator: str, text: Term, part: Term) -> Condition:
    for term in (text, part):
        if isinstance(term, Options) or (isinstance(term, Constant) and type(term.value) is not str):
            raise _refused(term, "it looks for a part of what is no text")
    return Text(_TEXTS[operator], text, part)


def _null(operator: str, told: object, *, doubt: bool) -> Condition:
    """
    Translate a comparison with null.

    A missing attribute is an error to Cerbos and null here. They come to the same where presence is what permits.
    """
    field = _term(told)
    if not isinstance(field, Property) or (operator == "eq") is not doubt:
        raise _refused(told, "it permits for a null, which cannot be told from a missing attribute")
    return Has(field) if operator == "ne" else Not(Has(field))


def _some(collection: object, body: object, item: str, *, doubt: bool) -> Condition | bool:
    """Translate what is true of a member of a list: that it equals something, or is one of a list."""
    match body:
        case {"expression": {"operator": "eq", "operands": [{"variable": name}, other] | [other, {"variable": name}]}}:
            leaf, sides = "in", (other, collection)
        case {"expression": {"operator": "in", "operands": [{"variable": name}, other]}}:
            leaf, sides = "hasIntersection", (collection, other)
        case _:
            raise _refused(body, "it looks for more than a value among members")
    if name != item or other == {"variable": item}:
        raise _refused(body, "it looks for more than a value among members")
    return _leaf(leaf, _term(sides[0]), _term(sides[1]), doubt=doubt)


def _term(told: object) -> Term | None:
    """Translate what is compared; None where it is an error to Cerbos, since the subject lacks an attribute."""
    match _operand(told):
        case {"value": value}:
            return _value(value)
        case {"expression": {"operator": "get-field", "operands": [struct, {"variable": str() as name}]}}:
            if name in _names(struct):
                raise _refused(told, "it takes a member of a constant")
            return None
        case _:
            return _field(told)


def _names(told: object) -> list[str]:
    """Return the members of a constant mapping."""
    names = []
    match told:
        case {"expression": {"operator": "struct", "operands": list() as members}}:
            for member in members:
                match member:
                    case {"expression": {"operator": "set-field", "operands": [{"value": str() as name}, _]}}:
                        names.append(name)
                    case _:
                        raise _refused(told, "a mapping of it has no known form")
        case _:
            raise _unknown(told)
    return names


def _field(told: object) -> Property | Intrinsic:
    match told:
        case {"variable": str() as name} if name in _IDS:
            return _RESOURCE_ID
        case _:
            path = _path(told)
    if not path:
        raise _refused(told, "it speaks of all attributes at once")
    return Property("resource", path)


def _path(told: object) -> tuple[str, ...]:
    match _operand(told):
        case {"variable": str() as name}:
            root = next((root for root in _ATTRIBUTES if name == root or name.startswith(f"{root}.")), None)
            names = name[len(root) :].split(".")[1:] if root is not None else [""]
            if all(_NAME.fullmatch(one) for one in names):
                return tuple(names)
            raise _refused(told, "it speaks of something other than the resource's attributes and id")
        case {"expression": {"operator": "index", "operands": [inner, {"value": str() as name}]}}:
            return (*_path(inner), name)
        case {"expression": {"operator": str() as operator}}:
            raise _unknown(operator)
        case _:
            raise _refused(told, "an operand of it has no known form")


def _value(value: object) -> Term:
    if type(value) is list:
        values = tuple([_scalar(one) for one in value])
        kinds = {type(one) for one in values}
        alike = kinds <= {int, float} or kinds in ({str}, {bool})
        return Options(values) if values and alike else Constant(values)
    return Constant(_scalar(value))


def _scalar(value: object) -> str | int | float | bool:
    if isinstance(value, (int, float)) and type(value) is not bool and abs(value) >= _WHOLE:
        raise _refused(value, "a number of it is beyond 53 bits, which Cerbos rounds")
    if isinstance(value, (str, int, float)):
        return value
    raise _refused(value, "a constant of it is no text, number, boolean or list of them")


def _constant(term: Term) -> Term:
    """Take a list that is compared as a whole."""
    return Constant(term.values) if isinstance(term, Options) else term


def _joined(parts: Sequence[Condition | bool], *, every: bool) -> Condition | bool:
    if any(part is not every for part in parts if isinstance(part, bool)):
        return not every
    left = [part for part in parts if not isinstance(part, bool)]
    if not left:
        return every
    return conjunction(*left) if every else disjunction(*left)


def _negated(part: Condition | bool) -> Condition | bool:
    return not part if isinstance(part, bool) else Not(part)


def _unknown(told: object) -> PDPReplyError:
    operator = told if type(told) is str and _NAME.fullmatch(told) else "such operators"
    return _refused(told, f"conditions have no `{operator}` like this")


def _refused(told: object, why: str) -> PDPReplyError:
    found = type(told).__name__
    return PDPReplyError(f"a plan of Cerbos cannot be a row filter: {why} (at a `{found}`); use `filter` instead")


_LEAVES: Final[dict[str, Callable[[str, Term, Term], Condition]]] = {
    **dict.fromkeys(_COMPARISONS, _compare),
    **dict.fromkeys(_TEXTS, _text),
    "in": _member,
    "hasIntersection": _intersects,
}
