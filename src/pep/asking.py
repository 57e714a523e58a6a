"""
Asking: the entry points that take values instead of decorating, one line each over one plan.

Imports the core, the enforcement plan and what is below them.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pep.core import Core
from pep.enforcement import Enforcement
from pep.errors import AccessDenied, ConfigurationError, ExtractionError
from pep.extract import Requirement
from pep.guard.awaiting import Asked
from pep.guard.block import block_of
from pep.guard.enforcing import Enforcing
from pep.lifecycle import dropped
from pep.model import AccessRequest, Resource
from pep.plain import APPLICATION, Prepared, need
from pep.plan import Plan, Reply, unwrap
from pep.protocols import Phase
from pep.scope import Frame, current_frame
from pep.verdict import Grant, Verdict

if TYPE_CHECKING:
    from pep.policy.partial import RowFilter

T = TypeVar("T")
Context = Mapping[str, Any]


class Asking:
    """
    The plain calls of an enforcer.

    Args:
        core: The enforcer's core.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    def enforcing(
        self,
        action: object,
        resource: object = APPLICATION,
        *,
        subject: object = None,
        context: Context | None = None,
        arguments: Context | None = None,
    ) -> Enforcing:
        """
        Return a block, for ``with`` or ``async with``, that runs only with a recorded permit.

        Args:
            action: What is done.

            resource: A `Resource`, a registered object or a list of them; without it, the application.

            subject: Who acts; without it, the subject of `acting_as`.

            context: Circumstance → JSON-like value.

            arguments: What the block works on, name → value: obligations may change it, so run with
                `Grant.arguments`.

        Raises:
            AccessDenied: On entering.
        """
        core = self._core
        if subject is None and context is None and not arguments and (block := block_of(core, action, resource)):
            return Enforcing(core, self._plain_block, block, resource, action)
        what, bound = self._need(action, resource, subject, context), dict(arguments or {})
        return Enforcing(core, lambda *_none: self._block_job(what, bound))

    def enforce(
        self,
        action: object,
        resource: object = APPLICATION,
        *,
        subject: object = None,
        context: Context | None = None,
        arguments: Context | None = None,
    ) -> Grant:
        """
        Decide, record, and return the grant of a permit.

        Args:
            action: As for `enforcing`.

            resource: As for `enforcing`.

            subject: As for `enforcing`.

            context: As for `enforcing`.

            arguments: As for `enforcing`; here nothing may change them.

        Raises:
            AccessDenied: Unless it is permitted.
        """
        what = self._need(action, resource, subject, context)
        job = self._plain_job(what, current_frame(), arguments)
        self._core.run(job, job.permit()).raise_if_denied()
        return self._core.grant(job)

    def aenforce(
        self,
        action: object,
        resource: object = APPLICATION,
        *,
        subject: object = None,
        context: Context | None = None,
        arguments: Context | None = None,
    ) -> Coroutine[Any, Any, Grant]:
        """Decide, record, and return the grant of a permit; see `enforce`. Dropped un-awaited, it warns."""
        what, frame = self._need(action, resource, subject, context), current_frame()

        async def decided() -> Grant:
            job = self._plain_job(what, frame, arguments)
            (await self._core.arun(job, job.permit())).raise_if_denied()
            return self._core.grant(job)

        return Asked("aenforce", decided, lambda: dropped(self._core, what, frame))

    def check(
        self,
        action: object,
        resource: object = APPLICATION,
        *,
        subject: object = None,
        context: Context | None = None,
    ) -> Verdict:
        """
        Ask, record that it was asked, and enforce nothing; never raises for a denial.

        Args:
            action: What would be done; or a whole `AccessRequest`.

            resource: As for `enforcing`.

            subject: As for `enforcing`.

            context: As for `enforcing`.
        """
        return self.check_many([_question(action, resource)], subject=subject, context=context)[0]

    def acheck(
        self,
        action: object,
        resource: object = APPLICATION,
        *,
        subject: object = None,
        context: Context | None = None,
    ) -> Coroutine[Any, Any, Verdict]:
        """Ask, and enforce nothing; see `check`. Who acts is captured at the call."""
        asked, frame = _asked([_question(action, resource)]), current_frame()

        async def answered() -> Verdict:
            return (await self._answered(asked, subject, context, frame))[0]

        return answered()

    def check_many(
        self, questions: Iterable[Any], *, subject: object = None, context: Context | None = None
    ) -> list[Verdict]:
        """
        Ask many questions in one batch; enforces nothing.

        Args:
            questions: Access requests, or pairs of action and resource.

            subject: As for `check`, for every pair.

            context: As for `check`, for every pair.

        Returns:
            Their verdicts, in order.
        """
        asked = _asked(questions)
        try:
            begun = self._batch(asked, subject, context, current_frame())
        except AccessDenied as error:
            return [error.verdict for _ in asked]
        return self._core.run(*begun) if begun else []

    def acheck_many(
        self, questions: Iterable[Any], *, subject: object = None, context: Context | None = None
    ) -> Coroutine[Any, Any, list[Verdict]]:
        """Ask many questions in one batch; see `check_many`. Who acts is captured at the call."""
        return self._answered(_asked(questions), subject, context, current_frame())

    def filter(
        self, action: object, items: Iterable[T], *, subject: object = None, context: Context | None = None
    ) -> list[T]:
        """
        Keep those items that may be acted upon; a new list, recorded before it is released.

        Args:
            action: What is done to each.

            items: Resources or registered objects.

            subject: As for `check`, for every item.

            context: As for `check`, for every item.

        Raises:
            DecisionUnavailable: When no answer was had for one of them: there is no partial list.
        """
        everything, frame = list(items), current_frame()
        lead, plan = self._sifting(action, everything, subject, context, frame)
        return unwrap(self._core.run(lead, plan)) if everything else []

    def afilter(
        self, action: object, items: Iterable[T], *, subject: object = None, context: Context | None = None
    ) -> Coroutine[Any, Any, list[T]]:
        """Keep those items that may be acted upon; see `filter`. Who acts is captured at the call."""
        everything, frame = list(items), current_frame()

        async def kept() -> list[T]:
            lead, plan = self._sifting(action, everything, subject, context, frame)
            return unwrap(await self._core.arun(lead, plan)) if everything else []

        return kept()

    def row_filter(
        self, action: object, resource_type: str, *, subject: object = None, context: Context | None = None
    ) -> RowFilter:
        """
        Say which resources of a type may be acted upon, before any is loaded; recorded before it is released.

        Args:
            action: What is done to each.

            resource_type: The type of the resources.

            subject: As for `check`.

            context: As for `check`.

        Returns:
            `AllowAll`, `DenyAll` or a `Conditional`: three types, so that nothing can mean everything.

        Raises:
            DecisionUnavailable: When no answer was had.

            ConfigurationError: When the decision point cannot filter rows.
        """
        job = self._rows(action, resource_type, subject, context, current_frame())
        found: RowFilter = unwrap(self._core.run(job, _row_filter(job)))
        return found

    def arow_filter(
        self, action: object, resource_type: str, *, subject: object = None, context: Context | None = None
    ) -> Coroutine[Any, Any, RowFilter]:
        """Say which resources of a type may be acted upon; see `row_filter`. Who acts is captured at the call."""
        frame = current_frame()

        async def found() -> RowFilter:
            job = self._rows(action, resource_type, subject, context, frame)
            rows: RowFilter = unwrap(await self._core.arun(job, _row_filter(job)))
            return rows

        return found()

    def _rows(
        self, action: object, resource_type: str, subject: object, context: Context | None, frame: Frame
    ) -> Enforcement:
        resource: Resource | ExtractionError
        try:
            resource = Resource.new(resource_type)
        except ExtractionError as error:
            resource = error
        what = self._need(action, resource, subject, context)
        return self._core.job([what], {}, frame, "row_filter")

    def _need(self, action: object, resource: object, subject: object, context: Context | None) -> Requirement:
        return need(self._core.name, action, resource, subject=subject, context=context)

    def _plain_block(self, action: object, resource: object) -> Enforcement:
        return self._block_job(self._need(action, resource, None, None), {})

    def _block_job(self, what: Requirement, bound: dict[str, Any]) -> Enforcement:
        return self._core.job([what], bound, current_frame(), "enforcing")

    def _plain_job(self, what: Requirement, frame: Frame, arguments: Context | None) -> Enforcement:
        # There is no result to act on, and nobody to run with changed arguments.
        bound = dict(arguments or {})
        return self._core.job([what], bound, frame, "enforce", phases=(Phase.BEFORE,), modifiable=False)

    def _question(self, asked: Any, subject: object, context: Context | None) -> Requirement:  # noqa: ANN401  see `_asked`
        if type(asked) is AccessRequest:
            # It is a requirement in all but name: there is nothing left to extract.
            return cast("Requirement", Prepared(asked))
        action, resource = asked
        return self._need(action, resource, subject, context)

    async def _answered(
        self, asked: Sequence[Any], subject: object, context: Context | None, frame: Frame
    ) -> list[Verdict]:
        try:
            begun = self._batch(asked, subject, context, frame)
        except AccessDenied as error:
            return [error.verdict for _ in asked]
        return await self._core.arun(*begun) if begun else []

    def _batch(
        self, asked: Sequence[Any], subject: object, context: Context | None, frame: Frame
    ) -> tuple[Enforcement, Plan[list[Verdict]]] | None:
        """Begin to check many: the enforcement of the first, and the plan; nothing where there is none."""
        if not asked:
            return None
        (lead,) = self._checks([self._question(asked[0], subject, context)], frame)
        if len(asked) == 1:
            return lead, _check_all([lead])
        from pep.checks import Questions, check_many  # noqa: PLC0415  only who asks many at once pays for it

        questions = Questions(asked, subject, context, lambda one: self._question(one, subject, context))
        return lead, check_many(lead, questions)

    def _checks(self, needs: Sequence[Requirement], frame: Frame) -> list[Enforcement]:
        return [self._core.job([what], {}, frame, "check", asking=True) for what in needs]

    def _sifting(
        self, action: object, items: Sequence[T], subject: object, context: Context | None, frame: Frame
    ) -> tuple[Enforcement, Plan[Reply]]:
        from pep.sift import Question, sift  # noqa: PLC0415  only who filters pays for it

        def job(item: object) -> Enforcement:
            return self._filter_job(self._need(action, item, subject, context), frame)

        # Begun even where there is nothing to filter: unbound and closed, every call is denied.
        lead = job(items[0] if items else None)
        question = Question(lead.needs[0].action, subject, context)
        return lead, sift(lead, question, items, lambda: [job(item) for item in items])

    def _filter_job(self, what: Requirement, frame: Frame) -> Enforcement:
        return self._core.job([what], {}, frame, "filter", modifiable=False, openable=False)


def _check_all(jobs: Sequence[Enforcement]) -> Plan[list[Verdict]]:
    from pep.bulk import check_all  # noqa: PLC0415  only who asks many at once pays for it

    return check_all(jobs)


def _row_filter(job: Enforcement) -> Plan[Reply]:
    from pep.rows import row_filter  # noqa: PLC0415  only who filters rows pays for it

    return row_filter(job)


def _asked(questions: Iterable[Any]) -> list[Any]:
    """Take whole requests, and pairs of action and resource."""
    asked = list(questions)
    for one in asked:
        if type(one) is not AccessRequest and (type(one) is not tuple or len(one) != 2):  # noqa: PLR2004  a pair
            kind = type(one).__name__
            message = f"a question is an `AccessRequest` or a pair of action and resource, not `{kind}`"
            raise ConfigurationError(message)
    return asked


def _question(action: object, resource: object) -> object:
    return action if type(action) is AccessRequest else (action, resource)
