from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.audit import reading
from pep.audit.family import family, members, opened
from pep.audit.reading import MAX_LINE, Damage, Entry, Harm, Place, read, read_file
from pep.errors import AuditError
from tests.audit.families import Pen, hashed, name, put, rotated

ACTIVE = "audit.jsonl"
LINES = Pen(name(1)).lines(12)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ACTIVE


def found(path: Path) -> list[tuple[int, int, Any]]:
    """Line, offset, and what is there: fields, or the harm."""
    return [
        (one.place.line, one.place.offset, one.fields if isinstance(one, Entry) else one.harm) for one in read(path)
    ]


DEEP = b"[" * 300 + b"]" * 300
HARMS = [
    (b"", Harm.NOT_JSON),
    (b" ", Harm.NOT_JSON),
    (b"x", Harm.NOT_JSON),
    (b'{"a":1', Harm.NOT_JSON),
    (b'{"a":1}}', Harm.NOT_JSON),
    (b'{"a":1}{"a":1}', Harm.NOT_JSON),
    (b"{'a':1}", Harm.NOT_JSON),
    (b'{"a":NaN}', Harm.NOT_JSON),
    (b'{"a":1e400}', Harm.NOT_JSON),
    (b'{"a":"\x1b"}', Harm.NOT_JSON),
    (b'{"a":"\\ud800"}', Harm.NOT_JSON),
    (b'{"a":%b}' % DEEP, Harm.NOT_JSON),
    (DEEP * 1000, Harm.NOT_JSON),
    (b"\xef\xbb\xbf{}", Harm.NOT_JSON),
    (b"\xff", Harm.ENCODING),
    (b'{"a":"\xc3"}', Harm.ENCODING),
    (b'{"a":"\xed\xa0\x80"}', Harm.ENCODING),
    (b'{"a":"\0"}', Harm.NUL),
    (bytes(100), Harm.NUL),
    (b"[]", Harm.NOT_OBJECT),
    (b'"a"', Harm.NOT_OBJECT),
    (b"null", Harm.NOT_OBJECT),
    (b"1", Harm.NOT_OBJECT),
    (b'{"a":1,"a":1}', Harm.DUPLICATE),
    (b'{"a":1,"\\u0061":2}', Harm.DUPLICATE),
    (b'{"b":[{"a":{"c":1,"d":2,"c":3}}]}', Harm.DUPLICATE),
    (b'{"a":%b,"a":1}' % (b"9" * 40), Harm.DUPLICATE),
    (b'{"a":%b}' % (b"9" * 5000), Harm.NOT_JSON),
    (b'{"a":1,"a":1}' + b" " * 7, Harm.DUPLICATE),
]
WHOLE = [
    b"{}",
    b'{"a":1.50}',
    b' { "a" : [ 1 , null ] } ',
    b'{"a":1}\r',
    b'{"a":"\\u00e9\\n"}',
]


@pytest.mark.parametrize(("line", "harm"), HARMS)
def test_damages_are_told_and_read_over(path: Path, line: bytes, harm: Harm) -> None:
    """Whatever is in a line, it is told what is wrong with it, and the next one is read."""
    path.write_bytes(b'{"a":1}\n' + line + b'\n{"b":2}\n')
    assert found(path) == [(1, 0, {"a": 1}), (2, 8, harm), (3, 9 + len(line), {"b": 2})]


@pytest.mark.parametrize("line", WHOLE)
def test_unusual_json_is_a_record(path: Path, line: bytes) -> None:
    """Spaces, escapes and large numbers are no damage."""
    path.write_bytes(line + b"\n")
    (entry,) = read(path)
    assert isinstance(entry, Entry)
    assert (entry.fields, entry.line) == (json.loads(line), line)


def test_a_torn_last_line(path: Path) -> None:
    """A last line without its newline is torn, even if it is JSON."""
    path.write_bytes(b'{"a":1}\n{"b":2}')
    (_, torn) = read(path)
    assert torn == Damage(Place(path, 2, 8), Harm.TORN, "7 bytes without a newline")
    assert str(torn) == f"{path}:2:8: torn, 7 bytes without a newline"
    assert torn.to_dict() == {
        "file": str(path), "line": 2, "offset": 8, "harm": "torn", "detail": "7 bytes without a newline",
    }  # fmt: skip
    bare = Damage(Place(path, 1, 0), Harm.NOT_OBJECT)
    assert (str(bare), "detail" in bare.to_dict()) == (f"{path}:1:0: not an object", False)


@pytest.mark.parametrize("excess", [1, 1 << 18, MAX_LINE + 5])
@pytest.mark.parametrize("ended", [True, False])
def test_lines_without_end_are_read_over(path: Path, excess: int, ended: bool) -> None:
    """A line that is longer than any record takes no memory, and the next one is read."""
    size = MAX_LINE + (1 << 18) + excess
    path.write_bytes(b'{"a":1}\n' + b"x" * size + b'\n{"b":2}\n' * ended)
    expected = [(1, 0, {"a": 1}), (2, 8, Harm.TOO_LONG), (3, 9 + size, {"b": 2})]
    assert found(path) == expected[: 2 + ended]
    assert [one.detail for one in read(path) if isinstance(one, Damage)] == ["over 4 MiB"]


@given(
    content=st.binary(max_size=200) | st.lists(st.sampled_from([*WHOLE, b"{}\n", b"\n", b'{"a', b"\xc3"])).map(b"".join)
)
def test_nothing_in_a_file_ends_the_reading(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Any bytes are read to their end, each line once and where it is."""
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(content)
    lines = content.split(b"\n")
    places = [(one.place.line, one.place.offset) for one in read(path)]
    starts = [(at + 1, sum(map(len, lines[:at])) + at) for at in range(len(lines))]
    assert places == (starts if lines[-1] else starts[:-1])


@given(size=st.integers(1, 40))
def test_blocks_do_not_show(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    """Wherever a block of reading ends, the lines are the same."""
    path = tmp_path_factory.getbasetemp() / "blocks.jsonl"
    path.write_bytes(b'{"a":1}\n\n{"bb":22}\n{"c')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_BLOCK", size)
        patch.setattr(reading, "MAX_LINE", 8)
        assert [(line, at) for line, at, _ in found(path)] == [(1, 0), (2, 8), (3, 9), (4, 19)]


def test_a_damaged_line_is_never_quoted(path: Path) -> None:
    """What is told of a damage discloses nothing of the line."""
    for line, _ in HARMS:
        path.write_bytes(line.replace(b"a", b"secret") + b"\n")
        assert "secret" not in "".join(str(one) for one in read(path) if isinstance(one, Damage))


# Families.


def names(path: Path) -> list[str]:
    return [file.name for file in family(path)]


def test_a_family_is_ordered_by_its_chain(tmp_path: Path) -> None:
    """Rotated files come before what goes on from them, whatever their names say of time."""
    pen = Pen(name(2), prev=hashed(LINES[-1]))
    files = {
        rotated(name(1), 0, 9): LINES[:4],
        rotated(name(1), 4, 5): LINES[4:9],
        rotated(name(1), 9, 1): LINES[9:],
        rotated(name(2), 0, 2): pen.lines(3),
        ACTIVE: pen.lines(2),
        f"audit.{name(3)}.jsonl": Pen(name(3), prev=hashed(LINES[-1])).lines(2),
    }
    path = put(tmp_path, files)
    order = names(path)
    assert order[:3] == list(files)[:3]
    assert order.index(rotated(name(2), 0, 2)) < order.index(ACTIVE)
    assert sorted(order) == sorted(files)
    assert [one.fields["seq"] for one in read(path) if isinstance(one, Entry)][:12] == list(range(12))
    assert [file.name for file, _ in opened(path)] == order


def test_damage_leaves_the_order(tmp_path: Path) -> None:
    """Where the chain is broken, the writer's numbers and then the time tell which file comes first."""
    files = {
        rotated(name(1), 0, 9): [*LINES[:3], b"x" + LINES[3]],
        rotated(name(1), 4, 5): [*LINES[4:8], b"x"],
        ACTIVE: LINES[9:],
        "audit.0000000000000009.jsonl": [b"x"],
    }
    assert names(put(tmp_path, files)) == list(files)
    assert names(put(tmp_path, {ACTIVE: [b"x"], rotated(name(1), 0): LINES})) == [rotated(name(1), 0), ACTIVE]
    headless = [b'{"schema":"pep.audit/1","prev":"%b","seq":0,"writer":"%b","a":1}' % (b"0" * 64, b"1" * 16)]
    assert names(put(tmp_path, {ACTIVE: headless, rotated(name(1), 0): LINES})) == [rotated(name(1), 0), ACTIVE]


def test_files_that_go_on_from_one_another_are_read(tmp_path: Path) -> None:
    """Forged numbers that lead in a circle end nothing."""
    first, second = Pen(name(1), seq=5, prev="1" * 64), Pen(name(2), seq=5, prev="2" * 64)
    crossed = [
        [first.line(), Pen(name(2), seq=1, prev="3" * 64).line()],
        [second.line(), Pen(name(1), seq=1, prev="4" * 64).line()],
    ]
    files = {rotated(name(1), 5): crossed[0], rotated(name(2), 5): crossed[1]}
    assert sorted(names(put(tmp_path, files))) == sorted(files)


def test_other_files_are_no_members(tmp_path: Path) -> None:
    """Only what the sink would call its own is read; so is any one file."""
    files = {
        ACTIVE: LINES,
        "audit.jsonl.1": LINES,
        "other.jsonl": LINES,
        "audit.old.jsonl": LINES,
        "xaudit.jsonl": LINES,
        f"audit.{name(1)}.json": LINES,
        f"audit.{name(1)}x.jsonl": LINES,
        f"AUDIT.{name(1)}.jsonl": LINES,
    }
    path = put(tmp_path, files)
    (tmp_path / f"audit.{name(8)}.jsonl").mkdir()
    assert names(path) == [ACTIVE]
    assert names(tmp_path / "audit.old.jsonl") == ["audit.old.jsonl"]
    (tmp_path / "a[b].log").write_bytes(b"{}\n")
    (tmp_path / f"a[b].{name(1)}.log").write_bytes(b"{}\n")
    (tmp_path / "noext").write_bytes(b"{}\n")
    assert len(names(tmp_path / "a[b].log")) == 2
    assert names(tmp_path / "noext") == ["noext"]
    assert len(list(read_file(path))) == 12


def test_a_family_outlives_its_active_file(tmp_path: Path) -> None:
    """Between two files, or after the last, the rotated ones are still read."""
    assert names(put(tmp_path, {rotated(name(1), 0): LINES})) == [rotated(name(1), 0)]


def test_a_file_that_is_rotated_meanwhile_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is renamed between looking and reading is neither lost nor read twice."""
    path = put(tmp_path, {ACTIVE: LINES})
    with ExitStack() as stack:
        (member,) = members(path, stack)
        path.rename(tmp_path / rotated(name(1), 0))
        path.write_bytes(b"")
        with member.opened() as stream:
            assert stream.read() == b"".join(line + b"\n" for line in LINES)
    path.unlink()
    (tmp_path / rotated(name(1), 0)).rename(path)
    os.link(path, tmp_path / rotated(name(1), 0))
    assert names(path) == [ACTIVE]


def test_what_cannot_be_read_is_an_error(tmp_path: Path, path: Path) -> None:
    """No file, no folder, or none that is a file: that alone is an error, and told without waiting."""
    for wrong in (path, tmp_path / "none" / ACTIVE):
        with pytest.raises(AuditError, match=r"cannot read audit file `.*`: No such file or directory"):
            list(read(wrong))
    with pytest.raises(AuditError, match="is no regular file; name one"):
        list(read(tmp_path))
    os.mkfifo(path)
    for reader in (read, read_file):
        with pytest.raises(AuditError, match="is no regular file; name one"):
            list(reader(path))
