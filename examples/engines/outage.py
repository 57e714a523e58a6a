"""
An outage drill: load in threads and tasks, and a Cerbos server that is killed and started again, twice.

Run it by ``make demo-engines``, or ``python examples/engines/outage.py [FOLDER]``. It prints a report, writes it to
``outage.json`` in that folder, and exits with the number of promises that did not hold.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import servers

from pep import (
    AccessDenied,
    Enforcer,
    FailClosed,
    FailOpen,
    FailStale,
    Fault,
    Outcome,
    Profile,
    Resource,
    Subject,
)
from pep.audit import FileSink
from pep.compose import CircuitBreaker, ResilientPDP, Transition
from pep.fault import AVAILABILITY
from pep.pdp.cerbos import CerbosPDP
from pep.transport import HTTPTransport

BUILD = Path(__file__).resolve().parents[2] / "build" / "demo"

#: Every call has so many seconds; what is slower by more than the slack broke its promise.
DEADLINE: Final = 0.5
SLACK: Final = 0.05
#: When the server is killed and started again, in seconds from the start, and when the load ends.
OUTAGES: Final = ((1.0, 2.5), (4.0, 5.5))
END: Final = 8.0
THREADS: Final = 4
TASKS: Final = 16

OPEN = FailOpen(on={Fault.TIMEOUT, Fault.UNREACHABLE, Fault.OVERLOADED}, limit="10000/second")
PROFILES = {
    "todo:can_update_todo": Profile(on_failure=FailClosed(), deadline=DEADLINE),
    "todo:can_create_todo": Profile(on_failure=OPEN, deadline=DEADLINE),
    "todo:can_delete_todo": Profile(on_failure=FailStale(max_age=300), deadline=DEADLINE),
}
USERS: Final = {
    "editor": Subject("user", "morty", {"roles": ["editor"], "email": "morty@example.org"}),
    "viewer": Subject("user", "beth", {"roles": ["viewer"], "email": "beth@example.org"}),
}
TODO: Final = Resource("todo", "1", {"ownerID": "morty@example.org"})


class Call(NamedTuple):
    """One call: what was done by whom, how long it took in seconds, whether the code ran, and how it was refused."""

    action: str
    who: str
    took: float
    ran: bool
    refused: str | None
    fault: Fault | None


class Drill:
    """
    The load, and what came of it.

    Args:
        enforcer: Guards the calls.
    """

    def __init__(self, enforcer: Enforcer) -> None:
        self.enforcer = enforcer
        self.calls: list[Call] = []
        self.stop = threading.Event()
        actions = [pattern.partition(":")[2] for pattern in PROFILES]
        self._turns = [(action, who) for action in actions for who in USERS]

    def thread(self) -> None:
        """Call until told to stop, on this thread."""
        for number in self._numbers():
            action, who = self._turns[number % len(self._turns)]
            began, ran, refused = time.monotonic(), False, None
            try:
                with self.enforcer.enforcing(action, TODO, subject=USERS[who]):
                    ran = True
            except AccessDenied as denied:
                refused = denied
            self._came(action, who, began, ran, refused)
            time.sleep(0.001)

    async def task(self) -> None:
        """Call until told to stop, in this task."""
        for number in self._numbers():
            action, who = self._turns[number % len(self._turns)]
            began, ran, refused = time.monotonic(), False, None
            try:
                async with self.enforcer.enforcing(action, TODO, subject=USERS[who]):
                    ran = True
            except AccessDenied as denied:
                refused = denied
            self._came(action, who, began, ran, refused)
            await asyncio.sleep(0.005)

    def tasks(self) -> None:
        """Run the tasks, in a loop of their own."""

        async def all_of_them() -> None:
            await asyncio.gather(*[self.task() for _ in range(TASKS)])

        asyncio.run(all_of_them())

    def _numbers(self) -> Iterator[int]:
        return itertools.takewhile(lambda _number: not self.stop.is_set(), itertools.count())

    def _came(self, action: str, who: str, began: float, ran: bool, refused: AccessDenied | None) -> None:
        outcome, fault = (None, None) if refused is None else (refused.outcome.value, refused.fault)
        self.calls.append(Call(action, who, time.monotonic() - began, ran, outcome, fault))


def loaded(drill: Drill, server: servers.Server) -> None:
    """Put load on the application, and kill the server and start it again meanwhile."""
    running = [threading.Thread(target=drill.thread) for _ in range(THREADS)]
    running.append(threading.Thread(target=drill.tasks))
    began = time.monotonic()
    for thread in running:
        thread.start()

    def at(moment: float, act: Callable[[], None]) -> None:
        time.sleep(max(0.0, began + moment - time.monotonic()))
        act()

    try:
        for killed, started in OUTAGES:
            at(killed, server.kill)
            at(started, server.start)
        at(END, lambda: None)
    finally:
        drill.stop.set()
        for thread in running:
            thread.join()


def report(drill: Drill, moves: list[Transition], audit_file: Path) -> dict[str, Any]:
    """Tell what came of it; ``broken`` names every promise that did not hold."""
    calls, records = drill.calls, [json.loads(line) for line in audit_file.read_text().splitlines()]
    took = sorted(call.took for call in calls)
    outcomes = Counter(record["outcome"] for record in records if record["kind"] == "decision")
    opened = [record for record in records if record.get("outcome") == Outcome.FAILED_OPEN.value]
    path = [move.new.value for move in moves]
    told: dict[str, Any] = {
        "calls": len(calls),
        "ran": sum(call.ran for call in calls),
        "median_ms": round(took[len(took) // 2] * 1000, 1),
        "p99_ms": round(took[len(took) * 99 // 100] * 1000, 1),
        "longest_ms": round(took[-1] * 1000, 1),
        "outcomes": dict(outcomes),
        "opened": dict(Counter(f"{record['action']} ({record['fault']})" for record in opened)),
        "breaker": path,
    }
    closed = [call for call in calls if call.refused == Outcome.UNAVAILABLE.value]
    permits = outcomes[Outcome.PERMITTED.value] + len(opened)
    promises = {
        "p99 within the deadline and 50 ms": told["p99_ms"] <= (DEADLINE + SLACK) * 1000,
        "every call that ran is on record, and nothing else": told["ran"] == permits,
        "a viewer ran nothing but what its profile opened": _unearned(calls) <= len(opened),
        "only creating was opened": {record["action"] for record in opened} <= {"can_create_todo"},
        "every opening names a fault of availability": all(Fault(record["fault"]) in AVAILABILITY for record in opened),
        "there was an outage, and some were opened": bool(opened and closed),
        "an editor's last decision was served in the outage": any(
            record.get("fault") and record["outcome"] == Outcome.PERMITTED.value
            for record in records
            if record["kind"] == "decision"
        ),
        "refused only for availability": all(call.fault in AVAILABILITY for call in closed),
        "the breaker opened, and closed again, in both outages": path.count("open") >= len(OUTAGES)
        and path[-1:] == ["closed"],
        "after the last outage the server answers": drill.enforcer.check(
            "can_update_todo", TODO, subject=USERS["editor"]
        ).allowed,
    }
    return {**told, "broken": [promise for promise, held in promises.items() if not held], "promises": list(promises)}


def _unearned(calls: list[Call]) -> int:
    return sum(call.ran for call in calls if call.who == "viewer")


def main(folder: Path) -> int:
    """Run the drill; return how many promises were broken."""
    folder.mkdir(parents=True, exist_ok=True)
    audit_file = folder / "outage-audit.jsonl"
    audit_file.unlink(missing_ok=True)
    moves: list[Transition] = []
    breaker = CircuitBreaker(window=2.0, least=10, open_for=0.3, probe_timeout=DEADLINE)
    with servers.cerbos() as server, HTTPTransport() as transport:
        pdp = ResilientPDP(CerbosPDP(server.url, transport=transport), breaker=breaker, listener=moves.append)
        with Enforcer(pdp, audit=FileSink(audit_file), profiles=PROFILES) as enforcer:
            enforcer.heartbeat(every=0.25, timeout=0.2)
            drill = Drill(enforcer)
            loaded(drill, server)
            told = report(drill, moves, audit_file)
    (folder / "outage.json").write_text(json.dumps(told, indent=2))
    print("An outage drill: Cerbos was killed and started again, twice\n")
    for name, value in told.items():
        if name not in {"broken", "promises"}:
            print(f"  {name:12}{value}")
    print()
    for promise in told["promises"]:
        print(f"  {'BROKEN' if promise in told['broken'] else 'held  '}  {promise}")
    print(f"\nThe audit file: {audit_file}")
    return len(told["broken"])


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else BUILD))
    except servers.Unavailable as missing:
        print(f"The outage drill was left out: {missing}")
