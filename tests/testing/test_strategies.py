"""The strategies generate the whole model, and nothing that is outside it."""

from __future__ import annotations

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from pep import AccessRequest, Action, Decision, Effect, Obligation, Resource, Subject
from pep.testing import strategies

#: Finding one is enough: nobody reads the smallest.
FINDING = settings(phases=[Phase.generate], max_examples=2000)


@given(strategies.requests())
def test_requests_survive_json(request: AccessRequest) -> None:
    """Whatever is generated is a request, and equals what its JSON reads back as."""
    assert AccessRequest.from_dict(request.to_dict()) == request


@given(strategies.subjects(), strategies.actions(), strategies.resources())
def test_parts_are_of_the_model(subject: Subject, action: Action, resource: Resource) -> None:
    """Each strategy generates what it is named after."""
    assert (type(subject), type(action), type(resource)) == (Subject, Action, Resource)


@given(strategies.decisions(strategies.obligations(st.sampled_from(["redact", "tell"]))))
def test_decisions_owe_what_was_given(decision: Decision) -> None:
    """Obligations are of the types a test names."""
    assert all(type(duty) is Obligation and duty.type in {"redact", "tell"} for duty in decision.obligations)


@pytest.mark.parametrize("effect", Effect)
def test_every_effect_is_generated(effect: Effect) -> None:
    """No effect is left out."""
    assert find(strategies.decisions(), lambda decision: decision.effect is effect, settings=FINDING).effect is effect


@pytest.mark.parametrize("name", ["é", "e\u0301", "\x00", "\r\n"])
def test_awkward_names_are_generated(name: str) -> None:
    """Names that have been mistaken for one another are among those tried."""
    assert find(strategies.subjects(), lambda subject: subject.id == name, settings=FINDING).id == name


def test_new_resources_and_actors_are_generated() -> None:
    """So are resources without an id, and those who act for somebody."""
    assert find(strategies.resources(), lambda resource: resource.is_new, settings=FINDING).is_new
    assert find(strategies.requests(), lambda request: len(request.actors) > 1, settings=FINDING).actors
