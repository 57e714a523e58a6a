"""
What a guarded call costs, beside the check a careful hand would write.

The floor is that check: who acts from a context variable, the time, one dict hit with its expiry, one record appended.
Resources come from a template; where they come from an extractor, the floor calls it too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Final

from harness import Bench, Timed, at_most, awaited, main, repeated
from scene import (
    ALICE,
    DOCUMENTS,
    FLOOR,
    MALLORY,
    TEMPLATE,
    TITLES,
    World,
    by_hand,
    document,
    expect,
    rename,
    world,
)

from pep import Enforcer, Profile, acting_as
from pep.audit import MemorySink
from pep.model import AccessRequest
from pep.policy import PolicySet, permit, resource, subject

SYNC: Final = "guarded"
BARE: Final = "bare call"
EXTRACTING: Final = "by hand, extractor"


async def arename(document_id: str, title: str) -> None:
    """Do the same as `rename`, as a coroutine."""
    TITLES[document_id] = title


def titles(document_id: str) -> Iterator[str]:
    """Yield one title."""
    yield TITLES[document_id]


def fill(bench: Bench) -> None:
    """Add every row."""
    bench.floor = FLOOR
    bench.stack.enter_context(acting_as(ALICE))
    calls = bench.size(20, 1_000)
    floor = by_hand()
    bench.time(BARE, repeated(lambda: rename("42", "new")), calls)
    bench.time(FLOOR, repeated(lambda: floor.rename("42", "new")), calls, settle=floor.settle)
    bench.time(EXTRACTING, repeated(lambda: floor.extracting("42", "new")), calls, settle=floor.settle)
    synchronous(bench, calls)
    others(bench, calls)
    invalidated(bench, bench.size(20, 500))
    cold(bench, bench.size(5, 100))


def synchronous(bench: Bench, calls: int) -> None:
    """Add functions and methods, compiled and not."""
    for name, compiled, bound in ((SYNC, True, at_most(1.5)), ("guarded, compiled=False", False, at_most(2))):
        warm = world(compiled=compiled)
        guard = warm.enforcer.guard
        template, extractor = guard("edit", resource=TEMPLATE)(rename), guard("edit", resource=document)(rename)
        template("42", "new")
        extractor("42", "new")
        warm.forget()
        bench.time(name, repeated(lambda f=template: f("42", "new")), calls, bound=bound, settle=warm.settle)  # type: ignore[misc]
        bench.time(
            f"{name}, extractor",
            repeated(lambda f=extractor: f("42", "new")),  # type: ignore[misc]
            calls,
            over=EXTRACTING,
            bound=bound,
            settle=warm.settle,
        )


def others(bench: Bench, calls: int) -> None:
    """Add every other kind of code; all are warm."""
    warm = world()
    guard = warm.enforcer.guard("edit", resource=TEMPLATE)

    class Documents:
        @guard
        def rename(self, document_id: str, title: str) -> None:
            TITLES[document_id] = title

    documents, coroutine, generator = Documents(), guard(arename), guard(titles)

    def within() -> None:
        with warm.enforcer.enforcing("edit", DOCUMENTS["42"]):
            rename("42", "new")

    documents.rename("42", "new")
    asyncio.run(coroutine("42", "new"))
    list(generator("42"))
    within()
    warm.forget()
    settle = warm.settle
    bench.time("guarded method", repeated(lambda: documents.rename("42", "new")), calls, settle=settle)
    bench.time("bare await", awaited(lambda: arename("42", "new")), calls)
    bench.time(
        "guarded coroutine",
        awaited(lambda: coroutine("42", "new")),
        calls,
        less="bare await",
        over=SYNC,
        over_less=BARE,
        bound=at_most(1.6),
        settle=settle,
    )
    bench.time("bare generator", repeated(lambda: list(titles("42"))), calls)
    consumed = repeated(lambda: list(generator("42")))
    bench.time("guarded generator", consumed, calls, less="bare generator", bound=at_most(2), settle=settle)
    bench.time("with enforcing", repeated(within), calls, bound=at_most(5), settle=settle)


def invalidated(bench: Bench, ids: int) -> None:
    """Add the first hit of each of many entries after others' were invalidated: one subject's, or one many times."""
    for name, times, bound in (
        ("first hit after another's invalidation", 1, at_most(4)),
        (f"first hit after {ids} of them", ids, None),
    ):
        warm = world()
        bench.time(name, first_hits(warm, ids, times), ids, bound=bound, settle=warm.settle)
    warm = world()
    revoke = repeated(lambda: warm.enforcer.invalidate(subject=MALLORY))
    bench.time("invalidate", revoke, ids, settle=lambda _count: warm.forget())


def first_hits(warm: World, ids: int, times: int) -> Timed:
    """Time one hit of each entry, right after so many invalidations that do not concern them."""
    guarded = warm.enforcer.guard("edit", resource=TEMPLATE)(rename)
    names = [f"document-{number}" for number in range(ids)]
    for name in names:
        guarded(name, "new")

    def seconds(_count: int) -> float:
        for _ in range(times):
            warm.enforcer.invalidate(subject=MALLORY)
        warm.forget()
        start = time.perf_counter()
        for name in names:
            guarded(name, "new")
        return time.perf_counter() - start

    return seconds


def cold(bench: Bench, calls: int) -> None:
    """Add what a call costs whose policies are asked each time."""
    sink = MemorySink()
    owners = permit("owners", action="edit", resource="document", when=resource.owner == subject.id)
    policies = PolicySet([owners])
    enforcer = Enforcer(policies, audit=sink, profiles={"**": Profile(permit_ttl=0, deny_ttl=0)})
    guarded = enforcer.guard("edit", resource=document)(rename)

    def settle(count: int) -> None:
        found = len(sink.records)
        sink.records.clear()
        expect("records of cold calls", found, count)

    bench.time("guarded, cold, embedded policies", repeated(lambda: guarded("42", "new")), calls, settle=settle)
    asking = AccessRequest(ALICE, "edit", DOCUMENTS["42"])
    bench.time("embedded policies alone", repeated(lambda: policies.decide(asking)), calls)


if __name__ == "__main__":
    main("guarded_call", fill, rounds=40)
