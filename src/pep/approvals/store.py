"""
Where approvals are kept: the protocol of a store, and how approvals are read and changed by way of it.

A store keeps rows and knows nothing of what is in them. Imports sealing and the values only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol, runtime_checkable

from pep.approvals.refused import ApprovalRefused, Reason
from pep.approvals.sealing import Row, Seal
from pep.approvals.values import Approval, Status

#: How many unused approvals one subject may have, unless it is told otherwise.
MOST: Final = 16

# How often somebody may be quicker.
_TRIES: Final = 8


class Full(Exception):  # noqa: N818  an answer of a store, not an error
    """
    A subject has as many unused approvals as it may.

    Attributes:
        until: When the first of them expires, in seconds since 1970 by the store's clock.
    """

    def __init__(self, until: float) -> None:
        super().__init__(until)
        self.until = until


@runtime_checkable
class Store(Protocol):
    """
    Keeps rows; each method is atomic, for every thread and process that uses the same store.

    It may also have ``threaded``, a ``bool``: whether it is asked on a thread of its own, so that it holds up no
    event loop, and a deadline can cut it short. Whatever it raises but `Full` closes the call.
    """

    @property
    def seal(self) -> Seal:
        """What its rows are sealed with."""
        ...

    def now(self) -> float:
        """Return the store's time: seconds since 1970 in UTC."""
        ...

    def add(self, row: Row, now: float, most: int) -> Row:
        """
        Keep a row, unless one of the same key is open and has not expired; return the one that is kept.

        Drops what has expired, and raises `Full` where the owner has *most* open ones.
        """
        ...

    def get(self, name: str) -> Row | None:
        """Return a row by its id."""
        ...

    def swap(self, old: Row, new: Row) -> bool:
        """Replace a row exactly as it was read; return False, and change nothing, where it is another by now."""
        ...

    def rows(self) -> Iterable[Row]:
        """Return every row."""
        ...


def on_thread(store: Store) -> bool:
    """Tell whether a store is asked on a thread of its own."""
    return getattr(store, "threaded", False) is True


def asked(store: Store, approval: Approval, now: float, most: int) -> tuple[Row, Approval]:
    """
    Ask for an approval; identical requests share one.

    Returns:
        It, or the one that is there already, pending, approved or rejected; with the row it was read from.

    Raises:
        Full: When its subject has too many.

        ApprovalRefused: When the one that is there was tampered with.
    """
    row = store.seal.close(approval)
    for _again in range(_TRIES):
        kept = _opened(store, store.add(row, now, most))
        if kept is not None and kept[1].key != approval.key:
            raise ApprovalRefused(Reason.TAMPERED)
        # Somebody may have used it just now.
        if kept is not None and kept[1].status is not Status.USED:
            return kept
    raise ApprovalRefused(Reason.USED)


def found(store: Store, name: str) -> tuple[Row, Approval] | None:
    """
    Look up an approval, with the row it was read from.

    Raises:
        ApprovalRefused: When it was tampered with.
    """
    floor = store.seal.floor(name)
    row = store.get(name) if _is_text(name) else None
    if row is None:
        return None
    approval = store.seal.open(row)
    # INVARIANT: an earlier row of the same approval, put back, brings no approval back to life.
    if approval.id != name or approval.version < floor:
        raise ApprovalRefused(Reason.TAMPERED)
    store.seal.saw(approval)
    return row, approval


def replaced(store: Store, row: Row, approval: Approval) -> bool:
    """Replace an approval by what became of it; return False where it is another by now."""
    done = store.swap(row, store.seal.close(approval))
    if done:
        store.seal.saw(approval)
    return done


def listed(store: Store) -> tuple[list[Approval], list[str]]:
    """Return all approvals that are sound, the oldest first, and the ids of those that were tampered with."""
    sound: list[Approval] = []
    damaged: list[str] = []
    for row in store.rows():
        try:
            kept = _opened(store, row)
        except ApprovalRefused:
            damaged.append(str(row.id))
        else:
            sound += [] if kept is None else [kept[1]]
    return sorted(sound, key=lambda one: (one.created, one.id)), sorted(damaged)


def _opened(store: Store, row: Row) -> tuple[Row, Approval] | None:
    """Open a row; where this process has seen a later one, somebody was quicker or put it back: look again."""
    approval = store.seal.open(row)
    if approval.version < store.seal.floor(approval.id):
        return found(store, approval.id)
    store.seal.saw(approval)
    return row, approval


def _is_text(name: object) -> bool:
    """Tell whether an id is one that a store can look up; whoever brings it may have made it up."""
    return type(name) is str and not any("\ud800" <= char <= "\udfff" for char in name)
