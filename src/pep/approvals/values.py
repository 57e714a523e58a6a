"""
What an approval is: what it is bound to, who has to give it, who did, and until when.

Frozen values, written as JSON. Imports the model and the frozen values only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final

import attrs
import orjson

from pep.frozen import EMPTY, FrozenDict, fields_repr, freeze_mapping, thaw
from pep.model import AccessRequest, Subject

#: By how many seconds a clock may be set back before what it dates counts as expired.
TOLERANCE: Final = 60.0


class Status(Enum):
    """How far an approval came; expired is whatever is past its time."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    USED = "used"


@attrs.frozen(repr=False)
class Point:
    """
    One thing that has to be approved, and by whom.

    Args:
        request: Who asks for what; without properties, but for those that `who` looks at.

        who: The condition on an approver, as text; None is anybody who is authenticated.

        approvers: How many different ones.

        four_eyes: Whether the requester and their actors are no approvers.

        predicate: The name of the Python predicate that an approver must satisfy too.
    """

    request: AccessRequest
    who: str | None = None
    approvers: int = 1
    four_eyes: bool = True
    predicate: str | None = None

    __repr__ = fields_repr

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        told = {"who": self.who, "approvers": self.approvers, "four_eyes": self.four_eyes}
        return {"request": self.request.to_dict(), "predicate": self.predicate, **told}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Point:
        """Read what `to_dict` wrote."""
        return cls(**{**told, "request": AccessRequest.from_dict(told["request"])})


def _without_credentials(self: object) -> str:
    return f"{type(self).__name__}(...)"


@attrs.frozen(repr=False)
class Approve:
    """
    Somebody approves.

    Args:
        by: Their credentials: what `authenticate` of whoever asks takes.

        comment: What they say to it.
    """

    by: Any
    comment: str | None = None

    __repr__ = _without_credentials


@attrs.frozen(repr=False)
class Reject:
    """
    Somebody rejects.

    Args:
        by: Their credentials: what `authenticate` of whoever asks takes.

        comment: What they say to it.
    """

    by: Any
    comment: str | None = None

    __repr__ = _without_credentials


@attrs.frozen(repr=False)
class Answer:
    """
    What an authenticated approver said.

    Args:
        names: Who it was: the name that is recorded, and then others the same person goes by.

        at: When, in seconds since 1970 by the store's clock.

        points: For which points, counted from 0.

        comment: What they said to it.
    """

    names: tuple[Subject, ...]
    at: float
    points: tuple[int, ...] = ()
    comment: str | None = None

    __repr__ = fields_repr

    @property
    def approver(self) -> Subject:
        """The name that is recorded."""
        return self.names[0]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        told = {"at": self.at, "points": list(self.points), "comment": self.comment}
        return {"names": [name.to_dict() for name in self.names], **told}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Answer:
        """Read what `to_dict` wrote."""
        names = tuple([Subject.from_dict(name) for name in told["names"]])
        return cls(names, told["at"], tuple(told["points"]), told["comment"])


@attrs.frozen(repr=False)
class Approval:
    """
    A request that somebody has to approve.

    Attributes:
        id: Its name: random, and no proof of anything.

        version: How often it was changed.

        key: SHA-256 of everything it is bound to; identical requests have the same.

        points: What has to be approved, and by whom.

        digest: SHA-256 of the bound, effective arguments.

        created: When it was asked for, in seconds since 1970 by the store's clock; likewise the next two.

        changed: When it was changed last.

        expires: When it is worth nothing any more.

        status: How far it came.

        shown: What approvers are shown of the arguments, name → JSON value.

        message: What approvers are told.

        answers: Who approved.

        rejection: Who rejected it.

        used: The id of the decision it was used for.
    """

    id: str
    key: str
    points: tuple[Point, ...]
    digest: str
    created: float
    changed: float
    expires: float
    version: int = 0
    status: Status = Status.PENDING
    shown: FrozenDict = EMPTY
    message: str | None = None
    answers: tuple[Answer, ...] = ()
    rejection: Answer | None = None
    used: str | None = None

    __repr__ = fields_repr

    @property
    def request(self) -> AccessRequest:
        """The first request it is about."""
        return self.points[0].request

    @property
    def requesters(self) -> frozenset[Subject]:
        """Everybody who asks for it, or acts for who does."""
        asking = (point.request for point in self.points)
        return frozenset(one.reference() for request in asking for one in (request.subject, *request.actors))

    @property
    def lacking(self) -> tuple[int, ...]:
        """How many approvers each point lacks."""
        had = [sum(at in answer.points for answer in self.answers) for at in range(len(self.points))]
        return tuple([max(0, point.approvers - count) for point, count in zip(self.points, had, strict=True)])

    def lives(self, now: float) -> bool:
        """Tell whether it is in force: not past its time, nor changed in the future of a clock that was set back."""
        return self.changed - TOLERANCE <= now < self.expires

    def approved_by(self, answer: Answer) -> Approval:
        """Return it with one more approver; approved once no point lacks any."""
        more = self._next(answer.at, answers=(*self.answers, answer))
        return more if any(more.lacking) else attrs.evolve(more, status=Status.APPROVED)

    def rejected_by(self, answer: Answer) -> Approval:
        """Return it rejected."""
        return self._next(answer.at, status=Status.REJECTED, rejection=answer)

    def used_for(self, decision: str, now: float) -> Approval:
        """Return it used, for good."""
        return self._next(now, status=Status.USED, used=decision)

    def _next(self, now: float, **changes: Any) -> Approval:  # noqa: ANN401  attributes of its own
        return attrs.evolve(self, version=self.version + 1, changed=max(self.changed, now), **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "status": self.status.value,
            "points": [point.to_dict() for point in self.points],
            "shown": thaw(self.shown),
            "answers": [answer.to_dict() for answer in self.answers],
            "rejection": None if self.rejection is None else self.rejection.to_dict(),
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Approval:
        """Read what `to_dict` wrote."""
        rejection = told["rejection"]
        return cls(
            **{name: told[name] for name in _PLAIN},
            status=Status(told["status"]),
            points=_each(Point.from_dict, told["points"]),
            shown=freeze_mapping(told["shown"], what="what is shown"),
            answers=_each(Answer.from_dict, told["answers"]),
            rejection=None if rejection is None else Answer.from_dict(rejection),
        )

    def to_json(self) -> bytes:
        """Return it as JSON, every field in it."""
        return orjson.dumps(self.to_dict(), option=orjson.OPT_SORT_KEYS)


_PLAIN: Final = ("id", "version", "key", "digest", "created", "changed", "expires", "message", "used")


def _each(read: Any, told: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:  # noqa: ANN401  any reader of one value
    return tuple([read(one) for one in told])
