"""A server: its metadata, its searches, and how it is made."""

from __future__ import annotations

from typing import Any

import pytest

from pep import (
    AccessRequest,
    Action,
    Decision,
    Effect,
    Enforcer,
    Obligation,
    Resource,
    Subject,
)
from pep.audit import MemorySink
from pep.errors import (
    ConfigurationError,
    PDPReplyError,
    PDPUnavailable,
)
from pep.found import Found
from pep.pdp import FunctionPDP
from pep.pdp.authzen import server
from tests.pdp.authzen.rigs import (
    ASKED,
    URL,
    anything,
    asking,
    enforcing,
    known,
    serving,
    told,
    without,
    yes,
)


def test_metadata() -> None:
    """What it is and has, for everybody; nothing where it has no name."""
    everything = serving(Searching(), search=True)
    reply = asking(everything, "/.well-known/authzen-configuration", method="GET", headers=[])
    assert (reply.status, reply.headers["cache-control"]) == (200, "max-age=3600")
    assert told(reply) == {
        "policy_decision_point": URL,
        "access_evaluation_endpoint": f"{URL}/access/v1/evaluation",
        "access_evaluations_endpoint": f"{URL}/access/v1/evaluations",
        "search_subject_endpoint": f"{URL}/access/v1/search/subject",
        "search_resource_endpoint": f"{URL}/access/v1/search/resource",
        "search_action_endpoint": f"{URL}/access/v1/search/action",
    }
    some = told(asking(serving(yes), "/.well-known/authzen-configuration", method="GET"))
    assert not any("search" in name for name in some)
    assert asking(serving(yes, url=None), "/.well-known/authzen-configuration", method="GET").status == 404


class Searching:
    """Finds what it is told to, and permits what does not begin with a `no`."""

    def __init__(self, found: Any = None) -> None:
        self.found = found
        self.asked: list[Any] = []

    def decide(self, request: AccessRequest) -> Decision:
        names = (request.subject.id, request.resource.id or "", request.action.name)
        if any(name.startswith("broken") for name in names):
            raise PDPUnavailable
        duties = [Obligation("log")] if any(name.startswith("log") for name in names) else []
        return Decision(Effect.DENY if any(name.startswith("no") for name in names) else Effect.PERMIT, duties)

    def search(self, wanted: str, request: AccessRequest) -> Any:
        self.asked.append((wanted, request))
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def searched(pdp: Searching, wanted: str, body: Any, **options: Any) -> Any:
    return asking(serving(pdp, search=True, **options), f"/access/v1/search/{wanted}", body)


def test_search() -> None:
    """Hits are asked about before they are told; what they oblige to is told with them."""
    ids = ["1", "no", "log", "2"]
    pdp = Searching(Found(tuple(Resource("record", one) for one in ids)))
    body = {**ASKED, "resource": {"type": "record", "id": "ignored"}, "page": {"limit": 1, "token": "x"}}
    reply = searched(pdp, "resource", body)
    assert reply.status == 200
    assert told(reply) == {
        "results": [
            {"type": "record", "id": "1"},
            {"type": "record", "id": "log", "obligations": [{"id": "obligation-1", "type": "log", "properties": {}}]},
            {"type": "record", "id": "2"},
        ]
    }
    ((wanted, request),) = pdp.asked
    assert (wanted, request) == ("resource", AccessRequest(Subject("user", "alice"), "read", Resource.new("record")))


@pytest.mark.parametrize(
    ("wanted", "hits", "results"),
    [
        ("subject", (Subject("user", "bob"), Subject("user", "nobody")), [{"type": "user", "id": "bob"}]),
        ("action", (Action("read"), Action("no")), [{"name": "read"}]),
        ("resource", (), []),
    ],
)
def test_everything_can_be_searched_for(wanted: str, hits: Any, results: Any) -> None:
    """Subjects, actions, and nothing at all."""
    body = {**ASKED, wanted: {"type": "user"}} if wanted == "subject" else ASKED
    assert told(searched(Searching(Found(hits)), wanted, body)) == {"results": results}
    assert told(searched(Searching(Found(hits)), wanted, without("action") if wanted == "action" else body)) == {
        "results": results
    }


def test_a_search_that_is_not_all_of_it() -> None:
    """It says so: where the decision point did, or could not be asked about a hit."""
    known_hit, broken = Resource("record", "1"), Resource("record", "broken")
    for found in (Found((known_hit,), complete=False), Found((known_hit, broken))):
        assert told(searched(Searching(found), "resource", ASKED)) == {
            "context": {"pep": {"complete": False}},
            "results": [{"type": "record", "id": "1"}],
        }


@pytest.mark.parametrize(
    ("found", "status"),
    [(PDPUnavailable("down"), 503), (PDPReplyError("?"), 500), (None, 500), ([Resource("record", "1")], 500)],
)
def test_a_search_that_fails(found: Any, status: int) -> None:
    """There is no partial list."""
    reply = searched(Searching(found), "resource", ASKED)
    assert (reply.status, "results" in told(reply)) == (status, False)


@pytest.mark.parametrize(
    ("wanted", "body"),
    [
        ("resource", without("resource")),
        ("resource", {**ASKED, "resource": {}}),
        ("resource", {**ASKED, "resource": {"type": ""}}),
        ("resource", {**ASKED, "resource": "record"}),
        ("resource", without("action")),
        ("subject", without("subject")),
        ("subject", {**ASKED, "subject": {"type": 7}}),
        ("subject", without("id", "resource")),
        ("action", without("subject")),
    ],
)
def test_what_is_no_search(wanted: str, body: Any) -> None:
    """What is searched for has a type, all else is whole."""
    assert searched(Searching(Found(())), wanted, body).status == 400


def test_a_search_knows_what_providers_know() -> None:
    """What is searched with is enriched like what is decided about; where that fails, there is no list."""

    class Roles:
        provides = frozenset({"subject.role"})
        types = None

        def provide(self, request: AccessRequest) -> dict[str, Any]:
            if request.subject.id == "broken":
                raise RuntimeError
            return {"subject.role": "admin"}

    pdp = Searching(Found(()))
    application = serving(enforcing(pdp, attributes=[Roles()]), search=True)
    claiming = {**ASKED, "subject": {"type": "user", "id": "alice", "properties": {"role": "root"}}}
    assert asking(application, "/access/v1/search/resource", claiming).status == 200
    assert dict(pdp.asked[0][1].subject.properties) == {"role": "admin"}
    broken = {**ASKED, "subject": {"type": "user", "id": "broken"}}
    assert asking(application, "/access/v1/search/resource", broken).status == 500


def test_a_decision_point_that_came_later_may_not_search() -> None:
    """An enforcer that was unbound is bound to whatever it is bound to."""
    enforcer = Enforcer.unbound("later")
    application = serving(enforcer, search=True)
    assert asking(application, "/access/v1/search/resource", ASKED).status == 503
    enforcer.bind(yes, audit=MemorySink())
    assert asking(application, "/access/v1/search/resource", ASKED).status == 500


def test_who_may_search() -> None:
    """`may_ask` sees the search, too."""
    reply = searched(
        Searching(Found(())), "resource", ASKED, may_ask=lambda _caller, request: not request.resource.is_new
    )
    assert reply.status == 403


@pytest.mark.parametrize(
    ("wanted", "hits", "results"),
    [
        ("subject", (Subject("user", "bob"), Subject("user", "secret")), [{"type": "user", "id": "bob"}]),
        ("resource", (Resource("record", "1"), Resource("record", "secret")), [{"type": "record", "id": "1"}]),
        ("action", (Action("read"), Action("secret")), [{"name": "read"}]),
    ],
)
def test_a_search_tells_nothing_that_may_not_be_asked(wanted: str, hits: Any, results: Any) -> None:
    """A hit is an answer to a question; whoever may not ask that does not find it, and nobody is asked about it."""

    async def may_ask(_caller: Subject, request: AccessRequest) -> bool:
        return "secret" not in {request.subject.id, request.resource.id, request.action.name}

    pdp = Searching(Found(hits))
    body = {**ASKED, wanted: {"type": "user"}} if wanted == "subject" else ASKED
    sink = MemorySink()
    reply = asking(
        serving(enforcing(pdp, audit=sink), search=True, may_ask=may_ask), f"/access/v1/search/{wanted}", body
    )
    assert told(reply) == {"results": results}
    assert sum(record["kind"] == "check" for record in sink.records) == 1


def test_a_search_counts_its_actors() -> None:
    """Every hit is asked about for each of them."""
    more = {"pep": {"actors": [{"type": "agent", "id": str(number)} for number in range(10)]}}
    pdp = Searching(Found((Resource("record", "1"),)))
    assert searched(pdp, "resource", {**ASKED, "context": more}, batch=2).status == 200
    assert searched(pdp, "resource", {**ASKED, "context": more}, batch=1).status == 413


@pytest.mark.parametrize(
    "odd",
    [
        {"authenticate": None},
        {"may_ask": True},
        {"batch": 0},
        {"body": 1.5},
        {"depth": True},
        {"member": ""},
        {"member": "error"},
        {"new_id": 7},
        {"challenge": ""},
        {"challenge": "Bearer\r\nx: y"},
        {"challenge": "Bêarer"},
        {"challenge": 7},
        {"url": "http://pdp.example.com"},
        {"url": f"{URL}/"},
        {"url": "pdp"},
        {"search": True},
    ],
)
def test_odd_arguments(odd: dict[str, Any]) -> None:
    """What will not do is told when it is made."""
    with pytest.raises(ConfigurationError):
        serving(yes, **odd)


@pytest.mark.parametrize("odd", [FunctionPDP(yes), yes, None, Enforcer])
def test_it_needs_an_enforcer(odd: Any) -> None:
    """A decision point alone records nothing."""
    with pytest.raises(ConfigurationError, match="is no enforcer"):
        server(odd, authenticate=known, may_ask=anything)


def test_both_are_required() -> None:
    """There is no default for who may ask."""
    enforcer = enforcing(yes)
    with pytest.raises(TypeError):
        server(enforcer, authenticate=known)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        server(enforcer, may_ask=anything)  # type: ignore[call-arg]
    serving(Enforcer.unbound("later"), search=True, url="http://localhost:8000")
