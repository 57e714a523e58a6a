"""Decorators around a guard that would undo it are told at decoration."""

from __future__ import annotations

import importlib
import itertools
import sys
import warnings
from ast import parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pep.errors import ConfigurationError, GuardWarning
from pep.guard import lint
from pep.guard.lint import CACHING, REGISTERING, counted_at
from tests.guard.samples import HEAD, Write, importable

NUMBERS = itertools.count()

#: Decorators that do as those of frameworks do, and as those that wrap do.
TOOLS = """
import functools
from unittest import mock

class Anything:
    def __getattr__(self, name):
        return self
    def __call__(self, *args, **kwargs):
        return args[0] if args and callable(args[0]) else self

class Wrapping:
    def get(self, fn):
        return log(fn)

def log(fn):
    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        return fn(*args, **kwargs)
    return wrapper

def hide(fn):
    return lambda: fn()

app, wrapping, memoize, cachetools, route = Anything(), Wrapping(), Anything(), Anything(), Anything()
"""


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    with importable(tmp_path) as write:
        yield write


def load(write: Write, text: str, tools: str = TOOLS) -> Any:
    name = f"linted_{next(NUMBERS)}"
    write({f"{name}.py": HEAD + tools + text})
    return importlib.import_module(name)


# Real frameworks: how one is set up, and what stands below the guard.
FRAMEWORKS = {
    "flask": ("import flask\napp = flask.Flask(__name__)", '@app.route("/read")', ""),
    "flask blueprint": ("import flask\napp = flask.Blueprint('b', __name__)", '@app.get("/read")', ""),
    "flask hook": ("import flask\napp = flask.Flask(__name__)", "@app.before_request", ""),
    "fastapi": ("import fastapi\napp = fastapi.FastAPI()", '@app.get("/read")', "async "),
    "fastapi router": ("import fastapi\nr = fastapi.APIRouter()", '@r.api_route(\n    "/read",\n)', ""),
    "typer": ("import typer\napp = typer.Typer()", "@app.command()", ""),
    "singledispatch": (
        "import functools\n@functools.singledispatch\ndef area(value): ...",
        "@area.register(int)",
        "",
    ),
    "atexit": ("class atexit:\n    register = staticmethod(lambda fn: fn)", "@atexit.register", ""),
}


@pytest.mark.parametrize("setup", FRAMEWORKS.values(), ids=list(FRAMEWORKS))
def test_a_guard_above_a_route_is_refused(write: Write, setup: tuple[str, str, str]) -> None:
    """A framework that was handed the raw function would run it unguarded."""
    head, registering, kind = setup
    name = registering.partition("(")[0]
    with pytest.raises(ConfigurationError, match=rf"`{name}` below the guard registers the unguarded `read`") as caught:
        load(write, f"{head}\n@guard('read')\n{registering}\n{kind}def read(value=1): ...\n")
    assert f"directly above the `def`, below `{name}`" in str(caught.value)


@pytest.mark.parametrize("setup", FRAMEWORKS.values(), ids=list(FRAMEWORKS))
def test_a_guard_below_a_route_is_fine(write: Write, setup: tuple[str, str, str]) -> None:
    """A framework that was handed the guarded function runs it guarded."""
    head, registering, kind = setup
    assert load(write, f"{head}\n{registering}\n@guard('read')\n{kind}def read(value=1): ...\n")


@pytest.mark.parametrize(
    "text",
    [
        "import celery\napp = celery.Celery('c')\n@guard('read')\n@app.task\ndef read(): ...\n",
        "import click\n@guard('read')\n@click.command()\ndef read(): ...\n",
    ],
    ids=["celery", "click"],
)
def test_objects_made_by_frameworks_are_refused(write: Write, text: str) -> None:
    """Where a framework returned an object of its own, the guard is told to stand below it."""
    with pytest.raises(ConfigurationError, match="cannot be guarded; put the guard on the function it was made from"):
        load(write, text, tools="")


@pytest.mark.parametrize("name", sorted(REGISTERING))
def test_every_registering_name_is_known(write: Write, name: str) -> None:
    """Each name of the table is refused below a guard, called or not."""
    for written in (f"app.{name}", f'app.{name}("/x")'):
        with pytest.raises(ConfigurationError, match=f"`@app.{name}` below the guard"):
            load(write, f"@guard('read')\n@{written}\ndef read(): ...\n")


# Below the guard -> whether it is certain that a raw function was handed on.
BELOW = {
    "@route('/x')": False,
    "@log": False,
    "@app.seen": False,
    "@wrapping.get": False,
    "@mock.patch('os.getcwd')": False,
    "@hide\n@app.route('/x')": False,
    "@log\n@wrapping.get": False,
    "@log\n@app.route('/x')": True,
    "@app.route('/x')\n@log": True,
    "@log\n@log\n@app.get('/x')\n@app.post('/x')": True,
    "@log\n@app.get('/x')\n@wrapping.get": False,
}


@pytest.mark.parametrize(("below", "certain"), BELOW.items())
def test_refuses_only_what_is_certain(write: Write, below: str, certain: bool) -> None:
    """A decorator that may have wrapped the function instead of registering it is let pass."""
    text = f"@guard('read')\n{below}\ndef read(): ...\n"
    if certain:
        with pytest.raises(ConfigurationError, match="below the guard registers"):
            load(write, text)
    else:
        assert load(write, text)


@pytest.mark.parametrize("name", sorted(CACHING))
def test_every_cache_above_a_guard_warns(write: Write, name: str) -> None:
    """Each name of the table is warned of above a guard: as it is, of a module, and called."""
    for written in (name, f"app.{name}", f"app.{name}(maxsize=1)"):
        with pytest.warns(GuardWarning, match="above the guard of `read` serves the revoked") as caught:
            module = load(write, f"{name} = app\n@{written}\n@guard('read')\ndef read(): ...\n")
        (warning,) = caught
        lines = Path(module.__file__).read_text().splitlines()
        assert (warning.filename, lines[warning.lineno - 1]) == (module.__file__, f"@{written}")


# Source with a cache above a guard, wherever decorators may stand.
CACHED = {
    "function": """
import functools
@functools.lru_cache
@guard("read")
def read(): ...
""",
    "method": """
import functools
class C:
    @functools.cached_property
    @guard("read")
    def read(self): ...
""",
    "several lines": """
from functools import cache
class C:

    @log
    @cache
    @log
    @guard(
        "read",
    )
    # why

    async def read(self): ...
""",
    "factory": """
def factory():
    @app.cached(
        timeout=50,
    )
    @guard("read")
    def read(): ...

factory()
""",
    "parentheses": """
@log
@(
    memoize
)
@guard("read")
def read(): ...
""",
}


@pytest.mark.parametrize("text", CACHED.values(), ids=list(CACHED))
def test_caches_are_seen_wherever_they_stand(write: Write, text: str) -> None:
    """A cache above a guard warns in functions, classes and factories, over several lines and comments."""
    with pytest.warns(GuardWarning, match="serves the revoked"):
        load(write, text)


@pytest.mark.parametrize(
    "text",
    [
        "@guard('read')\ndef read(): ...\n",
        "@log\n@guard('read')\ndef read(): ...\n",
        "@guard('read')\n@log\ndef read(): ...\n",
        "@app.route('/x')\n@guard('read')\n@log\ndef read(): ...\n",
        "read = guard('read')(lambda: 1)\n",
        "@app.seen\n@app.route('/x')\ndef raw(): ...\nread = guard('read')(raw)\n",
        "exec('@app.cached\\n@guard(\\'read\\')\\ndef read(): ...')\n",
        "for one in [1]:\n    @log\n    @guard('read')\n    def read(): ...\n",
        "@(memoize if False else\n  log)\n@guard('read')\ndef read(): ...\n",
        "@app.cached(\n    text='\"'\n)\n@log\n@app.seen(text='''\ndef no():''')\n@guard('read')\ndef read(): ...\n",
    ],
)
def test_says_nothing_otherwise(write: Write, text: str) -> None:
    """What is no cache above and no route below is no matter of the guard's; nor is what has no source."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert load(write, text)
    assert caught == []


def test_a_guard_hidden_in_a_decorator_is_found(write: Write) -> None:
    """A project's own decorator that guards is the guard, as far as its neighbours go."""
    text = "def secured(fn):\n    return guard('read')(fn)\n@secured\n@app.route('/x')\ndef read(): ...\n"
    with pytest.raises(ConfigurationError, match=r"`@app\.route` below the guard"):
        load(write, text)


@pytest.mark.parametrize(("kind", "below"), [("", "@app.route('/x')"), ("async ", "@log\n@app.route('/x')")])
def test_guards_further_down_are_seen_through(write: Write, kind: str, below: str) -> None:
    """A route between two guards holds the function without the upper one."""
    head = "from pep.guard.lint import look_around\ndef over(fn):\n    look_around(fn)\n    return fn\n"
    with pytest.raises(ConfigurationError, match="below the guard"):
        load(write, f"{head}@over\n{below}\n@guard('read')\n{kind}def read(): ...\n")
    assert load(write, f"{head}@over\n@wrapping.get\n@guard('read')\n{kind}def read(): ...\n")


def test_source_that_changed_is_read_again(write: Write) -> None:
    """What a module looked like before it was written again is not held against it."""
    module = load(write, "@log\n@guard('read')\ndef read(): ...\n")
    path = Path(module.__file__)
    path.write_text(path.read_text().replace("@log\n@guard('read')", "@guard('read')\n@app.route('/something')"))
    importlib.invalidate_caches()
    sys.modules.pop(module.__name__)
    path.with_suffix(".pyc").unlink(missing_ok=True)
    with pytest.raises(ConfigurationError, match="below the guard"):
        importlib.import_module(module.__name__)


# Byte code of Python 3.10, and where a call is made -> which of three decorators it calls, topmost first.
CALLED = [
    (bytes([100, 0, 132, 0, 131, 1]), 4, 2),
    (bytes([100, 0, 132, 8, 131, 1, 131, 1, 131, 1, 90, 0]), 8, 0),
    (bytes([100, 0, 131, 1, 90, 0]), 2, None),
    (bytes([132, 0, 131, 2]), 2, None),
    (bytes([131, 1]), 0, None),
    (b"", 0, None),
]


@pytest.mark.parametrize(("code", "at", "expected"), CALLED)
def test_decorators_are_counted_in_byte_code(code: bytes, at: int, expected: int | None) -> None:
    """The decorator being called is told by how many calls follow the making of the function."""
    assert counted_at(code, at, 3) == expected


def test_a_guard_alone_costs_no_parsing(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Source is parsed only where there is another decorator beside the guard."""
    parsed: list[str] = []
    monkeypatch.setattr(lint.ast, "parse", lambda text: parsed.append(text) or parse(text))
    load(write, "@guard('read')\ndef read(): ...\n@log\n@guard('read')\ndef other(): ...\n")
    assert ["@log" in text for text in parsed] == [True]
