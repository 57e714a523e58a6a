"""
Runs every example in the README, the documentation and the docstrings of the library.

Each document has a namespace of its own, and a temporary working directory.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from doctest import ELLIPSIS
from typing import Any, Final

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser

_OPEN: Final = "_open"


def _enter(namespace: dict[str, Any]) -> None:
    """Let a document start like a script, in an empty folder."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.callback(os.chdir, os.getcwd())  # noqa: PTH109  a working directory is the process's
        os.chdir(folder)
        namespace.update({"__name__": "__main__", _OPEN: stack.pop_all()})


def _leave(namespace: dict[str, Any]) -> None:
    namespace[_OPEN].close()


_PAGES: Final = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS), SkipParser()],
    patterns=["README.md", "docs/**/*.md", "docs/*.md"],
    setup=_enter,
    teardown=_leave,
)
_DOCSTRINGS: Final = Sybil(
    parsers=[DocTestParser(optionflags=ELLIPSIS)],
    patterns=["src/**/*.py", "src/*.py"],
    setup=_enter,
    teardown=_leave,
)

pytest_collect_file = (_PAGES + _DOCSTRINGS).pytest()
