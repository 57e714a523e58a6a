"""
``pep audit verify``: says what is wrong with an audit log, where, and how far it is proven.

Imports typer, and the verifying of audit logs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from pep.audit.checkpoint import Checkpoint, read_checkpoints
from pep.audit.findings import Finding
from pep.audit.notes import VerifierKey
from pep.audit.verifying import Chain, Report
from pep.audit.verifying import verify as verified
from pep.cli.showing import Row, fail, progress, write_json, write_rows
from pep.errors import AuditError, ConfigurationError

_HEADINGS: Final = ("where", "what", "")
_BAD: Final = "red"
# No key is longer.
_MAX_KEY: Final = 4096

_PATH: Final = typer.Argument(metavar="PATH", help="The path that was given to the sink, or any one file.")
_CHECKPOINT: Final = typer.Option(metavar="FILE", help="Checkpoints that were held elsewhere; may be repeated.")
_KEY: Final = typer.Option(metavar="KEY", help="The verifier key of who signed them, or a file that holds it.")
_ORIGIN: Final = typer.Option(metavar="NAME", help="The log's name in its checkpoints; the key's name by default.")


def verify(
    path: Annotated[Path, _PATH],
    *,
    checkpoint: Annotated[list[Path] | None, _CHECKPOINT] = None,
    key: Annotated[str | None, _KEY] = None,
    origin: Annotated[str | None, _ORIGIN] = None,
    json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Tell what is wrong with an audit log and where, and how far checkpoints prove it; exit with 1 if anything is."""
    if bool(checkpoint) != bool(key):
        fail("`--checkpoint` and `--key` go together; give both, or neither")
    try:
        checkpoints, wrong = _signed(checkpoint or [], key, origin)
        with progress("bytes") as told:
            report = verified(path, checkpoints=checkpoints, progress=told)
    except (AuditError, ConfigurationError) as error:
        fail(str(error))
    findings = [*wrong, *report.findings]
    if json:
        write_json({**report.to_dict(), **_counted(report, wrong), "findings": [one.to_dict() for one in findings]})
    else:
        write_rows(_HEADINGS, map(_row, findings), list(_summary(report, wrong, given=bool(key))))
    if findings:
        raise typer.Exit(1)


def _signed(files: Sequence[Path], key: str | None, origin: str | None) -> tuple[list[Checkpoint], list[Finding]]:
    checkpoints: list[Checkpoint] = []
    wrong: list[Finding] = []
    if key is not None:
        trusted = _key(key)
        for file in files:
            found, forged = read_checkpoints(file, trusted, origin=origin)
            checkpoints += found
            wrong += forged
    return checkpoints, wrong


def _key(text: str) -> VerifierKey:
    """Read a verifier key, given as it is or as a file."""
    try:
        with Path(text).open(encoding="utf-8") as file:
            text = file.read(_MAX_KEY)
    except (OSError, ValueError):
        # It is no file, so it is the key.
        pass
    return VerifierKey.parse(text)


def _counted(report: Report, wrong: Sequence[Finding]) -> dict[str, Any]:
    return {"intact": report.intact and not wrong, "found": report.found + len(wrong)}


def _row(finding: Finding) -> Row:
    return (str(finding.place or ""), finding.wrong.value, finding.detail), _BAD


def _summary(report: Report, wrong: Sequence[Finding], *, given: bool) -> Iterator[str]:
    found, hidden = report.found + len(wrong), report.found - len(report.findings)
    if hidden:
        yield f"... and {hidden} more findings"
    yield f"{_many(report.records, 'record')} in {_many(len(report.files), 'file')}: {found or 'nothing'} wrong"
    if report.torn:
        yield f"{_many(report.torn, 'line')} cut short, and gone on from by their writers"
    if report.begun > 1:
        yield f"{report.begun} chains begin with nothing before them; one is usual"
    if not given:
        yield "unproven: only a checkpoint held elsewhere shows a cut-off end, or that all was written anew"
        return
    yield f"proven: {report.proven} of {_many(report.records, 'record')}"
    for chain in report.chains:
        if chain.proven < chain.records:
            yield _unproven(chain)


def _unproven(chain: Chain) -> str:
    after = f"after {chain.proven_to}" if chain.proven_to else "from its first"
    return f"unproven {after}: {_many(chain.records - chain.proven, 'record')} of writer {chain.writer}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
