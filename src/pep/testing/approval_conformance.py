"""
Conformance of stores of approvals: what every one of them must do, as one plain function.

Imports what every conformance suite rests on, and the approvals.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import attrs

from pep.approvals.sealing import Row, Seal
from pep.approvals.store import Full, Store
from pep.approvals.values import Approval, Point
from pep.model import AccessRequest, Resource, Subject
from pep.testing.conforming import HOSTILE, hold

T = TypeVar("T")

#: How many threads want the same at once, and how often.
THREADS: Final = 4
ROUNDS: Final = 8

# For how long the approvals of the suite live, in seconds.
_LIFE: Final = 1000.0


def check_approval_store(make: Callable[[], Store], *, again: Callable[[Any], Store] | None = None) -> None:
    """
    Check a store of approvals.

    Args:
        make: Makes an empty one; called more than once. Each is closed in the end, if it can be.

        again: Opens what another one keeps, as another process does; without it, that is not checked.

    Raises:
        NotConforming: Naming the rule that does not hold.
    """
    for check in (_check_kept, _check_shared, _check_swapped, _check_expired, _check_bounded, _check_raced):
        _with(make(), check)
    if again is not None:
        _with(make(), lambda store: _with(again(store), lambda other: _check_reopened(store, other)))


def draft(store: Store, *, id: str = "a", key: str = "k", who: str = "ann", life: float = _LIFE) -> Approval:  # noqa: A002  the term everywhere
    """Return an approval that nobody has answered, by the store's clock."""
    now = store.now()
    request = AccessRequest(Subject("user", who), "pay", Resource("account", "1"))
    return Approval(id, key, (Point(request),), "0" * 64, now, now, now + life)


def _row(store: Store, **options: Any) -> Row:  # noqa: ANN401  what `draft` takes
    return store.seal.close(draft(store, **options))


def _used(store: Store, row: Row, decision: str = "d") -> Row:
    return store.seal.close(store.seal.open(row).used_for(decision, store.now()))


def _with(store: Store, check: Callable[[Store], None]) -> None:
    try:
        check(store)
    finally:
        getattr(store, "close", lambda: None)()


def _check_kept(store: Store) -> None:
    given: Any = store
    hold(isinstance(given, Store) and isinstance(given.seal, Seal), "a store has a `seal` and every method of `Store`")
    hold(type(store.now()) is float, "its time is a `float`: seconds since 1970")
    hold(list(store.rows()) == [], "a new one is empty")
    for number, name in enumerate(HOSTILE):
        hold(store.get(name) is None, "what was not kept is not there")
        row = _row(store, id=name, key=str(number), who=name)
        hold(store.add(row, store.now(), 1) == row, "it returns the row that it keeps")
        hold(store.get(name) == row, "it returns a row exactly as it was given")
    hold({row.id for row in store.rows()} == set(HOSTILE), "it returns every row")


def _check_shared(store: Store) -> None:
    first, second = _row(store), _row(store, id="b")
    store.add(first, store.now(), 9)
    hold(store.add(second, store.now(), 1) == first, "rows of one key are one while it is open, whatever the bound")
    hold(store.get("b") is None, "what was not kept is not there")
    used = _used(store, first)
    hold(store.swap(first, used) is True, "a row is replaced")
    hold(store.add(second, store.now(), 9) == second, "what is used is not shared")
    hold(store.get("a") == used, "what is used stays until it expires")


def _check_swapped(store: Store) -> None:
    row, missing = _row(store), _row(store, id="b", key="l")
    store.add(row, store.now(), 9)
    hold(store.swap(missing, _used(store, missing)) is False, "what is not there is not replaced")
    hold(store.get("b") is None, "and not made either")
    for changed in ({"version": 7}, {"mac": b"\x00"}, {"body": row.body + b" "}):
        other = attrs.evolve(row, **changed)
        hold(store.swap(other, _used(store, row)) is False, "a row that is another by now is not replaced")
    hold(store.get("a") == row, "and left as it is")
    used = _used(store, row)
    hold(store.swap(row, used) is True and store.get("a") == used, "the very row is replaced")
    hold(store.swap(row, _used(store, row, "e")) is False, "only once")
    hold(store.get("a") == used, "for good")


def _check_expired(store: Store) -> None:
    row = _row(store)
    store.add(row, store.now(), 1)
    hold(store.add(_row(store, id="b"), row.expires - 1, 1) == row, "until its time, it is shared")
    later = _row(store, id="c", life=2 * _LIFE)
    hold(store.add(later, row.expires, 1) == later, "at its time, it is neither shared nor counted")
    hold(store.get("a") is None, "what has expired is dropped")


def _check_bounded(store: Store) -> None:
    kept = [_row(store, id=str(at), key=str(at), life=_LIFE + at) for at in range(3)]
    for row in kept:
        store.add(row, store.now(), 3)
    more = _row(store, id="x", key="x")
    try:
        store.add(more, store.now(), 3)
    except Full as full:
        hold(full.until == kept[0].expires, "a store that is full tells when there is room")
    else:
        hold(holds=False, rule="a store bounds what one subject may have open")
    other = _row(store, id="y", key="y", who="bob")
    hold(store.add(other, store.now(), 3) == other, "each subject has room of its own")
    store.swap(kept[1], _used(store, kept[1]))
    hold(store.add(more, store.now(), 3) == more, "what is used does not count")


def _check_raced(store: Store) -> None:
    for number in range(ROUNDS):
        rows = [_row(store, id=f"{number}-{at}", key=str(number), who=str(number)) for at in range(THREADS)]
        kept = _at_once([partial(store.add, row, store.now(), 9) for row in rows])
        hold(all(row == kept[0] for row in kept), "of those who ask for the same at once, all get the same")
        ends = [_used(store, kept[0], str(at)) for at in range(THREADS)]
        won = _at_once([partial(store.swap, kept[0], end) for end in ends])
        hold(sorted(won) == [False] * (THREADS - 1) + [True], "of those who replace a row at once, one does")
        hold(store.get(kept[0].id) == ends[won.index(True)], "and it is that one's")


def _check_reopened(store: Store, other: Store) -> None:
    row = _row(store)
    store.add(row, store.now(), 9)
    hold(other.get("a") == row, "what one keeps, another one of the same place has")
    used = _used(store, row)
    hold(other.swap(row, used) is True, "another one may replace it")
    hold(store.swap(row, _used(store, row, "e")) is False, "and then nobody else")
    hold(store.get("a") == used, "it is there for the first one too")


def _at_once(works: Sequence[Callable[[], T]]) -> list[T]:
    gate = threading.Barrier(len(works))
    done: dict[int, T] = {}

    def begin(at: int, work: Callable[[], T]) -> None:
        gate.wait()
        done[at] = work()

    threads = [threading.Thread(target=begin, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hold(len(done) == len(works), "it answers, however many ask at once")
    return [done[at] for at in range(len(works))]
