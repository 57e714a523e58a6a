"""
Routing: which decision point is asked depends on the action, or on the type of the resource.

Imports the parts, the patterns of profiles and the decision's words only; row filters where one is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pep.compose.parts import (
    Outcome,
    awaited_part,
    checked_part,
    consistent_part,
    decided,
    decided_all,
    distinct,
    filters_rows,
    for_each,
    has,
    health_of,
    probed_all,
    pure_part,
    rows_of,
    told,
    whole_name,
)
from pep.compose.swaps import Swaps
from pep.decision import Decision, Effect
from pep.errors import ConfigurationError, ExtractionError
from pep.frozen import EMPTY, exact_text
from pep.model import AccessRequest, Action, Subject
from pep.plan import Plan, Raised, Returned, gather
from pep.profiles import DEFAULT, Pattern
from pep.protocols import PDP

if TYPE_CHECKING:
    from pep.policy.partial import RowFilter

_NOWHERE: Final = Decision(Effect.NOT_APPLICABLE, reasons=["no route for the action"])


class RoutingPDP:
    """
    Several decision points, each asked about what is its own.

    First an action that is named exactly, then a resource type, then the narrowest pattern of actions, then the
    default. An action without a colon is qualified by the resource's type, as it is for profiles.

    Args:
        actions: Pattern of actions → who decides about them. Patterns are those of profiles: ``*`` is any one
            segment, a final ``**`` one or more. Two that overlap lie within one another.

        types: Resource type, exactly → who decides about it.

        default: Who decides about everything else; None where nobody does: nothing is applicable then.

        name: Its identity, in records and cache keys; by default of the parts.

    Raises:
        ConfigurationError: When there is no route, a pattern is misspelled or stands for everything, patterns overlap
            with neither within the other, or something is no decision point.
    """

    def __init__(
        self,
        *,
        actions: Mapping[str, PDP] = EMPTY,
        types: Mapping[str, PDP] = EMPTY,
        default: PDP | None,
        name: str | None = None,
    ) -> None:
        routes = {_parsed(text): checked_part(pdp) for text, pdp in actions.items()}
        if not routes and not types:
            message = "a routing needs a route; give `actions` or `types`, or ask the default itself"
            raise ConfigurationError(message)
        _check_overlaps(list(routes))
        self._exact = {pattern.text: pdp for pattern, pdp in routes.items() if _is_exact(pattern)}
        self._types = {_a_type(kind): checked_part(pdp) for kind, pdp in types.items()}
        narrowest = sorted(routes, key=lambda pattern: pattern.rank, reverse=True)
        self._patterns = [(pattern, routes[pattern]) for pattern in narrowest if not _is_exact(pattern)]
        self._default = None if default is None else checked_part(default)
        known = [*routes.values(), *self._types.values(), *([] if default is None else [default])]
        self._pdps = list(distinct(known))
        #: Its identity.
        self.name = name or whole_name("routing", self._pdps)
        #: Whether it can only be awaited.
        self.asynchronous = awaited_part(self._pdps)
        #: Whether revisions of its decisions are consistency tokens.
        self.consistent = consistent_part(self._pdps)
        self._swaps = Swaps(self._pdps)
        if filters_rows(self._pdps):
            self.row_filter = self._rows
        if any(has(pdp, "probe") for pdp in self._pdps):
            self.probe = self._probe

    @property
    def pure(self) -> bool:
        """Whether every part's answers depend on the request and its policy revision alone."""
        return all(map(pure_part, self._pdps))

    def subscribe(self, listener: Callable[[Any], None]) -> None:
        """Tell *listener* of every policy swap of every part."""
        self._swaps.subscribe(listener)

    def health(self) -> Mapping[str, Any]:
        """Tell how the parts are: ``parts``, each with its name."""
        return {"parts": [health_of(pdp) for pdp in self._pdps]}

    def route(self, action: str, resource_type: str) -> PDP | None:
        """
        Tell who decides about an action on resources of a type; None where nobody does.

        Args:
            action: The action's name.

            resource_type: What qualifies a name without a colon.
        """
        qualified = action if ":" in action else f"{resource_type}:{action}"
        # Not `or`: a decision point may be false, as one without policies is.
        found = self._exact.get(qualified, self._types.get(resource_type))
        if found is not None:
            return found
        names = qualified.split(":")
        return next((pdp for pattern, pdp in self._patterns if pattern.matches(names)), self._default)

    def decide(self, request: AccessRequest) -> Plan[Decision]:
        """
        Ask whoever decides about the request.

        Raises:
            Exception: What that one raised.
        """
        pdp = self._of(request)
        if pdp is None:
            return _NOWHERE
        decision = yield from decided(pdp, request)
        self._swaps.watch(pdp, decision)
        return decision

    def decide_many(self, requests: Sequence[AccessRequest]) -> Plan[list[Decision | Raised]]:
        """Ask everybody about what is theirs, side by side, each at once where it takes batches; see `decide`."""
        found: list[Outcome] = [Returned(_NOWHERE)] * len(requests)
        routed: dict[int, tuple[PDP, list[int]]] = {}
        for at, request in enumerate(requests):
            pdp = self._of(request)
            if pdp is not None:
                routed.setdefault(id(pdp), (pdp, []))[1].append(at)
        asked = [decided_all(pdp, [requests[at] for at in places]) for pdp, places in routed.values()]
        for (pdp, places), reply in zip(routed.values(), (yield from gather(*asked)), strict=True):
            for at, one in zip(places, for_each(reply, len(places)), strict=True):
                found[at] = one
                if isinstance(one, Returned):
                    self._swaps.watch(pdp, one.value)
        return told(found)

    def _of(self, request: AccessRequest) -> PDP | None:
        return self.route(request.action.name, request.resource.type)

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
        """
        Have whoever decides about the action filter rows.

        Raises:
            Exception: What that one raised.
        """
        from pep.policy.partial import DenyAll  # noqa: PLC0415  only who filters rows pays for policies

        pdp = self.route(action.name if isinstance(action, Action) else action, resource_type)
        if pdp is None:
            return DenyAll()
        return (yield from rows_of(pdp, subject, action, resource_type, context, actors, tenant))

    def _probe(self) -> Plan[None]:
        """
        Ask every part that can tell whether it is up.

        Raises:
            Exception: What the first of them raised that is not.
        """
        yield from probed_all(self._pdps)


def _parsed(text: str) -> Pattern:
    if text == DEFAULT:
        message = f"the pattern `{DEFAULT}` stands for everything; give that one as `default`"
        raise ConfigurationError(message)
    return Pattern.parse(text)


def _is_exact(pattern: Pattern) -> bool:
    return not pattern.open and "*" not in pattern.segments


def _a_type(value: object) -> str:
    try:
        return exact_text(value, what="a resource's type")
    except ExtractionError as error:
        raise ConfigurationError(str(error)) from None


def _check_overlaps(patterns: Sequence[Pattern]) -> None:
    for at, one in enumerate(patterns):
        for other in patterns[at + 1 :]:
            both = one.meet(other)
            if both not in {None, one, other}:
                message = (
                    f"patterns `{one.text}` and `{other.text}` overlap, and neither lies within the other; "
                    "narrow one of them"
                )
                raise ConfigurationError(message)
