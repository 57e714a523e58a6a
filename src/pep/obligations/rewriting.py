"""
Rewriting parts of a value, always on a copy: what leads to a part is copied, the rest is shared.

Whatever cannot be looked into without running its code is refused, never passed on. Imports frozen values and
its neighbours in this folder only.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

import attrs

from pep.frozen import FrozenDict, frozen_items
from pep.obligations.aliases import reaches
from pep.obligations.fields import Fields, Unreadable, named_tuple
from pep.obligations.paths import Path, Segment, Wild, index_of

# Mappings that are what they say; any other may hand out one thing and hold another.
_MAPPINGS: Final = frozenset({dict, OrderedDict, defaultdict})
_SETS: Final = frozenset({set, frozenset})
_NAMES: Final = frozenset({str})


class Gone(Enum):
    """What an edit returns for a part that is to be taken out."""

    GONE = "gone"


#: Takes a part out of what holds it; where it cannot be missing, as in an object of fields, it becomes None.
GONE: Final = Gone.GONE

#: Makes what a part becomes of what it is; raises `Unfit` for what it cannot be applied to.
Edit = Callable[[Any], Any]


class Unfit(Exception):  # noqa: N818  not an error of the library's: its callers tell theirs
    """A part cannot be rewritten; the message says what a path does wrong, without any value."""


@attrs.frozen(eq=False)
class Node:
    """
    Where some paths lead from here.

    Args:
        named: Name → where to go on.

        every: Where to go on for all others.
    """

    named: dict[str, Node]
    every: Node | None = None
    #: Whether a path ends here: this is the part itself.
    ends: bool = attrs.field(init=False)
    #: What is named, in order.
    steps: list[tuple[str, Node]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "ends", not self.named and self.every is None)
        object.__setattr__(self, "steps", list(self.named.items()))


def compile_paths(paths: Iterable[Path]) -> Node:
    """
    Join paths into a tree.

    Args:
        paths: At least one.

    Raises:
        ValueError: When two of them may lead to one part; which comes first would matter.
    """
    known = list(paths)
    for place, path in enumerate(known):
        if any(path.overlaps(other) for other in known[:place]):
            message = "two of the paths may lead to one part"
            raise ValueError(message)
    return _tree([path.segments for path in known])


def rewrite(value: Any, node: Node, edit: Edit, *, optional: bool = False) -> Any:  # noqa: ANN401  any value
    """
    Rewrite the parts that some paths lead to.

    Args:
        value: What holds the parts; it is not changed.

        node: The paths, from `compile_paths`.

        edit: Makes what each part becomes.

        optional: Whether a name may be missing in a mapping, an item in a sequence, and None stand in their place.

    Returns:
        A copy that shares everything the paths do not lead through; None where all of it was taken out.

    Raises:
        Unfit: When a part is missing, something on the way cannot be looked into or copied, or the copy still
            refers to what was copied, and so to the parts as they were.
    """
    rewriting = _Rewriting(edit, optional)
    rewritten = rewriting.part(value, node)
    if rewriting.copied and reaches(rewritten, rewriting.copied):
        message = "leads through something that is referred to from elsewhere, too"
        raise Unfit(message)
    return None if rewritten is GONE else rewritten


@attrs.define(eq=False)
class _Rewriting:
    edit: Edit
    optional: bool
    #: How many parts were rewritten so far.
    edits: int = attrs.field(default=0, init=False)
    #: What was copied, by identity.
    copied: dict[int, Any] = attrs.field(factory=dict, init=False)
    # What is being rewritten right now, from the outside in.
    _trail: list[int] = attrs.field(factory=list, init=False)

    def part(self, value: Any, node: Node) -> Any:  # noqa: ANN401  any value
        if node.ends:
            self.edits += 1
            return self.edit(value)
        if value is None:
            self.missing()
            return None
        if id(value) in self._trail:
            message = "leads through something that contains itself"
            raise Unfit(message)
        edits = self.edits
        self._trail.append(id(value))
        rewritten = self._inside(value, node)
        self._trail.pop()
        if self.edits == edits:
            return value
        self.copied[id(value)] = value
        return rewritten

    def missing(self) -> None:
        if not self.optional:
            message = "leads to a part that is not there"
            raise Unfit(message)

    def _inside(self, value: Any, node: Node) -> Any:  # noqa: ANN401  any value
        kind = type(value)
        if kind in _MAPPINGS:
            return self._mapping(kind.copy(value), node)
        if kind is list:
            return self._items(value, node)
        if kind is tuple:
            return tuple(self._items(value, node))
        if kind in _SETS:
            return kind(self._members(value, node))
        if kind is FrozenDict:
            return frozen_items(self._mapping(dict(value), node))
        if kind is MappingProxyType:
            return MappingProxyType(self._mapping(_unwrapped(value), node))
        try:
            return self._named_tuple(value, node) if isinstance(value, tuple) else self._object(value, node)
        except Unreadable:
            raise _opaque(value) from None

    def _mapping(self, items: dict[Any, Any], node: Node) -> dict[Any, Any]:
        for key, following in self._keys(items, node):
            rewritten = self.part(items[key], following)
            if rewritten is GONE:
                del items[key]
            else:
                items[key] = rewritten
        return items

    def _keys(self, items: dict[Any, Any], node: Node) -> list[tuple[Any, Node]]:
        if not node.named:
            return [(key, following) for key in items for following in _present(node.every)]
        if {*map(type, items)} <= _NAMES:
            return self._chosen(items, node)
        by_name: dict[str, list[Any]] = {}
        for key in items:
            by_name.setdefault(_key_name(key), []).append(key)
        return [(key, following) for name, following in self._chosen(by_name, node) for key in by_name[name]]

    def _chosen(self, names: Collection[str], node: Node) -> list[tuple[str, Node]]:
        """Choose where each name leads: where it is named itself, else where every one leads."""
        here = [step for step in node.steps if step[0] in names]
        if len(here) < len(node.steps):
            self.missing()
        if node.every is None:
            return here
        return [(name, node.named.get(name, node.every)) for name in names]

    def _items(self, value: Sequence[Any], node: Node) -> list[Any]:
        items = list(value)
        places = {str(place): place for place in range(len(items))} if node.named else {}
        if any(index_of(name) is None for name in node.named):
            message = "names a part of a sequence; its items have positions, or are all meant by `*`"
            raise Unfit(message)
        chosen = self._chosen(places, node) if node.named else ()
        for name, following in chosen:
            items[places[name]] = self.part(items[places[name]], following)
        if not node.named and node.every is not None:
            items = [self.part(item, node.every) for item in items]
        return [item for item in items if item is not GONE]

    def _members(self, value: Collection[Any], node: Node) -> list[Any]:
        if node.named or node.every is None:
            message = "names a part of a set; its members are all meant by `*`"
            raise Unfit(message)
        members = [self.part(member, node.every) for member in value]
        return [member for member in members if member is not GONE]

    def _named_tuple(self, value: Any, node: Node) -> Any:  # noqa: ANN401  of a class of its own
        held = named_tuple(value)
        if held is None or not node.named.keys() <= held.keys():
            raise Unreadable
        for name, following in self._chosen(held, node):
            held[name] = self._field(held[name], following)
        return tuple.__new__(type(value), held.values())

    def _object(self, value: Any, node: Node) -> Any:  # noqa: ANN401  of any class
        fields = Fields(value)
        names = node.named if node.every is None else fields.names()
        # A field that is not there is never optional: whoever wrote the path meant another type.
        held = {name: fields.get(name) for name in {**dict.fromkeys(names), **node.named}}
        return fields.copied({name: self._field(held[name], following) for name, following in self._chosen(held, node)})

    def _field(self, value: Any, node: Node) -> Any:  # noqa: ANN401  any value
        rewritten = self.part(value, node)
        return None if rewritten is GONE else rewritten


def _tree(paths: Sequence[tuple[Segment, ...]]) -> Node:
    """Join paths by their first segment; what is said of every part is said of those named, too."""
    every = [path[1:] for path in paths if path and path[0] is Wild.EVERY]
    names = dict.fromkeys(path[0] for path in paths if path and type(path[0]) is str)
    named = {name: _tree([*every, *(path[1:] for path in paths if path and path[0] == name)]) for name in names}
    return Node(named, _tree(every) if every else None)


def _present(node: Node | None) -> tuple[Node, ...]:
    return () if node is None else (node,)


def _unwrapped(value: MappingProxyType[Any, Any]) -> dict[Any, Any]:
    inner: object = value.copy()
    if type(inner) is not dict:
        raise _opaque(value)
    return inner


def _key_name(key: object) -> str:
    """Return the name a key goes by once it is written down: two keys may go by one."""
    if isinstance(key, Enum):
        key = key.value
    if type(key) is str:
        return key
    if type(key) is int:
        return str(key)
    message = f"names a part of a mapping with keys of type `{type(key).__name__}`; they are all meant by `*`"
    raise Unfit(message)


def _opaque(value: object) -> Unfit:
    message = f"leads into a `{type(value).__name__}`, which cannot be looked into or copied; or it has no such field"
    return Unfit(message)
