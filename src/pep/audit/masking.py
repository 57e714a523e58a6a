"""
What of a call's values a record may tell: only what an allow-list names, as it is, hashed, or as a mark.

Types, ids and names are always told. Imports the model, the error tree and what is safe to tell only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final, TypeAlias, final

import orjson

from pep.audit.safe import Room, Teller, escaped_name, members_of, safe, unrepresentable
from pep.errors import ConfigurationError
from pep.frozen import frozen_items
from pep.model import AccessRequest, Resource, Subject

#: How many bytes a masking's secret must have at least.
MIN_SECRET: Final = 16

#: How many bytes a value may take to be hashed: as many as anything that was decided about could have, and more.
MAX_HASHED: Final = 1024 * 1024

#: A path to a value: names joined by dots, or a tuple of names where one has a dot itself.
Path: TypeAlias = str | tuple[str, ...]

#: Whose values → the paths to them.
Paths: TypeAlias = Mapping[str, list[Path] | set[Path] | frozenset[Path] | list[str] | set[str] | frozenset[str]]

_Leaf: TypeAlias = Callable[[object, Room], Any]
_Tree: TypeAlias = "dict[str, _Tree | _Leaf]"

_NOTHING: Final[Paths] = MappingProxyType({})
_REDACTED: Final = frozen_items({"$redacted": True})
# Role → how its key goes on after the role.
_ROLES: Final = MappingProxyType(
    {
        "subject": "subject:<type>",
        "resource": "resource:<type>",
        "action": "action:<type>:<name>",
        "arguments": "arguments:<type>:<name>",
        "context": "context",
    }
)
_LIST: Final = ", ".join(f"`{form}`" for form in _ROLES.values())


@final
class Masking:
    """
    What of a call's values a record tells: nothing, unless it is named here.

    Each list maps whose values they are to paths: ``"subject:<type>"`` (actors too), ``"resource:<type>"``,
    ``"action:<type>:<name>"`` for an action's own properties, ``"arguments:<type>:<name>"`` for what a call of that
    action is made with, and ``"context"``. A path is a property's, circumstance's or parameter's name, with the names
    inside it joined by dots; a tuple of names where a name has a dot itself.

    Args:
        as_is: What is told as it is.

        hashed: What is told as an HMAC: equal values of one path look alike, and show nothing else.

        redacted: What is told to have been there.

        secret: The key of the HMACs, at least 16 bytes, of this deployment alone; required by `hashed`.

    Raises:
        ConfigurationError: On a key or path of another shape, one that overlaps with another, or a missing or short
            secret.
    """

    __slots__ = ("_secret", "_trees", "shows_arguments")

    #: Whether any argument of any call is told.
    shows_arguments: bool

    def __init__(
        self,
        *,
        as_is: Paths = _NOTHING,
        hashed: Paths = _NOTHING,
        redacted: Paths = _NOTHING,
        secret: bytes | None = None,
    ) -> None:
        if secret is not None:
            _check_secret(secret)
        elif hashed:
            message = "`hashed` needs a secret, or values could be guessed; give `secret`, 16 random bytes or more"
            raise ConfigurationError(message)
        self._secret = secret
        self._trees: dict[str, _Tree] = {}
        self._plant("as_is", as_is, lambda _key, _path: safe)
        self._plant("hashed", hashed, lambda key, path: partial(self._hashed, _domain(key, path)))
        self._plant("redacted", redacted, lambda _key, _path: _redacted)
        self.shows_arguments = any(key.startswith("arguments:") for key in self._trees)

    def request(self, request: AccessRequest, room: Room | None = None) -> dict[str, Any]:
        """
        Tell an access request as the fields of a record.

        Args:
            request: The request.

            room: How much is left for values in this record.
        """
        room = room or Room()
        action = request.action
        fields: dict[str, Any] = {
            "subject": self.entity(request.subject, room),
            "action": action.name,
            "resource": self.entity(request.resource, room),
        }
        if action.properties:
            key = f"action:{request.qualified_action}"
            self._tell(fields, key, action.properties, room, ("action_properties", "action_omitted"))
        if request.context:
            self._tell(fields, "context", request.context, room, ("context", "context_omitted"))
        if request.actors:
            fields["actors"] = [self.entity(actor, room) for actor in request.actors]
        if request.tenant is not None:
            fields["tenant"] = request.tenant
        return fields

    def entity(self, value: Subject | Resource, room: Room | None = None) -> dict[str, Any]:
        """Tell a subject or resource: its type, its id, and of its properties what may be told."""
        fields: dict[str, Any] = {"type": value.type}
        if value.id is not None:
            fields["id"] = value.id
        if value.properties:
            role = "subject" if type(value) is Subject else "resource"
            names = ("properties", "omitted")
            self._tell(fields, f"{role}:{value.type}", value.properties, room or Room(), names)
        return fields

    def query(self, request: AccessRequest, room: Room | None = None) -> dict[str, Any]:
        """
        Tell an access request as the decision point was sent it, with the HMAC of all of it where there is a secret.

        Args:
            request: The request, as it was sent.

            room: How much is left for values in this record.
        """
        fields = self.request(request, room)
        action = {"name": fields["action"]}
        for name, told in (("action_properties", "properties"), ("action_omitted", "omitted")):
            if name in fields:
                action[told] = fields.pop(name)
        fields["action"] = action
        if self._secret is not None:
            fields["hmac"] = _hmac(self._secret, _domain("query", ()), request.key)
        return fields

    def arguments(
        self, action: str, resource_type: str | None, arguments: Mapping[str, object]
    ) -> Mapping[str, Any] | None:
        """
        Tell the arguments of a call, now: they may change later.

        Args:
            action: The action's name.

            resource_type: The resource's type; None where it is not known.

            arguments: Parameter → argument, as bound.

        Returns:
            Fields of the record: ``arguments`` and ``arguments_omitted``, either where there is something to tell.
            None where no list names any argument of any call.
        """
        if not self.shows_arguments:
            return None
        qualified = action if ":" in action else f"{resource_type}:{action}"
        fields: dict[str, Any] = {}
        self._tell(fields, f"arguments:{qualified}", arguments, Room(), ("arguments", "arguments_omitted"))
        return fields

    def __repr__(self) -> str:
        return f"<Masking that tells something of {', '.join(sorted(self._trees)) or 'nothing'}>"

    def _tell(
        self, fields: dict[str, Any], key: str, values: Mapping[str, object], room: Room, names: tuple[str, str]
    ) -> None:
        """Put what may be told of some values into *fields*, and the names of the rest."""
        tree = self._trees.get(key)
        if tree is None:
            fields[names[1]] = sorted(values)
            return
        shown, omitted = {}, []
        for name in sorted(values):
            told, whole = _shown(tree.get(name), values[name], room)
            if told is not None:
                shown[name] = told[0]
            if not whole:
                omitted.append(name)
        if shown:
            fields[names[0]] = shown
        if omitted:
            fields[names[1]] = omitted

    def _hashed(self, domain: bytes, value: object, _room: Room) -> Any:  # noqa: ANN401  a JSON value
        teller = Teller(MAX_HASHED)
        told = teller.tell(value)
        if teller.lossy or self._secret is None:
            return unrepresentable("not hashed")
        return frozen_items({"$hmac": _hmac(self._secret, domain, orjson.dumps(told, option=orjson.OPT_SORT_KEYS))})

    def _plant(self, name: str, paths: Paths, leaf: Callable[[str, Sequence[str]], _Leaf]) -> None:
        for key, listed in _listed(name, paths):
            _check_key(key)
            for path in _listed_paths(name, key, listed):
                steps = _steps(key, path)
                _grow(self._trees.setdefault(key, {}), key, steps, leaf(key, steps))


def _shown(node: _Tree | _Leaf | None, value: object, room: Room) -> tuple[tuple[Any] | None, bool]:
    """Tell what may be told of one value, if anything; and whether that is all of it."""
    if node is None:
        return None, False
    if not isinstance(node, dict):
        return (node(value, room),), True
    members, whole = members_of(value)
    whole = whole and members.keys() <= node.keys()
    shown = {}
    for name in sorted(members.keys() & node.keys()):
        told, all_of_it = _shown(node[name], members[name], room)
        whole = whole and all_of_it
        if told is not None:
            shown[escaped_name(name)] = told[0]
    return ((frozen_items(shown),) if shown else None), whole


def _redacted(_value: object, _room: Room) -> Any:  # noqa: ANN401  a JSON value
    return _REDACTED


def _domain(key: str, path: Sequence[str]) -> bytes:
    # Each part with its length: no two lists of names encode alike.
    parts = [part.encode() for part in ("pep.masking/1", key, *path)]
    return b"".join([b"%d:%b" % (len(part), part) for part in parts])


def _hmac(secret: bytes, domain: bytes, message: bytes) -> str:
    from hmac import digest  # noqa: PLC0415  loads OpenSSL, only where something is hashed

    return digest(secret, b"%d:%b%b" % (len(domain), domain, message), "sha256").hex()[:32]


def _grow(tree: _Tree, key: str, steps: Sequence[str], leaf: _Leaf) -> None:
    for step in steps[:-1]:
        inner = tree.setdefault(step, {})
        if not isinstance(inner, dict):
            raise _overlap(key, steps)
        tree = inner
    if steps[-1] in tree:
        raise _overlap(key, steps)
    tree[steps[-1]] = leaf


def _overlap(key: str, steps: Sequence[str]) -> ConfigurationError:
    path = ".".join(steps)
    return ConfigurationError(f"path `{path}` of `{key}` overlaps with another; name each value once, in one list")


def _listed(name: str, paths: object) -> Iterable[tuple[Any, Any]]:
    if not isinstance(paths, Mapping):
        message = (
            f"`{name}` is a `{type(paths).__name__}`; give a mapping, such as `{{'resource:document': ['owner']}}`"
        )
        raise ConfigurationError(message)
    return paths.items()


def _listed_paths(name: str, key: str, paths: object) -> Iterable[object]:
    # A tuple is a path, so it is no list of them.
    if not isinstance(paths, (list, set, frozenset)):
        message = f"`{name}` gives a `{type(paths).__name__}` for `{key}`; give a list of paths, such as `['owner']`"
        raise ConfigurationError(message)
    return paths


def _steps(key: str, path: object) -> Sequence[str]:
    steps = tuple(path.split(".")) if type(path) is str else path
    if type(steps) is not tuple or not steps or any(type(step) is not str or not step for step in steps):
        shown = f"`{path}`" if type(path) is str else f"a `{type(path).__name__}`"
        message = f"{shown} is no path for `{key}`; join names by dots, or give a tuple of names"
        raise ConfigurationError(message)
    if not all(_is_text(step) for step in steps):
        message = f"a path for `{key}` is not valid Unicode; there is a lone surrogate"
        raise ConfigurationError(message)
    return steps


def _check_key(key: object) -> None:
    role, _, rest = key.partition(":") if type(key) is str and _is_text(key) else ("", "", "")
    named = role in {"action", "arguments"}
    fits = role in _ROLES and (not rest if role == "context" else bool(rest)) and key != "context:"
    if not fits or (named and (":" not in rest.strip(":") or "*" in rest)):
        shown = f"`{key}`" if type(key) is str and _is_text(key) else f"a `{type(key).__name__}`"
        message = f"{shown} says not whose values are meant; use {_LIST}"
        raise ConfigurationError(message)


def _check_secret(secret: object) -> None:
    if type(secret) is not bytes or len(secret) < MIN_SECRET:
        message = f"`secret` must be at least {MIN_SECRET} bytes; make it with `secrets.token_bytes(32)` and keep it"
        raise ConfigurationError(message)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
