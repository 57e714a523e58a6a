"""`RequireConfirmation`: the very call that was approved, once, in time; everything else is refused."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pep import (
    AccessDenied,
    AccessRequest,
    Action,
    Enforcer,
    Fault,
    Obligation,
    Outcome,
    Resource,
    Subject,
    acting_as,
    approval,
)
from pep.approvals import Approve, MemoryStore, Reason, Reject, Status
from pep.approvals.sqlite import SQLiteStore
from pep.audit import MemorySink
from pep.errors import ConfigurationError, ConfirmationRequired, ObligationError, RateLimited
from pep.obligations.confirmation import RequireConfirmation, as_store
from pep.protocols import Call
from pep.testing import check_handler
from tests.approvals.desks import AGENT, ALICE, BOB, CAROL, LIFE, SECRET, Bank, account, why

worlds = pytest.mark.parametrize("world", ["sync", "async"])


@worlds
def test_an_approved_call_runs_once(world: str) -> None:
    """It is denied until somebody else approved it, runs once with the approval, and never again."""
    bank = Bank(world=world)
    name = bank.asked()
    assert isinstance(bank.transfer("1", 5, brings=name), ConfirmationRequired)
    assert bank.desk.approve(name, BOB).status is Status.APPROVED
    assert isinstance(bank.transfer("1", 5), ConfirmationRequired), "the caller has to bring it"
    assert bank.transfer("1", 5, brings=name) == 5
    denial = bank.transfer("1", 5, brings=name)
    assert (denial.outcome, denial.fault, why(denial)) == (Outcome.DENIED, Fault.OBLIGATION, Reason.USED)
    assert bank.ran == [5]
    assert bank.events == ["requested", "approved", "used", ("refused", "used")]


def test_it_conforms() -> None:
    """It is a handler as others are, and raises on every malformed property, which it names, but not its value."""
    request = AccessRequest(ALICE, "transfer", account("1"))
    malformed = [Obligation("require-confirmation", properties) for properties in MALFORMED]
    store, call = MemoryStore(), Call(request, {"to": "1"})
    obligation = Obligation("require-confirmation")
    check_handler(lambda: RequireConfirmation(store), obligation=obligation, call=call, malformed=malformed)


MALFORMED: list[Mapping[str, Any]] = [
    {"who": ""},
    {"who": 7},
    {"who": "canary"},
    {"who": "__import__('canary')"},
    {"approvers": 0},
    {"approvers": -1},
    {"approvers": True},
    {"approvers": 1.0},
    {"approvers": 33},
    {"four_eyes": "no"},
    {"expires_in": 0},
    {"expires_in": -1},
    {"expires_in": "canary"},
    {"expires_in": 1e9},
    {"show": "canary"},
    {"show": []},
    {"message": 7},
    {"canary": 1},
]


@pytest.mark.parametrize("properties", MALFORMED, ids=str)
def test_what_is_malformed_denies(properties: Mapping[str, Any]) -> None:
    """A malformed obligation fails the call, and asks nobody."""
    bank = Bank(properties)
    denial = bank.transfer("1", 5)
    assert (denial.outcome, denial.fault) == (Outcome.DENIED, Fault.OBLIGATION)
    assert "require-confirmation" in why(denial)
    assert next(iter(properties)) in why(denial)
    if "canary" not in properties:
        assert "canary" not in why(denial)
    assert bank.desk.list() == []


OTHERS: dict[str, Callable[[Bank, str], Any]] = {
    "another argument": lambda bank, name: bank.transfer("1", 6, brings=name),
    "an equal one of another type": lambda bank, name: bank.transfer("1", 5.0, brings=name),
    "another resource": lambda bank, name: bank.transfer("2", 5, brings=name),
    "another subject": lambda bank, name: bank.transfer("1", 5, brings=name, who=CAROL),
    "an actor": lambda bank, name: bank.transfer("1", 5, brings=name, via=[AGENT]),
    "a tenant": lambda bank, name: bank.transfer("1", 5, brings=name, tenant="t"),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_another_call_is_not_what_was_approved(other: Callable[[Bank, str], Any]) -> None:
    """Whatever is bound has to be the same; and the approval is left for the call it is for."""
    bank = Bank()
    name = bank.asked()
    bank.desk.approve(name, BOB)
    assert why(other(bank, name)) is Reason.OTHER
    assert bank.ran == []
    assert bank.transfer("1", 5, brings=name) == 5


CHANGED: dict[str, Mapping[str, Any]] = {
    "more approvers": {"approvers": 2},
    "others": {"who": "subject.roles.contains('chief')"},
    "no four eyes": {"four_eyes": False},
}


@pytest.mark.parametrize("properties", CHANGED.values(), ids=CHANGED)
def test_a_policy_that_wants_other_approvers_is_another(properties: Mapping[str, Any]) -> None:
    """An approval of those who had to approve before is none of those who have to now."""
    bank = Bank()
    name = bank.asked()
    bank.desk.approve(name, BOB)
    bank.properties |= properties
    assert why(bank.transfer("1", 5, brings=name)) is Reason.OTHER
    assert bank.ran == []


def test_what_a_condition_looks_at_is_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was allowed for the resource as it was, may not be for what it is."""
    bank = Bank({"who": "subject.dept == resource.dept"})
    name = bank.asked()
    bank.desk.approve(name, BOB)
    moved = Resource("account", "1", {"dept": "legal"})
    monkeypatch.setattr("tests.approvals.desks.account", lambda _name: moved)
    assert why(bank.transfer("1", 5, brings=name)) is Reason.OTHER


def test_everything_is_decided_again() -> None:
    """An approval is no permit: a policy that denies by now, denies; and the approval is not used."""
    bank = Bank()
    name = bank.asked()
    bank.desk.approve(name, BOB)
    bank.permits = False
    assert bank.transfer("1", 5, brings=name).outcome is Outcome.DENIED
    bank.permits = True
    assert bank.transfer("1", 5, brings=name) == 5


@pytest.mark.parametrize("approves", [True, False])
def test_it_expires_by_the_clock_of_the_store(approves: bool) -> None:
    """Past its time it is worth nothing, approved or not; asking again makes another one."""
    bank = Bank()
    name = bank.asked()
    if approves:
        bank.desk.approve(name, BOB)
    bank.clock.advance(LIFE)
    assert why(bank.transfer("1", 5, brings=name)) is Reason.EXPIRED
    assert bank.refused(bank.desk.approve, name, BOB) is Reason.EXPIRED
    assert bank.asked() != name
    assert why(bank.transfer("1", 5, brings=name)) is Reason.UNKNOWN


def test_a_clock_that_was_set_back_prolongs_nothing() -> None:
    """What was changed in the future is not in force."""
    bank = Bank()
    name = bank.asked()
    bank.desk.approve(name, BOB)
    bank.clock.set_wall(bank.clock.wall() - 61)
    assert why(bank.transfer("1", 5, brings=name)) is Reason.EXPIRED


def test_a_rejection_is_remembered() -> None:
    """The same request is denied without anybody being asked again, until the rejection expires; others are not."""
    bank = Bank()
    name = bank.asked()
    assert bank.desk.reject(name, BOB, comment="no").status is Status.REJECTED
    for brings in (None, name):
        denial = bank.transfer("1", 5, brings=brings)
        assert (denial.outcome, why(denial)) == (Outcome.DENIED, Reason.REJECTED)
    assert bank.refused(bank.desk.approve, name, CAROL) is Reason.CLOSED
    assert bank.desk.list() == []
    assert bank.asked("1", 6) != name
    bank.clock.advance(LIFE)
    assert bank.asked() != name


def test_what_was_approved_can_still_be_rejected() -> None:
    """Until it is used."""
    bank = Bank()
    name = bank.asked()
    bank.desk.approve(name, BOB)
    bank.desk.reject(name, CAROL)
    assert why(bank.transfer("1", 5, brings=name)) is Reason.REJECTED


def test_identical_requests_share_one() -> None:
    """However often it is asked, there is one to approve; a used one is not shared."""
    bank = Bank()
    name = bank.asked()
    assert bank.asked() == name
    assert len(bank.desk.list()) == 1
    bank.desk.approve(name, BOB)
    assert bank.asked() == name
    assert bank.transfer("1", 5, brings=name) == 5
    assert bank.asked() != name


def test_a_subject_may_have_so_many() -> None:
    """Past the bound it is told to wait for the first to expire; others are not."""
    bank = Bank(most=2)
    first = bank.asked("1", 1)
    bank.clock.advance(10)
    bank.asked("1", 2)
    denial = bank.transfer("1", 3)
    assert isinstance(denial, RateLimited)
    assert denial.retry_after == LIFE - 10
    assert bank.asked("1", 1) == first
    bank.asked("1", 3, who=CAROL)
    bank.clock.advance(LIFE - 10)
    bank.asked("1", 3)


def test_an_approval_nobody_knows_is_refused() -> None:
    """An id alone is no proof."""
    assert why(Bank().transfer("1", 5, brings="forged")) is Reason.UNKNOWN


class Opaque:
    """What has no canonical form, nor is JSON."""


def test_what_cannot_be_digested_fails() -> None:
    """Unless the parameters that are confirmed are named; then the others may be anything."""
    bank = Bank()
    denial = bank.transfer("1", Opaque())
    assert (denial.outcome, denial.fault) == (Outcome.DENIED, Fault.OBLIGATION)
    assert "`amount`" in why(denial)
    assert "confirm_over=" in why(denial)
    named = Bank(confirm_over={"account:transfer": ["to"]})
    name = named.asked("1", Opaque())
    named.desk.approve(name, BOB)
    last = Opaque()
    assert named.transfer("1", last, brings=name) is last


def test_what_is_named_has_to_be_there() -> None:
    """A parameter that the call does not have confirms nothing."""
    denial = Bank(confirm_over={"account:transfer": ["sum"]}).transfer("1", 5)
    assert "`sum` is no parameter" in why(denial)


def test_receivers_are_left_out() -> None:
    """The object a method is called on need not be digestible, nor the same."""
    bank = Bank()

    class Teller:
        @bank.enforcer.guard("transfer", resource="account:{to}")
        def pay(self, to: str) -> str:
            return to

    def pay(brings: str | None = None) -> Any:
        try:
            with acting_as(ALICE):
                if brings is None:
                    return Teller().pay("1")
                with approval(brings):
                    return Teller().pay("1")
        except AccessDenied as denial:
            return denial

    name = pay().approval
    bank.desk.approve(name, BOB)
    assert pay(name) == "1"


@pytest.mark.parametrize("other", [{"fee": 2}, {"limit": 2}], ids=["action", "resource"])
def test_what_has_no_id_is_bound_whole(other: Mapping[str, int]) -> None:
    """A resource that is new is what it is about to be; and an action is bound with its properties."""
    bank = Bank()

    def create(brings: str | None = None, *, fee: int = 1, limit: int = 1) -> Any:
        try:
            with approval(brings) if brings else nullcontext():
                made = Resource.new("account", {"limit": limit})
                return bank.enforcer.enforce(Action("transfer", {"fee": fee}), made, subject=ALICE)
        except AccessDenied as denial:
            return denial

    name = create().approval
    bank.desk.approve(name, BOB)
    assert why(create(name, **other)) is Reason.OTHER
    assert create(name).verdict.allowed


def test_circumstances_are_bound_where_they_are_named() -> None:
    """They change from call to call, unless somebody says that they may not."""
    for names, expected in (((), True), (("amount",), False)):
        bank = Bank(confirm_context=names)
        with pytest.raises(ConfirmationRequired) as denied:
            bank.enforcer.enforce("transfer", account("1"), subject=ALICE, context={"amount": 1})
        name = denied.value.approval
        assert name is not None
        bank.desk.approve(name, BOB)
        with approval(name):
            verdicts = []
            try:
                grant = bank.enforcer.enforce("transfer", account("1"), subject=ALICE, context={"amount": 2})
                verdicts.append(grant.verdict.allowed)
            except AccessDenied:
                verdicts.append(False)
        assert verdicts == [expected]


def test_approvers_see_what_the_policy_shows() -> None:
    """Of the arguments those that are named, exact or as text; of the resource nothing that nobody looks at."""
    bank = Bank({"show": ["amount", "to"], "message": "a large one"})
    for amount, shown in ((5, 5), (Decimal("1.50"), "1.50"), (uuid.UUID(int=1), str(uuid.UUID(int=1)))):
        one = bank.desk.show(bank.asked("1", amount))
        assert one is not None
        assert dict(one.shown) == {"amount": shown, "to": "1"}
        assert one.message == "a large one"
        assert b"canary" not in one.to_json()
    assert "`amount` cannot be shown" in why(bank.transfer("1", {1, 2}))
    assert "more than 16384 bytes" in why(bank.transfer("1", "x" * 16_385))
    assert "`amount` cannot be shown" in why(bank.transfer("1", "\ud800"))


# Asked inline.


def asking(*answers: Any, **options: Any) -> Bank:
    said = list(answers)
    options.setdefault("authenticate", lambda credentials: credentials)
    return Bank(ask=lambda _approval: said.pop(0), **options)


@worlds
def test_somebody_is_asked_while_the_call_waits(world: str) -> None:
    """They approve, and it runs: once; the next one asks again."""
    bank = asking(Approve(BOB, "fine"), Reject(BOB), world=world)
    assert bank.transfer("1", 5) == 5
    assert why(bank.transfer("1", 5)) is Reason.REJECTED
    assert why(bank.transfer("1", 5)) is Reason.REJECTED, "it does not loop"
    assert bank.ran == [5]
    assert bank.events[:3] == ["requested", "approved", "used"]


def test_an_awaited_answer_counts_as_well() -> None:
    """Whoever asks may be asynchronous; then only asynchronous callers are served."""

    async def ask(_approval: Any) -> Approve:
        await asyncio.sleep(0)
        return Approve("token")

    async def authenticate(_token: str) -> Subject:
        await asyncio.sleep(0)
        return BOB

    bank = Bank(world="async", ask=ask, authenticate=authenticate)
    assert bank.transfer("1", 5) == 5
    with pytest.raises(ConfigurationError, match=r"RequireConfirmation\.discharge"):
        Bank(ask=ask, authenticate=authenticate)


def test_credentials_are_not_shown() -> None:
    """Neither in a traceback nor in a log."""
    assert (repr(Approve("canary")), repr(Reject("canary"))) == ("Approve(...)", "Reject(...)")


UNHEARD: dict[str, Any] = {
    "nobody": None,
    "the requester": Approve(ALICE),
    "nobody in particular": Approve(None),
    "no subject": Approve("bob"),
    "anonymous": Approve(Subject("anonymous", "anonymous")),
}


@pytest.mark.parametrize("answer", UNHEARD.values(), ids=UNHEARD)
def test_what_does_not_count_leaves_it_pending(answer: Any) -> None:
    """The caller is told the id, and somebody else may approve."""
    bank = asking(answer, None)
    name = bank.asked()
    bank.desk.approve(name, BOB)
    assert bank.transfer("1", 5) == 5, "who is asked inline need not bring what was approved elsewhere"
    assert ("refused" in str(bank.events)) is (answer is not None)


def test_whoever_fails_to_ask_leaves_it_pending() -> None:
    """A broken dialogue confirms nothing, and denies nothing for good."""

    def ask(_approval: Any) -> Any:
        raise ConnectionError

    bank = Bank(ask=ask, authenticate=lambda one: one)
    bank.asked()
    assert bank.ran == []


def test_whoever_is_asked_may_be_asked_on_a_thread() -> None:
    """So that a dialogue that blocks holds up no event loop."""
    threads = []

    def ask(_approval: Any) -> Approve:
        threads.append(threading.current_thread())
        return Approve(BOB)

    bank = Bank(world="async", ask=ask, authenticate=lambda one: one, threaded=True)
    assert bank.transfer("1", 5) == 5
    assert threads != [threading.current_thread()]


@pytest.mark.parametrize("answer", [True, BOB, "yes"], ids=str)
def test_an_answer_says_who_gave_it(answer: Any) -> None:
    """Yes, by nobody, is a mistake of whoever asks."""
    assert "must return `Approve`" in why(asking(answer).transfer("1", 5))


def test_an_answer_that_comes_too_late_is_none() -> None:
    """The call's deadline bounds it; the approval is still there for the next one."""
    bank = asking(None)

    def ask(_approval: Any) -> Any:
        bank.clock.advance(11)
        return Approve(BOB)

    bank.handler._ask = ask
    name = bank.asked()
    assert bank.desk.approve(name, BOB).status is Status.APPROVED
    assert bank.ran == []


def test_arguments_that_change_meanwhile_are_not_approved() -> None:
    """What was shown to somebody is what runs."""
    given = [5]

    def ask(_approval: Any) -> Any:
        given.append(6)
        return Approve(BOB)

    bank = Bank(ask=ask, authenticate=lambda one: one)
    assert why(bank.transfer("1", given)) is Reason.CHANGED
    assert bank.ran == []


def test_several_may_be_asked_one_after_another() -> None:
    """Each call asks one; the one that completes it runs."""
    bank = asking(Approve(BOB), Approve(CAROL), properties={"approvers": 2})
    bank.asked()
    assert bank.transfer("1", 5) == 5


@pytest.mark.parametrize(("reason", "ran"), [(Reason.USED, 1), (Reason.REJECTED, 0)])
def test_an_approval_lost_in_a_race_is_not_used(reason: Reason, ran: int) -> None:
    """Whoever comes second finds it used, or rejected meanwhile, and runs nothing."""
    bank = Bank()
    name = bank.asked()
    bank.desk.approve(name, BOB)
    swap = bank.store.swap

    def late(old: Any, new: Any) -> bool:
        bank.store.swap = swap  # type: ignore[method-assign]
        if reason is Reason.USED:
            assert bank.transfer("1", 5, brings=name) == 5
        else:
            bank.desk.reject(name, CAROL)
        return swap(old, new)

    bank.store.swap = late  # type: ignore[method-assign]
    assert why(bank.transfer("1", 5, brings=name)) is reason
    assert len(bank.ran) == ran


def test_a_store_that_forgets_in_between_is_refused() -> None:
    """One that says it did not replace, and yet has what was read, is believed the first time."""
    bank = Bank()
    name = bank.asked()
    bank.desk.approve(name, BOB)
    bank.store.swap = lambda _old, _new: False  # type: ignore[method-assign]
    assert why(bank.transfer("1", 5, brings=name)) is Reason.USED


def test_a_store_that_is_down_closes() -> None:
    """Nothing is confirmed that cannot be looked up."""
    bank = Bank()
    name = bank.asked()
    bank.desk.approve(name, BOB)

    def down(*_args: Any) -> Any:
        raise ObligationError

    for method in ("get", "now", "swap"):
        kept = getattr(bank.store, method)
        setattr(bank.store, method, down)
        assert bank.transfer("1", 5, brings=name).fault is Fault.OBLIGATION
        setattr(bank.store, method, kept)
    assert bank.ran == []


def test_what_cannot_be_recorded_is_not_used_for() -> None:
    """Where it has a journal of its own, that is part of it."""
    bank = Bank()
    name = bank.asked()
    bank.desk.approve(name, BOB)
    journal = bank.handler._journal
    assert journal is not None

    class Broken(MemorySink):
        def record(self, record: Any) -> None:
            raise OSError

    journal.sink = Broken()
    assert bank.transfer("1", 5, brings=name).fault is Fault.OBLIGATION
    assert bank.ran == []


def test_an_answer_that_cannot_be_recorded_denies() -> None:
    """Somebody said yes, but nobody could prove it: that is no missing confirmation, but a failure."""
    bank = asking(Approve(BOB))

    class Late(MemorySink):
        def record(self, record: Any) -> None:
            if record["event"] == "approved":
                raise OSError

    journal = bank.handler._journal
    assert journal is not None
    journal.sink = Late()
    assert bank.transfer("1", 5).fault is Fault.OBLIGATION
    assert bank.ran == []


def test_it_needs_no_journal() -> None:
    """The decisions are recorded anyway."""
    bank = Bank()
    handler = RequireConfirmation(bank.store)
    enforcer = Enforcer(bank.decide, audit=bank.sink, obligations=[handler])
    with pytest.raises(ConfirmationRequired):
        enforcer.enforce("transfer", account("1"), subject=ALICE)
    assert bank.events == []
    bank.store = MemoryStore()
    asking = RequireConfirmation(bank.store, ask=lambda _one: Approve(BOB), authenticate=lambda one: one)
    inline = Enforcer(bank.decide, audit=bank.sink, obligations=[asking])
    assert inline.enforce("transfer", account("1"), subject=ALICE).verdict.allowed
    assert bank.events == []
    assert repr(handler).startswith("RequireConfirmation(<MemoryStore")


# How it is made.


def test_a_path_is_a_database(tmp_path: Path) -> None:
    """Where a path is given, approvals are in SQLite; with a secret, which a store has already."""
    store = as_store(tmp_path / "approvals.db", SECRET)
    assert isinstance(store, SQLiteStore)
    assert as_store(store, None) is store
    with pytest.raises(ConfigurationError, match="needs `secret=`"):
        as_store(str(tmp_path / "approvals.db"), None)
    with pytest.raises(ConfigurationError, match="secret of its own"):
        as_store(store, SECRET)


WRONG: dict[str, Callable[[], Any]] = {
    "no store of approvals": lambda: RequireConfirmation(object()),  # type: ignore[arg-type]
    "`MemoryStore` is no store": lambda: RequireConfirmation(MemoryStore),  # type: ignore[arg-type]
    "`ask` needs `authenticate`": lambda: RequireConfirmation(MemoryStore(), ask=lambda _one: None),
    "are callables": lambda: RequireConfirmation(MemoryStore(), authenticate=7),  # type: ignore[arg-type]
    "`expires_in` must be": lambda: RequireConfirmation(MemoryStore(), expires_in=0),
    "`expires_in` must be a": lambda: RequireConfirmation(MemoryStore(), expires_in=True),
    "`most` must be": lambda: RequireConfirmation(MemoryStore(), most=0),
    "`confirm_over` takes a mapping": lambda: RequireConfirmation(MemoryStore(), confirm_over=["to"]),  # type: ignore[arg-type]
    "`confirm_over` takes names": lambda: RequireConfirmation(MemoryStore(), confirm_over={"pay": "to"}),
    "`confirm_context` takes names": lambda: RequireConfirmation(MemoryStore(), confirm_context="to"),
}


@pytest.mark.parametrize(("message", "make"), WRONG.items(), ids=WRONG)
def test_what_it_is_made_of_is_checked(message: str, make: Callable[[], Any]) -> None:
    """What is wrong shows where it was written."""
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_who_is_asked_is_bound_to_what_is_asked() -> None:
    """Every approval that is stored is bound to one key, whatever order the properties have."""
    one, other = Bank({"show": ["to", "amount"], "approvers": 2}), Bank({"approvers": 2, "show": ["amount", "to"]})
    first, second = one.desk.show(one.asked()), other.desk.show(other.asked())
    assert first is not None
    assert second is not None
    assert first.key == second.key
    assert first.shown == second.shown
