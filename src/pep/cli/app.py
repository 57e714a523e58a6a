"""
The commands of `pep`, one file each.

Imports typer, and the commands.
"""

from __future__ import annotations

import typer

from pep.cli import coverage, policy

app = typer.Typer(
    help="Authorization in process: tell what is guarded, and what policies decide.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("coverage")(coverage.coverage)
app.add_typer(policy.app, name="policy")
