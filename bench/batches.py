"""
What many questions at once cost, an item: `filter` and `check_many`, asked cold of the policies in the box.

Items are resources that are ready, or a user's objects that the registry turns into resources. The floor is the same
filter by hand: the owner of each item compared. A third of the items is somebody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
from harness import Bench, at_most, main, whole
from scene import ALICE, FLOOR, expect

from pep import Decision, Effect, Enforcer, Resource, acting_as
from pep.audit import MemorySink
from pep.model import AccessRequest
from pep.policy import PolicySet, permit, resource, subject

#: What one item of a cold filter may take.
MICROSECONDS: Final = {"bound": at_most(5), "absolute": True}
#: What one of many checks may take, which has a verdict and a record of its own.
CHECKED: Final = {"bound": at_most(12), "absolute": True}


@attrs.frozen
class Document:
    """An object of the user's."""

    id: str
    owner: str


def to_resource(document: Document) -> Resource:
    """Turn it into a resource, as an application registers."""
    return Resource("document", document.id, {"owner": document.owner})


def fill(bench: Bench) -> None:
    """Add every row."""
    bench.floor = FLOOR
    bench.stack.enter_context(acting_as(ALICE))
    many = bench.size(30, 10_000)
    objects = [Document(f"document-{number}", "mallory" if number % 3 == 0 else "alice") for number in range(many)]
    resources, kept = [to_resource(each) for each in objects], sum(each.owner == "alice" for each in objects)
    policies = PolicySet([permit("owners", action="read", resource="document", when=resource.owner == subject.id)])
    requests = [AccessRequest(ALICE, "read", each) for each in resources]
    sink = MemorySink()
    enforcer = Enforcer(policies, audit=sink)
    enforcer.resources.register(Document, to_resource)

    def add(name: str, call: Callable[[], list[Any]], wanted: int, **told: Any) -> None:  # noqa: ANN401  as `Kind` takes
        bench.time(name, whole(checked(call, wanted)), many, settle=lambda _count: forget(enforcer, sink), **told)

    add(FLOOR, lambda: [each for each in objects if each.owner == ALICE.id], kept)
    add("policies alone", lambda: [policies.decide(request) for request in requests], many)
    add("Resource(...), an item", lambda: [to_resource(each) for each in objects], many)
    add("filter, resources", lambda: enforcer.filter("read", resources), kept, **MICROSECONDS)
    add("filter, registered objects", lambda: enforcer.filter("read", objects), kept, **MICROSECONDS)
    add("check_many, resources", lambda: enforcer.check_many([("read", each) for each in resources]), many)
    add("check_many, registered objects", lambda: enforcer.check_many([("read", each) for each in objects]), many)
    warm(bench, policies, resources, kept)
    apart(bench, resources)


def warm(bench: Bench, policies: PolicySet, resources: list[Resource], kept: int) -> None:
    """Add the filter whose answers are all in the cache."""
    sink = MemorySink()
    enforcer = Enforcer(policies, audit=sink)
    # One subject holds a sixteenth of the cache at most.
    some = resources[:5_000]
    found = sum(each.properties["owner"] == "alice" for each in some)
    call = checked(lambda: enforcer.filter("read", some), found)
    expect("kept", len(enforcer.filter("read", some)), found)
    expect("kept of all", kept >= found, wanted=True)
    bench.time("filter, resources, warm", whole(call), len(some), settle=lambda _count: sink.records.clear())


class InMemory:
    """A decision point that has its answers, for batches too: what is left is the enforcer's."""

    permit: Final = Decision(Effect.PERMIT, policies=["owners"])

    def decide(self, _request: AccessRequest) -> Decision:
        """Permit."""
        return self.permit

    def decide_many(self, requests: Sequence[AccessRequest]) -> list[Decision]:
        """Permit all."""
        return [self.permit] * len(requests)


def apart(bench: Bench, resources: list[Resource]) -> None:
    """Add checks of a decision point that is asked in batches, whose answers are not cached."""
    sink = MemorySink()
    enforcer = Enforcer(InMemory(), audit=sink)
    some = resources[:1_000]
    call = checked(lambda: enforcer.check_many([("read", each) for each in some]), len(some))
    told: dict[str, Any] = {"settle": lambda _count: sink.records.clear(), "over": None, **CHECKED}
    bench.time("check_many, asked in a batch", whole(call), len(some), **told)


def checked(call: Callable[[], list[Any]], wanted: int) -> Callable[[int], None]:
    """Check that so many came back."""

    def once(_count: int) -> None:
        expect("items", len(call()), wanted)

    return once


def forget(enforcer: Enforcer, sink: MemorySink) -> None:
    """Make the next round a cold one."""
    enforcer.invalidate_all()
    sink.records.clear()


if __name__ == "__main__":
    main("batches", fill, rounds=11, quick=1)
