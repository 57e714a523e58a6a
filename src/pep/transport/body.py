"""The body of a reply: never more than the cap, decompressed or not. Imports the error tree only."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Final

from pep.errors import PDPReplyError

# A window of 32 KB, in the container of gzip.
_GZIP: Final = 31


class Body:
    """
    Gathers a body.

    Args:
        limit: How many bytes it may have, decompressed.

        codings: The values of ``Content-Encoding``.

    Raises:
        PDPReplyError: When it is encoded otherwise than with gzip.
    """

    def __init__(self, limit: int, codings: Sequence[str]) -> None:
        self._limit = limit
        self._size = 0
        self._parts: list[bytes] = []
        self._begun = False
        coding = ",".join(codings).strip().lower()
        if coding not in {"", "identity", "gzip", "x-gzip"}:
            message = "the reply is encoded otherwise than with gzip, which was not asked for"
            raise PDPReplyError(message)
        self._inflate: Any = zlib.decompressobj(_GZIP) if "gzip" in coding else None

    def take(self, piece: bytes) -> None:
        """
        Take the next piece.

        Raises:
            PDPReplyError: When the body grows over the limit, or is no gzip.
        """
        self._begun = True
        data = piece if self._inflate is None else self._inflated(piece)
        self._size += len(data)
        if self._size > self._limit:
            message = f"the reply is longer than {self._limit} bytes; raise `max_bytes` if that is right"
            raise PDPReplyError(message)
        self._parts.append(data)

    def whole(self) -> bytes:
        """
        Return all of it.

        Raises:
            PDPReplyError: When what was compressed has not come to its end.
        """
        if self._inflate is not None and self._begun and not self._inflate.eof:
            message = "the compressed reply is cut short"
            raise PDPReplyError(message)
        return b"".join(self._parts)

    def _inflated(self, piece: bytes) -> bytes:
        try:
            # One byte more than there is room for, so that a bomb is seen and grows no further.
            data: bytes = self._inflate.decompress(piece, self._limit - self._size + 1)
        except zlib.error:
            message = "the reply is said to be gzip, and is not"
            raise PDPReplyError(message) from None
        if self._inflate.unused_data:
            message = "something follows the compressed reply"
            raise PDPReplyError(message)
        return data
