"""
What Casbin is asked: an access request as the tuple that a model's request definition names.

Imports L0 only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import attrs

from pep.errors import ConfigurationError, PDPReplyError
from pep.frozen import fields_repr
from pep.model import AccessRequest, Action, Resource, Subject

#: The parts of an access request.
PARTS: Final = frozenset(
    {
        *("subject.type", "subject.id", "subject.properties", "action.name", "action.properties"),
        *("resource.type", "resource.id", "resource.properties", "context", "actors", "tenant"),
    }
)

#: What is left out unless it is asked for.
DROPPED: Final = frozenset({"subject.properties", "action.properties", "resource.properties", "context"})

#: What is never left out: who asks for what, on whose behalf, in whose world.
KEPT: Final = frozenset({"subject.id", "action.name", "actors", "tenant"})

# Whatever means something in a pattern of Casbin, or in a line of a policy file.
_SPECIAL: Final = re.compile(r"[%/:*?\[\](){}|^$+\\,\"#\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SPECIAL_IN_ACTIONS: Final = re.compile(r"[%*?\[\](){}|^$+\\,\"#\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Attributes:
    """
    Properties as a matcher reads them: ``r.sub.properties.age``.

    A property that is not there is an error, and none of Python's own attributes is in its way.
    """

    __slots__ = ("_told",)

    def __init__(self, told: Mapping[str, Any]) -> None:
        self._told = told

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  a JSON value
        try:
            return _viewed(self._told[name])
        except KeyError:
            raise AttributeError(name) from None

    def __contains__(self, name: object) -> bool:
        return name in self._told

    def __eq__(self, other: object) -> bool:
        return self._told == other._told if type(other) is Attributes else NotImplemented

    __hash__ = None  # type: ignore[assignment]


Values: TypeAlias = "Sequence[str] | Callable[[AccessRequest], Sequence[Any]]"


def text_of(kind: str, name: str) -> str:
    """
    Write a type and an id as one text, ``user/alice``.

    What means something in a pattern is percent-encoded in both, so that no two entities have one text, a text is
    no pattern, and none is the name of a role, as long as names of roles have no slash.
    """
    return f"{encoded(kind)}/{encoded(name)}"


def encoded(text: str) -> str:
    """Percent-encode what means something in a pattern."""
    return _SPECIAL.sub(_escaped, text)


@attrs.frozen(init=False, repr=False)
class RequestMapping:
    """
    How an access request becomes what ``enforce`` takes.

    Args:
        values: Names of what stands where, or a function of an access request.

        reads: What a function reads; of names it is known.

        drops: What is left out though it is there; all else that is there and not read is refused.

        new: What stands for the id of a resource that has none.

    Raises:
        ConfigurationError: On an unknown name, and where something is neither read nor dropped.
    """

    names: tuple[str, ...] | None
    make: Callable[[AccessRequest], Sequence[Any]] | None
    #: What may come with a request, and is neither read nor dropped.
    refused: tuple[str, ...]
    new: str

    __repr__ = fields_repr

    def __init__(self, values: Values, *, reads: Collection[str], drops: Collection[str], new: str) -> None:
        names = None if callable(values) else _names(values)
        left_out = _parts(drops, "drops")
        if left_out & KEPT:
            message = f"`{min(left_out & KEPT)}` is never dropped; map it, or refuse the requests that have it"
            raise ConfigurationError(message)
        if names is not None and reads:
            message = "`reads` is for a function; of names it is known what they read"
            raise ConfigurationError(message)
        read = _parts(reads, "reads") if names is None else frozenset().union(*[_ENTRIES[name][0] for name in names])
        missing = PARTS - read - left_out
        if lost := missing - {*DROPPED, "actors", "tenant"}:
            message = f"`{min(lost)}` does not reach Casbin; map it, or name it in `drops` where it may be dropped"
            raise ConfigurationError(message)
        if type(new) is not str or not new:
            message = "`new` must be exactly a `str`, and not empty"
            raise ConfigurationError(message)
        make = values if callable(values) else None
        self.__attrs_init__(names, make, tuple(sorted(missing)), new)  # pyright: ignore[reportAttributeAccessIssue]

    def values(self, request: AccessRequest, roles: Collection[str]) -> tuple[Any, ...]:
        """
        Return what is asked.

        Raises:
            PDPReplyError: When the request has a part that would be lost, an id that means something else to
                Casbin, or a function answers with no sequence.
        """
        for part in self.refused:
            if _present(request, part):
                message = f"the request has `{part}`, which does not reach Casbin; map it, or name it in `drops`"
                raise PDPReplyError(message)
        if request.resource.id == self.new:
            message = "a resource has the id that stands for those without one; set `new` to another text"
            raise PDPReplyError(message)
        if self.make is not None:
            return _made(self.make(request))
        return tuple(self._named(request, roles))

    def _named(self, request: AccessRequest, roles: Collection[str]) -> Iterator[Any]:
        for name in self.names or ():
            for member in _RAW.get(name, ()):
                _check_raw(request, name, member, roles)
            yield _ENTRIES[name][1](request, self.new)


def _check_raw(request: AccessRequest, name: str, member: str, roles: Collection[str]) -> None:
    """Check a text that Casbin gets as it is, and may take for another."""
    part = name.partition(".")[0]
    text = getattr(getattr(request, part), member)
    if text is not None and _CONTROL.search(text):
        # To a regular expression of Python, `42` and a line break is `42`.
        message = f"the {member} of the {part} has a control character, which patterns overlook; map `{part}`"
        raise PDPReplyError(message)
    # INVARIANT: what a role is called is nobody's id.
    if member == "id" and text in roles:
        message = f"`{part}.id` is the name of a role; map `{part}`, which tells them apart"
        raise PDPReplyError(message)


def _subject_text(subject: Subject) -> str:
    return text_of(subject.type, subject.id)


def _resource_id(resource: Resource, new: str) -> str:
    return new if resource.id is None else resource.id


def _entity(told: Subject | Resource | Action) -> Attributes:
    names = ("name",) if type(told) is Action else ("type", "id")
    return Attributes({**{name: getattr(told, name) for name in names}, "properties": told.properties})


def _action_text(action: Action) -> str:
    return _SPECIAL_IN_ACTIONS.sub(_escaped, action.name)


def _of(kind: str, *names: str) -> frozenset[str]:
    return frozenset(f"{kind}.{name}" for name in names)


_Read: TypeAlias = "Callable[[AccessRequest, str], Any]"

# What may be asked for → which parts that reads, and how.
_ENTRIES: Final[Mapping[str, tuple[frozenset[str], _Read]]] = {
    "subject": (_of("subject", "type", "id"), lambda asked, _: _subject_text(asked.subject)),
    "subject.type": (_of("subject", "type"), lambda asked, _: asked.subject.type),
    "subject.id": (_of("subject", "id"), lambda asked, _: asked.subject.id),
    "subject.properties": (_of("subject", "properties"), lambda asked, _: Attributes(asked.subject.properties)),
    "subject.entity": (_of("subject", "type", "id", "properties"), lambda asked, _: _entity(asked.subject)),
    "resource": (
        _of("resource", "type", "id"),
        lambda asked, new: text_of(asked.resource.type, _resource_id(asked.resource, new)),
    ),
    "resource.type": (_of("resource", "type"), lambda asked, _: asked.resource.type),
    "resource.id": (_of("resource", "id"), lambda asked, new: _resource_id(asked.resource, new)),
    "resource.properties": (_of("resource", "properties"), lambda asked, _: Attributes(asked.resource.properties)),
    "resource.entity": (
        _of("resource", "type", "id", "properties"),
        lambda asked, new: _entity(asked.resource) if asked.resource.id else _entity(_named(asked.resource, new)),
    ),
    "action": (_of("action", "name"), lambda asked, _: _action_text(asked.action)),
    "action.name": (_of("action", "name"), lambda asked, _: asked.action.name),
    "action.properties": (_of("action", "properties"), lambda asked, _: Attributes(asked.action.properties)),
    "action.entity": (_of("action", "name", "properties"), lambda asked, _: _entity(asked.action)),
    "context": (frozenset({"context"}), lambda asked, _: Attributes(asked.context)),
    "actors": (frozenset({"actors"}), lambda asked, _: tuple(map(_subject_text, asked.actors))),
    "tenant": (frozenset({"tenant"}), lambda asked, _: encoded(asked.tenant or "")),
}

# What is handed over as it is.
_RAW: Final[Mapping[str, tuple[str, ...]]] = {
    **{f"{part}.{member}": (member,) for part in ("subject", "resource") for member in ("type", "id")},
    **{f"{part}.entity": ("type", "id") for part in ("subject", "resource")},
    **{f"action.{member}": ("name",) for member in ("name", "entity")},
}


def _named(resource: Resource, new: str) -> Resource:
    return Resource(resource.type, new, resource.properties)


def _present(request: AccessRequest, part: str) -> bool:
    found: Any = request
    for name in part.split("."):
        found = getattr(found, name)
    return found is not None if part == "tenant" else bool(found)


def _made(values: object) -> tuple[Any, ...]:
    if (type(values) is not tuple and type(values) is not list) or any(
        type(value).__name__ == "EnforceContext" for value in values
    ):
        message = f"a mapping answers with a list or tuple of what `enforce` takes, not `{type(values).__name__}`"
        raise PDPReplyError(message)
    return tuple(values)


def _names(values: object) -> tuple[str, ...]:
    found = tuple(values) if isinstance(values, (list, tuple)) else ()
    wrong = [name for name in found if type(name) is not str or name not in _ENTRIES]
    if not found or wrong:
        shown = f"`{wrong[0]}`" if wrong else f"`{type(values).__name__}`"
        message = f"{shown} is no part of a request; a mapping is a list of: {', '.join(sorted(_ENTRIES))}"
        raise ConfigurationError(message)
    return found


def _parts(given: object, what: str) -> frozenset[str]:
    if isinstance(given, str) or not isinstance(given, Collection):
        message = f"`{what}` is a collection of parts of a request, not `{type(given).__name__}`"
        raise ConfigurationError(message)
    unknown = sorted(str(name) for name in given if name not in PARTS)
    if unknown:
        message = f"`{unknown[0]}` in `{what}` is no part of a request; those are: {', '.join(sorted(PARTS))}"
        raise ConfigurationError(message)
    return frozenset(given)


def _escaped(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode())


def _viewed(value: object) -> object:
    if isinstance(value, Mapping):
        return Attributes(value)
    return tuple(map(_viewed, value)) if type(value) is tuple else value
