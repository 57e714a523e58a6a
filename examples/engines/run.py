"""
Runs the todo application behind one engine: ``python run.py ENGINE FOLDER``.

The folder `../todo` has to be on the path of modules. Every user makes every call; what came of each is printed as one
line of JSON, read back from the audit file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import app
from database import USERS, connect
from demo import attempt, calls, decisions
from engines import ENGINES
from wiring import Directory

from pep.audit import FileSink


def main(engine: str, folder: Path) -> None:
    """Make the 40 calls; the audit file starts anew."""
    audit_file = folder / f"{engine}-audit.jsonl"
    audit_file.unlink(missing_ok=True)
    db = connect(":memory:")
    with ENGINES[engine]() as pdp:
        app.enforcer.bind(pdp, audit=FileSink(audit_file), attributes=[Directory(db)])
        made = [(what, user) for what in calls(USERS[0]) for user in USERS]
        for what, user in made:
            attempt(db, user, what)
        app.enforcer.close()
    db.close()
    for (what, user), record in zip(made, decisions(audit_file), strict=True):
        told = {name: record.get(name) for name in ("outcome", "policies", "pdp", "fault")}
        print(json.dumps({"call": what, "user": user.name, **told}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
