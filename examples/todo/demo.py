"""
Runs the todo application for its five users, and shows who may do what.

Run it by ``make demo``, or ``python examples/todo/demo.py [FOLDER]``; the audit file goes into that folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import app
from database import TODOS, USERS, User, connect, refill
from wiring import start

from pep import AccessDenied, Subject, acting_as

BUILD = Path(__file__).resolve().parents[2] / "build" / "demo"


def calls(user: User) -> dict[str, Callable[[Connection], Any]]:
    """Return what a user tries: on a todo of their own, and on one of somebody else's."""
    own = next(todo.id for todo in TODOS if todo.owner == user.email)
    other = next(todo.id for todo in TODOS if todo.owner != user.email)
    return {
        "list_users": app.list_users,
        "read_user": lambda db: app.read_user(db, user.email),
        "list_todos": app.list_todos,
        "create_todo": lambda db: app.create_todo(db, "Learn to knit"),
        "update_todo own": lambda db: app.update_todo(db, own, done=True),
        "update_todo other": lambda db: app.update_todo(db, other, done=True),
        "delete_todo own": lambda db: app.delete_todo(db, own),
        "delete_todo other": lambda db: app.delete_todo(db, other),
    }


def attempt(db: Connection, user: User, what: str) -> None:
    """Make one call as a user; whether it was denied is on record."""
    refill(db)
    with acting_as(Subject("user", user.id)), suppress(AccessDenied):
        calls(user)[what](db)


def decisions(audit_file: Path) -> list[dict[str, Any]]:
    """Read the decisions in the audit file, which has one JSON object a line."""
    lines = [json.loads(line) for line in audit_file.read_text().splitlines()]
    return [line for line in lines if line["kind"] == "decision"]


def print_users() -> None:
    """Print the users and their roles."""
    print("The users\n")
    for user in USERS:
        print(f"  {user.name:8}{user.email:24}{', '.join(user.roles)}")


def print_table(db: Connection, audit_file: Path) -> None:
    """Make every call as every user; print what the audit file then says."""
    rows = list(calls(USERS[0]))
    for what in rows:
        for user in USERS:
            attempt(db, user, what)
    told = decisions(audit_file)
    permitting = dict.fromkeys(name for record in told for name in record.get("policies", ()))
    numbers = {name: str(number) for number, name in enumerate(permitting, 1)}
    cells = iter(
        " ".join([record["outcome"], *(numbers[name] for name in record.get("policies", ()))]) for record in told
    )
    print("\nWho may do what: calls that were really made, as the audit file has them\n")
    print(f"  {'':18}" + "".join(f"{user.name:12}" for user in USERS).rstrip())
    for what in rows:
        print(f"  {what:18}" + "".join(f"{next(cells):12}" for _ in USERS).rstrip())
    print("\n  permitted by policy\n")
    for name, number in numbers.items():
        print(f"  {number} {name}")


def print_denial(db: Connection) -> None:
    """Let Morty try to delete Rick's todo, and print what he is told."""
    refill(db)
    morty = USERS[1]
    print(f"\nWhat a caller is told: {morty.name} deletes todo 1, which is Rick's\n")
    with acting_as(Subject("user", morty.id)):
        try:
            app.delete_todo(db, "1")
        except AccessDenied as denied:
            print(f"  {type(denied).__name__}: {denied}")
    left = db.execute("SELECT title FROM todos WHERE id = '1'").fetchone()
    print(f"  The todo is still there: {left[0]}")


def print_audit(audit_file: Path) -> None:
    """Print where the audit file is, and how it ends."""
    lines = audit_file.read_text().splitlines()
    print(f"\nThe audit file: {audit_file}\n")
    print(f"  {len(lines)} records; the last three:\n")
    print("\n".join(f"  {line}" for line in lines[-3:]))


def main(folder: Path) -> None:
    """Run the demonstration; its audit file starts anew."""
    folder.mkdir(parents=True, exist_ok=True)
    audit_file = folder / "todo-audit.jsonl"
    audit_file.unlink(missing_ok=True)
    db = connect(":memory:")
    start(db, audit_file)
    print_users()
    print_table(db, audit_file)
    print_denial(db)
    app.enforcer.close()
    db.close()
    print_audit(audit_file)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else BUILD)
