"""Requests and replies as values: what a log may see of them."""

from __future__ import annotations

import attrs
import pytest

from pep.exchange import HTTPReply, HTTPRequest


def test_nothing_of_the_content_is_shown() -> None:
    """Neither query, headers nor body: they may hold secrets and attributes."""
    request = HTTPRequest("POST", "https://pdp.example/x?token=hush", {"authorization": "hush"}, b"hush")
    assert repr(request) == "HTTPRequest('POST', 'https://pdp.example/x')"
    assert repr(HTTPReply(200, {"set-cookie": "hush"}, b"hush")) == "HTTPReply(200, <4 bytes>)"


def test_they_are_frozen_values() -> None:
    """Equal if their fields are, with nothing in them unless given, and never changed."""
    assert HTTPReply(204) == HTTPReply(204, {}, b"")
    assert HTTPRequest("GET", "https://x") == HTTPRequest("GET", "https://x", {}, b"")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        HTTPReply(200).status = 403  # type: ignore[misc]
