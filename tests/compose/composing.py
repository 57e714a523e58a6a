"""Parts that answer as they are told, and what compositions of them come to, in both worlds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final

from hypothesis import strategies as st

from pep import AccessRequest, Decision, Effect, Fault, Resource, Subject
from pep.drive import APerformer, Performer, arun, run
from pep.errors import (
    PDPInsecure,
    PDPMismatched,
    PDPOverloaded,
    PDPRejected,
    PDPReplyError,
    PDPTimeout,
    PDPUnavailable,
)
from pep.fault import fault_of
from pep.plan import Raised, Returned, contain
from pep.testing import FakeClock

#: What looks like an answer, and is none.
LOOKALIKES: Final = (None, 1, 0, 1.0, "true", "permit", [True], Effect.PERMIT, frozenset({"permit"}))
DOWN: Final = (PDPTimeout, PDPUnavailable, PDPOverloaded, TimeoutError, ConnectionError)
BROKEN: Final = (PDPRejected, PDPInsecure, PDPReplyError, PDPMismatched, ValueError)
#: Everything a part may come to.
ANSWERS: Final = (True, False, *Effect.__members__, *LOOKALIKES, *DOWN, *BROKEN)
answers: Final = st.sampled_from(range(len(ANSWERS))).map(ANSWERS.__getitem__)

#: What a part came to, in one word: an effect, or a fault.
Word = Effect | Fault


def word(answer: object) -> Word:
    """What an answer of `ANSWERS` comes to, from the table of the design."""
    if isinstance(answer, type):
        return fault_of(answer())
    if answer is True or answer is False:
        return Effect.PERMIT if answer else Effect.DENY
    return Effect[answer] if type(answer) is str and answer in Effect.__members__ else Fault.MALFORMED


def said(value: Any) -> Word:
    """What a reply, or one item of a batch, came to."""
    if isinstance(value, Raised):
        return fault_of(value.error)
    effect: Effect = (value.value if isinstance(value, Returned) else value).effect
    return effect


def give(answer: object) -> Any:
    """Answer, or raise."""
    if isinstance(answer, type):
        raise answer
    return Decision(Effect[answer], revision="r") if type(answer) is str and answer in Effect.__members__ else answer


class Part:
    """A decision point that answers by a table from the resource's id, and remembers what it was asked."""

    def __init__(self, table: Mapping[str, object] | object, name: str = "part", **more: Any) -> None:
        self.table = table
        self.name = name
        self.asked: list[str] = []
        self.batches: list[int] = []
        for attribute, value in more.items():
            setattr(self, attribute, value)

    def answer(self, request: AccessRequest) -> object:
        key = request.resource.id or ""
        return self.table[key] if isinstance(self.table, dict) else self.table

    def decide(self, request: AccessRequest) -> Any:
        self.asked.append(request.resource.id or "")
        return give(self.answer(request))


class BatchPart(Part):
    """The same, for many at once."""

    def decide_many(self, requests: Sequence[AccessRequest]) -> list[Any]:
        self.batches.append(len(requests))
        return [self._one(request) for request in requests]

    def _one(self, request: AccessRequest) -> Any:
        try:
            return self.decide(request)
        except Exception as error:  # noqa: BLE001  whatever it is told to raise
            return Raised(error)


def request_for(
    resource: str = "1", *, subject: str = "alice", action: str = "read", kind: str = "doc"
) -> AccessRequest:
    return AccessRequest(Subject("user", subject), action, Resource(kind, resource))


def perform(plan: Generator[Any, Any, Any], world: str = "sync", clock: FakeClock | None = None) -> Any:
    """Run a plan in a world; what it raises is a value."""
    clock = clock or FakeClock()
    if world == "sync":
        return run(contain(plan), Performer(clock))
    return asyncio.run(arun(contain(plan), APerformer(clock)))


def many(pdp: Any, requests: Sequence[AccessRequest], world: str = "sync") -> list[Word]:
    """What a batch came to."""
    reply = perform(pdp.decide_many(requests), world)
    return [said(one) for one in reply.value]


def one_by_one(make: Callable[[], Any], requests: Sequence[AccessRequest], world: str = "sync") -> list[Word]:
    """What the questions of a batch came to, each asked alone."""
    pdp = make()
    return [said(perform(pdp.decide(request), world)) for request in requests]
