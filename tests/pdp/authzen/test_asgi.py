"""HTTP on the side of the server: methods, paths, headers and bodies."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from tests.pdp.authzen.rigs import (
    ASKED,
    BEARER,
    EVALUATION,
    EVALUATIONS,
    JSON,
    URL,
    asking,
    serving,
    told,
    yes,
)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([BEARER], 400),
        ([BEARER, ("content-type", "text/plain")], 400),
        ([BEARER, ("content-type", "application/jsonp")], 400),
        ([BEARER, JSON, JSON], 400),
        ([BEARER, ("content-type", "Application/JSON; charset=utf-8")], 200),
        ([BEARER, ("content-type", 'application/json; x=y; Charset="UTF-8"')], 200),
        ([BEARER, ("content-type", "application/json; charset=utf-16")], 400),
        ([BEARER, ("content-type", "application/json; charset=utf-8; charset=utf-7")], 400),
        ([BEARER, JSON, ("content-encoding", "gzip")], 415),
        ([BEARER, JSON, ("content-encoding", "gzip"), ("content-encoding", "identity")], 415),
        ([BEARER, JSON, ("content-encoding", "identity")], 200),
        ([BEARER, JSON, ("content-length", "1025")], 413),
        ([BEARER, JSON, ("content-length", "9" * 5000)], 413),
        ([BEARER, JSON, ("content-length", "-1")], 200),
    ],
)
def test_headers(headers: Any, status: int) -> None:
    """A body is JSON, says so once, and is not compressed."""
    assert asking(serving(yes, body=1024), EVALUATION, ASKED, headers=headers).status == status


def test_bodies_are_bounded() -> None:
    """However they come."""
    body = orjson.dumps({**ASKED, "x": "y" * 2000})
    for chunks in (1, 7, 500):
        assert asking(serving(yes, body=len(body)), EVALUATION, body, chunks=chunks).status == 200
        assert asking(serving(yes, body=len(body) - 1), EVALUATION, body, chunks=chunks).status == 413


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", EVALUATION, 405, "POST, OPTIONS"),
        ("PUT", EVALUATIONS, 405, "POST, OPTIONS"),
        ("HEAD", EVALUATION, 405, "POST, OPTIONS"),
        ("OPTIONS", EVALUATION, 204, "POST, OPTIONS"),
        ("OPTIONS", "/.well-known/authzen-configuration", 204, "GET, HEAD, OPTIONS"),
        ("POST", "/.well-known/authzen-configuration", 405, "GET, HEAD, OPTIONS"),
        ("HEAD", "/.well-known/authzen-configuration", 200, None),
        ("POST", "/access/v1/search/resource", 404, None),
        ("POST", "/access/v1/evaluation/", 404, None),
        ("POST", "/", 404, None),
        ("OPTIONS", "/nowhere", 404, None),
    ],
)
def test_methods_and_paths(method: str, path: str, status: int, allow: str | None) -> None:
    """What is there, and how it is asked."""
    reply = asking(serving(yes), path, ASKED, method=method)
    assert (reply.status, reply.headers.get("allow")) == (status, allow)
    assert (reply.body == b"") is (method in {"HEAD", "OPTIONS"} and status != 404)


@pytest.mark.parametrize(
    ("names", "echoed"),
    [
        (["bfe9eb29-ab87"], "bfe9eb29-ab87"),
        (["a b"], None),
        (["x" * 201], None),
        ([""], None),
        (["a", "a"], None),
        ([], None),
        (["\xe9"], None),
    ],
)
def test_request_ids(names: list[str], echoed: str | None) -> None:
    """A request's id comes back, errors too, unless it is none that can be told back."""
    for path in (EVALUATION, "/nowhere"):
        headers = [JSON, BEARER, *[("X-Request-ID", name) for name in names]]
        assert asking(serving(yes), path, ASKED, headers=headers).headers.get("x-request-id") == echoed


@pytest.mark.parametrize(
    ("path", "root", "status"),
    [
        ("/tenant1/access/v1/evaluation", "", 200),
        ("/access/v1/evaluation", "", 200),
        ("/pdp/access/v1/evaluation", "/pdp", 200),
        ("/pdp/tenant1/access/v1/evaluation", "/pdp", 200),
        ("/pdp/access/v1/evaluation", "", 404),
        ("/tenant2/access/v1/evaluation", "", 404),
    ],
)
def test_where_it_is_mounted(path: str, root: str, status: int) -> None:
    """Below the path of its identifier, and below whatever it is mounted at."""
    application = serving(yes, url=f"{URL}/tenant1")
    assert asking(application, path, ASKED, root_path=root).status == status
    well_known = "/.well-known/authzen-configuration"
    for there in (f"{well_known}/tenant1", well_known, f"/tenant1{well_known}"):
        assert told(asking(application, there, method="GET"))["policy_decision_point"] == f"{URL}/tenant1"


def test_other_connections() -> None:
    """It starts and stops with its server, without a word about the enforcer; web sockets are closed."""
    application = serving(yes)

    async def talk(kind: str, *messages: str) -> list[str]:
        told, left = [], list(messages)

        async def receive() -> Any:
            return {"type": left.pop(0)}

        async def send(message: Any) -> None:
            told.append(message["type"])

        await application({"type": kind}, receive, send)
        return told

    started = ["lifespan.startup", "lifespan.shutdown"]
    assert asyncio.run(talk("lifespan", *started)) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert asyncio.run(talk("websocket", "websocket.connect")) == ["websocket.close"]
    assert asyncio.run(talk("something")) == []
    assert asking(application, EVALUATION, ASKED).status == 200


def test_who_goes_away_is_not_answered() -> None:
    """Half a body is none."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(name.encode(), value.encode()) for name, value in (JSON, BEARER)]
    scope = {"type": "http", "method": "POST", "path": EVALUATION, "headers": headers}
    asyncio.run(serving(yes)(scope, receive, send))
    assert sent == []
