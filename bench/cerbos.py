"""
What a real Cerbos server costs: one question over a bare httpx request, and many questions over one by one.

The server runs on loopback, as `make engines` installs it; without it there are no figures. The floor is the same
request with a bare httpx client, its reply parsed. A thousand resources differ in their ids; every one is permitted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
from harness import Bench, at_least, at_most, awaited, main, missing, repeated, whole
from scene import ALICE, expect

from pep import AccessRequest, Decision, Effect, Enforcer, Profile, Resource
from pep.audit import MemorySink
from pep.clock import SystemClock
from pep.drive import APerformer, Performer, arun, run
from pep.pdp.cerbos import CerbosPDP
from pep.transport import HTTPTransport

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.cerbos_server import cerbos_servers, program, resource_policy, rule

FLOOR: Final = "bare httpx"
ONE_BY_ONE: Final = "check, one by one"
REQUEST: Final = AccessRequest(ALICE, "read", Resource("document", "1", {"owner": "alice"}))


def fill(bench: Bench) -> None:
    """Add every row."""
    if program() is None:
        for name in ("decide", "check_many"):
            bench.add(missing(name, "no Cerbos server; run `make engines`"))
        return
    start = bench.stack.enter_context(cerbos_servers())
    url = start({"document": resource_policy("document", rule("read", when="R.attr.owner == P.id"))}).url
    transport = HTTPTransport()
    bench.stack.callback(transport.close)
    pdp = CerbosPDP(url, transport=transport)
    one(bench, url, pdp)
    many(bench, pdp)


def one(bench: Bench, url: str, pdp: CerbosPDP) -> None:
    """Add one question, in both worlds."""
    bench.floor = FLOOR
    calls = bench.size(5, 300)
    body = {
        "requestId": "r",
        "principal": {"id": ALICE.id, "roles": ["$none"], "attr": {"$type": "user"}},
        "resources": [{"resource": {"kind": "document", "id": "1", "attr": {"owner": "alice"}}, "actions": ["read"]}],
        "includeMeta": True,
    }
    client = bench.stack.enter_context(httpx.Client())

    def bare() -> None:
        reply = client.post(f"{url}/api/check/resources", json=body)
        expect("effect", orjson.loads(reply.content)["results"][0]["actions"]["read"], "EFFECT_ALLOW")

    def asked() -> None:
        expect("effect", run(pdp.decide(REQUEST), Performer(SystemClock())).effect, Effect.PERMIT)

    async def awaiting() -> None:
        expect("effect", (await arun(pdp.decide(REQUEST), APerformer(SystemClock()))).effect, Effect.PERMIT)

    bench.time(FLOOR, repeated(bare), calls)
    bench.time("decide", repeated(asked), calls, bound=at_most(1.2))
    bench.time("decide, awaited", awaited(awaiting), calls, bound=at_most(1.2))


def many(bench: Bench, pdp: CerbosPDP) -> None:
    """Add a thousand questions, one by one and at once."""
    count = bench.size(60, 1_000)
    resources = [Resource("document", str(number), {"owner": "alice"}) for number in range(count)]
    sink = MemorySink()
    enforcer = bench.stack.enter_context(Enforcer(pdp, audit=sink, profiles={"document:read": Profile(deadline=30.0)}))

    def checked(ask: Callable[[], list[Any]]) -> Callable[[int], None]:
        def call(_count: int) -> None:
            expect("permitted", sum(verdict.allowed for verdict in ask()), count)

        return call

    def add(name: str, ask: Callable[[], list[Any]], **told: Any) -> None:  # noqa: ANN401  as `Kind` takes
        bench.time(name, whole(checked(ask)), count, settle=lambda _count: sink.records.clear(), **told)

    requests = [AccessRequest(ALICE, "read", each) for each in resources]

    def answered(_count: int) -> None:
        found = run(pdp.decide_many(requests), Performer(SystemClock()))
        expect("permitted", sum(type(each) is Decision and each.effect is Effect.PERMIT for each in found), count)

    add(ONE_BY_ONE, lambda: [enforcer.check("read", each, subject=ALICE) for each in resources], over=None)
    asked = [("read", each) for each in resources]
    bound = {"over": ONE_BY_ONE, "faster": True, "bound": at_least(20)}
    add("check_many", lambda: enforcer.check_many(asked, subject=ALICE), **bound)
    bench.time("decide_many, the adapter alone", whole(answered), count, over="decide", faster=True)


if __name__ == "__main__":
    main("cerbos", fill, rounds=7, quick=1)
