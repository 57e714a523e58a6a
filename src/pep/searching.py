"""
Searching: who could do what to which; every hit is checked before anybody gets it.

Imports the plain calls and what is below them.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final

from pep.asking import Asking
from pep.candidates import candidates
from pep.enforcement import Enforcement
from pep.errors import ExtractionError
from pep.found import Found
from pep.model import AccessRequest, Action, Resource, Subject
from pep.plan import unwrap
from pep.scope import Frame, current_frame
from pep.verdict import Verdict

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
        found: Found = unwrap(self._core.run(job, candidates(job, "resource")))
        kept: list[Any] = self.filter(action, found.items, subject=subject, context=context)
        return Found(tuple(kept), complete=found.complete)

    def asearch_resources(
        self, action: object, resource_type: str, *, subject: object = None, context: Context | None = None
    ) -> Coroutine[Any, Any, Found]:
        """Find the resources of a type that may be acted upon; see `search_resources`."""
        frame = current_frame()

        async def searched() -> Found:
            job = self._search(action, resource_type, subject, context, frame)
            found: Found = unwrap(await self._core.arun(job, candidates(job, "resource")))
            kept: list[Any] = []
            if found.items:
                # As whoever called: this may be awaited elsewhere.
                lead, plan = self._sifting(action, found.items, subject, context, frame)
                kept = unwrap(await self._core.arun(lead, plan))
            return Found(tuple(kept), complete=found.complete)

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
        asked = self._request(Subject(subject_type, ANY), action, resource, context)
        job = self._checking(asked)
        found: Found = unwrap(self._core.run(job, candidates(job, "subject")))
        return _permitted(found, self.check_many([asked.evolve(subject=hit) for hit in found]))

    async def asearch_subjects(
        self, subject_type: str, action: object, resource: object, *, context: Context | None = None
    ) -> Found:
        """Find the subjects of a type that may act upon a resource; see `search_subjects`."""
        asked = self._request(Subject(subject_type, ANY), action, resource, context)
        job = self._checking(asked)
        found: Found = unwrap(await self._core.arun(job, candidates(job, "subject")))
        return _permitted(found, await self.acheck_many([asked.evolve(subject=hit) for hit in found]))

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
        asked = self._request(subject, Action(ANY), resource, context)
        job = self._checking(asked)
        found: Found = unwrap(self._core.run(job, candidates(job, "action")))
        return _permitted(found, self.check_many([asked.evolve(action=hit) for hit in found]))

    async def asearch_actions(self, subject: object, resource: object, *, context: Context | None = None) -> Found:
        """Find what a subject may do to a resource; see `search_actions`."""
        asked = self._request(subject, Action(ANY), resource, context)
        job = self._checking(asked)
        found: Found = unwrap(await self._core.arun(job, candidates(job, "action")))
        return _permitted(found, await self.acheck_many([asked.evolve(action=hit) for hit in found]))

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

    def _checking(self, asked: AccessRequest) -> Enforcement:
        return self._core.job(self._questions([asked], None, None), {}, current_frame(), "search", asking=True)

    def _request(self, subject: object, action: object, resource: object, context: Context | None) -> AccessRequest:
        registries = self._core.registries
        who = subject if type(subject) is Subject else registries.subjects.convert(subject)
        what = resource if type(resource) is Resource else registries.resources.convert(resource)
        return AccessRequest(who, action, what, context or {})  # type: ignore[arg-type]


def _permitted(found: Found, verdicts: Sequence[Verdict]) -> Found:
    for verdict in verdicts:
        if verdict.fault is not None:
            verdict.raise_if_denied()
    pairs: Iterable[tuple[Any, Verdict]] = zip(found, verdicts, strict=True)
    return Found(tuple(hit for hit, verdict in pairs if verdict.allowed), complete=found.complete)
