"""
Records as documents of the Elastic Common Schema.

Imports what formats share.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from pep.audit.formats.common import (
    KINDS,
    LETTING_THROUGH,
    OUTCOMES,
    VERDICTS,
    Fields,
    milliseconds,
    plain_object,
    rfc3339,
    seconds_taken,
    severity,
    succeeded,
    summary,
    word,
)
from pep.audit.record import Kind
from pep.audit.severity import Severity

#: The version of ECS that is written.
VERSION: Final = "9.0.0"

_SEVERITIES: Final = MappingProxyType(
    {None: None, Severity.INFO: 1, Severity.NOTICE: 3, Severity.WARNING: 5, Severity.ERROR: 8},
)
_OUTCOMES: Final = MappingProxyType({True: "success", False: "failure", None: "unknown"})
# Kind → category and types, from those that go together.
_CATEGORIES: Final = MappingProxyType(
    {
        Kind.DECISION.value: ("api", ("access",)),
        Kind.CHECK.value: ("api", ("info",)),
        Kind.OUTCOME.value: ("api", ("access", "end")),
        Kind.INVALIDATION.value: ("api", ("admin", "change")),
        Kind.CONFIGURATION.value: ("configuration", ("change",)),
        Kind.GAP.value: ("api", ("info",)),
        Kind.OPEN.value: ("api", ("start",)),
        Kind.CLOSE.value: ("api", ("end",)),
        Kind.APPROVAL.value: ("api", ("change",)),
    }
)
_UNCATEGORIZED: Final = ("api", ("info",))
_NANOSECONDS: Final = 1_000_000_000


def to_ecs(record: Mapping[str, Any]) -> dict[str, Any]:
    """
    Convert a record to a document of the Elastic Common Schema.

    Args:
        record: A record of schema ``pep.audit/1`` as JSON values, of any kind. What is damaged or
            unknown in it goes to ``pep``, as does everything that ECS has no field for.

    Returns:
        The document, nested. Its ``event.outcome`` tells whether the enforcement point did its
        work; whether it let the call through is in ``event.type``.

    Source:
        ECS 9.0, https://www.elastic.co/docs/reference/ecs
    """
    told = plain_object(record)
    left = Fields(told)
    document = {
        "ecs": {"version": VERSION},
        "message": summary(told),
        "event": _event(told, left),
        "error": _some({"code": left.text("fault"), "type": left.text("cause") or left.text("error")}),
        "service": _some({"name": left.text("enforcer")}),
        "organization": _some({"id": left.text("tenant")}),
        "rule": _rule(left),
        "trace": _some({"id": left.inner("trace").trace_id("trace_id")}),
        "span": _some({"id": left.inner("trace").trace_id("span_id")}),
        "user": _some({"id": _id(told.get("subject"))}),
        "related": _related(told),
    }
    moment = left.moment()
    document["@timestamp"] = rfc3339(milliseconds(told) * 1000 if moment is None else moment)
    document["pep"] = left.rest()
    return _some(document)


def _event(told: Mapping[str, Any], left: Fields) -> dict[str, Any]:
    kind = word(told, "kind", KINDS)
    category, types = _CATEGORIES.get(kind or "", _UNCATEGORIZED)
    seconds = seconds_taken(told)
    return _some(
        {
            "kind": "event",
            "category": [category],
            "type": [*types, *_let_through(told)],
            "outcome": _OUTCOMES[succeeded(told)] if kind else None,
            "severity": _SEVERITIES[severity(told)],
            "module": "pep",
            "dataset": "pep.audit",
            "provider": "pep",
            "id": left.text("id"),
            "code": left.text("kind", KINDS),
            "action": left.text("action") or kind,
            "reason": left.only("reasons"),
            "sequence": left.integer("seq"),
            "duration": None if seconds is None else round(seconds * _NANOSECONDS),
        }
    )


def _let_through(told: Mapping[str, Any]) -> list[str]:
    if told.get("kind") == Kind.OUTCOME.value:
        return ["denied"] if told.get("status") == "withheld" else []
    outcome = word(told, "outcome", OUTCOMES) if word(told, "kind", VERDICTS) else None
    return [] if outcome is None else ["allowed" if outcome in LETTING_THROUGH else "denied"]


def _rule(left: Fields) -> dict[str, Any]:
    # A rule has one id: where several policies decided, all of them stay in `pep`, and so does the revision.
    policy = left.only("policies")
    return _some({"id": policy, "version": left.text("revision")}) if policy else {}


def _related(told: Mapping[str, Any]) -> dict[str, Any]:
    actors = told.get("actors")
    who = [told.get("subject"), *(actors if type(actors) is list else [])]
    return _some({"user": list(dict.fromkeys([name for one in who if (name := _id(one))]))})


def _id(entity: object) -> str | None:
    found = entity.get("id") if isinstance(entity, Mapping) else None
    return found if type(found) is str and found else None


def _some(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, "", [], {})}
