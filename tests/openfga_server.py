"""A small model of OpenFGA that speaks its HTTP API: stores, rewrites, usersets, wildcards, conditions, its errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from tests.relationship_http import Refused

STORE = "01YCP46JKYM8FJCQ37NMBYHE5X"
MODEL = "01G5JAVJ41T49E9TT3SKVS7X1J"

#: How many checks a batch may have, and how many objects a list has, as the server is configured.
MAX_CHECKS = 50
MAX_LISTED = 5

Tuple = tuple[str, str, str]


@attrs.define
class OpenFGA:
    """
    A server with one store.

    Args:
        relations: Type → relation → the relations that imply it.

        tuples: The relationships; with the name of a condition where they hold under one.

        conditions: Name → the parameters it takes, and what it says of them.
    """

    relations: Mapping[str, Mapping[str, Iterable[str]]]
    tuples: dict[Tuple, str | None]
    conditions: Mapping[str, tuple[tuple[str, ...], Callable[..., bool]]] = attrs.field(factory=dict)
    token: str | None = None
    up: bool = True

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if path == "/healthz":
            return (200, b'{"status":"SERVING"}') if self.up else (503, b'{"status":"NOT_SERVING"}')
        if self.token is not None and headers.get("authorization") != f"Bearer {self.token}":
            raise Refused(401, {"code": "invalid_bearer_token", "message": "unauthenticated"})
        match = re.fullmatch(r"/stores/([^/]+)/([a-z-]+)", path)
        verbs = {
            "check": self.check,
            "batch-check": self.batch,
            "list-objects": self.objects,
            "list-users": self.users,
        }
        if method != "POST" or match is None or match[2] not in verbs:
            raise Refused(404, {"code": "undefined_endpoint", "message": "Not Found"})
        if match[1] != STORE:
            raise Refused(404, {"code": "store_id_not_found", "message": "Store ID not found"})
        told = json.loads(body)
        if told.get("authorization_model_id", MODEL) != MODEL:
            raise invalid(code="authorization_model_not_found")
        if told.get("consistency") not in {None, "UNSPECIFIED", "MINIMIZE_LATENCY", "HIGHER_CONSISTENCY"}:
            raise invalid()
        return 200, json.dumps(verbs[match[2]](told)).encode()

    def check(self, told: Mapping[str, Any]) -> dict[str, Any]:
        contextual = (told.get("contextual_tuples") or {}).get("tuple_keys", [])
        key = told["tuple_key"]
        allowed = self.asking(told, contextual).holds(key["user"], key["relation"], key["object"])
        return {"allowed": allowed, "resolution": ""}

    def batch(self, told: Mapping[str, Any]) -> dict[str, Any]:
        checks = told["checks"]
        ids = [check["correlation_id"] for check in checks]
        if not 0 < len(checks) <= MAX_CHECKS or len(set(ids)) < len(ids):
            raise invalid()
        result: dict[str, Any] = {}
        for check in checks:
            try:
                result[check["correlation_id"]] = {"allowed": self.check(check)["allowed"]}
            except Refused as refused:
                error = {"input_error": refused.told["code"], "message": refused.told["message"]}
                result[check["correlation_id"]] = {"error": error}
        return {"result": result}

    def objects(self, told: Mapping[str, Any]) -> dict[str, Any]:
        asking = self.asking(told, (told.get("contextual_tuples") or {}).get("tuple_keys", []))
        names = dict.fromkeys(one for _user, _relation, one in asking.tuples if one.startswith(told["type"] + ":"))
        found = [one for one in names if asking.holds(told["user"], told["relation"], one)]
        return {"objects": found[:MAX_LISTED]}

    def users(self, told: Mapping[str, Any]) -> dict[str, Any]:
        asking = self.asking(told, told.get("contextual_tuples", []))
        kind = told["user_filters"][0]["type"]
        thing = f"{told['object']['type']}:{told['object']['id']}"
        names = dict.fromkeys(one for one, _relation, _object in asking.tuples if one.startswith(kind + ":"))
        found = [one.partition(":")[2] for one in names if "#" not in one]
        held = [one for one in found if asking.holds(f"{kind}:{one}", told["relation"], thing)]
        return {
            "users": [
                {"wildcard": {"type": kind}} if one == "*" else {"object": {"type": kind, "id": one}} for one in held
            ]
        }

    def asking(self, told: Mapping[str, Any], contextual: Iterable[Mapping[str, Any]]) -> Asking:
        more = {
            (one["user"], one["relation"], one["object"]): (one.get("condition") or {}).get("name")
            for one in contextual
        }
        return Asking(self, {**self.tuples, **more}, told.get("context") or {})


@attrs.frozen
class Asking:
    """One question, with its contextual tuples and its context."""

    server: OpenFGA
    tuples: Mapping[Tuple, str | None]
    context: Mapping[str, Any]

    def holds(self, user: str, relation: str, thing: str) -> bool:
        if not re.fullmatch(r"[^\s]{2,512}", user) or not re.fullmatch(r"[^:#\s]+:[^#:\s]+", thing):
            raise invalid(code="invalid_tuple")
        if not re.fullmatch(r"[^\s]{2,256}", thing) or not re.fullmatch(r"[^:#@\s]{1,50}", relation):
            raise invalid()
        kind = thing.partition(":")[0]
        if kind not in self.server.relations:
            raise invalid(code="type_not_found")
        if relation not in self.server.relations[kind]:
            raise invalid(code="relation_not_found")
        return self.reaches(user, relation, thing)

    def reaches(self, user: str, relation: str, thing: str) -> bool:
        """Follow what implies the relation; a user is a string, whoever wrote it."""
        if user == f"{thing}#{relation}":
            return True
        for (holder, has, what), condition in self.tuples.items():
            if (has, what) == (relation, thing) and self.covers(holder, user) and self.granted(condition):
                return True
        implied = self.server.relations[thing.partition(":")[0]][relation]
        return any(self.reaches(user, other, thing) for other in implied)

    def covers(self, holder: str, user: str) -> bool:
        if holder == user:
            return True
        if holder.endswith(":*"):
            return "#" not in user and user.startswith(holder[:-1])
        group, hash_, relation = holder.partition("#")
        return bool(hash_) and self.reaches(user, relation, group)

    def granted(self, condition: str | None) -> bool:
        if condition is None:
            return True
        names, says = self.server.conditions[condition]
        missing = [name for name in names if name not in self.context]
        if missing:
            raise invalid(message=f"failed to evaluate relationship condition: missing context parameters {missing}")
        return says(*[self.context[name] for name in names])


def invalid(*, code: str = "validation_error", message: str = "invalid request") -> Refused:
    return Refused(400, {"code": code, "message": message})
