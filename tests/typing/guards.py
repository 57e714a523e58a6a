"""
What type checkers make of guarded code: its type is what it was, and misuse is an error.

Checked by mypy and pyright, never run. Every ``type: ignore`` is an error where it is not needed.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from typing_extensions import ParamSpec, assert_type

from pep import AccessDenied, Enforcer, Grant, Guarded, Resource, ResourceId, Subject, Verdict, acting_as, carry

P = ParamSpec("P")
T = TypeVar("T")


def parameters(fn: Callable[P, T]) -> Callable[P, T]:
    """Show what a checker knows of a function's parameters and result."""
    return fn


class Document:
    """A document."""


# Functions of every kind.


def functions(enforcer: Enforcer) -> None:
    """A guarded function keeps its parameters and its result."""

    @enforcer.guard("read", resource="document:{document_id}")
    def read(document_id: str, *, pages: int = 1) -> Document:
        return Document()

    assert_type(read("42", pages=2), Document)
    read(42)  # type: ignore[arg-type]
    read("42", 2)  # type: ignore[call-arg]
    read()  # type: ignore[call-arg]
    read("42", page=2)  # type: ignore[call-arg]

    @enforcer.guard("read")
    @enforcer.guard("list", resource=lambda folder: Resource("folder", folder))
    def stacked(folder: str) -> list[Document]:
        return []

    assert_type(stacked("a"), list[Document])

    marked = enforcer.guard("read")(by_marker)
    assert_type(marked("42", Document()), None)
    assert_type(enforcer.guard("read")(len)([1]), int)


def by_marker(document_id: Annotated[str, ResourceId("document")], other: Annotated[Document, Guarded]) -> None:
    """Markers change nothing for whoever calls."""


async def coroutine_functions(enforcer: Enforcer) -> None:
    """A guarded coroutine function is one, and its coroutine can be used as one."""

    @enforcer.guard("read")
    async def read(document_id: str) -> Document:
        return Document()

    handler: Callable[[str], Coroutine[Any, Any, Document]] = read
    assert_type(await handler("42"), Document)
    assert_type(await read("42"), Document)
    await read(42)  # type: ignore[arg-type]


def generators(enforcer: Enforcer) -> None:
    """A guarded generator keeps what it yields, takes and returns."""

    @enforcer.guard("read")
    def count(start: int) -> Generator[int, str, bytes]:
        yield start
        return b""

    def through() -> Generator[int, str, None]:
        assert_type((yield from count(1)), bytes)

    assert_type(count(1), Generator[int, str, bytes])
    assert_type(through(), Generator[int, str, None])
    count("1")  # type: ignore[arg-type]


async def async_generators(enforcer: Enforcer) -> None:
    """A guarded asynchronous generator is iterated as one."""

    @enforcer.guard("read")
    async def count(start: int) -> AsyncIterator[int]:
        yield start

    assert_type(count(1), AsyncIterator[int])
    async for number in count(1):
        assert_type(number, int)


# Methods, properties, classes.


def members(enforcer: Enforcer) -> None:
    """Methods of every kind and properties keep their types, called through class or instance."""

    class Library:
        @enforcer.guard("read")
        def read(self, document_id: str) -> Document:
            return Document()

        @enforcer.guard("read")
        async def aread(self, document_id: str) -> Document:
            return Document()

        @staticmethod
        @enforcer.guard("read")
        def static(document_id: str) -> Document:
            return Document()

        @enforcer.guard("read")
        @staticmethod
        def static_above(document_id: str) -> Document:
            return Document()

        @classmethod
        @enforcer.guard("read")
        def of_class(cls, document_id: str) -> Document:
            return Document()

        @property
        @enforcer.guard("read")
        def title(self) -> str:
            return ""

        @title.setter
        @enforcer.guard("write")
        def title(self, value: str) -> None: ...

    library = Library()
    assert_type(library.read("42"), Document)
    assert_type(Library.read(library, "42"), Document)
    handler: Callable[[str], Coroutine[Any, Any, Document]] = library.aread
    handler(42)  # type: ignore[arg-type, unused-coroutine]
    assert_type(library.static("42"), Document)
    assert_type(Library.static("42"), Document)
    assert_type(Library.static_above("42"), Document)
    assert_type(library.of_class("42"), Document)
    assert_type(Library.of_class("42"), Document)
    assert_type(library.title, str)
    library.title = "new"
    library.title = 42  # type: ignore[assignment]
    library.read(42)  # type: ignore[arg-type]
    library.static(42)  # type: ignore[arg-type]
    Library.of_class(42)  # type: ignore[arg-type]


def classes(enforcer: Enforcer) -> None:
    """A guarded class is the same class."""

    @enforcer.guard("create")
    class Letter:
        def __init__(self, to: str) -> None:
            self.to = to

    @enforcer.guard("create")
    @dataclass
    class Note:
        text: str

    @enforcer.all_guarded
    class Library:
        @enforcer.exempt(reason="open")
        def open(self) -> int:
            return 1

    class Reply(Letter):
        pass

    assert_type(Letter("bob"), Letter)
    assert_type(Letter("bob").to, str)
    assert_type(Reply("bob").to, str)
    assert_type(Note(text="x").text, str)
    assert_type(Library().open(), int)
    kind: type[Letter] = Letter
    isinstance(kind, type)
    Letter(42)  # type: ignore[arg-type]
    Note()  # type: ignore[call-arg]


# Results.


def results(enforcer: Enforcer) -> None:
    """Guards of results keep the type, too."""

    @enforcer.guard_result("read", side_effects=False)
    def find(name: str) -> Document:
        return Document()

    @enforcer.filter_result("read", side_effects=False, batch=10)
    def find_all(name: str) -> list[Document]:
        return []

    @enforcer.filter_result("read", side_effects=False)
    def stream(name: str) -> Iterator[Document]:
        yield Document()

    assert_type(find("a"), Document)
    assert_type(find_all("a"), list[Document])
    assert_type(stream("a"), Iterator[Document])
    find(42)  # type: ignore[arg-type]


# Blocks and plain calls.


async def calls(enforcer: Enforcer, document: Resource) -> None:
    """What the other entry points give."""
    with enforcer.enforcing("read", document) as grant:
        assert_type(grant, Grant)
    async with enforcer.enforcing("read", document) as grant:
        assert_type(grant, Grant)
    assert_type(enforcer.enforce("read", document), Grant)
    assert_type(await enforcer.aenforce("read", document), Grant)
    assert_type(enforcer.check("read", document), Verdict)
    assert_type(enforcer.check_many([("read", document)]), list[Verdict])
    assert_type(enforcer.filter("read", [document]), list[Resource])
    assert_type(await enforcer.afilter("read", [document]), list[Resource])
    with acting_as(Subject("user", "alice")):
        assert_type(carry(parameters(by_marker))("42", Document()), None)


# Misuse.


def misuse(enforcer: Enforcer) -> None:
    """What is an error when it runs is one before, where a type can tell."""

    def instead(error: AccessDenied) -> None:
        """Give nothing instead."""

    def wrong(error: int) -> None:
        """Take something that no denial is."""

    enforcer.guard("read", on_denied=instead)
    enforcer.guard("read", on_denied=wrong)  # type: ignore[arg-type]
    enforcer.guard("read", resorce="document:{x}")  # type: ignore[call-arg]
    enforcer.guard("read", "document:{x}")  # type: ignore[call-arg]
    enforcer.guard()  # type: ignore[call-arg]
    enforcer.guard("read")(42)  # type: ignore[type-var]
    enforcer.guard_result("read")  # type: ignore[call-arg]
    enforcer.guard_result("read", side_effects="none")  # type: ignore[arg-type]
    enforcer.filter_result("read", side_effects=False, batch="ten")  # type: ignore[arg-type]
    enforcer.exempt()  # type: ignore[call-arg]
    enforcer.exempt("open")  # type: ignore[call-arg]
    enforcer.all_guarded(by_marker)  # type: ignore[type-var]
    Enforcer(lambda _request: True)  # type: ignore[call-arg]


async def forgotten(enforcer: Enforcer, document: Resource) -> None:
    """A grant that was not awaited is no grant."""
    enforcer.aenforce("read", document).use()  # type: ignore[attr-defined]
    (await enforcer.aenforce("read", document)).use()
    async with enforcer.enforce("read", document):  # type: ignore[attr-defined]
        pass
