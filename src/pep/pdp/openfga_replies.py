"""
What OpenFGA replies, read: checks, batches of them, and found objects and users.

Imports decisions, replies and the error tree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pep.decision import Decision, Effect
from pep.errors import PDPMismatched, PDPReplyError
from pep.plan import Raised

#: What an id may be: a colon or a hash would end it, an asterisk stands for everybody.
ID: Final = re.compile(r"[^:#*\s]+")

_NO_ERROR: Final = frozenset({"", "no_error", "no_internal_error"})


def decision_of(reply: Mapping[str, Any], model: str | None) -> Decision:
    """
    Read the reply to a check.

    Args:
        reply: The reply.

        model: The authorization model that was asked for, if one was.

    Raises:
        PDPReplyError: When ``allowed`` is there, and neither true nor false.
    """
    # Protobuf leaves out what is false.
    allowed = reply.get("allowed", False)
    if allowed is not True and allowed is not False:
        message = "`allowed` must be exactly true or false"
        raise PDPReplyError(message)
    return Decision(Effect.PERMIT if allowed else Effect.DENY, revision=model)


def results_of(reply: Mapping[str, Any], ids: Sequence[str], model: str | None) -> list[Decision | Raised]:
    """
    Read the reply to a batch.

    Args:
        reply: The reply.

        ids: The correlation ids that were sent.

        model: The authorization model that was asked for, if one was.

    Returns:
        An answer to each id, in order.

    Raises:
        PDPMismatched: When it answers fewer, more or other ids.

        PDPReplyError: When it is no reply to a batch.
    """
    result = reply.get("result")
    if type(result) is not dict:
        message = "the reply to a batch must have an object `result`"
        raise PDPReplyError(message)
    if result.keys() != set(ids):
        message = "the batch was answered with other correlation ids than were asked for"
        raise PDPMismatched(message)
    return [_answer(result[one], model) for one in ids]


def objects_of(reply: Mapping[str, Any], kind: str) -> list[str]:
    """
    Read the ids of the objects that were found.

    Raises:
        PDPReplyError: When one is of another type, or none.
    """
    return [_id(item, kind) for item in _list(reply, "objects")]


def users_of(reply: Mapping[str, Any], kind: str) -> list[str]:
    """
    Read the ids of the users that were found, without the wildcard: it is everybody, and nobody with a name.

    Raises:
        PDPReplyError: When one is of another type, a userset, or none.
    """
    found = [_user(item, kind) for item in _list(reply, "users")]
    return [name for name in found if name is not None]


def _answer(item: object, model: str | None) -> Decision | Raised:
    if type(item) is not dict or not _is_no_error(item.get("error")):
        message = "OpenFGA could not answer one check of the batch"
        return Raised(PDPReplyError(message))
    try:
        return decision_of(item, model)
    except PDPReplyError as error:
        return Raised(error)


def _is_no_error(error: object) -> bool:
    if type(error) is dict:
        return all(type(value) is str and value in _NO_ERROR for value in error.values())
    return error is None


def _list(reply: Mapping[str, Any], member: str) -> list[Any]:
    found = reply.get(member, [])
    if type(found) is not list:
        message = f"`{member}` must be a list"
        raise PDPReplyError(message)
    return found


def _id(item: object, kind: str) -> str:
    if type(item) is str and item.startswith(kind + ":"):
        name = item[len(kind) + 1 :]
        if ID.fullmatch(name):
            return name
    message = "what was found is none of the type that was asked for"
    raise PDPReplyError(message)


def _user(item: object, kind: str) -> str | None:
    told = {name: value for name, value in item.items() if value is not None} if type(item) is dict else {}
    match told:
        case {"wildcard": {"type": found}} if len(told) == 1 and found == kind:
            return None
        case {"object": {"type": found, "id": str(name)}} if len(told) == 1 and found == kind:
            return _id(f"{kind}:{name}", kind)
        case _:
            return _id(None, kind)
