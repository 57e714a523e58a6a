"""
Registries: how a user's own objects become subjects and resources.

Imports the model only.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from pep.errors import ConfigurationError, ExtractionError
from pep.model import Resource, Subject

T = TypeVar("T", bound="Subject | Resource")


class Registry(Generic[T]):
    """
    Converters by type, superclass or protocol; an object's own dunder method serves where none is registered.

    Where a class and its superclasses are not registered, the one protocol that matches serves.

    Args:
        kind: What it makes.

        method: The dunder method looked up on an object's class.
    """

    def __init__(self, kind: type[T], method: str) -> None:
        self._kind = kind
        self._method = method
        self._converters: dict[type, Callable[[Any], T]] = {}
        self._frozen = False

    def register(self, cls: Any, convert: Callable[[Any], T]) -> None:  # noqa: ANN401  to a checker a protocol is no `type`
        """
        Say how objects of a class become what this registry makes.

        Args:
            cls: A class, a superclass or a ``runtime_checkable`` protocol.

            convert: Object → `Subject` or `Resource`.

        Raises:
            ConfigurationError: When the class is registered already, is none, or the enforcer is frozen.
        """
        noun = self._kind.__name__.lower()
        if self._frozen:
            message = "the enforcer is frozen; register types before `freeze()`"
            raise ConfigurationError(message)
        if not isinstance(cls, type) or not callable(convert):
            message = f"register a class and a function that turns its objects into a `{self._kind.__name__}`"
            raise ConfigurationError(message)
        if cls in {Subject, Resource, type(None)}:
            message = f"`{cls.__qualname__}` is what it is; register your own classes"
            raise ConfigurationError(message)
        if inspect.iscoroutinefunction(convert):
            message = f"the converter of `{cls.__qualname__}` can only be awaited; make it a plain function"
            raise ConfigurationError(message)
        if cls in self._converters:
            message = f"`{cls.__qualname__}` is registered as a {noun} already; register each type once"
            raise ConfigurationError(message)
        self._converters[cls] = convert

    def freeze(self) -> None:
        """Refuse every later registration."""
        self._frozen = True

    def convert(self, value: object) -> T:
        """
        Turn an object into what this registry makes.

        Raises:
            ExtractionError: When its type is not registered, is registered twice over by protocols,
                or its converter failed.
        """
        if type(value) is self._kind:
            return value
        if value is None:
            message = f"there is no {self._kind.__name__.lower()}"
            raise ExtractionError(message)
        convert = self._converter(type(value), value)
        try:
            made = convert(value)
        except ExtractionError:
            raise
        except Exception as error:
            message = f"`{type(value).__name__}` could not be turned into a {self._kind.__name__.lower()}"
            raise ExtractionError(message) from error
        if type(made) is not self._kind:
            message = f"the converter of `{type(value).__name__}` must return a `{self._kind.__name__}`"
            raise ExtractionError(message)
        return made

    def _converter(self, cls: type, value: object) -> Callable[[Any], T]:
        for base in cls.__mro__:
            if base in self._converters:
                return self._converters[base]
        # A copy: another thread may be registering.
        matching = [convert for kind, convert in tuple(self._converters.items()) if _instance(value, kind)]
        if len(matching) == 1:
            return matching[0]
        own = getattr(cls, self._method, None)
        if not matching and callable(own):
            return own  # type: ignore[no-any-return]
        raise ExtractionError(self._complaint(cls, len(matching)))

    def _complaint(self, cls: type, matching: int) -> str:
        noun = self._kind.__name__.lower()
        if matching:
            return f"`{cls.__name__}` matches several registered protocols; register the class itself as a {noun}"
        return f"`{cls.__name__}` is no {noun}; register it or give its class `{self._method}`"


class Registries(NamedTuple):
    """How objects become subjects and resources, for one enforcer."""

    subjects: Registry[Subject]
    resources: Registry[Resource]


def _instance(value: object, kind: type) -> bool:
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol that is not runtime-checkable
        return False
