"""
Loading what Cedar decides by: policies, a schema and entities, each parsed once.

`cedarpy` is imported by whoever calls this. Imports L0 and the codec's own parts only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import attrs
import orjson

from pep.errors import ConfigurationError
from pep.pdp.cedar_annotations import Clause, clause
from pep.pdp.cedar_entities import Entity, Known
from pep.pdp.cedar_slices import Slices
from pep.pdp.cedar_words import UID, mentioned

_TOKENS: Final = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|;', re.DOTALL)
_LITERALS: Final = re.compile(r'"(?:\\.|[^"\\])*"', re.DOTALL)
_SPACE: Final = re.compile(r"(?:\s|//[^\n]*)*")


@attrs.frozen
class Loaded:
    """
    What Cedar decides by, parsed.

    Attributes:
        cedarpy: The module.

        policies: Cedar's handles, by action.

        schema: Cedar's handle, or None.

        clauses: Cedar's name of a policy → what a decision tells of it.

        known: Entities known beforehand.

        fixed: Cedar's handle of those that policies mention; None where there are none.

        revision: Which version this is.
    """

    cedarpy: Any
    policies: Slices
    schema: Any
    clauses: Mapping[str, Clause]
    known: Known
    fixed: Any
    revision: str


def load(cedarpy: ModuleType, policies: object, schema: object, entities: object, revision: str | None) -> Loaded:
    """
    Parse and check everything.

    Args:
        cedarpy: The module.

        policies: Text, a path, paths or a handle.

        schema: Text, a mapping, a path, a handle or None.

        entities: A list, JSON text, a path, a handle or None.

        revision: Which version this is, or None to compute it.

    Raises:
        ConfigurationError: On whatever is wrong with any of them.
    """
    shape, shape_text = _schema(cedarpy, schema)
    handle, texts, clauses, identity = _policies(cedarpy, policies)
    source = "\n".join(texts)
    if shape is not None:
        _validate(cedarpy, source, shape)
    known = _entities(cedarpy, entities, shape)
    literals: list[UID] = list(mentioned(orjson.loads(cedarpy.policies_to_json_str(source))))
    around = Known(known, literals)
    fixed = _parsed(cedarpy, list(around.fixed.values()), shape) if around.fixed else None
    if revision is None:
        parts = [identity, shape_text, sorted(orjson.dumps(one, option=orjson.OPT_SORT_KEYS).hex() for one in known)]
        revision = hashlib.sha256(orjson.dumps(parts)).hexdigest()
    elif type(revision) is not str or not revision:
        message = "a revision must be exactly a `str`, and not empty"
        raise ConfigurationError(message)
    return Loaded(cedarpy, Slices(cedarpy, handle), shape, clauses, around, fixed, revision)


def _policies(cedarpy: ModuleType, given: object) -> tuple[Any, list[str], dict[str, Clause], list[str]]:
    """Return the handle, the texts, the clauses, and what identifies the policies."""
    if isinstance(given, cedarpy.PolicySet):
        return _of_handle(given)
    texts = [given] if type(given) is str else [_read(path) for path in _paths(given)]
    for index, text in enumerate(texts):
        if (error := _wrong(cedarpy, text)) is not None:
            raise _misplaced(cedarpy, text, error, None if len(texts) == 1 else index)
    handle = cedarpy.PolicySet.from_str("\n".join(texts))
    read = orjson.loads(cedarpy.policies_to_json_str("\n".join(texts)))
    for name, one in read["templates"].items():
        clause(name, one["effect"], one.get("annotations", {}))
    found = {
        name: clause(name, one["effect"], one.get("annotations", {})) for name, one in read["staticPolicies"].items()
    }
    _check_unique(found.values())
    return handle, texts, found, texts


def _of_handle(handle: Any) -> tuple[Any, list[str], dict[str, Clause], list[str]]:  # noqa: ANN401  cedarpy's own
    try:
        read = handle.to_pst()
    except AttributeError:
        message = (
            "this `cedarpy` cannot tell what is in a `PolicySet`; install a newer one, or pass the policies as text"
        )
        raise ConfigurationError(message) from None
    except ValueError:
        message = "the `PolicySet` holds what `cedarpy` cannot show; pass the policies as text"
        raise ConfigurationError(message) from None
    found = {name: clause(name, one.effect, one.annotations) for name, one in read.static_policies.items()}
    _check_unique(found.values())
    for link in read.template_links:
        template = read.templates[link.template_id]
        # All links of a template share its `@id`.
        found[link.new_id] = attrs.evolve(clause(link.new_id, template.effect, template.annotations), name=link.new_id)
    identity = sorted(map(repr, [*read.static_policies.values(), *read.templates.values(), *read.template_links]))
    return handle, [str(handle)], found, identity


def _check_unique(clauses: Iterable[Clause]) -> None:
    names = [one.name for one in clauses]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        message = f"two policies have the id `{twice}`; give each an `@id` of its own"
        raise ConfigurationError(message)


def _paths(given: object) -> list[Path]:
    paths = [given] if isinstance(given, Path) else list(given) if isinstance(given, (list, tuple)) else []
    found = [file for path in paths if isinstance(path, Path) for file in _files(path)]
    if not found or not all(isinstance(path, Path) for path in paths):
        message = (
            "policies are Cedar text, a `Path` or a list of them, or a `cedarpy.PolicySet`; a folder has `.cedar` files"
        )
        raise ConfigurationError(message)
    return found


def _files(path: Path) -> list[Path]:
    return sorted(path.glob("*.cedar")) if path.is_dir() else [path]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        message = f"`{path}` cannot be read"
        raise ConfigurationError(message) from None


def _misplaced(cedarpy: ModuleType, text: str, error: ValueError, file: int | None) -> ConfigurationError:
    """Say where the first policy that does not parse begins; Cedar says what is wrong, without saying where."""
    pieces = ((start, _wrong(cedarpy, text[start:end])) for start, end in _pieces(text))
    start, wrong = next(((start, wrong) for start, wrong in pieces if wrong is not None), (0, error))
    line, column = text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start)
    where = "" if file is None else f" of file {file + 1}"
    message = f"the policy at line {line}, column {column}{where} does not parse: {_masked(wrong)}"
    return ConfigurationError(message)


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Yield where each policy begins and ends."""
    ends = [found.end() for found in _TOKENS.finditer(text) if found[0] == ";"]
    for start, end in pairwise([0, *ends, len(text)]):
        yield start + len(_SPACE.findall(text, start)[0]), end


def _wrong(cedarpy: ModuleType, text: str) -> ValueError | None:
    try:
        cedarpy.PolicySet.from_str(text)
    except ValueError as error:
        return error
    return None


def _validate(cedarpy: ModuleType, source: str, schema: Any) -> None:  # noqa: ANN401  cedarpy's own
    result = cedarpy.validate_policies(source, schema)
    if result.validation_passed is not True:
        told = "; ".join(_masked(error.error) for error in result.errors[:3])
        message = f"the policies do not fit the schema: {told}"
        raise ConfigurationError(message)


def _schema(cedarpy: ModuleType, given: object) -> tuple[Any, str | None]:
    if given is None:
        return None, None
    if isinstance(given, cedarpy.Schema):
        return given, str(given)
    text = orjson.dumps(given).decode() if isinstance(given, Mapping) else _text(given, "schema")
    parse = cedarpy.Schema.from_json_str if text.lstrip().startswith("{") else cedarpy.Schema.from_str
    try:
        return parse(text), text
    except ValueError as error:
        message = f"the schema does not parse: {_masked(error)}"
        raise ConfigurationError(message) from None


def _text(given: object, what: str) -> str:
    if isinstance(given, Path):
        return _read(given)
    if type(given) is not str:
        message = f"the {what} must be text or a `Path`, parsed JSON or a handle, not `{type(given).__name__}`"
        raise ConfigurationError(message)
    return given


def _entities(cedarpy: ModuleType, given: object, schema: Any) -> list[Entity]:  # noqa: ANN401  cedarpy's own
    """Return entities as Cedar writes them: references spelled out, ancestors included."""
    if given is None:
        return []
    handle = _parsed(cedarpy, str(given) if isinstance(given, cedarpy.Entities) else given, schema)
    try:
        told: list[Entity] = orjson.loads(str(handle))
    except ValueError:
        message = "the entities cannot be written as JSON; a record holds one of Cedar's own names"
        raise ConfigurationError(message) from None
    # Those of actions are the schema's, where there is one: it adds them itself.
    return [one for one in told if schema is None or one["uid"]["type"].rpartition("::")[2] != "Action"]


def _parsed(cedarpy: ModuleType, given: object, schema: Any) -> Any:  # noqa: ANN401  cedarpy's own
    text = orjson.dumps(given).decode() if isinstance(given, list) else _text(given, "entities")
    try:
        return cedarpy.Entities.from_json_str(text, schema)
    except ValueError as error:
        message = f"the entities do not load: {_masked(str(error).partition(': ')[0])}"
        raise ConfigurationError(message) from None


def _masked(error: object) -> str:
    """Return Cedar's message on one line, without the texts it quotes."""
    return " ".join(_LITERALS.sub('"..."', str(error)).split())
