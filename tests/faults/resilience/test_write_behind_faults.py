"""Write-behind while consumers are killed, and while Redis or the database stops or dies."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import redis

from backstay.errors import Degraded, OutcomeUnknown, Unavailable
from backstay.resilience.write_behind import Insufficient, Mismatched, WriteBehind
from backstay.resilience.write_behind.backends import redis as make
from faults.resilience.write_behind_kills import POINTS, rounds
from unit.resilience.write_behinds import Site, run

if TYPE_CHECKING:
    from servers.server import Server
    from servers.sets import Cluster, Sentinels


@pytest.fixture
def sites() -> Iterator[Callable[..., Site]]:
    with contextlib.ExitStack() as stack:

        def make(cache: str, database: str, **settings: Any) -> Site:
            return stack.enter_context(contextlib.closing(Site(cache, database, **settings)))

        yield make


@pytest.fixture
def site(redis_url: str, postgres_url: str, sites: Callable[..., Site]) -> Site:
    return sites(redis_url, postgres_url, patience=5.0)


@pytest.mark.timeout(120)
def test_WD3_kill_9_at_each_of_five_points_fifty_times(site: Site) -> None:
    assert rounds(site, 50, seed=7) == dict.fromkeys(POINTS, 10)


@pytest.mark.timeout(180)
def test_WD1_a_hundred_thousand_deductions_from_a_thousand(site: Site) -> None:
    """10^5 deductions of 1 by 32 connections: exactly 1,000 succeed, and the database ends at 0."""
    site.store("apple", 1000)
    site.plain.enter()
    cache: Any = site.plain._core.cache
    keys = cache._k("state", "balances", "seqs", "pending", "frozen", "stream")
    text = make._CHANGE.text

    def many(worker: int) -> int:
        done = 0
        with redis.Redis.from_url(site.cache) as client:
            known = client.register_script(text)
            client.script_load(text)
            for batch in range(25):
                with client.pipeline(transaction=False) as pipe:
                    for number in range(125):
                        op = f"w{worker}-{batch}-{number}"
                        pipe.evalsha(
                            known.sha,
                            7,
                            *keys,
                            f"{cache._prefix}op:{op}",
                            op,
                            "apple",
                            -1,
                            60_000,
                            0,
                            10**6,
                            10**15,
                        )
                    done += sum(reply[0] == b"done" for reply in pipe.execute())
        return done

    with ThreadPoolExecutor(32) as pool:
        assert sum(pool.map(many, range(32))) == 1000
    assert site.plain.balance("apple").balance == 0
    with pytest.raises(Insufficient):
        site.plain.deduct("one more", "apple", 1)
    site.sync()
    site.plain.leave(timeout=5)
    assert site.stored() == 0


def test_WD4_entries_survive_that_the_group_is_made_anew(site: Site) -> None:
    site.plain.enter()
    site.plain.deduct("o1", "apple", 1)
    site.plain.deduct("o2", "apple", 1)
    site.consumer._batch = 1
    assert site.consumer.step() == 1
    with redis.Redis.from_url(site.cache) as client:
        cache: Any = site.plain._core.cache
        (stream,) = cache._k("stream")
        assert client.xgroup_destroy(stream, "sync") == 1
        site.plain.deduct("o3", "apple", 1)
        assert site.sync() == 2
        assert client.xinfo_groups(stream)[0]["pending"] == 0
    site.plain.leave(timeout=0)
    assert site.stored() == 7


def ready(subject: WriteBehind) -> None:
    try:
        subject.give_back("warm-up", "pear", 1)
    except Degraded as error:
        raise Unavailable("the replicas are not there yet") from error


def working(site: Site) -> tuple[threading.Event, threading.Thread]:
    stop = threading.Event()
    thread = threading.Thread(target=site.plain.consumer(name="worker", claim_after=0.5).run, args=(stop,))
    thread.start()
    return stop, thread


def until_done(call: Callable[[], object], seconds: float = 30) -> int:
    """Repeat with the same id, as callers are told to; return how often nobody knew."""
    unknown = 0
    end = time.monotonic() + seconds
    while True:
        try:
            call()
        except (OutcomeUnknown, Unavailable) as error:
            unknown += isinstance(error, OutcomeUnknown)
            assert time.monotonic() < end
            time.sleep(0.05)
            continue
        return unknown


@pytest.mark.timeout(120)
def test_WD2_a_frozen_redis_leaves_the_outcome_unknown_and_the_same_id_decides(
    own_redis: Callable[[], Server], postgres_url: str, sites: Callable[..., Site]
) -> None:
    server = own_redis()
    site = sites(server.url, postgres_url, patience=0.3)
    site.plain.enter()
    site.plain.deduct("o0", "apple", 1)
    server.pause()
    with pytest.raises(OutcomeUnknown) as told:
        site.plain.deduct("o1", "apple", 3)
    assert told.value.ask == {"write_behind": "stock", "operation": "o1", "key": "apple", "delta": -3}
    server.unpause()
    until_done(lambda: site.plain.deduct("o1", "apple", 3))
    assert site.plain.deduct("o1", "apple", 3).left == 6
    site.sync()
    site.plain.leave(timeout=0)
    assert site.stored() == 6


@pytest.mark.timeout(120)
def test_WD7_a_killed_redis_that_writes_each_operation_to_disk_loses_none(
    own_redis: Callable[[], Server], postgres_url: str, sites: Callable[..., Site]
) -> None:
    server = own_redis()
    with redis.Redis.from_url(server.url) as client:
        client.config_set("appendonly", "yes")
        client.config_set("appendfsync", "always")
        end = time.monotonic() + 20
        while client.info("persistence")["aof_rewrite_in_progress"] or not client.info("persistence")["aof_enabled"]:
            assert time.monotonic() < end
            time.sleep(0.05)
        settings = client.config_get("dir"), client.config_get("appendonly")
    assert settings[1] == {"appendonly": "yes"}
    site = sites(server.url, postgres_url, patience=0.5)
    site.store("apple", 10_000)
    site.plain.enter()
    stop, worker = working(site)
    for number in range(100):
        site.plain.deduct(f"before{number}", "apple", 1)
    server.kill()
    with pytest.raises((Unavailable, OutcomeUnknown)):
        site.plain.deduct("during", "apple", 1)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        answers = itertools.count()
        while next(answers) < 200:
            try:
                if client.ping():
                    break
            except redis.RedisError:
                time.sleep(0.05)
    try:
        until_done(lambda: site.plain.deduct("during", "apple", 1))
    except Mismatched as error:  # the container's settings did not outlive it: say so, do not pass
        raise AssertionError(f"Redis came back empty: {settings}") from error
    for number in range(100):
        assert site.plain.deduct(f"before{number}", "apple", 1).repeated
    site.plain.leave(timeout=20)
    stop.set()
    worker.join()
    assert site.stored() == 10_000 - 101


@pytest.mark.timeout(120)
def test_WD6_a_redis_that_lost_everything_blocks_the_way_back_until_it_is_abandoned(
    own_redis: Callable[[], Server], postgres_url: str, sites: Callable[..., Site]
) -> None:
    site = sites(own_redis().url, postgres_url)
    site.plain.enter()
    site.plain.deduct("o1", "apple", 3)
    site.sync()
    site.plain.deduct("o2", "apple", 2)
    with redis.Redis.from_url(site.cache) as client:
        client.flushall()
    for step in (site.plain.enter, lambda: site.plain.leave(timeout=0), lambda: site.plain.balance("apple")):
        with pytest.raises(Mismatched, match="lost"):
            step()
    assert site.consumer.step() == 0
    site.plain.abandon()
    assert site.plain.balance("apple").balance == 7  # "o2" was in the cache only
    assert site.plain.deduct("o1", "apple", 3).repeated
    assert site.plain.enter() == 3


@pytest.mark.timeout(120)
def test_WD3_a_database_that_is_killed_stops_the_sync_and_nothing_else(
    redis_url: str, own_postgres: Callable[[], Server], sites: Callable[..., Site]
) -> None:
    server = own_postgres()
    site = sites(redis_url, server.url, patience=5.0)
    site.store("apple", 10_000)
    site.plain.enter()
    stop, worker = working(site)
    for number in range(50):
        site.plain.deduct(f"before{number}", "apple", 1)
    server.kill()
    for number in range(50):
        assert site.plain.deduct(f"during{number}", "apple", 1).source == "cache"
    assert site.plain.balance("apple").balance == 9_900
    assert site.plain.status().pending >= 50
    assert site.plain.status().parked == 0
    server.start()
    until_done(lambda: site.plain.leave(timeout=20), seconds=60)
    stop.set()
    worker.join()
    assert site.stored() == 9_900


@pytest.mark.timeout(180)
def test_WD7_what_replicas_confirmed_survives_a_failover_and_fewer_replicas_are_refused(
    own_sentinels: Sentinels, postgres_url: str, sites: Callable[..., Site]
) -> None:
    site = sites(own_sentinels.url, postgres_url, replicas=2, replicas_within=0.5)
    site.plain.enter()
    with contextlib.closing(site.another()) as another:  # replicas are connected at once, and have the data later
        until_done(lambda: ready(another))
    assert site.plain.deduct("o1", "apple", 1).left == 9
    master = own_sentinels.master()
    replica = next(server for server in own_sentinels.redis if server is not master)
    replica.pause()
    for _ in range(2):  # the second one finds the id known, and the operation still on too few servers
        with pytest.raises(OutcomeUnknown, match="of 2 replicas confirmed"):
            site.plain.deduct("o2", "apple", 1)
    replica.unpause()
    until_done(lambda: site.plain.deduct("o2", "apple", 1))
    master.kill()
    with pytest.raises((Unavailable, OutcomeUnknown)):
        site.plain.deduct("o3", "apple", 1)

    def refused() -> None:
        with pytest.raises(Degraded, match="[01] of 2 replicas are connected"):
            site.plain.deduct("o3", "apple", 1)

    until_done(refused, seconds=60)
    assert site.plain.balance("apple").balance == 8
    assert [entry.op for entry in run(site.plain._core.cache.read("first", 10))] == ["warm-up", "o1", "o2"]
    site.sync()
    until_done(lambda: site.plain.leave(timeout=5))
    assert site.stored() == 8


@pytest.mark.timeout(120)
def test_WD1_all_keys_of_one_write_behind_are_in_one_slot_of_a_cluster(
    own_cluster: Cluster, postgres_url: str, sites: Callable[..., Site]
) -> None:
    site = sites(own_cluster.url, postgres_url)
    site.plain.enter()
    site.plain.deduct("o1", "apple", 1)
    site.plain.deduct("o2", "pear", 1)
    site.sync()
    site.plain.leave(timeout=0)
    assert (site.stored(), site.stored("pear")) == (9, 4)
