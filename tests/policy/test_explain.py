"""Explanations tell what decided, and why not otherwise."""

from __future__ import annotations

import json

from hypothesis import given

from pep.model import AccessRequest, Effect, Resource, Subject
from pep.policy import PolicySet, Rule, context, deny, has, permit, resource, subject
from pep.policy.condition import leaves
from pep.policy.policies import MAX_NAMED
from pep.policy.text import to_text
from tests.policy import reference
from tests.policy.strategies import policies, requests, timed_conditions

POLICIES = PolicySet(
    [
        permit("owners", action="edit", when=resource.owner == subject.id, reason="it is theirs"),
        permit("editors", action="edit", when=subject.roles.contains("editor") & ~(context.mfa_age > 300)),
        deny("frozen", resource="document", when=has(resource.frozen), unless=resource.level < 3),
        deny("others", action="delete"),
    ],
    revision="7",
)


@given(policies(timed_conditions), requests)
def test_agrees_with_decide(found: list[Rule], request: AccessRequest) -> None:
    """An explanation has the decision's effect and names the rules that decided."""
    policies = PolicySet(found, clock=lambda: 4.0)
    explanation, decision = policies.explain(request), policies.decide(request)
    assert explanation.effect is decision.effect
    assert explanation.policies[:MAX_NAMED] == decision.policies


@given(policies(timed_conditions, min_size=1), requests)
def test_every_leaf(found: list[Rule], request: AccessRequest) -> None:
    """Each candidate shows all leaves of its condition, with the value each has of the request."""
    rules = {rule.id: rule for rule in found}
    for candidate in PolicySet(found, clock=lambda: 4.0).explain(request).candidates:
        rule = rules[candidate.id]
        for condition, part in ((rule.when, candidate.when), (rule.unless, candidate.unless)):
            if condition is None:
                assert part is None
                continue
            assert part is not None
            assert part.truth is reference.truth(condition, request, 4.0)
            told = [(one.text, one.truth) for one in part.leaves()]
            assert told == [(to_text(one), reference.truth(one, request, 4.0)) for one in leaves(condition)]


def test_text_and_json() -> None:
    """The rendered explanation shows what decided first, and which attribute was missing."""
    request = AccessRequest(
        Subject("user", "ann", {"roles": ["editor"]}), "edit", Resource("document", "1", {"owner": "bob", "level": "x"})
    )
    explanation = POLICIES.explain(request)
    assert (
        explanation.to_text()
        == str(explanation)
        == (
            "indeterminate, decided by editors (revision 7)\n"
            "* permit `editors` applies: unknown\n"
            "    when\n"
            "      unknown and\n"
            "        true    subject.roles.contains('editor')\n"
            "        unknown not\n"
            "          unknown context.mfa_age > 300 (missing: context.mfa_age)\n"
            "  deny `frozen` applies: false\n"
            "    when\n"
            "      false   has(resource.frozen) (missing: resource.frozen)\n"
            "    unless\n"
            "      unknown resource.level < 3 (values that cannot be compared)\n"
            "  permit `owners` applies: false: it is theirs\n"
            "    when\n"
            "      false   resource.owner == subject.id"
        )
    )
    told = explanation.to_dict()
    assert json.loads(json.dumps(told)) == told
    assert (told["effect"], told["combined"], told["policies"]) == ("indeterminate", "IP", ["editors"])
    assert told["candidates"][0] == {
        "id": "editors",
        "effect": "permit",
        "applies": "unknown",
        "decided": True,
        "when": {
            "text": "and",
            "value": "unknown",
            "parts": [
                {"text": "subject.roles.contains('editor')", "value": "true"},
                {
                    "text": "not",
                    "value": "unknown",
                    "parts": [{"text": "context.mfa_age > 300", "value": "unknown", "missing": ["context.mfa_age"]}],
                },
            ],
        },
    }
    assert told["candidates"][2]["reason"] == "it is theirs"


def test_nothing_applies() -> None:
    """Where no rule is about a request, the explanation says so."""
    explanation = POLICIES.explain(AccessRequest(Subject("user", "ann"), "read", Resource("folder", "1")))
    assert explanation.effect is Effect.NOT_APPLICABLE
    assert explanation.to_text() == "not_applicable, decided by no rule (revision 7)"


def test_values_are_not_told() -> None:
    """No attribute value of the request appears in an explanation."""
    request = AccessRequest(
        Subject("user", "s3cret-1", {"roles": ["s3cret-2"]}), "edit", Resource("document", "s3cret-3")
    )
    explanation = POLICIES.explain(request)
    assert "s3cret" not in explanation.to_text() + json.dumps(explanation.to_dict())
