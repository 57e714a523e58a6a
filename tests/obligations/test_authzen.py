from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.errors import PDPReplyError
from pep.model import Obligation
from pep.obligations.authzen import obligations_from_context, obligations_to_context, supported_to_context

STEP_UP = {
    "id": "obl-1",
    "type": "step-up",
    "properties": {"acr_value": "urn:com:example:loa:3", "amr_values": ["mfa"]},
}
NOTIFY = {"id": "obl-2", "type": "notification", "properties": {"to": "manager@example.com", "body": "Read."}}


def test_obligations_of_a_response_are_read() -> None:
    """Each obligation of the context is one, in order, with its id."""
    read = obligations_from_context({"obligations": [STEP_UP, NOTIFY], "reason": "x"})
    assert read == (
        Obligation("step-up", {"acr_value": "urn:com:example:loa:3", "amr_values": ["mfa"]}, "obl-1"),
        Obligation("notification", {"to": "manager@example.com", "body": "Read."}, "obl-2"),
    )


@pytest.mark.parametrize("context", [None, {}, {"reason": "x"}, {"obligations": []}, {"obligations": ()}])
def test_a_context_may_have_none(context: Any) -> None:
    """A decision point that has nothing to demand says nothing."""
    assert obligations_from_context(context) == ()


MALFORMED: list[Any] = [
    [],
    "x",
    7,
    {"obligations": None},
    {"obligations": STEP_UP},
    {"obligations": "step-up"},
    *[
        {"obligations": [NOTIFY, wrong]}
        for wrong in (
            None,
            "step-up",
            [],
            {},
            {"type": "step-up", "properties": {}},
            {"id": "1", "properties": {}},
            {"id": "1", "type": "step-up"},
            {**STEP_UP, "id": ""},
            {**STEP_UP, "id": None},
            {**STEP_UP, "id": 1},
            {**STEP_UP, "id": "\ud800"},
            {**STEP_UP, "type": ""},
            {**STEP_UP, "type": None},
            {**STEP_UP, "type": ["step-up"]},
            {**STEP_UP, "properties": None},
            {**STEP_UP, "properties": []},
            {**STEP_UP, "properties": {"a": float("nan")}},
            {**STEP_UP, "properties": {1: 2}},
            {**STEP_UP, "optional": True},
            NOTIFY,
        )
    ],
]


@pytest.mark.parametrize("context", MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_malformed_is_no_reply(context: Any) -> None:
    """What the profile does not allow was not understood: the whole reply is malformed."""
    with pytest.raises(PDPReplyError):
        obligations_from_context(context)


properties = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=4),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.text(st.characters(codec="utf-8"))),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)
obligations = st.lists(
    st.builds(
        Obligation, st.sampled_from(["redact", "custom"]), properties, st.sampled_from([None, "1", "obligation-1", "x"])
    ),
    max_size=5,
)


@given(obligations)
def test_both_directions_agree(given_: list[Obligation]) -> None:
    """What was written is read again as it was, with an id for each that had none; two of one id are refused."""
    named = [one.id for one in given_ if one.id is not None]
    if len(set(named)) < len(named):
        with pytest.raises(PDPReplyError, match="two obligations of one decision have one id"):
            obligations_to_context(given_)
        return
    written = json.loads(json.dumps(obligations_to_context(given_)))
    read = obligations_from_context(written)
    assert [(one.type, one.properties) for one in read] == [(one.type, one.properties) for one in given_]
    assert [new.id for new, old in zip(read, given_, strict=True) if old.id is not None] == named
    assert len({one.id for one in read}) == len(given_)
    assert obligations_to_context(read) == written


def test_what_is_understood_is_told() -> None:
    """A request may tell which types its handlers understand."""
    assert supported_to_context({"redact", "clamp"}) == {"supported_obligations": ["clamp", "redact"]}
