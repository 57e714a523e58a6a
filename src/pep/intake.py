"""
Intake: from a call's arguments to access requests, and whether they still are what was decided about.

Imports L0 and L1 only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from pep.canonical import digest
from pep.errors import ExtractionError
from pep.extract import NOT_GIVEN, RECEIVERS, Registries, Requirement
from pep.fault import Fault
from pep.model import AccessRequest
from pep.plan import Begun, Plan, Raised, begin, bounded, contain
from pep.scope import MAX_NESTING, Frame

Arguments = Mapping[str, Any]


class Halt(Exception):  # noqa: N818  leaves a stage, never the plan
    """A stage ended without an answer."""

    def __init__(self, fault: Fault, cause: BaseException | None = None) -> None:
        super().__init__(fault)
        self.fault = fault
        self.cause = cause


@attrs.define(eq=False, repr=False)
class Intake:
    """
    What one call demands, and the requests it came to.

    Args:
        needs: What the call demands; all of it, in one batch.

        arguments: The bound arguments, name → value, as the caller gave them.

        frame: The frame that extractors run in.

        registries: How objects become subjects and resources.

        given: What the only need's resource came to when it was read before the call was; see `Requirement.requests`.
    """

    needs: Sequence[Requirement]
    arguments: Arguments
    frame: Frame
    registries: Registries
    given: object = NOT_GIVEN
    requests: list[AccessRequest] = attrs.field(factory=list, init=False)
    #: The digest of all arguments, where they are remembered.
    pinned: str | None = attrs.field(default=None, init=False)

    @property
    def nested(self) -> bool:
        """Whether guarded calls nest too deep for this one."""
        return self.frame.depth > MAX_NESTING

    def take(self, deadline: float) -> Plan[list[AccessRequest]]:
        """
        Turn the call into requests.

        Args:
            deadline: When that takes too long, on the monotonic clock, in seconds.

        Raises:
            Halt: When it cannot be turned into any, or calls nest too deep.
        """
        self.requests, self.pinned = [], None
        if self.frame.depth > MAX_NESTING:
            raise Halt(Fault.INTERNAL, RecursionError(f"guarded calls nest deeper than {MAX_NESTING}"))
        self.requests = yield from self._extracted(self.arguments, deadline)
        return self.requests

    def pin(self) -> None:
        """
        Remember all arguments, not only those that requests are made of.

        Raises:
            Halt: When one of them cannot be compared later.
        """
        self.pinned = self._digest()

    def changed(self, effective: Arguments, deadline: float) -> Plan[bool]:
        """
        Take the call again with changed arguments; tell whether it now is another.

        Raises:
            Halt: When it can no longer be turned into requests.
        """
        before = self.requests
        self.requests = yield from self._extracted(effective, deadline)
        return self.requests != before

    def still(self, effective: Arguments, deadline: float, *, suspended: bool) -> Plan[bool]:
        """
        Tell whether the call is still the one that was decided about.

        Args:
            effective: The arguments the code will run with.

            deadline: When that takes too long, on the monotonic clock, in seconds.

            suspended: Whether the world went on since; otherwise nothing can have changed.
        """
        if suspended and self.requests:
            again = yield from contain(self._extracted(effective, deadline))
            if isinstance(again, Raised) or again.value != self.requests:
                return False
        try:
            return self.pinned is None or self._digest() == self.pinned
        except Halt:
            return False

    def _extracted(self, arguments: Arguments, deadline: float) -> Plan[list[AccessRequest]]:
        found: list[AccessRequest] = []
        # What was given is good for once.
        given, self.given = self.given, NOT_GIVEN
        for need in self.needs:
            more = () if given is NOT_GIVEN else (given,)
            reply = begin(need.requests(arguments, self.frame, self.registries, *more))
            if type(reply) is Begun:
                reply = yield from contain(bounded(reply, deadline))
            if type(reply) is Raised:
                raise Halt(Fault.EXTRACTION, reply.error)
            found += reply.value
        return found

    def _digest(self) -> str:
        try:
            return digest({name: value for name, value in self.arguments.items() if name not in RECEIVERS})
        except ExtractionError as error:
            raise Halt(Fault.EXTRACTION, error) from error
