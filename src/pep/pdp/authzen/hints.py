"""
What a decision's context may say beside obligations: why, and which authentication would do.

Imports the model and the error tree only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pep.errors import PDPReplyError
from pep.model import Obligation

_SECONDS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_REASONS: Final = ("reason_admin", "reason_user", "reason")


def reasons_of(context: Mapping[str, Any]) -> tuple[str, ...]:
    """
    Read why, from ``reason_admin``, ``reason_user``, ``reason`` and an error's message: texts, or objects of texts.

    Nothing hangs on them: what is no text is left out.

    Args:
        context: A decision's context.
    """
    found: list[str] = []
    for name in _REASONS:
        told = context.get(name)
        found += _texts(told.values() if type(told) is dict else [told])
    error = context.get("error")
    return (*found, *_texts([error.get("message") if type(error) is dict else error]))


def step_up_of(context: Mapping[str, Any], *, strict: bool) -> Obligation | None:
    """
    Read which authentication would do.

    ``acr_values`` and ``amr_values`` are texts in a list or separated by spaces, ``max_age`` is in seconds.

    Args:
        context: A decision's context.

        strict: Whether one that cannot be read is an error; else it is no hint.

    Returns:
        A ``step-up`` obligation, or None where nothing of the kind is told.

    Raises:
        PDPReplyError: On one that cannot be read, where that counts.

    Source:
        AuthZEN Authorization API 1.0, Decision Context, example 3; RFC 9470.
    """
    properties: dict[str, Any] = {}
    for name, read in (("acr_values", _values), ("amr_values", _values), ("max_age", _age)):
        if context.get(name) is None:
            continue
        properties[name] = read(context[name])
        if properties[name] is None:
            if not strict:
                return None
            message = f"`{name}` of a permit's context cannot be read; what it demands is not known"
            raise PDPReplyError(message)
    return Obligation("step-up", properties) if properties else None


def _values(told: object) -> list[str] | None:
    values = told.split() if type(told) is str else told
    if type(values) is not list or not values or not all(type(one) is str and one for one in values):
        return None
    return values


def _age(told: object) -> float | None:
    if type(told) is str and _SECONDS.fullmatch(told):
        return int(told)
    return told if (type(told) is int or type(told) is float) and told >= 0 else None


def _texts(values: Any) -> list[str]:  # noqa: ANN401  whatever was told
    return [value for value in values if type(value) is str]
