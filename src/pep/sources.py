"""
Sources: where a requirement takes its parts from.

Templates, parameters, callables, constants or ``Annotated`` markers, validated against the
signature at decoration. Imports L0, scopes and the registries only.
"""

from __future__ import annotations

import inspect
import keyword
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from types import GeneratorType
from typing import Any, Final, NamedTuple, Protocol

import attrs

from pep.asynchronous import is_asynchronous
from pep.errors import ConfigurationError, ExtractionError
from pep.frozen import fields_repr, freeze_mapping
from pep.model import Resource, Subject
from pep.plan import Plan, attempt, unwrap
from pep.registry import Registries, Registry
from pep.scope import Frame, within

Arguments = Mapping[str, Any]

#: The names of the parameter that holds a method's own object or class.
RECEIVERS: Final = ("self", "cls")

_TEMPLATE: Final = r"(?P<type>[^{}]+):\{(?P<path>[^{}]*)\}"
# What can be read only once, an extractor would take from the protected code.
_ONCE: Final = (Iterator, Awaitable, AsyncIterator)
#: The types of what need not be asked whether it can be read twice.
PLAIN: Final = frozenset({str, int, bool, float, bytes, dict, list, tuple, type(None), Resource, Subject})


@attrs.frozen(repr=False)
class ResourceId:
    """
    Marks a parameter whose value is the id of a resource: ``Annotated[str, ResourceId("document")]``.

    Args:
        type: The resource's type.

    Raises:
        ConfigurationError: When it is empty or no exact ``str``.
    """

    type: str = attrs.field()
    __repr__ = fields_repr

    def __attrs_post_init__(self) -> None:
        if type(self.type) is not str or not self.type:
            message = "`ResourceId` takes the type of a resource, a non-empty `str` such as `document`"
            raise ConfigurationError(message)


class Guarded:
    """Marks a parameter whose object is the resource: ``Annotated[Document, Guarded]``."""


class Source(Protocol):
    """Where a requirement takes one of its parts from."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters it reads."""
        ...

    @property
    def asynchronous(self) -> bool:
        """Whether it can only be awaited."""
        ...

    @property
    def type(self) -> str | None:
        """The type of what it makes, where that is known before the call."""
        ...

    def read(self, arguments: Arguments, frame: Frame, /) -> Plan[Any]:
        """Read it from a call's arguments."""
        ...


class Constant:
    """A source that does not look at the call."""

    __slots__ = ("type", "value")

    parameters: tuple[str, ...] = ()
    asynchronous: bool = False

    def __init__(self, value: Any, type: str | None = None) -> None:  # noqa: A002, ANN401  AuthZEN's name; any value
        self.value, self.type = value, type

    def read(self, _arguments: Arguments, _frame: Frame) -> Plan[Any]:
        """Return the constant."""
        yield from ()
        return self.value


class Template(NamedTuple):
    """A literal type and one placeholder: ``"document:{document.id}"``."""

    type: str
    path: tuple[str, ...]
    make: Callable[[str, str], Any]
    asynchronous: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameter the placeholder starts from."""
        return self.path[:1]

    def read(self, arguments: Arguments, frame: Frame) -> Plan[Any]:
        """Follow the path, once, in the caller's frame, and make the entity."""
        yield from ()
        value = arguments[self.path[0]]
        with within(frame):
            for name in self.path[1:]:
                value = getattr(value, name)
        return self.make(self.type, identifier(value, ".".join(self.path)))


class Parameter:
    """The object a parameter holds."""

    __slots__ = ("name", "parameters")

    type: str | None = None
    asynchronous: bool = False

    def __init__(self, name: str) -> None:
        self.name, self.parameters = name, (name,)

    def read(self, arguments: Arguments, _frame: Frame) -> Plan[Any]:
        """Return what the parameter holds."""
        yield from ()
        return arguments[self.name]


class Computed(NamedTuple):
    """A user's callable, given those of the call's arguments that it names."""

    fn: Callable[..., Any]
    positional: tuple[str, ...]
    keywords: tuple[str, ...]
    asynchronous: bool
    type: str | None = None

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters it names."""
        return self.positional + self.keywords

    def read(self, arguments: Arguments, frame: Frame) -> Plan[Any]:
        """Call it, in the caller's frame."""
        for name in self.parameters:
            if type(arguments[name]) not in PLAIN and isinstance(arguments[name], _ONCE):
                message = f"`{name}` can be read only once; an extractor may not consume it"
                raise ExtractionError(message)
        positional = [arguments[name] for name in self.positional]
        keywords = {name: arguments[name] for name in self.keywords}
        with within(frame):
            value = self.fn(*positional, **keywords)
        return value if type(value) in PLAIN else (yield from self.settled(value, frame))

    def settled(self, value: Any, frame: Frame) -> Plan[Any]:  # noqa: ANN401  whatever it returned
        """Take what it returned; what can only be awaited is awaited."""
        if type(value) not in PLAIN and (type(value) is GeneratorType or inspect.isawaitable(value)):
            return unwrap((yield from attempt(lambda: value, frame=frame)))
        return value


class Several:
    """Several sources whose resources are decided together."""

    __slots__ = ("sources",)

    type: str | None = None

    def __init__(self, sources: tuple[Source, ...]) -> None:
        self.sources = sources

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters of all of them."""
        return tuple(name for source in self.sources for name in source.parameters)

    @property
    def asynchronous(self) -> bool:
        """Whether any can only be awaited."""
        return any(source.asynchronous for source in self.sources)

    def read(self, arguments: Arguments, frame: Frame) -> Plan[Any]:
        """Read each in turn."""
        found: list[Any] = []
        for source in self.sources:
            value = yield from source.read(arguments, frame)
            several = (type(value) is list or type(value) is tuple) and len(value) > 0
            found += value if several else [value]
        return found


def identifier(value: object, path: str) -> str:
    """
    Turn the value of a placeholder into an id: an exact ``str``, ``int`` or ``UUID``.

    Raises:
        ExtractionError: On any other value.
    """
    if type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    uuid = sys.modules.get("uuid")
    if uuid is not None and type(value) is uuid.UUID:
        return str(value)
    message = f"`{path}` must hold an exact `str`, `int` or `UUID`, not `{type(value).__name__}`"
    raise ExtractionError(message)


def resource_source(spec: object, signature: inspect.Signature, registries: Registries) -> Source:
    """
    Turn ``resource=`` into a source, and check it against a signature.

    Args:
        spec: A template, the name of a parameter, a callable, or a constant.

        signature: What the guarded function takes.

        registries: How objects become resources.

    Raises:
        ConfigurationError: When it names what the function does not take, or is none of these.
    """
    return _entity_source(spec, signature, registries.resources, Resource, "resource")


def subject_source(spec: object, signature: inspect.Signature, registries: Registries) -> Source:
    """Turn ``subject=`` into a source; see `resource_source`."""
    return _entity_source(spec, signature, registries.subjects, Subject, "subject")


def context_source(spec: object, signature: inspect.Signature) -> Source:
    """
    Turn ``context=`` into a source: a mapping, a callable, or a tuple of parameter names.

    Raises:
        ConfigurationError: When it names what the function does not take, or is none of these.
    """
    if isinstance(spec, Mapping):
        return Constant(_configured(lambda: freeze_mapping(spec, what="the context")))
    if isinstance(spec, (tuple, list)):
        names = tuple(_parameter(name, signature, "context") for name in spec)
        return _NamedContext(names)
    if callable(spec) and not isinstance(spec, type):
        return _computed(spec, signature, "context")
    message = f"`context` takes a mapping, a callable or a tuple of parameter names, not `{type(spec).__name__}`"
    raise ConfigurationError(message)


def marked_source(annotations: Mapping[str, Any], signature: inspect.Signature) -> Source | None:
    """
    Find the resource among ``Annotated`` markers.

    Args:
        annotations: Parameter → annotation, strings resolved.

        signature: What the guarded function takes.

    Returns:
        A source, or None where no parameter is marked.
    """
    found: list[Source] = []
    for name in signature.parameters:
        for marker in getattr(annotations.get(name), "__metadata__", ()):
            if marker is ResourceId:
                message = f'the marker of `{name}` names no type; write `ResourceId("document")`'
                raise ConfigurationError(message)
            if marker is Guarded or isinstance(marker, Guarded):
                found.append(Parameter(name))
            elif isinstance(marker, ResourceId):
                found.append(Template(marker.type, (name,), Resource))
    if len(found) > 1:
        return Several(tuple(found))
    return found[0] if found else None


class _NamedContext:
    """A context made of parameters by their names."""

    __slots__ = ("parameters",)

    type: str | None = None
    asynchronous: bool = False

    def __init__(self, parameters: tuple[str, ...]) -> None:
        self.parameters = parameters

    def read(self, arguments: Arguments, _frame: Frame) -> Plan[Any]:
        yield from ()
        return {name: arguments[name] for name in self.parameters}


def _entity_source(
    spec: Any,  # noqa: ANN401  whatever was written
    signature: inspect.Signature,
    registry: Registry[Any],
    kind: type[Any],
    what: str,
) -> Source:
    if type(spec) is kind:
        return Constant(spec, spec.type)
    if isinstance(spec, str):
        return _textual(spec, signature, kind, what)
    if isinstance(spec, type) or spec is None:
        message = f"`{what}` takes a template, a parameter name, a callable or a `{kind.__name__}`, not a class"
        raise ConfigurationError(message)
    if callable(spec):
        return _computed(spec, signature, what)
    constant = _configured(lambda: registry.convert(spec))
    return Constant(constant, constant.type)


def _textual(spec: str, signature: inspect.Signature, kind: type[Any], what: str) -> Source:
    if ":" not in spec and "{" not in spec:
        return Parameter(_parameter(spec, signature, what))
    found = re.fullmatch(_TEMPLATE, spec)
    if found is None:
        message = (
            f"{what} template `{spec}` must be a literal type, a colon and one placeholder, such as "
            "`document:{document_id}`; compute anything else in a callable"
        )
        raise ConfigurationError(message)
    path = tuple(found["path"].split("."))
    for name in path:
        if not name.isidentifier() or name.startswith("_") or keyword.iskeyword(name):
            message = (
                f"placeholder `{{{found['path']}}}` in {what} template must be a parameter and public attributes "
                "joined by dots; conversions, format specs and indexing belong in a callable"
            )
            raise ConfigurationError(message)
    _parameter(path[0], signature, f"{what} template")
    return Template(found["type"], path, kind)


def _computed(fn: Callable[..., Any], signature: inspect.Signature, what: str) -> Source:
    try:
        wanted = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        message = f"`{what}` callable has no readable signature; wrap it in a function that names its parameters"
        raise ConfigurationError(message) from None
    if inspect.isasyncgenfunction(fn):
        message = f"`{what}` callable is an async generator; return a list of resources instead"
        raise ConfigurationError(message)
    positional: list[str] = []
    keywords: list[str] = []
    skipped = False
    for parameter in wanted:
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            message = f"`{what}` callable must name the parameters it reads; `{parameter}` could be anything"
            raise ConfigurationError(message)
        if parameter.name not in signature.parameters and parameter.default is not parameter.empty:
            skipped = skipped or parameter.kind is parameter.POSITIONAL_ONLY
            continue
        _parameter(parameter.name, signature, f"{what} callable")
        if parameter.kind is not parameter.POSITIONAL_ONLY:
            keywords.append(parameter.name)
        elif skipped:
            message = (
                f"`{what}` callable takes `{parameter.name}` by position after one that is unknown; take it by name"
            )
            raise ConfigurationError(message)
        else:
            positional.append(parameter.name)
    return Computed(fn, tuple(positional), tuple(keywords), is_asynchronous(fn))


def _parameter(name: object, signature: inspect.Signature, what: str) -> str:
    if type(name) is not str or name not in signature.parameters:
        names = ", ".join(f"`{known}`" for known in signature.parameters if known not in RECEIVERS)
        message = f"unknown parameter `{name}` in {what}; the function takes {names or 'no parameters'}"
        raise ConfigurationError(message)
    return name


def _configured(make: Callable[[], Any]) -> Any:  # noqa: ANN401  whatever is made
    try:
        return make()
    except ExtractionError as error:
        raise ConfigurationError(str(error)) from None
