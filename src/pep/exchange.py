"""
What goes to an HTTP server and what comes back, as values.

Imports the error tree and the frozen values only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import attrs

from pep.frozen import EMPTY


@final
@attrs.frozen(repr=False)
class HTTPRequest:
    """
    One HTTP request.

    Args:
        method: Such as ``"POST"``.

        url: Absolute, without a user in it.

        headers: Header's name → its value; what the transport adds, credentials among it, is not told here.

        body: The bytes of it.
    """

    method: str
    url: str
    headers: Mapping[str, str] = EMPTY
    body: bytes = b""

    def __repr__(self) -> str:
        return f"HTTPRequest({self.method!r}, {self.url.partition('?')[0]!r})"


@final
@attrs.frozen(repr=False)
class HTTPReply:
    """
    One whole HTTP reply.

    Args:
        status: From 200 on.

        headers: Header's name in lower case → its value; of several, all of them, with commas between.

        body: The bytes of it, decompressed.
    """

    status: int
    headers: Mapping[str, str] = EMPTY
    body: bytes = b""

    def __repr__(self) -> str:
        return f"HTTPReply({self.status!r}, <{len(self.body)} bytes>)"
