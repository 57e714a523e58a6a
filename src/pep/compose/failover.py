"""
Fail-over: a primary decision point, and standbys that are asked while it is down.

Imports the parts, clocks, locks and the decision's words only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from pep.clock import SystemClock
from pep.compose.parts import (
    Outcome,
    awaited_part,
    checked_part,
    consistent_part,
    decided,
    decided_all,
    filters_rows,
    for_each,
    has,
    health_of,
    part_name,
    probed,
    rows_of,
    share_of,
    told,
    unavailable,
    whole_name,
    with_reason,
)
from pep.compose.swaps import Swaps
from pep.decision import Decision
from pep.errors import ConfigurationError
from pep.locks import Lock
from pep.model import AccessRequest, Action, Subject
from pep.plan import Plan, Raised, Returned, remaining, unwrap
from pep.profile_checks import seconds
from pep.protocols import PDP, Clock

if TYPE_CHECKING:
    from pep.policy.partial import RowFilter

T = TypeVar("T")


@attrs.define(eq=False)
class _Member:
    """
    One of those that may be asked, and whether it is thought to be up.

    Attributes:
        failures: How many of its latest questions failed, while it is up.

        successes: How many of its latest trials succeeded, while it is down.

        due: When it is tried again, in seconds on the monotonic clock; None while it is up.
    """

    pdp: PDP
    name: str
    failures: int = 0
    successes: int = 0
    due: float | None = None
    answered: int = 0


class FailoverPDP:
    """
    A decision point with standbys, for when it is down.

    It moves on only where no answer was had for want of availability: unreachable, timed out or overloaded. A denial,
    a reply that is none, a refusal of this enforcement point: all of them stand. Never pure.

    A standby decides as surely as the primary does. That its policies are the same is the operator's promise; where
    they are of another revision, the record of the decision names that revision. A decision of a standby has the
    reason ``answered by standby `name```, one without it is the primary's.

    Args:
        primary: Who is asked, as long as it is up.

        standbys: Who is asked in its place, in order; at least one.

        share: The share of the time left that each but the last may take, above 0 and below 1.

        failures: How many questions in a row fail before a part is taken to be down.

        down_for: How long it is left alone then, in seconds. After that one question is asked of it, as a trial;
            there is no more than one in so many seconds that does not succeed.

        successes: How many trials in a row succeed before it is taken to be up again, without those that say nothing of
            availability.

        name: Its identity, in records and cache keys; by default of the parts.

        clock: What time it is: the enforcer's own.

    Raises:
        ConfigurationError: When there is no standby, something is no decision point, or a number is out of range.
    """

    #: Who answers depends on who is up.
    pure: Final = False

    def __init__(
        self,
        primary: PDP,
        *standbys: PDP,
        share: float = 0.5,
        failures: int = 3,
        down_for: float = 10.0,
        successes: int = 2,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        pdps = [checked_part(pdp) for pdp in (primary, *standbys)]
        if not standbys:
            message = "fail-over needs a standby; pass at least one after the primary"
            raise ConfigurationError(message)
        self._share = checked_share(share)
        self._limits = counted(failures, "failures"), counted(successes, "successes")
        self._down_for = seconds(down_for, "down_for")
        self._clock: Clock = SystemClock() if clock is None else clock
        self._members = [_Member(pdp, part_name(pdp)) for pdp in pdps]
        self._lock = Lock()
        #: Its identity.
        self.name = name or whole_name("failover", pdps)
        #: Whether it can only be awaited.
        self.asynchronous = awaited_part(pdps)
        #: Whether revisions of its decisions are consistency tokens.
        self.consistent = consistent_part(pdps)
        swaps = Swaps(pdps)
        if swaps.told:
            self.subscribe: Callable[[Callable[[Any], None]], None] = swaps.subscribe
        if filters_rows(pdps):
            self.row_filter = self._rows
        if any(has(pdp, "probe") for pdp in pdps):
            self.probe = self._probe

    def health(self) -> Mapping[str, Any]:
        """
        Tell how it stands, without asking anybody.

        Returns:
            ``active``: who is asked first, or None where none is up; and ``parts``: of each whether it is ``up``, how
            many questions it ``answered``, how many ``failures`` in a row it had, and where it is not up, in how many
            seconds it is due for a trial: ``retry_in``.
        """
        now = self._clock.monotonic()
        with self._lock:
            up = [member.name for member in self._members if member.due is None]
            parts = [
                {
                    "up": member.due is None,
                    "answered": member.answered,
                    "failures": member.failures,
                    **({} if member.due is None else {"retry_in": max(0.0, member.due - now)}),
                }
                for member in self._members
            ]
        about = [health_of(member.pdp) for member in self._members]
        return {
            "active": up[0] if up else None,
            "parts": [{**one, **part} for one, part in zip(about, parts, strict=True)],
        }

    def decide(self, request: AccessRequest) -> Plan[Decision]:
        """
        Ask the first that is up; move on where it is not available.

        Raises:
            Exception: What the first that was asked raised, where nobody was available; at once what is no fault of
                availability.
        """
        member, reply = yield from self._first(lambda pdp: decided(pdp, request), unavailable)
        return self._marked(member, unwrap(reply))

    def decide_many(self, requests: Sequence[AccessRequest]) -> Plan[list[Decision | Raised]]:
        """
        Ask the first that is up, all of them; move on, with all of them, where it answered none.

        What is answered in part stays so: a batch is answered by one.
        """
        wanted = len(requests)
        member, reply = yield from self._first(
            lambda pdp: decided_all(pdp, requests),
            lambda one: wanted > 0 and all(map(unavailable, for_each(one, wanted))),
        )
        outcomes: list[Outcome] = for_each(reply, wanted)
        return [one if isinstance(one, Raised) else self._marked(member, one) for one in told(outcomes)]

    def _rows(
        self,
        subject: Subject,
        action: Action | str,
        resource_type: str,
        *,
        context: Mapping[str, Any],
        actors: Sequence[Subject] = (),
        tenant: str | None = None,
    ) -> Plan[RowFilter]:
        """Have the first that is up filter rows; see `decide`."""
        _, reply = yield from self._first(
            lambda pdp: rows_of(pdp, subject, action, resource_type, context, actors, tenant), unavailable
        )
        rows: RowFilter = unwrap(reply)
        return rows

    def _first(
        self, ask: Callable[[PDP], Plan[T]], failed: Callable[[Returned[T] | Raised], bool]
    ) -> Plan[tuple[_Member, Returned[T] | Raised]]:
        """Ask one after the other until one is available; return who was, or the first, and what came of it."""
        came: list[tuple[_Member, Returned[T] | Raised]] = []
        order = self._order()
        for member in order:
            share = 1.0 if member is order[-1] else self._share
            left = yield from remaining()
            reply = yield from share_of(ask(member.pdp), left, share, self._clock)
            came.append((member, reply))
            if not failed(reply):
                self._came(member, good=None if isinstance(reply, Raised) else True, answered=True)
                return member, reply
            self._came(member, good=False)
        return came[0]

    def _order(self) -> list[_Member]:
        """Return whom to ask, in order: those that are up or due for a trial, which this is then; the others last."""
        now = self._clock.monotonic()
        with self._lock:
            ready = [member for member in self._members if member.due is None or member.due <= now]
            for member in ready:
                if member.due is not None:
                    # INVARIANT: whatever becomes of this trial, the next one comes.
                    member.due = now + self._down_for
            return ready + [member for member in self._members if member not in ready]

    def _came(self, member: _Member, *, good: bool | None, answered: bool = False) -> None:
        """Remember what came of a question, or a trial; None is a fault that says nothing of availability."""
        now = self._clock.monotonic()
        with self._lock:
            member.answered += answered
            if good is None:
                # INVARIANT: nor of what others found; else one caller could keep a part from coming back for ever.
                return
            if not good:
                self._failed(member, now)
            elif member.due is None:
                member.failures = 0
            else:
                self._succeeded(member, now)

    def _failed(self, member: _Member, now: float) -> None:
        member.failures, member.successes = member.failures + 1, 0
        if member.due is None and member.failures >= self._limits[0]:
            member.due = now + self._down_for

    def _succeeded(self, member: _Member, now: float) -> None:
        member.successes, member.due = member.successes + 1, now
        if member.successes >= self._limits[1]:
            member.failures, member.successes, member.due = 0, 0, None

    def _marked(self, member: _Member, decision: Decision) -> Decision:
        if member is self._members[0]:
            return decision
        return with_reason(decision, f"answered by standby `{member.name}`")

    def _probe(self) -> Plan[None]:
        """
        Ask every part that can tell whether it is up, and remember it.

        Raises:
            Exception: What the first of them raised, where none of them is available; at once what is no fault of
                availability.
        """
        asked = [member for member in self._members if has(member.pdp, "probe")]
        replies: list[Returned[None] | Raised] = []
        for member in asked:
            left = yield from remaining()
            reply = yield from share_of(probed(member.pdp), left, 1 / (len(asked) - len(replies)), self._clock)
            down = unavailable(reply)
            self._came(member, good=False if down else True if isinstance(reply, Returned) else None)
            if not down:
                unwrap(reply)
            replies.append(reply)
        if len(asked) == len(self._members) and all(map(unavailable, replies)):
            unwrap(replies[0])


def checked_share(value: object) -> float:
    """Take a share of the time, above 0 and below 1."""
    if type(value) is not float or not 0 < value < 1:
        message = "`share` is the share of the time left that a part may take; give a float above 0 and below 1"
        raise ConfigurationError(message)
    return value


def counted(value: object, name: str) -> int:
    """Take a count of at least one."""
    if type(value) is not int or value < 1:
        message = f"`{name}` is a count; give an `int` of at least 1"
        raise ConfigurationError(message)
    return value
