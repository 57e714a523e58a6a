"""
Rego by regorus; the library is the distribution ``gordon-to-regorus``, of the extra ``rego``.

Imports policies, results and the error tree; regorus when an engine is made.
"""

from __future__ import annotations

import re
import threading
import weakref
from importlib import import_module
from typing import Any, Final

from pep.errors import ConfigurationError, PDPReplyError
from pep.pdp.rego_input import UNDEFINED
from pep.pdp.rego_policies import RegoPolicies
from pep.pdp.strict import parse

# Each thread's own: an engine of regorus may neither be used nor dropped on a thread that did not make it.
_HERE: Final = threading.local()

# Where in a policy it failed.
_PLACE: Final = re.compile(r"--> (.+):(\d+):(\d+)$", re.MULTILINE)

# What is wrong with a policy itself, whatever it is asked.
_COMPILING: Final = re.compile(r"could not find function|is unsafe|expects \d+ argument|cyclic evaluation")


class RegorusEngine:
    """
    Policies in regorus: one engine for each thread that asks.

    Its interpreter tells of every error in a rule. Its compiled programs (``Program``, ``Rvm``) do not: a rule in
    conflict with itself is undefined there, and ``allow if not level`` permits. They are not used.

    Args:
        policies: What it is made of.

    Raises:
        ConfigurationError: When regorus is missing, or a policy does not compile.
    """

    def __init__(self, policies: RegoPolicies) -> None:
        self._policies = policies
        try:
            self._make: Any = import_module("regorus").Engine
        except (ImportError, AttributeError) as error:
            message = "Rego needs an engine; install `pep[rego]`"
            raise ConfigurationError(message) from error
        try:
            self._probe(self._engine())
        except RuntimeError as error:
            message = "a Rego policy does not compile; the cause tells the file and the line"
            raise ConfigurationError(message) from error

    def ask(self, document: bytes) -> object:
        """
        Answer the query for an input document.

        Returns:
            The result as parsed JSON, or `UNDEFINED`.

        Raises:
            PDPReplyError: When a rule failed, or two conflict.
        """
        try:
            engine = self._engine()
            engine.set_input_json(document.decode())
            told = parse(engine.eval_query_as_json(self._policies.query).encode())
        except BaseException as error:
            _engines().pop(id(self), None)
            # A bug in regorus is a `PanicException`, which is no `Exception`.
            if isinstance(error, RuntimeError) or type(error).__name__ == "PanicException":
                message = f"Rego could not answer: {type(error).__name__}{_place(error)}"
                # INVARIANT: its text quotes the request and the data, and is never passed on.
                raise PDPReplyError(message) from None
            raise
        return _value(told)

    def _probe(self, engine: Any) -> None:  # noqa: ANN401  an engine of regorus
        """Ask once, since regorus compiles what it is asked; a rule may well fail for an empty document."""
        engine.set_input_json("{}")
        try:
            engine.eval_query_as_json(self._policies.query)
        except RuntimeError as error:
            if _COMPILING.search(str(error)):
                raise

    def _engine(self) -> Any:  # noqa: ANN401  an engine of regorus
        engines = _engines()
        owner, engine = engines.get(id(self), (None, None))
        if owner is None or owner() is not self:
            for key in [key for key, (gone, _) in engines.items() if gone() is None]:
                del engines[key]
            engine = self._make()
            for name, text in self._policies.modules:
                engine.add_policy(name, text)
            engine.add_data_json(self._policies.data.decode())
            engines[id(self)] = weakref.ref(self), engine
        return engine


def _place(error: BaseException) -> str:
    found = _PLACE.search(str(error))
    return "" if found is None else f" in `{found[1]}`, line {found[2]}, column {found[3]}"


def _engines() -> dict[int, tuple[Any, Any]]:
    """Return this thread's engines: id of whose it is → a reference to that, and the engine."""
    found: dict[int, tuple[Any, Any]] = vars(_HERE).setdefault("engines", {})
    return found


def _value(told: Any) -> object:  # noqa: ANN401  parsed JSON
    match told:
        case {"result": [{"expressions": [{"value": value}]}]}:
            return value
        case dict() if not told:
            return UNDEFINED
    message = "the Rego engine answered with another number of results than one"
    raise PDPReplyError(message)
