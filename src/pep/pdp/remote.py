"""
Asking a decision point over HTTP: what every codec shares.

Where it answers, which status is which fault, and how a reply is read. Imports plans, the error tree and the
transport, which is loaded when none is given.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final, NoReturn
from urllib.parse import urldefrag, urljoin, urlsplit

import orjson

from pep.audit.correlation import current_span
from pep.clock import SystemClock
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
from pep.frozen import EMPTY
from pep.pdp.strict import parse_object
from pep.plan import Plan, send
from pep.protocols import Transport

#: How many redirects are followed, within one origin.
MAX_REDIRECTS: Final = 3

#: How long a server may ask to be left alone, in seconds; more is taken for this.
LONGEST_PAUSE: Final = 3600.0

#: Asked to be tried elsewhere, with the same method and body.
_REDIRECTS: Final = frozenset({307, 308})
_GATEWAY: Final = frozenset({502, 504})
#: Printable ASCII, without what begins a query or a fragment, ends a user, or is no part of a URL.
_PLAIN: Final = re.compile(r'[^\x00-\x20\x7f-\U0010ffff"#<>?@\\^`{|}]+')
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_VALUE: Final = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?", re.ASCII)
_SECONDS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_JSON: Final = re.compile(r"application/(?:[0-9a-z.!#$&^_-]+\+)?json", re.ASCII)
# What each request says of itself, or the transport of it.
_OWN: Final = frozenset({
    "accept-encoding", "connection", "content-length", "content-type", "expect", "host", "keep-alive",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "x-request-id",
})  # fmt: skip
_CHARSETS: Final[tuple[list[str], ...]] = ([], ["utf-8"], ["utf8"])


class Remote:
    """
    A decision point that is asked over HTTP.

    Args:
        url: Where it answers, ``https://host[:port][/prefix]``; ``http`` as far as the transport allows.

        transport: What sends requests; a `pep.transport.HTTPTransport` of its own unless given.

        headers: Header's name → value, sent with every request.

    Raises:
        ConfigurationError: When the URL will not do, or the transport is none.
    """

    def __init__(self, url: str, *, transport: Transport | None = None, headers: Mapping[str, str] = EMPTY) -> None:
        self.url = checked_url(url)
        self._own = transport is None
        self.transport = _transport(transport)
        self._headers = _checked_headers(headers)
        admit = getattr(self.transport, "admit", None)
        if admit is not None:
            admit(self.url)

    def post(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        accept: Collection[int] = (200,),
        headers: Mapping[str, str] = EMPTY,
    ) -> Plan[dict[str, Any]]:
        """
        Post a JSON object, and return the JSON object that comes back.

        Args:
            path: What is added to the URL.

            body: JSON-like values.

            accept: The statuses that bring an answer.

            headers: Header's name → value, beside those of every request.

        Raises:
            PDPError: On any other status, see `refused`; on a reply that is no JSON object, or says that it is none;
                and what the transport raises.
        """
        content = {"content-type": "application/json", **headers}
        return (yield from self._told("POST", path, content, orjson.dumps(body), accept))

    def get(self, path: str, *, accept: Collection[int] = (200,)) -> Plan[dict[str, Any]]:
        """Get a JSON object; see `post`."""
        return (yield from self._told("GET", path, EMPTY, b"", accept))

    def reach(self, path: str) -> Plan[None]:
        """Get a page for its status alone, such as that of a health check; see `post` for what it raises."""
        yield from self._asked("GET", path, EMPTY, b"", (200, 204))

    def close(self) -> None:
        """Close the transport, where it is its own; the connections of running event loops need `aclose`."""
        if self._own:
            self.transport.close()  # type: ignore[attr-defined]

    async def aclose(self) -> None:
        """Close the transport, where it is its own."""
        if self._own:
            await self.transport.aclose()  # type: ignore[attr-defined]

    def _told(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, accept: Collection[int]
    ) -> Plan[dict[str, Any]]:
        reply = yield from self._asked(method, path, headers, body, accept)
        if not is_json(reply.headers.get("content-type", "application/json")):
            message = "the reply's `Content-Type` is not that of JSON in UTF-8; is this the decision point?"
            raise PDPReplyError(message)
        return parse_object(reply.body)

    def _asked(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, accept: Collection[int]
    ) -> Plan[HTTPReply]:
        name = str(uuid.uuid4())
        sent = {"accept": "application/json", **self._headers, **_traced(), **headers, "x-request-id": name}
        request = HTTPRequest(method, self.url + path, sent, body)
        reply = yield from self._followed(request)
        if reply.status not in accept:
            refused(reply)
        if reply.headers.get("x-request-id", name) != name:
            message = "the reply answers another request: its `X-Request-ID` is not the one that was sent"
            raise PDPMismatched(message)
        return reply

    def _followed(self, request: HTTPRequest) -> Plan[HTTPReply]:
        reply = yield from send(self.transport, request)
        for _again in range(MAX_REDIRECTS):
            if reply.status not in _REDIRECTS:
                break
            url = _redirected(request.url, reply)
            request = HTTPRequest(request.method, url, request.headers, request.body)
            reply = yield from send(self.transport, request)
        return reply


def refused(reply: HTTPReply) -> NoReturn:
    """
    Raise what a status means that brings no answer.

    Raises:
        PDPTimeout: On 408.

        PDPOverloaded: On 429 and 503, with the time of their ``Retry-After``.

        PDPUnavailable: On 502 and 504.

        PDPRejected: On any other status from 400 to 499: it is this enforcement point that was refused.

        PDPReplyError: On anything else, 500 among it.

    Source:
        DESIGN section 6; RFC 9110 §15.
    """
    status = reply.status
    message = f"the decision point answered with status {status}"
    if status in {429, 503}:
        raise PDPOverloaded(message, retry_after=retry_after(reply))
    kind: type[PDPError] = PDPReplyError
    if status == 408:  # noqa: PLR2004  Request Timeout
        kind = PDPTimeout
    elif status in _GATEWAY:
        kind = PDPUnavailable
    elif 400 <= status < 500:  # noqa: PLR2004  the client's errors
        kind = PDPRejected
    raise kind(message)


def is_json(kind: str) -> bool:
    """
    Tell whether a ``Content-Type`` is that of JSON in UTF-8: in another charset, others read another text.

    Source:
        RFC 8259 §8.1, §11; RFC 6839 §3.1 (``+json``).
    """
    name, *parameters = [part.strip().lower() for part in kind.split(";")]
    pairs = [one.partition("=") for one in parameters]
    charsets = [value.strip(' \t"') for name, _equals, value in pairs if name.strip() == "charset"]
    return _JSON.fullmatch(name) is not None and charsets in _CHARSETS


def retry_after(reply: HTTPReply) -> float | None:
    """
    Read in how many seconds a server asks to be tried again; None where it does not, or not readably.

    Source:
        RFC 9110 §10.2.3.
    """
    told = reply.headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(told):
        return min(LONGEST_PAUSE, float(told))
    try:
        moment = parsedate_to_datetime(told).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(LONGEST_PAUSE, max(0.0, moment - SystemClock().wall()))


def checked_url(url: object) -> str:
    """
    Return a URL without a slash at its end.

    Raises:
        ConfigurationError: Unless it is absolute, ``http`` or ``https``, without user, query and fragment.
    """
    message = "a decision point needs a URL like `https://host:port/prefix`, without user, query and fragment"
    if type(url) is not str:
        raise ConfigurationError(message)
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(message) from None
    if parts.scheme not in {"http", "https"} or not host or not _PLAIN.fullmatch(url):
        raise ConfigurationError(message)
    return url.rstrip("/")


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    checked = {}
    for name, value in dict(headers).items():
        texts = type(name) is str and type(value) is str
        if not texts or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            message = "`headers` must be names of headers, each with a value of printable ASCII"
            raise ConfigurationError(message)
        if name.lower() in _OWN or name.lower() in checked:
            message = f"`headers` must not name `{name}`: it is said already, and would be lost, or refused each time"
            raise ConfigurationError(message)
        checked[name.lower()] = value
    return checked


def _redirected(url: str, reply: HTTPReply) -> str:
    """Return where a reply sends its request; a fragment is nothing to a server."""
    try:
        found = urldefrag(urljoin(url, reply.headers.get("location", ""))).url
    except ValueError:
        found = ""
    printed = found.isascii() and found.isprintable() and not set(" \\") & set(found)
    if not printed or _origin(found) != _origin(url):
        message = "the server redirects to another origin; name the URL that answers"
        raise PDPReplyError(message)
    return found


def _origin(url: str) -> tuple[str, str | None, int | None] | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if "@" in parts.netloc:
        return None
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port or usual


def _traced() -> Mapping[str, str]:
    found = current_span()
    if found is None or found.trace is None:
        return EMPTY
    return {"traceparent": f"00-{found.trace.trace_id}-{found.trace.span_id}-01"}


def _transport(transport: object) -> Transport:
    if transport is None:
        from pep.transport import HTTPTransport  # noqa: PLC0415  needs the extra

        return HTTPTransport()
    if isinstance(transport, type) or not isinstance(transport, Transport):
        shown = transport.__name__ if isinstance(transport, type) else type(transport).__name__
        message = f"`{shown}` is no transport; it needs `send(request, *, timeout, awaiting)`"
        raise ConfigurationError(message)
    return transport
