"""
AuthZEN search: pages of subjects, resources or actions, bounded and validated.

Imports plans, what a search found, the model and the error tree only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import attrs

from pep.errors import ConfigurationError, ExtractionError, PDPReplyError
from pep.found import Found
from pep.model import AccessRequest, Action, Resource, Subject
from pep.pdp.authzen.codec import Codec
from pep.pdp.remote import Remote
from pep.plan import Plan

#: What may be searched for.
WANTED: Final = ("subject", "resource", "action")

Hit: TypeAlias = "Subject | Resource | Action"


@attrs.frozen
class Bounds:
    """
    How far a search goes.

    Args:
        pages: How many pages are asked for at most.

        items: How many hits are kept at most.

        page_size: How many hits a page is asked to have at most; None leaves that to the server.

    Raises:
        ConfigurationError: On anything but whole numbers from one on.
    """

    pages: int = 100
    items: int = 10_000
    page_size: int | None = None

    def __attrs_post_init__(self) -> None:
        numbers = [self.pages, self.items, 1 if self.page_size is None else self.page_size]
        if not all(type(number) is int and number > 0 for number in numbers):
            message = "the bounds of a search are whole numbers, one or more"
            raise ConfigurationError(message)


def checked_wanted(wanted: object) -> str:
    """
    Take what is searched for.

    Raises:
        ConfigurationError: On anything but ``"subject"``, ``"resource"`` and ``"action"``.
    """
    if type(wanted) is str and wanted in WANTED:
        return wanted
    message = f"a search is for one of {', '.join(f'`{name}`' for name in WANTED)}"
    raise ConfigurationError(message)


@attrs.frozen(eq=False)
class Search:
    """
    Where and how a search is made.

    Args:
        remote: Who is asked.

        path: Where.

        codec: How requests are written.

        bounds: How far to go.
    """

    remote: Remote
    path: str
    codec: Codec
    bounds: Bounds

    def run(self, wanted: str, request: AccessRequest) -> Plan[Found]:
        """
        Ask for page after page.

        Args:
            wanted: What is searched for.

            request: The rest; of what is searched for only the type is sent.

        Returns:
            Every hit once; incomplete where a bound was met, the server said so, or a hit had obligations, which
            leaves it out.

        Raises:
            PDPReplyError: On a hit of another kind or type, a page that cannot be read, or a token that comes again.

            PDPError: When there was no reply; see `pep.pdp.remote.refused`.

        Source:
            AuthZEN Authorization API 1.0, Search APIs; AuthZEN obligations profile (draft 1), search requests.
        """
        body, most = self._body(wanted, request), self.bounds.items
        hits: dict[bytes, Hit] = {}
        complete, token, seen = True, "", set[str]()
        for _page in range(self.bounds.pages):
            told = yield from self.remote.post(self.path, {**body, **self._page(token)})
            complete &= self._gathered(told, wanted, request, hits)
            token = _token(told)
            if not token or len(hits) > most:
                break
            if token in seen:
                message = "a search's page token came a second time; its pages have no end"
                raise PDPReplyError(message)
            seen.add(token)
        found: Any = tuple(hits.values())[:most]
        return Found(found, complete and not token and len(hits) <= most)

    def _body(self, wanted: str, request: AccessRequest) -> dict[str, Any]:
        about = request.about(Resource.new(request.resource.type)) if wanted == "resource" else request
        body = self.codec.request(about)
        if wanted == "action":
            del body["action"]
        else:
            body[wanted] = {"type": body[wanted]["type"]}
        return body

    def _page(self, token: str) -> dict[str, Any]:
        page: dict[str, Any] = {} if self.bounds.page_size is None else {"limit": self.bounds.page_size}
        if token:
            page["token"] = token
        return {"page": page} if page else {}

    def _gathered(self, told: Mapping[str, Any], wanted: str, request: AccessRequest, hits: dict[bytes, Hit]) -> bool:
        """Add a page's hits; return whether that was all of them."""
        results, context = told.get("results"), told.get("context")
        if type(results) is not list:
            message = "the reply to a search must have a JSON array `results`"
            raise PDPReplyError(message)
        more = context.get(self.codec.member) if type(context) is dict else None
        complete = not (type(more) is dict and more.get("complete") is False)
        for result in results:
            if type(result) is dict and result.get("obligations"):
                complete = False
                continue
            hit = self._hit(result, wanted, request)
            hits.setdefault(hit.key, hit)
        return complete

    def _hit(self, result: Any, wanted: str, request: AccessRequest) -> Hit:  # noqa: ANN401  any JSON
        try:
            if wanted == "action":
                return Action.from_dict(result)
            found: Subject | Resource = (Subject if wanted == "subject" else Resource).from_dict(result)
        except ExtractionError as error:
            message = f"a search found what is no {wanted}: {error}"
            raise PDPReplyError(message) from None
        sought = request.subject if wanted == "subject" else request.resource
        if found.type != sought.type or found.id is None or (wanted == "resource" and found.id == self.codec.new_id):
            message = f"a search found a {wanted} of another type, or without an id of its own"
            raise PDPReplyError(message)
        return found


def _token(told: Mapping[str, Any]) -> str:
    page = told.get("page")
    if page is None:
        return ""
    token = page.get("next_token") if type(page) is dict else page
    if token is None:
        return ""
    if type(token) is not str:
        message = "a search's `page` must be a JSON object whose `next_token` is a text"
        raise PDPReplyError(message)
    return token
