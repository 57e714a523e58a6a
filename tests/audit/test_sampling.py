from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep import Enforcer
from pep.audit import MemorySink
from pep.audit import sampling as sampling_module
from pep.audit.record import Kind, Record, masked, new_id
from pep.audit.sampling import Sampled
from pep.errors import ConfigurationError
from pep.fault import Fault
from pep.policy import PolicySet
from pep.protocols import Sink
from pep.verdict import Outcome
from tests.proving import times


def record(outcome: str | None = "permitted", kind: Kind = Kind.DECISION, **fields: Any) -> Record:
    told = {"action": "read", "resource": {"type": "feed", "id": "1"}, "outcome": outcome, **fields}
    return Record(kind, new_id(1.0), 1.0, masked(told))


def kept(fractions: Any, *records: Record, secret: bytes = b"") -> list[Record]:
    """What is handed on."""
    inner = MemorySink()
    sink = Sampled(inner, fractions, secret=secret)
    for each in records:
        assert sink.record(each) is None
    assert sink.stats() == {"kept": len(inner.records), "left_out": len(records) - len(inner.records)}
    return inner.records


NEVER_LEFT_OUT = [
    *[record(outcome.value) for outcome in Outcome if outcome not in (Outcome.PERMITTED, Outcome.SHADOWED)],
    *[record(outcome.value, Kind.CHECK) for outcome in Outcome if outcome not in (Outcome.PERMITTED, Outcome.SHADOWED)],
    *[record(fault=fault.value) for fault in Fault],
    *[record("shadowed", would=outcome.value) for outcome in Outcome if outcome is not Outcome.PERMITTED],
    record("shadowed"),
    record(None),
    *[record(kind=kind) for kind in Kind if kind not in (Kind.DECISION, Kind.CHECK, Kind.OUTCOME)],
]


@pytest.mark.parametrize("sure", NEVER_LEFT_OUT, ids=lambda each: f"{each.kind.value} {each.outcome}")
def test_what_matters_is_never_left_out(sure: Record) -> None:
    """A denial, a fault, a fail-open, a confirmation and every other kind is kept, as it was."""
    assert kept({"**": 0}, sure) == [sure]


@pytest.mark.parametrize(
    "spare",
    [record(), record(kind=Kind.CHECK), record("shadowed", would="permitted")],
    ids=["decision", "check", "shadow"],
)
def test_permits_may_be_left_out(spare: Record) -> None:
    """Only what says that all was well can be spared."""
    assert kept({"**": 0}, spare) == []
    assert kept({"**": 1}, spare) == [spare]


def test_what_is_kept_says_what_it_stands_for() -> None:
    """About the fraction is kept, each as a copy that tells the fraction; the record itself is as it was."""
    many = times(2_000, 100_000)
    records = [record() for _ in range(many)]
    found = kept({"**": 0.25}, *records)
    assert 0.25 * many * 0.8 < len(found) < 0.25 * many * 1.2
    originals = {each.id: each for each in records}
    for each in found:
        original = originals[each.id]
        assert each.to_dict() == {**original.to_dict(), "sampled": 0.25}
        assert original.get("sampled") is None


@given(st.floats(0, 1), st.floats(0, 1), st.binary(max_size=64))
def test_the_same_are_kept_everywhere(one: float, other: float, secret: bytes) -> None:
    """Whoever decides comes to the same; a greater fraction keeps what a smaller one keeps, and more."""
    records = [record() for _ in range(20)]
    small, great = sorted([one, other])
    again = [{each.id for each in kept({"**": small}, *records, secret=secret)} for _ in range(2)]
    assert again[0] == again[1]
    assert again[0] <= {each.id for each in kept({"**": great}, *records, secret=secret)}


def test_the_secret_decides() -> None:
    """Without it, nobody can tell what will be kept."""
    records = [record() for _ in range(200)]
    one, other = ({each.id for each in kept({"**": 0.5}, *records, secret=key)} for key in (b"one", b"other"))
    assert one != other


@pytest.mark.parametrize(
    ("fractions", "spared"),
    [
        ({}, False),
        ({"feed:read": 0}, True),
        ({"feed:*": 0, "feed:read": 1}, False),
        ({"feed:read": 1, "**": 0}, False),
        ({"**": 1, "feed:**": 0}, True),
        ({"report:read": 0}, False),
        ({"feed:read": {"permitted": 0}}, True),
        ({"feed:read": {"shadowed": 0}}, False),
    ],
)
def test_the_narrowest_pattern_holds(fractions: Any, spared: bool) -> None:
    """Patterns are those of profiles: an action without a colon is qualified by the type of its resource."""
    assert bool(kept(fractions, record())) is not spared
    assert bool(kept(fractions, record(action="feed:read", resource={"type": "other"}))) is not spared


def test_a_record_without_a_resource_is_matched_all_the_same() -> None:
    """Whatever it lacks, it is not lost."""
    assert len(kept({"feed:read": 0}, record(resource=None), record(action=None))) == 2


# Outcome records.


def outcome_of(decision: Record, status: str = "completed") -> Record:
    return record(None, Kind.OUTCOME, decision=decision.id, status=status)


def test_an_outcome_goes_where_its_decision_went() -> None:
    """Kept with it, standing for as many; left out with it."""
    decisions = [record() for _ in range(100)]
    records = [each for decision in decisions for each in (decision, outcome_of(decision))]
    found = kept({"**": 0.5}, *records)
    ids = {each.id for each in found if each.kind is Kind.DECISION}
    assert 0 < len(ids) < 100
    assert {each["decision"] for each in found if each.kind is Kind.OUTCOME} == ids
    assert {each["sampled"] for each in found} == {0.5}


@pytest.mark.parametrize("decision", [record("failed_open", fault="timeout"), record("shadowed", would="denied")])
def test_the_outcome_of_what_is_always_kept_is_kept(decision: Record) -> None:
    """An opened call's outcome is there, whatever fraction its action has."""
    assert kept({"**": 0}, decision, outcome_of(decision))[0] is decision
    assert len(kept({"**": 0}, decision, outcome_of(decision))) == 2


def test_a_withheld_result_is_never_left_out() -> None:
    """It was denied in the end."""
    decision = record()
    late = outcome_of(decision, "withheld")
    assert kept({"**": 0}, decision, late) == [late]


def test_what_is_forgotten_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many decisions are remembered; the outcome of an older one is kept."""
    monkeypatch.setattr(sampling_module, "REMEMBERED", 2)
    decisions = [record() for _ in range(4)]
    found = kept({"**": 0}, *decisions, *map(outcome_of, decisions))
    assert [each["decision"] for each in found] == [each.id for each in decisions[:2]]


# What it is.


def test_it_is_no_proof() -> None:
    """It states no guarantee, and cannot be what an enforcer records with."""
    sink = Sampled(MemorySink(), {})
    assert not isinstance(sink, Sink)
    assert repr(sink) == "Sampled(<MemorySink of 0 records>)"
    with pytest.raises(ConfigurationError, match=r"it needs `record\(record\)` and `guarantee`"):
        Enforcer(PolicySet([]), audit=sink)


def test_its_sink_is_closed_with_it() -> None:
    """However that is done; one that needs no closing is left."""
    closed = []

    class Closing(MemorySink):
        def close(self) -> None:
            closed.append("close")

    class Awaiting(MemorySink):
        async def aclose(self) -> None:
            closed.append("aclose")

    Sampled(Closing(), {}).close()
    asyncio.run(Sampled(Awaiting(), {}).close())
    assert Sampled(MemorySink(), {}).close() is None
    assert closed == ["close", "aclose"]


@pytest.mark.parametrize(
    ("fractions", "secret", "message"),
    [
        ({"**": 1.1}, b"", "the fraction of `\\*\\*` is out of range; give a number from 0 to 1"),
        ({"**": -0.1}, b"", "out of range"),
        ({"**": True}, b"", "out of range"),
        ({"**": "0.1"}, b"", "out of range"),
        ({"**": float("nan")}, b"", "out of range"),
        ({"**": {"denied": 0.1}}, b"", "records of outcome `denied` are never left out"),
        ({"read": 0.1}, b"", "matches no action"),
        ({"feed:*": 0.1, "*:read": 0.2}, b"", "patterns `feed:\\*` and `\\*:read` overlap"),
        ({}, "text", "`secret` must be `bytes`, 64 at most"),
        ({}, b"x" * 65, "`secret` must be `bytes`"),
    ],
)
def test_mistakes_are_errors_at_the_start(fractions: Any, secret: Any, message: str) -> None:
    """A fraction out of range, another outcome, or patterns that overlap."""
    with pytest.raises(ConfigurationError, match=message):
        Sampled(MemorySink(), fractions, secret=secret)


def test_what_is_no_sink_is_refused() -> None:
    """Neither something else nor a class is a sink."""
    with pytest.raises(ConfigurationError, match="`object` is no audit sink"):
        Sampled(object(), {})
