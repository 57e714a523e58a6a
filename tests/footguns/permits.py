"""Permits that nobody gave, and denials that get lost."""

from __future__ import annotations

import ast
import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import pep
from pep import (
    AccessDenied,
    Grant,
    Outcome,
    Verdict,
    acting_as,
)
from pep.errors import (
    ConfigurationError,
)
from tests.footguns.traps import (
    DOC,
    Trap,
    _for,
    denied,
    each,
    read,
)
from tests.guard.rigs import ALICE, Rig, wait


def forged(make: Callable[[Grant], Any]) -> None:
    """A grant that nobody gave: made, changed, copied, or spent before."""
    rig = Rig()
    with acting_as(ALICE):
        grant = rig.enforcer.enforce("read", DOC)
    with pytest.raises((AccessDenied, TypeError, AttributeError)):
        make(grant).use()


def made_up(grant: Grant) -> Any:
    return Grant(grant.verdict, {}, redeem=Rig().enforcer._core.redeem)


def spent(grant: Grant) -> Any:
    grant.use()
    return grant


def retargeted(grant: Grant) -> Any:
    object.__setattr__(grant.verdict, "outcome", Outcome.PERMITTED)
    object.__setattr__(grant, "_redeem", Rig().enforcer._core.redeem)
    return grant


class OwnGrant(Grant):
    pass


def subclassed(grant: Grant) -> Any:
    return OwnGrant(grant.verdict, {}, redeem=grant._redeem)


def a_denied_verdict_is_false(use: Callable[[Verdict], Any]) -> None:
    """A denied decision that is truthy."""
    verdict = Rig(False).enforcer.check(_for("alice"))
    with pytest.raises(TypeError):
        use(verdict)


def swallowed(error: type[BaseException]) -> None:
    """A denial that is also another kind of error, and is swallowed as one."""
    assert not issubclass(AccessDenied, error)
    rig = Rig(False)
    with acting_as(ALICE), pytest.raises(AccessDenied):
        try:
            rig.enforcer.guard("read")(lambda: rig.ran.append("ran"))()
        except error:
            raise AssertionError from None
    assert rig.told() == ["denied"]


def swallowed_by_force(swallow: Callable[[Callable[[], Any]], Any]) -> None:
    """A broad `except`, or a `return` in `finally`: the denial is gone, the record is not."""
    rig = Rig(False)
    with acting_as(ALICE):
        swallow(rig.enforcer.guard("read")(lambda: rig.ran.append("ran")))
    assert (rig.told(), rig.ran) == (["denied"], [])


def by_except(call: Callable[[], Any]) -> None:
    with contextlib.suppress(Exception):
        call()


def by_finally(call: Callable[[], Any]) -> Any:
    namespace: dict[str, Any] = {}
    exec("def run(call):\n    try:\n        call()\n    finally:\n        return None\n", namespace)  # noqa: S102  refused as a literal by linters
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        return namespace["run"](call)


def suppressed_block() -> None:
    """`with enforcing()` inside `suppress`: the body is skipped, and the program goes on."""
    rig = Rig(False)
    with acting_as(ALICE), contextlib.suppress(AccessDenied), rig.enforcer.enforcing("read", DOC) as grant:
        rig.ran.append(grant)
    # What comes next needs the grant, and there is none.
    assert (rig.ran, rig.told()) == ([], ["denied"])
    with pytest.raises(UnboundLocalError):
        grant.use()


def block_suppresses_nothing(error: BaseException) -> None:
    """A block that swallows what its body raises."""
    with acting_as(ALICE), pytest.raises(type(error)), Rig().enforcer.enforcing("read", DOC):
        raise error


def no_assertions() -> None:
    """`assert`: gone under `-O`."""
    source = Path(pep.__file__).parent
    found = [
        path
        for path in source.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert found == []


def nested_denial(shape: str) -> None:
    """An inner denial handled by the outer handler: it becomes a result."""
    rig = Rig(lambda request: request.action.name == "outer")
    inner = rig.enforcer.guard("inner")(lambda: rig.ran.append("ran"))
    handled: list[Any] = []
    outer = rig.enforcer.guard("outer", on_denied=handled.append)
    if shape == "function":
        call = outer(lambda: inner())
    elif shape == "coroutine":

        @outer
        async def nested() -> None:
            inner()

        def call() -> Any:
            return wait(nested())

    else:

        @outer
        def steps() -> Iterator[Any]:
            yield inner()

        def call() -> Any:
            return list(steps())

    with acting_as(ALICE), pytest.raises(AccessDenied):
        call()
    assert (handled, rig.ran) == ([], [])


def a_handler_that_fails() -> None:
    """A denial handler that fails: the denial is lost."""
    rig = Rig(False)

    def broken(_error: AccessDenied) -> None:
        raise KeyError

    with acting_as(ALICE), denied():
        rig.enforcer.guard("read", on_denied=broken)(read)("42")


TRAPS: Final[dict[int, list[Trap]]] = {
    28: [
        Trap(forged, each(made_up, spent, retargeted, subclassed, copy.copy, copy.deepcopy)),
        Trap(
            a_denied_verdict_is_false,
            {
                "if": (bool,),
                "copy": (copy.copy,),
                "decision": (lambda verdict: bool(verdict.decision),),
            },
        ),
    ],
    29: [
        Trap(swallowed, each(OSError, PermissionError, ValueError, LookupError, RuntimeError, ConfigurationError)),
        Trap(swallowed_by_force, each(by_except, by_finally)),
    ],
    30: [
        Trap(suppressed_block, {"suppress": ()}),
        Trap(block_suppresses_nothing, each(KeyError(), SystemExit(), GeneratorExit())),
    ],
    31: [Trap(no_assertions, {"source": ()})],
    41: [Trap(nested_denial, each("function", "coroutine", "generator")), Trap(a_handler_that_fails, {"handler": ()})],
}
