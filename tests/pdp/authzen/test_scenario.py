"""The published scenarios over real HTTP: our server under uvicorn, our client, and Cerbos's AuthZEN endpoint."""

from __future__ import annotations

import asyncio
import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest

from pep import AccessRequest, Action, Effect, Enforcer, Resource, Subject
from pep.audit import MemorySink
from pep.clock import SystemClock
from pep.drive import APerformer, arun
from pep.errors import PDPRejected
from pep.exchange import HTTPReply, HTTPRequest
from pep.found import Found
from pep.pdp.authzen import AuthZENPDP, Metadata, Semantic
from pep.policy import PolicySet, action, permit, resource, subject
from pep.steps import Raised
from tests.cerbos_server import cerbos_servers, resource_policy, rule
from tests.pdp.authzen.rigs import TOKEN, asking, driven, enforcing, served, serving

pytest.importorskip("uvicorn", reason="uvicorn serves the application")
transport = pytest.importorskip("pep.transport", reason="the transport needs the extra `httpx`")

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "todo"
PERMIT, DENY = Effect.PERMIT, Effect.DENY


class Noted:
    """A real transport that notes what crosses."""

    def __init__(self, **options: Any) -> None:
        self.real = transport.HTTPTransport(**options)
        self.crossed: list[tuple[HTTPRequest, HTTPReply]] = []

    def send(self, request: HTTPRequest, /, *, timeout: float, awaiting: bool) -> Any:
        found = self.real.send(request, timeout=timeout, awaiting=awaiting)
        if awaiting:
            return self._awaited(request, found)
        self.crossed.append((request, found))
        return found

    async def _awaited(self, request: HTTPRequest, found: Any) -> HTTPReply:
        reply: HTTPReply = await found
        self.crossed.append((request, reply))
        return reply


@pytest.fixture
def noted() -> Iterator[Noted]:
    """A transport with the gateway's token."""
    made = Noted(credentials=TOKEN)
    yield made
    made.real.close()


class Users:
    """The users of the scenario, as the server's enforcer knows them."""

    provides = frozenset({"subject.roles", "subject.email"})
    types = frozenset({"user"})

    def __init__(self, users: dict[str, Any]) -> None:
        self._users = users

    def provide(self, request: AccessRequest) -> dict[str, Any]:
        known = self._users.get(request.subject.id, {})
        return {f"subject.{name}": value for name, value in known.items()}


@pytest.fixture
def todo(vectors: Path) -> Iterator[str]:
    """The todo scenario's policies, embedded here, served to others."""
    users = json.loads((vectors / "authzen" / "todo_users.json").read_text(encoding="utf-8"))
    policies = runpy.run_path(str(EXAMPLE / "policies.py"))["POLICIES"]
    enforcer = Enforcer(policies, audit=MemorySink(), attributes=[Users(users)])
    with served(serving(enforcer, url=None)) as url:
        yield url


def published(vectors: Path, name: str) -> Any:
    return json.loads((vectors / "authzen" / name).read_text(encoding="utf-8"))


def test_every_published_decision(todo: str, vectors: Path, noted: Noted) -> None:
    """Each of the scenario's 40 requests is answered as published, from threads and tasks; every message is valid."""
    pdp = AuthZENPDP(todo, transport=noted)
    cases = published(vectors, "todo_decisions.json")["evaluation"]
    assert len(cases) == 40
    requests = [AccessRequest.from_dict(case["request"]) for case in cases]
    expected = [PERMIT if case["expected"] else DENY for case in cases]
    assert [collapsed(driven(pdp.decide(request)).effect) for request in requests] == expected

    async def later() -> list[Effect]:
        performer = APerformer(SystemClock())
        found = [collapsed((await arun(pdp.decide(request), performer)).effect) for request in requests]
        await noted.real.aclose()
        return found

    assert asyncio.run(later()) == expected
    asked = published(vectors, "api_schemas_evaluation-request.schema.json")
    told = published(vectors, "api_schemas_evaluation-response.schema.json")
    assert len(noted.crossed) == 80
    for request, reply in noted.crossed:
        jsonschema.validate(orjson.loads(request.body), asked)
        jsonschema.validate(orjson.loads(reply.body), told)
        assert reply.headers["x-request-id"] == request.headers["x-request-id"]


def test_every_published_batch(todo: str, vectors: Path, noted: Noted) -> None:
    """Each of the scenario's 3 batches is answered as published, as it is published and as our client writes it."""
    pdp = AuthZENPDP(todo, transport=noted)
    cases = published(vectors, "todo_decisions.json")["evaluations"]
    assert len(cases) == 3
    for case in cases:
        shared = {name: value for name, value in case["request"].items() if name != "evaluations"}
        requests = [AccessRequest.from_dict(shared | item) for item in case["request"]["evaluations"]]
        expected = [PERMIT if one["decision"] else DENY for one in case["expected"]]
        assert [collapsed(one.effect) for one in driven(pdp.decide_many(requests))] == expected
        headers = {"content-type": "application/json"}
        raw = HTTPRequest("POST", f"{todo}/access/v1/evaluations", headers, orjson.dumps(case["request"]))
        reply = orjson.loads(noted.send(raw, timeout=30, awaiting=False).body)
        assert [{"decision": one["decision"]} for one in reply["evaluations"]] == case["expected"]
    told = published(vectors, "api_schemas_evaluation-response.schema.json")
    for _request, reply in noted.crossed:
        for one in orjson.loads(reply.body)["evaluations"]:
            jsonschema.validate(one, told)


def test_whoever_is_not_known_is_not_answered(todo: str) -> None:
    """A wrong token is no denial; it is we who were refused."""
    stranger = transport.HTTPTransport(credentials="other")
    try:
        with pytest.raises(PDPRejected):
            driven(AuthZENPDP(todo, transport=stranger).decide(REQUEST))
    finally:
        stranger.close()


REQUEST = AccessRequest(Subject("user", "alice"), "read", Resource("record", "record-1"))


# The fixture of AuthZEN's certification scenario.

is_admin = subject.role == "admin"

CERTIFIED = PolicySet([
    permit("reads", action="read", resource="record", when=(subject.id == "alice") | (subject.id == "bob")),
    permit("writes", action="write", resource="record", when=(subject.id == "alice") & (resource.status == "active")),
    permit("admins", action="write", resource="record", when=is_admin & (resource.status == "archived")),
    permit("soft", action="delete", resource="record", when=(subject.id == "alice") & (action.soft == True)),  # noqa: E712  a condition
])  # fmt: skip


class Records:
    """What the fixture knows of its resources, where a request does not say."""

    provides = frozenset({"resource.status"})
    types = frozenset({"record"})

    def provide(self, request: AccessRequest) -> dict[str, Any]:
        return {"resource.status": {"record-1": "active", "record-2": "archived"}.get(request.resource.id or "")}


def certified(**options: Any) -> Any:
    return serving(enforcing(CERTIFIED, attributes=[Records()]), **options)


def evaluation(
    who: str, what: str, record: str, *, role: str | None = None, soft: bool | None = None
) -> dict[str, Any]:
    return {
        "subject": {"type": "user", "id": who, **({"properties": {"role": role}} if role else {})},
        "action": {"name": what, **({} if soft is None else {"properties": {"soft": soft}})},
        "resource": {"type": "record", "id": record},
    }


@pytest.mark.parametrize(
    ("body", "decision"),
    [
        (evaluation("alice", "read", "record-1"), True),
        (evaluation("alice", "write", "record-1"), True),
        (evaluation("bob", "read", "record-1"), True),
        (evaluation("bob", "write", "record-1"), False),
        (evaluation("alice", "write", "record-2"), False),
        (evaluation("bob", "write", "record-2", role="admin"), True),
        (evaluation("alice", "delete", "record-1", soft=True), True),
        (evaluation("alice", "delete", "record-1", soft=False), False),
    ],
)
def test_the_certification_fixture(body: dict[str, Any], decision: bool) -> None:
    """The eight decisions a certified decision point gives, again and again."""
    application = certified()
    for _ in range(3):
        assert orjson.loads(asking(application, "/access/v1/evaluation", body).body)["decision"] is decision


def test_the_certification_batches() -> None:
    """Its batches: inheritance of whole parts, and an evaluation that lacks one."""
    application = certified()
    body = evaluation("alice", "write", "record-1")
    two = {**body, "evaluations": [{}, {"resource": {"type": "record", "id": "record-2"}}]}
    reply = orjson.loads(asking(application, "/access/v1/evaluations", two).body)
    assert [one["decision"] for one in reply["evaluations"]] == [True, False]
    short = {
        "subject": body["subject"],
        "action": {"name": "read"},
        "evaluations": [{"resource": body["resource"]}, {}],
    }
    reply = asking(application, "/access/v1/evaluations", short)
    assert reply.status == 200
    assert [one["decision"] for one in orjson.loads(reply.body)["evaluations"]] == [True, False]


# Discovery and search, from one side to the other.


class Searchable:
    """Some policies, and a list of what there is."""

    def decide(self, request: AccessRequest) -> Any:
        return CERTIFIED.decide(request)

    def search(self, wanted: str, request: AccessRequest) -> Found:
        if wanted == "subject":
            return Found(tuple(Subject("user", name) for name in ("alice", "bob", "mallory")))
        if wanted == "action":
            return Found(tuple(Action(name) for name in ("read", "write", "delete")))
        return Found(tuple(Resource("record", f"record-{number}") for number in range(1, 4)), complete=False)


def test_a_search_is_found_again(noted: Noted) -> None:
    """What is found over there is what is permitted, as the other side says, and as complete as that."""
    application = serving(enforcing(Searchable(), attributes=[Records()]), url=None, search=True)
    with served(application) as url:
        pdp = AuthZENPDP(url, transport=noted)
        assert driven(pdp.search("subject", REQUEST)) == Found((Subject("user", "alice"), Subject("user", "bob")))
        assert driven(pdp.search("action", REQUEST)) == Found((Action("read"), Action("write")))
        found = driven(pdp.search("resource", REQUEST.evolve(action="write")))
        assert found == Found((Resource("record", "record-1"),), complete=False)


def test_a_server_is_discovered(noted: Noted) -> None:
    """Over HTTP: by its metadata, with its prefix, in both worlds."""
    placed: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await placed[0](scope, receive, send)

    with served(application_with_lifespan(application)) as url:
        placed.append(certified(url=f"{url}/tenant1"))
        pdp = AuthZENPDP(f"{url}/tenant1", transport=noted, discover=True)
        driven(pdp.probe())
        assert driven(pdp.decide(REQUEST)).effect is PERMIT
        assert asyncio.run(discovered_and_asked(AuthZENPDP(f"{url}/tenant1", transport=noted, discover=True), noted))
        assert isinstance(pdp._metadata, Metadata)
        assert set(pdp._metadata.endpoints) == {"evaluation", "evaluations"}


async def discovered_and_asked(pdp: AuthZENPDP, noted: Noted) -> bool:
    found = await arun(pdp.decide(REQUEST), APerformer(SystemClock()))
    await noted.real.aclose()
    return found.effect is PERMIT


def application_with_lifespan(application: Any) -> Any:
    """An application that is there before what it serves."""
    empty = serving(enforcing(CERTIFIED))

    async def called(scope: Any, receive: Any, send: Any) -> None:
        await (application if scope["type"] == "http" else empty)(scope, receive, send)

    return called


# Cerbos.


@pytest.fixture(scope="module")
def cerbos() -> Iterator[str]:
    """A real Cerbos that speaks AuthZEN; skips where there is none."""
    document = resource_policy(
        "document",
        rule("view", roles=("user",)),
        rule("edit", roles=("user",), when="R.attr.owner == P.id"),
        rule("flagged", roles=("user",), when="P.attr.ok == true"),
    )
    with cerbos_servers() as start:
        yield start({"document": document}).url


def asked(what: str, owner: str = "alice", *, who: str = "alice", ok: bool = True, number: str = "1") -> AccessRequest:
    person = Subject("user", who, {"cerbos.roles": ["user"], "ok": ok})
    return AccessRequest(person, what, Resource("document", number, {"owner": owner}))


@pytest.fixture
def plain() -> Iterator[Noted]:
    """A transport without a token."""
    made = Noted()
    yield made
    made.real.close()


def test_cerbos_answers(cerbos: str, plain: Noted) -> None:
    """One by one, in a batch of different contexts and none, up to the first, with a tenant and for a new resource."""
    pdp = AuthZENPDP(cerbos, transport=plain, discover=True)
    driven(pdp.probe())
    requests = [
        asked("view", "bob"),
        asked("edit", number="2"),
        asked("edit", "bob", number="3").evolve(context={"ip": "192.0.2.1"}),
        asked("edit", "bob", number="4").evolve(tenant="acme"),
        asked("view").about(Resource.new("document", {"owner": "alice"})),
        asked("nothing", number="5"),
    ]
    expected = [PERMIT, PERMIT, DENY, DENY, PERMIT, DENY]
    assert [driven(pdp.decide(request)).effect for request in requests] == expected
    assert [one.effect for one in driven(pdp.decide_many(requests))] == expected
    assert driven(pdp.decide_many(requests[:1]))[0].effect is PERMIT
    stopped = driven(pdp.decide_until(requests, Semantic.DENY_ON_FIRST_DENY))
    assert [one.effect for one in stopped[:3]] == expected[:3]
    assert [one.reasons for one in stopped[3:]] == [("not evaluated",)] * 3
    assert {reply.status for _, reply in plain.crossed} == {200}
    with pytest.raises(PDPRejected):
        driven(pdp.search("resource", requests[0]))


def test_cerbos_is_not_confused_by_one_id_with_two_meanings(cerbos: str, plain: Noted) -> None:
    """
    Nobody is permitted what was permitted about another version of the same thing.

    Cerbos 0.51 answers all that one message says of one subject and one resource like the first of it.
    """
    pdp = AuthZENPDP(cerbos, transport=plain)
    for requests in (
        [asked("edit", "alice"), asked("edit", "bob")],
        [asked("edit", "bob"), asked("edit", "alice")],
        [asked("flagged", ok=True), asked("flagged", ok=False)],
        [asked("view", "x"), asked("edit", "alice"), asked("edit", "bob")],
        [asked("edit", "carol", who="carol"), asked("edit", "carol"), asked("edit", "alice")],
    ):
        alone = [driven(pdp.decide(request)).effect for request in requests]
        together = driven(pdp.decide_many(requests))
        assert not any(isinstance(one, Raised) for one in together)
        assert [one.effect for one in together] == alone
        until = driven(pdp.decide_until(requests, Semantic.EXECUTE_ALL))
        assert [one.effect for one in until] == alone


def collapsed(effect: Effect) -> Effect:
    """What AuthZEN's ``false`` says of it."""
    return PERMIT if effect is PERMIT else DENY
