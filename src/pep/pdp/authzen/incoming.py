"""
AuthZEN requests as a server reads them: strictly, and without telling back what was in them.

Imports the model, strict JSON, the codec's names and the error tree only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from pep.errors import ExtractionError, PDPReplyError
from pep.model import AccessRequest, Action, Resource, Subject
from pep.pdp.authzen.batches import PARTS, Semantic
from pep.pdp.strict import parse

#: Stands for the id, or the name, of what is searched for.
SOUGHT: Final = "?"

#: How many times as many evaluations as a batch may have a message may make, for its actors.
ACTING: Final = 10

# What belongs into the context, and would be dropped here without a word.
_MISPLACED: Final = ("actors", "tenant")


class Refused(Exception):  # noqa: N818  an answer, not an error
    """
    A request was not answered.

    Attributes:
        status: The HTTP status to say so with.

        detail: What is wrong with it, and how to mend it; nothing that was in it.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail
        self.headers = dict(headers or {})


@attrs.frozen
class Batch:
    """
    Several evaluations.

    Args:
        items: Each an access request, or why it is none.

        semantic: How far they are evaluated.
    """

    items: tuple[AccessRequest | Refused, ...]
    semantic: Semantic


@attrs.frozen
class Reading:
    """
    How requests are read.

    Args:
        member: The member of a context that holds tenant and actors.

        new_id: The id that stands for a resource without one.

        most: How many evaluations a batch may have; with those of its actors, a message may make ten times as many.
    """

    member: str
    new_id: str
    most: int

    def request(self, told: Mapping[str, Any]) -> AccessRequest:
        """
        Read one evaluation; members that are not known are ignored.

        Raises:
            Refused: When it is none.
        """
        request = _made(self._parts(told))
        self._check_count([request])
        return request

    def batch(self, told: Mapping[str, Any]) -> Batch | None:
        """
        Read several evaluations; None where there is but one, told at the top.

        Raises:
            Refused: When the batch is none, or what it says for all of its evaluations is wrong.
        """
        items = told.get("evaluations", [])
        if type(items) is not list or not all(type(item) is dict for item in items):
            raise Refused(400, "`evaluations` must be a JSON array of objects")
        if len(items) > self.most:
            raise Refused(413, f"`evaluations` may have at most {self.most} items; ask in several messages")
        semantic = _semantic(told.get("options", {}))
        if not items:
            return None
        defaults = self._parts(told)
        found = [self._item(item, defaults) for item in items]
        self._check_count([one for one in found if not isinstance(one, Refused)])
        return Batch(tuple(found), semantic)

    def search(self, wanted: str, told: Mapping[str, Any]) -> AccessRequest:
        """
        Read a search; of what is searched for only the type counts.

        Raises:
            Refused: When it is none.
        """
        parts = self._parts({name: value for name, value in told.items() if name != wanted})
        request = _made({**parts, wanted: _sought(wanted, told.get(wanted))})
        self._check_count([request])
        return request

    def _check_count(self, requests: Sequence[AccessRequest]) -> None:
        # INVARIANT: no message makes any number of questions, since each actor is asked about with each evaluation.
        most = self.most * ACTING
        if sum(1 + len(request.actors) for request in requests) > most:
            raise Refused(413, f"a message may make at most {most} evaluations, one for each actor among them")

    def _item(self, item: Mapping[str, Any], defaults: Mapping[str, Any]) -> AccessRequest | Refused:
        try:
            return _made({**defaults, **self._parts(item)})
        except Refused as refused:
            return refused

    def _parts(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """Read the parts that are there; the context comes with tenant and actors, which are replaced with it."""
        for name in _MISPLACED:
            if name in told:
                raise Refused(400, f"`{name}` belongs into `context`, as a member of `{self.member}`")
        readers: dict[str, Callable[[Any], Any]] = {
            "subject": Subject.from_dict,
            "action": Action.from_dict,
            "resource": self._resource,
            "context": self._context,
        }
        found: dict[str, Any] = {}
        for name in PARTS:
            if name in told:
                try:
                    found[name] = readers[name](told[name])
                except ExtractionError as error:
                    raise Refused(400, f"`{name}` cannot be read: {error}") from None
        return found

    def _resource(self, told: Any) -> Resource:  # noqa: ANN401  any JSON
        found = Resource.from_dict(told)
        if found.is_new:
            message = "`id` is missing; AuthZEN requires it"
            raise ExtractionError(message)
        return Resource.new(found.type, found.properties) if found.id == self.new_id else found

    def _context(self, told: Any) -> tuple[dict[str, Any], list[Subject], str | None]:  # noqa: ANN401  any JSON
        if type(told) is not dict:
            message = f"it must be a JSON object, not `{type(told).__name__}`"
            raise ExtractionError(message)
        more = told.get(self.member, {})
        actors = more.get("actors", []) if type(more) is dict else None
        if type(actors) is not list or not more.keys() <= set(_MISPLACED):
            message = (
                f"its `{self.member}` must be a JSON object of `tenant`, a text, and `actors`, an array of subjects"
            )
            raise ExtractionError(message)
        tenant = more.get("tenant")
        if "tenant" in more and type(tenant) is not str:
            message = "the tenant must be a text"
            raise ExtractionError(message)
        context = {name: value for name, value in told.items() if name != self.member}
        return context, [Subject.from_dict(actor) for actor in actors], tenant


def parsed(body: bytes, depth: int) -> Mapping[str, Any]:
    """
    Read a body.

    Raises:
        Refused: Unless it is one JSON object.
    """
    try:
        told = parse(body, depth=depth)
    except PDPReplyError:
        told = None
    if type(told) is not dict:
        message = f"the body must be one JSON object, in UTF-8, with no name twice and at most {depth} levels deep"
        raise Refused(400, message)
    return told


def _sought(wanted: str, told: object) -> Subject | Resource | Action:
    if wanted == "action":
        return Action(SOUGHT)
    kind = told.get("type") if type(told) is dict else None
    if type(kind) is not str or not kind:
        raise Refused(400, f"`{wanted}` must be a JSON object with a `type`")
    return Subject(kind, SOUGHT) if wanted == "subject" else Resource.new(kind)


def _made(parts: Mapping[str, Any]) -> AccessRequest:
    missing = [name for name in ("subject", "action", "resource") if name not in parts]
    if missing:
        raise Refused(400, f"`{missing[0]}` is missing; AuthZEN requires it")
    context, actors, tenant = parts.get("context", ({}, [], None))
    try:
        return AccessRequest(parts["subject"], parts["action"], parts["resource"], context, actors, tenant)
    except ExtractionError as error:
        raise Refused(400, str(error)) from None


def _semantic(options: object) -> Semantic:
    if type(options) is not dict:
        raise Refused(400, "`options` must be a JSON object")
    told = options.get("evaluations_semantic", Semantic.EXECUTE_ALL.value)
    known = {semantic.value: semantic for semantic in Semantic}
    if type(told) is not str or told not in known:
        raise Refused(400, f"`evaluations_semantic` must be one of {', '.join(f'`{name}`' for name in known)}")
    return known[told]
