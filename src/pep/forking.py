"""Forks: what has to be done around one, for as long as whoever does it lives. Imports nothing of the library."""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Callable, Iterable
from types import MethodType
from typing import Any, Final, cast, final

Hook = Callable[[], object]
#: An object, and what is called with it. A `weakref.WeakMethod` that tells of its end fails in finalisation.
_Weak = tuple["weakref.ref[Any]", Callable[[Any], object]]


@final
class Forks:
    """
    The hooks of one process: bound methods, none of which is kept alive.

    `os.register_at_fork` keeps what it is given for ever; of these one is gone with its object. Adding one takes no
    lock, so that a signal handler may.

    Args:
        register: What has hooks called around a fork; None where there is no fork.
    """

    __slots__ = ("_after", "_before", "_numbers", "_parent")

    def __init__(self, register: Callable[..., None] | None = None) -> None:
        self._numbers = itertools.count()
        # Number -> hook, in the order of the numbers.
        self._before: dict[int, _Weak] = {}
        self._parent: dict[int, _Weak] = {}
        self._after: dict[int, _Weak] = {}
        if register is not None:
            register(before=self.before, after_in_parent=self.in_parent, after_in_child=self.in_child)

    def add(self, *, before: Hook | None = None, in_parent: Hook | None = None, in_child: Hook | None = None) -> None:
        """
        Call bound methods around every fork, as long as their object lives.

        Args:
            before: Called before, the latest first.

            in_parent: Called afterwards in the parent, in the order they were added.

            in_child: Called afterwards in the child, in the order they were added.
        """
        for hooks, method in ((self._before, before), (self._parent, in_parent), (self._after, in_child)):
            if method is not None:
                number, bound = next(self._numbers), cast("MethodType", method)
                hooks[number] = weakref.ref(bound.__self__, _forgetting(hooks, number)), bound.__func__

    def before(self) -> None:
        """Call what comes before a fork."""
        _call(reversed(list(self._before.values())))

    def in_parent(self) -> None:
        """Call what comes after it in the parent."""
        _call(list(self._parent.values()))

    def in_child(self) -> None:
        """Call what comes after it in the child."""
        _call(list(self._after.values()))

    def __len__(self) -> int:
        return len(self._before) + len(self._parent) + len(self._after)


def _forgetting(hooks: dict[int, Any], number: int) -> Callable[[object], None]:
    def forget(_gone: object) -> None:
        hooks.pop(number, None)

    return forget


def _call(hooks: Iterable[_Weak]) -> None:
    failed: list[BaseException] = []
    for weak, function in hooks:
        try:
            if (alive := weak()) is not None:
                function(alive)
        except BaseException as error:  # noqa: BLE001  the others are called all the same
            failed.append(error)
    if failed:
        # Whoever forks is told, and goes on.
        raise failed[0]


# The one thing of its kind in a process, as a fork is.
FORKS: Final = Forks(getattr(os, "register_at_fork", None))


def after_fork(method: Hook) -> None:
    """
    Call a bound method in every forked child, as long as its object lives.

    Register late: hooks run in order, and those of the locks that the method takes must have run.
    """
    FORKS.add(in_child=method)


def around_fork(*, before: Hook, in_parent: Hook, in_child: Hook) -> None:
    """Call bound methods around every fork, as long as their object lives; see `Forks.add`."""
    FORKS.add(before=before, in_parent=in_parent, in_child=in_child)
