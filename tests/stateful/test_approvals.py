"""Approvals through a real enforcer, over a database that is opened again and again, beside a plain dict."""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from pep import Outcome, Subject
from pep.approvals import ApprovalRefused, MemoryStore, Reason
from pep.approvals.sqlite import SQLiteStore
from pep.errors import ConfirmationRequired
from pep.testing import FakeClock
from tests.approvals.desks import ALICE, BOB, CAROL, DAVE, LIFE, SECRET, Bank, why
from tests.proving import times

AMOUNTS: Final = [1, 2]
ASKERS: Final = [ALICE, DAVE]
#: Who comes to the desk; None is nobody.
COMERS: Final = [ALICE, BOB, CAROL, DAVE, None]

Key = tuple[str, int, int]


@attrs.define
class Expected:
    """What an approval is in the model."""

    key: Key
    expires: float
    status: str = "pending"
    approvers: set[str] = attrs.field(factory=set)


class Approving(RuleBasedStateMachine):
    """Whoever asks, approves, rejects or comes back: the code runs exactly when the model says so."""

    names = Bundle("names")

    @initialize(kept=st.booleans())
    def start(self, kept: bool) -> None:
        self.folder = Path(tempfile.mkdtemp()) if kept else None
        self.clock = FakeClock()
        self.memory = MemoryStore(clock=self.clock)
        self.permits, self.approvers = True, 1
        self.model: dict[str, Expected] = {}
        self.ran = 0
        self.before = 0
        self.open()

    def open(self) -> None:
        folder = self.folder
        self.bank = Bank(
            store=lambda clock: (
                self.memory if folder is None else SQLiteStore(folder / "a.db", secret=SECRET, clock=clock)
            ),
            clock=self.clock,
            most=1000,
        )
        self.set_policy()

    def set_policy(self) -> None:
        self.bank.permits = self.permits
        self.bank.properties["approvers"] = self.approvers

    # What the model says.

    def key(self, who: Subject, amount: int) -> Key:
        return who.id, amount, self.approvers

    def lives(self, one: Expected) -> bool:
        return self.clock.wall() < one.expires

    def shared(self, key: Key) -> str | None:
        return next(
            (name for name, one in self.model.items() if one.key == key and one.status != "used" and self.lives(one)),
            None,
        )

    def worth(self, name: str, key: Key) -> Any:
        """What an approval is worth that was brought: a reason, or pending, or approved."""
        one = self.model.get(name)
        if one is None:
            return Reason.UNKNOWN
        if one.key != key:
            return Reason.OTHER
        if not self.lives(one):
            return Reason.EXPIRED
        return {"rejected": Reason.REJECTED, "used": Reason.USED}.get(one.status, one.status)

    def forget(self) -> None:
        """Whoever asks for something new drops what has expired."""
        self.model = {name: one for name, one in self.model.items() if self.lives(one)}

    # What can happen.

    @rule(target=names, who=st.sampled_from(ASKERS), amount=st.sampled_from(AMOUNTS))
    def request(self, who: Subject, amount: int) -> str:
        denial = self.bank.transfer("1", amount, who=who)
        if not self.permits:
            assert (denial.outcome, denial.fault) == (Outcome.DENIED, None)
            return "none"
        key = self.key(who, amount)
        known = self.shared(key)
        self.forget()
        if known is not None and self.model[known].status == "rejected":
            assert why(denial) is Reason.REJECTED
            return known
        assert isinstance(denial, ConfirmationRequired)
        name = denial.approval
        assert name is not None
        if known is None:
            assert name not in self.model
            self.model[name] = Expected(key, self.clock.wall() + LIFE)
        else:
            assert name == known
        return name

    @rule(name=names, who=st.sampled_from(COMERS), approves=st.booleans())
    def answer(self, name: str, who: Subject | None, approves: bool) -> None:
        expected = self.answered(name, who, approves=approves)
        came = None
        try:
            (self.bank.desk.approve if approves else self.bank.desk.reject)(name, who)
        except ApprovalRefused as refused:
            came = refused.reason
        assert came is expected

    def answered(self, name: str, who: Subject | None, *, approves: bool) -> Reason | None:
        one = self.model.get(name)
        if who is None:
            return Reason.UNAUTHENTICATED
        if one is None:
            return Reason.UNKNOWN
        if not self.lives(one):
            return Reason.EXPIRED
        if one.status not in ({"pending"} if approves else {"pending", "approved"}):
            return Reason.CLOSED
        if who.id == one.key[0]:
            return Reason.REQUESTER
        if approves and who.id in one.approvers:
            return Reason.REPEATED
        if not approves:
            one.status = "rejected"
            return None
        one.approvers.add(who.id)
        one.status = "approved" if len(one.approvers) >= one.key[2] else "pending"
        return None

    @rule(name=names, who=st.sampled_from(ASKERS), amount=st.sampled_from(AMOUNTS))
    def retry(self, name: str, who: Subject, amount: int) -> None:
        self.judge(self.bank.transfer("1", amount, brings=name, who=who), name, who, amount)

    def judge(self, came: Any, name: str, who: Subject, amount: int) -> None:
        worth = self.worth(name, self.key(who, amount))
        if not self.permits:
            assert came.outcome is Outcome.DENIED
        elif worth == "approved":
            assert came == amount
            self.model[name].status = "used"
            self.ran += 1
        elif worth == "pending":
            assert came.approval == name
        else:
            assert why(came) is worth

    @rule(name=names, who=st.sampled_from(ASKERS), amount=st.sampled_from(AMOUNTS))
    def race(self, name: str, who: Subject, amount: int) -> None:
        came: list[Any] = []
        gate = threading.Barrier(2)

        def retry() -> None:
            gate.wait()
            came.append(self.bank.transfer("1", amount, brings=name, who=who))

        threads = [threading.Thread(target=retry) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for one in sorted(came, key=lambda one: one != amount):
            self.judge(one, name, who, amount)

    @rule(seconds=st.sampled_from([1.0, LIFE / 2, LIFE]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(permits=st.sampled_from([True, True, False]), approvers=st.sampled_from([1, 2]))
    def change_policy(self, permits: bool, approvers: int) -> None:
        self.permits, self.approvers = permits, approvers
        self.set_policy()

    @rule()
    def restart(self) -> None:
        self.before += len(self.bank.ran)
        self.open()

    @rule(name=consumes(names))
    def lose(self, name: str) -> None:
        """Whoever was told an id may never come back."""

    # What always holds.

    @invariant()
    def the_code_ran_as_often_as_it_was_approved(self) -> None:
        if hasattr(self, "bank"):
            assert self.before + len(self.bank.ran) == self.ran

    def teardown(self) -> None:
        if getattr(self, "folder", None) is not None:
            shutil.rmtree(self.folder)  # type: ignore[arg-type]


TestApproving = Approving.TestCase
TestApproving.settings = settings(max_examples=times(40, 1_500), stateful_step_count=40, deadline=None)


def test_the_machine_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the check of the time taken away, the machine and the code disagree."""
    monkeypatch.setattr("pep.approvals.values.Approval.lives", lambda _self, _now: True)
    machine = Approving()
    machine.start(kept=False)
    name = machine.request(ALICE, 1)
    machine.advance(LIFE)
    with pytest.raises(AssertionError):
        machine.answer(name, BOB, approves=True)
    machine.teardown()
