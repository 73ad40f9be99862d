"""What an instance says of itself to its service, so that an operator sees which version runs where (SW-6)."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from backstay.errors import BackstayError, Unavailable

from .watch import watch

__all__ = ["Reporting", "Reports", "Told"]

logger = logging.getLogger("backstay.resilience")

_INTERVAL = 10.0
_SOON = 0.5


@runtime_checkable
class Reporting(Protocol):
    """A source that takes reports."""

    def report(self, body: Mapping[str, Any]) -> None:
        """Send one.

        Raises:
            Unavailable: it does not arrive; the next one tells the same or more.
            Misuse: it is refused.
        """
        ...


class Told(Protocol):
    """Whose state is told."""

    def report(self) -> Mapping[str, Any] | None:
        """Return what to say, or None while the source does not answer anyway."""
        ...


class Reports:
    """Sends the report of one plane every ten seconds, and soon after each change.

    Args:
        told: the plane, which is not kept alive.
        source: where reports go.
        chance: `uniform(low, high)`: instances that changed together do not report together.
    """

    interval = _INTERVAL

    def __init__(self, told: Told, source: Reporting, *, chance: Callable[[float, float], float]) -> None:
        self._told = weakref.ref(told)
        self._source = source
        self._chance = chance
        self._problem = ""
        self.renew()

    def soon(self) -> None:
        """Report within half a second."""
        watch(self, self._chance(0.0, _SOON))

    def renew(self) -> None:
        """Take a name of its own: another process than its parent."""
        self.instance = f"{socket.gethostname()[:80]}-{os.getpid()}-{secrets.token_hex(3)}"

    def look(self) -> float:
        """Send a report; return in how many seconds the next one is due."""
        told = self._told()
        body = told.report() if told is not None else None
        if body is not None:
            try:
                self._source.report({**body, "instance": self.instance})
                self._problem = ""
            except BackstayError as error:
                if str(error) != self._problem and not isinstance(error, Unavailable):  # once
                    logger.warning("the service does not take reports of this instance: %s", error)
                self._problem = str(error)
        return self._chance(0.9, 1.0) * _INTERVAL
