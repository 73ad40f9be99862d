"""The way of a call through a breaker, for functions: a look, the call, and one addition.

One short wrapper a path of the episode; each looks whether the path is its own, and else hands the call to the one
whose it is: after a transition, or after other settings. All that is rare is a method of the circuit. No lock is
taken on success. `guard_async.py` is the same in the other colour (design 2.10).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..policy import Call
from .circuit import Circuit
from .errors import CircuitOpen
from .windows import BY_CALLS, BY_TIME, BY_TIME_MEASURED, IN_A_ROW, REFUSING, UNHURRIED

__all__ = ["guard", "guard_results"]


def guard(circuit: Circuit, call: Call) -> Call:
    """Return `call` behind the breaker."""
    ways: dict[int, Call] = {}
    ways[UNHURRIED] = _unhurried(circuit, call)
    ways[IN_A_ROW] = _in_a_row(circuit, call, ways)
    ways[BY_TIME] = _by_time(circuit, call, ways)
    ways[BY_TIME_MEASURED] = _by_time_measured(circuit, call, ways)
    ways[BY_CALLS] = _by_calls(circuit, call, ways)
    ways[REFUSING] = _refusing(circuit, ways)
    return ways[circuit.usual_path()]


def _in_a_row(circuit: Circuit, call: Call, ways: dict[int, Call]) -> Call:
    success = circuit.calls.success

    def guarded(*args: Any, **kwargs: Any) -> Any:
        episode: Any = circuit.episode  # read once: the result goes into the episode in which the call began
        if episode.path != IN_A_ROW:
            return ways[episode.path](*args, **kwargs)
        try:
            result = call(*args, **kwargs)
        except BaseException as error:
            circuit.raised(episode, error)
            raise
        success.n += 1
        if episode.streak:
            episode.streak.clear()
        return result

    return guarded


def _by_time(circuit: Circuit, call: Call, ways: dict[int, Call]) -> Call:
    clock, success = circuit.clock, circuit.calls.success

    def guarded(*args: Any, **kwargs: Any) -> Any:
        episode: Any = circuit.episode
        if episode.path != BY_TIME:
            return ways[episode.path](*args, **kwargs)
        try:
            result = call(*args, **kwargs)
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


def _by_time_measured(circuit: Circuit, call: Call, ways: dict[int, Call]) -> Call:
    clock, success = circuit.clock, circuit.calls.success

    def guarded(*args: Any, **kwargs: Any) -> Any:
        episode: Any = circuit.episode
        if episode.path != BY_TIME_MEASURED:
            return ways[episode.path](*args, **kwargs)
        began = clock()
        try:
            result = call(*args, **kwargs)
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


def _by_calls(circuit: Circuit, call: Call, ways: dict[int, Call]) -> Call:
    clock, success = circuit.clock, circuit.calls.success

    def guarded(*args: Any, **kwargs: Any) -> Any:
        episode: Any = circuit.episode
        if episode.path != BY_CALLS:
            return ways[episode.path](*args, **kwargs)
        try:
            result = call(*args, **kwargs)
        except BaseException as error:
            circuit.raised(episode, error)
            raise
        success.n += 1
        episode.append(0)
        if episode.watch:
            circuit.look(episode, clock())
        return result

    return guarded


def _refusing(circuit: Circuit, ways: dict[int, Call]) -> Call:
    clock, refused, name = circuit.clock, circuit.calls.not_permitted, circuit.name

    def guarded(*args: Any, **kwargs: Any) -> Any:
        episode: Any = circuit.episode
        if episode.path == REFUSING and (wait := episode.until - clock()) > 0:
            refused.n += 1
            raise CircuitOpen(name, episode.label, None if episode.endless else wait)
        return ways[UNHURRIED](*args, **kwargs)

    return guarded


def _unhurried(circuit: Circuit, call: Call) -> Call:
    def guarded(*args: Any, **kwargs: Any) -> Any:
        ticket = circuit.admit()
        try:
            result = call(*args, **kwargs)
        except BaseException as error:
            circuit.settle(ticket, error)
            raise
        circuit.settle(ticket, None)
        return result

    return guarded


def guard_results(circuit: Circuit, call: Call, is_failure: Callable[[Any], bool]) -> Call:
    """Return `call` behind the breaker, its results judged as well: one more call each."""

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
