"""
Watching subclasses: a check of every class derived from one.

Imports nothing of the library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

#: The attribute that tells, by its watches, which class of a hierarchy a hook stands in.
WATCHES: Final = "__pep_watches__"

_HOOK: Final = "__init_subclass__"


def watch_subclasses(cls: type[Any], check: Callable[[type[Any]], None]) -> None:
    """
    Have every later subclass of a class checked, as soon as it is made.

    What the class and its bases do with subclasses goes on, keyword arguments included. A class made
    anew from its attributes, as decorators do that add slots, is watched as before.

    Args:
        cls: The class.

        check: Takes a subclass; raises where it is not as it should be.
    """
    watch, own = object(), vars(cls).get(_HOOK)

    def __init_subclass__(sub: type[Any], /, **kwargs: Any) -> None:  # noqa: ANN401, N807  it becomes one
        if own is not None:
            own.__get__(None, sub)(**kwargs)
        else:
            place: Any = next(base for base in sub.__mro__ if watch in vars(base).get(WATCHES, ()))
            super(place, sub).__init_subclass__(**kwargs)
        if _HOOK in vars(sub):
            # It need not call on to this one.
            watch_subclasses(sub, check)
        check(sub)

    setattr(cls, WATCHES, (*vars(cls).get(WATCHES, ()), watch))
    setattr(cls, _HOOK, classmethod(__init_subclass__))
