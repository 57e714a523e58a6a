from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import pytest

from pep import errors
from pep.errors import (
    AccessDenied,
    ConfirmationRequired,
    DecisionUnavailable,
    NotVisible,
    PEPError,
    RateLimited,
    StepUpRequired,
)
from pep.fault import Fault
from pep.model import AccessRequest, Decision, Effect, Resource, Subject
from pep.verdict import Outcome, Verdict

REQUEST = AccessRequest(Subject("user", "canary-id", {"a": "canary"}), "read", Resource("document", "canary"))


def verdict(outcome: Outcome = Outcome.DENIED, **changes: Any) -> Verdict:
    return Verdict("r-1", outcome, REQUEST, Decision(Effect.DENY, reasons=["canary"]), **changes)


def tree() -> list[tuple[type[BaseException], type[BaseException]]]:
    """Read the tree drawn at the top of the file."""
    found: list[tuple[type[BaseException], type[BaseException]]] = []
    path: list[type[BaseException]] = [PEPError]
    for line in str(errors.__doc__).splitlines():
        drawn = re.match(r"    ((?:│   |    )*)[├└]── (\w+)", line)
        if drawn:
            depth = len(drawn[1]) // 4
            kind = getattr(errors, drawn[2])
            path[depth + 1 :] = [kind]
            found.append((kind, path[depth]))
    return found


@pytest.mark.parametrize(("kind", "parent"), tree(), ids=lambda kind: kind.__name__)
def test_the_drawn_tree_is_the_tree(kind: type[BaseException], parent: type[BaseException]) -> None:
    """Every error hangs where the drawing has it."""
    assert kind.__bases__ == (parent,)


def test_the_drawing_is_complete() -> None:
    """There is no error that is not drawn."""
    defined = {kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, PEPError)}
    assert defined == {kind for kind, _ in tree()} | {PEPError}


@pytest.mark.parametrize("builtin", [OSError, LookupError, ValueError, TypeError, RuntimeError, ArithmeticError])
def test_errors_are_no_builtins(builtin: type[BaseException]) -> None:
    """A denial that is an `OSError` or the like gets swallowed as one."""
    assert not any(issubclass(kind, builtin) for kind, _ in tree())
    assert PEPError.__bases__ == (Exception,)


DENIALS = {
    AccessDenied: (Outcome.DENIED, {}),
    NotVisible: (Outcome.DENIED, {"hidden": True}),
    ConfirmationRequired: (Outcome.CONFIRMATION_REQUIRED, {"demands": {"approval": "a-1"}}),
    StepUpRequired: (Outcome.STEP_UP_REQUIRED, {"demands": {"acr_values": ["mfa"], "max_age": 60}}),
    RateLimited: (Outcome.RATE_LIMITED, {"demands": {"retry_after": 7}}),
    DecisionUnavailable: (Outcome.UNAVAILABLE, {"fault": Fault.TIMEOUT}),
}
per_denial = pytest.mark.parametrize("kind", DENIALS)


def denial(kind: type[AccessDenied]) -> AccessDenied:
    outcome, changes = DENIALS[kind]
    with pytest.raises(AccessDenied) as caught:
        verdict(outcome, **changes).raise_if_denied()
    assert type(caught.value) is kind
    return caught.value


@per_denial
def test_messages_name_the_record_and_nothing_else(kind: type[AccessDenied]) -> None:
    """Whoever is denied learns the record's id, not why, and not about what."""
    error = denial(kind)
    assert str(error) == "access denied (record r-1)"
    assert "canary" not in repr(error)
    assert error.record == error.verdict.id == "r-1"


@per_denial
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_denials_pickle_without_their_verdict(kind: type[AccessDenied], protocol: int) -> None:
    """A denial crosses to another process with all it tells; the verdict stays, and says where to look."""
    error = denial(kind)
    again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301  our own bytes
    assert type(again) is kind
    assert str(again) == str(error)
    told = {name: value for name, value in vars(error).items() if name != "_verdict"}
    assert {name: value for name, value in vars(again).items() if name != "_verdict"} == told
    with pytest.raises(AttributeError, match="look up `record` in the audit log"):
        _ = again.verdict
    assert b"canary" not in pickle.dumps(error, protocol)
    assert str(copy.copy(error)) == str(error)
    assert str(pickle.loads(pickle.dumps(again))) == str(error)  # noqa: S301  our own bytes


def test_other_errors_pickle() -> None:
    """Every other error pickles as it is."""
    for kind, _ in tree():
        if not issubclass(kind, AccessDenied):
            again = pickle.loads(pickle.dumps(kind("what happened")))  # noqa: S301  our own bytes
            assert (type(again), again.args) == (kind, ("what happened",))


def test_denials_of_integrations_pickle_too() -> None:
    """A subclass with a constructor of its own is rebuilt without calling it."""
    again = pickle.loads(pickle.dumps(Teapot(verdict(), status=418)))  # noqa: S301  our own bytes
    assert (type(again), again.status, again.record) == (Teapot, 418, "r-1")


class Teapot(AccessDenied):
    """A denial of some integration's own."""

    def __init__(self, verdict: Verdict, *, status: int) -> None:
        super().__init__(verdict)
        self.status = status


def test_denials_tell_what_is_demanded() -> None:
    """What a caller must bring is on the denial, in its own type and unit."""
    confirmation, step_up, limited = (denial(kind) for kind in (ConfirmationRequired, StepUpRequired, RateLimited))
    assert isinstance(confirmation, ConfirmationRequired)
    assert isinstance(step_up, StepUpRequired)
    assert isinstance(limited, RateLimited)
    assert confirmation.approval == "a-1"
    assert (step_up.acr_values, step_up.max_age) == (("mfa",), 60)
    assert limited.retry_after == 7.0


def test_denials_without_demands_have_usual_ones() -> None:
    """Where a handler named no demand, there is none; another attempt is worth a second's wait."""
    assert ConfirmationRequired(verdict()).approval is None
    assert StepUpRequired(verdict()).acr_values == ()
    assert StepUpRequired(verdict()).max_age is None
    assert RateLimited(verdict()).retry_after == 1.0
    assert RateLimited(verdict(demands={"retry_after": 0})).retry_after == 1.0


def test_warnings_are_no_errors() -> None:
    """A guard that is easily undone is warned of."""
    assert issubclass(errors.GuardWarning, UserWarning)
    assert not issubclass(errors.GuardWarning, PEPError)
