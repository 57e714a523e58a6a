"""The model: a script in place of a language model, so that nothing here needs a network. It knows of no policies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple


class ToolCall(NamedTuple):
    """A call of a tool that the model asks for; everything in it is a claim."""

    id: str
    name: str
    arguments: Mapping[str, Any]


class ScriptedModel:
    """
    Says what a script tells it to: calls of tools, and texts.

    Args:
        script: What it says, turn by turn; a generator may look at what happened meanwhile.
    """

    def __init__(self, script: Iterable[ToolCall | str]) -> None:
        self._script = iter(script)

    def reply(self, messages: Sequence[object], tools: Sequence[str]) -> ToolCall | str:  # noqa: ARG002  a real model reads them
        """Return the next thing it says; the end of the script is the end of its turn."""
        return next(self._script, "done")
