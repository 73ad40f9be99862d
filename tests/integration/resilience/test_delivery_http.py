"""Delivery over real HTTP: entity tags, streams, polls; a service frozen, killed, slow (SW-4 to SW-12)."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backstay.errors import Misuse, Unavailable
from backstay.resilience.delivery.connect import source_of
from backstay.resilience.delivery.envelope import Cursor
from backstay.resilience.delivery.pace import Pace
from backstay.resilience.delivery.plane import Plane
from backstay.resilience.delivery.sources.http import HttpSource
from unit.resilience.delivery.scripted import Keeping, sealed

SERVER = Path(__file__).with_name("delivery_server.py")
FAST = Pace(pull_interval=0.5, grace=1.5, first_retry=0.1, longest_retry=0.4, init_timeout=2)


def wait_for(condition: Callable[[], object], seconds: float = 8.0) -> bool:
    until, event = time.monotonic() + seconds, threading.Event()
    while not condition():
        if time.monotonic() > until:
            return False
        event.wait(0.005)
    return True


class Server:
    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, str(SERVER), str(self.port)])
        assert wait_for(self.answers, 20)

    def answers(self) -> bool:
        try:
            self.counts()
        except OSError:
            return False
        return True

    def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path, body)
            return connection.getresponse().read()
        finally:
            connection.close()

    def publish(self, version: int, **options: Any) -> None:
        self.ask("PUT", "/test/document", sealed(version, **options).to_bytes())

    def faults(self, **faults: Any) -> None:
        self.ask("PUT", "/test/faults", json.dumps(faults).encode())

    def counts(self) -> dict[str, int]:
        return dict(json.loads(self.ask("GET", "/test/counts")))

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    @property
    def url(self) -> str:
        return f"http://:reader-token@127.0.0.1:{self.port}/shop/production"


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    server = Server()
    yield server
    server.kill()


@pytest.fixture
def server(running: Server) -> Server:
    running.faults()
    running.publish(1)
    return running


def connected(server: Server, **options: Any) -> tuple[Plane, Keeping]:
    keeping = Keeping()
    source = HttpSource(server.url, heartbeat=0.2, timeout=0.5, **options)
    plane = Plane(source, scope=source.scope, pace=FAST).attach(keeping)
    plane.start()
    return plane, keeping


# --- pull --------------------------------------------------------------------------------------------


def test_SW10_a_pull_of_what_is_known_costs_no_document(server: Server) -> None:
    source = HttpSource(server.url)
    before = server.counts()
    first = source.fetch(None, 0.0)
    assert first == sealed(1)
    for _ in range(3):
        assert source.fetch(Cursor(1, 1), 0.0) is None
    after = server.counts()
    assert (after["full"] - before["full"], after["unchanged"] - before["unchanged"]) == (1, 3)
    server.publish(2)
    assert source.fetch(Cursor(1, 1), 0.0) == sealed(2)
    assert source.fetch(Cursor(1, 1), 0.0) == sealed(2)  # not applied: it is given again (SW-3)


def test_SW10_a_long_poll_ends_at_once_when_there_is_news(server: Server) -> None:
    source = HttpSource(server.url)
    source.fetch(None, 0.0)
    threading.Timer(0.2, server.publish, [2]).start()
    began = time.monotonic()
    assert source.fetch(Cursor(1, 1), 5.0) == sealed(2)
    assert time.monotonic() - began < 2
    assert source.fetch(Cursor(1, 2), 0.2) is None


def test_SW1_the_same_version_with_another_content_is_told_at_every_pull(server: Server) -> None:
    plane, keeping = connected(server)
    server.publish(1, other=True)
    for _ in range(3):
        plane.refresh()
        assert plane.status().state == "error"
    assert keeping.now == {"number": 1}
    plane.close()


@pytest.mark.parametrize(
    ("faults", "error", "told"),
    [
        ({"status": 503}, Unavailable, "answers 503"),
        ({"status": 404}, Unavailable, "publish a first one"),
        ({"status": 403}, Misuse, "refuses the token"),
        ({"status": 302}, Misuse, "redirects are not followed"),
        ({"truncate": True}, Misuse, "truncated"),
        ({"drip": True}, Unavailable, "broke off"),
    ],
)
def test_SW12_answers_that_are_no_document(
    server: Server, faults: dict[str, Any], error: type[Exception], told: str
) -> None:
    server.faults(**faults)
    began = time.monotonic()
    with pytest.raises(error, match=told):
        HttpSource(server.url, timeout=0.5).fetch(None, 0.0)
    assert time.monotonic() - began < 2  # a server that drips as well


def test_the_token_is_nowhere_to_be_seen(server: Server) -> None:
    source = source_of(server.url)
    assert "reader-token" not in f"{source.name} {Plane(source)!r}"
    with pytest.raises(Misuse, match="refuses the token") as refused:
        HttpSource(server.url, token="another").fetch(None, 0.0)
    assert "another" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:80", "http://127.0.0.1/shop", "http:///shop/production"])
def test_a_url_without_host_or_scope_is_told(url: str) -> None:
    with pytest.raises(Misuse, match="like http://host:8321/shop/production"):
        HttpSource(url)


# --- push --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("push", ["events", "poll"])
def test_SW4_a_push_brings_a_change_at_once(server: Server, push: str) -> None:
    keeping = Keeping()
    plane = Plane(HttpSource(server.url, push=push), pace=Pace(pull_interval=60))  # type: ignore[arg-type]  # a text
    assert plane.attach(keeping).start().connected
    delays: list[float] = []
    for version in range(2, 12):
        began = time.monotonic()
        server.publish(version)
        assert wait_for(lambda: keeping.now == {"number": version})  # noqa: B023  # called within the loop
        delays.append(time.monotonic() - began)
    assert sorted(delays)[5] < 0.2
    assert max(delays) < 1
    plane.close()


def test_SW4_without_push_a_change_arrives_within_the_pull_interval(server: Server) -> None:
    plane, keeping = connected(server)
    server.faults(mute=True)  # heartbeats go on: nothing looks wrong
    began = time.monotonic()
    server.publish(2)
    assert wait_for(lambda: keeping.now == {"number": 2})
    assert time.monotonic() - began < FAST.pull_interval + 0.5
    plane.close()


def test_SW4_a_stream_that_misses_two_heartbeats_is_replaced(server: Server) -> None:
    plane, keeping = connected(server)
    before = server.counts()["streams"]
    server.faults(silent=True)
    assert wait_for(lambda: server.counts()["streams"] > before)
    server.faults()
    server.publish(2)
    assert wait_for(lambda: keeping.now == {"number": 2})
    plane.close()


# --- a service in trouble ---------------------------------------------------------------------------


def test_SW12_a_frozen_service_is_seen_and_found_again(server: Server) -> None:
    plane, keeping = connected(server)
    assert plane.status().state == "ready"
    server.signal(signal.SIGSTOP)
    try:
        assert wait_for(lambda: plane.status().state == "stale")
        assert not plane.status().connected
        assert wait_for(lambda: plane.status().state == "error")
        assert keeping.now == {"number": 1}
    finally:
        server.signal(signal.SIGCONT)
    server.publish(2)
    assert wait_for(lambda: plane.status().state == "ready" and plane.status().connected)
    assert wait_for(lambda: keeping.now == {"number": 2})  # an answer from before the publication may come first
    plane.close()


def test_SW12_a_killed_service_is_found_again_with_an_empty_then_a_new_store() -> None:
    server = Server()
    try:
        server.publish(7)
        plane, keeping = connected(server)
        assert keeping.now == {"number": 7}
        server.kill()
        assert wait_for(lambda: plane.status().state != "ready")
        server.start()  # its store was in memory: it is empty now
        assert wait_for(lambda: "no such document yet" in plane.status().problem)
        assert keeping.now == {"number": 7}
        server.publish(3)  # an older store of the same epoch
        assert wait_for(lambda: "1.3, and 1.7 is in force" in plane.status().problem)
        assert keeping.now == {"number": 7}
        server.publish(1, epoch=2)  # a store made anew
        assert wait_for(lambda: keeping.now == {"number": 1})
        assert wait_for(lambda: plane.status().state == "ready")
        plane.close()
    finally:
        server.kill()


def test_SW7_a_start_beside_a_frozen_service_takes_the_kept_copy_within_init_timeout(
    server: Server, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.json"
    first = Plane(HttpSource(server.url), keep=kept, pace=FAST).attach(Keeping())
    first.start()
    first.close()
    server.signal(signal.SIGSTOP)
    try:
        keeping = Keeping()
        pace = Pace(init_timeout=0.3)
        plane = Plane(HttpSource(server.url), keep=kept, pace=pace).attach(keeping)
        began = time.monotonic()
        assert plane.start().state == "stale"
        assert time.monotonic() - began < 1.5
        assert keeping.now == {"number": 1}
        plane.close()
    finally:
        server.signal(signal.SIGCONT)


# --- forks -------------------------------------------------------------------------------------------


def test_SW11_a_forked_child_listens_by_itself_and_the_parent_goes_on(server: Server) -> None:
    plane, keeping = connected(server)
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            inherited = keeping.now == {"number": 1}
            state = plane.status().state
            ready = wait_for(lambda: plane.status().state == "ready" and plane.status().connected, 20)
            fresh = state in ("stale", "ready")  # its own thread may have looked already; the rest is unit-tested
            os.write(tell, b"ready" if inherited and fresh and ready else b"wrong")
            status = 0 if wait_for(lambda: keeping.now == {"number": 2}, 20) else 2
        finally:
            os._exit(status)
    assert os.read(told, 5) == b"ready"
    server.publish(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert wait_for(lambda: keeping.now == {"number": 2})
    server.publish(3)  # after the child is gone: its end has not ended the parent's stream
    assert wait_for(lambda: keeping.now == {"number": 3}, 5)
    plane.close()
