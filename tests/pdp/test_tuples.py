"""Contextual tuples are sent as they are, or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from pep.errors import PDPReplyError
from pep.frozen import FrozenDict
from pep.pdp.tuples import checked_tuples

ONE = {"user": "user:alice", "relation": "member", "object": "group:eng"}


def test_tuples_are_sent_as_they_are() -> None:
    """With and without a condition, frozen or not."""
    under = {**ONE, "condition": {"name": "in_time", "context": {"until": 5}}}
    assert checked_tuples([ONE, under]) == [ONE, under]
    assert checked_tuples((FrozenDict(ONE), {**ONE, "condition": {"name": "plain"}})) == [
        ONE,
        {**ONE, "condition": {"name": "plain"}},
    ]
    assert checked_tuples([ONE] * 100) == [ONE] * 100


@pytest.mark.parametrize(
    "given",
    [
        None,
        ONE,
        "user:alice",
        iter([ONE]),
        [ONE] * 101,
        ["user:alice"],
        [{"user": "user:alice", "relation": "member"}],
        [{**ONE, "more": 1}],
        [{**ONE, "user": None}],
        [{**ONE, "user": ""}],
        [{**ONE, "user": "user:a b"}],
        [{**ONE, "object": "x" * 257}],
        [{**ONE, "condition": None}],
        [{**ONE, "condition": {}}],
        [{**ONE, "condition": {"name": 1}}],
        [{**ONE, "condition": {"name": "a", "more": 1}}],
        [{**ONE, "condition": {"name": "a", "context": []}}],
        [{**ONE, "condition": {"name": "a", "context": {"b": float("nan")}}}],
        [{**ONE, "condition": {"name": "a", "context": {"b": object()}}}],
        [{**ONE, "user": "user:\ud800"}],
        [{1: "user:alice"}],
    ],
)
def test_anything_else_is_refused(given: Any) -> None:
    """A relationship that is malformed grants nothing."""
    with pytest.raises(PDPReplyError, match="contextual tuple"):
        checked_tuples(given)
