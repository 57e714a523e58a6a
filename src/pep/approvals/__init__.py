"""
Approvals: what somebody has to confirm, who may, who did, and where that is kept.

Imports its own first layer only; SQLite, Redis and the desk are in modules of their own.
"""

from __future__ import annotations

from pep.approvals.memory import MemoryStore
from pep.approvals.refused import ApprovalRefused, Reason
from pep.approvals.values import Answer, Approval, Approve, Point, Reject, Status

__all__ = ["Answer", "Approval", "ApprovalRefused", "Approve", "MemoryStore", "Point", "Reason", "Reject", "Status"]
