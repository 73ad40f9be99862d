"""A file whose changes the kernel tells of, so that one is in force within milliseconds (needs watchfiles)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backstay.clock import Clock, monotonic
from backstay.errors import BackstayError
from backstay.url import require

from ...forks import renew_in_child
from ..envelope import Cursor, Envelope
from ..port import Hear, Told
from .file import FileSource

__all__ = ["WatchedFileSource"]

logger = logging.getLogger("backstay.resilience")

_BEAT = 1000  # ms
_SILENCE = 5.0  # s


class WatchedFileSource:
    """A `FileSource` that tells of changes too: `file:///etc/shop/switches.toml?push=watchfiles`.

    Args:
        path: see `FileSource`.

    Raises:
        MissingExtra: watchfiles is not installed.
        Misuse: see `FileSource`.
    """

    kind = "file"

    def __init__(self, path: str | Path) -> None:
        watchfiles: Any = require("watchfiles", "switches")
        self._watch: Callable[..., Any] = watchfiles.watch
        self._file = FileSource(path)
        self._path = Path(path)
        self._lock = threading.Lock()
        renew_in_child(self)

    @property
    def name(self) -> str:
        """The file's URL."""
        return self._file.name

    def fetch(self, known: Cursor | None, wait: float) -> Envelope | None:
        """Return the file's document unless it is `known`.

        Raises:
            Unavailable: the file cannot be read.
            Misuse: it holds no document.
        """
        with self._lock:
            return self._file.fetch(known, wait)

    def subscribe(self, hear: Hear) -> _Watching:
        """Begin to tell `hear` of changes; one that comes before the kernel watches is told within a second."""
        return _Watching(self, self._watch, self._path, hear, clock=monotonic)

    def renew(self) -> None:
        """Replace the lock in a forked child."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """Do nothing: no file stays open."""


class _Watching:
    def __init__(
        self, source: WatchedFileSource, watch: Callable[..., Any], path: Path, hear: Hear, *, clock: Clock
    ) -> None:
        self._source = source
        self._hear = hear
        self._clock = clock
        self._heard_at = clock()
        self._stop = threading.Event()
        # The folder, since a rename puts another file under the name; its generator watches from its first step on.
        self._changes = watch(
            path.absolute().parent, recursive=False, debounce=50, step=10, rust_timeout=_BEAT, yield_on_timeout=True,
            stop_event=self._stop, raise_interrupt=False,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._run, name="backstay-config-file", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._stop.is_set() and self._clock() - self._heard_at <= _SILENCE

    def close(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        known: Cursor | None = None
        try:
            for _ in self._changes:
                self._heard_at = self._clock()
                found = self._look(known)
                if found is not None and not self._stop.is_set():
                    known = found.cursor
                    self._hear(Told(epoch=found.epoch, version=found.version, envelope=found))
        except OSError as error:  # the folder went: the plane begins anew, and looks meanwhile
            logger.info("%s is not watched any more: %s", self._source.name, error)

    def _look(self, known: Cursor | None) -> Envelope | None:
        try:
            return self._source.fetch(known, 0.0)
        except BackstayError as error:
            logger.debug("what changed is no document: %s", error)  # the plane's own look tells operators
            return None
