"""Casbin behind the enforcement point: any model, exact permits only, no half-made change, nothing lost on the way."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep import AccessRequest, Action, Effect, Resource, Subject
from pep.errors import ConfigurationError, PDPReplyError
from pep.pdp import casbin_library as names
from pep.pdp.casbin import CasbinPDP
from pep.pdp.casbin_request import DROPPED, text_of
from pep.plan import Raised
from tests.proving import times

casbin = pytest.importorskip("casbin", reason="pycasbin is not installed")

ACL = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.sub == p.sub && r.obj == p.obj && r.act == p.act
"""
RBAC = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = g(r.sub, p.sub) && keyMatch2(r.obj, p.obj) && r.act == p.act
"""
RULES = """
# who may edit
p, editors, document/*, edit, allow
p, suspended, document/*, edit, deny
g, user/alice, editors
g, user/bob, editors
g, user/bob, suspended
"""
ALICE = "p, user/alice, document/42, read"
DOMAINS = """
[request_definition]
r = sub, dom, obj, act
[policy_definition]
p = sub, dom, obj, act
[role_definition]
g = _, _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub, r.dom) && r.dom == p.dom && r.obj == p.obj && r.act == p.act
"""


def asked(
    who: str = "alice", act: str = "edit", what: str | None = "42", kind: str = "user", **more: Any
) -> AccessRequest:
    resource = Resource.new("document") if what is None else Resource("document", what)
    return AccessRequest(Subject(kind, who), act, resource, **more)


def model(matcher: str, *, effect: str = "some(where (p.eft == allow))", rule: str = "sub, obj, act") -> str:
    return (
        ACL.replace("r.sub == p.sub && r.obj == p.obj && r.act == p.act", matcher)
        .replace("some(where (p.eft == allow))", effect)
        .replace("p = sub, obj, act", f"p = {rule}")
    )


def enforcer(text: str = RBAC, rules: str = RULES, kind: Any = None) -> Any:
    made = casbin.Model()
    made.load_model_from_text(text)
    adapter = casbin.persist.adapters.string_adapter.StringAdapter(rules)
    source = (kind or casbin.Enforcer)(made, adapter)
    source.enable_auto_save(False)
    return source


def effect_of(pdp: CasbinPDP, request: AccessRequest) -> Effect:
    return pdp.decide(request).effect


# What is answered


ANSWERS = [
    ("a rule permits", asked("alice"), Effect.PERMIT, ("p, editors, document/*, edit, allow",)),
    ("a rule denies", asked("bob"), Effect.DENY, ("p, suspended, document/*, edit, deny",)),
    ("no rule matches", asked("eve"), Effect.NOT_APPLICABLE, ()),
    ("a subject called as a role", asked("editors"), Effect.NOT_APPLICABLE, ()),
    ("another type of subject", asked("alice", kind="service"), Effect.NOT_APPLICABLE, ()),
    ("a newline at the end", asked("alice\n"), Effect.NOT_APPLICABLE, ()),
    ("a pattern as an id", asked("*"), Effect.NOT_APPLICABLE, ()),
    ("a slash in an id", asked(what="4/2"), Effect.PERMIT, ("p, editors, document/*, edit, allow",)),
    ("something new", asked(what=None), Effect.PERMIT, ("p, editors, document/*, edit, allow",)),
]


@pytest.mark.parametrize(
    ("request_", "effect", "policies"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS]
)
def test_an_answer_tells_the_rule_that_explains_it(
    request_: AccessRequest, effect: Effect, policies: tuple[str, ...]
) -> None:
    """A denial by a rule is a denial; where no rule matched, none applies."""
    pdp = CasbinPDP.of_text(RBAC, RULES)
    decision = pdp.decide(request_)
    assert (decision.effect, decision.policies, decision.revision) == (effect, policies, pdp.revision)


FAILING = {
    "an unknown function": ("nobody(r.sub)", "p, a, b, c"),
    "an unknown name": ("r.sub == s.sub", "p, a, b, c"),
    "an attribute that is not there": ("r.sub.age > 1", "p, a, b, c"),
    "an answer that looks true": ("r.sub", "p, a, b, c"),
    "a number": ("1", "p, a, b, c"),
    "none": ("None", "p, a, b, c"),
    "a division by zero": ("1 / 0 == 1", "p, a, b, c"),
    "a broken rule": ("eval(p.sub)", "p, r.sub.nothing, b, c"),
}


@pytest.mark.parametrize(("matcher", "rules"), FAILING.values(), ids=FAILING)
def test_a_matcher_that_fails_is_no_decision(matcher: str, rules: str) -> None:
    """Whatever cannot be evaluated neither permits nor drops out."""
    with pytest.raises(PDPReplyError, match="could not evaluate"):
        CasbinPDP.of_text(model(matcher), rules).decide(asked())


def test_what_casbin_quotes_is_told_to_nobody() -> None:
    """The text of what failed may hold a value of the request; its type is told."""
    pdp = CasbinPDP.of_text(
        model("ipMatch(r.obj.ip, '10.0.0.0/8')"),
        "p, -, -, -",
        request=("subject", "resource.properties", "action"),
        drops={"resource.id", "resource.type", "context", "subject.properties", "action.properties"},
    )
    with pytest.raises(PDPReplyError, match="ValueError") as raised:
        pdp.decide(asked().about(Resource("document", "42", {"ip": "a secret"})))
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
    assert "secret" not in str(raised.value)


def test_a_denial_that_fails_does_not_drop_out() -> None:
    """Another rule permits, and still there is no decision: the denial might have held."""
    text = model(
        "eval(p.when)", effect="some(where (p.eft == allow)) && !some(where (p.eft == deny))", rule="when, eft"
    )
    assert effect_of(CasbinPDP.of_text(text, "p, True == True, allow"), asked()) is Effect.PERMIT
    with pytest.raises(PDPReplyError, match="could not evaluate"):
        CasbinPDP.of_text(text, "p, True == True, allow\np, r.sub.suspended, deny").decide(asked())


def test_running_out_of_memory_is_no_answer_of_casbin() -> None:
    """It goes on as it is."""
    source = enforcer(model("full(r.sub)"), ALICE)

    def full(_name: str) -> bool:
        raise MemoryError

    source.add_function("full", full)
    with pytest.raises(MemoryError):
        CasbinPDP(source).decide(asked())


REPLIES: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.floats() | st.sampled_from(["true", "True", "allow", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.tuples(inner, st.just([])),
    max_leaves=4,
)


@given(REPLIES)
@settings(max_examples=times(300, 50_000), deadline=None)
def test_only_an_exact_permit_permits(reply: object) -> None:
    """Promise 5: `True` and a rule permit, and nothing that looks like it."""
    PATCHED._taken[0]._enforcer.enforce_ex = lambda *_values: reply
    permits = type(reply) is tuple and len(reply) == 2 and reply[0] is True and type(reply[1]) is list
    try:
        effect = effect_of(PATCHED, asked())
    except PDPReplyError:
        assert not permits
    else:
        assert (effect is Effect.PERMIT) is permits


PATCHED = CasbinPDP.of_text(RBAC, RULES)


@pytest.mark.parametrize("reply", [[True, []], (1, []), ("true", []), (True,), (True, [], 1), True, (True, None)])
def test_a_reply_of_another_shape_is_none(reply: object) -> None:
    """`[True, []]` is what a Casbin answers that is turned off."""
    pdp = CasbinPDP.of_text(RBAC, RULES)
    pdp._taken[0]._enforcer.enforce_ex = lambda *_values: reply
    with pytest.raises(PDPReplyError, match="something else"):
        pdp.decide(asked())


def test_a_batch_is_answered_in_order_and_one_that_fails_fails_alone() -> None:
    """Casbin's own batch is a loop that breaks at the first failure."""
    pdp = CasbinPDP.of_text(RBAC, RULES)
    told = pdp.decide_many([asked("alice"), asked(tenant="acme"), asked("bob")])
    first, lost, last = told
    assert isinstance(lost, Raised)
    assert type(lost.error) is PDPReplyError
    assert [one.effect for one in (first, last) if not isinstance(one, Raised)] == [Effect.PERMIT, Effect.DENY]


# What is asked


@given(st.tuples(st.text(min_size=1), st.text(min_size=1)), st.tuples(st.text(min_size=1), st.text(min_size=1)))
@settings(max_examples=times(300, 50_000), deadline=None)
def test_no_two_entities_have_one_text(one: tuple[str, str], other: tuple[str, str]) -> None:
    """The text is injective, and holds nothing that means something in a pattern or a policy file."""
    try:
        texts = text_of(*one), text_of(*other)
    except UnicodeEncodeError:
        return
    assert (texts[0] == texts[1]) is (one == other)
    assert not set(texts[0]) & set('*?[](){}|^$+\\,:"#\n\r\0')
    assert texts[0].count("/") == 1


@pytest.mark.parametrize(
    ("one", "other"), [(("a/b", "c"), ("a", "b/c")), (("a%2Fb", "c"), ("a/b", "c")), (("a", "b\u2028"), ("a", "b "))]
)
def test_curated_pairs_differ(one: tuple[str, str], other: tuple[str, str]) -> None:
    """Separators and escapes within types and ids make no two entities one."""
    assert text_of(*one) != text_of(*other)


def test_a_colon_would_be_a_wildcard() -> None:
    """Why a slash stands between type and id: `keyMatch2` takes what follows a colon for a parameter."""
    assert casbin.util.key_match2("document:43", "document:42")
    assert not casbin.util.key_match2("document/43", "document/42")


LOST = {
    "a tenant": ({"tenant": "acme"}, "`tenant`"),
    "an actor": ({"actors": [Subject("agent", "a")]}, "`actors`"),
}


@pytest.mark.parametrize(("more", "named"), LOST.values(), ids=LOST)
def test_what_would_be_lost_is_refused(more: dict[str, Any], named: str) -> None:
    """Tenant and actors reach Casbin, or nothing does."""
    with pytest.raises(PDPReplyError, match=named):
        CasbinPDP.of_text(RBAC, RULES).decide(asked(**more))


def test_properties_and_context_are_dropped_unless_that_is_not_wanted() -> None:
    """By default they are; without `drops` they are refused too, each of them."""
    full = AccessRequest(Subject("user", "alice", {"a": 1}), "edit", Resource("document", "42"))
    assert effect_of(CasbinPDP.of_text(RBAC, RULES), full) is Effect.PERMIT
    strict = CasbinPDP.of_text(RBAC, RULES, drops=())
    assert effect_of(strict, asked()) is Effect.PERMIT
    for one, part in [
        (full, "subject.properties"),
        (asked().evolve(action=Action("edit", {"a": 1})), "action.properties"),
        (asked().about(Resource("document", "42", {"a": 1})), "resource.properties"),
        (asked(context={"a": 1}), "context"),
    ]:
        with pytest.raises(PDPReplyError, match=part):
            strict.decide(one)


def test_a_tenant_is_a_domain() -> None:
    """Roles of one tenant are none of another's, and where there is no tenant there are none."""
    rules = "p, admins, acme, document/42, edit\np, admins, evil, document/42, edit\ng, user/alice, admins, acme"
    pdp = CasbinPDP.of_text(DOMAINS, rules, request=("subject", "tenant", "resource", "action"))
    for _ in range(2):
        assert effect_of(pdp, asked(tenant="acme")) is Effect.PERMIT
        assert effect_of(pdp, asked(tenant="evil")) is Effect.NOT_APPLICABLE
        assert effect_of(pdp, asked()) is Effect.NOT_APPLICABLE
        assert effect_of(pdp, asked(tenant="*")) is Effect.NOT_APPLICABLE
    managers = pdp._taken[0]._enforcer.rm_map["g"].rm_map
    assert set(managers) <= {"acme", "evil"}


def test_attributes_are_read_by_a_matcher() -> None:
    """Whole entities and properties, nested ones too; a property of the name of a method is a property."""
    text = model(
        "r.sub.properties.age >= 18 && r.sub.properties.org.name == 'acme' && 'a' in r.sub.properties.tags && "
        "r.obj.keys == 'k' && r.act.name == 'read'"
    )
    pdp = CasbinPDP.of_text(
        text,
        "p, -, -, -",
        request=("subject.entity", "resource.properties", "action.entity"),
        drops={"resource.id", "resource.type", "context"},
    )
    alice = Subject("user", "alice", {"age": 18, "org": {"name": "acme"}, "tags": ["a"]})
    document = Resource("document", "42", {"keys": "k"})
    assert effect_of(pdp, AccessRequest(alice, "read", document)) is Effect.PERMIT
    assert effect_of(pdp, AccessRequest(alice, "write", document)) is Effect.NOT_APPLICABLE
    with pytest.raises(PDPReplyError):
        pdp.decide(AccessRequest(Subject("user", "alice"), "read", document))


#: Mapping, the matcher that reads it, and a request that is about something else than the policy, nearly.
NEARLY = {
    "a subject": (("subject.id", "resource", "action"), "regexMatch(r.sub, '^alice$')", asked("alice\n")),
    "a type": (("subject.type", "resource", "action"), "regexMatch(r.sub, '^user$')", asked(kind="user\n")),
    "a resource": (("subject", "resource.id", "action"), "keyMatch2(r.obj, '/42')", asked(what="/42\n")),
    "a resource's entity": (
        ("subject", "resource.entity", "action"),
        "keyMatch2(r.obj.id, '/42')",
        asked(what="/42\n"),
    ),
    "an action": (("subject", "resource", "action.name"), "keyMatch4(r.act, 'edit')", asked(act="edit\n")),
    "an action's entity": (
        ("subject", "resource", "action.entity"),
        "regexMatch(r.act.name, 'e.*t$')",
        asked(act="et\n"),
    ),
}


@pytest.mark.parametrize(("names", "matcher", "request_"), NEARLY.values(), ids=NEARLY)
def test_what_patterns_overlook_is_refused(names: tuple[str, ...], matcher: str, request_: AccessRequest) -> None:
    """A line break at the end of what is handed over as it is would name another one."""
    text = model(matcher).replace("r = sub, obj, act", "r = sub, obj, act, whole")
    drops = {*DROPPED, "subject.type", "resource.type", "resource.id"}
    with pytest.raises(PDPReplyError, match="control character"):
        CasbinPDP.of_text(text, "p, -, -, -", request=(*names, "subject"), drops=drops).decide(request_)


@pytest.mark.parametrize("part", ["subject", "resource"])
def test_an_entity_has_no_name_of_a_role(part: str) -> None:
    """Who is called like a role has it not, also where the matcher reads the id of an entity."""
    text = RBAC.replace("g(r.sub, p.sub) && keyMatch2(r.obj, p.obj)", "g(r.sub.id, p.sub)")
    text = text.replace("r = sub, obj, act", "r = sub, obj, act, whole")
    mapping = (f"{part}.entity", "resource", "action", "subject")
    pdp = CasbinPDP.of_text(text, "p, editors, -, edit, allow\ng, alice, editors", request=mapping)

    def about(name: str) -> AccessRequest:
        return asked(name) if part == "subject" else asked(what=name)

    assert effect_of(pdp, about("alice")) is Effect.PERMIT
    with pytest.raises(PDPReplyError, match="name of a role"):
        pdp.decide(about("editors"))


def test_a_mapping_that_fails_leaves_the_others_of_a_batch_theirs() -> None:
    """A function of the request may raise anything, about one of many."""

    def mapped(request: AccessRequest) -> list[Any]:
        if request.subject.id == "nobody":
            raise KeyError
        if request.subject.id == "everybody":
            raise MemoryError
        return [text_of("user", request.subject.id), text_of("document", "42"), request.action.name]

    reads = {"subject.id", "subject.type", "resource.id", "resource.type", "action.name", "tenant", "actors"}
    pdp = CasbinPDP.of_text(ACL, ALICE, request=mapped, reads=reads)
    answers = pdp.decide_many([asked(who, "read") for who in ("alice", "nobody", "alice")])
    assert [type(one.error) if isinstance(one, Raised) else one.effect for one in answers] == [
        Effect.PERMIT,
        KeyError,
        Effect.PERMIT,
    ]
    with pytest.raises(MemoryError):
        pdp.decide_many([asked("everybody", "read")])


VALUES = {
    "subject.type": ("r.sub == 'user'", {"subject.id": "resource"}),
    "subject.id": ("r.sub == 'alice'", {}),
    "subject.properties": ("r.sub.age == 7", {}),
    "resource.type": ("r.sub == 'document'", {}),
    "resource.id": ("r.sub == '42'", {}),
    "resource.entity": ("r.sub.id == '42' && r.sub.type == 'document'", {}),
    "action": ("r.sub == 'pay%2Bload:edit'", {}),
    "action.name": ("r.sub == 'pay+load:edit'", {}),
    "action.properties": ("'soon' in r.sub", {}),
    "context": ("r.sub == r.sub && r.sub.ip == '::1'", {}),
    "actors": ("r.sub[0] == 'agent/a'", {}),
    "tenant": ("r.sub == 'acme'", {}),
}


@pytest.mark.parametrize(("name", "matcher"), [(name, row[0]) for name, row in VALUES.items()])
def test_each_part_of_a_request_can_be_mapped(name: str, matcher: str) -> None:
    """What stands where is what its name says."""
    rest = ("subject", "resource", "action", "tenant", "actors")
    text = model(matcher).replace("r = sub, obj, act", "r = sub, a, b, c, d, e")
    pdp = CasbinPDP.of_text(text, "p, -, -, -", request=(name, *rest))
    full = AccessRequest(
        Subject("user", "alice", {"age": 7}),
        Action("pay+load:edit", {"soon": True}),
        Resource("document", "42"),
        {"ip": "::1"},
        [Subject("agent", "a")],
        "acme",
    )
    assert effect_of(pdp, full) is Effect.PERMIT


def test_attributes_compare_with_attributes_only() -> None:
    """A view equals the view of the same properties."""
    text = model("r.sub == r.obj").replace("r = sub, obj, act", "r = sub, obj, act, a, b")
    named = ("subject.properties", "resource.properties", "action", "subject", "resource")
    pdp = CasbinPDP.of_text(text, "p, -, -, -", request=named)
    same = AccessRequest(Subject("user", "a", {"x": 1}), "read", Resource("d", "1", {"x": 1}))
    assert effect_of(pdp, same) is Effect.PERMIT
    assert effect_of(pdp, same.about(Resource("d", "1", {"x": 2}))) is Effect.NOT_APPLICABLE
    other = CasbinPDP.of_text(model("r.sub == r.obj"), "p, -, -, -", request=("subject.entity", "resource", "action"))
    assert effect_of(other, asked()) is Effect.NOT_APPLICABLE


def test_a_raw_id_that_is_the_name_of_a_role_is_refused() -> None:
    """A subject id equal to a role would have all that the role has."""
    rules = "p, editors, 42, edit, allow\ng, alice, editors"
    raw = CasbinPDP.of_text(
        RBAC, rules, request=("subject.id", "resource.id", "action"), drops={*DROPPED, "subject.type", "resource.type"}
    )
    assert effect_of(raw, asked("alice")) is Effect.PERMIT
    with pytest.raises(PDPReplyError, match="name of a role"):
        raw.decide(asked("editors"))


def test_what_stands_for_no_id_is_no_id() -> None:
    """A resource of that very id is refused, and a new one is asked about by it."""
    pdp = CasbinPDP.of_text(ACL, "p, user/alice, document/none, edit", new="none")
    assert effect_of(pdp, asked(what=None)) is Effect.PERMIT
    with pytest.raises(PDPReplyError, match="set `new`"):
        pdp.decide(asked(what="none"))
    entity = CasbinPDP.of_text(model("r.obj.id == 'new'"), ALICE, request=("subject", "resource.entity", "action"))
    assert effect_of(entity, asked(what=None)) is Effect.PERMIT


READS = ("subject.id", "subject.type", "action.name", "resource.id", "resource.type")


def test_a_function_maps_what_it_says_it_reads() -> None:
    """What it does not read is refused; it is not taken for pure."""

    def values(request: AccessRequest) -> list[Any]:
        return [request.subject.id, request.resource.id, request.action.name]

    pdp = CasbinPDP.of_text(ACL, "p, alice, 42, edit", request=values, reads=READS)
    assert effect_of(pdp, asked()) is Effect.PERMIT
    assert (pdp.pure, pdp.immediate) == (False, False)
    with pytest.raises(PDPReplyError, match="`tenant`"):
        pdp.decide(asked(tenant="acme"))


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ("abc", "not `str`"),
        (None, "not `NoneType`"),
        (["alice"], "made 1"),
        ([casbin.core_enforcer.EnforceContext("r", "p", "e", "m"), "alice", "42", "edit"], "list or tuple"),
    ],
)
def test_a_function_that_makes_something_else_is_no_answer(made: Any, reason: str) -> None:
    """A text is no sequence of values, and another definition is chosen at construction only."""
    pdp = CasbinPDP.of_text(ACL, "p, alice, 42, edit", request=lambda _request: made, reads=READS)
    with pytest.raises(PDPReplyError, match=reason):
        pdp.decide(asked())


# What is refused at construction


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "no enforcer": (lambda: CasbinPDP(7), "no enforcer of pycasbin"),
    "a fast one": (lambda: CasbinPDP(enforcer(kind=casbin.FastEnforcer)), "`FastEnforcer` is refused.*between threads"),
    "a kind of a fast one": (
        lambda: CasbinPDP(enforcer(kind=type("Mine", (casbin.FastEnforcer,), {}))),
        "`FastEnforcer` is refused",
    ),
    "a synchronised one": (lambda: CasbinPDP(enforcer(kind=casbin.SyncedEnforcer)), "`SyncedEnforcer` is refused"),
    "a distributed one": (lambda: CasbinPDP(enforcer(kind=casbin.DistributedEnforcer)), "`SyncedEnforcer` is refused"),
    "no rules": (lambda: CasbinPDP.of_text(ACL, "# none"), "no rule is loaded"),
    "a misspelled line": (lambda: CasbinPDP.of_text(RBAC, "p2, a, b, c, deny"), "line 1.*`p2`"),
    "a misspelled section": (lambda: CasbinPDP.of_text(RBAC, "deny, a, b, c"), "line 1.*`deny`"),
    "a misspelled effect": (lambda: CasbinPDP.of_text(RBAC, "p, a, b, c, Deny"), "rule 1 of `p` has another effect"),
    "a short rule": (lambda: CasbinPDP.of_text(RBAC, "p, a, b, c"), "rule 1 of `p` has 3 values"),
    "a broken line": (lambda: CasbinPDP.of_text(RBAC, "p, a, b], c, deny"), "cannot be parsed"),
    "a broken model": (lambda: CasbinPDP.of_text("nonsense", ALICE), "cannot be parsed"),
    "another effect": (lambda: CasbinPDP.of_text(model("True", effect="all"), ALICE), "cannot be parsed"),
    "no file": (lambda: CasbinPDP.of_files("no.conf", "no.csv"), "cannot read `no.conf`"),
    "too few values": (lambda: CasbinPDP.of_text(DOMAINS, "p, a, b, c, d"), "asks for 4 values"),
    "no name": (lambda: CasbinPDP.of_text(ACL, ALICE, name=""), "`name` must be"),
    "no revision": (lambda: CasbinPDP.of_text(ACL, ALICE, revision=""), "`revision` must be"),
    "threaded": (lambda: CasbinPDP.of_text(ACL, ALICE, threaded=1), "`threaded` must be"),
    "pure": (lambda: CasbinPDP.of_text(ACL, ALICE, pure=1), "`pure` and"),
    "another definition": (lambda: CasbinPDP.of_text(ACL, ALICE, definition="2"), "does not define `r2`"),
    "an unknown part": (
        lambda: CasbinPDP.of_text(ACL, ALICE, request=("subject", "obj", "action")),
        "`obj` is no part",
    ),
    "a text": (lambda: CasbinPDP.of_text(ACL, ALICE, request="subject"), "`str` is no part"),
    "dropping the tenant": (lambda: CasbinPDP.of_text(ACL, ALICE, drops={"tenant"}), "`tenant` is never dropped"),
    "dropping nonsense": (lambda: CasbinPDP.of_text(ACL, ALICE, drops={"age"}), "`age` in `drops`"),
    "drops as a text": (lambda: CasbinPDP.of_text(ACL, ALICE, drops="context"), "not `str`"),
    "losing the type": (
        lambda: CasbinPDP.of_text(ACL, ALICE, request=("subject.id", "resource", "action")),
        "`subject.type` does not reach Casbin",
    ),
    "reads without a function": (lambda: CasbinPDP.of_text(ACL, ALICE, reads=READS), "`reads` is for a function"),
    "a function that reads nothing": (lambda: CasbinPDP.of_text(ACL, ALICE, request=lambda _: []), "does not reach"),
    "no text for new ones": (lambda: CasbinPDP.of_text(ACL, ALICE, new=""), "`new` must be"),
}


@pytest.mark.parametrize(("make", "reason"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_told_at_construction(make: Callable[[], Any], reason: str) -> None:
    """What could only answer wrongly is not built."""
    with pytest.raises(ConfigurationError, match=reason):
        make()


def test_a_fast_model_is_refused_in_any_enforcer() -> None:
    """Its filter is shared, whoever asks."""
    fast = casbin.FastModel([0])
    fast.load_model_from_text(ACL)
    with pytest.raises(ConfigurationError, match="`FastModel` is refused"):
        CasbinPDP(casbin.Enforcer(fast, casbin.persist.adapters.string_adapter.StringAdapter(ALICE)))


def test_an_enforcer_that_cannot_be_copied_is_refused() -> None:
    """A role manager that holds a lock or a connection is made anew by a callable instead."""
    source = enforcer()
    source.rm_map["g"].lock = threading.Lock()
    with pytest.raises(ConfigurationError, match="cannot be copied"):
        CasbinPDP(source)


def fake_versions(**installed: str) -> Callable[[str], str]:
    def version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    return version


IMPOSTORS = {
    "the older one": ({"casbin": "1.43.0"}, "in place of `pycasbin`"),
    "both": ({"casbin": "1.43.0", "pycasbin": "2.8.0"}, "`casbin` 1.43.0 is installed over `pycasbin` 2.8.0"),
    "a stranger": ({}, "another module than `pycasbin`"),
}


@pytest.mark.parametrize(("installed", "reason"), IMPOSTORS.values(), ids=IMPOSTORS)
def test_the_libraries_of_one_name_are_told_apart(
    installed: dict[str, str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two distributions and any stray file import as `casbin`; the mend names the extra."""
    monkeypatch.setattr(names, "version", fake_versions(**installed))
    with pytest.raises(ConfigurationError, match=f"{reason}.*pep.casbin."):
        CasbinPDP(7)


def test_a_stub_or_nothing_at_all_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module without the marks of the library, and none."""
    monkeypatch.setattr(names, "import_module", lambda _name: pytest)
    with pytest.raises(ConfigurationError, match="another module"):
        CasbinPDP(7)

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(names, "import_module", missing)
    with pytest.raises(ConfigurationError, match=r"install `pep\[casbin\]`"):
        CasbinPDP(7)


# The off switch


def test_an_enforcer_that_is_turned_off_decides_nothing() -> None:
    """At construction and at every decision: their flag permits everything."""
    source = enforcer()
    source.enable_enforce(False)
    assert source.enforce("eve", "anything", "edit") is True
    with pytest.raises(ConfigurationError, match="turned off"):
        CasbinPDP(source)
    source.enable_enforce(True)
    pdp = CasbinPDP(source)
    source.enable_enforce(False)
    with pytest.raises(PDPReplyError, match="turned off"):
        pdp.decide(asked())
    source.enable_enforce(True)
    assert effect_of(pdp, asked()) is Effect.PERMIT


# Changes


def test_a_change_decides_after_a_reload_and_nothing_does_before() -> None:
    """A rule that was removed never permits again, and listeners hear of the swap."""
    source, heard = enforcer(ACL, ALICE), list[Any]()
    pdp = CasbinPDP(source)
    pdp.subscribe(heard.append)
    before = pdp.revision
    source.add_policy("user/bob", "document/42", "read")
    with pytest.raises(PDPReplyError, match="`reload\\(\\)`"):
        pdp.decide(asked(act="read"))
    swapped = pdp.reload()
    assert effect_of(pdp, asked("bob", "read")) is Effect.PERMIT
    assert heard == [swapped]
    assert (swapped.old, swapped.new) == (before, pdp.revision)
    assert before != pdp.revision
    source.load_policy()
    with pytest.raises(PDPReplyError, match="`reload\\(\\)`"):
        pdp.decide(asked("bob", "read"))


def test_without_a_rule_left_nothing_applies() -> None:
    """Casbin asks the matcher once where there is no rule, and permits by whatever looks true."""
    source = enforcer(model("r.sub"), ALICE)
    pdp = CasbinPDP(source)
    source.remove_policy("user/alice", "document/42", "read")
    assert source.enforce("user/eve", "document/1", "read") is True
    pdp.reload()
    assert effect_of(pdp, asked(act="read")) is Effect.NOT_APPLICABLE


def test_a_reload_that_fails_changes_nothing(tmp_path: Path) -> None:
    """Files are read again at each reload; what does not load leaves what is in effect."""
    model_file, policy = tmp_path / "model.conf", tmp_path / "policy.csv"
    model_file.write_text(ACL)
    policy.write_text(ALICE)
    pdp = CasbinPDP.of_files(model_file, policy, revision="one")
    policy.write_text("p, user/alice")
    with pytest.raises(ConfigurationError, match="rule 1"):
        pdp.reload()
    assert (pdp.revision, effect_of(pdp, asked(act="read"))) == ("one", Effect.PERMIT)
    with pytest.raises(ConfigurationError, match="`revision` must be"):
        pdp.reload(revision="")
    policy.write_text("p, user/bob, document/42, read")
    pdp.reload(revision="two")
    assert (pdp.revision, effect_of(pdp, asked(act="read"))) == ("two", Effect.NOT_APPLICABLE)
    pdp.reload(enforcer(ACL, ALICE))
    assert effect_of(pdp, asked(act="read")) is Effect.PERMIT


def test_all_listeners_hear_of_a_swap_though_one_fails() -> None:
    """The failure goes on once everybody was told."""
    heard: list[Any] = []
    pdp = CasbinPDP.of_text(ACL, ALICE)

    def fails(_event: object) -> None:
        raise LookupError

    pdp.subscribe(fails)
    pdp.subscribe(heard.append)
    with pytest.raises(LookupError):
        pdp.reload()
    assert len(heard) == 1


def test_the_revision_is_that_of_model_and_rules() -> None:
    """Their order matters where effects go by priority, and only there."""
    one, two = "p, a, b, c", "p, d, e, f"
    assert CasbinPDP.of_text(ACL, f"{one}\n{two}").revision == CasbinPDP.of_text(ACL, f"{two}\n{one}").revision
    assert CasbinPDP.of_text(ACL, one).revision != CasbinPDP.of_text(ACL, two).revision
    assert CasbinPDP.of_text(ACL, one).revision != CasbinPDP.of_text(model("True == True"), one).revision
    first = model("True == True", effect="priority(p.eft) || deny")
    assert CasbinPDP.of_text(first, f"{one}\n{two}").revision != CasbinPDP.of_text(first, f"{two}\n{one}").revision


def test_another_definition_of_the_model_is_used_where_it_is_named() -> None:
    """`r2`, `p2` and `m2` decide; an `e2` of its own is refused, since Casbin would go by `e`."""
    text = ACL.replace("r = sub, obj, act\n", "r = sub, obj, act\nr2 = sub, act\n")
    text = text.replace("p = sub, obj, act\n", "p = sub, obj, act\np2 = sub, act\n")
    text = text.replace("[matchers]\n", "[matchers]\nm2 = r2.sub == p2.sub && r2.act == p2.act\n")
    drops = {*DROPPED, "resource.id", "resource.type"}
    pdp = CasbinPDP.of_text(text, "p2, user/alice, edit", definition="2", request=("subject", "action"), drops=drops)
    assert pdp.decide(asked()).policies == ("p2, user/alice, edit",)
    assert effect_of(pdp, asked("bob")) is Effect.NOT_APPLICABLE
    strange = text.replace("[policy_effect]\n", "[policy_effect]\ne2 = !some(where (p.eft == deny))\n")
    with pytest.raises(ConfigurationError, match="`e2` is not what Casbin combines by"):
        CasbinPDP.of_text(strange, "p2, a, b", definition="2", request=("subject", "action"), drops=drops)


def test_an_asynchronous_enforcer_serves_both_worlds(tmp_path: Path) -> None:
    """Only its loading has to be awaited; one that was not loaded is refused."""
    made = casbin.Model()
    made.load_model_from_text(ACL)
    (tmp_path / "policy.csv").write_text(ALICE)
    source = casbin.AsyncEnforcer(made, casbin.persist.adapters.asyncio.AsyncFileAdapter(str(tmp_path / "policy.csv")))
    with pytest.raises(ConfigurationError, match="no rule is loaded"):
        CasbinPDP(source)
    asyncio.run(source.load_policy())
    assert effect_of(CasbinPDP(source), asked(act="read")) is Effect.PERMIT


# What it says of itself


PURE = {
    "Casbin's own functions": (lambda: enforcer(), True),
    "the clock": (lambda: enforcer(model("timeMatch('_', '_')"), ALICE), False),
    "the clock in a rule": (lambda: enforcer(model("eval(p.sub)"), "p, timeMatch(r.sub), b, c"), False),
}


@pytest.mark.parametrize(("make", "pure"), PURE.values(), ids=PURE)
def test_it_is_pure_where_nothing_else_is_called(make: Callable[[], Any], pure: bool) -> None:
    """The clock, and any function of the application, may answer differently the next time."""
    assert CasbinPDP(make()).pure is pure
    assert CasbinPDP(make(), pure=not pure).pure is not pure


def test_a_function_of_the_application_makes_it_impure() -> None:
    """In a matcher, and where roles are matched."""
    called, matched = enforcer(), enforcer()
    called.add_function("mine", lambda *_: True)
    matched.add_named_matching_func("g", print)
    for source in (called, matched):
        pdp = CasbinPDP(source)
        assert (pdp.pure, pdp.immediate) == (False, False)
    assert CasbinPDP(enforcer(), threaded=True).immediate is False


def test_a_child_is_asking_nothing_yet() -> None:
    """What is done in a forked child: what this thread was asking counts no more, and what it taught is forgotten."""
    depths: list[int] = []

    def fork(_name: str) -> bool:
        depths.append(pdp._taken[0]._depth)
        # As where this thread is the one that forks.
        pdp._taken[0]._renew()
        depths.append(pdp._taken[0]._depth)
        return True

    source = enforcer(RBAC.replace("m = ", "m = fork(r.sub) && "))
    source.add_function("fork", fork)
    pdp = CasbinPDP(source)
    before = roles_of(pdp)
    pdp.decide(asked("alice"))
    assert (depths[:2], roles_of(pdp)) == ([1, 0], before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_forgets_too() -> None:
    """What a thread of the parent was asking is none of the child's: names are forgotten there after each question."""
    source = enforcer(RBAC.replace("m = ", "m = wait(r.sub) && "))
    gate, inside = threading.Event(), threading.Event()

    def wait(name: str) -> bool:
        if name == "user/slow":
            inside.set()
            gate.wait(10.0)
        if name == "user/forking":
            # As where this thread is the one that forks.
            pdp._taken[0]._renew()
        return True

    source.add_function("wait", wait)
    pdp = CasbinPDP(source)
    before = roles_of(pdp)
    thread = threading.Thread(target=pdp.decide, args=(asked("slow"),))
    thread.start()
    assert inside.wait(10.0)
    child = os.fork()
    if not child:
        status = 1
        try:
            known = [roles_of(pdp) == before]
            for name in ("alice", "carol", "forking", "dave"):
                pdp.decide(asked(name))
                known.append(roles_of(pdp) == before)
            status = 0 if all(known) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    gate.set()
    thread.join()


def test_a_class_of_the_application_makes_it_impure() -> None:
    """An enforcer, an effector or a role manager of its own may ask anybody: a directory, a database."""
    managed, effected = enforcer(), enforcer()

    class Directory(type(managed.rm_map["g"])):  # type: ignore[misc]
        """Knows its members itself."""

    class Effector(type(effected.eft)):  # type: ignore[misc]
        """Combines in its own way."""

    class Ours(casbin.Enforcer):  # type: ignore[misc,name-defined]
        """Decides in its own way."""

    managed.set_role_manager(Directory(10))
    managed.build_role_links()
    effected.eft = Effector()
    ours = Ours(managed.model, managed.adapter)
    for source in (managed, effected, ours):
        pdp = CasbinPDP(source)
        assert (pdp.pure, pdp.immediate) == (False, False)
        assert effect_of(pdp, asked()) is Effect.PERMIT
        assert CasbinPDP(source, pure=True).pure


def test_what_it_says_of_itself() -> None:
    """A name tells what it is."""
    assert "casbin" in repr(CasbinPDP(enforcer()))


# Threads


def test_a_decision_never_sees_half_a_policy() -> None:
    """Casbin clears its roles before it builds them anew: meanwhile it permits whom a role suspends."""
    source = enforcer()
    pdp = CasbinPDP(source)
    building, go_on = threading.Event(), threading.Event()
    manager = source.get_role_manager()
    add = manager.add_link

    def slowly(user: str, role: str, *domain: str) -> None:
        if role == "suspended":
            building.set()
            go_on.wait(30)
        add(user, role, *domain)

    manager.add_link = slowly
    loading = threading.Thread(target=source.load_policy)
    loading.start()
    try:
        assert building.wait(30)
        assert source.enforce("user/bob", "document/42", "edit") is True
        assert effect_of(pdp, asked("bob")) is Effect.DENY
        with pytest.raises(ConfigurationError, match="once `load_policy` is through"):
            pdp.reload()
    finally:
        go_on.set()
        loading.join()
    pdp.reload()
    assert effect_of(pdp, asked("bob")) is Effect.DENY


def test_a_role_manager_of_the_application_is_taken_as_it_is() -> None:
    """What it knows of links is its own affair."""
    source = enforcer(RBAC, RULES)

    class Directory:
        """Asks a directory, say."""

        matching_func = None

        def has_link(self, user: str, role: str, *_domain: str) -> bool:
            return (user, role) == ("user/carol", "editors")

    source.set_role_manager(Directory())
    source.model["g"]["g"].rm = source.get_role_manager()
    pdp = CasbinPDP(source)
    assert effect_of(pdp, asked("carol")) is Effect.PERMIT
    assert effect_of(pdp, asked("alice")) is Effect.NOT_APPLICABLE


def test_one_thread_at_a_time_is_inside_casbin() -> None:
    """Its role managers learn while they answer: whoever comes second waits."""
    inside, second = threading.Event(), threading.Event()
    late: list[Any] = []

    def looks(name: str) -> bool:
        if name == "user/bob":
            second.set()
            return True
        other = threading.Thread(target=lambda: late.append(effect_of(pdp, asked("bob"))))
        other.start()
        late.append(other)
        inside.set()
        # Were there no lock, the other would be inside at once.
        late.append(second.wait(0.3))
        return True

    source = enforcer(model("looks(r.sub)"), ALICE)
    source.add_function("looks", looks)
    pdp = CasbinPDP(source)
    assert effect_of(pdp, asked("alice")) is Effect.PERMIT
    late[0].join()
    assert late[1:] == [False, Effect.PERMIT]


def test_a_function_of_a_matcher_may_ask_again() -> None:
    """The same thread enters twice, and what the first question learned is kept until it is answered."""
    source = enforcer(RBAC.replace("m = ", "m = again(r.sub) && "), RULES)

    def again(name: str) -> bool:
        return name == "user/carol" or effect_of(pdp, asked("carol")) is Effect.NOT_APPLICABLE

    source.add_function("again", again)
    pdp = CasbinPDP(source)
    assert effect_of(pdp, asked("alice")) is Effect.PERMIT


def roles_of(pdp: CasbinPDP) -> dict[str, tuple[set[str], set[str]]]:
    """What Casbin knows: name → its roles, and who has it as one."""
    known = pdp._taken[0]._enforcer.rm_map["g"].all_roles
    return {name: ({one.name for one in role.roles}, {one.name for one in role.users}) for name, role in known.items()}


def test_what_was_asked_is_forgotten() -> None:
    """A million ids leave nothing behind."""
    pdp = CasbinPDP.of_text(RBAC, RULES)
    effect_of(pdp, asked("alice"))
    before = roles_of(pdp)
    for number in range(100):
        effect_of(pdp, asked(f"user-{number}"))
    assert roles_of(pdp) == before


def test_an_id_that_was_asked_about_does_not_change_later_answers() -> None:
    """Where roles are patterns, each name Casbin learns is one more of them."""
    source = enforcer(
        RBAC.replace("keyMatch2(r.obj, p.obj)", "g(r.obj, p.obj)"),
        "p, user/zed, all, edit, allow\np, staff, all, edit, allow\ng, user/*, staff\ng, document/*, all",
    )
    source.add_named_matching_func("g", casbin.util.key_match_func)
    pdp = CasbinPDP(source)
    before = roles_of(pdp)
    for name in ("a*", "alice", "%", "a", "alice"):
        assert effect_of(pdp, asked(name)) is Effect.PERMIT
        assert effect_of(pdp, asked(name, kind="service")) is Effect.NOT_APPLICABLE
        assert roles_of(pdp) == before


def test_threads_get_the_answers_to_their_own_questions() -> None:
    """Eight at once, while the policy is swapped under them."""
    pdp = CasbinPDP.of_text(RBAC, RULES)
    expected = {"alice": Effect.PERMIT, "bob": Effect.DENY, "eve": Effect.NOT_APPLICABLE}
    wrong: list[object] = []

    def ask(name: str) -> None:
        for number in range(times(60, 1500)):
            told = effect_of(pdp, asked(name, what=str(number)))
            wrong.extend([told] if told is not expected[name] else [])

    threads = [threading.Thread(target=ask, args=(name,)) for name in [*expected] * 3]
    for thread in threads:
        thread.start()
    for _ in range(5):
        pdp.reload()
    for thread in threads:
        thread.join()
    assert wrong == []
