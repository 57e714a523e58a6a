"""Checks of what handlers are configured with. Imports the error tree only."""

from __future__ import annotations

import math
import threading

from pep.errors import ConfigurationError


def positive_seconds(value: object, name: str) -> float:
    """
    Check a length of time that something may take.

    Raises:
        ConfigurationError: When it is no finite number of seconds greater than 0.
    """
    if (type(value) is int or type(value) is float) and 0 < value <= threading.TIMEOUT_MAX:
        return float(value)
    message = f"`{name}` must be a number of seconds, greater than 0 and finite"
    raise ConfigurationError(message)


def tolerance(value: object, name: str) -> float:
    """
    Check by how much clocks may differ.

    Raises:
        ConfigurationError: When it is no finite number of seconds, 0 or more.
    """
    if (type(value) is int or type(value) is float) and 0 <= value < math.inf:
        return float(value)
    message = f"`{name}` must be a number of seconds, 0 or more and finite"
    raise ConfigurationError(message)


def positive_count(value: object, name: str) -> int:
    """
    Check how many there may be.

    Raises:
        ConfigurationError: When it is no whole number, at least 1.
    """
    if type(value) is int and value >= 1:
        return value
    message = f"`{name}` must be a whole number, at least 1"
    raise ConfigurationError(message)


def named(value: object, name: str) -> str:
    """
    Check a name.

    Raises:
        ConfigurationError: When it is no text, or empty.
    """
    if type(value) is str and value:
        return value
    message = f"`{name}` must be a text that is not empty"
    raise ConfigurationError(message)
