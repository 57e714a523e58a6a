"""
Answering: from somebody's credentials to an approval that they gave, or a rejection, recorded either way.

One plan for the desk and for whoever is asked inline. Imports the approvals' own files and plans only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from pep.approvals.approvers import MayApprove, allowed_points
from pep.approvals.refused import ApprovalRefused, Reason
from pep.approvals.sealing import Row
from pep.approvals.store import Store, found, on_thread, replaced
from pep.approvals.telling import told
from pep.approvals.values import Answer, Approval, Status
from pep.audit.journal import Journal
from pep.errors import ObligationError
from pep.model import ANONYMOUS, Subject
from pep.plan import Plan, Returned, attempt, call

#: Tells who is behind some credentials: a `Subject` that was authenticated just now, or several names of one
#: person, the one to record first; None where nobody was.
Authenticate = Callable[[Any], "Subject | Iterable[Subject] | None"]

#: The longest comment, in bytes of UTF-8.
LONGEST_COMMENT: Final = 4096

# How many other answers may come between before one gives up.
_TRIES: Final = 16


@attrs.frozen(eq=False, repr=False)
class Answering:
    """
    How approvals are answered.

    Args:
        store: Where they are.

        authenticate: Tells who is behind some credentials.

        may_approve: The Python predicate that approvals may ask for.

        journal: How it is recorded; None leaves that to whoever asked.
    """

    store: Store
    authenticate: Authenticate
    may_approve: MayApprove | None = None
    journal: Journal | None = None

    def answer(
        self,
        name: str,
        credentials: object,
        *,
        approves: bool,
        comment: str | None = None,
        deadline: float | None = None,
    ) -> Plan[Approval]:
        """
        Answer for whoever is behind some credentials.

        Args:
            name: The approval's id.

            credentials: What `authenticate` takes.

            approves: Whether they approve; otherwise they reject.

            comment: What they say to it.

            deadline: When that takes too long, on the monotonic clock, in seconds.

        Returns:
            What became of the approval.

        Raises:
            ApprovalRefused: When the answer does not count; that is recorded.

            AuditError: When it could not be recorded: nothing was approved then; a rejection stands.

            ObligationError: When the comment is no text, or too long.
        """
        _check_comment(comment)
        names = yield from self._authenticated(credentials, deadline)
        known: Approval | str = name
        try:
            if not names:
                raise ApprovalRefused(Reason.UNAUTHENTICATED)  # noqa: TRY301  recorded below
            for _again in range(_TRIES):
                row, known = yield from self._open(name, approves=approves, deadline=deadline)
                answer = yield from self._checked(known, names, comment, approves=approves, deadline=deadline)
                after = known.approved_by(answer) if approves else known.rejected_by(answer)
                if (yield from self._settled(row, after, names, approves=approves, deadline=deadline)):
                    return after
            raise ApprovalRefused(Reason.CLOSED)  # noqa: TRY301  recorded below
        except ApprovalRefused as refused:
            yield from self._told("refused", known, names, deadline, refused.reason)
            raise

    def _authenticated(self, credentials: object, deadline: float | None) -> Plan[tuple[Subject, ...]]:
        """Ask who it is; nobody, unless that is answered by exact subjects who are somebody."""
        reply = yield from attempt(self.authenticate, credentials, deadline=deadline)
        said = reply.value if type(reply) is Returned else None
        names = (said,) if type(said) is Subject else tuple(said) if isinstance(said, (tuple, list)) else ()
        if all(type(one) is Subject and one.type != ANONYMOUS.type for one in names):
            return names
        return ()

    def _open(self, name: str, *, approves: bool, deadline: float | None) -> Plan[tuple[Row, Approval]]:
        """Look up an approval that can still be answered; what was approved can still be rejected."""
        held = yield from call(found, self.store, name, deadline=deadline, threaded=on_thread(self.store))
        if held is None:
            raise ApprovalRefused(Reason.UNKNOWN)
        row, approval = held
        now = yield from self._now(deadline)
        if not approval.lives(now):
            raise ApprovalRefused(Reason.EXPIRED)
        if approval.status is not Status.PENDING and (approves or approval.status is not Status.APPROVED):
            raise ApprovalRefused(Reason.CLOSED)
        return row, approval

    def _checked(
        self,
        approval: Approval,
        names: tuple[Subject, ...],
        comment: str | None,
        *,
        approves: bool,
        deadline: float | None,
    ) -> Plan[Answer]:
        """Check that somebody may answer, and has not."""
        now = yield from self._now(deadline)
        points = yield from allowed_points(approval, names, self.may_approve, now)
        own = tuple([name.reference() for name in names])
        if approves and any(name in answer.names for answer in approval.answers for name in own):
            raise ApprovalRefused(Reason.REPEATED)
        return Answer(own, now, points, comment)

    def _settled(
        self, row: Row, after: Approval, names: tuple[Subject, ...], *, approves: bool, deadline: float | None
    ) -> Plan[bool]:
        # INVARIANT: nothing is approved that is not recorded before; a rejection needs no record to stand.
        if approves:
            yield from self._told("approved", after, names, deadline)
        done = yield from call(replaced, self.store, row, after, deadline=deadline, threaded=on_thread(self.store))
        if done and not approves:
            yield from self._told("rejected", after, names, deadline)
        return done is True

    def _now(self, deadline: float | None) -> Plan[float]:
        now = yield from call(self.store.now, deadline=deadline, threaded=on_thread(self.store))
        if type(now) is not float:
            message = "a store of approvals tells its time as a `float`"
            raise ObligationError(message)
        return now

    def _told(
        self,
        event: str,
        approval: Approval | str,
        names: tuple[Subject, ...],
        deadline: float | None,
        reason: Reason | None = None,
    ) -> Plan[None]:
        if self.journal is not None:
            yield from told(self.journal, event, approval, names=names, reason=reason, deadline=deadline)


def _check_comment(comment: object) -> None:
    try:
        if comment is None or (type(comment) is str and len(comment.encode()) <= LONGEST_COMMENT):
            return
    except UnicodeEncodeError:
        pass
    message = f"a comment on an approval is text of at most {LONGEST_COMMENT} bytes"
    raise ObligationError(message)
