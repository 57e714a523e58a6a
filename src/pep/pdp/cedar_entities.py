"""
The entities of a question put to Cedar: those of the request, and those known beforehand that it can reach.

Cedar reaches an entity only from the request, from another entity or from a policy's text, so the others are left
out: a question costs what it reaches, not what there is. Imports L0 and Cedar's words only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

import attrs
import orjson

from pep.errors import PDPReplyError
from pep.model import AccessRequest, Resource, Subject
from pep.pdp.cedar_words import UID, Words, mentioned, reference

#: An entity in Cedar's JSON: ``uid``, ``attrs``, ``parents``, and ``tags`` where it has some.
Entity: TypeAlias = "dict[str, Any]"


class Known:
    """
    Entities known beforehand.

    Args:
        entities: In Cedar's JSON, each once.

        fixed: Those that policies mention.
    """

    __slots__ = ("_entities", "_reach", "fixed")

    def __init__(self, entities: Iterable[Entity], fixed: Iterable[UID]) -> None:
        self._entities: Final = {(one["uid"]["type"], one["uid"]["id"]): one for one in entities}
        self._reach: Final = {uid: tuple(mentioned(one)) for uid, one in self._entities.items()}
        #: What policies reach by themselves.
        self.fixed: Final = self._reached(fixed, {})

    def around(self, entities: dict[UID, Entity], action: UID, context: dict[str, Any]) -> tuple[list[Entity], bool]:
        """
        Return the entities of a question.

        Args:
            entities: Those of the request; what is known of one is added to it.

            action: That of the request, which has no properties.

            context: That of the request, which may mention others.

        Returns:
            The entities, and whether `fixed` belongs beside them; otherwise it is among them.

        Raises:
            PDPReplyError: When the request says otherwise what is known.
        """
        if not self._entities:
            return list(entities.values()), True
        told = {uid: self._merged(uid, one) for uid, one in entities.items()}
        changed = any(uid in self.fixed and told[uid] != self.fixed[uid] for uid in told)
        besides = {} if changed else self.fixed
        roots = [action, *(uid for one in (context, *told.values()) for uid in mentioned(one))]
        found = self._reached(roots, besides)
        if changed:
            found = {**self.fixed, **found}
        rest = {**found, **told}
        return [one for uid, one in rest.items() if uid not in besides], not changed

    def _merged(self, uid: UID, told: Entity) -> Entity:
        known = self._entities.get(uid)
        if known is None:
            return told
        for name in told["attrs"].keys() & known["attrs"].keys():
            if _written(told["attrs"][name]) != _written(known["attrs"][name]):
                message = f"property `{name}` of `{uid[0]}` is not what the entities say; tell it in one place"
                raise PDPReplyError(message)
        # By what they are: a search for each would take as long as both lists together are long, squared.
        parents = list({(one["type"], one["id"]): one for one in [*known["parents"], *told["parents"]]}.values())
        return {**known, "attrs": {**known["attrs"], **told["attrs"]}, "parents": parents}

    def _reached(self, roots: Iterable[UID], besides: Mapping[UID, Entity]) -> dict[UID, Entity]:
        """Return what can be reached from somewhere, without what is there anyway."""
        found: dict[UID, Entity] = {}
        open_ = list(roots)
        while open_:
            uid = open_.pop()
            if uid in self._entities and uid not in found and uid not in besides:
                found[uid] = self._entities[uid]
                open_ += self._reach[uid]
        return found


@attrs.frozen
class Question:
    """
    An access request as Cedar is asked it.

    Attributes:
        action: That of the request.

        ask: ``principal``, ``action``, ``resource``, and ``context`` as JSON text.

        entities: The entities, as JSON text.

        beside: Whether those that policies mention belong beside them.
    """

    action: UID
    ask: dict[str, Any]
    entities: str
    beside: bool


def question(request: AccessRequest, words: Words, known: Known) -> Question:
    """
    Say an access request in Cedar's words.

    Raises:
        PDPReplyError: When it cannot be said.
    """
    entities: dict[UID, Entity] = {}
    principal = _subject(request.subject, words, entities, "the subject")
    actors = [_subject(actor, words, entities, "an actor") for actor in request.actors]
    resource = _resource(request.resource, words, entities)
    action = words.action(request.action.name)
    context = _context(request, words, actors)
    around, beside = known.around(entities, action, context)
    ask = {
        "principal": reference(principal),
        "action": reference(action),
        "resource": reference(resource),
        "context": orjson.dumps(context).decode(),
    }
    return Question(action, ask, orjson.dumps(around).decode(), beside)


def _subject(subject: Subject, words: Words, entities: dict[UID, Entity], what: str) -> UID:
    uid = words.uid(subject.type, subject.id)
    _add(entities, uid, subject, words, what)
    return uid


def _resource(resource: Resource, words: Words, entities: dict[UID, Entity]) -> UID:
    uid = words.new(resource.type) if resource.id is None else words.uid(resource.type, resource.id)
    _add(entities, uid, resource, words, "the resource")
    return uid


def _add(entities: dict[UID, Entity], uid: UID, part: Subject | Resource, words: Words, what: str) -> None:
    """Add an entity; a part without properties that is there already merely names it."""
    made: Entity = {"uid": reference(uid), "attrs": words.record(part.properties, what), "parents": []}
    for _, uids in words.referred(part.properties, words.parents):
        made["parents"] += [reference(one) for one in uids]
    for name, uids in words.referred(part.properties, words.references):
        escaped = [{"__entity": reference(one)} for one in uids]
        made["attrs"][name] = escaped if type(part.properties[name]) is tuple else escaped[0]
    if uid not in entities:
        entities[uid] = made
    elif part.properties and _written(made) != _written(entities[uid]):
        # One entity has one set of attributes: those of the resource would become the principal's.
        message = f"{what} is the same Cedar entity as another part of the request, but has other properties"
        raise PDPReplyError(message)


def _context(request: AccessRequest, words: Words, actors: list[UID]) -> dict[str, Any]:
    """Return the context, with what Cedar has no place for in one record of it."""
    context = words.record(request.context, "the context")
    if words.envelope in request.context:
        message = f"the context holds a member `{words.envelope}`, which is the enforcement point's; rename it"
        raise PDPReplyError(message)
    envelope: dict[str, Any] = {}
    if request.tenant is not None:
        envelope["tenant"] = request.tenant
    if request.action.properties:
        envelope["action"] = words.record(request.action.properties, "the action")
    if actors:
        envelope["actors"] = [{"__entity": reference(actor)} for actor in actors]
    if len(actors) > 1:
        # A Cedar set has no order: the numbers tell it, outermost first.
        envelope["chain"] = {str(index): one for index, one in enumerate(envelope["actors"])}
    return {**context, words.envelope: envelope} if envelope else context


def _written(value: object) -> bytes:
    """Return JSON to compare by: to Python, 1 is true."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
