"""An enforcer that tests answer for, and every kind of callable under one guard."""

from __future__ import annotations

import abc
import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Final

import attrs

from pep import AccessRequest, Decision, Effect, Enforcer, Obligation, Subject
from pep.audit import MemorySink
from pep.audit.record import Kind, Record
from pep.pdp import FunctionPDP
from pep.profile import Guarantee
from pep.testing import FakeClock

ALICE: Final = Subject("user", "alice")
MALLORY: Final = Subject("user", "mallory")


class Rig:
    """
    An enforcer over a decision point and a sink that do what the test says.

    Attributes:
        answer: What the decision point answers, what computes that of a request, or the exception it raises.

        lost: Whether the sink loses what it is given.

        asked: Every request that was asked about, in order.

        records: Every record that was kept, in order.

        ran: What protected code says that it did, in order.
    """

    def __init__(
        self, answer: object = True, *, guarantee: Guarantee = Guarantee.BUFFERED, pure: bool = False, **parts: Any
    ) -> None:
        self.answer = answer
        self.lost = False
        self.asked: list[AccessRequest] = []
        self.ran: list[Any] = []
        self.clock = FakeClock()
        self.sink = MemorySink()
        self.guarantee = guarantee
        pdp = FunctionPDP(self._decide, name="rig", pure=pure)
        self.enforcer = Enforcer(pdp, audit=self, clock=self.clock, **parts)

    def _decide(self, request: AccessRequest) -> Any:
        self.asked.append(request)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer(request) if callable(self.answer) else self.answer

    def record(self, record: Record) -> None:
        """Keep or lose a record."""
        if self.lost:
            raise OSError
        self.sink.record(record)

    @property
    def records(self) -> list[Record]:
        return self.sink.records

    def told(self) -> list[str]:
        """What the records tell, in short: the outcome of decisions, the status of outcomes."""
        return [
            str(record.get("status")) if record.kind is Kind.OUTCOME else str(record.get("outcome", record.kind.value))
            for record in self.records
        ]

    def oblige(self, *types: str) -> None:
        """Permit from now on, under obligations."""
        self.answer = Decision(Effect.PERMIT, obligations=tuple(Obligation(kind) for kind in types))


Guard = Callable[[Any], Any]
Ran = list[Any]
Invoke = Callable[[str], Any]


def wait(work: Coroutine[Any, Any, Any]) -> Any:
    """Await something on a loop of its own."""
    return asyncio.run(work)


def logged(fn: Any) -> Any:
    """Another decorator, such as everybody has."""

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return call


async def collect(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


# Each makes one shape of callable, guarded, and returns how to invoke it with a document's id. Its
# protected code notes the id in `ran` and results in it.


def function(guard: Guard, ran: Ran) -> Invoke:
    @guard
    def read(document_id: str) -> str:
        ran.append(document_id)
        return document_id

    return read


def decorated_function(guard: Guard, ran: Ran) -> Invoke:
    @guard
    @logged
    def read(document_id: str) -> str:
        ran.append(document_id)
        return document_id

    return read


def guarded_and_decorated(guard: Guard, ran: Ran) -> Invoke:
    @logged
    @guard
    def read(document_id: str) -> str:
        ran.append(document_id)
        return document_id

    return read


def anonymous_function(guard: Guard, ran: Ran) -> Invoke:
    return guard(lambda document_id: ran.append(document_id) or document_id)


def cached_function(guard: Guard, ran: Ran) -> Invoke:
    @guard
    @functools.lru_cache
    def read(document_id: str) -> str:
        ran.append(document_id)
        return document_id

    return read


def coroutine_function(guard: Guard, ran: Ran) -> Invoke:
    @guard
    async def read(document_id: str) -> str:
        await asyncio.sleep(0)
        ran.append(document_id)
        return document_id

    return lambda document_id: wait(read(document_id))


def generator(guard: Guard, ran: Ran) -> Invoke:
    @guard
    def read(document_id: str) -> Iterator[str]:
        ran.append(document_id)
        yield document_id

    return lambda document_id: next(iter(list(read(document_id))))


def async_generator(guard: Guard, ran: Ran) -> Invoke:
    @guard
    async def read(document_id: str) -> AsyncIterator[str]:
        await asyncio.sleep(0)
        ran.append(document_id)
        yield document_id

    return lambda document_id: wait(collect(read(document_id)))[0]


def method(guard: Guard, ran: Ran) -> Invoke:
    class Library:
        @guard
        def read(self, document_id: str) -> str:
            ran.append(document_id)
            return document_id

    return Library().read


def method_on_its_class(guard: Guard, ran: Ran) -> Invoke:
    class Library:
        @guard
        def read(self, document_id: str) -> str:
            ran.append(document_id)
            return document_id

    return functools.partial(Library.read, Library())


def coroutine_method(guard: Guard, ran: Ran) -> Invoke:
    class Library:
        @guard
        async def read(self, document_id: str) -> str:
            ran.append(document_id)
            return document_id

    return lambda document_id: wait(Library().read(document_id))


def generator_method(guard: Guard, ran: Ran) -> Invoke:
    class Library:
        @guard
        def read(self, document_id: str) -> Iterator[str]:
            ran.append(document_id)
            yield document_id

    return lambda document_id: next(iter(list(Library().read(document_id))))


def async_generator_method(guard: Guard, ran: Ran) -> Invoke:
    class Library:
        @guard
        async def read(self, document_id: str) -> AsyncIterator[str]:
            ran.append(document_id)
            yield document_id

    return lambda document_id: wait(collect(Library().read(document_id)))[0]


def call_method(guard: Guard, ran: Ran) -> Invoke:
    class Reader:
        @guard
        def __call__(self, document_id: str) -> str:
            ran.append(document_id)
            return document_id

    return Reader()


def bound_method(guard: Guard, ran: Ran) -> Invoke:
    class Library:
        def read(self, document_id: str) -> str:
            ran.append(document_id)
            return document_id

    return guard(Library().read)


def guard_below_static_method(guard: Guard, ran: Ran) -> Invoke:
    class Library:
        @staticmethod
        @guard
        def read(document_id: str) -> str:
            ran.append(document_id)
            return document_id

    return Library.read


def guard_above_static_method(guard: Guard, ran: Ran) -> Invoke:
    class Library:
        @guard
        @staticmethod
        def read(document_id: str) -> str:
            ran.append(document_id)
            return document_id

    return Library().read


def guard_below_class_method(guard: Guard, ran: Ran) -> Invoke:
    class Library:
        @classmethod
        @guard
        def read(cls, document_id: str) -> str:
            ran.append(document_id)
            return document_id

    return Library().read


def guard_above_class_method(guard: Guard, ran: Ran) -> Invoke:
    class Library:
        @guard
        @classmethod
        def read(cls, document_id: str) -> str:
            ran.append(document_id)
            return document_id

    return Library.read


def async_class_method(guard: Guard, ran: Ran) -> Invoke:
    class Library:
        @guard
        @classmethod
        async def read(cls, document_id: str) -> str:
            ran.append(document_id)
            return document_id

    return lambda document_id: wait(Library.read(document_id))


def partial_function(guard: Guard, ran: Ran) -> Invoke:
    def read(times: int, document_id: str) -> str:
        ran.extend([document_id] * times)
        return document_id

    return guard(functools.partial(read, 1))


def partial_coroutine_function(guard: Guard, ran: Ran) -> Invoke:
    async def read(times: int, document_id: str) -> str:
        ran.extend([document_id] * times)
        return document_id

    made = guard(functools.partial(read, 1))
    return lambda document_id: wait(made(document_id))


def partial_method(guard: Guard, ran: Ran) -> Invoke:
    class Library:
        def _read(self, times: int, document_id: str) -> str:
            ran.extend([document_id] * times)
            return document_id

        read = guard(functools.partialmethod(_read, 1))

    return Library().read


def overridden_abstract_method(guard: Guard, ran: Ran) -> Invoke:
    class Library(abc.ABC):
        @guard
        @abc.abstractmethod
        def read(self, document_id: str) -> str: ...

    class Archive(Library):
        @guard
        def read(self, document_id: str) -> str:
            ran.append(document_id)
            return document_id

    return Archive().read


def single_dispatch(guard: Guard, ran: Ran) -> Invoke:
    @guard
    @functools.singledispatch
    def read(document_id: object) -> str:
        raise NotImplementedError

    @read.register
    def _(document_id: str) -> str:
        ran.append(document_id)
        return document_id

    return read


def plain_class(guard: Guard, ran: Ran) -> Invoke:
    @guard
    class Document:
        def __init__(self, document_id: str) -> None:
            ran.append(document_id)
            self.document_id = document_id

    return lambda document_id: Document(document_id).document_id


def subclass(guard: Guard, ran: Ran) -> Invoke:
    @guard
    class Document:
        def __init__(self, document_id: str) -> None:
            ran.append(document_id)
            self.document_id = document_id

    class Letter(Document):
        pass

    return lambda document_id: Letter(document_id).document_id


def data_class(guard: Guard, ran: Ran) -> Invoke:
    @guard
    @dataclass
    class Document:
        document_id: str

        def __post_init__(self) -> None:
            ran.append(self.document_id)

    return lambda document_id: Document(document_id).document_id


def attrs_class(guard: Guard, ran: Ran) -> Invoke:
    @guard
    @attrs.define
    class Document:
        document_id: str = attrs.field(validator=lambda _self, _field, value: ran.append(value))

    return lambda document_id: Document(document_id).document_id


SHAPES: Final = {
    make.__name__: make
    for make in (
        function,
        decorated_function,
        guarded_and_decorated,
        anonymous_function,
        cached_function,
        coroutine_function,
        generator,
        async_generator,
        method,
        method_on_its_class,
        coroutine_method,
        generator_method,
        async_generator_method,
        call_method,
        bound_method,
        guard_below_static_method,
        guard_above_static_method,
        guard_below_class_method,
        guard_above_class_method,
        async_class_method,
        partial_function,
        partial_coroutine_function,
        partial_method,
        overridden_abstract_method,
        single_dispatch,
        plain_class,
        subclass,
        data_class,
        attrs_class,
    )
}
