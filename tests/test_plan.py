from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.errors import PDPReplyError
from pep.plan import (
    Begun,
    Dispatch,
    Gather,
    Invoke,
    Launch,
    Plan,
    Raised,
    Returned,
    Sleep,
    Wait,
    Write,
    attempt,
    awaitable,
    begin,
    bounded,
    call,
    contain,
    discard,
    gather,
    having,
    pending,
    sleep,
    unwrap,
)

ERROR = ValueError("told")


def drive(plan: Generator[Any, Any, Any], *replies: Any) -> tuple[list[Any], Any]:
    """Send a plan its replies; return its steps, and what it returned."""
    steps, queue = [], [None, *replies]
    while True:
        try:
            steps.append(plan.send(queue.pop(0)))
        except StopIteration as stop:
            assert queue == []
            return steps, stop.value


def nap(*seconds: float, value: Any = "rested") -> Plan[Any]:
    for some in seconds:
        yield from sleep(some)
    return value


def test_an_attempt_is_one_step() -> None:
    """Calling an extension point is one step that says what, with what, until when, where and as whom."""
    steps, value = drive(attempt(print, 1, 2, deadline=3.0, threaded=True, frame="f"), Returned(4))
    assert [tuple(step) for step in steps] == [(print, (1, 2), 3.0, True, "f", False)]
    assert value == Returned(4)


def test_an_attempt_takes_plans() -> None:
    """Where an extension point returns a plan, its steps run too, bound by the same deadline."""
    steps, value = drive(attempt(print, deadline=3.0), Returned(nap(1, 2)), Returned(None), Returned(None))
    assert [(type(step), step.deadline) for step in steps] == [(Invoke, 3.0), (Sleep, 3.0), (Sleep, 3.0)]
    assert value == Returned("rested")


@pytest.mark.parametrize("deadline", [None, 3.0])
def test_what_is_no_step_is_an_error_of_the_plan(deadline: float | None) -> None:
    """A generator that yields anything else is no plan, and is told so, with a deadline or without."""

    def wrong() -> Generator[Any, Any, None]:
        yield "resource"

    _, value = drive(attempt(print, deadline=deadline), Returned(wrong()))
    assert isinstance(value, Raised)
    assert isinstance(value.error, PDPReplyError)
    assert "a plan must yield steps, not `str`; use `yield from call(...)`" in str(value.error)


def test_what_was_raised_crosses_as_a_value() -> None:
    """An attempt returns an error, a call raises it."""
    assert drive(attempt(print), Raised(ERROR))[1] == Raised(ERROR)
    with pytest.raises(ValueError, match="told"):
        drive(call(print), Raised(ERROR))
    steps, value = drive(call(print, 1, deadline=2.0, threaded=True), Returned(3))
    assert [tuple(step) for step in steps] == [(print, (1,), 2.0, True, None, False)]
    assert value == 3


def test_side_by_side_is_one_step() -> None:
    """Plans side by side are one step, and their replies come in the order of the plans."""
    plans = (nap(1), nap(2))
    steps, value = drive(gather(*plans, deadline=5.0), Returned((Returned(1), Raised(ERROR))))
    assert [tuple(step) for step in steps] == [(plans, 5.0, False)]
    assert value == (Returned(1), Raised(ERROR))


@pytest.mark.parametrize("error", [ValueError("x"), StopIteration("x"), RecursionError()])
def test_containing_turns_errors_into_values(error: Exception) -> None:
    """Whatever a plan raises comes back as a value; a `StopIteration` of a user's ends no plan."""

    def failing() -> Plan[None]:
        yield from sleep(0)
        raise error

    for plan in (contain(failing()), contain(failing(), 1.0)):
        _, value = drive(plan, Returned(None))
        assert isinstance(value, Raised)
        assert error in (value.error, value.error.__cause__)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_containing_lets_the_rest_through(error: type[BaseException]) -> None:
    """Running out of memory and being told to stop are nobody's answer."""

    def failing() -> Plan[None]:
        yield from sleep(0)
        raise error

    with pytest.raises(error):
        drive(contain(failing()), Returned(None))


def test_a_plan_that_was_begun_goes_on_from_its_first_step() -> None:
    """A plan without a step has ended; another is bound from its first step on, and closed with what goes on."""
    assert begin(ended(1)) == Returned(1)
    assert begin(failing_at_once(ERROR)) == Raised(ERROR)
    begun = begin(call(print))
    assert isinstance(begun, Begun)
    (step,), value = drive(bounded(begun, 1.0), Returned("came"))
    assert (step.deadline, value) == (1.0, "came")
    again = begin(call(print))
    going = bounded(again, 1.0)
    next(going)
    going.close()
    assert isinstance(again, Begun)
    assert again.plan.gi_frame is None


def test_a_plan_that_was_begun_is_checked_from_its_first_step() -> None:
    """What is no step is refused, `None` too."""

    def careless() -> Plan[None]:
        yield None  # type: ignore[misc]

    with pytest.raises(PDPReplyError):
        drive(bounded(begin(careless()), 1.0))  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_beginning_lets_the_rest_through(error: type[BaseException]) -> None:
    """Running out of memory and being told to stop are nobody's answer, at the first step either."""
    with pytest.raises(error):
        begin(failing_at_once(error()))


def ended(value: Any) -> Plan[Any]:
    yield from ()
    return value


def failing_at_once(error: BaseException) -> Plan[None]:
    yield from ()
    raise error


STEPS: list[Callable[[float | None], Any]] = [
    lambda deadline: Invoke(print, (), deadline),
    lambda deadline: Write(None, None, deadline),
    lambda deadline: Sleep(1.0, deadline),
    lambda deadline: Gather((), deadline),
]


@given(st.sampled_from(STEPS), st.none() | st.floats(0, 10), st.none() | st.floats(0, 10))
def test_a_bound_is_never_later(make: Any, own: float | None, bound: float | None) -> None:
    """A bound plan's steps end at the sooner of two deadlines; nothing else about them changes."""

    def plan() -> Plan[Any]:
        return (yield make(own))

    steps, value = drive(bounded(plan(), bound), "reply")
    assert steps[0].deadline == min((one for one in (own, bound) if one is not None), default=None)
    assert steps[0]._replace(deadline=own) == make(own)
    assert value == "reply"


def test_protected_code_is_under_no_deadline() -> None:
    """A bound does not reach what is protected."""
    step = Dispatch(print, (), {})

    def plan() -> Plan[Any]:
        return (yield step)

    assert drive(bounded(plan(), 1.0), 2) == ([step], 2)


@pytest.mark.parametrize("wrap", [lambda plan: bounded(plan, 1.0), lambda plan: bounded(plan, None), contain])
def test_closing_closes_what_is_inside(wrap: Any) -> None:
    """A plan that is closed half-way closes the plans it runs."""
    seen: list[str] = []

    def plan() -> Plan[None]:
        try:
            yield from sleep(1)
        finally:
            seen.append("closed")

    outer = wrap(plan())
    next(outer)
    outer.close()
    assert seen == ["closed"]


def test_unwrapping_gives_the_value_or_raises() -> None:
    """A reply is unwrapped into what it carries."""
    assert unwrap(Returned(1)) == 1
    with pytest.raises(ValueError, match="told"):
        unwrap(Raised(ERROR))


def test_sleeping_raises_what_went_wrong() -> None:
    """Sleep that was cut short is an error of whoever slept."""
    with pytest.raises(ValueError, match="told"):
        drive(sleep(1), Raised(ERROR))


# --- what is still to be had -----------------------------------------------------------------------------


async def coroutine() -> None:
    """Do nothing."""


class Closing:
    """Counts how often it was closed or cancelled, and fails at it."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def close(self) -> None:
        self.ended.append("closed")
        raise RuntimeError


class Cancelling:
    """The same, for what can only be cancelled."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def cancel(self) -> None:
        self.ended.append("cancelled")


def test_an_awaitable_nobody_awaits_is_closed() -> None:
    """Closed or cancelled, or left alone where it knows neither; failing at it is no news."""
    discard(coroutine())
    closing, cancelling = Closing(), Cancelling()
    discard(closing)
    discard(cancelling)
    discard(object())
    assert (closing.ended, cancelling.ended) == (["closed"], ["cancelled"])


def test_what_must_be_awaited_is_told_by_its_class() -> None:
    """An attribute of the object is not enough, as for the language."""
    made = coroutine()
    assert awaitable(made)
    made.close()
    plain = Closing()
    plain.__await__ = lambda: iter(())  # type: ignore[attr-defined]
    assert not awaitable(plain)


def planned() -> Plan[int]:
    return (yield from call(print))


def test_what_is_still_to_be_had() -> None:
    """A plan or an awaitable is; a value or an error is not."""
    made, plan = coroutine(), planned()
    assert pending(Returned(made))
    assert pending(Returned(plan))
    assert not pending(Returned(3))
    assert not pending(Raised(ERROR))
    made.close()


def test_having_what_is_still_to_be_had() -> None:
    """A plan is run with every step bound; an awaitable is handed on, once, for the performer to await."""
    steps, value = drive(having(planned(), 2.0), Returned(4))
    assert value == Returned(4)
    assert [step.deadline for step in steps] == [2.0]
    made = coroutine()
    plan = having(made, 3.0)
    step = plan.send(None)
    assert (step.fn(), step.deadline) == (made, 3.0)
    with pytest.raises(StopIteration) as ended:
        plan.send(Returned(5))
    assert ended.value.value == Returned(5)
    made.close()


def test_what_nobody_comes_to_await_is_closed() -> None:
    """Not once it was handed on: then it is somebody else's."""
    closing = Closing()
    plan = having(closing, None)
    plan.send(None)
    plan.close()
    assert closing.ended == ["closed"]
    plan = having(closing, None)
    plan.send(None).fn()
    plan.close()
    assert closing.ended == ["closed"]


@pytest.mark.parametrize("make", [lambda: Launch(iter(()), None), lambda: Wait(None)])  # type: ignore[arg-type]
def test_flights_too_are_bound_by_a_sooner_deadline(make: Callable[[], Any]) -> None:
    """Every step of a plan ends with the plan: to launch and to wait as well."""

    def plan() -> Any:
        yield make()

    step = next(bounded(plan(), 3.0))
    assert (type(step), step.deadline) == (type(make()), 3.0)
