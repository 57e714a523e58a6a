"""
How conditions are written in Python: operators and methods on the four parts of a request.

Everything a text in a file may call is here too, so both spellings build the same tree. Imports conditions only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from keyword import iskeyword
from typing import Final, NoReturn, final

from pep.errors import ConfigurationError
from pep.model import AccessRequest
from pep.policy import operands
from pep.policy.condition import (
    INTRINSICS,
    Compare,
    ComparisonOperator,
    Condition,
    Constant,
    Contains,
    Daily,
    Field,
    Has,
    InNetwork,
    Intersects,
    Intrinsic,
    Now,
    Predicate,
    Property,
    Root,
    Term,
    Text,
    TextOperator,
    Window,
)

_SIMPLE: Final = re.compile(r"[^\x00-\x1f\x7f'\\]*")
_ESCAPES: Final = {chr(code): f"\\x{code:02x}" for code in (*range(32), 127)} | {"'": "\\'", "\\": "\\\\"}


class _Moment:
    """What windows of time are asked of."""

    __slots__ = ("_term",)

    def __init__(self, term: Term) -> None:
        self._term = term

    def between(self, start: object, end: object, *, skew: float) -> Condition:
        """
        Whether the moment lies between two others, widened by *skew* seconds on either side.

        Args:
            start: Its first moment: a `datetime` with a time zone, RFC 3339 text, epoch seconds, or an attribute.

            end: Its end, exclusive; likewise.

            skew: By how many seconds clocks may differ.

        Raises:
            ConfigurationError: On a moment that cannot be read, or a negative skew.
        """
        return Window(self._term, _moment(start), _moment(end), operands.skew(skew))

    def after(self, start: object, *, skew: float) -> Condition:
        """Whether the moment is *start* or later, give or take *skew* seconds."""
        return Window(self._term, _moment(start), None, operands.skew(skew))

    def before(self, end: object, *, skew: float) -> Condition:
        """Whether the moment is earlier than *end*, give or take *skew* seconds."""
        return Window(self._term, None, _moment(end), operands.skew(skew))

    def daily(self, start: str, end: str, *, zone: str, skew: float, days: Iterable[str] = ()) -> Condition:
        """
        Whether the moment lies in a daily window; one over midnight belongs to the day it starts on.

        Args:
            start: ``HH:MM``, local time.

            end: ``HH:MM``, exclusive.

            zone: A time zone of the IANA database, such as ``"Europe/Berlin"``.

            skew: By how many seconds clocks may differ.

            days: ``"mon"`` to ``"sun"``; none means every day.

        Raises:
            ConfigurationError: On an unknown zone or day, or a time of another form.
        """
        opens, closes = operands.clock_time(start), operands.clock_time(end)
        return Daily(self._term, opens, closes, operands.zone(zone), operands.days(days), operands.skew(skew))


@final
class Attribute(_Moment):
    """
    An attribute of a request, to be compared; `attribute.name` and `attribute["any name"]` are nested ones.

    A bare attribute is no condition: write ``resource.public == True``.
    """

    __slots__ = ()
    _term: Field
    __hash__ = None  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Attribute:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Attribute:
        if type(self._term) is not Property:
            message = f"`{self!r}` has no properties; they are written `{self._term.root}[...]`"
            raise ConfigurationError(message)
        return _attribute(self._term.root, (*self._term.path, _name(name)))

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]
        return _compare("==", self, other)

    def __ne__(self, other: object) -> Condition:  # type: ignore[override]
        return _compare("!=", self, other)

    def __lt__(self, other: object) -> Condition:
        return _compare("<", self, other)

    def __le__(self, other: object) -> Condition:
        return _compare("<=", self, other)

    def __gt__(self, other: object) -> Condition:
        return _compare(">", self, other)

    def __ge__(self, other: object) -> Condition:
        return _compare(">=", self, other)

    def contains(self, item: object) -> Condition:
        """Whether the attribute, a list, holds *item*; a text holds nothing, see `contains_text`."""
        return Contains(self._term, operand(item))

    def in_(self, options: object) -> Condition:
        """
        Whether *options* hold the attribute's value.

        Args:
            options: A list, tuple or set of constants of one kind, or another attribute that is a list.

        Raises:
            ConfigurationError: On a bare text, an empty list, or constants of several kinds.
        """
        return Contains(_collection(options, "in_"), self._term)

    def intersects(self, options: object) -> Condition:
        """Whether the attribute, a list, has an item in common with *options*."""
        return Intersects(self._term, _collection(options, "intersects"))

    def starts_with(self, part: object) -> Condition:
        """Whether the attribute, a text, starts with *part*."""
        return _text("starts_with", self, part)

    def ends_with(self, part: object) -> Condition:
        """Whether the attribute, a text, ends with *part*."""
        return _text("ends_with", self, part)

    def contains_text(self, part: object) -> Condition:
        """Whether the attribute, a text, contains *part*."""
        return _text("contains_text", self, part)

    def ip_in(self, *networks: str) -> Condition:
        """
        Whether the attribute, an IP address, lies in one of *networks*, such as ``"10.0.0.0/8"``.

        Raises:
            ConfigurationError: On a network with bits beyond its prefix, or none at all.
        """
        if not networks:
            message = "`ip_in` needs at least one network"
            raise ConfigurationError(message)
        return InNetwork(self._term, tuple(operands.network(network) for network in networks))

    def _bare(self, _other: object = None) -> NoReturn:
        message = (
            f"`{self!r}` is a bare attribute and no condition; compare it, as in `{self!r} == True`, "
            "and put each comparison in parentheses"
        )
        raise TypeError(message)

    __and__ = __or__ = __rand__ = __ror__ = __xor__ = __rxor__ = _bare

    def __invert__(self) -> NoReturn:
        self._bare()

    def __bool__(self) -> NoReturn:
        self._bare()

    def __contains__(self, _item: object) -> NoReturn:
        message = f"`in` has no place in a condition; write `{self!r}.contains(...)` or `.in_(...)`"
        raise TypeError(message)

    def __iter__(self) -> NoReturn:
        message = f"the attribute `{self!r}` cannot be iterated"
        raise TypeError(message)

    def __repr__(self) -> str:
        return spell(self._term)


@final
class Entity:
    """A part of a request; ``entity.name`` and ``entity["any name"]`` are its attributes."""

    __slots__ = ("_attributes", "_root")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, root: Root) -> None:
        self._root: Root = root
        self._attributes = {name: Attribute(Intrinsic(root, name)) for name in INTRINSICS[root]}

    def __getattr__(self, name: str) -> Attribute:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._attributes[name] if name in self._attributes else self[name]

    def __getitem__(self, name: str) -> Attribute:
        return _attribute(self._root, (_name(name),))

    def _whole(self, _other: object = None) -> NoReturn:
        message = f"`{self._root}` as a whole cannot be compared; compare an attribute such as `{self._root}.owner`"
        raise TypeError(message)

    __eq__ = __ne__ = __and__ = __or__ = __rand__ = __ror__ = _whole

    def __bool__(self) -> NoReturn:
        self._whole()

    def __contains__(self, _item: object) -> NoReturn:
        self._whole()

    def __iter__(self) -> NoReturn:
        self._whole()

    def __repr__(self) -> str:
        return self._root


@final
class Clock(_Moment):
    """The moment of the decision. A rule that reads it makes its policies impure: answers are not cached."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "now"


subject: Final = Entity("subject")
resource: Final = Entity("resource")
action: Final = Entity("action")
context: Final = Entity("context")
now: Final = Clock(Now())


def has(attribute: object) -> Condition:
    """
    Whether an attribute is present; a null counts as missing.

    Raises:
        ConfigurationError: On anything but an attribute.
    """
    if type(attribute) is not Attribute:
        message = "`has` takes an attribute, as in `has(resource.owner)`"
        raise ConfigurationError(message)
    return Has(attribute._term)  # noqa: SLF001  same file


def predicate(function: Callable[[AccessRequest], object], name: str | None = None) -> Condition:
    """
    Ask a Python function of the request; it makes its policies impure, and has no text form.

    Args:
        function: Answers exactly True or False; anything else, or an exception, is unknown.

        name: What to call it in explanations and the revision; its own name if not given.
    """
    called: object = getattr(function, "__qualname__", None) if name is None else name
    if type(called) is not str or not called or not callable(function):
        message = "`predicate` takes a function of the request and its name"
        raise ConfigurationError(message)
    return Predicate(called, function)


def field_of(attribute: object) -> Field:
    """
    Return what an attribute stands for in a condition.

    Raises:
        ConfigurationError: On anything but an attribute.
    """
    if type(attribute) is not Attribute:
        message = f"expected an attribute such as `resource.owner`, not `{type(attribute).__name__}`"
        raise ConfigurationError(message)
    return attribute._term  # noqa: SLF001  same file


def operand(value: object) -> Term:
    """
    Turn what a condition compares to into a term.

    Raises:
        ConfigurationError: On a value that is no text, number, boolean or attribute.
    """
    if type(value) is Attribute:
        return value._term  # noqa: SLF001  same file
    if isinstance(value, (Condition, Entity, Clock)):
        message = f"`{type(value).__name__}` cannot be compared; put each comparison in parentheses"
        raise ConfigurationError(message)
    return operands.constant(value)


@lru_cache(maxsize=1024)
def spell(field: Field) -> str:
    """Write an attribute the way it is read in Python."""
    if isinstance(field, Intrinsic):
        return f"{field.root}.{field.name}"
    first, *rest = field.path
    reserved = first in INTRINSICS[field.root] or not _plain(first)
    spelled = f"{field.root}[{quote(first)}]" if reserved else f"{field.root}.{first}"
    return spelled + "".join(
        f".{name}" if _plain(name) and not hasattr(Attribute, name) else f"[{quote(name)}]" for name in rest
    )


def quote(text: str) -> str:
    """Write a text as a Python literal, the same on every version of Python: `repr` follows the Unicode of its time."""
    if _SIMPLE.fullmatch(text):
        return f"'{text}'"
    return f"'{''.join([_ESCAPES.get(one) or one for one in text])}'"


def _plain(name: str) -> bool:
    return name.isidentifier() and name.isascii() and not name.startswith("_") and not iskeyword(name)


@lru_cache(maxsize=1024)
def _attribute(root: Root, path: tuple[str, ...]) -> Attribute:
    """Make an attribute; many rules share one, which makes them smaller and faster to compare."""
    return Attribute(Property(root, path))


def _name(name: object) -> str:
    if type(name) is not str or not name:
        message = "an attribute's name must be exactly a `str`, and not empty"
        raise ConfigurationError(message)
    return operands.text(name)


def _compare(operator: ComparisonOperator, left: Attribute, right: object) -> Condition:
    return Compare(operator, left._term, operand(right))  # noqa: SLF001  same file


def _text(operator: TextOperator, text: Attribute, part: object) -> Condition:
    term = operand(part)
    if type(term) is Constant and (type(term.value) is not str or not term.value):
        message = f"`{operator}` takes a text that is not empty, or an attribute"
        raise ConfigurationError(message)
    return Text(operator, text._term, term)  # noqa: SLF001  same file


def _collection(options: object, method: str) -> Term:
    return options._term if type(options) is Attribute else operands.options(options, method)  # noqa: SLF001


def _moment(value: object) -> Term:
    return value._term if type(value) is Attribute else operands.moment(value)  # noqa: SLF001
