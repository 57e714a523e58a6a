"""
``pep audit``: show, search, count and convert audit logs.

Imports typer, and the reading and the formats of audit logs.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import Enum
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, Final

import attrs
import typer
from typer import Argument, Option

from pep.audit.formats import to_cef, to_cloudevents, to_ecs, to_line, to_ocsf
from pep.audit.formats.common import LETTING_THROUGH
from pep.audit.reading import Entry, read
from pep.audit.record import Kind
from pep.cli.audit_query import Ending, Stats, Wanted, cells, instant
from pep.cli.audit_tail import Found, Tail, trouble
from pep.cli.showing import PLAIN, Row, fail, printable, write_rows
from pep.errors import AuditError, ConfigurationError

app = typer.Typer(help="Show, search, count and convert audit logs.", no_args_is_help=True)

_PATH: Final = Argument(metavar="PATH", help="What was given to `FileSink`, with all its files; or one file.")
_JSON: Final = Option("--json", help="Write JSON.")
_HEADINGS: Final = ("time", "kind", "outcome", "subject", "action", "resource", "")
_BAD: Final = "red"
# How long to wait before looking for more, in seconds.
_PAUSE: Final = 0.5


class Format(Enum):
    """What a record is converted to."""

    OCSF = "ocsf"
    ECS = "ecs"
    CEF = "cef"
    CLOUDEVENTS = "cloudevents"


_FORMATS: Final[Mapping[Format, Callable[[Mapping[str, Any]], str]]] = {
    Format.OCSF: lambda record: to_line(to_ocsf(record)),
    Format.ECS: lambda record: to_line(to_ecs(record)),
    Format.CEF: to_cef,
    Format.CLOUDEVENTS: lambda record: to_line(to_cloudevents(record)),
}


@attrs.define
class _Sound:
    """Passes records on, and tells of everything else on standard error."""

    damaged: int = 0

    def __call__(self, found: Iterable[Found]) -> Iterator[Entry]:
        for one in found:
            wrong = trouble(one)
            if wrong is None and isinstance(one, Entry):
                yield one
            else:
                self.damaged += 1
                typer.echo(printable(f"{one.place}: {wrong}"), err=True)


@app.command()
def tail(
    path: Annotated[Path, _PATH],
    *,
    count: Annotated[int, Option("--lines", "-n", min=0, help="How many records to begin with.")] = 10,
    follow: Annotated[bool, Option("--follow", "-f", help="Go on with what is appended, until interrupted.")] = False,
    json: Annotated[bool, _JSON] = False,
) -> None:
    """Show the last records, of all writers together."""
    with _told() as sound:
        end = Tail(path)
        show = _write if json else _show
        found = chain(end.last(count, growing=follow), end.follow(pause) if follow else ())
        # What is to be ended by an interrupt has then done all it was asked for.
        with suppress(*[KeyboardInterrupt] if follow else []):
            for entry in sound(found):
                show(entry)


@app.command()
def query(
    path: Annotated[Path, _PATH],
    *,
    subject: Annotated[str | None, Option(metavar="TYPE:ID|TYPE", help="Who acted.")] = None,
    action: Annotated[str | None, Option(metavar="PATTERN", help="What was done; `*` is any segment.")] = None,
    resource: Annotated[str | None, Option(metavar="TYPE:ID|TYPE", help="To what, alone or among others.")] = None,
    outcome: Annotated[Ending | None, Option(help="What came of it.")] = None,
    kind: Annotated[Kind | None, Option(help="What the record tells of.")] = None,
    since: Annotated[str | None, Option(metavar="TIME", help="Not before; ISO 8601, in UTC without an offset.")] = None,
    until: Annotated[str | None, Option(metavar="TIME", help="Before.")] = None,
    limit: Annotated[int | None, Option(min=1, help="At most so many, the oldest.")] = None,
    json: Annotated[bool, Option("--json", help="Write the records as JSON lines.")] = False,
) -> None:
    """List records by who, what, when and what came of it; the oldest first."""
    with _told() as sound:
        moments = (
            None if text is None else instant(text, name) for text, name in ((since, "--since"), (until, "--until"))
        )
        wanted = Wanted(subject, action, resource, outcome and outcome.value, kind and kind.value, *moments)
        found = islice((entry for entry in sound(read(path)) if wanted.matches(entry.fields)), limit)
        if json:
            for entry in found:
                _write(entry)
        else:
            write_rows(_HEADINGS, map(_row, found), ())


@app.command()
def stats(
    path: Annotated[Path, _PATH],
    *,
    top: Annotated[int, Option(min=1, help="How many actions and subjects to list.")] = 10,
    json: Annotated[bool, _JSON] = False,
) -> None:
    """Count records by kind, outcome, action and subject; tell gaps, faults and the rate."""
    with _told() as sound:
        counted = Stats()
        for entry in sound(read(path)):
            counted.add(entry.fields)
        told = counted.to_dict(top) | {"damaged": sound.damaged}
        if json:
            typer.echo(to_line(told).encode())
        else:
            write_rows(("", "", "count"), _counts(told), ())


@app.command()
def convert(
    path: Annotated[Path, _PATH],
    *,
    to: Annotated[Format, Option(help="What to convert to.")],
) -> None:
    """Write records in another format, a line each."""
    with _told() as sound:
        for entry in sound(read(path)):
            typer.echo(_FORMATS[to](entry.fields).encode())


def pause() -> None:
    """Wait until it is worth looking for more."""
    time.sleep(_PAUSE)


@contextmanager
def _told() -> Iterator[_Sound]:
    """Tell what is wrong, without a traceback; end quietly when nobody reads on."""
    sound = _Sound()
    try:
        yield sound
    except (AuditError, ConfigurationError) as error:
        fail(str(error))
    except BrokenPipeError:
        # What is still buffered goes nowhere, and is not complained about at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if sound.damaged:
        typer.echo(f"damaged lines left out: {sound.damaged}", err=True)
        raise typer.Exit(1)


def _write(entry: Entry) -> None:
    """Write a record as it stands in the file, or as JSON that steers no terminal."""
    line = entry.line
    typer.echo(line if line.isascii() and line.decode().isprintable() else to_line(entry.fields).encode())


def _show(entry: Entry) -> None:
    told, style = _row(entry)
    typer.secho("  ".join(printable(cell) for cell in told if cell), fg=style or None)


def _row(entry: Entry) -> Row:
    outcome = entry.fields.get("outcome")
    bad = (type(outcome) is str and outcome not in LETTING_THROUGH) or entry.fields.get("kind") == Kind.GAP.value
    return cells(entry.fields), _BAD if bad else PLAIN


def _counts(told: Mapping[str, Any]) -> Iterator[Row]:
    for section, value in told.items():
        if isinstance(value, dict):
            for name, count in value.items():
                yield (section, name, str(count)), PLAIN
        elif isinstance(value, list):
            yield (section, ", ".join(value), ""), PLAIN
        elif value is not None:
            yield (section, "", f"{value:.3f}" if type(value) is float else str(value)), PLAIN
