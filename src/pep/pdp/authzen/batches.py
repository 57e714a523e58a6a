"""
Several AuthZEN evaluations in one message: what they share is sent once, and what comes back is matched to them.

Imports the codec, the model's decisions, replies and the error tree only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final

from pep.errors import PDPMismatched, PDPReplyError
from pep.model import Decision, Effect
from pep.pdp.authzen.codec import Codec, same
from pep.steps import Raised

#: The members of an evaluation that may have a default.
PARTS: Final = ("subject", "action", "resource", "context")

#: What stands for an evaluation that was not made, since another one had settled the matter.
NOT_EVALUATED: Final = Decision(Effect.INDETERMINATE, reasons=["not evaluated"])


class Semantic(Enum):
    """
    How far a batch is evaluated.

    Source:
        AuthZEN Authorization API 1.0, Evaluations semantics.
    """

    #: All of it.
    EXECUTE_ALL = "execute_all"
    #: Up to the first that is not permitted.
    DENY_ON_FIRST_DENY = "deny_on_first_deny"
    #: Up to the first that is permitted.
    PERMIT_ON_FIRST_PERMIT = "permit_on_first_permit"

    def stops_at(self, effect: Effect | None) -> bool:
        """Tell whether nothing after an evaluation counts; its effect is None where there was no answer."""
        if self is Semantic.EXECUTE_ALL:
            return False
        return (effect is Effect.PERMIT) is (self is Semantic.PERMIT_ON_FIRST_PERMIT)


def spread(bodies: Sequence[Mapping[str, Any]], most: int) -> list[list[int]]:
    """
    Spread evaluations over messages, so that each is answered as if it were alone.

    Some servers (Cerbos 0.51 among them) take all that one message says of one subject's and one resource's ids for the
    same question, and answer it as the first: what differs in more than the action's name goes into another message.

    Args:
        bodies: Each with all of `PARTS`.

        most: How many may be in one message.

    Returns:
        The places of the evaluations, message by message.
    """
    variants: dict[tuple[str, str, str], dict[bytes, int]] = {}
    layers: list[list[int]] = []
    for place, body in enumerate(bodies):
        known = variants.setdefault(_named(body), {})
        layer = known.setdefault(_variant(body), len(known))
        if layer == len(layers):
            layers.append([])
        layers[layer].append(place)
    return [layer[start : start + most] for layer in layers for start in range(0, len(layer), most)]


def runs(bodies: Sequence[Mapping[str, Any]], most: int) -> list[Sequence[Mapping[str, Any]]]:
    """Cut evaluations into messages without changing their order; see `spread`."""
    starts, variants = [0], dict[tuple[str, str, str], bytes]()
    for place, body in enumerate(bodies):
        name, variant = _named(body), _variant(body)
        if place - starts[-1] == most or variants.get(name, variant) != variant:
            starts.append(place)
            variants.clear()
        variants[name] = variant
    return [bodies[start:end] for start, end in zip(starts, [*starts[1:], len(bodies)], strict=True)]


def packed(bodies: Sequence[Mapping[str, Any]], semantic: Semantic = Semantic.EXECUTE_ALL) -> dict[str, Any]:
    """
    Write evaluations as one message.

    What several of them have in common is said once, as a default. A part that differs is said whole, since defaults
    are not merged.

    Args:
        bodies: Each with all of `PARTS`.

        semantic: How far they are evaluated.
    """
    told: dict[str, Any] = {}
    items: list[dict[str, Any]] = [{} for _ in bodies]
    for part in PARTS:
        keys = [same(body[part]) for body in bodies]
        common, count = Counter(keys).most_common(1)[0]
        shared = count > 1
        if shared:
            told[part] = bodies[keys.index(common)][part]
        for item, body, key in zip(items, bodies, keys, strict=True):
            if not shared or key != common:
                item[part] = body[part]
    told["evaluations"] = items
    if semantic is not Semantic.EXECUTE_ALL:
        told["options"] = {"evaluations_semantic": semantic.value}
    return told


def unpacked(told: Mapping[str, Any], wanted: int, codec: Codec) -> list[Decision | Raised]:
    """
    Read the reply to evaluations that are all made; one that is no decision is the fault of that one alone.

    Raises:
        PDPMismatched: When there are more or fewer than were asked for.

        PDPReplyError: When there is no list of them.
    """
    items = _items(told, wanted)
    if len(items) != wanted:
        raise _mismatched()
    return [_one(item, codec) for item in items]


def unpacked_until(
    told: Mapping[str, Any], wanted: int, codec: Codec, semantic: Semantic
) -> tuple[list[Decision | Raised], bool]:
    """
    Read the reply to evaluations that may stop early.

    Returns:
        What was evaluated, and whether that settles the matter.

    Raises:
        PDPMismatched: When there are too many, none, or fewer without a reason to stop.

        PDPReplyError: When there is no list of them.
    """
    items = _items(told, wanted)
    found = [_one(item, codec) for item in items]
    stopping = [semantic.stops_at(_effect(one)) for one in found]
    # A server may evaluate more than it has to; what it leaves out must be behind a reason to.
    if not found or len(found) > wanted or (len(found) < wanted and not stopping[-1]):
        raise _mismatched()
    end = stopping.index(True) + 1 if any(stopping) else len(found)
    return found[:end], any(stopping)


def _named(body: Mapping[str, Any]) -> tuple[str, str, str]:
    return body["subject"]["id"], body["resource"]["type"], body["resource"]["id"]


def _variant(body: Mapping[str, Any]) -> bytes:
    return same([body["subject"], body["resource"], body["context"], body["action"].get("properties")])


def _items(told: Mapping[str, Any], wanted: int) -> list[Any]:
    items = told.get("evaluations")
    if items is None and "decision" in told:
        # What is asked about one may be answered like a single evaluation.
        if wanted == 1:
            return [told]
        raise _mismatched()
    if type(items) is not list:
        message = "the reply to a batch must have a JSON array `evaluations`"
        raise PDPReplyError(message)
    return items


def _one(item: object, codec: Codec) -> Decision | Raised:
    try:
        return codec.decision(item)
    except PDPReplyError as error:
        return Raised(error)


def _effect(one: Decision | Raised) -> Effect | None:
    return None if isinstance(one, Raised) else one.effect


def _mismatched() -> PDPMismatched:
    return PDPMismatched("a batch was answered with more or fewer decisions than were asked for")
