"""Breakers of several instances on a real Redis: opinions, permits, overrides, processes (CB-9)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from backstay import telemetry
from backstay.redis import target
from backstay.resilience.circuit_breaker import CircuitBreaker, CircuitOpen, State
from backstay.resilience.circuit_breaker.shared import SharedBreakers
from backstay.resilience.circuit_breaker.shared.opinion import Question
from backstay.resilience.circuit_breaker.shared.store import Store
from backstay.testing import ManualClock
from unit.resilience.breaker_ways import by_function, run

ROOT = Path(__file__).resolve().parents[3]


class Instance:
    """One service instance: a breaker of its own, and a meeting place of its own."""

    def __init__(self, url: str, ttl: float = 30.0) -> None:
        self.clock = ManualClock()
        self.breaker = CircuitBreaker("payments", consecutive=2, open_for=10, open_jitter=0, clock=self.clock)
        self.call = by_function(self.breaker)
        self.shared = SharedBreakers.connect(url, interval=None, ttl=ttl, budget=5.0)
        self.shared.join(self.breaker)

    def fail(self) -> None:
        assert run(self.call, "--") == "--"


@pytest.fixture
def instances(redis_url: str) -> Iterator[Callable[[int], list[Instance]]]:
    made: list[Instance] = []

    def make(count: int) -> list[Instance]:
        made.extend(Instance(redis_url) for _ in range(count))
        meet(made)
        return made

    yield make
    for instance in made:
        instance.shared.close()


def meet(instances: list[Instance], rounds: int = 1) -> None:
    for _ in range(rounds):
        for instance in instances:
            assert instance.shared.refresh()


def states(instances: list[Instance]) -> list[State]:
    return [instance.breaker.state for instance in instances]


def test_CB9_one_bad_instance_opens_nobody_and_a_quorum_opens_all(instances: Callable[[int], list[Instance]]) -> None:
    all_of = instances(4)
    for bad in all_of[:2]:
        bad.fail()
        meet(all_of, 2)
        assert states(all_of[2:]) == [State.CLOSED] * 2
    all_of[2].fail()
    meet(all_of, 2)
    assert states(all_of) == [State.OPEN] * 4
    view = all_of[0].shared.view("payments")
    assert (view.live, view.open, view.quorum, view.override) == (4, 3, 3, None)


def test_CB9_two_of_two_are_a_quorum_and_one_alone_is_none(instances: Callable[[int], list[Instance]]) -> None:
    one, two = instances(2)
    one.fail()
    meet([one, two], 2)
    assert states([one, two]) == [State.OPEN, State.CLOSED]


def test_CB9_probes_of_all_instances_together_are_the_permitted(instances: Callable[[int], list[Instance]]) -> None:
    all_of = instances(5)
    for each in all_of:
        each.fail()
    meet(all_of)
    for each in all_of:
        each.clock.advance(10)
    meet(all_of)
    reached: list[int] = []
    refused: list[CircuitOpen] = []
    end, counted = threading.Event(), threading.Semaphore(0)

    def caller(instance: Instance) -> None:
        def act() -> None:
            reached.append(1)
            counted.release()
            end.wait(30)

        try:
            instance.call(act)
        except CircuitOpen as refusal:
            refused.append(refusal)
            counted.release()

    threads = [threading.Thread(target=caller, args=(each,)) for each in all_of for _ in range(20)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert counted.acquire(timeout=30)
    meet(all_of, 2)  # while they are under way
    assert (len(reached), len(refused)) == (3, 97)
    end.set()
    for thread in threads:
        thread.join()
    assert sorted(state.value for state in states(all_of)) == ["closed"] + ["open"] * 4
    meet(all_of, 2)  # the permits came back: the next one may probe
    assert sum(run(each.call, "+++") == "+++" for each in all_of) == 2


def test_CB9_a_failed_round_holds_the_others_for_its_wait(instances: Callable[[int], list[Instance]]) -> None:
    one, two = instances(2)
    for each in (one, two):
        each.fail()
        each.clock.advance(10)
    meet([one, two])
    assert run(one.call, "-+") == "-x"
    meet([one, two], 2)
    assert run(two.call, "+") == "x"


def test_CB9_everybody_recovers_after_the_probes(instances: Callable[[int], list[Instance]]) -> None:
    all_of = instances(3)
    for each in all_of[:2]:
        each.fail()
    meet(all_of, 2)
    assert states(all_of) == [State.OPEN] * 3
    for each in all_of:
        each.clock.advance(10)
    for _ in range(4):
        meet(all_of)
        for each in all_of:
            run(each.call, "+++")
    meet(all_of)
    assert states(all_of) == [State.CLOSED] * 3


def test_CB9_an_instance_that_died_is_forgotten_after_its_ttl(redis_url: str) -> None:
    dead, one, two = (Instance(redis_url, ttl=ttl) for ttl in (0.2, 30.0, 30.0))
    for each in (dead, one):
        each.fail()
    meet([dead, one])
    assert one.shared.view("payments").open == 2
    time.sleep(0.25)
    meet([two])
    view = two.shared.view("payments")
    assert (view.live, view.open) == (2, 1)
    assert two.breaker.state is State.CLOSED
    for each in (dead, one, two):
        each.shared.close()


def test_CB9_permits_of_a_dead_prober_come_free_with_its_lease(redis_url: str) -> None:
    store = Store(target(redis_url), namespace="default", budget=5.0, ttl=30.0)

    def ask(member: str, version: int) -> int:
        return store.exchange("payments", member, Question(version=version, wanted=3, permits=3, lease=0.2)).granted

    assert ask("dead", 1) == 3
    assert ask("other", 1) == 0
    time.sleep(0.25)
    assert ask("other", 2) == 3
    store.close()


def test_CB9_an_exchange_that_arrives_late_changes_nothing(redis_url: str) -> None:
    store = Store(target(redis_url), namespace="default", budget=5.0, ttl=30.0)
    assert store.exchange("payments", "a", Question(version=5, is_open=True)).open == 1
    late = store.exchange("payments", "a", Question(version=4, is_open=False, wanted=1))
    assert (late.open, late.granted) == (1, 0)
    assert store.exchange("payments", "a", Question(version=6, leaves=True)).live == 0
    store.close()


def test_CB9_an_override_reaches_all_instances_and_wins_until_it_is_released(
    instances: Callable[[int], list[Instance]],
) -> None:
    all_of = instances(3)
    all_of[0].shared.override("payments", State.FORCED_OPEN)
    meet(all_of)
    assert states(all_of) == [State.FORCED_OPEN] * 3
    all_of[1].breaker.close()
    meet(all_of)
    assert states(all_of) == [State.FORCED_OPEN] * 3
    all_of[2].shared.override("payments", State.DISABLED)
    meet(all_of)
    assert states(all_of) == [State.DISABLED] * 3
    all_of[0].shared.release("payments")
    meet(all_of)
    assert states(all_of) == [State.CLOSED] * 3


def test_CB9_an_override_ends_by_itself(instances: Callable[[int], list[Instance]]) -> None:
    (one,) = instances(1)
    one.shared.override("payments", State.METRICS_ONLY, lasts=0.2)
    meet([one])
    assert one.breaker.state is State.METRICS_ONLY
    time.sleep(0.25)
    meet([one])
    assert one.breaker.state is State.CLOSED


def test_leaving_takes_the_opinion_back(instances: Callable[[int], list[Instance]], redis_url: str) -> None:
    one, two = instances(2)
    one.fail()
    meet([one, two])
    one.shared.close()
    with redis.Redis.from_url(redis_url) as client:
        assert client.hlen("backstay:default:breaker:{payments}:1:versions") == 1
    assert two.shared.view("payments").live == 1
    assert two.shared.view("payments").open == 0
    one.clock.advance(10)
    assert run(one.call, "+++") == "+++"  # local: asks nobody


def test_forgotten_scripts_and_flushed_data_are_made_anew(
    instances: Callable[[int], list[Instance]], redis_url: str
) -> None:
    one, two = instances(2)
    one.fail()
    with redis.Redis.from_url(redis_url) as client:
        client.script_flush()
        client.flushdb()
    meet([one, two])
    view = two.shared.view("payments")
    assert (view.live, view.open) == (2, 1)


def test_every_key_has_the_namespace_and_an_end_unless_an_operator_set_it(
    instances: Callable[[int], list[Instance]], redis_url: str
) -> None:
    one, two = instances(2)
    for each in (one, two):
        each.fail()
        each.clock.advance(10)
    meet([one, two])
    run(one.call, "-")
    meet([one, two])
    one.shared.override("payments", State.DISABLED)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        keys = {str(key): client.pttl(str(key)) for key in client.scan_iter()}
    assert len(keys) >= 4
    for key, ends in keys.items():
        assert key.startswith("backstay:default:breaker:{payments}:1:")
        assert ends == -1 if key.endswith("override") else int(str(ends)) > 0


def test_a_forked_child_is_an_instance_of_its_own(redis_url: str) -> None:
    instance = Instance(redis_url)
    meet([instance])
    child = os.fork()
    if child == 0:
        try:
            right = instance.shared.refresh() and instance.shared.view("payments").live == 2
        finally:
            os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert instance.shared.view("payments").live == 2
    instance.shared.close()


SERVICE = """
import json, sys
from backstay import telemetry
from backstay.resilience.circuit_breaker import CircuitBreaker
from backstay.resilience.circuit_breaker.shared import SharedBreakers

shared = SharedBreakers.connect(sys.argv[1], interval=0.05, ttl=5.0, budget=5.0)
breaker = shared.join(CircuitBreaker("payments", consecutive=1, open_for=600, open_at_most=600))

@breaker
def call():
    raise OSError("down")

for line in sys.stdin:
    if line.strip() == "fail":
        try:
            call()
        except Exception:
            pass
    alive = [each.alive for each in telemetry.background() if each.name == "backstay-breakers"]
    print(json.dumps({"state": breaker.state.value, "alive": alive}), flush=True)
shared.close()
"""


def test_CB9_processes_warn_each_other_by_their_background_threads(redis_url: str) -> None:
    services = [
        subprocess.Popen(
            [sys.executable, "-c", SERVICE, redis_url],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(3)
    ]  # fmt: skip

    def tell(service: subprocess.Popen[str], what: str) -> dict[str, object]:
        assert service.stdin is not None
        assert service.stdout is not None
        service.stdin.write(what + "\n")
        service.stdin.flush()
        answer: dict[str, object] = json.loads(service.stdout.readline())
        return answer

    watching = SharedBreakers.connect(redis_url, interval=None, ttl=5.0, budget=5.0)
    until = time.monotonic() + 20
    try:
        while watching.view("payments").live < 3:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert tell(services[0], "fail")["state"] == "open"
        time.sleep(0.3)
        assert tell(services[2], "look") == {"state": "closed", "alive": [True]}
        tell(services[1], "fail")
        while tell(services[2], "look")["state"] != "open":
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        for service in services:
            service.communicate(timeout=20)
    assert [service.returncode for service in services] == [0, 0, 0]
    assert watching.view("payments").live == 0
    watching.close()


def test_the_background_thread_is_announced_and_lives_in_a_forked_child(redis_url: str) -> None:
    shared = SharedBreakers.connect(redis_url, interval=0.05, ttl=5.0, budget=5.0)
    shared.join(CircuitBreaker("forking"))

    def alive() -> list[bool]:
        return [each.alive for each in telemetry.background() if each.name == "backstay-breakers"]

    assert alive() == [True]
    until = time.monotonic() + 10
    child = os.fork()
    if child == 0:
        while shared.view("forking").live < 2 and time.monotonic() < until:
            time.sleep(0.02)
        os._exit(0 if alive() == [True] and shared.view("forking").live >= 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    shared.close()
