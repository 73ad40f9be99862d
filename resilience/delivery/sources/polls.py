"""Push by long polls: a thread that asks, waits for news, and asks again."""

from __future__ import annotations

import logging
import threading

from backstay.clock import Clock
from backstay.errors import BackstayError

from ..envelope import Cursor
from ..port import Hear, Source, Told

__all__ = ["Polls"]

logger = logging.getLogger("backstay.resilience")

_WAIT = 10.0
_SLACK = 5.0


class Polls:
    """Long polls of one source, one after the other, in a thread of its own.

    Args:
        source: is asked; a first time before this returns.
        hear: what news goes to.
        clock: monotonic seconds.
        wait: seconds for which one poll waits.

    Raises:
        Unavailable: see `Source.fetch`.
        Misuse: see there.
    """

    def __init__(self, source: Source, hear: Hear, *, clock: Clock, wait: float = _WAIT) -> None:
        self._source = source
        self._hear = hear
        self._clock = clock
        self._wait = wait
        self._stop = threading.Event()
        first = source.fetch(None, 0.0)
        self._known: Cursor | None = None if first is None else first.cursor
        self._heard_at = clock()
        self._thread = threading.Thread(target=self._run, name="backstay-config-polls", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether polls go on and the last one was answered lately."""
        recent = self._clock() - self._heard_at <= self._wait + _SLACK
        return self._thread.is_alive() and not self._stop.is_set() and recent

    def close(self) -> None:
        """Begin no further poll; one under way ends unheard."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            asked_at = self._clock()
            try:
                found = self._source.fetch(self._known, self._wait)
            except BackstayError as error:
                logger.info("long polls of %s end: %s", self._source.name, error)
                return  # the plane begins anew, after a pause
            self._heard_at = self._clock()
            if found is not None and found.cursor != self._known and not self._stop.is_set():
                self._known = found.cursor
                self._hear(Told(epoch=found.epoch, version=found.version, envelope=found))
            elif self._clock() - asked_at < min(1.0, self._wait):
                self._stop.wait(1.0)  # a server that does not wait must not be asked without a pause
