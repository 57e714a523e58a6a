"""
Differences: which decisions change between two versions of policies, of requests in a file or an audit log.

Requests are read and decided one by one, so that a file may be of any size. Imports policy sets and the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from pep.model import Decision, Obligation
from pep.policy.policies import PolicySet
from pep.policy.requests import Asked


@attrs.frozen
class Compared:
    """
    One request, decided by both.

    Attributes:
        asked: The request, and where it stands.

        old: What the old policies decide.

        new: What the new ones do.
    """

    asked: Asked
    old: Decision
    new: Decision

    @property
    def changed(self) -> bool:
        """Whether the answer is another: its effect, its obligations or its advice; who decided is none of it."""
        return (
            self.old.effect is not self.new.effect
            or not _same(self.old.obligations, self.new.obligations)
            or not _same(self.old.advice, self.new.advice)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON; attribute values are not told."""
        request = self.asked.request
        return {
            "line": self.asked.line,
            "subject": _without_properties(request.subject.to_dict()),
            "action": request.action.name,
            "resource": _without_properties(request.resource.to_dict()),
            "old": _told(self.old),
            "new": _told(self.new),
            "masked": list(self.asked.masked),
        }


@attrs.define
class Tally:
    """
    How many requests were compared, and how far that can be relied upon.

    Attributes:
        requests: Those decided by both.

        changed: Those decided differently.

        incomplete: Those of which the audit log tells names of attributes only: their values are masked, so that
            both versions decide as if they were missing, and a change may be hidden or shown that is none.

        masked: How many attributes that are, over all requests.

        skipped: Records that tell of no single request, and lines that a crash cut short.
    """

    requests: int = 0
    changed: int = 0
    incomplete: int = 0
    masked: int = 0
    skipped: int = 0

    def add(self, compared: Compared | None) -> None:
        """Count one comparison, or something that could not be compared."""
        if compared is None:
            self.skipped += 1
            return
        self.requests += 1
        self.changed += compared.changed
        self.incomplete += bool(compared.asked.masked)
        self.masked += len(compared.asked.masked)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON."""
        return {**attrs.asdict(self), "complete": self.complete}

    @property
    def complete(self) -> bool:
        """Whether everything that was asked was compared as it was asked."""
        return not (self.incomplete or self.skipped)


def differences(old: PolicySet, new: PolicySet, asked: Iterable[Asked | None], tally: Tally) -> Iterator[Compared]:
    """
    Decide requests by two versions of policies.

    Args:
        old: One version.

        new: The other.

        asked: The requests, as `read_requests` gives them; None is something that cannot be compared.

        tally: Counts all of them.

    Yields:
        Those that are decided differently, in order.
    """
    for one in asked:
        compared = None if one is None else Compared(one, old.decide(one.request), new.decide(one.request))
        tally.add(compared)
        if compared is not None and compared.changed:
            yield compared


def _without_properties(entity: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entity.items() if name != "properties"}


def _same(old: tuple[Obligation, ...], new: tuple[Obligation, ...]) -> bool:
    left = list(new)
    for one in old:
        if one not in left:
            return False
        left.remove(one)
    return not left


def _told(decision: Decision) -> dict[str, Any]:
    told: dict[str, Any] = {"effect": decision.effect.value, "policies": list(decision.policies)}
    for name, duties in (("obligations", decision.obligations), ("advice", decision.advice)):
        if duties:
            told[name] = [duty.type for duty in duties]
    return told
