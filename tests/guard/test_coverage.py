"""What of a package is guarded, and what reaches around a guard."""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import attrs
import pytest

from pep import Enforcer, Profile, Shadow
from pep.audit import MemorySink
from pep.errors import ConfigurationError
from pep.guard.coverage import Coverage, Entry, coverage
from tests.guard.samples import HEAD, Write, importable

NUMBERS = itertools.count()


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    with importable(tmp_path) as write:
        yield write


def covered(write: Write, text: str, **modules: str) -> tuple[str, Coverage]:
    """A package with one module's text in its ``__init__``, covered: its name, and what was found."""
    name = f"sample_{next(NUMBERS)}"
    write({f"{name}/__init__.py": HEAD + text, **{f"{name}/{m}.py": HEAD + text for m, text in modules.items()}})
    return name, coverage(name)


def names(package: str, entries: tuple[Entry, ...]) -> list[str]:
    """The names of entries, without their package's."""
    return [entry.name.removeprefix(f"{package}.") for entry in entries]


# Source -> what of it is in `guarded`, `application_level`, `exempt` and `unguarded`.
SORTED: dict[str, tuple[str, list[str], list[str], list[str], list[str]]] = {
    "functions": (
        """
@guard("read", resource="document:{id}")
def read(id): ...
@guard("list")
async def list_all(): ...
@exempt(reason="health check")
def health(): ...
def drop(): ...
async def adrop(): ...
def _private(): ...
@guard("tidy")
def _tidy(): ...
anonymous = lambda: 1
""",
        ["read"],
        ["_tidy", "list_all"],
        ["health"],
        ["adrop", "anonymous", "drop"],
    ),
    "methods": (
        """
class Store:
    @guard("read")
    def read(self): ...
    def alter(self): ...
    def _private(self): ...
    def __len__(self): return 1
    def __call__(self): ...
    @staticmethod
    @exempt(reason="a constant")
    def size(): ...
    @classmethod
    def make(cls): ...
    class Cursor:
        def step(self): ...
    class _Inner:
        def step(self): ...
""",
        [],
        ["Store.read"],
        ["Store.size"],
        ["Store.Cursor.step", "Store.__call__", "Store.alter", "Store.make"],
    ),
    "accessors": (
        """
import functools
class Document:
    @property
    @guard("read")
    def title(self): ...
    @title.setter
    def title(self, value): ...
    @title.deleter
    @exempt(reason="harmless")
    def title(self): ...
    @functools.cached_property
    def text(self): ...
    part = functools.partialmethod(lambda self: 1)
""",
        [],
        ["Document.title"],
        ["Document.title.deleter"],
        ["Document.part", "Document.text", "Document.title.setter"],
    ),
    "construction": (
        """
@guard("create")
class Document:
    def __init__(self): ...
class Plain:
    def __init__(self): ...
""",
        [],
        ["Document"],
        [],
        [],
    ),
    "inheritance": (
        """
class _Base:
    def alter(self): ...
    @guard("read")
    def read(self): ...
class First(_Base): ...
class Second(_Base):
    def alter(self): ...
class Public(dict):
    def run(self): ...
class Below(Public): ...
""",
        [],
        ["_Base.read"],
        [],
        ["Public.run", "Second.alter", "_Base.alter"],
    ),
    "private classes": (
        """
class _Hidden:
    def run(self): ...
    @guard("read")
    def read(self): ...
class _Seen:
    def run(self): ...
class _Instance:
    def run(self): ...
    class Part:
        def run(self): ...
Seen, service, _hidden = _Seen, _Instance(), _Hidden()
""",
        [],
        ["_Hidden.read"],
        [],
        ["_Instance.Part.run", "_Instance.run", "_Seen.run"],
    ),
    "declarations": (
        """
import abc
from typing import Protocol
class Reader(Protocol):
    def read(self): ...
class Default(Protocol):
    def run(self): return 1
class Explicit(Default): ...
class Store(abc.ABC):
    @abc.abstractmethod
    def read(self): ...
class NoABC:
    @abc.abstractmethod
    def read(self): ...
""",
        [],
        [],
        [],
        ["Default.run", "NoABC.read"],
    ),
    "names of others": (
        """
import os.path
from os.path import join
from json import JSONDecoder
from contextlib import contextmanager
import threading
timer = threading.Timer
decode = JSONDecoder().decode
later = threading.Timer(1, print)
size = len
@contextmanager
def opened(): yield
""",
        [],
        [],
        [],
        ["opened"],
    ),
    "wrapped": (
        """
import functools
def log(fn):
    @functools.wraps(fn)
    def wrapper(*args): return fn(*args)
    return wrapper
@log
@guard("read")
def read(): ...
@functools.lru_cache
def counted(): ...
@log
def drop(): ...
half = functools.partial(drop, 1)
""",
        [],
        ["read"],
        [],
        ["counted", "drop", "log"],
    ),
    "dispatched": (
        """
import functools
@functools.singledispatch
@guard("draw")
def draw(value): ...
@draw.register
def _(value: int): ...
@draw.register
@guard("draw")
def _(value: str): ...
@guard("show")
@functools.singledispatch
def show(value): ...
@show.register
def _(value: int): ...
""",
        [],
        ["draw", "draw[str]", "show"],
        [],
        ["draw[int]"],
    ),
}


@pytest.mark.parametrize("row", SORTED.values(), ids=list(SORTED))
def test_every_function_is_sorted(write: Write, row: tuple[str, list[str], list[str], list[str], list[str]]) -> None:
    """Each function is in exactly one section, under the name it was written under."""
    package, found = covered(write, row[0])
    sections = (found.guarded, found.application_level, found.exempt, found.unguarded)
    assert tuple(names(package, section) for section in sections) == row[1:]


def test_what_another_package_made_here_counts(write: Write) -> None:
    """A decorator of another package that does not name what it wraps hides neither the function nor its lack."""
    tools = f"tools_{next(NUMBERS)}"
    write({f"{tools}.py": "def hide(fn):\n    return lambda: fn()\nmade = hide(len)\n"})
    package, found = covered(write, f"from {tools} import hide, made\n@hide\ndef drop(): ...\n")
    assert names(package, found.unguarded) == ["drop"]


def test_entries_say_where_and_what(write: Write) -> None:
    """An entry has the file and line the function was written at, its actions, enforcer and reason."""
    package, found = covered(
        write,
        """
@guard("share", resource="document:{id}")
@guard("read")
def both(id): ...

@exempt(reason="health check")
def health(): ...

@enforcer.guard_result("see", resource=lambda result: result, side_effects=False)
def seen(): ...

class C:
    def run(self): ...
""",
    )
    file = str(Path(found.unguarded[0].file))
    text = Path(file).read_text().splitlines()
    both, seen = found.guarded
    assert both == Entry(f"{package}.both", file, text.index('@guard("share", resource="document:{id}")') + 1,
                         ("share", "read"), "sample", "")  # fmt: skip
    assert seen.note == "guard_result: decided after it ran"
    assert attrs.astuple(found.exempt[0])[3:] == ((), "sample", "health check")
    assert found.unguarded == (Entry(f"{package}.C.run", file, text.index("    def run(self): ...") + 1),)


def test_a_guard_inside_another_decorator_is_noted(write: Write) -> None:
    """A wrapper that says it wraps a guarded function counts as guarded, and the report says so."""
    _, found = covered(write, SORTED["wrapped"][0])
    assert [entry.note for entry in found.application_level] == ["inside another decorator"]


def test_every_submodule_is_imported(write: Write) -> None:
    """Submodules, packages in packages and folders without an `__init__` are covered."""
    name = f"deep_{next(NUMBERS)}"
    text = "def run(): ...\n"
    write(
        {
            f"{name}/__init__.py": "",
            f"{name}/one.py": text,
            f"{name}/_private.py": text,
            f"{name}/inner/__init__.py": "",
            f"{name}/inner/two.py": text,
            f"{name}/folder/three.py": text,
            f"{name}/folder/deeper/four.py": text,
            f"{name}/__pycache__/no.py": "1 / 0",
            f"{name}/data/table.csv": "",
            f"{name}/not-a-name/no.py": "1 / 0",
        }
    )
    found = coverage(name)
    expected = ["_private.run", "folder.deeper.four.run", "folder.three.run", "inner.two.run", "one.run"]
    assert (names(name, found.unguarded), found.failed) == (expected, ())


def test_one_module_can_be_covered(write: Write) -> None:
    """A module that is no package is covered alone, a package named twice once."""
    package, _ = covered(write, "def run(): ...\n", one="def run(): ...\n")
    assert names(package, coverage(f"{package}.one").unguarded) == ["one.run"]
    assert coverage(package, package, f"{package}.one") == coverage(package)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def (", "SyntaxError: "),
    ],
)
def test_failed_imports_are_told(write: Write, text: str, told: str) -> None:
    """A submodule that cannot be imported is reported, the others are covered, and the whole is not complete."""
    name = f"broken_{next(NUMBERS)}"
    write({f"{name}/__init__.py": "", f"{name}/broken.py": text, f"{name}/fine.py": "def run(): ...\n"})
    found = coverage(name)
    assert names(name, found.failed) == ["broken"]
    assert found.failed[0].note.startswith(told)
    assert names(name, found.unguarded) == ["fine.run"]
    assert not found.complete


def test_main_modules_are_not_run(write: Write) -> None:
    """Importing a `__main__` would run the program; the report says that it was left out."""
    name = f"program_{next(NUMBERS)}"
    write({f"{name}/__init__.py": "", f"{name}/__main__.py": "1 / 0"})
    found = coverage(name)
    assert found.failed == ()
    assert [(entry.name, entry.note) for entry in found.warnings] == [
        (f"{name}.__main__", "not imported, since that would run it")
    ]


@pytest.mark.parametrize("packages", [(), ("no_such_package",), ("",), (".relative",), (3,)])
def test_covering_nothing_is_an_error(packages: tuple[Any, ...]) -> None:
    """A misspelled name must not look like a package where nothing is unguarded."""
    with pytest.raises(ConfigurationError):
        coverage(*packages)


@pytest.mark.parametrize(("head", "complete"), [("", False), ("@guard('run')", True), ("@exempt(reason='r')", True)])
def test_it_is_complete_where_nothing_is_unguarded(write: Write, head: str, complete: bool) -> None:
    """The whole is complete only where every function is guarded or exempt."""
    _, found = covered(write, f"{head}\ndef run(): ...\n")
    assert found.complete is complete


def test_packages_in_archives_are_covered(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is imported from an archive is covered as any other."""
    name = f"zipped_{next(NUMBERS)}"
    with zipfile.ZipFile(tmp_path / "packages.zip", "w") as archive:
        archive.writestr(f"{name}/__init__.py", "")
        archive.writestr(f"{name}/one.py", "def run(): ...\n")
    monkeypatch.syspath_prepend(tmp_path / "packages.zip")
    assert names(name, coverage(name).unguarded) == ["one.run"]


def test_guards_under_guards_count(write: Write) -> None:
    """Of a guard of results over a guard both actions are told, and the raw function is known below both."""
    text = """
def _read(id): ...
inner = guard("read", resource="document:{id}")(_read)
read = enforcer.guard_result("see", resource=lambda result: result, side_effects=False)(inner)
raw = _read
del inner, _read
"""
    package, found = covered(write, text)
    assert [(entry.actions, entry.note) for entry in found.guarded] == [(("see", "read"), "")]
    assert [entry.name for entry in found.warnings] == [f"{package}.raw"]


def test_a_copied_mark_guards_nothing(write: Write) -> None:
    """A function that took over a guarded one's attributes, and does not say that it wraps it, is not guarded."""
    text = """
@guard("read")
def _read(): ...
def drop(): ...
drop.__dict__.update(_read.__dict__)
"""
    package, found = covered(write, text)
    assert names(package, found.unguarded) == ["drop"]


# Source -> the warnings: name, and what its note says.
WARNED: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "alias": (
        """
def _read(): ...
raw = _read
read = guard("read")(_read)
""",
        [
            ("_read", "is the raw function of the guarded `{0}.read`"),
            ("raw", "is the raw function of the guarded `{0}.read`"),
        ],
    ),
    "partial": (
        """
import functools
def _read(x): ...
read = guard("read")(_read)
half = functools.partial(_read, 1)
both = {"x": functools.partial(_read, 2)}
del _read
""",
        [("both['x']", "raw function of the guarded `{0}.read`"), ("half", "raw function of the guarded `{0}.read`")],
    ),
    "tables": (
        """
def _read(): ...
read = guard("read")(_read)
TABLE, LIST, TUPLE, FINE = {"read": _read}, [1, _read], (_read,), [read]
del _read
""",
        [("LIST[1]", "raw"), ("TABLE['read']", "raw"), ("TUPLE[0]", "raw")],
    ),
    "singledispatch": (
        """
import functools
@functools.singledispatch
def area(value): ...
def _area(value): ...
area.register(int, _area)
exact = guard("area")(_area)
del _area
""",
        [("area[int]", "raw function of the guarded `{0}.exact`")],
    ),
    "class attribute": (
        """
class C:
    def _raw(self): ...
    read = guard("read")(_raw)
    title = property(_raw)
    fixed = staticmethod(_raw)
    del _raw
""",
        [("C.fixed", "guarded `{0}.C.read`"), ("C.title", "guarded `{0}.C.read`")],
    ),
    "wrapper": (
        """
import functools
def _read(): ...
read = guard("read")(_read)
@functools.wraps(_read)
def logged(): return _read()
cached = functools.lru_cache(_read)
del _read
""",
        [("cached", "raw function"), ("logged", "raw function")],
    ),
    "cache": (
        """
import functools
@functools.lru_cache
def read(): ...
read = functools.lru_cache(guard("read")(read.__wrapped__))
class C:
    @functools.cached_property
    @guard("read")
    def title(self): ...
    @property
    @guard("read")
    def text(self): ...
""",
        [("C.title", "is cached outside its guard"), ("read", "is cached outside its guard")],
    ),
    "override": (
        """
class Base:
    @guard("read")
    def read(self): ...
    @guard("size")
    def _size(self): ...
class Open(Base):
    def read(self): ...
    def _size(self): ...
class Exempt(Base):
    @exempt(reason="r")
    def read(self): ...
class Fine(Base):
    @guard("read")
    def read(self): ...
class Other:
    @guard("see")
    def read(self): ...
class Both(Base, Other): ...
""",
        [
            ("Both.read", "inherits the guards of `Base.read` and `Other.read`"),
            ("Exempt.read", "is exempt over the guarded `Base.read`"),
            ("Open._size", "overrides the guarded `Base._size`"),
            ("Open.read", "overrides the guarded `Base.read`"),
        ],
    ),
}


@pytest.mark.filterwarnings("ignore::pep.errors.GuardWarning")
@pytest.mark.parametrize(("text", "expected"), WARNED.values(), ids=list(WARNED))
def test_what_reaches_around_a_guard_is_told(write: Write, text: str, expected: list[tuple[str, str]]) -> None:
    """Whatever reaches the raw function, caches or overrides the guarded one is listed, with both names."""
    package, found = covered(write, text)
    assert names(package, found.warnings) == [name for name, _ in expected]
    for entry, (_, note) in zip(found.warnings, expected, strict=True):
        assert note.format(package) in entry.note


def test_a_public_alias_of_a_raw_function_is_unguarded(write: Write) -> None:
    """What can be called past the guard under a public name counts as unguarded, too."""
    package, found = covered(write, WARNED["alias"][0])
    assert names(package, found.unguarded) == ["_read"]
    assert names(package, found.application_level) == ["read"]


def shadowing(name: str) -> Enforcer:
    """An enforcer with one action that is not enforced."""
    mode = Shadow(until=datetime(2999, 1, 1, tzinfo=timezone.utc), reason="new")
    return Enforcer(lambda request: True, audit=MemorySink(), profiles={"feed:read": Profile(mode=mode)}, name=name)


def test_what_is_not_enforced_is_listed(write: Write) -> None:
    """Shadowed actions of every enforcer seen are listed, whether a module binds it or a guard names it."""
    name = f"late_{next(NUMBERS)}"
    write({f"{name}.py": "one = two = closed = None\n"})
    module = __import__(name)
    module.one, guarding, module.closed = shadowing("one"), shadowing("two"), shadowing("closed")
    module.two = guarding.guard("read")(lambda: 1)
    module.unbound = Enforcer.unbound("three")
    module.closed.close()
    found = coverage(name)
    note = "shadow until 2999-01-01T00:00:00+00:00: new"
    assert found.not_enforced == (
        Entry("feed:read", enforcer="one", note=note),
        Entry("feed:read", enforcer="two", note=note),
    )


def test_can_be_written_as_json(write: Write) -> None:
    """Sections are lists of plain mappings, in the order they are documented in."""
    _, found = covered(write, "def run(): ...\n")
    told = found.to_dict()
    sections = ["guarded", "application_level", "exempt", "unguarded", "failed", "not_enforced", "warnings"]
    assert list(told) == sections
    assert list(told["unguarded"][0]) == ["name", "file", "line", "actions", "enforcer", "note"]


def test_proxies_are_left_alone(write: Write) -> None:
    """An object that cannot be looked at outside of its context is not looked at."""
    package, found = covered(write, "from flask import current_app, g, request, session\ndef run(): ...\n")
    assert names(package, found.unguarded) == ["run"]
