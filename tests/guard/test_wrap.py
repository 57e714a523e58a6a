"""Wrappers: what a call goes through on its way to protected code."""

from __future__ import annotations

import functools
import inspect
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import pep.guard.wrap
from pep import AccessDenied, acting_as
from pep.guard.wrap import partial_of
from pep.testing import FakeHandler
from tests.guard.rigs import ALICE, Rig, wait


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """A signature as text, and a call that fits it or does not."""
    names = draw(st.lists(st.sampled_from("abcdef"), unique=True, max_size=5))
    cut = draw(st.integers(0, len(names)))
    only = draw(st.integers(0, cut))
    defaults = draw(st.integers(0, cut))
    parts = [name if index < cut - defaults else f"{name}={index}" for index, name in enumerate(names[:cut])]
    if only:
        parts.insert(only, "/")
    if draw(st.booleans()):
        parts.append("*args")
    elif names[cut:]:
        parts.append("*")
    parts += [f"{name}=None" if draw(st.booleans()) else name for name in names[cut:]]
    if draw(st.booleans()):
        parts.append("**kwargs")
    args = tuple(draw(st.lists(st.integers(), max_size=5)))
    kwargs = draw(st.dictionaries(st.sampled_from("abcdefxyz"), st.integers(), max_size=4))
    return ", ".join(parts), args, kwargs


def outcome(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return fn(*args, **kwargs)
    except TypeError:
        return TypeError


@given(calls())
@example(("a=0, /, b=1, **kwargs", (), {"a": 5}))
@example(("a, /, **kwargs", (1,), {"a": 5, "x": 6}))
def test_arguments_arrive_as_they_were_given(call: tuple[str, tuple[Any, ...], dict[str, Any]]) -> None:
    """A guarded function takes what the function takes, refuses what it refuses, and sees the same."""
    signature, args, kwargs = call
    place: dict[str, Any] = {}
    exec(f"def fn({signature}): return locals()", place)  # noqa: S102  any signature
    fn = place["fn"]
    rig = Rig()
    with acting_as(ALICE):
        assert outcome(rig.enforcer.guard("read")(fn), args, kwargs) == outcome(fn, args, kwargs)
    assert len(rig.asked) == (outcome(fn, args, kwargs) is not TypeError)


@given(calls())
@example(("a=0, /, b=1, **kwargs", (), {"a": 5}))
@example(("a, /, **kwargs", (1,), {"a": 5, "x": 6}))
def test_changed_arguments_arrive_changed(call: tuple[str, tuple[Any, ...], dict[str, Any]]) -> None:
    """What an obligation put in place of an argument is what the code runs with, whatever its kind."""
    signature, args, kwargs = call
    place: dict[str, Any] = {}
    exec(f"def fn({signature}): return locals()", place)  # noqa: S102  any signature
    fn = place["fn"]
    plain = outcome(fn, args, kwargs)
    single = [name for name in inspect.signature(fn).parameters if name not in {"args", "kwargs"}]
    if plain is TypeError or not single:
        return
    handler = FakeHandler("set", does=lambda call: call.with_arguments(**{single[0]: "changed"}))
    rig = Rig(obligations=[handler])
    rig.oblige("set")
    with acting_as(ALICE):
        assert rig.enforcer.guard("read")(fn)(*args, **kwargs) == {**plain, single[0]: "changed"}


@pytest.mark.parametrize("name", ["self", "cls", "site", "core", "args", "begin", "subject", "action", "wrapper"])
def test_no_parameter_name_collides(name: str) -> None:
    """A function may call its parameters as it likes."""
    place: dict[str, Any] = {}
    exec(f"def fn({name}, **kwargs): return {name}, kwargs", place)  # noqa: S102  any name
    with acting_as(ALICE):
        assert Rig().enforcer.guard("read")(place["fn"])(**{name: 1, "other": 2}) == (1, {"other": 2})


def test_an_error_shows_the_function_in_its_traceback() -> None:
    """What protected code raises is the same exception, from the same line."""

    def fail() -> None:
        raise KeyError

    with acting_as(ALICE), pytest.raises(KeyError) as caught:
        Rig().enforcer.guard("read")(fail)()
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert frames[-1].name == "fail"
    assert frames[-1].filename == __file__
    assert [frame.name for frame in frames].count("fail") == 2


def test_wrappers_work_under_a_tracer() -> None:
    """A debugger or profiler does not change what a guarded coroutine function is."""

    async def read() -> int:
        return 1

    guarded = Rig().enforcer.guard("read")(read)
    seen: list[str] = []
    before = sys.gettrace(), sys.getprofile()
    sys.setprofile(lambda frame, event, _arg: seen.append(f"{event} {frame.f_code.co_name}"))
    try:
        with acting_as(ALICE):
            assert wait(guarded()) == 1
    finally:
        sys.setprofile(before[1])
    assert "call read" in seen
    assert sys.gettrace() is before[0]


def test_guarded_functions_can_be_referred_to_weakly() -> None:
    """As any function can, disguised or not."""
    for flaggable in {False, pep.guard.wrap.FLAGGABLE}:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pep.guard.wrap, "FLAGGABLE", flaggable)

            @Rig().enforcer.guard("read")
            async def read() -> None: ...

            assert weakref.ref(read)() is read


def test_threads_do_not_mix() -> None:
    """Calls of one guarded function from many threads each see their own subject and arguments."""
    rig = Rig()
    read = rig.enforcer.guard("read", resource="document:{name}")(lambda name: name)
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        with acting_as(pep.Subject("user", str(number))):
            for _ in range(20):
                assert read(str(number)) == str(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rig.asked) == 160
    assert all(request.subject.id == request.resource.id for request in rig.asked)


@pytest.mark.parametrize("kind", [functools.partial, functools.partialmethod])
def test_partials_keep_what_they_hold(kind: Any) -> None:
    """Rebuilt around another function, a partial keeps all but the way to the original."""
    part = kind(len, 1, a=2)
    part.note = "kept"
    part.__wrapped__ = len
    made = partial_of(part, max)
    assert (made.func, made.args, made.keywords, made.note) == (max, (1,), {"a": 2}, "kept")
    assert not hasattr(made, "__wrapped__")


def test_a_denial_names_no_function() -> None:
    """The message of a denial tells the record, and nothing about what was called."""

    def secret_name(secret_argument: str) -> None: ...

    with acting_as(ALICE), pytest.raises(AccessDenied) as caught:
        Rig(False).enforcer.guard("read")(secret_name)("secret value")
    assert "secret" not in str(caught.value)
