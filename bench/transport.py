"""
What asking a decision point over HTTP costs beside a bare httpx client, against one server in another process.

Each kind posts the same JSON and reads the JSON that comes back, over one connection that is kept. Ours goes through a
`Remote`, a plan and its driver, with strict JSON, an id of the request and every cap and check.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from harness import Bench, Timed, at_most, main, missing, repeated
from scene import expect

from pep.clock import SystemClock
from pep.drive import APerformer, Performer, arun, run
from pep.pdp.remote import Remote
from pep.transport import HTTPTransport

BARE: Final = "httpx, sync"
BARE_ASYNC: Final = "httpx, async"
ASKED: Final = {
    "subject": {"type": "user", "id": "alice", "properties": {"roles": ["editor"]}},
    "action": {"name": "edit"},
    "resource": {"type": "document", "id": "42", "properties": {"owner": "alice"}},
}
#: Answers every request that comes, until its standard input ends.
SERVER: Final = """
import socket, sys, threading

REPLY = b'HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: 18\\r\\n\\r\\n{"decision": true}'

def serve(sock):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = b""
    while True:
        head, end, rest = data.partition(b"\\r\\n\\r\\n")
        length = int(head.lower().split(b"content-length:")[1].split()[0]) if end else 1
        if end and len(rest) >= length:
            data = rest[length:]
            sock.sendall(REPLY)
        elif more := sock.recv(65536):
            data += more
        else:
            return

def accept(listener):
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=accept, args=(listener,), daemon=True).start()
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""


def fill(bench: Bench) -> None:
    """Add every row."""
    url, calls = served(bench), bench.size(20, 300)
    sender = bench.stack.enter_context(HTTPTransport())
    remote = Remote(url, transport=sender)
    bare(bench, url, calls)
    performer, clock = Performer(SystemClock()), SystemClock()

    def ours() -> None:
        checked(run(remote.post("/evaluation", ASKED), performer))

    async def ours_async() -> None:
        checked(await arun(remote.post("/evaluation", ASKED), APerformer(clock)))

    bench.time("ours, sync", repeated(ours), calls, over=BARE, bound=at_most(1.2))
    bench.time("ours, async", in_loop(ours_async), calls, over=BARE_ASYNC, bound=at_most(1.2))


def bare(bench: Bench, url: str, calls: int) -> None:
    """Add the same with a client of httpx, set up once."""
    try:
        import httpx  # noqa: PLC0415  measured where it is installed
    except ImportError:
        for name in (BARE, BARE_ASYNC):
            bench.add(missing(name, "httpx is not installed here"))
        return
    client = bench.stack.enter_context(httpx.Client(trust_env=False))
    headers = {"content-type": "application/json"}

    def sync() -> None:
        checked(client.post(f"{url}/evaluation", content=orjson.dumps(ASKED), headers=headers).json())

    async def several(count: int) -> float:
        async with httpx.AsyncClient(trust_env=False) as aclient:

            async def once() -> None:
                reply = await aclient.post(f"{url}/evaluation", content=orjson.dumps(ASKED), headers=headers)
                checked(reply.json())

            await once()
            return await timed(once, count)

    bench.time(BARE, repeated(sync), calls)
    bench.time(BARE_ASYNC, lambda count: asyncio.run(several(count)), calls)


def in_loop(call: Callable[[], Awaitable[object]]) -> Timed:
    """Time a call in one event loop, once it has its connection."""

    async def several(count: int) -> float:
        await call()
        return await timed(call, count)

    return lambda count: asyncio.run(several(count))


async def timed(call: Callable[[], Awaitable[object]], count: int) -> float:
    """Return how many seconds so many calls take, one after the other."""
    start = time.perf_counter()
    for _ in range(count):
        await call()
    return time.perf_counter() - start


def checked(reply: Any) -> None:  # noqa: ANN401  JSON
    """Check that it is the answer."""
    expect("the reply", reply, {"decision": True})


def served(bench: Bench) -> str:
    """Start the server; it ends with this process at the latest."""
    told = [sys.executable, "-c", SERVER]
    server = bench.stack.enter_context(subprocess.Popen(told, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    bench.stack.callback(lambda: server.stdin.close() if server.stdin else None)
    port = int(server.stdout.readline()) if server.stdout else 0
    return f"http://127.0.0.1:{port}"


if __name__ == "__main__":
    main("transport", fill, rounds=15)
