"""
Hypothesis strategies for the model. The only part of `pep.testing`, but its plugin, that needs an extra.

Imports the model and Hypothesis.
"""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st

from pep.model import AccessRequest, Action, Decision, Effect, Obligation, Resource, Subject

#: Names that have been mistaken for one another, or for structure.
AWKWARD: Final = ("1", "a", "A", "ab", "a:b", "é", "e\u0301", "\x00", "\r\n", "\u2028", "\u202e", " a", "null", "*")


def names() -> st.SearchStrategy[str]:
    """Generate ids and types: short, awkward, any text that can be encoded."""
    encodable = st.characters(exclude_categories=["Cs"])
    return st.sampled_from(AWKWARD) | st.text(encodable, min_size=1, max_size=8)


def values() -> st.SearchStrategy[Any]:
    """Generate attribute values: JSON, without what JSON cannot hold exactly."""
    numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    plain = st.none() | st.booleans() | numbers
    return st.recursive(plain | names(), lambda inner: st.lists(inner, max_size=3) | _mappings(inner), max_leaves=5)


def properties() -> st.SearchStrategy[dict[str, Any]]:
    """Generate properties: name → value."""
    return _mappings(values())


def subjects() -> st.SearchStrategy[Subject]:
    """Generate subjects."""
    return st.builds(Subject, names(), names(), properties())


def resources() -> st.SearchStrategy[Resource]:
    """Generate resources, new ones too."""
    return st.builds(Resource, names(), names(), properties()) | st.builds(Resource.new, names(), properties())


def actions() -> st.SearchStrategy[Action]:
    """Generate actions; their names hold no ``*``, which is for patterns."""
    return st.builds(Action, names().filter(lambda name: "*" not in name), properties())


def requests() -> st.SearchStrategy[AccessRequest]:
    """Generate access requests, with actors and tenants."""
    actors = st.lists(subjects(), max_size=2)
    return st.builds(AccessRequest, subjects(), actions(), resources(), properties(), actors, st.none() | names())


def obligations(types: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[Obligation]:
    """Generate obligations, of the types given."""
    return st.builds(Obligation, names() if types is None else types, properties(), st.none() | names())


def decisions(duties: st.SearchStrategy[Obligation] | None = None) -> st.SearchStrategy[Decision]:
    """Generate decisions, with the obligations given."""
    due = obligations() if duties is None else duties
    return st.builds(
        Decision,
        st.sampled_from(Effect),
        obligations=st.lists(due, max_size=3),
        reasons=st.lists(names(), max_size=1),
        policies=st.lists(names(), max_size=2),
        revision=st.none() | names(),
        ttl=st.none() | st.floats(0, 1e6),
    )


def _mappings(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(names(), inner, max_size=3)
