from __future__ import annotations

import copy
import pickle
from typing import Any

import attrs
import pytest

from pep import decision, model
from pep.errors import ExtractionError
from pep.model import (
    ANONYMOUS,
    MAX_REQUEST,
    AccessRequest,
    Action,
    Resource,
    Subject,
    application,
)

ALICE = Subject("user", "alice", {"roles": ["editor"]})
DOCUMENT = Resource("document", "42", {"owner": "alice"})
READ = Action("read", {"fields": ["title"]})
REQUEST = AccessRequest(ALICE, READ, DOCUMENT, {"ip": "::1"}, [Subject("agent", "a1")], "acme")


class Name(str):
    __slots__ = ()


BAD_TEXT = [(None, "NoneType"), (1, "int"), (b"x", "bytes"), (Name("x"), "Name"), ("", "empty"), (["x"], "list")]


@pytest.mark.parametrize(("value", "told"), BAD_TEXT)
@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda v: Subject(v, "x"), "a subject's type"),
        (lambda v: Subject("user", v), "a subject's id"),
        (lambda v: Resource(v, "x"), "a resource's type"),
        (lambda v: Resource("document", v), "a resource's id"),
        (lambda v: Resource.new(v), "a resource's type"),
        (lambda v: Action(v), "an action's name"),
        (lambda v: AccessRequest(ALICE, "read", DOCUMENT, tenant=v or ""), "the tenant"),
    ],
)
def test_ids_types_and_names_are_exact_text(make: Any, what: str, value: Any, told: str) -> None:
    """An id, type, name or tenant that is empty or no exact `str` is refused by what it is."""
    with pytest.raises(ExtractionError) as caught:
        make(value)
    assert what in str(caught.value)
    assert told in str(caught.value) or what == "the tenant"


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: Subject("user", "a", [1]), "a subject's properties"),  # type: ignore[arg-type]
        (lambda: Resource("document", "a", None), "a resource's properties"),  # type: ignore[arg-type]
        (lambda: Resource.new("document", "x"), "a resource's properties"),  # type: ignore[arg-type]
        (lambda: Action("read", 1), "an action's properties"),  # type: ignore[arg-type]
        (lambda: AccessRequest(ALICE, "read", DOCUMENT, []), "the context"),  # type: ignore[arg-type]
    ],
)
def test_properties_and_context_are_mappings(make: Any, what: str) -> None:
    """What is no mapping is refused by the name it goes by."""
    with pytest.raises(ExtractionError, match=f"{what} must be a mapping"):
        make()


@pytest.mark.parametrize(
    ("make", "mend"),
    [
        (lambda: AccessRequest("alice", "read", DOCUMENT), "the subject must be a `Subject`, not `str`"),  # type: ignore[arg-type]
        (lambda: AccessRequest(None, "read", DOCUMENT), "the subject must be a `Subject`, not `NoneType`"),  # type: ignore[arg-type]
        (lambda: AccessRequest(DOCUMENT, "read", DOCUMENT), "the subject must be a `Subject`, not `Resource`"),  # type: ignore[arg-type]
        (lambda: AccessRequest(ALICE, "read", ALICE), "the resource must be a `Resource`, not `Subject`"),  # type: ignore[arg-type]
        (lambda: AccessRequest(ALICE, None, DOCUMENT), "an action's name must be exactly a `str`"),  # type: ignore[arg-type]
        (lambda: AccessRequest(ALICE, "", DOCUMENT), "an action's name must not be empty"),
        (lambda: AccessRequest(ALICE, "document:*", DOCUMENT), "which is for patterns"),
        (lambda: AccessRequest(ALICE, "read", DOCUMENT, actors=["bob"]), "the actor must be a `Subject`"),  # type: ignore[list-item]
        (lambda: AccessRequest(ALICE, "read", DOCUMENT, actors="bob"), "the actors must be a list"),  # type: ignore[arg-type]
        (lambda: AccessRequest(ALICE, "read", DOCUMENT, actors=ALICE), "the actors must be a list"),  # type: ignore[arg-type]
        (lambda: AccessRequest(ALICE, "read", DOCUMENT, actors=None), "the actors must be a list"),  # type: ignore[arg-type]
    ],
)
def test_requests_take_the_exact_parts(make: Any, mend: str) -> None:
    """Each part of a request is of its own exact type."""
    with pytest.raises(ExtractionError, match=mend):
        make()


def test_subclasses_do_not_pass() -> None:
    """A subclass could answer otherwise later than it did when it was checked."""
    other = type("Other", (Subject,), {"__slots__": ()})
    with pytest.raises(ExtractionError, match="not `Other`"):
        AccessRequest(other("user", "alice"), "read", DOCUMENT)


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
@pytest.mark.parametrize(
    "make",
    [
        lambda t: Subject("user", t),
        lambda t: Subject(t, "alice"),
        lambda t: Resource("document", t),
        lambda t: Resource.new(t),
        lambda t: Action(t),
        lambda t: Subject("user", "alice", {"a": [t]}),
        lambda t: Subject("user", "alice", {t: 1}),
        lambda t: AccessRequest(ALICE, "read", DOCUMENT, {"a": t}),
        lambda t: AccessRequest(ALICE, "read", DOCUMENT, tenant=t),
    ],
)
def test_lone_surrogates_are_refused(make: Any, text: str) -> None:
    """Text that cannot be written down stands in no part of a request."""
    with pytest.raises(ExtractionError, match="encodable as UTF-8"):
        make(text)


def test_requests_are_bounded_exactly() -> None:
    """A request has 64 KiB of canonical bytes at most."""
    spare = MAX_REQUEST - len(AccessRequest(ALICE, "read", DOCUMENT, {"a": ""}).key)
    assert len(AccessRequest(ALICE, "read", DOCUMENT, {"a": "x" * spare}).key) == MAX_REQUEST
    with pytest.raises(ExtractionError, match="send references instead of content"):
        AccessRequest(ALICE, "read", DOCUMENT, {"a": "x" * (spare + 1)})


def test_a_new_resource_is_none_of_those_that_have_an_id() -> None:
    """A resource without an id equals only another one without, and says so."""
    new = Resource.new("document", {"a": 1})
    assert new.is_new
    assert new.id is None
    assert not DOCUMENT.is_new
    assert new != Resource("document", "None", {"a": 1})
    assert new == Resource.new("document", {"a": 1})
    assert new.to_dict() == {"type": "document", "properties": {"a": 1}}


@pytest.mark.parametrize(
    ("action", "resource", "expected"),
    [
        ("read", Resource("feed", "1"), "feed:read"),
        ("feed:read", Resource("other", "1"), "feed:read"),
        (Action("a:b:c"), Resource("other", "1"), "a:b:c"),
        ("read", Resource.new("feed"), "feed:read"),
    ],
)
def test_actions_without_colon_are_qualified(action: Any, resource: Resource, expected: str) -> None:
    """An action without a colon goes by its resource's type, for profiles and metrics."""
    assert AccessRequest(ALICE, action, resource).qualified_action == expected


def test_evolve_replaces_parts_and_checks_them() -> None:
    """A part is replaced, the others stay, and the constructor looks at all of them again."""
    changed = REQUEST.evolve(subject=ANONYMOUS, actors=())
    assert (changed.subject, changed.actors, changed.tenant) == (ANONYMOUS, (), "acme")
    with pytest.raises(ExtractionError):
        REQUEST.evolve(subject=None)
    with pytest.raises(TypeError):
        REQUEST.evolve(key=b"forged")


@pytest.mark.parametrize("value", [ALICE, DOCUMENT, Resource.new("document"), READ, REQUEST])
def test_values_do_not_change(value: Any) -> None:
    """No attribute can be set, no key be forged by evolving, and no state be set from outside."""
    for name in attrs.fields_dict(type(value)):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(value, name, "other")
    with pytest.raises(TypeError):
        attrs.evolve(value, key=b"forged")
    assert not hasattr(value, "__dict__")
    assert not hasattr(value, "__setstate__")


@pytest.mark.parametrize("value", [ALICE, DOCUMENT, Resource.new("document", {"a": [1]}), READ, REQUEST, ANONYMOUS])
def test_values_pickle_and_copy(value: Any) -> None:
    """A value that went through a pickle or a copy is the same value."""
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(value, protocol))  # noqa: S301  our own bytes
        assert again == value
        assert again.key == value.key
        assert hash(again) == hash(value)
    assert copy.deepcopy(value) == copy.copy(value) == value


def test_values_of_different_kinds_are_never_equal() -> None:
    """A subject equals no resource of the same name, and nothing that is no value."""
    values = [Subject("x", "y"), Resource("x", "y"), Action("x"), AccessRequest(ALICE, "x", DOCUMENT), ("x", "y"), None]
    for one in values:
        assert [one == other for other in values].count(True) == 1


def test_reprs_tell_names_and_no_properties() -> None:
    """A `repr` may end up in a log: it names, and shows no attribute."""
    told = [repr(value) for value in (ALICE, DOCUMENT, Resource.new("document", {"a": "canary"}), READ, REQUEST)]
    assert told == [
        "Subject('user', 'alice')",
        "Resource('document', '42')",
        "Resource.new('document')",
        "Action('read')",
        "AccessRequest(Subject('user', 'alice'), Action('read'), Resource('document', '42'))",
    ]


def test_a_reference_drops_properties() -> None:
    """A reference names the same subject, and carries nothing."""
    assert ALICE.reference() == Subject("user", "alice")
    assert ALICE.reference() != ALICE


def test_json_has_the_names_of_authzen() -> None:
    """A request becomes AuthZEN JSON; what is not there is left out."""
    assert REQUEST.to_dict() == {
        "subject": {"type": "user", "id": "alice", "properties": {"roles": ["editor"]}},
        "action": {"name": "read", "properties": {"fields": ["title"]}},
        "resource": {"type": "document", "id": "42", "properties": {"owner": "alice"}},
        "context": {"ip": "::1"},
        "actors": [{"type": "agent", "id": "a1"}],
        "tenant": "acme",
    }
    assert AccessRequest(ALICE.reference(), "read", Resource.new("document")).to_dict() == {
        "subject": {"type": "user", "id": "alice"},
        "action": {"name": "read"},
        "resource": {"type": "document"},
    }


def test_json_may_be_changed() -> None:
    """What `to_dict` gives is plain and the caller's own."""
    told = REQUEST.to_dict()
    told["subject"]["properties"]["roles"].append("admin")
    told["action"]["properties"]["fields"].append("body")
    told["context"]["ip"] = "other"
    assert REQUEST.to_dict()["subject"]["properties"]["roles"] == ["editor"]


def without(*path: str) -> dict[str, Any]:
    told = REQUEST.to_dict()
    at: dict[str, Any] = told
    for name in path[:-1]:
        at = at[name]
    del at[path[-1]]
    return told


def replaced(value: object, *path: str) -> dict[str, Any]:
    told = REQUEST.to_dict()
    at: dict[str, Any] = told
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    return told


@pytest.mark.parametrize(
    ("told", "mend"),
    [
        ([], "an access request must be a JSON object, not `list`"),
        (None, "an access request must be a JSON object, not `NoneType`"),
        (without("subject"), "`subject` is missing"),
        (without("action"), "`action` is missing"),
        (without("resource"), "`resource` is missing"),
        (without("subject", "type"), "`type` is missing"),
        (without("subject", "id"), "`id` is missing"),
        (without("action", "name"), "`name` is missing"),
        (without("resource", "type"), "`type` is missing"),
        (replaced("alice", "subject"), "a subject must be a JSON object, not `str`"),
        (replaced("read", "action"), "an action must be a JSON object, not `str`"),
        (replaced(1, "resource"), "a resource must be a JSON object, not `int`"),
        (replaced(None, "subject", "id"), "a subject's id must be exactly a `str`"),
        (replaced(None, "resource", "id"), "a resource's id must be exactly a `str`"),
        (replaced(7, "resource", "id"), "a resource's id must be exactly a `str`"),
        (replaced([], "subject", "properties"), "a subject's properties must be a mapping"),
        (replaced("x", "context"), "the context must be a mapping"),
        (replaced({}, "actors"), "`actors` must be a list"),
        (replaced("a1", "actors"), "`actors` must be a list"),
        (replaced(0, "actors"), "`actors` must be a list"),
        (replaced(["a1"], "actors"), "a subject must be a JSON object"),
        (replaced("", "tenant"), "the tenant must not be empty"),
    ],
)
def test_malformed_json_is_refused(told: Any, mend: str) -> None:
    """What is no AuthZEN request is an extraction error that names the member."""
    with pytest.raises(ExtractionError, match=mend):
        AccessRequest.from_dict(told)


def test_unknown_and_null_members_are_ignored() -> None:
    """AuthZEN allows further members; `null` is the same as none where one may be left out."""
    told = AccessRequest(ALICE, "read", DOCUMENT).to_dict()
    loose = {**told, "options": 1, "context": None, "actors": None, "tenant": None}
    loose["action"] = {"name": "read", "properties": None, "x": 1}
    assert AccessRequest.from_dict(loose) == AccessRequest.from_dict(told)


def test_a_missing_id_is_a_new_resource() -> None:
    """AuthZEN JSON without an `id` is a resource that has none yet."""
    assert Resource.from_dict({"type": "document", "properties": {"a": 1}}) == Resource.new("document", {"a": 1})


def test_the_application_is_a_resource() -> None:
    """Without a resource it is the application itself that is acted upon."""
    assert application("billing") == Resource("application", "billing")


def test_the_model_names_what_was_answered_too() -> None:
    """One module has every word of the model."""
    for name in ("Decision", "Effect", "Obligation"):
        assert getattr(model, name) is getattr(decision, name)
    assert list(model.__all__) == sorted(model.__all__, key=lambda name: (not name.isupper(), name))
