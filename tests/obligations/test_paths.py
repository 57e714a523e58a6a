from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.obligations.paths import MAX_SEGMENTS, Path, Wild, index_of

EVERY = Wild.EVERY

READ: list[tuple[Any, tuple[Any, ...]]] = [
    ("a", ("a",)),
    ("a.b.c", ("a", "b", "c")),
    ("a.*.c", ("a", EVERY, "c")),
    ("*", (EVERY,)),
    ("0.1", ("0", "1")),
    (".", ()),
    (r"a\.b.c", ("a.b", "c")),
    (r"\*", ("*",)),
    (r"a\\.b", ("a\\", "b")),
    ("a b.ü\n", ("a b", "ü\n")),
    (["a.b", "*", "c"], ("a.b", EVERY, "c")),
    (("a",), ("a",)),
    ([], ()),
]


@pytest.mark.parametrize(("value", "segments"), READ)
def test_what_a_path_says(value: Any, segments: tuple[Any, ...]) -> None:
    """Names are joined by dots or listed; what is escaped stands for itself."""
    path = Path.parse(value)
    assert path.segments == segments
    assert Path.parse(str(path)) == path


@pytest.mark.parametrize(
    "value",
    ["", "a.", ".a", "a..b", "..", "a*b", "a.*b", "\\", "a\\", r"a\b", 1, None, True, b"a", {"a"}, [1], [""], [["a"]]],
)
def test_what_is_no_path(value: Any) -> None:
    """Whatever could be read in two ways is refused, without its text."""
    with pytest.raises(ValueError, match=r"path|stands for a whole segment"):
        Path.parse(value)


def test_paths_are_bounded() -> None:
    """A path has so many segments, and no more."""
    assert len(Path.parse(["a"] * MAX_SEGMENTS).segments) == MAX_SEGMENTS
    with pytest.raises(ValueError, match="at most 32 segments"):
        Path.parse("a." * MAX_SEGMENTS + "a")


@given(st.lists(st.text(min_size=1).filter(lambda name: name != "*"), max_size=8))
def test_every_name_can_be_written(names: list[str]) -> None:
    """Whatever names there are, a path of them is told apart from every other once it is written down."""
    path = Path(tuple(names))
    assert Path.parse(str(path)) == path
    assert Path.parse(names) == path


OVERLAPPING = [
    ("a", "a", True),
    ("a", "a.b", True),
    ("a.b", "a", True),
    (".", "a", True),
    ("a.*", "a.b", True),
    ("*.b", "a.b", True),
    ("*.b", "a.*.c", True),
    ("*", "*", True),
    ("a", "b", False),
    ("a.b", "a.c", False),
    ("*.b", "*.c", False),
    ("a.*.b", "a.*.c", False),
    ("a.0", "a.1", False),
]


@pytest.mark.parametrize(("one", "other", "expected"), OVERLAPPING)
def test_which_paths_overlap(one: str, other: str, expected: bool) -> None:
    """Two paths overlap when both may lead to one part, or one to what the other's part is in."""
    assert Path.parse(one).overlaps(Path.parse(other)) is expected
    assert Path.parse(other).overlaps(Path.parse(one)) is expected


@pytest.mark.parametrize(
    ("other", "expected"),
    [("a.0", True), ("a.10.b", True), ("a.*.b", False), ("a.b", False), ("a", True), ("b", False)],
)
def test_who_counts_positions_minds_that_items_are_taken_out(other: str, expected: bool) -> None:
    """Taking items out leads astray who names a position, and nobody who means every item."""
    positions = Path.parse("a").positions()
    assert positions.overlaps(Path.parse(other)) is expected
    assert Path.parse(other).overlaps(positions) is expected
    assert not positions.overlaps(positions)
    assert str(positions) == "a.#"


@pytest.mark.parametrize(
    ("segment", "place"), [("0", 0), ("12", 12), ("01", None), ("-1", None), ("a", None), ("٣", None)]
)
def test_positions(segment: str, place: int | None) -> None:
    """A position is written in plain decimal digits, in one way only."""
    assert index_of(segment) == place
