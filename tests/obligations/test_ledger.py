from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from pep.errors import ConfigurationError, ObligationError
from pep.model import AccessRequest, Obligation, Resource, Subject
from pep.obligations.ledger import Duty, Handlers, discharge
from pep.protocols import Call, Phase, Rank, Refusal
from pep.verdict import Outcome, Status
from tests.plans import finish

REQUEST = AccessRequest(Subject("user", "alice"), "read", Resource("document", "42"))
OTHER = REQUEST.evolve(action="write")
ALL = frozenset(Rank)
LIMITED = Refusal(Outcome.RATE_LIMITED)


class Handler:
    def __init__(
        self, kind: str, act: Callable[[Call], Any] | None = None, phase: Phase = Phase.BEFORE, rank: Rank | None = None
    ) -> None:
        self.types: Any = {kind}
        self.phase: Any = phase
        if rank is not None:
            self.rank: Any = rank
        self.act = act or (lambda call: call)
        self.seen: list[Call] = []

    def discharge(self, obligation: Obligation, call: Call) -> Any:
        assert obligation.type in self.types
        self.seen.append(call)
        return self.act(call)


def failing(_call: Call) -> Any:
    message = "out of order"
    raise OSError(message)


def settled(
    *handlers: Handler,
    phases: tuple[Phase, ...] = (Phase.BEFORE, Phase.AFTER),
    kinds: str = "",
    arguments: Any = None,
    modifiable: bool = True,
    phase: Phase = Phase.BEFORE,
    ranks: frozenset[Rank] = ALL,
) -> tuple[list[Duty], Call]:
    """Open a ledger with one duty per handler, in order, and discharge what is due in one phase."""
    wanted = kinds.split() or [kind for handler in handlers for kind in handler.types]
    duties = Handlers(handlers).open([Obligation(kind) for kind in wanted], REQUEST, phases)
    before = Call(REQUEST, {"a": 1} if arguments is None else arguments, "result", phase)
    call = finish(discharge(duties, ranks, before, 9.0, modifiable=modifiable))
    return duties, call


def statuses(duties: list[Duty]) -> list[str]:
    return [duty.told().status.value for duty in duties]


def test_every_obligation_ends_in_one_status() -> None:
    """Discharged, failed, unsupported or not reached: each exactly one, in the order given."""
    duties, _ = settled(
        Handler("ok"), Handler("bad", failing), Handler("late", phase=Phase.AFTER), kinds="unknown ok bad late ok"
    )
    assert statuses(duties) == ["unsupported", "discharged", "failed", "not_reached", "discharged"]
    assert [duty.unmet for duty in duties] == [True, False, True, False, False]
    assert [type(duty.error) for duty in duties] == [type(None), type(None), OSError, type(None), type(None)]


def test_duplicates_do_not_collapse() -> None:
    """Two obligations of one kind are two duties."""
    handler = Handler("log")
    duties, _ = settled(handler, kinds="log log")
    assert len(handler.seen) == len(duties) == 2


def test_one_that_fails_keeps_no_other_from_running() -> None:
    """Every other obligation that can run still runs, and sees the call as it was before the one that failed."""
    later = Handler("later", rank=Rank.NOTIFY)
    _, call = settled(
        Handler("first", lambda call: call.with_arguments(a=2), rank=Rank.VERIFY), Handler("bad", failing), later
    )
    assert [dict(seen.arguments) for seen in later.seen] == [{"a": 2}]
    assert dict(call.arguments) == {"a": 2}


def test_duties_run_by_rank_not_by_order() -> None:
    """What verifies runs before what modifies, counts and confirms, in whatever order they were given."""
    order: list[Rank] = []

    def noting(rank: Rank) -> Callable[[Call], Call]:
        return lambda call: order.append(rank) or call

    settled(*[Handler(rank.name, noting(rank), rank=rank) for rank in reversed(Rank)])
    assert order == sorted(Rank)


@pytest.mark.parametrize(
    ("phase", "rank"), [(Phase.BEFORE, Rank.MODIFY), (Phase.ON_DENIAL, Rank.MODIFY), (Phase.AFTER, Rank.REDACT)]
)
def test_handlers_without_a_rank_have_a_usual_one(phase: Phase, rank: Rank) -> None:
    """Before the code an obligation modifies, after it one redacts."""
    duty = Handlers([Handler("x", phase=phase)]).open([Obligation("x")], REQUEST, (phase,))[0]
    assert duty.rank is rank


def test_only_what_is_due_runs() -> None:
    """A duty of another rank or phase waits."""
    handlers = [
        Handler("early", rank=Rank.VERIFY),
        Handler("count", rank=Rank.COUNT),
        Handler("late", phase=Phase.AFTER),
    ]
    duties, _ = settled(*handlers, ranks=frozenset({Rank.VERIFY}))
    assert statuses(duties) == ["discharged", "not_reached", "not_reached"]


@pytest.mark.parametrize(
    ("declared", "phases", "expected"),
    [
        (Phase.BEFORE, (Phase.BEFORE, Phase.AFTER), Phase.BEFORE),
        (Phase.AFTER, (Phase.BEFORE, Phase.AFTER), Phase.AFTER),
        (Phase.BEFORE | Phase.AFTER, (Phase.BEFORE, Phase.AFTER), Phase.BEFORE),
        (Phase.BEFORE | Phase.AFTER, (Phase.AFTER, Phase.BEFORE), Phase.AFTER),
        (Phase.AFTER, (Phase.BEFORE,), None),
        (Phase.BEFORE, (Phase.ON_DENIAL,), None),
        (Phase.BEFORE | Phase.ON_DENIAL, (Phase.ON_DENIAL,), Phase.ON_DENIAL),
    ],
)
def test_which_phase_a_duty_has(declared: Phase, phases: tuple[Phase, ...], expected: Phase | None) -> None:
    """A duty is due in the first phase of the call its handler knows; where there is none, it is unsupported."""
    duty = Handlers([Handler("x", phase=declared)]).open([Obligation("x")], REQUEST, phases)[0]
    assert duty.phase is expected
    assert (duty.status is Status.UNSUPPORTED) == (expected is None)


@pytest.mark.parametrize("consuming", [Rank.COUNT, Rank.CONFIRM])
@pytest.mark.parametrize("spoiler", [failing, lambda _call: LIMITED])
def test_nothing_is_consumed_for_a_call_that_is_refused(consuming: Rank, spoiler: Any) -> None:
    """Counting and confirming run only while the call would still be permitted."""
    counter = Handler("count", rank=consuming)
    duties, _ = settled(counter, Handler("spoil", spoiler, rank=Rank.VERIFY))
    assert counter.seen == []
    assert duties[0].status is Status.NOT_REACHED
    assert settled(counter, kinds="count unknown")[0][0].status is Status.NOT_REACHED
    assert settled(counter)[0][0].status is Status.DISCHARGED


def test_a_denial_counts_whatever_else_failed() -> None:
    """Obligations of a denial run, also those that count, and failing ones change nothing for the others."""
    counter = Handler("count", phase=Phase.ON_DENIAL, rank=Rank.COUNT)
    duties, _ = settled(
        Handler("bad", failing, phase=Phase.ON_DENIAL), counter, phases=(Phase.ON_DENIAL,), phase=Phase.ON_DENIAL
    )
    assert statuses(duties) == ["failed", "discharged"]


def test_a_refusal_is_no_failure() -> None:
    """A handler that demands something of the caller has neither failed nor discharged."""
    duties, _ = settled(Handler("limit", lambda _call: LIMITED, rank=Rank.COUNT))
    assert duties[0].refusal is LIMITED
    assert not duties[0].unmet
    assert duties[0].error is None


@pytest.mark.parametrize("answer", [None, True, "discharged", {"a": 1}, Outcome.PERMITTED, object()])
def test_a_handler_returns_the_call(answer: Any) -> None:
    """Whatever is neither a call nor a refusal is a failure."""
    duties, call = settled(Handler("x", lambda _call: answer))
    assert statuses(duties) == ["failed"]
    assert isinstance(duties[0].error, ObligationError)
    assert call.result == "result"


@pytest.mark.parametrize(
    ("act", "modifiable", "status"),
    [
        (lambda call: call.with_arguments(a=2), True, "discharged"),
        (lambda call: call.with_arguments(a=2), False, "failed"),
        (lambda call: call.with_arguments(a=1), False, "failed"),
        (lambda call: call.with_arguments(b=2), True, "failed"),
        (lambda call: attrs.evolve(call, arguments={}), True, "failed"),
        (lambda call: attrs.evolve(call, arguments=None), True, "failed"),
        (lambda call: attrs.evolve(call, arguments=["a"]), True, "failed"),
        (lambda call: call.with_result("x"), True, "discharged"),
        (lambda call: call.with_result("x"), False, "discharged"),
    ],
)
def test_arguments_keep_their_names(act: Any, modifiable: bool, status: str) -> None:
    """A handler may give arguments other values where that is allowed; never other names."""
    original = {"a": 1}
    duties, call = settled(Handler("x", act), arguments=original, modifiable=modifiable)
    assert statuses(duties) == [status]
    assert original == {"a": 1}
    assert (call.arguments is original) == (status == "failed" or call.result == "x")


@pytest.mark.parametrize("modifiable", [True, False])
def test_arguments_do_not_change_in_place(modifiable: bool) -> None:
    """What was decided about cannot be changed behind the decision's back."""

    def meddle(call: Call) -> Call:
        call.arguments["a"] = 9  # type: ignore[index]
        return call

    original = {"a": 1}
    duties, call = settled(Handler("x", meddle), arguments=original, modifiable=modifiable)
    assert statuses(duties) == ["failed"]
    assert call.arguments is original
    assert original == {"a": 1}


def test_handlers_see_the_request_their_obligation_came_with() -> None:
    """Of several requests decided together, each duty sees its own; it can pass on no other, nor another phase."""
    handler = Handler("x", lambda call: attrs.evolve(call, request=OTHER, phase=Phase.AFTER))
    handlers = Handlers([handler])
    duties = [
        *handlers.open([Obligation("x")], REQUEST, (Phase.BEFORE,)),
        *handlers.open([Obligation("x")], OTHER, (Phase.BEFORE,)),
    ]
    call = finish(discharge(duties, ALL, Call(REQUEST), 9.0, modifiable=True))
    assert [seen.request for seen in handler.seen] == [REQUEST, OTHER]
    assert [seen.phase for seen in handler.seen] == [Phase.BEFORE] * 2
    assert (call.request, call.phase) == (REQUEST, Phase.BEFORE)


def test_results_are_passed_on() -> None:
    """After the code each handler gets the result as the one before left it."""
    double = Handler("double", lambda call: call.with_result(call.result * 2), Phase.AFTER)
    bad = Handler("bad", failing, Phase.AFTER)
    duties, call = settled(double, bad, kinds="double bad double", phase=Phase.AFTER)
    assert call.result == "result" * 4
    assert statuses(duties) == ["discharged", "failed", "discharged"]


def test_handlers_may_be_awaited() -> None:
    """A handler of the other world is a coroutine function."""

    async def later(call: Call) -> Call:
        return call.with_result("later")

    assert settled(Handler("x", later))[1].result == "later"


class NotOne:
    types = ("x",)


def declared(**changes: Any) -> Handler:
    handler = Handler("x")
    for name, value in changes.items():
        setattr(handler, name, value)
    return handler


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (NotOne(), "`NotOne` is no obligation handler; it needs `types`, `phase` and"),
        (Handler, "`type` is no obligation handler"),
        (declared(types="redact"), r"`Handler\.types` must be a set of obligation types"),
        (declared(types=set()), r"`Handler\.types` must be a set"),
        (declared(types=None), r"`Handler\.types` must be a set"),
        (declared(types=[""]), r"`Handler\.types` must be a set"),
        (declared(types=[7]), r"`Handler\.types` must be a set"),
        (declared(types=iter(["x"])), r"`Handler\.types` must be a set"),
        (declared(phase="before"), r"`Handler\.phase` must be a `Phase`, such as `Phase.BEFORE`, not `str`"),
        (declared(phase=Phase(0)), r"`Handler\.phase` must be a `Phase`"),
        (declared(rank="redact"), r"`Handler\.rank` must be a `Rank`, such as `Rank.MODIFY`, not `str`"),
        (declared(rank=99), r"`Handler\.rank` must be a `Rank`, such as `Rank.MODIFY`, not `int`"),
        (declared(rank=1), r"`Handler\.rank` must be a `Rank`"),
        (declared(rank=True), r"`Handler\.rank` must be a `Rank`"),
    ],
)
def test_handlers_are_checked_at_construction(handler: Any, told: str) -> None:
    """A handler that could never be due, and so would lose its obligations, is refused at the start."""
    with pytest.raises(ConfigurationError, match=told):
        Handlers([handler])


def test_a_kind_has_one_handler() -> None:
    """Two handlers of one obligation are refused; nobody could say which discharges it."""
    with pytest.raises(ConfigurationError, match="`Handler` and `Handler` both understand obligation `x`; keep one"):
        Handlers([Handler("x"), Handler("x")])
    several = [declared(types=["x", "y"]), Handler("z")]
    assert list(Handlers(several)) == several


def test_what_a_handler_declared_is_taken_once() -> None:
    """A handler that declares something else later loses no duty."""
    handler = declared(rank=Rank.COUNT)
    handlers = Handlers([handler])
    handler.phase, handler.rank, handler.types = Phase.AFTER, 99, {"other"}
    duty = handlers.open([Obligation("x")], REQUEST, (Phase.BEFORE,))[0]
    assert (duty.phase, duty.rank) == (Phase.BEFORE, Rank.COUNT)
