"""The engines that decide in this process conform, each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pep import AccessRequest, Resource, Subject
from pep.testing import check_pdp

PERMITTED = AccessRequest(Subject("user", "alice"), "edit", Resource("document", "42"))
DENIED = AccessRequest(Subject("user", "mallory"), "edit", Resource("document", "42"))

MODEL = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub) && keyMatch(r.obj, p.obj) && r.act == p.act
"""
REGO = """
package app.authz

default allow := false

allow if {
    input.subject.type == "user"
    input.subject.id == data.owner
    input.action.name == "edit"
}
"""


def by_casbin() -> Any:
    pytest.importorskip("casbin", reason="pycasbin is not installed")
    from pep.pdp.casbin import CasbinPDP  # noqa: PLC0415  needs the extra

    return CasbinPDP.of_text(MODEL, "p, editors, document/*, edit\ng, user/alice, editors")


def by_rego(engine: str) -> Any:
    pytest.importorskip(engine, reason=f"{engine} is not installed")
    from pep.pdp.rego import RegoPDP  # noqa: PLC0415  needs the extra

    return RegoPDP(REGO, query="data.app.authz.allow", data={"owner": "alice"}, engine=engine)


ENGINES: dict[str, Callable[[], Any]] = {
    "casbin": by_casbin,
    "regorus": lambda: by_rego("regorus"),
    "regopy": lambda: by_rego("regopy"),
}


@pytest.mark.parametrize("make", ENGINES.values(), ids=ENGINES)
def test_conforms(make: Callable[[], Any]) -> None:
    """The same answer in both worlds, for any id, once and again, alone and in batches."""
    check_pdp(make, permitted=PERMITTED, denied=DENIED)
