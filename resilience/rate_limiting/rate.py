"""A rate as numerator and denominator, and the two exact ways of counting time in it (RL-1).

A bucket is kept as one moment, the *theoretical arrival time* of the generic cell rate algorithm: when the
bucket will be full again if nothing more is taken. Taking a token moves it by period / count. That quotient is
rarely a whole number of nanoseconds, and a rounded one drifts, so neither clock is counted in nanoseconds:

- in memory a tick is 1/`scale` ns, with `scale` chosen so that a token is a whole number of ticks;
- on Redis, whose numbers are exact to 2^53 only, the moment is two integers: whole microseconds, and a rest in
  1/`count` microseconds. No product is ever formed there: sums of two such pairs and one carry are enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from math import gcd
from typing import Any

from backstay.errors import Misuse

from .grammar import read

__all__ = ["Rate", "Scale"]

_MOST = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How a bucket counts: ticks a second, ticks a token, ticks from empty to full."""

    second: int
    token: int
    window: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """`count` tokens every `period` seconds, at most `burst` of them saved up.

    Exact: 7 tokens every 60 seconds admit 7,000 in 60,000 seconds and not one more or less.

    Args:
        count: tokens that come back every period, at least 1.
        period: seconds, or a timedelta; a whole number of microseconds.
        burst: the bucket's size; `count` where it is not given.

    Raises:
        Misuse: a value is out of range.
    """

    count: int
    period: float | timedelta = 1.0
    burst: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("count", self.count), ("burst", self.capacity)):
            number: Any = value
            if type(number) is not int or not 1 <= number <= _MOST:
                raise Misuse(f"{name} of a rate must be a whole number from 1 to {_MOST:,}, got {number!r}")
        given: Any = self.period
        if isinstance(given, bool) or not isinstance(given, int | float | Fraction | timedelta):
            raise Misuse(f"period of a rate must be seconds or a timedelta, got {given!r}")
        if isinstance(given, float) and not 0 < given < float("inf"):
            raise Misuse(f"period of a rate must be > 0 s and finite, got {given!r}")
        period = self.period_us
        if not isinstance(given, timedelta) and abs(float(given) * 1_000_000 - period) > 0.001:
            raise Misuse(f"period of a rate must be whole microseconds, got {given!r}; 3 per 1 s is exact")
        if period < 1:
            raise Misuse(f"period of a rate must be at least 1 microsecond, got {given!r}")

    @classmethod
    def of(cls, rate: object) -> Rate:
        """Return `rate` as a Rate: it may be one, a text such as `"100/minute;burst=200"`, or an item of `limits`.

        Raises:
            Misuse: it is none of these, or the text is wrong; the text of the error names what is known.
        """
        if isinstance(rate, Rate):
            return rate
        if isinstance(rate, str):
            count, period, burst = read(rate)
            return cls(count=count, period=period, burst=burst)
        amount, expiry = getattr(rate, "amount", None), getattr(rate, "get_expiry", None)
        if isinstance(amount, int) and callable(expiry):
            return cls(count=amount, period=Fraction(expiry()))  # type: ignore[arg-type]  # exact, and checked above
        raise Misuse(f"a rate is written like '100/minute' or '7 per 60 second;burst=20', got {rate!r}")

    @property
    def capacity(self) -> int:
        """How many tokens the bucket holds."""
        return self.count if self.burst is None else self.burst

    @property
    def period_us(self) -> int:
        """The period in whole microseconds."""
        if isinstance(self.period, timedelta):
            return self.period // timedelta(microseconds=1)
        return round(self.period * 1_000_000)

    def share(self, part: float) -> Rate:
        """Return `part` of this rate: the same share of the tokens and of the burst, at least one."""
        fraction = Fraction(part).limit_denominator(10_000)
        return Rate(
            count=self.count * fraction.numerator,
            period=timedelta(microseconds=self.period_us * fraction.denominator),
            burst=max(1, int(self.capacity * fraction)),
        )

    @property
    def local(self) -> Scale:
        """The scale of a clock in nanoseconds; ticks are 1/(count / gcd) ns."""
        period_ns = self.period_us * 1000
        common = gcd(self.count, period_ns)
        token = period_ns // common
        return Scale(second=self.count // common * 1_000_000_000, token=token, window=self.capacity * token)

    @property
    def server(self) -> Scale:
        """The scale of a clock in microseconds with a rest; ticks are 1/count us."""
        period = self.period_us
        return Scale(second=self.count * 1_000_000, token=period, window=self.capacity * period)

    def split(self, tokens: int) -> tuple[int, int]:
        """Return the time of `tokens` tokens as whole microseconds and a rest in 1/count us."""
        return divmod(tokens * self.period_us, self.count)

    def __str__(self) -> str:
        whole, part = divmod(self.period_us, 1_000_000)
        period = f"{whole}" if not part else f"{whole}.{part:06d}".rstrip("0")
        rule = f"{self.count}/second" if period == "1" else f"{self.count} per {period} second"
        return rule if self.capacity == self.count else f"{rule};burst={self.capacity}"
