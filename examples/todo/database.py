"""The database: five users, and a todo of each. Nothing here knows of permissions."""

from __future__ import annotations

import json
import sqlite3
from typing import NamedTuple


class User(NamedTuple):
    """Who may sign in."""

    id: str
    name: str
    email: str
    roles: list[str]


class Todo(NamedTuple):
    """Something to do; its owner is a user's e-mail."""

    id: str
    title: str
    owner: str
    done: bool = False


USERS = [
    User(
        "CiRmZDA2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs",
        "Rick",
        "rick@the-citadel.com",
        ["admin", "evil_genius"],
    ),
    User("CiRmZDE2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs", "Morty", "morty@the-citadel.com", ["editor"]),
    User("CiRmZDI2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs", "Summer", "summer@the-smiths.com", ["editor"]),
    User("CiRmZDM2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs", "Beth", "beth@the-smiths.com", ["viewer"]),
    User("CiRmZDQ2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs", "Jerry", "jerry@the-smiths.com", ["viewer"]),
]

TODOS = [
    Todo("1", "Build a portal gun", "rick@the-citadel.com"),
    Todo("2", "Pass the maths test", "morty@the-citadel.com"),
    Todo("3", "Find another job", "summer@the-smiths.com"),
    Todo("4", "Operate on a horse", "beth@the-smiths.com"),
    Todo("5", "Prune the apple tree", "jerry@the-smiths.com"),
]

SCHEMA = """
CREATE TABLE users (id TEXT PRIMARY KEY, name TEXT, email TEXT UNIQUE, roles TEXT);
CREATE TABLE todos (id TEXT PRIMARY KEY, title TEXT, owner TEXT REFERENCES users (email), done INTEGER);
"""


def connect(path: str) -> sqlite3.Connection:
    """Open a new database, with the users and their todos in it."""
    db = sqlite3.connect(path)
    db.executescript(SCHEMA)
    with db:
        users = [(user.id, user.name, user.email, json.dumps(user.roles)) for user in USERS]
        db.executemany("INSERT INTO users VALUES (?, ?, ?, ?)", users)
    refill(db)
    return db


def refill(db: sqlite3.Connection) -> None:
    """Bring the todos back to what they were at the start."""
    with db:
        db.execute("DELETE FROM todos")
        db.executemany("INSERT INTO todos VALUES (?, ?, ?, ?)", TODOS)
