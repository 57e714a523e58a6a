"""OPA's codec: what is sent, what is read, and that only an exact permit permits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep import AccessRequest, Action, Decision, Effect, Enforcer, Obligation, Resource, Subject
from pep.audit import MemorySink
from pep.clock import SystemClock
from pep.drive import APerformer, Performer, arun, run
from pep.errors import (
    ConfigurationError,
    PDPError,
    PDPMismatched,
    PDPOverloaded,
    PDPRejected,
    PDPReplyError,
    PDPUnavailable,
)
from pep.exchange import HTTPRequest
from pep.pdp.opa import OPAPDP
from pep.pdp.rego_input import ResultMapping, input_of
from pep.plan import Raised
from pep.policy import resource, subject
from pep.policy.parse import parse
from pep.policy.partial import AllowAll, Conditional, DenyAll
from pep.protocols import BatchPDP, RowFilterPDP, SearchPDP
from pep.testing import check_pdp
from pep.testing.transport import ScriptedTransport, replying
from pep.transport import HTTPTransport
from tests.proving import times

URL = "http://127.0.0.1:8181"
RULE = "app/authz/allow"
ALICE, DOCUMENT = Subject("user", "alice"), Resource("document", "1", {"owner": "alice"})
REQUEST = AccessRequest(ALICE, "edit", DOCUMENT)
FIELDS = {"notes.owner": resource.owner, "notes.level": resource.level}


def had(plan: Any) -> Any:
    return run(plan, Performer(SystemClock()))


def asking(*replies: object, **options: Any) -> tuple[OPAPDP, ScriptedTransport]:
    transport = ScriptedTransport(*replies)
    return OPAPDP(URL, RULE, transport=transport, **options), transport


def decided(*replies: object, **options: Any) -> Decision:
    decision: Decision = had(asking(*replies, **options)[0].decide(REQUEST))
    return decision


def test_asks_for_a_rule() -> None:
    """With the whole request as the input, the bundles' revisions, and errors that are errors."""
    request = AccessRequest(
        ALICE, Action("edit", {"via": "api"}), DOCUMENT, {"hour": 9}, [Subject("agent", "bot")], "acme"
    )
    pdp, transport = asking({"result": True}, headers={"x-team": "a"})
    had(pdp.decide(request))
    sent = transport.sent[0]
    wanted = f"{URL}/v1/data/app/authz/allow?provenance=true&strict-builtin-errors=true"
    assert (sent.method, sent.url, sent.headers["x-team"]) == ("POST", wanted, "a")
    assert transport.bodies == [{"input": input_of(request)}]
    pdp, transport = asking({"result": True}, strict=False)
    had(pdp.decide(REQUEST))
    assert transport.sent[0].url == f"{URL}/v1/data/app/authz/allow?provenance=true"


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("allow", "allow"),
        ("a/b?c=d/e#f", "a/b%3Fc%3Dd/e%23f"),
        ("a/b%2Fc/ d", "a/b%252Fc/%20d"),
        ("é/..a/x;y", "%C3%A9/..a/x%3By"),
    ],
)
def test_a_path_is_names(path: str, wanted: str) -> None:
    """Each is encoded, so that nothing in it is a query, another segment or a way up."""
    transport = ScriptedTransport({"result": True})
    had(OPAPDP(URL, path, transport=transport).decide(REQUEST))
    assert transport.sent[0].url.partition("?")[0] == f"{URL}/v1/data/{wanted}"


PROVENANCE = {"version": "1.0", "bundles": {"a": {"revision": "r1"}}}
READ = {
    "true": ({"result": True}, Decision(Effect.PERMIT)),
    "false": ({"result": False}, Decision(Effect.DENY)),
    "undefined": ({}, Decision(Effect.NOT_APPLICABLE)),
    "a warning": (
        {"warning": {"code": "api_usage_warning", "message": "'input' key missing"}},
        Decision(Effect.NOT_APPLICABLE),
    ),
    "an id": ({"result": True, "decision_id": "d1"}, Decision(Effect.PERMIT, id="d1")),
    "a revision": ({"result": True, "provenance": PROVENANCE}, Decision(Effect.PERMIT, revision="r1")),
    "several revisions": (
        {"result": True, "provenance": {"bundles": {"b": {"revision": "2"}, "a": {"revision": "1"}, "c": {}}}},
        Decision(Effect.PERMIT, revision="a=1,b=2"),
    ),
    "a revision without a bundle": (
        {"result": True, "provenance": {"revision": "old"}},
        Decision(Effect.PERMIT, revision="old"),
    ),
    "no revision": ({"result": True, "provenance": {"version": "1.0"}}, Decision(Effect.PERMIT)),
    "an empty revision": (
        {"result": True, "provenance": {"bundles": {"a": {"revision": ""}}}},
        Decision(Effect.PERMIT),
    ),
    "metrics": ({"result": True, "metrics": {}}, Decision(Effect.PERMIT)),
}


@pytest.mark.parametrize(("reply", "wanted"), READ.values(), ids=READ)
def test_reads_a_result(reply: dict[str, Any], wanted: Decision) -> None:
    """True, false or undefined; with the engine's id of the decision and the revisions that decided."""
    assert decided(reply) == wanted


def test_reads_an_object_as_it_is_told_to() -> None:
    """Effect, obligations and reasons stand where the mapping says."""
    duty = {"id": "o1", "type": "redact", "properties": {"paths": ["ssn"]}}
    result = {"allow": True, "obligations": [duty], "reasons": ["because"]}
    found = decided({"result": result, "decision_id": "d"}, mapping=ResultMapping())
    assert found.obligations == (Obligation("redact", {"paths": ["ssn"]}, "o1"),)
    assert (found.effect, found.reasons, found.id) == (Effect.PERMIT, ("because",), "d")
    assert decided({"result": {}}, mapping=ResultMapping()).effect is Effect.NOT_APPLICABLE


MALFORMED = {
    **{f"the result {value!r}": {"result": value} for value in (1, "true", None, [True], {"allow": True}, 1.0, "", [])},
    "an error": {"code": "internal_error", "message": "x"},
    "errors": {"errors": []},
    "true and an error": {"result": True, "code": "internal_error", "message": "x"},
    "true and errors": {"result": True, "errors": []},
    "an id that is none": {"result": True, "decision_id": 7},
    "an empty id": {"result": True, "decision_id": ""},
    "provenance that is a text": {"result": True, "provenance": "r1"},
    "bundles that are a list": {"result": True, "provenance": {"bundles": ["a"]}},
    "a bundle that is a text": {"result": True, "provenance": {"bundles": {"a": "r1"}}},
    "a revision that is none": {"result": True, "provenance": {"bundles": {"a": {"revision": 7}}}},
    "a list": [True],
    "a key twice": replying(body=b'{"result": false, "result": true}'),
    "status 500": replying(500, {"code": "internal_error", "message": "eval_conflict_error"}),
}


@pytest.mark.parametrize("reply", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_decision_is_none(reply: Any) -> None:
    """Only exactly `true` permits; what is not as documented is no decision."""
    with pytest.raises(PDPReplyError):
        decided(reply)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (replying(400, {"code": "invalid_parameter"}), PDPRejected),
        (replying(401), PDPRejected),
        (replying(404), PDPRejected),
        (replying(503), PDPOverloaded),
        (PDPUnavailable("down"), PDPUnavailable),
    ],
)
def test_what_went_wrong_on_the_way_is_told(reply: Any, error: type[PDPError]) -> None:
    """A status, or what the transport raises."""
    with pytest.raises(error):
        decided(reply)


SCALARS = (
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats(allow_nan=False) | st.sampled_from(["true", "allow", ""])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["allow", "result", "x"]), inner, max_size=2)
    ),
)
REPLIES = st.fixed_dictionaries(
    {}, optional={"result": VALUES, "decision_id": VALUES, "provenance": VALUES, "code": VALUES, "warning": VALUES}
)


def permits(reply: dict[str, Any], mapping: ResultMapping | None) -> bool:
    try:
        return decided(reply, mapping=mapping).effect is Effect.PERMIT
    except PDPError:
        return False


@settings(max_examples=times(200, 50_000), deadline=None)
@given(REPLIES)
def test_only_an_exact_permit_permits(reply: dict[str, Any]) -> None:
    """Whatever else a reply holds, a result that is not exactly true, where it is read, permits nothing."""
    result = reply.get("result")
    if permits(reply, None):
        assert result is True
    if permits(reply, ResultMapping(obligations=None)):
        assert type(result) is dict
        assert result["allow"] is True
    bare = {name: one for name, one in reply.items() if name == "result"}
    assert permits(bare, None) is (result is True)


def batching(*replies: object, **options: Any) -> tuple[Any, ScriptedTransport]:
    return asking(*replies, batch=True, **options)


def responding(change: Callable[[dict[str, Any]], object] = lambda responses: responses, status: int = 200) -> Any:
    """Answer a batch: whoever is alice is allowed."""

    def answer(request: HTTPRequest) -> object:
        inputs = orjson.loads(request.body)["inputs"]
        responses = {name: {"result": one["subject"]["id"] == "alice"} for name, one in inputs.items()}
        return replying(status, {"responses": change(responses)})

    return answer


MANY = [AccessRequest(Subject("user", who), "edit", DOCUMENT) for who in ("alice", "bob", "alice")]


def test_a_batch_is_asked_at_once() -> None:
    """Where the server has that API; answers in order, in both worlds."""
    pdp, transport = batching(responding())
    wanted = [Effect.PERMIT, Effect.DENY, Effect.PERMIT]
    assert [one.effect for one in had(pdp.decide_many(MANY))] == wanted
    assert [one.effect for one in asyncio.run(arun(pdp.decide_many(MANY), APerformer(SystemClock())))] == wanted
    query = "?provenance=true&strict-builtin-errors=true"
    assert transport.sent[0].url == f"{URL}/v1/batch/data/app/authz/allow{query}"
    assert transport.bodies[0] == {"inputs": {str(n): input_of(one) for n, one in enumerate(MANY)}}
    assert had(pdp.decide_many([])) == []


def test_a_large_batch_is_several() -> None:
    """Of so many questions, and so many bytes."""
    pdp, transport = batching(responding())
    many = [REQUEST.about(Resource("document", str(number))) for number in range(600)]
    assert [one.effect for one in had(pdp.decide_many(many))] == [Effect.PERMIT] * 600
    assert sorted(len(body["inputs"]) for body in transport.bodies) == [100, 250, 250]
    large = [REQUEST.about(Resource("document", str(number), {"text": "x" * 60_000})) for number in range(40)]
    pdp, transport = batching(responding())
    had(pdp.decide_many(large))
    assert max(len(one.body) for one in transport.sent) < 1_200_000


def test_a_mixed_batch() -> None:
    """What could not be evaluated has no answer, the others have."""

    def mixed(responses: dict[str, Any]) -> object:
        broken = {"code": "internal_error", "message": "x", "http_status_code": "500"}
        return {**{name: {**one, "http_status_code": "200"} for name, one in responses.items()}, "1": broken}

    first, second, third = had(batching(responding(mixed, 207))[0].decide_many(MANY))
    assert (first.effect, third.effect) == (Effect.PERMIT, Effect.PERMIT)
    assert isinstance(second, Raised)
    assert isinstance(second.error, PDPReplyError)
    for odd in (None, True, 200.5, "201", [], ["200"], {}, {"200": 200}):
        status = responding(lambda responses, odd=odd: {**responses, "1": {"result": True, "http_status_code": odd}})
        first, second, _third = had(batching(status)[0].decide_many(MANY))
        assert first.effect is Effect.PERMIT
        assert isinstance(second.error, PDPReplyError)
    number = responding(lambda responses: {name: {**one, "http_status_code": 200} for name, one in responses.items()})
    assert had(batching(number)[0].decide_many(MANY))[0].effect is Effect.PERMIT


@pytest.mark.parametrize("reply", [{}, {"responses": {}}, {"batch_decision_id": "b"}])
def test_a_batch_about_what_is_undefined_is_not_applicable(reply: dict[str, Any]) -> None:
    """As one question about it is."""
    assert had(batching(reply)[0].decide_many(MANY)) == [Decision(Effect.NOT_APPLICABLE)] * 3


WRONG_BATCHES: Mapping[str, tuple[Any, type[PDPReplyError]]] = {
    "short": (responding(lambda told: {"0": told["0"]}), PDPMismatched),
    "long": (responding(lambda told: {**told, "3": told["0"]}), PDPMismatched),
    "renamed": (responding(lambda told: {f"{name}x": one for name, one in told.items()}), PDPMismatched),
    "a list": (responding(lambda told: list(told.values())), PDPReplyError),
    "a response that is true": (responding(lambda told: {**told, "1": True}), PDPReplyError),
    "a result that is 1": (responding(lambda told: {**told, "1": {"result": 1}}), PDPReplyError),
    "an error in one": (responding(lambda told: {**told, "1": {"code": "x"}}), PDPReplyError),
    "an error": ({"code": "internal_error"}, PDPReplyError),
    "status 500": (replying(500), PDPReplyError),
}


@pytest.mark.parametrize(("reply", "error"), WRONG_BATCHES.values(), ids=WRONG_BATCHES)
def test_a_batch_with_a_wrong_answer_is_no_answer(reply: Any, error: type[PDPReplyError]) -> None:
    """Ids are matched exactly, and none of it is relied on."""
    with pytest.raises(error):
        had(batching(reply)[0].decide_many(MANY))


def test_a_batch_that_is_partly_out_of_reach_is_told_so() -> None:
    """Questions of a request that failed have no answer; those of the others have."""

    def partly(request: HTTPRequest) -> object:
        inputs = orjson.loads(request.body)["inputs"]
        return PDPUnavailable("down") if inputs["0"]["resource"]["id"] == "0" else responding()(request)

    many = [REQUEST.about(Resource("document", str(number))) for number in range(300)]
    answers = had(batching(partly)[0].decide_many(many))
    assert all(isinstance(one, Raised) and isinstance(one.error, PDPUnavailable) for one in answers[:250])
    assert [one.effect for one in answers[250:]] == [Effect.PERMIT] * 50


def filtering(*replies: object, **options: Any) -> tuple[Any, ScriptedTransport]:
    return asking(*replies, **{"fields": FIELDS, **options})


def rows(reply: object, **options: Any) -> Any:
    pdp, _transport = filtering(reply, **options)
    return had(pdp.row_filter(ALICE, "view", "note", context={}))


def field(operator: str, value: object, name: str = "notes.owner") -> dict[str, Any]:
    return {"type": "field", "operator": operator, "field": name, "value": value}


def test_compiles_a_data_filter() -> None:
    """Of the whole request, with the resource's type alone."""
    query = {"type": "compound", "operator": "or", "value": [field("eq", "alice"), field("lt", 3, "notes.level")]}
    pdp, transport = filtering({"result": {"query": query}}, filters="filters/include", unknowns=["input.notes"])
    acting = {"actors": [Subject("agent", "bot")], "tenant": "acme"}
    found = had(pdp.row_filter(ALICE, Action("view", {"via": "api"}), "note", context={"hour": 9}, **acting))
    assert found.condition == parse('(resource.owner == "alice") | (resource.level < 3)')
    sent = transport.sent[0]
    assert (sent.method, sent.url) == ("POST", f"{URL}/v1/compile/filters/include")
    assert sent.headers["accept"] == "application/vnd.opa.ucast.all+json"
    asked = AccessRequest(ALICE, Action("view", {"via": "api"}), Resource.new("note"), {"hour": 9}, **acting)
    assert transport.bodies == [{"input": input_of(asked), "unknowns": ["input.notes"]}]
    pdp, transport = filtering({"result": {}})
    had(pdp.row_filter(ALICE, "view", "note", context={}))
    assert transport.sent[0].url == f"{URL}/v1/compile/app/authz/allow"
    assert "unknowns" not in transport.bodies[0]


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ({}, DenyAll),
        ({"result": {}}, DenyAll),
        ({"result": {"query": ""}}, AllowAll),
        ({"result": {"query": {}}}, AllowAll),
        ({"result": {"query": {}, "masks": {}}}, AllowAll),
        ({"result": {"query": field("eq", "alice")}}, Conditional),
    ],
)
def test_everything_nothing_and_some(reply: dict[str, Any], wanted: type) -> None:
    """No query denies all rows, an empty one allows all."""
    assert type(rows(reply)) is wanted


REFUSED = {
    "null": {"result": {"query": None}},
    "false": {"result": {"query": False}},
    "zero": {"result": {"query": 0}},
    "an empty list": {"result": {"query": []}},
    "a WHERE clause": {"result": {"query": "WHERE 1=1"}},
    "another field": {"result": {"query": field("eq", "a", "notes.secret")}},
    "another operator": {"result": {"query": field("like", "a")}},
    "a compound of nothing": {"result": {"query": {"type": "compound", "operator": "and", "value": []}}},
    "masks": {"result": {"query": {}, "masks": {"notes": {"ssn": {"replace": {"value": "x"}}}}}},
    "a result that is true": {"result": True},
    "a result that is null": {"result": None},
    "an error": {"code": "internal_error"},
    "status 400": replying(400),
}


@pytest.mark.parametrize("reply", REFUSED.values(), ids=REFUSED)
def test_a_filter_that_is_not_understood_is_refused(reply: Any) -> None:
    """Never a wider one."""
    with pytest.raises(PDPError):
        rows(reply)


def test_lends_what_it_is_told_the_server_has() -> None:
    """Batches and row filters only where they are configured; searches never."""
    bare = asking()[0]
    assert not isinstance(bare, BatchPDP | RowFilterPDP | SearchPDP)
    assert isinstance(batching()[0], BatchPDP)
    assert isinstance(filtering()[0], RowFilterPDP)
    assert getattr(bare, "pure", False) is False


def test_says_who_it_is() -> None:
    """Its name is where and what it asks, and is constant."""
    assert asking()[0].name == f"opa({URL}/v1/data/app/authz/allow)"
    assert asking(name="mine")[0].name == "mine"
    assert repr(asking()[0]) == f"<OPAPDP('opa({URL}/v1/data/app/authz/allow)')>"


def test_a_probe_asks_for_health() -> None:
    """Of the server and its bundles; it raises what is wrong."""
    pdp, transport = asking(replying(200, {}), replying(500, {"error": "not all configured bundles"}))
    assert had(pdp.probe()) is None
    assert transport.sent[0].url == f"{URL}/health?bundles"
    with pytest.raises(PDPError):
        had(pdp.probe())


WRONG: list[dict[str, Any]] = [
    {"path": ""},
    {"path": "/allow"},
    {"path": "app//allow"},
    {"path": "app/../allow"},
    {"path": "./allow"},
    {"path": "allow/"},
    {"path": "app/al\nlow"},
    {"path": 7},
    {"mapping": "allow"},
    {"strict": 1},
    {"batch": None},
    {"filters": "filters/include"},
    {"unknowns": ["input.notes"]},
    {"fields": FIELDS, "filters": ".."},
    {"fields": {"notes.owner": "owner"}},
    {"fields": {"user.id": subject.id}},
    {"fields": {7: resource.owner}},
    {"fields": FIELDS, "unknowns": "input.notes"},
    {"fields": FIELDS, "unknowns": ["input.notes; true"]},
    {"fields": FIELDS, "unknowns": [7]},
    {"transport": 7},
]


@pytest.mark.parametrize("options", WRONG, ids=str)
def test_what_will_not_do_is_refused_at_once(options: dict[str, Any]) -> None:
    """An option of another type or form is a mistake of configuration."""
    with pytest.raises(ConfigurationError):
        OPAPDP(**{"url": URL, "path": RULE, "transport": ScriptedTransport(), **options})


class Handler(BaseHTTPRequestHandler):
    """The part of OPA's REST API that is asked, for one rule: who owns a document may edit it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.answer(200 if urlsplit(self.path).path == "/health" else 404, {})

    def do_POST(self) -> None:
        body = orjson.loads(self.rfile.read(int(self.headers["content-length"])))
        parts = urlsplit(self.path)
        assert parse_qs(parts.query)["provenance"] == ["true"] if "/data/" in parts.path else not parts.query
        _root, _version, kind, *rule = unquote(parts.path).split("/")
        if kind == "compile":
            who = body["input"]["subject"]["id"]
            self.answer(200, {"result": {"query": {} if who == "root" else field("eq", who)}})
        elif kind == "batch":
            told = {name: self.evaluated(rule[1:], one) for name, one in body["inputs"].items()}
            self.answer(200, {"responses": told})
        else:
            self.answer(200, self.evaluated(rule, body["input"]))

    def evaluated(self, rule: list[str], told: dict[str, Any]) -> dict[str, Any]:
        if rule != RULE.split("/"):
            return {}
        owner = told["resource"].get("properties", {}).get("owner")
        allowed = told["action"]["name"] == "edit" and owner == told["subject"]["id"]
        return {"result": allowed, "decision_id": "d", "provenance": PROVENANCE}

    def answer(self, status: int, told: object) -> None:
        body = orjson.dumps(told)
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


@contextmanager
def opa() -> Iterator[str]:
    """Serve on a free loopback port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = False
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_conforms_over_sockets() -> None:
    """The same answer in both worlds, for any id, once and again, alone and in batches."""
    mallory = AccessRequest(Subject("user", "mallory"), "edit", DOCUMENT)
    with opa() as url, HTTPTransport() as transport:

        def make() -> OPAPDP:
            return OPAPDP(url, RULE, transport=transport, batch=True, fields={"notes.owner": resource.owner})

        check_pdp(make, permitted=REQUEST, denied=mallory)
        assert had(make().probe()) is None
        assert had(make().decide(REQUEST)) == Decision(Effect.PERMIT, revision="r1", id="d")
        undefined = OPAPDP(url, "app/other", transport=transport)
        assert had(undefined.decide(REQUEST)).effect is Effect.NOT_APPLICABLE


def test_guards_with_it() -> None:
    """Behind an enforcer: check, filter and a row filter agree."""
    notes = [Resource("note", str(number), {"owner": "alice" if number % 2 else "bob"}) for number in range(9)]
    with opa() as url, HTTPTransport() as transport:
        pdp = OPAPDP(url, RULE, transport=transport, batch=True, fields=FIELDS)
        with Enforcer(pdp, audit=MemorySink()) as enforcer:
            kept = enforcer.filter("edit", notes, subject=ALICE)
            assert [one.id for one in kept] == ["1", "3", "5", "7"]
            found = enforcer.row_filter("edit", "note", subject=ALICE)
            assert [one for one in notes if found.matches(one) is True] == kept
            assert enforcer.row_filter("edit", "note", subject=Subject("user", "root")) == AllowAll()


def test_a_transport_of_its_own_is_closed() -> None:
    """One that was given is not."""
    own = OPAPDP(URL, RULE)
    own.close()
    asyncio.run(OPAPDP(URL, RULE).aclose())
    with pytest.raises(PDPError):
        had(own.decide(REQUEST))
