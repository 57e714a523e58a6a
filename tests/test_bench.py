from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench"
TOPICS = (
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
    "peers",
)


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The harness, found as its topics find it, with what it imports."""
    monkeypatch.syspath_prepend(str(BENCH))
    yield importlib.import_module("harness")
    for name, module in list(sys.modules.items()):
        if getattr(module, "__file__", None) and Path(str(module.__file__)).parent == BENCH:
            del sys.modules[name]


def bench_of(modules: ModuleType, stack: ExitStack, folder: Path, rounds: int = 3) -> Any:
    return modules.Bench("a topic", "quick", folder, stack, rounds=rounds)


def command(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    told = [sys.executable, str(BENCH / f"{script}.py"), *arguments]
    return subprocess.run(told, capture_output=True, text=True, check=False)


def took(*microseconds: float) -> Any:
    """Take so long, round by round, the first of which warms up."""
    taken = iter([1.0, *microseconds])
    return lambda count: next(taken) * count / 1e6


@pytest.mark.parametrize("topic", TOPICS)
def test_every_topic_runs_and_compares(topic: str, tmp_path: Path) -> None:
    """A topic prints a table, writes its figures as JSON, and compares them with those of an earlier run."""
    first = command(topic, "--quick", "--into", str(tmp_path))
    assert first.returncode == 0, first.stderr
    figures = json.loads((tmp_path / f"{topic}.json").read_text(encoding="utf-8"))
    assert figures["topic"] == topic
    assert figures["pace"] == "quick"
    names = [row["name"] for row in figures["rows"]]
    assert len(names) == len(set(names)) >= 2
    assert all(name in first.stdout for name in names)
    # What has a figure has one that JSON can tell, and what has none says why.
    for row in figures["rows"]:
        assert row["note"] if row["median"] is None else row["median"] >= 0, row
    (tmp_path / "now").mkdir()
    if topic in {"guarded_call", "peers"}:
        again = command(topic, "--quick", "--into", str(tmp_path / "now"), "--compare", str(tmp_path))
        assert again.returncode == 0, again.stderr
        assert "change" in again.stdout
        assert "gone" not in again.stdout


def test_no_topic_is_forgotten(modules: ModuleType) -> None:
    """Every file that is a topic runs with the others, or beside what is installed for it; and is tried out here."""
    every = importlib.import_module("all")
    files = {path.stem for path in BENCH.glob("*.py") if _topic(path)}
    assert {*every.TOPICS, *every.BESIDE} == files == set(TOPICS)


def _topic(path: Path) -> bool:
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    calls = [node for node in tree if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "main" and call.args]
    return any(isinstance(call.args[0], ast.Constant) and call.args[0].value == path.stem for call in named)


def test_all_runs_those_named_and_tells_of_failures(tmp_path: Path) -> None:
    """All topics run one after the other; one that fails is told of at the end, and the others run."""
    (tmp_path / "batches.json").mkdir()
    ended = command("all", "--quick", "--into", str(tmp_path), "batches", "threads")
    assert ended.returncode == 1
    assert "failed: batches" in ended.stderr
    assert json.loads((tmp_path / "threads.json").read_text(encoding="utf-8"))["topic"] == "threads"


def test_ratios_are_medians_of_rounds(modules: ModuleType, tmp_path: Path) -> None:
    """A ratio is the median of the ratios within each round, of what is left over a bare kind, or of throughput."""
    with ExitStack() as stack:
        bench = bench_of(modules, stack, tmp_path)
        bench.floor = "floor"
        bench.time("floor", took(1, 2, 4), 10)
        bench.time("bare", took(1, 1, 1), 10)
        bench.time("own", took(3, 6, 4), 10, bound=modules.at_most(2.9))
        bench.time("over bare", took(3, 5, 21), 10, less="bare", bound=modules.at_most(2))
        bench.time("both", took(3, 5, 7), 10, less="bare", over="own", over_less="bare")
        bench.time("quicker", took(0.5, 1, 1), 10, faster=True, bound=modules.at_least(2))
        bench.time("a time", took(3, 5, 7), 10, bound=modules.at_most(5), absolute=True)
        rows = {row.name: row for row in bench.rows()}
    told = {name: (row.median, row.minimum, row.ratio, row.met) for name, row in rows.items()}
    assert told["floor"] == (pytest.approx(2), pytest.approx(1), None, None)
    assert told["own"] == (pytest.approx(4), pytest.approx(3), pytest.approx(3), False)
    assert told["over bare"] == (pytest.approx(5), pytest.approx(3), pytest.approx(2), True)
    assert told["both"] == (pytest.approx(5), pytest.approx(3), pytest.approx(1), None)
    assert told["quicker"] == (pytest.approx(1), pytest.approx(0.5), pytest.approx(2), True)
    assert told["a time"] == (pytest.approx(5), pytest.approx(3), pytest.approx(2.5), True)


def test_kinds_take_turns_and_settle_after_each(modules: ModuleType, tmp_path: Path) -> None:
    """In each round every kind has one turn, another one begins, and what it left is settled before the next."""
    seen: list[str] = []

    def doing(name: str) -> dict[str, Any]:
        return {"seconds": lambda count: seen.append(f"{name}{count}") or 1.0, "settle": lambda _: seen.append("-")}

    with ExitStack() as stack:
        bench = bench_of(modules, stack, tmp_path, rounds=1)
        bench.time("a", calls=1, **doing("a"))
        bench.time("b", calls=2, **doing("b"))
        list(bench.rows())
    assert seen == ["a1", "-", "b2", "-", "b2", "-", "a1", "-"]


def test_kind_that_did_something_else_ends_the_run(modules: ModuleType) -> None:
    """What is measured is checked: a warm call that asked, or left no record, is no warm call."""
    scene = importlib.import_module("scene")
    warm, floor = scene.world(), scene.by_hand()
    warm.settle(0)
    with pytest.raises(modules.WrongError, match="records in memory: 0, not 1"):
        warm.settle(1)
    warm.pure.asked = 1
    with pytest.raises(modules.WrongError, match="questions of a warm enforcer: 1, not 0"):
        warm.settle(0)
    floor.rename("42", "new")
    with pytest.raises(modules.WrongError, match="records by hand: 1, not 2"):
        floor.settle(2)


def test_by_hand_refuses(modules: ModuleType) -> None:
    """The floor is a check: what is not permitted does not run."""
    floor = importlib.import_module("scene").by_hand()
    with pytest.raises(PermissionError):
        floor.rename("43", "new")
    assert floor.records == []


def test_table_tells_bounds(modules: ModuleType) -> None:
    """A row shows what was measured, what is to be reached, and whether it is; or why nothing was measured."""
    rows = importlib.import_module("rows")
    told = rows.table(
        [
            rows.figure("memory", 601, "bytes", rows.at_most(600)),
            rows.figure("rate", 400_001, "/s", rows.at_least(400_000), "alone"),
            rows.missing("peer", "not installed"),
        ]
    ).splitlines()
    assert told[1].split() == ["memory", "601", "601", "bytes", "<=", "600", "MISSED"]
    assert told[2].split() == ["rate", "400,001", "400,001", "/s", ">=", "400,000", "met", "alone"]
    assert told[3].split() == ["peer", "not", "installed"]


def test_comparison_tells_changes(modules: ModuleType) -> None:
    """Ratios are compared where there are any; what came and what went is told."""
    rows = importlib.import_module("rows")
    attrs = importlib.import_module("attrs")

    def saved(*told: Any) -> dict[str, Any]:
        return {"rows": [attrs.asdict(row) for row in told]}

    before = saved(rows.Row(name="call", median=9.0, ratio=1.5), rows.figure("gone one", 2.25, "s"))
    now = saved(
        rows.Row(name="call", median=1.0, ratio=1.2), rows.figure("new one", 3.25, "s"), rows.missing("x", "no")
    )
    told = [line.split() for line in rows.compared(before, now).splitlines()]
    assert told[1:] == [
        ["call", "1.50", "1.20", "-20", "%"],
        ["new", "one", "3.25", "new"],
        ["x"],
        ["gone", "one", "2.25", "gone"],
    ]


def test_missing_peer_is_told(modules: ModuleType, tmp_path: Path) -> None:
    """A peer that does not import, does not work, or lets everybody through is told of; the run goes on."""
    peers = importlib.import_module("peers")

    def absent(_size: int) -> Any:
        message = "No module named 'absent'"
        raise ImportError(message)

    def broken(_size: int) -> Any:
        raise ValueError(1)

    with ExitStack() as stack:
        bench = bench_of(modules, stack, tmp_path, rounds=1)
        for name, make in (("absent", absent), ("broken", broken), ("open", lambda _size: lambda *_: None)):
            peers.beside(bench, name, peers.Peer(name, make), 10)
        told = {row.name: row.note for row in bench.rows()}
    assert told == {
        "absent, 10": "missing: No module named 'absent'",
        "broken, 10": "does not work here: ValueError: 1",
        "open, 10": "does not work here: WrongError: somebody else refused, document 5: False, not True",
    }


def test_peers_tell_what_to_install() -> None:
    """The environment of the peers is made from their own table."""
    told = command("peers", "--requirements").stdout.splitlines()
    assert len(told) == len(set(told)) >= 9
    assert any(line.startswith("structlog") for line in told)
