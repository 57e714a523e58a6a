"""What becomes of obligations, as a table: the specification, and the enforcer held against it in both worlds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pep import Decision, Effect, Enforcer, Obligation, Resource, Subject, acting_as
from pep.audit import MemorySink
from pep.errors import AccessDenied, ObligationError
from pep.protocols import Call, Phase, Rank, Refusal
from pep.testing import FakeClock
from pep.verdict import Outcome, Status

ALICE = Subject("user", "alice")
DOCUMENT = Resource("document", "42")

#: (effect, phase the handler declares) -> what it does -> status, outcome, whether the code ran and what it gave.
#: Beside it stands one that always can be discharged, and is; and advice nobody understands, which changes nothing.
TABLE: dict[tuple[str, str], dict[str, str]] = {
    ("permit", "before"): {
        "discharges": "discharged permitted ran released",
        "fails": "failed denied",
        "is malformed": "failed denied",
        "is nothing": "failed denied",
        "is unknown": "unsupported denied",
        "cannot say when": "failed denied",
        "steps up": "failed step_up_required",
        "limits": "failed rate_limited",
        "asks": "failed confirmation_required",
        "fails, best-effort": "failed permitted ran released",
        "is malformed, best-effort": "failed denied",
        "is unknown, best-effort": "unsupported denied",
        "limits, best-effort": "failed rate_limited",
    },
    ("permit", "after"): {
        "discharges": "discharged permitted ran released",
        "fails": "failed denied ran",
        "is malformed": "failed denied ran",
        "is nothing": "failed denied ran",
        "is unknown": "unsupported denied",
        "cannot say when": "failed denied",
        "steps up": "failed denied ran",
        "limits": "failed denied ran",
        "asks": "failed denied ran",
        "fails, best-effort": "failed permitted ran released",
        "is malformed, best-effort": "failed denied ran",
        "is unknown, best-effort": "unsupported denied",
        "limits, best-effort": "failed denied ran",
    },
    ("permit", "on denial"): {
        "discharges": "unsupported denied",
        "fails": "unsupported denied",
        "is malformed": "unsupported denied",
        "is nothing": "unsupported denied",
        "is unknown": "unsupported denied",
        "cannot say when": "failed denied",
        "steps up": "unsupported denied",
        "limits": "unsupported denied",
        "asks": "unsupported denied",
        "fails, best-effort": "unsupported denied",
        "is malformed, best-effort": "unsupported denied",
        "is unknown, best-effort": "unsupported denied",
        "limits, best-effort": "unsupported denied",
    },
    ("deny", "before"): dict.fromkeys(
        [
            "discharges",
            "fails",
            "is malformed",
            "is nothing",
            "is unknown",
            "steps up",
            "limits",
            "asks",
            "fails, best-effort",
            "is malformed, best-effort",
            "is unknown, best-effort",
            "limits, best-effort",
        ],
        "unsupported denied",
    )
    | {"cannot say when": "failed denied"},
    ("deny", "on denial"): {
        "discharges": "discharged denied",
        "fails": "failed denied",
        "is malformed": "failed denied",
        "is nothing": "failed denied",
        "is unknown": "unsupported denied",
        "cannot say when": "failed denied",
        "steps up": "failed denied",
        "limits": "failed denied",
        "asks": "failed denied",
        "fails, best-effort": "failed denied",
        "is malformed, best-effort": "failed denied",
        "is unknown, best-effort": "unsupported denied",
        "limits, best-effort": "failed denied",
    },
}
# What denies differs in the outcome alone, and a handler for what follows the code is none for a denial.
TABLE["deny", "after"] = TABLE["deny", "before"]
for phase in ("before", "after", "on denial"):
    TABLE["not_applicable", phase] = TABLE["deny", phase]
    TABLE["indeterminate", phase] = {
        act: told.replace("denied", "unavailable") for act, told in TABLE["deny", phase].items()
    }

PHASES = {"before": Phase.BEFORE, "after": Phase.AFTER, "on denial": Phase.ON_DENIAL}
ROWS = [(effect, phase, act, told) for (effect, phase), acts in TABLE.items() for act, told in acts.items()]


def discharge(call: Call) -> Any:
    return call


def fail(_call: Call) -> Any:
    message = "out of order"
    raise OSError(message)


def misunderstand(_call: Call) -> Any:
    message = "property `x` of obligation `y` is missing"
    raise ObligationError(message)


ACTS: dict[str, Callable[[Call], Any]] = {
    "discharges": discharge,
    "fails": fail,
    "is malformed": misunderstand,
    "is nothing": lambda _call: None,
    "is unknown": discharge,
    "cannot say when": discharge,
    "steps up": lambda _call: Refusal(Outcome.STEP_UP_REQUIRED),
    "limits": lambda _call: Refusal(Outcome.RATE_LIMITED),
    "asks": lambda _call: Refusal(Outcome.CONFIRMATION_REQUIRED),
}


class Handler:
    def __init__(self, kind: str, phase: Phase, act: Callable[[Call], Any] = discharge) -> None:
        self.types = {kind}
        self.phase = phase
        self.act = act
        self.ran: list[Phase] = []

    def discharge(self, _obligation: Obligation, call: Call) -> Any:
        self.ran.append(call.phase)
        return self.act(call)


class BestEffort(Handler):
    best_effort = True


class Awaited(Handler):
    async def discharge(self, _obligation: Obligation, call: Call) -> Any:
        await asyncio.sleep(0)
        self.ran.append(call.phase)
        return self.act(call)


class AwaitedBestEffort(Awaited):
    best_effort = True


class Answering:
    def __init__(self, decision: Decision) -> None:
        self.decision = decision

    def decide(self, _request: Any) -> Decision:
        return self.decision


def made(phase: str, act: str, *, awaited: bool) -> Handler:
    verb, _comma, effort = act.partition(", ")
    kinds: dict[tuple[bool, bool], type[Handler]] = {
        (False, False): Handler,
        (False, True): BestEffort,
        (True, False): Awaited,
        (True, True): AwaitedBestEffort,
    }
    handler = kinds[awaited, effort == "best-effort"]("subject", PHASES[phase], ACTS[verb])
    if verb == "cannot say when":
        handler.when = misunderstand  # type: ignore[attr-defined]
    return handler


def enforced(
    effect: str, handlers: list[Any], kinds: list[str], *, awaited: bool, clock: FakeClock | None = None
) -> tuple[str, Any, list[str]]:
    """Make one guarded call; tell what it came to, its verdict if it was denied, and the statuses as recorded."""
    decision = Decision(Effect(effect), [Obligation(kind) for kind in kinds], advice=[Obligation("advice")])
    sink, ran = MemorySink(), []
    enforcer = Enforcer(Answering(decision), audit=sink, obligations=handlers, clock=clock or FakeClock())

    def read() -> str:
        ran.append(True)
        return "text"

    async def aread() -> str:
        await asyncio.sleep(0)
        return read()

    guarded: Any = enforcer.guard("read", resource=DOCUMENT)(aread if awaited else read)
    verdict, released = None, ""
    with acting_as(ALICE):
        try:
            released = asyncio.run(guarded()) if awaited else guarded()
        except AccessDenied as error:
            verdict = error.verdict
    told = [record for record in sink.records if record.get("obligations")][-1]
    outcome = sink.records[0]["outcome"] if verdict is None else verdict.outcome.value
    words = [outcome, *(["ran"] if ran else []), *(["released"] if released == "text" else [])]
    return " ".join(words), verdict, [line["status"] for line in told["obligations"]]


def test_the_table_is_whole() -> None:
    """Every effect, phase and act has its row, every status but one and every outcome of obligations occurs."""
    assert set(TABLE) == {(effect.value, phase) for effect in Effect for phase in PHASES}
    acts = {*ACTS, *(f"{act}, best-effort" for act in ("fails", "is malformed", "is unknown", "limits"))}
    assert all(set(row) == acts for row in TABLE.values())
    told = {word for row in TABLE.values() for cell in row.values() for word in cell.split()}
    assert told >= {status.value for status in Status} - {"not_reached"}
    assert told >= {"permitted", "denied", "step_up_required", "rate_limited", "confirmation_required", "unavailable"}


@pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(("effect", "phase", "act", "told"), ROWS, ids=["-".join(row[:3]) for row in ROWS])
def test_the_code_equals_the_table(effect: str, phase: str, act: str, told: str, awaited: bool) -> None:
    """What becomes of an obligation, and what that makes of the call, is what the table says; another still runs."""
    handler = made(phase, act, awaited=awaited)
    witness = Handler("witness", Phase.BEFORE | Phase.ON_DENIAL)
    unknown = act.startswith("is unknown")
    handlers = [witness] if unknown else [handler, witness]
    outcome, verdict, statuses = enforced(effect, handlers, ["subject", "witness"], awaited=awaited)
    status, expected = told.split(" ", 1)
    assert outcome == expected
    assert statuses == [status, "discharged"]
    assert len(witness.ran) == 1
    assert len(handler.ran) == (status in {"discharged", "failed"} and not act.startswith("cannot"))
    if verdict is not None:
        assert [line.status.value for line in verdict.obligations] == statuses
        assert verdict.ran == ("ran" in expected)


#: What else may keep an obligation from being reached: it never ran, and says so.
NOT_REACHED: dict[str, tuple[list[str], str, list[str]]] = {
    "another fails, and it would consume": (["bad", "count"], "denied", ["failed", "not_reached"]),
    "another is unknown, and it would consume": (["unknown", "count"], "denied", ["unsupported", "not_reached"]),
    "another demands something, and it would confirm": (
        ["limit", "confirm"],
        "rate_limited",
        ["failed", "not_reached"],
    ),
    "the code does not run": (["bad", "late"], "denied", ["failed", "not_reached"]),
    "several demand something": (["limit", "late"], "rate_limited", ["failed", "not_reached"]),
}


def ranked(handler: Handler, rank: Rank) -> Handler:
    handler.rank = rank  # type: ignore[attr-defined]
    return handler


@pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("row", NOT_REACHED)
def test_what_is_not_reached(row: str, awaited: bool) -> None:
    """An obligation that is never due is recorded as not reached, and its handler did not run."""
    kinds, expected, told = NOT_REACHED[row]
    handlers = [
        Handler("bad", Phase.BEFORE, fail),
        ranked(Handler("limit", Phase.BEFORE, ACTS["limits"]), Rank.VERIFY),
        ranked(Handler("count", Phase.BEFORE), Rank.COUNT),
        ranked(Handler("confirm", Phase.BEFORE), Rank.CONFIRM),
        Handler("late", Phase.AFTER),
    ]
    outcome, _verdict, statuses = enforced("permit", handlers, kinds, awaited=awaited)
    assert (outcome, statuses) == (expected, told)
    reached = {kind for kind, status in zip(kinds, told, strict=True) if status == "failed"}
    assert {kind for handler in handlers for kind in handler.types if handler.ran} == reached


@pytest.mark.parametrize("kinds", [["late"], ["count", "late"]])
def test_asking_reaches_nothing(kinds: list[str]) -> None:
    """Whoever only asks hears the outcome, and nothing is discharged or consumed."""
    handlers = [Handler("late", Phase.AFTER), ranked(Handler("count", Phase.BEFORE), Rank.COUNT)]
    decision = Decision(Effect.PERMIT, [Obligation(kind) for kind in kinds])
    enforcer = Enforcer(Answering(decision), audit=MemorySink(), obligations=handlers)
    verdict = enforcer.check("read", DOCUMENT, subject=ALICE)
    assert (verdict.outcome, {line.status for line in verdict.obligations}) == (Outcome.PERMITTED, {Status.NOT_REACHED})
    assert not any(handler.ran for handler in handlers)


def test_a_malformed_obligation_shows_when_asking() -> None:
    """What cannot even say when it is due is no permit, for whoever only asks neither."""
    decision = Decision(Effect.PERMIT, [Obligation("subject")])
    handler = made("after", "cannot say when", awaited=False)
    enforcer = Enforcer(Answering(decision), audit=MemorySink(), obligations=[handler])
    assert enforcer.check("read", DOCUMENT, subject=ALICE).outcome is Outcome.DENIED


def test_an_entry_point_without_a_phase_does_not_support_it() -> None:
    """What has no code to follow cannot discharge what is due after it."""
    decision = Decision(Effect.PERMIT, [Obligation("late")])
    late = Handler("late", Phase.AFTER)
    enforcer = Enforcer(Answering(decision), audit=MemorySink(), obligations=[late])
    with pytest.raises(AccessDenied) as caught:
        enforcer.enforce("read", DOCUMENT, subject=ALICE)
    assert [line.status for line in caught.value.verdict.obligations] == [Status.UNSUPPORTED]
    assert late.ran == []


def test_code_that_raises_leaves_what_follows_it() -> None:
    """What the code raises goes on as it is, and what was due on a result is recorded as not reached."""
    decision = Decision(Effect.PERMIT, [Obligation("late")])
    sink, late = MemorySink(), Handler("late", Phase.AFTER)
    enforcer = Enforcer(Answering(decision), audit=sink, obligations=[late])

    @enforcer.guard("read", resource=DOCUMENT)
    def read() -> None:
        raise LookupError

    with acting_as(ALICE), pytest.raises(LookupError):
        read()
    assert [line["status"] for line in sink.records[-1]["obligations"]] == ["not_reached"]
    assert late.ran == []


def test_duplicates_do_not_collapse() -> None:
    """Two obligations of one kind are discharged twice, and told twice."""
    twice = Handler("twice", Phase.BEFORE)
    assert enforced("permit", [twice], ["twice", "twice"], awaited=False)[2] == ["discharged", "discharged"]
    assert twice.ran == [Phase.BEFORE, Phase.BEFORE]


@pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(("phase", "expected"), [("before", "denied"), ("after", "denied ran")])
def test_who_is_late_has_failed(phase: str, expected: str, awaited: bool) -> None:
    """A handler has what is left of the call's deadline; what it answers later is not heard."""
    clock = FakeClock()
    handler = (Awaited if awaited else Handler)("late", PHASES[phase], lambda call: clock.advance(60) or call)
    assert enforced("permit", [handler], ["late"], awaited=awaited, clock=clock)[::2] == (expected, ["failed"])
    assert len(handler.ran) == 1
    prompt = Handler("late", PHASES[phase], lambda call: clock.advance(0.5) or call)
    assert enforced("permit", [prompt], ["late"], awaited=awaited, clock=clock)[2] == ["discharged"]
