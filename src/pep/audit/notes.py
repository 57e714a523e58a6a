"""
Signed notes: text with Ed25519 signatures below it, and the keys that make and check them.

Needs the extra `cryptography`, which is imported when a key is first used. Imports L0 only.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterable
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import attrs

from pep.errors import AuditError, ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ed25519

#: How many signatures a note may have.
MAX_SIGNATURES: Final = 100
#: How long a note may be, in bytes.
MAX_NOTE: Final = 1 << 20

_ED25519: Final = b"\1"
_SIGNATURE: Final = "\u2014 "
_PRIVATE: Final = "PRIVATE+KEY+"
_KEY: Final = re.compile(r"([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)")
_KEY_SIZE: Final = 32
_ID_SIZE: Final = 4
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")


class SignatureError(AuditError):
    """A signature of a trusted key did not fit, or fitted something else than was asked for."""


@attrs.frozen
class VerifierKey:
    """
    A key that checks signatures; not secret.

    Attributes:
        name: Whose key it is; neither spaces nor ``+``.

        public: The Ed25519 public key, 32 bytes.
    """

    name: str
    public: bytes

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """
        Read a key from its text form, ``<name>+<id>+<key>``.

        Raises:
            ConfigurationError: When the text is none, or its parts do not belong together.

        Source:
            C2SP signed-note; golang.org/x/mod/sumdb/note.
        """
        name, identity, public = _parsed(text.strip(), "verifier key")
        key = cls(name, public)
        if key.id.hex() != identity:
            message = f"the id of verifier key `{name}` does not belong to it; copy the key again"
            raise ConfigurationError(message)
        return key

    @property
    def id(self) -> bytes:
        """The four bytes that name it in a signature."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:_ID_SIZE]

    def verifies(self, text: bytes, signature: bytes) -> bool:
        """
        Whether a signature over a text is this key's.

        Raises:
            ConfigurationError: When the extra `cryptography` is missing.
        """
        keys, invalid = _cryptography()
        try:
            keys.Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except invalid:
            return False
        return True

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{encoded(_ED25519 + self.public)}"


@attrs.frozen
class SignerKey:
    """
    A key that signs; secret.

    Attributes:
        name: Whose key it is; neither spaces nor ``+``.
    """

    name: str
    _seed: bytes = attrs.field(repr=False)
    _private: ed25519.Ed25519PrivateKey = attrs.field(repr=False, eq=False, init=False)

    def __attrs_post_init__(self) -> None:
        keys, _ = _cryptography()
        object.__setattr__(self, "_private", keys.Ed25519PrivateKey.from_private_bytes(self._seed))

    @classmethod
    def generate(cls, name: str) -> SignerKey:
        """
        Make a new key.

        Raises:
            ConfigurationError: When the name cannot be one, or the extra `cryptography` is missing.
        """
        if not is_name(name):
            message = "a key's name has neither spaces nor `+`, as in `example.com/audit`"
            raise ConfigurationError(message)
        return cls(name, os.urandom(_KEY_SIZE))

    @classmethod
    def parse(cls, text: str) -> SignerKey:
        """
        Read a key from its text form, ``PRIVATE+KEY+<name>+<id>+<seed>``.

        Raises:
            ConfigurationError: When the text is none, its parts do not belong together, or the
                extra `cryptography` is missing.

        Source:
            golang.org/x/mod/sumdb/note.
        """
        stripped = text.strip()
        if not stripped.startswith(_PRIVATE):
            message = "that is no signing key; it has the form `PRIVATE+KEY+<name>+<id>+<seed>`"
            raise ConfigurationError(message)
        name, identity, seed = _parsed(stripped.removeprefix(_PRIVATE), "signing key")
        key = cls(name, seed)
        if key.verifier.id.hex() != identity:
            message = f"the id of signing key `{name}` does not belong to it; copy the key again"
            raise ConfigurationError(message)
        return key

    @property
    def verifier(self) -> VerifierKey:
        """The key that checks what this one signs."""
        return VerifierKey(self.name, self._private.public_key().public_bytes_raw())

    def secret(self) -> str:
        """Return the text form, to be kept where secrets are."""
        return f"{_PRIVATE}{self.name}+{self.verifier.id.hex()}+{encoded(_ED25519 + self._seed)}"

    def sign(self, text: str) -> str:
        """
        Make a note of a text.

        Args:
            text: Lines, each ended by a newline, without other control characters.

        Raises:
            AuditError: When the text can be in no note.
        """
        if not text.endswith("\n") or _CONTROL.search(text):
            message = "the text of a note ends with a newline, and has no other control characters"
            raise AuditError(message)
        signature = self._private.sign(text.encode())
        return f"{text}\n{_SIGNATURE}{self.name} {encoded(self.verifier.id + signature)}\n"


def open_note(note: bytes, keys: Iterable[VerifierKey]) -> str:
    """
    Read the text of a note that one of these keys signed.

    Args:
        note: The note, whole.

        keys: Who is trusted; signatures of others are ignored.

    Raises:
        SignatureError: When a signature of one of them is wrong.
        AuditError: When it is no note, or none of them signed it.
        ConfigurationError: When the extra `cryptography` is missing.

    Source:
        C2SP signed-note.
    """
    text, signatures = _divided(note)
    trusted = {(key.name, key.id): key for key in keys}
    verified = False
    for line in signatures:
        name, identity, signature = _signature(line)
        key = trusted.get((name, identity))
        if key is None:
            continue
        if not key.verifies(text.encode(), signature):
            message = f"the signature of `{name}` does not fit the text"
            raise SignatureError(message)
        verified = True
    if not verified:
        message = "no key that was given has signed it"
        raise AuditError(message)
    return text


def is_name(name: str) -> bool:
    """Whether a key may have this name."""
    return bool(name) and "+" not in name and not any(char.isspace() or char < " " for char in name)


def _divided(note: bytes) -> tuple[str, list[str]]:
    """Part a note into its text, and the lines of its signatures."""
    try:
        whole = note.decode() if len(note) <= MAX_NOTE else ""
    except UnicodeDecodeError:
        whole = ""
    # The last empty line parts them; the text keeps its newline.
    text, separator, signed = whole.rpartition("\n\n")
    lines = signed.split("\n")
    if not separator or lines.pop() or _CONTROL.search(whole) or not 0 < len(lines) <= MAX_SIGNATURES:
        message = "it is no signed note"
        raise AuditError(message)
    return f"{text}\n", lines


def _signature(line: str) -> tuple[str, bytes, bytes]:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    content = decoded(encoded)
    if f"{dash} " != _SIGNATURE or not is_name(name) or content is None or len(content) <= _ID_SIZE:
        message = "it has a line that is no signature"
        raise AuditError(message)
    return name, content[:_ID_SIZE], content[_ID_SIZE:]


def _parsed(text: str, what: str) -> tuple[str, str, bytes]:
    """Take the text form of a key apart; messages never quote it."""
    found = _KEY.fullmatch(text)
    content = decoded(found[3]) if found else None
    if found is None or content is None or content[:1] != _ED25519 or len(content) != 1 + _KEY_SIZE:
        message = f"that is no Ed25519 {what}; it has the form `<name>+<8 hex digits>+<base64>`"
        raise ConfigurationError(message)
    return found[1], found[2], content[1:]


def decoded(text: str) -> bytes | None:
    """Decode standard base64, of which each value has one spelling; None where it is none."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return content if encoded(content) == text else None


def encoded(content: bytes) -> str:
    """Encode in standard base64."""
    return base64.b64encode(content).decode()


def _cryptography() -> tuple[Any, type[Exception]]:
    try:
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  an extra
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415
    except ImportError:
        message = "signed checkpoints need the package `cryptography`; install `pep[cryptography]`"
        raise ConfigurationError(message) from None
    return ed25519, InvalidSignature
