"""
The loop: asks the model, runs the tools it calls, and tells it what came of them.

Whoever starts it says who acts, and how much: ``with working_for(customer, agent), run(): loop.run(...)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from math import ceil
from typing import Final, NamedTuple

from model import ScriptedModel, ToolCall
from tools import Tool, enforcer

from pep import AccessDenied, Resource, approval
from pep.errors import ConfirmationRequired, DecisionUnavailable, RateLimited
from pep.verdict import Status


class ToolMessage(NamedTuple):
    """What the model is told about a call."""

    call: str
    status: str
    content: str


class Pending(NamedTuple):
    """A call that somebody has to approve. Keep it until then: the call is the runtime's, not the model's to repeat."""

    call: ToolCall
    approval: str


class StoppedError(Exception):
    """The run has spent its budget, or was killed."""


class Loop:
    """
    A tool-calling loop.

    Args:
        model: What decides which tool to call.

        tools: The tools by name.
    """

    def __init__(self, model: ScriptedModel, tools: Mapping[str, Tool]) -> None:
        self.model, self.tools = model, tools
        self.messages: list[object] = []

    def run(self, said: object) -> str | Pending:
        """
        Go on until the model has something to say, or somebody has to approve a call.

        Raises:
            StoppedError: When the run has spent its budget, or was killed.
        """
        self.messages.append(said)
        # A tool that may not be called is not shown.
        shown = [tool.name for tool in enforcer.filter("see", self.tools.values())]
        while isinstance(reply := self.model.reply(self.messages, shown), ToolCall):
            self.messages.append(reply)
            try:
                self.messages.append(self.answer(reply))
            except ConfirmationRequired as required:
                if required.approval is None:
                    raise
                self.messages.append(ToolMessage(reply.id, "needs_confirmation", "somebody is asked; wait"))
                return Pending(reply, required.approval)
        return reply

    def resume(self, pending: Pending) -> str | Pending:
        """Make a call again that somebody has approved since; everything is decided again."""
        try:
            told = self.answer(pending.call, pending.approval)
        except ConfirmationRequired:
            return pending
        return self.run(told)

    def answer(self, call: ToolCall, approved: str | None = None) -> ToolMessage:
        """Run a tool, and say what came of it."""
        try:
            # Asked before it is looked up: a tool nobody knows is denied, and on record, like any other.
            enforcer.enforce("use", Resource("tool", call.name)).use()
            with approval(approved) if approved else nullcontext():
                result = self.tools[call.name].run(**call.arguments)
        except ConfirmationRequired:
            raise
        except AccessDenied as denied:
            duties = denied.verdict.obligations
            if any(duty.obligation.type == "budget" and duty.status is Status.FAILED for duty in duties):
                raise StoppedError from denied
            return ToolMessage(call.id, *_told(denied))
        except Exception as error:  # noqa: BLE001  a tool that fails is the model's to deal with
            return ToolMessage(call.id, "failed", type(error).__name__)
        return ToolMessage(call.id, "done", str(result))


_WITHHELD: Final = ("withheld", "it was done, but you may not see the result; do not call it again")
_UNAVAILABLE: Final = ("unavailable", "nobody could say whether you may; that is no refusal, try later")
_DENIED: Final = ("denied", "you may not do this; do not try again")


def _told(denied: AccessDenied) -> tuple[str, str]:
    """Tell the model what to do about a denial; why it was denied stands in the audit log, and is not its business."""
    if denied.ran:
        return _WITHHELD
    match denied:
        case RateLimited():
            return "rate_limited", f"too often; try again in {ceil(denied.retry_after)} s"
        case DecisionUnavailable():
            return _UNAVAILABLE
        case _:
            return _DENIED
