"""What is done around a fork: in order, for as long as its object lives, and whatever goes wrong."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from pep import forking
from pep.forking import Forks, after_fork, around_fork


class Around:
    """Notes when it is called."""

    def __init__(self, name: str, told: list[str], fails: type[BaseException] | None = None) -> None:
        self._name, self._told, self._fails = name, told, fails

    def _note(self, when: str) -> None:
        self._told.append(f"{self._name} {when}")
        if self._fails is not None:
            raise self._fails

    def before(self) -> None:
        self._note("before")

    def parent(self) -> None:
        self._note("in the parent")

    def child(self) -> None:
        self._note("in the child")


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> Forks:
    """Hooks of nobody else's."""
    made = Forks()
    monkeypatch.setattr(forking, "FORKS", made)
    return made


def test_hooks_nest_around_a_fork(forks: Forks) -> None:
    """The latest comes first before it, and last after it, as with `os.register_at_fork`."""
    told: list[str] = []
    outer, inner = Around("outer", told), Around("inner", told)
    for one in (outer, inner):
        around_fork(before=one.before, in_parent=one.parent, in_child=one.child)
    forks.before()
    forks.in_parent()
    forks.in_child()
    assert told == [
        *("inner before", "outer before"),
        *("outer in the parent", "inner in the parent"),
        *("outer in the child", "inner in the child"),
    ]


def test_a_hook_is_gone_with_its_object(forks: Forks) -> None:
    """However many come and go, nothing is left of them."""
    told: list[str] = []
    for number in range(1000):
        one = Around(str(number), told)
        around_fork(before=one.before, in_parent=one.parent, in_child=one.child)
    assert len(forks) == 3
    del one
    assert len(forks) == 0
    forks.in_child()
    assert told == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_fails_stops_nobody_else(forks: Forks, error: type[BaseException]) -> None:
    """The others are called all the same; whoever forks is told."""
    told: list[str] = []
    failing, other = Around("failing", told, error), Around("other", told)
    after_fork(failing.child)
    after_fork(other.child)
    with pytest.raises(error):
        forks.in_child()
    assert told == ["failing in the child", "other in the child"]


def test_one_that_goes_while_hooks_run_is_left_alone() -> None:
    """Hooks may end objects that have hooks, and make some."""
    forks, told, held = Forks(), [], {}

    class Ending:
        def child(self) -> None:
            held.clear()
            forks.add(in_child=late.child)

    ending, late, held["one"] = Ending(), Around("late", told), Around("one", told)
    forks.add(in_child=ending.child)
    forks.add(in_child=held["one"].child)
    forks.in_child()
    assert told == []
    forks.in_child()
    assert told == ["late in the child"]


def test_it_is_registered_once() -> None:
    """The interpreter knows of three functions, however many hooks there are."""
    registered: list[dict[str, Callable[[], None]]] = []
    forks = Forks(lambda **hooks: registered.append(hooks))
    for _ in range(10):
        forks.add(in_child=Around("one", []).child)
    [hooks] = registered
    assert hooks == {"before": forks.before, "after_in_parent": forks.in_parent, "after_in_child": forks.in_child}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_real_fork_calls_them() -> None:
    """Before and after, in the parent and in the child."""
    told: list[str] = []
    one = Around("one", told)
    around_fork(before=one.before, in_parent=one.parent, in_child=one.child)
    child = os.fork()
    if child == 0:
        os._exit(0 if told == ["one before", "one in the child"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert told == ["one before", "one in the parent"]
