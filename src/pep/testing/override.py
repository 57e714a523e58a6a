"""
Override: enforce with another decision point, sink, clock and cache for the length of a test.

Imports the enforcer's core and what is below it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs

from pep.assemble import as_pdp, assemble, pdp_name
from pep.audit.memory import MemorySink
from pep.audit.record import Kind, Record
from pep.cache import DecisionCache
from pep.clock import SystemClock
from pep.drive import Performer, run
from pep.errors import AccessDenied, AuditError, ConfigurationError, PDPUnavailable
from pep.extract import is_asynchronous
from pep.model import AccessRequest, Action, Resource, Subject
from pep.profile import Guarantee, Profile
from pep.profiles import Profiles
from pep.protocols import PDP, BatchPDP, Clock, RowFilterPDP
from pep.testing.fakes import FakeObserver
from pep.testing.injection import directed
from pep.testing.performing import Stage
from pep.verdict import ALLOWING
from pep.wiring import Wiring

if TYPE_CHECKING:
    from pep.core import Core
    from pep.enforcer import Enforcer

#: How long the real sink may take for the record of an override, in seconds.
PATIENCE: Final = 5.0

_ALLOWED: Final = frozenset(outcome.value for outcome in ALLOWING)


@attrs.frozen(eq=False)
class World:
    """
    What an overridden enforcer lives in.

    Attributes:
        records: Every record that the sink acknowledged, in order.

        asked: Every request that the decision point was asked about, in order.

        sink: Where records go.

        clock: What time it is.

        stage: What performs the enforcer's steps, and counts them.
    """

    sink: Any
    clock: Clock
    stage: Stage
    records: list[Record]
    asked: list[AccessRequest]

    @property
    def permits(self) -> list[Record]:
        """Return the decision records under which code ran, or might have."""
        return [record for record in self._decisions() if record.outcome in _ALLOWED]

    @property
    def denials(self) -> list[Record]:
        """Return the decision records of calls that were refused."""
        return [record for record in self._decisions() if record.outcome not in _ALLOWED]

    def _decisions(self) -> list[Record]:
        return [record for record in self.records if record.kind is Kind.DECISION]


@contextmanager
def override(
    enforcer: Enforcer,
    pdp: object = None,
    *,
    sink: object = None,
    clock: Clock | None = None,
    cache: DecisionCache | None = None,
    profiles: Profiles | Mapping[str, Profile] | None = None,
) -> Iterator[World]:
    """
    Enforce with other parts for the length of a ``with`` block, in every thread; nothing leaks in or out.

    Profiles, providers, handlers and registries stay as they are, unless given; caches, revocations
    and counts start afresh. The real sink is told when an override begins and ends.

    Args:
        enforcer: The enforcer; it may be unbound.

        pdp: Who answers; the enforcer's own decision point unless given.

        sink: Where records go; a `MemorySink` unless given.

        clock: What time it is; a `FakeClock` is never waited for. The enforcer's own unless given.

        cache: What was decided before; an empty one unless given.

        profiles: How each action is enforced.

    Returns:
        The world in which that is so.

    Raises:
        ConfigurationError: When the enforcer is frozen or closed, parts do not fit, an unbound enforcer
            is given no decision point, or overrides do not end in the opposite order they began.

        AuditError: When the real sink could not be told.
    """
    core = enforcer._core  # noqa: SLF001  a test looks where a user may not
    real = _real(core)
    listening = _Listening(_pdp(core, real, pdp))
    time = clock or (SystemClock() if real is None else real.clock)
    observer = FakeObserver()
    settled = _profiles(real, profiles)
    kept_sink = _strongest() if sink is None else sink
    parts = {"profiles": settled, "clock": time, "cache": cache, "telemetry": [observer]}
    wiring = _assembled(core, real, listening, kept_sink, parts)
    _check_sites(core, wiring)
    world = World(kept_sink, time, Stage(time, lost=wiring.journal.owe), observer.seen, listening.asked)
    _tell(core, real, "override begun", strictly=True)
    try:
        with core.swapped(wiring), directed(core, world.stage):
            yield world
            _check_order(core, wiring)
    finally:
        listening.over = True
        _tell(core, real, "override ended", strictly=False)


class _Listening:
    """A decision point that remembers what it was asked, and answers nothing once its override is over."""

    def __init__(self, pdp: PDP) -> None:
        self._pdp = pdp
        self.asked: list[AccessRequest] = []
        self.over = False
        self.name = pdp_name(pdp)
        self.pure = getattr(pdp, "pure", False) is True
        self.threaded = bool(getattr(pdp, "threaded", False))
        self.revision = getattr(pdp, "revision", None)
        self.asynchronous = getattr(pdp, "asynchronous", False) is True or is_asynchronous(pdp.decide)

        # What the other cannot do, this one cannot either: capabilities are told by the methods there are.
        if isinstance(pdp, BatchPDP):
            self.decide_many = functools.partial(self._decide_many, pdp)
        if isinstance(pdp, RowFilterPDP):
            self.row_filter = functools.partial(self._row_filter, pdp)

    def decide(self, request: AccessRequest) -> Any:  # noqa: ANN401  whatever it answers
        """Pass on one question."""
        self._note([request])
        return self._pdp.decide(request)

    def _note(self, requests: Sequence[AccessRequest]) -> None:
        if self.over:
            message = "the override this decision point belonged to is over"
            raise PDPUnavailable(message)
        self.asked.extend(requests)

    def _decide_many(self, pdp: BatchPDP, requests: Sequence[AccessRequest]) -> Any:  # noqa: ANN401  whatever it answers
        self._note(requests)
        return pdp.decide_many(requests)

    def _row_filter(
        self,
        pdp: RowFilterPDP,
        subject: Subject,
        action: Action | str,
        resource_type: str,
        *,
        context: Mapping[str, Any],
        actors: Sequence[Subject],
        tenant: str | None,
    ) -> Any:  # noqa: ANN401  whatever it answers
        asked = AccessRequest(subject, action, Resource.new(resource_type), context, tuple(actors), tenant)
        self._note([asked])
        return pdp.row_filter(subject, action, resource_type, context=context, actors=actors, tenant=tenant)


def _real(core: Core) -> Wiring | None:
    """Return what the enforcer enforces with until now; None where it is unbound."""
    if core.frozen:
        message = f"enforcer `{core.name}` is frozen; tests override it before `freeze()`"
        raise ConfigurationError(message)
    if not core.bound and not core.closed:
        return None
    try:
        return core.wiring()
    except AccessDenied as error:
        message = f"enforcer `{core.name}` is closed, or the one it follows; override it before"
        raise ConfigurationError(message) from error


def _pdp(core: Core, real: Wiring | None, pdp: object) -> PDP:
    if pdp is not None:
        return as_pdp(pdp)
    if real is None:
        message = f"enforcer `{core.name}` is unbound; give the override a decision point"
        raise ConfigurationError(message)
    return real.pdp


def _profiles(real: Wiring | None, profiles: Profiles | Mapping[str, Profile] | None) -> Any:  # noqa: ANN401  either form
    if profiles is not None:
        return profiles
    return {} if real is None else real.profiles


def _strongest() -> MemorySink:
    """Return a sink in memory that will do for every profile: what a test loses is not proof."""
    sink = MemorySink()
    sink.guarantee = Guarantee.DURABLE
    return sink


def _assembled(core: Core, real: Wiring | None, pdp: PDP, sink: object, parts: dict[str, Any]) -> Wiring:
    if real is not None:
        parts |= {"attributes": [*real.providers], "obligations": [*real.handlers], "secret": real.secret or None}
    return assemble(pdp, sink, core.name, core.registries, **parts)


def _check_sites(core: Core, wiring: Wiring) -> None:
    problem = next((wrong for site in core.sites if (wrong := core.check_site(site, wiring)) is not None), None)
    if problem is not None:
        message = f"enforcer `{core.name}` cannot be overridden like this: {problem}"
        raise ConfigurationError(message)


def _check_order(core: Core, wiring: Wiring) -> None:
    if core.own_wiring is not wiring:
        message = "overrides end in the opposite order they began; nest their `with` blocks"
        raise ConfigurationError(message)


def _tell(core: Core, real: Wiring | None, change: str, *, strictly: bool) -> None:
    """Leave a record in the real sink: at once where this thread can, else before the next one."""
    if real is None:
        return
    fields, sink = {"change": change}, real.journal.sink
    if getattr(sink, "asynchronous", False) is True or is_asynchronous(sink.record):
        real.journal.announce(Kind.CONFIGURATION, fields)
        return
    record = real.journal.make(Kind.CONFIGURATION, fields)
    failed = run(real.journal.write(record, real.clock.monotonic() + PATIENCE), Performer(real.clock))
    if failed is None:
        return
    if strictly:
        message = f"the audit sink of enforcer `{core.name}` could not be told of an override"
        raise AuditError(message) from failed
    real.journal.owe()
