"""Kinds of callable that a guard gets wrong."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any, Final

import pytest

from pep import (
    acting_as,
)
from pep.errors import (
    ConfigurationError,
)
from tests.footguns.traps import (
    BY_ID,
    DOC,
    AsyncCall,
    Trap,
    agread,
    aread,
    denied,
    each,
    gread,
    kind_is_kept,
    read,
)
from tests.guard.rigs import ALICE, SHAPES, Rig, wait


def shifted_arguments(guard_first: bool, through: str, kind: type, fn: Any) -> None:
    """A guard over `staticmethod` or `classmethod`: called through an instance, `self` becomes the resource."""
    rig = Rig()
    guard = rig.enforcer.guard("read", resource=BY_ID)

    def of_class(cls: object, document_id: str) -> Any:
        return fn(document_id)

    inner = of_class if kind is classmethod else fn
    made = kind(guard(inner)) if guard_first else guard(kind(inner))
    library = type("Library", (), {"read": made})
    call = (library if through == "class" else library()).read
    for answer in (True, False):
        rig.answer = answer
        with acting_as(ALICE), contextlib.nullcontext() if answer else denied():
            result = call("42")
            assert (wait(result) if inspect.iscoroutine(result) else result) == "42"
    assert [request.resource for request in rig.asked] == [DOC, DOC]


def accessors(access: Callable[[Any], Any], action: str) -> None:
    """Property accessors: guarded together, or yielding a truthy bound method."""
    rig = Rig(False)
    guard = rig.enforcer.guard

    class Document:
        @property
        @guard("read")
        def title(self) -> str:
            rig.ran.append("read")
            return "title"

        @title.setter
        @guard("write")
        def title(self, value: str) -> None:
            rig.ran.append("write")

        @title.deleter
        @guard("delete")
        def title(self) -> None:
            rig.ran.append("delete")

    with acting_as(ALICE):
        with denied():
            access(Document())
        assert rig.ran == []
        rig.answer = True
        assert not callable(access(Document()))
    assert rig.ran == [action]
    assert [request.action.name for request in rig.asked] == [action, action]


def an_open_setter_is_told() -> None:
    """Property accessors: the setter beside a guarded getter is unguarded, and nobody notices."""
    enforcer = Rig().enforcer
    with pytest.raises(ConfigurationError, match=r"`title\.setter` is neither guarded nor exempt"):

        @enforcer.all_guarded
        class Document:
            @property
            @enforcer.guard("read")
            def title(self) -> str:
                return "title"

            @title.setter
            def title(self, value: str) -> None: ...


def unwrapped(shape: str) -> None:
    """`__wrapped__` and `inspect.unwrap`: they lead to the original."""
    rig = Rig(False)
    made: list[Any] = []
    guard = rig.enforcer.guard("read", resource=BY_ID)

    def keep(target: Any) -> Any:
        made.append(guard(target))
        return made[-1]

    SHAPES[shape](keep, rig.ran)
    for one in made:
        functions = [getattr(one, name, None) for name in ("__func__", "fget", "func", "__init__")]
        for fn in (one, *functions):
            if inspect.isfunction(fn):
                assert not hasattr(fn, "__wrapped__")
                assert inspect.unwrap(fn) is fn
                assert "__signature__" in vars(fn)


def guarded_class() -> None:
    """A guarded class that turns into a function."""
    rig = Rig(False)

    @rig.enforcer.guard("create")
    class Document:
        def __init__(self) -> None:
            rig.ran.append("made")

    assert isinstance(Document, type)
    with acting_as(ALICE), denied():
        Document()
    assert rig.ran == []


def guarded_instance() -> None:
    """A guard on an instance whose `__call__` Python looks up on its class: ignored."""
    with pytest.raises(ConfigurationError, match="or on its class's `__call__`"):
        Rig().enforcer.guard("read")(AsyncCall())


TRAPS: Final[dict[int, list[Trap]]] = {
    1: [
        Trap(
            shifted_arguments,
            {
                f"{order} {through} {fn.__name__}": (order == "guard below", through, staticmethod, fn)
                for order in ("guard below", "guard above")
                for through in ("class", "instance")
                for fn in (read, aread)
            },
        )
    ],
    2: [
        Trap(
            shifted_arguments,
            {
                f"{order} {through} {fn.__name__}": (order == "guard below", through, classmethod, fn)
                for order in ("guard below", "guard above")
                for through in ("class", "instance")
                for fn in (read, aread)
            },
        ),
        Trap(
            accessors,
            {
                "get": (lambda one: one.title, "read"),
                "set": (lambda one: setattr(one, "title", "x"), "write"),
                "delete": (lambda one: delattr(one, "title"), "delete"),
            },
        ),
        Trap(an_open_setter_is_told, {"setter": ()}),
    ],
    3: [Trap(kind_is_kept, each(read, aread, gread, agread))],
    14: [Trap(unwrapped, each(*SHAPES))],
    37: [Trap(guarded_class, {"class": ()}), Trap(guarded_instance, {"instance": ()})],
}
