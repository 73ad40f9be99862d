"""Balances on Redis, in one slot: one server, those of Sentinel, or a Cluster."""

from __future__ import annotations

import asyncio
import hashlib
import weakref
from collections.abc import AsyncIterator, Sequence
from importlib import resources
from typing import Any, cast

from backstay.asynchronous import AsyncioRuntime
from backstay.blocking import BlockingRuntime
from backstay.errors import OutcomeUnknown, Unavailable
from backstay.redis import (
    ClusterRoute,
    Redirected,
    Route,
    SentinelRoute,
    Shape,
    asyncio_exchange,
    blocking_exchange,
    refused,
    target,
)

from ...forks import renew_in_child
from ..cache import Step
from ..settings import Settings
from ..values import HIGHEST, Entry, Phase, Reading, Receipt, Reply, Row, Status
from .lines import BlockingLines, Command, Lines, LoopLines

__all__ = ["AsyncRedisCache", "RedisCache"]

_GROUP = "sync"


class _Script:
    """A script by its text, and by the name that Redis gives it."""

    def __init__(self, file: str) -> None:
        folder = resources.files(__name__.rpartition(".")[0])
        self.text = folder.joinpath("scripts").joinpath(file).read_text()
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


_ACK, _CHANGE, _FAIL, _LOAD, _LOOK, _REMEMBER, _RETRY, _STATUS, _TURN = (
    _Script(f"{name}.lua")
    for name in ("ack", "change", "fail", "load", "look", "remember", "retry", "status", "turn")
)  # fmt: skip


class _Cache:
    """What both makes have: names, arguments and what replies mean."""

    def __init__(self, name: str, store: object, settings: Settings) -> None:
        self.target = target(store)
        self.settings = settings
        self._remember = round(settings.remember * 1000)
        tag = name.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
        self._prefix = f"backstay:write-behind:1:{{{tag}}}:"

    def _k(self, *names: str) -> list[str]:
        return [self._prefix + name for name in names]

    async def change(self, op: str, key: str, delta: int) -> Reply:
        """See `Cache.change`."""
        settings = self.settings
        keys = self._k("state", "balances", "seqs", "pending", "frozen", "stream", f"op:{op}")
        arguments = (op, key, delta, self._remember, settings.replicas, settings.most_pending, HIGHEST)
        behind: list[Command] = []
        if settings.replicas:
            behind.append(("WAIT", settings.replicas, max(1, round(settings.replicas_within * 1000))))
        reply, *confirmed = await self._run(_CHANGE, keys, arguments, *behind)
        word, detail, seq, known = reply
        answer = Reply(word=_text(word), detail=_text(detail), seq=_text(seq), repeated=bool(known))
        if confirmed and answer.word == "done" and confirmed[0] < settings.replicas:
            raise OutcomeUnknown(
                f"operation {op!r} is on {self.target}, and {confirmed[0]} of {settings.replicas} replicas confirmed "
                "it in time: it is lost if the server fails now; repeat it with the same id to ask again"
            )
        return answer

    async def outcome(self, op: str) -> Reply | None:
        """See `Cache.outcome`."""
        found = await self._ask(("HMGET", *self._k(f"op:{op}"), "word", "left", "key", "delta"))
        if found[0] is None:
            return None
        return Reply(word=_text(found[0]), detail=f"{_text(found[1])} {_text(found[3])}", seq=_text(found[2]))

    async def look(self, key: str) -> tuple[str, Reading | None]:
        """See `Cache.look`."""
        (reply,) = await self._run(_LOOK, self._k("state", "balances", "pending", "frozen"), (key,))
        phase, balance, pending, frozen = map(_text, reply)
        if not balance:
            return phase, None
        return phase, Reading(balance=int(balance), source="cache", pending=int(pending), frozen=frozen)

    async def status(self) -> Status:
        """See `Cache.status`."""
        (reply,) = await self._run(_STATUS, self._k("state", "frozen", "stream", "parked"), ())
        phase, fence, pending, parked, frozen, age = reply
        return Status(
            phase=Phase(_text(phase)), fence=int(fence), pending=pending, parked=parked, frozen=frozen, lag=age / 1000
        )

    async def step(self, step: Step, fence: int) -> tuple[str, str]:
        """See `Cache.step`."""
        keys = self._k("state", "balances", "seqs", "pending", "frozen", "stream", "parked")
        (reply,) = await self._run(_TURN, keys, (step, fence, _GROUP, self.settings.eviction))
        return _text(reply[0]), _text(reply[1])

    async def load(self, fence: int, rows: Sequence[Row]) -> bool:
        """See `Cache.load`."""
        flat = [value for row in rows for value in row]
        (reply,) = await self._run(_LOAD, self._k("state", "balances", "seqs"), (fence, *flat))
        return bool(reply)

    async def remember(self, fence: int, receipts: Sequence[Receipt]) -> bool:
        """See `Cache.remember`."""
        keys = self._k("state", *(f"op:{receipt.op}" for receipt in receipts))
        flat = [value for receipt in receipts for value in (receipt.key, receipt.delta, receipt.left)]
        (reply,) = await self._run(_REMEMBER, keys, (fence, self._remember, *flat))
        return bool(reply)

    async def rows(self) -> AsyncIterator[list[Row]]:
        """See `Cache.rows`."""
        balances, seqs = self._k("balances", "seqs")
        cursor: Any = 0
        while True:
            cursor, flat = await self._ask(("HSCAN", balances, cursor, "COUNT", 500))
            keys, values = flat[::2], flat[1::2]
            if keys:
                numbers = await self._ask(("HMGET", seqs, *keys))
                yield [
                    (_text(key), int(value), int(number or 0))
                    for key, value, number in zip(keys, values, numbers, strict=True)
                ]
            if int(cursor) == 0:
                return

    async def read(self, consumer: str, count: int) -> list[Entry]:
        """See `Cache.read`."""
        return await self.held(consumer, count, ">")

    async def held(self, consumer: str, count: int, after: str) -> list[Entry]:
        """See `Cache.held`."""
        (stream,) = self._k("stream")
        command = ("XREADGROUP", "GROUP", _GROUP, consumer, "COUNT", count, "STREAMS", stream, after)
        reply = await self._grouped(command)
        return [] if not reply else _entries(reply[0][1])

    async def claim(self, consumer: str, idle: float, count: int) -> list[Entry]:
        """See `Cache.claim`."""
        (stream,) = self._k("stream")
        command = ("XAUTOCLAIM", stream, _GROUP, consumer, round(idle * 1000), "0-0", "COUNT", count)
        reply = await self._grouped(command)
        return [] if not reply else _entries(reply[1])

    async def ack(self, entries: Sequence[Entry]) -> int:
        """See `Cache.ack`."""
        keys = self._k("stream", "pending", *(f"op:{entry.op}" for entry in entries))
        flat = [value for entry in entries for value in (entry.id, entry.key)]
        (reply,) = await self._run(_ACK, keys, (_GROUP, self._remember, *flat))
        return int(reply)

    async def fail(self, entry: Entry, tries: int, reason: str) -> bool:
        """See `Cache.fail`."""
        keys = self._k("stream", "parked", "frozen", "tries")
        (reply,) = await self._run(_FAIL, keys, (_GROUP, entry.id, entry.op, entry.key, tries, reason))
        return bool(reply[1])

    async def parked(self) -> list[tuple[Entry, str]]:
        """See `Cache.parked`."""
        parked, frozen = self._k("parked", "frozen")
        entries = _entries(await self._ask(("XRANGE", parked, "-", "+")))
        if not entries:
            return []
        reasons = await self._ask(("HMGET", frozen, *(entry.key for entry in entries)))
        return [(entry, _text(reason or b"")) for entry, reason in zip(entries, reasons, strict=True)]

    async def retry(self, key: str) -> int:
        """See `Cache.retry`."""
        (reply,) = await self._run(_RETRY, self._k("stream", "parked", "frozen"), (key,))
        return int(reply)

    async def _grouped(self, command: Command) -> Any:
        """Ask for entries; where somebody dropped the group, make it anew from the first entry that is left."""
        while True:
            (reply,) = await self._send([command])
            if not isinstance(reply, Exception):
                return reply
            if "NOGROUP" not in str(reply) and "No such key" not in str(reply):
                raise refused(self.target.label, reply, "a read of the stream") from reply
            if (await self.status()).phase is Phase.NONE:
                return None
            (made,) = await self._send([("XGROUP", "CREATE", *self._k("stream"), _GROUP, "0", "MKSTREAM")])
            if isinstance(made, Exception) and "BUSYGROUP" not in str(made):
                raise refused(self.target.label, made, "the consumer group") from made

    async def _ask(self, command: Command) -> Any:
        (reply,) = await self._send([command])
        if isinstance(reply, Exception):
            raise refused(self.target.label, reply, "a step of a write-behind") from reply
        return reply

    async def _run(self, script: _Script, keys: Sequence[str], arguments: Sequence[Any], *behind: Command) -> list[Any]:
        by_name: Command = ("EVALSHA", script.sha)
        while True:
            replies = await self._send([(*by_name, len(keys), *keys, *arguments), *behind])
            first = replies[0]
            if isinstance(first, Exception):
                if by_name[0] == "EVALSHA" and str(first).startswith(("NOSCRIPT", "No matching script")):
                    by_name = ("EVAL", script.text)  # the server was restarted; a second round trip, once
                    continue
                raise refused(self.target.label, first, "a step of a write-behind") from first
            for other in replies[1:]:
                if isinstance(other, Exception):
                    raise OutcomeUnknown(f"{self.target}: the replicas were not heard: {other}") from other
            return replies

    async def _send(self, commands: list[Command]) -> list[Any]:
        route, lines = self._way()
        patience = self.settings.patience
        place = None if route is None else await route.place(self._prefix, patience)
        settings = self.target.settings if place is None else self.target.settings.at(*place)
        try:
            replies = await lines.ask(settings, commands, patience)
        except Exception:
            if route is not None and place is not None:
                route.doubt(place)
            raise
        if route is not None and place is not None and isinstance(replies[0], Exception):
            failure = refused(settings.label, replies[0], "a step of a write-behind")
            if isinstance(failure, Redirected | Unavailable):
                route.doubt(place)
                raise failure from replies[0]
        return replies

    def _way(self) -> tuple[Route | None, Lines]:
        raise NotImplementedError


class RedisCache(_Cache):
    """The blocking make."""

    def __init__(self, name: str, store: object, settings: Settings) -> None:
        super().__init__(name, store, settings)
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Leave the parent's connections to the parent, in a forked child."""
        self._lines = BlockingLines()
        self._route: Route | None = None
        if self.target.shape is not Shape.SINGLE:
            kind = SentinelRoute if self.target.shape is Shape.SENTINEL else ClusterRoute
            self._route = kind(self.target, blocking_exchange, BlockingRuntime())

    async def close(self) -> None:
        """See `Cache.close`."""
        await self._lines.close()

    def _way(self) -> tuple[Route | None, Lines]:
        return self._route, self._lines


class AsyncRedisCache(_Cache):
    """The asyncio make, for any number of event loops."""

    def __init__(self, name: str, store: object, settings: Settings) -> None:
        super().__init__(name, store, settings)
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Leave the parent's loops alone, in a forked child."""
        self._ways: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[Route | None, LoopLines]]
        self._ways = weakref.WeakKeyDictionary()

    async def close(self) -> None:
        """Close the running loop's connections at rest; the cache may be used again."""
        found = self._ways.pop(asyncio.get_running_loop(), None)
        if found is not None:
            await found[1].close()
            await asyncio.sleep(0)  # the transports let go of their sockets in the next turn

    def _way(self) -> tuple[Route | None, Lines]:
        loop = asyncio.get_running_loop()
        found = self._ways.get(loop)
        if found is None:
            route: Route | None = None
            if self.target.shape is not Shape.SINGLE:
                kind = SentinelRoute if self.target.shape is Shape.SENTINEL else ClusterRoute
                route = kind(self.target, asyncio_exchange, AsyncioRuntime())
            found = self._ways[loop] = route, LoopLines()
        return found


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _entries(found: Any) -> list[Entry]:
    entries: list[Entry] = []
    for place, flat in cast("list[tuple[bytes, list[bytes] | None]]", found):
        if flat is None:  # deleted while it was pending: acknowledged by another
            continue
        fields = {_text(flat[at]): _text(flat[at + 1]) for at in range(0, len(flat), 2)}
        entries.append(
            Entry(
                id=_text(place),
                op=fields["op"],
                key=fields["key"],
                delta=int(fields["delta"]),
                seq=int(fields["seq"]),
                fence=int(fields["fence"]),
                left=int(fields["left"]),
            )
        )
    return entries
