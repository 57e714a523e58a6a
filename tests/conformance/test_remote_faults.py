"""Whatever goes wrong between an adapter and its engine is the fault the table says; only availability ever opens."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from pep import AccessDenied, Enforcer, FailOpen, Profile, Resource, Subject, acting_as
from pep.audit import Kind, MemorySink
from pep.fault import AVAILABILITY
from pep.transport import HTTPTransport
from tests.misbehaving import Authority, Misbehaving
from tests.remote_faults import ADAPTERS, ROWS, Row, expected

ALICE, DOCUMENT = Subject("user", "alice"), Resource("document", "1")

#: Deadlines in seconds: of what is noticed at once, and of what is not.
PATIENT, HASTY = 10.0, 0.3

QUICK = [(adapter, row) for adapter in ADAPTERS for row in ROWS if not ROWS[row].slow]
SLOW = [("bare", row) for row in ROWS if ROWS[row].slow]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def contexts(authority: Authority) -> dict[str | None, ssl.SSLContext | None]:
    made = {kind: authority.server(kind) for kind in ("good", "self-signed", "wrong host", "expired")}
    return {**made, "client": authority.server(clients=True), "none": None, None: None}


@pytest.fixture(scope="module")
def transport(authority: Authority) -> Iterator[HTTPTransport]:
    with HTTPTransport(ca=authority.ca) as made:
        yield made


def outcomes(
    adapter: str, row: Row, transport: HTTPTransport, tls: ssl.SSLContext | None
) -> tuple[list[Any], list[str], list[Any]]:
    """
    Guard code with an adapter whose engine behaves so, in both worlds, and where its profile opens.

    Returns:
        The verdicts, what ran, and the outcomes on record.
    """
    deadline, ran, sink = HASTY if row.slow else PATIENT, [], MemorySink()
    opened = FailOpen(on=AVAILABILITY, limit="100/minute")
    profiles = {
        "document:view": Profile(deadline=deadline),
        "document:read": Profile(deadline=deadline, on_failure=opened),
    }
    with Misbehaving(row.behaviour, tls=tls) as server:
        pdp = ADAPTERS[adapter](server.url.replace("http:", "https:") if row.tls else server.url, transport)
        with Enforcer(pdp, audit=sink, profiles=profiles) as enforcer, acting_as(ALICE):

            @enforcer.guard("view", resource=DOCUMENT)
            def view() -> None:
                ran.append("sync")

            @enforcer.guard("view", resource=DOCUMENT)
            async def aview() -> None:
                ran.append("async")

            @enforcer.guard("read", resource=DOCUMENT, on_denied=lambda _denial: None)
            def read() -> None:
                ran.append("opened")

            with pytest.raises(AccessDenied) as sync:
                view()
            with pytest.raises(AccessDenied) as later:
                asyncio.run(aview())
            with suppress(AccessDenied):
                read()
    told = [record["outcome"] for record in sink.of(Kind.DECISION)]
    return [sync.value.verdict, later.value.verdict], ran, told


@pytest.mark.parametrize(("adapter", "name"), [*QUICK, *SLOW])
def test_a_fault_is_what_the_table_says(
    adapter: str,
    name: str,
    transport: HTTPTransport,
    contexts: dict[str | None, ssl.SSLContext | None],
) -> None:
    """Each thing that goes wrong is its row's fault in both worlds; code runs only where its profile opens for that."""
    found, ran, told = outcomes(adapter, ROWS[name], transport, contexts[ROWS[name].tls])
    fault = expected(adapter, name)
    assert [(verdict.allowed, verdict.fault) for verdict in found] == [(False, fault)] * 2
    # INVARIANT: only the faults of availability are ever excused.
    assert ran == (["opened"] if fault in AVAILABILITY else [])
    assert (told[-1] == "failed_open") is (fault in AVAILABILITY)


def test_no_connection_is_left_in_use(transport: HTTPTransport) -> None:
    """After all that went wrong every connection was given back, and those that serve no more were closed."""
    assert repr(transport).startswith("HTTPTransport(<0 of 32 ")
