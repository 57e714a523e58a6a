"""Cedar in process: what its answers mean, alone, in batches and while policies are swapped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import cedarpy
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pep import AccessRequest, Decision, Effect, Enforcer, Resource, Subject
from pep.audit import MemorySink
from pep.errors import ConfigurationError
from pep.pdp.cedar import CedarPDP
from pep.plan import Raised
from pep.policy.source import Rejected, Swapped
from tests.pdp.cedar_cases import (
    ALICE,
    ALL,
    DENY,
    DOCUMENT,
    DOUBT,
    KNOWN,
    NONE,
    PERMIT,
    REQUEST,
    SCHEMA,
    when,
)
from tests.proving import times

#: Condition → its text, and its truth over a request; None where it cannot be evaluated.
CONDITIONS: dict[str, tuple[str, Callable[[AccessRequest], bool | None]]] = {
    "always": ("true", lambda _request: True),
    "owner": ("resource.owner == principal", lambda request: _owner(request)),
    "role": ('principal in role::"admin"', lambda request: "admin" in request.subject.properties.get("roles", ())),
    "number": ("context.n > 1", lambda request: _number(request)),
    "has": ("resource has owner", lambda request: "owner" in request.resource.properties),
}


def _owner(request: AccessRequest) -> bool | None:
    owner = request.resource.properties.get("owner")
    return None if owner is None else request.subject.type == "user" and owner == request.subject.id


def _number(request: AccessRequest) -> bool | None:
    number = request.context.get("n")
    return number > 1 if type(number) is int else None


@attrs.frozen
class Rule:
    permits: bool
    action: str | None
    kind: str | None
    condition: str

    def text(self, name: str) -> str:
        head = "permit" if self.permits else "forbid"
        action = "" if self.action is None else f' == Action::"{self.action}"'
        kind = "" if self.kind is None else f" is {self.kind}"
        return (
            f'@id("{name}") {when(CONDITIONS[self.condition][0], f"{head}(principal, action{action}, resource{kind})")}'
        )

    def truth(self, request: AccessRequest) -> bool | None:
        if self.action not in {None, request.action.name} or self.kind not in {None, request.resource.type}:
            return False
        return CONDITIONS[self.condition][1](request)


rules = st.lists(
    st.builds(
        Rule,
        st.booleans(),
        st.sampled_from([None, "read", "edit"]),
        st.sampled_from([None, "document", "page"]),
        st.sampled_from(list(CONDITIONS)),
    ),
    max_size=4,
)
subjects = st.builds(
    Subject,
    st.sampled_from(["user", "robot"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from([{}, {"roles": ["admin"]}, {"roles": ["x", "admin"]}, {"roles": "x"}, {"roles": []}]),
)
resources = st.builds(
    Resource,
    st.sampled_from(["document", "page"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from([{}, {"owner": "a"}, {"owner": "b"}]),
)
questions = st.builds(
    AccessRequest,
    subjects,
    st.sampled_from(["read", "edit", "x"]),
    resources,
    st.sampled_from([{}, {"n": 1}, {"n": 2}, {"n": "2"}, {"n": True}]),
)


def model(policies: list[Rule], request: AccessRequest) -> tuple[Effect, list[str]]:
    """What Cedar is documented to say, written down apart from it."""
    truths = {f"p{index}": (rule.permits, rule.truth(request)) for index, rule in enumerate(policies)}
    doubtful = [name for name, (_, truth) in truths.items() if truth is None]
    if doubtful:
        return DOUBT, doubtful
    forbidding = [name for name, (permitting, truth) in truths.items() if truth and not permitting]
    permitting = [name for name, (permits_it, truth) in truths.items() if truth and permits_it]
    return (DENY, forbidding) if forbidding else (PERMIT, permitting) if permitting else (NONE, [])


@given(rules, st.lists(questions, min_size=1, max_size=4))
@settings(max_examples=times(150, 10_000))
def test_answers_are_those_of_a_model(policies: list[Rule], asked: list[AccessRequest]) -> None:
    """Effect and deciding policies are what a model of a few lines says, alone and in batches."""
    text = "\n".join(rule.text(f"p{index}") for index, rule in enumerate(policies))
    pdp = CedarPDP(text, references={"owner": "user"}, parents={"roles": "role"})
    for request, many in zip(asked, pdp.decide_many(asked), strict=True):
        alone = pdp.decide(request)
        assert (alone.effect, list(alone.policies)) == model(policies, request)
        assert many == alone
        assert alone.revision == pdp.revision


LEAKY = """
@id("literal") permit(principal, action == Action::"read", resource) when { user::"a" has roles };
@id("owned") permit(principal, action == Action::"edit", resource)
when { resource has owner && resource.owner has roles };
"""


@given(st.lists(questions, max_size=5))
@settings(max_examples=times(150, 10_000))
@example(
    [
        AccessRequest(Subject("robot", "a"), "read", DOCUMENT),
        AccessRequest(Subject("user", "a", {"roles": []}), "x", DOCUMENT),
    ]
)
def test_a_batch_is_its_questions_one_by_one(asked: list[AccessRequest]) -> None:
    """What one request says of an entity is not seen by another, though a policy or an attribute names it."""
    pdp = CedarPDP(LEAKY, references={"owner": "user"}, parents={"roles": "role"})
    assert pdp.decide_many(asked) == [pdp.decide(request) for request in asked]


def test_a_batch_answers_in_order_beside_what_cannot_be_asked() -> None:
    """A question that cannot be put fails alone, and the others keep their places."""
    nothing = AccessRequest(ALICE, "read", Resource("document", "1", {"size": None}))
    asked = [REQUEST, nothing, AccessRequest(ALICE, "x", DOCUMENT), REQUEST]
    first, second, third, fourth = CedarPDP('permit(principal, action == Action::"read", resource);').decide_many(asked)
    assert isinstance(second, Raised)
    assert [one.effect for one in (first, third, fourth) if isinstance(one, Decision)] == [PERMIT, NONE, PERMIT]


def test_questions_about_the_same_entities_are_one_call() -> None:
    """Cedar is asked once for several actions on one resource."""
    calls: list[int] = []

    class Counting:
        def is_authorized_batch(self, asks: list[Any], *rest: Any) -> Any:
            calls.append(len(asks))
            return cedarpy.is_authorized_batch(asks, *rest)

    pdp = CedarPDP(ALL)
    pdp._loaded = attrs.evolve(pdp._loaded, cedarpy=Counting())
    pdp.decide_many([AccessRequest(ALICE, name, DOCUMENT) for name in ("a", "b", "c")])
    assert calls == [3]


def test_a_revision_is_of_all_it_decides_by() -> None:
    """Policies, schema and entities each change it; the order of entities does not; one that is given counts."""
    made = [
        CedarPDP(ALL),
        CedarPDP(f"{ALL} "),
        CedarPDP(ALL, schema=SCHEMA),
        CedarPDP(ALL, entities=KNOWN),
        CedarPDP(ALL, entities=KNOWN[:1]),
    ]
    assert len({pdp.revision for pdp in made}) == len(made)
    assert made[3].revision == CedarPDP(ALL, entities=KNOWN[::-1]).revision
    assert CedarPDP(ALL, revision="7").decide(REQUEST).revision == "7"


def test_a_reload_swaps_all_of_it(tmp_path: Path) -> None:
    """Files are read again, listeners are told after it, and what is given replaces what was."""
    path = tmp_path / "p.cedar"
    path.write_text(ALL)
    pdp = CedarPDP(path)
    events: list[Swapped | Rejected] = []
    pdp.subscribe(events.append)
    old = pdp.revision
    path.write_text(when("principal.level == 3"))
    swapped = pdp.reload(entities=KNOWN)
    assert (swapped.old, swapped.new) == (old, pdp.revision)
    assert pdp.decide(REQUEST).effect is PERMIT
    assert pdp.reload("", revision="2").new == "2"
    assert pdp.decide(REQUEST).effect is NONE
    assert [type(event) for event in events] == [Swapped, Swapped]
    # What it was called does not become the name of something else.
    assert pdp.reload(ALL).new == pdp.revision == CedarPDP(ALL, entities=KNOWN).revision


def test_what_does_not_load_changes_nothing() -> None:
    """The policies in effect stay, also for the next reload, and listeners are told of the mistake."""
    pdp = CedarPDP(ALL)
    events: list[Swapped | Rejected] = []

    def fails(_event: Swapped | Rejected) -> None:
        raise LookupError

    pdp.subscribe(fails)
    pdp.subscribe(events.append)
    with pytest.raises(LookupError):
        pdp.reload("oops")
    (event,) = events
    assert isinstance(event, Rejected)
    assert (event.kept, pdp.decide(REQUEST).effect) == (pdp.revision, PERMIT)
    with pytest.raises(LookupError):
        pdp.reload()
    assert isinstance(events[1], Swapped)
    quiet = CedarPDP(ALL)
    with pytest.raises(ConfigurationError, match="line 1, column 1"):
        quiet.reload("oops")


def test_a_reload_drops_what_was_cached() -> None:
    """An enforcer follows it: no permit of the old policies is served."""
    pdp = CedarPDP(ALL, revision="always the same")
    enforcer = Enforcer(pdp, audit=MemorySink())
    seen = [enforcer.check("read", DOCUMENT, subject=ALICE) for _ in range(2)]
    assert [(one.allowed, one.cached) for one in seen] == [(True, False), (True, True)]
    pdp.reload("")
    assert not enforcer.check("read", DOCUMENT, subject=ALICE).allowed


def test_decisions_are_by_one_version_in_any_thread() -> None:
    """Threads that ask while policies are swapped get answers whose revision and effect belong together."""
    texts = {"yes": ALL, "no": ""}
    pdp = CedarPDP(ALL, revision="yes")
    wrong: list[Any] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            seen = {(one.revision, one.effect) for one in pdp.decide_many([REQUEST] * 3) if isinstance(one, Decision)}
            if len(seen) != 1 or not seen <= {("yes", PERMIT), ("no", NONE)}:
                wrong.append(seen)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(60):
        name = "no" if turn % 2 == 0 else "yes"
        pdp.reload(texts[name] or "// none", revision=name)
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_it_tells_what_it_is() -> None:
    """A constant name, pure and immediate; a repr of numbers."""
    pdp = CedarPDP(ALL, revision="7")
    assert (pdp.name, CedarPDP(ALL, name="mine").name, pdp.pure, pdp.immediate) == ("cedar", "mine", True, True)
    assert repr(pdp) == "<CedarPDP of 1 policies, revision 7>"
