"""What fails in a chosen way, fails in that way, and in no other."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pep import (
    AccessDenied,
    AccessRequest,
    Enforcer,
    Fault,
    Guarantee,
    Obligation,
    Outcome,
    Resource,
    Subject,
    acting_as,
)
from pep.audit import Kind, MemorySink, Record
from pep.errors import ConfigurationError, PDPOverloaded, PDPRejected, PDPTimeout
from pep.frozen import EMPTY
from pep.protocols import Call
from pep.testing import FailingPDP, FailingSink, FakeClock, FakeHandler, FakeObserver, FakeProvider
from pep.testing.lookalikes import Agreeable, Lookalike, unawaited

ALICE = Subject("user", "alice")
DOCUMENT = Resource("document", "1")
REQUEST = AccessRequest(ALICE, "edit", DOCUMENT)


def outcome(pdp: object, **parts: Any) -> tuple[Outcome, Fault | None]:
    """What an enforcer concludes with a decision point."""
    enforcer = Enforcer(pdp, audit=MemorySink(), **parts)
    with acting_as(ALICE):
        verdict = enforcer.check("edit", DOCUMENT)
    return verdict.outcome, verdict.fault


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (PDPTimeout, Fault.TIMEOUT),
        (PDPOverloaded(), Fault.OVERLOADED),
        (PDPRejected("no"), Fault.REJECTED),
        (ConnectionError, Fault.UNREACHABLE),
        (ValueError, Fault.INTERNAL),
    ],
)
def test_a_pdp_that_raises(error: Any, fault: Fault) -> None:
    """A class or an instance is raised, and becomes its fault."""
    assert outcome(FailingPDP(raises=error)) == (Outcome.UNAVAILABLE, fault)


@pytest.mark.parametrize("make", [lambda: None, lambda: 1, lambda: "true", Lookalike, Agreeable, unawaited])
def test_a_pdp_that_answers_nonsense(make: Any) -> None:
    """Whatever looks like a permit is malformed."""
    assert outcome(FailingPDP(answers=make())) == (Outcome.UNAVAILABLE, Fault.MALFORMED)


def test_a_pdp_that_hangs() -> None:
    """An answer after the deadline is none, and nobody slept for it."""
    clock = FakeClock()
    assert outcome(FailingPDP(hangs=2, clock=clock), clock=clock) == (Outcome.UNAVAILABLE, Fault.TIMEOUT)
    assert outcome(FailingPDP(hangs=0.5, clock=clock), clock=clock) == (Outcome.PERMITTED, None)


def test_a_pdp_that_suspends() -> None:
    """What can only be awaited says so, and fails once it is awaited."""
    pdp = FailingPDP(raises=PDPTimeout, suspends=True, times=1)
    enforcer = Enforcer(pdp, audit=MemorySink())
    with pytest.raises(ConfigurationError, match="can only be awaited"):

        @enforcer.guard("edit", resource=DOCUMENT)
        def edit() -> None: ...

    async def asked() -> list[Outcome]:
        with acting_as(ALICE):
            return [(await enforcer.acheck("edit", DOCUMENT)).outcome for _ in range(2)]

    assert asyncio.run(asked()) == [Outcome.UNAVAILABLE, Outcome.PERMITTED]


def test_a_pdp_that_recovers() -> None:
    """It fails so many times, then answers."""
    pdp = FailingPDP(raises=ValueError, times=2, then=False)
    seen = []
    for _ in range(3):
        try:
            seen.append(pdp.decide(REQUEST))
        except ValueError:
            seen.append("failed")
    assert seen == ["failed", "failed", False]
    assert pdp.asked == [REQUEST] * 3


@pytest.mark.parametrize("options", [{}, {"hangs": 1}])
def test_a_pdp_that_could_not_fail_is_refused(options: dict[str, Any]) -> None:
    """To fail in no way, or to hang on no clock, is a mistake in the test."""
    with pytest.raises(ConfigurationError):
        FailingPDP(**options)


def record(number: int) -> Record:
    return Record(Kind.DECISION, str(number), 0.0, EMPTY)


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ({"at": None}, [1, 2, 3, 4]),
        ({}, []),
        ({"at": 2}, [1]),
        ({"at": 2, "once": True}, [1, 3, 4]),
        ({"at": 9}, [1, 2, 3, 4]),
    ],
)
def test_a_sink_fails_at_its_record(options: dict[str, Any], taken: list[int]) -> None:
    """It takes what comes before, and what comes after only when it fails once."""
    sink = FailingSink(**options)
    for number in range(1, 5):
        try:
            sink.record(record(number))
        except OSError:
            continue
    assert [int(kept.id) for kept in sink.records] == taken
    assert len(sink.records) + len(sink.refused) == 4


def test_a_sink_declares_and_raises_what_it_is_told() -> None:
    """The guarantee and the error are the test's to choose."""
    sink = FailingSink(raises=MemoryError(), guarantee=Guarantee.WRITTEN)
    assert sink.guarantee is Guarantee.WRITTEN
    with pytest.raises(MemoryError):
        sink.record(record(1))
    assert repr(sink) == "<FailingSink of 0 records, 1 refused>"


def test_there_is_no_record_nought() -> None:
    """Records are counted from one."""
    with pytest.raises(ConfigurationError, match="counted from 1"):
        FailingSink(0)


def test_fakes_do_as_they_are_told() -> None:
    """Provider, handler and observer answer, refuse or fail, and remember."""
    provider = FakeProvider({"subject.roles": ["editor"]}, types={"user"}, ttl=1.0)
    assert provider.provide(REQUEST) == {"subject.roles": ["editor"]}
    assert (provider.asked, provider.provides, provider.types) == ([REQUEST], frozenset({"subject.roles"}), {"user"})
    assert FakeProvider({"subject.roles": 1}, answers="nonsense").provide(REQUEST) == "nonsense"
    with pytest.raises(KeyError):
        FakeProvider({"subject.roles": 1}, raises=KeyError()).provide(REQUEST)
    with pytest.raises(KeyError):
        FakeHandler("tell", raises=KeyError()).discharge(Obligation("tell"), Call(REQUEST))
    observer = FakeObserver(raises=KeyError())
    with pytest.raises(KeyError):
        observer.observe(record(1))
    assert len(observer.seen) == 1


def test_a_handler_without_a_rank_has_none() -> None:
    """A fake that is not told its rank leaves it to the library."""
    assert not hasattr(FakeHandler("redact"), "rank")


def test_denials_of_a_failing_sink_stand() -> None:
    """A permit that cannot be recorded is refused with the fault that says so."""
    enforcer = Enforcer(lambda _request: True, audit=FailingSink())
    with acting_as(ALICE), pytest.raises(AccessDenied) as caught:
        enforcer.enforce("edit", DOCUMENT)
    assert caught.value.fault is Fault.AUDIT


def test_lookalikes_fool_a_careless_test() -> None:
    """The nonsense is of the kind that has passed for a permit elsewhere."""
    assert Lookalike()
    assert Lookalike().decision.permitted(1)
    assert Agreeable() == True  # noqa: E712  that it does is the point
    assert len({Agreeable(), Agreeable()}) == 1
    assert not hasattr(Lookalike(), "__await__")
    assert asyncio.run(unawaited()) is True
    assert [repr(Lookalike()), repr(Agreeable())] == ["<Lookalike>", "<Agreeable>"]
