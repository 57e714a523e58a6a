"""
Modifying a call: arguments that are given another value, or held within bounds.

The code runs with what these leave; the request is extracted again, and decided again where that changed it. Imports
L0, the protocols and its neighbours in this folder only.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any, Final

import attrs

from pep.errors import ObligationError
from pep.frozen import FrozenDict, thaw
from pep.model import Obligation
from pep.obligations.paths import Path
from pep.obligations.properties import Properties, Reading
from pep.obligations.rewriting import Node, Unfit, compile_paths, rewrite
from pep.protocols import Call, Phase, Rank

_PATH: Final = "path"
_MINIMUM: Final = "minimum"


class SetArguments:
    """
    Discharges ``set-arguments``: its properties are parameters of the guarded code → the value each gets.

    Lists and mappings are made anew for each call, free to be changed. A parameter the code does not have is a
    failure, and so is one inside a ``**`` parameter. A tuple gives way to a list only, which becomes one, and a dict to
    a mapping: they may be what ``*`` and ``**`` collected.
    """

    types = frozenset({"set-arguments"})
    phase = Phase.BEFORE
    rank = Rank.MODIFY

    def writes(self, obligation: Obligation, _call: Call) -> tuple[Path, ...]:
        """Name what one obligation writes: the whole of each argument."""
        return tuple([Path((name,)) for name in obligation.properties])

    def discharge(self, obligation: Obligation, call: Call) -> Call:
        """
        Give the arguments their values.

        Raises:
            ObligationError: When there is none, or the call does not have one of that name.
        """
        given = obligation.properties
        if not given:
            message = f"obligation `{obligation.type}` names no argument; its properties are name → value"
            raise ObligationError(message)
        if not given.keys() <= call.arguments.keys():
            message = f"obligation `{obligation.type}` names a parameter that the call does not have"
            raise ObligationError(message)
        try:
            values = {name: _fitting(value, call.arguments[name]) for name, value in given.items()}
        except Unfit as problem:
            message = f"obligation `{obligation.type}` {problem}"
            raise ObligationError(message) from None
        return attrs.evolve(call, arguments={**call.arguments, **values})


@attrs.frozen(eq=False)
class _Bounds:
    """What one ``clamp`` demands."""

    path: Path
    node: Node
    minimum: float | None
    maximum: float | None
    properties: Properties


class Clamp:
    """
    Discharges ``clamp``: numbers of the arguments are held within inclusive bounds.

    ===========  ==============================================================================================
    property     meaning
    ===========  ==============================================================================================
    ``path``     the path of a number, or with ``*`` of several; it begins with the name of an argument
    ``minimum``  the least it may be
    ``maximum``  the greatest it may be; at least one of both is given
    ===========  ==============================================================================================

    What it is held to has the type it had: an exact ``int``, ``float`` or ``Decimal``. Anything else fails, NaN and
    ``bool`` too, and so does what is missing, or an ``int`` where no whole number is within the bounds.
    """

    types = frozenset({"clamp"})
    phase = Phase.BEFORE
    rank = Rank.MODIFY

    def __init__(self) -> None:
        self._read = Reading(_bounds)

    def writes(self, obligation: Obligation, _call: Call) -> tuple[Path, ...]:
        """Name what one obligation writes."""
        return (self._read(obligation).path,)

    def discharge(self, obligation: Obligation, call: Call) -> Call:
        """
        Hold the numbers within their bounds.

        Raises:
            ObligationError: When the properties are malformed, or what the path leads to is no number.
        """
        bounds = self._read(obligation)
        name, node = bounds.node.steps[0]
        if name not in call.arguments:
            raise bounds.properties.error(_PATH, "names an argument that the call does not have")
        held: list[bool] = []

        def edit(value: object) -> object:
            kept = _held(value, bounds)
            held.append(kept is not value)
            return kept

        try:
            argument = rewrite(call.arguments[name], node, edit)
        except Unfit as problem:
            raise bounds.properties.error(_PATH, str(problem)) from None
        return attrs.evolve(call, arguments={**call.arguments, name: argument}) if any(held) else call


def _fitting(value: Any, before: Any) -> Any:  # noqa: ANN401  any value
    """Make a value of one that is frozen; what may be a ``*`` or ``**`` parameter stays what it has to be."""
    made = thaw(value) if type(value) is tuple or type(value) is FrozenDict else value
    if type(before) is tuple and type(made) is list:
        return tuple(made)
    if type(before) in {tuple, dict} and type(made) is not type(before):
        message = f"cannot replace a `{type(before).__name__}` by a `{type(made).__name__}`"
        raise Unfit(message)
    return made


def _bounds(properties: Properties) -> _Bounds:
    try:
        path = Path.parse(properties.value(_PATH))
    except ValueError as problem:
        raise properties.error(_PATH, f"is no path: {problem}") from None
    if not path.segments or type(path.segments[0]) is not str:
        raise properties.error(_PATH, "must begin with the name of an argument")
    minimum = properties.number(_MINIMUM) if _MINIMUM in properties else None
    maximum = properties.number("maximum") if "maximum" in properties else None
    if minimum is None and maximum is None:
        raise properties.error(_MINIMUM, "is missing, and so is `maximum`; give at least one")
    if minimum is not None and maximum is not None and minimum > maximum:
        raise properties.error(_MINIMUM, "must not be greater than `maximum`")
    return _Bounds(path, compile_paths([path]), minimum, maximum, properties)


def _held(value: Any, bounds: _Bounds) -> Any:  # noqa: ANN401  any value
    """Hold one number within the bounds, in its own type."""
    kind = type(value)
    if kind is not int and kind is not float and kind is not Decimal:
        message = f"leads to a `{kind.__name__}`, which is no exact `int`, `float` or `Decimal`"
        raise Unfit(message)
    if value.is_nan() if kind is Decimal else value != value:  # noqa: PLR0124  only NaN differs from itself
        message = "leads to NaN, which is within no bounds"
        raise Unfit(message)
    least, most = _as(kind, bounds.minimum, math.ceil, math.inf), _as(kind, bounds.maximum, math.floor, -math.inf)
    if least is not None and most is not None and least > most:
        message = f"leads to a `{kind.__name__}`, and none is within the bounds"
        raise Unfit(message)
    if least is not None and value < least:
        return least
    return most if most is not None and value > most else value


def _as(kind: type, bound: float | None, whole: Any, inwards: float) -> Any:  # noqa: ANN401  a number of that type
    """Write a bound in the type of what it bounds; never wider than it is."""
    if bound is None:
        return None
    if kind is int:
        return whole(bound)
    if kind is Decimal:
        # As it was written: the nearest decimal of a binary fraction has dozens of digits.
        return Decimal(repr(bound))
    nearest = float(bound)
    outside = nearest < bound if inwards > 0 else nearest > bound
    return math.nextafter(nearest, inwards) if outside else nearest
