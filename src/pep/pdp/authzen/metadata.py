"""
What an AuthZEN decision point tells of itself: which endpoints it has, and where.

Imports plans, asking over HTTP and the error tree only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from pep.errors import ConfigurationError, PDPReplyError
from pep.frozen import EMPTY
from pep.pdp.remote import Remote, checked_url
from pep.plan import Plan
from pep.protocols import Transport

#: Where the metadata lies, between host and path of the identifier.
WELL_KNOWN: Final = "/.well-known/authzen-configuration"

#: Endpoint → its member of the metadata, and its default path.
ENDPOINTS: Final[Mapping[str, tuple[str, str]]] = {
    "evaluation": ("access_evaluation_endpoint", "/access/v1/evaluation"),
    "evaluations": ("access_evaluations_endpoint", "/access/v1/evaluations"),
    "subject": ("search_subject_endpoint", "/access/v1/search/subject"),
    "resource": ("search_resource_endpoint", "/access/v1/search/resource"),
    "action": ("search_action_endpoint", "/access/v1/search/action"),
}


@attrs.frozen
class Metadata:
    """
    What a decision point tells of itself.

    Args:
        identifier: Which one it is: the URL its metadata was looked up by.

        endpoints: ``evaluation``, ``evaluations``, ``subject``, ``resource``, ``action`` → an absolute URL; one that
            is not there is not supported.

        capabilities: URNs of what else it can do.

        obligations: The obligation types it may issue; None where it does not say.
    """

    identifier: str
    endpoints: Mapping[str, str]
    capabilities: tuple[str, ...] = ()
    obligations: tuple[str, ...] | None = None

    @classmethod
    def assumed(cls, url: str) -> Metadata:
        """Assume every endpoint at its default path below a URL."""
        return cls(url, {name: url + path for name, (_, path) in ENDPOINTS.items()})


def discovery(
    url: str,
    *,
    transport: Transport,
    headers: Mapping[str, str] = EMPTY,
    admit: Iterable[str] = (),
) -> Plan[Metadata]:
    """
    Ask a decision point for its metadata, and validate it; a plan, for `pep.drive.run` or `arun`, or another plan.

    A ``signed_metadata`` in it is ignored: what holds is told over a connection that proves who answers.

    Args:
        url: The decision point's identifier, exactly as it states it.

        transport: What sends requests.

        headers: Header's name → value, sent along.

        admit: Other origins, such as ``https://eu.pdp.example.com``, that endpoints may be at.

    Raises:
        ConfigurationError: When the URL or an origin will not do.

        PDPReplyError: When it names another decision point, or an endpoint that will not do.

        PDPError: When there was no reply; see `pep.pdp.remote.refused`.

    Source:
        AuthZEN Authorization API 1.0, Policy Decision Point Metadata.
    """
    admitted = checked_origins(admit)
    path = urlsplit(checked_url(url)).path
    remote = Remote(origin_of(url), transport=transport, headers=headers)
    told = yield from remote.get(WELL_KNOWN + path)
    return metadata_of(told, url, admitted)


def metadata_of(told: Mapping[str, Any], identifier: str, admitted: Iterable[str] = ()) -> Metadata:
    """
    Validate metadata; members that are not known are ignored.

    Args:
        told: A JSON object.

        identifier: What it was looked up by.

        admitted: Other origins that endpoints may be at.

    Raises:
        PDPReplyError: When it names another decision point, lacks what is required, or an endpoint will not do.
    """
    if told.get("policy_decision_point") != identifier:
        message = f"the metadata is that of another decision point than `{identifier}`; use the identifier it states"
        raise PDPReplyError(message)
    origins = {origin_of(identifier), *admitted}
    found = {name: _endpoint(told[member], origins) for name, (member, _) in ENDPOINTS.items() if member in told}
    if "evaluation" not in found:
        message = "the metadata has no `access_evaluation_endpoint`"
        raise PDPReplyError(message)
    types = None if "supported_obligations" not in told else _texts(told["supported_obligations"])
    return Metadata(identifier, found, _texts(told.get("capabilities", [])), types)


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL that was checked."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    port = "" if parts.port in {None, usual} else f":{parts.port}"
    return f"{parts.scheme}://{shown}{port}"


def checked_origins(admit: Iterable[str]) -> tuple[str, ...]:
    """
    Take origins that endpoints may be at.

    Raises:
        ConfigurationError: Unless each is ``https://host[:port]``.
    """
    given: object = admit
    found = [] if isinstance(given, str) else [checked_url(one) for one in admit]
    if isinstance(given, str) or any(urlsplit(one).path or not one.startswith("https:") for one in found):
        message = "`admit` must be a list of origins like `https://host:port`"
        raise ConfigurationError(message)
    return tuple(origin_of(one) for one in found)


def _endpoint(told: object, origins: set[str]) -> str:
    try:
        url = checked_url(told)
    except ConfigurationError:
        url = ""
    if not url or origin_of(url) not in origins:
        message = "an endpoint of the metadata is no URL at the decision point's own origin; see `admit`"
        raise PDPReplyError(message)
    return url


def _texts(told: object) -> tuple[str, ...]:
    if type(told) is not list or not all(type(one) is str for one in told):
        message = "a list of the metadata must be a JSON array of texts"
        raise PDPReplyError(message)
    return tuple(told)
