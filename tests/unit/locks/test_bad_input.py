"""Bad input: a clear error at the earliest moment, nothing sent, nothing changed, no secret shown."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import redis
from redis.sentinel import Sentinel

from backstay.errors import MissingExtra, Misuse
from backstay.locks import AsyncLocks, Locks, current_lease
from backstay.locks.options import LONGEST, Terms, terms

BOTH = pytest.mark.parametrize("connect", [Locks.connect, AsyncLocks.connect])


@BOTH
@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("", "no backend URL"),
        ("localhost:6379", "no backend URL"),
        ("redis://localhost:99999/0", "port"),
        ("redis://localhost/shop", "database"),
        ("redis://localhost/0?sockettimeout=3", "no option 'sockettimeout'"),
        ("mongodb://localhost/x", "no lock backend for 'mongodb'.*memory://.*redis://"),
        ("memory://x/y", "at most a name"),
        (None, "got NoneType"),
        (42, "got int"),
    ],
)
def test_a_target_that_cannot_be_is_refused_at_once(connect: Callable[..., Any], target: Any, says: str) -> None:
    with pytest.raises(Misuse, match=says):
        connect(target)


@BOTH
def test_a_password_is_never_shown(connect: Callable[..., Any]) -> None:
    with pytest.raises(Misuse) as refused:
        connect("redis://shop:hunter2@localhost/notanumber")
    assert "hunter2" not in str(refused.value)
    locks = connect("redis://shop:hunter2@localhost/0?client_name=a")
    assert "hunter2" not in repr(locks)
    assert "hunter2" not in repr(locks._source.target)
    assert "hunter2" not in str(locks._source.target)
    client = redis.Redis(password="hunter2", username="shop")
    assert "hunter2" not in repr(connect(client))
    assert "hunter2" not in repr(connect(client)._source.target)


@BOTH
@pytest.mark.parametrize("namespace", ["", "a:b", "{x}", "a b", "x" * 65, None, 7])
def test_a_namespace_that_would_break_the_keys_is_refused(connect: Callable[..., Any], namespace: Any) -> None:
    with pytest.raises(Misuse, match="namespace"):
        connect("memory://", namespace=namespace)


@BOTH
@pytest.mark.parametrize("answer_within", [0, -1, float("nan"), 61, "2", True])
def test_a_limit_for_answers_without_sense_is_refused(connect: Callable[..., Any], answer_within: Any) -> None:
    with pytest.raises(Misuse, match="answer_within"):
        connect("memory://", answer_within=answer_within)


@BOTH
def test_clients_that_cannot_write_are_refused(connect: Callable[..., Any]) -> None:
    sentinel: Any = Sentinel
    with pytest.raises(Misuse, match="a client of replicas"):
        connect(sentinel([("localhost", 26379)]).slave_for("shop"))
    with pytest.raises(Misuse, match="not redis.sentinel.Sentinel"):
        connect(sentinel([("localhost", 26379)]))


@BOTH
@pytest.mark.parametrize("name", ["", None, 7, b"order", "x" * 513, "order:\ud800"])
def test_a_name_that_no_lock_can_have_is_refused(connect: Callable[..., Any], name: Any) -> None:
    with pytest.raises(Misuse, match="name of a lock"):
        connect("memory://").mutex(name)


@BOTH
@pytest.mark.parametrize(
    "options",
    [{"ttl": 0}, {"ttl": -1}, {"ttl": None}, {"ttl": True}, {"ttl": "10"}, {"ttl": LONGEST + 1}, {"wait": -1},
     {"wait": "5"}, {"ttl": timedelta(0)}, {"wait": timedelta(seconds=-1)}],
)  # fmt: skip
def test_C10_C11_terms_without_sense_are_refused_when_the_lock_is_made(
    connect: Callable[..., Any], options: dict[str, Any]
) -> None:
    (word,) = options
    locks = connect("memory://")
    with pytest.raises(Misuse, match=word):
        locks.mutex("x", **options)
    with pytest.raises(Misuse, match=word):
        locks.guard("x", **options)


def test_ttl_none_names_the_cure() -> None:
    with pytest.raises(Misuse, match="for ever when its holder dies; give seconds"):
        Locks.connect("memory://").mutex("x", ttl=None)  # type: ignore[arg-type]


def test_durations_may_be_timedeltas_and_wait_none_is_for_ever() -> None:
    agreed = terms(timedelta(seconds=3), None, True, False)
    assert agreed == Terms(ttl=3.0, wait=float("inf"), renew=True, raise_on_loss=False)
    assert terms(1, 0, True, True).ttl == 1.0
    with pytest.raises(Misuse):
        terms(True, 0, True, True)  # a cache that took True for 1 would let it pass


@BOTH
def test_a_misspelt_template_fails_when_decorating(connect: Callable[..., Locks | AsyncLocks]) -> None:
    locks = connect("memory://")
    with pytest.raises(Misuse, match="order_idd.*order_id"):

        @locks.guard("order:{order_idd}")
        def pay(order_id: int) -> None: ...

    with pytest.raises(Misuse, match="order_idd"):

        @locks.guard("order:{order_idd}")
        async def pay_async(order_id: int) -> None: ...


@BOTH
def test_a_generator_cannot_be_guarded(connect: Callable[..., Locks | AsyncLocks]) -> None:
    locks = connect("memory://")
    with pytest.raises(Misuse, match="generator"):

        @locks.guard("x")
        def rows() -> Any:
            yield 1

    with pytest.raises(Misuse, match="generator"):

        @locks.guard("x")
        async def rows_async() -> Any:
            yield 1


def test_current_lease_outside_a_guard_is_misuse() -> None:
    with pytest.raises(Misuse, match="guard"):
        current_lease()


@BOTH
def test_a_missing_extra_is_named(connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name for name in sys.modules if name == "redis" or name.startswith(("redis.", "backstay.locks.backends.redis"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingExtra, match=r"pip install 'backstay\[redis\]'"):
        connect("redis://localhost/0")


@pytest.mark.parametrize("demand", [{"min_replicas": 1}, {"eviction": "allow"}])
@pytest.mark.parametrize("connect", [Locks.connect, AsyncLocks.connect])
def test_R10_R11_demands_of_redis_are_refused_elsewhere(connect: Callable[..., Any], demand: dict[str, Any]) -> None:
    with pytest.raises(Misuse, match="is for a Redis"):
        connect("memory://", **demand)
    with pytest.raises(Misuse, match="must be"):
        connect("redis://localhost/0", **dict.fromkeys(demand, "wrong"))
    connect("redis://localhost/0", **demand)
