"""What a server reads: strictly, and with every part of a request."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from pep import (
    AccessRequest,
    Decision,
    Effect,
    Obligation,
    Resource,
    Subject,
)
from pep.audit import MemorySink
from tests.pdp.authzen.rigs import (
    ASKED,
    EVALUATION,
    EVALUATIONS,
    asking,
    enforcing,
    noting,
    only_alice,
    serving,
    told,
    without,
    yes,
)


def test_an_evaluation() -> None:
    """A permit is ``true``, a denial ``false``, both are 200, and both name the record that holds them."""
    sink = MemorySink()
    application = serving(enforcing(only_alice, audit=sink))
    for who, decision in (("alice", True), ("mallory", False)):
        reply = asking(application, EVALUATION, {**ASKED, "subject": {"type": "user", "id": who}})
        assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
        assert told(reply) == {"decision": decision, "context": {"evaluation_id": sink.records[-1].id}}
        assert (sink.records[-1]["kind"], sink.records[-1]["entry"]) == ("check", "authzen")


BAD: dict[str, Any] = {
    "nothing": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "a text": b'"x"',
    "a key twice": b'{"subject":{"type":"user","id":"alice"},"subject":{"type":"user","id":"bob"}}',
    "a key twice, escaped": b'{"subject":{},"subj\\u0065ct":{}}',
    "no number": b'{"context":{"x":NaN}}',
    "an infinite one": b'{"context":{"x":1e999}}',
    "a lone surrogate": b'{"context":{"x":"\\ud800"}}',
    "no UTF-8": b'{"context":{"x":"\xff"}}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "too deep": b'{"context":' + b'{"a":' * 60 + b"1" + b"}" * 60 + b"}",
    "very deep": b"[" * 100_000,
    "more after it": orjson.dumps(ASKED) + b"{}",
    "no subject": without("subject"),
    "no action": without("action"),
    "no resource": without("resource"),
    "no type of the subject": without("type", "subject"),
    "no id of the subject": without("id", "subject"),
    "no name of the action": without("name", "action"),
    "no type of the resource": without("type", "resource"),
    "no id of the resource": without("id", "resource"),
    "a subject that is a text": {**ASKED, "subject": "alice"},
    "a subject of null": {**ASKED, "subject": None},
    "an action that is a text": {**ASKED, "action": "read"},
    "a name that is a number": {**ASKED, "action": {"name": 123}},
    "a name with a star": {**ASKED, "action": {"name": "*"}},
    "an id that is a number": {**ASKED, "subject": {"type": "user", "id": 1}},
    "an id that is empty": {**ASKED, "resource": {"type": "record", "id": ""}},
    "an id of null": {**ASKED, "resource": {"type": "record", "id": None}},
    "properties that are a list": {**ASKED, "subject": {"type": "user", "id": "a", "properties": []}},
    "an integer beyond 64 bits": {**ASKED, "context": {"n": 2**64 - 1}},
    "a context that is a list": {**ASKED, "context": []},
    "a context of null": {**ASKED, "context": None},
    "actors at the top": {**ASKED, "actors": []},
    "a tenant at the top": {**ASKED, "tenant": "acme"},
    "more that is a text": {**ASKED, "context": {"pep": "x"}},
    "more than is known": {**ASKED, "context": {"pep": {"tenant": "a", "world": "b"}}},
    "a tenant that is a number": {**ASKED, "context": {"pep": {"tenant": 7}}},
    "a tenant of null": {**ASKED, "context": {"pep": {"tenant": None}}},
    "a tenant that is empty": {**ASKED, "context": {"pep": {"tenant": ""}}},
    "actors that are no list": {**ASKED, "context": {"pep": {"actors": {}}}},
    "an actor that is none": {**ASKED, "context": {"pep": {"actors": ["bot"]}}},
    "too much": {**ASKED, "context": {"x": "y" * 70_000}},
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
@pytest.mark.parametrize("path", [EVALUATION, EVALUATIONS])
def test_what_is_no_request(path: str, body: Any) -> None:
    """Nobody is asked about what two readers could read differently; the answer says what is wrong, in no value."""
    application, asked = noting()
    reply = asking(application, path, body)
    assert (reply.status, reply.headers["content-type"]) == (400, "application/problem+json")
    problem = told(reply)
    assert problem.keys() == {"type", "title", "status", "detail"}
    assert (problem["title"], problem["status"]) == ("Bad Request", 400)
    assert not any(value in problem["detail"] for value in ("alice", "record-1", "acme", "yyy"))
    assert asked == []


def test_what_is_ignored() -> None:
    """Unknown members are ignored, wherever they stand; a property of null counts as one."""
    application, seen = noting()
    body = {**ASKED, "foo": "bar", "page": 7, "futureField": {"nested": True}, "subject": {**ASKED["subject"], "x": 1}}
    assert told(asking(application, EVALUATION, body))["decision"] is True
    assert told(asking(application, EVALUATION, {**ASKED, "context": {"pep": {}, "a": None}}))["decision"] is True
    assert [dict(request.context) for request in seen] == [{}, {"a": None}]


def test_tenant_actors_and_new_resources() -> None:
    """What AuthZEN has no place for is read where the client writes it."""
    application, seen = noting()
    more = {"tenant": "acme", "actors": [{"type": "agent", "id": "bot"}]}
    body = {**ASKED, "resource": {"type": "record", "id": "pep:new"}, "context": {"a": 1, "pep": more}}
    assert told(asking(application, EVALUATION, body))["decision"] is True
    whole, actor = seen
    assert whole == AccessRequest(
        Subject("user", "alice"), "read", Resource.new("record"), {"a": 1}, [Subject("agent", "bot")], "acme"
    )
    assert actor == whole.evolve(subject=Subject("agent", "bot"), actors=())


def test_every_actor_must_be_permitted() -> None:
    """Delegation is an intersection; obligations of all are passed on."""

    def decide(request: AccessRequest) -> Decision:
        if request.subject.id == "rogue":
            return Decision(Effect.DENY, reasons=["rogue"])
        return Decision(Effect.PERMIT, [Obligation("log", {"who": request.subject.id}, "o")])

    def actor(name: str) -> Any:
        return {**ASKED, "context": {"pep": {"actors": [{"type": "agent", "id": name}]}}}

    application = serving(decide)
    both = told(asking(application, EVALUATION, actor("bot")))
    assert both["decision"] is True
    duties = both["context"]["obligations"]
    assert [(one["properties"]["who"], one["type"]) for one in duties] == [("alice", "log"), ("bot", "log")]
    assert len({one["id"] for one in duties}) == 2
    rogue = told(asking(application, EVALUATION, actor("rogue")))
    assert (rogue["decision"], rogue["context"]["reason_admin"]) == (False, {"1": "rogue"})


@pytest.mark.parametrize(
    ("count", "actors", "status"), [(1, 39, 200), (1, 40, 413), (4, 9, 200), (4, 10, 413), (4, 0, 200)]
)
def test_actors_count_as_evaluations(count: int, actors: int, status: int) -> None:
    """Each of them is asked about with each: a short message never makes many questions."""
    application, asked = noting(batch=4)
    more = {"pep": {"actors": [{"type": "agent", "id": str(number)} for number in range(actors)]}}
    items = [{"resource": {"type": "record", "id": str(number)}} for number in range(count)]
    bodies = [(EVALUATIONS, {**ASKED, "context": more, "evaluations": items})]
    if count == 1:
        bodies.append((EVALUATION, {**ASKED, "context": more}))
    for path, body in bodies:
        asked.clear()
        reply = asking(application, path, body)
        assert reply.status == status
        assert len(asked) == (count * (1 + actors) if status == 200 else 0)


def test_batches() -> None:
    """In order, with defaults that are replaced whole; one that is none is a denial with an error."""
    body = {
        **without("resource"),
        "context": {"a": 1},
        "evaluations": [
            {"resource": {"type": "record", "id": "1"}},
            {},
            {"resource": {"type": "record", "id": "1"}, "subject": {"type": "user", "id": "bob"}},
            {"resource": {"type": "record"}},
        ],
    }
    found = told(asking(serving(only_alice), EVALUATIONS, body))["evaluations"]
    assert [one["decision"] for one in found] == [True, False, False, False]
    assert found[1]["context"]["error"]["status"] == found[3]["context"]["error"]["status"] == 400
    assert "error" not in found[2]["context"]


@pytest.mark.parametrize("evaluations", [{}, {"evaluations": []}])
def test_a_batch_of_none(evaluations: Any) -> None:
    """Absent or empty, it is a single evaluation, and answered like one."""
    found = told(asking(serving(yes), EVALUATIONS, {**ASKED, **evaluations}))
    assert found["decision"] is True
    assert "evaluations" not in found


@pytest.mark.parametrize(
    ("semantic", "ids", "expected"),
    [
        ("execute_all", "abab", [True, False, True, False]),
        ("deny_on_first_deny", "aabaa", [True, True, False]),
        ("deny_on_first_deny", "a-aa", [True, False]),
        ("deny_on_first_deny", "aa", [True, True]),
        ("permit_on_first_permit", "bbab", [False, False, True]),
        ("permit_on_first_permit", "b-a", [False, False, True]),
        ("permit_on_first_permit", "bb", [False, False]),
    ],
)
def test_semantics(semantic: str, ids: str, expected: list[bool]) -> None:
    """What is not told was not evaluated, and is in no record."""
    sink = MemorySink()
    application = serving(enforcing(lambda request: request.resource.id == "a", audit=sink))
    items = [{} if one == "-" else {"resource": {"type": "record", "id": one}} for one in ids]
    body = {**without("resource"), "evaluations": items, "options": {"evaluations_semantic": semantic, "x": 1}}
    found = told(asking(application, EVALUATIONS, body))["evaluations"]
    assert [one["decision"] for one in found] == expected
    assert sum(record["kind"] == "check" for record in sink.records) == len(expected) - ids[: len(expected)].count("-")


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"evaluations": {}}, 400),
        ({"evaluations": None}, 400),
        ({"evaluations": ["x"]}, 400),
        ({"evaluations": [{}, None]}, 400),
        ({"evaluations": [{}], "options": []}, 400),
        ({"evaluations": [{}], "options": {"evaluations_semantic": "all"}}, 400),
        ({"evaluations": [{}], "options": {"evaluations_semantic": ["execute_all"]}}, 400),
        ({"evaluations": [{}], "subject": "alice"}, 400),
        ({"evaluations": [{"resource": {"type": "record", "id": "1"}}], "resource": {"type": "record"}}, 400),
        ({"evaluations": [{}, {}, {}]}, 413),
    ],
)
def test_what_is_no_batch(more: Any, status: int) -> None:
    """What is wrong with all of it is an HTTP error, and so is more than may be."""
    assert asking(serving(yes, batch=2), EVALUATIONS, {**ASKED, **more}).status == status
