"""
The properties of an obligation, read strictly: typed, bounded, and nothing left over.

Every failure names the obligation's type and the property, never its value. Imports L0 only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from enum import Enum
from typing import Any, Final, Generic, TypeVar, cast

from pep.errors import ObligationError, PEPError
from pep.frozen import FrozenDict
from pep.model import Obligation

T = TypeVar("T")


class Required(Enum):
    """Stands for a default where there is none: the property has to be given."""

    REQUIRED = "required"


#: The default of a property that has to be given.
REQUIRED: Final = Required.REQUIRED

# How many obligations a reader keeps what it read of; policies hold few, decision points send new ones.
_KEPT: Final = 256
# How many unknown properties a message names.
_SHOWN: Final = 5
_ABSENT: Final = object()
_RFC3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,6}))?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


class Properties:
    """
    One reading of an obligation's properties; ask for each, then `done`.

    Ask ``"name" in properties`` where a property that is absent means something of its own; a JSON ``null`` is a
    value, and of the wrong type for every property.

    Args:
        obligation: Whose properties.
    """

    __slots__ = ("_known", "_obligation")

    def __init__(self, obligation: Obligation) -> None:
        self._obligation = obligation
        self._known: set[str] = set()

    def __contains__(self, name: str) -> bool:
        """Tell whether a property was given; asking makes it a known one."""
        self._known.add(name)
        return name in self._obligation.properties

    @property
    def type(self) -> str:
        """The obligation's type."""
        return self._obligation.type

    def text(self, name: str, default: str | Required = REQUIRED) -> str:
        """
        Read a text that is not empty.

        Args:
            name: The property's name.

            default: What it is where it was not given.

        Raises:
            ObligationError: When it is missing, empty, or no text.
        """
        return self._read(name, default, _text, "a text that is not empty")

    def texts(self, name: str, default: Collection[str] | Required = REQUIRED) -> tuple[str, ...]:
        """
        Read a list of texts: at least one, none of them empty, none of them twice.

        Raises:
            ObligationError: When it is missing, or anything else; a single text is no list.
        """
        fallback = default if default is REQUIRED else tuple(default)
        return self._read(name, fallback, _texts, "a list of different texts, at least one")

    def flag(self, name: str, default: bool | Required = REQUIRED) -> bool:
        """
        Read ``true`` or ``false``.

        Raises:
            ObligationError: When it is missing, or anything else.
        """
        return self._read(name, default, _flag, "`true` or `false`")

    def integer(
        self, name: str, default: int | Required = REQUIRED, *, minimum: int | None = None, maximum: int | None = None
    ) -> int:
        """
        Read a whole number within inclusive bounds.

        Raises:
            ObligationError: When it is missing, out of bounds, or no exact ``int``; a ``bool`` is none.
        """
        check = _bounded(_integer, minimum, maximum)
        return self._read(name, default, check, f"a whole number{_bounds(minimum, maximum)}")

    def number(
        self,
        name: str,
        default: float | Required = REQUIRED,
        *,
        minimum: float | None = None,
        maximum: float | None = None,
    ) -> float:
        """
        Read a number within inclusive bounds, as the ``int`` or ``float`` it is.

        Raises:
            ObligationError: When it is missing, out of bounds, not finite, or no exact ``int`` or ``float``.
        """
        check = _bounded(_number, minimum, maximum)
        return self._read(name, default, check, f"a number{_bounds(minimum, maximum)}")

    def seconds(
        self, name: str, default: float | Required = REQUIRED, *, minimum: float = 0, maximum: float | None = None
    ) -> float:
        """
        Read a length of time in seconds, zero or more.

        Raises:
            ObligationError: When it is missing, negative, out of bounds, or no number.
        """
        check = _bounded(_number, minimum, maximum)
        return self._read(name, default, check, f"a number of seconds{_bounds(minimum, maximum)}")

    def moment(self, name: str, default: float | Required = REQUIRED) -> float:
        """
        Read a moment: RFC 3339 text with its offset, or seconds since 1970 in UTC; return the latter.

        Raises:
            ObligationError: When it is missing, or anything else; a local time is nobody's moment.
        """
        return self._read(name, default, _moment, "a moment in RFC 3339 with its offset, or seconds since 1970")

    def choice(self, name: str, options: Collection[str], default: str | Required = REQUIRED) -> str:
        """
        Read one of some texts.

        Raises:
            ObligationError: When it is missing, or none of them.
        """
        shown = ", ".join(f"`{option}`" for option in options)
        return self._read(name, default, lambda value: _one_of(value, options), f"one of {shown}")

    def mapping(self, name: str, default: Mapping[str, Any] | Required = REQUIRED) -> Mapping[str, Any]:
        """
        Read a mapping that is not empty: name → JSON-like value, frozen.

        Raises:
            ObligationError: When it is missing, empty, or no mapping.
        """
        return self._read(name, default, _mapping, "a mapping that is not empty")

    def value(self, name: str, default: Any = REQUIRED) -> Any:  # noqa: ANN401  any JSON-like value
        """
        Read any JSON-like value, frozen; ``null`` too.

        Raises:
            ObligationError: When it is missing.
        """
        self._known.add(name)
        value = self._obligation.properties.get(name, default)
        if value is REQUIRED:
            raise self.error(name, "is missing")
        return value

    def parsed(self, name: str, parse: Callable[[str], T], what: str, default: T | Required = REQUIRED) -> T:
        """
        Read a text that something else understands.

        Args:
            name: The property's name.

            parse: Turns the text into what it means; a ``ValueError`` or a `PEPError` says that it cannot.

            what: What the property must be, for the message.

            default: What it is where it was not given.

        Raises:
            ObligationError: When it is missing, empty, no text, or not understood; without the parser's own message,
                which may hold the value.
        """
        return self._read(name, default, lambda value: parse(_text(value)), what)

    def done(self) -> None:
        """
        End the reading.

        Raises:
            ObligationError: When a property was given that nobody asked for.
        """
        unknown = self._obligation.properties.keys() - self._known
        if unknown:
            named = ", ".join(f"`{name}`" for name in sorted(unknown)[:_SHOWN])
            known = ", ".join(f"`{name}`" for name in sorted(self._known)) or "none"
            message = f"obligation `{self._obligation.type}` has unknown properties {named}; it knows {known}"
            raise ObligationError(message)

    def error(self, name: str, problem: str) -> ObligationError:
        """
        Make the error of a property, for what only its handler can tell.

        Args:
            name: The property's name.

            problem: What is wrong with it, such as ``"must not be after `until`"``; never its value.
        """
        return ObligationError(f"property `{name}` of obligation `{self._obligation.type}` {problem}")

    def _read(self, name: str, default: T | Required, take: Callable[[Any], T], what: str) -> T:
        value = self.value(name, _ABSENT)
        if value is _ABSENT:
            if default is REQUIRED:
                raise self.error(name, f"is missing; it must be {what}")
            return default
        try:
            return take(value)
        except (ValueError, OverflowError, PEPError):
            raise self.error(name, f"must be {what}") from None


class Reading(Generic[T]):
    """
    Reads an obligation once, and keeps what that came to while the same obligation comes again.

    An obligation is frozen, so what was read of it holds; one that was refused is read, and refused, again.

    Args:
        read: Turns the properties into what they mean; `Properties.done` is called after it.
    """

    __slots__ = ("_kept", "_read")

    def __init__(self, read: Callable[[Properties], T]) -> None:
        self._read = read
        # By identity; the obligation is held, so that no other gets its identity meanwhile.
        self._kept: dict[int, tuple[Obligation, T]] = {}

    def __call__(self, obligation: Obligation) -> T:
        """
        Return what the obligation's properties mean.

        Raises:
            ObligationError: When they are malformed.
        """
        kept = self._kept.get(id(obligation))
        if kept is not None:
            return kept[1]
        properties = Properties(obligation)
        meaning = self._read(properties)
        properties.done()
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        self._kept[id(obligation)] = (obligation, meaning)
        return meaning


def _text(value: Any) -> str:  # noqa: ANN401  a JSON-like value
    if type(value) is not str or not value:
        raise ValueError
    return value


def _texts(value: Any) -> tuple[str, ...]:  # noqa: ANN401  a JSON-like value
    if type(value) is not tuple or not value or not all(type(text) is str and text for text in value):
        raise ValueError
    if len(set(value)) < len(value):
        raise ValueError
    return value


def _flag(value: Any) -> bool:  # noqa: ANN401  a JSON-like value
    if type(value) is not bool:
        raise ValueError
    return value


def _integer(value: Any) -> int:  # noqa: ANN401  a JSON-like value
    if type(value) is not int:
        raise ValueError
    return value


def _number(value: Any) -> float:  # noqa: ANN401  a JSON-like value
    if type(value) is not int and type(value) is not float:
        raise ValueError
    if not math.isfinite(value):
        raise ValueError
    return value


def _bounded(check: Callable[[Any], T], minimum: float | None, maximum: float | None) -> Callable[[Any], T]:
    def within(value: Any) -> T:  # noqa: ANN401  a JSON-like value
        checked: Any = check(value)
        if (minimum is not None and checked < minimum) or (maximum is not None and checked > maximum):
            raise ValueError
        return cast("T", checked)

    return within


def _bounds(minimum: float | None, maximum: float | None) -> str:
    if minimum is None:
        return "" if maximum is None else f" up to {maximum}"
    return f" from {minimum} on" if maximum is None else f" from {minimum} to {maximum}"


def _moment(value: Any) -> float:  # noqa: ANN401  a JSON-like value
    if type(value) is not str:
        return _number(value)
    parts = _RFC3339.fullmatch(value)
    if parts is None:
        raise ValueError
    date, time, fraction, offset = parts.groups()
    # In the one form that every supported Python reads.
    told = f"{date}T{time}.{(fraction or '').ljust(6, '0')}{'+00:00' if offset in 'Zz' else offset}"
    return datetime.fromisoformat(told).timestamp()


def _one_of(value: Any, options: Collection[str]) -> str:  # noqa: ANN401  a JSON-like value
    if type(value) is not str or value not in options:
        raise ValueError
    return value


def _mapping(value: Any) -> FrozenDict:  # noqa: ANN401  a JSON-like value
    if type(value) is not FrozenDict or not value:
        raise ValueError
    return value
