"""Entities known beforehand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cedarpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep import AccessRequest, Resource, Subject
from pep.errors import ConfigurationError, PDPReplyError
from pep.pdp.cedar import CedarPDP
from pep.pdp.cedar_entities import Known
from tests.pdp.cedar_cases import (
    ALL,
    DOUBT,
    KNOWN,
    PERMIT,
    REQUEST,
    SCHEMA,
    VIEW,
    effect,
    entity,
    ref,
    when,
)
from tests.proving import times


@pytest.mark.parametrize(
    "condition",
    [
        'principal in group::"all"',
        "principal.level == 3",
        "principal.boss.level == 9",
        'group::"staff".floor == 2',
        'action in Action::"look"',
        'principal.boss.tags.contains("a")',
        'user::"bob" has level',
        '!(user::"carl" has level)',
    ],
)
def test_what_is_known_beforehand_is_reached(condition: str, tmp_path: Path) -> None:
    """Entities come as data, text, a file or a handle, and are seen through the request and through policies."""
    path = tmp_path / "entities.json"
    path.write_text(json.dumps(KNOWN))
    for known in (KNOWN, json.dumps(KNOWN), path, cedarpy.Entities.from_json_str(json.dumps(KNOWN))):
        assert effect(when(condition), entities=known) is PERMIT


def test_parents_told_twice_are_parents_once() -> None:
    """What a request tells of a known entity is added to what is known, in time by their number."""
    count = 3_000
    ids = [f"g{number}" for number in range(count)]
    known = [entity("user", "alice", tuple(ids[:-1]))]
    told = Known(known, []).around({("user", "alice"): entity("user", "alice", tuple(ids[1:]))}, ("Action", "read"), {})
    (one,), _ = told
    assert [parent["id"] for parent in one["parents"]] == ids


def test_what_is_known_fits_the_schema() -> None:
    """Entities are validated as the policies are; actions are the schema's."""
    known = [entity("user", "alice", ("staff",), level=3), entity("group", "staff")]
    for condition in ('principal in group::"staff"', 'user::"alice" in group::"staff"'):
        assert effect(when(condition), VIEW, schema=SCHEMA, entities=known) is PERMIT
    with pytest.raises(ConfigurationError, match="the entities do not load"):
        CedarPDP(ALL, schema=SCHEMA, entities=[entity("user", "alice", level="x")])


def test_a_request_adds_to_what_is_known() -> None:
    """Attributes and parents are joined; what is said twice must be the same."""
    subject = Subject("user", "alice", {"level": 3, "x": 1, "groups": ["other", "staff"]})
    joined = when(
        'principal in group::"all" && principal in group::"other" && principal.x == 1 && principal.level == 3'
    )
    options: dict[str, Any] = {"entities": KNOWN, "parents": {"groups": "group"}}
    assert effect(joined, REQUEST.evolve(subject=subject), **options) is PERMIT
    for level in (4, True, "3", [3]):
        with pytest.raises(PDPReplyError, match="`level` of `user`"):
            CedarPDP(ALL, **options).decide(REQUEST.evolve(subject=Subject("user", "alice", {"level": level})))


CONDITIONS_ON_KNOWN = [
    'principal in group::"g0"',
    'resource in group::"g1"',
    'user::"u0".n == 1',
    'user::"u1" in group::"g2"',
    "principal.n == 1",
    "principal.to.n == 1",
    "principal.to.to.n == 1",
    'resource has to && resource.to in group::"g0"',
    'action in Action::"g0"',
    'context has pep && context.pep.actors.contains(user::"u1") && user::"u1".n == 1',
]
_users = st.sampled_from(["u0", "u1", "u2"])
_groups = st.sampled_from(["g0", "g1", "g2"])


@st.composite
def graphs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Entities that mention one another; groups only those after them, so that there is no circle."""
    found = []
    for name in draw(st.sets(_users)):
        attributes: dict[str, Any] = draw(st.sampled_from([{}, {"n": 1}, {"n": 2}]))
        to = draw(st.none() | _users)
        parents = draw(st.sets(_groups, max_size=2))
        attributes = {**attributes, "to": ref("user", to)} if to else attributes
        found.append(entity("user", name, tuple(parents), **attributes))
    for index in draw(st.sets(st.integers(0, 2))):
        above = tuple(f"g{other}" for other in range(index + 1, 3) if draw(st.booleans()))
        found.append(entity("group", f"g{index}", above))
    if draw(st.booleans()):
        found.append(
            {"uid": {"type": "Action", "id": "read"}, "attrs": {}, "parents": [{"type": "Action", "id": "g0"}]}
        )
    return found


@given(
    st.lists(st.sampled_from(CONDITIONS_ON_KNOWN), min_size=1, max_size=3, unique=True),
    graphs(),
    _users,
    st.sampled_from([{}, {"m": 1}, {"groups": ["g0"]}]),
    st.sampled_from([{}, {"to": "u0"}, {"to": "u1"}]),
    st.lists(_users, max_size=1),
)
@settings(max_examples=times(200, 10_000))
def test_leaving_out_what_cannot_be_reached_changes_nothing(  # noqa: PLR0917  what was drawn
    conditions: list[str],
    known: list[dict[str, Any]],
    user: str,
    properties: dict[str, Any],
    about: dict[str, Any],
    agents: list[str],
) -> None:
    """The answer is that of Cedar over all entities at once."""
    text = "\n".join(when(condition) for condition in conditions)
    pdp = CedarPDP(text, entities=known, parents={"groups": "group"}, references={"to": "user"}, skip_errors=True)
    actors = [Subject("user", name) for name in agents]
    decided = pdp.decide(
        AccessRequest(Subject("user", user, properties), "read", Resource("doc", "d", about), actors=actors)
    )
    whole = {(one["uid"]["type"], one["uid"]["id"]): one for one in [entity("user", name) for name in {user, *agents}]}
    whole |= {(one["uid"]["type"], one["uid"]["id"]): one for one in known}
    mine = whole["user", user]
    groups = [{"type": "group", "id": name} for name in properties.get("groups", ())]
    whole["user", user] = {**mine, "attrs": {**mine["attrs"], **properties}, "parents": [*mine["parents"], *groups]}
    whole["doc", "d"] = entity("doc", "d", (), **{name: ref("user", to) for name, to in about.items()})
    asked = {
        "principal": {"type": "user", "id": user},
        "action": {"type": "Action", "id": "read"},
        "resource": {"type": "doc", "id": "d"},
        "context": {"pep": {"actors": [ref("user", name) for name in agents]}} if agents else {},
    }
    expected = cedarpy.is_authorized(asked, text, list(whole.values()))
    assert list(decided.policies) == sorted(expected.diagnostics.reasons)
    assert (decided.effect is PERMIT) is expected.allowed


def test_what_is_said_twice_is_the_same_type_too() -> None:
    """A one is not true, though Python takes them for the same."""
    with pytest.raises(PDPReplyError, match="`flag` of `user`"):
        CedarPDP(ALL, entities=[entity("user", "alice", flag=1)]).decide(
            REQUEST.evolve(subject=Subject("user", "alice", {"flag": True}))
        )


def test_a_request_adds_to_what_policies_mention() -> None:
    """Also where a policy names the entity, which is parsed beforehand."""
    pdp = CedarPDP(
        when('user::"alice".x == 1 && principal in group::"other" && user::"dora".level == 9'),
        entities=[*KNOWN, entity("user", "dora", (), level=9)],
        parents={"groups": "group"},
    )
    subject = Subject("user", "alice", {"x": 1, "groups": ["other"]})
    assert pdp.decide(REQUEST.evolve(subject=subject)).effect is PERMIT
    assert pdp.decide(REQUEST).effect is DOUBT


def test_what_is_known_is_reached_step_by_step() -> None:
    """An entity that only another known one mentions is there too."""
    known = [
        entity("user", "alice", (), boss=ref("user", "bob")),
        entity("user", "bob", (), boss=ref("user", "carl")),
        entity("user", "carl", (), level=7),
    ]
    assert effect(when("principal.boss.boss.level == 7"), entities=known) is PERMIT


def test_what_only_the_context_mentions_is_reached() -> None:
    """A schema may say that a member of the context is an entity."""
    schema = (
        "entity user { level?: Long }; entity document;"
        "action read appliesTo { principal: user, resource: document, context: { by: user } };"
    )
    known = [entity("user", "bob", (), level=9)]
    request = REQUEST.evolve(context={"by": {"type": "user", "id": "bob"}})
    policy = when("context.by has level && context.by.level == 9")
    assert effect(policy, request, schema=schema, entities=known) is PERMIT
    assert effect(policy, request, schema=schema) is not PERMIT
