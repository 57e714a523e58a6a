"""
HTTP for both worlds: deadlines that are total, connections that are kept, and replies that are whole or an error.

Imports the error tree and the values that cross only; needs the extra ``httpx``, once a transport is made.
"""

from __future__ import annotations

from pep.transport.client import HTTPTransport

__all__ = ["HTTPTransport"]
