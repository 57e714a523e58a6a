from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pep.bus.messages import MAX_BYTES, Message, decode
from pep.bus.seam import EVERYTHING
from tests.proving import times

ID = "0123456789abcdef"
BEAT = {"schema": "pep.bus/1", "publisher": ID, "sequence": 3, "beat": 7}
FLOOR = {"schema": "pep.bus/1", "publisher": ID, "sequence": 3, "floor": ["subject", "user", "alice"]}
BYE = {"schema": "pep.bus/1", "publisher": ID, "sequence": 0, "bye": True}

texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40)
floors = st.one_of(
    st.just(("all",)),
    st.tuples(st.just("action"), texts),
    st.tuples(st.sampled_from(["subject", "resource"]), texts),
    st.tuples(st.sampled_from(["subject", "resource"]), texts, texts),
)
counts = st.integers(0, 2**53 - 1)
messages = st.one_of(
    st.builds(Message, st.just(ID), st.integers(1, 2**53 - 1), floor=floors),
    st.builds(Message, st.just(ID), counts, beat=counts),
    st.builds(Message, st.just(ID), counts, bye=st.just(True)),
)


@given(messages)
@settings(max_examples=times(200, 20_000))
def test_what_is_written_is_read(message: Message) -> None:
    """Every message is read as exactly what it was, and is one line of ASCII."""
    coded = message.encode()
    assert decode(coded) == message
    assert coded.isascii()
    assert b"\n" not in coded


@pytest.mark.parametrize("message", [BEAT, FLOOR, BYE])
def test_the_examples_are_messages(message: dict[str, Any]) -> None:
    """What the tables below change is a message before."""
    assert decode(json.dumps(message).encode()) is not None


def changed(message: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps({**message, **changes}).encode()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b'"pep"',
        b"{}",
        b"NaN",
        b"\xff",
        b"[" * 60_000,
        b'{"a":' * 12_000,
        "not bytes",
        None,
        bytearray(json.dumps(BEAT).encode()),
        json.dumps(BEAT).encode() + b" " * MAX_BYTES,
        json.dumps(BEAT).encode()[:-1],
        json.dumps(BEAT).encode()[:-1] + b', "beat": 7}',
        json.dumps(BEAT).encode().replace(b"7", b"NaN"),
        json.dumps(BEAT).encode().replace(b"7", b"1" * 5_000),
        json.dumps(BEAT).encode().replace(b"7", b"1e3"),
        changed(BEAT, schema="pep.bus/2"),
        changed(BEAT, schema=None),
        changed(BEAT, publisher=ID.upper()),
        changed(BEAT, publisher=ID + "0"),
        changed(BEAT, publisher=7),
        changed(BEAT, sequence=-1),
        changed(BEAT, sequence=True),
        changed(BEAT, sequence=3.0),
        changed(BEAT, sequence="3"),
        changed(BEAT, sequence=2**53),
        changed(BEAT, beat=None),
        changed(BEAT, beat=-1),
        changed(BEAT, bye=True),
        changed(BEAT, floor=["all"]),
        changed(BEAT, more=1),
        changed(BYE, bye=False),
        changed(BYE, bye=1),
        changed(BYE, bye="true"),
        changed(FLOOR, sequence=0),
        changed(FLOOR, floor=None),
        changed(FLOOR, floor="all"),
        changed(FLOOR, floor=[]),
        changed(FLOOR, floor=["all", "all"]),
        changed(FLOOR, floor=["subject"]),
        changed(FLOOR, floor=["subject", ""]),
        changed(FLOOR, floor=["subject", 7]),
        changed(FLOOR, floor=["subject", ["user"]]),
        changed(FLOOR, floor=[["subject"], "user"]),
        changed(FLOOR, floor=["subject", "user", "alice", "bob"]),
        changed(FLOOR, floor=["action", "document", "read"]),
        changed(FLOOR, floor=["tenant", "acme"]),
        *(json.dumps({k: v for k, v in FLOOR.items() if k != gone}).encode() for gone in FLOOR),
    ],
)
def test_what_is_no_message_is_not_guessed_at(payload: object) -> None:
    """Whatever differs from a message in any respect is none."""
    assert decode(payload) is None


@given(messages, st.data())
@settings(max_examples=times(200, 20_000))
def test_reading_never_fails(message: Message, data: st.DataObject) -> None:
    """Arbitrary bytes, and messages with some bytes changed, are no exception; what is read can be written again."""
    coded = message.encode()
    start = data.draw(st.integers(0, len(coded)))
    garbled = coded[:start] + data.draw(st.binary(max_size=8)) + coded[start + data.draw(st.integers(0, 8)) :]
    for payload in (garbled, data.draw(st.binary(max_size=200))):
        read = decode(payload)
        assert read is None or decode(read.encode()) is not None


@pytest.mark.parametrize(
    "floor",
    [
        ("subject", "user", "x" * MAX_BYTES),
        ("subject", "user", "\ud83d\ude00"),
        ("subject", "\udc80"),
        ("subject", ""),
        ("nothing", "known"),
        ("subject", 7),
        (),
    ],
)
def test_what_cannot_be_carried_is_widened(floor: Any) -> None:
    """A floor that would not arrive as it is drops everything: more than was asked, never less."""
    read = decode(Message(ID, 1, floor=floor).encode())
    assert read is not None
    assert read.floor == EVERYTHING
