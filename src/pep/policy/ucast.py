"""
UCAST: conditions over a resource as JSON that other engines and data stores speak, and a superset of it.

Fields are named by an allow-list, both ways. Beyond UCAST there are the operators ``member``, ``intersects`` and
``network``, null for a missing field, ``{"field": ...}`` as a value, and the types ``call`` and ``window``.
Imports conditions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pep.errors import ConfigurationError, PDPReplyError, PEPError
from pep.frozen import FrozenDict, freeze, thaw
from pep.policy.attributes import Attribute, field_of, spell
from pep.policy.condition import (
    MAX_NESTING,
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
    Not,
    Options,
    Or,
    Property,
    Term,
    Text,
    Window,
    check_size,
    conjunction,
    disjunction,
)
from pep.policy.operands import network, skew

_COMPARISONS: Final[dict[Any, str]] = {"==": "eq", "!=": "ne", "<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
_OPERATORS: Final[dict[Any, Any]] = {name: sign for sign, name in _COMPARISONS.items()}
_TEXTS: Final[dict[Any, str]] = {"starts_with": "startswith", "ends_with": "endswith", "contains_text": "contains"}
_METHODS: Final[dict[Any, Any]] = {name: method for method, name in _TEXTS.items()}

JSON = dict[str, Any]


def to_ucast(condition: Condition, fields: Mapping[str, Attribute]) -> JSON:
    """
    Write a condition as UCAST.

    Args:
        condition: Over attributes of a resource, as a row filter has.

        fields: Name of a field → the attribute it stands for; no other attribute may be written.

    Returns:
        A tree of JSON values.

    Raises:
        ConfigurationError: On an attribute that is not among *fields*, and on a condition that has no such form.

    Source:
        UCAST; the Open Policy Agent's data filters.
    """
    return _Writer({field_of(attribute): name for name, attribute in fields.items()}).condition(condition)


def from_ucast(tree: object, fields: Mapping[str, Attribute]) -> Condition:
    """
    Read a condition from UCAST.

    Args:
        tree: A tree of JSON values, from an engine: nothing in it is trusted.

        fields: Name of a field → the attribute it stands for; no other field is accepted.

    Returns:
        A condition of bounded size and depth.

    Raises:
        PDPReplyError: On an unknown field, operator or shape.
    """
    try:
        condition = _Reader({name: field_of(attribute) for name, attribute in fields.items()}).condition(tree, 0)
        check_size(condition)
    except PDPReplyError:
        raise
    except PEPError as error:
        raise PDPReplyError(str(error)) from None
    return condition


class _Writer:
    """Writes conditions, under the names of an allow-list."""

    __slots__ = ("_names",)

    def __init__(self, names: Mapping[Field, str]) -> None:
        self._names = names

    def condition(self, condition: Condition) -> JSON:
        match condition:
            case And(operands):
                return _compound("and", [self.condition(one) for one in operands])
            case Or(operands):
                return _compound("or", [self.condition(one) for one in operands])
            case Not(Contains(Options(values), Property() | Intrinsic() as field)):
                return self._field("nin", field, list(values))
            case Not(operand):
                return _compound("not", [self.condition(operand)])
            case Window(moment, start, end, tolerance):
                told = {"type": "window", "moment": self._value(moment), "skew": tolerance}
                ends = {"start": start, "end": end}
                return told | {name: self._value(term) for name, term in ends.items() if term is not None}
            case _:
                return self._leaf(condition)

    def _leaf(self, leaf: Condition) -> JSON:
        match leaf:
            case Compare(operator, left, right):
                return self._binary(_COMPARISONS[operator], left, right)
            case Contains(Options() | Constant() as collection, item):
                return self._binary("in", item, collection)
            case Contains(collection, item):
                return self._binary("member", collection, item)
            case Intersects(left, right):
                return self._binary("intersects", left, right)
            case Text(operator, text, part):
                return self._binary(_TEXTS[operator], text, part)
            case Has(field):
                return self._field("ne", field, None)
            case InNetwork(address, networks):
                return self._field("network", address, list(networks))
            case _:
                message = f"a `{type(leaf).__name__}` has no UCAST form"
                raise ConfigurationError(message)

    def _binary(self, operator: str, left: Term, right: Term) -> JSON:
        if isinstance(left, Property | Intrinsic):
            return self._field(operator, left, self._value(right))
        return {"type": "call", "operator": operator, "value": [self._value(left), self._value(right)]}

    def _field(self, operator: str, field: Field, value: object) -> JSON:
        return {"type": "field", "operator": operator, "field": self._name(field), "value": value}

    def _value(self, term: Term) -> Any:  # noqa: ANN401  JSON has no narrower type
        if isinstance(term, Property | Intrinsic):
            return {"field": self._name(term)}
        if isinstance(term, Options):
            return list(term.values)
        if not isinstance(term, Constant):
            message = "the moment of the decision has no UCAST form; evaluate the condition partially first"
            raise ConfigurationError(message)
        if isinstance(term.value, FrozenDict):
            message = "a mapping has no UCAST form"
            raise ConfigurationError(message)
        return thaw(term.value)

    def _name(self, field: Field) -> str:
        name = self._names.get(field)
        if name is None:
            message = f"`{spell(field)}` is not among the fields that may be written"
            raise ConfigurationError(message)
        return name


class _Reader:
    """Reads conditions, of fields on an allow-list."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self._fields = fields

    def condition(self, tree: object, depth: int) -> Condition:
        if type(tree) is not dict or depth > MAX_NESTING:
            raise _refused(tree, f"a condition is an object, at most {MAX_NESTING} deep")
        kind, operator = tree.get("type"), tree.get("operator")
        if kind == "window":
            return self._window(tree)
        if type(operator) is not str:
            raise _refused(operator, "a condition needs an `operator`")
        if kind == "compound":
            return self._compound(operator, tree.get("value"), depth)
        if kind == "field":
            return self._leaf(operator, self._field(tree.get("field")), tree)
        if kind == "call":
            return self._call(operator, tree.get("value"))
        raise _refused(kind, "a condition is of the type `compound` or `field`")

    def _compound(self, operator: str, value: object, depth: int) -> Condition:
        if type(value) is not list or not value or operator not in {"and", "or", "not"}:
            raise _refused(value, "a compound is `and`, `or` or `not` of a list that is not empty")
        below = [self.condition(one, depth + 1) for one in value]
        if operator == "not":
            # As OPA has it, `not` of several is of all together.
            return Not(conjunction(*below))
        return conjunction(*below) if operator == "and" else disjunction(*below)

    def _leaf(self, operator: str, field: Field, tree: Mapping[str, Any]) -> Condition:
        if "value" not in tree:
            raise _refused(tree, f"`{operator}` needs a `value`")
        value = tree["value"]
        if value is None and operator in {"eq", "ne"}:
            return Has(field) if operator == "ne" else Not(Has(field))
        if operator == "network":
            return InNetwork(field, self._networks(value))
        if operator == "nin":
            return Not(Contains(self._list(value), field))
        return self._binary(operator, field, value)

    def _call(self, operator: str, value: object) -> Condition:
        if type(value) is not list or len(value) != len(("left", "right")):
            raise _refused(value, "a call has two values")
        return self._binary(operator, self._term(value[0]), value[1])

    def _binary(self, operator: str, left: Term, value: object) -> Condition:
        if operator == "in":
            return Contains(self._list(value), left)
        right = self._term(value)
        if operator in _OPERATORS:
            return Compare(_OPERATORS[operator], left, right)
        if operator in _METHODS:
            return Text(_METHODS[operator], left, right)
        if operator == "member":
            return Contains(left, right)
        if operator == "intersects":
            return Intersects(left, right)
        raise _refused(operator, f"unknown operator `{operator}`")

    def _window(self, tree: Mapping[str, Any]) -> Condition:
        moment, start, end = (self._term(tree[name]) if name in tree else None for name in ("moment", "start", "end"))
        if moment is None or (start is None and end is None):
            raise _refused(tree, "a window needs a `moment`, and a `start` or an `end`")
        return Window(moment, start, end, skew(tree.get("skew")))

    def _networks(self, value: object) -> tuple[str, ...]:
        if type(value) is not list or not value:
            raise _refused(value, "`network` takes a list of networks that is not empty")
        return tuple(network(one) for one in value)

    def _list(self, value: object) -> Term:
        term = self._term(value)
        if isinstance(term, Constant) and type(term.value) is not tuple:
            raise _refused(value, "`in` and `nin` take a list")
        return term

    def _term(self, value: object) -> Term:
        if type(value) is dict and set(value) == {"field"}:
            return self._field(value["field"])
        if value is None or type(value) is dict:
            raise _refused(value, "a value is a text, a number, a boolean, a list or a field")
        frozen = freeze(value)
        if type(frozen) is tuple and frozen and _is_homogeneous(frozen):
            return Options(frozen)
        return Constant(frozen)

    def _field(self, name: object) -> Field:
        field = self._fields.get(name) if type(name) is str else None
        if field is None:
            raise _refused(name, "a field is not among those that are accepted")
        return field


def _compound(operator: str, value: list[JSON]) -> JSON:
    return {"type": "compound", "operator": operator, "value": value}


def _is_homogeneous(values: tuple[Any, ...]) -> bool:
    kinds = {type(value) for value in values}
    return kinds <= {int, float} or kinds in ({str}, {bool})


def _refused(found: object, problem: str) -> PDPReplyError:
    return PDPReplyError(f"no UCAST condition: {problem}, not this `{type(found).__name__}`")
