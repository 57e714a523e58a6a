"""Who may ask a server, and what about; nobody else gets an answer."""

from __future__ import annotations

from typing import Any

import pytest

from pep import (
    AccessRequest,
    Subject,
)
from pep.pdp.authzen import Incoming
from tests.pdp.authzen.rigs import (
    ASKED,
    BEARER,
    EVALUATION,
    EVALUATIONS,
    GATEWAY,
    JSON,
    TOKEN,
    asking,
    known,
    serving,
    told,
    yes,
)


def test_who_asks() -> None:
    """Nobody whom `authenticate` does not name; a claim is none."""

    async def later(incoming: Incoming) -> Subject | None:
        return known(incoming)

    def broken(_incoming: Incoming) -> Subject:
        raise RuntimeError

    async def broken_later(_incoming: Incoming) -> Subject:
        raise RuntimeError

    for authenticate, headers, status in [
        (known, [JSON, BEARER], 200),
        (known, [JSON, ("Authorization", f"bearer   {TOKEN}")], 200),
        (known, [JSON], 401),
        (known, [JSON, ("authorization", "Bearer other")], 401),
        (known, [JSON, ("authorization", f"Basic {TOKEN}")], 401),
        (known, [JSON, BEARER, ("authorization", "Bearer other")], 401),
        (known, [JSON, BEARER, BEARER], 401),
        (later, [JSON, BEARER], 200),
        (later, [JSON], 401),
        (lambda _incoming: True, [JSON], 401),
        (lambda _incoming: "gateway", [JSON], 401),
        (lambda _incoming: Subject("anonymous", "x"), [JSON], 401),
        (broken, [JSON, BEARER], 500),
        (broken_later, [JSON, BEARER], 500),
    ]:
        reply = asking(serving(yes, authenticate=authenticate), EVALUATION, ASKED, headers=headers)
        assert reply.status == status
        assert (reply.headers.get("www-authenticate") == "Bearer") is (status == 401)
        assert (status == 200) is ("decision" in told(reply))


def test_nobody_is_read_before_they_are_known() -> None:
    """A body that will not do is not looked at where nobody knows whose it is."""
    reply = asking(serving(yes, challenge='Bearer realm="pdp"'), EVALUATION, b"{", headers=[JSON])
    assert (reply.status, reply.headers["www-authenticate"]) == (401, 'Bearer realm="pdp"')


def test_what_may_be_asked() -> None:
    """Only an exact ``True`` lets a question pass; one of a batch that may not be asked is all of it."""
    seen: list[Any] = []

    def about_records(caller: Subject, request: AccessRequest) -> bool:
        seen.append((caller, request.resource.type))
        return request.resource.type == "record"

    async def later(caller: Subject, request: AccessRequest) -> bool:
        return about_records(caller, request)

    def broken(_caller: Subject, _request: AccessRequest) -> bool:
        raise RuntimeError

    secret = {**ASKED, "resource": {"type": "secret", "id": "1"}}
    for may_ask in (about_records, later):
        application = serving(yes, may_ask=may_ask)
        assert asking(application, EVALUATION, ASKED).status == 200
        assert asking(application, EVALUATION, secret).status == 403
        both = {"evaluations": [ASKED, secret]}
        assert asking(application, EVALUATIONS, both).status == 403
    assert seen[:2] == [(GATEWAY, "record"), (GATEWAY, "secret")]
    for odd in (lambda *_args: 1, lambda *_args: "yes", lambda *_args: None, lambda *_args: [True]):
        assert asking(serving(yes, may_ask=odd), EVALUATION, ASKED).status == 403
    assert asking(serving(yes, may_ask=broken), EVALUATION, ASKED).status == 500


def test_running_out_of_memory_while_asking_who_is_nobodys_to_catch() -> None:
    """Nor there."""

    def broken(_incoming: Incoming) -> Subject:
        raise MemoryError

    with pytest.raises(MemoryError):
        asking(serving(yes, authenticate=broken), EVALUATION, ASKED)


def test_what_is_known_of_whoever_asks() -> None:
    """Headers that came once, and the address, as far as it is known."""
    seen: list[Incoming] = []

    def note(incoming: Incoming) -> Subject:
        seen.append(incoming)
        return GATEWAY

    application = serving(yes, authenticate=note)
    asking(application, EVALUATION, ASKED, headers=[JSON, ("X-A", "1"), ("X-B", "1"), ("x-b", "2")])
    asking(application, EVALUATION, ASKED, client=None)
    first, second = seen
    assert (dict(first.headers), first.client) == ({"content-type": "application/json", "x-a": "1"}, "192.0.2.1")
    assert (second.client, second.bearer, first.bearer) == (None, TOKEN, None)
    assert first.scope["path"] == EVALUATION
