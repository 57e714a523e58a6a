"""Cerbos itself: what a real server answers is what the codec reads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from pep import AccessRequest, Action, Effect, Enforcer, Obligation, Resource, Subject
from pep.audit import MemorySink
from pep.clock import SystemClock
from pep.drive import APerformer, Performer, arun, run
from pep.errors import PDPRejected, PDPReplyError, PDPUnavailable
from pep.pdp.authzen import AuthZENPDP
from pep.pdp.cerbos import CerbosPDP
from pep.plan import Raised
from pep.policy.partial import AllowAll
from pep.transport import HTTPTransport
from tests.cerbos_server import CerbosServer, cerbos_servers, resource_policy, rule

ALICE = Subject("user", "alice", {"roles": ["editor"], "level": 3})
DOCUMENT = Resource("document", "1", {"owner": "alice"})

POLICIES = {
    "document": resource_policy(
        "document",
        rule("read", when="R.attr.owner == P.id"),
        rule("edit", roles=("editor",)),
        rule("told", when='P.attr["$type"] == "user" && P.attr["$context"].hour == 9.0'),
        rule("acted", when='P.attr["$actors"][0].id == "bot" && P.attr["$actors"][0].properties.model == "m"'),
        rule("owned", when='P.attr["$tenant"] == "acme"'),
        rule("via", when='R.attr["$action"].via == "api"'),
        rule("add", when='R.id == "$new" && R.attr.n == 1.0'),
        rule("owe", name="owe", output='{"obligation": {"type": "redact", "properties": {"paths": ["ssn"]}}}'),
        rule("why", name="why", output='"because"'),
        rule("broken", name="broken", output='{"obligation": {"type": R.attr.missing}}'),
    ),
    "acme": resource_policy("scoped", rule("read"), scope="acme"),
    "root": resource_policy("scoped", rule("read", when="P.attr.level == 9.0")),
    "versioned": resource_policy("scoped", rule("write"), version="v2"),
}


def had(plan: Any) -> Any:
    return run(plan, Performer(SystemClock()))


@pytest.fixture(scope="module")
def server() -> Iterator[CerbosServer]:
    with cerbos_servers() as start:
        yield start(POLICIES)


@pytest.fixture(scope="module")
def transport() -> Iterator[HTTPTransport]:
    with HTTPTransport() as made:
        yield made


@pytest.fixture
def pdp(server: CerbosServer, transport: HTTPTransport) -> CerbosPDP:
    return CerbosPDP(server.url, transport=transport)


def asked(action: str | Action, resource: Resource = DOCUMENT, **more: Any) -> AccessRequest:
    return AccessRequest(**{"subject": ALICE, "action": action, "resource": resource, **more})


BOT = Subject("agent", "bot", {"model": "m"})
EFFECTS = {
    "by an attribute": (asked("read"), Effect.PERMIT),
    "not by an attribute": (asked("read", Resource("document", "1", {"owner": "bob"})), Effect.DENY),
    "a missing attribute": (asked("read", Resource("document", "1")), Effect.DENY),
    "by a role": (asked("edit"), Effect.PERMIT),
    "without the role": (asked("edit", subject=Subject("user", "alice")), Effect.DENY),
    "by type and context": (asked("told", context={"hour": 9}), Effect.PERMIT),
    "another context": (asked("told", context={"hour": 10}), Effect.DENY),
    "another type": (asked("told", subject=Subject("agent", "alice"), context={"hour": 9}), Effect.DENY),
    "by an actor": (asked("acted", actors=[BOT]), Effect.PERMIT),
    "another actor": (asked("acted", actors=[Subject("agent", "other")]), Effect.DENY),
    "by the tenant": (asked("owned", tenant="acme"), Effect.PERMIT),
    "another tenant": (asked("owned", tenant="other"), Effect.DENY),
    "by the action's properties": (asked(Action("via", {"via": "api"})), Effect.PERMIT),
    "other properties": (asked(Action("via", {"via": "ui"})), Effect.DENY),
    "a new resource": (asked("add", Resource.new("document", {"n": 1})), Effect.PERMIT),
    "one that is not": (asked("add", Resource("document", "2", {"n": 1})), Effect.DENY),
    "an action nobody thought of": (asked("burn"), Effect.DENY),
    "a kind without a policy": (asked("read", Resource("folder", "1")), Effect.NOT_APPLICABLE),
    "odd names": (asked("a:b c\u2028", Resource("\x00 é", '"\\\r\n')), Effect.NOT_APPLICABLE),
}


@pytest.mark.parametrize(("request_", "effect"), EFFECTS.values(), ids=EFFECTS)
def test_decides_by_everything_it_is_told(pdp: CerbosPDP, request_: AccessRequest, effect: Effect) -> None:
    """In both worlds, alone and in a batch."""
    alone = had(pdp.decide(request_))
    assert alone.effect is effect
    assert type(alone.id) is str
    assert asyncio.run(arun(pdp.decide(request_), APerformer(SystemClock()))).effect is effect
    assert [one.effect for one in had(pdp.decide_many([request_, request_]))] == [effect, effect]


def test_decides_a_batch_like_each_of_it(pdp: CerbosPDP) -> None:
    """Whoever asks, whatever about; also many times the server's limits."""
    requests = [one for one, _effect in EFFECTS.values()] * 3
    requests += [asked("read", Resource("document", str(number), {"owner": "alice"})) for number in range(120)]
    requests += [asked(f"a{number}") for number in range(60)]
    effects = [effect for _one, effect in EFFECTS.values()] * 3 + [Effect.PERMIT] * 120 + [Effect.DENY] * 60
    assert [one.effect for one in had(pdp.decide_many(requests))] == effects
    found = asyncio.run(arun(pdp.decide_many(requests), APerformer(SystemClock())))
    assert [one.effect for one in found] == effects


def test_outputs_are_obligations_and_reasons(pdp: CerbosPDP) -> None:
    """With the rule as the obligation's id; one that could not be evaluated ends it."""
    owed = had(pdp.decide(asked("owe")))
    assert owed.obligations == (Obligation("redact", {"paths": ["ssn"]}, "resource.document.vdefault#owe"),)
    assert owed.policies == ("resource.document.vdefault",)
    assert had(pdp.decide(asked("why"))).reasons == ("because",)
    mixed = had(pdp.decide_many([asked("owe"), asked("read"), asked("why")]))
    assert [len(one.obligations) for one in mixed] == [1, 0, 0]
    with pytest.raises(PDPReplyError, match="could not be evaluated"):
        had(pdp.decide(asked("broken")))


def test_scopes_and_versions(server: CerbosServer, transport: HTTPTransport) -> None:
    """A tenant that is the scope is asked there, a version among its own."""
    scoped = CerbosPDP(server.url, transport=transport, tenant_as_scope=True)
    read = asked("read", Resource("scoped", "1"))
    assert (
        had(scoped.decide(read.evolve(subject=Subject("user", "a", {"level": 9}), tenant="acme"))).effect
        is Effect.PERMIT
    )
    assert had(scoped.decide(read.evolve(tenant="other"))).effect is Effect.NOT_APPLICABLE
    assert had(scoped.decide(read)).effect is Effect.DENY
    fixed = CerbosPDP(server.url, transport=transport, scope="acme")
    assert had(fixed.decide(read)).effect is Effect.PERMIT
    versioned = CerbosPDP(server.url, transport=transport, version="v2")
    assert had(versioned.decide(read.evolve(action="write"))).effect is Effect.PERMIT
    assert [one.effect for one in had(versioned.decide_many([read, read.evolve(action="write")]))] == [
        Effect.DENY,
        Effect.PERMIT,
    ]


def test_a_request_against_the_schema_is_indeterminate(transport: HTTPTransport) -> None:
    """Whether the server rejects it or warns; the reason names the place and no value."""
    schema = {"type": "object", "properties": {"owner": {"type": "string"}}, "required": ["owner"]}
    policy = resource_policy("document", rule("read"), schemas={"resourceSchema": {"ref": "cerbos:///document.json"}})
    for enforcement in ("reject", "warn"):
        with cerbos_servers() as start:
            extra = {"schema": {"enforcement": enforcement}}
            server = start({"document": policy}, {"document": schema}, extra)
            pdp = CerbosPDP(server.url, transport=transport)
            assert had(pdp.decide(asked("read"))).effect is Effect.PERMIT
            wrong = had(pdp.decide(asked("read", Resource("document", "1", {"owner": 7}))))
            assert (wrong.effect, wrong.reasons) == (Effect.INDETERMINATE, ("not valid: SOURCE_RESOURCE /owner",))
            with pytest.raises(PDPReplyError, match="without attributes"):
                had(pdp.row_filter(ALICE, "read", "document", context={}))
            trusting = CerbosPDP(server.url, transport=transport, check_plans=False)
            assert had(trusting.row_filter(ALICE, "read", "document", context={})) == AllowAll()


def test_more_than_the_limits_is_refused_by_the_server(server: CerbosServer, transport: HTTPTransport) -> None:
    """So what the limits are said to be has to be true."""
    bold = CerbosPDP(server.url, transport=transport, resources=51)
    requests = [asked("read", Resource("document", str(number))) for number in range(51)]
    answers = had(bold.decide_many(requests))
    assert all(isinstance(one, Raised) and isinstance(one.error, PDPRejected) for one in answers)


def test_a_server_that_went_and_came_back(transport: HTTPTransport) -> None:
    """Away it is unreachable, to a question and a probe; back on its port it answers."""
    with cerbos_servers() as start:
        server = start(POLICIES)
        pdp = CerbosPDP(server.url, transport=transport)
        for _twice in range(2):
            assert had(pdp.probe()) is None
            assert had(pdp.decide(asked("read"))).effect is Effect.PERMIT
            server.kill()
            for plan in (pdp.probe(), pdp.decide(asked("read"))):
                with pytest.raises(PDPUnavailable):
                    had(plan)
            assert all(isinstance(one, Raised) for one in had(pdp.decide_many([asked("read"), asked("edit")])))
            server.start()


def test_guards_with_it(pdp: CerbosPDP) -> None:
    """Behind an enforcer: check, filter and a row filter agree."""
    documents = [Resource("document", str(number), {"owner": "alice" if number % 2 else "bob"}) for number in range(9)]
    with Enforcer(pdp, audit=MemorySink()) as enforcer:
        kept = enforcer.filter("read", documents, subject=ALICE)
        assert [one.id for one in kept] == ["1", "3", "5", "7"]
        assert [one.allowed for one in enforcer.check_many([("read", one) for one in documents], subject=ALICE)] == [
            one in kept for one in documents
        ]
        rows = enforcer.row_filter("read", "document", subject=ALICE)
        assert [one for one in documents if rows.matches(one) is True] == kept


def test_its_authzen_endpoint_decides_alike(server: CerbosServer, pdp: CerbosPDP, transport: HTTPTransport) -> None:
    """Told roles where that endpoint looks for them, it is the same policies that are asked."""
    other = AuthZENPDP(server.url, transport=transport)
    alice = Subject("user", "alice", {"roles": ["editor"], "cerbos.roles": ["editor"]})
    for name in ("by an attribute", "not by an attribute", "by a role", "an action nobody thought of"):
        request, effect = EFFECTS[name][0].evolve(subject=alice), EFFECTS[name][1]
        assert had(other.decide(request)).effect is had(pdp.decide(request)).effect is effect
