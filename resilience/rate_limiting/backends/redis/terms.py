"""One rate in the arguments of the scripts, and their replies as balances."""

from __future__ import annotations

import hashlib
import time
from datetime import timedelta
from typing import Any

from backstay.errors import Misuse

from ...backend import Taken
from ...carry import Carry, line
from ...rate import Rate, Scale
from .wire import bulk

__all__ = ["OTHER_RATE", "Terms"]

OTHER_RATE = -2
_EXACT = 2**53
_LONGEST_KEY = 200


class Terms:
    """A rate as it was configured at one time: never changed, replaced as a whole.

    Args:
        rate: of each bucket.
        prefix: what keys begin with.
        suffix: what they end with: the closing brace, where each key is a hash tag of its own.
        lends: whether callers' clocks are lent to a server that refuses `TIME` to scripts.
        carry: what becomes of buckets that were kept under another rate.
    """

    __slots__ = ("_burst", "_tails", "_words", "carry", "lends", "prefix", "rate", "scale", "suffix", "tag")

    def __init__(
        self, rate: Rate, *, prefix: str, suffix: str = "}", lends: bool, carry: Carry = "proportional"
    ) -> None:
        window, rest = rate.split(rate.capacity)
        # The script adds two rests, and to a moment (below 2^52 us until the year 2112) at most two windows.
        if 2 * rate.count > _EXACT or 2**52 + 2 * window > _EXACT:
            raise Misuse(f"rate {rate} takes over 71 years to fill its burst, more than Redis can count exactly")
        self.rate = rate
        self.scale: Scale = rate.server
        self.prefix, self.suffix = prefix, suffix
        self.lends = lends
        self.carry: Carry = carry
        self.tag = f"{rate.count}/{rate.period_us}/{rate.capacity}"
        self._tails: dict[int, bytes] = {}
        self._words = bulk(self.tag.encode())
        self._burst = b"".join(bulk(b"%d" % number) for number in (window, rest, rate.count))

    def of(self, rate: Rate, carry: Carry) -> Terms:
        """Return the terms of another rate."""
        return Terms(rate, prefix=self.prefix, suffix=self.suffix, lends=self.lends, carry=carry)

    def key(self, key: str) -> str:
        """Return the name of a bucket on the server."""
        if len(key) > _LONGEST_KEY:
            key = hashlib.blake2b(key.encode(), digest_size=20).hexdigest()
        return f"{self.prefix}{key}{self.suffix}"

    def body(self, key: str, cost: int) -> bytes:
        """Return key and first five arguments of the hot script in the protocol."""
        return bulk(self.key(key).encode()) + self.tail(cost)

    def tail(self, cost: int) -> bytes:
        """Return the five arguments of a cost."""
        tail = self._tails.get(cost)
        if tail is None:
            whole, rest = self.rate.split(cost)
            tail = bulk(b"%d" % whole) + bulk(b"%d" % rest) + self._burst
            if len(self._tails) < 64:
                self._tails[cost] = tail
        return tail

    def six(self, cost: int) -> bytes:
        """Return the same and the rate in words, as the script of several buckets takes them."""
        return self.tail(cost) + self._words

    def refund(self, key: str, cost: int, until: int) -> bytes:
        """Return key and first arguments of the script that gives back."""
        whole, rest = self.rate.split(cost)
        numbers = b"".join(bulk(b"%d" % number) for number in (whole, rest, self.rate.count))
        return bulk(self.key(key).encode()) + numbers + self._words + bulk(b"%d" % until)

    def moment(self) -> bytes:
        """Return the caller's clock as a script takes it; 0 where the server tells its own."""
        # Lent by `time="client"`: the wall clock is the only one that processes have in common.
        return bulk(b"%d" % (time.time_ns() // 1000)) if self.lends else _SERVER_TIME

    def moment_and_rate(self) -> bytes:
        """Return the last two arguments of the hot script."""
        return self.moment() + self._words

    def balance(self, answer: list[Any]) -> int:
        """Return the balance that an answer of the hot script stands for."""
        status, tat, rem, now = answer
        balance: int = (tat - now) * self.rate.count + rem
        return balance if status == 1 else self.scale.window - balance

    def taken(self, tat: int, rem: int, now: int, ahead_us: int) -> Taken:
        """Return what became of one bucket among several, from what it has become or would have."""
        count, window = self.rate.count, self.scale.window
        balance = (tat - now) * count + rem
        due = now - (window - balance) // count
        missing = balance - window - ahead_us * count
        if missing > 0:
            balance = -missing
        return Taken(balance=balance, rate=self.rate, scale=self.scale, due=due, second=1_000_000)

    def carried(self, key: str, value: bytes, now: int) -> bytes:
        """Return the body of the script that writes a value of another rate anew.

        Args:
            key: the bucket's name on the server.
            value: as it is stored.
            now: the server's moment at which it was read.
        """
        words = value.split()
        old = _rate_of(words[3])
        missing = max(0, (int(words[0]) - max(0, int(words[2]) - now) - now) * old.count + int(words[1]))
        full = line(old, self.rate, self.carry, old.count)(missing)
        window, _ = self.rate.split(self.rate.capacity)
        stamp = now if self.lends or full > window else 0
        became = b"%d 0 %d %b" % (now + full, stamp, self.tag.encode()) if full else b""
        arguments = (value, became, b"%d" % max(1, -(-full // 1000)))
        return bulk(key.encode()) + b"".join(map(bulk, arguments))


def _rate_of(tag: bytes) -> Rate:
    count, period, burst = map(int, tag.split(b"/"))
    return Rate(count=count, period=timedelta(microseconds=period), burst=burst)


_SERVER_TIME = bulk(b"0")
