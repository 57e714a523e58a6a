"""Which request it is that was decided."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
from collections.abc import Callable
from typing import Any, Final

import pytest

from pep import (
    ANONYMOUS,
    AccessRequest,
    Action,
    Enforcer,
    Fault,
    Profile,
    Resource,
    Subject,
    acting_as,
)
from pep.audit import MemorySink
from pep.cache import DecisionCache
from pep.errors import (
    ExtractionError,
)
from pep.pdp import FunctionPDP
from pep.policy import PolicySet, permit, resource, subject
from pep.testing import FakeHandler, FakeObserver
from tests.footguns.traps import (
    BY_ID,
    DOC,
    Trap,
    _for,
    denied,
    each,
    read,
)
from tests.guard.rigs import ALICE, MALLORY, Rig, wait


def bound_arguments(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Positional, keyword, default, repeated: another resource is checked than the one that is used."""
    rig = Rig()
    guarded = rig.enforcer.guard("read", resource=BY_ID)(fn)
    with acting_as(ALICE):
        used = guarded(*args, **kwargs)
    assert [request.resource.id for request in rig.asked] == [used]


def positional(document_id: str, /, *rest: str, **kwargs: str) -> str:
    return document_id


def keyword(*, document_id: str = "default", **kwargs: str) -> str:
    return document_id


def either(folder: str = "f", document_id: str = "default", *rest: str) -> str:
    return document_id


def mutated(pinned: bool, change: Callable[[dict[str, Any]], Any], fault: Fault) -> None:
    """Arguments changed between the check and the use: what was paid was not what was checked."""
    order = {"owner": "alice", "amount": 1}
    ran: list[Any] = []

    async def decide(_request: object) -> bool:
        await asyncio.sleep(0)
        change(order)
        return True

    sink = MemorySink()
    enforcer = Enforcer(decide, audit=sink, profiles={"order:pay": Profile(pin_arguments=pinned)})

    @enforcer.guard("pay", resource=lambda order: Resource("order", "1", {"owner": order["owner"]}))
    async def pay(order: dict[str, Any]) -> None:
        ran.append(order)

    with acting_as(ALICE), denied(fault):
        wait(pay(order))
    assert ran == []
    assert [record.get("status") for record in sink.records] == [None, "withheld"]


def checked_is_frozen() -> None:
    """What was checked stays as it was checked."""
    owners = ["alice"]
    made = Resource("order", "1", {"owners": owners})
    key = made.key
    owners.append("mallory")
    assert (made.properties["owners"], made.key) == (("alice",), key)
    with pytest.raises((TypeError, AttributeError)):
        made.properties["owners"] = ()  # type: ignore[index]


def read_once(value: Callable[[], Any]) -> None:
    """One-shot iterators consumed by the extractor: the code finds nothing, or the grant is vacuous."""
    rig = Rig()

    @rig.enforcer.guard("read", resource=lambda items: [Resource("item", str(one)) for one in items])
    def use(items: Any) -> None:
        rig.ran.append(items)

    with acting_as(ALICE), denied(Fault.EXTRACTION):
        use(value())
    assert rig.ran == []


def resources_read_once(found: Callable[[], Any]) -> None:
    """An extractor whose resources can be read once: empty at the second look."""
    rig = Rig()
    guarded = rig.enforcer.guard("read", resource=lambda: found())(lambda: rig.ran.append("ran"))
    with acting_as(ALICE), denied(Fault.EXTRACTION):
        guarded()
    assert rig.ran == []


def configured_from_generators() -> None:
    """Configuration given as a generator: empty at its second use."""
    handler = FakeHandler("note")
    rig = Rig(obligations=(one for one in [handler]), telemetry=(one for one in [FakeObserver()]))
    rig.oblige("note")
    with acting_as(ALICE):
        for _ in range(3):
            rig.enforcer.enforce("read", DOC)
    assert len(handler.discharged) == 3


def cache_keys(one: AccessRequest, other: AccessRequest) -> None:
    """Two requests under one key: the second gets the permit of the first."""
    rig = Rig(pure=True)
    for value in (one, other, one, other):
        rig.enforcer.check(value)
    keys = [request.key for request in rig.asked]
    assert len(keys) == len(set(keys))
    assert {one.key, other.key} <= set(keys)


def about(value: object) -> AccessRequest:
    return AccessRequest(ALICE, Action("read"), Resource("document", "42", {"value": value}))


def not_cached(value: Any) -> None:
    """A value that equals nothing, itself included: no key."""
    rig = Rig(pure=True)
    with contextlib.suppress(ExtractionError):
        for _ in range(2):
            rig.enforcer.check(about(value))
        assert len(rig.asked) == 2


class Sly(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("alice")


class SlyInt(int):
    def __str__(self) -> str:
        return "42"


def sly_subclasses(make: Callable[[], Any]) -> None:
    """Subclasses of `str` and `int` that lie about what they equal: one passes as another."""
    with pytest.raises(ExtractionError):
        make()


def sly_arguments(value: Any) -> None:
    """An argument that lies about what it is becomes another's id."""
    rig = Rig()
    with acting_as(ALICE), denied(Fault.EXTRACTION):
        rig.enforcer.guard("read", resource=BY_ID)(read)(value)
    assert rig.asked == []


def look_alikes(one: str, other: str) -> None:
    """Two names that fold, normalise or trim to one: two identities become one."""
    assert one != other
    assert Subject("user", one) != Subject("user", other)
    owners = permit("owners", action="read", when=resource.owner == subject.id)
    enforcer = Enforcer(PolicySet([owners]), audit=MemorySink())
    for who, allowed in ((one, True), (other, False), (one, True)):
        verdict = enforcer.check("read", Resource("document", "42", {"owner": one}), subject=Subject("user", who))
        assert verdict.allowed is allowed
    cache_keys(_for(one), _for(other))


def forgotten_in_the_key(one: AccessRequest, other: AccessRequest) -> None:
    """A part of the request that is missing from the key: tenants cross."""
    cache_keys(one, other)


def forgotten_revision() -> None:
    """Policies that changed, served from the cache of the old ones."""
    rig = Rig(pure=True)
    rig.enforcer.check(_for("alice"))
    rig.answer = False
    rig.enforcer.invalidate_all()
    assert rig.enforcer.check(_for("alice")).allowed is False


def forgotten_decision_point() -> None:
    """One cache under two decision points."""
    cache = DecisionCache()
    for name, answer in (("one", True), ("two", False)):
        pdp = FunctionPDP(lambda _request, answer=answer: answer, name=name, pure=True)
        verdict = Enforcer(pdp, audit=MemorySink(), cache=cache).check(_for("alice"))
        assert verdict.allowed is answer


def forgotten_obligations() -> None:
    """A cached permit without the obligations it came with."""
    handler = FakeHandler("note")
    rig = Rig(pure=True, obligations=[handler])
    rig.oblige("note")
    with acting_as(ALICE):
        for _ in range(3):
            rig.enforcer.enforce("read", DOC)
    assert (len(rig.asked), len(handler.discharged)) == (1, 3)


def _plain(names: str, **properties: Any) -> Resource:
    return Resource(*names.split(":"), properties)


def _request(**changes: Any) -> AccessRequest:
    parts: dict[str, Any] = {"subject": ALICE, "action": Action("read"), "resource": DOC}
    return AccessRequest(**{**parts, **changes})


_LOOK_ALIKES: Final = [
    ("café", "cafe\u0301"),
    ("k", "\u212a"),
    ("K", "\u212a"),
    ("i", "\u0131"),
    ("I", "\u0130"),
    ("admin", "\uff41dmin"),
    ("admin", "Admin"),
    ("ß", "ss"),
    ("admin", "admin "),
    ("admin", "admin\u200b"),
    ("admin", "\u0430dmin"),
    ("1", "\u0663"),
]


TRAPS: Final[dict[int, list[Trap]]] = {
    19: [
        Trap(
            bound_arguments,
            {
                "positional": (read, ("1",), {}),
                "keyword": (read, (), {"document_id": "1"}),
                "repeated": (positional, ("1",), {"document_id": "2"}),
                "rest": (positional, ("1", "2", "3"), {}),
                "keyword only": (keyword, (), {"document_id": "1", "kwargs": "2"}),
                "default": (keyword, (), {}),
                "second": (either, ("1", "2", "3"), {}),
                "second default": (either, ("1",), {}),
                "second keyword": (either, ("1",), {"document_id": "2"}),
                "through partial": (functools.partial(either, "x"), ("1",), {}),
                "through partial keyword": (functools.partial(either, document_id="1"), (), {}),
            },
        )
    ],
    20: [
        Trap(
            mutated,
            {
                "resource": (False, lambda order: order.update(owner="mallory"), Fault.EXTRACTION),
                "pinned": (True, lambda order: order.update(amount=1_000_000), Fault.EXTRACTION),
            },
        ),
        Trap(checked_is_frozen, {"properties": ()}),
    ],
    21: [
        Trap(
            read_once,
            {
                "generator": (lambda: (one for one in "ab"),),
                "iterator": (lambda: iter("ab"),),
                "map": (lambda: map(str, "ab"),),
                "zip": (lambda: zip("ab", "cd", strict=True),),
            },
        ),
        Trap(
            resources_read_once,
            {
                "generator": (lambda: (DOC for _ in range(2)),),
                "iterator": (lambda: iter([DOC]),),
                "map": (lambda: map(copy.copy, [DOC]),),
            },
        ),
        Trap(configured_from_generators, {"parts": ()}),
    ],
    24: [
        Trap(
            cache_keys,
            {
                **{
                    f"{one!r} {other!r}": (about(one), about(other))
                    for one, other in (
                        (1, True),
                        (0, False),
                        (1, 1.0),
                        (1, "1"),
                        (None, "None"),
                        (True, "True"),
                        ("a", ["a"]),
                        ([], {}),
                        ([1, 2], [12]),
                        (["ab", "c"], ["a", "bc"]),
                        ({"a": "b"}, ["a", "b"]),
                        (0.0, -0.0),
                        ("", None),
                        ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
                        ("\x00", ""),
                        (10**15, float(10**15)),
                    )
                },
                "split name": (_request(resource=_plain("ab:c")), _request(resource=_plain("a:bc"))),
                "new": (_request(resource=Resource.new("document")), _request(resource=Resource("document", "None"))),
            },
        ),
        Trap(not_cached, each(float("nan"), float("inf"))),
    ],
    25: [
        Trap(
            sly_subclasses,
            {
                "subject": (lambda: Subject("user", Sly("mallory")),),
                "type": (lambda: Subject(Sly("user"), "alice"),),
                "resource": (lambda: Resource("document", Sly("1")),),
                "action": (lambda: Action(Sly("read")),),
                "property": (lambda: Resource("document", "1", {"owner": Sly("mallory")}),),
                "property name": (lambda: Resource("document", "1", {Sly("owner"): "alice"}),),
                "number": (lambda: Resource("document", "1", {"size": SlyInt(1)}),),
                "tenant": (lambda: acting_as(ALICE, tenant=Sly("a")),),
            },
        ),
        Trap(sly_arguments, each(Sly("1"), SlyInt(1), True, 1.0, b"1", None, ["1"])),
    ],
    26: [Trap(look_alikes, {f"{one!a} {other!a}": (one, other) for one, other in _LOOK_ALIKES})],
    27: [
        Trap(
            forgotten_in_the_key,
            {
                "tenant": (_request(tenant="a"), _request(tenant="b")),
                "no tenant": (_request(), _request(tenant="a")),
                "context": (_request(context={"ip": "1"}), _request(context={"ip": "2"})),
                "actors": (_request(), _request(actors=(MALLORY,))),
                "order of actors": (_request(actors=(ALICE, MALLORY)), _request(actors=(MALLORY, ALICE))),
                "subject": (_request(), _request(subject=Subject("user", "alice", {"roles": ["admin"]}))),
                "action": (_request(), _request(action=Action("read", {"way": "fast"}))),
                "anonymous": (_request(), _request(subject=ANONYMOUS)),
            },
        ),
        Trap(forgotten_revision, {"revision": ()}),
        Trap(forgotten_decision_point, {"decision point": ()}),
        Trap(forgotten_obligations, {"obligations": ()}),
    ],
}
