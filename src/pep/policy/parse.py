"""
Reads the text form of a condition: a safe subset of Python's expressions.

Nothing is ever executed: the text is tokenised and bounded first, then parsed by `ast`, and every node that has no
place in a condition is refused at its line and column. Imports attributes and conditions.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any, Final, NoReturn

from pep.errors import ConfigurationError
from pep.policy.attributes import Attribute, Clock, action, context, has, now, resource, subject
from pep.policy.condition import MAX_NESTING, Condition, Not, check_size, conjunction, disjunction

#: How many characters the text of one condition may have, and how many tokens other than constants and commas.
MAX_LENGTH: Final = 262_144
MAX_TOKENS: Final = 16_384

_ROOTS: Final = {"subject": subject, "resource": resource, "action": action, "context": context, "now": now}
#: Method → the names of its keyword arguments. The closed list of what a text may call, with `has`.
_METHODS: Final[dict[str, frozenset[str]]] = {
    **dict.fromkeys(
        ("contains", "in_", "intersects", "starts_with", "ends_with", "contains_text", "ip_in"), frozenset()
    ),
    **dict.fromkeys(("between", "after", "before"), frozenset({"skew"})),
    "daily": frozenset({"zone", "skew", "days"}),
}
_COMPARISONS: Final[dict[type[ast.cmpop], str]] = {
    ast.Eq: "__eq__",
    ast.NotEq: "__ne__",
    ast.Lt: "__lt__",
    ast.LtE: "__le__",
    ast.Gt: "__gt__",
    ast.GtE: "__ge__",
}
_MIRRORED: Final = {"__lt__": "__gt__", "__le__": "__ge__", "__gt__": "__lt__", "__ge__": "__le__"}
_ESCAPE: Final = r"\\(?:[\\'\"abfnrtv]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})"
_TOKEN: Final = re.compile(
    r"(?P<space>[ \t\n]+)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*(?!['\"]))"
    r"|(?P<number>(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,4})?(?![A-Za-z0-9_.]))"
    rf"|(?P<text>'(?!'')(?:[^'\\\n]|{_ESCAPE})*'|\"(?!\"\")(?:[^\"\\\n]|{_ESCAPE})*\")"
    r"|(?P<open>[(\[])|(?P<close>[)\]])"
    r"|(?P<operator>==|!=|<=|>=|[<>&|~.,=-])"
)
_ALLOWED: Final = (
    "a condition compares attributes of `subject`, `resource`, `action` and `context` by `== != < <= > >=` and `in`, "
    "calls `has(...)` or `.contains .in_ .intersects .starts_with .ends_with .contains_text .ip_in .between .after "
    ".before .daily`, and joins by `&`, `|`, `~`, `and`, `or`, `not`"
)


class ConditionError(ConfigurationError):
    """
    A condition's text could not be read.

    Attributes:
        problem: What is wrong, without the place.

        line: Where, counted from 1.

        column: Where in the line, counted in characters from 1.
    """

    def __init__(self, problem: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {problem}")
        self.problem = problem
        self.line = line
        self.column = column


def parse(text: str) -> Condition:
    """
    Read a condition.

    Args:
        text: A subset of Python's expressions, over any number of lines.

    Returns:
        The condition the same text builds in Python; `and`, `or`, `not` and `in` are read too.

    Raises:
        ConditionError: On anything outside the subset, at its line and column.
    """
    if type(text) is not str or not text.strip():
        message = "a condition must be text that is not empty"
        raise ConditionError(message, 1, 1)
    # Lines end as Python's do, so that positions agree.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    _check_tokens(text)
    condition = _Reader(text).read()
    try:
        check_size(condition)
    except ConfigurationError as error:
        raise ConditionError(str(error), 1, 1) from None
    return condition


def _check_tokens(text: str) -> None:
    """Refuse what `ast` should not even see: foreign characters, and what nests or repeats without bound."""
    if len(text) > MAX_LENGTH:
        _refuse(text, MAX_LENGTH, f"a condition may have at most {MAX_LENGTH} characters")
    place, depth, tokens, unary, dots = 0, 0, 0, 0, 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            _refuse(text, place, _foreign(text[place:]))
        kind, word = found.lastgroup, found[0]
        depth += (kind == "open") - (kind == "close")
        tokens += kind in {"name", "open", "operator"} and word != ","
        unary = unary + 1 if word in {"~", "-", "not"} else unary * (kind in {"space", "open"})
        dots = dots + 1 if word == "." else dots * (kind in {"space", "name"})
        if depth < 0:
            _refuse(text, place, "this bracket closes nothing")
        if depth > MAX_NESTING or unary > MAX_NESTING or dots > MAX_NESTING:
            _refuse(text, place, f"a condition may nest at most {MAX_NESTING} deep")
        if tokens > MAX_TOKENS:
            _refuse(text, place, f"a condition may have at most {MAX_TOKENS} tokens; split the rule")
        place = found.end()


def _foreign(rest: str) -> str:
    if re.match(r"[A-Za-z]+['\"]", rest):
        return "texts have no prefix: neither f-strings, nor bytes, nor raw ones; " + _ALLOWED
    if rest[0] in "'\"":
        return "this text is not closed on its line, or has an unknown escape; write `\\\\` for a backslash"
    if rest[0].isdigit():
        return "malformed number"
    return f"`{rest[0] if rest[0].isprintable() else ascii(rest[0])[1:-1]}` has no place in a condition; {_ALLOWED}"


def _refuse(text: str, place: int, problem: str) -> NoReturn:
    before = text[:place]
    raise ConditionError(problem, before.count("\n") + 1, place - (before.rfind("\n") + 1) + 1)


class _Reader:
    """Turns the nodes of one text into a condition."""

    __slots__ = ("_lines", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = text.split("\n")

    def read(self) -> Condition:
        try:
            # The parentheses let a condition span lines; brackets inside were seen to be balanced.
            return self._condition(ast.parse(f"({self._text}\n)", mode="eval").body, 0)
        except SyntaxError as error:
            raise self._failed(error.lineno or 1, (error.offset or 1) - 1, f"not an expression: {error.msg}") from None
        except (RecursionError, MemoryError, ValueError):
            raise self._failed(1, 1, "this expression is too complex") from None

    def _condition(self, node: ast.expr, depth: int) -> Condition:
        if depth > MAX_NESTING:
            raise self._refused(node, f"a condition may nest at most {MAX_NESTING} deep")
        match node:
            case ast.BoolOp(op=ast.And(), values=values):
                return conjunction(*[self._condition(one, depth + 1) for one in values])
            case ast.BoolOp(values=values):
                return disjunction(*[self._condition(one, depth + 1) for one in values])
            case ast.BinOp(op=ast.BitAnd()):
                return conjunction(*[self._condition(one, depth + 1) for one in _chain(node, ast.BitAnd)])
            case ast.BinOp(op=ast.BitOr()):
                return disjunction(*[self._condition(one, depth + 1) for one in _chain(node, ast.BitOr)])
            case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
                return Not(self._condition(operand, depth + 1))
            case ast.Compare():
                return self._compare(node)
            case ast.Call():
                return self._call(node)
            case _:
                raise self._refused_bare(node)

    def _compare(self, node: ast.Compare) -> Condition:
        if len(node.ops) > 1:
            raise self._refused(node, "a chained comparison is refused; write it as two, joined by `&`")
        left, right, kind = node.left, node.comparators[0], type(node.ops[0])
        if kind in {ast.In, ast.NotIn}:
            among = self._among(left, right)
            return among if kind is ast.In else Not(among)
        method = _COMPARISONS.get(kind)
        if method is None:
            raise self._refused(node, f"`is` compares identities; use `==`; {_ALLOWED}")
        one, other = self._operand(left), self._operand(right)
        if type(one) is not Attribute:
            one, other, method = other, one, _MIRRORED.get(method, method)
        if type(one) is not Attribute:
            raise self._refused(node, "one side of a comparison must be an attribute")
        return self._built(node, getattr(one, method), other)

    def _among(self, left: ast.expr, right: ast.expr) -> Condition:
        item, collection = self._operand(left), self._argument(right)
        if type(item) is Attribute:
            return self._built(right, item.in_, collection)
        if type(collection) is not Attribute:
            raise self._refused(right, "one side of `in` must be an attribute")
        return self._built(right, collection.contains, item)

    def _call(self, node: ast.Call) -> Condition:
        args = [self._argument(one) for one in node.args]
        if type(node.func) is ast.Name and node.func.id == "has":
            return self._built(node, has, *args, **{one.arg or "": None for one in node.keywords})
        if type(node.func) is not ast.Attribute or node.func.attr not in _METHODS:
            raise self._refused(node, f"this call is not allowed; {_ALLOWED}")
        name = node.func.attr
        keywords = {one.arg: self._argument(one.value) for one in node.keywords if one.arg is not None}
        if len(keywords) != len(node.keywords) or not keywords.keys() <= _METHODS[name]:
            raise self._refused(node, f"`{name}` takes the keywords {sorted(_METHODS[name])} only")
        owner = self._owner(node.func.value)
        method = getattr(owner, name, None)
        if type(owner) is Clock and name not in {"between", "after", "before", "daily"}:
            raise self._refused(node, "`now` has `.between`, `.after`, `.before` and `.daily` only")
        return self._built(node, method, *args, **keywords)

    def _built(self, node: ast.expr, method: Any, *args: Any, **keywords: Any) -> Condition:  # noqa: ANN401
        """Build by the same functions Python does, so that both spellings mean the same."""
        try:
            built: Condition = method(*args, **keywords)
        except ConfigurationError as error:
            raise self._refused(node, str(error)) from None
        except TypeError:
            raise self._refused(node, "wrong number of arguments, or a wrong keyword") from None
        return built

    def _argument(self, node: ast.expr) -> Any:  # noqa: ANN401  a constant, an attribute, or a list of constants
        if type(node) not in {ast.List, ast.Tuple}:
            return self._operand(node)
        found = [self._operand(one) for one in node.elts]  # type: ignore[attr-defined]
        if any(type(one) is Attribute for one in found):
            raise self._refused(node, "the values of a list must be constants")
        return found

    def _operand(self, node: ast.expr) -> Any:  # noqa: ANN401  a constant or an attribute
        match node:
            case ast.Constant(value=str() | int() | float() as value):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return -value
            case ast.Constant(value=None):
                raise self._refused(node, "nothing equals a missing value; write `~has(...)`")
            case ast.Name(id="now"):
                raise self._refused(node, "`now` is not compared; write `now.before(..., skew=...)`")
            case ast.Name() | ast.Attribute() | ast.Subscript():
                return self._attribute(node)
            case ast.BinOp(op=ast.BitAnd() | ast.BitOr()):
                raise self._refused(node, "`&` and `|` bind tighter than `==`; put each comparison in parentheses")
            case _:
                raise self._refused(node, f"this has no place here; {_ALLOWED}")

    def _owner(self, node: ast.expr) -> Attribute | Clock:
        if type(node) is ast.Name and node.id == "now":
            return now
        return self._attribute(node)

    def _attribute(self, node: ast.expr) -> Attribute:
        match node:
            case ast.Attribute(value=value, attr=name):
                if name.startswith("_"):
                    raise self._refused(node, f"`{name}` is not allowed: names of attributes do not start with `_`")
                owner = self._entity(value)
                if type(owner) is Attribute and hasattr(Attribute, name):
                    problem = f'`{name}` is an operator here; write `["{name}"]` for a property of that name'
                    raise self._refused(node, problem)
                return self._looked_up(node, owner, name, by=getattr)
            case ast.Subscript(value=value, slice=ast.Constant(value=str(name))):
                return self._looked_up(node, self._entity(value), name, by=lambda owner, key: owner[key])
            case ast.Subscript():
                raise self._refused(node, "the name of a property is a text in brackets")
            case ast.Name(id=name) if name in _ROOTS:
                raise self._refused(node, f"`{name}` as a whole cannot be compared; compare one of its attributes")
            case ast.Name(id=name):
                raise self._refused(node, f"unknown name `{name}`; {_ALLOWED}")
            case _:
                raise self._refused(node, f"this is no attribute; {_ALLOWED}")

    def _entity(self, node: ast.expr) -> Any:  # noqa: ANN401  an entity or an attribute
        if type(node) is ast.Name and node.id in _ROOTS and node.id != "now":
            return _ROOTS[node.id]
        return self._attribute(node)

    def _looked_up(self, node: ast.expr, owner: Any, name: str, *, by: Callable[[Any, str], Any]) -> Attribute:  # noqa: ANN401
        try:
            found: Attribute = by(owner, name)
        except ConfigurationError as error:
            raise self._refused(node, str(error)) from None
        return found

    def _refused_bare(self, node: ast.expr) -> ConditionError:
        if type(node) in {ast.Attribute, ast.Subscript}:
            spelled = repr(self._attribute(node))
            return self._refused(node, f"`{spelled}` is a bare attribute and no condition; write `{spelled} == True`")
        if type(node) in {ast.Constant, ast.Name}:
            self._operand(node)
        return self._refused(node, f"this is no condition; {_ALLOWED}")

    def _refused(self, node: ast.expr, problem: str) -> ConditionError:
        line = f"({self._text}\n)".split("\n")[node.lineno - 1]
        return self._failed(node.lineno, _characters(line, node.col_offset), problem)

    def _failed(self, line: int, column: int, problem: str) -> ConditionError:
        """Make the error for a position `ast` told, which counts the parenthesis on the first line."""
        line = min(line, len(self._lines))
        place = column - (line == 1)
        return ConditionError(problem, line, max(0, min(place, len(self._lines[line - 1]))) + 1)


def _characters(line: str, column: int) -> int:
    """Return how many characters the first so many bytes of a line are."""
    return len(line.encode()[:column].decode(errors="ignore"))


def _chain(node: ast.BinOp, operator: type[ast.operator]) -> list[ast.expr]:
    """Return the operands of a chain of one operator, which `ast` nests to the left."""
    found: list[ast.expr] = []
    one: ast.expr = node
    while type(one) is ast.BinOp and type(one.op) is operator:
        found.append(one.right)
        one = one.left
    return [one, *reversed(found)]
