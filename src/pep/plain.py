"""
Plain calls: requirements made of values instead of signatures.

Imports extraction and the model only.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from pep.errors import ExtractionError
from pep.extract import Arguments, Constant, Registries, Requirement, Source
from pep.model import AccessRequest, Action, Resource, application
from pep.plan import Plan
from pep.scope import Frame


class Whole(Enum):
    """The application itself, where no resource was named; an explicit None is a fault."""

    APPLICATION = "application"


#: Stands for the application as the resource.
APPLICATION: Final = Whole.APPLICATION


class Broken:
    """A source that has nothing to give: the value handed over could not be part of a request."""

    __slots__ = ("error",)

    type: str | None = None
    parameters: tuple[str, ...] = ()
    asynchronous: bool = False

    def __init__(self, error: ExtractionError) -> None:
        self.error = error

    def read(self, _arguments: Arguments, _frame: Frame) -> Plan[Any]:
        """Raise what was wrong."""
        yield from ()
        raise self.error


def need(
    name: str, action: object, resource: object, *, subject: object = None, context: Mapping[str, Any] | None = None
) -> Requirement:
    """
    Make the requirement of a plain call; whatever is wrong with a value becomes a fault of the call.

    Args:
        name: The application's name.

        action: A `str` or `Action`.

        resource: A `Resource`, a registered object, a list of them, `APPLICATION`, or why there is none.

        subject: A `Subject` or registered object; None is who acts.

        context: Circumstance → JSON-like value.
    """
    source: Source = _source(application(name) if resource is APPLICATION else resource)
    try:
        act = action if type(action) is Action else Action(action)  # type: ignore[arg-type]
    except ExtractionError as error:
        act, source = Action("?"), Broken(error)
    return Requirement(
        act,
        source,
        None if subject is None else Constant(subject),
        None if context is None else Constant(context),
        application_level=resource is APPLICATION,
    )


def _source(value: object) -> Source:
    if isinstance(value, ExtractionError):
        return Broken(value)
    return Constant(value, value.type if type(value) is Resource else None)


class Prepared:
    """A requirement that is a whole access request already; who acts here plays no part in it."""

    __slots__ = ("request",)

    application_level: bool = False

    def __init__(self, request: AccessRequest) -> None:
        self.request = request

    @property
    def action(self) -> Action:
        """What is done."""
        return self.request.action

    @property
    def subject(self) -> Constant:
        """Who acts."""
        return Constant(self.request.subject)

    @property
    def resource(self) -> Constant:
        """What is acted upon."""
        return Constant(self.request.resource, self.request.resource.type)

    @property
    def qualified_action(self) -> str:
        """The action's name with the resource's type."""
        return self.request.qualified_action

    def requests(self, _arguments: Arguments, _frame: Frame, _registries: Registries) -> Plan[list[AccessRequest]]:
        """Return the request, and one for each of its actors."""
        yield from ()
        actors = [self.request.evolve(subject=actor, actors=()) for actor in self.request.actors]
        return [self.request, *actors]
