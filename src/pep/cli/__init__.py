"""
The `pep` command.

Needs the extra ``cli``, and says so where it is missing. Imports nothing of the library by itself.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command; exits with 2 where the extra is missing."""
    try:
        from pep.cli.app import app  # noqa: PLC0415  what the extra brings is imported when it is needed
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"typer", "rich", "click"}:
            raise
        sys.stderr.write("the `pep` command needs an extra; install `pep[cli]`\n")
        sys.exit(2)
    app(prog_name="pep")
