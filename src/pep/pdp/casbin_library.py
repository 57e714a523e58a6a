"""
Which library the name ``casbin`` imports; the one that is wanted is the distribution ``pycasbin``.

Imports the error tree only; the library when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from pep.errors import ConfigurationError

#: What the library is known by, whatever else is called `casbin`.
_MARKS: Final = ("Enforcer", "AsyncEnforcer", "FastEnforcer", "SyncedEnforcer")


def casbin_library() -> Any:  # noqa: ANN401  a module without types
    """
    Import pycasbin.

    Raises:
        ConfigurationError: When it is missing, when the import finds something else of that name, and when its
            predecessor, the distribution ``casbin``, is installed in its place or over it.
    """
    wanted, older = _version("pycasbin"), _version("casbin")
    if older is not None:
        over = f"over `pycasbin` {wanted}" if wanted is not None else "in place of `pycasbin`"
        message = f"`casbin` {older} is installed {over}; uninstall both, then install `pep[casbin]`"
        raise ConfigurationError(message)
    try:
        library = import_module("casbin")
    except ImportError as error:
        message = "Casbin needs an extra; install `pep[casbin]`"
        raise ConfigurationError(message) from error
    if wanted is None or not all(isinstance(getattr(library, mark, None), type) for mark in _MARKS):
        message = "`import casbin` finds another module than `pycasbin`; rename it, and install `pep[casbin]`"
        raise ConfigurationError(message)
    return library


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
