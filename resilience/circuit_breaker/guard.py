"""The way of a call through a breaker, in both colours: a look, the call, and one addition.

Blocking and asyncio wrappers are a pair of closures over one `Circuit` (design 2.10). Which lines serve a call is
said by the `path` of the episode; all that is rare is a method of the circuit. No lock is taken on success.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..policy import AsyncCall, Call
from .circuit import Circuit
from .windows import BY_CALLS, BY_TIME, BY_TIME_MEASURED, IN_A_ROW, REFUSING

__all__ = ["guard", "guard_async", "guard_results", "guard_results_async"]


def guard(circuit: Circuit, call: Call) -> Call:
    """Return `call` behind the breaker."""
    clock, raised, end = circuit.clock, circuit.raised, circuit.end
    success, refused = circuit.calls.success, circuit.calls.not_permitted

    def guarded(*args: Any, **kwargs: Any) -> Any:
        episode: Any = circuit.episode  # read once: the result goes into the episode in which the call began
        path = episode.path
        if path == IN_A_ROW:
            try:
                result = call(*args, **kwargs)
            except BaseException as error:
                raised(episode, error)
                raise
            success.n += 1
            if episode.streak:
                episode.streak.clear()
            return result
        if path == BY_TIME:
            try:
                result = call(*args, **kwargs)
            except BaseException as error:
                raised(episode, error)
                raise
            bucket = episode.bucket
            if (now := clock()) < bucket.end:
                bucket.ok += 1
                success.n += 1
            else:
                end(episode, False, now, 0.0)
            return result
        if path == BY_TIME_MEASURED:
            began = clock()
            try:
                result = call(*args, **kwargs)
            except BaseException as error:
                raised(episode, error, began)
                raise
            bucket = episode.bucket
            if (now := clock()) < bucket.end and now - began < episode.slow_from:
                bucket.ok += 1
                success.n += 1
            else:
                end(episode, False, now, now - began)
            return result
        if path == BY_CALLS:
            try:
                result = call(*args, **kwargs)
            except BaseException as error:
                raised(episode, error)
                raise
            success.n += 1
            episode.append(0)
            if episode.watch:
                circuit.look(episode, clock())
            return result
        if path == REFUSING and (now := clock()) < episode.until:
            refused.n += 1
            raise circuit.refusal(episode, now)
        ticket = circuit.admit()
        try:
            result = call(*args, **kwargs)
        except BaseException as error:
            circuit.settle(ticket, error)
            raise
        circuit.settle(ticket, None)
        return result

    return guarded


def guard_async(circuit: Circuit, call: AsyncCall) -> AsyncCall:
    """Return the coroutine function `call` behind the breaker."""
    clock, raised, end = circuit.clock, circuit.raised, circuit.end
    success, refused = circuit.calls.success, circuit.calls.not_permitted

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        episode: Any = circuit.episode  # read once: the result goes into the episode in which the call began
        path = episode.path
        if path == IN_A_ROW:
            try:
                result = await call(*args, **kwargs)
            except BaseException as error:
                raised(episode, error)
                raise
            success.n += 1
            if episode.streak:
                episode.streak.clear()
            return result
        if path == BY_TIME:
            try:
                result = await call(*args, **kwargs)
            except BaseException as error:
                raised(episode, error)
                raise
            bucket = episode.bucket
            if (now := clock()) < bucket.end:
                bucket.ok += 1
                success.n += 1
            else:
                end(episode, False, now, 0.0)
            return result
        if path == BY_TIME_MEASURED:
            began = clock()
            try:
                result = await call(*args, **kwargs)
            except BaseException as error:
                raised(episode, error, began)
                raise
            bucket = episode.bucket
            if (now := clock()) < bucket.end and now - began < episode.slow_from:
                bucket.ok += 1
                success.n += 1
            else:
                end(episode, False, now, now - began)
            return result
        if path == BY_CALLS:
            try:
                result = await call(*args, **kwargs)
            except BaseException as error:
                raised(episode, error)
                raise
            success.n += 1
            episode.append(0)
            if episode.watch:
                circuit.look(episode, clock())
            return result
        if path == REFUSING and (now := clock()) < episode.until:
            refused.n += 1
            raise circuit.refusal(episode, now)
        ticket = circuit.admit()
        try:
            result = await call(*args, **kwargs)
        except BaseException as error:
            circuit.settle(ticket, error)
            raise
        circuit.settle(ticket, None)
        return result

    return guarded


def guard_results(circuit: Circuit, call: Call, is_failure: Callable[[Any], bool]) -> Call:
    """Return `call` behind the breaker, its results judged as well: one more call on the way of a success."""

    def guarded(*args: Any, **kwargs: Any) -> Any:
        ticket = circuit.admit()
        try:
            result = call(*args, **kwargs)
        except BaseException as error:
            circuit.settle(ticket, error)
            raise
        circuit.returned(ticket, result, is_failure)
        return result

    return guarded


def guard_results_async(circuit: Circuit, call: AsyncCall, is_failure: Callable[[Any], bool]) -> AsyncCall:
    """Return the coroutine function `call` behind the breaker, its results judged as well."""

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
