"""The transport: the same in both worlds, kept connections, total deadlines, no secret in the wrong place."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pep.clock import SystemClock
from pep.drive import APerformer, Performer, arun, run
from pep.errors import (
    ConfigurationError,
    PDPError,
    PDPInsecure,
    PDPOverloaded,
    PDPReplyError,
    PDPTimeout,
    PDPUnavailable,
)
from pep.exchange import HTTPRequest
from pep.fault import Fault, fault_of
from pep.plan import Raised, contain, send
from pep.protocols import Transport
from pep.testing import FakeClock
from pep.transport import HTTPTransport
from pep.transport.waits import ready
from tests.misbehaving import (
    Behaviour,
    Misbehaving,
    Peer,
    answers,
    close_after_request,
    hang_after_request,
    head,
    header_of,
    in_turn,
    replies,
    sends,
    trickles_body,
    trickles_head,
)
from tests.transport.asking import NEVER, SOON, WORLDS, aask, ask

worlds = pytest.mark.parametrize("world", WORLDS)
OK = replies(body={"decision": True})


def once(peer: Peer) -> None:
    """Answer one request, and hang up after reading the next."""
    peer.request()
    peer.send(head(200, {"Content-Length": "2"}) + b"{}")
    peer.request()


def counts(transport: HTTPTransport) -> tuple[int, int]:
    """How many requests are under way, and how many connections are kept."""
    return transport._pool.counts()


@worlds
def test_a_request_goes_out_and_its_reply_comes_back(world: str) -> None:
    """Method, target, headers and body arrive as they are; status, headers and body come back."""
    with Misbehaving(replies(418, b"tea", {"X-Kind": "green", "x-kind": "black"})) as server, HTTPTransport() as sender:
        reply = ask(sender, f"{server.url}/a/b?c=d", world, headers={"X-One": "1"}, body=b"milk")
    start, *lines = server.requests[0].decode().split("\r\n")
    assert (reply.status, reply.headers["x-kind"], reply.body) == (418, "green, black", b"tea")
    assert start == "POST /a/b?c=d HTTP/1.1"
    assert {line.lower() for line in lines[:-2]} == {
        f"host: 127.0.0.1:{server.port}",
        "accept-encoding: gzip",
        "content-length: 4",
        "x-one: 1",
    }
    assert lines[-1] == "milk"


def test_it_is_a_transport() -> None:
    """The protocol's one method is there."""
    with HTTPTransport() as sender:
        assert isinstance(sender, Transport)


def test_one_connection_serves_both_worlds_and_every_loop() -> None:
    """A connection is kept after each request, whichever thread or event loop it was made on."""
    with Misbehaving(OK) as server, HTTPTransport() as sender:
        for world in WORLDS * 20:
            assert ask(sender, server.url, world).status == 200
        assert counts(sender) == (0, 1)
    assert (server.connections, len(server.requests)) == (1, 40)


def test_threads_share_the_pool() -> None:
    """Many threads ask over no more connections than there may be, and each gets its own answer."""
    with Misbehaving(answers(lambda body: {"told": body.decode()})) as server, HTTPTransport(connections=3) as sender:
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda n: ask(sender, server.url, body=str(n).encode()).body, range(64)))
        assert found == [b'{"told":"%d"}' % n for n in range(64)]
        assert counts(sender)[0] == 0
    assert server.connections <= 3


def test_tasks_share_the_pool() -> None:
    """Many tasks ask over no more connections than there may be, and each gets its own answer."""

    async def main() -> list[bytes]:
        requests = [HTTPRequest("POST", server.url, {}, str(n).encode()) for n in range(64)]
        return [reply.body for reply in await asyncio.gather(*(aask(sender, request) for request in requests))]

    with Misbehaving(answers(lambda body: {"told": body.decode()})) as server, HTTPTransport(connections=3) as sender:
        assert asyncio.run(main()) == [b'{"told":"%d"}' % n for n in range(64)]
        assert counts(sender) == (0, 3)
    assert server.connections == 3


@worlds
def test_a_connection_the_server_closed_meanwhile_fails_nothing(world: str) -> None:
    """A kept connection is looked at before it is used again."""
    with Misbehaving(OK) as server, HTTPTransport() as sender:
        ask(sender, server.url, world)
        server.drop()
        (kept,) = sender._pool._kept.values()
        assert ready(kept[0]._sock, writing=False, seconds=SOON)
        assert ask(sender, server.url, world).status == 200
        assert (server.connections, len(server.requests)) == (2, 2)


@worlds
def test_a_kept_connection_that_dies_silently_is_tried_once_more(world: str) -> None:
    """Where a connection that was kept ends before a byte of the reply, the request goes out on a fresh one."""
    with Misbehaving(in_turn(once, OK)) as server, HTTPTransport() as sender:
        assert [ask(sender, server.url, world, body=str(n).encode()).status for n in range(2)] == [200, 200]
        assert [request[-1:] for request in server.requests] == [b"0", b"1", b"1"]


@worlds
def test_a_request_is_sent_twice_at_most(world: str) -> None:
    """A fresh connection that dies is an outage; nothing is sent a third time."""
    with Misbehaving(in_turn(once, close_after_request)) as server, HTTPTransport() as sender:
        ask(sender, server.url, world)
        with pytest.raises(PDPUnavailable):
            ask(sender, server.url, world)
        assert len(server.requests) == 3
        assert counts(sender) == (0, 0)


@worlds
def test_a_reply_that_began_is_not_asked_for_again(world: str) -> None:
    """Once a byte of the reply was there, the request may have been acted upon: it is not sent again."""

    def begins(peer: Peer) -> None:
        once(peer)
        peer.send(b"H")

    with Misbehaving(in_turn(begins, OK)) as server, HTTPTransport() as sender:
        ask(sender, server.url, world)
        with pytest.raises(PDPUnavailable):
            ask(sender, server.url, world)
        assert len(server.requests) == 2


@worlds
def test_an_answer_nobody_asked_for_answers_nobody(world: str) -> None:
    """What a server says unasked on a kept connection is never taken for the reply to the next request."""
    said = threading.Event()

    def forward(peer: Peer) -> None:
        peer.request()
        peer.send(head(200, {"Content-Length": "2"}) + b"{}")
        said.wait(SOON)
        peer.send(head(200, {"Content-Length": "6"}) + b"forged")
        peer.pause()

    with Misbehaving(in_turn(forward, OK)) as server, HTTPTransport() as sender:
        ask(sender, server.url, world)
        (kept,) = sender._pool._kept.values()
        said.set()
        assert ready(kept[0]._sock, writing=False, seconds=SOON)
        assert ask(sender, server.url, world).body == b'{"decision":true}'


@worlds
def test_a_connection_that_will_serve_no_more_is_not_kept(world: str) -> None:
    """`Connection: close` and a body that ends with the connection are whole, and end it."""
    ended = sends(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    with Misbehaving(in_turn(replies(headers={"Connection": "close"}), ended)) as server, HTTPTransport() as sender:
        assert ask(sender, server.url, world).body == b""
        assert ask(sender, server.url, world).body == b"all of it"
        assert (server.connections, counts(sender)) == (2, (0, 0))


@worlds
@pytest.mark.parametrize("behaviour", [hang_after_request, trickles_head(0.01), trickles_body(0.01)])
def test_the_deadline_is_total(world: str, behaviour: Behaviour) -> None:
    """However slowly a reply drips, and though each byte is in time, the whole of it is not."""
    with Misbehaving(behaviour) as server, HTTPTransport() as sender:
        with pytest.raises(PDPTimeout):
            ask(sender, server.url, world, timeout=NEVER)
        assert counts(sender) == (0, 0)


@worlds
def test_no_time_left_sends_nothing(world: str) -> None:
    """A deadline that has passed is a timeout before anybody is connected to."""
    with Misbehaving(OK) as server, HTTPTransport() as sender:
        with pytest.raises(PDPTimeout):
            ask(sender, server.url, world, timeout=0.0)
        assert server.connections == 0


@worlds
def test_no_room_by_the_deadline_is_overload(world: str) -> None:
    """Whoever waits for a connection until its time is over is told that there are too many requests."""
    asked, going = threading.Event(), threading.Event()

    def slow(peer: Peer) -> None:
        peer.request()
        asked.set()
        going.wait(SOON)
        peer.send(head(200, {"Content-Length": "0"}))

    with Misbehaving(slow) as server, HTTPTransport(connections=1) as sender, ThreadPoolExecutor(1) as threads:
        first = threads.submit(ask, sender, server.url)
        assert asked.wait(SOON)
        with pytest.raises(PDPOverloaded):
            ask(sender, server.url, world, timeout=NEVER)
        going.set()
        assert first.result(SOON).status == 200
        assert counts(sender)[0] == 0


@worlds
def test_a_plan_is_told_that_there_was_no_room(world: str) -> None:
    """Within a deadline of its own too: whoever waits for the reply does not give up first, and say it was late."""
    asked, going, clock = threading.Event(), threading.Event(), SystemClock()

    def slow(peer: Peer) -> None:
        peer.request()
        asked.set()
        going.wait(SOON)
        peer.send(head(200, {"Content-Length": "0"}))

    with Misbehaving(slow) as server, HTTPTransport(connections=1) as sender, ThreadPoolExecutor(1) as threads:
        first = threads.submit(ask, sender, server.url)
        assert asked.wait(SOON)
        for _again in range(8):
            plan = contain(send(sender, HTTPRequest("POST", server.url)), clock.monotonic() + NEVER / 4)
            reply = run(plan, Performer(clock)) if world == "sync" else asyncio.run(arun(plan, APerformer(clock)))
            assert isinstance(reply, Raised)
            assert fault_of(reply.error) is Fault.OVERLOADED
        going.set()
        assert first.result(SOON).status == 200


def test_left_at_any_wait_leaves_nothing_behind() -> None:
    """Cut off wherever it waits, a request gives its turn back and closes its connection."""
    request, left = HTTPRequest("POST", "", {}, b"{}"), []
    with Misbehaving(replies(body={})) as server, HTTPTransport(connections=1) as sender:
        for stop in range(100):
            exchange = sender._exchanged(
                HTTPRequest("POST", server.url, {}, request.body), sender._clock.monotonic() + SOON
            )
            try:
                wait: Any = next(exchange)
                for _step in range(stop):
                    wait = exchange.send(ready(wait.sock, wait.writing, SOON))
            except StopIteration:
                break
            exchange.close()
            left.append(counts(sender))
    assert left == [(0, 0)] * len(left)
    assert len(left) >= 2


def test_a_cancelled_task_leaves_nothing_behind() -> None:
    """A task cancelled while it waits gives its turn back, and its connection is not used again."""

    async def main() -> None:
        task = asyncio.ensure_future(aask(sender, HTTPRequest("POST", server.url)))
        while not server.requests:  # noqa: ASYNC110  it is on another thread
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert counts(sender) == (0, 0)
        assert (await aask(sender, HTTPRequest("POST", server.url))).status == 200

    with Misbehaving(in_turn(hang_after_request, OK)) as server, HTTPTransport(connections=1) as sender:
        asyncio.run(main())


def test_what_is_never_awaited_sends_nothing() -> None:
    """A request that nobody awaits is closed without a trace."""
    with Misbehaving(OK) as server, HTTPTransport() as sender:
        pending: Any = sender.send(HTTPRequest("POST", server.url), timeout=SOON, awaiting=True)
        pending.close()
        assert (server.connections, counts(sender)) == (0, (0, 0))


def test_idle_connections_are_closed() -> None:
    """A connection that nobody needed for so many seconds is not used again."""
    clock = FakeClock()
    with Misbehaving(OK) as server, HTTPTransport(idle=5, clock=clock) as sender:
        for seconds in (4.9, 5.0, 0.0):
            ask(sender, server.url)
            clock.advance(seconds)
        assert server.connections == 2


@worlds
def test_a_closed_transport_refuses(world: str) -> None:
    """After it was closed nothing is sent, and that is no outage that a profile could excuse."""
    with Misbehaving(OK) as server:
        sender = HTTPTransport()
        ask(sender, server.url, world)
        sender.close()
        sender.close()
        with pytest.raises(PDPError, match="closed") as error:
            ask(sender, server.url, world)
        assert not isinstance(error.value, PDPUnavailable)
        assert (server.connections, counts(sender)) == (1, (0, 0))


def test_it_closes_what_is_under_way_afterwards() -> None:
    """A connection in use while the transport is closed serves to the end, and is not kept."""
    sender = HTTPTransport()

    def closing(peer: Peer) -> None:
        peer.request()
        sender.close()
        peer.send(head(200, {"Content-Length": "0"}))
        peer.pause()

    with Misbehaving(closing) as server:
        assert ask(sender, server.url).status == 200
        assert counts(sender) == (0, 0)


def test_it_is_a_context_manager_in_both_worlds() -> None:
    """Leaving the block closes it."""

    async def main() -> HTTPTransport:
        async with HTTPTransport() as sender:
            await aask(sender, HTTPRequest("POST", server.url))
        await sender.aclose()
        return sender

    with Misbehaving(OK) as server:
        assert counts(asyncio.run(main())) == (0, 0)


def test_collected_it_closes_its_connections() -> None:
    """A transport nobody holds any longer leaves no socket for the collector to warn of."""
    with Misbehaving(OK) as server:
        sender = HTTPTransport()
        ask(sender, server.url)
        (kept,) = sender._pool._kept.values()
        sock = kept[0]._sock
        del sender, kept
        gc.collect()
        assert sock.fileno() == -1


PROGRAM = """
import os, sys
from pep.exchange import HTTPRequest
from pep.transport import HTTPTransport

sender, request = HTTPTransport(), HTTPRequest("POST", sys.argv[1])
send = lambda: sender.send(request, timeout=20, awaiting=False).status
first = send()
child = os.fork()
if not child:
    status = send()
    sys.stdout.flush()
    sys.exit(0 if status == 200 else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(first, send())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_has_connections_of_its_own() -> None:
    """Neither takes over the other's connection, both exit without a warning, and the parent's goes on serving."""
    with Misbehaving(OK) as server:
        told = [sys.executable, "-W", "error", "-c", PROGRAM, server.url]
        ended = subprocess.run(told, capture_output=True, text=True, timeout=60, check=False)
        assert (ended.returncode, ended.stdout.strip()) == (0, "200 200")
        assert "Warning" not in ended.stderr
        assert (server.connections, len(server.requests)) == (2, 3)


def test_another_process_gets_another_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the parent kept is closed over here, and what was in use there is never kept here."""
    with Misbehaving(OK) as server, HTTPTransport() as sender:
        ask(sender, server.url)
        before = sender._pool
        monkeypatch.setattr(os, "getpid", lambda: 1)
        assert ask(sender, server.url).status == 200
        assert before.counts() == (0, 0)
        assert (counts(sender), server.connections) == ((0, 1), 2)


def test_threads_of_a_child_make_one_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes second to an inherited pool finds the new one."""
    with HTTPTransport() as sender:
        inherited, made = sender._pool, HTTPTransport()._pool

        class Late:
            """Whoever held the lock before has made the pool."""

            def __enter__(self) -> None:
                monkeypatch.undo()
                sender._pool = made

            def __exit__(self, *_error: object) -> None:
                sender._pool = made

        monkeypatch.setattr(sender, "_lock", Late())
        monkeypatch.setattr(inherited, "process", 1)
        assert sender._here() is made


# --- what goes where ----------------------------------------------------------------------------


REFUSED_REQUESTS: dict[str, Callable[[str], HTTPRequest]] = {
    "a line feed in a header": lambda url: HTTPRequest("POST", url, {"x": "a\nb"}),
    "a carriage return in a header": lambda url: HTTPRequest("POST", url, {"x": "a\rb"}),
    "a null in a header": lambda url: HTTPRequest("POST", url, {"x": "a\0b"}),
    "a header beyond ASCII": lambda url: HTTPRequest("POST", url, {"x": "ä"}),
    "a header with space around": lambda url: HTTPRequest("POST", url, {"x": " a"}),
    "a header that is no text": lambda url: HTTPRequest("POST", url, {"x": 1}),  # type: ignore[dict-item]
    "a name with a line feed": lambda url: HTTPRequest("POST", url, {"x\n": "a"}),
    "a name with a colon": lambda url: HTTPRequest("POST", url, {"x:": "a"}),
    "an empty name": lambda url: HTTPRequest("POST", url, {"": "a"}),
    "another host": lambda url: HTTPRequest("POST", url, {"Host": "elsewhere"}),
    "another length": lambda url: HTTPRequest("POST", url, {"Content-Length": "1"}),
    "chunks": lambda url: HTTPRequest("POST", url, {"transfer-encoding": "chunked"}),
    "a line feed in the URL": lambda url: HTTPRequest("POST", url + "/\r\nX: y"),
    "a null in the URL": lambda url: HTTPRequest("POST", url + "/\0"),
    "a space in the URL": lambda url: HTTPRequest("POST", url + "/ HTTP/1.1"),
    "a user in the URL": lambda url: HTTPRequest("POST", url.replace("://", "://user@")),
    "a fragment": lambda url: HTTPRequest("POST", url + "#here"),
    "a relative URL": lambda _url: HTTPRequest("POST", "/path"),
    "another scheme": lambda url: HTTPRequest("POST", url.replace("http", "ftp")),
    "a tunnel": lambda url: HTTPRequest("CONNECT", url),
    "a method of two lines": lambda url: HTTPRequest("GET\r\nX:", url),
    "a body of text": lambda url: HTTPRequest("POST", url, {}, "text"),  # type: ignore[arg-type]
}


@worlds
@pytest.mark.parametrize("make", REFUSED_REQUESTS.values(), ids=REFUSED_REQUESTS)
def test_a_request_that_would_be_another_one_is_refused(world: str, make: Callable[[str], HTTPRequest]) -> None:
    """What could smuggle a header or go elsewhere is not sent; it is no outage."""
    with Misbehaving(OK) as server, HTTPTransport() as sender:
        request = make(server.url)
        with pytest.raises(PDPError) as error:
            ask(sender, request.url, world, headers=request.headers, body=request.body, method=request.method)
        assert not isinstance(error.value, (PDPUnavailable, PDPReplyError))
        assert (server.connections, counts(sender)) == (0, (0, 0))


SECRET = "s3cr3t-token"
PLAIN = "http://sidecar.example:8181/v1"


@worlds
@pytest.mark.parametrize(
    ("credentials", "name", "value"),
    [
        (SECRET, "authorization", f"Bearer {SECRET}"),
        (lambda: f"Basic {SECRET}", "authorization", f"Basic {SECRET}"),
        (lambda: {"X-API-Key": SECRET}, "x-api-key", SECRET),
    ],
)
def test_credentials_are_shown(world: str, credentials: Any, name: str, value: str) -> None:
    """A bearer token, the value of `Authorization`, or headers; the repr does not tell them."""
    with Misbehaving(OK) as server, HTTPTransport(credentials=credentials) as sender:
        ask(sender, server.url, world, headers={"authorization": "of the request"})
        assert header_of(server.requests[0], name) == value
        assert SECRET not in repr(sender)


def test_credentials_are_asked_for_each_request() -> None:
    """A token that was renewed is used from then on."""
    tokens = iter(["Bearer one", "Bearer two"])
    with Misbehaving(OK) as server, HTTPTransport(credentials=lambda: next(tokens)) as sender:
        for _ in range(2):
            ask(sender, server.url)
        assert [header_of(request, "authorization") for request in server.requests] == ["Bearer one", "Bearer two"]


def broken() -> str:
    raise LookupError(SECRET)


async def awaited() -> str:
    return SECRET


@worlds
@pytest.mark.parametrize(
    "credentials",
    [
        broken,
        awaited,
        lambda: None,
        dict,
        lambda: 7,
        lambda: f"{SECRET}\r\nX-Evil: 1",
        lambda: {SECRET + "\n": "x"},
        lambda: {"host": SECRET},
    ],
)
def test_credentials_that_fail_are_a_fault_and_leak_nothing(world: str, credentials: Any) -> None:
    """Nothing is sent, the error is no outage, and the secret is in no message, cause or context."""
    with Misbehaving(OK) as server, HTTPTransport(credentials=credentials) as sender:
        with pytest.raises(PDPError) as found:
            ask(sender, server.url, world)
        error: BaseException | None = found.value
        assert type(error) is PDPError
        while error is not None:
            assert SECRET not in f"{error!r}{pickle.dumps(error.args)!r}"
            error = error.__cause__ or error.__context__
        assert server.connections == 0


@worlds
@pytest.mark.parametrize(
    ("credentials", "headers"), [(SECRET, {}), (None, {"Authorization": SECRET}), (None, {"Cookie": SECRET})]
)
def test_secrets_never_go_over_plain_http(world: str, credentials: str | None, headers: dict[str, str]) -> None:
    """Not even to a host that may be asked in plain text."""
    with HTTPTransport(credentials=credentials, plain=["sidecar.example:8181"]) as sender:
        with pytest.raises(PDPInsecure) as error:
            ask(sender, PLAIN, world, headers=headers)
        assert SECRET not in str(error.value)


@worlds
def test_plain_http_goes_to_this_machine_and_named_hosts_only(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request to another host is refused as not secure, before its name is looked up."""
    looked: list[Any] = []
    monkeypatch.setattr("socket.getaddrinfo", lambda *args, **_: looked.append(args) or [])
    with HTTPTransport() as sender, pytest.raises(PDPInsecure):
        ask(sender, PLAIN, world)
    assert looked == []


ADMITTED = [
    ("https://pdp.example", {}),
    ("https://pdp.example", {"credentials": SECRET}),
    ("http://127.0.0.1:1", {"credentials": SECRET}),
    ("http://[::1]:1", {}),
    ("http://localhost:1", {}),
    (PLAIN, {"plain": ["sidecar.example"]}),
    (PLAIN, {"plain": {"SIDECAR.example:8181"}}),
    ("http://[fd00::1]:80", {"plain": ("[fd00::1]:80",)}),
    ("http://[fd00::1]:80", {"plain": ("fd00::1",)}),
]
NOT_ADMITTED = [
    (PLAIN, {}),
    (PLAIN, {"plain": ["sidecar.example:80"]}),
    (PLAIN, {"plain": ["sidecar.example"], "credentials": SECRET}),
    ("http://localhost.example:1", {}),
    ("ftp://127.0.0.1", {}),
]


@pytest.mark.parametrize(("url", "options"), ADMITTED)
def test_urls_that_are_admitted(url: str, options: dict[str, Any]) -> None:
    """TLS anywhere; plain text on this machine and where it was allowed."""
    with HTTPTransport(**options) as sender:
        sender.admit(url)


@pytest.mark.parametrize(("url", "options"), NOT_ADMITTED)
def test_urls_that_are_not_admitted(url: str, options: dict[str, Any]) -> None:
    """A decision over plain text, or a secret, is a mistake of configuration."""
    with HTTPTransport(**options) as sender, pytest.raises(ConfigurationError) as error:
        sender.admit(url)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    "options",
    [
        {"credentials": ""},
        {"credentials": "two words"},
        {"credentials": "a\r\nb"},
        {"credentials": 7},
        {"credentials": b"token"},
        {"plain": "sidecar"},
        {"plain": 7},
        {"plain": [7]},
        {"plain": [""]},
        {"plain": ["http://sidecar"]},
        {"max_bytes": 0},
        {"max_bytes": 1.5},
        {"max_head": True},
        {"connections": 0},
        {"connections": "4"},
        {"idle": -1},
        {"idle": float("nan")},
        {"idle": float("inf")},
        {"idle": "5"},
    ],
    ids=str,
)
def test_options_are_checked_when_it_is_made(options: dict[str, Any]) -> None:
    """What will not do is a mistake of configuration, told at once and without the secret."""
    with pytest.raises(ConfigurationError):
        HTTPTransport(**options)


def test_unknown_options_are_refused() -> None:
    """A misspelled option is an error, and every one goes by its name."""
    with pytest.raises(TypeError):
        HTTPTransport(verify=False)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        HTTPTransport("token")  # type: ignore[misc]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what the extra brings, the message says how to get it."""
    monkeypatch.setitem(sys.modules, "h11", None)
    with pytest.raises(ConfigurationError, match=r"pep\[httpx\]"):
        HTTPTransport()


def test_importing_it_needs_no_extra() -> None:
    """The module can be imported without h11, httpx or asyncio being loaded."""
    program = "import sys, pep.transport; print(sorted({'h11', 'httpx', 'httpcore', 'asyncio'} & {*sys.modules}))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@worlds
def test_the_environment_sends_nothing_elsewhere(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that name a proxy are not read."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Misbehaving(OK) as server, HTTPTransport() as sender:
        assert ask(sender, server.url, world).status == 200


@worlds
def test_nothing_is_followed_or_remembered(world: str) -> None:
    """A redirect is a reply like any other, and a cookie is not sent back."""
    told = {"Location": "/elsewhere", "Set-Cookie": "a=b"}
    with Misbehaving(replies(307, headers=told)) as server, HTTPTransport() as sender:
        assert [ask(sender, server.url, world).status for _ in range(2)] == [307, 307]
        assert not any(header_of(request, "cookie") for request in server.requests)
