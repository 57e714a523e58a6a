"""Guards: decorators and context managers, one file per kind of callable."""
