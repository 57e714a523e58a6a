"""The pytest fixtures override until the test ends, each in a pytest of its own."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

pytest_plugins = ["pytester"]

APPLICATION = """
    import pytest
    from pep import AccessDenied, Enforcer, Resource, Subject, acting_as
    from pep.audit import MemorySink

    sink = MemorySink()
    enforcer = Enforcer(lambda request: False, audit=sink)

    @enforcer.guard("edit", resource="document:{document_id}")
    def edit(document_id: str) -> str:
        return "edited"

    def attempt() -> str:
        with acting_as(Subject("user", "alice")):
            return edit("1")
"""


def passed(pytester: pytest.Pytester, tests: str, count: int) -> None:
    """Run tests beside the application; all pass."""
    pytester.makepyfile(application=APPLICATION)
    pytester.makepyfile(f"import pytest\nfrom application import *\n{tests}")
    arguments = [] if _declared() else ["-p", "pep.testing.pytest_plugin"]
    pytester.runpytest_inprocess(*arguments, "-p", "no:cacheprovider").assert_outcomes(passed=count)


def _declared() -> bool:
    return any(entry.value == "pep.testing.pytest_plugin" for entry in entry_points(group="pytest11"))


def test_permit_all_lasts_as_long_as_the_test(pytester: pytest.Pytester) -> None:
    """Everything is permitted in that test, and nothing in the next."""
    passed(
        pytester,
        """
def test_permitted(permit_all):
    world = permit_all(enforcer)
    assert attempt() == "edited"
    assert len(world.permits) == 1 and world.asked[0].resource.id == "1"

def test_denied_again():
    with pytest.raises(AccessDenied):
        attempt()
    assert [record.get("change") for record in sink.records] == ["override begun", "override ended", None]
""",
        2,
    )


def test_deny_all_denies(pytester: pytest.Pytester) -> None:
    """Everything is denied, and recorded as that."""
    passed(
        pytester,
        """
def test_denied(deny_all):
    world = deny_all(enforcer)
    with pytest.raises(AccessDenied):
        attempt()
    assert len(world.denials) == 1 and world.permits == []
""",
        1,
    )


def test_decisions_follow_a_script(pytester: pytest.Pytester) -> None:
    """A script decides; what it does not mention is denied; parts may be swapped as well."""
    passed(
        pytester,
        """
from pep.testing import FakeClock

def test_scripted(decisions):
    clock = FakeClock()
    world = decisions(enforcer, {("edit", "document"): True}, clock=clock)
    assert attempt() == "edited"
    assert world.clock is clock
    with acting_as(Subject("user", "alice")):
        assert not enforcer.check("read", Resource("document", "1")).allowed
""",
        1,
    )


def test_fixtures_nest(pytester: pytest.Pytester) -> None:
    """Several overrides in one test end in the opposite order they began."""
    passed(
        pytester,
        """
def test_both(permit_all, deny_all):
    outer = permit_all(enforcer)
    inner = deny_all(enforcer)
    with pytest.raises(AccessDenied):
        attempt()
    assert (len(outer.permits), len(inner.denials)) == (0, 1)
""",
        1,
    )


def test_the_library_for_tests_needs_no_test_library() -> None:
    """`import pep.testing` imports neither pytest nor Hypothesis."""
    code = (
        "import sys, pep.testing; "
        "sys.exit(any(name.split('.')[0] in {'pytest', '_pytest', 'hypothesis'} for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
