"""
``pep coverage``: what of a package is guarded.

A table on a terminal, plain lines in a pipe, JSON on demand. Imports typer, rich and the guards' coverage.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import attrs
import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pep.errors import ConfigurationError
from pep.guard.coverage import Coverage, Entry
from pep.guard.coverage import coverage as cover

#: Section of a coverage → how a terminal shows it.
_STYLES: Final = {
    "guarded": "green",
    "application_level": "cyan",
    "exempt": "yellow",
    "unguarded": "bold red",
    "failed": "bold red",
    "not_enforced": "magenta",
    "warnings": "red",
}


def coverage(
    packages: Annotated[list[str], typer.Argument(metavar="PKG...", help="Full names of packages or modules.")],
    *,
    fail_unguarded: Annotated[
        bool, typer.Option("--fail-unguarded", help="Exit with 1 when anything is unguarded or fails to import.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Import packages with every submodule, and list what is guarded, exempt and unguarded."""
    sys.path.insert(0, os.getcwd())  # noqa: PTH109  an entry of `sys.path` is a `str`
    try:
        found = cover(*packages)
    except ConfigurationError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    console = Console()
    if json:
        typer.echo(orjson.dumps(found.to_dict(), option=orjson.OPT_INDENT_2))
    elif console.is_terminal:
        console.print(_table(found), _summary(found))
    else:
        typer.echo("\n".join([*_lines(found), _summary(found)]))
    if fail_unguarded and not found.complete:
        raise typer.Exit(1)


def _table(found: Coverage) -> Table:
    table = Table("", "name", "actions", "enforcer", "where", "note", box=None)
    for section, entry in _rows(found):
        cells = (_label(section), entry.name, ", ".join(entry.actions), entry.enforcer, _where(entry), entry.note)
        # Text, not markup: names have brackets.
        table.add_row(*(Text(cell, style=_STYLES[section], overflow="fold") for cell in cells))
    return table


def _lines(found: Coverage) -> Iterator[str]:
    for section, entry in _rows(found):
        cells = (_label(section), entry.name, ",".join(entry.actions), entry.enforcer, _where(entry), entry.note)
        yield "  ".join(filter(None, cells))


def _summary(found: Coverage) -> str:
    return ", ".join(f"{len(getattr(found, section))} {_label(section)}" for section in _STYLES)


def _rows(found: Coverage) -> Iterator[tuple[str, Entry]]:
    for section in (field.name for field in attrs.fields(Coverage)):
        yield from ((section, entry) for entry in getattr(found, section))


def _where(entry: Entry) -> str:
    if not entry.file:
        return ""
    path = Path(entry.file)
    return f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}:{entry.line}"


def _label(section: str) -> str:
    return section.replace("_", "-")
