"""What a decision point tells of itself is validated before anything of it is used."""

from __future__ import annotations

from typing import Any

import pytest

from pep.errors import ConfigurationError, PDPRejected, PDPReplyError
from pep.pdp.authzen import AuthZENPDP, Metadata, discovery
from pep.pdp.authzen.metadata import origin_of
from pep.testing.transport import ScriptedTransport, replying
from tests.pdp.authzen.rigs import URL, driven

LEAST: dict[str, Any] = {"policy_decision_point": URL, "access_evaluation_endpoint": f"{URL}/access/v1/evaluation"}


def discovered(told: Any, url: str = URL, **options: Any) -> Metadata:
    metadata: Metadata = driven(discovery(url, transport=ScriptedTransport(told), **options))
    return metadata


def test_the_least() -> None:
    """Absent endpoints are not supported."""
    assert discovered(LEAST) == Metadata(URL, {"evaluation": f"{URL}/access/v1/evaluation"})


def test_all_of_it() -> None:
    """Whatever is known of it; what is not known, and a signature, are ignored."""
    told = {
        **LEAST,
        "access_evaluations_endpoint": f"{URL}/many",
        "search_subject_endpoint": f"{URL}/who",
        "search_resource_endpoint": f"{URL}/what",
        "search_action_endpoint": f"{URL}/how",
        "capabilities": ["urn:example:fast"],
        "supported_obligations": ["log"],
        "signed_metadata": "e30.e30.",
        "access_request_endpoint": "https://elsewhere.example.com",
    }
    assert discovered(told) == Metadata(
        URL,
        {
            "evaluation": f"{URL}/access/v1/evaluation",
            "evaluations": f"{URL}/many",
            "subject": f"{URL}/who",
            "resource": f"{URL}/what",
            "action": f"{URL}/how",
        },
        ("urn:example:fast",),
        ("log",),
    )


@pytest.mark.parametrize(
    ("url", "where"),
    [
        (URL, f"{URL}/.well-known/authzen-configuration"),
        (f"{URL}/tenant1", f"{URL}/.well-known/authzen-configuration/tenant1"),
        (f"{URL}:8443/a/b", f"{URL}:8443/.well-known/authzen-configuration/a/b"),
    ],
)
def test_where_it_lies(url: str, where: str) -> None:
    """Between host and path of the identifier."""
    transport = ScriptedTransport({**LEAST, "policy_decision_point": url, "access_evaluation_endpoint": f"{url}/e"})
    driven(discovery(url, transport=transport))
    (sent,) = transport.sent
    assert (sent.method, sent.url) == ("GET", where)


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"policy_decision_point": URL},
        {**LEAST, "policy_decision_point": f"{URL}/"},
        {**LEAST, "policy_decision_point": f"{URL}/tenant2"},
        {**LEAST, "policy_decision_point": "https://pdp.example.org"},
        {**LEAST, "policy_decision_point": None},
        {**LEAST, "access_evaluation_endpoint": None},
        {**LEAST, "access_evaluation_endpoint": ""},
        {**LEAST, "access_evaluation_endpoint": "/access/v1/evaluation"},
        {**LEAST, "access_evaluation_endpoint": "http://pdp.example.com/access/v1/evaluation"},
        {**LEAST, "access_evaluation_endpoint": "https://pdp.example.com:8443/access/v1/evaluation"},
        {**LEAST, "access_evaluation_endpoint": "https://pdp.example.com.evil.org/access/v1/evaluation"},
        {**LEAST, "access_evaluation_endpoint": "https://user@pdp.example.com/access/v1/evaluation"},
        {**LEAST, "access_evaluations_endpoint": "https://elsewhere.example.com/many"},
        {**LEAST, "search_subject_endpoint": 7},
        {**LEAST, "capabilities": "urn:example:fast"},
        {**LEAST, "capabilities": [1]},
        {**LEAST, "supported_obligations": None},
        [LEAST],
    ],
)
def test_what_will_not_do(told: Any) -> None:
    """Another's metadata, or an endpoint elsewhere, is not used at all."""
    with pytest.raises(PDPReplyError):
        discovered(replying(body=told))


def test_admitted_origins() -> None:
    """Endpoints may be elsewhere where that was said before."""
    told = {**LEAST, "access_evaluations_endpoint": "https://eu.example.com/many"}
    found = discovered(told, admit=["https://eu.example.com:443"])
    assert found.endpoints["evaluations"] == "https://eu.example.com/many"
    with pytest.raises(PDPReplyError):
        discovered(told, admit=["https://us.example.com"])


@pytest.mark.parametrize(
    "admit", ["https://eu.example.com", ["http://eu.example.com"], ["https://eu.example.com/x"], [7]]
)
def test_odd_origins(admit: Any) -> None:
    """An origin is neither plain nor a page."""
    with pytest.raises(ConfigurationError):
        discovered(LEAST, admit=admit)
    with pytest.raises(ConfigurationError):
        AuthZENPDP(URL, transport=ScriptedTransport(), admit=admit)


def test_none_is_a_fault() -> None:
    """Who has no metadata is not taken for somebody who has."""
    with pytest.raises(PDPRejected):
        discovered(replying(404))


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://a.example:443/x", "https://a.example"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("https://[::1]:8000/", "https://[::1]:8000"),
        ("https://A.Example", "https://a.example"),
    ],
)
def test_origins(url: str, origin: str) -> None:
    """Whose it is: scheme, host and port, as everybody compares them."""
    assert origin_of(url) == origin
