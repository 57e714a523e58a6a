"""Alerts: what no retry mends is told to an operator, and not with every call."""

from __future__ import annotations

import asyncio
import logging
import sys

import pytest

from pep import AccessRequest, Enforcer, Fault, Resource, Subject
from pep.alerting import EVERY, Alerts
from pep.audit import MemorySink
from pep.errors import PDPError, PDPInsecure, PDPRejected, PDPTimeout
from pep.pdp import FunctionPDP
from pep.testing import FakeClock

REQUEST = AccessRequest(Subject("user", "alice"), "read", Resource("document", "1"))


@pytest.mark.parametrize("world", ["sync", "async"])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PDPRejected("secret"), "decision point `cerbos` refuses this enforcement point; check its URL"),
        (PDPInsecure("secret"), "decision point `cerbos` could not prove who it is; check its certificate"),
        (PDPTimeout("secret"), None),
    ],
)
def test_what_an_operator_has_to_mend_is_told(
    error: PDPError, told: str | None, world: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A decision point that refuses us, or is not who it should be, is told of at once, and then once a minute."""

    def decide(_request: AccessRequest) -> bool:
        raise error

    clock = FakeClock()
    enforcer = Enforcer(FunctionPDP(decide, name="cerbos"), audit=MemorySink(), clock=clock)
    caplog.set_level(logging.WARNING, "pep")

    def ask(times: int) -> None:
        for _ in range(times):
            verdicts = enforcer.check(REQUEST) if world == "sync" else asyncio.run(enforcer.acheck(REQUEST))
            assert not verdicts.allowed

    ask(3)
    assert [record.getMessage().startswith(told) for record in caplog.records] == ([True] if told else [])  # type: ignore[arg-type]
    assert enforcer.stats()["alerts"] == (3 if told else 0)
    clock.advance(EVERY)
    ask(2)
    assert len(caplog.records) == (2 if told else 0)
    assert "secret" not in caplog.text


def test_alerts_of_different_kinds_do_not_hide_each_other(caplog: pytest.LogCaptureFixture) -> None:
    """Each fault has a minute of its own."""
    alerts = Alerts()
    for fault in (Fault.REJECTED, Fault.INSECURE, Fault.REJECTED, None, Fault.TIMEOUT):
        alerts.tell("x", fault, 0.0)
    assert (len(caplog.records), alerts.told) == (2, 3)


def test_an_enforcer_that_is_unbound_tells_of_none() -> None:
    """There is nobody to be refused by."""
    assert Enforcer.unbound("x").stats()["alerts"] == 0


def test_nothing_is_loaded_for_them() -> None:
    """Logging is loaded with the first alert."""
    assert "logging" not in vars(sys.modules["pep.alerting"])
