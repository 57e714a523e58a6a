"""What the topics measure with: who acts, the code that is guarded, and the check a careful hand would write."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable
from typing import Any, Final

import attrs
from harness import WrongError

from pep import Enforcer, Guarantee, Resource, Subject
from pep.audit import MemorySink
from pep.model import AccessRequest
from pep.pdp.function import FunctionPDP

ALICE: Final = Subject("user", "alice")
MALLORY: Final = Subject("user", "mallory")
DOCUMENTS: Final = {"42": Resource("document", "42", {"owner": "alice"})}
TITLES: Final = {"42": "old"}
TEMPLATE: Final = "document:{document_id}"

#: The hand-written check that ratios are to.
FLOOR: Final = "by hand"


def rename(document_id: str, title: str) -> None:
    """Do next to nothing: the code that is guarded."""
    TITLES[document_id] = title


def document(document_id: str) -> Resource:
    """Return the document of an id, as an extractor does."""
    return DOCUMENTS[document_id]


@attrs.frozen
class ByHand:
    """
    The floor: who acts from a context variable, the time, one dict hit with its expiry, one record appended.

    Attributes:
        rename: The code behind that check.

        extracting: The same, with the document looked up by the extractor first.

        records: What was appended.
    """

    rename: Callable[[str, str], None]
    extracting: Callable[[str, str], None]
    records: list[dict[str, Any]]

    def settle(self, count: int) -> None:
        """Check that so many records were appended, and forget them."""
        found = len(self.records)
        self.records.clear()
        expect("records by hand", found, count)


def by_hand() -> ByHand:
    """Write the floor."""
    acting = contextvars.ContextVar[Subject]("acting")
    acting.set(ALICE)
    known = {("user", "alice", "edit", "document", "42"): (True, time.monotonic() + 1e6)}
    records: list[dict[str, Any]] = []

    def checked(document_id: str, title: str) -> None:
        who, now = acting.get(), time.monotonic()
        permitted, expires = known.get((who.type, who.id, "edit", "document", document_id), (False, 0.0))
        if not permitted or now >= expires:
            raise PermissionError(document_id)
        records.append({"time": now, "subject": who.id, "action": "edit", "resource": document_id, "allowed": True})
        rename(document_id, title)

    def extracted(document_id: str, title: str) -> None:
        who, found, now = acting.get(), document(document_id), time.monotonic()
        permitted, expires = known.get((who.type, who.id, "edit", found.type, found.id or ""), (False, 0.0))
        if not permitted or now >= expires:
            raise PermissionError(document_id)
        records.append({"time": now, "subject": who.id, "action": "edit", "resource": found.id, "allowed": True})
        rename(document_id, title)

    return ByHand(checked, extracted, records)


class Pure:
    """A decision point that permits, and counts how often it was asked; its answers are kept."""

    def __init__(self) -> None:
        self.asked = 0
        self.point = FunctionPDP(self._answer, name="pure", pure=True)

    def _answer(self, _request: AccessRequest) -> bool:
        self.asked += 1
        return True


class Nowhere:
    """A sink that counts records and keeps none, so that only the cache grows."""

    guarantee = Guarantee.BUFFERED
    instant = True

    def __init__(self) -> None:
        self.taken = 0

    def take(self, _note: object) -> None:
        """Count a note."""
        self.taken += 1

    def record(self, _record: object) -> None:
        """Count a record."""
        self.taken += 1


@attrs.frozen
class World:
    """An enforcer whose permits are warm, with its sink in memory."""

    enforcer: Enforcer
    sink: MemorySink
    pure: Pure

    def settle(self, count: int) -> None:
        """Check that each call left a record, and that nobody was asked; forget the records."""
        found, asked = len(self.sink.records), self.pure.asked
        self.forget()
        expect("records in memory", found, count)
        expect("questions of a warm enforcer", asked, 0)

    def forget(self) -> None:
        """Forget what warming it up left behind."""
        self.sink.records.clear()
        self.pure.asked = 0


def world(*, compiled: bool = True) -> World:
    """Make one."""
    sink, pure = MemorySink(), Pure()
    return World(Enforcer(pure.point, audit=sink, compiled=compiled), sink, pure)


def expect(what: str, found: object, wanted: object) -> None:
    """Raise unless a kind did what its name says."""
    if found != wanted:
        message = f"{what}: {found}, not {wanted}"
        raise WrongError(message)
