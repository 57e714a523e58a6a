"""The agent example: the whole story step by step, and what must hold whatever a model makes up."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from pep import AccessDenied, Decision, Effect, Obligation, Resource, Subject, acting_as, approval
from pep.approvals import ApprovalRefused, Reason
from pep.approvals.desk import Desk
from pep.approvals.sqlite import SQLiteStore
from pep.audit import MemorySink
from pep.cli.app import app
from pep.errors import ConfigurationError, ConfirmationRequired, PDPUnavailable
from pep.model import AccessRequest
from pep.obligations.budget import run
from pep.policy import PolicySet
from pep.testing import FailingSink, FakeClock, override

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "agent"
MODULES = ("loop", "model", "tools")
SECRET = b"a secret of sixteen bytes or more"

ALICE, ASSISTANT = Subject("customer", "alice"), Subject("agent", "assistant")
HELPER = Subject("helper", "researcher")
OLGA = Subject("employee", "olga", {"roles": ["officer"]})
SESSIONS = {"alice": ALICE, "assistant": ASSISTANT, "olga": OLGA, "paul": Subject("employee", "paul", {"roles": []})}


class Application:
    """The example, freshly imported, with approvals in a database; made anew it is the application restarted."""

    def __init__(self, folder: Path, audit: Any = None) -> None:
        for name in MODULES:
            sys.modules.pop(name, None)
        self.tools, self.model, self.loops = (import_module(name) for name in ("tools", "model", "loop"))
        self.sink = MemorySink() if audit is None else audit
        self.clock = FakeClock()
        store = SQLiteStore(folder / "approvals.db", secret=SECRET)
        self.tools.start(store, self.sink, self.clock)
        self.bank = self.tools.Bank()
        self.desk = Desk(store, authenticate=SESSIONS.get, audit=MemorySink())

    def call(self, name: str, **arguments: Any) -> Any:
        """A call of a tool, as a model makes it."""
        return self.model.ToolCall("c-1", name, arguments)

    def loop(self, *script: Any) -> Any:
        """A loop over a model that follows a script."""
        return self.loops.Loop(self.model.ScriptedModel(script), self.tools.tools_of(self.bank))

    def act(self, loop: Any, said: Any = "go") -> Any:
        """Let the assistant work for Alice."""
        with self.tools.working_for(ALICE, ASSISTANT), run():
            return loop.resume(said) if isinstance(said, self.loops.Pending) else loop.run(said)

    def tell(self, *calls: Any) -> list[tuple[str, str]]:
        """What the model is told about each of its calls."""
        loop = self.loop(*calls)
        self.act(loop)
        return told(loop)

    def transfer(self, amount: Any) -> Any:
        """A call that moves money."""
        return self.call("transfer", account="a-1", to="b-1", amount=amount)

    def pending(self, amount: int = 5000) -> tuple[Any, Any]:
        """A loop that waits for a large transfer to be approved."""
        loop = self.loop(self.transfer(amount))
        return loop, self.act(loop)

    def decisions(self, action: str) -> list[dict[str, Any]]:
        """The decisions on record about an action."""
        records = [record.to_dict() for record in self.sink.records]
        return [record for record in records if record["kind"] == "decision" and record["action"] == action]


def told(loop: Any) -> list[tuple[str, str]]:
    """The status and text of every message about a call."""
    return [(message.status, message.content) for message in loop.messages if hasattr(message, "status")]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Application]]:
    """Makes the application; each is closed in the end."""
    monkeypatch.syspath_prepend(EXAMPLE)
    made: list[Application] = []

    def making(audit: Any = None) -> Application:
        made.append(Application(tmp_path, audit))
        return made[-1]

    yield making
    for application in made:
        application.tools.enforcer.close()
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def agent(make: Callable[..., Application]) -> Application:
    """The application."""
    return make()


# What a model sees.


def test_a_model_is_shown_what_it_may_call(agent: Application) -> None:
    """A tool that the agent may not use is not in the list, though the customer may use it."""
    shown: list[Sequence[str]] = []
    loop = agent.loop()
    loop.model.reply = lambda _messages, tools: shown.append(tools) or "done"
    assert agent.act(loop) == "done"
    with acting_as(ALICE):
        loop.run("without the agent")
    assert shown == [
        ["read_account", "search_notes", "transfer"],
        ["read_account", "search_notes", "transfer", "close_account"],
    ]


def test_a_read_is_redacted_for_an_agent(agent: Application) -> None:
    """A model gets a masked number and no remarks; the customer gets all, and the books stay as they are."""
    ((status, text),) = agent.tell(agent.call("read_account", account="a-1"))
    assert (status, text) == ("done", "{'owner': 'alice', 'number': '***2051', 'balance': 9000}")
    with acting_as(ALICE):
        whole = agent.bank.read_account("a-1")
    assert (whole["number"], whole["remarks"]) == ("DE02120300000000202051", "complains")
    assert whole is agent.bank.accounts["a-1"]


def test_notes_of_others_are_not_found(agent: Application) -> None:
    """A search finds the customer's own notes only, by whichever agent."""
    assert agent.tell(agent.call("search_notes", text="rent")) == [("done", "['rent: 700 to b-1']")]


def test_searches_are_limited(agent: Application) -> None:
    """The third search within a minute is refused with the time to wait, and works after it."""
    search = agent.call("search_notes", text="rent")
    assert agent.tell(search, search, search)[-1] == ("rate_limited", "too often; try again in 60 s")
    agent.clock.advance(60)
    assert agent.tell(search)[0][0] == "done"
    assert len(agent.bank.done) == 3


# What a model may not do.


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("launch_rocket", {}),
        ("close_account", {"account": "a-1"}),
        ("__class__", {}),
        ("", {}),
        ("read_account", {"account": "b-1"}),
        ("read_account", {"account": "none"}),
        ("read_account", {"account": None}),
        ("read_account", {"account": ["a-1"]}),
        ("read_account", {}),
        ("read_account", {"account": "a-1", "self": None}),
        ("transfer", {"account": "b-1", "to": "a-1", "amount": 10}),
        ("transfer", {"account": "a-1", "to": "b-1", "amount": 0}),
        ("transfer", {"account": "a-1", "to": "b-1", "amount": -800}),
        ("transfer", {"account": "a-1", "to": "b-1", "amount": "800"}),
        ("transfer", {"account": "a-1", "to": "b-1", "amount": True}),
        ("transfer", {"account": "a-1", "to": "b-1", "amount": float("nan")}),
        ("transfer", {"account": "a-1", "to": "b-1", "amount": 10, "approved": True}),
    ],
)
def test_what_a_model_makes_up_does_not_run(agent: Application, name: str, arguments: dict[str, Any]) -> None:
    """An unknown tool, a forbidden one and arguments that are not the customer's to give run nothing, and say so."""
    ((status, _),) = agent.tell(agent.model.ToolCall("c-1", name, arguments))
    assert status in {"denied", "failed"}
    assert agent.bank.done == []


def test_an_unknown_tool_is_on_record(agent: Application) -> None:
    """A tool that does not exist is denied by the policies, like any other, before anything looks it up."""
    assert agent.tell(agent.call("launch_rocket"))[0][0] == "denied"
    (record,) = agent.decisions("use")
    assert (record["resource"]["id"], record["outcome"]) == ("launch_rocket", "denied")


@pytest.mark.parametrize("who", ["by itself", "for a stranger"])
def test_an_agent_has_no_rights_of_its_own(agent: Application, who: str) -> None:
    """By itself, and for somebody who owns nothing, an agent reads nothing and moves nothing."""
    mallory = Subject("customer", "mallory")
    acting = acting_as(ASSISTANT) if who == "by itself" else agent.tools.working_for(mallory, ASSISTANT)
    loop = agent.loop(agent.call("read_account", account="a-1"), agent.transfer(10), agent.transfer(5000))
    with acting, run():
        loop.run("go")
    assert agent.bank.done == []


# Transfers.


def test_a_transfer_is_clamped(agent: Application) -> None:
    """An agent moves 500 at most by itself."""
    assert agent.tell(agent.transfer(800)) == [("done", "500 moved")]
    assert agent.bank.done == [("transfer", "a-1", "b-1", 500)]
    (record,) = agent.decisions("transfer")
    (clamp,) = record["obligations"]
    assert (clamp["type"], clamp["status"]) == ("clamp", "discharged")


def test_a_clamp_is_on_record_by_digest(agent: Application) -> None:
    """The record of a clamped transfer has the digests of what was changed, before and after."""
    agent.tell(agent.transfer(800))
    (clamp,) = agent.decisions("transfer")[0]["obligations"]
    assert len(clamp["before"]) == len(clamp["after"]) == 64
    assert clamp["before"] != clamp["after"]


def test_a_small_transfer_is_left_alone(agent: Application) -> None:
    """Within its bounds a transfer is what the model asked for, and so is any that the customer makes alone."""
    assert agent.tell(agent.transfer(500)) == [("done", "500 moved")]
    with acting_as(ALICE):
        assert agent.bank.transfer("a-1", "b-1", 800) == "800 moved"


def test_a_large_transfer_waits_for_somebody_else(agent: Application) -> None:
    """It does not run until an officer approved it: not the customer, their agent, somebody else, or nobody."""
    loop, pending = agent.pending()
    assert told(loop) == [("needs_confirmation", "somebody is asked; wait")]
    refused = []
    for session in ("alice", "assistant", "paul", "nobody"):
        with pytest.raises(ApprovalRefused) as refusal:
            agent.desk.approve(pending.approval, session)
        refused.append(refusal.value.reason)
    assert refused == [Reason.REQUESTER, Reason.REQUESTER, Reason.NOT_ALLOWED, Reason.UNAUTHENTICATED]
    assert agent.act(loop, pending) == pending
    assert agent.bank.done == []
    agent.desk.approve(pending.approval, "olga")
    assert agent.act(loop, pending) == "done"
    assert agent.bank.done == [("transfer", "a-1", "b-1", 5000)]


def test_an_approver_sees_what_is_asked_for(agent: Application) -> None:
    """At the desk there is who asks, through whom, for what, and the arguments that the policy shows."""
    agent.pending()
    (one,) = agent.desk.list()
    assert (one.request.subject, one.request.actors) == (ALICE, (ASSISTANT,))
    assert dict(one.shown) == {"to": "b-1", "amount": 5000}


def test_an_approval_is_used_once(agent: Application) -> None:
    """The same call with the same approval runs once, however often it is resumed, in whichever run."""
    loop, pending = agent.pending()
    agent.desk.approve(pending.approval, "olga")
    for _ in range(3):
        agent.act(loop, pending)
    assert [status for status, _ in told(loop)] == ["needs_confirmation", "done", "denied", "denied"]
    assert len(agent.bank.done) == 1


@pytest.mark.parametrize("changed", [{"amount": 5001}, {"to": "a-1"}, {"account": "b-1"}, {"amount": 50}])
def test_swapped_arguments_are_refused(agent: Application, changed: dict[str, Any]) -> None:
    """An approval is worth nothing for other arguments, and stays good for its own."""
    loop, pending = agent.pending()
    agent.desk.approve(pending.approval, "olga")
    swapped = agent.call("transfer", **{**pending.call.arguments, **changed})
    agent.act(loop, pending._replace(call=swapped))
    # What is small needs no approval: it runs as what it is, and the approval is not used up for it.
    small = changed == {"amount": 50}
    assert agent.bank.done == ([("transfer", "a-1", "b-1", 50)] if small else [])
    agent.act(loop, pending)
    assert agent.bank.done[-1] == ("transfer", "a-1", "b-1", 5000)


def test_a_rejection_does_not_loop(agent: Application) -> None:
    """What was rejected is denied, on resuming and when the model asks again; nobody is asked a second time."""
    again = agent.transfer(7000)
    loop = agent.loop(again, again, again)
    pending = agent.act(loop)
    agent.desk.reject(pending.approval, "olga")
    assert agent.act(loop, pending) == "done"
    assert [status for status, _ in told(loop)] == ["needs_confirmation", "denied", "denied", "denied"]
    assert list(agent.desk.list()) == []
    assert agent.bank.done == []


def test_an_approval_outlives_a_restart(make: Callable[..., Application]) -> None:
    """A call that waits is resumed by another process over the same database, once."""
    _, pending = make().pending()
    kept = json.dumps([pending.approval, *pending.call])
    after = make()
    after.desk.approve(pending.approval, "olga")
    after = make()
    approved, *called = json.loads(kept)
    resumed = after.loops.Pending(after.model.ToolCall(*called), approved)
    loop = after.loop()
    after.act(loop, resumed)
    after.act(loop, resumed)
    assert [status for status, _ in told(loop)] == ["done", "denied"]
    assert after.bank.done == [("transfer", "a-1", "b-1", 5000)]


def test_an_approval_is_no_permit(agent: Application, tmp_path: Path) -> None:
    """On resuming everything is decided again: by policies that no longer permit it, it is denied."""
    loop, pending = agent.pending()
    agent.desk.approve(pending.approval, "olga")
    changed = tmp_path / "policies.toml"
    changed.write_text((EXAMPLE / "policies.toml").read_text().replace("amount > 1000", "amount > 9000"))
    with override(agent.tools.enforcer, PolicySet.load(changed)):
        agent.act(loop, pending)
    assert told(loop)[-1][0] == "denied"
    assert agent.bank.done == []


# Runs.


def test_a_loop_is_stopped_by_its_budget(agent: Application) -> None:
    """A model that calls for ever is stopped after five calls, whatever they are."""
    loop = agent.loop(*[agent.call("read_account", account="a-1")] * 100)
    with pytest.raises(agent.loops.StoppedError):
        agent.act(loop)
    assert len(agent.bank.done) == 5


def test_a_budget_is_shared_with_a_sub_agent(agent: Application) -> None:
    """What a helper spends in a run of its own is gone for the agent it works for; it has no more than was given."""
    search = agent.call("search_notes", text="rent")
    with agent.tools.working_for(ALICE, ASSISTANT), run() as outer:
        with agent.tools.working_for(ALICE, ASSISTANT, HELPER), run({"tool calls": 1}) as inner:
            with pytest.raises(agent.loops.StoppedError):
                agent.loop(search, search).run("find it")
            assert inner.spent("tool calls") == 1
        assert outer.spent("tool calls") == 1
        with pytest.raises(agent.loops.StoppedError):
            agent.loop(*[agent.call("read_account", account="a-1")] * 100).run("go on")
    assert [done[0] for done in agent.bank.done] == ["search_notes", *["read_account"] * 4]


def test_a_sub_agent_has_less_than_its_agent(agent: Application) -> None:
    """A helper may search; what only the agent may do it may not, though the agent is in the chain."""
    loop = agent.loop(agent.transfer(10), agent.call("read_account", account="a-1"))
    with agent.tools.working_for(ALICE, ASSISTANT, HELPER), run():
        loop.run("pay")
    assert [status for status, _ in told(loop)] == ["denied", "denied"]


def test_a_run_is_killed(agent: Application) -> None:
    """Once a run is killed, no call of it starts; outside of a run none starts either."""
    read = agent.call("read_account", account="a-1")
    allowance = run()

    def script() -> Iterator[Any]:
        yield read
        allowance.kill()
        yield read

    loop = agent.loop(*())
    loop.model = agent.model.ScriptedModel(script())
    with agent.tools.working_for(ALICE, ASSISTANT), allowance, pytest.raises(agent.loops.StoppedError):
        loop.run("go")
    with agent.tools.working_for(ALICE, ASSISTANT), pytest.raises(agent.loops.StoppedError):
        agent.loop(read).run("go")
    assert len(agent.bank.done) == 1


# What the model is told.


def _answering(kind: str) -> Callable[[AccessRequest], Decision]:
    """A decision point that answers the calls of tools, not their use, in one way."""

    def decide(request: AccessRequest) -> Decision:
        if request.action.name in {"see", "use"}:
            return Decision(Effect.PERMIT)
        if kind == "unavailable":
            raise PDPUnavailable
        broken = Obligation("mask", {"fields": ["no such field"]})
        return Decision(Effect.DENY) if kind == "denied" else Decision(Effect.PERMIT, [broken])

    return decide


@pytest.mark.parametrize("kind", ["unavailable", "withheld", "denied"])
def test_each_refusal_is_told_apart(agent: Application, kind: str) -> None:
    """A model is told what to do about each kind of refusal, and never why."""
    with override(agent.tools.enforcer, _answering(kind)):
        ((status, text),) = agent.tell(agent.call("read_account", account="a-1"))
    assert status == kind
    assert len(agent.bank.done) == (kind == "withheld")
    assert "2051" not in text


def test_a_tool_that_fails_does_not_end_the_loop(agent: Application) -> None:
    """A model is told that a permitted tool failed, by the kind of error only, and goes on."""
    calls = (agent.call("transfer", account="a-1", to="nowhere", amount=10), agent.call("search_notes", text="rent"))
    assert agent.tell(*calls) == [("failed", "KeyError"), ("done", "['rent: 700 to b-1']")]


# Whatever a model makes up.


class Watched(list[Any]):
    """What was done, which must never run ahead of what was permitted on record."""

    def __init__(self, sink: MemorySink) -> None:
        super().__init__()
        self._sink, self.ahead = sink, False

    def append(self, done: Any) -> None:
        super().append(done)
        action = {"read_account": "read", "search_notes": "search"}.get(done[0], done[0])
        permits = [
            record
            for record in (record.to_dict() for record in self._sink.records)
            if (record["kind"], record.get("action")) == ("decision", action)
            and record["outcome"] == "permitted"
            and record["entry"] == "guard"
        ]
        self.ahead = self.ahead or len(permits) < sum(one[0] == done[0] for one in self)


_NAMES = st.sampled_from(["read_account", "search_notes", "transfer", "close_account", "launch_rocket"])
_ACCOUNTS = st.sampled_from(["a-1", "b-1", "none"])
_AMOUNTS = st.one_of(st.sampled_from([10, 500, 501, 1000, 1001, 5000, -1]), st.integers(), st.text(max_size=3))


@given(st.lists(st.tuples(_NAMES, _ACCOUNTS, _ACCOUNTS, _AMOUNTS, st.sampled_from(["yes", "no", ""])), max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_tool_runs_without_a_permit_on_record(
    make: Callable[..., Application], calls: list[tuple[Any, ...]]
) -> None:
    """Whatever a model calls and people answer: what runs has a permit on record, and nobody else's account changes."""
    agent = make(MemorySink())
    agent.bank.done = watched = Watched(agent.sink)
    for name, account, other, amount, answer in calls:
        given_ = {"transfer": {"to": other, "amount": amount}, "search_notes": {"text": other}}.get(name, {})
        where = {} if name in {"search_notes", "launch_rocket"} else {"account": account}
        loop = agent.loop(agent.call(name, **where, **given_))
        pending = agent.act(loop)
        if pending != "done" and answer:
            (agent.desk.approve if answer == "yes" else agent.desk.reject)(pending.approval, "olga")
            agent.act(loop, pending)
    assert not watched.ahead
    assert not [done for done in watched if done[0] in {"read_account", "transfer"} and done[1] != "a-1"]
    assert not [done for done in watched if done[0] == "close_account"]
    large = [done for done in watched if done[0] == "transfer" and done[3] > 500]
    assert len(large) <= sum(call[0] == "transfer" and call[4] == "yes" for call in calls)


def test_nothing_runs_that_cannot_be_recorded(make: Callable[..., Application]) -> None:
    """With an audit sink that takes nothing, a model is shown nothing, and no tool runs."""
    agent = make(FailingSink())
    loop = agent.loop(agent.transfer(10))
    with agent.tools.working_for(ALICE, ASSISTANT), run():
        with pytest.raises(AccessDenied):
            loop.run("go")
        assert loop.answer(agent.transfer(10)).status == "unavailable"
    assert agent.bank.done == []


def test_the_audit_log_has_no_values(make: Callable[..., Application]) -> None:
    """No argument, no result and no account number is in any record, denied or not."""
    agent = make()
    loop, pending = agent.pending(48_151_623)
    agent.desk.reject(pending.approval, "olga")
    agent.act(loop, pending)
    agent.tell(agent.call("read_account", account="a-1"), agent.call("search_notes", text="to b-1"))
    agent.tell(agent.transfer(815), agent.transfer("canary"), agent.call("launch_rocket", at="canary"))
    written = b"\n".join(record.to_json() for record in agent.sink.records).decode()
    assert "require-confirmation" in written
    values = ("48151623", "2051", "9000", "complains", "rent", "to b-1", "canary")
    assert [value for value in values if f'"{value}' in written or f":{value}" in written] == []


def test_a_tool_without_a_guard_is_refused(agent: Application) -> None:
    """A method that somebody adds and forgets to guard fails when the class is made."""
    with pytest.raises(ConfigurationError, match="print_money"):
        type("Mint", (agent.tools.Bank,), {"print_money": lambda self: None})


# An asynchronous loop over the same policies.


def test_an_asynchronous_loop(agent: Application) -> None:
    """Asynchronous tools are guarded by the same policies: clamped, confirmed once, counted, and killed."""
    enforcer, done = agent.tools.enforcer, []
    account = Resource("account", "a-1", {"owner": "alice"})

    @enforcer.guard("transfer", resource=account, context=("amount",))
    async def transfer(to: str, amount: int) -> int:
        await asyncio.sleep(0)
        done.append(amount)
        return amount

    async def use(amount: int) -> int:
        (await enforcer.aenforce("use", Resource("tool", "transfer"))).use()
        return await transfer("b-1", amount)

    async def story() -> None:
        with agent.tools.working_for(ALICE, ASSISTANT), run() as spent:
            assert await use(800) == 500
            with pytest.raises(ConfirmationRequired) as required:
                await use(5000)
            name = required.value.approval
            assert name is not None
            await agent.desk.aapprove(name, "olga")
            with approval(name):
                assert await transfer("b-1", 5000) == 5000
            with approval(name), pytest.raises(AccessDenied):
                await transfer("b-1", 5000)
            spent.kill()
            with pytest.raises(AccessDenied):
                await use(10)

    asyncio.run(story())
    assert done == [500, 5000]


# The policies and the demonstration.


def test_check_finds_nothing() -> None:
    """The example's policies have no findings, not even warnings."""
    result = CliRunner().invoke(app, ["policy", "check", str(EXAMPLE), "--strict"])
    assert (result.exit_code, result.stdout) == (0, "13 rules, 0 errors, 0 warnings\n")


def test_cases_pass_and_cover_everything() -> None:
    """The example's cases pass, and exercise every rule and both values of every comparison."""
    result = CliRunner().invoke(app, ["policy", "test", str(EXAMPLE)])
    assert result.exit_code == 0
    passed, covered = result.stdout.splitlines()[-2:]
    assert passed == "24 of 24 cases passed"
    assert covered == "13 of 13 rules applied, 30 of 30 values of comparisons seen"


def _demonstrated(folder: Path) -> list[str]:
    command = [sys.executable, EXAMPLE / "demo.py", folder]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return [line for line in done.stdout.splitlines() if not line.startswith("The audit file")]


def test_demonstration_tells_the_story(tmp_path: Path) -> None:
    """The demonstration shows each of its steps, and says the same each time, in 62 lines of at most 100 columns."""
    lines = _demonstrated(tmp_path)
    assert lines == _demonstrated(tmp_path)
    assert len(lines) <= 62
    assert max(map(len, lines)) <= 100
    assert all(line.isprintable() and line.isascii() for line in lines)
    steps = (
        "'number': '***2051'",
        "rate_limited:",
        "500 moved",
        "needs_confirmation:",
        "alice's session: refused, requester",
        "5000 moved",
        "olga's session: rejected",
        "its 5 calls are spent",
        "it was killed",
        "confirmation_required  require-confirmation",
        "clamp discharged",
    )
    assert [step for step in steps if not any(step in line for line in lines)] == []
