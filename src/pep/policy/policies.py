"""
The policy set: rules that decide together.

Imports rules, their index, the combining algorithms and the model.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from heapq import merge
from itertools import groupby, islice, pairwise
from pathlib import Path
from typing import Any, Final, final

from pep.compose.combine import Algorithm, Extended
from pep.errors import ConfigurationError
from pep.frozen import EMPTY
from pep.model import AccessRequest, Action, Decision, Effect, Resource, Subject
from pep.policy.explain import Explanation, explain
from pep.policy.index import Entry, Index
from pep.policy.partial import RowFilter, row_filter
from pep.policy.revision import revision_of
from pep.policy.rule import Rule

#: How many rules in doubt an indeterminate decision names.
MAX_NAMED: Final = 16


@final
class PolicySet:
    """
    Rules that decide together: a policy decision point in process.

    A denial overrides; nothing applicable is `Effect.NOT_APPLICABLE`; a denial whose condition is unknown, and a
    permit whose condition is unknown where nothing else permits, are `Effect.INDETERMINATE`. Neither the order of
    the rules nor their number matters.

    Args:
        rules: Each by `permit` or `deny`; their ids are unique.

        revision: Which version this is; by default the SHA-256 of the rules' canonical form.

        clock: The time of day in epoch seconds, for rules that read it.

    Raises:
        ConfigurationError: When an id is taken twice, or something is no rule.

    Source:
        DESIGN section 11; XACML 3.0 §C.2 (deny-overrides).
    """

    __slots__ = ("_clock", "_index", "_none", "name", "pure", "revision", "rules")

    #: It answers from memory.
    immediate: Final = True

    def __init__(
        self, rules: Iterable[Rule], *, revision: str | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        #: What a record calls this decision point.
        self.name: Final = "policies"
        with _collector_off():
            #: The rules, by id.
            self.rules: Final = _sorted(rules)
            #: Which version of the policies this is.
            self.revision: Final = revision_of(self.rules) if revision is None else _stated(revision)
            self._index = Index(self.rules)
        #: Whether a decision depends on the request alone: no rule reads the clock or calls Python.
        self.pure: Final = self._index.pure
        self._clock = clock
        # What it decides where nothing applies, which is the same every time.
        self._none = self._answer([], [])

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        revision: str | None = None,
        clock: Callable[[], float] = time.time,
        progress: Callable[[int, int], None] | None = None,
    ) -> PolicySet:
        """
        Load policies from a TOML or JSON file, or from all of a folder.

        Args:
            path: A ``.toml`` or ``.json`` file, or a folder; in a folder, ``*.test.toml`` are no policies.

            revision: Which version this is; by default what a file states, or else the SHA-256 of the rules'
                canonical form: the same on every machine and in any order of files.

            clock: The time of day in epoch seconds, for rules that read it.

            progress: Told now and then how many rules of how many were read.

        Raises:
            PolicyFileError: On anything malformed, with file, line and column.

            ConfigurationError: When there is no such file, or no policy file in the folder.
        """
        from pep.policy.files import load  # noqa: PLC0415  parsers are needed by whoever loads files only

        loaded = load(path, progress)
        return cls(loaded.rules, revision=loaded.revision if revision is None else revision, clock=clock)

    def decide(self, request: AccessRequest) -> Decision:
        """
        Decide one request.

        Returns:
            A decision that names the rules that had its effect, with their obligations, advice and reasons; an
            indeterminate one names the first rules in doubt, and has neither obligations nor advice.
        """
        return self._decide(request, 0.0 if self.pure else self._clock())

    def decide_many(self, requests: Sequence[AccessRequest]) -> list[Decision]:
        """Decide several requests, by the same rules at the same moment; answers are in the requests' order."""
        now = 0.0 if self.pure else self._clock()
        return [self._decide(request, now) for request in requests]

    def row_filter(
        self,
        subject: Subject,
        action: Action | str,
        resource_type: str,
        *,
        context: Mapping[str, Any] = EMPTY,
        actors: Sequence[Subject] = (),
        tenant: str | None = None,
        discharged: Collection[str] = (),
    ) -> RowFilter:
        """
        Say which resources of a type a subject may act upon, without looking at any.

        Args:
            subject: Who asks.

            action: What for.

            resource_type: Of which resources.

            context: The circumstances.

            actors: Those acting for the subject, outermost first.

            tenant: Whose world it is.

            discharged: Types of obligations that whoever filters discharges; a permit with another does not permit.

        Returns:
            What is true of exactly the existing resources that `decide` permits: `AllowAll`, `DenyAll` or
            `Conditional`. Rules that call Python permit nothing here, or deny everything.
        """
        # The id of an existing resource; a filter depends on the ids of rows, never on this one.
        request = AccessRequest(subject, action, Resource(resource_type, "row"), context, tuple(actors), tenant)
        return row_filter(self.rules, request, self._clock(), frozenset(discharged))

    def explain(self, request: AccessRequest) -> Explanation:
        """
        Explain how a request is decided: each rule that is about it, with every part of its condition.

        It looks at all rules, and so takes time by their number.
        """
        return explain(self.rules, request, self._clock(), self.revision)

    def _decide(self, request: AccessRequest, now: float) -> Decision:
        found = self._index.find(request)
        if isinstance(found, Entry):
            truth = True if found.test is None else found.test(request, found.constants, now)
            return self._alone(found) if truth is True else self._answer([], [found]) if truth is None else self._none
        matched: list[Entry] = []
        doubtful: list[Entry] = []
        for entry in found:
            truth = True if entry.test is None else entry.test(request, entry.constants, now)
            if truth is True:
                matched.append(entry)
            elif truth is None:
                doubtful.append(entry)
        if len(matched) == 1 and not doubtful:
            return self._alone(matched[0])
        return self._answer(matched, doubtful) if matched or doubtful else self._none

    def _alone(self, entry: Entry) -> Decision:
        """Return what a rule decides by itself, which is remembered."""
        if entry.decision is None:
            entry.decision = self._answer([entry], [])
        return entry.decision

    def _answer(self, matched: list[Entry], doubtful: list[Entry]) -> Decision:
        values = [_VALUES[entry.permits] for entry in matched] + [_DOUBTS[entry.permits] for entry in doubtful]
        effect = Algorithm.DENY_OVERRIDES.of(values).collapse()
        if effect is Effect.INDETERMINATE:
            return self._in_doubt(doubtful)
        rules = _distinct(rule for entry in matched for rule in entry.rules if rule.effect is effect)
        return Decision(
            effect,
            obligations=[duty for rule in rules for duty in rule.obligations],
            advice=[duty for rule in rules for duty in rule.advice],
            reasons=[rule.reason for rule in rules if rule.reason is not None],
            policies=[rule.id for rule in rules],
            revision=self.revision,
        )

    def _in_doubt(self, doubtful: list[Entry]) -> Decision:
        # A denial in doubt prevents any permit, so it is what to name.
        denials = [entry for entry in doubtful if not entry.permits]
        inorder = merge(*[entry.rules for entry in denials or doubtful], key=_by_id)
        named = [next(alike) for _, alike in islice(groupby(inorder, key=_by_id), MAX_NAMED)]
        return Decision(
            Effect.INDETERMINATE,
            reasons=[rule.reason for rule in named if rule.reason is not None],
            policies=[rule.id for rule in named],
            revision=self.revision,
        )

    def __len__(self) -> int:
        return len(self.rules)

    def __repr__(self) -> str:
        return f"<PolicySet of {len(self.rules)} rules, revision {self.revision}>"


_VALUES: Final = {True: Extended.PERMIT, False: Extended.DENY}
_DOUBTS: Final = {True: Extended.INDETERMINATE_P, False: Extended.INDETERMINATE_D}


def _sorted(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Order rules by id, so that the order they came in cannot matter."""
    if isinstance(rules, Rule):
        message = "a policy set takes a list of rules"
        raise ConfigurationError(message)
    found = tuple(rules)
    for rule in found:
        if type(rule) is not Rule:
            message = f"a policy set takes rules made by `permit` and `deny`, not `{type(rule).__name__}`"
            raise ConfigurationError(message)
    inorder = tuple(sorted(found, key=_by_id))
    for one, other in pairwise(inorder):
        if one.id == other.id:
            message = f"two rules have the id `{one.id}`; ids are unique in a policy set"
            raise ConfigurationError(message)
    return inorder


def _stated(revision: object) -> str:
    if type(revision) is not str or not revision:
        message = "a revision must be exactly a `str`, and not empty"
        raise ConfigurationError(message)
    return revision


def _by_id(rule: Rule) -> str:
    return rule.id


def _distinct(rules: Iterable[Rule]) -> list[Rule]:
    """Name each rule once, by id: several names or keys may have found it."""
    return sorted({rule.id: rule for rule in rules}.values(), key=_by_id)


@contextmanager
def _collector_off() -> Iterator[None]:
    """Turn the garbage collector off while loading: nothing built is garbage, and looking costs as much as building."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
