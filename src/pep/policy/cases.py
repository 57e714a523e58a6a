"""
Cases: what a team expects its policies to decide, in TOML beside them, and how much of the policies that exercises.

Imports policy sets, explanations and what reads files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import attrs

from pep.errors import ConfigurationError
from pep.frozen import FrozenDict
from pep.model import AccessRequest, Decision, Effect, Obligation
from pep.policy.condition import Condition, Truth, leaves
from pep.policy.explain import Candidate, Explanation, explain
from pep.policy.policies import PolicySet
from pep.policy.rule import Rule
from pep.policy.text import to_text

#: Told how many cases of how many were run.
Progress = Callable[[int, int], None]

_CLAUSES: Final = ("when", "unless")


@attrs.frozen
class Duty:
    """
    An obligation that is expected.

    Attributes:
        type: Which kind of duty.

        properties: What it must hold, exactly; None where that does not matter.
    """

    type: str
    properties: FrozenDict | None = None

    def matches(self, obligation: Obligation) -> bool:
        """Whether an obligation is this one."""
        return self.type == obligation.type and self.properties in (None, obligation.properties)


@attrs.frozen
class Case:
    """
    One request, and what it is expected to be answered.

    Attributes:
        name: What a report calls it.

        request: What is asked.

        effect: What is expected.

        policies: Ids of all rules that must have decided, in any order; None where that does not matter.

        obligations: All that must be due, in any order; None where that does not matter.

        now: The moment of the decision, in epoch seconds; None where the case states none.

        path: The file it stands in.

        line: Where in the file, counted from 1.
    """

    name: str
    request: AccessRequest
    effect: Effect
    policies: frozenset[str] | None = None
    obligations: tuple[Duty, ...] | None = None
    now: float | None = None
    path: str = "<case>"
    line: int = 1


@attrs.frozen
class Result:
    """
    What came of a case.

    Attributes:
        case: Which one.

        decision: What was decided.

        problems: In what that differs from what was expected; empty where it does not.
    """

    case: Case
    decision: Decision
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether it was decided as expected."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON."""
        told: dict[str, Any] = {"name": self.case.name, "file": self.case.path, "line": self.case.line}
        told |= {"passed": self.passed, "effect": self.decision.effect.value, "policies": list(self.decision.policies)}
        return told | ({"problems": list(self.problems)} if self.problems else {})


@attrs.frozen
class LeafCoverage:
    """
    One comparison of a rule, and what the cases saw it be.

    Attributes:
        rule: Id of the rule.

        clause: ``when`` or ``unless``.

        index: Which comparison of the clause, from the left, counted from 0.

        text: As it is written in a file.

        seen_true: Whether it was true in some case.

        seen_false: Whether it was false in some case.
    """

    rule: str
    clause: str
    index: int
    text: str
    seen_true: bool
    seen_false: bool

    @property
    def missing(self) -> tuple[str, ...]:
        """What no case saw it be."""
        return tuple(name for name, seen in (("true", self.seen_true), ("false", self.seen_false)) if not seen)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON."""
        return attrs.asdict(self)


@attrs.frozen
class Report:
    """
    What came of all cases.

    Attributes:
        results: One for each case, in order.

        rules: Rule id → whether it applied in some case.

        leaves: Each comparison of each rule.
    """

    results: tuple[Result, ...]
    rules: dict[str, bool]
    leaves: tuple[LeafCoverage, ...]

    @property
    def passed(self) -> bool:
        """Whether every case was decided as expected."""
        return all(result.passed for result in self.results)

    @property
    def unused(self) -> tuple[str, ...]:
        """The rules that applied in no case."""
        return tuple(name for name, seen in self.rules.items() if not seen)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return {
            "passed": self.passed,
            "cases": [result.to_dict() for result in self.results],
            "coverage": {
                "rules": {"all": len(self.rules), "seen": len(self.rules) - len(self.unused)},
                "rules_not_seen": list(self.unused),
                "values": {"all": 2 * len(self.leaves), "seen": sum(2 - len(one.missing) for one in self.leaves)},
                "leaves_not_seen": [one.to_dict() for one in self.leaves if one.missing],
            },
        }


def run_cases(policies: PolicySet, cases: Sequence[Case], progress: Progress | None = None) -> Report:
    """
    Decide cases, and see what of the policies they exercise.

    Each takes time by the number of rules, since coverage looks at all.

    Args:
        policies: Their own clock is not read: a case states its moment.

        cases: What to decide.

        progress: Told how many cases of how many were run, after each.

    Raises:
        ConfigurationError: When the policies read the clock, and a case does not state its moment.
    """
    moment = _Moment()
    timed = PolicySet(policies.rules, revision=policies.revision, clock=moment)
    seen = _Seen()
    results = []
    for number, case in enumerate(cases, 1):
        moment.now = _now(case, timed)
        seen.add(explain(timed.rules, case.request, moment.now, timed.revision))
        results.append(_result(case, timed.decide(case.request)))
        if progress is not None:
            progress(number, len(cases))
    applied = {rule.id: rule.id in seen.applied for rule in timed.rules}
    return Report(tuple(results), applied, tuple(seen.coverage(timed.rules)))


class _Moment:
    """A clock that shows what it is set to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class _Seen:
    """What rules and their comparisons were seen to be."""

    def __init__(self) -> None:
        self.applied: set[str] = set()
        self._leaves: set[tuple[str, str, int, Truth]] = set()

    def add(self, explanation: Explanation) -> None:
        """Note what one decision showed."""
        for candidate in explanation.candidates:
            if candidate.truth is True:
                self.applied.add(candidate.id)
            self._leaves.update(_shown(candidate))

    def coverage(self, rules: Iterable[Rule]) -> Iterator[LeafCoverage]:
        """Tell of each comparison of the rules what it was seen to be."""
        for rule in rules:
            for clause, condition in zip(_CLAUSES, (rule.when, rule.unless), strict=True):
                for index, leaf in enumerate(_leaves(condition)):
                    place = (rule.id, clause, index)
                    seen = ((*place, True) in self._leaves, (*place, False) in self._leaves)
                    yield LeafCoverage(*place, to_text(leaf), *seen)


def _leaves(condition: Condition | None) -> Iterator[Condition]:
    return iter(()) if condition is None else leaves(condition)


def _shown(candidate: Candidate) -> Iterator[tuple[str, str, int, Truth]]:
    for clause, part in zip(_CLAUSES, (candidate.when, candidate.unless), strict=True):
        for index, leaf in enumerate(() if part is None else part.leaves()):
            yield candidate.id, clause, index, leaf.truth


def _now(case: Case, policies: PolicySet) -> float:
    if case.now is None and not policies.pure:
        message = f"`{case.path}`, line {case.line}: these policies read the clock; state `now` in case `{case.name}`"
        raise ConfigurationError(message)
    return 0.0 if case.now is None else case.now


def _result(case: Case, decision: Decision) -> Result:
    problems = []
    if decision.effect is not case.effect:
        problems.append(f"expected {case.effect.value}, decided {decision.effect.value}")
    if case.policies is not None and case.policies != frozenset(decision.policies):
        problems.append(f"expected to be decided by {_names(case.policies)}, not {_names(decision.policies)}")
    if case.obligations is not None and not _same(case.obligations, decision.obligations):
        due = _names([one.type for one in case.obligations]), _names([one.type for one in decision.obligations])
        problems.append(f"expected the obligations {due[0]}, not {due[1]}, or with other properties")
    return Result(case, decision, tuple(problems))


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or "none"


def _same(expected: Sequence[Duty], due: Sequence[Obligation]) -> bool:
    left = list(due)
    # Those that state properties choose first; the others take any of their type.
    for duty in sorted(expected, key=lambda one: one.properties is None):
        found = next((one for one in left if duty.matches(one)), None)
        if found is None:
            return False
        left.remove(found)
    return not left
