"""A second attempt of a read that takes too long."""

from __future__ import annotations

from typing import Any

from backstay.blocking import drive
from backstay.clock import Clock, monotonic
from backstay.errors import Misuse

from ..policy import AsyncCall, Call, Layer, Target
from .budget import Budget
from .latency import Latencies
from .pooled import Pool, Pooled
from .race import Attempts, Ended, Reason, race
from .settings import HedgeSettings
from .tasks import Tasks
from .telemetry import Races

__all__ = ["Hedge", "Pool"]


class Hedge(Layer):
    """Starts another attempt of a call that does not answer, and takes the first good answer.

    Guarantees: at most `at_most` attempts a call, and no more than `floor + budget x calls` added ones; the
    caller gets the first good answer, or the first error if all fail; every attempt runs in its own copy of the
    caller's context. Not guaranteed: that a losing attempt has no effect. On an event loop it is cancelled, on a
    thread it runs to its end; hence `idempotent=True`. What attempts set in context variables is not seen by the
    caller.

    Args:
        name: the policy's name in telemetry.
        settings: all settings at once; or give them as keywords, see `HedgeSettings`.
        pool: runs the attempts of plain functions. Give it to nobody else: a full pool delays even the first
            attempt, and functions that wait for others in the same pool can block it for good.
        clock: monotonic seconds, for the delay that follows the calls of late.

    Raises:
        Misuse: the settings are wrong or do not say `idempotent=True`; when it is put round a plain function,
            there is no pool.
    """

    kind = "hedge"

    def __init__(
        self,
        name: str,
        *,
        settings: HedgeSettings | None = None,
        pool: Pool | None = None,
        clock: Clock = monotonic,
        **options: Any,
    ) -> None:
        given: Any = name
        if not isinstance(given, str) or not given:
            raise Misuse(
                f"Hedge needs its name first, as in Hedge('prices', after=0.05, idempotent=True), got {name!r}"
            )
        if settings is not None and options:
            raise Misuse(f"hedge {name!r}: give settings= or the single options, not both")
        if pool is not None and not callable(getattr(pool, "submit", None)):
            raise Misuse(f"hedge {name!r}: pool must have submit(), as a ThreadPoolExecutor has, got {pool!r}")
        self.name = name
        self._settings = settings if settings is not None else HedgeSettings.of(options)
        self._pool = pool
        self._clock = clock
        self._budget = Budget(self._settings.budget, self._settings.floor)
        self._latencies = Latencies()
        self._races = Races(name, self._shown_delay)

    @property
    def settings(self) -> HedgeSettings:
        """The settings of now."""
        return self._settings

    def reconfigure(self, settings: HedgeSettings) -> None:
        """Hedge otherwise from the next call on; the budget and what is known of durations stay."""
        self._budget.change(settings.budget, settings.floor)
        self._settings = settings

    @property
    def delay(self) -> float | None:
        """Seconds until the second attempt; None while durations are too few to tell."""
        return self._delay(self._settings)

    def wrap(self, call: Call, target: Target) -> Call:
        """Return `call` hedged on the pool.

        Raises:
            Misuse: there is no pool.
        """
        pool = self._pool
        if pool is None:
            raise Misuse(
                f"{target.label}() is a plain function: two attempts of it need threads; "
                f"give Hedge({self.name!r}, ..., pool=ThreadPoolExecutor(...)) or hedge an `async def`"
            )
        abandoned = self._races.abandoned

        def hedged(*args: Any, **kwargs: Any) -> Any:
            rules = self._settings
            if rules.at_most == 1:
                return call(*args, **kwargs)
            return drive(self._run(Pooled(pool, call, args, kwargs, abandoned), rules))

        return hedged

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        """Return `call` hedged by tasks of the running loop."""
        abandoned = self._races.abandoned

        async def hedged(*args: Any, **kwargs: Any) -> Any:
            rules = self._settings
            if rules.at_most == 1:
                return await call(*args, **kwargs)
            return await self._run(Tasks(call, args, kwargs, abandoned), rules)

        return hedged

    async def _run(self, attempts: Attempts, rules: HedgeSettings) -> Any:
        races, budget, added = self._races, self._budget, False

        def spend(reason: Reason) -> bool:
            nonlocal added
            if not budget.spend():
                races.budget[reason].n += 1
                return False
            races.started[reason].n += 1
            added = True
            return True

        budget.earn()
        began = self._clock()
        try:
            won: Ended = await race(attempts, rules, self._delay(rules), spend)
        except Exception:
            races.error[added].n += 1
            raise
        except BaseException:
            races.cancelled[added].n += 1
            raise
        self._latencies.note(self._clock() - began)
        counted = races.first[added] if won.number == 1 else races.hedge
        counted.n += 1
        return won.value

    def _delay(self, rules: HedgeSettings) -> float | None:
        if rules.percentile is None:
            return rules.after
        found = self._latencies.percentile(rules.percentile, rules.minimum_calls)
        return rules.after if found is None else found

    def _shown_delay(self) -> float:
        delay = self.delay
        return float("nan") if delay is None else delay
