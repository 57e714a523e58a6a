"""
Profiles from TOML files: one table for each pattern, nothing else.

Imports the profile values, the faults, the model and the error tree only; a TOML reader when it is used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pep.errors import ConfigurationError, PDPReplyError
from pep.fault import AVAILABILITY, Fault
from pep.model import Obligation
from pep.profile import (
    FIELDS,
    Canary,
    Enforce,
    FailClosed,
    FailOpen,
    FailStale,
    FailureMode,
    Guarantee,
    Mode,
    Profile,
    Shadow,
)
from pep.profile_checks import nearest

if TYPE_CHECKING:
    from os import PathLike

T = TypeVar("T")

# What `Enforcer` takes beside profiles; where `audit` is also a profile's field, the table decides.
_WIRING: Final = frozenset({"pdp", "audit", "attributes", "obligations", "cache", "telemetry", "name"})
_TOML: Final = "tomllib" if sys.version_info >= (3, 11) else "tomli"

_FAILURE_FORMS: Final = '`"closed"`, `{ open = [...], limit = "100/minute" }` or `{ stale = 300 }`'
_MODE_FORMS: Final = (
    '`"enforce"`, `{ shadow = "why", until = ... }` or `{ canary = 0.1, until = ..., reason = "why" }`; '
    "there is no off switch"
)


def load_profiles(paths: Iterable[str | PathLike[str]], build: Callable[[Mapping[str, Profile]], T]) -> T:
    """
    Read profiles from TOML files; later files win, field by field.

    Args:
        paths: The files, in order.

        build: What makes something of pattern → profile, and refuses patterns that do not go together:
            asked about each file first, so that a mistake is put down to the file that has it.

    Returns:
        What *build* made of all files together.

    Raises:
        ConfigurationError: When there is no file, one cannot be read, or holds anything but profiles.
    """
    files = [Path(path) for path in paths]
    if not files:
        message = "no profile file was named; give at least one path"
        raise ConfigurationError(message)
    merged: dict[str, Profile] = {}
    for file in files:
        with _within(f"`{file}`"):
            found = {name: _profile(name, table) for name, table in _tables(file).items()}
            build(found)
        merged |= {name: profile.over(merged.get(name, Profile())) for name, profile in found.items()}
    with _within(" and ".join(f"`{file}`" for file in files)):
        return build(merged)


@contextmanager
def _within(place: str) -> Iterator[None]:
    """Put a place before the message of whatever is refused in it."""
    try:
        yield
    except ConfigurationError as error:
        message = f"{place}: {error}"
        raise ConfigurationError(message) from error.__cause__


def _tables(file: Path) -> dict[str, Any]:
    parse: Callable[[str], dict[str, Any]] = import_module(_TOML).loads
    try:
        return parse(_text(file))
    except (ValueError, RecursionError) as error:
        message = f"is not TOML: {error}; correct it there"
        raise ConfigurationError(message) from error


def _text(file: Path) -> str:
    try:
        text = file.read_bytes().decode()
    except OSError as error:
        message = f"cannot be read: {error.strerror}; name a TOML file"
        raise ConfigurationError(message) from error
    except UnicodeDecodeError as error:
        message = "is not UTF-8, as TOML is; save it as UTF-8"
        raise ConfigurationError(message) from error
    if text.startswith("\ufeff"):
        message = "starts with a byte order mark; save it as UTF-8 without one"
        raise ConfigurationError(message)
    return text


def _profile(name: str, table: object) -> Profile:
    if name in _WIRING and (name not in FIELDS or isinstance(table, dict)):
        raise ConfigurationError(_wiring(name))
    if not isinstance(table, dict):
        message = f'key `{name}`: stands outside of any table; put it below a pattern, such as `["feed:read"]`'
        raise ConfigurationError(message)
    with _within(f"table `{name}`"):
        return Profile(**{key: _field(name, key, raw) for key, raw in table.items()})


def _field(table: str, key: str, raw: object) -> Any:  # noqa: ANN401  each field has its own type
    with _within(f"key `{key}`"):
        if key in FIELDS:
            return getattr(Profile(**{key: _value(key, raw)}), key)
        if key in _WIRING:
            raise ConfigurationError(_wiring(key))
        pattern = key if ":" in key else f"{table}:{key}"
        mend = f'write its table as `["{pattern}"]`' if isinstance(raw, dict) else nearest(key, FIELDS)
        message = f"no field of a profile; {mend}"
        raise ConfigurationError(message)


def _wiring(key: str) -> str:
    return f"`{key}` is wiring, and TOML holds profiles only; pass it to `Enforcer(...)` in Python"


def _value(key: str, raw: object) -> Any:  # noqa: ANN401  each field has its own type
    match key:
        case "on_failure":
            return _failure(raw)
        case "mode":
            return _mode(raw)
        case "audit":
            return _named(raw, {guarantee.value: guarantee for guarantee in Guarantee}, "guarantee")
        case _:
            return raw


def _failure(raw: Any) -> FailureMode:  # noqa: ANN401  whatever TOML holds
    match raw:
        case "closed":
            return FailClosed()
        case {"stale": age}:
            _options(raw, "stale", ())
            return FailStale(age)
        case {"open": faults}:
            options = _options(raw, "open", ("limit",), ("per_subject", "obligations"))
            duties = [_obligation(item) for item in _array(options.pop("obligations", []), "obligations")]
            return FailOpen(on=[_fault(name) for name in _array(faults, "open")], obligations=duties, **options)
        case _:
            raise ConfigurationError(_no_form(raw, "failure mode", _FAILURE_FORMS))


def _mode(raw: Any) -> Mode:  # noqa: ANN401  whatever TOML holds
    match raw:
        case "enforce":
            return Enforce()
        case {"shadow": reason}:
            return Shadow(reason=reason, **_options(raw, "shadow", ("until",)))
        case {"canary": fraction}:
            return Canary(fraction, **_options(raw, "canary", ("until", "reason")))
        case _:
            raise ConfigurationError(_no_form(raw, "mode", _MODE_FORMS))


def _fault(raw: object) -> Fault:
    excusable = {fault.value: fault for fault in Fault if fault in AVAILABILITY}
    return _named(raw, excusable, "fault that can be excused")


def _obligation(raw: object) -> Obligation:
    if not isinstance(raw, dict) or "type" not in raw:
        message = 'an obligation is a table with a `type`; write `{ type = "notify" }`'
        raise ConfigurationError(message)
    try:
        return Obligation(raw["type"], **_options(raw, "type", (), ("properties", "id")))
    except PDPReplyError as error:
        raise ConfigurationError(str(error)) from None


def _array(raw: object, key: str) -> list[Any]:
    if not isinstance(raw, list):
        message = f"`{key}` is a `{type(raw).__name__}`; write an array, in `[...]`"
        raise ConfigurationError(message)
    return raw


def _named(raw: object, known: Mapping[str, T], what: str) -> T:
    if not isinstance(raw, str):
        message = f"a `{type(raw).__name__}` is no {what}; {nearest('', known)}"
        raise ConfigurationError(message)
    if raw not in known:
        message = f"`{raw}` is no {what}; {nearest(raw, known)}"
        raise ConfigurationError(message)
    return known[raw]


def _options(
    raw: Mapping[Any, Any], first: str, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return what stands beside the first key of an inline table."""
    known = (first, *required, *optional)
    for key in raw:
        if key not in known:
            message = (
                f"unknown key `{key}` beside `{first}`; {nearest(key, known[1:]) if known[1:] else 'leave it out'}"
            )
            raise ConfigurationError(message)
    for key in required:
        if key not in raw:
            message = f"`{key}` is missing beside `{first}`; add it"
            raise ConfigurationError(message)
    return {key: value for key, value in raw.items() if key != first}


def _no_form(raw: object, what: str, forms: str) -> str:
    word = next(iter(raw), raw) if isinstance(raw, dict) else raw
    shown = f"`{word}`" if isinstance(word, str) else f"a `{type(raw).__name__}`"
    return f"{shown} is no {what}; write {forms}"
