"""The public names, pinned: what is not here may change; what is here does not go by accident."""

from __future__ import annotations

import importlib
import inspect

import pytest

import pep

#: Module -> the names that users import from it.
PUBLIC = {
    "pep": (
        "ANONYMOUS AccessDenied AccessRequest Action Canary Decision Effect Enforce Enforcer FailClosed FailOpen "
        "FailStale Fault Grant Guarantee Guarded Obligation Outcome PEPError Profile Profiles Resource ResourceId "
        "Shadow Subject Verdict acting_as approval carry coverage current_subject"
    ),
    "pep.errors": (
        "PEPError AccessDenied NotVisible ConfirmationRequired StepUpRequired RateLimited DecisionUnavailable "
        "ExtractionError AttributeProviderError ObligationError AuditError PDPError PDPUnavailable PDPTimeout "
        "PDPOverloaded PDPRejected PDPReplyError ConfigurationError GuardWarning"
    ),
    "pep.protocols": "PDP Sink Observer Extractor AttributeProvider ObligationHandler Phase Call Clock Refusal Rank",
    "pep.plan": "Plan sleep call gather attempt",
    "pep.policy": "PolicySet permit deny subject resource action context has now",
    "pep.audit": "MemorySink FileSink Record Kind",
    "pep.pdp": "FunctionPDP",
    "pep.cache": "DecisionCache",
}

#: The methods of an enforcer that come in pairs: name -> the async half.
PAIRS = "enforce check check_many filter row_filter invalidate invalidate_all health close"


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_there(module: str) -> None:
    """Every public name can be imported, and has a docstring where it is a class or function."""
    found = importlib.import_module(module)
    for name in PUBLIC[module].split():
        value = getattr(found, name)
        is_class = inspect.isclass(value) and not hasattr(value, "__origin__")
        if is_class or inspect.isfunction(value):
            assert inspect.getdoc(value), name


def test_nothing_else_is_public() -> None:
    """`pep.__all__` is sorted, and is exactly the pinned names."""
    assert pep.__all__ == sorted(pep.__all__)
    assert set(pep.__all__) == set(PUBLIC["pep"].split())


@pytest.mark.parametrize("name", PAIRS.split())
def test_methods_come_in_pairs(name: str) -> None:
    """Each has an async half that takes the same arguments."""
    sync, asynchronous = getattr(pep.Enforcer, name), getattr(pep.Enforcer, f"a{name}")
    assert list(inspect.signature(sync).parameters) == list(inspect.signature(asynchronous).parameters)
