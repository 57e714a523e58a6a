"""
What reaches around a guard: raw functions under other names, caches, overrides.

Imports the survey and what is below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from pep.guard.classes import CACHED, conflicts, undone
from pep.guard.exempt import standing
from pep.guard.members import chain, is_function, layers, parts_of
from pep.guard.site import Site
from pep.guard.survey import Found, Survey


@attrs.frozen
class Suspect:
    """
    Something that reaches around a guard.

    Args:
        name: What it is called.

        note: What it does, naming the guard.

        site: The guarded function.
    """

    name: str
    note: str
    site: Site | None = None


def suspects(seen: Survey) -> Iterator[Suspect]:
    """Find what reaches around the guards of some modules."""
    guarded = [(found, state) for found in seen.functions if isinstance(state := standing(found.fn), Site)]
    raw = {id(fn): (found, site) for found, site in guarded for one in layers(site) for fn in chain(one.fn)}
    for name, value in seen.bound:
        for label, fn in _reached(value):
            yield from _reaching(name + label, "is", fn, raw)
    for name, how, fn in seen.registered:
        yield from _reaching(name, f"has registered, as `{how}`,", fn, raw)
    for found, state in guarded:
        if found.cached:
            yield Suspect(found.name, CACHED, state)
    for cls in seen.classes:
        for name, problem in (*undone(cls), *conflicts(cls)):
            yield Suspect(f"{cls.__module__}.{cls.__qualname__}.{name}", problem)


def _reaching(name: str, how: str, fn: Any, raw: Mapping[int, tuple[Found, Site]]) -> Iterator[Suspect]:  # noqa: ANN401  any function
    if standing(fn) is not None:
        return
    for one in chain(fn):
        if id(one) in raw:
            found, site = raw[id(one)]
            yield Suspect(name, f"{how} the raw function of the guarded `{found.name}`; use the guarded one", site)


def _reached(value: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401  any attribute
    """Find the functions that an attribute holds, itself or in a container: what is added to its name, and each."""
    held: Iterable[tuple[str, Any]] = [("", value)]
    if type(value) is dict:
        held = [(f"[{key!r}]", one) for key, one in value.items()]
    elif type(value) in {list, tuple}:
        held = [(f"[{index}]", one) for index, one in enumerate(value)]
    for label, one in held:
        yield from ((label + part.suffix, part.fn) for part in parts_of(one) if is_function(part.fn))
