"""Functions that frameworks were handed raw are found in the frameworks' own objects."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from pep.guard.coverage import coverage
from pep.guard.frameworks import handlers
from tests.guard.samples import HEAD, Write, importable

NUMBERS = itertools.count()


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    with importable(tmp_path) as write:
        yield write


# Each hands a raw function to a framework; `{}` is where -> the object that holds it, and how it is called there.
RAW = {
    "flask route": ("import flask\napp = flask.Flask(__name__)\napp.add_url_rule('/x', 'x', _raw)", "app", "x"),
    "flask hook": ("import flask\napp = flask.Flask(__name__)\napp.before_request(_raw)", "app", "before_request"),
    "flask blueprint": (
        "import flask\napp = flask.Blueprint('b', __name__)\napp.add_url_rule('/x', 'x', _raw)",
        "app",
        "deferred",
    ),
    "flask command": ("import flask\napp = flask.Flask(__name__)\napp.cli.command('x')(_raw)", "app", "x"),
    "starlette": (
        "from starlette.applications import Starlette\napp = Starlette()\napp.add_route('/x', _raw)",
        "app",
        "/x",
    ),
    "starlette mount": (
        (
            "from starlette import applications, routing as r\n_inner = [r.Route('/x', _raw)]\n_r = [r.Mount('/m', "
            "routes=_inner), r.Mount('/n', app=len)]\napp = applications.Starlette(routes=_r)\n"
        ),
        "app",
        "/x",
    ),
    "fastapi": ("import fastapi\napp = fastapi.FastAPI()\napp.get('/x')(_raw)", "app", "/x"),
    "fastapi router": ("import fastapi\napp = fastapi.APIRouter()\napp.post('/x')(_raw)", "app", "/x"),
    "fastapi included": (
        (
            "import fastapi\n_r = fastapi.APIRouter()\n_r.post('/x')(_raw)\napp = fastapi.FastAPI()\n"
            "app.include_router(_r)\ndel _r"
        ),
        "app",
        "/x",
    ),
    "celery app": ("import celery\napp = celery.Celery('c')\napp.task(name='x', shared=False)(_raw)", "app", "x"),
    "celery bound": (
        "import celery\napp = celery.Celery('c')\napp.task(name='x', bind=True, shared=False)(_raw)",
        "app",
        "x",
    ),
    "celery task": (
        "import celery\n_app = celery.Celery('c')\napp = _app.task(name='x', shared=False)(_raw)\ndel _app",
        "app",
        "x",
    ),
    "click": ("import click\napp = click.command('x')(_raw)", "app", "x"),
    "click group": ("import click\napp = click.Group('g')\napp.command('x')(_raw)", "app", "x"),
    "typer": ("import typer\napp = typer.Typer()\napp.command('x')(_raw)", "app", "x"),
    "typer callback": ("import typer\napp = typer.Typer()\napp.callback()(_raw)", "app", "_raw"),
    "typer group": (
        "import typer\n_t = typer.Typer()\n_t.command()(_raw)\napp = typer.Typer()\napp.add_typer(_t)\ndel _t",
        "app",
        "_raw",
    ),
    "an application of one's own": (
        "import flask\nclass App(flask.Flask): ...\napp = App(__name__)\napp.add_url_rule('/x', 'x', _raw)",
        "app",
        "x",
    ),
}


@pytest.mark.parametrize(("text", "holder", "how"), RAW.values(), ids=list(RAW))
def test_raw_functions_of_guarded_ones_are_found(write: Write, text: str, holder: str, how: str) -> None:
    """A framework that holds the raw function of a guarded one is listed, and the function counts as unguarded."""
    name = f"framework_{next(NUMBERS)}"
    write({f"{name}.py": f"{HEAD}\ndef _raw(): ...\nread = guard('read')(_raw)\n{text}\ndel _raw\n"})
    found = coverage(name)
    notes = {entry.note for entry in found.warnings}
    expected = f"has registered, as `{how}`, the raw function of the guarded `{name}.read`; use the guarded one"
    assert expected in notes
    assert {entry.name for entry in found.warnings} <= {f"{name}.{holder}"}
    # A command bound to a name is known by it.
    assert [entry.name for entry in found.unguarded] in ([f"{name}._raw"], [f"{name}.app"])
    assert found.application_level[0].name == f"{name}.read"


@pytest.mark.parametrize(("text", "holder", "how"), RAW.values(), ids=list(RAW))
def test_guarded_functions_of_frameworks_are_fine(write: Write, text: str, holder: str, how: str) -> None:
    """A framework that holds the guarded function is as it should be."""
    name = f"framework_{next(NUMBERS)}"
    write({f"{name}.py": f"{HEAD}\n@guard('read')\ndef _raw(): ...\n{text}\n"})
    found = coverage(name)
    assert (found.warnings, found.unguarded, len(found.application_level)) == ((), (), 1)


def test_private_handlers_are_reachable(write: Write) -> None:
    """A handler is called from outside whatever its name; what the framework brings itself does not count."""
    name = f"framework_{next(NUMBERS)}"
    text = "import fastapi\ndef make():\n    app = fastapi.FastAPI()\n    @app.get('/x')\n    def _read(): ...\n"
    write({f"{name}.py": f"{text}    return app\napp = make()\n"})
    found = coverage(name)
    assert [(entry.name, entry.note) for entry in found.unguarded] == [
        (f"{name}.make", ""),
        (f"{name}.make.<locals>._read", f"registered with `{name}.app` as `/x`"),
    ]


@pytest.mark.parametrize("value", [None, 3, object(), print, int])
def test_other_objects_have_no_handlers(value: object) -> None:
    """An object of no known framework is not asked."""
    assert list(handlers(value)) == []


@pytest.mark.parametrize("module", ["flask.x", "starlette.x", "celery.x", "click.x", "typer.x", "fastapi"])
def test_objects_without_handlers_have_none(module: str) -> None:
    """An object of a framework that registers nothing is read without a complaint."""
    assert list(handlers(type("Thing", (), {"__module__": module})())) == []


def test_deferred_functions_without_a_closure_hold_nothing() -> None:
    """What a blueprint does later need not hold a view."""
    later = type("Later", (), {"__module__": "flask.x", "deferred_functions": (lambda state: None,)})
    assert list(handlers(later())) == []


def test_routes_without_a_function_hold_nothing() -> None:
    """A route that has no endpoint is passed over."""
    router = type("Router", (), {"__module__": "starlette.x", "routes": [object()]})
    assert list(handlers(router())) == []
