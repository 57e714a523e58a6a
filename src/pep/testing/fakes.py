"""
Attribute providers, obligation handlers and observers that do as they are told, and remember it.

Imports the protocols and the model only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from pep.audit.record import Record
from pep.model import AccessRequest, Obligation
from pep.protocols import Call, Phase, Rank, Refusal


class FakeProvider:
    """
    An attribute provider with fixed values.

    Args:
        values: Name → value, such as ``{"subject.roles": ["editor"]}``.

        types: The subject or resource types it is asked for; None is all of them.

        raises: What it raises instead.

        answers: What it answers instead; anything at all.

        ttl: For how many seconds its answers may be reused.

    Attributes:
        asked: Every request it was asked about, in order.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        *,
        types: Collection[str] | None = None,
        raises: BaseException | None = None,
        answers: object = None,
        ttl: float | None = None,
    ) -> None:
        self.provides: Collection[str] = frozenset(values)
        self.types = types
        self.ttl = ttl
        self._answer = dict(values) if answers is None else answers
        self._raises = raises
        self.asked: list[AccessRequest] = []

    def provide(self, request: AccessRequest) -> Any:  # noqa: ANN401  anything at all
        """Return the values, or fail."""
        self.asked.append(request)
        if self._raises is not None:
            raise self._raises
        return self._answer


class FakeHandler:
    """
    An obligation handler that does as it is told.

    Args:
        types: The obligation types it understands.

        phase: When it acts.

        rank: Where it stands in the order of its phase; the usual place unless given.

        does: Makes the call it returns out of the one it was given; returns it unchanged unless given.

        refuses: The refusal it answers instead.

        raises: What it raises instead.

    Attributes:
        discharged: Every obligation it discharged, in order, with the call it saw.
    """

    def __init__(
        self,
        *types: str,
        phase: Phase = Phase.BEFORE,
        rank: Rank | None = None,
        does: Callable[[Call], Any] | None = None,
        refuses: Refusal | None = None,
        raises: BaseException | None = None,
    ) -> None:
        self.types: Collection[str] = frozenset(types)
        self.phase = phase
        if rank is not None:
            self.rank = rank
        self._does, self._refuses, self._raises = does, refuses, raises
        self.discharged: list[tuple[Obligation, Call]] = []

    def discharge(self, obligation: Obligation, call: Call) -> Any:  # noqa: ANN401  anything at all
        """Discharge one obligation, refuse, or fail."""
        if self._raises is not None:
            raise self._raises
        if self._refuses is not None:
            return self._refuses
        self.discharged.append((obligation, call))
        return call if self._does is None else self._does(call)


class FakeObserver:
    """
    An observer that remembers.

    Args:
        raises: What it raises after it has seen a record.

    Attributes:
        seen: Every record it was shown, in order: those that the sink acknowledged.
    """

    def __init__(self, *, raises: BaseException | None = None) -> None:
        self._raises = raises
        self.seen: list[Record] = []

    def observe(self, record: Record) -> None:
        """See one record."""
        self.seen.append(record)
        if self._raises is not None:
            raise self._raises
