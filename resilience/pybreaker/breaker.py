"""`CircuitBreaker` with pybreaker's face: `call`, `calling`, `call_async`, and a decorator for every colour."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from types import CoroutineType, GeneratorType
from typing import Any, ParamSpec, TypeVar, overload

from pybreaker import STATE_CLOSED

from ..policy import Colour, Settle, stream_async, target_of
from .judgement import Judgement, Ticket

__all__ = ["CircuitBreaker"]

P = ParamSpec("P")
T = TypeVar("T")


class CircuitBreaker(Judgement):
    """pybreaker's breaker without a lock over the call, and with asyncio.

    Opens after `fail_max` failures in a row, refuses for `reset_timeout` seconds, then lets one trial call at a time
    through until `success_threshold` of them were good. Calls run side by side in any number of threads and tasks.
    Cancellation, `KeyboardInterrupt`, `SystemExit` and `GeneratorExit` are no failures.

    Args:
        fail_max: failures in a row that open it.
        reset_timeout: seconds that it stays open.
        success_threshold: good trial calls that close it.
        exclude: exceptions, or predicates of one, that are no failures; as in pybreaker they count as good calls.
        listeners: `CircuitBreakerListener`s; they never run side by side.
        state_storage: memory by default, `CircuitRedisStorage` to share the state, or one of your own.
        name: for listeners and telemetry.
        throw_new_error_on_trip: whether the call that opens it raises `CircuitBreakerError` or its own error.
        probe_lease: seconds after which a trial call that never ended makes room for another.
        clock: monotonic seconds.
    """

    def call(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `func` by the rules of the current state; what an `async def` gives is guarded until it is awaited."""
        memory: Any = self._memory
        state: Any = self._state
        quick = memory is not None and not self._listeners and memory.state == STATE_CLOSED == state.name
        ticket = None if quick else self._begin(func, args, kwargs)
        try:
            result = func(*args, **kwargs)
        except BaseException as error:
            seen = self.failed(ticket or Ticket(state), error)
            if seen is error:
                raise
            raise seen from error
        kind = result.__class__
        if kind is GeneratorType:
            return self._generated(result, ticket or Ticket(state))
        if kind is CoroutineType:
            return self._awaited(lambda: result, ticket or Ticket(state))
        if ticket is not None:
            self.succeeded(ticket)
            return result
        self._calls.success.n += 1
        if memory is not None and memory.counter and self._state is state:
            memory.reset_counter()
        return result

    async def acall(self, func: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        """Await `func` by the rules of the current state. A shared storage is asked on a thread, not on the loop.

        Raises:
            TypeError: `func` is a generator function, whose stream would be over before its first value; decorate it.
        """
        if inspect.isgeneratorfunction(func):
            raise TypeError("acall does not support generators; decorate the function with the breaker")
        if inspect.isasyncgenfunction(func):
            raise TypeError("acall does not support async generators; decorate the function with the breaker")
        ticket = await self._off_the_loop(self._begin, func, args, kwargs)
        return await self._awaited(functools.partial(func, *args, **kwargs), ticket)

    def call_async(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Start `func`, which returns an awaitable, at once; return a future of its result. Needs a running loop."""
        return asyncio.ensure_future(self.acall(func, *args, **kwargs))

    @contextmanager
    def calling(self) -> Generator[None]:
        """Put the breaker round a block: `with breaker.calling():`."""
        ticket = self._begin(_block, (), {})
        try:
            yield
        except BaseException as error:
            seen = self.failed(ticket, error)
            if seen is error:
                raise
            raise seen from error
        self.succeeded(ticket)

    @overload  # type: ignore[override]  # pybreaker's decorators forget the type of what they decorate
    def __call__(self, function: Callable[P, T], /) -> Callable[P, T]: ...

    @overload
    def __call__(self) -> Callable[[Callable[P, T]], Callable[P, T]]: ...

    def __call__(self, *call_args: Any, **call_kwargs: Any) -> Any:
        """Decorate a function, a coroutine function or a stream.

        Raises:
            ImportError: `__pybreaker_call_async=True` without tornado, which it is for; `async def` needs neither.
        """
        by_tornado = call_kwargs.pop("__pybreaker_call_async", False)
        from . import HAS_TORNADO_SUPPORT  # looked up at each use, as in pybreaker, where tests replace it

        if by_tornado and not HAS_TORNADO_SUPPORT:
            raise ImportError("No module named tornado; an `async def` needs no __pybreaker_call_async")

        def decorate(function: Any) -> Any:
            wrapper = self._by_future(function) if by_tornado else self._wrapper(function)
            return functools.update_wrapper(wrapper, function)

        return decorate(*call_args) if call_args else decorate

    def _wrapper(self, function: Any) -> Any:
        colour = target_of(function, self.name or "pybreaker").colour
        if colour is Colour.ASYNC_GENERATOR:
            return stream_async(function, self._admit_stream)
        if colour is Colour.GENERATOR:
            return self._streaming(function)
        return self._awaiting(function) if colour is Colour.COROUTINE else self._calling(function)

    def _calling(self, function: Any) -> Any:
        """Return `function` guarded; the lines of `call` once more, since a call of it would double the cost."""
        memory, success = self._memory, self._calls.success

        def guarded(*args: Any, **kwargs: Any) -> Any:
            state: Any = self._state
            if memory is None or self._listeners or not memory._state == state._name == STATE_CLOSED:
                return self.call(function, *args, **kwargs)
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                seen = self.failed(Ticket(state), error)
                if seen is error:
                    raise
                raise seen from error
            kind = result.__class__
            if kind is GeneratorType:
                return self._generated(result, Ticket(state))
            if kind is CoroutineType:
                return self._awaited(lambda: result, Ticket(state))
            success.n += 1
            if memory._fail_counter and self._state is state:  # else it began before a transition
                memory.reset_counter()
            return result

        return guarded

    def _awaiting(self, function: Any) -> Any:
        memory, success = self._memory, self._calls.success

        async def guarded(*args: Any, **kwargs: Any) -> Any:
            state: Any = self._state
            if memory is None or self._listeners or not memory._state == state._name == STATE_CLOSED:
                return await self.acall(function, *args, **kwargs)
            try:
                result = await function(*args, **kwargs)
            except BaseException as error:
                seen = self.failed(Ticket(state), error)
                if seen is error:
                    raise
                raise seen from error
            success.n += 1
            if memory._fail_counter and self._state is state:  # else it began before a transition
                memory.reset_counter()
            return result

        return guarded

    def _by_future(self, function: Any) -> Any:
        def started(*args: Any, **kwargs: Any) -> Any:
            return self.call_async(function, *args, **kwargs)

        return started

    def _streaming(self, function: Any) -> Any:
        def streamed(*args: Any, **kwargs: Any) -> Any:
            self.refuse_if_open()  # at the call, as pybreaker does; the permit is taken at the first item
            return self._items(function, args, kwargs)

        return streamed

    def _items(self, function: Any, args: Any, kwargs: Any) -> Generator[Any, Any, Any]:
        ticket = self._begin(function, args, kwargs)
        return (yield from self._generated(function(*args, **kwargs), ticket))

    def _generated(self, items: Generator[Any, Any, Any], ticket: Ticket) -> Generator[Any, Any, Any]:
        try:
            result: Any = yield from items
        except BaseException as error:
            seen = self.failed(ticket, error)
            if seen is error:
                raise
            raise seen from error
        self.succeeded(ticket)
        return result

    async def _awaited(self, start: Callable[[], Any], ticket: Ticket) -> Any:
        try:
            work: Any = start()
            if inspect.isawaitable(work):
                work = await work
        except Exception as error:
            seen = await self._off_the_loop(self.failed, ticket, error)
            if seen is error:
                raise
            raise seen from error
        except BaseException:  # a coroutine that is thrown away can await nothing
            self.give_back(ticket)
            raise
        await self._off_the_loop(self.succeeded, ticket)
        return work

    async def _admit_stream(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
        ticket = await self._off_the_loop(self._begin, _block, args, kwargs)

        def settle(error: BaseException | None) -> None:
            if self._memory is None:  # a shared storage is told on a thread, so that its caller sees the own error
                asyncio.get_running_loop().run_in_executor(None, self._settle, ticket, error)
            elif (seen := self._settle(ticket, error)) is not error and seen is not None:
                raise seen from error

        return settle

    def _settle(self, ticket: Ticket, error: BaseException | None) -> BaseException | None:
        if error is not None:
            return self.failed(ticket, error)
        self.succeeded(ticket)
        return None

    def _begin(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Ticket:
        ticket = self.admit()
        if self._listeners:
            with self._lock:
                self.tell("before_call", func, *args, **kwargs)
        return ticket

    async def _off_the_loop(self, step: Callable[..., Any], *args: Any) -> Any:
        """Run a step on a thread if it may ask a shared storage (AS-1); in memory, at once."""
        if self._memory is not None:
            return step(*args)
        job = asyncio.ensure_future(asyncio.to_thread(step, *args))
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            job.add_done_callback(self._give_back_late)
            raise

    def _give_back_late(self, job: asyncio.Future[Any]) -> None:
        """Give back what was admitted for a caller who had been cancelled meanwhile."""
        if not job.cancelled() and job.exception() is None and isinstance(job.result(), Ticket):
            asyncio.get_running_loop().run_in_executor(None, self.give_back, job.result())


def _block() -> None:
    """Stand for a block of code."""
