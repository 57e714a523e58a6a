"""A heartbeat: it probes again and again, tells what came of it, and never outlives who has it."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final

import pytest

from pep import heartbeat as module
from pep.compose import CircuitBreaker, ResilientPDP
from pep.errors import ConfigurationError, PDPInsecure, PDPUnavailable
from pep.heartbeat import Heartbeat
from pep.plan import Plan, call, remaining, sleep
from pep.policy import PolicySet
from pep.testing import FakeClock

#: A bound on what should happen at once, in seconds.
SOON: Final = 10.0


class Engine:
    """A decision point that can be probed."""

    name = "engine"

    def __init__(self, *probes: Any) -> None:
        self.probes = list(probes) or [None]
        self.probed = 0
        self.lefts: list[float] = []

    def decide(self, _request: Any) -> bool:
        return True

    def probe(self) -> Plan[None]:
        self.lefts.append((yield from remaining()))
        yield from call(self._probed)

    def _probed(self) -> None:
        self.probed += 1
        what = self.probes.pop(0) if len(self.probes) > 1 else self.probes[0]
        if isinstance(what, BaseException):
            raise what


class Pulse:
    """The waiting of a heartbeat, let go one beat at a time."""

    def __init__(self) -> None:
        self.waited: list[float] = []
        self.arrived: SimpleQueue[None] = SimpleQueue()
        self.answers: SimpleQueue[bool] = SimpleQueue()

    def __call__(self, seconds: float) -> bool:
        self.waited.append(seconds)
        self.arrived.put(None)
        return self.answers.get(timeout=SOON)

    def arrive(self) -> None:
        self.arrived.get(timeout=SOON)

    def beat(self) -> None:
        """Let it beat once, and wait until it waits again."""
        self.answers.put(False)
        self.arrive()

    def stop(self, heartbeat: Heartbeat) -> None:
        thread = heartbeat._thread
        self.answers.put(True)
        heartbeat.close()
        assert thread is not None
        thread.join(SOON)
        assert not thread.is_alive()


def beating(*probes: Any, **options: Any) -> tuple[Heartbeat, Pulse, Engine]:
    engine, pulse = Engine(*probes), Pulse()
    heartbeat = Heartbeat(engine, wait=pulse, **options)
    heartbeat.start()
    pulse.arrive()
    return heartbeat, pulse, engine


def test_it_probes_at_once_and_then_again_and_again() -> None:
    """The first probe waits for nothing; what comes of each is told."""
    heartbeat, pulse, engine = beating(None, PDPUnavailable(), PDPInsecure(), None, every=7.0)
    told = [heartbeat.health()]
    for _beat in range(4):
        pulse.beat()
        told.append(heartbeat.health())
    assert [(one["state"], one["beats"], one["failed"], one["fault"]) for one in told] == [
        ("unknown", 0, 0, None),
        ("up", 1, 0, None),
        ("down", 2, 1, "unreachable"),
        ("down", 3, 2, "insecure"),
        ("up", 4, 2, None),
    ]
    assert told[0]["age"] is None
    assert pulse.waited == [0.0, 7.0, 7.0, 7.0, 7.0]
    pulse.stop(heartbeat)
    assert engine.probed == 4
    assert heartbeat.health()["state"] == "closed"


@pytest.mark.parametrize("error", [ValueError(), MemoryError(), SystemExit(), KeyboardInterrupt()])
def test_no_probe_ends_the_thread(error: BaseException) -> None:
    """Whatever it raises is counted, and the next one comes."""
    heartbeat, pulse, engine = beating(error, None)
    pulse.beat()
    assert (heartbeat.health()["fault"], heartbeat.health()["failed"]) == ("internal", 1)
    pulse.beat()
    assert heartbeat.health()["state"] == "up"
    pulse.stop(heartbeat)
    assert engine.probed == 2


def test_a_beat_may_be_made_by_hand() -> None:
    """Without a thread, for whoever has a scheduler of their own; an interrupt goes through."""
    heartbeat = Heartbeat(Engine(None, PDPUnavailable(), KeyboardInterrupt()))
    assert [heartbeat.beat(), heartbeat.beat()] == [True, False]
    with pytest.raises(KeyboardInterrupt):
        heartbeat.beat()
    assert heartbeat.health()["beats"] == 3
    assert heartbeat._thread is None


def test_a_probe_has_a_deadline_of_its_own() -> None:
    """Its steps are told how much time they have; one that takes longer has failed."""
    clock = FakeClock()
    engine = Engine()
    heartbeat = Heartbeat(engine, timeout=0.5, clock=clock)
    engine._probed = lambda: clock.advance(0.6)  # type: ignore[method-assign]
    assert not heartbeat.beat()
    assert engine.lefts == [0.5]
    assert heartbeat.health()["fault"] == "timeout"


def test_one_that_hangs_is_overdue() -> None:
    """Nobody can cut short what blocks; health says so."""
    clock, gate = FakeClock(), threading.Event()
    engine, pulse = Engine(), Pulse()
    heartbeat = Heartbeat(engine, every=5.0, timeout=1.0, clock=clock, wait=pulse)
    begun: SimpleQueue[None] = SimpleQueue()

    def hang() -> None:
        begun.put(None)
        gate.wait(SOON)

    engine._probed = hang  # type: ignore[method-assign]
    heartbeat.start()
    pulse.arrive()
    pulse.answers.put(False)
    begun.get(timeout=SOON)
    states = [heartbeat.health()["state"]]
    clock.advance(7.5)
    states.append(heartbeat.health()["state"])
    assert states == ["unknown", "overdue"]
    assert heartbeat.health()["age"] == 7.5
    gate.set()
    pulse.arrive()
    pulse.stop(heartbeat)


def test_what_can_only_be_awaited_is_awaited() -> None:
    """On the thread's own event loop."""
    probed: list[str] = []

    class Awaited:
        asynchronous = True

        async def decide(self, _request: Any) -> bool:
            return True

        async def probe(self) -> None:
            await asyncio.sleep(0)
            probed.append(threading.current_thread().name)
            if len(probed) > 1:
                raise PDPUnavailable

    pulse = Pulse()
    heartbeat = Heartbeat(Awaited(), wait=pulse)
    heartbeat.start()
    pulse.arrive()
    pulse.beat()
    assert heartbeat.health()["state"] == "up"
    pulse.beat()
    assert heartbeat.health()["fault"] == "unreachable"
    pulse.stop(heartbeat)
    assert probed == ["pep-heartbeat"] * 2


def test_it_opens_and_closes_the_breaker_before_a_caller_comes() -> None:
    """An outage and a recovery are found without any question."""
    down = PDPUnavailable()
    engine = Engine(None, down, down, None, None, None)
    pdp = ResilientPDP(engine, breaker=CircuitBreaker(open_for=1000.0, probes=2))
    heartbeat = Heartbeat(pdp)
    states = []
    for _beat in range(6):
        heartbeat.beat()
        states.append(pdp.health()["state"])
    assert states == ["closed", "closed", "open", "half-open", "closed", "closed"]


def test_it_is_started_and_closed_once() -> None:
    """Starting twice starts one thread; a closed one is not started again; closing twice is closing."""
    heartbeat, pulse, _engine = beating()
    thread = heartbeat._thread
    heartbeat.start()
    assert heartbeat._thread is thread
    pulse.stop(heartbeat)
    heartbeat.start()
    heartbeat.close()
    assert heartbeat._thread is None


def test_it_may_close_itself() -> None:
    """A probe that closes it waits for no thread, least of all its own."""
    engine, pulse = Engine(), Pulse()
    heartbeat = Heartbeat(engine, wait=pulse)
    engine._probed = heartbeat.close  # type: ignore[method-assign]
    heartbeat.start()
    thread = heartbeat._thread
    pulse.arrive()
    pulse.beat()
    assert heartbeat.health()["state"] == "closed"
    pulse.answers.put(True)
    assert thread is not None
    thread.join(SOON)


def test_closing_waits_for_real_waiting_to_end() -> None:
    """Its own waiting ends at once when it is closed."""
    probed = threading.Event()
    engine = Engine()
    engine._probed = probed.set  # type: ignore[method-assign]
    heartbeat = Heartbeat(engine, every=3600.0)
    heartbeat.start()
    thread = heartbeat._thread
    assert probed.wait(SOON)
    heartbeat.close()
    assert thread is not None
    thread.join(SOON)
    assert not thread.is_alive()


@pytest.mark.parametrize("real", [True, False])
def test_one_that_nobody_has_ends_its_thread(real: bool) -> None:
    """The thread keeps neither the heartbeat nor the decision point."""
    probed, pulse = threading.Event(), Pulse()
    engine = Engine()
    engine._probed = probed.set  # type: ignore[method-assign]
    heartbeat = Heartbeat(engine, every=3600.0, wait=None if real else pulse)
    heartbeat.start()
    thread, gone = heartbeat._thread, weakref.ref(heartbeat)
    if not real:
        pulse.arrive()
        pulse.beat()
    assert probed.wait(SOON)
    del heartbeat, engine
    until = time.monotonic() + SOON
    while gone() is not None and time.monotonic() < until:
        gc.collect()
    assert gone() is None
    if not real:
        pulse.answers.put(False)
    assert thread is not None
    thread.join(SOON)
    assert not thread.is_alive()


def test_what_exits_closes_it() -> None:
    """What is registered for the exit closes one that is there, and leaves alone one that is gone."""
    heartbeat, pulse, _engine = beating()
    pulse.answers.put(True)
    heartbeat._at_exit()
    assert heartbeat.health()["state"] == "closed"
    module._exiting(lambda: None)  # type: ignore[arg-type]


def test_a_program_ends_with_one_that_runs() -> None:
    """Neither waiting nor probing keeps a program from its end, and nothing is said about it."""
    program = """
import threading
from pep.heartbeat import Heartbeat

probing = threading.Event()

class Engine:
    def __init__(self, waits):
        self.waits = waits
    def decide(self, request):
        return True
    def probe(self):
        probing.set()
        if self.waits:
            threading.Event().wait()

for waits in (False, True):
    probing.clear()
    Heartbeat.start(kept := Heartbeat(Engine(waits), every=0.001, timeout=0.05))
    globals()[f"kept{waits}"] = kept
    probing.wait()
print("done")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")


def test_nothing_starts_while_the_interpreter_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a thread nor a probe."""
    heartbeat, pulse, engine = beating()
    later = Heartbeat(engine)
    monkeypatch.setattr("pep.heartbeat.sys.is_finalizing", lambda: True)
    later.start()
    assert later._thread is None
    thread = heartbeat._thread
    pulse.answers.put(False)
    assert thread is not None
    thread.join(SOON)
    assert not thread.is_alive()
    assert engine.probed == 0
    monkeypatch.undo()
    heartbeat.close()


def in_child(check: Callable[[], bool]) -> int:
    child = os.fork()
    if not child:
        status = 1
        try:
            status = 0 if check() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_one_of_its_own() -> None:
    """It goes on there, after a pause, and counts from the start; what did not run or was closed does not."""
    heartbeat, pulse, engine = beating(PDPUnavailable(), every=2.0)
    idle, closed = Heartbeat(Engine()), Heartbeat(Engine())
    closed.close()
    pulse.beat()

    def check() -> bool:
        pulse.arrive()
        fresh = heartbeat.health()
        pulse.beat()
        later = heartbeat.health()
        pulse.stop(heartbeat)
        return (
            (fresh["state"], fresh["beats"], later["beats"], engine.probed) == ("unknown", 0, 1, 2)
            and pulse.waited[-2:] == [2.0, 2.0]
            and idle._thread is None
            and closed._thread is None
        )

    assert in_child(check) == 0
    pulse.beat()
    assert heartbeat.health()["beats"] == 2
    pulse.stop(heartbeat)


def test_a_child_without_room_for_a_thread_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork is not disturbed by that."""
    heartbeat, pulse, _engine = beating()
    thread = heartbeat._thread

    def refuse(_self: object) -> None:
        message = "can't start new thread"
        raise RuntimeError(message)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _fork in range(2):
        heartbeat._forked()
        assert heartbeat._thread is None
    pulse.answers.put(True)
    assert thread is not None
    thread.join(SOON)
    heartbeat.close()


class Unprobed:
    def decide(self, _request: Any) -> bool:
        return True


@pytest.mark.parametrize(
    ("make", "mend"),
    [
        (lambda: Heartbeat(Unprobed()), "`Unprobed` cannot be probed; bring a decision point with `probe`"),
        (lambda: Heartbeat(ResilientPDP(PolicySet([]))), "cannot be probed"),
        (lambda: Heartbeat(print), "wrap a function"),
        (lambda: Heartbeat(Engine(), every=0), "`every`"),
        (lambda: Heartbeat(Engine(), timeout=float("inf")), "`timeout`"),
    ],
)
def test_mistakes_are_found_where_they_are_written(make: Callable[[], object], mend: str) -> None:
    """What cannot be probed, or no time, is refused at once."""
    with pytest.raises(ConfigurationError, match=mend):
        make()


def test_a_threaded_probe_is_cut_short() -> None:
    """Where a decision point is asked on a thread, so is its probe."""
    gate = threading.Event()

    class Threaded(Engine):
        threaded = True

        def probe(self) -> Any:
            gate.wait(SOON)

    heartbeat = Heartbeat(Threaded(), timeout=0.01)
    assert not heartbeat.beat()
    gate.set()
    assert heartbeat.health()["fault"] == "timeout"


def test_a_plan_of_steps_is_cut_short() -> None:
    """What sleeps past its time has failed."""

    class Sleepy(Engine):
        def probe(self) -> Plan[None]:
            yield from sleep(SOON)
            yield from call(lambda: None)

    assert not Heartbeat(Sleepy(), timeout=0.01).beat()
