from __future__ import annotations

from typing import Any

import pytest

from pep.errors import ExtractionError
from pep.extract import Registries
from pep.model import AccessRequest, Action, Resource, Subject
from pep.plain import APPLICATION, Prepared, need
from pep.registry import Registry
from pep.scope import NOBODY, Frame, Scope
from tests.plans import finish

ALICE, BOB, AGENT = Subject("user", "alice"), Subject("user", "bob"), Subject("agent", "a1")
KNOWN = Registries(Registry(Subject, "__pep_subject__"), Registry(Resource, "__pep_resource__"))
THING = Resource("document", "42")
ACTING = Frame(Scope(ALICE))


class Text(str):
    __slots__ = ()


def asked(action: Any, resource: Any = APPLICATION, frame: Frame = ACTING, **options: Any) -> list[AccessRequest]:
    found: list[AccessRequest] = finish(need("billing", action, resource, **options).requests({}, frame, KNOWN))
    return found


def test_without_a_resource_it_is_the_application() -> None:
    """Naming no resource asks about the application itself, and is told as such."""
    assert asked("read") == [AccessRequest(ALICE, "read", Resource("application", "billing"))]
    assert need("billing", "read", APPLICATION).application_level
    assert not need("billing", "read", THING).application_level


def test_values_become_one_request() -> None:
    """An action, a resource, a subject and a context make the request they say."""
    expected = AccessRequest(BOB, Action("read", {"a": 1}), THING, {"ip": "::1"})
    assert asked(Action("read", {"a": 1}), THING, subject=BOB, context={"ip": "::1"}, frame=NOBODY) == [expected]
    assert [request.resource for request in asked("read", [THING, Resource.new("document")])] == [
        THING,
        Resource.new("document"),
    ]


def test_the_type_is_known_before_the_call() -> None:
    """A resource names the action's type; an object that is still to be converted does not."""
    assert need("billing", "read", THING).qualified_action == "document:read"
    assert need("billing", "read", object()).qualified_action == "?:read"
    assert need("billing", "read", APPLICATION).qualified_action == "application:read"


@pytest.mark.parametrize("action", [None, "", 7, Text("read"), b"read", "document:*", True])
def test_a_bad_action_is_a_fault_of_the_call(action: Any) -> None:
    """An action that is none is found when the call is made a request, not before: so it is recorded."""
    made = need("billing", action, THING)
    assert made.action == Action("?")
    with pytest.raises(ExtractionError, match="an action's name"):
        finish(made.requests({}, Frame(Scope(ALICE)), KNOWN))


@pytest.mark.parametrize("resource", [None, "document", "42", [], [None], object(), ALICE, iter([THING])])
def test_a_bad_resource_is_a_fault_of_the_call(resource: Any) -> None:
    """An explicit None, an empty list or an unknown object never means the application."""
    with pytest.raises(ExtractionError, match="resource"):
        asked("read", resource)


@pytest.mark.parametrize("subject", ["alice", "", 7, THING, object(), [ALICE]])
def test_a_bad_subject_never_falls_back(subject: Any) -> None:
    """A subject that is none is a fault, though somebody acts here."""
    with pytest.raises(ExtractionError, match="is no subject"):
        asked("read", THING, subject=subject)


@pytest.mark.parametrize("context", [[], "x", {"a": object()}, {1: 2}])
def test_a_bad_context_is_a_fault_of_the_call(context: Any) -> None:
    """A context that cannot be frozen gives no request."""
    with pytest.raises(ExtractionError):
        asked("read", THING, context=context)


def test_a_prepared_request_is_asked_as_it_is() -> None:
    """A whole request is asked for its subject and each of its actors; who acts here plays no part."""
    request = AccessRequest(BOB, "read", THING, {"a": 1}, [AGENT, ALICE], "acme")
    prepared = Prepared(request)
    found = finish(prepared.requests({}, Frame(Scope(ALICE)), KNOWN))
    assert found == [request, request.evolve(subject=AGENT, actors=()), request.evolve(subject=ALICE, actors=())]
    assert (prepared.action, prepared.qualified_action) == (Action("read"), "document:read")
    assert (prepared.resource.value, prepared.resource.type, prepared.subject.value) == (THING, "document", BOB)
    assert not prepared.application_level
