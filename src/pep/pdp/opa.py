"""
The Open Policy Agent as a decision point, over its REST API: queries, batches and row filters.

Imports plans, what asks over HTTP, and the words of Rego only; conditions where a row filter is made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import orjson

from pep.errors import ConfigurationError, PDPMismatched, PDPReplyError
from pep.frozen import EMPTY
from pep.model import AccessRequest, Action, Decision, Effect, Resource, Subject
from pep.pdp.rego_input import UNDEFINED, ResultMapping, decision_of_result, input_of
from pep.pdp.remote import Remote
from pep.plan import Plan, Raised, contain, gather, unwrap
from pep.protocols import Transport

if TYPE_CHECKING:
    from pep.policy.attributes import Attribute
    from pep.policy.partial import RowFilter

#: How many requests of a batch are in the air at once.
ABREAST: Final = 8
#: How many questions, and about how many bytes of them, one request of a batch holds.
QUESTIONS: Final = 250
MOST: Final = 1024 * 1024

_UCAST: Final = {"accept": "application/vnd.opa.ucast.all+json"}
_UNKNOWN: Final = re.compile(r"(?:input|data)(?:\.[A-Za-z_][A-Za-z0-9_]*)+", re.ASCII)
_MIXED: Final = 207


class OPAPDP:
    """
    A rule that an Open Policy Agent evaluates.

    The ``input`` document is the request's AuthZEN JSON, with ``actors`` and ``tenant`` where there are any; see
    `pep.pdp.rego_input.input_of`.

    Args:
        url: Where it answers, such as ``"http://localhost:8181"``.

        path: The rule, such as ``"app/authz/allow"`` for ``data.app.authz.allow``.

        mapping: Where in a result that is an object the decision is; without one, exactly ``true`` permits.

        transport: What sends requests; one of its own, which needs the extra ``httpx``, unless given.

        headers: Header's name → value, sent with every request.

        strict: Whether an error of a builtin function ends the evaluation, rather than being undefined: what is
            undefined makes a ``not`` true.

        batch: Whether the server has the batch API, as EOPA does; `decide_many` is there then.

        fields: Name of a field in data filters → the attribute it stands for, such as
            ``{"notes.owner": resource.owner}``; `row_filter` is there then, and no other field is accepted.

        filters: The rule that data filters are compiled from; *path* unless given.

        unknowns: What is unknown in data filters, such as ``("input.notes",)``; by default what the rule's own
            metadata says.

        name: Its identity, in records and cache keys; by default of where and what it asks.

    Raises:
        ConfigurationError: When an option will not do.

    Source:
        OPA REST API; EOPA Batch Query API.
    """

    def __init__(
        self,
        url: str,
        path: str,
        *,
        mapping: ResultMapping | None = None,
        transport: Transport | None = None,
        headers: Mapping[str, str] = EMPTY,
        strict: bool = True,
        batch: bool = False,
        fields: Mapping[str, Attribute] | None = None,
        filters: str | None = None,
        unknowns: Sequence[str] = (),
        name: str | None = None,
    ) -> None:
        _check(mapping, strict, batch)
        # The server's own default would let an error of a builtin function pass for undefined.
        options = "?provenance=true" + ("&strict-builtin-errors=true" if strict else "")
        rule = _path(path)
        self._data, self._batch = f"/v1/data/{rule}{options}", f"/v1/batch/data/{rule}{options}"
        self._mapping = mapping
        self._remote = Remote(url, transport=transport, headers=headers)
        #: Its identity.
        self.name = name or f"opa({self._remote.url}/v1/data/{rule})"
        if batch:
            #: Answers many questions in few requests; only where the server has the batch API.
            self.decide_many = self._decide_many
        if fields is not None:
            self._compile = f"/v1/compile/{rule if filters is None else _path(filters)}"
            self._fields, self._unknowns = _checked_fields(fields), _checked_unknowns(unknowns)
            #: Has data filters compiled; only where their fields are known.
            self.row_filter = self._row_filter
        elif filters is not None or unknowns:
            message = "`filters` and `unknowns` are about data filters; name their `fields`"
            raise ConfigurationError(message)

    def decide(self, request: AccessRequest) -> Plan[Decision]:
        """
        Ask one question.

        Returns:
            Permit for exactly ``true``. Not applicable where the rule is undefined.

        Raises:
            PDPError: When no usable answer was had.
        """
        reply = yield from self._remote.post(self._data, {"input": input_of(request)})
        return self._decision(reply)

    def probe(self) -> Plan[None]:
        """
        Ask whether the server is up, and has activated its bundles.

        Raises:
            PDPError: When it is not, or cannot be reached.
        """
        yield from self._remote.reach("/health?bundles")

    def close(self) -> None:
        """Close its own transport."""
        self._remote.close()

    async def aclose(self) -> None:
        """Close its own transport."""
        await self._remote.aclose()

    def __repr__(self) -> str:
        return f"<OPAPDP({self.name!r})>"

    def _decide_many(self, requests: Sequence[AccessRequest]) -> Plan[list[Decision | Raised]]:
        """
        Ask many questions.

        Raises:
            PDPReplyError: When any of the replies is not what was asked for: then none of them is relied on.
        """
        inputs = [input_of(request) for request in requests]
        chunks = list(_chunks(inputs))
        answers: list[Decision | Raised] = []
        for start in range(0, len(chunks), ABREAST):
            wave = chunks[start : start + ABREAST]
            asked = [self._asked(chunk) for chunk in wave]
            replies = (yield from gather(*asked)) if len(asked) > 1 else [(yield from contain(asked[0]))]
            for chunk, reply in zip(wave, replies, strict=True):
                if isinstance(reply, Raised) and not isinstance(reply.error, PDPReplyError):
                    answers += [reply] * len(chunk)
                else:
                    answers += unwrap(reply)
        return answers

    def _asked(self, inputs: Sequence[Mapping[str, Any]]) -> Plan[list[Decision | Raised]]:
        names = [str(number) for number in range(len(inputs))]
        asked = {"inputs": dict(zip(names, inputs, strict=True))}
        reply = yield from self._remote.post(self._batch, asked, accept=(200, _MIXED))
        responses = reply.get("responses", {})
        if type(responses) is not dict or "code" in reply:
            message = "`responses` of the batch must be a JSON object"
            raise PDPReplyError(message)
        if not responses:
            # The rule is undefined.
            return [Decision(Effect.NOT_APPLICABLE)] * len(inputs)
        if responses.keys() != set(names):
            message = "the batch was answered with more, fewer or other responses than were asked for"
            raise PDPMismatched(message)
        return [self._one(responses[name]) for name in names]

    def _one(self, told: object) -> Decision | Raised:
        if type(told) is not dict:
            message = "a response of the batch must be a JSON object"
            raise PDPReplyError(message)
        status = told.get("http_status_code", "200")
        if type(status) not in {str, int} or str(status) != "200":
            message = "the rule could not be evaluated for a question of the batch"
            return Raised(PDPReplyError(message))
        return self._decision(told)

    def _decision(self, reply: Mapping[str, Any]) -> Decision:
        if reply.keys() & {"code", "errors"}:
            message = "the reply is an error, though its status is not"
            raise PDPReplyError(message)
        found = reply.get("result", UNDEFINED)
        told = reply.get("decision_id")
        return decision_of_result(found, self._mapping, revision=_revision(reply.get("provenance")), id=told)

    def _row_filter(
        self,
        subject: Subject,
        action: Action | str,
        resource_type: str,
        *,
        context: Mapping[str, Any],
        actors: Iterable[Subject] = (),
        tenant: str | None = None,
    ) -> Plan[RowFilter]:
        """
        Have a data filter compiled for the resources of a type.

        Raises:
            PDPReplyError: On a filter with another field or operator than is known, and one that masks columns.
        """
        request = AccessRequest(subject, action, Resource.new(resource_type), context, actors, tenant)
        asked: dict[str, Any] = {"input": input_of(request)}
        if self._unknowns:
            asked["unknowns"] = list(self._unknowns)
        reply = yield from self._remote.post(self._compile, asked, headers=_UCAST)
        return _rows(reply, self._fields)


def _rows(reply: Mapping[str, Any], fields: Mapping[str, Attribute]) -> RowFilter:
    from pep.policy.partial import AllowAll, Conditional, DenyAll  # noqa: PLC0415  only who filters rows pays for policies
    from pep.policy.ucast import from_ucast  # noqa: PLC0415  the same

    result = reply.get("result", {})
    if type(result) is not dict or "code" in reply:
        message = "the `result` of a data filter must be a JSON object"
        raise PDPReplyError(message)
    if result.get("masks"):
        message = "a data filter masks columns, which a row filter cannot do; use a rule without `mask_rule`"
        raise PDPReplyError(message)
    if "query" not in result:
        return DenyAll()
    query = result["query"]
    return AllowAll() if query in ("", {}) else Conditional(from_ucast(query, fields))


def _chunks(inputs: Iterable[dict[str, Any]]) -> Iterable[list[dict[str, Any]]]:
    chunk: list[dict[str, Any]] = []
    size = 0
    for one in inputs:
        length = len(orjson.dumps(one))
        if chunk and (len(chunk) >= QUESTIONS or size + length > MOST):
            yield chunk
            chunk, size = [], 0
        chunk.append(one)
        size += length
    if chunk:
        yield chunk


def _revision(provenance: object) -> str | None:
    """Tell which revisions of bundles decided; of several, each with its bundle's name."""
    if provenance is None:
        return None
    told = provenance if type(provenance) is dict else {"bundles": None}
    bundles = told.get("bundles", {})
    if type(bundles) is not dict or not all(type(bundle) is dict for bundle in bundles.values()):
        message = "`provenance` of the reply must be a JSON object that tells of `bundles`"
        raise PDPReplyError(message)
    revisions = [(name, bundle.get("revision")) for name, bundle in sorted(bundles.items())]
    # What decided before there were bundles.
    known = [(name, one) for name, one in revisions or [("", told.get("revision"))] if one]
    if not all(type(one) is str for _name, one in known):
        message = "a `revision` of the reply's provenance must be a text"
        raise PDPReplyError(message)
    if len(known) > 1:
        return ",".join([f"{name}={one}" for name, one in known])
    return known[0][1] if known else None


def _path(path: object) -> str:
    names = path.split("/") if type(path) is str and path.isprintable() else []
    if not names or any(name in {"", ".", ".."} for name in names):
        message = "the path of a rule is names with slashes between them, such as `app/authz/allow`"
        raise ConfigurationError(message)
    return "/".join([quote(name, safe="") for name in names])


def _check(mapping: object, strict: object, batch: object) -> None:
    if mapping is not None and type(mapping) is not ResultMapping:
        message = f"`mapping` must be a `ResultMapping`, not `{type(mapping).__name__}`"
        raise ConfigurationError(message)
    if type(strict) is not bool or type(batch) is not bool:
        message = "`strict` and `batch` must be `True` or `False`"
        raise ConfigurationError(message)


def _checked_fields(fields: Mapping[str, Attribute]) -> dict[str, Attribute]:
    from pep.policy.attributes import field_of  # noqa: PLC0415  only who filters rows pays for policies

    found = dict(fields)
    for name, attribute in found.items():
        if type(name) is not str or field_of(attribute).root != "resource":
            message = "`fields` maps names to attributes of the resource, such as `resource.owner`"
            raise ConfigurationError(message)
    return found


def _checked_unknowns(unknowns: Sequence[str]) -> tuple[str, ...]:
    found: Any = unknowns
    if type(found) not in {list, tuple} or not all(type(one) is str and _UNKNOWN.fullmatch(one) for one in found):
        message = "`unknowns` is a list of references such as `input.notes`"
        raise ConfigurationError(message)
    return tuple(found)
