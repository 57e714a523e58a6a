"""
Canonical JSON (RFC 8785): one text for one value, on every machine. For revisions only, never for keys.

It writes ``1`` and ``1.0`` alike. Imports the error tree only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import orjson

from pep.errors import ConfigurationError

#: Beyond this, ECMAScript's numbers are no longer exact integers.
MAX_INTEGER: Final = 2**53
# Where the decimal point may stand for ECMAScript to write a number without an exponent.
_PLAIN_ABOVE, _PLAIN_BELOW = -6, 21


def canonical_json(value: Any) -> bytes:  # noqa: ANN401  JSON has no narrower type
    """
    Write a value as canonical JSON.

    Raises:
        ConfigurationError: On a number that is not finite or no exact double, and on invalid Unicode.

    Source:
        RFC 8785 (JCS).
    """
    try:
        return _write(value).encode()
    except (UnicodeEncodeError, orjson.JSONEncodeError):
        message = "a text is no valid Unicode"
        raise ConfigurationError(message) from None


def _write(value: Any) -> str:  # noqa: ANN401  JSON has no narrower type
    if isinstance(value, Mapping):
        # INVARIANT: by UTF-16 code units, which differ from code points beyond the basic plane.
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(f"{_write(name)}:{_write(value[name])}" for name in names) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join([_write(one) for one in value]) + "]"
    if type(value) is float:
        return _write_float(value)
    if type(value) is int and abs(value) > MAX_INTEGER:
        message = "an integer beyond 2**53 has no canonical form; write it as text"
        raise ConfigurationError(message)
    return orjson.dumps(value).decode()


def _write_float(value: float) -> str:
    """Write a double as ECMAScript does: the shortest digits that tell it apart."""
    if not math.isfinite(value):
        message = "a number that is not finite has no canonical form"
        raise ConfigurationError(message)
    sign = "-" if value < 0 else ""
    digits, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = digits.partition(".")
    point = len(whole) + int(exponent or 0)
    digits = whole + fraction
    point -= len(digits) - len(digits.lstrip("0"))
    digits = digits.strip("0")
    return sign + _place(digits, point) if digits else "0"


def _place(digits: str, point: int) -> str:
    """Place the decimal point before the digit number *point*."""
    if len(digits) <= point <= _PLAIN_BELOW:
        return digits + "0" * (point - len(digits))
    if 0 < point <= _PLAIN_BELOW:
        return f"{digits[:point]}.{digits[point:]}"
    if _PLAIN_ABOVE < point <= 0:
        return f"0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{point - 1:+d}"
