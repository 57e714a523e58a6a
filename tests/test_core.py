"""The core: bound once, followed, frozen, forked, and generous with no grant."""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from pathlib import Path
from typing import Any, Final

import pytest

from pep import AccessDenied, Enforcer, Fault, Outcome, Profile, Resource, acting_as
from pep.audit import Kind, MemorySink
from pep.core import Core
from pep.errors import ConfigurationError
from pep.verdict import Grant, Verdict
from tests.scenes import ALICE, DOCUMENT, Scene

THIS: Final = Path(__file__)


def permit(_request: Any) -> bool:
    return True


async def apermit(_request: Any) -> bool:
    return True


# --- binding -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", None, 7, type("Text", (str,), {})("x")])
def test_a_name_is_exact_text(name: Any) -> None:
    """It is an id in every record, and checked where it is given."""
    with pytest.raises(ConfigurationError, match="name"):
        Enforcer(permit, audit=MemorySink(), name=name)
    with pytest.raises(ConfigurationError, match="name"):
        Enforcer.unbound(name)


def test_unbound_everything_is_denied() -> None:
    """A guard raises, a check returns, a filter raises; all say UNBOUND, and nothing runs."""
    enforcer = Enforcer.unbound("billing")
    ran: list[str] = []

    @enforcer.guard("edit", resource=DOCUMENT, on_denied=lambda _denied: "instead")
    def edit() -> None:
        ran.append("sync")

    @enforcer.guard("edit", resource=DOCUMENT)
    async def aedit() -> None:
        ran.append("async")

    def raised(begin: Any) -> Fault | None:
        with pytest.raises(AccessDenied) as caught:
            begin()
        return caught.value.fault

    async def awaited(name: str, *args: Any) -> Any:
        return await getattr(enforcer, name)(*args)

    with acting_as(ALICE):
        raising_calls = [
            edit,
            lambda: asyncio.run(aedit()),
            lambda: enforcer.enforce("edit", DOCUMENT),
            lambda: enforcer.enforcing("edit", DOCUMENT).__enter__(),
            lambda: enforcer.filter("edit", [DOCUMENT]),
            lambda: enforcer.filter("edit", []),
            lambda: asyncio.run(awaited("aenforce", "edit", DOCUMENT)),
            lambda: asyncio.run(awaited("afilter", "edit", [DOCUMENT])),
            enforcer.invalidate_all,
        ]
        assert [raised(begin) for begin in raising_calls] == [Fault.UNBOUND] * len(raising_calls)
        verdicts = [enforcer.check("edit", DOCUMENT), asyncio.run(awaited("acheck", "edit", DOCUMENT))]
        verdicts += enforcer.check_many([("edit", DOCUMENT)] * 2)
    assert {(verdict.outcome, verdict.fault) for verdict in verdicts} == {(Outcome.UNAVAILABLE, Fault.UNBOUND)}
    assert ran == []


def test_binding_happens_once() -> None:
    """Bound is bound, whether to parts or to another enforcer."""
    enforcer = Enforcer.unbound("billing")
    enforcer.bind(permit, audit=MemorySink())
    leader = Enforcer(permit, audit=MemorySink())
    for again in (lambda: enforcer.bind(permit, audit=MemorySink()), lambda: enforcer.bind(leader)):
        with pytest.raises(ConfigurationError, match="bound already"):
            again()
    follower = Enforcer.unbound("library")
    follower.bind(leader)
    with pytest.raises(ConfigurationError, match="bound already"):
        follower.bind(leader)


def test_binding_lists_every_site_that_does_not_fit() -> None:
    """By file and line, all at once; and leaves the enforcer unbound."""
    enforcer = Enforcer.unbound("billing")

    @enforcer.guard("edit", resource=DOCUMENT)
    def one() -> None:
        """Do nothing."""

    @enforcer.guard("edit", resource=DOCUMENT)
    async def fine() -> None:
        """Do nothing."""

    @enforcer.guard("edit", resource=DOCUMENT)
    def two() -> None:
        """Do nothing."""

    with pytest.raises(ConfigurationError) as caught:
        enforcer.bind(apermit, audit=MemorySink())
    told = str(caught.value).splitlines()
    assert len(told) == 3
    for line, site in zip(told[1:], (enforcer._core.sites[0], enforcer._core.sites[2]), strict=True):
        assert line.strip().startswith(f"{THIS}:{site.lineno}: ")
        assert site.name in line
        assert "`apermit.decide` can only be awaited" in line
    assert enforcer.health()["state"] == "unbound"
    enforcer.bind(permit, audit=MemorySink())
    assert enforcer.health()["state"] == "bound"


def test_a_part_that_is_refused_leaves_the_enforcer_unbound() -> None:
    """A mistake in binding can be mended by binding again."""
    enforcer = Enforcer.unbound("billing")
    with pytest.raises(ConfigurationError):
        enforcer.bind(None, audit=MemorySink())
    enforcer.bind(permit, audit=MemorySink())


def test_sites_are_checked_where_they_are_written_once_bound() -> None:
    """A synchronous guard over what must be awaited is refused at decoration."""
    enforcer = Enforcer(apermit, audit=MemorySink())
    with pytest.raises(ConfigurationError, match="make it `async def`"):

        @enforcer.guard("edit", resource=DOCUMENT)
        def edit() -> None:
            """Do nothing."""


# --- following ----------------------------------------------------------------------------------------


def test_a_library_follows_its_application() -> None:
    """It is enforced as the leader is, into the leader's records, with registries of its own."""

    class Letter:
        """Something only the library knows."""

    sink = MemorySink()
    leader, library = Enforcer(permit, audit=sink), Enforcer.unbound("library")
    library.resources.register(Letter, lambda _letter: Resource("letter", "1"))
    library.bind(leader)
    with acting_as(ALICE):
        assert library.check("read", Letter()).allowed
        assert library.check("read").request == library.check("read").request
        assert leader.check("read", Letter()).fault is Fault.EXTRACTION
    assert sink.records[0]["resource"]["type"] == "letter"
    assert sink.records[1]["resource"]["id"] == "library"
    assert library.health()["pdp"] == "permit"


def test_a_follower_may_be_bound_before_its_leader() -> None:
    """Until the leader is bound everything is denied; then its sites are checked with the leader's."""
    leader, library, plugin = (Enforcer.unbound(name) for name in ("app", "library", "plugin"))
    library.bind(leader)
    plugin.bind(library)

    @plugin.guard("edit", resource=DOCUMENT)
    def edit() -> str:
        return "edited"

    with acting_as(ALICE), pytest.raises(AccessDenied) as caught:
        edit()
    assert caught.value.fault is Fault.UNBOUND
    with pytest.raises(ConfigurationError, match="edit"):
        leader.bind(apermit, audit=MemorySink())
    assert leader.health()["state"] == "unbound"
    leader.bind(permit, audit=MemorySink())
    with acting_as(ALICE):
        assert edit() == "edited"


def test_nobody_follows_in_a_circle() -> None:
    """Neither directly nor by way of others."""
    one, two, three = (Enforcer.unbound(name) for name in "abc")
    with pytest.raises(ConfigurationError, match="takes nothing of its own"):
        one.bind(one)
    one.bind(two)
    two.bind(three)
    with pytest.raises(ConfigurationError, match="would follow itself"):
        three.bind(one)


def test_a_follower_takes_nothing_of_its_own() -> None:
    """A leader is handed over alone."""
    leader, library = Enforcer(permit, audit=MemorySink()), Enforcer.unbound("library")
    for parts in ({"audit": MemorySink()}, {"secret": b""}):
        with pytest.raises(ConfigurationError, match="takes nothing of its own"):
            library.bind(leader, **parts)  # type: ignore[arg-type]


def test_an_ended_enforcer_is_neither_bound_nor_followed() -> None:
    """What was closed stays closed."""
    leader, library, closed = Enforcer(permit, audit=MemorySink()), Enforcer.unbound("library"), Enforcer.unbound("x")
    leader.close()
    closed.close()
    with pytest.raises(ConfigurationError, match="`application` is closed"):
        library.bind(leader)
    with pytest.raises(ConfigurationError, match="`x` is closed"):
        closed.bind(permit, audit=MemorySink())


def test_followers_are_not_kept_alive() -> None:
    """A leader knows who follows it, and lets them go."""
    leader, library = Enforcer(permit, audit=MemorySink()), Enforcer.unbound("library")
    library.bind(leader)
    gone = weakref.ref(library._core)
    del library
    gc.collect()
    assert gone() is None
    assert list(leader._core.led()) == [leader._core]


# --- swapping ------------------------------------------------------------------------------------------


def test_a_swap_ends_with_its_block() -> None:
    """Another wiring for a while, also for what follows; a frozen enforcer allows none."""
    leader, library = Scene("sync").enforcer, Enforcer.unbound("library")
    library.bind(leader)
    other = Scene("sync", False).core.wiring()
    before = leader._core.wiring()
    with acting_as(ALICE):
        with leader._core.swapped(other):
            assert leader._core.own_wiring is other
            assert not library.check("edit", DOCUMENT).allowed
        assert library.check("edit", DOCUMENT).allowed
        with library._core.swapped(other):
            assert not library.check("edit", DOCUMENT).allowed
            assert leader.check("edit", DOCUMENT).allowed
        assert library.check("edit", DOCUMENT).allowed
    assert leader._core.wiring() is before
    leader.freeze()
    with pytest.raises(ConfigurationError, match="frozen"), leader._core.swapped(other):
        pass
    with pytest.raises(ConfigurationError, match="frozen"):
        leader.subjects.register(int, lambda _number: ALICE)


def test_performers_are_made_once_for_a_wiring() -> None:
    """Threads are bounded per wiring, so what bounds them lives as long."""
    core = Scene("sync").core
    first = core.performers(core.wiring())
    assert core.performers(core.wiring()) == first
    other = Scene("sync").core.wiring()
    assert core.performers(other) != first


# --- grants --------------------------------------------------------------------------------------------


def granted(scene: Scene) -> Grant:
    with acting_as(ALICE):
        return scene.enforcer.enforce("edit", DOCUMENT)


def fault_of_use(grant: Grant) -> tuple[Outcome, Fault | None]:
    with pytest.raises(AccessDenied) as caught:
        grant.use()
    return caught.value.outcome, caught.value.fault


REVOKED: Final = (Outcome.UNAVAILABLE, Fault.REVOKED)


def test_a_grant_is_spent_once() -> None:
    """The second use is refused."""
    grant = granted(Scene("sync"))
    grant.use()
    assert fault_of_use(grant) == REVOKED


def test_a_grant_is_bound_to_who_gave_it() -> None:
    """A forgery, a copy made by hand or a void grant is worth nothing."""
    scene = Scene("sync")
    grant = granted(scene)
    forged = Grant(grant.verdict, {}, redeem=scene.core.redeem)
    assert fault_of_use(forged) == REVOKED
    other = Grant(grant.verdict, {}, redeem=Scene("sync").core.redeem)
    assert fault_of_use(other) == REVOKED

    class Imitation(Grant):
        """Not quite a grant."""

    imitation = Imitation(Verdict("1", Outcome.PERMITTED), {}, redeem=scene.core.redeem)
    assert fault_of_use(imitation) == REVOKED
    scene.core.void(grant)
    assert fault_of_use(grant) == REVOKED


@pytest.mark.parametrize("end", ["invalidate", "close", "leader closes"])
def test_a_grant_ends_with_what_it_rests_on(end: str) -> None:
    """Revoked, or given by an enforcer that is closed, it is void."""
    scene = Scene("sync")
    enforcer = scene.enforcer
    if end == "leader closes":
        enforcer = Enforcer.unbound("library")
        enforcer.bind(scene.enforcer)
    with acting_as(ALICE):
        grant = enforcer.enforce("edit", DOCUMENT)
    if end == "invalidate":
        enforcer.invalidate(subject=ALICE)
    else:
        scene.enforcer.close()
    assert fault_of_use(grant) == REVOKED


def in_child(work: Any) -> int:
    """Run something in a forked child; return its exit code."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(work())
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_holds_no_grants_and_threads_of_its_own() -> None:
    """What the parent was granted is void in the child; the child can enforce, with all its threads free."""
    scene = Scene("sync", profile=Profile(permit_ttl=60))
    grant = granted(scene)
    performers = scene.core.performers(scene.core.wiring())

    def work() -> int:
        try:
            grant.use()
        except AccessDenied:
            fresh = scene.core.performers(scene.core.wiring()) is not performers
            return 0 if fresh and scene.edit().told == ("returned", None) else 2
        return 1

    assert in_child(work) == 0
    grant.use()


def test_a_fork_leaves_grants_and_threads_to_the_parent() -> None:
    """What a child begins with: no grant it could spend, no thread it could wait for."""
    scene = Scene("sync")
    grant, performers = granted(scene), scene.core.performers(scene.core.wiring())
    scene.core._forked()
    assert fault_of_use(grant) == REVOKED
    assert scene.core.performers(scene.core.wiring()) != performers


def test_a_core_that_is_gone_is_not_told_of_forks() -> None:
    """What looks after forks does not keep an enforcer alive."""
    core = Core("gone")
    gone = weakref.ref(core)
    del core
    gc.collect()
    assert gone() is None


def test_an_interpreter_that_ends_enforces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """In finalisation every call is unavailable."""
    scene = Scene("sync")
    grant = granted(scene)
    with monkeypatch.context() as patched:
        patched.setattr("sys.is_finalizing", lambda: True)
        assert scene.edit().told == ("unavailable", "internal")
        assert fault_of_use(grant) == REVOKED
    assert scene.of(Kind.DECISION)
    assert scene.ran == []
