"""
SpiceDB as a policy decision point, over its HTTP gateway.

Imports plans, the remote, the search's findings, the clock and what relationship engines share.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from pep.clock import SystemClock
from pep.decision import Decision
from pep.errors import ConfigurationError, PDPError, PDPReplyError
from pep.found import Found
from pep.frozen import EMPTY
from pep.locks import Lock
from pep.model import AccessRequest, Resource, Subject
from pep.pdp.relations import Asking, positive, sayable
from pep.pdp.remote import Remote
from pep.pdp.spicedb_replies import EVERYBODY, ID, Item, check_of, found_of, pairs_of
from pep.pdp.strict import parse_object
from pep.plan import Plan, Raised, gather, unwrap
from pep.protocols import Clock, Transport

#: What a question may be answered from, unless a token says more.
CONSISTENCY: Final = {"minimize_latency": "minimizeLatency", "fully_consistent": "fullyConsistent"}

#: The name in a request's context under which a ZedToken is given for that request alone.
ZEDTOKEN: Final = "zedtoken"

#: How many checks are sent at once; SpiceDB takes 10,000, a reply of as many is over the transport's cap.
MAX_BATCH: Final = 1000

#: How many batches are in the air at once.
ABREAST: Final = 8

#: How many resources a search asks for.
MAX_FOUND: Final = 1000

#: How many subjects a search may bring; it cannot be asked for fewer.
MOST_LINES: Final = 10_000

_TYPE: Final = re.compile(r"([a-z][a-z0-9_]{1,61}[a-z0-9]/)*[a-z][a-z0-9_]{1,62}[a-z0-9]", re.ASCII)
_PERMISSION: Final = re.compile(r"[a-z][a-z0-9_]{1,62}[a-z0-9]", re.ASCII)
_LONGEST_TYPE: Final = 128
_LONGEST_ID: Final = 1024
_LEAVING: Final = frozenset({f"context.{ZEDTOKEN}"})
_PATH: Final = "/v1/permissions/"


class SpiceDBPDP:
    """
    Asks SpiceDB whether the subject has a permission on the resource.

    The action is the permission. Ids and types that SpiceDB's grammar does not have are refused before anything
    is sent, the wildcard ``*`` among them.

    Args:
        url: Where the gateway answers, ``https://host[:port][/prefix]``.

        token: The preshared key; None sends none, as where the transport has credentials.

        permissions: Action's name, or ``type:name``, → permission; an action that is not in it is its own permission.

        parameters: Part of a request → the caveat parameter it is sent as; see `pep.pdp.relations.Asking`.

        consistency: ``"minimize_latency"`` or ``"fully_consistent"``; see also `at_least`.

        expiring: Whether relationships may expire. Servers do not tell reliably when an answer ends, and never in
            a batch; what tells no end is reused only where this is False.

        new: The id that stands for a resource that has none yet; None refuses those.

        batch: How many checks one request may hold.

        transport: What sends requests.

        headers: Header's name → value, sent with every request.

        clock: Reads what time it is, to tell how long an answer holds.

    Raises:
        ConfigurationError: When one of them will not do.

    Source:
        SpiceDB API v1 (authzed/api, ``permission_service.proto``).
    """

    pure: Final = False
    #: Its revisions are consistency tokens: a new one ends what earlier ones decided.
    consistent: Final = True

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        permissions: Mapping[str, str] = EMPTY,
        parameters: Mapping[str, str] = EMPTY,
        consistency: str = "minimize_latency",
        expiring: bool = True,
        new: str | None = None,
        batch: int = MAX_BATCH,
        transport: Transport | None = None,
        headers: Mapping[str, str] = EMPTY,
        clock: Clock | None = None,
    ) -> None:
        self._consistency = _one_of(consistency)
        self._asking = Asking(permissions, parameters, new, _PERMISSION)
        self._batch = positive(batch)
        self._expiring = _flag(expiring)
        self._clock = clock or SystemClock()
        self._lock = Lock()
        self._least: str | None = None
        self._remote = Remote(url, transport=transport, headers={**headers, **_bearer(token)})
        self.name = f"spicedb {self._remote.url}"

    def __repr__(self) -> str:
        return f"<SpiceDBPDP({self.name!r})>"

    def at_least(self, token: str) -> None:
        """
        Answer from now on from what is at least as fresh as a write.

        Tokens have no order that could be seen: tell them in the order of the writes.

        Args:
            token: The ZedToken of the newest write, ``writtenAt``.

        Raises:
            ConfigurationError: When it is none.
        """
        if type(token) is not str or not token.isascii() or not token.isprintable() or not token:
            message = "a ZedToken is a non-empty text, as `writtenAt.token` of a write has it"
            raise ConfigurationError(message)
        with self._lock:
            self._least = token

    def decide(self, request: AccessRequest) -> Plan[Decision]:
        """
        Answer one access request.

        Raises:
            PDPError: When SpiceDB cannot be asked it, or gave no answer.
        """
        asked = self._clock.wall()
        body = {"consistency": self._fresh([request]), **self._item(request)}
        reply = yield from self._remote.post(_PATH + "check", body)
        return check_of(reply, asked, reusable=not self._expiring)

    def decide_many(self, requests: Sequence[AccessRequest]) -> Plan[list[Decision | Raised]]:
        """
        Answer many access requests from one revision: where it takes several batches, that of the first.

        Raises:
            PDPError: When a batch got no answer, or an answer to other questions.
        """
        told: list[Decision | Raised | None] = [None] * len(requests)
        items: list[tuple[int, Item]] = []
        for index, request in enumerate(requests):
            try:
                items.append((index, self._item(request)))
            except PDPError as error:
                told[index] = Raised(error)
        for index, answer in (yield from self._answers(items, requests)):
            told[index] = answer
        return [one for one in told if one is not None]

    def search(self, wanted: str, request: AccessRequest) -> Plan[Found]:
        """
        Find the resources or subjects of a type that are permitted without further context.

        Raises:
            PDPError: When SpiceDB cannot be asked it, or gave no answer.
        """
        match wanted:
            case "resource":
                return (yield from self._resources(request))
            case "subject":
                return (yield from self._subjects(request))
            case _:
                message = f"SpiceDB finds resources and subjects, no `{wanted}`"
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

    def _item(self, request: AccessRequest) -> Item:
        _zedtoken(request)
        return {
            "resource": _object(request.resource.type, self._asking.id(request), "resource"),
            "permission": self._asking.relation(request),
            "subject": {"object": _object(request.subject.type, request.subject.id, "subject")},
            **self._context(request),
        }

    def _context(self, request: AccessRequest, without: str = "") -> Item:
        found = self._asking.context(request, without=without, leaving=_LEAVING)
        return {"context": found} if found else {}

    def _fresh(self, requests: Iterable[AccessRequest]) -> dict[str, Any]:
        """Return the least consistency that serves every request."""
        with self._lock:
            least = self._least
        tokens = {_zedtoken(request) for request in requests} | {least}
        tokens.discard(None)
        if self._consistency == "minimizeLatency" and len(tokens) == 1:
            return {"atLeastAsFresh": {"token": tokens.pop()}}
        # Which of two tokens is the newer one cannot be told.
        return {"fullyConsistent" if tokens else self._consistency: True}

    def _answers(
        self, items: Sequence[tuple[int, Item]], requests: Sequence[AccessRequest]
    ) -> Plan[list[tuple[int, Decision | Raised]]]:
        parts = [items[start : start + self._batch] for start in range(0, len(items), self._batch)]
        if not parts:
            return []
        consistency = self._fresh(requests[index] for index, _item in items)
        found, revision = yield from self._asked(parts[0], consistency)
        if len(parts) > 1 and revision is None:
            message = "the reply to a batch must name its revision, for the next one to be answered from"
            raise PDPReplyError(message)
        snapshot = {"atExactSnapshot": {"token": revision}}
        for start in range(1, len(parts), ABREAST):
            replies = yield from gather(*[self._asked(part, snapshot) for part in parts[start : start + ABREAST]])
            for reply in replies:
                found += unwrap(reply)[0]
        return found

    def _asked(
        self, items: Sequence[tuple[int, Item]], consistency: Mapping[str, Any]
    ) -> Plan[tuple[list[tuple[int, Decision | Raised]], str | None]]:
        body = {"consistency": consistency, "items": [item for _index, item in items]}
        reply = yield from self._remote.post(_PATH + "checkbulk", body)
        answers, revision = pairs_of(reply, [item for _index, item in items], reusable=not self._expiring)
        return [(index, answer) for (index, _item), answer in zip(items, answers, strict=True)], revision

    def _resources(self, request: AccessRequest) -> Plan[Found]:
        kind = _kind(request.resource.type, "resource")
        body = {
            "consistency": self._fresh([request]),
            "resourceObjectType": kind,
            "permission": self._asking.relation(request),
            "subject": {"object": _object(request.subject.type, request.subject.id, "subject")},
            "optionalLimit": MAX_FOUND,
            **self._context(request, "resource"),
        }
        told = found_of((yield from self._lines("resources", body)), "resource")
        ids = [name for name, permitted in told if permitted]
        return Found(tuple([Resource(kind, name) for name in dict.fromkeys(ids)]), complete=len(told) < MAX_FOUND)

    def _subjects(self, request: AccessRequest) -> Plan[Found]:
        kind = _kind(request.subject.type, "subject")
        body = {
            "consistency": self._fresh([request]),
            "resource": _object(request.resource.type, self._asking.id(request), "resource"),
            "permission": self._asking.relation(request),
            "subjectObjectType": kind,
            "wildcardOption": "WILDCARD_OPTION_INCLUDE_WILDCARDS",
            **self._context(request, "subject"),
        }
        told = found_of((yield from self._lines("subjects", body)), "subject")
        ids = [name for name, permitted in told if permitted and name != EVERYBODY]
        everybody = any(name == EVERYBODY for name, _permitted in told)
        return Found(tuple([Subject(kind, name) for name in dict.fromkeys(ids)]), complete=not everybody)

    def _lines(self, path: str, body: Mapping[str, Any]) -> Plan[list[dict[str, Any]]]:
        """Post a JSON object, and return the JSON objects that are streamed back, one a line."""
        content = {"content-type": "application/json"}
        asked = self._remote._asked  # noqa: SLF001  `post` reads one object alone
        reply = yield from asked("POST", _PATH + path, content, orjson.dumps(body), (200,))
        lines = reply.body.splitlines()
        if len(lines) > MOST_LINES:
            message = f"the search found more than {MOST_LINES}; ask about a narrower one"
            raise PDPReplyError(message)
        return [parse_object(line) for line in lines if line]


def _kind(kind: str, what: str) -> str:
    return sayable(kind, _TYPE, _LONGEST_TYPE, f"{what} type")


def _object(kind: str, name: str, what: str) -> dict[str, str]:
    return {"objectType": _kind(kind, what), "objectId": sayable(name, ID, _LONGEST_ID, f"{what} id")}


def _zedtoken(request: AccessRequest) -> str | None:
    token = request.context.get(ZEDTOKEN)
    if token is not None and (type(token) is not str or not token):
        message = f"`{ZEDTOKEN}` in the context must be a ZedToken"
        raise PDPReplyError(message)
    return token


def _bearer(token: object) -> dict[str, str]:
    if token is None:
        return {}
    if type(token) is not str or not token or not token.isascii() or not token.isprintable():
        message = "`token` must be the preshared key, printable and not empty"
        raise ConfigurationError(message)
    return {"authorization": f"Bearer {token}"}


def _one_of(value: object) -> str:
    if type(value) is not str or value not in CONSISTENCY:
        message = f"`consistency` must be `{'` or `'.join(CONSISTENCY)}`; a token goes to `at_least`"
        raise ConfigurationError(message)
    return CONSISTENCY[value]


def _flag(value: object) -> bool:
    if type(value) is not bool:
        message = "`expiring` must be True or False"
        raise ConfigurationError(message)
    return value
