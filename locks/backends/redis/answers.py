"""The port of a wire, what goes over it, and what a server's refusal means to a lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol

from backstay.errors import BackstayError, NotAcquired
from backstay.redis import Precautions, Settings, not_reached, refused, unanswered

from .scripts import Script

__all__ = ["Node", "Request", "Wire", "granted", "not_reached", "refusal", "replica_wait", "too_few", "unanswered"]

_SCRIPT = "a lock's script (do other programs write to keys that begin with 'backstay:'?)"


class Request:
    """One script with its keys and arguments."""

    __slots__ = ("arguments", "keys", "script")

    def __init__(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int]) -> None:
        self.script, self.keys, self.arguments = script, keys, arguments


class Wire(Protocol):
    """Exchanges with Redis, in either make.

    The address of a mailbox is an argument of its own, never part of a text: a wire to several servers puts the
    channel at the right one in its place.
    """

    async def call(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | int], timeout: float
    ) -> tuple[Any, bool]:
        """Run a script; return its answer, and whether an earlier copy of the request may have run as well.

        Raises:
            Unavailable: it was not sent, or the server refused to run anything now.
            OutcomeUnknown: it was sent and not answered.
            Misuse: the server refused it for good.
            NotAcquired: it granted a lock, and too few replicas confirmed that; the token has to be withdrawn.
        """
        ...

    async def call_all(self, requests: Sequence[Request], timeout: float) -> list[Any]:
        """Run scripts in one go; an error answer stands as a `BackstayError` in its place."""
        ...

    async def servers(self, timeout: float) -> Sequence[Wire]:
        """Return a wire to each server that has keys: only itself, where there is one."""
        ...

    async def close(self) -> None:
        """Drop the connections."""
        ...

    def forked(self) -> None:
        """Forget connections that a parent process uses, without closing what it shares."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One server, as a wire sees it.

    Args:
        settings: how to reach it.
        label: its name in errors.
        patience: seconds for one exchange.
        precautions: what it is asked before it is trusted.
        min_replicas: how many replicas have to confirm each grant.
        connect_within: seconds for opening a connection, where that is less than `patience`: where servers replace
            each other, a frozen one should be noticed before the caller's time is over.
    """

    settings: Settings
    label: str
    patience: float
    precautions: Precautions
    min_replicas: int = 0
    connect_within: float = inf


def refusal(label: str, error: Exception) -> BackstayError:
    """Return what an error answer of the server means."""
    return refused(label, error, _SCRIPT)


def granted(answer: Any) -> bool:
    """Return whether the answer of a script that grants is a fence."""
    return type(answer) is bytes and answer != b"withdrawn"


def replica_wait(left: float) -> int:
    """Return for how many ms replicas are waited for, where an answer has to be here in `left` seconds."""
    # The server looks at its waiting clients ten times a second, so its answer comes up to 0.1 s late.
    share = min(left * 0.9, max(left - 0.15, left * 0.5))
    return max(1, int(share * 1000.0))  # 0 would wait for ever


def too_few(label: str, confirmed: int, wanted: int) -> NotAcquired:
    """Return the error for a grant that would not survive the loss of its server (R10)."""
    return NotAcquired(
        f"{label} granted the lock, but {confirmed} of {wanted} replicas confirmed it in time; it is given back. "
        "Are the replicas up? min_replicas says how many have to"
    )
