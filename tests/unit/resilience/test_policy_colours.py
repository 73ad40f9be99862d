"""A coroutine that comes out of something that is no `async def` is found out before a policy calls it a success."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from backstay.errors import Misuse
from backstay.resilience.circuit_breaker import CircuitBreaker
from backstay.resilience.pipeline.vocabulary import WORDS
from backstay.resilience.policy.colours import may_return_a_coroutine
from backstay.testing import measured


async def work() -> str:
    return "done"


def by_hand() -> Awaitable[str]:
    return work()


@functools.wraps(work)
def wrapper(*args: Any, **kwargs: Any) -> Any:
    return work(*args, **kwargs)


class Callback:
    def __call__(self) -> Any:
        return work()

    def method(self) -> Awaitable[str]:
        return work()


DISGUISES: dict[str, Callable[[], Any]] = {
    "lambda": lambda: work(),  # noqa: PLW0108  # the disguise
    "partial": functools.partial(lambda make: make(), work),
    "object": Callback(),
    "annotated": by_hand,
    "method": Callback().method,
    "wrapper": wrapper,
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_AS2_a_lone_breaker_counts_no_success_for_a_coroutine_that_never_ran(disguise: str) -> None:
    name = f"disguised-{disguise}"
    with measured() as seen, pytest.raises(Misuse, match="protect the `async def` itself"):
        CircuitBreaker(name)(DISGUISES[disguise])()
    assert seen.count("circuit_breaker.calls", policy_name=name, result="success") == 0


POLICIES: dict[str, Any] = {"bulkhead": 2, "deadline": 5, "retry": 3, "breaker": True, "concurrency": True}


def policy_of(word: str) -> Any:
    return WORDS[word].make(f"lone-{word}", POLICIES[word], None)


@pytest.mark.parametrize("policy", POLICIES)
def test_AS2_every_lone_policy_finds_a_coroutine_out(policy: str) -> None:
    with pytest.raises(Misuse, match="returned a coroutine"):
        policy_of(policy)(functools.partial(lambda make: make(), work))()


def test_what_is_watched_and_what_costs_nothing_more() -> None:
    def plain() -> int:
        return 7

    assert not may_return_a_coroutine(plain)
    assert all(may_return_a_coroutine(each) for each in DISGUISES.values())
    assert CircuitBreaker("watched")(lambda: 7)() == 7
    assert CircuitBreaker("watched")(functools.partial(int, "7"))() == 7
