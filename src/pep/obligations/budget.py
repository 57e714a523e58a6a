"""
Budgets: a counted allowance that everything inside of a run shares, with a kill switch.

Imports L0, the protocols and properties only.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import Final, final

import attrs

from pep.errors import ConfigurationError, ObligationError
from pep.frozen import EMPTY
from pep.model import Obligation
from pep.obligations.checks import named, positive_count
from pep.obligations.exclusive import Exclusive
from pep.obligations.lookups import Lookup, cost_of, quantity
from pep.obligations.properties import Properties, Reading
from pep.protocols import Call, Phase, Rank

_KILLED: Final = "was killed"


@attrs.define(eq=False, repr=False)
class _Purse:
    """What one run may spend, and has spent."""

    limits: Mapping[str, int]
    outer: _Purse | None = None
    #: One for the whole tree: all of it spends, or nothing.
    exclusive: Exclusive = attrs.field(factory=Exclusive)
    process: int = 0
    #: Why nothing can be drawn; empty where something can.
    state: str = "has not begun"
    spent: dict[str, int] = attrs.field(factory=dict)

    def draw(self, name: str, cost: int, limit: int) -> None:
        """Spend from this run and every one around it; or from none, and raise."""
        with self.exclusive:
            for purse in self._around():
                purse.check(name, cost, limit)
            for purse in self._around():
                purse.spent[name] = purse.spent.get(name, 0) + cost

    def check(self, name: str, cost: int, limit: int) -> None:
        """Raise where this run cannot spend that."""
        state = "belongs to another process" if self.process != os.getpid() else self.state
        if state:
            message = f"the run {state}"
            raise ObligationError(message)
        if self.spent.get(name, 0) + cost > min(limit, self.limits.get(name, limit)):
            message = "too little is left of it"
            raise ObligationError(message)

    @property
    def open(self) -> bool:
        """Whether something may be drawn from it at all, and from those around it."""
        return all(purse.process == os.getpid() and not purse.state for purse in self._around())

    def end(self, state: str) -> None:
        """Have nothing drawn from it once this returns, but by the very draw that it interrupts."""
        if self.state != _KILLED:
            self.state = state
        # Whoever is drawing has checked already; a signal handler cannot wait for its own thread.
        with suppress(ObligationError), self.exclusive:
            pass

    def _around(self) -> Iterator[_Purse]:
        purse: _Purse | None = self
        while purse is not None:
            yield purse
            purse = purse.outer


_PURSE: Final[ContextVar[_Purse | None]] = ContextVar("pep.run", default=None)


@final
class Run:
    """
    One run, for the length of a ``with`` block: what everything called in it may spend together; see `run`.

    Args:
        limits: Budget's name → how much this run may spend at most, whatever an obligation allows.

    Raises:
        ConfigurationError: When a limit is no whole number from 1 on, or the run was entered already.
    """

    __slots__ = ("_purse", "_token")

    def __init__(self, limits: Mapping[str, int] = EMPTY) -> None:
        given: object = limits
        if not isinstance(given, Mapping):
            message = "`limits` must be a mapping from the names of budgets to whole numbers"
            raise ConfigurationError(message)
        self._purse = _Purse({named(name, "limits"): positive_count(most, "limits") for name, most in given.items()})
        self._token: Token[_Purse | None] | None = None

    def __enter__(self) -> Run:
        if self._token is not None:
            message = "this run was entered already; make a new one for each block"
            raise ConfigurationError(message)
        purse, outer = self._purse, _PURSE.get()
        if outer is not None:
            purse.outer, purse.exclusive = outer, outer.exclusive
        purse.process = os.getpid()
        if not self.killed:
            purse.state = ""
        self._token = _PURSE.set(purse)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._purse.end("has ended")
        if self._token is not None:
            # Left in another context, that one keeps a run that has ended.
            with suppress(ValueError):
                _PURSE.reset(self._token)

    def kill(self) -> None:
        """
        End the run at once, from any thread, with every run in it.

        When this returns, nothing draws from it any longer. Code that runs already goes on to its next guarded call.
        """
        self._purse.end(_KILLED)

    @property
    def killed(self) -> bool:
        """Whether it was killed."""
        return self._purse.state == _KILLED

    def spent(self, name: str) -> int:
        """Return how much was spent of a budget, in this run and those inside of it."""
        return self._purse.spent.get(name, 0)

    def __repr__(self) -> str:
        return f"<Run that {self._purse.state or 'is open'}>"


def run(limits: Mapping[str, int] = EMPTY) -> Run:
    """
    Begin a run: everything called in its ``with`` block shares one allowance of each budget.

    Whatever inherits the block's context draws from it: functions, tasks, and threads started in a copy of it
    (``contextvars.copy_context().run``). A run inside another draws from both, so that a sub-agent never has more
    than is left to whoever started it. What outlives the block, or is in a forked child, has nothing to spend.

    Args:
        limits: Budget's name → how much this run may spend at most, whatever an obligation allows.

    Raises:
        ConfigurationError: When a limit is no whole number from 1 on.
    """
    return Run(limits)


@attrs.frozen(repr=False)
class _Terms:
    """What an obligation lets a run spend, and what one call costs."""

    name: str
    limit: int
    cost: int | Lookup


@final
class Budget:
    """
    Denies a call when its run has spent what it may, or was ended; discharges ``budget``.

    Properties of the obligation: ``name``, which budget; ``limit``, how much a whole run may spend of it, a whole
    number from 1 on; ``cost``, what one call costs, a whole number from 1 on or the path to one (1).

    The allowance belongs to the run, `pep.obligations.budget.run`, not to whoever acts in it: agents that act for
    one another share it. Outside of a run the call is denied.
    """

    types: Collection[str] = frozenset({"budget"})
    phase = Phase.BEFORE
    rank = Rank.COUNT

    def __init__(self) -> None:
        self._terms = Reading(_terms)

    def discharge(self, obligation: Obligation, call: Call) -> Call:
        """
        Draw what one call costs from its run, and every run around that.

        Raises:
            ObligationError: When too little is left, there is no run that is open, or a property is malformed.
        """
        terms = self._terms(obligation)
        cost, purse = cost_of(terms.cost, call, obligation), _PURSE.get()
        if purse is None:
            message = f"obligation `{obligation.type}` needs a run; call it in `with run():`"
            raise ObligationError(message)
        try:
            purse.draw(terms.name, cost, terms.limit)
        except ObligationError as error:
            message = f"budget `{terms.name}` of obligation `{obligation.type}` cannot be drawn from: {error}"
            raise ObligationError(message) from None
        return call

    def holds(self, _obligation: Obligation, _call: Call, _now: float, /) -> bool:
        """Tell whether the run, and every one around it, is still open: asked at every use of a grant, and step."""
        purse = _PURSE.get()
        return purse is not None and purse.open


def _terms(properties: Properties) -> _Terms:
    return _Terms(properties.text("name"), properties.integer("limit", minimum=1), quantity(properties, "cost"))
