from __future__ import annotations

import hashlib
import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pep.audit.chain import GENESIS, HEAD, digest, followed, linked, linked_all, new_writer
from tests.audit.disks import record

WRITER = b"0123456789abcdef"
LINE = st.binary(min_size=1, max_size=12).map(lambda line: line.replace(b"\n", b"-"))


def test_the_members_follow_the_schema() -> None:
    """A chained line is the record's own JSON with three members more, right after its schema."""
    own = record(name="x").to_json()
    line = linked(own, GENESIS, 7, WRITER)
    assert own.startswith(HEAD)
    assert line.startswith(HEAD + b'"prev":"' + GENESIS + b'","seq":7,"writer":"0123456789abcdef",')
    told = json.loads(line)
    assert list(told)[:4] == ["schema", "prev", "seq", "writer"]
    assert {name: told[name] for name in json.loads(own)} == json.loads(own)
    assert len(told) == len(json.loads(own)) + 3


def test_the_hash_is_of_the_line_without_its_newline() -> None:
    """Anybody can compute it with a tool of their own."""
    assert digest(b"line") == hashlib.sha256(b"line").hexdigest().encode()


def test_writers_are_told_apart() -> None:
    """A writer's id is 16 hexadecimal digits, and never the same twice."""
    ids = {new_writer() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(each) == 16 and set(each) <= set(b"0123456789abcdef") for each in ids)


@given(st.integers(0, 5))
def test_several_records_are_chained_as_one_after_the_other(count: int) -> None:
    """A batch is what its records would have been one by one."""
    jsons = [record(at=at).to_json() for at in range(count)]
    payload, prev = linked_all(jsons, GENESIS, 3, WRITER)
    lines = payload.split(b"\n")[:-1]
    hashes = [GENESIS, *map(digest, lines)]
    assert lines == [linked(json, hashes[at], 3 + at, WRITER) for at, json in enumerate(jsons)]
    assert prev == hashes[-1]
    assert all(digest(line) != digest(other) for line, other in pairwise(lines))


@given(st.lists(LINE, min_size=1, max_size=4), st.data())
def test_what_was_cut_off_is_counted(lines: list[bytes], data: st.DataObject) -> None:
    """However much of the lines reached the file, the chain goes on from the last one, whole or not."""
    attempt = b"".join(line + b"\n" for line in lines)
    cut = data.draw(st.integers(0, len(attempt)))
    found = attempt[:cut]
    closed = found + b"\n" if found and not found.endswith(b"\n") else found
    prev, whole, torn = followed(closed, attempt, GENESIS)
    assert prev == (digest(closed.split(b"\n")[-2]) if closed else GENESIS)
    assert b"".join(line + b"\n" for line in lines[:whole]) == closed[: len(closed) - torn - bool(torn)]


def test_what_others_wrote_is_no_line_of_ours() -> None:
    """The chain goes on from a line that somebody else wrote, but does not count it."""
    assert followed(b"theirs\n", b"", GENESIS) == (digest(b"theirs"), 0, 0)
    assert followed(b"ours\ntheirs\n", b"ours\nmore\n", GENESIS) == (digest(b"theirs"), 1, 0)
    assert followed(b"theirs\nours\n", b"ours\n", GENESIS) == (digest(b"ours"), 0, 0)
