"""
Canary: a candidate decision point, asked for a fraction of the subjects, and rolled back where it does worse.

Imports the parts, profiles, clocks, locks and the decision's words only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from pep.clock import SystemClock
from pep.compose.failover import checked_share, counted
from pep.compose.parts import (
    Outcome,
    awaited_part,
    checked_part,
    consistent_part,
    decided,
    decided_all,
    filters_rows,
    for_each,
    has,
    health_of,
    part_name,
    probed,
    rows_of,
    share_of,
    told,
    unavailable,
    whole_name,
    with_reason,
)
from pep.compose.swaps import PartSwapped, Swaps
from pep.compose.tallies import Counts, Tally
from pep.decision import Decision, Effect
from pep.errors import ConfigurationError
from pep.locks import Lock
from pep.model import ANONYMOUS, AccessRequest, Action, Subject
from pep.plan import Plan, Raised, Returned, contain, gather, remaining, unwrap
from pep.profile import Canary
from pep.profile_checks import described, is_finite, seconds
from pep.protocols import PDP, Clock

if TYPE_CHECKING:
    from pep.policy.partial import RowFilter

T = TypeVar("T")

#: How long a secret is at least, in bytes.
SHORTEST_SECRET: Final = 16

_NEVER: Final = datetime.max.replace(tzinfo=timezone.utc)


@attrs.frozen
class Rollback:
    """
    Why a candidate is asked no more.

    Attributes:
        reason: ``"denials"`` or ``"faults"``: whose bound was exceeded.

        candidate: What came of the candidate's questions, over the window.

        current: What came of the current one's.

        at: When, in seconds since 1970 in UTC.
    """

    reason: str
    candidate: Counts
    current: Counts
    at: float


class CanaryPDP:
    """
    A candidate decision point that decides for a fraction of the subjects, and the current one for the rest.

    The same subjects every time, whatever their properties, and those of a smaller fraction are among those of a
    greater one. The anonymous subject is always the current one's. Each request goes by its own subject: where
    actors act for a subject, each of them is asked about apart, by its own bucket, and all must permit.

    Over a window, the candidate's share of denials and of faults is compared with the current one's; where it is
    greater by more than the bound, everybody is the current one's again until `reset`. Listeners of `subscribe` are
    told, so that no permit of the candidate takes effect any more, also from a cache. Never pure.

    Where the candidate is not available, the current one answers within the same deadline; the candidate's
    denials, and its other faults, stand. Its decisions have the reason ``answered by candidate `name```.

    Args:
        current: Who decides now.

        candidate: Who shall decide one day.

        fraction: Which share of the subjects is the candidate's; a float between 0 and 1, both excluded.

        secret: The deployment's, at least 16 bytes, so that nobody can choose an id for its side.

        max_denials: By how much the candidate's share of denials may exceed the current one's; from 0 to 1. A
            denial is any answer but a permit.

        max_faults: The same for faults: questions without an answer.

        window: Over how many seconds both are counted.

        least: How many questions of the candidate have to be in the window before it is judged.

        per_subject: How many questions of one subject count, in each tenth of the window; None counts all. Without
            it, one subject who is denied over and over may bring about a rollback, or hide what calls for one.

        share: The share of the time left that the candidate may take, above 0 and below 1.

        on_rollback: Told of a rollback, once; what it raises is ignored.

        name: Its identity, in records and cache keys; by default of the parts.

        clock: What time it is: the enforcer's own.

    Raises:
        ConfigurationError: When something is no decision point, or a number or the secret will not do.
    """

    #: Who answers depends on what the candidate did before.
    pure: Final = False

    def __init__(
        self,
        current: PDP,
        candidate: PDP,
        *,
        fraction: float,
        secret: bytes,
        max_denials: float,
        max_faults: float,
        window: float = 300.0,
        least: int = 100,
        per_subject: int | None = None,
        share: float = 0.5,
        on_rollback: Callable[[Rollback], object] | None = None,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._current, self._candidate = checked_part(current), checked_part(candidate)
        self._bucket = _bucket(fraction)
        self._secret = _checked_secret(secret)
        self._bounds = {"denials": _bound(max_denials, "max_denials"), "faults": _bound(max_faults, "max_faults")}
        self._window, self._least = seconds(window, "window"), counted(least, "least")
        self._share = checked_share(share)
        self._on_rollback = on_rollback
        self._clock: Clock = SystemClock() if clock is None else clock
        self._per_subject = None if per_subject is None else counted(per_subject, "per_subject")
        self._tallies = self._empty()
        self._rollback: Rollback | None = None
        self._lock = Lock()
        pdps = self._current, self._candidate
        #: Its identity.
        self.name = name or whole_name("canary", pdps)
        #: Whether it can only be awaited.
        self.asynchronous = awaited_part(pdps)
        #: Whether revisions of its decisions are consistency tokens.
        self.consistent = consistent_part(pdps)
        self._swaps = Swaps(pdps)
        if filters_rows(pdps):
            self.row_filter = self._rows
        if has(current, "probe"):
            self.probe = self._probe

    @property
    def rolled_back(self) -> Rollback | None:
        """Why the candidate is asked no more; None while it is."""
        return self._rollback

    def subscribe(self, listener: Callable[[Any], None]) -> None:
        """Tell *listener* of a rollback and a reset as of a policy swap, and of those of the parts."""
        self._swaps.subscribe(listener)

    def health(self) -> Mapping[str, Any]:
        """
        Tell how it stands, without asking anybody.

        Returns:
            ``rolled_back``: the reason, or None; ``fraction``; and ``parts``, the current one first: what was ``asked``
            of each over the window, with ``denials`` and ``faults``.
        """
        with self._lock:
            counts, rollback = self._totals(), self._rollback
        parts = [health_of(pdp) for pdp in (self._current, self._candidate)]
        return {
            "rolled_back": None if rollback is None else rollback.reason,
            "fraction": self._bucket.fraction,
            "parts": [{**part, **attrs.asdict(count)} for part, count in zip(parts, counts, strict=True)],
        }

    def reset(self) -> None:
        """Ask the candidate again, after a rollback; what was counted is forgotten."""
        with self._lock:
            again, self._rollback = self._rollback is not None, None
            self._tallies = self._empty()
        if again:
            self._swaps.tell(PartSwapped(_told(self._current), _told(self._candidate)))

    def decide(self, request: AccessRequest) -> Plan[Decision]:
        """
        Ask whoever decides for the subject.

        Raises:
            Exception: What that one raised; where the candidate was not available, what the current one raised.
        """
        if self._is_candidates(request.subject):
            reply = yield from self._tried(decided(self._candidate, request))
            self._count([request], [reply], candidate=True)
            if self._stands(reply):
                return self._marked(unwrap(reply))
            return (yield from decided(self._current, request))
        reply = yield from contain(decided(self._current, request))
        self._count([request], [reply], candidate=False)
        decision: Decision = unwrap(reply)
        return decision

    def decide_many(self, requests: Sequence[AccessRequest]) -> Plan[list[Decision | Raised]]:
        """Ask whoever decides for each subject, both sides at once, each of them many at once; see `decide`."""
        tried = [at for at, request in enumerate(requests) if self._is_candidates(request.subject)]
        aside = frozenset(tried)
        rest = [at for at in range(len(requests)) if at not in aside]
        sides = [
            self._tried(decided_all(self._candidate, [requests[at] for at in tried])),
            contain(decided_all(self._current, [requests[at] for at in rest])),
        ]
        came, others = [unwrap(reply) for reply in (yield from gather(*sides))]
        found: dict[int, Outcome] = dict(zip(rest, for_each(others, len(rest)), strict=True))
        outcomes = for_each(came, len(tried))
        self._count([requests[at] for at in rest], list(found.values()), candidate=False)
        self._count([requests[at] for at in tried], outcomes, candidate=True)
        for at, one in zip(tried, outcomes, strict=True):
            found[at] = Returned(self._marked(one.value)) if isinstance(one, Returned) else one
        again = [at for at, one in zip(tried, outcomes, strict=True) if not self._stands(one)]
        if again:
            reply = yield from contain(decided_all(self._current, [requests[at] for at in again]))
            found |= zip(again, for_each(reply, len(again)), strict=True)
        return told(found[at] for at in range(len(requests)))

    def _rows(
        self,
        subject: Subject,
        action: Action | str,
        resource_type: str,
        *,
        context: Mapping[str, Any],
        actors: Sequence[Subject] = (),
        tenant: str | None = None,
    ) -> Plan[RowFilter]:
        """Have whoever decides for the subject filter rows; see `decide`. It is not counted."""
        if self._is_candidates(subject):
            reply = yield from self._tried(
                rows_of(self._candidate, subject, action, resource_type, context, actors, tenant)
            )
            if not unavailable(reply) and (isinstance(reply, Raised) or self._rollback is None):
                rows: RowFilter = unwrap(reply)
                return rows
        return (yield from rows_of(self._current, subject, action, resource_type, context, actors, tenant))

    def _probe(self) -> Plan[None]:
        """
        Ask the current one whether it is up.

        Raises:
            Exception: What it raised.
        """
        yield from probed(self._current)

    def _is_candidates(self, subject: Subject) -> bool:
        if self._rollback is not None or (subject.type, subject.id) == (ANONYMOUS.type, ANONYMOUS.id):
            return False
        return self._bucket.enforced(subject, self._secret)

    def _tried(self, plan: Plan[T]) -> Plan[Returned[T] | Raised]:
        """Ask the candidate, in its share of the time."""
        left = yield from remaining()
        return (yield from share_of(plan, left, self._share, self._clock))

    def _stands(self, reply: Outcome) -> bool:
        """Tell whether the candidate's answer holds: after a rollback no permit of it does."""
        if isinstance(reply, Raised):
            return not unavailable(reply)
        return self._rollback is None or reply.value.effect is not Effect.PERMIT

    def _marked(self, decision: Decision) -> Decision:
        return with_reason(decision, f"answered by candidate `{part_name(self._candidate)}`")

    def _count(self, requests: Sequence[AccessRequest], outcomes: Sequence[Outcome], *, candidate: bool) -> None:
        subjects = [(request.subject.type, request.subject.id) for request in requests]
        with self._lock:
            self._tallies[candidate].add(subjects, outcomes, self._clock.monotonic())
            rollback = self._judged() if candidate and self._rollback is None else None
            self._rollback = rollback or self._rollback
        if rollback is not None:
            self._roll_back(rollback)

    def _judged(self) -> Rollback | None:
        current, candidate = self._totals()
        if candidate.asked < self._least:
            return None
        for reason, bound in self._bounds.items():
            if _ratio(candidate, reason) - _ratio(current, reason) > bound:
                return Rollback(reason, candidate, current, self._clock.wall())
        return None

    def _roll_back(self, rollback: Rollback) -> None:
        try:
            self._swaps.tell(PartSwapped(_told(self._candidate), _told(self._current)))
        finally:
            if self._on_rollback is not None:
                with suppress(Exception):
                    self._on_rollback(rollback)

    def _empty(self) -> tuple[Tally, Tally]:
        return Tally(self._window, self._per_subject), Tally(self._window, self._per_subject)

    def _totals(self) -> tuple[Counts, Counts]:
        now = self._clock.monotonic()
        current, candidate = self._tallies
        return current.total(now), candidate.total(now)


def _ratio(counts: Counts, reason: str) -> float:
    count: int = getattr(counts, reason)
    return count / counts.asked if counts.asked else 0.0


def _told(pdp: PDP) -> str:
    """Return by which policies a part decides, for the record of a swap: its name, and their revision."""
    revision = getattr(pdp, "revision", None)
    return f"{part_name(pdp)}@{revision}" if type(revision) is str and revision else part_name(pdp)


def _bucket(fraction: object) -> Canary:
    if type(fraction) is not float or not 0 < fraction < 1:
        message = f"`fraction` is {described(fraction)}; give a float between 0 and 1, both excluded"
        raise ConfigurationError(message)
    return Canary(fraction, until=_NEVER, reason="a candidate decision point")


def _checked_secret(value: object) -> bytes:
    if type(value) is not bytes or len(value) < SHORTEST_SECRET:
        message = f"`secret` must be at least {SHORTEST_SECRET} bytes of `bytes`"
        raise ConfigurationError(message)
    return value


def _bound(value: object, name: str) -> float:
    if not is_finite(value) or not 0 <= value <= 1:
        message = f"`{name}` is {described(value)}; give a ratio from 0 to 1"
        raise ConfigurationError(message)
    return float(value)
