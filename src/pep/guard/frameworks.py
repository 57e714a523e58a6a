"""
What web frameworks, task queues and command lines have registered.

Known by the modules of an object's classes; no framework is imported. Imports nothing of the library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MethodType
from typing import Any, Final

_Handlers = Iterator[tuple[str, Any]]


def handlers(value: object) -> _Handlers:
    """
    Find the functions registered with an object of Flask, Starlette, FastAPI, Celery, click or Typer.

    Yields:
        How it is called there, and the function; nothing for any other object.
    """
    for base in type.mro(type(value)):
        reader = _READERS.get(str(vars(base).get("__module__")).partition(".")[0])
        if reader is not None:
            for how, fn in reader(value):
                yield how, getattr(fn, "__func__", fn) if isinstance(fn, MethodType) else fn
            return


def _flask(app: Any) -> _Handlers:  # noqa: ANN401  an application or a blueprint
    yield from getattr(app, "view_functions", {}).items()
    for name in ("before_request_funcs", "after_request_funcs", "teardown_request_funcs"):
        for functions in getattr(app, name, {}).values():
            yield from ((name.removesuffix("_funcs"), fn) for fn in functions)
    for deferred in getattr(app, "deferred_functions", ()):
        cells = [cell.cell_contents for cell in deferred.__closure__ or ()]
        yield from (("deferred", fn) for fn in cells if callable(fn))
    yield from _click(getattr(app, "cli", None))


def _starlette(app: Any) -> _Handlers:  # noqa: ANN401  an application, a router or a route
    for route in getattr(app, "routes", None) or ():
        if getattr(route, "endpoint", None) is not None:
            yield str(getattr(route, "path", route)), route.endpoint
        for name in ("original_router", "app"):
            inner = getattr(route, name, None)
            if getattr(inner, "routes", None):
                yield from _starlette(inner)


def _celery(app: Any) -> _Handlers:  # noqa: ANN401  an application or a task
    if isinstance(getattr(app, "tasks", None), Mapping):
        yield from ((name, task.run) for name, task in app.tasks.items())
    elif callable(getattr(app, "run", None)):
        yield str(app.name), app.run


def _click(command: Any) -> _Handlers:  # noqa: ANN401  a command or a group
    if getattr(command, "callback", None) is not None:
        yield str(command.name), command.callback
    for inner in getattr(command, "commands", {}).values():
        yield from _click(inner)


def _typer(app: Any) -> _Handlers:  # noqa: ANN401  an application, or a command of the click it brings
    if not hasattr(app, "registered_commands"):
        yield from _click(app)
        return
    for command in (app.registered_callback, *app.registered_commands):
        if callable(getattr(command, "callback", None)):
            yield str(command.name or command.callback.__name__), command.callback
    for group in app.registered_groups:
        yield from _typer(group.typer_instance)


#: Top-level package → how its objects are read.
_READERS: Final[Mapping[str, Callable[[Any], _Handlers]]] = {
    "flask": _flask,
    "starlette": _starlette,
    "fastapi": _starlette,
    "celery": _celery,
    "click": _click,
    "typer": _typer,
}
