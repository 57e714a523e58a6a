from __future__ import annotations

import threading
from typing import Any, Protocol, runtime_checkable

import pytest

from pep.errors import ConfigurationError, ExtractionError
from pep.model import Resource, Subject
from pep.registry import Registry


class Document:
    def __init__(self, key: str = "42") -> None:
        self.key = key


class Draft(Document):
    pass


class Own:
    def __pep_resource__(self) -> Resource:
        return Resource("own", "1")


class Broken:
    __pep_resource__ = 7


@runtime_checkable
class HasKey(Protocol):
    key: str


@runtime_checkable
class HasLabel(Protocol):
    label: str


class NotRuntime(Protocol):
    key: str


class Labelled(Document):
    label = "x"


@pytest.fixture
def resources() -> Registry[Resource]:
    return Registry(Resource, "__pep_resource__")


def as_document(value: Any) -> Resource:
    return Resource("document", value.key)


def as_other(_value: object) -> Resource:
    return Resource("other", "1")


def test_values_are_themselves(resources: Registry[Resource]) -> None:
    """What is a resource already is not converted."""
    value = Resource("document", "42")
    assert resources.convert(value) is value


@pytest.mark.parametrize(
    ("registered", "value", "expected"),
    [
        ([(Document, as_document)], Document(), "document"),
        ([(Document, as_document)], Draft(), "document"),
        ([(Document, as_other), (Draft, as_document)], Draft(), "document"),
        ([(HasKey, as_document)], Document(), "document"),
        ([(HasKey, as_other), (Document, as_document)], Draft(), "document"),
        ([(HasKey, as_other), (HasLabel, as_document)], Document(), "other"),
        ([(object, as_other)], Document(), "other"),
        ([(NotRuntime, as_other)], Own(), "own"),
        ([], Own(), "own"),
        ([(Own, as_other)], Own(), "other"),
    ],
)
def test_which_converter_serves(resources: Registry[Resource], registered: Any, value: Any, expected: str) -> None:
    """The class itself before its superclasses, those before a protocol, that before the object's own method."""
    for cls, convert in registered:
        resources.register(cls, convert)
    assert resources.convert(value).type == expected


@pytest.mark.parametrize(
    ("registered", "value", "told"),
    [
        ([], Document(), r"`Document` is no resource; register it or give its class `__pep_resource__`"),
        ([], Broken(), "`Broken` is no resource"),
        ([], "42", "`str` is no resource"),
        ([], Subject("user", "a"), "`Subject` is no resource"),
        ([], [], "`list` is no resource"),
        ([], None, "there is no resource"),
        ([(object, as_other)], None, "there is no resource"),
        ([(HasKey, as_document), (HasLabel, as_other)], Labelled(), "several registered protocols; register the class"),
        ([(HasKey, as_document), (Own, as_other)], Own, "`type` is no resource"),
        ([(Document, lambda v: v)], Document(), "converter of `Document` must return a `Resource`"),
        ([(Document, lambda v: None)], Document(), "must return a `Resource`"),
        ([(Document, lambda v: Subject("user", "a"))], Document(), "must return a `Resource`"),
        ([(Document, lambda v: v.missing)], Document(), "`Document` could not be turned into a resource"),
        ([(Document, lambda v: Resource("document", ""))], Document(), "a resource's id must not be empty"),
    ],
)
def test_what_cannot_be_converted(resources: Registry[Resource], registered: Any, value: Any, told: str) -> None:
    """An object nobody registered, or whose converter failed, is no resource; the message names the mend."""
    for cls, convert in registered:
        resources.register(cls, convert)
    with pytest.raises(ExtractionError, match=told):
        resources.convert(value)


def test_subjects_have_a_registry_of_their_own() -> None:
    """The same rules turn a user's objects into subjects."""
    subjects = Registry(Subject, "__pep_subject__")
    subjects.register(Document, lambda value: Subject("user", value.key))
    assert subjects.convert(Document("7")) == Subject("user", "7")
    with pytest.raises(ExtractionError, match="`Own` is no subject; register it or give its class `__pep_subject__`"):
        subjects.convert(Own())


async def later(value: Any) -> Resource:
    return as_document(value)


@pytest.mark.parametrize(
    ("cls", "convert", "told"),
    [
        ("Document", as_document, "register a class and a function"),
        (Document, "to_resource", "register a class and a function"),
        (Document, None, "register a class and a function"),
        (None, as_document, "register a class and a function"),
        (Document, later, "can only be awaited; make it a plain function"),
        (Resource, as_document, "register your own classes"),
        (Subject, as_document, "register your own classes"),
        (type(None), as_other, "register your own classes"),
    ],
)
def test_what_cannot_be_registered(resources: Registry[Resource], cls: Any, convert: Any, told: str) -> None:
    """A registration that could never serve is refused where it was written."""
    with pytest.raises(ConfigurationError, match=told):
        resources.register(cls, convert)


def test_a_class_is_registered_once(resources: Registry[Resource]) -> None:
    """Registering twice is an error, not a silent replacement."""
    resources.register(Document, as_document)
    with pytest.raises(ConfigurationError, match="`Document` is registered as a resource already"):
        resources.register(Document, as_other)
    assert resources.convert(Document()).type == "document"


def test_frozen_registries_take_no_more(resources: Registry[Resource]) -> None:
    """After `freeze()` nothing can be registered any more."""
    resources.freeze()
    with pytest.raises(ConfigurationError, match=r"register types before `freeze\(\)`"):
        resources.register(Document, as_document)


def test_registering_while_converting_disturbs_nobody(resources: Registry[Resource]) -> None:
    """A thread that registers does not break one that converts."""

    class Meddling(type):
        def __instancecheck__(cls, _value: object) -> bool:
            thread = threading.Thread(target=resources.register, args=(type("New", (), {}), as_other))
            thread.start()
            thread.join()
            return False

    resources.register(Meddling("Watched", (), {}), as_other)
    resources.register(HasKey, as_document)
    assert resources.convert(Document("7")).id == "7"
