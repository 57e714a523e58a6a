"""One of several processes that retry with the same approvals at once; see `test_races`."""

from __future__ import annotations

import sys

from pep.approvals.sqlite import SQLiteStore
from tests.approvals.desks import SECRET, Bank


def main(path: str, names: list[str]) -> None:
    """Say ready, wait to be told, and tell how often the code ran, by approval."""
    bank = Bank(store=lambda clock: SQLiteStore(path, secret=SECRET, clock=clock, timeout=30), deadline=1e6)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    for number, name in enumerate(names):
        bank.transfer("1", number, brings=name)
    sys.stdout.write(" ".join(map(str, bank.ran)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2].split(","))
