"""One of N workers runs it (X6, pain 22): real processes that are killed, stopped and restarted, real web servers."""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis

ROOT = Path(__file__).parents[3]
TTL = 1.0  # s

BEAT = """
local now = redis.call('TIME')
now = now[1] .. '.' .. string.format('%06d', now[2])
local last = redis.call('LINDEX', KEYS[1], -1)
local term = last and string.match(last, '^(%d+)|')
if term and tonumber(term) > tonumber(ARGV[1]) then
    return redis.call('INCR', KEYS[1] .. ':refused')
end
local first = last and term == ARGV[1] and string.match(last, '|([%d.]+)|[%d.]+$')
local row = ARGV[1] .. '|' .. ARGV[2] .. '|' .. (first or now) .. '|' .. now
if first then redis.call('LSET', KEYS[1], -1, row) else redis.call('RPUSH', KEYS[1], row) end
return 0
"""
"""Notes that a term is being worked in: one row a term, with its process, its first and its latest moment."""

WORKERS = """
import os, signal, sys, time
import redis
from backstay.locks import Locks

url, count, beat, ttl = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])

def work():
    locks, rows = Locks.connect(url, namespace="x6"), redis.Redis.from_url(url)

    def job(leadership):
        while not leadership.lost.is_set():
            rows.eval(beat, 1, "x6:rows", leadership.term, os.getpid())
            leadership.lost.wait(0.005)

    locks.election("job", ttl=ttl).run(job, stop_on=[signal.SIGTERM])
    locks.close()

def start():
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            work()
        finally:
            os._exit(0)
    return pid

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
pids = set()
try:
    while len(pids) < count:
        pids.add(start())
    while os.getppid() == PARENT:
        done, _ = os.waitpid(-1, os.WNOHANG)
        if done:
            pids.remove(done)
            pids.add(start())
        else:
            time.sleep(0.005)
finally:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
"""
"""Forks workers that stand for election, and a new one in the place of each that ends."""


def until(condition: Callable[[], Any], what: str, timeout: float = 20.0) -> Any:
    end = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < end, f"it did not come to pass: {what}"
        time.sleep(0.005)
    return found


def rows_of(server: redis.Redis) -> list[tuple[int, int, float, float]]:
    found: Any = server.lrange("x6:rows", 0, -1)
    split = [row.decode().split("|") for row in found]
    return [(int(term), int(pid), float(first), float(last)) for term, pid, first, last in split]


def kill_and_restart(redis_url: str, rounds: int | None, seconds: float) -> None:
    """End the leader again and again, by SIGKILL and SIGTERM in turn, and judge what was written meanwhile."""
    server = redis.Redis.from_url(redis_url)
    script = WORKERS.replace("PARENT", str(os.getpid()))
    workers = subprocess.Popen([sys.executable, "-c", script, redis_url, "4", BEAT, str(TTL)], cwd=ROOT)
    ends: list[int] = []
    try:
        stop = time.monotonic() + seconds
        while len(ends) < (rounds or 10**9) and time.monotonic() < stop:
            until(lambda: len(rows_of(server)) > len(ends), f"a leader of round {len(ends)}")
            pid = rows_of(server)[-1][1]
            ends.append(signal.SIGKILL if len(ends) % 2 else signal.SIGTERM)
            os.kill(pid, ends[-1])
        until(lambda: len(rows_of(server)) > len(ends), "a leader of the last round")
    finally:
        workers.terminate()
        workers.wait()
    rows = rows_of(server)
    terms = [row[0] for row in rows]
    assert terms == sorted(set(terms)), "a term was worked in twice"
    gaps = [after[2] - before[3] for before, after in pairwise(rows)]
    assert min(gaps) >= 0.0, "two worked at the same time"
    assert max(gaps) < TTL + 2.0, f"nobody led for {max(gaps):.1f} s"
    resigned = [gap for gap, end in zip(gaps, ends, strict=False) if end == signal.SIGTERM]
    assert statistics.median(resigned) < TTL / 2, "who is asked to stop gives the seat back at once (X2)"
    assert len(ends) == rounds if rounds else len(ends) >= 6
    print(f"{len(ends)} rounds, gaps {max(gaps):.2f} at most, {statistics.median(resigned):.4f} after a resignation")


def test_X6_X2_one_leads_over_kills_and_restarts(redis_url: str) -> None:
    kill_and_restart(redis_url, None, 12.0)


@pytest.mark.soak
def test_X6_one_leads_over_a_thousand_kills_and_restarts(redis_url: str) -> None:
    kill_and_restart(redis_url, 1000, 3600.0)


# -- web servers

FASTAPI = """
import asyncio, os, redis
from fastapi import FastAPI
from backstay.locks import AsyncLocks

locks = AsyncLocks.connect("{url}", namespace="web")
rows = redis.Redis.from_url("{url}")

@locks.singleton("scheduler", ttl=2)
async def scheduler(leadership):
    rows.rpush("web:began", os.getpid())
    try:
        while True:
            await asyncio.sleep(0.05)
    finally:
        rows.rpush("web:ended", os.getpid())

app = FastAPI(lifespan=scheduler.lifespan)

@app.get("/")
def root():
    return "up"
"""

FLASK = """
import os, redis
from flask import Flask
from backstay.locks import Locks

locks = Locks.connect("{url}", namespace="web")
rows = redis.Redis.from_url("{url}")

@locks.singleton("scheduler", ttl=2)
def scheduler(leadership):
    rows.rpush("web:began", os.getpid())
    while not leadership.lost.wait(0.05):
        pass
    rows.rpush("web:ended", os.getpid())

app = Flask(__name__)
scheduler.start()

@app.get("/")
def root():
    return "up"
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(params=["uvicorn", "gunicorn"])
def web(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Three workers of a real web server, each with the scheduler of its application."""
    port = free_port()
    (tmp_path / "service.py").write_text(
        textwrap.dedent(FASTAPI if request.param == "uvicorn" else FLASK).replace("{url}", redis_url)
    )
    command = {
        "uvicorn": ["uvicorn", "service:app", "--workers", "3", "--port", str(port), "--log-level", "warning"],
        "gunicorn": ["gunicorn", "service:app", "-w", "3", "-b", f"127.0.0.1:{port}", "--log-level", "warning",
                     "--graceful-timeout", "5", "--worker-tmp-dir", str(tmp_path)],
    }[request.param]  # fmt: skip
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    server = subprocess.Popen([sys.executable, "-m", *command], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path})
    try:
        until(lambda: answers(port), "the web server answers", 40.0)
        yield server
    finally:
        if server.poll() is None:
            server.terminate()
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def pids(server: redis.Redis, key: str) -> list[int]:
    found: Any = server.lrange(key, 0, -1)
    return [int(pid) for pid in found]


def test_pain_22_one_of_the_workers_of_a_web_server_runs_the_scheduler(
    web: subprocess.Popen[bytes], redis_url: str
) -> None:
    server = redis.Redis.from_url(redis_url)
    (first,) = until(lambda: pids(server, "web:began"), "a scheduler began")
    assert first != web.pid
    time.sleep(1.0)
    assert pids(server, "web:began") == [first], "another worker began beside it"
    os.kill(first, signal.SIGKILL)
    start = time.monotonic()
    second = until(lambda: pids(server, "web:began")[1:], "another worker took over")[0]
    assert second != first
    assert time.monotonic() - start < 2.0 + 2.0, "its ttl and the time to be elected"
    web.terminate()
    until(lambda: second in pids(server, "web:ended"), "the scheduler ended with the web server")
    assert len(pids(server, "web:began")) - len(pids(server, "web:ended")) == 1, "all but the one that was killed"
