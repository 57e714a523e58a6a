from __future__ import annotations

import functools
import inspect
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from enum import Enum
from typing import Annotated, Any, get_type_hints
from unittest.mock import AsyncMock, Mock

import pytest

from pep.errors import ConfigurationError, ExtractionError
from pep.extract import (
    Constant,
    Guarded,
    Registries,
    Requirement,
    ResourceId,
    context_source,
    identifier,
    is_asynchronous,
    marked_source,
    resource_source,
    subject_source,
)
from pep.model import AccessRequest, Action, Resource, Subject
from pep.plan import call
from pep.registry import Registry
from pep.scope import NOBODY, Frame, Scope, current_subject
from tests.plans import finish

ALICE, BOB, AGENT = Subject("user", "alice"), Subject("user", "bob"), Subject("agent", "a1")
FRAME = Frame(Scope(ALICE))


class Document:
    def __init__(self, key: Any = "42") -> None:
        self.id = key
        self.reads = 0

    @property
    def folder(self) -> Document:
        self.reads += 1
        return Document(f"in-{self.id}")


class Unreadable:
    __signature__ = 7

    def __call__(self) -> None: ...


class Colour(Enum):
    RED = "red"


class Text(str):
    __slots__ = ()


def registries() -> Registries:
    made = Registries(Registry(Subject, "__pep_subject__"), Registry(Resource, "__pep_resource__"))
    made.resources.register(Document, lambda value: Resource("document", value.id))
    made.subjects.register(Document, lambda value: Subject("user", value.id))
    return made


def guarded(self: object, document_id: Any, document: Any = None, *rest: Any, who: Any = None, **more: Any) -> None:
    """A function to be guarded."""


SIGNATURE = inspect.signature(guarded)


def arguments(*args: Any, **kwargs: Any) -> dict[str, Any]:
    bound = SIGNATURE.bind(None, *args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def extracted(spec: Any, *args: Any, frame: Frame = FRAME, **kwargs: Any) -> list[Resource]:
    requirement = Requirement(Action("read"), resource_source(spec, SIGNATURE, registries()))
    found = finish(requirement.requests(arguments(*args, **kwargs), frame, registries()))
    assert all(type(request) is AccessRequest for request in found)
    return [request.resource for request in found]


# Templates.


@pytest.mark.parametrize(
    ("template", "value", "expected"),
    [
        ("document:{document_id}", "42", ("document", "42")),
        ("document:{document_id}", 42, ("document", "42")),
        ("document:{document_id}", -1, ("document", "-1")),
        ("document:{document_id}", uuid.UUID(int=0xABC), ("document", "00000000-0000-0000-0000-000000000abc")),
        ("document:{document_id}", "a:{b}*\n", ("document", "a:{b}*\n")),
        ("urn:x:document:{document_id}", "42", ("urn:x:document", "42")),
        ("document:{document.id}", Document("7"), ("document", "7")),
        ("folder:{document.folder.id}", Document("7"), ("folder", "in-7")),
    ],
)
def test_templates_make_resources(template: str, value: Any, expected: tuple[str, str]) -> None:
    """A template is a literal type and one placeholder, whose value becomes the id as it is."""
    parts = {"document": value} if "document." in template else {"document_id": value}
    assert extracted(template, **{"document_id": "x", **parts}) == [Resource(*expected)]


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        1.0,
        b"42",
        Text("42"),
        Colour.RED,
        ["42"],
        Document(),
        type("Sub", (int,), {})(1),
        object(),
        iter(["42"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_id(value: Any) -> None:
    """Only an exact `str`, `int` or `UUID` is an id; anything else is a fault of the call."""
    with pytest.raises(ExtractionError, match="`document_id` must hold an exact `str`, `int` or `UUID`"):
        extracted("document:{document_id}", value)


def test_an_empty_id_is_none() -> None:
    """An empty id names nothing."""
    with pytest.raises(ExtractionError, match="must not be empty"):
        extracted("document:{document_id}", "")


def test_identifiers_of_subclasses_of_uuid_are_refused() -> None:
    """A subclass may print itself as another's id."""
    with pytest.raises(ExtractionError):
        identifier(type("Sub", (uuid.UUID,), {})(int=1), "x")


def test_templates_are_followed_once() -> None:
    """A property is read once per call: it may give another value the next time."""
    document = Document()
    extracted("folder:{document.folder.id}", "x", document)
    assert document.reads == 1


def test_missing_attributes_are_faults() -> None:
    """An object without the attribute of the template is an error of the call."""
    with pytest.raises(AttributeError):
        extracted("document:{document.missing}", "x", Document())


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (
            "document:{doc}",
            "unknown parameter `doc` in resource template; the function takes `document_id`, `document`",
        ),
        ("document:{doc.id}", "unknown parameter `doc`"),
        ("document:42", "one placeholder, such as `document:{document_id}`"),
        ("document:", "one placeholder"),
        (":{document_id}", "one placeholder"),
        ("{document_id}", "one placeholder"),
        ("document:{document_id}:x", "one placeholder"),
        ("{who}:{document_id}", "one placeholder"),
        ("document:{who}{document_id}", "one placeholder"),
        ("document:{{document_id}}", "one placeholder"),
        ("document:{document_id", "one placeholder"),
        ("document:{document_id!r}", "conversions, format specs and indexing belong in a callable"),
        ("document:{document_id:>8}", "conversions, format specs and indexing"),
        ("document:{document[id]}", "conversions, format specs and indexing"),
        ("document:{document.__class__}", "public attributes"),
        ("document:{document._id}", "public attributes"),
        ("document:{_document}", "public attributes"),
        ("document:{document.class}", "public attributes"),
        ("document:{document..id}", "public attributes"),
        ("document:{}", "public attributes"),
        ("document:{0}", "public attributes"),
        ("document:{document_id }", "public attributes"),
    ],
)
def test_templates_are_checked_at_decoration(template: str, told: str) -> None:
    """A template that could be read in two ways, or names what is not there, is refused where it was written."""
    with pytest.raises(ConfigurationError) as caught:
        resource_source(template, SIGNATURE, registries())
    assert told in str(caught.value)


# Parameters, constants, and what is none of them.


def test_parameters_hold_objects() -> None:
    """The name of a parameter takes its object, by way of the registry; a list is decided together."""
    assert extracted("document", "x", Document("7")) == [Resource("document", "7")]
    assert extracted("document", "x", Resource("a", "b")) == [Resource("a", "b")]
    assert extracted("document", "x", [Document("7"), Resource("a", "b")]) == [
        Resource("document", "7"),
        Resource("a", "b"),
    ]
    assert extracted("rest", "x", None, Document("7"), Document("8")) == [
        Resource("document", "7"),
        Resource("document", "8"),
    ]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "there is no resource"),
        ([], "there is no resource to decide about"),
        ((), "there is no resource to decide about"),
        ([None], "there is no resource"),
        ([[Document()]], "`list` is no resource"),
        ({Document()}, "`set` is no resource"),
        ({"a": Document()}, "`dict` is no resource"),
        ("42", "`str` is no resource"),
        (iter([Document()]), "can be read only once are refused; return a list"),
        ((Document() for _ in range(1)), "can be read only once are refused; return a list"),
        (Document(""), "must not be empty"),
        (Document(None), "exactly a `str`, not `NoneType`"),
        (Document(7), "exactly a `str`, not `int`"),
        (Document(Text("7")), "exactly a `str`, not `Text`"),
        (ALICE, "`Subject` is no resource"),
        (Mock(), "`Mock` is no resource"),
    ],
)
def test_what_a_parameter_may_not_hold(value: Any, told: str) -> None:
    """Nothing, an empty batch, a one-shot iterator or an object nobody registered is a fault of the call."""
    with pytest.raises(ExtractionError, match=told):
        extracted("document", "x", value)


def test_constants_are_converted_once() -> None:
    """A resource or registered object is taken as it is at decoration."""
    assert extracted(Resource("a", "b"), "x") == [Resource("a", "b")]
    assert extracted(Document("7"), "x") == [Resource("document", "7")]
    source = resource_source(Document("7"), SIGNATURE, registries())
    assert (source.type, source.parameters, source.asynchronous) == ("document", (), False)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            "doc",
            "unknown parameter `doc` in resource; the function takes `document_id`, `document`, `rest`, `who`, `more`",
        ),
        ("", "unknown parameter ``"),
        (Text("document"), "unknown parameter `document`"),
        (Document, "not a class"),
        (None, "not a class"),
        (7, "`int` is no resource"),
        (["document"], "`list` is no resource"),
        (ALICE, "`Subject` is no resource"),
        (Document(""), "must not be empty"),
        (Unreadable(), "has no readable signature; wrap it"),
        (lambda doc: doc, "unknown parameter `doc` in resource callable"),
        (lambda *args: args, r"must name the parameters it reads; `\*args` could be anything"),
        (lambda **kw: kw, r"`\*\*kw` could be anything"),
    ],
)
def test_resources_are_checked_at_decoration(spec: Any, told: str) -> None:
    """What is no source, or names what is not there, is refused where it was written, naming the mend."""
    with pytest.raises(ConfigurationError, match=told):
        resource_source(spec, SIGNATURE, registries())


def test_a_function_without_parameters_says_so() -> None:
    """Where nothing can be named, the message says that the function takes nothing."""
    with pytest.raises(ConfigurationError, match="the function takes no parameters"):
        resource_source("document", inspect.signature(lambda self: None), registries())


# Callables.


def test_callables_get_what_they_name() -> None:
    """A callable gets those of the call's arguments that it names, by position or by name."""

    def extract(document: Any, /, document_id: str, *, who: str, other: int = 7) -> list[Resource]:
        return [Resource(document, document_id), Resource("who", who), Resource("other", str(other))]

    found = extracted(extract, "42", "doc", who="me")
    assert found == [Resource("doc", "42"), Resource("who", "me"), Resource("other", "7")]
    source = resource_source(extract, SIGNATURE, registries())
    assert source.parameters == ("document", "document_id", "who")


def test_defaults_before_positions_would_shift_arguments() -> None:
    """An argument that is passed by position never lands in another parameter's place."""

    def extract(document_id: str, version: int = 1, who: str = "x", /) -> Resource:
        return Resource("document", f"{document_id}/{version}/{who}")

    with pytest.raises(ConfigurationError, match="takes `who` by position after one that is unknown; take it by name"):
        resource_source(extract, SIGNATURE, registries())

    def last(document_id: str, version: int = 1, /) -> Resource:
        return Resource("document", f"{document_id}/{version}")

    assert extracted(last, "42") == [Resource("document", "42/1")]


@pytest.mark.parametrize("value", [iter([1]), (n for n in [1]), map(str, []), Mock(spec=AsyncIterator), AsyncMock()()])
def test_one_shot_arguments_are_not_consumed(value: Any) -> None:
    """What can be read only once belongs to the protected code; an extractor that names it is not called."""
    called: list[Any] = []
    with pytest.raises(ExtractionError, match="`document` can be read only once"):
        extracted(lambda document: called.append(document), "x", value)
    assert called == []
    if inspect.iscoroutine(value):
        value.close()


def test_extractors_run_in_the_callers_frame() -> None:
    """Whatever runs to find the resource runs as whoever called: callables, converters, properties."""
    seen: list[Any] = []

    class Curious(Document):
        @property
        def name(self) -> str:
            seen.append(current_subject())
            return "x"

    known = registries()
    known.resources.register(Curious, lambda value: Resource("document", value.name))
    for spec in (lambda document: Resource("document", document.name), "document", "document:{document.name}"):
        source = resource_source(spec, SIGNATURE, known)
        requirement = Requirement(Action("read"), source)
        finish(requirement.requests(arguments("x", Curious()), FRAME, known))
    assert seen == [ALICE] * 3
    assert current_subject() is None


def test_errors_of_extractors_come_through() -> None:
    """What a callable raises is what went wrong, and who acted before acts again."""
    with pytest.raises(ZeroDivisionError):
        extracted(lambda document_id: 1 / 0, "x")
    assert current_subject() is None


def test_extractors_may_be_awaited_or_be_plans() -> None:
    """A coroutine function or a plan extracts as well; what such a plan yields is checked."""

    async def later(document_id: str) -> Resource:
        return Resource("later", document_id)

    def plan(document_id: str) -> Any:
        return Resource("plan", (yield from call(str.upper, document_id)))

    def wrong(document_id: str) -> Iterator[Resource]:
        yield Resource("document", document_id)

    assert extracted(later, "a") == [Resource("later", "a")]
    assert extracted(plan, "a") == [Resource("plan", "A")]
    with pytest.raises(Exception, match="a plan must yield steps, not `Resource`"):
        extracted(wrong, "a")


async def agen(document_id: str) -> AsyncIterator[Resource]:
    yield Resource("document", document_id)


def test_async_generators_are_no_extractors() -> None:
    """What could only be iterated asynchronously is refused at decoration."""
    with pytest.raises(ConfigurationError, match="is an async generator; return a list"):
        resource_source(agen, SIGNATURE, registries())


class Awaited:
    async def __call__(self, document_id: str) -> Resource:
        return Resource("document", document_id)


class Called:
    def __call__(self, document_id: str) -> Resource:
        return Resource("document", document_id)


async def coroutine(document_id: str) -> None: ...


class Looping:
    """An object whose attributes never end, as a mock's."""

    @property
    def func(self) -> Looping:
        return self


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (coroutine, True),
        (functools.partial(coroutine), True),
        (functools.partial(functools.partial(coroutine), document_id=1), True),
        (Awaited(), True),
        (functools.partial(Awaited()), True),
        (Awaited().__call__, True),
        (AsyncMock(), True),
        (Called(), False),
        (Called().__call__, False),
        (functools.partial(Called()), False),
        (Mock(), False),
        (Looping(), False),
        (print, False),
        (lambda: None, False),
    ],
)
def test_what_can_only_be_awaited(fn: Any, expected: bool) -> None:
    """Partials and callable instances hide coroutine functions; mocks hide nothing, without end."""
    assert is_asynchronous(fn) is expected


# Markers.


def annotated(fn: Callable[..., Any]) -> Any:
    return marked_source(get_type_hints(fn, include_extras=True), inspect.signature(fn))


def test_markers_name_the_resource() -> None:
    """`Annotated` says of one parameter what the resource is; several are decided together."""

    def by_id(document_id: Annotated[str, ResourceId("document")]) -> None: ...
    def by_object(document: Annotated[Document, Guarded]) -> None: ...
    def both(document: Annotated[Any, Guarded()], *, folder_id: Annotated[int, ResourceId("folder")]) -> None: ...
    def unmarked(document: Annotated[Document, "other"], plain: int) -> None: ...

    def read(fn: Any, **values: Any) -> list[Resource]:
        requirement = Requirement(Action("read"), annotated(fn))
        return [request.resource for request in finish(requirement.requests(values, FRAME, registries()))]

    assert read(by_id, document_id="7") == [Resource("document", "7")]
    assert read(by_object, document=Document("7")) == [Resource("document", "7")]
    assert read(both, document=[Document("7"), Document("8")], folder_id=9) == [
        Resource("document", "7"),
        Resource("document", "8"),
        Resource("folder", "9"),
    ]
    with pytest.raises(ExtractionError, match="`list` is no resource"):
        read(both, document=[], folder_id=9)
    assert annotated(unmarked) is None
    several = annotated(both)
    assert (several.parameters, several.asynchronous, several.type) == (("document", "folder_id"), False, None)
    assert (annotated(by_id).type, annotated(by_object).parameters) == ("document", ("document",))


@pytest.mark.parametrize("kind", ["", None, 7, Document, Text("document")])
def test_a_marker_names_a_type(kind: Any) -> None:
    """A marker without a usable type is refused where it was written."""
    with pytest.raises(ConfigurationError, match="takes the type of a resource"):
        ResourceId(kind)


def test_a_marker_that_names_no_type_is_refused() -> None:
    """The class instead of a marker would leave the parameter unguarded without a word."""

    def wrong(document_id: Annotated[str, ResourceId]) -> None: ...

    with pytest.raises(ConfigurationError, match=r'names no type; write `ResourceId\("document"\)`'):
        annotated(wrong)


# Subjects, context, scope.


def asked(*, subject: Any = None, context: Any = None, frame: Frame = FRAME, **values: Any) -> list[AccessRequest]:
    requirement = Requirement(
        Action("read"),
        Constant(Resource("document", "1"), "document"),
        None if subject is None else subject_source(subject, SIGNATURE, registries()),
        None if context is None else context_source(context, SIGNATURE),
    )
    found: list[AccessRequest] = finish(requirement.requests(arguments("42", **values), frame, registries()))
    return found


def test_who_acts_is_the_subject() -> None:
    """Without `subject=` whoever acts is asked about, by way of the registry if need be."""
    assert [request.subject for request in asked()] == [ALICE]
    assert [request.subject for request in asked(frame=Frame(Scope(Document("7"))))] == [Subject("user", "7")]


@pytest.mark.parametrize("frame", [NOBODY, Frame(Scope(ALICE, is_open=False)), Frame(Scope(None))])
def test_nobody_is_nobody(frame: Frame) -> None:
    """A missing or closed scope is no subject: a fault, never anonymous, and nothing else of it counts either."""
    with pytest.raises(ExtractionError, match=r"nobody acts here; call it in `with pep\.acting_as\(subject\)`"):
        asked(frame=frame)


def test_an_explicit_subject_needs_no_scope() -> None:
    """With `subject=` the call says who acts."""
    assert [request.subject for request in asked(subject="who", who=BOB, frame=NOBODY)] == [BOB]
    assert [request.subject for request in asked(subject="user:{document_id}", frame=NOBODY)] == [Subject("user", "42")]
    assert [request.subject for request in asked(subject=lambda document_id: Document(document_id))] == [
        Subject("user", "42")
    ]


@pytest.mark.parametrize(
    ("who", "told"),
    [
        (None, "nobody acts here"),
        ("bob", "`str` is no subject"),
        (Document(""), "must not be empty"),
        ([BOB], "`list`"),
    ],
)
def test_a_subject_that_is_none_is_a_fault(who: Any, told: str) -> None:
    """A subject that is missing, empty or of another type never falls back to who acts."""
    with pytest.raises(ExtractionError, match=told):
        asked(subject="who", who=who)


def test_actors_are_asked_too() -> None:
    """Each actor is asked in turn for every resource, on its own behalf and in the same world."""
    scope = Scope(ALICE, (AGENT, Document("7")), "acme", Constant({}).value)
    requirement = Requirement(Action("read"), resource_source("document", SIGNATURE, registries()))
    things = [Resource("document", "1"), Resource("document", "2")]
    found = finish(requirement.requests(arguments("x", things), Frame(scope), registries()))
    seven = Subject("user", "7")
    assert [(request.subject, request.resource.id, request.actors) for request in found] == [
        (ALICE, "1", (AGENT, seven)),
        (ALICE, "2", (AGENT, seven)),
        (AGENT, "1", ()),
        (AGENT, "2", ()),
        (seven, "1", ()),
        (seven, "2", ()),
    ]
    assert {request.tenant for request in found} == {"acme"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"a": [1]}, {"ip": "::1", "a": (1,)}),
        ({"ip": "other"}, {"ip": "other"}),
        (("document_id", "who"), {"ip": "::1", "document_id": "42", "who": "me"}),
        (["document_id"], {"ip": "::1", "document_id": "42"}),
        ((), {"ip": "::1"}),
        (lambda who: {"who": who}, {"ip": "::1", "who": "me"}),
        (None, {"ip": "::1"}),
    ],
)
def test_contexts_are_merged(spec: Any, expected: dict[str, Any]) -> None:
    """A guard's context is laid over that of the scope."""
    scope = Scope(ALICE, context=AccessRequest(ALICE, "x", Resource("a", "b"), {"ip": "::1"}).context)
    assert asked(context=spec, frame=Frame(scope), who="me")[0].context == expected


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("who", "takes a mapping, a callable or a tuple of parameter names, not `str`"),
        (7, "not `int`"),
        (dict, "not `type`"),
        (("missing",), "unknown parameter `missing` in context"),
        ((7,), "unknown parameter `7` in context"),
        ({"a": object()}, "no attribute value"),
        ({1: 2}, "attribute names must be exactly `str`"),
        (lambda missing: {}, "unknown parameter `missing` in context callable"),
    ],
)
def test_contexts_are_checked_at_decoration(spec: Any, told: str) -> None:
    """A context that could never be read is refused where it was written."""
    with pytest.raises(ConfigurationError, match=told):
        context_source(spec, SIGNATURE)


@pytest.mark.parametrize("value", [None, [], "x", {"a": object()}, {1: 2}])
def test_a_context_that_is_none_is_a_fault(value: Any) -> None:
    """A callable that gives no context gives no request."""
    with pytest.raises(ExtractionError):
        asked(context=lambda who: who, who=value)


def test_what_a_requirement_knows_before_the_call() -> None:
    """A requirement names its action with the resource's type as far as that is known, and its sources."""
    template = resource_source("document:{document_id}", SIGNATURE, registries())
    parameter = resource_source("document", SIGNATURE, registries())
    context = context_source(("who",), SIGNATURE)
    assert Requirement(Action("read"), template).qualified_action == "document:read"
    assert Requirement(Action("read"), parameter).qualified_action == "?:read"
    assert Requirement(Action("a:b"), parameter).qualified_action == "a:b"
    assert Requirement(Action("read"), template, None, context).sources == (template, context)
    assert (template.parameters, context.parameters) == (("document_id",), ("who",))
