"""Real workers (IN-2): one exact limit on Redis over all of them, switches alive in each, counts from zero in each."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
ALLOWED = 40

SHOP = """
import json, os
from urllib.parse import parse_qs
from backstay import telemetry
from backstay.errors import Rejected
from backstay.problem import problem
from backstay.resilience import AsyncRateLimiter, RateLimiter, Switches, protect
from backstay.resilience.bulkhead import Bulkhead
from backstay.resilience.frameworks import asgi, wsgi
from backstay.resilience.pipeline import Pipeline

URL, FILE = os.environ["SHOP_REDIS"], os.environ["SHOP_SWITCHES"]
options = dict(rate="40/day", name="workers.shared", budget=5.0, on_store_failure="closed")
switches = Switches.connect(FILE, interval=0.05)
web = Pipeline("workers.web", Bulkhead("workers.web", max_concurrent=50))
loaded_in = os.getpid()
blocking = RateLimiter.connect(URL, **options)
telemetry.counter("workers.loaded", "{process}", resource="parent").n += 1
if os.environ.get("SHOP_TOUCH"):
    blocking.try_acquire()  # a connection, and a count, of the process that is forked later

def look():
    seen = telemetry.snapshot()
    return {
        "pid": os.getpid(), "forked": os.getpid() != loaded_in, "sale": switches.enabled("sale"),
        "loaded": seen.value("workers.loaded"),
        "bought": seen.value("rate_limiter.requests", policy_name="workers.shared"),
        "acquired": seen.value("rate_limiter.requests", policy_name="workers.shared", result="acquired"),
        "calls": seen.value("operation.duration", resource="workers.buy"),
        "web": seen.value("operation.duration", resource="workers.web"),
    }

@protect("workers.buy", limit=blocking)
def buy():
    return {"pid": os.getpid()}

def wsgi_app(environ, start_response):
    try:
        body = buy() if environ["PATH_INFO"] == "/buy" else look()
        status = "200 OK"
    except Rejected as refused:
        body, status = {}, f"{problem(refused).status} Refused"
    data = json.dumps(body).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
    return iter([data])

wsgi_app = wsgi.Protect(wsgi_app, policies=web)

limiter = None

async def asgi_app(scope, receive, send):
    global limiter
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if limiter is not None:
            await limiter.close()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if limiter is None:
        limiter = AsyncRateLimiter.connect(URL, **options)
        scope["app"] = None
    try:
        body = await buy_async() if scope["path"] == "/buy" else look()
        status = 200
    except Rejected as refused:
        body, status = {}, problem(refused).status
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})

async def buy_async():
    @protect("workers.buy", limit=limiter)
    async def bought():
        return {"pid": os.getpid()}
    return await bought()

asgi_app = asgi.Protect(asgi_app, policies=web)
"""

GUNICORN = ("gunicorn", "shop:wsgi_app", "-w", "2", "-b", "127.0.0.1:{port}", "--log-level", "error",
            "--no-control-socket", "--graceful-timeout", "2")  # fmt: skip
SERVERS: dict[str, tuple[str, ...]] = {
    "gunicorn sync": GUNICORN,
    "gunicorn gthread": (*GUNICORN, "-k", "gthread", "--threads", "4"),
    "gunicorn gevent": (*GUNICORN, "-k", "gevent"),
    "gunicorn sync --preload": (*GUNICORN, "--preload"),
    "gunicorn gthread --preload": (*GUNICORN, "-k", "gthread", "--threads", "4", "--preload"),
    "uvicorn": ("uvicorn", "shop:asgi_app", "--workers", "2", "--port", "{port}", "--log-level", "error"),
}


def until(condition: Callable[[], Any], what: str, timeout: float = 30.0) -> Any:
    end = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.02)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Workers:
    """A server that runs the shop in two workers."""

    def __init__(self, kind: str, redis_url: str, place: Path) -> None:
        self.port = free_port()
        self.preloads = "--preload" in kind
        (place / "shop.py").write_text(SHOP)
        self.switches = place / "switches.toml"
        self.switches.write_text("[switches]\nsale = true\n")
        environment = {
            **os.environ, "SHOP_REDIS": redis_url, "SHOP_SWITCHES": f"file://{self.switches}", "PYTHONPATH": str(ROOT),
            **({"SHOP_TOUCH": "1"} if self.preloads else {}),
        }  # fmt: skip
        command = [part.format(port=self.port) for part in SERVERS[kind]]
        self.process = subprocess.Popen([sys.executable, "-m", *command], cwd=place, env=environment)

    def ask(self, path: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        finally:
            connection.close()

    def is_up(self) -> bool:
        try:
            return self.ask("/look")[0] == 200
        except OSError:
            assert self.process.poll() is None, "the server has ended"
            return False

    def looks(self) -> dict[int, Any]:
        """Return what each worker says of itself, once both have been met."""
        found: dict[int, Any] = {}

        def met() -> bool:
            with ThreadPoolExecutor(8) as pool:
                for _, body in pool.map(lambda _: self.ask("/look"), range(16)):
                    found[body["pid"]] = body
            return len(found) == 2

        until(met, "both workers answer")
        return found

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(params=sorted(SERVERS))
def workers(request: pytest.FixtureRequest, own_redis: Callable[[], Any], tmp_path: Path) -> Iterator[Workers]:
    found = Workers(request.param, own_redis().url, tmp_path)
    try:
        until(found.is_up, "the server answers")
        yield found
    finally:
        found.stop()


def test_IN2_workers_share_one_exact_limit_and_live_switches_and_count_for_themselves(workers: Workers) -> None:
    attempts = 100
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: workers.ask("/buy"), range(attempts)))
    spent = 1 if workers.preloads else 0  # by the process that loaded the shop
    statuses = [status for status, _ in answers]
    assert (statuses.count(200), statuses.count(429)) == (ALLOWED - spent, attempts - ALLOWED + spent)

    seen = workers.looks()
    assert {row["loaded"] for row in seen.values()} == {0 if workers.preloads else 1}
    assert {row["forked"] for row in seen.values()} == {workers.preloads}
    assert sum(row["bought"] for row in seen.values()) == attempts
    assert sum(row["acquired"] for row in seen.values()) == ALLOWED - spent
    assert sum(row["calls"] for row in seen.values()) == attempts  # the algebra of section 7.3 over processes
    assert {row["sale"] for row in seen.values()} == {True}
    assert sum(row["web"] for row in seen.values()) >= attempts

    workers.switches.write_text("[switches]\nsale = false\n")
    until(lambda: {row["sale"] for row in workers.looks().values()} == {False}, "the switch is off in all workers")
