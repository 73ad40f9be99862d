"""The wire where servers replace each other: behind Sentinel, and in a Cluster. Written once for both makes.

Theory of operation. A route knows which server has a lock's keys now, and there is a plain wire to each server. A
request goes to the server that the route names. An answer that it does not serve these keys, or does not serve writes,
means that nothing was done: the route is asked again, and the request sent again, until the caller's time is over
(R9). No answer at all means that nobody knows; the request is sent again as well, which is safe, since every script
knows its token, but from then on it counts as sent, whatever comes later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from backstay.errors import BackstayError, Misuse, OutcomeUnknown, Unavailable
from backstay.redis import ClusterRoute, Exchange, Place, Redirected, Route, Settings
from backstay.runtime import Runtime

from .answers import Request, Wire, granted, refusal, replica_wait, too_few, unanswered
from .scripts import Script

__all__ = ["Address", "NodeWire", "RoutedWire", "Subscription"]

PAUSE, PAUSE_CAP = 0.02, 0.2  # s between two tries; a failover takes seconds, the move of a slot milliseconds
LEAST = 0.005  # s; with less time left a request would more likely be cut off than answered
HOPS = 5  # redirections that are followed without a pause


class NodeWire(Wire, Protocol):
    """The wire to one server."""

    def recover(self) -> None:
        """Drop connections that may be silent."""
        ...


class Subscription(Protocol):
    """A waiter's place in the mailboxes of several servers."""

    async def at(self, place: Place, timeout: float) -> str:
        """Subscribe at that server, if that is not done, and return the channel."""
        ...


class Address(str):
    """Stands for the channel at whichever server a request goes to."""

    __slots__ = ("subscription",)
    subscription: Subscription


class RoutedWire:
    """Exchanges with whichever server has the keys.

    Args:
        runtime: the make.
        route: knows the servers.
        exchange: asks a server over a connection of its own.
        settings: that all servers share.
        wire: makes the wire to one server.
        label: the name of all servers together, in errors.
        min_replicas: how many replicas have to confirm each grant.
    """

    def __init__(
        self,
        runtime: Runtime,
        route: Route,
        exchange: Exchange,
        settings: Settings,
        wire: Callable[[Place], NodeWire],
        label: str,
        min_replicas: int,
    ) -> None:
        self.runtime, self.route = runtime, route
        self._exchange, self._settings, self._make = exchange, settings, wire
        self._label, self._replicas = label, min_replicas
        self._mutex = runtime.mutex()
        self._wires: dict[Place, NodeWire] = {}
        self._places: frozenset[Place] = route.places
        self._closed = False
        self.on_change: Callable[[frozenset[Place]], None] | None = None

    async def call(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | int], timeout: float
    ) -> tuple[Any, bool]:
        """See `Wire.call`."""
        until = self.runtime.now() + timeout
        sent, hops, pause = False, 0, PAUSE
        failure: Unavailable | OutcomeUnknown
        while True:
            place: Place | None = None
            try:
                place = await self._place(keys[0], self._left(until))
                there = await addressed(arguments, place, self._left(until))
                answer, again = await self.at(place).call(script, keys, there, self._left(until))
                return answer, again or sent
            except Redirected as error:
                failure = error
                if place is not None and isinstance(self.route, ClusterRoute):
                    other = self.route.redirected(error, place)
                    if error.once:
                        return await self._ask(other, script, keys, arguments, self._left(until)), sent
                    hops += 1
                    if hops < HOPS:
                        continue
            except OutcomeUnknown as error:
                failure, sent = error, True
                self._doubt(place)
            except Unavailable as error:
                failure = error
                self._doubt(place)
            left = until - self.runtime.now()
            if left <= LEAST:
                if sent and not isinstance(failure, OutcomeUnknown):
                    raise unanswered(self._label, failure)
                raise failure
            await self.runtime.sleep(min(self.runtime.uniform(pause / 2, pause), left))
            pause = min(pause * 2, PAUSE_CAP)

    async def call_all(self, requests: Sequence[Request], timeout: float) -> list[Any]:
        """See `Wire.call_all`: one batch for each server, side by side; what was not done is tried again."""
        until = self.runtime.now() + timeout
        answers: list[Any] = [None] * len(requests)
        pending, pause = list(range(len(requests))), PAUSE
        while True:
            batches = await self._sorted(requests, pending, answers, until)
            work = [
                partial(self._batch, place, [requests[i] for i in batch], self._left(until))
                for place, batch in batches.items()
            ]
            outcomes = await self.runtime.gather(*work)
            for (place, batch), outcome in zip(batches.items(), outcomes, strict=True):
                for position, index in enumerate(batch):
                    answers[index] = outcome if isinstance(outcome, Exception) else outcome[position]
                self._learn(place, [answers[index] for index in batch])
            pending = [index for index in pending if isinstance(answers[index], Unavailable)]
            if not pending or until - self.runtime.now() <= LEAST:
                return answers
            await self.runtime.sleep(min(self.runtime.uniform(pause / 2, pause), self._left(until)))
            pause = min(pause * 2, PAUSE_CAP)

    def at(self, place: Place) -> NodeWire:
        """Return the wire to one server."""
        wire = self._wires.get(place)
        if wire is None:
            with self._mutex:
                wire = self._wires.get(place)
                if wire is None:
                    if self._closed:
                        raise Misuse(f"the locks at {self._label} were closed; connect again")
                    wire = self._wires[place] = self._make(place)
        return wire

    async def servers(self, timeout: float) -> Sequence[Wire]:
        """See `Wire.servers`."""
        await self._place("", timeout)  # whoever knows where one key is knows all servers
        return [self.at(place) for place in self.route.places]

    async def close(self) -> None:
        """See `Wire.close`."""
        with self._mutex:
            self._closed = True
            wires, self._wires = list(self._wires.values()), {}
        for wire in wires:
            await wire.close()

    def forked(self) -> None:
        """See `Wire.forked`."""
        self._mutex = self.runtime.mutex()
        self.route.forked()
        for wire in tuple(self._wires.values()):
            wire.forked()

    # -- one try

    def _left(self, until: float) -> float:
        return max(until - self.runtime.now(), 0.001)

    async def _place(self, key: str, timeout: float) -> Place:
        place = await self.route.place(key, timeout)
        if self.route.places is not self._places:
            await self._tidy()
        return place

    async def _tidy(self) -> None:
        """Leave the servers that serve no more; who waits for notes from them looks again at once."""
        with self._mutex:
            places = self._places = self.route.places
            gone = [self._wires.pop(place) for place in tuple(self._wires) if place not in places]
        if self.on_change is not None:
            self.on_change(places)
        for wire in gone:
            await wire.close()

    def _doubt(self, place: Place | None) -> None:
        if place is not None:
            self.route.doubt(place)
            wire = self._wires.get(place)
            if wire is not None:
                wire.recover()

    async def _ask(
        self, place: Place, script: Script, keys: Sequence[str], arguments: Sequence[str | int], timeout: float
    ) -> Any:
        """Run a script at a node that is just being given its slot: ASKING counts for the next command only."""
        there = await addressed(arguments, place, timeout)
        commands: list[tuple[str | int, ...]] = [
            ("ASKING",),
            ("EVAL", script.text, len(keys), *keys, *there),
        ]
        replicas = self._replicas if script.grants else 0
        if replicas:
            commands.append(("WAIT", replicas, replica_wait(timeout)))
        settings = self._settings.at(*place)
        try:
            _, answer, *confirmed = await self._exchange(settings, commands, timeout)
        except Unavailable as error:  # perhaps it was sent
            raise unanswered(settings.label, error) from error
        if isinstance(answer, Exception):
            raise refusal(settings.label, answer) from answer
        if replicas and granted(answer) and confirmed[0] < replicas:
            raise too_few(settings.label, confirmed[0], replicas)
        return answer

    # -- batches

    async def _sorted(
        self, requests: Sequence[Request], pending: Sequence[int], answers: list[Any], until: float
    ) -> dict[Place, list[int]]:
        """Sort requests by server; the answer of those whose server is not known is why."""
        batches: dict[Place, list[int]] = {}
        for index in pending:
            try:
                place = await self._place(requests[index].keys[0], self._left(until))
            except Unavailable as error:
                answers[index] = error
            else:
                batches.setdefault(place, []).append(index)
        return batches

    async def _batch(self, place: Place, requests: Sequence[Request], timeout: float) -> list[Any]:
        answers = await self.at(place).call_all(requests, timeout)
        for index, answer in enumerate(answers):
            if isinstance(answer, Redirected) and answer.once:
                request = requests[index]
                try:
                    answers[index], _ = await self.call(request.script, request.keys, request.arguments, timeout)
                except BackstayError as error:
                    answers[index] = error
        return answers

    def _learn(self, place: Place, answers: Sequence[Any]) -> None:
        for answer in answers:
            if isinstance(answer, Redirected) and isinstance(self.route, ClusterRoute):
                self.route.redirected(answer, place)
            elif isinstance(answer, (Unavailable, OutcomeUnknown)):
                self._doubt(place)


async def addressed(arguments: Sequence[str | int], place: Place, timeout: float) -> Sequence[str | int]:
    """Put the channel at that server in the place of an `Address`."""
    for position, argument in enumerate(arguments):
        if isinstance(argument, Address):
            channel = await argument.subscription.at(place, timeout)
            return [*arguments[:position], channel, *arguments[position + 1 :]]
    return arguments
