"""An obligation handler returns the call or a refusal, and raises on what it does not understand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pep import AccessRequest, Obligation, Outcome, Resource, Subject
from pep.protocols import Call, Phase, Refusal
from pep.testing import FakeHandler, NotConforming, check_handler

TELL = Obligation("tell")
CALL = Call(AccessRequest(Subject("user", "alice"), "edit", Resource("document", "1")), {"title": "new"})


def _strict(seen: Call) -> Call:
    return seen.with_arguments(title="newer")


@pytest.mark.parametrize(
    "make",
    [
        lambda: FakeHandler("tell"),
        lambda: FakeHandler("tell", does=_strict),
        lambda: FakeHandler("tell", refuses=Refusal(Outcome.RATE_LIMITED)),
    ],
    ids=["as it was", "changed", "refused"],
)
def test_handlers_conform(make: Callable[[], Any]) -> None:
    """To leave the call, to change it and to refuse it are all there is."""
    check_handler(make, obligation=TELL, call=CALL)


class Strict(FakeHandler):
    """Understands one property."""

    def discharge(self, obligation: Obligation, call: Call) -> Any:
        if obligation.properties.keys() - {"to"}:
            raise ValueError
        return super().discharge(obligation, call)


def test_what_is_not_understood_is_refused() -> None:
    """A malformed obligation raises, so that the call is denied."""
    malformed = [Obligation("tell", {"two": "bob"})]
    check_handler(lambda: Strict("tell"), obligation=TELL, call=CALL, malformed=malformed)
    with pytest.raises(NotConforming, match="does not understand"):
        check_handler(lambda: FakeHandler("tell"), obligation=TELL, call=CALL, malformed=malformed)


class OneType(FakeHandler):
    types = "tell"

    def __init__(self) -> None:
        super().__init__("tell")
        self.types = "tell"


NOT_CONFORMING = {
    "a handler has": object,
    "`types`": lambda: FakeHandler("other"),
    "a set": OneType,
    "`phase`": lambda: FakeHandler("tell", phase=Phase.AFTER),
    "returns the call": lambda: FakeHandler("tell", does=lambda _call: None),
}


@pytest.mark.parametrize(("rule", "make"), NOT_CONFORMING.items(), ids=NOT_CONFORMING)
def test_what_breaks_a_rule_is_told_which(rule: str, make: Callable[[], Any]) -> None:
    """Each rule is able to fail."""
    with pytest.raises(NotConforming, match=rule):
        check_handler(make, obligation=TELL, call=CALL)
