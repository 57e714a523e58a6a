"""An override swaps parts for the length of a block, tells the real sink, and leaks nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from pep import (
    AccessDenied,
    AccessRequest,
    Decision,
    Effect,
    Enforcer,
    Fault,
    Guarantee,
    Obligation,
    Outcome,
    Profile,
    Resource,
    Subject,
    acting_as,
)
from pep.audit import Kind, MemorySink
from pep.errors import AuditError, ConfigurationError
from pep.plan import Plan, sleep
from pep.policy import PolicySet, permit
from pep.policy.partial import AllowAll
from pep.protocols import Phase
from pep.testing import (
    FailingPDP,
    FailingSink,
    FakeClock,
    FakeHandler,
    FakeProvider,
    ScriptedPDP,
    deny_all,
    override,
    permit_all,
)

ALICE = Subject("user", "alice")
DOCUMENT = Resource("document", "1")


class Application:
    """Business code as it might be: an enforcer that denies, and a function it guards."""

    def __init__(self, pdp: Any = lambda _request: False, sink: Any = None, **parts: Any) -> None:
        self.sink = sink or MemorySink()
        self.enforcer = Enforcer(pdp, audit=self.sink, **parts)
        self.edits = 0

        @self.enforcer.guard("edit", resource=DOCUMENT)
        def edit() -> str:
            self.edits += 1
            return "edited"

        self.edit = edit

    def denied(self) -> bool:
        """Whether an edit is denied now."""
        try:
            with acting_as(ALICE):
                self.edit()
        except AccessDenied:
            return True
        return False

    def changes(self) -> list[str]:
        """What the real sink was told of overrides."""
        return [record["change"] for record in self.sink.records if record.kind is Kind.CONFIGURATION]


def test_the_decision_point_is_swapped_for_a_while() -> None:
    """Inside, the other one decides; before and after, the real one."""
    app = Application()
    assert app.denied()
    with override(app.enforcer, permit_all()):
        assert not app.denied()
    assert app.denied()
    assert app.edits == 1


def test_the_world_tells_what_happened() -> None:
    """Records, questions, permits and denials are there to assert on."""
    app = Application()
    with override(app.enforcer, ScriptedPDP({("edit", "document"): True})) as world:
        app.denied()
        with acting_as(ALICE):
            app.enforcer.check("read", DOCUMENT)
            with pytest.raises(AccessDenied):
                app.enforcer.enforce("delete", DOCUMENT)
    assert [request.action.name for request in world.asked] == ["edit", "read", "delete"]
    assert [record["action"] for record in world.permits] == ["edit"]
    assert [record["action"] for record in world.denials] == ["delete"]
    assert [record.kind for record in world.records] == [Kind.DECISION, Kind.CHECK, Kind.DECISION]


def test_nothing_leaks_into_the_real_sink_but_its_two_records() -> None:
    """The proof says that there was an override, and holds none of what happened in it."""
    app = Application()
    with override(app.enforcer, permit_all()):
        app.denied()
    assert [record.kind for record in app.sink.records] == [Kind.CONFIGURATION] * 2
    assert app.changes() == ["override begun", "override ended"]


def test_an_override_ends_when_its_block_raises() -> None:
    """Whatever ends the block, the real wiring is back and the real sink was told."""
    app = Application()
    with pytest.raises(KeyError), override(app.enforcer, permit_all()):
        raise KeyError
    assert app.denied()
    assert app.changes() == ["override begun", "override ended"]


def test_overrides_nest() -> None:
    """The inner one counts while it lasts; its records of itself go to the outer world."""
    app = Application()
    with override(app.enforcer, permit_all()) as outer:
        with override(app.enforcer, deny_all()) as inner:
            assert app.denied()
        assert not app.denied()
    assert app.denied()
    assert (len(inner.denials), len(outer.permits)) == (1, 1)
    assert app.changes() == ["override begun", "override ended"]
    assert [record.get("change") for record in outer.records] == ["override begun", "override ended", None]


def test_overrides_that_cross_are_refused_and_fail_closed() -> None:
    """An override that outlives the one around it is told off, and permits nothing once it is over."""
    app = Application()
    outer, inner = override(app.enforcer, permit_all()), override(app.enforcer, permit_all())
    outer.__enter__()
    inner.__enter__()
    with pytest.raises(ConfigurationError, match="opposite order"):
        outer.__exit__(None, None, None)
    with pytest.raises(ConfigurationError, match="opposite order"):
        inner.__exit__(None, None, None)
    assert app.denied()


def test_a_call_that_outlives_its_override_is_denied() -> None:
    """A job begun within asks nothing any more once the block is left."""
    app = Application()
    block = app.enforcer.enforcing("edit", DOCUMENT, subject=ALICE)
    with override(app.enforcer, permit_all()):
        job = block._begin()
    assert app.enforcer._core.run(job, job.permit()).outcome is Outcome.UNAVAILABLE


def test_a_frozen_enforcer_cannot_be_overridden() -> None:
    """What runs in production is frozen, and stays as it was wired."""
    app = Application()
    app.enforcer.freeze()
    with pytest.raises(ConfigurationError, match="frozen"), override(app.enforcer, permit_all()):
        pytest.fail("entered")
    assert app.sink.records == []


def test_a_closed_enforcer_cannot_be_overridden() -> None:
    """What is closed stays closed."""
    app = Application()
    app.enforcer.close()
    with pytest.raises(ConfigurationError, match="closed"), override(app.enforcer, permit_all()):
        pytest.fail("entered")


def test_an_unbound_enforcer_can_be_overridden() -> None:
    """A library is tested without an application; it is unbound again afterwards."""
    enforcer = Enforcer.unbound("library")
    with override(enforcer, permit_all()) as world, acting_as(ALICE):
        enforcer.enforce("edit", DOCUMENT)
    assert len(world.permits) == 1
    assert not enforcer._core.bound
    with acting_as(ALICE):
        assert enforcer.check("edit", DOCUMENT).fault is Fault.UNBOUND


def test_an_unbound_enforcer_needs_a_decision_point() -> None:
    """There is none of its own to keep."""
    with pytest.raises(ConfigurationError, match="unbound"), override(Enforcer.unbound("library")):
        pytest.fail("entered")


def test_an_enforcer_that_follows_is_overridden_alone() -> None:
    """The application goes on as it was, and is followed again afterwards."""
    app = Application()
    library = Enforcer.unbound("library")
    library.bind(app.enforcer)
    with override(library, permit_all()) as world, acting_as(ALICE):
        library.enforce("edit", DOCUMENT)
        assert app.denied()
    assert len(world.permits) == 1
    with acting_as(ALICE):
        assert not library.check("edit", DOCUMENT).allowed


def test_the_real_decision_point_is_kept_unless_another_is_given() -> None:
    """Only what is named is swapped; the questions are seen all the same."""
    app = Application(lambda request: request.action.name == "edit")
    with override(app.enforcer, clock=FakeClock()) as world:
        assert not app.denied()
    assert len(world.asked) == 1


def test_batches_are_still_batches() -> None:
    """A decision point that takes batches is asked in batches, within an override too."""
    sizes: list[int] = []

    class Batches:
        def decide(self, request: AccessRequest) -> bool:
            return True

        def decide_many(self, requests: Sequence[AccessRequest]) -> list[Decision]:
            sizes.append(len(requests))
            return [Decision(Effect.PERMIT)] * len(requests)

    app = Application()
    with override(app.enforcer, Batches()) as world, acting_as(ALICE):
        app.enforcer.check_many([("edit", DOCUMENT), ("read", DOCUMENT)])
    assert sizes == [2]
    assert len(world.asked) == 2


def test_profiles_providers_and_handlers_are_kept() -> None:
    """An override tests the application as it is configured."""
    provider, handler = FakeProvider({"subject.roles": ["editor"]}), FakeHandler("tell", phase=Phase.BEFORE)
    duty = Decision(Effect.PERMIT, obligations=(Obligation("tell"),))
    app = Application(
        sink=FailingSink(None),
        attributes=[provider],
        obligations=[handler],
        profiles={"document:edit": Profile(audit=Guarantee.DURABLE, hidden=True)},
    )
    with override(app.enforcer, ScriptedPDP({"edit": duty})) as world:
        assert not app.denied()
    assert world.asked[0].subject.properties["roles"] == ("editor",)
    assert len(handler.discharged) == 1
    assert [record.kind for record in world.records] == [Kind.DECISION, Kind.OUTCOME]


def test_profiles_may_be_given() -> None:
    """Another failure mode is tried without touching the configuration."""
    app = Application()
    with override(app.enforcer, deny_all(), profiles={"document:edit": Profile(hidden=True)}) as world:
        assert app.denied()
    assert world.denials[0].outcome == "denied"


def test_a_sink_that_is_too_weak_is_refused() -> None:
    """The sink of a test must give what the profiles ask for, as any other."""
    app = Application(sink=FailingSink(None), profiles={"document:edit": Profile(audit=Guarantee.DURABLE)})
    with pytest.raises(ConfigurationError, match="durable"), override(app.enforcer, permit_all(), sink=MemorySink()):
        pytest.fail("entered")


def test_a_sink_may_be_given() -> None:
    """How guarded code takes a lost record can be tried; the world sees what was acknowledged."""
    app = Application()
    with override(app.enforcer, permit_all(), sink=FailingSink()) as world:
        assert app.denied()
    assert world.records == []
    assert len(world.sink.refused) == 1


def test_caches_and_revocations_start_afresh() -> None:
    """Nothing that was decided outside counts inside, nor the other way round."""
    asked: list[AccessRequest] = []

    def pdp(request: AccessRequest) -> bool:
        asked.append(request)
        return True

    app = Application(pdp, profiles={"document:edit": Profile(permit_ttl=60)})
    assert not app.denied()
    with override(app.enforcer) as world:
        assert not app.denied()
        assert not app.denied()
        app.enforcer.invalidate_all()
        assert len(world.asked) == 1
    assert not app.denied()
    assert len(asked) == 2


def test_a_fake_clock_is_never_waited_for() -> None:
    """What sleeps moves the clock instead."""

    def patient(_request: AccessRequest) -> Plan[bool]:
        yield from sleep(0.25)
        return True

    app = Application(profiles={"**": Profile(deadline=3600)})
    clock = FakeClock()
    before = clock.monotonic()
    with override(app.enforcer, patient, clock=clock):
        assert not app.denied()
    assert clock.monotonic() == before + 0.25


def test_a_real_clock_is_waited_for() -> None:
    """Without a fake clock, the enforcer's own time goes on."""

    def patient(_request: AccessRequest) -> Plan[bool]:
        yield from sleep(0.001)
        return True

    app = Application()
    with override(app.enforcer, patient) as world:
        assert not app.denied()
    assert world.permits[0]["latency"]["total"] >= 0.001


def test_a_fake_clock_serves_async_code_too() -> None:
    """In a loop, what sleeps moves the clock as well."""

    async def patient(_request: AccessRequest) -> bool:
        return True

    def planned(_request: AccessRequest) -> Plan[bool]:
        yield from sleep(30)
        return True

    enforcer, clock = Enforcer(patient, audit=MemorySink()), FakeClock()

    async def asked() -> Outcome:
        with acting_as(ALICE):
            return (await enforcer.acheck("edit", DOCUMENT)).outcome

    with override(enforcer, planned, clock=clock, profiles={"document:**": Profile(deadline=60)}):
        assert asyncio.run(asked()) is Outcome.PERMITTED


def test_a_part_that_does_not_fit_the_sites_is_refused() -> None:
    """What could only be awaited cannot serve a synchronous function, in a test either."""
    app = Application()
    pdp = FailingPDP(answers=True, suspends=True)
    with pytest.raises(ConfigurationError, match="can only be awaited"), override(app.enforcer, pdp):
        pytest.fail("entered")
    assert app.changes() == []


def test_a_real_sink_that_cannot_be_told_refuses() -> None:
    """No test wiring without a record of it."""
    app = Application(sink=FailingSink())
    with pytest.raises(AuditError, match="override"), override(app.enforcer, permit_all()):
        pytest.fail("entered")


def test_a_record_of_the_end_that_is_lost_is_owed() -> None:
    """When the real sink misses the end, nothing is permitted until it was told of the gap."""
    sink = FailingSink(2, once=True)
    app = Application(lambda _request: True, sink=sink)
    with override(app.enforcer, deny_all()):
        assert app.denied()
    assert not app.denied()
    assert [record.kind for record in sink.records] == [Kind.CONFIGURATION, Kind.GAP, Kind.DECISION]


def test_a_real_sink_that_can_only_be_awaited_is_told_before_its_next_record() -> None:
    """There is no loop to tell it in at once; it is told first thing."""
    kept: list[Any] = []

    class Awaited:
        guarantee = Guarantee.BUFFERED

        async def record(self, record: Any) -> None:
            kept.append(record)

    enforcer = Enforcer(lambda _request: True, audit=Awaited())
    with override(enforcer, deny_all()):
        pass
    assert kept == []

    async def asked() -> None:
        with acting_as(ALICE):
            await enforcer.acheck("edit", DOCUMENT)

    asyncio.run(asked())
    assert [record.get("change", record.kind.value) for record in kept] == [
        "override begun",
        "override ended",
        "check",
    ]


def test_rows_are_filtered_through_an_override() -> None:
    """A decision point that filters rows does so behind an override as well; one that does not, does not."""
    enforcer = Enforcer(lambda _request: False, audit=MemorySink())
    alice = Subject("user", "alice")
    with override(enforcer, PolicySet([permit("all", resource="document")])) as world:
        assert enforcer.row_filter("read", "document", subject=alice) == AllowAll()
        assert len(world.asked) == 1
    with override(enforcer, lambda _request: True), pytest.raises(ConfigurationError, match="cannot filter rows"):
        enforcer.row_filter("read", "document", subject=alice)
