"""HTTP as an ASGI application sees it: headers, bodies, problems. Imports refusals and types of content only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import attrs
import orjson

from pep.pdp.authzen.incoming import Refused
from pep.pdp.remote import is_json

Scope: TypeAlias = "MutableMapping[str, Any]"
Receive: TypeAlias = "Callable[[], Awaitable[MutableMapping[str, Any]]]"
Send: TypeAlias = "Callable[[MutableMapping[str, Any]], Awaitable[None]]"

#: What a request id has to look like to be told back.
_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,200}", re.ASCII)
_BEARER: Final = re.compile(r"[Bb]earer +([A-Za-z0-9\-._~+/]+=*)", re.ASCII)


class Disconnected(Exception):  # noqa: N818  nobody is there to be told
    """Whoever asked went away."""


@attrs.frozen(eq=False, repr=False)
class Incoming:
    """
    What is known of whoever asks, before anything they sent is believed.

    Attributes:
        headers: Header's name in lower case → value; one that came several times is left out.

        client: The address it came from, if that is known.

        scope: The ASGI connection scope, for what a server tells beside it, such as a client certificate.
    """

    headers: Mapping[str, str]
    client: str | None
    scope: Mapping[str, Any]

    @property
    def bearer(self) -> str | None:
        """The bearer token, if there is one."""
        found = _BEARER.fullmatch(self.headers.get("authorization", ""))
        return None if found is None else found[1]

    @property
    def request_id(self) -> str | None:
        """The request's id, if it has one that can be told back."""
        name = self.headers.get("x-request-id", "")
        return name if _REQUEST_ID.fullmatch(name) else None

    def all(self, name: str) -> list[str]:
        """Return every value of a header that came, in lower case; for those that must not be left out."""
        return [value.strip().lower() for known, value in _pairs(self.scope) if known == name]

    @classmethod
    def of(cls, scope: Scope) -> Incoming:
        """Read an ASGI connection scope."""
        pairs = _pairs(scope)
        count = Counter(name for name, _ in pairs)
        client = scope.get("client")
        return cls({name: value for name, value in pairs if count[name] == 1}, client[0] if client else None, scope)


def _pairs(scope: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]


async def body_of(incoming: Incoming, receive: Receive, most: int) -> bytes:
    """
    Read a whole body.

    Raises:
        Refused: When it is no JSON, is encoded, or has more bytes than it may.

        Disconnected: When it did not come whole.
    """
    kind = incoming.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "application/json" or not is_json(kind):
        # 400, not 415: the certification scenario of AuthZEN asks for it.
        raise Refused(400, "the request must have one `Content-Type`: `application/json`, in UTF-8")
    if any(coding != "identity" for coding in incoming.all("content-encoding")):
        raise Refused(415, "the body must not be compressed", {"accept-encoding": "identity"})
    too_long = Refused(413, f"the body may have at most {most} bytes")
    length = incoming.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > most:
        raise too_long
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Disconnected
        body += message.get("body", b"")
        if len(body) > most:
            raise too_long
        if not message.get("more_body", False):
            return bytes(body)


@attrs.frozen
class Reply:
    """
    What goes back.

    Args:
        status: Its status.

        body: JSON-like; None is no body.

        headers: Header's name in lower case → value.
    """

    status: int
    body: Mapping[str, Any] | None
    headers: Mapping[str, str] = attrs.field(factory=dict)

    async def send(self, send: Send, incoming: Incoming, *, bodiless: bool = False) -> None:
        """Send it, with the request's id where there is one."""
        content = b"" if self.body is None else orjson.dumps(self.body)
        headers = {"cache-control": "no-store", **self.headers}
        if self.body is not None:
            headers = {"content-type": "application/json", "content-length": str(len(content)), **headers}
        if incoming.request_id is not None:
            headers["x-request-id"] = incoming.request_id
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": pairs})
        await send({"type": "http.response.body", "body": b"" if bodiless else content})


def problem(refused: Refused) -> Reply:
    """
    Say what is wrong.

    Source:
        RFC 9457.
    """
    title = HTTPStatus(refused.status).phrase
    body = {"type": "about:blank", "title": title, "status": refused.status, "detail": refused.detail}
    return Reply(refused.status, body, {"content-type": "application/problem+json", **refused.headers})
