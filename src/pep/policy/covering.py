"""
Covering: whether everything one rule is about is what another is about, too.

It errs on one side: what it says is covered is. Imports rules only.
"""

from __future__ import annotations

from pep.policy.rule import Rule, Target, matches

#: What matches every name.
_ALL = "**"


def covers(wide: Rule, narrow: Rule) -> bool:
    """Whether a rule's target matches every request that another's does; conditions are another matter."""
    return (
        _covers(wide.subjects, narrow.subjects)
        and _covers(wide.resources, narrow.resources)
        and _covers_actions(wide.actions, narrow)
    )


def covers_pattern(wide: str, narrow: str) -> bool:
    """Whether a pattern matches whatever another matches."""
    if not narrow.endswith(_ALL):
        # A `*` stands for a segment that only a `*` matches.
        return matches(wide, narrow)
    if not wide.endswith(_ALL):
        return False
    # One `**` matches whatever another does exactly if its fewer segments match the other's first ones.
    return matches(wide, f"{narrow[: -len(_ALL)]}*")


def _covers(wide: Target, narrow: Target) -> bool:
    if not wide.names or _ALL in wide.names:
        return True
    return bool(narrow.names) and all(any(covers_pattern(one, name) for one in wide.names) for name in narrow.names)


def _covers_actions(wide: Target, narrow: Rule) -> bool:
    if not wide.names or _ALL in wide.names:
        return True
    return bool(narrow.actions.names) and all(
        any(_covers_action(one, name, narrow.resources) for one in wide.names) for name in narrow.actions.names
    )


def _covers_action(wide: str, name: str, types: Target) -> bool:
    """Compare plain names to plain ones, and qualified to qualified: a plain name is qualified by each type."""
    if ":" in wide and ":" not in name and name != _ALL:
        return bool(types.names) and all(
            not one.endswith(_ALL) and covers_pattern(wide, f"{one}:{name}") for one in types.names
        )
    return covers_pattern(wide, name)
