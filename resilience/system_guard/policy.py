"""The system guard: refuses work that the process has no room for, by what it measures of itself."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from backstay.clock import Clock, monotonic
from backstay.errors import Misuse

from ..concurrency_limit.priority import RANK, Priority
from ..forks import renew_in_child
from ..policy import Admission, Admit, AdmitAsync, AsyncCall, Call, Layer, Settle, Target
from .errors import Overloaded
from .load import Capacity, pressure, thresholds
from .sampler import Sampler, shared
from .settings import GuardSettings
from .telemetry import Requests, export_levels

__all__ = ["SystemGuard"]


class SystemGuard(Layer):
    """Refuses calls while the process is overloaded: its share of the processors, or the lag of its event loops.

    Under load not everything is refused: as many calls go on as the process has lately seen through without waiting
    (most calls a second times the shortest of them), so that it keeps working at its best. Sheddable calls are
    looked at earlier, critical ones later. It protects the process from its callers, not a dependency from the
    process. Load is measured twice a second, so a burst of less than that passes.

        guard = SystemGuard("shop", max_cpu=0.85)

        @guard
        async def page(number): ...

    Args:
        name: for errors and telemetry.
        settings: all options as one object.
        sampler: where the load comes from.
        clock: measures calls.
        options: the fields of `GuardSettings`, such as `max_cpu=0.9`, instead of settings.

    Raises:
        Misuse: a setting is unknown or out of range, or both forms are given.
    """

    kind = "system_guard"

    def __init__(
        self,
        name: str,
        *,
        settings: GuardSettings | None = None,
        sampler: Sampler = shared,
        clock: Clock = monotonic,
        **options: Any,
    ) -> None:
        if settings is not None and options:
            raise Misuse(f"system guard {name!r}: give settings=, or {', '.join(options)}, but not both")
        self.name = name
        self._settings = settings if settings is not None else GuardSettings.of(options)
        self._sampler = sampler
        self._clock = clock
        self._requests = Requests(name)
        self.renew()
        export_levels(name, in_flight=self._in_flight, pressure=self._pressure)
        renew_in_child(self)
        if sampler is shared:
            sampler.start()

    def __repr__(self) -> str:
        return f"SystemGuard({self.name!r}, pressure {self._pressure():.2f}, {self._room.in_flight} in flight)"

    @property
    def settings(self) -> GuardSettings:
        """The settings in force."""
        return self._settings

    @property
    def in_flight(self) -> int:
        """The calls that run now."""
        return self._room.in_flight

    def reconfigure(self, settings: GuardSettings) -> None:
        """Apply other bounds to the calls that come from now on."""
        self._settings = settings

    def admission(self) -> Admission:
        """Return a context manager, for `with` and `async with`, round a block that counts as one call."""
        return Admission(self, self.name)

    def wrap(self, call: Call, target: Target) -> Call:
        """Return `call` behind the guard."""
        clock = self._clock

        def guarded(*args: Any, **kwargs: Any) -> Any:
            room, began = self._enter(), clock()
            try:
                result = call(*args, **kwargs)
            except BaseException:
                room.leave()
                raise
            room.leave_well(began, clock())
            return result

        return guarded

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        """Return `call` behind the guard; the lag of its loop counts from now on."""
        clock, watch = self._clock, self._sampler.watch

        async def guarded(*args: Any, **kwargs: Any) -> Any:
            watch(asyncio.get_running_loop())
            room, began = self._enter(), clock()
            try:
                result = await call(*args, **kwargs)
            except BaseException:
                room.leave()
                raise
            room.leave_well(began, clock())
            return result

        return guarded

    def admit(self, target: Target) -> Admit:
        """Return what lets a stream or a block in."""
        return self._admit

    def admit_async(self, target: Target) -> AdmitAsync:
        """Return what lets a stream or a block in on an event loop."""

        async def admitted(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
            self._sampler.watch(asyncio.get_running_loop())
            return self._admit(args, kwargs)

        return admitted

    def renew(self) -> None:
        """Start with nothing in flight, as in a forked child."""
        self._room = Room(self._clock())

    def _admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
        room, began = self._enter(), self._clock()
        return lambda error: room.leave() if error is not None else room.leave_well(began, self._clock())

    def _enter(self) -> Room:
        """Let a call in, or raise the refusal."""
        room, settings, load = self._room, self._settings, self._sampler.load
        rank = RANK.get()
        pressed = pressure(load, settings) >= thresholds(settings)[rank]
        if not room.enter(pressed):
            self._requests.limited.n += 1
            raise Overloaded(
                f"system guard {self.name!r}: the processor is used to {load.cpu:.0%} and event loops are "
                f"{load.lag:.3f} s late, with {room.in_flight} calls in flight and room for {room.capacity.value}; "
                f"this {Priority(rank).name.lower()} call was not begun",
                retry_after=1.0,
            )
        self._requests.acquired.n += 1
        return room

    def _in_flight(self) -> float:
        return self._room.in_flight

    def _pressure(self) -> float:
        return pressure(self._sampler.load, self._settings)


class Room:
    """The calls in flight of one process, and what it bears."""

    __slots__ = ("_lock", "capacity", "in_flight")

    def __init__(self, now: float) -> None:
        self._lock = threading.Lock()  # never held over a call: no other thread, and no collection, gets in between
        self.in_flight = 0
        self.capacity = Capacity(now)

    def enter(self, pressed: bool) -> bool:
        """Count a call in; under pressure only if fewer than the capacity are in flight."""
        room = self.capacity.value
        with self._lock:
            if pressed and self.in_flight >= room:
                return False
            self.in_flight += 1
            return True

    def leave(self) -> None:
        """Count a call out that failed or was cancelled: how long it took says nothing."""
        with self._lock:
            self.in_flight -= 1

    def leave_well(self, began: float, now: float) -> None:
        """Count a call out that ended well."""
        with self._lock:
            self.in_flight -= 1
        self.capacity.ended(now, now - began)
