"""
What a policy decision point answers: effects, obligations and decisions.

Frozen values in the words of XACML and AuthZEN. Imports the frozen values and the error tree only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from enum import Enum
from typing import Any, NoReturn, TypeVar

import attrs

from pep.errors import ExtractionError, PDPReplyError
from pep.frozen import EMPTY, FrozenDict, canonical, fields_repr, freeze_mapping

T = TypeVar("T")


class Effect(Enum):
    """
    What a policy decision point answers; there is no fifth.

    Source:
        XACML 3.0 §7.
    """

    PERMIT = "permit"
    DENY = "deny"
    NOT_APPLICABLE = "not_applicable"
    INDETERMINATE = "indeterminate"


@attrs.frozen(init=False, repr=False)
class Obligation:
    """
    Something the enforcement point must do for the decision to hold.

    Args:
        type: Which kind of duty, such as ``"redact"``.

        properties: Name → JSON-like value; frozen on construction.

        id: The decision point's name for it, if it gave one.

    Raises:
        PDPReplyError: On a value of another type, or text that is not valid Unicode.

    Source:
        XACML 3.0 §7.18; AuthZEN obligations profile (draft).
    """

    type: str
    # By its canonical bytes: 1, True and 1.0 differ.
    properties: FrozenDict = attrs.field(eq=canonical, repr=False)
    id: str | None

    __repr__ = fields_repr

    def __init__(self, type: str, properties: Mapping[str, Any] = EMPTY, id: str | None = None) -> None:  # noqa: A002  AuthZEN's names
        kind = _text(type, "an obligation's type")
        name = _optional(id, "an obligation's id")
        self.__attrs_init__(kind, _mapping(properties), name)  # pyright: ignore[reportAttributeAccessIssue]


@attrs.frozen(init=False, repr=False)
class Decision:
    """
    A policy decision point's answer. It has no truth value: compare its effect.

    Args:
        effect: Permit, deny, not applicable or indeterminate.

        obligations: What must be done for it to hold.

        advice: What may be done, and may be ignored.

        reasons: Why, for the record; never shown to the caller.

        policies: Ids of the policies that decided.

        revision: Which version of the policies decided.

        ttl: How long it may be reused, in seconds; None leaves that to the profile.

        id: The decision point's own id of this decision.

    Raises:
        PDPReplyError: On a value of another type, text that is not valid Unicode, or a negative or
            non-finite ttl.

    Source:
        XACML 3.0 §7; AuthZEN Authorization API 1.0.
    """

    effect: Effect
    obligations: tuple[Obligation, ...]
    advice: tuple[Obligation, ...]
    reasons: tuple[str, ...]
    policies: tuple[str, ...]
    revision: str | None
    ttl: float | None
    id: str | None

    __repr__ = fields_repr

    def __init__(  # noqa: PLR0917  a decision is written down by hand in tests and policies
        self,
        effect: Effect,
        obligations: Iterable[Obligation] = (),
        advice: Iterable[Obligation] = (),
        reasons: Iterable[str] = (),
        policies: Iterable[str] = (),
        revision: str | None = None,
        ttl: float | None = None,
        id: str | None = None,  # noqa: A002  AuthZEN's name
    ) -> None:
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue]
            _effect(effect),
            _tuple_of(Obligation, obligations, "obligations"),
            _tuple_of(Obligation, advice, "advice"),
            _texts(reasons, "reasons"),
            _texts(policies, "policies"),
            _optional(revision, "a revision"),
            _seconds(ttl),
            _optional(id, "a decision's id"),
        )

    def __bool__(self) -> NoReturn:
        message = "a decision has no truth value; compare `decision.effect is Effect.PERMIT`"
        raise TypeError(message)


def _effect(value: object) -> Effect:
    if type(value) is not Effect:
        message = f"an effect must be an `Effect`, not `{type(value).__name__}`"
        raise PDPReplyError(message)
    return value


def _tuple_of(kind: type[T], value: Iterable[T], what: str) -> tuple[T, ...]:
    if type(value) is not list and type(value) is not tuple:
        message = f"{what} must be a list or tuple of `{kind.__name__}`, not `{type(value).__name__}`"
        raise PDPReplyError(message)
    found = tuple(value)
    for item in found:
        if type(item) is not kind:
            message = f"{what} must hold `{kind.__name__}` only, not `{type(item).__name__}`"
            raise PDPReplyError(message)
    return found


def _texts(value: Iterable[str], what: str) -> tuple[str, ...]:
    return tuple([_unicode(text, what) for text in _tuple_of(str, value, what)])


def _text(value: object, what: str) -> str:
    if type(value) is not str or not value:
        shown = "an empty one" if value == "" else f"`{type(value).__name__}`"
        message = f"{what} must be a non-empty `str`, not {shown}"
        raise PDPReplyError(message)
    return _unicode(value, what)


def _optional(value: object, what: str) -> str | None:
    return None if value is None else _text(value, what)


def _unicode(text: str, what: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        message = f"{what} must be valid Unicode; there is a lone surrogate"
        raise PDPReplyError(message) from None
    return text


def _mapping(value: object) -> FrozenDict:
    try:
        frozen = freeze_mapping(value, what="an obligation's properties")
        # Only to see that they can be written down.
        canonical(frozen)
    except ExtractionError as error:
        raise PDPReplyError(str(error)) from None
    return frozen


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    if (type(value) is int or type(value) is float) and value >= 0:
        try:
            seconds = float(value)
        except OverflowError:
            seconds = math.inf
        if math.isfinite(seconds):
            return seconds
    message = "a ttl must be a finite number of seconds, zero or more"
    raise PDPReplyError(message)


def decision_of(answer: object) -> Decision:
    """
    Take what a decision point answered: a `Decision`, or exactly ``True`` or ``False``.

    Raises:
        PDPReplyError: On anything else, however true it may look.
    """
    if type(answer) is Decision:
        return answer
    if answer is True or answer is False:
        return Decision(Effect.PERMIT if answer else Effect.DENY)
    raise malformed(answer)


def malformed(answer: object) -> PDPReplyError:
    """Return the error of an answer that is no decision; a coroutine is closed, since nobody will await it."""
    kind: Any = type(answer)
    if hasattr(kind, "__await__") and hasattr(kind, "close"):
        with suppress(Exception):
            kind.close(answer)
    message = f"a decision point must answer a `Decision` or exactly `True` or `False`, not `{kind.__name__}`"
    return PDPReplyError(message)
