"""Text to tree to text, and the same meaning as in Python."""

from __future__ import annotations

import ast
import random
import string
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pep.policy.parse as parsing
from pep.errors import ConfigurationError
from pep.policy import action, context, has, now, permit, predicate, resource, subject
from pep.policy.condition import MAX_NODES, Condition, operands
from pep.policy.parse import MAX_NESTING, ConditionError, parse
from pep.policy.text import to_text
from tests.policy.strategies import conditions, timed_conditions

NAMES = {"subject": subject, "resource": resource, "action": action, "context": context, "now": now, "has": has}


@settings(max_examples=300)
@given(timed_conditions)
def test_round_trip(condition: Condition) -> None:
    """What is printed is read back to the same tree, and printed alike again."""
    text = to_text(condition)
    assert parse(text) == condition
    assert to_text(parse(text)) == text


@settings(max_examples=300)
@given(timed_conditions)
def test_text_is_python(condition: Condition) -> None:
    """The text of a condition builds the same tree when it is pasted into Python."""
    assert eval(to_text(condition), {"__builtins__": {}}, dict(NAMES)) == condition  # noqa: S307  what we printed


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
def test_any_name_and_text(name: str, value: str) -> None:
    """Any property name and any text survive the way to text and back."""
    condition = (resource[name] == value) & (resource.a[name] == value) & has(context[name])
    assert parse(to_text(condition)) == condition


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("resource.owner == subject.id", resource.owner == subject.id),
        ("subject.id == resource.owner", subject.id == resource.owner),
        ("'a' == resource.owner", resource.owner == "a"),
        ("300 >= context.mfa_age", context.mfa_age <= 300),
        ("-1.5 < context.x", context.x > -1.5),
        ("'editor' in subject.roles", subject.roles.contains("editor")),
        ("resource.owner in subject.friends", subject.friends.contains(resource.owner)),
        ("resource.kind in ['a', 'b']", resource.kind.in_(["a", "b"])),
        ("resource.kind in ('a', 'b')", resource.kind.in_(["a", "b"])),
        ("resource.kind not in ['a']", ~resource.kind.in_(["a"])),
        ("not has(resource.owner)", ~has(resource.owner)),
        (
            "resource.a == 1 and resource.b == 2 or resource.c == 3",
            ((resource.a == 1) & (resource.b == 2)) | (resource.c == 3),
        ),
        (
            "(resource.a == 1) & (resource.b == 2) & (resource.c == 3)",
            (resource.a == 1) & ((resource.b == 2) & (resource.c == 3)),
        ),
        ("resource.a == True", resource.a == True),  # noqa: E712
        ("resource['id'] == 'x'", resource["id"] == "x"),
        ("resource . a == 1", resource.a == 1),
        ("resource.a ==\n  1\n", resource.a == 1),
        ("resource.a\r\n== 1", resource.a == 1),
        ("resource.a == '\\x41\\u00e9\\U0001F600\\n'", resource.a == "Aé😀\n"),
        ("resource.a == 'a' 'b'", resource.a == "ab"),
        ("now.after('2025-01-01T00:00:00Z', skew=5)", now.after("2025-01-01T00:00:00Z", skew=5)),
        ("context.ip.ip_in('10.0.0.0/8', '::1/128')", context.ip.ip_in("10.0.0.0/8", "::1/128")),
    ],
)
def test_spellings(text: str, condition: Condition) -> None:
    """What is written in a file means what the same says in Python."""
    assert parse(text) == condition


@pytest.mark.parametrize(
    ("text", "line", "column", "word"),
    [
        ("", 1, 1, "empty"),
        ("  \n", 1, 1, "empty"),
        ("resource.owner", 1, 1, "bare attribute"),
        ("resource.owner | (resource.a == 1)", 1, 1, "bare attribute"),
        ("resource.owner == subject.id | subject.admin", 1, 19, "bind tighter"),
        ("(resource.a == 1) & resource.b", 1, 21, "bare attribute"),
        ("True", 1, 1, "no condition"),
        ("1 == 1", 1, 1, "must be an attribute"),
        ("resource.a == 1 == 2", 1, 1, "chained"),
        ("resource.a is 1", 1, 1, "`==`"),
        ("resource.a = 1", 1, 1, "not an expression"),
        ("resource.a == None", 1, 15, "has("),
        ("resource.a == true", 1, 15, "unknown name `true`"),
        ("resource == subject", 1, 1, "as a whole"),
        ("user.id == 'a'", 1, 1, "unknown name `user`"),
        ("resource.__class__ == 1", 1, 1, "`__class__`"),
        ("resource.a.__init__ == 1", 1, 1, "`__init__`"),
        ("resource._hidden == 1", 1, 1, "`_hidden`"),
        ("lambda: resource.a == 1", 1, 7, "`:`"),
        ("[x for x in resource.a]", 1, 1, "no condition"),
        ("{resource.a}", 1, 1, "`{`"),
        ("f'{resource.a}' == 'x'", 1, 1, "prefix"),
        ("b'x' == resource.a", 1, 1, "prefix"),
        ("r'x' == resource.a", 1, 1, "prefix"),
        ("resource.a == '''x'''", 1, 15, "not closed"),
        ("resource.a == 'x", 1, 15, "not closed"),
        ("resource.a == '\\d'", 1, 15, "escape"),
        ("resource.a == '\\N{DASH}'", 1, 15, "escape"),
        ("__import__('os')", 1, 1, "not allowed"),
        ("open('x') == resource.a", 1, 1, "no place"),
        ("resource.a.format('x')", 1, 1, "not allowed"),
        ("has(resource.a)(1)", 1, 1, "not allowed"),
        ("has(1)", 1, 1, "`has` takes"),
        ("has()", 1, 1, "number of arguments"),
        ("has(resource.a, b=1)", 1, 1, "keyword"),
        ("has(*resource.a)", 1, 5, "`*`"),
        ("predicate('x')", 1, 1, "not allowed"),
        ("now.contains('a')", 1, 1, "`now` has"),
        ("now == 5", 1, 1, "not compared"),
        ("now.after(5)", 1, 1, "number of arguments"),
        ("now.after(5, skew=-1)", 1, 1, "skew"),
        ("now.after(5, skews=1)", 1, 1, "keywords"),
        ("now.after('soon', skew=1)", 1, 1, "RFC 3339"),
        ("now.daily('8:00', '18:00', zone='UTC', skew=0)", 1, 1, "HH:MM"),
        ("now.daily('08:00', '18:00', zone='Mars/Base', skew=0)", 1, 1, "time zone"),
        ("now.daily('08:00', '18:00', zone='../UTC', skew=0)", 1, 1, "time zone"),
        ("now.daily('08:00', '18:00', zone='UTC', skew=0, days=['day'])", 1, 1, "days"),
        ("resource.a.ip_in('10.0.0.1/8')", 1, 1, "IP network"),
        ("resource.a.ip_in()", 1, 1, "at least one"),
        ("resource.a.in_('abc')", 1, 1, "list"),
        ("resource.a.in_([])", 1, 1, "values"),
        ("resource.a.in_([1, 'a'])", 1, 1, "all texts"),
        ("resource.a.in_([resource.b])", 1, 16, "constants"),
        ("resource.a.in_([[1]])", 1, 17, "no place"),
        ("resource.a.starts_with('')", 1, 1, "not empty"),
        ("resource.a.starts_with(1)", 1, 1, "not empty"),
        ("resource.a[0] == 1", 1, 1, "in brackets"),
        ("resource.a[resource.b] == 1", 1, 1, "in brackets"),
        ("resource[''] == 1", 1, 1, "not empty"),
        ("resource.id.x == 1", 1, 1, "no properties"),
        ("resource.a.contains == 1", 1, 1, "operator"),
        ("resource.a.b.c.d(1)", 1, 1, "not allowed"),
        ("has(resource.a).b == 1", 1, 1, "no attribute"),
        ("1 in [1]", 1, 6, "must be an attribute"),
        ("now.x == 1", 1, 1, "as a whole"),
        ("resource.a == 1j", 1, 15, "malformed number"),
        ("resource.a == 0x10", 1, 15, "malformed number"),
        ("resource.a == 1_000", 1, 15, "malformed number"),
        ("resource.a == 007", 1, 15, "zeros"),
        ("resource.a == 99999999999999999999", 1, 1, "64 bits"),
        ("resource.a == 1e400", 1, 1, "finite"),
        ("resource.a == 1 # why", 1, 17, "`#`"),
        ("resource.a == 1;", 1, 16, "`;`"),
        ("resource.a == 1)", 1, 16, "closes nothing"),
        ("resource.a) | (resource.b", 1, 11, "closes nothing"),
        ("(resource.a == 1", 1, 1, "never closed"),
        ("resource.a + 1 == 2", 1, 12, "`+`"),
        ("resource.a == -resource.b", 1, 15, "no place"),
        ("resource.a == (1 if resource.b else 2)", 1, 16, "no place"),
        ("resource.a == (yield)", 1, 16, "no place"),
        ("resource.é == 1", 1, 10, "`é`"),
        ("resource.a == 1 and\n\tresource.b", 2, 2, "bare attribute"),
        ("resource.a == 'é' and resource.b", 1, 23, "bare attribute"),
        ("resource.a == 1\x00", 1, 16, "`\\x00`"),
        ("resource.a == '\ud800'", 1, 1, ""),
    ],
)
def test_refused(text: str, line: int, column: int, word: str) -> None:
    """Anything outside the subset is refused at its line and column, with the reason."""
    with pytest.raises(ConditionError) as caught:
        parse(text)
    assert word in caught.value.problem
    assert (caught.value.line, caught.value.column) == (line, column)


@pytest.mark.parametrize(
    "bomb",
    [
        "(" * 100_000,
        "(" * 40 + "resource.a == 1" + ")" * 40,
        "~" * 100_000 + "has(resource.a)",
        "not " * 50_000 + "has(resource.a)",
        "resource" + ".a" * 100_000 + " == 1",
        "resource" + "['a']" * 5_000 + " == 1",
        "has(resource.a)" + "()" * 20_000,
        " | ".join(["has(resource.a)"] * (MAX_NODES + 1)),
        " and ".join(["has(resource.a)"] * 20_000),
        "resource.a == " + "9" * 1_000_000,
        "resource.a == '" + "x" * 1_000_000 + "'",
        "resource.a.in_([" + "1," * 500_000 + "])",
        "resource.a == " + "-" * 100_000 + "1",
        " " * 1_000_000 + "x",
        "~(" * 33 + "has(resource.a)" + ")" * 33,
    ],
    ids=range(15),
)
def test_bombs(bomb: str) -> None:
    """What nests or repeats without bound is refused, and in no time."""
    with pytest.raises(ConditionError):
        parse(bomb)


def test_large_conditions_load() -> None:
    """Conditions within the bounds are read: wide ones, deep ones and long lists."""
    assert len(operands(parse(" | ".join(["has(resource.a)"] * 1000)))) == 1000
    assert to_text(parse("~(" * 30 + "has(resource.a)" + ")" * 30)) == "~" * 30 + "has(resource.a)"
    names = [f"user-{number}" for number in range(5000)]
    assert parse(f"subject.id in {names!r}") == subject.id.in_(names)


def test_python_is_bounded_too() -> None:
    """A rule refuses a condition that was built too deep or too large in Python."""
    deep = wide = has(resource.a)
    for _ in range(40):
        deep = ~deep
    for _ in range(MAX_NODES):
        wide = wide | has(resource.a)
    for condition in (deep, wide):
        with pytest.raises(ConfigurationError, match="split the rule"):
            permit("rule", when=condition)


def test_predicates_have_no_text() -> None:
    """A Python predicate is printed by its name, which no file may call."""
    condition = predicate(lambda _: True, "is_open")
    assert to_text(condition) == "predicate('is_open')"
    with pytest.raises(ConditionError, match="not allowed"):
        parse(to_text(condition))


def reading(text: str) -> Condition | ConditionError:
    """A text's condition, or why it has none."""
    try:
        return parse(text)
    except ConditionError as error:
        return error


WORDS = [
    "resource",
    "subject",
    ".id",
    ".a",
    "['b']",
    "==",
    "<",
    "in",
    "not",
    "and",
    "|",
    "&",
    "~",
    "(",
    ")",
    "[",
    "]",
    "has(",
    "'x'",
    "1",
    ",",
    "lambda",
    ":",
    "__class__",
    "f'{1}'",
    "\n",
    "\\",
    "import os",
    "exec('1')",
    "now.after(1, skew=1)",
    "\x00",
    "é",
]


@settings(max_examples=500)
@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join)
    | st.lists(st.sampled_from(WORDS), max_size=25).map("".join)
)
def test_fuzz(text: str) -> None:
    """Whatever the text, it is a condition or a refusal within it; and a condition is Python's own reading of it."""
    read = reading(text)
    if isinstance(read, ConditionError):
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        assert 1 <= read.line <= len(lines)
        assert 1 <= read.column <= len(lines[read.line - 1]) + 1
    else:
        assert parse(to_text(read)) == read
        assert ast.parse(f"({text}\n)", mode="eval")


@settings(max_examples=200)
@given(conditions, st.randoms(use_true_random=False))
def test_fuzz_near_by(condition: Condition, rnd: random.Random) -> None:
    """A valid text with a few characters changed is a condition or a refusal too."""
    text = list(to_text(condition))
    for _ in range(rnd.randint(1, 3)):
        text[rnd.randrange(len(text))] = rnd.choice(string.printable + "é\x00")
    assert isinstance(reading("".join(text)), Condition | ConditionError)


@pytest.mark.parametrize("error", [RecursionError, MemoryError, ValueError])
def test_what_overwhelms_the_parser_is_refused(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Python's own parser gives up on is a condition error with a place, on every version."""

    def overwhelmed(*_args: object, **_kwargs: object) -> None:
        raise error

    monkeypatch.setattr(parsing, "ast", SimpleNamespace(**{**vars(ast), "parse": overwhelmed}))
    with pytest.raises(ConditionError, match="too complex") as caught:
        parse("resource.a == 1")
    assert (caught.value.line, caught.value.column) == (1, 1)


@pytest.mark.parametrize(
    "text",
    [
        "not " * (MAX_NESTING + 2) + "has(resource.a)",
        "has(resource.a) and not (" * (MAX_NESTING - 1)
        + "has(resource.b) or has(resource.c)"
        + ")" * (MAX_NESTING - 1),
    ],
    ids=["words alone", "more words than brackets"],
)
def test_nesting_is_bounded_where_brackets_are_few(text: str) -> None:
    """A condition that nests by words is bounded like one that nests by brackets."""
    with pytest.raises(ConditionError, match="nest at most"):
        parse(text)
