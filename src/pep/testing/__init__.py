"""
For tests of guarded code, and of what is plugged into an enforcer.

Needs no extra: what needs pytest or Hypothesis is in `pep.testing.pytest_plugin` and
`pep.testing.strategies`, and is not imported here.
"""

from __future__ import annotations

from pep.testing.clock import FakeClock
from pep.testing.conformance import NotConforming, check_handler, check_pdp, check_sink
from pep.testing.failing import FailingPDP, FailingSink
from pep.testing.fakes import FakeHandler, FakeObserver, FakeProvider
from pep.testing.injection import adrive, drive, inject
from pep.testing.laws import comparable, complaints
from pep.testing.mishaps import LATE, MISHAPS, Mishap
from pep.testing.override import World, override
from pep.testing.performing import Event, Stage
from pep.testing.scripted import ScriptedPDP, deny_all, permit_all

__all__ = [
    "LATE",
    "MISHAPS",
    "Event",
    "FailingPDP",
    "FailingSink",
    "FakeClock",
    "FakeHandler",
    "FakeObserver",
    "FakeProvider",
    "Mishap",
    "NotConforming",
    "ScriptedPDP",
    "Stage",
    "World",
    "adrive",
    "check_handler",
    "check_pdp",
    "check_sink",
    "comparable",
    "complaints",
    "deny_all",
    "drive",
    "inject",
    "override",
    "permit_all",
]
