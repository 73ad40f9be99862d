"""What a hedge measures. Its `policy_type` is `retry`: an attempt that is added before the first one has failed."""

from __future__ import annotations

from collections.abc import Callable

from backstay.telemetry import Counter, Gauge, counter, gauge, updown

__all__ = ["Races"]


class Races:
    """The counters of one hedge. Calls are the sum over `result`."""

    def __init__(self, name: str, delay: Callable[[], float]) -> None:
        def calls(result: str, hedged: bool) -> Counter:
            return counter(
                "hedge.calls", "{call}",
                resource=name, policy_name=name, policy_type="retry", result=result, hedged=hedged,
            )  # fmt: skip

        def attempts(cause: str, result: str) -> Counter:
            return counter(
                "hedge.attempts", "{attempt}",
                resource=name, policy_name=name, policy_type="retry", cause=cause, result=result,
            )  # fmt: skip

        self.first = (calls("first", False), calls("first", True))
        self.hedge = calls("hedge", True)
        self.error = (calls("error", False), calls("error", True))
        self.cancelled = (calls("canceled", False), calls("canceled", True))
        self.started = {cause: attempts(cause, "started") for cause in ("delay", "failure")}
        self.budget = {cause: attempts(cause, "budget") for cause in ("delay", "failure")}
        self.abandoned = updown("hedge.abandoned", "{attempt}", resource=name, policy_name=name, policy_type="retry")
        self.delay: Gauge = gauge("hedge.delay", "s", delay, resource=name, policy_name=name, policy_type="retry")
