"""
Policies that follow their files: watched, loaded aside, and swapped whole.

Imports policy sets and files. `watchfiles` is used where it is installed; otherwise the files are polled.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Final, final

import attrs

from pep.errors import ConfigurationError
from pep.frozen import EMPTY
from pep.model import AccessRequest, Action, Decision, Subject
from pep.policy.explain import Explanation
from pep.policy.files import policy_files
from pep.policy.partial import RowFilter
from pep.policy.policies import PolicySet

_LOG: Final = logging.getLogger("pep.policy")

#: What the files look like from outside: path, size, time of change and inode of each.
_Look = tuple[tuple[str, int, int, int], ...]


@attrs.frozen
class Swapped:
    """
    A new policy set took effect: every decision after this is by it alone.

    Attributes:
        old: Revision that was in effect.

        new: Revision that is; the same where it is stated and was not changed.
    """

    old: str
    new: str


@attrs.frozen
class Rejected:
    """
    Changed files do not load: the policies in effect stay.

    Attributes:
        error: What is wrong, with file, line and column.

        kept: Revision that stays in effect.
    """

    error: ConfigurationError
    kept: str


#: Told of every swap, after it, and of every set that does not load.
Listener = Callable[[Swapped | Rejected], None]


@final
class PolicySource:
    """
    A policy decision point whose policies follow a file or a folder.

    Args:
        path: A ``.toml`` or ``.json`` file, or a folder.

        interval: How often to look, in seconds. Changed files are loaded once they looked the same twice, so that
            a file that is being written is not read.

        clock: The time of day in epoch seconds, for rules that read it.

    Raises:
        ConfigurationError: When the policies do not load at first.
    """

    __slots__ = (
        "_clock",
        "_interval",
        "_listeners",
        "_loaded",
        "_lock",
        "_path",
        "_pending",
        "_stop",
        "_thread",
        "policies",
    )

    name: Final = "policies"
    #: It answers from memory.
    immediate: Final = True

    def __init__(self, path: str | Path, *, interval: float = 1.0, clock: Callable[[], float] = time.time) -> None:
        self._path = Path(path)
        self._interval = interval
        self._clock = clock
        self._listeners: tuple[Listener, ...] = ()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._loaded = self._look()
        self._pending = self._loaded
        #: The policies in effect; take them once to ask several things of one version.
        self.policies = PolicySet.load(self._path, clock=clock)

    @property
    def revision(self) -> str:
        """Which version of the policies is in effect."""
        return self.policies.revision

    @property
    def pure(self) -> bool:
        """Whether decisions depend on the request and the revision alone."""
        return self.policies.pure

    def decide(self, request: AccessRequest) -> Decision:
        """Decide one request, by the policies in effect."""
        return self.policies.decide(request)

    def decide_many(self, requests: Sequence[AccessRequest]) -> list[Decision]:
        """Decide several requests, all by one version of the policies."""
        return self.policies.decide_many(requests)

    def explain(self, request: AccessRequest) -> Explanation:
        """Explain how a request is decided by the policies in effect."""
        return self.policies.explain(request)

    def row_filter(
        self,
        subject: Subject,
        action: Action | str,
        resource_type: str,
        *,
        context: Mapping[str, Any] = EMPTY,
        actors: Sequence[Subject] = (),
        tenant: str | None = None,
        discharged: Collection[str] = (),
    ) -> RowFilter:
        """Say which resources of a type a subject may act upon, by the policies in effect."""
        return self.policies.row_filter(
            subject, action, resource_type, context=context, actors=actors, tenant=tenant, discharged=discharged
        )

    def subscribe(self, listener: Listener) -> None:
        """Tell *listener* of every swap, and of every set that does not load, on the thread that noticed."""
        with self._lock:
            self._listeners = (*self._listeners, listener)

    def reload(self) -> Swapped:
        """
        Load the files now, and swap the policies.

        Returns:
            The revisions before and after.

        Raises:
            ConfigurationError: When they do not load; the policies in effect stay.
        """
        with self._lock:
            event = self._load(self._look())
            listeners = self._listeners
        _tell(listeners, event)
        if isinstance(event, Rejected):
            raise event.error
        return event

    def poll(self) -> Swapped | Rejected | None:
        """
        Look at the files once: load them if they changed, and have not changed since the last look.

        Returns:
            What happened, if anything did.
        """
        with self._lock:
            look = self._look()
            settled, self._pending = look == self._pending, look
            if look == self._loaded or not settled:
                return None
            event = self._load(look)
            listeners = self._listeners
        _tell(listeners, event)
        return event

    def start(self) -> PolicySource:
        """Watch the files from now on, on a thread of its own."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._watch, name="pep-policies", daemon=True)
            self._thread.start()
        return self

    def close(self) -> None:
        """Stop watching; the policies in effect stay."""
        thread, self._thread = self._thread, None
        self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def __enter__(self) -> PolicySource:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<PolicySource {str(self._path)!r}, revision {self.revision}>"

    def _load(self, look: _Look) -> Swapped | Rejected:
        """Load aside, and swap by one assignment; what was tried is not tried again until it changes."""
        self._loaded = look
        try:
            policies = PolicySet.load(self._path, clock=self._clock)
        except ConfigurationError as error:
            return Rejected(error, self.policies.revision)
        old, self.policies = self.policies, policies
        return Swapped(old.revision, policies.revision)

    def _look(self) -> _Look:
        found = []
        # Files that vanish meanwhile look different the next time, and then fail to load.
        with suppress(ConfigurationError, OSError):
            for file in policy_files(self._path):
                status = file.stat()
                found.append((str(file), status.st_size, status.st_mtime_ns, status.st_ino))
        return tuple(found)

    def _watch(self) -> None:
        for _ in self._ticks():
            try:
                self.poll()
            except Exception:  # noqa: BLE001  whatever a listener of the application's raises, the watch goes on
                _LOG.exception("a listener failed after the policies were looked at")

    def _ticks(self) -> Iterator[None]:
        """Yield whenever it is time to look: on changes where they are told, and at intervals anyway."""
        with suppress(ImportError):
            watch = import_module("watchfiles").watch
            folder = self._path if self._path.is_dir() else self._path.parent
            wait = max(1, int(self._interval * 1000))
            options: dict[str, Any] = {"debounce": wait, "step": min(wait, 50), "rust_timeout": wait}
            # A folder that vanishes cannot be watched any longer; it can still be looked for.
            with suppress(OSError):
                for _ in watch(folder, stop_event=self._stop, yield_on_timeout=True, **options):
                    yield
        while not self._stop.wait(self._interval):
            yield


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
