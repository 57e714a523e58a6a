"""What Cedar says, as decisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import cedarpy
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pep.errors import PDPMismatched, PDPReplyError
from pep.pdp.cedar import CedarPDP
from pep.plan import Raised
from tests.pdp.cedar_cases import (
    ALL,
    DOUBT,
    NONE,
    PERMIT,
    REQUEST,
    effect,
    when,
)
from tests.proving import times


class Answering:
    """Stands for `cedarpy`, and answers as it is told."""

    def __init__(self, results: Any) -> None:
        self.results = results

    def is_authorized_batch(self, *_args: object) -> Any:
        if isinstance(self.results, Exception):
            raise self.results
        return self.results


def answering(pdp: CedarPDP, results: Any) -> CedarPDP:
    """Have a decision point ask something else than Cedar."""
    pdp._loaded = attrs.evolve(pdp._loaded, cedarpy=Answering(results))
    return pdp


WORDS = ["Allow", "Deny", "NoDecision", "allow", "ALLOW", "true", True, 1, None, "", ["Allow"], {"Allow": 1}]
ODD: list[Any] = [None, True, 1, "policy0", {}, {"policy0": 1}, [None], [1], [["policy0"]], ("policy0",)]
names = st.lists(st.sampled_from(["policy0", "policy1", "policy2", "p", ""]), max_size=2)
replies = st.fixed_dictionaries(
    {},
    optional={
        "decision": st.sampled_from(["Allow", "Deny"]) | st.sampled_from(WORDS),
        "correlation_id": st.just("0") | st.sampled_from([None, "1", 0, ""]),
        "diagnostics": st.fixed_dictionaries(
            {}, optional={"reason": names | st.sampled_from(ODD), "errors": st.just([]) | names | st.sampled_from(ODD)}
        )
        | st.sampled_from(ODD),
    },
)
TWO = f'@id("p") {ALL} forbid(principal, action, resource) when {{ false }};'
SHARED = CedarPDP(TWO)


def permits(reply: Mapping[str, Any]) -> bool:
    """What an exact permit is: policy0 permits, policy1 forbids, there is no other."""
    told = reply.get("diagnostics")
    return (
        reply.get("decision") == "Allow"
        and type(reply["decision"]) is str
        and reply.get("correlation_id") == "0"
        and isinstance(told, dict)
        and type(told.get("reason")) is list
        and bool(told["reason"])
        and all(one == "policy0" for one in told["reason"])
        and ("errors" not in told or told["errors"] == [])
        and ("errors" not in told or type(told["errors"]) is list)
    )


@given(replies)
@settings(max_examples=times(400, 50_000))
@example({"decision": "Allow", "correlation_id": "0", "diagnostics": {"reason": ["policy0"], "errors": []}})
@example({"decision": "Allow", "correlation_id": "0", "diagnostics": {"reason": [], "errors": []}})
@example({"decision": "Allow", "correlation_id": "0", "diagnostics": {"reason": ["policy1"], "errors": []}})
@example({"decision": "Allow", "correlation_id": "0", "diagnostics": {"reason": ["policy2"], "errors": []}})
@example({"decision": "Allow", "correlation_id": "1", "diagnostics": {"reason": ["policy0"], "errors": []}})
@example({"decision": "Allow", "correlation_id": "0", "diagnostics": {"reason": ["policy0"], "errors": ["policy0"]}})
@example({"decision": "Allow", "correlation_id": "0", "diagnostics": {"reason": "policy0", "errors": []}})
@example({"decision": "Allow", "correlation_id": "0", "diagnostics": {"reason": ["policy0"], "errors": None}})
@example({"decision": "Allow", "correlation_id": "0", "diagnostics": {"reason": ["policy0"], "errors": {}}})
@example({"decision": "Allow", "correlation_id": "0", "diagnostics": {"reason": ("policy0",), "errors": []}})
@example({})
def test_only_an_exact_permit_permits(reply: dict[str, Any]) -> None:
    """Whatever comes back is a permit exactly when Cedar documents it as one, else no permit (promise 5)."""
    pdp = answering(SHARED, [cedarpy.AuthzResult(reply)])
    try:
        decided = pdp.decide(REQUEST)
    except PDPReplyError:
        assert not permits(reply)
    else:
        assert (decided.effect is PERMIT) is permits(reply)


NOT_BATCHES: dict[str, Any] = {
    "nothing": None,
    "short": [],
    "long": [cedarpy.AuthzResult({"decision": "Deny", "correlation_id": "0"})] * 2,
    "a tuple": (cedarpy.AuthzResult({"decision": "Deny", "correlation_id": "0"}),),
    "no result": [None],
    "a mapping": [{"decision": "Allow"}],
    "an error": ValueError("secret"),
    "a wrong type": TypeError("secret"),
    "no decision": KeyError("decision"),
}


@pytest.mark.parametrize("results", NOT_BATCHES.values(), ids=NOT_BATCHES)
def test_what_is_no_batch_is_no_answer(results: Any) -> None:
    """A batch that is short, long or none is an error for each question, and quotes nothing."""
    (answer,) = answering(CedarPDP(ALL), results).decide_many([REQUEST])
    assert isinstance(answer, Raised)
    assert isinstance(answer.error, PDPReplyError)
    assert "secret" not in str(answer.error)


def test_a_reordered_batch_is_refused() -> None:
    """Answers to other questions are no answers, however many there are."""
    allowed = {"decision": "Allow", "diagnostics": {"reason": ["policy0"], "errors": []}}
    results = [cedarpy.AuthzResult({**allowed, "correlation_id": number}) for number in ("1", "0")]
    for answer in answering(CedarPDP(ALL), results).decide_many([REQUEST, REQUEST]):
        assert isinstance(answer, Raised)
        assert isinstance(answer.error, PDPMismatched)


FAILING = f'@id("all") {ALL} @id("bad") ' + when("resource.x > 1", "forbid(principal, action, resource)")


def test_a_skipped_policy_is_indeterminate() -> None:
    """A `forbid` that could not be evaluated may have forbidden: the answer names it, without values."""
    decided = CedarPDP(FAILING).decide(REQUEST)
    assert (decided.effect, decided.policies) == (DOUBT, ("bad",))
    assert decided.reasons == ("policy `bad` could not be evaluated",)
    assert not decided.obligations


def test_skipping_can_be_trusted() -> None:
    """`skip_errors` takes Cedar's word for it."""
    assert effect(FAILING, skip_errors=True) is PERMIT
    assert effect(when("resource.x > 1"), skip_errors=True) is NONE


def test_an_error_nobody_knows_is_in_doubt() -> None:
    """An error in other words is one all the same."""
    reply = {"decision": "Allow", "correlation_id": "0", "diagnostics": {"reason": ["policy0"], "errors": ["?"]}}
    decided = answering(CedarPDP(ALL), [cedarpy.AuthzResult(reply)]).decide(REQUEST)
    assert (decided.effect, decided.policies) == (DOUBT, ())


def test_an_allow_that_no_policy_explains_is_no_answer() -> None:
    """Cedar allows because of a policy; without one it is neither a permit nor a denial."""
    reply = {"decision": "Allow", "correlation_id": "0", "diagnostics": {"reason": [], "errors": []}}
    with pytest.raises(PDPReplyError, match="no decision"):
        answering(CedarPDP(ALL), [cedarpy.AuthzResult(reply)]).decide(REQUEST)
