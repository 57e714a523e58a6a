"""The laws of the model's values, over generated content."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.model import AccessRequest, Action, Resource, Subject
from tests.values import actions, colliding, mappings, names, requests, resources, subjects, typed

ENTITIES = {
    "subject": (Subject, subjects),
    "resource": (Resource, resources),
    "action": (Action, actions),
    "request": (AccessRequest, requests),
}
per_entity = pytest.mark.parametrize(("kind", "strategy"), ENTITIES.values(), ids=ENTITIES)


@per_entity
@given(data=st.data())
def test_json_round_trips(kind: Any, strategy: st.SearchStrategy[Any], data: st.DataObject) -> None:
    """A value that was written as JSON and read again is the same value."""
    value = data.draw(strategy)
    again = kind.from_dict(json.loads(json.dumps(value.to_dict())))
    assert again == value
    assert again.key == value.key


@per_entity
@given(data=st.data())
def test_pickles_round_trip(kind: Any, strategy: st.SearchStrategy[Any], data: st.DataObject) -> None:
    """A value that was pickled is the same value, of the same exact type."""
    value = data.draw(strategy)
    again = pickle.loads(pickle.dumps(value))  # noqa: S301  our own bytes
    assert type(again) is kind
    assert (again, again.key, hash(again)) == (value, value.key, hash(value))


@given(st.lists(st.tuples(names, names, colliding), min_size=2, max_size=2))
def test_keys_are_injective(parts: list[tuple[str, str, Any]]) -> None:
    """Two subjects have one key exactly when type, id and every property are the same, types included."""
    (one, other), (a, b) = parts, (Subject(kind, name, {"p": value}) for kind, name, value in parts)
    same = one[:2] == other[:2] and typed(one[2]) == typed(other[2])
    assert (a.key == b.key) == (a == b) == same
    assert not same or hash(a) == hash(b)


@given(st.tuples(requests, requests))
def test_keys_of_requests_are_injective(pair: tuple[AccessRequest, AccessRequest]) -> None:
    """Two requests have one key exactly when every part is the same: tenant, actors and context too."""
    one, other = pair
    same = (
        (one.subject, one.action, one.resource, one.actors)
        == (other.subject, other.action, other.resource, other.actors)
        and typed(one.context) == typed(other.context)
        and one.tenant == other.tenant
    )
    assert (one.key == other.key) == (one == other) == same


SMALL = ["a", "b", "ab", "c", "bc", "\n", '"', "a\n", ',"b"']


@given(st.tuples(*[st.tuples(*[st.sampled_from(SMALL)] * 5)] * 2), st.integers(0, 2), st.integers(0, 2))
def test_separators_forge_nothing(parts: tuple[tuple[str, ...], tuple[str, ...]], few: int, many: int) -> None:
    """No choice of ids moves text from one part of a request into another."""

    def made(words: tuple[str, ...], actors: int) -> AccessRequest:
        kind, name, action, thing, key = words
        return AccessRequest(
            Subject(kind, name), Action(action), Resource(kind, thing), {key: name}, [Subject(kind, thing)] * actors
        )

    one, other = made(parts[0], few), made(parts[1], many)
    assert (one.key == other.key) == (parts[0] == parts[1] and few == many)


@given(requests, st.sampled_from(["subject", "action", "resource", "context", "actors", "tenant"]), st.data())
def test_every_part_is_in_the_key(request: AccessRequest, part: str, data: st.DataObject) -> None:
    """Changing any one part of a request changes its key."""
    strategy = {
        "subject": subjects,
        "action": actions,
        "resource": resources,
        "context": mappings,
        "actors": st.lists(subjects, max_size=2),
        "tenant": st.none() | names,
    }[part]
    changed = request.evolve(**{part: data.draw(strategy)})
    before, after = getattr(request, part), getattr(changed, part)
    assert (changed.key == request.key) == (typed_part(before) == typed_part(after))


def typed_part(value: Any) -> Any:
    return typed(value) if isinstance(value, dict) else value
