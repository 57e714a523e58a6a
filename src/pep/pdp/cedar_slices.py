"""
The policies that a question is about: those whose head names another action are left out.

Cedar looks at each policy it is given. One whose head says ``action == Action::"read"`` neither matches nor errs where
another action is asked about, so that the answer is the same without it. Imports Cedar's words only.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

from pep.pdp.cedar_words import UID

#: With fewer policies it is not worth while, and questions about several actions are one call.
MIN_SLICED: Final = 32

#: How many times as many policies slices may hold together: those that name no action are in each.
MAX_HELD: Final = 8


class Slices:
    """
    Policies by action.

    Args:
        cedarpy: The module.

        whole: All of them.
    """

    __slots__ = ("_rest", "_slices", "whole")

    def __init__(self, cedarpy: ModuleType, whole: Any) -> None:  # noqa: ANN401  cedarpy's own
        #: All of them.
        self.whole: Final = whole
        self._slices: dict[UID, Any] = {}
        #: What is asked about any other action.
        self._rest = whole
        nodes = _nodes(whole)
        if nodes is not None:
            self._slice(cedarpy, nodes)

    def of(self, action: UID) -> Any:  # noqa: ANN401  cedarpy's own
        """Return the policies that may match an action, or err about it; the same object for the same ones."""
        return self._slices.get(action, self._rest)

    def _slice(self, cedarpy: ModuleType, nodes: Any) -> None:  # noqa: ANN401  cedarpy's own
        heads: dict[UID, dict[str, Any]] = {}
        rest: dict[str, Any] = {}
        for name, node in nodes.static_policies.items():
            (rest if (named := _named(node.action)) is None else heads.setdefault(named, {}))[name] = node
        common = len(rest) + len(nodes.template_links)
        if len(heads) * common + len(nodes.static_policies) > MAX_HELD * len(self.whole):
            return

        def made(policies: dict[str, Any]) -> Any:  # noqa: ANN401  cedarpy's own
            told = cedarpy.pst.PolicySet(nodes.templates, {**rest, **policies}, nodes.template_links)
            return cedarpy.PolicySet.from_pst(told)

        self._slices = {action: made(policies) for action, policies in heads.items()}
        self._rest = made({})


def _nodes(whole: Any) -> Any:  # noqa: ANN401  cedarpy's own
    """Return the policies as a tree; None where that is not worth while, or this `cedarpy` cannot tell."""
    if len(whole) < MIN_SLICED or not hasattr(whole, "to_pst"):
        return None
    try:
        return whole.to_pst()
    except ValueError:
        return None


def _named(head: Any) -> UID | None:  # noqa: ANN401  cedarpy's own
    """Return the only action that a head admits, or None where there may be several."""
    return (str(head.entity.type), head.entity.id) if type(head).__name__ == "ActionEq" else None
