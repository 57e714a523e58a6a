"""The todo example: the interoperability scenario's decisions, the application, and the demonstration."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pep import AccessDenied, AccessRequest, Effect, Subject, acting_as
from pep.errors import DecisionUnavailable
from pep.guard.coverage import coverage

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "todo"
MODULES = ("app", "database", "policies", "wiring")

READS = ("list_users", "read_user", "list_todos")
WRITES = ("create_todo", "update_own", "update_other", "delete_own", "delete_other")
ALLOWED = {
    "Rick": {*READS, *WRITES},
    "Morty": {*READS, "create_todo", "update_own", "delete_own"},
    "Summer": {*READS, "create_todo", "update_own", "delete_own"},
    "Beth": {*READS},
    "Jerry": {*READS},
}


class Application:
    """The example, freshly imported and bound to a database of its own."""

    def __init__(self, folder: Path) -> None:
        self.app: ModuleType = __import__("app")
        self.database: ModuleType = __import__("database")
        self.audit_file = folder / "audit.jsonl"
        self.db = self.database.connect(str(folder / "todo.sqlite3"))
        __import__("wiring").start(self.db, self.audit_file)

    def user(self, name: str) -> Any:
        """The user of that name."""
        return next(user for user in self.database.USERS if user.name == name)

    def call(self, name: str, what: str) -> Any:
        """Make one call as a user, on a todo of theirs or of somebody else's."""
        app, db, user = self.app, self.db, self.user(name)
        own = next(todo.id for todo in self.database.TODOS if todo.owner == user.email)
        other = next(todo.id for todo in self.database.TODOS if todo.owner != user.email)
        with acting_as(Subject("user", user.id)):
            match what:
                case "list_users":
                    return app.list_users(db)
                case "read_user":
                    return app.read_user(db, "beth@the-smiths.com")
                case "list_todos":
                    return app.list_todos(db)
                case "create_todo":
                    return app.create_todo(db, "Learn to knit")
                case "update_own" | "update_other":
                    return app.update_todo(db, own if what == "update_own" else other, done=True)
                case _:
                    return app.delete_todo(db, own if what == "delete_own" else other)

    def content(self) -> list[tuple[Any, ...]]:
        """Everything the database holds."""
        tables = [self.db.execute(f"SELECT * FROM {table} ORDER BY id").fetchall() for table in ("users", "todos")]  # noqa: S608  two constants
        return [row for rows in tables for row in rows]

    def records(self, kind: str) -> list[dict[str, Any]]:
        """The audit records of one kind."""
        lines = [json.loads(line) for line in self.audit_file.read_text().splitlines()]
        return [line for line in lines if line["kind"] == kind]


@pytest.fixture
def todo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Application]:
    """The application on a temporary database."""
    monkeypatch.syspath_prepend(EXAMPLE)
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    application = Application(tmp_path)
    yield application
    application.app.enforcer.close()
    application.db.close()
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture(scope="session")
def scenario(vectors: Path) -> dict[str, Any]:
    """The published requests of the scenario and the answers to them."""
    content: dict[str, Any] = json.loads((vectors / "authzen" / "todo_decisions.json").read_text())
    return content


def test_every_published_decision_matches(todo: Application, scenario: dict[str, Any]) -> None:
    """Each of the scenario's 40 requests, whose subjects have an id only, is answered as published."""
    cases = scenario["evaluation"]
    verdicts = [todo.app.enforcer.check(AccessRequest.from_dict(case["request"])) for case in cases]
    assert len(cases) == 40
    assert [verdict.allowed for verdict in verdicts] == [case["expected"] for case in cases]
    assert all(verdict.fault is None for verdict in verdicts)


def test_every_published_batch_matches(todo: Application, scenario: dict[str, Any]) -> None:
    """Each of the scenario's 3 batches is answered as published, item by item and in order."""
    cases = scenario["evaluations"]
    assert len(cases) == 3
    for case in cases:
        shared = {name: value for name, value in case["request"].items() if name != "evaluations"}
        asked = [AccessRequest.from_dict(shared | item) for item in case["request"]["evaluations"]]
        answers = [{"decision": verdict.allowed} for verdict in todo.app.enforcer.check_many(asked)]
        assert answers == case["expected"]


def test_users_are_those_of_the_scenario(todo: Application, vectors: Path) -> None:
    """The example's users have the scenario's ids, e-mails and roles."""
    published = json.loads((vectors / "authzen" / "todo_users.json").read_text())
    assert {user.id: {"email": user.email, "roles": user.roles} for user in todo.database.USERS} == published


@pytest.mark.parametrize("what", [*READS, *WRITES])
@pytest.mark.parametrize("name", list(ALLOWED))
def test_a_call_runs_exactly_when_it_is_permitted(todo: Application, name: str, what: str) -> None:
    """A denied call raises and changes nothing in the database; either way there is one decision record."""
    before = todo.content()
    if what in ALLOWED[name]:
        todo.call(name, what)
        assert (todo.content() == before) is (what in READS)
    else:
        with pytest.raises(AccessDenied):
            todo.call(name, what)
        assert todo.content() == before
    (record,) = todo.records("decision")
    assert record["subject"]["id"] == todo.user(name).id
    assert record["allowed"] is (what in ALLOWED[name])


def test_permitted_calls_do_what_they_say(todo: Application) -> None:
    """Creating, updating and deleting have their effects, and reading shows them."""
    todo_id = todo.call("Morty", "create_todo")
    todo.call("Morty", "update_own")
    todo.call("Rick", "delete_own")
    found = {found.id: found for found in todo.call("Jerry", "list_todos")}
    assert found[todo_id].owner == "morty@the-citadel.com"
    assert found["2"].done is True
    assert "1" not in found
    assert todo.call("Jerry", "list_users") == todo.database.USERS
    assert todo.call("Jerry", "read_user") == todo.user("Beth")
    assert len(todo.records("decision")) == 6


def test_claimed_roles_are_thrown_away(todo: Application) -> None:
    """A caller who says they are an administrator has the roles of the users table all the same."""
    before = todo.content()
    liar = Subject("user", todo.user("Jerry").id, {"roles": ["admin", "editor"], "email": "rick@the-citadel.com"})
    with acting_as(liar), pytest.raises(AccessDenied) as denied:
        todo.app.delete_todo(todo.db, "1")
    assert denied.value.verdict.decision.effect is Effect.NOT_APPLICABLE
    assert todo.content() == before


def test_a_change_of_roles_takes_effect_at_once(todo: Application) -> None:
    """Roles are looked up for every call, so that no earlier answer outlives them."""
    todo.call("Morty", "update_own")
    with todo.db:
        todo.db.execute("UPDATE users SET roles = '[\"viewer\"]' WHERE name = 'Morty'")
    with pytest.raises(AccessDenied):
        todo.call("Morty", "update_own")


@pytest.mark.parametrize("subject", [None, Subject("user", "stranger"), Subject("robot", "bender")])
@pytest.mark.parametrize("what", ["list_users", "list_todos", "create_todo", "update_todo", "delete_todo"])
def test_strangers_get_nothing(todo: Application, subject: Subject | None, what: str) -> None:
    """Nobody, an unknown id and another type of subject are denied every call, and each denial is on record."""
    before = todo.content()
    arguments: dict[str, tuple[Any, ...]] = {"create_todo": ("x",), "update_todo": ("1",), "delete_todo": ("1",)}
    options = {"done": True} if what == "update_todo" else {}
    with pytest.raises(AccessDenied):
        call_as(subject, getattr(todo.app, what), todo.db, *arguments.get(what, ()), **options)
    assert todo.content() == before
    assert [record["allowed"] for record in todo.records("decision")] == [False]


def test_a_todo_that_is_not_there_is_denied(todo: Application) -> None:
    """A todo without an owner to look up is nobody's to delete, not even an administrator's."""
    with acting_as(Subject("user", todo.user("Rick").id)), pytest.raises(AccessDenied) as denied:
        todo.app.delete_todo(todo.db, "none")
    assert "none" not in str(denied.value)
    assert [record["fault"] for record in todo.records("decision")] == ["extraction"]


def test_unbound_application_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it was started, every call of the application is denied."""
    monkeypatch.syspath_prepend(EXAMPLE)
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    application = __import__("app")
    with acting_as(Subject("user", "anyone")), pytest.raises(DecisionUnavailable):
        application.list_todos(None)
    for name in MODULES:
        sys.modules.pop(name, None)


def test_every_function_of_the_application_is_guarded(todo: Application) -> None:
    """The application has no public function without a guard, and no way around one."""
    found = coverage("app")
    assert len(found.guarded) + len(found.application_level) == 6
    assert (found.unguarded, found.exempt, found.failed, found.warnings) == ((), (), (), ())


def test_demonstration_prints_who_may_do_what(tmp_path: Path) -> None:
    """The demonstration ends well, prints the table, a denial without a traceback, and the audit file."""
    done = subprocess.run(
        [sys.executable, EXAMPLE / "demo.py", tmp_path], capture_output=True, check=False, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert "list_users        permitted 1 permitted 1 permitted 1 permitted 1 permitted 1" in lines
    assert "update_todo own   permitted 3 permitted 4 permitted 4 denied      denied" in lines
    assert "delete_todo other permitted 5 denied      denied      denied      denied" in lines
    assert {"1 everyone-reads", "3 geniuses-update-any", "4 editors-update-own", "5 admins-delete-any"} <= set(lines)
    assert "Traceback" not in done.stdout
    audit_file = tmp_path / "todo-audit.jsonl"
    assert f"The audit file: {audit_file}" in lines
    written = audit_file.read_text().splitlines()
    assert lines[-3:] == written[-3:]
    kinds = [json.loads(line)["kind"] for line in written]
    assert kinds == ["open"] + ["decision"] * 41 + ["close"] * 2
    (message,) = [line for line in lines if line.startswith("AccessDenied: ")]
    assert message == f"AccessDenied: access denied (record {json.loads(written[-3])['id']})"


def test_demonstration_fits_a_terminal(tmp_path: Path) -> None:
    """What it prints besides raw audit records is plain text of at most 80 columns."""
    shown = subprocess.run([sys.executable, EXAMPLE / "demo.py", tmp_path], capture_output=True, check=True).stdout
    lines = [line for line in shown.decode("ascii").splitlines() if not line.startswith(("  {", "The audit file"))]
    assert max(map(len, lines)) <= 80
    assert all(line.isprintable() for line in lines)


def call_as(subject: Subject | None, fn: Any, *args: Any, **options: Any) -> Any:
    """Call a function as somebody, or as nobody at all."""
    if subject is None:
        return fn(*args, **options)
    with acting_as(subject):
        return fn(*args, **options)
