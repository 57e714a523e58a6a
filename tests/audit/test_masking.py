from __future__ import annotations

import hmac
import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.audit.masking import Masking
from pep.audit.record import Kind, Record
from pep.audit.safe import MAX_SHOWN, MAX_VALUE, Room
from pep.errors import ConfigurationError
from pep.frozen import freeze
from pep.model import AccessRequest, Action, Resource, Subject
from tests.values import colliding, requests, typed

SECRET = b"0123456789abcdef"
CANARIES = ["canary-text", 7_318_008_577, -1234.56789]
CONTENT = {"name": CANARIES, "nested": {"canary-key": CANARIES}}


def line(fields: Any) -> str:
    return Record(Kind.DECISION, "i", 0.0, fields).to_json().decode()


def hashed(key: str, path: str, value: Any, secret: bytes = SECRET) -> Any:
    """The HMAC of a value, as it is in a record."""
    masking = Masking(hashed={key: [path]}, secret=secret)
    role, _, kind = key.partition(":")
    if role == "subject":
        return masking.entity(Subject(kind, "1", {path: value}))["properties"][path]
    if role == "resource":
        return masking.entity(Resource(kind, "1", {path: value}))["properties"][path]
    if role == "arguments":
        return (masking.arguments(kind, None, {path: value}) or {})["arguments"][path]
    return masking.request(AccessRequest(Subject("user", "1"), "a", Resource("x", "1"), {path: value}))["context"][path]


@given(requests)
def test_values_are_never_recorded_unless_they_are_named(request: AccessRequest) -> None:
    """Types, ids and names are told; the values of properties and context are not, at any depth."""
    laced = request.evolve(
        subject=Subject(request.subject.type, request.subject.id, CONTENT),
        action=Action(request.action.name, CONTENT),
        resource=Resource(request.resource.type, "42", CONTENT),
        context=CONTENT,
        actors=[Subject("agent", "a1", CONTENT)],
    )
    for masking in (Masking(), Masking(as_is={"resource:elsewhere": ["name"]}, redacted={"context": ["name"]})):
        for told in (masking.request(laced), masking.query(laced)):
            for canary in ("canary", "7318008577", "1234.56789"):
                assert canary not in line(told)
            assert "nested" in told["context_omitted"]


def test_what_a_request_tells() -> None:
    """A request is told by types, ids and sorted names; what is not there is left out."""
    subject = Subject("user", "alice", {"b": 1, "a": 2})
    request = AccessRequest(
        subject, Action("read", {"x": 1}), Resource.new("document"), {"ip": 1}, [Subject("agent", "1")], "t"
    )
    assert Masking().request(request) == {
        "subject": {"type": "user", "id": "alice", "omitted": ["a", "b"]},
        "action": "read",
        "resource": {"type": "document"},
        "action_omitted": ["x"],
        "context_omitted": ["ip"],
        "actors": [{"type": "agent", "id": "1"}],
        "tenant": "t",
    }
    plain = AccessRequest(Subject("user", "alice"), "read", Resource("document", "1"))
    assert Masking().request(plain) == {
        "subject": {"type": "user", "id": "alice"},
        "action": "read",
        "resource": {"type": "document", "id": "1"},
    }


def test_what_is_named_is_told() -> None:
    """Values are told for their role, type and path only; what was left out beside them is named."""
    masking = Masking(
        as_is={
            "subject:user": ["roles", "team.name"],
            "resource:document": [("a.b",), ("a", "b")],
            "action:document:read": ["how"],
            "context": ["ip"],
        },
        redacted={"context": ["token"], "subject:agent": ["key"]},
    )
    content = {"roles": ["x"], "team": {"name": "t", "boss": "canary"}, "email": "canary"}
    request = AccessRequest(
        Subject("user", "1", content),
        Action("read", {"how": "fast", "x": "canary"}),
        Resource("document", "1", {"a.b": 1, "a": {"b": 2}}),
        {"ip": "::1", "token": "canary", "more": "canary"},
        [Subject("agent", "1", {"key": "canary", "roles": "canary"})],
    )
    told = masking.request(request)
    assert told == {
        "subject": {
            "type": "user", "id": "1", "omitted": ["email", "team"],
            "properties": {"roles": ("x",), "team": {"name": "t"}},
        },
        "action": "read",
        "action_properties": {"how": "fast"},
        "action_omitted": ["x"],
        "resource": {"type": "document", "id": "1", "properties": {"a": {"b": 2}, "a.b": 1}},
        "context": {"ip": "::1", "token": {"$redacted": True}},
        "context_omitted": ["more"],
        "actors": [{"type": "agent", "id": "1", "properties": {"key": {"$redacted": True}}, "omitted": ["roles"]}],
    }  # fmt: skip
    assert "canary" not in line(told)
    assert masking.query(request) == {
        **{name: value for name, value in told.items() if not name.startswith("action")},
        "action": {"name": "read", "properties": {"how": "fast"}, "omitted": ["x"]},
    }


def test_roles_are_kept_apart() -> None:
    """A type may be called like a role, and a subject's type like a resource's: neither opens the other."""
    masking = Masking(as_is={"context": ["a"], "resource:context": ["b"], "subject:document": ["c"]})
    content = {"a": "a!", "b": "b!", "c": "c!"}
    request = AccessRequest(
        Subject("document", "1", content), Action("arguments", content), Resource("context", "1", content), content
    )
    told = masking.request(request)
    assert [told["subject"]["properties"], told["resource"]["properties"], told["context"]] == [
        {"c": "c!"},
        {"b": "b!"},
        {"a": "a!"},
    ]
    assert told["action_omitted"] == ["a", "b", "c"]
    assert masking.entity(Subject("context", "1", content))["omitted"] == ["a", "b", "c"]


@pytest.mark.parametrize("value", [["canary"], "canary", None, 5, {}, {"x": "canary"}])
def test_a_path_that_leads_nowhere_shows_nothing(value: Any) -> None:
    """Where a path goes on below what is no mapping, or has no such name, nothing is told but that it was left out."""
    masking = Masking(as_is={"resource:document": ["a.b", "c.d.e", "gone"]})
    told = masking.entity(Resource("document", "1", {"a": value, "c": {"d": value}}))
    expected = {} if value == {} else {"omitted": ["a", "c"]}
    assert told == {"type": "document", "id": "1", **expected}


def test_names_inside_a_value_cannot_pass_for_marks() -> None:
    """A path to a name that looks like a mark shows it as what it is."""
    masking = Masking(as_is={"resource:document": ["a.$hmac", "b"]})
    resource = Resource("document", "1", {"a": {"$hmac": "forged"}, "b": {"$redacted": True}})
    assert masking.entity(resource)["properties"] == {"a": {"$$hmac": "forged"}, "b": {"$$redacted": True}}


@given(colliding, colliding)
def test_equal_values_and_only_those_correlate(one: Any, two: Any) -> None:
    """Two values of one path have one HMAC exactly when they are equal, types and all."""
    marks = [hashed("resource:document", "owner", value) for value in (one, two)]
    assert all(re.fullmatch("[0-9a-f]{32}", mark["$hmac"]) for mark in marks)
    assert (marks[0] == marks[1]) == (typed(freeze(one)) == typed(freeze(two)))


def test_values_correlate_within_their_path_only() -> None:
    """One value has another HMAC under another path, type, role or secret: tables of them cannot be joined."""
    places = [("subject:user", "a"), ("subject:user", "b"), ("subject:usera", "a"), ("resource:user", "a")]
    places += [("context", "a"), ("arguments:user:a", "a")]
    marks = [hashed(*place, "alice")["$hmac"] for place in places]
    marks.append(hashed("subject:user", "a", "alice", SECRET + b"!")["$hmac"])
    assert len(set(marks)) == len(marks)


def test_an_hmac_is_what_the_documentation_says() -> None:
    """Whoever has the secret can compute the HMAC of a value, to look for it."""
    domain = b"13:pep.masking/113:resource:user5:email"
    message = b"%d:%b%b" % (len(domain), domain, b'"a@b.c"')
    expected = hmac.new(SECRET, message, "sha256").hexdigest()[:32]
    assert hashed("resource:user", "email", "a@b.c") == {"$hmac": expected}


@pytest.mark.parametrize("value", [object(), ["x", object()], "x" * 2_000_000, [[]] * 10**7], ids=lambda _value: "")
def test_what_cannot_be_told_whole_is_not_hashed(value: Any) -> None:
    """Two values that are only alike as far as they can be told do not correlate."""
    assert hashed("arguments:document:read", "it", value) == {"$unrepresentable": "not hashed"}


def test_long_values_are_hashed_whole() -> None:
    """What is too long to be shown correlates all the same."""
    one, two = (hashed("resource:document", "text", "x" * 50_000 + end) for end in "ab")
    assert one == hashed("resource:document", "text", "x" * 50_000 + "a") != two
    assert one.keys() == {"$hmac"}


def test_the_query_has_an_hmac_of_all_of_it() -> None:
    """Where there is a secret, a record says exactly which question was asked, and shows nothing of it."""
    ask = [AccessRequest(Subject("user", "1", {"a": value}), "read", Resource("x", "1")) for value in (1, True)]
    masking = Masking(secret=SECRET)
    marks = [masking.query(request)["hmac"] for request in (*ask, ask[0])]
    assert (marks[0] == marks[2], marks[0] == marks[1]) == (True, False)
    assert "hmac" not in Masking().query(ask[0])


def test_arguments_are_told_for_their_action_only() -> None:
    """Arguments are told where the list names them, by the action with the resource's type; the rest by name."""
    masking = Masking(
        as_is={"arguments:document:rename": ["title", "options.force"]}, redacted={"arguments:a:b": ["c"]}
    )
    arguments = {"self": object(), "title": "new", "options": {"force": True, "x": "canary"}, "body": "canary"}
    told = {
        "arguments": {"title": "new", "options": {"force": True}},
        "arguments_omitted": ["body", "options", "self"],
    }
    assert masking.shows_arguments
    assert masking.arguments("rename", "document", arguments) == told
    assert masking.arguments("document:rename", "other", arguments) == told
    unnamed = {"arguments_omitted": ["body", "options", "self", "title"]}
    assert masking.arguments("rename", "other", arguments) == unnamed
    assert masking.arguments("rename", None, arguments) == unnamed
    assert masking.arguments("a:b", None, {"c": object()}) == {"arguments": {"c": {"$redacted": True}}}
    assert masking.arguments("a:b", None, {}) == {}


def test_arguments_are_told_as_they_are_now() -> None:
    """What a call does to its arguments later does not change the record."""
    title = ["a"]
    told = Masking(as_is={"arguments:d:r": ["title"]}).arguments("d:r", None, {"title": title})
    title.append("b")
    assert told == {"arguments": {"title": ("a",)}}


@pytest.mark.parametrize("masking", [Masking(), Masking(as_is={"context": ["a"]}), Masking(as_is={"context": []})])
def test_arguments_cost_nothing_where_none_is_named(masking: Masking) -> None:
    """Without a list that names arguments, nobody looks at them."""
    untouchable: Any = None
    assert not masking.shows_arguments
    assert masking.arguments("read", "document", untouchable) is None


def test_a_record_has_room_for_so_much() -> None:
    """One value is cut at its share, and all values of a record at theirs, also over several requests."""
    masking = Masking(as_is={"context": ["a", "b"]})
    request = AccessRequest(Subject("user", "1"), "read", Resource("x", "1"), {"a": "x" * 20_000, "b": "é" * 10_000})
    room = Room()
    told = [masking.request(request, room) for _ in range(20)]
    assert told[0]["context"]["a"] == {"$truncated": "x" * MAX_VALUE, "$length": 20_000}
    assert told[-1]["context"]["a"] == {"$truncated": "", "$length": 20_000}
    assert len(orjson.dumps(told)) < MAX_SHOWN + 20 * 300


BAD: list[tuple[dict[str, Any], str]] = [
    ({"as_is": {"document": ["a"]}}, "`document` says not whose values are meant; use `subject:<type>`"),
    ({"as_is": {"context:a": ["a"]}}, "says not whose"),
    ({"as_is": {"context:": ["a"]}}, "says not whose"),
    ({"as_is": {"subject": ["a"]}}, "says not whose"),
    ({"as_is": {"subject:": ["a"]}}, "says not whose"),
    ({"as_is": {"action:read": ["a"]}}, "says not whose"),
    ({"as_is": {"arguments:read": ["a"]}}, "says not whose"),
    ({"as_is": {"arguments:document:*": ["a"]}}, "says not whose"),
    ({"as_is": {"": ["a"]}}, "says not whose"),
    ({"as_is": {5: ["a"]}}, "a `int` says not whose"),
    ({"as_is": {"subject:\ud800": ["a"]}}, "a `str` says not whose"),
    ({"as_is": ["context"]}, "`as_is` is a `list`; give a mapping"),
    ({"redacted": {"context": "ip"}}, "`redacted` gives a `str` for `context`; give a list of paths"),
    ({"redacted": {"context": ("ip", "agent")}}, "`redacted` gives a `tuple` for `context`"),
    ({"redacted": {"context": {"ip": 1}}}, "`redacted` gives a `dict` for `context`"),
    ({"as_is": {"context": [5]}}, "a `int` is no path for `context`; join names by dots"),
    ({"as_is": {"context": [""]}}, "`` is no path for `context`"),
    ({"as_is": {"context": ["a..b"]}}, "`a..b` is no path"),
    ({"as_is": {"context": [()]}}, "a `tuple` is no path"),
    ({"as_is": {"context": [("a", 5)]}}, "a `tuple` is no path"),
    ({"as_is": {"context": ["\ud800"]}}, "a path for `context` is not valid Unicode"),
    ({"as_is": {"context": ["a", "a"]}}, "path `a` of `context` overlaps with another"),
    ({"as_is": {"context": ["a"]}, "redacted": {"context": ["a"]}}, "path `a` of `context` overlaps"),
    ({"as_is": {"context": ["a"]}, "redacted": {"context": ["a.b"]}}, "path `a.b` of `context` overlaps"),
    ({"as_is": {"context": ["a.b.c"]}, "redacted": {"context": ["a.b"]}}, "path `a.b` of `context` overlaps"),
    ({"as_is": {"context": ["a.b", ("a", "b")]}}, "path `a.b` of `context` overlaps"),
    ({"hashed": {"context": ["a"]}}, "`hashed` needs a secret"),
    ({"secret": "0123456789abcdef"}, "`secret` must be at least 16 bytes"),
    ({"secret": b"0123456789abcde"}, "`secret` must be at least 16 bytes"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_what_is_unclear_is_refused(options: dict[str, Any], message: str) -> None:
    """Whoever mistypes a list learns it at once, not from a record; the secret is never told."""
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}|{re.escape(message)}") as caught:
        Masking(**options)
    assert "0123456789abcde" not in str(caught.value)


def test_a_masking_shows_no_secret() -> None:
    """What a masking looks like tells whose values it shows, nothing else."""
    masking = Masking(hashed={"context": ["ip"], "subject:user": ["email"]}, secret=SECRET)
    assert repr(masking) == "<Masking that tells something of context, subject:user>"
    assert repr(Masking()) == "<Masking that tells something of nothing>"


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3), st.sampled_from(["as_is", "redacted"]))
def test_every_path_opens_itself_only(steps: list[str], how: str) -> None:
    """Of everything there is, a record tells exactly what lies at the path."""
    content: Any = "canary"
    for _ in range(3):
        content = dict.fromkeys("abc", content)
    options: Any = {how: {"context": [".".join(steps)]}}
    request = AccessRequest(Subject("user", "1"), "read", Resource("x", "1"), content)
    told = Masking(**options).request(request)
    assert told["context_omitted"] == [name for name in "abc" if [name] != steps]
    inside = told["context"]
    for step in steps:
        assert list(inside) == [step]
        inside = inside[step]
    assert orjson.dumps(inside).count(b"canary") == (3 ** (3 - len(steps)) if how == "as_is" else 0)
