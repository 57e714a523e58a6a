"""
Searching: who could do what to which; every hit is checked before anybody gets it.

Imports the plain calls and what is below them.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from pep.asking import Asking
from pep.enforcement import Enforcement
from pep.errors import ExtractionError
from pep.model import Action, Resource, Subject
from pep.plan import Plan, Reply, unwrap
from pep.scope import Frame, current_frame
from pep.verdict import Verdict

if TYPE_CHECKING:
    from pep.extract import Requirement
    from pep.found import Found

Context = Mapping[str, Any]

#: Stands for what is searched; no decision point is told.
ANY: Final = "?"


class Searching(Asking):
    """The searches of an enforcer: a decision point finds candidates, and each of them is decided about."""

    def search_resources(
        self, action: object, resource_type: str, *, subject: object = None, context: Context | None = None
    ) -> Found:
        """
        Find the resources of a type that may be acted upon.

        Args:
            action: What is done to each.

            resource_type: The type of the resources.

            subject: Who acts; without it, the subject of `acting_as`.

            context: Circumstance → JSON-like value.

        Returns:
            Those hits that are permitted, recorded like those of `filter`; and whether there can be no others.

        Raises:
            DecisionUnavailable: When no answer was had, to the search or about a hit.

            ConfigurationError: When the decision point cannot search.
        """
        job = self._search(action, resource_type, subject, context, current_frame())
        found: Found = unwrap(self._core.run(job, _candidates(job, "resource")))
        kept: list[Any] = self.filter(action, found.items, subject=subject, context=context)
        return _kept(found, kept)

    def asearch_resources(
        self, action: object, resource_type: str, *, subject: object = None, context: Context | None = None
    ) -> Coroutine[Any, Any, Found]:
        """Find the resources of a type that may be acted upon; see `search_resources`."""
        frame = current_frame()

        async def searched() -> Found:
            job = self._search(action, resource_type, subject, context, frame)
            found: Found = unwrap(await self._core.arun(job, _candidates(job, "resource")))
            kept: list[Any] = []
            if found.items:
                # As whoever called: this may be awaited elsewhere.
                lead, plan = self._sifting(action, found.items, subject, context, frame)
                kept = unwrap(await self._core.arun(lead, plan))
            return _kept(found, kept)

        return searched()

    def search_subjects(
        self, subject_type: str, action: object, resource: object, *, context: Context | None = None
    ) -> Found:
        """
        Find the subjects of a type that may act upon a resource; asks, and enforces nothing.

        Args:
            subject_type: The type of the subjects.

            action: What they would do.

            resource: A `Resource` or registered object.

            context: Circumstance → JSON-like value.

        Returns:
            Those hits that are permitted, each recorded as a check; and whether there can be no others.

        Raises:
            DecisionUnavailable: When no answer was had, to the search or about a hit.

            ConfigurationError: When the decision point cannot search.
        """
        frame = current_frame()
        job = self._subject_search(subject_type, action, resource, context, frame)
        found: Found = unwrap(self._core.run(job, _candidates(job, "subject")))
        jobs = self._checks([self._need(action, resource, hit, context) for hit in found], frame)
        return _permitted(found, self._core.run_all(jobs, _check_all(jobs)) if jobs else [])

    def asearch_subjects(
        self, subject_type: str, action: object, resource: object, *, context: Context | None = None
    ) -> Coroutine[Any, Any, Found]:
        """Find the subjects of a type that may act upon a resource; see `search_subjects`."""
        frame = current_frame()

        async def searched() -> Found:
            job = self._subject_search(subject_type, action, resource, context, frame)
            found: Found = unwrap(await self._core.arun(job, _candidates(job, "subject")))
            jobs = self._checks([self._need(action, resource, hit, context) for hit in found], frame)
            return _permitted(found, await self._core.arun_all(jobs, _check_all(jobs)) if jobs else [])

        return searched()

    def search_actions(self, subject: object, resource: object, *, context: Context | None = None) -> Found:
        """
        Find what a subject may do to a resource; asks, and enforces nothing.

        Args:
            subject: A `Subject` or registered object.

            resource: The same for the resource.

            context: Circumstance → JSON-like value.

        Returns:
            Those actions that are permitted, each recorded as a check; and whether there can be no others.

        Raises:
            DecisionUnavailable: When no answer was had, to the search or about a hit.

            ConfigurationError: When the decision point cannot search.
        """
        frame = current_frame()
        job = self._checking(self._need(Action(ANY), resource, subject, context), frame)
        found: Found = unwrap(self._core.run(job, _candidates(job, "action")))
        jobs = self._checks([self._need(hit, resource, subject, context) for hit in found], frame)
        return _permitted(found, self._core.run_all(jobs, _check_all(jobs)) if jobs else [])

    def asearch_actions(
        self, subject: object, resource: object, *, context: Context | None = None
    ) -> Coroutine[Any, Any, Found]:
        """Find what a subject may do to a resource; see `search_actions`."""
        frame = current_frame()

        async def searched() -> Found:
            job = self._checking(self._need(Action(ANY), resource, subject, context), frame)
            found: Found = unwrap(await self._core.arun(job, _candidates(job, "action")))
            jobs = self._checks([self._need(hit, resource, subject, context) for hit in found], frame)
            return _permitted(found, await self._core.arun_all(jobs, _check_all(jobs)) if jobs else [])

        return searched()

    def _search(
        self, action: object, resource_type: str, subject: object, context: Context | None, frame: Frame
    ) -> Enforcement:
        resource: Resource | ExtractionError
        try:
            resource = Resource.new(resource_type)
        except ExtractionError as error:
            resource = error
        what = self._need(action, resource, subject, context)
        return self._core.job([what], {}, frame, "search")

    def _subject_search(
        self, subject_type: str, action: object, resource: object, context: Context | None, frame: Frame
    ) -> Enforcement:
        try:
            what = self._need(action, resource, Subject(subject_type, ANY), context)
        except ExtractionError as error:
            what = self._need(action, error, None, context)
        return self._checking(what, frame)

    def _checking(self, what: Requirement, frame: Frame) -> Enforcement:
        return self._core.job([what], {}, frame, "search", asking=True)


def _candidates(job: Enforcement, wanted: str) -> Plan[Reply]:
    from pep.candidates import candidates  # noqa: PLC0415  only who searches pays for it

    return candidates(job, wanted)


def _check_all(jobs: Sequence[Enforcement]) -> Plan[list[Verdict]]:
    from pep.bulk import check_all  # noqa: PLC0415  only who asks many at once pays for it

    return check_all(jobs)


def _permitted(found: Found, verdicts: Sequence[Verdict]) -> Found:
    for verdict in verdicts:
        if verdict.fault is not None:
            verdict.raise_if_denied()
    pairs: Iterable[tuple[Any, Verdict]] = zip(found, verdicts, strict=True)
    return _kept(found, [hit for hit, verdict in pairs if verdict.allowed])


def _kept(found: Found, kept: Sequence[Any]) -> Found:
    return attrs.evolve(found, items=tuple(kept))
