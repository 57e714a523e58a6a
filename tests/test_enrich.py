from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.cache import Generations
from pep.enrich import Providers
from pep.errors import AttributeProviderError, ConfigurationError, ExtractionError
from pep.frozen import MAX_DEPTH
from pep.model import AccessRequest, Action, Resource, Subject
from pep.plan import Gather, Invoke, Raised, Returned, call
from tests.plans import finish

ALICE = Subject("user", "alice", {"roles": ["admin"], "name": "Alice"})
DOCUMENT = Resource("document", "42", {"owner": "mallory", "title": "x"})
REQUEST = AccessRequest(ALICE, Action("read", {"bulk": True}), DOCUMENT, {"risk": 0, "ip": "::1"})


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now

    boottime = wall = monotonic


class Provider:
    def __init__(self, provides: Any, answer: Any = None, *, types: Any = None, ttl: float | None = None) -> None:
        self.provides, self.types, self.ttl = provides, types, ttl
        self.answer = {} if answer is None else answer
        self.asked: list[AccessRequest] = []

    def provide(self, request: AccessRequest) -> Any:
        self.asked.append(request)
        return self.answer(request) if callable(self.answer) else self.answer


def enriched(
    *providers: Any, request: AccessRequest = REQUEST, deadline: float | None = 9.0, steps: list[Any] | None = None
) -> AccessRequest:
    found: AccessRequest = finish(Providers(providers, clock=Clock()).enrich(request, deadline), steps)
    return found


def test_without_providers_nothing_is_asked() -> None:
    """An enforcer without providers takes no step."""
    providers = Providers(clock=Clock())
    steps: list[Any] = []
    assert not providers
    assert list(providers) == []
    assert finish(providers.enrich(REQUEST, 1.0), steps) == REQUEST
    assert steps == []


def test_what_is_provided_replaces_what_was_claimed() -> None:
    """A provided name has the provider's value, whatever the call brought; the rest stays as it was."""
    found = enriched(
        Provider(
            {"subject.roles", "resource.owner", "context.risk", "action.bulk", "subject.new"},
            {"subject.roles": ["editor"], "resource.owner": "alice", "context.risk": 9, "action.bulk": False},
        )
    )
    assert found.subject == Subject("user", "alice", {"name": "Alice", "roles": ["editor"]})
    assert found.resource == Resource("document", "42", {"owner": "alice", "title": "x"})
    assert found.action == Action("read", {"bulk": False})
    assert found.context == {"risk": 9, "ip": "::1"}


@given(
    st.sets(
        st.sampled_from(
            ["subject.roles", "subject.name", "resource.owner", "action.bulk", "context.risk", "context.ip"]
        ),
        min_size=1,
    ),
    st.sets(st.sampled_from(["subject.roles", "resource.owner", "context.ip"])),
)
def test_no_claim_survives_under_a_provided_name(provides: set[str], answered: set[str]) -> None:
    """What a provider declares is the provider's to say, even where it then says nothing; nobody is shown a claim."""
    provider = Provider(provides, dict.fromkeys(answered & provides, "known"))
    found = enriched(provider)
    for name in ("subject.roles", "subject.name", "resource.owner", "action.bulk", "context.risk", "context.ip"):
        part, _, rest = name.partition(".")
        after, seen, before = (
            request.context if part == "context" else getattr(request, part).properties
            for request in (found, provider.asked[0], REQUEST)
        )
        if name not in provides:
            assert after[rest] == seen[rest] == before[rest]
        else:
            assert rest not in seen
            assert after.get(rest) == ("known" if name in answered else None)


def test_actors_bring_no_claims_either() -> None:
    """An actor is a subject too: what is provided of subjects is never believed of it."""
    actors = [Subject("agent", "a1", {"roles": ["admin"], "name": "x"}), Subject("user", "bob", {"roles": ["admin"]})]
    request = REQUEST.evolve(actors=actors)
    for types, kept in ((None, [{"name": "x"}, {}]), ({"user"}, [{"roles": ("admin",), "name": "x"}, {}])):
        found = enriched(Provider({"subject.roles"}, types=types), request=request)
        assert [actor.properties for actor in found.actors] == kept
    unasked = enriched(Provider({"subject.roles"}, types={"agent"}), request=request)
    assert [actor.properties for actor in unasked.actors] == [{"name": "x"}, {"roles": ("admin",)}]
    assert unasked.subject == ALICE


@pytest.mark.parametrize(
    ("types", "names"),
    [
        (None, {"subject.a", "resource.a", "action.a", "context.a"}),
        ({"user"}, {"subject.a", "action.a", "context.a"}),
        ({"document"}, {"resource.a", "action.a", "context.a"}),
        (["user", "document"], {"subject.a", "resource.a", "action.a", "context.a"}),
        ({"other"}, set()),
    ],
)
def test_types_say_whom_a_provider_knows(types: Any, names: set[str]) -> None:
    """Names of a part are provided for its own type, those of action and context for either."""
    provider = Provider({"subject.a", "resource.a", "action.a", "context.a"}, types=types)
    providers = Providers([provider], clock=Clock())
    assert set(providers.names(REQUEST)) == names
    assert providers.names(REQUEST) == tuple(sorted(names))
    finish(providers.enrich(REQUEST, None))
    assert len(provider.asked) == bool(names)


def test_what_does_not_apply_here_is_dropped() -> None:
    """A provider may answer all it knows; only what it provides for this request is taken."""
    provider = Provider({"subject.a", "resource.a"}, {"subject.a": 1, "resource.a": 2}, types={"document"})
    found = enriched(provider)
    assert (found.subject, found.resource.properties["a"]) == (ALICE, 2)


def test_of_rows_nothing_is_provided_but_by_the_row() -> None:
    """For a filter over rows the resource's names are left to the rows; one answer does not serve both."""
    everything = {"subject.a": 1, "resource.a": 2, "context.a": 3}
    provider, rest = Provider(set(everything), everything, ttl=60), Provider({"resource.b"}, {"resource.b": 1})
    providers = Providers([provider, rest], clock=Clock())
    request, nothing = REQUEST.evolve(resource=Resource.new("document")), Generations()
    for _ in range(2):
        found = finish(providers.enrich(request, None, nothing, rows=True))
        assert found.resource == Resource.new("document")
        assert (found.subject.properties["a"], found.context["a"]) == (1, 3)
    assert (len(provider.asked), rest.asked) == (1, [])
    assert finish(providers.enrich(request, None, nothing)).resource.properties == {"a": 2, "b": 1}


def test_new_resources_stay_new() -> None:
    """Enriching a resource without an id gives it none."""
    request = REQUEST.evolve(resource=Resource.new("document", {"owner": "mallory"}))
    found = enriched(Provider({"resource.owner"}, {"resource.owner": "alice"}), request=request)
    assert found.resource == Resource.new("document", {"owner": "alice"})


def test_several_are_asked_side_by_side() -> None:
    """One provider is one step, several are asked at once, all by the one deadline."""
    one, other = Provider({"subject.a"}, {"subject.a": 1}), Provider({"resource.a"}, {"resource.a": 2})
    steps: list[Any] = []
    enriched(one, steps=steps)
    assert [(type(step), step.deadline) for step in steps] == [(Invoke, 9.0)]
    steps.clear()
    found = enriched(one, other, steps=steps)
    assert [(type(step), step.deadline) for step in steps] == [(Gather, 9.0)]
    assert (found.subject.properties["a"], found.resource.properties["a"]) == (1, 2)


def test_providers_may_be_awaited_or_be_plans() -> None:
    """An answer may be a coroutine's or a plan's."""

    async def later(_request: object) -> Mapping[str, Any]:
        return {"subject.a": 1}

    def plan(_request: object) -> Any:
        return {"subject.a": (yield from call(len, "xx"))}

    assert enriched(Provider({"subject.a"}, later)).subject.properties["a"] == 1
    assert enriched(Provider({"subject.a"}, plan)).subject.properties["a"] == 2


def failing(error: Exception) -> Any:
    def provide(_request: object) -> Any:
        raise error

    return provide


class Shaky(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise OSError(key)

    def __iter__(self) -> Any:
        return iter(["subject.a"])

    def __len__(self) -> int:
        return 1


def deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (failing(OSError("canary")), "attribute provider `Provider` failed"),
        (failing(TimeoutError()), "attribute provider `Provider` failed"),
        (failing(ExtractionError("canary")), "attribute provider `Provider` failed"),
        (failing(AttributeProviderError()), "attribute provider `Provider` failed"),
        (failing(AttributeProviderError("the directory is down")), "the directory is down"),
        ([], "must answer a mapping, not `list`"),
        (7, "must answer a mapping, not `int`"),
        ({"subject.b": 1}, "answered a name it does not declare; add it to `provides`"),
        ({"subject.a": 1, "roles": 1}, "answered a name it does not declare"),
        ({"subject.a": 1, 7: 1}, "answered a name it does not declare"),
        ({"subject.a": object()}, "answered what is no attribute value"),
        ({"subject.a": float("nan")}, "answered what is no attribute value"),
        ({"subject.a": "\ud800"}, "answered what is no attribute value"),
        ({"subject.a": deep(MAX_DEPTH)}, "answered what is no attribute value"),
        (Shaky(), "answered what is no attribute value"),
    ],
)
@pytest.mark.parametrize("others", [0, 1])
def test_a_provider_that_fails_closes(answer: Any, told: str, others: int) -> None:
    """Whatever a provider does but answer what it declared is its fault, alone or beside others."""
    more = [Provider({"context.z"}, {"context.z": 1})] * others
    with pytest.raises(AttributeProviderError, match=told) as caught:
        enriched(Provider({"subject.a"}, answer), *more)
    assert "canary" not in str(caught.value)


def test_a_provider_answers_as_deep_as_properties_go() -> None:
    """What a provider answers nests as deep as what a call brings, not deeper."""
    found = enriched(Provider({"subject.a"}, {"subject.a": deep(MAX_DEPTH - 1)}))
    assert AccessRequest.from_dict(found.to_dict()) == found


def test_one_that_is_late_beside_others_is_at_fault() -> None:
    """Where several are asked at once and the time is up, that is the providers' fault, not the plan's."""
    plan = Providers([Provider({"subject.a"}), Provider({"subject.b"})], clock=Clock()).enrich(REQUEST, 1.0)
    next(plan)
    with pytest.raises(AttributeProviderError, match="attribute provider `Provider` failed") as caught:
        plan.send(Returned((Raised(TimeoutError()), Returned({}))))
    assert isinstance(caught.value.__cause__, TimeoutError)


def test_too_much_is_no_request() -> None:
    """What providers know counts towards the size of the request."""
    with pytest.raises(ExtractionError, match="send references instead of content"):
        enriched(Provider({"subject.a"}, {"subject.a": "x" * 70_000}))


# Answers that are reused.


def test_answers_are_reused_for_their_ttl() -> None:
    """A provider with a ttl is asked once per request until it passes; one without, every time."""
    clock = Clock()
    nothing = Generations()
    lasting, fleeting = Provider({"subject.a"}, {"subject.a": 1}, ttl=10), Provider({"context.z"}, ttl=0)
    providers = Providers([lasting, fleeting], clock=clock)
    for now, asked in ((0.0, 1), (9.9, 1), (10.0, 2), (10.1, 2)):
        clock.now = now
        assert finish(providers.enrich(REQUEST, None, nothing)).subject.properties["a"] == 1
        assert len(lasting.asked) == asked
    assert len(fleeting.asked) == 4


def test_answers_are_reused_for_the_same_request_only() -> None:
    """An answer belongs to everything the provider was shown, the tenant too; claims under its names are not shown."""
    provider = Provider({"subject.roles"}, lambda request: {"subject.roles": request.tenant}, ttl=60)
    providers = Providers([provider], clock=Clock())
    nothing = Generations()
    others = [REQUEST.evolve(tenant="acme"), REQUEST.evolve(context={"ip": "x"}), REQUEST.evolve(action="write")]
    for request in (REQUEST, *others, REQUEST.evolve(subject=Subject("user", "alice", {"name": "Alice"}))):
        assert finish(providers.enrich(request, None, nothing)).subject.properties["roles"] == request.tenant
    assert len(provider.asked) == 4


def test_a_revocation_reaches_reused_answers() -> None:
    """After a revocation a provider is asked again: a permit on what it knew before would undo it."""
    provider, generations = Provider({"subject.roles"}, ttl=60), Generations()
    providers = Providers([provider], clock=Clock())
    for floor, asked in (
        (None, 1),
        (None, 1),
        (("subject", "user", "bob"), 1),
        (("subject", "user", "alice"), 2),
        (None, 2),
    ):
        if floor is not None:
            generations.revoke(floor)
        finish(providers.enrich(REQUEST, None, generations))
        assert len(provider.asked) == asked


def test_an_answer_had_during_a_revocation_is_not_reused() -> None:
    """What was asked before a revocation and answered after it is not kept as if it were newer."""
    generations = Generations()

    def provide(_request: object) -> Mapping[str, Any]:
        generations.revoke(("subject", "user", "alice"))
        return {}

    provider = Provider({"subject.roles"}, provide, ttl=60)
    providers = Providers([provider], clock=Clock())
    for _ in range(2):
        finish(providers.enrich(REQUEST, None, generations))
    assert len(provider.asked) == 2


def test_failures_are_not_reused() -> None:
    """A provider that failed is asked again."""
    answers, nothing = iter([[], {"subject.a": 1}]), Generations()
    providers = Providers([Provider({"subject.a"}, lambda _request: next(answers), ttl=60)], clock=Clock())
    with pytest.raises(AttributeProviderError):
        finish(providers.enrich(REQUEST, None, nothing))
    assert finish(providers.enrich(REQUEST, None, nothing)).subject.properties["a"] == 1


def test_who_cannot_tell_what_was_revoked_reuses_nothing() -> None:
    """Without knowing what was revoked every answer is asked for anew, and none is kept for others."""
    provider = Provider({"subject.a"}, ttl=60)
    providers = Providers([provider], clock=Clock())
    for generations in (None, None, Generations()):
        finish(providers.enrich(REQUEST, None, generations))
    assert len(provider.asked) == 3


# What is refused at construction.


class NotOne:
    provides: Collection[str] = {"subject.a"}


@pytest.mark.parametrize(
    ("provider", "told"),
    [
        (NotOne(), "`NotOne` is no attribute provider; it needs `provides`, `types` and"),
        (Provider, "`type` is no attribute provider"),
        (None, "`NoneType` is no attribute provider"),
        (Provider("subject.roles"), r"`Provider\.provides` must be a set of names, not `str`"),
        (Provider(None), r"`Provider\.provides` must be a set of names, not `NoneType`"),
        (Provider(iter(["subject.a"])), r"`Provider\.provides` must be a set of names, not `list_iterator`"),
        (Provider({"subject.a"}, types="user"), r"`Provider\.types` must be a set of names, not `str`"),
        (Provider({"subject.a"}, types=[]), r"`Provider\.types` is empty; use None for every type"),
        (Provider({"subject.a"}, types=[7]), r"`Provider\.types` must hold `str` only, not `int`"),
        (Provider([7]), r"`Provider\.provides` must hold `str` only, not `int`"),
        (Provider([]), "provides nothing; name what it provides"),
        (Provider(["roles"]), "provides `roles`; write `subject.roles`"),
        (Provider(["subject."]), "provides `subject.`; write"),
        (Provider(["tenant.a"]), "provides `tenant.a`; write"),
        (Provider(["Subject.a"]), "provides `Subject.a`; write"),
        (Provider(["subject.a"], ttl=-1), r"`Provider\.ttl` must be a number of seconds, zero or more"),
        (Provider(["subject.a"], ttl=float("nan")), r"`Provider\.ttl` must be"),
        (Provider(["subject.a"], ttl=True), r"`Provider\.ttl` must be"),
        (Provider(["subject.a"], ttl="60"), r"`Provider\.ttl` must be"),  # type: ignore[arg-type]
    ],
)
def test_providers_are_checked_at_construction(provider: Any, told: str) -> None:
    """A provider that could never serve as declared is refused where the enforcer is made."""
    with pytest.raises(ConfigurationError, match=told):
        Providers([provider], clock=Clock())


@pytest.mark.parametrize(
    ("name", "types", "clash"),
    [
        ("subject.a", (None, None), True),
        ("subject.a", (None, {"user"}), True),
        ("subject.a", ({"user"}, {"user", "agent"}), True),
        ("subject.a", ({"user"}, {"agent"}), False),
        ("resource.a", ({"document"}, {"folder"}), False),
        ("context.a", ({"user"}, {"document"}), True),
        ("action.a", ({"user"}, {"document"}), True),
    ],
)
def test_a_name_has_one_provider(name: str, types: tuple[Any, Any], clash: bool) -> None:
    """Two providers that could both be asked for one name are refused, in whichever order they come."""
    for order in itertools.permutations(types):
        providers = [Provider({name, f"subject.b{at}"}, types=kinds) for at, kinds in enumerate(order)]
        if clash:
            with pytest.raises(ConfigurationError, match=f"`Provider` and `Provider` both provide `{name}`; keep one"):
                Providers(providers, clock=Clock())
        else:
            assert list(Providers(providers, clock=Clock())) == providers
