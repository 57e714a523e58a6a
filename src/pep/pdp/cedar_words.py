"""
How the words of an access request are said in Cedar: types, ids, values. Imports L0 only.

What cannot be said in Cedar is an error here, never left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, TypeAlias

import attrs

from pep.errors import ConfigurationError, PDPReplyError
from pep.frozen import EMPTY

#: A Cedar entity: its type and its id.
UID: TypeAlias = "tuple[str, str]"

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:::[A-Za-z_][A-Za-z0-9_]*)*", re.ASCII)
_RESERVED: Final = frozenset({"true", "false", "if", "then", "else", "in", "is", "like", "has", "__cedar"})
# What Cedar's JSON reads as something else than a record.
_ESCAPES: Final = frozenset({"__entity", "__extn", "__expr"})
# A Cedar decimal has four digits behind the point, and 64 bits.
_PLACES: Final = -4
_DECIMALS: Final = Decimal(2**63) / 10**4
# How long a name may be that a message shows.
_SHOWN: Final = 64


@attrs.frozen
class Words:
    """
    What is called how; see `CedarPDP`.

    Raises:
        ConfigurationError: When two types would become one, or a name is none in Cedar.
    """

    namespace: str | None = None
    types: Mapping[str, str] = EMPTY
    action_type: str = "Action"
    parents: Mapping[str, str] = EMPTY
    references: Mapping[str, str] = EMPTY
    placeholder: str = "<new>"
    envelope: str = "pep"
    decimals: bool = False
    nulls: str = "refuse"
    _targets: frozenset[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        for option in ("types", "parents", "references"):
            object.__setattr__(self, option, _names(option, getattr(self, option)))
        if self.nulls not in {"refuse", "absent"} or type(self.decimals) is not bool:
            message = "`nulls` is `refuse` or `absent`, and `decimals` a bool"
            raise ConfigurationError(message)
        for option in ("placeholder", "envelope"):
            if type(getattr(self, option)) is not str or not getattr(self, option):
                message = f"`{option}` must be a non-empty `str`"
                raise ConfigurationError(message)
        targets = frozenset(self.types.values())
        if len(targets) < len(self.types):
            message = "two types would become one Cedar type; give each in `types` a name of its own"
            raise ConfigurationError(message)
        for name in (*targets, *(() if self.namespace is None else (self.namespace,))):
            _checked(name)
        if type(self.action_type) is not str or not _is_name(self.action_type) or not _of_actions(self.action_type):
            message = f"`{self.action_type}` is no type of actions; its last part must be `Action`"
            raise ConfigurationError(message)
        object.__setattr__(self, "_targets", targets)

    def uid(self, kind: str, name: str) -> UID:
        """
        Return the entity of a type and an id.

        Raises:
            PDPReplyError: When the type is none in Cedar, or the id is that of new resources.
        """
        if name == self.placeholder:
            message = (
                f"an id equals the placeholder `{self.placeholder}` of new resources; choose another `placeholder`"
            )
            raise PDPReplyError(message)
        return self._type(kind), name

    def new(self, kind: str) -> UID:
        """Return the entity of a resource that has no id yet."""
        return self._type(kind), self.placeholder

    def action(self, name: str) -> UID:
        """Return the entity of an action."""
        return self._within(self.action_type), name

    def _type(self, kind: str) -> str:
        mapped = self.types.get(kind)
        if mapped is None:
            if kind in self._targets or not _is_name(kind) or _of_actions(kind):
                message = f"{_shown(kind, 'a type')} has no name of its own in Cedar; give it one in `types`"
                raise PDPReplyError(message)
            mapped = kind
        return self._within(mapped)

    def _within(self, name: str) -> str:
        return name if self.namespace is None else f"{self.namespace}::{name}"

    def record(self, properties: Mapping[str, Any], what: str) -> dict[str, Any]:
        """
        Return properties or a context as a Cedar record.

        Raises:
            PDPReplyError: On what Cedar has no value for; the message names the member, not what is in it.
        """
        return self._record(properties, "", what)

    def _record(self, properties: Mapping[str, Any], within: str, what: str) -> dict[str, Any]:
        for name in _ESCAPES & properties.keys():
            message = f"{what} holds a member `{name}`, which is Cedar's own; rename it"
            raise PDPReplyError(message)
        return {
            # Of what is nested only the outermost name is told: the others may be what somebody sent.
            name: self._value(value, within or _shown(name, "a member"), what)
            for name, value in properties.items()
            if value is not None or self.nulls == "refuse"
        }

    def _value(self, value: Any, name: str, what: str) -> Any:  # noqa: ANN401  whatever JSON holds
        kind = type(value)
        if kind is str or kind is bool or kind is int:
            return value
        if kind is tuple:
            return [self._value(item, name, what) for item in value]
        if isinstance(value, dict):
            return self._record(value, name, what)
        if kind is float and self.decimals:
            return _decimal(value, name, what)
        shown, mend = ("null", '`nulls="absent"`') if value is None else ("a float", "`decimals=True`, or send text")
        message = f"{name} of {what} is or holds {shown}, which Cedar does not have; leave it out, or set {mend}"
        raise PDPReplyError(message)

    def referred(self, properties: Mapping[str, Any], kinds: Mapping[str, str]) -> Iterator[tuple[str, list[UID]]]:
        """
        Yield each property that names entities, with those.

        Args:
            properties: Of a subject or resource.

            kinds: Property → type of the entities whose ids it holds: a text, or a list of texts.

        Raises:
            PDPReplyError: When it holds something else.
        """
        for name, kind in kinds.items():
            value = properties.get(name)
            ids = (value,) if type(value) is str else () if value is None else value
            if type(ids) is not tuple or not all(type(one) is str and one for one in ids):
                message = f"property `{name}` names entities of type `{kind}`: it must be an id, or a list of ids"
                raise PDPReplyError(message)
            if value is not None:
                yield name, [self.uid(kind, one) for one in ids]


def mentioned(value: Any) -> Iterator[UID]:  # noqa: ANN401  whatever JSON holds
    """Yield every entity that Cedar JSON mentions, and whatever a schema could make one."""
    if isinstance(value, dict):
        kind, name = value.get("type"), value.get("id")
        if type(kind) is str and type(name) is str:
            yield kind, name
        for item in value.values():
            yield from mentioned(item)
    elif isinstance(value, list):
        for item in value:
            yield from mentioned(item)


def reference(uid: UID) -> dict[str, str]:
    """Return an entity's type and id as JSON."""
    return {"type": uid[0], "id": uid[1]}


def _decimal(value: float, name: str, what: str) -> dict[str, Any]:
    # The shortest text that is this float is what its writer meant.
    exact = Decimal(repr(value)).normalize()
    exponent = exact.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < _PLACES or not -_DECIMALS < exact < _DECIMALS:
        message = f"{name} of {what} is or holds a float that no Cedar decimal is exactly; send text or an integer"
        raise PDPReplyError(message)
    text = f"{exact:f}"
    return {"__extn": {"fn": "decimal", "arg": text if "." in text else f"{text}.0"}}


def _shown(name: str, what: str) -> str:
    """Return a name for a message, where it is one that fits there; else only what it is a name of."""
    return f"`{name}`" if len(name) <= _SHOWN and name.isprintable() else what


def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and not _RESERVED & set(name.split("::"))


def _of_actions(name: str) -> bool:
    return name.rpartition("::")[2] == "Action"


def _checked(name: object) -> None:
    if type(name) is not str or not _is_name(name) or _of_actions(name):
        message = f"`{name}` is no name in Cedar; names are letters, digits and `_`, joined by `::`"
        raise ConfigurationError(message)


def _names(option: str, names: object) -> dict[str, str]:
    if not isinstance(names, Mapping) or not all(type(text) is str and text for pair in names.items() for text in pair):
        message = f"`{option}` must map names to types"
        raise ConfigurationError(message)
    return dict(names)
