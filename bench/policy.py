"""
What a decision of the policies in the box costs without cache, by the number of rules, beside its peers.

Two shapes: access lists (subject id, action, resource id) and roles (one role and one ownership condition), each
asked by a working set of 200 requests and by uniformly random ones. The floor is a hand-written dict check in the
same process; a hand-written guarded check (clock, context variable, dict, record) tells how fast the machine is.
Each set is measured in a process of its own. Peers are measured where they are installed, at the sizes they bear.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from footprint import peak
from harness import Bench, Row, at_most, figure, main, missing

from pep.model import AccessRequest, Effect, Resource, Subject
from pep.policy import PolicySet, Rule, permit, resource, subject

SIZES: Final = (10, 1_000, 100_000)
WORKING_SET: Final = 200
RANDOM: Final = 20_000
ROUNDS: Final = 7
SLOWEST: Final = at_most(2)
#: How the requests are drawn → how much slower the largest set may be than the smallest.
FLAT: Final = {"working_set": at_most(1.3), "random": at_most(2.5)}

Figures = dict[str, Any]


def acl_rules(size: int) -> list[Rule]:
    """Build an access list: each rule is one subject and one resource."""
    return [
        permit(
            f"r{number}",
            action="read",
            resource="document",
            when=(subject.id == f"u{number % 1000}") & (resource.id == f"d{number}"),
        )
        for number in range(size)
    ]


def acl_request(number: int) -> AccessRequest:
    """Ask what rule *number* permits."""
    return AccessRequest(Subject("user", f"u{number % 1000}"), "read", Resource("document", f"d{number}"))


def role_rules(size: int) -> list[Rule]:
    """Build role rules: each is one role, and that the resource is the subject's own."""
    return [
        permit(
            f"r{number}",
            action="read",
            resource="document",
            when=subject.roles.contains(f"role{number}") & (resource.owner == subject.id),
        )
        for number in range(size)
    ]


def role_request(number: int) -> AccessRequest:
    """Ask what rule *number* permits."""
    who = Subject("user", "ann", {"roles": ["employee", f"role{number}"]})
    return AccessRequest(who, "read", Resource("document", f"d{number}", {"owner": "ann"}))


SHAPES: Final = {"acl": (acl_rules, acl_request), "role": (role_rules, role_request)}


def microseconds(ask: Callable[[Any], object], asked: Sequence[Any]) -> float:
    """Return what one question costs: the best of some rounds over all of them."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for one in asked:
            ask(one)
        best = min(best, time.perf_counter() - started)
    return round(best / len(asked) * 1e6, 3)


def drawn(make: Callable[[int], Any], size: int) -> tuple[list[Any], list[Any]]:
    """Draw a working set, and uniformly random requests."""
    rnd = random.Random(1)  # noqa: S311  a repeatable draw
    return [make(rnd.randrange(size)) for _ in range(WORKING_SET)], [make(rnd.randrange(size)) for _ in range(RANDOM)]


def floor() -> Figures:
    """Measure the hand-written checks."""
    permitted = {(f"u{number % 1000}", "read", f"d{number}") for number in range(SIZES[0])}
    who: ContextVar[Subject] = ContextVar("who")
    who.set(Subject("user", "u1"))
    cached = {("u1", "read", "d1"): float("inf")}
    records: list[tuple[Any, ...]] = []

    def check(request: AccessRequest) -> bool:
        return (request.subject.id, request.action.name, request.resource.id) in permitted

    def guarded(name: str) -> str:
        moment, caller = time.monotonic(), who.get()
        if cached.get((caller.id, "read", name), 0.0) < moment:
            raise PermissionError
        records.append((moment, caller.id, "read", name))
        return name

    dict_check = microseconds(check, [acl_request(number % SIZES[0]) for number in range(RANDOM)])
    return {"dict_check": dict_check, "guarded_check": microseconds(guarded, ["d1"] * RANDOM)}


def ours(shape: str, size: int) -> Figures:
    """Measure decisions at one size."""
    make_rules, make_request = SHAPES[shape]
    policies = PolicySet(make_rules(size))
    working, uniform = drawn(make_request, size)
    for request in (*working, *uniform):
        if policies.decide(request).effect is not Effect.PERMIT:
            sys.exit(f"{shape} of {size}: a decision is wrong")
    gc.collect()
    return {
        "working_set": microseconds(policies.decide, working),
        "random": microseconds(policies.decide, uniform),
    }


def loading(shape: str, size: int) -> Figures:
    """Measure, in this process of its own, what loading the largest set takes."""
    before = peak()
    started = time.perf_counter()
    rules = SHAPES[shape][0](size)
    built = time.perf_counter()
    policies = PolicySet(rules)
    loaded = time.perf_counter()
    figures = {"write_seconds": built - started, "load_seconds": loaded - built, "megabytes": peak() - before}
    return {name: round(value, 2) for name, value in figures.items()} | {"rules": len(policies)}


def from_file(size: int) -> Figures:
    """Load a TOML file of many rules, with a progress bar, and measure the rate."""
    entry = (
        '[[permit]]\nid = "r{0}"\naction = "read"\nresource = "document"\n'
        "when = \"'role{0}' in subject.roles and resource.owner == subject.id\"\n\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policies.toml"
        path.write_text("".join(entry.format(number) for number in range(size)), encoding="utf-8")
        started = time.perf_counter()
        policies = PolicySet.load(path, progress=bar)
        seconds = time.perf_counter() - started
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return {"rules": len(policies), "seconds": round(seconds, 2), "rules_per_second": round(size / seconds)}


def bar(done: int, total: int) -> None:
    """Draw a progress bar on a terminal."""
    if sys.stderr.isatty():
        filled = 40 * done // max(total, 1)
        print(f"\r[{'#' * filled}{'.' * (40 - filled)}] {done:,} of {total:,}", end="", file=sys.stderr, flush=True)


def casbin(size: int) -> Callable[[AccessRequest], object]:
    """Set up pycasbin's `FastEnforcer`, which finds policies by resource and subject; adding takes quadratic time."""
    from casbin import FastEnforcer  # noqa: PLC0415  measured where it is installed

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.conf"
        model.write_text(
            "[request_definition]\nr = sub, obj, act\n[policy_definition]\np = sub, obj, act\n"
            "[policy_effect]\ne = some(where (p.eft == allow))\n"
            "[matchers]\nm = r.sub == p.sub && r.obj == p.obj && r.act == p.act\n",
            encoding="utf-8",
        )
        enforcer = FastEnforcer(str(model), cache_key_order=[1, 0])
    enforcer.add_policies([[f"u{number % 1000}", f"d{number}", "read"] for number in range(size)])
    return lambda request: enforcer.enforce(request.subject.id, request.resource.id, request.action.name)


def oso(size: int) -> Callable[[AccessRequest], object]:
    """Set up oso with one fact a rule."""
    from oso import Oso  # noqa: PLC0415  measured where it is installed

    engine = Oso()
    engine.load_str("\n".join(f'allow("u{number % 1000}", "read", "d{number}");' for number in range(size)))
    return lambda request: engine.is_allowed(request.subject.id, request.action.name, request.resource.id)


def vakt(size: int) -> Callable[[AccessRequest], object]:
    """Set up vakt with one policy a rule."""
    from vakt import ALLOW_ACCESS, Guard, Inquiry, MemoryStorage, Policy, RulesChecker  # noqa: PLC0415  likewise
    from vakt.rules import Eq  # noqa: PLC0415  likewise

    storage = MemoryStorage()
    for number in range(size):
        parts = {"subjects": [Eq(f"u{number % 1000}")], "resources": [Eq(f"d{number}")], "actions": [Eq("read")]}
        storage.add(Policy(f"r{number}", effect=ALLOW_ACCESS, **parts))
    guard = Guard(storage, RulesChecker())

    def ask(request: AccessRequest) -> object:
        who, what = request.subject.id, request.resource.id
        return guard.is_allowed(Inquiry(subject=who, resource=what, action=request.action.name))

    return ask


def rego(size: int) -> Callable[[AccessRequest], object]:
    """Set up a compiled Rego program, with one rule a rule."""
    from regorus import Program, Rvm  # noqa: PLC0415  measured where it is installed

    rules = "\n".join(
        f'allow if {{ input.s == "u{number % 1000}"; input.a == "read"; input.r == "d{number}" }}'
        for number in range(size)
    )
    module = f"package p\nimport rego.v1\ndefault allow := false\n{rules}\n"
    machine = Rvm()
    machine.load_program(Program.compile_from_modules("{}", [("p.rego", module)], ["data.p.allow"]))

    def ask(request: AccessRequest) -> object:
        told = {"s": request.subject.id, "a": request.action.name, "r": request.resource.id}
        machine.set_input_json(json.dumps(told))
        return machine.execute() == "true"

    return ask


#: Package → how it is set up, the sizes it bears, and how many requests are asked.
PEERS: Final[dict[str, tuple[Callable[[int], Callable[[AccessRequest], object]], tuple[int, ...], int]]] = {
    "casbin": (casbin, (10, 1_000), 200),
    "oso": (oso, (10, 1_000), 50),
    "vakt": (vakt, (10, 1_000), 50),
    "regorus": (rego, (10, 1_000), 50),
}


def peers() -> Iterator[tuple[str, int, float | str]]:
    """Measure each peer that is installed; say which is not."""
    for name, (make, sizes, asked) in PEERS.items():
        if importlib.util.find_spec(name) is None:
            yield name, 0, "not installed"
            continue
        for size in sizes:
            ask = make(size)
            working = drawn(acl_request, size)[0][:asked]
            if not all(ask(request) for request in working):
                sys.exit(f"{name} of {size}: a decision is wrong")
            yield name, size, microseconds(ask, working)


def apart(*arguments: str) -> Figures:
    """Measure in a fresh process, whose memory holds nothing else."""
    told = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout
    figures: Figures = json.loads(told)
    return figures


def decisions(sizes: Sequence[int]) -> Iterator[Row]:
    """Measure one decision, by shape and size."""
    for shape in SHAPES:
        found = {size: apart("decide", shape, str(size)) for size in sizes}
        for drawing, flat in FLAT.items():
            how = drawing.replace("_", " ")
            for size, one in found.items():
                yield figure(f"{shape}, {size:,} rules, {how}", one[drawing], "µs", SLOWEST)
            ratio = found[sizes[-1]][drawing] / found[sizes[0]][drawing]
            yield figure(f"{shape}, {how}: {sizes[-1]:,} over {sizes[0]} rules", ratio, "", flat)


def loaded(size: int) -> Iterator[Row]:
    """Measure what loading takes: rules built in Python, and a file."""
    for shape in SHAPES:
        found = apart("load", shape, str(size))
        yield figure(f"{shape}: load {found['rules']:,} rules", found["load_seconds"], "s", at_most(2))
        yield figure(f"{shape}: memory of {found['rules']:,} rules", found["megabytes"], "MB", at_most(200))
    found = apart("file", str(size))
    told = f"{found['rules_per_second']:,} rules a second"
    yield figure(f"load a TOML file of {found['rules']:,} rules", found["seconds"], "s", note=told)


def beside() -> Iterator[Row]:
    """Measure every peer."""
    for name, size, cost in peers():
        title = f"{name}, {size:,} rules" if size else name
        yield missing(name, cost) if isinstance(cost, str) else figure(title, cost, "µs")


def fill(bench: Bench) -> None:
    """Add every row."""
    sizes = SIZES if bench.pace != "quick" else SIZES[:2]
    bench.once(lambda: [figure(f"{name.replace('_', ' ')} by hand", cost, "µs") for name, cost in floor().items()])
    bench.once(lambda: decisions(sizes))
    bench.once(lambda: loaded(sizes[-1]))
    bench.once(beside)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["decide", shape, size]:
            print(json.dumps(ours(shape, int(size))))
        case ["load", shape, size]:
            print(json.dumps(loading(shape, int(size))))
        case ["file", size]:
            print(json.dumps(from_file(int(size))))
        case _:
            main("policy", fill, rounds=ROUNDS)
