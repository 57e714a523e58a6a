"""
Files of cases: TOML, read strictly, with the line and column of whatever is wrong.

Imports cases and what reads policy files.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

import attrs

from pep.errors import ConfigurationError, ExtractionError
from pep.frozen import freeze_mapping
from pep.model import AccessRequest, Action, Effect, Resource, Subject
from pep.policy.cases import Case, Duty
from pep.policy.files import PolicyFileError
from pep.policy.locate import Place, Places, line_and_column
from pep.policy.values import instant

#: How many bytes one file of cases may have.
MAX_CASES_FILE: Final = 16 * 1024 * 1024

_TOML: Final = "tomllib" if sys.version_info >= (3, 11) else "tomli"
_TOML_PLACE: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_FILE_KEYS: Final = frozenset({"case", "subjects", "resources", "now"})
_CASE_KEYS: Final = frozenset(
    {"name", "subject", "action", "resource", "context", "actors", "tenant", "expect", "policies", "obligations", "now"}
)
_EFFECTS: Final = {effect.value: effect for effect in Effect}


def load_cases(path: str | Path) -> tuple[Case, ...]:
    """
    Read the cases that stand beside policies.

    Args:
        path: A policy file, whose cases are in the file of the same name that ends in ``.test.toml``; or a folder,
            with all such files in it and below.

    Returns:
        The cases, in the order of the files' names.

    Raises:
        PolicyFileError: On anything malformed, with file, line and column.

        ConfigurationError: When there are no cases.
    """
    place = Path(path)
    if place.is_dir():
        wanted, files = place / "*.test.toml", sorted(place.rglob("*.test.toml"))
    else:
        wanted = place.parent / f"{place.stem}.test.toml"
        files = [wanted] if wanted.is_file() else []
    found = tuple(case for file in files for case in read_cases(file))
    if not found:
        message = f"there are no cases for `{path}`; write `[[case]]` in `{wanted}`"
        raise ConfigurationError(message)
    return found


def read_cases(path: Path) -> Iterator[Case]:
    """
    Read one file of cases.

    Raises:
        PolicyFileError: On anything malformed, with file, line and column.

        ConfigurationError: When it cannot be read.
    """
    file = _File(str(path), _text(path))
    table = file.parse()
    file.known(table, _FILE_KEYS, ())
    people, things = file.table(table, "subjects"), file.table(table, "resources")
    cases = table.get("case", [])
    if type(cases) is not list:
        file.fail("`case` must be a list of tables; write `[[case]]`", ("case",))
    for index, entry in enumerate(cases):
        place = ("case", index)
        if type(entry) is not dict:
            file.fail("a case must be a table; write `[[case]]`", place)
        yield _Reader(file, place, {"now": table["now"], **entry} if "now" in table else entry, people, things).case()


def _text(path: Path) -> str:
    try:
        content = path.read_bytes() if path.stat().st_size <= MAX_CASES_FILE else None
    except OSError as error:
        message = f"cannot read `{path}`: {error.strerror}"
        raise ConfigurationError(message) from error
    if content is None:
        problem = f"a file of cases may have at most {MAX_CASES_FILE} bytes; split it"
        raise PolicyFileError(problem, str(path), 1, 1)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start].decode()
        problem = "this byte is no UTF-8"
        raise PolicyFileError(problem, str(path), *line_and_column(before, len(before))) from None


@attrs.frozen
class _File:
    """One file's text, and where things stand in it."""

    path: str
    text: str
    _places: list[Places] = attrs.field(factory=list, repr=False)

    def parse(self) -> dict[str, Any]:
        try:
            table: dict[str, Any] = import_module(_TOML).loads(self.text)
        except RecursionError:
            self._refuse("this nests too deep", 1, 1)
        except ValueError as error:
            self._fail_toml(str(error))
        return table

    def known(self, table: Mapping[str, Any], names: frozenset[str], place: Place) -> None:
        for name in table:
            if name not in names:
                self.fail(f"unknown key `{name}`; there are `{'`, `'.join(sorted(names))}`", (*place, name))

    def table(self, table: Mapping[str, Any], name: str) -> dict[str, Any]:
        found = table.get(name, {})
        if type(found) is not dict or any(type(value) is not dict for value in found.values()):
            self.fail(f"`{name}` holds tables by name; write `[{name}.NAME]`", (name,))
        return found

    def line(self, place: Place) -> int:
        return line_and_column(self.text, self._offset(place))[0]

    def fail(self, problem: str, place: Place) -> NoReturn:
        self._refuse(problem, *line_and_column(self.text, self._offset(place)))

    def _offset(self, place: Place) -> int:
        # Scanned once, when a place is first asked for.
        if not self._places:
            self._places.append(Places(self.text, toml=True))
        return self._places[0].of(place)

    def _fail_toml(self, problem: str) -> NoReturn:
        place = _TOML_PLACE.search(problem)
        if place is None or place[1] is None:
            line, column = line_and_column(self.text, 0 if place is None else len(self.text))
        else:
            line, column = int(place[1]), int(place[2])
        self._refuse(_TOML_PLACE.sub("", problem), line, column)

    def _refuse(self, problem: str, line: int, column: int) -> NoReturn:
        raise PolicyFileError(problem, self.path, line, column) from None


@attrs.frozen
class _Reader:
    """Reads one case."""

    _file: _File
    _place: Place
    _entry: dict[str, Any]
    _people: dict[str, Any]
    _things: dict[str, Any]

    def case(self) -> Case:
        self._file.known(self._entry, _CASE_KEYS, self._place)
        for name in ("subject", "action", "resource", "expect"):
            if name not in self._entry:
                self._file.fail(f"a case needs `{name}`", self._place)
        request = self._request()
        effect = self._read("expect", _effect)
        default = f"{request.subject.id} {request.action.name} {request.resource.type}"
        return Case(
            self._read("name", _name, default),
            request,
            effect,
            self._read("policies", _ids, None),
            self._read("obligations", _duties, None),
            self._read("now", _moment, None),
            self._file.path,
            self._file.line(self._place),
        )

    def _request(self) -> AccessRequest:
        subject = self._read("subject", lambda told: Subject.from_dict(entity(told, self._people)))
        action = self._read("action", lambda told: Action(told) if type(told) is str else Action.from_dict(told))
        resource = self._read("resource", lambda told: Resource.from_dict(entity(told, self._things)))
        context = self._read("context", lambda told: freeze_mapping(told, what="the context"), {})
        actors = self._read("actors", self._actors, [])
        try:
            return AccessRequest(subject, action, resource, context, actors, self._entry.get("tenant"))
        except ExtractionError as error:
            self._file.fail(str(error), (*self._place, "tenant"))

    def _actors(self, told: object) -> list[Subject]:
        return [Subject.from_dict(entity(one, self._people)) for one in _list(told)]

    def _read(self, name: str, read: Callable[[Any], Any], default: Any = None) -> Any:  # noqa: ANN401  a value of any type
        if name not in self._entry:
            return default
        try:
            return read(self._entry[name])
        except (ExtractionError, ConfigurationError) as error:
            self._file.fail(str(error), (*self._place, name))


def entity(told: Any, named: Mapping[str, Any]) -> Any:  # noqa: ANN401  what a file or command line says
    """
    Read ``TYPE:ID``, or a name, as the AuthZEN JSON of a subject or resource; anything else stays as it is.

    Raises:
        ConfigurationError: On a text that is neither.
    """
    if type(told) is not str:
        return told
    if told in named:
        return named[told]
    kind, _, identity = told.partition(":")
    if not kind or not identity:
        message = f"`{told}` is no name that is defined here, and not of the form `TYPE:ID`"
        raise ConfigurationError(message)
    return {"type": kind, "id": identity}


def _name(told: object) -> str:
    if type(told) is not str or not told:
        message = "a case's name must be a text, and not empty"
        raise ConfigurationError(message)
    return told


def _effect(told: object) -> Effect:
    if type(told) is not str or told not in _EFFECTS:
        message = f"what is expected must be one of `{'`, `'.join(_EFFECTS)}`"
        raise ConfigurationError(message)
    return _EFFECTS[told]


def _list(told: object) -> list[Any]:
    if type(told) is not list:
        message = "this must be a list"
        raise ConfigurationError(message)
    return told


def _ids(told: object) -> frozenset[str]:
    return frozenset(_name_of_rule(one) for one in _list(told))


def _name_of_rule(told: object) -> str:
    if type(told) is not str:
        message = "the policies expected are ids of rules"
        raise ConfigurationError(message)
    return told


def _duties(told: object) -> tuple[Duty, ...]:
    return tuple(_duty(one) for one in _list(told))


def _duty(told: Any) -> Duty:  # noqa: ANN401  whatever the file says
    if type(told) is str:
        return Duty(told)
    if type(told) is not dict or type(told.get("type")) is not str or told.keys() - {"type", "properties"}:
        message = "an obligation expected is its type, or a table with `type` and `properties`"
        raise ConfigurationError(message)
    properties = told.get("properties")
    return Duty(told["type"], None if properties is None else freeze_mapping(properties, what="the properties"))


def _moment(told: object) -> float:
    value = told.isoformat() if type(told) is datetime and told.tzinfo is not None else told
    moment = instant(value)
    if moment is None:
        message = "`now` must be a date and time with its offset, or epoch seconds"
        raise ConfigurationError(message)
    return moment
