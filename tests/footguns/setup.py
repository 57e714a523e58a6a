"""Configuration, results, and what a denial tells."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

import pep
from pep import (
    AccessDenied,
    Decision,
    Effect,
    Enforcer,
    Fault,
    Profile,
    Resource,
    Subject,
    acting_as,
)
from pep.audit import MemorySink
from pep.errors import (
    ConfigurationError,
    NotVisible,
)
from tests.footguns.traps import (
    BY_ID,
    DOC,
    PATHS,
    Trap,
    apermit,
    denied,
    each,
    read,
)
from tests.guard.rigs import ALICE, Rig


def misspelled(make: Callable[[Enforcer], Any]) -> None:
    """A misspelled option, swallowed: unguarded."""
    with pytest.raises((TypeError, ConfigurationError)):
        make(Rig().enforcer)


def unbound(path: str) -> None:
    """Not configured yet: open."""
    rig = Rig()
    rig.enforcer = Enforcer.unbound("later")
    if path == "by_filter":
        with acting_as(ALICE), denied(Fault.UNBOUND):
            rig.enforcer.filter("read", [DOC])
    else:
        assert PATHS[path](rig) is Fault.UNBOUND
    assert rig.ran == []


def frozen(change: Callable[[Enforcer], Any]) -> None:
    """Configuration that is changed once it counts."""
    enforcer = Rig().enforcer
    enforcer.freeze()
    with pytest.raises(ConfigurationError):
        change(enforcer)


def decided_afterwards(decorate: Callable[[Enforcer], Any]) -> None:
    """A check after a side effect: denied, but done."""
    with pytest.raises((ConfigurationError, TypeError)):
        decorate(Rig().enforcer)


def decided_afterwards_is_told() -> None:
    """A check after the code: nobody can tell that it ran."""
    rig = Rig(False)
    with acting_as(ALICE), pytest.raises(AccessDenied) as caught:
        rig.enforcer.guard_result("read", side_effects=False)(lambda: DOC)()
    assert caught.value.ran is rig.records[0]["ran"] is True


def filtered(make: Callable[[list[Any]], Any]) -> None:
    """A filter that takes items out of the caller's own list."""
    rig = Rig(lambda request: request.resource.id == "1")
    whole = make([Resource("item", "1"), Resource("item", "2")])
    before = copy.copy(whole)
    with acting_as(ALICE):
        kept = rig.enforcer.filter_result("read", side_effects=False)(lambda: whole)()
        listed = rig.enforcer.filter("read", whole)
    assert whole == before
    assert kept is not whole
    assert list(kept) == listed == [Resource("item", "1")]


def filtered_unknown(found: Any) -> None:
    """A container the filter does not know: passed through."""
    with acting_as(ALICE), denied(Fault.EXTRACTION):
        Rig().enforcer.filter_result("read", side_effects=False)(lambda: found)()


def telling(hidden: bool, answer: object) -> None:
    """An error text that tells of the resource or the policy: enumeration."""
    secret = Decision(Effect.DENY, reasons=("secret",), policies=("secret-policy",)) if answer == "deny" else answer
    rig = Rig(secret, profiles={"document:read": Profile(hidden=hidden)})
    with acting_as(ALICE), pytest.raises(AccessDenied) as caught:
        rig.enforcer.guard("read", resource=lambda document_id: Resource("document", document_id))(read)("secret-id")
    error = caught.value
    assert str(error) == f"access denied (record {error.record})"
    assert rig.records[0].id == error.record
    if hidden:
        assert type(error) is NotVisible
        assert error.__cause__ is None
        assert error.__suppress_context__


def absent(found: Callable[[], Any]) -> None:
    """A missing resource that is told from a forbidden one."""

    def find(document_id: str) -> Resource:
        return Resource("document", found()[document_id])

    rig = Rig(False, profiles={"**": Profile(hidden=True)})
    with acting_as(ALICE), pytest.raises(NotVisible) as caught:
        rig.enforcer.guard("document:read", resource=find)(read)("42")
    assert caught.value.__cause__ is None


def off_switch(make: Callable[[], Any]) -> None:
    """A switch that turns everything off."""
    with pytest.raises((TypeError, ConfigurationError, AttributeError)):
        make()


def no_environment_switch() -> None:
    """A switch that turns everything off, in the environment."""
    source = Path(pep.__file__).parent
    texts = "".join(path.read_text(encoding="utf-8") for path in source.rglob("*.py") if path.parent.name != "cli")
    assert "environ" not in texts
    assert "getenv" not in texts


TRAPS: Final[dict[int, list[Trap]]] = {
    35: [
        Trap(
            misspelled,
            {
                "guard": (lambda one: one.guard("read", resorce=BY_ID),),
                "guard by position": (lambda one: one.guard("read", BY_ID),),
                "guard_result": (lambda one: one.guard_result("read", side_effects=False, resorce="x"),),
                "enforce": (lambda one: one.enforce("read", DOC, subjekt=ALICE),),
                "check": (lambda one: one.check("read", DOC, subjekt=ALICE),),
                "enforcing": (lambda one: one.enforcing("read", DOC, subjekt=ALICE),),
                "enforcer": (lambda _one: Enforcer(apermit, audit=MemorySink(), profile={}),),
                "bind": (lambda _one: Enforcer.unbound("x").bind(apermit, audit=MemorySink(), profile={}),),
                "profile": (lambda _one: Profile(deadlin=1),),
                "profiles": (lambda _one: Enforcer(apermit, audit=MemorySink(), profiles={"a:*:": Profile()}),),
                "exempt": (lambda one: one.exempt(why="x"),),
                "acting_as": (lambda _one: acting_as(ALICE, tenants="x"),),
                "subject": (lambda _one: Subject("user", "x", propertys={}),),
            },
        )
    ],
    36: [
        Trap(unbound, each(*PATHS)),
        Trap(
            frozen,
            {
                "guard": (lambda one: one.guard("read")(read),),
                "register": (lambda one: one.resources.register(Path, lambda path: Resource("file", str(path))),),
            },
        ),
    ],
    38: [
        Trap(
            decided_afterwards,
            {
                f"{name} {value}": (lambda one, name=name, value=value: getattr(one, name)("read", **value),)
                for name in ("guard_result", "filter_result")
                for value in ({}, {"side_effects": True}, {"side_effects": None}, {"side_effects": 0})
            },
        ),
        Trap(decided_afterwards_is_told, {"record": ()}),
    ],
    39: [
        Trap(filtered, each(list, tuple)),
        Trap(filtered_unknown, each({"a": 1}, "text", object(), type("Own", (list,), {})([DOC]))),
    ],
    40: [
        Trap(
            telling,
            {
                f"{'hidden' if hidden else 'plain'} {answer}": (hidden, answer)
                for hidden in (False, True)
                for answer in ("deny", False, None, ConnectionError("secret host"), Decision(Effect.INDETERMINATE))
            },
        ),
        Trap(absent, {"missing": (dict,), "present": (lambda: {"42": "42"},), "failing": (lambda: None,)}),
    ],
    42: [
        Trap(
            off_switch,
            {
                "enforcer": (lambda: Enforcer(apermit, audit=MemorySink(), enabled=False),),
                "guard": (lambda: Rig().enforcer.guard("read", enabled=False),),
                "profile": (lambda: Profile(enabled=False),),
                "mode": (lambda: Profile(mode=None),),
                "attribute": (lambda: Rig().enforcer.disable(),),
                "no audit": (lambda: Enforcer(apermit),),
                "audit off": (lambda: Enforcer(apermit, audit=None),),
                "shadow for ever": (lambda: pep.Shadow(reason="x"),),
            },
        ),
        Trap(no_environment_switch, {"environment": ()}),
    ],
}
