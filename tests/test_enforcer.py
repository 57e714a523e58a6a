"""The enforcer: what users hold; construction, registries, and thin methods."""

from __future__ import annotations

from typing import Any

import pytest

from pep import AccessDenied, Enforcer, Resource, Subject, acting_as
from pep.audit import MemorySink
from pep.errors import ConfigurationError
from tests.scenes import ALICE, DOCUMENT, Scene


def permit(_request: Any) -> bool:
    return True


class User:
    """A subject of the user's own."""


class Page:
    """A resource of the user's own."""


def test_an_enforcer_says_what_it_is() -> None:
    """Its name, its state and how much it guards, and nothing it was given."""
    enforcer = Enforcer(permit, audit=MemorySink(), name="billing", secret=b"0123456789abcdef")
    assert repr(enforcer) == "<Enforcer 'billing', bound, 0 sites>"
    assert repr(Enforcer.unbound("x")) == "<Enforcer 'x', unbound, 0 sites>"
    assert repr(Scene("sync").enforcer) == "<Enforcer 'application', bound, 2 sites>"


def test_there_is_no_default_place_for_the_proof() -> None:
    """`audit=` is required."""
    with pytest.raises(TypeError, match="audit"):
        Enforcer(permit)  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="no audit sink"):
        Enforcer.unbound("x").bind(permit)


def test_objects_are_registered_per_enforcer() -> None:
    """As subjects and as resources, once each."""
    enforcer = Enforcer(permit, audit=MemorySink())
    enforcer.subjects.register(User, lambda _user: ALICE)
    enforcer.resources.register(Page, lambda _page: DOCUMENT)
    with acting_as(User()):
        request = enforcer.check("edit", Page()).request
    assert request is not None
    assert (request.subject, request.resource) == (ALICE, DOCUMENT)
    with pytest.raises(ConfigurationError, match="already"):
        enforcer.subjects.register(User, lambda _user: ALICE)
    other = Enforcer(permit, audit=MemorySink())
    with acting_as(User()):
        assert not other.check("edit", DOCUMENT).allowed


def test_a_frozen_enforcer_takes_no_more_registrations() -> None:
    """What is decided about is settled once the application runs."""
    enforcer = Enforcer(permit, audit=MemorySink())
    enforcer.freeze()
    for registry in (enforcer.subjects, enforcer.resources):
        with pytest.raises(ConfigurationError, match="freeze"):
            registry.register(User, lambda _user: ALICE)  # type: ignore[attr-defined]


def test_every_guard_is_within_reach() -> None:
    """Guard, results, items, exemptions and classes: each a line over what does it."""
    sink = MemorySink()
    enforcer = Enforcer(lambda request: request.resource.id != "2", audit=sink)

    @enforcer.guard("edit", resource="document:{name}")
    def edit(name: str) -> str:
        return name

    @enforcer.guard_result("read", resource=lambda result: Resource("document", result), side_effects=False)
    def read(name: str) -> str:
        return name

    @enforcer.filter_result("read", resource=lambda result: Resource("document", result), side_effects=False, batch=2)
    def names() -> list[str]:
        return ["1", "2", "3"]

    @enforcer.exempt(reason="open to all")
    def ping() -> str:
        return "pong"

    @enforcer.all_guarded
    class Pages:
        @enforcer.guard("edit", resource=DOCUMENT)
        def edit(self) -> str:
            return "edited"

    with acting_as(ALICE):
        assert (edit("1"), read("1"), names(), ping(), Pages().edit()) == ("1", "1", ["1", "3"], "pong", "edited")
        for refused in (edit, read):
            with pytest.raises(AccessDenied):
                refused("2")


def test_an_enforcer_for_many_subjects() -> None:
    """Nothing of one call is left for the next."""
    scene = Scene("sync", lambda request: request.subject == ALICE)
    bob = Subject("user", "bob")
    told = [scene.edit(subject=who).told[0] for who in (ALICE, bob, ALICE, None, ALICE)]
    assert told == ["returned", "denied", "returned", "denied", "returned"]
