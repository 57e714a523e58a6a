"""
Where a request goes: what of a URL decides about that, and which of them may be asked in plain text.

Imports the error tree only.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from pep.errors import ConfigurationError

_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = re.compile(r"[0-9A-Za-z_]([0-9A-Za-z_.-]*[0-9A-Za-z_])?\.?", re.ASCII)
_PRINTED: Final = re.compile(r"[!-~]+", re.ASCII)
_FIRST_PORT, _LAST_PORT = 1, 65535


class Origin(NamedTuple):
    """Scheme, host and port: what connections may be shared by."""

    secure: bool
    host: str
    port: int

    @property
    def local(self) -> bool:
        """Whether it is this very machine."""
        return self.host == "localhost" or is_loopback(self.host)

    def __str__(self) -> str:
        return f"{'https' if self.secure else 'http'}://{shown(self.host)}:{self.port}"


def located(url: object) -> tuple[Origin, str, str]:
    """
    Read a URL.

    Returns:
        Its origin, what the ``Host`` header says, and the target of the request line.

    Raises:
        ConfigurationError: Unless it is absolute, ``http`` or ``https``, printable ASCII, without user and fragment.
    """
    message = "a request needs a URL like `https://host:port/path`, of printable ASCII, without user and fragment"
    if type(url) is not str or not _PRINTED.fullmatch(url) or "#" in url or "\\" in url:
        raise ConfigurationError(message)
    try:
        parts = urlsplit(url)
        host, port = _host(parts.hostname or "", bracketed="[" in parts.netloc), parts.port
    except ValueError:
        raise ConfigurationError(message) from None
    port = _PORTS.get(parts.scheme, 0) if port is None else port
    if parts.scheme not in _PORTS or "@" in parts.netloc or not host or not _FIRST_PORT <= port <= _LAST_PORT:
        raise ConfigurationError(message)
    named = shown(host) if port == _PORTS[parts.scheme] else f"{shown(host)}:{port}"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Origin(parts.scheme == "https", host, port), named, target


def plain_hosts(hosts: object) -> frozenset[str]:
    """
    Check the hosts that may be asked in plain text.

    Raises:
        ConfigurationError: Unless they are a collection of names such as ``"host"`` and ``"host:port"``.
    """
    message = "`plain` must be a collection of hosts, such as `sidecar` or `sidecar:8181`"
    if isinstance(hosts, (str, bytes)) or not isinstance(hosts, Collection):
        raise ConfigurationError(message)
    for host in hosts:
        if type(host) is not str or not host or "/" in host or "@" in host or not _PRINTED.fullmatch(host):
            raise ConfigurationError(message)
    return frozenset(host.lower() for host in hosts)


def may_be_plain(origin: Origin, hosts: frozenset[str]) -> bool:
    """Tell whether an origin may be asked without TLS: on this machine, or where that is allowed by name."""
    host = shown(origin.host)
    return origin.local or not hosts.isdisjoint({host, origin.host, f"{host}:{origin.port}"})


def is_loopback(host: str) -> bool:
    """Tell whether a host is an address of this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown(host: str) -> str:
    """Write a host as URLs do."""
    return f"[{host}]" if ":" in host else host


def _host(name: str, *, bracketed: bool) -> str:
    """Return a host that is one; empty if it is none."""
    if bracketed:
        return "" if ":" not in name or ipaddress.IPv6Address(name).scope_id else name
    return name if _HOST.fullmatch(name) else ""
