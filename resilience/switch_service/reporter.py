"""What this process runs, told to the switch service every ten seconds, and at once when that changes."""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from backstay.errors import Misuse, Unavailable
from backstay.telemetry import counter

from ..delivery.envelope import moment
from ..delivery.plane import Plane
from ..delivery.sources.http import HttpSource
from ..delivery.watch import unwatch, wake, watch
from ..forks import renew_in_child
from .values import WallClock, rfc3339

__all__ = ["Reporter"]

logger = logging.getLogger("backstay.resilience")

WITHIN = 1.0
_NOTHING: Mapping[str, Any] = {}


class Reporter:
    """Sends the heartbeats of one process.

        plane = Plane(HttpSource("http://:TOKEN@switches:8321/shop/production")).attach(switches)
        reporter = Reporter(plane, levels=lambda: {"database": levels.level("database")})
        plane.start()

    Guarantees: a heartbeat that fails is logged once, and the next one is sent all the same; it delays nothing that
    reads a value, and looks after planes of this process by a second at most. A forked child reports under its own
    name. Not guaranteed: that a change of a level between two heartbeats is seen.

    Args:
        plane: whose document this process runs; its source is a switch service.
        levels: level by resource, asked at each heartbeat.
        signals: what the levels were judged by, by resource; `cause` in it is shown with a change of level.
        interval: seconds between two heartbeats.
        wall: milliseconds since 1970, for the moment and the delay that are reported.

    Raises:
        Misuse: the plane's source is no switch service, or the interval is out of range.
    """

    section = "reporter"

    def __init__(
        self,
        plane: Plane,
        *,
        levels: Callable[[], Mapping[str, str]] = lambda: _NOTHING,
        signals: Callable[[], Mapping[str, Any]] = lambda: _NOTHING,
        interval: float = 10.0,
        wall: WallClock = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        if not isinstance(plane.source, HttpSource):
            raise Misuse(f"{plane.source.name} is no switch service: there is nobody to report to")
        if not 0.1 <= interval <= 600:
            raise Misuse(f"interval must be from 0.1 to 600 s, got {interval!r}")
        self.interval = interval
        self._plane = plane
        self._place = plane.source.place
        self._levels = levels
        self._signals = signals
        self._wall = wall
        self._applied_ms = 0
        self._failing = False
        self._sent = {
            result: counter("switch_service.heartbeats", "{heartbeat}", result=result) for result in ("sent", "failed")
        }
        self.renew()
        plane.attach(self)
        renew_in_child(self)
        watch(self, 0.0)

    def prepare(self, section: Mapping[str, Any]) -> Reporter:
        """Take no section: only see that a document is applied."""
        return self

    def apply(self) -> None:
        """Remember when a document came into force, and report it at once."""
        self._applied_ms = self._wall()
        wake(self)

    def undo(self) -> None:
        """Do nothing: the next report says what is in force."""

    def look(self) -> float:
        """Send a heartbeat; return in how many seconds the next one is due."""
        try:
            with self._place.ask(
                f"{self._place.prefix}/v1/instances",
                within=WITHIN,
                method="POST",
                headers={"Content-Type": "application/json"},
                body=json.dumps(self.report()).encode(),
            ) as answer:
                if answer.status != 200:
                    raise Unavailable(f"{self._place.name} answers {answer.status} to a heartbeat")
            self._sent["sent"].n += 1
            self._failing = False
        except (Unavailable, Misuse) as error:
            self._sent["failed"].n += 1
            if not self._failing:
                logger.warning("no heartbeat to the switch service; it is tried again: %s", error)
            self._failing = True
        return self.interval

    def report(self) -> dict[str, Any]:
        """Return what a heartbeat says."""
        status, held = self._plane.status(), self._plane.current
        applied = self._applied_ms
        issued_s = None if held is None or not applied else moment(held.issued_at).timestamp()
        return {
            "scope": self._place.scope,
            "instance": self.instance,
            "epoch": status.epoch,
            "version": status.version,
            "applied_at": rfc3339(applied) if applied else "",
            "state": status.state,
            "levels": dict(self._levels()),
            "signals": dict(self._signals()),
            "delay_s": None if issued_s is None else round(applied / 1000 - issued_s, 3),
        }

    def close(self) -> None:
        """Send no more heartbeats."""
        unwatch(self)

    def renew(self) -> None:
        """Take a name of its own, in a forked child as well."""
        self.instance = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"

    def __repr__(self) -> str:
        return f"Reporter({self.instance!r} to {self._place.name!r})"
