"""
Sockets: where the hot path of one function meets the wiring of its enforcer.

A plan that ran plugs the hot path in, where nothing forbids it; whatever changes unplugs it. Imports the core's parts
and the hot path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pep.audit.journal import Journal
from pep.enforcement import Enforcement
from pep.guard.hot import UNPLUGGED, Hot, Plug, serves
from pep.guard.shape import Shape, returns_nothing
from pep.sources import Constant, Template
from pep.wiring import Wiring

if TYPE_CHECKING:
    from pep.guard.block import Block
    from pep.guard.site import Site


class Socket:
    """
    The hot path of one site.

    Args:
        site: The site, or what stands for it.
    """

    __slots__ = ("__weakref__", "_awaited", "_hot", "_returns_nothing", "_served", "_site", "rebind")

    def __init__(self, site: Site | Block) -> None:
        self._site = site
        self._returns_nothing = site.shape is Shape.GENERATOR and returns_nothing(getattr(site, "fn", None))
        self._awaited = _awaited(site)
        self._hot: Hot | None = None
        # Who is plugged in.
        self._served: Hot | None = None
        #: Hands a plug to the guard.
        self.rebind: Callable[[Plug], None] = lambda _plug: None

    def offer(self, job: Enforcement) -> None:
        """Plug in what a plan ran with, where the hot path may serve it; learn what types there are."""
        wiring, hot = job.wiring, self._hot
        if hot is None or hot.wiring is not wiring:
            site, nothing, awaited = self._site, self._returns_nothing, self._awaited
            hot = Hot(site.core, wiring, site.needs[0], site.entry, returns_nothing=nothing, awaited=awaited)
            self._hot = hot
        if self._served is not hot and self._may(wiring):
            self._plug_in(hot)
        for answer in job.answers:
            kind = answer.request.resource.type
            if kind not in hot.shapes:
                hot.learn(kind)

    def unplug(self) -> None:
        """Leave every call to the plan, until one plugs the hot path in again."""
        self._served = None
        self.rebind(UNPLUGGED)

    def _plug_in(self, hot: Hot) -> None:
        journal: Journal = hot.wiring.journal
        plug = hot.plug()
        if plug is UNPLUGGED:
            return
        journal.plugged.add(self)
        self._served = hot
        self.rebind(plug)
        # INVARIANT: whoever changes something first changes it and then unplugs, so no lock is needed: what is
        # plugged in meanwhile sees the change here.
        if not self._may(hot.wiring):
            self.unplug()

    def _may(self, wiring: Wiring) -> bool:
        return not wiring.journal.owing and serves(self._site.core, wiring)


def _awaited(site: Site | Block) -> bool | None:
    """Tell whether what is guarded is awaited; None where a plan serves what is durable."""
    if type(site.needs[0].resource) not in {Template, Constant}:
        return None
    if site.shape is Shape.COROUTINE:
        # Asked about what happened while it waited, `on_denied` is the plan's.
        return True if getattr(site, "on_denied", None) is None else None
    return False if site.shape is Shape.FUNCTION else None
