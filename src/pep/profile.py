"""
Profiles: how one action is enforced. Its failure modes, modes, audit guarantee, and the fields themselves.

Frozen values, checked on construction. Imports the model, the faults, the rates and the error tree only.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from functools import total_ordering
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypedDict, cast, final

import attrs

from pep.errors import ConfigurationError
from pep.fault import Fault
from pep.frozen import fields_repr
from pep.model import Obligation, Subject
from pep.profile_checks import (
    a_collection,
    a_flag,
    a_rate,
    check_fraction,
    check_reason,
    check_until,
    excusable,
    nearest,
    one_of,
    seconds,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Unpack

    from pep.rate import Rate


@total_ordering
class Guarantee(Enum):
    """
    What holds of a record before the code it permits runs; from weakest to strongest.

    Source:
        DESIGN section 12.
    """

    #: In a bounded queue, its room reserved; survives a clean exit.
    BUFFERED = "buffered"
    #: In the kernel, written to an append-only file; survives SIGKILL.
    WRITTEN = "written"
    #: On disk; survives power loss.
    DURABLE = "durable"

    def __lt__(self, other: object) -> bool:
        if type(other) is not Guarantee:
            return NotImplemented
        ascending = list(Guarantee)
        return ascending.index(self) < ascending.index(other)

    def covers(self, asked: Guarantee) -> bool:
        """Tell whether a sink that gives this is enough for a profile that asks for *asked*."""
        return self >= asked


@final
class FailClosed:
    """No decision, no call: the default."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is FailClosed

    def __hash__(self) -> int:
        return hash(FailClosed)

    def __repr__(self) -> str:
        return "FailClosed()"


@attrs.frozen(init=False, repr=False)
class FailOpen:
    """
    Let a bounded number of calls through while the decision point is down.

    Args:
        on: The faults that are excused; only those of availability can be.

        limit: How many calls in all, such as ``"100/minute"``.

        per_subject: How many calls of any one subject, such as ``"10/minute"``.

        obligations: What must be done for each call let through, to compensate.

    Raises:
        ConfigurationError: On another fault, none, no rate, or something that is no obligation.

    Source:
        DESIGN section 6.
    """

    on: frozenset[Fault] = attrs.field(repr=lambda on: f"{{{', '.join(sorted(map(str, on)))}}}")
    limit: Rate = attrs.field(repr=lambda rate: f"'{rate}'")
    per_subject: Rate | None = attrs.field(repr=lambda rate: f"'{rate}'" if rate else "None")
    obligations: tuple[Obligation, ...]
    __repr__ = fields_repr

    def __init__(
        self,
        *,
        on: Iterable[Fault],
        limit: str | Rate,
        per_subject: str | Rate | None = None,
        obligations: Iterable[Obligation] = (),
    ) -> None:
        share = per_subject if per_subject is None else a_rate(per_subject)
        duties = a_collection(obligations, Obligation, "obligations", "`Obligation(...)` values")
        self.__attrs_init__(excusable(on), a_rate(limit), share, tuple(duties))  # pyright: ignore[reportAttributeAccessIssue]


@attrs.frozen(init=False, repr=False)
class FailStale:
    """
    Serve the last real decision while the decision point is down, if it is young enough.

    Args:
        max_age: Its greatest age, in seconds since the request it answered started.

    Raises:
        ConfigurationError: When that is no finite number greater than 0.

    Source:
        DESIGN section 6; RFC 5861 (``stale-if-error``).
    """

    max_age: float
    __repr__ = fields_repr

    def __init__(self, max_age: float) -> None:
        self.__attrs_init__(seconds(max_age, "max_age"))  # pyright: ignore[reportAttributeAccessIssue]


@final
class Enforce:
    """What was decided holds: the default."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is Enforce

    def __hash__(self) -> int:
        return hash(Enforce)

    def __repr__(self) -> str:
        return "Enforce()"


@attrs.frozen(kw_only=True, repr=False)
class Shadow:
    """
    Decide and record what would have happened, and run the code all the same, for a while.

    Args:
        until: When enforcing starts; a datetime with a time zone.

        reason: Why it does not enforce yet; for the record and reports.

    Raises:
        ConfigurationError: On a datetime without a time zone, or no reason.
    """

    until: datetime = attrs.field(validator=lambda _mode, _field, value: check_until(value))
    reason: str = attrs.field(validator=lambda _mode, _field, value: check_reason(value))
    __repr__ = fields_repr

    def active(self, now: datetime) -> bool:
        """Tell whether it still shadows at *now*, a datetime with a time zone; from `until` on it enforces."""
        return now < self.until


_CLOSED: Final = FailClosed()
_ENFORCED: Final = Enforce()


@attrs.frozen(repr=False)
class Canary:
    """
    Enforce for a fraction of the subjects, shadow for the rest, for a while.

    Args:
        fraction: Which share of the subjects is enforced; a float between 0 and 1, both excluded.

        until: When enforcing starts for everybody; a datetime with a time zone.

        reason: Why it does not enforce for everybody yet; for the record and reports.

    Raises:
        ConfigurationError: On another fraction, a datetime without a time zone, or no reason.
    """

    fraction: float = attrs.field(validator=lambda _mode, _field, value: check_fraction(value))
    until: datetime = attrs.field(kw_only=True, validator=lambda _mode, _field, value: check_until(value))
    reason: str = attrs.field(kw_only=True, validator=lambda _mode, _field, value: check_reason(value))
    __repr__ = fields_repr

    def active(self, now: datetime) -> bool:
        """Tell whether it still shadows some at *now*, a datetime with a time zone; from `until` on it enforces."""
        return now < self.until

    def enforced(self, subject: Subject | None, secret: bytes) -> bool:
        """
        Tell whether a subject is among those enforced: the same answer every time, whatever its properties.

        Who is enforced at one fraction is enforced at every greater one.

        Args:
            subject: Who acts; None, nobody, is always enforced.

            secret: The deployment's, so that nobody can choose an id that is not enforced.
        """
        if subject is None:
            return True
        from hmac import digest  # noqa: PLC0415  loads OpenSSL, for canaries only

        kind = subject.type.encode()
        message = b"pep.canary/1\0%d\0%b%b" % (len(kind), kind, subject.id.encode())
        bucket = int.from_bytes(digest(secret, message, "sha256")[:8], "big")
        return bucket < self.fraction * 2**64


FailureMode: TypeAlias = FailClosed | FailOpen | FailStale
Mode: TypeAlias = Enforce | Shadow | Canary

# Field → the classes its value may have, and how to write one.
_CHOICES: Final = MappingProxyType(
    {
        "on_failure": ((FailClosed, FailOpen, FailStale), "`FailClosed()`, `FailOpen(...)` or `FailStale(...)`"),
        "mode": ((Enforce, Shadow, Canary), "`Enforce()`, `Shadow(...)` or `Canary(...)`; there is no off switch"),
        "audit": ((Guarantee,), ", ".join(f"`{guarantee}`" for guarantee in Guarantee)),
    }
)


class ProfileFields(TypedDict, total=False):
    """The keywords of `Profile`, for type checkers."""

    on_failure: FailureMode
    mode: Mode
    deadline: float
    permit_ttl: float | None
    deny_ttl: float | None
    audit: Guarantee
    hidden: bool
    revalidate: float | None
    pin_arguments: bool
    record_query: bool


#: The names of a profile's fields, in order.
FIELDS: Final = tuple(ProfileFields.__annotations__)


@attrs.frozen(init=False, repr=False, kw_only=True)
class Profile:
    """
    How one action is enforced. What is not given is inherited from the next wider pattern.

    Args:
        on_failure: What happens when no decision is had; `FailClosed()` unless given.

        mode: Whether decisions hold; `Enforce()` unless given.

        deadline: The total time for a decision, in seconds: queueing, retries, decision point,
            providers and audit together; 1.0 unless given.

        permit_ttl: How long a permit may be reused, in seconds; 0 never, None leaves it to the decision point.

        deny_ttl: The same for a denial.

        audit: The least guarantee a record must have; `Guarantee.BUFFERED` unless given.

        hidden: Whether a denial looks as if the resource did not exist; False unless given.

        revalidate: After how many seconds a call that is still running is decided again; None, never.

        pin_arguments: Whether all arguments are compared again before the code runs; False unless given.

        record_query: Whether a decision record tells the whole query the decision point was sent, masked like the
            rest; False unless given.

    Raises:
        ConfigurationError: On an unknown keyword, or a value of the wrong type or out of range.

    Source:
        DESIGN section 7.
    """

    on_failure: FailureMode = _CLOSED
    mode: Mode = _ENFORCED
    deadline: float = 1.0
    permit_ttl: float | None = None
    deny_ttl: float | None = None
    audit: Guarantee = Guarantee.BUFFERED
    hidden: bool = False
    revalidate: float | None = None
    pin_arguments: bool = False
    record_query: bool = False
    #: Names of the fields that were given; the others are inherited. One given its default counts.
    given: frozenset[str]

    def __init__(self, **fields: Unpack[ProfileFields]) -> None:
        checked = {name: _checked(name, value) for name, value in fields.items()}
        self.__attrs_init__(**checked, given=frozenset(checked))  # pyright: ignore[reportAttributeAccessIssue]

    def over(self, wider: Profile) -> Profile:
        """Return a profile with what this one gives, and for the rest what *wider* gives."""
        merged: ProfileFields = {**wider.fields(), **self.fields()}
        return Profile(**merged)

    def fields(self) -> ProfileFields:
        """Return what was given: name → value, in the order of the fields."""
        return cast("ProfileFields", {name: getattr(self, name) for name in FIELDS if name in self.given})

    def __repr__(self) -> str:
        return f"Profile({', '.join(f'{name}={_shown(value)}' for name, value in self.fields().items())})"


def _shown(value: object) -> str:
    return str(value) if isinstance(value, Enum) else repr(value)


def _checked(name: str, value: object) -> Any:  # noqa: ANN401  each field has its own type
    """Check one field of a profile, by its name."""
    match name:
        case "on_failure" | "mode" | "audit":
            return one_of(value, name, *_CHOICES[name])
        case "deadline":
            return seconds(value, name)
        case "revalidate":
            return None if value is None else seconds(value, name)
        case "permit_ttl" | "deny_ttl":
            return None if value is None else seconds(value, name, zero=True)
        case "hidden" | "pin_arguments" | "record_query":
            return a_flag(value, name)
        case _:
            message = f"unknown profile field `{name}`; {nearest(name, FIELDS)}"
            raise ConfigurationError(message)
