"""
Compilation of conditions into functions: one per *shape*, with the constants as parameters.

Source is generated from the tree alone; names and constants of a policy never become part of it.
Must answer what `evaluate` answers. Imports conditions and comparisons.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pep.frozen import FrozenDict
from pep.model import AccessRequest
from pep.policy import values
from pep.policy.condition import (
    And,
    Compare,
    Condition,
    Constant,
    Contains,
    Daily,
    Has,
    InNetwork,
    Intersects,
    Intrinsic,
    Not,
    Now,
    Options,
    Or,
    Predicate,
    Property,
    Term,
    Text,
    Truth,
    Window,
    leaves,
    terms,
)
from pep.policy.evaluate import Facts, ask, evaluate, parsed_day, parsed_networks

#: What a condition is compiled to: asked with a request, its constants and the moment of the decision.
Test = Callable[[AccessRequest, tuple[Any, ...], float], Truth]

#: How many shapes are compiled; conditions of further ones are evaluated by walking them.
MAX_SHAPES: Final = 512

_COMPARISONS: Final = {
    "==": "equal",
    "!=": "unequal",
    "<": "less",
    "<=": "less_or_equal",
    ">": "greater",
    ">=": "greater_or_equal",
}
_HELPERS: Final[dict[str, Any]] = {
    "FrozenDict": FrozenDict,
    "ask": ask,
    **{
        name: getattr(values, name)
        for name in (
            *_COMPARISONS.values(),
            "contains",
            "intersects",
            "starts_with",
            "ends_with",
            "contains_text",
            "in_networks",
            "instant",
            "within",
            "within_day",
        )
    },
}
#: Kind of the constants of a list → what a value must be to be among them.
_TYPES: Final = {"str": "is str", "bool": "is bool", "int": "in (int, float)", "float": "in (int, float)"}

_Shape = tuple[Any, ...]


class Compiler:
    """Compiles conditions; those of one shape share one function."""

    __slots__ = ("_most", "_tests", "pure")

    def __init__(self, most: int = MAX_SHAPES) -> None:
        self._most = most
        self._tests: dict[_Shape, Test] = {}
        #: Whether nothing compiled so far reads the clock or calls Python.
        self.pure = True

    def compile(self, condition: Condition) -> tuple[Test, tuple[Any, ...]]:
        """
        Compile a condition.

        Returns:
            A function, and the constants to call it with.
        """
        constants: list[Any] = []
        shape = _shape(condition, constants)
        test = self._tests.get(shape)
        if test is None:
            self.pure = self.pure and is_pure(condition)
            if len(self._tests) >= self._most:
                return _walk, (condition,)
            test = self._tests[shape] = _Writer(shape).finish()
        return test, tuple(constants)


def is_pure(condition: Condition) -> bool:
    """Whether a condition neither reads the clock nor calls Python."""
    return not any(type(leaf) is Predicate or Now() in terms(leaf) for leaf in leaves(condition))


def _walk(request: AccessRequest, constants: tuple[Any, ...], now: float) -> Truth:
    return evaluate(constants[0], Facts(request, now))


def _shape(condition: Condition, constants: list[Any]) -> _Shape:
    """Take the constants out of a condition; what is left is its shape."""
    match condition:
        case And(operands):
            return ("and", *[_shape(one, constants) for one in operands])
        case Or(operands):
            return ("or", *[_shape(one, constants) for one in operands])
        case Not(operand):
            return ("not", _shape(operand, constants))
        case Compare(operator, left, right):
            return ("compare", operator, _term(left, constants), _term(right, constants))
        case Contains(collection, item):
            return ("contains", _term(collection, constants), _term(item, constants))
        case Intersects(left, right):
            return ("intersects", _term(left, constants), _term(right, constants))
        case Text(operator, text, part):
            return ("text", operator, _term(text, constants), _term(part, constants))
        case Has(field):
            return ("has", field)
        case _:
            return _rare_shape(condition, constants)


def _rare_shape(condition: Condition, constants: list[Any]) -> _Shape:
    match condition:
        case InNetwork(address, networks):
            return ("network", address, _hold(parsed_networks(networks), constants))
        case Window(moment, start, end, skew):
            ends = _instant(start, float("-inf"), constants), _instant(end, float("inf"), constants)
            return ("window", _term(moment, constants), *ends, _hold(skew, constants))
        case Daily(moment):
            return ("daily", _term(moment, constants), _hold(parsed_day(condition), constants))
        case _:
            return ("ask", _hold(condition, constants))


def _term(term: Term, constants: list[Any]) -> Any:  # noqa: ANN401  a shape's parts are any hashable
    match term:
        case Constant(value):
            return ("constant", type(value).__name__, _hold(value, constants))
        case Options(found):
            # A membership test among homogeneous constants is one look-up.
            return ("options", type(found[0]).__name__, _hold(found, constants), _hold(frozenset(found), constants))
        case _:
            return term


def _instant(term: Term | None, default: float, constants: list[Any]) -> Any:  # noqa: ANN401
    if term is None:
        return ("constant", "float", _hold(default, constants))
    if type(term) is Constant:
        return ("constant", "float", _hold(values.instant(term.value), constants))
    return term


def _hold(value: object, constants: list[Any]) -> int:
    constants.append(value)
    return len(constants) - 1


class _Writer:
    """Writes the source of one shape's function."""

    __slots__ = ("_lines", "_names", "_shape", "_variables")

    def __init__(self, shape: _Shape) -> None:
        self._shape = shape
        self._lines = ["def test(q, k, now):"]
        self._names: dict[str, str] = {}
        self._variables = 0

    def finish(self) -> Test:
        """Write the function's source, and make it."""
        answer = self._condition(self._shape, "    ")
        source = "\n".join((*self._lines, f"    return {answer}", ""))
        namespace: dict[str, Any] = _HELPERS | {name: text for text, name in self._names.items()}
        exec(compile(source, "<policy condition>", "exec"), namespace)  # noqa: S102  the source holds no text of a policy
        made: Test = namespace["test"]
        return made

    def _write(self, indent: str, line: str) -> None:
        self._lines.append(indent + line)

    def _variable(self) -> str:
        self._variables += 1
        return f"v{self._variables}"

    def _condition(self, shape: _Shape, indent: str) -> str:
        """Write what computes a truth; return the variable that holds it."""
        if shape[0] in {"and", "or"}:
            return self._connective(shape, indent)
        answer = self._variable()
        if shape[0] == "not":
            below = self._condition(shape[1], indent)
            self._write(indent, f"{answer} = None if {below} is None else not {below}")
        else:
            self._write(indent, f"{answer} = {self._leaf(shape, indent)}")
        return answer

    def _connective(self, shape: _Shape, indent: str) -> str:
        answer, first = self._variable(), shape[0] == "and"
        decided, open_ = ("False", "True") if first else ("True", "False")
        self._write(indent, f"{answer} = {open_}")
        for part in shape[1:]:
            self._write(indent, f"if {answer} is not {decided}:")
            below = self._condition(part, indent + " ")
            self._write(indent + " ", f"if {below} is not {open_}: {answer} = {below}")
        return answer

    def _leaf(self, shape: _Shape, indent: str) -> str:
        kind = shape[0]
        if kind == "compare":
            return self._compare(shape, indent)
        if kind == "contains":
            return self._contains(shape, indent)
        if kind == "ask":
            return f"ask(k[{shape[1]}].function, q)"
        first = self._value(shape[2] if kind == "text" else shape[1], indent)
        if kind == "has":
            return f"{first} is not None"
        if kind == "network":
            return f"in_networks({first}, k[{shape[2]}])"
        if kind == "daily":
            return f"within_day(instant({first}), k[{shape[2]}])"
        if kind == "window":
            start, end = (f"instant({self._value(term, indent)})" for term in shape[2:4])
            return f"within(instant({first}), {start}, {end}, k[{shape[4]}])"
        if kind == "text":
            return f"{shape[1]}({first}, {self._value(shape[3], indent)})"
        return f"intersects({first}, {self._value(shape[2], indent)})"

    def _compare(self, shape: _Shape, indent: str) -> str:
        operator, left, right = shape[1:]
        one, other = self._value(left, indent), self._value(right, indent)
        call = f"{_COMPARISONS[operator]}({one}, {other})"
        texts = [f"type({name}) is str" for name, term in ((one, left), (other, right)) if not _is_text(term)]
        if operator not in {"==", "!="} or not texts:
            return call
        return f"{one} {operator} {other} if {' and '.join(texts)} else {call}"

    def _contains(self, shape: _Shape, indent: str) -> str:
        collection, item = shape[1:]
        value = self._value(item, indent)
        if type(collection) is tuple and collection[0] == "options":
            return f"{value} in k[{collection[3]}] if type({value}) {_TYPES[collection[1]]} else None"
        held = self._value(collection, indent)
        if type(item) is tuple and item[1] == "str":
            return f"True if type({held}) is tuple and {value} in {held} else contains({held}, {value})"
        return f"contains({held}, {value})"

    def _value(self, term: Any, indent: str) -> str:  # noqa: ANN401  a shape's parts are any hashable
        """Write what looks a term up; return the variable that holds it."""
        if type(term) is Now:
            return "now"
        name = self._variable()
        if type(term) is tuple:
            self._write(indent, f"{name} = k[{term[2]}]")
        elif type(term) is Intrinsic:
            self._write(indent, f"{name} = q.{term.root}.{term.name}")
        else:
            self._property(name, term, indent)
        return name

    def _property(self, name: str, term: Property, indent: str) -> None:
        start = "q.context" if term.root == "context" else f"q.{term.root}.properties"
        self._write(indent, f"{name} = {start}.get({self._name(term.path[0])})")
        for part in term.path[1:]:
            self._write(indent, f"{name} = {name}.get({self._name(part)}) if type({name}) is FrozenDict else None")

    def _name(self, text: str) -> str:
        return self._names.setdefault(text, f"n{len(self._names)}")


def _is_text(term: Any) -> bool:  # noqa: ANN401  a shape's parts are any hashable
    """Whether a term is text in every request."""
    if type(term) is Intrinsic:
        return term.name in {"type", "name"} or term == Intrinsic("subject", "id")
    return type(term) is tuple and term[:2] == ("constant", "str")
