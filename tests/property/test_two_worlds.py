"""Two worlds, one logic: whatever an enforcer is made of, both halves come to the same, on record too."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime, timezone
from typing import Any, Final

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from pep import (
    AccessDenied,
    Decision,
    Effect,
    Enforcer,
    FailClosed,
    FailOpen,
    FailStale,
    Fault,
    Guarantee,
    Obligation,
    Profile,
    Resource,
    Shadow,
    Subject,
    acting_as,
)
from pep.audit import MemorySink
from pep.errors import PDPOverloaded, PDPRejected, PDPTimeout
from pep.plan import call, sleep
from pep.protocols import Phase, Rank, Refusal
from pep.testing import FakeClock, FakeHandler, FakeProvider, comparable
from pep.verdict import Outcome

ALICE: Final = Subject("user", "alice")
UNTIL: Final = datetime(2040, 1, 1, tzinfo=timezone.utc)
DUTIES: Final = ("log", "break", "rewrite", "count", "limit", "redact", "break after", "unheard")

answers = st.one_of(
    st.booleans(),
    st.sampled_from([PDPTimeout, PDPOverloaded, ConnectionError, PDPRejected, ValueError, None, "true", 1]),
    st.builds(
        Decision,
        st.sampled_from(Effect),
        obligations=st.lists(st.sampled_from(DUTIES).map(Obligation), max_size=4, unique_by=lambda duty: duty.type),
        ttl=st.sampled_from([None, 0, 1, 60]),
    ),
)
failure_modes = st.sampled_from(
    [
        FailClosed(),
        FailOpen(on=[Fault.TIMEOUT, Fault.UNREACHABLE], limit="2/minute"),
        FailOpen(on=[Fault.OVERLOADED], limit="9/minute", obligations=[Obligation("log")]),
        FailStale(60),
    ]
)
profiles = st.builds(
    lambda mode, shadow, **fields: Profile(on_failure=mode, **({"mode": shadow} if shadow else {}), **fields),
    failure_modes,
    st.sampled_from([None, None, Shadow(until=UNTIL, reason="new")]),
    permit_ttl=st.sampled_from([None, 0, 30]),
    deny_ttl=st.sampled_from([None, 30]),
    audit=st.sampled_from([Guarantee.BUFFERED, Guarantee.DURABLE]),
    hidden=st.booleans(),
    pin_arguments=st.booleans(),
)
entries = st.sampled_from(["guard", "enforce", "check", "check_many", "filter", "invalidate", "later"])


@attrs.frozen
class Making:
    """What an enforcer is made of."""

    profile: Profile
    pure: bool
    batches: bool
    planned: bool
    provides: bool
    via: bool
    said: tuple[Any, ...]


makings = st.builds(
    Making,
    profiles,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.lists(answers, min_size=1, max_size=4).map(tuple),
)


class Sink(MemorySink):
    """Does for every profile."""

    guarantee = Guarantee.DURABLE


class PDP:
    """Answers one thing after the other, at once or as a plan."""

    name = "scripted"

    def __init__(self, making: Making, clock: FakeClock) -> None:
        self.pure = making.pure
        self._making, self._clock = making, clock
        self._asked: Counter[bytes] = Counter()

    def decide(self, request: Any) -> Any:
        return self._planned(request) if self._making.planned else self._said(request)

    def _planned(self, request: Any) -> Any:
        yield from sleep(0)
        return (yield from call(self._said, request))

    def _said(self, request: Any) -> Any:
        # By the request, since those side by side are asked in any order.
        turn = self._asked[request.key] + len(request.actors) + int(request.resource.id)
        self._asked[request.key] += 1
        self._clock.advance(0.1)
        said = self._making.said[turn % len(self._making.said)]
        if isinstance(said, type):
            raise said
        return said


class BatchPDP(PDP):
    """The same, for many at once."""

    def decide_many(self, requests: Any) -> Any:
        return [self._said(request) for request in requests]


class World:
    """One enforcer made of the same parts in one world."""

    def __init__(self, making: Making, *, asynchronous: bool) -> None:
        self.clock, self.sink, self.ran = FakeClock(), Sink(), list[str]()
        self._asynchronous = asynchronous
        self._via = [Subject("agent", "bot")] if making.via else []
        self.enforcer = Enforcer(
            (BatchPDP if making.batches else PDP)(making, self.clock),
            audit=self.sink,
            clock=self.clock,
            profiles={"document:**": making.profile},
            attributes=[FakeProvider({"subject.roles": ["editor"]})] if making.provides else [],
            obligations=[
                FakeHandler("log", phase=Phase.BEFORE | Phase.ON_DENIAL),
                FakeHandler("break", raises=ValueError()),
                FakeHandler("rewrite", does=lambda seen: seen if "title" not in seen.arguments else _rewritten(seen)),
                FakeHandler("count", rank=Rank.COUNT),
                FakeHandler("limit", rank=Rank.COUNT, refuses=Refusal(Outcome.RATE_LIMITED)),
                FakeHandler("redact", phase=Phase.AFTER, does=lambda seen: seen.with_result("redacted")),
                FakeHandler("break after", phase=Phase.AFTER, raises=ValueError()),
            ],
        )

        def edit(title: str) -> str:
            self.ran.append(title)
            return title

        async def aedit(title: str) -> str:
            await asyncio.sleep(0)
            return edit(title)

        made: Any = aedit if asynchronous else edit
        self._edit = self.enforcer.guard("edit", resource="document:{title}")(made)

    def do(self, entry: str) -> Any:
        """Do one thing; tell what came of it."""
        if entry == "later":
            return self.clock.advance(20)
        try:
            with acting_as(ALICE, via=self._via):
                return _told(self._begun(entry))
        except AccessDenied as denied:
            return type(denied), denied.outcome, denied.fault, denied.ran, type(denied.__cause__)

    def _begun(self, entry: str) -> Any:
        items = [Resource("document", str(number)) for number in range(3)]
        args: Any = {
            "enforce": ("edit", items[0]),
            "check": ("edit", items[0]),
            "check_many": ([("edit", item) for item in items],),
            "filter": ("edit", items),
            "invalidate": (ALICE,),
        }
        half = f"a{entry}" if self._asynchronous else entry
        work = self._edit("1") if entry == "guard" else getattr(self.enforcer, half)(*args[entry])
        return asyncio.run(_awaited(work)) if self._asynchronous else work


async def _awaited(work: Any) -> Any:
    found = await work
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return found


def _rewritten(seen: Any) -> Any:
    return seen.with_arguments(title="2")


def _told(found: Any) -> Any:
    if isinstance(found, list):
        return [_told(one) for one in found]
    verdict = getattr(found, "verdict", found)
    return (verdict.outcome, verdict.fault, verdict.cached, verdict.would) if hasattr(verdict, "outcome") else found


@settings(max_examples=300)
@given(makings, st.lists(entries, min_size=1, max_size=6))
def test_both_worlds_come_to_the_same(making: Making, calls: list[str]) -> None:
    """The same parts, called the same way: results, what ran, and records are equal up to ids."""
    sync, awaited = World(making, asynchronous=False), World(making, asynchronous=True)
    for entry in calls:
        assert sync.do(entry) == awaited.do(entry)
    assert sync.ran == awaited.ran
    assert comparable(sync.sink.records) == comparable(awaited.sink.records)


@settings(max_examples=200)
@given(makings, st.integers(1, 3))
def test_what_ran_was_permitted_on_record(making: Making, times: int) -> None:
    """As many acknowledged permits that were not taken back as there were runs."""
    for asynchronous in (False, True):
        world = World(making, asynchronous=asynchronous)
        for _time in range(times):
            world.do("guard")
        permits = {record.id for record in world.sink.records if record.get("allowed")}
        unused = {
            record["decision"]
            for record in world.sink.records
            if record.get("status") in {"withheld", "cancelled"} and not record["ran"]
        }
        assert len(permits - unused) == len(world.ran)
