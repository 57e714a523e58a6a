from __future__ import annotations

import asyncio
import http.server
import json
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from pep.decision import Decision, Effect
from pep.errors import ConfigurationError
from pep.model import Obligation, Resource, Subject
from pep.obligations.notify import Notify
from pep.obligations.outbox import Outbox
from pep.obligations.webhook import Webhook
from pep.protocols import ObligationHandler, Phase, Rank
from pep.scope import acting_as, current_scope
from tests.obligations.calling import (
    ALICE,
    BOB,
    CANARY,
    NAN,
    call_of,
    discharged,
    forged,
    permit,
    refused,
    worked,
    worlds,
)
from tests.scenes import Scene

NOTE = Obligation("notify", {"name": "large-transfer"}, "o-1")
PATIENCE = 30.0


class Told(list[Any]):
    """A target that remembers what it was told."""

    def __call__(self, told: Mapping[str, Any]) -> None:
        self.append(told)


def failing(_told: Mapping[str, Any]) -> None:
    raise OSError(CANARY)


async def afailing(_told: Mapping[str, Any]) -> None:
    await asyncio.sleep(0)
    raise OSError(CANARY)


@contextmanager
def serving(status: int = 200, headers: Mapping[str, str] | None = None) -> Iterator[tuple[str, list[Any]]]:
    """Serve on a loopback port; give the URL, and every request that came."""
    came: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            came.append((self.path, dict(self.headers), json.loads(body)))
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook", came
        finally:
            server.shutdown()
            thread.join()


def test_it_is_a_handler_that_comes_last() -> None:
    """It acts after the code and on denial unless told otherwise, after everything else."""
    handler = Notify(Told())
    assert isinstance(handler, ObligationHandler)
    assert (set(handler.types), handler.rank) == ({"notify"}, Rank.NOTIFY)
    assert handler.phase == Phase.AFTER | Phase.ON_DENIAL
    assert Notify(Told(), phase=Phase.BEFORE).phase is Phase.BEFORE
    assert (handler.best_effort, Notify(Told(), required=True).best_effort) == (True, False)


@pytest.mark.parametrize("required", [True, False])
@worlds
def test_what_is_told(required: bool, world: str) -> None:
    """Types, ids and names of everything that took part; no value of a property, an argument or the result."""
    told = Told()
    handler = Notify(told, required=required)
    who, what = Subject("user", "alice", {"x": CANARY}), Resource("account", "1", {"x": CANARY})
    agent = Subject("agent", "a-1", {"x": CANARY})
    call = call_of(
        who, resource=what, arguments={"to": CANARY, "amount": 5}, context={"x": CANARY}, tenant="t", actors=[agent]
    ).with_result(CANARY)
    assert discharged(handler, NOTE, call, world) is call
    assert handler.close(PATIENCE)
    assert told == [
        {
            "obligation": "notify",
            "id": "o-1",
            "name": "large-transfer",
            "phase": "before",
            "subject": {"type": "user", "id": "alice"},
            "action": "pay",
            "resource": {"type": "account", "id": "1"},
            "actors": [{"type": "agent", "id": "a-1"}],
            "tenant": "t",
            "arguments": ["amount", "to"],
        }
    ]
    assert handler.stats == {"sent": 0 if required else 1, "failed": 0, "dropped": 0}


def test_what_is_not_there_is_not_told() -> None:
    """No id, no name, no actors and no tenant are left out."""
    told = Told()
    discharged(Notify(told, required=True), Obligation("notify"), call_of())
    assert list(told[0]) == ["obligation", "phase", "subject", "action", "resource", "arguments"]


@pytest.mark.parametrize(
    ("properties", "named"),
    [
        *[({"name": wrong}, "name") for wrong in (None, "", 1, True, NAN, (CANARY,))],
        ({"url": f"https://{CANARY}"}, "url"),
        ({"to": CANARY}, "to"),
    ],
)
@pytest.mark.parametrize("required", [True, False])
@worlds
def test_malformed_properties_fail_closed(properties: dict[str, Any], named: str, required: bool, world: str) -> None:
    """Even best effort is not made with what cannot be read; where to is never the obligation's to say."""
    told = Told()
    handler = Notify(told, required=required)
    assert f"`{named}`" in refused(handler, forged("notify", properties), call_of(), world)
    assert handler.close(PATIENCE)
    assert told == []


@worlds
def test_best_effort_fails_no_call(world: str) -> None:
    """A target that raises, or returns what it should not, is counted."""

    def awaited_by_nobody(_told: Any) -> Any:
        return afailing(_told)

    for target in (failing, awaited_by_nobody):
        handler, call = Notify(target), call_of()
        assert discharged(handler, NOTE, call, world) is call
        assert handler.close(PATIENCE)
        assert handler.stats == {"sent": 0, "failed": 1, "dropped": 0}


@worlds
def test_best_effort_holds_up_no_call(world: str) -> None:
    """A target that hangs lets calls go on; what has no room is dropped, and counted."""
    gate, begun, told = threading.Event(), threading.Event(), Told()

    def hanging(one: Mapping[str, Any]) -> None:
        begun.set()
        assert gate.wait(PATIENCE)
        told(one)

    handler, call = Notify(hanging, waiting=2), call_of()
    assert discharged(handler, NOTE, call, world) is call
    assert begun.wait(PATIENCE)
    for _ in range(5):
        assert discharged(handler, NOTE, call, world) is call
    assert not handler.close(0.0)
    gate.set()
    assert handler.close(PATIENCE)
    assert len(told) == 3
    assert handler.stats == {"sent": 3, "failed": 0, "dropped": 3}


def test_nobody_acts_where_it_is_told() -> None:
    """A target on its own thread acts for nobody."""
    seen = []
    handler = Notify(lambda _told: seen.append(current_scope()))
    with acting_as(ALICE):
        discharged(handler, NOTE, call_of())
    assert handler.close(PATIENCE)
    assert seen == [None]


@pytest.mark.parametrize("target", [failing, afailing])
@worlds
def test_a_required_one_fails_the_call(target: Any, world: str) -> None:
    """Where it has to be told, and was not, the obligation fails, and says no more than how."""
    handler = Notify(target, required=True)
    if handler.asynchronous and world == "sync":
        with pytest.raises(ConfigurationError, match="only be awaited"):
            Scene(world, obligations=[handler])
        return
    assert "OSError" in refused(handler, NOTE, call_of(), world)


def test_a_coroutine_function_is_awaited_or_begun() -> None:
    """Required it is awaited; else the call goes on, and the loop does the rest, bounded in time and number."""
    told: list[Any] = []

    async def main() -> dict[str, int]:
        gate = asyncio.Event()

        async def telling(one: Any) -> None:
            await gate.wait()
            told.append(one)

        async def never(_one: Any) -> None:
            await asyncio.Event().wait()

        handler, call = Notify(telling, waiting=2), call_of()
        for _ in range(3):
            assert await worked(handler, NOTE, call, "async")() is call
        assert told == []
        gate.set()
        await asyncio.gather(*handler._tasks)
        assert await worked(Notify(telling, required=True), NOTE, call, "async")() is call
        for hopeless in (Notify(never, timeout=1e-3), Notify(afailing)):
            await worked(hopeless, NOTE, call, "async")()
            await asyncio.gather(*hopeless._tasks)
            assert hopeless.stats["failed"] == 1
            assert not hopeless._tasks
        return handler.stats

    assert asyncio.run(main()) == {"sent": 2, "failed": 0, "dropped": 1}
    assert len(told) == 3


def test_without_a_loop_a_coroutine_function_is_not_called() -> None:
    """Best effort has no effect where nobody can await, and says so in its count."""
    handler, call = Notify(afailing), call_of()
    assert handler.discharge(NOTE, call) is call
    assert handler.stats == {"sent": 0, "failed": 1, "dropped": 0}


@pytest.mark.parametrize("required", [True, False])
@worlds
def test_a_logger_is_told_one_safe_line(caplog: pytest.LogCaptureFixture, required: bool, world: str) -> None:
    """Nothing in an id breaks a line or steers a terminal; the same is there as `extra`."""
    logger = logging.getLogger("tests.notify")
    handler = Notify(logger, required=required, level=logging.WARNING)
    nasty = "a\n\r\x1b[31m\x7f\x85\u2028%s\u202e"
    with caplog.at_level(logging.WARNING, "tests.notify"):
        discharged(handler, NOTE, call_of(Subject("user", nasty)), world)
        assert handler.close(PATIENCE)
    (record,) = caplog.records
    line = record.getMessage()
    assert (record.levelno, line.isascii(), line.isprintable()) == (logging.WARNING, True, True)
    assert json.loads(line)["subject"]["id"] == nasty
    assert record.pep["name"] == "large-transfer"  # type: ignore[attr-defined]


@pytest.mark.parametrize("required", [True, False])
@worlds
def test_a_webhook_is_posted_to(required: bool, world: str) -> None:
    """What is told arrives as JSON, with the headers it was given."""
    with serving(204) as (url, came):
        handler = Notify(Webhook(url, headers={"Authorization": "Bearer t"}), required=required)
        discharged(handler, NOTE, call_of(), world)
        assert handler.close(PATIENCE)
    ((path, headers, body),) = came
    assert (path, headers["Authorization"], headers["Content-Type"]) == ("/hook", "Bearer t", "application/json")
    assert body["name"] == "large-transfer"
    assert handler.stats["failed"] == 0


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 500, 503])
@worlds
def test_a_webhook_follows_nobody(status: int, world: str) -> None:
    """A redirect and an error are failures: nothing is told anywhere else."""
    with serving() as (elsewhere, never), serving(status, {"Location": elsewhere}) as (url, came):
        refused(Notify(Webhook(url), required=True), NOTE, call_of(), world)
    assert len(came) == 1
    assert never == []


@worlds
def test_a_webhook_that_hangs_or_is_gone_fails_in_time(world: str) -> None:
    """No answer, and nobody there, are failures; neither is waited for longer than stated."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://localhost:{silent.getsockname()[1]}"
        assert "Timeout" in refused(Notify(Webhook(url, timeout=0.05), required=True), NOTE, call_of(), world)
    assert "ConnectError" in refused(Notify(Webhook(url), required=True), NOTE, call_of(), world)


def test_a_webhook_ignores_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that the environment names is not told."""
    with serving() as (url, came), serving() as (proxy, misled):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("ALL_PROXY", proxy)
        Webhook(url)({"a": 1})
    assert (len(came), misled) == (1, [])


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com", "http://10.0.0.1/", "http://localhost.example.com", "http://127.0.0.1.example.com/"),
        *("ftp://localhost", "file:///etc/passwd", "localhost", "", "https://", "https:///path", "https://[::1", None),
        *(f"https://user:{CANARY}@example.com", f"https://{CANARY}@example.com", "https://example.com:port/", 5),
        *("http://0.0.0.0/", "http://[::]/", "http://2130706433/", "http:/localhost", "//localhost", b"https://x"),
    ],
)
def test_where_a_webhook_may_be(url: Any) -> None:
    """Elsewhere only encrypted, and never with a password in the URL."""
    with pytest.raises(ConfigurationError, match="https") as error:
        Webhook(url)
    assert CANARY not in str(error.value)


@pytest.mark.parametrize(
    "url",
    ["https://example.com/hook", "http://localhost/", "http://127.0.0.1:80/", "http://127.8.9.1/", "http://[::1]/"],
)
def test_where_else_a_webhook_may_be(url: str) -> None:
    """Anywhere encrypted, and on this very machine; what it shows of itself is the host."""
    assert "hook" not in repr(Webhook(url)).lower().removeprefix("webhook")


@pytest.mark.parametrize("timeout", [0, -1, NAN, float("inf"), True, None, "1"])
def test_a_webhook_waits_so_long_and_no_longer(timeout: Any) -> None:
    """A time that bounds nothing is found where it is written."""
    with pytest.raises(ConfigurationError, match="`timeout`"):
        Webhook("https://example.com", timeout=timeout)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without httpx it says what to install."""
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(ConfigurationError, match=r"install `pep\[httpx\]`"):
        Webhook("https://example.com")


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("https://example.com", {}),
        (None, {}),
        (Webhook, {}),
        (failing, {"required": 1}),
        (failing, {"waiting": 0}),
        (failing, {"waiting": True}),
        (failing, {"timeout": NAN}),
        (logging.getLogger("x"), {"level": "INFO"}),
    ],
)
def test_what_it_is_made_of_is_checked(target: Any, options: dict[str, Any]) -> None:
    """A wrong argument is found where it is written."""
    with pytest.raises(ConfigurationError):
        Notify(target, **options)


def test_a_thread_lives_while_there_is_something_to_send() -> None:
    """Idle, an outbox has no thread; the next item begins another."""
    threads = []
    outbox = Outbox(lambda _item: threads.append(threading.current_thread()), 10)
    assert outbox.drain(0.0)
    for _ in range(2):
        outbox.put(1)
        assert outbox.drain(PATIENCE)
        threads[-1].join(PATIENCE)
        assert not threads[-1].is_alive()
    assert threads[0] is not threads[1]
    assert outbox.sent == 2


def test_where_no_thread_can_start_it_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of the interpreter, or of the machine's patience, nothing fails."""

    def refuse(_thread: threading.Thread) -> None:
        message = "can't start new thread"
        raise RuntimeError(message)

    outbox = Outbox(print, 10)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    outbox.put(1)
    assert (outbox.sent, outbox.failed, outbox.dropped) == (0, 0, 1)
    assert outbox.drain(0.0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_sends_its_own_only() -> None:
    """What waited at the fork is the parent's to send; the child begins a thread of its own."""
    gate, begun, sent = threading.Event(), threading.Event(), []

    def send(item: str) -> None:
        begun.set()
        gate.wait(PATIENCE)
        sent.append(item)

    outbox = Outbox(send, 10)
    outbox.put("parent's")
    outbox.put("parent's")
    assert begun.wait(PATIENCE)
    child = os.fork()
    if not child:
        try:
            gate.set()
            outbox.put("child's")
            os._exit(0 if outbox.drain(PATIENCE) and sent == ["child's"] else 1)
        finally:
            os._exit(2)
    gate.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert outbox.drain(PATIENCE)
    assert sent == ["parent's"] * 2


def test_another_process_s_thread_is_not_waited_for() -> None:
    """Where the thread stayed with the parent, what waited is forgotten, and nobody waits for it."""
    sent: list[int] = []
    outbox = Outbox(sent.append, 10)
    outbox._working = os.getpid() + 1
    outbox._waiting.append(1)
    assert outbox.drain(0.0)
    outbox.put(2)
    assert outbox.drain(PATIENCE)
    assert sent == [2]


# Under an enforcer.


@worlds
def test_calls_and_denials_are_told(world: str) -> None:
    """After the code, and on denial; what fails changes neither."""
    told = Told()

    def telling(one: Mapping[str, Any]) -> None:
        told(one)
        raise OSError

    handler = Notify(telling)
    scene = Scene(world, permit(Obligation("notify")), obligations=[handler])
    assert scene.edit().told == ("returned", None)
    assert handler.close(PATIENCE)
    denying = Scene(world, Decision(Effect.DENY, obligations=[Obligation("notify")]), obligations=[handler])
    assert denying.edit(subject=BOB).told == ("denied", None)
    assert handler.close(PATIENCE)
    assert [(one["phase"], one["subject"]["id"]) for one in told] == [("after", "alice"), ("on_denial", "bob")]


@worlds
def test_a_required_one_withholds_the_result(world: str) -> None:
    """Where it has to be told and was not, the result is not let out; before the code, the code does not run."""
    late = Scene(world, permit(NOTE), obligations=[Notify(failing, required=True)])
    assert late.edit().told == ("denied", "obligation")
    assert len(late.ran) == 1
    early = Scene(world, permit(NOTE), obligations=[Notify(failing, required=True, phase=Phase.BEFORE)])
    assert early.edit().told == ("denied", "obligation")
    assert early.ran == []
