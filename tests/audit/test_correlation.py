from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.audit.correlation import Correlation, Trace, current_span, from_traceparent
from pep.errors import ExtractionError

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
BOTH = {"trace": {"trace_id": TRACE, "span_id": SPAN}}


def test_what_it_tells() -> None:
    """A record gets what there is: an id, a trace, both or nothing."""
    assert Correlation().fields() == {}
    assert Correlation("r1").fields() == {"correlation": "r1"}
    assert Correlation("r1", Trace(TRACE, SPAN)).fields() == {"correlation": "r1", **BOTH}
    assert repr(Correlation("r1")) == "Correlation(id='r1', trace=None)"


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", True),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-comes", True),
        (f"00-{TRACE}-{SPAN}-01-more", False),
        (f"ff-{TRACE}-{SPAN}-01", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE.upper()}-{SPAN}-01", False),
        (f"00-{TRACE}-{SPAN}-1", False),
        (f"00-{TRACE}-{SPAN}", False),
        (f"00-{TRACE}-{SPAN}-01\n", False),
        (f" 00-{TRACE}-{SPAN}-01", False),
        ("", False),
        (None, False),
    ],
)
def test_traceparents(text: Any, valid: bool) -> None:
    """A header of this version is read strictly, one of a later version as far as it is known (W3C §3.2, §4.3)."""
    found = from_traceparent(text)
    assert (None if found is None else found.fields()) == (BOTH if valid else None)


def test_an_id_of_the_applications_stays() -> None:
    """Where the header is none, the application's own id is kept."""
    assert from_traceparent("?", id="r1") == Correlation("r1")
    assert from_traceparent(f"00-{TRACE}-{SPAN}-01", id="r1") == Correlation("r1", Trace(TRACE, SPAN))


@given(st.text(max_size=60) | st.binary(max_size=60))
def test_whatever_a_header_says(text: Any) -> None:
    """What is no header is ignored, never an error."""
    assert from_traceparent(text) is None


@pytest.mark.parametrize("value", ["", "x" * 257, 5, b"r"])
def test_ids_are_short_text(value: Any) -> None:
    """A correlation id is text of a bounded length."""
    with pytest.raises(ExtractionError, match="a correlation id"):
        Correlation(value)


def test_a_trace_is_a_trace() -> None:
    """Nothing else is told as one."""
    wrong: Any = (TRACE, SPAN)
    with pytest.raises(ExtractionError, match="`trace` is a `tuple`; give a `Trace`"):
        Correlation(trace=wrong)
    for ids in ((TRACE[1:], SPAN), (TRACE, SPAN + "0"), (TRACE, None), ("0" * 32, SPAN), (f"{TRACE[1:]}\n", SPAN)):
        broken: Any = ids
        with pytest.raises(ExtractionError, match="lower-case hexadecimal digits"):
            Trace(*broken)


def opentelemetry(monkeypatch: pytest.MonkeyPatch, trace_id: int, span_id: int) -> None:
    api: Any = ModuleType("opentelemetry.trace")
    context = SimpleNamespace(trace_id=trace_id, span_id=span_id)
    api.get_current_span = lambda: SimpleNamespace(get_span_context=lambda: context)
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", api)


def test_the_span_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where OpenTelemetry is loaded, its current span is told; where there is none, nothing is."""
    opentelemetry(monkeypatch, 1, 2)
    assert current_span() == Correlation(trace=Trace(f"{1:032x}", f"{2:016x}"))
    opentelemetry(monkeypatch, 0, 0)
    assert current_span() is None
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    assert current_span() is None


def test_a_real_span() -> None:
    """The library's own span is read."""
    trace = pytest.importorskip("opentelemetry.trace")
    context = trace.SpanContext(int(TRACE, 16), int(SPAN, 16), is_remote=False)
    with trace.use_span(trace.NonRecordingSpan(context)):
        found = current_span()
    assert found is not None
    assert found.fields() == BOTH
    assert current_span() is None
