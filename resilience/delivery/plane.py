"""The plane: brings a scope's document to its consumers, whole or not at all, and says how fresh it is."""

from __future__ import annotations

import logging
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backstay.clock import Clock, monotonic
from backstay.errors import BackstayError, Misuse, Unavailable
from backstay.telemetry import counter, gauge

from ..forks import renew_in_child
from .connect import source_of
from .consumers import Consumers
from .envelope import Envelope, moment
from .last_known_good import LastKnownGood
from .pace import Pace
from .port import Consumer, Hear, PushSource, Source, Subscription, Told
from .replica import Replica, State
from .reports import Reporting, Reports
from .watch import unwatch, wake, watch

__all__ = ["Plane", "Status"]

logger = logging.getLogger("backstay.resilience")

_INBOX = 256
_BUSY = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How fresh a plane is.

    Attributes:
        state: `starting`, `ready`, `stale` or `error` (SW-5).
        epoch: of the document in force; 0 before the first.
        version: of the document in force; 0 before the first.
        age: seconds since the source last confirmed what is in force (SW-6).
        connected: whether the last look was answered, and a push that there should be is heard.
        problem: what is wrong, or an empty text.
    """

    state: State
    epoch: int
    version: int
    age: float
    connected: bool
    problem: str


class Plane:
    """One scope's document, brought by pull and, where the source can, by push.

        plane = Plane.connect("http://:TOKEN@switches:8321/shop/production", keep="/var/lib/shop/config.json")
        plane.attach(switches).attach(pipelines)
        plane.start()

    Guarantees: a document is checked by all consumers before any of it counts, then applied by all; only one that is
    newer than what is in force, by epoch and version; what is in force stays so through every failure. A version
    that a push told of is asked for until it is applied. Without any push a change arrives within `pull_interval`.
    Nothing that reads a value waits. Not guaranteed: that all processes change at the same moment.

    Args:
        source: where documents come from; see `connect` for URLs.
        scope: the only scope whose documents are taken; None for that of the first one.
        keep: a file for the last document that was applied, read before the source at the next start (SW-7).
        push: listen to the source as well, where it can tell of news.
        pace: intervals and limits of time.
        clock: monotonic seconds.
        chance: `uniform(low, high)`, for jitter.
        wall: seconds since 1970, which only `not_after` is held against, once a look.

    Raises:
        Misuse: `keep` is given for a source on this host, whose versions begin anew with each process.
    """

    def __init__(
        self,
        source: Source,
        *,
        scope: str | None = None,
        keep: str | Path | None = None,
        push: bool = True,
        pace: Pace | None = None,
        clock: Clock = monotonic,
        chance: Callable[[float, float], float] = random.uniform,
        wall: Clock = time.time,
    ) -> None:
        if keep is not None and source.kind in {"file", "memory"}:
            raise Misuse(f"keep is for sources elsewhere: {source.name} is on this host already; leave it out")
        self.source = source
        self.pace = pace or Pace()
        self.failure: BackstayError | None = None
        self._clock = clock
        self._chance = chance
        self._wall = wall
        self._keep = None if keep is None else LastKnownGood(keep)
        self._replica = Replica(scope=scope, grace=self.pace.grace, lag=None, clock=clock)
        self._consumers = Consumers()
        self._inbox: deque[Told] = deque(maxlen=_INBOX)
        self._push = source if push and isinstance(source, PushSource) else None
        self._subscription: Subscription | None = None
        self._ending: weakref.finalize[[], Plane] | None = None
        self._applied_at: datetime | None = None
        self._reports: Reports | None = None
        self._partial = False
        self._lapse_in: float | None = None
        self._watched = False
        self._pull_at = self._listen_at = 0.0
        self._pull_pause, self._listen_pause = self.pace.backoff(chance), self.pace.backoff(chance)
        self._stepping, self._applying = threading.Lock(), threading.Lock()
        self._results = {
            result: counter("config.applies", "{apply}", source=source.kind, result=result)
            for result in ("applied", "unchanged", "outdated", "invalid", "unavailable")
        }
        self._disk = {
            result: counter("config.applies", "{apply}", source="disk", result=result)
            for result in ("applied", "invalid", "unavailable")
        }
        gauge("config.age", "s", self._age, source=source.kind)
        gauge("config.version", "1", self._version, source=source.kind)
        gauge("config.connected", "1", self._connected, source=source.kind)
        renew_in_child(self)

    @classmethod
    def connect(
        cls,
        url: str | Path,
        *,
        scope: str | None = None,
        keep: str | Path | None = None,
        push: bool = True,
        pace: Pace | None = None,
    ) -> Plane:
        """Return the plane of a URL, such as `http://:TOKEN@host:8321/shop/production`; it asks nothing before `start`.

        Raises:
            Misuse: the URL is malformed or of a kind that no source has, or see `Plane`.
        """
        return cls(source_of(url), scope=scope, keep=keep, push=push, pace=pace)

    # --- beginning and end ---------------------------------------------------------------------------

    def attach(self, consumer: Consumer) -> Plane:
        """Have a consumer apply its section from now on; return the plane.

        What is in force is applied to it at once. If it refuses that, it keeps what it has, the plane's state is
        `error`, and the document is tried again at each look: a wrong document stops no service from starting.

        Raises:
            Misuse: there is a consumer of this section already.
        """
        with self._applying:
            self._consumers.add(consumer)
            held = self._replica.held
            if held is not None:
                try:
                    self._consumers.apply(held)
                except Misuse as error:
                    self._partial = True
                    self._complain(error, refused=True)
        return self

    def start(self, *, watched: bool = True) -> Status:
        """Begin: what is kept on disk, then the source, for at most `init_timeout` seconds; else defaults (SW-7).

        Args:
            watched: look after it from behind from now on; otherwise only `refresh` looks, and this call waits for
                the source as long as that takes.
        """
        self._load()
        if not watched:
            self.refresh()
            return self.status()
        self.begin_listening()
        failures: list[Exception] = []
        first = threading.Thread(target=self._begin, args=(failures,), name="backstay-config-start", daemon=True)
        first.start()
        first.join(self.pace.init_timeout)
        if failures:
            raise failures[0]
        if first.is_alive():
            problem = f"{self.source.name} gave no answer within {self.pace.init_timeout:g} s; it is asked on"
            self._replica.waited(problem)
            logger.warning("%s", problem)
        watch(self, 0.0)
        if isinstance(self.source, Reporting):
            self._reports = Reports(self, self.source, chance=self._chance)
            self._reports.soon()
        return self.status()

    def begin_listening(self) -> None:
        """Listen from the next look on, and promise that somebody looks: `start` and every `look` in good time."""
        self._watched = True
        self._replica.lag = self.pace.lag

    def _begin(self, failures: list[Exception]) -> None:
        try:
            self.refresh()
        except Exception as error:  # a fault of a source or consumer: raised by who starts
            failures.append(error)

    def close(self) -> None:
        """End looking and listening; what is in force stays so."""
        unwatch(self)
        if self._reports is not None:
            unwatch(self._reports)
        self._watched = False
        if self._subscription is not None:
            self._subscription.close()
        self.source.close()

    # --- looking -------------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Ask the source now; return whether a document was applied. What is wrong is reported, not raised."""
        with self._stepping:
            self._pull_at = 0.0
            return self._turn()

    def status(self) -> Status:
        """Return how fresh the plane is."""
        cursor = self._replica.cursor
        return Status(
            state=self._replica.state(),
            epoch=cursor.epoch if cursor else 0,
            version=cursor.version if cursor else 0,
            age=self._replica.age(),
            connected=bool(self._connected()),
            problem=self._replica.trouble,
        )

    @property
    def current(self) -> Envelope | None:
        """The document in force."""
        return self._replica.held

    @property
    def given(self) -> Envelope | None:
        """The document that consumers were given last, in force or not; it tells them its version."""
        return self._consumers.given

    @property
    def interval(self) -> float:
        """Seconds to the next look after one that raised."""
        return self.pace.pull_interval

    def look(self) -> float:
        """Do what is due; return in how many seconds something is due again."""
        stepping = self._stepping
        if not stepping.acquire(blocking=False):  # the start or a refresh is at it; the thread serves others as well
            return _BUSY
        try:
            self._turn()
        finally:
            stepping.release()
        return self._next()

    def _next(self) -> float:
        due = self._pull_at
        if self._push is not None:
            due = min(due, self._clock() + self.pace.listening if self._subscription is not None else self._listen_at)
        seconds = max(0.0, due - self._clock())
        return seconds if self._lapse_in is None else min(seconds, self._lapse_in)

    def _turn(self) -> bool:
        before = self._replica.cursor
        self._listen()  # before the snapshot: what is published in between is in the inbox (SW-2)
        if self._drain() or self._clock() >= self._pull_at:
            self._pull()
            self._drain()
        self._check_end()
        self._lapse_in = self._consumers.lapse()
        return self._replica.cursor != before

    def _listen(self) -> None:
        push = self._push
        if push is None or not self._watched:
            return
        now = self._clock()
        if self._subscription is not None:
            if self._subscription.alive:
                return
            self._subscription.close()
            self._subscription = None
            self._listen_at = now + self._listen_pause.pause()  # all clients lost it at the same moment (SW-10)
            self._pull_at = min(self._pull_at, self._listen_at)
        if now < self._listen_at:
            return
        try:
            self._subscription = push.subscribe(_hearing(self))
        except BackstayError as error:
            self._listen_at = self._clock() + self._listen_pause.pause()
            logger.info("%s cannot be listened to: %s", self.source.name, error)
        else:
            self._ending = weakref.finalize(self, self._subscription.close)
            self._ending.atexit = False
            self._listen_pause.reset()
            self._pull_at = 0.0  # on every reconnect the whole document (SW-4)

    def hear(self, told: Told) -> None:
        """Take news, from any thread."""
        self._inbox.append(told)
        wake(self)

    def _drain(self) -> bool:
        """Take what was told; return whether the source is to be asked."""
        ask = len(self._inbox) == _INBOX  # some may have been dropped
        while self._inbox:
            told = self._inbox.popleft()
            held = self._replica.cursor
            if held is not None and told.cursor < held:
                self._results["outdated"].n += 1
                continue
            ask |= self._replica.gap(told.cursor)
            news = self._replica.told(told.cursor)
            if told.envelope is not None:
                try:
                    self._judge(told.envelope)
                except Misuse as error:
                    self._complain(error, refused=True)
                ask |= bool(self._replica.problem)  # a push is no confirmation: only the source's answer ends trouble
            ask |= news and self._replica.behind
        return ask

    def _pull(self) -> None:
        now = self._clock()
        self._pull_at = now + self.pace.pull_interval  # should the source raise what it must not
        known = None if self._partial else self._replica.cursor
        try:
            envelope = self.source.fetch(known, 0.0)
            if envelope is None or self._judge(envelope):
                well = self._replica.confirmed()
                self._results["unchanged"].n += envelope is None
            else:
                well = False
        except Misuse as error:
            well = self._complain(error, refused=True)
        except Unavailable as error:
            well = self._complain(error, refused=False)
        if well:
            self.failure = None
            self._pull_pause.reset()
            self._pull_at = self._clock() + self._chance(0.8, 1.0) * self.pace.pull_interval
        else:
            self._pull_at = self._clock() + self._pull_pause.pause()

    def _judge(self, envelope: Envelope) -> bool:
        """Apply a document if it is newer; return whether it, or the same one, is in force now."""
        order = self._replica.weigh(envelope)
        if order == "same" and not self._partial:
            self._results["unchanged"].n += 1
            return True
        if order == "forked":
            raise Misuse(
                f"{self.source.name} has another document at version {envelope.cursor} than the one in force; "
                "publish it anew, as a higher version"
            )
        if order == "older":
            self._results["outdated"].n += 1
            self._complain(Unavailable(f"{self.source.name} answers version {envelope.cursor}, and "
                                       f"{self._replica.cursor} is in force: it is behind, or its store was put back"),
                           refused=False, counted=False)  # fmt: skip
            return False
        try:
            with self._applying:
                self._consumers.apply(envelope)
                self._partial = False
                self._replica.applied(envelope)
        except BackstayError:
            raise
        except Exception as error:
            self._replica.failed(f"applying version {envelope.cursor} failed: {error!r}", refused=True)
            raise
        self._results["applied"].n += 1
        self._applied_at = datetime.fromtimestamp(self._wall(), UTC)
        if self._reports is not None:
            self._reports.soon()
        logger.info("version %s of %s is in force", envelope.cursor, envelope.scope)
        self._save(envelope)
        return True

    def _check_end(self) -> None:
        held = self._replica.held
        ended = held is not None and held.not_after is not None and self._wall() >= moment(held.not_after).timestamp()
        problem = f"the document in force was good until {held.not_after}" if held is not None and ended else ""
        if self._replica.ended(problem) and problem:
            logger.warning("%s: %s", self.source.name, problem)

    def _complain(self, error: BackstayError, *, refused: bool, counted: bool = True) -> bool:
        if counted:
            self._results["invalid" if refused else "unavailable"].n += 1
        self.failure = error
        if self._replica.failed(str(error), refused=refused):  # once, not at every look
            logger.warning("configuration stays as it is: %s", error)
        return False

    def report(self) -> Mapping[str, Any] | None:
        """Return what this instance says of itself, or None while the source does not answer."""
        status, held, applied_at = self.status(), self._replica.held, self._applied_at
        if isinstance(self.failure, Unavailable) or self._replica.scope is None:
            return None
        levels, signals = self._consumers.tell()
        return {
            "scope": self._replica.scope,
            "epoch": status.epoch,
            "version": status.version,
            "state": status.state,
            "applied_at": applied_at.isoformat(timespec="milliseconds") if applied_at is not None else "",
            "delay_s": (applied_at - moment(held.issued_at)).total_seconds() if applied_at and held else None,
            "levels": levels,
            "signals": signals,
        }

    # --- disk ----------------------------------------------------------------------------------------

    def _load(self) -> None:
        if self._keep is None:
            return
        try:
            kept = self._keep.load()
            if kept is None:
                return
            if kept.not_after is not None and self._wall() >= moment(kept.not_after).timestamp():
                raise Misuse(f"kept document {str(self._keep.path)!r} was good until {kept.not_after}; it is left")
            self._replica.weigh(kept)
            with self._applying:
                self._consumers.apply(kept)
                self._replica.applied(kept)
            self._disk["applied"].n += 1
        except BackstayError as error:
            self._disk["unavailable" if isinstance(error, Unavailable) else "invalid"].n += 1
            logger.warning("began without the kept document: %s", error)

    def _save(self, envelope: Envelope) -> None:
        if self._keep is None:
            return
        try:
            self._keep.save(envelope)
        except Unavailable as error:
            self._disk["unavailable"].n += 1
            logger.warning("the next start would be with an older document: %s", error)

    # --- telemetry and forks -------------------------------------------------------------------------

    def _age(self) -> float:
        return self._replica.age()

    def _version(self) -> float:
        return self._replica.cursor.version if self._replica.cursor else 0.0

    def _connected(self) -> float:
        listening = (
            self._push is None or not self._watched or (self._subscription is not None and self._subscription.alive)
        )
        return float(self._replica.state() == "ready" and listening)

    def renew(self) -> None:
        """Forget threads and locks of the parent, in a forked child, and take what is held for unconfirmed."""
        self._stepping, self._applying = threading.Lock(), threading.Lock()
        self._inbox = deque(maxlen=_INBOX)
        if self._ending is not None:
            self._ending.detach()
        self._subscription = None  # the parent's: its thread is not here, its connection is not ours to end
        self._pull_at = self._listen_at = 0.0
        if self._reports is not None:
            self._reports.renew()
        self._replica.inherited()

    def __repr__(self) -> str:
        return f"Plane({self.source.name!r}, {self._replica.cursor}, {self._replica.state()})"


def _hearing(plane: Plane) -> Hear:
    """Return what hears for a plane without keeping it alive."""
    found = weakref.ref(plane)

    def hear(told: Told) -> None:
        there = found()
        if there is not None:
            there.hear(told)

    return hear
