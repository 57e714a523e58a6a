"""
Lint: what is wrong with policies that load.

Findings are told by rule; nothing is changed. Imports rules, policy sets and what compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from typing import Final

import attrs

from pep.model import Effect
from pep.policy.attributes import spell
from pep.policy.contradictions import contradiction
from pep.policy.covering import covers
from pep.policy.policies import PolicySet
from pep.policy.rule import Rule, matches
from pep.policy.spelling import spellings


class Severity(Enum):
    """How bad a finding is."""

    #: The rule cannot do what it is there for.
    ERROR = "error"
    #: The rule may be meant differently, or says too little.
    WARNING = "warning"


@attrs.frozen
class Finding:
    """
    Something that is probably wrong with a rule.

    Attributes:
        rule: Its id.

        severity: How bad it is.

        code: What kind of finding: ``unreachable``, ``shadowed``, ``redundant``, ``unmatched-pattern``,
            ``spelling`` or ``no-reason``.

        message: What is wrong, and how to mend it.
    """

    rule: str
    severity: Severity
    code: str
    message: str

    def to_dict(self) -> dict[str, str]:
        """Return the finding as JSON."""
        return {"rule": self.rule, "severity": self.severity.value, "code": self.code, "message": self.message}


@attrs.frozen
class Vocabulary:
    """
    The names that occur outside of the policies, for patterns to match; those in the policies count anyway.

    Attributes:
        actions: Of actions, plain or qualified.

        resources: Of types of resources.

        subjects: Of types of subjects.
    """

    actions: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    subjects: frozenset[str] = frozenset()


#: Told how many rules of how many were looked at.
Progress = Callable[[int, int], None]

_NOTHING: Final = Vocabulary()
_PROGRESS_STEP: Final = 1000


def lint(
    policies: PolicySet, vocabulary: Vocabulary = _NOTHING, *, progress: Progress | None = None
) -> tuple[Finding, ...]:
    """
    Find what is probably wrong with policies.

    Args:
        policies: What to look at.

        vocabulary: Names that occur besides those in the rules.

        progress: Told now and then how many rules of how many were looked at.

    Returns:
        The findings, errors first, then by rule.
    """
    rules = policies.rules
    found = [*_unreachable(rules, progress), *_shadowed(rules), *_unmatched(rules, vocabulary), *_misspelled(rules)]
    found += [_no_reason(rule) for rule in rules if rule.reason is None]
    return tuple(sorted(found, key=lambda one: (one.severity is not Severity.ERROR, one.rule, one.code, one.message)))


def _unreachable(rules: Sequence[Rule], progress: Progress | None) -> Iterator[Finding]:
    for number, rule in enumerate(rules):
        if progress is not None and number % _PROGRESS_STEP == 0:
            progress(number, len(rules))
        why = contradiction(rule)
        if why is not None:
            message = f"it never applies: {why}; mend its condition, or remove it"
            yield Finding(rule.id, Severity.ERROR, "unreachable", message)


def _shadowed(rules: Sequence[Rule]) -> Iterator[Finding]:
    denials = _denials(rules)
    for rule in rules:
        # A denial about exact types can only cover a rule about some of them.
        few = denials.get(rule.resources.names[0], ()) if rule.resources.exact else ()
        by = next((denial for denial in (*denials.get(None, ()), *few) if _shadows(denial, rule)), None)
        if by is not None:
            yield _shadow(rule, by)


def _denials(rules: Iterable[Rule]) -> dict[str | None, list[Rule]]:
    """Return the unconditional denials by each type they are about; None for those about others than exact ones."""
    # One stands for all of its scope: the first by id.
    scopes: dict[object, Rule] = {}
    for rule in rules:
        if rule.effect is Effect.DENY and rule.condition is None:
            scopes.setdefault((rule.actions, rule.resources, rule.subjects), rule)
    found: dict[str | None, list[Rule]] = {}
    for rule in scopes.values():
        for name in rule.resources.names if rule.resources.exact else (None,):
            found.setdefault(name, []).append(rule)
    return found


def _shadows(denial: Rule, rule: Rule) -> bool:
    if rule is denial or not covers(denial, rule):
        return False
    # Of two unconditional denials of the same scope, only the later by id is told of.
    mutual = rule.effect is Effect.DENY and rule.condition is None and covers(rule, denial)
    return not mutual or denial.id < rule.id


def _shadow(rule: Rule, denial: Rule) -> Finding:
    if rule.effect is Effect.PERMIT:
        message = f"it never permits: `{denial.id}` denies all it is about; narrow that denial, or remove this rule"
        return Finding(rule.id, Severity.ERROR, "shadowed", message)
    message = f"`{denial.id}` denies all it is about already; remove one of them"
    return Finding(rule.id, Severity.WARNING, "redundant", message)


def _unmatched(rules: Sequence[Rule], vocabulary: Vocabulary) -> Iterator[Finding]:
    actions = vocabulary.actions | _exact(rule.actions.names for rule in rules)
    resources = vocabulary.resources | _exact(rule.resources.names for rule in rules)
    subjects = vocabulary.subjects | _exact(rule.subjects.names for rule in rules)
    used = {pattern: _used(pattern, actions, resources) for rule in rules for pattern in rule.actions.names}
    for rule in rules:
        for pattern in rule.actions.names:
            if not used[pattern]:
                yield _unused(rule, "action", pattern)
        for what, target, names in (("resource", rule.resources, resources), ("subject", rule.subjects, subjects)):
            for pattern in target.names:
                if names and not any(matches(pattern, name) for name in names):
                    yield _unused(rule, what, pattern)


def _exact(targets: Iterable[Iterable[str]]) -> frozenset[str]:
    return frozenset(name for names in targets for name in names if "*" not in name)


def _used(pattern: str, actions: frozenset[str], types: frozenset[str]) -> bool:
    """Whether a pattern matches an action, by itself or qualified by some type; also where none are known."""
    if "*" not in pattern or not actions or any(matches(pattern, name) for name in actions):
        return True
    if ":" not in pattern or not types:
        return True
    plain = {name.rpartition(":")[2] for name in actions}
    # Only the last segment of a pattern is compared to the action itself.
    last = pattern.rpartition(":")[2]
    names = {min(plain)} if "*" in last else {last} & plain
    return any(matches(pattern, f"{one}:{name}") for one in types for name in names)


def _unused(rule: Rule, what: str, pattern: str) -> Finding:
    message = f"the {what} pattern `{pattern}` matches no {what} that any rule names; mend it if it is misspelled"
    return Finding(rule.id, Severity.WARNING, "unmatched-pattern", message)


def _misspelled(rules: Iterable[Rule]) -> Iterator[Finding]:
    for one in spellings(rules):
        message = (
            f"`{spell(one.field)}` is spelled `{spell(one.usual)}` in rule `{one.usual_rule}`; "
            "if they are one attribute, spell it one way"
        )
        yield Finding(one.rule, Severity.WARNING, "spelling", message)


def _no_reason(rule: Rule) -> Finding:
    message = "it has no reason; say in `reason` why it is there, for the record"
    return Finding(rule.id, Severity.WARNING, "no-reason", message)
