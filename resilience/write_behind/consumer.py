"""Brings accepted operations from the cache to the database, each once in effect.

    read -> one SQL transaction (operation id, balance, number of the key's last operation) -> commit -> acknowledge

Whatever ends this between two steps, the entry is delivered again, and its id, unique in the database, tells that it
is there. Any number of consumers may run: the numbers of a key's operations keep their order.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Sequence
from typing import Any

from backstay.blocking import drive
from backstay.clock import Clock, monotonic
from backstay.errors import BackstayError, Misuse

from .cache import Cache
from .ledger import Applied, Failed, Ledger
from .telemetry import Sync
from .values import Entry, Status, check_text

__all__ = ["Consumer"]

logger = logging.getLogger("backstay.resilience")

_LONGEST_PAUSE = 5.0


class Consumer:
    """One worker that syncs; run it in a thread or in a process of its own.

        with WriteBehind.connect(...) as stock:
            stock.consumer().run(stop)          # stop: a threading.Event

    What is guaranteed: an entry is acknowledged only after the transaction that applied it has committed; operations
    of one key are applied in the order in which they were accepted. An entry that the database refuses `tries` times
    is parked and its key frozen, and other keys go on. While the database does not answer nothing is counted.

    Args:
        name: of this consumer; a restarted one with the same name goes on with its own entries at once.
        batch: how many entries one transaction takes.
        claim_after: seconds after which another consumer's entry counts as left behind.
        tries: how often an entry may fail.
        poll: seconds between looks while there is nothing to do.

    Raises:
        Misuse: one of them is out of range.
    """

    def __init__(
        self,
        cache: Cache,
        ledger: Ledger,
        *,
        name: str | None = None,
        batch: int = 200,
        claim_after: float = 30.0,
        tries: int = 5,
        poll: float = 0.05,
        clock: Clock = monotonic,
    ) -> None:
        for what, number in (("batch", batch), ("tries", tries)):
            given: Any = number
            if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= 10_000:
                raise Misuse(f"{what} must be a whole number from 1 to 10000, got {number!r}")
        for what, seconds in (("claim_after", claim_after), ("poll", poll)):
            given = seconds
            if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < 1e9:
                raise Misuse(f"{what} must be > 0 s, got {seconds!r}")
        self.name = check_text("name of the consumer", name or f"{socket.gethostname()}-{os.getpid()}-{id(self):x}")
        self._cache, self._ledger, self._clock = cache, ledger, clock
        self._batch, self._claim_after, self._tries, self._poll = batch, claim_after, tries, poll
        self._sync = Sync(ledger.name)
        self._holds = True  # perhaps: entries that an earlier run of this name left behind
        self._after = "0"
        self._claims_at = clock()
        self._looks_at = clock()

    @property
    def status(self) -> Status | None:
        """What the cache said last about how far the database is behind."""
        return self._sync.status

    def step(self) -> int:
        """Bring one batch over; return how many entries were acknowledged or parked.

        Raises:
            Unavailable, OutcomeUnknown: cache or database did not answer; call again.
            Misuse: one of them refuses what is asked, such as a table that is not there.
        """
        now = self._clock()
        entries: list[Entry] = []
        held: list[Entry] = []
        if self._holds:
            held = drive(self._cache.held(self.name, self._batch, self._after))
            entries += held
        if now >= self._claims_at:
            claimed = drive(self._cache.claim(self.name, self._claim_after, self._batch))
            count = len(claimed)
            self._sync.claimed.n += count
            entries += claimed
            self._claims_at = now + self._claim_after / 2
        self._holds = True  # until it is known that none of what comes now stays behind
        entries += drive(self._cache.read(self.name, self._batch))
        known = {entry.id: entry for entry in entries}
        gone = self._bring(list(known.values())) if known else 0
        self._holds = gone < len(known) or len(held) == self._batch or self._after != "0"
        # A page of entries that all wait for an earlier one must not hide that one behind it.
        self._after = held[-1].id if len(held) == self._batch and not gone else "0"
        if now >= self._looks_at or not known:
            self._sync.status = drive(self._cache.status())
            self._looks_at = now + 1.0
        return gone

    def run(self, stop: threading.Event) -> None:
        """Sync until `stop` is set; what does not answer is asked again, with longer pauses.

        Args:
            stop: set it from a signal handler or another thread; the batch under way is finished.
        """
        pause = self._poll
        while not stop.is_set():
            try:
                done = self.step()
            except BackstayError as error:
                level = logging.ERROR if isinstance(error, Misuse) else logging.WARNING
                logger.log(level, "write-behind %r: the sync waits %.1f s: %s", self._ledger.name, pause, error)
                stop.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            pause = self._poll
            if not done:
                stop.wait(self._poll)

    def _bring(self, entries: list[Entry]) -> int:
        try:
            verdicts = self._ledger.apply(entries)
        except Failed as error:
            if len(entries) == 1:
                return self._fail(entries[0], str(error))
            # One of them is poison: each by itself, in the order of the stream.
            return sum(self._bring([entry]) for entry in entries)
        return self._settle(entries, verdicts)

    def _settle(self, entries: Sequence[Entry], verdicts: Sequence[Applied]) -> int:
        applied = [entry for entry, word in zip(entries, verdicts, strict=True) if word is Applied.APPLIED]
        if applied:
            drive(self._cache.ack(applied))
        gone = len(applied)
        self._sync.applied.n += gone
        frozen = self._frozen() if Applied.WAITING in verdicts else {}
        for entry, word in zip(entries, verdicts, strict=True):
            if word is Applied.CONFLICT:
                gone += self._fail(entry, f"operation {entry.op} or its place is taken by another", final=True)
            elif word is Applied.WAITING and entry.key in frozen:
                gone += self._fail(entry, frozen[entry.key], final=True)
        return gone

    def _frozen(self) -> dict[str, str]:
        return {entry.key: reason for entry, reason in drive(self._cache.parked())}

    def _fail(self, entry: Entry, reason: str, *, final: bool = False) -> int:
        self._sync.failed.n += 1
        if not drive(self._cache.fail(entry, 1 if final else self._tries, reason[:500])):
            return 0
        self._sync.parked.n += 1
        logger.error(
            "write-behind %r: operation %s on %s is parked and the key frozen: %s",
            self._ledger.name, entry.op, entry.key, reason,
        )  # fmt: skip
        return 1
