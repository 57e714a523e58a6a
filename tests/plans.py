"""A driver of plans small enough to be plainly right, for tests of what is below the real ones."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any

from pep.plan import Gather, Invoke, Raised, Reply, Returned, Write


def finish(plan: Generator[Any, Any, Any], steps: list[Any] | None = None) -> Any:
    """Run a plan to its end, each step at once; what it yielded is appended to *steps*."""
    reply: Any = None
    while True:
        try:
            step = plan.send(reply)
        except StopIteration as stop:
            return stop.value
        if steps is not None:
            steps.append(step)
        reply = perform(step)


def perform(step: Any) -> Reply:
    match step:
        case Invoke():
            return answer(step.fn, *step.args)
        case Write():
            return answer(step.sink.record, step.record)
        case Gather():
            return Returned(tuple(answer(finish, plan) for plan in step.plans))
        case _:
            raise AssertionError(step)


def answer(fn: Any, *args: Any) -> Reply:
    try:
        value = fn(*args)
        return Returned(awaited(value) if isinstance(value, Coroutine) else value)
    except Exception as error:  # noqa: BLE001  whatever a fake raises
        return Raised(error)


def awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    message = "a coroutine in these tests may not wait"
    raise AssertionError(message)
