"""The body of a reply: whole, and never more than the cap."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep.errors import PDPReplyError
from pep.transport.body import Body
from tests.proving import times


def gathered(data: bytes, coding: str | None = None, *, limit: int = 1000, size: int = 7) -> bytes:
    body = Body(limit, [] if coding is None else [coding])
    for at in range(0, len(data), size):
        body.take(data[at : at + size])
    return body.whole()


@settings(max_examples=times(100, 5000))
@given(st.binary(max_size=300), st.integers(1, 50), st.integers(0, 300), st.sampled_from(["gzip", " GZIP ", "x-gzip"]))
def test_it_is_whole_or_over_the_cap(data: bytes, size: int, limit: int, coding: str) -> None:
    """In pieces or at once, compressed or not, the bytes come back if they fit, to the byte."""
    packed = gzip.compress(data)
    for sent, how in ((data, None), (data, "identity"), (packed, coding)):
        if len(data) <= limit:
            assert gathered(sent, how, limit=limit, size=size) == data
        else:
            with pytest.raises(PDPReplyError, match="max_bytes"):
                gathered(sent, how, limit=limit, size=size)


def test_a_bomb_grows_no_further_than_the_cap() -> None:
    """What would be 50 MB never takes more memory than the cap, and a little."""
    bomb = gzip.compress(b" " * 50_000_000)
    tracemalloc.start()
    with pytest.raises(PDPReplyError):
        gathered(bomb, "gzip", limit=100_000, size=16_384)
    _now, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_000_000


@pytest.mark.parametrize(
    "data",
    [
        b"plain",
        gzip.compress(b"x" * 50)[:-1],
        gzip.compress(b"x" * 50)[:10],
        gzip.compress(b"x") + b"y",
        gzip.compress(b"x") + gzip.compress(b"y"),
        gzip.compress(b"x" * 50)[:-8] + b"\0" * 8,
    ],
    ids=["none", "cut", "cut early", "followed", "two", "another sum"],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_gzip_that_is_not_whole_is_no_reply(data: bytes, size: int) -> None:
    """Cut short, followed by something, or with a sum that does not agree: nothing of it is taken."""
    with pytest.raises(PDPReplyError):
        gathered(data, "gzip", size=size)


def test_nothing_is_nothing_in_any_coding() -> None:
    """A reply without a body may still tell how it would be encoded."""
    assert gathered(b"", "gzip") == gathered(b"") == b""


@pytest.mark.parametrize("codings", [["br"], ["deflate"], ["zstd"], ["gzip", "gzip"], ["gzip, gzip"], ["gzip, br"]])
def test_another_coding_is_no_reply(codings: list[str]) -> None:
    """Only what was asked for is taken, once."""
    with pytest.raises(PDPReplyError, match="gzip"):
        Body(1000, codings)
