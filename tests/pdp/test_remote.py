"""What every codec shares: where it asks, what it sends along, and which reply is which fault."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest

from pep.audit.correlation import Trace
from pep.clock import SystemClock
from pep.drive import APerformer, Performer, arun, run
from pep.errors import (
    ConfigurationError,
    PDPError,
    PDPMismatched,
    PDPOverloaded,
    PDPRejected,
    PDPReplyError,
    PDPTimeout,
    PDPUnavailable,
)
from pep.exchange import HTTPReply, HTTPRequest
from pep.fault import fault_of
from pep.pdp.remote import LONGEST_PAUSE, Remote, checked_url, refused, retry_after
from pep.plan import Plan
from pep.testing.transport import ScriptedTransport, replying
from pep.transport import HTTPTransport
from tests.misbehaving import Misbehaving, header_of, replies
from tests.remote_faults import STATUSES

WORLDS = ("sync", "async")
worlds = pytest.mark.parametrize("world", WORLDS)
URL = "https://pdp.example/base"


def driven(plan: Plan[Any], world: str = "sync") -> Any:
    if world == "sync":
        return run(plan, Performer(SystemClock()))
    return asyncio.run(arun(plan, APerformer(SystemClock())))


def remote(*script: object, **options: Any) -> tuple[Remote, ScriptedTransport]:
    transport = ScriptedTransport(*script)
    return Remote(URL, transport=transport, **options), transport


@worlds
def test_an_object_is_posted_and_one_comes_back(world: str) -> None:
    """The body is JSON, and so is the reply."""
    asked, transport = remote({"decision": True}, headers={"X-Tenant": "acme"})
    assert driven(asked.post("/evaluate", {"a": [1]}, headers={"x-one": "1"}), world) == {"decision": True}
    (sent,) = transport.sent
    assert (sent.method, sent.url, transport.bodies) == ("POST", f"{URL}/evaluate", [{"a": [1]}])
    told = dict(sent.headers)
    assert uuid.UUID(told.pop("x-request-id")).version == 4
    assert told == {
        "accept": "application/json",
        "content-type": "application/json",
        "x-tenant": "acme",
        "x-one": "1",
    }


@worlds
def test_an_object_is_got(world: str) -> None:
    """Without a body, and nothing is said about one."""
    asked, transport = remote({"a": 1})
    assert driven(asked.get("/metadata"), world) == {"a": 1}
    assert transport.sent[0].method == "GET"
    assert "content-type" not in transport.sent[0].headers
    assert transport.bodies == [None]


@worlds
@pytest.mark.parametrize(("status", "body"), [(200, b"whatever"), (204, b"")])
def test_a_page_is_reached_for_its_status_alone(world: str, status: int, body: bytes) -> None:
    """What a health check says is in its status."""
    asked, _transport = remote(replying(status, body))
    assert driven(asked.reach("/health"), world) is None


def test_a_page_that_is_not_there_is_not_reached() -> None:
    """Any other status raises what it means."""
    asked, _transport = remote(replying(503))
    with pytest.raises(PDPOverloaded):
        driven(asked.reach("/health"))


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"a":1,"a":2}', b"{", b"<html>"])
def test_a_reply_that_is_no_object_is_refused(body: bytes) -> None:
    """Strictly: see `tests/pdp/test_strict.py`."""
    asked, _transport = remote(replying(200, body))
    with pytest.raises(PDPReplyError):
        driven(asked.post("/x", {}))


@pytest.mark.parametrize(
    ("kind", "is_json"),
    [
        ("application/json", True),
        ("Application/JSON ; Charset=UTF-8", True),
        ('application/json; charset="utf-8"; profile=x', True),
        ("application/vnd.opa.ucast.all+json", True),
        ("application/json; charset=utf-16", False),
        ("application/json; charset=utf-8; charset=utf-16", False),
        ("text/html", False),
        ("text/plain; a=application/json", False),
        ("application/jsonp", False),
        ("+json", False),
        ("application/json, text/html", False),
        ("", False),
    ],
)
@worlds
def test_a_reply_that_says_it_is_no_json_is_none(world: str, kind: str, is_json: bool) -> None:
    """Who reads it by its type, or in another charset, would read something else; one without a type is JSON."""
    reply = replying(200, {"decision": True}, [("Content-Type", kind)])
    asked, _transport = remote(reply)
    if is_json:
        assert driven(asked.post("/x", {}), world) == {"decision": True}
        return
    with pytest.raises(PDPReplyError, match="`Content-Type`"):
        driven(asked.post("/x", {}), world)
    driven(remote(reply)[0].reach("/health"), world)


@pytest.mark.parametrize("status", STATUSES)
def test_each_status_is_its_fault(status: int) -> None:
    """Whatever the body says, and without telling it."""
    asked, _transport = remote(replying(status, {"decision": True, "secret": "hush"}))
    with pytest.raises(PDPError) as error:
        driven(asked.post("/x", {}))
    assert fault_of(error.value) is STATUSES[status]
    assert "hush" not in str(error.value)


@pytest.mark.parametrize("status", range(200, 600))
def test_every_status_raises(status: int) -> None:
    """There is none that `refused` lets pass, and only six are an outage."""
    with pytest.raises(PDPError) as error:
        refused(replying(status))
    assert isinstance(error.value, PDPUnavailable) is (status in {408, 429, 502, 503, 504})
    assert isinstance(error.value, PDPRejected) is (400 <= status < 500 and status not in {408, 429})


def test_what_brings_an_answer_can_be_widened() -> None:
    """Some engines answer with another status; what is not named is refused all the same."""
    asked, _transport = remote(*[replying(400, {"code": 3})] * 2, replying(200, {}))
    assert driven(asked.post("/x", {}, accept=(200, 400))) == {"code": 3}
    with pytest.raises(PDPRejected):
        driven(asked.post("/x", {}))
    with pytest.raises(PDPReplyError):
        driven(asked.get("/x", accept=(201,)))


# --- when to come again --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("3600", 3600.0),
        ("999999999", LONGEST_PAUSE),
        ("9999999999", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("\u0667", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 9999 07:28:00 GMT", LONGEST_PAUSE),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
    ],
)
def test_when_to_come_again(told: str, seconds: float | None) -> None:
    """Seconds or a date; never more than an hour, and nothing where it cannot be read."""
    assert retry_after(replying(503, headers=[("Retry-After", told)])) == seconds


def test_a_date_is_from_now() -> None:
    """A date in the near future is so many seconds away."""
    soon = datetime.now(timezone.utc) + timedelta(seconds=100)
    found = retry_after(replying(503, headers=[("Retry-After", format_datetime(soon, usegmt=True))]))
    assert found is not None
    assert 0 < found <= 100


@pytest.mark.parametrize("status", [429, 503])
def test_overload_tells_when_to_come_again(status: int) -> None:
    """So that whoever tries again can wait for it."""
    asked, _transport = remote(replying(status, headers=[("Retry-After", "3")]), replying(status))
    for expected in (3.0, None):
        with pytest.raises(PDPOverloaded) as error:
            driven(asked.post("/x", {}))
        assert error.value.retry_after == expected


# --- whose answer it is --------------------------------------------------------------------------


@worlds
def test_an_answer_to_another_request_is_mismatched(world: str) -> None:
    """The id that was sent comes back, or none."""

    def echoing(request: HTTPRequest) -> HTTPReply:
        return replying(200, {"a": 1}, [("X-Request-ID", request.headers["x-request-id"])])

    asked, transport = remote(echoing)
    assert driven(asked.post("/x", {}, headers={"x-request-id": "forged"}), world) == {"a": 1}
    assert transport.sent[0].headers["x-request-id"] != "forged"
    asked, _transport = remote(replying(200, {"a": 1}, [("X-Request-ID", "another")]))
    with pytest.raises(PDPMismatched):
        driven(asked.post("/x", {}), world)


def test_every_request_has_an_id_of_its_own() -> None:
    """Two requests never share one."""
    asked, transport = remote({}, {})
    for _ in range(2):
        driven(asked.post("/x", {}))
    assert len({request.headers["x-request-id"] for request in transport.sent}) == 2


def test_the_trace_goes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the application has one, the engine's own spans belong to it."""
    from pep.audit.correlation import Correlation  # noqa: PLC0415  beside its use

    spans = [Correlation(trace=Trace("a" * 32, "b" * 16)), Correlation(), None]
    monkeypatch.setattr("pep.pdp.remote.current_span", lambda: spans.pop(0))
    asked, transport = remote({}, {}, {})
    for _ in range(3):
        driven(asked.post("/x", {}))
    told = [request.headers.get("traceparent") for request in transport.sent]
    assert told == [f"00-{'a' * 32}-{'b' * 16}-01", None, None]


# --- elsewhere -----------------------------------------------------------------------------------


def to(location: str | None, status: int = 307) -> HTTPReply:
    return replying(status, headers=[] if location is None else [("Location", location)])


@worlds
@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/other", "https://pdp.example/other"),
        ("other?x=y", "https://pdp.example/base/other?x=y"),
        ("https://pdp.example/there#here", "https://pdp.example/there"),
        ("https://PDP.example:443/there", "https://PDP.example:443/there"),
        ("//pdp.example/there", "https://pdp.example/there"),
    ],
)
def test_redirects_are_followed_within_one_origin(world: str, status: int, location: str, target: str) -> None:
    """With the same method, headers and body."""
    asked, transport = remote(to(location, status), {"decision": True})
    assert driven(asked.post("/x", {"a": 1}), world) == {"decision": True}
    first, second = transport.sent
    assert (second.method, second.url, second.headers, second.body) == ("POST", target, first.headers, first.body)


@worlds
@pytest.mark.parametrize(
    "location",
    [
        "http://pdp.example/base",
        "https://pdp.example:8443/base",
        "https://other.example/base",
        "//other.example",
        "https://pdp.example@other.example/",
        "https://user@pdp.example/",
        "https://pdp.example:port/",
        "http://[",
        "ftp://pdp.example/",
        "file:///etc/passwd",
        "/a b",
        "/\\other.example/",
        "/ä",
        "/\x00",
    ],
)
def test_redirects_elsewhere_are_refused(world: str, location: str) -> None:
    """Nothing goes to another origin, least of all credentials; it is no outage."""
    asked, transport = remote(to(location), {"decision": True})
    with pytest.raises(PDPReplyError):
        driven(asked.post("/x", {}), world)
    assert len(transport.sent) == 1


@pytest.mark.parametrize("location", ["/again", None])
def test_redirects_end(location: str | None) -> None:
    """After three of them, or without a place to go, it is no answer."""
    asked, transport = remote(lambda _request: to(location))
    with pytest.raises(PDPReplyError, match="307"):
        driven(asked.post("/x", {}))
    assert len(transport.sent) == 4


@pytest.mark.parametrize("status", [301, 302, 303])
def test_redirects_that_may_change_the_method_are_not_followed(status: int) -> None:
    """A post that becomes a get is another question."""
    asked, transport = remote(to("/other", status), {"decision": True})
    with pytest.raises(PDPReplyError):
        driven(asked.post("/x", {}))
    assert len(transport.sent) == 1


# --- how it is made ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("https://pdp.example", "https://pdp.example"),
        ("https://pdp.example/", "https://pdp.example"),
        ("https://pdp.example/a/b/", "https://pdp.example/a/b"),
        ("http://127.0.0.1:8181", "http://127.0.0.1:8181"),
        ("http://[::1]:8181", "http://[::1]:8181"),
        ("https://pdp.example/a%20b:c~d", "https://pdp.example/a%20b:c~d"),
    ],
)
def test_urls_lose_their_last_slash(url: str, checked: str) -> None:
    """So that a path can be added."""
    assert checked_url(url) == checked


@pytest.mark.parametrize(
    "url",
    [
        None,
        b"https://pdp.example",
        "",
        "pdp.example",
        "ftp://pdp.example",
        "https://",
        "https://pdp.example?",
        "https://pdp.example/?a=b",
        "https://pdp.example/#",
        "https://user@pdp.example",
        "https://user:word@pdp.example",
        "https://@pdp.example",
        "https://pdp.example:port",
        "https://pdp.example:99999",
        "https://[::1",
        "https://pdp.example/a b",
        "https://pdp.example\\@other",
        "https://pdp.example/\n",
        "https://pdp.example/ä",
        "https://pdp.example/{a}",
    ],
)
def test_what_is_no_url_is_a_mistake_of_configuration(url: Any) -> None:
    """Told when it is made, and without telling a password."""
    with pytest.raises(ConfigurationError) as error:
        Remote(url, transport=ScriptedTransport())
    assert "word" not in str(error.value)


@pytest.mark.parametrize(
    "headers",
    [
        *[{"x": 1}, {1: "x"}, {"x": "a\nb"}, {"x\r\n": "a"}, {"": "a"}, {"x": "ä"}, {"x": " a"}, {"a b": "c"}],
        *[{name: "a"} for name in ("Host", "content-length", "Transfer-Encoding", "X-Request-ID", "Content-Type")],
        {"x-team": "a", "X-Team": "b"},
    ],
)
def test_headers_are_checked_when_it_is_made(headers: Any) -> None:
    """What could not be sent as it is is a mistake of configuration."""
    with pytest.raises(ConfigurationError, match="headers"):
        remote(headers=headers)


@pytest.mark.parametrize("transport", [7, ScriptedTransport, object(), lambda request: request])
def test_what_is_no_transport_is_a_mistake_of_configuration(transport: Any) -> None:
    """A class instead of an instance among them."""
    with pytest.raises(ConfigurationError, match="no transport"):
        Remote(URL, transport=transport)


class Careful(ScriptedTransport):
    """A transport that says where it may be used."""

    def admit(self, url: str) -> None:
        message = f"not `{url}`"
        raise ConfigurationError(message)


def test_the_transport_says_where_it_may_be_used() -> None:
    """When it is made, not with the first request."""
    with pytest.raises(ConfigurationError, match=r"not `https://pdp\.example/base`"):
        Remote(URL + "/", transport=Careful())
    with HTTPTransport() as transport, pytest.raises(ConfigurationError, match="https"):
        Remote("http://pdp.example", transport=transport)


def closing_sync(asked: Remote) -> None:
    asked.close()


def closing_async(asked: Remote) -> None:
    asyncio.run(asked.aclose())


@pytest.mark.parametrize("close", [closing_sync, closing_async])
def test_it_closes_the_transport_that_is_its_own(close: Callable[[Remote], None]) -> None:
    """Without one it makes one, for which the URL has to do; one that was given is left alone."""
    with Misbehaving(replies(body={"a": 1})) as server, HTTPTransport() as shared:
        own, others = Remote(server.url), Remote(server.url, transport=shared)
        for asked in (own, others):
            assert driven(asked.post("/x", {})) == {"a": 1}
            close(asked)
        with pytest.raises(PDPError, match="closed"):
            driven(own.post("/x", {}))
        assert driven(others.post("/x", {})) == {"a": 1}
        assert header_of(server.requests[0], "accept-encoding") == "gzip"


@worlds
def test_what_the_transport_raises_comes_out(world: str) -> None:
    """As it is, so that the fault is the transport's."""
    asked, _transport = remote(PDPTimeout("late"))
    with pytest.raises(PDPTimeout, match="late"):
        driven(asked.post("/x", {}), world)
