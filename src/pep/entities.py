"""
Subjects, resources and actions: the parts of an access request.

Frozen values in the words of AuthZEN and XACML. Imports frozen values and the error tree only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from pep.errors import ExtractionError
from pep.frozen import EMPTY, FrozenDict, canonical, exact_text, freeze_mapping, thaw


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
        told = json_object(value, "a subject")
        return cls(required_member(told, "type"), required_member(told, "id"), optional_member(told, "properties"))


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
    #: What tells it apart from others of its type: its id where that is all there is of it, else the whole value.
    face: bytes | str

    def __init__(self, type: str, id: str, properties: Mapping[str, Any] = EMPTY) -> None:  # noqa: A002  AuthZEN's names
        kind, name = exact_text(type, what="a resource's type"), exact_text(id, what="a resource's id")
        frozen = freeze_mapping(properties, what="a resource's properties")
        key = canonical((kind, name, frozen))
        self.__attrs_init__(kind, name, frozen, key, key if frozen else name)  # pyright: ignore[reportAttributeAccessIssue]

    @classmethod
    def new(cls, type: str, properties: Mapping[str, Any] = EMPTY) -> Resource:  # noqa: A002  AuthZEN's names
        """Return a resource that is about to be created, and has no id yet."""
        kind = exact_text(type, what="a resource's type")
        frozen = freeze_mapping(properties, what="a resource's properties")
        made = cls.__new__(cls)
        key = canonical((kind, None, frozen))
        made.__attrs_init__(kind, None, frozen, key, key)  # pyright: ignore[reportAttributeAccessIssue]
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
        told = json_object(value, "a resource")
        kind, properties = required_member(told, "type"), optional_member(told, "properties")
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
        told = json_object(value, "an action")
        return cls(required_member(told, "name"), optional_member(told, "properties"))


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


def json_object(value: object, what: str) -> Mapping[str, Any]:
    """Take a JSON object."""
    if not isinstance(value, Mapping):
        message = f"{what} must be a JSON object, not `{type(value).__name__}`"
        raise ExtractionError(message)
    return value


def required_member(value: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401  whoever takes it checks it
    """Return a member that AuthZEN requires."""
    if name not in value:
        message = f"`{name}` is missing; AuthZEN requires it"
        raise ExtractionError(message)
    return value[name]


def optional_member(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a member that may be absent or null."""
    found: Mapping[str, Any] | None = value.get(name)
    return EMPTY if found is None else found


#: Somebody who did not say who they are; explicit, never a fallback.
ANONYMOUS: Final = Subject("anonymous", "anonymous")
