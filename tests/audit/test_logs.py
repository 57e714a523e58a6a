from __future__ import annotations

import io
import json
import logging
import threading
from typing import Any

import pytest

from pep import Guarantee, Outcome
from pep.audit import Kind, Record
from pep.audit.logs import LoggingSink
from pep.audit.severity import OF_KIND, OF_OUTCOME, Severity, severity_of, token
from pep.errors import AuditError, ConfigurationError

NAME = "tests.audit.logs"


def record(kind: Kind = Kind.DECISION, **fields: Any) -> Record:
    return Record(kind, "0190-id", 1.0, fields)


class Kept(logging.Handler):
    """Keeps log records."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record)


@pytest.fixture
def logger() -> logging.Logger:
    """A logger of the tests' own, which nothing else hears."""
    return logging.Logger(NAME, logging.INFO)  # noqa: LOG001  one that pytest does not listen to


@pytest.fixture
def handler(logger: logging.Logger) -> Kept:
    """What it hands its records to."""
    made = Kept()
    logger.addHandler(made)
    return made


def test_a_record_is_a_message(logger: logging.Logger, handler: Kept) -> None:
    """The message is the JSON as it is; what filters look at is beside it."""
    sink = LoggingSink(logger)
    given = record(outcome="denied", text="100 %s %(name)s {x}")
    sink.record(given)
    (logged,) = handler.kept
    assert logged.getMessage() == given.to_json().decode()
    assert vars(logged).items() >= {"audit_id": "0190-id", "audit_kind": "decision", "audit_outcome": "denied"}.items()
    assert (logged.levelno, logged.name, logged.funcName) == (logging.WARNING, NAME, "record")
    assert sink.guarantee is Guarantee.BUFFERED
    assert repr(sink) == f"LoggingSink('{NAME}')"


HOSTILE = "\r\n\x1b[31m\u2028\u202e%s{0}\x00"


@pytest.mark.parametrize("style", ["%", "{", "$"])
def test_no_formatter_is_fed_with_what_a_caller_chose(logger: logging.Logger, style: Any) -> None:
    """Whatever an id holds, a formatter of any style writes one line that steers nothing."""
    form = {"%": "%(audit_outcome)s %(audit_id)s %(message)s", "{": "{audit_id} {message}", "$": "$audit_id $message"}
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(form[style], style=style))
    logger.addHandler(handler)
    LoggingSink(logger).record(Record(Kind.DECISION, HOSTILE, 1.0, {"outcome": HOSTILE, "subject": {"id": HOSTILE}}))
    (line,) = stream.getvalue().splitlines()
    assert line.isprintable()
    assert json.loads(line[line.index("{") :])["subject"]["id"] == HOSTILE


def test_levels_follow_the_outcome(logger: logging.Logger, handler: Kept) -> None:
    """Each outcome, and each kind without one, has the level of the table."""
    sink = LoggingSink(logger)
    for outcome in Outcome:
        sink.record(record(outcome=outcome.value))
    for kind in Kind:
        sink.record(record(kind))
    levels = {logging.INFO: "INFO", logging.WARNING: "WARNING", logging.ERROR: "ERROR"}
    words = [*(outcome.value for outcome in Outcome), *(kind.value for kind in Kind)]
    told = {word: levels[logged.levelno] for word, logged in zip(words, handler.kept, strict=True) if word != "outcome"}
    assert told == {
        "permitted": "INFO",
        "denied": "WARNING",
        "confirmation_required": "INFO",
        "step_up_required": "INFO",
        "rate_limited": "WARNING",
        "unavailable": "ERROR",
        "failed_open": "ERROR",
        "shadowed": "WARNING",
        "decision": "INFO",
        "check": "INFO",
        "invalidation": "INFO",
        "configuration": "INFO",
        "approval": "INFO",
        "gap": "ERROR",
        "open": "INFO",
        "close": "INFO",
    }


def test_levels_can_be_chosen(logger: logging.Logger, handler: Kept) -> None:
    """What is chosen for an outcome goes before what is chosen for a kind, and that before the table."""
    sink = LoggingSink(logger, levels={"denied": "CRITICAL", "check": 25})
    for fields in ({"outcome": "denied"}, {"outcome": "permitted"}):
        sink.record(record(Kind.CHECK, **fields))
        sink.record(record(Kind.DECISION, **fields))
    assert [logged.levelno for logged in handler.kept] == [50, 50, 25, 20]


@pytest.mark.parametrize(
    ("levels", "told"),
    [
        ({"deny": "INFO"}, "did you mean `denied`"),
        ({"denied": "LOUD"}, "`LOUD` is no level"),
        ({"denied": 0}, "`0` is no level"),
        ({"denied": True}, "`True` is no level"),
    ],
)
def test_a_typo_in_levels_is_told_at_once(levels: Any, told: str) -> None:
    """Unknown words and levels are refused when the sink is made."""
    with pytest.raises(ConfigurationError, match=told):
        LoggingSink(levels=levels)


def test_what_is_no_logger_is_refused() -> None:
    """A sink needs a logger, or the name of one."""
    with pytest.raises(ConfigurationError, match="`int` is no logger"):
        LoggingSink(1)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="number of seconds"):
        LoggingSink(timeout=0)


def test_nobody_to_hear_it_is_a_failure(logger: logging.Logger) -> None:
    """A record that no handler would see is refused, whatever the reason."""
    logger.setLevel(logging.WARNING)
    sink = LoggingSink(logger)
    with pytest.raises(AuditError, match=r"`tests.audit.logs` is off for WARNING, or has no handler"):
        sink.record(record(outcome="denied"))
    logger.addHandler(handler := Kept())
    with pytest.raises(AuditError, match="is off for INFO"):
        sink.record(record())
    sink.record(record(outcome="denied"))
    logger.disabled = True
    with pytest.raises(AuditError, match="is off for ERROR"):
        sink.record(record(Kind.GAP))
    logger.disabled = False
    logger.addFilter(lambda _logged: False)
    with pytest.raises(AuditError, match="has a filter that drops"):
        sink.record(record(outcome="denied"))
    assert len(handler.kept) == 1


def test_a_filter_may_replace_the_log_record(logger: logging.Logger, handler: Kept, monkeypatch: Any) -> None:
    """What a filter puts in its place is handed on, as `logging` itself does."""
    other = logging.makeLogRecord({"msg": "other", "levelno": 20})
    monkeypatch.setattr(logger, "filter", lambda _logged: other)
    LoggingSink(logger).record(record())
    assert handler.kept == [other]


def test_a_logger_may_be_named(caplog: pytest.LogCaptureFixture) -> None:
    """A name stands for the application's logger of that name; `pep.audit` unless given."""
    with caplog.at_level(logging.INFO, "pep.audit"):
        LoggingSink().record(record())
        LoggingSink(NAME).record(record(outcome="denied"))
    assert [logged.name for logged in caplog.records] == ["pep.audit", NAME]


def test_closed_is_closed(logger: logging.Logger, handler: Kept) -> None:
    """After `close` nothing is logged, and the application's handlers are as they were."""
    sink = LoggingSink(logger)
    sink.close()
    with pytest.raises(AuditError, match="is closed"):
        sink.record(record())
    assert handler.kept == []
    assert logger.handlers == [handler]


def test_a_handler_that_hangs_holds_up_nobody_else(logger: logging.Logger) -> None:
    """Other threads are refused after the longest wait, and served again once it goes on."""
    entered, go_on = threading.Event(), threading.Event()

    class Stuck(Kept):
        def emit(self, record: logging.LogRecord) -> None:
            entered.set()
            go_on.wait()

    logger.addHandler(Stuck())
    sink = LoggingSink(logger, timeout=0.01)
    first = threading.Thread(target=sink.record, args=(record(),))
    first.start()
    entered.wait()
    with pytest.raises(AuditError, match=r"busy for 0.01 s; nothing was written"):
        sink.record(record())
    go_on.set()
    first.join()
    sink.record(record())


def test_a_fork_in_the_midst_of_a_record_is_refused(logger: logging.Logger, handler: Kept) -> None:
    """A child that was forked while a handler hung is told, and does not hang."""
    sink = LoggingSink(logger)
    sink._turns.torn = True
    with pytest.raises(AuditError, match="in use when this process was forked"):
        sink.record(record())


def test_every_outcome_and_kind_has_a_severity() -> None:
    """The tables are whole; an outcome of somebody else's falls back to the kind."""
    assert set(OF_OUTCOME) == {outcome.value for outcome in Outcome}
    assert set(OF_KIND) == {kind.value for kind in Kind}
    assert severity_of(record(Kind.GAP, outcome="new")) is Severity.ERROR
    assert severity_of(record(outcome=["denied"])) is Severity.INFO


@pytest.mark.parametrize("value", [None, 1, "", "a\n", "é", "x" * 65])
def test_only_short_words_are_tokens(value: object) -> None:
    """What is no short word of printable ASCII is left out."""
    assert token(value) in {None, ""}
    assert token("failed_open") == "failed_open"
