"""Notifications: an obligation that tells somebody about a call. Imports L0, the protocols and properties only."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Final, final

from pep.asynchronous import is_asynchronous
from pep.errors import ConfigurationError, ObligationError
from pep.model import Obligation
from pep.obligations.checks import positive_count, positive_seconds
from pep.obligations.outbox import Outbox
from pep.obligations.properties import Properties, Reading
from pep.obligations.worlds import on_a_loop
from pep.plan import Plan
from pep.plan import call as invoke
from pep.protocols import Call, Phase, Rank

if TYPE_CHECKING:
    import asyncio

#: How many notifications wait at most before more are dropped.
MAX_WAITING: Final = 1_000


@final
class Notify:
    """
    Tells a callable, a webhook or a logger that a call was made; discharges ``notify``.

    What is told is a dict of JSON values: ``obligation`` (its type), ``id`` (where it has one), ``name`` (the
    obligation's only property, a text, where it has one), ``phase``, ``subject``, ``action``, ``resource``,
    ``actors`` and ``tenant`` by their types and ids, and ``arguments``, the names of them. Never a value of a
    property, an argument or a result.

    Best-effort unless it is required: the call goes on at once, and a notification that fails, or for which there is
    no room, is counted. A synchronous callable is then called on a thread of its own, in no context of the call's.

    Args:
        target: A function of that dict, or a coroutine function, which serves asynchronous callers only; a
            `pep.obligations.webhook.Webhook`; or a logger.

        phase: When: after the code and on denial, unless given. An entry point that has no *after*, such as
            ``enforce``, needs ``Phase.BEFORE``.

        required: Whether the obligation fails where the notification did.

        level: At which level a logger is told.

        waiting: How many notifications may wait.

        timeout: How long a coroutine may take that nobody waits for, in seconds.

    Attributes:
        stats: ``sent``, ``failed`` and ``dropped`` → how many were of those that nobody waits for.

    Raises:
        ConfigurationError: When an argument is of the wrong type.
    """

    types: Collection[str] = frozenset({"notify"})
    rank = Rank.NOTIFY

    def __init__(
        self,
        target: Callable[[Mapping[str, Any]], Any] | logging.Logger,
        *,
        phase: Phase = Phase.AFTER | Phase.ON_DENIAL,
        required: bool = False,
        level: int = logging.INFO,
        waiting: int = MAX_WAITING,
        timeout: float = 5.0,
    ) -> None:
        given: object = _Logged(target, level) if isinstance(target, logging.Logger) else target
        # What a user hands over may be anything.
        stated: object = required
        if not callable(given) or isinstance(given, type):
            message = f"`{type(given).__name__}` cannot be notified; pass a function, a `Webhook` or a logger"
            raise ConfigurationError(message)
        if type(stated) is not bool:
            message = "`required` must be `True` or `False`"
            raise ConfigurationError(message)
        self.phase = phase
        self._target: Callable[[Mapping[str, Any]], Any] = given
        self._required = required
        #: Whether the call goes on where even handing it over came too late.
        self.best_effort = not required
        self._limit, self._timeout = positive_count(waiting, "waiting"), positive_seconds(timeout, "timeout")
        self._outbox = Outbox(given, self._limit)
        #: Whether it can only be awaited.
        self.asynchronous = is_asynchronous(given)
        self._blocking = getattr(given, "blocking", False) is True and not self.asynchronous
        self._tasks: set[asyncio.Task[None]] = set()
        self._name = Reading(_name)

    def discharge(self, obligation: Obligation, call: Call) -> Call | Plan[Call]:
        """
        Notify, or have it done.

        Raises:
            ObligationError: When a property is malformed, or a required notification failed.
        """
        told = _told(obligation, self._name(obligation), call)
        if self._required:
            return self._awaited(obligation, call, told)
        if self.asynchronous:
            self._begin(told)
        else:
            self._outbox.put(told)
        return call

    @property
    def stats(self) -> dict[str, int]:
        """How many notifications that nobody waits for were sent, failed and were dropped so far."""
        return {"sent": self._outbox.sent, "failed": self._outbox.failed, "dropped": self._outbox.dropped}

    def close(self, timeout: float = 5.0) -> bool:
        """Wait for what is still to be sent by a thread, for so many seconds at most; tell whether all was."""
        return self._outbox.drain(timeout)

    def _awaited(self, obligation: Obligation, call: Call, told: Mapping[str, Any]) -> Plan[Call]:
        try:
            yield from invoke(self._target, told, threaded=self._blocking and on_a_loop())
        except Exception as error:
            # Only its kind: a client's own words may quote a URL.
            message = f"obligation `{obligation.type}` could not notify: {type(error).__name__}"
            raise ObligationError(message) from error
        return call

    def _begin(self, told: Mapping[str, Any]) -> None:
        if not on_a_loop():
            self._outbox.failed += 1
            return
        if len(self._tasks) >= self._limit:
            self._outbox.dropped += 1
            return
        import asyncio  # noqa: PLC0415  loaded only where there is a loop

        task = asyncio.get_running_loop().create_task(self._sent(told))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _sent(self, told: Mapping[str, Any]) -> None:
        import asyncio  # noqa: PLC0415  loaded only where there is a loop

        try:
            await asyncio.wait_for(self._target(told), self._timeout)
        except Exception:  # noqa: BLE001  best-effort
            self._outbox.failed += 1
        else:
            self._outbox.sent += 1


@final
class _Logged:
    """A logger as a callable: one line of JSON, and the same as ``extra``."""

    blocking = True

    def __init__(self, logger: logging.Logger, level: int) -> None:
        if type(level) is not int:
            message = "`level` must be a level of `logging`, such as `logging.INFO`"
            raise ConfigurationError(message)
        self._logger, self._level = logger, level

    def __call__(self, told: Mapping[str, Any]) -> None:
        # Nothing in it breaks a line, or steers a terminal.
        self._logger.log(self._level, "%s", json.dumps(told), extra={"pep": told})


def _told(obligation: Obligation, name: str | None, call: Call) -> dict[str, Any]:
    request = call.request
    told: dict[str, Any] = {"obligation": obligation.type}
    if obligation.id is not None:
        told["id"] = obligation.id
    if name is not None:
        told["name"] = name
    told["phase"] = (call.phase.name or "").lower()
    told["subject"] = {"type": request.subject.type, "id": request.subject.id}
    told["action"] = request.action.name
    told["resource"] = {"type": request.resource.type, "id": request.resource.id}
    if request.actors:
        told["actors"] = [{"type": actor.type, "id": actor.id} for actor in request.actors]
    if request.tenant is not None:
        told["tenant"] = request.tenant
    told["arguments"] = sorted(call.arguments)
    return told


def _name(properties: Properties) -> str | None:
    return properties.text("name") if "name" in properties else None
