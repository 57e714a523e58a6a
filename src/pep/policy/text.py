"""
The text form of a condition: what files hold, and revisions are computed from.

It is Python: pasted into a program it builds the same condition. Imports conditions and attributes.
"""

from __future__ import annotations

from typing import cast

from pep.policy.attributes import quote, spell
from pep.policy.condition import (
    And,
    Compare,
    Condition,
    Constant,
    Contains,
    Daily,
    Has,
    InNetwork,
    Intersects,
    Leaf,
    Not,
    Now,
    Options,
    Or,
    Term,
    Text,
    Window,
)


def to_text(condition: Condition) -> str:
    """
    Write a condition as text that `parse` reads back to the same tree.

    A Python predicate has no text form; it is written by its name, which `parse` refuses.
    """
    match condition:
        case And(operands):
            return " & ".join([_inner(one) for one in operands])
        case Or(operands):
            return " | ".join([_inner(one) for one in operands])
        case Not(operand):
            return f"~{_inner(operand)}"
        case _:
            return _leaf(cast("Leaf", condition))


def term_text(term: Term) -> str:
    """Write a term."""
    if isinstance(term, Constant):
        return quote(term.value) if type(term.value) is str else repr(term.value)
    if isinstance(term, Options):
        return f"[{', '.join([term_text(Constant(value)) for value in term.values])}]"
    return "now" if isinstance(term, Now) else spell(term)


def _inner(condition: Condition) -> str:
    """Write an operand: what Python would read differently is put in parentheses."""
    text = to_text(condition)
    return f"({text})" if type(condition) in {And, Or, Compare} else text


def _leaf(leaf: Leaf) -> str:
    match leaf:
        case Compare(operator, left, right):
            return f"{term_text(left)} {operator} {term_text(right)}"
        case Contains(Options() as options, item):
            return f"{term_text(item)}.in_({term_text(options)})"
        case Contains(collection, item):
            return f"{term_text(collection)}.contains({term_text(item)})"
        case Intersects(left, right):
            return f"{term_text(left)}.intersects({term_text(right)})"
        case Text(operator, text, part):
            return f"{term_text(text)}.{operator}({term_text(part)})"
        case InNetwork(address, networks):
            return f"{term_text(address)}.ip_in({', '.join(map(quote, networks))})"
        case Has(field):
            return f"has({term_text(field)})"
        case Daily(moment, start, end, zone, days, skew):
            only = f", days=[{', '.join(map(quote, days))}]" if days else ""
            return f"{term_text(moment)}.daily({quote(start)}, {quote(end)}, zone={quote(zone)}, skew={skew!r}{only})"
        case Window(moment, start, end, skew):
            return f"{term_text(moment)}.{_window(start, end)}, skew={skew!r})"
        case _:
            return f"predicate({quote(leaf.name)})"


def _window(start: Term | None, end: Term | None) -> str:
    if start is None or end is None:
        return f"before({term_text(cast('Term', end))}" if start is None else f"after({term_text(start)}"
    return f"between({term_text(start)}, {term_text(end)}"
