"""
What the hot path of a function looks at: where its resource comes from, without a plan.

Imports sources and the model only.
"""

from __future__ import annotations

import sys
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from pep.extract import Requirement
from pep.model import Resource
from pep.sources import Computed, Constant, Parameter, Template

if TYPE_CHECKING:
    from pep.guard.site import Site


class Kind(Enum):
    """Where a resource comes from."""

    ID = "id"
    CONSTANT = "constant"
    PARAMETER = "parameter"
    COMPUTED = "computed"


class Lookup(NamedTuple):
    """
    Where the hot path of one function finds its resource.

    Args:
        kind: How.

        source: The source the plan would read.

        names: The parameters to look at.
    """

    kind: Kind
    source: Any
    names: tuple[str, ...] = ()


def lookup_of(site: Site) -> Lookup | None:
    """Tell where the hot path finds a site's resource; None where only a plan can."""
    need = site.needs[0]
    if len(site.needs) > 1 or type(need) is not Requirement or need.subject is not None or need.context is not None:
        return None
    source = need.resource
    if type(source) is Template and len(source.path) == 1:
        return Lookup(Kind.ID, source, source.path)
    if type(source) is Constant and type(source.value) is Resource:
        return Lookup(Kind.CONSTANT, source)
    if type(source) is Parameter:
        return Lookup(Kind.PARAMETER, source, source.parameters)
    if type(source) is Computed and not source.asynchronous:
        return Lookup(Kind.COMPUTED, source, source.parameters)
    return None


def plain_id(value: object) -> str | None:
    """Turn the value of a placeholder that is no exact ``str`` into an id; None leaves it to the plan."""
    if type(value) is int:
        try:
            return str(value)
        except ValueError:  # it has more digits than Python writes
            return None
    uuid = sys.modules.get("uuid")
    return str(value) if uuid is not None and type(value) is uuid.UUID else None
