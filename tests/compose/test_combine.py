"""Combining algorithms, against every row of the published truth tables."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.compose.combine import (
    Algorithm,
    Applicability,
    Extended,
    combine,
    extended,
    only_one_applicable,
    with_indeterminate_target,
)
from pep.errors import ConfigurationError
from pep.model import Decision, Effect, Obligation

VALUES = {
    "Permit": Extended.PERMIT,
    "Deny": Extended.DENY,
    "NotApplicable": Extended.NOT_APPLICABLE,
    "Indeterminate{P}": Extended.INDETERMINATE_P,
    "Indeterminate{D}": Extended.INDETERMINATE_D,
    "Indeterminate{DP}": Extended.INDETERMINATE_DP,
    "Indeterminate": Extended.INDETERMINATE_DP,
}
TARGETS = {
    "Match": Applicability.MATCH,
    "NoMatch": Applicability.NO_MATCH,
    "Indeterminate": Applicability.INDETERMINATE,
}


@pytest.fixture(scope="module")
def tables(vectors: Path) -> dict[str, Any]:
    """The published truth tables."""
    found: dict[str, Any] = json.loads((vectors / "xacml" / "combining_truth_tables.json").read_bytes())
    return found


def test_every_row(tables: dict[str, Any]) -> None:
    """Each algorithm answers all 1813 rows of its table."""
    wrong = [
        row
        for row in tables["combine"]
        if Algorithm(row["algorithm"]).of([VALUES[child] for child in row["children"]]) is not VALUES[row["result"]]
    ]
    assert wrong == []
    assert len(tables["combine"]) == 1813
    assert set(Counter(row["algorithm"] for row in tables["combine"]).values()) == {259}


def test_every_row_of_only_one_applicable(tables: dict[str, Any]) -> None:
    """Only-one-applicable answers all 259 rows of its table."""
    rows = tables["only-one-applicable"]
    wrong = []
    for row in rows:
        # A policy whose target does not match, or cannot be evaluated, has no value of its own.
        parts = [(TARGETS[child["target"]], VALUES[child["value"] or "NotApplicable"]) for child in row["children"]]
        if only_one_applicable(parts) is not VALUES[row["result"]]:
            wrong.append(row)
    assert wrong == []
    assert len(rows) == 259


def test_indeterminate_targets(tables: dict[str, Any]) -> None:
    """A policy whose target cannot be evaluated answers by table 7."""
    table = tables["policy_table7_indeterminate_target"]
    assert {name: with_indeterminate_target(VALUES[name]) for name in table} == {
        name: VALUES[result] for name, result in table.items()
    }


def test_collapse() -> None:
    """Outside, there is one indeterminate; coming in, it could have been either."""
    assert [value.collapse() for value in Extended] == [
        Effect.PERMIT,
        Effect.DENY,
        Effect.NOT_APPLICABLE,
        Effect.INDETERMINATE,
        Effect.INDETERMINATE,
        Effect.INDETERMINATE,
    ]
    assert all(extended(effect).collapse() is effect for effect in Effect)
    assert extended(Effect.INDETERMINATE) is Extended.INDETERMINATE_DP


def test_effects_in_decisions() -> None:
    """Over decisions, only-one-applicable and first-applicable go by what is applicable."""
    permit, deny, silent = Decision(Effect.PERMIT), Decision(Effect.DENY), Decision(Effect.NOT_APPLICABLE)
    assert combine(Algorithm.ONLY_ONE_APPLICABLE, [silent, permit, silent]).effect is Effect.PERMIT
    assert combine(Algorithm.ONLY_ONE_APPLICABLE, [deny, permit]).effect is Effect.INDETERMINATE
    assert combine(Algorithm.ONLY_ONE_APPLICABLE, [silent]).effect is Effect.NOT_APPLICABLE
    assert combine(Algorithm.FIRST_APPLICABLE, [silent, deny, permit]).effect is Effect.DENY


@pytest.mark.parametrize("algorithm", Algorithm)
def test_nothing_is_no_answer(algorithm: Algorithm) -> None:
    """To combine no decisions at all is refused, also where the algorithm would permit."""
    with pytest.raises(ConfigurationError, match="at least one"):
        combine(algorithm, [])


decisions = st.builds(
    lambda effect, name, ttl: Decision(
        effect, obligations=[Obligation(f"do-{name}")], advice=[Obligation(f"hint-{name}")], reasons=[f"why-{name}"],
        policies=[name], revision=f"r{name}", ttl=ttl,
    ),
    st.sampled_from(Effect),
    st.sampled_from("abc"),
    st.none() | st.integers(0, 9),
)  # fmt: skip


@given(st.sampled_from(Algorithm), st.lists(decisions, min_size=1, max_size=4))
def test_what_is_passed_up(algorithm: Algorithm, parts: list[Decision]) -> None:
    """Obligations and advice come from parts that had the final effect, and never with an indeterminate one."""
    whole = combine(algorithm, parts)
    telling = [one for one in parts if one.effect is whole.effect]
    if algorithm is Algorithm.FIRST_APPLICABLE:
        telling = telling[:1]
    bound = telling if whole.effect in {Effect.PERMIT, Effect.DENY} else []
    assert list(whole.obligations) == [duty for one in bound for duty in one.obligations]
    assert list(whole.advice) == [duty for one in bound for duty in one.advice]
    assert list(whole.policies) == [name for one in telling for name in one.policies]
    assert list(whole.reasons) == [reason for one in telling for reason in one.reasons]
    assert whole.revision == "+".join(one.revision or "" for one in parts)
    assert whole.ttl == min((one.ttl for one in parts if one.ttl is not None), default=None)


@given(
    st.lists(st.sampled_from(Extended), max_size=5).flatmap(lambda one: st.tuples(st.just(one), st.permutations(one)))
)
def test_order_matters_to_first_applicable_only(orders: tuple[list[Extended], list[Extended]]) -> None:
    """Every other algorithm answers the same in any order."""
    for algorithm in set(Algorithm) - {Algorithm.FIRST_APPLICABLE}:
        assert algorithm.of(orders[0]) is algorithm.of(orders[1])
