"""Celery: refused tasks come back when it makes sense, and real prefork workers share one exact limit (IN-2)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery  # type: ignore[import-untyped]  # it has no types
from celery.exceptions import Retry  # type: ignore[import-untyped]

from backstay.errors import BulkheadFull, Misuse, RateLimited
from backstay.resilience import protect
from backstay.resilience.frameworks.celery import postponed

ROOT = Path(__file__).parents[3]


def app_of(function: Any, **options: Any) -> Any:
    """Return a task of `function` that runs here, as a worker would run it."""
    app = Celery("frameworks", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.task_always_eager = False
    return app.task(name=f"t.{function.__name__}", **options)(function)


def run_as_worker(task: Any, *args: Any, retries: int = 0) -> Any:
    """Run a task with a request of its own, up to the exception that tells Celery to put it off."""
    task.push_request(called_directly=False, is_eager=True, retries=retries, id="1", args=args, kwargs={})
    from celery._state import _task_stack  # type: ignore[import-untyped]  # what `current_task` reads

    _task_stack.push(task)
    try:
        return task.run(*args)
    finally:
        _task_stack.pop()
        task.pop_request()


def test_a_refused_task_is_put_off_by_its_retry_after() -> None:
    calls: list[int] = []

    @postponed(spread=0.1)
    @protect("celery.mail", limit="1/minute")
    def mail(number: int) -> int:
        calls.append(number)
        return number

    task = app_of(mail)
    assert run_as_worker(task, 1) == 1
    with pytest.raises(RateLimited):  # eager tasks are run again at once by Celery, up to max_retries
        run_as_worker(task, 2, retries=99)
    assert calls == [1]
    assert task.name == "t.mail"


@pytest.mark.parametrize(
    ("asked", "least", "most", "low", "high"),
    [(30.0, 1.0, 3600.0, 30.0, 33.0), (None, 2.0, 3600.0, 2.0, 2.2), (9000.0, 1.0, 60.0, 60.0, 66.0)],
)
def test_the_countdown_is_what_the_refusal_asks_within_bounds_and_spread(
    asked: float | None, least: float, most: float, low: float, high: float
) -> None:
    put_off: list[dict[str, Any]] = []

    @postponed(least=least, most=most, spread=0.1, max_retries=5)
    def busy() -> None:
        raise BulkheadFull("full", retry_after=asked)

    task = app_of(busy)

    def retry(**options: Any) -> Retry:
        put_off.append(options)
        return Retry(exc=options["exc"])

    task.retry = retry
    with pytest.raises(Retry):
        run_as_worker(task)
    (options,) = put_off
    assert low <= options["countdown"] <= high
    assert options["max_retries"] == 5
    assert isinstance(options["exc"], BulkheadFull)


def test_autoretry_leaves_the_countdown_of_a_refusal_alone() -> None:
    """Celery's own autoretry knows `Retry` and does not put a task off a second time."""
    put_off: list[float] = []

    @postponed(spread=0)
    def busy() -> None:
        raise RateLimited("limited", retry_after=42)

    task = app_of(busy, autoretry_for=(Exception,), retry_backoff=True)

    def retry(**options: Any) -> Retry:
        put_off.append(options["countdown"])
        return Retry(exc=options["exc"])

    task.retry = retry
    with pytest.raises(Retry):
        run_as_worker(task)
    assert put_off == [42.0]


def test_other_errors_and_direct_calls_are_not_put_off() -> None:
    @postponed()
    def failing(kind: str) -> None:
        raise RateLimited("limited", retry_after=1) if kind == "refused" else KeyError(kind)

    task = app_of(failing)
    with pytest.raises(KeyError):
        run_as_worker(task, "other")
    with pytest.raises(RateLimited):
        task("refused")
    with pytest.raises(RateLimited):
        failing("refused")


def test_mistakes_are_found_at_decoration() -> None:
    async def asynchronous() -> None: ...

    with pytest.raises(Misuse, match="plain functions"):
        postponed()(asynchronous)
    wrong: tuple[Any, ...] = ({"least": 5.0, "most": 1.0}, {"spread": 2.0}, {"most": 0.0})
    for options in wrong:
        with pytest.raises(Misuse):
            postponed(**options)


TASKS = """
import os
from celery import Celery
from backstay import telemetry
from backstay.errors import RateLimited
from backstay.resilience import RateLimiter, Switches, protect

app = Celery("tasks", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
app.conf.worker_hijack_root_logger = False
limiter = RateLimiter.connect(
    os.environ["BROKER"], rate="50/day", name="celery.shared", budget=5.0, on_store_failure="closed"
)
switches = Switches.connect(os.environ["SWITCHES"], interval=0.1)
parents = telemetry.counter("celery.parent", "{call}", resource="parent")
parents.n += 1000  # counted before the fork: no child may count it again
limiter.try_acquire()  # a connection of the parent's

@app.task
@protect("celery.work", limit=limiter)
def work():
    return os.getpid()

@app.task
def look():
    seen = telemetry.snapshot()
    return [os.getpid(), switches.enabled("work"), seen.value("celery.parent")]

@app.task
def refused():
    try:
        limiter.acquire()
    except RateLimited:
        return 0
    return 1
"""


def until(condition: Callable[[], Any], what: str, timeout: float = 30.0) -> Any:
    end = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.02)
    return found


def test_IN2_celery_prefork_workers_share_one_exact_limit_and_live_switches(
    own_redis: Callable[[], Any], tmp_path: Path
) -> None:
    server = own_redis()
    (tmp_path / "tasks.py").write_text(textwrap.dedent(TASKS))
    switches = tmp_path / "switches.toml"
    switches.write_text("[switches]\nwork = true\n")
    environment = {**os.environ, "BROKER": server.url, "SWITCHES": f"file://{switches}", "PYTHONPATH": str(ROOT)}
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-P", "prefork", "-c", "3", "-l", "warning",
         "--without-gossip", "--without-mingle", "--without-heartbeat"],
        cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    app = Celery("asks", broker=server.url, backend=server.url, set_as_current=False)
    try:
        jobs = [app.send_task("tasks.refused") for _ in range(80)]
        assert sum(job.get(timeout=60, interval=0.02) for job in jobs) == 49  # and one by the parent

        def looks() -> list[Any]:
            asked = [app.send_task("tasks.look") for _ in range(12)]
            return [job.get(timeout=30, interval=0.01) for job in asked]

        found = until(lambda: (seen := looks()) and len({row[0] for row in seen}) >= 2 and seen, "two children")
        assert {row[1] for row in found} == {True}
        assert {row[2] for row in found} == {0}
        assert worker.pid not in {row[0] for row in found}
        switches.write_text("[switches]\nwork = false\n")
        until(lambda: {row[1] for row in looks()} == {False}, "the switch is off in all children")
    finally:
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(20)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
        app.close()
    client = redis.Redis.from_url(server.url)
    assert len(client.keys("backstay:default:limit:*celery.shared*")) == 1
    client.close()
