"""
One version of a Casbin model and its policy: a copy of an enforcer that nobody else holds.

Imports the error tree, locks and forks only; the library is handed in.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from pep.errors import ConfigurationError, PDPReplyError
from pep.forking import after_fork
from pep.locks import Lock

_EFFECTS: Final = frozenset({"allow", "deny"})
_REFUSED: Final = {
    "FastEnforcer": "its filter of the policy is shared: between threads one is answered for another",
    "SyncedEnforcer": "it lets `build_role_links` run beside decisions, which then see half of the roles",
}


class Snapshot:
    """
    A copy of an enforcer, asked by one thread at a time.

    Casbin's role managers learn every name they are asked about: two threads may meet in them, they grow with each
    id, and a name that is a pattern changes later answers. The lock prevents the first; what was learned is
    forgotten after each question, which prevents the others.

    Args:
        library: The module ``casbin``.

        source: The enforcer that is copied.

        definition: Suffix of the definitions that are used: ``"2"`` is ``r2``, ``p2``, ``e2``, ``m2``.

    Raises:
        ConfigurationError: When it cannot be copied, or its model and policy cannot decide.
    """

    def __init__(self, library: Any, source: Any, definition: str) -> None:  # noqa: ANN401  objects of theirs
        self._source = source
        self._model = source.model
        self._watched = list(_assertions(self._model))
        self._enforcer = _copied(library, source, self._model)
        self._lock = Lock()
        self._depth = 0
        sections = self._enforcer.model.model
        _check(sections, definition)
        _check_links(self._enforcer, sections)
        self._asked = () if not definition else (source.new_enforce_context(definition),)
        #: How many values a request has.
        self.size: Final = len(sections["r"][f"r{definition}"].tokens)
        #: Whether there is any rule; without one, nothing applies.
        self.empty: Final = not sections["p"][f"p{definition}"].policy
        #: What the rules of the policy are called in a record.
        self.prefix: Final = f"p{definition}"
        #: What roles are called.
        self.roles: Final = frozenset(rule[1] for one in _grouping(sections) for rule in one.policy)
        #: Which version of model and policy this is.
        self.revision: Final = _revision(sections)
        #: Whether only code of the library itself is called, and none that reads the clock.
        self.stock: Final = _stock(self._enforcer)
        self._managers = list(_managers(self._enforcer, sections))
        after_fork(self._renew)

    def check(self) -> None:
        """
        Check that the enforcer this was copied from is as it was, and enforces.

        Raises:
            PDPReplyError: Otherwise.
        """
        if self._source.enabled is not True:
            message = "enforcement is turned off in Casbin, which permits everything; call `enable_enforce(True)`"
            raise PDPReplyError(message)
        if self._source.model is not self._model or any(one.policy != kept for one, kept in self._watched):
            message = "the policy of the enforcer was changed; call `reload()` to have the change decide"
            raise PDPReplyError(message)

    def ask(self, values: tuple[Any, ...]) -> tuple[bool, tuple[str, ...]]:
        """
        Ask one question.

        Returns:
            Whether it is permitted, and the rule that explains it, if one does.

        Raises:
            PDPReplyError: When the matcher fails, or the answer is none.
        """
        with self._lock:
            self._depth += 1
            try:
                told = self._enforcer.enforce_ex(*self._asked, *values)
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001  a matcher may call anything
                message = f"Casbin could not evaluate the request: {type(error).__name__}"
                # INVARIANT: its text quotes the request, and is never passed on.
                raise PDPReplyError(message) from None
            finally:
                # A function of a matcher may ask again on this thread, and has not learned for nothing.
                self._depth = max(0, self._depth - 1)
                if not self._depth:
                    self._forget()
        return _answer(told)

    def _renew(self) -> None:
        # In a forked child nobody goes on with what another thread of the parent was asking.
        self._depth = 0
        self._forget()

    def _forget(self) -> None:
        for manager, known in self._managers:
            _forget(manager, known)


def copied_from(library: Any, source: object) -> None:  # noqa: ANN401  a module without types
    """
    Check that an enforcer is one that can be relied on.

    Raises:
        ConfigurationError: When it is none, of a kind that answers wrongly, or turned off.
    """
    for kind, reason in _REFUSED.items():
        if isinstance(source, getattr(library, kind)):
            message = f"`{kind}` is refused: {reason}; give an `Enforcer`, which the decision point locks"
            raise ConfigurationError(message)
    if not isinstance(source, (library.Enforcer, library.AsyncEnforcer)):
        message = f"`{type(source).__name__}` is no enforcer of pycasbin"
        raise ConfigurationError(message)
    made: Any = source
    if made.enabled is not True:
        message = "enforcement is turned off in Casbin, which permits everything; call `enable_enforce(True)`"
        raise ConfigurationError(message)
    if isinstance(made.model, library.FastModel):
        message = "a `FastModel` is refused: its filter of the policy is shared between threads; give a `Model`"
        raise ConfigurationError(message)


def _copied(library: Any, source: Any, model: Any) -> Any:  # noqa: ANN401  objects of theirs
    made = copy.copy(source)
    made.adapter = made.watcher = None
    try:
        # Together: the rules of the copy refer to the role managers of the copy.
        parts = copy.deepcopy((model, source.rm_map, source.cond_rm_map))
    except Exception as error:
        message = f"the enforcer cannot be copied: {type(error).__name__}; give a callable that makes one"
        raise ConfigurationError(message) from error
    made.model, made.rm_map, made.cond_rm_map = parts
    made.fm = library.FunctionMap()
    made.fm.fm = dict(source.fm.get_functions())
    return made


def _check(sections: Mapping[str, Mapping[str, Any]], definition: str) -> None:
    for section in "rpm":
        if f"{section}{definition}" not in sections.get(section, ()):
            message = f"the model does not define `{section}{definition}`"
            raise ConfigurationError(message)
    effects = sections.get("e", {})
    stated = effects.get(f"e{definition}", effects.get("e"))
    if stated is None or stated.value != effects["e"].value:
        # INVARIANT: Casbin combines by `e`, whatever the definition says.
        message = f"`e{definition}` is not what Casbin combines by: it must be the same as `e`"
        raise ConfigurationError(message)
    for name, assertion in sections["p"].items():
        _check_rules(name, assertion)


def _check_rules(name: str, assertion: Any) -> None:  # noqa: ANN401  an object of theirs
    effect = assertion.tokens.index(f"{name}_eft") if f"{name}_eft" in assertion.tokens else None
    for number, rule in enumerate(assertion.policy, 1):
        if len(rule) != len(assertion.tokens):
            message = f"rule {number} of `{name}` has {len(rule)} values; the model defines {len(assertion.tokens)}"
            raise ConfigurationError(message)
        # Casbin takes any other word for no effect at all, a misspelled denial too.
        if effect is not None and rule[effect] not in _EFFECTS:
            message = f"rule {number} of `{name}` has another effect than `allow` and `deny`"
            raise ConfigurationError(message)


def _check_links(enforcer: Any, sections: Mapping[str, Mapping[str, Any]]) -> None:  # noqa: ANN401  an object of theirs
    """Check that the roles are those of the rules; while ``load_policy`` runs, some of them are missing."""
    for name, assertion in sections.get("g", {}).items():
        links = getattr(enforcer.rm_map.get(name), "all_links", None)
        if links is None:
            continue
        by_domain = isinstance(links, dict)
        known = {(*link, domain) for domain in links for link in links[domain]} if by_domain else {*map(tuple, links)}
        if any(tuple(rule[: 3 if by_domain else 2]) not in known for rule in assertion.policy):
            message = f"the roles of `{name}` are not those of the rules; call it again once `load_policy` is through"
            raise ConfigurationError(message)


def _assertions(model: Any) -> Iterator[tuple[Any, list[Any]]]:  # noqa: ANN401  an object of theirs
    for section in ("p", "g"):
        for assertion in (model[section] or {}).values():
            yield assertion, list(assertion.policy)


def _grouping(sections: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    return list(sections.get("g", {}).values())


def _revision(sections: Mapping[str, Mapping[str, Any]]) -> str:
    ordered = "priority" in sections["e"]["e"].value.lower()
    told = {
        section: {name: [one.value, one.policy if ordered else sorted(one.policy)] for name, one in definitions.items()}
        for section, definitions in sections.items()
    }
    return hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _stock(enforcer: Any) -> bool:  # noqa: ANN401  an object of theirs
    managers = [*enforcer.rm_map.values(), *enforcer.cond_rm_map.values()]
    functions = [*enforcer.fm.get_functions().values()]
    for manager in managers:
        functions += [getattr(manager, name, None) for name in ("matching_func", "domain_matching_func")]
    # A role manager of the application may ask a directory, and its enforcer whatever it likes.
    kinds = [type(one) for one in (enforcer, enforcer.model, enforcer.eft, *managers)]
    own = all(
        one is None or str(getattr(one, "__module__", None)).startswith("casbin.") for one in [*functions, *kinds]
    )
    texts = [one.value for one in enforcer.model.model["m"].values()]
    texts += [text for one in enforcer.model.model["p"].values() for rule in one.policy for text in rule]
    return own and not enforcer.cond_rm_map and not any("timeMatch" in text for text in texts)


def _managers(enforcer: Any, sections: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[Any, frozenset[str]]]:  # noqa: ANN401  an object of theirs
    named = {name for one in _grouping(sections) for rule in one.policy for name in rule}
    ruled = named | {text for one in sections["p"].values() for rule in one.policy for text in rule}
    for manager in [*enforcer.rm_map.values(), *enforcer.cond_rm_map.values()]:
        # Where names are patterns, one that was learned would change what is learned later.
        matching = getattr(manager, "matching_func", None)
        plain = matching is None or str(matching.__module__).startswith("casbin.rbac")
        yield manager, frozenset(ruled if plain else named)


def _forget(manager: Any, known: frozenset[str]) -> None:  # noqa: ANN401  a role manager of theirs
    """Drop the roles that stand for names of requests; they are the last, in the order in which names were learned."""
    domains = getattr(manager, "rm_map", None)
    if domains is not None:
        while domains and (last := next(reversed(domains))) not in manager.all_links:
            del domains[last]
        for inner in domains.values():
            _forget(inner, known)
    roles = getattr(manager, "all_roles", {})
    while roles and (name := next(reversed(roles))) not in known:
        for other in (*roles[name].roles, *roles[name].users):
            other.users.discard(roles[name])
            other.roles.discard(roles[name])
        del roles[name]


def _answer(told: object) -> tuple[bool, tuple[str, ...]]:
    if type(told) is tuple:
        match told:
            case (True | False as permitted, list() as rule):
                return permitted, tuple(map(str, rule))
    message = "Casbin answered with something else than `True` or `False` and a rule"
    raise PDPReplyError(message)
