"""The relationship engines conform, over real sockets, against models of their servers and against the real SpiceDB."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import orjson
import pytest

from pep import AccessRequest, Decision, Effect, Enforcer, Resource, Subject
from pep.audit import MemorySink
from pep.clock import SystemClock
from pep.drive import APerformer, Performer, arun, run
from pep.errors import PDPError, PDPRejected, PDPReplyError, PDPUnavailable
from pep.exchange import HTTPRequest
from pep.pdp.openfga import OpenFGAPDP
from pep.pdp.spicedb import SpiceDBPDP
from pep.plan import Raised
from pep.testing import check_pdp
from pep.transport import HTTPTransport
from tests.openfga_server import MODEL, STORE, OpenFGA
from tests.relationship_http import LoopbackTransport, serving
from tests.spicedb_server import KEY, Model, Relationship, real_spicedb, updates

DOCUMENT = Resource("document", "1")
ALICE, BOB, MALLORY, ENG = (Subject("user", name) for name in ("alice", "bob", "mallory", "eng"))
PERMITTED = AccessRequest(ALICE, "edit", DOCUMENT)
DENIED = AccessRequest(MALLORY, "edit", DOCUMENT)


@attrs.frozen
class Served:
    """An engine that holds the same relationships as the others, and what asks it."""

    pdp: Any
    make: Callable[[], Any]
    model: Any = None


RELATIONSHIPS = (
    Relationship("document:1", "owner", "user:alice"),
    Relationship("group:eng", "member", "user:bob"),
    Relationship("document:2", "reader", "group:eng#member"),
    Relationship("document:3", "reader", "user:*"),
    Relationship("document:4", "reader", "user:bob", wanted="acme"),
)


def served_openfga(transport: HTTPTransport) -> Iterator[Served]:
    relations = {
        "user": {},
        "group": {"member": ()},
        "document": {"owner": (), "reader": (), "edit": ("owner",), "view": ("reader", "owner")},
    }
    tuples = {(one.subject, one.relation, one.resource): "acme" if one.wanted else None for one in RELATIONSHIPS}
    model = OpenFGA(relations, tuples, {"acme": (("tenant",), lambda tenant: tenant == "acme")})
    with serving(model) as url:

        def make() -> OpenFGAPDP:
            return OpenFGAPDP(url, STORE, model=MODEL, parameters={"tenant": "tenant"}, transport=transport)

        yield Served(make(), make, model)


def spicedb(url: str, transport: HTTPTransport, model: object = None) -> Served:
    write = HTTPRequest(
        "POST",
        f"{url}/v1/relationships/write",
        {"authorization": f"Bearer {KEY}"},
        orjson.dumps(updates(RELATIONSHIPS)),
    )
    reply: Any = LoopbackTransport().send(write, timeout=10, awaiting=False)
    token = orjson.loads(reply.body)["writtenAt"]["token"]

    def make() -> SpiceDBPDP:
        pdp = SpiceDBPDP(url, token=KEY, parameters={"tenant": "tenant"}, transport=transport)
        pdp.at_least(token)
        return pdp

    return Served(make(), make, model)


def served_model(transport: HTTPTransport) -> Iterator[Served]:
    model = Model()
    with serving(model) as url:
        yield spicedb(url, transport, model)


def served_spicedb(transport: HTTPTransport) -> Iterator[Served]:
    with real_spicedb() as url:
        yield spicedb(url, transport)


ENGINES = {"openfga": served_openfga, "spicedb": served_model, "real spicedb": served_spicedb}


@pytest.fixture(scope="module", params=ENGINES.values(), ids=ENGINES)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    transport = HTTPTransport()
    yield from request.param(transport)
    transport.close()


def had(plan: Any) -> Any:
    return run(plan, Performer(SystemClock()))


def asked(served: Served, subject: Subject, action: str, document: str, **more: Any) -> Any:
    return had(served.pdp.decide(AccessRequest(subject, action, Resource("document", document), **more))).effect


def test_conforms(served: Served) -> None:
    """The same answer in both worlds, for any id, once and again, alone and in batches."""
    check_pdp(served.make, permitted=PERMITTED, denied=DENIED)


@pytest.mark.parametrize(
    ("subject", "action", "document", "effect"),
    [
        (ALICE, "view", "1", Effect.PERMIT),
        (ALICE, "edit", "2", Effect.DENY),
        (BOB, "view", "2", Effect.PERMIT),
        (MALLORY, "view", "2", Effect.DENY),
        (MALLORY, "view", "3", Effect.PERMIT),
        (MALLORY, "edit", "3", Effect.DENY),
        (BOB, "view", "none", Effect.DENY),
    ],
)
def test_relationships_decide(served: Served, subject: Subject, action: str, document: str, effect: Effect) -> None:
    """Owners, members of groups and everybody have what the relationships say, and no more."""
    assert asked(served, subject, action, document) is effect


def test_the_tenant_decides_a_condition(served: Served) -> None:
    """A tenant reaches the condition that asks for it, alone and in a batch."""
    request = AccessRequest(BOB, "view", Resource("document", "4"), tenant="acme")
    other = request.evolve(tenant="other")
    assert had(served.pdp.decide(request)).effect is Effect.PERMIT
    assert had(served.pdp.decide(other)).effect is Effect.DENY
    effects = [one.effect for one in had(served.pdp.decide_many([other, request, other]))]
    assert effects == [Effect.DENY, Effect.PERMIT, Effect.DENY]


def test_missing_context_never_permits(served: Served) -> None:
    """Without the tenant, nobody is permitted what depends on it, and a neighbour in the batch is answered."""
    request = AccessRequest(BOB, "view", Resource("document", "4"))
    alone = _caught(served, request)
    first, second = had(served.pdp.decide_many([request, PERMITTED]))
    assert second.effect is Effect.PERMIT
    for one in (alone, first):
        assert isinstance(one, (Decision, Raised))
        assert isinstance(one, Raised) or one.effect is Effect.INDETERMINATE
    if isinstance(alone, Decision):
        assert alone.reasons == ("missing context: tenant",)


def _caught(served: Served, request: AccessRequest) -> Decision | Raised:
    try:
        return had(served.pdp.decide(request))  # type: ignore[no-any-return]
    except PDPError as error:
        return Raised(error)


@pytest.mark.parametrize("name", ["*", "eng#member", "user:alice", "a b", "a\n", "alice ", "\u2028", "x" * 2000])
def test_an_id_that_would_be_read_otherwise_is_not_sent(served: Served, name: str) -> None:
    """A wildcard, a userset, another object: refused closed, alone and in a batch, as subject and as resource."""
    for request in (
        PERMITTED.evolve(subject=Subject("user", name)),
        PERMITTED.evolve(subject=Subject("group", name)),
        PERMITTED.evolve(resource=Resource("document", name)),
    ):
        with pytest.raises(PDPReplyError, match="cannot be told"):
            had(served.pdp.decide(request))
        first, second = had(served.pdp.decide_many([request, PERMITTED]))
        assert isinstance(first, Raised)
        assert second.effect is Effect.PERMIT


@pytest.mark.parametrize("kind", ["user:alice", "group#member", "*", "user ", "a@b"])
def test_a_type_that_would_be_read_otherwise_is_not_sent(served: Served, kind: str) -> None:
    """A type that ends early names something else."""
    for request in (
        PERMITTED.evolve(subject=Subject(kind, "alice")),
        PERMITTED.evolve(resource=Resource(kind, "1")),
    ):
        with pytest.raises(PDPReplyError, match="cannot be told"):
            had(served.pdp.decide(request))


def test_what_the_engine_does_not_know_never_permits(served: Served) -> None:
    """An unknown permission is the engine's refusal; in a batch it is that one alone."""
    request = PERMITTED.evolve(action="unknown")
    with pytest.raises(PDPRejected):
        had(served.pdp.decide(request))
    first, second = had(served.pdp.decide_many([request, PERMITTED]))
    assert isinstance(first, Raised)
    assert second.effect is Effect.PERMIT


def test_large_batches_are_answered_in_order(served: Served) -> None:
    """More than one batch holds, some of them the same: every answer is that of its question."""
    pdp = served.make()
    pdp._batch = 40
    requests = [PERMITTED.evolve(resource=Resource("document", str(index % 7))) for index in range(500)]
    effects = [one.effect for one in had(pdp.decide_many(requests))]
    assert effects == [Effect.PERMIT if index % 7 == 1 else Effect.DENY for index in range(500)]
    assert had(pdp.decide_many([])) == []


def test_threads_share_it(served: Served) -> None:
    """Asked by many threads at once, everyone gets the answer to its own question."""
    requests = [PERMITTED, DENIED] * 20
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda request: had(served.pdp.decide(request)).effect, requests))
    assert found == [Effect.PERMIT, Effect.DENY] * 20


def _found(served: Served, wanted: str, request: AccessRequest) -> Sequence[str]:
    found = had(served.pdp.search(wanted, request))
    return sorted(one.id for one in found)


def test_finds_resources(served: Served) -> None:
    """What bob may view, by group, as anybody and in his tenant."""
    request = AccessRequest(BOB, "view", Resource("document", "any"), tenant="acme")
    assert _found(served, "resource", request) == ["2", "3", "4"]
    assert _found(served, "resource", request.evolve(tenant="other")) == ["2", "3"]


def test_finds_subjects(served: Served) -> None:
    """Who may view a document; everybody is nobody that could be named, and says that there are others."""
    assert _found(served, "subject", AccessRequest(MALLORY, "edit", DOCUMENT)) == ["alice"]
    everybody = had(served.pdp.search("subject", AccessRequest(MALLORY, "view", Resource("document", "3"))))
    assert "*" not in [one.id for one in everybody]
    assert not everybody.complete
    with pytest.raises(PDPReplyError, match="no `action`"):
        had(served.pdp.search("action", PERMITTED))


def test_an_enforcer_asks_it(served: Served) -> None:
    """The whole of it: check, check_many, and a search of candidates, in both worlds."""
    with Enforcer(served.pdp, audit=MemorySink()) as enforcer:
        assert enforcer.check("edit", DOCUMENT, subject=ALICE).allowed
        assert not enforcer.check("edit", DOCUMENT, subject=MALLORY).allowed
        many = enforcer.check_many([("edit", DOCUMENT), ("view", Resource("document", "3"))], subject=MALLORY)
        assert [one.allowed for one in many] == [False, True]

    async def asynchronously() -> bool:
        decision = await arun(served.pdp.decide(PERMITTED), APerformer(SystemClock()))
        return decision.effect is Effect.PERMIT

    assert asyncio.run(asynchronously())


def test_a_probe_tells_whether_the_server_is_up(served: Served) -> None:
    """A server that serves is up; one that says it does not is unavailable."""
    had(served.pdp.probe())
    if served.model is not None:
        served.model.up = False
        try:
            with pytest.raises(PDPUnavailable):
                had(served.pdp.probe())
        finally:
            served.model.up = True
