"""
Decision points that answer from a script, and those that answer everything alike.

Imports the model and the error tree only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from pep.errors import ConfigurationError
from pep.model import AccessRequest, Decision, Effect

#: What an entry of a script applies to: an action's name; a tuple of it, a resource type and maybe an id; a
#: whole request; or a function of one.
Matcher: TypeAlias = "str | tuple[str, ...] | AccessRequest | Callable[[AccessRequest], object]"
#: What an entry answers: a decision, an effect, a bool, an exception to raise, or a function of the request.
Answer: TypeAlias = "Decision | Effect | bool | BaseException | Callable[[AccessRequest], Any]"
Script: TypeAlias = "Mapping[Any, Answer] | Iterable[tuple[Matcher, Answer]]"


class ScriptedPDP:
    """
    A decision point that answers from a script; the first entry that matches counts.

    What matches no entry is not applicable, and so denied.

    Args:
        script: Matcher → answer, or pairs of them.

        name: Its identity, in records and cache keys.

        pure: Whether its answers may be cached by default.

    Attributes:
        asked: Every request it was asked about, in order.

        unmatched: Those of them that no entry matched.

    Raises:
        ConfigurationError: On a matcher that could never match.
    """

    def __init__(self, script: Script, *, name: str = "script", pure: bool = False) -> None:
        entries = script.items() if isinstance(script, Mapping) else script
        self._entries = [(_matching(matcher), answer) for matcher, answer in entries]
        self.name = name
        self.pure = pure
        self.asked: list[AccessRequest] = []
        self.unmatched: list[AccessRequest] = []

    def decide(self, request: AccessRequest) -> Any:  # noqa: ANN401  a script may answer anything
        """Answer as the script says, or raise what it says."""
        self.asked.append(request)
        for matches, answer in self._entries:
            if matches(request):
                return _given(answer, request)
        self.unmatched.append(request)
        return Decision(Effect.NOT_APPLICABLE)

    def __repr__(self) -> str:
        return f"<ScriptedPDP {self.name!r} of {len(self._entries)} entries>"


def permit_all() -> ScriptedPDP:
    """Return a decision point that permits everything."""
    return ScriptedPDP([(_everything, True)], name="permit_all")


def deny_all() -> ScriptedPDP:
    """Return a decision point that denies everything."""
    return ScriptedPDP([(_everything, False)], name="deny_all")


def _everything(_request: AccessRequest) -> bool:
    return True


def _given(answer: Any, request: AccessRequest) -> Any:  # noqa: ANN401  a script may answer anything
    if isinstance(answer, BaseException):
        raise answer
    if type(answer) is Effect:
        return Decision(answer)
    return answer(request) if callable(answer) else answer


def _matching(matcher: object) -> Callable[[AccessRequest], object]:
    if type(matcher) is AccessRequest:
        return matcher.__eq__
    if callable(matcher):
        return matcher
    parts = (matcher,) if type(matcher) is str else matcher
    if type(parts) is not tuple or not 1 <= len(parts) <= 3 or not all(type(part) is str for part in parts):  # noqa: PLR2004  action, type, id
        message = (
            f"`{type(matcher).__name__}` matches no request; give an action, a tuple of action, resource type and id, "
            "an `AccessRequest`, or a function of one"
        )
        raise ConfigurationError(message)
    return lambda request: (request.action.name, request.resource.type, request.resource.id)[: len(parts)] == parts
