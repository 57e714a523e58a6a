"""
OpenFGA as a policy decision point, over its HTTP API.

Imports plans, the remote, the search's findings and what relationship engines share.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pep.decision import Decision
from pep.errors import ConfigurationError, PDPReplyError
from pep.found import Found
from pep.frozen import EMPTY
from pep.model import AccessRequest, Resource, Subject
from pep.pdp.openfga_replies import ID, decision_of, objects_of, results_of, users_of
from pep.pdp.relations import Asking, positive, sayable
from pep.pdp.remote import Remote
from pep.pdp.tuples import TUPLES, checked_tuples
from pep.plan import Plan, Raised, gather, unwrap
from pep.protocols import Transport

#: What a query may trade for speed.
CONSISTENCY: Final = ("MINIMIZE_LATENCY", "HIGHER_CONSISTENCY")

#: How many checks a batch may have, unless the server was told otherwise.
MAX_BATCH: Final = 50

#: How many batches are in the air at once.
ABREAST: Final = 8

_STORE: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}", re.ASCII)
_TYPE: Final = re.compile(r"[^:#@*\s]{1,254}")
_RELATION: Final = re.compile(r"[^:#@*\s]{1,50}")
_LONGEST_USER: Final = 512
_LONGEST_OBJECT: Final = 256

#: Returns the tuples that hold for one question.
Tuples = Callable[[AccessRequest], Sequence[Mapping[str, Any]]]


class OpenFGAPDP:
    """
    Asks an OpenFGA server whether the subject has a relation to the resource.

    The subject is the user ``type:id``, the resource the object ``type:id``, the action the relation. Ids that
    OpenFGA would read as another object, a userset or everybody are refused before anything is sent.

    Args:
        url: Where it answers, ``https://host[:port][/prefix]``.

        store: The id of the store.

        model: The id of the authorization model; None is the newest, at every question.

        relations: Action's name, or ``type:name``, → relation; an action that is not in it is its own relation.

        parameters: Part of a request → the condition parameter it is sent as; see `pep.pdp.relations.Asking`.

        contextual_tuples: Relationships that hold for one question alone: where they are, such as
            ``"subject.tuples"``, or a function of the request. They grant access: take them from an attribute
            provider, never from a caller.

        consistency: ``"MINIMIZE_LATENCY"`` or ``"HIGHER_CONSISTENCY"``, which passes by the server's caches.

        new: The id that stands for a resource that has none yet; None refuses those.

        batch: How many checks one request may hold, as the server was configured.

        transport: What sends requests; credentials are its business.

        headers: Header's name → value, sent with every request.

    Raises:
        ConfigurationError: When one of them will not do.

    Source:
        OpenFGA HTTP API (openfga/api, ``openfga_service.proto``).
    """

    pure: Final = False

    def __init__(
        self,
        url: str,
        store: str,
        *,
        model: str | None = None,
        relations: Mapping[str, str] = EMPTY,
        parameters: Mapping[str, str] = EMPTY,
        contextual_tuples: str | Tuples | None = None,
        consistency: str = "MINIMIZE_LATENCY",
        new: str | None = None,
        batch: int = MAX_BATCH,
        transport: Transport | None = None,
        headers: Mapping[str, str] = EMPTY,
    ) -> None:
        self._common: dict[str, Any] = {"consistency": _one_of(consistency)}
        if model is not None:
            self._common["authorization_model_id"] = _ulid(model, "model")
        self._asking = Asking(relations, parameters, new, _RELATION)
        self._tuples = _source(contextual_tuples)
        self._leaving = frozenset({contextual_tuples} if isinstance(contextual_tuples, str) else ())
        self._batch = positive(batch)
        self._path = f"/stores/{_ulid(store, 'store')}/"
        self._remote = Remote(url, transport=transport, headers=headers)
        self._model = model
        self.name = f"openfga {self._remote.url}{self._path[:-1]}" + ("" if model is None else f"@{model}")

    def __repr__(self) -> str:
        return f"<OpenFGAPDP({self.name!r})>"

    def decide(self, request: AccessRequest) -> Plan[Decision]:
        """
        Answer one access request.

        Raises:
            PDPError: When OpenFGA cannot be asked it, or gave no answer.
        """
        reply = yield from self._remote.post(self._path + "check", {**self._check(request), **self._common})
        return decision_of(reply, self._model)

    def decide_many(self, requests: Sequence[AccessRequest]) -> Plan[list[Decision | Raised]]:
        """
        Answer many access requests, in batches side by side.

        OpenFGA tells no revision: relationships may change between one check and the next.

        Raises:
            PDPError: When a batch got no answer, or an answer to other questions.
        """
        told: list[Decision | Raised | None] = [None] * len(requests)
        checks: dict[int, dict[str, Any]] = {}
        for index, request in enumerate(requests):
            try:
                checks[index] = self._check(request)
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001  a function of the request may raise anything
                told[index] = Raised(error)
        for index, answer in (yield from self._answers(checks)):
            told[index] = answer
        return [one for one in told if one is not None]

    def search(self, wanted: str, request: AccessRequest) -> Plan[Found]:
        """
        Find the resources or subjects of a type; never all of them, since OpenFGA stops at a limit without a word.

        Raises:
            PDPError: When OpenFGA cannot be asked it, or gave no answer.
        """
        match wanted:
            case "resource":
                return (yield from self._resources(request))
            case "subject":
                return (yield from self._subjects(request))
            case _:
                message = f"OpenFGA finds resources and subjects, no `{wanted}`"
                raise PDPReplyError(message)

    def probe(self) -> Plan[None]:
        """Ask whether the server is up; raise a `PDPError` where it is not."""
        yield from self._remote.reach("/healthz")

    def close(self) -> None:
        """Close the transport, where it is its own."""
        self._remote.close()

    async def aclose(self) -> None:
        """Close the transport, where it is its own."""
        await self._remote.aclose()

    def _check(self, request: AccessRequest) -> dict[str, Any]:
        resource = self._asking.id(request)
        key = {
            "user": _reference(request.subject.type, request.subject.id, _LONGEST_USER, "subject"),
            "relation": self._asking.relation(request),
            "object": _reference(request.resource.type, resource, _LONGEST_OBJECT, "resource"),
        }
        return {"tuple_key": key, **self._circumstances(request)}

    def _circumstances(self, request: AccessRequest, without: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        context = self._asking.context(request, without=without, leaving=self._leaving)
        if context:
            found["context"] = context
        tuples = checked_tuples(self._tuples(request))
        if tuples:
            found["contextual_tuples"] = {"tuple_keys": tuples}
        return found

    def _answers(self, checks: Mapping[int, dict[str, Any]]) -> Plan[list[tuple[int, Decision | Raised]]]:
        indexes = list(checks)
        parts = [indexes[start : start + self._batch] for start in range(0, len(indexes), self._batch)]
        found: list[tuple[int, Decision | Raised]] = []
        for start in range(0, len(parts), ABREAST):
            replies = yield from gather(*[self._asked(part, checks) for part in parts[start : start + ABREAST]])
            for reply in replies:
                found += unwrap(reply)
        return found

    def _asked(
        self, indexes: Sequence[int], checks: Mapping[int, dict[str, Any]]
    ) -> Plan[list[tuple[int, Decision | Raised]]]:
        items = [{**checks[index], "correlation_id": str(index)} for index in indexes]
        reply = yield from self._remote.post(self._path + "batch-check", {"checks": items, **self._common})
        answers = results_of(reply, [item["correlation_id"] for item in items], self._model)
        return list(zip(indexes, answers, strict=True))

    def _resources(self, request: AccessRequest) -> Plan[Found]:
        kind = sayable(request.resource.type, _TYPE, _LONGEST_OBJECT, "resource's type")
        body = {
            "type": kind,
            "relation": self._asking.relation(request),
            "user": _reference(request.subject.type, request.subject.id, _LONGEST_USER, "subject"),
            **self._circumstances(request, "resource"),
            **self._common,
        }
        reply = yield from self._remote.post(self._path + "list-objects", body)
        return Found(tuple([Resource(kind, name) for name in objects_of(reply, kind)]), complete=False)

    def _subjects(self, request: AccessRequest) -> Plan[Found]:
        kind = sayable(request.subject.type, _TYPE, _LONGEST_USER, "subject's type")
        resource = self._asking.id(request)
        _reference(request.resource.type, resource, _LONGEST_OBJECT, "resource")
        circumstances = self._circumstances(request, "subject")
        if "contextual_tuples" in circumstances:
            # Here alone they are no object.
            circumstances["contextual_tuples"] = circumstances["contextual_tuples"]["tuple_keys"]
        body = {
            "object": {"type": request.resource.type, "id": resource},
            "relation": self._asking.relation(request),
            "user_filters": [{"type": kind}],
            **circumstances,
            **self._common,
        }
        reply = yield from self._remote.post(self._path + "list-users", body)
        return Found(tuple([Subject(kind, name) for name in users_of(reply, kind)]), complete=False)


def _reference(kind: str, name: str, longest: int, what: str) -> str:
    told = f"{sayable(kind, _TYPE, longest, f'{what} type')}:{sayable(name, ID, longest, f'{what} id')}"
    if len(told.encode()) > longest:
        message = f"the {what} cannot be told to OpenFGA: its type and id have more than {longest} bytes together"
        raise PDPReplyError(message)
    return told


def _source(given: str | Tuples | None) -> Tuples:
    if given is None:
        return lambda _request: ()
    if callable(given) and not isinstance(given, type):
        return given
    match = TUPLES.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        message = "`contextual_tuples` must be a function of the request, or a place like `subject.tuples`"
        raise ConfigurationError(message)
    part, name = match.groups()
    return lambda request: (request.context if part == "context" else getattr(request, part).properties).get(name, ())


def _ulid(value: object, what: str) -> str:
    if type(value) is not str or _STORE.fullmatch(value) is None:
        message = f"a {what} is named by its id of 26 letters and digits, such as `01YCP46JKYM8FJCQ37NMBYHE5X`"
        raise ConfigurationError(message)
    return value


def _one_of(value: object) -> str:
    if value not in CONSISTENCY:
        message = f"`consistency` must be `{'` or `'.join(CONSISTENCY)}`, not `{value}`"
        raise ConfigurationError(message)
    return str(value)
