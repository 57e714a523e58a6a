"""Row filters: recorded before they are released, for everyone who acts, and what a check says row by row."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep import (
    AccessDenied,
    AccessRequest,
    Canary,
    Decision,
    Effect,
    Enforcer,
    Fault,
    Obligation,
    Profile,
    Resource,
    Subject,
    acting_as,
)
from pep.audit import Kind, MemorySink
from pep.clock import SystemClock
from pep.errors import (
    AttributeProviderError,
    ConfigurationError,
    DecisionUnavailable,
    ExtractionError,
    NotVisible,
    PDPReplyError,
    PDPTimeout,
)
from pep.policy import PolicySet, Rule, permit, resource, subject
from pep.policy.partial import AllowAll, Conditional, DenyAll
from pep.policy.policies import PolicySet as Policies
from pep.scope import MAX_NESTING, Frame, within
from pep.testing import FailingSink, FakeHandler, FakeProvider
from tests.policy.strategies import policies, properties, subjects
from tests.scenes import ALICE, DOCUMENT, LATER, OPEN, SHADOW, Scene, Strong, Suspended, raising, worlds

BOT: Final = Subject("agent", "bot")
OWNED: Final = permit("owned", action="edit", resource="document", when=resource.owner == subject.id)
OF_ALICE: Final = Conditional(resource.owner == "alice")


class Rows:
    """A decision point that filters rows as it is told; it decides nothing."""

    name = "rows"

    def __init__(self, answer: Any, revision: Any = "7") -> None:
        self._answer = answer
        self.revision = revision
        self.asked: list[tuple[Subject, Any, str, Any]] = []
        self.whose: list[dict[str, Any]] = []

    def decide(self, request: AccessRequest) -> Any:
        raise NotImplementedError

    def row_filter(self, subject: Subject, action: Any, resource_type: str, *, context: Any, **whose: Any) -> Any:
        self.asked.append((subject, action, resource_type, context))
        self.whose.append(whose)
        return self._answer(subject) if callable(self._answer) else self._answer


def rows(world: str, answer: Any, profile: Profile | None = None, **parts: Any) -> Scene:
    return Scene(world, pdp=answer if isinstance(answer, Policies) else Rows(answer), profile=profile, **parts)


@worlds
def test_all_of_a_request_but_the_resource_is_told(world: str) -> None:
    """Whose world it is, and for whom somebody acts, decide too: a filter never forgets a tenant or an actor."""
    pdp = Rows(AllowAll())
    scene = Scene(world, pdp=pdp)
    asking = scene.acting(lambda: ask(scene, context={"hour": 9}), via=[BOT], tenant="acme")
    assert asking.result == AllowAll()
    assert [(asked[0], asked[3], whose) for asked, whose in zip(pdp.asked, pdp.whose, strict=True)] == [
        (ALICE, {"hour": 9}, {"actors": (BOT,), "tenant": "acme"}),
        (BOT, {"hour": 9}, {"actors": (), "tenant": "acme"}),
    ]


# --- what is answered -----------------------------------------------------------------------------------------


@worlds
@pytest.mark.parametrize(
    ("answer", "told", "outcome"),
    [
        (AllowAll(), "allow_all", "permitted"),
        (OF_ALICE, "conditional", "permitted"),
        (DenyAll(), "deny_all", "denied"),
    ],
)
def test_a_filter_is_recorded(world: str, answer: Any, told: str, outcome: str) -> None:
    """One decision record tells who asked for which rows, and what sort of filter was released."""
    scene = rows(world, answer)
    assert scene.do("row_filter", "edit", "document", context={"ip": "::1"}) == answer
    assert scene.kinds == ["decision"]
    last = scene.last
    assert (last["entry"], last["filter"], last["outcome"]) == ("row_filter", told, outcome)
    assert last["allowed"] is (outcome == "permitted")
    assert (last["action"], last["resource"]["type"], last["subject"]["id"]) == ("edit", "document", "alice")
    assert (last["effect"], last["revision"], last["pdp"]) == ("deny" if told == "deny_all" else "permit", "7", "rows")
    assert (last["context_omitted"], "id" in last["resource"], last["latency"]) == (["ip"], False, {"total": 0.0})


@worlds
def test_a_filter_is_recorded_before_it_is_released(world: str) -> None:
    """A filter whose record fails lets no row through."""
    scene = rows(world, OF_ALICE, sink=FailingSink())
    with pytest.raises(DecisionUnavailable) as caught:
        scene.do("row_filter", "edit", "document")
    assert (caught.value.fault, scene.enforcer.stats()["unrecorded"]) == (Fault.AUDIT, 1)
    assert isinstance(caught.value.__cause__, OSError)


@worlds
def test_a_filter_that_lets_nothing_through_needs_no_record(world: str) -> None:
    """A denial stays one, though it could not be told."""
    scene = rows(world, DenyAll(), sink=FailingSink())
    assert scene.do("row_filter", "edit", "document") == DenyAll()
    assert scene.enforcer.stats()["unrecorded"] == 1


@worlds
def test_the_decision_point_sees_what_was_asked(world: str) -> None:
    """Subject, action, type of resource, and the circumstances around and of the call."""
    scene = rows(world, AllowAll())
    with acting_as(BOT, context={"a": 1}):
        scene.do("row_filter", "edit", "document", who=ALICE, context={"b": 2})
    [(who, what, kind, context)] = scene.core.wiring().pdp.asked  # type: ignore[attr-defined]
    assert (who, what.name, kind, dict(context)) == (ALICE, "edit", "document", {"b": 2})


@worlds
@pytest.mark.parametrize("revision", ["", 7, None])
def test_a_revision_that_is_none_is_left_out(world: str, revision: Any) -> None:
    """Only a text that says something is a revision."""
    scene = Scene(world, pdp=Rows(AllowAll(), revision))
    scene.do("row_filter", "edit", "document")
    assert "revision" not in scene.last.fields


@worlds
def test_a_filter_may_be_answered_late(world: str) -> None:
    """A plan is an answer in both worlds, what must be awaited in the asynchronous one."""

    def plan() -> Iterator[Any]:
        yield from ()
        return OF_ALICE

    assert rows(world, lambda _who: plan()).do("row_filter", "edit", "document") == OF_ALICE
    awaited = rows(world, lambda _who: Suspended(OF_ALICE))
    if world == "async":
        assert awaited.do("row_filter", "edit", "document") == OF_ALICE
    else:
        with pytest.raises(DecisionUnavailable):
            awaited.do("row_filter", "edit", "document")
        assert awaited.last["fault"] == "malformed"


@worlds
def test_a_threaded_decision_point_is_asked_on_a_thread_of_its_own(world: str) -> None:
    """What may block is moved off, so that a deadline can cut it short."""
    asked: list[int] = []
    pdp = Rows(lambda _who: asked.append(threading.get_ident()) or AllowAll())
    pdp.threaded = True  # type: ignore[attr-defined]
    assert Scene(world, pdp=pdp, clock=SystemClock()).do("row_filter", "edit", "document") == AllowAll()
    assert asked != [threading.get_ident()]


# --- who asks -------------------------------------------------------------------------------------------------


@worlds
def test_all_who_act_must_be_let_through(world: str) -> None:
    """What is released is what the subject and every actor may act upon."""
    answers = {"alice": OF_ALICE, "bot": Conditional(resource.shared == True)}  # noqa: E712
    scene = rows(world, lambda who: answers[who.id])
    found = scene.acting(lambda: ask(scene), via=[BOT]).result
    assert found == Conditional((resource.owner == "alice") & (resource.shared == True))  # noqa: E712
    assert [told["subject"]["id"] for told in scene.last["requests"]] == ["alice", "bot"]
    assert [told["effect"] for told in scene.last["requests"]] == ["permit", "permit"]


@worlds
@pytest.mark.parametrize(("one", "other"), [(AllowAll(), DenyAll()), (DenyAll(), AllowAll()), (DenyAll(), OF_ALICE)])
def test_nobody_lends_rows_to_another(world: str, one: Any, other: Any) -> None:
    """Where one of those who act may act upon nothing, all of them together may not."""
    scene = rows(world, lambda who: one if who == ALICE else other)
    assert scene.acting(lambda: ask(scene), via=[BOT]).result == DenyAll()
    assert (scene.last["outcome"], scene.last["effect"]) == ("denied", "deny")


@worlds
def test_all_rows_of_one_are_the_rows_of_the_other(world: str) -> None:
    """Who may act upon everything narrows nothing."""
    scene = rows(world, lambda who: AllowAll() if who == BOT else OF_ALICE)
    assert scene.acting(lambda: ask(scene), via=[BOT]).result == OF_ALICE


def ask(scene: Scene, **options: Any) -> Any:
    """Ask for rows in a scene's world, as whoever acts."""
    which = scene.enforcer.row_filter if scene.world == "sync" else scene.enforcer.arow_filter
    return which("edit", "document", **options)


@worlds
def test_nobody_filters_nothing(world: str) -> None:
    """Without a subject there is no filter to speak of, and the decision point is not asked."""
    scene = rows(world, AllowAll())
    ended = scene.acting(lambda: ask(scene), None)
    assert ended.told == ("denied", "extraction")
    assert (scene.last["outcome"], scene.last["action"], "filter" in scene.last.fields) == ("denied", "edit", False)
    assert scene.core.wiring().pdp.asked == []  # type: ignore[attr-defined]
    assert scene.acting(lambda: ask(scene, subject=ALICE), None).result == AllowAll()


@worlds
@pytest.mark.parametrize(("action", "kind"), [("", "document"), ("edit", ""), ("edit", 7), (7, "document")])
def test_wrong_values_are_extraction_faults(world: str, action: Any, kind: Any) -> None:
    """What came from a caller is denied and recorded, not raised as a mistake."""
    scene = rows(world, AllowAll())
    with pytest.raises(AccessDenied) as caught:
        scene.do("row_filter", action, kind)
    assert (caught.value.fault, scene.kinds) == (Fault.EXTRACTION, ["decision"])


@worlds
def test_filters_nest_as_deep_as_guarded_calls(world: str) -> None:
    """Deeper than that, even a filter is refused."""
    scene = rows(world, AllowAll())
    with within(Frame(depth=MAX_NESTING)), pytest.raises(DecisionUnavailable) as caught:
        scene.do("row_filter", "edit", "document")
    assert caught.value.fault is Fault.INTERNAL


@worlds
def test_who_asks_is_known_at_the_call(world: str) -> None:
    """The asynchronous half is asked for whoever acted when it was called."""
    scene = rows(world, lambda who: Conditional(resource.owner == who.id))
    if world == "sync":
        assert scene.do("row_filter", "edit", "document") == OF_ALICE
        return

    async def main() -> Any:
        with acting_as(ALICE):
            asked = scene.enforcer.arow_filter("edit", "document")
            with acting_as(BOT):
                return await asked

    assert asyncio.run(main()) == OF_ALICE


# --- when there is no answer ----------------------------------------------------------------------------------

FAULTS: Final = [
    (raising(PDPTimeout()), Fault.TIMEOUT),
    (raising(ConnectionError()), Fault.UNREACHABLE),
    (raising(PDPReplyError()), Fault.MALFORMED),
    (raising(ValueError()), Fault.INTERNAL),
    *((junk, Fault.MALFORMED) for junk in (None, True, False, [], {}, "allow", AllowAll, Decision(Effect.PERMIT))),
]


@worlds
@pytest.mark.parametrize(("answer", "fault"), FAULTS, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("profile", [Profile(), OPEN], ids=["closed", "open"])
def test_without_an_answer_it_raises(world: str, answer: Any, fault: Fault, profile: Profile) -> None:
    """A fault gives no rows and no half of them, and no failure mode opens all of a table."""
    scene = rows(world, (lambda _who: answer) if isinstance(answer, type) else answer, profile)
    with pytest.raises(DecisionUnavailable) as caught:
        scene.do("row_filter", "edit", "document")
    assert (caught.value.fault, scene.last["fault"], scene.last["outcome"]) == (fault, fault.value, "unavailable")
    assert "filter" not in scene.last.fields
    assert "effect" not in scene.last.fields


@worlds
def test_a_fault_for_one_who_acts_is_a_fault_for_all(world: str) -> None:
    """What one of them may act upon is no answer for both."""
    scene = rows(world, lambda who: OF_ALICE if who == ALICE else raising(PDPTimeout())(who))
    ended = scene.acting(lambda: ask(scene), via=[BOT])
    assert ended.told == ("unavailable", "timeout")
    assert [told.get("fault") for told in scene.last["requests"]] == [None, "timeout"]


@worlds
def test_an_answer_that_comes_too_late_is_none(world: str) -> None:
    """The profile's deadline holds for rows as for decisions."""
    scene = rows(world, lambda _who: scene.clock.advance(5.0) or OF_ALICE)
    with pytest.raises(DecisionUnavailable) as caught:
        scene.do("row_filter", "edit", "document")
    assert caught.value.fault is Fault.TIMEOUT


@worlds
def test_hidden_profiles_hide_that_too(world: str) -> None:
    """Where denials tell nothing, neither does having no answer."""
    scene = rows(world, None, Profile(hidden=True))
    with pytest.raises(NotVisible) as caught:
        scene.do("row_filter", "edit", "document")
    assert (caught.value.__cause__, scene.last["fault"]) == (None, "malformed")


@worlds
def test_not_every_decision_point_filters_rows(world: str) -> None:
    """One that cannot is a mistake in the wiring, and the message names the way out."""
    scene = Scene(world)
    with pytest.raises(ConfigurationError, match="cannot filter rows; bring a decision point with"):
        scene.do("row_filter", "edit", "document")
    assert (scene.asked, scene.kinds) == ([], [])


def test_unbound_and_closed_nobody_filters() -> None:
    """Rows are refused like every call."""
    library, closed = Enforcer.unbound("library"), rows("sync", AllowAll())
    closed.enforcer.close()
    for enforcer, fault in ((library, Fault.UNBOUND), (closed.enforcer, Fault.INTERNAL)):
        with acting_as(ALICE):
            with pytest.raises(DecisionUnavailable) as caught:
                enforcer.row_filter("edit", "document")
            assert caught.value.fault is fault
            with pytest.raises(DecisionUnavailable):
                asyncio.run(enforcer.arow_filter("edit", "document"))  # type: ignore[arg-type]


# --- what providers add ---------------------------------------------------------------------------------------


@worlds
def test_providers_are_asked_about_all_but_the_rows(world: str) -> None:
    """What a row is, it tells itself; the rest is provided, and claims of it are dropped."""
    provider = FakeProvider({"subject.team": "red", "resource.owner": "alice"})
    only_rows = FakeProvider({"resource.team": "red"})
    team = permit("team", action="edit", resource="document", when=resource.team == subject.team)
    scene = rows(world, PolicySet([team]), attributes=[provider, only_rows])
    claiming = Subject("user", "alice", {"team": "blue"})
    assert scene.do("row_filter", "edit", "document", who=claiming) == Conditional(resource.team == "red")
    assert (len(provider.asked), only_rows.asked, scene.last["provided"]) == (1, [], ["subject.team"])


@worlds
@pytest.mark.parametrize(
    ("provider", "fault", "cause"),
    [
        (FakeProvider({"subject.team": "red"}, raises=KeyError()), Fault.ATTRIBUTES, AttributeProviderError),
        (FakeProvider({"subject.team": "x" * 70_000}), Fault.EXTRACTION, ExtractionError),
    ],
    ids=["fails", "too large"],
)
def test_what_providers_do_wrong_closes(world: str, provider: FakeProvider, fault: Fault, cause: Any) -> None:
    """Without the attributes the rows depend on there is no filter."""
    scene = rows(world, AllowAll(), attributes=[provider])
    with pytest.raises(AccessDenied) as caught:
        scene.do("row_filter", "edit", "document")
    assert caught.value.fault is fault
    assert isinstance(caught.value.__cause__, cause)
    assert (scene.last["fault"], scene.last["cause"]) == (fault.value, cause.__name__)


# --- what is not enforced -------------------------------------------------------------------------------------


@worlds
@pytest.mark.parametrize(
    ("answer", "would", "fault"),
    [
        (DenyAll(), "denied", None),
        (OF_ALICE, "permitted", None),
        (AllowAll(), "permitted", None),
        (None, "unavailable", "malformed"),
        (raising(PDPTimeout()), "unavailable", "timeout"),
    ],
    ids=["none", "some", "all", "junk", "fault"],
)
def test_a_shadow_filters_nothing(world: str, answer: Any, would: str, fault: str | None) -> None:
    """What is only shadowed lets every row through, and the record says what would have been."""
    scene = rows(world, answer, SHADOW)
    assert scene.do("row_filter", "edit", "document") == AllowAll()
    last = scene.last
    assert (last["outcome"], last["would"], last["filter"]) == ("shadowed", would, "allow_all")
    assert last.fields.get("fault") == fault


@worlds
def test_a_shadow_whose_record_fails_releases_nothing(world: str) -> None:
    """It lets everything through, but never unrecorded."""
    scene = rows(world, AllowAll(), SHADOW, sink=FailingSink())
    with pytest.raises(DecisionUnavailable) as caught:
        scene.do("row_filter", "edit", "document")
    assert caught.value.fault is Fault.AUDIT


@worlds
def test_a_shadow_of_nobody_filters_nothing(world: str) -> None:
    """A call that cannot be turned into a request runs in shadow, and so it gets its rows."""
    scene = rows(world, DenyAll(), SHADOW)
    assert scene.acting(lambda: ask(scene), None).result == AllowAll()
    assert (scene.last["outcome"], scene.last["would"], scene.last["filter"]) == ("shadowed", "denied", "allow_all")


@worlds
@pytest.mark.parametrize(
    ("enforced", "shadowed", "outcome", "would"),
    [
        (OF_ALICE, DenyAll(), "shadowed", "denied"),
        (OF_ALICE, None, "shadowed", "unavailable"),
        (DenyAll(), AllowAll(), "denied", None),
    ],
)
def test_a_canary_shadows_some_of_those_who_act(
    world: str, enforced: Any, shadowed: Any, outcome: str, would: str | None
) -> None:
    """The filter of whom it is enforced for holds; the other one only tells what would have been."""
    canary = Canary(0.5, until=LATER, reason="new")
    secret = b"0123456789abcdef"
    named = [Subject("user", f"u{number}") for number in range(64)]
    who = next(one for one in named if canary.enforced(one, secret))
    other = next(one for one in named if not canary.enforced(one, secret))
    scene = rows(world, lambda one: enforced if one == who else shadowed, Profile(mode=canary), secret=secret)
    assert scene.acting(lambda: ask(scene), who, via=[other]).result == enforced
    assert (scene.last["outcome"], scene.last.fields.get("would")) == (outcome, would)


# --- what is revoked meanwhile --------------------------------------------------------------------------------


class Revoking(Strong):
    """A sink that revokes everything when it takes decisions."""

    times = 0

    def record(self, record: Any) -> None:
        super().record(record)
        if record.kind is Kind.DECISION and self.times:
            self.times -= 1
            self.revoke()

    revoke: Callable[[], None]


@worlds
@pytest.mark.parametrize("times", [1, 2])
def test_what_is_revoked_meanwhile_is_asked_again_once(world: str, times: int) -> None:
    """A revocation that overtakes a filter makes it ask again; overtaken twice, it is refused."""
    sink = Revoking()
    scene = rows(world, OF_ALICE, sink=sink)
    sink.times, sink.revoke = times, scene.core.wiring().generations.revoke_all
    ended = scene.acting(lambda: ask(scene))
    if times == 1:
        assert ended.result == OF_ALICE
        assert scene.kinds == ["decision", "outcome withheld", "decision"]
    else:
        assert ended.told == ("unavailable", "revoked")
        assert scene.kinds == ["decision", "outcome withheld"] * 2
    first, outcome = scene.sink.records[:2]
    assert (outcome["decision"], outcome["ran"]) == (first.id, False)


@worlds
def test_rows_that_nobody_may_see_need_not_hold(world: str) -> None:
    """There is nothing to withhold from whoever gets no row."""
    sink = Revoking()
    scene = rows(world, DenyAll(), sink=sink)
    sink.times, sink.revoke = 1, scene.core.wiring().generations.revoke_all
    assert scene.do("row_filter", "edit", "document") == DenyAll()
    assert scene.kinds == ["decision"]


@pytest.mark.parametrize(
    ("answer", "at", "kinds"),
    [
        (KeyboardInterrupt(), "asking", ["decision"]),
        (OF_ALICE, "recording", ["outcome cancelled"]),
        (DenyAll(), "recording", ["decision"]),
    ],
    ids=["asking", "recording rows", "recording none"],
)
def test_what_is_cut_off_is_recorded(answer: Any, at: str, kinds: list[str]) -> None:
    """Cut off while it asks, it leaves a record; while it records, it tells that nothing was released."""

    class Interrupted(Strong):
        struck = at == "asking"

        def record(self, record: Any) -> None:
            if not self.struck:
                self.struck = True
                raise KeyboardInterrupt
            super().record(record)

    scene = rows("sync", raising(answer) if at == "asking" else answer, sink=Interrupted())
    with pytest.raises(KeyboardInterrupt):
        scene.do("row_filter", "edit", "document")
    assert scene.kinds == kinds
    if at == "asking":
        assert (scene.last["status"], scene.last["entry"]) == ("cancelled", "row_filter")


# --- what the rows are ----------------------------------------------------------------------------------------


@worlds
def test_rules_with_obligations_permit_no_row(world: str) -> None:
    """Nobody discharges obligations on rows that are not loaded, whatever handlers there are."""
    logged = permit("logged", resource="document", obligations=[Obligation("log")])
    scene = rows(world, PolicySet([logged]), obligations=[FakeHandler("log")])
    assert scene.do("check", "edit", DOCUMENT).allowed
    assert scene.do("row_filter", "edit", "document") == DenyAll()
    both = rows(world, PolicySet([logged, OWNED]), obligations=[FakeHandler("log")])
    assert both.do("row_filter", "edit", "document") == DenyAll()


@worlds
def test_a_row_that_owes_an_obligation_is_permitted_by_no_other_rule(world: str) -> None:
    """Where an obliged permit matches as well, the row owes its obligation: only the others are let through."""
    secret = permit("secret", resource="document", when=resource.secret == True, obligations=[Obligation("log")])  # noqa: E712  a condition
    scene = rows(world, PolicySet([secret, permit("all", resource="document")]))
    found = scene.do("row_filter", "edit", "document")
    for properties_, permitted in (({"secret": True}, False), ({"secret": False}, True)):
        row = Resource("document", "1", properties_)
        assert (found.matches(row) is True) is permitted
        assert scene.do("check", "edit", row).allowed is permitted


rows_of_a_table = st.lists(
    st.builds(Resource, st.just("doc"), st.sampled_from(["x", "y"]), properties), min_size=1, max_size=4
)


def unobliged(found: list[Rule]) -> bool:
    return not any(rule.obligations for rule in found)


@settings(max_examples=200)
@given(
    policies(min_size=1).filter(unobliged),
    subjects,
    st.lists(subjects, max_size=1),
    st.tuples(st.sampled_from(["read", "edit", "doc:read"]), properties),
    rows_of_a_table,
)
def test_a_row_matches_exactly_if_a_check_permits_it(
    found: list[Rule], who: Subject, via: list[Subject], asked: tuple[str, dict[str, Any]], some: list[Resource]
) -> None:
    """The law of row filters, over random policies without obligations, for all who act."""
    act, around = asked
    enforcer = Enforcer(PolicySet(found), audit=MemorySink())
    with acting_as(who, via=via, context=around):
        rows = enforcer.row_filter(act, "doc")
        for row in some:
            assert (rows.matches(row) is True) == enforcer.check(act, row).allowed


@settings(max_examples=100)
@given(policies(min_size=1), subjects, properties, rows_of_a_table)
def test_no_row_matches_that_a_check_refuses(
    found: list[Rule], who: Subject, around: dict[str, Any], some: list[Resource]
) -> None:
    """Whatever obligations rules have: where they can be discharged, rows are only ever fewer."""
    handlers = [FakeHandler("log"), FakeHandler("redact")]
    enforcer = Enforcer(PolicySet(found), audit=MemorySink(), obligations=handlers)
    with acting_as(who, context=around):
        rows = enforcer.row_filter("read", "doc")
        for row in some:
            assert rows.matches(row) is not True or enforcer.check("read", row).allowed
