"""Packages that tests write, import and forget."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: What every sample begins with.
HEAD = """
from pep import Enforcer
enforcer = Enforcer.unbound("sample")
guard, exempt = enforcer.guard, enforcer.exempt
"""

Write = Callable[[dict[str, str]], Path]


@contextmanager
def importable(folder: Path) -> Iterator[Write]:
    """Give a function that writes modules, path -> text, which can be imported as long as the block lasts."""
    before = set(sys.modules)

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        return folder

    sys.path.insert(0, str(folder))
    try:
        yield write
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]
        sys.path_importer_cache.pop(str(folder), None)
