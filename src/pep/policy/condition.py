"""
Conditions: one tree of frozen values that is decided, compiled, printed, filtered by and explained.

Terms name values, leaves compare terms, connectives join conditions. Imports the errors and the frozen values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

import attrs

from pep.errors import ConfigurationError
from pep.frozen import canonical

if TYPE_CHECKING:
    from pep.model import AccessRequest

Root = Literal["subject", "resource", "action", "context"]
Scalar = str | int | float | bool
#: True, false, or None for unknown (Kleene).
Truth = bool | None

#: How deep connectives may nest, and how many nodes one condition may have.
MAX_NESTING: Final = 32
MAX_NODES: Final = 1024

#: What is no property: the parts every request has. `resource.id` is missing on a resource that is new.
INTRINSICS: Final[dict[str, tuple[str, ...]]] = {
    "subject": ("id", "type"),
    "resource": ("id", "type", "is_new"),
    "action": ("name",),
    "context": (),
}


@attrs.frozen(cache_hash=True)
class Property:
    """A property of the subject, resource or action, or a member of the context; nested by *path*."""

    root: Root
    path: tuple[str, ...]


@attrs.frozen(cache_hash=True)
class Intrinsic:
    """A part of the request that is no property, such as the subject's id."""

    root: Root
    name: str


@attrs.frozen
class Now:
    """The moment of the decision, in seconds since the epoch."""


@attrs.frozen
class Constant:
    """
    One value written in the rule; ``1``, ``1.0`` and ``True`` are three different constants.

    Where a condition was partially evaluated it can be a list or a mapping, too.
    """

    value: Any = attrs.field(eq=canonical)


@attrs.frozen
class Options:
    """Several values written in the rule, all text, all numbers or all booleans."""

    values: tuple[Scalar, ...] = attrs.field(eq=canonical)


Field = Property | Intrinsic
Term = Property | Intrinsic | Now | Constant | Options


class Condition:
    """
    Something that is true, false or unknown of a request.

    It has no truth value of its own: join conditions by ``&``, ``|`` and ``~``.
    """

    __slots__ = ()

    def __and__(self, other: Condition) -> Condition:
        return conjunction(self, _condition(other))

    def __or__(self, other: Condition) -> Condition:
        return disjunction(self, _condition(other))

    def __invert__(self) -> Condition:
        return Not(self)

    def __rand__(self, other: object) -> NoReturn:
        raise TypeError(_no_condition(other))

    __ror__ = __rand__

    def __bool__(self) -> NoReturn:
        message = (
            "a condition has no truth value; join conditions by `&`, `|` and `~` instead of `and`, `or` and `not`, "
            "and write a chained comparison as two"
        )
        raise TypeError(message)

    def __contains__(self, _item: object) -> NoReturn:
        message = "a condition contains nothing; use `.contains(...)` of an attribute"
        raise TypeError(message)

    def __iter__(self) -> Iterator[Any]:
        message = "a condition cannot be iterated"
        raise TypeError(message)


ComparisonOperator = Literal["==", "!=", "<", "<=", ">", ">="]
#: Comparison → the one that says the same with its sides exchanged.
MIRRORED: Final[dict[ComparisonOperator, ComparisonOperator]] = {
    "==": "==",
    "!=": "!=",
    "<": ">",
    "<=": ">=",
    ">": "<",
    ">=": "<=",
}
TextOperator = Literal["starts_with", "ends_with", "contains_text"]


@attrs.frozen
class Compare(Condition):
    """One term compared to another; unknown where their types are incompatible."""

    operator: ComparisonOperator
    left: Term
    right: Term


@attrs.frozen
class Contains(Condition):
    """A list holds an item."""

    collection: Term
    item: Term


@attrs.frozen
class Intersects(Condition):
    """Two lists have an item in common."""

    left: Term
    right: Term


@attrs.frozen
class Text(Condition):
    """A text starts with, ends with or contains another."""

    operator: TextOperator
    text: Term
    part: Term


@attrs.frozen
class InNetwork(Condition):
    """An IP address lies in one of several networks; IPv4-mapped addresses count as IPv4."""

    address: Field
    networks: tuple[str, ...]


@attrs.frozen
class Has(Condition):
    """An attribute is present; a null counts as missing. Never unknown."""

    field: Field


@attrs.frozen
class Window(Condition):
    """A moment lies between two others, widened by *skew* seconds on either side; the end is exclusive."""

    moment: Term
    start: Term | None
    end: Term | None
    skew: float = attrs.field(eq=canonical)


@attrs.frozen
class Daily(Condition):
    """A moment lies in a window of the local day, ``HH:MM`` to ``HH:MM``, widened by *skew* seconds."""

    moment: Term
    start: str
    end: str
    zone: str
    days: tuple[str, ...]
    skew: float = attrs.field(eq=canonical)


@attrs.frozen
class Predicate(Condition):
    """A Python function of the request; only exactly True and False are answers, all else is unknown."""

    name: str
    function: Callable[[AccessRequest], object] = attrs.field(repr=False, eq=id)


@attrs.frozen
class Not(Condition):
    """The opposite; unknown stays unknown."""

    operand: Condition


@attrs.frozen
class And(Condition):
    """Every operand is true."""

    operands: tuple[Condition, ...]


@attrs.frozen
class Or(Condition):
    """At least one operand is true."""

    operands: tuple[Condition, ...]


Leaf = Compare | Contains | Intersects | Text | InNetwork | Has | Window | Daily | Predicate


def conjunction(*operands: Condition) -> Condition:
    """Join conditions by *and*; nested ones are flattened, so that one meaning has one tree."""
    flat = tuple(part for one in operands for part in (one.operands if type(one) is And else (one,)))
    return flat[0] if len(flat) == 1 else And(flat)


def disjunction(*operands: Condition) -> Condition:
    """Join conditions by *or*; nested ones are flattened, so that one meaning has one tree."""
    flat = tuple(part for one in operands for part in (one.operands if type(one) is Or else (one,)))
    return flat[0] if len(flat) == 1 else Or(flat)


def operands(condition: Condition) -> tuple[Condition, ...]:
    """Return the conditions a connective joins; none for a leaf."""
    if type(condition) is And or type(condition) is Or:
        return condition.operands
    return (condition.operand,) if type(condition) is Not else ()


def leaves(condition: Condition) -> Iterator[Condition]:
    """Walk the leaves, left to right."""
    pending = [condition]
    while pending:
        one = pending.pop()
        below = operands(one)
        pending.extend(reversed(below))
        if not below:
            yield one


def terms(leaf: Condition) -> tuple[Term, ...]:
    """Return the terms a leaf compares."""
    found = (getattr(leaf, name) for name in _TERMS.get(type(leaf), ()))
    return tuple(term for term in found if term is not None)


def check_size(condition: Condition) -> None:
    """
    Refuse a condition that is too deep or too large to be decided in bounded time.

    Raises:
        ConfigurationError: Beyond `MAX_NESTING` connectives in each other, or `MAX_NODES` in all.
    """
    level, nodes = [condition], 0
    for _depth in range(MAX_NESTING + 1):
        level = [below for one in level for below in operands(one)]
        nodes += len(level)
        if nodes > MAX_NODES:
            message = f"a condition may have at most {MAX_NODES} parts; split the rule"
            raise ConfigurationError(message)
        if not level:
            return
    message = f"a condition may nest at most {MAX_NESTING} deep; split the rule"
    raise ConfigurationError(message)


_TERMS: Final[dict[type, tuple[str, ...]]] = {
    Compare: ("left", "right"),
    Contains: ("collection", "item"),
    Intersects: ("left", "right"),
    Text: ("text", "part"),
    InNetwork: ("address",),
    Has: ("field",),
    Window: ("moment", "start", "end"),
    Daily: ("moment",),
}


def _condition(value: object) -> Condition:
    if isinstance(value, Condition):
        return value
    raise TypeError(_no_condition(value))


def _no_condition(value: object) -> str:
    return (
        f"`{type(value).__name__}` is no condition; put each comparison in parentheses, as in "
        "`(resource.owner == subject.id) | (resource.public == True)`"
    )
