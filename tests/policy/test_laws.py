"""The laws policies obey, over random policies, requests and missing attributes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pep.model import AccessRequest, Effect
from pep.policy import PolicySet, Rule, deny
from pep.policy.compiling import Compiler
from pep.policy.condition import Condition
from pep.policy.evaluate import Facts, evaluate
from pep.policy.policies import MAX_NAMED
from tests.policy import reference
from tests.policy.strategies import conditions, policies, requests, rules, timed_conditions


@settings(max_examples=400)
@given(timed_conditions, requests, st.sampled_from([0.0, 1.0, 4.0]))
def test_evaluated_is_reference(condition: Condition, request: AccessRequest, now: float) -> None:
    """Walking a condition's tree answers what the reference interpreter answers."""
    assert evaluate(condition, Facts(request, now)) is reference.truth(condition, request, now)


@settings(max_examples=400)
@given(timed_conditions, requests, st.sampled_from([0.0, 1.0, 4.0]))
def test_compiled_is_reference(condition: Condition, request: AccessRequest, now: float) -> None:
    """A compiled condition answers what the reference interpreter answers."""
    test, constants = Compiler().compile(condition)
    assert test(request, constants, now) is reference.truth(condition, request, now)


@settings(max_examples=600)
@given(policies(timed_conditions), st.lists(requests, min_size=1, max_size=3), st.sampled_from([0.0, 4.0]))
def test_indexed_is_naive(found: list[Rule], asked: list[AccessRequest], now: float) -> None:
    """The index changes nothing: neither the effect, nor the rules that are named, nor their duties."""
    policies = PolicySet(found, clock=lambda: now)
    by_id = {rule.id: rule for rule in found}
    for request, decision in zip(asked, policies.decide_many(asked), strict=True):
        effect, ids = reference.decide(found, request, now)
        assert (decision.effect, list(decision.policies)) == (effect, ids[:MAX_NAMED])
        told = [by_id[name] for name in ids if effect in {Effect.PERMIT, Effect.DENY}]
        assert list(decision.obligations) == [duty for rule in told for duty in rule.obligations]
        assert list(decision.advice) == [duty for rule in told for duty in rule.advice]
        assert list(decision.reasons) == [by_id[name].reason for name in decision.policies if by_id[name].reason]
        assert policies.decide(request) == decision


@given(policies(), rules(ids=st.just("denial")).map(lambda rule: rule), requests)
def test_denials_never_permit(found: list[Rule], rule: Rule, request: AccessRequest) -> None:
    """Adding a denial never permits more."""
    denial = deny(rule.id, when=rule.when, unless=rule.unless)
    if PolicySet([*found, denial]).decide(request).effect is Effect.PERMIT:
        assert PolicySet(found).decide(request).effect is Effect.PERMIT


@given(policies(), rules(ids=st.just("unrelated")), requests)
def test_unrelated_rules_change_nothing(found: list[Rule], rule: Rule, request: AccessRequest) -> None:
    """A rule about another action changes nothing."""
    unrelated = deny(rule.id, action="elsewhere", when=rule.when)
    assert PolicySet([*found, unrelated], revision="1").decide(request) == PolicySet(found, revision="1").decide(
        request
    )


@given(policies().flatmap(lambda found: st.tuples(st.just(found), st.permutations(found))), requests)
def test_order_does_not_matter(orders: tuple[list[Rule], list[Rule]], request: AccessRequest) -> None:
    """The order rules come in changes neither a decision nor the revision."""
    one, other = (PolicySet(found) for found in orders)
    assert one.decide(request) == other.decide(request)
    assert one.revision == other.revision


@given(conditions, requests)
def test_negation_is_kleene(condition: Condition, request: AccessRequest) -> None:
    """Two negations are none, and the negation of the unknown is unknown."""
    facts = Facts(request, 0.0)
    once = evaluate(~condition, facts)
    assert once is (None if evaluate(condition, facts) is None else not evaluate(condition, facts))
    assert evaluate(~~condition, facts) is evaluate(condition, facts)
