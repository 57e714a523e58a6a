"""
An AuthZEN decision point, asked over HTTP.

Imports plans, asking over HTTP, and the rest of this package's client side only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import attrs

from pep.errors import ConfigurationError, PDPMismatched, PDPRejected, PDPReplyError
from pep.found import Found
from pep.frozen import EMPTY
from pep.model import AccessRequest, Decision
from pep.pdp.authzen.batches import NOT_EVALUATED, Semantic, packed, runs, spread, unpacked, unpacked_until
from pep.pdp.authzen.codec import MEMBER, NEW_ID, TAKEN, Codec
from pep.pdp.authzen.metadata import Metadata, checked_origins, discovery, origin_of
from pep.pdp.authzen.searching import WANTED, Bounds, Search, checked_wanted
from pep.pdp.remote import Remote
from pep.plan import Plan, Raised, contain, gather
from pep.protocols import Transport

#: How many evaluations go into one message.
BATCH: Final = 50

#: How many messages are in the air at once.
ABREAST: Final = 16


class _Place(NamedTuple):
    """Where an endpoint is."""

    remote: Remote
    path: str


class AuthZENPDP:
    """
    A decision point that speaks AuthZEN 1.0.

    Without metadata, its endpoints are taken to be at their default paths below the URL. With *metadata* that was had
    before, or with *discover*, they are where it says; what it does not name is not used: a batch is then asked one by
    one, and there is no search.

    AuthZEN has no place for a tenant and for actors: they go into ``context`` as ``{"pep": {"tenant": ..., "actors":
    [...]}}``. **A decision point that does not look there decides without them.**

    Args:
        url: Its identifier, ``https://host[:port][/prefix]``.

        transport: What sends requests; a `pep.transport.HTTPTransport` of its own unless given.

        headers: Header's name → value, sent with every request.

        metadata: What it told of itself; see `discovery`.

        discover: Whether to ask for its metadata before the first question.

        admit: Other origins, such as ``https://eu.pdp.example.com``, that discovered endpoints may be at.

        batch: How many evaluations go into one message at most; several messages go side by side.

        member: The member of a context that holds tenant and actors.

        new_id: The id that stands for a resource without one; a real one that equals it is refused.

        supported_obligations: The obligation types that are told to be understood; none is told where there are none.

        strict_context: Whether a permit is refused whose context has a member that is not understood.

        bounds: How far a search goes.

        probe: A path, such as ``"/health"``, that tells whether it is up; its metadata does where that is known.

        name: Its identity, in records and cache keys; by default of the URL.

    Raises:
        ConfigurationError: When an argument will not do.

    Source:
        OpenID AuthZEN Authorization API 1.0.
    """

    #: Its answers depend on more than the request.
    pure = False

    #: Finds what could be permitted, see `pep.protocols.SearchPDP`; only there where it can.
    search: Callable[[str, AccessRequest], Plan[Found]]

    #: Tells whether it is up; only there where it can.
    probe: Callable[[], Plan[None]]

    def __init__(
        self,
        url: str,
        *,
        transport: Transport | None = None,
        headers: Mapping[str, str] = EMPTY,
        metadata: Metadata | None = None,
        discover: bool = False,
        admit: Iterable[str] = (),
        batch: int = BATCH,
        member: str = MEMBER,
        new_id: str = NEW_ID,
        supported_obligations: Collection[str] = (),
        strict_context: bool = False,
        bounds: Bounds | None = None,
        probe: str | None = None,
        name: str | None = None,
    ) -> None:
        bounds = Bounds() if bounds is None else bounds
        names = (member, new_id, "authzen" if name is None else name)
        _check(url, metadata=metadata, discover=discover, batch=batch, names=names, bounds=bounds, probe=probe)
        self._url, self._headers = url, dict(headers)
        self._remote = Remote(url, transport=transport, headers=headers)
        self._remotes = {origin: self._at(origin) for origin in (origin_of(url), *checked_origins(admit))}
        supported = _types(supported_obligations)
        self._codec = Codec(member, new_id, supported, strict_context)
        self._batch, self._bounds, self._probed = batch, bounds, probe
        self._discovers = discover
        self._metadata = metadata if metadata is not None or discover else Metadata.assumed(self._remote.url)
        #: Its identity.
        self.name = f"authzen({self._remote.url})" if name is None else name
        if self._metadata is None or any(wanted in self._metadata.endpoints for wanted in WANTED):
            self.search = self._search
        if probe is not None or discover or metadata is not None:
            self.probe = self._probe

    def decide(self, request: AccessRequest) -> Plan[Decision]:
        """
        Ask one question.

        Raises:
            PDPError: When there was no decision, or the request cannot be written without ambiguity.
        """
        metadata = yield from self._known()
        place = self._place(metadata, "evaluation")
        codec = self._telling(metadata)
        return codec.decision((yield from place.remote.post(place.path, codec.request(request))))

    def decide_many(self, requests: Sequence[AccessRequest]) -> Plan[list[Decision | Raised]]:
        """
        Ask many questions, in as few messages as may be.

        Raises:
            PDPMismatched: When a message was answered with more or fewer decisions than were asked for.

            PDPError: When there was no answer at all.
        """
        metadata = yield from self._known()
        if "evaluations" not in metadata.endpoints:
            return (yield from self._one_by_one(requests))
        found: list[Decision | Raised | None] = [None] * len(requests)
        bodies: list[tuple[int, dict[str, Any]]] = []
        codec = self._telling(metadata)
        for index, request in enumerate(requests):
            try:
                bodies.append((index, codec.request(request)))
            except PDPReplyError as error:
                found[index] = Raised(error)
        yield from self._filled(metadata, bodies, found)
        return [one for one in found if one is not None]

    def decide_until(self, requests: Sequence[AccessRequest], semantic: Semantic) -> Plan[list[Decision | Raised]]:
        """
        Ask questions in order, up to the one that settles the matter.

        Args:
            requests: In the order they are evaluated.

            semantic: What settles it.

        Returns:
            One for each request; those that were not evaluated are `Effect.INDETERMINATE`, ``"not evaluated"``, so
            that nobody takes them for permitted.

        Raises:
            PDPMismatched: When a message was answered with decisions missing for no reason.

            PDPRejected: When it takes no batches.

            PDPError: When there was no answer, or a request cannot be written without ambiguity.
        """
        metadata = yield from self._known()
        place, codec = self._place(metadata, "evaluations"), self._telling(metadata)
        found: list[Decision | Raised] = []
        for few in runs([codec.request(request) for request in requests], self._batch) if requests else ():
            told = yield from place.remote.post(place.path, packed(few, semantic))
            answers, settled = unpacked_until(told, len(few), codec, semantic)
            found += answers
            if settled:
                break
        return found + [NOT_EVALUATED] * (len(requests) - len(found))

    def health(self) -> Mapping[str, Any]:
        """Tell where it is asked, and whether its metadata is known."""
        return {"url": self._url, "metadata": "due" if self._metadata is None else "known"}

    def close(self) -> None:
        """Close its own transport; see `pep.pdp.remote.Remote.close`."""
        self._remote.close()

    async def aclose(self) -> None:
        """Close its own transport."""
        await self._remote.aclose()

    def _search(self, wanted: str, request: AccessRequest) -> Plan[Found]:
        metadata = yield from self._known()
        place = self._place(metadata, checked_wanted(wanted))
        search = Search(place.remote, place.path, self._telling(metadata), self._bounds)
        return (yield from search.run(wanted, request))

    def _probe(self) -> Plan[None]:
        if self._probed is not None:
            yield from self._remote.reach(self._probed)
            return
        metadata = yield from self._discovered()
        if self._discovers:
            self._metadata = metadata

    def _known(self) -> Plan[Metadata]:
        metadata = self._metadata
        if metadata is None:
            metadata = self._metadata = yield from self._discovered()
        return metadata

    def _discovered(self) -> Plan[Metadata]:
        origins = list(self._remotes)[1:]
        return (yield from discovery(self._url, transport=self._remote.transport, headers=self._headers, admit=origins))

    def _telling(self, metadata: Metadata) -> Codec:
        """Return how to write requests: only obligation types that may come are told to be understood."""
        codec, issued = self._codec, metadata.obligations
        if issued is None or set(codec.supported) <= set(issued):
            return codec
        return attrs.evolve(codec, supported=tuple(one for one in codec.supported if one in issued))

    def _place(self, metadata: Metadata, endpoint: str) -> _Place:
        url = metadata.endpoints.get(endpoint)
        remote = None if url is None else self._remotes.get(origin_of(url))
        if url is None or remote is None:
            message = f"`{self._url}` has no endpoint for this: `{endpoint}`"
            raise PDPRejected(message)
        return _Place(remote, urlsplit(url).path)

    def _at(self, origin: str) -> Remote:
        return Remote(origin, transport=self._remote.transport, headers=self._headers)

    def _filled(
        self, metadata: Metadata, bodies: Sequence[tuple[int, dict[str, Any]]], found: list[Decision | Raised | None]
    ) -> Plan[None]:
        """Ask in messages, side by side, and put what comes back where it belongs."""
        places = spread([body for _, body in bodies], self._batch)
        chunks = [[bodies[place] for place in few] for few in places]
        for first in range(0, len(chunks), ABREAST):
            abreast = chunks[first : first + ABREAST]
            replies = yield from _side_by_side([self._message(metadata, [body for _, body in few]) for few in abreast])
            failed = [reply.error for reply in replies if isinstance(reply, Raised)]
            broken = [error for error in failed if isinstance(error, PDPMismatched) or len(chunks) == 1]
            if broken:
                raise broken[0]
            for few, reply in zip(abreast, replies, strict=True):
                answers = [reply] * len(few) if isinstance(reply, Raised) else reply.value
                for (index, _), answer in zip(few, answers, strict=True):
                    found[index] = answer

    def _message(self, metadata: Metadata, bodies: Sequence[dict[str, Any]]) -> Plan[list[Decision | Raised]]:
        place = self._place(metadata, "evaluations")
        told = yield from place.remote.post(place.path, packed(bodies))
        return unpacked(told, len(bodies), self._codec)

    def _one_by_one(self, requests: Sequence[AccessRequest]) -> Plan[list[Decision | Raised]]:
        found: list[Decision | Raised] = []
        for start in range(0, len(requests), ABREAST):
            replies = yield from _side_by_side([self.decide(one) for one in requests[start : start + ABREAST]])
            found += [reply if isinstance(reply, Raised) else reply.value for reply in replies]
        return found

    def __repr__(self) -> str:
        return f"<AuthZENPDP {self._url}>"


def _side_by_side(plans: Sequence[Plan[Any]]) -> Plan[Sequence[Any]]:
    if len(plans) == 1:
        return [(yield from contain(plans[0]))]
    return (yield from gather(*plans)) if plans else []


def _types(types: object) -> tuple[str, ...]:
    if isinstance(types, str) or not isinstance(types, Collection) or not all(type(one) is str for one in types):
        message = "`supported_obligations` must be a collection of obligation types"
        raise ConfigurationError(message)
    return tuple(sorted(types))


def _check(
    url: str,
    *,
    metadata: object,
    discover: bool,
    batch: object,
    names: tuple[object, ...],
    bounds: object,
    probe: object,
) -> None:
    """Look at the arguments of an adapter."""
    problem = ""
    if type(batch) is not int or batch < 1:
        problem = "`batch` must be a number of evaluations, one or more"
    elif not all(type(name) is str and name and name not in TAKEN for name in names):
        problem = "`member`, `new_id` and `name` must be texts that are not empty, and no members AuthZEN knows"
    elif metadata is not None and (type(metadata) is not Metadata or metadata.identifier != url or discover):
        problem = "`metadata` must be that of the very URL, and instead of `discover`"
    elif probe is not None and (type(probe) is not str or not probe.startswith("/")):
        problem = "`probe` must be a path like `/health`"
    elif type(bounds) is not Bounds:
        problem = "`bounds` must be `Bounds`"
    if problem:
        raise ConfigurationError(problem)
