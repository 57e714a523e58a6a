"""
An in-process policy enforcement point: protected code never runs without a recorded permit.

Imports no adapter and no optional dependency.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pep.enforcer import Enforcer
from pep.errors import AccessDenied, PEPError
from pep.extract import Guarded, ResourceId
from pep.fault import Fault
from pep.model import (
    ANONYMOUS,
    AccessRequest,
    Action,
    Decision,
    Effect,
    Obligation,
    Resource,
    Subject,
)
from pep.profile import (
    Canary,
    Enforce,
    FailClosed,
    FailOpen,
    FailStale,
    Guarantee,
    Profile,
    Shadow,
)
from pep.profiles import Profiles
from pep.scope import acting_as, approval, carry, current_subject
from pep.verdict import Grant, Outcome, Verdict

if TYPE_CHECKING:
    from pep.guard.coverage import Coverage

__all__ = [
    "ANONYMOUS",
    "AccessDenied",
    "AccessRequest",
    "Action",
    "Canary",
    "Decision",
    "Effect",
    "Enforce",
    "Enforcer",
    "FailClosed",
    "FailOpen",
    "FailStale",
    "Fault",
    "Grant",
    "Guarantee",
    "Guarded",
    "Obligation",
    "Outcome",
    "PEPError",
    "Profile",
    "Profiles",
    "Resource",
    "ResourceId",
    "Shadow",
    "Subject",
    "Verdict",
    "acting_as",
    "approval",
    "carry",
    "coverage",
    "current_subject",
]


def coverage(*packages: str) -> Coverage:
    """
    Tell what is guarded in packages, and what is not.

    Args:
        packages: Names of packages or modules; every submodule is imported.

    Returns:
        What is guarded, exempt and unguarded, with file and line.

    Raises:
        ConfigurationError: When a package cannot be imported, or none is named.
    """
    from pep.guard.coverage import coverage as survey  # noqa: PLC0415  it is for tests and CI, not for every start

    return survey(*packages)
