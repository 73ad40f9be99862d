"""Streams and blocks behind policies: admitted once, settled once, at the end, however it comes (CB-10, AS-2)."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from backstay.errors import BulkheadFull, Degraded, Misuse, Rejected
from backstay.resilience import Switches
from backstay.resilience.fallback import Fallback
from backstay.resilience.operation import Operation
from backstay.resilience.pipeline import Pipeline
from backstay.resilience.policy import Admit, AdmitAsync, Layer, Settle, Target
from backstay.resilience.switches.policy import SwitchPolicy
from backstay.telemetry import histogram
from backstay.testing import measured


class Door(Layer):
    """Admits, or refuses, and writes down what it hears."""

    def __init__(self, name: str = "door", *, kind: str = "bulkhead", refuses: BaseException | None = None) -> None:
        self.name = name
        self.kind = kind
        self.refuses = refuses
        self.heard: list[Any] = []

    def admit(self, target: Target) -> Admit:
        def admit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
            if self.refuses is not None:
                raise self.refuses
            self.heard.append(("in", args, kwargs))
            return lambda error: self.heard.append(type(error) if error is not None else None)

        return admit

    def admit_async(self, target: Target) -> AdmitAsync:
        blocking = self.admit(target)

        async def admit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
            await asyncio.sleep(0)
            return blocking(args, kwargs)

        return admit

    def wrap(self, call: Callable[..., Any], target: Target) -> Callable[..., Any]:
        return call

    def wrap_async(self, call: Callable[..., Awaitable[Any]], target: Target) -> Callable[..., Awaitable[Any]]:
        return call

    @property
    def ends(self) -> list[Any]:
        return [each for each in self.heard if not isinstance(each, tuple)]


def protectors(door: Door) -> list[Callable[[Any], Any]]:
    """The ways round a stream: the policy as a decorator by itself, and a pipeline of it."""
    return [door, Pipeline("stream", door)]


@pytest.fixture(params=[0, 1], ids=["alone", "pipeline"])
def guarded(request: pytest.FixtureRequest) -> tuple[Door, Callable[[Any], Any]]:
    door = Door()
    return door, protectors(door)[request.param]


def echo(count: int) -> Generator[Any, Any, str]:
    """Yield what was sent before; an error thrown in is yielded as its text."""
    sent: Any = "first"
    for _ in range(count):
        try:
            sent = yield sent
        except ValueError as error:
            sent = yield str(error)
    return "returned"


async def echo_async(count: int) -> AsyncGenerator[Any, Any]:
    sent: Any = "first"
    for _ in range(count):
        await asyncio.sleep(0)
        try:
            sent = yield sent
        except ValueError as error:
            sent = yield str(error)


def test_CB10_a_generator_is_admitted_at_the_first_item_and_settled_at_its_end(guarded: Any) -> None:
    door, protect = guarded
    stream = protect(echo)(2)
    assert inspect.isgeneratorfunction(protect(echo))
    assert door.heard == []
    assert next(stream) == "first"
    assert door.heard == [("in", (2,), {})]
    assert stream.send("a") == "a"
    assert door.ends == []
    with pytest.raises(StopIteration) as end:
        stream.send("b")
    assert (end.value.value, door.ends) == ("returned", [None])


def test_errors_thrown_into_a_generator_reach_it(guarded: Any) -> None:
    door, protect = guarded
    stream = protect(echo)(2)
    next(stream)
    assert stream.throw(ValueError("thrown")) == "thrown"
    with pytest.raises(LookupError):
        stream.throw(LookupError("it knows nothing of this one"))
    assert door.ends == [LookupError]


@pytest.mark.parametrize("leave", ["close", "forget"])
def test_CB10_a_generator_that_is_left_is_settled_by_its_exit(guarded: Any, leave: str) -> None:
    door, protect = guarded
    stream = protect(echo)(5)
    next(stream)
    if leave == "close":
        stream.close()
    else:
        del stream
        gc.collect()
    assert door.ends == [GeneratorExit]


def test_a_stream_that_is_never_iterated_takes_nothing(guarded: Any) -> None:
    door, protect = guarded
    protect(echo)(1).close()
    asyncio.run(protect(echo_async)(1).aclose())
    assert door.heard == []


def test_CB10_an_async_generator_carries_values_errors_and_its_end(guarded: Any) -> None:
    door, protect = guarded
    guard = protect(echo_async)
    assert inspect.isasyncgenfunction(guard)

    async def main() -> None:
        stream = guard(2)
        assert await anext(stream) == "first"
        assert await stream.asend("a") == "a"
        assert door.ends == []
        with pytest.raises(StopAsyncIteration):
            await stream.asend("b")
        assert door.ends == [None]
        stream = guard(2)
        await anext(stream)
        assert await stream.athrow(ValueError("thrown")) == "thrown"
        with pytest.raises(LookupError):
            await stream.athrow(LookupError())
        assert door.ends == [None, LookupError]
        stream = guard(2)
        await anext(stream)
        await stream.aclose()
        assert door.ends == [None, LookupError, GeneratorExit]

    asyncio.run(main())


def test_CB10_an_async_generator_that_is_forgotten_or_cancelled_is_settled(guarded: Any) -> None:
    door, protect = guarded
    guard = protect(echo_async)
    closed: list[str] = []

    async def endless() -> AsyncGenerator[int, None]:
        try:
            while True:
                yield 1
                await asyncio.Event().wait()
        finally:
            closed.append("inner")

    async def main() -> None:
        stream = guard(5)
        await anext(stream)
        del stream
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)
        assert door.ends == [GeneratorExit]

        async def consume() -> None:
            async for _ in protect(endless)():
                pass

        task = asyncio.ensure_future(consume())
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert door.ends == [GeneratorExit, asyncio.CancelledError]
        assert closed == ["inner"]

    asyncio.run(main())


def test_CB5_a_stream_that_cannot_be_made_gives_its_permit_back(guarded: Any) -> None:
    door, protect = guarded
    with pytest.raises(TypeError):
        next(protect(echo)("two", "arguments"))
    with pytest.raises(TypeError):
        asyncio.run(anext(protect(echo_async)("two", "arguments")))
    assert door.ends == [TypeError, TypeError]


def test_CB5_what_an_inner_policy_refuses_is_settled_by_the_outer_ones() -> None:
    refusal = BulkheadFull("full")
    outer, inner = Door("outer", kind="circuit_breaker"), Door("inner", refuses=refusal)
    pipeline = Pipeline("refused", inner, outer)

    async def enter() -> None:
        async with pipeline.admission():
            raise AssertionError("it was refused")

    for attempt in (
        lambda: next(pipeline(echo)(1)),
        lambda: asyncio.run(anext(pipeline(echo_async)(1))),
        lambda: pipeline.admission().__enter__(),
        lambda: asyncio.run(enter()),
    ):
        outer.heard.clear()
        with measured() as seen, pytest.raises(BulkheadFull):
            attempt()
        assert outer.ends == [BulkheadFull]
        assert seen.count("operation.duration", resource="refused", outcome="rejected") == 1
        assert seen.value("operation.active", resource="refused") == 0


def test_CB5_an_admission_that_is_cancelled_while_it_waits_gives_back_what_it_has() -> None:
    outer, inner = Door("outer", kind="circuit_breaker"), Door("inner")
    pipeline = Pipeline("cancelled", inner, outer)

    async def main() -> None:
        task = asyncio.ensure_future(pipeline.admission().__aenter__())
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # the outer one has admitted, the inner one has not
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert (outer.ends, inner.heard) == ([asyncio.CancelledError], [])


def test_CB10_blocks_are_settled_with_what_leaves_them_innermost_first() -> None:
    order: list[str] = []
    outer, inner = Door("outer", kind="circuit_breaker"), Door("inner")
    pipeline = Pipeline("block", outer, inner)

    async def main() -> None:
        async with pipeline.admission():
            order.append("async body")

    with measured() as seen:
        with pipeline.admission():
            assert outer.ends == inner.ends == []
        with pytest.raises(LookupError), pipeline.admission():
            raise LookupError
        with pytest.raises(KeyboardInterrupt), pipeline.admission():
            raise KeyboardInterrupt
        asyncio.run(main())
    assert outer.ends == inner.ends == [None, LookupError, KeyboardInterrupt, None]
    outcomes = {
        outcome: seen.count("operation.duration", resource="block", outcome=outcome)
        for outcome in ("ok", "error", "cancelled", "rejected", "degraded")
    }
    assert outcomes == {"ok": 2, "error": 1, "cancelled": 1, "rejected": 0, "degraded": 0}


def test_a_stream_is_measured_from_its_first_item_to_its_end() -> None:
    now = [100.0]
    operation = Operation("measured", clock=lambda: now[0])
    with measured() as seen:
        stream = Pipeline("measured", operation)(echo)(1)
        now[0] = 200.0
        next(stream)
        assert seen.value("operation.active", resource="measured") == 1
        now[0] = 207.0
        assert list(stream) == []
    assert seen.seconds("operation.duration", resource="measured", outcome="ok") == pytest.approx(7.0)
    assert seen.value("operation.active", resource="measured") == 0


def test_a_switch_stops_streams_and_blocks_that_have_not_begun() -> None:
    switches = Switches.connect("memory://", defaults={"feed": True}, interval=None)
    pipeline = Pipeline("feed", SwitchPolicy(switches, "feed"))
    begun = pipeline(echo)(2)
    next(begun)
    switches.override("feed", False, reason="too dear")
    assert begun.send("goes on") == "goes on"
    with pytest.raises(Degraded, match="too dear"):
        next(pipeline(echo)(2))
    with pytest.raises(Degraded), pipeline.admission():
        raise AssertionError("it is off")
    with pytest.raises(Degraded):
        asyncio.run(anext(pipeline(echo_async)(2)))


def test_AS2_what_cannot_go_round_a_stream_or_a_block_says_so_when_it_is_applied() -> None:
    pipeline = Pipeline("fallback", Fallback("fallback", answer=0))
    for stream in (echo, echo_async):
        with pytest.raises(Misuse, match=r"fallback .* cannot go round echo"):
            pipeline(stream)
        with pytest.raises(Misuse, match="fallback"):
            Fallback("alone", answer=0)(stream)
    with pytest.raises(Misuse, match="a block or a request"), pipeline.admission():
        raise AssertionError("a fallback cannot answer for a block")


def test_IN3_fastapi_dependencies_that_yield_are_settled_after_the_answer() -> None:
    door = Door()
    pipeline = Pipeline("dependency", door)
    app = FastAPI()

    @pipeline
    def connection(flag: int = 1) -> Generator[str, None, None]:
        yield f"connection {flag}"

    @pipeline
    async def session() -> AsyncGenerator[str, None]:
        yield "session"

    @app.get("/")
    def read(first: str = Depends(connection), second: str = Depends(session)) -> list[str]:
        assert door.ends == []
        return [first, second]

    @app.get("/fails")
    def fail(first: str = Depends(connection)) -> None:
        raise Rejected("no")

    client = TestClient(app, raise_server_exceptions=False)
    assert client.get("/", params={"flag": 2}).json() == ["connection 2", "session"]
    assert door.ends == [None, None]
    assert client.get("/fails").status_code == 500
    assert door.ends == [None, None, Rejected]


def test_a_stream_that_the_collector_ends_while_series_are_made_is_counted() -> None:
    pipeline = Pipeline("collected")
    kept = [pipeline(echo)(2)]
    next(kept[0])

    class Collecting(str):
        """Stands for the collector, which may run at any allocation: here while the registry's lock is held."""

        __slots__ = ()

        def __hash__(self) -> int:
            kept.clear()
            return str.__hash__(self)

    with measured() as seen:
        histogram("operation.duration", "s", resource=Collecting("collecting"), outcome="ok")
    assert kept == []
    assert seen.count("operation.duration", resource="collected", outcome="cancelled") == 1
