"""The law of argument digests: equal exactly when names, types and values are."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pep.canonical import digest

leaves = st.sampled_from([None, True, False, 0, 1, 0.0, 1.0, -0.0, "", "0", "1", "a", "ab", "b", b"", b"a", b"1", 1j])
values: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.tuples(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(leaves, inner, max_size=2)
        | st.frozensets(leaves, max_size=2)
    ),
    max_leaves=5,
)
calls = st.dictionaries(st.sampled_from(["a", "b", "ab", ""]), values, max_size=3)


def shape(value: Any) -> Any:
    """What a value is, types and all, without saying so in bytes."""
    kind = type(value)
    if kind is dict:
        return kind, frozenset((shape(key), shape(item)) for key, item in value.items())
    if kind is frozenset:
        return kind, frozenset(shape(item) for item in value)
    if kind in {list, tuple}:
        return kind, tuple(shape(item) for item in value)
    return kind, repr(value)


@given(calls, calls)
def test_digests_are_injective(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Two calls digest alike exactly when they are the same call."""
    assert (digest(one) == digest(other)) == (shape(one) == shape(other))


@given(calls)
def test_digests_depend_on_no_order(call: dict[str, Any]) -> None:
    """In which order arguments were given does not matter."""
    assert digest(call) == digest(dict(reversed(call.items())))
