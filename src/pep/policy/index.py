"""
The index: finds the rules that can apply to a request, whatever their number.

Rules are filed by the names in their target, and there by what their conditions require of the subject's id, the
resource's id and one more property. Imports rules and compiled conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any, Final

import attrs

from pep.model import AccessRequest, Decision, Effect
from pep.policy.compiling import Compiler, Test
from pep.policy.condition import Field, Intrinsic, Property, Truth
from pep.policy.evaluate import look_up
from pep.policy.filing import RESOURCE_ID, SUBJECT_ID, Filing, Key, file_rules, join, split
from pep.policy.rule import Rule, Target

#: How many products of exact names one target is filed under; a larger one is matched as a whole.
MAX_CELLS: Final = 64
#: How many kinds of request have their candidates remembered.
MAX_REMEMBERED: Final = 4096

_NOTHING: Final[tuple[Entry, ...]] = ()
_NO_TEST: Final[tuple[None, tuple[Any, ...]]] = (None, ())
_Atoms = tuple[str | Target, str | Target, str | Target]


@attrs.define(eq=False)
class Entry:
    """
    A rule with what is left to test once it was found; or several that can only be in doubt together.

    Attributes:
        rules: One rule; several where one residual condition tells of all at once.

        permits: Their effect.

        test: What is left of the condition, compiled; None when nothing is.

        constants: What to call *test* with.

        decision: What the rule alone decides, remembered.
    """

    rules: tuple[Rule, ...]
    permits: bool
    test: Test | None
    constants: tuple[Any, ...]
    decision: Decision | None = None


#: What was found: a rule by itself, or several.
Found = Entry | Sequence[Entry]


def several(found: Found) -> Sequence[Entry]:
    """Return what was found as a sequence."""
    return (found,) if isinstance(found, Entry) else found


class Path:
    """
    Rules of one target that are filed by the same fields.

    Attributes:
        find: Returns what can be true or in doubt of a request; every other rule here is false.
    """

    __slots__ = ("_by", "_doubts", "_filed", "_member", "_name", "_table", "find")

    def __init__(self, by: tuple[Field, ...], *, member: bool) -> None:
        self._by = by
        self._member = member
        self._table: dict[str, Entry | tuple[Entry, ...]] = {}
        self._filed: dict[str, list[Entry]] = {}
        self._doubts: dict[tuple[bool, ...], dict[Key, tuple[Entry, ...]]] = {}
        last = by[-1]
        self._name = last.path[0] if type(last) is Property else ""
        self.find: Callable[[AccessRequest], Found] = self._find
        if len(by) == 1 and member and type(last) is Property and last.root == "subject" and len(last.path) == 1:
            self.find = self._find_member
        elif by == (SUBJECT_ID,):
            self.find = self._find_subject
        elif by == (RESOURCE_ID,):
            self.find = self._find_resource
        elif by == (SUBJECT_ID, RESOURCE_ID):
            self.find = self._find_both

    def add(self, keys: Iterable[Key], entry: Entry) -> None:
        """File a rule under its keys."""
        for key in keys:
            self._filed.setdefault(join(key), []).append(entry)

    def freeze(self) -> None:
        """Finish filing: a single rule stands by itself, which is found with the fewest accesses to memory."""
        self._table = {key: entries[0] if len(entries) == 1 else tuple(entries) for key, entries in self._filed.items()}
        self._filed = {}

    def _find_subject(self, request: AccessRequest) -> Found:
        return self._table.get(request.subject.id, _NOTHING)

    def _find_resource(self, request: AccessRequest) -> Found:
        name = request.resource.id
        return self._find(request) if name is None else self._table.get(name, _NOTHING)

    def _find_both(self, request: AccessRequest) -> Found:
        name = request.resource.id
        return self._find(request) if name is None else self._table.get(join((request.subject.id, name)), _NOTHING)

    def _find_member(self, request: AccessRequest) -> Found:
        value = request.subject.properties.get(self._name)
        if type(value) is not tuple:
            return self._find(request)
        found: Found = _NOTHING
        for text in value:
            if type(text) is not str:
                return self._find(request)
            more = self._table.get(text)
            if more is not None:
                found = more if found is _NOTHING else (*several(found), *several(more))
        return found

    def _find(self, request: AccessRequest) -> list[Entry]:
        known = [self._texts(field, look_up(field, request)) for field in self._by]
        table = self._table
        keys = product(*[one[0] for one in known])
        found = [entry for key in keys for entry in several(table.get(join(key), _NOTHING))]
        unsure = tuple([not one[1] for one in known])
        if True in unsure:
            doubts = self._doubts.get(unsure)
            if doubts is None:
                doubts = self._doubts[unsure] = self._gather_doubts(unsure)
            for key in product(*[texts for texts, sure in known if sure]):
                found += doubts.get(key, _NOTHING)
        return found

    def _texts(self, field: Field, value: Any) -> tuple[tuple[str, ...], bool]:  # noqa: ANN401  JSON
        """Return the texts a value is found under, and whether it is equal to no other."""
        if not self._member or type(field) is Intrinsic:
            return ((value,), True) if type(value) is str else ((), False)
        if type(value) is not tuple:
            return (), False
        texts = tuple(dict.fromkeys([one for one in value if type(one) is str]))
        return texts, len(texts) == len(value) or all(type(one) is str for one in value)

    def _gather_doubts(self, unsure: tuple[bool, ...]) -> dict[Key, tuple[Entry, ...]]:
        """
        Group the rules by what is known of them, and by effect and residual condition.

        Where a field is missing, all rules filed by it are in doubt unless their residual condition is false;
        asking each distinct one once keeps that from costing as much as there are rules.
        """
        groups: dict[Key, dict[Any, dict[str, Rule]]] = {}
        for joined, entries in self._table.items():
            key = split(joined, len(unsure))
            known = tuple(text for text, doubtful in zip(key, unsure, strict=True) if not doubtful)
            alike = groups.setdefault(known, {})
            for entry in several(entries):
                alike.setdefault((entry.permits, entry.test, entry.constants), {})[entry.rules[0].id] = entry.rules[0]
        return {
            known: tuple([_doubtful(kind, rules) for kind, rules in alike.items()]) for known, alike in groups.items()
        }


@attrs.define(eq=False)
class _Cell:
    """The rules of one target: those to consider always, and those to be found."""

    always: list[Entry] = attrs.field(factory=list)
    paths: dict[tuple[tuple[Field, ...], bool], Path] = attrs.field(factory=dict)

    def add(self, filing: Filing, entry: Entry) -> None:
        if not filing.by:
            self.always.append(entry)
            return
        kind = filing.by, filing.member
        if kind not in self.paths:
            self.paths[kind] = Path(filing.by, member=filing.member)
        self.paths[kind].add(filing.keys, entry)


#: What may apply to requests of one kind: rules to consider, and paths to find more.
Candidates = tuple[tuple[Entry, ...], tuple[Path, ...]]


class Index:
    """Rules, filed so that those that can apply are found without looking at the others."""

    __slots__ = ("_cells", "_patterns", "_remembered", "pure")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._cells: dict[_Atoms, _Cell] = {}
        self._remembered: dict[tuple[str, str, str], Candidates] = {}
        self._file(rules)
        #: The patterns in each of the three parts of a target, each once.
        self._patterns = tuple(
            list(dict.fromkeys([one for atoms in self._cells if isinstance(one := atoms[place], Target)]))
            for place in range(3)
        )

    def _file(self, rules: Sequence[Rule]) -> None:
        compiler = Compiler()
        shared: dict[Any, tuple[Any, ...]] = {}
        places: dict[Any, list[_Cell]] = {}
        for rule, filing in file_rules(rules):
            test, constants = _NO_TEST if filing.residual is None else compiler.compile(filing.residual)
            # Equal constants of one shape are kept once.
            constants = shared.setdefault((test, constants), constants)
            entry = Entry((rule,), rule.effect is Effect.PERMIT, test, constants)
            targets = rule.actions, rule.resources, rule.subjects
            cells = places.get(targets)
            if cells is None:
                cells = places[targets] = [self._cells.setdefault(atoms, _Cell()) for atoms in _atoms(targets)]
            for cell in cells:
                cell.add(filing, entry)
        self.pure = compiler.pure
        for cell in self._cells.values():
            for path in cell.paths.values():
                path.freeze()

    def find(self, request: AccessRequest) -> Found:
        """Return the rules that can be true or in doubt of a request; every other rule is false."""
        always, paths = self._candidates(request)
        if not always and len(paths) == 1:
            return paths[0].find(request)
        return [*always, *[entry for path in paths for entry in several(path.find(request))]]

    def _candidates(self, request: AccessRequest) -> Candidates:
        """Return what may apply to requests of this action, resource type and subject type."""
        kind = request.action.name, request.resource.type, request.subject.type
        found = self._remembered.get(kind)
        return self._gather(kind, request.qualified_action) if found is None else found

    def _gather(self, kind: tuple[str, str, str], qualified: str) -> Candidates:
        action, resource, subject = kind
        cells = [
            self._cells[atoms]
            for atoms in product(
                dict.fromkeys((action, qualified, *self._matching(0, action, qualified))),
                (resource, *self._matching(1, resource)),
                (subject, *self._matching(2, subject)),
            )
            if atoms in self._cells
        ]
        found = tuple(e for cell in cells for e in cell.always), tuple(p for cell in cells for p in cell.paths.values())
        if len(self._remembered) >= MAX_REMEMBERED:
            self._remembered = {}
        self._remembered[kind] = found
        return found

    def _matching(self, place: int, name: str, qualified: str | None = None) -> list[Target]:
        return [target for target in self._patterns[place] if target.matches(name, qualified)]


def _atoms(targets: tuple[Target, Target, Target]) -> Iterable[_Atoms]:
    """Return the cells of a target: one per product of exact names; patterns and larger sets stay whole."""
    names = [_exact(target, MAX_CELLS) for target in targets]
    if len(names[0]) * len(names[1]) * len(names[2]) > MAX_CELLS:
        names = [_exact(target, 1) for target in targets]
    return product(names[0], names[1], names[2])


def _exact(target: Target, most: int) -> tuple[str | Target, ...]:
    return target.names if target.exact and len(target.names) <= most else (target,)


def _doubtful(kind: tuple[bool, Test | None, tuple[Any, ...]], rules: dict[str, Rule]) -> Entry:
    permits, *inner = kind
    return Entry(tuple([rules[name] for name in sorted(rules)]), permits, _doubt, tuple(inner))


def _doubt(request: AccessRequest, inner: tuple[Any, ...], now: float) -> Truth:
    """Tell whether rules whose required field is missing are in doubt: unless the rest of them is false."""
    test, constants = inner
    truth = True if test is None else test(request, constants, now)
    return False if truth is False else None
