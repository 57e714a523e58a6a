"""
The handler of ``require-confirmation``: somebody else has to approve a call before it runs.

Imports approvals, the properties of obligations, the model and plans only; a store is imported when it is made.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final

import attrs

from pep.approvals.answering import Answering, Authenticate
from pep.approvals.approvers import MayApprove, named
from pep.approvals.binding import LONGEST, Due, Over, arguments_digest, drafted, terms_of
from pep.approvals.refused import ApprovalRefused, Reason
from pep.approvals.sealing import Row
from pep.approvals.store import MOST, Full, Store, asked, found, on_thread, replaced
from pep.approvals.telling import journal_of, told
from pep.approvals.values import Approval, Approve, Reject, Status
from pep.asynchronous import is_asynchronous
from pep.audit.journal import Journal
from pep.errors import ConfigurationError, ObligationError
from pep.frozen import EMPTY
from pep.model import AccessRequest, Obligation
from pep.obligations.properties import Reading
from pep.plan import Plan, Raised, attempt, call, contain
from pep.protocols import Call, Phase, Rank, Refusal, Sink
from pep.verdict import Outcome

#: Asks somebody about an approval, and returns what they said: `Approve`, `Reject`, or None where nobody answered.
Ask = Callable[[Approval], Any]

#: For how long an approval may be given and used, unless the obligation says otherwise, in seconds.
EXPIRES_IN: Final = 900.0

_Held = tuple[Row, Approval]


class RequireConfirmation:
    """
    Has somebody else approve a call: the very one, once, in time.

    An obligation ``require-confirmation`` may have these properties: ``who``, a condition on the approver as text,
    with the approver as its ``subject``; ``approvers``, how many; ``four_eyes``, whether the requester and their
    actors are none, which is so unless it is ``false``; ``expires_in``, in seconds; ``show``, the parameters whose
    values approvers see; ``message``, what they are told.

    Args:
        store: Where approvals are kept: a store, or the path of an SQLite database.

        secret: What is stored in a database given by its path is sealed with; at least 16 bytes.

        ask: Asks somebody while the call waits, bounded by its deadline; without it, and where nobody answers, the
            caller is told the approval's id, to come back with.

        authenticate: Tells who is behind the credentials that an answer to *ask* came with; required with it.

        may_approve: A Python predicate that every approver must satisfy too; the desk needs the same one.

        confirm_over: Qualified action → the parameters that are confirmed, where not all of them can be.

        confirm_context: The circumstances that must be the same when the approval is used.

        expires_in: For how long an approval may be given and used, in seconds.

        most: How many unused approvals one subject may have.

        threaded: Whether *ask* is called on a thread of its own, so that it holds up no event loop.

        audit: Where approvals that are asked for, used and refused are recorded; decisions are recorded anyway.

    Raises:
        ConfigurationError: When an argument is of the wrong type, or one that another needs is missing.
    """

    types = frozenset({"require-confirmation"})
    phase = Phase.BEFORE
    rank = Rank.CONFIRM

    def __init__(
        self,
        store: Store | str | os.PathLike[str],
        *,
        secret: bytes | None = None,
        ask: Ask | None = None,
        authenticate: Authenticate | None = None,
        may_approve: MayApprove | None = None,
        confirm_over: Mapping[str, Collection[str]] = EMPTY,
        confirm_context: Collection[str] = (),
        expires_in: float = EXPIRES_IN,
        most: int = MOST,
        threaded: bool = False,
        audit: Sink | Journal | None = None,
    ) -> None:
        self.store = as_store(store, secret)
        self._over = Over.of(confirm_over, confirm_context)
        _check(ask, authenticate, expires_in, most)
        self._ask, self._may_approve, self._most = ask, may_approve, most
        self._threaded = threaded
        self._read = Reading(lambda properties: terms_of(properties, float(expires_in)))
        #: Whether it can only be awaited.
        self.asynchronous = any(is_asynchronous(part) for part in (ask, authenticate, may_approve))
        self._journal = None if audit is None else journal_of(audit, "approvals", None)
        self._answering = Answering(self.store, authenticate or _nobody, may_approve, self._journal)

    def discharge(self, obligation: Obligation, asking: Call, /) -> Plan[Call | Refusal]:
        """
        Use an approval of this very call; ask for one where it brought none.

        Returns:
            The call; or a refusal that names the pending approval, or tells when there is room for another.

        Raises:
            ObligationError: When the obligation is malformed, the arguments cannot be digested, or the approval is
                rejected, or worth nothing for this call.
        """
        due = _due(obligation, asking)
        terms = [self._read(one) for one, _ in due]
        now: float = yield from self._stored(self.store.now)
        draft = drafted(due, terms, asking.arguments, self._over, named(self._may_approve), now)
        need = _Need(asking, due, draft, _decision(asking))
        try:
            held = yield from self._held(need)
            if self._ask is not None and held[1].status is Status.PENDING:
                held = yield from self._answered(held, need, self._ask)
            return (yield from self._concluded(held, need))
        except Full as full:
            return Refusal(Outcome.RATE_LIMITED, {"retry_after": max(1.0, full.until - now)})
        except ApprovalRefused as refused:
            yield from self._told("refused", asking.approval or draft, refused.reason)
            raise

    def _held(self, need: _Need) -> Plan[_Held]:
        """Return the approval that came with the call, or the one that identical requests share."""
        if need.call.approval is not None:
            return (yield from self._found(need.call.approval, need))
        held: _Held = yield from self._stored(asked, self.store, need.draft, need.draft.created, self._most)
        if held[1].id == need.draft.id:
            yield from self._told("requested", held[1])
        need.check(held[1], need.draft.created)
        return held

    def _found(self, name: str, need: _Need) -> Plan[_Held]:
        """Look up an approval that is worth something for this call."""
        held: _Held | None = yield from self._stored(found, self.store, name)
        if held is None:
            raise ApprovalRefused(Reason.UNKNOWN)
        need.check(held[1], (yield from self._stored(self.store.now)))
        return held

    def _answered(self, held: _Held, need: _Need, ask: Ask) -> Plan[_Held]:
        """Ask somebody; whatever does not count leaves the approval pending."""
        reply = yield from attempt(ask, held[1], threaded=self._threaded)
        if type(reply) is Raised or reply.value is None:
            return held
        said = reply.value
        if type(said) is not Approve and type(said) is not Reject:
            message = f"`ask` must return `Approve`, `Reject` or None, not `{type(said).__name__}`"
            raise ObligationError(message)
        # A refused answer is recorded, and says nothing about the next one who is asked.
        answer = self._answering.answer(held[1].id, said.by, approves=type(said) is Approve, comment=said.comment)
        answered = yield from contain(answer)
        if type(answered) is Raised and not isinstance(answered.error, ApprovalRefused):
            raise answered.error
        return (yield from self._found(held[1].id, need))

    def _concluded(self, held: _Held, need: _Need) -> Plan[Call | Refusal]:
        """Use what was approved, where the call brought it or somebody was asked; refuse what was not."""
        approval = held[1]
        if approval.status is Status.USED:
            return need.call
        if approval.status is Status.PENDING or (need.call.approval is None and self._ask is None):
            return Refusal(Outcome.CONFIRMATION_REQUIRED, {"approval": approval.id})
        return (yield from self._used(held, need))

    def _used(self, held: _Held, need: _Need) -> Plan[Call]:
        """Use an approval: for one call, and for good."""
        row, approval = held
        # INVARIANT: what runs is what was approved: arguments may have changed while somebody was asked.
        if arguments_digest(need.due, need.call.arguments, self._over) != approval.digest:
            raise ApprovalRefused(Reason.CHANGED)
        now: float = yield from self._stored(self.store.now)
        need.check(approval, now)
        after = approval.used_for(need.decision, now)
        if (yield from self._stored(replaced, self.store, row, after)) is not True:
            yield from self._found(approval.id, need)
            raise ApprovalRefused(Reason.USED)
        yield from self._told("used", after)
        seal = partial(_unchanged, need.due, self._over, after.digest)
        return attrs.evolve(need.call, approval=after.id, seals=(*need.call.seals, seal))

    def _stored(self, fn: Callable[..., Any], *args: Any) -> Plan[Any]:  # noqa: ANN401  whatever a store takes
        return (yield from call(fn, *args, threaded=on_thread(self.store)))

    def _told(self, event: str, approval: Approval | str, reason: Reason | None = None) -> Plan[None]:
        if self._journal is not None:
            yield from told(self._journal, event, approval, reason=reason)

    def __repr__(self) -> str:
        return f"RequireConfirmation({self.store!r})"


@attrs.frozen(eq=False)
class _Need:
    """
    What one call needs.

    Args:
        call: The call.

        due: Every obligation that demands a confirmation of it, with its request.

        draft: The approval that would do, were it approved.

        decision: The id of the decision it is to be used for.
    """

    call: Call
    due: Due
    draft: Approval
    decision: str

    def check(self, approval: Approval, now: float) -> None:
        """
        Check that an approval is worth something for the call.

        Raises:
            ApprovalRefused: When it is for another, expired, rejected or used.
        """
        if approval.key != self.draft.key:
            raise ApprovalRefused(Reason.OTHER)
        if not approval.lives(now):
            raise ApprovalRefused(Reason.EXPIRED)
        if approval.status is Status.REJECTED:
            raise ApprovalRefused(Reason.REJECTED)
        if approval.status is Status.USED and approval.used != self.decision:
            raise ApprovalRefused(Reason.USED)


def as_store(value: Any, secret: bytes | None) -> Store:  # noqa: ANN401  whatever a user hands over
    """
    Take a store of approvals, or the path of an SQLite database as one.

    Raises:
        ConfigurationError: When it is neither; when a path comes without a secret, or a store with one.
    """
    if isinstance(value, (str, os.PathLike)):
        if secret is None:
            message = "a database of approvals needs `secret=`, at least 16 bytes that nobody else knows"
            raise ConfigurationError(message)
        from pep.approvals.sqlite import SQLiteStore  # noqa: PLC0415  loaded only where it is used

        return SQLiteStore(value, secret=secret)
    if isinstance(value, type) or not isinstance(value, Store):
        shown = value.__name__ if isinstance(value, type) else type(value).__name__
        message = f"`{shown}` is no store of approvals; pass one, or the path of a database"
        raise ConfigurationError(message)
    if secret is not None:
        message = "a store of approvals has a secret of its own; pass `secret=` with a path only"
        raise ConfigurationError(message)
    return value


def _check(ask: object, authenticate: object, expires_in: object, most: object) -> None:
    if ask is not None and authenticate is None:
        message = "`ask` needs `authenticate`: whoever answers has to be somebody"
        raise ConfigurationError(message)
    if any(part is not None and not callable(part) for part in (ask, authenticate)):
        message = "`ask` and `authenticate` are callables"
        raise ConfigurationError(message)
    if (type(expires_in) is not int and type(expires_in) is not float) or not 1 <= expires_in <= LONGEST:
        message = f"`expires_in` must be a number of seconds from 1 to {LONGEST:g}"
        raise ConfigurationError(message)
    if type(most) is not int or most < 1:
        message = "`most` must be a whole number of approvals, at least 1"
        raise ConfigurationError(message)


def _unchanged(due: Due, over: Over, digest: str, arguments: Mapping[str, Any]) -> bool:
    """Tell whether arguments still are those that were approved."""
    try:
        return arguments_digest(due, arguments, over) == digest
    except ObligationError:
        return False


def _nobody(_credentials: object) -> None:
    """Authenticate nobody: there is no inline answer."""


def _due(obligation: Obligation, asking: Call) -> Due:
    due = asking.due or ((obligation, asking.request),)
    return tuple((duty, _on_behalf(request, asking.requests)) for duty, request in due)


def _on_behalf(request: AccessRequest, requests: Sequence[AccessRequest]) -> AccessRequest:
    """Add whom an actor acts for: what one person's agent may do is not approved by her, nor for anybody else."""
    known = {(who.type, who.id) for who in (request.subject, *request.actors)}
    others = {(one.type, one.id): one for asked in requests for one in (asked.subject, *asked.actors)}
    more = [who.reference() for key, who in sorted(others.items()) if key not in known]
    return request.evolve(actors=(*request.actors, *more)) if more else request


def _decision(asking: Call) -> str:
    return asking.decision or secrets.token_hex(16)
