"""
Filtering: items of a result that stay only where a condition is true of them.

Lives beside the conditions it reads. Imports conditions, the model, the protocols and obligations.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import attrs

from pep.errors import ExtractionError
from pep.frozen import FrozenDict, freeze
from pep.model import AccessRequest, Obligation, Resource
from pep.obligations.fields import Fields, Unreadable, named_tuple
from pep.obligations.paths import Path
from pep.obligations.properties import Properties, Reading
from pep.obligations.rewriting import Node, Unfit, compile_paths, rewrite
from pep.policy.compiling import Compiler
from pep.policy.condition import Condition, Property, Truth, leaves, terms
from pep.policy.parse import parse
from pep.protocols import Call, Phase, Rank

_PATH: Final = "path"
_SEQUENCES: Final = frozenset({list, tuple, set, frozenset})
_MAPPINGS: Final = frozenset({dict, FrozenDict})


@attrs.frozen(eq=False)
class _Demand:
    """What one ``filter`` demands."""

    path: Path
    node: Node
    test: Callable[[AccessRequest, float], Truth]
    names: frozenset[str]
    properties: Properties


class Filter:
    """
    Discharges ``filter``: of a list, tuple or set in the result, only those items stay that a condition is true of.

    ===========  ==============================================================================================
    property     meaning
    ===========  ==============================================================================================
    ``where``    the condition, as text; ``resource`` stands for the item, everything else for what was decided
    ``path``     the path of what holds the items; ``"."``, the result itself, without it
    ===========  ==============================================================================================

    An item's fields are the resource's properties; its ``id``, where that is a text or a number, is the resource's id,
    too. Its type is that of the resource that was decided about. An item of which the condition is false or unknown is
    left out: a field that is missing, or whose value no policy could hold, is unknown.

    What a generator yields is a result of its own each time, so that the items of a page can be filtered, but not
    the items a generator yields: `Enforcer.filter_result` does that.

    Args:
        to_resource: Makes the resource of an item, where its fields are not what the condition speaks of. What it
            raises fails the obligation.

        clock: Tells seconds since 1970 in UTC, for conditions that speak of ``now``.
    """

    types = frozenset({"filter"})
    phase = Phase.AFTER
    rank = Rank.FILTER

    def __init__(
        self, *, to_resource: Callable[[Any], Resource] | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._to_resource = to_resource
        self._clock = clock
        self._compiler = Compiler()
        self._read = Reading(self._demand)

    def writes(self, obligation: Obligation, _call: Call) -> tuple[Path, ...]:
        """Name what one obligation writes: not the items, but where they stand."""
        return (self._read(obligation).path.positions(),)

    def discharge(self, obligation: Obligation, call: Call) -> Call:
        """
        Leave out what the condition is not true of.

        Raises:
            ObligationError: When the properties are malformed, or the path leads to no list, tuple or set.
        """
        demand, now = self._read(obligation), self._clock()

        def edit(value: Any) -> Any:  # noqa: ANN401  any value
            kind = type(value)
            if kind not in _SEQUENCES:
                message = f"leads to a `{kind.__name__}`, which is no list, tuple or set"
                raise Unfit(message)
            return kind([item for item in value if self._keeps(item, call.request, demand, now)])

        try:
            return call.with_result(rewrite(call.result, demand.node, edit))
        except Unfit as problem:
            raise demand.properties.error(_PATH, str(problem)) from None

    def _keeps(self, item: Any, request: AccessRequest, demand: _Demand, now: float) -> bool:  # noqa: ANN401  any value
        if self._to_resource is not None:
            about = request.about(self._to_resource(item))
        else:
            try:
                about = request.about(_resource(item, request.resource.type, demand.names))
            except ExtractionError:
                # Too large, or no text: a policy could not have been asked about it.
                return False
        return demand.test(about, now) is True

    def _demand(self, properties: Properties) -> _Demand:
        condition = properties.parsed("where", parse, "a condition")
        try:
            path = Path.parse(properties.value(_PATH, "."))
        except ValueError as problem:
            raise properties.error(_PATH, f"is no path: {problem}") from None
        test, constants = self._compiler.compile(condition)
        return _Demand(
            path,
            compile_paths([path]),
            lambda request, now: test(request, constants, now),
            _names(condition),
            properties,
        )


def _names(condition: Condition) -> frozenset[str]:
    found = (term for leaf in leaves(condition) for term in terms(leaf))
    return frozenset(term.path[0] for term in found if type(term) is Property and term.root == "resource")


def _resource(item: object, kind: str, names: frozenset[str]) -> Resource:
    held, name = _properties(item, names), _id(item)
    return Resource.new(kind, held) if name is None else Resource(kind, name, held)


def _properties(item: object, names: frozenset[str]) -> dict[str, Any]:
    """Read those fields of an item that the condition speaks of; one that no policy could hold is missing."""
    held: dict[str, Any] = {}
    for name in names:
        value = _field(item, name)
        try:
            held[name] = freeze(value, 1)
        except ExtractionError:
            continue
    return held


def _id(item: object) -> str | None:
    value = _field(item, "id")
    if type(value) is int:
        return str(value)
    return value if type(value) is str and value else None


def _field(item: object, name: str) -> Any:  # noqa: ANN401  any value
    if type(item) in _MAPPINGS:
        return item.get(name)  # type: ignore[attr-defined]
    try:
        row = named_tuple(item)
        return Fields(item).get(name) if row is None else row.get(name)
    except Unreadable:
        return None
