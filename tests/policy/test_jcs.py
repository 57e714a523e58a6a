"""Canonical JSON, against the published vectors of RFC 8785."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.errors import ConfigurationError
from pep.policy.jcs import canonical_json

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@pytest.mark.parametrize("name", ["arrays", "french", "structures", "unicode", "values", "weird"])
def test_vectors(vectors: Path, name: str) -> None:
    """Each published input is written as the published output, byte for byte."""
    folder = vectors / "jcs"
    written = canonical_json(json.loads((folder / f"input_{name}.json").read_bytes()))
    assert written == (folder / f"output_{name}.json").read_bytes().rstrip(b"\n")
    assert written == bytes.fromhex((folder / f"outhex_{name}.txt").read_text())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (-1.5, "-1.5"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (123456789012345680000.0, "123456789012345680000"),
        (1.5e300, "1.5e+300"),
        (1e-6, "0.000001"),
        (1.5e-6, "0.0000015"),
        (1e-7, "1e-7"),
        (1.25e-7, "1.25e-7"),
        (5e-324, "5e-324"),
        (0.1, "0.1"),
        (100.25, "100.25"),
        (2.0**53, "9007199254740992"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    """Numbers are written as ECMAScript writes them, with an exponent from 1e21 on and below 1e-6."""
    assert canonical_json(value) == text.encode()


@given(values)
def test_means_the_same(value: object) -> None:
    """What is written reads back as the same value, and is written alike again."""
    written = canonical_json(value)
    assert json.loads(written, parse_int=float) == value
    assert canonical_json(json.loads(written, parse_int=float)) == written


@given(st.dictionaries(st.sampled_from(["id", "when", "action"]), st.text() | st.lists(st.text())))
def test_simple_rules(rule: dict[str, object]) -> None:
    """Over texts and lists of texts, orjson with sorted keys writes the canonical form."""
    assert orjson.dumps(rule, option=orjson.OPT_SORT_KEYS) == canonical_json(rule)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53 + 1, "\ud800", {"\udc00": 1}])
def test_refused(value: object) -> None:
    """What has no canonical form is refused."""
    with pytest.raises(ConfigurationError):
        canonical_json(value)
