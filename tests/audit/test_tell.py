from __future__ import annotations

from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from pep.ask import Answer
from pep.audit.masking import Masking
from pep.audit.record import masked
from pep.audit.tell import asked_fields, batch_ids, decision_told, outcome_fields, verdict_fields
from pep.extract import Constant, Requirement
from pep.fault import Fault
from pep.model import AccessRequest, Action, Decision, Effect, Obligation, Resource, Subject
from pep.plain import APPLICATION, Prepared, need
from pep.profile import Canary, Profile, Shadow
from pep.scope import NOBODY, Frame, Scope
from pep.verdict import Discharge, Outcome, Status, Verdict

ALICE, BOB = Subject("user", "alice", {"a": "canary"}), Subject("user", "bob")
THING, OTHER = Resource("document", "1", {"b": "canary"}), Resource.new("document")
ONE, TWO = AccessRequest(ALICE, "read", THING, {"c": "canary"}), AccessRequest(ALICE, "read", OTHER)
ACTING = Frame(Scope(ALICE))
WIRING: Any = SimpleNamespace(pdp_name="policies", masking=Masking())
BASE = {"action": "read", "resource": {"type": "document"}}
TOLD_ALICE = {"type": "user", "id": "alice", "omitted": ["a"]}


def answer(request: AccessRequest, **changes: Any) -> Answer:
    return attrs.evolve(Answer(request, Profile(), 0, 0.0), **changes)


def known(fields: dict[str, Any]) -> dict[str, Any]:
    return dict(masked(fields))


@pytest.mark.parametrize(
    ("need", "frame", "expected"),
    [
        (need("app", "read", THING), ACTING, {**BASE, "subject": TOLD_ALICE}),
        (need("app", "read", THING), NOBODY, BASE),
        (need("app", "read", THING), Frame(Scope(ALICE, is_open=False)), BASE),
        (need("app", "read", THING), Frame(Scope(object())), BASE),
        (need("app", "read", object()), NOBODY, {"action": "read"}),
        (need("app", "", THING), NOBODY, {"action": "?"}),
        (need("app", "read", APPLICATION), NOBODY, {"action": "read", "resource": {"type": "application"}}),
        (need("app", "read", THING, subject=BOB), ACTING, {**BASE, "subject": {"type": "user", "id": "bob"}}),
        (need("app", "read", THING, subject="bob"), ACTING, BASE),
        (Prepared(ONE.evolve(subject=BOB)), ACTING, {**BASE, "subject": {"type": "user", "id": "bob"}}),
    ],
)
def test_what_is_known_of_a_call_that_was_not_understood(need: Any, frame: Frame, expected: dict[str, Any]) -> None:
    """The record of a call without a request tells what is certain, and never names who acts for who was named."""
    assert asked_fields([need], frame) == expected


def test_a_subject_from_the_call_is_not_guessed() -> None:
    """Where the subject was to be read from the call, whoever acts here is not named instead."""
    source: Any = SimpleNamespace(read=None)
    made = Requirement(Action("read"), Constant(THING, "document"), subject=source)
    assert asked_fields([made], ACTING) == BASE


def test_a_verdict_tells_what_it_rests_on() -> None:
    """Outcome, decision, request, obligations and how it was had are told; what is not there is left out."""
    decision = Decision(Effect.PERMIT, reasons=["why"], policies=["p"], revision="r")
    chief = answer(ONE, decision=decision, cached=True, age=1.5, provided=("subject.a",))
    ledger = (Discharge(Obligation("log", {"x": "canary"}), Status.DISCHARGED),)
    verdict = Verdict("v", Outcome.PERMITTED, ONE, decision, obligations=ledger, cached=True)
    told = known(verdict_fields(WIRING, verdict, [chief]))
    assert told == {
        "subject": {"type": "user", "id": "alice", "omitted": ("a",)},
        "action": "read",
        "resource": {"type": "document", "id": "1", "omitted": ("b",)},
        "context_omitted": ("c",),
        "effect": "permit",
        "policies": ("p",),
        "reasons": ("why",),
        "revision": "r",
        "cached": True,
        "age": 1.5,
        "provided": ("subject.a",),
        "outcome": "permitted",
        "allowed": True,
        "obligations": ({"type": "log", "status": "discharged"},),
        "pdp": "policies",
    }
    assert "canary" not in repr(told)


def test_a_decision_tells_the_call_and_the_verdict() -> None:
    """What is known of the call comes first; the verdict knows better."""
    told = decision_told({"entry": "guard", "action": "?"}, WIRING, Verdict("v", Outcome.PERMITTED, ONE), [])
    assert (next(iter(told)), told["action"], told["outcome"]) == ("entry", "read", "permitted")


def test_a_verdict_tells_what_went_wrong() -> None:
    """A fault is told with the kind of its cause, never with the cause's text; a shadow with what would have been."""
    verdict = Verdict(
        "v", Outcome.SHADOWED, fault=Fault.TIMEOUT, cause=OSError("canary"), would=Outcome.UNAVAILABLE, ran=True
    )
    assert known(verdict_fields(WIRING, verdict, [])) == {
        "outcome": "shadowed",
        "allowed": True,
        "would": "unavailable",
        "fault": "timeout",
        "cause": "OSError",
        "ran": True,
        "mode": "shadow",
        "pdp": "policies",
    }


def test_a_bridged_outage_is_told() -> None:
    """A stale decision is told with the fault it bridged and its age."""
    decision = Decision(Effect.PERMIT)
    stale = answer(ONE, decision=decision, fault=Fault.TIMEOUT, cached=True, age=30.0)
    told = known(verdict_fields(WIRING, Verdict("v", Outcome.PERMITTED, ONE, decision, Fault.TIMEOUT), [stale]))
    assert (told["stale"], told["failure_mode"], told["age"], told["fault"]) == (True, "stale", 30.0, "timeout")


def test_an_opened_call_is_told() -> None:
    """What a failure mode opened says so, beside the fault it excused."""
    told = verdict_fields(WIRING, Verdict("v", Outcome.FAILED_OPEN, ONE, fault=Fault.TIMEOUT), [answer(ONE)])
    assert (told["failure_mode"], told["fault"], told["outcome"]) == ("open", "timeout", "failed_open")


LATER = datetime(2040, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("mode", "told"), [(Shadow(until=LATER, reason="r"), "shadow"), (Canary(0.5, until=LATER, reason="r"), "canary")]
)
def test_the_mode_that_did_not_enforce_is_told(mode: Any, told: str) -> None:
    """A record says by which mode a call was not enforced, in all and in each of several requests."""
    shadowed = answer(ONE, profile=Profile(mode=mode), shadowed=True, decision=Decision(Effect.DENY))
    verdict = Verdict("v", Outcome.SHADOWED, ONE, would=Outcome.DENIED)
    fields = verdict_fields(WIRING, verdict, [shadowed, answer(TWO, decision=Decision(Effect.PERMIT))])
    assert (fields["mode"], fields["would"], [one.get("mode") for one in fields["requests"]]) == (
        told,
        "denied",
        [told, None],
    )


def test_the_query_is_told_where_the_profile_asks() -> None:
    """The whole question, masked by the same list, is in the record, and in each of several requests."""
    wiring: Any = SimpleNamespace(pdp_name="policies", masking=Masking(as_is={"context": ["c"]}))
    asking: Any = SimpleNamespace(record_query=True, mode=None)
    answers = [answer(ONE, profile=asking), answer(TWO)]
    told = verdict_fields(wiring, Verdict("v", Outcome.DENIED, ONE), answers)
    assert told["query"] == {
        "subject": TOLD_ALICE,
        "action": {"name": "read"},
        "resource": {"type": "document", "id": "1", "omitted": ["b"]},
        "context": {"c": "canary"},
    }
    assert [one.get("query") for one in told["requests"]] == [told["query"], None]
    assert "query" not in verdict_fields(wiring, Verdict("v", Outcome.DENIED, TWO), answers)


def test_the_allow_list_holds_for_every_record() -> None:
    """What is known of a call, a verdict and an outcome are masked by one list."""
    masking = Masking(as_is={"subject:user": ["a"]})
    wiring: Any = SimpleNamespace(pdp_name="policies", masking=masking)
    verdict = Verdict("v", Outcome.PERMITTED, ONE)
    shown = {"type": "user", "id": "alice", "properties": {"a": "canary"}}
    assert verdict_fields(wiring, verdict, [])["subject"] == shown
    assert outcome_fields(verdict, "raised", ran=True, error=None, masking=masking)["subject"] == shown
    assert asked_fields([need("app", "read", THING)], ACTING, masking)["subject"] == shown


def test_classes_are_named_without_being_asked() -> None:
    """The class of what was raised is told by its real name, whatever its metaclass says."""

    class Lying(type):
        @property
        def __name__(cls) -> str:  # type: ignore[override]
            raise ValueError

    class Plain(Exception, metaclass=Lying):  # noqa: N818  a name to be told
        pass

    verdict = Verdict("v", Outcome.UNAVAILABLE, fault=Fault.INTERNAL, cause=Plain())
    assert verdict_fields(WIRING, verdict, [])["cause"] == "Plain"
    assert outcome_fields(verdict, "raised", ran=True, error=Plain())["error"] == "Plain"


def test_requests_decided_together_are_all_told() -> None:
    """Several requests are listed, each with its own answer; one alone is the record itself."""
    decision = Decision(Effect.DENY)
    answers = [answer(ONE, decision=decision), answer(TWO, fault=Fault.TIMEOUT)]
    told = verdict_fields(WIRING, Verdict("v", Outcome.DENIED, ONE, decision), answers)
    assert [(one["resource"].get("id"), one.get("effect"), one.get("fault")) for one in told["requests"]] == [
        ("1", "deny", None),
        (None, None, "timeout"),
    ]
    assert verdict_fields(WIRING, Verdict("v", Outcome.DENIED, ONE, decision), answers[:1]).get("requests") is None


@pytest.mark.parametrize(("request_", "error"), [(ONE, ValueError("canary")), (None, None)])
def test_an_outcome_tells_how_it_ended(request_: AccessRequest | None, error: BaseException | None) -> None:
    """How a permit ended is told with the decision's id, and the kind of what was raised, never its text."""
    verdict = Verdict("v", Outcome.PERMITTED, request_, obligations=(Discharge(Obligation("log"), Status.NOT_REACHED),))
    told = known(outcome_fields(verdict, "raised", ran=True, error=error))
    assert (told["decision"], told["status"], told["ran"], told.get("error")) == (
        "v",
        "raised",
        True,
        None if error is None else "ValueError",
    )
    assert told["obligations"] == ({"type": "log", "status": "not_reached"},)
    assert ("subject" in told) == (request_ is not None)
    assert "canary" not in repr(told)


def test_resources_are_named_once() -> None:
    """A resource asked about for several subjects is one."""
    answers = [answer(ONE), answer(ONE.evolve(subject=BOB)), answer(TWO)]
    assert batch_ids(answers) == [("document", "1"), ("document", None)]
