"""Answers that are none, and questions that are empty."""

from __future__ import annotations

import contextlib
import functools
import gc
from collections.abc import Callable
from typing import Any, Final
from unittest.mock import MagicMock

import pytest

from pep import (
    Decision,
    Effect,
    Enforcer,
    FailOpen,
    Fault,
    Outcome,
    Resource,
    Subject,
    acting_as,
)
from pep.audit import MemorySink
from pep.compose.combine import Algorithm, combine
from pep.errors import (
    ConfigurationError,
    ExtractionError,
)
from pep.policy import PolicySet, permit, subject
from pep.testing import FakeHandler, FakeProvider
from tests.footguns.traps import (
    DOC,
    PATHS,
    AsyncCall,
    Trap,
    a_resource,
    apermit,
    denied,
    each,
)
from tests.guard.rigs import ALICE, Rig


class AsyncDecide:
    name = "async"

    async def decide(self, _request: object) -> bool:
        return True


def an_awaited_decision_point(pdp: Any, refused_at: str) -> None:
    """An asynchronous decision point in a synchronous path: a coroutine is truthy."""
    ran: list[Any] = []
    enforcer = Enforcer(pdp, audit=MemorySink())
    with (
        contextlib.nullcontext()
        if refused_at == "call"
        else pytest.raises(ConfigurationError, match="make it `async def`")
    ):
        guarded = enforcer.guard("read")(lambda: ran.append("ran"))
        with acting_as(ALICE), denied(Fault.MALFORMED):
            guarded()
    with acting_as(ALICE):
        assert enforcer.check("read", DOC).allowed is False
    assert ran == []
    gc.collect()


def an_awaited_extractor(part: str, value: Any) -> None:
    """An asynchronous predicate in a synchronous path: a coroutine is truthy."""
    rig = Rig()
    try:
        guarded = rig.enforcer.guard("read", **{part: value})(lambda: rig.ran.append("ran"))
    except ConfigurationError:
        return
    with acting_as(ALICE), denied(Fault.EXTRACTION):
        guarded()
    assert (rig.ran, rig.asked) == ([], [])
    gc.collect()


class Permit(Decision):
    """A decision of somebody's own."""


NO_ANSWERS: Final = [
    None, 1, 1.0, "true", "allow", "deny", "", b"", [], [True], (True,), {"decision": True}, Effect.PERMIT, object(),
    MagicMock(), type("Response", (), {"status_code": 403})(), Permit(Effect.PERMIT), Outcome.PERMITTED, iter([True]),
]  # fmt: skip


def no_answer(answer: object) -> None:
    """An answer that is neither a decision nor a bool: truthiness grants."""
    for path in PATHS.values():
        rig = Rig(lambda _request: answer)
        assert path(rig) == Fault.MALFORMED
        assert rig.ran == []


def vacuous_extraction(found: Any) -> None:
    """Nothing to check: `all([])` is true."""
    rig = Rig()
    guarded = rig.enforcer.guard("read", resource=lambda: found)(lambda: rig.ran.append("ran"))
    with acting_as(ALICE), denied(Fault.EXTRACTION):
        guarded()
    assert (rig.ran, rig.asked) == ([], [])


def vacuous_combination(algorithm: Algorithm) -> None:
    """A combination of nothing grants."""
    with pytest.raises(ConfigurationError):
        combine(algorithm, [])


def vacuous_policies() -> None:
    """No policy at all grants."""
    with acting_as(ALICE):
        assert Enforcer(PolicySet([]), audit=MemorySink()).check("read", DOC).outcome is Outcome.DENIED


class Batch:
    """A decision point that answers a batch as it is told."""

    name = "batch"

    def __init__(self, answers: Any) -> None:
        self.answers = answers

    def decide(self, _request: object) -> Any:
        raise NotImplementedError

    def decide_many(self, _requests: object) -> Any:
        return self.answers


def batch_replies(answers: Any, fault: Fault) -> None:
    """A batch whose reply is empty, short or long: answers slide to other questions."""
    enforcer = Enforcer(Batch(answers), audit=MemorySink())
    with acting_as(ALICE):
        verdicts = enforcer.check_many([("read", DOC), ("read", Resource("document", "43"))])
        assert [(verdict.allowed, verdict.fault) for verdict in verdicts] == [(False, fault)] * 2
        ran: list[Any] = []
        both = enforcer.guard("read", resource=lambda: [DOC, Resource("document", "43")])(lambda: ran.append(1))
        with denied(fault):
            both()
    assert ran == []


def text_as_collection(make: Callable[[], Any]) -> None:
    """A text where a collection is expected: `"admin" in "superadmin"`."""
    with pytest.raises((ConfigurationError, ExtractionError)):
        make()


def text_in_policy() -> None:
    """A text where a collection is expected, in a policy."""
    admins = permit("admins", action="read", when=subject.roles.contains("admin"))
    enforcer = Enforcer(PolicySet([admins]), audit=MemorySink())
    for roles, allowed in ((["admin"], True), ("superadmin", False), ("admin", False)):
        verdict = enforcer.check("read", DOC, subject=Subject("user", "u", {"roles": roles}))
        assert verdict.allowed is allowed


def _with(part: Any, **changes: Any) -> Any:
    for name, value in changes.items():
        setattr(part, name, value)
    return part


TRAPS: Final[dict[int, list[Trap]]] = {
    4: [
        Trap(
            an_awaited_decision_point,
            {
                "async def": (apermit, "decoration"),
                "partial": (functools.partial(apermit), "decoration"),
                "async __call__": (AsyncCall(), "decoration"),
                "partial of async __call__": (functools.partial(AsyncCall()), "decoration"),
                "async method": (AsyncDecide(), "decoration"),
                "lambda": (lambda request: apermit(request), "call"),
            },
        ),
        Trap(
            an_awaited_extractor,
            {
                f"{part} {name}": (part, value)
                for part in ("resource", "subject", "context")
                for name, value in {
                    "async def": a_resource,
                    "partial": functools.partial(a_resource),
                    "lambda": lambda: a_resource(),
                }.items()
            },
        ),
    ],
    5: [Trap(no_answer, each(*NO_ANSWERS))],
    22: [
        Trap(vacuous_extraction, each([], ())),
        Trap(vacuous_combination, each(*Algorithm)),
        Trap(vacuous_policies, {"policies": ()}),
        Trap(
            batch_replies,
            {
                "empty": ([], Fault.MISMATCHED),
                "short": ([True], Fault.MISMATCHED),
                "long": ([True, True, True], Fault.MISMATCHED),
                "none": (None, Fault.MALFORMED),
                "one for all": (True, Fault.MALFORMED),
                "unordered": ({True}, Fault.MALFORMED),
            },
        ),
    ],
    23: [
        Trap(
            text_as_collection,
            {
                "actors": (lambda: acting_as(ALICE, via="service"),),
                "handler": (lambda: Rig(obligations=[_with(FakeHandler("x"), types="note")]),),
                "provider": (lambda: Rig(attributes=[_with(FakeProvider({"context.a": 1}), provides="context.a")]),),
                "faults": (lambda: FailOpen(on="timeout", limit="1/minute"),),
                "rule": (lambda: permit("r", action="read", when=subject.roles.in_("admin")),),
            },
        ),
        Trap(text_in_policy, {"roles": ()}),
    ],
}
