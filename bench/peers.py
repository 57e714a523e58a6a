"""
One guarded call beside what a user would pick instead, with 10 and with 1000 policies.

Every peer guards the same call for the same caller, in the way that suits it best: whatever can be made ready is, and
the tool gates, which look policies up by the tool's name, have one tool for each. The others have one rule for each
pair of subject and document; the one that applies is in the middle. Each has to refuse somebody else, or it is no
guard. One that is not installed, or does not work, is told as missing. `--requirements` prints what to install.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Final

import attrs
from harness import Bench, at_least, main, missing, repeated
from scene import FLOOR, TEMPLATE, by_hand, expect, rename

from pep import Enforcer, Profile, Subject, acting_as
from pep.audit import MemorySink
from pep.policy import PolicySet, permit, resource, subject

SIZES: Final = (10, 1_000)
OURS: Final = "pep, warm, record in memory"

# Who acts, for peers that leave that to their caller.
ACTING: Final = ContextVar[str]("acting")
# What takes a document's id and a title, and raises or runs.
Guarded = Callable[[str, str], object]


def rules(size: int) -> Iterator[tuple[str, str]]:
    """Give the pairs of subject and document that may be edited; the middle one is called."""
    yield from ((f"user-{number}", f"document-{number}") for number in range(size))


def refuse() -> None:
    """Raise, where a peer only says no."""
    message = "denied"
    raise PermissionError(message)


def ours(size: int, sink: MemorySink, *, ttl: float | None = None) -> Guarded:
    """Guard with this library and the policies in its box."""
    edits = [
        permit(f"r{at}", action="edit", resource="document", when=(subject.id == who) & (resource.id == what))
        for at, (who, what) in enumerate(rules(size))
    ]
    enforcer = Enforcer(PolicySet(edits), audit=sink, profiles={"**": Profile(permit_ttl=ttl, deny_ttl=ttl)})
    return enforcer.guard("edit", resource=TEMPLATE)(rename)


def guardian_angel(size: int) -> Guarded:
    """Guard with guardian-angel: a rule for each tool, about who calls it; denied unless one matches."""
    from guardian_angel import DecisionStatus, GuardConfig, GuardContext, GuardianAngel, Rule  # noqa: PLC0415  a peer

    rules_of = [
        Rule(f"r{at}", f"edit-{what}", DecisionStatus.ALLOW, {"subject.id": who})
        for at, (who, what) in enumerate(rules(size))
    ]
    angel = GuardianAngel(rules=rules_of, config=GuardConfig(default_decision=DecisionStatus.DENY))

    def guarded(document_id: str, title: str) -> None:
        told = GuardContext(attributes={"subject.id": ACTING.get()}, tool=f"edit-{document_id}")
        angel.invoke(rename, document_id, title, guard_ctx=told)

    return guarded


def theaios(size: int) -> Guarded:
    """Guard with theaios-guardrails: a scope is the only thing it finds rules by, so the others are of another one."""
    from theaios.guardrails.engine import Engine  # noqa: PLC0415  a peer
    from theaios.guardrails.types import GuardEvent, PolicyConfig, RuleConfig  # noqa: PLC0415  a peer

    middle = size // 2
    config = PolicyConfig(
        version="1.0",
        rules=[
            RuleConfig(
                name=f"r{at}",
                scope="action" if at == middle else "input",
                when=f'user != "{who}"',
                then="deny",
            )
            for at, (who, _) in enumerate(rules(size))
        ],
    )
    engine = Engine(config)

    def guarded(document_id: str, title: str) -> None:
        told = {"action": "edit", "user": ACTING.get(), "document": document_id}
        if not engine.evaluate(GuardEvent(scope="action", agent="app", data=told)).is_allowed:
            refuse()
        rename(document_id, title)

    return guarded


def tool_call_guard(size: int) -> Guarded:
    """Guard with tool-call-guard: a tool for each document, its arguments checked for who calls it."""
    from tool_call_guard import Guard  # noqa: PLC0415  a peer

    tools = {f"edit-{what}": {"validate": partial(_is, who)} for who, what in rules(size)}
    gate = Guard({"tools": tools})

    def guarded(document_id: str, title: str) -> None:
        told = {"user": ACTING.get(), "title": title}
        if not gate.check(f"edit-{document_id}", told).allowed:
            refuse()
        rename(document_id, title)

    return guarded


def _is(who: str, told: dict[str, str]) -> bool:
    return told["user"] == who


def regorus(size: int) -> Guarded:
    """Guard with gordon-to-regorus: a compiled program with one rule for each pair."""
    from regorus import Program, Rvm  # noqa: PLC0415  a peer

    lines = "\n".join(
        f'allow if {{ input.s == "{who}"; input.a == "edit"; input.r == "{what}" }}' for who, what in rules(size)
    )
    module = f"package p\nimport rego.v1\ndefault allow := false\n{lines}\n"
    machine = Rvm()
    machine.load_program(Program.compile_from_modules("{}", [("p.rego", module)], ["data.p.allow"]))

    def guarded(document_id: str, title: str) -> None:
        machine.set_input_json(json.dumps({"s": ACTING.get(), "a": "edit", "r": document_id}))
        if machine.execute() != "true":
            refuse()
        rename(document_id, title)

    return guarded


def vakt(size: int) -> Guarded:
    """Guard with vakt: one policy for each pair, in memory."""
    from vakt import ALLOW_ACCESS, Guard, Inquiry, MemoryStorage, Policy, RulesChecker  # noqa: PLC0415  a peer
    from vakt.rules import Eq  # noqa: PLC0415  a peer

    storage = MemoryStorage()
    for at, (who, what) in enumerate(rules(size)):
        parts = {"subjects": [Eq(who)], "resources": [Eq(what)], "actions": [Eq("edit")]}
        storage.add(Policy(f"r{at}", effect=ALLOW_ACCESS, **parts))
    guard = Guard(storage, RulesChecker())

    def guarded(document_id: str, title: str) -> None:
        if not guard.is_allowed(Inquiry(subject=ACTING.get(), resource=document_id, action="edit")):
            refuse()
        rename(document_id, title)

    return guarded


def casbin(size: int, *, fast: bool = False) -> Guarded:
    """Guard with pycasbin; its fast enforcer finds policies by document and subject."""
    from casbin import Enforcer as Linear  # noqa: PLC0415  a peer
    from casbin import FastEnforcer  # noqa: PLC0415  a peer

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.conf"
        model.write_text(
            "[request_definition]\nr = sub, obj, act\n[policy_definition]\np = sub, obj, act\n"
            "[policy_effect]\ne = some(where (p.eft == allow))\n"
            "[matchers]\nm = r.sub == p.sub && r.obj == p.obj && r.act == p.act\n",
            encoding="utf-8",
        )
        enforcer = FastEnforcer(str(model), cache_key_order=[1, 0]) if fast else Linear(str(model))
    enforcer.add_policies([[who, what, "edit"] for who, what in rules(size)])

    def guarded(document_id: str, title: str) -> None:
        if not enforcer.enforce(ACTING.get(), document_id, "edit"):
            refuse()
        rename(document_id, title)

    return guarded


def cedar(size: int) -> Guarded:
    """Guard with cedarpy; policies and entities are parsed once."""
    from cedarpy import Entities, PolicySet as Parsed, is_authorized  # noqa: I001, PLC0415  a peer

    text = "\n".join(
        f'permit(principal == User::"{who}", action == Action::"edit", resource == Document::"{what}");'
        for who, what in rules(size)
    )
    policies, entities = Parsed.from_str(text), Entities.from_json_str("[]")

    def guarded(document_id: str, title: str) -> None:
        asked = {
            "principal": f'User::"{ACTING.get()}"',
            "action": 'Action::"edit"',
            "resource": f'Document::"{document_id}"',
            "context": {},
        }
        if not is_authorized(asked, policies, entities).allowed:
            refuse()
        rename(document_id, title)

    return guarded


def oso(size: int) -> Guarded:
    """Guard with oso: one fact for each pair."""
    from oso import Oso  # noqa: PLC0415  a peer

    engine = Oso()
    engine.load_str("\n".join(f'allow("{who}", "edit", "{what}");' for who, what in rules(size)))

    def guarded(document_id: str, title: str) -> None:
        if not engine.is_allowed(ACTING.get(), "edit", document_id):
            refuse()
        rename(document_id, title)

    return guarded


@attrs.frozen
class Peer:
    """
    What a user would pick instead.

    Attributes:
        requirement: What to install.

        make: Guards the call, with so many policies.

        record: Whether it keeps one of each call.
    """

    requirement: str
    make: Callable[[int], Guarded]
    record: str = "no record"


PEERS: Final = {
    "guardian-angel": Peer("guardian-angel>=0.4.5", guardian_angel),
    "theaios-guardrails": Peer("theaios-guardrails>=0.1.4", theaios),
    "tool-call-guard": Peer("tool-call-guard>=0.2", tool_call_guard, "record in memory"),
    "compiled Rego": Peer("gordon-to-regorus", regorus),
    "vakt": Peer("vakt>=1.6", vakt),
    "pycasbin FastEnforcer": Peer("pycasbin>=1.17", partial(casbin, fast=True), "no record; not thread-safe"),
    "pycasbin": Peer("pycasbin>=1.17", casbin),
    "cedarpy": Peer("cedarpy>=4.8.7", cedar),
    "oso": Peer("oso>=0.27", oso),
}

#: What other topics compare with where it is installed.
BESIDE: Final = ("structlog>=24",)


def fill(bench: Bench) -> None:
    """Add every row."""
    bench.floor = FLOOR
    calls, floor = bench.size(3, 200), by_hand()
    bench.time(FLOOR, repeated(lambda: floor.rename("42", "new")), calls * 5, settle=floor.settle)
    for size in SIZES:
        for name, ttl, count in ((OURS, None, calls * 5), ("pep, cold, record in memory", 0, bench.size(3, 50))):
            sink = MemorySink()
            guarded = ours(size, sink, ttl=ttl)
            called(guarded, size)
            sink.records.clear()
            bench.time(f"{name}, {size}", acting(guarded, size), count, settle=recorded(sink))
    for name, peer in PEERS.items():
        for size in SIZES:
            beside(bench, name, peer, size)


def recorded(sink: MemorySink) -> Callable[[int], None]:
    """Check that each call left a record, and forget them."""

    def settle(count: int) -> None:
        found = len(sink.records)
        sink.records.clear()
        expect("records in memory", found, count)

    return settle


def beside(bench: Bench, name: str, peer: Peer, size: int) -> None:
    """Add one peer; or why it is missing."""
    title = f"{name}, {size}"
    try:
        guarded = peer.make(size)
        called(guarded, size)
    except ImportError as error:
        bench.add(missing(title, f"missing: {error}"))
    except Exception as error:  # noqa: BLE001  whatever keeps it from working keeps it from being measured
        bench.add(missing(title, f"does not work here: {type(error).__name__}: {error}"))
    else:
        told = {"over": f"{OURS}, {size}", "bound": at_least(1), "note": peer.record}
        bench.time(title, acting(guarded, size), bench.size(2, 20 if size > SIZES[0] else 100), **told)


def called(guarded: Guarded, size: int) -> None:
    """Check that it permits who may, and nobody else."""
    middle, refused = size // 2, False
    acting(guarded, size)(1)
    try:
        acting(guarded, size, who="mallory")(1)
    except Exception:  # noqa: BLE001  each peer has its own
        refused = True
    expect(f"somebody else refused, document {middle}", refused, wanted=True)


def acting(guarded: Guarded, size: int, who: str | None = None) -> Callable[[int], float]:
    """Time the call of the middle document by its editor, or by somebody else."""
    editor, document_id = list(rules(size))[size // 2]
    timed = repeated(lambda: guarded(document_id, "new"))
    acts = Subject("user", who or editor)

    def seconds(count: int) -> float:
        token = ACTING.set(acts.id)
        try:
            with acting_as(acts):
                return timed(count)
        finally:
            ACTING.reset(token)

    return seconds


if __name__ == "__main__":
    if "--requirements" in sys.argv[1:]:
        print("\n".join(dict.fromkeys([*(peer.requirement for peer in PEERS.values()), *BESIDE])))
    else:
        main("peers", fill, rounds=11, quick=1)
