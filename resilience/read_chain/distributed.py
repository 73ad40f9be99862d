"""The distributed cache as a tier: what it has, how old that is, and what may be served of it."""

from __future__ import annotations

import logging

from backstay.clock import Clock
from backstay.errors import BackstayError, Misuse, OutcomeUnknown, Rejected, Unavailable

from .answer import Found
from .backend import Shared
from .codec import ABSENT, FORGOTTEN, VALUE, Poisoned, pack, unpack
from .settings import ReadSettings, RedisTier
from .split import for_exchange
from .telemetry import Reads

__all__ = ["Distributed"]

logger = logging.getLogger("backstay.resilience")

_FORGOTTEN_FOR = 60.0  # s for which a read that began before it cannot bring back what was forgotten


class Distributed:
    """Looks and keeps. What it cannot reach, believe or write is counted, and never fails a read."""

    def __init__(self, name: str, tier: RedisTier, settings: ReadSettings, reads: Reads, clock: Clock) -> None:
        self.tier = tier
        self._name = name
        self._settings = settings
        self._reads = reads
        self._clock = clock
        self._complained = False

    def ages(self, *, absent: bool) -> tuple[float, float]:
        """Return for how long an answer is fresh, and for how long it may be served."""
        tier, limit = self.tier, self._settings.absent_for
        return (min(tier.fresh, limit), min(tier.max_stale, limit)) if absent else (tier.fresh, tier.max_stale)

    async def look(self, shared: Shared, key: str, left: float | None, *, claims: bool) -> tuple[Found | None, bool]:
        """Return what there is, if it may be served, and whether somebody else refills it.

        Args:
            shared: the make of the caller.
            key: of the answer.
            left: seconds until the caller's deadline, None for none.
            claims: whether the caller would refill it.
        """
        timeout = for_exchange(left, self.tier.budget)
        if timeout <= 0:
            self._reads.no_time.n += 1
            return None, False
        sent = self._clock()
        try:
            looked = await shared.look(key, timeout, claims=claims)
        except BackstayError as error:
            self._unreached(error)
            return None, False
        if looked.data is None:
            return None, looked.refilling
        try:
            return self._found(key, looked.data, looked.now_us, sent), looked.refilling
        except Poisoned as error:
            self._reads.poisoned.n += 1
            logger.debug("read chain %r: what is stored is %s", self._name, error)
            return None, looked.refilling

    async def keep(
        self, shared: Shared, key: str, value: object, began: float, left: float | None, *, absent: bool
    ) -> None:
        """Store an answer that the origin was asked for when it `began`."""
        tier = self.tier
        timeout, (_, lives) = for_exchange(left, tier.budget), self.ages(absent=absent)
        if lives <= 0:
            return
        if timeout <= 0:
            self._reads.no_time.n += 1
            return
        try:
            payload = tier.codec.encode(value)
        except Exception as error:
            self._reads.unencodable.n += 1
            self._complain(f"{tier.codec!r} raised {type(error).__name__}: {error}")
            return
        if len(payload) > tier.max_bytes:
            self._reads.oversized.n += 1
            return
        try:
            await shared.keep(key, pack(key, ABSENT if absent else VALUE, payload), began, timeout, lives=lives)
        except BackstayError as error:
            self._unreached(error)

    async def forget(self, shared: Shared, key: str, left: float | None) -> None:
        """Put a mark in the place of an answer.

        Raises:
            Unavailable, OutcomeUnknown, Rejected: it was not put there, or perhaps not.
        """
        timeout = max(0.001, for_exchange(left, self.tier.budget))
        await shared.keep(key, pack(key, FORGOTTEN, b""), None, timeout, lives=_FORGOTTEN_FOR)

    def _found(self, key: str, data: bytes, now_us: int, sent: float) -> Found | None:
        stored = unpack(key, data)
        age = (now_us - stored.moment_us) / 1_000_000
        if age < 0:
            raise Poisoned("from the future")
        if stored.kind == FORGOTTEN:
            return None
        absent = stored.kind == ABSENT
        fresh, usable = self.ages(absent=absent)
        if age >= usable:
            return None
        try:
            value = self.tier.codec.decode(stored.payload)
        except Exception as error:
            raise Poisoned(f"not to be decoded: {type(error).__name__}") from error
        moment = sent - age  # the server looked after the question had left: it is rather younger than that
        return Found(value, moment, "distributed_cache", moment + fresh, moment + usable, absent)

    def _unreached(self, error: BackstayError) -> None:
        if isinstance(error, Rejected):  # an open breaker, or all connections in use
            self._reads.skipped.n += 1
            return
        if not isinstance(error, Unavailable | OutcomeUnknown | Misuse):
            raise error
        self._reads.unreachable.n += 1
        if isinstance(error, Misuse):  # it will not mend itself: credentials, or a server of another kind
            self._complain(str(error))

    def _complain(self, text: str) -> None:
        if not self._complained:
            self._complained = True
            logger.warning("read chain %r does without its distributed cache: %s", self._name, text)
