"""The `pep approvals` commands."""

from __future__ import annotations

import json
import os
import pwd
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pep import Resource, Subject
from pep.approvals import Status
from pep.approvals.sqlite import SQLiteStore
from pep.audit.reading import read
from pep.cli import approvals
from tests.approvals.desks import BOB, SECRET, Bank

#: What must never reach a terminal as it is.
EVIL = "\x1b[31m\u202e\n"
SHOWN = "\\x1b[31m\\u202e\\n"
ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bank:
    """A bank over a database in the working directory, and its secret in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(approvals.VARIABLE, SECRET.decode())
    made = Bank({"show": ["amount"]}, store=lambda _clock: SQLiteStore("a.db", secret=SECRET))
    made.properties["expires_in"] = 1000
    return made


def told(*args: str, code: int = 0) -> str:
    """Run a command; return what it wrote."""
    result = CliRunner().invoke(approvals.app, args)
    assert result.exit_code == code, result.output
    return result.output


def events(path: str = "audit.jsonl") -> list[Any]:
    fields = (entry.fields for entry in read(Path(path)) if hasattr(entry, "fields"))
    return [
        (one["event"], one.get("reason"), one.get("approver", {}).get("id"), len(one.get("also", [])))
        for one in fields
        if "event" in one
    ]


def test_what_waits_is_listed(bank: Bank) -> None:
    """The oldest first, and what else there is when it is asked for; as lines or as JSON."""
    first, second = bank.asked("1", 1), bank.asked(EVIL, 2)
    bank.desk.approve(first, BOB)
    line = told("list", "a.db")
    assert line.startswith(f"{second}  pending  1  user:alice  transfer  account:{SHOWN}  20")
    assert first in told("list", "a.db", "--all")
    (listed,) = json.loads(told("list", "a.db", "--json"))
    assert (listed["id"], listed["status"], listed["shown"]) == (second, "pending", {"amount": 2})


def test_an_approval_is_shown(bank: Bank) -> None:
    """Who asks for what, by whom, who has to approve, and who did; nothing of it steers a terminal."""
    bank.properties |= {"approvers": 2, "who": "subject.roles.contains('boss')", "message": EVIL}
    name = bank.asked("1", EVIL, tenant="t")
    bank.desk.approve(name, (BOB, Subject("mail", "b")), comment=EVIL)
    shown = told("show", "a.db", name).splitlines()
    assert f"argument amount  {SHOWN}" in shown
    assert f"message  {SHOWN}" in shown
    assert "asks  user:alice" in shown
    assert "resource  account:1" in shown
    assert "tenant  t" in shown
    assert "who may approve  subject.roles.contains('boss')" in shown
    assert "approvers  2, 1 lacking" in shown
    assert f"approved by  user:bob (mail:b): {SHOWN}" in shown
    bank.desk.reject(name, BOB)
    assert "rejected by  user:bob" in told("show", "a.db", name).splitlines()
    assert json.loads(told("show", "a.db", name, "--json"))["status"] == "rejected"
    assert "no such approval" in told("show", "a.db", "unknown", code=2)


def test_whoever_runs_it_approves(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user of the process, whatever its environment says; and that is recorded."""
    for variable in ("USER", "LOGNAME", "SUDO_USER"):
        monkeypatch.setenv(variable, "bob")
    bank.properties |= {"who": f"subject.uid == {os.getuid()}"}
    name = bank.asked()
    assert told("approve", "a.db", name, "--audit", "audit.jsonl", "--comment", "fine") == "approved\n"
    one = bank.desk.show(name)
    assert one is not None
    assert (one.answers[0].names, one.answers[0].comment) == ((Subject("user", ME),), "fine")
    assert events() == [("approved", None, ME, 0)]
    assert bank.transfer("1", 5, brings=name) == 5
    assert approvals.operator().properties["groups"]


def test_somebody_may_be_vouched_for(bank: Bank) -> None:
    """Then both are recorded; and neither of them may be the requester."""
    bank.properties["approvers"] = 2
    name = bank.asked()
    audit = ("--audit", "audit.jsonl")
    assert told("approve", "a.db", name, "--as", "user:bob", *audit) == "approved; 1 more needed\n"
    assert "has approved already" in told("approve", "a.db", name, *audit, code=1)
    assert "asked for it" in told("approve", "a.db", name, "--as", "user:alice", *audit, code=1)
    own = bank.asked(who=Subject("user", ME))
    assert "asked for it" in told("approve", "a.db", own, "--as", "user:bob", *audit, code=1)
    assert events() == [
        ("approved", None, "bob", 1),
        ("refused", "repeated", ME, 0),
        ("refused", "requester", "alice", 1),
        ("refused", "requester", "bob", 1),
    ]
    assert "must not be empty" in told("approve", "a.db", name, "--as", "bob", *audit, code=2)


def test_what_is_rejected_stays_rejected(bank: Bank) -> None:
    """From the command line as from the desk."""
    name = bank.asked()
    assert told("reject", "a.db", name, "--audit", "audit.jsonl") == "rejected\n"
    assert "decided already" in told("approve", "a.db", name, "--audit", "audit.jsonl", code=1)
    one = bank.desk.show(name)
    assert one is not None
    assert one.status is Status.REJECTED
    assert [event for event, *_ in events()] == ["rejected", "refused"]


def test_an_answer_needs_a_log(bank: Bank) -> None:
    """There is no default place for the proof."""
    assert "--audit" in told("approve", "a.db", bank.asked(), code=2)


def test_the_secret_may_be_in_a_file(bank: Bank, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One that nobody else can read; without its last newline."""
    name = bank.asked()
    monkeypatch.delenv(approvals.VARIABLE)
    assert f"${approvals.VARIABLE}" in told("list", "a.db", code=2)
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET + b"\n")
    secret.chmod(0o604)
    assert "everybody has access" in told("list", "a.db", "--secret-file", "secret", code=2)
    secret.chmod(0o600)
    assert name in told("list", "a.db", "--secret-file", "secret")
    assert "cannot open `none`: No such file" in told("list", "a.db", "--secret-file", "none", code=2)


def test_what_was_tampered_with_is_told(bank: Bank, tmp_path: Path) -> None:
    """It is listed as such, and neither shown nor approved."""
    name = bank.asked()
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("UPDATE approvals SET mac = ?", (b"\x00" * 32,))
    connection.close()
    assert f"without the secret: {name}" in told("list", "a.db", code=1)
    assert "without the secret" in told("show", "a.db", name, code=1)
    assert "without the secret" in told("approve", "a.db", name, "--audit", "audit.jsonl", code=1)
    assert events() == [("refused", "tampered", ME, 0)]


def test_a_database_is_not_made(bank: Bank, tmp_path: Path) -> None:
    """A path that was mistyped is told, and stays empty."""
    assert "No such file" in told("list", "b.db", code=2)
    assert not (tmp_path / "b.db").exists()


def test_a_log_that_cannot_be_written_is_told(bank: Bank) -> None:
    """And nothing is approved."""
    name = bank.asked()
    assert "cannot open audit folder" in told("approve", "a.db", name, "--audit", "none/audit.jsonl", code=2)
    one = bank.desk.show(name)
    assert one is not None
    assert one.status is Status.PENDING


def test_what_is_new_is_told_as_such(bank: Bank) -> None:
    """A resource that is about to be has no id."""
    assert approvals._entity(Resource.new("account")) == "account (new)"
