"""
The model: who asks to do what to what; what was answered lies beside it, in `pep.decision`.

Frozen values in the words of AuthZEN and XACML. Imports frozen values, entities, decisions and the error tree only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

import attrs

from pep.decision import Decision, Effect, Obligation
from pep.entities import (
    ANONYMOUS,
    Action,
    Resource,
    Subject,
    application,
    json_object,
    optional_member,
    required_member,
)
from pep.errors import ExtractionError
from pep.frozen import EMPTY, FrozenDict, canonical, exact_text, freeze_mapping, thaw

__all__ = [
    "ANONYMOUS",
    "MAX_REQUEST",
    "AccessRequest",
    "Action",
    "Decision",
    "Effect",
    "Obligation",
    "Resource",
    "Subject",
    "application",
    "who_key",
]

#: How many bytes an access request may have, as canonical JSON.
MAX_REQUEST: Final = 64 * 1024

T = TypeVar("T")


@attrs.frozen(init=False, eq=False, repr=False, getstate_setstate=False)
class AccessRequest:
    """
    Who asks to do what to what, in which circumstances.

    Args:
        subject: Who acts.

        action: What is done; a ``str`` is its name.

        resource: What is acted upon.

        context: Circumstance → JSON-like value.

        actors: Those acting for the subject, outermost first.

        tenant: Whose world it is, if there are several.

    Raises:
        ExtractionError: When a part is of the wrong type, or all together exceed `MAX_REQUEST` bytes.

    Source:
        AuthZEN Authorization API 1.0; RFC 8693 (actors).
    """

    subject: Subject
    action: Action
    resource: Resource
    context: FrozenDict
    actors: tuple[Subject, ...]
    tenant: str | None
    #: Canonical bytes of who asks in which circumstances: all but the action and the resource.
    who: bytes

    def __init__(  # noqa: PLR0917  these are the six parts of a request
        self,
        subject: Subject,
        action: Action | str,
        resource: Resource,
        context: Mapping[str, Any] = EMPTY,
        actors: Iterable[Subject] = (),
        tenant: str | None = None,
    ) -> None:
        who, what = _exactly(Subject, subject, "subject"), _exactly(Resource, resource, "resource")
        act = action if type(action) is Action else Action(action)  # type: ignore[arg-type]
        circumstances = freeze_mapping(context, what="the context")
        agents = _actors(actors)
        world = tenant if tenant is None else exact_text(tenant, what="the tenant")
        asking = who_key(who, circumstances, world, agents)
        _check_size(asking, act.key, what.key)
        self.__attrs_init__(who, act, what, circumstances, agents, world, asking)  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def key(self) -> bytes:
        """Canonical bytes of the whole request; equal exactly when the requests are."""
        return b"\n".join((self.who, self.action.key, self.resource.key))

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if type(other) is AccessRequest else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"AccessRequest({self.subject!r}, {self.action!r}, {self.resource!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return AccessRequest, (self.subject, self.action, self.resource, self.context, self.actors, self.tenant)

    def evolve(self, **changes: Any) -> AccessRequest:  # noqa: ANN401  the constructor checks them
        """Return a request with some parts replaced; the rest as they are."""
        names = ("subject", "action", "resource", "context", "actors", "tenant")
        return AccessRequest(**{name: getattr(self, name) for name in names} | changes)

    def about(self, resource: Resource) -> AccessRequest:
        """
        Return the same request about another resource.

        Raises:
            ExtractionError: When it is none, or all together exceed `MAX_REQUEST` bytes.
        """
        what = _exactly(Resource, resource, "resource")
        _check_size(self.who, self.action.key, what.key)
        made = AccessRequest.__new__(AccessRequest)
        made.__attrs_init__(self.subject, self.action, what, self.context, self.actors, self.tenant, self.who)  # pyright: ignore[reportAttributeAccessIssue]
        return made

    @property
    def qualified_action(self) -> str:
        """The action's name, with the resource's type before it where it has no colon of its own."""
        name = self.action.name
        return name if ":" in name else f"{self.resource.type}:{name}"

    def to_dict(self) -> dict[str, Any]:
        """Return AuthZEN JSON, with ``actors`` and ``tenant`` beside it where there are any."""
        told: dict[str, Any] = {
            "subject": self.subject.to_dict(),
            "action": self.action.to_dict(),
            "resource": self.resource.to_dict(),
        }
        if self.context:
            told["context"] = thaw(self.context)
        if self.actors:
            told["actors"] = [actor.to_dict() for actor in self.actors]
        if self.tenant is not None:
            told["tenant"] = self.tenant
        return told

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> AccessRequest:
        """
        Read AuthZEN JSON; unknown members are ignored.

        Raises:
            ExtractionError: When a required member is missing or of the wrong type.
        """
        told = json_object(value, "an access request")
        actors = told.get("actors")
        if actors is not None and type(actors) not in {list, tuple}:
            message = f"`actors` must be a list of subjects, not `{type(actors).__name__}`"
            raise ExtractionError(message)
        return cls(
            Subject.from_dict(required_member(told, "subject")),
            Action.from_dict(required_member(told, "action")),
            Resource.from_dict(required_member(told, "resource")),
            optional_member(told, "context"),
            [Subject.from_dict(actor) for actor in actors or ()],
            told.get("tenant"),
        )


def who_key(subject: Subject, context: FrozenDict, tenant: str | None, actors: tuple[Subject, ...]) -> bytes:
    """Return canonical bytes of who asks in which circumstances; the subject's own key where there are none."""
    if not context and tenant is None and not actors:
        return subject.key
    # Each part is closed JSON, so the newlines between them cannot be forged.
    return b"\n".join((subject.key, canonical((context, tenant)), *[actor.key for actor in actors]))


def _check_size(who: bytes, action: bytes, what: bytes) -> None:
    if len(who) + len(action) + len(what) + 2 > MAX_REQUEST:
        message = f"an access request may have at most {MAX_REQUEST} bytes; send references instead of content"
        raise ExtractionError(message)


def _exactly(kind: type[T], value: object, what: str) -> T:
    if type(value) is not kind:
        message = f"the {what} must be a `{kind.__name__}`, not `{type(value).__name__}`"
        raise ExtractionError(message)
    return value


def _actors(value: object) -> tuple[Subject, ...]:
    if isinstance(value, str) or not isinstance(value, (list, tuple, Iterable)):
        message = f"the actors must be a list of subjects, not `{type(value).__name__}`"
        raise ExtractionError(message)
    return tuple([_exactly(Subject, actor, "actor") for actor in value])
