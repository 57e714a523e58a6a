"""
The hot path of blocks: `with enforcer.enforcing(...)` over a resource that is at hand.

Imports sockets and the parts of the hot path.
"""

from __future__ import annotations

from typing import Final

import attrs

from pep.audit.noting import Note
from pep.core import Core
from pep.extract import Requirement
from pep.guard.hot import UNPLUGGED, Plug
from pep.guard.shape import Shape
from pep.guard.socket import Socket
from pep.model import Action, Resource
from pep.scope import hot_frame
from pep.sources import Parameter

#: How many actions have a hot path of their own; the blocks of the rest take the plan.
MAX_BLOCKS: Final = 1000

#: No note: a permit was recorded, and revoked before it took effect; the plan tries once more.
WITHHELD: Final[Note] = ()


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
        """Look for a plain permit and record a hit on it; where the plan takes the block, None or `WITHHELD`."""
        get, generations, take, number, clock, which, shape, hot = self.plug
        frame = hot_frame()
        if hot is None or frame.active >= frame.room:
            return None
        scope = frame.scope
        entry = get((shape(resource.type), scope.who, resource.face))
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
        if generations.epoch == epoch or hot.stands(note):
            return note
        hot.withheld(note)
        return WITHHELD


def block_of(core: Core, action: object, resource: object) -> Block | None:
    """Return the hot path of the blocks of an action, where there can be one."""
    if type(action) is not str or type(resource) is not Resource:
        return None
    known = core.blocks.get(action)
    if known is None and len(core.blocks) < MAX_BLOCKS and core.bound and action and "*" not in action:
        known = core.blocks.setdefault(action, Block(core, action))
    return known
