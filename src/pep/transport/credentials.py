"""
What this client shows to be let in: never in a message, a repr or a cause.

Imports the error tree only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from pep.errors import ConfigurationError, PDPError

#: What returns the value of ``Authorization``, or headers: name → value.
Credentials = Callable[[], Any]

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_VALUE: Final = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?", re.ASCII)
_TOKEN: Final = re.compile(r"[!-~]+", re.ASCII)

#: The headers that carry secrets whoever adds them.
SECRET: Final = frozenset({"authorization", "proxy-authorization", "cookie"})
#: The headers that are the transport's own business.
OWN: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def checked_credentials(credentials: object) -> Credentials | None:
    """
    Take a bearer token, or what is asked for each request.

    Raises:
        ConfigurationError: When it is neither.
    """
    if credentials is None:
        return None
    if type(credentials) is str:
        if not _TOKEN.fullmatch(credentials):
            message = "a bearer token is printable ASCII without spaces; leave out `Bearer`"
            raise ConfigurationError(message)
        told = f"Bearer {credentials}"
        return lambda: told
    if not callable(credentials):
        message = f"`credentials` must be a bearer token or a callable, not `{type(credentials).__name__}`"
        raise ConfigurationError(message)
    return credentials


def shown_headers(credentials: Credentials) -> dict[str, str]:
    """
    Ask for the headers that let one request in.

    Raises:
        PDPError: When there are none to be had.
    """
    told, error = _had(credentials)
    if error is not None:
        # Without its cause: it may tell the secret.
        message = f"the credentials cannot be had: {error}"
        raise PDPError(message)
    headers = {"authorization": told} if type(told) is str else told
    if not isinstance(headers, Mapping) or not headers:
        _discard(told)
        message = f"credentials must be a `str` or a mapping of headers, not `{type(told).__name__}`"
        raise PDPError(message)
    return checked_headers(headers)


def checked_headers(headers: Mapping[Any, Any]) -> dict[str, str]:
    """
    Return headers with their names in lower case.

    Raises:
        PDPError: When one could not be sent as it is, or is not the caller's to set.
    """
    checked = {}
    for name, value in headers.items():
        if type(name) is not str or not _NAME.fullmatch(name):
            _refuse("the name of a header is none")
        lower = name.lower()
        if lower in OWN:
            _refuse(f"header `{lower}` is the transport's own")
        if type(value) is not str or not _VALUE.fullmatch(value):
            _refuse(f"the value of header `{lower}` is not printable ASCII")
        checked[lower] = value
    return checked


def _had(credentials: Credentials) -> tuple[Any, str | None]:
    try:
        return credentials(), None
    except Exception as error:  # noqa: BLE001  user code may raise anything
        return None, type(error).__name__


def _discard(told: Any) -> None:  # noqa: ANN401  whatever was returned
    close = getattr(told, "close", None)
    if callable(close) and hasattr(type(told), "__await__"):
        close()


def _refuse(message: str) -> NoReturn:
    raise PDPError(message)
