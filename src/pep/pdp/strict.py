"""
JSON as an engine sends it, read strictly: what two readers could read differently is no answer.

Imports the error tree only.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from pep.errors import PDPReplyError

#: How deep a reply may be nested.
MAX_DEPTH: Final = 64

_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_OTHERS: Final = bytes(set(range(256)) - set(b'"[]{}'))
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def parse(body: bytes, *, depth: int = MAX_DEPTH) -> Any:  # noqa: ANN401  whatever was sent
    """
    Read one JSON value.

    Args:
        body: UTF-8, of bounded length.

        depth: How deep it may be nested; checked before it is parsed.

    Raises:
        PDPReplyError: On anything but JSON: a key that occurs twice, a number that is none or infinite, a lone
            surrogate, too deep a nesting.

    Source:
        RFC 8259; RFC 7493 (I-JSON) §2.
    """
    _check_depth(body, depth)
    try:
        value = json.loads(
            body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite
        )
        if b"\\u" in body and _SURROGATE.search(body):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except PDPReplyError:
        raise
    except (ValueError, RecursionError):
        message = "the reply is no JSON"
        raise PDPReplyError(message) from None
    return value


def parse_object(body: bytes) -> dict[str, Any]:
    """
    Read one JSON object.

    Raises:
        PDPReplyError: On any other JSON value, and whatever `parse` refuses.
    """
    value = parse(body)
    if type(value) is not dict:
        message = f"the reply must be a JSON object, not `{type(value).__name__}`"
        raise PDPReplyError(message)
    return value


def _check_depth(body: bytes, depth: int) -> None:
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Where two quotes meet, what follows is inside or outside of a text as before without them.
    left = body.translate(_BRACKETS, _OTHERS).replace(b'""', b"")
    if b'"' in left:
        left = b"".join(left.split(b'"')[::2])
    # What is left then has brackets that do not match, or too many of them around each other.
    for _level in range(depth):
        if not left:
            return
        left = left.replace(b"[]", b"")
    if left:
        message = f"the reply is nested deeper than {depth} levels, or its brackets do not match"
        raise PDPReplyError(message)


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        message = "a key occurs twice in one object of the reply"
        raise PDPReplyError(message)
    return found


def _no_number(_name: str) -> NoReturn:
    message = "a number of the reply is none"
    raise PDPReplyError(message)


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)
