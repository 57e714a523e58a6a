"""Asking: the calls that take values, each in two halves that come to the same."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
import warnings
from typing import Any, Final

import pytest

from pep import AccessDenied, AccessRequest, Action, Fault, Obligation, Outcome, Profile, Resource, Subject, acting_as
from pep.audit import Kind
from pep.enforcer import Enforcer
from pep.errors import ConfigurationError, ObligationError, StepUpRequired
from pep.protocols import Phase
from pep.testing import FakeHandler
from tests.scenes import ALICE, DOCUMENT, PERMIT, Scene, handlers, owing, worlds

BOB: Final = Subject("user", "bob")


class Letter:
    """An object of the user's own."""

    def __pep_resource__(self) -> Resource:
        return Resource("letter", "1")


# --- values -----------------------------------------------------------------------------------------------


@worlds
def test_a_permit_gives_a_grant(world: str) -> None:
    """The grant has the verdict and the arguments, and the record is there before it."""
    scene = Scene(world)
    grant = scene.do("enforce", "edit", DOCUMENT, arguments={"title": "new"})
    assert (grant.verdict.outcome, grant.arguments) == (Outcome.PERMITTED, {"title": "new"})
    assert (scene.last.id, scene.last["entry"]) == (grant.verdict.id, "enforce")
    grant.use()


@worlds
def test_a_denial_is_raised_by_enforce_and_returned_by_check(world: str) -> None:
    """One raises, one returns."""
    scene = Scene(world, False)
    with pytest.raises(AccessDenied) as caught:
        scene.do("enforce", "edit", DOCUMENT)
    verdict = scene.do("check", "edit", DOCUMENT)
    assert verdict.outcome is caught.value.outcome is Outcome.DENIED
    assert not verdict.allowed


@worlds
@pytest.mark.parametrize(
    ("action", "resource", "told"),
    [
        ("edit", DOCUMENT, ("edit", "document", "1")),
        (Action("edit", {"how": "fast"}), DOCUMENT, ("edit", "document", "1")),
        ("read", Letter(), ("read", "letter", "1")),
        ("create", Resource.new("document"), ("create", "document", None)),
    ],
)
def test_values_and_registered_objects_alike(world: str, action: Any, resource: Any, told: tuple[Any, ...]) -> None:
    """Wherever a resource is taken, an object that becomes one is too."""
    request = Scene(world).do("check", action, resource).request
    assert (request.action.name, request.resource.type, request.resource.id) == told


@worlds
def test_without_a_resource_it_is_the_application(world: str) -> None:
    """Left out it is the application itself; an explicit None is a fault."""
    scene = Scene(world)
    assert scene.do("check", "restart").request.resource == Resource("application", "application")
    assert scene.do("check", "restart", None).fault is Fault.EXTRACTION


@worlds
@pytest.mark.parametrize(
    ("action", "resource"),
    [("", DOCUMENT), (7, DOCUMENT), (None, DOCUMENT), ("a*", DOCUMENT), ("edit", []), ("edit", 7), ("edit", "1")],
)
def test_wrong_values_are_extraction_faults(world: str, action: Any, resource: Any) -> None:
    """What came from a caller is denied and recorded, not raised as a mistake."""
    scene = Scene(world)
    verdict = scene.do("check", action, resource)
    assert (verdict.outcome, verdict.fault) == (Outcome.DENIED, Fault.EXTRACTION)
    assert (scene.asked, scene.kinds) == ([], ["check"])


@worlds
def test_several_resources_must_all_be_permitted(world: str) -> None:
    """A list is one batch."""
    scene = Scene(world, lambda request: request.resource.id == "1")
    assert not scene.do("check", "edit", [DOCUMENT, Resource("document", "2")]).allowed
    assert scene.do("check", "edit", [DOCUMENT, DOCUMENT]).allowed


@worlds
def test_subject_and_context_may_be_given(world: str) -> None:
    """In place of who acts, and on top of the circumstances around."""
    scene = Scene(world)
    request = scene.do("check", "edit", DOCUMENT, subject=BOB, context={"ip": "::1"}).request
    assert (request.subject, request.context) == (BOB, {"ip": "::1"})
    kept = scene.do("filter", "edit", [DOCUMENT], subject=BOB, context={"ip": "::1"})
    assert kept == [DOCUMENT]
    assert scene.asked[-1].subject == BOB


@worlds
def test_a_whole_request_may_be_checked(world: str) -> None:
    """As it is, whoever acts here; its actors are asked about too."""
    request = AccessRequest(BOB, "edit", DOCUMENT, actors=[Subject("agent", "bot")], tenant="acme")
    scene = Scene(world, lambda asked: asked.subject == BOB)
    assert scene.do("check", request).fault is None
    assert [asked.subject.id for asked in scene.asked] == ["bob", "bot"]
    first, second = scene.do("check_many", [request, ("edit", DOCUMENT)])
    assert (first.outcome, second.request.subject) == (Outcome.DENIED, ALICE)


@pytest.mark.parametrize("wrong", ["edit", ("edit",), ["edit", DOCUMENT], ("a", "b", "c"), None])
def test_what_is_no_question_is_refused(wrong: Any) -> None:
    """A batch takes requests and pairs."""
    enforcer = Scene("sync").enforcer
    with pytest.raises(ConfigurationError, match="a question is an"):
        enforcer.check_many([wrong])
    with pytest.raises(ConfigurationError, match="a question is an"):
        enforcer.acheck_many([wrong])


# --- what enforce cannot do ------------------------------------------------------------------------------------


@worlds
@pytest.mark.parametrize("duty", ["redact", "rewrite", "unheard"])
def test_enforce_denies_what_it_cannot_discharge(world: str, duty: str) -> None:
    """There is no result to act on, and nobody to run with changed arguments."""
    rewriting = FakeHandler("rewrite", does=lambda seen: seen.with_arguments(title="other"))
    scene = Scene(world, owing(PERMIT, duty), obligations=[*handlers(), rewriting])
    with pytest.raises(AccessDenied) as caught:
        scene.do("enforce", "edit", DOCUMENT, arguments={"title": "new"})
    assert caught.value.fault is Fault.OBLIGATION


@worlds
def test_enforce_passes_demands_on(world: str) -> None:
    """What the caller must bring is in the error."""
    scene = Scene(world, owing(PERMIT, "step up"), obligations=handlers())
    with pytest.raises(StepUpRequired) as caught:
        scene.do("enforce", "edit", DOCUMENT)
    assert (caught.value.acr_values, caught.value.max_age) == (("high",), 60.0)


@worlds
def test_obligations_before_are_discharged(world: str) -> None:
    """Enforce consumes, unlike check."""
    handler = FakeHandler("log", phase=Phase.BEFORE)
    scene = Scene(world, owing(PERMIT, "log"), obligations=[handler])
    scene.do("check", "edit", DOCUMENT)
    assert handler.discharged == []
    scene.do("enforce", "edit", DOCUMENT, arguments={"title": "new"})
    assert [(duty, call.arguments) for duty, call in handler.discharged] == [(Obligation("log"), {"title": "new"})]


# --- blocks -------------------------------------------------------------------------------------------------


def block(scene: Scene, work: Any, **options: Any) -> Any:
    """Run something in a permitted block of the scene's world."""
    if scene.world == "sync":
        with acting_as(ALICE), scene.enforcer.enforcing("edit", DOCUMENT, **options) as grant:
            return work(grant)

    async def main() -> Any:
        async with scene.enforcer.enforcing("edit", DOCUMENT, **options) as grant:
            found = work(grant)
            return await found if inspect.isawaitable(found) else found

    with acting_as(ALICE):
        return asyncio.run(main())


@worlds
def test_a_block_runs_with_changed_arguments_and_releases_its_result(world: str) -> None:
    """Handlers may change the arguments before, and the result after."""
    rewriting = FakeHandler("rewrite", does=lambda seen: seen.with_arguments(title="other"))
    scene = Scene(world, owing(PERMIT, "rewrite", "redact"), obligations=[*handlers(), rewriting])

    def work(grant: Any) -> Any:
        scene.ran.append(grant.arguments["title"])
        return grant.release("result") if world == "sync" else grant.arelease("result")

    assert block(scene, work, arguments={"title": "new"}) == "redacted"
    assert (scene.ran, scene.kinds) == (["other"], ["decision", "outcome completed"])


@worlds
def test_a_block_left_without_release_raises(world: str) -> None:
    """Where obligations are due on the result, it must be released."""
    scene = Scene(world, owing(PERMIT, "redact"), obligations=handlers())
    with pytest.raises(ObligationError):
        block(scene, lambda _grant: None)
    assert scene.kinds == ["decision", "outcome withheld"]


# --- who acts ---------------------------------------------------------------------------------------------


def test_who_acts_is_captured_at_the_call() -> None:
    """A coroutine asks for who made it, wherever it is awaited."""
    scene = Scene("async")
    with acting_as(ALICE):
        waiting: list[Any] = [
            scene.enforcer.acheck("edit", DOCUMENT),
            scene.enforcer.acheck_many([("edit", DOCUMENT)]),
            scene.enforcer.afilter("edit", [DOCUMENT]),
            scene.enforcer.aenforce("edit", DOCUMENT),
        ]
        with acting_as(BOB):
            for work in waiting:
                asyncio.run(awaited(work))
    assert {request.subject for request in scene.asked} == {ALICE}


async def awaited(work: Any) -> Any:
    return await work


def test_who_acted_acts_no_longer_once_the_block_is_left() -> None:
    """A coroutine kept for later is denied."""
    scene = Scene("async")
    with acting_as(ALICE):
        late = scene.enforcer.acheck("edit", DOCUMENT)
    assert asyncio.run(awaited(late)).fault is Fault.EXTRACTION


def test_threads_act_for_nobody() -> None:
    """Never anonymous, never somebody else."""
    scene = Scene("sync")
    found: list[Any] = []
    with acting_as(ALICE):
        thread = threading.Thread(target=lambda: found.append(scene.enforcer.check("edit", DOCUMENT)))
        thread.start()
        thread.join(5.0)
    assert found[0].fault is Fault.EXTRACTION


def test_what_nobody_awaits_warns_once() -> None:
    """Each half warns as a coroutine does, and asks nothing."""
    scene = Scene("async")
    for name, args in (("acheck", ("edit",)), ("acheck_many", ([("edit", DOCUMENT)],)), ("afilter", ("edit", [1]))):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            getattr(scene.enforcer, name)(*args)
            gc.collect()
        assert ["never awaited" in str(one.message) for one in caught] == [True]
    assert scene.asked == []


def test_both_halves_take_the_same() -> None:
    """Every method with an asynchronous half has the same parameters there."""
    halves = [name for name in dir(Enforcer) if hasattr(Enforcer, f"a{name}") and not name.startswith("_")]
    assert {"enforce", "check", "check_many", "filter", "close", "health", "invalidate", "invalidate_all"} <= set(
        halves
    )
    for name in halves:
        one, other = (inspect.signature(getattr(Enforcer, half)) for half in (name, f"a{name}"))
        assert one.parameters == other.parameters, name


@worlds
def test_a_check_is_no_decision_record(world: str) -> None:
    """What was asked and what was enforced can be told apart."""
    scene = Scene(world, profile=Profile(permit_ttl=60))
    scene.do("check", "edit", DOCUMENT)
    scene.do("enforce", "edit", DOCUMENT)
    assert [record.kind for record in scene.sink.records] == [Kind.CHECK, Kind.DECISION]
    assert scene.last["cached"] is True
