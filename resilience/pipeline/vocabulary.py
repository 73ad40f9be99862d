"""The words of `protect` and of documents: which policy each stands for, and how it is made and changed.

Policies are imported when a word is first used, so that a service pays for what it has.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from backstay.errors import Misuse

from ..policy import Policy
from ..switches.switches import Switches

__all__ = ["WORDS", "Word", "word_of"]

Make: TypeAlias = "Callable[[Word, str, Any, Switches | None], Policy]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One policy of the vocabulary.

    Attributes:
        name: as it is written.
        module: where the policy is, below `backstay.resilience`.
        policy: the class.
        own_settings: the class of its settings; empty where there is nothing that could change while it runs.
        of: makes the policy from a name, a value and the switches.
    """

    name: str
    module: str
    policy: str
    own_settings: str
    of: Make

    @property
    def kind(self) -> str:
        """The place of its policies."""
        kind: str = self.load(self.policy).kind
        return kind

    def load(self, name: str) -> Any:
        """Return a class of its module."""
        return getattr(importlib.import_module(f"backstay.resilience.{self.module}"), name)

    def settings(self, value: Any, what: str) -> Any:
        """Return the settings that `value` stands for, or None where there are none.

        Raises:
            Misuse: it stands for none; `what` is named.
        """
        if not self.own_settings:
            return None
        try:
            return self.load(self.own_settings).of(value)
        except Misuse as error:
            raise Misuse(f"{what}: {error}") from error

    def make(self, name: str, value: Any, switches: Switches | None) -> Policy:
        """Return a new policy.

        Raises:
            Misuse: the value stands for none.
        """
        return self.of(self, name, value, switches)


def word_of(policy: Policy) -> Word | None:
    """Return the word that stands for policies of this class, if there is one."""
    return next((word for word in WORDS.values() if _is_of(policy, word)), None)


def _is_of(policy: object, word: Word) -> bool:
    kind = cast("type[Any]", policy.__class__)
    package = word.module.partition(".")[0]
    return kind.__name__ == word.policy and kind.__module__.startswith(f"backstay.resilience.{package}.")


def _by_settings(word: Word, name: str, value: Any, switches: Switches | None) -> Policy:
    policy: Policy = word.load(word.policy)(name, settings=word.settings(value, f"{word.name} of {name!r}"))
    return policy


def _switch(word: Word, name: str, value: Any, switches: Switches | None) -> Policy:
    if not isinstance(value, str):
        raise Misuse(f"switch is the name of a switch, got {value!r:.80}")
    if switches is None:
        raise Misuse(f"switch {value!r} needs switches=, the Switches that it is in")
    policy: Policy = word.load(word.policy)(switches, value)
    return policy


_TABLE = (
    ("switch", "switches.policy", "SwitchPolicy", "", _switch),
    ("fallback", "fallback", "Fallback", "FallbackSettings", _by_settings),
    ("limit", "rate_limiting.policy", "RateLimit", "RateLimitSettings", _by_settings),
    ("guard", "system_guard", "SystemGuard", "GuardSettings", _by_settings),
    ("timeout", "timeout", "Timeout", "TimeoutSettings", _by_settings),
    ("deadline", "timeout", "Deadline", "TimeoutSettings", _by_settings),
    ("retry", "retry", "Retry", "RetrySettings", _by_settings),
    ("hedge", "hedge", "Hedge", "HedgeSettings", _by_settings),
    ("breaker", "circuit_breaker", "CircuitBreaker", "BreakerSettings", _by_settings),
    ("attempt_timeout", "timeout", "AttemptTimeout", "TimeoutSettings", _by_settings),
    ("concurrency", "concurrency_limit", "ConcurrencyLimit", "ConcurrencySettings", _by_settings),
    ("bulkhead", "bulkhead", "Bulkhead", "BulkheadSettings", _by_settings),
    ("thread_pool", "bulkhead", "ThreadPool", "ThreadPoolSettings", _by_settings),
)

WORDS: Mapping[str, Word] = {
    name: Word(name=name, module=module, policy=policy, own_settings=settings, of=cast("Make", of))
    for name, module, policy, settings, of in _TABLE
}
"""The vocabulary, in the default order."""
