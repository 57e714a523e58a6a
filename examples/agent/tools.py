"""
The tools: a small bank, of which every method is guarded.

A guard names the action and what it is done to; `policies.toml` says who may, and what is owed for it. What a guard
says about an account comes from the bank's books, never from the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pep import Enforcer, Resource, Subject, acting_as
from pep.approvals.store import Store
from pep.obligations.arguments import Clamp
from pep.obligations.budget import Budget
from pep.obligations.confirmation import RequireConfirmation
from pep.obligations.limits import RateLimit
from pep.obligations.redact import Redact
from pep.policy import PolicySet
from pep.protocols import Clock, Sink

POLICIES = Path(__file__).with_name("policies.toml")

enforcer = Enforcer.unbound("bank")  # denies everything until `start` has bound it


class Note(NamedTuple):
    """What a customer wrote down."""

    id: str
    owner: str
    text: str

    def __pep_resource__(self) -> Resource:
        """Say what policies know of it."""
        return Resource("note", self.id, {"owner": self.owner})


def _account(self: Bank, account: str) -> Resource:
    return Resource("account", account, {"owner": self.accounts[account]["owner"]})


def _amount(amount: int) -> dict[str, int]:
    if type(amount) is not int:  # what a model sends may be anything; what is no number is denied
        message = "an amount is a whole number"
        raise TypeError(message)
    return {"amount": amount}


@enforcer.all_guarded  # a method that somebody forgets to guard is refused at import
class Bank:
    """
    The bank.

    Attributes:
        accounts: Id → what is in the books.

        notes: What customers wrote down.

        done: What was really done, in order.
    """

    def __init__(self) -> None:
        self.accounts: dict[str, dict[str, Any]] = {
            "a-1": {"owner": "alice", "number": "DE02120300000000202051", "balance": 9000, "remarks": "complains"},
            "b-1": {"owner": "bob", "number": "DE02500105170137075030", "balance": 100, "remarks": "owes us"},
        }
        self.notes = [Note("1", "alice", "rent: 700 to b-1"), Note("2", "bob", "rent comes from alice")]
        self.done: list[tuple[Any, ...]] = []

    @enforcer.guard("read", resource=_account)
    def read_account(self, account: str) -> dict[str, Any]:
        """Return what is in the books about an account."""
        self.done.append(("read_account", account))
        return self.accounts[account]

    @enforcer.guard("search")
    def search_notes(self, text: str) -> list[str]:
        """Return the notes with a text in them, of those that may be read."""
        self.done.append(("search_notes", text))
        found = [note for note in self.notes if text in note.text]
        return [note.text for note in enforcer.filter("read", found)]

    @enforcer.guard("transfer", resource=_account, context=_amount)
    def transfer(self, account: str, to: str, amount: int) -> str:
        """Move money from an account to another one."""
        self.done.append(("transfer", account, to, amount))
        self.accounts[account]["balance"] -= amount
        self.accounts[to]["balance"] += amount
        return f"{amount} moved"

    @enforcer.guard("close", resource=_account)
    def close_account(self, account: str) -> None:
        """Close an account."""
        self.done.append(("close_account", account))
        del self.accounts[account]


class Tool(NamedTuple):
    """A tool that a model may be offered."""

    name: str
    run: Callable[..., Any]

    def __pep_resource__(self) -> Resource:
        """Say what policies know of it."""
        return Resource("tool", self.name)


def working_for(customer: Subject, *agents: Subject) -> acting_as:
    """Let agents act for a customer, outermost first: each is asked about, and all must be permitted."""
    return acting_as(customer, via=agents, context={"customer": customer.id})


def tools_of(bank: Bank) -> Mapping[str, Tool]:
    """Return the tools by name."""
    methods = (bank.read_account, bank.search_notes, bank.transfer, bank.close_account)
    return {method.__name__: Tool(method.__name__, method) for method in methods}


def start(store: Store, audit: Sink, clock: Clock | None = None) -> None:
    """Bind the guards: who decides, where records go, and who does what policies oblige to."""
    enforcer.bind(
        PolicySet.load(POLICIES),
        audit=audit,
        obligations=[
            Redact(),
            Clamp(),
            RateLimit(clock=clock),
            Budget(),
            RequireConfirmation(store, audit=audit),
        ],
    )
