"""
The wiring of an enforcer: everything it was made of, swapped as one.

Imports L0 and L1 only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

import attrs

from pep.alerting import Alerts
from pep.audit.journal import Journal
from pep.audit.masking import Masking
from pep.cache import DecisionCache, Generations, Key, Shapes, StaleStore
from pep.enrich import Providers
from pep.extract import Registries, Requirement
from pep.model import AccessRequest, Subject
from pep.obligations.ledger import Handlers
from pep.profile import Canary, Enforce, FailOpen, Profile, Shadow
from pep.profiles import Pattern, Profiles
from pep.protocols import PDP, BatchPDP, Clock

if TYPE_CHECKING:
    from pep.bus.seam import Subscription
    from pep.rate import Allowance

#: How many actions' profiles are remembered before all are forgotten.
MAX_REMEMBERED: Final = 1_000


@attrs.define(eq=False, repr=False)
class Wiring:
    """
    Everything an enforcer is made of.

    Args:
        pdp: Who answers.

        pdp_name: What it is called in records.

        profiles: How each action is enforced.

        providers: What adds attributes.

        handlers: What discharges obligations.

        journal: How records are written.

        clock: What time it is.

        cache: What was decided before.

        stale: What was decided last, for outages.

        generations: What was revoked since.

        registries: How objects become subjects and resources.

        secret: The deployment's secret, for canaries.

        masking: Which values records may tell.
    """

    pdp: PDP
    pdp_name: str
    profiles: Profiles
    providers: Providers
    handlers: Handlers
    journal: Journal
    clock: Clock
    cache: DecisionCache
    stale: StaleStore
    generations: Generations
    registries: Registries
    secret: bytes = b""
    masking: Masking = attrs.field(factory=Masking)
    #: Its place on the bus of its cache, if there is one.
    bus: Subscription | None = None
    #: The decision point's identity in cache keys; shared by every wiring that asks the same one.
    shapes: Shapes = attrs.field(factory=Shapes)
    #: What an operator is told of.
    alerts: Alerts = attrs.field(factory=Alerts)
    #: Its allowances are shared by every wiring made from this one.
    _allowances: dict[int, tuple[FailOpen, Allowance]] = attrs.field(factory=dict, alias="allowances")
    #: The decision point again, where it takes batches.
    batches: BatchPDP | None = attrs.field(init=False)
    #: Whether the decision point is asked on a thread of its own.
    threaded: bool = attrs.field(init=False)
    _likely: dict[str, tuple[Profile, ...]] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        # INVARIANT: what one decision point answered is never another's answer.
        if self.shapes.owner is not self.pdp:
            self.shapes = Shapes(self.pdp)
        # Once, since a look at a protocol costs more than a decision.
        self.batches = self.pdp if isinstance(self.pdp, BatchPDP) else None
        self.threaded = getattr(self.pdp, "threaded", False) is True

    @property
    def pure(self) -> bool:
        """Whether answers depend on the request and the policy revision alone; new policies may change that."""
        return getattr(self.pdp, "pure", False) is True

    def key(self, request: AccessRequest) -> Key:
        """Return the cache key of a request: everything the decision point is sent, and its identity."""
        return self.shapes.key(request)

    def likely(self, need: Requirement) -> tuple[Profile, ...]:
        """Return every profile that may hold for a call before its resource is known."""
        name = need.action.name
        if ":" in name or need.resource.type is not None:
            return (self.profiles.for_action(need.qualified_action),)
        known = self._likely.get(name)
        if known is None:
            if len(self._likely) >= MAX_REMEMBERED:
                self._likely.clear()
            anything = Pattern(("*", name), open=False)
            met = (profile for text, profile in self.profiles.items() if Pattern.parse(text).meet(anything) is not None)
            known = self._likely[name] = tuple(met)
        return known

    def longest(self, need: Requirement) -> float:
        """Return the longest deadline of the profiles that may hold for a call, in seconds."""
        likely = self.likely(need)
        return likely[0].deadline if len(likely) == 1 else max([profile.deadline for profile in likely])

    def shadowed(self, profile: Profile, subject: Subject | None) -> bool:
        """Tell whether a profile only shadows a subject's call, now."""
        mode = profile.mode
        if isinstance(mode, Enforce):
            return False
        now = datetime.fromtimestamp(self.clock.wall(), timezone.utc)
        if isinstance(mode, Shadow):
            return mode.active(now)
        return mode.active(now) and not mode.enforced(subject, self.secret)

    def opens(self, faulted: Sequence[tuple[FailOpen, AccessRequest]]) -> bool:
        """
        Take one of the calls that failure modes may open.

        Args:
            faulted: Each request that has no answer, with its failure mode.

        Returns:
            Whether each had a call left, for its subject too, and nothing was revoked.
        """
        wanted = {(id(mode), request.subject.reference().key): (mode, request) for mode, request in faulted}
        if any(self.generations.revoked(request) for _, request in faulted):
            return False
        now = self.clock.boottime()
        return all(self._allowance(mode).take(key, now) for (_, key), (mode, _) in wanted.items())

    def _allowance(self, mode: FailOpen) -> Allowance:
        # By identity: two patterns with equal modes have an allowance each.
        known = self._allowances.get(id(mode))
        if known is None:
            from pep.rate import Allowance  # noqa: PLC0415  only who opens calls pays for it

            known = self._allowances.setdefault(id(mode), (mode, Allowance(mode.limit, mode.per_subject)))
        return known[1]

    def unenforced(self) -> list[Mapping[str, Any]]:
        """Tell which patterns are not enforced, until when and why."""
        return [
            {
                "pattern": pattern,
                "mode": "canary" if isinstance(mode, Canary) else "shadow",
                "until": mode.until.isoformat(),
                "reason": mode.reason,
            }
            for pattern, mode in self.profiles.unenforced()
        ]
