from __future__ import annotations

import pickle
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.decision import Decision, Effect, Obligation
from pep.errors import PDPReplyError
from tests.values import colliding, typed

DUTY = Obligation("redact", {"fields": ["ssn"]}, "o1")
FULL = Decision(Effect.PERMIT, [DUTY], [DUTY], ["because"], ["p1"], "r1", 30, "d1")


def test_a_decision_has_no_truth_value() -> None:
    """A denial that is truthy has let people in elsewhere: a decision refuses to be asked."""
    for effect in Effect:
        with pytest.raises(TypeError, match=r"effect is Effect\.PERMIT"):
            bool(Decision(effect))


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize("effect", ["permit", True, 1, None, Effect, "PERMIT", object()])
def test_only_an_effect_is_one(effect: Any) -> None:
    """Nothing that looks like an effect is one."""
    with pytest.raises(PDPReplyError, match="must be an `Effect`"):
        Decision(effect)


@pytest.mark.parametrize("ttl", [-1, -0.001, float("nan"), float("inf"), 10**400, -(10**400), True, "30", [30], 1j])
def test_times_to_live_are_finite_and_not_negative(ttl: Any) -> None:
    """A ttl that is no finite number of seconds from zero on is no answer."""
    with pytest.raises(PDPReplyError, match="finite number of seconds"):
        Decision(Effect.PERMIT, ttl=ttl)


@pytest.mark.parametrize(("ttl", "expected"), [(None, None), (0, 0.0), (0.0, 0.0), (30, 30.0), (1e300, 1e300)])
def test_what_times_to_live_become(ttl: Any, expected: float | None) -> None:
    """Seconds are a float, and none at all stays none."""
    found = Decision(Effect.PERMIT, ttl=ttl).ttl
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("field", ["obligations", "advice", "reasons", "policies"])
@pytest.mark.parametrize(
    "value", ["abc", None, {"a"}, {"a": 1}, 1, iter(()), [None], [1], [Text("x")], ["\ud800", 1], [[DUTY]]]
)
def test_lists_are_lists_of_exactly_one_kind(field: str, value: Any) -> None:
    """A string is no list of strings, and one wrong member spoils the answer."""
    with pytest.raises(PDPReplyError, match=field):
        Decision(Effect.PERMIT, **{field: value})


@pytest.mark.parametrize("field", ["revision", "id"])
@pytest.mark.parametrize("value", ["", 1, b"x", Text("x"), ["x"]])
def test_names_are_exact_text_or_none(field: str, value: Any) -> None:
    """A revision or id is a non-empty `str`, or there is none."""
    with pytest.raises(PDPReplyError, match="must be a non-empty `str`"):
        Decision(Effect.PERMIT, **{field: value})
    with pytest.raises(PDPReplyError, match="must be a non-empty `str`"):
        Obligation(value)


@pytest.mark.parametrize(
    "make",
    [
        lambda t: Decision(Effect.PERMIT, reasons=[t]),
        lambda t: Decision(Effect.PERMIT, policies=[t]),
        lambda t: Decision(Effect.PERMIT, revision=t),
        lambda t: Decision(Effect.PERMIT, id=t),
        lambda t: Obligation(t),
        lambda t: Obligation("redact", id=t),
        lambda t: Obligation("redact", {"a": [t]}),
    ],
)
def test_what_cannot_be_recorded_is_no_answer(make: Any) -> None:
    """Text with a lone surrogate would make the record fail later; it is refused at once."""
    make("\U0001f600")
    with pytest.raises(PDPReplyError, match="Unicode"):
        make("x\ud800")


@pytest.mark.parametrize("properties", [None, [], "x", {"a": object()}, {"a": float("nan")}, {1: 2}])
def test_properties_of_obligations_are_frozen_values(properties: Any) -> None:
    """What cannot be frozen is the decision point's mistake."""
    with pytest.raises(PDPReplyError):
        Obligation("redact", properties)


@given(st.tuples(colliding, colliding))
def test_obligations_compare_by_type_too(pair: tuple[Any, Any]) -> None:
    """Two obligations are equal exactly when every property is, types included."""
    one, other = (Obligation("limit", {"a": value}) for value in pair)
    assert (one == other) == (typed(pair[0]) == typed(pair[1]))
    assert one != other or hash(one) == hash(other)


@pytest.mark.parametrize("value", [DUTY, FULL, Decision(Effect.DENY)])
def test_answers_pickle_and_evolve(value: Any) -> None:
    """An answer is a value: it pickles, compares, hashes, evolves and does not change."""
    again = pickle.loads(pickle.dumps(value))  # noqa: S301  our own bytes
    assert again == value == attrs.evolve(value)
    assert hash(again) == hash(value)
    for name in attrs.fields_dict(type(value)):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(value, name, None)


def test_what_a_decision_holds_is_its_own() -> None:
    """Lists handed over may change later; the decision does not."""
    reasons, fields = ["because"], ["ssn"]
    answer = Decision(Effect.PERMIT, [Obligation("redact", {"fields": fields})], reasons=reasons)
    reasons.append("more")
    fields.append("more")
    assert answer.reasons == ("because",)
    assert answer.obligations[0].properties == {"fields": ("ssn",)}
    with pytest.raises(PDPReplyError):
        attrs.evolve(answer, effect="permit")
