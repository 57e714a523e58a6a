"""What the tests of Cedar have in common: requests, a schema, entities, and shorthands."""

from __future__ import annotations

from typing import Any

from pep import AccessRequest, Effect, Resource, Subject
from pep.pdp.cedar import CedarPDP

PERMIT, DENY, NONE, DOUBT = Effect.PERMIT, Effect.DENY, Effect.NOT_APPLICABLE, Effect.INDETERMINATE
ALL = "permit(principal, action, resource);"
ALICE = Subject("user", "alice")
DOCUMENT = Resource("document", "1")
REQUEST = AccessRequest(ALICE, "read", DOCUMENT)


def when(condition: str, head: str = "permit(principal, action, resource)") -> str:
    """A policy with a condition."""
    return f"{head} when {{ {condition} }};"


def effect(policies: str, request: AccessRequest = REQUEST, **options: Any) -> Effect:
    """What policies say of a request."""
    return CedarPDP(policies, **options).decide(request).effect


SCHEMA = """
entity user in [group] { level?: Long, boss?: user };
entity group;
entity document { owner: user };
action view in [look] appliesTo { principal: user, resource: document, context: Seen };
type Seen = { ip?: ipaddr, pep?: { tenant?: String } };
action look;
"""
OWNED = Resource("document", "1", {"owner": {"type": "user", "id": "alice"}})
VIEW = AccessRequest(ALICE, "view", OWNED)


def entity(kind: str, name: str, parents: tuple[str, ...] = (), **attributes: Any) -> dict[str, Any]:
    """An entity in Cedar's JSON, whose parents are groups."""
    uid = {"type": kind, "id": name}
    return {"uid": uid, "attrs": attributes, "parents": [{"type": "group", "id": parent} for parent in parents]}


def ref(kind: str, name: str) -> dict[str, Any]:
    return {"__entity": {"type": kind, "id": name}}


KNOWN = [
    entity("user", "alice", ("staff",), level=3, boss=ref("user", "bob")),
    entity("user", "bob", (), level=9, tags=["a", "b"]),
    entity("group", "staff", ("all",), floor=2),
    {"uid": {"type": "Action", "id": "read"}, "attrs": {}, "parents": [{"type": "Action", "id": "look"}]},
]
