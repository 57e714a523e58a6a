"""Which records are meant, and what they add up to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings

from pep.cli.audit_query import Ending, Stats, Tally, Wanted, cells, instant
from pep.errors import ConfigurationError
from pep.verdict import Outcome
from tests.audit.formats.records import records
from tests.proving import times

ANN = {"type": "user", "id": "ann"}
PAGE = {"type": "page", "id": "1"}
RECORD: dict[str, Any] = {
    "kind": "decision",
    "time": "2026-01-02T12:00:00.000000Z",
    "subject": ANN,
    "action": "read",
    "resource": PAGE,
    "outcome": "denied",
}
NOON = instant("2026-01-02T12:00:00Z", "")


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (Wanted(), True),
        (Wanted(kind="decision"), True),
        (Wanted(kind="check"), False),
        (Wanted(outcome="denied"), True),
        (Wanted(outcome="permitted"), False),
        (Wanted(subject="user:ann"), True),
        (Wanted(subject="user"), True),
        (Wanted(subject="user:an"), False),
        (Wanted(subject="ann"), False),
        (Wanted(resource="page:1"), True),
        (Wanted(resource="page"), True),
        (Wanted(resource="page:2"), False),
        (Wanted(action="read"), True),
        (Wanted(action="page:read"), True),
        (Wanted(action="page:*"), True),
        (Wanted(action="**"), True),
        (Wanted(action="file:*"), False),
        (Wanted(action="edit"), False),
        (Wanted(since=NOON), True),
        (Wanted(since=NOON + 1), False),
        (Wanted(until=NOON), False),
        (Wanted(until=NOON + 1), True),
        (Wanted(since=NOON, until=NOON + 1, kind="decision", subject="user", outcome="denied"), True),
    ],
)
def test_matching(wanted: Wanted, matches: bool) -> None:
    """All that is asked for must hold; the later end of a time is not part of it."""
    assert wanted.matches(RECORD) is matches


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        ({"requests": [{"action": "edit", "resource": {"type": "page", "id": "9"}}]}, Wanted(resource="page:9")),
        ({"requests": [{"action": "edit", "resource": {"type": "page", "id": "9"}}]}, Wanted(action="page:edit")),
        ({"kept": [["page", "9"]]}, Wanted(resource="page:9")),
        ({"revoked": [["page", "9"]]}, Wanted(resource="page:9")),
        ({"kind": "outcome", "status": "withheld"}, Wanted(outcome="withheld")),
        ({"action": "a:b:c"}, Wanted(action="a:**")),
    ],
)
def test_what_was_decided_together_is_found(record: dict[str, Any], wanted: Wanted) -> None:
    """Whoever looks for a resource finds it among others, and in lists that were filtered."""
    assert wanted.matches(record)
    assert not wanted.matches({})


def test_a_record_without_a_time_is_in_no_span() -> None:
    """What cannot be placed in time is not shown as if it were."""
    assert not Wanted(since=0).matches({"time": "yesterday"})
    assert Wanted().matches({"time": "yesterday"})


@settings(max_examples=times(100, 3000), deadline=None)
@example({name: [] for name in ("kind", "outcome", "status", "fault", "time", "subject", "action", "lost", "error")})
@given(records)
def test_anything_can_be_asked_and_counted(record: dict[str, Any]) -> None:
    """No record, however damaged, breaks a query, a row or a count."""
    asked = Wanted("user:ann", "page:*", "page:1", "denied", "decision", 0, NOON)
    assert asked.matches(record) in {True, False}
    for one in ({"subject": "user"}, {"action": "*"}, {"resource": "x"}, {"outcome": "y"}, {"since": 1}):
        Wanted(**one).matches(record)
    row = cells(record)
    assert len(row) == 7
    assert {type(cell) for cell in row} == {str}
    stats = Stats()
    stats.add(record)
    assert stats.to_dict(3)["records"] == 1


def test_every_outcome_can_be_asked_for() -> None:
    """An outcome that is added to the library can be asked for."""
    assert {one.value for one in Outcome} <= {one.value for one in Ending}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02", 86400),
        ("1970-01-01T00:00:01", 1),
        ("1970-01-01T00:00:01Z", 1),
        ("1970-01-01T00:00:01z", 1),
        ("1970-01-01T01:00:01.5+01:00", 1.5),
        ("1970-01-01 00:00:01", 1),
        ("1970-01-01T00:01", 60),
        ("1970-01-01T01:00+00:59", 60),
    ],
)
def test_instants(text: str, seconds: float) -> None:
    """A day, or a date and time; in UTC where it names no offset."""
    assert instant(text, "--since") == seconds * 1_000_000


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-02-30", "2026-01-01T25:00:00", "Z", "1", "1969-12-31", "2026-01-01T", "2026-01-01Z"]
)
def test_what_is_no_instant(text: str) -> None:
    """What cannot be read names the option, and shows how to write it."""
    with pytest.raises(ConfigurationError, match="`--since`"):
        instant(text, "--since")


def test_rows() -> None:
    """A row tells when, what, who, to what, and why."""
    assert cells(RECORD | {"fault": "timeout", "cause": "PDPTimeout", "reasons": ["not theirs", 3]}) == [
        "2026-01-02T12:00:00.000000Z", "decision", "denied", "user:ann", "read", "page:1",
        "timeout, PDPTimeout, not theirs, ",
    ]  # fmt: skip
    assert cells({"kind": "gap", "lost": 3}) == ["", "gap", "", "", "", "", "3 lost"]
    assert cells({"kind": "decision", "kept": [1, 2]})[-1] == "2 kept"
    assert cells({"kind": "configuration", "change": "wired"})[2] == "wired"


def test_a_tally_is_bounded() -> None:
    """Very many names forget the rarest ones, and say so; the frequent ones stay."""
    tally = Tally(most=10)
    for number in range(1000):
        tally.add("often")
        tally.add(str(number))
    assert tally.approximate
    assert tally.top(1) == {"often": 1000}
    assert len(tally.top()) <= 10


def test_a_tally_lists_by_frequency_then_name() -> None:
    """The order is the same every time; what is no name is not counted."""
    tally = Tally()
    for name in ["b", "a", "c", "c", "", 7, None]:
        tally.add(name)
    assert list(tally.top().items()) == [("c", 2), ("a", 1), ("b", 1)]
    assert not tally.approximate


def test_stats() -> None:
    """Records add up by kind, outcome, action and subject, with gaps, faults, span and rate."""
    stats = Stats()
    for record in (
        RECORD | {"time": "2026-01-02T12:00:02.000000Z", "fault": "timeout"},
        RECORD,
        {"kind": "check", "outcome": "permitted", "subject": ANN, "action": "edit", "time": "2026-01-02T12:00:01Z"},
        {"kind": "outcome", "status": "raised", "subject": ANN, "action": "read"},
        {"kind": "gap", "lost": 3, "time": 5},
        {"kind": "gap", "torn": True},
        {"kind": "gap", "lost": True},
    ):
        stats.add(record)
    assert stats.to_dict(1) == {
        "records": 7,
        "first": "2026-01-02T12:00:00.000000Z",
        "last": "2026-01-02T12:00:02.000000Z",
        "seconds": 2.0,
        "per_second": 3.5,
        "kinds": {"gap": 3, "decision": 2, "check": 1, "outcome": 1},
        "outcomes": {"denied": 2},
        "checks": {"permitted": 1},
        "ended": {"raised": 1},
        "faults": {"timeout": 1},
        "gaps": {"gaps": 3, "lost": 3, "torn": 1},
        "actions": {"read": 2},
        "subjects": {"user:ann": 3},
    }


def test_stats_of_nothing() -> None:
    """An empty log has neither a span nor a rate."""
    told = Stats().to_dict(10)
    assert (told["records"], told["first"], told["seconds"], told["per_second"]) == (0, None, None, None)


def test_stats_say_what_is_approximate() -> None:
    """Counts that are too low are named as such."""
    stats = Stats()
    stats.subjects.most = 4
    for number in range(9):
        stats.add({"kind": "check", "subject": {"type": "user", "id": str(number)}})
    assert stats.to_dict(10)["approximate"] == ["subjects"]
