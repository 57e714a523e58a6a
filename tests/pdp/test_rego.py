"""Rego in process, by either engine: exact permits only, no error passed over, nothing lost on the way."""

from __future__ import annotations

import gc
import json
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep import AccessRequest, Decision, Effect, Obligation, Resource, Subject
from pep.errors import ConfigurationError, PDPReplyError
from pep.pdp import rego, rego_regopy, rego_regorus
from pep.pdp.rego import RegoPDP
from pep.pdp.rego_input import UNDEFINED, ResultMapping, decision_of_result, input_of
from pep.pdp.rego_policies import rego_policies
from pep.plan import Raised
from tests.proving import times

ENGINES = [
    pytest.param(name, marks=pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed"))
    for name in ("regorus", "regopy")
]
engines = pytest.mark.parametrize("engine", ENGINES)
regorus = pytest.mark.skipif(find_spec("regorus") is None, reason="regorus is not installed")
regopy = pytest.mark.skipif(find_spec("regopy") is None, reason="regopy is not installed")
installed = pytest.mark.skipif(not any(map(find_spec, rego.ENGINES.values())), reason="no Rego engine is installed")

QUERY = "data.app.authz.allow"
ALICE = """
package app.authz

default allow := false

allow if input.subject.id == "alice"
"""


def asked(who: str = "alice", what: str | None = "42", **more: Any) -> AccessRequest:
    resource = Resource.new("document") if what is None else Resource("document", what)
    return AccessRequest(Subject("user", who), "edit", resource, **more)


def policy(body: str) -> str:
    return f"package app.authz\n{body}\n"


def effect_of(pdp: RegoPDP, request: AccessRequest) -> Effect:
    return pdp.decide(request).effect


# Reading a result

MAPPED: dict[str, tuple[Any, Effect]] = {
    "allowed": ({"allow": True, "helper": 7}, Effect.PERMIT),
    "denied": ({"allow": False}, Effect.DENY),
    "undefined within": ({"helper": True}, Effect.NOT_APPLICABLE),
    "undefined": (UNDEFINED, Effect.NOT_APPLICABLE),
}


@pytest.mark.parametrize(("result", "effect"), MAPPED.values(), ids=MAPPED)
def test_a_mapped_result_is_read(result: Any, effect: Effect) -> None:
    """`allow` decides; what no part of the mapping names is not looked at."""
    assert decision_of_result(result, ResultMapping()).effect is effect


def test_every_part_of_a_decision_can_be_mapped() -> None:
    """Obligations, advice, reasons, policies and a ttl, wherever the policy has them."""
    duty = {"id": "o1", "type": "redact", "properties": {"paths": ["a"]}}
    told = {
        "d": {"ok": True, "why": ["because"]},
        "obligations": [duty],
        "advice": [duty],
        "policies": ["p1"],
        "ttl": 5,
    }
    mapping = ResultMapping(allow="d.ok", reasons="d.why")
    obligation = Obligation("redact", {"paths": ["a"]}, "o1")
    assert decision_of_result(told, mapping, revision="r", id="i") == Decision(
        Effect.PERMIT, [obligation], [obligation], ["because"], ["p1"], "r", 5, "i"
    )
    silent = ResultMapping(allow="d.ok", obligations=None, advice=None, reasons=None, policies=None, ttl=None)
    assert decision_of_result(told, silent) == Decision(Effect.PERMIT)
    assert decision_of_result({"d": {}}, ResultMapping(allow="d.ok", reasons="e.f")).effect is Effect.NOT_APPLICABLE


NO_DECISIONS: list[Any] = [
    {"allow": "true"},
    {"allow": 1},
    {"allow": None},
    {"allow": [True]},
    {"allow": True, "obligations": {}},
    {"allow": True, "obligations": [{"type": "redact"}]},
    {"allow": True, "advice": ["log"]},
    {"allow": True, "reasons": "because"},
    {"allow": True, "reasons": [1]},
    {"allow": True, "policies": None},
    {"allow": True, "ttl": -1},
    {"allow": True, "ttl": True},
    True,
    None,
    [],
    "undefined",
]


@pytest.mark.parametrize("result", NO_DECISIONS, ids=str)
def test_a_result_that_is_not_what_the_mapping_reads_is_no_decision(result: Any) -> None:
    """A permit with a duty in another form is none: it was not understood."""
    with pytest.raises(PDPReplyError):
        decision_of_result(result, ResultMapping())


def test_something_in_the_way_is_no_decision() -> None:
    """A path leads through objects only."""
    with pytest.raises(PDPReplyError, match="around `ok`"):
        decision_of_result({"d": True}, ResultMapping(allow="d.ok"))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 2)
    | st.floats(allow_nan=False)
    | st.sampled_from(["true", "allow", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["allow", "result", "x"]), inner),
    max_leaves=5,
)


@regopy
def test_rego_cpp_is_not_asked_about_very_many_values() -> None:
    """It would take seconds, whatever the policy reads: whoever sends a long list must not bring about a timeout."""
    pdp = RegoPDP(ALICE, query=QUERY, engine="regopy")
    assert effect_of(pdp, asked(context={"many": [1] * 4_000})) is Effect.PERMIT
    for context in ({"many": [1] * 4_097}, {f"{number:x}": 0 for number in range(4_097)}):
        with pytest.raises(PDPReplyError, match="4096 values"):
            pdp.decide(asked(context=context))


@engines
def test_what_an_engine_quotes_is_told_to_nobody(engine: str) -> None:
    """The text of an error may hold a value of the request; where it arose is told, as far as that is known."""
    pdp = RegoPDP(
        {"levels.rego": "package app.authz\nallow if input.context.level + 1 > 2"},
        query="data.app.authz.allow",
        engine=engine,
    )
    with pytest.raises(PDPReplyError, match="could not answer") as raised:
        pdp.decide(AccessRequest(Subject("user", "alice"), "read", Resource("doc", "1"), {"level": "a secret"}))
    assert raised.value.__cause__ is None
    assert "secret" not in str(raised.value)
    assert ("in `levels.rego`, line 2" in str(raised.value)) is (engine == "regorus")


@given(JSON | st.just(UNDEFINED), st.booleans())
@settings(max_examples=times(300, 50_000), deadline=None)
def test_only_an_exact_permit_permits(result: Any, mapped: bool) -> None:
    """Promise 5: exactly `true`, where it is looked for, and nothing that looks like it."""
    permits = result is True if not mapped else type(result) is dict and result.get("allow") is True
    try:
        effect = decision_of_result(result, ResultMapping() if mapped else None).effect
    except PDPReplyError:
        assert not permits
    else:
        assert (effect is Effect.PERMIT) is permits


@pytest.mark.parametrize("path", ["", ".", "a.", "a..b", 7, None])
def test_a_path_is_names_with_dots_between(path: Any) -> None:
    """A part that is no path could never be found."""
    with pytest.raises(ConfigurationError, match="names with dots"):
        ResultMapping(allow=path)


def test_the_input_holds_all_of_a_request() -> None:
    """Properties, context, actors and tenant, and no id where there is none."""
    request = AccessRequest(
        Subject("user", "alice", {"a": 1}),
        "edit",
        Resource.new("document"),
        {"ip": "::1"},
        [Subject("agent", "b")],
        "acme",
    )
    assert input_of(request) == {
        "subject": {"type": "user", "id": "alice", "properties": {"a": 1}},
        "action": {"name": "edit"},
        "resource": {"type": "document"},
        "context": {"ip": "::1"},
        "actors": [{"type": "agent", "id": "b"}],
        "tenant": "acme",
    }


# What the engines answer


@engines
def test_a_rule_decides(engine: str) -> None:
    """True permits, false denies, and a decision tells the revision."""
    pdp = RegoPDP(ALICE, query=QUERY, engine=engine)
    assert pdp.decide(asked()) == Decision(Effect.PERMIT, revision=pdp.revision)
    assert effect_of(pdp, asked("eve")) is Effect.DENY
    assert pdp.name == f"rego:{engine}:{QUERY}"
    assert engine in repr(pdp)


RESULTS = [
    ("allow := true", Effect.PERMIT),
    ("allow := false", Effect.DENY),
    ("allow if input.nothing", Effect.NOT_APPLICABLE),
    ('allow := "true"', None),
    ("allow := 1", None),
    ("allow := null", None),
    ("allow := [true]", None),
    ("allow := {true}", None),
    ('allow := {"allow": true}', None),
    ("allow contains true if input.subject", None),
    ('allow := "undefined"', None),
    ('allow := "<undefined>"', None),
]


@engines
@pytest.mark.parametrize(("body", "effect"), RESULTS, ids=[row[0] for row in RESULTS])
def test_only_exactly_true_permits(engine: str, body: str, effect: Effect | None) -> None:
    """Promise 5, by policies: undefined is not applicable, and every other value is no decision."""
    pdp = RegoPDP(policy(body), query=QUERY, engine=engine)
    if effect is None:
        with pytest.raises(PDPReplyError, match="exactly `true` and `false`"):
            pdp.decide(asked())
    else:
        assert effect_of(pdp, asked()) is effect


FAILING = {
    "conflicting values": "level := 1 if input.action\nlevel := 2 if input.subject\nallow if not level > 2",
    "a conflict under a negation": "level := 1 if input.action\nlevel := 2 if input.subject\nallow if not level",
    "a conflict of its own": "allow := true if input.action\nallow := false if input.subject",
    "a builtin that fails under a negation": "locked if to_number(input.subject.id) > 1\nallow if not locked",
    "a division by zero under a negation": "locked if 1 / 0 > 0\nallow if not locked",
}


@engines
@pytest.mark.parametrize("body", FAILING.values(), ids=FAILING)
def test_a_rule_that_fails_is_no_decision(engine: str, body: str) -> None:
    """Nor is it undefined: under a negation that would permit."""
    pdp = RegoPDP(policy(body), query=QUERY, engine=engine)
    for _ in range(2):
        with pytest.raises(PDPReplyError, match="could not answer"):
            pdp.decide(asked())


@regorus
def test_why_compiled_programs_of_regorus_are_not_used() -> None:
    """Two rules in conflict are undefined there, and what is undefined is not locked."""
    library: Any = pytest.importorskip("regorus")
    body = policy(FAILING["a conflict under a negation"])
    program = library.Program.compile_from_modules("{}", [("a.rego", body)], [QUERY])
    machine = library.Rvm()
    machine.load_program(program)
    machine.set_input_json(json.dumps(input_of(asked())))
    assert machine.execute() == "true"
    with pytest.raises(PDPReplyError):
        RegoPDP(body, query=QUERY, engine="regorus").decide(asked())


@engines
def test_the_document_of_a_package_decides_by_a_mapping(engine: str) -> None:
    """Obligations and reasons of the policy are those of the decision."""
    body = """
    allow if input.tenant == "acme"
    obligations := [{"id": "o1", "type": "redact", "properties": {"paths": ["a"]}}]
    reasons contains "it is theirs" if allow
    """
    pdp = RegoPDP(policy(body), query="data.app.authz", engine=engine, mapping=ResultMapping())
    decision = pdp.decide(asked(tenant="acme"))
    assert (decision.effect, decision.reasons) == (Effect.PERMIT, ("it is theirs",))
    assert decision.obligations == (Obligation("redact", {"paths": ["a"]}, "o1"),)
    assert effect_of(pdp, asked(tenant="evil")) is Effect.NOT_APPLICABLE


@engines
def test_a_batch_is_answered_in_order_and_one_that_fails_fails_alone(engine: str) -> None:
    """One snapshot, and no answer of another's."""
    body = 'default allow := false\nallow if input.subject.id == "alice"\nallow if to_number(input.subject.id) > 5'
    pdp = RegoPDP(policy(body), query=QUERY, engine=engine)
    first, lost, last = pdp.decide_many([asked("7"), asked("bob"), asked("3")])
    assert isinstance(lost, Raised)
    assert type(lost.error) is PDPReplyError
    assert [one.effect for one in (first, last) if not isinstance(one, Raised)] == [Effect.PERMIT, Effect.DENY]


ODD = [
    "alice\0",
    "alice\n",
    'a"b',
    "a\\b",
    "\x01",
    "\x7f",
    "\u2028",
    "é",
    "e\u0301",
    "😀",
    " alice",
    "{x}",
    "a`b",
    "\\u0061",
]


@engines
@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_an_id_is_itself_and_no_other(engine: str, name: str) -> None:
    """What an engine would misread is refused: a text that ends at its NUL would be somebody else's."""
    same = "allow if input.subject.id == input.context.known\ndefault allow := false"
    pdp = RegoPDP(policy(same), query=QUERY, engine=engine)
    alice = RegoPDP(ALICE, query=QUERY, engine=engine)
    try:
        assert effect_of(pdp, asked(name, context={"known": name})) is Effect.PERMIT
        assert effect_of(pdp, asked(name, context={"known": "alice"})) is Effect.DENY
        assert effect_of(alice, asked(name)) is Effect.DENY
    except PDPReplyError:
        assert engine == "regopy"
        assert json.dumps(name, ensure_ascii=False)[1:-1] != name


@engines
def test_a_literal_of_a_policy_is_compared_as_it_is_written(engine: str) -> None:
    """Letters beyond ASCII in a policy, in the data and in a request are one text."""
    body = 'default allow := false\nallow if {\n input.subject.id == "zoë"\n input.subject.id == data.owner\n}'
    pdp = RegoPDP(policy(body), query=QUERY, engine=engine, data={"owner": "zoë"})
    assert effect_of(pdp, asked("zoë")) is Effect.PERMIT
    assert effect_of(pdp, asked("zoe")) is Effect.DENY


@regopy
@pytest.mark.parametrize("name", ['a"b', "a\\b", "alice\0", "\n"], ids=ascii)
def test_a_request_that_rego_cpp_would_misread_is_refused(name: str) -> None:
    """It takes an escape for the letters it is spelled with: three letters would be four."""
    with pytest.raises(PDPReplyError, match="use `regorus`"):
        RegoPDP(ALICE, query=QUERY, engine="regopy").decide(asked(name))


@regopy
def test_data_that_rego_cpp_would_misread_are_refused() -> None:
    """At construction, with the mend."""
    with pytest.raises(ConfigurationError, match="use `regorus`"):
        RegoPDP(ALICE, query=QUERY, engine="regopy", data={"owner": 'a"b'})


# What is refused at construction


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "no policies": (lambda: RegoPDP({}, query=QUERY), "policies are a text of Rego"),
    "an empty text": (lambda: RegoPDP("", query=QUERY), "policies are a text of Rego"),
    "a number": (lambda: RegoPDP(7, query=QUERY), "policies are a text of Rego"),  # type: ignore[arg-type]
    "texts in a list": (lambda: RegoPDP(["a"], query=QUERY), "`Path`s"),  # type: ignore[list-item]
    "no such file": (lambda: RegoPDP(Path("nowhere.rego"), query=QUERY), "cannot read the policy file `nowhere.rego`"),
    "no path": (lambda: RegoPDP(ALICE, query="app.authz"), "a query is the path"),
    "a query": (lambda: RegoPDP(ALICE, query="data.app[_]"), "a query is the path"),
    "a misspelled rule": (lambda: RegoPDP(ALICE, query="data.app.authz.allwo"), "no policy can answer"),
    "a misspelled package": (lambda: RegoPDP(ALICE, query="data.app.auth.allow"), "no policy can answer"),
    "no package": (lambda: RegoPDP("allow := true", query="data.allow"), "no policy can answer"),
    "a number as data": (lambda: RegoPDP(ALICE, query=QUERY, data=7), "data document"),  # type: ignore[arg-type]
    "a set in the data": (lambda: RegoPDP(ALICE, query=QUERY, data={"a": {1}}), "data document"),
    "no such data": (lambda: RegoPDP(ALICE, query=QUERY, data=Path("no.json")), "cannot read"),
    "a mapping of results": (lambda: RegoPDP(ALICE, query=QUERY, mapping={}), "ResultMapping"),  # type: ignore[arg-type]
    "another engine": (lambda: RegoPDP(ALICE, query=QUERY, engine="opa"), "`regorus` or `regopy`"),
    "no name": (lambda: RegoPDP(ALICE, query=QUERY, name=""), "`name` must be"),
    "no revision": (lambda: RegoPDP(ALICE, query=QUERY, revision=""), "`revision` must be"),
    "threaded": (lambda: RegoPDP(ALICE, query=QUERY, threaded=1), "`threaded`"),  # type: ignore[arg-type]
    "pure": (lambda: RegoPDP(ALICE, query=QUERY, pure="no"), "`pure`"),  # type: ignore[arg-type]
}


@installed
@pytest.mark.parametrize(("make", "reason"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_told_at_construction(make: Callable[[], Any], reason: str) -> None:
    """What could never answer is not built."""
    with pytest.raises(ConfigurationError, match=reason):
        make()


@engines
@pytest.mark.parametrize("body", ["allow := {", "allow if nobody(1)", "allow if x"])
def test_a_policy_that_does_not_compile_is_told(engine: str, body: str, capfd: pytest.CaptureFixture[str]) -> None:
    """At construction, not at the first question, and not on the terminal."""
    with pytest.raises(ConfigurationError, match="does not compile"):
        RegoPDP(policy(body), query=QUERY, engine=engine)
    assert capfd.readouterr() == ("", "")


def test_a_missing_engine_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever was wanted."""

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(rego_regorus, "import_module", missing)
    monkeypatch.setattr(rego_regopy, "import_module", missing)
    for engine in ("regorus", "regopy"):
        with pytest.raises(ConfigurationError, match=r"install `pep\[rego\]`"):
            RegoPDP(ALICE, query=QUERY, engine=engine)
    monkeypatch.setattr(rego, "find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError, match=r"install `pep\[rego\]`"):
        RegoPDP(ALICE, query=QUERY)


@installed
def test_whichever_engine_is_there_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a stated order, unless one is named."""
    there = [name for name in rego.ENGINES if find_spec(name) is not None]
    assert RegoPDP(ALICE, query=QUERY).engine == there[0]
    monkeypatch.setattr(rego, "find_spec", lambda name: True if name == there[-1] else None)
    assert RegoPDP(ALICE, query=QUERY).engine == there[-1]


# Files, reloads, revisions


@installed
def test_files_are_read_again_at_a_reload(tmp_path: Path) -> None:
    """A folder without its tests, and data; what does not load leaves what is in effect."""
    (tmp_path / "authz.rego").write_text(policy("allow if input.subject.id == data.owner"))
    (tmp_path / "authz_test.rego").write_text("this is no policy")
    data = tmp_path / "data.json"
    data.write_text('{"owner": "alice"}')
    pdp, heard = RegoPDP(tmp_path, query=QUERY, data=data), list[Any]()
    pdp.subscribe(heard.append)
    assert effect_of(pdp, asked()) is Effect.PERMIT
    before = pdp.revision
    data.write_text('{"owner": "bob", "owner": "alice"}')
    with pytest.raises(ConfigurationError):
        pdp.reload()
    assert (pdp.revision, heard) == (before, [])
    data.write_text('{"owner": "bob"}')
    assert pdp.reload() == heard[0]
    assert (heard[0].old, heard[0].new) == (before, pdp.revision)
    assert effect_of(pdp, asked()) is Effect.NOT_APPLICABLE
    (tmp_path / "authz.rego").unlink()
    with pytest.raises(ConfigurationError, match=r"there is no `\.rego` file"):
        pdp.reload()


@installed
def test_other_policies_can_be_swapped_in() -> None:
    """Those given last are those a later reload takes; a reload that fails forgets what it was given."""
    pdp = RegoPDP(ALICE, query=QUERY, revision="one")
    assert pdp.revision == "one"
    with pytest.raises(ConfigurationError):
        pdp.reload(policy("allow := {"))
    with pytest.raises(ConfigurationError, match="`revision` must be"):
        pdp.reload(revision="")
    pdp.reload(data={"x": 1}, revision="two")
    assert (pdp.revision, effect_of(pdp, asked())) == ("two", Effect.PERMIT)
    pdp.reload(policy("allow := input.subject.id == data.x"))
    pdp.reload(data={"x": "eve"})
    assert effect_of(pdp, asked("eve")) is Effect.PERMIT


@installed
def test_the_revision_is_that_of_modules_and_data() -> None:
    """Not of their order."""
    one, two = {"a": ALICE, "b": "package b\nx := 1"}, {"b": "package b\nx := 1", "a": ALICE}
    made = [
        RegoPDP(given, query=QUERY, data=data).revision
        for given in (one, two)
        for data in ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    ]
    assert len(set(made)) == 1
    assert RegoPDP(one, query=QUERY).revision != made[0]
    assert RegoPDP({**one, "b": "package b\nx := 2"}, query=QUERY, data={"a": 1, "b": 2}).revision != made[0]


FICKLE = [
    "time.now_ns()",
    'rand.intn("a", 5)',
    'uuid.rfc4122("a")',
    'http.send({"method": "get", "url": "x"})',
    "opa.runtime()",
]


@installed
@pytest.mark.parametrize("call", FICKLE)
def test_what_reads_the_clock_is_not_pure(call: str) -> None:
    """Nor what throws dice or asks others; the operator may say otherwise, either way."""
    assert RegoPDP(ALICE, query=QUERY).pure is True
    assert RegoPDP(ALICE, query=QUERY, pure=False).pure is False
    assert rego_policies(policy(f"allow if {call}"), {}, QUERY).pure is False


# Threads


@engines
def test_threads_get_the_answers_to_their_own_questions(engine: str) -> None:
    """Eight at once, while the policies are swapped under them, and switched between as often as can be."""
    pdp = RegoPDP(ALICE, query=QUERY, engine=engine)
    wrong: list[object] = []

    def ask(name: str) -> None:
        expected = Effect.PERMIT if name == "alice" else Effect.DENY
        for _ in range(times(100, 3000)):
            told = effect_of(pdp, asked(name))
            wrong.extend([told] if told is not expected else [])

    threads = [threading.Thread(target=ask, args=(name,)) for name in ["alice", "eve"] * 4]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for number in range(5):
            pdp.reload(data={"n": number})
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []


@regopy
def test_an_interpreter_of_rego_cpp_is_never_lent_twice() -> None:
    """Who shares one gets the answer to another's question: a second caller gets one of its own."""
    engine = rego_regopy.RegopyEngine(rego_policies(ALICE, {}, QUERY))
    made: list[Any] = list(engine._free)
    told: list[object] = []

    class Slow:
        """Lets another ask in the middle of a question."""

        def set_input_term(self, text: str) -> None:
            made[0][0].set_input_term(text)
            told.append(engine.ask(b'{"subject": {"id": "eve"}}'))

        def query_bundle_entrypoint(self, bundle: Any, entry: str) -> Any:
            return made[0][0].query_bundle_entrypoint(bundle, entry)

    engine._free.clear()
    engine._free.append((Slow(), made[0][1]))
    assert engine.ask(b'{"subject": {"id": "alice"}}') is True
    assert told == [False]


@regorus
def test_an_engine_of_regorus_lives_and_dies_on_its_own_thread(recwarn: pytest.WarningsRecorder) -> None:
    """Neither is it used on another, nor dropped there, when the decision point goes and when it is swapped."""
    hooked: list[object] = []
    hook, sys.unraisablehook = sys.unraisablehook, hooked.append
    asked_, go_on = threading.Event(), threading.Event()
    pdp: list[RegoPDP] = [RegoPDP(ALICE, query=QUERY, engine="regorus")]

    def work() -> None:
        effect_of(pdp[0], asked())
        asked_.set()
        go_on.wait(30)
        effect_of(RegoPDP(ALICE, query=QUERY, engine="regorus"), asked())

    thread = threading.Thread(target=work)
    try:
        thread.start()
        assert asked_.wait(30)
        pdp[0].reload()
        pdp.clear()
        gc.collect()
        go_on.set()
        thread.join()
        gc.collect()
    finally:
        go_on.set()
        sys.unraisablehook = hook
    assert hooked == []
    assert list(recwarn) == []


@regorus
def test_engines_of_policies_that_are_gone_are_dropped() -> None:
    """Each thread keeps one for each version in effect, and none of those before."""
    pdp = RegoPDP(ALICE, query=QUERY, engine="regorus")
    for _ in range(5):
        pdp.reload()
    gc.collect()
    pdp.reload()
    alive = [owner for owner, _ in rego_regorus._engines().values() if owner() is not None]
    assert len(rego_regorus._engines()) <= len(alive) + 1


PanicException = type("PanicException", (BaseException,), {})


@regorus
@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (PanicException, PDPReplyError),
        (RuntimeError, PDPReplyError),
        (KeyboardInterrupt, KeyboardInterrupt),
        (MemoryError, MemoryError),
    ],
)
def test_an_engine_that_failed_is_not_asked_again(raised: type[BaseException], told: type[BaseException]) -> None:
    """A panic of the engine is a fault; what is meant for the program goes on as it is."""
    engine = rego_regorus.RegorusEngine(rego_policies(ALICE, {}, QUERY))

    class Broken:
        def set_input_json(self, _text: str) -> None:
            raise raised

    key = id(engine)
    rego_regorus._engines()[key] = rego_regorus._engines()[key][0], Broken()
    with pytest.raises(told):
        engine.ask(b'{"subject": {"id": "alice"}}')
    assert engine.ask(b'{"subject": {"id": "alice"}}') is True


SHAPES = [b'{"result": []}', b'{"result": [1, 2]}', b'{"result": [{"expressions": []}]}', b"[]", b"true", b"null"]


@pytest.mark.parametrize("told", SHAPES)
def test_an_answer_of_another_shape_is_none(told: bytes) -> None:
    """From either engine."""
    with pytest.raises(PDPReplyError, match="number of results"):
        rego_regorus._value(json.loads(told))
    with pytest.raises(PDPReplyError, match="number of results"):
        rego_regopy._value(told.decode())
    with pytest.raises(PDPReplyError, match="number of results"):
        rego_regopy._value('{"expressions": [true, true]}')


@regopy
def test_what_regopy_raises_is_no_answer() -> None:
    """Its own errors, and an answer it cannot parse itself."""
    engine = rego_regopy.RegopyEngine(rego_policies(ALICE, {}, QUERY))

    class Broken:
        def set_input_term(self, _text: str) -> None:
            raise ValueError

    engine._free.clear()
    engine._free.append((Broken(), None))
    with pytest.raises(PDPReplyError, match="could not answer: ValueError"):
        engine.ask(b"{}")
    assert engine.ask(b'{"subject": {"id": "alice"}}') is True
