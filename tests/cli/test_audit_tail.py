"""The end of an audit log, and what is appended to it."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pep.audit.reading import MAX_LINE, Damage, Entry
from pep.cli import audit_tail
from pep.cli.audit_tail import Found, Tail, trouble
from pep.errors import AuditError
from tests.proving import times

OTHER = "audit.0123456789abcdef.jsonl"
ROTATED = "audit.20260101T000000Z-0123456789abcdef-0.jsonl"


class Stopped(Exception):  # noqa: N818  it is how a test ends what goes on forever
    """Nobody waits any longer."""


def line(number: int, **fields: Any) -> str:
    """A record that is known by its number, a second after the one before."""
    time = f"2026-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}.000000Z"
    return json.dumps({"schema": "pep.audit/1", "kind": "check", "id": str(number), "time": time} | fields) + "\n"


def write(path: Path, *numbers: int) -> None:
    with path.open("a") as file:
        file.write("".join(map(line, numbers)))


def told(found: list[Found]) -> list[Any]:
    """The ids of records; place and harm of damages."""
    return [
        one.fields.get("id") if isinstance(one, Entry) else (one.place.line, one.place.offset, one.harm.value)
        for one in found
    ]


def steps(*acts: Callable[[], object]) -> Callable[[], None]:
    """A wait in which the next thing happens; after the last, nobody waits any longer."""
    left: Iterator[Callable[[], object]] = iter(acts)

    def wait() -> None:
        act = next(left, None)
        if act is None:
            raise Stopped
        act()

    return wait


def followed(tail: Tail, *acts: Callable[[], object]) -> list[Any]:
    found: list[Found] = []
    with pytest.raises(Stopped):
        for one in tail.follow(steps(*acts)):
            found.append(one)  # noqa: PERF402  it ends by an exception, and keeps what came before
    return told(found)


@pytest.mark.parametrize("growing", [False, True])
@pytest.mark.parametrize(
    ("count", "expected"), [(0, []), (1, ["4"]), (2, ["3", "4"]), (5, list("01234")), (9, list("01234"))]
)
def test_the_last_lines(tmp_path: Path, count: int, expected: list[str], growing: bool) -> None:
    """As many as are asked for, the newest last."""
    write(tmp_path / "audit.jsonl", *range(5))
    assert told(Tail(tmp_path / "audit.jsonl").last(count, growing=growing)) == expected


@settings(max_examples=times(60, 2000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.lists(st.sampled_from(["\n", "x\n", line(1), line(2, pad="y" * 40)]), max_size=12),
    tail=st.sampled_from(["", "to"]),
    count=st.integers(0, 14),
    block=st.integers(1, 60),
)
def test_reading_from_the_end_equals_reading_all(
    tmp_path: Path, data: list[str], tail: str, count: int, block: int
) -> None:
    """Wherever blocks begin and end, and whatever lies in between, the last lines are those of the whole."""
    path = tmp_path / "any.jsonl"
    path.write_text("".join(data) + tail)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit_tail, "_BLOCK", block)
        found = Tail(path).last(count)
    every = Tail(path).last(1000)
    assert found == every[max(0, len(every) - count) :]


def test_writers_are_merged_by_time(tmp_path: Path) -> None:
    """What several writers wrote is one log, and so is what was rotated away."""
    write(tmp_path / ROTATED, 0, 1)
    write(tmp_path / "audit.jsonl", 2, 4, 6)
    write(tmp_path / OTHER, 3, 5)
    tail = Tail(tmp_path / "audit.jsonl")
    assert told(tail.last(4)) == ["3", "4", "5", "6"]
    assert told(tail.last(99)) == list("0123456")


def test_damage_is_named_by_its_line(tmp_path: Path) -> None:
    """A damaged line stands where it was, with its number and its offset; so does a torn one."""
    path = tmp_path / "audit.jsonl"
    write(path, *range(1000))
    whole = path.stat().st_size
    path.write_text(path.read_text() + "garbage\n" + line(1000) + '["x"]\n{"tor')
    assert told(Tail(path).last(4)) == [
        (1001, whole, "not JSON"),
        "1000",
        (1003, whole + 8 + len(line(1000)), "not an object"),
        (1004, whole + 8 + len(line(1000)) + 6, "torn"),
    ]


def test_another_schema_is_no_record(tmp_path: Path) -> None:
    """What this library does not know it does not show as if it did."""
    path = tmp_path / "audit.jsonl"
    path.write_text(line(0) + '{"schema":"pep.audit/2"}\n{}\n')
    found = Tail(path).last(3)
    assert [trouble(one) for one in found] == [None, *["not a record of `pep.audit/1`"] * 2]
    assert [one.place.line for one in found][1:] == [2, 3]


def test_trouble_says_what_is_wrong(tmp_path: Path) -> None:
    """A damage is told with its detail, where it has one."""
    path = tmp_path / "audit.jsonl"
    path.write_text("[]\n{\n")
    one, other = Tail(path).last(2)
    assert isinstance(one, Damage)
    assert (trouble(one), str(trouble(other)).partition(" (")[0]) == ("not an object", "not JSON")


def test_following(tmp_path: Path) -> None:
    """What is appended comes once, and in order."""
    path = tmp_path / "audit.jsonl"
    write(path, 0, 1)
    tail = Tail(path)
    assert told(tail.last(1, growing=True)) == ["1"]
    assert followed(tail, lambda: write(path, 2), lambda: None, lambda: write(path, 3, 4)) == ["2", "3", "4"]


def test_following_across_rotation(tmp_path: Path) -> None:
    """A file that was renamed is read to its end, and the new one from its start."""
    path = tmp_path / "audit.jsonl"
    write(path, 0)

    def rotate() -> None:
        write(path, 1)
        path.rename(tmp_path / ROTATED)
        write(path, 2)

    tail = Tail(path)
    assert told(tail.last(10, growing=True)) == ["0"]
    assert followed(tail, rotate, lambda: write(path, 3)) == ["1", "2", "3"]


def test_following_a_new_writer(tmp_path: Path) -> None:
    """A second process that begins to write is followed, too."""
    path = tmp_path / "audit.jsonl"
    write(path, 0)
    tail = Tail(path)
    tail.last(0, growing=True)
    assert followed(tail, lambda: write(tmp_path / OTHER, 1), lambda: write(path, 2)) == ["1", "2"]


@pytest.mark.parametrize("count", [0, 5])
def test_a_line_in_the_making_is_waited_for(tmp_path: Path, count: int) -> None:
    """What has no newline yet is no damage while somebody may be writing it."""
    path = tmp_path / "audit.jsonl"
    text = line(1)

    def finish() -> None:
        with path.open("a") as file:
            file.write(text[9:])

    path.write_text(line(0) + text[:9])
    tail = Tail(path)
    assert told(tail.last(count, growing=True)) == ["0"][:count]
    assert followed(tail, lambda: None, finish) == ["1"]


def test_a_file_that_was_emptied_is_read_anew(tmp_path: Path) -> None:
    """Whoever truncates a log does not hide what is written to it afterwards."""
    path = tmp_path / "audit.jsonl"
    write(path, 0, 1, 2)
    tail = Tail(path)
    tail.last(0, growing=True)
    assert followed(tail, lambda: path.write_text(line(3))) == ["3"]


def test_damage_that_is_appended(tmp_path: Path) -> None:
    """Damage is told while following, by line and offset, and read over."""
    path = tmp_path / "audit.jsonl"
    write(path, *range(50))
    size = path.stat().st_size
    tail = Tail(path)
    tail.last(1, growing=True)
    found = followed(tail, lambda: path.write_text(path.read_text() + "x\ny\n" + line(50)))
    assert found == [(51, size, "not JSON"), (52, size + 2, "not JSON"), "50"]


def test_a_log_that_is_gone(tmp_path: Path) -> None:
    """No file is an error at once, and while following."""
    path = tmp_path / "audit.jsonl"
    with pytest.raises(AuditError, match=r"audit\.jsonl"):
        Tail(path).last(1)
    write(path, 0)
    tail = Tail(path)
    tail.last(1)
    path.unlink()
    with pytest.raises(AuditError):
        list(tail.more())


def test_memory_is_bounded(tmp_path: Path) -> None:
    """A long log is read from its end, and a line without an end is not read whole."""
    path = tmp_path / "audit.jsonl"
    with path.open("w") as file:
        for _ in range(40):
            file.write(line(1) * 5000)
        file.write("x" * (3 * MAX_LINE) + "\n" + line(2))
    tracemalloc.start()
    try:
        found = told(Tail(path).last(2))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [one if type(one) is str else one[2] for one in found] == ["too long", "2"]
    assert peak < 4 * MAX_LINE < path.stat().st_size
