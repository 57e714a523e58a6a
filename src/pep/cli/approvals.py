"""
``pep approvals``: list, show, approve and reject what waits in an SQLite database of approvals.

Imports typer, the desk, the SQLite store and the file sink.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer import Argument, Option

from pep.approvals.desk import Desk
from pep.approvals.refused import ApprovalRefused
from pep.approvals.sealing import SHORTEST
from pep.approvals.sqlite import SQLiteStore
from pep.approvals.values import Approval, Status
from pep.audit.file import FileSink
from pep.audit.memory import MemorySink
from pep.audit.record import timestamp
from pep.cli.showing import PLAIN, Row, fail, printable, write_json, write_rows
from pep.errors import AuditError, ConfigurationError, ExtractionError, ObligationError
from pep.model import Resource, Subject
from pep.protocols import Sink

app = typer.Typer(help="List, show, approve and reject what waits for a confirmation.", no_args_is_help=True)

#: The environment variable that may hold the secret, as text.
VARIABLE: Final = "PEP_APPROVALS_SECRET"

_WORLD: Final = 0o007
_HEADINGS: Final = ("id", "status", "lacks", "subject", "action", "resource", "expires")

_Path = Annotated[Path, Argument(metavar="PATH", help="The database of approvals.")]
_ID = Annotated[str, Argument(metavar="ID", help="The approval's id.")]
_SecretFile = Annotated[Path | None, Option(help=f"A file with the secret; without it, ${VARIABLE}.")]
_Audit = Annotated[Path, Option(metavar="LOG", help="The audit log that tells of the answer, as given to `FileSink`.")]
_As = Annotated[
    str | None, Option("--as", metavar="TYPE:ID", help="Who answers, where you vouch for it; without it, you do.")
]
_Comment = Annotated[str | None, Option(help="What you say to it.")]
_JSON = Annotated[bool, Option("--json", help="Write JSON.")]


@app.command("list")
def list_(
    path: _Path,
    *,
    every: Annotated[bool, Option("--all", help="Those too that were answered or used.")] = False,
    secret_file: _SecretFile = None,
    json: _JSON = False,
) -> None:
    """List what waits, the oldest first."""
    with _told():
        desk = _desk(path, secret_file, MemorySink(), None)
        found, damaged = desk.list(None if every else Status.PENDING), desk.damaged()
        if json:
            write_json([approval.to_dict() for approval in found])
        else:
            write_rows(_HEADINGS, map(_row, found), ())
    if damaged:
        typer.echo(printable(f"changed by somebody without the secret: {', '.join(damaged)}"), err=True)
        raise typer.Exit(1)


@app.command()
def show(path: _Path, name: _ID, *, secret_file: _SecretFile = None, json: _JSON = False) -> None:
    """Show an approval: who asks for what, who has to approve it, and who did."""
    with _told():
        approval = _desk(path, secret_file, MemorySink(), None).show(name)
        if approval is None:
            fail("there is no such approval; it may have expired")
        if json:
            write_json(approval.to_dict())
        else:
            write_rows(("", ""), _lines(approval), ())


@app.command()
def approve(
    path: _Path,
    name: _ID,
    *,
    audit: _Audit,
    claimed: _As = None,
    comment: _Comment = None,
    secret_file: _SecretFile = None,
) -> None:
    """Approve what waits."""
    with _told(), _sink(audit) as sink:
        after = _desk(path, secret_file, sink, claimed).approve(name, None, comment=comment)
        lacking = sum(after.lacking)
        typer.echo(f"approved; {lacking} more needed" if lacking else "approved")


@app.command()
def reject(
    path: _Path,
    name: _ID,
    *,
    audit: _Audit,
    claimed: _As = None,
    comment: _Comment = None,
    secret_file: _SecretFile = None,
) -> None:
    """Reject what waits, or what was approved and is not used yet."""
    with _told(), _sink(audit) as sink:
        _desk(path, secret_file, sink, claimed).reject(name, None, comment=comment)
        typer.echo("rejected")


def operator() -> Subject:
    """Return who runs this process: the user of its real id, by the system's own database, never its environment."""
    import grp  # noqa: PLC0415  not everywhere
    import pwd  # noqa: PLC0415  the same

    entry = pwd.getpwuid(os.getuid())
    names = {group.gr_gid: group.gr_name for group in grp.getgrall()}
    groups = [names.get(group, str(group)) for group in os.getgrouplist(entry.pw_name, entry.pw_gid)]
    return Subject("user", entry.pw_name, {"uid": entry.pw_uid, "groups": sorted(groups)})


def _names(claimed: str | None) -> tuple[Subject, ...]:
    """Name who answers: who runs this; or whom they vouch for, with their own name beside it."""
    if claimed is None:
        return (operator(),)
    kind, _, name = claimed.partition(":")
    return Subject(kind, name), operator()


def _desk(path: Path, secret_file: Path | None, sink: Sink, claimed: str | None) -> Desk:
    store = SQLiteStore(path, secret=_secret(secret_file), make=False)
    names = _names(claimed)
    return Desk(store, authenticate=lambda _nothing: names, audit=sink)


def _secret(path: Path | None) -> bytes:
    if path is None:
        secret = os.environ.get(VARIABLE, "").encode()
    else:
        if path.stat().st_mode & _WORLD:
            fail(f"everybody has access to the secret in `{path}`; take that away with `chmod o=`")
        secret = path.read_bytes().removesuffix(b"\n")
    if len(secret) < SHORTEST:
        fail(f"the secret of the database is needed, at least {SHORTEST} bytes; set ${VARIABLE} or pass --secret-file")
    return secret


@contextmanager
def _sink(path: Path) -> Iterator[Sink]:
    sink = FileSink(path)
    try:
        yield sink
    finally:
        sink.close()


@contextmanager
def _told() -> Iterator[None]:
    """Tell what is wrong, without a traceback."""
    try:
        yield
    except ApprovalRefused as refused:
        typer.echo(str(refused), err=True)
        raise typer.Exit(1) from None
    except (AuditError, ConfigurationError, ObligationError, ExtractionError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot open `{error.filename}`: {os.strerror(error.errno or 0)}")


def _row(approval: Approval) -> Row:
    request = approval.request
    cells = (approval.id, approval.status.value, str(sum(approval.lacking)), _entity(request.subject))
    return (*cells, request.action.name, _entity(request.resource), timestamp(approval.expires)), PLAIN


def _lines(approval: Approval) -> Iterator[Row]:
    told: list[tuple[str, Any]] = [
        ("id", approval.id),
        ("status", approval.status.value),
        ("expires", timestamp(approval.expires)),
        ("arguments", approval.digest),
        ("message", approval.message),
        ("used for decision", approval.used),
        *[(f"argument {name}", value) for name, value in approval.shown.items()],
    ]
    for point, lacks in zip(approval.points, approval.lacking, strict=True):
        request = point.request
        asks = " for ".join(map(_entity, (*request.actors[::-1], request.subject)))
        told += [("asks", asks), ("action", request.action.name), ("resource", _entity(request.resource))]
        told += [
            ("tenant", request.tenant),
            ("who may approve", point.who),
            ("approvers", f"{point.approvers}, {lacks} lacking"),
        ]
    told += [("approved by", _said(answer.names, answer.comment)) for answer in approval.answers]
    if approval.rejection is not None:
        told.append(("rejected by", _said(approval.rejection.names, approval.rejection.comment)))
    return (((label, str(value)), PLAIN) for label, value in told if value is not None)


def _said(names: tuple[Subject, ...], comment: str | None) -> str:
    others = ", ".join(map(_entity, names[1:]))
    who = f"{_entity(names[0])} ({others})" if others else _entity(names[0])
    return who if comment is None else f"{who}: {comment}"


def _entity(value: Subject | Resource) -> str:
    return f"{value.type}:{value.id}" if value.id is not None else f"{value.type} (new)"
