from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits.aio.storage import MemoryStorage as AsyncMemory
from limits.storage import MemoryStorage, RedisStorage

from pep.errors import ConfigurationError, ObligationError
from pep.model import Obligation, Resource, Subject
from pep.obligations.counters import Limit, MemoryCounters
from pep.obligations.exclusive import Exclusive
from pep.obligations.limits import Quota, RateLimit
from pep.obligations.worlds import on_a_loop
from pep.protocols import Call, ObligationHandler, Phase, Rank, Refusal
from pep.testing import FakeClock
from pep.verdict import Outcome
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
from tests.proving import times
from tests.redis_server import RedisServer, redis_server
from tests.scenes import Scene

__all__ = ["redis_server"]

RATE = Obligation("rate-limit", {"limit": "2/minute"})
DAY = Obligation("quota", {"limit": "2/day"})


def rate(limit: str = "2/minute", **properties: Any) -> Obligation:
    return Obligation("rate-limit", {"limit": limit, **properties})


def waits(handler: Any, obligation: Obligation, call: Call, world: str = "sync") -> float:
    """Discharge; tell how long to wait, 0 where it passed."""
    answer = discharged(handler, obligation, call, world)
    if answer is call:
        return 0.0
    assert type(answer) is Refusal
    assert answer.outcome is Outcome.RATE_LIMITED
    told: float = answer.demands["retry_after"]
    assert told >= 1.0
    return told


def passes(handler: Any, obligation: Obligation, call: Call, world: str = "sync") -> bool:
    return waits(handler, obligation, call, world) == 0.0


@pytest.fixture
def server(redis_server: Callable[..., RedisServer]) -> RedisServer:
    return redis_server()


@pytest.fixture
def closed_later() -> Iterator[Callable[[Any], Any]]:
    with ExitStack() as stack:
        yield lambda handler: stack.enter_context(closing(handler))


def test_they_are_handlers_that_count() -> None:
    """Both act before the code, among those that consume."""
    for handler, kind in ((RateLimit(), "rate-limit"), (Quota(), "quota")):
        assert isinstance(handler, ObligationHandler)
        assert set(handler.types) == {kind}
        assert (handler.phase, handler.rank, handler.asynchronous) == (Phase.BEFORE, Rank.COUNT, False)


@worlds
def test_a_limit_is_counted_in_any_stretch(world: str) -> None:
    """A moving window gives back each call a whole stretch after it, and says when."""
    clock = FakeClock()
    handler, call = RateLimit(clock=clock), call_of()
    assert passes(handler, RATE, call, world)
    clock.advance(20)
    assert passes(handler, RATE, call, world)
    assert waits(handler, RATE, call, world) == 40
    clock.advance(39.5)
    assert waits(handler, RATE, call, world) == 1.0
    clock.advance(0.5)
    assert passes(handler, RATE, call, world)
    assert waits(handler, RATE, call, world) == 20


@worlds
def test_a_fixed_window_begins_with_its_first_call(world: str) -> None:
    """A fixed window gives everything back at once, a whole stretch after the first call in it."""
    clock = FakeClock()
    handler, call, obligation = RateLimit(clock=clock), call_of(), rate(window="fixed")
    clock.advance(7)
    assert passes(handler, obligation, call, world)
    clock.advance(50)
    assert passes(handler, obligation, call, world)
    assert waits(handler, obligation, call, world) == 10
    clock.advance(10)
    assert [passes(handler, obligation, call, world) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    ("limit", "seconds"), [("2/hour", 3_600), ("2/day", 86_400), ("2/week", 604_800), ("2/month", 2_592_000)]
)
def test_a_quota_knows_no_calendar(limit: str, seconds: int) -> None:
    """A day has 24 hours, a week 7 days and a month 30, from the first call on, asleep or awake."""
    clock = FakeClock()
    handler, call, obligation = Quota(clock=clock), call_of(), Obligation("quota", {"limit": limit})
    assert [passes(handler, obligation, call) for _ in range(2)] == [True, True]
    clock.suspend(seconds - 10)
    assert waits(handler, obligation, call) == 10
    clock.suspend(10)
    assert passes(handler, obligation, call)


def test_time_that_goes_back_on_the_wall_gives_nothing_back() -> None:
    """In memory an administrator's clock does not matter."""
    clock = FakeClock()
    handler, call = RateLimit(clock=clock), call_of()
    assert passes(handler, RATE, call)
    assert passes(handler, RATE, call)
    clock.set_wall(clock.wall() + 1e9)
    assert not passes(handler, RATE, call)
    clock.set_wall(0.0)
    assert not passes(handler, RATE, call)


@given(
    count=st.integers(1, 6),
    steps=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 8)), max_size=40),
    moving=st.booleans(),
)
def test_counters_equal_a_plain_model(count: int, steps: list[tuple[int, int]], moving: bool) -> None:
    """Whatever is spent when, a counter lets through what the definition of its window does, and waits are exact."""
    clock, limit = FakeClock(), Limit(count, 60, moving)
    counters = MemoryCounters(clock)
    taken: list[tuple[float, int]] = []
    begun = None
    for pause, asked in steps:
        clock.advance(pause)
        now, cost = clock.boottime(), min(asked, count)
        if not moving and (begun is None or now >= begun + 60):
            begun, taken = now, []
        inside = [(at, spent) for at, spent in taken if not moving or at > now - 60]
        fits = sum(spent for _, spent in inside) + cost <= count
        wait = counters.take(b"key", limit, cost)
        assert (wait == 0) == fits
        if fits:
            taken.append((now, cost))
        elif moving:
            left = [spent for at, spent in inside if at > now + wait - 60]
            assert sum(left) + cost <= count
            assert sum(spent for at, spent in inside if at > now + wait - 60.5) + cost > count
        else:
            assert wait == begun + 60 - now  # type: ignore[operator]


@worlds
def test_what_is_counted_apart(world: str) -> None:
    """The subject always is, what `by` names is too; the action is unless a name says otherwise."""
    handler = RateLimit()

    def again(obligation: Obligation, one: Call, other: Call) -> bool:
        """Whether the second call finds the first one's counter."""
        fresh = Obligation(obligation.type, {**obligation.properties, "limit": "1/day"})
        only = RateLimit()
        assert passes(only, fresh, one, world)
        return not passes(only, fresh, other, world)

    doctor = Subject("user", "alice", {"department": "a"})
    nurse = Subject("user", "alice", {"department": "b"})
    assert passes(handler, RATE, call_of(), world)
    assert again(rate(), call_of(), call_of())
    assert not again(rate(), call_of(ALICE), call_of(BOB))
    assert not again(rate(by=["resource"]), call_of(ALICE), call_of(BOB))
    assert not again(rate(), call_of(Subject("user", "1")), call_of(Subject("service", "1")))
    assert not again(rate(), call_of(action="pay"), call_of(action="read"))
    assert again(rate(name="all"), call_of(action="pay"), call_of(action="read"))
    assert not again(rate(name="account:pay"), call_of(), call_of(BOB))
    assert not again(rate(), call_of(tenant="a"), call_of(tenant="b"))
    assert again(rate(by=["subject"]), call_of(tenant="a"), call_of(tenant="b"))
    assert again(rate(), call_of(resource=Resource("account", "1")), call_of(resource=Resource("account", "2")))
    assert not again(
        rate(by=["resource"]), call_of(resource=Resource("account", "1")), call_of(resource=Resource("account", "2"))
    )
    assert not again(rate(by=["action"], name="all"), call_of(action="pay"), call_of(action="read"))
    assert again(rate(), call_of(doctor), call_of(nurse))
    assert not again(rate(by=["subject.department"]), call_of(doctor), call_of(nurse))
    assert not again(rate(by=["arguments.to"]), call_of(arguments={"to": 1}), call_of(arguments={"to": True}))
    assert not again(rate(by=["context.ip"]), call_of(context={"ip": "1"}), call_of(context={"ip": 1}))


def test_no_two_callers_share_a_counter_by_their_names() -> None:
    """Ids with separators, and types that run into ids, do not collide: a key is typed and injective."""
    handler, once = RateLimit(), rate("1/day")
    names = ["a", "b", "a/b", "a:b", 'a","b', "a\n", "A", "\u00e1", "a\u0301"]
    calls = [call_of(Subject(kind, name), tenant=tenant) for kind in names for name in names for tenant in (None, "a")]
    assert all(passes(handler, once, call) for call in calls)
    assert not any(passes(handler, once, call) for call in calls)


def test_a_name_is_no_action() -> None:
    """Counting by a name never meets the counter of the action of that name."""
    handler = RateLimit()
    assert passes(handler, rate("1/day"), call_of())
    assert passes(handler, rate("1/day", name="account:pay"), call_of())
    assert not passes(handler, rate("1/day", name="account:pay"), call_of())


def test_other_terms_are_other_counters() -> None:
    """Two limits of one call do not count together."""
    handler, call = RateLimit(), call_of()
    for obligation in (rate("1/minute"), rate("1/hour"), rate("2/minute"), rate("1/minute", window="fixed")):
        assert passes(handler, obligation, call)


@worlds
def test_a_cost_may_be_anywhere_in_the_call(world: str) -> None:
    """A call counts for a fixed number, or for what an attribute or an argument says."""
    transfer = SimpleNamespace(amount=3)

    class Size(Enum):
        LARGE = 3

    for cost, call in (
        (3, call_of()),
        ("arguments.amount", call_of(arguments={"amount": 3})),
        ("arguments.transfer.amount", call_of(arguments={"transfer": transfer})),
        ("arguments.transfer.amount", call_of(arguments={"transfer": {"amount": 3}})),
        ("arguments.size", call_of(arguments={"size": Size.LARGE})),
        ("subject.weight", call_of(Subject("user", "alice", {"weight": 3}))),
        ("context.batch.size", call_of(context={"batch": {"size": 3}})),
        ("action.cost", call_of()),
    ):
        if cost == "action.cost":
            assert "`cost`" in refused(RateLimit(), rate("5/minute", cost=cost), call, world)
            continue
        handler = RateLimit()
        assert passes(handler, rate("5/minute", cost=cost), call, world)
        assert not passes(handler, rate("5/minute", cost=cost), call, world)


def test_what_is_refused_costs_nothing() -> None:
    """A call that is too dear leaves to a cheaper one what is left."""
    for window in ("moving", "fixed"):
        handler = RateLimit()
        dear, cheap = rate("5/minute", window=window, cost="arguments.n"), call_of(arguments={"n": 2})
        assert passes(handler, dear, call_of(arguments={"n": 3}))
        assert not passes(handler, dear, call_of(arguments={"n": 3}))
        assert passes(handler, dear, cheap)
        assert not passes(handler, dear, cheap)


def test_a_cost_above_the_limit_never_passes() -> None:
    """What costs more than a whole limit is refused for a whole stretch, without a counter."""
    handler = RateLimit()
    assert waits(handler, rate("5/minute", cost=6), call_of()) == 60
    assert waits(handler, rate("5/minute", cost="arguments.n"), call_of(arguments={"n": 10**18})) == 60


@pytest.mark.parametrize("cost", [0, -1, True, 1.0, "1", None, [1], CANARY])
@worlds
def test_a_cost_is_exactly_a_positive_integer(cost: Any, world: str) -> None:
    """Anything else that a path leads to is a failure; it never lets a call through, nor gives something back."""
    told = refused(RateLimit(), rate(cost="arguments.n"), call_of(arguments={"n": cost}), world)
    assert "`cost`" in told


class Hostile:
    @property
    def amount(self) -> int:
        raise RuntimeError(CANARY)


@pytest.mark.parametrize(
    "call",
    [
        call_of(),
        call_of(arguments={"n": object()}),
        call_of(arguments={"n": Hostile()}),
        call_of(arguments={"n": {"amount": object()}}),
        call_of(arguments={"n": {"other": 1}}),
        call_of(arguments={"n": CANARY}),
    ],
)
def test_a_path_that_leads_nowhere_fails(call: Call) -> None:
    """What cannot be found is no default, and an argument's own errors tell nothing."""
    assert "`cost`" in refused(RateLimit(), rate(cost="arguments.n.amount"), call)
    assert "`by`" in refused(RateLimit(), rate(by=["arguments.n.amount"]), call)


def test_paths_lead_into_properties_only() -> None:
    """A text or a list has nothing inside, and what is missing is missing."""
    alice = Subject("user", "alice", {"name": "x", "list": [1], "id": "forged"})
    for path in ("subject.name.x", "subject.list.0", "subject.missing", "subject.id.x", "context.x"):
        assert "`by`" in refused(RateLimit(), rate(by=[path]), call_of(alice))
    for path in ("subject.id", "subject.type", "resource.id", "resource.type", "action.name", "tenant"):
        assert passes(RateLimit(), rate(by=[path]), call_of(alice))


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({}, "limit"),
    *[
        ({"limit": wrong}, "limit")
        for wrong in (
            *(None, "", 5, True, ["2/minute"], {"2": "minute"}, NAN, "-2/minute", "0/minute", "2/fortnight", CANARY),
            *("2", "2/", "/minute", "2 per minute", "2/minute ", " 2/minute", "2/Minute", "2.5/minute", "nan/minute"),
            *("1e3/minute", "٢/minute", "2/minutes", "2/minute\n", "9999999999999/minute"),
        )
    ],
    *[
        ({"limit": "2/day", "by": wrong}, "by")
        for wrong in (
            *(None, "", "subject", [], [1], [None], [""], ["subject", "subject"], [CANARY], ["subject."], [".id"]),
            *(["subject.__class__"], ["arguments._hidden"], ["context"], ["arguments"], ["request.subject"], ["a..b"]),
        )
    ],
    *[
        ({"limit": "2/day", "cost": wrong}, "cost")
        for wrong in (None, 0, -1, 1.0, True, NAN, "", CANARY, "subject..x", [1], {"n": 1})
    ],
    *[({"limit": "2/day", "name": wrong}, "name") for wrong in (None, "", 1, [CANARY])],
    ({"limit": "2/day", "unknown": CANARY}, "unknown"),
]


@pytest.mark.parametrize(("properties", "named"), MALFORMED)
@pytest.mark.parametrize("handler", [RateLimit(), Quota()], ids=["rate-limit", "quota"])
def test_malformed_properties_fail_closed(handler: Any, properties: dict[str, Any], named: str) -> None:
    """Whatever a property is but what it must be fails, naming the obligation and the property, never the value."""
    told = refused(handler, forged(*handler.types, _frozen(properties)), call_of())
    assert f"`{named}`" in told


def _frozen(properties: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in properties.items()}


@pytest.mark.parametrize(
    "limit", ["2/day ", "2/day\n", " 2/day", "2/days", "2/Day", "\u0662/day", "0/day", "-2/day", "2.5/day", "2/second"]
)
def test_a_quota_reads_strictly_too(limit: str) -> None:
    """What is nearly a quota is none."""
    assert "`limit`" in refused(Quota(), Obligation("quota", {"limit": limit}), call_of())


@pytest.mark.parametrize("path", ["arguments.n._hidden", "arguments.n.__class__", "arguments._n"])
def test_what_begins_with_an_underscore_is_nobody_s_business(path: str) -> None:
    """Private names are no paths, also where there is something at their end."""
    hiding = SimpleNamespace(_hidden=1)
    assert "`by`" in refused(RateLimit(), rate(by=[path]), call_of(arguments={"n": hiding, "_n": 1}))


@pytest.mark.parametrize("window", [None, "", 1, "sliding", CANARY, True])
def test_a_window_is_moving_or_fixed(window: Any) -> None:
    """Other windows fail; a quota has no choice at all."""
    assert "`window`" in refused(RateLimit(), rate(window=window), call_of())
    assert "`window`" in refused(Quota(), Obligation("quota", {"limit": "2/day", "window": "fixed"}), call_of())


@pytest.mark.parametrize(
    "arguments",
    [
        {"entries": 0},
        {"entries": True},
        {"entries": 1.0},
        {"prefix": ""},
        {"prefix": 1},
        {"timeout": 0},
        {"timeout": NAN},
        {"timeout": float("inf")},
        {"timeout": True},
        {"timeout": "1"},
        {"storage": 5},
        {"storage": object()},
        {"storage": "http://localhost"},
        {"storage": f"redis+{CANARY}://x"},
        {"storage": f"redis://:{CANARY}@localhost:port/0"},
        {"storage": "memcached://localhost"},
        {"storage": "localhost:6379"},
    ],
)
@pytest.mark.parametrize("handler", [RateLimit, Quota])
def test_what_it_is_made_of_is_checked(handler: Any, arguments: dict[str, Any]) -> None:
    """A wrong argument is found where it is written; a password in a URL is never told."""
    with pytest.raises(ConfigurationError) as error:
        handler(**arguments)
    assert CANARY not in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize(
    ("missing", "url", "extra"),
    [
        ("limits", "redis://localhost", "limits"),
        ("limits.storage", "redis://localhost", "limits"),
        ("redis.backoff", "redis://localhost", "redis"),
        ("valkey.backoff", "valkey://localhost", "valkey"),
    ],
)
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, missing: str, url: str, extra: str) -> None:
    """Without its library, a storage says what to install; memory needs nothing."""
    monkeypatch.setitem(sys.modules, missing, None)
    if "." not in missing:
        for name in [name for name in sys.modules if name.startswith(f"{missing}.")]:
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match=rf"install `pep\[{extra}\]`"):
        RateLimit(url)
    assert passes(RateLimit(), RATE, call_of())


def test_memory_loads_no_library() -> None:
    """Counting in memory imports neither `limits` nor a client, nor asyncio."""
    code = (
        "import sys; from pep.obligations.limits import RateLimit; RateLimit();"
        "assert not {'limits', 'redis', 'valkey', 'asyncio', 'httpx'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", f"{code}"], check=True)


def test_counters_in_memory_are_bounded() -> None:
    """Where all are in use, what has none yet fails; what has one goes on, and room is made in time."""
    clock = FakeClock()
    handler = RateLimit(clock=clock, entries=2)
    assert passes(handler, RATE, call_of(ALICE))
    clock.advance(30)
    assert passes(handler, RATE, call_of(BOB))
    carol = call_of(Subject("user", "carol"))
    for pause in (0, 0.5, 20):
        clock.advance(pause)
        assert "2 counters" in refused(handler, RATE, carol)
    assert passes(handler, RATE, call_of(ALICE))
    clock.advance(60)
    assert passes(handler, RATE, carol)


def test_what_is_over_is_looked_for_now_and_then_only() -> None:
    """A flood of new callers does not make each of them walk through all counters."""
    clock = FakeClock()
    handler = RateLimit(clock=clock, entries=1)
    assert passes(handler, rate("1/second"), call_of(ALICE))
    clock.advance(0.9)
    refused(handler, rate("1/second"), call_of(BOB))
    clock.advance(0.2)
    refused(handler, rate("1/second"), call_of(BOB))
    clock.advance(0.9)
    assert passes(handler, rate("1/second"), call_of(BOB))


def test_nobody_counts_in_the_midst_of_a_count() -> None:
    """Code that interrupts its own thread in a count is refused there, and the count goes on."""
    counters = MemoryCounters(FakeClock())
    inner: list[Any] = []

    class Interrupting(FakeClock):
        def boottime(self) -> float:
            if not inner:
                inner.append(None)
                with pytest.raises(ObligationError, match="interrupted"):
                    counters.take(b"key", Limit(5, 60, moving=True), 1)
            return super().boottime()

    counters.clock = Interrupting()
    assert counters.take(b"key", Limit(1, 60, moving=True), 1) == 0
    assert counters.take(b"key", Limit(1, 60, moving=True), 1) == 60


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_begins_outside() -> None:
    """A child that is forked in the midst of a count may count."""
    exclusive = Exclusive()
    with exclusive:
        child = os.fork()
        if not child:
            try:
                with exclusive:
                    os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("window", ["moving", "fixed"])
def test_of_two_at_once_the_last_unit_lets_one_through(window: str) -> None:
    """Two calls race for the last unit: exactly one passes, every time."""
    handler, obligation = RateLimit(), rate("1/day", window=window)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    rounds = times(150, 10_000)
    calls = [call_of(Subject("user", str(number))) for number in range(rounds)]
    gate = threading.Barrier(2)

    def racing(_thread: int) -> list[bool]:
        passed = []
        for call in calls:
            gate.wait()
            passed.append(handler.discharge(obligation, call) is call)
        return passed

    try:
        with ThreadPoolExecutor(2) as pool:
            one, other = pool.map(racing, range(2))
    finally:
        sys.setswitchinterval(before)
    assert [a + b for a, b in zip(one, other, strict=True)] == [1] * rounds


def test_eight_threads_take_exactly_the_limit() -> None:
    """Whatever each call costs, together they take no more than there is."""
    handler, obligation = RateLimit(), rate("1000/day", cost="arguments.n")
    spent = []

    def spend(thread: int) -> None:
        for number in range(200):
            cost = 1 + (thread + number) % 3
            call = call_of(arguments={"n": cost})
            if handler.discharge(obligation, call) is call:
                spent.append(cost)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(spend, range(8)))
    assert sum(spent) == 1000


# Redis, and what speaks its language.


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
@pytest.mark.parametrize("window", ["moving", "fixed"])
@worlds
def test_counters_on_a_server_are_shared(
    server: RedisServer, closed_later: Any, scheme: str, window: str, world: str
) -> None:
    """Two handlers, as in two processes, count together; a refusal says when to come again."""
    url = server.url.replace("redis", scheme)
    one, other = closed_later(RateLimit(url)), closed_later(RateLimit(url))
    call, obligation = call_of(), rate(window=window)
    assert passes(one, obligation, call, world)
    assert passes(other, obligation, call, world)
    assert 1 <= waits(one, obligation, call, world) <= 61
    assert not passes(other, obligation, call, world)
    assert passes(one, obligation, call_of(BOB), world)


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
@pytest.mark.parametrize("window", ["moving", "fixed"])
def test_an_asynchronous_storage_counts_alike(server: RedisServer, scheme: str, window: str) -> None:
    """The same logic over the asynchronous half of the library; it serves asynchronous callers only."""

    async def main() -> list[bool]:
        handler = RateLimit(f"async+{server.url.replace('redis', scheme)}")
        assert handler.asynchronous
        found = [await counted(handler, rate(window=window), call_of()) for _ in range(3)]
        await handler.aclose()
        return found

    assert asyncio.run(main()) == [True, True, False]
    with pytest.raises(ConfigurationError, match="only be awaited"):
        Scene("sync", obligations=[RateLimit(f"async+{server.url}")])


async def counted(handler: Any, obligation: Obligation, call: Call) -> bool:
    return await worked(handler, obligation, call, "async")() is call


@pytest.mark.parametrize("window", ["moving", "fixed"])
def test_what_is_too_dear_leaves_a_server_s_counter_alone(server: RedisServer, closed_later: Any, window: str) -> None:
    """As in memory, a call that is refused for its cost leaves what is left to a cheaper one."""
    handler, obligation = closed_later(RateLimit(server.url)), rate("5/minute", window=window, cost="arguments.n")
    costs = [3, 3, 2, 1]
    assert [passes(handler, obligation, call_of(arguments={"n": n})) for n in costs] == [True, False, True, False]


def test_a_quota_outlives_its_process_on_a_server(server: RedisServer, closed_later: Any) -> None:
    """What one handler counted is there for the next."""
    with closing(Quota(server.url)) as quota:
        assert passes(quota, DAY, call_of())
    other = closed_later(Quota(server.url))
    assert passes(other, DAY, call_of())
    assert 80_000 < waits(other, DAY, call_of()) <= 86_401


def test_a_storage_of_ones_own(server: RedisServer) -> None:
    """A storage of the library is used as it is, and left open."""
    storage = RedisStorage(server.url)
    handler = RateLimit(storage)
    assert [passes(handler, RATE, call_of()) for _ in range(3)] == [True, True, False]
    close, closed = storage.storage.close, []
    storage.storage.close = lambda: closed.append(None)
    handler.close()
    asyncio.run(handler.aclose())
    assert closed == []
    close()

    async def main() -> list[bool]:
        async_handler = RateLimit(AsyncMemory())
        found = [await counted(async_handler, RATE, call_of()) for _ in range(3)]
        await async_handler.aclose()
        return found

    assert asyncio.run(main()) == [True, True, False]


def test_closing_memory_is_nothing() -> None:
    """There is nothing to close in memory, and it goes on."""
    for handler in (RateLimit(), Quota()):
        handler.close()
        asyncio.run(handler.aclose())
    assert passes(Quota(), DAY, call_of())


@pytest.mark.parametrize("kind", ["redis", "valkey"])
@worlds
def test_a_server_that_is_down_closes(server: RedisServer, closed_later: Any, kind: str, world: str) -> None:
    """Storage down is a failed obligation; back again, it counts again."""
    handler = closed_later(RateLimit(server.url.replace("redis", kind)))
    assert passes(handler, RATE, call_of(), world)
    server.kill()
    told = refused(handler, RATE, call_of(), world)
    assert "could not be counted" in told
    assert str(server.port) not in told
    server.start()
    assert passes(handler, RATE, call_of(), world)


@pytest.mark.parametrize("url", ["redis://h", "valkey://h", "async+redis://h:1", "async+valkey://h:1"])
def test_a_client_waits_so_long_and_never_tries_twice(url: str) -> None:
    """What was counted, and whose answer was lost, would be counted again."""
    storage = RateLimit(url, timeout=0.25)._counting._counters.storage  # type: ignore[union-attr]
    client = storage.bridge.storage if url.startswith("async") else storage.storage
    options = client.connection_pool.connection_kwargs
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (0.25, 0.25)
    assert options["retry"]._retries == 0


@worlds
def test_a_server_that_hangs_closes_in_time(server: RedisServer, closed_later: Any, world: str) -> None:
    """A server that takes the question and never answers is waited for so long and no longer."""
    handler = closed_later(RateLimit(server.url, timeout=0.05))
    os.kill(server.pid, signal.SIGSTOP)
    try:
        assert "Timeout" in refused(handler, RATE, call_of(), world)
    finally:
        os.kill(server.pid, signal.SIGCONT)


def test_a_server_s_nonsense_closes() -> None:
    """An answer that is no yes and no no is a failure."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            while True:
                connection, _ = listening.accept()
                with connection:
                    while connection.recv(4096):
                        connection.sendall(b"+hello\r\n")

        threading.Thread(target=_quietly, args=(answer,), daemon=True).start()
        with closing(RateLimit(f"redis://127.0.0.1:{listening.getsockname()[1]}/0", timeout=1.0)) as handler:
            refused(handler, rate(window="fixed"), call_of())


def _quietly(act: Callable[[], None]) -> None:
    try:
        act()
    except OSError:
        return


@pytest.mark.parametrize("answer", [None, 1, "yes", b"1"])
def test_a_storage_answers_yes_or_no(answer: Any) -> None:
    """Whatever else a storage of one's own comes to is no permission."""

    class Odd(MemoryStorage):
        def acquire_entry(self, *_args: Any, **_options: Any) -> Any:
            return answer

    assert "ObligationError" in refused(RateLimit(Odd()), RATE, call_of())


def test_where_asyncio_was_never_loaded_there_is_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is loaded to find that out."""
    monkeypatch.setitem(sys.modules, "asyncio", None)
    assert not on_a_loop()


def test_a_loop_does_not_wait_for_a_server(server: RedisServer, closed_later: Any) -> None:
    """A blocking storage is asked on a thread of its own where a loop runs, on the caller's where none does."""
    handler = closed_later(RateLimit(server.url))
    hit, seen = handler._counting._counters._moving.hit, []

    def seeing(*args: Any, **options: Any) -> Any:
        seen.append((threading.current_thread() is threading.main_thread(), on_a_loop()))
        return hit(*args, **options)

    handler._counting._counters._moving.hit = seeing
    assert passes(handler, RATE, call_of(), "sync")
    assert passes(handler, RATE, call_of(), "async")
    assert seen == [(True, False), (False, False)]


@pytest.mark.parametrize("window", ["moving", "fixed"])
def test_on_a_server_the_last_unit_lets_one_through(server: RedisServer, closed_later: Any, window: str) -> None:
    """Two calls race for the last unit of a shared counter: exactly one passes, every time."""
    handlers = [closed_later(RateLimit(server.url)) for _ in range(2)]
    rounds, gate, obligation = times(100, 10_000), threading.Barrier(2), rate("1/day", window=window)
    calls = [call_of(Subject("user", str(number))) for number in range(rounds)]

    def racing(handler: Any) -> list[bool]:
        passed = []
        for call in calls:
            gate.wait()
            passed.append(passes(handler, obligation, call))
        return passed

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(racing, handlers)
    assert [a + b for a, b in zip(one, other, strict=True)] == [1] * rounds


# Under an enforcer.


@worlds
def test_a_limited_call_does_not_run(world: str) -> None:
    """The third call of two is refused with what the caller needs to know, and recorded so."""
    clock = FakeClock()
    scene = Scene(world, permit(RATE), obligations=[RateLimit(clock=clock)], clock=clock)
    assert [scene.edit().told for _ in range(3)] == [("returned", None)] * 2 + [("rate_limited", None)]
    clock.advance(10)
    denial = scene.edit().denial
    assert denial is not None
    assert denial.retry_after == 50  # type: ignore[attr-defined]
    assert len(scene.ran) == 2


@worlds
def test_asking_counts_nothing(world: str) -> None:
    """What is only asked, or refused for something else, leaves the counter alone."""
    unknown = permit(RATE, Obligation("unheard-of"))
    answers = [permit(RATE)]
    scene = Scene(world, lambda _request: answers[0], obligations=[RateLimit()])
    for _ in range(5):
        assert scene.do("check", "edit", Resource("document", "1")).allowed
    answers[0] = unknown
    for _ in range(5):
        assert scene.edit().told == ("denied", "obligation")
    answers[0] = permit(RATE)
    assert [scene.edit().told[0] for _ in range(3)] == ["returned", "returned", "rate_limited"]


@worlds
def test_storage_down_denies(server: RedisServer, closed_later: Any, world: str) -> None:
    """Where what has to be counted cannot be, the call does not run."""
    scene = Scene(world, permit(RATE), obligations=[closed_later(RateLimit(server.url))])
    assert scene.edit().told == ("returned", None)
    server.kill()
    assert scene.edit().told == ("denied", "obligation")
    assert len(scene.ran) == 1


@worlds
def test_a_malformed_limit_denies(world: str) -> None:
    """A limit that cannot be read is never taken for none."""
    scene = Scene(world, permit(rate("a lot")), obligations=[RateLimit()])
    assert scene.edit().told == ("denied", "obligation")
    assert scene.ran == []
