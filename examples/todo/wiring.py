"""What the guards of the application are bound to: who decides, where records go, who knows the users' roles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from sqlite3 import Connection
from typing import Any

from app import enforcer
from policies import POLICIES

from pep import AccessRequest
from pep.audit import FileSink


class Directory:
    """Knows the users' roles. What a caller says about them itself is thrown away."""

    provides = ("subject.email", "subject.roles")
    types = ("user",)

    def __init__(self, db: Connection) -> None:
        self._db = db

    def provide(self, request: AccessRequest) -> Mapping[str, Any]:
        """Look up the subject of a request; nothing is known of a stranger."""
        row = self._db.execute("SELECT email, roles FROM users WHERE id = ?", (request.subject.id,)).fetchone()
        return {} if row is None else {"subject.email": row[0], "subject.roles": json.loads(row[1])}


def start(db: Connection, audit_file: str | PathLike[str]) -> None:
    """Bind the guards of the application; until then, every call is denied."""
    enforcer.bind(POLICIES, audit=FileSink(audit_file), attributes=[Directory(db)])
