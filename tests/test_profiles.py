"""Which profile holds for which action: patterns, inheritance, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from pep.errors import ConfigurationError, ExtractionError
from pep.fault import Fault
from pep.model import AccessRequest, Resource, Subject
from pep.profile import FIELDS, Canary, Enforce, FailClosed, FailOpen, FailStale, Guarantee, Profile, Shadow
from pep.profiles import MAX_NAME, MAX_REMEMBERED, Pattern, Profiles, Winner

UNTIL = datetime(2026, 12, 1, tzinfo=timezone.utc)
OPEN = FailOpen(on={Fault.TIMEOUT}, limit="100/minute")
SHADOW = Shadow(until=UNTIL, reason="new")
CANARY = Canary(0.1, until=UNTIL, reason="new")


def names(text: str) -> list[str]:
    """An action's segments."""
    return text.split(":")


def marked(*patterns: str) -> Profiles:
    """Profiles of which each is known by its deadline: the number of its pattern, from one."""
    return Profiles({pattern: Profile(deadline=number) for number, pattern in enumerate(patterns, 2)})


def refusal(mapping: Any) -> str:
    """The message with which profiles are refused."""
    with pytest.raises(ConfigurationError) as caught:
        Profiles(mapping)
    return str(caught.value)


# Patterns


@pytest.mark.parametrize(
    ("pattern", "action", "matches"),
    [
        ("feed:read", "feed:read", True),
        ("feed:read", "feed:Read", False),
        ("feed:read", "feed:read ", False),
        ("feed:read", "feed:reader", False),
        ("feed:read", "feed", False),
        ("feed:read", "feed:read:all", False),
        ("feed:*", "feed:read", True),
        ("feed:*", "feed:", True),
        ("feed:*", "feed", False),
        ("feed:*", "feed:read:all", False),
        ("feed:*", "feeds:read", False),
        ("*:read", "feed:read", True),
        ("*:read", "feed:read:all", False),
        ("*:read", "a:feed:read", False),
        ("*:*", "feed:read", True),
        ("*:*", "feed:read:all", False),
        ("payment:**", "payment:refund", True),
        ("payment:**", "payment:refund:partial", True),
        ("payment:**", "payment:a:b:c:d", True),
        ("payment:**", "payment", False),
        ("payment:**", "payments:refund", False),
        ("*:refund:**", "payment:refund", False),
        ("*:refund:**", "payment:refund:partial", True),
        ("payment:*:**", "payment:refund", False),
        ("payment:*:**", "payment:refund:partial", True),
        ("**", "feed:read", True),
        ("**", "a:b:c:d", True),
        ("straße:ß", "straße:ß", True),
        ("straße:ß", "strasse:ss", False),
        ("a.b:c?", "a.b:c?", True),
        ("a.b:c?", "axb:c", False),
    ],
)
def test_patterns_match_whole_segments(pattern: str, action: str, matches: bool) -> None:
    """A star is one segment, two at the end one or more, anything else exactly itself."""
    assert Pattern.parse(pattern).matches(names(action)) is matches
    assert Pattern.parse(pattern).text == pattern


@pytest.mark.parametrize(
    ("pattern", "fragment"),
    [
        ("", "a pattern is a `str` that is not empty; write `**` for every action"),
        (None, "a pattern is a `str`"),
        (b"**", "a pattern is a `str`"),
        (("feed", "read"), "a pattern is a `str`"),
        (":", "pattern `:` has an empty segment; write `*` for any segment"),
        ("feed:", "`feed:` has an empty segment"),
        (":read", "`:read` has an empty segment"),
        ("feed::read", "`feed::read` has an empty segment"),
        ("feed:re*", "`feed:re*` has `*` within a segment; patterns match whole segments: write `*` alone, or a name"),
        ("*d:read", "`*d:read` has `*` within a segment"),
        ("feed:***", "`feed:***` has `*` within a segment"),
        ("feed:**x", "`feed:**x` has `*` within a segment"),
        ("**:read", "`**:read` has `**` before its end; write `*` for one segment, `**` only last"),
        ("feed:**:read", "`feed:**:read` has `**` before its end"),
        ("**:**", "`**:**` has `**` before its end"),
        (
            "read",
            "`read` matches no action, since each is qualified by its resource's type; write `*:read` or `read:*`",
        ),
        ("*", "`*` matches no action, since each is qualified by its resource's type; write `*:*` or `**`"),
    ],
)
def test_misspelled_patterns_are_refused(pattern: Any, fragment: str) -> None:
    """A pattern that is misspelled, or can never match, is refused with the mend."""
    assert fragment in refusal({pattern: Profile()})


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("*:read", "feed:*", "feed:read"),
        ("*:read", "feed:**", "feed:read"),
        ("a:*:c", "a:b:*", "a:b:c"),
        ("a:*:c", "*:b:c", "a:b:c"),
        ("*:b:**", "a:**", "a:b:**"),
        ("*:b:**", "a:*:**", "a:b:**"),
        ("*:*:c", "*:b:**", "*:b:c"),
        ("*:*", "a:**", "a:*"),
    ],
)
def test_patterns_that_cross_are_refused(one: str, other: str, both: str) -> None:
    """Patterns that share actions lie within one another, or nobody could say which of them holds."""
    for first, second in ((one, other), (other, one)):
        message = refusal({first: Profile(), "z:z": Profile(), second: Profile()})
        assert all(f"`{pattern}`" in message for pattern in (one, other))
        assert f"both match `{both}`, and neither lies within the other; narrow one of them" in message


# Resolution


@pytest.mark.parametrize(
    ("patterns", "action", "deadline"),
    [
        ((), "feed:read", 1),
        (("**",), "feed:read", 2),
        (("feed:*",), "post:read", 1),
        (("**", "feed:**", "feed:*", "feed:read"), "feed:read", 5),
        (("feed:read", "feed:*", "feed:**", "**"), "feed:read", 2),
        (("**", "feed:**", "feed:*", "feed:read"), "feed:write", 4),
        (("**", "feed:**", "feed:*", "feed:read"), "feed:read:all", 3),
        (("**", "feed:**", "feed:*", "feed:read"), "post:read", 2),
        (("*:**", "*:*", "*:read"), "post:read", 4),
        (("*:**", "*:*", "*:read"), "post:write", 3),
        (("*:**", "*:*", "*:read"), "post:write:all", 2),
        (("a:b", "c:d"), "c:d", 3),
    ],
)
def test_the_narrowest_pattern_holds(patterns: tuple[str, ...], action: str, deadline: float) -> None:
    """Of the patterns that match, the narrowest one's profile holds, in whatever order they were written."""
    assert marked(*patterns).for_action(action).deadline == deadline


def test_fields_are_inherited_one_by_one() -> None:
    """What a profile does not give comes from the next wider pattern, also across one that is silent."""
    profiles = Profiles(
        {
            "**": Profile(deadline=9, hidden=True, audit=Guarantee.WRITTEN),
            "payment:**": Profile(permit_ttl=0, hidden=False),
            "payment:*": Profile(),
            "payment:refund": Profile(audit=Guarantee.DURABLE, permit_ttl=None),
        }
    )
    expected = Profile(deadline=9, hidden=False, audit=Guarantee.DURABLE, permit_ttl=None)
    assert profiles.for_action("payment:refund") == expected
    assert profiles.for_action("payment:list") == Profile(
        deadline=9, hidden=False, audit=Guarantee.WRITTEN, permit_ttl=0
    )
    assert profiles.for_action("feed:read") == Profile(deadline=9, hidden=True, audit=Guarantee.WRITTEN)


def test_a_default_that_is_given_takes_back() -> None:
    """A field given its default value overrides a wider pattern."""
    profiles = Profiles({"feed:**": Profile(on_failure=OPEN), "feed:read": Profile(on_failure=FailClosed())})
    assert profiles.for_action("feed:read").on_failure == FailClosed()
    assert profiles.for_action("feed:list").on_failure == OPEN


def test_without_profiles_the_default_holds() -> None:
    """Where nothing was given, every action has the default profile."""
    assert Profiles().for_action("feed:read") == Profile()
    assert Profiles({}).items() == (("**", Profile()),)


def test_requests_name_their_action() -> None:
    """An action is looked up by the name a request qualifies it with."""
    profiles = marked("feed:read", "payment:*")
    subject, feed = Subject("user", "alice"), Resource("feed", "1")
    assert profiles.for_action(AccessRequest(subject, "read", feed).qualified_action).deadline == 2
    assert profiles.for_action(AccessRequest(subject, "payment:refund", feed).qualified_action).deadline == 3


def test_profiles_are_a_snapshot() -> None:
    """Changing the mapping afterwards changes nothing."""
    mapping = {"feed:read": Profile(deadline=2)}
    profiles = Profiles(mapping)
    mapping["feed:read"] = Profile(deadline=3)
    assert profiles.for_action("feed:read").deadline == 2


# What is remembered


def test_one_pattern_has_one_profile_object() -> None:
    """Actions with the same narrowest pattern share one object, found or remembered."""
    profiles = marked("feed:*")
    assert profiles.for_action("feed:read") is profiles.for_action("feed:write") is profiles.for_action("feed:read")


def test_what_is_remembered_is_bounded() -> None:
    """However many actions, and however long their names, little is remembered and every answer right."""
    profiles = marked("feed:*")
    for number in range(MAX_REMEMBERED + 10):
        assert profiles.for_action(f"feed:{number}").deadline == 2
        assert len(profiles._remembered) <= MAX_REMEMBERED
    before = len(profiles._remembered)
    assert before >= 10
    assert profiles.for_action("feed:" + "x" * MAX_NAME).deadline == 2
    assert len(profiles._remembered) == before


def test_threads_share_profiles() -> None:
    """Threads that fill and clear what is remembered all get right answers."""
    profiles = marked("a:*", "b:*")
    actions = [f"{kind}:{number % 5_000}" for number in range(10_000) for kind in "ab"]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda action: profiles.for_action(action).deadline, actions, chunksize=500))
    assert found == [2, 3] * 10_000


# What is refused


@pytest.mark.parametrize("pattern", ["**", "*:**"])
@pytest.mark.parametrize(
    "profile", [Profile(on_failure=OPEN), Profile(mode=SHADOW), Profile(mode=CANARY)], ids=["open", "shadow", "canary"]
)
def test_the_default_is_closed_and_enforces(pattern: str, profile: Profile) -> None:
    """What holds for every action neither opens nor looks on."""
    part = profile.mode if profile.on_failure == FailClosed() else profile.on_failure
    expected = f"`{type(part).__name__}` on `{pattern}` would hold for every action; give it to the patterns"
    assert expected in refusal({pattern: profile})


@pytest.mark.parametrize("pattern", ["*:*", "feed:**", "feed:*", "*:read", "feed:read"])
@pytest.mark.parametrize("field", [{"on_failure": OPEN}, {"mode": SHADOW}, {"mode": CANARY}])
def test_narrower_patterns_may_open_and_look_on(pattern: str, field: dict[str, Any]) -> None:
    """A pattern that leaves some action out may open, shadow or introduce a guard."""
    assert Profiles({pattern: Profile(**field)}).items()[0] == (pattern, Profile(**field))


@pytest.mark.parametrize("field", [{"on_failure": FailStale(300)}, {"on_failure": FailClosed()}, {"mode": Enforce()}])
def test_the_default_may_be_stale(field: dict[str, Any]) -> None:
    """The default profile may serve stale decisions, since those were real."""
    assert Profiles({"**": Profile(**field)}).for_action("feed:read") == Profile(**field)


@pytest.mark.parametrize(
    ("mapping", "fragment"),
    [
        (None, "profiles are a mapping from pattern to `Profile`, not a `NoneType`; give a `dict`"),
        ([("feed:read", Profile())], "not a `list`"),
        (Profile(), "not a `Profile`"),
        ({"feed:read": None}, "the profile of `feed:read` is a `NoneType`; give a `Profile(...)`"),
        ({"feed:read": {"deadline": 2}}, "the profile of `feed:read` is a `dict`"),
        ({"feed:read": Profile}, "the profile of `feed:read` is a `type`"),
        ({"feed:read": FailClosed()}, "the profile of `feed:read` is a `FailClosed`"),
    ],
)
def test_only_profiles_are_taken(mapping: Any, fragment: str) -> None:
    """What is no mapping to profiles is refused with the mend."""
    assert fragment in refusal(mapping)


# Explaining


EXPLAINED = Profiles(
    {
        "**": Profile(deadline=9, hidden=True),
        "feed:**": Profile(permit_ttl=0, hidden=False),
        "feed:read": Profile(audit=Guarantee.DURABLE),
    }
)


@pytest.mark.parametrize(
    ("action", "kind", "winners"),
    [
        ("read", "feed", {"audit": "feed:read", "permit_ttl": "feed:**", "hidden": "feed:**", "deadline": "**"}),
        ("feed:read", "post", {"audit": "feed:read", "permit_ttl": "feed:**", "hidden": "feed:**", "deadline": "**"}),
        ("write", "feed", {"permit_ttl": "feed:**", "hidden": "feed:**", "deadline": "**"}),
        ("read", "post", {"hidden": "**", "deadline": "**"}),
    ],
)
def test_explain_names_the_winner_of_each_field(action: str, kind: str, winners: dict[str, str]) -> None:
    """Each field names the narrowest pattern that gives it, or none for the library's own default."""
    profile = EXPLAINED.for_action(action if ":" in action else f"{kind}:{action}")
    expected = {name: (winners.get(name), getattr(profile, name)) for name in FIELDS}
    assert EXPLAINED.explain(action, kind) == expected


def test_an_explanation_is_frozen() -> None:
    """An explanation is read, not edited; each entry says what it holds by name."""
    explained = EXPLAINED.explain("read", "feed")
    assert explained["hidden"] == Winner(pattern="feed:**", value=False)
    with pytest.raises(TypeError):
        explained["hidden"] = Winner(None, value=True)  # type: ignore[index]


@pytest.mark.parametrize(("action", "kind"), [("", "feed"), ("feed:*", "feed"), ("read", ""), ("read", None), (1, "f")])
def test_only_actions_there_can_be_are_explained(action: Any, kind: Any) -> None:
    """A pattern, an empty name or something that is no text is no action of any request."""
    with pytest.raises(ExtractionError):
        EXPLAINED.explain(action, kind)


# What the enforcer asks


def test_items_are_resolved_narrowest_first() -> None:
    """Every pattern comes with what holds for it after inheritance; the default is always there, last."""
    assert EXPLAINED.items() == (
        ("feed:read", Profile(deadline=9, hidden=False, permit_ttl=0, audit=Guarantee.DURABLE)),
        ("feed:**", Profile(deadline=9, hidden=False, permit_ttl=0)),
        ("**", Profile(deadline=9, hidden=True)),
    )


@pytest.mark.parametrize(
    ("mapping", "strongest"),
    [
        ({}, Guarantee.BUFFERED),
        ({"feed:read": Profile(audit=Guarantee.WRITTEN)}, Guarantee.WRITTEN),
        ({"**": Profile(audit=Guarantee.WRITTEN), "a:b": Profile(audit=Guarantee.BUFFERED)}, Guarantee.WRITTEN),
        ({"a:b": Profile(audit=Guarantee.DURABLE), "c:d": Profile(audit=Guarantee.WRITTEN)}, Guarantee.DURABLE),
    ],
)
def test_the_strongest_guarantee(mapping: Mapping[str, Profile], strongest: Guarantee) -> None:
    """A sink has to give the strongest guarantee that any profile asks for."""
    assert Profiles(mapping).strongest() is strongest


def test_what_is_not_enforced_is_listed() -> None:
    """Every pattern whose mode is, or is inherited as, a shadow or canary is listed with its end and reason."""
    profiles = Profiles(
        {
            "feed:**": Profile(mode=SHADOW),
            "feed:read": Profile(hidden=True),
            "feed:write": Profile(mode=Enforce()),
            "post:*": Profile(mode=CANARY),
        }
    )
    assert dict(profiles.unenforced()) == {"feed:**": SHADOW, "feed:read": SHADOW, "post:*": CANARY}
    assert Profiles().unenforced() == ()


def test_a_repr_shows_what_was_written() -> None:
    """Profiles show patterns and what each of them gives, narrowest first."""
    assert (
        repr(marked("**", "feed:read")) == "Profiles({'feed:read': Profile(deadline=3.0), '**': Profile(deadline=2.0)})"
    )


# Files


def test_profiles_load_from_files(tmp_path: Path) -> None:
    """Profiles from a file are the same as from a mapping."""
    file = tmp_path / "pep.toml"
    file.write_text('["feed:read"]\naudit = "durable"\n', encoding="utf-8")
    assert Profiles.load(file).items() == Profiles({"feed:read": Profile(audit=Guarantee.DURABLE)}).items()


def test_no_toml_reader_is_imported_before_it_is_needed() -> None:
    """Who has no profile files does not pay for reading them."""
    probe = "import sys, pep.profiles; sys.exit(bool({'tomllib', 'tomli', 'pep.profile_files'} & set(sys.modules)))"
    # Coverage of the process would read its own configuration there.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    assert subprocess.run([sys.executable, "-c", probe], check=False, env=environment).returncode == 0
