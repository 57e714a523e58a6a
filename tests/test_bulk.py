"""Bulk: batches of checks and filters; no partial list, one record, and nothing released that it does not name."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, Final

import pytest

from pep import AccessDenied, FailStale, Fault, Obligation, Profile, Resource, acting_as
from pep.audit import Kind
from pep.bulk import LISTED, keep_permitted
from pep.errors import PDPOverloaded, PDPRejected, PDPTimeout
from pep.plan import Returned
from pep.protocols import Phase
from pep.scope import current_frame
from pep.testing import FailingSink, FakeHandler, drive
from tests.scenes import ALICE, OPEN, PERMIT, SHADOW, Scene, Strong, handlers, owing, raising, worlds

DOCUMENTS: Final = [Resource("document", str(number)) for number in range(4)]


def keeping(*ids: str) -> Any:
    return lambda request: request.resource.id in ids


@worlds
def test_a_filter_keeps_what_is_permitted_in_a_new_list(world: str) -> None:
    """In order, as the same objects, and the caller's list stays as it is; one record names what is kept."""
    items = list(DOCUMENTS)
    scene = Scene(world, keeping("1", "3"))
    kept = scene.do("filter", "edit", items)
    assert [one.id for one in kept] == ["1", "3"]
    assert kept[0] is items[1]
    assert items == DOCUMENTS
    assert scene.kinds == ["decision"]
    assert (scene.last["asked"], scene.last["withheld"]) == (4, 2)
    assert [tuple(one) for one in scene.last["kept"]] == [("document", "1"), ("document", "3")]


@worlds
def test_a_filter_of_nothing_is_nothing(world: str) -> None:
    """No items, no question; but an enforcer that is closed denies even that."""
    scene = Scene(world)
    assert scene.do("filter", "edit", []) == []
    assert scene.do("check_many", []) == []
    assert (scene.asked, scene.kinds) == ([], [])
    scene.enforcer.close()
    with pytest.raises(AccessDenied):
        scene.do("filter", "edit", [])


def test_keeping_nothing_needs_no_job() -> None:
    """The plan for no items ends at once."""
    assert drive(keep_permitted([], [])) == Returned([])


@worlds
@pytest.mark.parametrize(
    ("error", "fault"),
    [(PDPTimeout(), "timeout"), (ConnectionError(), "unreachable"), (PDPOverloaded(), "overloaded")],
)
def test_an_outage_leaves_no_partial_list(world: str, error: Exception, fault: str) -> None:
    """One item without an answer: the whole list is refused, whatever the failure mode, and recorded."""
    scene = Scene(
        world,
        lambda request: raising(error)(request) if request.resource.id == "2" else True,
        profile=OPEN,
        profiles={"document:edit": OPEN},
    )
    with pytest.raises(AccessDenied) as caught:
        scene.do("filter", "edit", DOCUMENTS)
    assert caught.value.fault is not None
    assert caught.value.fault.value == fault
    assert (scene.last["outcome"], scene.last["fault"], scene.last["withheld"]) == ("unavailable", fault, 4)


@worlds
def test_a_mismatched_batch_leaves_no_partial_list(world: str) -> None:
    """A batch that came back short is no answer for anybody."""

    class Short:
        def decide(self, _request: Any) -> bool:
            return True

        def decide_many(self, _requests: Any) -> list[bool]:
            return [True]

    with pytest.raises(AccessDenied) as caught:
        Scene(world, pdp=Short()).do("filter", "edit", DOCUMENTS)
    assert caught.value.fault is Fault.MISMATCHED


@worlds
@pytest.mark.parametrize(
    "said",
    [False, None, owing(PERMIT, "unheard"), owing(PERMIT, "limit"), raising(PDPRejected())],
    ids=["denied", "malformed", "unknown duty", "limited", "rejected"],
)
def test_an_item_denied_or_unmet_is_withheld(world: str, said: Any) -> None:
    """The rest go on."""
    scene = Scene(
        world,
        lambda request: True if request.resource.id != "2" else said(request) if callable(said) else said,
        obligations=handlers(),
    )
    assert [one.id for one in scene.do("filter", "edit", DOCUMENTS)] == ["0", "1", "3"]
    assert scene.last["withheld"] == 1


@worlds
def test_an_item_that_is_no_resource_is_withheld(world: str) -> None:
    """What cannot be asked about is not shown."""
    assert Scene(world).do("filter", "edit", [DOCUMENTS[0], object(), None]) == [DOCUMENTS[0]]


@worlds
def test_result_obligations_are_discharged_on_each_item(world: str) -> None:
    """Or the item is withheld."""

    def shown(seen: Any) -> Any:
        if seen.request.resource.id == "2":
            raise ValueError
        return seen.with_result(seen.result.id)

    scene = Scene(world, owing(PERMIT, "show"), obligations=[FakeHandler("show", phase=Phase.AFTER, does=shown)])
    assert scene.do("filter", "edit", DOCUMENTS) == ["0", "1", "3"]
    assert [name for _, name in scene.last["kept"]] == ["0", "1", "3"]


@worlds
def test_a_filter_that_cannot_be_recorded_releases_nothing(world: str) -> None:
    """No list without its record; an empty list needs none."""
    with pytest.raises(AccessDenied) as caught:
        Scene(world, sink=FailingSink(1)).do("filter", "edit", DOCUMENTS)
    assert caught.value.fault is Fault.AUDIT
    assert Scene(world, False, sink=FailingSink(1)).do("filter", "edit", DOCUMENTS) == []


@worlds
def test_a_shadowed_filter_keeps_everything(world: str) -> None:
    """What is only shadowed is shown, and the record says so."""
    scene = Scene(world, False, profile=SHADOW)
    assert scene.do("filter", "edit", DOCUMENTS) == DOCUMENTS
    assert (scene.last["outcome"], scene.last["withheld"]) == ("shadowed", 0)


@worlds
def test_long_lists_are_recorded_by_their_digest(world: str) -> None:
    """Past a bound the record has a number and a digest, which differs where any id does."""
    many = [Resource("document", str(number)) for number in range(LISTED + 1)]
    digests = []
    for items in (many, many, [*many[1:], Resource("document", "x")]):
        scene = Scene(world)
        scene.do("filter", "edit", items)
        assert scene.last["kept_count"] == LISTED + 1
        assert scene.last.get("kept") is None
        digests.append(scene.last["kept_digest"])
    assert digests[0] == digests[1] != digests[2]


@worlds
def test_what_was_revoked_while_others_were_asked_about_is_withheld(world: str) -> None:
    """An early permit does not outlive a later revocation in the same batch."""

    def answer(request: Any) -> bool:
        if request.resource.id == "3":
            scene.enforcer.invalidate(resource=DOCUMENTS[1])
        return True

    scene = Scene(world, answer)
    assert [one.id for one in scene.do("filter", "edit", DOCUMENTS)] == ["0", "2", "3"]
    assert (scene.kinds, scene.last["withheld"]) == (["invalidation", "decision"], 1)


@worlds
def test_what_was_revoked_after_the_record_is_withheld_on_record(world: str) -> None:
    """Checked last, as often as a record had to be written for it."""

    class Revoking(Strong):
        def record(self, record: Any) -> None:
            super().record(record)
            if left:
                scene.core.wiring().generations.revoke(("resource", "document", left.pop(0)))

    left = ["1", "3"]
    scene = Scene(world, sink=Revoking())
    assert [one.id for one in scene.do("filter", "edit", DOCUMENTS)] == ["0", "2"]
    assert scene.kinds == ["decision", "outcome withheld", "outcome withheld"]
    assert [record["revoked"] for record in scene.of(Kind.OUTCOME)] == [[["document", "1"]], [["document", "3"]]]
    assert {record["decision"] for record in scene.of(Kind.OUTCOME)} == {scene.sink.records[0].id}


@worlds
def test_a_withheld_record_that_is_lost_is_owed(world: str) -> None:
    """The loss closes what comes next, and the list is right all the same."""

    class Losing(Strong):
        def record(self, record: Any) -> None:
            if record.kind is Kind.OUTCOME:
                raise OSError
            super().record(record)
            if len(self.records) == 1:
                scene.core.wiring().generations.revoke(("resource", "document", "1"))

    scene = Scene(world, sink=Losing())
    assert [one.id for one in scene.do("filter", "edit", DOCUMENTS)] == ["0", "2", "3"]
    assert scene.enforcer.stats()["lost"] == 1
    scene.do("filter", "edit", DOCUMENTS)
    assert scene.kinds == ["decision", "gap", "decision"]


@worlds
def test_a_stale_item_is_told(world: str) -> None:
    """How many of the kept were served from before an outage is on record."""
    answers = itertools.chain([True] * 4, itertools.repeat(None))
    scene = Scene(
        world,
        lambda request: next(answers) or raising(ConnectionError())(request),
        profile=Profile(on_failure=FailStale(60), permit_ttl=0),
    )
    assert scene.do("filter", "edit", DOCUMENTS) == scene.do("filter", "edit", DOCUMENTS) == DOCUMENTS
    assert scene.last["stale"] == 4


@pytest.mark.parametrize(("during", "told"), [("decide", ["decision"]), ("record", ["outcome cancelled"])])
@pytest.mark.parametrize("led", [False, True])
def test_a_filter_cut_off_says_so(during: str, told: list[str], led: bool) -> None:
    """Cancelled before its record, or while that is written: either is told, by whoever leads."""

    async def main() -> Scene:
        reached = asyncio.Event()

        async def stuck() -> bool:
            reached.set()
            return await asyncio.Event().wait()

        class Sink(Strong):
            def record(self, record: Any) -> Any:
                if during == "record" and not reached.is_set():
                    return stuck()
                return super().record(record)

        scene = Scene("async", lambda _request: stuck() if during == "decide" else True, sink=Sink())
        with acting_as(ALICE):
            work: Any = scene.enforcer.afilter("edit", DOCUMENTS)
            if led:
                work.close()
                work = led_filter(scene)
            task = asyncio.ensure_future(work)
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return scene

    scene = asyncio.run(main())
    assert scene.kinds == told
    assert scene.last["status"] == "cancelled"


async def led_filter(scene: Scene) -> Any:
    """Filter under a job of its own, as a guard of results does."""
    asking, frame = scene.enforcer, current_frame()
    lead, *jobs = [
        asking._filter_job(asking._need("edit", one, ALICE, None), frame) for one in (DOCUMENTS[0], *DOCUMENTS)
    ]
    return await scene.core.arun(lead, keep_permitted(jobs, DOCUMENTS, lead))


@worlds
def test_checks_are_recorded_one_by_one(world: str) -> None:
    """Each question of a batch has its own record, whatever it came to."""
    scene = Scene(world, keeping("1"))
    verdicts = scene.do("check_many", [("edit", one) for one in DOCUMENTS])
    assert [record.id for record in scene.of(Kind.CHECK)] == [verdict.id for verdict in verdicts]
    assert [record["outcome"] for record in scene.of(Kind.CHECK)] == ["denied", "permitted", "denied", "denied"]


@worlds
def test_a_check_revoked_meanwhile_is_no_permit(world: str) -> None:
    """A verdict that no longer holds when it is recorded is not given."""
    scene = Scene(world, lambda _request: scene.enforcer.invalidate_all() is None)
    verdict = scene.do("check", "edit", DOCUMENTS[0])
    assert verdict.fault is Fault.REVOKED


@worlds
def test_a_check_cut_off_is_recorded_as_one(world: str) -> None:
    """A question that was interrupted is a check that was cancelled."""
    scene = Scene(world, raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        scene.do("check", "edit", DOCUMENTS[0])
    assert (scene.kinds, scene.last["status"]) == (["check"], "cancelled")


def test_duties_of_a_batch_are_each_request_s_own() -> None:
    """What one item owes is no other item's business."""
    handler = FakeHandler("log")
    scene = Scene("sync", lambda request: owing(PERMIT, *["log"][: request.resource.id == "1"]), obligations=[handler])
    scene.do("filter", "edit", DOCUMENTS)
    assert handler.discharged == [(Obligation("log"), handler.discharged[0][1])]
    assert handler.discharged[0][1].request.resource.id == "1"
