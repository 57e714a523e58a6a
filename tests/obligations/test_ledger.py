from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import attrs
import pytest

from pep.canonical import digest
from pep.errors import ConfigurationError, ObligationError
from pep.model import AccessRequest, Obligation, Resource, Subject
from pep.obligations.ledger import Duty, Handlers, discharge
from pep.obligations.paths import Path
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


async def failing_later(_obligation: Obligation) -> Any:
    raise OSError


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
        (declared(when=Phase.BEFORE), r"`Handler\.when` must be a plain method of an obligation"),
        (declared(when=failing_later), r"`Handler\.when` must be a plain method of an obligation"),
        (declared(writes=["a"]), r"`Handler\.writes` must be a method of an obligation and a call"),
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


class Writer(Handler):
    """Writes what its obligation names, as paths in text."""

    def __init__(self, kind: str = "write", phase: Phase = Phase.BEFORE, **declared: Any) -> None:
        super().__init__(kind, None, phase, **declared)
        self.asked: list[Call] = []

    def writes(self, obligation: Obligation, call: Call) -> Any:
        self.asked.append(call)
        return [Path.parse(path) for path in obligation.properties["paths"]]


def written(*handlers: Any, paths: list[tuple[str, list[str]]], phase: Phase = Phase.BEFORE) -> list[Duty]:
    obligations = [Obligation(kind, {"paths": told}) for kind, told in paths]
    duties = Handlers(handlers).open(obligations, REQUEST, (Phase.BEFORE, Phase.AFTER))
    finish(discharge(duties, ALL, Call(REQUEST, {"a": 1}, "result", phase), 9.0, modifiable=True))
    return duties


CONFLICTS: list[tuple[list[list[str]], str]] = [
    ([["a"], ["b"]], "discharged discharged"),
    ([["a"], ["a"]], "failed failed"),
    ([["a.b"], ["a"]], "failed failed"),
    ([["a.*"], ["a.b"], ["c"]], "failed failed discharged"),
    ([["a", "b"], ["c"], ["b.c"]], "failed discharged failed"),
    ([["a"], ["a"], ["a"]], "failed failed failed"),
    ([[], []], "discharged discharged"),
    ([["a", "a"]], "discharged"),
]


@pytest.mark.parametrize(("paths", "expected"), CONFLICTS)
def test_two_writers_of_one_path_fail(paths: list[list[str]], expected: str) -> None:
    """Those that write what another writes fail, all of them and before any runs; the others still run."""
    writer, other = Writer(), Handler("other")
    duties = written(writer, other, paths=[*[("write", told) for told in paths], ("other", [])])
    assert " ".join(statuses(duties)) == f"{expected} discharged"
    assert len(writer.seen) == expected.split().count("discharged")
    assert len(other.seen) == 1
    for duty in duties:
        if duty.status is Status.FAILED:
            assert str(duty.error) == "obligation `write` writes what another one writes; keep one"


def test_writers_of_two_phases_are_apart() -> None:
    """What is written before the code is not what is written after it."""
    early, late = Writer("early"), Writer("late", Phase.AFTER)
    paths = [("early", ["a"]), ("late", ["a"])]
    assert statuses(written(early, late, paths=paths)) == ["discharged", "not_reached"]
    assert statuses(written(early, late, paths=paths, phase=Phase.AFTER)) == ["not_reached", "discharged"]


def test_writers_of_two_ranks_are_told_apart_before_either_runs() -> None:
    """A writer whose turn comes later fails with the one whose turn is now, and is not asked again."""
    first, second = Writer("first", rank=Rank.MODIFY), Writer("second", rank=Rank.NOTIFY)
    obligations = [Obligation(kind, {"paths": ["a"]}) for kind in ("first", "second")]
    for clash in (True, False):
        told = obligations if clash else [obligations[0], Obligation("second", {"paths": ["b"]})]
        duties = Handlers([first, second]).open(told, REQUEST, (Phase.BEFORE,))
        before = len(first.asked) + len(second.asked)
        for ranks in ({Rank.MODIFY}, {Rank.NOTIFY}):
            finish(discharge(duties, frozenset(ranks), Call(REQUEST, {"a": 1}), 9.0, modifiable=True))
        assert statuses(duties) == (["failed", "failed"] if clash else ["discharged", "discharged"])
        assert len(first.asked) + len(second.asked) == before + 2
    assert (len(first.seen), len(second.seen)) == (1, 1)


def test_a_writer_alone_is_not_asked() -> None:
    """Where nobody else writes, what one writes does not matter."""
    writer = Writer()
    assert statuses(written(writer, paths=[("write", ["a"])])) == ["discharged"]
    assert writer.asked == []


def test_writers_are_asked_about_the_call() -> None:
    """Each sees its own request, and arguments that cannot be changed."""
    writer = Writer()
    handlers = Handlers([writer])
    told = [Obligation("write", {"paths": [name]}) for name in ("a", "b")]
    duties = [*handlers.open(told[:1], REQUEST, (Phase.BEFORE,)), *handlers.open(told[1:], OTHER, (Phase.BEFORE,))]
    finish(discharge(duties, ALL, Call(REQUEST, {"a": 1}), 9.0, modifiable=True))
    assert [call.request for call in writer.asked] == [REQUEST, OTHER]
    assert all(type(call.arguments) is MappingProxyType for call in writer.asked)


@pytest.mark.parametrize("answer", [None, "a", ["a"], Path.parse("a"), 7, OSError("out of order")])
def test_who_cannot_say_what_is_written_fails(answer: Any) -> None:
    """A handler that cannot name what it writes is not let loose beside another that writes."""

    class Mute(Writer):
        def writes(self, _obligation: Obligation, _call: Call) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

    mute, writer = Mute("mute"), Writer()
    duties = written(mute, writer, paths=[("mute", ["a"]), ("write", ["a"])])
    assert statuses(duties) == ["failed", "discharged"]
    assert (mute.seen, type(duties[0].error)) == ([], type(answer) if isinstance(answer, OSError) else ObligationError)


def test_when_an_obligation_is_due_may_depend_on_it() -> None:
    """A handler of several phases may say by the obligation which of them it is."""

    class Choosing(Handler):
        def when(self, obligation: Obligation) -> Any:
            return {"early": Phase.BEFORE, "late": Phase.AFTER}[obligation.properties["when"]]

    handler = Choosing("x", phase=Phase.BEFORE | Phase.AFTER)
    obligations = [Obligation("x", {"when": when}) for when in ("late", "early", "never")]
    duties = Handlers([handler]).open(obligations, REQUEST, (Phase.BEFORE, Phase.AFTER))
    assert [duty.phase for duty in duties] == [Phase.AFTER, Phase.BEFORE, Phase.BEFORE]
    assert [duty.rank for duty in duties] == [Rank.REDACT, Rank.MODIFY, Rank.MODIFY]
    assert statuses(duties) == ["not_reached", "not_reached", "failed"]
    assert type(duties[2].error) is KeyError
    denied = Handlers([handler]).open(obligations, REQUEST, (Phase.ON_DENIAL,))
    assert statuses(denied) == ["unsupported", "unsupported", "failed"]
    finish(discharge(duties, ALL, Call(REQUEST, {"a": 1}), 9.0, modifiable=True))
    assert [obligation.properties["when"] for obligation in obligations[:2]] == ["late", "early"]
    assert (len(handler.seen), statuses(duties)) == (1, ["not_reached", "discharged", "failed"])


@pytest.mark.parametrize("answer", [None, True, Phase(0), Phase.ON_DENIAL, Phase.BEFORE | Phase.ON_DENIAL, "before"])
def test_when_must_be_one_of_its_phases(answer: Any) -> None:
    """Who names a phase that was not declared, or none, has not understood the obligation."""

    class Confused(Handler):
        def when(self, _obligation: Obligation) -> Any:
            return answer

    duty = Handlers([Confused("x", phase=Phase.BEFORE | Phase.AFTER)]).open(
        [Obligation("x")], REQUEST, (Phase.BEFORE,)
    )[0]
    assert (duty.status, str(duty.error)) == (Status.FAILED, "the handler of `x` must say when, within its phases")
    assert duty.unmet


@pytest.mark.parametrize(
    ("act", "status", "excused", "unmet"),
    [
        (lambda call: call, Status.DISCHARGED, False, False),
        (failing, Status.FAILED, True, False),
        (lambda _call: None, Status.FAILED, False, True),
        (lambda _call: LIMITED, Status.FAILED, True, False),
    ],
)
def test_best_effort_excuses_what_did_not_come_off(act: Any, status: Status, excused: bool, unmet: bool) -> None:
    """A handler that is declared best-effort may fail, but not misunderstand; others may not."""
    handler = Handler("x", act)
    handler.best_effort = True  # type: ignore[attr-defined]
    duty = settled(handler)[0][0]
    assert (duty.status, duty.excused, duty.unmet) == (status, excused, unmet)
    strict = settled(Handler("x", act))[0][0]
    assert not strict.excused
    assert strict.unmet == (status is Status.FAILED and strict.refusal is None)


@pytest.mark.parametrize("value", [1, "yes", None, 0])
def test_best_effort_is_declared_plainly(value: Any) -> None:
    """Whether a failure counts is no matter of what is truthy."""
    with pytest.raises(ConfigurationError, match=r"`Handler\.best_effort` must be `True` or `False`, not"):
        Handlers([declared(best_effort=value)])


def test_changes_are_noted_by_digest() -> None:
    """Of arguments that were changed the ledger keeps digests, of those alone, before and after."""
    change = Handler("change", lambda call: call.with_arguments(a=2))
    duties, _ = settled(change, Handler("look"), arguments={"a": 1, "self": object()})
    assert (duties[0].before, duties[0].after) == (digest({"a": 1}), digest({"a": 2}))
    assert (duties[1].before, duties[1].after) == (None, None)
    count = Handler("count", lambda call: call.with_arguments(a=call.arguments["a"] + 1))
    again, _ = settled(count, kinds="count count", arguments={"a": 1})
    assert [(duty.before, duty.after) for duty in again] == [
        (digest({"a": 1}), digest({"a": 2})),
        (digest({"a": 2}), digest({"a": 3})),
    ]


def test_what_has_no_digest_has_none() -> None:
    """A value without a canonical form is changed all the same; nothing stands for it."""
    replace = Handler("x", lambda call: call.with_arguments(a=object()))
    duties, _ = settled(replace, arguments={"a": 1})
    assert (duties[0].status, duties[0].before, duties[0].after) == (Status.DISCHARGED, digest({"a": 1}), None)
    same = Handler("x", lambda call: attrs.evolve(call, arguments=dict(call.arguments)))
    assert settled(same)[0][0].before is None


@pytest.mark.parametrize("act", [lambda call: call.with_arguments(b=2), failing])
def test_what_was_not_changed_has_no_digest(act: Any) -> None:
    """A change that was refused is none."""
    assert settled(Handler("x", act))[0][0].before is None


def test_what_is_released_one_by_one_is_discharged_on_each() -> None:
    """The results of a generator come one after another: what was discharged on one is due on the next, too."""
    writers = [Writer("double", Phase.AFTER), Writer("other", Phase.AFTER)]
    writers[0].act = lambda call: call.with_result(call.result * 2)
    obligations = [Obligation("double", {"paths": ["a"]}), Obligation("other", {"paths": ["b"]})]
    duties = Handlers(writers).open(obligations, REQUEST, (Phase.BEFORE, Phase.AFTER))
    results = []
    for item in "abc":
        call = Call(REQUEST, {}, item, Phase.AFTER)
        results.append(finish(discharge(duties, ALL, call, 9.0, modifiable=False)).result)
    assert results == ["aa", "bb", "cc"]
    assert [len(writer.asked) for writer in writers] == [1, 1]


def test_what_is_barred_stays_so() -> None:
    """What clashed once does not run on the next result."""
    writer = Writer(phase=Phase.AFTER)
    duties = Handlers([writer]).open([Obligation("write", {"paths": ["a"]})] * 2, REQUEST, (Phase.AFTER,))
    for item in "ab":
        finish(discharge(duties, ALL, Call(REQUEST, {}, item, Phase.AFTER), 9.0, modifiable=False))
    assert writer.seen == []
