"""Several decision points as one: what they say together, and what a failing one leaves open."""

from __future__ import annotations

import asyncio
from itertools import product
from typing import Any

import pytest

from pep import AccessDenied, Effect, Enforcer, Fault, Subject, acting_as
from pep.audit import MemorySink
from pep.compose.combine import Algorithm, combine
from pep.compose.pdps import CombinedPDP
from pep.decision import Decision, decision_of
from pep.errors import ConfigurationError, PDPReplyError, PDPTimeout
from pep.model import AccessRequest, Resource
from pep.pdp import FunctionPDP
from pep.policy import PolicySet
from pep.testing import ScriptedPDP
from pep.verdict import Verdict

REQUEST = AccessRequest(Subject("user", "alice"), "read", Resource("document", "1"))
FAILS = "fails"
ANSWERS = (*Effect, FAILS)


def part(answer: Effect | str) -> FunctionPDP:
    def decide(_request: AccessRequest) -> Decision:
        if isinstance(answer, str):
            raise PDPTimeout(answer)
        return Decision(answer, policies=(answer.value,))

    return FunctionPDP(decide, name=str(answer))


def verdict_of(pdp: object) -> Verdict:
    return Enforcer(pdp, audit=MemorySink()).check(REQUEST)


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize(
    "answers", [*product(ANSWERS, repeat=1), *product(ANSWERS, repeat=2), *product(ANSWERS, repeat=3)]
)
def test_combined_is_the_algorithm_or_the_failure(algorithm: Algorithm, answers: tuple[Any, ...]) -> None:
    """Without failures it is the algorithm; with one, the effect stands only if no answer could have changed it."""
    verdict = verdict_of(CombinedPDP(algorithm, map(part, answers)))
    possible = {
        combine(algorithm, [Decision(effect) for effect in guess]).effect
        for guess in product(*[[answer] if answer in set(Effect) else list(Effect) for answer in answers])
    }
    if len(possible) == 1:
        assert verdict.decision is not None
        assert {verdict.decision.effect} == possible
    else:
        assert verdict.fault is Fault.TIMEOUT
    if Effect.PERMIT not in possible or len(possible) > 1:
        assert not verdict.allowed


def test_an_outage_is_no_permit() -> None:
    """Permit-unless-deny, of all algorithms, does not permit because a part could not be asked."""
    assert not verdict_of(CombinedPDP(Algorithm.PERMIT_UNLESS_DENY, [part(FAILS)])).allowed
    assert verdict_of(CombinedPDP(Algorithm.PERMIT_UNLESS_DENY, [part(Effect.NOT_APPLICABLE)])).allowed


@pytest.mark.parametrize(
    ("algorithm", "first"),
    [
        (Algorithm.FIRST_APPLICABLE, Effect.PERMIT),
        (Algorithm.ORDERED_DENY_OVERRIDES, Effect.DENY),
        (Algorithm.ORDERED_PERMIT_OVERRIDES, Effect.PERMIT),
    ],
)
def test_in_order_stops_at_what_decides(algorithm: Algorithm, first: Effect) -> None:
    """The ordered algorithms ask nobody after the part that decides."""
    late = ScriptedPDP([(lambda _request: True, True)])
    assert verdict_of(CombinedPDP(algorithm, [part(first), late])).decision is not None
    assert late.asked == []


@pytest.mark.parametrize("answer", [None, 1, "true", [], Effect.PERMIT])
def test_a_part_that_answers_nonsense_is_a_fault(answer: object) -> None:
    """What is no decision is a malformed reply of that part, and permits nothing."""
    verdict = verdict_of(CombinedPDP(Algorithm.PERMIT_OVERRIDES, [FunctionPDP(lambda _request: answer, name="odd")]))
    assert verdict.fault is Fault.MALFORMED
    with pytest.raises(PDPReplyError):
        decision_of(answer)


def test_a_coroutine_is_closed() -> None:
    """A coroutine as an answer is closed, not left to warn."""

    async def answer() -> bool:
        return True

    made = answer()
    with pytest.raises(PDPReplyError):
        decision_of(made)
    assert made.cr_frame is None


def test_both_worlds() -> None:
    """Asynchronous parts are awaited; a synchronous guard over them is refused."""

    async def decide(_request: AccessRequest) -> bool:
        return True

    combined = CombinedPDP(Algorithm.DENY_OVERRIDES, [FunctionPDP(decide, name="a"), part(Effect.PERMIT)])
    enforcer = Enforcer(combined, audit=MemorySink())
    assert asyncio.run(enforcer.acheck(REQUEST)).allowed
    with pytest.raises(ConfigurationError, match="can only be awaited"):
        enforcer.guard("read")(lambda: None)


def test_what_it_says_of_itself() -> None:
    """Its name tells algorithm and parts; it is pure when all parts are; swaps of parts reach the enforcer."""
    policies = PolicySet([])
    combined = CombinedPDP(Algorithm.DENY_OVERRIDES, [policies, part(Effect.DENY)])
    assert combined.name == "deny-overrides(policies,Effect.DENY)"
    assert not combined.pure
    assert CombinedPDP(Algorithm.DENY_OVERRIDES, [policies]).pure
    assert CombinedPDP(Algorithm.DENY_OVERRIDES, [policies], name="mine").name == "mine"

    class Swapping:
        def __init__(self) -> None:
            self.listeners: list[Any] = []

        def decide(self, _request: AccessRequest) -> bool:
            return True

        def subscribe(self, listener: Any) -> None:
            self.listeners.append(listener)

    swapping = Swapping()
    Enforcer(CombinedPDP(Algorithm.DENY_OVERRIDES, [swapping, policies]), audit=MemorySink())
    assert len(swapping.listeners) == 1


@pytest.mark.parametrize(
    ("parts", "mend"),
    [
        ([], "at least one decision point"),
        ([object()], "wrap a function"),
        ([PolicySet], "`PolicySet` is no decision point"),
    ],
)
def test_nothing_to_combine_is_refused(parts: list[Any], mend: str) -> None:
    """An empty combination, and what is no decision point, are configuration errors."""
    with pytest.raises(ConfigurationError, match=mend):
        CombinedPDP(Algorithm.DENY_OVERRIDES, parts)


def test_it_guards() -> None:
    """It stands behind a guard like any decision point."""
    enforcer = Enforcer(
        CombinedPDP(Algorithm.DENY_OVERRIDES, [part(Effect.PERMIT), part(Effect.DENY)]), audit=MemorySink()
    )
    guarded = enforcer.guard("read")(lambda: "ran")
    with acting_as(Subject("user", "alice")), pytest.raises(AccessDenied):
        guarded()
