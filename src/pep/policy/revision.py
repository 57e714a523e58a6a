"""
The canonical form of rules, and the revision computed from it.

The form is a policy file itself. Imports rules, their text and canonical JSON.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from typing import Any

import orjson

from pep.model import Effect, Obligation
from pep.policy.jcs import canonical_json
from pep.policy.rule import Rule, Target
from pep.policy.text import to_text


def rule_to_dict(rule: Rule) -> dict[str, Any]:
    """Return a rule as a policy file holds it; what it leaves open is left out."""
    told: dict[str, Any] = {"id": rule.id}
    for name, target in (("action", rule.actions), ("resource", rule.resources), ("subject", rule.subjects)):
        if target.names:
            told[name] = _names(target)
    if rule.when is not None:
        told["when"] = to_text(rule.when)
    if rule.unless is not None:
        told["unless"] = to_text(rule.unless)
    for name, duties in (("obligations", rule.obligations), ("advice", rule.advice)):
        if duties:
            told[name] = [_duty(duty) for duty in duties]
    if rule.reason is not None:
        told["reason"] = rule.reason
    return told


def canonical_form(rules: Iterable[Rule]) -> bytes:
    """
    Write rules, ordered by id, as canonical JSON, which loads as a policy file.

    Raises:
        ConfigurationError: When an obligation holds an integer beyond 2**53.

    Source:
        RFC 8785.
    """
    written = BytesIO()
    for part in _parts(tuple(rules)):
        written.write(part)
    return written.getvalue()


def revision_of(rules: Iterable[Rule]) -> str:
    """Return the SHA-256 of the canonical form, in hexadecimal."""
    digest = hashlib.sha256()
    for part in _parts(tuple(rules)):
        digest.update(part)
    return digest.hexdigest()


def _parts(rules: Sequence[Rule]) -> Iterator[bytes]:
    """Write the canonical form piece by piece: orjson keeps 4 KB behind every `bytes` it returns."""
    opening = b'{"deny":['
    for effect, closing in ((Effect.DENY, b'],"permit":['), (Effect.PERMIT, b"]}")):
        yield opening
        separator = b""
        for rule in rules:
            if rule.effect is effect:
                yield separator
                yield _written(rule)
                separator = b","
        opening = closing
    yield opening


def _written(rule: Rule) -> bytes:
    told = rule_to_dict(rule)
    if rule.obligations or rule.advice:
        return canonical_json(told)
    # INVARIANT: over texts and lists of them orjson writes what RFC 8785 asks for.
    return orjson.dumps(told, option=orjson.OPT_SORT_KEYS)


def _names(target: Target) -> str | list[str]:
    return target.names[0] if len(target.names) == 1 else list(target.names)


def _duty(duty: Obligation) -> dict[str, Any]:
    told: dict[str, Any] = {"type": duty.type}
    if duty.id is not None:
        told["id"] = duty.id
    if duty.properties:
        told["properties"] = duty.properties
    return told
