"""Cases say what policies are expected to decide; running them tells what differs, and what they exercise."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.errors import ConfigurationError
from pep.frozen import FrozenDict
from pep.model import AccessRequest, Action, Effect, Obligation, Resource, Subject
from pep.policy import PolicySet, Rule, case_files, context, deny, has, now, permit, resource, subject
from pep.policy.case_files import load_cases
from pep.policy.cases import Case, Duty, run_cases
from pep.policy.files import PolicyFileError
from tests.policy.strategies import policies, requests, timed_conditions

ANN = Subject("user", "ann", {"roles": ["editor"]})
POLICIES = PolicySet(
    [
        permit(
            "owners", action="edit", when=resource.owner == subject.id, obligations=[Obligation("log", {"to": "x"})]
        ),
        permit("readers", action="read", unless=has(resource.secret) | (context.level > 3)),
        deny("frozen", when=has(resource.frozen)),
    ],
    revision="7",
)
CASE = """
[[case]]
subject = "user:ann"
action = "read"
resource = "doc:1"
expect = "permit"
"""


def written(folder: Path, text: str, name: str = "policies.test.toml") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def read(folder: Path, text: str) -> tuple[Case, ...]:
    written(folder, text)
    return load_cases(folder / "policies.toml")


def case(action: str = "edit", effect: Effect = Effect.PERMIT, **expected: object) -> Case:
    request = AccessRequest(ANN, action, Resource("doc", "1", {"owner": "ann"}))
    return Case("it", request, effect, **expected)  # type: ignore[arg-type]


def test_a_case_in_full(tmp_path: Path) -> None:
    """Every part of a request and of what is expected can be written down, by value or by name."""
    text = """
    now = 2030-01-31T12:00:00Z
    [subjects.ann]
    type = "user"
    id = "ann"
    properties = { roles = ["editor"] }
    [resources.paper]
    type = "doc"
    [[case]]
    name = "ann reads"
    subject = "ann"
    action = { name = "read", properties = { how = "twice" } }
    resource = "paper"
    context = { level = 3 }
    actors = ["ann", "service:mail", { type = "agent", id = "7" }]
    tenant = "acme"
    expect = "deny"
    policies = ["frozen"]
    obligations = ["log", { type = "redact", properties = { paths = ["a"] } }, { type = "mail" }]
    [[case]]
    subject = { type = "user", id = "bob" }
    action = "edit"
    resource = "urn:doc:1"
    expect = "not_applicable"
    now = 5
    """
    actors = [ANN, Subject("service", "mail"), Subject("agent", "7")]
    action = Action("read", {"how": "twice"})
    file = str(tmp_path / "policies.test.toml")
    assert read(tmp_path, text) == (
        Case(
            "ann reads",
            AccessRequest(ANN, action, Resource.new("doc"), {"level": 3}, actors, "acme"),
            Effect.DENY,
            frozenset({"frozen"}),
            (Duty("log"), Duty("redact", FrozenDict({"paths": ["a"]})), Duty("mail")),
            1896091200.0,
            file,
            9,
        ),
        Case(
            "bob edit urn",
            AccessRequest(Subject("user", "bob"), "edit", Resource("urn", "doc:1")),
            Effect.NOT_APPLICABLE,
            now=5.0,
            path=file,
            line=20,
        ),
    )


def test_cases_of_a_folder_are_read_by_name(tmp_path: Path) -> None:
    """A folder has the cases of all files in it and below; policies in it are no cases."""
    (tmp_path / "below").mkdir()
    for name in ("b.test.toml", "a.test.toml", "below/c.test.toml"):
        written(tmp_path, CASE, name)
    written(tmp_path, "[[permit]]\nid = 'x'", "policies.toml")
    assert [Path(one.path).name for one in load_cases(tmp_path)] == ["a.test.toml", "b.test.toml", "c.test.toml"]
    assert len(PolicySet.load(tmp_path)) == 1


@pytest.mark.parametrize("text", [None, "", "[subjects.ann]\ntype = 'user'\nid = 'ann'"])
def test_no_cases_are_an_error(tmp_path: Path, text: str | None) -> None:
    """Policies that nobody wrote a case for do not pass by that; the message says where to write one."""
    if text is not None:
        written(tmp_path, text)
    for path in (tmp_path / "policies.toml", tmp_path):
        with pytest.raises(ConfigurationError, match=r"there are no cases for .*test\.toml"):
            load_cases(path)


@pytest.mark.parametrize(
    ("text", "line", "column", "problem"),
    [
        ("x = ", 1, 5, "Invalid value"),
        ("x = 1\ny = =\n", 2, 5, "Invalid value"),
        ("x = '", 1, 6, "nterminated|Expected|expected"),
        ("a = " + "[" * 3000, 1, 1, "too deep"),
        ("a = " + "9" * 5000, 1, 1, "Exceeds the limit|integer"),
        ("cases = 1", 1, 1, "unknown key `cases`"),
        ("case = 1", 1, 1, r"write `\[\[case\]\]`"),
        ("case = [1]", 1, 9, r"write `\[\[case\]\]`"),
        ("subjects = 1", 1, 1, r"write `\[subjects.NAME\]`"),
        ("[resources]\nx = 1", 1, 1, r"write `\[resources.NAME\]`"),
        (CASE + "effect = 'permit'", 7, 1, "unknown key `effect`"),
        ("[[case]]\nsubject = 'user:ann'", 1, 1, "a case needs `action`"),
        (CASE.replace("user:ann", "ann"), 3, 1, "`ann` is no name that is defined here"),
        (CASE.replace("user:ann", "user:"), 3, 1, "TYPE:ID"),
        (CASE.replace('"user:ann"', "1"), 3, 1, "a subject must be a JSON object"),
        (CASE.replace('"user:ann"', "{ id = 'x' }"), 3, 1, "`type` is missing"),
        (CASE.replace('"read"', '"*"'), 4, 1, "may not contain"),
        (CASE.replace('"read"', "[]"), 4, 1, "an action must be a JSON object"),
        (CASE.replace('"doc:1"', "{ type = 'doc', id = '' }"), 5, 1, "must not be empty"),
        (CASE.replace('"permit"', '"allow"'), 6, 1, "must be one of `permit`, `deny`"),
        (CASE.replace('"permit"', "true"), 6, 1, "must be one of"),
        (CASE + "name = ''", 7, 1, "name"),
        (CASE + "context = []", 7, 1, "the context must be a mapping"),
        (CASE + "context = { day = 2030-01-01 }", 7, 1, "is no attribute value"),
        (CASE + "actors = 'user:x'", 7, 1, "this must be a list"),
        (CASE + "tenant = 1", 7, 1, "the tenant"),
        (CASE + "policies = 'a'", 7, 1, "this must be a list"),
        (CASE + "policies = [1]", 7, 1, "ids of rules"),
        (CASE + "obligations = [1]", 7, 1, "an obligation expected is"),
        (CASE + "obligations = [{ type = 1 }]", 7, 1, "an obligation expected is"),
        (CASE + "obligations = [{ type = 'log', id = 'x' }]", 7, 1, "an obligation expected is"),
        (CASE + "now = 'noon'", 7, 1, "date and time with its offset"),
        (CASE + "now = 2030-01-01T00:00:00", 7, 1, "date and time with its offset"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, line: int, column: int, problem: str) -> None:
    """A malformed file of cases is refused with file, line and column."""
    with pytest.raises(PolicyFileError, match=problem) as refused:
        read(tmp_path, text)
    assert (refused.value.path, refused.value.line) == (str(tmp_path / "policies.test.toml"), line)
    assert refused.value.column == column


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no UTF-8, too large, or not to be read at all is a configuration error as well."""
    (tmp_path / "p.test.toml").write_bytes(b"# x\n\xff")
    with pytest.raises(PolicyFileError, match="line 2, column 1: this byte is no UTF-8"):
        load_cases(tmp_path)
    with monkeypatch.context() as patched, pytest.raises(PolicyFileError, match="at most 3 bytes"):
        patched.setattr(case_files, "MAX_CASES_FILE", 3)
        load_cases(tmp_path)
    (tmp_path / "p.test.toml").unlink()
    (tmp_path / "p.test.toml").mkdir()
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_cases(tmp_path)


@pytest.mark.parametrize(
    ("expected", "problem"),
    [
        (case(), None),
        (case(policies=frozenset({"owners"}), obligations=(Duty("log"),)), None),
        (case(obligations=(Duty("log", FrozenDict({"to": "x"})),)), None),
        (case("read", policies=frozenset({"readers"}), obligations=()), "permit, decided indeterminate"),
        (case("list", Effect.NOT_APPLICABLE, policies=frozenset()), None),
        (case("list", Effect.DENY), "expected deny, decided not_applicable"),
        (case(policies=frozenset({"readers"})), "expected to be decided by `readers`, not `owners`"),
        (case(policies=frozenset()), "expected to be decided by none, not `owners`"),
        (case(obligations=()), "expected the obligations none, not `log`"),
        (case(obligations=(Duty("log"), Duty("log"))), "expected the obligations `log`, `log`, not `log`"),
        (case(obligations=(Duty("log", FrozenDict({"to": "y"})),)), "other properties"),
    ],
)
def test_what_differs_from_what_was_expected(expected: Case, problem: str | None) -> None:
    """A case passes when its effect and, where it states them, its policies and obligations are as expected."""
    report = run_cases(POLICIES, [expected])
    (result,) = report.results
    assert result.passed is report.passed is (problem is None)
    assert (problem or "") in "; ".join(result.problems)


def test_obligations_with_properties_choose_first() -> None:
    """Of two duties of one type, the one expected by its properties is not taken by the one expected by type."""
    log = [permit(name, obligations=[Obligation("log", {"to": name})]) for name in ("a", "b")]
    wanted = (Duty("log"), Duty("log", FrozenDict({"to": "a"})))
    assert run_cases(PolicySet(log), [case(obligations=wanted)]).passed


def test_coverage_of_rules_and_comparisons() -> None:
    """A rule is covered once it applied, a comparison once it was seen both true and false."""
    report = run_cases(POLICIES, [case()])
    assert report.rules == {"frozen": False, "owners": True, "readers": False}
    assert report.unused == ("frozen", "readers")
    assert [(leaf.rule, leaf.clause, leaf.index, leaf.text, leaf.missing) for leaf in report.leaves] == [
        ("frozen", "when", 0, "has(resource.frozen)", ("true",)),
        ("owners", "when", 0, "resource.owner == subject.id", ("false",)),
        ("readers", "unless", 0, "has(resource.secret)", ("true", "false")),
        ("readers", "unless", 1, "context.level > 3", ("true", "false")),
    ]
    told = report.to_dict()
    assert told["coverage"]["rules"] == {"all": 3, "seen": 1}
    assert told["coverage"]["values"] == {"all": 8, "seen": 2}
    assert len(told["coverage"]["leaves_not_seen"]) == 4
    assert told["coverage"]["leaves_not_seen"][0]["seen_false"] is True
    assert told["cases"] == [
        {"name": "it", "file": "<case>", "line": 1, "passed": True, "effect": "permit", "policies": ["owners"]}
    ]
    failed = run_cases(POLICIES, [case(effect=Effect.DENY)]).to_dict()
    assert (failed["passed"], failed["cases"][0]["problems"]) == (False, ["expected deny, decided permit"])


def test_what_is_unknown_covers_nothing() -> None:
    """A rule whose condition is unknown did not apply, and its comparison was neither true nor false."""
    asked = Case("it", AccessRequest(ANN, "edit", Resource("doc", "1")), Effect.INDETERMINATE)
    report = run_cases(POLICIES, [asked])
    assert report.passed
    assert report.rules["owners"] is False
    assert {leaf.rule: leaf.missing for leaf in report.leaves}["owners"] == ("true", "false")


@given(policies(timed_conditions), st.lists(requests, min_size=1, max_size=4))
def test_more_cases_never_cover_less(rules: list[Rule], asked: list[AccessRequest]) -> None:
    """What some cases covered stays covered with more of them; what was decided is expected of itself."""
    one = PolicySet(rules, clock=lambda: 4.0)
    cases = [Case("it", request, one.decide(request).effect, now=4.0) for request in asked]
    few, all_of_them = run_cases(one, cases[:1]), run_cases(one, cases)
    assert all_of_them.passed
    assert all(all_of_them.rules[name] for name, seen in few.rules.items() if seen)
    assert all(
        set(more.missing) <= set(less.missing) for less, more in zip(few.leaves, all_of_them.leaves, strict=True)
    )


def test_the_moment_is_the_one_that_a_case_states() -> None:
    """Policies that read the clock are decided at the case's moment, and refused without one."""
    timed = PolicySet([permit("early", when=now.before(100, skew=0))])
    assert run_cases(timed, [case(now=5.0), case(effect=Effect.NOT_APPLICABLE, now=500.0)]).passed
    with pytest.raises(ConfigurationError, match="`<case>`, line 1: these policies read the clock; state `now`"):
        run_cases(timed, [case()])


def test_progress_is_told_after_each_case() -> None:
    """Whoever waits learns how many cases of how many were run."""
    told: list[tuple[int, int]] = []
    run_cases(POLICIES, [case(), case()], lambda done, of: told.append((done, of)))
    assert told == [(1, 2), (2, 2)]
