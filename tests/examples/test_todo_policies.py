"""The todo example's policies as a file: they decide as those in Python do, and their own cases pass."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pep.cli.app import app
from pep.model import AccessRequest, Effect
from pep.policy import PolicySet

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "todo"


@pytest.fixture(scope="module")
def loaded() -> PolicySet:
    """The policies in the file."""
    return PolicySet.load(EXAMPLE / "policies.toml")


@pytest.fixture(scope="module")
def built() -> PolicySet:
    """The policies in Python."""
    found: PolicySet = runpy.run_path(str(EXAMPLE / "policies.py"))["POLICIES"]
    return found


def published(vectors: Path, name: str) -> Any:
    return json.loads((vectors / "authzen" / name).read_text(encoding="utf-8"))


def asked(request: dict[str, Any], users: dict[str, Any]) -> AccessRequest:
    """A published request, with what the users table knows of its subject."""
    who = request["subject"]
    return AccessRequest.from_dict({**request, "subject": {**who, "properties": users[who["id"]]}})


def test_every_published_decision(vectors: Path, loaded: PolicySet, built: PolicySet) -> None:
    """Each of the scenario's 40 requests is answered as published, and alike by both in all but the revision."""
    users, cases = published(vectors, "todo_users.json"), published(vectors, "todo_decisions.json")["evaluation"]
    assert len(cases) == 40
    for case in cases:
        request = asked(case["request"], users)
        one, other = loaded.decide(request), built.decide(request)
        assert (one.effect is Effect.PERMIT) == case["expected"]
        assert (one.effect, one.policies, one.obligations) == (other.effect, other.policies, other.obligations)


def test_every_published_batch(vectors: Path, loaded: PolicySet, built: PolicySet) -> None:
    """Each of the scenario's 3 batches is answered as published, and alike by both."""
    users, cases = published(vectors, "todo_users.json"), published(vectors, "todo_decisions.json")["evaluations"]
    assert len(cases) == 3
    for case in cases:
        shared = {name: value for name, value in case["request"].items() if name != "evaluations"}
        requests = [asked(shared | item, users) for item in case["request"]["evaluations"]]
        one, other = loaded.decide_many(requests), built.decide_many(requests)
        assert [{"decision": decision.effect is Effect.PERMIT} for decision in one] == case["expected"]
        assert [decision.effect for decision in one] == [decision.effect for decision in other]


def test_the_rules_are_the_same(loaded: PolicySet, built: PolicySet) -> None:
    """Both have the same rules but for their reasons, which the file states."""
    assert [(rule.id, rule.effect, rule.actions, rule.condition) for rule in loaded.rules] == [
        (rule.id, rule.effect, rule.actions, rule.condition) for rule in built.rules
    ]


def test_check_finds_nothing() -> None:
    """The example has no findings, not even warnings."""
    result = CliRunner().invoke(app, ["policy", "check", str(EXAMPLE), "--strict"])
    assert (result.exit_code, result.stdout) == (0, "6 rules, 0 errors, 0 warnings\n")


def test_cases_pass_and_cover_everything() -> None:
    """The example's cases pass, and exercise every rule and both values of every comparison."""
    result = CliRunner().invoke(app, ["policy", "test", str(EXAMPLE)])
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-2:] == [
        "14 of 14 cases passed",
        "6 of 6 rules applied, 16 of 16 values of comparisons seen",
    ]
