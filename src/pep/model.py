"""
The model: who asks to do what to what; what was answered lies beside it, in `pep.decision`.

Frozen values in the words of AuthZEN and XACML. Imports frozen values, decisions and the error tree only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

import attrs

from pep.decision import Decision, Effect, Obligation
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
]

#: How many bytes an access request may have, as canonical JSON.
MAX_REQUEST: Final = 64 * 1024

_NOWHERE: Final = canonical((EMPTY, None))

T = TypeVar("T")


@attrs.frozen(init=False, eq=False, repr=False, getstate_setstate=False)
class Subject:
    """
    Who acts.

    Args:
        type: What kind of subject, such as ``"user"``.

        id: Which one; opaque, never folded or trimmed.

        properties: Attribute name → JSON-like value; frozen on construction.

    Raises:
        ExtractionError: On an empty or inexact type or id, or a property that cannot be frozen.

    Source:
        AuthZEN Authorization API 1.0.
    """

    type: str
    id: str
    properties: FrozenDict
    #: Canonical bytes of the whole value; equal exactly when the values are.
    key: bytes

    def __init__(self, type: str, id: str, properties: Mapping[str, Any] = EMPTY) -> None:  # noqa: A002  AuthZEN's names
        kind, name = exact_text(type, what="a subject's type"), exact_text(id, what="a subject's id")
        frozen = freeze_mapping(properties, what="a subject's properties")
        self.__attrs_init__(kind, name, frozen, canonical((kind, name, frozen)))  # pyright: ignore[reportAttributeAccessIssue]

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if type(other) is Subject else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"Subject({self.type!r}, {self.id!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Subject, (self.type, self.id, self.properties)

    def reference(self) -> Subject:
        """Return the same subject without properties, as for a task queue."""
        return Subject(self.type, self.id)

    def to_dict(self) -> dict[str, Any]:
        """Return AuthZEN JSON: ``type``, ``id`` and, where there are any, ``properties``."""
        return _entity(self.type, self.id, self.properties)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Subject:
        """
        Read AuthZEN JSON; unknown members are ignored.

        Raises:
            ExtractionError: When a required member is missing or of the wrong type.
        """
        told = _object(value, "a subject")
        return cls(_required(told, "type"), _required(told, "id"), _optional(told, "properties"))


@attrs.frozen(init=False, eq=False, repr=False, getstate_setstate=False)
class Resource:
    """
    What is acted upon.

    Args:
        type: What kind of resource, such as ``"document"``.

        id: Which one; opaque, never folded or trimmed.

        properties: Attribute name → JSON-like value; frozen on construction.

    Raises:
        ExtractionError: On an empty or inexact type or id, or a property that cannot be frozen.

    Source:
        AuthZEN Authorization API 1.0.
    """

    type: str
    #: None exactly when the resource is new and has no id yet.
    id: str | None
    properties: FrozenDict
    #: Canonical bytes of the whole value; equal exactly when the values are.
    key: bytes

    def __init__(self, type: str, id: str, properties: Mapping[str, Any] = EMPTY) -> None:  # noqa: A002  AuthZEN's names
        kind, name = exact_text(type, what="a resource's type"), exact_text(id, what="a resource's id")
        frozen = freeze_mapping(properties, what="a resource's properties")
        self.__attrs_init__(kind, name, frozen, canonical((kind, name, frozen)))  # pyright: ignore[reportAttributeAccessIssue]

    @classmethod
    def new(cls, type: str, properties: Mapping[str, Any] = EMPTY) -> Resource:  # noqa: A002  AuthZEN's names
        """Return a resource that is about to be created, and has no id yet."""
        kind = exact_text(type, what="a resource's type")
        frozen = freeze_mapping(properties, what="a resource's properties")
        made = cls.__new__(cls)
        made.__attrs_init__(kind, None, frozen, canonical((kind, None, frozen)))  # pyright: ignore[reportAttributeAccessIssue]
        return made

    @property
    def is_new(self) -> bool:
        """Whether the resource has no id yet."""
        return self.id is None

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if type(other) is Resource else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"Resource.new({self.type!r})" if self.id is None else f"Resource({self.type!r}, {self.id!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.id is None:
            return Resource.new, (self.type, self.properties)
        return Resource, (self.type, self.id, self.properties)

    def to_dict(self) -> dict[str, Any]:
        """Return AuthZEN JSON; a new resource has no ``id``."""
        return _entity(self.type, self.id, self.properties)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Resource:
        """
        Read AuthZEN JSON; unknown members are ignored, a missing ``id`` is a new resource.

        Raises:
            ExtractionError: When a required member is missing or of the wrong type.
        """
        told = _object(value, "a resource")
        kind, properties = _required(told, "type"), _optional(told, "properties")
        return cls(kind, told["id"], properties) if "id" in told else cls.new(kind, properties)


@attrs.frozen(init=False, eq=False, repr=False, getstate_setstate=False)
class Action:
    """
    What is done; a plain ``str`` is accepted wherever an action is.

    Args:
        name: Which action, such as ``"read"`` or ``"payment:refund"``.

        properties: Attribute name → JSON-like value; frozen on construction.

    Raises:
        ExtractionError: On an empty or inexact name, or a property that cannot be frozen.

    Source:
        AuthZEN Authorization API 1.0.
    """

    name: str
    properties: FrozenDict
    #: Canonical bytes of the whole value; equal exactly when the values are.
    key: bytes

    def __init__(self, name: str, properties: Mapping[str, Any] = EMPTY) -> None:
        text = exact_text(name, what="an action's name")
        if "*" in text:
            message = "an action's name may not contain `*`, which is for patterns"
            raise ExtractionError(message)
        frozen = freeze_mapping(properties, what="an action's properties")
        self.__attrs_init__(text, frozen, canonical((text, frozen)))  # pyright: ignore[reportAttributeAccessIssue]

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if type(other) is Action else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"Action({self.name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Action, (self.name, self.properties)

    def to_dict(self) -> dict[str, Any]:
        """Return AuthZEN JSON: ``name`` and, where there are any, ``properties``."""
        return {"name": self.name, **({"properties": thaw(self.properties)} if self.properties else {})}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Action:
        """
        Read AuthZEN JSON; unknown members are ignored.

        Raises:
            ExtractionError: When a required member is missing or of the wrong type.
        """
        told = _object(value, "an action")
        return cls(_required(told, "name"), _optional(told, "properties"))


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
    #: Canonical bytes of the whole request; equal exactly when the requests are.
    key: bytes

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
        # Each part is closed JSON, so the newlines between them cannot be forged.
        around = canonical((circumstances, world)) if circumstances or world else _NOWHERE
        key = b"\n".join((who.key, act.key, what.key, around, *[agent.key for agent in agents]))
        if len(key) > MAX_REQUEST:
            message = f"an access request may have at most {MAX_REQUEST} bytes; send references instead of content"
            raise ExtractionError(message)
        self.__attrs_init__(who, act, what, circumstances, agents, world, key)  # pyright: ignore[reportAttributeAccessIssue]

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
        told = _object(value, "an access request")
        actors = told.get("actors")
        if actors is not None and type(actors) not in {list, tuple}:
            message = f"`actors` must be a list of subjects, not `{type(actors).__name__}`"
            raise ExtractionError(message)
        return cls(
            Subject.from_dict(_required(told, "subject")),
            Action.from_dict(_required(told, "action")),
            Resource.from_dict(_required(told, "resource")),
            _optional(told, "context"),
            [Subject.from_dict(actor) for actor in actors or ()],
            told.get("tenant"),
        )


def application(name: str) -> Resource:
    """Return the resource that stands for the whole application."""
    return Resource("application", name)


def _entity(kind: str, name: str | None, properties: FrozenDict) -> dict[str, Any]:
    told: dict[str, Any] = {"type": kind}
    if name is not None:
        told["id"] = name
    if properties:
        told["properties"] = thaw(properties)
    return told


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


def _object(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        message = f"{what} must be a JSON object, not `{type(value).__name__}`"
        raise ExtractionError(message)
    return value


def _required(value: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401  whoever takes it checks it
    if name not in value:
        message = f"`{name}` is missing; AuthZEN requires it"
        raise ExtractionError(message)
    return value[name]


def _optional(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] | None = value.get(name)
    return EMPTY if found is None else found


#: Somebody who did not say who they are; explicit, never a fallback.
ANONYMOUS: Final = Subject("anonymous", "anonymous")
