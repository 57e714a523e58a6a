"""
Runs every topic, each in a process of its own, so that none inherits another's memory or threads.

Takes what each topic takes: ``--quick``, ``--full``, ``--compare FOLDER``, ``--into FOLDER``; and the names of topics,
if not all. A topic that fails is told of, and the others run.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from harness import arguments

#: In this order.
TOPICS: Final = (
    "import_time",
    "guarded_call",
    "recorded_call",
    "durable",
    "verifying",
    "batches",
    "threads",
    "policy",
    "memory",
    "transport",
    "cerbos",
)
#: Only where others are installed.
BESIDE: Final = ("peers",)


def main() -> None:
    """Run them; exit with 1 if one failed."""
    parser = arguments("Measure every topic.")
    known = ", ".join([*TOPICS, *BESIDE])
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"only these, of {known}")
    told = parser.parse_args()
    if not {*told.topics} <= {*TOPICS, *BESIDE}:
        parser.error(f"unknown topic; choose from {known}")
    passed = [] if told.pace == "usual" else [f"--{told.pace}"]
    passed += ["--into", str(told.into)]
    passed += [] if told.compare is None else ["--compare", str(told.compare)]
    failed = [topic for topic in told.topics or TOPICS if not ran(topic, passed)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        sys.exit(1)


def ran(topic: str, passed: list[str]) -> bool:
    """Run one; tell whether it came to its end."""
    command = [sys.executable, str(Path(__file__).with_name(f"{topic}.py")), *passed]
    ended = subprocess.run(command, check=False).returncode == 0
    print(flush=True)
    return ended


if __name__ == "__main__":
    main()
