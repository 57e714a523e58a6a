"""
Rules: what a policy permits or denies, to whom, on what, when.

Imports conditions and the model.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from functools import lru_cache
from typing import Any, Final

import attrs

from pep.errors import ConfigurationError
from pep.model import AccessRequest, Effect, Obligation
from pep.policy.condition import Condition, Not, check_size, conjunction

#: What a rule may name in `action=`, `resource=` and `subject=`: a name, a pattern, or several of them.
Names = str | Enum | Iterable[str | Enum] | None

_MAX_ID: Final = 512


@attrs.frozen(cache_hash=True)
class Target:
    """
    The names a rule is about: exact ones, and patterns of whole ``:``-separated segments.

    ``*`` is one segment, a final ``**`` one or more. No names at all means any.
    """

    names: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether it names something, and nothing by pattern."""
        return bool(self.names) and not any("*" in name for name in self.names)

    def matches(self, name: str, qualified: str | None = None) -> bool:
        """Whether a name, or its qualified form where the pattern has a colon, is meant."""
        return not self.names or any(
            matches(pattern, qualified if qualified is not None and ":" in pattern else name) for pattern in self.names
        )


#: What a rule that names nothing is about.
ANY: Final = Target(())


@attrs.frozen
class Rule:
    """
    One rule; build it by `permit` or `deny`.

    Attributes:
        id: Its name in records, unique in a policy set.

        effect: `Effect.PERMIT` or `Effect.DENY`.

        actions: Which actions it is about; a name with a colon also means the qualified action.

        resources: Which types of resource.

        subjects: Which types of subject.

        when: What must be true for it to apply, if anything.

        unless: What must be false for it to apply, if anything.

        obligations: What must be done if its effect is the decision's.

        advice: What may be done then.

        reason: Why, for the record.
    """

    id: str
    effect: Effect
    actions: Target = ANY
    resources: Target = ANY
    subjects: Target = ANY
    when: Condition | None = None
    unless: Condition | None = None
    obligations: tuple[Obligation, ...] = ()
    advice: tuple[Obligation, ...] = ()
    reason: str | None = None

    def about(self, request: AccessRequest) -> bool:
        """Whether its target matches a request; its condition is another matter."""
        return (
            self.actions.matches(request.action.name, request.qualified_action)
            and self.resources.matches(request.resource.type)
            and self.subjects.matches(request.subject.type)
        )

    @property
    def condition(self) -> Condition | None:
        """What decides whether it applies: *when*, and not *unless*."""
        if self.unless is None:
            return self.when
        return Not(self.unless) if self.when is None else conjunction(self.when, Not(self.unless))


def permit(
    id: str,  # noqa: A002  what a rule's name is called everywhere
    *,
    action: Names = None,
    resource: Names = None,
    subject: Names = None,
    when: Condition | None = None,
    unless: Condition | None = None,
    obligations: Iterable[Obligation] = (),
    advice: Iterable[Obligation] = (),
    reason: str | None = None,
) -> Rule:
    """
    Permit what matches; any denial that matches too overrides it.

    Args:
        id: The rule's name, unique in its policy set.

        action: Names or patterns of actions: ``"edit"``, ``"document:*"``, ``{"read", "list"}``; None is any.
            One with a colon also matches the action qualified by the type of the resource.

        resource: Names or patterns of resource types; None is any.

        subject: Names or patterns of subject types; None is any.

        when: What must be true.

        unless: What must be false.

        obligations: What must be done for the permit to hold.

        advice: What may be done, and may be ignored.

        reason: Why, for the record; never shown to the caller.

    Returns:
        A frozen rule.

    Raises:
        ConfigurationError: On a part of another type, a malformed pattern, or a condition that is too large.

    Source:
        DESIGN section 11; XACML 3.0 §7.11 (rule evaluation).
    """
    return _rule(Effect.PERMIT, id, action, resource, subject, when, unless, obligations, advice, reason)


def deny(
    id: str,  # noqa: A002  what a rule's name is called everywhere
    *,
    action: Names = None,
    resource: Names = None,
    subject: Names = None,
    when: Condition | None = None,
    unless: Condition | None = None,
    obligations: Iterable[Obligation] = (),
    advice: Iterable[Obligation] = (),
    reason: str | None = None,
) -> Rule:
    """
    Deny what matches; it overrides every permit.

    Where its condition is unknown the decision is indeterminate: a denial never silently drops out.
    Its arguments are those of `permit`; its obligations and advice are for the denial.
    """
    return _rule(Effect.DENY, id, action, resource, subject, when, unless, obligations, advice, reason)


def target(names: object, what: str) -> Target:
    """
    Read the names or patterns a rule is about.

    Raises:
        ConfigurationError: On an empty set, an empty name, or a ``*`` that is no whole segment.
    """
    if names is None:
        return ANY
    if type(names) is str:
        return _named(names, what)
    if isinstance(names, Enum):
        return Target((_pattern(names, what),))
    if type(names) not in {list, tuple, set, frozenset} or not names:
        message = f"`{what}` must be a name, a pattern, or a set of them that is not empty; leave it out for any"
        raise ConfigurationError(message)
    return Target(tuple(sorted({_pattern(name, what) for name in names})))  # type: ignore[attr-defined]


def matches(pattern: str, name: str) -> bool:
    """Whether a name has the segments a pattern asks for."""
    if "*" not in pattern:
        return pattern == name
    wanted, found = pattern.split(":"), name.split(":")
    if wanted[-1] == "**":
        wanted.pop()
        if len(found) <= len(wanted):
            return False
        found = found[: len(wanted)]
    return len(wanted) == len(found) and all(one in ("*", other) for one, other in zip(wanted, found, strict=True))


def _rule(  # noqa: PLR0917  these are the parts of a rule
    effect: Effect,
    name: object,
    action: object,
    resource: object,
    subject: object,
    when: object,
    unless: object,
    obligations: object,
    advice: object,
    reason: object,
) -> Rule:
    if type(name) is not str or not name or len(name) > _MAX_ID:
        message = f"a rule's id must be exactly a `str` of 1 to {_MAX_ID} characters"
        raise ConfigurationError(message)
    return Rule(
        name,
        effect,
        target(action, "action"),
        target(resource, "resource"),
        target(subject, "subject"),
        _condition(when, "when", name),
        _condition(unless, "unless", name),
        _duties(obligations, "obligations", name),
        _duties(advice, "advice", name),
        _reason(reason, name),
    )


@lru_cache(maxsize=1024)
def _named(name: str, what: str) -> Target:
    return Target((_pattern(name, what),))


def _pattern(name: object, what: str) -> str:
    if isinstance(name, Enum):
        name = name.value
    if type(name) is not str or not name:
        message = f"a name in `{what}` must be exactly a `str`, and not empty"
        raise ConfigurationError(message)
    segments = name.split(":")
    # Only patterns have rules of their own; an exact name is opaque.
    if "*" in name and not ("" not in segments and all("*" not in s or s == "*" for s in segments[:-1])):
        _malformed(name, what)
    if "*" in segments[-1] and segments[-1] not in {"*", "**"}:
        _malformed(name, what)
    return name


def _malformed(name: str, what: str) -> None:
    message = f"malformed pattern `{name}` in `{what}`; `*` is one whole segment, a final `**` one or more"
    raise ConfigurationError(message)


def _condition(value: object, what: str, rule: str) -> Condition | None:
    if value is None:
        return None
    if not isinstance(value, Condition):
        message = (
            f"`{what}` of rule `{rule}` must be a condition, not `{type(value).__name__}`; "
            "compare an attribute, as in `resource.owner == subject.id`"
        )
        raise ConfigurationError(message)
    check_size(value)
    return value


def _duties(value: Any, what: str, rule: str) -> tuple[Obligation, ...]:  # noqa: ANN401  checked here
    if type(value) not in {list, tuple} or any(type(one) is not Obligation for one in value):
        message = f"`{what}` of rule `{rule}` must be a list of `Obligation`"
        raise ConfigurationError(message)
    return tuple(value)


def _reason(value: object, rule: str) -> str | None:
    if value is not None and (type(value) is not str or not value):
        message = f"the reason of rule `{rule}` must be a `str`, and not empty"
        raise ConfigurationError(message)
    return value
