"""What is asked of a server before it is trusted, on a connection that was just opened.

Its role, at each connection to a master that Sentinels named: the answer may be older than a failover. Whether it
evicts keys and whether it knows WAIT: once for each server and process, since that costs a round trip.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from backstay.errors import Misuse, Unavailable

from .exchange import Command

__all__ = ["Precautions", "evicts"]

logger = logging.getLogger("backstay.redis")

_ONCE: tuple[Command, ...] = (("CONFIG", "GET", "maxmemory*"), ("INFO", "memory"))


class Precautions:
    """The questions and what follows from the answers, for all servers of one target.

    Args:
        master: whether a server must be a master.
        min_replicas: how many replicas have to confirm grants; with 0, WAIT is not needed.
        eviction: `refuse` servers that may evict keys with or without a time-to-live, or `allow` them with a warning.
    """

    def __init__(self, *, master: bool = False, min_replicas: int = 0, eviction: str = "refuse") -> None:
        self._always: tuple[Command, ...] = (("ROLE",),) if master else ()
        self._once = _ONCE + ((("WAIT", 0, 1),) if min_replicas else ())
        self._allow = eviction == "allow"
        self._known: set[str] = set()

    def questions(self, label: str) -> tuple[Command, ...]:
        """Return what to send first on a new connection to the server of that name; often nothing."""
        return self._always if label in self._known else self._always + self._once

    def heed(self, label: str, replies: Sequence[Any]) -> None:
        """Judge the replies to `questions`; an error reply stands as an exception.

        Raises:
            Unavailable: the server is no master.
            Misuse: it may evict keys, or does not know WAIT.
        """
        rest = list(replies)
        if self._always:
            role = rest.pop(0)
            if isinstance(role, Exception) or role[0] != b"master":
                told = str(role) if isinstance(role, Exception) else f"it says that it is a {role[0].decode()}"
                raise Unavailable(f"{label} is no master now: {told}")
        if not rest:
            return
        config, info, *wait = rest
        if wait and isinstance(wait[0], Exception):
            raise Misuse(f"{label} does not know WAIT, so min_replicas cannot be had there: {wait[0]}; use 0")
        self._heed_eviction(label, config, info)
        self._known.add(label)

    def _heed_eviction(self, label: str, config: Any, info: Any) -> None:
        told = _policy(config, info)
        if told is None:
            logger.warning(
                "%s does not tell its maxmemory-policy; with any other than noeviction, keys of locks may vanish", label
            )
        elif evicts(*told):
            text = (
                f"{label} may evict keys of locks: its maxmemory-policy is {told[0]}. "
                "Set it to noeviction, or give locks a server of their own"
            )
            if not self._allow:
                raise Misuse(f"{text}; eviction='allow' goes on all the same")
            logger.warning("%s", text)


def evicts(policy: str, maxmemory: int) -> bool:
    """Return whether a server with that policy and that many bytes of room (0: unlimited) may drop keys by itself."""
    return maxmemory > 0 and policy.startswith(("allkeys-", "volatile-"))


def _policy(config: Any, info: Any) -> tuple[str, int] | None:
    """Read the policy and the room from CONFIG GET, or where that is refused from INFO; None where neither tells."""
    facts: dict[str, str] = {}
    if not isinstance(config, Exception):
        facts = dict(zip(map(_text, config[::2]), map(_text, config[1::2]), strict=False))
    if not {"maxmemory", "maxmemory-policy"} <= set(facts) and isinstance(info, bytes):
        lines = (line.partition(":") for line in info.decode(errors="replace").splitlines())
        facts = {name.replace("_", "-"): value for name, _, value in lines}
    try:
        return facts["maxmemory-policy"], int(facts["maxmemory"])
    except (KeyError, ValueError):
        return None


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
