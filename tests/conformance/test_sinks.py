"""Every sink the library ships conforms; what does not is told so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pep import Guarantee
from pep.audit import FileSink, MemorySink, Record
from pep.plan import Plan, call
from pep.testing import FailingSink, NotConforming, check_sink


def held(sink: Any) -> list[bytes]:
    """What a sink in memory holds."""
    return [record.to_json() for record in sink.records]


class Planned(MemorySink):
    """A sink whose method is a plan."""

    def record(self, record: Record) -> Plan[None]:  # type: ignore[override]
        yield from call(self.records.append, record)


class Awaited(MemorySink):
    """A sink that can only be awaited."""

    async def record(self, record: Record) -> None:  # type: ignore[override]
        self.records.append(record)


@pytest.mark.parametrize("make", [MemorySink, lambda: FailingSink(None), Awaited])
def test_sinks_in_memory_conform(make: Callable[[], Any]) -> None:
    """They keep what they acknowledged, in order."""
    check_sink(make, read=held)


def test_the_file_sink_conforms(tmp_path: Path) -> None:
    """Each record is one line of its file; a closed file refuses."""
    files: list[Path] = []

    def make() -> FileSink:
        files.append(tmp_path / f"{len(files)}.jsonl")
        return FileSink(files[-1])

    def read(sink: FileSink) -> Sequence[bytes]:
        return sink.path.read_bytes().splitlines()

    check_sink(make, read=read)
    assert len(files) == 2


class Unsure(MemorySink):
    guarantee = "buffered"  # type: ignore[assignment]


class Picky(MemorySink):
    def record(self, record: Record) -> None:
        if "\x00" in record["resource"]["id"]:
            raise ValueError
        super().record(record)


class Reversing(MemorySink):
    def record(self, record: Record) -> None:
        self.records.insert(0, record)


class Dropping(MemorySink):
    """Keeps a few, and acknowledges all."""

    def record(self, record: Record) -> None:
        if len(self.records) < 50:
            super().record(record)


class Reopening(MemorySink):
    def close(self) -> None:
        """Close nothing."""


NOT_CONFORMING = {
    "has `record": object,
    "`guarantee`": Unsure,
    "takes every record": Picky,
    "in order": Reversing,
    "every thread": Dropping,
    "a closed sink refuses": Reopening,
}


@pytest.mark.parametrize(("rule", "make"), NOT_CONFORMING.items(), ids=NOT_CONFORMING)
def test_what_breaks_a_rule_is_told_which(rule: str, make: Callable[[], Any]) -> None:
    """Each rule is able to fail."""
    with pytest.raises(NotConforming, match=rule):
        check_sink(make, read=held)


def test_a_record_is_one_line() -> None:
    """A sink that breaks a record over two lines does not conform, even if it holds all of it."""

    class Broken:
        guarantee = Guarantee.BUFFERED

        def __init__(self) -> None:
            self.records: list[Any] = []

        def record(self, record: Record) -> None:
            self.records.append(record)

    with pytest.raises(NotConforming, match="as it was"):
        check_sink(Broken, read=lambda sink: [line.replace(b",", b",\n", 1) for line in held(sink)])
