"""
A server on loopback that misbehaves on demand, over plain TCP or TLS.

    with Misbehaving(replies(body={"decision": True})) as server:
        ...  # ask `server.url`; `server.requests` holds what came, `server.connections` how often somebody connected

A *behaviour* is a function of a `Peer`, run on a thread of its own for every connection. The usual ones are here:
`REFUSE`; `reset`, `hang`, `hang_after_request`, `close_at_once`, `close_after_request`, `reset_after_request`;
`replies(status, body, headers)`, kept alive; `sends(raw)`, raw bytes and then the end of the connection;
`speaks_first(raw)`, raw bytes unasked; `answers(function)`, JSON made of the request's body;
`trickles_head`, `trickles_body`; `truncates`, `lies_about_length(n)`, `garbles_chunks`, `bombs(size)`, `floods(size)`;
`nests(depth)`, `redirects(to)`; `in_turn(first, then)`. `BODIES` names bodies with which no status 200 is a decision.

For TLS give it `authority.server(...)` of an `Authority`: ``Misbehaving(behaviour, tls=authority.server())``.
Leaving the block ends every thread, whatever it was doing. Nothing here takes longer than `PATIENCE` seconds.
"""

from __future__ import annotations

import datetime
import gzip
import ipaddress
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from typing_extensions import Self

#: After so many seconds every thread of a server gives up, whatever happens.
PATIENCE: Final = 30.0

#: Name → a body that is no decision of any engine, though the status is 200.
BODIES: Final[Mapping[str, bytes]] = {
    "empty": b"",
    "empty object": b"{}",
    "null": b"null",
    "true": b"true",
    "1": b"1",
    "text": b'"permit"',
    "a list of true": b"[true]",
    "html": b"<html>ok</html>",
    "cut short": b'{"decision": tr',
    "two values": b'{"decision": true} {"decision": true}',
    "a key twice": b'{"decision": false, "decision": true, "result": false, "result": true}',
    "NaN": b'{"decision": NaN}',
    "no UTF-8": b'{"decision": "\xff"}',
    "an error in disguise": b'{"code": 7, "message": "permission denied"}',
}


class Peer:
    """Whoever connected."""

    def __init__(self, server: Misbehaving, sock: socket.socket) -> None:
        self.server, self.sock = server, sock
        self._rest = b""

    def request(self) -> bytes | None:
        """Read one whole request, note it, and return its body; None where there is no further one."""
        data = self._rest
        while b"\r\n\r\n" not in data:
            more = self.sock.recv(65536)
            if not more:
                return None
            data += more
        head, _end, body = data.partition(b"\r\n\r\n")
        lengths = [
            line.partition(b":")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        ]
        length = int(lengths[0]) if lengths else 0
        while len(body) < length:
            more = self.sock.recv(65536)
            if not more:
                return None
            body += more
        self._rest = body[length:]
        self.server.requests.append(head + b"\r\n\r\n" + body[:length])
        return body[:length]

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def pause(self, seconds: float = PATIENCE) -> bool:
        """Wait, until the server is to end at the latest; tell whether it goes on."""
        return not self.server.ending.wait(seconds)

    def reset(self) -> None:
        """End the connection with a reset instead of a farewell."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Behaviour = Callable[[Peer], None]


class Misbehaving:
    """
    The server.

    Args:
        behaviour: What it does with each connection; `REFUSE` takes none.

        tls: Its side of TLS; None is plain TCP.
    """

    def __init__(self, behaviour: Behaviour, *, tls: ssl.SSLContext | None = None) -> None:
        self.behaviour, self._tls = behaviour, tls
        self.ending = threading.Event()
        self.requests: list[bytes] = []
        self.connections = 0
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        #: Where it is.
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"
        self._lock = threading.Lock()
        self._peers: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        if self.behaviour is not REFUSE:
            self._listener.listen(128)
            self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ending.set()
        if self.behaviour is not REFUSE:
            # Wakes whoever accepts.
            with socket.socket() as last:
                last.connect(("127.0.0.1", self.port))
            self._threads[0].join(PATIENCE)
        self._listener.close()
        self.drop()
        for thread in self._threads:
            thread.join(PATIENCE)
        if any(thread.is_alive() for thread in self._threads):
            message = "a thread of the misbehaving server did not end"
            raise RuntimeError(message)

    def drop(self) -> None:
        """End every connection there is."""
        with self._lock:
            peers = list(self._peers)
        for peer in peers:
            try:
                peer.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            sock, _address = self._listener.accept()
            if self.ending.is_set():
                sock.close()
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(PATIENCE)
            self.connections += 1
            with self._lock:
                self._peers.add(sock)
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        held = sock
        try:
            if self._tls is not None:
                held = self._tls.wrap_socket(sock, server_side=True)
                with self._lock:
                    self._peers.add(held)
            self.behaviour(Peer(self, held))
        except (OSError, ValueError):
            pass  # it went away, or this server ends
        finally:
            with self._lock:
                self._peers -= {sock, held}
            held.close()
            sock.close()


def REFUSE(peer: Peer) -> None:  # noqa: N802  a constant among functions
    """Take no connection: nobody listens."""
    raise NotImplementedError


def reset(peer: Peer) -> None:
    """Reset the connection before anything was said."""
    peer.reset()


def close_at_once(peer: Peer) -> None:
    """End the connection before anything was said."""


def close_after_request(peer: Peer) -> None:
    """Read a request, and end the connection."""
    peer.request()


def reset_after_request(peer: Peer) -> None:
    """Read a request, and reset the connection."""
    peer.request()
    peer.reset()


def hang(peer: Peer) -> None:
    """Accept, and never say a word."""
    peer.pause()


def hang_after_request(peer: Peer) -> None:
    """Read a request, and never answer."""
    peer.request()
    peer.pause()


def replies(
    status: int = 200, body: object = None, headers: Mapping[str, str] | None = None, *, echo: bool = False
) -> Behaviour:
    """
    Answer every request the same, and keep the connection.

    Args:
        status: The status.

        body: Bytes as they are, None as nothing, anything else as JSON.

        headers: Header's name → value, beside the length.

        echo: Whether to send the request's ``X-Request-ID`` back.
    """
    content = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)

    def behave(peer: Peer) -> None:
        while peer.request() is not None:
            told = dict(headers or {})
            if echo:
                told["X-Request-ID"] = header_of(peer.server.requests[-1], "x-request-id")
            peer.send(head(status, {"Content-Length": str(len(content)), **told}) + content)

    return behave


def answers(answer: Callable[[bytes], object]) -> Behaviour:
    """Answer every request's body with the JSON a function makes of it."""

    def behave(peer: Peer) -> None:
        while (body := peer.request()) is not None:
            content = orjson.dumps(answer(body))
            peer.send(head(200, {"Content-Length": str(len(content))}) + content)

    return behave


def head(status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    """Make the head of a reply."""
    lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def header_of(request: bytes, name: str) -> str:
    """Return a header of a request; empty where there is none."""
    for line in request.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n"):
        key, _colon, value = line.partition(":")
        if key.lower() == name.lower():
            return value.strip()
    return ""


def sends(raw: bytes, *, then: Behaviour = close_at_once) -> Behaviour:
    """Read a request, send raw bytes, and end the connection, unless told what to do then."""

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(raw)
        then(peer)

    return behave


def speaks_first(raw: bytes) -> Behaviour:
    """Send raw bytes before anything was asked; on a port where TLS is expected, plain HTTP."""

    def behave(peer: Peer) -> None:
        peer.send(raw)
        peer.sock.recv(65536)
        peer.pause()

    return behave


def trickles_head(every: float = 0.05) -> Behaviour:
    """Send the head of a reply a byte at a time, for ever."""
    return _trickles(head(200, {"X-Filler": "x" * 100_000}), every)


def trickles_body(every: float = 0.05) -> Behaviour:
    """Send the head of a reply at once, its body a byte at a time, for ever."""
    start = head(200, {"Content-Length": "100000"})
    return sends(start, then=_trickles(b'{"decision":' + b" " * 99_000, every, asked=False))


def _trickles(data: bytes, every: float, *, asked: bool = True) -> Behaviour:
    def behave(peer: Peer) -> None:
        if asked:
            peer.request()
        for at in range(len(data)):
            peer.send(data[at : at + 1])
            if not peer.pause(every):
                return

    return behave


def truncates(body: bytes = b'{"decision": true}') -> Behaviour:
    """Promise more than is sent, and end the connection."""
    return sends(head(200, {"Content-Length": str(len(body) + 10)}) + body)


def lies_about_length(length: object, body: bytes = b'{"decision": true}') -> Behaviour:
    """Send a body with another length than it has."""
    return sends(head(200, {"Content-Length": str(length)}) + body)


def garbles_chunks(peer: Peer) -> None:
    """Send a chunked body whose chunks are none."""
    sends(head(200, {"Transfer-Encoding": "chunked"}) + b'zz\r\n{"decision": true}\r\n0\r\n\r\n')(peer)


def bombs(size: int = 100_000_000) -> Behaviour:
    """Send a small body that grows to *size* bytes when it is decompressed."""

    def behave(peer: Peer) -> None:
        # Members of gzip are smaller when their content repeats; one of 100 MB has 100 KB.
        content = gzip.compress(b" " * size, 1)
        sends(head(200, {"Content-Encoding": "gzip", "Content-Length": str(len(content))}) + content)(peer)

    return behave


def floods(size: int = 100_000_000, *, told: bool = True) -> Behaviour:
    """Send a body of *size* bytes, with its length told in advance or in chunks."""

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(head(200, {"Content-Length": str(size)} if told else {"Transfer-Encoding": "chunked"}))
        block = b" " * 65536
        for _ in range(size // len(block)):
            peer.send(block if told else b"10000\r\n" + block + b"\r\n")

    return behave


def nests(depth: int = 100_000) -> Behaviour:
    """Send JSON that is nested so deep."""
    return replies(body=b'{"a":' + b"[" * depth + b"]" * depth + b"}")


def redirects(to: str, status: int = 307) -> Behaviour:
    """Send everybody elsewhere."""
    return replies(status, headers={"Location": to})


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """Behave so with the first connection, so with the next; with all further ones as with the last."""
    left = list(behaviours)

    def behave(peer: Peer) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(peer)

    return behave


class Authority:
    """
    Makes certificates.

    Args:
        folder: Where they are written.

    Attributes:
        ca: The file a client trusts.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("the authority")
        self.ca = folder / "ca.pem"
        made = self._signed(self._name, self._key.public_key(), [], ca=True)
        self.ca.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def server(self, kind: str = "good", *, clients: bool = False) -> ssl.SSLContext:
        """
        Make a server's side of TLS.

        Args:
            kind: ``"good"``, ``"wrong host"``, ``"expired"`` or ``"self-signed"``.

            clients: Whether clients have to show a certificate of this authority.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.certificate(kind))
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca)
        return context

    def certificate(self, kind: str = "good", password: bytes | None = None) -> tuple[Path, Path]:
        """Make a certificate and its key, as two files; a client's is ``"client"``."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.IPv4Address("127.0.0.1")),
        ]
        if kind in {"wrong host", "client"}:
            names = [x509.DNSName("elsewhere.example")]
        signer = key if kind == "self-signed" else self._key
        issuer = _name(kind) if kind == "self-signed" else self._name
        made = self._signed(_name(kind), key.public_key(), names, signer=signer, issuer=issuer, late=kind == "expired")
        files = self._folder / f"{kind}.pem", self._folder / f"{kind}.key"
        files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
        locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        files[1].write_bytes(key.private_bytes(pem, form, locked))
        return files

    def _signed(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePublicKey,
        names: list[x509.GeneralName],
        *,
        signer: ec.EllipticCurvePrivateKey | None = None,
        issuer: x509.Name | None = None,
        ca: bool = False,
        late: bool = False,
    ) -> x509.Certificate:
        now, day = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(days=1)
        builder = x509.CertificateBuilder(
            issuer_name=issuer or self._name,
            subject_name=name,
            public_key=key,
            serial_number=x509.random_serial_number(),
            not_valid_before=now - 3 * day,
            not_valid_after=now - day if late else now + day,
        ).add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        known = x509.SubjectKeyIdentifier.from_public_key(key)
        builder = builder.add_extension(known, critical=False)
        above = self._key.public_key() if signer is None else signer.public_key()
        by = x509.AuthorityKeyIdentifier.from_issuer_public_key(above)
        builder = builder.add_extension(by, critical=False)
        if ca:
            usage = x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            )
            builder = builder.add_extension(usage, critical=True)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key if signer is None else signer, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
