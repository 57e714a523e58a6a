"""What SpiceDB replies, read: checks, bulk checks and found objects. Imports decisions, replies and the errors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Final

from pep.decision import Decision, Effect
from pep.errors import PDPMismatched, PDPReplyError
from pep.plan import Raised

#: The subject that stands for every subject of a type.
EVERYBODY: Final = "*"

#: How long a ZedToken may be: many of them are remembered.
LONGEST_TOKEN: Final = 1024

#: What an id may be.
ID: Final = re.compile(r"[a-zA-Z0-9/_|\-=+]+", re.ASCII)

#: One check, as it is sent.
Item = dict[str, Any]

_EFFECTS: Final = {
    "PERMISSIONSHIP_HAS_PERMISSION": Effect.PERMIT,
    "PERMISSIONSHIP_NO_PERMISSION": Effect.DENY,
    "PERMISSIONSHIP_CONDITIONAL_PERMISSION": Effect.INDETERMINATE,
}
_FOUND: Final = {
    "LOOKUP_PERMISSIONSHIP_HAS_PERMISSION": True,
    "LOOKUP_PERMISSIONSHIP_CONDITIONAL_PERMISSION": False,
}
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?Z", re.ASCII)


def check_of(reply: Mapping[str, Any], asked: float, *, reusable: bool) -> Decision:
    """
    Read the reply to a check.

    Args:
        reply: The reply.

        asked: When it was asked, in seconds since 1970; it holds from then until its earliest relationship expires.

        reusable: Whether it may be reused where it tells no such time.

    Raises:
        PDPReplyError: When it is no decision.
    """
    revision = _token(reply)
    ends = reply.get("optionalExpiresAt")
    held = _held(reusable) if ends is None else max(0.0, _seconds(ends) - asked)
    return _decision(reply, revision, held)


def pairs_of(
    reply: Mapping[str, Any], items: Sequence[Item], *, reusable: bool
) -> tuple[list[Decision | Raised], str | None]:
    """
    Read the reply to a bulk check.

    Args:
        reply: The reply.

        items: What was asked, in order.

        reusable: Whether its decisions may be reused; they tell no time at which they end.

    Returns:
        An answer to each item, and the revision of all.

    Raises:
        PDPMismatched: When it answers other items, or in another order.

        PDPReplyError: When it is no reply to a bulk check.
    """
    pairs = reply.get("pairs", [])
    if type(pairs) is not list:
        message = "`pairs` must be a list"
        raise PDPReplyError(message)
    if len(pairs) != len(items) or not all(map(_echoes, pairs, items)):
        message = "the bulk check was answered for other items than were asked for"
        raise PDPMismatched(message)
    revision = _token(reply)
    return [_answer(pair, revision, _held(reusable)) for pair in pairs], revision


def found_of(lines: Sequence[Mapping[str, Any]], what: str) -> list[tuple[str, bool]]:
    """
    Read the lines of a search.

    Args:
        lines: Each a ``result``, or the ``error`` that ended the search.

        what: ``"resource"`` or ``"subject"``.

    Returns:
        Pairs of an id and whether it is permitted without further context.

    Raises:
        PDPReplyError: When a line is no finding.
    """
    return [_finding(line, what) for line in lines]


def _held(reusable: bool) -> float | None:
    return None if reusable else 0.0


def _finding(line: Mapping[str, Any], what: str) -> tuple[str, bool]:
    result = line.get("result")
    if line.get("error") is not None or type(result) is not dict:
        message = "the search ended with an error, or with what is no result"
        raise PDPReplyError(message)
    found = result.get("subject") if what == "subject" else result
    found = found if type(found) is dict else {}
    name, permitted = found.get(f"{what}ObjectId"), found.get("permissionship")
    known = type(name) is str and (ID.fullmatch(name) is not None or (what == "subject" and name == EVERYBODY))
    if not known or type(permitted) is not str or permitted not in _FOUND:
        message = f"a {what} that was found has no id, or no permissionship"
        raise PDPReplyError(message)
    return str(name), _FOUND[permitted]


def _echoes(pair: object, item: Item) -> bool:
    request = pair.get("request") if type(pair) is dict else None
    if type(request) is not dict:
        return False
    subject = request.get("subject")
    plain = (
        {"object": subject.get("object")}
        if type(subject) is dict and subject.get("optionalRelation", "") == ""
        else None
    )
    return bool(
        request.get("resource") == item["resource"]
        and request.get("permission") == item["permission"]
        and plain == item["subject"]
        and _alike(request.get("context") or {}, item.get("context", {}))
    )


def _alike(one: object, other: object) -> bool:
    """Compare JSON: to Python, true is 1; to the gateway, 1 is 1.0."""
    if type(one) is dict and type(other) is dict:
        return one.keys() == other.keys() and all(_alike(value, other[name]) for name, value in one.items())
    if type(one) is list and type(other) is list:
        return len(one) == len(other) and all(map(_alike, one, other))
    return (type(one) is bool) is (type(other) is bool) and one == other


def _answer(pair: Mapping[str, Any], revision: str | None, held: float | None) -> Decision | Raised:
    item, error = pair.get("item"), pair.get("error")
    if error is not None or type(item) is not dict:
        message = "SpiceDB could not answer one check of the batch"
        return Raised(PDPReplyError(message))
    try:
        return _decision(item, revision, held)
    except PDPReplyError as wrong:
        return Raised(wrong)


def _decision(reply: Mapping[str, Any], revision: str | None, held: float | None) -> Decision:
    told = reply.get("permissionship")
    effect = _EFFECTS.get(told) if type(told) is str else None
    partial = reply.get("partialCaveatInfo")
    if effect is None or (partial is not None and effect is not Effect.INDETERMINATE):
        message = "`permissionship` says neither that there is permission nor that there is none"
        raise PDPReplyError(message)
    missing = _missing(partial)
    reasons = [f"missing context: {', '.join(missing)}"] if missing else []
    # What has no revision cannot be told from what was decided earlier.
    return Decision(effect, reasons=reasons, revision=revision, ttl=0.0 if revision is None else held)


def _missing(partial: object) -> list[str]:
    if partial is None:
        return []
    names = partial.get("missingRequiredContext") if type(partial) is dict else None
    if type(names) is not list or not all(type(name) is str for name in names):
        message = "`partialCaveatInfo` must list the context that is missing"
        raise PDPReplyError(message)
    return names


def _token(reply: Mapping[str, Any]) -> str | None:
    told = reply.get("checkedAt")
    if told is None:
        return None
    token = told.get("token") if type(told) is dict else None
    if type(token) is not str or not 0 < len(token) <= LONGEST_TOKEN:
        message = "`checkedAt` must hold a ZedToken"
        raise PDPReplyError(message)
    return token


def _seconds(told: object) -> float:
    match = _TIME.fullmatch(told) if type(told) is str else None
    try:
        whole, part = match.groups() if match else ("", None)
        moment = datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    except ValueError:
        message = "`optionalExpiresAt` must be a time in UTC, as RFC 3339 writes it"
        raise PDPReplyError(message) from None
    return moment.timestamp() + float(part or 0)
