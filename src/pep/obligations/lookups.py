"""
Lookups: where in a call an obligation finds a value, such as ``subject.department`` or ``arguments.amount``.

Imports L0 and the protocols only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from pep.frozen import FrozenDict, fields_repr, freeze
from pep.model import AccessRequest, Obligation
from pep.obligations.properties import Properties
from pep.protocols import Call

#: What a lookup must be, for messages.
FORM: Final = "a path into the call, such as `subject.department`, `context.nonce` or `arguments.amount`"

# Whole parts -> what they are; an id without its type would name several.
_WHOLE: Final[Mapping[str, Callable[[AccessRequest], Any]]] = {
    "subject": lambda request: (request.subject.type, request.subject.id),
    "resource": lambda request: (request.resource.type, request.resource.id),
    "action": lambda request: request.action.name,
    "tenant": lambda request: request.tenant,
}
# What is no property, though it is written like one.
_FIELDS: Final = {"subject": ("type", "id"), "resource": ("type", "id"), "action": ("name",)}
_HOLDERS: Final = ("subject", "resource", "action", "context", "arguments")


@attrs.frozen(repr=False)
class Lookup:
    """
    Where in a call a value is.

    Args:
        text: The path: ``subject``, ``resource``, ``action`` or ``tenant`` for itself; ``subject.<property>``,
            ``resource.<property>``, ``action.<property>``, ``context.<name>`` or ``arguments.<parameter>`` and,
            with further dots, what is inside of that.
    """

    text: str
    names: tuple[str, ...] = attrs.field(init=False)

    __repr__ = fields_repr

    def __attrs_post_init__(self) -> None:
        names = tuple(self.text.split("."))
        root, inner = names[0], names[1:]
        if root not in (_HOLDERS if inner else _WHOLE) or not all(name and name[0] != "_" for name in inner):
            message = f"`{self.text}` is no {FORM}"
            raise ValueError(message)
        object.__setattr__(self, "names", names)

    def read(self, call: Call) -> Any:  # noqa: ANN401  any JSON-like value
        """
        Return the value, frozen.

        Raises:
            LookupError: When there is none.

            ExtractionError: When it is an argument, and no JSON-like value.
        """
        root, *inner = self.names
        if not inner:
            return _WHOLE[root](call.request)
        if root == "arguments":
            return freeze(_argument(call.arguments, inner))
        if root == "context":
            return _inside(call.request.context, inner)
        part = getattr(call.request, root)
        if inner[0] in _FIELDS[root] and len(inner) == 1:
            return getattr(part, inner[0])
        return _inside(part.properties, inner)


def value_at(lookup: Lookup, call: Call, obligation: Obligation, name: str) -> Any:  # noqa: ANN401  any JSON-like value
    """
    Return what a property's path leads to.

    Raises:
        ObligationError: When it leads nowhere, or to no JSON-like value; names the property and the path.
    """
    try:
        return lookup.read(call)
    except Exception:  # noqa: BLE001  an argument's own attributes may raise anything, and quote it
        nowhere = f"leads nowhere in this call: there is no JSON-like value at `{lookup.text}`"
        raise Properties(obligation).error(name, nowhere) from None


def quantity(properties: Properties, name: str) -> int | Lookup:
    """
    Read how much a call costs: a whole number from 1 on, or the path to one; 1 where it is not given.

    Raises:
        ObligationError: On anything else.
    """
    value = properties.value(name, 1)
    if type(value) is int and value >= 1:
        return value
    if type(value) is str:
        return properties.parsed(name, Lookup, f"a whole number from 1 on, or {FORM}")
    raise properties.error(name, f"must be a whole number from 1 on, or {FORM}")


def cost_of(cost: int | Lookup, call: Call, obligation: Obligation) -> int:
    """
    Return what this very call costs.

    Raises:
        ObligationError: When the path leads to anything but an exact ``int`` from 1 on.
    """
    if type(cost) is int:
        return cost
    found: object = value_at(cost, call, obligation, "cost")  # type: ignore[arg-type]
    if type(found) is not int or found < 1:
        malformed = Properties(obligation).error("cost", "must lead to a whole number from 1 on")
        raise malformed
    return found


def _inside(properties: FrozenDict, names: list[str]) -> Any:  # noqa: ANN401  any JSON-like value
    found: Any = properties
    for name in names:
        if type(found) is not FrozenDict:
            raise LookupError(name)
        found = found[name]
    return found


def _argument(arguments: Mapping[str, Any], names: list[str]) -> Any:  # noqa: ANN401  any value
    found: Any = arguments
    for name in names:
        found = found[name] if isinstance(found, Mapping) else getattr(found, name)
    return found
