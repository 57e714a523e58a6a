"""
Lets a scripted model work for a customer of the bank, and shows what came of it, and what the audit file says.

Run it by ``python examples/agent/demo.py [FOLDER]``; the audit file goes into that folder.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from loop import Loop, Pending, StoppedError, ToolMessage
from model import ScriptedModel, ToolCall
from tools import Bank, enforcer, start, tools_of, working_for

from pep import Subject
from pep.approvals import ApprovalRefused, MemoryStore
from pep.approvals.desk import Desk
from pep.audit import FileSink
from pep.obligations.budget import Run, run
from pep.testing import FakeClock

BUILD = Path(__file__).resolve().parents[2] / "build" / "demo"

ALICE, ASSISTANT = Subject("customer", "alice"), Subject("agent", "assistant")
# Who is behind a session: yours comes from what people sign in with.
SESSIONS = {"alice's": ALICE, "olga's": Subject("employee", "olga", {"roles": ["officer"]})}


def call(name: str, **arguments: Any) -> ToolCall:  # noqa: ANN401  whatever the model makes up
    """Make a call of a tool."""
    return ToolCall(name, name, arguments)


class Demonstration:
    """What the scenes share: the bank, and the desk where approvals are given."""

    def __init__(self, audit: FileSink) -> None:
        store, self.bank = MemoryStore(), Bank()
        start(store, audit, FakeClock())
        self.desk = Desk(store, authenticate=SESSIONS.get, audit=audit)

    def loop(self, *script: ToolCall | str) -> Loop:
        """Return a loop over a scripted model."""
        return Loop(ScriptedModel(script), tools_of(self.bank))

    def act(self, loop: Loop, said: str | Pending, allowance: Run | None = None) -> str | Pending | None:
        """Let the assistant work for Alice; None where it was stopped."""
        told, answer = len(loop.messages), None
        with working_for(ALICE, ASSISTANT), allowance or run() as spent:
            try:
                answer = loop.resume(said) if isinstance(said, Pending) else loop.run(said)
            except StoppedError:
                why = "it was killed" if spent.killed else f"its {spent.spent('tool calls')} calls are spent"
                loop.messages.append(f"the run is stopped: {why}")
        show(loop.messages[told:], said)
        return answer

    def answer(self, pending: Pending, session: str, *, approve: bool = True) -> None:
        """Let somebody answer at the desk."""
        answer = self.desk.approve if approve else self.desk.reject
        try:
            print(f"  {session} session: {answer(pending.approval, session).status.value}")
        except ApprovalRefused as refused:
            print(f"  {session} session: refused, {refused.reason.value}")


def show(messages: Sequence[object], said: str | Pending) -> None:
    """Print the calls, and what the model was told about them."""
    made = said.call if isinstance(said, Pending) else None
    for message in messages:
        if isinstance(message, ToolCall):
            made = message
        elif isinstance(message, ToolMessage) and made is not None:
            arguments = ", ".join(str(value) for value in made.arguments.values())
            print(f"  {f'{made.name}({arguments})':27}{message.status}: {message.content}")
        elif message is not said:
            print(f"  {message}")


def everyday(demo: Demonstration) -> None:
    """Read, search, and try what is not for agents."""
    print("\nReads are redacted, searches limited; what is unknown or not for agents is denied")
    search = call("search_notes", text="rent")
    demo.act(demo.loop(call("read_account", account="a-1"), search, search, search), "what is my rent?")
    demo.act(demo.loop(call("launch_rocket"), call("close_account", account="a-1")), "tidy up")


def transfers(demo: Demonstration) -> None:
    """Move money: a bit, much, and what somebody rejects."""
    print("\nA transfer is clamped")
    demo.act(demo.loop(transfer(800)), "pay the rent")
    print("\nA large one is confirmed by somebody else: for these arguments, once")
    loop = demo.loop(transfer(5000))
    if isinstance(pending := demo.act(loop, "buy the car"), Pending):
        demo.answer(pending, "alice's")
        demo.answer(pending, "olga's")
        for retried in (pending._replace(call=transfer(8000)), pending, pending):
            demo.act(loop, retried)
    print("\nWhat was rejected is not asked again")
    loop = demo.loop(transfer(7000), transfer(7000))
    if isinstance(pending := demo.act(loop, "buy the boat"), Pending):
        demo.answer(pending, "olga's", approve=False)
        demo.act(loop, pending)


def runaways(demo: Demonstration) -> None:
    """Stop a model that calls for ever: by its budget, and by hand."""
    print("\nA model that goes on for ever is stopped: by its budget, or by hand")
    again = call("read_account", account="a-1")
    demo.act(demo.loop(*[again] * 100), "look again and again")
    allowance = run()

    def script() -> Iterator[ToolCall]:
        yield again
        allowance.kill()  # an operator does this, from any thread
        yield again

    demo.act(Loop(ScriptedModel(script()), tools_of(demo.bank)), "and again", allowance)


def transfer(amount: int) -> ToolCall:
    """Make a call of the tool that moves money."""
    return call("transfer", account="a-1", to="b-1", amount=amount)


def discharged(duty: dict[str, str]) -> str:
    """Tell what became of an obligation; what it changed is told by digest, before and after."""
    changed = f" {duty['before'][:8]} -> {duty['after'][:8]}" if "before" in duty else ""
    return f"{duty['type']} {duty['status']}{changed}"


def audited(record: dict[str, Any]) -> str:
    """Tell a record in a line."""
    what = f"{record.get('action', '')} {record.get('resource', {}).get('id', '')}"
    came = next((record[name] for name in ("outcome", "status", "event") if name in record), "")
    duties = ", ".join(discharged(duty) for duty in record.get("obligations", ()))
    return f"{record['kind']:14} {what:18} {came:22} {duties}".rstrip()


def print_audit(path: Path) -> None:
    """Print what the audit file says: each kind of line once, and how often it is there."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    lines = Counter(audited(record) for record in records if record["kind"] not in {"open", "close"})
    print(f"\nThe audit file: {path}\n")
    for line, count in lines.items():
        print(f"  {count:2} {line}")


def main(folder: Path) -> None:
    """Run the demonstration; its audit file starts anew."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "agent-audit.jsonl"
    path.unlink(missing_ok=True)
    demo = Demonstration(FileSink(path))
    everyday(demo)
    transfers(demo)
    runaways(demo)
    enforcer.close()
    print_audit(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else BUILD)
