"""`backstay locks` on a real Redis, as an operator types it."""

from __future__ import annotations

import json
import uuid

import pytest
from typer.testing import CliRunner

from backstay.errors import Misuse
from backstay.locks import Locks
from backstay.locks.cli import app


@pytest.fixture
def space() -> str:
    return uuid.uuid4().hex


def run(url: str, space: str, *args: str, typed: str = "", code: int = 0) -> str:
    environment = {"BACKSTAY_LOCKS_URL": url, "BACKSTAY_LOCKS_NAMESPACE": space}
    result = CliRunner().invoke(app, list(args), env=environment, input=typed, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def test_list_and_show_say_who_what_and_since_when(redis_url: str, space: str) -> None:
    with Locks.connect(redis_url, namespace=space) as locks:
        lease = locks.mutex("order:42").acquire()
        writer = locks.read_write("catalogue").write().acquire()
        permits = locks.semaphore("gpu", permits=4).acquire(3)
        stripes = locks.segmented("stock", segments=8).lock("apple").acquire()
        text = run(redis_url, space, "list")
        for word in (
            "4 held",
            "order:42",
            "catalogue",
            "gpu",
            "stock",
            str(lease.fence),
            lease.token.rsplit("-", 2)[0],
        ):
            assert word in text
        assert "write" in run(redis_url, space, "show", "catalogue", "--kind", "read-write")
        assert "3 permits" in run(redis_url, space, "show", "gpu", "--kind", "semaphore")
        assert "stripes " in run(redis_url, space, "show", "stock", "--kind", "segmented-lock")
        found = json.loads(run(redis_url, space, "list", "--json"))
        assert {each["kind"] for each in found} == {"lock", "read-write lock", "semaphore", "segmented lock"}
        shown = json.loads(run(redis_url, space, "show", "order:42", "--json"))
        (holder,) = shown["holders"]
        assert (holder["token"], holder["fence"]) == (lease.token, lease.fence)
        assert 0.0 <= holder["age"] < 60.0
        assert 0.0 < holder["left"] <= 10.1
        assert "0 held" in run(redis_url, space, "list", "--waiting")
        for each in (lease, writer, permits, stripes):
            each.release()


def test_break_asks_first_ends_the_grant_and_leaves_a_record(redis_url: str, space: str) -> None:
    with Locks.connect(redis_url, namespace=space) as locks:
        lease = locks.mutex("order:42", ttl=0.6).acquire()
        asked = run(redis_url, space, "break", "order:42", "--reason", "it hangs", typed="n\n", code=1)
        assert "It may still be working" in asked
        lease.check()
        done = run(redis_url, space, "break", "order:42", "--reason", "it hangs", "--by", "alice", "--yes")
        assert "1 broken" in done
        locks.mutex("order:42", wait=0.0).acquire().release()
        assert lease.lost.wait(5.0)
        record = run(redis_url, space, "breaks")
        for word in ("alice", "it hangs", "order:42", str(lease.fence)):
            assert word in record
    assert "not held" in run(redis_url, space, "break", "order:42", "--reason", "again", "--yes", code=1)


def test_watch_looks_again(redis_url: str, space: str) -> None:
    with Locks.connect(redis_url, namespace=space) as locks, locks.mutex("order:42"):
        assert "order:42" in run(redis_url, space, "watch", "--every", "0.1", "--looks", "2")


def test_without_a_store_it_says_what_to_give() -> None:
    with pytest.raises(Misuse, match="BACKSTAY_LOCKS_URL"):
        CliRunner().invoke(app, ["list"], env={"BACKSTAY_LOCKS_URL": None}, catch_exceptions=False)
