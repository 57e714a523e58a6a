"""The desk: who may approve, how many must, and what is recorded of everybody who tries."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from pep import ANONYMOUS, Enforcer, Subject
from pep.approvals import Answer, Approval, ApprovalRefused, MemoryStore, Reason, Status
from pep.approvals.desk import Desk
from pep.approvals.sqlite import SQLiteStore
from pep.approvals.store import asked
from pep.audit import MemorySink
from pep.audit.journal import Journal
from pep.errors import AuditError, ConfigurationError, ObligationError
from pep.testing import FakeClock
from pep.testing.approval_conformance import draft
from tests.approvals.desks import AGENT, ALICE, BOB, CAROL, DAVE, SECRET, Bank, why


class Equal(Subject):  # type: ignore[misc]
    """A subject of another type."""


NOBODY: dict[str, Any] = {
    "nothing": None,
    "anonymous": ANONYMOUS,
    "anonymous of another id": Subject("anonymous", "bob"),
    "a name": "user:bob",
    "no exact subject": Equal("user", "bob"),
    "true": True,
    "no names": (),
    "a list with somebody else's idea of a name": [BOB, "carol"],
    "several, one anonymous": (BOB, ANONYMOUS),
}


@pytest.mark.parametrize("said", NOBODY.values(), ids=NOBODY)
def test_who_is_not_authenticated_is_refused(said: Any) -> None:
    """Only an exact subject who is somebody is an approver; everything else is recorded, and changes nothing."""
    bank = Bank()
    name = bank.asked()
    for answer in (bank.desk.approve, bank.desk.reject):
        assert bank.refused(answer, name, said) is Reason.UNAUTHENTICATED
        assert bank.sink.records[-1]["reason"] == "unauthenticated"
        assert bank.sink.records[-1].get("approver") is None
    one = bank.desk.show(name)
    assert one is not None
    assert (one.status, one.version) == (Status.PENDING, 0)


def test_what_authenticates_may_fail() -> None:
    """Whoever cannot be authenticated, is not."""

    def authenticate(_token: Any) -> Subject:
        raise ConnectionError

    bank = Bank()
    desk = bank.new_desk(authenticate=authenticate)
    assert bank.refused(desk.approve, bank.asked(), "token") is Reason.UNAUTHENTICATED


def test_credentials_are_what_counts() -> None:
    """A desk is told of a session or a token, not of a subject."""
    bank = Bank()
    desk = bank.new_desk(authenticate={"token": BOB}.get)
    name = bank.asked()
    assert bank.refused(desk.approve, name, "forged") is Reason.UNAUTHENTICATED
    after = desk.approve(name, "token", comment="fine")
    assert [(answer.approver, answer.comment) for answer in after.answers] == [(BOB.reference(), "fine")]
    assert bank.sink.records[-1]["approver"] == {"type": "user", "id": "bob"}


OWN: dict[str, Any] = {
    "the subject": ALICE,
    "with other properties": Subject("user", "alice", {"roles": ["boss"]}),
    "an actor": AGENT,
    "under another name": (BOB, ALICE),
}


@pytest.mark.parametrize("who", OWN.values(), ids=OWN)
def test_nobody_approves_their_own(who: Any) -> None:
    """Four eyes: neither the requester nor an actor, by whatever name of the same person; that is recorded."""
    bank = Bank()
    name = bank.asked(who=ALICE) if who is not AGENT else asked_for(bank)
    for answer in (bank.desk.approve, bank.desk.reject):
        assert bank.refused(answer, name, who) is Reason.REQUESTER
    assert bank.sink.records[-1]["reason"] == "requester"
    assert bank.desk.approve(name, BOB).status is Status.APPROVED


def asked_for(bank: Bank) -> str:
    """Ask for Alice by way of an agent, for whom nobody has to confirm anything."""
    decide = bank.decide
    bank.decide = lambda request: decide(request) if request.actors else True  # type: ignore[method-assign]
    bank.enforcer = Enforcer(
        lambda request: bank.decide(request), audit=bank.sink, clock=bank.clock, obligations=[bank.handler]
    )
    bank._guarded = bank.enforcer.guard("transfer", resource="account:{to}")(lambda to, amount: amount)
    return bank.asked(via=[AGENT])


def test_a_policy_may_do_without_four_eyes() -> None:
    """Then the requester confirms, as in a dialogue."""
    bank = Bank({"four_eyes": False})
    name = bank.asked()
    bank.desk.approve(name, ALICE)
    assert bank.transfer("1", 5, brings=name) == 5


CONDITIONS: dict[str, bool] = {
    "subject.roles.contains('boss')": True,
    "subject.dept == resource.dept": True,
    "subject.id == 'bob'": True,
    "resource.id == '1'": True,
    "action.name == 'transfer'": True,
    "has(context.now)": False,
    "subject.roles.contains('chief')": False,
    "subject.missing == 1": False,
    "resource.missing == subject.dept": False,
    "~(subject.missing == 1)": False,
}


@pytest.mark.parametrize(("who", "may"), CONDITIONS.items(), ids=CONDITIONS)
def test_who_may_approve_is_a_condition(who: str, may: bool) -> None:
    """Over the approver as `subject`, and what they approve; what is unknown is no permission."""
    bank = Bank({"who": who})
    name = bank.asked()
    if may:
        assert bank.desk.approve(name, BOB).status is Status.APPROVED
    else:
        assert bank.refused(bank.desk.approve, name, BOB) is Reason.NOT_ALLOWED
        assert bank.refused(bank.desk.reject, name, BOB) is Reason.NOT_ALLOWED
        assert bank.sink.records[-1]["reason"] == "not_allowed"


def by_bob(approver: Subject, approval: Approval) -> Any:
    if approver.id == "broken":
        raise ValueError
    return {"bob": True, "one": 1}.get(approver.id, approval.request.subject == BOB)


@pytest.mark.parametrize("name", ["carol", "one", "broken"])
def test_a_predicate_allows_by_exactly_true(name: str) -> None:
    """Whatever else it answers, and whatever it raises, allows nobody."""
    bank = Bank(may_approve=by_bob)
    pending = bank.asked()
    assert bank.refused(bank.desk.approve, pending, Subject("user", name)) is Reason.NOT_ALLOWED
    assert bank.desk.approve(pending, BOB).status is Status.APPROVED


class Predicate:
    """A predicate that is no function."""

    def __call__(self, approver: Subject, _approval: Approval) -> bool:
        return approver == BOB


def test_a_desk_needs_the_predicate_that_is_asked_for() -> None:
    """Without it, or with another one, it lets nobody approve."""
    bank = Bank(may_approve=Predicate())
    name = bank.asked()
    for options in ({}, {"may_approve": by_bob}):
        assert bank.refused(bank.new_desk(**options).approve, name, BOB) is Reason.NOT_ALLOWED
    assert bank.desk.approve(name, BOB).status is Status.APPROVED


def test_several_have_to_approve() -> None:
    """So many different people; until then it is pending, and nothing runs."""
    bank = Bank({"approvers": 3})
    name = bank.asked()
    bank.desk.approve(name, BOB)
    for again in (BOB, (DAVE, BOB), (BOB, DAVE)):
        assert bank.refused(bank.desk.approve, name, again) is Reason.REPEATED
    assert bank.desk.approve(name, (CAROL, Subject("mail", "carol@example.org"))).lacking == (1,)
    assert bank.sink.records[-1]["also"] == [{"type": "mail", "id": "carol@example.org"}]
    assert bank.refused(bank.desk.approve, name, Subject("mail", "carol@example.org")) is Reason.REPEATED
    assert bank.asked("1", 5, brings=None) == name
    assert bank.transfer("1", 5, brings=name).approval == name
    assert bank.desk.approve(name, DAVE).status is Status.APPROVED
    assert bank.transfer("1", 5, brings=name) == 5


def test_one_who_approved_may_still_reject() -> None:
    """Those who have second thoughts need not come back as somebody else."""
    bank = Bank({"approvers": 2})
    name = bank.asked()
    bank.desk.approve(name, BOB)
    assert bank.desk.reject(name, BOB).status is Status.REJECTED


def test_what_is_decided_is_closed() -> None:
    """An approval that is complete, rejected, used or unknown takes no more answers; each try is recorded."""
    bank = Bank()
    approved, rejected = bank.asked("1", 1), bank.asked("1", 2)
    bank.desk.approve(approved, BOB)
    bank.desk.reject(rejected, BOB)
    assert bank.refused(bank.desk.approve, approved, CAROL) is Reason.CLOSED
    assert bank.refused(bank.desk.reject, rejected, CAROL) is Reason.CLOSED
    bank.transfer("1", 1, brings=approved)
    assert bank.refused(bank.desk.reject, approved, CAROL) is Reason.CLOSED
    assert bank.refused(bank.desk.approve, "unknown", CAROL) is Reason.UNKNOWN
    assert bank.sink.records[-1]["approval"] == "unknown"
    assert [bank.desk.list(status) for status in (Status.PENDING, Status.APPROVED)] == [[], []]
    assert [one.id for one in bank.desk.list(None)] == sorted_by_time(bank, approved, rejected)


def sorted_by_time(bank: Bank, *names: str) -> list[str]:
    found = [one for one in map(bank.desk.show, names) if one is not None]
    return [one.id for one in sorted(found, key=lambda one: (one.created, one.id))]


def test_the_records_tell_it_all() -> None:
    """Who asked for what, who answered, and which version that made; never a value of an argument."""
    bank = Bank({"show": ["amount"]})
    name = bank.asked("1", 987_654)
    bank.desk.approve(name, BOB)
    requested, approved = (record for record in bank.sink.records if record.get("event"))
    common = {
        "approval": name,
        "subject": {"type": "user", "id": "alice"},
        "action": "transfer",
        "resource": {"type": "account", "id": "1"},
        "enforcer": "approvals",
    }
    for record, told in (
        (requested, {"event": "requested", "state": "pending", "version": 0, "lacking": 1}),
        (approved, {"event": "approved", "state": "approved", "version": 1, "lacking": 0}),
    ):
        assert {field: record[field] for field in common} == common
        assert {field: record[field] for field in told} == told
        assert b"987654" not in record.to_json()
        assert b"canary" not in record.to_json()


class Broken(MemorySink):
    """A sink that takes nothing."""

    def record(self, record: Any) -> None:
        raise OSError


def test_nothing_is_approved_that_is_not_recorded() -> None:
    """Where the record is lost, so is the approval; a rejection stands all the same."""
    bank = Bank()
    name = bank.asked()
    desk = Desk(bank.store, authenticate=lambda one: one, audit=Broken(), clock=bank.clock)
    for answer in (desk.approve, desk.reject):
        with pytest.raises(AuditError, match="could not be recorded: OSError"):
            answer(name, BOB)
    assert why(bank.transfer("1", 5, brings=name)) is Reason.REJECTED


def test_an_answer_that_comes_between_is_looked_at() -> None:
    """Two who approve at once both count; one who is too late for a rejection is told so."""
    bank = Bank({"approvers": 2})
    name = bank.asked()
    swap = bank.store.swap

    def late(between: Callable[[], Any]) -> Callable[..., bool]:
        def swapping(old: Any, new: Any) -> bool:
            bank.store.swap = swap  # type: ignore[method-assign]
            between()
            return swap(old, new)

        return swapping

    bank.store.swap = late(lambda: bank.desk.approve(name, CAROL))  # type: ignore[method-assign]
    assert bank.desk.approve(name, BOB).status is Status.APPROVED
    other = bank.asked("1", 6)
    bank.store.swap = late(lambda: bank.desk.reject(other, CAROL))  # type: ignore[method-assign]
    assert bank.refused(bank.desk.approve, other, BOB) is Reason.CLOSED
    third = bank.asked("1", 7)
    bank.store.swap = lambda _old, _new: False  # type: ignore[method-assign]
    assert bank.refused(bank.desk.approve, third, BOB) is Reason.CLOSED


@pytest.mark.parametrize("comment", ["x" * 4097, "\ud800", 7, b"fine"], ids=["long", "half", "number", "bytes"])
def test_a_comment_is_text(comment: Any) -> None:
    """What could not be stored, or would fill the store, is refused before anything happens."""
    bank = Bank()
    name = bank.asked()
    with pytest.raises(ObligationError, match="a comment on an approval"):
        bank.desk.approve(name, BOB, comment=comment)
    assert bank.desk.approve(name, BOB, comment="x" * 4096).status is Status.APPROVED


@pytest.mark.parametrize("name", ["\ud800", "", "\x00", "'", 7, None], ids=ascii)
def test_an_id_may_be_made_up(name: Any, tmp_path: Any) -> None:
    """Whatever is brought as an id, there is no such approval."""
    for store in (lambda clock: MemoryStore(clock=clock), lambda _clock: SQLiteStore(tmp_path / "a.db", secret=SECRET)):
        bank = Bank(store=store)
        assert bank.refused(bank.desk.approve, name, BOB) is Reason.UNKNOWN
        assert bank.desk.show(name) is None
        if name and isinstance(name, str):
            assert why(bank.transfer("1", 5, brings=name)) is Reason.UNKNOWN


def test_a_store_tells_its_time_as_a_number() -> None:
    """Nothing is in force at no time."""
    bank = Bank()
    name = bank.asked()
    bank.store.now = lambda: None  # type: ignore[method-assign,return-value,assignment]
    with pytest.raises(ObligationError, match="tells its time"):
        bank.desk.approve(name, BOB)


def test_every_act_has_an_asynchronous_half(tmp_path: Any) -> None:
    """The same plans, awaited; what blocks is done on a thread."""
    bank = Bank(store=lambda clock: SQLiteStore(tmp_path / "a.db", secret=SECRET, clock=clock), world="async")

    async def authenticate(token: Any) -> Any:
        await asyncio.sleep(0)
        return token

    desk = bank.new_desk(authenticate=authenticate)
    name, other = bank.asked(), bank.asked("1", 6)

    async def answers() -> None:
        assert {one.id for one in await desk.alist()} == {name, other}
        assert (await desk.aapprove(name, BOB)).status is Status.APPROVED
        assert (await desk.areject(other, BOB)).status is Status.REJECTED
        one = await desk.ashow(name)
        assert one is not None
        assert one.status is Status.APPROVED
        assert await desk.ashow("unknown") is None
        with pytest.raises(ApprovalRefused):
            await desk.aapprove(other, BOB)

    asyncio.run(answers())
    assert bank.transfer("1", 5, brings=name) == 5
    assert repr(desk).startswith("<Desk over SQLiteStore(")


def test_a_desk_may_write_an_enforcers_journal() -> None:
    """What is recorded is told as that enforcer's."""
    sink = MemorySink()
    store, clock = MemoryStore(), FakeClock()
    asked(store, draft(store), store.now(), 9)
    Desk(store, authenticate=lambda one: one, audit=Journal(sink, clock, "billing")).approve("a", BOB)
    assert sink.records[-1]["enforcer"] == "billing"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Desk(object(), authenticate=lambda one: one, audit=MemorySink()),  # type: ignore[arg-type]
        lambda: Desk(MemoryStore, authenticate=lambda one: one, audit=MemorySink()),  # type: ignore[arg-type]
        lambda: Desk(MemoryStore(), authenticate=None, audit=MemorySink()),  # type: ignore[arg-type]
    ],
)
def test_what_a_desk_is_made_of_is_checked(make: Callable[[], Desk]) -> None:
    """There is no desk without a store, nor one that believes everybody."""
    with pytest.raises(ConfigurationError, match="a desk needs"):
        make()


def test_a_refusal_pickles() -> None:
    """As every error does; and says why."""
    for reason in Reason:
        refused = ApprovalRefused(reason)
        again = pickle.loads(pickle.dumps(refused))  # noqa: S301  its own
        assert (again.reason, str(again)) == (reason, str(refused))


def test_an_approval_is_what_was_written() -> None:
    """Every field of it survives being stored."""
    store = MemoryStore()
    answer = Answer((BOB.reference(), DAVE), store.now(), (0,), "fine")
    one = draft(store).approved_by(answer).rejected_by(attrs.evolve(answer, comment=None)).used_for("d", store.now())
    assert store.seal.open(store.seal.close(one)) == one
    assert one.requesters == {Subject("user", "ann")}
    assert (one.version, one.lacking) == (3, (0,))
    assert "bob" in repr(one)
