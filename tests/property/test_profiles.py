"""Patterns against brute force: every action of a small alphabet, every pattern over it."""

from __future__ import annotations

from functools import cache
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.errors import ConfigurationError
from pep.profile import FIELDS, Guarantee, Profile
from pep.profiles import Pattern, Profiles

#: Patterns name the first two; the last stands for every segment that no pattern names.
LETTERS = ("a", "b", "z")

# One longer than the longest pattern, so that a final `**` shows.
ACTIONS = [":".join(names) for length in range(1, 6) for names in product(LETTERS, repeat=length)]
QUALIFIED = [action for action in ACTIONS if ":" in action]

patterns = st.builds(
    lambda front, last: ":".join([*front, last]),
    st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=3),
    st.sampled_from(["a", "b", "*", "**"]),
) | st.just("**")


def matches(pattern: list[str], action: list[str]) -> bool:
    """The rule as the documentation states it, one segment after the other."""
    if pattern == ["**"]:
        return len(action) >= 1
    if not pattern or not action:
        return pattern == action
    return pattern[0] in ("*", action[0]) and matches(pattern[1:], action[1:])


@cache
def language(pattern: str) -> frozenset[str]:
    """Every action that a pattern matches, by the rule."""
    return frozenset(action for action in ACTIONS if matches(pattern.split(":"), action.split(":")))


@given(patterns)
def test_a_pattern_matches_its_language(pattern: str) -> None:
    """A parsed pattern matches exactly what the rule says, and is written as it was read."""
    parsed = Pattern.parse(pattern)
    assert {action for action in ACTIONS if parsed.matches(action.split(":"))} == language(pattern)
    assert parsed.text == pattern


@given(patterns, patterns)
def test_meeting_is_intersection(one: str, other: str) -> None:
    """Two patterns meet in the pattern of exactly those actions that both match, or in none."""
    met = Pattern.parse(one).meet(Pattern.parse(other))
    assert (language(met.text) if met else frozenset()) == language(one) & language(other)


@given(patterns, patterns)
def test_covering_is_containment(one: str, other: str) -> None:
    """One pattern covers another exactly when it matches everything that one does."""
    assert Pattern.parse(one).covers(Pattern.parse(other)) is (language(one) >= language(other))


@given(patterns, patterns)
def test_different_patterns_have_different_languages(one: str, other: str) -> None:
    """No set of actions can be written in two ways, so that a mapping holds no pattern twice."""
    assert (language(one) == language(other)) is (one == other)


@st.composite
def nested(draw: st.DrawFn) -> tuple[str, str]:
    """A pattern, and one it lies within: some segments made stars, or the end cut off."""
    narrow = draw(patterns).split(":")
    wide = [segment if segment == "**" or draw(st.booleans()) else "*" for segment in narrow]
    cut = draw(st.none() | st.integers(0, len(narrow) - 1))
    return ":".join(narrow), ":".join(wide if cut is None else [*wide[:cut], "**"])


@given(nested())
def test_a_narrower_pattern_ranks_higher(pair: tuple[str, str]) -> None:
    """The order in which patterns are tried puts every pattern before those it lies within."""
    narrow, wide = pair
    assert language(narrow) <= language(wide)
    assert (Pattern.parse(narrow).rank > Pattern.parse(wide).rank) is (narrow != wide)


def cross(one: str, other: str) -> bool:
    """Whether two patterns share actions, and neither lies within the other."""
    mine, theirs = language(one), language(other)
    return bool(mine & theirs) and not (mine <= theirs or theirs <= mine)


@given(patterns, patterns)
def test_exactly_the_crossing_patterns_are_refused(one: str, other: str) -> None:
    """Two patterns are refused exactly when they share actions and neither lies within the other."""
    if cross(one, other):
        with pytest.raises(ConfigurationError, match="neither lies within the other"):
            Profiles({one: Profile(), other: Profile()})
    else:
        assert Profiles({one: Profile(), other: Profile()}).items()


VALUES = {
    "deadline": st.integers(2, 9),
    "permit_ttl": st.none() | st.integers(0, 9),
    "audit": st.sampled_from(Guarantee),
    "hidden": st.booleans(),
}
profile_fields = st.fixed_dictionaries({}, optional=VALUES)


@st.composite
def written_profiles(draw: st.DrawFn) -> dict[str, dict[str, object]]:
    """Patterns that do not cross, each with some fields."""
    written: dict[str, dict[str, object]] = {}
    for pattern, fields in draw(st.dictionaries(patterns, profile_fields, max_size=8)).items():
        if not any(cross(pattern, other) for other in written):
            written[pattern] = fields
    return written


@given(written_profiles(), st.sampled_from(QUALIFIED))
def test_resolution_equals_its_naive_model(written: dict[str, dict[str, object]], action: str) -> None:
    """Each field is what the smallest set of actions that gives it says, and is explained by that pattern."""
    profiles = Profiles({pattern: Profile(**fields) for pattern, fields in written.items()})
    by_size = sorted((p for p in written if action in language(p)), key=lambda p: len(language(p)))
    explained = profiles.explain(action, "unused")
    for name in FIELDS:
        winner = next((pattern for pattern in by_size if name in written[pattern]), None)
        value = getattr(Profile(), name) if winner is None else written[winner][name]
        assert explained[name] == (winner, value)
        assert getattr(profiles.for_action(action), name) == value
