from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep.audit.checkpoint import Checkpoint
from pep.audit.file import FileSink
from pep.audit.findings import Finding, Wrong
from pep.audit.links import GENESIS
from pep.audit.merkle import leaf_hash, tree_root
from pep.audit.reading import Damage, Harm, Place, read
from pep.audit.record import Kind, Record, masked, new_id
from pep.audit.verifying import MAX_KEPT, Report, verify
from pep.errors import AuditError
from tests.audit.families import ZERO, Pen, chained, hashed, name, put, rechained, rotated
from tests.proving import times

ACTIVE = "audit.jsonl"
SIDE = f"audit.{name(3)}.jsonl"
OLD, NEWER = rotated(name(1), 0), rotated(name(1), 8, 1)


def signed(lines: Sequence[bytes], writer: str, size: int | None = None) -> Checkpoint:
    """What a signer says of the first lines of a writer."""
    count = len(lines) if size is None else size
    return Checkpoint(f"log/{writer}", count, tree_root([leaf_hash(line) for line in lines[:count]]))


PEN = Pen(name(1))
FIRST = [PEN.line(name="é" * (at % 3), at=at) for at in range(20)]
SECOND = Pen(name(2), prev=PEN.prev).lines(10)
THIRD = Pen(name(3), prev=hashed(FIRST[9])).lines(6)
#: Two processes one after the other, over three files, and a third beside them that began in the midst of the second.
FAMILY = {OLD: FIRST[:8], NEWER: FIRST[8:15], ACTIVE: FIRST[15:] + SECOND, SIDE: THIRD}
WITNESS = [signed(SECOND, name(2)), signed(THIRD, name(3))]
#: A chain that has nothing to do with it.
FOREIGN = Pen(name(7)).lines(9)


def told(report: Report) -> list[tuple[str, str | None, int | None]]:
    """What is wrong, in short: kind, file, line."""
    return [(f.wrong.value, f.place and f.place.path.name, f.place and f.place.line) for f in report.findings]


@pytest.fixture
def checked(tmp_path: Path) -> Callable[..., list[tuple[str, str | None, int | None]]]:
    def check(files: dict[str, Sequence[bytes]], tails: dict[str, bytes] | None = None, **options: Any) -> Any:
        return told(verify(put(tmp_path, files, tails), **options))

    return check


# What is as it was written.


@pytest.mark.parametrize("run", [1, 2, 3, 64])
@pytest.mark.parametrize(
    "files",
    [
        {ACTIVE: []},
        {ACTIVE: FIRST},
        {ACTIVE: FIRST + SECOND},
        {OLD: FIRST, ACTIVE: SECOND},
        {OLD: FIRST, ACTIVE: []},
        {OLD: FIRST},
        FAMILY,
        # A rotated file that goes by another time still is in its place.
        {rotated(name(1), 0, 9): FIRST[:8], NEWER: FIRST[8:15], ACTIVE: FIRST[15:]},
    ],
)
def test_nothing_is_wrong_with_what_was_written(
    tmp_path: Path, files: dict[str, Sequence[bytes]], run: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An untouched family has no finding, whatever its files are."""
    monkeypatch.setattr("pep.audit.links._RUN", run)
    report = verify(put(tmp_path, files))
    assert report.intact
    assert report.findings == ()
    assert report.records == sum(map(len, files.values()))
    assert report.proven == 0


def test_a_checkpoint_proves_what_came_before(tmp_path: Path) -> None:
    """Proven are the signed lines and all that their hashes lead back to; nothing after, and nothing beside."""
    path = put(tmp_path, FAMILY)
    proven = {chain.writer: chain.proven for chain in verify(path, checkpoints=[signed(SECOND, name(2), 4)]).chains}
    assert proven == {name(1): 20, name(2): 4, name(3): 0}
    report = verify(path, checkpoints=[signed(THIRD, name(3), 6), signed(THIRD, name(3), 2)])
    assert {chain.writer: chain.proven for chain in report.chains} == {name(1): 10, name(2): 0, name(3): 6}
    places = {chain.writer: chain.proven_to for chain in report.chains}
    offset = len(FIRST[8]) + 1
    assert places == {
        name(1): Place(tmp_path / NEWER, 2, offset),
        name(2): None,
        name(3): Place(tmp_path / SIDE, 6, sum(map(len, THIRD[:5])) + 5),
    }
    assert [chain.last for chain in report.chains if chain.writer == name(1)] == [
        Place(tmp_path / ACTIVE, 5, sum(map(len, FIRST[15:19])) + 4)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_what_the_sink_writes_is_in_order(tmp_path: Path, seed: int) -> None:
    """Files of the real sink, rotated, left torn, forked from and written beside, have no finding."""
    chance = random.Random(seed)  # noqa: S311  no secret
    path = tmp_path / ACTIVE
    tmp_path.chmod(0o700)
    for process in range(6):
        sinks = [FileSink(path, rotate_bytes=2000) for _ in range(chance.randint(1, 3))]
        for at in range(chance.randint(1, 40)):
            sinks[at % len(sinks)].record(record(process, at))
        for sink in sinks:
            sink.close()
        if chance.random() < 0.7:
            with path.open("ab") as file:
                file.write(b'{"schema":"pep.audit/1","prev":"' + b"0" * chance.randint(0, 9))
    FileSink(path).close()
    report = verify(path)
    assert told(report) == []
    assert report.records > 6


def record(process: int, at: int) -> Record:
    return Record(Kind.DECISION, new_id(1.0), 1.0, masked({"at": at, "process": process}))


def test_lines_written_again_are_no_finding(checked: Any) -> None:
    """A file that would not sync is followed by one that starts with the lines that may be lost."""
    assert checked({OLD: FIRST[:8], ACTIVE: FIRST[5:]}) == []
    assert checked({OLD: FIRST[:8], ACTIVE: FIRST[7:]}) == []
    assert checked({OLD: FIRST[:8], ACTIVE: FIRST[5:8]}) == []


def test_a_line_written_again_before_the_last_one_must_be_the_same(checked: Any) -> None:
    """Where the last one of them is what it was, the one before it must lead there."""
    again = FIRST[8:10]
    assert checked({OLD: FIRST[:10], ACTIVE: again + FIRST[10:]}) == []
    assert checked({OLD: FIRST[:10], ACTIVE: [again[0].replace(b'"at":8', b'"at":0'), again[1], *FIRST[10:]]}) == [
        ("repeated", ACTIVE, 1)
    ]


@pytest.mark.parametrize("end", [10, 11, 13], ids="ends with {} lines".format)
@pytest.mark.parametrize("start", range(6, 11), ids="begins with line {}".format)
@pytest.mark.parametrize("size", [20, 150])
def test_fragments_written_again_are_no_finding(tmp_path: Path, checked: Any, size: int, start: int, end: int) -> None:
    """A new file may start with lines that another has, fragments among them; but they must be the same."""
    piece = FIRST[9][:size]
    lines = [*FIRST[:9], piece, *Pen(name(1), prev=hashed(piece), seq=9).lines(6)]
    report = verify(put(tmp_path, {OLD: lines[:end], ACTIVE: lines[start:]}))
    assert (told(report), report.records) == ([], 15)
    assert checked({OLD: lines[:end], ACTIVE: [*lines[start:12], *lines[13:]]}) != []
    if start < 9:
        other = lines[8].replace(b'"at":8', b'"at":0')
        assert checked({OLD: lines[:end], ACTIVE: [*lines[start:8], other, *lines[9:]]}) != []
        assert checked({OLD: [*lines[:8], other, *lines[9:end]], ACTIVE: lines[start:]}) != []


@pytest.mark.parametrize(
    ("sizes", "end"),
    [
        *((sizes, end) for sizes in [(20,), (150,), (150, 150), (20, 150)] for end in range(9, 14)),
        # A fragment that names nothing, at the start of a file, leads to no fragment in another one.
        *((sizes, end) for sizes in [(20, 20), (150, 20), (20, 150, 20)] for end in (9, 9 + len(sizes), 13)),
    ],
)
def test_a_file_may_end_with_fragments(tmp_path: Path, sizes: tuple[int, ...], end: int) -> None:
    """Their writer goes on from them in another file; another writer may have its own in between."""
    pieces, prev = list[bytes](), hashed(FIRST[8])
    for size in sizes:
        pieces.append(chained(prev, 9, name(1))[:size])
        prev = hashed(pieces[-1])
    lines = [*FIRST[:9], *pieces, *Pen(name(1), prev=prev, seq=9).lines(6)]
    cut = FIRST[9][:20]
    side = [*Pen(name(3), prev=hashed(FIRST[4])).lines(6), cut, *Pen(name(3), prev=hashed(cut), seq=6).lines(3)]
    report = verify(put(tmp_path, {OLD: lines[:end], ACTIVE: lines[end:], SIDE: side}))
    assert told(report) == []
    assert report.torn >= 1


@pytest.mark.parametrize("size", [20, 150])
def test_a_fragment_far_into_a_file_is_gone_on_from(checked: Any, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what another file may start with has to be near the start of one."""
    monkeypatch.setattr("pep.audit.family._PEEKED", 500)
    piece = FIRST[9][:size]
    assert checked({ACTIVE: [*FIRST[:9], piece, *Pen(name(1), prev=hashed(piece), seq=9).lines(6)]}) == []


def test_a_branch_is_gone_on_from_by_all(checked: Any) -> None:
    """Where several writers go on from one line, its own writer may be the last to do so."""
    side = Pen(name(3), prev=hashed(FIRST[9])).lines(4)
    for first, second in ((SIDE, ACTIVE), (ACTIVE, SIDE)):
        assert checked({OLD: FIRST[:10], first: side, second: FIRST[10:]}) == []


def test_a_fragment_follows_only_the_one_it_names(checked: Any) -> None:
    """A line that was damaged is not taken for cut short because a line after it was."""
    for size, expected in ((150, ("damaged", ACTIVE, 9)), (20, ("missing", ACTIVE, 11))):
        piece = FIRST[9][:size]
        rest = Pen(name(1), prev=hashed(piece), seq=9).lines(5)
        assert checked({ACTIVE: [*FIRST[:9], piece, *rest]}) == []
        assert checked({ACTIVE: [*FIRST[:8], b"x" + FIRST[8], piece, *rest]}) == [expected]


def test_lines_written_again_must_be_the_same(checked: Any) -> None:
    """Lines that only look as if they were written again are told of, wherever they end."""
    changed = rechained([*FIRST[:5], FIRST[5].replace(b'"at":5', b'"at":6'), *FIRST[6:]], 5)
    for end in (6, 7, 8, 12):
        assert ("repeated", ACTIVE, min(end, 8) - 5) in checked({OLD: FIRST[:8], ACTIVE: changed[5:end]})
    assert checked({OLD: FIRST[:8], ACTIVE: [*FIRST[5:7], FIRST[9]]})[0] == ("repeated", ACTIVE, 2)
    assert checked({OLD: FIRST[:8], ACTIVE: FIRST[5:7], SIDE: THIRD})[0] == ("repeated", ACTIVE, 2)


# What is wrong, to the letter.

EDIT = FIRST[5].replace(b'"at":5', b'"at":6')


def changed(at: int, line: bytes) -> list[bytes]:
    return [*FIRST[:at], line, *FIRST[at + 1 :]]


FORK = chained(hashed(FIRST[5]), 6, name(1))
TABLE: dict[str, tuple[list[bytes], list[tuple[str, int]]]] = {
    "edited": (changed(5, EDIT), [("edited", 6)]),
    "two edited": (
        [*changed(5, EDIT)[:6], FIRST[6].replace(b'"at":6', b'"at":7'), *FIRST[7:]],
        [("edited", 6), ("edited", 7)],
    ),
    "hash edited": (changed(5, FIRST[5][:40] + b"abcdef" + FIRST[5][46:]), [("edited", 6)]),
    "number edited": (changed(5, FIRST[5].replace(b'"seq":5', b'"seq":9')), [("edited", 6)]),
    "writer edited": (changed(5, FIRST[5].replace(name(1).encode(), name(9).encode())), [("edited", 6)]),
    "last number edited": (changed(19, FIRST[19].replace(b'"seq":19', b'"seq":29')), [("edited", 20)]),
    "last writer edited": (changed(19, FIRST[19].replace(name(1).encode(), name(9).encode())), [("edited", 20)]),
    "second line's number edited": (changed(1, FIRST[1].replace(b'"seq":1', b'"seq":0')), [("edited", 2)]),
    "schema edited": (changed(5, FIRST[5].replace(b"pep.audit/1", b"pep.audit/2")), [("inserted", 6)]),
    "not JSON": (changed(5, FIRST[5][:-1]), [("damaged", 6)]),
    "not JSON at the end": (changed(19, FIRST[19][:-1]), [("damaged", 20)]),
    "an array": (changed(5, b"[%b]" % FIRST[5]), [("damaged", 6)]),
    "NUL bytes": (changed(5, bytes(len(FIRST[5]))), [("damaged", 6)]),
    "a key twice": (changed(5, FIRST[5].replace(b"{", b'{"a":1,"a":1,', 1)), [("damaged", 6)]),
    "not JSON, chained": (rechained(changed(5, FIRST[5][:-1]), 5), [("damaged", 6)]),
    "one missing": (FIRST[:5] + FIRST[6:], [("missing", 6)]),
    "many missing": (FIRST[:5] + FIRST[9:], [("missing", 6)]),
    "first missing": (FIRST[1:], [("missing", 1)]),
    "swapped": ([*FIRST[:5], FIRST[6], FIRST[5], *FIRST[7:]], [("reordered", 7)]),
    "moved up": ([*FIRST[:5], FIRST[9], *FIRST[5:9], *FIRST[10:]], [("reordered", line) for line in (7, 8, 9, 10)]),
    "moved down": ([*FIRST[:5], *FIRST[6:10], FIRST[5], *FIRST[10:]], [("reordered", 10)]),
    "doubled": (FIRST[:6] + FIRST[5:], [("repeated", 7)]),
    "repeated": ([*FIRST[:10], FIRST[5], *FIRST[10:]], [("repeated", 11)]),
    "another writer in between": ([*FIRST[:5], *Pen(name(5), hashed(FIRST[4])).lines(1), *FIRST[5:]], [("edited", 7)]),
    "repeated after one is missing": (
        [*FIRST[:2], *FIRST[3:10], FIRST[5], *FIRST[10:]],
        [("repeated", 10), ("missing", 3)],
    ),
    "blank line": ([*FIRST[:5], b"", *FIRST[5:]], [("damaged", 6)]),
    "garbage": ([*FIRST[:5], b"\xff\0", *FIRST[5:]], [("damaged", 6)]),
    "no record": ([*FIRST[:5], b"{}", *FIRST[5:]], [("inserted", 6)]),
    "no record, gone on from": ([*FIRST[:5], b"{}", *Pen(name(1), hashed(b"{}"), 5).lines(3)], [("inserted", 6)]),
    "a fork": ([*FIRST[:6], FORK, *FIRST[6:]], [("repeated", 8), ("inserted", 7)]),
    "a foreign chain": (FIRST[:5] + FOREIGN + FIRST[5:], [("inserted", 6)]),
    "the end of a foreign chain": (FIRST[:5] + FOREIGN[3:] + FIRST[5:], [("missing", 6)]),
    "a foreign chain at the end": (FIRST + FOREIGN, [("inserted", 21)]),
    "a chain begins anew": (FIRST + Pen(name(1)).lines(2), [("repeated", 21), ("repeated", 22)]),
    "two lines go on from one that is missing": (
        [*FIRST[:5], *FIRST[6:8], FORK, *FIRST[8:]],
        [("missing", 6)],
    ),
}


@pytest.mark.parametrize("run", [1, 2, 64])
@pytest.mark.parametrize("case", TABLE)
def test_findings(checked: Any, case: str, run: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of change is told by its name, at its line, however many lines are followed at once."""
    monkeypatch.setattr("pep.audit.links._RUN", run)
    lines, expected = TABLE[case]
    found = [(wrong, line) for wrong, _, line in checked({ACTIVE: lines})]
    if case.startswith("two lines"):
        assert expected[0] in found
    else:
        assert found == expected


def test_lost_files_are_missing(checked: Any) -> None:
    """A file that is gone, or that goes by no name of the family, is missed where the next begins."""
    without = {file: lines for file, lines in FAMILY.items() if file != NEWER}
    assert ("missing", ACTIVE, 1) in checked(without)
    assert ("missing", ACTIVE, 1) in checked({**without, "audit.old.jsonl": FAMILY[NEWER]})
    assert ("missing", NEWER, 1) in checked({file: lines for file, lines in FAMILY.items() if file != OLD})
    assert checked({ACTIVE: SECOND}) == [("missing", ACTIVE, 1)]
    assert checked({ACTIVE: FIRST[15:]}) == [("missing", ACTIVE, 1)]


def test_an_edited_last_line_of_a_process_is_found(checked: Any) -> None:
    """The next process goes on from it, in its own file or in another."""
    edited = [*FIRST[:19], FIRST[19].replace(b'"at":19', b'"at":20')]
    assert checked({ACTIVE: edited + SECOND}) == [("edited", ACTIVE, 20)]
    assert checked({OLD: edited, ACTIVE: SECOND}) == [("missing", ACTIVE, 1)]


def test_torn_lines(tmp_path: Path, checked: Any) -> None:
    """A line without an end is torn; one that its writer ended and went on from is only counted."""
    assert checked({ACTIVE: FIRST}, {ACTIVE: SECOND[0][:50]}) == [("torn", ACTIVE, 21)]
    assert checked({ACTIVE: FIRST}, {ACTIVE: SECOND[0]}) == [("torn", ACTIVE, 21)]
    assert checked({OLD: FIRST[:8], ACTIVE: FIRST[9:]}, {OLD: FIRST[8][:99]}) == [("torn", OLD, 9)]
    for size in (1, 50, 150):
        fragment = SECOND[0][:size]
        after = Pen(name(4), prev=hashed(fragment)).lines(5)
        report = verify(put(tmp_path, {ACTIVE: [*FIRST, fragment, *after]}), checkpoints=[signed(after, name(4))])
        assert (told(report), report.torn) == ([], 1)
        # No hash leads across a fragment that was cut before it named one.
        assert report.proven == (25 if size == 150 else 5)
        assert checked({ACTIVE: [*FIRST, b"x" + fragment, *after]})[0] == ("damaged", ACTIVE, 21)
        assert checked({ACTIVE: [*FIRST, *after]}) != []


def test_fragments_of_one_writer(tmp_path: Path) -> None:
    """Lines cut short one after another, by a full disk, are gone on from by the same writer."""
    line = chained(hashed(FIRST[-1]), 20, name(1))
    for size in (10, 130):
        pieces = [line[:size], chained(hashed(line[:size]), 20, name(1))[:size]]
        rest = Pen(name(1), prev=hashed(pieces[-1]), seq=20).lines(5)
        report = verify(put(tmp_path, {ACTIVE: [*FIRST, *pieces, *rest]}), checkpoints=[signed(FIRST + rest, name(1))])
        assert (told(report), report.torn, report.proven) == ([], 2, 25)


def test_what_no_hash_leads_to_is_not_proven(tmp_path: Path) -> None:
    """A process that lost its hashes in a fragment is proven by its own checkpoints only."""
    fragment = chained(hashed(FIRST[-1]), 20, name(1))[:10]
    rest = Pen(name(1), prev=hashed(fragment), seq=20).lines(5)
    after = Pen(name(4), prev=hashed(rest[-1])).lines(5)
    path = put(tmp_path, {ACTIVE: [*FIRST, fragment, *rest, *after]})
    own, next_one = signed(FIRST + rest, name(1)), signed(after, name(4))
    assert [verify(path, checkpoints=given).proven for given in ([next_one], [own], [own, next_one])] == [5, 25, 30]


def test_a_whole_line_without_its_end_counts_once_gone_on_from(checked: Any) -> None:
    """A last line that lacks only its newline is a line to whoever goes on from it."""
    assert checked({OLD: FIRST[:7], ACTIVE: FIRST[8:]}, {OLD: FIRST[7]}) == []
    assert checked({OLD: FIRST[:7], ACTIVE: FIRST[9:]}, {OLD: FIRST[7]})[0] == ("torn", OLD, 8)


def test_a_file_that_starts_with_a_fragment(checked: Any) -> None:
    """Nothing before a fragment is nothing to go on from."""
    fragment = FIRST[0][:50]
    assert checked({ACTIVE: [fragment, *Pen(name(4), prev=hashed(fragment)).lines(5)]}) == []
    head = chained(hashed(b"gone"), 4, name(1))[:130]
    assert checked({ACTIVE: [head, *Pen(name(4), prev=hashed(head)).lines(5)]}) == []


def test_a_chain_put_before_another_is_inserted(checked: Any) -> None:
    """A file whose lines go on from another file, though something else begins it, was tampered with."""
    assert checked({OLD: FIRST, SIDE: FOREIGN + THIRD}) == [("inserted", SIDE, 10)]
    assert checked({OLD: FIRST[:8], ACTIVE: FOREIGN + FIRST[8:]}) == [("inserted", ACTIVE, 10)]
    assert checked({OLD: FIRST, rotated(name(7), 0, 9): FOREIGN + SECOND}) == [("inserted", rotated(name(7), 0, 9), 10)]


def test_a_writer_may_say_what_it_likes(tmp_path: Path) -> None:
    """A line that its writer chained is as it was written, even if it is unusual; reading it tells of that."""
    twice = rechained(changed(5, FIRST[5].replace(b'"at"', b'"at":1,"at"')), 5)
    path = put(tmp_path, {ACTIVE: twice})
    assert verify(path).intact
    assert [one.harm for one in read(path) if isinstance(one, Damage)] == [Harm.DUPLICATE]


# What only a checkpoint shows.


def test_truncation_shows_against_a_checkpoint(tmp_path: Path) -> None:
    """An end that is cut off shows only where a checkpoint counts more lines."""
    path = put(tmp_path, {**FAMILY, ACTIVE: FAMILY[ACTIVE][:-3]})
    assert told(verify(path)) == []
    assert told(verify(path, checkpoints=WITNESS)) == [("truncated", ACTIVE, 12)]
    gone = put(tmp_path, {file: lines for file, lines in FAMILY.items() if file != SIDE})
    report = verify(gone, checkpoints=WITNESS)
    assert told(report) == [("truncated", None, None)]
    assert str(report.findings[0]) == f"truncated: a checkpoint counts 6 lines of writer {name(3)}; there are 0"


@pytest.mark.parametrize("start", [0, 5, 19, 20, 29])
def test_a_rewrite_shows_against_a_checkpoint(tmp_path: Path, start: int) -> None:
    """Lines that were changed and chained anew show only where a checkpoint says what they were."""
    lines = [*FIRST, *SECOND]
    lines[start] = lines[start].replace(b'"decision"', b'"forgery!"').replace(b'"open"', b'"forged"')
    path = put(tmp_path, {ACTIVE: rechained(lines, start + 1)})
    assert told(verify(path)) == []
    assert told(verify(path, checkpoints=WITNESS[:1])) == [("forged", ACTIVE, 30)]


def test_every_checkpoint_must_hold(tmp_path: Path) -> None:
    """A signer that signed two histories is found out, whichever is here."""
    path = put(tmp_path, {ACTIVE: FIRST + SECOND})
    wrong = [Checkpoint(f"log/{name(2)}", 3, bytes(32)), signed(SECOND, name(2), 3), WITNESS[0]]
    assert told(verify(path, checkpoints=wrong)) == [("forged", ACTIVE, 23)]
    assert told(verify(path, checkpoints=[*wrong, Checkpoint(f"log/{name(1)}", 0, bytes(32))])) != []


def test_a_tree_that_never_grows_up_is_forged(tmp_path: Path) -> None:
    """Where lines are missing in the midst, what was signed cannot be what is here."""
    path = put(tmp_path, {ACTIVE: [*FIRST, *SECOND[:3], *SECOND[4:]]})
    assert told(verify(path, checkpoints=WITNESS[:1])) == [("missing", ACTIVE, 24), ("forged", ACTIVE, 29)]


# Any change at all.

ORDER = [OLD, NEWER, ACTIVE, SIDE]


@attrs.define
class Change:
    """A family that was tampered with, and where that should show; nowhere is only against a checkpoint."""

    files: dict[str, list[bytes]]
    tails: dict[str, bytes]
    file: str
    line: int
    shows: bool
    more: int = 0


def touched(draw: st.DrawFn) -> tuple[dict[str, list[bytes]], str, int]:
    file = draw(st.sampled_from(ORDER))
    return {name: list(lines) for name, lines in FAMILY.items()}, file, draw(st.integers(0, len(FAMILY[file]) - 1))


def is_end(file: str, at: int) -> bool:
    """Whether nothing goes on from a line."""
    return file in (ACTIVE, SIDE) and at == len(FAMILY[file]) - 1


@st.composite
def flips(draw: st.DrawFn) -> Change:
    files, file, at = touched(draw)
    line = bytearray(files[file][at])
    where = draw(st.integers(0, len(line) - 1))
    line[where] = draw(st.integers(0, 255).filter(lambda byte: byte not in {10, line[where]}))
    files[file][at] = bytes(line)
    return Change(files, {}, file, at + 1, not is_end(file, at))


@st.composite
def deletions(draw: st.DrawFn) -> Change:
    files, file, at = touched(draw)
    count = draw(st.integers(1, len(files[file]) - at))
    del files[file][at : at + count]
    return Change(files, {}, file, at + 1, not is_end(file, at + count - 1))


@st.composite
def copies(draw: st.DrawFn) -> Change:
    files, file, at = touched(draw)
    other = draw(st.integers(0, len(files[file])))
    files[file].insert(other, files[file][at])
    return Change(files, {}, file, other + 1, True)


@st.composite
def swaps(draw: st.DrawFn) -> Change:
    files, file, at = touched(draw)
    other = draw(st.integers(0, len(files[file]) - 1).filter(lambda other: other != at))
    lines = files[file]
    lines[at], lines[other] = lines[other], lines[at]
    return Change(files, {}, file, min(at, other) + 1, True)


@st.composite
def insertions(draw: st.DrawFn) -> Change:
    files, file, at = touched(draw)
    garbage = st.binary(max_size=60).map(lambda text: text.replace(b"\n", b""))
    files[file].insert(
        at, draw(garbage | st.sampled_from([b"{}", b'{"schema":"pep.audit/1"}', FORK, FOREIGN[0], FOREIGN[4]]))
    )
    return Change(files, {}, file, at + 1, True)


@st.composite
def cuts(draw: st.DrawFn) -> Change:
    files, file, at = touched(draw)
    line = files[file][at]
    # A last line that lacks only its newline is the line that the next file goes on from.
    size = draw(st.integers(1, len(line) - (at + 1 == len(files[file]))))
    del files[file][at:]
    return Change(files, {file: line[:size]}, file, at + 1, True)


@st.composite
def endings(draw: st.DrawFn) -> Change:
    """A line cut short in the midst of a file, maybe within a character, and ended."""
    files, file, at = touched(draw)
    files[file][at] = files[file][at][: draw(st.integers(0, len(files[file][at]) - 1))]
    return Change(files, {}, file, at + 1, True)


@st.composite
def splices(draw: st.DrawFn) -> Change:
    files, file, at = touched(draw)
    foreign = FOREIGN[draw(st.integers(0, 8)) :]
    files[file][at:at] = foreign
    # Which of the two begins in the midst is a matter of view.
    return Change(files, {}, file, at + 1, True, len(foreign))


@st.composite
def rewrites(draw: st.DrawFn) -> Change:
    lines = [*FIRST, *SECOND]
    at = draw(st.integers(0, len(lines) - 1))
    lines[at] = lines[at].replace(b'"time":"2026', b'"time":"2025')
    lines = rechained(lines, at + 1)
    files = {OLD: lines[:8], NEWER: lines[8:15], ACTIVE: lines[15:], SIDE: rechained([lines[9], *THIRD], 1)[1:]}
    return Change(files, {}, ACTIVE, 0, False)


@st.composite
def losses(draw: st.DrawFn) -> Change:
    files, _, _ = touched(draw)
    lost = draw(st.sampled_from(ORDER))
    content = files.pop(lost)
    if draw(st.booleans()):
        files[f"other.{lost}"] = content
    following = {OLD: NEWER, NEWER: ACTIVE}.get(lost, ACTIVE)
    return Change(files, {}, following, 1, lost in (OLD, NEWER))


@settings(max_examples=times(250, 5_000))
@given(
    st.one_of(
        flips(), deletions(), copies(), swaps(), insertions(), cuts(), endings(), splices(), rewrites(), losses()
    ),
    st.sampled_from([1, 3, 64]),
)
def test_whatever_is_changed_shows(tmp_path_factory: pytest.TempPathFactory, change: Change, run: int) -> None:
    """Every change that a chain can show is found where it is; every change at all against a checkpoint."""
    folder = tmp_path_factory.getbasetemp() / "changed"
    folder.mkdir(exist_ok=True)
    path = put(folder, change.files, change.tails)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pep.audit.links._RUN", run)
        if change.shows:
            found = told(verify(path))
            places = [(file, line) for _, file, line in found if file]
            assert any(near(change, file, line) for file, line in places), (change.file, change.line, found)
        assert not verify(path, checkpoints=WITNESS).intact


def near(change: Change, file: str, line: int) -> bool:
    """Whether a place is that of a change, or right beside it in the order things were written."""
    if file == change.file:
        return change.line - 1 <= line <= change.line + change.more + 1
    at = ORDER.index(change.file)
    if change.line >= len(change.files[change.file]) and file in ORDER[at + 1 :]:
        return line == 1
    if change.line <= 2 and file in ORDER[:at]:
        return line == len(change.files[file])
    # Line 2 of this file is where the third writer goes on from.
    return change.file == NEWER and file == SIDE and line == 1


# What it is like to use.


def test_a_report_is_plain(tmp_path: Path) -> None:
    """A report and its findings are values, and JSON."""
    seen: list[Finding] = []
    report = verify(put(tmp_path, {ACTIVE: changed(5, EDIT)}), tell=seen.append)
    path = tmp_path / ACTIVE
    offset = sum(map(len, FIRST[:5])) + 5
    assert seen == list(report.findings) == [Finding(Wrong.EDITED, Place(path, 6, offset), seen[0].detail)]
    assert str(seen[0]) == f"{path}:6:{offset}: edited: it is not the line that the next one goes on from"
    last = f"{path}:20:{place_of(19)}"
    assert report.to_dict() == {
        "intact": False,
        "files": [str(path)],
        "records": 20,
        "proven": 0,
        "chains": [{"writer": name(1), "records": 20, "proven": 0, "proven_to": None, "last": last}],
        "begun": 1,
        "torn": 0,
        "found": 1,
        "findings": [{"wrong": "edited", "file": str(path), "line": 6, "offset": offset, "detail": seen[0].detail}],
    }
    proven = verify(put(tmp_path, {ACTIVE: FIRST}), checkpoints=[signed(FIRST, name(1))]).to_dict()
    assert (proven["proven"], proven["chains"][0]["proven_to"]) == (20, f"{path}:20:{place_of(19)}")
    assert Finding(Wrong.TRUNCATED, None, "gone").to_dict() == {"wrong": "truncated", "detail": "gone"}


def place_of(at: int) -> int:
    return sum(map(len, FIRST[:at])) + at


def test_findings_are_counted_past_what_is_kept(tmp_path: Path) -> None:
    """However much is wrong, a report stays small."""
    lines = [chained(hashed(b"%d" % at), at, name(at)) for at in range(MAX_KEPT + 500)]
    report = verify(put(tmp_path, {ACTIVE: [*lines, *[b"?"] * 200]}))
    assert len(report.findings) == MAX_KEPT
    assert report.found >= MAX_KEPT + 700


def test_breaks_past_what_is_followed_up_are_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of nothing but breaks takes bounded memory, and each is still told of."""
    monkeypatch.setattr("pep.audit.ends._MANY", 10)
    lines = [chained(hashed(b"%d" % at), at % 2, name(at)) for at in range(40)]
    assert len({line for _, _, line in told(verify(put(tmp_path, {ACTIVE: lines})))}) >= 39


def test_gaps_past_what_is_followed_up_are_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So are numbers of which ever more are missing."""
    monkeypatch.setattr("pep.audit.witness._MANY", 3)
    monkeypatch.setattr("pep.audit.findings._MANY", 3)
    found = told(verify(put(tmp_path, {ACTIVE: FIRST[::2]})))
    assert {line for wrong, _, line in found if wrong == "missing"} == set(range(2, 11))


@pytest.mark.parametrize("order", [1, -1])
def test_the_most_damaged_file_takes_no_longer(tmp_path: Path, order: int) -> None:
    """Every line is followed up in about the same time, whatever is open."""
    lines = [chained(hashed(b"%d" % seq), seq, name(1)) for seq in range(0, 2 * times(3_000, 100_000), 2)]
    gone = [chained(hashed(b"%d" % seq), seq, name(1)) for seq in range(1, 2 * times(3_000, 100_000), 2)]
    assert verify(put(tmp_path, {ACTIVE: [*lines, *gone[::order]]})).found > 3_000


def test_progress_ends_where_the_files_do(tmp_path: Path) -> None:
    """Progress is told in bytes, of all files together."""
    seen: list[tuple[int, int]] = []
    verify(put(tmp_path, FAMILY), progress=lambda done, total: seen.append((done, total)))
    total = sum((tmp_path / file).stat().st_size for file in FAMILY)
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_many_lines_are_followed_in_runs(tmp_path: Path) -> None:
    """What is long is verified in runs, with the same result at every boundary, escaped characters or not."""
    lines = Pen(name(1)).lines(300)
    files = {ACTIVE: lines}
    assert (
        verify(put(tmp_path, files), checkpoints=[signed(lines, name(1), size) for size in (1, 63, 64, 65, 300)]).proven
        == 300
    )
    for at in (0, 62, 63, 64, 127, 128, 298):
        report = verify(put(tmp_path, {ACTIVE: [*lines[:at], lines[at].replace(b"user", b"uxer"), *lines[at + 1 :]]}))
        assert told(report) == ([("edited", ACTIVE, at + 1)])
    late = Pen(name(3), prev=hashed(lines[200])).lines(2)
    assert told(verify(put(tmp_path, {ACTIVE: lines, SIDE: FOREIGN + late}))) == [("inserted", SIDE, 10)]
    escaped = rechained([line.replace(b"user", b"\\u0075ser") for line in lines], 1)
    assert told(verify(put(tmp_path, {ACTIVE: escaped}))) == []


@pytest.mark.parametrize("year", [2025, 2027])
@pytest.mark.parametrize("run", [1, 2, 64])
def test_a_writer_may_go_on_from_any_line(tmp_path: Path, year: int, run: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that found the file taken goes on from where that was, whichever file is read first."""
    monkeypatch.setattr("pep.audit.links._RUN", run)
    pen = Pen(name(3), prev=hashed(FIRST[9]))
    side = [pen.line(time=f"{year}-01-01T00:00:00.000000Z") for _ in range(3)]
    report = verify(put(tmp_path, {ACTIVE: FIRST, SIDE: side}), checkpoints=[signed(side, name(3))])
    assert (told(report), report.begun, report.proven) == ([], 1, 13)


def test_a_beginning_apart_is_counted(tmp_path: Path) -> None:
    """Two chains with nothing before them are unusual, and counted; neither proves the other."""
    report = verify(put(tmp_path, {ACTIVE: FIRST, SIDE: FOREIGN}), checkpoints=[signed(FOREIGN, name(7))])
    assert (report.intact, report.begun, report.proven) == (True, 2, 9)


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Only a path that cannot be read is no report."""
    with pytest.raises(AuditError, match="cannot read audit file"):
        verify(tmp_path / ACTIVE)


def test_the_first_line_goes_on_from_nothing() -> None:
    """The format says what the first line carries."""
    assert GENESIS == ZERO
