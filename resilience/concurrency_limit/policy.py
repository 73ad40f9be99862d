"""The adaptive concurrency limit: as many calls at once as the dependency answers without a queue."""

from __future__ import annotations

from typing import Any

from backstay.clock import Clock, monotonic
from backstay.errors import BulkheadFull, Misuse

from ..forks import renew_in_child
from ..policy import Admission, Admit, AdmitAsync, AsyncCall, Call, Layer, Settle, Target
from .governor import Governor
from .priority import RANK, Priority
from .settings import ConcurrencySettings
from .telemetry import Requests, export_limit, export_usage

__all__ = ["ConcurrencyLimit"]


class ConcurrencyLimit(Layer):
    """Finds out how many calls at once a dependency bears, and refuses the others at once.

    The limit follows the latency of calls that ended well: it grows while they are as quick as they are without a
    queue, and shrinks when they queue. The number in flight never goes above the limit by a call that was let in
    under it; a limit that shrinks refuses newcomers until enough calls have ended. Calls of a low priority are
    refused first. Nobody waits here. It knows one process: each finds its own share of the dependency.

        adaptive = ConcurrencyLimit("search", initial=20)

        @adaptive
        async def search(words): ...

        with prioritised("sheddable"):
            await search("...")

    Args:
        name: for errors and telemetry.
        settings: all options as one object.
        clock: measures latency.
        options: the fields of `ConcurrencySettings`, such as `initial=20`, instead of settings.

    Raises:
        Misuse: a setting is unknown or out of range, or both forms are given.
    """

    kind = "concurrency_limit"

    def __init__(
        self, name: str, *, settings: ConcurrencySettings | None = None, clock: Clock = monotonic, **options: Any
    ) -> None:
        if settings is not None and options:
            raise Misuse(f"concurrency limit {name!r}: give settings=, or {', '.join(options)}, but not both")
        self.name = name
        self._settings = settings if settings is not None else ConcurrencySettings.of(options)
        self._clock = clock
        self._governor = Governor(self._settings, clock())
        self._requests = Requests(name)
        self._gauge = export_limit(name, self._settings.algorithm, self._limit)
        export_usage(name, self._usage)
        renew_in_child(self)

    def __repr__(self) -> str:
        governor = self._governor
        return f"ConcurrencyLimit({self.name!r}, {governor.in_flight} of {governor.limit:.1f} in flight)"

    @property
    def settings(self) -> ConcurrencySettings:
        """The settings in force."""
        return self._settings

    @property
    def limit(self) -> int:
        """The calls that may run at once now."""
        return self._governor.parts[Priority.CRITICAL]

    @property
    def in_flight(self) -> int:
        """The calls that run now."""
        return self._governor.in_flight

    @property
    def baseline(self) -> float | None:
        """What a call takes without a queue, in seconds; None until it is known."""
        return self._governor.baseline

    def reconfigure(self, settings: ConcurrencySettings) -> None:
        """Apply other settings; what was learnt is kept, and the limit moves only if it is out of the new bounds."""
        if settings.algorithm != self._settings.algorithm:
            self._gauge.close()
            self._gauge = export_limit(self.name, settings.algorithm, self._limit)
        self._settings = settings
        self._governor.reconfigure(settings)

    def admission(self) -> Admission:
        """Return a context manager, for `with` and `async with`, round a block that counts as one call."""
        return Admission(self, self.name)

    def wrap(self, call: Call, target: Target) -> Call:
        """Return `call` behind the limit."""
        clock, rank, acquired = self._clock, RANK.get, self._requests.acquired

        def limited(*args: Any, **kwargs: Any) -> Any:
            governor, began = self._governor, clock()
            in_flight = governor.enter(rank())
            if not in_flight:
                raise self._refusal(governor)
            acquired.n += 1
            try:
                result = call(*args, **kwargs)
            except BaseException as error:
                governor.leave(began, clock(), in_flight, error)
                raise
            governor.leave(began, clock(), in_flight, None)
            return result

        return limited

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        """Return `call` behind the limit."""
        clock, rank, acquired = self._clock, RANK.get, self._requests.acquired

        async def limited(*args: Any, **kwargs: Any) -> Any:
            governor, began = self._governor, clock()
            in_flight = governor.enter(rank())
            if not in_flight:
                raise self._refusal(governor)
            acquired.n += 1
            try:
                result = await call(*args, **kwargs)
            except BaseException as error:
                governor.leave(began, clock(), in_flight, error)
                raise
            governor.leave(began, clock(), in_flight, None)
            return result

        return limited

    def admit(self, target: Target) -> Admit:
        """Return what lets a stream or a block in; its latency is that of the whole."""
        return self._admit

    def admit_async(self, target: Target) -> AdmitAsync:
        """Return what lets a stream or a block in on an event loop."""

        async def admitted(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
            return self._admit(args, kwargs)

        return admitted

    def _admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
        governor, began = self._governor, self._clock()
        in_flight = governor.enter(RANK.get())
        if not in_flight:
            raise self._refusal(governor)
        self._requests.acquired.n += 1
        return lambda error: governor.leave(began, self._clock(), in_flight, error)

    def _refusal(self, governor: Governor) -> BulkheadFull:
        self._requests.limited.n += 1
        rank = Priority(RANK.get())
        return BulkheadFull(
            f"concurrency limit {self.name!r}: {governor.in_flight} calls in flight, {governor.parts[rank]} allowed "
            f"for {rank.name.lower()} ones; the function was not called"
        )

    def renew(self) -> None:
        """Start with nothing in flight in a forked child; what was learnt holds there as well."""
        self._governor = self._governor.again(self._clock())

    def _limit(self) -> float:
        return self._governor.limit

    def _usage(self) -> float:
        return self._governor.in_flight
