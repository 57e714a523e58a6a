"""Guarded construction: no instance without a permit, of subclasses neither."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

import attrs
import pytest

from pep import AccessDenied, acting_as
from pep.errors import ConfigurationError
from tests.guard.rigs import ALICE, Rig

T = TypeVar("T")
shared = Rig()
guard = shared.enforcer.guard("create")


@guard
class Paper:
    """A paper."""

    def __init__(self, title: str = "untitled", *, pages: int = 1) -> None:
        self.title, self.pages = title, pages


@guard
class Empty:
    pass


@pytest.fixture(autouse=True)
def _permitted() -> None:
    shared.answer = True


def test_the_class_stays_the_class() -> None:
    """A guarded class is the same class: name, signature, documentation, `isinstance`."""
    assert isinstance(Paper, type)
    assert (Paper.__name__, inspect.getdoc(Paper)) == ("Paper", "A paper.")
    assert str(inspect.signature(Paper)) == "(title: 'str' = 'untitled', *, pages: 'int' = 1) -> 'None'"
    assert not inspect.signature(Empty).parameters
    with acting_as(ALICE):
        assert isinstance(Paper("a", pages=2), Paper)
        assert isinstance(Empty(), Empty)
        with pytest.raises(TypeError):
            Empty("x")  # type: ignore[call-arg]


def test_a_denied_construction_leaves_nothing() -> None:
    """On a denial `__init__` does not run."""
    shared.answer = False
    with acting_as(ALICE), pytest.raises(AccessDenied):
        Paper("a")
    with acting_as(ALICE), pytest.raises(AccessDenied):
        Empty()


def test_copies_are_no_construction() -> None:
    """An instance that was permitted pickles and copies without another decision."""
    with acting_as(ALICE):
        paper = Paper("a")
    asked = len(shared.asked)
    for same in (copy.copy(paper), copy.deepcopy(paper), pickle.loads(pickle.dumps(paper))):  # noqa: S301  pickled here
        assert (type(same), same.title) == (Paper, "a")
    assert len(shared.asked) == asked


def test_generic_and_abstract_classes_are_guarded() -> None:
    """Classes with the standard library's own machinery around them are guarded like others."""

    @guard
    class Box(Generic[T]):
        def __init__(self, value: T) -> None:
            self.value = value

    @guard
    class Shape(ABC):
        @abstractmethod
        def area(self) -> float: ...

    class Square(Shape):
        def area(self) -> float:
            return 1.0

    with acting_as(ALICE):
        assert Box[int](1).value == 1
        assert Square().area() == 1.0
        with pytest.raises(TypeError, match="abstract"):
            Shape()  # type: ignore[abstract]
    with pytest.raises(AccessDenied):
        Square()


# Subclasses.


def test_a_subclass_inherits_the_guard() -> None:
    """A subclass without an `__init__` of its own is constructed under the inherited guard."""

    class Letter(Paper):
        pass

    with acting_as(ALICE):
        assert Letter("a").title == "a"
    shared.answer = False
    with acting_as(ALICE), pytest.raises(AccessDenied):
        Letter("a")


def test_a_subclass_with_a_guarded_init_is_decided_for_both() -> None:
    """Its own guard and the one it calls each decide."""

    class Letter(Paper):
        @shared.enforcer.guard("send")
        def __init__(self, to: str) -> None:
            super().__init__(to)

    asked = len(shared.asked)
    with acting_as(ALICE):
        assert Letter("bob").title == "bob"
    assert [request.action.name for request in shared.asked[asked:]] == ["send", "create"]


def init(self: Any, title: str) -> None:
    self.title = title


class Mixin:
    def __init__(self) -> None: ...


class Maker:
    def __new__(cls) -> Any:
        return object.__new__(cls)


@pytest.mark.parametrize(
    ("bases", "body"),
    [
        ((Paper,), {"__init__": init}),
        ((Paper,), {"__init__": functools.wraps(Paper.__init__)(init)}),
        ((Paper,), {"__new__": lambda cls, _title: object.__new__(cls)}),
        ((Mixin, Paper), {}),
        ((Maker, Paper), {}),
        ((Paper, Maker), {}),
    ],
    ids=["init", "wrapping init", "new", "mixin init", "mixin new before", "mixin new behind"],
)
def test_a_subclass_cannot_replace_the_guarded_construction(bases: tuple[type, ...], body: dict[str, Any]) -> None:
    """An unguarded `__init__` or any `__new__` in a subclass is refused where the subclass is written."""
    with pytest.raises(
        ConfigurationError, match="`Letter` replaces the guarded construction it inherits; put a guard on"
    ):
        type("Letter", bases, dict(body))


def test_a_generated_init_cannot_either() -> None:
    """A decorator that gives a subclass its `__init__` later makes a class that cannot be instantiated."""

    @dataclass
    class Letter(Paper):
        to: str

    with acting_as(ALICE), pytest.raises(TypeError, match=r"`.*Letter` replaces the guarded construction it inherits"):
        Letter("bob")


def test_a_regenerated_class_cannot_either() -> None:
    """A decorator that makes the subclass anew is refused where it is written."""
    with pytest.raises(ConfigurationError, match="replaces the guarded construction"):

        @attrs.define
        class Letter(Paper):
            to: str


@pytest.mark.parametrize("slots", [False, True])
def test_a_guard_below_a_class_decorator_stays(slots: bool) -> None:
    """A guarded class that another decorator makes anew is still guarded, and so are its subclasses."""

    @attrs.define(slots=slots)
    @guard
    class Document:
        title: str = "x"

        def __init__(self) -> None:
            self.title = "set"

    @dataclass(**({"slots": True} if slots else {}))
    @guard
    class Note:
        title: str

        def __init__(self) -> None:
            self.title = "set"

    for cls in (Document, Note):
        sub = type("Sub", (cls,), {})
        with acting_as(ALICE):
            assert (cls().title, sub().title) == ("set", "set")
        with pytest.raises(AccessDenied):
            sub()
        with pytest.raises(ConfigurationError):
            type("Sub", (cls,), {"__init__": init})


def test_subclass_hooks_still_run() -> None:
    """`__init_subclass__` of the class itself, of its bases and of later mixins is called as before."""
    told: list[tuple[str, str, dict[str, Any]]] = []

    class Registered:
        def __init_subclass__(cls, **kwargs: Any) -> None:
            told.append(("mixin", cls.__name__, kwargs))

    @guard
    class Own:
        def __init_subclass__(cls, **kwargs: Any) -> None:
            told.append(("own", cls.__name__, kwargs))

    @guard
    class Plain:
        pass

    class _OwnSub(Own, colour="red"):  # type: ignore[call-arg]
        pass

    class _PlainSub(Plain, Registered, colour="blue"):
        pass

    assert told == [("own", "_OwnSub", {"colour": "red"}), ("mixin", "_PlainSub", {"colour": "blue"})]


# What is refused.


class Meta(type):
    def __call__(cls, *args: Any) -> Any:
        return super().__call__(*args)


class WithMeta(metaclass=Meta):
    def __init__(self) -> None: ...


class Number(int):
    pass


class Colour(Enum):
    RED = 1


class Inherits(Mixin):
    pass


class Odd:
    __init__ = functools.partialmethod(init, "x")


@pytest.mark.parametrize(
    ("cls", "mend"),
    [
        (
            WithMeta,
            "`WithMeta` is made by a `__new__` or metaclass, which would run unguarded; guard a factory function",
        ),
        (Maker, "`Maker` is made by a `__new__` or metaclass"),
        (Number, "`Number` is made by a `__new__` or metaclass"),
        (Inherits, "`Inherits` has no `__init__` of its own; define one, or guard a factory function"),
        (Odd, "`Odd` has no `__init__` of its own"),
        (KeyError, "`KeyError` is made by a `__new__` or metaclass"),
        (Paper, "the construction of `Paper` is guarded already; guard it once"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_construction_that_cannot_be_guarded_is_refused(cls: type, mend: str) -> None:
    """Where code would run before `__init__`, or there is none to guard, the guard is refused."""
    with pytest.raises(ConfigurationError) as caught:
        guard(cls)
    assert mend in str(caught.value)


def test_enumerations_are_not_constructed() -> None:
    """An enumeration's members exist already; guarding its construction is refused."""
    with pytest.raises(ConfigurationError, match="is made by a `__new__` or metaclass"):
        guard(Colour)
    assert Colour(1) is Colour.RED


def test_construction_gives_no_other_result() -> None:
    """`on_denied` would leave a half-made instance: refused, on the class and on `__init__`."""
    instead = shared.enforcer.guard("create", on_denied=lambda _error: None)
    with pytest.raises(ConfigurationError, match="construction cannot give another result; drop `on_denied`"):

        @instead
        class Letter:
            pass

    with pytest.raises(ConfigurationError, match="construction cannot give another result; drop `on_denied`"):

        class Note:
            @instead
            def __init__(self) -> None: ...


def test_a_protocol_is_left_to_its_implementations() -> None:
    """A guard on a protocol class guards those that inherit from it."""

    @guard
    class Readable(Protocol):
        def __init__(self) -> None: ...

    class Book(Readable):
        pass

    with pytest.raises(AccessDenied):
        Book()
