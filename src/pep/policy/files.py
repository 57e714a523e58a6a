"""
Policies in files: TOML or JSON, read strictly, with the line and column of whatever is wrong.

Imports rules and the text form of conditions.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

import attrs

from pep.errors import ConfigurationError, PEPError
from pep.model import Obligation
from pep.policy.condition import Condition
from pep.policy.locate import Place, Places, line_and_column
from pep.policy.parse import ConditionError, parse
from pep.policy.rule import Rule, deny, permit

#: How many bytes one file may have.
MAX_FILE: Final = 128 * 1024 * 1024
#: How many parts a dotted key may have: `tomllib` takes time by their square.
MAX_KEY_PARTS: Final = 32

#: Called with how many rules were read, and how many there are.
Progress = Callable[[int, int], None]

_RULE_KEYS: Final = frozenset(
    {"id", "action", "resource", "subject", "when", "unless", "obligations", "advice", "reason"}
)
_OBLIGATION_KEYS: Final = frozenset({"type", "properties", "id"})
_MAKERS: Final[dict[str, Callable[..., Rule]]] = {"permit": permit, "deny": deny}
_TOML: Final = "tomllib" if sys.version_info >= (3, 11) else "tomli"
_PART: Final = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_LONG_KEY: Final = re.compile(
    rf"^[ \t]*\[{{0,2}}[ \t]*{_PART}(?:[ \t]*\.[ \t]*{_PART}){{{MAX_KEY_PARTS}}}", re.MULTILINE
)
_LONG_NUMBER: Final = re.compile(r"[0-9_]{1000}")
_TOML_PLACE: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_PROGRESS_STEP: Final = 1000


class PolicyFileError(ConfigurationError):
    """
    A policy file could not be loaded.

    Attributes:
        problem: What is wrong, without the place.

        path: Which file.

        line: Where, counted from 1.

        column: Where in the line, counted in characters from 1.
    """

    def __init__(self, problem: str, path: str, line: int, column: int) -> None:
        super().__init__(f"`{path}`, line {line}, column {column}: {problem}")
        self.problem = problem
        self.path = path
        self.line = line
        self.column = column

    def __reduce__(self) -> tuple[Any, ...]:
        return PolicyFileError, (self.problem, self.path, self.line, self.column)


@attrs.frozen
class Loaded:
    """The rules of one or several files, and the revision one of them states."""

    rules: tuple[Rule, ...]
    revision: str | None


def load(path: str | Path, progress: Progress | None = None) -> Loaded:
    """
    Read one policy file, or all of a folder and those below it.

    Args:
        path: A ``.toml`` or ``.json`` file, or a folder; in a folder, ``*.test.toml`` are no policies.

        progress: Told now and then how many rules of how many were read.

    Returns:
        The rules, in no particular order.

    Raises:
        PolicyFileError: On anything malformed, with file, line and column.

        ConfigurationError: When there is no such file, or no policy file in the folder.
    """
    return assemble([_Document.read(file) for file in policy_files(Path(path))], progress)


def policy_files(path: Path) -> list[Path]:
    """
    List the files policies are read from, in order of their names.

    Raises:
        ConfigurationError: When there are none.
    """
    if path.is_file():
        return [path]
    found = sorted(one for kind in ("*.toml", "*.json") for one in path.rglob(kind) if one.is_file())
    found = [one for one in found if not one.name.endswith(".test.toml")]
    if not found:
        message = f"`{path}` is no policy file, and no folder that has any; they end in `.toml` or `.json`"
        raise ConfigurationError(message)
    return found


def loads(text: str, *, toml: bool = True, path: str = "<text>") -> Loaded:
    """Read policies from text; *path* is what a message calls it."""
    return assemble([_Document(path, text, toml=toml)], None)


def assemble(documents: Sequence[_Document], progress: Progress | None) -> Loaded:
    """Read the rules of several documents."""
    found = [(document, document.parse()) for document in documents]
    total = sum(len(table.get(kind, ())) for _, table in found for kind in _MAKERS)
    rules: dict[str, Rule] = {}
    revisions = []
    for document, table in found:
        if "revision" in table:
            revisions.append((document, table["revision"]))
        for place, rule in _rules(document, table):
            if rule.id in rules:
                document.fail(f"the id `{rule.id}` is taken; ids are unique in a policy set", (*place, "id"))
            rules[rule.id] = rule
            if progress is not None and len(rules) % _PROGRESS_STEP == 0:
                progress(len(rules), total)
    if progress is not None:
        progress(total, total)
    if len(revisions) > 1:
        revisions[1][0].fail("a revision is stated by another file already", ("revision",))
    return Loaded(tuple(rules.values()), revisions[0][1] if revisions else None)


class _Document:
    """One file's text, and where things stand in it."""

    __slots__ = ("_path", "_text", "_toml")

    def __init__(self, path: str, text: str, *, toml: bool) -> None:
        self._path = path
        self._text = text
        self._toml = toml

    @classmethod
    def read(cls, path: Path) -> _Document:
        toml = path.suffix == ".toml"
        if not toml and path.suffix != ".json":
            message = f"`{path}` is no policy file; they end in `.toml` or `.json`"
            raise ConfigurationError(message)
        try:
            content = path.read_bytes() if path.stat().st_size <= MAX_FILE else None
        except OSError as error:
            message = f"cannot read `{path}`: {error.strerror}"
            raise ConfigurationError(message) from error
        if content is None:
            problem = f"a policy file may have at most {MAX_FILE} bytes"
            raise PolicyFileError(problem, str(path), 1, 1)
        try:
            return cls(str(path), content.decode(), toml=toml)
        except UnicodeDecodeError as error:
            before = content[: error.start].decode()
            line, column = line_and_column(before, len(before))
            problem = "this byte is no UTF-8"
            raise PolicyFileError(problem, str(path), line, column) from None

    def parse(self) -> Mapping[str, Any]:
        """Parse the text, and check the outermost table."""
        table = self._parse_toml() if self._toml else self._parse_json()
        if type(table) is not dict:
            self.fail("a policy file is a table with `permit` and `deny`", ())
        for name, value in table.items():
            if name == "revision":
                if type(value) is not str or not value:
                    self.fail("a revision must be a text, and not empty", (name,))
            elif name not in _MAKERS:
                self.fail(f"unknown key `{name}`; a policy file has `permit`, `deny` and `revision`", (name,))
            elif type(value) is not list:
                self.fail(f"`{name}` must be a list of rules; in TOML write `[[{name}]]`", (name,))
        return table

    def fail(self, problem: str, place: Place) -> NoReturn:
        """Refuse what stands at a place."""
        self._fail_at(problem, Places(self._text, toml=self._toml).of(place))

    def fail_within(self, error: ConditionError, text: str, place: Place) -> NoReturn:
        """Refuse a part of the text at a place."""
        lines = re.split("\r\n|\r|\n", text)
        index = sum(len(line) + 1 for line in lines[: error.line - 1]) + error.column - 1
        self._fail_at(error.problem, Places(self._text, toml=self._toml).within(place, index))

    def _fail_at(self, problem: str, offset: int) -> NoReturn:
        raise PolicyFileError(problem, self._path, *line_and_column(self._text, offset))

    def _parse_toml(self) -> dict[str, Any]:
        long = _LONG_KEY.search(self._text)
        if long is not None:
            self._fail_at(f"a key may have at most {MAX_KEY_PARTS} parts", long.start())
        try:
            table: dict[str, Any] = import_module(_TOML).loads(self._text)
        except RecursionError:
            self._fail_at("this nests too deep", _deepest(self._text))
        except ValueError as error:
            self._fail_toml(str(error))
        return table

    def _fail_toml(self, problem: str) -> NoReturn:
        place = _TOML_PLACE.search(problem)
        if place is None:
            found = _LONG_NUMBER.search(self._text)
            self._fail_at("this is no number a policy can hold", 0 if found is None else found.start())
        problem = _TOML_PLACE.sub("", problem)
        if place[1] is None:
            self._fail_at(problem, len(self._text))
        raise PolicyFileError(problem, self._path, int(place[1]), int(place[2])) from None

    def _parse_json(self) -> Any:  # noqa: ANN401  JSON has no narrower type
        try:
            return json.loads(self._text, object_pairs_hook=_unique, parse_constant=_no_constant)
        except json.JSONDecodeError as error:
            self._fail_at(error.msg, error.pos)
        except _DuplicateKeyError as error:
            at = Places(self._text, toml=False).duplicate
            self._fail_at(f"the key `{error}` is there twice", at or 0)
        except RecursionError:
            self._fail_at("this nests too deep", _deepest(self._text))
        except ValueError as error:
            found = re.search(r"-?Infinity|NaN", self._text) or _LONG_NUMBER.search(self._text)
            self._fail_at(f"this is no number a policy can hold: {error}", 0 if found is None else found.start())


class _DuplicateKeyError(ValueError):
    """A JSON object had a key twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateKeyError(next(name for name in names if names.count(name) > 1))
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _deepest(text: str) -> int:
    """Return the offset where brackets first nest as deep as they do anywhere; strings are not told apart."""
    depth, deepest, place = 0, 0, 0
    for found in re.finditer(r"[\[{\]}]", text):
        depth += 1 if found[0] in "[{" else -1
        if depth > deepest:
            deepest, place = depth, found.start()
    return place


def _rules(document: _Document, table: Mapping[str, Any]) -> Iterator[tuple[Place, Rule]]:
    for kind, make in _MAKERS.items():
        for index, entry in enumerate(table.get(kind, ())):
            place = (kind, index)
            yield place, _rule(document, make, entry, place)


def _rule(document: _Document, make: Callable[..., Rule], entry: Any, place: Place) -> Rule:  # noqa: ANN401
    if type(entry) is not dict:
        document.fail("a rule must be a table", place)
    for name in entry:
        if name not in _RULE_KEYS:
            document.fail(f"unknown key `{name}`; a rule has `{'`, `'.join(sorted(_RULE_KEYS))}`", (*place, name))
    parts: dict[str, Any] = dict(entry)
    for name in ("when", "unless"):
        if name in parts:
            parts[name] = _condition(document, parts[name], (*place, name))
    for name in ("obligations", "advice"):
        if name in parts:
            parts[name] = _duties(document, parts[name], (*place, name))
    identity = parts.pop("id", None)
    if identity is None:
        document.fail("a rule needs an `id`", place)
    try:
        return make(identity, **parts)
    except ConfigurationError as error:
        document.fail(str(error), (*place, _culprit(make, parts)))


def _culprit(make: Callable[..., Rule], parts: Mapping[str, Any]) -> str:
    """Name the part that alone is refused, so that the error points at it."""
    for name, value in parts.items():
        try:
            make("id", **{name: value})
        except ConfigurationError:
            return name
    return "id"


def _condition(document: _Document, text: Any, place: Place) -> Condition:  # noqa: ANN401  whatever the file says
    if type(text) is not str:
        document.fail('a condition is written as text, as in `"resource.owner == subject.id"`', place)
    try:
        return parse(text)
    except ConditionError as error:
        document.fail_within(error, text, place)


def _duties(document: _Document, entries: Any, place: Place) -> list[Obligation]:  # noqa: ANN401  likewise
    if type(entries) is not list:
        document.fail(f"`{place[-1]}` must be a list of tables", place)
    return [_duty(document, entry, (*place, index)) for index, entry in enumerate(entries)]


def _duty(document: _Document, entry: Any, place: Place) -> Obligation:  # noqa: ANN401  likewise
    if type(entry) is not dict or "type" not in entry:
        document.fail("an obligation is a table with a `type`", place)
    for name in entry:
        if name not in _OBLIGATION_KEYS:
            document.fail(f"unknown key `{name}`; an obligation has `type`, `properties` and `id`", (*place, name))
    try:
        return Obligation(**entry)
    except PEPError as error:
        document.fail(str(error), place)
