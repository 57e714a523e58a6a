"""What a relationship engine is asked: every part of a request arrives under a stated name, or nothing is sent."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep import AccessRequest, Action, Resource, Subject
from pep.errors import ConfigurationError, PDPReplyError
from pep.pdp.relations import Asking, positive, sayable
from tests.proving import times

RELATION = re.compile(r"[a-z_]+")
REQUEST = AccessRequest(Subject("user", "alice"), "read", Resource("document", "1"))


def asking(
    relations: Any = None, parameters: Any = None, new: str | None = None, relation: re.Pattern[str] = RELATION
) -> Asking:
    return Asking(relations or {}, parameters or {}, new, relation)


FULL = AccessRequest(
    Subject("user", "alice", {"level": 3}),
    Action("read", {"via": "api"}),
    Resource("document", "1", {"tags": ["a"]}),
    {"hour": 9, "nested": {"at": 1.5}},
    [Subject("agent", "bot", {"model": "m"})],
    "acme",
)


def test_every_part_arrives() -> None:
    """Properties, context, actors and tenant, each where it is said to be."""
    everything = asking(parameters={"actors": "actors", "tenant": "world", "subject": "who"})
    assert everything.context(FULL) == {
        "hour": 9,
        "nested": {"at": 1.5},
        "who": {"level": 3},
        "action": {"via": "api"},
        "resource": {"tags": ["a"]},
        "actors": [{"type": "agent", "id": "bot", "properties": {"model": "m"}}],
        "world": "acme",
    }
    assert everything.context(REQUEST) == {}


@pytest.mark.parametrize(
    ("request_", "part"), [(REQUEST.evolve(tenant="acme"), "tenant"), (FULL.evolve(tenant=None), "actors")]
)
def test_what_has_no_place_is_refused(request_: AccessRequest, part: str) -> None:
    """A tenant or an actor that would be lost is never lost."""
    with pytest.raises(PDPReplyError, match=f"the {part} would be lost"):
        asking().context(request_)


@pytest.mark.parametrize("name", ["subject", "action", "resource", "world"])
def test_the_context_cannot_pass_for_a_part(name: str) -> None:
    """A caller's context does not say what the tenant or a property is."""
    with pytest.raises(PDPReplyError, match="the context holds a name"):
        asking(parameters={"tenant": "world"}).context(REQUEST.evolve(context={name: "acme"}))


def test_what_is_searched_for_is_left_out() -> None:
    """Of the part that is searched for only the type counts."""
    found = asking(parameters={"tenant": "tenant", "actors": "actors"}).context(FULL, without="resource")
    assert "resource" not in found
    assert found["subject"] == {"level": 3}


def test_what_was_sent_elsewhere_is_left_out() -> None:
    """What has a place of its own is not sent twice, and the rest of its part is."""
    request = REQUEST.evolve(subject=Subject("user", "alice", {"tuples": [1], "level": 3}), context={"tuples": 1})
    told = asking().context(request, leaving=frozenset({"subject.tuples"}))
    assert told == {"subject": {"level": 3}, "tuples": 1}


@pytest.mark.parametrize(
    ("value", "sent"),
    [(2**53, True), (-(2**53), True), (2**53 + 1, False), (-(2**53) - 1, False), (True, True), (1.5, True)],
)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [value], lambda value: {"in": [{"it": value}]}])
def test_an_integer_arrives_as_it_is(value: Any, sent: bool, wrap: Any) -> None:
    """The engines hold numbers as doubles: an integer that a double cannot hold is refused."""
    request = REQUEST.evolve(context={"n": wrap(value)})
    if sent:
        assert asking().context(request) == {"n": wrap(value)}
    else:
        with pytest.raises(PDPReplyError, match="53 bits"):
            asking().context(request)


@pytest.mark.parametrize(
    ("relations", "action", "wanted"),
    [
        ({}, "read", "read"),
        ({"read": "reader"}, "read", "reader"),
        ({"document:read": "viewer", "read": "reader"}, "read", "viewer"),
        ({"folder:read": "viewer"}, "read", "read"),
        ({"pay:refund": "refunder"}, "pay:refund", "refunder"),
    ],
)
def test_an_action_is_a_relation(relations: dict[str, str], action: str, wanted: str) -> None:
    """By its name with the type, by its name, or as it is."""
    assert asking(relations).relation(REQUEST.evolve(action=action)) == wanted


def test_an_action_that_is_no_relation_is_refused() -> None:
    """What the engine cannot say is not sent."""
    with pytest.raises(PDPReplyError, match="no relation"):
        asking().relation(REQUEST.evolve(action="pay:refund"))


def test_a_new_resource_has_a_stand_in() -> None:
    """The stand-in is for new ones alone."""
    new = REQUEST.evolve(resource=Resource.new("document"))
    assert asking(new="new").id(new) == "new"
    assert asking(new="new").id(REQUEST) == "1"
    with pytest.raises(PDPReplyError, match="name what stands for it"):
        asking().id(new)
    with pytest.raises(PDPReplyError, match="choose another"):
        asking(new="1").id(REQUEST)


@pytest.mark.parametrize(
    ("relations", "parameters", "match"),
    [
        ({"read": "no relation"}, {}, "is no relation"),
        ({"read": 1}, {}, "is no relation"),
        ({1: "read"}, {}, "must be a mapping"),
        (["read"], {}, "must be a mapping"),
        ({}, {"roles": "roles"}, "is no part"),
        ({}, {"tenant": "a b"}, "must be an identifier"),
        ({}, {"tenant": 1}, "must be an identifier"),
        ({}, {"tenant": "subject"}, "two parts"),
        ({}, "tenant", "must be a mapping"),
    ],
)
def test_configuration_mistakes_are_told_at_construction(relations: Any, parameters: Any, match: str) -> None:
    """Before anything is asked."""
    with pytest.raises(ConfigurationError, match=match):
        Asking(relations, parameters, None, RELATION)


@pytest.mark.parametrize("batch", [0, -1, True, "50", 1.0, None])
def test_a_batch_holds_one_or_more(batch: object) -> None:
    """A whole number, and no lookalike of one."""
    with pytest.raises(ConfigurationError, match="`batch`"):
        positive(batch)


@settings(max_examples=times(200, 20_000))
@given(st.text(max_size=40))
def test_what_can_be_said_is_said_as_it_is(text: str) -> None:
    """An id goes through unchanged, or not at all: no two ids become one."""
    try:
        said = sayable(text, re.compile(r"[^:#*\s]+"), 20, "id")
    except PDPReplyError:
        return
    assert said == text
    assert not set(said) & set(":#* \n\t\x00\u2028")
    assert 0 < len(said.encode()) <= 20


@pytest.mark.parametrize("text", ["", "a\n", "\x00", "\u202e", "a\u2028", "é" * 11, "*"])
def test_what_cannot_be_said_is_refused(text: str) -> None:
    """Unprintable, over the length in bytes, or against the grammar."""
    with pytest.raises(PDPReplyError, match="the id cannot be told"):
        sayable(text, re.compile(r"[^:#*\n]+"), 20, "id")
