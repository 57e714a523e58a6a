"""
``pep policy``: check, explain, test and compare policies in files.

Imports typer and the policies.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

import orjson
import typer

from pep.cli.showing import PLAIN, Row, fail, on_terminal, progress, write_json, write_rows
from pep.errors import ConfigurationError, ExtractionError
from pep.model import AccessRequest, Resource, Subject
from pep.policy.case_files import entity, load_cases
from pep.policy.cases import LeafCoverage, Report, run_cases
from pep.policy.difference import Compared, Tally, differences
from pep.policy.explain import Explanation, Part
from pep.policy.files import PolicyFileError
from pep.policy.lint import Finding, Severity, lint
from pep.policy.policies import PolicySet
from pep.policy.requests import read_requests
from pep.policy.values import instant

app = typer.Typer(help="Check, explain, test and compare policies in files.", no_args_is_help=True)

_PATH: Final = typer.Argument(metavar="PATH", help="A policy file, or a folder of them.")
_NOW: Final = typer.Option(metavar="TIME", help="The moment of decisions, as RFC 3339; the present one if not given.")
_JSON: Final = typer.Option("--json", help="Write JSON.")
_GOOD, _BAD, _DOUBT = "green", "bold red", "yellow"
_EFFECTS: Final = {"permit": _GOOD, "deny": _BAD, "not_applicable": _DOUBT, "indeterminate": "magenta"}
_TRUTHS: Final = {True: "true", False: "false", None: "unknown"}
_SIGNS: Final = {True: _GOOD, False: "red", None: _DOUBT}
_SEVERITIES: Final = {Severity.ERROR: _BAD, Severity.WARNING: _DOUBT}


@app.command()
def check(
    path: Annotated[str, _PATH],
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on warnings, too.")] = False,
    json: Annotated[bool, _JSON] = False,
) -> None:
    """Load policies, and look for rules that are probably wrong."""
    with _told():
        policies = _load(path)
    with progress("findings") as told:
        findings = lint(policies, progress=told)
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    if json:
        write_json(
            {"revision": policies.revision, "rules": len(policies), "findings": [one.to_dict() for one in findings]}
        )
    else:
        summary = f"{len(policies)} rules, {errors} errors, {len(findings) - errors} warnings"
        write_rows(("", "rule", "finding", ""), map(_finding_row, findings), [summary])
    if errors or (strict and findings):
        raise typer.Exit(1)


@app.command()
def explain(
    path: Annotated[str, _PATH],
    *,
    subject: Annotated[str, typer.Option(metavar="TYPE:ID|JSON", help="Who asks.")],
    action: Annotated[str, typer.Option(metavar="NAME|JSON", help="To do what.")],
    resource: Annotated[str, typer.Option(metavar="TYPE:ID|JSON", help="To what; JSON without an id is a new one.")],
    context: Annotated[str, typer.Option(metavar="JSON", help="In which circumstances.")] = "{}",
    now: Annotated[str | None, _NOW] = None,
    json: Annotated[bool, _JSON] = False,
) -> None:
    """Explain how a request is decided: each rule that is about it, and every part of its condition."""
    with _told():
        request = _request(subject, action, resource, context)
        explanation = _load(path, _moment(now)).explain(request)
    lines = explanation.to_text().splitlines()
    if json:
        write_json(explanation.to_dict())
    elif on_terminal():
        write_rows(("", "rule", "applies", "part", "missing"), _explained(explanation), lines[:1])
    else:
        write_rows((), (((line,), PLAIN) for line in lines), ())


@app.command("test")
def run(path: Annotated[str, _PATH], *, json: Annotated[bool, _JSON] = False) -> None:
    """Decide the cases in ``*.test.toml`` beside policies, and tell what of the policies they exercise."""
    with _told():
        policies = _load(path)
        cases = load_cases(path)
        with progress("cases") as told:
            report = run_cases(policies, cases, told)
    if json:
        write_json(report.to_dict())
    else:
        write_rows(("", "case or rule", "where", ""), _report_rows(report), _report_summary(report))
    if not report.passed:
        raise typer.Exit(1)


@app.command()
def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help="A policy file, or a folder of them.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The other version.")],
    *,
    requests: Annotated[
        str, typer.Option(metavar="FILE", help="AuthZEN requests as JSON lines or a JSON array, or an audit log.")
    ],
    now: Annotated[str | None, _NOW] = None,
    fail_on_change: Annotated[bool, typer.Option("--fail-on-change", help="Exit with 1 on any change.")] = False,
    json: Annotated[bool, _JSON] = False,
) -> None:
    """Tell which decisions change between two versions of policies."""
    tally = Tally()
    with _told():
        moment = _moment(now)
        before, after = _load(old, moment), _load(new, moment)
        with progress("requests") as told:
            changes = differences(before, after, read_requests(requests, told), tally)
            if json:
                _write_changes(changes, tally, before, after)
            else:
                _show_changes(changes, tally)
    if fail_on_change and tally.changed:
        raise typer.Exit(1)


@contextmanager
def _told() -> Iterator[None]:
    """Tell what is wrong with files and arguments, without a traceback."""
    try:
        yield
    except PolicyFileError as error:
        fail(f"{error.path}:{error.line}:{error.column}: {error.problem}")
    except (ConfigurationError, ExtractionError) as error:
        fail(str(error))


def _load(path: str, moment: float = 0.0) -> PolicySet:
    with progress("rules") as told:
        return PolicySet.load(path, clock=lambda: moment, progress=told)


def _moment(now: str | None) -> float:
    """Read the moment of all decisions; the present one if none is given."""
    moment = time.time() if now is None else instant(now)
    if moment is None:
        message = "`--now` must be a date and time with its offset, as in `2030-01-31T12:00:00Z`"
        raise ConfigurationError(message)
    return moment


def _request(subject: str, action: str, resource: str, context: str) -> AccessRequest:
    return AccessRequest.from_dict({
        "subject": Subject.from_dict(entity(_json(subject, "--subject"), {})).to_dict(),
        "action": {"name": action} if action[:1] != "{" else _json(action, "--action"),
        "resource": Resource.from_dict(entity(_json(resource, "--resource"), {})).to_dict(),
        "context": _json(context, "--context"),
    })  # fmt: skip


def _json(text: str, option: str) -> Any:  # noqa: ANN401  JSON has no narrower type
    if text[:1] != "{":
        return text
    try:
        return orjson.loads(text)
    except ValueError as error:
        message = f"`{option}` is no JSON: {error}"
        raise ConfigurationError(message) from None


def _finding_row(finding: Finding) -> Row:
    cells = (finding.severity.value, finding.rule, finding.code, finding.message)
    return cells, _SEVERITIES[finding.severity]


def _explained(explanation: Explanation) -> Iterator[Row]:
    """Make the rows of an explanation: what decided comes first, what does not apply last."""
    for one in sorted(explanation.candidates, key=lambda one: (not one.decided, one.truth is False, one.id)):
        name = f"{one.effect.value} {one.id}"
        head = ("*" if one.decided else "", name, _TRUTHS[one.truth], one.reason or "", "")
        yield head, _EFFECTS[one.effect.value] if one.decided else PLAIN
        for clause, part in (("when", one.when), ("unless", one.unless)):
            if part is not None:
                yield from _parts(part, clause, "")


def _parts(part: Part, clause: str, indent: str) -> Iterator[Row]:
    missing = f"missing: {', '.join(part.missing)}" if part.missing else ""
    yield ("", f"  {clause}", _TRUTHS[part.truth], indent + part.text, missing), _SIGNS[part.truth]
    for below in part.parts:
        yield from _parts(below, clause, indent + "  ")


def _report_rows(report: Report) -> Iterator[Row]:
    for result in report.results:
        sign, style = ("passed", _GOOD) if result.passed else ("failed", _BAD)
        where = f"{result.case.path}:{result.case.line}"
        yield (sign, result.case.name, where, "; ".join(result.problems)), style
    for rule in report.unused:
        yield ("never applied", rule, "", ""), _DOUBT
    for leaf in report.leaves:
        if leaf.missing:
            yield _leaf_row(leaf), _DOUBT


def _leaf_row(leaf: LeafCoverage) -> tuple[str, ...]:
    return f"never {' or '.join(leaf.missing)}", leaf.rule, leaf.clause, leaf.text


def _report_summary(report: Report) -> list[str]:
    passed = sum(result.passed for result in report.results)
    rules, values = len(report.rules), 2 * len(report.leaves)
    seen = values - sum(len(leaf.missing) for leaf in report.leaves)
    return [
        f"{passed} of {len(report.results)} cases passed",
        f"{rules - len(report.unused)} of {rules} rules applied, {seen} of {values} values of comparisons seen",
    ]


def _write_changes(changes: Iterator[Compared], tally: Tally, old: PolicySet, new: PolicySet) -> None:
    """Write changes as they come, so that there may be any number of them."""
    head = orjson.dumps({"old": old.revision, "new": new.revision}).decode()
    separator, opening = "", f'{head[:-1]},"changes":['
    for change in changes:
        typer.echo(opening + separator)
        typer.echo(orjson.dumps(change.to_dict()), nl=False)
        separator, opening = ",", ""
    typer.echo(f"{opening}],{orjson.dumps(tally.to_dict()).decode()[1:]}")


def _show_changes(changes: Iterator[Compared], tally: Tally) -> None:
    write_rows(("line", "subject", "action", "resource", "old", "new"), map(_change_row, changes), ())
    typer.echo(f"{tally.changed} of {tally.requests} decisions change")
    if tally.incomplete:
        typer.echo(
            f"incomplete: the audit log masks {tally.masked} attributes of {tally.incomplete} requests; both versions "
            "decide those as if the attributes were missing, so changes may be hidden, or shown that are none"
        )
    if tally.skipped:
        typer.echo(f"incomplete: {tally.skipped} records tell of no decision on a single request, or are cut short")


def _change_row(change: Compared) -> Row:
    told = change.to_dict()
    who, what = (":".join(filter(None, (told[name]["type"], told[name].get("id")))) for name in ("subject", "resource"))
    cells = (str(told["line"]), who, told["action"], what, _answer(told["old"]), _answer(told["new"]))
    return cells, _EFFECTS[change.new.effect.value]


def _answer(told: dict[str, Any]) -> str:
    parts = [told["effect"]]
    if told["policies"]:
        parts.append(f"by {', '.join(told['policies'])}")
    duties = [*told.get("obligations", ()), *told.get("advice", ())]
    if duties:
        parts.append(f"with {', '.join(duties)}")
    return " ".join(parts)
