"""Loading policies and schemas, and what is wrong with them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cedarpy
import pytest

from pep import AccessRequest, Action, Obligation, Resource, Subject
from pep.errors import ConfigurationError, PDPReplyError
from pep.pdp.cedar import CedarPDP
from tests.pdp.cedar_cases import (
    ALL,
    DOCUMENT,
    NONE,
    PERMIT,
    REQUEST,
    SCHEMA,
    VIEW,
    effect,
    entity,
    when,
)


def test_a_bad_policy_is_found() -> None:
    """The message says where the policy begins and what Cedar says, and quotes no text."""
    text = f'{ALL} // "; no end\n\n  @id("b;")\n{ALL}\n // c\n  {when(chr(34) + "hunter2" + chr(34) + " oops")}\n{ALL}'
    with pytest.raises(ConfigurationError, match=r"^the policy at line 6, column 3 does not parse: .*`oops`") as raised:
        CedarPDP(text)
    assert "hunter2" not in str(raised.value)
    with pytest.raises(ConfigurationError, match="line 2, column 1"):
        CedarPDP(f"{ALL}\npermit(principal")


def test_what_only_fails_as_a_whole_is_told_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every policy parses by itself, the message points at the beginning."""

    class Picky:
        @staticmethod
        def from_str(text: str) -> None:
            if text.count(";") > 1:
                raise ValueError(text.count(";"))

    monkeypatch.setattr(cedarpy, "PolicySet", Picky)
    with pytest.raises(ConfigurationError, match="line 1, column 1 does not parse: 2"):
        CedarPDP(f"{ALL}{ALL}")


def test_policies_lie_in_files(tmp_path: Path) -> None:
    """A file, several, or a folder are read once, in order of their names."""
    one, other = tmp_path / "a.cedar", tmp_path / "b.cedar"
    one.write_text(f'@id("one") {ALL} // no end of line')
    other.write_text(f'@id("other") {ALL}')
    (tmp_path / "notes.txt").write_text("no policy")
    for given_ in (tmp_path, [one, other]):
        pdp = CedarPDP(given_)
        assert pdp.decide(REQUEST).policies == ("one", "other")
        assert str(tmp_path) in pdp.name
    assert CedarPDP(one).decide(REQUEST).policies == ("one",)
    other.write_text("oops")
    with pytest.raises(ConfigurationError, match=r"line 1, column 1 of file 2 does not parse"):
        CedarPDP(tmp_path)


def test_a_handle_brings_linked_templates() -> None:
    """Links have their own ids and their template's obligations."""
    text = f'@id("t") @obligation("a") permit(principal == ?principal, action, resource); @id("s") {when("false")}'
    handle = cedarpy.PolicySet.from_str(text).with_linked("t", "for `alice`", {"?principal": 'user::"alice"'})
    decided = CedarPDP(handle).decide(REQUEST)
    assert (decided.policies, decided.obligations) == (("for `alice`",), (Obligation("a"),))
    assert (
        CedarPDP(handle).revision
        == CedarPDP(handle).revision
        != CedarPDP(handle.without_linked("for `alice`")).revision
    )


def test_a_handle_that_does_not_tell_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Obligations of a handle have to be read; where that cannot be done, it is no handle to decide by."""

    class Mute:
        pass

    class Odd:
        def to_pst(self) -> Any:
            raise ValueError

    for kind, told in ((Mute, "install a newer one"), (Odd, "cannot show")):
        monkeypatch.setattr(cedarpy, "PolicySet", kind)
        with pytest.raises(ConfigurationError, match=told):
            CedarPDP(kind())  # type: ignore[arg-type]


FITTING = 'permit(principal, action in Action::"look", resource) when { resource.owner == principal };'


def test_a_schema_reads_references() -> None:
    """With a schema, what it says is an entity is one, and actions have their groups."""
    assert effect(FITTING, VIEW, schema=SCHEMA) is PERMIT
    assert effect(FITTING, VIEW.evolve(subject=Subject("user", "b")), schema=SCHEMA) is NONE
    private = when('context.ip.isInRange(ip("10.0.0.0/8"))').replace("when", "when { context has ip } when")
    assert effect(private, VIEW.evolve(context={"ip": "10.1.1.1"}), schema=SCHEMA) is PERMIT
    assert effect(private, VIEW.evolve(context={"ip": "11.1.1.1"}), schema=SCHEMA) is NONE


MISFITS = {
    "an action": VIEW.evolve(action="edit"),
    "an action that is a group": VIEW.evolve(action="look"),
    "a principal": VIEW.evolve(subject=Subject("document", "2", {"owner": {"type": "user", "id": "a"}})),
    "a type": VIEW.evolve(resource=Resource("folder", "1")),
    "a missing attribute": VIEW.evolve(resource=DOCUMENT),
    "an attribute's type": VIEW.evolve(subject=Subject("user", "a", {"level": "1"})),
    "an undeclared attribute": VIEW.evolve(subject=Subject("user", "a", {"role": "x"})),
    "an undeclared context": VIEW.evolve(context={"risk": 1}),
    "a context's type": VIEW.evolve(context={"ip": 1}),
    "a malformed extension": VIEW.evolve(context={"ip": "hunter2"}),
    "undeclared actors": VIEW.evolve(actors=[Subject("user", "b")]),
    "undeclared action properties": VIEW.evolve(action=Action("view", {"x": 1})),
}


@pytest.mark.parametrize("request_", MISFITS.values(), ids=MISFITS)
def test_a_request_that_does_not_fit_the_schema_is_refused(request_: AccessRequest) -> None:
    """It is an error, never a permit, nor a denial that looks like an answer."""
    with pytest.raises(PDPReplyError):
        CedarPDP(ALL, schema=SCHEMA).decide(request_)
    assert effect(ALL, VIEW.evolve(tenant="t"), schema=SCHEMA) is PERMIT


def test_a_schema_comes_in_any_form(tmp_path: Path) -> None:
    """Text, JSON, a mapping, a file or a handle."""
    told = {
        "": {
            "entityTypes": {"user": {}},
            "actions": {"read": {"appliesTo": {"principalTypes": ["user"], "resourceTypes": ["user"]}}},
        }
    }
    path = tmp_path / "s.cedarschema"
    path.write_text("entity user; action read appliesTo { principal: user, resource: user };")
    request = REQUEST.about(Resource("user", "b"))
    for shape in (told, json.dumps(told), path, path.read_text(), cedarpy.Schema.from_json_str(json.dumps(told))):
        assert effect(ALL, request, schema=shape) is PERMIT
        with pytest.raises(PDPReplyError):
            CedarPDP(ALL, schema=shape).decide(REQUEST)


WRONG: dict[str, tuple[str, Callable[[], Any]]] = {
    "no text": ("policies are Cedar text", lambda: CedarPDP(1)),  # type: ignore[arg-type]
    "no paths": ("policies are Cedar text", lambda: CedarPDP([])),
    "mixed": ("policies are Cedar text", lambda: CedarPDP([Path(__file__), ALL])),  # type: ignore[list-item]
    "no file": ("cannot be read", lambda: CedarPDP(Path("nowhere.cedar"))),
    "one id twice": ("two policies have the id `a`", lambda: CedarPDP(f'@id("a") {ALL} @id("a") {ALL}')),
    "an id that is a name": ("two policies have the id `policy1`", lambda: CedarPDP(f'@id("policy1") {ALL} {ALL}')),
    "a bad schema": ("the schema does not parse: .*Boool", lambda: CedarPDP(ALL, schema="entity U { a: Boool };")),
    "bad JSON": ("the schema does not parse", lambda: CedarPDP(ALL, schema="{")),
    "no schema": ("the schema must be text", lambda: CedarPDP(ALL, schema=1)),  # type: ignore[arg-type]
    "a misfit": (r"do not fit the schema: .*`oops`", lambda: CedarPDP(when("principal.oops"), schema=SCHEMA)),
    "no entities": ("the entities must be text", lambda: CedarPDP(ALL, entities={})),  # type: ignore[arg-type]
    "bad entities": ("the entities do not load", lambda: CedarPDP(ALL, entities="[")),
    "entities twice": (
        'do not load: duplicate entity entry `a::"..."`',
        lambda: CedarPDP(ALL, entities=[entity("a", "b"), entity("a", "b", x=1)]),
    ),
    "own names": ("cannot be written", lambda: CedarPDP(ALL, entities=[entity("a", "b", x={"__entity": 1})])),
    "an empty revision": ("a revision must be", lambda: CedarPDP(ALL, revision="")),
    "an empty name": ("`name` must be", lambda: CedarPDP(ALL, name="")),
    "types": ("`types` must map", lambda: CedarPDP(ALL, types={"a": 1})),  # type: ignore[dict-item]
    "parents": ("`parents` must map", lambda: CedarPDP(ALL, parents=["a"])),  # type: ignore[arg-type]
    "one type twice": ("two types would become one", lambda: CedarPDP(ALL, types={"a": "A", "b": "A"})),
    "no type": ("`a-b` is no name in Cedar", lambda: CedarPDP(ALL, types={"a": "a-b"})),
    "a type of actions": ("`Action` is no name", lambda: CedarPDP(ALL, types={"a": "Action"})),
    "no namespace": ("`` is no name", lambda: CedarPDP(ALL, namespace="")),
    "no action type": ("is no type of actions", lambda: CedarPDP(ALL, action_type="Deed")),
    "no placeholder": ("`placeholder` must be", lambda: CedarPDP(ALL, placeholder="")),
    "no envelope": ("`envelope` must be", lambda: CedarPDP(ALL, envelope="")),
    "nulls": ("`nulls` is `refuse`", lambda: CedarPDP(ALL, nulls="drop")),
    "decimals": ("`decimals` a bool", lambda: CedarPDP(ALL, decimals=1)),  # type: ignore[arg-type]
    "skip_errors": ("`skip_errors` must be a bool", lambda: CedarPDP(ALL, skip_errors=1)),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("told", "make"), WRONG.values(), ids=WRONG)
def test_what_is_configured_wrongly_is_told(told: str, make: Callable[[], Any]) -> None:
    """A mistake is found when the decision point is made."""
    with pytest.raises(ConfigurationError, match=told):
        make()


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `cedarpy` the message says what to install."""
    monkeypatch.setitem(sys.modules, "cedarpy", None)
    with pytest.raises(ConfigurationError, match=r"install `pep\[cedar\]`"):
        CedarPDP(ALL)


def test_importing_the_module_needs_no_cedar() -> None:
    """`cedarpy` is imported when a decision point is made."""
    told = "import sys, pep.pdp.cedar; sys.exit('cedarpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", told], check=False).returncode == 0
