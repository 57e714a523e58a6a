"""
The enforcer: what users hold. Construction, and one line per entry point over one plan.

Imports everything below it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from pep import lifecycle
from pep.assemble import Parts, assemble
from pep.core import Core
from pep.errors import AccessDenied, ConfigurationError
from pep.guard.decorate import decorate
from pep.guard.exempt import exempt
from pep.guard.site import Options
from pep.model import Resource, Subject
from pep.registry import Registry
from pep.searching import Searching
from pep.wiring import Wiring

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from pep.approvals.answering import Authenticate
    from pep.approvals.approvers import MayApprove
    from pep.approvals.desk import Desk
    from pep.approvals.store import Store
    from pep.heartbeat import Heartbeat

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type[Any])


class Enforcer(Searching):
    """
    A policy enforcement point: asks, enforces, records.

    Args:
        pdp: Who answers: a policy decision point, or a function of an `AccessRequest`.

        audit: Where records go; there is no default place for the proof.

        profiles: How each action is enforced: pattern → `Profile`.

        attributes: What adds attributes that calls do not carry.

        obligations: What discharges obligations.

        cache: What was decided before.

        telemetry: What observes records; best-effort.

        masking: Which values records may tell; none unless given.

        correlation: Tells what a record belongs to, such as a request's id and trace: see `pep.audit.Correlation`.

        secret: The deployment's secret, at least 16 bytes; needed by canaries.

        clock: What time it is; the machine's, unless a test brings one.

        name: Its name, in records and as the id of the application.

        compiled: Whether guards are written out for each function's own signature; False is for debugging, and
            changes nothing but the time they take.

    Raises:
        ConfigurationError: On a part that is none, or two that do not fit.
    """

    def __init__(
        self, pdp: object, *, audit: object, name: str = "application", compiled: bool = True, **parts: Unpack[Parts]
    ) -> None:
        super().__init__(Core(name, compiled=compiled))
        self._wire(assemble(pdp, audit, self._core.name, self._core.registries, **parts))

    @classmethod
    def unbound(cls, name: str, *, compiled: bool = True) -> Self:
        """
        Return an enforcer that can guard, exempt and cover already; every call is denied until `bind`.

        Args:
            name: Its name, in records and as the id of the application.

            compiled: As in the constructor.
        """
        made = cls.__new__(cls)
        Searching.__init__(made, Core(name, compiled=compiled))
        return made

    def bind(self, pdp: object, *, audit: object = None, **parts: Unpack[Parts]) -> None:
        """
        Wire an unbound enforcer, once: with parts of its own, or behind another enforcer.

        Args:
            pdp: Who answers; or an `Enforcer` to follow, with nothing else.

            audit: Where records go.

            parts: As in the constructor.

        Raises:
            ConfigurationError: When it is bound already, parts do not fit, or sites do not; lists every such site.
        """
        if not isinstance(pdp, Enforcer):
            self._wire(assemble(pdp, audit, self._core.name, self._core.registries, **parts))
            return
        if audit is not None or parts or pdp is self:
            message = "an enforcer that follows another takes nothing of its own; pass the other alone"
            raise ConfigurationError(message)
        self._core.bind(leader=pdp._core)  # noqa: SLF001  another of its own class

    def _wire(self, wiring: Wiring) -> None:
        self._core.bind(wiring)
        lifecycle.follow(self._core, wiring)

    # Guards.

    def guard(
        self,
        action: object,
        *,
        resource: object = None,
        subject: object = None,
        context: object = None,
        on_denied: Callable[[AccessDenied], Any] | None = None,
    ) -> Callable[[F], F]:
        """
        Guard a callable: it runs only with a recorded permit.

        Args:
            action: What is done, such as ``"read"``.

            resource: A template (``"document:{document_id}"``), the name of a parameter, a callable that
                names parameters and returns one resource or several, or a `Resource`; without it,
                ``Annotated`` markers, and without those the application itself.

            subject: The same forms, for who acts; without it, the subject of `acting_as`.

            context: A mapping, a callable, or a tuple of parameter names.

            on_denied: Takes this call's own denial and gives another result; never asked about an outage, or
                about what the caller has to bring.

        Returns:
            A decorator, typed as identity.

        Raises:
            ConfigurationError: When the decorator meets something it cannot guard properly.
        """
        return decorate(self._core, _options(action, resource, subject, context, on_denied))

    def guard_result(
        self,
        action: object,
        *,
        side_effects: bool,
        resource: object = None,
        subject: object = None,
        context: object = None,
        on_denied: Callable[[AccessDenied], Any] | None = None,
    ) -> Callable[[F], F]:
        """
        Decide about what a function returned; it is withheld without a recorded permit.

        Args:
            action: What is done, such as ``"read"``.

            side_effects: Must be stated; only ``False`` is accepted, since the function has run already.

            resource: As for `guard`, with the result under the name ``result``; without it, the result itself.

            subject: As for `guard`.

            context: As for `guard`.

            on_denied: As for `guard`.

        Raises:
            ConfigurationError: Unless *side_effects* is ``False``.
        """
        from pep.guard.results import decorate_result  # noqa: PLC0415  rarer than `guard`

        options = _options(action, resource, subject, context, on_denied)
        return decorate_result(self._core, options, side_effects=side_effects)

    def filter_result(
        self,
        action: object,
        *,
        side_effects: bool,
        resource: object = None,
        subject: object = None,
        context: object = None,
        batch: int = 100,
    ) -> Callable[[F], F]:
        """
        Keep those items of what a function returned that may be seen; lazy over generators.

        Args:
            action: What is done to each item, such as ``"read"``.

            side_effects: Must be stated; only ``False`` is accepted, since the function has run already.

            resource: As for `guard`, with the item under the name ``result``; without it, the item itself.

            subject: As for `guard`.

            context: As for `guard`.

            batch: How many items are decided together.

        Raises:
            ConfigurationError: Unless *side_effects* is ``False``; on a batch below one.
        """
        from pep.guard.results import decorate_filter  # noqa: PLC0415  rarer than `guard`

        options = _options(action, resource, subject, context, None)
        return decorate_filter(self._core, options, side_effects=side_effects, batch=batch)

    def exempt(self, *, reason: str) -> Callable[[F], F]:
        """
        Mark a function as open on purpose, with the reason that `coverage` lists.

        Raises:
            ConfigurationError: Without a reason, or over a guard.
        """
        return exempt(self._core.name, reason)

    def all_guarded(self, cls: C) -> C:
        """
        Refuse a class with public methods that are neither guarded nor exempt, subclasses too.

        Raises:
            ConfigurationError: Naming those methods.
        """
        from pep.guard.classes import all_guarded  # noqa: PLC0415  rarer than `guard`

        return all_guarded(cls)

    # Registries and revocation.

    @property
    def subjects(self) -> Registry[Subject]:
        """How objects become subjects: ``enforcer.subjects.register(User, to_subject)``."""
        return self._core.registries.subjects

    @property
    def resources(self) -> Registry[Resource]:
        """How objects become resources: ``enforcer.resources.register(Document, to_resource)``."""
        return self._core.registries.resources

    def invalidate(self, subject: object = None, resource: object = None, action: object = None) -> None:
        """
        Revoke what was decided: no earlier permit takes effect once this returns, even in a call in flight.

        Args:
            subject: A `Subject`, a registered object, or a subject type.

            resource: A `Resource`, a registered object, or a resource type.

            action: An action or its name.

        Raises:
            ConfigurationError: When nothing is named.
        """
        wiring = self._core.wiring()
        self._core.run_plan(lifecycle.revoked(self._core, wiring, (subject, resource, action)), wiring)

    async def ainvalidate(self, subject: object = None, resource: object = None, action: object = None) -> None:
        """Revoke what was decided; see `invalidate`."""
        wiring = self._core.wiring()
        told = lifecycle.revoked(self._core, wiring, (subject, resource, action), awaiting=True)
        await self._core.arun_plan(told, wiring)

    def invalidate_all(self) -> None:
        """Revoke everything that was decided."""
        wiring = self._core.wiring()
        self._core.run_plan(lifecycle.all_revoked(wiring), wiring)

    async def ainvalidate_all(self) -> None:
        """Revoke everything that was decided."""
        wiring = self._core.wiring()
        await self._core.arun_plan(lifecycle.all_revoked(wiring, awaiting=True), wiring)

    def approvals(self, store: Store, *, authenticate: Authenticate, may_approve: MayApprove | None = None) -> Desk:
        """
        Return the desk where approvals of this enforcer's confirmations are given, recorded where it records.

        Args:
            store: Where approvals are kept; the handler's.

            authenticate: Takes credentials, and tells who is behind them: see `pep.approvals.desk.Desk`.

            may_approve: The Python predicate that approvals may ask for; the handler's own.

        Raises:
            AccessDenied: While it is unbound, or closed.

            ConfigurationError: When the store is none.
        """
        from pep.approvals.desk import Desk  # noqa: PLC0415  loaded only where there are approvals

        wiring = self._core.wiring()
        journal, clock = wiring.journal, wiring.clock
        return Desk(store, authenticate=authenticate, may_approve=may_approve, audit=journal, clock=clock)

    # Lifecycle.

    def freeze(self) -> None:
        """Forbid every later guard, registration and test override."""
        self._core.freeze()

    def stats(self) -> dict[str, int]:
        """Return counts since the start: records written and lost, cache hits, misses and evictions."""
        return lifecycle.stats(self._core)

    def health(self) -> dict[str, Any]:
        """
        Return how the enforcer is; nobody is asked for that.

        Whether it is bound and open, who answers and how that is faring, what guarantee it records with, and what is
        not enforced.
        """
        return dict(lifecycle.health(self._core))

    async def ahealth(self) -> dict[str, Any]:
        """Return how the enforcer is; see `health`."""
        return dict(lifecycle.health(self._core))

    def heartbeat(self, *, every: float = 5.0, timeout: float = 1.0) -> Heartbeat:
        """
        Probe the decision point again and again, so that an outage is found before a call finds it.

        Args:
            every: How long to wait between two probes, in seconds.

            timeout: How long one may take, in seconds.

        Returns:
            What probes it, on a thread of its own, until the enforcer is closed or begins another; `health` tells
            what came of it.

        Raises:
            AccessDenied: While it is unbound, or closed.

            ConfigurationError: When the decision point cannot be probed, or a time is none.
        """
        from pep.heartbeat import Heartbeat  # noqa: PLC0415  only who probes has a thread for it

        wiring = self._core.wiring()
        begun = Heartbeat(wiring.pdp, every=every, timeout=timeout, clock=wiring.clock)
        before, self._core.heartbeat = self._core.heartbeat, begun
        if before is not None:
            before.close()
        begun.start()
        return begun

    def close(self) -> None:
        """
        Refuse every later call, with a record, and close the sink; one that belongs to another enforcer stays open.

        Raises:
            AuditError: When the sink could not be closed; one that can only be awaited needs `aclose`.
        """
        wiring = self._core.closing()
        if wiring is not None:
            self._core.run_plan(lifecycle.closed(wiring), wiring)

    async def aclose(self) -> None:
        """Refuse every later call; see `close`."""
        wiring = self._core.closing()
        if wiring is not None:
            await self._core.arun_plan(lifecycle.closed(wiring, awaiting=True), wiring)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<Enforcer {self._core.name!r}, {self._core.state}, {len(self._core.sites)} sites>"


def _options(
    action: object, resource: object, subject: object, context: object, on_denied: Callable[[AccessDenied], Any] | None
) -> Options:
    return Options(action=action, resource=resource, subject=subject, context=context, on_denied=on_denied)
