"""A webhook to notify; needs the extra ``httpx``, which is imported when one is made. Imports checks only."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, final
from urllib.parse import urlsplit

from pep.errors import ConfigurationError, ObligationError
from pep.frozen import EMPTY
from pep.obligations.checks import positive_seconds


@final
class Webhook:
    """
    Posts a notification as JSON to a fixed URL, and takes any status from 200 to 299 for an answer.

    It follows no redirect, reads no body, and neither proxies nor ``.netrc`` files apply.

    Args:
        url: Where to; ``https``, or ``http`` on this very machine (``localhost``, 127.0.0.0/8, ``::1``).

        headers: Header's name → its value, such as an ``Authorization``.

        timeout: How long to connect, to send and to wait for the answer may take, each, in seconds.

        verify: What checks the server's certificate: an `ssl.SSLContext` in place of the usual one.

    Raises:
        ConfigurationError: When the URL will not do, or the extra is missing.
    """

    blocking = True

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] = EMPTY,
        timeout: float = 5.0,
        verify: Any = True,  # noqa: ANN401  a context of `ssl`
    ) -> None:
        self._url = _checked(url)
        self._headers, self._timeout = dict(headers), positive_seconds(timeout, "timeout")
        self._verify = verify
        try:
            self._httpx: Any = importlib.import_module("httpx")
        except ModuleNotFoundError as error:
            message = "a webhook needs an extra; install `pep[httpx]`"
            raise ConfigurationError(message) from error

    def __call__(self, told: Mapping[str, Any]) -> None:
        """
        Post one notification.

        Raises:
            ObligationError: When the server answered with another status.

            httpx.HTTPError: When it did not answer.
        """
        # A connection for each: none is shared with a forked child.
        made = self._httpx.Client(timeout=self._timeout, follow_redirects=False, trust_env=False, verify=self._verify)
        posted = {"json": dict(told), "headers": self._headers}
        with made as client, client.stream("POST", self._url, **posted) as response:
            if not response.is_success:
                message = f"the webhook answered with status {response.status_code}"
                raise ObligationError(message)

    def __repr__(self) -> str:
        return f"Webhook({urlsplit(self._url).hostname!r})"


def _checked(url: object) -> str:
    message = "a webhook needs an `https` URL without a user in it; `http` is for this very machine only"
    if type(url) is not str:
        raise ConfigurationError(message)
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(message) from None
    secure = parts.scheme == "https" or (parts.scheme == "http" and _is_here(host or ""))
    if not host or not secure or parts.username is not None or parts.password is not None:
        raise ConfigurationError(message)
    return url


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
