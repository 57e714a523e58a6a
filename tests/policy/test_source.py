"""Policies follow their files: whole versions only, and a broken one never takes effect."""

from __future__ import annotations

import itertools
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pep.errors import ConfigurationError
from pep.model import AccessRequest, Effect, Resource, Subject
from pep.policy.partial import AllowAll
from pep.policy.source import PolicySource, Rejected, Swapped

ASKED = AccessRequest(Subject("user", "ann"), "read", Resource("doc", "1"))
CLOCK = itertools.count(1)


def write(path: Path, text: str) -> None:
    """Write a file with a time of change of its own, whatever the file system's resolution."""
    path.write_text(text)
    os.utime(path, ns=(0, next(CLOCK)))


def policy(effect: str, revision: str) -> str:
    return f'revision = "{revision}"\n[[{effect}]]\nid = "r"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "policies.toml"
    write(found, policy("permit", "1"))
    return found


def test_is_a_decision_point(path: Path) -> None:
    """A source decides, explains and filters as the set in effect does."""
    source = PolicySource(path)
    assert (source.name, source.revision, source.pure) == ("policies", "1", True)
    assert source.decide(ASKED) == source.policies.decide(ASKED)
    assert source.decide_many([ASKED, ASKED]) == [source.decide(ASKED)] * 2
    assert source.explain(ASKED) == source.policies.explain(ASKED)
    assert source.row_filter(ASKED.subject, "read", "doc") == AllowAll()
    assert repr(source) == f"<PolicySource {str(path)!r}, revision 1>"


def test_swap(path: Path) -> None:
    """Changed files take effect once they are still, and listeners hear both revisions afterwards."""
    source = PolicySource(path)
    heard: list[tuple[object, str]] = []
    source.subscribe(lambda event: heard.append((event, source.revision)))
    assert source.poll() is None
    write(path, policy("deny", "2"))
    assert source.poll() is None
    assert source.decide(ASKED).effect is Effect.PERMIT
    assert source.poll() == Swapped("1", "2")
    assert source.decide(ASKED).effect is Effect.DENY
    assert source.poll() is None
    assert heard == [(Swapped("1", "2"), "2")]


def test_files_being_written_are_not_read(path: Path) -> None:
    """As long as files change between looks they are not loaded, however valid they are half-way."""
    source = PolicySource(path)
    for number in range(5):
        write(path, policy("deny", f"half-{number}"))
        assert source.poll() is None
    assert source.revision == "1"
    assert source.poll() == Swapped("1", "half-4")


def test_broken_policies(path: Path) -> None:
    """A set that does not load leaves the old one in effect, is reported once, and is mended by the next."""
    source = PolicySource(path)
    heard: list[object] = []
    source.subscribe(heard.append)
    write(path, policy("deny", "2") + "[[")
    assert [source.poll() for _ in range(4)][2:] == [None, None]
    (rejected,) = heard
    assert isinstance(rejected, Rejected)
    assert rejected.kept == source.revision == "1"
    assert "line 4" in str(rejected.error)
    assert source.decide(ASKED).effect is Effect.PERMIT
    write(path, policy("deny", "3"))
    source.poll()
    assert source.poll() == Swapped("1", "3")


def test_vanished_policies(path: Path) -> None:
    """Policies whose files vanish stay in effect."""
    source = PolicySource(path)
    path.unlink()
    source.poll()
    assert isinstance(source.poll(), Rejected)
    assert source.decide(ASKED).effect is Effect.PERMIT


def test_folder(path: Path) -> None:
    """A folder is followed too: files that come and go in it take effect together."""
    source = PolicySource(path.parent)
    write(path.parent / "more.json", '{"deny": [{"id": "s"}]}')
    write(path, policy("permit", "2"))
    source.poll()
    assert source.poll() == Swapped("1", "2")
    assert len(source.policies) == 2
    assert source.decide(ASKED).effect is Effect.DENY


def test_reload(path: Path) -> None:
    """`reload` loads at once, also what did not change, and raises what is wrong."""
    source = PolicySource(path)
    heard: list[object] = []
    source.subscribe(heard.append)
    assert source.reload() == Swapped("1", "1")
    write(path, "[[")
    with pytest.raises(ConfigurationError):
        source.reload()
    assert [type(event) for event in heard] == [Swapped, Rejected]
    assert source.revision == "1"
    assert source.poll() is None


def test_must_load_at_first(tmp_path: Path) -> None:
    """A source without policies to begin with is refused."""
    with pytest.raises(ConfigurationError, match="no policy file"):
        PolicySource(tmp_path)


def test_all_listeners_hear(path: Path) -> None:
    """A listener that fails keeps no other from hearing, and its exception is not lost."""
    source = PolicySource(path)
    heard: list[object] = []

    def fail(_event: object) -> None:
        raise RuntimeError

    source.subscribe(fail)
    source.subscribe(heard.append)
    with pytest.raises(RuntimeError):
        source.reload()
    assert heard == [Swapped("1", "1")]


def test_watching(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A watching source notices by itself, survives a failing listener, and stops when closed."""
    caplog.set_level(logging.CRITICAL, "pep.policy")
    swapped = threading.Event()

    def heard(_event: object) -> None:
        swapped.set()
        raise RuntimeError

    source = PolicySource(path, interval=0.005)
    source.subscribe(heard)
    with source:
        assert source.start() is source
        for revision in "23":
            swapped.clear()
            write(path, policy("deny", revision))
            assert swapped.wait(20)
            assert source.revision == revision
    before = threading.active_count()
    source.close()
    assert threading.active_count() == before
    assert not [thread for thread in threading.enumerate() if thread.name == "pep-policies"]


def test_watchfiles(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `watchfiles` is installed it tells when to look; once its folder vanishes the files are polled."""
    watched: list[tuple[Path, bool]] = []

    def watch(folder: Path, *, stop_event: threading.Event, yield_on_timeout: bool, **_options: int) -> Iterator[None]:
        watched.append((folder, yield_on_timeout))
        yield
        yield
        raise FileNotFoundError

    monkeypatch.setitem(sys.modules, "watchfiles", SimpleNamespace(watch=watch))
    swapped = threading.Semaphore(0)
    source = PolicySource(path, interval=0.005)
    source.subscribe(lambda _event: swapped.release())
    write(path, policy("deny", "2"))
    with source:
        assert swapped.acquire(timeout=20)
        write(path, policy("deny", "3"))
        assert swapped.acquire(timeout=20)
    assert watched == [(path.parent, True)]
    assert source.revision == "3"


def test_no_half_versions(path: Path) -> None:
    """While versions are swapped, every batch is decided by one of them alone."""
    source = PolicySource(path)
    seen: set[tuple[str, Effect]] = set()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            decisions = source.decide_many([ASKED] * 20)
            assert len({decision.revision for decision in decisions}) == 1
            seen.update((str(decision.revision), decision.effect) for decision in decisions)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(2, 60):
        write(path, policy("deny" if number % 2 else "permit", str(number)))
        source.reload()
    stop.set()
    for thread in threads:
        thread.join()
    assert len(seen) > 1
    assert all(
        effect is (Effect.DENY if int(revision) % 2 and revision != "1" else Effect.PERMIT) for revision, effect in seen
    )
