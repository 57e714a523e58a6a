"""The shape of the source: who imports whom, and how long anything may be."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "pep"

#: Every file or folder of the library -> its layer. The longest path that matches counts.
LAYERS = {
    "errors": 0,
    "asynchronous": 0,
    "collecting": 0,
    "locks": 0,
    "forking": 0,
    "frozen": 0,
    "decision": 0,
    "entities": 0,
    "model": 0,
    "plan": 0,
    "steps": 0,
    "exchange": 0,
    "found": 0,
    "clock": 0,
    "protocols": 1,
    "fault": 1,
    "profile": 1,
    "profile_checks": 1,
    "profile_files": 1,
    "profiles": 1,
    "verdict": 1,
    "settle": 1,
    "canonical": 1,
    "cache": 1,
    "generations": 1,
    "alerting": 1,
    "keys": 1,
    "flights": 1,
    "bus": 1,
    "scope": 1,
    "registry": 1,
    "sources": 1,
    "extract": 1,
    "revoke": 1,
    "plain": 1,
    "enrich": 1,
    "rate": 1,
    "obligations": 1,
    "obligations/confirmation": 2,
    "approvals": 1,
    "approvals/approvers": 2,
    "approvals/binding": 2,
    "approvals/answering": 2,
    "approvals/sqlite": 2,
    "approvals/redis": 2,
    "approvals/desk": 4,
    "audit/record": 1,
    "audit/journal": 1,
    "audit/noting": 1,
    "audit/ids": 1,
    "audit/safe": 1,
    "audit/masking": 1,
    "audit/correlation": 1,
    "wiring": 2,
    "weigh": 2,
    "intake": 2,
    "deciding": 2,
    "bulk": 2,
    "sift": 2,
    "checks": 2,
    "ask": 2,
    "keeping": 2,
    "flying": 3,
    "enforcement": 2,
    "rows": 2,
    "candidates": 2,
    "searching": 4,
    "heartbeat": 4,
    "pdp": 2,
    "compose": 2,
    "policy": 2,
    "audit": 2,
    "drive": 3,
    "replies": 3,
    "abreast": 3,
    "threads": 3,
    "assemble": 3,
    "transport": 2,
    "telemetry": 3,
    "enforcer": 4,
    "core": 4,
    "lifecycle": 4,
    "asking": 4,
    "guard": 4,
    "integrations": 5,
    "testing": 5,
    "cli": 5,
    "__init__": 5,
}

FILES = sorted(SOURCE.rglob("*.py"))
LONGEST_FILE = 400
LONGEST_FUNCTION = 40

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
per_file = pytest.mark.parametrize("path", FILES, ids=[path.relative_to(SOURCE).as_posix() for path in FILES])


def unit_of(path: Path) -> str | None:
    """The row of the table a file belongs to."""
    name = path.relative_to(SOURCE).with_suffix("").as_posix()
    return max((row for row in LAYERS if name == row or name.startswith(f"{row}/")), key=len, default=None)


def file_of(module: str) -> Path | None:
    """The file that holds a module of the library; None where there is none of that name."""
    place = SOURCE.parent.joinpath(*module.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but what only a type checker sees."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from (inner for branch in node.orelse for inner in (branch, *running(branch)))
        else:
            yield node
            yield from running(node)


def imports(source: str, folder: Path) -> set[Path]:
    """The files of the library that a source text in *folder* imports when it runs, wherever the import stands."""
    found = set()
    for node in running(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {file_of(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, folder)
            found |= {file_of(f"{base}.{alias.name}") or file_of(base) for alias in node.names}
    return {path for path in found if path is not None and path.is_relative_to(SOURCE)}


def absolute(node: ast.ImportFrom, folder: Path) -> str:
    """The full name of the module that a `from ... import` names."""
    package = folder.relative_to(SOURCE.parent).parts
    start = package[: len(package) + 1 - node.level] if node.level else ()
    return ".".join([*start, *filter(None, [node.module])])


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many lines a function's body has, its docstring left out."""
    body = node.body[ast.get_docstring(node, clean=False) is not None :]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


GRAPH = {path: imports(path.read_text(encoding="utf-8"), path.parent) for path in FILES}


@per_file
def test_every_file_has_a_layer(path: Path) -> None:
    """A file that is in no row of the table has not been thought about."""
    assert unit_of(path) is not None


@per_file
def test_imports_only_from_layers_above(path: Path) -> None:
    """A file imports from its own layer, its own folder and the layers above it, never from below."""
    layer = LAYERS[str(unit_of(path))]
    below = {
        target.relative_to(SOURCE).as_posix()
        for target in GRAPH[path]
        if LAYERS[str(unit_of(target))] > layer and (target.parent != path.parent or path.parent == SOURCE)
    }
    assert below == set()


def test_imports_have_no_cycle() -> None:
    """Files of one layer have an order too: no import leads back to where it came from."""
    assert set(graphlib.TopologicalSorter(GRAPH).static_order()) == set(FILES)


@per_file
def test_files_are_short(path: Path) -> None:
    """A file past 400 lines holds more than one concept."""
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_FILE


@per_file
def test_functions_are_short(path: Path) -> None:
    """A function past 40 lines, its docstring left out, does more than one thing."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    long = {n.name: length(n) for n in ast.walk(tree) if isinstance(n, FUNCTIONS) and length(n) > LONGEST_FUNCTION}
    assert long == {}


@per_file
def test_source_never_asserts(path: Path) -> None:
    """An `assert` is gone under `python -O`, and with it whatever it protected."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)] == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import pep.errors", {"errors.py"}),
        ("from pep.errors import PEPError", {"errors.py"}),
        ("from pep import errors", {"errors.py"}),
        ("from pep import Enforcer", {"__init__.py"}),
        ("from . import model", {"model.py"}),
        ("from .model import Subject", {"model.py"}),
        ("def late():\n    from pep.model import Subject", {"model.py"}),
        ("if TYPE_CHECKING:\n    from pep.model import Subject", set()),
        ("if TYPE_CHECKING:\n    pass\nelse:\n    import pep.model", {"model.py"}),
        ("import pepper, attrs", set()),
    ],
)
def test_every_way_to_import_is_read(source: str, expected: set[str]) -> None:
    """The reader of imports misses no way to write one, wherever it stands."""
    assert {path.relative_to(SOURCE).as_posix() for path in imports(source, SOURCE)} == expected
