"""Cerbos's codec: what is sent, what is read, and that only an exact permit permits."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep import AccessRequest, Action, Decision, Effect, Obligation, Resource, Subject
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
from pep.pdp.cerbos import CerbosPDP
from pep.plan import Raised
from pep.testing.transport import ScriptedTransport, replying
from tests.proving import times

URL = "http://127.0.0.1:3592"
ALICE, DOCUMENT = Subject("user", "alice", {"roles": ["editor"]}), Resource("document", "1", {"owner": "alice"})
REQUEST = AccessRequest(ALICE, "edit", DOCUMENT)
POLICY = "resource.document.vdefault"


def had(plan: Any) -> Any:
    return run(plan, Performer(SystemClock()))


def answering(**changes: Any) -> Callable[[HTTPRequest], object]:
    """Answer as Cerbos does: every action is allowed; the first result is changed."""

    def answer(request: HTTPRequest) -> object:
        asked = orjson.loads(request.body)
        results = [_result(entry) for entry in asked["resources"]]
        results[0].update(changes)
        return {"requestId": asked["requestId"], "results": results, "cerbosCallId": "call-1"}

    return answer


def _result(entry: Mapping[str, Any]) -> dict[str, Any]:
    resource = {name: value for name, value in entry["resource"].items() if name != "attr"}
    return {
        "resource": resource,
        "actions": dict.fromkeys(entry["actions"], "EFFECT_ALLOW"),
        "meta": {"actions": {action: {"matchedPolicy": POLICY} for action in entry["actions"]}},
    }


def asking(*replies: object, **options: Any) -> tuple[CerbosPDP, ScriptedTransport]:
    transport = ScriptedTransport(*replies)
    return CerbosPDP(URL, transport=transport, **options), transport


def decided(*replies: object, request: AccessRequest = REQUEST, **options: Any) -> Decision:
    pdp, _transport = asking(*replies, **options)
    decision: Decision = had(pdp.decide(request))
    return decision


def told(request: AccessRequest, **options: Any) -> dict[str, Any]:
    pdp, transport = asking(answering(), **options)
    had(pdp.decide(request))
    body: dict[str, Any] = transport.bodies[0]
    assert type(body.pop("requestId")) is str
    return body


def test_asks_about_one_resource() -> None:
    """The principal with its roles, the resource, the action, and nothing that is empty."""
    assert told(REQUEST) == {
        "principal": {"id": "alice", "roles": ["editor"], "attr": {"$type": "user"}},
        "resources": [{"resource": {"kind": "document", "id": "1", "attr": {"owner": "alice"}}, "actions": ["edit"]}],
        "includeMeta": True,
    }
    pdp, transport = asking(answering(), headers={"x-team": "a"})
    had(pdp.decide(REQUEST))
    sent = transport.sent[0]
    assert (sent.method, sent.url) == ("POST", f"{URL}/api/check/resources")
    assert sent.headers["x-team"] == "a"


FULL = AccessRequest(
    Subject("user", "alice", {"level": 3, "roles": ["a", "b", "a"]}),
    Action("edit", {"via": "api"}),
    Resource("document", "1", {"tags": ["x"]}),
    {"hour": 9},
    [Subject("agent", "bot", {"model": "m"}), Subject("service", "s")],
    "acme",
)


def test_sends_everything_there_is() -> None:
    """Properties, context, tenant, actors and the action's properties reach the server, at documented places."""
    body = told(FULL)
    assert body["principal"] == {
        "id": "alice",
        "roles": ["a", "b"],
        "attr": {
            "level": 3,
            "$type": "user",
            "$context": {"hour": 9},
            "$actors": [{"type": "agent", "id": "bot", "properties": {"model": "m"}}, {"type": "service", "id": "s"}],
            "$tenant": "acme",
        },
    }
    assert body["resources"][0]["resource"]["attr"] == {"tags": ["x"], "$action": {"via": "api"}}


def test_sends_what_it_is_told_otherwise() -> None:
    """Roles, version, scope, prefix and placeholder are configurable."""
    request = AccessRequest(
        Subject("user", "alice", {"groups": ["g"], "roles": ["kept"]}), "add", Resource.new("document"), tenant="acme"
    )
    body = told(request, roles="groups", version="v2", scope="acme.hr", prefix="pep_", placeholder="none-yet")
    where = {"policyVersion": "v2", "scope": "acme.hr"}
    attr = {"roles": ["kept"], "pep_type": "user", "pep_tenant": "acme"}
    assert body["principal"] == {"id": "alice", "roles": ["g"], "attr": attr, **where}
    assert body["resources"][0]["resource"] == {"kind": "document", "id": "none-yet", "attr": {}, **where}


def test_a_tenant_can_be_the_scope() -> None:
    """Then it is that of the principal and of the resource; without a tenant it is the root."""
    body = told(REQUEST.evolve(tenant="acme"), tenant_as_scope=True)
    assert [body["principal"]["scope"], body["resources"][0]["resource"]["scope"]] == ["acme", "acme"]
    assert "$tenant" not in body["principal"]["attr"]
    assert "scope" not in told(REQUEST, tenant_as_scope=True)["principal"]


def test_tenants_of_one_batch_keep_their_scopes() -> None:
    """Each is asked in its own."""
    pdp, transport = asking(answering(), tenant_as_scope=True)
    had(pdp.decide_many([REQUEST.evolve(tenant=tenant) for tenant in ("acme", "other", None)]))
    scopes = [
        (body["principal"].get("scope"), body["resources"][0]["resource"].get("scope")) for body in transport.bodies
    ]
    assert sorted(scopes, key=str) == [("acme", "acme"), ("other", "other"), (None, None)]


@pytest.mark.parametrize("roles", [None, []])
def test_a_subject_without_roles_has_one_that_nobody_has(roles: object) -> None:
    """Cerbos wants a role; a policy for everybody matches it."""
    properties = {} if roles is None else {"roles": roles}
    assert told(AccessRequest(Subject("user", "x", properties), "edit", DOCUMENT))["principal"]["roles"] == ["$none"]
    nobody = AccessRequest(Subject("user", "x", {"roles": None}), "edit", DOCUMENT)
    assert told(nobody, no_role="guest")["principal"]["roles"] == ["guest"]


UNFAITHFUL = {
    "roles that are a text": (AccessRequest(Subject("user", "a", {"roles": "admin"}), "e", DOCUMENT), {}),
    "an empty role": (AccessRequest(Subject("user", "a", {"roles": [""]}), "e", DOCUMENT), {}),
    "a role that is no text": (AccessRequest(Subject("user", "a", {"roles": [1]}), "e", DOCUMENT), {}),
    "a forged tenant": (AccessRequest(Subject("user", "a", {"$tenant": "acme"}), "e", DOCUMENT), {}),
    "a forged context": (AccessRequest(Subject("user", "a", {"$context": {}}), "e", DOCUMENT), {}),
    "a forged action": (AccessRequest(ALICE, "e", Resource("document", "1", {"$action": {}})), {}),
    "the placeholder's id": (AccessRequest(ALICE, "e", Resource("document", "$new")), {}),
    "a rounded integer": (AccessRequest(ALICE, "e", Resource("document", "1", {"a": [{"b": 2**53 + 1}]})), {}),
    "the least rounded integer": (AccessRequest(ALICE, "e", Resource("document", "1", {"a": -(2**53) - 1})), {}),
    "a rounded property of the action": (AccessRequest(ALICE, Action("e", {"n": 2**53 + 1}), DOCUMENT), {}),
    "a rounded circumstance": (AccessRequest(ALICE, "e", DOCUMENT, {"n": -(2**53) - 1}), {}),
    "a tenant in two parts": (REQUEST.evolve(tenant="acme.hr"), {"tenant_as_scope": True}),
    "a tenant that is no scope": (REQUEST.evolve(tenant="acme corp"), {"tenant_as_scope": True}),
}


def test_digits_alone_are_no_rounded_number() -> None:
    """Texts and ids of any length, floats, and the greatest integer that Cerbos does not round, are told."""
    properties = {"text": "9" * 30, "whole": [2**53, -(2**53)], "float": 0.12345678901234567, "9" * 20: True}
    asked = told(AccessRequest(ALICE, Action("e", {"n": 2**53}), Resource("document", "1" * 30, properties)))
    (entry,) = asked["resources"]
    assert entry["resource"]["id"] == "1" * 30
    assert entry["resource"]["attr"] == {**properties, "$action": {"n": 2**53}}


@pytest.mark.parametrize(("request_", "options"), UNFAITHFUL.values(), ids=UNFAITHFUL)
def test_what_cerbos_would_not_be_told_faithfully_is_not_asked(
    request_: AccessRequest, options: dict[str, Any]
) -> None:
    """A name that this enforcement point uses, a number that would be rounded: refused before anything is sent."""
    pdp, transport = asking(answering(), **options)
    with pytest.raises(PDPReplyError):
        had(pdp.decide(request_))
    assert transport.sent == []
    [outcome, other] = had(pdp.decide_many([request_, REQUEST]))
    assert isinstance(outcome.error, PDPReplyError)
    assert other.effect is Effect.PERMIT


def test_reads_a_permit() -> None:
    """With the policy that matched, and the server's name for the decision."""
    assert decided(answering()) == Decision(Effect.PERMIT, policies=[POLICY], id="call-1")


NOT_MATCHED = {"actions": {"edit": {"matchedPolicy": "NO_MATCH"}}}
READ = {
    "denied": ({"actions": {"edit": "EFFECT_DENY"}}, Decision(Effect.DENY, policies=[POLICY], id="call-1")),
    "no policy": (
        {"actions": {"edit": "EFFECT_DENY"}, "meta": NOT_MATCHED},
        Decision(Effect.NOT_APPLICABLE, id="call-1"),
    ),
    "no match": (
        {"actions": {"edit": "EFFECT_NO_MATCH"}, "meta": {}},
        Decision(Effect.NOT_APPLICABLE, id="call-1"),
    ),
    "no meta": ({"meta": {}}, Decision(Effect.PERMIT, id="call-1")),
    "not valid": (
        {"validationErrors": [{"path": "/a", "message": "secret", "source": "SOURCE_RESOURCE"}]},
        Decision(Effect.INDETERMINATE, reasons=["not valid: SOURCE_RESOURCE /a"], id="call-1"),
    ),
}


@pytest.mark.parametrize(("changes", "wanted"), READ.values(), ids=READ)
def test_reads_what_is_no_permit(changes: dict[str, Any], wanted: Decision) -> None:
    """A denial, no policy that is about it, and a request that is not what the schemas say are three things."""
    assert decided(answering(**changes)) == wanted


def output(value: object, **more: Any) -> dict[str, Any]:
    return {"src": f"{POLICY}#rule", "val": value, "action": "edit", **more}


REDACT = {"type": "redact", "properties": {"paths": ["ssn"]}}
OUTPUTS = {
    "an obligation": (
        [output({"obligation": REDACT})],
        {"obligations": [Obligation("redact", {"paths": ["ssn"]}, f"{POLICY}#rule")]},
    ),
    "an obligation with an id": (
        [output({"obligation": REDACT | {"id": "o1"}})],
        {"obligations": [Obligation("redact", {"paths": ["ssn"]}, "o1")]},
    ),
    "without properties": (
        [output({"obligation": {"type": "log"}})],
        {"obligations": [Obligation("log", {}, f"{POLICY}#rule")]},
    ),
    "as AuthZEN has them": (
        [output({"obligations": [{"id": "o1", **REDACT}, {"id": "o2", **REDACT}]})],
        {"obligations": [Obligation("redact", {"paths": ["ssn"]}, name) for name in ("o1", "o2")]},
    ),
    "a text": ([output("because")], {"reasons": ["because"]}),
    "something else": (
        [output({"a": 1})],
        {"advice": [Obligation("cerbos:output", {"src": f"{POLICY}#rule", "val": {"a": 1}})]},
    ),
    "null": ([output(None)], {"advice": [Obligation("cerbos:output", {"src": f"{POLICY}#rule", "val": None})]}),
    "of no action": ([output("because", action="")], {"reasons": ["because"]}),
    "none": ([], {}),
}


@pytest.mark.parametrize(("outputs", "wanted"), OUTPUTS.values(), ids=OUTPUTS)
def test_reads_outputs(outputs: list[Any], wanted: dict[str, Any]) -> None:
    """An obligation, a reason, or advice."""
    plain = Decision(Effect.PERMIT, policies=[POLICY], id="call-1", **wanted)
    assert decided(answering(outputs=outputs)) == plain
    assert decided(answering(outputs=outputs, actions={"edit": "EFFECT_DENY"})).obligations == plain.obligations


WRONG_OUTPUTS = {
    "no value": [{"src": "a", "action": "edit"}],
    "a value that has no JSON form": [output("<failed to convert evaluation to protobuf value>")],
    "an obligation and more": [output({"obligation": REDACT, "reason": "x"})],
    "both": [output({"obligation": REDACT, "obligations": []})],
    "an obligation that is none": [output({"obligation": None})],
    "an obligation that is a text": [output({"obligation": "redact"})],
    "an obligation without a type": [output({"obligation": {}})],
    "an obligation with an empty type": [output({"obligation": {"type": ""}})],
    "an obligation with another member": [output({"obligation": REDACT | {"on": "permit"}})],
    "properties that are none": [output({"obligation": {"type": "log", "properties": None}})],
    "obligations that are none": [output({"obligations": REDACT})],
    "two of one id": [output({"obligation": REDACT | {"id": "a"}}), output({"obligation": REDACT | {"id": "a"}})],
    "of another action": [output("x", action="view")],
    "of an action that is no text": [output("x", action=1)],
    "no object": ["x"],
    "no list": {},
    "of a rule that is no text": [output({"obligation": REDACT}, src=1)],
}


@pytest.mark.parametrize("outputs", WRONG_OUTPUTS.values(), ids=WRONG_OUTPUTS)
def test_an_output_that_could_be_an_obligation_is_understood_or_ends_it(outputs: Any) -> None:
    """What failed in the policy, or says that it is an obligation and is none, is no permit without it."""
    with pytest.raises(PDPReplyError):
        decided(answering(outputs=outputs))


def replied(**changes: Any) -> Callable[[HTTPRequest], object]:
    """Answer with members of the whole reply changed; one that is `None` is left out."""

    def answer(request: HTTPRequest) -> object:
        reply: Any = answering()(request)
        return {name: value for name, value in {**reply, **changes}.items() if value is not None}

    return answer


MISMATCHED = {
    "another request": replied(requestId="another"),
    "no request": replied(requestId=None),
    "no result": replied(results=[]),
    "another id": answering(resource={"kind": "document", "id": "2"}),
    "another kind": answering(resource={"kind": "folder", "id": "1"}),
    "another scope": answering(resource={"kind": "document", "id": "1", "scope": "acme"}),
    "another version": answering(resource={"kind": "document", "id": "1", "policyVersion": "v2"}),
    "an id that is equal to none": answering(resource={"kind": "document", "id": 1}),
    "no action": answering(actions={}),
    "another action": answering(actions={"view": "EFFECT_ALLOW"}),
    "one action more": answering(actions={"edit": "EFFECT_ALLOW", "view": "EFFECT_ALLOW"}),
}


@pytest.mark.parametrize("reply", MISMATCHED.values(), ids=MISMATCHED)
def test_an_answer_to_something_else_is_none(reply: Any) -> None:
    """Request, resource and action come back as they were sent, and nothing else does."""
    with pytest.raises(PDPMismatched):
        decided(reply)


EFFECTS = [True, 1, "true", "allow", "EFFECT_allow", "EFFECT_ALLOW ", "effect_allow", None, ["EFFECT_ALLOW"], {}, 3]
MALFORMED = {
    **{f"the effect {effect!r}": answering(actions={"edit": effect}) for effect in EFFECTS},
    "the effect UNSPECIFIED": answering(actions={"edit": "EFFECT_UNSPECIFIED"}),
    "allowed by no policy": answering(meta=NOT_MATCHED),
    "a policy that is no text": answering(meta={"actions": {"edit": {"matchedPolicy": 1}}}),
    "no results": replied(results=None),
    "results that are an object": replied(results={"0": "EFFECT_ALLOW"}),
    "a result that is a text": replied(results=["EFFECT_ALLOW"]),
    "no resource": answering(resource=None),
    "actions that are a list": answering(actions=["edit"]),
    "meta that is a list": answering(meta=[]),
    "meta of an action that is a text": answering(meta={"actions": {"edit": POLICY}}),
    "validation errors that are none": answering(validationErrors={}),
    "a validation error that is a text": answering(validationErrors=["x"]),
    "an id that is none": replied(cerbosCallId=7),
    "an empty object": {},
    "a list": [],
    "a key twice": replying(body=b'{"results": [], "results": []}'),
    "no JSON": replying(body=b"EFFECT_ALLOW"),
    "status 500": replying(500),
}


@pytest.mark.parametrize("reply", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_answer_is_none(reply: Any) -> None:
    """Only exactly ``EFFECT_ALLOW`` permits, and what is not as documented is no decision."""
    with pytest.raises(PDPReplyError):
        decided(reply)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (replying(503, headers=[("retry-after", "2")]), PDPOverloaded),
        (replying(400), PDPRejected),
        (replying(403), PDPRejected),
        (PDPUnavailable("down"), PDPUnavailable),
    ],
)
def test_what_went_wrong_on_the_way_is_told(reply: Any, error: type[PDPError]) -> None:
    """A status, or what the transport raises."""
    with pytest.raises(error):
        decided(reply)


REPLY = {
    "requestId": "r",
    "results": [
        {
            "resource": {"kind": "document", "id": "1"},
            "actions": {"edit": "EFFECT_ALLOW"},
            "validationErrors": [],
            "meta": {"actions": {"edit": {"matchedPolicy": POLICY}}},
            "outputs": [],
        }
    ],
    "cerbosCallId": "call",
}
PLACES: Sequence[tuple[Any, ...]] = (
    ("requestId",),
    ("results",),
    ("results", 0),
    ("results", 0, "resource"),
    ("results", 0, "resource", "id"),
    ("results", 0, "resource", "kind"),
    ("results", 0, "actions"),
    ("results", 0, "actions", "edit"),
    ("results", 0, "validationErrors"),
    ("results", 0, "meta", "actions", "edit", "matchedPolicy"),
    ("results", 0, "outputs"),
)
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["EFFECT_ALLOW", "EFFECT_DENY", "", "1"])
# Small, since large ones take Hypothesis ten times as long, and of the names that Cerbos uses.
NAMES = st.sampled_from(["edit", "val", "src", "action", "obligation", "obligations", "type", "id", "actions", ""])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES | st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=times(150, 50_000), deadline=None)
@given(st.sampled_from(PLACES), VALUES, st.booleans())
def test_only_an_exact_permit_permits(place: tuple[Any, ...], value: Any, absent: bool) -> None:
    """Whatever stands anywhere in a reply, it permits only where it is what Cerbos would have sent."""
    reply: Any = copy.deepcopy(REPLY)
    inner = reply
    for step in place[:-1]:
        inner = inner[step]
    changed = not absent and type(value) is type(inner[place[-1]]) and value == inner[place[-1]]
    harmless = place[-1] == "matchedPolicy" and (absent or (type(value) is str and value != "NO_MATCH"))
    left_out = absent and place[-1] in {"validationErrors", "outputs"}
    no_errors = place[-1] == "validationErrors" and value is None
    if absent:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value

    def answer(request: HTTPRequest) -> object:
        asked = orjson.loads(request.body)["requestId"]
        return {**reply, "requestId": asked} if reply.get("requestId") == "r" else reply

    try:
        permitted = decided(answer).effect is Effect.PERMIT
    except PDPError:
        permitted = False
    # Outputs that are no obligations change nothing.
    told_more = place[-1] == "outputs" and permitted and type(value) is list
    assert permitted is (changed or harmless or left_out or no_errors or told_more)


def many(count: int) -> list[AccessRequest]:
    return [REQUEST.about(Resource("document", str(number))) for number in range(count)]


def test_a_batch_asks_once_about_each_resource() -> None:
    """Fifty resources a request, actions of one resource together, one principal a request; answers in order."""
    requests = [one.evolve(action=action) for one in many(60) for action in ("edit", "view")]
    requests.append(AccessRequest(Subject("user", "bob"), "edit", DOCUMENT))
    pdp, transport = asking(answering())
    answers = had(pdp.decide_many(requests))
    assert [one.effect for one in answers] == [Effect.PERMIT] * 121
    sizes = sorted((body["principal"]["id"], len(body["resources"])) for body in transport.bodies)
    assert sizes == [("alice", 10), ("alice", 50), ("bob", 1)]
    assert all(len(entry["actions"]) == 2 for entry in transport.bodies[0]["resources"])


def test_a_batch_keeps_to_the_limits_it_is_told() -> None:
    """Of resources, of actions and of bytes."""
    pdp, transport = asking(answering(), resources=2, actions=2)
    had(pdp.decide_many([*many(3), *[REQUEST.evolve(action=f"a{number}") for number in range(5)]]))
    bodies = transport.bodies
    assert max(len(body["resources"]) for body in bodies) == 2
    assert max(len(entry["actions"]) for body in bodies for entry in body["resources"]) == 2
    large = [REQUEST.about(Resource("document", str(number), {"text": "x" * 60_000})) for number in range(40)]
    pdp, transport = asking(answering())
    had(pdp.decide_many(large))
    assert max(len(request.body) for request in transport.sent) < 1_200_000


def test_the_same_question_twice_is_asked_once() -> None:
    """Both places get the answer; resources of one name that differ are never in one request."""
    other = REQUEST.about(Resource("document", "1", {"owner": "bob"}))
    via = REQUEST.evolve(action=Action("edit", {"via": "api"}))
    new = [REQUEST.about(Resource.new("document", {"n": number})) for number in range(2)]
    pdp, transport = asking(answering())
    answers = had(pdp.decide_many([REQUEST, other, REQUEST, via, *new]))
    assert [one.effect for one in answers] == [Effect.PERMIT] * 6
    named = [[entry["resource"]["id"] for entry in body["resources"]] for body in transport.bodies]
    assert sorted(named) == [["1"], ["1", "$new"], ["1", "$new"]]
    assert all(entry["actions"] == ["edit"] for body in transport.bodies for entry in body["resources"])


def test_everybody_is_asked_for_by_themselves() -> None:
    """Who asks about the same in other circumstances, for another tenant or by another actor, has another answer."""
    circumstances: Sequence[dict[str, Any]] = (
        {},
        {"subject": Subject("user", "bob")},
        {"subject": Subject("agent", "alice", {"roles": ["editor"]})},
        {"context": {"hour": 9}},
        {"tenant": "acme"},
        {"actors": [Subject("agent", "bot")]},
    )

    def about(request: HTTPRequest) -> object:
        asked, reply = orjson.loads(request.body), answering()(request)
        return {**reply, "cerbosCallId": orjson.dumps(asked["principal"]).decode()}  # type: ignore[dict-item]

    requests = [REQUEST.evolve(**changes) for changes in circumstances]
    pdp, transport = asking(about)
    together = had(pdp.decide_many(requests))
    assert len(transport.sent) == len(circumstances)
    assert together == [had(pdp.decide(request)) for request in requests]
    assert len({decision.id for decision in together}) == len(circumstances)


def test_an_output_is_of_its_action() -> None:
    """Two actions on one resource are one result; an obligation of one is none of the other."""
    outputs = [output({"obligation": REDACT})]
    pdp, _transport = asking(answering(outputs=outputs))
    both = had(pdp.decide_many([REQUEST, REQUEST.evolve(action="view")]))
    assert [len(decision.obligations) for decision in both] == [1, 0]
    pdp, _transport = asking(answering(outputs=[output({"obligation": REDACT}, action="")]))
    both = had(pdp.decide_many([REQUEST, REQUEST.evolve(action="view")]))
    assert [len(decision.obligations) for decision in both] == [1, 1]


def test_answers_come_back_to_their_questions() -> None:
    """Whatever they are packed with."""

    def odd(request: HTTPRequest) -> object:
        reply: Any = answering()(request)
        for result in reply["results"]:
            if int(result["resource"]["id"]) % 3:
                result["actions"] = dict.fromkeys(result["actions"], "EFFECT_DENY")
        return reply

    requests = many(130)[::-1]
    pdp, _transport = asking(odd)
    wanted = [Effect.DENY if int(one.resource.id or "") % 3 else Effect.PERMIT for one in requests]
    assert [one.effect for one in had(pdp.decide_many(requests))] == wanted
    assert [one.effect for one in asyncio.run(arun(pdp.decide_many(requests), APerformer(SystemClock())))] == wanted
    assert had(pdp.decide_many([])) == []


def test_a_batch_that_is_partly_out_of_reach_is_told_so() -> None:
    """Questions of a request that failed have no answer; those of the others have."""

    def partly(request: HTTPRequest) -> object:
        asked = orjson.loads(request.body)
        return PDPUnavailable("down") if asked["resources"][0]["resource"]["id"] == "0" else answering()(request)

    pdp, _transport = asking(partly)
    answers = had(pdp.decide_many(many(60)))
    assert all(isinstance(one, Raised) and isinstance(one.error, PDPUnavailable) for one in answers[:50])
    assert [one.effect for one in answers[50:]] == [Effect.PERMIT] * 10


def test_a_batch_with_a_wrong_answer_is_no_answer() -> None:
    """Short, long or reordered: none of it is relied on."""

    def reordered(request: HTTPRequest) -> object:
        reply: Any = answering()(request)
        return {**reply, "results": reply["results"][::-1]}

    for reply in (reordered, replied(results=[])):
        pdp, _transport = asking(reply)
        with pytest.raises(PDPMismatched):
            had(pdp.decide_many(many(2)))

    def one_wrong(request: HTTPRequest) -> object:
        number = int(orjson.loads(request.body)["resources"][0]["resource"]["id"])
        return {} if number else answering()(request)

    pdp, _transport = asking(one_wrong)
    with pytest.raises(PDPReplyError):
        had(pdp.decide_many(many(60)))


def test_says_who_it_is() -> None:
    """Its name is where and what it asks, and is constant."""
    assert asking()[0].name == f"cerbos({URL})"
    assert asking(version="v2", scope="acme")[0].name == f"cerbos({URL},version=v2,scope=acme)"
    assert asking(tenant_as_scope=True)[0].name == f"cerbos({URL},scope=tenant)"
    assert asking(name="mine")[0].name == "mine"
    assert repr(asking()[0]) == f"<CerbosPDP('cerbos({URL})')>"


def test_a_probe_asks_for_health() -> None:
    """It raises what is wrong."""
    pdp, transport = asking(replying(200, {"status": "SERVING"}), PDPUnavailable("down"))
    assert had(pdp.probe()) is None
    assert transport.sent[0].url == f"{URL}/_cerbos/health"
    with pytest.raises(PDPUnavailable):
        had(pdp.probe())


WRONG: Sequence[dict[str, Any]] = (
    {"roles": ""},
    {"no_role": None},
    {"prefix": ""},
    {"placeholder": 1},
    {"version": "v 2"},
    {"version": None},
    {"scope": "acme..hr"},
    {"scope": "-a"},
    {"scope": "acme", "tenant_as_scope": True},
    {"tenant_as_scope": 1},
    {"check_plans": None},
    {"resources": 0},
    {"actions": True},
    {"actions": "50"},
    {"transport": 7},
)


@pytest.mark.parametrize("options", WRONG, ids=str)
def test_what_will_not_do_is_refused_at_once(options: dict[str, Any]) -> None:
    """An option of another type or form is a mistake of configuration."""
    with pytest.raises(ConfigurationError):
        CerbosPDP(URL, **{"transport": ScriptedTransport(), **options})
    with pytest.raises(ConfigurationError):
        CerbosPDP("cerbos:3592", transport=ScriptedTransport())


def test_a_transport_of_its_own_is_closed() -> None:
    """One that was given is not."""

    class Closing(ScriptedTransport):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    given_one = Closing()
    pdp = CerbosPDP(URL, transport=given_one)
    pdp.close()
    asyncio.run(pdp.aclose())
    assert given_one.closed == 0
    own = CerbosPDP(URL)
    own.close()
    asyncio.run(CerbosPDP(URL).aclose())
    with pytest.raises(PDPError):
        had(own.decide(REQUEST))
