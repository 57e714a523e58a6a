"""
Redaction: fields of a result, or of arguments, that are replaced, masked, hashed or dropped.

Always on a copy; what cannot be looked into is withheld. Imports L0, the protocols, digests and its neighbours in
this folder only.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any, Final

import attrs

from pep.canonical import digest
from pep.errors import ConfigurationError, ExtractionError
from pep.model import Obligation
from pep.obligations.paths import Path
from pep.obligations.properties import Properties, Reading
from pep.obligations.rewriting import GONE, Edit, Node, Unfit, compile_paths, rewrite
from pep.protocols import Call, Phase

#: What stands in place of what was there, or of the part of it that is not shown.
REPLACEMENT: Final = "***"

#: How many bytes the secret of a hash has at the least.
MIN_SECRET: Final = 16

_FIELDS: Final = "fields"
_HASHED: Final = "hmac-sha256:"
_KEPT: Final = 4


@attrs.frozen(eq=False)
class Redaction:
    """What one obligation demands: which parts, of what, and what becomes of them."""

    phase: Phase
    paths: tuple[Path, ...]
    node: Node
    edit: Edit
    optional: bool
    properties: Properties


class Redact:
    """
    Discharges ``redact``, ``mask``, ``hash`` and ``drop``.

    ==============  ===========================================================================================
    property        meaning
    ==============  ===========================================================================================
    ``fields``      the paths of the parts, at least one; see `pep.obligations.paths.Path.parse`
    ``target``      ``"result"``, the default, or ``"arguments"``, which are rewritten before the code runs
    ``missing``     ``"fail"``, the default, or ``"ignore"``: whether a name may be missing in a mapping, an
                    item in a sequence, and None stand in their place
    ``replacement`` of ``redact`` only: a JSON value; ``"***"`` without it
    ``keep``        of ``mask`` only: how many characters remain at the end, at most a quarter; 4 without it
    ==============  ===========================================================================================

    A field that a class does not have always fails. ``drop`` takes a part out of a mapping, sequence or set; in an
    object of fields it becomes None. ``mask`` shows the end of a text or whole number, and nothing of anything else.

    Args:
        secret: The key of ``hash``, at least `MIN_SECRET` random bytes. Without one ``hash`` fails: names, numbers
            and dates are few enough to try them all.

    Raises:
        ConfigurationError: When the secret is too short, or no ``bytes``.
    """

    types = frozenset({"redact", "mask", "hash", "drop"})
    phase = Phase.BEFORE | Phase.AFTER

    def __init__(self, *, secret: bytes | None = None) -> None:
        if secret is not None and (type(secret) is not bytes or len(secret) < MIN_SECRET):
            message = f"`secret` takes at least {MIN_SECRET} random bytes, such as `secrets.token_bytes(32)`"
            raise ConfigurationError(message)
        self._secret = secret
        self._read = Reading(self._redaction)

    def __repr__(self) -> str:
        return f"Redact({'with' if self._secret else 'without'} a secret)"

    def when(self, obligation: Obligation) -> Phase:
        """Tell whether one obligation is due before the code or after it."""
        return self._read(obligation).phase

    def writes(self, obligation: Obligation, _call: Call) -> tuple[Path, ...]:
        """Name what one obligation writes."""
        redaction = self._read(obligation)
        if obligation.type != "drop":
            return redaction.paths
        # Whoever counts positions in a sequence counts others once an item is out.
        shifted = [Path(path.segments[:-1]).positions() for path in redaction.paths if path.segments]
        return (*redaction.paths, *shifted)

    def discharge(self, obligation: Obligation, call: Call) -> Call:
        """
        Rewrite the parts.

        Raises:
            ObligationError: When the properties are malformed, or a part cannot be rewritten.
        """
        redaction = self._read(obligation)
        try:
            if redaction.phase is Phase.AFTER:
                return call.with_result(_rewritten(call.result, redaction.node, redaction))
            return call.with_arguments(**_arguments(call.arguments, redaction))
        except Unfit as problem:
            raise redaction.properties.error(_FIELDS, str(problem)) from None

    def _redaction(self, properties: Properties) -> Redaction:
        target = properties.choice("target", ("result", "arguments"), "result")
        paths = _paths(properties)
        if target == "arguments":
            _check_arguments(paths, properties)
        try:
            node = compile_paths(paths)
        except ValueError as problem:
            raise properties.error(_FIELDS, f"is ambiguous: {problem}") from None
        optional = properties.choice("missing", ("fail", "ignore"), "fail") == "ignore"
        phase = Phase.AFTER if target == "result" else Phase.BEFORE
        return Redaction(phase, paths, node, self._edit(properties), optional, properties)

    def _edit(self, properties: Properties) -> Edit:
        match properties.type:
            case "redact":
                replacement = properties.value("replacement", REPLACEMENT)
                return lambda _value: replacement
            case "mask":
                keep = properties.integer("keep", _KEPT, minimum=0)
                return lambda value: _masked(value, keep)
            case "hash":
                return self._hashing(properties)
            case _:
                return lambda _value: GONE

    def _hashing(self, properties: Properties) -> Edit:
        secret = self._secret
        if secret is None:
            message = "cannot be hashed without a secret; give one: `Redact(secret=...)`"
            raise properties.error(_FIELDS, message)
        return lambda value: _hashed(value, secret)


def _paths(properties: Properties) -> tuple[Path, ...]:
    told = properties.value(_FIELDS)
    try:
        if type(told) is tuple and told:
            return tuple([Path.parse(one) for one in told])
    except ValueError as problem:
        raise properties.error(_FIELDS, f"holds what is no path: {problem}") from None
    raise properties.error(_FIELDS, "must be a list of paths, at least one")


def _check_arguments(paths: tuple[Path, ...], properties: Properties) -> None:
    if not all(path.segments and type(path.segments[0]) is str for path in paths):
        raise properties.error(_FIELDS, "must begin each path with the name of an argument")
    if properties.type == "drop" and any(len(path.segments) == 1 for path in paths):
        raise properties.error(_FIELDS, "must not lead to a whole argument; give it a value by `set-arguments`")


def _rewritten(value: Any, node: Node, redaction: Redaction) -> Any:  # noqa: ANN401  any value
    return rewrite(value, node, redaction.edit, optional=redaction.optional)


def _arguments(arguments: Mapping[str, Any], redaction: Redaction) -> dict[str, Any]:
    # One by one: what one argument holds is no business of the others.
    named = redaction.node.named
    if not named.keys() <= arguments.keys():
        message = "names an argument that the call does not have"
        raise Unfit(message)
    return {name: _rewritten(arguments[name], node, redaction) for name, node in named.items()}


def _masked(value: object, keep: int) -> str:
    if type(value) is not str and type(value) is not int:
        return REPLACEMENT
    text = str(value)
    shown = min(keep, len(text) // 4)
    return REPLACEMENT + text[len(text) - shown :]


def _hashed(value: object, secret: bytes) -> str:
    try:
        told = digest({"value": value})
    except ExtractionError:
        message = "leads to a value that cannot be hashed; name its fields"
        raise Unfit(message) from None
    return _HASHED + hmac.digest(secret, told.encode(), "sha256").hex()
