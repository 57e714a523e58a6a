"""
A pytest plugin: fixtures that unit-test guarded code, each until the test ends.

Imports pytest; the rest of the library once a fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

if TYPE_CHECKING:
    from pep.enforcer import Enforcer
    from pep.testing.override import World
    from pep.testing.scripted import Script

#: Takes an enforcer, and what `override` takes by keyword.
Overriding: TypeAlias = "Callable[..., World]"


@pytest.fixture
def permit_all() -> Iterator[Overriding]:
    """``permit_all(enforcer)``: everything is permitted until the test ends; returns the world."""
    from pep.testing.scripted import permit_all as permitting  # noqa: PLC0415  only where it is used

    with ExitStack() as stack:
        yield lambda enforcer, **parts: _entered(stack, enforcer, permitting(), parts)


@pytest.fixture
def deny_all() -> Iterator[Overriding]:
    """``deny_all(enforcer)``: everything is denied until the test ends; returns the world."""
    from pep.testing.scripted import deny_all as denying  # noqa: PLC0415  only where it is used

    with ExitStack() as stack:
        yield lambda enforcer, **parts: _entered(stack, enforcer, denying(), parts)


@pytest.fixture
def decisions() -> Iterator[Overriding]:
    """``decisions(enforcer, {("edit", "document"): True})``: decided by a script; returns the world."""
    from pep.testing.scripted import ScriptedPDP  # noqa: PLC0415  only where it is used

    with ExitStack() as stack:

        def scripted(enforcer: Enforcer, script: Script, **parts: Any) -> World:  # noqa: ANN401  see `override`
            return _entered(stack, enforcer, ScriptedPDP(script), parts)

        yield scripted


def _entered(stack: ExitStack, enforcer: Enforcer, pdp: object, parts: dict[str, Any]) -> World:
    from pep.testing.override import override  # noqa: PLC0415  only where it is used

    return stack.enter_context(override(enforcer, pdp, **parts))
