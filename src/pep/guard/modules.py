"""
Importing packages with every submodule, so that nothing in them is overlooked.

Imports the error tree only.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from pep.errors import ConfigurationError


def import_named(name: str) -> ModuleType:
    """
    Import a package or module that was asked for.

    Raises:
        ConfigurationError: When it cannot be; whatever was to be told of it would be told of nothing.
    """
    if type(name) is not str or not name or name.startswith("."):
        message = f"`{name}` is no full name of a package"
        raise ConfigurationError(message)
    found = _attempted(name)
    if isinstance(found, str):
        message = f"`{name}` cannot be imported: {found}"
        raise ConfigurationError(message)
    return found


def submodules(roots: Sequence[ModuleType]) -> tuple[dict[str, ModuleType], dict[str, str], dict[str, str]]:
    """
    Import everything below some modules.

    Returns:
        The modules, name → module, those that failed, name → error, and those left out, name → why.
    """
    modules: dict[str, ModuleType] = {}
    failed: dict[str, str] = {}
    skipped: dict[str, str] = {}
    waiting = {root.__name__: root for root in roots}
    while waiting:
        name, module = waiting.popitem()
        modules[name] = module
        for below in (one for one in _names_below(name, module) if one not in modules):
            if below.endswith(".__main__"):
                skipped[below] = "not imported, since that would run it"
                continue
            found = _attempted(below)
            if isinstance(found, str):
                failed[below] = found
            else:
                waiting[below] = found
    return modules, failed, skipped


def _attempted(name: str) -> ModuleType | str:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001  whatever a module raises is told
        return f"{type(error).__name__}: {error}"


def _names_below(name: str, module: ModuleType) -> Iterator[str]:
    paths = list(getattr(module, "__path__", ()))
    for known in pkgutil.iter_modules(paths):
        yield f"{name}.{known.name}"
    for folder in (folder for path in paths for folder in _folders(Path(path))):
        yield f"{name}.{folder.name}"


def _folders(path: Path) -> Iterator[Path]:
    """Find packages without an ``__init__``, which `pkgutil` does not list."""
    if not path.is_dir():
        return
    for folder in path.iterdir():
        plain = folder.name.isidentifier() and folder.is_dir() and folder.name != "__pycache__"
        if plain and not (folder / "__init__.py").exists() and next(folder.rglob("*.py"), None) is not None:
            yield folder
