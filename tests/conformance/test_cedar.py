"""Cedar conforms as a decision point."""

from __future__ import annotations

from pep import AccessRequest, Resource, Subject
from pep.pdp.cedar import CedarPDP
from pep.testing import check_pdp

POLICIES = 'permit(principal, action == Action::"edit", resource is document) when { resource.owner == principal };'
DOCUMENT = Resource("document", "1", {"owner": "alice"})


def test_conforms() -> None:
    """The same answer in both worlds, for any id, once and again, alone and in batches."""
    check_pdp(
        lambda: CedarPDP(POLICIES, references={"owner": "user"}),
        permitted=AccessRequest(Subject("user", "alice"), "edit", DOCUMENT),
        denied=AccessRequest(Subject("user", "mallory"), "edit", DOCUMENT),
    )
