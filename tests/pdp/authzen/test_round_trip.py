"""Both sides together: what a decision point says is what the other side hears."""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from pep import AccessRequest, Decision, Effect, Obligation, Resource
from pep.errors import PDPReplyError
from pep.pdp import FunctionPDP
from pep.pdp.authzen import AuthZENPDP, Semantic
from pep.pdp.authzen.codec import NEW_ID
from pep.steps import Raised
from pep.testing.strategies import decisions, requests
from tests.pdp.authzen.rigs import URL, ASGITransport, driven, sendable, serving
from tests.proving import times


class Recorded:
    """Answers what it is told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[AccessRequest] = []
        self.answers: list[Decision] = []
        application = serving(FunctionPDP(self._decide, name="recorded"), batch=1000)
        self.pdp = AuthZENPDP(URL, transport=ASGITransport(application))

    def _decide(self, request: AccessRequest) -> Decision:
        self.asked.append(request)
        return self.answers[(len(self.asked) - 1) % len(self.answers)]

    def tells(self, *answers: Decision) -> None:
        self.asked, self.answers = [], list(answers)


RECORDED = Recorded()


def heard(decision: Decision) -> Decision:
    """What is heard of a decision: ids of obligations are given where there were none or they were not apart."""
    if decision.effect is Effect.INDETERMINATE:
        return Decision(decision.effect, reasons=["the policies could not be evaluated"])
    nameless = [Obligation(one.type, one.properties) for one in decision.obligations]
    return attrs.evolve(decision, obligations=nameless) if nameless else decision


def nameless(decision: Decision) -> Decision:
    duties = [Obligation(one.type, one.properties) for one in decision.obligations]
    return Decision(
        decision.effect, duties, decision.advice, decision.reasons, decision.policies, decision.revision, decision.ttl
    )


@given(requests().filter(sendable).map(lambda request: request.evolve(actors=())), decisions())
@settings(max_examples=times(25, 20_000))
def test_a_decision_survives(request: AccessRequest, decision: Decision) -> None:
    """The request arrives as it was asked, the decision as it was given: effect, duties, advice, reasons and all."""
    RECORDED.tells(decision)
    found = driven(RECORDED.pdp.decide(request))
    assert RECORDED.asked == [request]
    assert nameless(found) == nameless(heard(decision))
    assert found.id


@given(requests().filter(sendable), decisions())
@settings(max_examples=times(15, 5_000))
def test_actors_arrive(request: AccessRequest, decision: Decision) -> None:
    """With everybody who acts for somebody, and each of them asked; the answer is that of all."""
    RECORDED.tells(decision)
    found = driven(RECORDED.pdp.decide(request))
    assert RECORDED.asked[0] == request
    actors = {one.evolve(actors=()) for one in RECORDED.asked[1:]}
    assert actors == {request.evolve(subject=actor, actors=()) for actor in request.actors} - {request}
    assert (found.effect is Effect.PERMIT) is (decision.effect is Effect.PERMIT)


@given(
    st.lists(requests().filter(sendable).map(lambda request: request.evolve(actors=())), min_size=1, max_size=6),
    decisions(),
    decisions(),
)
@settings(max_examples=times(8, 5_000))
def test_a_batch_is_what_each_of_it_is(asked: list[AccessRequest], one: Decision, other: Decision) -> None:
    """Asked together, each has the answer it has alone."""

    def decide(request: AccessRequest) -> Decision:
        return one if len(request.key) % 2 else other

    pdp = AuthZENPDP(URL, transport=ASGITransport(serving(FunctionPDP(decide))), batch=3)
    together = driven(pdp.decide_many(asked))
    assert not any(isinstance(found, Raised) for found in together)
    assert [nameless(found) for found in together] == [nameless(heard(decide(request))) for request in asked]
    permitted = [decide(request).effect is Effect.PERMIT for request in asked]
    for semantic, stops in ((Semantic.DENY_ON_FIRST_DENY, False), (Semantic.PERMIT_ON_FIRST_PERMIT, True)):
        found = driven(pdp.decide_until(asked, semantic))
        end = permitted.index(stops) + 1 if stops in permitted else len(asked)
        assert [item.effect is Effect.PERMIT for item in found[:end]] == permitted[:end]
        assert all(item.reasons == ("not evaluated",) for item in found[end:])


@given(requests())
@settings(max_examples=times(15, 5_000))
def test_what_cannot_be_asked_is_refused(request: AccessRequest) -> None:
    """Nothing that means something else on the wire is ever sent."""
    RECORDED.tells(Decision(Effect.PERMIT))
    odd = [
        request.evolve(context={**request.context, "pep": {}}),
        request.about(Resource(request.resource.type, NEW_ID, request.resource.properties)),
    ]
    for one in odd:
        try:
            driven(RECORDED.pdp.decide(one))
        except PDPReplyError:
            continue
        raise AssertionError(one)
    assert RECORDED.asked == []
