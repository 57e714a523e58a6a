"""
Sealing: an approval as it is stored, with a message authentication code over every field of it.

Imports the approvals' values, locks and the error tree only.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from typing import Final, final

import attrs
import orjson

from pep.approvals.refused import ApprovalRefused, Reason
from pep.approvals.values import Approval, Status
from pep.errors import ConfigurationError
from pep.locks import Lock

#: The shortest secret, in bytes.
SHORTEST: Final = 16

# What else is authenticated with the same secret begins differently.
_PURPOSE: Final = b"pep.approval/1\n"
# How many approvals' versions are remembered, the latest ones.
_REMEMBERED: Final = 10_000


@attrs.frozen
class Row:
    """
    An approval as it is stored; what a store looks for it by stands beside it, and is checked against it.

    Attributes:
        id: Its id.

        key: What identical requests share.

        owner: Who asks: pending ones are counted by it.

        open: Whether it is unused.

        expires: When it may be dropped, in seconds since 1970 by the store's clock.

        version: How often it was changed.

        body: The whole approval as JSON.

        mac: HMAC-SHA-256 over the body.
    """

    id: str
    key: str
    owner: str
    open: bool
    expires: float
    version: int
    body: bytes
    mac: bytes


@final
class Seal:
    """
    Seals approvals with a secret, and opens what was sealed with it.

    A code shows that a row was written by somebody with the secret. That it is the latest such row, it cannot
    show: so the versions this process has seen are remembered, and one that goes back is refused.

    Args:
        secret: At least 16 bytes that nobody else knows.

    Raises:
        ConfigurationError: When it is shorter, or no ``bytes``.
    """

    __slots__ = ("__secret", "_lock", "_seen")

    def __init__(self, secret: bytes) -> None:
        if type(secret) is not bytes or len(secret) < SHORTEST:
            message = f"`secret` of a store of approvals must be at least {SHORTEST} bytes of `bytes`"
            raise ConfigurationError(message)
        self.__secret = secret
        self._seen: OrderedDict[str, int] = OrderedDict()
        self._lock = Lock()

    def close(self, approval: Approval) -> Row:
        """Seal an approval."""
        return _row(approval, body := approval.to_json(), self._code(body))

    def open(self, row: Row) -> Approval:
        """
        Open a row.

        Raises:
            ApprovalRefused: When it is not as it was sealed.
        """
        if not hmac.compare_digest(self._code(row.body), row.mac):
            raise ApprovalRefused(Reason.TAMPERED)
        approval = Approval.from_dict(orjson.loads(row.body))
        if _row(approval, row.body, row.mac) != row:
            raise ApprovalRefused(Reason.TAMPERED)
        return approval

    def floor(self, name: str) -> int:
        """Return the highest version of an approval that this process has seen."""
        return self._seen.get(name, 0)

    def saw(self, approval: Approval) -> None:
        """Remember that there was this version of an approval."""
        with self._lock:
            self._seen[approval.id] = max(approval.version, self._seen.pop(approval.id, 0))
            while len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)

    def __repr__(self) -> str:
        return "<Seal>"

    def _code(self, body: bytes) -> bytes:
        return hmac.digest(self.__secret, _PURPOSE + body, hashlib.sha256)


def owner_of(approval: Approval) -> str:
    """Return whose pending approvals an approval counts among."""
    return hashlib.sha256(approval.request.subject.reference().key).hexdigest()


def _row(approval: Approval, body: bytes, mac: bytes) -> Row:
    return Row(
        id=approval.id,
        key=approval.key,
        owner=owner_of(approval),
        open=approval.status is not Status.USED,
        expires=approval.expires,
        version=approval.version,
        body=body,
        mac=mac,
    )
