"""
Who may ask an AuthZEN server, and what about.

Imports the model, what came in, and refusals only.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import attrs

from pep.model import ANONYMOUS, AccessRequest, Subject
from pep.pdp.authzen.asgi import Incoming
from pep.pdp.authzen.incoming import Refused

#: Tells who asks: a `Subject` that was authenticated just now; None is nobody.
Authenticate: TypeAlias = "Callable[[Incoming], Subject | Awaitable[Subject | None] | None]"

#: Tells whether somebody may ask this question; only an exact ``True`` is a yes.
MayAsk: TypeAlias = "Callable[[Subject, AccessRequest], bool | Awaitable[bool]]"


@attrs.frozen(eq=False)
class Guarding:
    """
    Lets in who may ask.

    Args:
        authenticate: Tells who asks.

        may_ask: Tells whether they may ask a question.

        challenge: What to say to whom nobody knows.
    """

    authenticate: Authenticate
    may_ask: MayAsk
    challenge: str

    async def caller(self, incoming: Incoming) -> Subject:
        """
        Tell who asks.

        Raises:
            Refused: With 401, where that is nobody; with 500, where it could not be told.
        """
        found = await _called(self.authenticate, incoming)
        if type(found) is not Subject or found.type == ANONYMOUS.type:
            message = "nobody knows who asks; bring credentials"
            raise Refused(401, message, {"www-authenticate": self.challenge})
        return found

    async def admit(self, caller: Subject, request: AccessRequest) -> None:
        """
        Let a question pass.

        Raises:
            Refused: With 403, where it may not be asked; with 500, where that could not be told.
        """
        if not await self.admits(caller, request):
            raise Refused(403, "this may not be asked by whoever asks it")

    async def admits(self, caller: Subject, request: AccessRequest) -> bool:
        """
        Tell whether a question may be asked.

        Raises:
            Refused: With 500, where that could not be told.
        """
        return (await _called(self.may_ask, caller, request)) is True


async def _called(fn: Callable[..., Any], *args: object) -> object:
    try:
        answer = fn(*args)
        return await answer if inspect.isawaitable(answer) else answer
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  user code may raise anything, and closes
        raise Refused(500, "it could not be told whether this may be asked") from None
