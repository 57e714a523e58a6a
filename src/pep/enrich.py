"""
Enrichment: attributes that a call does not carry, from providers (policy information points).

What a provider provides is never taken from the call. Imports plans, protocols and the model only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import attrs
import cachetools

from pep.cache import Generations
from pep.errors import AttributeProviderError, ConfigurationError
from pep.frozen import FrozenDict, canonical, freeze, frozen_items
from pep.locks import Lock
from pep.model import AccessRequest, Action, Resource, Subject
from pep.plan import Plan, Raised, attempt, contain, gather
from pep.protocols import AttributeProvider, Clock

_PARTS: Final = ("subject", "resource", "action", "context")
_ENTRIES: Final = 10_000

# What an answer belongs to: the request as the provider was shown it, and the names it was asked for.
_Key = tuple[bytes, frozenset[str]]


@attrs.define(eq=False, repr=False)
class _Source:
    """One provider, with what it declared taken once."""

    provider: AttributeProvider
    names: frozenset[str]
    types: frozenset[str] | None
    #: Answers that may be reused, and the epoch before each; None where the provider declared no ttl.
    answers: cachetools.TTLCache[_Key, tuple[Mapping[str, Any], int]] | None
    lock: Lock = attrs.field(factory=Lock)

    def applicable(self, request: AccessRequest, *, rows: bool = False) -> frozenset[str]:
        """Return the names it provides for this request; of rows, only those that are not the resource's."""
        types, names = self.types, self.names
        if rows:
            names = frozenset(name for name in names if _part(name) != "resource")
        if types is None:
            return names
        both = {request.subject.type, request.resource.type}
        kinds = {"subject": {request.subject.type}, "resource": {request.resource.type}}
        return frozenset(name for name in names if kinds.get(_part(name), both) & types)

    def of_actor(self, actor: Subject) -> frozenset[str]:
        """Return the names it would provide for an actor, were that the subject."""
        applies = self.types is None or actor.type in self.types
        return frozenset(name for name in self.names if applies and _part(name) == "subject")


class Providers:
    """
    The attribute providers of an enforcer.

    Raises:
        ConfigurationError: When one is no provider, a name is malformed, or two provide one name
            for the same type.
    """

    def __init__(self, providers: Iterable[AttributeProvider] = (), *, clock: Clock) -> None:
        self._clock = clock
        self._sources: list[_Source] = []
        for provider in providers:
            self._sources.append(self._source(provider))

    def __bool__(self) -> bool:
        return bool(self._sources)

    def __iter__(self) -> Iterator[AttributeProvider]:
        return iter([source.provider for source in self._sources])

    def names(self, request: AccessRequest) -> tuple[str, ...]:
        """Name what is provided for a request, and so is no claim of the caller's; sorted."""
        return tuple(sorted(frozenset().union(*(source.applicable(request) for source in self._sources))))

    def enrich(
        self,
        request: AccessRequest,
        deadline: float | None,
        generations: Generations | None = None,
        *,
        rows: bool = False,
    ) -> Plan[AccessRequest]:
        """
        Replace what the call claimed by what the providers know.

        Args:
            request: The request as extracted.

            deadline: When an answer is too late, on the monotonic clock, in seconds.

            generations: What was revoked: an answer had before that is asked for again. Without it none is reused.

            rows: Whether it stands for every resource of its type: what a resource is, its row then tells.

        Returns:
            The request with every provided name set, or absent where its provider did not answer it.

        Raises:
            AttributeProviderError: When a provider failed, was late, or answered a name it does not declare.
        """
        due = [(source, names) for source in self._sources if (names := source.applicable(request, rows=rows))]
        bare = _without(request, frozenset().union(*(names for _, names in due)), self._of_actors(request))
        if not due:
            return bare
        asked = [self._ask(source, names, bare, deadline, generations) for source, names in due]
        replies = (yield from gather(*asked, deadline=deadline)) if due[1:] else [(yield from contain(asked[0]))]
        found: dict[str, Any] = {}
        for (source, _), reply in zip(due, replies, strict=True):
            if type(reply) is Raised:
                raise _failed(source, reply.error)
            found.update(reply.value)
        return _with(bare, found)

    def _of_actors(self, request: AccessRequest) -> tuple[frozenset[str], ...]:
        return tuple(
            frozenset().union(*(source.of_actor(actor) for source in self._sources)) for actor in request.actors
        )

    def _ask(
        self,
        source: _Source,
        names: frozenset[str],
        request: AccessRequest,
        deadline: float | None,
        generations: Generations | None,
    ) -> Plan[Mapping[str, Any]]:
        known = self._known(source, names, request, generations)
        if known is not None:
            return known
        epoch = None if generations is None else generations.epoch
        reply = yield from attempt(source.provider.provide, request, deadline=deadline)
        if type(reply) is Raised:
            raise _failed(source, reply.error)
        answer = _checked(type(source.provider).__name__, source.names, names, reply.value)
        if source.answers is not None and epoch is not None:
            with source.lock:
                source.answers[request.key, names] = answer, epoch
        return answer

    def _known(
        self, source: _Source, names: frozenset[str], request: AccessRequest, generations: Generations | None
    ) -> Mapping[str, Any] | None:
        if source.answers is None or generations is None:
            return None
        with source.lock:
            found = source.answers.get((request.key, names))
        return found[0] if found is not None and generations.holds(request, found[1]) else None

    def _source(self, provider: AttributeProvider) -> _Source:
        name = type(provider).__name__
        if isinstance(provider, type) or not isinstance(provider, AttributeProvider):
            message = f"`{name}` is no attribute provider; it needs `provides`, `types` and `provide(request)`"
            raise ConfigurationError(message)
        names, types = _declared(name, provider)
        for other in self._sources:
            both = other.names & names
            if types is not None and other.types is not None and not types & other.types:
                # One may be asked for the subject's type and the other for the resource's.
                both = frozenset(shared for shared in both if _part(shared) in {"action", "context"})
            if both:
                message = f"`{type(other.provider).__name__}` and `{name}` both provide `{min(both)}`; keep one"
                raise ConfigurationError(message)
        ttl = getattr(provider, "ttl", None)
        if ttl is not None and (type(ttl) not in {int, float} or not ttl >= 0):
            message = f"`{name}.ttl` must be a number of seconds, zero or more, or None"
            raise ConfigurationError(message)
        return _Source(
            provider, names, types, cachetools.TTLCache(_ENTRIES, ttl, self._clock.boottime) if ttl else None
        )


def _part(name: str) -> str:
    return name.partition(".")[0]


def _failed(source: _Source, error: Exception) -> AttributeProviderError:
    if isinstance(error, AttributeProviderError) and error.args:
        return error
    failure = AttributeProviderError(f"attribute provider `{type(source.provider).__name__}` failed")
    failure.__cause__ = error
    return failure


def _declared(name: str, provider: AttributeProvider) -> tuple[frozenset[str], frozenset[str] | None]:
    names = _set_of_names(f"{name}.provides", provider.provides)
    for declared in names:
        part, _, rest = declared.partition(".")
        if part not in _PARTS or not rest:
            message = f"`{name}` provides `{declared}`; write `subject.roles`, `resource.owner` or `context.risk`"
            raise ConfigurationError(message)
    if not names:
        message = f"`{name}` provides nothing; name what it provides, such as `subject.roles`"
        raise ConfigurationError(message)
    types = None if provider.types is None else _set_of_names(f"{name}.types", provider.types)
    if types is not None and not types:
        message = f"`{name}.types` is empty; use None for every type"
        raise ConfigurationError(message)
    return names, types


def _set_of_names(what: str, value: object) -> frozenset[str]:
    if not isinstance(value, Collection) or isinstance(value, (str, bytes)):
        message = f"`{what}` must be a set of names, not `{type(value).__name__}`"
        raise ConfigurationError(message)
    names = tuple(value)
    for name in names:
        if type(name) is not str:
            message = f"`{what}` must hold `str` only, not `{type(name).__name__}`"
            raise ConfigurationError(message)
    return frozenset(names)


def _checked(name: str, declared: frozenset[str], wanted: frozenset[str], answer: object) -> Mapping[str, Any]:
    if not isinstance(answer, Mapping):
        message = f"attribute provider `{name}` must answer a mapping, not `{type(answer).__name__}`"
        raise AttributeProviderError(message)
    try:
        # As deep as the properties they become part of.
        found = {key: freeze(value, 1) for key, value in answer.items() if key in wanted}
        canonical(frozen_items(found))
        undeclared = [key for key in answer if key not in declared]
    except Exception as error:
        message = f"attribute provider `{name}` answered what is no attribute value"
        raise AttributeProviderError(message) from error
    if undeclared:
        message = f"attribute provider `{name}` answered a name it does not declare; add it to `provides`"
        raise AttributeProviderError(message)
    return found


def _without(request: AccessRequest, names: frozenset[str], of_actors: tuple[frozenset[str], ...]) -> AccessRequest:
    actors = [
        Subject(actor.type, actor.id, _dropped(actor.properties, "subject", theirs))
        for actor, theirs in zip(request.actors, of_actors, strict=True)
    ]
    bare = {part: _dropped(_properties(request, part), part, names) for part in _PARTS}
    return _rebuilt(request.evolve(actors=actors), bare)


def _with(request: AccessRequest, found: Mapping[str, Any]) -> AccessRequest:
    merged = {part: dict(_properties(request, part)) for part in _PARTS}
    for name, value in found.items():
        part, _, rest = name.partition(".")
        merged[part][rest] = value
    return _rebuilt(request, {part: frozen_items(values) for part, values in merged.items()})


def _properties(request: AccessRequest, part: str) -> FrozenDict:
    found: FrozenDict = request.context if part == "context" else getattr(request, part).properties
    return found


def _dropped(values: FrozenDict, part: str, names: frozenset[str]) -> FrozenDict:
    if not any(name.startswith(part) for name in names):
        return values
    return frozen_items({name: value for name, value in values.items() if f"{part}.{name}" not in names})


def _rebuilt(request: AccessRequest, values: Mapping[str, FrozenDict]) -> AccessRequest:
    subject, resource = request.subject, request.resource
    if resource.id is None:
        made = Resource.new(resource.type, values["resource"])
    else:
        made = Resource(resource.type, resource.id, values["resource"])
    return request.evolve(
        subject=Subject(subject.type, subject.id, values["subject"]),
        action=Action(request.action.name, values["action"]),
        resource=made,
        context=values["context"],
    )
