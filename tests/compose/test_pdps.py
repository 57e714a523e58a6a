"""Several decision points as one: what they say together, and what a failing one leaves open."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep import AccessDenied, Effect, Enforcer, Fault, Subject, acting_as
from pep.audit import MemorySink
from pep.compose.combine import Algorithm, combine
from pep.compose.pdps import CombinedPDP
from pep.decision import Decision, decision_of
from pep.errors import ConfigurationError, PDPReplyError, PDPTimeout, PDPUnavailable
from pep.fault import AVAILABILITY, fault_of
from pep.model import AccessRequest, Obligation, Resource
from pep.pdp import FunctionPDP
from pep.plan import Raised
from pep.policy import PolicySet, deny, permit, resource
from pep.policy.partial import AllowAll, DenyAll
from pep.testing import ScriptedPDP, check_pdp
from pep.verdict import Verdict
from tests.compose.composing import BROKEN, DOWN, BatchPart, Part, answers, many, perform, request_for, said, word
from tests.proving import times

REQUEST = AccessRequest(Subject("user", "alice"), "read", Resource("document", "1"))
FAILS = "fails"
IN_ORDER: Final = {Algorithm.ORDERED_DENY_OVERRIDES, Algorithm.ORDERED_PERMIT_OVERRIDES, Algorithm.FIRST_APPLICABLE}
ANSWERS = (*Effect, FAILS)


def part(answer: Effect | str) -> FunctionPDP:
    def decide(_request: AccessRequest) -> Decision:
        if isinstance(answer, str):
            raise PDPTimeout(answer)
        return Decision(answer, policies=(answer.value,))

    return FunctionPDP(decide, name=str(answer))


def verdict_of(pdp: object) -> Verdict:
    return Enforcer(pdp, audit=MemorySink()).check(REQUEST)


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize(
    "answers", [*product(ANSWERS, repeat=1), *product(ANSWERS, repeat=2), *product(ANSWERS, repeat=3)]
)
def test_combined_is_the_algorithm_or_the_failure(algorithm: Algorithm, answers: tuple[Any, ...]) -> None:
    """Without failures it is the algorithm; with one, the effect stands only if no answer could have changed it."""
    verdict = verdict_of(CombinedPDP(algorithm, map(part, answers)))
    possible = {
        combine(algorithm, [Decision(effect) for effect in guess]).effect
        for guess in product(*[[answer] if answer in set(Effect) else list(Effect) for answer in answers])
    }
    if len(possible) == 1:
        assert verdict.decision is not None
        assert {verdict.decision.effect} == possible
    else:
        assert verdict.fault is Fault.TIMEOUT
    if Effect.PERMIT not in possible or len(possible) > 1:
        assert not verdict.allowed


def test_an_outage_is_no_permit() -> None:
    """Permit-unless-deny, of all algorithms, does not permit because a part could not be asked."""
    assert not verdict_of(CombinedPDP(Algorithm.PERMIT_UNLESS_DENY, [part(FAILS)])).allowed
    assert verdict_of(CombinedPDP(Algorithm.PERMIT_UNLESS_DENY, [part(Effect.NOT_APPLICABLE)])).allowed


@pytest.mark.parametrize(
    ("algorithm", "first"),
    [
        (Algorithm.FIRST_APPLICABLE, Effect.PERMIT),
        (Algorithm.ORDERED_DENY_OVERRIDES, Effect.DENY),
        (Algorithm.ORDERED_PERMIT_OVERRIDES, Effect.PERMIT),
    ],
)
def test_in_order_stops_at_what_decides(algorithm: Algorithm, first: Effect) -> None:
    """The ordered algorithms ask nobody after the part that decides."""
    late = ScriptedPDP([(lambda _request: True, True)])
    assert verdict_of(CombinedPDP(algorithm, [part(first), late])).decision is not None
    assert late.asked == []


@pytest.mark.parametrize("answer", [None, 1, "true", [], Effect.PERMIT])
def test_a_part_that_answers_nonsense_is_a_fault(answer: object) -> None:
    """What is no decision is a malformed reply of that part, and permits nothing."""
    verdict = verdict_of(CombinedPDP(Algorithm.PERMIT_OVERRIDES, [FunctionPDP(lambda _request: answer, name="odd")]))
    assert verdict.fault is Fault.MALFORMED
    with pytest.raises(PDPReplyError):
        decision_of(answer)


def test_a_coroutine_is_closed() -> None:
    """A coroutine as an answer is closed, not left to warn."""

    async def answer() -> bool:
        return True

    made = answer()
    with pytest.raises(PDPReplyError):
        decision_of(made)
    assert made.cr_frame is None


def test_both_worlds() -> None:
    """Asynchronous parts are awaited; a synchronous guard over them is refused."""

    async def decide(_request: AccessRequest) -> bool:
        return True

    combined = CombinedPDP(Algorithm.DENY_OVERRIDES, [FunctionPDP(decide, name="a"), part(Effect.PERMIT)])
    enforcer = Enforcer(combined, audit=MemorySink())
    assert asyncio.run(enforcer.acheck(REQUEST)).allowed
    with pytest.raises(ConfigurationError, match="can only be awaited"):
        enforcer.guard("read")(lambda: None)


def test_what_it_says_of_itself() -> None:
    """Its name tells algorithm and parts; it is pure when all parts are; swaps of parts reach the enforcer."""
    policies = PolicySet([])
    combined = CombinedPDP(Algorithm.DENY_OVERRIDES, [policies, part(Effect.DENY)])
    assert combined.name == "deny-overrides(policies,Effect.DENY)"
    assert not combined.pure
    assert CombinedPDP(Algorithm.DENY_OVERRIDES, [policies]).pure
    assert CombinedPDP(Algorithm.DENY_OVERRIDES, [policies], name="mine").name == "mine"

    class Swapping:
        def __init__(self) -> None:
            self.listeners: list[Any] = []

        def decide(self, _request: AccessRequest) -> bool:
            return True

        def subscribe(self, listener: Any) -> None:
            self.listeners.append(listener)

    swapping = Swapping()
    Enforcer(CombinedPDP(Algorithm.DENY_OVERRIDES, [swapping, policies]), audit=MemorySink())
    assert len(swapping.listeners) == 1


@pytest.mark.parametrize(
    ("parts", "mend"),
    [
        ([], "at least one decision point"),
        ([object()], "wrap a function"),
        ([PolicySet], "`PolicySet` is no decision point"),
    ],
)
def test_nothing_to_combine_is_refused(parts: list[Any], mend: str) -> None:
    """An empty combination, and what is no decision point, are configuration errors."""
    with pytest.raises(ConfigurationError, match=mend):
        CombinedPDP(Algorithm.DENY_OVERRIDES, parts)


def test_it_guards() -> None:
    """It stands behind a guard like any decision point."""
    enforcer = Enforcer(
        CombinedPDP(Algorithm.DENY_OVERRIDES, [part(Effect.PERMIT), part(Effect.DENY)]), audit=MemorySink()
    )
    guarded = enforcer.guard("read")(lambda: "ran")
    with acting_as(Subject("user", "alice")), pytest.raises(AccessDenied):
        guarded()


#: The published names of what a decision point can say.
PUBLISHED: Final = {"Permit": Effect.PERMIT, "Deny": Effect.DENY, "NotApplicable": Effect.NOT_APPLICABLE}


def published(name: str) -> Effect:
    return PUBLISHED.get(name, Effect.INDETERMINATE)


@pytest.mark.parametrize("batching", [False, True])
def test_every_row_of_the_published_tables(vectors: Path, batching: bool) -> None:
    """Asked as decision points, whose indeterminate could have been either, parts combine as the tables say."""
    rows = json.loads((vectors / "xacml" / "combining_truth_tables.json").read_bytes())["combine"]
    sayable = {*PUBLISHED, "Indeterminate{DP}", "Indeterminate"}
    rows = [row for row in rows if row["children"] and set(row["children"]) <= sayable]
    assert len(rows) == 7 * (4 + 4**2 + 4**3)
    for row in rows:
        parts = [BatchPart(published(child).name) for child in row["children"]]
        pdp = CombinedPDP(Algorithm(row["algorithm"]), parts)
        found = many(pdp, [REQUEST, REQUEST]) if batching else [said(perform(pdp.decide(REQUEST)))]
        assert set(found) == {published(row["result"])}


@settings(max_examples=times(300, 50_000))
@given(st.sampled_from(Algorithm), st.lists(answers, min_size=1, max_size=4), st.sampled_from(["sync", "async"]))
def test_only_exact_permits_permit(algorithm: Algorithm, given_: list[Any], world: str) -> None:
    """Whatever the faults, it answers what the exact answers alone decide, or the worst fault of the parts."""
    words = [word(one) for one in given_]
    found = said(perform(CombinedPDP(algorithm, map(Part, given_)).decide(REQUEST), world))
    possible = {
        combine(algorithm, [Decision(effect) for effect in guess]).effect
        for guess in product(*[[one] if isinstance(one, Effect) else list(Effect) for one in words])
    }
    assert found in (possible if len(possible) == 1 else {one for one in words if isinstance(one, Fault)})
    if isinstance(found, Fault) and algorithm not in IN_ORDER:
        faults = [one for one in words if isinstance(one, Fault)]
        assert found is next((one for one in faults if one not in AVAILABILITY), faults[0])


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("down", DOWN)
def test_an_outage_excuses_no_other_failure(down: type[Exception], broken: type[Exception]) -> None:
    """Where one part is down and another one failed otherwise, there is nothing to be opened."""
    for parts in ((down, broken), (broken, down)):
        for algorithm in (Algorithm.DENY_OVERRIDES, Algorithm.PERMIT_OVERRIDES, Algorithm.ORDERED_DENY_OVERRIDES):
            pdp = CombinedPDP(algorithm, map(Part, parts))
            assert said(perform(pdp.decide(REQUEST))) is fault_of(broken())
            assert set(many(pdp, [REQUEST, REQUEST])) == {fault_of(broken())}


@settings(max_examples=times(200, 5_000))
@given(
    st.sampled_from(Algorithm),
    st.integers(1, 3).flatmap(lambda wide: st.lists(st.lists(answers, min_size=wide, max_size=wide), max_size=5)),
    st.booleans(),
    st.sampled_from(["sync", "async"]),
)
def test_a_batch_is_answered_like_its_questions(
    algorithm: Algorithm, rows: list[list[Any]], batching: bool, world: str
) -> None:
    """Each item is what it would be alone, and what is asked in order is asked no further than that."""
    wide = len(rows[0]) if rows else 1

    def made() -> list[Part]:
        kind = BatchPart if batching else Part
        return [kind({str(at): row[column] for at, row in enumerate(rows)}) for column in range(wide)]

    requests = [request_for(str(at)) for at in range(len(rows))]
    together, alone = made(), made()
    one = CombinedPDP(algorithm, alone)
    wanted = [said(perform(one.decide(request), world)) for request in requests]
    assert many(CombinedPDP(algorithm, together), requests, world) == wanted
    assert [sorted(part.asked) for part in together] == [sorted(part.asked) for part in alone]
    assert all(len(part.batches) <= 1 for part in together if isinstance(part, BatchPart))


@pytest.mark.parametrize(
    ("answer", "fault"),
    [([True], Fault.MISMATCHED), (None, Fault.MALFORMED), ([True, 1], Fault.MALFORMED), (PDPTimeout, Fault.TIMEOUT)],
)
def test_a_part_that_fails_a_batch_fails_each_question(answer: Any, fault: Fault) -> None:
    """No question of a batch is answered where its part answered none, or not with a decision."""

    class Odd(Part):
        def decide_many(self, _requests: Any) -> Any:
            if isinstance(answer, type):
                raise answer
            return answer

    found = many(CombinedPDP(Algorithm.PERMIT_OVERRIDES, [Odd(True)]), [request_for("1"), request_for("2")])
    assert found == ([Effect.PERMIT, fault] if answer == [True, 1] else [fault, fault])


ROWS: Final = [Resource("doc", name) for name in "1234"]
rules: Final = st.lists(
    st.builds(
        lambda number, make, names, duty: make(
            str(number),
            action="read",
            resource="doc",
            when=resource.id.in_(names) if names else None,
            **({"obligations": [Obligation("log")]} if duty else {}),
        ),
        st.integers(0, 99),
        st.sampled_from([permit, permit, deny]),
        st.lists(st.sampled_from("1234"), max_size=3, unique=True),
        st.booleans(),
    ),
    max_size=3,
    unique_by=lambda one: one.id,
)


@settings(max_examples=times(150, 5_000))
@given(
    st.sampled_from([Algorithm.DENY_OVERRIDES, Algorithm.ORDERED_DENY_OVERRIDES]),
    st.lists(rules, min_size=1, max_size=3),
)
def test_a_row_that_is_let_through_is_permitted(algorithm: Algorithm, sets: list[Any]) -> None:
    """Every row of a filter would be permitted by `decide`, free of obligations; and it holds what all permit."""
    parts = [PolicySet(one) for one in sets]
    pdp = CombinedPDP(algorithm, parts)
    rows = perform(pdp.row_filter(Subject("user", "alice"), "read", "doc", context={})).value
    for row in ROWS:
        request = AccessRequest(Subject("user", "alice"), "read", row)
        decision = perform(pdp.decide(request)).value
        let = rows.matches(row) is True
        assert not let or (decision.effect is Effect.PERMIT and decision.obligations == ())
        each = [part.decide(request) for part in parts]
        assert let is all(one.effect is Effect.PERMIT and not one.obligations for one in each)


def test_row_filters_are_lent_where_they_are_sound() -> None:
    """Of no other algorithm can be told from what parts permit which rows are permitted free of obligations."""
    everything, nothing = PolicySet([permit("p", action="read")]), PolicySet([])
    able = {one for one in Algorithm if hasattr(CombinedPDP(one, [everything, nothing]), "row_filter")}
    assert able == {Algorithm.DENY_OVERRIDES, Algorithm.ORDERED_DENY_OVERRIDES}
    assert not hasattr(CombinedPDP(Algorithm.DENY_OVERRIDES, [everything, part(Effect.PERMIT)]), "row_filter")

    class Down(Part):
        def row_filter(self, *_: Any, **__: Any) -> Any:
            raise PDPUnavailable

    def rows(*parts: Any) -> Any:
        pdp = CombinedPDP(Algorithm.DENY_OVERRIDES, parts)
        return perform(pdp.row_filter(REQUEST.subject, "read", "doc", context={}))

    assert rows(everything, everything).value == AllowAll()
    assert rows(everything, nothing).value == DenyAll()
    assert isinstance(rows(everything, Down(True)).error, PDPUnavailable)
    enforcer = Enforcer(CombinedPDP(Algorithm.DENY_OVERRIDES, [everything, everything]), audit=MemorySink())
    assert enforcer.row_filter("read", "doc", subject=REQUEST.subject) == AllowAll()


class Probed(Part):
    """One that can tell whether it is up, and how it is."""

    def probe(self) -> None:
        if self.table is not True:
            raise PDPUnavailable(self.name)

    def health(self) -> dict[str, Any]:
        return {"up": self.table}


def test_probes_and_health_are_those_of_the_parts() -> None:
    """All have to be up; each is told by its name."""
    pdp = CombinedPDP(Algorithm.DENY_OVERRIDES, [Probed(True, "a"), Part(True, "b"), Probed(False, "c")])
    assert str(perform(pdp.probe()).error) == "c"
    assert pdp.health() == {"parts": [{"name": "a", "up": True}, {"name": "b"}, {"name": "c", "up": False}]}
    assert perform(CombinedPDP(Algorithm.DENY_OVERRIDES, [Probed(True)]).probe()).value is None
    assert not hasattr(CombinedPDP(Algorithm.DENY_OVERRIDES, [Part(True)]), "probe")


def revised(name: str, revisions: dict[str, str], effect: Effect = Effect.PERMIT) -> FunctionPDP:
    return FunctionPDP(lambda _request: Decision(effect, revision=revisions[name]), name=name, pure=True)


def test_a_new_revision_of_a_part_drops_what_was_cached() -> None:
    """Also of a part that tells of no swaps; parts that are asked now and then make no swap."""
    revisions = {"a": "1", "b": "1"}
    sink = MemorySink()
    silent = FunctionPDP(
        lambda request: Decision(Effect.NOT_APPLICABLE if request.resource.id == "2" else Effect.PERMIT, revision="1"),
        name="silent",
        pure=True,
    )
    pdp = CombinedPDP(Algorithm.FIRST_APPLICABLE, [silent, revised("b", revisions)])
    enforcer = Enforcer(pdp, audit=sink)

    def cached(name: str) -> bool:
        return enforcer.check(request_for(name)).cached

    assert [cached(name) for name in "1212"] == [False, False, True, True]
    revisions["b"] = "2"
    assert [cached("2"), cached("1")] == [True, True]
    enforcer.invalidate(resource=Resource("doc", "2"))
    assert [cached("2"), cached("1")] == [False, False]
    assert [(one["old"], one["new"]) for one in sink.records if one.kind.value == "configuration"] == [("1", "2")]


def test_all_listeners_are_told_though_one_fails() -> None:
    """A listener's failure is raised once the others know."""
    revisions = {"a": "1"}
    heard: list[Any] = []

    def fails(_event: Any) -> None:
        raise ValueError

    pdp = CombinedPDP(Algorithm.DENY_OVERRIDES, [revised("a", revisions)])
    for listener in (fails, heard.append):
        pdp.subscribe(listener)
    perform(pdp.decide(REQUEST))
    revisions["a"] = "2"
    reply = perform(pdp.decide(REQUEST))
    assert isinstance(reply, Raised)
    assert isinstance(reply.error, ValueError)
    assert [(one.old, one.new) for one in heard] == [("1", "2")]
    assert said(perform(pdp.decide(REQUEST))) is Effect.PERMIT


@pytest.mark.parametrize("algorithm", [one for one in Algorithm if one is not Algorithm.ONLY_ONE_APPLICABLE])
def test_it_conforms(algorithm: Algorithm) -> None:
    """The same answers in both worlds, alone and in batches."""
    policies = PolicySet([permit("p", action="read", resource="doc"), deny("d", action="edit", resource="doc")])
    make: Callable[[], Any] = lambda: CombinedPDP(algorithm, [policies, policies])  # noqa: E731  shown in place
    check_pdp(make, permitted=request_for(), denied=request_for(action="edit"))


def test_memory_that_runs_out_is_no_answer_to_one_question() -> None:
    """It ends the batch, and is not taken for a fault of an item."""
    revisions = {"a": "1"}

    def exhausted(_event: Any) -> None:
        raise MemoryError

    pdp = CombinedPDP(Algorithm.DENY_OVERRIDES, [revised("a", revisions)])
    pdp.subscribe(exhausted)
    perform(pdp.decide(REQUEST))
    revisions["a"] = "2"
    with pytest.raises(MemoryError):
        perform(pdp.decide_many([REQUEST, REQUEST]))
