"""
What `import pep` costs over importing the core dependencies alone.

Each import runs in a fresh interpreter and is timed there, without the interpreter's own start.
"""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from harness import Bench, Timed, at_most, main

import pep

DEPENDENCIES: Final = "import attrs, orjson, cachetools"
TIMED: Final = """
from time import perf_counter
start = perf_counter()
{statement}
print(perf_counter() - start)
"""


def fresh(statement: str) -> Timed:
    """Time a statement in an interpreter of its own."""
    command = [sys.executable, "-c", TIMED.format(statement=statement)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def seconds(_count: int) -> float:
        return float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)

    return seconds


def fill(bench: Bench) -> None:
    """Add every row."""
    bench.floor = DEPENDENCIES
    compileall.compile_dir(Path(pep.__file__).parent, quiet=2)  # as an installer does
    bench.time(DEPENDENCIES, fresh(DEPENDENCIES), 1)
    bench.time("import pep", fresh("import pep"), 1, bound=at_most(2))


if __name__ == "__main__":
    main("import_time", fill)
