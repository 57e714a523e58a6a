from __future__ import annotations

import base64
import builtins
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.audit.notes import MAX_NOTE, MAX_SIGNATURES, SignatureError, SignerKey, VerifierKey, is_name, open_note
from pep.errors import AuditError, ConfigurationError

# The example in the documentation of golang.org/x/mod/sumdb/note.
SIGNER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
VERIFIER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNATURE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
NOTE = f"{TEXT}\n{SIGNATURE}"
KEY = SignerKey.parse(SIGNER)
OTHER = SignerKey("other.example/log", bytes(range(32)))


def test_the_published_example() -> None:
    """Keys, signatures and notes are byte for byte those that other implementations make."""
    assert str(KEY.verifier) == VERIFIER
    assert KEY.secret() == SIGNER
    assert KEY.sign(TEXT) == NOTE
    assert VerifierKey.parse(VERIFIER) == KEY.verifier
    assert open_note(NOTE.encode(), [VerifierKey.parse(VERIFIER)]) == TEXT


def test_new_keys() -> None:
    """A new key is like no other, and survives being written down."""
    key = SignerKey.generate("example.com/audit")
    assert key != SignerKey.generate("example.com/audit")
    assert SignerKey.parse(f" {key.secret()}\n") == key
    assert VerifierKey.parse(f"{key.verifier}\n") == key.verifier


def test_a_signing_key_is_not_shown() -> None:
    """What prints a key, or the error it caused, discloses nothing."""
    assert SIGNER[-40:] not in repr(KEY)
    assert "seed" not in repr(KEY)
    with pytest.raises(ConfigurationError) as caught:
        SignerKey.parse(SIGNER.replace("c74f20a3", "c74f20a4"))
    assert SIGNER[-40:] not in str(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        SignerKey.parse(SIGNER[:-1])
    assert SIGNER[-40:-1] not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\tb", "a\nb", "a\u00a0b", "a\u2003b", "a\x01b"])
def test_names(name: str) -> None:
    """A key's name has neither spaces nor plus signs, of which its text form is made."""
    assert not is_name(name)
    with pytest.raises(ConfigurationError, match="neither spaces nor"):
        SignerKey.generate(name)


@pytest.mark.parametrize("text", [VERIFIER, SIGNER])
def test_mangled_keys_are_refused(text: str) -> None:
    """No part of a key, and no key with a character changed, passes for one."""
    parse = SignerKey.parse if text is SIGNER else VerifierKey.parse
    for start in range(len(text)):
        for end in range(start, len(text) + 1, 7):
            if (start, end) != (0, len(text)):
                with pytest.raises(ConfigurationError):
                    parse(text[start:end])
    for at in range(len(text)):
        with pytest.raises(ConfigurationError):
            parse(text[:at] + chr(ord(text[at]) + 1) + text[at + 1 :])


@pytest.mark.parametrize(
    "text",
    [
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq_LDE4izWy10TW",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW=",
        "PeterNeumann+c74f20a3+",
        "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "a" * 10_000,
    ],
)
def test_keys_of_other_kinds_are_refused(text: str) -> None:
    """Another algorithm, another length or another alphabet is no key of ours."""
    with pytest.raises(ConfigurationError, match="no Ed25519 verifier key"):
        VerifierKey.parse(text)


def test_unknown_signatures_are_ignored() -> None:
    """Others may sign too; it is enough that one trusted key did, and none of them wrongly."""
    both = NOTE + OTHER.sign(TEXT).removeprefix(f"{TEXT}\n")
    for keys in ([KEY.verifier], [OTHER.verifier], [KEY.verifier, OTHER.verifier]):
        assert open_note(both.encode(), keys) == TEXT
    stranger = SignerKey.generate("PeterNeumann")
    assert open_note(both.encode(), [stranger.verifier, KEY.verifier]) == TEXT
    with pytest.raises(AuditError, match="no key that was given has signed it"):
        open_note(both.encode(), [stranger.verifier])
    with pytest.raises(AuditError, match="no key that was given has signed it"):
        open_note(both.encode(), [])


def test_a_wrong_signature_of_a_trusted_key_spoils_a_note() -> None:
    """Whoever is trusted and did not sign this text has been forged."""
    forged = OTHER.sign("something else\n").removeprefix("something else\n\n")
    assert open_note((NOTE + forged).encode(), [KEY.verifier]) == TEXT
    with pytest.raises(SignatureError, match=r"the signature of `other\.example/log` does not fit the text"):
        open_note((NOTE + forged).encode(), [KEY.verifier, OTHER.verifier])


@given(st.integers(0, len(NOTE.encode()) - 1), st.integers(0, 255))
def test_no_other_note_is_opened(at: int, byte: int) -> None:
    """A note with any byte changed is refused."""
    note = bytearray(NOTE.encode())
    if note[at] != byte:
        note[at] = byte
        with pytest.raises(AuditError):
            open_note(bytes(note), [KEY.verifier])


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n",
        TEXT,
        f"{TEXT}\n",
        SIGNATURE,
        f"{TEXT}{SIGNATURE}",
        NOTE[:-1],
        f"{NOTE}\n",
        f"{NOTE}more\n",
        NOTE.replace("\n", "\r\n"),
        NOTE.replace("think", "thi\x00nk"),
        NOTE.replace("—", "-"),
        NOTE.replace("— ", "—"),
        NOTE.replace(" x08", "  x08"),
        NOTE.replace("JnAM=", "JnAM"),
        NOTE.replace("JnAM=", "JnAN="),
        NOTE.replace("JnAM=", "Jn*M="),
        NOTE.replace("JnAM=", "JnAM=="),
        NOTE.replace("PeterNeumann", "Peter+Neumann"),
        NOTE.replace("PeterNeumann", ""),
        f"{TEXT}\n— PeterNeumann {b64(KEY.verifier.id)}\n",
        f"{TEXT}\n— PeterNeumann {b64(KEY.verifier.id + b'short')}\n",
        NOTE + SIGNATURE * MAX_SIGNATURES,
        "x" * MAX_NOTE + NOTE,
    ],
)
def test_what_is_no_note_is_refused(note: str) -> None:
    """The rules of the format hold to the letter."""
    with pytest.raises(AuditError):
        open_note(note.encode(), [KEY.verifier])


@pytest.mark.parametrize("text", ["a\tb\n", "a\rb\n", "a\x1bb\n", "\0\n"])
def test_control_characters_are_refused_even_signed(text: str) -> None:
    """Whoever signed it: text that steers a terminal is in no note."""
    signature = b64(KEY.verifier.id + KEY._private.sign(text.encode()))
    with pytest.raises(AuditError, match="it is no signed note"):
        open_note(f"{text}\n— PeterNeumann {signature}\n".encode(), [KEY.verifier])


def test_bytes_that_are_no_text_are_refused() -> None:
    """A note is UTF-8."""
    with pytest.raises(AuditError, match="it is no signed note"):
        open_note(b"\xff" + NOTE.encode(), [KEY.verifier])


def test_texts_may_have_empty_lines() -> None:
    """The last empty line is the one before the signatures."""
    text = "a\n\n\nb\n\n"
    assert open_note(KEY.sign(text).encode(), [KEY.verifier]) == text


@pytest.mark.parametrize("text", ["", "a", "a\r\n", "a\0\n", "a\t\n"])
def test_what_cannot_be_signed(text: str) -> None:
    """A text that would be no note is not signed."""
    with pytest.raises(AuditError, match="ends with a newline"):
        KEY.sign(text)


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the mend is told."""
    real = builtins.__import__

    def missing(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ConfigurationError, match=r"install `pep\[cryptography\]`"):
        SignerKey.generate("example.com")
    with pytest.raises(ConfigurationError, match=r"install `pep\[cryptography\]`"):
        open_note(NOTE.encode(), [VerifierKey.parse(VERIFIER)])
