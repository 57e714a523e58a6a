"""Guards that are written out: they look like the function, and take its calls; see also `test_hot.py`."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pep import Enforcer, Resource, acting_as
from pep.audit import MemorySink
from pep.guard.source import compilable
from tests.guard.rigs import ALICE, wait
from tests.property.test_hot_path import BODIES, SIGNATURES


class Paper:
    """What annotations name; resolved only in this module's globals."""


def plain(paper: Paper, /, size: int = 3, *rest: Paper, colour: str = "red", **more: Paper) -> list[Paper]:
    """Take paper."""
    return [paper, *rest]


async def awaited(paper: Paper, size: int = 3, *, colour: str = "red") -> Paper:
    """Take paper."""
    return paper


def stepped(paper: Paper, size: int = 3, *, colour: str = "red") -> Iterator[Paper]:
    """Take paper."""
    yield paper


def tried(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return fn(*args, **kwargs)
    except TypeError as error:
        return error


def guarded(fn: Callable[..., Any], compiled: bool) -> Any:
    made = Enforcer(lambda _request: True, audit=MemorySink(), compiled=compiled)
    return made.guard("read", resource=Resource("document", "1"))(fn)


# Found by their names, as pickles do.
written_plain, closed_plain = guarded(plain, True), guarded(plain, False)
both = pytest.mark.parametrize("compiled", [True, False], ids=["written out", "closures"])
every = pytest.mark.parametrize("fn", [plain, awaited, stepped], ids=lambda fn: fn.__name__)


@both
@every
def test_a_guard_looks_like_the_function(fn: Any, compiled: bool) -> None:
    """Name, documentation, signature, annotations, globals and kind are the function's; no way around is left."""
    made = guarded(fn, compiled)
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__", "__globals__"):
        assert getattr(made, name) == getattr(fn, name)
    assert not hasattr(made, "__wrapped__")
    assert inspect.signature(made) == inspect.signature(fn)
    assert typing.get_type_hints(made) == typing.get_type_hints(fn)
    for kind in ("iscoroutinefunction", "isgeneratorfunction", "isasyncgenfunction", "isfunction"):
        if hasattr(made, "__code__") and type(made) is type(fn):
            assert getattr(inspect, kind)(made) == getattr(inspect, kind)(fn), kind
    assert asyncio.iscoroutinefunction(made) == asyncio.iscoroutinefunction(fn)


@every
def test_defaults_are_the_function_s(fn: Any) -> None:
    """What is written out has the function's own defaults, whatever kind they are of."""
    made = guarded(fn, True)
    assert (made.__defaults__, made.__kwdefaults__) == (fn.__defaults__, fn.__kwdefaults__)


@pytest.mark.parametrize("made", [written_plain, closed_plain], ids=["written out", "closures"])
def test_a_guard_is_pickled_by_its_name(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard is found again where its function is expected."""
    monkeypatch.setitem(globals(), "plain", made)
    monkeypatch.setitem(__import__("sys").modules, __name__, __import__("types").SimpleNamespace(plain=made))
    assert pickle.loads(pickle.dumps(made)) is made  # noqa: S301  our own


@both
@pytest.mark.parametrize("body", ["function", "coroutine", "generator"])
@pytest.mark.parametrize("signature", SIGNATURES)
def test_wrong_calls_fail_as_the_function_does(signature: str, body: str, compiled: bool) -> None:
    """What a function does not take is its own `TypeError`, at the call; written out, in its own words."""
    place: dict[str, Any] = {"note": lambda values: values, "__name__": "somewhere"}
    exec(BODIES[body].format(name="read", signature=signature), place)  # noqa: S102  any signature
    fn = place["read"]
    made = guarded(fn, compiled)

    def end(call: Any) -> Any:
        return list(call) if body == "generator" else wait(call) if body == "coroutine" else call

    with acting_as(ALICE):
        for args, kwargs in [*SIGNATURES[signature], ((), {}), (tuple(range(9)), {}), ((), {"other": 1})]:
            wanted, found = tried(fn, args, kwargs), tried(made, args, kwargs)
            if isinstance(wanted, TypeError):
                assert type(found) is TypeError
                assert str(found) == str(wanted) or not (compiled and compilable(fn, inspect.signature(fn)))
            else:
                assert end(found) == end(wanted)


def test_a_function_that_hides_its_signature_is_left_to_closures() -> None:
    """What says that it is something else, or takes a name of ours, cannot be written out."""

    def other(_pep_x: int) -> None: ...

    def told(*args: Any) -> None: ...

    told.__signature__ = inspect.signature(plain)  # type: ignore[attr-defined]
    assert compilable(plain, inspect.signature(plain))
    assert not compilable(other, inspect.signature(other))
    assert not compilable(told, inspect.signature(told))
    assert not compilable(len, inspect.signature(len))
