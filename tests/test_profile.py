"""Profiles and what they are made of: every value checked where it is written."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.errors import ConfigurationError
from pep.fault import AVAILABILITY, Fault
from pep.model import Obligation, Subject
from pep.profile import (
    FIELDS,
    Canary,
    Enforce,
    FailClosed,
    FailOpen,
    FailStale,
    Guarantee,
    Profile,
    Shadow,
    nearest,
)
from pep.rate import Rate

UTC = timezone.utc
UNTIL = datetime(2026, 12, 1, tzinfo=UTC)
SECRET = b"a deployment's own"

DEFAULTS = {
    "on_failure": FailClosed(),
    "mode": Enforce(),
    "deadline": 1.0,
    "permit_ttl": None,
    "deny_ttl": None,
    "audit": Guarantee.BUFFERED,
    "hidden": False,
    "revalidate": None,
    "pin_arguments": False,
    "record_query": False,
}

GIVEN = {
    "on_failure": FailStale(300),
    "mode": Shadow(until=UNTIL, reason="new"),
    "deadline": 0.5,
    "permit_ttl": 30.0,
    "deny_ttl": 5.0,
    "audit": Guarantee.DURABLE,
    "hidden": True,
    "revalidate": 60.0,
    "pin_arguments": True,
    "record_query": True,
}


def opening(**changes: Any) -> FailOpen:
    """A failure mode that opens, with some arguments changed."""
    return FailOpen(**{"on": {Fault.TIMEOUT}, "limit": "100/minute", **changes})


def shadow(**changes: Any) -> Shadow:
    """A shadow, with some arguments changed."""
    return Shadow(**{"until": UNTIL, "reason": "new", **changes})


def canary(fraction: Any = 0.5, **changes: Any) -> Canary:
    """A canary, with some arguments changed."""
    return Canary(fraction, **{"until": UNTIL, "reason": "new", **changes})


class Text(str):
    """A text that is not exactly one."""

    __slots__ = ()


def refusal(make: Callable[[], object]) -> str:
    """The message with which a value is refused where it is written."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    return str(caught.value)


# Guarantees


def test_guarantees_are_ordered() -> None:
    """Buffered is weaker than written, written than durable, and nothing else is comparable."""
    ascending = [Guarantee.BUFFERED, Guarantee.WRITTEN, Guarantee.DURABLE]
    assert sorted(Guarantee, reverse=True) == ascending[::-1]
    assert [guarantee.value for guarantee in ascending] == ["buffered", "written", "durable"]
    for strength, stronger in enumerate(ascending):
        for weakness, weaker in enumerate(ascending):
            answers = (stronger < weaker, stronger <= weaker, stronger > weaker, stronger >= weaker)
            expected = (strength < weakness, strength <= weakness, strength > weakness, strength >= weakness)
            assert answers == expected
            assert stronger.covers(weaker) is (strength >= weakness)
    with pytest.raises(TypeError):
        assert Guarantee.BUFFERED < "written"


# Failure modes


@pytest.mark.parametrize("on", [{Fault.TIMEOUT}, frozenset(AVAILABILITY), [Fault.TIMEOUT] * 2, (Fault.OVERLOADED,)])
def test_fail_open_names_its_faults(on: Any) -> None:
    """A failure mode that opens excuses the faults it was given, in whatever collection."""
    assert opening(on=on).on == frozenset(on)


def test_fail_open_is_bounded() -> None:
    """A failure mode that opens holds its rates as rates, and needs a limit."""
    mode = opening(per_subject="10/minute")
    assert (mode.limit, mode.per_subject) == (Rate(100, 60), Rate(10, 60))
    assert opening().per_subject is None
    assert opening(limit=Rate(100, 60), per_subject=Rate(10, 60)) == mode
    with pytest.raises(TypeError, match="limit"):
        FailOpen(on={Fault.TIMEOUT})  # type: ignore[call-arg]


def test_fail_open_may_compensate() -> None:
    """A failure mode that opens holds the obligations of each call it lets through."""
    duty = Obligation("notify", {"channel": "security"})
    assert opening(obligations=[duty]).obligations == (duty,)
    assert opening().obligations == ()


@pytest.mark.parametrize("fault", sorted(set(Fault) - AVAILABILITY, key=str))
def test_only_availability_can_be_excused(fault: Fault) -> None:
    """A fault that is not one of availability is refused, alone or beside those that are."""
    expected = f"`{fault}` can never be excused; give some of {{Fault.OVERLOADED, Fault.TIMEOUT, Fault.UNREACHABLE}}"
    assert refusal(lambda: opening(on={fault})) == expected
    assert refusal(lambda: opening(on={fault, *AVAILABILITY})) == expected


@pytest.mark.parametrize(
    ("make", "fragment"),
    [
        (lambda: opening(on=set()), "`on` names no fault; give some of {Fault.OVERLOADED, "),
        (
            lambda: opening(on=Fault.TIMEOUT),
            "`on` takes a collection of `Fault` values; give some of {Fault.OVERLOADED",
        ),
        (lambda: opening(on="timeout"), "`on` takes a collection of `Fault` values"),
        (lambda: opening(on={"timeout"}), "`on` takes a collection of `Fault` values"),
        (lambda: opening(on={Fault.TIMEOUT: 1}), "`on` takes a collection of `Fault` values"),
        (lambda: opening(on=iter([Fault.TIMEOUT])), "`on` takes a collection of `Fault` values"),
        (lambda: opening(on=None), "`on` takes a collection of `Fault` values"),
        (lambda: opening(limit="fast"), "`fast` is no rate; write a count"),
        (lambda: opening(limit=100), "`int` is no rate"),
        (lambda: opening(limit=None), "`NoneType` is no rate"),
        (lambda: opening(per_subject="10/min"), "`10/min` is no rate"),
        (lambda: opening(per_subject=0), "`int` is no rate"),
        (lambda: opening(obligations=["notify"]), "`obligations` takes a collection of `Obligation` values"),
        (lambda: opening(obligations=Obligation("notify")), "give `Obligation(...)` values"),
        (lambda: opening(obligations="notify"), "`obligations` takes a collection"),
        (lambda: FailStale(0), "`max_age` is `0`; give a finite number of seconds, greater than 0"),
        (lambda: FailStale(-1), "`max_age` is `-1`"),
        (lambda: FailStale(math.inf), "`max_age` is `inf`"),
        (lambda: FailStale(math.nan), "`max_age` is `nan`"),
        (lambda: FailStale(True), "`max_age` is a `bool`"),
        (lambda: FailStale("300"), "`max_age` is a `str`"),  # type: ignore[arg-type]
        (lambda: FailStale(None), "`max_age` is a `NoneType`"),  # type: ignore[arg-type]
        (lambda: FailStale(10**400), "`max_age` is a `int`; give a finite number"),
    ],
)
def test_failure_modes_refuse(make: Callable[[], object], fragment: str) -> None:
    """A failure mode that is not exactly right is refused where it is written, with the mend."""
    assert fragment in refusal(make)


def test_fail_stale_takes_seconds_either_way() -> None:
    """The age is in seconds, by position or by name, whole or not."""
    assert FailStale(300) == FailStale(max_age=300.0)
    assert type(FailStale(300).max_age) is float


# Modes


@pytest.mark.parametrize(
    ("make", "fragment"),
    [
        (lambda: shadow(until=UNTIL.replace(tzinfo=None)), "`until` must be a datetime with a time zone; give one"),
        (lambda: shadow(until=UNTIL.date()), "`until` must be a datetime"),
        (lambda: shadow(until=UNTIL.timetz()), "`until` must be a datetime"),
        (lambda: shadow(until="2026-12-01T00:00:00Z"), "`until` must be a datetime"),
        (lambda: shadow(until=1_800_000_000), "`until` must be a datetime"),
        (lambda: shadow(until=None), "`until` must be a datetime"),
        (lambda: shadow(reason=""), "`reason` must say why this is not enforced yet; give a `str` that is not blank"),
        (lambda: shadow(reason=" \n"), "`reason` must say why"),
        (lambda: shadow(reason=None), "`reason` must say why"),
        (lambda: shadow(reason=Text("why")), "`reason` must say why"),
        (lambda: canary(until=UNTIL.replace(tzinfo=None)), "`until` must be a datetime with a time zone"),
        (lambda: canary(reason=""), "`reason` must say why"),
        (lambda: canary(0.0), "`fraction` is `0.0`; give a float between 0 and 1, or use `Shadow` or `Enforce`"),
        (lambda: canary(1.0), "`fraction` is `1.0`"),
        (lambda: canary(0), "`fraction` is `0`"),
        (lambda: canary(1), "`fraction` is `1`"),
        (lambda: canary(-0.1), "`fraction` is `-0.1`"),
        (lambda: canary(10.0), "`fraction` is `10.0`"),
        (lambda: canary(math.nan), "`fraction` is `nan`"),
        (lambda: canary(True), "`fraction` is a `bool`"),
        (lambda: canary("0.1"), "`fraction` is a `str`"),
    ],
)
def test_modes_refuse(make: Callable[[], object], fragment: str) -> None:
    """A mode that is not exactly right is refused where it is written, with the mend."""
    assert fragment in refusal(make)


@pytest.mark.parametrize("arguments", [{}, {"until": UNTIL}, {"reason": "new"}])
@pytest.mark.parametrize("kind", [Shadow, lambda **given: Canary(0.1, **given)])
def test_not_enforcing_has_an_end_and_a_reason(kind: Any, arguments: dict[str, Any]) -> None:
    """Nothing is left unenforced without saying until when and why."""
    with pytest.raises(TypeError, match="required"):
        kind(**arguments)


@pytest.mark.parametrize("mode", [shadow(), canary()])
@pytest.mark.parametrize(
    ("now", "active"),
    [
        (UNTIL - timedelta(microseconds=1), True),
        (UNTIL, False),
        (UNTIL + timedelta(days=1), False),
        ((UNTIL - timedelta(minutes=30)).astimezone(timezone(timedelta(hours=9))), True),
        (UNTIL.astimezone(timezone(timedelta(hours=-9))), False),
    ],
)
def test_past_its_end_a_mode_enforces(mode: Shadow | Canary, now: datetime, active: bool) -> None:
    """A shadow or canary is over at the very moment it names, in whatever time zone."""
    assert mode.active(now) is active


# Whom a canary enforces for


def enforced(fraction: float, subject: Subject | None, secret: bytes = SECRET) -> bool:
    """Whether a canary of some fraction enforces for a subject."""
    return canary(fraction).enforced(subject, secret)


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=4)
fractions = st.floats(0, 1, exclude_min=True, exclude_max=True)


@given(names, names, fractions, fractions)
def test_a_greater_fraction_enforces_for_more(kind: str, name: str, one: float, other: float) -> None:
    """Who is enforced at one fraction stays enforced at every greater one."""
    subject = Subject(kind, name)
    assert enforced(min(one, other), subject) <= enforced(max(one, other), subject)


@given(fractions)
def test_nobody_is_always_enforced(fraction: float) -> None:
    """A call without a subject never escapes enforcement."""
    assert enforced(fraction, None)


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.9])
def test_buckets_are_uniform(fraction: float) -> None:
    """Close to the named fraction of subjects is enforced: within five standard deviations."""
    count = 4_000
    found = sum(enforced(fraction, Subject("user", str(number))) for number in range(count))
    assert abs(found - count * fraction) < 5 * math.sqrt(count * fraction * (1 - fraction))


def test_buckets_have_literal_answers() -> None:
    """A subject's bucket is the same in every process, version and Python: at its edge, the answer turns."""
    # Computed apart, from the eight bytes an HMAC-SHA256 of length-prefixed type, then id, starts with.
    edge = 0x4E2B548A59C579CE / 2**64
    assert not enforced(edge * (1 - 1e-9), Subject("user", "alice"))
    assert enforced(edge * (1 + 1e-9), Subject("user", "alice"))


def buckets(subjects: list[Subject], secret: bytes = SECRET) -> list[bool]:
    """Which of some subjects are enforced at one half."""
    return [enforced(0.5, subject, secret) for subject in subjects]


def test_a_bucket_is_of_type_id_and_secret() -> None:
    """Properties move nobody; the type, the id and the secret do, and where one ends and the next begins counts."""
    plain = [Subject("user", str(number)) for number in range(200)]
    assert buckets([Subject("user", subject.id, {"ip": "10.0.0.1"}) for subject in plain]) == buckets(plain)
    assert buckets([Subject("users", subject.id) for subject in plain]) != buckets(plain)
    assert buckets([Subject("use", f"r{subject.id}") for subject in plain]) != buckets(plain)
    assert buckets(plain, b"another") != buckets(plain)


# Profiles


def test_defaults() -> None:
    """A profile closes, enforces, has a second, caches as the decision point says, and buffers its records."""
    profile = Profile()
    assert {name: getattr(profile, name) for name in FIELDS} == DEFAULTS
    assert profile.given == frozenset()


def test_every_field_is_named_once() -> None:
    """The fields a type checker knows are those a profile has, and those these tests know."""
    assert tuple(DEFAULTS) == FIELDS
    assert [field.name for field in attrs.fields(Profile)] == [*FIELDS, "given"]


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("values", [DEFAULTS, GIVEN], ids=["default", "other"])
def test_what_was_given_is_remembered(name: str, values: dict[str, Any]) -> None:
    """A field that is given counts as given, also with its default."""
    profile = Profile(**{name: values[name]})
    assert profile.given == {name}
    assert getattr(profile, name) == values[name]
    assert profile.fields() == {name: values[name]}


SECONDS_OR_NONE = [("permit_ttl", 0), ("deny_ttl", 0), ("permit_ttl", 0.5), ("revalidate", 1), ("deadline", 1e-3)]


@pytest.mark.parametrize(("name", "value"), [*SECONDS_OR_NONE, *((n, None) for n in ("permit_ttl", "revalidate"))])
def test_seconds_are_floats(name: str, value: float | None) -> None:
    """Seconds are held as a float, whole or not, at the edge of what is allowed; None stays None."""
    held = getattr(Profile(**{name: value}), name)
    assert held == value
    assert type(held) is (float if value is not None else type(None))


SECONDS = "give a finite number of seconds"


@pytest.mark.parametrize(
    ("fields", "fragment"),
    [
        ({"dead_line": 1}, "unknown profile field `dead_line`; did you mean `deadline`?"),
        ({"Deadline": 1}, "did you mean `deadline`?"),
        ({"on_fail": FailClosed()}, "did you mean `on_failure`?"),
        ({"given": frozenset()}, "unknown profile field `given`; choose from `on_failure`, `mode`, `deadline`, "),
        ({"deadline": 1, "zzz": 1}, "unknown profile field `zzz`; choose from `on_failure`"),
        ({"deadline": 0}, f"`deadline` is `0`; {SECONDS}, greater than 0"),
        ({"deadline": -0.0}, "`deadline` is `-0.0`"),
        ({"deadline": -1}, "`deadline` is `-1`"),
        ({"deadline": None}, "`deadline` is a `NoneType`"),
        ({"deadline": True}, "`deadline` is a `bool`"),
        ({"deadline": "1"}, "`deadline` is a `str`"),
        ({"deadline": math.inf}, "`deadline` is `inf`"),
        ({"deadline": math.nan}, "`deadline` is `nan`"),
        ({"deadline": timedelta(seconds=1)}, "`deadline` is a `timedelta`"),
        ({"deadline": 10**5_000}, "`deadline` is a `int`"),
        ({"permit_ttl": -1}, f"`permit_ttl` is `-1`; {SECONDS}, 0 or more"),
        ({"permit_ttl": False}, "`permit_ttl` is a `bool`"),
        ({"permit_ttl": math.inf}, "`permit_ttl` is `inf`"),
        ({"deny_ttl": -0.5}, f"`deny_ttl` is `-0.5`; {SECONDS}, 0 or more"),
        ({"deny_ttl": math.nan}, "`deny_ttl` is `nan`"),
        ({"revalidate": 0}, f"`revalidate` is `0`; {SECONDS}, greater than 0"),
        ({"revalidate": False}, "`revalidate` is a `bool`"),
        ({"hidden": 1}, "`hidden` is a `int`; give `True` or `False`"),
        ({"hidden": None}, "`hidden` is a `NoneType`"),
        ({"pin_arguments": "yes"}, "`pin_arguments` is a `str`; give `True` or `False`"),
        (
            {"audit": "durable"},
            "`audit` is a `str`; give `Guarantee.BUFFERED`, `Guarantee.WRITTEN`, `Guarantee.DURABLE`",
        ),
        ({"audit": None}, "`audit` is a `NoneType`"),
        (
            {"on_failure": FailClosed},
            "`on_failure` is a `type`; give `FailClosed()`, `FailOpen(...)` or `FailStale(...)`",
        ),
        ({"on_failure": "open"}, "`on_failure` is a `str`"),
        ({"on_failure": None}, "`on_failure` is a `NoneType`"),
        ({"on_failure": Enforce()}, "`on_failure` is a `Enforce`"),
        ({"mode": FailClosed()}, "`mode` is a `FailClosed`; give `Enforce()`, `Shadow(...)` or `Canary(...)`"),
        (
            {"mode": "off"},
            "`mode` is a `str`; give `Enforce()`, `Shadow(...)` or `Canary(...)`; there is no off switch",
        ),
        ({"mode": False}, "there is no off switch"),
        ({"mode": None}, "there is no off switch"),
    ],
)
def test_profiles_refuse(fields: dict[str, Any], fragment: str) -> None:
    """A field that is unknown, of the wrong type or out of range is refused where it is written, with the mend."""
    assert fragment in refusal(lambda: Profile(**fields))


def test_profiles_take_keywords_only() -> None:
    """A value without its name is no profile field."""
    with pytest.raises(TypeError):
        Profile(FailClosed())  # type: ignore[call-arg,misc]


def test_no_message_shows_a_value_of_the_wrong_type() -> None:
    """What was put where a number or class belongs may be a secret."""
    for name in FIELDS:
        assert "hunter2" not in refusal(lambda name=name: Profile(**{name: "hunter2"}))


given_fields = st.sets(st.sampled_from(FIELDS))


def profile_of(names: set[str], values: dict[str, Any]) -> Profile:
    """A profile that gives some fields, with values from a table."""
    return Profile(**{name: values[name] for name in names})


@given(given_fields, given_fields)
def test_a_profile_lies_over_a_wider_one(own: set[str], wider: set[str]) -> None:
    """Each field is the own one where it was given, else the wider one's, else the default."""
    both = profile_of(own, DEFAULTS).over(profile_of(wider, GIVEN))
    expected = {name: GIVEN[name] if name in wider - own else DEFAULTS[name] for name in FIELDS}
    assert {name: getattr(both, name) for name in FIELDS} == expected
    assert both.given == own | wider


@given(given_fields, given_fields)
def test_profiles_are_equal_when_they_do_the_same(one: set[str], other: set[str]) -> None:
    """Profiles that give different fields inherit differently, and are not equal even where their values are."""
    assert (profile_of(one, DEFAULTS) == profile_of(other, DEFAULTS)) is (one == other)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Profile(), "Profile()"),
        (Profile(audit=Guarantee.DURABLE, deadline=2), "Profile(deadline=2.0, audit=Guarantee.DURABLE)"),
        (
            Profile(on_failure=FailOpen(on={Fault.UNREACHABLE, Fault.TIMEOUT}, limit="9/hour"), permit_ttl=None),
            (
                "Profile(on_failure=FailOpen(on={Fault.TIMEOUT, Fault.UNREACHABLE}, limit='9/hour', "
                "per_subject=None, obligations=()), permit_ttl=None)"
            ),
        ),
        (FailOpen(on={Fault.TIMEOUT}, limit="9/hour", per_subject="1/day").per_subject, "Rate(count=1, seconds=86400)"),
        (FailStale(300), "FailStale(max_age=300.0)"),
        (FailClosed(), "FailClosed()"),
        (Enforce(), "Enforce()"),
    ],
)
def test_a_repr_tells_what_was_given(value: object, shown: str) -> None:
    """What is shown is what was written, in the order of the fields."""
    assert repr(value) == shown


@pytest.mark.parametrize(
    "value",
    [Profile(**GIVEN), opening(per_subject="1/day"), FailStale(1), shadow(), canary(), FailClosed(), Enforce()],
)
def test_values_are_frozen_and_travel(value: Any) -> None:
    """A value cannot be changed, and is equal to its copies, also in another process."""
    names = [field.name for field in attrs.fields(type(value))] if attrs.has(type(value)) else ["anything"]
    for name in names:
        with pytest.raises(AttributeError):
            setattr(value, name, None)
    assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(value) == value  # noqa: S301  our own bytes
    assert hash(copy.copy(value)) == hash(value)


# Suggestions


@pytest.mark.parametrize(
    ("word", "end"),
    [
        ("timeuot", "did you mean `timeout`?"),
        ("TIMEOUT", "did you mean `timeout`?"),
        ("x", "choose from `timeout`, `unreachable`"),
        ("", "choose from `timeout`, `unreachable`"),
    ],
)
def test_a_misspelled_word_is_recognised(word: str, end: str) -> None:
    """A message ends in the one known word meant, or in all of them."""
    assert nearest(word, ["timeout", "unreachable"]) == end
