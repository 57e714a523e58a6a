"""
Revocation by name: what `invalidate` takes, and the floors it raises.

Imports the model and the registries only.
"""

from __future__ import annotations

from typing import Any

from pep.errors import ConfigurationError, ExtractionError
from pep.model import Action
from pep.registry import Registries, Registry

Floor = tuple[str, ...]


def floor_of(registries: Registries, subject: Any, resource: Any, action: Any) -> Floor:  # noqa: ANN401  values, objects or types
    """
    Name the floor that covers what is to be invalidated; given several, the first covers them all.

    Args:
        registries: How objects become subjects and resources.

        subject: A `Subject`, a registered object, or a subject type.

        resource: A `Resource`, a registered object, or a resource type.

        action: An `Action` or its name.

    Raises:
        ConfigurationError: When nothing is named, or something cannot be.
    """
    try:
        if subject is not None:
            return _entity("subject", subject, registries.subjects)
        if resource is not None:
            return _entity("resource", resource, registries.resources)
        if action is not None:
            return "action", (action if type(action) is Action else Action(action)).name
    except ExtractionError as error:
        message = f"cannot invalidate: {error}"
        raise ConfigurationError(message) from None
    message = "`invalidate` needs a subject, a resource or an action; `invalidate_all()` drops everything"
    raise ConfigurationError(message)


def _entity(part: str, value: object, registry: Registry[Any]) -> Floor:
    if type(value) is str and value:
        return part, value
    entity = registry.convert(value)
    return (part, entity.type) if entity.id is None else (part, entity.type, entity.id)
