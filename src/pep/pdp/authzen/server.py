"""
The other side: an ASGI application that answers for an enforcer's decision point.

Imports the rest of this package's server side; the enforcer itself is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import attrs

from pep.errors import AccessDenied, ConfigurationError
from pep.fault import AVAILABILITY, Fault
from pep.model import Effect, Subject
from pep.pdp.authzen.answering import Answer, Answering
from pep.pdp.authzen.asgi import Disconnected, Incoming, Receive, Reply, Scope, Send, body_of, problem
from pep.pdp.authzen.batches import Semantic
from pep.pdp.authzen.codec import MEMBER, NEW_ID, TAKEN
from pep.pdp.authzen.guarding import Authenticate, Guarding, MayAsk
from pep.pdp.authzen.incoming import Batch, Reading, Refused, parsed
from pep.pdp.authzen.metadata import ENDPOINTS, WELL_KNOWN
from pep.pdp.authzen.searching import WANTED
from pep.pdp.authzen.telling import Telling, failed, problem_of
from pep.pdp.remote import checked_url

if TYPE_CHECKING:
    from pep.enforcer import Enforcer

#: How many evaluations a batch may have.
BATCH: Final = 100

#: How many bytes a body may have.
BODY: Final = 1024 * 1024

#: How deep a body may be nested: an access request may have 32 levels, and lies in a few of its own.
DEPTH: Final = 40

#: For how long the metadata may be reused, in seconds.
METADATA_AGE: Final = 3600

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@attrs.frozen(eq=False, repr=False)
class Server:
    """
    An ASGI application that answers AuthZEN requests; see `server`.

    Args:
        guarding: Who may ask, and what.

        answering: Who answers.

        reading: How requests are read.

        telling: How answers are told.

        metadata: What it tells of itself, if anything.

        prefix: The path of its identifier, below which its endpoints are too.

        limits: How many bytes a body may have, and how many levels.

        searching: Whether searches are answered.
    """

    guarding: Guarding
    answering: Answering
    reading: Reading
    telling: Telling
    metadata: Mapping[str, Any]
    prefix: str
    limits: tuple[int, int]
    searching: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] == "http":
            await self._http(Incoming.of(scope), receive, send)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, incoming: Incoming, receive: Receive, send: Send) -> None:
        try:
            reply = await self._reply(incoming, receive)
        except Refused as refused:
            reply = problem(refused)
        except Disconnected:
            return
        except AccessDenied as denied:
            # Unbound, or closed: it cannot even be asked.
            reply = problem(Refused(503, f"nobody answers here: {(denied.fault or Fault.INTERNAL).value}"))
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001  whatever goes wrong, it is no decision
            reply = problem(Refused(500, "no decision was had"))
        await reply.send(send, incoming, bodiless=incoming.scope["method"] == "HEAD")

    async def _reply(self, incoming: Incoming, receive: Receive) -> Reply:
        method, endpoint = incoming.scope["method"], self._endpoint(incoming.scope)
        if endpoint is None:
            raise Refused(404, "there is nothing here")
        allowed = ("GET", "HEAD") if endpoint == "metadata" else ("POST",)
        allow = {"allow": ", ".join((*allowed, "OPTIONS"))}
        if method == "OPTIONS":
            return Reply(204, None, allow)
        if method not in allowed:
            raise Refused(405, "this is not asked with that method", allow)
        if endpoint == "metadata":
            return Reply(200, self.metadata, {"cache-control": f"max-age={METADATA_AGE}"})
        caller = await self.guarding.caller(incoming)
        told = parsed(await body_of(incoming, receive, self.limits[0]), self.limits[1])
        return Reply(200, await self._answered(endpoint, caller, told))

    def _endpoint(self, scope: Mapping[str, Any]) -> str | None:
        """Find what is asked for; below the path it is mounted at, or its identifier's."""
        path: str = scope["path"]
        if self.metadata and path == WELL_KNOWN + self.prefix:
            return "metadata"
        for prefix in (scope.get("root_path", ""), self.prefix):
            path = path[len(prefix) :] if path.startswith(f"{prefix}/") else path
        if self.metadata and path == WELL_KNOWN:
            return "metadata"
        offered = [name for name in ENDPOINTS if self.searching or name not in WANTED]
        return next((name for name in offered if ENDPOINTS[name][1] == path), None)

    async def _answered(self, endpoint: str, caller: Subject, told: Mapping[str, Any]) -> Mapping[str, Any]:
        if endpoint in WANTED:
            return await self._search(endpoint, caller, told)
        batch = self.reading.batch(told) if endpoint == "evaluations" else None
        if batch is not None:
            return {"evaluations": await self._batch(batch, caller)}
        request = self.reading.request(told)
        await self.guarding.admit(caller, request)
        (answer,) = await self.answering.answers([request])
        if answer.decision is None:
            raise _unavailable(answer)
        return self.telling.answer(answer)

    async def _batch(self, batch: Batch, caller: Subject) -> list[dict[str, Any]]:
        requests = [item for item in batch.items if not isinstance(item, Refused)]
        for request in requests:
            await self.guarding.admit(caller, request)
        if batch.semantic is not Semantic.EXECUTE_ALL:
            return await self._until(batch)
        answers = await self.answering.answers(requests) if requests else []
        if answers and len(answers) == len(batch.items) and all(one.fault in AVAILABILITY for one in answers):
            raise _unavailable(answers[0])
        each = iter(answers)
        return [
            failed(item.status, item.detail) if isinstance(item, Refused) else self.telling.answer(next(each))
            for item in batch.items
        ]

    async def _until(self, batch: Batch) -> list[dict[str, Any]]:
        """Evaluate in order; what comes after the one that settles the matter is not evaluated at all."""
        told: list[dict[str, Any]] = []
        for item in batch.items:
            if isinstance(item, Refused):
                told.append(failed(item.status, item.detail))
            else:
                told.append(self.telling.answer((await self.answering.answers([item]))[0]))
            if batch.semantic.stops_at(Effect.PERMIT if told[-1]["decision"] is True else Effect.DENY):
                break
        return told

    async def _search(self, wanted: str, caller: Subject, told: Mapping[str, Any]) -> Mapping[str, Any]:
        request = self.reading.search(wanted, told)
        await self.guarding.admit(caller, request)
        found = await self.answering.found(wanted, request)
        if isinstance(found, Fault):
            raise _unavailable(Answer("", None, found))
        each = [(hit, request.evolve(**{wanted: hit})) for hit in found.items]
        # INVARIANT: a search tells nothing that whoever asks it may not ask one by one.
        hits = [(hit, asked) for hit, asked in each if await self.guarding.admits(caller, asked)]
        answers = await self.answering.answers([asked for _hit, asked in hits]) if hits else []
        results = [self.telling.hit(hit, answer) for (hit, _asked), answer in zip(hits, answers, strict=True)]
        return self.telling.hits(results, complete=found.complete and all(one.fault is None for one in answers))


def server(
    enforcer: Enforcer,
    *,
    authenticate: Authenticate,
    may_ask: MayAsk,
    url: str | None = None,
    search: bool = False,
    explain: bool = True,
    batch: int = BATCH,
    body: int = BODY,
    depth: int = DEPTH,
    member: str = MEMBER,
    new_id: str = NEW_ID,
    challenge: str = "Bearer",
) -> Server:
    """
    Make an ASGI application that answers AuthZEN requests with what an enforcer's decision point says.

    Attribute providers, the cache and the audit log are the enforcer's; every answer is recorded as a `check`. No
    failure mode and no shadow applies, and obligations are passed on. Only `Effect.PERMIT` is ``true``; where there is
    no decision, the answer is an HTTP error, or in a batch a denial with an error.

    Args:
        enforcer: Whose decision point answers.

        authenticate: Takes an `Incoming`, and tells who asks: a `Subject`, or None. May be asynchronous.

        may_ask: Takes that subject and an `AccessRequest`, and tells whether they may ask it. May be asynchronous. Of
            what is searched for, only the type means something; every hit is asked about again, as it is, and left
            out where that may not be asked.

        url: The server's identifier, ``https://host[:port][/prefix]``, which its metadata tells; without it, there is
            no metadata.

        search: Whether searches are answered; every hit is asked about before it is told.

        explain: Whether reasons, policies and revision are told; not to be shown to the subject.

        batch: How many evaluations a batch may have; with those of its actors, a message may make ten times as many.

        body: How many bytes a request may have.

        depth: How deep a request may be nested.

        member: The member of a context that holds tenant and actors.

        new_id: The id that stands for a resource without one.

        challenge: What ``WWW-Authenticate`` says to whom nobody knows.

    Raises:
        ConfigurationError: When an argument will not do, or the decision point cannot search.

    Source:
        OpenID AuthZEN Authorization API 1.0.
    """
    _check((authenticate, may_ask), (batch, body, depth), (member, new_id), challenge)
    answering, known = Answering(enforcer), _checked_identifier(url)
    if search and not answering.searches:
        message = "the decision point cannot search; drop `search`"
        raise ConfigurationError(message)
    return Server(
        Guarding(authenticate, may_ask, challenge),
        answering,
        Reading(member, new_id, batch),
        Telling(member, explain),
        _metadata(known, search=search),
        urlsplit(known or "").path,
        (body, depth),
        search,
    )


def _unavailable(answer: Answer) -> Refused:
    status, message = problem_of(answer)
    return Refused(status, message, {"retry-after": "1"} if status == 503 else None)  # noqa: PLR2004  unavailable


async def _lifespan(receive: Receive, send: Send) -> None:
    """Start and stop with the server; the enforcer is its owner's to close."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _metadata(url: str | None, *, search: bool) -> dict[str, Any]:
    if url is None:
        return {}
    offered = {member: url + path for name, (member, path) in ENDPOINTS.items() if search or name not in WANTED}
    return {"policy_decision_point": url, **offered}


def _checked_identifier(url: object) -> str | None:
    if url is None:
        return None
    known = checked_url(url)
    if known != url or not (known.startswith("https:") or urlsplit(known).hostname in _LOOPBACK):
        message = "`url` must be `https`, without a slash at its end; `http` is for loopback"
        raise ConfigurationError(message)
    return known


def _check(
    callables: tuple[object, ...], numbers: tuple[object, ...], names: tuple[object, ...], challenge: object
) -> None:
    wrong = ""
    if not all(map(callable, callables)):
        wrong = "an AuthZEN server needs callables `authenticate` and `may_ask`"
    elif not all(type(number) is int and number > 0 for number in numbers):
        wrong = "`batch`, `body` and `depth` must be whole numbers, one or more"
    elif not all(type(name) is str and name and name not in TAKEN for name in names):
        wrong = "`member` and `new_id` must be texts that are not empty, and no members AuthZEN knows"
    elif type(challenge) is not str or not challenge or not challenge.isascii() or not challenge.isprintable():
        wrong = "`challenge` must be printable, such as `Bearer`"
    if wrong:
        raise ConfigurationError(wrong)
