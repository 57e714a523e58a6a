"""
The engines that the todo application can be put behind, a line each: everything else of it stays as it is.

``with ENGINES[name]() as pdp:`` gives a decision point, and ends what it needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

import servers
from policies import POLICIES
from serve import TOKEN

from pep.pdp.authzen import AuthZENPDP
from pep.pdp.casbin import CasbinPDP
from pep.pdp.cedar import CedarPDP
from pep.pdp.cerbos import CerbosPDP
from pep.transport import HTTPTransport

HERE = Path(__file__).resolve().parent


@contextmanager
def embedded() -> Iterator[Any]:
    """Decide with the policies that come with the application."""
    yield POLICIES


@contextmanager
def cedar() -> Iterator[Any]:
    """Decide with Cedar, in process."""
    yield CedarPDP(HERE / "todo.cedar")


@contextmanager
def casbin() -> Iterator[Any]:
    """Decide with Casbin, in process; the model asks for whole entities, so that it can read their attributes."""
    asked = ("subject.entity", "resource.entity", "action.name")
    yield CasbinPDP.of_files(HERE / "casbin_model.conf", HERE / "casbin_policy.csv", request=asked)


@contextmanager
def cerbos() -> Iterator[Any]:
    """Ask a Cerbos server."""
    with servers.cerbos() as server, HTTPTransport() as transport:
        yield CerbosPDP(server.url, transport=transport)


@contextmanager
def authzen() -> Iterator[Any]:
    """Ask another team's AuthZEN server: `serve.py`."""
    with servers.authzen() as server, HTTPTransport(credentials=TOKEN) as transport:
        yield AuthZENPDP(server.url, transport=transport)


ENGINES: Final[dict[str, Callable[[], AbstractContextManager[Any]]]] = {
    "embedded": embedded,
    "cedar": cedar,
    "casbin": casbin,
    "cerbos": cerbos,
    "authzen": authzen,
}
