from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import ssl

import pytest

from pep import errors
from pep.fault import AVAILABILITY, Fault, fault_of

TABLE = [
    (errors.PDPTimeout(), Fault.TIMEOUT),
    (errors.PDPOverloaded(), Fault.OVERLOADED),
    (errors.PDPUnavailable(), Fault.UNREACHABLE),
    (errors.PDPRejected(), Fault.REJECTED),
    (errors.PDPReplyError(), Fault.MALFORMED),
    (errors.PDPError(), Fault.INTERNAL),
    (TimeoutError(), Fault.TIMEOUT),
    (asyncio.TimeoutError(), Fault.TIMEOUT),
    (concurrent.futures.TimeoutError(), Fault.TIMEOUT),
    (ConnectionError(), Fault.UNREACHABLE),
    (ConnectionRefusedError(), Fault.UNREACHABLE),
    (ConnectionResetError(), Fault.UNREACHABLE),
    (BrokenPipeError(), Fault.UNREACHABLE),
    (ssl.SSLError(), Fault.INTERNAL),
    (socket.gaierror(), Fault.INTERNAL),
    (OSError(), Fault.INTERNAL),
    (PermissionError(), Fault.INTERNAL),
    (ValueError(), Fault.INTERNAL),
    (RecursionError(), Fault.INTERNAL),
    (errors.ExtractionError(), Fault.INTERNAL),
]


@pytest.mark.parametrize(("error", "expected"), TABLE, ids=lambda value: type(value).__name__)
def test_what_an_exception_stands_for(error: Exception, expected: Fault) -> None:
    """Only what is known to be an outage is one; whatever else a decision point raises closes."""
    assert fault_of(error) is expected


def test_faults_are_a_closed_list() -> None:
    """Three faults are of availability; no other may ever be excused."""
    assert {fault.name for fault in AVAILABILITY} == {"TIMEOUT", "UNREACHABLE", "OVERLOADED"}
    assert [fault.value for fault in Fault] == [fault.name.lower() for fault in Fault]
    assert len(Fault) == 14
