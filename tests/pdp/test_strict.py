"""JSON, read strictly: one way, in linear time, and never deeper than it may be."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep.errors import PDPReplyError
from pep.pdp.strict import MAX_DEPTH, _check_depth, parse, parse_object
from tests.misbehaving import BODIES
from tests.proving import times

TEXT = st.text(st.characters(exclude_categories=("Cs",)))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@settings(max_examples=times(200, 50_000))
@given(VALUES, st.booleans())
def test_json_comes_back_as_it_was(value: Any, ascii_only: bool) -> None:
    """Whatever JSON can tell is read exactly, types included, escaped or not."""
    found = parse(json.dumps(value, ensure_ascii=ascii_only).encode())
    assert json.dumps(found) == json.dumps(value)


@settings(max_examples=times(300, 50_000))
@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,\\ \n0123456789.eE+-truefalsnd', max_size=60).map(str.encode))
def test_it_reads_what_the_standard_library_reads_or_refuses(body: bytes) -> None:
    """It never reads a text in another way; it only refuses more, and raises nothing else."""
    try:
        found = parse(body)
    except PDPReplyError:
        return
    assert found == json.loads(body)


REFUSED = {
    "nothing": b"",
    "space": b" \n",
    "a word": b"permit",
    "a comment": b"{} // ok",
    "two values": b"{}{}",
    "a comma too many": b'{"a":1,}',
    "single quotes": b"{'a':1}",
    "cut": b'{"a":',
    "an open text": b'{"a":"',
    "a line feed in a text": b'"a\nb"',
    "a null in a text": b'"a\0b"',
    "a lone backslash": b'"\\',
    "another escape": rb'"\x41"',
    "NaN": b"NaN",
    "infinity": b"[Infinity]",
    "below infinity": b"[-Infinity]",
    "too large a number": b"[1e999]",
    "too small a number": b"[-1e999]",
    "a leading zero": b"[01]",
    "too long a number": b"1" * 5000,
    "a key twice": b'{"a":1,"a":1}',
    "a key twice, escaped": rb'{"a":1,"\u0061":2}',
    "a key twice, deep": b'[{"b":{"a":1,"a":2}}]',
    "a lone surrogate": rb'"\ud800"',
    "a lone surrogate, low": rb'"\uDFFF"',
    "a lone surrogate in a key": rb'{"\ud800":1}',
    "surrogates the wrong way round": rb'"\udc00\ud800"',
    "no UTF-8": b'"\xff"',
    "an encoded surrogate": b'"\xed\xa0\x80"',
    "an overlong form": b'"\xc0\xaf"',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_what_two_readers_could_read_differently_is_refused(body: bytes) -> None:
    """It is no JSON, or not the same to everybody."""
    with pytest.raises(PDPReplyError):
        parse(body)


def test_pairs_of_surrogates_are_one_character() -> None:
    """What is escaped properly is text."""
    assert parse(rb'"\ud83d\ude00"') == "😀"


def nested(depth: int, filler: bytes = b"") -> bytes:
    return b"[" * depth + filler + b"]" * depth


def test_depth_is_bounded_to_the_level() -> None:
    """As deep as may be is read, one deeper is not; brackets in texts do not count."""
    assert json.dumps(parse(nested(MAX_DEPTH))) == nested(MAX_DEPTH).decode()
    assert parse(b'["' + b"[{" * 500 + rb"\"[[" + b'"]') == ["[{" * 500 + '"[[']
    assert parse(b"[" + b"[]," * 500 + b"{}]") == [[]] * 500 + [{}]
    assert parse(b"[[]]", depth=2) == [[]]
    for body in (nested(MAX_DEPTH + 1), nested(100_000), b'{"a":' * 100_000, b'"\\"' + nested(65), b"[[[]]]"):
        with pytest.raises(PDPReplyError):
            parse(body, depth=2 if body == b"[[[]]]" else MAX_DEPTH)


def deepest(body: bytes) -> int | None:
    """Scan a text plainly: how deep its brackets go outside of texts; None where they do not match."""
    level = most = 0
    within = escaped = False
    for byte in body:
        if within:
            within = escaped or byte != ord('"')
            escaped = not escaped and byte == ord("\\")
        elif byte in b"[{":
            level += 1
            most = max(most, level)
        elif byte in b"]}":
            level -= 1
            if level < 0:
                return None
        else:
            within = byte == ord('"')
    return None if level else most


def is_shallow(body: bytes, depth: int) -> bool:
    """Tell whether a text passes the check before it is parsed."""
    try:
        _check_depth(body, depth)
    except PDPReplyError:
        return False
    return True


PIECES = st.sampled_from(
    [b"[", b"]", b"{", b"}", b'"', b'\\"', b"\\\\", b'""', b"[]", b'"["', b'"]"', b":", b"a", b"\\n"]
)


@settings(max_examples=times(500, 50_000))
@given(VALUES, st.booleans(), st.integers(0, 6))
def test_depth_is_what_a_plain_scanner_says(value: Any, ascii_only: bool, depth: int) -> None:
    """Of every JSON text, whatever its texts hold."""
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    found = deepest(body)
    assert found is not None
    assert is_shallow(body, depth) is (found <= depth)


@settings(max_examples=times(1_000, 50_000))
@given(st.lists(PIECES, max_size=40).map(b"".join), st.integers(0, 4))
def test_depth_of_whatever_is_sent(body: bytes, depth: int) -> None:
    """What is too deep never passes, where a backslash is only in texts, as in JSON; nor what does not match."""
    found = deepest(body)
    if b"\\" not in b"".join(_outside(body)):
        assert is_shallow(body, depth) is (found is not None and found <= depth)
    with suppress(PDPReplyError):
        assert json.dumps(parse(body)) == json.dumps(json.loads(body))


def _outside(body: bytes) -> Iterator[bytes]:
    """What is outside of texts."""
    return (part for part in re.split(rb'"(?:[^"\\]|\\.)*(?:"|$)', body, flags=re.DOTALL))


@pytest.mark.parametrize(
    ("body", "depth"),
    [
        (b"[" * 100_000 + b"]" * 100_000, 100_000),
        (b'["' + b'\\"[' * 250_000 + b'"]', 1),
        (b"[" + b'{"a":[1,"]"]},' * 70_000 + b"[]]", 3),
        (b'"' + b"\\\\" * 500_000 + b'"', 0),
        ((b"[" * 64 + b"]" * 64) * 8_000, 64),
    ],
    ids=["deep", "quoted", "wide", "backslashes", "chains"],
)
def test_depth_of_a_megabyte(body: bytes, depth: int) -> None:
    """Hostile bodies are bounded as any other."""
    assert is_shallow(body, min(depth, 64)) is (depth <= 64)
    assert is_shallow(body, min(depth, 64) - 1) is False or depth == 0


@pytest.mark.parametrize(
    "piece", [b'\\"', b"\\", b'"', b'"\\', b"[", b"{}", b'{"a":', b'"a",', b"1", b"0.", b"\\u0041", b"\\ud800"]
)
@pytest.mark.parametrize("start", [b'"', b"[", b""])
def test_hostile_bodies_are_read_in_linear_time(start: bytes, piece: bytes) -> None:
    """Eight times as much never takes sixty-four times as long: the deadline cannot interrupt a parser."""

    def seconds(size: int) -> float:
        body, began = start + piece * (size // len(piece)), time.process_time()
        with pytest.raises(PDPReplyError):
            parse(body)
        return time.process_time() - began

    assert min(seconds(80_000) for _ in range(2)) < 32 * max(0.001, min(seconds(10_000) for _ in range(3)))


def test_only_objects_are_objects() -> None:
    """A reply that is any other value is no reply, and the message does not tell it."""
    assert parse_object(b'{"a":[1,1.5,true,null,"x"]}') == {"a": [1, 1.5, True, None, "x"]}
    for body, name in ((b"[]", "list"), (b'"secret"', "str"), (b"1", "int"), (b"true", "bool"), (b"null", "NoneType")):
        with pytest.raises(PDPReplyError, match=name) as error:
            parse_object(body)
        assert "secret" not in str(error.value)


def test_the_shared_bodies_are_no_decisions() -> None:
    """None of them has a `decision` that is exactly true."""
    for body in BODIES.values():
        try:
            assert parse_object(body).get("decision") is not True
        except PDPReplyError:
            continue
