"""
Cerbos as a decision point, over its HTTP API: checks, batches and row filters.

Imports plans, what asks over HTTP, and Cerbos's words only; plans of queries where a row filter is made.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pep.errors import ConfigurationError, PDPError, PDPReplyError
from pep.frozen import EMPTY
from pep.model import AccessRequest, Action, Decision, Effect, Resource, Subject
from pep.pdp.cerbos_batch import Batch, Pack
from pep.pdp.cerbos_replies import decisions
from pep.pdp.cerbos_words import Wording
from pep.pdp.remote import Remote
from pep.plan import Plan, Raised, Returned, contain, gather, unwrap
from pep.protocols import Transport

if TYPE_CHECKING:
    from pep.policy.partial import RowFilter

#: How many requests of a batch are in the air at once.
ABREAST: Final = 8

_CHECK: Final = "/api/check/resources"
_PLAN: Final = "/api/plan/resources"
_SCOPES: Final = re.compile(r"(?:[0-9a-zA-Z][\w\-]*(?:\.\w[\w\-]*)*)?", re.ASCII)
_VERSIONS: Final = re.compile(r"\w*", re.ASCII)

#: Place among the questions of a batch, and its decision.
Answered = list[tuple[int, Decision]]


class CerbosPDP:
    """
    A Cerbos server.

    The subject is the principal, its type ``P.attr["$type"]``, its other properties the rest of ``P.attr``. The
    request's context is ``P.attr["$context"]``, the actors ``P.attr["$actors"]`` (a list of ``type``, ``id`` and
    ``properties``, outermost first), the tenant ``P.attr["$tenant"]``, and properties of the action
    ``R.attr["$action"]``: where Cerbos's own AuthZEN endpoint puts what it knows of them. A property of such a name
    is refused, and so is an integer beyond 53 bits, which Cerbos would round.

    Args:
        url: Where its HTTP API answers, such as ``"https://cerbos.internal:3592"``.

        transport: What sends requests; one of its own, which needs the extra ``httpx``, unless given.

        headers: Header's name → value, sent with every request.

        roles: The subject's property that holds its roles, a list of texts.

        no_role: The role of a subject without any, since Cerbos wants one; of policies only ``*`` should match it.

        version: Which version of the policies is asked; empty is the server's default.

        scope: Which scope is asked, such as ``"acme.hr"``.

        tenant_as_scope: Whether the tenant is the scope rather than an attribute; a request without one is asked in
            the root scope.

        prefix: What the names begin with that are told beside properties, ``$`` above.

        placeholder: The id of a resource that is new; a real one may not have it.

        resources, actions: How many the server takes at most, in one request, and of one resource.

        check_plans: Whether a plan that lets every row through is checked against a resource without attributes;
            see `row_filter`.

        name: Its identity, in records and cache keys; by default of where and what it asks.

    Raises:
        ConfigurationError: When an option will not do.
    """

    def __init__(
        self,
        url: str,
        *,
        transport: Transport | None = None,
        headers: Mapping[str, str] = EMPTY,
        roles: str = "roles",
        no_role: str = "$none",
        version: str = "",
        scope: str = "",
        tenant_as_scope: bool = False,
        prefix: str = "$",
        placeholder: str = "$new",
        resources: int = 50,
        actions: int = 50,
        check_plans: bool = True,
        name: str | None = None,
    ) -> None:
        _texts(roles=roles, no_role=no_role, prefix=prefix, placeholder=placeholder)
        _flags(tenant_as_scope=tenant_as_scope, check_plans=check_plans)
        _numbers(resources=resources, actions=actions)
        _matching(_VERSIONS, version, "version")
        _matching(_SCOPES, scope, "scope")
        if scope and tenant_as_scope:
            message = "`scope` and `tenant_as_scope` exclude each other; name one"
            raise ConfigurationError(message)
        self._remote = Remote(url, transport=transport, headers=headers)
        self._words = Wording(roles, no_role, version, scope, tenant_as_scope, prefix, placeholder)
        self._limits = resources, actions
        self._check_plans = check_plans
        shown = [version and f"version={version}", scope and f"scope={scope}", tenant_as_scope and "scope=tenant"]
        #: Its identity.
        self.name = name or f"cerbos({','.join([self._remote.url, *[part for part in shown if part]])})"

    def decide(self, request: AccessRequest) -> Plan[Decision]:
        """
        Ask one question.

        Returns:
            Permit for exactly ``EFFECT_ALLOW``. Not applicable where no policy is about the resource and action.
            Indeterminate where the request is not valid by the server's schemas.

        Raises:
            PDPError: When no usable answer was had.
        """
        batch = Batch(self._words, self._limits)
        batch.add(request, 0)
        found = yield from self._checked(batch.packs[0])
        return found[0][1]

    def decide_many(self, requests: Sequence[AccessRequest]) -> Plan[list[Decision | Raised]]:
        """
        Ask many questions, as many in one request as the server takes, and requests side by side.

        Raises:
            PDPReplyError: When any of the replies is not what was asked for: then none of them is relied on.
        """
        batch = Batch(self._words, self._limits)
        answers: dict[int, Decision | Raised] = {}
        for place, request in enumerate(requests):
            try:
                batch.add(request, place)
            except PDPError as error:
                answers[place] = Raised(error)
        replies = yield from self._side_by_side(batch.packs)
        for number, pack in enumerate(batch.packs):
            reply = replies[number]
            if isinstance(reply, Returned):
                answers |= dict(reply.value)
            elif isinstance(reply.error, PDPReplyError):
                raise reply.error
            else:
                answers |= dict.fromkeys(pack.places(), reply)
        return [answers[place] for place in range(len(requests))]

    def row_filter(
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
        Have Cerbos plan which resources of a type may be acted upon.

        A row whose attributes are missing or of another type than a condition expects is not let through. The
        planner assumes that every attribute is there, so that ``has(R.attr.x)`` is true to it; and it does not tell
        outputs, obligations among them. A plan that lets every row through is therefore checked against a resource
        without attributes, which must be permitted without obligations.

        Raises:
            PDPReplyError: On a plan that cannot be translated exactly, and one that does not hold.
        """
        from pep.pdp.cerbos_plan import AllowAll, rows_of  # noqa: PLC0415  only who filters rows pays for policies

        request = AccessRequest(subject, action, Resource.new(resource_type), context, actors, tenant)
        name = str(uuid.uuid4())
        where = self._words.where(request)
        principal, resource = self._words.principal(request, where), self._words.resource(request, where)
        del resource["id"]
        told = {"requestId": name, "action": request.action.name, "principal": principal, "resource": resource}
        reply = yield from self._remote.post(_PLAN, told)
        rows = rows_of(reply, name, request.action.name, resource)
        if self._check_plans and isinstance(rows, AllowAll):
            bare = yield from self.decide(request)
            if bare.effect is not Effect.PERMIT or bare.obligations:
                message = (
                    "the plan lets every row through, but not a resource without attributes; "
                    "drop `has` and outputs from the policy, or use `filter`"
                )
                raise PDPReplyError(message)
        return rows

    def probe(self) -> Plan[None]:
        """
        Ask whether the server is up.

        Raises:
            PDPError: When it is not, or cannot be reached.
        """
        yield from self._remote.reach("/_cerbos/health")

    def close(self) -> None:
        """Close its own transport."""
        self._remote.close()

    async def aclose(self) -> None:
        """Close its own transport."""
        await self._remote.aclose()

    def __repr__(self) -> str:
        return f"<CerbosPDP({self.name!r})>"

    def _side_by_side(self, packs: Sequence[Pack]) -> Plan[dict[int, Returned[Answered] | Raised]]:
        """Ask several at once: pack's number → what came of it."""
        numbered = list(enumerate(packs))
        lines = [self._in_line(numbered[start::ABREAST]) for start in range(min(ABREAST, len(packs)))]
        if len(lines) > 1:
            return dict([one for reply in (yield from gather(*lines)) for one in unwrap(reply)])
        return dict((yield from lines[0])) if lines else {}

    def _in_line(self, packs: Sequence[tuple[int, Pack]]) -> Plan[list[tuple[int, Returned[Answered] | Raised]]]:
        found = []
        for number, pack in packs:
            reply = yield from contain(self._checked(pack))
            found.append((number, reply))
        return found

    def _checked(self, pack: Pack) -> Plan[Answered]:
        name = str(uuid.uuid4())
        told = [{"resource": entry.resource, "actions": list(entry.actions)} for entry in pack.entries]
        body = {"requestId": name, "principal": pack.principal, "resources": told, "includeMeta": True}
        reply = yield from self._remote.post(_CHECK, body)
        found = decisions(reply, name, pack.entries)
        return [
            (place, decision)
            for entry, by_action in zip(pack.entries, found, strict=True)
            for action, decision in by_action.items()
            for place in entry.actions[action]
        ]


def _texts(**options: object) -> None:
    for name, value in options.items():
        if type(value) is not str or not value:
            message = f"`{name}` must be a non-empty `str`"
            raise ConfigurationError(message)


def _flags(**options: object) -> None:
    for name, value in options.items():
        if type(value) is not bool:
            message = f"`{name}` must be `True` or `False`"
            raise ConfigurationError(message)


def _numbers(**options: object) -> None:
    for name, value in options.items():
        if type(value) is not int or value < 1:
            message = f"`{name}` must be a whole number from 1 on, as the server is configured"
            raise ConfigurationError(message)


def _matching(pattern: re.Pattern[str], value: object, name: str) -> None:
    if type(value) is not str or pattern.fullmatch(value) is None:
        message = f"`{name}` is none that Cerbos takes; use ASCII letters, digits, `_`, `-` and, in a scope, dots"
        raise ConfigurationError(message)
