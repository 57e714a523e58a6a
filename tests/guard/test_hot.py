"""What the hot path of one function may skip, and what it tells; see also `tests/property/test_hot_path.py`."""

from __future__ import annotations

import linecache
import traceback
import uuid
from typing import Any

import pytest

import pep.guard.hot
from pep import AccessDenied, AccessRequest, Enforcer, FailOpen, Fault, Profile, Resource, acting_as
from pep.audit import Correlation, Kind, MemorySink
from pep.audit.record import json_of, record_of
from pep.errors import DecisionUnavailable, PDPTimeout
from pep.guard.hot import UNPLUGGED, serves
from pep.pdp import FunctionPDP
from tests.guard.rigs import ALICE, wait
from tests.property.test_hot_path import World


def enforcer_of(**parts: Any) -> tuple[Enforcer, MemorySink]:
    sink = MemorySink()
    return Enforcer(FunctionPDP(lambda _request: True, name="x", pure=True), audit=sink, **parts), sink


def test_a_record_that_is_taken_too_late_is_none() -> None:
    """A sink that takes a note after the deadline has not recorded in time: nothing runs, and it is told."""
    world = World("compiled", Profile(deadline=1))
    read = world.guard()(lambda document_id: world.append(document_id))
    with acting_as(ALICE):
        read("1")
        world.touches = {"record": lambda: world.clock.advance(2)}
        world.ran.clear()
        with pytest.raises(AccessDenied) as caught:
            read("1")
    assert caught.value.fault is Fault.AUDIT
    assert world.ran == []
    assert world.hits == 1


def test_the_rest_of_too_many_types_takes_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function meets only so many types of resources on its hot path."""
    monkeypatch.setattr(pep.guard.hot, "MAX_TYPES", 2)
    enforcer, sink = enforcer_of()
    read = enforcer.guard("read", resource="document")(lambda document: document)
    with acting_as(ALICE):
        for _ in range(2):
            for kind in "abcd":
                read(Resource(kind, "1"))
    assert len(sink.records) == 8
    assert enforcer._core.wiring().journal.noting.count() == 2


def test_an_enforcer_that_is_closed_while_it_is_asked_serves_nothing() -> None:
    """Whoever closes it meanwhile does not take a result away from a call that has one."""
    enforcer, _sink = enforcer_of()
    core, wiring = enforcer._core, enforcer._core.wiring()
    assert serves(core, wiring)

    class Closing:
        def serves(self, wiring: Any) -> bool:
            enforcer.close()
            core.wiring()
            return True

    assert not serves(Closing(), wiring)  # type: ignore[arg-type]
    assert not serves(core, wiring)


def test_what_changes_while_it_is_plugged_in_unplugs_it() -> None:
    """A record that becomes due between the look and the plug is written before the next is taken."""
    enforcer, sink = enforcer_of()
    read = enforcer.guard("read", resource="document:{name}")(lambda name: name)
    journal, socket = enforcer._core.wiring().journal, enforcer._core.sites[0].socket
    rebind, seen = socket.rebind, []

    def owing(plug: Any) -> None:
        seen.append(plug is UNPLUGGED)
        if len(seen) == 1:
            journal._lost += 1
        rebind(plug)

    socket.rebind = owing
    with acting_as(ALICE):
        read("1")
        assert seen == [False, True]
        read("1")
    assert [record.kind.value for record in sink.records] == ["decision", "gap", "decision"]


def test_a_note_tells_what_it_belongs_to() -> None:
    """What the application says a call belongs to is told by its note as by a record."""
    enforcer, sink = enforcer_of(correlation=lambda: Correlation("request 7"))
    notes: list[Any] = []
    sink.take = notes.append
    read = enforcer.guard("read", resource="document:{name}")(lambda name: name)
    with acting_as(ALICE):
        read("1")
        read("1")
    assert b"request 7" in json_of(notes[-1])
    assert "request 7" in str(record_of(notes[-1]).to_dict())


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("kind", ["function", "coroutine", "generator"])
def test_a_failure_shows_readable_lines(compiled: bool, kind: str) -> None:
    """Every frame of a traceback through a guard shows its line, written out or not."""
    enforcer, _sink = enforcer_of(compiled=compiled)

    def fail(name: str) -> None:
        raise KeyError(name)

    async def afail(name: str) -> None:
        raise KeyError(name)

    def gfail(name: str) -> Any:
        yield name
        raise KeyError(name)

    read = enforcer.guard("read", resource="document:{name}")({"function": fail, "coroutine": afail}.get(kind, gfail))
    with acting_as(ALICE):
        for _ in range(3):
            with pytest.raises(KeyError) as caught:
                wait(read("1")) if kind == "coroutine" else list(read("1")) if kind == "generator" else read("1")
    linecache.checkcache()
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert all(frame.line for frame in frames)
    assert frames[-1].line == "raise KeyError(name)"
    assert any(frame.filename.startswith("<guard of ") for frame in frames) is (compiled and kind != "generator")


def test_guards_of_one_name_share_their_source_only_where_it_is_one() -> None:
    """What is guarded anew under one name has a file of its own, unless it is the same."""
    enforcer, _sink = enforcer_of()
    # Nobody else guards anything there: files are the process's.
    module = f"somewhere_{uuid.uuid4().hex}"

    def made(signature: str) -> str:
        place: dict[str, Any] = {"__name__": module}
        exec(f"def read({signature}): ...", place)  # noqa: S102  one name, several functions
        return str(enforcer.guard("read", resource=Resource("document", "1"))(place["read"]).__code__.co_filename)

    assert made("a") == made("a") == f"<guard of {module}.read>"
    assert made("a, b") == made("a, b") == f"<guard of {module}.read 2>"
    assert made("a, b, c") == f"<guard of {module}.read 3>"


@pytest.mark.parametrize("compiled", [True, False])
def test_an_outage_after_a_hit_was_overtaken_is_not_excused(compiled: bool) -> None:
    """Policies that change under a hit have it decided again; what fails then opens nothing, as in the plan."""
    asked: list[AccessRequest] = []

    def decide(request: AccessRequest) -> bool:
        asked.append(request)
        if len(asked) > 1:
            raise PDPTimeout
        return True

    class Swapping(MemorySink):
        def __init__(self) -> None:
            super().__init__()
            keep, self.armed = self.take, False

            def take(note: Any) -> None:
                keep(note)
                if self.armed and type(note) is tuple:
                    self.armed = False
                    enforcer._core.wiring().generations.swap()

            self.take = take

    sink = Swapping()
    opening = Profile(permit_ttl=60, on_failure=FailOpen(on={Fault.TIMEOUT}, limit="100/minute"))
    enforcer = Enforcer(decide, audit=sink, profiles={"document:read": opening}, compiled=compiled)
    ran: list[str] = []
    guarded = enforcer.guard("read", resource="document:{name}")(lambda name: ran.append(name))
    with acting_as(ALICE):
        guarded("1"), guarded("1")
        sink.armed = True
        with pytest.raises(DecisionUnavailable):
            guarded("1")
    assert ran == ["1", "1"]
    assert [record["outcome"] for record in sink.of(Kind.DECISION)][-1] == "unavailable"
