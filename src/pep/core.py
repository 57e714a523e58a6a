"""
The core of an enforcer: its wiring while it lives, the sites it guards, and the grants it gave.

Shared by the enforcer and the guards. Imports everything below them.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from pep.assemble import awaited_parts
from pep.audit.record import new_id
from pep.clock import SystemClock
from pep.deciding import Deciding
from pep.drive import APerformer, Performer, arun, run
from pep.enforcement import Enforcement, denial
from pep.errors import AccessDenied, ConfigurationError, ExtractionError
from pep.extract import Registries, Requirement
from pep.fault import Fault
from pep.forking import after_fork
from pep.frozen import exact_text
from pep.model import Resource, Subject
from pep.plan import Plan
from pep.registry import Registry
from pep.scope import NOBODY, Frame, Scope
from pep.verdict import Grant, Outcome, Releasing, Verdict
from pep.wiring import Wiring

if TYPE_CHECKING:
    from pep.guard.block import Block
    from pep.guard.site import Site
    from pep.heartbeat import Heartbeat

T = TypeVar("T")


class Core:
    """
    What the enforcer and its guards share.

    Args:
        name: The enforcer's name, in records and as the application's id.

    Raises:
        ConfigurationError: When the name is empty or no exact ``str``.
    """

    def __init__(self, name: str, *, compiled: bool = True) -> None:
        try:
            self.name = exact_text(name, what="an enforcer's name")
        except ExtractionError as error:
            raise ConfigurationError(str(error)) from None
        self.registries = Registries(
            Registry(Subject, "__pep_subject__"),
            Registry(Resource, "__pep_resource__"),
        )
        #: Every function this enforcer guards.
        self.sites: list[Site] = []
        #: Whether guards are written out for each function's own signature.
        self.compiled = compiled
        self.frozen = False
        self.closed = False
        self._wiring: Wiring | None = None
        self._leader: Core | None = None
        #: Those that are wired by following this one.
        self.followers: weakref.WeakSet[Core] = weakref.WeakSet()
        self._derived: tuple[Wiring, Wiring] | None = None
        #: What probes the decision point, if anything does.
        self.heartbeat: Heartbeat | None = None
        self._performers: tuple[Wiring, Performer, APerformer] | None = None
        #: This process: another one in a forked child.
        self.process = object()
        #: The hot paths of blocks, by action.
        self.blocks: dict[str, Block] = {}
        after_fork(self._forked)

    # Wiring.

    @property
    def bound(self) -> bool:
        """Whether there is a decision point to ask."""
        return self._wiring is not None or (self._leader is not None and self._leader.bound)

    @property
    def ended(self) -> bool:
        """Whether it was closed, or the one it follows, or the interpreter is ending."""
        return self.closed or sys.is_finalizing() or (self._leader is not None and self._leader.ended)

    @property
    def state(self) -> str:
        """What it is, in one word: ``closed``, ``bound`` or ``unbound``."""
        return "closed" if self.ended else "bound" if self.bound else "unbound"

    @property
    def own_wiring(self) -> Wiring | None:
        """The wiring that is this enforcer's own, not one it follows."""
        return self._wiring

    @property
    def latest(self) -> Wiring | None:
        """The wiring it enforces with, or did until it ended; None where it is unbound."""
        return self._wiring if self._leader is None else self._leader.latest

    def freeze(self) -> None:
        """Forbid every later guard, registration and override."""
        self.frozen = True
        self.registries.subjects.freeze()
        self.registries.resources.freeze()

    def bind(self, wiring: Wiring | None = None, leader: Core | None = None) -> None:
        """
        Wire the enforcer, once; every site is checked first, and those of enforcers that follow it.

        Raises:
            ConfigurationError: When it is wired already or closed, would follow itself, or a site does not fit.
        """
        if self._wiring is not None or self._leader is not None:
            message = f"enforcer `{self.name}` is bound already; bind it once"
            raise ConfigurationError(message)
        if self.closed or (leader is not None and leader.ended):
            message = f"enforcer `{self.name if self.closed else leader.name}` is closed; bind before that"  # type: ignore[union-attr]
            raise ConfigurationError(message)
        if leader is not None and leader.follows(self):
            message = f"enforcer `{self.name}` would follow itself; wire the last of them"
            raise ConfigurationError(message)
        candidate = wiring if leader is None or not leader.bound else leader.wiring()
        if candidate is not None:
            self._check_sites(candidate)
        self._wiring, self._leader = wiring, leader
        if leader is not None:
            leader.followers.add(self)

    def follows(self, other: Core) -> bool:
        """Tell whether this is another enforcer, or ends up at it."""
        return self is other or (self._leader is not None and self._leader.follows(other))

    def wiring(self) -> Wiring:
        """
        Return what calls are enforced with now.

        Raises:
            DecisionUnavailable: When the enforcer is unbound or closed.
        """
        if self.closed or sys.is_finalizing():
            raise self._unavailable(Fault.INTERNAL)
        if self._wiring is not None:
            return self._wiring
        if self._leader is None:
            raise self._unavailable(Fault.UNBOUND)
        followed = self._leader.wiring()
        derived = self._derived
        if derived is None or derived[0] is not followed:
            derived = self._derived = (followed, attrs.evolve(followed, registries=self.registries))
        return derived[1]

    def serves(self, wiring: Wiring) -> bool:
        """Tell whether calls are enforced with this very wiring now."""
        return not self.ended and self.bound and self.wiring() is wiring

    def unplug(self) -> None:
        """Have the plan take every call, also what is in flight: what the hot path relied on has changed."""
        self._unplug()
        if (wiring := self.latest) is not None:
            # What is in flight compares generations last.
            wiring.generations.bump()

    def _unplug(self) -> None:
        for core in self.led():
            places: list[Site | Block] = [*core.sites, *core.blocks.values()]
            for place in places:
                if place.socket is not None:
                    place.socket.unplug()

    def closing(self) -> Wiring | None:
        """Refuse every later call; return the wiring to close, where it is this enforcer's own and was open."""
        closed, self.closed = self.closed, True
        if self.heartbeat is not None:
            self.heartbeat.close()
        self.unplug()
        return None if closed else self._wiring

    @contextmanager
    def swapped(self, wiring: Wiring) -> Iterator[None]:
        """Enforce with another wiring for the length of a block; for tests."""
        if self.frozen:
            message = f"enforcer `{self.name}` is frozen; tests override it before `freeze()`"
            raise ConfigurationError(message)
        before, leader = self._wiring, self._leader
        self.unplug()
        self._wiring, self._leader = wiring, None
        self.unplug()
        try:
            yield
        finally:
            self.unplug()
            self._wiring, self._leader = before, leader
            self.unplug()

    def check_site(self, site: Site, wiring: Wiring | None = None) -> str | None:
        """Return what is wrong with a site under a wiring, if anything is."""
        if wiring is None:
            if not self.bound or self.closed:
                return None
            wiring = self.wiring()
        awaited = None if site.asynchronous else self.awaited(wiring)
        if awaited is None:
            return None
        return (
            f"`{site.name}` is synchronous, but `{awaited}` can only be awaited; make it `async def`, "
            "or bring a synchronous one"
        )

    def awaited(self, wiring: Wiring) -> str | None:
        """Name a part that can only be awaited, if there is one."""
        return next(awaited_parts(wiring), None)

    def _check_sites(self, wiring: Wiring) -> None:
        sites = [site for core in self.led() for site in core.sites]
        wrong = [(site, problem) for site in sites if (problem := self.check_site(site, wiring)) is not None]
        if wrong:
            told = "\n".join(f"  {site.filename}:{site.lineno}: {problem}" for site, problem in wrong)
            message = f"enforcer `{self.name}` cannot be bound; mend these sites:\n{told}"
            raise ConfigurationError(message)

    def led(self) -> Iterator[Core]:
        """Name this enforcer, and every one that follows it."""
        yield self
        for follower in list(self.followers):
            yield from follower.led()

    # Running.

    def job(
        self,
        needs: Sequence[Requirement],
        arguments: Mapping[str, Any],
        frame: Frame,
        entry: str,
        **options: Any,  # noqa: ANN401  see `Deciding`
    ) -> Enforcement:
        """Begin one enforcement with the wiring of now."""
        return Enforcement(Deciding(self.wiring(), needs, arguments, frame, **options), entry)

    def resumed(self, wiring: Wiring, need: Requirement, scope: Scope, entry: str) -> Enforcement:
        """Take up an enforcement that came to a permit without a plan, with the wiring it was had under."""
        return Enforcement(Deciding(wiring, [need], {}, Frame(scope)), entry)

    def run(self, job: Enforcement, plan: Plan[T]) -> T:
        """Run a plan of a job on this thread, as nobody."""
        return run(plan, self.performers(job.wiring)[0], _nobody(job), job)

    async def arun(self, job: Enforcement, plan: Plan[T]) -> T:
        """Run a plan of a job in this task, as nobody."""
        return await arun(plan, self.performers(job.wiring)[1], _nobody(job), job)

    def run_closing(self, job: Enforcement, plan: Plan[T]) -> T:
        """Run the last plan of a job that is cut off, on this thread; what must be awaited is adopted by the loop."""
        return run(plan, self.performers(job.wiring)[1].closing, _nobody(job), job)

    def run_all(self, jobs: Sequence[Enforcement], plan: Plan[T]) -> T:
        """Run one plan of many jobs on this thread; there is at least one."""
        return self.run(jobs[0], plan)

    async def arun_all(self, jobs: Sequence[Enforcement], plan: Plan[T]) -> T:
        """Run one plan of many jobs in this task; there is at least one."""
        return await self.arun(jobs[0], plan)

    def run_plan(self, plan: Plan[T], wiring: Wiring) -> T:
        """Run a plan of the enforcer's own on this thread."""
        return run(plan, self.performers(wiring)[0])

    async def arun_plan(self, plan: Plan[T], wiring: Wiring) -> T:
        """Run a plan of the enforcer's own in this task."""
        return await arun(plan, self.performers(wiring)[1])

    def performers(self, wiring: Wiring) -> tuple[Performer, APerformer]:
        """Return what performs steps in either world, by the wiring's clock."""
        known = self._performers
        if known is None or known[0] is not wiring:
            clock, lost = wiring.clock, wiring.journal.owe
            known = self._performers = (wiring, Performer(clock), APerformer(clock, lost))
        return known[1], known[2]

    # Grants.

    def grant(self, job: Enforcement, block: Releasing | None = None) -> Grant:
        """Give the grant of a permitted job."""
        return Grant(job.verdict, dict(job.effective), self.redeem, [(self.process, job)], block)

    def void(self, grant: Grant) -> None:
        """End a grant, spent or not."""
        grant._ticket.clear()  # noqa: SLF001  who gave it may take it back

    def redeem(self, grant: Grant) -> None:
        """
        Spend a grant.

        Raises:
            AccessDenied: When it was spent, revoked or not given by an enforcer of this process.
        """
        ticket = grant._ticket if type(grant) is Grant else []  # noqa: SLF001  who gave it takes it
        process, held = ticket.pop() if ticket else (None, None)
        if held is None or process is not self.process or self.ended or not _holds(held):
            raise denial(attrs.evolve(grant.verdict, outcome=Outcome.UNAVAILABLE, fault=Fault.REVOKED))

    def _forked(self) -> None:
        # In a child: threads stayed with the parent; grants know whose they are.
        self._unplug()
        self.process = object()
        self._performers = None

    def _unavailable(self, fault: Fault) -> AccessDenied:
        return denial(Verdict(new_id(SystemClock().wall()), Outcome.UNAVAILABLE, fault=fault))


def _nobody(job: Enforcement) -> Frame:
    """Return the frame a job's plan runs in: it acts for nobody, as deep as the protected code will."""
    depth = job.deciding.frame.depth
    return NOBODY.inner() if depth == 0 else Frame(depth=depth + 1)


def _holds(held: Any) -> bool:  # noqa: ANN401  an enforcement, or a note of the hot path
    holds: bool = held[0].holds(held) if type(held) is tuple else held.holds()
    return holds
