"""AuthZEN 1.0, both sides: a decision point that is asked over HTTP, and one that answers."""

from __future__ import annotations

from pep.pdp.authzen.asgi import Incoming
from pep.pdp.authzen.batches import Semantic
from pep.pdp.authzen.client import AuthZENPDP
from pep.pdp.authzen.metadata import Metadata, discovery
from pep.pdp.authzen.searching import Bounds
from pep.pdp.authzen.server import Server, server

__all__ = ["AuthZENPDP", "Bounds", "Incoming", "Metadata", "Semantic", "Server", "discovery", "server"]
