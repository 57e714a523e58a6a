"""Approvals: brought to one call, seen by whoever asks for a confirmation, and gone afterwards."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from pep import Obligation, Outcome, Subject, acting_as, approval, carry
from pep.errors import ConfigurationError, ConfirmationRequired, ExtractionError
from pep.protocols import Call, Phase, Rank
from pep.scope import Approval, current_frame
from pep.testing import FakeHandler
from tests.scenes import ALICE, CONFIRM, DENY, DOCUMENT, LIMITED, PERMIT, Scene, owing, worlds

BOB: Final = Subject("user", "bob")


class Confirming(FakeHandler):
    """Asks for a confirmation, and takes one approval for it."""

    def __init__(self, *, accepts: str = "a-1", **options: Any) -> None:
        super().__init__("confirm", rank=Rank.CONFIRM, **options)
        self.accepts = accepts
        self.seen: list[str | None] = []

    def discharge(self, obligation: Obligation, call: Call) -> Any:
        self.seen.append(call.approval)
        return call if call.approval == self.accepts else CONFIRM


def scene(world: str, *more: FakeHandler, answer: Any = None, **options: Any) -> tuple[Scene, Confirming]:
    confirming = Confirming()
    asked = owing(PERMIT, "confirm") if answer is None else answer
    return Scene(world, asked, obligations=[confirming, *more], **options), confirming


@worlds
def test_an_approval_is_used_by_one_call(world: str) -> None:
    """The first call that has to be confirmed uses it up; the next one has none."""
    one, confirming = scene(world)
    with approval("a-1"):
        assert one.edit("first").result == "first"
        assert one.edit("second").told == ("confirmation_required", None)
    assert (confirming.seen, one.ran) == (["a-1", None], ["first"])


@worlds
def test_an_approval_stays_until_it_is_asked_for(world: str) -> None:
    """A call that nobody has to confirm leaves it to the next one."""
    answers = [True, owing(PERMIT, "confirm")]
    one, confirming = scene(world, answer=lambda _request: answers.pop(0))
    with approval("a-1"):
        assert one.edit().denial is None
        assert one.edit().denial is None
    assert confirming.seen == ["a-1"]


@worlds
def test_an_approval_that_was_not_accepted_is_left(world: str) -> None:
    """A refusal uses nothing, so that the call may be made again once it was approved."""
    one, confirming = scene(world)
    confirming.accepts = "later"
    with approval("a-1"):
        assert isinstance(one.edit().denial, ConfirmationRequired)
        confirming.accepts = "a-1"
        assert one.edit().denial is None
    assert confirming.seen == ["a-1", "a-1"]


@worlds
def test_an_approval_is_not_seen_by_others(world: str) -> None:
    """Handlers that come before the confirmation, on a denial, or after the code have no use for it."""
    early = FakeHandler("log", rank=Rank.VERIFY, phase=Phase.BEFORE | Phase.ON_DENIAL)
    late = FakeHandler("redact", phase=Phase.AFTER)
    one, _ = scene(world, early, late, answer=owing(PERMIT, "log", "confirm", "redact"))
    with approval("a-1"):
        assert one.edit().denial is None
    denied, _ = scene(world, early, answer=owing(DENY, "log"))
    with approval("a-1"):
        denied.edit()
    assert [call.approval for _, call in (*early.discharged, *late.discharged)] == [None, None, None]


@worlds
def test_a_denial_uses_no_approval(world: str) -> None:
    """One who confirms and hears of denials too does not use it up on a denial."""
    confirming = Confirming(phase=Phase.BEFORE | Phase.ON_DENIAL)
    answers = [owing(DENY, "confirm"), owing(PERMIT, "confirm")]
    one = Scene(world, lambda _request: answers.pop(0), obligations=[confirming])
    with approval("a-1"):
        assert one.edit().told == ("denied", None)
        assert one.edit().denial is None
    assert confirming.seen == [None, "a-1"]


@worlds
def test_an_approval_is_kept_where_something_else_is_missing(world: str) -> None:
    """Nothing is consumed for a call that a limit refuses anyway."""
    counting = FakeHandler("limit", rank=Rank.COUNT, refuses=LIMITED)
    answers = [owing(PERMIT, "limit", "confirm"), owing(PERMIT, "confirm")]
    one, confirming = scene(world, counting, answer=lambda _request: answers.pop(0))
    with approval("a-1"):
        assert one.edit().told == ("rate_limited", None)
        assert one.edit().denial is None
    assert confirming.seen == ["a-1"]


@worlds
def test_the_code_itself_has_no_approval(world: str) -> None:
    """What is called inside the protected code is not what was approved."""
    held: list[Approval | None] = []

    def body(title: str) -> str:
        held.append(current_frame().approval)
        return title

    one, _ = scene(world, body=body)
    with approval("a-1"):
        assert one.edit().denial is None
    plain = Scene(world, body=body)
    with approval("a-1"):
        assert plain.edit().denial is None
    assert held == [None, None]


@worlds
def test_an_approval_ends_with_its_block(world: str) -> None:
    """A context that was copied in the block outlives it without the approval."""
    one, confirming = scene(world)
    with acting_as(ALICE):
        with approval("a-1"):
            copied = contextvars.copy_context()
        with pytest.raises(ConfirmationRequired):
            copied.run(one.do, "enforce", "edit", DOCUMENT)
    assert confirming.seen == [None]


@worlds
def test_a_check_uses_no_approval(world: str) -> None:
    """A question assesses what would be due, and consumes nothing."""
    one, confirming = scene(world)
    with approval("a-1"):
        assert one.do("check", "edit", DOCUMENT).outcome is Outcome.PERMITTED
        assert confirming.seen == []
        one.do("enforce", "edit", DOCUMENT)
    assert confirming.seen == ["a-1"]


@worlds
def test_acting_for_somebody_keeps_the_approval(world: str) -> None:
    """Who acts is named inside of the block as well as around it."""
    one, confirming = scene(world)
    with acting_as(BOB), approval("a-1"):
        assert one.edit(subject=ALICE).denial is None
    assert confirming.seen == ["a-1"]


def test_approvals_nest() -> None:
    """The inner one is brought first, and the outer one is there again afterwards."""
    one, confirming = scene("sync")
    confirming.accepts = "a-2"
    with approval("a-1"):
        with approval("a-2"):
            assert one.edit().denial is None
        confirming.accepts = "a-1"
        assert one.edit().denial is None
    assert confirming.seen == ["a-2", "a-1"]
    assert current_frame().approval is None


def test_an_approval_is_not_carried() -> None:
    """A function that runs elsewhere is another call, later."""
    with acting_as(ALICE), approval("a-1"):
        carried = carry(current_frame)
        assert current_frame().approval is not None
        assert carried().approval is None


def test_two_calls_at_once_share_no_approval() -> None:
    """While one call is being confirmed, the other has nothing to show."""
    seen: list[str | None] = []

    class Slow(Confirming):
        def discharge(self, obligation: Obligation, call: Call) -> Any:
            async def confirmed() -> Any:
                seen.append(call.approval)
                await asyncio.sleep(0)
                return call if call.approval else CONFIRM

            return confirmed()

    one = Scene("async", owing(PERMIT, "confirm"), obligations=[Slow()])

    async def main() -> list[Any]:
        with acting_as(ALICE), approval("a-1"):
            asked = [one.enforcer.aenforce("edit", DOCUMENT) for _ in range(2)]
            return await asyncio.gather(*asked, return_exceptions=True)

    first, second = asyncio.run(main())
    assert sorted(seen, key=str) == [None, "a-1"]
    assert [isinstance(one, ConfirmationRequired) for one in (first, second)].count(True) == 1


@worlds
def test_several_resources_are_approved_together(world: str) -> None:
    """One call has one approval, however many of its requests ask for it."""
    one, confirming = scene(world, resource=lambda: [DOCUMENT, DOCUMENT])
    with approval("a-1"):
        assert one.edit().denial is None
    assert set(confirming.seen) == {"a-1"}


@pytest.mark.parametrize("wrong", ["", None, 7, b"a-1"])
def test_an_approval_has_an_id(wrong: Any) -> None:
    """An empty id, or what is no text, would be an approval of nothing."""
    with pytest.raises(ExtractionError, match="approval's id"):
        approval(wrong)


def test_an_approval_is_entered_once() -> None:
    """Entering it again would bring it back to life."""
    once = approval("a-1")
    with once, pytest.raises(ConfigurationError, match="entered already"):
        once.__enter__()
    with pytest.raises(ConfigurationError, match="entered already"):
        once.__enter__()
    unused = approval("a-2")
    unused.__exit__(None, None, None)
    assert current_frame().approval is None


def test_a_generator_may_not_bring_an_approval() -> None:
    """From a suspended generator it would leak to whoever iterates."""

    def leaking() -> Iterator[None]:
        with approval("a-1"):
            yield

    with pytest.raises(ConfigurationError, match="`approval` in the generator `leaking` would leak its approval"):
        next(leaking())


@pytest.mark.parametrize("ends", [lambda one: one.give_back(), lambda one: None])
def test_what_was_left_is_not_given_away(ends: Callable[[Approval], None]) -> None:
    """An approval whose block is over is nobody's, given back or not."""
    one = Approval("a-1")
    assert (one.take(), one.take()) == ("a-1", None)
    one.is_open = False
    ends(one)
    assert one.take() is None
