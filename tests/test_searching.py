"""Searches: a hit is a candidate, and nobody gets one that was not decided about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pep import AccessDenied, AccessRequest, Action, Enforcer, Fault, Resource, Subject, acting_as
from pep.audit import Kind, MemorySink
from pep.errors import AttributeProviderError, ConfigurationError, DecisionUnavailable, ExtractionError, PDPTimeout
from pep.found import Found
from pep.testing import FakeProvider, ScriptedPDP

ALICE, BOB = Subject("user", "alice"), Subject("user", "bob")
BOT = Subject("agent", "bot")
ONE, TWO, THREE = (Resource("document", name) for name in "123")
HITS: dict[str, tuple[Any, ...]] = {
    "resource": (ONE, TWO, THREE),
    "subject": (ALICE, BOB),
    "action": (Action("read"), Action("delete")),
}


class Finding(ScriptedPDP):
    """A decision point that finds more than it permits."""

    def __init__(self, found: Any = None, *, fails: Exception | None = None, down: str | None = None) -> None:
        super().__init__([(self._permits, True)])
        self._found, self._fails, self._down = found, fails, down
        self.searched: list[tuple[str, AccessRequest]] = []

    def _permits(self, request: AccessRequest) -> bool:
        if request.resource.id == self._down:
            raise PDPTimeout
        return (request.subject, request.resource.id) != (ALICE, "2") and request.action.name == "read"

    def search(self, wanted: str, request: AccessRequest) -> Any:
        self.searched.append((wanted, request))
        if self._fails is not None:
            raise self._fails
        return Found(HITS[wanted], complete=False) if self._found is None else self._found


def enforcer(pdp: Any, **parts: Any) -> tuple[Enforcer, MemorySink]:
    sink = MemorySink()
    return Enforcer(pdp, audit=sink, **parts), sink


Search = Callable[[Enforcer], Any]


def search(enforcer: Enforcer, wanted: str, world: str) -> Found:
    """One search of each kind, in either world."""
    asked: tuple[Any, ...] = {
        "resource": ("read", "document"),
        "subject": ("user", "read", TWO),
        "action": (ALICE, ONE),
    }[wanted]
    if world == "sync":
        found: Found = getattr(enforcer, f"search_{wanted}s")(*asked)
        return found
    return asyncio.run(getattr(enforcer, f"asearch_{wanted}s")(*asked))


both = pytest.mark.parametrize("world", ["sync", "async"])
every = pytest.mark.parametrize("wanted", sorted(HITS))


@both
def test_resources_are_those_that_are_permitted(world: str) -> None:
    """What is found and not permitted is not told; the rest is recorded before it is released."""
    pdp = Finding()
    made, sink = enforcer(pdp)
    with acting_as(ALICE):
        assert search(made, "resource", world) == Found((ONE, THREE), complete=False)
    assert [(wanted, request.subject, request.resource.type) for wanted, request in pdp.searched] == [
        ("resource", ALICE, "document")
    ]
    assert pdp.searched[0][1].resource.is_new
    [record] = sink.of(Kind.DECISION)
    assert (record["entry"], record["kept"]) == ("filter", [["document", "1"], ["document", "3"]])


@both
def test_subjects_and_actions_are_checked_one_by_one(world: str) -> None:
    """Each hit is a check of its own, on record."""
    made, sink = enforcer(Finding())
    assert search(made, "subject", world) == Found((BOB,), complete=False)
    assert search(made, "action", world) == Found((Action("read"),), complete=False)
    assert [record["outcome"] for record in sink.of(Kind.CHECK)] == ["denied", "permitted", "permitted", "denied"]


@both
def test_every_actor_must_be_permitted_too(world: str) -> None:
    """A search on somebody's behalf finds what both may do."""
    made, _ = enforcer(Finding())
    with acting_as(BOB, via=[ALICE]):
        assert search(made, "resource", world).items == (ONE, THREE)
    with acting_as(BOB, via=[BOT]):
        assert search(made, "resource", world).items == (ONE, TWO, THREE)


@both
@every
def test_a_search_is_asked_with_all_that_a_check_is(wanted: str, world: str) -> None:
    """Tenant, context and actors reach the search and the question about every hit."""
    pdp = Finding()
    made, _ = enforcer(pdp)
    with acting_as(BOB, via=[BOT], tenant="acme", context={"ip": "::1"}):
        assert len(search(made, wanted, world)) == {"resource": 3, "subject": 1, "action": 1}[wanted]
    requests = [request for _, request in pdp.searched] + pdp.asked
    assert all((request.tenant, request.context) == ("acme", {"ip": "::1"}) for request in requests)
    # Each is asked for its subject, with the actor, and for the actor.
    assert {request.actors for request in requests} == {(BOT,), ()}
    assert {request.subject for request in requests if not request.actors} == {BOT}


@both
def test_an_actor_that_may_not_finds_nobody(world: str) -> None:
    """Who asks through somebody is told what that one may do as well."""
    made, _ = enforcer(Finding())
    with acting_as(BOB, via=[ALICE]):
        assert search(made, "subject", world).items == ()


@both
@pytest.mark.parametrize(
    ("wanted", "hit"),
    [
        ("resource", Resource("folder", "1")),
        ("resource", Resource.new("document")),
        ("subject", Subject("agent", "bot")),
    ],
)
def test_what_was_not_searched_for_is_no_hit(wanted: str, hit: Any, world: str) -> None:
    """Who asked for documents is given nothing else, permitted or not."""
    made, _ = enforcer(Finding(Found((*HITS[wanted], hit))))
    with acting_as(BOB), pytest.raises(DecisionUnavailable) as refused:
        search(made, wanted, world)
    assert refused.value.fault is Fault.MALFORMED


@both
@every
def test_nothing_found_is_nothing(wanted: str, world: str) -> None:
    """An empty search asks about nothing, and says whether that is all."""
    made, _ = enforcer(Finding(Found(())))
    with acting_as(ALICE):
        found = search(made, wanted, world)
    assert (found, len(found), list(found)) == (Found(()), 0, [])


@both
@every
@pytest.mark.parametrize(
    ("pdp", "fault"),
    [
        (Finding(fails=PDPTimeout()), Fault.TIMEOUT),
        (Finding(fails=ZeroDivisionError()), Fault.INTERNAL),
        (Finding(["1"]), Fault.MALFORMED),
        (Finding(Found(("1",))), Fault.MALFORMED),  # type: ignore[arg-type]
        (Finding(True), Fault.MALFORMED),
    ],
)
def test_a_search_that_fails_is_a_fault_on_record(pdp: Finding, fault: Fault, wanted: str, world: str) -> None:
    """There is no partial answer, and no mode opens one."""
    made, sink = enforcer(pdp)
    with acting_as(ALICE), pytest.raises(DecisionUnavailable) as refused:
        search(made, wanted, world)
    assert refused.value.fault is fault
    [record] = sink.records
    assert (record["entry"], record["fault"]) == ("search", fault.value)


@both
@pytest.mark.parametrize(("wanted", "down"), [("resource", "3"), ("subject", "2"), ("action", "1")])
def test_a_hit_that_could_not_be_checked_fails_the_search(wanted: str, down: str, world: str) -> None:
    """Whoever asks for all of them is not given some."""
    made, _ = enforcer(Finding(down=down))
    with acting_as(ALICE), pytest.raises(DecisionUnavailable) as refused:
        search(made, wanted, world)
    assert refused.value.fault is Fault.TIMEOUT


@both
@every
def test_a_decision_point_without_searches_says_so(wanted: str, world: str) -> None:
    """It is a mistake in the wiring, not an answer."""
    made, _ = enforcer(ScriptedPDP([(lambda _request: True, True)]))
    with acting_as(ALICE), pytest.raises(ConfigurationError, match="cannot search"):
        search(made, wanted, world)


def test_nobody_finds_nothing() -> None:
    """Without a subject there is no search, and a record says so."""
    pdp = Finding()
    made, sink = enforcer(pdp)
    with pytest.raises(Exception, match="access denied"):
        made.search_resources("read", "document")
    assert pdp.searched == []
    assert [record["fault"] for record in sink.records] == ["extraction"]


def test_who_acts_is_captured_at_the_call() -> None:
    """A search that is awaited elsewhere finds for whoever asked."""
    made, _ = enforcer(Finding())
    with acting_as(ALICE):
        searching = made.asearch_resources("read", "document")
    with pytest.raises(Exception, match="access denied"):
        # The scope was left, and with it who acts.
        asyncio.run(searching)
    with acting_as(BOB):
        found = made.asearch_resources("read", "document", subject=ALICE)
    assert asyncio.run(found).items == (ONE, THREE)


def test_a_search_knows_what_providers_know() -> None:
    """The subject's attributes are those of the providers, not those of the call; a provider that fails closes."""
    pdp = Finding()
    made, _ = enforcer(pdp, attributes=[FakeProvider({"subject.level": 3})])
    with acting_as(Subject("user", "alice", {"level": 9})):
        search(made, "resource", "sync")
    assert pdp.searched[0][1].subject.properties["level"] == 3
    for error, fault in ((AttributeProviderError(), Fault.ATTRIBUTES), (ExtractionError(), Fault.ATTRIBUTES)):
        made, _ = enforcer(Finding(), attributes=[FakeProvider({"subject.level": 3}, raises=error)])
        with acting_as(ALICE), pytest.raises(DecisionUnavailable) as refused:
            search(made, "resource", "sync")
        assert refused.value.fault is fault


def test_what_is_no_type_is_refused() -> None:
    """What could not be part of a request is a fault of the call, on record."""
    made, sink = enforcer(Finding())
    with acting_as(ALICE):
        wrongs: list[Callable[[], Any]] = [
            lambda: made.search_resources("read", ""),
            lambda: made.search_subjects("", "read", ONE),
            lambda: made.search_subjects("user", "", ONE),
            lambda: made.search_subjects("user", "read", object()),
            lambda: made.search_actions(object(), ONE),
        ]
        for wrong in wrongs:
            with pytest.raises(AccessDenied):
                wrong()
    assert [record["fault"] for record in sink.records] == ["extraction"] * 5


@pytest.mark.parametrize("wanted", ["subject", "action"])
def test_a_search_knows_where_it_was_called(wanted: str) -> None:
    """What is awaited elsewhere is asked in the tenant it was asked for in."""
    pdp = Finding()
    made, _ = enforcer(pdp)

    async def elsewhere() -> None:
        with acting_as(BOB, tenant="acme"):
            searching = (
                made.asearch_subjects("user", "read", ONE) if wanted == "subject" else made.asearch_actions(BOB, ONE)
            )
        with acting_as(BOB, tenant="other"):
            # The scope it was called in is closed, and with it its tenant; another one is none of its.
            await searching

    asyncio.run(elsewhere())
    assert "other" not in {request.tenant for request in [*pdp.asked, *[one for _, one in pdp.searched]]}


def test_registered_objects_are_searched_about() -> None:
    """Wherever a subject or a resource is taken, a registered object is too."""
    made, _ = enforcer(Finding())
    made.subjects.register(int, lambda _number: ALICE)
    made.resources.register(float, lambda number: Resource("document", str(int(number))))
    assert made.search_actions(7, 1.0).items == (Action("read"),)
    assert made.search_subjects("user", "read", 2.0).items == (BOB,)
