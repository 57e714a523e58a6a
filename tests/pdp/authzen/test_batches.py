"""Several evaluations in one message: nothing is lost, mixed up or taken for evaluated."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep import AccessRequest, Effect, Resource, Subject
from pep.errors import ExtractionError, PDPMismatched, PDPReplyError
from pep.pdp.authzen import Semantic
from pep.pdp.authzen.batches import packed, runs, spread, unpacked, unpacked_until
from pep.pdp.authzen.codec import Codec, same
from pep.pdp.authzen.incoming import Reading
from pep.steps import Raised
from pep.testing.strategies import requests
from tests.pdp.authzen.rigs import sendable
from tests.proving import times

CODEC, READING = Codec(), Reading("pep", "pep:new", 100)


def expanded(told: dict[str, Any]) -> list[dict[str, Any]]:
    """What the evaluations of a message say, by the specification's own words: a key replaces the default whole."""
    shared: dict[str, Any] = {name: told[name] for name in ("subject", "action", "resource", "context") if name in told}
    return [{**shared, **item} for item in told["evaluations"]]


def variants() -> st.SearchStrategy[list[AccessRequest]]:
    """Requests with much in common."""
    few = st.lists(requests().filter(sendable), min_size=1, max_size=3)
    return few.flatmap(
        lambda some: st.lists(
            st.builds(
                lambda a, b, c, d: a.evolve(subject=b.subject, resource=c.resource, context=d.context),
                *[st.sampled_from(some)] * 4,
            ),
            min_size=1,
            max_size=6,
        )
    )


@given(variants())
@settings(max_examples=times(25, 10_000))
def test_expanding_gives_back_every_request(asked: list[AccessRequest]) -> None:
    """What is said once is said of every request it was lifted from, exactly; a server of ours reads it so."""
    bodies = [CODEC.request(request) for request in asked]
    told = packed(bodies)
    assert list(map(same, expanded(told))) == list(map(same, bodies))
    assert all("context" in item or "context" in told for item in told["evaluations"])
    batch = READING.batch(told)
    assert batch is not None
    assert list(batch.items) == asked


def test_equal_is_not_the_same() -> None:
    """``1``, ``1.0`` and ``True`` are no defaults of one another."""
    asked = [AccessRequest(Subject("user", "a", {"n": n}), "act", Resource("thing", "1")) for n in (1, True, 1.0, 1)]
    told = packed([CODEC.request(request) for request in asked])
    assert told["subject"] == {"type": "user", "id": "a", "properties": {"n": 1}}
    assert [type(item.get("subject", {}).get("properties", {}).get("n")) for item in told["evaluations"]] == [
        type(None), bool, float, type(None),
    ]  # fmt: skip


def test_what_cannot_be_written_is_told() -> None:
    """Text that is not valid Unicode is an error of ours, as everywhere."""
    with pytest.raises(PDPReplyError):
        same("\ud800")
    with pytest.raises(ExtractionError):
        Subject("user", "\ud800")


@given(variants(), st.integers(1, 4))
@settings(max_examples=times(25, 10_000))
def test_no_message_says_two_things_of_one(asked: list[AccessRequest], most: int) -> None:
    """What shares the ids of its subject and resource differs in the action's name alone, in one message."""
    bodies = [CODEC.request(request) for request in asked]
    places = spread(bodies, most)
    assert sorted(place for few in places for place in few) == list(range(len(bodies)))
    in_order = runs(bodies, most)
    assert [body for few in in_order for body in few] == bodies
    for few in [*[[bodies[place] for place in one] for one in places], *in_order]:
        assert 1 <= len(few) <= most
        seen: dict[Any, bytes] = {}
        for body in few:
            name = body["subject"]["id"], body["resource"]["type"], body["resource"]["id"]
            rest = same([body["subject"], body["resource"], body["context"], body["action"].get("properties")])
            assert seen.setdefault(name, rest) == rest


YES: Any = {"decision": True}
NO: Any = {"decision": False}
ERROR: Any = {"decision": False, "context": {"error": {"status": 404}}}
ODD: Any = {"decision": "true"}
P, D, N = Effect.PERMIT, Effect.DENY, Effect.INDETERMINATE


def effects(found: list[Any]) -> list[Any]:
    return [PDPReplyError if isinstance(one, Raised) else one.effect for one in found]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"evaluations": [YES, NO]}, [P, D]),
        ({"evaluations": [YES, ERROR]}, [P, N]),
        ({"evaluations": [YES, ODD]}, [P, PDPReplyError]),
        ({"evaluations": [YES, NO], "decision": True}, [P, D]),
        ({"evaluations": [None, [True]]}, [PDPReplyError, PDPReplyError]),
    ],
)
def test_a_batch_is_read_item_by_item(told: Any, expected: list[Any]) -> None:
    """Each item has its own decision, error or fault."""
    assert effects(unpacked(told, 2, CODEC)) == expected


def test_one_may_be_answered_like_a_single_evaluation() -> None:
    """A batch of one has both shapes; one of two has not."""
    assert effects(unpacked(YES, 1, CODEC)) == [P]
    assert effects(unpacked({"evaluations": [NO], "decision": True}, 1, CODEC)) == [D]
    with pytest.raises(PDPMismatched):
        unpacked(YES, 2, CODEC)
    with pytest.raises(PDPMismatched):
        unpacked_until(NO, 2, CODEC, Semantic.DENY_ON_FIRST_DENY)
    assert unpacked_until(NO, 1, CODEC, Semantic.DENY_ON_FIRST_DENY)[1]


@pytest.mark.parametrize("told", [{}, {"evaluations": {}}, {"evaluations": "x"}, {"evaluations": True}])
def test_without_a_list_there_is_no_reply(told: Any) -> None:
    """Whatever else it says."""
    with pytest.raises(PDPReplyError):
        unpacked(told, 2, CODEC)


@pytest.mark.parametrize("items", [[], [YES], [YES, YES, YES]])
def test_another_length_is_the_fault_of_the_whole_batch(items: Any) -> None:
    """Nobody can tell which answer is whose."""
    with pytest.raises(PDPMismatched):
        unpacked({"evaluations": items}, 2, CODEC)


DENY, PERMIT = Semantic.DENY_ON_FIRST_DENY, Semantic.PERMIT_ON_FIRST_PERMIT


@pytest.mark.parametrize(
    ("semantic", "items", "expected", "settled"),
    [
        (DENY, [YES, NO], [P, D], True),
        (DENY, [NO], [D], True),
        (DENY, [ERROR], [N], True),
        (DENY, [ODD], [PDPReplyError], True),
        (DENY, [YES, YES, YES], [P, P, P], False),
        # A server that does not stop: what comes after does not count.
        (DENY, [YES, NO, YES], [P, D], True),
        (DENY, [YES], PDPMismatched, None),
        (DENY, [], PDPMismatched, None),
        (DENY, [YES, YES, YES, NO], PDPMismatched, None),
        (PERMIT, [NO, YES], [D, P], True),
        (PERMIT, [YES], [P], True),
        (PERMIT, [NO, NO, NO], [D, D, D], False),
        (PERMIT, [NO, YES, YES], [D, P], True),
        (PERMIT, [NO], PDPMismatched, None),
        (PERMIT, [ERROR], PDPMismatched, None),
        (PERMIT, [], PDPMismatched, None),
    ],
)
def test_shorter_replies_have_a_reason(semantic: Semantic, items: Any, expected: Any, settled: Any) -> None:
    """What is left out is behind what settled the matter, or the reply is none."""
    if expected is PDPMismatched:
        with pytest.raises(PDPMismatched):
            unpacked_until({"evaluations": items}, 3, CODEC, semantic)
        return
    found, stops = unpacked_until({"evaluations": items}, 3, CODEC, semantic)
    assert (effects(found), stops) == (expected, settled)


def test_nothing_stops_where_all_are_made() -> None:
    """`execute_all` has no end but the last one."""
    assert not any(Semantic.EXECUTE_ALL.stops_at(effect) for effect in (*Effect, None))
