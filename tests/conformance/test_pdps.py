"""Every decision point the library ships conforms; what does not is told so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pep import AccessRequest, Decision, Effect, Resource, Subject
from pep.errors import PDPOverloaded, PDPUnavailable
from pep.found import Found
from pep.pdp import FunctionPDP
from pep.plan import Plan, Returned, call, gather
from pep.policy import PolicySet, permit, resource, subject
from pep.policy.partial import AllowAll, DenyAll
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
    "one that searches and filters": lambda: Able(Found(()), AllowAll()),
    "one that cannot filter now": lambda: Able(Found(()), None),
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


class Racing(ScriptedPDP):
    """One that mixes up what tasks ask at once."""

    asynchronous = True

    def __init__(self) -> None:
        super().__init__([(owns, True)])
        self._request = PERMITTED

    def decide(self, request: AccessRequest) -> Plan[Any]:
        self._request = request
        yield from call(asyncio.sleep, 0)
        return super().decide(self._request)


class Crossed(ScriptedPDP):
    """One that mixes up what threads ask."""

    def __init__(self) -> None:
        super().__init__([(owns, True)])
        self._maker = threading.current_thread()

    def decide(self, request: AccessRequest) -> Any:
        return super().decide(request) if threading.current_thread() is self._maker else not owns(request)


class Leaking(ScriptedPDP):
    """One that counts who is inside, and forgets those who give up, perhaps those who are late too."""

    def __init__(self, *, patient: bool) -> None:
        super().__init__([(owns, True)])
        self._inside, self._patient = 0, patient

    def decide(self, request: AccessRequest) -> Plan[Any]:
        self._inside += 1
        if self._inside > 1:
            raise PDPOverloaded
        try:
            yield from call(int)
        except TimeoutError:
            self._inside = 0 if self._patient else 1
            raise
        self._inside -= 1
        return super().decide(request)


class Hopeful(ScriptedPDP):
    """One that takes an outage for a permit."""

    def __init__(self) -> None:
        super().__init__([(owns, True)])

    def decide(self, request: AccessRequest) -> Plan[Any]:
        replies = yield from gather(call(super().decide, request))
        return not isinstance(replies[0], Returned) or replies[0].value


class Meddling(ScriptedPDP):
    """One that changes what it was asked."""

    def __init__(self) -> None:
        super().__init__([(owns, True)])

    def decide(self, request: AccessRequest) -> Any:
        object.__setattr__(request, "tenant", "changed")
        return super().decide(request)


class Down(ScriptedPDP):
    """One that answers, and says that it is down."""

    def __init__(self) -> None:
        super().__init__([(owns, True)])

    def probe(self) -> Plan[None]:
        yield from call(int)
        raise PDPUnavailable


class Unwell(ScriptedPDP):
    """One that is nothing that JSON could tell."""

    def __init__(self) -> None:
        super().__init__([(owns, True)])

    def health(self) -> list[str]:
        return ["well"]


class Able(ScriptedPDP):
    """One that searches and filters as it is told."""

    def __init__(self, found: Any, rows: Any) -> None:
        super().__init__([(owns, True)])
        self._found, self._rows = found, rows

    def search(self, wanted: str, request: AccessRequest) -> Any:
        return self._found

    def row_filter(self, *asked: Any, **more: Any) -> Any:
        if self._rows is None:
            raise PDPUnavailable
        return self._rows


def odd_batch(requests: Sequence[AccessRequest]) -> list[Any]:
    return [None] * len(requests) if any(request.tenant for request in requests) else decided(requests)


def broken_batch(requests: Sequence[AccessRequest]) -> list[bool]:
    return [owns(request) or bool(request.tenant and 1 / 0) for request in requests]


NOT_CONFORMING = {
    "tasks that ask at once": Racing,
    "threads that ask at once": Crossed,
    "after a question that was given up": lambda: Leaking(patient=True),
    "after a timeout": lambda: Leaking(patient=False),
    "no answer": Hopeful,
    "leaves the request": Meddling,
    "`probe": Down,
    "`health": Unwell,
    "a search has `Found`": lambda: Able(["document"], DenyAll()),
    "a row filter is": lambda: Able(Found(()), True),
    "rows are filtered as": lambda: Able(Found(()), DenyAll()),
    "each of a batch": lambda: Batches(odd_batch),
    "a batch is answered, or raises": lambda: Batches(broken_batch),
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
        check_pdp(make, permitted=PERMITTED.evolve(), denied=DENIED.evolve())


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
