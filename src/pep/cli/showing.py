"""
How commands show things: tables on a terminal, plain lines in a pipe, JSON on demand, progress on standard error.

Imports rich and typer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final, NoReturn

import orjson
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

#: Cells of a row, and the style of the whole row.
Row = tuple[Sequence[str], str]

#: How many rows a table on a terminal has at most; it is laid out whole.
MAX_SHOWN: Final = 1000

#: What has to do with neither good nor bad.
PLAIN: Final = ""


def on_terminal() -> bool:
    """Whether what is written is shown on a terminal."""
    return Console().is_terminal


def write_json(value: Any) -> None:  # noqa: ANN401  JSON has no narrower type
    """Write a value as JSON."""
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2))


def write_rows(headings: Sequence[str], rows: Iterable[Row], summary: Sequence[str]) -> None:
    """Write rows as a table on a terminal, a line each elsewhere; what sums them up comes last."""
    console = Console()
    if console.is_terminal:
        _show_table(console, headings, iter(rows))
    else:
        for cells, _ in rows:
            typer.echo("  ".join(printable(cell) for cell in cells if cell))
    for line in summary:
        typer.echo(printable(line))


def _show_table(console: Console, headings: Sequence[str], rows: Iterator[Row]) -> None:
    table = Table(*headings, box=None)
    for cells, style in islice(rows, MAX_SHOWN):
        # Text, not markup: names have brackets.
        table.add_row(*(Text(printable(cell), style=style, overflow="fold") for cell in cells))
    if table.row_count:
        console.print(table)
    hidden = sum(1 for _ in rows)
    if hidden:
        typer.echo(f"... and {hidden} more; a pipe gets all of them")


def printable(text: str) -> str:
    """Escape what would steer a terminal or break a line."""
    return "".join([char if char.isprintable() else char.encode("unicode_escape").decode() for char in text])


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on standard error while something takes long; nothing where that is no terminal."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def fail(problem: str) -> NoReturn:
    """Tell what is wrong on standard error, and exit as for bad usage."""
    typer.echo(printable(problem), err=True)
    raise typer.Exit(2) from None
