from __future__ import annotations

from typing import Any

import pytest

from pep.cache import floors_of
from pep.errors import ConfigurationError
from pep.extract import Registries
from pep.model import AccessRequest, Action, Resource, Subject
from pep.registry import Registry
from pep.revoke import floor_of


class Document:
    pass


KNOWN = Registries(Registry(Subject, "__pep_subject__"), Registry(Resource, "__pep_resource__"))
KNOWN.resources.register(Document, lambda _value: Resource("document", "42"))
KNOWN.subjects.register(Document, lambda _value: Subject("user", "alice"))
REQUEST = AccessRequest(Subject("user", "alice"), "read", Resource("document", "42"))
S, R = Subject("user", "alice"), Resource("document", "42")


@pytest.mark.parametrize(
    ("subject", "resource", "action", "expected"),
    [
        (S, None, None, ("subject", "user", "alice")),
        (Subject("user", "alice", {"a": 1}), None, None, ("subject", "user", "alice")),
        (Document(), None, None, ("subject", "user", "alice")),
        ("user", None, None, ("subject", "user")),
        (None, R, None, ("resource", "document", "42")),
        (None, Document(), None, ("resource", "document", "42")),
        (None, Resource.new("document"), None, ("resource", "document")),
        (None, "document", None, ("resource", "document")),
        (None, None, "read", ("action", "read")),
        (None, None, "document:read", ("action", "document:read")),
        (None, None, Action("read", {"a": 1}), ("action", "read")),
        (S, R, "read", ("subject", "user", "alice")),
        (None, R, "read", ("resource", "document", "42")),
    ],
)
def test_floors_cover_what_was_named(subject: Any, resource: Any, action: Any, expected: tuple[str, ...]) -> None:
    """A value, a registered object or a type names a floor; several are covered by the first of them."""
    assert floor_of(KNOWN, subject, resource, action) == expected
    assert expected in floors_of(REQUEST)


@pytest.mark.parametrize(
    ("subject", "resource", "action", "told"),
    [
        (None, None, None, r"`invalidate_all\(\)` drops everything"),
        ("", None, None, "cannot invalidate: `str` is no subject"),
        (None, "", None, "cannot invalidate: `str` is no resource"),
        (7, None, None, "cannot invalidate: `int` is no subject"),
        (R, None, None, "cannot invalidate: `Resource` is no subject"),
        (None, S, None, "cannot invalidate: `Subject` is no resource"),
        (None, Document, None, "cannot invalidate: `type` is no resource"),
        (None, [R], None, "cannot invalidate: `list` is no resource"),
        (None, None, "", "cannot invalidate: an action's name must not be empty"),
        (None, None, "document:*", "cannot invalidate: .* for patterns"),
        (None, None, 7, "cannot invalidate: an action's name must be exactly a `str`"),
    ],
)
def test_what_names_nothing_is_refused(subject: Any, resource: Any, action: Any, told: str) -> None:
    """Invalidating nothing, or what cannot be named, raises: it would drop less than was meant."""
    with pytest.raises(ConfigurationError, match=told):
        floor_of(KNOWN, subject, resource, action)
