"""
Rates, and the bounded allowance of calls a failure mode may let through.

Exact sliding windows over times the caller gives: no clock of its own. Imports the error tree only.
"""

from __future__ import annotations

import math
import re
from collections import deque
from threading import RLock
from types import MappingProxyType
from typing import Final

import attrs

from pep.errors import ConfigurationError
from pep.frozen import fields_repr

#: The greatest count a rate may have, and how many of them an allowance remembers per subject in all.
MAX_COUNT: Final = 100_000

#: How many subjects an allowance tells apart at any one time.
MAX_SUBJECTS: Final = 10_000

#: Unit → its length in seconds.
_UNITS: Final = MappingProxyType({"second": 1, "minute": 60, "hour": 3_600, "day": 86_400})
_FORM: Final = r"([1-9][0-9]{0,5})/([a-z]+)"


@attrs.frozen(repr=False)
class Rate:
    """
    How many in any stretch of time of a given length.

    Args:
        count: How many, from 1 to `MAX_COUNT`.

        seconds: The length: one second, minute, hour or day.

    Raises:
        ConfigurationError: On any other count or length.
    """

    count: int = attrs.field(validator=lambda _rate, _field, value: _check_count(value))
    seconds: int = attrs.field(validator=lambda _rate, _field, value: _check_seconds(value))

    __repr__ = fields_repr

    @classmethod
    def parse(cls, text: str) -> Rate:
        """
        Read a rate such as ``"100/minute"``.

        Args:
            text: A count, a slash and ``second``, ``minute``, ``hour`` or ``day``; no spaces.

        Raises:
            ConfigurationError: On anything else.
        """
        form = re.fullmatch(_FORM, text) if type(text) is str else None
        if form is None or form[2] not in _UNITS:
            shown = f"`{text}`" if type(text) is str else f"`{type(text).__name__}`"
            message = f"{shown} is no rate; write a count and one of {', '.join(_UNITS)}, such as `100/minute`"
            raise ConfigurationError(message)
        return cls(int(form[1]), _UNITS[form[2]])

    def __str__(self) -> str:
        unit = next(name for name, seconds in _UNITS.items() if seconds == self.seconds)
        return f"{self.count}/{unit}"


@attrs.define(eq=False, repr=False)
class Allowance:
    """
    What is left of a rate, in all and for each subject; shared between threads.

    Bounded: when more than `MAX_SUBJECTS` subjects, or `MAX_COUNT` calls of theirs, would have to be
    remembered, it refuses.

    Args:
        limit: The rate of all calls together.

        per_subject: The rate of any one subject's calls, if there is one.
    """

    limit: Rate
    per_subject: Rate | None = None
    _lock: RLock = attrs.field(factory=RLock, init=False, repr=False)
    _busy: bool = attrs.field(default=False, init=False, repr=False)
    _now: float = attrs.field(default=-math.inf, init=False, repr=False)
    _taken: deque[float] = attrs.field(factory=deque, init=False, repr=False)
    _shares: deque[tuple[float, bytes]] = attrs.field(factory=deque, init=False, repr=False)
    _counts: dict[bytes, int] = attrs.field(factory=dict, init=False, repr=False)

    __repr__ = fields_repr

    def take(self, subject_key: bytes, now: float) -> bool:
        """
        Use one call up, if both rates still allow it; otherwise use up nothing.

        Args:
            subject_key: Who calls, as ``subject.reference().key``: properties vary, and are left out.

            now: The time, in seconds on a clock that never goes back; a time before an earlier call's
                counts as that call's.

        Returns:
            Whether the call may go on. Always False when a signal handler or finaliser interrupts
            this very method.
        """
        from hashlib import blake2b  # noqa: PLC0415  loads OpenSSL, for outages only

        share = blake2b(subject_key, digest_size=16).digest()  # a key may be long, what is kept is not
        with self._lock:
            if self._busy:
                return False
            try:
                self._busy = True
                return self._take(share, now)
            finally:
                self._busy = False

    def _take(self, share: bytes, now: float) -> bool:
        self._now = max(self._now, now)
        self._forget()
        if len(self._taken) >= self.limit.count:
            return False
        if self.per_subject is not None and not self._take_share(share, self.per_subject):
            return False
        self._taken.append(self._now)
        return True

    def _take_share(self, share: bytes, rate: Rate) -> bool:
        count = self._counts.get(share, 0)
        full = len(self._shares) >= MAX_COUNT or (count == 0 and len(self._counts) >= MAX_SUBJECTS)
        if full or count >= rate.count:
            return False
        self._counts[share] = count + 1
        self._shares.append((self._now, share))
        return True

    def _forget(self) -> None:
        while self._taken and self._now - self._taken[0] >= self.limit.seconds:
            self._taken.popleft()
        while self.per_subject and self._shares and self._now - self._shares[0][0] >= self.per_subject.seconds:
            self._drop(self._shares.popleft()[1])

    def _drop(self, share: bytes) -> None:
        count = self._counts.pop(share) - 1
        if count:
            self._counts[share] = count


def _check_count(value: object) -> None:
    if type(value) is not int or not 1 <= value <= MAX_COUNT:
        message = f"a rate counts from 1 to {MAX_COUNT}; name a shorter unit for more, such as `100/second`"
        raise ConfigurationError(message)


def _check_seconds(value: object) -> None:
    if type(value) is not int or value not in _UNITS.values():
        message = f"a rate is per {', '.join(_UNITS)}; give the seconds of one of them, such as 60"
        raise ConfigurationError(message)
