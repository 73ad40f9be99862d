"""Who is the master now: asked of all Sentinels at once.

The answer with the highest configuration epoch counts: a Sentinel that was cut off or stopped still names an older
master. What no client can see is a master that was demoted while *it* was cut off: until a Sentinel tells it so,
it says of itself that it is the master. Who is connected to it alone writes there and is acknowledged; those writes
are lost. `min_replicas` closes that window for grants, since its replicas have left it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from backstay.errors import Misuse, Unavailable
from backstay.runtime import Runtime

from .exchange import Exchange
from .route import AGAIN, ASK_WITHIN, Inquiry, Place
from .target import Target

__all__ = ["SentinelRoute", "elected"]

_NO_SUCH_MASTER = "No such master"


class SentinelRoute:
    """The way to the master that Sentinels watch.

    Args:
        target: names the Sentinels and the master.
        exchange: asks one server.
        runtime: the make that the exchange is of.
    """

    def __init__(self, target: Target, exchange: Exchange, runtime: Runtime) -> None:
        self._target, self._exchange, self._runtime = target, exchange, runtime
        self._master: Place | None = None
        self._why = "it was not asked yet"
        self.places: frozenset[Place] = frozenset()
        self._inquiry = Inquiry(runtime)

    async def place(self, key: str, timeout: float) -> Place:
        """See `Route.place`."""
        master = self._master
        if master is not None:
            return master
        until = self._runtime.now() + timeout
        while True:
            left = until - self._runtime.now()
            await self._inquiry.join(partial(self._ask, max(min(left, ASK_WITHIN), 0.001)), left)
            master = self._master
            if master is not None:
                return master
            left = until - self._runtime.now()
            if left <= AGAIN:
                raise Unavailable(f"{self._target.label} has no master now: {self._why}")
            await self._runtime.sleep(self._runtime.uniform(AGAIN / 2, AGAIN))

    def doubt(self, place: Place) -> None:
        """See `Route.doubt`."""
        if self._master == place:
            self._master = None

    def forked(self) -> None:
        """See `Route.forked`."""
        self._inquiry.forked()

    async def _ask(self, timeout: float) -> None:
        target = self._target
        command = ("SENTINEL", "MASTER", target.service)
        answers = await self._runtime.gather(
            *(partial(self._exchange, target.sentinel.at(*place), [command], timeout) for place in target.places)
        )
        master, self._why = elected(answers, target.service)
        if master is None:
            return
        places = frozenset({master})
        if self.places != places:
            self.places = places
        self._master = master


def elected(answers: Sequence[list[Any] | Exception], service: str) -> tuple[Place | None, str]:
    """Return the master that the Sentinels' answers to SENTINEL MASTER name, or None and why there is none.

    Raises:
        Misuse: no Sentinel knows that name, or they refuse the question.
    """
    known: list[tuple[int, Place, str]] = []
    refusals: list[str] = []
    failures: list[str] = []
    for answer in answers:
        if isinstance(answer, Exception):
            failures.append(str(answer))
            continue
        (reply,) = answer
        if isinstance(reply, Exception):
            refusals.append(str(reply))
            continue
        facts = dict(zip(reply[::2], reply[1::2], strict=False))
        address = facts[b"ip"].decode(), int(facts[b"port"])
        known.append((int(facts[b"config-epoch"]), address, facts[b"flags"].decode()))
    if known:
        _, address, flags = max(known, key=lambda each: each[0])
        if "o_down" in flags.split(","):
            return None, f"{address[0]}:{address[1]} is down, and no other was made master yet"
        return address, ""
    for failure in answers:
        if isinstance(failure, Misuse):
            raise failure
    if refusals and _NO_SUCH_MASTER in refusals[0]:
        raise Misuse(f"no Sentinel knows a master called {service!r}; which name does their configuration monitor?")
    if refusals:
        raise Misuse(f"the Sentinels refuse to name the master {service!r}: {refusals[0]}")
    return None, "; ".join(failures)
