"""TLS: always verified, whoever brings the context."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from pep.errors import ConfigurationError, PDPInsecure, PDPReplyError, PDPTimeout, PDPUnavailable
from pep.transport import HTTPTransport
from tests.misbehaving import Authority, Misbehaving, close_at_once, hang, replies, reset, sends
from tests.transport.asking import NEVER, WORLDS, ask

worlds = pytest.mark.parametrize("world", WORLDS)
OK = replies(body={"decision": True})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def https(server: Misbehaving) -> str:
    return server.url.replace("http:", "https:")


@worlds
def test_a_server_that_proves_itself_is_asked(world: str, authority: Authority) -> None:
    """Its certificate is signed by an authority that is trusted, and the connection is kept."""
    with Misbehaving(OK, tls=authority.server()) as server, HTTPTransport(ca=authority.ca) as sender:
        assert [ask(sender, server.url, world).status for _ in range(3)] == [200] * 3
        assert server.connections == 1


@worlds
def test_large_bodies_go_over_tls(world: str, authority: Authority) -> None:
    """What takes many records each way arrives whole."""
    with Misbehaving(replies(body=b"y" * 500_000), tls=authority.server()) as server:
        with HTTPTransport(ca=authority.ca) as sender:
            reply = ask(sender, server.url, world, body=b"x" * 3_000_000)
        assert (len(reply.body), len(server.requests[0].partition(b"\r\n\r\n")[2])) == (500_000, 3_000_000)


@worlds
@pytest.mark.parametrize("kind", ["good", "wrong host", "expired", "self-signed"])
def test_the_systems_authorities_are_the_default(world: str, kind: str, authority: Authority) -> None:
    """Without `ca` a certificate of our own authority proves nothing."""
    with Misbehaving(OK, tls=authority.server(kind)) as server, HTTPTransport() as sender:
        with pytest.raises(PDPInsecure):
            ask(sender, server.url, world)
        assert server.requests == []


@worlds
def test_a_client_proves_itself(world: str, authority: Authority) -> None:
    """With a certificate the server lets it in, without it does not."""
    with Misbehaving(OK, tls=authority.server(clients=True)) as server:
        with HTTPTransport(ca=str(authority.ca), certificate=authority.certificate("client")) as sender:
            assert ask(sender, server.url, world).status == 200
        with HTTPTransport(ca=authority.ca) as sender, pytest.raises(PDPInsecure):
            ask(sender, server.url, world)


def test_a_key_may_have_a_password(authority: Authority) -> None:
    """Whoever knows it is asked when the transport is made."""
    files = authority.certificate("client", password=b"word")
    sender = HTTPTransport(ca=authority.ca, certificate=(*files, lambda: "word"))
    with Misbehaving(OK, tls=authority.server(clients=True)) as server, sender:
        assert ask(sender, server.url).status == 200


@worlds
def test_a_context_of_ones_own_is_taken(world: str, authority: Authority) -> None:
    """One that verifies serves as it is."""
    context = ssl.create_default_context(cafile=authority.ca)
    with Misbehaving(OK, tls=authority.server()) as server, HTTPTransport(tls=context) as sender:
        assert ask(sender, server.url, world).status == 200


@worlds
def test_a_context_that_is_weakened_later_is_refused(world: str, authority: Authority) -> None:
    """Verification is looked at again for each connection."""
    context = ssl.create_default_context(cafile=authority.ca)
    with Misbehaving(OK, tls=authority.server("wrong host")) as server, HTTPTransport(tls=context) as sender:
        context.check_hostname = False
        with pytest.raises(PDPInsecure, match="check_hostname"):
            ask(sender, server.url, world)


@worlds
def test_another_protocol_than_ours_is_refused(world: str, authority: Authority) -> None:
    """A context that offers HTTP/2 to a server that takes it brings no reply."""
    context, taken = ssl.create_default_context(cafile=authority.ca), authority.server()
    for side in (context, taken):
        side.set_alpn_protocols(["h2"])
    sender = HTTPTransport(tls=context)
    with Misbehaving(OK, tls=taken) as server, sender, pytest.raises(PDPReplyError, match="another protocol"):
        ask(sender, server.url, world)


@worlds
@pytest.mark.parametrize("behaviour", [close_at_once, reset])
def test_a_connection_that_breaks_before_it_is_secure_is_an_outage(world: str, behaviour: Any) -> None:
    """Nobody has proven or refuted anything yet."""
    with Misbehaving(behaviour) as server, HTTPTransport() as sender, pytest.raises(PDPUnavailable) as error:
        ask(sender, https(server), world)
    assert not isinstance(error.value, PDPTimeout)


@worlds
def test_a_handshake_that_hangs_is_cut_at_the_deadline(world: str) -> None:
    """TLS is part of the time a request may take."""
    with Misbehaving(hang) as server, HTTPTransport() as sender, pytest.raises(PDPTimeout):
        ask(sender, https(server), world, timeout=NEVER)


@worlds
def test_the_end_of_a_secure_body_must_be_said(world: str, authority: Authority) -> None:
    """A body that ends with the connection is cut short unless TLS says that it ended."""
    server = Misbehaving(sends(b"HTTP/1.1 200 OK\r\n\r\n{}"), tls=authority.server())
    with server, HTTPTransport(ca=authority.ca) as sender, pytest.raises(PDPUnavailable):
        ask(sender, server.url, world)


def unverified() -> ssl.SSLContext:
    return ssl._create_unverified_context()  # noqa: S323  what is to be refused


def careless() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    return context


def optional() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


@pytest.mark.parametrize("make", [unverified, careless, optional, lambda: ssl.SSLContext, lambda: True, lambda: False])
def test_verification_cannot_be_turned_off(make: Any) -> None:
    """A context that does not verify, or anything else, is a mistake of configuration."""
    with pytest.raises(ConfigurationError):
        HTTPTransport(tls=make())


def leaking() -> str:
    message = "the password is word"
    raise OSError(message)


def test_files_and_combinations_are_checked(authority: Authority, tmp_path: Path) -> None:
    """What cannot be read or used is told when the transport is made."""
    cert, key = authority.certificate("client")
    locked = authority.certificate("client", password=b"word")
    other = tmp_path / "other.key"
    other.write_bytes(authority.certificate("good")[1].read_bytes())
    nothing = tmp_path / "nothing.pem"
    wrong: list[dict[str, Any]] = [
        {"ca": nothing},
        {"ca": key},
        {"ca": 7},
        {"tls": ssl.create_default_context(), "ca": authority.ca},
        {"tls": ssl.create_default_context(), "certificate": (cert, key)},
        {"certificate": cert},
        {"certificate": (cert,)},
        {"certificate": [cert, key]},
        {"certificate": (cert, key, "word")},
        {"certificate": (cert, None)},
        {"certificate": (nothing, key)},
        {"certificate": (cert, other)},
        {"certificate": locked},
        {"certificate": (*locked, lambda: "another")},
        {"certificate": (*locked, leaking)},
    ]
    for options in wrong:
        with pytest.raises(ConfigurationError) as error:
            HTTPTransport(**options)
        assert "password is word" not in f"{error.value!r}{error.value.__cause__!r}{error.value.__context__!r}"
