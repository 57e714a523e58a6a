"""
What a real Cerbos server costs: one question over a bare httpx request, and many questions over one by one.

The server runs on loopback, as `make engines` installs it; without it there are no figures. The floor is the same
request with a bare httpx client, its reply parsed. A thousand resources differ in their ids; every one is permitted.

A server takes 50 resources in one request, and up to 500 where its `requestLimits.maxResourcesPerRequest` says so: both
are measured. Bare requests bring what was encoded before, two at a time, and their replies are not read: what is left
is the server's. The CPU of client and server is summed over all rounds, of the same calls: a wait for a busy machine is
not in it.
"""

from __future__ import annotations

import http.client
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import attrs
import httpx
import orjson
from harness import MICRO, Bench, Row, Timed, at_least, at_most, awaited, main, missing, repeated, whole
from scene import ALICE, expect

from pep import AccessRequest, Decision, Effect, Enforcer, Profile, Resource
from pep.audit import MemorySink
from pep.clock import SystemClock
from pep.drive import APerformer, Performer, arun, run
from pep.pdp.cerbos import CerbosPDP
from pep.transport import HTTPTransport

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.cerbos_server import CerbosServer, cerbos_servers, program, resource_policy, rule

FLOOR: Final = "bare httpx"
ONE_BY_ONE: Final = "check, one by one"
CHECK: Final = "/api/check/resources"
OWNED: Final = {"owner": "alice"}
REQUEST: Final = AccessRequest(ALICE, "read", Resource("document", "1", OWNED))
#: How many resources a server takes in one request, unless it is told, and at most.
USUAL: Final = 50
MOST: Final = 500


def fill(bench: Bench) -> None:
    """Add every row."""
    if program() is None:
        for name in ("decide", "check_many"):
            bench.add(missing(name, "no Cerbos server; run `make engines`"))
        return
    start = bench.stack.enter_context(cerbos_servers())
    policies = {"document": resource_policy("document", rule("read", when="R.attr.owner == P.id"))}
    usual = start(policies)
    most = start(policies, extra={"server": {"requestLimits": {"maxResourcesPerRequest": MOST}}})
    one(bench, usual.url, asking(bench, usual, USUAL))
    many(bench, usual, most)


def asking(bench: Bench, server: CerbosServer, resources: int) -> CerbosPDP:
    """Make a decision point of a server that takes so many resources in a request."""
    transport = HTTPTransport()
    bench.stack.callback(transport.close)
    return CerbosPDP(server.url, transport=transport, resources=resources)


def one(bench: Bench, url: str, pdp: CerbosPDP) -> None:
    """Add one question, in both worlds."""
    bench.floor = FLOOR
    calls = bench.size(5, 300)
    client = bench.stack.enter_context(httpx.Client())

    def floor() -> None:
        reply = client.post(url + CHECK, json=body(["1"]))
        expect("effect", orjson.loads(reply.content)["results"][0]["actions"]["read"], "EFFECT_ALLOW")

    def asked() -> None:
        expect("effect", run(pdp.decide(REQUEST), Performer(SystemClock())).effect, Effect.PERMIT)

    async def awaiting() -> None:
        expect("effect", (await arun(pdp.decide(REQUEST), APerformer(SystemClock()))).effect, Effect.PERMIT)

    bench.time(FLOOR, repeated(floor), calls)
    bench.time("decide", repeated(asked), calls, bound=at_most(1.2))
    bench.time("decide, awaited", awaited(awaiting), calls, bound=at_most(1.2))


def many(bench: Bench, usual: CerbosServer, most: CerbosServer) -> None:
    """Add a thousand questions, one by one and at once."""
    count = bench.size(60, 1_000)
    bench.floor, spending = ONE_BY_ONE, Spending()
    bound: dict[str, Any] = {"faster": True, "bound": at_least(20)}
    for server, size in ((usual, USUAL), (most, MOST)):
        pdp, resources = asking(bench, server, size), [Resource("document", str(one), OWNED) for one in range(count)]
        requests = [AccessRequest(ALICE, "read", each) for each in resources]

        def answered(_count: int, pdp: CerbosPDP = pdp, requests: Sequence[AccessRequest] = requests) -> None:
            found = run(pdp.decide_many(requests), Performer(SystemClock()))
            expect("permitted", sum(type(each) is Decision and each.effect is Effect.PERMIT for each in found), count)

        def add(name: str, seconds: Timed, server: CerbosServer = server, **told: Any) -> None:  # noqa: ANN401  as `Kind` takes
            bench.time(name, spending.watched(name, server, seconds), count, **told)

        ask, forget = checking(bench, pdp, resources)
        if size == USUAL:
            add(ONE_BY_ONE, ask(one_by_one), settle=forget, over=None)
        add(f"check_many, {size} in a request", ask(at_once), settle=forget, **bound)
        add(f"decide_many, {size} in a request", whole(answered), faster=True)
        add(f"bare requests, {size} in each", bare(bench, server, size, count), faster=True)
    bench.once(spending.rows)


def checking(
    bench: Bench, pdp: CerbosPDP, resources: Sequence[Resource]
) -> tuple[Callable[[Callable[[Enforcer, Sequence[Resource]], list[Any]]], Timed], Callable[[int], None]]:
    """Return what makes a kind of asking an enforcer, and what forgets its records."""
    sink = MemorySink()
    enforcer = bench.stack.enter_context(Enforcer(pdp, audit=sink, profiles={"document:read": Profile(deadline=30.0)}))

    def ask(how: Callable[[Enforcer, Sequence[Resource]], list[Any]]) -> Timed:
        def call(_count: int) -> None:
            expect("permitted", sum(verdict.allowed for verdict in how(enforcer, resources)), len(resources))

        return whole(call)

    return ask, lambda _count: sink.records.clear()


def one_by_one(enforcer: Enforcer, resources: Sequence[Resource]) -> list[Any]:
    """Ask one by one."""
    return [enforcer.check("read", each, subject=ALICE) for each in resources]


def at_once(enforcer: Enforcer, resources: Sequence[Resource]) -> list[Any]:
    """Ask at once."""
    return enforcer.check_many([("read", each) for each in resources], subject=ALICE)


def bare(bench: Bench, server: CerbosServer, size: int, count: int) -> Timed:
    """Send what was encoded before, two requests at a time."""
    ids = [str(number) for number in range(count)]
    bodies = [orjson.dumps(body(ids[start : start + size])) for start in range(0, count, size)]
    lines = [http.client.HTTPConnection("127.0.0.1", server.port) for _ in range(2)]
    threads = bench.stack.enter_context(ThreadPoolExecutor(len(lines)))
    for connection in lines:
        bench.stack.callback(connection.close)

    def sent(number: int) -> None:
        for each in bodies[number :: len(lines)]:
            lines[number].request("POST", CHECK, each, {"content-type": "application/json"})
            reply = lines[number].getresponse()
            expect("status", reply.status, 200)
            reply.read()

    return whole(lambda _count: list(threads.map(sent, range(len(lines)))))


def body(ids: Sequence[str]) -> dict[str, Any]:
    """Write a request to the server."""
    told = [{"resource": {"kind": "document", "id": each, "attr": OWNED}, "actions": ["read"]} for each in ids]
    principal = {"id": ALICE.id, "roles": ["$none"], "attr": {"$type": "user"}}
    return {"requestId": "r", "principal": principal, "resources": told, "includeMeta": True}


@attrs.define
class Spending:
    """The CPU that client and server spent on each kind, in seconds, and on how many calls."""

    _spent: dict[str, list[tuple[float, float, int]]] = attrs.field(factory=dict, init=False)

    def watched(self, name: str, server: CerbosServer, seconds: Timed) -> Timed:
        """Note what each round of a kind costs."""
        spent = self._spent[name] = []

        def watching(count: int) -> float:
            here, there = time.process_time(), cpu(server.pid)
            took = seconds(count)
            spent.append((time.process_time() - here, cpu(server.pid) - there, count))
            return took

        return watching

    def rows(self) -> Iterator[Row]:
        """Make two rows of each kind."""
        totals = {name: [sum(part) for part in zip(*spent[1:], strict=True)] for name, spent in self._spent.items()}
        first = totals[ONE_BY_ONE]
        for at, whose in enumerate(("client", "server", "both")):
            for name, total in totals.items():
                used, whole_of = [sum(one[:2]) if whose == "both" else one[at] for one in (total, first)]
                ratio = None if total is first or not used else whole_of / used * total[2] / first[2]
                to = "" if ratio is None else f"less than {ONE_BY_ONE}"
                yield Row(name=f"CPU of {whose}: {name}", median=used / total[2] * MICRO, ratio=ratio, to=to)


def cpu(pid: int) -> float:
    """Return how many seconds of CPU the threads of a process have used; 0 where the system does not tell."""
    told = [each.read_text().split() for each in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(words[0]) for words in told) / 1e9


if __name__ == "__main__":
    main("cerbos", fill, rounds=7, quick=1)
