"""
What every decision point must do, as one function.

It tries answers, faults, batches, deadlines, cancellation, threads and tasks, and raises `NotConforming` on the
first rule that does not hold. Imports the drivers and what is below them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from types import GeneratorType
from typing import Any, Final

import orjson

from pep.clock import SystemClock
from pep.decision import Decision, Effect
from pep.drive import APerformer, Performer, arun, run
from pep.errors import PDPError
from pep.fault import AVAILABILITY, fault_of
from pep.found import Found
from pep.model import AccessRequest, Action, Resource, Subject
from pep.plan import Plan, Raised, Reply, attempt, bounded, contain, discard
from pep.protocols import PDP, BatchPDP, RowFilterPDP, SearchPDP
from pep.replies import close
from pep.testing.conforming import HOSTILE, PATIENCE, awaited, hold, worlds

#: Values that have broken a mapping to an engine's own types.
ODD: Final[dict[str, Any]] = {
    "none": None,
    "truth": True,
    "whole": 1,
    "fraction": 1.5,
    "large": 2**62,
    "text": 'a"\\\u2028\x00',
    "": "no name",
    "list": [1, "1", [None]],
    "nested": {"a": {"b": {"c": []}}},
}

# How many threads and tasks ask at once, and how often each.
_ASKERS: Final = 6
_ROUNDS: Final = 8
# How many steps an answer may take that is cut off at each of them.
_STEPS: Final = 32


def check_pdp(make: Callable[[], PDP], *, permitted: AccessRequest, denied: AccessRequest) -> None:
    """
    Check a decision point.

    Args:
        make: Makes one; called more than once.

        permitted: A request it permits.

        denied: A request it does not permit.

    Raises:
        NotConforming: Naming the rule that does not hold.
    """
    pdp = make()
    hold(isinstance(pdp, PDP), "a decision point has `decide(request)`")
    hold(type(getattr(pdp, "pure", False)) is bool, "`pure` is a bool")
    name = getattr(pdp, "name", None)
    hold(name is None or (type(name) is str and name == getattr(make(), "name", None)), "`name` is a constant text")
    _check_answers(pdp, permitted, denied)
    _check_odd_requests(pdp, denied)
    _check_deadline(pdp, permitted)
    _check_cancellation(pdp, permitted)
    _check_tasks(pdp, permitted, denied)
    if not awaited(pdp, pdp.decide):
        _check_threads(pdp, permitted, denied)
    if isinstance(pdp, BatchPDP):
        _check_batches(pdp, permitted, denied)
    _check_capabilities(pdp, permitted)


def _check_answers(pdp: PDP, permitted: AccessRequest, denied: AccessRequest) -> None:
    for request, permits in ((permitted, True), (denied, False)):
        before = _told(request)
        for reply in worlds(pdp, pdp.decide, request):
            hold(_permits(reply) is permits, f"it {'permits' if permits else 'refuses'} {request!r}, in both worlds")
        hold(_told(request) == before, "it leaves the request as it is")
    first = worlds(pdp, pdp.decide, permitted)[0]
    for reply in worlds(pdp, pdp.decide, permitted):
        hold(_permits(reply) is True, "what it permitted it permits again; what is pure answers the same again")
        if getattr(pdp, "pure", False):
            hold(_same(first, reply), "what is pure answers the same again")


def _check_odd_requests(pdp: PDP, denied: AccessRequest) -> None:
    for odd in _odd_requests(denied):
        before = _told(odd)
        for reply in worlds(pdp, pdp.decide, odd):
            answered = not isinstance(reply, Raised) or isinstance(reply.error, PDPError)
            hold(answered and _is_answer(reply), "it answers any id and any value, or raises a `PDPError`")
        hold(_told(odd) == before, "it leaves the request as it is")


def _odd_requests(denied: AccessRequest) -> Iterator[AccessRequest]:
    who, what = denied.subject, denied.resource
    for hostile in HOSTILE:
        yield denied.evolve(subject=Subject(who.type, hostile))
        yield denied.evolve(resource=Resource(what.type, hostile))
    yield denied.evolve(subject=Subject(who.type, who.id, ODD), resource=Resource(what.type, "odd", ODD), context=ODD)
    yield denied.evolve(action=Action(denied.action.name, ODD))
    yield denied.evolve(resource=Resource.new(what.type, ODD))
    yield denied.evolve(tenant="elsewhere")
    yield denied.evolve(actors=(Subject("agent", "a-1"),))


def _check_deadline(pdp: PDP, permitted: AccessRequest) -> None:
    """Ask with no time left: no step of a plan is performed any more, and what comes of that permits nothing."""
    clock = SystemClock()
    for number in range(2):
        value: Any = pdp.decide(permitted)
        if type(value) is not GeneratorType:
            discard(value)
            return
        asked = contain(bounded(value, clock.monotonic() - 1.0))
        late = run(asked, Performer(clock)) if number else asyncio.run(arun(asked, APerformer(clock)))
        unanswered = isinstance(late, Raised) and fault_of(late.error) in AVAILABILITY
        hold(unanswered, "what could not be asked in time is a fault of availability, and no answer")
    _check_unharmed(pdp, permitted, "a timeout")


def _check_cancellation(pdp: PDP, permitted: AccessRequest) -> None:
    """Whoever gives up, at whichever step, leaves the decision point able to answer."""
    if not awaited(pdp, pdp.decide):
        for steps in range(_STEPS):
            if not _given_up(attempt(pdp.decide, permitted), steps):
                break
    asyncio.run(_cancelled(pdp, permitted))
    _check_unharmed(pdp, permitted, "a question that was given up")


def _given_up(plan: Plan[Any], steps: int) -> bool:
    """Perform so many steps and give up; return whether there were any more."""
    performer, reply = Performer(SystemClock()), None
    try:
        for _ in range(steps):
            reply = performer.perform(plan.send(reply))
        plan.send(reply)
    except StopIteration:
        return False
    finally:
        close(plan)
    return True


async def _cancelled(pdp: PDP, permitted: AccessRequest) -> None:
    for turns in range(_STEPS):
        asking = asyncio.ensure_future(arun(attempt(pdp.decide, permitted), APerformer(SystemClock())))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking})
        if not asking.cancelled():
            break


def _check_unharmed(pdp: PDP, permitted: AccessRequest, what: str) -> None:
    for reply in worlds(pdp, pdp.decide, permitted):
        hold(_permits(reply) is True, f"it answers after {what}")


def _check_threads(pdp: PDP, permitted: AccessRequest, denied: AccessRequest) -> None:
    wrong: list[int] = []

    def ask(first: int) -> None:
        for number in range(first, first + _ROUNDS):
            request = denied if number % 2 else permitted
            reply = run(attempt(pdp.decide, request, deadline=_patience()), Performer(SystemClock()))
            if _permits(reply) is not (number % 2 == 0):
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(_ASKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hold(not wrong, "threads that ask at once get the answers they would get alone")


def _check_tasks(pdp: PDP, permitted: AccessRequest, denied: AccessRequest) -> None:
    async def ask() -> list[bool | None]:
        plans = [
            attempt(pdp.decide, (permitted, denied)[number % 2], deadline=_patience()) for number in range(_ASKERS)
        ]
        return [_permits(reply) for reply in await asyncio.gather(*[arun(p, APerformer(SystemClock())) for p in plans])]

    wanted = [number % 2 == 0 for number in range(_ASKERS)]
    hold(asyncio.run(ask()) == wanted, "tasks that ask at once get the answers they would get alone")


def _check_batches(pdp: BatchPDP, permitted: AccessRequest, denied: AccessRequest) -> None:
    many = tuple((permitted, denied)[number % 2] for number in range(101))
    for batch in ((permitted,), (denied, permitted), (permitted, denied, permitted), many):
        for reply in worlds(pdp, pdp.decide_many, batch):
            values = () if isinstance(reply, Raised) else reply.value
            given = [_effect(value) is Effect.PERMIT for value in values]
            wanted = [request is permitted for request in batch]
            hold(given == wanted, "a batch is answered like its questions, in order")
    odd = tuple(_odd_requests(denied))
    for reply in worlds(pdp, pdp.decide_many, odd):
        if isinstance(reply, Raised):
            hold(isinstance(reply.error, PDPError), "a batch is answered, or raises a `PDPError`")
        else:
            answered = all(isinstance(one, Raised) or _effect(one) is not None for one in reply.value)
            hold(answered and len(reply.value) == len(odd), "each of a batch is answered, or `Raised` in its place")


def _check_capabilities(pdp: PDP, permitted: AccessRequest) -> None:
    probe, health = getattr(pdp, "probe", None), getattr(pdp, "health", None)
    if callable(probe):
        for reply in worlds(pdp, probe):
            hold(not isinstance(reply, Raised), "`probe()` of one that is up raises nothing")
    if callable(health):
        hold(type(orjson.loads(orjson.dumps(health()))) is dict, "`health()` tells name → JSON-like value")
    if isinstance(pdp, SearchPDP):
        for reply in worlds(pdp, pdp.search, "resource", permitted):
            rejected = isinstance(reply, Raised) and isinstance(reply.error, PDPError)
            hold(
                rejected or type(getattr(reply, "value", None)) is Found, "a search has `Found`, or raises a `PDPError`"
            )
    if isinstance(pdp, RowFilterPDP):
        asked = (permitted.subject, permitted.action, permitted.resource.type)
        whose: dict[str, Any] = {"context": permitted.context, "actors": permitted.actors, "tenant": permitted.tenant}
        for reply in worlds(pdp, lambda: pdp.row_filter(*asked, **whose)):
            _check_rows(reply, permitted)


def _check_rows(reply: Reply, permitted: AccessRequest) -> None:
    from pep.policy.partial import AllowAll, Conditional, DenyAll  # noqa: PLC0415  only who filters rows has policies

    if isinstance(reply, Raised):
        hold(isinstance(reply.error, PDPError), "rows are filtered, or a `PDPError` is raised")
        return
    rows = reply.value
    hold(type(rows) in {AllowAll, DenyAll, Conditional}, "a row filter is `AllowAll`, `DenyAll` or a `Conditional`")
    hold(type(rows) is not DenyAll, f"rows are filtered as {permitted!r} is answered")


def _patience() -> float:
    return SystemClock().monotonic() + PATIENCE


def _told(request: AccessRequest) -> bytes:
    return orjson.dumps(request.to_dict())


def _is_answer(reply: Reply) -> bool:
    return isinstance(reply, Raised) or _effect(reply.value) is not None


def _permits(reply: Reply) -> bool | None:
    """Tell whether a reply permits; None where it is no answer."""
    if isinstance(reply, Raised):
        return None
    effect = _effect(reply.value)
    return None if effect is None else effect is Effect.PERMIT


def _same(one: Reply, other: Reply) -> bool:
    return not isinstance(one, Raised) and not isinstance(other, Raised) and one.value == other.value


def _effect(value: object) -> Effect | None:
    if type(value) is Decision:
        return value.effect
    if type(value) is bool:
        return Effect.PERMIT if value else Effect.DENY
    return None
