"""
Puts the todo application behind five engines, and shows that all of them decide the same 40 calls alike.

Run it by ``make demo-engines``, or ``python examples/engines/compare.py [FOLDER]``; audit files go into that folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import servers

HERE = Path(__file__).resolve().parent
ENGINES = ("embedded", "cedar", "casbin", "cerbos", "authzen")
BUILD = HERE.parents[1] / "build" / "demo"


def told(engine: str, folder: Path) -> list[dict[str, Any]]:
    """Run the application behind an engine, in a process of its own; return what came of each call."""
    command = [sys.executable, str(HERE / "run.py"), engine, str(folder)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=servers.ENVIRONMENT).stdout  # noqa: S603  our own
    return [json.loads(line) for line in printed.splitlines()]


def available(engine: str) -> str | None:
    """Return why an engine is not here, if it is not."""
    try:
        if engine == "cerbos":
            servers.cerbos_program()
    except servers.Unavailable as error:
        return str(error)
    return None


def main(folder: Path) -> int:
    """Run every engine that is here; return how many calls they did not agree on."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = {engine: why for engine in ENGINES if (why := available(engine)) is not None}
    answers = {engine: told(engine, folder) for engine in ENGINES if engine not in missing}
    print("The same 40 calls of the todo application, behind each engine\n")
    print(f"  {'':18}{'':9}" + "".join(f"{engine:12}" for engine in answers).rstrip())
    differing = 0
    for row in zip(*answers.values(), strict=True):
        outcomes = [answer["outcome"] for answer in row]
        differing += len(set(outcomes)) > 1
        print(f"  {row[0]['call']:18}{row[0]['user']:9}" + "".join(f"{outcome:12}" for outcome in outcomes).rstrip())
    for engine, why in missing.items():
        print(f"\n  {engine} was left out: {why}")
    print(f"\n{len(answers)} engines, {differing} calls on which they differ; audit files are in {folder}")
    return differing


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else BUILD))
