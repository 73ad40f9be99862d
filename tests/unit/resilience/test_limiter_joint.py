"""Several rules charged together, all or none (RL-6, RL-7, P5), in memory and in the shipped script, on both faces."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from backstay.errors import Misuse, RateLimited, Unavailable
from backstay.redis.slots import slot_of
from backstay.resilience import AsyncRateLimiter, Rate, RateLimiter
from backstay.resilience.rate_limiting.backend import StoreFailed
from backstay.resilience.rate_limiting.backends.memory import MemoryBuckets
from backstay.resilience.rate_limiting.backends.redis import AsyncRedisBuckets, RedisBuckets
from backstay.resilience.rate_limiting.joint import AsyncJointRateLimiter, JointRateLimiter
from backstay.testing import measured
from unit.resilience.lua_redis import LuaRedis, LuaStore

RULES = {"app": "100/minute", "user": "1/minute"}


def call(result: Any) -> Any:
    return asyncio.run(result) if inspect.iscoroutine(result) else result


class Subject:
    """Joint rules of one face and store, on a clock that the test moves."""

    def __init__(self, kept: str, colour: str, rules: dict[str, str], **options: Any) -> None:
        self.server = LuaRedis()
        rates = {rule: Rate.of(rate) for rule, rate in rules.items()}
        if kept == "memory":
            buckets: dict[str, Any] = {
                rule: MemoryBuckets(rate, clock_ns=lambda: self.server.now_us * 1000) for rule, rate in rates.items()
            }
        else:
            kind: Any = RedisBuckets if colour == "def" else AsyncRedisBuckets
            store = LuaStore(self.server)
            buckets = {
                rule: kind(store, rate, namespace="test", name="joint", rule=rule) for rule, rate in rates.items()
            }
        face: Any = JointRateLimiter if colour == "def" else AsyncJointRateLimiter
        mode, share = options.get("on_store_failure", "open"), options.get("local_share", 1.0)
        self.limits = face(buckets, f"joint-{kept}-{colour}", None, mode, share)

    def acquire(self, *args: Any) -> Any:
        return call(self.limits.acquire(*args))

    def try_acquire(self, *args: Any) -> Any:
        return call(self.limits.try_acquire(*args))


@pytest.fixture(params=["memory", "lua"])
def kept(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture(params=["def", "async def"])
def make(request: pytest.FixtureRequest, kept: str) -> Callable[..., Subject]:
    return lambda rules=None, **options: Subject(kept, request.param, rules or RULES, **options)


def test_RL6_P5_an_abuser_takes_one_token_and_99_of_99_good_users_pass(make: Callable[..., Subject]) -> None:
    subject = make()
    abuser = [subject.try_acquire({"app": "", "user": "user:0"}).allowed for _ in range(60)]
    assert sum(abuser) == 1
    good = [subject.try_acquire({"app": "", "user": f"user:{number}"}).allowed for number in range(1, 100)]
    assert sum(good) == 99
    last = subject.try_acquire({"app": "", "user": "user:100"})
    assert (last.allowed, last.rule) == (False, "app")


def test_RL6_the_rule_that_refuses_longest_is_named(make: Callable[..., Subject]) -> None:
    subject = make({"app": "10/minute", "user": "1/hour", "tenant": "100/minute"})
    keys = {"app": "", "user": "u", "tenant": "t"}
    subject.acquire(keys, {"app": 10, "user": 1, "tenant": 1})
    with pytest.raises(RateLimited) as refusal:
        subject.acquire(keys)
    assert refusal.value.rule == "user"
    assert refusal.value.retry_after == pytest.approx(3600)
    assert "over user of 1 per 3600 second" in str(refusal.value)
    decision = subject.try_acquire(keys)
    assert decision.retry_after == pytest.approx(3600)
    assert {rule: each.allowed for rule, each in decision.rules.items()} == {
        "app": False,
        "user": False,
        "tenant": True,
    }
    assert decision.rules["tenant"].remaining == 99  # would have passed, and was not charged
    assert decision.rules["app"].retry_after == pytest.approx(6)
    assert not decision


def test_RL6_a_refused_call_charges_nothing_and_None_leaves_a_rule_out(make: Callable[..., Subject]) -> None:
    subject = make({"app": "5/hour", "user": "3/hour"})
    with measured() as seen:
        subject.acquire({"app": "", "user": "u"}, 3)
        for _ in range(10):
            assert not subject.try_acquire({"app": "", "user": "u"}, 1)
        assert subject.try_acquire({"app": "", "user": None}, 2).rules["app"].remaining == 0
        assert not subject.try_acquire({"app": "", "user": None}).allowed
    assert seen.count("rate_limiter.requests", policy_name=subject.limits.name, result="acquired") == 2
    assert seen.count("rate_limiter.requests", policy_name=subject.limits.name, result="limited") == 11
    assert seen.value("rate_limiter.utilization", policy_name=f"{subject.limits.name}.app") == pytest.approx(1.0)


def test_RL6_however_many_rules_it_is_one_round_trip() -> None:
    subject = Subject("lua", "def", {f"r{number}": "100/hour" for number in range(16)})
    keys = {f"r{number}": "k" for number in range(16)}
    subject.acquire(keys)
    answers = len(subject.server.answers)
    subject.acquire(keys)
    assert len(subject.server.answers) == answers + 1
    subject.server.scripts.clear()  # SCRIPT FLUSH loses no call, and charges none twice
    assert subject.try_acquire(keys).rules["r7"].remaining == 97


def test_RL7_all_keys_of_a_group_are_declared_and_share_a_slot() -> None:
    subject = Subject("lua", "def", RULES)
    for number in range(20):
        subject.try_acquire({"app": "", "user": f"}}{{user:{number}"})
    keys = [key.decode() for key in subject.server.entries]
    assert len(keys) == 21
    assert len({slot_of(key) for key in keys}) == 1


def test_RL7_limiters_that_cannot_share_a_slot_are_refused_when_they_are_joined() -> None:
    url = "redis+cluster://127.0.0.1:7000"
    one = RateLimiter.connect(url, rate="1/hour", name="one")
    two = RateLimiter.connect(url, rate="1/hour", name="two")
    with pytest.raises(Misuse, match="different servers"):
        JointRateLimiter.of({"one": one, "two": two}, name="both")
    limits = JointRateLimiter.connect(url, rules=RULES, name="both")  # one hash tag: fine on a Cluster
    tags = {each.terms.key("k").split("}")[0].split("{")[1] for each in limits.buckets.values()}
    assert tags == {"both"}


@pytest.mark.parametrize("face", [RateLimiter, AsyncRateLimiter])
def test_RL6_limiters_that_exist_are_joined_and_keep_their_buckets(face: Any) -> None:
    app, user = (face.connect(rate="5/hour", name=f"joined-{rule}-{face.__name__}") for rule in ("app", "user"))
    kind: Any = JointRateLimiter if face is RateLimiter else AsyncJointRateLimiter
    limits = kind.of({"app": app, "user": user}, name="joined")
    call(user.acquire("u", 5))
    assert not call(limits.try_acquire({"app": "", "user": "u"}))
    assert call(limits.try_acquire({"app": "", "user": "v"}))
    assert call(app.try_acquire("")).remaining == 3


def test_RL6_threads_that_charge_in_opposite_orders_neither_hang_nor_overcharge() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        a, b = (
            RateLimiter(MemoryBuckets(Rate.of("1000/day"), clock_ns=lambda: 10**12), name=f"order-{each}")
            for each in "ab"
        )
        pairs = [JointRateLimiter.of(rules, name="order") for rules in ({"x": a, "y": b}, {"x": b, "y": a})]
        admitted = [0] * 4

        def work(place: int) -> None:
            for _ in range(600):
                if pairs[place % 2].try_acquire({"x": "k", "y": "k"}):
                    admitted[place] += 1

        threads = [threading.Thread(target=work, args=(place,), daemon=True) for place in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads)
        assert sum(admitted) == 1000
        assert a.try_acquire("k").remaining == b.try_acquire("k").remaining == 0
    finally:
        sys.setswitchinterval(interval)


def test_RL11_one_rule_changes_and_the_others_stay(make: Callable[..., Subject]) -> None:
    subject = make({"app": "10/hour", "user": "4/hour"})
    subject.acquire({"app": "", "user": "u"}, 2)
    subject.limits.reconfigure("user", "8/hour")
    decision = subject.try_acquire({"app": "", "user": "u"})
    assert decision.rules["user"].remaining == 3
    assert decision.rules["app"].remaining == 7
    assert subject.limits.rules["user"] == Rate.of("8/hour")


@pytest.mark.parametrize(
    ("mode", "allowed", "result"),
    [("open", True, "store_error_open"), ("closed", False, "store_error_closed"), ("local", True, "store_error_local")],
)
def test_RL8_joint_rules_follow_the_failure_mode(
    monkeypatch: pytest.MonkeyPatch, mode: Any, allowed: bool, result: str
) -> None:
    limits = JointRateLimiter.connect(rules={"app": "4/hour"}, name=f"dead-{mode}", on_store_failure=mode)

    def dead(steps: Any) -> Any:
        raise StoreFailed("timeout", "no answer within the budget")

    monkeypatch.setattr(limits, "_take", dead)
    with measured() as seen:
        decision = limits.try_acquire({"app": ""})
        assert (decision.allowed, decision.result) == (allowed, result)
    assert seen.count("rate_limiter.requests", result=result) == 1
    if mode == "closed":
        with pytest.raises(Unavailable, match="nothing was called"):
            limits.acquire({"app": ""})
    if mode == "local":
        with pytest.raises(RateLimited):
            limits.acquire({"app": ""}, 4)


@pytest.mark.parametrize(
    ("rules", "match"),
    [({}, "1 to 16"), ({"a b": "1/hour"}, "name of a rule"), ({"a": "often"}, "no rule"), ("app", "1 to 16")],
)
def test_wrong_rules_are_refused_at_configuration(rules: Any, match: str) -> None:
    with pytest.raises(Misuse, match=match):
        JointRateLimiter.connect(rules=rules, name="wrong")


def test_limiters_that_cannot_be_joined_are_refused() -> None:
    here = RateLimiter.connect(rate="1/hour", name="join-here")
    there = RateLimiter.connect("redis://127.0.0.1:1", rate="1/hour", name="join-there")
    with pytest.raises(Misuse, match="one store"):
        JointRateLimiter.of({"a": here, "b": there}, name="mixed")
    with pytest.raises(Misuse, match="twice"):
        JointRateLimiter.of({"a": here, "b": here}, name="twice")


@pytest.mark.parametrize(
    ("keys", "cost", "match"),
    [
        ({"app": ""}, 1, "no key for 'user'"),
        ({"app": "", "user": "u", "tenant": "t"}, 1, "unknown rule 'tenant'; known: app, user"),
        ({"app": "", "user": 7}, 1, "must be a str"),
        ({"app": "", "user": "u"}, 2, "raise the burst"),
        ({"app": "", "user": "u"}, {"nobody": 1}, "unknown rule 'nobody'"),
        ({"app": None, "user": None}, 1, "every rule is left out"),
    ],
)
def test_bad_input_names_the_cure_and_charges_nothing(
    make: Callable[..., Subject], keys: Any, cost: Any, match: str
) -> None:
    subject = make()
    with pytest.raises(Misuse, match=match):
        subject.acquire(keys, cost)
    assert subject.try_acquire({"app": "", "user": "u"}).rules["app"].remaining == 99
