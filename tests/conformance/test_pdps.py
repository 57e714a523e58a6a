"""Every decision point the library ships conforms; what does not is told so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pep import AccessRequest, Decision, Effect, Resource, Subject
from pep.errors import PDPUnavailable
from pep.pdp import FunctionPDP
from pep.plan import Plan, call
from pep.policy import PolicySet, permit, resource, subject
from pep.testing import FailingPDP, NotConforming, ScriptedPDP, check_pdp

DOCUMENT = Resource("document", "1", {"owner": "alice"})
PERMITTED = AccessRequest(Subject("user", "alice"), "edit", DOCUMENT)
DENIED = AccessRequest(Subject("user", "mallory"), "edit", DOCUMENT)


def owns(request: AccessRequest) -> bool:
    """The rule all of them state."""
    return request.subject.id == "alice"


async def awaited(request: AccessRequest) -> bool:
    return owns(request)


def planned(request: AccessRequest) -> Plan[bool]:
    return (yield from call(owns, request))


class Batches:
    """A decision point that answers many at once, as well as it is told."""

    def __init__(self, answer: Callable[[Sequence[AccessRequest]], Any]) -> None:
        self._answer = answer

    def decide(self, request: AccessRequest) -> Any:
        return owns(request)

    def decide_many(self, requests: Sequence[AccessRequest]) -> Any:
        return self._answer(requests)


def decided(requests: Sequence[AccessRequest]) -> list[Decision]:
    return [Decision(Effect.PERMIT if owns(request) else Effect.DENY) for request in requests]


CONFORMING = {
    "a function": lambda: FunctionPDP(owns),
    "a pure function": lambda: FunctionPDP(owns, pure=True, name="owners"),
    "a function on a thread": lambda: FunctionPDP(owns, threaded=True),
    "a coroutine function": lambda: FunctionPDP(awaited),
    "a plan": lambda: FunctionPDP(planned),
    "policies": lambda: PolicySet(
        [permit("owners", action="edit", resource="document", when=resource.owner == subject.id)]
    ),
    "a script": lambda: ScriptedPDP([(owns, True)]),
    "batches": lambda: Batches(decided),
}


@pytest.mark.parametrize("make", CONFORMING.values(), ids=CONFORMING)
def test_conforms(make: Callable[[], Any]) -> None:
    """The same answer in both worlds, for any id, once and again, alone and in batches."""
    check_pdp(make, permitted=PERMITTED, denied=DENIED)


class Unnamed(ScriptedPDP):
    """One whose name is another one every time."""

    def __init__(self) -> None:
        super().__init__([(owns, True)], name=str(id(self)))
        KEPT.append(self)


KEPT: list[Any] = []


def brittle(request: AccessRequest) -> bool:
    return owns(request) if request.subject.id.isalnum() else bool(request.subject.properties["name"])


def unavailable(request: AccessRequest) -> bool:
    if request.subject.id.isalnum():
        return owns(request)
    raise PDPUnavailable


NOT_CONFORMING = {
    "has `decide": lambda: object(),
    "`pure` is a bool": lambda: ScriptedPDP([(owns, True)], pure=1),  # type: ignore[arg-type]
    "`name` is a constant text": Unnamed,
    "permits": lambda: ScriptedPDP([]),
    "refuses": lambda: ScriptedPDP([(lambda _request: True, True)]),
    "both worlds": lambda: FailingPDP(answers="true"),
    "in both": lambda: FailingPDP(raises=PDPUnavailable),
    "answers any id": lambda: FunctionPDP(brittle),
    "in order": lambda: Batches(lambda requests: decided(requests)[::-1]),
    "a batch": lambda: Batches(lambda requests: decided(requests)[:1]),
}


@pytest.mark.parametrize(("rule", "make"), NOT_CONFORMING.items(), ids=NOT_CONFORMING)
def test_what_breaks_a_rule_is_told_which(rule: str, make: Callable[[], Any]) -> None:
    """Each rule is able to fail."""
    with pytest.raises(NotConforming, match=rule):
        check_pdp(make, permitted=PERMITTED, denied=DENIED)


def test_what_is_pure_answers_the_same_again() -> None:
    """A pure decision point that changes its mind is no pure one."""

    class Fickle(ScriptedPDP):
        def decide(self, request: AccessRequest) -> Any:
            return len(self.asked) < 2 and super().decide(request)

    with pytest.raises(NotConforming, match="answers the same again"):
        check_pdp(lambda: Fickle([(owns, True)], pure=True), permitted=PERMITTED, denied=DENIED)


def test_an_outage_is_an_answer() -> None:
    """To be unavailable for an odd id conforms; to break on it does not."""
    check_pdp(lambda: FunctionPDP(unavailable), permitted=PERMITTED, denied=DENIED)
