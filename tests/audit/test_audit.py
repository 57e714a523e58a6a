from __future__ import annotations

import pytest

from pep import audit


def test_every_public_name_is_there() -> None:
    """Every name the package promises can be had from it, also those that are imported when asked for."""
    assert audit.__all__ == sorted(audit.__all__)
    for name in audit.__all__:
        assert getattr(audit, name).__name__ == name


def test_unknown_names_are_told() -> None:
    """A name that is not there is an `AttributeError`, as in any module."""
    with pytest.raises(AttributeError, match=r"module `pep\.audit` has no attribute `Sink`"):
        _ = audit.Sink  # type: ignore[attr-defined]
