"""Assembly: parts are checked where they are handed over, and the message names the mend."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Final
from unittest.mock import MagicMock

import pytest

from pep import Canary, Enforcer, Guarantee, Profile, Profiles, Shadow
from pep.assemble import as_cache, as_clock, as_pdp, as_sink, assemble, awaited_parts, pdp_name
from pep.audit import Kind, MemorySink
from pep.cache import DecisionCache
from pep.clock import SystemClock
from pep.core import Core
from pep.errors import ConfigurationError
from pep.pdp import FunctionPDP
from pep.testing import FakeClock, FakeHandler, FakeObserver, FakeProvider
from tests.scenes import LATER, Strong

UNTIL: Final = datetime(2040, 1, 1, tzinfo=timezone.utc)
SHADOW: Final = Profile(mode=Shadow(until=LATER, reason="new"))
CANARY: Final = Profile(mode=Canary(0.5, until=LATER, reason="new"))


def permit(_request: Any) -> bool:
    return True


class PDP:
    """A decision point by its method."""

    def decide(self, _request: Any) -> bool:
        return True


class Named(PDP):
    """The same, with a name."""

    name = "named"


class NoMethod:
    """Has the name, and no method of it."""

    decide = True


class NoGuarantee:
    """A sink that promises nothing."""

    guarantee = "durable"

    def record(self, record: Any) -> None:
        """Keep nothing."""


class NoRecord:
    """A sink in name only."""

    guarantee = Guarantee.BUFFERED
    record = None


REFUSED: Final = {
    "no decision point": ((None, MemorySink()), {}, "is no policy decision point"),
    "a class of one": ((PDP, MemorySink()), {}, "`PDP` is no policy decision point"),
    "a decision point without a method": ((NoMethod(), MemorySink()), {}, "give it `decide"),
    "an enforcer": ((Enforcer.unbound("x"), MemorySink()), {}, "`Enforcer` is no policy decision point"),
    "no sink": ((permit, None), {}, "`NoneType` is no audit sink"),
    "a class of a sink": ((permit, MemorySink), {}, "`MemorySink` is no audit sink"),
    "a path": ((permit, "audit.jsonl"), {}, "`str` is no audit sink"),
    "a sink without a method": ((permit, NoRecord()), {}, "it needs `record"),
    "a sink without a guarantee": ((permit, NoGuarantee()), {}, "must be a `Guarantee`"),
    "a mock of a sink": ((permit, MagicMock()), {}, "uarantee`"),
    "an unknown part": ((permit, MemorySink()), {"cahce": None}, "no part `cahce`; it takes `profiles`"),
    "a clock that is none": ((permit, MemorySink()), {"clock": 7}, "`int` is no clock; it needs `monotonic"),
    "a class of a clock": ((permit, MemorySink()), {"clock": FakeClock}, "`FakeClock` is no clock"),
    "a cache that is none": ((permit, MemorySink()), {"cache": {}}, "not `dict`"),
    "one observer": ((permit, MemorySink()), {"telemetry": FakeObserver()}, "`telemetry` takes several"),
    "one provider": (
        (permit, MemorySink()),
        {"attributes": FakeProvider({"subject.a": 1})},
        "`attributes` takes several",
    ),
    "one handler": ((permit, MemorySink()), {"obligations": FakeHandler("log")}, "`obligations` takes several"),
    "a str of handlers": ((permit, MemorySink()), {"obligations": "log"}, "`obligations` takes several"),
    "a class of handlers": ((permit, MemorySink()), {"obligations": FakeHandler}, "`FakeHandler`"),
    "no observer": ((permit, MemorySink()), {"telemetry": [object()]}, "`object` is no observer"),
    "a class of observer": ((permit, MemorySink()), {"telemetry": [FakeObserver]}, "`FakeObserver` is no observer"),
    "no provider": ((permit, MemorySink()), {"attributes": [object()]}, "`object` is no attribute provider"),
    "no handler": ((permit, MemorySink()), {"obligations": [object()]}, "`object` is no obligation handler"),
    "a short secret": ((permit, MemorySink()), {"secret": b"short"}, "at least 16 bytes"),
    "a secret that is text": ((permit, MemorySink()), {"secret": "0123456789abcdef"}, "at least 16 bytes"),
    "a canary without a secret": ((permit, MemorySink()), {"profiles": {"a:b": CANARY}}, "pass `secret=`"),
    "profiles that are none": ((permit, MemorySink()), {"profiles": [Profile()]}, "mapping"),
    "too weak a sink": (
        (permit, MemorySink()),
        {"profiles": {"a:b": Profile(audit=Guarantee.DURABLE)}},
        "`a:b` asks for audit `durable`, but `MemorySink` gives `buffered` at most; use a stronger sink",
    ),
}


@pytest.mark.parametrize(("given", "parts", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_part_is_refused(given: tuple[Any, Any], parts: dict[str, Any], message: str) -> None:
    """Wrong parts are refused at construction, never at the first call."""
    with pytest.raises(ConfigurationError) as caught:
        assemble(*given, "test", Core("test").registries, **parts)
    assert message in str(caught.value)


def test_a_decision_point_or_a_callable() -> None:
    """What has the method stays as it is; what can be called is wrapped."""
    pdp, wrapped = PDP(), as_pdp(permit)
    assert as_pdp(pdp) is pdp
    assert isinstance(wrapped, FunctionPDP)
    assert (pdp_name(pdp), pdp_name(Named()), pdp_name(wrapped)) == ("PDP", "named", "permit")


def test_parts_left_out_are_the_usual_ones() -> None:
    """No clock is the machine's, no cache one of the usual size."""
    cache, clock, sink = DecisionCache(entries=3), FakeClock(), MemorySink()
    assert isinstance(as_clock(None), SystemClock)
    assert as_clock(clock) is clock
    assert as_cache(cache) is cache
    assert len(as_cache(None)) == 0
    assert as_sink(sink) is sink


def test_a_wiring_has_what_it_was_given() -> None:
    """Every part arrives where it belongs; iterables are taken once."""
    provider, handler, observer = FakeProvider({"subject.a": 1}), FakeHandler("log"), FakeObserver()
    profiles = Profiles({"a:b": Profile(deadline=9)})
    wiring = assemble(
        FunctionPDP(permit, name="mine", pure=True),
        Strong(),
        "test",
        Core("test").registries,
        profiles=profiles,
        attributes=iter([provider]),
        obligations=iter([handler]),
        telemetry=iter([observer]),
        secret=b"0123456789abcdef",
    )
    assert (wiring.pdp_name, wiring.pure, wiring.profiles) == ("mine", True, profiles)
    assert list(wiring.providers) == [provider]
    assert list(wiring.handlers) == [handler]
    assert tuple(wiring.journal.observers) == (observer,)
    assert wiring.secret == b"0123456789abcdef"


def test_what_is_not_enforced_is_announced() -> None:
    """Before the first decision a record tells which patterns are not enforced; without any there is none."""
    for profiles, kinds in (({"document:edit": SHADOW}, [Kind.CONFIGURATION, Kind.CHECK]), ({}, [Kind.CHECK])):
        sink = MemorySink()
        Enforcer(permit, audit=sink, profiles=profiles).check("edit")
        assert [record.kind for record in sink.records] == kinds
        if profiles:
            assert sink.records[0]["not_enforced"][0]["pattern"] == "document:edit"


class Awaited:
    """Every part in one, each to be awaited."""

    guarantee = Guarantee.BUFFERED
    provides = frozenset({"subject.a"})
    types: Any = None

    async def decide(self, _request: Any) -> bool:
        return True

    async def record(self, record: Any) -> None:
        """Keep nothing."""

    async def provide(self, _request: Any) -> dict[str, Any]:
        return {}


class AwaitedHandler(FakeHandler):
    """A handler to be awaited."""

    async def discharge(self, obligation: Any, call: Any) -> Any:
        return call


class Declared(PDP):
    """Says itself that it can only be awaited."""

    asynchronous = True


def test_parts_that_must_be_awaited_are_named() -> None:
    """Each by its own name and method, so that a synchronous site can be refused."""

    async def apermit(_request: Any) -> bool:
        return True

    registries = Core("test").registries
    parts: dict[str, Any] = {"attributes": [Awaited()], "obligations": [AwaitedHandler("log")]}
    wiring = assemble(apermit, Awaited(), "test", registries, **parts)
    assert [name.rpartition(".")[2] for name in awaited_parts(wiring)] == ["decide", "record", "provide", "discharge"]
    assert list(awaited_parts(assemble(Declared(), MemorySink(), "test", registries))) == ["Declared.decide"]
    assert list(awaited_parts(assemble(permit, MemorySink(), "test", registries))) == []
