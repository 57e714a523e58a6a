"""
Cedar in process as a policy decision point; needs the extra ``cedar``. Imports L0, policy swaps and the codec only.

`cedarpy` is imported when one is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

from pep.errors import ConfigurationError, PDPReplyError
from pep.frozen import EMPTY
from pep.locks import Lock
from pep.model import AccessRequest, Decision
from pep.pdp.cedar_entities import Question, question
from pep.pdp.cedar_policies import Loaded, load
from pep.pdp.cedar_replies import answers
from pep.pdp.cedar_words import Words
from pep.plan import Raised
from pep.policy.source import Listener, Rejected, Swapped

if TYPE_CHECKING:
    import cedarpy

#: What Cedar decides by, as it is handed over: a `str` is its text, a `Path` says where that is.
Policies: TypeAlias = "str | Path | Sequence[Path] | cedarpy.PolicySet"
Schema: TypeAlias = "str | Path | Mapping[str, Any] | cedarpy.Schema"
Entities: TypeAlias = "str | Path | list[dict[str, Any]] | cedarpy.Entities"


@final
class CedarPDP:
    """
    Cedar policies, decided in process.

    Allow is a permit; deny is `Effect.DENY` where a ``forbid`` decided, else `Effect.NOT_APPLICABLE`. Where a policy
    could not be evaluated the answer is `Effect.INDETERMINATE`: Cedar skips it, and a ``forbid`` that is skipped
    forbids nothing. What cannot be said in Cedar, or does not fit the schema, is a `PDPReplyError`.

    Args:
        policies: Cedar text; a `Path` to a file or to a folder of ``.cedar`` files, or a list of them; or a
            ``cedarpy.PolicySet``.

        schema: Cedar text or JSON, a mapping, a `Path` or a ``cedarpy.Schema``: policies, entities and requests are
            validated against it.

        entities: Those known beforehand, such as groups: a list in Cedar's JSON, text of it, a `Path` or a
            ``cedarpy.Entities``. What a request says of one is added; it must not say otherwise.

        revision: Which version this is; by default the SHA-256 of policies, schema and entities.

        name: Its identity, in records and cache keys; by default ``cedar`` with the paths.

        namespace: Of all types that are built from requests, and of the actions' type.

        types: Type in requests → Cedar type; the others keep their name, which must be one in Cedar.

        action_type: Cedar type of actions.

        parents: Property → type: the property holds the id, or the ids, of the entity's parents.

        references: Property → type: the property holds the id, or the ids, of entities; in Cedar it is those.

        placeholder: The id that a new resource gets; no other entity may have it.

        envelope: Member of the context that holds ``tenant``, ``actors``, their ``chain``, and the properties of the
            ``action``, where there are any.

        decimals: Whether a float becomes a Cedar decimal, where that is exact; otherwise it is refused.

        nulls: ``"refuse"``, or ``"absent"`` to leave out members that are null.

        skip_errors: Whether to trust Cedar where it skips policies that it could not evaluate.

    Raises:
        ConfigurationError: When anything does not parse or fit, or the extra is missing.

    Source:
        Cedar policy language reference, "Authorization" (a policy that errors is skipped).
    """

    __slots__ = ("_given", "_listeners", "_loaded", "_lock", "_skip_errors", "_words", "name")

    #: It answers from memory.
    immediate: Final = True
    #: A decision depends on the request and the revision alone: Cedar has no clock.
    pure: Final = True

    def __init__(
        self,
        policies: Policies,
        *,
        schema: Schema | None = None,
        entities: Entities | None = None,
        revision: str | None = None,
        name: str | None = None,
        namespace: str | None = None,
        types: Mapping[str, str] = EMPTY,
        action_type: str = "Action",
        parents: Mapping[str, str] = EMPTY,
        references: Mapping[str, str] = EMPTY,
        placeholder: str = "<new>",
        envelope: str = "pep",
        decimals: bool = False,
        nulls: str = "refuse",
        skip_errors: bool = False,
    ) -> None:
        self._words: Final = Words(
            namespace, types, action_type, parents, references, placeholder, envelope, decimals, nulls
        )
        trusted: object = skip_errors
        if type(trusted) is not bool:
            message = "`skip_errors` must be a bool"
            raise ConfigurationError(message)
        self._skip_errors: Final = trusted
        #: Its identity.
        self.name: Final = _named(policies, name)
        self._given: tuple[Any, Any, Any] = (policies, schema, entities)
        self._loaded = load(_engine(), *self._given, revision)
        self._lock: Final = Lock()
        self._listeners: tuple[Listener, ...] = ()

    @property
    def revision(self) -> str:
        """Which version of the policies, the schema and the entities is in effect."""
        return self._loaded.revision

    def decide(self, request: AccessRequest) -> Decision:
        """
        Decide one request.

        Raises:
            PDPReplyError: When it cannot be said in Cedar, or does not fit the schema.
        """
        answer = self.decide_many((request,))[0]
        if isinstance(answer, Raised):
            raise answer.error
        return answer

    def decide_many(self, requests: Sequence[AccessRequest]) -> list[Decision | Raised]:
        """Decide several requests, all by one version; answers are in the requests' order."""
        loaded = self._loaded
        asked = [self._asked(request, loaded) for request in requests]
        told = iter(answers(loaded, [one for one in asked if type(one) is Question], skip_errors=self._skip_errors))
        return [one if isinstance(one, Raised) else next(told) for one in asked]

    def _asked(self, request: AccessRequest, loaded: Loaded) -> Question | Raised:
        try:
            return question(request, self._words, loaded.known)
        except PDPReplyError as error:
            return Raised(error)

    def subscribe(self, listener: Listener) -> None:
        """Tell *listener* of every reload, also of one that does not load, on the thread that asked for it."""
        with self._lock:
            self._listeners = (*self._listeners, listener)

    def reload(
        self,
        policies: Policies | None = None,
        *,
        schema: Schema | None = None,
        entities: Entities | None = None,
        revision: str | None = None,
    ) -> Swapped:
        """
        Load policies, schema and entities aside, and swap all of it at once.

        Args:
            policies: New ones; None keeps those given before, and reads their files again.

            schema: The same of the schema.

            entities: The same of the entities.

            revision: Which version this is; by default the SHA-256 of policies, schema and entities, whatever the
                one before was called.

        Returns:
            The revisions before and after.

        Raises:
            ConfigurationError: When something does not load; what is in effect stays.
        """
        with self._lock:
            kept = self._given
            given = (
                kept[0] if policies is None else policies,
                kept[1] if schema is None else schema,
                kept[2] if entities is None else entities,
            )
            event = self._swapped(given, revision)
            listeners = self._listeners
        _tell(listeners, event)
        if isinstance(event, Rejected):
            raise event.error
        return event

    def _swapped(self, given: tuple[Any, Any, Any], revision: str | None) -> Swapped | Rejected:
        old = self._loaded
        try:
            loaded = load(old.cedarpy, *given, revision)
        except ConfigurationError as error:
            return Rejected(error, old.revision)
        # INVARIANT: one assignment; a decision takes it once.
        self._loaded = loaded
        self._given = given
        return Swapped(old.revision, loaded.revision)

    def __repr__(self) -> str:
        return f"<CedarPDP of {len(self._loaded.clauses)} policies, revision {self.revision}>"


def _engine() -> Any:  # noqa: ANN401  cedarpy's own
    try:
        return import_module("cedarpy")
    except ImportError:
        message = "Cedar needs the extra `cedar`; install `pep[cedar]`"
        raise ConfigurationError(message) from None


def _named(policies: object, name: str | None) -> str:
    """Return what it is called: what was given, or where the policies lie."""
    given: object = name
    if given is not None and (type(given) is not str or not given):
        message = "`name` must be a non-empty `str`"
        raise ConfigurationError(message)
    paths = [policies] if isinstance(policies, Path) else list(policies) if isinstance(policies, (list, tuple)) else []
    return name or (f"cedar({','.join(map(str, paths))})" if paths else "cedar")


def _tell(listeners: Sequence[Listener], event: Swapped | Rejected) -> None:
    """Tell all listeners, also if one fails; then its exception goes on."""
    failed: Exception | None = None
    for listener in listeners:
        try:
            listener(event)
        except Exception as error:  # noqa: BLE001  the others have to know as well
            failed = failed or error
    if failed is not None:
        raise failed
