"""
Extraction: from an intercepted call to access requests.

A *requirement* is what one guard demands, taken from its sources. Imports L0, sources and the
registries only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from pep.asynchronous import is_asynchronous
from pep.errors import ExtractionError
from pep.frozen import freeze_mapping
from pep.model import AccessRequest, Action, Resource, Subject
from pep.plan import Plan, Raised
from pep.registry import Registries, Registry
from pep.scope import Frame, Scope, within
from pep.sources import (
    PLAIN,
    RECEIVERS,
    Arguments,
    Constant,
    Guarded,
    ResourceId,
    Source,
    context_source,
    identifier,
    marked_source,
    resource_source,
    subject_source,
)

if TYPE_CHECKING:
    from pep.sources import Computed

__all__ = [
    "RECEIVERS",
    "Arguments",
    "Constant",
    "Guarded",
    "Registries",
    "Requirement",
    "ResourceId",
    "Source",
    "context_source",
    "identifier",
    "is_asynchronous",
    "marked_source",
    "resource_source",
    "subject_source",
]


#: Stands for what was not given.
NOT_GIVEN: Final = object()

_NOBODY: Final = Scope(None)


@attrs.frozen(eq=False, repr=False)
class Requirement:
    """
    What one guard demands: an action on resources, for a subject, in a context.

    Args:
        action: What is done.

        resource: Where the resource comes from, or several that are decided together.

        subject: Where the subject comes from; None is who acts.

        context: Where the context comes from.

        application_level: Whether no resource was named at all.
    """

    action: Action
    resource: Source
    subject: Source | None = None
    context: Source | None = None
    application_level: bool = False

    @property
    def sources(self) -> tuple[Source, ...]:
        """Every source it has."""
        return tuple(source for source in (self.resource, self.subject, self.context) if source is not None)

    @property
    def qualified_action(self) -> str:
        """The action's name with the resource's type, as far as that is known before the call."""
        name = self.action.name
        return name if ":" in name else f"{self.resource.type or '?'}:{name}"

    def requests(
        self, arguments: Arguments, frame: Frame, registries: Registries, given: object = NOT_GIVEN
    ) -> Plan[list[AccessRequest]]:
        """
        Turn a call into access requests: one per resource, for the subject and for every actor.

        Args:
            arguments: The bound arguments, name → value.

            frame: The frame that extractors run in.

            registries: How objects become subjects and resources.

            given: What the resource's callable returned, or `Raised`, where it was called already.

        Raises:
            Exception: Whatever a source raised; `ExtractionError` when something is missing.
        """
        scope = frame.scope if frame.scope.is_open else _NOBODY
        who = scope.subject if self.subject is None else (yield from self.subject.read(arguments, frame))
        if given is NOT_GIVEN:
            found = yield from self.resource.read(arguments, frame)
        elif type(given) in PLAIN:
            found = given
        else:
            found = yield from _computed(self.resource, given, frame)
        context = scope.context
        if self.context is not None:
            own = yield from self.context.read(arguments, frame)
            context = freeze_mapping({**context, **freeze_mapping(own, what="the context")}, what="the context")
        if type(who) is Subject and type(found) is Resource and not scope.actors:
            return [AccessRequest(who, self.action, found, context, (), scope.tenant)]
        with within(frame):
            subject = _acting(who, registries.subjects)
            resources = _resources(found, registries.resources)
            actors = [registries.subjects.convert(actor) for actor in scope.actors]
        asked = [AccessRequest(subject, self.action, one, context, actors, scope.tenant) for one in resources]
        return asked + [request.evolve(subject=actor, actors=()) for actor in actors for request in asked]


def _computed(source: Source, given: object, frame: Frame) -> Plan[Any]:
    """Take what a callable returned or raised, as it does itself."""
    if type(given) is Raised:
        raise given.error
    return (yield from cast("Computed", source).settled(given, frame))


def _acting(who: object, registry: Registry[Subject]) -> Subject:
    if who is None:
        message = "nobody acts here; call it in `with pep.acting_as(subject)`"
        raise ExtractionError(message)
    return registry.convert(who)


def _resources(found: object, registry: Registry[Resource]) -> list[Resource]:
    if type(found) is Resource:
        return [found]
    if isinstance(found, Iterator):
        message = "resources that can be read only once are refused; return a list"
        raise ExtractionError(message)
    if type(found) is not list and type(found) is not tuple:
        return [registry.convert(found)]
    if not found:
        message = "there is no resource to decide about"
        raise ExtractionError(message)
    return [registry.convert(one) for one in found]
