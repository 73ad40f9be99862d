"""Learning at once that a server closed a connection on which nobody is waiting for an answer."""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable

from backstay.locks import fork
from backstay.telemetry import announce

__all__ = ["lookout"]

logger = logging.getLogger("backstay.locks")

_ENDED = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR  # not POLLIN: answers are for others


class Lookout:
    """One thread of the process that watches the sockets of all sessions; it ends when there are none.

    Where the system has no POLLRDHUP (it is Linux's own) an end is learned at the next renewal instead.
    """

    def __init__(self) -> None:
        self._begin()
        fork.watch(self)

    def _begin(self) -> None:
        self._mutex = threading.Lock()
        self._watched: dict[int, Callable[[], None]] = {}
        self._wake: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None

    def watch(self, socket: int, ended: Callable[[], None]) -> None:
        """Call `ended` when the other side has closed; once, from the lookout's thread."""
        with self._mutex:
            self._watched[socket] = ended
            if self._wake is None:
                self._wake = os.pipe()
            os.write(self._wake[1], b"!")
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="backstay-locks-lookout", daemon=True)
                self._entry = announce(self._thread.name, self._thread.is_alive)
                self._thread.start()

    def forget(self, socket: int) -> None:
        """Watch a socket no longer; to be called before it is closed, since its number may be used again."""
        with self._mutex:
            self._watched.pop(socket, None)
            if self._wake is not None:
                os.write(self._wake[1], b"!")

    def forked(self) -> None:
        """In a forked child: the thread is not here, and the sockets are the parent's."""
        self._begin()

    def _run(self) -> None:
        while True:
            with self._mutex:
                if not self._watched or self._wake is None:
                    if self._wake is not None:
                        for end in self._wake:
                            os.close(end)
                    self._wake = None
                    self._thread = None
                    self._entry.close()
                    return
                poll, wake = select.poll(), self._wake[0]
                poll.register(wake, select.POLLIN)
                for socket in self._watched:
                    poll.register(socket, _ENDED)
            ready = {number for number, _ in poll.poll()}
            if wake in ready:
                os.read(wake, 4096)
                ready.discard(wake)
            for socket in ready:
                with self._mutex:
                    ended = self._watched.pop(socket, None) if _is_over(socket) else None
                if ended is not None:
                    try:
                        ended()
                    except Exception:
                        logger.exception("telling of the end of a session failed")


def _is_over(socket: int) -> bool:
    """Look again with the mutex held: the number may have changed hands since."""
    again = select.poll()
    again.register(socket, _ENDED)
    return bool(again.poll(0))


lookout = Lookout()
