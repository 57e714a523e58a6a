"""
What Cerbos answers to checks: results as decisions, outputs as obligations, advice and reasons.

Imports L0, obligations in a context, and what was asked only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pep.errors import PDPMismatched, PDPReplyError
from pep.model import Decision, Effect, Obligation
from pep.obligations.authzen import OBLIGATIONS, obligations_from_context
from pep.pdp.cerbos_batch import Entry

#: What Cerbos calls the policy that decided where none did.
NO_MATCH: Final = "NO_MATCH"
#: The type of the advice that an output becomes which is neither text nor an obligation.
OUTPUT: Final = "cerbos:output"

_EFFECTS: Final = {
    "EFFECT_ALLOW": Effect.PERMIT,
    "EFFECT_DENY": Effect.DENY,
    "EFFECT_NO_MATCH": Effect.NOT_APPLICABLE,
}
#: What Cerbos writes where an output has no JSON form.
_FAILED: Final = "<failed to convert evaluation to protobuf value>"
_MEMBERS: Final = frozenset({"id", "type", "properties"})


def decisions(reply: Mapping[str, Any], name: str, entries: Sequence[Entry]) -> list[dict[str, Decision]]:
    """
    Read what Cerbos answered.

    Args:
        reply: As parsed JSON.

        name: The request's id.

        entries: What was asked, in order.

    Returns:
        Action → decision, for each entry.

    Raises:
        PDPMismatched: When the answers are not those to what was asked, in order.

        PDPReplyError: When an answer is none.
    """
    results = reply.get("results")
    if type(results) is not list:
        message = "`results` of Cerbos's reply must be a JSON array"
        raise PDPReplyError(message)
    if reply.get("requestId") != name or len(results) != len(entries):
        message = "Cerbos answered another request, or another number of resources"
        raise PDPMismatched(message)
    reader = _Reader(reply.get("cerbosCallId") or None)
    return [reader.result(one, entry) for one, entry in zip(results, entries, strict=True)]


def problems(errors: object) -> tuple[str, ...]:
    """
    Tell where a request is not what the server's schemas say.

    Raises:
        PDPReplyError: When that is not told as Cerbos does.
    """
    if errors is None:
        return ()
    if type(errors) is not list or not all(type(one) is dict for one in errors):
        message = "`validationErrors` of Cerbos's reply must be a JSON array of objects"
        raise PDPReplyError(message)
    # A message may tell a value.
    return tuple(f"not valid: {one.get('source')} {one.get('path')}" for one in errors)


class _Reader:
    """Reads the results of one reply; equal answers become one decision."""

    def __init__(self, call: Any) -> None:  # noqa: ANN401  the decision checks it
        self._call = call
        self._plain: dict[tuple[Effect, object], Decision] = {}

    def result(self, told: object, entry: Entry) -> dict[str, Decision]:
        """Read what was answered about one resource: action → decision."""
        result = _object(told, "results")
        _check_resource(_object(result.get("resource"), "resource"), entry.resource)
        effects = _object(result.get("actions"), "actions")
        if effects.keys() != entry.actions.keys():
            message = "Cerbos answered about other actions than were asked for"
            raise PDPMismatched(message)
        wrong = problems(result.get("validationErrors"))
        if wrong:
            return dict.fromkeys(effects, Decision(Effect.INDETERMINATE, reasons=wrong, id=self._call))
        meta = _object(_object(result.get("meta", {}), "meta").get("actions", {}), "meta")
        outputs = _outputs(result["outputs"], entry) if "outputs" in result else {}
        return {
            action: self._decision(effect, _object(meta.get(action, {}), "meta"), outputs.get(action, ()))
            for action, effect in effects.items()
        }

    def _decision(self, told: object, meta: Mapping[str, Any], outputs: Sequence[Mapping[str, Any]]) -> Decision:
        effect = _EFFECTS.get(told) if type(told) is str else None
        policy = meta.get("matchedPolicy", "")
        matched = policy != NO_MATCH
        if type(policy) is not str or effect is None or (effect is Effect.PERMIT and not matched):
            message = "an effect of Cerbos's reply is none, or allows where no policy matched"
            raise PDPReplyError(message)
        effect = effect if matched else Effect.NOT_APPLICABLE
        policies = (policy,) if policy and matched else ()
        if outputs:
            return Decision(effect, *_told(outputs), policies=policies, id=self._call)
        found = self._plain.get((effect, policy))
        if found is None:
            found = self._plain[effect, policy] = Decision(effect, policies=policies, id=self._call)
        return found


def _check_resource(echoed: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    if _named(echoed) != _named(asked):
        message = "Cerbos answered about another resource than was asked for"
        raise PDPMismatched(message)


def _named(resource: Mapping[str, Any]) -> tuple[Any, ...]:
    """Tell what tells one resource of a request from another."""
    told = resource.get
    return told("kind", ""), told("id", ""), told("policyVersion", ""), told("scope", "")


def _outputs(told: object, entry: Entry) -> dict[str, list[dict[str, Any]]]:
    """Sort outputs by action; one that names none is of all of them."""
    if type(told) is not list:
        message = "`outputs` of Cerbos's reply must be a JSON array"
        raise PDPReplyError(message)
    found: dict[str, list[dict[str, Any]]] = {action: [] for action in entry.actions}
    for one in told:
        output = _object(one, "outputs")
        if "val" not in output or output["val"] == _FAILED:
            # It could have been an obligation.
            message = "an output of a policy could not be evaluated; mend the policy"
            raise PDPReplyError(message)
        action = output.get("action", "")
        if type(action) is not str or (action and action not in found):
            message = "an output of Cerbos's reply is about another action than was asked for"
            raise PDPMismatched(message)
        for about in [action] if action else found:
            found[about].append(output)
    return found


def _told(outputs: Iterable[Mapping[str, Any]]) -> tuple[list[Obligation], list[Obligation], list[str]]:
    """Read outputs: obligations, advice and reasons."""
    obligations: list[Obligation] = []
    advice: list[Obligation] = []
    reasons: list[str] = []
    for output in outputs:
        source, value = output.get("src"), output["val"]
        if type(value) is dict and value.keys() & {"obligation", OBLIGATIONS}:
            obligations += _claimed(value, source)
        elif type(value) is str:
            reasons.append(value)
        else:
            advice.append(Obligation(OUTPUT, {"src": source, "val": value}))
    if len({one.id for one in obligations}) < len(obligations):
        message = "two obligations of one decision have one id"
        raise PDPReplyError(message)
    return obligations, advice, reasons


def _claimed(value: Mapping[str, Any], source: object) -> tuple[Obligation, ...]:
    """Read what says of itself that it is an obligation, or several."""
    if len(value) > 1:
        message = "an output that is an obligation has nothing beside `obligation` or `obligations`"
        raise PDPReplyError(message)
    if OBLIGATIONS in value:
        return obligations_from_context(value)
    one = value["obligation"]
    if type(one) is not dict or not one.keys() <= _MEMBERS:
        message = "`obligation` of an output must be a JSON object of `type`, `properties` and `id`"
        raise PDPReplyError(message)
    return obligations_from_context({OBLIGATIONS: [{"id": source, "type": None, "properties": {}} | one]})


def _object(value: object, what: str) -> dict[str, Any]:
    if type(value) is not dict:
        message = f"`{what}` of Cerbos's reply must hold JSON objects, not `{type(value).__name__}`"
        raise PDPReplyError(message)
    return value
