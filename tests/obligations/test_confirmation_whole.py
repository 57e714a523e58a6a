"""A confirmation is of a whole call: all its requests, its very arguments, and the decision it was used for."""

from __future__ import annotations

from typing import Any, Final

import pytest

from pep import AccessRequest, Decision, Effect, Enforcer, Fault, Obligation, Outcome, acting_as, approval
from pep.approvals import Approve, Reason
from pep.audit import Kind
from pep.errors import AccessDenied, ConfirmationRequired
from tests.approvals.desks import AGENT, ALICE, BOB, CAROL, Bank, account, why

worlds: Final = pytest.mark.parametrize("world", ["sync", "async"])


def demanding(bank: Bank, *obligations: Obligation) -> Enforcer:
    """An enforcer of the same bank whose every permit has these obligations."""
    decision = Decision(Effect.PERMIT, obligations=obligations)
    return Enforcer(lambda _request: decision, audit=bank.sink, clock=bank.clock, obligations=[bank.handler])


@worlds
@pytest.mark.parametrize("inline", [False, True])
def test_actors_and_subject_are_confirmed_as_one(world: str, inline: bool) -> None:
    """Each is decided about, and demands a confirmation; one approval is for all, and used once."""
    said = {"ask": lambda _one: Approve(BOB), "authenticate": lambda one: one} if inline else {}
    bank = Bank(world=world, **said)
    if inline:
        assert bank.transfer("1", 5, via=[AGENT]) == 5
    else:
        name = bank.asked(via=[AGENT])
        one = bank.desk.show(name)
        assert one is not None
        assert [point.request.subject for point in one.points] == [ALICE, AGENT]
        assert bank.refused(bank.desk.approve, name, AGENT) is Reason.REQUESTER
        bank.desk.approve(name, BOB)
        assert bank.transfer("1", 5, via=[AGENT], brings=name) == 5
        assert why(bank.transfer("1", 5, via=[AGENT], brings=name)) is Reason.USED
    assert bank.ran == [5]
    assert bank.events.count("used") == 1


def test_several_resources_and_equal_obligations_are_confirmed_as_one() -> None:
    """Duplicates do not collapse, and none of them takes the approval from the others."""
    bank = Bank()
    obligation = Obligation("require-confirmation")
    enforcer = demanding(bank, obligation, obligation)
    ran: list[int] = []

    @enforcer.guard("transfer", resource=lambda: [account("1"), account("2")])
    def both() -> None:
        ran.append(1)

    with acting_as(ALICE):
        with pytest.raises(ConfirmationRequired) as denied:
            both()
        name = denied.value.approval
        assert name is not None
        bank.desk.approve(name, BOB)
        with approval(name):
            both()
        with approval(name), pytest.raises(AccessDenied):
            both()
    assert ran == [1]


def test_each_demand_has_its_own_approvers() -> None:
    """Where two policies want different people, both have to approve, each for what they may."""
    bank = Bank()
    first = Obligation("require-confirmation", {"who": "subject.id == 'bob'"})
    second = Obligation("require-confirmation", {"who": "subject.id != 'bob'"})
    bank._guarded = demanding(bank, first, second).guard("transfer", resource="account:{to}")(lambda to, amount: amount)
    name = bank.asked()
    assert bank.desk.approve(name, BOB).lacking == (0, 1)
    assert isinstance(bank.transfer("1", 5, brings=name), ConfirmationRequired)
    bank.desk.approve(name, CAROL)
    assert bank.transfer("1", 5, brings=name) == 5


@worlds
@pytest.mark.parametrize("more", ["more", object()], ids=["another value", "nothing that can be digested"])
def test_what_runs_is_what_was_confirmed(world: str, more: Any) -> None:
    """Arguments are digested again after the record, before the code: the approval is gone for nothing."""
    given: list[Any] = [5]
    bank = Bank(world=world)
    name = bank.asked("1", given)
    bank.desk.approve(name, BOB)
    kept = bank.sink.record

    def meddle(one: Any) -> None:
        kept(one)
        if one.kind is Kind.DECISION and one["outcome"] == "permitted":
            given.append(more)

    bank.sink.record = meddle  # type: ignore[method-assign]
    denial = bank.transfer("1", given, brings=name)
    assert (denial.outcome, denial.fault) == (Outcome.DENIED, Fault.EXTRACTION)
    assert bank.ran == []
    del given[1:]
    assert why(bank.transfer("1", given, brings=name)) is Reason.USED


@worlds
def test_the_decision_names_the_approval(world: str) -> None:
    """The record of the permit has the approval's id, and the approval that of the record; a demand has it too."""
    bank = Bank(world=world)
    name = bank.asked()
    asked = bank.sink.of(Kind.DECISION)[-1]
    bank.desk.approve(name, BOB)
    bank.transfer("1", 5, brings=name)
    permitted = bank.sink.of(Kind.DECISION)[-1]
    one = bank.desk.show(name)
    assert one is not None
    duties = [record["obligations"] for record in (asked, permitted)]
    assert [[duty["status"], duty["approval"]] for (duty,) in duties] == [["failed", name], ["discharged", name]]
    assert one.used == permitted.id
    assert {record.kind for record in bank.sink.records if record.get("event")} == {Kind.APPROVAL}


def test_what_an_agent_may_do_for_one_is_approved_for_that_one() -> None:
    """Demanded of the agent alone, it still is who she acts for that asks: nobody approves her own, nor for another."""
    bank = Bank()
    ran: list[int] = []

    def decide(request: AccessRequest) -> Decision:
        due = [Obligation("require-confirmation")] if request.subject == AGENT else []
        return Decision(Effect.PERMIT, obligations=due)

    enforcer = Enforcer(decide, audit=bank.sink, clock=bank.clock, obligations=[bank.handler])

    @enforcer.guard("transfer", resource=lambda: account("1"))
    def transfer() -> None:
        ran.append(1)

    with acting_as(ALICE, via=[AGENT]), pytest.raises(ConfirmationRequired) as denied:
        transfer()
    name = denied.value.approval
    assert name is not None
    assert bank.refused(bank.desk.approve, name, ALICE) is Reason.REQUESTER
    bank.desk.approve(name, CAROL)
    with acting_as(BOB, via=[AGENT]), approval(name), pytest.raises(AccessDenied):
        transfer()
    assert ran == []
    with acting_as(ALICE, via=[AGENT]), approval(name):
        transfer()
    assert ran == [1]
