"""
Binding: what an approval is bound to, and what the obligation that demands it says.

Imports digests, approvers, the approvals' values and the properties of obligations only.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import attrs
import orjson

from pep.approvals.approvers import condition, pared
from pep.approvals.values import Approval, Point
from pep.canonical import digest
from pep.errors import ConfigurationError, ExtractionError, ObligationError
from pep.extract import RECEIVERS
from pep.frozen import FrozenDict, canonical, freeze, freeze_mapping
from pep.model import AccessRequest, Obligation
from pep.obligations.properties import Properties
from pep.policy.text import to_text

#: An obligation and the request whose decision demands it.
Due = Sequence[tuple[Obligation, AccessRequest]]

#: The most approvers an obligation may ask for.
MOST_APPROVERS: Final = 32

#: The longest time an approval may be given and used in, in seconds.
LONGEST: Final = 30 * 24 * 3600.0

#: How many bytes of JSON approvers may be shown.
MOST_SHOWN: Final = 16 * 1024

# Module -> what is shown as its text: its type is known, and its text is all of it.
_AS_TEXT: Final = {"decimal": ("Decimal",), "uuid": ("UUID",), "datetime": ("date", "datetime", "time", "timedelta")}


@attrs.frozen
class Terms:
    """What an obligation says about who has to approve, and what they are told."""

    who: str | None
    approvers: int
    four_eyes: bool
    expires_in: float
    show: tuple[str, ...]
    message: str | None


def terms_of(properties: Properties, expires_in: float) -> Terms:
    """
    Read the properties of an obligation.

    Args:
        properties: The properties.

        expires_in: For how long, where it does not say, in seconds.

    Raises:
        ObligationError: When one is malformed.
    """
    return Terms(
        who=properties.parsed("who", _canonical_text, "a condition on the approver", None),
        approvers=properties.integer("approvers", 1, minimum=1, maximum=MOST_APPROVERS),
        four_eyes=properties.flag("four_eyes", True),  # noqa: FBT003  a default
        expires_in=float(properties.seconds("expires_in", expires_in, minimum=1, maximum=LONGEST)),
        show=properties.texts("show", ()),
        message=properties.text("message", "") or None,
    )


@attrs.frozen
class Over:
    """Which parameters are confirmed, by qualified action, where not all can be; and which circumstances."""

    parameters: Mapping[str, tuple[str, ...]]
    circumstances: tuple[str, ...]

    @classmethod
    def of(cls, parameters: Mapping[str, Collection[str]], circumstances: Collection[str]) -> Over:
        """
        Check what a user names.

        Raises:
            ConfigurationError: When it is anything but names.
        """
        given: object = parameters
        if not isinstance(given, Mapping) or not all(type(name) is str for name in given):
            message = "`confirm_over` takes a mapping: qualified action → names of parameters"
            raise ConfigurationError(message)
        named = {action: _names(names, "confirm_over") for action, names in parameters.items()}
        return cls(named, _names(circumstances, "confirm_context"))

    def chosen(self, due: Due, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """
        Return the arguments that are confirmed: all but receivers, unless every action names its own.

        Raises:
            ObligationError: When one that is named is no argument of the call.
        """
        actions = {request.qualified_action for _, request in due}
        if not actions <= self.parameters.keys():
            return {name: value for name, value in arguments.items() if name not in RECEIVERS}
        return picked(arguments, sorted({name for action in actions for name in self.parameters[action]}))


def arguments_digest(due: Due, arguments: Mapping[str, Any], over: Over) -> str:
    """
    Digest the arguments that are confirmed.

    Raises:
        ObligationError: When one has no canonical form, naming the parameter.
    """
    try:
        return digest(over.chosen(due, arguments))
    except ExtractionError as error:
        message = f"{error}; name the parameters that are confirmed in `confirm_over=`"
        raise ObligationError(message) from error


def drafted(  # noqa: PLR0917  each is a value of its own
    due: Due, terms: Sequence[Terms], arguments: Mapping[str, Any], over: Over, predicate: str | None, now: float
) -> Approval:
    """
    Make the approval that a call needs.

    Args:
        due: Every obligation that demands it, with its request.

        terms: What each of them says.

        arguments: The bound, effective arguments.

        over: Which of them are confirmed.

        predicate: The name of the Python predicate on approvers.

        now: The store's time, in seconds since 1970.

    Raises:
        ObligationError: When the arguments cannot be digested or shown.
    """
    points = tuple(
        Point(pared(request, said.who), said.who, said.approvers, said.four_eyes, predicate)
        for (_, request), said in zip(due, terms, strict=True)
    )
    told = arguments_digest(due, arguments, over)
    bound = [
        (*_identity(request, over), point.request.key, point.who, point.approvers, point.four_eyes, predicate)
        for (_, request), point in zip(due, points, strict=True)
    ]
    return Approval(
        id=secrets.token_hex(16),
        key=digest({"arguments": told, "bound": bound}),
        points=points,
        digest=told,
        created=now,
        changed=now,
        expires=now + min(said.expires_in for said in terms),
        shown=_shown(terms, arguments),
        message=next((said.message for said in terms if said.message is not None), None),
    )


def picked(arguments: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """
    Return some of the arguments.

    Raises:
        ObligationError: Naming the first that is none.
    """
    for name in names:
        if name not in arguments:
            message = f"`{name}` is no parameter of the call that has to be confirmed"
            raise ObligationError(message)
    return {name: arguments[name] for name in names}


def _identity(request: AccessRequest, over: Over) -> tuple[Any, ...]:
    """Return what is bound of a request beside what conditions look at: the action whole, and a new resource."""
    context = {name: request.context[name] for name in over.circumstances if name in request.context}
    new = request.resource.key if request.resource.id is None else b""
    return request.action.key, new, canonical(freeze_mapping(context, what="the context"))


def _shown(terms: Sequence[Terms], arguments: Mapping[str, Any]) -> FrozenDict:
    names = sorted({name for said in terms for name in said.show})
    shown = freeze_mapping({name: _told(name, value) for name, value in picked(arguments, names).items()}, what="")
    if len(orjson.dumps(shown)) > MOST_SHOWN:
        message = f"what approvers are shown has more than {MOST_SHOWN} bytes; show less in `show`"
        raise ObligationError(message)
    return shown


def _told(name: str, value: object) -> Any:  # noqa: ANN401  a JSON value
    if type(value).__name__ in _AS_TEXT.get(type(value).__module__, ()):
        return str(value)
    try:
        frozen = freeze(value)
        canonical(frozen)
    except ExtractionError:
        message = f"argument `{name}` cannot be shown to approvers: it is no JSON value; show others in `show`"
        raise ObligationError(message) from None
    return frozen


def _canonical_text(text: str) -> str:
    return to_text(condition(text))


def _names(value: object, what: str) -> tuple[str, ...]:
    if isinstance(value, (list, tuple, set, frozenset)) and all(type(name) is str and name for name in value):
        return tuple(sorted(value))
    message = f"`{what}` takes names in a list"
    raise ConfigurationError(message)
