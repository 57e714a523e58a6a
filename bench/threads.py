"""
What threads do to the throughput of guarded calls, and that none of them gets another's answer.

As many calls in all, by 1, 2 and 8 threads, beside the same by hand; under the GIL the best to be had is what one
thread reaches. Then calls by 8 threads for several subjects, some of which are denied, while another invalidates.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextvars import copy_context
from typing import Final

from harness import Bench, Row, Timed, at_least, at_most, figure, main
from scene import ALICE, TEMPLATE, Nowhere, by_hand, expect, rename, world

from pep import AccessDenied, Enforcer, Resource, Subject, acting_as
from pep.policy import PolicySet, permit, resource, subject

THREADS: Final = (1, 2, 8)
SUBJECTS: Final = 8
DOCUMENTS: Final = 64


def fill(bench: Bench) -> None:
    """Add every row."""
    calls = bench.size(64, 40_000)
    warm = world()
    guarded = warm.enforcer.guard("edit", resource=TEMPLATE)(rename)
    with acting_as(ALICE):
        guarded("42", "new")
    warm.forget()
    hand = by_hand()
    for name, call, settle in (
        ("guarded", lambda: guarded("42", "new"), warm.settle),
        ("by hand", lambda: hand.rename("42", "new"), hand.settle),
    ):
        for count in THREADS:
            alone = f"{name}, 1 thread"
            told = {} if count == 1 else {"over": alone, "faster": True}
            bound = at_least(0.9) if name == "guarded" and count > 1 else None
            title = alone if count == 1 else f"{name}, {count} threads"
            bench.time(title, shared(call, count), calls, bound=bound, settle=settle, **told)
    bench.once(lambda: answers(bench.size(200, 100_000, 1_000_000)))


def shared(call: Callable[[], object], threads: int) -> Timed:
    """Time calls that so many threads share, from their common start."""

    def seconds(count: int) -> float:
        ready = threading.Barrier(threads + 1)
        ended: list[float] = []

        def work() -> None:
            with acting_as(ALICE):
                ready.wait()
                for _ in range(count // threads):
                    call()
                ended.append(time.perf_counter())

        # The check by hand knows who acts from the context.
        running = [threading.Thread(target=copy_context().run, args=(work,)) for _ in range(threads)]
        for thread in running:
            thread.start()
        start = time.perf_counter()
        ready.wait()
        for thread in running:
            thread.join()
        expect("threads that ended", len(ended), threads)
        return max(ended) - start

    return seconds


def answers(checks: int) -> Iterable[Row]:
    """Count wrong answers of 8 threads, each of which asks as all subjects."""
    owners = permit("owners", action="read", resource="document", when=resource.owner == subject.id)
    enforcer = Enforcer(PolicySet([owners]), audit=Nowhere())
    people = [Subject("user", f"user-{number}") for number in range(SUBJECTS)]
    documents = {
        f"d{number}": Resource("document", f"d{number}", {"owner": f"user-{number % SUBJECTS}"})
        for number in range(DOCUMENTS)
    }
    wrong: list[str] = []
    done = threading.Event()
    running = [
        threading.Thread(target=asking, args=(enforcer, people, documents, checks // 8, at, wrong)) for at in range(8)
    ]
    revoking = threading.Thread(target=invalidating, args=(enforcer, people, done))
    start = time.perf_counter()
    for thread in (*running, revoking):
        thread.start()
    for thread in running:
        thread.join()
    done.set()
    revoking.join()
    seconds = time.perf_counter() - start
    note = f"of {checks // 8 * 8:,} checks by 8 threads, while another invalidates; {seconds:.1f} s"
    yield figure("wrong answers", len(wrong), "", at_most(0), note)


def asking(  # noqa: PLR0917  as a thread is given them
    enforcer: Enforcer,
    people: list[Subject],
    documents: dict[str, Resource],
    checks: int,
    at: int,
    wrong: list[str],
) -> None:
    """Call the guarded function as one after the other; three of four times what is one's own."""

    @enforcer.guard("read", resource=lambda name: documents[name])
    def read(name: str) -> str:
        return name

    for number in range(checks):
        who = people[(number + at) % SUBJECTS]
        own = number % 32 != 0
        name = f"d{((number + at) % SUBJECTS + (0 if own else 1) + SUBJECTS * (number % 8)) % DOCUMENTS}"
        wanted = documents[name].properties["owner"] == who.id
        with acting_as(who):
            try:
                found = read(name) == name
            except AccessDenied:
                found = False
        if found is not wanted:
            wrong.append(f"{who.id} {name}")


def invalidating(enforcer: Enforcer, people: list[Subject], done: threading.Event) -> None:
    """Invalidate one subject after the other."""
    number = 0
    while not done.wait(0.005):
        enforcer.invalidate(subject=people[number % SUBJECTS])
        number += 1


if __name__ == "__main__":
    main("threads", fill, rounds=15, quick=1)
