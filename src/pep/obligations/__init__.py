"""What must be done for a decision to hold: the ledger, and the handlers that discharge."""
