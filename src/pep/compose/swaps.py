"""
Swaps: who is told when a part of a composition answers by other policies.

Imports the parts, locks and the decision's words only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs

from pep.compose.parts import distinct, has, pure_part
from pep.decision import Decision
from pep.locks import Lock
from pep.protocols import PDP


@attrs.frozen
class PartSwapped:
    """
    Other policies decide from now on.

    Attributes:
        old: Revision, or name of the part, that decided before.

        new: Revision, or name of the part, that decides from now on.
    """

    old: str
    new: str


class Swaps:
    """
    The listeners of a composition.

    Parts that tell of their swaps tell the listeners themselves. Of a pure part that does not, the revision of its
    answers is watched, as an enforcer does where it is asked directly.

    Args:
        pdps: The parts.
    """

    def __init__(self, pdps: Iterable[PDP]) -> None:
        parts = list(distinct(pdps))
        self._telling = [pdp for pdp in parts if has(pdp, "subscribe")]
        self._watched = {id(pdp) for pdp in parts if not has(pdp, "subscribe")}
        self._revisions: dict[int, str] = {}
        self._listeners: tuple[Callable[[Any], None], ...] = ()
        self._lock = Lock()

    @property
    def told(self) -> bool:
        """Whether any part tells of its swaps."""
        return bool(self._telling)

    def subscribe(self, listener: Callable[[Any], None]) -> None:
        """Tell *listener* of every swap, on the thread that noticed; of those of the parts too."""
        with self._lock:
            self._listeners = (*self._listeners, listener)
        for pdp in self._telling:
            pdp.subscribe(listener)  # type: ignore[attr-defined]

    def watch(self, pdp: PDP, decision: Decision) -> None:
        """Look at the revision of an answer; tell the listeners if another one decided before."""
        revision = decision.revision
        if revision is None or id(pdp) not in self._watched or not pure_part(pdp):
            return
        with self._lock:
            known, self._revisions[id(pdp)] = self._revisions.get(id(pdp)), revision
        if known is not None and known != revision:
            self.tell(PartSwapped(known, revision))

    def tell(self, event: PartSwapped) -> None:
        """
        Tell every listener.

        Raises:
            Exception: What the first of them raised, once all are told.
        """
        failed = _failed(self._listeners, event)
        if failed:
            raise failed[0]


def _failed(listeners: Sequence[Callable[[Any], None]], event: PartSwapped) -> list[Exception]:
    failed = []
    for listener in listeners:
        try:
            listener(event)
        except Exception as error:  # noqa: BLE001  the others have to know as well
            failed.append(error)
    return failed
