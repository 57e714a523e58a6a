"""
What was revoked: one epoch, and floors under which decisions no longer hold.

Imports the model only.
"""

from __future__ import annotations

from typing import Final

from pep.locks import Lock
from pep.model import AccessRequest, Action, Subject

#: How many separate floors are remembered before they collapse into one over everything.
MAX_FLOORS: Final = 10_000

#: How many of the last floors are remembered by their epochs.
RECENT: Final = 256

#: How many floors may have come since for each to be compared with a request.
FEW: Final = 4

#: What is revoked: a part and a type, perhaps an id too; or an action.
Floor = tuple[str, ...]


class Generations:
    """
    One epoch, with floors per subject, resource, action, type and all.

    What was decided at an epoch below a floor that touches it no longer holds. Raising is O(1).
    It may drop more than asked, never less.
    """

    __slots__ = ("__weakref__", "_all", "_everything_revoked", "_floors", "_lock", "_recent", "epoch")

    def __init__(self) -> None:
        #: Rises with every invalidation; read it *before* asking a question.
        self.epoch = 0
        self._all = 0
        self._everything_revoked = False
        self._floors: dict[Floor, int] = {}
        # What the last epochs were for: epoch → floor; none where it was for everything, or for nothing.
        self._recent: dict[int, Floor] = {}
        self._lock = Lock()

    def revoke(self, floor: Floor) -> None:
        """Drop what touches a floor: see `floors_of` for their names."""
        with self._lock:
            epoch = self.epoch + 1
            if len(self._floors) >= MAX_FLOORS and floor not in self._floors:
                self._collapse(epoch)
            else:
                self._floors[floor] = epoch
                self._recent[epoch] = floor
                self._recent.pop(epoch - RECENT, None)
            # INVARIANT: floors first, then the epoch, so that whoever reads the new epoch sees the floor.
            self.epoch = epoch

    def revoke_all(self) -> None:
        """Drop everything that was decided, and trust no outage with it either."""
        with self._lock:
            self._collapse(self.epoch + 1)
            self.epoch = self._all

    def swap(self) -> None:
        """Drop everything that was decided, because the policies changed."""
        with self._lock:
            self._all = self.epoch + 1
            self.epoch = self._all

    def bump(self) -> None:
        """Drop nothing, and have every hit on what was decided before looked at again."""
        with self._lock:
            self.epoch += 1

    def superseded(self, request: AccessRequest, epoch: int) -> int:
        """
        Drop everything that was decided but this: an answer came that new policies gave.

        Args:
            request: What it answers.

            epoch: The epoch read before its question.

        Returns:
            The epoch it holds from; its own, where what it rests on was revoked meanwhile.
        """
        with self._lock:
            held = self.holds(request, epoch)
            self.swap()
            return self.epoch if held else epoch

    def holds(self, request: AccessRequest, epoch: int) -> bool:
        """Tell whether nothing that touches *request* was revoked since *epoch*."""
        if epoch == self.epoch:
            return True
        resource = request.resource
        return self.untouched(request.subject, request.action, resource.type, resource.id, epoch, request.actors)

    def untouched(  # noqa: PLR0917  the hot path has no request at hand
        self,
        subject: Subject,
        action: Action,
        kind: str,
        name: str | None,
        epoch: int,
        actors: tuple[Subject, ...] = (),
    ) -> bool:
        """
        Tell whether nothing of a request was revoked since *epoch*, given its parts.

        Whoever moves an entry up afterwards must have read the epoch that it is moved to before this.

        Args:
            subject: Who acts.

            action: What is done.

            kind: The resource's type.

            name: The resource's id; None where it is new.

            epoch: Since when.

            actors: Those acting for the subject.
        """
        now = self.epoch
        if now - epoch <= FEW and not actors:
            # Few came since: each is compared with the request, instead of the request with all there are.
            while epoch < now and (floor := self._recent.get(epoch + 1)) is not None:
                if _touches(floor, subject, action, kind, name):
                    return False
                epoch += 1
            if epoch == now:
                return True
        # INVARIANT: the floors before the one over everything, since a collapse replaces them after raising that.
        floors = self._floors
        if epoch < self._all:
            return False
        return all(floors.get(floor, 0) <= epoch for floor in floors_in(subject, action, kind, name, actors))

    def revoked(self, request: AccessRequest) -> bool:
        """Tell whether anything that touches *request* was ever revoked."""
        floors = self._floors
        return self._everything_revoked or any(floor in floors for floor in floors_of(request))

    def _collapse(self, epoch: int) -> None:
        self._all = epoch
        self._everything_revoked = True
        # Readers take no lock: whoever holds the old floors still sees what they forbid.
        self._floors = {}


def _touches(floor: Floor, subject: Subject, action: Action, kind: str, name: str | None) -> bool:
    part = floor[0]
    if part == "subject":
        return floor[1] == subject.type and (len(floor) == 2 or floor[2] == subject.id)  # noqa: PLR2004  a type alone
    if part == "resource":
        return floor[1] == kind and (len(floor) == 2 or floor[2] == name)  # noqa: PLR2004  a type alone
    done = action.name
    return floor[1] == done or (":" not in done and floor[1] == f"{kind}:{done}")


def floors_of(request: AccessRequest) -> list[Floor]:
    """Name every floor that touches a request, actors included."""
    resource = request.resource
    return floors_in(request.subject, request.action, resource.type, resource.id, request.actors)


def floors_in(
    subject: Subject, action: Action, kind: str, name: str | None, actors: tuple[Subject, ...] = ()
) -> list[Floor]:
    """Name every floor that touches a request, given its parts; see `Generations.untouched`."""
    done = action.name
    floors: list[Floor] = [
        ("subject", subject.type),
        ("subject", subject.type, subject.id),
        ("resource", kind),
        ("action", done),
        ("action", done if ":" in done else f"{kind}:{done}"),
    ]
    if name is not None:
        floors.append(("resource", kind, name))
    for actor in actors:
        floors += (("subject", actor.type), ("subject", actor.type, actor.id))
    return floors
