"""
Rego policies in process as a policy decision point; needs the extra ``rego``.

Imports L0, swaps of policies, and the engine that is there when one is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Final, Protocol, final

import attrs
import orjson

from pep.errors import ConfigurationError, PDPError
from pep.frozen import EMPTY
from pep.locks import Lock
from pep.model import AccessRequest, Decision
from pep.pdp.listeners import Listeners
from pep.pdp.rego_input import ResultMapping, decision_of_result, input_of
from pep.pdp.rego_policies import Document, Modules, RegoPolicies, rego_policies
from pep.plan import Raised
from pep.policy.source import Listener, Swapped

#: Engine → the module it is imported as; the first that is there is used.
ENGINES: Final = {"regorus": "regorus", "regopy": "regopy"}


class _Engine(Protocol):
    def ask(self, document: bytes, /) -> object:
        """Answer the query for an input document."""
        ...


@attrs.frozen
class _Loaded:
    """One version of the policies."""

    engine: _Engine
    revision: str
    pure: bool

    def decide(self, request: AccessRequest, mapping: ResultMapping | None) -> Decision:
        result = self.engine.ask(orjson.dumps(input_of(request)))
        return decision_of_result(result, mapping, revision=self.revision)


@final
class RegoPDP:
    """
    Rego policies, evaluated in process.

    The input document is that of `pep.pdp.rego_input.input_of`: the request as AuthZEN JSON, with actors and tenant.
    Exactly ``true`` permits, ``false`` denies, undefined is not applicable; any other result, and every error in a
    rule, is a `PDPReplyError`. An evaluation cannot be interrupted: keep policies free of loops over what a caller
    sends.

    Args:
        policies: Text of one module, name → text of several, or ``Path``s of files and folders of ``*.rego``
            (those ending in ``_test.rego`` are left out of folders).

        query: The rule or package that decides, such as ``data.app.authz.allow``.

        data: The data document: a mapping, or the ``Path`` of a JSON file.

        mapping: Where in a result that is an object the decision is; see `pep.pdp.rego_input.ResultMapping`.

        engine: ``"regorus"`` or ``"regopy"``; by default whichever is installed, in this order.

        name: Its identity, in records and cache keys.

        revision: Which version of the policies this is; by default the SHA-256 of modules and data.

        pure: Whether a result depends on input and revision alone; by default where no module names a builtin
            function of time, chance or the world outside.

        threaded: Whether to ask on a thread of its own, so that a deadline can cut it short. regorus holds the
            interpreter while it evaluates, and gains nothing from it; rego-cpp lets go of it.

    Raises:
        ConfigurationError: When no engine is installed, policies do not load or compile, or none can answer the
            query.
    """

    def __init__(
        self,
        policies: Modules,
        *,
        query: str,
        data: Document = EMPTY,
        mapping: ResultMapping | None = None,
        engine: str | None = None,
        name: str | None = None,
        revision: str | None = None,
        pure: bool | None = None,
        threaded: bool = False,
    ) -> None:
        _check(mapping, pure, threaded, {"name": name, "revision": revision})
        self._given: tuple[Modules, Document] = (policies, data)
        self._query, self._mapping, self._pure = query, mapping, pure
        #: Which engine evaluates.
        self.engine: Final = _engine_name(engine)
        self.name: Final = name or f"rego:{self.engine}:{query}"
        self.threaded: Final = threaded
        #: It answers from memory.
        self.immediate: Final = not threaded
        self._lock = Lock()
        self._listeners = Listeners()
        self._loaded = self._load(revision)

    @property
    def revision(self) -> str:
        """Which version of the policies is in effect."""
        return self._loaded.revision

    @property
    def pure(self) -> bool:
        """Whether decisions depend on the request and the revision alone."""
        return self._loaded.pure

    def decide(self, request: AccessRequest) -> Decision:
        """
        Decide one request.

        Raises:
            PDPReplyError: When a rule failed, two conflict, or the result is no decision.
        """
        return self._loaded.decide(request, self._mapping)

    def decide_many(self, requests: Sequence[AccessRequest]) -> list[Decision | Raised]:
        """Decide several requests, all by one version of the policies."""
        loaded = self._loaded
        return [_contained(loaded, request, self._mapping) for request in requests]

    def reload(
        self, policies: Modules | None = None, *, data: Document | None = None, revision: str | None = None
    ) -> Swapped:
        """
        Load the policies again, or others, and swap them whole.

        Args:
            policies: As at construction; by default those, read again where they are files.

            data: The same for the data document.

            revision: Which version this is; by default the SHA-256 of modules and data.

        Returns:
            The revisions before and after.

        Raises:
            ConfigurationError: When they do not load; those in effect stay.
        """
        _check(None, None, False, {"revision": revision})  # noqa: FBT003  as at construction
        with self._lock:
            before, kept = self._loaded.revision, self._given
            self._given = (kept[0] if policies is None else policies, kept[1] if data is None else data)
            try:
                self._loaded = self._load(revision)
            except BaseException:
                self._given = kept
                raise
            event = Swapped(before, self._loaded.revision)
        self._listeners.tell(event)
        return event

    def subscribe(self, listener: Listener) -> None:
        """Tell *listener* of every swap, after it, on the thread that swapped."""
        self._listeners.add(listener)

    def __repr__(self) -> str:
        return f"<RegoPDP {self._query} by {self.engine}, revision {self.revision}>"

    def _load(self, revision: str | None) -> _Loaded:
        policies = rego_policies(*self._given, self._query)
        pure = policies.pure if self._pure is None else self._pure
        return _Loaded(_engine(self.engine, policies), revision or policies.revision, pure)


def _contained(loaded: _Loaded, request: AccessRequest, mapping: ResultMapping | None) -> Decision | Raised:
    try:
        return loaded.decide(request, mapping)
    except PDPError as error:
        return Raised(error)


def _engine_name(wanted: object) -> str:
    if wanted is None:
        found = next((name for name, module in ENGINES.items() if find_spec(module) is not None), None)
        if found is None:
            message = "Rego needs an engine; install `pep[rego]`"
            raise ConfigurationError(message)
        return found
    if type(wanted) is not str or wanted not in ENGINES:
        message = "the engine of Rego policies is `regorus` or `regopy`"
        raise ConfigurationError(message)
    return wanted


def _engine(name: str, policies: RegoPolicies) -> _Engine:
    if name == "regorus":
        from pep.pdp.rego_regorus import RegorusEngine  # noqa: PLC0415  the one that is there

        return RegorusEngine(policies)
    from pep.pdp.rego_regopy import RegopyEngine  # noqa: PLC0415  the one that is there

    return RegopyEngine(policies)


def _check(mapping: object, pure: object, threaded: object, texts: dict[str, Any]) -> None:
    if mapping is not None and type(mapping) is not ResultMapping:
        message = "`mapping` must be a `ResultMapping`"
        raise ConfigurationError(message)
    if type(threaded) is not bool or (pure is not None and type(pure) is not bool):
        message = "`pure` and `threaded` must be `True` or `False`"
        raise ConfigurationError(message)
    for name, text in texts.items():
        if text is not None and (type(text) is not str or not text):
            message = f"`{name}` must be exactly a `str`, and not empty"
            raise ConfigurationError(message)
