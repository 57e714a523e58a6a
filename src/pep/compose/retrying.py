"""
Asking again: how often, after what pause, and out of which budget.

Imports the faults and the error tree only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from pep.errors import ConfigurationError, PDPOverloaded
from pep.fault import Fault, fault_of
from pep.forking import after_fork
from pep.frozen import fields_repr
from pep.locks import Lock
from pep.profile_checks import described, is_finite, seconds

#: The most attempts there ever are for one question, the first among them.
MOST_ATTEMPTS: Final = 3

#: Of so many answers, one further attempt may come.
SHARE: Final = 10

#: What asking again costs, what it costs after a timeout or beside a slow attempt, and what an answer earns, in tokens.
RETRY_COST: Final = 5
TIMEOUT_COST: Final = 10
EARNED: Final = 1


@attrs.frozen(kw_only=True, repr=False)
class Retries:
    """
    How a question is asked again when the decision point was not available.

    Args:
        attempts: How often it is asked at most, the first time among them: 1, 2 or 3.

        base: The longest pause before the second attempt, in seconds; twice as long before the third. The pause is
            a random part of that.

        cap: The longest pause there is, in seconds.

        timeout: How long one attempt may take, in seconds; None is all that is left. Without one, a decision point
            that hangs takes all the time there is, and is not asked again.

        least: How much time an attempt needs, in seconds; with less left, none begins.

        tokens: How large the budget is that every further attempt is paid from: 5 a retry, 10 after a timeout and for
            a hedge, and every answer earns 1. When it is spent, nothing is asked again until it recovers. Whatever
            is in it, there are never more further attempts than one for 5 tokens of it, or a tenth of all answers
            where that is more.

    Raises:
        ConfigurationError: When one of them is of the wrong type, or out of bounds.

    Source:
        AWS Architecture Blog, *Exponential backoff and jitter* (full jitter); AWS SDKs, retry behavior (token bucket).
    """

    attempts: int = MOST_ATTEMPTS
    base: float = 0.05
    cap: float = 1.0
    timeout: float | None = None
    least: float = 0.005
    tokens: int = 500

    __repr__ = fields_repr

    def __attrs_post_init__(self) -> None:
        if type(self.attempts) is not int or not 1 <= self.attempts <= MOST_ATTEMPTS:
            message = f"`attempts` is {described(self.attempts)}; a question is asked 1 to {MOST_ATTEMPTS} times"
            raise ConfigurationError(message)
        whole(self.tokens, "tokens", least=0)
        for name in ("base", "cap", "least"):
            seconds(getattr(self, name), name, zero=True)
        if self.timeout is not None:
            seconds(self.timeout, "timeout")

    def pause(self, error: Exception, number: int, random: Callable[[], float]) -> float:
        """
        Return how long to wait before asking again, in seconds.

        Args:
            error: What the last attempt came to; an overloaded decision point may say how long to wait, and gets
                the random pause on top, so that those who wait do not come back all at once.

            number: How many attempts there were.

            random: Returns a number from 0 on, below 1.
        """
        jitter: float = random() * min(self.cap, self.base * 2 ** (number - 1))
        asked = error.retry_after if isinstance(error, PDPOverloaded) else None
        return jitter + (asked if asked is not None and is_finite(asked) and asked > 0 else 0.0)


class TokenBudget:
    """
    What retries and hedges are paid from; full at first, and in a forked child.

    Args:
        capacity: How many tokens there are at most.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._left = capacity
        # How many further attempts there may be, at most and now; and the answers on the way to one more.
        self._most = self._further = capacity // RETRY_COST
        # INVARIANT: of many questions a tenth is asked again, no more: what it begins with has to be earned first.
        self._answers = -SHARE * self._most
        self._lock = Lock()
        after_fork(self._renew)

    @property
    def left(self) -> int:
        """How many tokens there are."""
        return self._left

    def retry(self, error: Exception) -> bool:
        """Pay for one more attempt after a failed one; tell whether there was enough."""
        return self._spend(TIMEOUT_COST if fault_of(error) is Fault.TIMEOUT else RETRY_COST)

    def hedge(self) -> bool:
        """Pay for one more attempt beside a slow one; tell whether there was enough."""
        return self._spend(TIMEOUT_COST)

    def earn(self) -> None:
        """Take in what an answer earns."""
        with self._lock:
            self._left = min(self._capacity, self._left + EARNED)
            self._answers += 1
            if self._answers >= SHARE:
                self._answers = 0
                self._further = min(self._most, self._further + 1)

    def _spend(self, cost: int) -> bool:
        with self._lock:
            if self._left < cost or not self._further:
                return False
            self._left -= cost
            self._further -= 1
            return True

    def _renew(self) -> None:
        self._left, self._further, self._answers = self._capacity, self._most, -SHARE * self._most


def whole(value: object, name: str, *, least: int) -> int:
    """
    Take an exact whole number.

    Raises:
        ConfigurationError: When it is none, or too small.
    """
    if type(value) is not int or value < least:
        message = f"`{name}` is {described(value)}; give a whole number, {least} or more"
        raise ConfigurationError(message)
    return value
