"""
A todo application over SQLite. Each of its functions is guarded.

A guard names the action and says what it is done to; `policies.py` says who may. To call a function,
say who acts: ``with acting_as(Subject("user", id)): update_todo(db, "1", done=True)``.
"""

from __future__ import annotations

import json
import uuid
from sqlite3 import Connection

from database import Todo, User

from pep import Enforcer, Resource, current_subject

enforcer = Enforcer.unbound("todo")  # guards now, and denies everything until `wiring.py` has bound it


def _todo(db: Connection, todo_id: str) -> Resource:
    """Make the resource of a todo: its owner comes from the database, not from the caller."""
    row = db.execute("SELECT owner FROM todos WHERE id = ?", (todo_id,)).fetchone()
    if row is None:
        message = f"there is no todo `{todo_id}`"
        raise LookupError(message)
    return Resource("todo", todo_id, {"ownerID": row[0]})


def _user(row: tuple[str, str, str, str]) -> User:
    user_id, name, email, roles = row
    return User(user_id, name, email, json.loads(roles))


@enforcer.guard("can_read_user")
def list_users(db: Connection) -> list[User]:
    """Return all users."""
    rows = db.execute("SELECT id, name, email, roles FROM users ORDER BY rowid").fetchall()
    return [_user(row) for row in rows]


@enforcer.guard("can_read_user", resource="user:{email}")
def read_user(db: Connection, email: str) -> User:
    """Return one user."""
    row = db.execute("SELECT id, name, email, roles FROM users WHERE email = ?", (email,)).fetchone()
    if row is None:
        message = f"there is no user `{email}`"
        raise LookupError(message)
    return _user(row)


@enforcer.guard("can_read_todos")
def list_todos(db: Connection) -> list[Todo]:
    """Return all todos."""
    rows = db.execute("SELECT id, title, owner, done FROM todos ORDER BY rowid").fetchall()
    return [Todo(todo_id, title, owner, bool(done)) for todo_id, title, owner, done in rows]


@enforcer.guard("can_create_todo", resource=Resource.new("todo"))
def create_todo(db: Connection, title: str) -> str:
    """Add a todo of the one who acts, and return its id."""
    owner, todo_id = current_subject(), str(uuid.uuid4())
    with db:
        statement = "INSERT INTO todos SELECT ?, ?, email, 0 FROM users WHERE id = ?"
        db.execute(statement, (todo_id, title, owner.id if owner else None))
    return todo_id


@enforcer.guard("can_update_todo", resource=_todo)
def update_todo(db: Connection, todo_id: str, *, done: bool) -> None:
    """Say whether a todo is done."""
    with db:
        db.execute("UPDATE todos SET done = ? WHERE id = ?", (done, todo_id))


@enforcer.guard("can_delete_todo", resource=_todo)
def delete_todo(db: Connection, todo_id: str) -> None:
    """Delete a todo."""
    with db:
        db.execute("DELETE FROM todos WHERE id = ?", (todo_id,))
