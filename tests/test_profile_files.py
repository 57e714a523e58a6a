"""Profiles from TOML files: the same values, and nothing else, with file, table and key named."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from pep.errors import ConfigurationError
from pep.fault import Fault
from pep.model import Obligation
from pep.profile import FIELDS, Canary, Enforce, FailClosed, FailOpen, FailStale, Guarantee, Profile, Shadow
from pep.profiles import Profiles

UNTIL = datetime(2026, 12, 1, tzinfo=timezone.utc)

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file into the working directory, and name it as a user would."""
    monkeypatch.chdir(tmp_path)

    def write(content: str | bytes, name: str = "pep.toml") -> Path:
        file = Path(name)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    return write


def refusal(*files: Path) -> str:
    """The message with which files are refused."""
    with pytest.raises(ConfigurationError) as caught:
        Profiles.load(*files)
    return str(caught.value)


# What is read


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('on_failure = "closed"', {"on_failure": FailClosed()}),
        ("on_failure = { stale = 300 }", {"on_failure": FailStale(300)}),
        ("on_failure.stale = 0.5", {"on_failure": FailStale(0.5)}),
        (
            'on_failure = { open = ["timeout", "unreachable"], limit = "100/minute", per_subject = "10/minute" }',
            {
                "on_failure": FailOpen(
                    on={Fault.TIMEOUT, Fault.UNREACHABLE}, limit="100/minute", per_subject="10/minute"
                )
            },
        ),
        (
            'on_failure = { open = ["overloaded"], limit = "1/day" }',
            {"on_failure": FailOpen(on={Fault.OVERLOADED}, limit="1/day")},
        ),
        (
            (
                '[["feed:read".on_failure.obligations]]\ntype = "notify"\n'
                '[["feed:read".on_failure.obligations]]\ntype = "log"\nid = "l1"\nproperties = { level = "high" }\n'
                '["feed:read".on_failure]\nopen = ["timeout"]\nlimit = "1/day"'
            ),
            {
                "on_failure": FailOpen(
                    on={Fault.TIMEOUT},
                    limit="1/day",
                    obligations=[Obligation("notify"), Obligation("log", {"level": "high"}, "l1")],
                )
            },
        ),
        ('mode = "enforce"', {"mode": Enforce()}),
        ('mode = { shadow = "new", until = 2026-12-01T00:00:00Z }', {"mode": Shadow(until=UNTIL, reason="new")}),
        (
            'mode = { canary = 0.1, until = 2026-12-01T01:00:00+01:00, reason = "new" }',
            {"mode": Canary(0.1, until=UNTIL, reason="new")},
        ),
        ("deadline = 2", {"deadline": 2}),
        ("deadline = 0.25", {"deadline": 0.25}),
        ("permit_ttl = 0", {"permit_ttl": 0}),
        ("deny_ttl = 5.0", {"deny_ttl": 5}),
        ('audit = "buffered"', {"audit": Guarantee.BUFFERED}),
        ('audit = "written"', {"audit": Guarantee.WRITTEN}),
        ('audit = "durable"', {"audit": Guarantee.DURABLE}),
        ("hidden = true", {"hidden": True}),
        ("revalidate = 60", {"revalidate": 60}),
        ("pin_arguments = false", {"pin_arguments": False}),
        ("record_query = true", {"record_query": True}),
        ("", {}),
    ],
)
def test_a_table_is_a_profile(write: Write, line: str, field: dict[str, Any]) -> None:
    """Each key of a pattern's table is the field of that name, and counts as given; no other does."""
    header = "" if line.startswith("[") else '["feed:read"]\n'
    profiles = Profiles.load(write(f"{header}{line}\n"))
    assert profiles.items() == Profiles({"feed:read": Profile(**field)}).items()


def test_every_field_can_be_written(write: Write) -> None:
    """No field of a profile is left to Python."""
    values = {
        "on_failure": '"closed"',
        "mode": '"enforce"',
        "audit": '"buffered"',
        "hidden": "false",
        "pin_arguments": "false",
        "record_query": "false",
    }
    lines = "\n".join(f"{name} = {values.get(name, '1')}" for name in FIELDS)
    assert Profiles.load(write(f'["**"]\n{lines}\n')).for_action("feed:read").given == set(FIELDS)


def test_an_empty_file_is_no_profile(write: Write) -> None:
    """A file without tables leaves everything at its default."""
    assert Profiles.load(write("# nothing yet\n")).items() == Profiles().items()


def test_later_files_win_field_by_field(write: Write) -> None:
    """A later file replaces the fields it gives, of the patterns it names, and adds patterns."""
    base = write('["**"]\ndeadline = 2\n["feed:read"]\npermit_ttl = 30\nhidden = true\n', "pep.toml")
    production = write('["feed:read"]\npermit_ttl = 0\n["post:*"]\naudit = "durable"\n', "pep.prod.toml")
    assert dict(Profiles.load(base, production).items()) == {
        "feed:read": Profile(deadline=2, permit_ttl=0, hidden=True),
        "post:*": Profile(deadline=2, audit=Guarantee.DURABLE),
        "**": Profile(deadline=2),
    }
    assert Profiles.load(production, base).for_action("feed:read").permit_ttl == 30


def test_a_later_file_may_take_back(write: Write) -> None:
    """A later file that gives a field its default overrides an earlier one."""
    base = write('["feed:read"]\non_failure = { open = ["timeout"], limit = "1/day" }\n', "pep.toml")
    production = write('["feed:read"]\non_failure = "closed"\n', "pep.prod.toml")
    assert Profiles.load(base, production).for_action("feed:read").on_failure == FailClosed()


def test_paths_may_be_text(write: Write) -> None:
    """A path is a text or a path object."""
    assert Profiles.load(str(write("")), write("", "b.toml")).items() == Profiles().items()


# What is refused: keys and values

KEY = "`pep.toml`: table `feed:read`: key "


@pytest.mark.parametrize(
    ("line", "fragment"),
    [
        ("dead_line = 1", f"{KEY}`dead_line`: no field of a profile; did you mean `deadline`?"),
        ("zzz = 1", f"{KEY}`zzz`: no field of a profile; choose from `on_failure`, `mode`, `deadline`, "),
        ('pdp = "https://pdp.example"', f"{KEY}`pdp`: `pdp` is wiring, and TOML holds profiles only; pass it to"),
        ("given = []", f"{KEY}`given`: no field of a profile"),
        ("deadline = 0", f"{KEY}`deadline`: `deadline` is `0`; give a finite number of seconds, greater than 0"),
        ('deadline = "1"', f"{KEY}`deadline`: `deadline` is a `str`"),
        ("deadline = true", "`deadline` is a `bool`"),
        ("deadline = inf", "`deadline` is `inf`"),
        ("deadline = nan", "`deadline` is `nan`"),
        (f"deadline = 1{'0' * 400}", "`deadline` is a `int`"),
        ("deadline = 2026-12-01", "`deadline` is a `date`"),
        ("permit_ttl = -1", f"{KEY}`permit_ttl`: `permit_ttl` is `-1`; give a finite number of seconds, 0 or more"),
        ('permit_ttl = "30s"', "`permit_ttl` is a `str`"),
        ("revalidate = [1]", "`revalidate` is a `list`"),
        ("hidden = 1", f"{KEY}`hidden`: `hidden` is a `int`; give `True` or `False`"),
        ('pin_arguments = "yes"', f"{KEY}`pin_arguments`: `pin_arguments` is a `str`"),
        ('audit = "durabel"', f"{KEY}`audit`: `durabel` is no guarantee; did you mean `durable`?"),
        ('audit = "none"', "`none` is no guarantee; choose from `buffered`, `written`, `durable`"),
        ("audit = true", "a `bool` is no guarantee; choose from `buffered`, `written`, `durable`"),
        ("audit = {}", "a `dict` is no guarantee"),
    ],
)
def test_keys_and_values_are_checked(write: Write, line: str, fragment: str) -> None:
    """A key that is unknown, or a value that is not its own, is refused with file, table, key and mend."""
    assert fragment in refusal(write(f'["feed:read"]\n{line}\n'))


MODE, FAILURE = f"{KEY}`mode`: ", f"{KEY}`on_failure`: "
FAILURE_FORMS = 'write `"closed"`, `{ open = [...], limit = "100/minute" }` or `{ stale = 300 }`'


@pytest.mark.parametrize(
    ("value", "fragment"),
    [
        ('"open"', f"`open` is no failure mode; {FAILURE_FORMS}"),
        ('"Closed"', f"`Closed` is no failure mode; {FAILURE_FORMS}"),
        ('{ opne = ["timeout"] }', f"`opne` is no failure mode; {FAILURE_FORMS}"),
        ("{}", f"a `dict` is no failure mode; {FAILURE_FORMS}"),
        ("false", f"a `bool` is no failure mode; {FAILURE_FORMS}"),
        ('["closed"]', f"a `list` is no failure mode; {FAILURE_FORMS}"),
        ("{ stale = -1 }", "`max_age` is `-1`; give a finite number of seconds"),
        ('{ stale = "5m" }', "`max_age` is a `str`"),
        ('{ stale = 1, limit = "1/day" }', "unknown key `limit` beside `stale`; leave it out"),
        ('{ stale = 1, open = ["timeout"] }', "unknown key `open` beside `stale`; leave it out"),
        ('{ open = ["timeout"] }', "`limit` is missing beside `open`; add it"),
        ('{ open = ["timeout"], limti = "1/day" }', "unknown key `limti` beside `open`; did you mean `limit`?"),
        ('{ open = [], limit = "1/day" }', "`on` names no fault; give some of {Fault.OVERLOADED"),
        ('{ open = "timeout", limit = "1/day" }', "`open` is a `str`; write an array, in `[...]`"),
        (
            '{ open = ["timeuot"], limit = "1/day" }',
            "`timeuot` is no fault that can be excused; did you mean `timeout`?",
        ),
        (
            '{ open = ["audit"], limit = "1/day" }',
            "`audit` is no fault that can be excused; choose from `timeout`, `unreachable`, `overloaded`",
        ),
        ('{ open = [1], limit = "1/day" }', "a `int` is no fault that can be excused; choose from `timeout`"),
        ('{ open = ["timeout"], limit = 100 }', "`int` is no rate; write a count"),
        ('{ open = ["timeout"], limit = "100/min" }', "`100/min` is no rate; write a count"),
        ('{ open = ["timeout"], limit = "1/day", per_subject = "many" }', "`many` is no rate"),
        (
            '{ open = ["timeout"], limit = "1/day", obligations = { type = "notify" } }',
            "`obligations` is a `dict`; write an array",
        ),
        (
            '{ open = ["timeout"], limit = "1/day", obligations = ["notify"] }',
            'an obligation is a table with a `type`; write `{ type = "notify" }`',
        ),
        ('{ open = ["timeout"], limit = "1/day", obligations = [{ id = "a" }] }', "a table with a `type`"),
        (
            '{ open = ["timeout"], limit = "1/day", obligations = [{ type = "a", propertys = {} }] }',
            "unknown key `propertys` beside `type`; did you mean `properties`?",
        ),
        ('{ open = ["timeout"], limit = "1/day", obligations = [{ type = "" }] }', "an obligation's type must be"),
        (
            '{ open = ["timeout"], limit = "1/day", obligations = [{ type = "a", properties = { at = 2026-12-01 } }] }',
            "`date` is no attribute value",
        ),
    ],
)
def test_failure_modes_are_checked(write: Write, value: str, fragment: str) -> None:
    """A failure mode is one of the three forms, whole and nothing beside."""
    message = refusal(write(f'["feed:read"]\non_failure = {value}\n'))
    assert message.startswith(FAILURE)
    assert fragment in message


MODE_FORMS = 'write `"enforce"`, `{ shadow = "why", until = ... }` or `{ canary = 0.1, until = ..., reason = "why" }`'


@pytest.mark.parametrize(
    ("value", "fragment"),
    [
        ('"off"', f"`off` is no mode; {MODE_FORMS}; there is no off switch"),
        ('"shadow"', f"`shadow` is no mode; {MODE_FORMS}"),
        ("false", f"a `bool` is no mode; {MODE_FORMS}"),
        ("{}", f"a `dict` is no mode; {MODE_FORMS}"),
        ("{ until = 2026-12-01T00:00:00Z }", f"`until` is no mode; {MODE_FORMS}"),
        ('{ shadow = "new" }', "`until` is missing beside `shadow`; add it"),
        ("{ shadow = true, until = 2026-12-01T00:00:00Z }", "`reason` must say why this is not enforced yet"),
        ('{ shadow = " ", until = 2026-12-01T00:00:00Z }', "`reason` must say why this is not enforced yet"),
        ('{ shadow = "new", until = 2026-12-01T00:00:00 }', "`until` must be a datetime with a time zone"),
        ('{ shadow = "new", until = 2026-12-01 }', "or `Z` in TOML"),
        ('{ shadow = "new", until = "2026-12-01T00:00:00Z" }', "`until` must be a datetime with a time zone"),
        (
            '{ shadow = "new", until = 2026-12-01T00:00:00Z, reason = "new" }',
            "unknown key `reason` beside `shadow`; choose from `until`",
        ),
        ('{ canary = 0.1, reason = "new" }', "`until` is missing beside `canary`; add it"),
        ("{ canary = 0.1, until = 2026-12-01T00:00:00Z }", "`reason` is missing beside `canary`; add it"),
        (
            '{ canary = 0.1, untill = 2026-12-01T00:00:00Z, reason = "new" }',
            "unknown key `untill` beside `canary`; did you mean `until`?",
        ),
        ('{ canary = 1, until = 2026-12-01T00:00:00Z, reason = "new" }', "`fraction` is `1`; give a float between"),
        ('{ canary = 10.0, until = 2026-12-01T00:00:00Z, reason = "new" }', "`fraction` is `10.0`"),
        ('{ canary = "10%", until = 2026-12-01T00:00:00Z, reason = "new" }', "`fraction` is a `str`"),
    ],
)
def test_modes_are_checked(write: Write, value: str, fragment: str) -> None:
    """A mode is one of the three forms, whole and nothing beside; none of them is off."""
    message = refusal(write(f'["feed:read"]\nmode = {value}\n'))
    assert message.startswith(MODE)
    assert fragment in message


# What is refused: tables and files


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ("deadline = 1", "`pep.toml`: key `deadline`: stands outside of any table; put it below a pattern, such as"),
        ('audit = "durable"', "`pep.toml`: key `audit`: stands outside of any table"),
        ('"feed:read" = 1', "`pep.toml`: key `feed:read`: stands outside of any table"),
        ('[["feed:read"]]\nhidden = true', "key `feed:read`: stands outside of any table"),
        (
            'pdp = "x"',
            "`pep.toml`: `pdp` is wiring, and TOML holds profiles only; pass it to `Enforcer(...)` in Python",
        ),
        ("[pdp]\nurl = 1", "`pep.toml`: `pdp` is wiring"),
        ("[audit]\nsink = 1", "`pep.toml`: `audit` is wiring"),
        ("[cache]\nentries = 1", "`pep.toml`: `cache` is wiring"),
        (
            "[feed.read]\nhidden = true",
            'table `feed`: key `read`: no field of a profile; write its table as `["feed:read"]`',
        ),
        (
            '[profiles."feed:read"]\nhidden = true',
            'key `feed:read`: no field of a profile; write its table as `["feed:read"]`',
        ),
        ("[feed]\nhidden = true", "`pep.toml`: pattern `feed` matches no action"),
        ('["feed:re*"]', "`pep.toml`: pattern `feed:re*` has `*` within a segment"),
        ('[""]', "`pep.toml`: a pattern is a `str` that is not empty"),
        (
            '["**"]\non_failure = { open = ["timeout"], limit = "1/day" }',
            "`pep.toml`: `FailOpen` on `**` would hold for",
        ),
        ('["*:read"]\n["feed:*"]', "`pep.toml`: patterns `*:read` and `feed:*` both match `feed:read`"),
    ],
)
def test_tables_are_checked(write: Write, content: str, fragment: str) -> None:
    """What is no pattern's table, or goes with no other, is refused with the file and the mend."""
    assert fragment in refusal(write(content))


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ('["feed:read"', "`pep.toml`: is not TOML: "),
        ("[feed:read]", "line 1"),
        ('["feed:read"]\ndeadline = \n', "line 2"),
        ('["feed:read"]\nhidden = True\n', "line 2"),
        ('["feed:read"]\nhidden = true\nhidden = true\n', "line 3"),
        ('["feed:read"]\n["feed:read"]\n', "is not TOML: "),
        ('["feed:read"]\ndeadline = 2026-13-01\n', "is not TOML: "),
        ("{}", "is not TOML: "),
        pytest.param(f"a = {'1' * 5_000}", "`pep.toml`: ", id="an endless number"),
        pytest.param(f"a = {'[' * 100_000}", "is not TOML: ", id="an endless array"),
        ('["feed:read"]'.encode("utf-16"), "`pep.toml`: is not UTF-8, as TOML is; save it as UTF-8"),
        ('["straße:ß"]'.encode("latin-1"), "`pep.toml`: is not UTF-8"),
        (codecs.BOM_UTF8 + b'["feed:read"]', "`pep.toml`: starts with a byte order mark; save it as UTF-8 without one"),
    ],
)
def test_what_is_not_toml_is_refused(write: Write, content: str | bytes, fragment: str) -> None:
    """A file that cannot be parsed is refused with its name, and the line where there is one."""
    assert fragment in refusal(write(content))


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    """A missing file, or a folder, is a mistake of configuration and not an empty one."""
    missing = tmp_path / "missing.toml"
    assert refusal(missing) == f"`{missing}`: cannot be read: No such file or directory; name a TOML file"
    assert refusal(tmp_path).startswith(f"`{tmp_path}`: cannot be read: ")


def test_no_file_is_refused() -> None:
    """Loading from nothing is a mistake, such as a pattern of paths that found none."""
    assert refusal() == "no profile file was named; give at least one path"


def test_a_mistake_is_put_down_to_its_file(write: Write) -> None:
    """Of several files, the one with the mistake is named; both are, when they do not go together."""
    first = write('["*:read"]\n', "a.toml")
    assert refusal(first, write("[feed]\n", "b.toml")).startswith("`b.toml`: pattern `feed`")
    message = refusal(first, write('["feed:*"]\n', "b.toml"))
    assert message.startswith("`a.toml` and `b.toml`: patterns `*:read` and `feed:*` both match `feed:read`")


def test_the_cause_is_kept(write: Write) -> None:
    """What the reader of TOML or the system said is the cause of the refusal."""
    with pytest.raises(ConfigurationError) as caught:
        Profiles.load(write("["))
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(ConfigurationError) as caught:
        Profiles.load("missing.toml")
    assert isinstance(caught.value.__cause__, FileNotFoundError)
