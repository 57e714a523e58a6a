"""
Spelling: names of attributes that are probably meant to be one.

Imports conditions and rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Final

import attrs

from pep.policy.condition import Field, Intrinsic, Property, leaves, terms
from pep.policy.rule import Rule

#: Names shorter than this differ by one letter too easily, longer ones take too long to compare.
_SHORTEST: Final = 4
_LONGEST: Final = 64


@attrs.frozen
class Spelling:
    """
    A name that is probably another one, misspelled.

    Attributes:
        field: The attribute as it is spelled more rarely.

        rule: Id of the first rule that spells it so.

        usual: The attribute as it is spelled more often, or first.

        usual_rule: Id of the first rule that spells it so.
    """

    field: Field
    rule: str
    usual: Field
    usual_rule: str


@attrs.define
class _Use:
    field: Field
    rule: str
    times: int = 0


#: Where a name stands → the name → how it is used.
_Uses = dict[tuple[str, ...], dict[str, _Use]]


def spellings(rules: Iterable[Rule]) -> Iterator[Spelling]:
    """
    Find attributes beside each other whose names differ in case, ``_`` or ``-``, or in one letter.

    Digits that differ are no misspelling: ``level1`` and ``level2`` are two names.
    """
    for siblings in _uses(rules).values():
        for one, other in sorted(_alike(siblings)):
            usual, rare = sorted((siblings[one], siblings[other]), key=lambda use: -use.times)
            yield Spelling(rare.field, rare.rule, usual.field, usual.rule)


def _uses(rules: Iterable[Rule]) -> _Uses:
    found: _Uses = {}
    for rule in rules:
        for condition in (rule.when, rule.unless):
            for leaf in () if condition is None else leaves(condition):
                for term in terms(leaf):
                    if isinstance(term, Property | Intrinsic):
                        _count(found, term, rule.id)
    return found


def _count(found: _Uses, field: Field, rule: str) -> None:
    path = field.path if isinstance(field, Property) else (field.name,)
    for depth, name in enumerate(path):
        part = Property(field.root, path[: depth + 1]) if isinstance(field, Property) else field
        found.setdefault((field.root, *path[:depth]), {}).setdefault(name, _Use(part, rule)).times += 1


def _alike(names: Iterable[str]) -> set[tuple[str, str]]:
    """Pair names that are alike; by what is left of each without a letter, so not every pair is compared."""
    keys: dict[str, set[str]] = {}
    for name in names:
        plain = _plain(name)
        keys.setdefault(plain, set()).add(name)
        if _SHORTEST <= len(plain) <= _LONGEST:
            for at in range(len(plain)):
                keys.setdefault(plain[:at] + plain[at + 1 :], set()).add(name)
    pairs = {pair for several in keys.values() for pair in combinations(sorted(several), 2)}
    return {pair for pair in pairs if _one_off(*pair)}


def _one_off(one: str, other: str) -> bool:
    """Whether names are equal but for case, ``_`` and ``-``, or one letter was changed, added or left out."""
    left, right = sorted((_plain(one), _plain(other)), key=len)
    if left == right:
        return True
    at = next((at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), len(left))
    replaced = len(left) == len(right)
    if left[at + replaced :] != right[at + 1 :] or len(left) < _SHORTEST:
        return False
    return not (right[at].isdigit() or (replaced and left[at].isdigit()))


def _plain(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")
