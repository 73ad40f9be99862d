"""The way of a call through a breaker, for coroutine functions: a look, the call, and one addition.

One short wrapper a path of the episode; each looks whether the path is its own, and else hands the call to the one
whose it is: after a transition, or after other settings. All that is rare is a method of the circuit. No lock is
taken on success. `guard.py` is the same in the other colour (design 2.10).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..policy import AsyncCall
from .circuit import Circuit
from .errors import CircuitOpen
from .windows import BY_CALLS, BY_TIME, BY_TIME_MEASURED, IN_A_ROW, REFUSING, UNHURRIED

__all__ = ["guard_async", "guard_async_results"]


def guard_async(circuit: Circuit, call: AsyncCall) -> AsyncCall:
    """Return the coroutine function `call` behind the breaker."""
    ways: dict[int, AsyncCall] = {}
    ways[UNHURRIED] = _unhurried(circuit, call)
    ways[IN_A_ROW] = _in_a_row(circuit, call, ways)
    ways[BY_TIME] = _by_time(circuit, call, ways)
    ways[BY_TIME_MEASURED] = _by_time_measured(circuit, call, ways)
    ways[BY_CALLS] = _by_calls(circuit, call, ways)
    ways[REFUSING] = _refusing(circuit, ways)
    return ways[circuit.usual_path()]


def _in_a_row(circuit: Circuit, call: AsyncCall, ways: dict[int, AsyncCall]) -> AsyncCall:
    success = circuit.calls.success

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        episode: Any = circuit.episode  # read once: the result goes into the episode in which the call began
        if episode.path != IN_A_ROW:
            return await ways[episode.path](*args, **kwargs)
        try:
            result = await call(*args, **kwargs)
        except BaseException as error:
            circuit.raised(episode, error)
            raise
        success.n += 1
        if episode.streak:
            episode.streak.clear()
        return result

    return guarded


def _by_time(circuit: Circuit, call: AsyncCall, ways: dict[int, AsyncCall]) -> AsyncCall:
    clock, success = circuit.clock, circuit.calls.success

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        episode: Any = circuit.episode
        if episode.path != BY_TIME:
            return await ways[episode.path](*args, **kwargs)
        try:
            result = await call(*args, **kwargs)
        except BaseException as error:
            circuit.raised(episode, error)
            raise
        bucket = episode.bucket
        if (now := clock()) < bucket.end:
            bucket.ok += 1
            success.n += 1
        else:
            circuit.end(episode, False, now, 0.0)
        return result

    return guarded


def _by_time_measured(circuit: Circuit, call: AsyncCall, ways: dict[int, AsyncCall]) -> AsyncCall:
    clock, success = circuit.clock, circuit.calls.success

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        episode: Any = circuit.episode
        if episode.path != BY_TIME_MEASURED:
            return await ways[episode.path](*args, **kwargs)
        began = clock()
        try:
            result = await call(*args, **kwargs)
        except BaseException as error:
            circuit.raised(episode, error, began)
            raise
        bucket = episode.bucket
        if (now := clock()) < bucket.end and now - began < episode.slow_from:
            bucket.ok += 1
            success.n += 1
        else:
            circuit.end(episode, False, now, now - began)
        return result

    return guarded


def _by_calls(circuit: Circuit, call: AsyncCall, ways: dict[int, AsyncCall]) -> AsyncCall:
    clock, success = circuit.clock, circuit.calls.success

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        episode: Any = circuit.episode
        if episode.path != BY_CALLS:
            return await ways[episode.path](*args, **kwargs)
        try:
            result = await call(*args, **kwargs)
        except BaseException as error:
            circuit.raised(episode, error)
            raise
        success.n += 1
        episode.append(0)
        if episode.watch:
            circuit.look(episode, clock())
        return result

    return guarded


def _refusing(circuit: Circuit, ways: dict[int, AsyncCall]) -> AsyncCall:
    clock, refused, name = circuit.clock, circuit.calls.not_permitted, circuit.name

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        episode: Any = circuit.episode
        if episode.path == REFUSING and (wait := episode.until - clock()) > 0:
            refused.n += 1
            raise CircuitOpen(name, episode.label, None if episode.endless else wait)
        return await ways[UNHURRIED](*args, **kwargs)

    return guarded


def _unhurried(circuit: Circuit, call: AsyncCall) -> AsyncCall:
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        ticket = circuit.admit()
        try:
            result = await call(*args, **kwargs)
        except BaseException as error:
            circuit.settle(ticket, error)
            raise
        circuit.settle(ticket, None)
        return result

    return guarded


def guard_async_results(circuit: Circuit, call: AsyncCall, is_failure: Callable[[Any], bool]) -> AsyncCall:
    """Return the coroutine function `call` behind the breaker, its results judged as well: one more call each."""

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        ticket = circuit.admit()
        try:
            result = await call(*args, **kwargs)
        except BaseException as error:
            circuit.settle(ticket, error)
            raise
        circuit.returned(ticket, result, is_failure)
        return result

    return guarded
