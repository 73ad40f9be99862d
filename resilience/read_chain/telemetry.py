"""What a read chain measures (section 7.3): each read once, by where its answer was from."""

from __future__ import annotations

from typing import Any

from backstay.telemetry import Counter, Histogram, counter, histogram

__all__ = ["Reads"]

_AGES = (0.1, 1, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)


class Reads:
    """The counters of one chain. The sum of `read.results` is the number of reads."""

    def __init__(self, name: str) -> None:
        def result(source: str, stale: bool) -> Counter:
            return counter(
                "read.results", "{request}",
                resource=name, policy_name=name, policy_type="cache", source=source, stale=stale,
            )  # fmt: skip

        sources = ("origin", "distributed_cache", "local_cache", "static", "cdn", "miss")
        self.results = {(source, stale): result(source, stale) for source in sources for stale in (False, True)}
        self.local = self.results["local_cache", False]
        self.miss = self.results["miss", False]

        def fault(cause: str) -> Counter:
            return counter("read.faults", "{fault}", resource=name, policy_name=name, policy_type="cache", cause=cause)

        self.poisoned = fault("poisoned")
        self.unencodable = fault("unencodable")
        self.oversized = fault("oversized")
        self.unreachable = fault("unreachable")
        self.skipped = fault("skipped")
        self.no_time = fault("no_time")

        def refill(outcome: str) -> Counter:
            return counter(
                "read.refills", "{refill}", resource=name, policy_name=name, policy_type="cache", result=outcome
            )

        self.fetched = refill("fetched")
        self.failed = refill("failed")
        self.joined = refill("joined")
        self.interrupted = refill("interrupted")
        self.held_back = refill("held_back")

        self.age: Histogram = histogram(
            "read.age", "s", bounds=_AGES, resource=name, policy_name=name, policy_type="cache"
        )

    def served(self, answer: Any) -> None:
        """Count an answer."""
        self.results[answer.source, answer.stale].n += 1
        if answer.age is not None and answer.source != "origin":
            self.age.record(answer.age)
