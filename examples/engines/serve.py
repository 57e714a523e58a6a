"""
Serves the policies of the todo application to others, over AuthZEN: ``python serve.py PORT``.

The folder `../todo` has to be on the path of modules.
"""

from __future__ import annotations

import hmac
import sys

import uvicorn
from policies import POLICIES

from pep import Enforcer, Subject
from pep.audit import MemorySink
from pep.pdp.authzen import server

#: What the application's enforcement point says to be known here; a real one comes from a secret store.
TOKEN = "todo"  # noqa: S105  an example

APPLICATION = Subject("service", "todo")


def main(port: int) -> None:
    """Serve until killed."""
    enforcer = Enforcer(POLICIES, audit=MemorySink(), name="todo policies")
    application = server(
        enforcer,
        authenticate=lambda incoming: APPLICATION if hmac.compare_digest(incoming.bearer or "", TOKEN) else None,
        may_ask=lambda caller, _request: caller == APPLICATION,
        url=f"http://127.0.0.1:{port}",
    )
    uvicorn.run(application, host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    main(int(sys.argv[1]))
