"""
The source of compiled guards: the hot path of one function, written out for its own signature.

All that is ours is a cell, prefixed, of a function made with the guarded function's globals, so that annotations
resolve and no parameter collides. The source is registered, so that tracebacks show it. Imports lookups only.
"""

from __future__ import annotations

import inspect
import keyword
import linecache
from collections.abc import Mapping
from inspect import Parameter, Signature
from types import CodeType, FunctionType
from typing import Any, Final

from pep.guard.lookup import Kind, Lookup

#: What our names begin with; a parameter of the user's that does as well is left to closures.
PREFIX: Final = "_pep_"

_FACTORY: Final = """\
def _pep_factory({cells}):
    _pep_plug = _pep_unplugged
    def _pep_rebind(_pep_new):
        nonlocal _pep_plug
        _pep_plug = _pep_new
{body}
    return {name}, _pep_rebind
"""

_FUNCTION: Final = """\
def {name}({parameters}):
    _pep_frame = _pep_current()
{hot}
"""

# Who acts is captured at the call; awaited by somebody else, it takes the plan.
_COROUTINE: Final = """\
async def _pep_awaited({framed}):
{hot}
_pep_names(_pep_awaited)
def {name}({parameters}):
    return _pep_awaited({passed})
"""

# INVARIANT: it does what the plan would have done with no step to take, in the same order; the record is taken before
# the generations are compared last, and nothing of the user's runs before that but the extractor.
_HOT: Final = """\
_pep_get, _pep_generations, _pep_take, _pep_number, _pep_clock, _pep_which, _pep_shape, _pep_hot = _pep_plug
{unasked}
if {here}(_pep_frame.active < _pep_frame.room or _pep_frame.nested() < _pep_frame.room):
    _pep_scope = _pep_frame.scope
{lookup}
    if _pep_entry is not None:
        _pep_now = _pep_clock(_pep_which)
        _pep_epoch = _pep_generations.epoch
        if _pep_now < _pep_entry.expires and {timely}(
            _pep_entry.epoch == _pep_epoch or _pep_hot.moved(_pep_entry, _pep_epoch, _pep_scope, _pep_thing)
        ):
            _pep_note = (_pep_hot, _pep_now, _pep_number(), _pep_entry, _pep_scope, _pep_thing)
            try:
                _pep_taken = _pep_take(_pep_note)
            except _pep_BaseException as _pep_error:
                _pep_hot.lost(_pep_note, _pep_error)
            else:
                {recorded}if _pep_generations.epoch == _pep_epoch or _pep_hot.stands(_pep_note):
{run}
                _pep_hot.withheld(_pep_note)
                return {await_}_pep_again({args}, {kwargs}, _pep_frame, {given})
return {await_}_pep_slow({args}, {kwargs}, _pep_frame, {given})
"""

_GIVEN: Final = "_pep_nothing if _pep_began is None else (_pep_thing, (_pep_began, _pep_since))"

_CALL: Final = """\
_pep_running = _pep_frame
_pep_frame.active += 1
try:
    return {await_}_pep_fn({passed})
except _pep_BaseException as _pep_error:
    _pep_hot.raised(_pep_note, _pep_error)
    raise
finally:
    _pep_frame.active -= 1
"""

# Where the type is known before the call, another record may be owed after the code.
_RECORDED: Final = """\
if _pep_taken is _pep_owed:
                    await _pep_hot.recorded(_pep_note)
                """

_CALL_OWING: Final = """\
_pep_running = _pep_frame
_pep_frame.active += 1
try:
    if _pep_taken is not _pep_owed:
        return _pep_fn({passed})
    _pep_value = _pep_fn({passed})
except _pep_BaseException as _pep_error:
    _pep_hot.raised(_pep_note, _pep_error)
    raise
finally:
    _pep_frame.active -= 1
_pep_running = None
return _pep_hot.completed(_pep_note, _pep_value)
"""

_CALL_OWING_AWAITED: Final = """\
_pep_running = _pep_frame
_pep_frame.active += 1
try:
    if _pep_taken is not _pep_owed:
        return await _pep_fn({passed})
    _pep_value = await _pep_fn({passed})
except _pep_BaseException as _pep_error:
    if _pep_taken is _pep_owed:
        await _pep_hot.araised(_pep_note, _pep_error)
    else:
        _pep_hot.raised(_pep_note, _pep_error)
    raise
finally:
    _pep_frame.active -= 1
_pep_running = None
return await _pep_hot.acompleted(_pep_note, _pep_value)
"""

_WALK: Final = """\
_pep_steps = _pep_walk(_pep_hot, _pep_note, _pep_epoch, _pep_generations, _pep_frame, _pep_fn({passed}))
_pep_next(_pep_steps)
return _pep_steps
"""

_LOOKUPS: Final[Mapping[Kind, str]] = {
    Kind.ID: """\
_pep_thing = {name} if _pep_type({name}) is _pep_str else _pep_id({name})
_pep_entry = _pep_get((_pep_shape, _pep_scope.who, _pep_thing))
""",
    Kind.CONSTANT: """\
_pep_thing = _pep_constant
_pep_entry = _pep_get((_pep_shape, _pep_scope.who, _pep_constant.face))
""",
    Kind.PARAMETER: """\
_pep_thing = {name}
if _pep_type(_pep_thing) is _pep_Resource:
    _pep_entry = _pep_get((_pep_shape(_pep_thing.type), _pep_scope.who, _pep_thing.face))
""",
    Kind.COMPUTED: """\
if _pep_hot is not None and {plain}:
    _pep_began, _pep_since = _pep_clock(_pep_which), _pep_generations.epoch
    _pep_running = _pep_frame
    _pep_frame.active += 1
    try:
        _pep_thing = _pep_extract({extracted})
    except _pep_BaseException as _pep_error:
        _pep_thing = _pep_Raised(_pep_error)
    finally:
        _pep_running = None
        _pep_frame.active -= 1
    if _pep_type(_pep_thing) is _pep_Resource:
        _pep_entry = _pep_get((_pep_shape(_pep_thing.type), _pep_scope.who, _pep_thing.face))
""",
}


def compilable(fn: Any, signature: Signature) -> bool:  # noqa: ANN401  any function
    """Tell whether a function's own signature can stand in its guard's source."""
    if type(fn) is not FunctionType or hasattr(fn, "__wrapped__") or hasattr(fn, "__signature__"):
        return False
    return all(_usable(name) for name in signature.parameters)


def made(fn: Any, signature: Signature, lookup: Lookup, cells: Mapping[str, Any], name: str) -> tuple[Any, Any]:  # noqa: ANN401  any function
    """
    Make the guard of a function.

    Args:
        fn: What is guarded.

        signature: What it takes.

        lookup: Where its resource comes from.

        cells: Our name → what it stands for.

        name: What tracebacks call the file, made unique.

    Returns:
        The guard, and what plugs another wiring in.
    """
    source = written(fn, signature, lookup, sorted(cells))
    filename = _registered(f"<guard of {name}>", source)
    module = compile(source, filename, "exec")
    factory = next(const for const in module.co_consts if isinstance(const, CodeType))
    namespace: dict[str, Any] = getattr(inspect.unwrap(fn), "__globals__", fn.__globals__)
    guard, rebind = FunctionType(factory, namespace)(*[cells[cell] for cell in sorted(cells)])
    given = [parameter for parameter in signature.parameters.values() if parameter.default is not parameter.empty]
    guard.__defaults__ = tuple(one.default for one in given if one.kind is not one.KEYWORD_ONLY) or None
    guard.__kwdefaults__ = {one.name: one.default for one in given if one.kind is one.KEYWORD_ONLY} or None
    return guard, rebind


def written(fn: Any, signature: Signature, lookup: Lookup, cells: list[str]) -> str:  # noqa: ANN401  any function
    """Write the source of a function's guard."""
    flags = fn.__code__.co_flags
    coroutine, generator = bool(flags & inspect.CO_COROUTINE), bool(flags & inspect.CO_GENERATOR)
    positional, named = _arguments(signature)
    passed = _passed(signature)
    parts = {
        "name": fn.__name__ if _usable(fn.__name__) else "guarded",
        "cells": ", ".join(cells),
        "await_": "await " if coroutine else "",
        "unasked": "" if lookup.kind in {Kind.ID, Kind.CONSTANT} else "_pep_entry = _pep_began = None",
        "given": _GIVEN if lookup.kind is Kind.COMPUTED else "_pep_nothing",
        "timely": "_pep_now - _pep_began <= _pep_hot.patience and " if lookup.kind is Kind.COMPUTED else "",
        "here": "_pep_current() is _pep_frame and " if coroutine else "",
        "parameters": _parameters(signature),
        "framed": _framed(signature),
        "args": positional,
        "kwargs": named,
    }
    recorded, call = _calling(lookup, coroutine=coroutine, generator=generator)
    run = _indented(call.format(passed=passed, **parts), 5)
    hot = _HOT.format(lookup=_indented(_lookup(lookup), 1), recorded=recorded, run=run, **parts)
    parts["hot"] = _indented(hot, 1)
    body = (_COROUTINE if coroutine else _FUNCTION).format(
        passed=", ".join(filter(None, ["_pep_current()", passed])), **parts
    )
    return _FACTORY.format(body=_indented(body, 1), **parts)


def _calling(lookup: Lookup, *, coroutine: bool, generator: bool) -> tuple[str, str]:
    """Return the source of what is awaited once a note was taken, and of the call."""
    if generator or lookup.kind not in {Kind.ID, Kind.CONSTANT}:
        return "", _WALK if generator else _CALL
    return (_RECORDED, _CALL_OWING_AWAITED) if coroutine else ("", _CALL_OWING)


def _usable(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and not name.startswith(PREFIX)


def _lookup(lookup: Lookup) -> str:
    names = lookup.names
    if lookup.kind is not Kind.COMPUTED:
        return _LOOKUPS[lookup.kind].format(name="".join(names))
    plain = " and ".join(f"_pep_type({name}) in _pep_plain" for name in names) or "True"
    extracted = [*lookup.source.positional, *(f"{name}={name}" for name in lookup.source.keywords)]
    return _LOOKUPS[lookup.kind].format(plain=plain, extracted=", ".join(extracted))


def _parameters(signature: Signature, *, defaults: bool = True) -> str:
    told: list[str] = []
    last: Any = None
    for parameter in signature.parameters.values():
        if last is Parameter.POSITIONAL_ONLY is not parameter.kind:
            told.append("/")
        if parameter.kind is Parameter.KEYWORD_ONLY and last not in {Parameter.KEYWORD_ONLY, Parameter.VAR_POSITIONAL}:
            told.append("*")
        told.append(_parameter(parameter, defaults=defaults))
        last = parameter.kind
    return ", ".join([*told, "/"] if last is Parameter.POSITIONAL_ONLY else told)


def _framed(signature: Signature) -> str:
    """Write the parameters after our own, which nothing that is given by name can be."""
    told = _parameters(signature, defaults=False)
    ours = "_pep_frame" if "/" in told.split(", ") else "_pep_frame, /"
    return f"{ours}, {told}" if told else ours


def _parameter(parameter: Parameter, *, defaults: bool) -> str:
    kind = parameter.kind
    stars = "*" if kind is Parameter.VAR_POSITIONAL else "**" if kind is Parameter.VAR_KEYWORD else ""
    default = "=None" if defaults and parameter.default is not parameter.empty else ""
    return f"{stars}{parameter.name}{default}"


def _passed(signature: Signature) -> str:
    told = []
    for name, parameter in signature.parameters.items():
        by_name = parameter.kind is Parameter.KEYWORD_ONLY
        told.append(f"{name}={name}" if by_name else _parameter(parameter, defaults=False))
    return ", ".join(told)


def _arguments(signature: Signature) -> tuple[str, str]:
    """Write what rebuilds a call's positional and keyword arguments."""
    positional, named = "", ""
    for name, parameter in signature.parameters.items():
        if parameter.kind is Parameter.VAR_POSITIONAL:
            positional += f"*{name}, "
        elif parameter.kind is Parameter.VAR_KEYWORD:
            named += f"**{name}, "
        elif parameter.kind is Parameter.KEYWORD_ONLY:
            named += f"{name!r}: {name}, "
        else:
            positional += f"{name}, "
    return f"({positional})", f"{{{named}}}"


def _indented(text: str, levels: int) -> str:
    return "\n".join(["    " * levels + line for line in text.rstrip("\n").split("\n")])


def _registered(wanted: str, source: str) -> str:
    entry = (len(source), None, source.splitlines(keepends=True), wanted)
    filename, again = wanted, 1
    # The same name may be guarded anew, as when a module is reloaded.
    while linecache.cache.setdefault(filename, entry)[2:3] != entry[2:3]:
        again += 1
        filename = f"{wanted[:-1]} {again}>"
    return filename
