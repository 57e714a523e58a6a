"""Ways around a guard."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import pickle
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from pep import (
    Enforcer,
)
from pep.errors import (
    ConfigurationError,
    GuardWarning,
)
from pep.guard.coverage import coverage
from tests.footguns.traps import (
    DOC,
    Trap,
    aread,
    each,
    read,
)
from tests.guard.rigs import ALICE, Rig
from tests.guard.samples import importable


def overrides(build: Callable[[Enforcer, type], Any]) -> None:
    """Overrides, abstract methods and protocols: the guard is lost in the subclass."""
    enforcer = Rig().enforcer

    @enforcer.all_guarded
    class Library:
        @enforcer.guard("read")
        def read(self) -> None: ...

    with pytest.raises(ConfigurationError, match="is not all guarded; mend these"):
        build(enforcer, Library)


def plain_override(_enforcer: Enforcer, base: type) -> Any:
    return type("Sub", (base,), {"read": lambda _self: None})


def cooperating_override(_enforcer: Enforcer, base: Any) -> Any:
    class Sub(base):  # type: ignore[misc]
        def read(self) -> None:
            super().read()

    return Sub


def mixed_in_override(_enforcer: Enforcer, base: type) -> Any:
    mixin = type("Mixin", (), {"read": lambda _self: None})
    return type("Sub", (mixin, base), {})


def new_open_method(_enforcer: Enforcer, base: type) -> Any:
    return type("Sub", (base,), {"write": lambda _self: None})


def exempt_override(enforcer: Enforcer, base: type) -> Any:
    return type("Sub", (base,), {"read": enforcer.exempt(reason="open")(lambda _self: None)})


def conflicting_guards(enforcer: Enforcer, base: type) -> Any:
    other = enforcer.all_guarded(type("Other", (), {"read": enforcer.guard("see")(lambda _self: None)}))
    return type("Sub", (base, other), {})


def overridden_property(enforcer: Enforcer, _base: type) -> Any:
    first = type("First", (), {"title": property(enforcer.guard("read")(lambda _self: None))})
    return type("Sub", (enforcer.all_guarded(first),), {"title": property(lambda _self: None)})


def overridden_construction() -> None:
    """A guarded construction that a subclass replaces."""
    guarded = Rig().enforcer.guard("create")(type("Document", (), {}))
    with pytest.raises(ConfigurationError, match="replaces the guarded construction"):
        type("Sub", (guarded,), {"__init__": lambda _self: None})


def registered_below(files: dict[str, str], told: str) -> None:
    """Registered under the guard: the framework holds the raw function."""
    with importable_here(files):
        with pytest.raises(ConfigurationError) as caught:
            coverage("below")
        assert told in str(caught.value)


def reachable_raw(files: dict[str, str], told: str) -> None:
    """Implementations, aliases and partials that hold the raw function: it is reachable."""
    with importable_here(files):
        found = coverage("around")
        listed = {entry.name: entry.note for entry in (*found.unguarded, *found.warnings)}
        assert told in listed, listed
        assert not found.complete or found.warnings


HEAD: Final = """
import functools
from pep import Enforcer
enforcer = Enforcer.unbound("sample")
guard = enforcer.guard
"""


@contextlib.contextmanager
def importable_here(files: dict[str, str]) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder, importable(Path(folder)) as write:
        write({name: HEAD + text for name, text in files.items()})
        yield


def pickled(make: Callable[[], Any], error: type[Exception]) -> None:
    """Pickling: the other process runs the unguarded function, or holds a permit nobody gave it."""
    value = make()
    for send in (pickle.dumps, *([] if inspect.isfunction(value) else [copy.copy, copy.deepcopy])):
        with pytest.raises(error):
            send(value)


@Rig().enforcer.guard("read")
def pickles_to_itself(document_id: str) -> str:
    return document_id


def pickles(value: Any) -> None:
    """Pickling: the other process runs the unguarded function."""
    assert pickle.loads(pickle.dumps(value)) is value  # noqa: S301  pickled here
    assert copy.deepcopy(value) is value


def cached_outside(files: dict[str, str]) -> None:
    """A cache outside the guard: the revoked are served."""
    with importable_here(files), pytest.warns(GuardWarning, match="serves the revoked"):
        coverage("cached")


def cached_property_outside() -> None:
    """`cached_property` outside the guard: the revoked are served."""
    with pytest.raises(ConfigurationError, match="a cached property would serve the revoked"):
        Rig().enforcer.guard("read")(functools.cached_property(lambda _self: 1))


def _module(name: str, text: str) -> dict[str, str]:
    return {f"{name}/__init__.py": text}


TRAPS: Final[dict[int, list[Trap]]] = {
    13: [
        Trap(
            overrides,
            each(
                plain_override,
                cooperating_override,
                mixed_in_override,
                new_open_method,
                exempt_override,
                conflicting_guards,
                overridden_property,
            ),
        ),
        Trap(overridden_construction, {"construction": ()}),
    ],
    15: [
        Trap(
            registered_below,
            {
                "FastAPI": (
                    _module(
                        "below",
                        "from fastapi import FastAPI\napp = FastAPI()\n@guard('r')\n@app.get('/')\ndef f(): ...\n",
                    ),
                    "`@app.get` below the guard registers the unguarded `f`",
                ),
                "Starlette": (
                    _module(
                        "below",
                        "from fastapi import APIRouter\nrouter = APIRouter()\n"
                        "@guard('r')\n@router.websocket('/')\nasync def f(): ...\n",
                    ),
                    "`@router.websocket` below the guard registers the unguarded `f`",
                ),
                "click": (
                    _module("below", "import click\n@guard('r')\n@click.command()\ndef f(): ...\n"),
                    "a `Command` cannot be guarded",
                ),
            },
        )
    ],
    16: [
        Trap(
            reachable_raw,
            {
                "alias": (_module("around", "def f(): ...\ng = guard('r')(f)\n"), "around.f"),
                "partial": (
                    _module("around", "def _f(): ...\np = functools.partial(_f)\nf = guard('r')(_f)\n"),
                    "around.p",
                ),
                "implementation": (
                    _module(
                        "around",
                        "@guard('r')\n@functools.singledispatch\ndef f(x): ...\n@f.register\ndef g(x: int): ...\n",
                    ),
                    "around.g",
                ),
            },
        )
    ],
    17: [
        Trap(
            pickled,
            {
                "renamed": (lambda: Rig().enforcer.guard("read")(read), pickle.PicklingError),
                "renamed coroutine function": (lambda: Rig().enforcer.guard("read")(aread), pickle.PicklingError),
                "grant": (lambda: Rig().enforcer.enforce("read", DOC, subject=ALICE), TypeError),
                "verdict": (lambda: Rig().enforcer.check("read", DOC, subject=ALICE), TypeError),
            },
        ),
        Trap(pickles, each(pickles_to_itself)),
    ],
    18: [
        Trap(
            cached_outside,
            {
                name: (_module("cached", f"@{name}\n@guard('r')\ndef f(x): ...\n"),)
                for name in ("functools.lru_cache", "functools.lru_cache(maxsize=3)", "functools.cache")
            },
        ),
        Trap(cached_property_outside, {"cached_property": ()}),
    ],
}
