"""Strategies for the values of the model: JSON-like content, and entities made of it."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from pep.model import AccessRequest, Action, Resource, Subject

#: Text with what has broken others: separators, look-alikes, normal forms, invisible and astral characters.
TRICKY = [
    "",
    "a",
    "1",
    "True",
    "null",
    '"',
    "\\",
    "\n",
    "a:b",
    "K",
    "\u212a",
    "é",
    "e\u0301",
    "\u2028",
    "\u202e",
    "\U0001f600",
]

texts = st.sampled_from(TRICKY) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
names = texts.filter(bool)
scalars = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, 1, -1, 0.0, -0.0, 1.0, 1e300, 2**53, 2**63 - 1, -(2**63)])
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
#: JSON-like values, as a user hands them over.
contents: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
mappings = st.dictionaries(texts, contents, max_size=3)

subjects = st.builds(Subject, names, names, mappings)
resources = st.builds(Resource, names, names, mappings) | st.builds(Resource.new, names, mappings)
actions = st.builds(Action, names.filter(lambda name: "*" not in name), mappings)
requests = st.builds(
    AccessRequest, subjects, actions, resources, mappings, st.lists(subjects, max_size=2), st.none() | names
)

#: A tiny alphabet of values that Python or JSON would take for one another.
COLLIDING: list[Any] = [
    1,
    True,
    1.0,
    "1",
    "True",
    "1.0",
    0,
    False,
    0.0,
    "",
    "0",
    None,
    "null",
    [],
    {},
    [1],
    ["1"],
    [[1]],
    {"1": 1},
    {"a": 1},
    ["a", 1],
]
colliding = st.sampled_from(COLLIDING) | st.lists(st.sampled_from(COLLIDING), max_size=2)


def typed(value: Any) -> Any:
    """What a value is, types and all: two are the same exactly when this is equal."""
    if isinstance(value, dict):
        return "dict", frozenset((key, typed(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return "list", tuple(typed(item) for item in value)
    return type(value), repr(value)
