"""
What the annotations of a Cedar policy tell the enforcement point: obligations, advice, a reason and a name.

Imports L0 and strict JSON only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import attrs

from pep.errors import ConfigurationError, PDPReplyError
from pep.model import Effect, Obligation
from pep.pdp.strict import parse

_EFFECTS: Final = {"permit": Effect.PERMIT, "forbid": Effect.DENY}
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/-]*")
_KNOWN: Final = frozenset({"obligation", "obligations", "advice"})
# A duty under a misspelled name would silently be none.
_NEARLY: Final = re.compile(r"oblig|advi[cs]|duty|duties", re.IGNORECASE)
_MEMBERS: Final = frozenset({"type", "properties", "id"})


@attrs.frozen
class Clause:
    """
    One policy, as far as a decision tells of it.

    Attributes:
        name: What records call it: its ``@id``, or Cedar's own name.

        effect: `Effect.PERMIT`, or `Effect.DENY` of a ``forbid``.

        obligations: What must be done where it decides.

        advice: What may be done there.

        reason: Its ``@reason``.
    """

    name: str
    effect: Effect
    obligations: tuple[Obligation, ...]
    advice: tuple[Obligation, ...]
    reason: str | None


def clause(identity: str, effect: str, annotations: Mapping[str, str | None]) -> Clause:
    """
    Read one policy's annotations.

    Args:
        identity: What Cedar calls the policy.

        effect: ``"permit"`` or ``"forbid"``.

        annotations: Annotation → its text; ``@advice`` without one has an empty text, or None.

    Raises:
        ConfigurationError: When one is malformed, or has a name that is nearly one of an obligation.
    """
    told = {key: text or "" for key, text in annotations.items()}
    name = told.get("id") or identity
    for key in told:
        if key not in _KNOWN and _NEARLY.search(key):
            raise _malformed(name, key, "is none that is known; write `@obligation`, `@obligations` or `@advice`")
    duties = [*_duties(name, "obligation", told), *_duties(name, "obligations", told)]
    ids = [duty.id for duty in duties if duty.id is not None]
    if len(set(ids)) < len(ids):
        raise _malformed(name, "obligations", "has one `id` twice")
    return Clause(
        name, _EFFECTS[effect], tuple(duties), tuple(_duties(name, "advice", told)), told.get("reason") or None
    )


def _duties(policy: str, key: str, told: Mapping[str, str]) -> list[Obligation]:
    if key not in told:
        return []
    text = told[key].strip()
    if _WORD.fullmatch(text):
        return [Obligation(text)]
    try:
        value = parse(text.encode())
        if (type(value) is list) is (key == "obligation") and key != "advice":
            raise _malformed(
                policy, key, "does not fit; `@obligation` has one duty, `@obligations` a JSON list of them"
            )
        return [_duty(policy, key, one) for one in (value if type(value) is list else [value])]
    except PDPReplyError:
        raise _malformed(policy, key, "must be a word, or JSON as documented") from None


def _duty(policy: str, key: str, value: Any) -> Obligation:  # noqa: ANN401  whatever JSON holds
    if type(value) is str:
        return Obligation(value)
    if type(value) is not dict or "type" not in value or not value.keys() <= _MEMBERS:
        raise _malformed(policy, key, "must have `type`, and at most `properties` and `id` beside it")
    return Obligation(value["type"], value.get("properties", {}), value.get("id"))


def _malformed(policy: str, key: str, mend: str) -> ConfigurationError:
    return ConfigurationError(f"annotation `@{key}` of policy `{policy}` {mend}")
