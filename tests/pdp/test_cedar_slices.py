"""Slices of policies: what is left out changes no answer."""

from __future__ import annotations

from typing import Any

import cedarpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep import AccessRequest, Effect, Resource, Subject
from pep.pdp.cedar import CedarPDP
from pep.pdp.cedar_slices import MIN_SLICED, Slices
from tests.proving import times

HEADS = [
    "action",
    'action == Action::"a"',
    'action == Action::"b"',
    'action == N::Action::"a"',
    'action in Action::"a"',
    'action in [Action::"a", Action::"c"]',
    'action in [Action::"b"]',
]
CONDITIONS = ["true", "false", "principal.n == 1", "context.m > 1", 'action == Action::"a"', 'action in Action::"c"']
PAD = [f'permit(principal, action == Action::"pad{index}", resource);' for index in range(MIN_SLICED)]
KNOWN = [{"uid": {"type": "Action", "id": "b"}, "attrs": {}, "parents": [{"type": "Action", "id": "c"}]}]


@st.composite
def policies(draw: st.DrawFn) -> str:
    """Policies of any head, some of which err, among many others."""
    made = [
        f"{draw(st.sampled_from(['permit', 'forbid']))}(principal, {draw(st.sampled_from(HEADS))}, resource) "
        f"when {{ {draw(st.sampled_from(CONDITIONS))} }};"
        for _ in range(draw(st.integers(0, 6)))
    ]
    return "\n".join([*made, *PAD])


@given(
    policies(), st.sampled_from(["a", "b", "c", "x"]), st.sampled_from([{}, {"n": 1}]), st.sampled_from([{}, {"m": 2}])
)
@settings(max_examples=times(100, 5_000))
def test_what_names_another_action_changes_nothing(
    text: str, action: str, properties: dict[str, int], context: dict[str, int]
) -> None:
    """Decision, deciding policies and errors are those of Cedar over all policies."""
    asked = {
        "principal": {"type": "user", "id": "u"},
        "action": {"type": "Action", "id": action},
        "resource": {"type": "doc", "id": "d"},
        "context": context,
    }
    entities: list[dict[str, Any]] = [
        {"uid": asked["principal"], "attrs": properties, "parents": []},
        {"uid": asked["resource"], "attrs": {}, "parents": []},
        *KNOWN,
    ]
    whole = cedarpy.PolicySet.from_str(text)
    sliced = Slices(cedarpy, whole).of(("Action", action))
    assert len(sliced) < len(whole)
    all_, some = (cedarpy.is_authorized(asked, one, entities) for one in (whole, sliced))
    assert some.decision is all_.decision
    assert sorted(some.diagnostics.reasons) == sorted(all_.diagnostics.reasons)
    assert sorted(some.diagnostics.errors) == sorted(all_.diagnostics.errors)
    request = AccessRequest(Subject("user", "u", properties), action, Resource("doc", "d"), context)
    decided = CedarPDP(text, entities=KNOWN).decide(request)
    assert (decided.effect is Effect.INDETERMINATE) is bool(all_.diagnostics.errors)
    assert (decided.effect is Effect.PERMIT) is (all_.allowed and not all_.diagnostics.errors)


def test_policies_of_a_handle_are_sliced_with_their_links() -> None:
    """Linked templates, whose heads may have slots, are in every slice."""
    text = "\n".join(["permit(principal == ?principal, action, resource);", *PAD])
    handle = cedarpy.PolicySet.from_str(text).with_linked("policy0", "link", {"?principal": 'user::"u"'})
    pdp = CedarPDP(handle)
    for action, named in (("pad1", ("link", "policy2")), ("x", ("link",))):
        assert pdp.decide(AccessRequest(Subject("user", "u"), action, Resource("doc", "d"))).policies == named


def test_slices_are_bounded() -> None:
    """Where most policies name no action, all are asked: slices would hold each of them many times."""
    text = "\n".join([*PAD, *["permit(principal, action, resource);"] * MIN_SLICED])
    whole = cedarpy.PolicySet.from_str(text)
    assert Slices(cedarpy, whole).of(("Action", "pad1")) is whole


@pytest.mark.parametrize("count", [0, 1, MIN_SLICED - 1])
def test_few_policies_are_left_together(count: int) -> None:
    """Below a number it is not worth while."""
    whole = cedarpy.PolicySet.from_str("\n".join(PAD[:count]))
    assert Slices(cedarpy, whole).of(("Action", "pad0")) is whole


def test_what_cannot_be_taken_apart_stays_whole() -> None:
    """Policies that `cedarpy` cannot show are all asked."""

    class Odd:
        def __len__(self) -> int:
            return MIN_SLICED

        def to_pst(self) -> None:
            raise ValueError

    class Mute:
        def __len__(self) -> int:
            return MIN_SLICED

    for odd in (Odd(), Mute()):
        assert Slices(cedarpy, odd).of(("Action", "a")) is odd
