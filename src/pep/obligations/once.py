"""Replay protection: an obligation that lets each nonce through once. Imports L0, the protocols and properties only."""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b
from typing import Any, Final, Protocol, final, runtime_checkable

import attrs

from pep.asynchronous import is_asynchronous
from pep.errors import ConfigurationError, ObligationError
from pep.frozen import canonical
from pep.model import Obligation
from pep.obligations.lookups import FORM, Lookup, value_at
from pep.obligations.nonces import MemoryNonces
from pep.obligations.properties import Properties, Reading
from pep.obligations.worlds import on_a_loop
from pep.plan import Eventual, Plan
from pep.plan import call as invoke
from pep.protocols import Call, Phase, Rank

#: How long a nonce may be, in characters.
MAX_NONCE: Final = 256


@runtime_checkable
class NonceStore(Protocol):
    """
    What remembers which nonces were used.

    It may also have ``blocking``, a ``bool``: whether `claim` waits for a disk or a network, and is called on a
    thread of its own where an event loop would have to wait for it.
    """

    def claim(self, key: str, ttl: float, /) -> Eventual[bool]:
        """Remember a key for so many seconds; exactly True where it was new, exactly False where it was not."""
        ...


@attrs.frozen(repr=False)
class _Terms:
    """Where a nonce is found, and how long and for whom it counts."""

    lookup: Lookup
    ttl: float
    everybody: bool
    name: str | None

    def key(self, call: Call, nonce: str) -> str:
        request = call.request
        name = (1, self.name) if self.name is not None else (0, request.qualified_action)
        who = None if self.everybody else (request.tenant, request.subject.type, request.subject.id)
        return blake2b(canonical((name, who, nonce)), digest_size=32).hexdigest()


@final
class Once:
    """
    Denies a call whose nonce, or idempotency key, was used before; discharges ``once``.

    Properties of the obligation: ``key``, the path to the nonce in the call, such as ``context.nonce`` or
    ``arguments.request_id``: a text of up to 256 characters; ``ttl``, for how long it is remembered, in seconds:
    longer than such a call may be replayed; ``scope``, ``"subject"`` or ``"global"``: whether another subject's, or
    another tenant's, is another nonce (``"subject"``); ``name``, what the nonce is for: without one, each action by
    itself.

    A nonce is used up once it was counted, whatever becomes of the call. When the store does not answer, the call
    is denied.

    Args:
        store: What remembers: `MemoryNonces` unless given, which is this process's own; `SQLiteNonces` and
            `RedisNonces` serve several.

    Raises:
        ConfigurationError: When *store* has no ``claim``.
    """

    types: Collection[str] = frozenset({"once"})
    phase = Phase.BEFORE
    rank = Rank.COUNT

    def __init__(self, store: NonceStore | None = None) -> None:
        given: object = MemoryNonces() if store is None else store
        if isinstance(given, type) or not isinstance(given, NonceStore):
            message = f"`{type(given).__name__}` is no store of nonces; it needs `claim(key, ttl)`"
            raise ConfigurationError(message)
        self._store: Any = given
        #: Whether it can only be awaited.
        self.asynchronous = getattr(given, "asynchronous", False) is True or is_asynchronous(given.claim)
        self._blocking = getattr(given, "blocking", False) is True and not self.asynchronous
        self._terms = Reading(_terms)

    def discharge(self, obligation: Obligation, call: Call) -> Plan[Call]:
        """
        Use a nonce up.

        Raises:
            ObligationError: When it was used before, there is none, the store did not answer, or a property is
                malformed.
        """
        terms = self._terms(obligation)
        nonce: object = value_at(terms.lookup, call, obligation, "key")
        if type(nonce) is not str or not 0 < len(nonce) <= MAX_NONCE:
            malformed = Properties(obligation).error("key", f"must lead to a text of 1 to {MAX_NONCE} characters")
            raise malformed
        return self._claimed(obligation, call, terms.key(call, nonce), terms.ttl)

    def _claimed(self, obligation: Obligation, call: Call, key: str, ttl: float) -> Plan[Call]:
        try:
            new = yield from invoke(self._store.claim, key, ttl, threaded=self._blocking and on_a_loop())
        except Exception as error:
            message = f"obligation `{obligation.type}` could not be checked: {type(error).__name__}"
            raise ObligationError(message) from error
        if new is True:
            return call
        if new is False:
            replayed = Properties(obligation).error("key", "leads to what was used before; send a new one")
            raise replayed
        message = f"obligation `{obligation.type}` could not be checked: the store answered `{type(new).__name__}`"
        raise ObligationError(message)


def _terms(properties: Properties) -> _Terms:
    return _Terms(
        properties.parsed("key", Lookup, FORM),
        properties.seconds("ttl", minimum=1),
        properties.choice("scope", ("subject", "global"), "subject") == "global",
        properties.text("name") if "name" in properties else None,
    )
