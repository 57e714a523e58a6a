from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pep.errors import ConfigurationError, ObligationError
from pep.frozen import FrozenDict, frozen_items
from pep.model import Obligation
from pep.obligations.properties import Properties, Reading
from pep.rate import Rate

CANARY = "canary-7261"


def reading(value: Any, name: str = "p") -> Properties:
    return Properties(Obligation("kind", {name: value}))


def rate(properties: Properties) -> Any:
    return properties.parsed("p", Rate.parse, "a rate such as `10/minute`")


TAKEN: list[tuple[Callable[[Properties], Any], Any, Any]] = [
    (lambda p: p.text("p"), "a", "a"),
    (lambda p: p.texts("p"), ["a", "b"], ("a", "b")),
    (lambda p: p.flag("p"), True, True),
    (lambda p: p.flag("p"), False, False),
    (lambda p: p.integer("p"), -3, -3),
    (lambda p: p.integer("p", minimum=1, maximum=1), 1, 1),
    (lambda p: p.number("p"), 1.5, 1.5),
    (lambda p: p.number("p", minimum=-1), -1, -1),
    (lambda p: p.seconds("p"), 0, 0),
    (lambda p: p.seconds("p", maximum=60), 60, 60),
    (lambda p: p.moment("p"), 12, 12),
    (lambda p: p.moment("p"), "1970-01-01T00:01:00Z", 60.0),
    (lambda p: p.moment("p"), "1970-01-01t01:01:00.5+01:00", 60.5),
    (lambda p: p.moment("p"), "1970-01-01 00:00:00.123456z", 0.123456),
    (lambda p: p.choice("p", ("a", "b")), "b", "b"),
    (lambda p: p.mapping("p"), {"a": [1]}, FrozenDict({"a": [1]})),
    (lambda p: p.value("p"), None, None),
    (rate, "10/minute", Rate(10, 60)),
]

TEXT = "a text that is not empty"
TEXTS = "a list of different texts, at least one"
MOMENT = "a moment in RFC 3339 with its offset, or seconds since 1970"
REFUSED: list[tuple[Callable[[Properties], Any], Any, str]] = [
    *[(lambda p: p.text("p"), value, TEXT) for value in ("", 1, None, [CANARY], True)],
    *[(lambda p: p.texts("p"), value, TEXTS) for value in (CANARY, [], [CANARY, ""], [1], [CANARY, CANARY], None)],
    *[(lambda p: p.flag("p"), value, "`true` or `false`") for value in (1, 0, "true", None)],
    *[(lambda p: p.integer("p"), value, "a whole number") for value in (True, 1.0, "1", None, [1])],
    *[(lambda p: p.integer("p", minimum=1), value, "a whole number from 1 on") for value in (0, -7261)],
    (lambda p: p.integer("p", maximum=9), 7261, "a whole number up to 9"),
    (lambda p: p.integer("p", minimum=1, maximum=9), 7261, "a whole number from 1 to 9"),
    *[(lambda p: p.number("p"), value, "a number") for value in (False, "1.5", None, {"a": 1})],
    *[(lambda p: p.seconds("p"), value, "a number of seconds from 0 on") for value in (-1, -0.5, "60", True)],
    *[
        (lambda p: p.moment("p"), value, MOMENT)
        for value in (
            "2026-01-01T00:00:00",
            "2026-01-01",
            "2026-13-01T00:00:00Z",
            "2026-01-01T00:00:00.1234567Z",
            "2026-01-01T25:00:00Z",
            "\uff12026-01-01T00:00:00Z",
            CANARY,
            True,
            None,
        )
    ],
    *[(lambda p: p.choice("p", ("a", "b")), value, "one of `a`, `b`") for value in (CANARY, "", None, 1, ["a"])],
    *[(lambda p: p.mapping("p"), value, "a mapping that is not empty") for value in ({}, CANARY, [1], None)],
    *[(rate, value, "a rate such as `10/minute`") for value in (CANARY, "0/minute", "", 10, None)],
]


@pytest.mark.parametrize(("read", "value", "expected"), TAKEN)
def test_what_is_taken(read: Callable[[Properties], Any], value: Any, expected: Any) -> None:
    """A property of the right type and within its bounds is taken as it is."""
    properties = reading(value)
    assert read(properties) == expected
    assert type(read(properties)) is type(expected)
    properties.done()


@pytest.mark.parametrize(("read", "value", "what"), REFUSED)
def test_what_is_refused(read: Callable[[Properties], Any], value: Any, what: str) -> None:
    """Everything else fails with a message that names the obligation and the property, never the value."""
    with pytest.raises(ObligationError) as caught:
        read(reading(value))
    assert str(caught.value) == f"property `p` of obligation `kind` must be {what}"
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("read", [Properties.number, Properties.seconds, Properties.moment])
def test_what_is_not_finite_is_refused(read: Callable[[Properties, str], Any], value: float) -> None:
    """NaN and infinities are no numbers, even where an obligation was made around its own check."""
    obligation = Obligation("kind", frozen_items({"p": 1}))
    object.__setattr__(obligation, "properties", frozen_items({"p": value}))
    with pytest.raises(ObligationError, match="property `p` of obligation `kind` must be a"):
        read(Properties(obligation), "p")


MISSING: list[Callable[[Properties], Any]] = [
    lambda p: p.text("q"),
    lambda p: p.texts("q"),
    lambda p: p.flag("q"),
    lambda p: p.integer("q"),
    lambda p: p.number("q"),
    lambda p: p.seconds("q"),
    lambda p: p.moment("q"),
    lambda p: p.choice("q", ("a",)),
    lambda p: p.mapping("q"),
    lambda p: p.value("q"),
    lambda p: p.parsed("q", Rate.parse, "a rate"),
]


@pytest.mark.parametrize("read", MISSING)
def test_what_is_missing_is_refused(read: Callable[[Properties], Any]) -> None:
    """A property without a default has to be given."""
    with pytest.raises(ObligationError, match="property `q` of obligation `kind` is missing"):
        read(reading(CANARY))


DEFAULTS: list[tuple[Callable[[Properties], Any], Any]] = [
    (lambda p: p.text("q", ""), ""),
    (lambda p: p.texts("q", ["a"]), ("a",)),
    (lambda p: p.flag("q", default=True), True),
    (lambda p: p.integer("q", -1, minimum=1), -1),
    (lambda p: p.number("q", 0.5), 0.5),
    (lambda p: p.seconds("q", 60), 60),
    (lambda p: p.moment("q", 0), 0),
    (lambda p: p.choice("q", ("a",), "other"), "other"),
    (lambda p: p.mapping("q", {}), {}),
    (lambda p: p.value("q", None), None),
    (lambda p: p.parsed("q", Rate.parse, "a rate", None), None),
]


@pytest.mark.parametrize(("read", "expected"), DEFAULTS)
def test_defaults(read: Callable[[Properties], Any], expected: Any) -> None:
    """What was not given is its default, which need not be within the bounds."""
    assert read(reading(1)) == expected


def test_null_is_a_value() -> None:
    """A JSON null was given: it is no reason for a default."""
    with pytest.raises(ObligationError, match="must be a number"):
        reading(None).number("p", 1)


def test_unknown_properties_are_refused() -> None:
    """What nobody asked for was not understood, and so the obligation was not; a flood of names is cut short."""
    properties = Properties(Obligation("kind", {"known": 1, "unknown": CANARY, "other": 2}))
    properties.integer("known")
    assert "absent" not in properties
    with pytest.raises(ObligationError) as caught:
        properties.done()
    told = "obligation `kind` has unknown properties `other`, `unknown`; it knows `absent`, `known`"
    assert str(caught.value) == told
    with pytest.raises(ObligationError, match=r"unknown properties (`\d+`, ){4}`\d+`; it knows none"):
        Properties(Obligation("kind", {str(number): 1 for number in range(10)})).done()


def test_asking_whether_one_is_there_makes_it_known() -> None:
    """A property whose absence means something can be asked for."""
    properties = reading(1)
    assert "p" in properties
    properties.done()
    assert properties.type == "kind"


def test_errors_of_a_handlers_own() -> None:
    """What only a handler can tell is told in the same form."""
    error = reading(1).error("p", "must not be after `q`")
    assert type(error) is ObligationError
    assert str(error) == "property `p` of obligation `kind` must not be after `q`"


def test_a_reading_is_made_once_for_an_obligation() -> None:
    """The same obligation is read once; an equal one by itself, and a malformed one each time."""
    read: list[Any] = []

    def take(properties: Properties) -> int:
        read.append(properties)
        return properties.integer("p")

    understand, first = Reading(take), Obligation("kind", {"p": 1})
    assert [understand(first), understand(first), understand(Obligation("kind", {"p": 1}))] == [1, 1, 1]
    assert len(read) == 2
    for wrong in (Obligation("kind", {"p": 1, "q": 2}), Obligation("kind")):
        for _time in range(2):
            with pytest.raises(ObligationError):
                understand(wrong)
    assert len(read) == 6


def test_a_reading_keeps_so_many_obligations_only() -> None:
    """A decision point that sends new obligations each time fills no memory, and mixes none up."""
    understand = Reading(lambda properties: properties.integer("p"))
    for number in range(3 * 256):
        assert understand(Obligation("kind", {"p": number})) == number
    assert len(understand._kept) <= 256
    assert all(kept[0].properties["p"] == kept[1] for kept in understand._kept.values())


def test_parsers_may_raise_what_the_library_raises() -> None:
    """A parser says that it cannot by a `ValueError` or an error of the library's; anything else is its own bug."""

    def broken(_text: str) -> Any:
        raise KeyError(CANARY)

    def refusing(_text: str) -> Any:
        raise ConfigurationError(CANARY)

    with pytest.raises(ObligationError, match="must be fine"):
        reading("x").parsed("p", refusing, "fine")
    with pytest.raises(KeyError):
        reading("x").parsed("p", broken, "fine")
    assert type(reading({"a": 1}).mapping("p")) is FrozenDict
