from __future__ import annotations

import asyncio
import builtins
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from pep.bus import EVERYTHING, Bus, Floor, PublishError, Subscription
from pep.bus.redis import RedisBus
from pep.errors import ConfigurationError
from tests.bus.proxy import Proxy
from tests.redis_server import RedisServer

ALICE = ("subject", "user", "alice")
#: How long a test waits for what must happen, in seconds.
PATIENCE = 30.0
HEARTBEAT = 1.0
#: Where nothing is to be missed, however busy the machine is.
CALM = 60.0


class Party:
    """One enforcer's part in a bus of its own, as if in a process of its own."""

    def __init__(self, server: Any, **options: Any) -> None:
        self.changed = threading.Condition()
        self.told: list[Floor | str] = []
        self.bus = RedisBus(server, **{"heartbeat": HEARTBEAT, "timeout": 0.5, **options})
        self.subscription = self.bus.subscribe(self._note, self._note)

    def _note(self, value: Floor | str) -> None:
        with self.changed:
            self.told.append(value)
            self.changed.notify_all()

    def until(self, condition: Callable[[], bool]) -> Party:
        """Wait until something holds; whatever is called wakes this, and a beat at the latest."""
        with self.changed:
            deadline = time.monotonic() + PATIENCE
            while not condition():
                assert time.monotonic() < deadline, (self.told, self.bus.state)
                self.changed.wait(0.05)
        return self

    def up(self) -> Party:
        return self.until(lambda: self.bus.state == "connected")

    def down(self) -> Party:
        return self.until(lambda: self.bus.state != "connected")

    def hears(self, value: Floor | str) -> Party:
        return self.until(lambda: value in self.told)

    def loses(self) -> Party:
        return self.until(lambda: any(type(told) is str for told in self.told))

    def forget(self) -> Party:
        self.told.clear()
        return self


Joins = Callable[..., Party]


@pytest.fixture
def join() -> Iterator[Joins]:
    """Make parties; afterwards they leave, and no thread of theirs is left."""
    with ExitStack() as stack:

        def make(server: Any, **options: Any) -> Party:
            party = Party(server, **options)
            stack.callback(party.subscription.close)
            return party

        yield make
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("pep-bus")]


@pytest.fixture
def proxied(redis_server: Callable[..., RedisServer]) -> Iterator[tuple[RedisServer, Proxy]]:
    """A server, and a proxy before it."""
    server = redis_server()
    proxy = Proxy(server.port)
    yield server, proxy
    proxy.close()


def test_an_invalidation_reaches_the_others(redis_server: Callable[..., RedisServer], join: Joins) -> None:
    """What one publishes, in either world, the others hear; it does not hear itself."""
    server = redis_server()
    first, second = join(server.url).up(), join(server.url).up()
    first.up().forget()
    second.up().forget()
    first.subscription.publish(ALICE)
    second.hears(ALICE)
    asyncio.run(second.subscription.apublish(EVERYTHING))
    first.hears(EVERYTHING)
    assert ALICE not in first.told
    assert EVERYTHING not in second.told


def test_it_is_a_bus(redis_server: Callable[..., RedisServer], join: Joins) -> None:
    """It has what a bus has, tells its state, and bounds entries by it."""
    server = redis_server()
    party = join(server.url, ttl=100.0)
    assert isinstance(party.bus, Bus)
    assert isinstance(party.subscription, Subscription)
    party.up()
    assert (party.subscription.lifetime(), party.bus.ttl) == (100.0, 100.0)
    assert repr(party.bus) == "<RedisBus on channel `pep`: connected>"
    server.kill()
    party.down()
    assert party.subscription.lifetime() == HEARTBEAT
    assert party.subscription.state.startswith("down since 20")


def test_enforcers_of_one_process_share_it(redis_server: Callable[..., RedisServer], join: Joins) -> None:
    """Two subscribers of one bus share its threads, and hear each other though the server is gone."""
    server = redis_server()
    party = join(server.url).up()
    told: list[Floor] = []
    second = party.bus.subscribe(told.append, lambda _reason: None)
    assert len([thread for thread in threading.enumerate() if thread.name.startswith("pep-bus")]) == 2
    party.subscription.publish(ALICE)
    assert told == [ALICE]
    server.kill()
    with pytest.raises(PublishError):
        second.publish(("action", "read"))
    assert ("action", "read") in party.told
    second.close()
    assert second.state == "down: closed"
    assert party.subscription.state != "down: closed"


def test_channels_are_apart(redis_server: Callable[..., RedisServer], join: Joins) -> None:
    """What is published on another channel is not heard."""
    server = redis_server()
    here, there = join(server.url, channel="here").up(), join(server.url, channel="there").up()
    there.forget()
    here.subscription.publish(ALICE)
    time_passes = join(server.url, channel="there").up()
    time_passes.subscription.publish(EVERYTHING)
    there.hears(EVERYTHING)
    assert ALICE not in there.told


def test_a_client_gives_its_settings(redis_server: Callable[..., RedisServer], join: Joins) -> None:
    """A client's address and password are taken, its connections and patience are not."""
    server = redis_server("--requirepass", "hunter2")
    with redis.Redis(port=server.port, password="hunter2", decode_responses=True, socket_timeout=None) as client:
        first = join(client).up()
        first.subscription.publish(ALICE)
    second = join(f"redis://:hunter2@127.0.0.1:{server.port}").up()
    second.subscription.publish(EVERYTHING)
    first.hears(EVERYTHING)


def test_a_refused_password_keeps_it_down(redis_server: Callable[..., RedisServer], join: Joins) -> None:
    """What the server refuses is told of, without what it was refused."""
    server = redis_server("--requirepass", "hunter2")
    party = join(f"redis://:wrong-one@127.0.0.1:{server.port}")
    party.until(lambda: "AuthenticationError" in party.bus.state)
    with pytest.raises(PublishError, match="AuthenticationError") as raised:
        party.subscription.publish(ALICE)
    assert "wrong-one" not in str(raised.value) + party.bus.state + repr(party.bus)


def test_a_server_killed_and_started_again(redis_server: Callable[..., RedisServer], join: Joins) -> None:
    """It goes down, everything is dropped, publishing raises; back again, everything is dropped again, and it works."""
    server = redis_server()
    first, second = join(server.url).up(), join(server.url).up()
    for party in (first, second):
        party.forget()
    server.kill()
    for party in (first, second):
        party.loses().down()
    with pytest.raises(PublishError, match="invalidated in this process"):
        first.subscription.publish(ALICE)
    for party in (first, second):
        party.forget()
    server.start()
    for party in (first, second):
        party.hears("subscribed anew").up()
    first.subscription.publish(EVERYTHING)
    second.hears(EVERYTHING)


def test_a_restart_between_two_publications_loses_nothing(
    redis_server: Callable[..., RedisServer], join: Joins
) -> None:
    """A connection that went stale is made anew, once, where the server is there."""
    server = redis_server()
    party = join(server.url, heartbeat=CALM).up()
    party.subscription.publish(ALICE)
    party.forget()
    with redis.Redis(port=server.port) as client:
        client.client_kill_filter(_type="normal", skipme=True)
    party.subscription.publish(ALICE)
    assert party.bus.state == "connected"


def test_a_subscription_that_was_made_anew_behind_its_back_is_broken(
    redis_server: Callable[..., RedisServer],
) -> None:
    """A second confirmation means that the client has connected again, and that what came between is lost."""
    ear = RedisBus(redis_server().url)._shared._wire().listen()
    try:
        assert ear.read(0.01) is None
        ear._subscription.subscribe("pep")  # type: ignore[attr-defined]
        with pytest.raises(ConnectionError, match="did not last"):
            ear.read(PATIENCE)
    finally:
        ear.close()


def test_a_killed_subscription_drops_everything(redis_server: Callable[..., RedisServer], join: Joins) -> None:
    """`CLIENT KILL` ends what a subscriber hears: it drops everything, and subscribes anew."""
    server = redis_server()
    party = join(server.url).up().forget()
    with redis.Redis(port=server.port) as client:
        client.client_kill_filter(_type="pubsub")
    party.hears("subscribed anew").up()
    assert len(party.told) >= 2


def test_a_paused_server_drops_everything(redis_server: Callable[..., RedisServer], join: Joins) -> None:
    """`CLIENT PAUSE` keeps connections open and silent: publishing raises in time, and everything is dropped."""
    server = redis_server()
    party = join(server.url).up().forget()
    with redis.Redis(port=server.port) as client:
        client.client_pause(2_500)
    with pytest.raises(PublishError):
        party.subscription.publish(ALICE)
    with pytest.raises(PublishError):
        asyncio.run(party.subscription.apublish(ALICE))
    party.loses().forget().hears("subscribed anew").up()


def test_a_hanging_network_drops_everything(proxied: tuple[RedisServer, Proxy], join: Joins) -> None:
    """What hangs looks like silence, not like an error: the heartbeat tells, and what comes late changes nothing."""
    server, proxy = proxied
    near, far = join(server.url).up(), join(proxy.url).up()
    near.up()
    far.forget()
    proxy.hang()
    near.subscription.publish(ALICE)
    with pytest.raises(PublishError):
        far.subscription.publish(("action", "read"))
    far.loses().down()
    assert ALICE not in far.told
    far.forget()
    proxy.flow()
    far.hears("subscribed anew").up()


def test_a_cut_network_drops_everything(proxied: tuple[RedisServer, Proxy], join: Joins) -> None:
    """A reset connection is known of at once."""
    _, proxy = proxied
    party = join(proxy.url).up().forget()
    proxy.cut()
    party.hears("subscribed anew").up()
    assert len(party.told) >= 2


def test_a_message_left_out_drops_everything(proxied: tuple[RedisServer, Proxy], join: Joins) -> None:
    """A network that swallows one message is found out by the next, at the heartbeat at the latest."""
    server, proxy = proxied
    near, far = join(server.url).up(), join(proxy.url).up()
    near.subscription.publish(("action", "first"))
    far.hears(("action", "first")).forget()
    proxy.losing = lambda payload: b"alice" in payload
    near.subscription.publish(ALICE)
    far.until(lambda: any("lost" in told for told in far.told))
    assert ALICE not in far.told
    far.up()


def test_a_process_that_is_not_heard_of_any_more_drops_everything(
    proxied: tuple[RedisServer, Proxy], join: Joins
) -> None:
    """Where only one other process falls silent, what it said last may be missing: once, everything is dropped."""
    server, proxy = proxied
    far = join(proxy.url).up()
    near = join(server.url).up()
    near.subscription.publish(ALICE)
    far.hears(ALICE).forget()
    publisher = near.bus._shared._own()
    assert publisher is not None
    proxy.losing = lambda payload: publisher._id.encode() in payload
    near.subscription.publish(EVERYTHING)
    far.loses()
    assert EVERYTHING not in far.told


@pytest.mark.parametrize("payload", [b"", b"{}", b"\xff" * 70_000, b'{"schema":"pep.bus/2"}'])
def test_what_cannot_be_read_drops_everything(
    payload: bytes, redis_server: Callable[..., RedisServer], join: Joins
) -> None:
    """Whoever else writes to the channel makes everybody drop everything, and nothing else."""
    server = redis_server()
    party = join(server.url).up().forget()
    with redis.Redis(port=server.port) as client:
        client.publish("pep", payload)
    party.hears("a message could not be read").up()


CHILD = """
import sys
from pep.bus.redis import RedisBus

def say(value):
    print(value, flush=True)

subscription = RedisBus(sys.argv[1], heartbeat=float(sys.argv[2])).subscribe(say, say)
for line in sys.stdin:
    subscription.publish(("action", line.strip()))
    say("published")
subscription.close()
"""


def test_two_processes(redis_server: Callable[..., RedisServer], join: Joins) -> None:
    """What another process invalidates is heard here, and the other way round."""
    server = redis_server()
    party = join(server.url, heartbeat=CALM).up()
    command = [sys.executable, "-c", CHILD, server.url, str(CALM)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "subscribed anew\n"
        child.stdin.write("read\n")
        child.stdin.flush()
        party.hears(("action", "read"))
        party.forget()
        party.subscription.publish(ALICE)
        assert "('subject', 'user', 'alice')\n" in iter(child.stdout.readline, "")
        child.stdin.close()
        child.stdout.read()
    assert child.returncode == 0
    # It said farewell: nothing is missed.
    party.subscription.publish(ALICE)
    assert not [told for told in party.told if type(told) is str]


def test_a_killed_process_drops_everything_elsewhere(redis_server: Callable[..., RedisServer], join: Joins) -> None:
    """Whether it was about to say something is not known."""
    server = redis_server()
    party = join(server.url).up()
    command = [sys.executable, "-c", CHILD, server.url, str(HEARTBEAT)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        child.stdin.write("read\n")
        child.stdin.flush()
        party.hears(("action", "read"))
        party.forget()
        child.kill()
        party.loses()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_subscribes_itself(redis_server: Callable[..., RedisServer], join: Joins) -> None:
    """It drops everything and is down, subscribes on its first use, and disturbs its parent in nothing."""
    server = redis_server()
    party = join(server.url, heartbeat=CALM).up().forget()
    child = os.fork()
    if child == 0:
        try:
            os._exit(_in_child(party))
        finally:
            os._exit(9)
    party.hears(("action", "child"))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert party.bus.state == "connected"
    assert [told for told in party.told if type(told) is str] == []
    party.subscription.publish(ALICE)


def _in_child(party: Party) -> int:
    if party.told != ["this process was forked"] or party.bus.state != "down: not subscribed in this process":
        return 1
    party.forget()
    if party.subscription.lifetime() != CALM:
        return 2
    party.up()
    party.subscription.publish(("action", "child"))
    party.subscription.close()
    return 0 if threading.active_count() == 1 else 3


def test_closing_is_bounded_whatever_the_server_does(redis_server: Callable[..., RedisServer], join: Joins) -> None:
    """With a server that hangs, threads end all the same, and what is used after says that it was closed."""
    server = redis_server()
    party = join(server.url).up()
    with redis.Redis(port=server.port) as client:
        client.client_pause(100_000)
    party.subscription.close()
    party.subscription.close()
    assert party.subscription.state == "down: closed"
    assert party.subscription.lifetime() == HEARTBEAT
    with pytest.raises(PublishError, match="the subscription is closed"):
        party.subscription.publish(ALICE)
    again = party.bus.subscribe(party._note, party._note)
    again.close()


def test_where_no_thread_is_to_be_had_it_stays_down(
    monkeypatch: pytest.MonkeyPatch, redis_server: Callable[..., RedisServer], join: Joins
) -> None:
    """A process that is about to end enforces still, and keeps nothing for long."""
    server = redis_server()

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError

    monkeypatch.setattr(threading.Thread, "start", refuse)
    party = join(server.url)
    assert party.subscription.lifetime() == HEARTBEAT
    with pytest.raises(PublishError):
        party.subscription.publish(ALICE)


@pytest.mark.parametrize(
    "options",
    [
        {"heartbeat": 0},
        {"heartbeat": float("nan")},
        {"heartbeat": True},
        {"timeout": -1},
        {"timeout": "1"},
        {"ttl": float("inf")},
        {"channel": ""},
        {"channel": b"pep"},
    ],
)
def test_options_are_checked(options: dict[str, Any]) -> None:
    """A duration is a finite number above zero, a channel has a name."""
    with pytest.raises(ConfigurationError, match="of a bus is"):
        RedisBus("redis://localhost", **options)


@pytest.mark.parametrize(
    "server",
    [
        "http://:hunter2@localhost",
        "redis://:hunter2@localhost:port",
        "redis://:hunter2@localhost?unknown=1",
        "redis://:hunter2@localhost?socket_timeout=x",
        b"redis://localhost",
        None,
    ],
)
def test_what_is_no_server_is_refused(server: Any) -> None:
    """What cannot be connected to is refused where it is written, and the password is not repeated."""
    with pytest.raises(ConfigurationError) as raised:
        RedisBus(server)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_other_kinds_of_clients_are_refused() -> None:
    """An asynchronous client, and one of several servers, is no client of one server."""
    import redis.asyncio as aredis  # noqa: PLC0415
    from redis.sentinel import Sentinel  # noqa: PLC0415

    for client in (aredis.Redis(), Sentinel([("localhost", 1)]).master_for("main")):
        with pytest.raises(ConfigurationError, match=r"takes a `redis"):
            RedisBus(client)


def test_a_missing_redis_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without redis-py, a bus says what to install."""
    there = builtins.__import__

    def missing(name: str, *args: Any) -> Any:
        if name.split(".", maxsplit=1)[0] == "redis":
            raise ImportError(name)
        return there(name, *args)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ConfigurationError, match=r"install `pep\[redis\]`"):
        RedisBus("redis://localhost")


def test_nothing_loads_redis_before_it_is_used() -> None:
    """Importing the library, its buses, even the adapter, loads no redis-py and no asyncio."""
    code = "import sys, pep.bus, pep.bus.redis; sys.exit(bool({'redis', 'asyncio'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_async_program_is_not_held_up(proxied: tuple[RedisServer, Proxy], join: Joins) -> None:
    """While a publication waits for a server that hangs, the loop runs on; one that is cancelled is given up."""
    _, proxy = proxied
    party = join(proxy.url).up()
    proxy.hang()

    async def publish() -> bool:
        publishing = asyncio.create_task(party.subscription.apublish(ALICE))
        given_up = asyncio.create_task(party.subscription.apublish(ALICE))
        await asyncio.sleep(0)
        ran = not publishing.done()
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        with pytest.raises(PublishError, match=r"no answer in 0\.5 s|TimeoutError"):
            await publishing
        return ran

    assert asyncio.run(publish())
    proxy.flow()
