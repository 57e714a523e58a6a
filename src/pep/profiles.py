"""
Which profile holds for which action: patterns, what they inherit from each other, and who won.

Decided wholly on construction. Imports the profile values, the model and the error tree only.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

import attrs

from pep.errors import ConfigurationError
from pep.frozen import EMPTY, exact_text, fields_repr
from pep.model import Action
from pep.profile import FIELDS, Canary, FailOpen, Guarantee, Profile, Shadow

if TYPE_CHECKING:
    from os import PathLike

#: The pattern of the default profile: every action.
DEFAULT: Final = "**"

#: How many actions are remembered with their profiles, and how long their names may be.
MAX_REMEMBERED: Final = 4_096
MAX_NAME: Final = 256

_ANY: Final = "*"


class Winner(NamedTuple):
    """
    Where the value of one field comes from.

    Attributes:
        pattern: The narrowest pattern whose profile gives the field; None for the library's own default.

        value: The value.
    """

    pattern: str | None
    value: Any


@attrs.frozen(repr=False)
class Pattern:
    """
    A set of actions, by whole ``:``-separated segments.

    Attributes:
        segments: Each an exact text, or ``*`` for any one segment.

        open: Whether any further segments may follow; `text` then ends in ``**`` instead of ``*``.

    Source:
        DESIGN section 7.
    """

    # INVARIANT: different patterns match different sets, since some segment is always named by neither.
    segments: tuple[str, ...]
    open: bool

    __repr__ = fields_repr

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """
        Read a pattern such as ``feed:read``, ``report:*`` or ``payment:**``.

        Raises:
            ConfigurationError: When it is misspelled, or matches no action there can be.
        """
        if type(text) is not str or not text:
            message = f"a pattern is a `str` that is not empty; write `{DEFAULT}` for every action"
            raise ConfigurationError(message)
        *front, last = text.split(":")
        pattern = cls((*front, _ANY if last == DEFAULT else last), last == DEFAULT)
        for segment in pattern.segments:
            _check_segment(segment, text)
        if pattern.meet(_QUALIFIED) is None:
            message = (
                f"pattern `{text}` matches no action, since each is qualified by its resource's type; "
                f"write `*:{text}` or `{DEFAULT if text == _ANY else f'{text}:*'}`"
            )
            raise ConfigurationError(message)
        return pattern

    @property
    def text(self) -> str:
        """The pattern as it is written."""
        return ":".join((*self.segments[:-1], DEFAULT) if self.open else self.segments)

    @property
    def rank(self) -> tuple[int, int, bool]:
        """A number that is greater for every pattern within this one."""
        named = sum(segment != _ANY for segment in self.segments)
        return len(self.segments), named, not self.open

    def matches(self, names: list[str]) -> bool:
        """Tell whether an action, split into its segments, is in the set."""
        if len(names) != len(self.segments) and not (self.open and len(names) > len(self.segments)):
            return False
        return all(segment in (_ANY, name) for segment, name in zip(self.segments, names, strict=False))

    def meet(self, other: Pattern) -> Pattern | None:
        """Return the pattern of exactly those actions that are in both; None where there are none."""
        short, long = sorted((self, other), key=lambda pattern: len(pattern.segments))
        if len(short.segments) < len(long.segments) and not short.open:
            return None
        both = []
        for mine, theirs in zip_longest(short.segments, long.segments, fillvalue=_ANY):
            if mine != theirs and _ANY not in (mine, theirs):
                return None
            both.append(theirs if mine == _ANY else mine)
        return Pattern(tuple(both), short.open and long.open)

    def covers(self, other: Pattern) -> bool:
        """Tell whether every action of *other* is in this one too."""
        return self.meet(other) == other


#: Every action there can be: a type, a name, and perhaps more.
_QUALIFIED: Final = Pattern((_ANY, _ANY), open=True)


class _Row(NamedTuple):
    """One pattern, what its profile gives, and what holds after inheritance; wider rows from nearest to widest."""

    pattern: Pattern
    profile: Profile
    wider: tuple[_Row, ...]
    resolved: Profile

    def winner(self, field: str) -> Winner:
        giving = (row.pattern.text for row in (self, *self.wider) if field in row.profile.given)
        return Winner(next(giving, None), getattr(self.resolved, field))


@final
@attrs.frozen(init=False, eq=False, repr=False)
class Profiles:
    """
    The profiles of all actions, by pattern.

    An action has the fields its narrowest pattern gives, then those the next wider one gives, and so on;
    at the end stands ``Profile()``. Patterns that overlap lie within one another.

    Args:
        mapping: Pattern → profile. ``*`` is any one segment, a final ``**`` one or more, anything else itself.

    Raises:
        ConfigurationError: On a misspelled pattern, a value that is no `Profile`, two patterns that overlap
            with neither within the other, or a default profile that opens or does not enforce.

    Source:
        DESIGN section 7.
    """

    #: Narrowest first, so that the first to match is the one; the last is the default.
    _rows: tuple[_Row, ...]
    _remembered: dict[str, _Row]

    def __init__(self, mapping: Mapping[str, Profile] = EMPTY) -> None:
        given = {Pattern.parse(DEFAULT): Profile(), **_parsed(mapping)}
        rows: list[_Row] = []
        for pattern in sorted(given, key=lambda pattern: pattern.rank):
            wider = tuple(row for row in reversed(rows) if _lies_within(pattern, row.pattern))
            profile = given[pattern]
            rows.append(_Row(pattern, profile, wider, profile.over(wider[0].resolved) if wider else profile))
        self.__attrs_init__(tuple(reversed(rows)), {})  # pyright: ignore[reportAttributeAccessIssue]

    @classmethod
    def load(cls, *paths: str | PathLike[str]) -> Profiles:
        """
        Read profiles from TOML files; later files win, field by field.

        Raises:
            ConfigurationError: When a file cannot be read, or holds anything but profiles; it names file,
                table and key.
        """
        from pep.profile_files import load_profiles  # noqa: PLC0415  needed by those who have files only

        return load_profiles(paths, cls)

    def for_action(self, qualified: str) -> Profile:
        """
        Return the profile of an action.

        Args:
            qualified: Its qualified name, such as ``AccessRequest.qualified_action``.

        Returns:
            Always the same object for the same narrowest pattern.
        """
        row = self._remembered.get(qualified)
        return (self._find(qualified) if row is None else row).resolved

    def explain(self, action: str, type: str) -> Mapping[str, Winner]:  # noqa: A002  AuthZEN's name
        """
        Tell for every field of an action's profile where it comes from.

        Args:
            action: The action's name, such as ``"read"``.

            type: The resource's type, which qualifies a name without a colon.

        Returns:
            Field → pattern and value; read-only.

        Raises:
            ExtractionError: On a name or type that no request could have.
        """
        name, kind = Action(action).name, exact_text(type, what="a resource's type")
        row = self._find(name if ":" in name else f"{kind}:{name}")
        return MappingProxyType({field: row.winner(field) for field in FIELDS})

    def items(self) -> tuple[tuple[str, Profile], ...]:
        """Return every pattern with its profile after inheritance, narrowest first, ``**`` last."""
        return tuple((row.pattern.text, row.resolved) for row in self._rows)

    def strongest(self) -> Guarantee:
        """Return the strongest audit guarantee that any of the profiles asks for."""
        return max(profile.audit for _, profile in self.items())

    def unenforced(self) -> tuple[tuple[str, Shadow | Canary], ...]:
        """Return the patterns that do not enforce until some time, for all or for some, with their modes."""
        modes = ((pattern, profile.mode) for pattern, profile in self.items())
        return tuple((pattern, mode) for pattern, mode in modes if isinstance(mode, (Shadow, Canary)))

    def __repr__(self) -> str:
        shown = ", ".join(f"{row.pattern.text!r}: {row.profile!r}" for row in self._rows)
        return f"Profiles({{{shown}}})"

    def _find(self, qualified: str) -> _Row:
        names = qualified.split(":")
        row = next(row for row in self._rows if row.pattern.matches(names))
        if len(qualified) <= MAX_NAME:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[qualified] = row
        return row


def _check_segment(segment: str, text: str) -> None:
    if not segment:
        message = f"pattern `{text}` has an empty segment; write `*` for any segment"
        raise ConfigurationError(message)
    if segment == DEFAULT:
        message = f"pattern `{text}` has `**` before its end; write `*` for one segment, `**` only last"
        raise ConfigurationError(message)
    if _ANY in segment and segment != _ANY:
        message = (
            f"pattern `{text}` has `*` within a segment; patterns match whole segments: write `*` alone, or a name"
        )
        raise ConfigurationError(message)


def _parsed(mapping: object) -> dict[Pattern, Profile]:
    if not isinstance(mapping, Mapping):
        message = f"profiles are a mapping from pattern to `Profile`, not a `{type(mapping).__name__}`; give a `dict`"
        raise ConfigurationError(message)
    parsed = {Pattern.parse(text): profile for text, profile in mapping.items()}
    for pattern, profile in parsed.items():
        _check_profile(pattern, profile)
    return parsed


def _check_profile(pattern: Pattern, profile: object) -> None:
    if type(profile) is not Profile:
        message = f"the profile of `{pattern.text}` is a `{type(profile).__name__}`; give a `Profile(...)`"
        raise ConfigurationError(message)
    for part in (profile.on_failure, profile.mode):
        if isinstance(part, (FailOpen, Shadow, Canary)) and pattern.covers(_QUALIFIED):
            message = (
                f"`{type(part).__name__}` on `{pattern.text}` would hold for every action; "
                "give it to the patterns that need it"
            )
            raise ConfigurationError(message)


def _lies_within(narrow: Pattern, wide: Pattern) -> bool:
    """Tell whether a pattern lies within another of lower rank, or apart from it; refuse anything between."""
    both = wide.meet(narrow)
    if both is not None and both != narrow:
        message = (
            f"patterns `{wide.text}` and `{narrow.text}` both match `{both.text}`, and neither lies within the other; "
            "narrow one of them"
        )
        raise ConfigurationError(message)
    return both is not None
