"""
What Cedar says, as decisions: only an exact Allow that known ``permit`` policies explain is a permit.

Imports L0 and the codec's own parts only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pep.errors import PDPMismatched, PDPReplyError
from pep.model import Decision, Effect
from pep.pdp.cedar_annotations import Clause
from pep.pdp.cedar_entities import Question
from pep.pdp.cedar_policies import Loaded
from pep.plan import Raised

#: How many policies that could not be evaluated a decision names.
MAX_NAMED: Final = 16

_ERRING: Final = re.compile(r"error while evaluating policy `(.*?)`: ", re.DOTALL)
_EFFECTS: Final = {"Allow": Effect.PERMIT, "Deny": Effect.DENY}


def answers(loaded: Loaded, asked: Sequence[Question], *, skip_errors: bool) -> list[Decision | Raised]:
    """
    Ask Cedar.

    Questions about the very same entities are one call. Others share none, since Cedar would let each see what the
    others say of an entity.

    Args:
        loaded: What it decides by.

        asked: The questions.

        skip_errors: Whether to trust it where it skipped policies.

    Returns:
        What came of each, in order.
    """
    groups: dict[tuple[str, bool, Any], list[int]] = {}
    for index, one in enumerate(asked):
        groups.setdefault((one.entities, one.beside, loaded.policies.of(one.action)), []).append(index)
    found: dict[int, Decision | Raised] = {}
    for (entities, beside, policies), indices in groups.items():
        try:
            results = _asked(loaded, policies, entities, [asked[index].ask for index in indices], beside=beside)
        except PDPReplyError as error:
            found |= dict.fromkeys(indices, Raised(error))
        else:
            for number, (index, result) in enumerate(zip(indices, results, strict=True)):
                found[index] = _told(result, loaded, str(number), skip_errors=skip_errors)
    return [found[index] for index in range(len(asked))]


def _asked(
    loaded: Loaded,
    policies: Any,  # noqa: ANN401  cedarpy's own
    entities: str,
    asks: Sequence[dict[str, Any]],
    *,
    beside: bool,
) -> list[Any]:
    """Put questions about the same entities in one call."""
    numbered = [{**ask, "correlation_id": str(number)} for number, ask in enumerate(asks)]
    try:
        around = entities
        if beside and loaded.fixed is not None:
            around = loaded.fixed.with_added_json_str(entities, loaded.schema)
        results = loaded.cedarpy.is_authorized_batch(numbered, policies, around, loaded.schema)
    except (ValueError, TypeError, KeyError):
        # What it says may quote the entities.
        message = "the entities of the request are none in Cedar, or do not fit the schema"
        raise PDPReplyError(message) from None
    if type(results) is not list or len(results) != len(asks):
        message = "Cedar answered more or fewer questions than it was asked"
        raise PDPMismatched(message)
    return results


def _told(result: Any, loaded: Loaded, number: str, *, skip_errors: bool) -> Decision | Raised:  # noqa: ANN401  cedarpy's
    try:
        return _decision(result, loaded, number, skip_errors=skip_errors)
    except PDPReplyError as error:
        return Raised(error)


def _decision(result: Any, loaded: Loaded, number: str, *, skip_errors: bool) -> Decision:  # noqa: ANN401  cedarpy's
    try:
        word, reasons, errors = result.decision.value, result.diagnostics.reasons, result.diagnostics.errors
    except (AttributeError, KeyError, TypeError):
        raise _malformed() from None
    if word == "NoDecision":
        # INVARIANT: its text quotes the request, and is never passed on.
        message = "Cedar could not take the question: it does not fit the schema, or an entity is none in Cedar"
        raise PDPReplyError(message)
    if type(word) is not str or word not in _EFFECTS or not _are_texts(reasons) or not _are_texts(errors):
        raise _malformed()
    if result.correlation_id != number:
        message = "Cedar answered another question than it was asked"
        raise PDPMismatched(message)
    effect = _EFFECTS[word]
    clauses = [_clause(one, loaded, effect) for one in reasons]
    if errors and not skip_errors:
        return _in_doubt(errors, loaded)
    if not clauses and effect is Effect.PERMIT:
        raise _malformed()
    return _explained(effect if clauses else Effect.NOT_APPLICABLE, clauses, loaded)


def _clause(name: str, loaded: Loaded, effect: Effect) -> Clause:
    """Return a policy that decided; one that is not known might demand what nobody would do."""
    clause = loaded.clauses.get(name)
    if clause is None or clause.effect is not effect:
        raise _malformed()
    return clause


def _explained(effect: Effect, clauses: Iterable[Clause], loaded: Loaded) -> Decision:
    # Cedar names them in any order.
    inorder = sorted(clauses, key=_by_name)
    return Decision(
        effect,
        obligations=[duty for one in inorder for duty in one.obligations],
        advice=[duty for one in inorder for duty in one.advice],
        reasons=[one.reason for one in inorder if one.reason is not None],
        policies=[one.name for one in inorder],
        revision=loaded.revision,
    )


def _in_doubt(errors: Iterable[str], loaded: Loaded) -> Decision:
    found = [match[1] for match in map(_ERRING.match, errors) if match is not None]
    named = sorted(loaded.clauses[name].name for name in found if name in loaded.clauses)[:MAX_NAMED]
    reasons = [f"policy `{name}` could not be evaluated" for name in named]
    return Decision(Effect.INDETERMINATE, reasons=reasons, policies=named, revision=loaded.revision)


def _by_name(clause: Clause) -> str:
    return clause.name


def _are_texts(value: object) -> bool:
    return type(value) is list and all(type(one) is str for one in value)


def _malformed() -> PDPReplyError:
    return PDPReplyError("Cedar's answer is no decision")
