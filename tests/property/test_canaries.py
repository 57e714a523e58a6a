"""Nothing that a record may not tell is told anywhere, and nothing that it tells can be forged (promise 12)."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from pep import (
    AccessDenied,
    AccessRequest,
    Decision,
    Effect,
    Enforcer,
    FailOpen,
    Guarantee,
    Obligation,
    Profile,
    Resource,
    Subject,
    acting_as,
)
from pep.audit import FileSink, Kind, Masking, MemorySink, Record
from pep.audit.logs import LoggingSink
from pep.errors import NotVisible, PDPUnavailable, PEPError
from pep.fault import Fault
from pep.policy import AllowAll, PolicySet, permit, resource
from pep.protocols import Phase
from pep.testing import FakeHandler, FakeObserver, FakeProvider
from pep.verdict import Outcome, Verdict

#: What goes wrong; None is nothing.
TROUBLES: Final = (
    None, "denied", "pdp", "pdp down", "pdp answers", "provider", "provider answers", "extractor", "handler",
    "late handler", "code", "sink", "observer",
)  # fmt: skip


#: What a list lets records tell, as it is.
SHOWN: Final = "shown on purpose"
NOTHING: Final = Masking()
#: Names values beside every canary, and canaries to be hashed or redacted.
LISTED: Final = Masking(
    as_is={
        "resource:document": ["shown", "secret.none of it"],
        "subject:user": ["shown"],
        "context": ["shown"],
        "arguments:document:edit": ["more.shown"],
    },
    hashed={"resource:document": ["owner", "secret.nested"], "subject:user": ["roles"], "subject:agent": ["key"]},
    redacted={
        "subject:user": ["secret"],
        "context": ["ip", "risk", "title", "text"],
        "arguments:document:edit": ["title"],
        "arguments:opened:edit": ["title"],
    },
    secret=b"sixteen bytes or more",
)


class Canaries:
    """Values that must turn up nowhere, each one different, and what they look like in bytes."""

    def __init__(self) -> None:
        self.made = 0
        self.needles: list[bytes] = []

    def text(self) -> str:
        self.made += 1
        made = f"canary{self.made:05d}x"
        self.needles.append(made.encode())
        return made

    def number(self) -> int:
        self.made += 1
        made = 7_300_000_000_000 + self.made * 104_729
        # In a pickle, numbers are bytes.
        self.needles += [str(made).encode(), made.to_bytes(6, "little")]
        return made

    def tree(self) -> dict[str, Any]:
        return {
            "text": self.text(),
            "number": self.number(),
            "nested": {self.text(): [self.text(), {self.text(): self.number()}], "float": self.number() / 1.0},
        }

    def error(self, kind: type[Exception] = ValueError) -> Exception:
        error = kind(self.text(), self.number())
        vars(error)["__notes__"] = [self.text()]
        return error

    def found_in(self, content: bytes) -> list[bytes]:
        """Return the canaries in some bytes; most often there is none, which is quick to see."""
        found = [needle for needle in self.needles if needle in content] if content else []
        return [] if b"canary" not in content and not found else found or [content]


class Sinks:
    """Several sinks in one, which may fail."""

    guarantee = Guarantee.BUFFERED

    def __init__(self, canaries: Canaries, folder: Path, *, fails: bool) -> None:
        self.memory, self.path = MemorySink(), folder / "audit.jsonl"
        self.file = FileSink(self.path)
        self._logging = LoggingSink("tests.canaries")
        self._canaries, self._fails = canaries, fails

    def record(self, record: Record) -> None:
        if self._fails:
            raise self._canaries.error(OSError)
        self.memory.record(record)
        self.file.record(record)
        self._logging.record(record)

    def close(self) -> None:
        self.file.close()


class Asked:
    """A decision point that answers as its world says, also for rows."""

    name = "asked"

    def __init__(self, world: World) -> None:
        self._world = world

    def decide(self, request: AccessRequest) -> Any:
        return self._world.decide(request)

    def row_filter(self, *_asked: Any, **_more: Any) -> Any:
        self._world.decide(None)
        return AllowAll()


class World:
    """A real enforcer with a canary in everything it meets, and one thing gone wrong."""

    def __init__(self, trouble: str | None, folder: Path, masking: Masking = NOTHING) -> None:
        self.trouble, self.canaries = trouble, Canaries()
        self.sinks = Sinks(self.canaries, folder, fails=trouble == "sink")
        self.seen: list[tuple[str, bytes]] = []
        self.ran = 0
        # The same every time: what is extracted again must not have changed.
        self._content = {"secret": self.canaries.tree(), "owner": self.canaries.text(), "shown": SHOWN}
        self.enforcer = Enforcer(
            Asked(self),
            audit=self.sinks,
            attributes=[self._provider()],
            obligations=[
                FakeHandler("early", raises=self._error("handler")),
                FakeHandler("late", phase=Phase.AFTER, raises=self._error("late handler")),
                FakeHandler("told", phase=Phase.ON_DENIAL, raises=self.canaries.error()),
            ],
            telemetry=[FakeObserver(raises=self._error("observer"))],
            masking=masking,
            profiles={"opened:**": Profile(on_failure=FailOpen(on={Fault.UNREACHABLE}, limit="100/minute"))},
        )

    def _error(self, trouble: str, kind: type[Exception] = ValueError) -> Exception | None:
        return self.canaries.error(kind) if self.trouble == trouble else None

    def _provider(self) -> FakeProvider:
        odd = {"subject.secret": object(), self.canaries.text(): self.canaries.text()}
        return FakeProvider(
            {"subject.secret": self.canaries.tree(), "context.risk": self.canaries.tree()},
            raises=self._error("provider"),
            answers=odd if self.trouble == "provider answers" else None,
        )

    def decide(self, _request: AccessRequest | None) -> Any:
        if self.trouble in {"pdp", "pdp down"}:
            raise self.canaries.error(RuntimeError if self.trouble == "pdp" else ConnectionError)
        if self.trouble == "pdp answers":
            return self.canaries.tree()
        if self.trouble == "denied":
            return Decision(Effect.DENY, [Obligation("told", self.canaries.tree())])
        due = [Obligation("early", {"a": 1}), Obligation("late")] if self.trouble in {"handler", "late handler"} else []
        return Decision(Effect.PERMIT, due, policies=["p1"])

    def resource(self, document_id: object = "1", kind: str = "document") -> Resource:
        if self.trouble == "extractor":
            raise self.canaries.error(KeyError)
        return Resource(kind, "1", self._content)

    def code(self) -> Any:
        self.ran += 1
        if self.trouble == "code":
            raise self.canaries.error(LookupError)
        return self.canaries.tree()

    def subject(self) -> Subject:
        held = {"secret": self.canaries.tree(), "roles": [self.canaries.text()], "shown": SHOWN}
        return Subject("user", "alice", held)

    def acting(self) -> acting_as:
        agent = Subject("agent", "bot", {"key": self.canaries.tree()})
        return acting_as(self.subject(), via=[agent], context={"ip": self.canaries.text(), "shown": SHOWN})

    def see(self, where: str, value: object) -> None:
        self.seen.append((where, value if isinstance(value, bytes) else str(value).encode()))

    def see_error(self, error: BaseException) -> None:
        """See everything that an exception of the library's shows; what a user's own does is theirs."""
        if not isinstance(error, PEPError):
            return
        self.see("an exception", f"{error} {error!r} {error.args!r} {getattr(error, '__notes__', ())!r}")
        self.see("a pickled exception", pickle.dumps(error))
        if isinstance(error, AccessDenied):
            self.see_verdict(error.verdict)

    def see_verdict(self, verdict: Any) -> None:
        self.see("a verdict", f"{verdict!r} {verdict} {verdict.demands}")

    def look(self, logged: str) -> None:
        """See everything the enforcer left behind."""
        for told in (self.enforcer.stats(), self.enforcer.health(), self.enforcer):
            self.see("what it says of itself", repr(told))
        self.see("the log", logged)
        self.see("the file", self.sinks.path.read_bytes())
        for record in self.sinks.memory.records:
            self.see("a record", f"{record!r} {record.fields} {record.to_dict()}")
            self.see("a pickled record", pickle.dumps(record))

    def leaks(self) -> list[tuple[str, list[bytes]]]:
        return [(where, found) for where, content in self.seen if (found := self.canaries.found_in(content))]


def guard(world: World) -> Iterator[Callable[[], Any]]:
    @world.enforcer.guard("edit", resource=world.resource, context=("title",))
    def edit(document_id: str, title: str, **more: Any) -> Any:
        return world.code()

    @world.enforcer.guard("opened:edit", resource=world.resource)
    async def aedit(document_id: str, title: str, more: Any) -> Any:
        return world.code()

    text, tree = world.canaries.text, world.canaries.tree
    yield lambda: edit("1", text(), more=tree(), shown=SHOWN)
    yield lambda: asyncio.run(aedit("1", text(), tree()))


def templates(world: World) -> Iterator[Callable[[], Any]]:
    @world.enforcer.guard("edit", resource="document:{document_id}")
    def edit(document_id: Any) -> Any:
        return world.code()

    @world.enforcer.guard("edit", resource="document:{document.id}", subject="who")
    def attribute(document: Any, who: Any) -> Any:
        return world.code()

    odd: list[Any] = [world.canaries.tree(), 1.5, [world.canaries.text()], world.canaries.text().encode()]
    for value in odd:
        yield lambda value=value: edit(value)
        yield lambda value=value: attribute(value, world.canaries.text())


def generators(world: World) -> Iterator[Callable[[], Any]]:
    @world.enforcer.guard("edit", resource=world.resource)
    def lines(document_id: str) -> Any:
        yield world.canaries.text()
        yield world.code()

    yield lambda: list(lines("1"))
    yield lambda: next(lines("1"))


def results(world: World) -> Iterator[Callable[[], Any]]:
    @world.enforcer.guard_result("read", resource=lambda result: world.resource(), side_effects=False)
    def read() -> Any:
        return world.code()

    @world.enforcer.filter_result("read", resource=lambda result: world.resource(), side_effects=False)
    def everything() -> Any:
        return [world.code() for _ in range(2)]

    yield read
    yield everything


def blocks(world: World) -> Iterator[Callable[[], Any]]:
    def block() -> None:
        with world.enforcer.enforcing("edit", world.resource(), arguments=world.canaries.tree()) as grant:
            world.see("a grant", repr(grant))
            grant.use()
            grant.release(world.code())

    def unreleased() -> None:
        with world.enforcer.enforcing("edit", world.resource()):
            world.code()

    yield block
    yield unreleased


def plain(world: World) -> Iterator[Callable[[], Any]]:
    enforcer, tree = world.enforcer, world.canaries.tree

    def enforced() -> None:
        grant = enforcer.enforce("edit", world.resource(), context=tree())
        world.see("a grant", f"{grant!r} {grant.verdict!r}")
        for _twice in range(2):
            grant.use()

    def checked() -> None:
        verdict = enforcer.check("edit", world.resource(), context=tree())
        world.see_verdict(verdict)
        verdict.raise_if_denied()

    yield enforced
    yield checked
    yield lambda: [world.see_verdict(one) for one in enforcer.check_many([("edit", world.resource())] * 3)]
    yield lambda: enforcer.filter("read", [world.resource(), world.resource(kind="page")])
    yield lambda: asyncio.run(enforcer.afilter("read", [world.resource()]))
    yield lambda: enforcer.enforce("edit", [world.resource(), world.canaries.tree()])
    yield lambda: enforcer.enforce("edit", world.resource(), context={"odd": object(), **tree()})
    yield lambda: enforcer.enforce("edit", world.resource(), subject=world.canaries.tree())
    yield lambda: enforcer.row_filter("read", "document", context=tree())
    yield lambda: enforcer.invalidate(resource=world.canaries.tree())
    yield lambda: enforcer.invalidate(subject=world.subject(), resource=Resource("document", "1", tree()))


ENTRIES: Final = (guard, templates, generators, results, blocks, plain)


@pytest.mark.parametrize("masking", [NOTHING, LISTED], ids=["nothing listed", "listed"])
@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("trouble", TROUBLES)
def test_no_canary_gets_out(
    trouble: str | None,
    entry: Callable[[World], Iterator[Callable[[], Any]]],
    masking: Masking,
    request: pytest.FixtureRequest,
) -> None:
    """Values of properties, context, arguments, results and exceptions are in no sink, message, pickle or log."""
    tmp_path, caplog, capfd = map(request.getfixturevalue, ("tmp_path", "caplog", "capfd"))
    caplog.set_level(logging.DEBUG)
    world = World(trouble, tmp_path, masking)
    for call in entry(world):
        with world.acting():
            try:
                call()
            except Exception as error:  # noqa: BLE001  whatever comes out
                world.see_error(error)
    world.look(caplog.text)
    world.enforcer.close()
    world.see("what was printed", "".join(capfd.readouterr()))
    assert world.leaks() == []
    assert world.canaries.made >= 15
    _are_lines(world)


def _are_lines(world: World) -> None:
    lines = world.sinks.path.read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line)["schema"] for line in lines] == ["pep.audit/1"] * len(lines)
    told = [json.loads(line)["id"] for line in lines]
    assert [record.id for record in world.sinks.memory.records if record.id not in told] == []


def test_what_is_listed_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The list is in force: what it names stands in the records, hashed or redacted where it says so."""
    caplog.set_level(logging.DEBUG)
    world = World(None, tmp_path, LISTED)
    for call in guard(world):
        with world.acting():
            call()
    listed = [one.to_dict() for one in world.sinks.memory.records if one.kind is Kind.DECISION]
    assert len(listed) == 2
    hidden = {"$redacted": True}
    for told in listed:
        assert told["arguments"]["title"] == hidden
        assert (told["context"]["ip"], told["context"]["shown"]) == (hidden, SHOWN)
        assert told["resource"]["properties"]["shown"] == SHOWN
        assert "$hmac" in told["resource"]["properties"]["owner"]
        assert told["resource"]["properties"]["secret"].keys() == {"nested"}
    assert [told["arguments"].get("more") for told in listed] == [{"shown": SHOWN}, None]
    world.enforcer.close()


def test_there_are_enough_canaries(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Five hundred of them, and the search would find each one wherever it stood."""
    caplog.set_level(logging.DEBUG)
    world = World(None, tmp_path)
    while world.canaries.made < 500:
        for entry in ENTRIES:
            for call in entry(world):
                with world.acting():
                    try:
                        call()
                    except PEPError as error:
                        world.see_error(error)
    world.look(caplog.text)
    # Where nothing goes wrong, what is guarded runs: the canaries were everywhere.
    assert world.ran >= len(ENTRIES)
    assert {record.outcome for record in world.sinks.memory.records} >= {"permitted", "denied"}
    assert world.leaks() == []
    for needle in world.canaries.needles:
        assert world.canaries.found_in(b"before" + needle + b"after") == [needle]
    world.enforcer.close()


def test_the_search_finds_a_leak(tmp_path: Path) -> None:
    """A value that is recorded, raised, shown or pickled is found."""
    world = World(None, tmp_path)
    number, text = world.canaries.number(), world.canaries.text()
    world.see("a pickle", pickle.dumps({"a": number}))
    world.see("a text", f"x{text}y{number}")
    world.see_error(PDPUnavailable(text))
    assert [where for where, _ in world.leaks()] == ["a pickle", "a text", "an exception", "a pickled exception"]
    world.enforcer.close()


def test_obligations_do_not_show_what_they_hold() -> None:
    """A verdict shows which obligations there were, not their content: a PDP puts values of properties there."""
    canaries = Canaries()
    decision = Decision(Effect.DENY, [Obligation("told", canaries.tree())], [Obligation("hint", canaries.tree())])
    shown = repr(Verdict("v", Outcome.DENIED, decision=decision))
    assert "told" in shown
    assert canaries.found_in(shown.encode()) == []


HOSTILE: Final = ["\n", "\r\n", "\u2028", "\x85", "\x1b[2K", '"}\n{"schema":"pep.audit/1"', "\u202e", "\x00", "|=,"]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_one_record_is_one_line(text: str, tmp_path: Path) -> None:
    """Whatever a caller calls a thing, each record is one physical line, and none can be forged."""
    sink = FileSink(tmp_path / "audit.jsonl")
    enforcer = Enforcer(PolicySet([permit("all")]), audit=sink)
    with acting_as(Subject(f"u{text}", text, {text: 1}), tenant=text, context={text: text}):
        enforcer.check(f"read{text}", Resource(f"d{text}", text, {text: {text: text}}))
    enforcer.close()
    content = sink.path.read_bytes().decode()
    told = [json.loads(line) for line in content.split("\n")[:-1]]
    assert content.splitlines() == content.split("\n")[:-1]
    assert [one["subject"]["id"] for one in told if one["kind"] == "check"] == [text]


def _hidden(found: Callable[[str], Resource], folder: Path) -> Enforcer:
    mine = permit("mine", when=resource.owner == "alice")
    return Enforcer(
        PolicySet([mine]), audit=FileSink(folder / "a.jsonl"), profiles={"document:**": Profile(hidden=True)}
    )


def _shown(error: AccessDenied) -> Mapping[str, Any]:
    """What a denial shows to whoever catches it, but for the id of its record."""
    texts = [text.replace(error.record, "") for text in (str(error), repr(error), repr(error.args))]
    return {
        "type": type(error),
        "texts": texts,
        "cause": error.__cause__,
        "context": None if error.__suppress_context__ else error.__context__,
        "notes": getattr(error, "__notes__", None),
    }


def test_missing_and_forbidden_look_alike(tmp_path: Path) -> None:
    """In a hidden profile nobody can tell a resource that is not there from one that is somebody else's."""

    def found(document_id: str) -> Resource:
        if document_id == "forbidden":
            return Resource("document", document_id, {"owner": "bob"})
        return Resource("document", document_id, {"owner": "nobody"} if document_id == "odd" else {})

    enforcer = _hidden(found, tmp_path)

    @enforcer.guard("document:read", resource=found)
    def read(document_id: str) -> str:
        return document_id

    calls: tuple[Callable[[str], Any], ...] = (
        read,
        lambda name: enforcer.enforce("document:read", found(name)),
        lambda name: enforcer.check("document:read", found(name)).raise_if_denied(),
    )
    with acting_as(Subject("user", "alice")):
        for call in calls:
            shown = []
            for name in ("forbidden", "missing"):
                with pytest.raises(NotVisible) as caught:
                    call(name)
                shown.append(_shown(caught.value))
            assert shown[0] == shown[1]
    enforcer.close()
