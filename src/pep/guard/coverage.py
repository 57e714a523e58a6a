"""
What of a package is guarded, what is open, and what reaches around a guard.

Imports the survey of modules, the classes' checks, and what is below them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from pep.core import Core
from pep.errors import AccessDenied, ConfigurationError
from pep.guard.exempt import Exemption, standing
from pep.guard.members import chain, is_function, layers
from pep.guard.modules import import_named, submodules
from pep.guard.site import Site, own_site
from pep.guard.survey import Found, Survey, survey
from pep.guard.suspects import Suspect, suspects


@attrs.frozen(order=True)
class Entry:
    """
    One line of a coverage report.

    Args:
        name: The full name; of a function, property accessor, class, module or profile pattern.

        file: Where it was written; empty where that is unknown.

        line: At which line; zero where that is unknown.

        actions: The actions its guards name.

        enforcer: The name of the enforcer that guards or exempts it; empty where none does.

        note: What else there is to say: the reason of an exemption, the error of a failed import.
    """

    name: str
    file: str = ""
    line: int = 0
    actions: tuple[str, ...] = ()
    enforcer: str = ""
    note: str = ""


@attrs.frozen(kw_only=True)
class Coverage:
    """
    What of some packages is guarded; every function is in exactly one of the first four.

    Args:
        guarded: Guarded with a resource, whatever the name.

        application_level: Guarded without a resource: what is asked about is the application itself.

        exempt: Open on purpose; the note is the reason.

        unguarded: Public functions, and methods and property accessors of public classes, that are neither.

        failed: Modules that could not be imported, and hide what they hold.

        not_enforced: Profiles of the enforcers seen that shadow calls, or enforce for a fraction of subjects.

        warnings: What reaches around a guard, or undoes it.
    """

    guarded: tuple[Entry, ...] = ()
    application_level: tuple[Entry, ...] = ()
    exempt: tuple[Entry, ...] = ()
    unguarded: tuple[Entry, ...] = ()
    failed: tuple[Entry, ...] = ()
    not_enforced: tuple[Entry, ...] = ()
    warnings: tuple[Entry, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every module could be imported, and nothing in them is unguarded."""
        return not self.unguarded and not self.failed

    def to_dict(self) -> dict[str, list[dict[str, Any]]]:
        """Return it as JSON-like data: section → entries."""
        return attrs.asdict(self)


def coverage(*packages: str) -> Coverage:
    """
    Import packages with every submodule, and tell what of them is guarded.

    Counted are functions written in those packages. Public is what a module binds to a name without
    a leading underscore, in private modules, too; of a class so bound, or whose instance is, every
    attribute without one, and ``__call__``, also what it inherits from a private class; and what is
    registered with Flask, Starlette, FastAPI, Celery, click or Typer by an object a module binds.
    Not counted are lines that never run: abstract methods, and protocols. ``__main__`` modules are
    not imported, since that would run them.

    Args:
        packages: The full names of packages or modules.

    Raises:
        ConfigurationError: When none is named, or one that is named cannot be imported.
    """
    if not packages:
        message = "`coverage` needs the name of a package"
        raise ConfigurationError(message)
    roots = [import_named(name) for name in packages]
    modules, failed, skipped = submodules(roots)
    seen = survey(modules, tuple(packages))
    sections: dict[str, Iterable[Entry]] = {
        **_sorted_out(seen),
        "failed": [Entry(name, note=note) for name, note in failed.items()],
        "not_enforced": _not_enforced(seen),
        "warnings": [*map(_entry_of, suspects(seen)), *(Entry(name, note=why) for name, why in skipped.items())],
    }
    return Coverage(**{name: tuple(sorted(set(entries))) for name, entries in sections.items()})


def _sorted_out(seen: Survey) -> dict[str, list[Entry]]:
    sections: dict[str, list[Entry]] = {"guarded": [], "application_level": [], "exempt": [], "unguarded": []}
    for found in seen.functions:
        state = standing(found.fn)
        if isinstance(state, Site):
            whole = all(need.application_level for site in layers(state) for need in site.needs)
            sections["application_level" if whole else "guarded"].append(_guarded(found, state))
        elif isinstance(state, Exemption):
            sections["exempt"].append(_entry(found, enforcer=state.enforcer, note=state.reason))
        elif found.public:
            sections["unguarded"].append(_entry(found, note=found.note))
    return sections


def _guarded(found: Found, site: Site) -> Entry:
    notes = [found.note]
    if all(one.entry != "guard" for one in layers(site)):
        notes.append(f"{site.entry}: decided after it ran")
    if own_site(found.fn) is None:
        notes.append("inside another decorator")
    return _entry(found, actions=_actions(site), enforcer=site.core.name, note=", ".join(filter(None, notes)))


def _actions(site: Site) -> tuple[str, ...]:
    return tuple(need.action.name for one in layers(site) for need in one.needs)


def _entry(found: Found, **rest: Any) -> Entry:  # noqa: ANN401  see `Entry`
    state = standing(found.fn)
    if isinstance(state, Site):
        return Entry(found.name, state.filename, state.lineno, **rest)
    *_, written = filter(is_function, chain(found.fn))
    return Entry(found.name, written.__code__.co_filename, written.__code__.co_firstlineno, **rest)


def _entry_of(one: Suspect) -> Entry:
    if one.site is None:
        return Entry(one.name, note=one.note)
    return Entry(one.name, one.site.filename, one.site.lineno, _actions(one.site), one.site.core.name, one.note)


def _not_enforced(seen: Survey) -> Iterator[Entry]:
    for core in _cores(seen):
        try:
            profiles = core.wiring().unenforced() if core.bound else []
        except AccessDenied:
            continue
        for told in profiles:
            note = f"{told['mode']} until {told['until']}: {told['reason']}"
            yield Entry(told["pattern"], enforcer=core.name, note=note)


def _cores(seen: Survey) -> Iterable[Core]:
    states = (standing(found.fn) for found in seen.functions)
    guarding = [state.core for state in states if isinstance(state, Site)]
    return {id(core): core for core in (*seen.cores, *guarding)}.values()
