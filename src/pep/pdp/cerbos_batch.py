"""
Many questions in few requests to Cerbos.

Imports L0 and Cerbos's words only.
"""

from __future__ import annotations

from typing import Any, Final

import attrs

from pep.frozen import canonical
from pep.model import AccessRequest
from pep.pdp.cerbos_words import Wording

#: How many bytes of resources one request brings; the server takes 4 MiB.
MOST: Final = 1024 * 1024


@attrs.frozen(eq=False)
class Entry:
    """
    One resource of a request to Cerbos.

    Attributes:
        resource: As Cerbos is told.

        face: Equal exactly for what may share this entry.

        actions: Action → the places of the questions about it, among all of a batch.
    """

    resource: dict[str, Any]
    face: bytes
    actions: dict[str, list[int]]


@attrs.define(eq=False)
class Pack:
    """One request to the server: resources of different names, all for one principal."""

    principal: dict[str, Any]
    entries: list[Entry] = attrs.field(factory=list)
    size: int = 0

    def places(self) -> list[int]:
        """Return the places of all its questions."""
        return [place for entry in self.entries for places in entry.actions.values() for place in places]


class Batch:
    """Questions, packed: who asks and what is asked about is told once where it can be."""

    def __init__(self, words: Wording, limits: tuple[int, int]) -> None:
        self._words, (self._resources, self._actions) = words, limits
        self.packs: list[Pack] = []
        # Who asks, and the resource's name → its entries, each in another layer of packs.
        self._entries: dict[tuple[bytes, str, str | None], list[Entry]] = {}
        self._layers: dict[tuple[bytes, int], Pack] = {}
        self._where: dict[bytes, dict[str, str]] = {}

    def add(self, request: AccessRequest, place: int) -> None:
        """
        Add a question.

        Raises:
            PDPReplyError: When Cerbos could not be told faithfully.
        """
        action, look, resource = request.action.name, _face(request), request.resource
        named = self._entries.setdefault((request.who, resource.type, resource.id), [])
        for entry in named:
            if entry.face == look and self._takes(entry, action):
                entry.actions.setdefault(action, []).append(place)
                return
        made = Entry(self._words.resource(request, self._where_of(request)), look, {action: [place]})
        self._pack(request, len(named), len(look)).entries.append(made)
        named.append(made)

    def _where_of(self, request: AccessRequest) -> dict[str, str]:
        where = self._where.get(request.who)
        if where is None:
            where = self._where[request.who] = self._words.where(request)
        return where

    def _takes(self, entry: Entry, action: str) -> bool:
        return action in entry.actions or len(entry.actions) < self._actions

    def _pack(self, request: AccessRequest, layer: int, size: int) -> Pack:
        """Return the pack of a layer that has room: no two resources of one name are in one pack."""
        pack = self._layers.get((request.who, layer))
        if pack is None or len(pack.entries) >= self._resources or pack.size + size > MOST:
            pack = Pack(self._words.principal(request, self._where_of(request)))
            self._layers[request.who, layer] = pack
            self.packs.append(pack)
        pack.size += size
        return pack


def _face(request: AccessRequest) -> bytes:
    """Tell apart what differs in the resource or the action's properties."""
    properties = request.action.properties
    return request.resource.key + (b"\n" + canonical(properties) if properties else b"")
