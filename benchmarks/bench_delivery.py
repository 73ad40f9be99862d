"""Delivery: a read, a pinned read, and how long a change takes to one subscriber and to a thousand.

The floor of a delay is the budget that the criterion gives (SW-4: 50 ms to one subscriber, p99 below 1 s to 1,000), so
a ratio of 0.10 reads as a tenth of the budget. A subscriber has the change when its switch reads it, or, on a stream
of the service, when the event is there.
"""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from backstay.resilience import Switches
from backstay.resilience.delivery.pace import Pace
from backstay.resilience.delivery.plane import Plane
from backstay.resilience.delivery.sources.http import HttpSource
from backstay.resilience.delivery.sources.memory import MemorySource

from .harness import Case

SCOPE = "shop/production"
MANY = 1000


def cases() -> Iterator[Case]:
    yield from _reads()
    yield _delay("memory, push to one plane, of 50 ms", 0.05, _Local(1).p99)
    yield _delay("memory, push to 1,000 planes, p99, of 1 s", 1.0, _Local(MANY).p99)
    with tempfile.TemporaryDirectory() as folder:
        service = _Service(folder)
        try:
            yield _delay("service, PATCH to switch read, of 50 ms", 0.05, service.one)
            yield _delay("service, PATCH to 1,000 streams, p99, of 1 s", 1.0, service.many)
        finally:
            service.close()


def _delay(name: str, budget: float, ours: Callable[[int], float]) -> Case:
    return Case(name=name, floor=lambda count: budget * count, ours=ours, target=1.0, timed=True)


def _reads() -> Iterator[Case]:
    switches = Switches.connect("memory://", defaults={"catalogue": True}, interval=None)
    other = Switches.connect("memory://", defaults={"catalogue": True}, interval=None)
    enabled, pinned = switches.enabled, other.enabled

    def passing(*args: Any, **kwargs: Any) -> Any:
        return _work(*args, **kwargs)

    def floor() -> Any:
        return passing("catalogue")

    yield Case(name="a switch is read", floor=floor, ours=lambda: enabled("catalogue"), target=1.5, clock="cpu")
    with other.pinned():
        yield Case(
            name="a switch is read in a pinned request", floor=floor, ours=lambda: pinned("catalogue"), clock="cpu"
        )


def _work(name: str) -> int:
    return 1


def _p99(delays: list[float]) -> float:
    return sorted(delays)[int(len(delays) * 0.99)] if len(delays) > 1 else delays[0]


class _Noting:
    """A consumer that notes when it got a document."""

    section = "switches"

    def __init__(self, noted: Callable[[], None]) -> None:
        self.noted = noted

    def prepare(self, section: Any) -> _Noting:
        return self

    def apply(self) -> None:
        self.noted()

    def undo(self) -> None:
        raise AssertionError("nothing is taken back here")


class _Local:
    """Planes of this process on one source."""

    def __init__(self, number: int) -> None:
        self.source = MemorySource({"number": True})
        self.delays: list[float] = []
        self.began = 0.0
        self.all = threading.Event()
        self.number = number
        self.planes = [Plane(self.source, pace=Pace(pull_interval=3600)) for _ in range(number)]
        for plane in self.planes:
            plane.attach(_Noting(self.noted)).start()

    def noted(self) -> None:
        self.delays.append(time.perf_counter() - self.began)
        if len(self.delays) >= self.number:
            self.all.set()

    def p99(self, count: int) -> float:
        total = 0.0
        for _ in range(count):
            self.delays.clear()
            self.all.clear()
            self.began = time.perf_counter()
            self.source.publish({"number": True})
            if not self.all.wait(30):
                raise AssertionError(f"{len(self.delays)} of {self.number} got the document")
            total += _p99(self.delays)
        return total


class _Service:
    """The switch service as a process, one plane on it, and a thousand streams."""

    def __init__(self, folder: str) -> None:
        command = [sys.executable, "-c", "from backstay.cli import main; main()", "switches", "serve"]
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
        command += ["--port", str(self.port), "--store", f"sqlite:///{folder}/switches.db", "--log-level", "warning"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        token, url = "", f"http://127.0.0.1:{self.port}"
        assert self.process.stdout is not None
        for line in self.process.stdout:
            token = found[0] if (found := re.search(r"bst_\S+", line)) else token
            if line.startswith("serving on"):
                break
        until = time.monotonic() + 20
        while not self._listens() and time.monotonic() < until:
            time.sleep(0.02)
        self.token = token
        self.client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=15)
        self.version = 0
        self.publish()
        self.plane = Plane(HttpSource(f"{url}/{SCOPE}", token=token), pace=Pace(pull_interval=3600))
        self.switches = Switches(self.plane)
        self.plane.start()

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def publish(self) -> None:
        changes = [{"section": "switches", "name": "odd", "value": self.version % 2 == 0}]
        answer = self.client.patch(
            f"/v1/config/{SCOPE}", json={"base": self.version, "reason": "bench", "changes": changes}
        )
        self.version = answer.raise_for_status().json()["version"]

    def one(self, count: int) -> float:
        total = 0.0
        for _ in range(count):
            began = time.perf_counter()
            self.publish()
            while self.switches.snapshot().version != self.version:
                time.sleep(0.0002)
            total += time.perf_counter() - began
        return total

    def many(self, count: int) -> float:
        return sum(asyncio.run(self._streams()) for _ in range(count))

    async def _streams(self) -> float:
        head = (
            f"GET /v1/config/{SCOPE}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.token}\r\n\r\n".encode()
        )
        ready = asyncio.Semaphore(0)

        async def listen() -> float:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(head)
                await reader.readuntil(b"event: ")
                ready.release()
                await reader.readuntil(f'"version":{self.version + 1},'.encode())
                return time.perf_counter()
            finally:
                writer.close()

        streams = [asyncio.create_task(listen()) for _ in range(MANY)]
        for _ in range(MANY):
            await asyncio.wait_for(ready.acquire(), 60)
        version, began = self.version, time.perf_counter()
        await asyncio.to_thread(self._publish_once, version)
        got = await asyncio.wait_for(asyncio.gather(*streams), 60)
        self.version = version + 1
        return _p99([moment - began for moment in got])

    def _publish_once(self, version: int) -> None:
        self.publish()
        self.version = version  # streams look for the next one until all have it

    def close(self) -> None:
        self.plane.close()
        self.client.close()
        self.process.terminate()
        self.process.wait(15)
        assert self.process.stdout is not None
        self.process.stdout.close()
