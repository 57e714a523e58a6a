from __future__ import annotations

import math
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep import Enforcer, acting_as
from pep.audit import MemorySink
from pep.canonical import digest
from pep.errors import AccessDenied, ObligationError
from pep.frozen import FrozenDict
from pep.model import AccessRequest, Obligation, Resource, Subject
from pep.obligations.arguments import Clamp, SetArguments
from pep.obligations.paths import Path
from pep.policy import PolicySet, permit
from pep.protocols import Call
from pep.testing.conformance import check_handler

REQUEST = AccessRequest(Subject("user", "alice"), "pay", Resource("account", "1"))
CANARY = "canary-7261"


def call_with(**arguments: Any) -> Call:
    return Call(REQUEST, MappingProxyType(arguments))


def after_setting(call: Call, **values: Any) -> dict[str, Any]:
    return dict(SetArguments().discharge(Obligation("set-arguments", values), call).arguments)


@pytest.mark.parametrize("value", [None, True, 7, 1.5, "x", [1, [2]], {"a": {"b": 1}}])
def test_arguments_are_set(value: Any) -> None:
    """An argument gets the value; the others stay, and what was given is not changed."""
    call = call_with(a=1, b=CANARY)
    assert after_setting(call, a=value) == {"a": value, "b": CANARY}
    assert dict(call.arguments) == {"a": 1, "b": CANARY}


def test_what_is_set_is_free_to_be_changed() -> None:
    """Lists and mappings are plain, and made anew each time."""
    obligation = Obligation("set-arguments", {"a": {"b": [1]}})
    one, other = (SetArguments().discharge(obligation, call_with(a=1)).arguments["a"] for _time in range(2))
    assert (type(one), type(one["b"])) == (dict, list)
    one["b"].append(2)
    assert other == {"b": [1]}
    assert type(obligation.properties["a"]) is FrozenDict


@pytest.mark.parametrize("values", [{"c": CANARY}, {"a": 1, "c": 1}, {"kwargs.x": 1}, {"x": 1}])
def test_unknown_parameters_fail(values: dict[str, Any]) -> None:
    """What the call has no parameter for cannot be set, also not inside another one."""
    with pytest.raises(ObligationError) as caught:
        after_setting(call_with(a=1, kwargs={"x": 1}), **values)
    assert str(caught.value) == "obligation `set-arguments` names a parameter that the call does not have"


def test_it_sets_something() -> None:
    """An obligation that sets nothing was not understood."""
    with pytest.raises(ObligationError, match="names no argument"):
        after_setting(call_with(a=1))


def test_what_collects_arguments_stays_what_it_is() -> None:
    """A tuple gets a list as a tuple, a dict a mapping; they may be what `*` and `**` collected."""
    call = call_with(args=(1, 2), kwargs={"a": 1})
    assert after_setting(call, args=[3], kwargs={"b": 2}) == {"args": (3,), "kwargs": {"b": 2}}
    for wrong in ({"args": 7261}, {"args": {"a": 1}}, {"kwargs": [7261]}, {"kwargs": None}):
        with pytest.raises(ObligationError, match="obligation `set-arguments` cannot replace a") as caught:
            after_setting(call, **wrong)
        assert "7261" not in str(caught.value)


def clamped(value: Any, *, path: str = "amount", **bounds: Any) -> Any:
    obligation = Obligation("clamp", {"path": path, **bounds})
    call = call_with(amount=value, other=CANARY)
    left = Clamp().discharge(obligation, call)
    assert (left.arguments["other"], call.arguments["amount"]) == (CANARY, value)
    assert (left is call) == (left.arguments["amount"] is value)
    return left.arguments["amount"]


CLAMPED: list[tuple[Any, dict[str, Any], Any]] = [
    (500, {"maximum": 100}, 100),
    (100, {"maximum": 100}, 100),
    (50, {"maximum": 100}, 50),
    (-5, {"minimum": 0}, 0),
    (5, {"minimum": 0, "maximum": 0}, 0),
    (500, {"maximum": 100.5}, 100),
    (-500, {"minimum": -100.5}, -100),
    (500, {"maximum": -0.5}, -1),
    (1.5, {"maximum": 1}, 1.0),
    (0.5, {"minimum": 1}, 1.0),
    (math.inf, {"maximum": 1}, 1.0),
    (-math.inf, {"minimum": 1}, 1.0),
    (Decimal(500), {"maximum": 100}, Decimal(100)),
    (Decimal("0.1000000001"), {"maximum": 0.1}, Decimal("0.1")),
    (Decimal("0.1"), {"maximum": 0.1}, Decimal("0.1")),
    (Decimal("Infinity"), {"maximum": 1}, Decimal(1)),
    (1e300, {"maximum": 2**53 + 1}, float(2**53)),
    (-1e300, {"minimum": -(2**53) - 1}, -float(2**53)),
    (10**30, {"maximum": 1e20}, 10**20),
]


@pytest.mark.parametrize(("value", "bounds", "expected"), CLAMPED)
def test_numbers_are_held_within_bounds(value: Any, bounds: dict[str, Any], expected: Any) -> None:
    """A number is moved to the bound it is beyond, in its own type and never past the bound."""
    held = clamped(value, **bounds)
    assert held == expected
    assert type(held) is type(expected)


@given(
    st.one_of(st.integers(), st.floats(allow_nan=False), st.decimals(allow_nan=False, allow_infinity=True, places=3)),
    st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)),
    st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)),
)
def test_what_is_held_is_within(value: Any, one: float, other: float) -> None:
    """Whatever the number and the bounds: it ends within them, exactly, or fails; what was within is not touched."""
    least, most = min(one, other), max(one, other)

    def exact(number: Any) -> Any:
        # A decimal is compared with a bound as it was written.
        written = Decimal(repr(number)) if isinstance(value, Decimal) and type(number) is float else number
        return written if type(written) is float and math.isinf(written) else Fraction(written)

    try:
        held = clamped(value, minimum=least, maximum=most)
    except ObligationError:
        assert type(value) is not Decimal
        assert int(least) == int(most) or type(value) is float
        return
    assert exact(least) <= exact(held) <= exact(most)
    infinite = not isinstance(value, int) and not math.isfinite(value)
    if not infinite and exact(least) <= exact(value) <= exact(most):
        assert held is value


class Level(IntEnum):
    HIGH = 7261


class Own(int):
    """A number with a mind of its own."""


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, "bool"),
        ("7261", "str"),
        (None, "NoneType"),
        (Level.HIGH, "Level"),
        (Own(7261), "Own"),
        (Fraction(7261), "Fraction"),
        (7261j, "complex"),
        ([7261], "list"),
    ],
)
def test_what_is_no_number_fails(value: Any, kind: str) -> None:
    """Only exact numbers can be held; what only looks like one may compare as it likes."""
    with pytest.raises(ObligationError) as caught:
        clamped(value, maximum=1)
    told = f"property `path` of obligation `clamp` leads to a `{kind}`, which is no exact `int`, `float` or `Decimal`"
    assert str(caught.value) == told


@pytest.mark.parametrize("value", [math.nan, Decimal("NaN"), Decimal("sNaN"), -math.nan])
def test_nan_fails(value: Any) -> None:
    """NaN is beyond no bound, and within none."""
    with pytest.raises(ObligationError, match="property `path` of obligation `clamp` leads to NaN"):
        Clamp().discharge(Obligation("clamp", {"path": "a", "maximum": 1}), call_with(a=value))


def test_no_whole_number_within_fails() -> None:
    """Where no number of its type is within the bounds, there is nothing to hold it to."""
    with pytest.raises(ObligationError, match="leads to a `int`, and none is within the bounds"):
        clamped(5, minimum=0.1, maximum=0.9)
    assert clamped(5.0, minimum=0.1, maximum=0.9) == 0.9


@attrs.frozen
class Order:
    amount: int
    lines: tuple[dict[str, Any], ...] = ()


def test_numbers_inside_arguments() -> None:
    """A path leads into an argument, to one number or several; the argument is copied."""
    order = Order(500, ({"price": 7}, {"price": 700}))
    assert clamped(order, path="amount.amount", maximum=100) == Order(100, order.lines)
    assert clamped(order, path="amount.lines.*.price", maximum=100) == Order(500, ({"price": 7}, {"price": 100}))
    assert clamped(order, path="amount.lines.*.price", maximum=1000) is order
    for path in ("amount.absent", "amount.lines.2.price", "amount.lines.*.absent"):
        with pytest.raises(ObligationError, match="property `path` of obligation `clamp` leads"):
            clamped(order, path=path, maximum=1)


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({}, "property `path` of obligation `clamp` is missing"),
    ({"path": "a"}, "property `minimum` of obligation `clamp` is missing, and so is `maximum`"),
    ({"path": 7261, "maximum": 1}, "property `path` of obligation `clamp` is no path"),
    ({"path": "7261.", "maximum": 1}, "property `path` of obligation `clamp` is no path"),
    ({"path": ".", "maximum": 1}, "property `path` of obligation `clamp` must begin with the name of an argument"),
    ({"path": "*", "maximum": 1}, "property `path` of obligation `clamp` must begin with the name of an argument"),
    ({"path": "a", "maximum": "7261"}, "property `maximum` of obligation `clamp` must be a number"),
    ({"path": "a", "minimum": True}, "property `minimum` of obligation `clamp` must be a number"),
    ({"path": "a", "minimum": None}, "property `minimum` of obligation `clamp` must be a number"),
    ({"path": "a", "minimum": 7261, "maximum": 1}, "property `minimum` of obligation `clamp` must not be greater"),
    ({"path": "a", "maximum": 1, "max": 7261}, "obligation `clamp` has unknown properties `max`"),
    (
        {"path": "absent", "maximum": 1},
        "property `path` of obligation `clamp` names an argument that the call does not",
    ),
]


@pytest.mark.parametrize(("properties", "told"), MALFORMED)
def test_malformed_properties_fail(properties: dict[str, Any], told: str) -> None:
    """Malformed properties fail by the obligation's and the property's names only."""
    with pytest.raises(ObligationError) as caught:
        Clamp().discharge(Obligation("clamp", properties), call_with(a=1))
    assert str(caught.value).startswith(told)
    assert "7261" not in str(caught.value)


def test_what_they_write() -> None:
    """Setting writes the whole argument, holding the part its path leads to."""
    assert SetArguments().writes(Obligation("set-arguments", {"a.b": 1}), call_with()) == (Path(("a.b",)),)
    assert Clamp().writes(Obligation("clamp", {"path": "a.b", "maximum": 1}), call_with()) == (Path.parse("a.b"),)


def test_they_conform() -> None:
    """Both do what every handler must."""
    call = call_with(a=1)
    malformed = [Obligation("clamp", properties) for properties, _told in MALFORMED]
    check_handler(Clamp, obligation=Obligation("clamp", {"path": "a", "maximum": 0}), call=call, malformed=malformed)
    unknown = [Obligation("set-arguments"), Obligation("set-arguments", {"b": 1})]
    check_handler(SetArguments, obligation=Obligation("set-arguments", {"a": 2}), call=call, malformed=unknown)


def paying(*obligations: Obligation) -> tuple[Any, MemorySink, list[Any]]:
    sink, ran = MemorySink(), []
    policies = PolicySet([permit("all", action="pay", obligations=list(obligations))])
    enforcer = Enforcer(policies, audit=sink, obligations=[SetArguments(), Clamp()])

    @enforcer.guard("pay", resource="account:{account}")
    def pay(account: str, /, amount: int, *notes: str, currency: str = "EUR", **more: Any) -> int:
        ran.append((account, amount, notes, currency, more))
        return amount

    return pay, sink, ran


def test_the_signature_is_bound_again() -> None:
    """The code gets the arguments as they were left, each in its own place: positional, collected, by keyword."""
    pay, sink, ran = paying(
        Obligation("clamp", {"path": "amount", "maximum": 100}),
        Obligation("set-arguments", {"currency": "USD", "notes": ["clamped"], "more": {"urgent": False}}),
    )
    with acting_as(Subject("user", "alice")):
        assert pay("1", 500, "a", "b", urgent=True) == 100
    assert ran == [("1", 100, ("clamped",), "USD", {"urgent": False})]
    assert [line["status"] for line in sink.records[0]["obligations"]] == ["discharged", "discharged"]


def test_a_call_that_became_another_is_decided_again() -> None:
    """Setting what the resource is made of asks again, about that resource."""
    pay, sink, ran = paying(Obligation("set-arguments", {"account": "2"}))
    with acting_as(Subject("user", "alice")):
        pay("1", 500)
    assert ran[0][0] == "2"
    assert sink.records[0]["resource"]["id"] == "2"


@pytest.mark.parametrize(
    "obligation",
    [
        Obligation("set-arguments", {"absent": 1}),
        Obligation("clamp", {"path": "amount", "maximum": "100"}),
        Obligation("clamp", {"path": "currency", "maximum": 100}),
        Obligation("set-arguments", {"more": 7}),
    ],
)
def test_a_call_that_cannot_be_modified_is_denied(obligation: Obligation) -> None:
    """What cannot be done as demanded is denied, and the code does not run."""
    pay, sink, ran = paying(obligation)
    with acting_as(Subject("user", "alice")), pytest.raises(AccessDenied):
        pay("1", 500)
    assert ran == []
    assert (sink.records[0]["fault"], sink.records[0]["obligations"][0]["status"]) == ("obligation", "failed")


def test_what_was_modified_is_recorded_by_digest() -> None:
    """The record tells of each obligation what it changed, before and after, by digest and never by value."""
    pay, sink, _ran = paying(
        Obligation("clamp", {"path": "amount", "maximum": 100}),
        Obligation("set-arguments", {"currency": "USD", "notes": ["clamped"]}),
        Obligation("clamp", {"path": "more.tip", "maximum": 1000}),
    )
    with acting_as(Subject("user", "alice")):
        pay("1", 500, "a", tip=5)
    lines = sink.records[0]["obligations"]
    assert [(line.get("before"), line.get("after")) for line in lines] == [
        (digest({"amount": 500}), digest({"amount": 100})),
        (digest({"notes": ("a",), "currency": "EUR"}), digest({"notes": ("clamped",), "currency": "USD"})),
        (None, None),
    ]
    assert b"USD" not in sink.records[0].to_json()
