"""The port to all masters at once, and its make for runtimes that really suspend: asyncio and the simulator."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from backstay.errors import BackstayError, Misuse, OutcomeUnknown
from backstay.locks.backends.redis.answers import Request, Wire
from backstay.runtime import Runtime

from .votes import Enough, Outcome

__all__ = ["Masters", "SuspendingMasters"]


class Masters(Protocol):
    """Several independent masters, asked side by side."""

    @property
    def wires(self) -> Sequence[Wire]:
        """One to each master, for what is not asked of all at once."""
        ...

    async def ask(
        self, request: Request, enough: Enough, timeout: float, of: Sequence[int] | None = None
    ) -> list[Outcome]:
        """Ask all masters, or those whose numbers `of` has, and wait until the answers are enough, or for `timeout`.

        Returns:
            One outcome for each master; `OutcomeUnknown` where the time was up, None where the answer was not
            waited for, or nothing was asked.

        Raises:
            Misuse: a master refused for good, credentials for one.
        """
        ...

    async def close(self) -> None:
        """Drop the connections."""
        ...

    def forked(self) -> None:
        """Forget connections that a parent process uses."""
        ...


class SuspendingMasters:
    """Each master is asked by a job of its own, which goes on where its answer is not waited for.

    Args:
        runtime: asyncio's or the simulator's.
        wires: one to each master.
    """

    def __init__(self, runtime: Runtime, wires: Sequence[Wire]) -> None:
        self._runtime, self.wires = runtime, wires

    async def ask(
        self, request: Request, enough: Enough, timeout: float, of: Sequence[int] | None = None
    ) -> list[Outcome]:
        """See `Masters.ask`."""
        numbers = range(len(self.wires)) if of is None else of
        outcomes: list[Outcome] = [None] * len(self.wires)
        waited_for, answered = len(numbers), self._runtime.signal()

        async def one(number: int) -> None:
            nonlocal waited_for
            try:
                wire = self.wires[number]
                outcomes[number] = await wire.call(request.script, request.keys, request.arguments, timeout)
            except BackstayError as error:
                outcomes[number] = error
            finally:
                waited_for -= 1
                if not waited_for or enough(outcomes):
                    answered.set()

        for number in numbers:
            self._runtime.spawn(partial(one, number), name="backstay-locks-master")
        in_time = await answered.wait(timeout)
        told = list(outcomes)  # what comes later must not change what was decided on
        for number in numbers:
            outcome = told[number]
            if isinstance(outcome, Misuse):
                raise outcome
            if outcome is None and not in_time:
                told[number] = OutcomeUnknown(f"no answer in {timeout:g} s")
        return told

    async def close(self) -> None:
        """See `Masters.close`."""
        for wire in self.wires:
            await wire.close()

    def forked(self) -> None:
        """See `Masters.forked`."""
        for wire in self.wires:
            wire.forked()
