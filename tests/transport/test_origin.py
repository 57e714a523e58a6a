"""Where a request goes: exactly where its URL says, or nowhere."""

from __future__ import annotations

import pytest

from pep.errors import ConfigurationError
from pep.transport.origin import Origin, located

GOOD = {
    "https://pdp.example": (Origin(True, "pdp.example", 443), "pdp.example", "/"),
    "https://PDP.example:443/a": (Origin(True, "pdp.example", 443), "pdp.example", "/a"),
    "http://pdp.example:8080/a?b=c": (Origin(False, "pdp.example", 8080), "pdp.example:8080", "/a?b=c"),
    "http://pdp:/?q": (Origin(False, "pdp", 80), "pdp", "/?q"),
    "http://[::1]:8181/x": (Origin(False, "::1", 8181), "[::1]:8181", "/x"),
    "http://127.0.0.1": (Origin(False, "127.0.0.1", 80), "127.0.0.1", "/"),
    "http://my_sidecar./": (Origin(False, "my_sidecar.", 80), "my_sidecar.", "/"),
}

BAD = [
    None,
    7,
    b"http://x",
    "",
    "pdp.example",
    "/path",
    "//host/path",
    "ftp://host",
    "http://",
    "http:///path",
    "http://user@host",
    "http://user:word@host",
    "http://@host",
    "http://host:0",
    "http://host:65536",
    "http://host:port",
    "http://host/#fragment",
    "http://host\\@other",
    "http://host/a b",
    "http://host/\r\n",
    "http://host/\x7f",
    "http://höst/",
    "http://ho%73t/",
    "http://-host/",
    "http://[::1",
    "http://[host]/",
    "http://[fe80::1%25eth0]/",
    "http://a,b/",
    "http://a;b/",
]


@pytest.mark.parametrize("url", GOOD)
def test_a_url_is_read_one_way(url: str) -> None:
    """Origin, host header and target are those of the URL."""
    assert located(url) == GOOD[url]


@pytest.mark.parametrize("url", BAD)
def test_what_could_be_read_two_ways_is_no_url(url: object) -> None:
    """Users, fragments, control characters and hosts that are none are refused."""
    with pytest.raises(ConfigurationError):
        located(url)


def test_an_origin_tells_itself() -> None:
    """Messages name it as URLs do."""
    assert [str(located(url)[0]) for url in ("http://[::1]:1", "https://a")] == ["http://[::1]:1", "https://a:443"]
