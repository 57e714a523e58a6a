from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.errors import ConfigurationError, ObligationError
from pep.model import Obligation
from pep.obligations.budget import Budget, Run, run
from pep.protocols import Call, ObligationHandler, Phase, Rank
from tests.obligations.calling import BOB, CANARY, NAN, call_of, discharged, forged, permit, refused, worlds
from tests.proving import times
from tests.scenes import Scene

HANDLER = Budget()
CALL = call_of()


def budget(limit: int = 3, name: str = "tools", **properties: Any) -> Obligation:
    return Obligation("budget", {"name": name, "limit": limit, **properties})


THREE = budget()


def spends(obligation: Obligation = THREE, call: Call = CALL, world: str = "sync") -> bool:
    """Draw once; tell whether it could be had."""
    try:
        return discharged(HANDLER, obligation, call, world) is call
    except ObligationError as error:
        if "cannot be drawn from" in str(error):
            return False
        raise


def test_it_is_a_handler_that_counts() -> None:
    """It acts before the code, among those that consume."""
    assert isinstance(HANDLER, ObligationHandler)
    assert (set(HANDLER.types), HANDLER.phase, HANDLER.rank) == ({"budget"}, Phase.BEFORE, Rank.COUNT)


@worlds
def test_a_run_spends_what_it_may(world: str) -> None:
    """All calls of a run share one allowance, whoever acts; another run has its own."""
    for _ in range(2):
        with run() as spent:
            assert [spends(world=world) for _ in range(2)] == [True, True]
            assert spends(call=call_of(BOB, action="other"), world=world)
            assert not spends(world=world)
            assert spends(budget(name="tokens"), world=world)
            assert (spent.spent("tools"), spent.spent("tokens"), spent.spent("else")) == (3, 1, 0)


@worlds
def test_outside_of_every_run_nothing_is_spent(world: str) -> None:
    """A call that nobody bounds is denied, not unbounded."""
    assert "needs a run" in refused(HANDLER, THREE, CALL, world)


@worlds
def test_a_cost_may_be_anywhere_in_the_call(world: str) -> None:
    """A call costs a fixed number, or what an argument says; what is refused costs nothing."""
    with run() as spent:
        assert spends(budget(cost=2), world=world)
        assert not spends(budget(cost=2), world=world)
        assert spends(budget(cost="arguments.n"), call_of(arguments={"n": 1}), world)
        assert spent.spent("tools") == 3
        for wrong in (0, -1, True, 1.0, "1", None, CANARY):
            assert "`cost`" in refused(HANDLER, budget(9, cost="arguments.n"), call_of(arguments={"n": wrong}), world)
        assert "`cost`" in refused(HANDLER, budget(9, cost="arguments.n"), CALL, world)
        assert spent.spent("tools") == 3


def test_the_limit_is_the_obligation_s_of_now() -> None:
    """What was spent is the run's; how much may be, each decision says."""
    with run():
        assert spends(budget(1))
        assert not spends(budget(1))
        assert spends(budget(2))
        assert not spends(budget(1))


def test_a_run_inside_draws_from_both() -> None:
    """What a sub-agent spends is spent for whoever started it, and it never has more than is left there."""
    with run() as outer:
        assert spends()
        with run() as inner:
            assert spends()
            assert (inner.spent("tools"), outer.spent("tools")) == (1, 2)
        with run({"tools": 1}) as narrow:
            assert spends()
            assert not spends(budget(9))
            assert narrow.spent("tools") == 1
        assert outer.spent("tools") == 3
        with run():
            assert not spends()
        assert spends(budget(4))


def test_a_draw_is_all_or_nothing() -> None:
    """Where one of the runs around has too little left, none of them spends."""
    with run() as outer, run({"tools": 1}) as inner:
        assert not spends(budget(9, cost=2))
        assert (outer.spent("tools"), inner.spent("tools")) == (0, 0)
        assert spends(budget(9))


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("draw"), st.integers(1, 4), st.integers(1, 12)),
            st.tuples(st.just("enter"), st.integers(1, 12), st.just(0)),
            st.tuples(st.just("leave"), st.just(0), st.just(0)),
            st.tuples(st.just("kill"), st.integers(0, 3), st.just(0)),
        ),
        max_size=40,
    )
)
def test_runs_equal_a_plain_model(acts: list[tuple[str, int, int]]) -> None:
    """Whatever runs are entered, left and killed, a draw passes exactly where all of them allow it."""
    runs: list[tuple[Run, dict[str, int]]] = []
    try:
        for act, first, second in acts:
            if act == "enter":
                runs.append((run({"tools": first}).__enter__(), {"most": first, "spent": 0, "dead": 0}))
            elif act == "leave" and runs:
                runs.pop()[0].__exit__(None, None, None)
            elif act == "kill" and runs:
                entered, model = runs[first % len(runs)]
                entered.kill()
                model["dead"] = 1
            elif act == "draw" and runs:
                models = [model for _, model in runs]
                fits = all(not m["dead"] and m["spent"] + first <= min(m["most"], second) for m in models)
                assert spends(budget(second, cost=first)) == fits
                for model in models:
                    model["spent"] += first if fits else 0
        assert [entered.spent("tools") for entered, _ in runs] == [model["spent"] for _, model in runs]
    finally:
        for entered, _ in reversed(runs):
            entered.__exit__(None, None, None)


@worlds
def test_a_run_that_has_ended_spends_nothing(world: str) -> None:
    """A context that outlives the block has nothing left, whatever runs it begins."""
    with run() as ended:
        assert spends(world=world)
        copied = contextvars.copy_context()
    assert "has ended" in copied.run(refused, HANDLER, THREE, CALL, world)
    assert repr(ended) == "<Run that has ended>"
    assert not copied.run(HANDLER.holds, THREE, CALL, 0.0)

    def again() -> None:
        with run():
            assert "has ended" in refused(HANDLER, THREE, CALL, world)

    copied.run(again)


def test_tasks_and_threads_in_its_context_share_it() -> None:
    """Tasks inherit the run, and threads that are started in a copy of the context."""

    async def tasks() -> list[bool]:
        async def one() -> bool:
            await asyncio.sleep(0)
            return HANDLER.discharge(THREE, CALL) is CALL

        return [
            isinstance(came, bool) for came in await asyncio.gather(*[one() for _ in range(5)], return_exceptions=True)
        ]

    with run():
        assert sorted(asyncio.run(tasks())) == [False, False, True, True, True]
    with run(), ThreadPoolExecutor(2) as pool:
        copies = [contextvars.copy_context() for _ in range(5)]
        assert sorted(pool.map(lambda copy: copy.run(spends), copies)) == [False, False, True, True, True]
        with pytest.raises(ObligationError, match="needs a run"):
            pool.submit(HANDLER.discharge, THREE, CALL).result()


@worlds
def test_a_killed_run_spends_nothing(world: str) -> None:
    """The kill switch ends a run and every run in it, at once and for good; those around it go on."""
    with run() as outer:
        with run() as middle, run() as inner:
            assert spends(world=world)
            assert HANDLER.holds(THREE, CALL, 0.0)
            elsewhere = threading.Thread(target=middle.kill)
            elsewhere.start()
            elsewhere.join()
            assert "was killed" in refused(HANDLER, THREE, CALL, world)
            assert not HANDLER.holds(THREE, CALL, 0.0)
            assert (outer.killed, middle.killed, inner.killed) == (False, True, False)
            with run():
                assert "was killed" in refused(HANDLER, THREE, CALL, world)
        assert middle.killed
        assert spends(world=world)
        assert HANDLER.holds(THREE, CALL, 0.0)
    assert not HANDLER.holds(THREE, CALL, 0.0)


def test_a_run_killed_before_it_begins_never_does() -> None:
    """Whoever pulls the switch early is not forgotten."""
    spent = run()
    assert repr(spent) == "<Run that has not begun>"
    spent.kill()
    with spent:
        assert "was killed" in refused(HANDLER, THREE, CALL)


def test_a_signal_handler_may_kill() -> None:
    """A switch pulled in the midst of a draw of its own thread does not wait for it, and ends what comes next."""

    class Pulling(dict[str, int]):
        def get(self, name: str, default: Any = None) -> Any:
            spent.kill()
            return super().get(name, default)

    with run() as spent:
        assert repr(spent) == "<Run that is open>"
        spent._purse.spent = Pulling()
        HANDLER.discharge(THREE, CALL)
        assert spent.killed
        refused(HANDLER, THREE, CALL)


@pytest.mark.parametrize("around", [False, True])
def test_nobody_draws_in_the_midst_of_a_draw(around: bool) -> None:
    """Code that interrupts its own thread in a draw is refused there, also by the runs around: one lock for all."""
    tries = []

    class Interrupting(dict[str, int]):
        def get(self, name: str, default: Any = None) -> Any:
            if not tries:
                tries.append(None)
                with pytest.raises(ObligationError, match="interrupted"):
                    (outer if around else inner)._purse.draw("tools", 1, 3)
            return super().get(name, default)

    with run() as outer, run() as inner:
        inner._purse.spent = Interrupting()
        assert spends(budget(1))
        assert not spends(budget(1))
        assert tries


def test_a_run_is_entered_once() -> None:
    """Entered again it would begin anew what was spent."""
    with run() as spent:
        with pytest.raises(ConfigurationError, match="entered already"), spent:
            pass
        assert spends()
    with pytest.raises(ConfigurationError, match="entered already"), spent:
        pass


def test_left_in_another_context_it_has_ended() -> None:
    """A context that cannot be put right keeps a run that has ended."""
    spent = run()
    elsewhere = contextvars.copy_context()
    elsewhere.run(spent.__enter__)
    assert elsewhere.run(spends)
    spent.__exit__(None, None, None)
    assert not elsewhere.run(spends)
    never = run()
    never.__exit__(None, None, None)
    assert "ended" in repr(never)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_has_nothing_to_spend() -> None:
    """A copy of an allowance would be another one."""
    with run():
        assert spends()
        child = os.fork()
        if not child:
            try:
                with pytest.raises(ObligationError, match="another process"):
                    HANDLER.discharge(THREE, CALL)
                assert not HANDLER.holds(THREE, CALL, 0.0)
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert spends()


@pytest.mark.parametrize("limits", [{"": 1}, {1: 1}, {"a": 0}, {"a": True}, {"a": 1.0}, {"a": NAN}, ["a"], 5, None])
def test_what_a_run_is_made_of_is_checked(limits: Any) -> None:
    """A wrong limit is found where it is written."""
    with pytest.raises(ConfigurationError, match="`limits`"):
        run(limits)


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"limit": 3}, "name"),
    ({"name": "tools"}, "limit"),
    *[({"name": wrong, "limit": 3}, "name") for wrong in (None, "", 1, True, (CANARY,))],
    *[
        ({"name": "tools", "limit": wrong}, "limit")
        for wrong in (None, 0, -1, 1.0, NAN, True, "3", "3/minute", CANARY, (3,))
    ],
    *[
        ({"name": "tools", "limit": 3, "cost": wrong}, "cost")
        for wrong in (None, 0, -1, 1.0, NAN, True, "", CANARY, "arguments", (1,))
    ],
    ({"name": "tools", "limit": 3, "max": CANARY}, "max"),
]


@pytest.mark.parametrize(("properties", "named"), MALFORMED)
@worlds
def test_malformed_properties_fail_closed(properties: dict[str, Any], named: str, world: str) -> None:
    """A budget that cannot be read bounds nothing, and lets nothing through."""
    with run():
        assert f"`{named}`" in refused(HANDLER, forged("budget", properties), CALL, world)


def test_eight_threads_never_overdraw() -> None:
    """Whatever is drawn at once from runs within runs, exactly the allowance is spent."""
    limit, spent_by = times(400, 8_000), []

    def spend(_thread: int) -> None:
        with run() as own:
            for number in range(limit):
                if not spends(budget(limit, cost=1 + number % 3)) and not spends(budget(limit)):
                    break
            spent_by.append(own.spent("tools"))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with run() as outer, ThreadPoolExecutor(8) as pool:
            copies = [contextvars.copy_context() for _ in range(8)]
            list(pool.map(lambda copy: copy.run(spend, 0), copies))
    finally:
        sys.setswitchinterval(before)
    assert outer.spent("tools") == sum(spent_by) == limit


def test_of_two_at_once_the_last_unit_lets_one_through() -> None:
    """Two calls race for the last unit of a run: exactly one passes, every time."""
    rounds, gate = times(150, 10_000), threading.Barrier(2)

    def racing(_thread: int) -> list[bool]:
        passed = []
        for number in range(rounds):
            gate.wait()
            passed.append(spends(budget(1, name=str(number))))
        return passed

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with run(), ThreadPoolExecutor(2) as pool:
            copies = [contextvars.copy_context() for _ in range(2)]
            one, other = pool.map(lambda copy: copy.run(racing, 0), copies)
    finally:
        sys.setswitchinterval(before)
    assert [a + b for a, b in zip(one, other, strict=True)] == [1] * rounds


@worlds
def test_a_loop_is_stopped_by_its_budget(world: str) -> None:
    """A tool-calling loop runs as often as its run may, and not once more; killed, not at all."""
    scene = Scene(world, permit(THREE), obligations=[Budget()])
    with run():
        told = [scene.edit().told for _ in range(5)]
    assert told == [("returned", None)] * 3 + [("denied", "obligation")] * 2
    with run() as spent:
        assert scene.edit().told == ("returned", None)
        spent.kill()
        assert scene.edit().told == ("denied", "obligation")
    assert scene.edit().told == ("denied", "obligation")
    assert len(scene.ran) == 4


@worlds
def test_nested_calls_share_the_run(world: str) -> None:
    """What a guarded call calls draws from the same allowance."""
    told = []

    def inner(_title: str) -> None:
        told.append(nested.edit().told[0])

    nested = Scene("sync", permit(THREE), obligations=[Budget()])
    outer = Scene(world, permit(THREE), obligations=[Budget()], body=inner if world == "sync" else None)
    with run() as spent:
        outer.edit()
        if world == "async":
            inner("")
        outer.edit()
    assert spent.spent("tools") == 3
    assert told[0] == "returned"
