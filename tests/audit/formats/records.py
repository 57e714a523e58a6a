"""Records of every kind for the formats: sound ones, and ones that were damaged or are another's."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from pep.audit.record import Kind
from pep.fault import Fault
from pep.verdict import Outcome, Status

#: Pieces that break lines, steer terminals, or mean something to some format.
NASTY = [
    *"ab |=\\\"',:u/{}", "\n", "\r", "\r\n", "\t", "\0", "\x1b[31m", "\x7f", "\x85", "\x9b", "\u2028", "\u2029",
    "\u202e", "\u200d", "\ufeff", "\ufffe", "\ue000", "\U000e0001", "\\u2028", "\\n", "\\=", "\\|", " act=",
    " cs1=x", "é", "日", "🎉",
]  # fmt: skip

texts = st.lists(st.sampled_from(NASTY), max_size=8).map("".join) | st.text(max_size=8)
names = texts.filter(bool)
hexes = st.integers(0, 2**32)
times = st.datetimes(timezones=st.none()).map(lambda moment: moment.isoformat(timespec="microseconds") + "Z")
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
entities = st.fixed_dictionaries(
    {"type": names},
    optional={"id": names, "properties": st.lists(names, max_size=2) | st.dictionaries(names, values, max_size=2)},
)
duties = st.fixed_dictionaries({"type": names, "status": st.sampled_from([one.value for one in Status])})
parts = {
    "action": names,
    "subject": entities,
    "resource": entities,
    "actors": st.lists(entities, max_size=2),
    "tenant": names,
    "context": st.lists(names, max_size=2),
    "effect": st.sampled_from(["permit", "deny", "not_applicable", "indeterminate"]),
    "policies": st.lists(names, max_size=3),
    "revision": names,
    "fault": st.sampled_from([one.value for one in Fault]),
    "cause": names,
    "reasons": st.lists(names, max_size=3),
    "obligations": st.lists(duties, max_size=2),
}
chain = {
    "writer": hexes.map("{:016x}".format),
    "seq": st.integers(0, 2**40),
    "prev": hexes.map("{:064x}".format),
    "correlation": names,
    "trace": st.fixed_dictionaries(
        {}, optional={"trace_id": hexes.map("{:032x}".format), "span_id": hexes.map("{:016x}".format)}
    ),
    "enforcer": names,
    "entry": st.sampled_from(["guard", "enforce", "filter"]),
    "latency": st.floats(0, 10) | st.dictionaries(st.sampled_from(["total", "pdp"]), st.floats(0, 10)),
}
outcomes = st.sampled_from([one.value for one in Outcome])
statuses = st.sampled_from(["completed", "raised", "cancelled", "abandoned", "withheld"])
pairs = st.lists(st.tuples(names, names | st.none()).map(list), max_size=3)
OWN: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "decision": parts
    | {
        "outcome": outcomes,
        "would": outcomes,
        "allowed": st.booleans(),
        "kept": pairs,
        "requests": st.lists(st.fixed_dictionaries({}, optional=parts), max_size=2),
        "status": st.just("cancelled"),
    },
    "check": parts | {"outcome": outcomes, "allowed": st.booleans()},
    "outcome": parts | {"decision": names, "status": statuses, "ran": st.booleans(), "error": names, "revoked": pairs},
    "invalidation": {"floor": st.lists(names, min_size=1, max_size=3)},
    "configuration": {"change": names, "old": names, "new": names, "error": names},
    "gap": {"lost": st.integers(1, 9), "torn": st.just(True)},
    "open": {"previous": names},
    "close": {},
    "approval": {"event": names, "approval": names, "subject": entities, "approver": entities, "reason": names},
}


def _of_kind(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    head = {"schema": st.just("pep.audit/1"), "kind": st.just(kind), "id": st.uuids(version=4).map(str), "time": times}
    return st.fixed_dictionaries(head, optional=OWN[kind] | chain)


#: Records as this library writes them.
sound = st.sampled_from([kind.value for kind in Kind]).flatmap(_of_kind)

_FIELDS = sorted({"schema", "kind", "id", "time", *chain, *(name for own in OWN.values() for name in own)})

#: Objects that have to do with records: any field may be missing, of another type, or unknown.
damaged = st.tuples(sound, st.dictionaries(st.sampled_from(_FIELDS) | texts, values, max_size=6)).map(
    lambda both: both[0] | both[1]
) | st.dictionaries(st.sampled_from(_FIELDS) | texts, values, max_size=8)

#: Any of them.
records = sound | damaged


def leaves(value: Any) -> set[tuple[str, str]]:
    """Every text and number anywhere in a value, by type and how it is written."""
    if isinstance(value, dict):
        return set().union(*map(leaves, value.values()))
    if isinstance(value, list):
        return set().union(*map(leaves, value))
    return set() if value is None else {(type(value).__name__, repr(value))}
