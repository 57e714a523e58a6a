"""Random conditions, rules and requests over few names, so that they meet."""

from __future__ import annotations

from functools import reduce
from operator import and_
from typing import Any

from hypothesis import strategies as st

from pep.model import AccessRequest, Obligation, Resource, Subject
from pep.policy import Rule, action, context, deny, has, now, permit, resource, subject
from pep.policy.condition import Condition

NAMES = ["a", "b", "roles"]
TEXTS = ["x", "y", "10.0.0.1", "10.9.9.9", "::ffff:10.0.0.1"]
scalars = st.sampled_from([*TEXTS, 0, 1, 1.0, 2.5, -3, True, False])
values = st.recursive(
    scalars | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=2),
    max_leaves=4,
)
roles = st.sampled_from([["x"], ["y"], ["x", "y"], ["x", 1], ["z", None], [], "x"])
lists = roles | st.lists(st.sampled_from(TEXTS), max_size=3) | st.lists(scalars | st.none(), max_size=3)
properties = st.fixed_dictionaries(
    {}, optional={"a": values | st.sampled_from(["x", "y"]), "b": values | st.booleans(), "roles": lists}
)

fields = st.builds(
    lambda root, name: root[name], st.sampled_from([subject, resource, action, context]), st.sampled_from(NAMES)
)
nested = st.builds(lambda field, name: field[name], fields, st.sampled_from(NAMES))
intrinsics = st.sampled_from([subject.id, subject.type, resource.id, resource.type, resource.is_new, action.name])
attributes = fields | fields | nested | intrinsics
operands = scalars | attributes
options = st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3) | st.lists(
    st.sampled_from([0, 1, 1.0, 2.5]), min_size=1, max_size=3
)
collections = options | fields
moments = st.none() | fields | st.sampled_from([0, 1, 2.5])


def window(start: Any, end: Any, skew: float) -> Condition:
    if start is None and end is None:
        return now.before(5, skew=skew)
    if start is None:
        return now.before(end, skew=skew)
    return now.after(start, skew=skew) if end is None else now.between(start, end, skew=skew)


comparisons = st.one_of(
    st.builds(lambda one, other: one == other, attributes, operands),
    st.builds(lambda one, other: one != other, attributes, operands),
    st.builds(lambda one, other: one < other, attributes, operands),
    st.builds(lambda one, other: one <= other, attributes, operands),
    st.builds(lambda one, other: one > other, attributes, operands),
    st.builds(lambda one, other: one >= other, attributes, operands),
)
leaves = st.one_of(
    st.sampled_from([subject.id == "x", resource.id == "x", resource.id == "y", subject.roles.contains("x")]),
    comparisons,
    comparisons,
    st.builds(lambda one, other: one.contains(other), fields, operands),
    st.builds(lambda one, other: one.in_(other), attributes, collections),
    st.builds(lambda one, other: one.intersects(other), fields, collections),
    st.builds(
        lambda one, method, part: getattr(one, method)(part),
        attributes,
        st.sampled_from(["starts_with", "ends_with", "contains_text"]),
        st.sampled_from(TEXTS) | attributes,
    ),
    st.builds(has, attributes),
    st.builds(lambda one: one.ip_in("10.0.0.0/16", "192.168.0.0/24"), fields),
)
timed = leaves | st.builds(
    window,
    moments.filter(lambda one: type(one) in (int, float, type(None))),
    st.none() | st.sampled_from([0, 2.5]),
    st.sampled_from([0, 1.5]),
)


def trees(of: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    return st.recursive(
        of,
        lambda inner: st.one_of(
            st.builds(lambda one, other: one & other, inner, inner),
            st.builds(lambda one, other: one & other, inner, inner),
            st.builds(lambda one, other: one | other, inner, inner),
            st.builds(lambda one: ~one, inner),
        ),
        max_leaves=6,
    )


# What an index can file by, with a little that is left to test: the shape of most policies.
required = st.sampled_from(
    [
        *(entity.id == name for entity in (subject, resource) for name in ("x", "y")),
        *(subject.roles.contains(name) for name in ("x", "y")),
        subject.roles.intersects(["x", "y"]),
        subject.a == "x",
        subject.a != "x",
        subject.a.in_(["x", "y"]),
        resource.id.in_(["x", "y"]),
        resource.a == "y",
        resource.b == True,  # noqa: E712
        has(resource.b),
        resource.a == subject.id,
    ]
)
filed = st.lists(required, min_size=1, max_size=3).map(lambda parts: reduce(and_, parts))
conditions = filed | trees(leaves | required)
timed_conditions = filed | trees(timed | required)
actions = (
    st.none()
    | st.just("read")
    | st.sampled_from(
        ["read", "edit", "doc:read", "doc:*", "*", "**", {"read", "edit"}, {"doc:*", "read"}, {"doc:read", "read"}]
    )
)
kinds = st.none() | st.just("doc") | st.sampled_from(["doc", "doc:draft", "doc:*", "*", "**", {"doc", "note"}])
who = st.sampled_from([None, "user", "*", {"user", "agent"}])
duties = st.lists(st.sampled_from([Obligation("log"), Obligation("redact", {"paths": ["a"]})]), max_size=1)


IDS = st.text(st.sampled_from("pqr"), min_size=1, max_size=3)


def rules(of: st.SearchStrategy[Condition] = conditions, ids: st.SearchStrategy[str] = IDS) -> st.SearchStrategy[Rule]:
    return st.builds(
        lambda make, *parts, **more: make(*parts, **more),
        st.sampled_from([permit, permit, deny]),
        ids,
        action=actions,
        resource=kinds,
        subject=who,
        when=st.none() | of | of,
        unless=st.none() | of,
        obligations=duties,
        advice=duties,
        reason=st.none() | st.just("why"),
    )


def policies(of: st.SearchStrategy[Condition] = conditions, **more: Any) -> st.SearchStrategy[list[Rule]]:
    return st.lists(rules(of), max_size=7, unique_by=lambda rule: rule.id, **more)


subjects = st.builds(Subject, st.sampled_from(["user", "agent"]), st.sampled_from(["x", "y"]), properties)
resources = st.one_of(
    st.builds(Resource, st.just("doc"), st.sampled_from(["x", "y"]), properties),
    st.builds(Resource, st.sampled_from(["doc", "note", "doc:draft"]), st.sampled_from(["x", "y"]), properties),
    st.builds(Resource.new, st.sampled_from(["doc"]), properties),
)
requests = st.builds(
    AccessRequest,
    subjects,
    st.just("read") | st.sampled_from(["read", "edit", "doc:read", "doc:sub:read"]),
    resources,
    properties,
)
