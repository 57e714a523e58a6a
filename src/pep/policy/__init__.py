"""
The policy decision point in the box: attribute policies that decide, explain, filter and version.

Imports nothing beyond the core dependencies.
"""

from pep.policy.attributes import action, context, has, now, predicate, resource, subject
from pep.policy.partial import AllowAll, Conditional, DenyAll
from pep.policy.policies import PolicySet
from pep.policy.rule import Rule, deny, permit
from pep.policy.source import PolicySource

__all__ = [
    "AllowAll",
    "Conditional",
    "DenyAll",
    "PolicySet",
    "PolicySource",
    "Rule",
    "action",
    "context",
    "deny",
    "has",
    "now",
    "permit",
    "predicate",
    "resource",
    "subject",
]
