"""Names: of owners, of keys, of scripts; and the twins that must not drift apart."""

from __future__ import annotations

import inspect
import os
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import redis

import backstay.locks
from backstay.locks import (
    AsyncLease,
    AsyncLocks,
    AsyncMulti,
    AsyncMultiLease,
    AsyncMutex,
    AsyncPermits,
    AsyncReadWrite,
    AsyncReadWriteLease,
    AsyncSegmented,
    AsyncSemaphore,
    Lease,
    Locks,
    Multi,
    MultiLease,
    Mutex,
    Permits,
    ReadWrite,
    ReadWriteLease,
    Segmented,
    Semaphore,
)  # fmt: skip
from backstay.locks.backends.redis import milliseconds
from backstay.locks.backends.redis.keys import keys_of, tombstone
from backstay.locks.backends.redis.packing import pack, pack_plainly
from backstay.locks.backends.redis.scripts import RELEASE, RENEW, TAKE, WITHDRAW, load
from backstay.locks.leases.loss import AsyncLoss, Loss
from backstay.locks.owners import Owners, readable
from backstay.locks.recipes.mutex import AsyncBlock, AsyncSection, Block, Section
from backstay.locks.recipes.reentrant import AsyncReentrantMutex, ReentrantMutex


def test_R2_a_token_is_host_pid_128_random_bits_and_a_number() -> None:
    owners = Owners("web 3/eu")
    first, second = owners.token(), owners.token()
    assert re.fullmatch(rf"web-3-eu-{os.getpid()}-[0-9a-f]{{32}}-1", first)
    assert second == first[:-1] + "2"
    assert Owners("web 3/eu").token().split("-")[-2] != first.split("-")[-2]
    assert readable(first) == f"web-3-eu-{os.getpid()}"
    assert readable("foreign") == "foreign"


def test_R2_O5_a_forked_child_is_another_owner() -> None:
    owners = Owners("web")
    before = owners.prefix
    owners.forked()
    assert owners.prefix != before
    assert owners.token().endswith("-1")


def test_no_token_is_given_twice_by_threads() -> None:
    import threading

    owners = Owners("web")
    got: list[str] = []
    threads = [threading.Thread(target=lambda: got.extend(owners.token() for _ in range(5000))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(got)) == 40_000


def _hash_tag(key: str) -> str:
    """The part of a key that decides its Cluster slot, by the Redis Cluster specification."""
    start = key.find("{")
    end = key.find("}", start + 1)
    return key[start + 1 : end] if start >= 0 and end > start + 1 else key


@pytest.mark.parametrize("name", ["order:42", "{a}", "}{", "a}b{c", "100%", "%7B", "ключ", "{}", "a b\n"])
def test_R8_all_keys_of_a_lock_share_one_hash_tag(name: str) -> None:
    four = keys_of("shop", name)
    keys = (*four, tombstone(four[0], "host-1-x-1"))
    assert all(key.startswith("backstay:shop:{") for key in keys)
    assert len({_hash_tag(key) for key in keys}) == 1
    assert len(set(keys)) == 5
    assert tombstone(keys[0], "t").endswith(":gone:t")


def test_R8_different_names_never_share_a_key() -> None:
    names = ["a", "a}", "{a", "{a}", "%7Ba", "%257Ba", "a:owner", "a}:owner", "a%7D"]
    assert len({key for name in names for key in keys_of("s", name)}) == 4 * len(names)


def test_R8_scripts_use_declared_keys_only() -> None:
    for script, keys in ((TAKE, 5), (RELEASE, 4), (RENEW, 1), (WITHDRAW, 5)):
        used = {int(number) for number in re.findall(r"KEYS\[(\d)\]", script.text)}
        assert max(used) <= keys
        for call in re.findall(r"redis\.call\('(\w+)'([^)]*)\)", script.text):
            if call[0] not in ("TIME", "PUBLISH", "PUBSUB"):
                assert call[1].startswith(", KEYS["), f"{script.name}: {call} names a key of its own"
        assert script.text == load(script.name).text
        assert "--@" not in script.text


def test_lua_lives_in_files_alone() -> None:
    root = Path(str(resources.files(backstay.locks)))
    for path in root.rglob("*.py"):
        assert "redis.call(" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize(("ttl", "expected"), [(0.0001, 2), (0.0011, 3), (1.0, 1001), (1.0001, 1002), (30.0, 30001)])
def test_C11_times_to_live_are_rounded_up_to_the_servers_unit(ttl: float, expected: int) -> None:
    assert milliseconds(ttl) == expected


TWINS = [
    (Locks, AsyncLocks), (Block, AsyncBlock), (Section, AsyncSection), (Mutex, AsyncMutex), (Lease, AsyncLease),
    (Loss, AsyncLoss), (ReadWrite, AsyncReadWrite), (ReadWriteLease, AsyncReadWriteLease),
    (ReentrantMutex, AsyncReentrantMutex), (Semaphore, AsyncSemaphore), (Permits, AsyncPermits),
    (Segmented, AsyncSegmented), (Multi, AsyncMulti), (MultiLease, AsyncMultiLease),
]  # fmt: skip


@pytest.mark.parametrize("twins", TWINS, ids=lambda twins: str(twins[0].__name__))
def test_twins_have_the_same_methods_signatures_and_words(twins: tuple[type, type]) -> None:
    plain, asynchronous = twins
    swap = {"__enter__": "__aenter__", "__exit__": "__aexit__"}

    def public(cls: type) -> set[str]:
        return {name for name in vars(cls) if not name.startswith("_")} - {"forsake"}

    assert public(plain) == public(asynchronous)
    for name in public(plain) | (set(swap) & set(vars(plain))):
        mine, other = inspect.getattr_static(plain, name), inspect.getattr_static(asynchronous, swap.get(name, name))
        if not callable(getattr(mine, "__func__", mine)):
            continue
        mine, other = inspect.unwrap(getattr(mine, "__func__", mine)), inspect.unwrap(getattr(other, "__func__", other))
        ours, theirs = inspect.signature(mine), inspect.signature(other)
        assert [(p.name, p.kind, p.default) for p in ours.parameters.values()] == [
            (p.name, p.kind, p.default) for p in theirs.parameters.values()
        ], name
        assert plainly(mine.__doc__) == plainly(other.__doc__), name


def plainly(text: str | None) -> str:
    """What both colours must say; only the name of who holds differs."""
    return (text or "").replace("task", "thread")


def test_commands_are_written_alike_with_and_without_hiredis() -> None:
    make: Any = redis.Connection
    driver = make()
    for parts in (("EVALSHA", "a" * 40, 4, "ключ", "", "x y", 10_001), ("GET", "a\r\nb"), ("PING",)):
        written = b"".join(driver.pack_command(*parts))
        assert b"".join(pack(parts)) == b"".join(pack_plainly(parts)) == written
