"""What a guard demands is checked where it is written."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Optional

import pytest

import pep
from pep import AccessDenied, Action, Enforcer, Fault, Resource, Subject, acting_as
from pep.audit import MemorySink
from pep.errors import ConfigurationError
from pep.guard.shape import Shape, shape_of
from pep.guard.site import Site, own_site, site_of
from tests.guard.rigs import ALICE, Rig, logged, wait

if TYPE_CHECKING:
    from pep.pdp import Nowhere  # type: ignore[attr-defined]


class Document:
    def __init__(self, name: str) -> None:
        self.name = name

    def __pep_resource__(self) -> Resource:
        return Resource("document", self.name)


DocumentId = Annotated[str, pep.ResourceId("document")]
GuardedDocument = Annotated[Document, pep.Guarded]
Perhaps = Optional[Annotated[str, pep.ResourceId("document")]]  # noqa: UP045  evaluated on Python 3.10, too


# Actions.


@pytest.mark.parametrize("action", ["read", "document:read", Action("read"), Action("read", {"way": "slow"})])
def test_an_action_is_a_name_or_an_action(action: Any) -> None:
    """A plain name and a whole action are asked about as they are written."""
    rig = Rig()
    with acting_as(ALICE):
        rig.enforcer.guard(action)(lambda: None)()
    assert rig.asked[0].action == (action if isinstance(action, Action) else Action(action))


class Name(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("action", "shown"),
    [
        ("", "an empty `str`"),
        (None, "`NoneType`"),
        (b"read", "`bytes`"),
        (Name("read"), "`Name`"),
        (["read"], "`list`"),
        ("document:*", "`document:*` looks like a pattern or a template; a guard names one action"),
        ("read {x}", "`read {x}` looks like a pattern or a template"),
    ],
    ids=repr,
)
def test_anything_else_is_no_action(action: Any, shown: str) -> None:
    """What is no exact, non-empty name is refused at the guard, before it meets a function."""
    with pytest.raises(ConfigurationError) as caught:
        Rig().enforcer.guard(action)
    assert shown in str(caught.value)


# Markers.


def by_id(document_id: Annotated[str, pep.ResourceId("document")]) -> None: ...
def by_object(document: Annotated[Document, pep.Guarded]) -> None: ...
def by_instance(document: Annotated[Document, pep.Guarded()]) -> None: ...
def by_id_alias(document_id: DocumentId) -> None: ...
def by_object_alias(document: GuardedDocument) -> None: ...
def by_two(one: DocumentId, other: DocumentId) -> None: ...
def by_none(document_id: str, size: int = 0, anything: Nowhere = None, untyped=None) -> None: ...  # noqa: ANN001  left out on purpose


def evaluated(document_id) -> None: ...  # noqa: ANN001  set below


evaluated.__annotations__ = {"document_id": DocumentId}


@pytest.mark.parametrize(
    ("fn", "args", "asked"),
    [
        (by_id, ["42"], [("document", "42")]),
        (by_object, [Document("42")], [("document", "42")]),
        (by_instance, [Document("42")], [("document", "42")]),
        (by_id_alias, ["42"], [("document", "42")]),
        (by_object_alias, [Document("42")], [("document", "42")]),
        (logged(by_id_alias), ["42"], [("document", "42")]),
        (evaluated, ["42"], [("document", "42")]),
        (by_two, ["1", "2"], [("document", "1"), ("document", "2")]),
        (by_none, ["42"], [("application", "application")]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_markers_are_found_behind_aliases(fn: Any, args: list[Any], asked: list[tuple[str, str]]) -> None:
    """A marked parameter is the resource, also where its string annotation only names an alias."""
    rig = Rig()
    with acting_as(ALICE):
        rig.enforcer.guard("read")(fn)(*args)
    assert [(request.resource.type, request.resource.id) for request in rig.asked] == asked


def nested(document_id: Annotated[str, pep.ResourceId("document")] | None) -> None: ...
def nested_alias(document_id: Perhaps) -> None: ...
def nested_list(documents: list[GuardedDocument]) -> None: ...
def nested_deep(documents: Annotated[dict[str, list[GuardedDocument]], "note"]) -> None: ...
def unresolved(document: Annotated[Nowhere, pep.Guarded]) -> None: ...


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (nested, "the marker of `document_id` is inside another type; put `Annotated[...]` outermost"),
        (nested_alias, "the marker of `document_id` is inside another type"),
        (nested_list, "the marker of `documents` is inside another type"),
        (nested_deep, "the marker of `documents` is inside another type"),
        (unresolved, "the annotation of `document` cannot be resolved at decoration; use `resource=` instead"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_marker_is_never_overlooked(fn: Any, message: str) -> None:
    """A marker that would be ignored is an error: the guard would be about the application instead."""
    with pytest.raises(ConfigurationError) as caught:
        Rig().enforcer.guard("read")(fn)
    assert message in str(caught.value)


def test_resource_comes_before_markers() -> None:
    """`resource=` is what counts where both are there."""
    rig = Rig()
    with acting_as(ALICE):
        rig.enforcer.guard("read", resource="folder:{document_id}")(by_id)("42")
    assert rig.asked[0].resource == Resource("folder", "42")


# Stacks.


def stacked(rig: Rig, *outer: Callable[[Any], Any]) -> Any:
    fn: Any = rig.ran.append
    made = functools.reduce(lambda inner, guard: guard(inner), outer, lambda value: fn(value))
    with acting_as(ALICE):
        made("x")
    return made


def test_stacked_guards_are_one_enforcement() -> None:
    """Guards on one function are decided together: one record, nothing run unless all permit."""
    rig = Rig()
    guard = rig.enforcer.guard
    stacked(rig, guard("one"), guard("two"), guard("three"))
    assert [request.action.name for request in rig.asked] == ["three", "two", "one"]
    assert (rig.told(), rig.ran) == (["permitted"], ["x"])
    rig.answer = lambda request: request.action.name != "two"
    with pytest.raises(AccessDenied):
        stacked(rig, guard("one"), guard("two"), guard("three"))
    assert (rig.told(), rig.ran) == (["permitted", "denied"], ["x"])


def test_a_stack_is_one_site() -> None:
    """An enforcer lists a stack once, also where its lower part is used under several."""
    rig = Rig()
    guard = rig.enforcer.guard
    low = guard("low")(lambda: rig.ran.append("ran"))
    high, higher = guard("high")(low), guard("higher")(low)
    assert repr(rig.enforcer).endswith("bound, 2 sites>")
    with acting_as(ALICE):
        for fn, asked in ((low, ["low"]), (high, ["high", "low"]), (higher, ["higher", "low"])):
            del rig.asked[:]
            fn()
            assert [request.action.name for request in rig.asked] == asked


def test_another_decorator_between_two_guards_is_refused() -> None:
    """A decorator that copies attributes is neither dropped nor mistaken for the guard."""
    rig = Rig()
    with pytest.raises(ConfigurationError, match=r"another decorator stands between two guards of `.*by_id`"):
        rig.enforcer.guard("one")(logged(rig.enforcer.guard("two")(by_id)))


def test_two_enforcers_on_one_function_are_refused() -> None:
    """Two enforcers cannot decide as one."""
    with pytest.raises(
        ConfigurationError, match=r"`by_id` is guarded by enforcer `application` already; guard it by one"
    ):
        Rig().enforcer.guard("one")(Rig().enforcer.guard("two")(by_id))


def test_one_stack_has_one_on_denied() -> None:
    """Where both guards say what happens on denial, neither is chosen; one of them is enough."""
    rig = Rig(False)
    instead = rig.enforcer.guard("one", on_denied=lambda _error: "instead")
    with pytest.raises(ConfigurationError, match="take `on_denied`; keep one"):
        instead(instead(by_id))
    with acting_as(ALICE):
        assert rig.enforcer.guard("two")(instead(by_id))("42") == "instead"
        assert instead(rig.enforcer.guard("two")(by_id))("42") == "instead"


def test_an_exempt_function_is_not_guarded() -> None:
    """Open and guarded is a contradiction."""
    rig = Rig()

    @rig.enforcer.exempt(reason="open")
    def open_function() -> None: ...

    with pytest.raises(ConfigurationError, match=r"`.*open_function` is exempt; drop `exempt`, or the guard"):
        rig.enforcer.guard("read")(open_function)


# Sites.


def test_a_copied_site_is_no_guard() -> None:
    """`functools.wraps` copies what a guard leaves on a function; only the guard itself owns it."""
    guarded = Rig().enforcer.guard("read")(by_id)
    wrapped = logged(guarded)
    site = site_of(guarded)
    assert isinstance(site, Site)
    assert (site_of(wrapped), own_site(wrapped), own_site(guarded)) == (site, None, site)
    assert site_of(by_id) is own_site(by_id) is site_of(42) is own_site(42) is None


def test_a_site_tells_where_its_function_was_written() -> None:
    """Name, file and line are the function's, through other decorators, too."""
    for fn in (by_id, logged(by_id), functools.lru_cache(by_id)):
        site = site_of(Rig().enforcer.guard("read")(fn))
        assert site is not None
        assert (site.name, site.filename, site.lineno) == ("by_id", __file__, by_id.__code__.co_firstlineno)


def test_a_site_without_code_has_no_place() -> None:
    """What wraps something that has no code says so."""

    @functools.wraps(len)
    def length(value: Any) -> int:
        return len(value)

    site = site_of(Rig().enforcer.guard("read")(length))
    assert site is not None
    assert (site.filename, site.lineno) == ("?", 0)


async def coroutine() -> None: ...
def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("fn", "shape", "asynchronous"),
    [
        (by_id, Shape.FUNCTION, False),
        (generator, Shape.GENERATOR, False),
        (coroutine, Shape.COROUTINE, True),
        (async_generator, Shape.ASYNC_GENERATOR, True),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_kind_of_function_has_its_shape(fn: Any, shape: Shape, asynchronous: bool) -> None:
    """The shape decides which guard it gets, and whether it can wait."""
    assert shape_of(fn) is shape
    site = site_of(Rig().enforcer.guard("read")(fn))
    assert site is not None
    assert (site.shape, site.asynchronous) == (shape, asynchronous)


# What a site is checked against.


async def adecide(_request: object) -> bool:
    return True


async def aresource(document_id: str) -> Resource:
    return Resource("document", document_id)


@pytest.mark.parametrize(
    ("fn", "refused"), [(by_id, True), (generator, True), (coroutine, False), (async_generator, False)]
)
def test_a_synchronous_function_over_an_awaited_part_is_refused(fn: Any, refused: bool) -> None:
    """What can only be awaited cannot decide for a plain function: an error at decoration, not at the call."""
    enforcer = Enforcer(adecide, audit=MemorySink())
    if not refused:
        enforcer.guard("read")(fn)
        return
    with pytest.raises(ConfigurationError, match=rf"`{fn.__name__}` is synchronous, but `.*` can only be awaited"):
        enforcer.guard("read")(fn)


def test_a_synchronous_function_over_an_awaited_extractor_is_refused() -> None:
    """The same for an extractor."""
    enforcer = Rig().enforcer
    with pytest.raises(ConfigurationError, match="`by_id` is synchronous, but an extractor can only be awaited"):
        enforcer.guard("read", resource=aresource)(by_id)

    async def read(document_id: str) -> str:
        return document_id

    with acting_as(ALICE):
        assert wait(enforcer.guard("read", resource=aresource)(read)("42")) == "42"


def test_a_frozen_enforcer_guards_nothing_more() -> None:
    """After `freeze()` a guard is refused."""
    enforcer = Rig().enforcer
    enforcer.freeze()
    with pytest.raises(ConfigurationError, match="is frozen; guard before `freeze"):
        enforcer.guard("read")(by_id)


def test_binding_lists_every_site_that_does_not_fit() -> None:
    """What decoration could not check, `bind` checks, by file and line."""
    enforcer = Enforcer.unbound("library")
    for fn in (by_id, generator, coroutine):
        enforcer.guard("read")(fn)
    with pytest.raises(ConfigurationError) as caught:
        enforcer.bind(adecide, audit=MemorySink())
    for fn in (by_id, generator):
        assert f"{__file__}:{fn.__code__.co_firstlineno}: `{fn.__name__}` is synchronous" in str(caught.value)
    assert "coroutine" not in str(caught.value)


def test_every_call_of_an_unbound_enforcer_is_denied() -> None:
    """Closed until configured."""
    enforcer = Enforcer.unbound("library")
    with acting_as(ALICE), pytest.raises(AccessDenied) as caught:
        enforcer.guard("read")(by_id)("42")
    assert caught.value.fault is Fault.UNBOUND


def test_a_function_without_a_signature_is_refused() -> None:
    """Where arguments cannot be bound, they cannot be checked."""

    def unreadable() -> None: ...

    unreadable.__wrapped__ = unreadable  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="`unreadable` has no readable signature; wrap it in a `def`"):
        Rig().enforcer.guard("read")(unreadable)


@pytest.mark.parametrize(
    ("part", "spec", "message"),
    [
        ("resource", "document:{doc}", "unknown parameter `doc`"),
        ("resource", "doc", "unknown parameter `doc`"),
        ("resource", lambda doc: doc, "unknown parameter `doc`"),
        ("subject", "user:{user}", "unknown parameter `user`"),
        ("context", ("when",), "unknown parameter `when`"),
        ("context", 42, "`context` takes a mapping, a callable or a tuple"),
    ],
)
def test_parts_are_checked_against_the_signature(part: str, spec: object, message: str) -> None:
    """A part that names what the function does not take is refused where it is written."""
    with pytest.raises(ConfigurationError) as caught:
        Rig().enforcer.guard("read", **{part: spec})(by_id)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_every_part_may_come_from_the_call() -> None:
    """Subject and context are taken from the arguments where the guard says so."""
    rig = Rig()

    @rig.enforcer.guard("read", resource="document:{document_id}", subject="user:{user}", context=("size",))
    def read(document_id: str, user: str, size: int = 3) -> None: ...

    read("42", "bob")
    assert (rig.asked[0].subject, dict(rig.asked[0].context)) == (Subject("user", "bob"), {"size": 3})


def _a_b_c(a: Any, b: Any, c: Any = 3) -> None: ...
def _only_named(a: Any, *, b: Any = 2) -> None: ...
def _only_placed(a: Any, /, b: Any) -> None: ...
def _rest(a: Any, *more: Any) -> None: ...
def _named_rest(a: Any, **more: Any) -> None: ...


def _nothing() -> None: ...


@pytest.mark.parametrize("fn", [_a_b_c, _only_named, _only_placed, _rest, _named_rest, _nothing])
@pytest.mark.parametrize("args", [(), (1,), (1, 2), (1, 2, 4), (1, 2, 4, 5)])
@pytest.mark.parametrize("names", [(), ("a",), ("b",), ("c",), ("c", "b"), ("c", "b", "a"), ("d",), ("d", "e")])
def test_a_call_is_bound_as_its_signature_binds_it(fn: Any, args: tuple[Any, ...], names: tuple[str, ...]) -> None:
    """However a call gives its arguments, they are bound in order and with defaults, or refused, as Python does."""
    site = own_site(Rig().enforcer.guard("read")(fn))
    assert site is not None
    kwargs = {name: name for name in names}
    try:
        wanted = site.signature.bind(*args, **kwargs)
        wanted.apply_defaults()
    except TypeError:
        with pytest.raises(TypeError, match=fn.__name__):
            site.bind(args, kwargs)
        return
    bound = site.bind(args, kwargs)
    assert list(bound.arguments.items()) == list(wanted.arguments.items())
    assert (bound.args, bound.kwargs) == (wanted.args, wanted.kwargs)
