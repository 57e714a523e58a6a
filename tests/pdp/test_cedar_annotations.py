"""Annotations of policies as obligations."""

from __future__ import annotations

import pytest

from pep import Obligation
from pep.errors import ConfigurationError
from pep.pdp.cedar import CedarPDP
from tests.pdp.cedar_cases import (
    ALL,
    DENY,
    REQUEST,
    when,
)

ANNOTATED: dict[str, tuple[str, tuple[Obligation, ...]]] = {
    "a word": ('@obligation("step-up")', (Obligation("step-up"),)),
    "an object": (
        r'@obligation("{\"type\": \"redact\", \"properties\": {\"fields\": [\"a\"]}, \"id\": \"1\"}")',
        (Obligation("redact", {"fields": ["a"]}, "1"),),
    ),
    "a text": (r'@obligation("\"once a day\"")', (Obligation("once a day"),)),
    "a list": (r'@obligations("[\"a\", {\"type\": \"b\"}]")', (Obligation("a"), Obligation("b"))),
    "a word for a list": ('@obligations("a")', (Obligation("a"),)),
    "both": (r'@obligation("a") @obligations("[\"b\"]")', (Obligation("a"), Obligation("b"))),
    "an empty list": ('@obligations("[]")', ()),
    "others": ('@owner("obelix") @note', ()),
}


@pytest.mark.parametrize(("text", "duties"), ANNOTATED.values(), ids=ANNOTATED)
def test_annotations_are_obligations(text: str, duties: tuple[Obligation, ...]) -> None:
    """A policy that decides brings its obligations, permitting or forbidding."""
    assert CedarPDP(f"{text} {ALL}").decide(REQUEST).obligations == duties
    denied = CedarPDP(f"{text} forbid(principal, action, resource);").decide(REQUEST)
    assert (denied.effect, denied.obligations) == (DENY, duties)


def test_only_deciding_policies_oblige() -> None:
    """What did not match, and a permit that was overridden, obliges nobody."""
    text = (
        f'@id("b") @obligation("b") @advice("c") @reason("because") {ALL}'
        f'@id("a") @obligation("a") @advice("[]") {ALL} @obligation("x") ' + when("false")
    )
    decided = CedarPDP(text).decide(REQUEST)
    assert decided.obligations == (Obligation("a"), Obligation("b"))
    assert decided.advice == (Obligation("c"),)
    assert (decided.reasons, decided.policies) == (("because",), ("a", "b"))
    forbidden = CedarPDP(f'{text} @id("no") forbid(principal, action, resource);').decide(REQUEST)
    assert (forbidden.effect, forbidden.obligations, forbidden.policies) == (DENY, (), ("no",))


MALFORMED = {
    "nothing": "@obligation",
    "no word": '@obligation("two words")',
    "no JSON": '@obligation("{")',
    "a number": '@obligation("1")',
    "a list": r'@obligation("[\"a\"]")',
    "an object for a list": r'@obligations("{\"type\": \"a\"}")',
    "a text for a list": r'@obligations("\"a b\"")',
    "no type": r'@obligations("[{}]")',
    "an empty type": r'@obligation("{\"type\": \"\"}")',
    "a number as type": r'@obligation("{\"type\": 1}")',
    "an unknown member": r'@obligation("{\"type\": \"a\", \"props\": {}}")',
    "a key twice": r'@obligation("{\"type\": \"a\", \"type\": \"b\"}")',
    "properties that are none": r'@obligation("{\"type\": \"a\", \"properties\": []}")',
    "an id twice": r'@obligations("[{\"type\": \"a\", \"id\": \"1\"}, {\"type\": \"b\", \"id\": \"1\"}]")',
    "advice": '@advice("{}")',
    "a misspelled name": '@obligaton("a")',
    "another case": '@Obligation("a")',
    "another word": '@advise("a")',
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_malformed_annotations_do_not_load(text: str) -> None:
    """An obligation that was not understood would not be discharged."""
    for policy in (ALL, "permit(principal == ?principal, action, resource);"):
        with pytest.raises(ConfigurationError, match=r"annotation `@\w+` of policy `x`"):
            CedarPDP(f'@id("x") {text} {policy}')
