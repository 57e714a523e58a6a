from __future__ import annotations

import hmac
from collections.abc import Iterator
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest

from pep import Enforcer, acting_as
from pep.audit import MemorySink
from pep.canonical import digest
from pep.errors import AccessDenied, ConfigurationError, ObligationError
from pep.model import AccessRequest, Obligation, Resource, Subject
from pep.obligations.paths import Path
from pep.obligations.redact import Redact
from pep.policy import PolicySet, permit
from pep.protocols import Call, Phase
from pep.testing.conformance import check_handler

REQUEST = AccessRequest(Subject("user", "alice"), "read", Resource("document", "42"))
SECRET = b"0123456789abcdef"
CANARY = "canary-7261"
HANDLER = Redact(secret=SECRET)


def after(value: Any) -> Call:
    return Call(REQUEST, {"a": 1}, value, Phase.AFTER)


def result_of(kind: str, value: Any, handler: Redact = HANDLER, **properties: Any) -> Any:
    return handler.discharge(Obligation(kind, properties), after(value)).result


def hashed(value: Any) -> str:
    return "hmac-sha256:" + hmac.digest(SECRET, digest({"value": value}).encode(), "sha256").hex()


@pytest.mark.parametrize("value", [CANARY, 7261, 1.5, None, True, b"x", Decimal(1), [CANARY], {"a": CANARY}, object()])
def test_redaction_replaces_whatever_is_there(value: Any) -> None:
    """A redacted field tells nothing of what it was, whatever its type."""
    original = {"secret": value, "other": 1}
    assert result_of("redact", original, fields=["secret"]) == {"secret": "***", "other": 1}
    assert original == {"secret": value, "other": 1}


@pytest.mark.parametrize("replacement", [None, 0, "", "hidden", [1], {"a": 1}])
def test_what_stands_in_its_place(replacement: Any) -> None:
    """A policy may say what stands in the place of a field: a value of the right type keeps a type's promise."""
    result = result_of("redact", {"secret": CANARY}, fields=["secret"], replacement=replacement)
    assert result == {"secret": Obligation("x", {"v": replacement}).properties["v"]}


MASKED: list[tuple[Any, dict[str, Any], str]] = [
    ("4111111111111111", {}, "***1111"),
    (4111111111111111, {}, "***1111"),
    ("4111111111111111", {"keep": 2}, "***11"),
    ("4111111111111111", {"keep": 0}, "***"),
    ("4111111111111111", {"keep": 100}, "***1111"),
    ("12345678", {}, "***78"),
    ("1234567", {}, "***7"),
    ("123", {}, "***"),
    ("", {}, "***"),
    (-42, {}, "***"),
    (True, {}, "***"),
    (None, {}, "***"),
    (1234567.75, {}, "***"),
    (b"1234567890", {}, "***"),
    (["1234567890"], {}, "***"),
]


@pytest.mark.parametrize(("value", "properties", "expected"), MASKED)
def test_masks_show_the_end(value: Any, properties: dict[str, Any], expected: str) -> None:
    """A mask shows at most a quarter, at the end, of a text or whole number, and nothing of anything else."""
    assert result_of("mask", {"card": value}, fields=["card"], **properties) == {"card": expected}


def test_hashes_are_keyed_and_typed() -> None:
    """Equal values of one type hash alike, under the secret; others do not."""
    values = [1, 1.0, True, "1", None, "2", [1], {"a": 1}, Decimal(1)]
    told = result_of("hash", values, fields=["*"])
    assert told == [hashed(value) for value in values]
    assert len(set(told)) == len(values)
    assert told != result_of("hash", values, Redact(secret=SECRET[::-1]), fields=["*"])
    with pytest.raises(
        ObligationError, match="property `fields` of obligation `hash` leads to a value that cannot be h"
    ):
        result_of("hash", {"a": object()}, fields=["a"])


def test_a_hash_without_a_secret_fails() -> None:
    """Whoever has no secret could be undone by trying every number there is."""
    with pytest.raises(
        ObligationError, match=r"property `fields` of obligation `hash` cannot be hashed .*secret=\.\.\."
    ):
        result_of("hash", {"a": 1}, Redact(), fields=["a"])
    assert result_of("mask", {"a": 1}, Redact(), fields=["a"]) == {"a": "***"}


@pytest.mark.parametrize("secret", ["0123456789abcdef", b"short", b"", 7, bytearray(SECRET)])
def test_weak_secrets_are_refused(secret: Any) -> None:
    """A secret is long enough, and bytes."""
    with pytest.raises(ConfigurationError, match="`secret` takes at least 16 random bytes"):
        Redact(secret=secret)


def test_a_secret_is_not_shown() -> None:
    """Neither the handler nor what it raises shows the secret."""
    assert (repr(HANDLER), repr(Redact())) == ("Redact(with a secret)", "Redact(without a secret)")


def test_fields_are_dropped() -> None:
    """A dropped field is gone; positions are those before."""
    value = {"rows": [{"id": 1, "secret": CANARY}, {"id": 2, "secret": CANARY}], "aside": 1}
    assert result_of("drop", value, fields=["rows.*.secret", "aside"]) == {"rows": [{"id": 1}, {"id": 2}]}
    assert result_of("drop", [1, 2, 3], fields=["0", "1"]) == [3]
    assert result_of("drop", CANARY, fields=["."]) is None


def test_what_is_missing_fails_unless_it_is_ignored() -> None:
    """A field that is not there is a policy for something else, unless the policy says that it may be missing."""
    with pytest.raises(ObligationError) as caught:
        result_of("redact", {"a": CANARY}, fields=["b"])
    assert str(caught.value) == "property `fields` of obligation `redact` leads to a part that is not there"
    assert result_of("redact", {"a": 1}, fields=["b"], missing="ignore") == {"a": 1}
    with pytest.raises(ObligationError, match="cannot be looked into"):
        result_of("redact", iter([CANARY]), fields=["*"], missing="ignore")


def test_arguments_are_redacted_before_the_code() -> None:
    """With `arguments` as its target, the code gets the copy; every other argument is the very same object."""
    patient, aside = {"ssn": CANARY, "name": "Pat"}, object()
    obligation = Obligation("redact", {"fields": ["patient.ssn"], "target": "arguments"})
    call = Call(REQUEST, MappingProxyType({"patient": patient, "aside": aside}))
    left = HANDLER.discharge(obligation, call)
    assert dict(left.arguments) == {"patient": {"ssn": "***", "name": "Pat"}, "aside": aside}
    assert patient == {"ssn": CANARY, "name": "Pat"}
    whole = Obligation("mask", {"fields": ["patient"], "target": "arguments"})
    assert HANDLER.discharge(whole, call).arguments["patient"] == "***"


def test_an_argument_may_be_known_elsewhere() -> None:
    """What one argument holds is no way back to another: a method's own object knows its arguments."""
    patient = {"ssn": CANARY}
    call = Call(REQUEST, {"self": [patient], "patient": patient})
    obligation = Obligation("redact", {"fields": ["patient.ssn"], "target": "arguments"})
    assert HANDLER.discharge(obligation, call).arguments == {"self": [patient], "patient": {"ssn": "***"}}


def test_when_and_what() -> None:
    """An obligation says by its target when it is due, and by its fields what it writes."""
    late = Obligation("redact", {"fields": ["a.b", "*.c"]})
    early = Obligation("redact", {"fields": ["a"], "target": "arguments"})
    assert (HANDLER.when(late), HANDLER.when(early)) == (Phase.AFTER, Phase.BEFORE)
    assert HANDLER.writes(late, after(1)) == (Path.parse("a.b"), Path.parse("*.c"))
    dropped = Obligation("drop", {"fields": ["a.0", "b"]})
    positions = (Path.parse("a").positions(), Path(()).positions())
    assert HANDLER.writes(dropped, after(1)) == (Path.parse("a.0"), Path.parse("b"), *positions)
    assert HANDLER.writes(Obligation("drop", {"fields": ["."]}), after(1)) == (Path(()),)


MALFORMED: list[tuple[str, dict[str, Any], str]] = [
    ("redact", {}, "property `fields` of obligation `redact` is missing"),
    *[
        ("redact", {"fields": fields}, "property `fields` of obligation `redact` must be a list of paths")
        for fields in (CANARY, [], None, 1, {"a": 1}, True)
    ],
    *[
        ("mask", {"fields": [fields]}, "property `fields` of obligation `mask` holds what is no path")
        for fields in ("", "canary-7261.", 1, None, [1], {"a": 1}, ["a"] * 33)
    ],
    ("drop", {"fields": [CANARY, CANARY]}, "property `fields` of obligation `drop` is ambiguous"),
    ("drop", {"fields": [CANARY, "*"]}, "property `fields` of obligation `drop` is ambiguous"),
    ("redact", {"fields": ["a"], "target": CANARY}, "property `target` of obligation `redact` must be one of"),
    ("redact", {"fields": ["a"], "missing": True}, "property `missing` of obligation `redact` must be one of"),
    ("redact", {"fields": ["a"], "keep": 7261}, "obligation `redact` has unknown properties `keep`"),
    ("drop", {"fields": ["a"], "replacement": CANARY}, "obligation `drop` has unknown properties `replacement`"),
    *[
        (
            "mask",
            {"fields": ["a"], "keep": keep},
            "property `keep` of obligation `mask` must be a whole number from 0 on",
        )
        for keep in (-7261, 1.5, True, CANARY, None)
    ],
    *[
        (
            "redact",
            {"fields": [field], "target": "arguments"},
            "property `fields` of obligation `redact` must begin each",
        )
        for field in (".", "*", "*.canary-7261")
    ],
    (
        "drop",
        {"fields": ["a"], "target": "arguments"},
        "property `fields` of obligation `drop` must not lead to a whole",
    ),
]


@pytest.mark.parametrize(("kind", "properties", "told"), MALFORMED)
def test_malformed_properties_fail(kind: str, properties: dict[str, Any], told: str) -> None:
    """Malformed properties fail, wherever they are read, by the obligation's and the property's names only."""
    obligation = Obligation(kind, properties)
    for read in (HANDLER.when, lambda one: HANDLER.writes(one, after(1)), lambda one: HANDLER.discharge(one, after(1))):
        with pytest.raises(ObligationError) as caught:
            read(obligation)
        assert str(caught.value).startswith(told)
        assert "7261" not in str(caught.value)


def test_an_argument_that_is_none_fails() -> None:
    """A path that begins with no argument of the call fails, even where parts may be missing."""
    obligation = Obligation("redact", {"fields": ["absent.a"], "target": "arguments", "missing": "ignore"})
    with pytest.raises(ObligationError, match="names an argument that the call does not have"):
        HANDLER.discharge(obligation, Call(REQUEST, {"a": 1}))


def test_it_conforms() -> None:
    """It does what every handler must."""
    malformed = [Obligation(kind, properties) for kind, properties, _told in MALFORMED]
    check_handler(Redact, obligation=Obligation("redact", {"fields": ["a"]}), call=after({"a": 1}), malformed=malformed)


def streaming(*obligations: Obligation) -> Any:
    policies = PolicySet([permit("all", action="read", obligations=list(obligations))])
    enforcer = Enforcer(policies, audit=MemorySink(), obligations=[HANDLER])

    @enforcer.guard("read", resource="document:{document}")
    def read(document: str, patient: dict[str, Any] | None = None) -> Iterator[Any]:
        yield {"id": 1, "secret": CANARY, "patient": patient}
        yield {"id": 2, "secret": CANARY, "patient": patient}
        yield 3

    return read


def test_every_item_of_a_generator_is_redacted() -> None:
    """A generator's items are results, each of its own; one that cannot be redacted is withheld, and ends it."""
    read = streaming(
        Obligation("redact", {"fields": ["secret"]}),
        Obligation("mask", {"fields": ["patient.ssn"], "target": "arguments"}),
    )
    patient = {"ssn": "123456789"}
    with acting_as(Subject("user", "alice")):
        items = read("42", patient)
        assert [next(items), next(items)] == [
            {"id": number, "secret": "***", "patient": {"ssn": "***89"}} for number in (1, 2)
        ]
        with pytest.raises(AccessDenied):
            next(items)
    assert patient == {"ssn": "123456789"}
