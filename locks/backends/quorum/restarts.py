"""A master that may have lost what it granted must not vote again before all of that has ended (K4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backstay.errors import Unavailable
from backstay.redis import Precautions
from backstay.redis.exchange import Command

__all__ = ["Restarts", "facts_of"]

_ASKED: tuple[Command, ...] = (("INFO", "server"), ("INFO", "persistence"), ("CONFIG", "GET", "appendfsync"))


class Restarts(Precautions):
    """The questions to a master on each new connection: a restart breaks all connections, so none goes unnoticed.

    What is assumed: a master that runs for longer than `max_ttl` has lost nothing that is still held, and one that
    syncs every write to disk (`appendonly yes`, `appendfsync always`) lost nothing at all. What is not noticed:
    FLUSHALL, a data set that was deleted or replaced by hand, a server's clock that was set forward as it restarted.

    Args:
        max_ttl: seconds; the longest time-to-live that any process asks this store for.
        eviction: see `Precautions`.
    """

    def __init__(self, max_ttl: float, *, eviction: str = "refuse") -> None:
        super().__init__(eviction=eviction)
        self._max_ttl = max_ttl

    def questions(self, label: str) -> tuple[Command, ...]:
        """See `Precautions.questions`."""
        return super().questions(label) + _ASKED

    def heed(self, label: str, replies: Sequence[Any]) -> None:
        """Judge the replies to `questions`.

        Raises:
            Unavailable: it runs for a shorter time than `max_ttl` and may have lost grants as it restarted.
            Misuse: it may evict keys.
        """
        own = len(replies) - len(_ASKED)
        super().heed(label, replies[:own])
        server, persistence, fsync = replies[own:]
        if facts_of(persistence).get("aof_enabled") == "1" and _fsync(fsync) == "always":
            return
        uptime = facts_of(server).get("uptime_in_seconds", "")
        if not uptime.isdigit():
            raise Unavailable(f"{label} does not tell since when it runs, so it may have lost locks; allow it INFO")
        left = self._max_ttl + 1.0 - int(uptime)  # the server cuts off the part of the second
        if left > 0.0:
            raise Unavailable(
                f"{label} runs for {uptime} s only and may have lost locks as it restarted, so its votes do not "
                f"count for {left:g} s more (max_ttl); with 'appendonly yes' and 'appendfsync always' it need not wait"
            )


def facts_of(info: Any) -> dict[str, str]:
    """Read an answer to INFO; nothing where it is an error."""
    if not isinstance(info, bytes):
        return {}
    lines = (line.strip().partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _fsync(config: Any) -> str:
    return "" if isinstance(config, Exception) or len(config) != 2 else str(config[1], errors="replace")
