"""
A Casbin enforcer as a policy decision point; needs the extra ``casbin``.

Imports L0, swaps of policies, and the library when a decision point is made.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, final

from pep.errors import ConfigurationError, PDPReplyError
from pep.locks import Lock
from pep.model import AccessRequest, Decision, Effect
from pep.pdp.casbin_library import casbin_library
from pep.pdp.casbin_request import DROPPED, RequestMapping, Values
from pep.pdp.casbin_snapshot import Snapshot, copied_from
from pep.pdp.listeners import Listeners
from pep.plan import Raised
from pep.policy.source import Listener, Swapped


@final
class CasbinPDP:
    """
    A Casbin model and policy, of whatever kind the model is.

    Decisions are made by a copy of the enforcer, under a lock: nothing that happens to the enforcer meanwhile can be
    seen half done. What is changed in it decides after `reload`; until then every question is refused, so that no
    rule that was removed permits.

    Args:
        enforcer: An ``Enforcer`` or ``AsyncEnforcer`` whose policy is loaded, or a callable that makes one.

        request: What stands for what in the model's request definition, in order; see
            `pep.pdp.casbin_request.RequestMapping`. Or a function of an access request that returns the values.

        reads: Which parts of a request such a function reads.

        drops: Which parts are left out; others that are there and not read are refused.

        new: What stands for the id of a resource that has none.

        definition: Suffix of the definitions that are used, such as ``"2"`` for ``r2``, ``p2`` and ``m2``.

        name: Its identity, in records and cache keys.

        revision: Which version of the policy this is; by default the SHA-256 of model and policy.

        pure: Whether a decision depends on request and revision alone; by default where only Casbin's own functions
            and classes are used, none of the clock, and *request* is no function.

        threaded: Whether to ask on a thread of its own, so that a deadline can cut it short.

    Raises:
        ConfigurationError: When the extra is missing, the enforcer is of a kind that answers wrongly, is turned off
            or has no rules, or the request does not fit the model.
    """

    def __init__(
        self,
        enforcer: object,
        *,
        request: Values = ("subject", "resource", "action"),
        reads: Collection[str] = (),
        drops: Collection[str] = DROPPED,
        new: str = "new",
        definition: str = "",
        name: str = "casbin",
        revision: str | None = None,
        pure: bool | None = None,
        threaded: bool = False,
    ) -> None:
        _check(pure, threaded, {"name": name, "revision": "-" if revision is None else revision})
        self._library = casbin_library()
        self._mapping = RequestMapping(request, reads=reads, drops=drops, new=new)
        self._given, self._definition, self._stated = enforcer, definition, pure
        self.name: Final = name
        self.threaded: Final = threaded
        self._listeners = Listeners()
        self._lock = Lock()
        self._taken = self._take(enforcer, revision)
        if self._taken[0].empty:
            message = "no rule is loaded; load the policy first, or write one rule where the matcher needs none"
            raise ConfigurationError(message)

    @classmethod
    def of_files(cls, model: str | Path, policy: str | Path, **options: Any) -> CasbinPDP:  # noqa: ANN401  the constructor's
        """
        Read a model and a policy from files, again at each `reload`.

        Args:
            model: The model, a ``.conf`` file.

            policy: The policy, a ``.csv`` file.

            options: What the constructor takes.

        Raises:
            ConfigurationError: When a file cannot be read or parsed, or a line is of no definition of the model.
        """
        return cls(lambda: _parsed(_text(model), _text(policy)), **options)

    @classmethod
    def of_text(cls, model: str, policy: str, **options: Any) -> CasbinPDP:  # noqa: ANN401  the constructor's
        """Take the texts of a model and a policy; see `of_files`."""
        return cls(lambda: _parsed(model, policy), **options)

    @property
    def revision(self) -> str:
        """Which version of model and policy is in effect."""
        return self._taken[1]

    @property
    def pure(self) -> bool:
        """Whether decisions depend on the request and the revision alone."""
        if self._stated is not None:
            return self._stated
        return self._mapping.make is None and self._taken[0].stock

    @property
    def immediate(self) -> bool:
        """Whether it answers from memory: no function but Casbin's own is called."""
        return not self.threaded and self._mapping.make is None and self._taken[0].stock

    def decide(self, request: AccessRequest) -> Decision:
        """
        Decide one request.

        Returns:
            A permit, or a denial that names the rule that explains it; not applicable where no rule matched.

        Raises:
            PDPReplyError: When the matcher fails, the request has a part that would be lost, or the enforcer was
                changed or turned off.
        """
        return self._decided(request, *self._taken)

    def decide_many(self, requests: Sequence[AccessRequest]) -> list[Decision | Raised]:
        """Decide several requests, all by one version of the policy."""
        taken = self._taken
        return [self._contained(request, *taken) for request in requests]

    def reload(self, enforcer: object = None, *, revision: str | None = None) -> Swapped:
        """
        Copy the enforcer again, or another one, and swap the copies.

        Call it when a change is complete: not while ``load_policy`` runs.

        Args:
            enforcer: As at construction; by default that one.

            revision: Which version of the policy this is; by default the SHA-256 of model and policy.

        Returns:
            The revisions before and after.

        Raises:
            ConfigurationError: When it cannot decide; the version in effect stays.
        """
        _check(None, False, {"revision": "-" if revision is None else revision})  # noqa: FBT003  as at construction
        with self._lock:
            given = self._given if enforcer is None else enforcer
            before = self.revision
            # One assignment: every decision has the old version or the new one.
            self._taken = self._take(given, revision)
            self._given = given
            event = Swapped(before, self.revision)
        self._listeners.tell(event)
        return event

    def subscribe(self, listener: Listener) -> None:
        """Tell *listener* of every swap, after it, on the thread that swapped."""
        self._listeners.add(listener)

    def __repr__(self) -> str:
        return f"<CasbinPDP {self.name}, revision {self.revision}>"

    def _take(self, given: Any, revision: str | None) -> tuple[Snapshot, str]:  # noqa: ANN401  an object of theirs
        source = given if hasattr(given, "enforce") or not callable(given) else given()
        copied_from(self._library, source)
        snapshot = Snapshot(self._library, source, self._definition)
        names = self._mapping.names
        if names is not None and len(names) != snapshot.size:
            message = f"the model asks for {snapshot.size} values, and `request` names {len(names)}"
            raise ConfigurationError(message)
        return snapshot, revision or snapshot.revision

    def _decided(self, request: AccessRequest, snapshot: Snapshot, revision: str) -> Decision:
        snapshot.check()
        values = self._mapping.values(request, snapshot.roles)
        if len(values) != snapshot.size:
            message = f"the model asks for {snapshot.size} values, and the mapping made {len(values)}"
            raise PDPReplyError(message)
        if snapshot.empty:
            # Casbin asks the matcher once without a rule, and permits by anything that looks true.
            return Decision(Effect.NOT_APPLICABLE, revision=revision)
        permitted, rule = snapshot.ask(values)
        effect = Effect.PERMIT if permitted is True else Effect.DENY if rule else Effect.NOT_APPLICABLE
        return Decision(effect, policies=[", ".join((snapshot.prefix, *rule))] if rule else (), revision=revision)

    def _contained(self, request: AccessRequest, snapshot: Snapshot, revision: str) -> Decision | Raised:
        try:
            return self._decided(request, snapshot, revision)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  a function that maps requests may raise anything
            return Raised(error)


def _parsed(model: str, policy: str) -> Any:  # noqa: ANN401  an enforcer of theirs
    library = casbin_library()
    adapter: Any = import_module("casbin.persist.adapters.string_adapter").StringAdapter
    lines = "\n".join(line.strip() for line in policy.splitlines())
    try:
        made = library.Model()
        made.load_model_from_text(model)
        _check_lines(policy, made.model)
        return library.Enforcer(made, adapter(lines or "\n"))
    except ConfigurationError:
        raise
    except Exception as error:
        message = f"the Casbin model or policy cannot be parsed: {type(error).__name__}; the cause tells where"
        raise ConfigurationError(message) from error


def _check_lines(policy: str, model: dict[str, Any]) -> None:
    for number, line in enumerate(policy.splitlines(), 1):
        name = line.split(",")[0].strip()
        # Casbin skips such a line without a word, a denial too.
        if name and not name.startswith("#") and name not in model.get(name[0], ()):
            message = f"line {number} of the policy begins with `{name}`, which the model does not define"
            raise ConfigurationError(message)


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"cannot read `{Path(path).name}`: {type(error).__name__}"
        raise ConfigurationError(message) from error


def _check(pure: object, threaded: object, texts: dict[str, object]) -> None:
    if type(threaded) is not bool or (pure is not None and type(pure) is not bool):
        message = "`pure` and `threaded` must be `True` or `False`"
        raise ConfigurationError(message)
    for name, text in texts.items():
        if type(text) is not str or not text:
            message = f"`{name}` must be exactly a `str`, and not empty"
            raise ConfigurationError(message)
