"""`drive`, the blocking runtime's own promises, and the rule about `GeneratorExit`."""

from __future__ import annotations

import ast
import asyncio
import contextvars
import gc
import threading
import types
from collections.abc import Generator
from pathlib import Path

import pytest

import backstay
from backstay.blocking import BlockingRuntime, Suspended, drive
from backstay.telemetry import background

LIBRARY = Path(backstay.__file__).parent


@types.coroutine
def pause() -> Generator[None]:
    """Suspend, outside any event loop."""
    yield


async def twice(number: int) -> int:
    return number * 2


async def nested(number: int) -> int:
    return await twice(await twice(number))


def test_drive_returns_what_the_coroutine_returns() -> None:
    assert drive(nested(3)) == 12


def test_drive_raises_what_the_coroutine_raises() -> None:
    async def fail() -> None:
        raise LookupError("inside")

    with pytest.raises(LookupError, match="inside"):
        drive(fail())


def test_a_coroutine_that_suspends_is_closed_and_reported() -> None:
    cleaned: list[str] = []

    async def suspending() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            cleaned.append("closed")

    with pytest.raises(Suspended, match="asyncio make"):
        drive(suspending())
    assert cleaned == ["closed"]


def test_suspension_is_not_swallowed_by_a_protocol_that_goes_on_after_errors() -> None:
    async def quorum() -> int:
        answers = 0
        for _ in range(3):
            try:
                answers += drive(asyncio.sleep(0, 1))
            except Exception:
                continue
        return answers

    with pytest.raises(Suspended):
        drive(quorum())
    assert not issubclass(Suspended, Exception)


def test_clean_up_that_lets_generator_exit_pass_can_be_closed() -> None:
    """The pattern that the lint below asks for, run for real: closing a waiting coroutine is silent."""
    seen: list[str] = []

    async def protocol() -> None:
        try:
            await pause()
        except GeneratorExit:
            raise
        except BaseException:
            seen.append("withdraw")
            await pause()
            raise

    work = protocol()
    work.send(None)
    work.close()
    assert seen == []


def test_clean_up_that_catches_generator_exit_dies_when_closed() -> None:
    """Why the rule exists."""

    async def protocol() -> None:
        try:
            await pause()
        except BaseException:
            await pause()
            raise

    work = protocol()
    work.send(None)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        work.close()
    del work
    gc.collect()


def unsheltered(source: str) -> list[int]:
    """Lines of handlers that would await while their coroutine is being closed."""
    found: list[int] = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Try):
            continue
        passed = False
        for clause in node.handlers:
            caught = {part.id for part in ast.walk(clause.type) if isinstance(part, ast.Name)} if clause.type else set()
            if "GeneratorExit" in caught:
                passed = True
            broad = clause.type is None or "BaseException" in caught
            waits = any(isinstance(part, ast.Await | ast.AsyncWith | ast.AsyncFor) for part in ast.walk(clause))
            if broad and waits and not passed:
                found.append(clause.lineno)
    return found


def test_every_broad_handler_that_awaits_lets_generator_exit_pass_first() -> None:
    sources = [path for path in LIBRARY.rglob("*.py") if "__pycache__" not in path.parts]
    assert len(sources) > 20
    # rglob does not walk into links before Python 3.13
    sources += [path for link in LIBRARY.iterdir() if link.is_symlink() for path in link.resolve().rglob("*.py")]
    found = {str(path): lines for path in set(sources) if (lines := unsheltered(path.read_text()))}
    assert found == {}


@pytest.mark.parametrize("clause", ["except BaseException:", "except:", "except (ValueError, BaseException):"])
def test_the_lint_sees_a_handler_that_awaits(clause: str) -> None:
    bad = f"async def f():\n  try:\n    pass\n  {clause}\n    await g()\n    raise\n"
    assert unsheltered(bad) == [4]
    assert unsheltered(bad.replace(f"  {clause}", f"  except GeneratorExit:\n    raise\n  {clause}")) == []
    assert unsheltered(bad.replace("await g()", "g()")) == []


def test_pieces_of_a_gather_cannot_change_each_others_context() -> None:
    place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="outside")

    async def change(value: str) -> str:
        before = place.get()
        place.set(value)
        return before

    runtime = BlockingRuntime()
    jobs = [lambda: change("first"), lambda: change("second"), lambda: change("third")]
    assert drive(runtime.gather(*jobs))[1:] == ["outside", "outside"]


def test_a_gather_of_one_piece_needs_no_thread() -> None:
    async def who() -> threading.Thread:
        return threading.current_thread()

    runtime = BlockingRuntime()
    assert drive(runtime.gather(who)) == [threading.current_thread()]


def test_a_spawned_thread_carries_its_name_is_a_daemon_and_never_joins_itself() -> None:
    found: list[threading.Thread] = []
    joined: list[bool] = []
    runtime = BlockingRuntime()
    ready = runtime.signal()

    async def work() -> None:
        found.append(threading.current_thread())
        await ready.wait(5)
        joined.append(await job.join(5))

    job = runtime.spawn(work, name="backstay-test")
    ready.set()
    assert drive(job.join(5))
    assert (found[0].name, found[0].daemon) == ("backstay-test", True)
    assert joined == [False]
    assert listed("backstay-test") == []


def listed(name: str) -> list[bool]:
    return [entry.alive for entry in background() if entry.name == name]


def test_a_spawned_thread_is_listed_while_it_runs() -> None:
    runtime = BlockingRuntime()
    begun, stop = runtime.signal(), runtime.signal()

    async def work() -> None:
        begun.set()
        await stop.wait(5)

    job = runtime.spawn(work, name="backstay-listed-thread")
    drive(begun.wait(5))
    assert listed("backstay-listed-thread") == [True]
    stop.set()
    drive(job.join(5))
    assert listed("backstay-listed-thread") == []


def test_a_spawned_thread_that_died_is_listed_as_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: seen.append(arguments.exc_value))

    async def work() -> None:
        raise LookupError("of the background")

    job = BlockingRuntime().spawn(work, name="backstay-dying-thread")
    assert drive(job.join(5))
    assert listed("backstay-dying-thread") == [False]
    assert isinstance(seen[0], LookupError)
