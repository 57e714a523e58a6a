from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.errors import ConfigurationError, StepUpRequired
from pep.model import Obligation, Subject
from pep.obligations.stepup import StepUp
from pep.protocols import ObligationHandler, Phase, Rank, Refusal
from pep.testing import FakeClock
from pep.verdict import Outcome
from tests.obligations.calling import CANARY, NAN, call_of, discharged, forged, permit, refused, worlds
from tests.scenes import Scene

NOW = FakeClock().wall()
LEVELS = ("password", "otp", "hardware")


def answer(demanded: dict[str, Any], world: str = "sync", *, handler: StepUp | None = None, **subject: Any) -> Any:
    """Discharge for a subject with some properties; True where it passed, else what the refusal demands."""
    call = call_of(Subject("user", "alice", subject))
    came = discharged(handler or StepUp(clock=FakeClock()), Obligation("step-up", demanded), call, world)
    if came is call:
        return True
    assert type(came) is Refusal
    assert came.outcome is Outcome.STEP_UP_REQUIRED
    return dict(came.demands)


def test_it_is_a_handler_that_verifies() -> None:
    """It acts before the code, and before anything is changed or counted."""
    handler = StepUp()
    assert isinstance(handler, ObligationHandler)
    assert (set(handler.types), handler.phase, handler.rank) == ({"step-up"}, Phase.BEFORE, Rank.VERIFY)


@pytest.mark.parametrize(
    ("demanded", "subject", "passes"),
    [
        ({"acr_values": ["high"]}, {"acr": "high"}, True),
        ({"acr_values": ["high", "mid"]}, {"acr": "mid"}, True),
        ({"acr_values": ["high"]}, {"acr": "mid"}, False),
        ({"acr_values": ["high"]}, {"acr": "HIGH"}, False),
        ({"acr_values": ["high"]}, {"acr": "high "}, False),
        ({"acr_values": ["high"]}, {"acr": ""}, False),
        ({"acr_values": ["high"]}, {"acr": None}, False),
        ({"acr_values": ["high"]}, {}, False),
        ({"amr_values": ["otp"]}, {"amr": ["pwd", "otp"]}, True),
        ({"amr_values": ["pwd", "otp"]}, {"amr": ["otp", "pwd"]}, True),
        ({"amr_values": ["pwd", "otp"]}, {"amr": ["otp"]}, False),
        ({"amr_values": ["otp"]}, {"amr": []}, False),
        ({"amr_values": ["otp"]}, {}, False),
        ({"max_age": 300}, {"auth_time": NOW}, True),
        ({"max_age": 300}, {"auth_time": int(NOW) - 300}, True),
        ({"max_age": 300}, {"auth_time": NOW - 300.5}, False),
        ({"max_age": 0}, {"auth_time": NOW}, True),
        ({"max_age": 0.5}, {"auth_time": NOW - 1}, False),
        ({"max_age": 300}, {"auth_time": NOW + 60}, True),
        ({"max_age": 300}, {"auth_time": None}, False),
        ({"max_age": 300}, {"auth_time": -1}, False),
        ({"max_age": 300}, {}, False),
        ({"acr_values": ["high"], "max_age": 300}, {"acr": "high", "auth_time": NOW}, True),
        ({"acr_values": ["high"], "max_age": 300}, {"acr": "high", "auth_time": NOW - 301}, False),
        ({"acr_values": ["high"], "max_age": 300}, {"acr": "low", "auth_time": NOW}, False),
        ({"acr_values": ["high"], "amr_values": ["otp"]}, {"acr": "high"}, False),
        ({"acr_values": ["high"], "amr_values": ["otp"]}, {"amr": ["otp"]}, False),
    ],
)
@worlds
def test_what_does_and_what_does_not(
    demanded: dict[str, Any], subject: dict[str, Any], passes: bool, world: str
) -> None:
    """One of the classes, all of the methods, and an age at most; what is missing does not do, and is demanded."""
    told = answer(demanded, world, **subject)
    assert told is True if passes else told == {k: tuple(v) if isinstance(v, list) else v for k, v in demanded.items()}


@pytest.mark.parametrize(("acr", "passes"), [("high", True), ("mid", False), (None, False), ("", False)])
@worlds
def test_a_single_class_is_a_list_of_one(acr: str | None, passes: bool, world: str) -> None:
    """AuthZEN's obligations profile names one class, as `acr_value`; it means what a list of it means."""
    told = answer({"acr_value": "high", "amr_values": ["otp"]}, world, acr=acr, amr=["otp"])
    assert told is True if passes else told == {"acr_values": ("high",), "amr_values": ("otp",)}
    ordered = answer({"acr_value": "otp"}, world, handler=StepUp(levels=LEVELS), acr="hardware")
    assert ordered is True


@pytest.mark.parametrize(
    ("demanded", "acr", "passes"),
    [
        (["otp"], "otp", True),
        (["otp"], "hardware", True),
        (["otp"], "password", False),
        (["hardware"], "otp", False),
        (["hardware", "otp"], "otp", True),
        (["otp"], "phr", False),
        (["phr"], "hardware", False),
        (["phr"], "phr", True),
        (["phr", "password"], "otp", True),
    ],
)
def test_a_stronger_class_does_too(demanded: list[str], acr: str, passes: bool) -> None:
    """Where classes are ordered, one at least as strong will do; others only by name."""
    told = answer({"acr_values": demanded}, handler=StepUp(levels=LEVELS), acr=acr)
    assert told is True if passes else told == {"acr_values": tuple(demanded)}


@given(demanded=st.sampled_from(LEVELS), has=st.sampled_from(LEVELS))
def test_levels_are_an_order(demanded: str, has: str) -> None:
    """It passes exactly where the class is at least as strong."""
    told = answer({"acr_values": [demanded]}, handler=StepUp(levels=list(LEVELS)), acr=has)
    assert (told is True) == (LEVELS.index(has) >= LEVELS.index(demanded))


def test_properties_have_the_names_they_have() -> None:
    """The subject's properties may be called otherwise; then the usual ones do not count."""
    handler = StepUp(acr="level", amr="methods", auth_time="since", clock=FakeClock())
    demanded = {"acr_values": ["high"], "amr_values": ["otp"], "max_age": 60}
    assert answer(demanded, handler=handler, level="high", methods=["otp"], since=NOW) is True
    assert answer(demanded, handler=handler, acr="high", amr=["otp"], auth_time=NOW) is not True


@pytest.mark.parametrize(
    ("demanded", "subject", "named"),
    [
        *[({"acr_values": ["1"]}, {"acr": wrong}, "acr") for wrong in (1, True, ["1"], {"1": 1}, 1.0)],
        *[({"amr_values": ["1"]}, {"amr": wrong}, "amr") for wrong in ("1", 1, None, [1], [True], {"1": 1}, [["1"]])],
        *[({"max_age": 60}, {"auth_time": wrong}, "auth_time") for wrong in ("1", True, [1], CANARY, NOW + 61, 1e300)],
        ({"acr_values": ["1"], "max_age": 60}, {"auth_time": "1"}, "auth_time"),
    ],
)
@worlds
def test_a_malformed_subject_fails(demanded: dict[str, Any], subject: dict[str, Any], named: str, world: str) -> None:
    """Of another type, or from the future, an authentication is no weak one: it is a failure, missing others or not."""
    call = call_of(Subject("user", "alice", subject))
    assert f"`{named}`" in refused(StepUp(clock=FakeClock()), Obligation("step-up", demanded), call, world)


def test_the_future_begins_where_clocks_may_not_differ() -> None:
    """The skew is stated; the default is a minute."""
    at = {"auth_time": NOW + 5.5}
    assert answer({"max_age": 1}, handler=StepUp(skew=5.5, clock=FakeClock()), **at) is True
    call = call_of(Subject("user", "alice", at))
    refused(StepUp(skew=5, clock=FakeClock()), Obligation("step-up", {"max_age": 1}), call)


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({}, "acr_values"),
    *[
        ({name: wrong}, name)
        for name in ("acr_values", "amr_values")
        for wrong in (None, "", CANARY, (), (1,), ("",), (CANARY, CANARY), 1, True, NAN)
    ],
    *[({"acr_value": wrong}, "acr_value") for wrong in (None, "", (), (CANARY,), {"a": CANARY}, 1, True, NAN)],
    ({"acr_value": CANARY, "acr_values": (CANARY,)}, "acr_value"),
    *[({"max_age": wrong}, "max_age") for wrong in (None, "", "60", -1, -0.5, NAN, float("inf"), True, (60,), CANARY)],
    ({"max_age": 60, "acr": CANARY}, "acr"),
    ({"max_age": 60, "max_aeg": 60}, "max_aeg"),
]


@pytest.mark.parametrize(("properties", "named"), MALFORMED)
@worlds
def test_malformed_properties_fail_closed(properties: dict[str, Any], named: str, world: str) -> None:
    """An obligation that demands nothing it could be held to is no permission."""
    subject = Subject("user", "alice", {"acr": CANARY, "amr": [CANARY], "auth_time": NOW})
    assert f"`{named}`" in refused(StepUp(clock=FakeClock()), forged("step-up", properties), call_of(subject), world)


@pytest.mark.parametrize(
    "arguments",
    [
        {"levels": "password"},
        {"levels": ["a", "a"]},
        {"levels": [1]},
        {"levels": [""]},
        {"levels": None},
        {"acr": ""},
        {"amr": None},
        {"auth_time": 1},
        {"skew": -1},
        {"skew": NAN},
        {"skew": True},
        {"skew": float("inf")},
    ],
)
def test_what_it_is_made_of_is_checked(arguments: dict[str, Any]) -> None:
    """A wrong argument is found where it is written."""
    with pytest.raises(ConfigurationError):
        StepUp(**arguments)


@worlds
def test_the_denial_says_what_would_do(world: str) -> None:
    """What is raised carries what RFC 9470 tells a client; authenticated again, the call runs."""
    demanded = Obligation("step-up", {"acr_values": ["phr", "mfa"], "max_age": 300})
    clock = FakeClock()
    scene = Scene(world, permit(demanded), obligations=[StepUp(clock=clock)], clock=clock)
    denial = scene.edit(subject=Subject("user", "alice", {"acr": "pwd", "auth_time": clock.wall()})).denial
    assert type(denial) is StepUpRequired
    assert (denial.acr_values, denial.max_age) == (("phr", "mfa"), 300)
    strong = Subject("user", "alice", {"acr": "mfa", "auth_time": clock.wall()})
    assert scene.edit(subject=strong).told == ("returned", None)
    clock.advance(301)
    assert scene.edit(subject=strong).told == ("step_up_required", None)
    assert len(scene.ran) == 1
