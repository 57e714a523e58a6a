"""A class that is all guarded has no open public method, and neither has any subclass."""

from __future__ import annotations

import abc
import dataclasses
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

import attrs
import pytest

from pep import Enforcer
from pep.errors import ConfigurationError

T = TypeVar("T")

enforcer = Enforcer.unbound("sample")
all_guarded = enforcer.all_guarded
may_read = enforcer.guard("read")
may_write = enforcer.guard("write")
exempt = enforcer.exempt(reason="open to all")


def fn(self: Any, *_args: Any) -> int:
    return 1


async def afn(self: Any) -> int:
    return 1


def generator(self: Any) -> Iterator[int]:
    yield 1


async def agenerator(self: Any) -> Any:
    yield 1


def fresh() -> Callable[..., int]:
    def fn(self: Any, *_args: Any) -> int:
        return 1

    return fn


def made(*bases: type[Any], **attributes: Any) -> type[Any]:
    """A class with these attributes, its metaclass told by its bases."""
    metaclass: Any = type(bases[0]) if bases else type
    return metaclass("Made", bases, attributes)  # type: ignore[no-any-return]


def refused(*told: str) -> Any:
    """The refusal of a class that tells these lines."""
    return pytest.raises(ConfigurationError, match="(?s)" + ".*".join(map(re.escape, ("is not all guarded", *told))))


class Plain:
    def run(self) -> int:
        return 1


class CallableObject:
    def __call__(self) -> int:
        return 1


# What stands in the class under `name` -> what the refusal calls it; None where there is none.
OPEN: dict[str, tuple[Any, str | None]] = {
    "function": (fn, "name"),
    "coroutine function": (afn, "name"),
    "generator": (generator, "name"),
    "asynchronous generator": (agenerator, "name"),
    "static method": (staticmethod(fn), "name"),
    "class method": (classmethod(fn), "name"),
    "property": (property(fn), "name"),
    "setter": (property(may_read(fresh()), fn), "name.setter"),
    "deleter": (property(may_read(fresh()), None, fn), "name.deleter"),
    "partial method": (functools.partialmethod(fn, 1), "name"),
    "cached property": (functools.cached_property(fn), "name"),
    "cached property over a guard": (functools.cached_property(may_read(fresh())), "name"),
    "cache": (functools.lru_cache(fn), "name"),
    "cache over a guard": (functools.lru_cache(may_read(fresh())), "name"),
    "dispatched method": (functools.singledispatchmethod(fn), "name"),
    "callable object": (CallableObject(), "name"),
    "abstract without a class that enforces it": (abc.abstractmethod(fresh()), "name"),
    "guarded function": (may_read(fresh()), None),
    "guarded static method": (staticmethod(may_read(fresh())), None),
    "guarded class method": (classmethod(may_read(fresh())), None),
    "guarded property": (property(may_read(fresh()), may_write(fresh())), None),
    "guarded partial method": (functools.partialmethod(may_read(fresh()), 1), None),
    "wrapped guard": (functools.wraps(guarded := may_read(fresh()))(lambda *args: guarded(*args)), None),
    "exempt function": (exempt(fresh()), None),
    "exempt cached property": (functools.cached_property(exempt(fresh())), None),
    "plain data": (3, None),
    "nested class": (Plain, None),
    "builtin": (len, None),
    "disabled": (None, None),
}


@pytest.mark.parametrize(("value", "name"), OPEN.values(), ids=list(OPEN))
def test_public_methods_are_guarded_or_exempt(value: Any, name: str | None) -> None:
    """Every kind of public method is named in the refusal, unless it is guarded or exempt."""
    if name is None:
        cls = made(name=value)
        assert all_guarded(cls) is cls
    else:
        with refused(f"`{name}` "):
            all_guarded(made(name=value))


@pytest.mark.parametrize(
    ("name", "counts"), [("read", True), ("__call__", True), ("_read", False), ("__getitem__", False)]
)
def test_public_is_told_by_the_name(name: str, counts: bool) -> None:
    """Names with a leading underscore are private, but for the call of an object."""
    if counts:
        with refused(f"`{name}` is neither guarded nor exempt"):
            all_guarded(made(**{name: fn}))
    else:
        all_guarded(made(**{name: fn}))


def test_every_method_is_named_at_once() -> None:
    """One refusal names all of what is to be mended."""
    with refused("`alter`", "`drop`", "`title.setter`"):
        all_guarded(made(drop=fn, alter=fn, title=property(may_read(fresh()), fn)))


@pytest.mark.parametrize("target", [fn, 3, None])
def test_takes_classes_only(target: Any) -> None:
    """What is no class cannot have its methods looked at."""
    with pytest.raises(ConfigurationError, match="takes a class"):
        all_guarded(target)


def test_inherited_methods_count() -> None:
    """A method inherited from a class that was not looked at is as open as the class's own."""
    with refused("`run` (inherited from `Plain`) is neither"):
        all_guarded(made(Plain))


def test_methods_of_builtin_bases_count() -> None:
    """A class that inherits a container's methods has them."""
    with refused("`get` (inherited from `dict`)"):
        all_guarded(made(dict))


def test_bases_of_the_language_do_not_count() -> None:
    """What `object`, `abc` and `typing` bring along is no method of the class."""

    class Reader(Protocol): ...

    class Store(Reader, abc.ABC, Generic[T]):
        @may_read
        def read(self) -> int:
            return 1

    assert all_guarded(Store) is Store


def test_subclasses_are_looked_at() -> None:
    """A subclass, and a subclass of that, cannot add an open method."""
    base = all_guarded(made(read=may_read(fresh())))
    child = made(base, more=may_read(fresh()))
    with refused("`more_open` is neither"):
        made(base, more_open=fn)
    with refused("`more_open` is neither"):
        made(child, more_open=fn)


def test_methods_mixed_in_count() -> None:
    """A mixin's open method is open in the subclass, too."""
    base = all_guarded(made(read=may_read(fresh())))
    with refused("`run` (inherited from `Plain`) is neither"):
        made(base, Plain)


# The guarded attribute of the base, what the subclass puts in its place -> what it is told; None where it may.
OVERRIDES: dict[str, tuple[Any, Any, str | None]] = {
    "guarded": (may_read(fresh()), may_read(fresh()), None),
    "guarded otherwise": (may_read(fresh()), may_write(fresh()), None),
    "open": (may_read(fresh()), fn, "overrides the guarded `Made.name`"),
    "exempt": (may_read(fresh()), exempt(fresh()), "is exempt over the guarded `Made.name`"),
    "data": (may_read(fresh()), 3, "replaces the guarded `Made.name`"),
    "nothing": (may_read(fresh()), None, None),
    "open getter": (property(may_read(fresh())), property(fn), "overrides the guarded `Made.name`"),
    "open setter": (
        property(may_read(fresh()), may_write(fresh())),
        property(may_read(fresh()), fn),
        "overrides the guarded `Made.name.setter`",
    ),
    "exempt setter": (
        property(may_read(fresh()), may_write(fresh())),
        property(may_read(fresh()), exempt(fresh())),
        "is exempt over the guarded `Made.name.setter`",
    ),
    "no setter any more": (property(may_read(fresh()), may_write(fresh())), property(may_read(fresh())), None),
}


@pytest.mark.parametrize(("inherited", "override", "told"), OVERRIDES.values(), ids=list(OVERRIDES))
def test_overrides_keep_the_guard(inherited: Any, override: Any, told: str | None) -> None:
    """What overrides a guarded method is guarded, or the subclass is refused."""
    base = all_guarded(made(name=inherited))
    if told is None:
        made(base, name=override)
    else:
        with refused(told):
            made(base, name=override)


def test_private_guards_are_kept_too() -> None:
    """A guard on a private or special method is undone by an override as much as one on a public one."""
    base = all_guarded(made(_apply=may_read(fresh()), __getitem__=may_read(fresh())))
    with refused("`__getitem__` overrides", "`_apply` overrides"):
        made(base, _apply=fn, __getitem__=fn)


def test_mixins_cannot_stand_before_a_guard() -> None:
    """A mixin that comes first hides the guarded method as an override does."""
    base = all_guarded(made(name=may_read(fresh())))
    mixin = made(name=exempt(fresh()))
    with refused("`name` is exempt over the guarded `Made.name`"):
        made(mixin, base)


def test_abstract_methods_may_be_open_their_overrides_may_not() -> None:
    """An abstract method never runs; what overrides it does."""

    @all_guarded
    class Store(abc.ABC):
        @abc.abstractmethod
        def read(self) -> int: ...

        @property
        @abc.abstractmethod
        def size(self) -> int: ...

    class Kept(Store):
        @may_read
        def read(self) -> int:
            return 1

        @property
        @may_read
        def size(self) -> int:
            return 1

    with refused("`read` is neither"):
        # Made by a call, such a class says that it comes from `abc`.
        made(Store, read=fn)
    assert Kept.__mro__[1] is Store


def test_abstract_override_of_a_guard_never_runs() -> None:
    """A guarded method may be declared abstract again further down."""
    base = all_guarded(abc.ABCMeta("Base", (), {"name": may_read(fresh())}))
    assert made(base, name=abc.abstractmethod(fresh()))


def test_two_inherited_guards_conflict() -> None:
    """Where two bases guard one name differently, the class says which holds."""
    left = all_guarded(type("Left", (), {"name": may_read(fresh())}))
    right = all_guarded(type("Right", (), {"name": may_write(fresh())}))
    with refused("`name` inherits the guards of `Left.name` and `Right.name`; define it here"):
        made(left, right)
    assert made(left, right, name=may_read(fresh()))


def test_one_guard_inherited_twice_is_no_conflict() -> None:
    """The same guarded function in two bases, an override in a diamond, and private names do not conflict."""
    shared = may_read(fresh())
    assert made(all_guarded(made(name=shared)), all_guarded(made(name=shared)))
    top = all_guarded(made(name=may_read(fresh())))
    left, right = made(top, name=may_write(fresh())), made(top)
    assert made(left, right)
    assert made(all_guarded(made(_name=may_read(fresh()))), all_guarded(made(_name=may_read(fresh()))))


def test_several_accessors_are_one_guard() -> None:
    """Getter and setter of one property do not conflict with each other."""
    assert made(all_guarded(made(name=property(may_read(fresh()), may_write(fresh())))), all_guarded(made()))


def test_own_init_subclass_keeps_working() -> None:
    """What the class does with its subclasses goes on, keyword arguments included."""
    seen: list[tuple[str, int]] = []

    @all_guarded
    class Registering:
        def __init_subclass__(cls, *, number: int, **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            seen.append((cls.__name__, number))

    class First(Registering, number=1): ...

    with refused("`run`"):
        type("Second", (First,), {"run": fn}, number=2)
    assert seen == [("First", 1), ("Second", 2)]


def test_init_subclass_of_other_bases_keeps_working() -> None:
    """What another base does with its subclasses goes on, whichever comes first."""
    seen: list[str] = []

    class Listing:
        def __init_subclass__(cls, **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            seen.append(cls.__name__)

    @all_guarded
    class Kept: ...

    class Before(Listing, Kept): ...

    class After(Kept, Listing): ...

    assert seen == ["Before", "After"]
    assert (Before.__name__, After.__name__) == ("Before", "After")


def test_a_subclass_cannot_cut_off_the_check() -> None:
    """A subclass with an `__init_subclass__` that does not call on is looked at, and so are those below it."""

    @all_guarded
    class Base: ...

    class Cut(Base):
        def __init_subclass__(cls) -> None:
            pass

    with refused("`run`"):
        made(Cut, run=fn)


@pytest.mark.parametrize("remake", [attrs.define, dataclasses.dataclass(slots=True)], ids=["attrs", "dataclass"])
def test_classes_made_anew_keep_the_check(remake: Callable[[type[Any]], type[Any]]) -> None:
    """A decorator that makes the class anew for its slots leaves it and its subclasses looked at."""

    @remake
    @all_guarded
    class Below:
        title: str

        @may_read
        def read(self) -> str:
            return self.title

    @all_guarded
    @remake
    class Above:
        title: str

        @may_read
        def read(self) -> str:
            return self.title

    for base in (Below, Above):
        child = remake(made(base, __annotations__={"text": str}, more=may_read(fresh())))
        assert child("title", "text").title == "title"
        with refused("`run`"):
            made(base, run=fn)
        with refused("`run`"):
            made(child, run=fn)


def test_slots_are_data() -> None:
    """A slot with a public name is no method."""
    assert all_guarded(made(__slots__=("title",)))


def test_a_name_used_again_for_a_subclass_is_checked() -> None:
    """A subclass of the same name is told apart from its base."""
    base = all_guarded(made(read=may_read(fresh())))
    child = made(base)
    with refused("`run`"):
        made(child, run=fn)


@pytest.mark.parametrize(
    ("inner", "outer"),
    [(all_guarded, all_guarded), (all_guarded, enforcer.guard("create")), (enforcer.guard("create"), all_guarded)],
    ids=["twice", "guarded above", "guarded below"],
)
def test_guarded_construction_and_all_guarded_go_together(inner: Any, outer: Any) -> None:
    """Both look after subclasses, in either order, and `all_guarded` may be said twice."""
    base = outer(inner(made(__init__=fresh())))
    made(base)
    with refused("`run`"):
        made(base, run=fn)
