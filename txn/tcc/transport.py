"""The transport port: how a coordinator reaches a branch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..values import Branch, Reply, Target

__all__ = ["Request", "Transport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to one branch; `timeout` in seconds."""

    target: Target
    branch: Branch
    timeout: float


class Transport(Protocol):
    """Sends requests to branches, in-process or far away."""

    async def send(self, request: Request) -> Reply:
        """Send once, never again by itself; every failure is an answer, never an exception.

        `UNSENT` is only for requests that certainly never left; whatever may have arrived is `UNKNOWN`.
        """
        ...
