"""
What `import pep` costs over importing the core dependencies alone.

Each import runs in a fresh interpreter and is timed there, without the interpreter's own start. The two
take turns, so that a busy machine slows both; medians are compared. Figures go to `build/bench/import.json`.
"""

from __future__ import annotations

import compileall
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Final

ROUNDS: Final = 25
BOUND: Final = 2.0
RESULT: Final = Path(__file__).resolve().parent.parent / "build" / "bench" / "import.json"

SUBJECTS: Final = {"pep": "import pep", "dependencies": "import attrs, orjson, cachetools"}
TIMED: Final = """
from time import perf_counter
start = perf_counter()
{statement}
print(perf_counter() - start)
"""


SOURCE: Final = Path(__file__).resolve().parent.parent / "src" / "pep"


def seconds(statement: str) -> float:
    """How long *statement* takes in a fresh interpreter."""
    command = [sys.executable, "-c", TIMED.format(statement=statement)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def main() -> None:
    """Measure, print one line, and write the figures down."""
    compileall.compile_dir(SOURCE, quiet=2)  # as an installer does
    for statement in SUBJECTS.values():
        seconds(statement)
    rounds = [{name: seconds(statement) for name, statement in SUBJECTS.items()} for _ in range(ROUNDS)]
    medians = {name: statistics.median(figures[name] for figures in rounds) for name in SUBJECTS}
    ratio = medians["pep"] / medians["dependencies"]
    figures = {
        "python": platform.python_version(),
        "rounds": ROUNDS,
        "median_seconds": medians,
        "ratio": round(ratio, 3),
        "bound": BOUND,
        "held": ratio <= BOUND,
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(
        f"import pep {medians['pep'] * 1000:.1f} ms, dependencies {medians['dependencies'] * 1000:.1f} ms: "
        f"ratio {ratio:.2f}, at most {BOUND} wanted ({'held' if ratio <= BOUND else 'NOT held'})"
    )


if __name__ == "__main__":
    main()
