"""
What may go wrong between an adapter and its engine, and the fault each of it is: one literal table.

`ROWS` is that table. `ADAPTERS` names every adapter that asks over HTTP, and how one is made; whoever writes another
adds it there. Where an engine documents that a reply means something else, `DIFFERENTLY` says so.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from pep import Decision, Effect, Fault
from pep.errors import PDPReplyError
from pep.model import AccessRequest
from pep.pdp.remote import Remote
from pep.plan import Plan
from pep.protocols import PDP, Transport
from tests.misbehaving import (
    BODIES,
    REFUSE,
    Behaviour,
    bombs,
    close_after_request,
    close_at_once,
    floods,
    garbles_chunks,
    hang,
    hang_after_request,
    head,
    lies_about_length,
    nests,
    redirects,
    replies,
    reset,
    reset_after_request,
    sends,
    speaks_first,
    trickles_body,
    trickles_head,
    truncates,
)


class Row(NamedTuple):
    """
    One thing that goes wrong.

    Attributes:
        behaviour: What the server does.

        fault: What that is.

        tls: What is the matter with its certificate, as `tests.misbehaving.Authority.server` takes it;
            ``"client"`` where it wants to see one; ``"none"`` where it does not speak TLS. None is plain HTTP.

        slow: Whether it takes the whole deadline to notice.
    """

    behaviour: Behaviour
    fault: Fault
    tls: str | None = None
    slow: bool = False


FINE: Final = replies(body={})

#: The fault of a status.
STATUSES: Final[Mapping[int, Fault]] = {
    204: Fault.MALFORMED,
    206: Fault.MALFORMED,
    301: Fault.MALFORMED,
    302: Fault.MALFORMED,
    304: Fault.MALFORMED,
    400: Fault.REJECTED,
    401: Fault.REJECTED,
    403: Fault.REJECTED,
    404: Fault.REJECTED,
    405: Fault.REJECTED,
    408: Fault.TIMEOUT,
    409: Fault.REJECTED,
    413: Fault.REJECTED,
    422: Fault.REJECTED,
    429: Fault.OVERLOADED,
    500: Fault.MALFORMED,
    501: Fault.MALFORMED,
    502: Fault.UNREACHABLE,
    503: Fault.OVERLOADED,
    504: Fault.UNREACHABLE,
    599: Fault.MALFORMED,
}

#: What goes wrong → what that is.
ROWS: Final[Mapping[str, Row]] = {
    # The network.
    "refused": Row(REFUSE, Fault.UNREACHABLE),
    "reset": Row(reset, Fault.UNREACHABLE),
    "reset after the request": Row(reset_after_request, Fault.UNREACHABLE),
    "closed at once": Row(close_at_once, Fault.UNREACHABLE),
    "closed after the request": Row(close_after_request, Fault.UNREACHABLE),
    "cut short": Row(truncates(), Fault.UNREACHABLE),
    "head cut short": Row(sends(b"HTTP/1.1 200 OK\r\nContent-Le"), Fault.UNREACHABLE),
    "hangs": Row(hang, Fault.TIMEOUT, slow=True),
    "hangs after the request": Row(hang_after_request, Fault.TIMEOUT, slow=True),
    "head trickles": Row(trickles_head(), Fault.TIMEOUT, slow=True),
    "body trickles": Row(trickles_body(), Fault.TIMEOUT, slow=True),
    # TLS.
    "self-signed": Row(FINE, Fault.INSECURE, tls="self-signed"),
    "wrong host": Row(FINE, Fault.INSECURE, tls="wrong host"),
    "expired": Row(FINE, Fault.INSECURE, tls="expired"),
    "no certificate of ours": Row(FINE, Fault.INSECURE, tls="client"),
    "no TLS": Row(speaks_first(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Fault.INSECURE, tls="none"),
    # HTTP.
    **{f"status {status}": Row(replies(status, {"decision": True}), fault) for status, fault in STATUSES.items()},
    "429, later": Row(replies(429, headers={"Retry-After": "1"}), Fault.OVERLOADED),
    "503, later": Row(replies(503, headers={"Retry-After": "1"}), Fault.OVERLOADED),
    "redirected elsewhere": Row(redirects("http://127.0.0.1:9/"), Fault.MALFORMED),
    "redirected to plain HTTP": Row(redirects("http://127.0.0.1:9/"), Fault.MALFORMED, tls="good"),
    "redirected nowhere": Row(redirects("http://[/"), Fault.MALFORMED),
    "redirected for ever": Row(redirects("/again"), Fault.MALFORMED),
    "another request's answer": Row(replies(body={}, headers={"X-Request-ID": "another"}), Fault.MISMATCHED),
    "no HTTP": Row(sends(b"SSH-2.0-OpenSSH_9.2p1\r\n"), Fault.MALFORMED),
    "head without end": Row(sends(head(200, {"X-Filler": "x" * 200_000})), Fault.MALFORMED),
    "length too short": Row(lies_about_length(3), Fault.MALFORMED),
    "length below nothing": Row(lies_about_length(-1), Fault.MALFORMED),
    "two lengths": Row(lies_about_length("18\r\nContent-Length: 17"), Fault.MALFORMED),
    "length and chunks": Row(lies_about_length("18\r\nTransfer-Encoding: chunked"), Fault.MALFORMED),
    "garbled chunks": Row(garbles_chunks, Fault.MALFORMED),
    # The body.
    **{f"body: {name}": Row(replies(body=body), Fault.MALFORMED) for name, body in BODIES.items()},
    "deep": Row(nests(), Fault.MALFORMED),
    "100 MB": Row(floods(), Fault.MALFORMED),
    "100 MB in chunks": Row(floods(told=False), Fault.MALFORMED),
    "a bomb": Row(bombs(20_000_000), Fault.MALFORMED),
    "no gzip": Row(replies(body=b"{}", headers={"Content-Encoding": "gzip"}), Fault.MALFORMED),
    "another coding": Row(replies(body=b"{}", headers={"Content-Encoding": "br"}), Fault.MALFORMED),
}

#: Adapter → what goes wrong → the fault it is there; None where the engine documents it as no permit.
DIFFERENTLY: Final[Mapping[str, Mapping[str, Fault | None]]] = {
    # Its JSON leaves out what is false, as that of protocol buffers does.
    "OpenFGA": {"body: empty object": None, "body: an error in disguise": None},
    # A document that is not defined has no `result`.
    "OPA": {"body: empty object": None},
}


class BarePDP:
    """The least an adapter can be: a `Remote`, and one field that is exactly ``true``."""

    def __init__(self, url: str, *, transport: Transport) -> None:
        self.remote = Remote(url, transport=transport)
        self.name = f"bare {self.remote.url}"

    def decide(self, request: AccessRequest) -> Plan[Decision]:
        reply = yield from self.remote.post("/decide", request.to_dict())
        if type(reply.get("decision")) is not bool:
            message = "`decision` must be true or false"
            raise PDPReplyError(message)
        return Decision(Effect.PERMIT if reply["decision"] else Effect.DENY)


def _of(module: str, name: str, *args: Any, **options: Any) -> Callable[[str, Transport], PDP] | None:
    """Return what makes an adapter; None where this tree has none."""
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return None
    return lambda url, transport: kind(url, *args, transport=transport, **options)


_KNOWN: Final[Mapping[str, Callable[[str, Transport], PDP] | None]] = {
    "bare": lambda url, transport: BarePDP(url, transport=transport),
    "AuthZEN": _of("pep.pdp.authzen", "AuthZENPDP"),
    "Cerbos": _of("pep.pdp.cerbos", "CerbosPDP"),
    "OPA": _of("pep.pdp.opa", "OPAPDP", "example/allow"),
    "OpenFGA": _of("pep.pdp.openfga", "OpenFGAPDP", "01HZXGZ3X5VJ8Q9K2M4N6P8R0T"),
    "SpiceDB": _of("pep.pdp.spicedb", "SpiceDBPDP"),
}

#: Adapter → what makes one, of a URL and a transport.
ADAPTERS: Final[Mapping[str, Callable[[str, Transport], PDP]]] = {
    name: make for name, make in _KNOWN.items() if make is not None
}


def expected(adapter: str, row: str) -> Fault | None:
    """The fault of a row at an adapter; None where it is a denial without one."""
    return DIFFERENTLY.get(adapter, {}).get(row, ROWS[row].fault)
