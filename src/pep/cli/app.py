"""
The commands of `pep`, one file each.

Imports typer, and the commands.
"""

from __future__ import annotations

import typer

from pep.cli import approvals, audit, audit_verify, coverage, policy

app = typer.Typer(
    help="Authorization in process: what is guarded, what policies decide, what is on record, what awaits approval.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("coverage")(coverage.coverage)
app.add_typer(policy.app, name="policy")
audit.app.command("verify")(audit_verify.verify)
app.add_typer(audit.app, name="audit")
app.add_typer(approvals.app, name="approvals")
