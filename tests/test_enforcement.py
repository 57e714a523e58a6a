"""The plan: both tables of the design's section on settlement, row by row, in both worlds."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import Any, Final

import attrs
import pytest

from pep import (
    AccessDenied,
    Decision,
    Effect,
    FailStale,
    Fault,
    Guarantee,
    Outcome,
    Profile,
    Resource,
    Subject,
    Verdict,
    acting_as,
)
from pep.audit import Kind
from pep.enforcement import denial
from pep.errors import (
    ConfirmationRequired,
    DecisionUnavailable,
    NotVisible,
    ObligationError,
    PDPOverloaded,
    PDPRejected,
    PDPReplyError,
    PDPTimeout,
    PDPUnavailable,
    RateLimited,
    StepUpRequired,
)
from pep.plan import call
from pep.testing import FailingSink, FakeProvider
from tests.scenes import (
    ALICE,
    DENY,
    DOCUMENT,
    OPEN,
    PERMIT,
    SHADOW,
    WORLDS,
    Scene,
    Strong,
    Suspended,
    handlers,
    owing,
    raising,
    worlds,
)

# --- the first table ---------------------------------------------------------------------------


@attrs.frozen
class Row:
    """One row: what the decision point said, and what comes of it."""

    said: Any
    told: tuple[str, str | None]
    error: type[AccessDenied] | None = None
    statuses: tuple[str, ...] = ()


FIRST_TABLE: Final = {
    "a permit": Row(True, ("returned", None)),
    "a permit whose obligations are discharged": Row(
        owing(PERMIT, "log", "count", "redact"), ("returned", None), None, ("discharged",) * 3
    ),
    "authentication too weak": Row(owing(PERMIT, "step up"), ("step_up_required", None), StepUpRequired, ("failed",)),
    "a limit reached": Row(owing(PERMIT, "limit"), ("rate_limited", None), RateLimited, ("failed",)),
    "a confirmation missing": Row(
        owing(PERMIT, "confirm"), ("confirmation_required", None), ConfirmationRequired, ("failed",)
    ),
    "too weak prevails over a limit and a confirmation": Row(
        owing(PERMIT, "confirm", "limit", "step up"),
        ("step_up_required", None),
        StepUpRequired,
        ("not_reached", "not_reached", "failed"),
    ),
    "a limit prevails over a confirmation": Row(
        owing(PERMIT, "confirm", "limit"), ("rate_limited", None), RateLimited, ("not_reached", "failed")
    ),
    "an unknown obligation": Row(
        owing(PERMIT, "unheard", "log", "count"),
        ("denied", "obligation"),
        AccessDenied,
        ("unsupported", "discharged", "not_reached"),
    ),
    "an obligation that fails prevails over what is missing": Row(
        owing(PERMIT, "break", "step up", "log"),
        ("denied", "obligation"),
        AccessDenied,
        ("failed", "failed", "discharged"),
    ),
    "an obligation whose handler forgets the call": Row(
        owing(PERMIT, "forget"), ("denied", "obligation"), AccessDenied, ("failed",)
    ),
    "a denial": Row(False, ("denied", None), AccessDenied),
    "a denial whose obligations run, failing or not": Row(
        owing(DENY, "log", "break", "unheard", "count"),
        ("denied", None),
        AccessDenied,
        ("discharged", "failed", "unsupported", "unsupported"),
    ),
    "not applicable": Row(owing(Effect.NOT_APPLICABLE, "log"), ("denied", None), AccessDenied, ("discharged",)),
    "indeterminate": Row(Decision(Effect.INDETERMINATE), ("unavailable", None), DecisionUnavailable),
    **{
        f"a fault: {fault}": Row(raising(error), ("unavailable", fault), DecisionUnavailable)
        for fault, error in {
            "timeout": PDPTimeout(),
            "unreachable": PDPUnavailable(),
            "overloaded": PDPOverloaded(),
            "rejected": PDPRejected(),
            "malformed": PDPReplyError(),
            "internal": StopIteration(),
        }.items()
    },
    **{
        f"an answer that is none: {type(answer).__name__} {answer!r:.20}": Row(
            lambda _request, answer=answer: answer, ("unavailable", "malformed"), DecisionUnavailable
        )
        for answer in (None, 1, "true", [True], {"decision": True}, Effect.PERMIT, object)
    },
}


@worlds
@pytest.mark.parametrize("row", FIRST_TABLE.values(), ids=FIRST_TABLE.keys())
def test_the_first_table(world: str, row: Row) -> None:
    """What the decision point says, with its obligations or the fault, settles as the table has it."""
    scene = Scene(world, row.said, obligations=handlers())
    ended = scene.edit()
    assert ended.told == row.told
    assert (type(ended.denial) if ended.denial else None) is row.error
    assert len(scene.ran) == (row.told[0] == "returned")
    record = scene.of(Kind.DECISION)[0]
    assert tuple(line["status"] for line in scene.last.get("obligations", ())) == row.statuses
    assert (record["outcome"], record.get("fault")) == (
        "permitted" if row.error is None else row.told[0],
        row.told[1],
    )


@worlds
@pytest.mark.parametrize("said", [None, "nobody", Subject], ids=["nobody", "a stranger", "a class"])
def test_without_a_subject_it_is_an_extraction_fault(world: str, said: Any) -> None:
    """No subject, or the call cannot be turned into a request: DENIED, and nobody is asked."""
    scene = Scene(world, profile=OPEN)
    ended = scene.edit(subject=said)
    assert ended.told == ("denied", "extraction")
    assert (scene.asked, scene.ran, scene.kinds) == ([], [], ["decision"])


@worlds
@pytest.mark.parametrize("broken", [None, [], 7, iter([DOCUMENT]), "?"], ids=["None", "none", "int", "once", "str"])
def test_what_is_no_resource_is_an_extraction_fault(world: str, broken: Any) -> None:
    """A call that names no resource is denied, whatever the failure mode."""
    scene = Scene(world, profile=OPEN, resource=lambda title: broken)
    assert scene.edit().told == ("denied", "extraction")
    assert (scene.asked, scene.ran) == ([], [])


FAULTS: Final = MappingProxyType(
    {
        Fault.TIMEOUT: PDPTimeout(),
        Fault.UNREACHABLE: PDPUnavailable(),
        Fault.OVERLOADED: PDPOverloaded(),
        Fault.REJECTED: PDPRejected(),
        Fault.MALFORMED: PDPReplyError(),
        Fault.INTERNAL: ValueError(),
    }
)


@worlds
@pytest.mark.parametrize("fault", FAULTS, ids=str)
@pytest.mark.parametrize("kind", ["closed", "open", "stale"])
def test_faults_by_failure_mode(world: str, fault: Fault, kind: str) -> None:
    """Only faults of availability are excused, and only by a mode that names them."""
    answers: list[Any] = [True]
    profile = {"closed": Profile(permit_ttl=0), "open": OPEN, "stale": Profile(on_failure=FailStale(60), permit_ttl=0)}
    scene = Scene(
        world, lambda _request: answers.pop() if answers else raising(FAULTS[fault])(None), profile=profile[kind]
    )
    assert scene.edit().told == ("returned", None)
    excused = fault in {Fault.TIMEOUT, Fault.UNREACHABLE, Fault.OVERLOADED} and kind != "closed"
    assert scene.edit().told == (("returned", None) if excused else ("unavailable", fault.value))
    outcome = {"open": "failed_open", "stale": "permitted"}[kind] if excused else "unavailable"
    assert (scene.last["outcome"], scene.last["fault"]) == (outcome, fault.value)
    assert scene.last.get("stale") == (True if excused and kind == "stale" else None)


# --- the rest of the table -----------------------------------------------------------------------


@worlds
@pytest.mark.parametrize("duty", ["break after", "refuse after"])
def test_an_after_obligation_that_fails_withholds_the_result(world: str, duty: str) -> None:
    """DENIED with `ran=True`: the effects stand, the result does not leave."""
    scene = Scene(world, owing(PERMIT, duty), obligations=handlers())
    ended = scene.edit()
    assert ended.told == ("denied", "obligation")
    assert ended.denial is not None
    assert ended.denial.ran
    assert (scene.ran, scene.kinds) == (["new"], ["decision", "outcome withheld"])
    assert scene.last["ran"] is True


@worlds
def test_an_after_obligation_changes_the_result(world: str) -> None:
    """What leaves is what the obligations made of it, on record as completed."""
    scene = Scene(world, owing(PERMIT, "redact"), obligations=handlers())
    assert scene.edit().result == "redacted"
    assert scene.kinds == ["decision", "outcome completed"]


@worlds
def test_code_that_raises_leaves_its_obligations_unreached(world: str) -> None:
    """What the code raises propagates as it is."""
    error = LookupError("mine")
    scene = Scene(world, owing(PERMIT, "redact"), obligations=handlers(), body=raising(error))
    with pytest.raises(LookupError) as caught:
        scene.edit()
    assert caught.value is error
    assert scene.kinds == ["decision", "outcome raised"]
    assert scene.last["error"] == "LookupError"
    assert scene.last["obligations"] == [{"type": "redact", "status": "not_reached"}]


CHECKS: Final = MappingProxyType(
    {
        "permit": (True, Profile(), ("permitted", None)),
        "denial": (False, SHADOW, ("denied", None)),
        "outage": (raising(ConnectionError()), OPEN, ("unavailable", "unreachable")),
        "unknown obligation": (owing(PERMIT, "unheard"), Profile(), ("denied", "obligation")),
        "known obligation": (owing(PERMIT, "count", "redact"), Profile(), ("permitted", None)),
    }
)


@worlds
@pytest.mark.parametrize(("said", "profile", "told"), CHECKS.values(), ids=CHECKS.keys())
def test_a_check_tells_the_real_outcome(world: str, said: Any, profile: Profile, told: tuple[str, str | None]) -> None:
    """A check opens, shadows and consumes nothing; it assesses obligations, and is recorded as a check."""
    known = handlers()
    scene = Scene(world, said, profile=profile, obligations=known)
    verdict = scene.do("check", "edit", DOCUMENT)
    assert (verdict.outcome.value, verdict.fault and verdict.fault.value) == told
    assert scene.last.kind is Kind.CHECK
    assert all(handler.discharged == [] for handler in known)


@worlds
def test_a_check_that_cannot_be_recorded_is_counted(world: str) -> None:
    """A check is no permit: its verdict stands, and the loss is counted."""
    scene = Scene(world, sink=FailingSink(1))
    assert scene.do("check", "edit", DOCUMENT).outcome is Outcome.PERMITTED
    assert scene.enforcer.stats()["unrecorded"] == 1


@worlds
def test_a_denial_whose_record_fails_stays_a_denial(world: str) -> None:
    """A denial is counted, never turned into something else."""
    scene = Scene(world, False, sink=FailingSink(1))
    assert scene.edit().told == ("denied", None)
    assert scene.enforcer.stats()["unrecorded"] == 1


@worlds
def test_a_permit_that_cannot_be_recorded_is_refused(world: str) -> None:
    """Protected code never runs without a recorded permit."""
    scene = Scene(world, sink=FailingSink(1))
    ended = scene.edit()
    assert ended.told == ("unavailable", "audit")
    assert ended.denial is not None
    assert isinstance(ended.denial.__cause__, OSError)
    assert scene.ran == []


@worlds
def test_a_lost_outcome_closes_what_comes_next(world: str) -> None:
    """The result is returned and the loss counted; until a gap record is written, nothing more is permitted."""
    sink = FailingSink(2, once=False)
    scene = Scene(world, profile=Profile(audit=Guarantee.DURABLE), sink=sink)
    assert scene.edit().told == ("returned", None)
    assert scene.enforcer.stats()["lost"] == 1
    assert scene.edit().told == ("unavailable", "audit")
    sink._at = None
    assert scene.edit().told == ("returned", None)
    assert [record.kind.value for record in sink.records] == ["decision", "gap", "decision", "outcome"]
    assert sink.records[1]["lost"] == 1
    assert scene.ran == ["new", "new"]


@worlds
def test_an_acknowledgement_that_comes_too_late_is_taken_back(world: str) -> None:
    """A permit whose record was taken after the deadline does not run, and the next record says so."""

    class Slow(Strong):
        def record(self, record: Any) -> None:
            super().record(record)
            if len(self.records) == 1:
                scene.clock.advance(5)

    scene = Scene(world, sink=Slow())
    assert scene.edit().told == ("unavailable", "audit")
    assert scene.ran == []
    assert scene.edit().told == ("returned", None)
    assert scene.kinds == ["decision", "outcome withheld", "decision"]
    assert scene.sink.records[1]["decision"] == scene.sink.records[0].id


@worlds
def test_a_permit_that_comes_too_late_to_be_recorded_is_refused(world: str) -> None:
    """A deadline is total, for what is known already too; the record says timeout."""
    slow = [0.0, 5.0]
    scene = Scene(
        world, profile=Profile(permit_ttl=60), resource=lambda title: scene.clock.advance(slow.pop(0)) or DOCUMENT
    )
    assert scene.edit().told == ("returned", None)
    assert scene.edit().told == ("unavailable", "timeout")
    assert (scene.ran, scene.last["outcome"], scene.last["fault"]) == (["new"], "unavailable", "timeout")


@worlds
def test_a_late_denial_is_still_recorded(world: str) -> None:
    """Who was denied for want of time finds that on record."""
    scene = Scene(world, lambda _request: scene.clock.advance(5))
    assert scene.edit().told == ("unavailable", "timeout")
    assert scene.last["fault"] == "timeout"


@worlds
def test_what_is_due_before_a_permit_may_use_the_time_up(world: str) -> None:
    """A gap record that takes until the deadline leaves no time for the permit, which is refused."""

    class Slow(Strong):
        def record(self, record: Any) -> None:
            super().record(record)
            scene.clock.advance(0.9)
            scene.clock.advance(0.2 if record.kind is Kind.GAP else 0)

    scene = Scene(world, sink=Slow())
    scene.core.wiring().journal.owe()
    assert scene.edit().told == ("unavailable", "audit")
    assert (scene.ran, scene.kinds) == ([], ["gap"])


# --- nesting, on_denied ----------------------------------------------------------------------------


def test_a_nested_call_has_a_decision_of_its_own() -> None:
    """No inherited grant: the inner call is asked about, and recorded, for itself."""
    scene = Scene("sync", lambda request: request.resource.id == "1")

    @scene.enforcer.guard("read", resource=Resource("document", "2"))
    def inner() -> None:
        scene.ran.append("inner")

    @scene.enforcer.guard("edit", resource=DOCUMENT)
    def outer() -> None:
        inner()

    assert scene.acting(outer).told == ("denied", None)
    assert (scene.kinds, scene.ran) == (["decision", "decision", "outcome raised"], [])


@worlds
def test_calls_nest_eight_deep(world: str) -> None:
    """The ninth call within another is refused, whatever its profile."""
    scene = Scene(world, profiles={"document:**": SHADOW})
    seen: list[int] = []

    @scene.enforcer.guard("edit", resource=DOCUMENT)
    def sync_nested(depth: int) -> None:
        seen.append(depth)
        sync_nested(depth + 1)

    @scene.enforcer.guard("edit", resource=DOCUMENT)
    async def async_nested(depth: int) -> None:
        seen.append(depth)
        await async_nested(depth + 1)

    ended = scene.acting(lambda: (sync_nested if world == "sync" else async_nested)(1))
    assert ended.told == ("unavailable", "internal")
    assert seen == [1, 2, 3, 4, 5, 6, 7, 8]


HANDED: Final = MappingProxyType(
    {
        "a denial": (False, "instead"),
        "nobody": (False, "instead"),
        "an outage": (raising(ConnectionError()), None),
        "a demand": (owing(PERMIT, "step up"), None),
        "a permit": (True, "new"),
    }
)


@worlds
@pytest.mark.parametrize(("said", "result"), HANDED.values(), ids=HANDED.keys())
def test_on_denied_is_asked_about_denials_only(world: str, said: Any, result: Any) -> None:
    """Another result is given for this call's own DENIED, not for an outage or a demand."""
    seen: list[AccessDenied] = []

    def instead(denied: AccessDenied) -> Any:
        seen.append(denied)
        return "instead" if world == "sync" else Suspended("instead")

    scene = Scene(world, said, obligations=handlers(), on_denied=instead)
    ended = scene.edit()
    assert ended.result == result
    assert len(seen) == (result == "instead")


@worlds
def test_an_on_denied_that_raises_leaves_the_denial(world: str) -> None:
    """A handler that fails does not change the answer."""
    scene = Scene(world, False, on_denied=raising(KeyError()))
    assert scene.edit().told == ("denied", None)


def test_on_denied_never_sees_a_nested_denial() -> None:
    """A denial raised by the code itself is the code's own business."""
    scene = Scene("sync", lambda request: request.resource.id == "1", on_denied=lambda _denied: "instead")

    @scene.enforcer.guard("read", resource=Resource("document", "2"))
    def inner() -> None:
        scene.ran.append("inner")

    scene._body = lambda _title: inner()
    assert scene.edit().told == ("denied", None)


def test_on_denied_may_give_a_generator() -> None:
    """What it gives is a result, not a plan to run."""
    scene = Scene("sync", False, on_denied=lambda _denied: (letter for letter in "ab"))
    assert list(scene.edit().result) == ["a", "b"]


# --- the last check ---------------------------------------------------------------------------------


@worlds
def test_a_permit_revoked_before_it_takes_effect_is_asked_for_again(world: str) -> None:
    """Revoked between record and code: withheld on record, asked again once, and then it stands."""

    class Revoking(Strong):
        def record(self, record: Any) -> None:
            super().record(record)
            if len(self.records) == 1:
                scene.core.wiring().generations.revoke_all()

    scene = Scene(world, sink=Revoking())
    assert scene.edit().told == ("returned", None)
    assert scene.kinds == ["decision", "outcome withheld", "decision"]
    assert (len(scene.asked), scene.ran) == (2, ["new"])
    first, withheld, second = scene.sink.records
    assert (withheld["decision"], withheld["ran"]) == (first.id, False)
    assert second.id != first.id


@worlds
def test_a_permit_revoked_twice_is_refused(world: str) -> None:
    """Failing the last check again, it is REVOKED."""

    class Revoking(Strong):
        def record(self, record: Any) -> None:
            super().record(record)
            scene.core.wiring().generations.revoke_all()

    scene = Scene(world, sink=Revoking())
    assert scene.edit().told == ("unavailable", "revoked")
    assert scene.kinds == ["decision", "outcome withheld"] * 2
    assert scene.ran == []


@worlds
def test_the_second_question_reads_the_time_anew(world: str) -> None:
    """An entry that expired meanwhile is no answer to a question asked again."""

    class Revoking(Strong):
        def record(self, record: Any) -> None:
            super().record(record)
            if len(self.records) == 1:
                scene.core.wiring().generations.revoke(("subject", "user"))
                scene.clock.advance(0.2)

    scene = Scene(world, sink=Revoking(), profile=Profile(permit_ttl=60))
    assert scene.edit().told == ("returned", None)
    scene.clock.advance(59.9)
    scene.edit()
    assert len(scene.asked) == 2
    scene.clock.advance(0.2)
    scene.edit()
    assert len(scene.asked) == 3


def test_what_changed_while_the_world_went_on_is_not_run() -> None:
    """A request that is another one before dispatch is refused: nobody decided about it."""
    named = ["1"]

    async def answer() -> bool:
        await asyncio.sleep(0)
        named[0] = "2"
        return True

    scene = Scene("async", lambda _request: answer(), resource=lambda title: Resource("document", named[0]))
    assert scene.edit().told == ("denied", "extraction")
    assert (scene.kinds, scene.ran) == (["decision", "outcome withheld"], [])


def test_a_scope_that_closed_meanwhile_is_noticed() -> None:
    """Who acted when it was decided no longer does: nothing runs."""
    gate = asyncio.Event

    async def main() -> Any:
        opened = gate()

        async def answer() -> bool:
            await opened.wait()
            return True

        scene = Scene("async", lambda _request: answer())
        with acting_as(ALICE):
            task = asyncio.create_task(scene._async())
            await asyncio.sleep(0)
        opened.set()
        with pytest.raises(AccessDenied) as caught:
            await task
        return caught.value.fault, scene.ran

    assert asyncio.run(main()) == (Fault.EXTRACTION, [])


# --- actors, providers, hiding ------------------------------------------------------------------------


@worlds
def test_every_actor_is_asked_too(world: str) -> None:
    """Who acts for somebody needs the permission as well."""
    agent = Subject("agent", "bot")
    scene = Scene(world, lambda request: request.subject == ALICE)
    assert scene.edit(via=[agent]).told == ("denied", None)
    assert scene.last["subject"]["id"] == "bot"
    assert [entry["effect"] for entry in scene.last["requests"]] == ["permit", "deny"]


@worlds
def test_what_was_provided_is_on_record(world: str) -> None:
    """What is trusted and what the caller claims can be told apart."""
    scene = Scene(world, attributes=[FakeProvider({"subject.roles": ["a"]}), FakeProvider({"resource.owner": "b"})])
    assert scene.edit(subject=Subject("user", "alice", {"roles": ["claimed"], "age": 3})).told == ("returned", None)
    assert scene.last["provided"] == ["resource.owner", "subject.roles"]
    assert scene.asked[0].subject.properties == {"age": 3, "roles": ("a",)}


@worlds
def test_a_provider_that_fails_closes(world: str) -> None:
    """ATTRIBUTES, never excused; nobody is asked."""
    scene = Scene(world, profile=OPEN, attributes=[FakeProvider({"subject.roles": []}, raises=ConnectionError())])
    assert scene.edit().told == ("unavailable", "attributes")
    assert scene.asked == []


@worlds
@pytest.mark.parametrize("resource", [DOCUMENT, lambda title: None, lambda title: DOCUMENT], ids=["is", "gone", "made"])
@pytest.mark.parametrize("said", [False, raising(ConnectionError())], ids=["denied", "outage"])
def test_a_hidden_resource_is_denied_like_an_absent_one(world: str, resource: Any, said: Any) -> None:
    """Whether it exists cannot be told from the denial: same class, no cause."""
    scene = Scene(world, said, profile=Profile(hidden=True), resource=resource)
    denied = scene.edit().denial
    assert type(denied) is NotVisible
    assert denied.__cause__ is None
    assert denied.__suppress_context__


def test_an_allowed_verdict_is_no_denial() -> None:
    """Asking for the exception of a permit is a mistake of ours."""
    with pytest.raises(TypeError, match="is no denial"):
        denial(Verdict("1", Outcome.PERMITTED))


@worlds
def test_stacked_guards_are_one_enforcement(world: str) -> None:
    """One batch, one record; no obligation runs and nothing is permitted unless all permit."""
    known = handlers()
    scene = Scene(world, lambda request: request.action.name == "edit" and owing(PERMIT, "log"), obligations=known)
    fn = scene.edit_of(world)
    for action in ("edit", "publish"):
        fn = scene.enforcer.guard(action, resource=DOCUMENT)(fn)
    assert scene.acting(fn).told == ("denied", None)
    assert scene.kinds == ["decision"]
    assert [entry["action"] for entry in scene.last["requests"]] == ["publish", "edit"]
    assert all(handler.discharged == [] for handler in known)


@worlds
def test_a_durable_call_always_tells_its_outcome(world: str) -> None:
    """With the strongest guarantee each outcome is recorded, without it only what went another way."""
    assert Scene(world, profile=Profile(audit=Guarantee.DURABLE)).edit().told == ("returned", None)
    durable, plain = Scene(world, profile=Profile(audit=Guarantee.DURABLE)), Scene(world)
    durable.edit(), plain.edit()
    assert (durable.kinds, plain.kinds) == (["decision", "outcome completed"], ["decision"])


def test_a_user_plan_may_be_a_decision_point() -> None:
    """A decision point written as a plan is driven in either world; a step that is none is malformed."""

    def planned(_request: Any) -> Any:
        return (yield from call(lambda: True))

    def careless(_request: Any) -> Any:
        yield "no step"
        return True

    def failing(_request: Any) -> Any:
        yield from call(raising(ConnectionError()), None)

    for world in WORLDS:
        assert Scene(world, planned).edit().told == ("returned", None)
        assert Scene(world, careless).edit().told == ("unavailable", "malformed")
        assert Scene(world, failing).edit().told == ("unavailable", "unreachable")


def test_an_obligation_error_is_chained() -> None:
    """What an obligation raised is found from the denial."""
    scene = Scene("sync", owing(PERMIT, "forget"), obligations=handlers())
    denied = scene.edit().denial
    assert denied is not None
    assert isinstance(denied.__cause__, ObligationError)
