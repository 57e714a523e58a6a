"""Search: typed hits, bounded pages, and nothing that is not what was searched for."""

from __future__ import annotations

from typing import Any

import pytest

from pep import AccessRequest, Action, Resource, Subject
from pep.errors import ConfigurationError, PDPRejected, PDPReplyError
from pep.found import Found
from pep.pdp.authzen import AuthZENPDP, Bounds, Metadata
from pep.protocols import SearchPDP
from pep.testing.transport import ScriptedTransport
from tests.pdp.authzen.rigs import URL, driven

REQUEST = AccessRequest(
    Subject("user", "alice", {"a": 1}), "read", Resource("document", "1", {"b": 2}), {"ip": "192.0.2.1"}, (), "acme"
)
CONTEXT = {"ip": "192.0.2.1", "pep": {"tenant": "acme"}}
SUBJECT = {"type": "user", "id": "alice", "properties": {"a": 1}}
RESOURCE = {"type": "document", "id": "1", "properties": {"b": 2}}


def page(results: list[Any], token: Any = "", **more: Any) -> dict[str, Any]:
    return {"results": results, "page": {"next_token": token}, **more}


def documents(*ids: str) -> list[Any]:
    return [{"type": "document", "id": name} for name in ids]


def searching(*replies: object, wanted: str = "resource", request: AccessRequest = REQUEST, **options: Any) -> Any:
    transport = ScriptedTransport(*replies)
    pdp = AuthZENPDP(URL, transport=transport, **options)
    return driven(pdp.search(wanted, request)), transport


@pytest.mark.parametrize(
    ("wanted", "sent", "results", "items"),
    [
        (
            "subject",
            {"subject": {"type": "user"}, "action": {"name": "read"}, "resource": RESOURCE, "context": CONTEXT},
            [{"type": "user", "id": "bob", "properties": {"x": 1}}],
            (Subject("user", "bob", {"x": 1}),),
        ),
        (
            "resource",
            {"subject": SUBJECT, "action": {"name": "read"}, "resource": {"type": "document"}, "context": CONTEXT},
            [{"type": "document", "id": "2"}],
            (Resource("document", "2"),),
        ),
        (
            "action",
            {"subject": SUBJECT, "resource": RESOURCE, "context": CONTEXT},
            [{"name": "read"}, {"name": "edit"}],
            (Action("read"), Action("edit")),
        ),
    ],
)
def test_what_is_sent_and_found(wanted: str, sent: Any, results: list[Any], items: Any) -> None:
    """Of what is searched for only the type is sent, of an action nothing; everything else is."""
    found, transport = searching({"results": results}, wanted=wanted)
    assert found == Found(items, complete=True)
    assert transport.bodies == [sent]
    assert transport.sent[0].url == f"{URL}/access/v1/search/{wanted}"


def test_pages() -> None:
    """Page after page, with the token of the last and all else the same; a hit that comes again counts once."""
    found, transport = searching(
        page(documents("1", "2"), "t1"), page(documents("2", "3"), "t2"), page([], ""), bounds=Bounds(page_size=2)
    )
    assert found == Found((Resource("document", "1"), Resource("document", "2"), Resource("document", "3")))
    assert [body.pop("page") for body in transport.bodies] == [
        {"limit": 2}, {"limit": 2, "token": "t1"}, {"limit": 2, "token": "t2"},
    ]  # fmt: skip
    without = [{name: value for name, value in body.items() if name != "page"} for body in transport.bodies]
    assert without[0] == without[1] == without[2]


@pytest.mark.parametrize("last", [{"results": []}, {"results": [], "page": {}}, {"results": [], "page": None}])
def test_how_pages_end(last: Any) -> None:
    """With an empty token, or none."""
    found, _ = searching(page(documents("1"), "t1"), last)
    assert found.complete


def test_bounds() -> None:
    """A search that goes on and on is cut, and says so."""
    endless = [page(documents(str(number)), f"t{number}") for number in range(9)]
    found, transport = searching(*endless, bounds=Bounds(pages=3))
    assert (len(found), found.complete, len(transport.sent)) == (3, False, 3)
    found, transport = searching(*endless, bounds=Bounds(items=2))
    assert (len(found), found.complete, len(transport.sent)) == (2, False, 3)
    found, _ = searching(page(documents("1", "2")), bounds=Bounds(items=2))
    assert (len(found), found.complete) == (2, True)


def test_what_is_not_all_of_it() -> None:
    """A server that knows of others says so; a hit with obligations is left to whoever acts on it."""
    assert not searching({"results": [], "context": {"pep": {"complete": False}}})[0].complete
    assert searching({"results": [], "context": {"pep": {"complete": True}}})[0].complete
    assert searching({"results": [], "context": []})[0].complete
    found, _ = searching({"results": [{**documents("1")[0], "obligations": [{"type": "log"}]}, *documents("2")]})
    assert found == Found((Resource("document", "2"),), complete=False)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("resource", {}),
        ("resource", {"results": {}}),
        ("resource", {"results": ["1"]}),
        ("resource", {"results": [{"type": "document"}]}),
        ("resource", {"results": [{"type": "folder", "id": "1"}]}),
        ("resource", {"results": [{"type": "document", "id": 1}]}),
        ("resource", {"results": [{"type": "document", "id": ""}]}),
        ("resource", {"results": [{"type": "document", "id": "pep:new"}]}),
        ("subject", {"results": [{"type": "service", "id": "alice"}]}),
        ("subject", {"results": [{"id": "alice"}]}),
        ("action", {"results": [{"type": "document", "id": "1"}]}),
        ("action", {"results": [{"name": "*"}]}),
        ("resource", {"results": [], "page": []}),
        ("resource", {"results": [], "page": {"next_token": 7}}),
    ],
)
def test_what_is_no_hit(wanted: str, told: Any) -> None:
    """A hit of another kind or type, and a page that cannot be read, are the fault of the whole search."""
    with pytest.raises(PDPReplyError):
        searching(told, wanted=wanted)


def test_a_token_that_comes_again() -> None:
    """Pages that go round in a circle have no end."""
    with pytest.raises(PDPReplyError, match="second time"):
        searching(page(documents("1"), "t1"), page(documents("2"), "t2"), page(documents("3"), "t1"))


def test_only_lent_where_it_can() -> None:
    """Who says that there is no search has none; who offers one for resources has none for subjects."""
    endpoints = {"evaluation": f"{URL}/e", "resource": f"{URL}/what"}
    without = AuthZENPDP(
        URL, transport=ScriptedTransport(), metadata=Metadata(URL, {"evaluation": f"{URL}/access/v1/evaluation"})
    )
    assert not isinstance(without, SearchPDP)
    transport = ScriptedTransport({"results": documents("2")})
    some = AuthZENPDP(URL, transport=transport, metadata=Metadata(URL, endpoints))
    assert isinstance(some, SearchPDP)
    assert len(driven(some.search("resource", REQUEST))) == 1
    assert transport.sent[0].url == f"{URL}/what"
    with pytest.raises(PDPRejected, match="no endpoint for this: `subject`"):
        driven(some.search("subject", REQUEST))


@pytest.mark.parametrize("wanted", ["Resource", "", None, "context", ["resource"]])
def test_what_may_be_searched_for(wanted: Any) -> None:
    """Nothing but subjects, resources and actions."""
    with pytest.raises(ConfigurationError):
        searching({"results": []}, wanted=wanted)


@pytest.mark.parametrize("odd", [{"pages": 0}, {"items": -1}, {"page_size": 0}, {"pages": True}, {"items": 1.5}])
def test_odd_bounds(odd: Any) -> None:
    """Bounds are whole numbers."""
    with pytest.raises(ConfigurationError):
        Bounds(**odd)
