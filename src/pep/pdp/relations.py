"""
What every relationship engine is asked: a relation, and in which circumstances a condition or caveat is judged.

Such an engine is asked for a triple: subject, relation, resource. Whatever else an access request says goes into
the one flat mapping that its conditions (caveats) read, under names that are stated, or the request is refused.
Imports the model, the frozen values and the error tree only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pep.errors import ConfigurationError, PDPReplyError
from pep.frozen import thaw
from pep.model import AccessRequest

#: The parts of a request that a condition may read, and under which parameter, unless told otherwise.
#: Tenant and actors have none: a model that never looks at them would ignore them.
PARAMETERS: Final = {"subject": "subject", "action": "action", "resource": "resource"}

_PARTS: Final = ("subject", "action", "resource", "actors", "tenant")
_PARAMETER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}", re.ASCII)

# Both engines hold a number of a context as a double.
_EXACT: Final = range(-(2**53), 2**53 + 1)


class Asking:
    """
    How an access request becomes a relation and a context.

    Args:
        relations: Action's name, or ``type:name``, → relation or permission; an action that is not in it is its own
            relation.

        parameters: Part → parameter of the conditions that it is sent as, beside `PARAMETERS`. The parts are
            ``"subject"``, ``"action"`` and ``"resource"`` (their properties), ``"actors"`` and ``"tenant"``.

        new: The id that stands for a resource that has none yet; None refuses those.

        relation: What the engine takes for a relation.

    Raises:
        ConfigurationError: On a part that there is not, a name the engine cannot say, or a parameter named twice.
    """

    def __init__(
        self, relations: Mapping[str, str], parameters: Mapping[str, str], new: str | None, relation: re.Pattern[str]
    ) -> None:
        self._relation = relation
        self.relations = {action: self._named(name) for action, name in _items(relations, "relations")}
        self.parameters = _parameters(parameters)
        self._taken = frozenset(self.parameters.values())
        self.new = new

    def relation(self, request: AccessRequest) -> str:
        """
        Return the relation that an action asks for.

        Raises:
            PDPReplyError: When the engine cannot say it.
        """
        name = request.action.name
        found = self.relations.get(request.qualified_action) or self.relations.get(name, name)
        if self._relation.fullmatch(found) is None:
            message = "the action is no relation of the engine's; name one for it in `relations`"
            raise PDPReplyError(message)
        return found

    def id(self, request: AccessRequest) -> str:
        """
        Return the id of the resource, or what stands for that of a new one.

        Raises:
            PDPReplyError: When it is new and nothing stands for that; when it is not, and has that very id.
        """
        known = request.resource.id
        if known is None and self.new is None:
            message = "a resource that has no id yet cannot be asked about; name what stands for it with `new`"
            raise PDPReplyError(message)
        if known == self.new:
            message = "the resource has the id that stands for a new one; choose another `new`"
            raise PDPReplyError(message)
        return known or self.new  # type: ignore[return-value]

    def context(
        self, request: AccessRequest, *, without: str = "", leaving: frozenset[str] = frozenset()
    ) -> dict[str, Any]:
        """
        Return what the conditions may read.

        Args:
            request: The access request.

            without: ``"subject"``, ``"resource"`` or ``"action"``: the part that is searched for.

            leaving: What has been sent elsewhere: ``context.<name>``, ``subject.<name>`` and so on.

        Raises:
            PDPReplyError: When a part has no parameter, when the context claims one, or on an integer that would
                arrive as another.
        """
        found = _left(thaw(request.context), "context", leaving)
        if not self._taken.isdisjoint(found):
            message = "the context holds a name that a part of the request is sent as; rename it, or see `parameters`"
            raise PDPReplyError(message)
        for part, value in self._parts(request, leaving):
            if part == without or not value:
                continue
            if part not in self.parameters:
                message = f"the {part} would be lost on the engine; name the parameter it is sent as in `parameters`"
                raise PDPReplyError(message)
            found[self.parameters[part]] = value
        _check_numbers(found)
        return found

    def _parts(self, request: AccessRequest, leaving: frozenset[str]) -> Iterator[tuple[str, Any]]:
        for part in ("subject", "action", "resource"):
            yield part, _left(thaw(getattr(request, part).properties), part, leaving)
        yield "actors", [actor.to_dict() for actor in request.actors]
        yield "tenant", request.tenant

    def _named(self, name: object) -> str:
        if type(name) is not str or self._relation.fullmatch(name) is None:
            message = f"`{name}` is no relation of the engine's; see its grammar"
            raise ConfigurationError(message)
        return name


def sayable(text: str, allowed: re.Pattern[str], longest: int, what: str) -> str:
    """
    Return a type or an id as it is, where it means nothing else to the engine.

    Args:
        text: The type or id.

        allowed: What the engine takes for one; all of the text has to match.

        longest: How many bytes it may have.

        what: What to call it.

    Raises:
        PDPReplyError: When it does not; it is never changed into one that does.
    """
    if allowed.fullmatch(text) is None or not text.isprintable() or len(text.encode()) > longest:
        message = f"the {what} cannot be told to the engine: its grammar or its length forbids it; map it to one it can"
        raise PDPReplyError(message)
    return text


def positive(batch: object) -> int:
    """
    Return how many checks one request may hold.

    Raises:
        ConfigurationError: Unless it is a whole number, one or more.
    """
    if type(batch) is not int or batch < 1:
        message = "`batch` must be a whole number, one or more"
        raise ConfigurationError(message)
    return batch


def _left(properties: dict[str, Any], part: str, leaving: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in properties.items() if f"{part}.{name}" not in leaving}


def _items(value: object, what: str) -> list[tuple[str, object]]:
    if not isinstance(value, Mapping) or not all(type(name) is str and name for name in value):
        message = f"`{what}` must be a mapping of names"
        raise ConfigurationError(message)
    return list(value.items())


def _parameters(given: object) -> dict[str, str]:
    found: dict[str, str] = dict(PARAMETERS)
    for part, name in _items(given, "parameters"):
        if part not in _PARTS:
            message = f"`{part}` is no part of a request that can be sent; there are `{'`, `'.join(_PARTS)}`"
            raise ConfigurationError(message)
        if type(name) is not str or _PARAMETER.fullmatch(name) is None:
            message = f"`{name}` cannot be a parameter; it must be an identifier"
            raise ConfigurationError(message)
        found[part] = name
    if len(set(found.values())) < len(found):
        message = "two parts of a request cannot be sent as one parameter"
        raise ConfigurationError(message)
    return found


def _check_numbers(value: object) -> None:
    if type(value) is dict:
        for item in value.values():
            _check_numbers(item)
    elif type(value) is list:
        for item in value:
            _check_numbers(item)
    elif type(value) is int and value not in _EXACT:
        message = "an integer beyond 53 bits would reach the engine as another; send it as text"
        raise PDPReplyError(message)
