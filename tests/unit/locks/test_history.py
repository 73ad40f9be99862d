"""The recorder of histories: what it writes down, from threads, tasks, processes, and of any library's locks."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backstay.errors import Misuse, NotAcquired, OutcomeUnknown, Unavailable
from backstay.locks import AsyncLocks, LockLost, Locks
from backstay.locks.claims import WRITE, Resource, permits
from backstay.testing.history import Action, Event, History, Phase, read
from backstay.testing.linearizability import check


def test_what_a_lease_says_is_noted_with_every_step() -> None:
    history = History()
    me = history.client("me")
    with Locks.connect("memory://history-steps") as locks:
        with me.acquiring("x", ttl=10.0) as attempt:
            lease = attempt.won(locks.mutex("x", ttl=10.0).acquire())
        assert attempt.look()
        with attempt.extending():
            lease.extend(20.0)
        with attempt.releasing():
            lease.release()
    events = history.events()
    assert [(event.action, event.phase) for event in events] == [
        (Action.ACQUIRE, Phase.INVOKE),
        (Action.ACQUIRE, Phase.RETURN),
        (Action.ACQUIRE, Phase.LOOK),
        (Action.EXTEND, Phase.INVOKE),
        (Action.EXTEND, Phase.RETURN),
        (Action.RELEASE, Phase.INVOKE),
        (Action.RELEASE, Phase.RETURN),
    ]
    assert events[1].fence == lease.fence
    assert events[1].until is not None
    assert events[1].until < (events[4].until or 0.0) == events[5].until
    assert (events[2].valid, events[5].valid) == (True, True)
    assert check(events).linearizable


@pytest.mark.parametrize(
    ("error", "phase", "why"),
    [
        (NotAcquired("held"), Phase.FAIL, "refused"),
        (Unavailable("down"), Phase.FAIL, "Unavailable"),
        (OutcomeUnknown("silent"), Phase.UNKNOWN, "OutcomeUnknown"),
        (LockLost("gone", reason="expired"), Phase.FAIL, "expired"),
        (LockLost("gone", reason="taken"), Phase.FAIL, "lost"),
        (TimeoutError("hm"), Phase.FAIL, "refused"),  # named as a refusal below
        (ConnectionError("hm"), Phase.UNKNOWN, "ConnectionError"),
        (KeyboardInterrupt(), Phase.UNKNOWN, "KeyboardInterrupt"),
    ],
)
def test_C2_each_error_has_its_meaning(error: BaseException, phase: Phase, why: str) -> None:
    history = History(refusals=[TimeoutError])
    with pytest.raises(type(error)), history.client("me").acquiring("x"):
        raise error
    last = history.events()[-1]
    assert (last.phase, last.why) == (phase, why)


def test_a_block_without_an_answer_is_a_mistake_and_of_unknown_outcome() -> None:
    history = History()
    with pytest.raises(Misuse, match="won"), history.client("me").acquiring("x"):
        pass
    assert history.events()[-1].phase is Phase.UNKNOWN


def test_locks_of_other_libraries() -> None:
    """No fence, no `is_valid`, `False` for a refusal: the standard library's lock."""
    history, lock = History(), threading.Lock()
    attempts = [history.client(name).acquiring("x") for name in ("a", "b")]
    for attempt in attempts:
        with attempt:
            if lock.acquire(blocking=False):
                attempt.won(lock)
            else:
                attempt.refused()
    with attempts[0].releasing():
        lock.release()
    assert check(history.events()).linearizable
    with history.client("c").acquiring("x") as attempt:  # nobody holds it now
        attempt.refused()
    assert [violation.what for violation in check(history.events()).violations] == ["refusal"]


def test_a_file_keeps_everything(tmp_path: Path) -> None:
    with History(tmp_path / "run.jsonl") as history:
        me = history.client("me")
        with me.acquiring(Resource("x", "semaphore"), permits(2, 5), ttl=3.0) as attempt:
            attempt.won(SimpleNamespace(fence=7, deadline=11.5, is_valid=lambda: True))
        with attempt.lessening(permits(1, 5)):
            pass
        with me.acquiring("y", WRITE) as attempt:
            attempt.won(None, fence=3, until=4.0)
        history.died("me")
        events = history.events()
    assert read(tmp_path / "run.jsonl") == events
    assert events[0].claim == permits(2, 5)
    assert (events[1].fence, events[1].until, events[1].ttl) == (7, 11.5, 3.0)
    assert events[-1].action is Action.DIE


def test_a_line_that_a_crash_cut_is_left_out_and_other_nonsense_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with History(path) as history:
        history.died("me")
    with path.open("a") as file:
        file.write('{"v":1,"at":3')
    assert [event.client for event in read(path)] == ["me"]
    for nonsense in ("hello", "{}", '{"v":2}', "[1]", '{"v":1,"phase":"invoke","action":"fly","at":1,"client":"x"}'):
        path.write_text(nonsense + "\n")
        with pytest.raises(Misuse, match="history"):
            read(path)


def _child(path: Path, name: str) -> None:
    with History(path) as history:
        for _ in range(200):
            with history.client(name).acquiring("x") as attempt:
                attempt.refused()


def test_processes_and_threads_append_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    spawn = multiprocessing.get_context("fork")
    children = [spawn.Process(target=_child, args=(path, f"child-{n}")) for n in range(3)]
    threads = [threading.Thread(target=_child, args=(path, f"thread-{n}")) for n in range(3)]
    everybody: list[Any] = [*children, *threads]
    for each in everybody:
        each.start()
    for each in everybody:
        each.join()
    events = read(path)
    assert len(events) == 6 * 400
    assert [event.at for event in events] == sorted(event.at for event in events)
    assert len({event.attempt for event in events}) == 6 * 200


@pytest.mark.parametrize("kind", ["mutex", "reentrant", "read-write", "semaphore"])
def test_tasks_that_share_a_lock_leave_a_history_without_fault(kind: str) -> None:
    async def worker(history: History, locks: AsyncLocks, number: int) -> None:
        me = history.client(f"task-{number}")
        for turn in range(15):
            claim = permits(1 + turn % 2, 3)
            lease: Any
            with me.acquiring(kind, claim if kind == "semaphore" else WRITE) as attempt:
                if kind == "semaphore":
                    lease = await locks.semaphore("s", permits=3).acquire(1 + turn % 2)
                elif kind == "read-write":
                    lease = await locks.read_write("rw").write().acquire()
                else:
                    lease = await locks.mutex("m", reentrant=kind == "reentrant").acquire()
                attempt.won(lease)
            if kind == "reentrant":
                with me.acquiring(kind, WRITE) as again:
                    inner = again.won(await locks.mutex("m", reentrant=True).acquire())
                with again.releasing():
                    await inner.release()
            await asyncio.sleep(0)
            assert attempt.look()
            with attempt.releasing():
                await lease.release()

    async def main() -> None:
        history = History()
        async with AsyncLocks.connect(f"memory://history-{kind}") as locks:
            await asyncio.gather(*(worker(history, locks, number) for number in range(6)))
        verdict = check(history.events())
        assert verdict.linearizable, verdict
        assert verdict.granted == 6 * 15

    asyncio.run(main())


def test_linger_is_checked() -> None:
    with pytest.raises(Misuse, match="linger"):
        check([Event(at=0.0, phase=Phase.RETURN, action=Action.DIE, client="x")], linger=-1.0)
