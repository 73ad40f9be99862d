"""Servers that load the application and then fork: what the parent holds stays the parent's, and children lock (O5)."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from backstay.locks import LockLost, Locks

ROOT = Path(__file__).parents[3]
OWNER = "backstay:prefork:{boot}:owner"

SHOP = """
    import os, time
    import redis
    from backstay.locks import LockLost, Locks

    URL = os.environ["SHOP_REDIS"]
    locks = Locks.connect(URL, namespace="prefork")
    boot = locks.mutex("boot", ttl=60.0, wait=0.0).acquire()  # before the fork: connections, a keeper, a lease
    with locks.mutex("stock"):
        pass
    client = None


    def sell():
        # Reads, thinks and writes: without a lock sales get lost.
        global client
        client = client or redis.Redis.from_url(URL)
        with locks.mutex("stock", ttl=10.0, wait=30.0) as lease:
            sold = int(client.get("sold") or 0)
            time.sleep(0.002)
            client.set("sold", sold + 1)
            client.sadd("sellers", os.getpid())
            client.sadd("tokens", lease.token)
        try:
            boot.release()
        except LockLost as lost:
            client.sadd("boot", lost.reason)
        client.incr("done")
"""


def until(condition: Callable[[], bool], timeout: float = 40.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


@pytest.fixture
def server(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


class Served:
    """A server's process with the application above; it ends with the test."""

    def __init__(self, folder: Path, url: str, extra: str, *command: str) -> None:
        (folder / "shop.py").write_text(textwrap.dedent(SHOP) + textwrap.dedent(extra))
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=folder,
                env={**os.environ, "SHOP_REDIS": url, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=15.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def check(server: Any, master: int, sales: int, workers: int) -> None:
    assert int(server.get("sold")) == sales, "two were in the stock at once"
    sellers = {int(pid) for pid in server.smembers("sellers")}
    assert master not in sellers
    assert 2 <= len(sellers) <= workers, "several workers sold"
    assert {int(token.split("-")[-3]) for token in server.smembers("tokens")} == sellers, "each is an owner of its own"
    assert server.smembers("boot") == {"forked"}, "the children's releases of the parent's lease never left them"
    assert int(server.get(OWNER).split("-")[-3]) == master, "the parent still holds it"


def test_O5_gunicorn_preloads_and_forks(redis_url: str, server: Any, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    extra = """
        def application(environ, start_response):
            sell()
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"sold"]
    """
    command = ("gunicorn", "--preload", "--workers", "3", "--bind", f"127.0.0.1:{port}", "--no-control-socket", "shop")

    def buy(_: int) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=40.0) as answer:
            return bytes(answer.read())

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    with Served(tmp_path, redis_url, extra, *command) as served, ThreadPoolExecutor(12) as buyers:
        until(lambda: listens() or served.process.poll() is not None)
        assert served.process.poll() is None, served.log.read_text()
        assert set(buyers.map(buy, range(60))) == {b"sold"}
        check(server, served.process.pid, 60, 3)
        killed = int(server.srandmember("sellers"))
        os.kill(killed, signal.SIGKILL)  # gunicorn forks another from the same master
        until(lambda: not Path(f"/proc/{killed}").exists())
        server.delete("sellers", "tokens")
        assert set(buyers.map(buy, range(30))) == {b"sold"}
        assert int(server.get("sold")) == 90
        assert int(server.get(OWNER).split("-")[-3]) == served.process.pid


def test_O5_celery_prefork(redis_url: str, server: Any, tmp_path: Path) -> None:
    extra = """
        from celery import Celery

        app = Celery("shop", broker=URL)
        app.conf.broker_connection_retry_on_startup = True


        @app.task(name="sell")
        def sell_one():
            sell()
    """
    from celery import Celery  # type: ignore[import-untyped]  # it ships no types

    command = ("celery", "-A", "shop", "worker", "--pool", "prefork", "--concurrency", "3", "--without-gossip")
    with Served(tmp_path, redis_url, extra, *command, "--without-mingle", "--prefetch-multiplier", "1") as served:
        with Celery("orders", broker=redis_url, set_as_current=False) as orders:
            for _ in range(60):
                orders.send_task("sell")
        until(lambda: int(server.get("done") or 0) == 60 or served.process.poll() is not None)
        assert served.process.poll() is None, served.log.read_text()
        check(server, served.process.pid, 60, 3)


def _sell(url: str, locks: Locks, lease: Any, turns: int) -> None:
    with pytest.raises(LockLost, match="parent"):
        lease.release()
    with redis.Redis.from_url(url) as client:
        for _ in range(turns):
            with locks.mutex("stock", wait=30.0):
                sold = int(client.get("sold") or 0)
                client.set("sold", sold + 1)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_O5_multiprocessing(method: str, redis_url: str, server: Any) -> None:
    context: Any = multiprocessing.get_context(method)
    with Locks.connect(redis_url, namespace="prefork") as locks:
        lease = locks.mutex("boot", ttl=30.0).acquire()
        if method == "fork":
            children: list[Any] = [context.Process(target=_sell, args=(redis_url, locks, lease, 20)) for _ in range(4)]
        else:  # nothing is inherited: each child connects by itself
            children = [context.Process(target=_sell_alone, args=(redis_url, 20)) for _ in range(2)]
        for child in children:
            child.start()
        for child in children:
            child.join(60.0)
        assert [child.exitcode for child in children] == [0] * len(children)
        assert int(server.get("sold")) == 20 * len(children)
        lease.check()
        assert server.get(OWNER) == f"{lease.token}|{lease.fence}"
        lease.release()


def _sell_alone(url: str, turns: int) -> None:
    with Locks.connect(url, namespace="prefork") as locks, redis.Redis.from_url(url) as client:
        for _ in range(turns):
            with locks.mutex("stock", wait=30.0):
                sold = int(client.get("sold") or 0)
                client.set("sold", sold + 1)
