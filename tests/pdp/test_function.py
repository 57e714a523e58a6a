"""Any callable is a decision point, and says what it is."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from pep import AccessRequest, Decision, Effect
from pep.errors import ConfigurationError
from pep.pdp import FunctionPDP
from tests.scenes import ALICE, DOCUMENT, Scene, worlds

REQUEST = AccessRequest(ALICE, "edit", DOCUMENT)


def decide(request: AccessRequest) -> bool:
    """Let Alice do everything."""
    return request.subject == ALICE


async def adecide(request: AccessRequest) -> bool:
    return decide(request)


class Decider:
    """A callable that is no function."""

    def __call__(self, request: AccessRequest) -> Decision:
        return Decision(Effect.PERMIT if decide(request) else Effect.DENY)


class ADecider:
    """The same, to be awaited."""

    async def __call__(self, request: AccessRequest) -> bool:
        return decide(request)


@pytest.mark.parametrize(
    ("fn", "name", "asynchronous"),
    [
        (decide, "decide", False),
        (adecide, "adecide", True),
        (Decider(), "Decider", False),
        (ADecider(), "ADecider", True),
        (functools.partial(adecide), "partial", True),
        (functools.partial(decide), "partial", False),
    ],
)
def test_a_callable_tells_what_it_is(fn: Any, name: str, asynchronous: bool) -> None:
    """Its name is its own unless given, and whether it must be awaited is looked for behind wrappers."""
    pdp = FunctionPDP(fn)
    assert (pdp.name, pdp.asynchronous, pdp.pure, pdp.threaded) == (name, asynchronous, False, False)
    assert FunctionPDP(fn, name="mine", pure=True).name == "mine"


def test_it_answers_what_its_function_answers() -> None:
    """Nothing is added, and nothing believed."""
    assert FunctionPDP(decide).decide(REQUEST) is True
    assert FunctionPDP(lambda _request: "true").decide(REQUEST) == "true"


@pytest.mark.parametrize("wrong", [None, 7, "decide", Decider, bool])
def test_what_cannot_decide_is_refused(wrong: Any) -> None:
    """A class is no function of a request, and neither is anything that cannot be called."""
    with pytest.raises(ConfigurationError, match="is no function of an access request"):
        FunctionPDP(wrong)


@pytest.mark.parametrize("fn", [adecide, ADecider(), functools.partial(adecide)])
def test_what_must_be_awaited_is_not_put_on_a_thread(fn: Any) -> None:
    """A thread cannot await; the mend is named."""
    with pytest.raises(ConfigurationError, match="drop `threaded`"):
        FunctionPDP(fn, threaded=True)


@worlds
@pytest.mark.parametrize("threaded", [False, True])
def test_it_is_asked_in_either_world(world: str, threaded: bool) -> None:
    """On the caller's thread or on one of its own."""
    scene = Scene(world, pdp=FunctionPDP(decide, name="alice's", threaded=threaded))
    assert scene.edit().told == ("returned", None)
    assert scene.last["pdp"] == "alice's"
