"""A scripted decision point answers what its script says, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from pep import AccessRequest, Action, Decision, Effect, Resource, Subject
from pep.errors import ConfigurationError
from pep.testing import ScriptedPDP, deny_all, permit_all

ALICE = Subject("user", "alice")
EDIT = AccessRequest(ALICE, "edit", Resource("document", "1"))
READ = AccessRequest(ALICE, "read", Resource("document", "2"))
CREATE = AccessRequest(ALICE, "edit", Resource.new("document"))


@pytest.mark.parametrize(
    ("matcher", "matched"),
    [
        ("edit", [EDIT, CREATE]),
        (("edit",), [EDIT, CREATE]),
        (("edit", "document"), [EDIT, CREATE]),
        (("edit", "document", "1"), [EDIT]),
        (("edit", "folder"), []),
        (EDIT, [EDIT]),
        (lambda request: request.resource.is_new, [CREATE]),
    ],
)
def test_a_matcher_matches(matcher: Any, matched: list[AccessRequest]) -> None:
    """An action, a tuple, a whole request or a function says which requests an entry is for."""
    pdp = ScriptedPDP([(matcher, True)])
    assert [request for request in (EDIT, READ, CREATE) if pdp.decide(request) is True] == matched


def test_the_first_match_counts() -> None:
    """Entries are tried in order."""
    pdp = ScriptedPDP([(("edit", "document", "1"), False), ("edit", True)])
    assert [pdp.decide(EDIT), pdp.decide(CREATE)] == [False, True]


def test_what_matches_nothing_is_not_applicable() -> None:
    """A question nobody wrote an answer to is denied, and remembered."""
    pdp = ScriptedPDP({"edit": True})
    assert pdp.decide(READ) == Decision(Effect.NOT_APPLICABLE)
    assert pdp.unmatched == [READ]


def test_every_question_is_remembered() -> None:
    """What was asked can be asserted, in order."""
    pdp = ScriptedPDP({"edit": True})
    for request in (READ, EDIT, READ):
        pdp.decide(request)
    assert pdp.asked == [READ, EDIT, READ]


def test_every_sort_of_answer() -> None:
    """An answer may be a bool, an effect, a decision, or computed."""
    decision = Decision(Effect.DENY, reasons=("because",))
    answers = [True, False, Effect.INDETERMINATE, decision, lambda request: request.action == Action("edit")]
    given = [ScriptedPDP({"edit": answer}).decide(EDIT) for answer in answers]
    assert given == [True, False, Decision(Effect.INDETERMINATE), decision, True]


def test_an_exception_is_raised() -> None:
    """An answer that is an exception is raised, not returned."""
    pdp = ScriptedPDP({"edit": ConnectionError("down")})
    with pytest.raises(ConnectionError, match="down"):
        pdp.decide(EDIT)


@pytest.mark.parametrize("matcher", [None, 1, (), ("edit", 1), ("edit", "document", "1", "more"), ["edit"]])
def test_a_matcher_that_could_never_match_is_refused(matcher: Any) -> None:
    """A script with a mistake in it fails where it was written."""
    with pytest.raises(ConfigurationError, match="matches no request"):
        ScriptedPDP([(matcher, True)])


def test_permit_all_and_deny_all() -> None:
    """Each answers everything alike."""
    assert [permit_all().decide(request) for request in (EDIT, READ)] == [True, True]
    assert [deny_all().decide(request) for request in (EDIT, READ)] == [False, False]


def test_repr_names_it() -> None:
    """A script shows its name and size."""
    assert repr(ScriptedPDP({"edit": True}, name="mine")) == "<ScriptedPDP 'mine' of 1 entries>"
