"""
Rego by rego-cpp; the library is the distribution ``regopy``, of the extra ``rego``.

Imports policies, results and the error tree; regopy when an engine is made.
"""

from __future__ import annotations

from collections import deque
from importlib import import_module
from typing import Any, Final

from pep.errors import ConfigurationError, PDPReplyError
from pep.pdp.rego_input import UNDEFINED
from pep.pdp.rego_policies import RegoPolicies
from pep.pdp.strict import parse

#: How many values a request may hold: rego-cpp takes time by the square of what is in one array or object.
MOST_VALUES: Final = 4096


class RegopyEngine:
    """
    Policies in rego-cpp: compiled interpreters, each used by one caller at a time.

    Errors of builtin functions are errors. The library ends a text at its first NUL, and compares others by how they
    are spelled; a request with a quotation mark, a backslash or a control character in it is refused therefore.

    Args:
        policies: What it is made of.

    Raises:
        ConfigurationError: When regopy is missing, a policy does not compile, or the data hold such a text.
    """

    def __init__(self, policies: RegoPolicies) -> None:
        self._policies = policies
        self._entry = policies.query.removeprefix("data.").replace(".", "/")
        try:
            self._library: Any = import_module("regopy")
            _interpreter = self._library.Interpreter
        except (ImportError, AttributeError, OSError) as error:
            message = "Rego needs an engine; install `pep[rego]`"
            raise ConfigurationError(message) from error
        if b"\\" in policies.data:
            message = "rego-cpp misreads quotation marks, backslashes and control characters in data; use `regorus`"
            raise ConfigurationError(message)
        # Who shares one between threads gets the answer to another thread's question.
        self._free: deque[tuple[Any, Any]] = deque([self._made()])

    def ask(self, document: bytes) -> object:
        """
        Answer the query for an input document.

        Returns:
            The result as parsed JSON, or `UNDEFINED`.

        Raises:
            PDPReplyError: When a rule failed, two conflict, or the library would misread the document.
        """
        if b"\\" in document:
            message = "rego-cpp misreads quotation marks, backslashes and control characters; use `regorus` for them"
            raise PDPReplyError(message)
        # Commas within texts are counted too, since to tell them apart takes longer than it is worth.
        if document.count(b",") >= MOST_VALUES:
            message = f"rego-cpp takes too long for a request of more than {MOST_VALUES} values; use `regorus` for it"
            raise PDPReplyError(message)
        try:
            made = self._free.pop()
        except IndexError:
            made = self._made()
        told = self._told(*made, document.decode())
        # One that failed is not used again.
        self._free.append(made)
        return _value(told)

    def _told(self, interpreter: Any, bundle: Any, document: str) -> str:  # noqa: ANN401  objects of regopy
        try:
            interpreter.set_input_term(document)
            output = interpreter.query_bundle_entrypoint(bundle, self._entry)
        except (self._library.RegoError, ValueError) as error:
            message = f"Rego could not answer: {type(error).__name__}"
            # INVARIANT: its text may quote the request and the data, and is never passed on.
            raise PDPReplyError(message) from None
        if output.ok() is not True:
            message = "Rego could not answer: a rule failed, or two conflict"
            raise PDPReplyError(message)
        return str(output)

    def _made(self) -> tuple[Any, Any]:
        interpreter = self._library.Interpreter()
        interpreter.log_level = self._library.LogLevel.NONE
        interpreter.strict_built_in_errors = True
        try:
            for name, text in self._policies.modules:
                interpreter.add_module(name, text)
            interpreter.add_data_json(self._policies.data.decode())
            bundle = interpreter.build(None, [self._entry])
            # What does not compile makes a bundle all the same, whose answers the library itself cannot read.
            interpreter.set_input_term("{}")
            interpreter.query_bundle_entrypoint(bundle, self._entry)
        except (self._library.RegoError, ValueError) as error:
            message = "a Rego policy does not compile; does it use a function or a variable that there is not?"
            raise ConfigurationError(message) from error
        return interpreter, bundle


def _value(told: str) -> object:
    if told == "undefined":
        return UNDEFINED
    match parse(told.encode()):
        case {"expressions": [value]}:
            return value
    message = "the Rego engine answered with another number of results than one"
    raise PDPReplyError(message)
