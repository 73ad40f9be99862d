"""Pains on ZooKeeper: kazoo's recipes, whose holder is cut off from the ensemble."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

from kazoo.client import KazooClient

from backstay.locks import Locks
from backstay.testing.proxy import FaultProxy
from backstay.url import parse

from .trial import Pain, Shown

CUT_OFF = 6.0  # s, beyond every session that is asked for here


def pains(url: str) -> Iterator[Pain]:
    """All that need a ZooKeeper at `url`."""
    on = _On(url)
    yield Pain(number=1, what="cut off for a session, holder never told", peer="kazoo", theirs=on.untold, ours=on.told)
    yield Pain(
        number=4, what="two leaders after an expired session", peer="kazoo", theirs=on.two_leaders, ours=on.one_leader
    )


class _On:
    """The trials, on one server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def proxy(self) -> FaultProxy:
        there = parse(self.url)
        return FaultProxy(there.host, there.port or 2181)

    def client(self, port: int) -> Any:
        client = KazooClient(hosts=f"127.0.0.1:{port}", timeout=2.0)
        client.start(timeout=10)
        return client

    def untold(self) -> Shown:
        with self.proxy() as proxy:
            client = self.client(proxy.port)
            lock = client.Lock("/pains/1")
            lock.acquire(timeout=5)
            proxy.half_open()
            time.sleep(CUT_OFF)
            still = bool(lock.is_acquired)
            proxy.heal()
            client.stop()
            client.close()
            return Shown(fault=still, seen=f"after {CUT_OFF:g} s without a server: is_acquired == {still}")

    def told(self) -> Shown:
        with self.proxy() as proxy, Locks.connect(proxy.url(self.url), namespace="pains") as locks:
            lease = locks.mutex("1", ttl=2.0).acquire()
            proxy.half_open()
            time.sleep(CUT_OFF)
            still = lease.is_valid()
            proxy.heal()
            return Shown(fault=still, seen=f"after {CUT_OFF:g} s without a server: is_valid() == {still}")

    def two_leaders(self) -> Shown:
        leading: set[str] = set()
        both = threading.Event()
        stop = threading.Event()

        def lead(name: str) -> None:
            leading.add(name)
            if len(leading) > 1:
                both.set()
            stop.wait(30.0)
            leading.discard(name)

        with self.proxy() as proxy:
            first, second = self.client(proxy.port), self.client(parse(self.url).port or 2181)
            threads = [
                threading.Thread(target=client.Election("/pains/4", name).run, args=(lead, name), daemon=True)
                for client, name in ((first, "first"), (second, "second"))
            ]
            threads[0].start()
            while not leading:
                time.sleep(0.02)
            threads[1].start()
            time.sleep(0.5)
            proxy.half_open()
            found = both.wait(CUT_OFF + 6.0)
            stop.set()
            proxy.heal()
            for client in (first, second):
                client.stop()
                client.close()
        return Shown(fault=found, seen="both bodies ran at once" if found else "one at a time")

    def one_leader(self) -> Shown:
        """The same as a lock whose holder works as long as its lease is valid."""
        spans: list[tuple[float, float]] = []

        def lead(locks: Locks, longest: float) -> None:
            with locks.mutex("4", ttl=2.0, wait=30.0, raise_on_loss=False) as lease:
                began = last = time.monotonic()
                while lease.is_valid() and last < began + longest:
                    last = time.monotonic()
                    time.sleep(0.005)
                spans.append((began, last))

        with (
            self.proxy() as proxy,
            Locks.connect(proxy.url(self.url), namespace="pains") as first,
            Locks.connect(self.url, namespace="pains") as second,
        ):
            threads = [
                threading.Thread(target=lead, args=(first, 40.0)),
                threading.Thread(target=lead, args=(second, 1.0)),
            ]
            threads[0].start()
            time.sleep(0.5)
            threads[1].start()
            time.sleep(0.5)
            proxy.half_open()
            threads[1].join(40.0)
            proxy.heal()
            threads[0].join(40.0)
        (_, stopped), (took_over, _) = sorted(spans)
        return Shown(
            fault=took_over < stopped, seen=f"the first stopped {took_over - stopped:.1f} s before the next began"
        )
