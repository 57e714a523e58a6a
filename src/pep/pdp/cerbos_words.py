"""
Requests in Cerbos's words: principals and resources.

Imports L0 only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import attrs

from pep.errors import PDPReplyError
from pep.frozen import fields_repr
from pep.model import AccessRequest

#: What is told of the subject's side, and of the resource's, beside their properties.
_OF_PRINCIPAL: Final = ("type", "context", "actors", "tenant")
_OF_RESOURCE: Final = ("action",)
#: Cerbos has no other numbers than 64-bit floats.
_WHOLE: Final = 2**53
#: As many digits as the least number beyond that has.
_LONG: Final = re.compile(rb"[0-9]{16}")
#: One part of a scope, as Cerbos takes it.
_SCOPE: Final = re.compile(r"[0-9a-zA-Z][\w\-]*", re.ASCII)


@attrs.frozen(repr=False)
class Wording:
    """
    How requests are put into Cerbos's words; see `CerbosPDP`.

    Attributes:
        roles: The subject's property that holds its roles.

        no_role: The role of a subject that has none.

        version: Which version of the policies is asked; empty is the server's own default.

        scope: Which scope is asked.

        tenant_as_scope: Whether the tenant is the scope.

        prefix: What the names begin with that are told beside properties.

        placeholder: The id of a resource that has none yet.
    """

    roles: str
    no_role: str
    version: str
    scope: str
    tenant_as_scope: bool
    prefix: str
    placeholder: str
    _of_principal: frozenset[str] = attrs.field(init=False, repr=False)
    _of_resource: frozenset[str] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        for name, beside in (("_of_principal", _OF_PRINCIPAL), ("_of_resource", _OF_RESOURCE)):
            object.__setattr__(self, name, frozenset(self.prefix + one for one in beside))

    __repr__ = fields_repr

    def where(self, request: AccessRequest) -> dict[str, str]:
        """
        Tell which version and scope is asked.

        Raises:
            PDPReplyError: When the tenant should be the scope and is none.
        """
        scope = self.scope
        if self.tenant_as_scope and request.tenant is not None:
            scope = request.tenant
            if _SCOPE.fullmatch(scope) is None:
                message = (
                    "the tenant is no scope of Cerbos: ASCII letters, digits, `_` and `-`; send it as an attribute"
                )
                raise PDPReplyError(message)
        told = {"policyVersion": self.version, "scope": scope}
        return {name: value for name, value in told.items() if value}

    def principal(self, request: AccessRequest, where: Mapping[str, str]) -> dict[str, Any]:
        """
        Tell who asks in which circumstances.

        Args:
            request: Any of those that are asked at once.

            where: Which version and scope is asked; see `where`.

        Raises:
            PDPReplyError: When Cerbos could not be told faithfully.
        """
        subject, tenant = request.subject, None if self.tenant_as_scope else request.tenant
        attr = {name: value for name, value in subject.properties.items() if name != self.roles}
        self._free(attr, self._of_principal)
        beside = {
            "type": subject.type,
            "context": request.context or None,
            "actors": [actor.to_dict() for actor in request.actors] or None,
            "tenant": tenant,
        }
        attr |= {self.prefix + name: value for name, value in beside.items() if value is not None}
        roles = _roles(subject.properties.get(self.roles)) or [self.no_role]
        return {"id": subject.id, "roles": roles, "attr": _exact(attr), **where}

    def resource(self, request: AccessRequest, where: Mapping[str, str]) -> dict[str, Any]:
        """
        Tell what is acted upon; see `principal`.

        Raises:
            PDPReplyError: When Cerbos could not be told faithfully.
        """
        resource = request.resource
        if resource.id == self.placeholder:
            message = "a resource has the id that stands for new ones; choose another `placeholder`"
            raise PDPReplyError(message)
        attr: dict[str, Any] = resource.properties
        self._free(attr, self._of_resource)
        if request.action.properties:
            attr = {**attr, self.prefix + "action": request.action.properties}
        name = self.placeholder if resource.id is None else resource.id
        # Whether a number may be too long is told faster of all that there is at once.
        if request.action.properties or _LONG.search(resource.key) is not None:
            _exact(attr)
        return {"kind": resource.type, "id": name, "attr": attr, **where}

    def _free(self, attr: Mapping[str, Any], names: frozenset[str]) -> None:
        # INVARIANT: nobody's property passes for what this enforcement point tells, such as the tenant.
        if not names.isdisjoint(attr):
            message = f"a property has one of the names that begin with `{self.prefix}`; choose another `prefix`"
            raise PDPReplyError(message)


def _roles(told: object) -> list[str]:
    if told is None:
        return []
    if type(told) is not tuple or not all(type(role) is str and role for role in told):
        message = "the property that holds a subject's roles must be a list of texts that are not empty"
        raise PDPReplyError(message)
    return list(dict.fromkeys(told))


def _exact(attr: Mapping[str, Any]) -> Mapping[str, Any]:
    """Refuse what Cerbos would round, since two ids that are rounded alike are one to its policies."""
    pending: list[Any] = list(attr.values())
    while pending:
        value = pending.pop()
        if type(value) is int:
            if abs(value) > _WHOLE:
                message = "an integer of an attribute is beyond 53 bits, which Cerbos rounds; send it as text"
                raise PDPReplyError(message)
        elif isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, (list, tuple)):
            pending.extend(value)
    return attr
