"""
Fuzz the condition parser: `python -m tests.policy.fuzz [SECONDS]`, or `make fuzz`.

Random words, random characters and valid conditions with a few characters changed: each is a condition or a
refusal with a place, in bounded time, and nothing in it is executed. Exits 1 on the first that is neither.
"""

from __future__ import annotations

import random
import string
import sys
import time
from typing import Final

from pep.policy import has, resource, subject
from pep.policy.condition import Condition
from pep.policy.parse import ConditionError, parse
from pep.policy.text import to_text

#: How long one text may take, in seconds.
SLOWEST: Final = 1.0

WORDS: Final = (
    *("resource", "subject", "action", "context", ".", "owner", "id", "__class__", "[", "]", "(", ")", '"a"', "'b'"),
    *("==", "!=", "<", "<=", ">", "in", "not", "and", "or", "&", "|", "~", "1", "-1", "1e999", "0x1F", "None", "True"),
    *("has(", ".contains(", ".in_(", ".starts_with(", "lambda:", "f'{x}'", "exec(", "import", ":=", "*", "\n", "\x00"),
)
SEEDS: Final = tuple(
    to_text(condition)
    for condition in (
        resource.owner == subject.id,
        has(resource.a) & ~(resource.b.in_(["x", "y"])) | resource.c.starts_with("z"),
        subject.roles.contains("admin") | (resource["any name"] <= 3),
    )
)


def made(rnd: random.Random) -> str:
    """Make one text."""
    kind = rnd.randrange(3)
    if kind == 0:
        return " ".join(rnd.choices(WORDS, k=rnd.randrange(40)))
    if kind == 1:
        return "".join(rnd.choices(string.printable + "é\u2028\x00", k=rnd.randrange(80)))
    text = list(rnd.choice(SEEDS))
    for _ in range(rnd.randint(1, 4)):
        text[rnd.randrange(len(text))] = rnd.choice(WORDS)
    return "".join(text)


def main(seconds: float) -> int:
    """Fuzz for so long; return the exit code."""
    seed = random.randrange(2**32)
    rnd, tried, read, worst = random.Random(seed), 0, 0, 0.0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        text, began = made(rnd), time.perf_counter()
        try:
            read += isinstance(parse(text), Condition)
        except ConditionError:
            pass
        except BaseException as error:  # noqa: BLE001  that is the finding
            print(f"seed {seed}: {text!r} raised {error!r}")
            return 1
        tried, worst = tried + 1, max(worst, time.perf_counter() - began)
        if worst > SLOWEST:
            print(f"seed {seed}: {text!r} took {worst:.1f} s")
            return 1
    print(
        f"{tried:,} texts in {seconds:.0f} s, {read:,} of them conditions, the slowest in {worst:.3f} s (seed {seed})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0))
