"""
Partial evaluation: what a subject may do to resources of a type, as a condition over the resource alone.

Imports rules, evaluation and compilation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, cast

import attrs

from pep.frozen import FrozenDict, freeze_mapping
from pep.model import AccessRequest, Effect, Resource
from pep.policy.compiling import MAX_SHAPES, Compiler, Test
from pep.policy.condition import (
    MIRRORED,
    And,
    Compare,
    Condition,
    Constant,
    Contains,
    Intersects,
    Intrinsic,
    Leaf,
    Not,
    Now,
    Options,
    Predicate,
    Property,
    Term,
    Text,
    Truth,
    Window,
    conjunction,
    disjunction,
    leaves,
    operands,
    terms,
)
from pep.policy.evaluate import Facts, evaluate_leaf, resolve
from pep.policy.rule import Rule

#: How many comparisons a row filter may have to be compiled; a larger one is evaluated by walking it.
MAX_COMPILED: Final = 256


@attrs.frozen
class AllowAll:
    """Every resource of the type may be acted upon."""

    def matches(self, resource: Resource | Mapping[str, Any]) -> Truth:  # noqa: ARG002  the three are asked alike
        """Return True."""
        return True


@attrs.frozen
class DenyAll:
    """No resource of the type may be acted upon."""

    def matches(self, resource: Resource | Mapping[str, Any]) -> Truth:  # noqa: ARG002  the three are asked alike
        """Return False."""
        return False


@attrs.frozen(eq=False)
class Conditional:
    """
    Those resources may be acted upon of which a condition is true.

    Attributes:
        condition: Over attributes of the resource alone; everything else in it is a constant.
    """

    condition: Condition
    _test: Test = attrs.field(init=False, repr=False)
    _constants: tuple[Any, ...] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        small = sum(1 for _ in leaves(self.condition)) <= MAX_COMPILED
        test, constants = Compiler(MAX_SHAPES if small else 0).compile(self.condition)
        object.__setattr__(self, "_test", test)
        object.__setattr__(self, "_constants", constants)

    def __eq__(self, other: object) -> bool:
        return self.condition == other.condition if type(other) is Conditional else NotImplemented

    def __hash__(self) -> int:
        return hash(self.condition)

    def matches(self, resource: Resource | Mapping[str, Any]) -> Truth:
        """
        Tell whether a resource is among those.

        Args:
            resource: The resource, or its properties alone; its id is then missing.

        Returns:
            Only True permits; None where a missing or incompatible attribute leaves it unknown.

        Raises:
            ExtractionError: When the properties cannot be frozen.
        """
        if isinstance(resource, Resource):
            row = _Row(resource.properties, resource.id)
        else:
            row = _Row(freeze_mapping(resource, what="a resource's properties"), None)
        return self._test(cast("AccessRequest", _Rows(row)), self._constants, 0.0)


#: What may be acted upon, of the resources of one type; three types, so that nothing can mean everything.
RowFilter = AllowAll | DenyAll | Conditional


@attrs.frozen
class _Row:
    properties: FrozenDict
    id: str | None


@attrs.frozen
class _Rows:
    """The part of a request that a condition over the resource alone looks at."""

    resource: _Row


def row_filter(rules: Iterable[Rule], request: AccessRequest, now: float, discharged: Collection[str]) -> RowFilter:
    """
    Evaluate rules as far as they go without the resource.

    Args:
        rules: All of them.

        request: Who asks to do what, in which circumstances; of its resource only the type counts.

        now: The moment of the decision, in epoch seconds.

        discharged: Types of obligations that whoever filters discharges; a permit with another permits no row, and
            keeps rows that it may match from being permitted by others.

    Returns:
        What is true of exactly the resources that each would be permitted, free of obligations. A rule that calls
        Python cannot be evaluated without the resource: it permits nothing, or denies everything.
    """
    facts = Facts(request, now)
    about = [rule for rule in rules if rule.about(request)]
    free = [rule for rule in about if _free(rule, discharged)]
    permits = [_residual_of(rule, facts, doubt=False) for rule in free]
    # A row that an obliged permit matches as well owes its obligations, whatever else permits it.
    against = [_residual_of(rule, facts, doubt=True) for rule in about if rule not in free]
    found = _all_of([_any_of(permits), *[_negated(one) for one in against]])
    if found is True or found is False:
        return AllowAll() if found else DenyAll()
    return Conditional(found)


def _free(rule: Rule, discharged: Collection[str]) -> bool:
    """Whether a rule permits, and demands nothing that whoever filters does not do."""
    return rule.effect is Effect.PERMIT and all(duty.type in discharged for duty in rule.obligations)


def _residual_of(rule: Rule, facts: Facts, *, doubt: bool) -> Condition | bool:
    condition = rule.condition
    return True if condition is None else _residual(condition, facts, doubt=doubt)


def _residual(condition: Condition, facts: Facts, *, doubt: bool) -> Condition | bool:
    """
    Evaluate what does not depend on the resource.

    What stays unknown is replaced by *doubt*: what is worst for permitting in its place, which changes where that
    is true of no resource.
    """
    if type(condition) is Not:
        return _negated(_residual(condition.operand, facts, doubt=not doubt))
    below = [_residual(one, facts, doubt=doubt) for one in operands(condition)]
    if below:
        return _all_of(below) if type(condition) is And else _any_of(below)
    if type(condition) is Window:
        return _all_of([_residual_leaf(half, facts, doubt=doubt) for half in _halves(condition)])
    return _residual_leaf(cast("Leaf", condition), facts, doubt=doubt)


def _residual_leaf(leaf: Leaf, facts: Facts, *, doubt: bool) -> Condition | bool:
    if type(leaf) is Predicate:
        return doubt
    if not any(_is_of_resource(term) for term in terms(leaf)):
        truth = evaluate_leaf(leaf, facts)
        return doubt if truth is None else truth
    known = {
        field.name: _constant(term, facts)
        for field in attrs.fields(type(leaf))
        if isinstance(term := getattr(leaf, field.name), _TERMS) and not _is_of_resource(term)
    }
    if None in known.values():
        return doubt
    told: Leaf = attrs.evolve(leaf, **cast("dict[str, Any]", known))
    if not all(_is_apt(getattr(told, name), kind) for name, kind in _KINDS.get(type(told), {}).items()):
        return doubt
    if isinstance(told, Compare) and type(told.left) is Constant:
        return Compare(MIRRORED[told.operator], told.right, told.left)
    return told


def _is_apt(term: Term, kind: type) -> bool:
    """Whether a term can have a value of a kind; with another, a comparison is unknown of every resource."""
    return not isinstance(term, Constant) or type(term.value) is kind


def _halves(window: Window) -> list[Window]:
    """Take a window apart, since one of its ends may be unknown."""
    if window.start is None or window.end is None:
        return [window]
    return [attrs.evolve(window, end=None), attrs.evolve(window, start=None)]


def _is_of_resource(term: Term) -> bool:
    if isinstance(term, Property):
        return term.root == "resource"
    return term == _RESOURCE_ID


def _constant(term: Term, facts: Facts) -> Term | None:
    """Return the value of a term that does not depend on the resource; None when it is missing."""
    if isinstance(term, Constant | Options):
        return term
    value = resolve(term, facts)
    return None if value is None else Constant(value)


def _all_of(parts: list[Condition | bool]) -> Condition | bool:
    if any(part is False for part in parts):
        return False
    left = [part for part in parts if not isinstance(part, bool)]
    return conjunction(*left) if left else True


def _any_of(parts: list[Condition | bool]) -> Condition | bool:
    if any(part is True for part in parts):
        return True
    left = [part for part in parts if not isinstance(part, bool)]
    return disjunction(*left) if left else False


def _negated(part: Condition | bool) -> Condition | bool:
    if isinstance(part, bool):
        return not part
    return part.operand if type(part) is Not else Not(part)


_TERMS: Final = (Property, Intrinsic, Constant, Options, Now)
#: Comparison → the terms that must be lists, or texts.
_KINDS: Final[dict[type, dict[str, type]]] = {
    Contains: {"collection": tuple},
    Intersects: {"left": tuple, "right": tuple},
    Text: {"text": str, "part": str},
}
_RESOURCE_ID: Final = Intrinsic("resource", "id")
