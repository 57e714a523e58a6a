"""
Filing: by what a rule's condition requires it can be found, and what is left to test then.

A condition requires what every one of its conjuncts does. Only texts are filed by: they compare as they hash.
Imports rules and conditions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any, Final

import attrs

from pep.policy.condition import (
    And,
    Compare,
    Condition,
    Constant,
    Contains,
    Field,
    Intersects,
    Intrinsic,
    Options,
    Property,
    Scalar,
    Term,
    conjunction,
)
from pep.policy.rule import Rule

#: Under how many keys one rule is filed; one that needs more is considered for every request of its target.
MAX_KEYS: Final = 64
#: By how many different properties rules are filed; those that only require others are always considered.
MAX_PROPERTIES: Final = 16

SUBJECT_ID: Final = Intrinsic("subject", "id")
RESOURCE_ID: Final = Intrinsic("resource", "id")

Key = tuple[str, ...]


@attrs.frozen
class Filing:
    """
    How a rule is filed.

    Attributes:
        by: The fields it is found by, ids first; none if it is always considered.

        member: Whether the last field is a list that must hold the text, rather than equal it.

        keys: The texts it is filed under, one for each field.

        residual: What its condition asks beyond that; None if nothing.
    """

    by: tuple[Field, ...]
    member: bool
    keys: tuple[Key, ...]
    residual: Condition | None


@attrs.frozen
class _Requirement:
    """One conjunct: a field equals, or as a list holds, one of these texts."""

    field: Field
    member: bool
    texts: tuple[str, ...]
    leaf: Condition


_ALWAYS: Final = Filing((), False, (), None)  # noqa: FBT003  a value, not a flag


def file_rules(rules: Sequence[Rule]) -> Iterator[tuple[Rule, Filing]]:
    """
    Say for each rule how to file it.

    Of several properties a condition requires, the one that tells the rules of the whole set apart best is used.
    """
    conditions = [rule.condition for rule in rules]
    required = [() if condition is None else _requirements(condition) for condition in conditions]
    ranks = _ranks(one for several in required for one in several if type(one.field) is Property)
    for rule, condition, requirements in zip(rules, conditions, required, strict=True):
        yield rule, _ALWAYS if condition is None else _filing(condition, requirements, ranks)


def join(key: Key) -> str:
    """
    Write a key as one text, injectively: all but the last part after their lengths.

    One text is found with fewer accesses to memory than a tuple of several.
    """
    if len(key) == 1:
        return key[0]
    if len(key) == 2:  # noqa: PLR2004  the pair of ids, on the hot path
        return f"{len(key[0])}:{key[0]}{key[1]}"
    return f"{len(key[0])}:{key[0]}{join(key[1:])}"


def split(joined: str, parts: int) -> Key:
    """Read a key of so many parts that was joined."""
    key = []
    for _ in range(parts - 1):
        length, _, rest = joined.partition(":")
        key.append(rest[: int(length)])
        joined = rest[int(length) :]
    return (*key, joined)


def _ranks(properties: Iterable[_Requirement]) -> dict[Any, int]:
    """Rank the properties worth filing by, the most telling first."""
    variety: dict[Any, set[str]] = {}
    for one in properties:
        variety.setdefault((one.field, one.member), set()).update(one.texts)
    telling = sorted(variety, key=lambda kind: -len(variety[kind]))
    return {kind: rank for rank, kind in enumerate(telling[:MAX_PROPERTIES])}


def _filing(condition: Condition, requirements: Sequence[_Requirement], ranks: dict[Any, int]) -> Filing:
    chosen = _chosen(requirements, ranks)
    if not chosen:
        return Filing((), False, (), condition)  # noqa: FBT003  a value, not a flag
    return Filing(
        tuple([one.field for one in chosen]),
        chosen[-1].member,
        tuple(product(*[one.texts for one in chosen])),
        _without(condition, [one.leaf for one in chosen]),
    )


def _chosen(requirements: Sequence[_Requirement], ranks: dict[Any, int]) -> list[_Requirement]:
    """Choose the subject's id, the resource's id and the most telling property, in this order."""
    subject = resource = telling = None
    best = len(ranks)
    for one in requirements:
        if one.field is SUBJECT_ID:
            subject = subject or one
        elif one.field is RESOURCE_ID:
            resource = resource or one
        elif (rank := ranks.get((one.field, one.member), best)) < best:
            telling, best = one, rank
    chosen, keys = [], 1
    for candidate in (subject, resource, telling):
        if candidate is not None and keys * len(candidate.texts) <= MAX_KEYS:
            keys *= len(candidate.texts)
            chosen.append(candidate)
    return chosen


def _without(condition: Condition, leaves: list[Condition]) -> Condition | None:
    filed = {id(leaf) for leaf in leaves}
    left = [one for one in _conjuncts(condition) if id(one) not in filed]
    return conjunction(*left) if left else None


def _conjuncts(condition: Condition) -> tuple[Condition, ...]:
    return condition.operands if type(condition) is And else (condition,)


def _requirements(condition: Condition) -> list[_Requirement]:
    found = [_requirement(leaf) for leaf in _conjuncts(condition)]
    return [one for one in found if one is not None]


def _requirement(leaf: Condition) -> _Requirement | None:
    if isinstance(leaf, Compare):
        right = leaf.right
        if leaf.operator == "==" and isinstance(right, Constant) and type(right.value) is str:
            return _equal(leaf.left, (right.value,), leaf)
    elif isinstance(leaf, Contains):
        return _contained(leaf.collection, leaf.item, leaf)
    elif isinstance(leaf, Intersects) and isinstance(leaf.left, Property) and isinstance(leaf.right, Options):
        texts = _texts(leaf.right.values)
        return None if texts is None else _Requirement(leaf.left, True, texts, leaf)  # noqa: FBT003  a value
    return None


def _contained(collection: Term, item: Term, leaf: Condition) -> _Requirement | None:
    if isinstance(collection, Options):
        texts = _texts(collection.values)
        return None if texts is None else _equal(item, texts, leaf)
    if isinstance(collection, Property) and isinstance(item, Constant) and type(item.value) is str:
        return _Requirement(collection, True, (item.value,), leaf)  # noqa: FBT003  a value, not a flag
    return None


def _equal(term: Term, texts: tuple[str, ...], leaf: Condition) -> _Requirement | None:
    if type(term) is Property:
        return _Requirement(term, False, texts, leaf)  # noqa: FBT003  a value, not a flag
    if type(term) is Intrinsic and term.name == "id":
        # The very values the index looks for.
        return _Requirement(SUBJECT_ID if term.root == "subject" else RESOURCE_ID, False, texts, leaf)  # noqa: FBT003
    return None


def _texts(values: tuple[Scalar, ...]) -> tuple[str, ...] | None:
    """Return the constants of a list if they are texts; all are of the first one's kind."""
    return tuple([value for value in values if type(value) is str]) or None
