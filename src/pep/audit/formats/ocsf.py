"""
Records as OCSF: events of class API Activity with the profiles ``security_control`` and ``trace``.

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
    all_resources,
    milliseconds,
    plain_object,
    severity,
    succeeded,
    summary,
    word,
)
from pep.audit.record import Kind
from pep.audit.severity import Severity
from pep.verdict import Outcome

#: The version of OCSF that is written.
VERSION: Final = "1.8.0"

_CLASS: Final = 6003
_OTHER: Final = 99
_UNKNOWN: Final = "unknown"
_ACTIVITIES: Final = MappingProxyType({"create": 1, "read": 2, "update": 3, "delete": 4})
_USER_TYPES: Final = MappingProxyType({"user": 1, "system": 3, "service": 4})
_SEVERITIES: Final = MappingProxyType(
    {
        None: (0, "Unknown"),
        Severity.INFO: (1, "Informational"),
        Severity.NOTICE: (2, "Low"),
        Severity.WARNING: (3, "Medium"),
        Severity.ERROR: (4, "High"),
    }
)
_STATUSES: Final = MappingProxyType({None: (0, "Unknown"), True: (1, "Success"), False: (2, "Failure")})
_ALLOWED, _DENIED, _OBSERVED = (1, "Allowed"), (2, "Denied"), (3, "Observed")
_BLOCKED: Final = (2, "Blocked")
_LOGGED: Final = (17, "Logged")
# Outcome → the control's action, and the disposition that conforms to it.
_CONTROLS: Final = MappingProxyType(
    {
        Outcome.PERMITTED.value: (_ALLOWED, (1, "Allowed")),
        Outcome.DENIED.value: (_DENIED, (26, "Unauthorized")),
        Outcome.CONFIRMATION_REQUIRED.value: (_DENIED, _BLOCKED),
        Outcome.STEP_UP_REQUIRED.value: (_DENIED, _BLOCKED),
        Outcome.RATE_LIMITED.value: (_DENIED, _BLOCKED),
        Outcome.UNAVAILABLE.value: (_DENIED, (27, "Error")),
        Outcome.FAILED_OPEN.value: (_ALLOWED, (1, "Allowed")),
        Outcome.SHADOWED.value: (_OBSERVED, _LOGGED),
    }
)
_DETECTED: Final = (_OBSERVED, (15, "Detected"))
_ASKED: Final = (_OBSERVED, _LOGGED)
_WITHHELD: Final = (_DENIED, _BLOCKED)
_CONCERNING_CODE: Final = VERDICTS | {Kind.OUTCOME.value}
# Profile → an attribute it adds to every event it applies to.
_PROFILES: Final = (("security_control", "action_id"), ("trace", "trace"))
_UNDECIDED: Final = ((0, "Unknown"), (16, "No Action"))


def to_ocsf(record: Mapping[str, Any]) -> dict[str, Any]:
    """
    Convert a record to an OCSF event of class API Activity (6003).

    Args:
        record: A record of schema ``pep.audit/1`` as JSON values, of any kind. What is damaged or
            unknown in it goes to ``unmapped``, as does everything that OCSF has no place for.

    Returns:
        The event. Its status tells whether the enforcement point did its work; whether it let the
        call through is its ``action_id`` and ``disposition_id``.

    Source:
        OCSF 1.8.0, https://schema.ocsf.io/1.8.0/classes/api_activity?profiles=security_control,trace
    """
    told = plain_object(record)
    left = Fields(told)
    enforcer = left.text("enforcer")
    event = _classified(told) | {
        "time": milliseconds(told),
        "message": summary(told),
        **_status(told, left),
        **_control(told, left),
        "actor": _actor(left.inner("subject"), enforcer),
        "api": _api(told, left, enforcer),
        "src_endpoint": {"svc_name": enforcer or _UNKNOWN},
        "resources": _resources(told, left.inner("resource")),
        "trace": _trace(left.inner("trace")),
    }
    event["metadata"] = _metadata(left, event)
    event["unmapped"] = left.rest()
    return {name: value for name, value in event.items() if value not in ("", [], {})}


def _classified(told: Mapping[str, Any]) -> dict[str, Any]:
    name = _operation(told)
    activity = _ACTIVITIES.get(name.rpartition(":")[2], _OTHER) if _concerns_code(told) else _OTHER
    caption = "Other" if activity == _OTHER else name.rpartition(":")[2].capitalize()
    severity_id, grave = _SEVERITIES[severity(told)]
    return {
        "category_uid": _CLASS // 1000,
        "category_name": "Application Activity",
        "class_uid": _CLASS,
        "class_name": "API Activity",
        "activity_id": activity,
        "activity_name": name if activity == _OTHER else caption,
        "type_uid": _CLASS * 100 + activity,
        "type_name": f"API Activity: {caption}",
        "severity_id": severity_id,
        "severity": grave,
    }


def _concerns_code(told: Mapping[str, Any]) -> bool:
    return word(told, "kind", _CONCERNING_CODE) is not None


def _operation(told: Mapping[str, Any]) -> str:
    """Name what is done: the action that was guarded, or what the enforcement point itself did."""
    action = told.get("action") if _concerns_code(told) else None
    return action if type(action) is str and action else word(told, "kind", KINDS) or _UNKNOWN


def _status(told: Mapping[str, Any], left: Fields) -> dict[str, Any]:
    status_id, caption = _STATUSES[succeeded(told)]
    code = left.text("outcome", OUTCOMES) or left.text("status")
    status = {"status_id": status_id, "status": caption} | ({"status_code": code} if code else {})
    fault = left.text("fault")
    return status | ({"status_detail": fault} if fault else {})


def _control(told: Mapping[str, Any], left: Fields) -> dict[str, Any]:
    controlled = _controlled(told)
    if controlled is None:
        return {}
    (action_id, action), (disposition_id, disposition) = controlled
    return {
        "action_id": action_id,
        "action": action,
        "disposition_id": disposition_id,
        "disposition": disposition,
        "is_alert": severity(told) is Severity.ERROR,
        "authorizations": _authorizations(left),
    }


def _controlled(told: Mapping[str, Any]) -> tuple[tuple[int, str], tuple[int, str]] | None:
    outcome = word(told, "outcome", OUTCOMES)
    kind = word(told, "kind", _CONCERNING_CODE)
    if kind is None or kind == Kind.OUTCOME.value:
        return _WITHHELD if kind and told.get("status") == "withheld" else None
    if kind == Kind.CHECK.value:
        return _ASKED
    if outcome is None:
        return _UNDECIDED
    would = word(told, "would", OUTCOMES)
    detected = outcome == Outcome.SHADOWED.value and would is not None and would not in LETTING_THROUGH
    return _DETECTED if detected else _CONTROLS[outcome]


def _authorizations(left: Fields) -> list[dict[str, Any]]:
    effect = left.text("effect")
    if effect is None:
        return []
    policies = left.texts("policies")
    revision = left.text("revision") if policies else None
    version = {"version": revision} if revision else {}
    return [{"decision": effect, "policy": {"uid": name, **version}} for name in policies] or [{"decision": effect}]


def _actor(subject: Fields, enforcer: str | None) -> dict[str, Any]:
    actor: dict[str, Any] = {"app_name": enforcer or _UNKNOWN}
    uid = subject.text("id")
    if uid is None:
        return actor
    kind = subject.text("type")
    user = {"uid": uid, "type": kind, "type_id": _USER_TYPES.get(kind, _OTHER)} if kind else {"uid": uid, "type_id": 0}
    return actor | {"user": user}


def _api(told: Mapping[str, Any], left: Fields, enforcer: str | None) -> dict[str, Any]:
    api: dict[str, Any] = {"operation": _operation(told)}
    if _concerns_code(told):
        left.text("action")
    # A decision and what came of it are of one request.
    asked = left.text("decision") if told.get("kind") == "outcome" else told.get("id")
    if _concerns_code(told) and type(asked) is str and asked:
        api["request"] = {"uid": asked}
    error = left.text("error")
    if error:
        api["response"] = {"error": error}
    if enforcer:
        api["service"] = {"name": enforcer}
    return api


def _resources(told: Mapping[str, Any], own: Fields) -> list[dict[str, Any]]:
    if own.text("id"):
        own.text("type")
    return [resource for one in all_resources(told) if (resource := _resource(one))]


def _resource(one: Mapping[str, Any]) -> dict[str, Any]:
    # A resource that is new, or known by its type only, has neither a uid nor a name.
    if type(one.get("id")) is not str or not one["id"]:
        return {}
    kind = {"type": one["type"]} if type(one.get("type")) is str and one["type"] else {}
    return {"uid": one["id"], **kind, "role_id": 1, "role": "Target"}


def _trace(trace: Fields) -> dict[str, Any]:
    # A span needs a start and an end, which a record does not tell.
    uid = trace.trace_id("trace_id")
    return {"uid": uid} if uid else {}


def _metadata(left: Fields, event: Mapping[str, Any]) -> dict[str, Any]:
    uid = left.text("id")
    metadata = {
        "version": VERSION,
        "product": {"name": "pep", "vendor_name": "pep"},
        "profiles": [name for name, sign in _PROFILES if event.get(sign) not in (None, {})],
        "event_code": left.text("kind", KINDS),
        "log_version": left.text("schema"),
        "original_time": left.text("time"),
        "uid": uid,
        "original_event_uid": uid,
        "sequence": left.integer("seq"),
        "tenant_uid": left.text("tenant"),
        "correlation_uid": left.text("correlation"),
    }
    return {name: value for name, value in metadata.items() if value not in (None, [])}
