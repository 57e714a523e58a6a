"""Entry points for fault injection: every way there is into the enforcement plan, in both its forms."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import Any, Final

from pep import Resource
from tests.property.rigs import Rig
from tests.property.setups import SETUPS

DOCUMENTS: Final = ("1", "2", "3")


def guard(rig: Rig) -> tuple[Any, Any]:
    @rig.enforcer.guard("edit", resource=rig.resource)
    def edit(document_id: str, title: str) -> str:
        rig.note("ran")
        return title

    @rig.enforcer.guard("edit", resource=rig.resource)
    async def aedit(document_id: str, title: str) -> str:
        await asyncio.sleep(0)
        rig.note("ran")
        return title

    return lambda: edit("1", "new"), lambda: aedit("1", "new")


def stacked(rig: Rig) -> tuple[Any, Any]:
    @rig.enforcer.guard("document:edit", resource=rig.resource, on_denied=lambda _denied: "instead")
    @rig.enforcer.guard("audit:edit", resource=rig.resource)
    def edit(document_id: str) -> str:
        rig.note("ran")
        return document_id

    @rig.enforcer.guard("document:edit", resource=rig.resource, on_denied=lambda _denied: "instead")
    @rig.enforcer.guard("audit:edit", resource=rig.resource)
    async def aedit(document_id: str) -> str:
        rig.note("ran")
        return document_id

    return lambda: edit("1"), lambda: aedit("1")


def nested(rig: Rig) -> tuple[Any, Any]:
    (inner, ainner), guarding = guard(rig), rig.enforcer.guard

    @guarding("read", resource=rig.resource)
    def outer(document_id: str) -> Any:
        rig.note("ran")
        return inner()

    @guarding("read", resource=rig.resource)
    async def aouter(document_id: str) -> Any:
        rig.note("ran")
        return await ainner()

    return lambda: outer("1"), lambda: aouter("1")


def construction(rig: Rig) -> tuple[Any, Any]:
    @rig.enforcer.guard("create", resource=rig.resource)
    class Document:
        def __init__(self, document_id: str) -> None:
            rig.note("ran")

    async def made() -> str:
        return type(Document("1")).__name__

    return lambda: type(Document("1")).__name__, made


def generator(rig: Rig) -> tuple[Any, Any]:
    @rig.enforcer.guard("edit", resource=rig.resource)
    def lines(document_id: str) -> Iterator[str]:
        rig.note("ran")
        yield "one"
        rig.stage.clock.advance(0.6)
        yield "two"

    @rig.enforcer.guard("edit", resource=rig.resource)
    async def alines(document_id: str) -> Any:
        rig.note("ran")
        yield "one"
        rig.stage.clock.advance(0.6)
        yield "two"

    async def listed() -> list[str]:
        return [line async for line in alines("1")]

    return lambda: list(lines("1")), listed


def dropped(rig: Rig) -> tuple[Any, Any]:
    @rig.enforcer.guard("edit", resource=rig.resource)
    def lines(document_id: str) -> Iterator[str]:
        rig.note("ran")
        yield "one"
        yield "two"

    @rig.enforcer.guard("edit", resource=rig.resource)
    async def alines(document_id: str) -> Any:
        rig.note("ran")
        yield "one"
        yield "two"

    def first() -> str:
        steps = lines("1")
        line = next(steps)
        steps.close()
        return line

    async def afirst() -> str:
        steps = alines("1")
        line = await steps.__anext__()
        await steps.aclose()
        return line

    return first, afirst


def guard_result(rig: Rig) -> tuple[Any, Any]:
    def shown(result: str) -> Any:
        return rig.resource(result)

    @rig.enforcer.guard_result("read", resource=shown, side_effects=False)
    def read(document_id: str) -> str:
        return document_id

    @rig.enforcer.guard_result("read", resource=shown, side_effects=False)
    async def aread(document_id: str) -> str:
        return document_id

    def delivered() -> str:
        found = read("1")
        rig.note("delivered")
        return found

    async def adelivered() -> str:
        found = await aread("1")
        rig.note("delivered")
        return found

    return delivered, adelivered


def _released(rig: Rig, found: Iterable[str]) -> list[str]:
    kept = list(found)
    rig.note("released", [("document", name) for name in kept])
    return kept


def filter_result(rig: Rig) -> tuple[Any, Any]:
    def shown(result: str) -> Any:
        return rig.resource(result)

    @rig.enforcer.filter_result("read", resource=shown, side_effects=False, batch=2)
    def everything() -> list[str]:
        return list(DOCUMENTS)

    @rig.enforcer.filter_result("read", resource=shown, side_effects=False, batch=2)
    async def aeverything() -> list[str]:
        return list(DOCUMENTS)

    async def kept() -> list[str]:
        return _released(rig, await aeverything())

    return lambda: _released(rig, everything()), kept


def filter_stream(rig: Rig) -> tuple[Any, Any]:
    def shown(result: str) -> Any:
        return rig.resource(result)

    @rig.enforcer.filter_result("read", resource=shown, side_effects=False, batch=2)
    def everything() -> Iterator[str]:
        yield from DOCUMENTS

    @rig.enforcer.filter_result("read", resource=shown, side_effects=False, batch=2)
    async def aeverything() -> Any:
        for name in DOCUMENTS:
            yield name

    def kept() -> list[str]:
        return [item for one in everything() for item in _released(rig, [one])]

    async def akept() -> list[str]:
        return [item async for one in aeverything() for item in _released(rig, [one])]

    return kept, akept


def enforcing(rig: Rig) -> tuple[Any, Any]:
    enforcer = rig.enforcer

    def block() -> Any:
        with enforcer.enforcing("edit", rig.resource("1"), arguments={"title": "new"}) as grant:
            grant.use()
            rig.note("ran")
            return grant.release(grant.arguments["title"])

    async def ablock() -> Any:
        async with enforcer.enforcing("edit", rig.resource("1"), arguments={"title": "new"}) as grant:
            grant.use()
            rig.note("ran")
            return await grant.arelease(grant.arguments["title"])

    return block, ablock


def enforce(rig: Rig) -> tuple[Any, Any]:
    enforcer = rig.enforcer

    def plain() -> Any:
        grant = enforcer.enforce("edit", rig.resource("1"))
        grant.use()
        rig.note("ran")
        return grant.verdict.outcome

    async def aplain() -> Any:
        grant = await enforcer.aenforce("edit", rig.resource("1"))
        grant.use()
        rig.note("ran")
        return grant.verdict.outcome

    return plain, aplain


def _told(verdict: Any) -> tuple[Any, ...]:
    return verdict.outcome, verdict.fault, verdict.ran, verdict.cached


def check(rig: Rig) -> tuple[Any, Any]:
    async def asked() -> Any:
        return _told(await rig.enforcer.acheck("edit", rig.resource("1")))

    return lambda: _told(rig.enforcer.check("edit", rig.resource("1"))), asked


def check_many(rig: Rig) -> tuple[Any, Any]:
    questions = [("edit", Resource("document", name)) for name in DOCUMENTS]

    async def asked() -> Any:
        return [_told(verdict) for verdict in await rig.enforcer.acheck_many(questions)]

    return lambda: [_told(verdict) for verdict in rig.enforcer.check_many(questions)], asked


def filtering(rig: Rig) -> tuple[Any, Any]:
    items = [Resource("document", name) for name in DOCUMENTS]

    def kept() -> list[str]:
        return _released(rig, [str(item.id) for item in rig.enforcer.filter("edit", items)])

    async def akept() -> list[str]:
        return _released(rig, [str(item.id) for item in await rig.enforcer.afilter("edit", items)])

    return kept, akept


ENTRIES: Final = MappingProxyType(
    {
        "guard": guard,
        "stacked": stacked,
        "nested": nested,
        "construction": construction,
        "generator": generator,
        "dropped generator": dropped,
        "guard_result": guard_result,
        "filter_result": filter_result,
        "filter_result, stream": filter_stream,
        "enforcing": enforcing,
        "enforce": enforce,
        "check": check,
        "check_many": check_many,
        "filter": filtering,
    }
)

#: Entry points that share the plan of another, and meet a part of the setups.
ALIKE: Final = frozenset(
    {"stacked", "nested", "construction", "dropped generator", "filter_result, stream", "check_many"}
)
PART: Final = SETUPS[::3]

CASES: Final = [
    (name, setup)
    for name in ENTRIES
    for setup in (PART if name in ALIKE else SETUPS)
    if setup.entries is None or name in setup.entries
]
