"""What a server answers: only a permit is ``true``, and what is no decision is none."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from pep import (
    AccessRequest,
    Decision,
    Effect,
    Enforcer,
    FailOpen,
    FailStale,
    Fault,
    Obligation,
    Profile,
    Shadow,
    Subject,
)
from pep.audit import MemorySink
from pep.errors import (
    PDPInsecure,
    PDPOverloaded,
    PDPRejected,
    PDPReplyError,
    PDPTimeout,
    PDPUnavailable,
)
from pep.pdp import FunctionPDP
from pep.pdp.authzen.answering import _answer
from pep.verdict import Outcome, Verdict
from tests.pdp.authzen.rigs import (
    ASKED,
    EVALUATION,
    EVALUATIONS,
    asked_of,
    asking,
    enforcing,
    only_alice,
    serving,
    told,
    without,
    yes,
)

FAULTS: dict[str, tuple[Any, int, Fault]] = {
    "late": (PDPTimeout("late"), 503, Fault.TIMEOUT),
    "down": (PDPUnavailable("down"), 503, Fault.UNREACHABLE),
    "too busy": (PDPOverloaded("busy"), 503, Fault.OVERLOADED),
    "refused us": (PDPRejected("who?"), 500, Fault.REJECTED),
    "insecure": (PDPInsecure("?"), 500, Fault.INSECURE),
    "malformed": (PDPReplyError("?"), 500, Fault.MALFORMED),
    "broken": (RuntimeError("?"), 500, Fault.INTERNAL),
    "a text": ("true", 500, Fault.MALFORMED),
    "one": (1, 500, Fault.MALFORMED),
    "none": (None, 500, Fault.MALFORMED),
    "a list": ([True], 500, Fault.MALFORMED),
}


def saying(answer: Any) -> Any:
    def decide(_request: AccessRequest) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return FunctionPDP(decide, name="saying")


#: Failure modes and shadows that would let a call run.
OPENING: dict[str, Profile] = {
    "closed": Profile(),
    "open": Profile(on_failure=FailOpen(on=[Fault.TIMEOUT, Fault.UNREACHABLE, Fault.OVERLOADED], limit="100/minute")),
    "stale": Profile(on_failure=FailStale(max_age=60)),
    "shadow": Profile(mode=Shadow(until=datetime(2100, 1, 1, tzinfo=timezone.utc), reason="new")),
}


@pytest.mark.parametrize("profile", OPENING.values(), ids=OPENING)
@pytest.mark.parametrize(("answer", "status", "fault"), FAULTS.values(), ids=FAULTS)
def test_no_failure_mode_and_no_shadow_applies(answer: Any, status: int, fault: Fault, profile: Profile) -> None:
    """A fault is an HTTP error, and an error in a batch; never ``true``, whatever the enforcer would do with it."""
    sink = MemorySink()
    application = serving(enforcing(saying(answer), audit=sink, profiles={"record:read": profile}))
    reply = asking(application, EVALUATION, ASKED)
    assert (reply.status, reply.headers.get("retry-after")) == (status, "1" if status == 503 else None)
    assert "decision" not in told(reply)
    assert sink.records[-1]["fault"] == fault.value
    assert sink.records[-1]["allowed"] is False
    broken = {**ASKED, "subject": "x"}
    both = asking(application, EVALUATIONS, {**ASKED, "evaluations": [{}, without("subject") | {"subject": {}}]})
    assert both.status == 200
    assert [one["decision"] for one in told(both)["evaluations"]] == [False, False]
    assert told(both)["evaluations"][0]["context"]["error"]["status"] == status
    whole = asking(application, EVALUATIONS, {**ASKED, "evaluations": [{}, {}]})
    assert whole.status == (503 if status == 503 else 200)
    assert asking(application, EVALUATION, broken).status == 400
    for semantic in ("deny_on_first_deny", "permit_on_first_permit"):
        body = {**ASKED, "evaluations": [{}], "options": {"evaluations_semantic": semantic}}
        assert told(asking(application, EVALUATIONS, body))["evaluations"][0]["decision"] is False


def test_nothing_stale_is_told() -> None:
    """What was decided before an outage is an answer of the enforcer's, and none of the decision point's."""
    answers: list[Any] = [True, PDPUnavailable("down")]

    def decide(_request: AccessRequest) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    sink = MemorySink()
    profiles = {"**": Profile(on_failure=FailStale(max_age=60))}
    application = serving(enforcing(decide, audit=sink, profiles=profiles))
    assert told(asking(application, EVALUATION, ASKED))["decision"] is True
    assert asking(application, EVALUATION, ASKED).status == 503
    assert (sink.records[-1]["outcome"], sink.records[-1].get("stale")) == ("unavailable", None)


PERMIT, DENY = Decision(Effect.PERMIT), Decision(Effect.DENY)


@pytest.mark.parametrize(
    ("outcome", "chief", "fault", "answers"),
    [
        # What the enforcer concluded, and what its decision point said, do not go together.
        (Outcome.DENIED, PERMIT, None, [(PERMIT, None)]),
        (Outcome.UNAVAILABLE, PERMIT, None, [(PERMIT, None)]),
        (Outcome.FAILED_OPEN, None, None, [(None, None)]),
        (Outcome.SHADOWED, PERMIT, None, [(PERMIT, None)]),
        (Outcome.PERMITTED, PERMIT, Fault.TIMEOUT, [(PERMIT, None)]),
        (Outcome.PERMITTED, PERMIT, None, [(PERMIT, Fault.TIMEOUT)]),
        (Outcome.PERMITTED, PERMIT, None, [(PERMIT, None), (DENY, None)]),
        (Outcome.PERMITTED, PERMIT, None, [(PERMIT, None), (None, None)]),
        (Outcome.PERMITTED, PERMIT, None, []),
        (Outcome.PERMITTED, None, None, []),
    ],
)
def test_what_does_not_go_together_is_no_permit(
    outcome: Outcome, chief: Decision | None, fault: Fault | None, answers: Any
) -> None:
    """The last look before an answer is told takes nothing on trust."""
    verdict = Verdict("1", outcome, decision=chief, fault=fault)
    job: Any = SimpleNamespace(verdict=verdict, answers=[SimpleNamespace(decision=d, fault=f) for d, f in answers])
    decision = _answer(job).decision
    assert decision is None or decision.effect is not Effect.PERMIT


EFFECTS = [
    (Effect.PERMIT, True, False),
    (Effect.DENY, False, False),
    (Effect.NOT_APPLICABLE, False, False),
    (Effect.INDETERMINATE, False, True),
]


@pytest.mark.parametrize(("effect", "decision", "error"), EFFECTS)
@pytest.mark.parametrize("profile", OPENING.values(), ids=OPENING)
def test_only_a_permit_is_true(effect: Effect, decision: bool, error: bool, profile: Profile) -> None:
    """The four effects, whatever the profile."""
    application = serving(enforcing(lambda _request: Decision(effect), profiles={"record:read": profile}))
    one = told(asking(application, EVALUATION, ASKED))
    many = told(asking(application, EVALUATIONS, {**ASKED, "evaluations": [{}, {}]}))["evaluations"]
    for found in (one, *many):
        assert found["decision"] is decision
        assert ("error" in found["context"]) is error


def test_obligations_are_passed_on() -> None:
    """Nothing is discharged here, known or not; a permit stays one, and the record tells what was passed on."""
    due = [Obligation("log", {"a": 1}, "o1"), Obligation("log", {"a": 2}, "o1"), Obligation("unheard-of")]
    sink = MemorySink()
    for effect, expected in ((Effect.PERMIT, True), (Effect.DENY, False)):
        answer = Decision(effect, due, advice=[Obligation("hint", {"x": 1}, "a1"), Obligation("wink")], ttl=0)
        found = told(asking(serving(enforcing(lambda _request, it=answer: it, audit=sink)), EVALUATION, ASKED))
        assert found["decision"] is expected
        duties = found["context"]["obligations"]
        assert [(one["type"], one["properties"]) for one in duties] == [
            ("log", {"a": 1}), ("log", {"a": 2}), ("unheard-of", {}),
        ]  # fmt: skip
        assert duties[0]["id"] == "o1"
        assert len({one["id"] for one in duties}) == 3
        assert found["context"]["pep"] == {
            "ttl": 0.0,
            "advice": [{"type": "hint", "properties": {"x": 1}, "id": "a1"}, {"type": "wink", "properties": {}}],
        }
        checks = [record for record in sink.records if record["kind"] == "check"]
        assert [one["status"] for one in checks[-1]["obligations"]] == ["not_reached"] * 3
        assert checks[-1]["outcome"] == ("permitted" if expected else "denied")


def test_explaining_can_be_left_out() -> None:
    """Without it, no reason, policy, revision or inapplicability is told; what has to be kept still is."""
    for effect in (Effect.PERMIT, Effect.NOT_APPLICABLE):
        answer = Decision(effect, [Obligation("log", {}, "1")], (), ["why"], ["p7"], "r7", 5.0)
        application = enforcing(lambda _request, it=answer: it)
        context = told(asking(serving(application, explain=False), EVALUATION, ASKED))["context"]
        assert context.keys() == {"evaluation_id", "obligations", "pep"}
        assert context["pep"] == {"ttl": 5.0}
        context = told(asking(serving(application), EVALUATION, ASKED))["context"]
        assert context["reason_admin"] == {"1": "why"}
        effects = {} if effect is Effect.PERMIT else {"effect": "not_applicable"}
        assert context["pep"] == {"ttl": 5.0, "policies": ["p7"], "revision": "r7", **effects}


def test_providers_cache_and_revocation_are_the_enforcers() -> None:
    """It asks as the enforcer does: with what providers add, and from its cache until that is revoked."""

    class Roles:
        provides = frozenset({"subject.role"})
        types = None

        def provide(self, request: AccessRequest) -> dict[str, Any]:
            return {"subject.role": "admin" if request.subject.id == "alice" else "guest"}

    asked: list[AccessRequest] = []

    def decide(request: AccessRequest) -> bool:
        asked.append(request)
        return bool(request.subject.properties["role"] == "admin")

    enforcer = enforcing(FunctionPDP(decide, pure=True), attributes=[Roles()])
    application = serving(enforcer)
    claiming = {**ASKED, "subject": {"type": "user", "id": "mallory", "properties": {"role": "admin"}}}
    assert told(asking(application, EVALUATION, claiming))["decision"] is False
    for _ in range(2):
        assert told(asking(application, EVALUATION, ASKED))["decision"] is True
    assert len(asked) == 2
    enforcer.invalidate(subject=Subject("user", "alice"))
    assert told(asking(application, EVALUATION, ASKED))["decision"] is True
    assert len(asked) == 3


def test_an_enforcer_that_is_not_there() -> None:
    """Unbound or closed, there is no decision; once it is bound, there is."""
    enforcer = Enforcer.unbound("later")
    application = serving(enforcer)
    for body, path in ((ASKED, EVALUATION), ({**ASKED, "evaluations": [{}]}, EVALUATIONS)):
        reply = asking(application, path, body)
        assert reply.status == 503
        assert "decision" not in told(reply)
    enforcer.bind(yes, audit=MemorySink())
    assert told(asking(application, EVALUATION, ASKED))["decision"] is True
    enforcer.close()
    assert asking(application, EVALUATION, ASKED).status == 503


def test_whatever_goes_wrong_is_no_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error nobody thought of is a 500; running out of memory is nobody's to catch."""
    application = serving(yes)

    def breaking(error: BaseException) -> None:
        def answer(*_args: object) -> Any:
            raise error

        monkeypatch.setattr("pep.pdp.authzen.telling.Telling.answer", answer)

    breaking(KeyError("x"))
    reply = asking(application, EVALUATION, ASKED)
    assert reply.status == 500
    assert "decision" not in told(reply)
    breaking(MemoryError())
    with pytest.raises(MemoryError):
        asking(application, EVALUATION, ASKED)


def test_many_at_once() -> None:
    """Each is answered its own."""
    application = serving(only_alice)

    async def all_of_them() -> list[Any]:
        bodies = [{**ASKED, "subject": {"type": "user", "id": "alice" if n % 2 else "bob"}} for n in range(50)]
        return list(await asyncio.gather(*[asked_of(application, EVALUATION, body) for body in bodies]))

    assert [told(reply)["decision"] for reply in asyncio.run(all_of_them())] == [bool(n % 2) for n in range(50)]


def test_from_several_threads() -> None:
    """One application, several loops."""
    application = serving(only_alice)
    found: list[bool] = []

    def work() -> None:
        found.extend(told(asking(application, EVALUATION, ASKED))["decision"] for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 80
