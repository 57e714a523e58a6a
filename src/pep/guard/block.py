"""
The hot path of blocks: `with enforcer.enforcing(...)` over a resource that is at hand.

Imports sockets and the parts of the hot path.
"""

from __future__ import annotations

from typing import Any, Final

import attrs

from pep.audit.noting import Note
from pep.core import Core
from pep.extract import Requirement
from pep.frozen import EMPTY
from pep.guard.hot import UNPLUGGED, Hot, Plug
from pep.guard.lookup import face
from pep.guard.shape import Shape
from pep.guard.socket import Socket
from pep.model import Action, Resource
from pep.scope import hot_frame
from pep.sources import Parameter
from pep.verdict import Grant

#: How many actions have a hot path of their own; the blocks of the rest take the plan.
MAX_BLOCKS: Final = 1000


@attrs.define(eq=False, repr=False, init=False)
class Block:
    """
    The hot path of every block of one action.

    Args:
        core: The enforcer's core.

        action: What is done in the block.
    """

    core: Core
    needs: tuple[Requirement, ...]
    socket: Socket
    plug: Plug
    entry: str = "enforcing"
    shape: Shape = Shape.FUNCTION

    def __init__(self, core: Core, action: str) -> None:
        self.core, self.needs = core, (Requirement(Action(action), Parameter("resource")),)
        self.entry, self.shape, self.plug = "enforcing", Shape.FUNCTION, UNPLUGGED
        self.socket = Socket(self)
        self.socket.rebind = self.rebind

    def rebind(self, plug: Plug) -> None:
        """Hold another plug."""
        self.plug = plug

    def enter(self, resource: Resource) -> Note | None:
        """Look for a plain permit and record a hit on it; None where the plan takes the block."""
        get, generations, take, number, clock, which, shape, hot = self.plug
        frame = hot_frame()
        if hot is None or frame.active >= frame.room:
            return None
        scope = frame.scope
        entry = get((shape(resource.type), scope.who, face(resource)))
        if entry is None:
            return None
        now, epoch = clock(which), generations.epoch
        if now >= entry.expires or (entry.epoch != epoch and not hot.moved(entry, epoch, scope, resource)):
            return None
        note = (hot, now, number(), entry, scope, resource)
        try:
            take(note)
        except BaseException as error:  # noqa: BLE001  what is no `Exception` goes on
            hot.lost(note, error)
            return None
        if generations.epoch != epoch:
            hot.withheld(note)
            return None
        return note


@attrs.frozen(eq=False, repr=False)
class Held:
    """What the ticket of a hit's grant stands for."""

    note: Note

    def holds(self) -> bool:
        """Tell whether nothing it rests on was revoked since."""
        hot: Hot = self.note[0]
        return hot.holds(self.note)


def grant_of(core: Core, note: Note, release: Any, arelease: Any) -> Grant:  # noqa: ANN401  what the block does
    """Give the grant of a hit."""
    hot: Hot = note[0]
    return Grant(
        lambda: hot.verdict(note),
        EMPTY,
        redeem=core.redeem,
        ticket=((core.process, Held(note)),),
        release=release,
        arelease=arelease,
    )


def block_of(core: Core, action: object, resource: object) -> Block | None:
    """Return the hot path of the blocks of an action, where there can be one."""
    if type(action) is not str or type(resource) is not Resource:
        return None
    known = core.blocks.get(action)
    if known is None and len(core.blocks) < MAX_BLOCKS and core.bound and action and "*" not in action:
        known = core.blocks.setdefault(action, Block(core, action))
    return known
