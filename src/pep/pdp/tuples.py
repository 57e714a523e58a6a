"""Contextual tuples: relationships that hold for one question alone. Imports frozen values and the error tree."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pep.errors import ExtractionError, PDPReplyError
from pep.frozen import freeze_mapping, thaw

#: Where in a request contextual tuples may be.
TUPLES: Final = re.compile(r"(subject|resource|action|context)\.(.+)", re.DOTALL)

#: How many one question may have.
MAX_TUPLES: Final = 100

_TEXTS: Final = {"user": 512, "relation": 50, "object": 256}
_SOLID: Final = re.compile(r"\S+")


def checked_tuples(given: object) -> list[dict[str, Any]]:
    """
    Return contextual tuples as they are sent.

    Args:
        given: A list or tuple of mappings with ``user``, ``relation``, ``object`` and, where they hold under one,
            ``condition``, a mapping with ``name`` and ``context``.

    Raises:
        PDPReplyError: On anything else, and on more than `MAX_TUPLES`.

    Source:
        OpenFGA ``openfga.proto``: ``ContextualTupleKeys``, ``TupleKey``.
    """
    if type(given) not in {list, tuple} or len(given) > MAX_TUPLES:  # type: ignore[arg-type]
        message = f"contextual tuples must be a list of at most {MAX_TUPLES}"
        raise PDPReplyError(message)
    return [_checked(one) for one in given]  # type: ignore[attr-defined]


def _checked(given: object) -> dict[str, Any]:
    try:
        told = thaw(freeze_mapping(given, what="a contextual tuple")) if isinstance(given, Mapping) else {}
    except (ExtractionError, TypeError):
        # What is no JSON, or no Unicode.
        told = {}
    whole = told.keys() - {"condition"} == _TEXTS.keys()
    if not whole or not all(_is_text(told[name], longest) for name, longest in _TEXTS.items()):
        message = (
            "a contextual tuple must have `user`, `relation` and `object`, without spaces; `condition` may be added"
        )
        raise PDPReplyError(message)
    if "condition" in told:
        _check_condition(told["condition"])
    return told


def _is_text(value: object, longest: int) -> bool:
    return type(value) is str and _SOLID.fullmatch(value) is not None and len(value.encode()) <= longest


def _check_condition(condition: object) -> None:
    named = type(condition) is dict and _is_text(condition.get("name"), 256)
    if not named or not condition.keys() <= {"name", "context"} or type(condition.get("context", {})) is not dict:  # type: ignore[attr-defined]
        message = "the condition of a contextual tuple must have a `name`, and may have a `context`"
        raise PDPReplyError(message)
