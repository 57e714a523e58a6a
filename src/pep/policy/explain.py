"""
Explanations: which rules could apply to a request, what each part of their conditions was, and what decided.

Attribute values are never told, only truths and the names of what was missing. Imports rules, evaluation and the
combining algorithms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

import attrs

from pep.compose.combine import Algorithm, Extended
from pep.model import AccessRequest, Effect
from pep.policy.attributes import spell
from pep.policy.condition import And, Condition, Intrinsic, Leaf, Not, Or, Property, Truth, operands, terms
from pep.policy.evaluate import Facts, evaluate_leaf, look_up
from pep.policy.rule import Rule
from pep.policy.text import to_text
from pep.policy.values import every, opposite, some

_SIGNS: Final = {True: "true", False: "false", None: "unknown"}
_JOINS: Final[dict[type, str]] = {And: "and", Or: "or", Not: "not"}
_CONTRIBUTIONS: Final = {
    (Effect.PERMIT, True): Extended.PERMIT,
    (Effect.PERMIT, None): Extended.INDETERMINATE_P,
    (Effect.DENY, True): Extended.DENY,
    (Effect.DENY, None): Extended.INDETERMINATE_D,
}


@attrs.frozen
class Part:
    """
    One part of a condition, and what it was of the request.

    Attributes:
        text: A comparison as it is written in a file; ``and``, ``or`` or ``not`` for what joins others.

        truth: True, False, or None for unknown.

        missing: The attributes in a comparison that the request does not have.

        parts: What is joined.
    """

    text: str
    truth: Truth
    missing: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()

    def leaves(self) -> Iterator[Part]:
        """Walk the comparisons, left to right."""
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part.leaves()

    def to_dict(self) -> dict[str, Any]:
        """Return the part as JSON: ``text``, ``value``, and ``missing`` or ``parts`` where there are any."""
        told: dict[str, Any] = {"text": self.text, "value": _SIGNS[self.truth]}
        if self.missing:
            told["missing"] = list(self.missing)
        if self.parts:
            told["parts"] = [part.to_dict() for part in self.parts]
        return told


@attrs.frozen
class Candidate:
    """
    A rule whose target matched.

    Attributes:
        id: The rule.

        effect: What it would answer.

        truth: Whether it applies; None if that is unknown.

        when: Its condition, part by part; None if it has none.

        unless: Its exception, part by part; None if it has none.

        decided: Whether the decision is its doing.

        reason: Why it is there, if it says.
    """

    id: str
    effect: Effect
    truth: Truth
    when: Part | None
    unless: Part | None
    decided: bool
    reason: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as JSON."""
        told: dict[str, Any] = {
            "id": self.id,
            "effect": self.effect.value,
            "applies": _SIGNS[self.truth],
            "decided": self.decided,
        }
        for name, part in (("when", self.when), ("unless", self.unless)):
            if part is not None:
                told[name] = part.to_dict()
        return told | ({} if self.reason is None else {"reason": self.reason})


@attrs.frozen
class Explanation:
    """
    Why a request is decided as it is.

    Attributes:
        effect: The decision's.

        combined: The same with what an indeterminate one could have been.

        candidates: The rules whose target matched, by id.

        revision: Which version of the policies this is about.
    """

    effect: Effect
    combined: Extended
    candidates: tuple[Candidate, ...]
    revision: str

    @property
    def policies(self) -> tuple[str, ...]:
        """The rules that decided."""
        return tuple(candidate.id for candidate in self.candidates if candidate.decided)

    def to_dict(self) -> dict[str, Any]:
        """Return the explanation as JSON."""
        return {
            "effect": self.effect.value,
            "combined": self.combined.value,
            "policies": list(self.policies),
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "revision": self.revision,
        }

    def to_text(self) -> str:
        """Return the explanation as lines of text, what decided first."""
        lines = [f"{self.effect.value}, decided by {', '.join(self.policies) or 'no rule'} (revision {self.revision})"]
        for candidate in sorted(self.candidates, key=_interest):
            lines.extend(_candidate_lines(candidate))
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.to_text()


def explain(rules: Iterable[Rule], request: AccessRequest, now: float, revision: str) -> Explanation:
    """
    Explain how rules decide a request.

    Args:
        rules: All of them, ordered by id; those whose target does not match are left out.

        request: What is asked.

        now: The moment of the decision, in epoch seconds.

        revision: Which version of the policies the rules are.
    """
    facts = Facts(request, now)
    found = [_candidate(rule, facts) for rule in rules if rule.about(request)]
    values = [_CONTRIBUTIONS[one.effect, one.truth] for one in found if one.truth is not False]
    combined = Algorithm.DENY_OVERRIDES.of(values)
    decisive = _decisive(combined.collapse(), found)
    told = tuple(attrs.evolve(one, decided=(one.effect, one.truth) == decisive) for one in found)
    return Explanation(combined.collapse(), combined, told, revision)


def _decisive(effect: Effect, found: list[Candidate]) -> tuple[Effect, Truth] | None:
    """Say what the rules have in common that decided: for an indeterminate answer, denials in doubt first."""
    if effect is Effect.INDETERMINATE:
        denials = any(one.effect is Effect.DENY and one.truth is None for one in found)
        return (Effect.DENY if denials else Effect.PERMIT), None
    return None if effect is Effect.NOT_APPLICABLE else (effect, True)


def _candidate(rule: Rule, facts: Facts) -> Candidate:
    when = None if rule.when is None else _part(rule.when, facts)
    unless = None if rule.unless is None else _part(rule.unless, facts)
    truths = [True if when is None else when.truth, True if unless is None else opposite(unless.truth)]
    return Candidate(rule.id, rule.effect, every(truths), when, unless, False, rule.reason)  # noqa: FBT003


def _part(condition: Condition, facts: Facts) -> Part:
    parts = tuple(_part(one, facts) for one in operands(condition))
    if not parts:
        truth = evaluate_leaf(cast("Leaf", condition), facts)
        return Part(to_text(condition), truth, _missing(condition, facts))
    truths = [part.truth for part in parts]
    kind = type(condition)
    truth = opposite(truths[0]) if kind is Not else every(truths) if kind is And else some(truths)
    return Part(_JOINS[kind], truth, parts=parts)


def _missing(leaf: Condition, facts: Facts) -> tuple[str, ...]:
    fields = [term for term in terms(leaf) if isinstance(term, Property | Intrinsic)]
    return tuple(dict.fromkeys(spell(field) for field in fields if look_up(field, facts.request) is None))


def _interest(candidate: Candidate) -> tuple[bool, bool, str]:
    return not candidate.decided, candidate.truth is False, candidate.id


def _candidate_lines(candidate: Candidate) -> Iterator[str]:
    mark = "*" if candidate.decided else " "
    reason = "" if candidate.reason is None else f": {candidate.reason}"
    yield f"{mark} {candidate.effect.value} `{candidate.id}` applies: {_SIGNS[candidate.truth]}{reason}"
    for name, part in (("when", candidate.when), ("unless", candidate.unless)):
        if part is not None:
            yield f"    {name}"
            yield from _part_lines(part, "      ")


def _part_lines(part: Part, indent: str) -> Iterator[str]:
    why = ""
    if part.missing:
        why = f" (missing: {', '.join(part.missing)})"
    elif part.truth is None and not part.parts:
        why = " (values that cannot be compared)"
    yield f"{indent}{_SIGNS[part.truth]:<8}{part.text}{why}"
    for below in part.parts:
        yield from _part_lines(below, indent + "  ")
