"""
The desk: where approvals are looked at, given and refused, outside of the calls that wait for them.

Imports answering, the drivers and what is below them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pep.approvals.answering import Answering, Authenticate
from pep.approvals.approvers import MayApprove
from pep.approvals.store import Store, found, listed, on_thread
from pep.approvals.telling import journal_of
from pep.approvals.values import Approval, Status
from pep.audit.journal import Journal
from pep.clock import SystemClock
from pep.drive import APerformer, Performer, arun, run
from pep.errors import ConfigurationError
from pep.plan import Plan, call
from pep.protocols import Clock, Sink

#: How long an answer may take, unless it is told otherwise, in seconds.
TIMEOUT: Final = 10.0


class Desk:
    """
    Where approvals are given.

    An approver is *authenticated* when `authenticate` says so, now, about the credentials that came with this very
    answer: it returns an exact `Subject` that is not anonymous. There is no default; a subject that was put together
    from what a client sent is a claim, and none.

    Args:
        store: Where approvals are kept.

        authenticate: Takes the credentials given to `approve` and `reject`, such as a session or a token, and tells
            who is behind them: a `Subject`, or several names of the same person, of which the first is recorded and
            every one counts as theirs; None, or an exception, is nobody.

        audit: Where answers are recorded, and those that do not count.

        may_approve: The Python predicate that approvals may ask for; the handler's own.

        name: What it is called in records.

        clock: What time it is, for records and deadlines; the machine's, unless it is given.

        timeout: How long an answer may take, in seconds.
    """

    def __init__(
        self,
        store: Store,
        *,
        authenticate: Authenticate,
        audit: Sink | Journal,
        may_approve: MayApprove | None = None,
        name: str = "approvals",
        clock: Clock | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        given: object = store
        if isinstance(given, type) or not isinstance(given, Store) or not callable(authenticate):
            message = "a desk needs a store of approvals, and a callable `authenticate`"
            raise ConfigurationError(message)
        self.store, self._timeout = store, timeout
        self._clock = SystemClock() if clock is None else clock
        self._answering = Answering(store, authenticate, may_approve, journal_of(audit, name, clock))
        self._performer, self._aperformer = Performer(self._clock), APerformer(self._clock)

    def list(self, status: Status | None = Status.PENDING) -> Sequence[Approval]:
        """Return the approvals in force of a status, the oldest first; of every one where it is None."""
        return run(self._list(status), self._performer)

    async def alist(self, status: Status | None = Status.PENDING) -> Sequence[Approval]:
        """Return the approvals in force; see `list`."""
        return await arun(self._list(status), self._aperformer)

    def damaged(self) -> Sequence[str]:
        """Return the ids of approvals that were changed by somebody without the secret."""
        return listed(self.store)[1]

    def show(self, name: str) -> Approval | None:
        """
        Return an approval by its id, whatever became of it; None where there is none.

        Raises:
            ApprovalRefused: When it was tampered with.
        """
        return run(self._show(name), self._performer)

    async def ashow(self, name: str) -> Approval | None:
        """Return an approval by its id; see `show`."""
        return await arun(self._show(name), self._aperformer)

    def approve(self, name: str, credentials: object, *, comment: str | None = None) -> Approval:
        """
        Approve for whoever is behind some credentials.

        Args:
            name: The approval's id.

            credentials: What `authenticate` takes.

            comment: What they say to it.

        Returns:
            What became of it; pending still, where others have to approve too.

        Raises:
            ApprovalRefused: When the answer does not count; that is recorded.

            AuditError: When it could not be recorded: nothing was approved.
        """
        return run(self._answer(name, credentials, comment, approves=True), self._performer)

    async def aapprove(self, name: str, credentials: object, *, comment: str | None = None) -> Approval:
        """Approve for whoever is behind some credentials; see `approve`."""
        return await arun(self._answer(name, credentials, comment, approves=True), self._aperformer)

    def reject(self, name: str, credentials: object, *, comment: str | None = None) -> Approval:
        """
        Reject for whoever is behind some credentials; what was approved too, as long as it is not used.

        Raises:
            ApprovalRefused: When the answer does not count; that is recorded.

            AuditError: When it could not be recorded: it is rejected all the same.
        """
        return run(self._answer(name, credentials, comment, approves=False), self._performer)

    async def areject(self, name: str, credentials: object, *, comment: str | None = None) -> Approval:
        """Reject for whoever is behind some credentials; see `reject`."""
        return await arun(self._answer(name, credentials, comment, approves=False), self._aperformer)

    def _answer(self, name: str, credentials: object, comment: str | None, *, approves: bool) -> Plan[Approval]:
        deadline = self._clock.monotonic() + self._timeout
        return self._answering.answer(name, credentials, approves=approves, comment=comment, deadline=deadline)

    def _list(self, status: Status | None) -> Plan[Sequence[Approval]]:
        sound = (yield from call(listed, self.store, threaded=on_thread(self.store)))[0]
        now = yield from call(self.store.now, threaded=on_thread(self.store))
        return [one for one in sound if one.lives(now) and status in {None, one.status}]

    def _show(self, name: str) -> Plan[Approval | None]:
        held = yield from call(found, self.store, name, threaded=on_thread(self.store))
        return None if held is None else held[1]

    def __repr__(self) -> str:
        return f"<Desk over {self.store!r}>"
